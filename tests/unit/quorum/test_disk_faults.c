/* One node of a quorum, on whose disk one call fails: it starts or says why not, it goes on or ends
 * itself, and started again it has what was acknowledged. */
#include "base/logger.h"
#include "lib/faults.h"
#include "unit/quorum/quorum_lab.h"

static struct lab *lab;
static struct faults_disk faulty;
static struct env_disk sound; /* as it was before it became faulty */

/* The disk of the node's quorum, from now to the end of its life. */
static void make_faulty(struct env *env)
{
    sound = env->disks[0];
    faults_disk_init(&faulty, &sound);
    env->disks[0] = faulty.env;
}

static void setup(uint64_t seed)
{
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    lab = lab_new(&(struct lab_options){.seed = seed,
                                        .voters = 3,
                                        .observers = 1,
                                        .snapshot_bytes = 1500,
                                        .trailing_bytes = 500,
                                        .segment_bytes = 4096});
    ck_assert(lab_run_until(lab, lab_has_active, 10000));
}

static void start_all(void)
{
    for (unsigned i = 0; i < lab->nodes; i++)
        if (lab->node[i].quorum == NULL)
            lab_start(lab, i);
}

static void check_healed(void)
{
    start_all();
    ck_assert(lab_run_until(lab, lab_agrees, 60000));
    for (unsigned i = 0; i < lab->nodes; i++)
        ck_assert(lab_keeps_acknowledged(lab, i));
}

/* ---- starts ---- */

static bool start_with_fault(unsigned node, uint64_t nth)
{
    struct lab_node *n = &lab->node[node];
    struct quorum *quorum;
    sim_host_boot(n->host, 2);
    make_faulty(sim_host_env(n->host, 1));
    faults_arm(FAULTS_DISK, nth, ERR_IO);
    err_t err = quorum_new(sim_host_env(n->host, 1), &n->config, &quorum);
    bool met = faults_disarm();
    n->host->dying = true;
    if (err == ERR_OK)
        quorum_free(quorum);
    else
        ck_assert(met);
    sim_disk_kill(n->disk);
    sim_host_stop(n->host);
    return met;
}

START_TEST(a_start_that_meets_a_failed_call_says_so_and_the_next_one_has_all)
{
    setup(11);
    for (int i = 0; i < 30; i++)
        (void)lab_commit(lab);
    static const unsigned nodes[] = {0, 3}; /* a voter, an observer */
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        uint64_t nth = 1;
        lab_stop(lab, nodes[i], true);
        while (start_with_fault(nodes[i], nth))
            nth++;
        ck_assert_uint_gt(nth, 10);
    }
    check_healed();
    lab_free(lab);
}
END_TEST

/* ---- lives ---- */

static void commit(int count)
{
    for (int i = 0; i < count; i++)
        (void)lab_commit(lab);
}

static bool live_with_fault(unsigned place, uint64_t nth, err_t err)
{
    setup(20 + place);
    unsigned node = place == 3 ? 3 : ((unsigned)lab_leader(lab) + place) % 3;
    make_faulty(sim_host_env(lab->node[node].host, 1));
    faults_arm(FAULTS_DISK, nth, err);
    commit(8);
    start_all(); /* it may have ended itself */
    lab_hand_over(lab, (unsigned)lab_leader(lab));
    lab_run_ms(lab, 300);
    commit(6);
    bool met = faults_disarm();
    check_healed();
    lab_free(lab);
    return met;
}

/* The first ones one by one, then sparser: the later are like those before. */
static void live_with_all_faults(unsigned place, err_t err)
{
    uint64_t nth = 1;
    while (live_with_fault(place, nth, err))
        nth += 1 + nth / 30;
    ck_assert_uint_gt(nth, 20);
}

START_TEST(a_leader_whose_disk_fails_once_loses_nothing_that_was_acknowledged)
{
    live_with_all_faults(0, ERR_IO);
    live_with_all_faults(0, ERR_NOT_ENOUGH_SPACE);
}
END_TEST

START_TEST(a_follower_whose_disk_fails_once_loses_nothing_that_was_acknowledged)
{
    live_with_all_faults(1, ERR_IO);
}
END_TEST

START_TEST(an_observer_whose_disk_fails_once_has_all_in_the_end)
{
    live_with_all_faults(3, ERR_IO);
}
END_TEST

CHECK_MAIN("quorum/disk_faults", a_start_that_meets_a_failed_call_says_so_and_the_next_one_has_all,
           a_leader_whose_disk_fails_once_loses_nothing_that_was_acknowledged,
           a_follower_whose_disk_fails_once_loses_nothing_that_was_acknowledged,
           an_observer_whose_disk_fails_once_has_all_in_the_end)
