/* The guard's rules on who makes up the quorum. libraft 0.15 is at a loss after
 *
 *   - a restart with a change that is not committed: it forgets that it may have to go back, and
 *     stays with a configuration that its log no longer has (start.c);
 *   - a snapshot: to go back it looks for the entry of the configuration before, which is gone, and
 *     reads at NULL (membership.c); and what it snapshots is the newest configuration, committed or
 *     not (replication.c, takeSnapshot);
 *   - becoming a candidate while a change is being flushed: the entry is in its log, and never in
 *     force (replication.c, appendFollowerCb);
 *   - an install that ends when it is a candidate or leads: votes and progress are arrays of the
 *     size of the configuration before.
 *
 * So it does not go back at all here. The log says who the servers are (configurations.h): the last
 * change entry is in force as soon as it is written, and no longer than it is there. */
#include <stdlib.h>

#include "base/canary.h"
#include "quorum/raft_io.h"

static bool installing(const struct raft *raft)
{
    return raft->snapshot.put.data != NULL && raft->last_stored == 0;
}

static struct raft_server *own_server(struct raft *raft)
{
    for (unsigned i = 0; i < raft->configuration.n; i++)
        if (raft->configuration.servers[i].id == raft->id)
            return &raft->configuration.servers[i];
    return NULL;
}

const struct members *guard_committed(const struct quorum_io *io)
{
    return configurations_at(&io->configurations, io->raft->commit_index);
}

/* Rule "configuration". After each upcall, and after each change that this leader began. */
void guard_configure(struct quorum_io *io)
{
    struct raft *raft = io->raft;
    const struct members *last = configurations_last(&io->configurations);
    if (last == NULL || io->failed || raft_state(raft) == RAFT_UNAVAILABLE || installing(raft) ||
        CANARY("quorum_no_configuration"))
        return;
    raft->configuration_uncommitted_index = 0; /* raft never goes back by itself */
    const struct members *committed = guard_committed(io);
    raft->configuration_index = committed != NULL ? committed->index : last->index;
    if (members_equal(last, &raft->configuration))
        return;
    /* A follower's tables do not depend on it; and others do not get here: what makes a log change
     * makes a follower first. */
    if (raft_state(raft) != RAFT_FOLLOWER) {
        io_fail(io, "raft's configuration is not the one of its log", ERR_CORRUPT);
        return;
    }
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    bool whole = members_to_raft(last, &configuration);
    ASSERT(whole); /* without memory there is no going on */
    raft_configuration_close(&raft->configuration);
    raft->configuration = configuration;
    io->reconfigured++;
}

/* Before each tick of raft's. While a snapshot replaces log and configuration, no election begins
 * here. And who has no vote waits for no leader in 0.15: it would be taken for one who has a leader
 * for ever, and refuse its vote (below). */
void guard_before_tick(struct quorum_io *io)
{
    struct raft *raft = io->raft;
    if (raft_state(raft) != RAFT_FOLLOWER)
        return;
    raft_time now = io->raft_io.time(&io->raft_io);
    const struct raft_server *own = own_server(raft);
    if (installing(raft))
        raft->election_timer_start = now;
    else if ((own == NULL || own->role != RAFT_VOTER) &&
             now - raft->election_timer_start >= raft->election_timeout)
        election_forget_leader(raft);
}

/* Rule "vote": 0.15 asks its own log whether it may vote. But the log of one that was just promoted
 * may lack that, and its vote be needed: of the voters that have it in their logs one may be dead
 * already (Raft §4.2.2: a server votes for whoever asks; whether that counts is the candidate's to
 * know). It has its vote file, and votes once in a term like all. */
static void receive_request_vote(struct quorum_io *io, struct raft_message *message)
{
    struct raft_server *own = own_server(io->raft);
    int role = own != NULL ? own->role : RAFT_VOTER;
    if (own != NULL && !CANARY("quorum_spares_refuse_votes"))
        own->role = RAFT_VOTER;
    io->recv(&io->raft_io, message);
    if (own != NULL)
        own->role = role;
}

/* True: the message needs nothing more. */
bool guard_receive_vote(struct quorum_io *io, struct raft_message *message)
{
    if (message->type == RAFT_IO_TIMEOUT_NOW)
        return installing(io->raft);
    if (message->type != RAFT_IO_REQUEST_VOTE)
        return false;
    receive_request_vote(io, message);
    return true;
}

/* ---- to one that was removed ---- */

static void take_entry(void *context, const struct entry *entry)
{
    union {
        const uint8_t *from;
        void *base;
    } data = {.from = entry->data.data};
    struct raft_entry *into = context;
    into->term = entry->term;
    into->type = (unsigned short)entry->type;
    into->buf = (struct raft_buffer){data.base, entry->data.len};
}

/* libraft sends nothing more to a server that the change it began has removed, not even that
 * change. Once it is committed, the removed one is told of it as of any entry, once: it becomes an
 * observer at once, where it has all before (else it asks, lonely.c). */
void guard_tell_removed(struct quorum_io *io, const struct member *removed, raft_index index)
{
    struct raft_entry entry = {.term = 0};
    struct frame *read = NULL;
    if (store_read(&io->store, index, index, 1, take_entry, &entry, &read) != ERR_OK ||
        entry.term == 0) {
        frame_unref(read);
        return;
    }
    struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .server_id = removed->id,
        .server_address = removed->address,
    };
    message.append_entries.term = io->raft->current_term;
    message.append_entries.prev_log_index = index - 1;
    message.append_entries.prev_log_term = store_term(&io->store, index - 1);
    message.append_entries.leader_commit = index;
    message.append_entries.entries = &entry;
    message.append_entries.n_entries = 1;
    struct frame *frame = messages_encode(&message, io->node, env_now(io->env));
    frame_unref(read);
    if (frame != NULL)
        (void)io->owner.post(io->owner.self, members_node(removed->id), removed->address, frame);
}
