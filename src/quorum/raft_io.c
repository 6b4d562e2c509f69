#include "quorum/raft_io.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"

static struct quorum_io *io_of(const struct raft_io *raft_io)
{
    return raft_io->impl;
}

/* ---- operations ---- */

struct io_op *io_op_new(struct quorum_io *io, enum io_op_kind kind, void *request)
{
    struct io_op *op = calloc(1, sizeof *op);
    ASSERT(op != NULL); /* a hundred bytes */
    list_init(&op->link);
    op->kind = kind;
    op->io = io;
    op->request = request;
    op->context = io->context;
    return op;
}

void io_op_finish(struct io_op *op, int status)
{
    op->status = status;
    list_remove(&op->link);
    list_push_back(&op->io->results, &op->link);
}

void io_fail(struct quorum_io *io, const char *what, err_t err)
{
    if (io->failed)
        return;
    io->failed = true;
    char why[256];
    (void)snprintf(why, sizeof why, "%s: %s", what, err_sentence(err));
    io->owner.fail(io->owner.self, why);
}

static void tell(struct io_op *op)
{
    switch (op->kind) {
    case IO_APPEND: {
        struct raft_io_append *request = op->request;
        request->cb(request, op->status);
        break;
    }
    case IO_PUT: {
        struct raft_io_snapshot_put *request = op->request;
        request->cb(request, op->status);
        break;
    }
    case IO_GET: {
        struct raft_io_snapshot_get *request = op->request;
        request->cb(request, op->got, op->status);
        break;
    }
    case IO_SEND: {
        struct raft_io_send *request = op->request;
        free(op->send.address);
        if (request->cb != NULL)
            request->cb(request, op->status);
        break;
    }
    case IO_WORK: {
        struct raft_io_async_work *request = op->request;
        request->cb(request, op->status);
        break;
    }
    case IO_TRUNCATE:
        break;
    }
}

bool quorum_io_drain(struct quorum_io *io)
{
    struct list_node *node = list_pop_front(&io->results);
    if (node == NULL)
        return false;
    struct io_op *op = list_entry(node, struct io_op, link);
    io->context = op->context;
    tell(op);
    io->context = (struct guard_context){0};
    free(op);
    io->owner.upcall_done(io->owner.self);
    return true;
}

/* ---- term, vote, load ---- */

static int io_raft_init(struct raft_io *raft_io, raft_id id, const char *address)
{
    (void)address;
    ASSERT(id == members_raft_id(io_of(raft_io)->node));
    return 0;
}

static int write_vote(struct quorum_io *io, raft_term term, raft_id id)
{
    err_t err = vote_write(&io->vote, term, id);
    if (err == ERR_OK)
        return 0;
    io_fail(io, "the quorum's term and vote can't be written", err);
    return RAFT_IOERR;
}

static int io_set_term(struct raft_io *raft_io, raft_term term)
{
    return write_vote(io_of(raft_io), term, 0);
}

static int io_set_vote(struct raft_io *raft_io, raft_id id)
{
    struct quorum_io *io = io_of(raft_io);
    return write_vote(io, io->vote.term, id);
}

/* One buffer, owned by raft. */
static struct raft_snapshot *snapshot_to_raft(const struct snapshot_head *head, struct bytes image)
{
    struct raft_snapshot *snapshot = raft_calloc(1, sizeof *snapshot);
    if (snapshot == NULL)
        return NULL;
    raft_configuration_init(&snapshot->configuration);
    snapshot->index = head->index;
    snapshot->term = head->term;
    snapshot->configuration_index = head->members.index;
    snapshot->n_bufs = 1;
    snapshot->bufs = raft_calloc(1, sizeof *snapshot->bufs);
    void *copy = raft_malloc(image.len + 1);
    if (snapshot->bufs == NULL || copy == NULL ||
        !members_to_raft(&head->members, &snapshot->configuration)) {
        raft_configuration_close(&snapshot->configuration);
        raft_free(copy);
        raft_free(snapshot->bufs);
        raft_free(snapshot);
        return NULL;
    }
    memcpy(copy, image.data, image.len);
    snapshot->bufs[0] = (struct raft_buffer){copy, image.len};
    return snapshot;
}

static int load_entries(const struct store_loaded *loaded, struct raft_entry **ret_entries)
{
    *ret_entries = NULL;
    if (loaded->entry_count == 0)
        return 0;
    struct raft_entry *entries = raft_calloc(loaded->entry_count, sizeof *entries);
    uint8_t *batch = raft_malloc(loaded->data_len);
    if (entries == NULL || batch == NULL) {
        raft_free(entries);
        raft_free(batch);
        return RAFT_NOMEM;
    }
    size_t at = 0; /* lengths are multiples of 8, so each entry stays aligned */
    for (size_t i = 0; i < loaded->entry_count; i++) {
        const struct entry *entry = &loaded->entries[i];
        memcpy(batch + at, entry->data.data, entry->data.len);
        entries[i] = (struct raft_entry){
            .term = entry->term,
            .type = (unsigned short)entry->type,
            .buf = {batch + at, entry->data.len},
            .batch = batch,
        };
        at += entry->data.len;
    }
    *ret_entries = entries;
    return 0;
}

static int io_load(struct raft_io *raft_io, raft_term *term, raft_id *voted_for,
                   struct raft_snapshot **snapshot, raft_index *start_index,
                   struct raft_entry *entries[], size_t *n_entries)
{
    struct quorum_io *io = io_of(raft_io);
    struct store_loaded *loaded = &io->loaded;
    *term = io->vote.term;
    *voted_for = io->vote.vote;
    *snapshot = NULL;
    if (loaded->snapshot != NULL) {
        *snapshot = snapshot_to_raft(&loaded->head, loaded->image);
        if (*snapshot == NULL)
            return RAFT_NOMEM;
    }
    int rv = load_entries(loaded, entries);
    if (rv != 0)
        return rv;
    *n_entries = loaded->entry_count;
    *start_index = store_first(&io->store);
    store_loaded_fini(loaded);
    return 0;
}

/* A voter's first state is made by quorum_format, before there is a raft instance. */
static int io_bootstrap(struct raft_io *raft_io, const struct raft_configuration *configuration)
{
    (void)raft_io;
    (void)configuration;
    return RAFT_CANTBOOTSTRAP;
}

/* Offline only, and libraft's has a bug of its own (it writes term 1): refused. */
static int io_recover(struct raft_io *raft_io, const struct raft_configuration *configuration)
{
    (void)raft_io;
    (void)configuration;
    return RAFT_INVALID;
}

/* ---- append, truncate ---- */

static void complete_appends(struct quorum_io *io, uint64_t flushed_end)
{
    while (!list_empty(&io->appends)) {
        struct io_op *op = list_entry(io->appends.next, struct io_op, link);
        if (op->append.wait_end > flushed_end)
            break;
        io_op_finish(op, 0);
    }
}

void quorum_io_flushed(struct quorum_io *io, offset_t flushed_end, err_t err)
{
    if (err != ERR_OK) {
        io_fail(io, "the metadata log can't be synced", err);
        return;
    }
    complete_appends(io, (uint64_t)flushed_end);
}

/* From now on it is in force here (raft_membership.c). */
static void note_change(struct quorum_io *io, const struct entry *entry)
{
    struct members members;
    if (entry->type != ENTRY_CHANGE)
        return;
    bool legal = members_decode(entry->data, &members);
    ASSERT(legal); /* own, or checked when it came */
    members.index = entry->index;
    configurations_note(&io->configurations, &members);
}

static err_t append_now(struct io_op *op)
{
    struct quorum_io *io = op->io;
    unsigned count = op->append.count;
    struct entry *entries = malloc(count * sizeof *entries);
    if (entries == NULL)
        return ERR_NO_MEMORY;
    uint64_t next = store_last(&io->store) + 1;
    for (unsigned i = 0; i < count; i++) {
        const struct raft_entry *from = &op->append.entries[i];
        entries[i] = (struct entry){
            .index = next + i,
            .term = from->term,
            .type = from->type,
            .data = {from->buf.base, from->buf.len},
        };
    }
    err_t err = store_append(&io->store, entries, count);
    for (unsigned i = 0; i < count && err == ERR_OK; i++)
        note_change(io, &entries[i]);
    free(entries);
    op->append.wait_end = store_last(&io->store) + 1;
    list_push_back(&io->appends, &op->link);
    return err;
}

static err_t truncate_now(struct quorum_io *io, uint64_t index)
{
    err_t err = store_truncate(&io->store, index);
    if (err != ERR_OK)
        return err;
    io->truncations++;
    configurations_cut(&io->configurations, index);
    /* What was cut off is told as stored, in its turn: raft compares the terms, finds that these
     * entries are no longer its own, and forgets them. */
    list_for_each (node, &io->appends) {
        struct io_op *op = list_entry(node, struct io_op, link);
        if (op->append.wait_end > index)
            op->append.wait_end = index;
    }
    log_flush(io->store.log);
    complete_appends(io, (uint64_t)log_flushed_end(io->store.log));
    return ERR_OK;
}

static int io_append(struct raft_io *raft_io, struct raft_io_append *request,
                     const struct raft_entry entries[], unsigned n, raft_io_append_cb cb)
{
    struct quorum_io *io = io_of(raft_io);
    if (io->failed)
        return RAFT_IOERR;
    /* Rule "padding": an entry of odd length shifts all behind it in libraft's batches. */
    for (unsigned i = 0; i < n; i++)
        if (entries[i].buf.len % ENTRY_ALIGN != 0)
            return RAFT_INVALID;
    request->cb = cb;
    struct io_op *op = io_op_new(io, IO_APPEND, request);
    op->append.entries = entries;
    op->append.count = n;
    if (io->installing) {
        list_push_back(&io->waiting, &op->link);
        return 0;
    }
    err_t err = append_now(op);
    if (err == ERR_OK)
        return 0;
    io_fail(io, "the metadata log can't be written", err);
    return 0; /* told never: the process ends */
}

static int io_truncate(struct raft_io *raft_io, raft_index index)
{
    struct quorum_io *io = io_of(raft_io);
    if (io->failed)
        return RAFT_IOERR;
    if (io->installing) {
        struct io_op *op = io_op_new(io, IO_TRUNCATE, NULL);
        op->truncate = index;
        list_push_back(&io->waiting, &op->link);
        return 0;
    }
    err_t err = truncate_now(io, index);
    if (err == ERR_OK)
        return 0;
    io_fail(io, "the metadata log can't be cut", err);
    return RAFT_IOERR;
}

/* ---- snapshots ---- */

static void run_waiting(struct quorum_io *io)
{
    while (!list_empty(&io->waiting) && !io->installing && !io->failed) {
        struct io_op *op = list_entry(list_pop_front(&io->waiting), struct io_op, link);
        err_t err = ERR_OK;
        if (op->kind == IO_APPEND) {
            err = append_now(op);
        } else {
            ASSERT(op->kind == IO_TRUNCATE);
            err = truncate_now(io, op->truncate);
            free(op);
        }
        if (err != ERR_OK)
            io_fail(io, "the metadata log can't be written", err);
    }
}

static err_t put_taken(struct quorum_io *io, const struct raft_snapshot *snapshot,
                       unsigned trailing)
{
    uint64_t keep_from = snapshot->index > trailing ? snapshot->index - trailing + 1 : 1;
    io->snapshots_taken++;
    configurations_drop(&io->configurations, snapshot->index);
    return store_snapshot_taken(&io->store, snapshot->index, snapshot->term, keep_from);
}

static err_t put_installed(struct quorum_io *io, const struct raft_snapshot *snapshot)
{
    /* Appends from before are told first, in order; the log they went to is replaced now. */
    complete_appends(io, UINT64_MAX);
    io->snapshots_installed++;
    io->installing = false;
    struct members members;
    if (!members_from_raft(&snapshot->configuration, snapshot->configuration_index, &members))
        return ERR_INVALID;
    configurations_reset(&io->configurations, &members);
    return store_reset(&io->store, snapshot->index, snapshot->term);
}

static void put_written(void *owner, err_t err)
{
    struct io_op *op = owner;
    struct quorum_io *io = op->io;
    io->put = NULL;
    op->put.write = NULL;
    if (err == ERR_OK) {
        err = op->put.trailing == 0 ? put_installed(io, op->put.snapshot)
                                    : put_taken(io, op->put.snapshot, op->put.trailing);
    }
    io_op_finish(op, err == ERR_OK ? 0 : RAFT_IOERR);
    if (err != ERR_OK)
        io_fail(io, "a metadata snapshot can't be written", err);
    run_waiting(io);
    io->owner.pump(io->owner.self);
}

static err_t put_encode(const struct quorum_io *io, const struct raft_snapshot *snapshot,
                        unsigned trailing, struct bytes *ret_file)
{
    struct snapshot_head head = {
        .index = snapshot->index,
        .term = snapshot->term,
        .cluster_id = io->cluster_id,
    };
    /* Of its own snapshot raft tells the newest one, committed or not (raft_membership.c). */
    const struct members *then = configurations_at(&io->configurations, snapshot->index);
    if (trailing != 0 && then != NULL && !CANARY("quorum_snapshot_newest_configuration"))
        head.members = *then;
    else if (!members_from_raft(&snapshot->configuration, snapshot->configuration_index,
                                &head.members))
        return ERR_INVALID;
    struct bytes *parts = malloc((snapshot->n_bufs + 1) * sizeof *parts);
    if (parts == NULL)
        return ERR_NO_MEMORY;
    for (unsigned i = 0; i < snapshot->n_bufs; i++)
        parts[i] = (struct bytes){snapshot->bufs[i].base, snapshot->bufs[i].len};
    ret_file->data = snapshot_encode(&head, parts, snapshot->n_bufs, &ret_file->len);
    free(parts);
    return ret_file->data == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static void put_start(struct io_op *op)
{
    struct quorum_io *io = op->io;
    const struct raft_snapshot *snapshot = op->put.snapshot;
    struct bytes file;
    err_t err = put_encode(io, snapshot, op->put.trailing, &file);
    if (err == ERR_OK)
        err = snapshot_write_start(io->store.disk, snapshot->index, snapshot->term, file,
                                   put_written, op, &op->put.write);
    if (err != ERR_OK) {
        /* R16: without room for it the log grows on, and a later one may find some; what a leader
         * sends must be taken. */
        bool passing = err == ERR_NOT_ENOUGH_SPACE && op->put.trailing != 0;
        io_op_finish(op, passing ? RAFT_NOSPACE : RAFT_IOERR);
        if (!passing)
            io_fail(io, "a metadata snapshot can't be written", err);
        return;
    }
    io->put = op;
    io->installing = op->put.trailing == 0;
}

static int io_snapshot_put(struct raft_io *raft_io, unsigned trailing,
                           struct raft_io_snapshot_put *request,
                           const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb cb)
{
    struct quorum_io *io = io_of(raft_io);
    if (io->failed)
        return RAFT_IOERR;
    ASSERT(io->put == NULL); /* libraft puts one at a time */
    ASSERT(!io->installing);
    request->cb = cb;
    struct io_op *op = io_op_new(io, IO_PUT, request);
    op->put.snapshot = snapshot;
    op->put.trailing = trailing;
    if (trailing != 0)
        op->context.set = false; /* our own snapshot answers nobody */
    put_start(op);
    return 0;
}

static int io_snapshot_get(struct raft_io *raft_io, struct raft_io_snapshot_get *request,
                           raft_io_snapshot_get_cb cb)
{
    struct quorum_io *io = io_of(raft_io);
    request->cb = cb;
    struct io_op *op = io_op_new(io, IO_GET, request);
    uint8_t *file = NULL;
    size_t len = 0;
    struct snapshot_head head;
    struct bytes image;
    /* Read here, not later: raft has just noted the index of the newest snapshot. */
    err_t err = snapshot_read(io->store.disk, io->store.snapshot_index, io->store.snapshot_term,
                              &file, &len);
    if (err == ERR_OK)
        err = snapshot_decode((struct bytes){file, len}, &head, &image);
    if (err == ERR_OK)
        op->got = snapshot_to_raft(&head, image);
    free(file);
    io_op_finish(op, op->got != NULL ? 0 : err == ERR_OK ? RAFT_NOMEM : RAFT_IOERR);
    return 0;
}

/* ---- a snapshot out, in pieces: a few at a time, so that no queue holds all of it ---- */

enum { PIECES_AT_ONCE = 4, PIECES_EVERY_MS = 5 };

static void send_pieces(struct io_op *op)
{
    struct quorum_io *io = op->io;
    const struct raft_message *message = &op->send.message;
    size_t len = message->install_snapshot.data.len;
    for (unsigned i = 0; i < PIECES_AT_ONCE; i++) {
        size_t piece = len - op->send.at;
        if (piece > MESSAGE_PIECE_BYTES)
            piece = MESSAGE_PIECE_BYTES;
        struct frame *frame = messages_encode_piece(message, io->node, op->send.at, piece);
        if (frame == NULL || !io->owner.post(io->owner.self, members_node(message->server_id),
                                             message->server_address, frame)) {
            io_op_finish(op, RAFT_NOCONNECTION);
            return;
        }
        op->send.at += piece;
        if (op->send.at == len) {
            io_op_finish(op, 0);
            return;
        }
    }
}

void io_send_snapshot(struct io_op *op)
{
    struct quorum_io *io = op->io;
    /* raft's own text may go away with its configuration before all pieces are sent. */
    op->send.address = strdup(op->send.message.server_address);
    ASSERT(op->send.address != NULL);
    op->send.message.server_address = op->send.address;
    list_push_back(&io->sending, &op->link);
    send_pieces(op);
    if (!list_empty(&io->sending))
        io->env->timer_start(io->env->self, &io->piece_timer,
                             env_now(io->env) + ENV_MS(PIECES_EVERY_MS));
}

static void pieces_due(struct env_timer *timer, uint64_t now_ns)
{
    struct quorum_io *io = container_of(timer, struct quorum_io, piece_timer);
    if (io->failed)
        return;
    list_for_each_safe (node, after, &io->sending)
        send_pieces(list_entry(node, struct io_op, link));
    if (!list_empty(&io->sending))
        io->env->timer_start(io->env->self, &io->piece_timer, now_ns + ENV_MS(PIECES_EVERY_MS));
    io->owner.pump(io->owner.self);
}

/* ---- time, chance, work ---- */

static raft_time io_time(struct raft_io *raft_io)
{
    return env_now(io_of(raft_io)->env) / 1000000;
}

static int io_random(struct raft_io *raft_io, int min, int max)
{
    struct env *env = io_of(raft_io)->env;
    if (max <= min)
        return min;
    return min + (int)(env->random(env->self) % (uint64_t)(max - min));
}

static void work_run(void *arg)
{
    struct io_op *op = arg;
    struct raft_io_async_work *request = op->request;
    op->status = request->work(request);
}

static void work_done(struct env_done *done, err_t err)
{
    struct io_op *op = container_of(done, struct io_op, work);
    struct quorum_io *io = op->io;
    list_remove(&op->link);
    io_op_finish(op, err == ERR_OK ? op->status : RAFT_CANCELED);
    io->owner.pump(io->owner.self);
}

static int io_async_work(struct raft_io *raft_io, struct raft_io_async_work *request,
                         raft_io_async_work_cb cb)
{
    struct quorum_io *io = io_of(raft_io);
    request->cb = cb;
    struct io_op *op = io_op_new(io, IO_WORK, request);
    op->work.done = work_done;
    list_push_back(&io->working, &op->link);
    if (io->env->workers.submit(io->env->workers.self, work_run, op, &op->work) == ERR_OK)
        return 0;
    list_remove(&op->link);
    free(op);
    return RAFT_BUSY;
}

/* ---- start, close ---- */

static void tick_due(struct env_timer *timer, uint64_t now_ns)
{
    struct quorum_io *io = container_of(timer, struct quorum_io, tick_timer);
    if (io->failed)
        return;
    io->env->timer_start(io->env->self, timer, now_ns + io->tick_ns);
    guard_before_tick(io);
    io->tick(&io->raft_io);
    io->owner.upcall_done(io->owner.self);
    io->owner.pump(io->owner.self);
}

static int io_start(struct raft_io *raft_io, unsigned msecs, raft_io_tick_cb tick,
                    raft_io_recv_cb recv)
{
    struct quorum_io *io = io_of(raft_io);
    io->tick = tick;
    io->recv = recv;
    io->tick_ns = ENV_MS(msecs);
    io->env->timer_start(io->env->self, &io->tick_timer, env_now(io->env) + io->tick_ns);
    return 0;
}

void quorum_io_receive(struct quorum_io *io, struct raft_message *message, uint64_t sent_ns)
{
    uint64_t current_term = io->raft->current_term;
    if (message->type == RAFT_IO_APPEND_ENTRIES) {
        contact_asked(&io->contact, message->append_entries.term, sent_ns, current_term);
    } else if (message->type == RAFT_IO_APPEND_ENTRIES_RESULT &&
               message->append_entries_result.term == current_term &&
               raft_state(io->raft) == RAFT_LEADER) {
        contact_answered(&io->contact, current_term, message->server_id, sent_ns);
    }
    guard_receive(io, message);
    io->owner.upcall_done(io->owner.self);
}

uint64_t quorum_io_contact_ns(const struct quorum_io *io)
{
    return contact_majority_ns(&io->contact, io->raft->current_term, io->raft->id,
                               &io->raft->configuration, env_now(io->env));
}

static void cancel(struct list_node *list)
{
    for (struct list_node *node; (node = list_pop_front(list)) != NULL;) {
        struct io_op *op = list_entry(node, struct io_op, link);
        void *forgotten = NULL;
        if (op->kind == IO_PUT && op->put.trailing == 0)
            forgotten = op->put.snapshot->bufs; /* libraft does not free this array then */
        tell(op);
        raft_free(forgotten);
        free(op);
    }
}

static void set_status(struct list_node *list, int status)
{
    list_for_each (node, list) {
        struct io_op *op = list_entry(node, struct io_op, link);
        op->status = op->kind == IO_APPEND ? 0 : status;
    }
}

/* The instance is UNAVAILABLE already. Appends are told as done, not as canceled: a canceled append
 * makes libraft 0.15 cut its log again, below what it has (log.c:814). Nothing is acknowledged by
 * it any more. */
static void io_close(struct raft_io *raft_io, raft_io_close_cb cb)
{
    struct quorum_io *io = io_of(raft_io);
    io->env->timer_stop(io->env->self, &io->tick_timer);
    io->env->timer_stop(io->env->self, &io->piece_timer);
    io->env->timer_stop(io->env->self, &io->early.timer);
    if (io->put != NULL) {
        if (io->put->put.write != NULL)
            snapshot_write_detach(io->put->put.write);
        list_push_back(&io->waiting, &io->put->link);
        io->put = NULL;
    }
    cancel(&io->results); /* finished ones: with the status that they have */
    struct list_node *unfinished[] = {&io->appends, &io->waiting, &io->sending, &io->working};
    for (size_t i = 0; i < ARRAY_LEN(unfinished); i++) {
        set_status(unfinished[i], RAFT_CANCELED);
        cancel(unfinished[i]);
    }
    vote_close(&io->vote);
    store_loaded_fini(&io->loaded);
    store_close(&io->store, false);
    configurations_fini(&io->configurations);
    cb(raft_io);
}

/* What was loaded says who the servers are; what the snapshot's configuration covers is done with.
 */
static void load_configurations(struct quorum_io *io)
{
    const struct store_loaded *loaded = &io->loaded;
    if (loaded->snapshot != NULL)
        configurations_reset(&io->configurations, &loaded->head.members);
    for (size_t i = 0; i < loaded->entry_count; i++) {
        const struct members *last = configurations_last(&io->configurations);
        if (last == NULL || loaded->entries[i].index > last->index)
            note_change(io, &loaded->entries[i]);
    }
}

void quorum_io_init(struct quorum_io *io, const struct quorum_io_args *args)
{
    io->raft = args->raft;
    io->env = args->env;
    io->owner = args->owner;
    io->node = args->node;
    io->cluster_id = args->cluster_id;
    io->message_bytes = args->message_bytes == 0 ? MESSAGE_ENTRIES_BYTES : args->message_bytes;
    io->vote = *args->vote;
    load_configurations(io);
    list_init(&io->appends);
    list_init(&io->waiting);
    list_init(&io->results);
    list_init(&io->sending);
    list_init(&io->working);
    io->tick_timer.fire = tick_due;
    io->piece_timer.fire = pieces_due;
    io->early.timer.fire = election_turn_due;
    io->raft_io = (struct raft_io){
        .version = 2,
        .impl = io,
        .init = io_raft_init,
        .close = io_close,
        .load = io_load,
        .start = io_start,
        .bootstrap = io_bootstrap,
        .recover = io_recover,
        .set_term = io_set_term,
        .set_vote = io_set_vote,
        .send = guard_send,
        .append = io_append,
        .truncate = io_truncate,
        .snapshot_put = io_snapshot_put,
        .snapshot_get = io_snapshot_get,
        .time = io_time,
        .random = io_random,
        .async_work = io_async_work,
    };
}
