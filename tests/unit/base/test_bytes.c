#include "base/bytes.h"

#include "base/rng.h"
#include "lib/check_main.h"

START_TEST(integers_are_big_endian)
{
    uint8_t at[8];
    put_u16(at, 0x0102);
    ck_assert_mem_eq(at, "\x01\x02", 2);
    ck_assert_uint_eq(get_u16(at), 0x0102);
    put_u32(at, 0x01020304);
    ck_assert_mem_eq(at, "\x01\x02\x03\x04", 4);
    ck_assert_uint_eq(get_u32(at), 0x01020304);
    put_u64(at, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(at, "\x01\x02\x03\x04\x05\x06\x07\x08", 8);
    ck_assert_uint_eq(get_u64(at), UINT64_C(0x0102030405060708));
}
END_TEST

/* The examples of protobuf's encoding guide, whose zigzag Kafka uses. */
START_TEST(varints_are_zigzag)
{
    static const struct {
        int32_t value;
        const char *bytes;
        size_t len;
    } rows[] = {{0, "\x00", 1},
                {-1, "\x01", 1},
                {1, "\x02", 1},
                {-2, "\x03", 1},
                {63, "\x7e", 1},
                {-64, "\x7f", 1},
                {64, "\x80\x01", 2},
                {INT32_MAX, "\xfe\xff\xff\xff\x0f", 5},
                {INT32_MIN, "\xff\xff\xff\xff\x0f", 5}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint8_t at[5];
        ck_assert_uint_eq(put_varint(at, rows[i].value), rows[i].len);
        ck_assert_mem_eq(at, rows[i].bytes, rows[i].len);
        ck_assert_uint_eq(varint_len(rows[i].value), rows[i].len);
        struct reader r;
        reader_init(&r, at, rows[i].len);
        ck_assert_int_eq(reader_varint(&r), rows[i].value);
        ck_assert(!r.failed);
        ck_assert_uint_eq(reader_left(&r), 0);
    }
}
END_TEST

START_TEST(varlongs_come_back_as_they_went_and_every_cut_fails)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    for (int i = 0; i < 20000; i++) {
        int64_t value = (int64_t)(rng_next(&rng) >> rng_below(&rng, 64));
        if (i < 3)
            value = i == 0 ? INT64_MIN : i == 1 ? INT64_MAX : -1;
        uint8_t at[10];
        size_t len = put_varlong(at, value);
        ck_assert_uint_le(len, 10);
        ck_assert_uint_eq(varlong_len(value), len);
        struct reader r;
        reader_init(&r, at, len);
        ck_assert_int_eq(reader_varlong(&r), value);
        ck_assert(!r.failed);
        for (size_t cut = 0; cut < len; cut++) {
            reader_init(&r, at, cut);
            ck_assert_int_eq(reader_varlong(&r), 0);
            ck_assert(r.failed);
        }
    }
}
END_TEST

START_TEST(overlong_varints_fail)
{
    struct reader r;
    reader_init(&r, "\x80\x80\x80\x80\x80\x00", 6); /* six bytes */
    (void)reader_varint(&r);
    ck_assert(r.failed);
    reader_init(&r, "\xff\xff\xff\xff\x1f", 5); /* bit 32 */
    (void)reader_varint(&r);
    ck_assert(r.failed);
    reader_init(&r, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10); /* bit 64 */
    (void)reader_varlong(&r);
    ck_assert(r.failed);
    reader_init(&r, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
    ck_assert_int_eq(reader_varlong(&r), INT64_MIN);
    ck_assert(!r.failed);
}
END_TEST

START_TEST(a_failed_reader_gives_nothing_more)
{
    struct reader r;
    reader_init(&r, "\x01\x02\x03\x04\x05", 5);
    ck_assert_uint_eq(reader_u16(&r), 0x0102);
    ck_assert_uint_eq(reader_u32(&r), 0);
    ck_assert(r.failed);
    ck_assert_uint_eq(reader_u8(&r), 0);
    ck_assert_uint_eq(reader_left(&r), 0);
    struct bytes view = reader_bytes(&r, 0);
    ck_assert_ptr_null(view.data);
}
END_TEST

START_TEST(a_view_points_into_the_bytes_and_is_bounded)
{
    const char text[] = "abcdef";
    struct reader r;
    reader_init(&r, text, 6);
    struct bytes view = reader_bytes(&r, 4);
    ck_assert_ptr_eq(view.data, text);
    ck_assert_uint_eq(view.len, 4);
    view = reader_bytes(&r, SIZE_MAX);
    ck_assert_uint_eq(view.len, 0);
    ck_assert(r.failed);
}
END_TEST

START_TEST(an_empty_reader_may_have_no_address)
{
    struct reader r;
    reader_init(&r, NULL, 0);
    ck_assert_uint_eq(reader_left(&r), 0);
    ck_assert_uint_eq(reader_u64(&r), 0);
    ck_assert(r.failed);
}
END_TEST

CHECK_MAIN("base/bytes", integers_are_big_endian, varints_are_zigzag,
           varlongs_come_back_as_they_went_and_every_cut_fails, overlong_varints_fail,
           a_failed_reader_gives_nothing_more, a_view_points_into_the_bytes_and_is_bounded,
           an_empty_reader_may_have_no_address)
