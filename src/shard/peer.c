#include <stdio.h>
#include <stdlib.h>

#include "proto/rpc.pb-c.h"
#include "shard/internal.h"

/* One connection to another broker, for one purpose. It is dialled when something is to be sent,
 * not before, and not again before a backoff is over: the first time at once, then 50 to 200 ms.
 *
 *   IDLE ──ask, send──▶ WAITING ──backoff over──▶ DIALING ──connected──▶ HELLO ──its hello──▶ UP
 *    ▲                                               │                     │                  │
 *    └──[peer_fail: asks are answered, what waits is dropped]◀─────────────┴──────────────────┘
 *
 * FAILING: as IDLE soon, from the loop: nobody is called back inside of his own call. */
enum peer_state { PEER_IDLE, PEER_WAITING, PEER_DIALING, PEER_HELLO, PEER_UP, PEER_FAILING };

enum {
    PEER_BACKOFF_NS = 50 * 1000 * 1000,
    PEER_JITTER_NS = 150 * 1000 * 1000,
    PEER_QUEUE_MAX = 256,             /* frames before it is up */
    PEER_OUTPUT_BYTES_MAX = 16 << 20, /* of one-way frames: more are dropped */
};

struct peer {
    struct list_node link;
    struct shard *shard;
    node_id_t node; /* NO_NODE: known by its address only */
    enum peer_lane lane;
    char host[256]; /* as given by who asked last; "" */
    uint16_t port;
    enum peer_state state;
    env_conn conn;
    err_t err; /* FAILING */
    struct env_timer timer;
    uint64_t not_before_ns;
    unsigned failures;      /* in a row */
    struct list_node queue; /* struct peer_item */
    uint32_t queue_count;
    struct list_node asks;
    node_id_t who; /* as its hello said */
};

struct peer_item {
    struct list_node link;
    struct frame *frame;
};

/* ---- hello ---- */

struct frame *shard_hello_frame(struct shard *shard)
{
    const struct shard_config *config = shard->config;
    Karst__Hello hello = KARST__HELLO__INIT;
    hello.magic = WIRE_HELLO_MAGIC;
    hello.version = WIRE_VERSION;
    hello.has_cluster_id = true;
    hello.cluster_id = wire_put_uuid(&config->cluster_id);
    hello.has_node_id = true;
    hello.node_id = config->node;
    hello.has_incarnation = true;
    hello.incarnation = wire_put_uuid(&config->incarnation);
    hello.has_broker_epoch = true;
    hello.broker_epoch = shard->lease.broker_epoch;
    return wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello.base});
}

err_t peer_read_hello(struct shard *shard, const struct frame *frame, struct peer_identity *ret_who)
{
    struct wire_header header;
    err_t err = wire_decode_header(frame, &header);
    if (err != ERR_OK)
        return err;
    if (header.kind == WIRE_ERROR) {
        err = call_reply_error(shard, frame);
        return err == ERR_OK ? ERR_INVALID_REQUEST : err;
    }
    ProtobufCMessage *message;
    if (header.kind != WIRE_HELLO)
        return ERR_INVALID_REQUEST;
    err = wire_unpack(&karst__hello__descriptor, wire_message(frame, &header), shard_scratch(shard),
                      &message);
    if (err != ERR_OK)
        return err;
    const Karst__Hello *hello = (const Karst__Hello *)message;
    struct uuid cluster;
    struct peer_identity who = {.node = hello->node_id};
    if (hello->magic != WIRE_HELLO_MAGIC || !wire_get_uuid(&hello->cluster_id, &cluster) ||
        !wire_get_uuid(&hello->incarnation, &who.incarnation))
        return ERR_INVALID_REQUEST;
    if (!uuid_equal(&cluster, &shard->config->cluster_id))
        return ERR_INCONSISTENT_CLUSTER_ID;
    *ret_who = who;
    return ERR_OK;
}

/* ---- failure ---- */

static void peer_drop_queue(struct peer *peer)
{
    struct list_node *node;
    while ((node = list_pop_front(&peer->queue)) != NULL) {
        struct peer_item *item = list_entry(node, struct peer_item, link);
        frame_unref(item->frame);
        free(item);
    }
    peer->queue_count = 0;
}

/* From the loop only: answers what was asked. */
static void peer_fail(struct peer *peer, err_t err)
{
    struct shard *shard = peer->shard;
    struct env *env = shard->env;
    bool was_up = peer->state == PEER_UP;
    if (peer->conn.generation != 0) {
        conn_remove(shard, peer->conn);
        env->net.drop(env->net.self, peer->conn);
        peer->conn = (env_conn){0};
    }
    env->timer_stop(env->self, &peer->timer);
    peer->state = PEER_IDLE;
    peer->not_before_ns = env_now(env);
    if (peer->failures++ > 0)
        peer->not_before_ns += PEER_BACKOFF_NS + shard_random(shard, PEER_JITTER_NS);
    peer_drop_queue(peer);
    /* What they do next may be to ask again: those come behind the ones that are answered here. */
    struct list_node failed = {.next = &failed, .prev = &failed};
    struct list_node *node;
    while ((node = list_pop_front(&peer->asks)) != NULL)
        list_push_back(&failed, node);
    while ((node = list_pop_front(&failed)) != NULL) {
        struct peer_ask *ask = list_entry(node, struct peer_ask, link);
        ask->answered(shard, ask, err, NULL, peer->node);
    }
    if (peer->lane == PEER_STREAM && shard->table != NULL)
        partition_stream_lost(shard->table, peer->node, err);
    if (was_up && peer->node != NO_NODE)
        probe_hint(shard, peer->node);
}

static void peer_fail_soon(struct peer *peer, err_t err)
{
    struct env *env = peer->shard->env;
    peer->state = PEER_FAILING;
    peer->err = err;
    env->timer_start(env->self, &peer->timer, env_now(env));
}

/* ---- dialling ---- */

/* The image knows best where a broker listens; after a failure what the asker said is tried too:
 * the broker may have moved and not be registered yet. */
static bool peer_address(const struct peer *peer, const char **ret_host, uint16_t *ret_port)
{
    const struct image *image = peer->shard->image;
    const struct image_broker *broker = NULL;
    const struct image_listener *listener = NULL;
    if (peer->node != NO_NODE && image != NULL)
        broker = image_broker(image, peer->node);
    if (broker != NULL)
        listener = image_broker_listener(broker, PEER_LISTENER);
    bool given = peer->host[0] != '\0';
    if (listener != NULL && (!given || peer->failures % 2 == 0)) {
        *ret_host = listener->host;
        *ret_port = listener->port;
        return true;
    }
    *ret_host = peer->host;
    *ret_port = peer->port;
    return given;
}

static void peer_dial(struct peer *peer)
{
    struct shard *shard = peer->shard;
    struct env *env = shard->env;
    const char *host;
    uint16_t port;
    err_t err = ERR_UNREACHABLE;
    env_conn conn;
    if (peer_address(peer, &host, &port))
        err = env->net.dial(env->net.self, host, port, &conn);
    if (err == ERR_OK) {
        err = conn_add(shard, conn, CONN_PEER, peer);
        if (err != ERR_OK)
            env->net.drop(env->net.self, conn);
    }
    if (err != ERR_OK) {
        peer_fail_soon(peer, err);
        return;
    }
    peer->conn = conn;
    peer->state = PEER_DIALING;
    env->timer_start(env->self, &peer->timer, env_now(env) + shard->config->request_timeout_ns);
}

static void peer_timer(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct peer *peer = container_of(timer, struct peer, timer);
    if (peer->state == PEER_WAITING)
        peer_dial(peer);
    else if (peer->state == PEER_FAILING)
        peer_fail(peer, peer->err);
    else
        peer_fail(peer, ERR_UNREACHABLE); /* no hello in time */
}

/* Something is to be sent. */
static void peer_wake(struct peer *peer)
{
    struct env *env = peer->shard->env;
    if (peer->state != PEER_IDLE)
        return;
    peer->state = PEER_WAITING;
    if (env_now(env) >= peer->not_before_ns)
        peer_dial(peer);
    else
        env->timer_start(env->self, &peer->timer, peer->not_before_ns);
}

static struct peer *peer_find(struct shard *shard, const struct peer_to *to)
{
    list_for_each (node, &shard->peers) {
        struct peer *peer = list_entry(node, struct peer, link);
        if (peer->lane != to->lane || peer->node != to->node)
            continue;
        if (to->node != NO_NODE || (strcmp(peer->host, to->host) == 0 && peer->port == to->port))
            return peer;
    }
    return NULL;
}

/* NULL without memory. There are as many as brokers and bootstrap addresses, for each lane. */
static struct peer *peer_get(struct shard *shard, const struct peer_to *to)
{
    ASSERT(to->node != NO_NODE || to->host != NULL);
    struct peer *peer = peer_find(shard, to);
    if (peer == NULL) {
        peer = calloc(1, sizeof(*peer));
        if (peer == NULL)
            return NULL;
        peer->shard = shard;
        peer->node = to->node;
        peer->lane = to->lane;
        peer->timer.fire = peer_timer;
        list_init(&peer->queue);
        list_init(&peer->asks);
        list_push_back(&shard->peers, &peer->link);
    }
    if (to->host != NULL && to->host[0] != '\0') {
        snprintf(peer->host, sizeof(peer->host), "%s", to->host);
        peer->port = to->port;
    }
    return peer;
}

/* ---- sending ---- */

static void peer_put(struct peer *peer, struct frame *frame)
{
    struct env *env = peer->shard->env;
    /* Lost with the connection when it fails; the upcall closed follows. */
    (void)env->net.send(env->net.self, peer->conn, frame, 0, frame->used);
}

/* Sends, or keeps until it is up. Takes the frame. */
static err_t peer_queue(struct peer *peer, struct frame *frame)
{
    if (peer->state == PEER_UP) {
        peer_put(peer, frame);
        return ERR_OK;
    }
    struct peer_item *item = NULL;
    if (peer->queue_count < PEER_QUEUE_MAX)
        item = malloc(sizeof(*item));
    if (item == NULL) {
        frame_unref(frame);
        return peer->queue_count < PEER_QUEUE_MAX ? ERR_NO_MEMORY : ERR_FULL;
    }
    item->frame = frame;
    list_push_back(&peer->queue, &item->link);
    peer->queue_count++;
    peer_wake(peer);
    return ERR_OK;
}

err_t peer_ask(struct shard *shard, const struct peer_to *to, struct frame *frame,
               struct peer_ask *ask)
{
    struct peer *peer = peer_get(shard, to);
    if (peer == NULL || peer->state == PEER_FAILING) {
        frame_unref(frame);
        return peer == NULL ? ERR_NO_MEMORY : ERR_UNREACHABLE;
    }
    ask->correlation = ++shard->last_correlation;
    wire_set_correlation(frame, ask->correlation);
    err_t err = peer_queue(peer, frame);
    if (err == ERR_OK)
        list_push_back(&peer->asks, &ask->link);
    return err;
}

void peer_ask_cancel(struct peer_ask *ask)
{
    list_remove(&ask->link);
}

err_t peer_send(struct shard *shard, const struct peer_to *to, struct frame *frame)
{
    struct env *env = shard->env;
    struct peer *peer = peer_get(shard, to);
    if (peer == NULL) {
        frame_unref(frame);
        return ERR_NO_MEMORY;
    }
    bool full = peer->state == PEER_UP &&
                env->net.queued_bytes(env->net.self, peer->conn) > PEER_OUTPUT_BYTES_MAX;
    err_t err = ERR_FULL;
    if (full)
        frame_unref(frame);
    else
        err = peer_queue(peer, frame);
    /* Raft sends again what is lost; a stream must not lose a row silently (R7). */
    if (err != ERR_OK && peer->lane == PEER_STREAM && peer->state != PEER_FAILING)
        peer_fail_soon(peer, err);
    return err;
}

/* ---- upcalls ---- */

void peer_connected(struct shard *shard, void *owner)
{
    struct peer *peer = owner;
    if (peer->state != PEER_DIALING)
        return;
    struct frame *hello = shard_hello_frame(shard);
    if (hello == NULL) {
        peer_fail(peer, ERR_NO_MEMORY);
        return;
    }
    peer->state = PEER_HELLO;
    peer_put(peer, hello);
}

static void peer_take_hello(struct peer *peer, const struct frame *frame)
{
    struct shard *shard = peer->shard;
    struct env *env = shard->env;
    struct peer_identity who;
    err_t err = peer_read_hello(shard, frame, &who);
    if (err == ERR_OK && peer->node != NO_NODE && who.node != peer->node)
        err = ERR_INVALID_REQUEST; /* somebody else lives there now */
    if (err != ERR_OK) {
        if (peer->failures < 2)
            log_warn("node %d at its address answers as a stranger: %s", peer->node,
                     err_sentence(err));
        peer_fail(peer, err);
        return;
    }
    env->timer_stop(env->self, &peer->timer);
    peer->state = PEER_UP;
    peer->failures = 0;
    peer->who = who.node;
    struct list_node *node;
    while ((node = list_pop_front(&peer->queue)) != NULL) {
        struct peer_item *item = list_entry(node, struct peer_item, link);
        peer_put(peer, item->frame);
        free(item);
    }
    peer->queue_count = 0;
}

static void peer_take_answer(struct peer *peer, uint32_t correlation, struct frame *frame)
{
    list_for_each (node, &peer->asks) {
        struct peer_ask *ask = list_entry(node, struct peer_ask, link);
        if (ask->correlation != correlation)
            continue;
        list_remove(&ask->link);
        ask->answered(peer->shard, ask, ERR_OK, frame, peer->who);
        return;
    }
    frame_unref(frame); /* nobody waits for it any more */
}

void peer_received(struct shard *shard, void *owner, struct frame *frame)
{
    struct peer *peer = owner;
    if (peer->state == PEER_HELLO) {
        peer_take_hello(peer, frame);
        frame_unref(frame);
        return;
    }
    struct wire_header header;
    err_t err = peer->state == PEER_UP ? wire_decode_header(frame, &header) : ERR_INVALID_REQUEST;
    if (err == ERR_OK && (header.kind == WIRE_REPLY || header.kind == WIRE_ERROR)) {
        peer_take_answer(peer, header.correlation, frame);
        return;
    }
    if (err == ERR_OK && header.kind == WIRE_ONEWAY && header.method == WIRE_REPLICA_DATA &&
        peer->lane == PEER_STREAM)
        err = stream_take_data(shard, peer->node, &header, frame);
    frame_unref(frame);
    if (err != ERR_OK && peer->conn.generation != 0)
        peer_fail(peer, err);
}

void peer_closed(struct shard *shard, void *owner, err_t err)
{
    (void)shard;
    struct peer *peer = owner;
    peer->conn = (env_conn){0};
    if (err == ERR_INVALID_REQUEST)
        log_warn("connection to broker %d closed: what it sends is no frame, or one over "
                 "socket.request.max.bytes",
                 peer->node);
    peer_fail(peer, err == ERR_CLOSED ? ERR_NETWORK_EXCEPTION : err);
}

void peers_renew(struct shard *shard)
{
    list_for_each (node, &shard->peers) {
        struct peer *peer = list_entry(node, struct peer, link);
        if (peer->state == PEER_HELLO || peer->state == PEER_UP) {
            peer->failures = 0;
            peer_fail(peer, ERR_NETWORK_EXCEPTION);
        }
    }
}

/* ---- the quorum's frames ---- */

struct quorum_ask {
    struct list_node link;
    struct env_timer timer;
    struct peer_ask ask;
    struct shard *shard;
    uint64_t token;
};

static void quorum_ask_end(struct quorum_ask *asked, err_t err, struct frame *frame, node_id_t peer)
{
    struct shard *shard = asked->shard;
    struct env *env = shard->env;
    uint64_t token = asked->token;
    env->timer_stop(env->self, &asked->timer);
    peer_ask_cancel(&asked->ask);
    list_remove(&asked->link);
    free(asked);
    struct quorum_peer_answer *answer = malloc(sizeof(*answer));
    if (answer == NULL) {
        frame_unref(frame); /* the quorum's own timer ends its wait */
        return;
    }
    answer->token = token;
    answer->err = err;
    answer->frame = frame;
    answer->peer = peer;
    shard_post(shard, shard_quorum(shard), &answer->message, QUORUM_PEER_ANSWER);
}

static void quorum_ask_answered(struct shard *shard, struct peer_ask *ask, err_t err,
                                struct frame *frame, node_id_t peer)
{
    (void)shard;
    quorum_ask_end(container_of(ask, struct quorum_ask, ask), err, frame, peer);
}

static void quorum_ask_timer(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct quorum_ask *asked = container_of(timer, struct quorum_ask, timer);
    quorum_ask_end(asked, ERR_REQUEST_TIMED_OUT, NULL, NO_NODE);
}

void peer_quorum_send(struct shard *shard, struct quorum_peer_send *send)
{
    struct env *env = shard->env;
    struct frame *frame = send->frame;
    struct peer_to to = {
        .node = send->to.node, .lane = PEER_CONTROL, .host = send->to.host, .port = send->to.port};
    if (send->token == 0) {
        send->frame = NULL;
        (void)peer_send(shard, &to, frame); /* best effort: raft sends again */
        quorum_message_free(&send->message);
        return;
    }
    struct quorum_ask *asked = calloc(1, sizeof(*asked));
    if (asked != NULL) {
        send->frame = NULL;
        asked->shard = shard;
        asked->token = send->token;
        asked->timer.fire = quorum_ask_timer;
        asked->ask.answered = quorum_ask_answered;
        list_init(&asked->ask.link);
        list_push_back(&shard->peer_sends, &asked->link);
        env->timer_start(env->self, &asked->timer,
                         env_now(env) + shard->config->request_timeout_ns);
        err_t err = peer_ask(shard, &to, frame, &asked->ask);
        if (err != ERR_OK)
            quorum_ask_end(asked, err, NULL, NO_NODE);
    }
    quorum_message_free(&send->message);
}

void peers_fini(struct shard *shard)
{
    struct env *env = shard->env;
    struct list_node *node;
    while ((node = list_pop_front(&shard->peer_sends)) != NULL) {
        struct quorum_ask *asked = list_entry(node, struct quorum_ask, link);
        env->timer_stop(env->self, &asked->timer);
        peer_ask_cancel(&asked->ask);
        free(asked);
    }
    while ((node = list_pop_front(&shard->peers)) != NULL) {
        struct peer *peer = list_entry(node, struct peer, link);
        env->timer_stop(env->self, &peer->timer);
        peer_drop_queue(peer);
        if (peer->conn.generation != 0)
            env->net.drop(env->net.self, peer->conn);
        free(peer);
    }
}
