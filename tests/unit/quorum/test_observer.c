#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

enum { OBSERVER = 3 };

static struct lab *lab_with_observer(const struct lab_options *more)
{
    struct lab_options options = *more;
    options.seed = check_main_seed();
    options.voters = 3;
    options.observers = 1;
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&options);
    lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 3000));
    return lab;
}

START_TEST(an_observer_has_what_is_committed_within_milliseconds)
{
    struct lab *lab = lab_with_observer(&(struct lab_options){0});
    for (unsigned i = 0; i < 20; i++) {
        unsigned command = lab_commit(lab);
        lab_run_ms(lab, 30); /* three hops of up to 4 ms, a flush */
        ck_assert(lab_image_has(lab->node[OBSERVER].image, command));
    }
    ck_assert(!lab->node[OBSERVER].leader.active_here);
    ck_assert_int_eq(lab->node[OBSERVER].leader.leader.node, lab_leader(lab));
    lab_free(lab);
}
END_TEST

START_TEST(an_observer_begins_with_what_is_on_its_disk)
{
    struct lab *lab = lab_with_observer(&(struct lab_options){.snapshot_bytes = 3000});
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 15; i++)
            lab_commit(lab);
        ck_assert(lab_run_until(lab, lab_agrees, 3000));
        lab_run_ms(lab, 50); /* its own flush */
        uint64_t index = lab_look(lab, OBSERVER).applied_index;
        lab_stop(lab, OBSERVER, true);
        lab_cut(lab, OBSERVER, true);
        lab_start(lab, OBSERVER);
        lab_run_ms(lab, 10);
        ck_assert_uint_eq(lab_look(lab, OBSERVER).applied_index, index);
        ck_assert(lab_keeps_acknowledged(lab, OBSERVER));
        lab_cut(lab, OBSERVER, false);
    }
    ck_assert_uint_gt(lab_look(lab, OBSERVER).snapshot_index, 0);
    lab_free(lab);
}
END_TEST

START_TEST(an_observer_far_behind_gets_a_snapshot_and_then_the_log)
{
    struct lab *lab = lab_with_observer(&(struct lab_options){
        .snapshot_bytes = 2000, .trailing_bytes = 100, .segment_bytes = 2048});
    lab_stop(lab, OBSERVER, false);
    for (unsigned i = 0; i < 80; i++)
        lab_commit(lab);
    lab_start(lab, OBSERVER);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    ck_assert_uint_ge(lab_look(lab, OBSERVER).snapshots_installed, 1);
    ck_assert(lab_keeps_acknowledged(lab, OBSERVER));
    uint64_t index = lab_look(lab, OBSERVER).applied_index;
    lab_stop(lab, OBSERVER, true); /* what was installed is durable */
    lab_start(lab, OBSERVER);
    lab_run_ms(lab, 3);
    ck_assert_uint_ge(lab_look(lab, OBSERVER).snapshot_index, 60);
    ck_assert_uint_le(lab_look(lab, OBSERVER).snapshot_index, index);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    lab_free(lab);
}
END_TEST

START_TEST(an_observer_leaves_a_voter_that_is_dead_or_cut_off)
{
    struct lab *lab = lab_with_observer(&(struct lab_options){0});
    for (unsigned voter = 0; voter < 3; voter++) {
        lab_stop(lab, voter, false);
        unsigned command = lab_commit(lab);
        lab_run_ms(lab, 2500);
        ck_assert(lab_image_has(lab->node[OBSERVER].image, command));
        lab_start(lab, voter);
        for (unsigned other = 0; other < 3; other++) /* it sees the observer, and no voter */
            if (other != voter)
                lab->cut[voter][other] = lab->cut[other][voter] = true;
        command = lab_commit(lab);
        lab_run_ms(lab, 2500);
        ck_assert(lab_image_has(lab->node[OBSERVER].image, command));
        lab_heal(lab);
        ck_assert(lab_run_until(lab, lab_agrees, 5000));
    }
    lab_free(lab);
}
END_TEST

/* R25: what differs is not cut, but stops the broker. */
START_TEST(an_observer_of_another_history_stops)
{
    struct lab *lab = lab_with_observer(&(struct lab_options){0});
    lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    uint64_t index = lab_look(lab, OBSERVER).last_index;
    lab_stop(lab, OBSERVER, false);
    for (unsigned i = 0; i < 3; i++) {
        lab_stop(lab, i, false);
        sim_disk_wipe(lab->node[i].disk);
        sim_host_boot(lab->node[i].host, 1);
        ck_assert_int_eq(
            quorum_format(sim_host_env(lab->node[i].host, 0), lab->node[i].config.bootstrap, 3),
            ERR_OK);
        sim_host_stop(lab->node[i].host);
    }
    memset(lab->digest_known, 0, sizeof lab->digest_known);
    for (unsigned i = 0; i < LAB_TERMS_MAX; i++)
        lab->leader_of[i] = -1;
    for (unsigned i = 0; i < 3; i++)
        lab_start(lab, i);
    while (lab_look(lab, 0).last_index <= index) { /* each election takes a term */
        ck_assert(lab_run_until(lab, lab_has_active, 5000));
        unsigned leader = (unsigned)lab_leader(lab);
        lab_stop(lab, leader, false);
        lab_run_ms(lab, 2000);
        lab_start(lab, leader);
        lab_run_ms(lab, 1000);
    }
    lab_start(lab, OBSERVER);
    lab_run_ms(lab, 3000);
    ck_assert_ptr_null(lab->node[OBSERVER].quorum);
    ck_assert_ptr_nonnull(strstr(lab->node[OBSERVER].stopped, "history"));
    lab_free(lab);
}
END_TEST

CHECK_MAIN("quorum/observer", an_observer_has_what_is_committed_within_milliseconds,
           an_observer_begins_with_what_is_on_its_disk,
           an_observer_far_behind_gets_a_snapshot_and_then_the_log,
           an_observer_leaves_a_voter_that_is_dead_or_cut_off, an_observer_of_another_history_stops)
