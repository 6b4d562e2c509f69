/* What this node is to the quorum, server or observer, and how it becomes the other, while it runs:
 *
 *   OBSERVER ──[the committed configuration names it, and it has a vote to give]──▶ SERVER
 *   SERVER ──[the committed configuration names it no more]──▶ OBSERVER
 *
 * An observer has committed entries only, and all of a server's are kept up to what is committed:
 * so both begin with the log as it is, and the image goes on. The vote file stays for good: who
 * votes, leaves and comes back still knows whom it voted for.
 *
 * Who has no vote file and is named a voter already has lost it with its disk: it might vote twice,
 * and stays an observer. It is removed and added again, by the log directory that it has now. */
#include <stdlib.h>

#include "base/logger.h"
#include "quorum/internal.h"

enum {
    INSTALL_TIMEOUT_MS =
        3000, /* libraft's 30 s stall a follower for so long after one lost piece */
    THRESHOLD_NEVER = 1 << 30,
};

/* ---- the world of raft_io ---- */

static void io_upcall_done(void *self)
{
    struct quorum *quorum = self;
    if (quorum->failed)
        return;
    /* libraft goes to UNAVAILABLE after an error of its own, and would stay there silently. */
    if (quorum->started && raft_state(&quorum->raft) == RAFT_UNAVAILABLE) {
        char why[RAFT_ERRMSG_BUF_SIZE + 64];
        (void)snprintf(why, sizeof why, "raft has stopped: %s", raft_errmsg(&quorum->raft));
        quorum_fail(quorum, why);
        return;
    }
    guard_upcall_done(&quorum->io);
}

static void io_pump(void *self)
{
    quorum_pump(self);
}

static void io_failed(void *self, const char *why)
{
    quorum_fail(self, why);
}

static bool io_post(void *self, node_id_t node, const char *address, struct frame *frame)
{
    struct quorum *quorum = self;
    struct quorum_address to = {.node = node};
    if (!members_address_parse(address, &to)) {
        frame_unref(frame);
        return false;
    }
    return quorum_send(quorum, &to, 0, frame);
}

/* ---- raft ---- */

/* Takes the vote file over. */
static void init_raft(struct quorum *quorum, const struct vote_file *vote)
{
    const struct quorum_config *config = quorum->config;
    char address[QUORUM_ADDRESS_MAX];
    members_address_print(&config->self, NULL, address);
    quorum_io_init(&quorum->io, &(struct quorum_io_args){
                                    .env = quorum->env,
                                    .owner = {quorum, io_upcall_done, io_pump, io_failed, io_post},
                                    .raft = &quorum->raft,
                                    .node = config->node,
                                    .cluster_id = config->cluster_id,
                                    .message_bytes = config->message_bytes,
                                    .vote = vote,
                                });
    quorum->fsm = feed_fsm;
    quorum->fsm.data = quorum;
    int rv = raft_init(&quorum->raft, &quorum->io.raft_io, &quorum->fsm,
                       members_raft_id(config->node), address);
    ASSERT(rv == 0); /* copies a string */
    raft_set_election_timeout(&quorum->raft, config->election_timeout_ms);
    raft_set_heartbeat_timeout(&quorum->raft, config->heartbeat_ms);
    raft_set_install_snapshot_timeout(&quorum->raft, INSTALL_TIMEOUT_MS);
    raft_set_pre_vote(&quorum->raft, true);
    raft_set_snapshot_threshold(&quorum->raft, THRESHOLD_NEVER);
}

static void start_raft(struct quorum *quorum)
{
    int rv = raft_start(&quorum->raft);
    quorum->started = true;
    if (rv != 0 && !quorum->failed)
        quorum_fail(quorum, raft_errmsg(&quorum->raft));
    if (!quorum->failed)
        election_started(&quorum->io);
    io_upcall_done(quorum);
}

/* ---- at the start ---- */

/* The newest configuration of what was loaded; count 0: none. */
static struct members loaded_members(const struct store_loaded *loaded)
{
    struct members members = {0};
    if (loaded->snapshot != NULL)
        members = loaded->head.members;
    for (size_t i = 0; i < loaded->entry_count; i++) {
        const struct entry *entry = &loaded->entries[i];
        if (entry->type != ENTRY_CHANGE || entry->index <= members.index)
            continue;
        bool legal = members_decode(entry->data, &members);
        ASSERT(legal); /* entry_decode has looked */
        members.index = entry->index;
    }
    return members;
}

/* Who was an observer meanwhile has entries of later terms than it ever voted in; a term below that
 * of its last entry must not be its own.
 *
 * And libraft lets the only voter lead again in the term that it led before it was restarted. Two
 * lives in one term are two histories under one name: it takes a new term, as if it had held an
 * election. */
static err_t settle_term(const struct quorum *quorum, const struct members *members,
                         struct vote_file *vote)
{
    const struct store *store = &quorum->observer.store;
    const struct member *self = members_find(members, quorum->config->node);
    uint64_t logged = store_term(store, store_last(store));
    err_t err = ERR_OK;
    if (vote->term < logged)
        err = vote_write(vote, logged, 0);
    if (err != ERR_OK || self->role != RAFT_VOTER || members_voters(members) > 1)
        return err;
    return vote_write(vote, vote->term + 1, self->id);
}

/* Its own log directory is the one that it is named with, where it is named with one. */
static bool is_named(const struct quorum *quorum, const struct members *members)
{
    struct uuid directory;
    const struct member *self = members_find(members, quorum->config->node);
    return self != NULL && (!members_address_directory(self->address, &directory) ||
                            uuid_equal(&directory, &quorum->config->directory_id));
}

static err_t open_store(struct quorum *quorum, struct store *store, struct store_loaded *loaded)
{
    struct log_upcalls upcalls = {.flushed = quorum_log_flushed, .owner = quorum};
    quorum->store = store;
    return store_open(quorum->env, quorum->config->log_options, upcalls, store, loaded);
}

/* The observer's store becomes raft's. */
static err_t load_server(struct quorum *quorum, const struct members *members,
                         struct vote_file *vote)
{
    err_t err = settle_term(quorum, members, vote);
    quorum->voter = true;
    quorum->io.store = quorum->observer.store;
    quorum->io.loaded = quorum->loaded;
    quorum->store = &quorum->io.store;
    quorum->observer.store = (struct store){0};
    quorum->loaded = (struct store_loaded){0};
    init_raft(quorum, vote); /* also on failure: it owns what is open now */
    if (err != ERR_OK)
        return err;
    /* A server's log begins with a configuration or a snapshot: libraft does not check it. */
    const struct store_loaded *loaded = &quorum->io.loaded;
    bool begins =
        loaded->snapshot != NULL || (loaded->entry_count > 0 && loaded->entries[0].index == 1 &&
                                     loaded->entries[0].type == ENTRY_CHANGE);
    return begins ? ERR_OK : ERR_CORRUPT;
}

err_t role_load(struct quorum *quorum)
{
    struct vote_file vote = {.disk = NULL};
    err_t err = vote_open(&quorum->env->disks[0], &vote);
    quorum->has_vote = err == ERR_OK;
    if (err == ERR_NOT_FOUND)
        err = ERR_OK;
    if (err == ERR_OK)
        err = open_store(quorum, &quorum->observer.store, &quorum->loaded);
    if (err != ERR_OK) {
        vote_close(&vote);
        return err;
    }
    struct members members = loaded_members(&quorum->loaded);
    /* A voter that was formatted has a configuration, or its log is not whole. */
    bool server = quorum->has_vote && (members.count == 0 || is_named(quorum, &members));
    if (server && members.count == 0)
        err = ERR_CORRUPT;
    else if (server)
        return load_server(quorum, &members, &vote);
    vote_close(&vote);
    return err == ERR_OK ? observer_init(quorum, &quorum->loaded) : err;
}

void role_start(struct quorum *quorum)
{
    if (quorum->voter) {
        start_raft(quorum);
    } else {
        quorum->started = true;
        observer_start(quorum);
    }
}

/* ---- observer → server ---- */

static bool may_serve(const struct quorum *quorum)
{
    const struct observer *observer = &quorum->observer;
    const struct members *members = &observer->members;
    /* What it sees must be what is: a configuration of long ago may name it, too. */
    if (observer->job != NULL || observer->write != NULL || observer->file != NULL ||
        !observer->fresh || store_last(&observer->store) != observer->commit_index ||
        !is_named(quorum, members))
        return false;
    struct uuid directory;
    const struct member *self = members_find(members, quorum->config->node);
    return quorum->has_vote ||
           (self->role != RAFT_VOTER && members_address_directory(self->address, &directory));
}

/* With the term that the observer knows: it has voted in none, or the file says so. */
static err_t open_vote(struct quorum *quorum, struct vote_file *vote)
{
    struct env_disk *disk = &quorum->env->disks[0];
    uint64_t last = store_last(quorum->store);
    uint64_t term = store_term(quorum->store, last);
    if (quorum->observer.leader_term > term)
        term = quorum->observer.leader_term;
    err_t err = vote_open(disk, vote);
    if (err == ERR_NOT_FOUND) {
        err = vote_create(disk, term);
        if (err == ERR_OK)
            err = vote_open(disk, vote);
    }
    if (err == ERR_OK && vote->term < term)
        err = vote_write(vote, term, 0);
    return err;
}

static void become_server(struct quorum *quorum)
{
    struct vote_file vote = {.disk = NULL};
    struct observer *observer = &quorum->observer;
    err_t err = open_vote(quorum, &vote);
    if (err == ERR_OK) {
        observer_stop(quorum);
        err = open_store(quorum, &observer->store, &quorum->loaded);
    }
    if (err != ERR_OK) {
        vote_close(&vote);
        quorum_fail_err(quorum, "the metadata log can't be opened as a server's", err);
        return;
    }
    quorum->has_vote = true;
    struct members members = loaded_members(&quorum->loaded);
    quorum->started = false; /* until raft is */
    err = load_server(quorum, &members, &vote);
    if (err != ERR_OK) {
        quorum_fail_err(quorum, "the metadata log can't be opened as a server's", err);
        return;
    }
    start_raft(quorum);
    if (quorum->failed)
        return;
    /* All that it has pulled is committed, and in the image. */
    quorum->raft.commit_index = quorum->raft.last_applied = quorum->raft.last_stored;
    log_info("quorum: this node has become a server of the quorum");
}

/* ---- server → observer ---- */

static bool may_leave(const struct quorum *quorum)
{
    const struct quorum_io *io = &quorum->io;
    const struct members *last = configurations_last(&io->configurations);
    bool removed =
        quorum->lonely.removed || (last != NULL && last->index <= quorum->raft.commit_index &&
                                   members_find(last, quorum->config->node) == NULL);
    struct raft *raft = (struct raft *)(uintptr_t)&quorum->raft; /* only read */
    return removed && raft_state(raft) != RAFT_LEADER && quorum->leader.stage == LEADER_NOT &&
           list_empty(&io->working) && list_empty(&io->waiting) && list_empty(&io->results) &&
           io->put == NULL;
}

/* What is not committed goes: an observer has none of it. */
static err_t open_committed(struct quorum *quorum, uint64_t commit)
{
    struct store *store = &quorum->observer.store;
    struct store_loaded *loaded = &quorum->loaded;
    err_t err = open_store(quorum, store, loaded);
    if (err == ERR_OK && store_last(store) > commit)
        err = store_truncate(store, commit + 1);
    while (loaded->entry_count > 0 && loaded->entries[loaded->entry_count - 1].index > commit)
        loaded->entry_count--;
    return err;
}

static void become_observer(struct quorum *quorum)
{
    uint64_t commit = quorum->raft.commit_index;
    uint64_t term = quorum->raft.current_term;
    struct quorum_io *io = &quorum->io;
    quorum->past = quorum_counters(quorum);
    io->failed = true; /* nothing comes of what is under way */
    raft_close(&quorum->raft, NULL);
    messages_assembly_drop(&quorum->assembly);
    serve_stop(quorum);
    memset(&quorum->raft, 0, sizeof quorum->raft);
    memset(io, 0, sizeof *io);
    quorum->lonely = (struct lonely){0};
    quorum->voter = false;
    err_t err = open_committed(quorum, commit);
    if (err == ERR_OK)
        err = observer_init(quorum, &quorum->loaded);
    if (err != ERR_OK) {
        quorum_fail_err(quorum, "the metadata log can't be opened as an observer's", err);
        return;
    }
    quorum->observer.leader_term = term;
    log_info("quorum: this node is no server of the quorum any more, and observes it");
    observer_start(quorum);
}

void role_tick(struct quorum *quorum)
{
    if (!quorum->started || quorum->failed)
        return;
    quorum_look(quorum, &quorum->parted);
    if (quorum->voter && may_leave(quorum))
        become_observer(quorum);
    else if (!quorum->voter && may_serve(quorum))
        become_server(quorum);
}
