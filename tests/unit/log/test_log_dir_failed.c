#include "log/log_dir.h"

#include <stdio.h>

#include "unit/log/log_lab.h"

static struct log_lab lab;

static uint64_t lab_random(void *self)
{
    (void)self;
    return 42;
}

/* A formatted directory with one log of several segments, which the manifest names; closed. */
static void setup(void)
{
    static const struct log_dir_meta meta = {
        .cluster_id = {{1}}, .directory_id = {{2}}, .node_id = 1};
    struct manifest *manifest;
    lab_init(&lab, 3);
    lab.env.random = lab_random;
    ck_assert_int_eq(log_dir_format(&lab.view.env, &meta), ERR_OK);
    lab_open(&lab, false);
    for (int i = 0; i < 40; i++)
        lab_append(&lab, 3, 200);
    lab_flush(&lab);
    ck_assert_int_eq(manifest_open(&lab.view.env, 0, &manifest), ERR_OK);
    ck_assert_int_eq(manifest_add(manifest, &(struct partition_id){lab.topic, 0}), ERR_OK);
    manifest_close(manifest);
    ck_assert_int_eq(log_checkpoint(lab.log), ERR_OK);
    lab_kill(&lab);
}

static bool is_failed(void)
{
    bool failed;
    ck_assert_int_eq(log_dir_is_failed(&lab.view.env, &failed), ERR_OK);
    return failed;
}

static bool take_verified(void)
{
    bool verified;
    ck_assert_int_eq(log_dir_take_verified(&lab.view.env, &verified), ERR_OK);
    return verified;
}

START_TEST(a_failed_directory_comes_back_by_verification_only_and_says_so_once)
{
    struct log_dir_verdict verdict;
    setup();
    ck_assert(!is_failed());
    ck_assert(!take_verified());
    log_dir_mark_failed(&lab.view.env);
    sim_disk_kill(lab.disk);
    ck_assert(is_failed());
    ck_assert_int_eq(log_dir_verify(&lab.env, &lab.view.env, &verdict), ERR_OK);
    ck_assert_uint_eq(verdict.logs, 1);
    ck_assert_uint_eq(verdict.corrupt, 0);
    ck_assert_uint_gt(verdict.bytes, 16384);
    sim_disk_power_cut(lab.disk);
    ck_assert(!is_failed());
    ck_assert(take_verified());
    sim_disk_power_cut(lab.disk);
    ck_assert(!take_verified()); /* an old note says nothing of a later failure */
    lab_open(&lab, false);
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(verification_reads_below_the_recovery_point_and_sets_rot_aside)
{
    struct log_dir_verdict verdict;
    struct log_dir_state state;
    setup();
    log_dir_mark_failed(&lab.view.env);
    ck_assert_int_eq(sim_disk_rot(lab.disk, "orders-0/00000000000000000000.log", 1000, 0x10),
                     ERR_OK);
    ck_assert_int_eq(log_dir_verify(&lab.env, &lab.view.env, &verdict), ERR_OK);
    ck_assert_uint_eq(verdict.corrupt, 1);
    sim_disk_power_cut(lab.disk);
    ck_assert_int_eq(log_dir_open(&lab.view.env, &state), ERR_OK);
    ck_assert_uint_eq(state.replica_count, 1);
    ck_assert_str_eq(state.replicas[0].folder, ""); /* LOST: named, and not there (R1) */
    log_dir_state_fini(&state);
    lab_fini(&lab);
}
END_TEST

START_TEST(verification_believes_the_disk_not_the_cache)
{
    struct log_dir_verdict verdict;
    setup();
    lab_open(&lab, false);
    offset_t before = log_end(lab.log);
    for (int i = 0; i < 4; i++)
        lab_append(&lab, 3, 200);
    sim_disk_fail_sync(lab.disk, 1);
    log_flush(lab.log);
    lab_pump(&lab);
    ck_assert_int_ne(lab.told_err, ERR_OK);
    log_dir_mark_failed(&lab.view.env);
    lab_kill(&lab); /* the pages are clean now, and hold what the disk does not */
    ck_assert_int_eq(log_dir_verify(&lab.env, &lab.view.env, &verdict), ERR_OK);
    ck_assert_uint_eq(verdict.corrupt, 0);
    sim_disk_power_cut(lab.disk);
    lab_open(&lab, false);
    ck_assert_int_ge(log_end(lab.log), before);
    lab_model_cut(&lab, log_end(lab.log));
    lab_check(&lab);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("log/log_dir_failed",
           a_failed_directory_comes_back_by_verification_only_and_says_so_once,
           verification_reads_below_the_recovery_point_and_sets_rot_aside,
           verification_believes_the_disk_not_the_cache)
