/* A compacted log: its offsets have gaps, over which readers step. And what is asked of a log that
 * it does not have. */
#include "unit/log/log_lab.h"

static struct log_lab lab;

enum { BATCHES = 24, GAP = 5 };

static void with_gaps(uint64_t seed)
{
    lab_init(&lab, seed);
    lab.options.compacted = true;
    lab.options.segment_bytes = 2000;
    lab.gap = GAP;
    lab_open(&lab, false);
    for (int i = 0; i < BATCHES; i++) {
        lab.epoch = i / 8;
        lab_append(&lab, 3, 100);
    }
    lab_flush(&lab);
}

static err_t count(void *context, const struct batch_info *info, const uint8_t *batch)
{
    (void)info;
    (void)batch;
    ++*(size_t *)context;
    return ERR_OK;
}

static void check_gaps(size_t batches)
{
    ck_assert_uint_eq(lab.batch_count, batches);
    for (size_t i = 0; i < batches; i++) {
        const struct lab_batch *batch = &lab.batches[i];
        for (offset_t before = 0; before <= GAP; before++) {
            size_t seen = 0;
            struct frame *frame = lab_read(&lab, batch->base - before, log_end(lab.log), 1);
            ck_assert_ptr_nonnull(frame);
            ck_assert_mem_eq(frame->bytes, batch->bytes, batch->len);
            frame_unref(frame);
            ck_assert_int_eq(log_walk(lab.log, batch->base - before, count, &seen), ERR_OK);
            ck_assert_uint_eq(seen, batches - i);
        }
        offset_t offset;
        int64_t timestamp;
        ck_assert_int_eq(
            log_find_time(lab.log, batch->timestamp, log_end(lab.log), &offset, &timestamp),
            ERR_OK);
        ck_assert_int_eq(offset, batch->base);
    }
}

START_TEST(readers_step_over_gaps_also_after_a_power_cut)
{
    with_gaps(4);
    check_gaps(BATCHES);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    check_gaps(BATCHES);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    lab_power_cut(&lab);
    lab_open(&lab, true);
    check_gaps(BATCHES);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_cut_within_a_gap_takes_all_that_is_behind_it)
{
    with_gaps(5);
    for (size_t left = BATCHES - 1; left > 10; left--) {
        offset_t inside = lab.batches[left].base - 2;
        ck_assert_int_eq(log_truncate(lab.log, inside), ERR_OK);
        lab_model_cut(&lab, lab.batches[left].base);
        check_gaps(left);
    }
    lab_append(&lab, 2, 50);
    lab_flush(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    check_gaps(12);
    lab_fini(&lab);
}
END_TEST

START_TEST(batches_that_go_back_are_refused_where_gaps_are_not)
{
    with_gaps(6);
    offset_t end = log_end(lab.log);
    lab.gap = -1;
    ck_assert_int_eq(lab_try_append(&lab, 1, 10), ERR_INVALID);
    lab_model_cut(&lab, lab.batches[lab.batch_count - 1].base);
    ck_assert_int_eq(log_end(lab.log), end);
    ck_assert_int_eq(log_failure(lab.log), ERR_OK);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_a_log_does_not_have_is_told)
{
    struct frame *frame;
    offset_t offset;
    int64_t timestamp;
    size_t seen = 0;
    lab_init(&lab, 7);
    lab_open(&lab, false);
    for (int i = 0; i < 60; i++)
        lab_append(&lab, 3, 200);
    lab_flush(&lab);
    offset_t end = log_end(lab.log);
    ck_assert_int_eq(log_drop_prefix(lab.log, end + 1), ERR_INVALID);
    ck_assert_int_eq(log_drop_prefix(lab.log, 100), ERR_OK);
    lab_model_drop(&lab, log_start(lab.log));
    ck_assert_int_gt(log_start(lab.log), 0);
    struct log_read_args below = {.offset = log_start(lab.log) - 1, .limit = end, .bytes_max = 1};
    ck_assert_int_eq(log_read(lab.log, &below, &frame), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(log_walk(lab.log, 0, count, &seen), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(log_walk(lab.log, end + 1, count, &seen), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(log_walk(lab.log, end, count, &seen), ERR_OK);
    ck_assert_uint_eq(seen, 0);
    ck_assert_int_eq(log_truncate(lab.log, 0), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(log_truncate(lab.log, end + 1), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(log_reset(lab.log, -1), ERR_INVALID);
    ck_assert_int_eq(log_begin_epoch(lab.log, -7), ERR_INVALID);
    /* A time above all; one whose batch is not wholly below the limit; one below all. */
    ck_assert_int_eq(log_find_time(lab.log, lab.now_ms + 1, end, &offset, &timestamp),
                     ERR_NOT_FOUND);
    ck_assert_int_eq(log_find_time(lab.log, 0, log_start(lab.log) + 1, &offset, &timestamp),
                     ERR_NOT_FOUND);
    ck_assert_int_eq(log_find_time(lab.log, 0, end, &offset, &timestamp), ERR_OK);
    ck_assert_int_eq(offset, log_start(lab.log));
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_dead_log_refuses_all_but_what_it_has)
{
    lab_init(&lab, 9);
    lab_open(&lab, false);
    lab_append(&lab, 3, 100);
    lab_flush(&lab);
    lab_append(&lab, 3, 100);
    sim_disk_fail_sync(lab.disk, 1);
    log_flush(lab.log);
    lab_pump(&lab);
    ck_assert_int_eq(lab.told_err, ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_flushed_end(lab.log), 3);
    ck_assert_int_eq(log_truncate(lab.log, 3), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_reset(lab.log, 3), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_drop_prefix(lab.log, 3), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_stop(lab.log, LOG_STOP_WRITE), ERR_KAFKA_STORAGE_ERROR);
    ck_assert(!log_close_syncs(lab.log));
    lab.told_count = 0;
    log_flush(lab.log);
    lab_pump(&lab);
    ck_assert_uint_eq(lab.told_count, 0); /* told once */
    struct frame *frame = lab_read(&lab, 0, 3, 1000);
    ck_assert_ptr_nonnull(frame);
    frame_unref(frame);
    ck_assert_int_eq(log_close(lab.log, true), ERR_KAFKA_STORAGE_ERROR); /* no clean marker */
    lab.log = NULL;
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_ge(log_end(lab.log), 3);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("log/gaps", readers_step_over_gaps_also_after_a_power_cut,
           a_cut_within_a_gap_takes_all_that_is_behind_it,
           batches_that_go_back_are_refused_where_gaps_are_not, what_a_log_does_not_have_is_told,
           a_dead_log_refuses_all_but_what_it_has)
