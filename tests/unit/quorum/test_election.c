/* The early election and the handover: fast, and as safe as raft's own. The lab checks election
 * safety all the way; its election timeout is 300 ms, a heartbeat 60 ms, a frame takes 1 to 4 ms, a
 * sync 1 to 3 ms. */
#include "base/canary.h"
#include "base/logger.h"
#include "quorum/members.h"
#include "quorum/vote.h"
#include "unit/quorum/quorum_lab.h"

enum { ROUNDS = 20, SOON_MS = 110 };

static struct lab *settled_lab(uint64_t seed, unsigned voters)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = seed, .voters = voters});
    lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    return lab;
}

/* All voters that are up but the one. */
static void prove_to_all(struct lab *lab, unsigned dead, uint64_t term)
{
    for (unsigned i = 0; i < lab->voters; i++)
        if (i != dead && lab->node[i].quorum != NULL)
            lab_prove(lab, i, dead, term);
}

static unsigned ms_until_active(struct lab *lab, unsigned ms_max)
{
    unsigned ms = 0;
    while (!lab_has_active(lab) && ms < ms_max) {
        lab_run_ms(lab, 1);
        ms++;
    }
    return ms;
}

START_TEST(with_proof_of_its_death_another_leads_soon)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, round % 2 == 0 ? 3 : 5);
        unsigned dead = (unsigned)lab_leader(lab);
        uint64_t term = lab_look(lab, dead).term;
        lab_run_ms(lab, rng_below(&lab->world.rng, 60));
        lab_stop(lab, dead, false);
        prove_to_all(lab, dead, term);
        unsigned ms = ms_until_active(lab, 5000);
        ck_assert_msg(ms <= SOON_MS, "round %u: after %u ms", round, ms);
        lab_free(lab);
    }
}
END_TEST

/* Else a voter that heard the dead one last would wait for its silence. */
START_TEST(a_late_message_of_the_dead_is_forgotten_too)
{
    struct lab *lab = settled_lab(check_main_seed(), 3);
    unsigned dead = (unsigned)lab_leader(lab);
    struct quorum_view view = lab_look(lab, dead);
    Karst__RaftMessage late = KARST__RAFT_MESSAGE__INIT;
    late.type = 1;
    late.from = (int32_t)dead;
    late.term = view.term;
    late.has_prev_log_index = late.has_prev_log_term = true;
    late.prev_log_index = view.last_index;
    late.prev_log_term = quorum_entry_term(lab->node[dead].quorum, view.last_index);
    lab_stop(lab, dead, false);
    prove_to_all(lab, dead, view.term);
    lab_run_ms(lab, 1);
    for (unsigned i = 0; i < 3; i++) {
        late.to = (int32_t)i;
        if (i != dead)
            lab_inject(lab, dead, i, &late);
    }
    lab_run_ms(lab, 1);
    ck_assert_uint_le(ms_until_active(lab, 5000), SOON_MS);
    lab_free(lab);
}
END_TEST

START_TEST(one_voter_that_is_wrong_deposes_nobody)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, 3);
        unsigned leader = (unsigned)lab_leader(lab);
        uint64_t term = lab_look(lab, leader).term;
        lab_prove(lab, (leader + 1) % 3, leader, term);
        for (unsigned ms = 0; ms < 1000; ms++) {
            lab_run_ms(lab, 1);
            ck_assert_int_eq(lab_leader(lab), (int)leader);
            ck_assert_uint_eq(lab_look(lab, leader).term, term);
        }
        ck_assert_int_eq(lab_look(lab, (leader + 1) % 3).leader_node, (int)leader);
        lab_free(lab);
    }
}
END_TEST

START_TEST(a_proof_about_an_older_term_changes_nothing)
{
    struct lab *lab = settled_lab(check_main_seed(), 3);
    unsigned leader = (unsigned)lab_leader(lab);
    uint64_t term = lab_look(lab, leader).term;
    prove_to_all(lab, leader, term - 1);
    prove_to_all(lab, leader, term + 1);
    lab_prove(lab, leader, leader, term); /* and nobody is dead to himself */
    lab_run_ms(lab, 500);
    ck_assert_int_eq(lab_leader(lab), (int)leader);
    ck_assert_uint_eq(lab_look(lab, leader).term, term);
    lab_free(lab);
}
END_TEST

START_TEST(voters_that_are_all_wrong_cost_an_election_and_no_command)
{
    struct lab *lab = settled_lab(check_main_seed(), 3);
    for (unsigned round = 0; round < ROUNDS; round++) {
        ck_assert(lab_run_until(lab, lab_has_active, 5000));
        unsigned leader = (unsigned)lab_leader(lab);
        (void)lab_command(lab, leader);
        prove_to_all(lab, leader, lab_look(lab, leader).term);
        lab_run_ms(lab, rng_below(&lab->world.rng, 150));
    }
    (void)lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    for (unsigned i = 0; i < 3; i++)
        ck_assert(lab_keeps_acknowledged(lab, i));
    lab_free(lab);
}
END_TEST

/* Rule "hold" keeps the first answers, instead of losing them. */
START_TEST(a_new_leader_is_active_before_its_next_heartbeat)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, 3);
        unsigned dead = (unsigned)lab_leader(lab);
        lab_stop(lab, dead, false);
        unsigned ms = 0;
        for (; ms < 5000 && !lab_look(lab, (dead + 1) % 3).leader &&
               !lab_look(lab, (dead + 2) % 3).leader;
             ms++)
            lab_run_ms(lab, 1);
        ck_assert_uint_lt(ms, 5000);
        ms = ms_until_active(lab, 5000);
        ck_assert_msg(ms < 45, "round %u: after %u ms", round, ms);
        lab_free(lab);
    }
}
END_TEST

/* ---- a vote is given once ---- */

static bool has_granted(struct lab *lab, unsigned from, unsigned to, const Karst__RaftMessage *raft)
{
    (void)to;
    bool *granted = lab->data;
    if (raft->type == 4 && from == 1 && raft->vote_granted)
        *granted = true;
    return false;
}

static bool voted_for(struct lab *lab, unsigned node, unsigned whom)
{
    struct vote_file vote;
    ck_assert_int_eq(vote_open(&sim_host_env(lab->node[node].host, 1)->disks[0], &vote), ERR_OK);
    bool voted = vote.vote == members_raft_id((node_id_t)whom);
    vote_close(&vote);
    return voted;
}

/* Node 1 voted for who led; then it has proof that he is dead, and somebody who lost that election
 * asks for its vote of that very term once more. True: it gives it, a second time. */
static bool second_vote_history(void)
{
    bool granted = false;
    for (uint64_t seed = 1; seed <= 20 && !granted; seed++) {
        struct lab *lab = settled_lab(seed, 3);
        unsigned dead = (unsigned)lab_leader(lab);
        struct quorum_view view = lab_look(lab, dead);
        uint64_t log_term = quorum_entry_term(lab->node[dead].quorum, view.last_index);
        if (dead != 1 && voted_for(lab, 1, dead)) {
            lab->data = &granted;
            lab->filter = has_granted;
            lab_stop(lab, dead, false);
            lab_prove(lab, 1, dead, view.term);
            Karst__RaftMessage vote = KARST__RAFT_MESSAGE__INIT;
            vote.type = 3;
            vote.from = (int32_t)(3 - 1 - dead); /* neither 1 nor who is dead */
            vote.to = 1;
            vote.term = view.term;
            vote.has_last_log_index = vote.has_last_log_term = true;
            vote.last_log_index = view.last_index;
            vote.last_log_term = log_term;
            lab_inject(lab, (unsigned)vote.from, 1, &vote);
            lab_run_ms(lab, 5);
        }
        lab_free(lab);
    }
    return granted;
}

/* The answer to a pre-vote; -1: none yet. */
static bool note_answer(struct lab *lab, unsigned from, unsigned to, const Karst__RaftMessage *raft)
{
    (void)from;
    (void)to;
    if (raft->type == RAFT_IO_REQUEST_VOTE_RESULT)
        *(int *)lab->data = raft->vote_granted;
    return raft->type != RAFT_IO_REQUEST_VOTE && raft->type != RAFT_IO_REQUEST_VOTE_RESULT;
}

/* Asks a voter that still follows the leader which was cut off so long ago; -1: it does not. */
static int pre_vote_after(uint64_t seed, unsigned ms)
{
    struct lab *lab = settled_lab(seed, 3);
    unsigned old = (unsigned)lab_leader(lab);
    unsigned asks = (old + 1) % 3, asked = (old + 2) % 3;
    int answer = -1;
    lab->data = &answer;
    lab->filter = note_answer;
    lab_cut(lab, old, true);
    lab_run_ms(lab, ms);
    struct quorum_view view = lab_look(lab, asked);
    if (view.leader_node == (node_id_t)old) {
        Karst__RaftMessage vote = KARST__RAFT_MESSAGE__INIT;
        vote.type = RAFT_IO_REQUEST_VOTE;
        vote.from = (int32_t)asks;
        vote.to = (int32_t)asked;
        vote.term = view.term + 1;
        vote.has_last_log_index = vote.has_last_log_term = vote.has_pre_vote = true;
        vote.last_log_index = view.last_index;
        vote.last_log_term = view.term;
        vote.pre_vote = true;
        lab_inject(lab, asks, asked, &vote);
        lab_run_ms(lab, 2);
        ck_assert_int_ne(answer, -1);
    }
    lab_free(lab);
    return answer;
}

START_TEST(a_leader_silent_for_an_election_timeout_is_no_reason_to_refuse_a_vote)
{
    uint64_t seed = check_main_seed();
    unsigned granted = 0;
    for (unsigned round = 0; round < ROUNDS; round++) {
        ck_assert_int_le(pre_vote_after(seed + round, 200), 0); /* heard 60 ms before, at most */
        int answer = pre_vote_after(seed + round, 306);
        ck_assert_int_ne(answer, 0);
        granted += answer == 1;
    }
    ck_assert_uint_gt(granted, 0);
}
END_TEST

/* A start of all: nobody waits for the silence of a leader that there is not. */
START_TEST(voters_that_start_together_have_a_leader_soon)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, round % 2 == 0 ? 3 : 5);
        for (unsigned i = 0; i < lab->voters; i++)
            lab_stop(lab, i, true);
        for (unsigned i = 0; i < lab->voters; i++)
            lab_start(lab, i);
        unsigned ms = ms_until_active(lab, 5000);
        ck_assert_msg(ms <= SOON_MS, "round %u: after %u ms", round, ms);
        lab_free(lab);
    }
}
END_TEST

/* One that starts where another leads is told so, and disturbs nobody. */
START_TEST(a_voter_that_starts_late_deposes_nobody)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, 3);
        unsigned leader = (unsigned)lab_leader(lab);
        uint64_t term = lab_look(lab, leader).term;
        lab_stop(lab, (leader + 1) % 3, true);
        lab_run_ms(lab, rng_below(&lab->world.rng, 500));
        lab_start(lab, (leader + 1) % 3);
        lab_run_ms(lab, 1000);
        ck_assert_int_eq(lab_leader(lab), (int)leader);
        ck_assert_uint_eq(lab_look(lab, leader).term, term);
        lab_free(lab);
    }
}
END_TEST

START_TEST(who_forgets_a_leader_keeps_the_vote_for_it)
{
    ck_assert(!second_vote_history());
#ifdef KARST_CANARIES
    canary_arm("quorum_early_forgets_vote");
    ck_assert_msg(second_vote_history(), "the history breaks nothing: it proves nothing");
    canary_arm("none");
#endif
}
END_TEST

/* ---- handover ---- */

START_TEST(a_leader_that_ends_is_succeeded_before_it_is_gone)
{
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct lab *lab = settled_lab(check_main_seed() + round, 3);
        unsigned first = (unsigned)lab_leader(lab);
        lab_hand_over(lab, first);
        unsigned ms = 0;
        while (lab_leader(lab) == (int)first || lab_leader(lab) < 0) {
            lab_run_ms(lab, 1);
            ck_assert_msg(++ms < SOON_MS, "round %u: nobody leads", round);
        }
        lab_stop(lab, first, false);
        lab_run_ms(lab, 400);
        ck_assert_int_ne(lab_leader(lab), -1);
        (void)lab_commit(lab);
        lab_free(lab);
    }
}
END_TEST

START_TEST(what_is_asked_during_a_handover_is_answered_and_kept)
{
    struct lab *lab = settled_lab(check_main_seed(), 3);
    unsigned asked = lab->calls;
    for (unsigned round = 0; round < ROUNDS; round++) {
        ck_assert(lab_run_until(lab, lab_has_active, 5000));
        unsigned leader = (unsigned)lab_leader(lab);
        for (unsigned i = 0; i < 3; i++)
            (void)lab_command(lab, leader);
        lab_hand_over(lab, leader);
        for (unsigned i = 0; i < 3; i++) {
            (void)lab_command(lab, leader);
            lab_run_ms(lab, 1);
        }
        lab_run_ms(lab, rng_below(&lab->world.rng, 30));
    }
    lab_run_ms(lab, 1000);
    for (; asked < lab->calls; asked++)
        ck_assert_int_ne(lab->outcome[asked], ERR_BUSY);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    for (unsigned i = 0; i < 3; i++)
        ck_assert(lab_keeps_acknowledged(lab, i));
    lab_free(lab);
}
END_TEST

START_TEST(the_only_voter_and_a_follower_hand_nothing_over)
{
    struct lab *lab = settled_lab(check_main_seed(), 1);
    lab_hand_over(lab, 0);
    lab_run_ms(lab, 100);
    ck_assert_int_eq(lab_leader(lab), 0);
    lab_free(lab);
    lab = settled_lab(check_main_seed(), 3);
    int leader = lab_leader(lab);
    lab_hand_over(lab, ((unsigned)leader + 1) % 3);
    lab_run_ms(lab, 500);
    ck_assert_int_eq(lab_leader(lab), leader);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("quorum/election", with_proof_of_its_death_another_leads_soon,
           a_late_message_of_the_dead_is_forgotten_too, one_voter_that_is_wrong_deposes_nobody,
           a_proof_about_an_older_term_changes_nothing,
           voters_that_are_all_wrong_cost_an_election_and_no_command,
           a_new_leader_is_active_before_its_next_heartbeat,
           a_leader_silent_for_an_election_timeout_is_no_reason_to_refuse_a_vote,
           voters_that_start_together_have_a_leader_soon, a_voter_that_starts_late_deposes_nobody,
           who_forgets_a_leader_keeps_the_vote_for_it,
           a_leader_that_ends_is_succeeded_before_it_is_gone,
           what_is_asked_during_a_handover_is_answered_and_kept,
           the_only_voter_and_a_follower_hand_nothing_over)
