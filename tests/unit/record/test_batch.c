#include "lib/check_main.h"

#include "base/crc32c.h"
#include "base/rng.h"
#include "record/batch.h"

#include <stdlib.h>
#include <string.h>

/* Three records made by these lines of Python, which know nothing of our code (crc32c: the bitwise
 * loop over polynomial 0x82f63b78, v a zigzag varint):
 *   rec = lambda ts, off, k, val, hs: (body := b'\0' + v(ts) + v(off) + nullable(k) + nullable(val)
 *                                      + v(len(hs)) + headers(hs), v(len(body)) + body)[1]
 *   r = rec(0, 0, b'k1', b'value one', []) + rec(5, 1, None, b'', []) + \
 *       rec(-3, 2, b'', None, [(b'h', b'x'), (b'', None)])
 *   t = struct.pack('>hiqqqhii', 0, 2, 1700000000000, 1700000000005, 4242, 7, 100, 3) + r
 *   struct.pack('>qiib', 0, 9 + len(t), -1, 2) + struct.pack('>I', crc32c(t)) + t */
static const uint8_t golden[] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x57, 0xff, 0xff, 0xff,
    0xff, 0x02, 0xa0, 0x0d, 0x56, 0xfd, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x01,
    0x8b, 0xcf, 0xe5, 0x68, 0x00, 0x00, 0x00, 0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x05, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x10, 0x92, 0x00, 0x07, 0x00, 0x00, 0x00, 0x64, 0x00, 0x00, 0x00,
    0x03, 0x22, 0x00, 0x00, 0x00, 0x04, 0x6b, 0x31, 0x12, 0x76, 0x61, 0x6c, 0x75, 0x65, 0x20,
    0x6f, 0x6e, 0x65, 0x00, 0x0c, 0x00, 0x0a, 0x02, 0x01, 0x00, 0x00, 0x18, 0x00, 0x05, 0x04,
    0x00, 0x01, 0x04, 0x02, 0x68, 0x02, 0x78, 0x00, 0x01,
};
static const int64_t golden_time = INT64_C(1700000000000);

static struct bytes text(const char *s)
{
    return (struct bytes){(const uint8_t *)s, strlen(s)};
}

static void assert_bytes(struct bytes is, const char *should)
{
    if (should == NULL) {
        ck_assert_ptr_null(is.data);
        return;
    }
    ck_assert_ptr_nonnull(is.data);
    ck_assert_uint_eq(is.len, strlen(should));
    ck_assert_int_eq(memcmp(is.data, should, is.len), 0);
}

/* Makes the CRC right again, so that what a test broke is all that is wrong. */
static void reseal(uint8_t *batch, size_t len)
{
    put_u32(batch + 17, crc32c(0, batch + 21, len - 21));
}

static err_t check_with(size_t at, const void *bytes, size_t len)
{
    uint8_t copy[sizeof(golden)];
    struct batch_info info;
    memcpy(copy, golden, sizeof(copy));
    memcpy(copy + at, bytes, len);
    reseal(copy, sizeof(copy));
    return batch_check(copy, sizeof(copy), &info);
}

START_TEST(a_known_good_batch_is_read_field_by_field)
{
    struct batch_info info;
    ck_assert_int_eq(batch_check(golden, sizeof(golden), &info), ERR_OK);
    ck_assert_int_eq(info.base_offset, 0);
    ck_assert_int_eq(info.last_offset, 2);
    ck_assert_uint_eq(info.bytes, sizeof(golden));
    ck_assert_int_eq(info.leader_epoch, -1);
    ck_assert_uint_eq(info.crc, 0xa00d56fd);
    ck_assert_uint_eq(info.attributes, 0);
    ck_assert_int_eq(info.base_timestamp, golden_time);
    ck_assert_int_eq(info.max_timestamp, golden_time + 5);
    ck_assert_int_eq(info.producer_id, 4242);
    ck_assert_int_eq(info.producer_epoch, 7);
    ck_assert_int_eq(info.base_sequence, 100);
    ck_assert_int_eq(info.record_count, 3);
}
END_TEST

START_TEST(a_cursor_gives_keys_values_nulls_and_headers)
{
    struct record_cursor cursor;
    struct record r;
    ck_assert_int_eq(record_cursor_init(&cursor, golden, sizeof(golden)), ERR_OK);

    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
    ck_assert_int_eq(r.offset, 0);
    ck_assert_int_eq(r.timestamp, golden_time);
    assert_bytes(r.key, "k1");
    assert_bytes(r.value, "value one");
    ck_assert_int_eq(r.header_count, 0);

    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
    ck_assert_int_eq(r.offset, 1);
    ck_assert_int_eq(r.timestamp, golden_time + 5);
    assert_bytes(r.key, NULL);
    assert_bytes(r.value, "");

    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
    ck_assert_int_eq(r.offset, 2);
    ck_assert_int_eq(r.timestamp, golden_time - 3);
    assert_bytes(r.key, "");
    assert_bytes(r.value, NULL);
    ck_assert_int_eq(r.header_count, 2);
    struct reader headers;
    struct record_header header;
    reader_init(&headers, r.headers.data, r.headers.len);
    ck_assert_int_eq(record_header_next(&headers, &header), ERR_OK);
    assert_bytes(header.name, "h");
    assert_bytes(header.value, "x");
    ck_assert_int_eq(record_header_next(&headers, &header), ERR_OK);
    assert_bytes(header.name, "");
    assert_bytes(header.value, NULL);
    ck_assert_int_eq(record_header_next(&headers, &header), ERR_CORRUPT_MESSAGE);

    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_NOT_FOUND);
}
END_TEST

START_TEST(the_builder_makes_the_known_bytes)
{
    uint8_t made[256];
    struct batch_builder b;
    struct bytes null = {0};
    struct record_header headers[] = {{text("h"), text("x")}, {text(""), null}};
    batch_begin(&b, made, sizeof(made));
    ck_assert_int_eq(batch_add(&b, golden_time, text("k1"), text("value one"), NULL, 0), ERR_OK);
    ck_assert_int_eq(batch_add(&b, golden_time + 5, null, text(""), NULL, 0), ERR_OK);
    ck_assert_int_eq(batch_add(&b, golden_time - 3, text(""), null, headers, 2), ERR_OK);
    ck_assert_uint_eq(batch_finish(&b, 0, 4242, 7, 100), sizeof(golden));
    ck_assert_int_eq(memcmp(made, golden, sizeof(golden)), 0);
}
END_TEST

START_TEST(a_full_builder_is_unchanged)
{
    uint8_t made[BATCH_HEADER_BYTES + 20];
    struct batch_builder b;
    struct batch_info info;
    batch_begin(&b, made, sizeof(made));
    ck_assert_int_eq(batch_add(&b, 1, text("key"), text("0123456789"), NULL, 0), ERR_OK);
    size_t used = b.used;
    ck_assert_uint_eq(used, sizeof(made)); /* to the last byte */
    ck_assert_int_eq(batch_add(&b, 9, text(""), text(""), NULL, 0), ERR_FULL);
    struct record_header header = {text("a name that is long"), text("")};
    ck_assert_int_eq(batch_add(&b, 9, text(""), text(""), &header, 1), ERR_FULL);
    ck_assert_uint_eq(b.used, used);
    ck_assert_int_eq(b.max_timestamp, 1);
    ck_assert_int_eq(batch_check(made, batch_finish(&b, 0, -1, -1, -1), &info), ERR_OK);
}
END_TEST

START_TEST(the_upper_bound_of_a_record_holds)
{
    static uint8_t made[1 << 20];
    static uint8_t filler[300000];
    size_t sizes[] = {0, 1, 63, 64, 8191, 8192, 300000};
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        for (size_t v = 0; v < ARRAY_LEN(sizes); v++) {
            struct batch_builder b;
            batch_begin(&b, made, sizeof(made));
            ck_assert_int_eq(batch_add(&b, 0, text(""), text(""), NULL, 0), ERR_OK);
            size_t before = b.used;
            ck_assert_int_eq(batch_add(&b, INT64_MIN, (struct bytes){filler, sizes[k]},
                                       (struct bytes){filler, sizes[v]}, NULL, 0),
                             ERR_OK);
            ck_assert_uint_le(b.used - before, batch_record_bytes_max(sizes[k], sizes[v]));
        }
    }
}
END_TEST

START_TEST(patching_changes_offset_and_epoch_and_keeps_the_crc)
{
    uint8_t copy[sizeof(golden)];
    struct batch_info info;
    memcpy(copy, golden, sizeof(copy));
    batch_patch(copy, 1000, 5);
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_OK);
    ck_assert_int_eq(info.base_offset, 1000);
    ck_assert_int_eq(info.last_offset, 1002);
    ck_assert_int_eq(info.leader_epoch, 5);
    struct record_cursor cursor;
    struct record r;
    ck_assert_int_eq(record_cursor_init(&cursor, copy, sizeof(copy)), ERR_OK);
    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
    ck_assert_int_eq(r.offset, 1000);
}
END_TEST

START_TEST(every_flipped_bit_under_the_crc_is_found)
{
    uint8_t copy[sizeof(golden)];
    struct batch_info info;
    for (size_t bit = 17 * 8; bit < sizeof(golden) * 8; bit++) {
        memcpy(copy, golden, sizeof(copy));
        copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_CORRUPT_MESSAGE);
        ck_assert_int_ne(batch_check_crc(copy, sizeof(copy), &info), ERR_OK);
    }
}
END_TEST

START_TEST(every_truncation_is_short_and_tells_the_size)
{
    for (size_t len = 0; len < sizeof(golden); len++) {
        struct batch_info info;
        uint8_t *copy = malloc(len + 1); /* of its own, so that a sanitizer sees what is read */
        memcpy(copy, golden, len);
        ck_assert_int_eq(batch_check(copy, len, &info), ERR_SHORT);
        ck_assert_uint_eq(info.bytes, len < BATCH_PREFIX_BYTES ? 0 : sizeof(golden));
        ck_assert_int_eq(info.record_count, len < BATCH_HEADER_BYTES ? 0 : 3);
        free(copy);
    }
}
END_TEST

START_TEST(lying_counts_are_refused)
{
    static const struct {
        size_t at;
        uint32_t value;
    } lies[] = {
        {57, 2}, {57, 4}, {57, 0},          {57, UINT32_MAX}, {57, INT32_MAX},
        {23, 1}, {23, 3}, {23, UINT32_MAX}, {23, INT32_MAX},
    };
    for (size_t i = 0; i < ARRAY_LEN(lies); i++) {
        uint8_t bytes[4];
        put_u32(bytes, lies[i].value);
        ck_assert_int_eq(check_with(lies[i].at, bytes, 4), ERR_CORRUPT_MESSAGE);
    }
    /* Count and last delta agree, and the records do not. */
    uint8_t copy[sizeof(golden)];
    struct batch_info info;
    for (uint32_t count = 1; count < 8; count++) {
        memcpy(copy, golden, sizeof(copy));
        put_u32(copy + 23, count - 1);
        put_u32(copy + 57, count);
        reseal(copy, sizeof(copy));
        ck_assert_int_eq(batch_check(copy, sizeof(copy), &info),
                         count == 3 ? ERR_OK : ERR_CORRUPT_MESSAGE);
    }
}
END_TEST

START_TEST(lying_lengths_are_refused)
{
    static const uint32_t lengths[] = {0, 1, 48, 0x7fffffff, 0x80000000, 0xffffffff};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        uint8_t bytes[4];
        put_u32(bytes, lengths[i]);
        ck_assert_int_eq(check_with(8, bytes, 4), ERR_CORRUPT_MESSAGE);
    }
    uint8_t bytes[4];
    put_u32(bytes, 0x7fffffff - BATCH_PREFIX_BYTES);
    ck_assert_int_eq(check_with(8, bytes, 4), ERR_SHORT);
}
END_TEST

START_TEST(the_records_framing_must_add_up)
{
    ck_assert_int_eq(check_with(61, "\x20", 1), ERR_CORRUPT_MESSAGE); /* record a byte short */
    ck_assert_int_eq(check_with(61, "\x24", 1), ERR_CORRUPT_MESSAGE); /* and a byte long */
    ck_assert_int_eq(check_with(61, "\x01", 1), ERR_CORRUPT_MESSAGE); /* of -1 bytes */
    ck_assert_int_eq(check_with(64, "\x02", 1), ERR_CORRUPT_MESSAGE); /* offset delta 1 at first */
    ck_assert_int_eq(check_with(65, "\x03", 1), ERR_CORRUPT_MESSAGE); /* key of -2 bytes */
    ck_assert_int_eq(check_with(68, "\x7e", 1), ERR_CORRUPT_MESSAGE); /* value over the end */
    ck_assert_int_eq(check_with(78, "\x02", 1),
                     ERR_CORRUPT_MESSAGE); /* a header that is not there */
    ck_assert_int_eq(check_with(78, "\x01", 1), ERR_CORRUPT_MESSAGE); /* -1 headers */
    ck_assert_int_eq(check_with(92, "\x06", 1), ERR_CORRUPT_MESSAGE); /* a third header */
    ck_assert_int_eq(check_with(93, "\x01", 1), ERR_CORRUPT_MESSAGE); /* a header without a name */
    /* Varints that do not end: in five bytes, at the end of the batch. */
    ck_assert_int_eq(check_with(61, "\xff\xff\xff\xff\xff\xff", 6), ERR_CORRUPT_MESSAGE);
    ck_assert_int_eq(check_with(61, "\xff\xff\xff\xff\x7f", 5), ERR_CORRUPT_MESSAGE);
    ck_assert_int_eq(check_with(98, "\xff", 1), ERR_CORRUPT_MESSAGE);
}
END_TEST

START_TEST(another_magic_is_another_format)
{
    struct batch_info info;
    uint8_t copy[sizeof(golden)];
    memcpy(copy, golden, sizeof(copy));
    for (int magic = 0; magic < 256; magic++) {
        copy[16] = (uint8_t)magic;
        ck_assert_int_eq(batch_check(copy, sizeof(copy), &info),
                         magic == 2 ? ERR_OK : ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
}
END_TEST

START_TEST(offsets_that_would_overflow_are_refused)
{
    uint8_t copy[sizeof(golden)];
    struct batch_info info;
    memcpy(copy, golden, sizeof(copy));
    put_u64(copy, INT64_MAX - 2);
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_OK);
    put_u64(copy, INT64_MAX - 1);
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_CORRUPT_MESSAGE);
    put_u64(copy, UINT64_MAX);
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_CORRUPT_MESSAGE);
}
END_TEST

START_TEST(compressed_records_are_not_walked)
{
    struct batch_info info;
    struct record_cursor cursor;
    uint8_t copy[sizeof(golden)];
    memcpy(copy, golden, sizeof(copy));
    copy[22] = 4; /* zstd */
    memset(copy + 61, 0xff, sizeof(copy) - 61);
    reseal(copy, sizeof(copy));
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_OK);
    ck_assert_int_eq(record_cursor_init(&cursor, copy, sizeof(copy)), ERR_UNSUPPORTED_VERSION);
    /* No codec packs so much into so little: each count costs an offset. */
    put_u32(copy + 23, INT32_MAX - 1);
    put_u32(copy + 57, INT32_MAX);
    reseal(copy, sizeof(copy));
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_CORRUPT_MESSAGE);
    memcpy(copy + 23, golden + 23, 4);
    memcpy(copy + 57, golden + 57, 4);
    copy[22] = 5; /* no such codec */
    reseal(copy, sizeof(copy));
    ck_assert_int_eq(batch_check(copy, sizeof(copy), &info), ERR_CORRUPT_MESSAGE);
}
END_TEST

START_TEST(append_time_stands_for_every_record)
{
    struct record_cursor cursor;
    struct record r;
    uint8_t copy[sizeof(golden)];
    memcpy(copy, golden, sizeof(copy));
    copy[22] = BATCH_TIMESTAMP_APPEND;
    ck_assert_int_eq(record_cursor_init(&cursor, copy, sizeof(copy)), ERR_OK);
    ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
    ck_assert_int_eq(r.timestamp, golden_time + 5);
}
END_TEST

/* What was built is checked and read back the same, whatever the sizes. */
START_TEST(random_batches_survive_the_round_trip)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    static uint8_t made[1 << 16], filler[1 << 12];
    for (size_t i = 0; i < sizeof(filler); i++)
        filler[i] = (uint8_t)rng_next(&rng);
    for (int round = 0; round < 300; round++) {
        struct bytes keys[100], values[100];
        int64_t times[100];
        int32_t count = 0, want = (int32_t)rng_between(&rng, 1, 100);
        struct batch_builder b;
        batch_begin(&b, made, sizeof(made));
        for (; count < want; count++) {
            keys[count] = (struct bytes){rng_chance(&rng, 300000) ? NULL : filler, 0};
            if (keys[count].data != NULL)
                keys[count].len = rng_below(&rng, 200);
            values[count] = (struct bytes){filler, rng_below(&rng, sizeof(filler))};
            times[count] = (int64_t)rng_next(&rng) >> rng_below(&rng, 64);
            if (batch_add(&b, times[count], keys[count], values[count], NULL, 0) != ERR_OK)
                break;
        }
        struct batch_info info;
        size_t bytes = batch_finish(&b, 0, (int64_t)(rng_next(&rng) >> 1), 3, 9);
        ck_assert_int_eq(batch_check(made, bytes, &info), ERR_OK);
        ck_assert_int_eq(info.record_count, count);
        struct record_cursor cursor;
        ck_assert_int_eq(record_cursor_init(&cursor, made, bytes), ERR_OK);
        for (int32_t i = 0; i < count; i++) {
            struct record r;
            ck_assert_int_eq(record_cursor_next(&cursor, &r), ERR_OK);
            ck_assert_int_eq(r.offset, i);
            ck_assert_int_eq(r.timestamp, times[i]);
            ck_assert_uint_eq(r.key.len, keys[i].len);
            ck_assert_int_eq(r.key.data == NULL, keys[i].data == NULL);
            ck_assert_uint_eq(r.value.len, values[i].len);
            ck_assert_int_eq(memcmp(r.value.data, filler, r.value.len), 0);
        }
    }
}
END_TEST

START_TEST(random_bytes_and_broken_batches_never_crash)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    for (int round = 0; round < 100000; round++) {
        size_t len = rng_chance(&rng, 500000) ? sizeof(golden) : rng_below(&rng, 200);
        uint8_t *copy = malloc(len + 1);
        for (size_t i = 0; i < len; i++)
            copy[i] = i < sizeof(golden) ? golden[i] : (uint8_t)rng_next(&rng);
        for (uint64_t hits = rng_below(&rng, 6); hits > 0 && len > 0; hits--)
            copy[rng_below(&rng, len)] = (uint8_t)rng_next(&rng);
        if (len > 21)
            reseal(copy, len);
        struct batch_info info;
        (void)batch_check(copy, len, &info);
        struct record_cursor cursor;
        struct record record;
        if (record_cursor_init(&cursor, copy, len) == ERR_OK) {
            while (record_cursor_next(&cursor, &record) == ERR_OK)
                ck_assert_int_le(record.offset, cursor.info.last_offset);
        }
        free(copy);
    }
}
END_TEST

CHECK_MAIN("record/batch", a_known_good_batch_is_read_field_by_field,
           a_cursor_gives_keys_values_nulls_and_headers, the_builder_makes_the_known_bytes,
           a_full_builder_is_unchanged, the_upper_bound_of_a_record_holds,
           patching_changes_offset_and_epoch_and_keeps_the_crc,
           every_flipped_bit_under_the_crc_is_found, every_truncation_is_short_and_tells_the_size,
           lying_counts_are_refused, lying_lengths_are_refused, the_records_framing_must_add_up,
           another_magic_is_another_format, offsets_that_would_overflow_are_refused,
           compressed_records_are_not_walked, append_time_stands_for_every_record,
           random_batches_survive_the_round_trip, random_bytes_and_broken_batches_never_crash)
