#include <stdlib.h>

#include "base/canary.h"
#include "quorum/internal.h"

enum {
    WAITERS_MAX = 1024, /* observers that wait for the next entry */
    WAIT_MS_MAX = 5000,
    FETCH_BYTES = 512 << 10,
    FETCH_ENTRIES_MAX = MESSAGE_ENTRIES_MAX,
    FILE_IDLE_MS = 10000,
};

struct fetch {
    uint64_t token;
    unsigned actor;
    uint64_t offset, last_term, snapshot_index, snapshot_at;
};

struct waiter {
    struct list_node link;
    struct fetch fetch;
    uint64_t deadline_ns;
};

void serve_init(struct quorum *quorum)
{
    list_init(&quorum->serve.waiters);
}

static void waiter_free(struct quorum *quorum, struct waiter *waiter)
{
    list_remove(&waiter->link);
    free(waiter);
    quorum->serve.waiter_count--;
}

static void file_drop(struct serve *serve)
{
    free(serve->file);
    serve->file = NULL;
    serve->file_index = 0;
}

void serve_fini(struct quorum *quorum)
{
    struct list_node *waiters = &quorum->serve.waiters;
    while (!list_empty(waiters))
        waiter_free(quorum, list_entry(waiters->next, struct waiter, link));
    file_drop(&quorum->serve);
}

/* ---- replies ---- */

static Karst__MetadataFetchReply reply_begin(struct quorum *quorum)
{
    Karst__MetadataFetchReply reply = KARST__METADATA_FETCH_REPLY__INIT;
    raft_id leader = 0;
    const char *address = NULL;
    raft_leader(&quorum->raft, &leader, &address);
    reply.commit_index = quorum->raft.commit_index;
    reply.leader = members_node(leader);
    reply.leader_term = quorum->raft.current_term;
    /* R25: an observer leaves a voter that is cut off from its leader. */
    uint64_t age_ms = (env_now(quorum->env) - quorum->io.heard_ns) / 1000000;
    if (raft_state(&quorum->raft) == RAFT_LEADER)
        age_ms = 0;
    else if (leader == 0 || quorum->io.heard_ns == 0 || age_ms > UINT32_MAX)
        age_ms = UINT32_MAX;
    reply.leader_age_ms = (uint32_t)age_ms;
    return reply;
}

static void reply_send(struct quorum *quorum, const struct fetch *fetch,
                       const Karst__MetadataFetchReply *reply)
{
    quorum_answer(quorum, fetch->actor, fetch->token,
                  wire_frame(&(struct wire_frame_args){
                      .kind = WIRE_REPLY,
                      .method = WIRE_METADATA_FETCH,
                      .message = &reply->base,
                  }));
}

static void reply_error(struct quorum *quorum, const struct fetch *fetch, err_t err,
                        const char *sentence)
{
    union {
        const char *from;
        char *text;
    } message = {.from = sentence};
    Karst__MetadataFetchReply reply = reply_begin(quorum);
    reply.error = err;
    reply.message = message.text;
    reply_send(quorum, fetch, &reply);
}

struct gathered {
    size_t count;
    Karst__RaftEntry entries[FETCH_ENTRIES_MAX];
    Karst__RaftEntry *pointers[FETCH_ENTRIES_MAX];
};

static void gather(void *context, const struct entry *entry)
{
    struct gathered *gathered = context;
    if (gathered->count == FETCH_ENTRIES_MAX)
        return; /* the rest with the next fetch */
    Karst__RaftEntry *into = &gathered->entries[gathered->count];
    union {
        const uint8_t *from;
        uint8_t *data;
    } data = {.from = entry->data.data};
    *into = (Karst__RaftEntry)KARST__RAFT_ENTRY__INIT;
    into->term = entry->term;
    into->type = (uint32_t)entry->type;
    into->data = (ProtobufCBinaryData){entry->data.len, data.data};
    gathered->pointers[gathered->count++] = into;
}

static void reply_entries(struct quorum *quorum, const struct fetch *fetch)
{
    struct frame *frame = NULL;
    struct gathered *gathered = malloc(sizeof *gathered);
    err_t err = gathered == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK) {
        gathered->count = 0;
        err = store_read(quorum->store, fetch->offset, quorum->raft.commit_index, FETCH_BYTES,
                         gather, gathered, &frame);
    }
    if (err != ERR_OK) {
        reply_error(quorum, fetch, ERR_UNKNOWN_SERVER_ERROR, err_sentence(err));
    } else {
        Karst__MetadataFetchReply reply = reply_begin(quorum);
        reply.n_entries = gathered->count;
        reply.entries = gathered->pointers;
        reply_send(quorum, fetch, &reply);
    }
    frame_unref(frame);
    free(gathered);
}

/* ---- snapshots ---- */

/* The file of the index that the observer goes on with, while it is there; else the newest. */
static err_t file_load(struct quorum *quorum, uint64_t wanted)
{
    struct serve *serve = &quorum->serve;
    const struct store *store = quorum->store;
    serve->file_used_ns = env_now(quorum->env);
    if (serve->file != NULL &&
        (serve->file_index == wanted || serve->file_index == store->snapshot_index))
        return ERR_OK;
    file_drop(serve);
    err_t err = snapshot_read(store->disk, store->snapshot_index, store->snapshot_term,
                              &serve->file, &serve->file_len);
    if (err != ERR_OK)
        return err;
    serve->file_index = store->snapshot_index;
    serve->file_term = store->snapshot_term;
    return ERR_OK;
}

static void reply_snapshot(struct quorum *quorum, const struct fetch *fetch)
{
    struct serve *serve = &quorum->serve;
    err_t err = file_load(quorum, fetch->snapshot_index);
    if (err != ERR_OK) {
        reply_error(quorum, fetch, ERR_UNKNOWN_SERVER_ERROR, err_sentence(err));
        return;
    }
    uint64_t at = fetch->snapshot_index == serve->file_index ? fetch->snapshot_at : 0;
    if (at > serve->file_len)
        at = 0;
    size_t len = serve->file_len - at;
    if (len > MESSAGE_PIECE_BYTES)
        len = MESSAGE_PIECE_BYTES;
    Karst__MetadataFetchReply reply = reply_begin(quorum);
    reply.has_snapshot_index = reply.has_snapshot_term = reply.has_snapshot_bytes = true;
    reply.has_piece_at = reply.has_piece = true;
    reply.snapshot_index = serve->file_index;
    reply.snapshot_term = serve->file_term;
    reply.snapshot_bytes = serve->file_len;
    reply.piece_at = at;
    reply.piece = (ProtobufCBinaryData){len, serve->file + at};
    reply_send(quorum, fetch, &reply);
}

/* ---- requests ---- */

/* Answers, unless it may wait: then false. */
static bool answer_fetch(struct quorum *quorum, const struct fetch *fetch)
{
    uint64_t commit = quorum->raft.commit_index;
    uint64_t before = fetch->offset - 1;
    if (before > commit) {
        reply_error(quorum, fetch, ERR_OFFSET_NOT_AVAILABLE, "this voter is behind");
        return true;
    }
    uint64_t term = store_term(quorum->store, before);
    if ((before > 0 && term == 0) || (before == 0 && store_first(quorum->store) > 1)) {
        reply_snapshot(quorum, fetch);
        return true;
    }
    /* R25: what an observer has is committed; if it differs, no truncation makes it good. */
    if (term != fetch->last_term && !CANARY("quorum_serves_any_history")) {
        reply_error(quorum, fetch, ERR_OFFSET_OUT_OF_RANGE,
                    "the observer's metadata log is not this quorum's");
        return true;
    }
    if (before == commit)
        return false;
    reply_entries(quorum, fetch);
    return true;
}

static void wait(struct quorum *quorum, const struct fetch *fetch, uint64_t wait_ms)
{
    struct serve *serve = &quorum->serve;
    struct waiter *waiter = NULL;
    if (wait_ms > 0 && serve->waiter_count < WAITERS_MAX)
        waiter = calloc(1, sizeof *waiter);
    if (waiter == NULL) {
        Karst__MetadataFetchReply reply = reply_begin(quorum);
        reply_send(quorum, fetch, &reply);
        return;
    }
    waiter->fetch = *fetch;
    waiter->deadline_ns =
        env_now(quorum->env) + ENV_MS(wait_ms < WAIT_MS_MAX ? wait_ms : WAIT_MS_MAX);
    list_push_back(&serve->waiters, &waiter->link);
    serve->waiter_count++;
}

/* Observers follow voters only; who asks one may know none of those that vote now. */
static void redirect(struct quorum *quorum, const struct quorum_call *call)
{
    const struct image *image = quorum->feed.image;
    Karst__MetadataFetchReply reply = KARST__METADATA_FETCH_REPLY__INIT;
    Karst__Voter voters[MEMBERS_MAX];
    Karst__Voter *pointers[MEMBERS_MAX];
    reply.error = ERR_REPLICA_NOT_AVAILABLE;
    reply.commit_index = quorum->observer.commit_index;
    reply.leader = quorum->observer.leader;
    reply.leader_term = quorum->observer.leader_term;
    reply.leader_age_ms = UINT32_MAX;
    for (size_t i = 0; i < image_voter_count(image) && i < MEMBERS_MAX; i++) {
        voters[i] = *image_voter_at(image, i);
        pointers[reply.n_voters++] = &voters[i];
    }
    reply.voters = pointers;
    struct fetch fetch = {.token = call->token, .actor = call->message.from};
    reply_send(quorum, &fetch, &reply);
}

void serve_metadata_fetch(struct quorum *quorum, const struct quorum_call *call,
                          const struct wire_header *header)
{
    ProtobufCMessage *message = NULL;
    err_t err = wire_unpack(&karst__metadata_fetch_request__descriptor,
                            wire_message(call->frame, header), &quorum->arena, &message);
    const Karst__MetadataFetchRequest *request =
        (const Karst__MetadataFetchRequest *)(const void *)message;
    if (err == ERR_OK && (request->offset == 0 || request->offset > INT64_MAX))
        err = ERR_INVALID_REQUEST;
    if (err == ERR_OK && !quorum->voter) {
        redirect(quorum, call);
        return;
    }
    if (err != ERR_OK) {
        quorum_answer(quorum, call->message.from, call->token,
                      wire_error_frame(WIRE_METADATA_FETCH, 0, err, NULL));
        return;
    }
    struct fetch fetch = {
        .token = call->token,
        .actor = call->message.from,
        .offset = request->offset,
        .last_term = request->last_term,
        .snapshot_index = request->snapshot_index,
        .snapshot_at = request->snapshot_at,
    };
    if (!answer_fetch(quorum, &fetch))
        wait(quorum, &fetch, request->wait_ms_max);
}

/* The servers, and what makes a configuration newer than another. */
struct described {
    Karst__QuorumServer rows[MEMBERS_MAX];
    Karst__QuorumServer *pointers[MEMBERS_MAX];
    struct quorum_address addresses[MEMBERS_MAX];
    struct uuid directories[MEMBERS_MAX];
};

static bool match_of(const struct quorum *quorum, raft_id id, uint64_t *ret_match)
{
    const struct raft *raft = &quorum->raft;
    struct raft *reader = (struct raft *)(uintptr_t)raft; /* raft_state only reads */
    if (raft_state(reader) != RAFT_LEADER)
        return false;
    for (unsigned i = 0; i < raft->configuration.n; i++)
        if (raft->configuration.servers[i].id == id) {
            *ret_match = raft->leader_state.progress[i].match_index;
            return true;
        }
    return false;
}

static void describe_servers(const struct quorum *quorum, const struct members *members,
                             struct described *described, Karst__DescribeQuorumReply *reply)
{
    reply->has_configuration_index = reply->has_configuration_term = true;
    reply->configuration_index = members->index;
    reply->configuration_term = store_term(quorum->store, members->index);
    reply->servers = described->pointers;
    for (unsigned i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        struct quorum_address *address = &described->addresses[i];
        Karst__QuorumServer *row = &described->rows[reply->n_servers];
        if (!members_address_parse(member->address, address))
            continue;
        *row = (Karst__QuorumServer)KARST__QUORUM_SERVER__INIT;
        row->node_id = members_node(member->id);
        row->host = address->host;
        row->port = address->port;
        row->role = (uint32_t)member->role;
        row->has_directory_id =
            members_address_directory(member->address, &described->directories[i]);
        row->directory_id = wire_put_uuid(&described->directories[i]);
        row->has_match_index = match_of(quorum, member->id, &row->match_index);
        described->pointers[reply->n_servers++] = row;
    }
}

/* A request of the leader must not be answered by another. */
static err_t describe_check(struct quorum *quorum, const struct quorum_call *call,
                            const struct wire_header *header)
{
    ProtobufCMessage *message = NULL;
    err_t err = wire_unpack(&karst__describe_quorum_request__descriptor,
                            wire_message(call->frame, header), &quorum->arena, &message);
    if (err != ERR_OK)
        return err;
    const Karst__DescribeQuorumRequest *request =
        (const Karst__DescribeQuorumRequest *)(const void *)message;
    bool elsewhere = request->of_leader && quorum->leader.stage != LEADER_ACTIVE;
    return elsewhere ? ERR_NOT_CONTROLLER : ERR_OK;
}

void serve_describe(struct quorum *quorum, const struct quorum_call *call,
                    const struct wire_header *header)
{
    err_t err = describe_check(quorum, call, header);
    if (err != ERR_OK) {
        quorum_answer(quorum, call->message.from, call->token,
                      wire_error_frame(WIRE_DESCRIBE_QUORUM, 0, err, NULL));
        return;
    }
    struct quorum_view view;
    quorum_look(quorum, &view);
    const struct image *image = quorum->feed.image;
    Karst__DescribeQuorumReply reply = KARST__DESCRIBE_QUORUM_REPLY__INIT;
    Karst__Voter voters[MEMBERS_MAX];
    Karst__Voter *pointers[MEMBERS_MAX];
    struct described described;
    reply.leader = view.leader_node;
    reply.term = view.term;
    reply.commit_index = view.commit_index;
    reply.last_index = view.last_index;
    reply.snapshot_index = view.snapshot_index;
    for (size_t i = 0; i < image_voter_count(image) && i < MEMBERS_MAX; i++) {
        voters[i] = *image_voter_at(image, i);
        pointers[reply.n_voters++] = &voters[i];
    }
    reply.voters = pointers;
    const struct members *committed = quorum->voter ? guard_committed(&quorum->io) : NULL;
    if (committed != NULL)
        describe_servers(quorum, committed, &described, &reply);
    quorum_answer(quorum, call->message.from, call->token,
                  wire_frame(&(struct wire_frame_args){
                      .kind = WIRE_REPLY,
                      .method = WIRE_DESCRIBE_QUORUM,
                      .message = &reply.base,
                  }));
}

/* ---- waiters ---- */

static void wake(struct quorum *quorum, struct waiter *waiter)
{
    struct fetch fetch = waiter->fetch;
    waiter_free(quorum, waiter);
    if (!answer_fetch(quorum, &fetch))
        wait(quorum, &fetch, 0);
}

void serve_settle(struct quorum *quorum, bool leader_changed)
{
    struct serve *serve = &quorum->serve;
    uint64_t commit = quorum->raft.commit_index;
    if (commit == serve->commit_seen && !leader_changed)
        return;
    serve->commit_seen = commit;
    list_for_each_safe (node, after, &serve->waiters)
        wake(quorum, list_entry(node, struct waiter, link));
}

void serve_stop(struct quorum *quorum)
{
    struct serve *serve = &quorum->serve;
    while (!list_empty(&serve->waiters)) {
        struct waiter *waiter = list_entry(serve->waiters.next, struct waiter, link);
        quorum_answer(quorum, waiter->fetch.actor, waiter->fetch.token,
                      wire_error_frame(WIRE_METADATA_FETCH, 0, ERR_REPLICA_NOT_AVAILABLE, NULL));
        waiter_free(quorum, waiter);
    }
    file_drop(serve);
    serve->commit_seen = 0;
}

void serve_tick(struct quorum *quorum, uint64_t now_ns)
{
    struct serve *serve = &quorum->serve;
    list_for_each_safe (node, after, &serve->waiters) {
        struct waiter *waiter = list_entry(node, struct waiter, link);
        if (waiter->deadline_ns <= now_ns)
            wake(quorum, waiter);
    }
    if (serve->file != NULL && now_ns - serve->file_used_ns > ENV_MS(FILE_IDLE_MS))
        file_drop(serve);
}
