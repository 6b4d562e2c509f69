/* The index of a segment, which is never trusted. */
#include "base/crc32c.h"
#include "log/log_internal.h"
#include "unit/log/log_lab.h"

#include <stdlib.h>

static struct log_lab lab; /* each test has a process of its own */

/* Says that it is compressed, and as many records as a batch can have. */
static void make_packed_batch(uint8_t *bytes, size_t len, offset_t base, leader_epoch_t epoch)
{
    memset(bytes, 0xff, len); /* no producer, and a body that nobody unpacks */
    put_u32(bytes + 8, (uint32_t)len - 12);
    bytes[16] = 2;
    put_u16(bytes + 21, 4); /* zstd */
    put_u32(bytes + 23, INT32_MAX - 1);
    put_u64(bytes + 27, 1000);
    put_u64(bytes + 35, 1000);
    put_u32(bytes + 57, INT32_MAX);
    put_u32(bytes + 17, crc32c(0, bytes + 21, len - 21));
    batch_patch(bytes, base, epoch);
}

START_TEST(no_append_spans_more_offsets_than_a_row_of_the_index_can_tell)
{
    enum { LEN = 500000, COUNT = 4 };
    lab_init(&lab, 4);
    lab_open(&lab, false);
    uint8_t *bytes = malloc((size_t)LEN * COUNT);
    for (size_t i = 0; i < COUNT; i++)
        make_packed_batch(bytes + i * LEN, LEN, (offset_t)i * INT32_MAX, 4);
    struct iovec part = {.iov_base = bytes, .iov_len = (size_t)LEN * COUNT};
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID);
    ck_assert_int_eq(log_failure(lab.log), ERR_OK);
    for (size_t i = 0; i < COUNT; i++) {
        part = (struct iovec){bytes + i * LEN, LEN};
        ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_OK);
    }
    ck_assert_int_eq(log_end(lab.log), (offset_t)COUNT * INT32_MAX);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    ck_assert_int_eq(lab_try_open(&lab, true), ERR_OK);
    make_packed_batch(bytes, LEN, log_end(lab.log), 4);
    part = (struct iovec){bytes, LEN};
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_OK);
    struct frame *frame = lab_read(&lab, (offset_t)COUNT * INT32_MAX + 7, log_end(lab.log), 1);
    ck_assert_uint_eq(frame->used, LEN);
    frame_unref(frame);
    free(bytes);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_bad_or_missing_index_is_made_again)
{
    static const char name[] = "orders-0/00000000000000000000.index";
    lab_init(&lab, 21);
    lab_open(&lab, false);
    for (int i = 0; i < 200; i++)
        lab_append(&lab, 1, 100);
    lab_flush(&lab);
    for (uint64_t at = 0; at < 200; at += 7) {
        ck_assert_int_eq(sim_disk_rot(lab.disk, name, at, 0x55), ERR_OK);
        lab_check(&lab);
    }
    ck_assert_int_eq(sim_disk_lose(lab.disk, name), ERR_OK);
    lab_check(&lab);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    lab_open(&lab, true);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

static uint64_t reads;

static err_t count_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                        size_t *ret_bytes)
{
    const struct faults_disk *faulty = self;
    reads++;
    return faulty->inner->read(faulty->inner->self, file, at, into, bytes, ret_bytes);
}

START_TEST(a_long_index_is_read_in_large_pieces_by_cuts_and_starts)
{
    enum { BATCHES = 3000 };
    lab_init(&lab, 42);
    lab.options.segment_bytes = 4 << 20;
    lab_open(&lab, false);
    for (int i = 0; i < BATCHES; i++)
        lab_append(&lab, 1, 300); /* a row for each */
    lab_flush(&lab);
    lab.faulty.env.read = count_read;
    reads = 0;
    ck_assert_int_eq(log_truncate(lab.log, BATCHES - 1), ERR_OK);
    ck_assert_uint_lt(reads, BATCHES / 10);
    lab_model_cut(&lab, BATCHES - 1);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
    lab_kill(&lab);
    reads = 0;
    lab_open(&lab, false);
    ck_assert_uint_lt(reads, BATCHES / 10);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("log/index", no_append_spans_more_offsets_than_a_row_of_the_index_can_tell,
           a_bad_or_missing_index_is_made_again,
           a_long_index_is_read_in_large_pieces_by_cuts_and_starts)
