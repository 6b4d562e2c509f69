/* Histories written out by hand, in which stock libraft 0.15 loses its way with a configuration,
 * and the guard keeps it (raft_membership.c). In the build with canaries each is played a second
 * time with its rule left out: then it must break. */
#include "base/logger.h"
#include "quorum/internal.h"
#include "unit/quorum/quorum_lab.h"

enum { STANDBY = 0, VOTER = 1, TIMEOUT_MS = 8000, APPEND_ENTRIES = 1, APPENDED = 2 };

/* What node "from" appends above the limit reaches "only" alone, which may not say that it did. */
struct steer {
    unsigned from, only;
    uint64_t limit;
    bool silent;
};

static bool steer_filter(struct lab *lab, unsigned from, unsigned to,
                         const Karst__RaftMessage *raft)
{
    const struct steer *steer = lab->data;
    if (steer->silent && from == steer->only && raft->type == APPENDED && raft->rejected == 0 &&
        raft->last_log_index > steer->limit)
        return false;
    return from != steer->from || to == steer->only || raft->type != APPEND_ENTRIES ||
           raft->prev_log_index + raft->n_entries <= steer->limit;
}

static struct lab *lab_of(unsigned voters, uint64_t snapshot_bytes)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = 11,
                                                    .voters = voters,
                                                    .observers = 1,
                                                    .snapshot_bytes = snapshot_bytes,
                                                    .trailing_bytes = 1,
                                                    .segment_bytes = 2048});
    for (unsigned i = 0; i < 3; i++)
        lab_commit(lab);
    lab_register(lab, voters);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    return lab;
}

static unsigned servers_in_force(const struct lab *lab, unsigned node)
{
    return lab->node[node].quorum->raft.configuration.n;
}

static void ask_to_add(struct lab *lab, unsigned leader, unsigned node)
{
    lab->change_offset = image_offset(lab->node[leader].image);
    lab_ask_change(lab, leader, WIRE_ADD_VOTER, node, TIMEOUT_MS);
}

/* The others keep their entries, so that they need not send snapshots. */
static void only_snapshots(struct lab *lab, unsigned node)
{
    for (unsigned i = 0; i < lab->nodes; i++)
        if (i != node)
            lab->node[i].config.snapshot_bytes = 0;
}

/* A leader has a change that nobody else has, and is restarted or only cut off; the others go on
 * without it. True: afterwards it still believes in its own configuration. */
static bool rollback_history(bool restart, uint64_t snapshot_bytes)
{
    struct lab *lab = lab_of(3, snapshot_bytes);
    unsigned leader = (unsigned)lab_leader(lab);
    uint64_t base = lab_look(lab, leader).last_index;
    struct steer steer = {.from = leader, .only = leader, .limit = base};
    only_snapshots(lab, leader);
    lab->data = &steer;
    lab->filter = steer_filter;
    ask_to_add(lab, leader, 3);
    lab_run_ms(lab, 60);
    ck_assert_uint_eq(lab_look(lab, leader).last_index, base + 1);
    ck_assert_uint_eq(servers_in_force(lab, leader), 4);
    if (restart)
        lab_stop(lab, leader, true);
    else
        lab_cut(lab, leader, true);
    lab_run_ms(lab, 2000);
    lab_commit(lab);
    ck_assert_int_ne(lab_leader(lab), (int)leader);
    if (restart)
        lab_start(lab, leader);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 10000));
    ck_assert_uint_ge(lab_look(lab, leader).truncations, 1);
    bool lost = servers_in_force(lab, leader) != 3;
    if (!lost) {
        ck_assert_int_eq(lab_change(lab, WIRE_ADD_VOTER, 3, TIMEOUT_MS), ERR_OK);
        ck_assert(lab_run_until(lab, lab_agrees, 5000));
        ck_assert_uint_eq(servers_in_force(lab, leader), 4);
    }
    lab_free(lab);
    return lost;
}

static bool rollback_after_restart(void)
{
    return rollback_history(true, 0);
}

/* The promotion of node 3 is known to two of three voters, and one of these dies at once. Of the
 * four that vote now three are alive; but node 3 has not heard that it does. True: nobody leads. */
static bool vote_history(void)
{
    struct lab *lab = lab_of(3, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    unsigned knows = (leader + 1) % 3;
    struct steer steer = {.from = leader, .only = knows, .limit = UINT64_MAX};
    ask_to_add(lab, leader, 3);
    for (unsigned ms = 0; ms < 2000 && lab_role(lab, leader, 3) != STANDBY; ms++)
        lab_run_ms(lab, 1);
    ck_assert_int_eq(lab_role(lab, leader, 3), STANDBY);
    steer.limit = lab_look(lab, leader).last_index;
    lab->data = &steer;
    lab->filter = steer_filter;
    for (unsigned ms = 0; ms < 2000 && lab_look(lab, knows).last_index <= steer.limit; ms++)
        lab_run_ms(lab, 1);
    ck_assert_uint_eq(lab_look(lab, knows).last_index, steer.limit + 1);
    lab_run_ms(lab, 10); /* its flush */
    ck_assert_int_eq(lab_role(lab, leader, 3), STANDBY);
    lab_stop(lab, leader, true);
    lab_heal(lab);
    bool stuck = !lab_run_until(lab, lab_has_active, 20000);
    lab_start(lab, leader);
    lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 3), VOTER);
    lab_free(lab);
    return stuck;
}

/* A follower takes a snapshot while a change behind it is in its log, and not committed. True: the
 * snapshot tells that change, after the log has lost it. */
static bool snapshot_history(void)
{
    struct lab *lab = lab_of(5, 1); /* each entry is worth a snapshot */
    unsigned leader = (unsigned)lab_leader(lab);
    unsigned follower = (leader + 1) % 5;
    only_snapshots(lab, follower);
    lab_cut(lab, follower, true);
    lab_commit(lab);
    uint64_t base = lab_look(lab, leader).last_index;
    struct steer steer = {.from = leader, .only = follower, .limit = base, .silent = true};
    lab->data = &steer;
    lab->filter = steer_filter;
    ask_to_add(lab, leader, 5);
    lab_run_ms(lab, 30);
    ck_assert_uint_eq(lab_look(lab, leader).last_index, base + 1);
    lab_cut(lab, follower, false);
    for (unsigned ms = 0; ms < 1000 && lab_look(lab, follower).snapshot_index != base; ms++)
        lab_run_ms(lab, 1);
    ck_assert_uint_eq(lab_look(lab, follower).snapshot_index, base);
    ck_assert_uint_eq(lab_look(lab, follower).last_index, base + 1);
    lab_stop(lab, leader, true);
    lab_stop(lab, follower, true);
    lab_commit(lab);
    lab_start(lab, follower);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 10000));
    bool wrong = servers_in_force(lab, follower) != 5;
    lab_free(lab);
    return wrong;
}

START_TEST(a_change_that_was_not_committed_is_forgotten_after_a_restart)
{
    ck_assert(!rollback_after_restart());
    lab_must_break(rollback_after_restart, "quorum_no_configuration");
}
END_TEST

/* Upstream reads at NULL here: the entry of the configuration before is behind a snapshot. */
START_TEST(a_change_that_was_not_committed_is_forgotten_behind_a_snapshot)
{
    ck_assert(!rollback_history(false, 1));
    ck_assert(!rollback_history(true, 1));
    ck_assert(!rollback_history(false, 0));
}
END_TEST

START_TEST(one_that_was_just_promoted_votes_before_it_knows)
{
    ck_assert(!vote_history());
    lab_must_break(vote_history, "quorum_spares_refuse_votes");
}
END_TEST

START_TEST(a_snapshot_tells_the_configuration_of_its_index)
{
    ck_assert(!snapshot_history());
    lab_must_break(snapshot_history, "quorum_snapshot_newest_configuration");
}
END_TEST

CHECK_MAIN("quorum/membership", a_change_that_was_not_committed_is_forgotten_after_a_restart,
           a_change_that_was_not_committed_is_forgotten_behind_a_snapshot,
           one_that_was_just_promoted_votes_before_it_knows,
           a_snapshot_tells_the_configuration_of_its_index)
