#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"
#include "log/log_dir.h"
#include "proto/rpc.pb-c.h"
#include "shard/internal.h"

/* The broker's life in its cluster; shard 0 only:
 *
 *   REGISTERING ──its epoch──▶ RUNNING ──shard_drain──▶ LEAVING
 *        ▲────not registered─────┘
 *   LEAVING ──may_shut_down, or the time is over──▶ STOPPING ──all shards──▶ STOPPED
 *
 * The lease (R10): from the send time of the last answered heartbeat, never from the time of the
 * answer, less the time since which the controller may have been deposed, for the session timeout;
 * every shard is told, and reads the clock again when it replies. */

enum {
    LIFECYCLE_RETRY_NS = 100 * 1000 * 1000,
    LIFECYCLE_LEAVING_NS = 10 * 1000 * 1000,    /* between heartbeats that ask to leave */
    LIFECYCLE_HAND_OVER_NS = 500 * 1000 * 1000, /* for another voter to lead the quorum */
    LIFECYCLE_LAST_WORDS_NS = 20 * 1000 * 1000, /* for the last replies to be sent */
};

static const char all_failed[] =
    "every log directory has failed; see the lines above, and the disks";
static const char superseded[] = "a newer process has registered under this node id: this one must "
                                 "end; see that node.id is used once";

static void lifecycle_exit(struct shard *shard, int code, const char *why)
{
    shard->env->exit_node(shard->env->self, code, why);
}

static void lifecycle_start_timer(struct shard *shard, uint64_t due_ns)
{
    shard->env->timer_start(shard->env->self, &shard->lifecycle.timer, due_ns);
}

/* ---- lease ---- */

/* To all shards: who this broker is, and until when it may answer as a leader. */
static void lease_publish(struct shard *shard, const struct shard_lease *lease)
{
    bool renamed = lease->broker_epoch != shard->lease.broker_epoch;
    shard->lease = *lease;
    for (unsigned i = 1; i < shard->config->shard_count; i++) {
        struct shard_lease_news *news = malloc(sizeof(*news));
        if (news == NULL)
            continue; /* that shard's lease runs out: it answers NOT_LEADER until the next news */
        news->lease = *lease;
        shard_post(shard, i, &news->message, SHARD_LEASE);
    }
    if (renamed)
        peers_renew(shard);
}

/* ---- registration ---- */

static void lifecycle_fill_listeners(const struct shard_config *config, Karst__Listener *listeners,
                                     Karst__Listener **rows)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct shard_listener *listener = &config->listeners[i];
        karst__listener__init(&listeners[i]);
        listeners[i].name = (char *)(uintptr_t)listener->name;
        listeners[i].host = (char *)(uintptr_t)listener->host;
        listeners[i].port = listener->port;
        rows[i] = &listeners[i];
    }
}

static struct frame *lifecycle_register_frame(struct shard *shard)
{
    const struct shard_config *config = shard->config;
    struct arena *arena = shard_scratch(shard);
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    Karst__Listener listeners[LISTENERS_MAX], *listener_rows[LISTENERS_MAX];
    ProtobufCBinaryData directories[DIRECTORIES_MAX], verified[DIRECTORIES_MAX];
    Karst__LostReplica *lost = arena_calloc(arena, config->lost_count, sizeof(*lost));
    request.lost = arena_calloc(arena, config->lost_count, sizeof(Karst__LostReplica *));
    if (lost == NULL || request.lost == NULL)
        return NULL;
    lifecycle_fill_listeners(config, listeners, listener_rows);
    for (size_t i = 0; i < config->directory_count; i++) {
        if (shard->lifecycle.failures.disks & 1U << i)
            continue; /* registering again, in the same life */
        directories[request.n_online_directories++] = wire_put_uuid(&config->directories[i]);
        if (config->disk_verified != NULL && config->disk_verified[i])
            verified[request.n_verified_directories++] = wire_put_uuid(&config->directories[i]);
    }
    for (size_t i = 0; i < config->lost_count; i++) {
        karst__lost_replica__init(&lost[i]);
        lost[i].topic_id = wire_put_uuid(&config->lost[i].topic);
        lost[i].index = config->lost[i].index;
        request.lost[i] = &lost[i];
    }
    request.cluster_id = wire_put_uuid(&config->cluster_id);
    request.node_id = config->node;
    request.incarnation = wire_put_uuid(&config->incarnation);
    request.n_listeners = config->listener_count;
    request.listeners = listener_rows;
    request.rack = (char *)(uintptr_t)config->rack;
    request.online_directories = directories;
    request.verified_directories = verified;
    request.clean_start = config->clean_start;
    request.has_flush_before_ack = true;
    request.flush_before_ack = config->partition.flush_before_ack;
    request.boot_id = wire_put_uuid(&config->boot_id);
    request.n_lost = config->lost_count;
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST, .method = WIRE_REGISTER_BROKER, .message = &request.base});
}

/* Unpacks into the scratch arena; an error frame's code, or that of the reply's transport. */
static err_t lifecycle_read_reply(struct shard *shard, const struct frame *frame,
                                  const ProtobufCMessageDescriptor *type,
                                  ProtobufCMessage **ret_message)
{
    struct wire_header header;
    err_t err = wire_decode_header(frame, &header);
    if (err == ERR_OK && header.kind == WIRE_ERROR) {
        err = call_reply_error(shard, frame);
        return err == ERR_OK ? ERR_INVALID_REQUEST : err;
    }
    if (err == ERR_OK)
        err = wire_unpack(type, wire_message(frame, &header), shard_scratch(shard), ret_message);
    return err;
}

static void lifecycle_registered(struct shard *shard, void *context, err_t err, struct frame *frame)
{
    (void)context;
    struct lifecycle *life = &shard->lifecycle;
    ProtobufCMessage *message = NULL;
    life->call = NULL;
    if (err == ERR_OK)
        err =
            lifecycle_read_reply(shard, frame, &karst__register_broker_reply__descriptor, &message);
    frame_unref(frame);
    if (life->state != LIFECYCLE_REGISTERING)
        return;
    const Karst__RegisterBrokerReply *reply = (const Karst__RegisterBrokerReply *)message;
    if (err == ERR_OK)
        err = reply->error;
    const char *said = reply != NULL && reply->message != NULL ? reply->message : err_sentence(err);
    if (err == ERR_STALE_BROKER_EPOCH) { /* R2: by one that registered while this one tried to */
        lifecycle_exit(shard, 1, superseded);
        return;
    }
    if (err == ERR_INCONSISTENT_CLUSTER_ID || err == ERR_UNSUPPORTED_VERSION ||
        err == ERR_LOG_DIR_NOT_FOUND) {
        char why[300];
        snprintf(why, sizeof(why), "the controller refuses this broker for good: %s", said);
        lifecycle_exit(shard, 1, why);
        return;
    }
    uint64_t now = env_now(shard->env);
    if (err != ERR_OK) {
        log_warn("registration as broker %d failed, trying again: %s", shard->config->node, said);
        lifecycle_start_timer(shard, now + LIFECYCLE_RETRY_NS);
        return;
    }
    log_info("registered as broker %d, broker epoch %lld", shard->config->node,
             (long long)reply->broker_epoch);
    /* A registration is no lease: the broker is fenced until a heartbeat says otherwise. */
    life->state = LIFECYCLE_RUNNING;
    lease_publish(shard,
                  &(struct shard_lease){.broker_epoch = reply->broker_epoch, .fenced = true});
    lifecycle_start_timer(shard, now);
}

static void lifecycle_register(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    uint64_t now = env_now(shard->env);
    struct frame *frame = lifecycle_register_frame(shard);
    if (frame != NULL)
        life->call =
            call_begin(shard, &(struct call_args){
                                  .frame = frame,
                                  .peer = shard->config->node,
                                  .peer_epoch = -1,
                                  .deadline_ns = now + shard->config->request_timeout_ns,
                                  .retry = true, /* the same incarnation: the same result */
                                  .done = lifecycle_registered,
                              });
    if (life->call == NULL)
        lifecycle_start_timer(shard, now + LIFECYCLE_RETRY_NS);
}

/* ---- heartbeats ---- */

static int64_t lifecycle_applied_offset(const struct shard *shard)
{
    int64_t least = shard->lifecycle.applied[0];
    for (unsigned i = 1; i < shard->config->shard_count; i++)
        if (shard->lifecycle.applied[i] < least && !CANARY("shard_tells_offset_of_one_shard"))
            least = shard->lifecycle.applied[i];
    return least;
}

/* A loop that stands still is a broker that does: without heartbeats its leaderships move. */
static bool lifecycle_stuck(struct shard *shard, uint64_t now_ns)
{
    struct lifecycle *life = &shard->lifecycle;
    unsigned silent = 0; /* shard 0 is us */
    for (unsigned i = 1; i < shard->config->shard_count && silent == 0; i++)
        if (life->applied[i] >= 0 && now_ns > life->heard_ns[i] + shard->config->session_timeout_ns)
            silent = i;
    if (silent != 0 && !life->stuck)
        log_warn("shard %u gives no sign of life: no heartbeats until it does", silent);
    life->stuck = silent != 0;
    return life->stuck;
}

static void lifecycle_stop(struct shard *shard);

/* The partitions' leaderships are elsewhere. If this node leads the quorum, another voter should do
 * so before this one falls silent, which costs no more than a round of votes; after that frames of
 * raft are read no more. Not for longer than LIFECYCLE_HAND_OVER_NS: a voter may be away. */
static void lifecycle_hand_over(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    struct env_message *message = NULL;
    if (shard->active_here && image_voter_count(shard->image) > 1)
        message = malloc(sizeof(*message));
    if (message == NULL) {
        lifecycle_stop(shard);
        return;
    }
    life->handing_over = true;
    shard_post(shard, shard_quorum(shard), message, QUORUM_HAND_OVER);
    lifecycle_start_timer(shard, env_now(shard->env) + LIFECYCLE_HAND_OVER_NS);
}

static void lifecycle_take_heartbeat(struct shard *shard, const Karst__HeartbeatReply *reply)
{
    struct lifecycle *life = &shard->lifecycle;
    uint64_t until_ns = life->call_sent_ns + shard->config->session_timeout_ns;
    uint64_t age_ns = reply->quorum_age_ms * ENV_MS(1);
    if (CANARY("shard_lease_of_a_deposed_controller"))
        age_ns = 0;
    struct shard_lease lease = {
        .until_ns = age_ns < until_ns ? until_ns - age_ns : 0,
        .broker_epoch = shard->lease.broker_epoch,
        .fenced = reply->has_fenced && reply->fenced,
    };
    if (lease.fenced != shard->lease.fenced)
        log_info("broker %d is %s", shard->config->node, lease.fenced ? "fenced" : "unfenced");
    lease_publish(shard, &lease);
    ends_taken(shard);
    ends_asked(shard, reply);
    if (life->doomed && life->told_disks == life->failures.disks) {
        lifecycle_exit(shard, 1, all_failed);
        return;
    }
    if (life->state == LIFECYCLE_LEAVING && reply->has_may_shut_down && reply->may_shut_down) {
        lifecycle_hand_over(shard);
        return;
    }
    uint64_t every = shard->config->heartbeat_ns;
    if (life->state == LIFECYCLE_LEAVING)
        every = LIFECYCLE_LEAVING_NS;
    lifecycle_start_timer(shard, life->again ? env_now(shard->env) : life->call_sent_ns + every);
}

static void lifecycle_heartbeat_done(struct shard *shard, void *context, err_t err,
                                     struct frame *frame)
{
    (void)context;
    struct lifecycle *life = &shard->lifecycle;
    ProtobufCMessage *message = NULL;
    life->call = NULL;
    if (err == ERR_OK)
        err = lifecycle_read_reply(shard, frame, &karst__heartbeat_reply__descriptor, &message);
    frame_unref(frame);
    if (life->state != LIFECYCLE_RUNNING && life->state != LIFECYCLE_LEAVING)
        return;
    const Karst__HeartbeatReply *reply = (const Karst__HeartbeatReply *)message;
    if (err == ERR_OK)
        err = reply->error;
    switch (err) {
    case ERR_OK:
        lifecycle_take_heartbeat(shard, reply);
        return;
    case ERR_STALE_BROKER_EPOCH:
        /* R2: somebody else is this broker now; two must not write as one. */
        lifecycle_exit(shard, 1, superseded);
        return;
    case ERR_BROKER_ID_NOT_REGISTERED:
        if (life->state == LIFECYCLE_RUNNING) {
            log_warn("the controller does not know this broker: registering again");
            life->state = LIFECYCLE_REGISTERING;
            lifecycle_start_timer(shard, env_now(shard->env));
            return;
        }
        break;
    default:
        break;
    }
    log_debug("heartbeat failed: %s", err_sentence(err));
    uint64_t wait = shard->config->heartbeat_ns / 4;
    lifecycle_start_timer(shard, env_now(shard->env) + wait);
}

static void lifecycle_heartbeat(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = shard->config->node;
    request.broker_epoch = shard->lease.broker_epoch;
    request.metadata_offset = lifecycle_applied_offset(shard); /* R30 */
    request.has_want_shutdown = life->state == LIFECYCLE_LEAVING;
    request.want_shutdown = life->state == LIFECYCLE_LEAVING;
    struct frame *frame = NULL;
    arena_reset(&shard->scratch); /* once: what is filled in stays until the frame is made */
    if (failures_fill(shard, &request) && space_fill(shard, &request) && ends_fill(shard, &request))
        frame = wire_frame(&(struct wire_frame_args){
            .kind = WIRE_REQUEST, .method = WIRE_HEARTBEAT, .message = &request.base});
    uint64_t now = env_now(shard->env);
    life->again = false;
    life->told_disks = life->failures.disks;
    life->call_sent_ns = now; /* before it leaves: the lease is never longer than it may be (R10) */
    if (frame != NULL)
        life->call =
            call_begin(shard, &(struct call_args){
                                  .frame = frame,
                                  .peer = shard->config->node,
                                  .peer_epoch = shard->lease.broker_epoch,
                                  .deadline_ns = now + shard->config->session_timeout_ns / 2,
                                  .done = lifecycle_heartbeat_done,
                              });
    if (life->call == NULL)
        lifecycle_start_timer(shard, now + shard->config->heartbeat_ns);
}

static void lifecycle_timer(struct env_timer *timer, uint64_t now_ns)
{
    struct shard *shard = container_of(timer, struct shard, lifecycle.timer);
    if (shard->lifecycle.call != NULL || shard->lifecycle.state > LIFECYCLE_LEAVING)
        return;
    if (shard->lifecycle.handing_over)
        lifecycle_stop(shard);
    else if (shard->lifecycle.state == LIFECYCLE_REGISTERING)
        lifecycle_register(shard);
    else if (lifecycle_stuck(shard, now_ns))
        lifecycle_start_timer(shard, now_ns + shard->config->heartbeat_ns / 4);
    else
        lifecycle_heartbeat(shard);
}

void lifecycle_hurry(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    bool beats = life->state == LIFECYCLE_RUNNING || life->state == LIFECYCLE_LEAVING;
    if (!beats || life->handing_over)
        return;
    if (life->call != NULL)
        life->again = true;
    else
        lifecycle_start_timer(shard, env_now(shard->env));
}

/* ---- what happens around ---- */

/* A broker without any directory is none: its end lets others lead. But the metadata are to know
 * why, so that no later life trusts what the page cache tells (R14). */
void lifecycle_failed(struct shard *shard, bool all)
{
    struct lifecycle *life = &shard->lifecycle;
    bool running = life->state == LIFECYCLE_RUNNING || life->state == LIFECYCLE_LEAVING;
    if (all && !life->doomed) {
        life->doomed = true;
        if (!running) {
            lifecycle_exit(shard, 1, all_failed);
            return;
        }
        shard->env->timer_start(shard->env->self, &life->stop_timer,
                                env_now(shard->env) + shard->config->session_timeout_ns);
    }
    lifecycle_hurry(shard);
}

void lifecycle_applied(struct shard *shard, unsigned from, int64_t offset)
{
    struct lifecycle *life = &shard->lifecycle;
    life->heard_ns[from] = env_now(shard->env);
    if (offset == life->applied[from])
        return; /* a sign of life, no more */
    life->applied[from] = offset;
    if (from == 0) {
        const struct image_broker *self = image_broker(shard->image, shard->config->node);
        if (self != NULL && shard->lease.broker_epoch >= 0 &&
            self->epoch > shard->lease.broker_epoch &&
            !uuid_equal(&self->incarnation, &shard->config->incarnation)) {
            lifecycle_exit(shard, 1, superseded);
            return;
        }
    }
    /* The controller waits for this before it unfences. */
    if (shard->lease.fenced)
        lifecycle_hurry(shard);
}

void lifecycle_leader_changed(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    if (life->state != LIFECYCLE_RUNNING && life->state != LIFECYCLE_LEAVING)
        return;
    if (life->handing_over) {
        if (shard->leader.node != NO_NODE && shard->leader.node != shard->config->node)
            lifecycle_stop(shard);
        return;
    }
    if (life->call != NULL) {
        call_abandon(shard, life->call);
        life->call = NULL;
    }
    lifecycle_start_timer(shard, env_now(shard->env));
}

/* ---- controlled shutdown ---- */

static void lifecycle_post_all(struct shard *shard, uint32_t type)
{
    for (unsigned i = 1; i < shard->config->shard_count; i++) {
        struct env_message *message = malloc(sizeof(*message));
        if (message == NULL) {
            lifecycle_exit(shard, 1, "no memory to stop in order");
            return;
        }
        shard_post(shard, i, message, type);
    }
}

/* All shards close their partitions: leaderships are elsewhere, or nobody waits for that any more.
 */
static void lifecycle_stop(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    struct env *env = shard->env;
    life->state = LIFECYCLE_STOPPING;
    env->timer_stop(env->self, &life->timer);
    env->timer_stop(env->self, &life->stop_timer);
    lifecycle_post_all(shard, SHARD_STOP);
    lifecycle_stop_here(shard);
}

void lifecycle_stop_here(struct shard *shard)
{
    shard->stopping = true;
    struct partition_table *table = shard->table;
    err_t err = ERR_OK;
    if (table != NULL)
        err = partition_table_free(table, true); /* what waits comes back answered */
    shard->table = NULL;
    if (shard->idx == 0) {
        lifecycle_stopped(shard, err);
        return;
    }
    struct shard_stopped *stopped = malloc(sizeof(*stopped));
    if (stopped == NULL) {
        lifecycle_exit(shard, 1, "no memory to stop in order");
        return;
    }
    stopped->err = err;
    shard_post(shard, 0, &stopped->message, SHARD_STOPPED);
}

/* R17: the markers last, when all that they speak of is synced; none where something is not. */
static void lifecycle_mark_clean(struct shard *shard)
{
    struct env *env = shard->env;
    if (shard->lifecycle.unclean) {
        log_warn("not every log could be made durable: the next start recovers them");
        return;
    }
    /* R20: what the stop before this life lost was never told; the next life must tell it. */
    bool told = shard->lease.broker_epoch >= 0 || shard->config->clean_start;
    if (!told && !CANARY("shard_hides_an_unclean_stop"))
        return;
    for (size_t i = 0; i < env->disk_count; i++) {
        err_t err = log_dir_mark_clean(&env->disks[i], &shard->config->incarnation);
        if (err != ERR_OK)
            log_warn("log directory %zu could not be marked clean: %s; the next start recovers it",
                     i, err_sentence(err));
    }
}

void lifecycle_stopped(struct shard *shard, err_t err)
{
    struct lifecycle *life = &shard->lifecycle;
    struct env *env = shard->env;
    life->unclean = life->unclean || err != ERR_OK;
    if (++life->stopped < shard->config->shard_count)
        return;
    life->state = LIFECYCLE_STOPPED;
    lifecycle_mark_clean(shard);
    lifecycle_post_all(shard, SHARD_FINISH);
    lifecycle_finish_here(shard);
    env->timer_start(env->self, &life->stop_timer, env_now(env) + LIFECYCLE_LAST_WORDS_NS);
}

void lifecycle_finish_here(struct shard *shard)
{
    while (!list_empty(&shard->sessions))
        session_end(shard, list_entry(shard->sessions.next, struct session, link), false);
}

static void lifecycle_stop_timer(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct shard *shard = container_of(timer, struct shard, lifecycle.stop_timer);
    if (shard->lifecycle.doomed) {
        lifecycle_exit(shard, 1, all_failed);
        return;
    }
    if (shard->lifecycle.state == LIFECYCLE_LEAVING) {
        log_warn("leaderships could not be moved away in time: stopping without");
        lifecycle_stop(shard);
    } else if (shard->lifecycle.state == LIFECYCLE_STOPPED) {
        lifecycle_exit(shard, 0, "stopped");
    }
}

void shard_drain(struct shard *shard, uint64_t timeout_ns)
{
    ASSERT(shard->idx == 0);
    struct lifecycle *life = &shard->lifecycle;
    struct env *env = shard->env;
    switch (life->state) {
    case LIFECYCLE_RUNNING:
        log_info("stopping: leaderships are moved away first");
        life->state = LIFECYCLE_LEAVING;
        env->timer_start(env->self, &life->stop_timer, env_now(env) + timeout_ns);
        lifecycle_hurry(shard);
        return;
    case LIFECYCLE_REGISTERING: /* nobody knows of us */
    case LIFECYCLE_LEAVING:     /* a second call */
        lifecycle_stop(shard);
        return;
    case LIFECYCLE_STOPPING:
    case LIFECYCLE_STOPPED:
        lifecycle_exit(shard, 1, "stopped before the logs were closed: asked again");
        return;
    }
}

/* ---- start, end ---- */

void lifecycle_start(struct shard *shard)
{
    struct lifecycle *life = &shard->lifecycle;
    life->state = LIFECYCLE_REGISTERING;
    ends_init(shard);
    life->timer.fire = lifecycle_timer;
    life->stop_timer.fire = lifecycle_stop_timer;
    lifecycle_start_timer(shard, env_now(shard->env));
}

void lifecycle_fini(struct shard *shard)
{
    struct env *env = shard->env;
    env->timer_stop(env->self, &shard->lifecycle.timer);
    env->timer_stop(env->self, &shard->lifecycle.stop_timer);
    failures_fini(shard);
    ends_fini(shard);
}
