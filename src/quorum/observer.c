/* A broker that is no voter pulls the committed log from one (R25). What it has is committed, so it
 * never cuts anything; what differs is another history, and fail-stop. */
#include <stdlib.h>

#include "base/logger.h"
#include "quorum/internal.h"

enum {
    RETRY_MS_MIN = 20,
    RETRY_MS_MAX = 100,
    WAIT_MS_MAX = 500,
};

struct snapshot_job {
    struct env_done op;
    struct quorum *quorum;
    struct image *image;
    struct snapshot_head head;
    uint8_t *file; /* the result; NULL: it failed */
    size_t file_len;
    struct snapshot_write *write;
};

/* ---- sources ---- */

static bool address_of_voter(const Karst__Voter *voter, struct quorum_address *ret_address)
{
    size_t len = strlen(voter->host);
    if (len >= sizeof ret_address->host || voter->port > UINT16_MAX)
        return false;
    ret_address->node = voter->node_id;
    ret_address->port = (uint16_t)voter->port;
    memcpy(ret_address->host, voter->host, len + 1);
    return true;
}

/* Any broker knows the voters, at least; nth: another one each time. */
static void source_broker(struct quorum *quorum, size_t nth)
{
    struct quorum_address *source = &quorum->observer.source;
    const struct image *image = quorum->feed.image;
    size_t count = image_broker_count(image);
    for (size_t i = 0; i < count; i++) {
        const struct image_broker *broker = image_broker_at(image, (nth + i) % count);
        size_t len = broker->listener_count == 0 ? 0 : strlen(broker->listeners[0].host);
        if (broker->state != BROKER_STATE_ACTIVE || broker->id == quorum->config->node ||
            len == 0 || len >= sizeof source->host)
            continue;
        source->node = broker->id;
        source->port = broker->listeners[0].port;
        memcpy(source->host, broker->listeners[0].host, len + 1);
        return;
    }
}

/* Of the voters that the image knows, those that an observer has named, the configuration's list,
 * and once in a round some broker: the next one in turn. All of these: the voters that an old image
 * names may be gone, or observers by now. */
static void next_source(struct quorum *quorum)
{
    struct observer *observer = &quorum->observer;
    const struct image *image = quorum->feed.image;
    size_t voters = image_voter_count(image);
    size_t hints = observer->hint_count;
    size_t listed = quorum->config->bootstrap_count;
    size_t round = voters + hints + listed + 1;
    size_t nth = observer->next_source++;
    size_t at = nth % round;
    observer->source = (struct quorum_address){.node = NO_NODE};
    if (at < voters)
        (void)address_of_voter(image_voter_at(image, at), &observer->source); /* else the next */
    else if (at < voters + hints)
        observer->source = observer->hints[at - voters];
    else if (at < voters + hints + listed)
        observer->source = quorum->config->bootstrap[at - voters - hints];
    else
        source_broker(quorum, nth / round);
}

/* The node that was asked is an observer, too: these are the voters that it knows. */
static void take_hints(struct observer *observer, const Karst__MetadataFetchReply *reply)
{
    observer->hint_count = 0;
    for (size_t i = 0; i < reply->n_voters && observer->hint_count < MEMBERS_MAX; i++)
        if (address_of_voter(reply->voters[i], &observer->hints[observer->hint_count]))
            observer->hint_count++;
}

static void pull_later(struct quorum *quorum, bool change_source)
{
    struct env *env = quorum->env;
    struct observer *observer = &quorum->observer;
    if (change_source)
        next_source(quorum);
    observer->token = 0;
    uint64_t ms = RETRY_MS_MIN + env->random(env->self) % (RETRY_MS_MAX - RETRY_MS_MIN);
    if (observer->pulled) /* the source has just died, it may be: another knows as much */
        ms = 0;
    observer->pulled = false;
    env->timer_start(env->self, &observer->timer, env_now(env) + ENV_MS(ms));
}

static uint64_t wait_ms(const struct quorum *quorum)
{
    uint64_t half = quorum->config->election_timeout_ms / 2;
    return half < WAIT_MS_MAX ? half : WAIT_MS_MAX;
}

static void pull(struct quorum *quorum)
{
    struct env *env = quorum->env;
    struct observer *observer = &quorum->observer;
    uint64_t last = store_last(&observer->store);
    Karst__MetadataFetchRequest request = KARST__METADATA_FETCH_REQUEST__INIT;
    request.node_id = quorum->config->node;
    request.offset = last + 1;
    request.last_term = store_term(&observer->store, last);
    request.wait_ms_max = (uint32_t)wait_ms(quorum);
    if (observer->file != NULL) {
        request.has_snapshot_index = request.has_snapshot_at = true;
        request.snapshot_index = observer->file_index;
        request.snapshot_at = observer->file_received;
    }
    observer->token = ++observer->tokens;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST,
        .method = WIRE_METADATA_FETCH,
        .message = &request.base,
    });
    if (observer->source.port == 0) {
        frame_unref(frame);
        pull_later(quorum, true);
        return;
    }
    if (frame == NULL || !quorum_send(quorum, &observer->source, observer->token, frame)) {
        pull_later(quorum, true);
        return;
    }
    uint64_t deadline_ms = wait_ms(quorum) + quorum->config->election_timeout_ms;
    env->timer_start(env->self, &observer->timer, env_now(env) + ENV_MS(deadline_ms));
}

/* The time of the next pull, or nobody answered the last one. */
static void timer_due(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct observer *observer = container_of(timer, struct observer, timer);
    struct quorum *quorum = container_of(observer, struct quorum, observer);
    if (quorum->failed || observer->write != NULL)
        return;
    if (observer->token != 0)
        next_source(quorum);
    pull(quorum);
    quorum_pump(quorum);
}

/* ---- snapshots in ---- */

static void file_drop(struct observer *observer)
{
    free(observer->file);
    observer->file = NULL;
    observer->file_received = 0;
}

static void installed(void *owner, err_t err)
{
    struct quorum *quorum = owner;
    struct observer *observer = &quorum->observer;
    const struct snapshot_head *head = &observer->install_head;
    observer->write = NULL;
    if (err == ERR_OK)
        err = store_reset(&observer->store, head->index, head->term);
    if (err != ERR_OK) {
        quorum_fail_err(quorum, "a metadata snapshot can't be installed", err);
        return;
    }
    observer->members = head->members;
    observer->snapshots_installed++;
    if (observer->commit_index < head->index)
        observer->commit_index = head->index;
    feed_replace(quorum, observer->install_image);
    observer->install_image = NULL;
    pull(quorum);
    quorum_pump(quorum);
}

/* All pieces are here. False: they make no snapshot of this cluster. */
static bool install(struct quorum *quorum)
{
    struct observer *observer = &quorum->observer;
    struct bytes file = {observer->file, observer->file_bytes};
    struct bytes bytes;
    struct image *image = NULL;
    err_t err = snapshot_decode(file, &observer->install_head, &bytes);
    if (err == ERR_OK && observer->install_head.index <= store_last(&observer->store))
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        err = image_decode_snapshot(bytes, &image);
    if (err == ERR_OK && !uuid_equal(image_cluster_id(image), &quorum->config->cluster_id))
        err = ERR_INCONSISTENT_CLUSTER_ID;
    if (err != ERR_OK) {
        log_warn("quorum: a voter's snapshot is refused: %s", err_sentence(err));
        image_unref(image);
        file_drop(observer);
        return false;
    }
    observer->file = NULL; /* it goes to the writer */
    observer->file_received = 0;
    observer->install_image = image;
    err = snapshot_write_start(observer->store.disk, observer->install_head.index,
                               observer->install_head.term, file, installed, quorum,
                               &observer->write);
    if (err != ERR_OK)
        quorum_fail_err(quorum, "a metadata snapshot can't be written", err);
    return true;
}

/* False: not the piece that must come. */
static bool take_piece(struct quorum *quorum, const Karst__MetadataFetchReply *reply)
{
    struct observer *observer = &quorum->observer;
    if (observer->file == NULL || observer->file_index != reply->snapshot_index ||
        observer->file_term != reply->snapshot_term ||
        observer->file_bytes != reply->snapshot_bytes) {
        file_drop(observer);
        if (reply->snapshot_bytes == 0 || reply->snapshot_bytes > SNAPSHOT_BYTES_MAX)
            return false;
        observer->file = malloc(reply->snapshot_bytes);
        if (observer->file == NULL)
            return false;
        observer->file_index = reply->snapshot_index;
        observer->file_term = reply->snapshot_term;
        observer->file_bytes = reply->snapshot_bytes;
    }
    if (reply->piece_at != observer->file_received || reply->piece.len == 0 ||
        reply->piece.len > observer->file_bytes - observer->file_received) {
        file_drop(observer);
        return false;
    }
    memcpy(observer->file + observer->file_received, reply->piece.data, reply->piece.len);
    observer->file_received += reply->piece.len;
    return observer->file_received < observer->file_bytes || install(quorum);
}

/* ---- entries ---- */

static bool apply(struct quorum *quorum, const struct entry *entry)
{
    struct observer *observer = &quorum->observer;
    if (entry->type == ENTRY_CHANGE && entry->index > observer->members.index) {
        if (!members_decode(entry->data, &observer->members))
            return false;
        observer->members.index = entry->index;
    }
    return entry->type != ENTRY_COMMAND || feed_apply(quorum, entry->index, entry->data);
}

/* False: not what must follow on the log. */
static bool take_entries(struct quorum *quorum, const Karst__MetadataFetchReply *reply)
{
    struct observer *observer = &quorum->observer;
    size_t count = reply->n_entries;
    if (count == 0)
        return true;
    struct entry *entries = calloc(count, sizeof *entries);
    if (entries == NULL)
        return false;
    uint64_t last = store_last(&observer->store);
    uint64_t term = store_term(&observer->store, last);
    bool legal = true;
    for (size_t i = 0; i < count; i++) {
        const Karst__RaftEntry *from = reply->entries[i];
        entries[i] = (struct entry){
            .index = last + 1 + i,
            .term = from->term,
            .type = from->type,
            .data = {from->data.data, from->data.len},
        };
        legal = legal && entry_legal(&entries[i]) && entries[i].term >= term;
        term = from->term;
    }
    err_t err = legal ? store_append(&observer->store, entries, count) : ERR_OK;
    if (err != ERR_OK)
        quorum_fail_err(quorum, "the metadata log can't be written", err);
    for (size_t i = 0; i < count && legal && !quorum->failed; i++)
        if (!apply(quorum, &entries[i]))
            quorum_fail(quorum, "the metadata log holds an entry that can't be applied");
    free(entries);
    return legal;
}

/* ---- answers ---- */

static void note_leader(struct observer *observer, const Karst__MetadataFetchReply *reply)
{
    /* Of two voters the one of the newer term knows better. */
    if (reply->leader_term < observer->leader_term)
        return;
    observer->leader_term = reply->leader_term;
    observer->leader = reply->leader;
}

static void take_reply(struct quorum *quorum, const Karst__MetadataFetchReply *reply)
{
    struct observer *observer = &quorum->observer;
    if (reply->error == ERR_OFFSET_OUT_OF_RANGE) {
        quorum_fail(quorum, "this broker's metadata log is not the quorum's: its history differs");
        return;
    }
    if (reply->error == ERR_REPLICA_NOT_AVAILABLE) {
        take_hints(observer, reply);
        pull_later(quorum, true);
        return;
    }
    note_leader(observer, reply);
    bool stale = reply->leader_age_ms > quorum->config->election_timeout_ms;
    bool good = reply->error == ERR_OK;
    if (good && reply->has_snapshot_index)
        good = take_piece(quorum, reply);
    else if (good)
        good = take_entries(quorum, reply);
    if (good && observer->commit_index < reply->commit_index)
        observer->commit_index = reply->commit_index;
    if (quorum->failed || observer->write != NULL)
        return;
    observer->pulled = observer->fresh = good && !stale;
    if (observer->pulled)
        pull(quorum);
    else
        pull_later(quorum, true);
}

void observer_answer(struct quorum *quorum, struct quorum_peer_answer *answer)
{
    struct observer *observer = &quorum->observer;
    if (answer->token != observer->token || observer->token == 0)
        return; /* of a pull that was given up */
    quorum->env->timer_stop(quorum->env->self, &observer->timer);
    observer->token = 0;
    struct wire_header header;
    ProtobufCMessage *message = NULL;
    err_t err = answer->err;
    if (err == ERR_OK)
        err = wire_decode_header(answer->frame, &header);
    if (err == ERR_OK && (header.kind != WIRE_REPLY || header.method != WIRE_METADATA_FETCH))
        err = ERR_REPLICA_NOT_AVAILABLE; /* an error frame: it is no voter, or does not know */
    if (err == ERR_OK)
        err = wire_unpack(&karst__metadata_fetch_reply__descriptor,
                          wire_message(answer->frame, &header), &quorum->arena, &message);
    if (err != ERR_OK) {
        pull_later(quorum, true);
        return;
    }
    take_reply(quorum, (const Karst__MetadataFetchReply *)(const void *)message);
}

/* ---- own snapshots ---- */

static void job_free(struct snapshot_job *job)
{
    image_unref(job->image);
    free(job->file);
    free(job);
}

static void job_run(void *arg)
{
    struct snapshot_job *job = arg;
    uint8_t *data = NULL;
    size_t len = 0;
    if (image_encode_snapshot(job->image, &data, &len) != ERR_OK)
        return;
    struct bytes part = {data, len};
    job->file = snapshot_encode(&job->head, &part, 1, &job->file_len);
    free(data);
}

static void job_written(void *owner, err_t err)
{
    struct quorum *quorum = owner;
    struct observer *observer = &quorum->observer;
    struct snapshot_job *job = observer->job;
    observer->job = NULL;
    bool overtaken = job->head.index <= observer->store.snapshot_index; /* by an install */
    if (err == ERR_OK && !overtaken)
        err = store_snapshot_taken(&observer->store, job->head.index, job->head.term,
                                   quorum_keep_from(quorum, job->head.index));
    job_free(job);
    if (err != ERR_OK && !overtaken) { /* an install has removed an overtaken one */
        quorum_fail_err(quorum, "a metadata snapshot can't be written", err);
        return;
    }
    if (!overtaken)
        observer->snapshots_taken++;
    quorum_pump(quorum);
}

static void job_done(struct env_done *op, err_t err)
{
    struct snapshot_job *job = container_of(op, struct snapshot_job, op);
    struct quorum *quorum = job->quorum;
    struct observer *observer = &quorum->observer;
    if (err != ERR_OK || job->file == NULL || job->head.index <= observer->store.snapshot_index) {
        observer->job = NULL; /* no memory, or overtaken by an install: the next one will do */
        job_free(job);
        return;
    }
    struct bytes file = {job->file, job->file_len};
    job->file = NULL;
    err = snapshot_write_start(observer->store.disk, job->head.index, job->head.term, file,
                               job_written, quorum, &job->write);
    if (err == ERR_NOT_ENOUGH_SPACE) { /* R16: the log grows on, a later one may find room */
        observer->job = NULL;
        job_free(job);
    } else if (err != ERR_OK) {
        quorum_fail_err(quorum, "a metadata snapshot can't be written", err);
    }
}

void observer_settle(struct quorum *quorum)
{
    struct observer *observer = &quorum->observer;
    uint64_t last = store_last(&observer->store);
    if (observer->job != NULL || observer->write != NULL || !quorum_snapshot_due(quorum) ||
        observer->members.index == 0)
        return;
    struct snapshot_job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return; /* the log grows on; tried again with the next entry */
    job->op.done = job_done;
    job->quorum = quorum;
    job->image = image_ref(quorum->feed.image);
    job->head.index = last;
    job->head.term = store_term(&observer->store, last);
    job->head.cluster_id = quorum->config->cluster_id;
    job->head.members = observer->members;
    struct env_workers *workers = &quorum->env->workers;
    if (workers->submit(workers->self, job_run, job, &job->op) != ERR_OK)
        job_free(job);
    else
        observer->job = job;
}

/* ---- life ---- */

err_t observer_init(struct quorum *quorum, struct store_loaded *loaded)
{
    struct observer *observer = &quorum->observer;
    observer->timer.fire = timer_due;
    observer->leader = NO_NODE;
    observer->token = 0;
    observer->pulled = observer->fresh = false;
    /* An answer to a pull of an earlier life must find nobody: it is of another offset. */
    observer->tokens = quorum->env->random(quorum->env->self) >> 1;
    observer->commit_index = store_last(&observer->store);
    observer->members = loaded->snapshot != NULL ? loaded->head.members : (struct members){0};
    return ERR_OK;
}

void observer_start(struct quorum *quorum)
{
    struct store_loaded *loaded = &quorum->loaded;
    if (loaded->snapshot != NULL && !feed_restore(quorum, loaded->image))
        return;
    for (size_t i = 0; i < loaded->entry_count && !quorum->failed; i++) {
        const struct entry *entry = &loaded->entries[i];
        if (entry->index > quorum->store->snapshot_index && !apply(quorum, entry))
            quorum_fail(quorum, "the metadata log holds an entry that can't be applied");
    }
    store_loaded_fini(loaded);
    if (quorum->failed)
        return;
    next_source(quorum);
    pull(quorum);
}

void observer_stop(struct quorum *quorum)
{
    struct observer *observer = &quorum->observer;
    ASSERT(observer->write == NULL);
    ASSERT(observer->job == NULL);
    quorum->env->timer_stop(quorum->env->self, &observer->timer);
    observer->token = 0;
    file_drop(observer);
    store_close(&observer->store, true); /* what could not be synced is pulled again */
}

void observer_fini(struct quorum *quorum)
{
    struct observer *observer = &quorum->observer;
    if (observer->write != NULL)
        snapshot_write_detach(observer->write);
    if (observer->job != NULL && observer->job->write != NULL)
        snapshot_write_detach(observer->job->write);
    if (observer->job != NULL)
        job_free(observer->job);
    if (observer->timer.fire != NULL)
        quorum->env->timer_stop(quorum->env->self, &observer->timer);
    image_unref(observer->install_image);
    file_drop(observer);
    store_loaded_fini(&quorum->loaded);
    store_close(&observer->store, false);
}
