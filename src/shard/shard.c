#include <stdlib.h>

#include "shard/internal.h"

/* ---- connections by handle ---- */

struct conn_entry *conn_find(struct shard *shard, env_conn conn)
{
    if (conn.generation == 0 || conn.slot >= shard->conns.count)
        return NULL;
    struct conn_entry *entry = &shard->conns.entries[conn.slot];
    return entry->kind != CONN_FREE && entry->generation == conn.generation ? entry : NULL;
}

err_t conn_add(struct shard *shard, env_conn conn, enum conn_kind kind, void *owner)
{
    struct conn_table *conns = &shard->conns;
    if (conn.slot >= conns->count) {
        uint32_t count = conns->count * 2 > conn.slot + 1 ? conns->count * 2 : conn.slot + 1;
        struct conn_entry *entries = realloc(conns->entries, count * sizeof(*entries));
        if (entries == NULL)
            return ERR_NO_MEMORY;
        memset(entries + conns->count, 0, (count - conns->count) * sizeof(*entries));
        *conns = (struct conn_table){.entries = entries, .count = count};
    }
    conns->entries[conn.slot] =
        (struct conn_entry){.generation = conn.generation, .kind = kind, .owner = owner};
    return ERR_OK;
}

void conn_remove(struct shard *shard, env_conn conn)
{
    struct conn_entry *entry = conn_find(shard, conn);
    if (entry != NULL)
        *entry = (struct conn_entry){0};
}

/* ---- mail out ---- */

/* While a mailbox is full, no new requests are read: what waits here is bounded by what was
 * admitted, and nothing is dropped. */
static void shard_update_pause(struct shard *shard)
{
    bool paused = shard->outboxes_waiting > 0;
    if (paused == shard->paused)
        return;
    shard->paused = paused;
    sessions_update_pause(shard);
}

void shard_post(struct shard *shard, unsigned to, struct env_message *message, uint32_t type)
{
    message->type = type;
    message->from = shard->idx;
    struct env_outbox *box = &shard->outboxes[to];
    if (!env_outbox_post(box, shard->env, to, message) && box->count == 1) {
        shard->outboxes_waiting++;
        shard_update_pause(shard);
    }
}

static void shard_mail_room(void *actor, unsigned to_actor)
{
    struct shard *shard = actor;
    struct env_outbox *box = &shard->outboxes[to_actor];
    if (box->count == 0 || !env_outbox_flush(box, shard->env, to_actor))
        return;
    shard->outboxes_waiting--;
    shard_update_pause(shard);
}

/* ---- mail in ---- */

static void shard_report_applied(struct shard *shard)
{
    int64_t offset = image_offset(shard->image);
    shard->sign_ns = env_now(shard->env);
    if (shard->idx == 0) {
        lifecycle_applied(shard, 0, offset);
        return;
    }
    struct shard_applied *applied = malloc(sizeof(*applied));
    if (applied == NULL) {
        /* The next update tells it again. */
        log_warn("no memory to report metadata offset %lld", (long long)offset);
        return;
    }
    applied->offset = offset;
    shard_post(shard, 0, &applied->message, SHARD_APPLIED);
}

static void shard_updated(struct shard *shard, struct quorum_update *message)
{
    struct metadata_update *update = message->update;
    message->update = NULL;
    quorum_message_free(&message->message);

    image_unref(shard->image);
    shard->image = image_ref(update->image);
    shard->changed_ns = env_now(shard->env);
    if (shard->table != NULL)
        partition_table_apply(shard->table, shard->image, update->difference);
    metadata_update_unref(update);
    admin_image_moved(shard);
    /* After apply: the offset says that this shard acts by it (R30). */
    shard_report_applied(shard);
}

static void shard_leader_changed(struct shard *shard, struct quorum_leader *news)
{
    bool was_active = shard->active_here;
    shard->leader = news->leader;
    shard->term = news->term;
    shard->active_here = news->active_here;
    quorum_message_free(&news->message);
    calls_leader_changed(shard);
    if (shard->idx != 0)
        return;
    lifecycle_leader_changed(shard);
    if (shard->active_here && !was_active)
        probe_begin_all(shard);
}

static void shard_take_lease(struct shard *shard, struct shard_lease_news *news)
{
    bool renamed = news->lease.broker_epoch != shard->lease.broker_epoch;
    shard->lease = news->lease;
    free(news);
    if (renamed)
        peers_renew(shard);
}

static void shard_mail_from_quorum(struct shard *shard, struct env_message *message)
{
    switch (message->type) {
    case QUORUM_ANSWER:
        call_answered(shard, (struct quorum_answer *)(void *)message);
        return;
    case QUORUM_UPDATE:
        shard_updated(shard, (struct quorum_update *)(void *)message);
        return;
    case QUORUM_LEADER:
        shard_leader_changed(shard, (struct quorum_leader *)(void *)message);
        return;
    case QUORUM_PEER_SEND:
        peer_quorum_send(shard, (struct quorum_peer_send *)(void *)message);
        return;
    default:
        ASSERT(!"a quorum's message that shards do not know");
    }
}

static void shard_mail_of_the_end(struct shard *shard, struct env_message *message)
{
    struct shard_stopped *stopped = (void *)message;
    struct shard_drain_message *drain = (void *)message;
    if (message->type == SHARD_STOP)
        lifecycle_stop_here(shard);
    else if (message->type == SHARD_STOPPED)
        lifecycle_stopped(shard, stopped->err);
    else if (message->type == SHARD_FINISH)
        lifecycle_finish_here(shard);
    else
        shard_drain(shard, drain->timeout_ns);
    free(message);
}

static void shard_mail(void *actor, void *mail)
{
    struct shard *shard = actor;
    struct env_message *message = mail;
    void *any = mail;
    switch (message->type) {
    case SHARD_PART:
        part_arrived(shard, any);
        return;
    case SHARD_PART_BACK:
        part_came_back(shard, any);
        return;
    case SHARD_CANCEL:
        cancel_arrived(shard, any);
        return;
    case SHARD_CANCEL_BACK:
        cancel_came_back(shard, any);
        return;
    case SHARD_DELTAS:
        stream_deltas_arrived(shard, any);
        free(any);
        return;
    case SHARD_STREAM_REPLY:
        stream_reply_arrived(shard, any);
        return;
    case SHARD_FOLLOWER_GONE: {
        struct shard_follower_gone *gone = any;
        if (shard->table != NULL)
            partition_follower_gone(shard->table, gone->via_shard, gone->conn);
        free(gone);
        return;
    }
    case SHARD_APPLIED:
        lifecycle_applied(shard, message->from, ((struct shard_applied *)any)->offset);
        free(any);
        return;
    case SHARD_FAILURE:
        failure_arrived(shard, any);
        return;
    case SHARD_END_ASKED:
        end_asked(shard, any);
        return;
    case SHARD_END_TOLD:
        end_told(shard, any);
        return;
    case SHARD_LEASE:
        shard_take_lease(shard, any);
        return;
    case SHARD_PEER_HINT:
        probe_begin(shard, ((struct shard_peer_hint *)any)->node);
        free(any);
        return;
    case SHARD_ID_ASKED:
        id_asked(shard, any);
        return;
    case SHARD_ID_GIVEN:
        id_given(shard, any);
        return;
    case SHARD_STOP:
    case SHARD_STOPPED:
    case SHARD_FINISH:
    case SHARD_MESSAGE_DRAIN:
        shard_mail_of_the_end(shard, message);
        return;
    default:
        shard_mail_from_quorum(shard, message);
    }
}

void shard_message_free(struct env_message *message)
{
    void *any = message;
    switch (message->type) {
    case SHARD_PART:
    case SHARD_PART_BACK:
        part_lost(any);
        return;
    case SHARD_CANCEL:
    case SHARD_CANCEL_BACK:
        cancel_lost(any);
        return;
    case SHARD_STREAM_REPLY: {
        struct shard_stream_reply *reply = any;
        frame_unref(reply->header);
        for (uint32_t i = 0; i < reply->count; i++)
            frame_unref(reply->records[i]);
        free(reply);
        return;
    }
    case SHARD_ID_ASKED:
    case SHARD_ID_GIVEN: {
        struct request *request = ((struct shard_id *)any)->request;
        free(any);
        request_lost(request);
        return;
    }
    default:
        if (message->type < SHARD_PART)
            quorum_message_free(message);
        else
            free(message);
    }
}

/* ---- other upcalls ---- */

static void shard_accepted(void *actor, env_conn conn, unsigned listener, const char *peer)
{
    session_accepted(actor, conn, listener, peer);
}

static void shard_connected(void *actor, env_conn conn)
{
    struct conn_entry *entry = conn_find(actor, conn);
    if (entry != NULL && entry->kind == CONN_PEER)
        peer_connected(actor, entry->owner);
    else if (entry != NULL && entry->kind == CONN_PROBE)
        probe_connected(actor, entry->owner);
}

static void shard_received(void *actor, env_conn conn, struct frame *frame)
{
    struct conn_entry *entry = conn_find(actor, conn);
    if (entry == NULL)
        frame_unref(frame);
    else if (entry->kind == CONN_SESSION)
        session_received(actor, entry->owner, frame);
    else if (entry->kind == CONN_PEER)
        peer_received(actor, entry->owner, frame);
    else
        probe_received(actor, entry->owner, frame);
}

static void shard_closed(void *actor, env_conn conn, err_t err)
{
    struct conn_entry *entry = conn_find(actor, conn);
    if (entry == NULL)
        return;
    struct conn_entry was = *entry;
    *entry = (struct conn_entry){0};
    if (was.kind == CONN_SESSION)
        session_closed(actor, was.owner, err);
    else if (was.kind == CONN_PEER)
        peer_closed(actor, was.owner, err);
    else
        probe_closed(actor, was.owner, err);
}

static void shard_turn_ended(void *actor)
{
    struct shard *shard = actor;
    if (shard->idle && shard->parts_here > 0) {
        shard->idle = false;
        shard->env->timer_start(shard->env->self, &shard->tick,
                                env_now(shard->env) + SHARD_TICK_NS);
    }
    if (shard->table != NULL)
        partition_turn_ended(shard->table);
    stream_turn_ended(shard);
    sessions_end_doomed(shard);
}

/* Nothing waits here, and nothing has moved lately that may want to be tried again. */
static bool shard_is_idle(const struct shard *shard, uint64_t now_ns)
{
    return shard->parts_here == 0 && now_ns > shard->changed_ns + SHARD_CHANGED_NS;
}

static void shard_tick(struct env_timer *timer, uint64_t now_ns)
{
    struct shard *shard = container_of(timer, struct shard, tick);
    if (shard->table != NULL)
        partition_tick(shard->table, now_ns);
    sessions_tick(shard, now_ns);
    admin_tick(shard, now_ns);
    if (shard->idx != 0 && shard->image != NULL && now_ns >= shard->sign_ns + SHARD_SIGN_NS)
        shard_report_applied(shard);
    shard->idle = shard_is_idle(shard, now_ns);
    uint64_t next = shard->idle ? SHARD_IDLE_TICK_NS : SHARD_TICK_NS;
    shard->env->timer_start(shard->env->self, &shard->tick, now_ns + next);
}

/* ---- life ---- */

/* This shard's share of the replicas that lie on the disks, and of those that should (R1). */
static err_t shard_give_found(struct shard *shard)
{
    const struct shard_config *config = shard->config;
    struct partition_found *found = calloc(config->found_count + 1, sizeof(*found));
    struct partition_id *lost = calloc(config->lost_count + 1, sizeof(*lost));
    if (found == NULL || lost == NULL) {
        free(found);
        free(lost);
        return ERR_NO_MEMORY;
    }
    size_t found_count = 0, lost_count = 0;
    for (size_t i = 0; i < config->found_count; i++)
        if (partition_shard(&config->found[i].id, config->shard_count) == shard->idx)
            found[found_count++] = config->found[i];
    for (size_t i = 0; i < config->lost_count; i++)
        if (partition_shard(&config->lost[i], config->shard_count) == shard->idx)
            lost[lost_count++] = config->lost[i];
    partition_table_found(shard->table, found, found_count, config->disk_clean);
    partition_table_lost(shard->table, lost, lost_count);
    free(found);
    free(lost);
    return ERR_OK;
}

static void shard_init_lists(struct shard *shard)
{
    list_init(&shard->sessions);
    list_init(&shard->detached);
    list_init(&shard->free_requests);
    list_init(&shard->admins);
    list_init(&shard->calls);
    list_init(&shard->peers);
    list_init(&shard->peer_sends);
    list_init(&shard->probes);
    list_init(&shard->alters);
    list_init(&shard->ids_wanted);
    for (unsigned i = 0; i <= shard->config->shard_count; i++)
        env_outbox_init(&shard->outboxes[i]);
    for (unsigned i = 0; i < shard->config->shard_count; i++)
        shard->lifecycle.applied[i] = -1;
}

err_t shard_new(struct env *env, unsigned idx, const struct shard_config *config,
                struct shard **ret_shard)
{
    ASSERT(idx < config->shard_count);
    ASSERT(config->shard_count <= QUORUM_SHARDS_MAX);
    ASSERT(config->requests_max > 0);
    struct shard *shard = calloc(1, sizeof(*shard));
    if (shard == NULL)
        return ERR_NO_MEMORY;
    err_t err = ERR_NO_MEMORY;
    shard->env = env;
    shard->idx = idx;
    shard->config = config;
    shard->lease.broker_epoch = -1;
    shard->leader.node = NO_NODE;
    shard->tick.fire = shard_tick;
    shard->outboxes = calloc(config->shard_count + 1, sizeof(*shard->outboxes));
    shard->lifecycle.applied = calloc(config->shard_count, sizeof(*shard->lifecycle.applied));
    shard->lifecycle.heard_ns = calloc(config->shard_count, sizeof(*shard->lifecycle.heard_ns));
    if (shard->outboxes == NULL || shard->lifecycle.applied == NULL ||
        shard->lifecycle.heard_ns == NULL)
        goto fail;
    arena_init(&shard->scratch, SHARD_SCRATCH_BYTES_MAX);
    arena_init(&shard->data_arena, SHARD_SCRATCH_BYTES_MAX);
    shard_init_lists(shard);

    struct partition_host host;
    stream_host_init(shard, &host);
    shard->table = partition_table_new(&host, &config->partition);
    if (shard->table == NULL)
        goto fail;
    err = shard_give_found(shard);
    if (err != ERR_OK)
        goto fail;

    env->actor = shard;
    env->upcalls = (struct env_upcalls){
        .accepted = shard_accepted,
        .connected = shard_connected,
        .received = shard_received,
        .closed = shard_closed,
        .mail = shard_mail,
        .mail_room = shard_mail_room,
        .turn_ended = shard_turn_ended,
    };
    *ret_shard = shard;
    return ERR_OK;
fail:
    if (shard->table != NULL)
        (void)partition_table_free(shard->table, false); /* nothing was written */
    free(shard->outboxes);
    free(shard->lifecycle.applied);
    free(shard->lifecycle.heard_ns);
    free(shard);
    return err;
}

void shard_start(struct shard *shard)
{
    shard->env->timer_start(shard->env->self, &shard->tick, env_now(shard->env) + SHARD_TICK_NS);
    if (shard->idx == 0)
        lifecycle_start(shard);
}

static void shard_free_requests(struct list_node *requests)
{
    struct list_node *node;
    while ((node = list_pop_front(requests)) != NULL) {
        struct request *request = list_entry(node, struct request, link);
        request->orphan = true;
        if (request->away == 0)
            request_destroy(request);
    }
}

void shard_free(struct shard *shard)
{
    if (shard == NULL)
        return;
    struct env *env = shard->env;
    shard->dying = true;
    env->timer_stop(env->self, &shard->tick);
    env->upcalls = (struct env_upcalls){0};
    env->actor = NULL;
    /* Parts that wait here come back now, and finish nothing any more. */
    if (shard->table != NULL)
        (void)partition_table_free(shard->table, false); /* as in a crash */
    shard->table = NULL;
    calls_fini(shard);
    admin_fini(shard);
    stream_fini(shard);
    probes_fini(shard);
    peers_fini(shard);
    lifecycle_fini(shard);
    struct list_node *node;
    while ((node = list_pop_front(&shard->ids_wanted)) != NULL) {
        struct env_message *message = list_entry(node, struct env_message, link);
        shard_message_free(message);
    }
    for (unsigned i = 0; i <= shard->config->shard_count; i++)
        while ((node = list_pop_front(&shard->outboxes[i].waiting)) != NULL)
            shard_message_free(list_entry(node, struct env_message, link));
    while ((node = list_pop_front(&shard->sessions)) != NULL) {
        struct session *session = list_entry(node, struct session, link);
        env->net.drop(env->net.self, session->conn);
        shard_free_requests(&session->requests);
        free(session);
    }
    shard_free_requests(&shard->detached);
    shard_free_requests(&shard->free_requests);
    image_unref(shard->image);
    arena_fini(&shard->scratch);
    arena_fini(&shard->data_arena);
    free(shard->conns.entries);
    free(shard->outboxes);
    free(shard->lifecycle.applied);
    free(shard->lifecycle.heard_ns);
    free(shard);
}

/* ---- small things ---- */

uint64_t shard_random(struct shard *shard, uint64_t bound)
{
    return shard->env->random(shard->env->self) % bound;
}

bool shard_lease_valid(const struct shard *shard, uint64_t now_ns)
{
    /* Fenced by an answered heartbeat: somebody else may lead already, whatever our image says
     * (R10). */
    return !shard->lease.fenced && now_ns < shard->lease.until_ns;
}

struct image *shard_image(const struct shard *shard)
{
    return shard->image;
}

struct partition_table *shard_partitions(const struct shard *shard)
{
    return shard->table;
}

struct arena *shard_scratch(struct shard *shard)
{
    arena_reset(&shard->scratch);
    return &shard->scratch;
}

uint64_t shard_now_ns(const struct shard *shard)
{
    return env_now(shard->env);
}

void shard_look(const struct shard *shard, struct shard_view *ret_view)
{
    *ret_view = (struct shard_view){
        .requests = shard->requests,
        .replies = shard->replies,
        .errors = shard->errors,
        .connections = shard->connections,
        .lease_valid = shard_lease_valid(shard, env_now(shard->env)),
        .fenced = shard->lease.fenced,
        .registered = shard->lease.broker_epoch >= 0,
        .broker_epoch = shard->lease.broker_epoch,
    };
}
