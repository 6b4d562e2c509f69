/* A majority of the voters is gone for good, and a person says that the cluster goes on with what
 * one node has. */
#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

enum { VOTER = 1 };

static struct lab *lab_of(uint64_t seed, uint64_t snapshot_bytes)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = seed,
                                                    .voters = 3,
                                                    .observers = 2,
                                                    .snapshot_bytes = snapshot_bytes,
                                                    .trailing_bytes = snapshot_bytes / 4,
                                                    .segment_bytes = 4096});
    for (unsigned i = 0; i < 20; i++)
        lab_commit(lab);
    for (unsigned i = 0; i < 5; i++)
        lab_register(lab, i);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    return lab;
}

static err_t recover(struct lab *lab, unsigned node, bool confirmed, struct quorum_recovery *ret)
{
    struct lab_node *n = &lab->node[node];
    sim_host_boot(n->host, 2);
    err_t err = quorum_recover(sim_host_env(n->host, 1), &n->config, confirmed, ret);
    sim_disk_kill(n->disk);
    sim_host_stop(n->host);
    return err;
}

/* The digests that the lab knows by offset are of the old quorum. */
static bool voters_are(const struct lab *lab, unsigned count)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < lab->nodes; i++)
        voters += lab_role(lab, (unsigned)lab_leader(lab), i) == VOTER;
    return voters == count;
}

static void goes_on(struct lab *lab, unsigned survivor)
{
    lab_start(lab, survivor);
    lab_commit(lab);
    ck_assert_int_eq(lab_leader(lab), (int)survivor);
    ck_assert(lab_run_until(lab, lab_agrees, 10000));
    for (unsigned i = 0; i < lab->nodes; i++)
        ck_assert(lab->node[i].quorum == NULL || lab_keeps_acknowledged(lab, i));
    ck_assert(voters_are(lab, 1));
}

START_TEST(one_voter_goes_on_and_the_others_follow_it)
{
    struct lab *lab = lab_of(check_main_seed(), 2000);
    struct quorum_recovery recovery;
    unsigned survivor = ((unsigned)lab_leader(lab) + 1) % 3;
    unsigned back = (survivor + 1) % 3;
    uint64_t last = lab_look(lab, survivor).last_index;
    for (unsigned i = 0; i < 3; i++)
        lab_stop(lab, i, true);
    ck_assert_int_eq(recover(lab, survivor, false, &recovery), ERR_OK);
    ck_assert_uint_eq(recovery.index, last);
    ck_assert_uint_eq(recovery.voters, 3);
    ck_assert_int_eq(recover(lab, survivor, true, &recovery), ERR_OK);
    goes_on(lab, survivor); /* with both observers, which have never stopped */
    ck_assert_int_eq(lab_change(lab, WIRE_ADD_VOTER, 3, 8000), ERR_OK);
    /* A voter of the old quorum comes back: it knows no leader, asks, and follows. */
    lab_start(lab, back);
    ck_assert(lab_run_until(lab, lab_agrees, 20000));
    ck_assert(!lab_look(lab, back).voter);
    ck_assert(lab_keeps_acknowledged(lab, back));
    ck_assert_int_eq(lab_change(lab, WIRE_ADD_VOTER, back, 8000), ERR_OK);
    ck_assert(voters_are(lab, 3));
    lab_stop(lab, survivor, true);
    lab_commit(lab);
    lab_free(lab);
}
END_TEST

/* Nothing that was acknowledged is lost where an observer had it; its own node leads then. */
START_TEST(an_observer_can_be_what_is_left)
{
    struct lab *lab = lab_of(check_main_seed(), 0);
    struct quorum_recovery recovery;
    for (unsigned i = 0; i < 4; i++)
        lab_stop(lab, i, true);
    ck_assert_int_eq(recover(lab, 3, true, &recovery), ERR_OK);
    lab_stop(lab, 4, false);
    goes_on(lab, 3);
    lab_free(lab);
}
END_TEST

START_TEST(a_node_without_metadata_recovers_nothing)
{
    struct lab *lab = lab_of(check_main_seed(), 0);
    struct quorum_recovery recovery;
    lab_stop(lab, 4, true);
    sim_disk_wipe(lab->node[4].disk);
    ck_assert_int_eq(recover(lab, 4, true, &recovery), ERR_NOT_FOUND);
    lab->node[3].config.cluster_id.b[0] ^= 1;
    lab_stop(lab, 3, true);
    ck_assert_int_eq(recover(lab, 3, true, &recovery), ERR_INCONSISTENT_CLUSTER_ID);
    lab_free(lab);
}
END_TEST

/* The power goes at each change of the disk: it is as it was then, or done, and is done again. */
START_TEST(a_recovery_that_is_cut_short_is_done_again)
{
    uint64_t seed = check_main_seed();
    bool cut = true;
    for (unsigned nth = 1; nth < 200 && cut; nth++) {
        struct lab *lab = lab_of(seed, nth % 2 == 0 ? 0 : 1500);
        struct quorum_recovery recovery;
        for (unsigned i = 0; i < 3; i++)
            lab_stop(lab, i, true);
        struct lab_node *node = &lab->node[0];
        sim_host_boot(node->host, 2);
        sim_disk_freeze_at(node->disk, sim_disk_counters(node->disk)->operations + nth);
        (void)quorum_recover(sim_host_env(node->host, 1), &node->config, true, &recovery);
        cut = sim_disk_frozen(node->disk);
        sim_disk_power_cut(node->disk);
        sim_host_stop(node->host);
        ck_assert_int_eq(recover(lab, 0, true, &recovery), ERR_OK);
        goes_on(lab, 0);
        lab_free(lab);
    }
    ck_assert(!cut);
}
END_TEST

CHECK_MAIN("quorum/recover", one_voter_goes_on_and_the_others_follow_it,
           an_observer_can_be_what_is_left, a_node_without_metadata_recovers_nothing,
           a_recovery_that_is_cut_short_is_done_again)
