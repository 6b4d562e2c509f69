#include <stdio.h>
#include <stdlib.h>

#include "shard/internal.h"

/* A connection that reads nothing more: too many of its requests are in work, they may bring too
 * much, or the shard's mail is backed up. What it has sent stays in its socket.
 * The mail stops clients only: one shard that waits for its disk would else keep the quorum from
 * raft's frames and heartbeats, and the other shards from what followers have. What brokers send is
 * bounded by itself. Nobody is known to be one or the other before the hello. */
void session_update_pause(struct shard *shard, struct session *session)
{
    bool mail = shard->paused && session->named && !session_is_broker(shard, session);
    bool paused = mail || session->request_count >= shard->config->requests_max ||
                  session->fetch_bytes > SESSION_FETCH_BYTES_MAX;
    if (paused == session->paused)
        return;
    session->paused = paused;
    shard->env->net.pause_reads(shard->env->net.self, session->conn, paused);
}

void sessions_update_pause(struct shard *shard)
{
    list_for_each (node, &shard->sessions)
        session_update_pause(shard, list_entry(node, struct session, link));
}

void session_accepted(struct shard *shard, env_conn conn, unsigned listener, const char *peer)
{
    struct env *env = shard->env;
    ASSERT(listener < shard->config->listener_count);
    struct session *session = NULL;
    if (shard->connections < shard->config->connections_max && !shard->stopping)
        session = calloc(1, sizeof(*session));
    if (session == NULL || conn_add(shard, conn, CONN_SESSION, session) != ERR_OK) {
        if (!shard->stopping)
            log_warn("connection of %s refused: %u are open", peer, shard->connections);
        free(session);
        env->net.drop(env->net.self, conn);
        return;
    }
    session->conn = conn;
    session->codec = shard->config->listeners[listener].codec;
    session->since_ns = env_now(env);
    session->node = NO_NODE;
    session->broker_epoch = -1;
    snprintf(session->peer_name, sizeof(session->peer_name), "%s", peer);
    list_init(&session->requests);
    list_push_back(&shard->sessions, &session->link);
    shard->connections++;
    session_update_pause(shard, session);
}

static void session_forget(struct shard *shard, struct session *session)
{
    list_remove(&session->link);
    shard->connections--;
    stream_session_closed(shard, session);
    struct list_node *node;
    while ((node = session->requests.next) != &session->requests)
        request_detach(shard, list_entry(node, struct request, link));
    /* Closed connections of brokers are a hint that they died (R10); those of probes are not, or
     * two nodes would probe each other for ever. */
    if (session->node != NO_NODE && session->spoke)
        probe_hint(shard, session->node);
    free(session);
}

void session_closed(struct shard *shard, struct session *session, err_t err)
{
    if (err == ERR_INVALID_REQUEST)
        log_warn("connection of %s closed: what it sends is no frame, or one over "
                 "socket.request.max.bytes",
                 session->peer_name);
    session_forget(shard, session);
}

void session_end(struct shard *shard, struct session *session, bool drop)
{
    struct env *env = shard->env;
    conn_remove(shard, session->conn);
    if (drop)
        env->net.drop(env->net.self, session->conn);
    else
        env->net.finish(env->net.self, session->conn);
    session_forget(shard, session);
}

/* Ends it at the end of the turn: callers further up may hold it. */
void session_doom(struct shard *shard, struct session *session)
{
    session->doomed = true;
    shard->doomed = true;
}

void sessions_end_doomed(struct shard *shard)
{
    if (!shard->doomed)
        return;
    shard->doomed = false;
    list_for_each_safe (node, after, &shard->sessions) {
        struct session *session = list_entry(node, struct session, link);
        if (session->doomed)
            session_end(shard, session, false);
    }
}

/* What requests hold is given back when followers have their records, and their reports come here:
 * waiting for memory, they would be waited for. */
static void session_trust(struct shard *shard, struct session *session)
{
    struct env_net *net = &shard->env->net;
    if (session->trusted || net->trust == NULL || !session_is_broker(shard, session))
        return;
    session->trusted = true;
    net->trust(net->self, session->conn);
}

void session_received(struct shard *shard, struct session *session, struct frame *frame)
{
    if (session->doomed) {
        frame_unref(frame);
        return;
    }
    session->spoke = session->named;
    session_trust(shard, session);
    struct request *request = NULL;
    switch (session->codec->decode(shard, session, frame, &request)) {
    case CODEC_REQUEST:
        request_begin(shard, session, request);
        return;
    case CODEC_DONE:
        return;
    case CODEC_CLOSE:
        shard->errors++;
        session_end(shard, session, false);
        return;
    }
}

err_t session_hello(struct shard *shard, struct session *session, const struct session_hello *hello)
{
    const struct shard_config *config = shard->config;
    if (session->named)
        return ERR_INVALID_REQUEST;
    if (hello->cluster_known && !uuid_equal(&hello->cluster_id, &config->cluster_id)) {
        log_warn("%s refused: it belongs to another cluster", session->peer_name);
        return ERR_INCONSISTENT_CLUSTER_ID;
    }
    if (hello->node != NO_NODE) {
        if (hello->node < 0 || !hello->cluster_known || uuid_is_zero(&hello->incarnation))
            return ERR_INVALID_REQUEST;
        if (hello->node == config->node)
            return ERR_DUPLICATE_BROKER_REGISTRATION;
    }
    session->named = true;
    session->node = hello->node;
    session->incarnation = hello->incarnation;
    session->broker_epoch = hello->broker_epoch;
    session_update_pause(shard, session);
    return ERR_OK;
}

bool session_is_broker(const struct shard *shard, const struct session *session)
{
    return session->node != NO_NODE && shard->image != NULL &&
           image_broker(shard->image, session->node) != NULL;
}

void session_send(struct shard *shard, struct session *session, struct frame *frame)
{
    struct env *env = shard->env;
    /* A closed connection has nobody to tell: the upcall follows. */
    (void)env->net.send(env->net.self, session->conn, frame, 0, frame->used);
}

void session_take_raft(struct shard *shard, struct session *session, struct frame *frame)
{
    struct quorum_oneway *oneway = malloc(sizeof(*oneway));
    if (oneway == NULL) {
        frame_unref(frame); /* as if the net had lost it: raft sends again */
        return;
    }
    oneway->frame = frame;
    oneway->peer = session->node;
    shard_post(shard, shard_quorum(shard), &oneway->message, QUORUM_ONEWAY);
}

void sessions_tick(struct shard *shard, uint64_t now_ns)
{
    list_for_each_safe (node, after, &shard->sessions) {
        struct session *session = list_entry(node, struct session, link);
        if (!session->named && now_ns - session->since_ns > SHARD_HELLO_NS_MAX)
            session_end(shard, session, true);
        else
            requests_tick(shard, session, now_ns);
    }
}
