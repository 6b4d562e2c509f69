/* Histories written out by hand, in which stock libraft 0.15 breaks a promise of raft, and the
 * guard keeps it. In the build with canaries each is played a second time with its rule left out:
 * then it must break. */
#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

enum { VOTES = 1, APPENDS = 2, RESULTS = 4, ALL = 7 };

/* What may pass between whom. */
struct steer {
    unsigned char allow[LAB_NODES_MAX][LAB_NODES_MAX];
    uint64_t index_max;                            /* appends speak of no index above it */
    bool empty_once[LAB_NODES_MAX][LAB_NODES_MAX]; /* the next append without entries passes */
    bool keep[LAB_NODES_MAX][LAB_NODES_MAX];       /* results are kept back, the last one in kept */
    Karst__RaftMessage kept;
    bool has_kept;
};

static bool steer_filter(struct lab *lab, unsigned from, unsigned to,
                         const Karst__RaftMessage *raft)
{
    struct steer *steer = lab->data;
    unsigned char allow = steer->allow[from][to];
    switch (raft->type) {
    case 1: /* AppendEntries */
        if (steer->empty_once[from][to] && raft->n_entries == 0) {
            steer->empty_once[from][to] = false;
            return true;
        }
        return (allow & APPENDS) && raft->prev_log_index + raft->n_entries <= steer->index_max;
    case 2: /* its result */
        if (!steer->keep[from][to])
            return allow & RESULTS;
        if (raft->rejected == 0) {
            steer->kept = *raft; /* it has no pointers */
            steer->has_kept = true;
        }
        return false;
    case 3:
    case 4:
        return allow & VOTES;
    default:
        return false;
    }
}

static void steer_between(struct steer *steer, unsigned a, unsigned b, unsigned char what)
{
    steer->allow[a][b] = steer->allow[b][a] = what;
}

static void steer_nothing(struct steer *steer)
{
    *steer = (struct steer){.index_max = UINT64_MAX};
}

/* All but node lose what they send; voters vote for it. */
static void elect(struct lab *lab, unsigned node, const unsigned *voters, unsigned count)
{
    struct steer *steer = lab->data;
    for (unsigned i = 0; i < count; i++)
        steer->allow[node][voters[i]] |= VOTES, steer->allow[voters[i]][node] |= VOTES;
    for (unsigned ms = 0; ms < 30000 && !lab_look(lab, node).leader; ms++)
        lab_run_ms(lab, 1);
    ck_assert_msg(lab_look(lab, node).leader, "node %u is not elected", node);
}

static void nobody_hears(struct lab *lab, unsigned leader)
{
    steer_nothing(lab->data);
    for (unsigned ms = 0; ms < 30000 && lab_look(lab, leader).leader; ms++)
        lab_run_ms(lab, 1);
    ck_assert(!lab_look(lab, leader).leader);
}

/* Five voters that agree, then silence: nobody leads. */
static struct lab *silent_lab(struct steer *steer, uint32_t message_bytes)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab =
        lab_new(&(struct lab_options){.seed = 7, .voters = 5, .message_bytes = message_bytes});
    for (unsigned i = 0; i < 3; i++)
        lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    steer_nothing(steer);
    lab->data = steer;
    lab->filter = steer_filter;
    nobody_hears(lab, (unsigned)lab_leader(lab));
    return lab;
}

static bool applied_command(const struct lab *lab, unsigned node, unsigned command)
{
    return lab_image_has(lab->node[node].image, command);
}

static bool leader_agrees_with_itself(struct lab *lab)
{
    int leader = lab_leader(lab);
    return leader >= 0 && lab_look(lab, (unsigned)leader).applied_index ==
                              lab_look(lab, (unsigned)leader).last_index;
}

/* clamp: node 1 has entries of its own behind what all have. A new leader's first heartbeat speaks
 * only of what all have; the answer must not speak of more. True: an acknowledged command is lost.
 */
static bool clamp_history(void)
{
    struct steer steer;
    struct lab *lab = silent_lab(&steer, 0);
    lab->tolerate = true;
    uint64_t base = lab_look(lab, 2).last_index;
    const unsigned all[] = {0, 2, 3, 4};
    for (unsigned i = 0; i < 4; i++) {
        elect(lab, 1, all, 4);
        nobody_hears(lab, 1);
    }
    ck_assert_uint_eq(lab_look(lab, 1).last_index, base + 4);

    steer_between(&steer, 2, 3, ALL);
    steer_between(&steer, 2, 4, ALL);
    steer.empty_once[2][1] = true;
    steer.keep[1][2] = true;
    const unsigned pair[] = {3, 4};
    elect(lab, 2, pair, 2);
    ck_assert(lab_run_until(lab, lab_has_active, 2000));
    lab_run_ms(lab, 200);
    ck_assert(steer.has_kept);
    ck_assert_uint_lt(lab_look(lab, 2).last_index, base + 4);

    steer_between(&steer, 2, 3, 0); /* node 3 will not have it */
    unsigned command = lab_command(lab, 2);
    lab_run_ms(lab, 30);
    ck_assert_int_eq(lab->outcome[command], ERR_BUSY);
    lab_inject(lab, 1, 2, &steer.kept);
    lab_run_ms(lab, 50);
    bool acknowledged = lab->outcome[command] == ERR_OK;

    lab_stop(lab, 2, false);
    lab_stop(lab, 4, false);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, leader_agrees_with_itself, 10000));
    bool lost = acknowledged && !applied_command(lab, (unsigned)lab_leader(lab), command);
    lab_free(lab);
    return lost;
}

/* hold: figure 8 of the paper. True: a leader applied an entry of an older term, which then was
 * replaced. */
static bool hold_history(void)
{
    struct steer steer;
    struct lab *lab = silent_lab(&steer, 64); /* one command fills an append */
    lab->tolerate = true;
    const unsigned all[] = {1, 2, 3, 4};
    /* (a) node 0 leads, and writes a command to itself and node 1. */
    for (unsigned i = 1; i < 5; i++)
        steer_between(&steer, 0, i, ALL);
    elect(lab, 0, all, 4);
    ck_assert(lab_run_until(lab, lab_has_active, 2000));
    lab_run_ms(lab, 300);
    uint64_t base = lab_look(lab, 0).last_index;
    ck_assert_uint_eq(lab_look(lab, 4).last_index, base);
    for (unsigned i = 2; i < 5; i++)
        steer_between(&steer, 0, i, 0);
    unsigned command = lab_command(lab, 0);
    lab_run_ms(lab, 50);
    ck_assert_uint_eq(lab_look(lab, 1).last_index, base + 1);
    nobody_hears(lab, 0);
    /* (b) node 4 leads, and writes only to itself. */
    const unsigned second[] = {2, 3};
    elect(lab, 4, second, 2);
    lab_run_ms(lab, 20);
    ck_assert_uint_eq(lab_look(lab, 4).last_index, base + 1);
    lab_stop(lab, 4, false);
    steer_nothing(&steer);
    /* (c) node 0 leads again, with a slow disk, and brings the old command to node 2. */
    sim_disk_slow(lab->node[0].disk, 1000);
    steer.index_max = base + 1;
    steer_between(&steer, 0, 1, ALL);
    steer_between(&steer, 0, 2, ALL);
    const unsigned third[] = {1, 2};
    elect(lab, 0, third, 2);
    for (unsigned ms = 0; ms < 400 && lab_look(lab, 2).last_index == base; ms++)
        lab_run_ms(lab, 1);
    ck_assert_uint_eq(lab_look(lab, 2).last_index, base + 1);
    lab_run_ms(lab, 20);
    bool applied = applied_command(lab, 0, command);
    /* (d) node 4 leads: its entry is newer. */
    lab_stop(lab, 0, true);
    lab_stop(lab, 1, true);
    lab_heal(lab);
    lab_start(lab, 4);
    bool agrees = lab_run_until(lab, leader_agrees_with_itself, 10000);
    /* Where the command was committed, node 2 has seen both, and stops. */
    ck_assert(agrees || (applied && lab->node[2].quorum == NULL));
    bool replaced = !agrees || !applied_command(lab, 4, command);
    ck_assert(replaced);
    lab_free(lab);
    return applied && replaced;
}

/* commit clamp: node 1 led, and has a command that nobody else has; a late message of the next
 * leader speaks of the entry before it, and of a commit index beyond. True: node 1 applied its own
 * command. */
static bool commit_clamp_history(void)
{
    struct steer steer;
    struct lab *lab = silent_lab(&steer, 0);
    lab->tolerate = true;
    const unsigned all[] = {0, 2, 3, 4};
    for (unsigned i = 0; i < 4; i++)
        steer_between(&steer, 1, all[i], ALL);
    elect(lab, 1, all, 4);
    ck_assert(lab_run_until(lab, lab_has_active, 2000));
    lab_run_ms(lab, 300);
    uint64_t base = lab_look(lab, 1).last_index;
    uint64_t base_term = lab_look(lab, 1).term;
    ck_assert_uint_eq(lab_look(lab, 2).last_index, base);
    steer_nothing(&steer);
    unsigned command = lab_command(lab, 1);
    lab_run_ms(lab, 30);
    ck_assert_uint_eq(lab_look(lab, 1).last_index, base + 1);
    nobody_hears(lab, 1);

    steer_between(&steer, 2, 3, ALL);
    steer_between(&steer, 2, 4, ALL);
    const unsigned pair[] = {3, 4};
    elect(lab, 2, pair, 2);
    lab_run_ms(lab, 300);
    ck_assert_uint_gt(lab_look(lab, 2).commit_index, base);
    uint8_t zeros[8] = {0};
    Karst__RaftEntry entry = KARST__RAFT_ENTRY__INIT;
    entry.term = base_term;
    entry.type = 2;
    entry.data = (ProtobufCBinaryData){sizeof zeros, zeros};
    Karst__RaftEntry *entries[] = {&entry};
    Karst__RaftMessage late = KARST__RAFT_MESSAGE__INIT;
    late.type = 1;
    late.from = 2;
    late.to = 1;
    late.term = lab_look(lab, 2).term;
    late.has_prev_log_index = late.has_prev_log_term = late.has_leader_commit = true;
    late.prev_log_index = base - 1;
    late.prev_log_term = quorum_entry_term(lab->node[2].quorum, base - 1);
    late.leader_commit = lab_look(lab, 2).commit_index;
    late.n_entries = 1;
    late.entries = entries;
    lab_inject(lab, 2, 1, &late);
    lab_run_ms(lab, 50);
    ck_assert_uint_ge(lab_look(lab, 1).commit_index, base);
    bool applied = applied_command(lab, 1, command);
    lab_free(lab);
    return applied;
}

/* For ms: leader goes on hearing of node voter, which gets nothing; and follower of the leader,
 * which is told only of the entry at index. */
static void sustain(struct lab *lab, unsigned leader, unsigned voter, unsigned follower,
                    uint64_t index, unsigned ms)
{
    Karst__RaftMessage heartbeat = KARST__RAFT_MESSAGE__INIT;
    heartbeat.type = 1;
    heartbeat.from = (int32_t)leader;
    heartbeat.to = (int32_t)follower;
    heartbeat.term = lab_look(lab, leader).term;
    heartbeat.has_prev_log_index = heartbeat.has_prev_log_term = true;
    heartbeat.prev_log_index = index;
    heartbeat.prev_log_term = quorum_entry_term(lab->node[leader].quorum, index);
    for (unsigned i = 0; i < ms; i += 50) {
        lab_contact(lab, leader, voter);
        lab_inject(lab, leader, follower, &heartbeat);
        lab_run_ms(lab, 50);
    }
}

/* stale result: node 3 writes slowly what an old leader (node 1, with entries of its own) sent it;
 * a new leader comes meanwhile; the result of the old request must not go to the new leader. True:
 * an acknowledged command is lost. */
static bool stale_history(void)
{
    struct steer steer;
    struct lab *lab = silent_lab(&steer, 0);
    lab->tolerate = true;
    uint64_t base = lab_look(lab, 2).last_index;
    const unsigned all[] = {0, 2, 3, 4};
    for (unsigned i = 0; i < 3; i++) {
        elect(lab, 1, all, 4);
        nobody_hears(lab, 1);
    }
    sim_disk_slow(lab->node[3].disk, 3000);
    steer_between(&steer, 1, 3, ALL);
    elect(lab, 1, all, 4);
    for (unsigned ms = 0; ms < 400 && lab_look(lab, 3).last_index == base; ms++)
        lab_run_ms(lab, 1);
    ck_assert_uint_ge(lab_look(lab, 3).last_index, base + 4); /* written, not flushed */
    steer_nothing(&steer);

    steer_between(&steer, 2, 0, ALL);
    steer_between(&steer, 2, 4, ALL);
    const unsigned pair[] = {0, 4};
    elect(lab, 2, pair, 2);
    ck_assert(lab_run_until(lab, lab_has_active, 1000));
    lab_run_ms(lab, 30);
    ck_assert_uint_lt(lab_look(lab, 2).last_index, base + 4);
    steer_between(&steer, 2, 0, 0); /* node 0 will not have it */
    steer.allow[3][2] = RESULTS;
    unsigned command = lab_command(lab, 2);
    for (unsigned s = 0; s < 12 && lab->outcome[command] == ERR_BUSY; s++)
        sustain(lab, 2, 0, 3, base, 1000); /* the flush ends */
    bool acknowledged = lab->outcome[command] == ERR_OK;

    lab_stop(lab, 2, false);
    lab_stop(lab, 4, false);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, leader_agrees_with_itself, 100000));
    bool lost = acknowledged && !applied_command(lab, (unsigned)lab_leader(lab), command);
    lab_free(lab);
    return lost;
}

/* own-term entry: a new leader that is asked nothing. True: it wrote no entry of its term. */
static bool own_term_history(void)
{
    struct steer steer;
    struct lab *lab = silent_lab(&steer, 0);
    lab->tolerate = true;
    lab_heal(lab);
    ck_assert(lab_run_until(lab, leader_agrees_with_itself, 5000));
    struct quorum_view view = lab_look(lab, (unsigned)lab_leader(lab));
    bool none =
        quorum_entry_term(lab->node[view.leader_node].quorum, view.commit_index) != view.term;
    lab_free(lab);
    return none;
}

/* A late or cautious leader's append to a follower, that begins count entries before index. */
static void append_from(struct lab *lab, unsigned leader, unsigned follower, uint64_t previous,
                        unsigned count)
{
    struct quorum *quorum = lab->node[leader].quorum;
    uint8_t zeros[8] = {0};
    Karst__RaftEntry entries[64];
    Karst__RaftEntry *pointers[64];
    Karst__RaftMessage message = KARST__RAFT_MESSAGE__INIT;
    message.type = 1;
    message.from = (int32_t)leader;
    message.to = (int32_t)follower;
    message.term = lab_look(lab, leader).term;
    message.has_prev_log_index = message.has_prev_log_term = true;
    message.prev_log_index = previous;
    message.prev_log_term = previous == 0 ? 0 : 1;
    ck_assert_uint_le(count, 64);
    for (unsigned i = 0; i < count; i++) {
        uint64_t term = quorum_entry_term(quorum, previous + 1 + i);
        entries[i] = (Karst__RaftEntry)KARST__RAFT_ENTRY__INIT;
        entries[i].term = term == 0 ? 1 : term;
        if (previous + 1 + i > lab_look(lab, leader).last_index)
            entries[i].term = message.term;
        entries[i].type = 2;
        entries[i].data = (ProtobufCBinaryData){sizeof zeros, zeros};
        pointers[i] = &entries[i];
    }
    message.n_entries = count;
    message.entries = pointers;
    lab_inject(lab, leader, follower, &message);
    lab_run_ms(lab, 15);
}

/* covered: a follower that has a snapshot and nothing before it. True: it refuses what follows on
 * an entry inside of the snapshot, or takes entry 1 for its next one. */
static bool covered_history(void)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = 11,
                                                    .voters = 3,
                                                    .snapshot_bytes = 2000,
                                                    .trailing_bytes = 100,
                                                    .segment_bytes = 2048});
    lab_commit(lab);
    unsigned follower = ((unsigned)lab_leader(lab) + 1) % 3;
    lab_stop(lab, follower, false);
    for (unsigned i = 0; i < 40; i++)
        lab_commit(lab);
    lab_start(lab, follower);
    for (unsigned ms = 0; ms < 10000 && lab_look(lab, follower).snapshots_installed == 0; ms++)
        lab_run_ms(lab, 1);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    lab->tolerate = true; /* entries that nobody wrote */
    unsigned leader = (unsigned)lab_leader(lab);
    lab_cut(lab, follower, true);
    struct quorum_view view = lab_look(lab, follower);
    uint64_t previous = view.snapshot_index - 3;
    append_from(lab, leader, follower, previous, (unsigned)(view.last_index + 1 - previous));
    bool refused = lab_look(lab, follower).last_index != view.last_index + 1;
    if (!refused) { /* else this would crash it */
        append_from(lab, leader, follower, 0, 3);
        append_from(lab, leader, follower, previous, 1);
        ck_assert_uint_eq(lab_look(lab, follower).last_index, view.last_index + 1);
        ck_assert_uint_eq(lab_look(lab, follower).covered, 3);
    }
    lab_free(lab);
    return refused;
}

START_TEST(an_answer_speaks_of_what_the_request_spoke_of)
{
    ck_assert(!clamp_history());
    lab_must_break(clamp_history, "quorum_no_clamp");
}
END_TEST

START_TEST(an_entry_of_an_older_term_is_not_committed_by_counting)
{
    ck_assert(!hold_history());
    lab_must_break(hold_history, "quorum_no_hold");
}
END_TEST

START_TEST(a_follower_commits_only_what_was_compared)
{
    ck_assert(!commit_clamp_history());
    lab_must_break(commit_clamp_history, "quorum_no_commit_clamp");
}
END_TEST

START_TEST(a_result_of_an_old_request_does_not_go_to_the_next_leader)
{
    ck_assert(!stale_history());
    lab_must_break(stale_history, "quorum_no_stale");
}
END_TEST

START_TEST(a_new_leader_writes_an_entry_of_its_term)
{
    ck_assert(!own_term_history());
    lab_must_break(own_term_history, "quorum_no_own_term");
}
END_TEST

START_TEST(what_follows_on_the_inside_of_a_snapshot_is_taken)
{
    ck_assert(!covered_history());
    lab_must_break(covered_history, "quorum_no_covered");
}
END_TEST

CHECK_MAIN("quorum/guard", what_follows_on_the_inside_of_a_snapshot_is_taken,
           an_answer_speaks_of_what_the_request_spoke_of,
           an_entry_of_an_older_term_is_not_committed_by_counting,
           a_follower_commits_only_what_was_compared,
           a_result_of_an_old_request_does_not_go_to_the_next_leader,
           a_new_leader_writes_an_entry_of_its_term)
