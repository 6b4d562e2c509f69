/* Appends that fail: a full disk, a write that did not get through. */
#include "log/log_internal.h"
#include "unit/log/log_lab.h"

static struct log_lab lab; /* each test has a process of its own */

START_TEST(a_failed_write_is_mended_by_truncation_to_the_old_end) /* R19 */
{
    lab_init(&lab, 14);
    lab_open(&lab, false);
    for (int i = 0; i < 5; i++)
        lab_append(&lab, 2, 300);
    lab_flush(&lab);
    sim_disk_fail_write(lab.disk, 1, ERR_IO);
    ck_assert_int_eq(lab_try_append(&lab, 2, 300), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_end(lab.log), 10);
    ck_assert_int_eq(lab_try_append(&lab, 2, 300), ERR_KAFKA_STORAGE_ERROR);
    lab_model_cut(&lab, 10);
    ck_assert_int_eq(log_failure(lab.log), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
    ck_assert_int_eq(log_failure(lab.log), ERR_OK);
    lab_append(&lab, 2, 300);
    lab_flush(&lab);
    lab_check(&lab);
    lab_kill(&lab);
    lab_open(&lab, false);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_full_disk_refuses_appends_and_goes_on_when_there_is_room) /* R16 */
{
    lab_init(&lab, 15);
    lab.options.free_bytes_min = 16384;
    lab_open(&lab, false);
    sim_disk_set_capacity(lab.disk, 128 * 1024);
    err_t err;
    while ((err = lab_try_append(&lab, 2, 300)) == ERR_OK)
        lab_flush(&lab);
    ck_assert_int_eq(err, ERR_NOT_ENOUGH_SPACE);
    uint64_t left;
    ck_assert_int_eq(lab.view.env.free_bytes(lab.view.env.self, &left), ERR_OK);
    ck_assert_uint_ge(left, 8192); /* the floor, but for indexes and checkpoints */
    lab_model_cut(&lab, log_end(lab.log));
    lab_check(&lab); /* reads go on */
    ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
    ck_assert_int_eq(lab_try_append(&lab, 2, 300), ERR_NOT_ENOUGH_SPACE);
    lab_model_cut(&lab, log_end(lab.log));
    sim_disk_set_capacity(lab.disk, 0);
    ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
    lab_append(&lab, 2, 300);
    lab_flush(&lab);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

static err_t see(void *context, const struct batch_info *info, const uint8_t *batch)
{
    (void)context;
    (void)info;
    (void)batch;
    return ERR_OK;
}

/* Over some rolls, with the nth call of the disk that finds no room; false: there was none so late.
 */
static bool roll_with_failure(uint64_t nth)
{
    lab_init(&lab, 40);
    lab_open(&lab, false);
    faults_arm(FAULTS_DISK, nth, ERR_NOT_ENOUGH_SPACE);
    for (int i = 0; i < 60; i++) {
        err_t err = lab_try_append(&lab, 2, 200);
        if (err != ERR_OK) {
            ck_assert_int_eq(err, ERR_NOT_ENOUGH_SPACE);
            lab_model_cut(&lab, log_end(lab.log));
            ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
            lab_append(&lab, 2, 200);
        }
        log_flush(lab.log);
        lab_pump(&lab);
        if (lab.told_err != ERR_OK)
            break; /* a sync that finds no room ends the log (R14) */
    }
    bool met = faults_disarm();
    if (lab.told_err == ERR_OK) {
        lab_check(&lab);
        ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
        lab_power_cut(&lab);
        lab_open(&lab, false);
        lab_check(&lab);
        ck_assert_int_eq(log_walk(lab.log, 0, see, NULL), ERR_OK);
    }
    lab_fini(&lab);
    return met;
}

START_TEST(a_disk_that_is_full_at_any_step_of_a_roll_is_overcome) /* R16, R19 */
{
    uint64_t nth = 1;
    while (roll_with_failure(nth))
        nth++;
    ck_assert_uint_gt(nth, 100); /* else there were no rolls */
}
END_TEST

START_TEST(an_append_that_finds_no_room_costs_no_sync) /* R16 */
{
    lab_init(&lab, 41);
    lab.options.free_bytes_min = 16384;
    lab_open(&lab, false);
    sim_disk_set_capacity(lab.disk, 128 * 1024);
    while (lab_try_append(&lab, 2, 300) == ERR_OK)
        lab_flush(&lab);
    const uint64_t syncs = sim_disk_counters(lab.disk)->syncs;
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(lab_try_append(&lab, 2, 300), ERR_NOT_ENOUGH_SPACE);
        lab_model_cut(&lab, log_end(lab.log));
        /* As the replica does, which does not know what was begun (R19). */
        ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
    }
    ck_assert_uint_eq(sim_disk_counters(lab.disk)->syncs, syncs);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_metadata_log_appends_into_zeros_on_a_full_disk) /* R16, R24 */
{
    lab_init(&lab, 16);
    lab.options.written_zeros = true;
    lab.options.preallocate_bytes = 8192;
    lab.options.segment_bytes = 1 << 20;
    lab_open(&lab, false);
    lab_append(&lab, 1, 100);
    sim_disk_set_capacity(lab.disk, 1); /* not one block more */
    size_t appended = 0;
    while (lab_try_append(&lab, 1, 100) == ERR_OK) {
        appended++;
        lab_flush(&lab);
    }
    ck_assert_uint_ge(appended * lab.batches[0].len, 4096);
    lab_model_cut(&lab, log_end(lab.log));
    ck_assert_int_eq(log_truncate(lab.log, log_end(lab.log)), ERR_OK);
    ck_assert_int_eq(log_truncate(lab.log, 3), ERR_OK);
    lab_model_cut(&lab, 3);
    lab_append(&lab, 1, 100);
    lab_flush(&lab);
    lab_power_cut(&lab);
    lab_open(&lab, false);
    ck_assert_int_eq(log_end(lab.log), 4);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("log/full", a_failed_write_is_mended_by_truncation_to_the_old_end,
           a_full_disk_refuses_appends_and_goes_on_when_there_is_room,
           a_disk_that_is_full_at_any_step_of_a_roll_is_overcome,
           an_append_that_finds_no_room_costs_no_sync,
           the_metadata_log_appends_into_zeros_on_a_full_disk)
