/* The guard: rules that libraft 0.15 breaks (docs/architecture.md, quorum). Each names the bug;
 * clamp, hold, own-term entry, stale result and commit clamp are bugs of libraft's core, each with
 * a canary. The rules padding, order, fail-stop and no re-entry are kept in raft_io.c and quorum.c.
 */
#include "base/canary.h"
#include "quorum/raft_io.h"

/* ---- in ---- */

/* Rule "hold": 0.15 commits entries of an older term by counting replicas (replication.c:1652; Raft
 * §5.4.2, figure 8): such an entry may still be replaced by a later leader. While the last entry
 * that we stored is not of this term, nobody's success is counted. */
static bool must_hold(const struct quorum_io *io, const struct raft_append_entries_result *result)
{
    struct raft *raft = io->raft;
    return raft_state(raft) == RAFT_LEADER && result->rejected == 0 &&
           result->term == raft->current_term &&
           store_term(&io->store, raft->last_stored) != raft->current_term &&
           !CANARY("quorum_no_hold");
}

/* Kept, the newest of each follower, until the own-term entry is stored: to lose it would cost a
 * heartbeat, since a new leader probes, and sends nothing more until it is answered. */
static void hold(struct quorum_io *io, raft_id from,
                 const struct raft_append_entries_result *result)
{
    unsigned i = 0;
    while (i < io->kept_count && io->kept[i].from != from)
        i++;
    if (i == MEMBERS_MAX)
        return; /* lost: asked again with the next heartbeat */
    io->kept[i] = (struct guard_held){.from = from, .result = *result};
    if (i == io->kept_count)
        io->kept_count++;
    io->held++;
}

/* As if the network had been slower. A success stays true for its term: only the leader of a higher
 * one makes a follower cut off what it has acknowledged. */
static void release_held(struct quorum_io *io)
{
    while (io->kept_count > 0 && !must_hold(io, &io->kept[io->kept_count - 1].result)) {
        const struct guard_held kept = io->kept[--io->kept_count];
        const struct raft_configuration *configuration = &io->raft->configuration;
        struct raft_message message = {
            .type = RAFT_IO_APPEND_ENTRIES_RESULT,
            .server_id = kept.from,
            .append_entries_result = kept.result,
        };
        for (unsigned i = 0; i < configuration->n; i++)
            if (configuration->servers[i].id == kept.from)
                message.server_address = configuration->servers[i].address;
        if (raft_state(io->raft) == RAFT_LEADER && kept.result.term == io->raft->current_term &&
            message.server_address != NULL)
            io->recv(&io->raft_io, &message);
    }
}

/* Rule "commit clamp" (R22): a follower with a longer log, of another history, would commit up to
 * leader_commit what nobody compared: what lies behind prev_log_index + n_entries. */
static void clamp_commit(struct raft_append_entries *args)
{
    raft_index compared = args->prev_log_index + args->n_entries;
    if (args->leader_commit > compared && !CANARY("quorum_no_commit_clamp"))
        args->leader_commit = compared;
}

/* Rule "covered": 0.15 refuses entries that follow on one which its snapshot has swallowed, though
 * all up to a snapshot is committed and so the same everywhere. The leader then steps back entry by
 * entry: to a snapshot older than the follower's, without end, or to entry 1, which is appended at
 * the log's end. So what the snapshot covers is taken off, and the rest follows on the snapshot. */
static void skip_covered(struct quorum_io *io, struct raft_append_entries *args)
{
    const struct raft_log *log = &io->raft->log;
    raft_index covered = log->snapshot.last_index;
    bool has_previous = args->prev_log_index > log->offset || args->prev_log_index == covered;
    if (args->prev_log_index >= covered || has_previous ||
        (args->prev_log_index == 0 && log->offset == 0) || CANARY("quorum_no_covered"))
        return;
    raft_index skip = covered - args->prev_log_index;
    if (skip >= args->n_entries) {
        if (args->n_entries > 0)
            raft_free(args->entries[0].batch);
        raft_free(args->entries);
        args->entries = NULL;
        args->n_entries = 0;
    } else {
        args->n_entries -= (unsigned)skip;
        memmove(args->entries, args->entries + skip, args->n_entries * sizeof *args->entries);
    }
    args->prev_log_index = covered;
    args->prev_log_term = log->snapshot.last_term;
    io->covered++;
}

void guard_receive(struct quorum_io *io, struct raft_message *message)
{
    struct guard_context context = {0};
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        skip_covered(io, &message->append_entries);
        clamp_commit(&message->append_entries);
        context = (struct guard_context){
            .set = true,
            .match = message->append_entries.prev_log_index + message->append_entries.n_entries,
            .term = message->append_entries.term,
            .from = message->server_id,
        };
        break;
    case RAFT_IO_INSTALL_SNAPSHOT:
        context = (struct guard_context){
            .set = true,
            .match = message->install_snapshot.last_index,
            .term = message->install_snapshot.term,
            .from = message->server_id,
        };
        break;
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        if (must_hold(io, &message->append_entries_result)) {
            hold(io, message->server_id, &message->append_entries_result);
            return;
        }
        break;
    case RAFT_IO_REQUEST_VOTE:
        election_forget_silent(io);
        break;
    default:
        break;
    }
    io->context = context;
    if (!guard_receive_vote(io, message))
        io->recv(&io->raft_io, message);
    io->context = (struct guard_context){0};
    raft_id leader = 0;
    const char *address = NULL;
    raft_leader(io->raft, &leader, &address);
    if (context.set && raft_state(io->raft) == RAFT_FOLLOWER && leader == context.from &&
        context.term == io->raft->current_term)
        io->heard_ns = env_now(io->env);
}

/* ---- out ---- */

/* Rule "stale result": a result that is sent after the term or the leader changed speaks of another
 * request; 0.15 sends it all the same, to an address that may be NULL by then. False: it is
 * dropped. To the node that asked it is told as a rejection, so that a leader of an old term learns
 * of the new one: 0.15 rejects for the term with rejected = prev_log_index, which says success
 * where that is 0. */
static bool settle_stale(struct quorum_io *io, const struct raft_message *message,
                         struct raft_append_entries_result *result)
{
    if (!io->context.set || result->rejected != 0 || CANARY("quorum_no_stale"))
        return true;
    if (result->term == io->context.term && message->server_id == io->context.from)
        return true;
    io->stale++;
    result->rejected = 1;
    return message->server_id == io->context.from;
}

/* Rule "clamp": a follower acknowledges last_stored instead of what the request spoke of
 * (recv_append_entries.c:128, also in 0.18.1). What lies behind may be of another history: the
 * leader would count it, and lose acknowledged writes with 2 of 5 nodes down. */
static void clamp_result(struct quorum_io *io, struct raft_append_entries_result *result)
{
    if (!io->context.set || result->rejected != 0 || result->last_log_index <= io->context.match ||
        CANARY("quorum_no_clamp"))
        return;
    result->last_log_index = io->context.match;
    io->clamped++;
}

/* Rule R22: AppendEntries are unbounded in 0.15. What does not fit is cut off, and the follower is
 * probed again, so that raft goes on behind what did. */
static int cut_entries(const struct quorum_io *io, struct raft_append_entries *args)
{
    unsigned fit = messages_entries_fit(args->entries, args->n_entries, io->message_bytes);
    if (fit == args->n_entries)
        return 0;
    args->n_entries = fit;
    return RAFT_TOOBIG;
}

/* Never fails at once: libraft frees a received message a second time when the answer to it can't
 * be sent (recv_append_entries.c, recv.c). What can't be sent is told so later. */
int guard_send(struct raft_io *raft_io, struct raft_io_send *request,
               const struct raft_message *message, raft_io_send_cb cb)
{
    struct quorum_io *io = raft_io->impl;
    request->cb = cb;
    struct io_op *op = io_op_new(io, IO_SEND, request);
    struct raft_message copy = *message;
    uint64_t sent_ns = 0;
    int status = 0;
    if (message->server_id == 0 || message->server_address == NULL) {
        io->stale++;
        io_op_finish(op, RAFT_NOCONNECTION);
        return 0;
    }
    if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        op->send.message = copy;
        io_send_snapshot(op);
        return 0;
    }
    if (message->type == RAFT_IO_APPEND_ENTRIES_RESULT) {
        if (!settle_stale(io, message, &copy.append_entries_result)) {
            io_op_finish(op, RAFT_NOCONNECTION);
            return 0;
        }
        clamp_result(io, &copy.append_entries_result);
        if (copy.append_entries_result.term == io->raft->current_term)
            sent_ns = contact_stamp(&io->contact, copy.append_entries_result.term);
    }
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        status = cut_entries(io, &copy.append_entries);
        clamp_commit(&copy.append_entries);
        sent_ns = env_now(io->env);
    }
    struct frame *frame = messages_encode(&copy, io->node, sent_ns);
    if (frame == NULL || !io->owner.post(io->owner.self, members_node(message->server_id),
                                         message->server_address, frame))
        status = RAFT_NOCONNECTION;
    io_op_finish(op, status);
    return 0;
}

static void tell_commit(struct quorum_io *io, const struct raft_server *server, raft_index commit)
{
    struct raft_message message = {
        .type = RAFT_IO_APPEND_ENTRIES,
        .server_id = server->id,
        .server_address = server->address,
    };
    message.append_entries.term = io->raft->current_term;
    message.append_entries.prev_log_index = commit;
    message.append_entries.prev_log_term = store_term(&io->store, commit);
    message.append_entries.leader_commit = commit;
    struct frame *frame = messages_encode(&message, io->node, env_now(io->env));
    if (frame != NULL) /* best effort: the next heartbeat tells it too */
        (void)io->owner.post(io->owner.self, members_node(server->id), server->address, frame);
}

/* libraft tells followers of a commit with the next entry or heartbeat: the brokers on them, and
 * what observes them, would see every change of the metadata so much later. So each follower, once
 * it has acknowledged the entry, gets the heartbeat that raft would send it later. */
void guard_tell_commit(struct quorum_io *io)
{
    const struct raft *raft = io->raft;
    raft_index commit = raft->commit_index;
    if (raft_state(io->raft) != RAFT_LEADER)
        return;
    if (io->told_term != raft->current_term) {
        memset(io->told, 0, sizeof io->told);
        io->told_term = raft->current_term;
    }
    for (unsigned i = 0; i < raft->configuration.n && i < MEMBERS_MAX; i++) {
        const struct raft_server *server = &raft->configuration.servers[i];
        if (server->id == raft->id || io->told[i] >= commit ||
            raft->leader_state.progress[i].match_index < commit)
            continue;
        io->told[i] = commit;
        tell_commit(io, server, commit);
    }
}

/* ---- own-term entry ---- */

static void barrier_applied(struct raft_barrier *barrier, int status)
{
    struct quorum_io *io = container_of(barrier, struct quorum_io, barrier);
    if (status == 0)
        io->own_term_applied = io->own_term;
}

/* Rule "own-term entry": 0.15 writes none at the start of a term, so that entries of older terms,
 * and all that waits for them, stall until somebody writes. Appended in the same upcall that made
 * us leader; leader-only work starts when it is applied. */
void guard_upcall_done(struct quorum_io *io)
{
    struct raft *raft = io->raft;
    guard_configure(io);
    release_held(io);
    if (raft_state(raft) != RAFT_LEADER) {
        io->own_term = 0;
        return;
    }
    if (io->own_term == raft->current_term)
        return;
    if (CANARY("quorum_no_own_term")) {
        io->own_term = io->own_term_applied = raft->current_term;
        return;
    }
    io->own_term = raft->current_term;
    if (raft_barrier(raft, &io->barrier, barrier_applied) != 0)
        io->own_term = 0; /* a transfer is under way: tried again after the next upcall */
}
