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

CHECK_MAIN("quorum/cluster", a_single_voter_leads_at_once_and_acknowledges,
           a_single_voter_has_all_again_after_a_power_cut, three_voters_elect_one_and_agree)
