#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

START_TEST(a_single_voter_leads_at_once_and_acknowledges)
{
    struct lab *lab = lab_new(&(struct lab_options){.seed = check_main_seed(), .voters = 1});
    ck_assert(lab_run_until(lab, lab_has_active, 1000));
    for (unsigned i = 0; i < 20; i++)
        lab_commit(lab);
    ck_assert(lab_keeps_acknowledged(lab, 0));
    ck_assert(lab->node[0].leader.active_here);
    ck_assert_int_eq(lab->node[0].leader.leader.node, 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_single_voter_has_all_again_after_a_power_cut)
{
    struct lab *lab = lab_new(&(struct lab_options){.seed = check_main_seed(), .voters = 1});
    for (unsigned round = 0; round < 5; round++) {
        for (unsigned i = 0; i < 37; i++)
            lab_commit(lab);
        lab_stop(lab, 0, true);
        lab_start(lab, 0);
        ck_assert(lab_run_until(lab, lab_has_active, 1000));
        ck_assert(lab_keeps_acknowledged(lab, 0));
    }
    lab_free(lab);
}
END_TEST

START_TEST(three_voters_elect_one_and_agree)
{
    struct lab *lab = lab_new(&(struct lab_options){.seed = check_main_seed(), .voters = 3});
    for (unsigned i = 0; i < 20; i++)
        lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 2000));
    lab_free(lab);
}
END_TEST

/* Some 700 KiB of image: three pieces, for a voter and for an observer. */
START_TEST(a_large_snapshot_comes_in_pieces)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = check_main_seed(),
                                                    .voters = 3,
                                                    .observers = 1,
                                                    .snapshot_bytes = 200000,
                                                    .trailing_bytes = 1000,
                                                    .segment_bytes = 65536});
    lab_commit(lab);
    unsigned behind = ((unsigned)lab_leader(lab) + 1) % 3;
    lab_stop(lab, behind, false);
    lab_stop(lab, 3, false);
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 500; j++)
            (void)lab_command(lab, (unsigned)lab_leader(lab));
        lab_run_ms(lab, 200);
    }
    lab_commit(lab);
    lab_start(lab, behind);
    lab_start(lab, 3);
    ck_assert(lab_run_until(lab, lab_agrees, 20000));
    ck_assert_uint_ge(lab_look(lab, behind).snapshots_installed, 1);
    ck_assert_uint_ge(lab_look(lab, 3).snapshots_installed, 1);
    ck_assert(lab_keeps_acknowledged(lab, behind));
    ck_assert(lab_keeps_acknowledged(lab, 3));
    ck_assert_uint_gt(image_broker_count(lab->node[3].image), 3900);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("quorum/cluster", a_large_snapshot_comes_in_pieces,
           a_single_voter_leads_at_once_and_acknowledges,
           a_single_voter_has_all_again_after_a_power_cut, three_voters_elect_one_and_agree)
