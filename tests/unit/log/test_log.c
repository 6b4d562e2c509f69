#include "log/log_internal.h"
#include "unit/log/log_lab.h"

#include <stdlib.h>

static struct log_lab lab; /* each test has a process of its own */

START_TEST(what_is_appended_is_read_back_across_rolls)
{
    lab_init(&lab, 1);
    lab_open(&lab, false);
    ck_assert(lab.recovery.created);
    for (int i = 0; i < 200; i++) {
        lab.epoch = i / 30;
        lab_append(&lab, 1 + i % 4, 10 + (size_t)(i * 37 % 300));
        if (i % 7 == 0)
            lab_flush(&lab);
    }
    lab_flush(&lab);
    ck_assert_int_eq(lab.told_end, log_end(lab.log));
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(reads_hold_whole_batches_within_bytes_and_limit)
{
    lab_init(&lab, 2);
    lab_open(&lab, false);
    for (int i = 0; i < 10; i++)
        lab_append(&lab, 2, 50);
    size_t len = lab.batches[0].len;
    struct frame *frame = lab_read(&lab, 0, 20, 3 * len + len / 2);
    ck_assert_uint_eq(frame->used, 3 * len);
    frame_unref(frame);
    frame = lab_read(&lab, 7, 20, 1); /* inside the fourth, which is larger than a byte */
    ck_assert_uint_eq(frame->used, len);
    ck_assert_mem_eq(frame->bytes, lab.batches[3].bytes, len);
    frame_unref(frame);
    frame = lab_read(&lab, 0, 5, 100000); /* the third batch passes the limit */
    ck_assert_uint_eq(frame->used, 2 * len);
    frame_unref(frame);
    ck_assert_ptr_null(lab_read(&lab, 4, 5, 100000));
    ck_assert_ptr_null(lab_read(&lab, 20, 20, 100000));
    struct frame *none = NULL;
    struct log_read_args above = {.offset = 21, .limit = 21, .bytes_max = 1};
    ck_assert_int_eq(log_read(lab.log, &above, &none), ERR_OFFSET_OUT_OF_RANGE);
    lab_fini(&lab);
}
END_TEST

START_TEST(appends_that_do_not_fit_the_end_are_refused_and_leave_the_log_good)
{
    lab_init(&lab, 3);
    lab_open(&lab, false);
    lab.epoch = 4;
    lab_append(&lab, 3, 20);
    uint8_t bytes[512];
    memcpy(bytes, lab.batches[0].bytes, lab.batches[0].len);
    struct iovec part = {.iov_base = bytes, .iov_len = lab.batches[0].len};
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID); /* base 0 again */
    batch_patch(bytes, 4, 4);
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID); /* a gap */
    batch_patch(bytes, 3, 3);
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID); /* an older epoch */
    batch_patch(bytes, 3, 4);
    part.iov_len--;
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID); /* not whole */
    part.iov_len = 0;
    ck_assert_int_eq(log_append(lab.log, &part, 1), ERR_INVALID);
    lab_append(&lab, 1, 20);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(flushed_end_waits_for_the_round_and_later_appends_join_the_next)
{
    lab_init(&lab, 4);
    lab_open(&lab, false);
    lab_append(&lab, 5, 20);
    log_flush(lab.log);
    lab_append(&lab, 5, 20);
    log_flush(lab.log);
    ck_assert_int_eq(log_flushed_end(lab.log), 0);
    ck_assert_uint_eq(lab.scheduled_count, 1);
    lab_pump_one(&lab);
    ck_assert_int_eq(log_flushed_end(lab.log), 5);
    ck_assert_int_eq(lab.told_end, 5);
    lab_pump_one(&lab);
    ck_assert_int_eq(log_flushed_end(lab.log), 10);
    log_flush(lab.log); /* nothing to do */
    ck_assert_uint_eq(lab.scheduled_count, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_completion_older_than_a_truncation_raises_nothing) /* R6 */
{
    lab_init(&lab, 5);
    lab_open(&lab, false);
    for (int i = 0; i < 12; i++)
        lab_append(&lab, 10, 5);
    uint64_t generation = log_generation(lab.log);
    log_flush(lab.log); /* to 120 */
    ck_assert_int_eq(log_truncate(lab.log, 100), ERR_OK);
    lab_model_cut(&lab, 100);
    ck_assert_uint_eq(log_generation(lab.log), generation + 1);
    ck_assert_int_eq(log_flushed_end(lab.log), 100);
    lab_append(&lab, 10, 5); /* to 110 */
    lab_pump_one(&lab);
    ck_assert_int_eq(log_flushed_end(lab.log), 100);
    lab_flush(&lab);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(truncation_rounds_down_forgets_epochs_and_survives_a_power_cut) /* R13 */
{
    lab_init(&lab, 6);
    lab_open(&lab, false);
    for (int i = 0; i < 60; i++) {
        lab.epoch = i / 10;
        lab_append(&lab, 10, 30);
    }
    lab_flush(&lab);
    ck_assert_int_eq(log_truncate(lab.log, 305), ERR_OK); /* inside the batch of 300 */
    ck_assert_int_eq(log_end(lab.log), 300);
    ck_assert_int_eq(log_flushed_end(lab.log), 300);
    ck_assert_int_eq(log_last_epoch(lab.log), 2);
    lab_model_cut(&lab, 300);
    lab_check(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_end(lab.log), 300);
    lab_check(&lab);
    ck_assert_int_eq(log_truncate(lab.log, 301), ERR_OFFSET_OUT_OF_RANGE);
    lab_fini(&lab);
}
END_TEST

START_TEST(unflushed_bytes_may_go_and_flushed_ones_never)
{
    for (uint64_t seed = 0; seed < 100; seed++) {
        lab_init(&lab, seed);
        lab_open(&lab, false);
        for (int i = 0; i < 20; i++)
            lab_append(&lab, 1, 100 + (size_t)i * 10);
        lab_flush(&lab);
        for (int i = 0; i < 40; i++)
            lab_append(&lab, 1, 100 + (size_t)i * 10);
        if (seed % 2 == 0)
            log_flush(lab.log); /* in flight when the power goes */
        lab_power_cut(&lab);
        lab_open(&lab, false);
        ck_assert_int_ge(log_end(lab.log), 20);
        lab_model_cut(&lab, log_end(lab.log));
        lab_check(&lab);
        lab_append(&lab, 1, 50);
        lab_flush(&lab);
        lab_check(&lab);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_kill_loses_nothing_that_was_written)
{
    lab_init(&lab, 7);
    lab_open(&lab, false);
    for (int i = 0; i < 50; i++)
        lab_append(&lab, 2, 100);
    log_flush(lab.log);
    lab_kill(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_end(lab.log), 100);
    ck_assert(!lab.recovery.torn);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_clean_stop_is_opened_without_reading_the_tail)
{
    lab_init(&lab, 8);
    lab_open(&lab, false);
    for (int i = 0; i < 50; i++)
        lab_append(&lab, 2, 100);
    log_set_high_watermark(lab.log, 77);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    lab_pump(&lab);
    sim_disk_power_cut(lab.disk); /* all was synced */
    lab_open(&lab, true);
    ck_assert(lab.recovery.clean);
    ck_assert_uint_eq(lab.recovery.bytes_read, 0);
    ck_assert_int_eq(lab.recovery.high_watermark, 77);
    ck_assert_int_eq(log_end(lab.log), 100);
    lab_check(&lab);
    uint64_t operations = sim_disk_counters(lab.disk)->operations;
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    ck_assert_uint_eq(sim_disk_counters(lab.disk)->operations, operations); /* idle: free */
    lab.log = NULL;
    lab_fini(&lab);
}
END_TEST

static err_t stop_with_others(void)
{
    err_t err = ERR_OK;
    for (unsigned step = 0; step < LOG_STOP_STEPS && err == ERR_OK; step++) {
        err = log_stop(lab.log, (enum log_stop_step)step);
        if (err == ERR_OK)
            err = lab.view.env.sync_all(&lab.view);
    }
    return err;
}

START_TEST(a_log_stopped_with_others_is_as_clean_as_one_closed_alone)
{
    for (uint64_t seed = 0; seed < 20; seed++) {
        lab_init(&lab, seed);
        lab_open(&lab, false);
        for (int i = 0; i < 40; i++) {
            lab.epoch += i % 7 == 0;
            lab_append(&lab, 2, 200);
        }
        log_set_high_watermark(lab.log, 5);
        ck_assert(log_close_syncs(lab.log));
        uint64_t syncs = sim_disk_counters(lab.disk)->syncs;
        ck_assert_int_eq(stop_with_others(), ERR_OK);
        ck_assert_uint_eq(sim_disk_counters(lab.disk)->syncs, syncs + LOG_STOP_STEPS);
        ck_assert(!log_close_syncs(lab.log));
        lab_power_cut(&lab); /* what is in flight is lost with the node */
        lab_open(&lab, true);
        ck_assert(lab.recovery.clean);
        ck_assert_int_eq(lab.recovery.high_watermark, 5);
        lab_check(&lab);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_stop_cut_short_anywhere_keeps_what_was_flushed)
{
    for (uint64_t at = 1, done = 0; done == 0; at++) {
        lab_init(&lab, at);
        lab_open(&lab, false);
        for (int i = 0; i < 20; i++) {
            lab.epoch += i % 7 == 0;
            lab_append(&lab, 2, 200);
        }
        lab_flush(&lab);
        offset_t flushed = log_end(lab.log);
        lab.epoch++;
        lab_append(&lab, 2, 200);
        sim_disk_freeze_at(lab.disk, sim_disk_counters(lab.disk)->operations + at);
        done = stop_with_others() == ERR_OK;
        lab_power_cut(&lab);
        lab_open(&lab, false); /* no marker was written */
        ck_assert_int_ge(log_end(lab.log), done ? flushed + 2 : flushed);
        lab_model_cut(&lab, log_end(lab.log));
        lab_check(&lab);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_checkpoint_gives_the_descriptor_of_an_idle_log_back)
{
    lab_init(&lab, 6);
    lab_open(&lab, false);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < 5; i++)
            lab_append(&lab, 2, 200);
        ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
        ck_assert_ptr_nonnull(lab.log->active); /* something is unflushed (R18) */
        lab_flush(&lab);
        ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
        ck_assert(list_empty(&lab.log->files));
        if (round % 3 == 2)
            lab_check(&lab);
    }
    lab_kill(&lab);
    lab_open(&lab, false);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_epoch_cut_away_is_not_believed_after_a_clean_stop) /* R9 */
{
    lab_init(&lab, 4);
    lab_open(&lab, false);
    lab.epoch = 1;
    for (int i = 0; i < 10; i++)
        lab_append(&lab, 2, 100);
    lab.epoch = 2;
    lab_append(&lab, 2, 100);
    lab_flush(&lab);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK); /* both are in the file */
    ck_assert_int_eq(log_truncate(lab.log, 20), ERR_OK);
    lab_model_cut(&lab, 20);
    ck_assert_int_eq(log_begin_epoch(lab.log, 5), ERR_OK);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    lab_kill(&lab);
    lab_open(&lab, true);
    ck_assert(lab.recovery.clean);
    ck_assert_int_eq(log_last_epoch(lab.log), 1);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_marker_that_lies_is_found_out)
{
    lab_init(&lab, 9);
    lab_open(&lab, false);
    lab_append(&lab, 2, 100);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    sim_disk_kill(lab.disk);
    lab_open(&lab, true);
    lab_append(&lab, 2, 100);
    lab_flush(&lab);
    lab_kill(&lab); /* not clean, but the next start is told so */
    lab_open(&lab, true);
    ck_assert(!lab.recovery.clean);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(rot_below_the_recovery_point_is_corrupt_and_changes_nothing) /* R15 */
{
    lab_init(&lab, 10);
    lab_open(&lab, false);
    for (int i = 0; i < 12; i++)
        lab_append(&lab, 2, 100);
    lab_flush(&lab);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
    lab_append(&lab, 2, 100);
    lab_flush(&lab);
    lab_kill(&lab);
    uint64_t at = 11 * lab.batches[0].len + 80;
    ck_assert_int_eq(sim_disk_rot(lab.disk, "orders-0/00000000000000000000.log", at, 0x10), ERR_OK);
    /* Its index was still in memory: recovery reads the segment from its start. */
    ck_assert_int_eq(lab_try_open(&lab, false), ERR_CORRUPT);
    ck_assert_int_eq(sim_disk_rot(lab.disk, "orders-0/00000000000000000000.log", at, 0x10), ERR_OK);
    lab_open(&lab, false);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_first_bad_batch_above_the_recovery_point_ends_the_log) /* R15 */
{
    lab_init(&lab, 11);
    lab_open(&lab, false);
    for (int i = 0; i < 12; i++)
        lab_append(&lab, 2, 100);
    lab_kill(&lab);
    uint64_t at = 5 * lab.batches[0].len + 80;
    ck_assert_int_eq(sim_disk_rot(lab.disk, "orders-0/00000000000000000000.log", at, 0x10), ERR_OK);
    lab_open(&lab, false);
    ck_assert(lab.recovery.torn);
    ck_assert_int_eq(lab.recovery.cut_from, 10);
    lab_model_cut(&lab, 10);
    lab_check(&lab);
    lab_kill(&lab); /* and good ones after it do not come back */
    ck_assert_int_eq(sim_disk_rot(lab.disk, "orders-0/00000000000000000000.log", at, 0), ERR_OK);
    lab_open(&lab, false);
    ck_assert(!lab.recovery.torn);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_lost_segment_is_corrupt)
{
    lab_init(&lab, 12);
    lab_open(&lab, false);
    for (int i = 0; i < 200; i++)
        lab_append(&lab, 1, 100);
    lab_flush(&lab);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
    lab_kill(&lab);
    ck_assert_int_eq(sim_disk_lose(lab.disk, "orders-0/00000000000000000000.log"), ERR_OK);
    ck_assert_int_eq(lab_try_open(&lab, false), ERR_CORRUPT);
    lab_fini(&lab);
}
END_TEST

START_TEST(recovery_does_not_believe_clean_pages_after_a_failed_sync) /* R14 */
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        lab_init(&lab, seed);
        lab_open(&lab, false);
        lab_append(&lab, 2, 100);
        lab_flush(&lab);
        for (int i = 0; i < 5; i++)
            lab_append(&lab, 2, 700);
        sim_disk_fail_sync(lab.disk, 1);
        log_flush(lab.log);
        lab_pump(&lab);
        ck_assert_int_eq(lab.told_err, ERR_KAFKA_STORAGE_ERROR);
        ck_assert_int_eq(log_flushed_end(lab.log), 2);
        ck_assert_int_eq(lab_try_append(&lab, 2, 100), ERR_KAFKA_STORAGE_ERROR);
        ck_assert_int_eq(log_truncate(lab.log, 2), ERR_KAFKA_STORAGE_ERROR);
        lab_kill(&lab);
        lab_open(&lab, false);
        offset_t end = log_end(lab.log);
        lab_model_cut(&lab, end);
        lab_power_cut(&lab); /* what recovery calls flushed is on the disk */
        lab_open(&lab, false);
        ck_assert_int_eq(log_end(lab.log), end);
        lab_check(&lab);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_log_on_a_disk_that_was_synced_as_a_whole_recovers_without_syncs) /* R14 */
{
    lab_init(&lab, 2);
    ck_assert(lab.sync_all);
    lab_open(&lab, false);
    for (int i = 0; i < 30; i++)
        lab_append(&lab, 2, 200);
    lab_flush(&lab);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
    lab_append(&lab, 2, 200);
    lab_kill(&lab);
    uint64_t syncs = sim_disk_counters(lab.disk)->syncs;
    lab_open(&lab, false);
    ck_assert_uint_eq(sim_disk_counters(lab.disk)->syncs, syncs + 1); /* that of all */
    lab_power_cut(&lab);
    lab_open(&lab, false);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_disk_that_takes_no_sync_is_told_from_the_loop)
{
    lab_init(&lab, 13);
    lab_open(&lab, false);
    lab_append(&lab, 2, 100);
    sim_disk_freeze_at(lab.disk, sim_disk_counters(lab.disk)->operations + 1);
    log_flush(lab.log);
    ck_assert_uint_eq(lab.told_count, 0);
    lab_pump(&lab);
    ck_assert_uint_eq(lab.told_count, 1);
    ck_assert_int_eq(lab.told_err, ERR_KAFKA_STORAGE_ERROR);
    lab_fini(&lab);
}
END_TEST

START_TEST(epochs_answer_as_kip_279_says) /* R9 */
{
    leader_epoch_t epoch;
    offset_t end;
    lab_init(&lab, 17);
    lab_open(&lab, false);
    log_epoch_end(lab.log, 0, &epoch, &end);
    ck_assert_int_eq(epoch, -1);
    lab.epoch = 2;
    lab_append(&lab, 10, 5);
    lab.epoch = 5;
    lab_append(&lab, 10, 5);
    ck_assert_int_eq(log_begin_epoch(lab.log, 7), ERR_OK); /* writes nothing */
    log_epoch_end(lab.log, 1, &epoch, &end);
    ck_assert_int_eq(epoch, -1);
    log_epoch_end(lab.log, 4, &epoch, &end);
    ck_assert_int_eq(epoch, 2);
    ck_assert_int_eq(end, 10);
    log_epoch_end(lab.log, 6, &epoch, &end);
    ck_assert_int_eq(epoch, 5);
    ck_assert_int_eq(end, 20);
    log_epoch_end(lab.log, 7, &epoch, &end);
    ck_assert_int_eq(epoch, 7);
    ck_assert_int_eq(end, 20);
    log_epoch_end(lab.log, 8, &epoch, &end);
    ck_assert_int_eq(epoch, -1);
    ck_assert_int_eq(end, -1);
    ck_assert_int_eq(log_begin_epoch(lab.log, 6), ERR_INVALID);
    ck_assert_int_eq(log_begin_epoch(lab.log, 9), ERR_OK); /* takes the place of the empty 7 */
    log_epoch_end(lab.log, 8, &epoch, &end);
    ck_assert_int_eq(epoch, 5);
    ck_assert_int_eq(log_truncate(lab.log, 20),
                     ERR_OK); /* nothing to cut, but epoch 9 is forgotten */
    ck_assert_int_eq(log_last_epoch(lab.log), 5);
    lab_fini(&lab);
}
END_TEST

START_TEST(epochs_below_the_recovery_point_survive)
{
    lab_init(&lab, 18);
    lab_open(&lab, false);
    for (int i = 0; i < 100; i++) {
        lab.epoch = i / 5;
        lab_append(&lab, 1, 200);
        if (i == 60) {
            lab_flush(&lab);
            ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
        }
    }
    lab_flush(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_end(lab.log), 100);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(drop_prefix_deletes_whole_segments_and_survives)
{
    lab_init(&lab, 19);
    lab_open(&lab, false);
    for (int i = 0; i < 300; i++)
        lab_append(&lab, 1, 100);
    ck_assert_int_eq(log_drop_prefix(lab.log, 1000), ERR_INVALID);
    lab_flush(&lab);
    ck_assert_int_eq(log_drop_prefix(lab.log, 200), ERR_OK);
    offset_t start = log_start(lab.log);
    ck_assert_int_gt(start, 100);
    ck_assert_int_le(start, 200);
    struct frame *none = NULL;
    struct log_read_args below = {.offset = start - 1, .limit = 300, .bytes_max = 1};
    ck_assert_int_eq(log_read(lab.log, &below, &none), ERR_OFFSET_OUT_OF_RANGE);
    lab_check(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_start(lab.log), start);
    ck_assert_int_eq(log_end(lab.log), 300);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(reset_starts_empty_anywhere)
{
    lab_init(&lab, 20);
    lab_open(&lab, false);
    for (int i = 0; i < 100; i++)
        lab_append(&lab, 1, 200);
    log_flush(lab.log); /* in flight over the reset */
    ck_assert_int_eq(log_reset(lab.log, 5000), ERR_OK);
    lab_model_cut(&lab, 0);
    lab_pump(&lab);
    ck_assert_int_eq(log_start(lab.log), 5000);
    ck_assert_int_eq(log_flushed_end(lab.log), 5000);
    ck_assert_int_eq(log_last_epoch(lab.log), -1);
    lab_append(&lab, 2, 20);
    lab_flush(&lab);
    ck_assert_int_eq(log_reset(lab.log, 10), ERR_OK);
    lab_model_cut(&lab, 0);
    lab_append(&lab, 2, 20);
    lab_flush(&lab);
    lab_check(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_start(lab.log), 10);
    ck_assert_int_eq(log_end(lab.log), 12);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(another_topic_s_folder_is_refused)
{
    lab_init(&lab, 22);
    lab_open(&lab, false);
    ck_assert_int_eq(log_close(lab.log, true), ERR_OK);
    lab.log = NULL;
    lab.topic = uuid_make(99, 99);
    ck_assert_int_eq(lab_try_open(&lab, false), ERR_INCONSISTENT_TOPIC_ID);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_missing_folder_is_not_made_again_where_it_must_exist) /* R1 */
{
    lab_init(&lab, 23);
    struct log_open_args args = {.env = &lab.env,
                                 .disk = &lab.view.env,
                                 .directory = "orders-0",
                                 .topic = lab.topic,
                                 .options = &lab.options,
                                 .must_exist = true};
    struct log *log = NULL;
    struct log_recovery recovery;
    ck_assert_int_eq(log_open(&args, &log, &recovery), ERR_NOT_FOUND);
    args.must_exist = false;
    args.settle_later = true;
    uint64_t syncs = sim_disk_counters(lab.disk)->syncs;
    ck_assert_int_eq(log_open(&args, &log, &recovery), ERR_OK);
    ck_assert_uint_eq(sim_disk_counters(lab.disk)->syncs, syncs);
    ck_assert_int_eq(log_settle(log), ERR_OK);
    ck_assert_int_eq(log_close(log, false), ERR_OK);
    sim_disk_power_cut(lab.disk);
    args.must_exist = true;
    ck_assert_int_eq(log_open(&args, &log, &recovery), ERR_OK);
    ck_assert_int_eq(log_close(log, false), ERR_OK);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_log_closed_during_a_round_ends_with_it)
{
    lab_init(&lab, 24);
    lab_open(&lab, false);
    for (int i = 0; i < 100; i++)
        lab_append(&lab, 1, 200);
    log_flush(lab.log);
    unsigned told = lab.told_count;
    ck_assert_int_eq(log_close(lab.log, false), ERR_OK);
    lab.log = NULL;
    lab_pump(&lab);
    ck_assert_uint_eq(lab.told_count, told);
    lab_fini(&lab);
}
END_TEST

static err_t count_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    (void)info;
    (void)batch;
    (*(size_t *)context)++;
    return ERR_OK;
}

START_TEST(a_segment_file_is_scanned_offline)
{
    size_t count = 0;
    uint64_t bytes = 0;
    lab_init(&lab, 25);
    lab_open(&lab, false);
    for (int i = 0; i < 10; i++)
        lab_append(&lab, 1, 200);
    const char *name = "orders-0/00000000000000000000.log";
    ck_assert_int_eq(log_scan_file(&lab.view.env, name, count_visit, &count, &bytes), ERR_OK);
    ck_assert_uint_eq(count, 10);
    ck_assert_uint_eq(bytes, log_bytes(lab.log));
    ck_assert_int_eq(sim_disk_rot(lab.disk, name, lab.batches[0].len + 70, 1), ERR_OK);
    ck_assert_int_eq(log_scan_file(&lab.view.env, name, count_visit, &count, &bytes), ERR_CORRUPT);
    ck_assert_uint_eq(bytes, lab.batches[0].len);
    lab_fini(&lab);
}
END_TEST

START_TEST(rot_is_never_served)
{
    lab_init(&lab, 26);
    lab_open(&lab, false);
    for (int i = 0; i < 10; i++)
        lab_append(&lab, 1, 200);
    const char *name = "orders-0/00000000000000000000.log";
    ck_assert_int_eq(sim_disk_rot(lab.disk, name, 3 * lab.batches[0].len + 70, 1), ERR_OK);
    struct frame *frame = lab_read(&lab, 0, 10, 100000);
    ck_assert_uint_eq(frame->used, 3 * lab.batches[0].len);
    frame_unref(frame);
    struct log_read_args bad = {.offset = 3, .limit = 10, .bytes_max = 1};
    ck_assert_int_eq(log_read(lab.log, &bad, &frame), ERR_CORRUPT_MESSAGE);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("log/log", what_is_appended_is_read_back_across_rolls,
           reads_hold_whole_batches_within_bytes_and_limit,
           appends_that_do_not_fit_the_end_are_refused_and_leave_the_log_good,
           flushed_end_waits_for_the_round_and_later_appends_join_the_next,
           a_completion_older_than_a_truncation_raises_nothing,
           truncation_rounds_down_forgets_epochs_and_survives_a_power_cut,
           unflushed_bytes_may_go_and_flushed_ones_never, a_kill_loses_nothing_that_was_written,
           a_clean_stop_is_opened_without_reading_the_tail, a_marker_that_lies_is_found_out,
           rot_below_the_recovery_point_is_corrupt_and_changes_nothing,
           the_first_bad_batch_above_the_recovery_point_ends_the_log, a_lost_segment_is_corrupt,
           recovery_does_not_believe_clean_pages_after_a_failed_sync,
           a_log_on_a_disk_that_was_synced_as_a_whole_recovers_without_syncs,
           a_log_stopped_with_others_is_as_clean_as_one_closed_alone,
           a_stop_cut_short_anywhere_keeps_what_was_flushed,
           a_checkpoint_gives_the_descriptor_of_an_idle_log_back,
           an_epoch_cut_away_is_not_believed_after_a_clean_stop,
           a_disk_that_takes_no_sync_is_told_from_the_loop, epochs_answer_as_kip_279_says,
           epochs_below_the_recovery_point_survive, drop_prefix_deletes_whole_segments_and_survives,
           reset_starts_empty_anywhere, another_topic_s_folder_is_refused,
           a_missing_folder_is_not_made_again_where_it_must_exist,
           a_log_closed_during_a_round_ends_with_it, a_segment_file_is_scanned_offline,
           rot_is_never_served)
