/* An early election: a voter that has proof that the leader's process is dead (R10: its own address
 * refuses) does not wait for the silence, which takes one to two election timeouts. Nor does one
 * that has just started and hears of no leader: when all start at once, nobody leads.
 *
 * It does no more than time would do: it forgets who led, as libraft does when the timer expires,
 * and makes the timer expire. Term, vote and log are raft's alone, and all goes through pre-vote
 * and vote as ever: two leaders in one term need two votes of one voter, and none is given here. A
 * proof that is wrong costs an election, no more; and not even that before a majority of the
 * voters has one, since the others refuse the pre-vote while they know a leader.
 *
 * A proof is of (leader, term): who led a term and died will never lead that term again, so a late
 * message of his is forgotten like the first. What is proved of an older term is past.
 *
 * The voters take turns, by their ids, so that two seldom ask for votes at a time; who has the
 * shorter log is refused, and the next one's turn comes a tenth of an election timeout later. After
 * one election timeout the ordinary timers go on alone. */
#include "base/canary.h"
#include "quorum/raft_io.h"

enum { TURNS_A_TIMEOUT = 10 };

static uint64_t turn_ns(const struct quorum_io *io)
{
    return ENV_MS(io->raft->election_timeout) / TURNS_A_TIMEOUT;
}

/* Voters beside the dead leader, and how many of them come before this one. */
static unsigned count_voters(const struct quorum_io *io, unsigned *ret_before)
{
    const struct raft_configuration *configuration = &io->raft->configuration;
    unsigned count = 0;
    *ret_before = 0;
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        if (server->role != RAFT_VOTER || server->id == io->early.leader)
            continue;
        count++;
        *ret_before += server->id < io->raft->id;
    }
    return count;
}

/* In libraft a follower's leader and timer lie where convertToFollower and recvUpdateLeader put
 * them; both are read with each message and tick, and by nothing else. */
void election_forget_leader(struct raft *raft)
{
    raft_free(raft->follower_state.current_leader.address);
    raft->follower_state.current_leader.address = NULL;
    raft->follower_state.current_leader.id = 0;
    if (CANARY("quorum_early_forgets_vote"))
        raft->voted_for = 0;
}

/* True: nobody leads, as far as this voter knows and but for the dead one. */
static bool leaderless(struct quorum_io *io)
{
    struct raft *raft = io->raft;
    int state = raft_state(raft);
    if (state == RAFT_FOLLOWER && raft->current_term == io->early.term &&
        raft->follower_state.current_leader.id == io->early.leader)
        election_forget_leader(raft);
    return state == RAFT_CANDIDATE ||
           (state == RAFT_FOLLOWER && raft->follower_state.current_leader.id == 0);
}

static void await_turn(struct quorum_io *io, uint64_t wait_ns)
{
    struct env *env = io->env;
    uint64_t jitter_ns = env->random(env->self) % (turn_ns(io) / 4 + 1);
    env->timer_start(env->self, &io->early.timer, env_now(env) + wait_ns + jitter_ns);
}

void election_turn_due(struct env_timer *timer, uint64_t now_ns)
{
    struct quorum_io *io = container_of(timer, struct quorum_io, early.timer);
    struct raft *raft = io->raft;
    if (io->failed || now_ns >= io->early.until_ns || !leaderless(io))
        return;
    unsigned before;
    await_turn(io, count_voters(io, &before) * turn_ns(io));
    /* A term has begun since: somebody is collecting votes, and gets the time to do so. */
    bool disturbs = raft->current_term != io->early.seen_term;
    io->early.seen_term = raft->current_term;
    if (disturbs)
        return;
    /* Longer ago than any randomized timeout; libraft subtracts without signs, too. */
    raft->election_timer_start =
        io->raft_io.time(&io->raft_io) - 2 * (raft_time)raft->election_timeout;
    io->early_elections++;
    guard_before_tick(io);
    io->tick(&io->raft_io);
    io->owner.upcall_done(io->owner.self);
    io->owner.pump(io->owner.self);
}

void election_started(struct quorum_io *io)
{
    io->early.leader = 0;
    io->early.seen_term = io->raft->current_term;
    io->early.until_ns = env_now(io->env) + ENV_MS(io->raft->election_timeout);
    unsigned before;
    if (count_voters(io, &before) > 1) /* who leads already is heard before the first turn */
        await_turn(io, (before + 1) * turn_ns(io));
}

/* Raft asks for the silence of one election timeout before a vote (§4.2.3); libraft refuses until
 * the voter's own, randomized one is over, and so the slowest voter of a majority is waited for. */
void election_forget_silent(struct quorum_io *io)
{
    struct raft *raft = io->raft;
    uint64_t silence_ns = env_now(io->env) - io->heard_ns;
    if (raft_state(raft) == RAFT_FOLLOWER && silence_ns >= ENV_MS(raft->election_timeout))
        election_forget_leader(raft);
}

void election_leader_died(struct quorum_io *io, raft_id leader, raft_term term)
{
    struct raft *raft = io->raft;
    if (term != raft->current_term || leader == raft->id || io->failed ||
        (io->early.term == term && io->early.leader == leader))
        return;
    io->early.leader = leader;
    io->early.term = io->early.seen_term = term;
    io->early.until_ns = env_now(io->env) + ENV_MS(raft->election_timeout);
    unsigned before;
    if (!leaderless(io) || count_voters(io, &before) == 0)
        return;
    await_turn(io, before * turn_ns(io));
}
