#include <stdlib.h>

#include "base/canary.h"
#include "shard/internal.h"

/* A closed connection of a broker is a hint, not a proof: the active controller's node then dials
 * that broker's own address, a few times within about a second (a killed process may close its
 * connections before its listener). Proof of death (R10) is only
 *   - the address refuses the connection, or
 *   - it answers with another incarnation than was registered when the probe began.
 * Silence and unreachable hosts prove nothing: the session timeout decides those.
 *
 * A voter's node does the same when it is the quorum's leader that it lost, and its quorum then
 * elects another early. What is proved is that who led when the address was dialled is dead: so the
 * term is noted then. */

static const uint32_t probe_delays_ms[] = {0, 10, 30, 80, 150, 300, 400};
enum { PROBE_ANSWER_NS_MAX = 500 * 1000 * 1000 };

struct probe {
    struct list_node link;
    struct shard *shard;
    struct env_timer timer; /* the next try; or the end of this one */
    node_id_t node;
    struct uuid incarnation; /* registered when it began */
    uint64_t led_term;       /* of the quorum, as was known at the last dial; 0: it did not lead */
    env_conn conn;           /* generation 0: between two tries */
    size_t tries;
};

static bool probe_is_voter(const struct shard *shard)
{
    for (size_t i = 0; i < image_voter_count(shard->image); i++)
        if (image_voter_at(shard->image, i)->node_id == shard->config->node)
            return true;
    return false;
}

static bool probe_leads(const struct shard *shard, node_id_t node)
{
    return shard->leader.node == node && node != NO_NODE;
}

/* Whether this node has a use for proof of that one's death. */
static bool probe_wanted(const struct shard *shard, node_id_t node)
{
    if (shard->image == NULL || node == shard->config->node)
        return false;
    return shard->active_here || (probe_leads(shard, node) && probe_is_voter(shard));
}

static void probe_free(struct probe *probe)
{
    struct shard *shard = probe->shard;
    struct env *env = shard->env;
    env->timer_stop(env->self, &probe->timer);
    if (probe->conn.generation != 0) {
        conn_remove(shard, probe->conn);
        env->net.drop(env->net.self, probe->conn);
    }
    list_remove(&probe->link);
    free(probe);
}

static void probe_tell(struct shard *shard, const struct probe *probe, uint32_t type)
{
    struct quorum_peer_died *died = malloc(sizeof(*died));
    if (died == NULL)
        return; /* the session timeout finds it */
    died->node = probe->node;
    died->incarnation = probe->incarnation;
    died->led_term = probe->led_term;
    shard_post(shard, shard_quorum(shard), &died->message, type);
}

static void probe_proved(struct probe *probe, const char *how)
{
    log_info("broker %d is dead: %s", probe->node, how);
    probe_tell(probe->shard, probe, QUORUM_PEER_DIED);
    probe_free(probe);
}

/* This try is over without a proof. */
static void probe_next(struct probe *probe)
{
    struct shard *shard = probe->shard;
    struct env *env = shard->env;
    if (probe->conn.generation != 0) {
        conn_remove(shard, probe->conn);
        env->net.drop(env->net.self, probe->conn);
        probe->conn = (env_conn){0};
    }
    if (probe->tries == ARRAY_LEN(probe_delays_ms) || !probe_wanted(shard, probe->node)) {
        probe_free(probe);
        return;
    }
    env->timer_start(env->self, &probe->timer,
                     env_now(env) + ENV_MS(probe_delays_ms[probe->tries]));
}

/* A fenced broker's death is of no interest to the controller, but it may lead the quorum. */
static bool probe_is_settled(const struct shard *shard, const struct image_broker *broker)
{
    return broker->state == BROKER_STATE_FENCED && !probe_leads(shard, broker->id);
}

static void probe_dial(struct probe *probe)
{
    struct shard *shard = probe->shard;
    struct env *env = shard->env;
    const struct image_broker *broker = image_broker(shard->image, probe->node);
    const struct image_listener *listener =
        broker == NULL ? NULL : image_broker_listener(broker, PEER_LISTENER);
    /* Somebody else is registered meanwhile, or it is fenced: there is nothing left to prove. */
    if (listener == NULL || probe_is_settled(shard, broker) ||
        !uuid_equal(&broker->incarnation, &probe->incarnation)) {
        probe_free(probe);
        return;
    }
    probe->tries++;
    probe->led_term = probe_leads(shard, probe->node) ? shard->term : 0;
    env_conn conn;
    err_t err = env->net.dial(env->net.self, listener->host, listener->port, &conn);
    if (err == ERR_OK) {
        err = conn_add(shard, conn, CONN_PROBE, probe);
        if (err != ERR_OK)
            env->net.drop(env->net.self, conn);
    }
    if (err == ERR_REFUSED) {
        probe_proved(probe, "its address refuses connections");
    } else if (err != ERR_OK) {
        probe_next(probe);
    } else {
        probe->conn = conn;
        env->timer_start(env->self, &probe->timer, env_now(env) + PROBE_ANSWER_NS_MAX);
    }
}

static void probe_timer(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct probe *probe = container_of(timer, struct probe, timer);
    if (probe->conn.generation != 0 && CANARY("shard_probe_believes_silence"))
        probe_proved(probe, "its address is silent");
    else if (probe->conn.generation != 0)
        probe_next(probe);
    else
        probe_dial(probe);
}

void probe_connected(struct shard *shard, void *owner)
{
    struct probe *probe = owner;
    struct frame *hello = shard_hello_frame(shard);
    if (hello != NULL)
        (void)shard->env->net.send(shard->env->net.self, probe->conn, hello, 0, hello->used);
}

void probe_received(struct shard *shard, void *owner, struct frame *frame)
{
    struct probe *probe = owner;
    struct peer_identity who;
    err_t err = peer_read_hello(shard, frame, &who);
    frame_unref(frame);
    if (err == ERR_OK && who.node == probe->node &&
        !uuid_equal(&who.incarnation, &probe->incarnation)) {
        probe->led_term = 0; /* it may be the one that leads, and not be registered yet */
        probe_proved(probe, "a newer incarnation answers at its address");
    } else {
        probe_next(probe);
    }
}

void probe_closed(struct shard *shard, void *owner, err_t err)
{
    (void)shard;
    struct probe *probe = owner;
    probe->conn = (env_conn){0};
    if (err == ERR_REFUSED)
        probe_proved(probe, "its address refuses connections");
    else
        probe_next(probe);
}

void probe_begin(struct shard *shard, node_id_t node)
{
    ASSERT(shard->idx == 0);
    if (!probe_wanted(shard, node))
        return;
    const struct image_broker *broker = image_broker(shard->image, node);
    if (broker == NULL || probe_is_settled(shard, broker))
        return;
    list_for_each (link, &shard->probes) {
        struct probe *probe = list_entry(link, struct probe, link);
        if (probe->node == node && uuid_equal(&probe->incarnation, &broker->incarnation)) {
            /* One more second of looking, from now: a look under way ends with its connection. */
            probe->tries = 0;
            if (probe->conn.generation == 0)
                probe_next(probe);
            return;
        }
    }
    struct probe *probe = calloc(1, sizeof(*probe));
    if (probe == NULL)
        return;
    probe->shard = shard;
    probe->node = node;
    probe->incarnation = broker->incarnation;
    probe->timer.fire = probe_timer;
    list_push_back(&shard->probes, &probe->link);
    probe_tell(shard, probe, QUORUM_PEER_LOST);
    probe_next(probe);
}

void probe_begin_all(struct shard *shard)
{
    if (shard->image == NULL)
        return;
    for (size_t i = 0; i < image_broker_count(shard->image); i++)
        probe_begin(shard, image_broker_at(shard->image, i)->id);
}

void probe_hint(struct shard *shard, node_id_t node)
{
    if (shard->dying || !probe_wanted(shard, node))
        return;
    if (shard->idx == 0) {
        probe_begin(shard, node);
        return;
    }
    struct shard_peer_hint *hint = malloc(sizeof(*hint));
    if (hint == NULL)
        return;
    hint->node = node;
    shard_post(shard, 0, &hint->message, SHARD_PEER_HINT);
}

void probes_fini(struct shard *shard)
{
    struct list_node *node;
    while ((node = shard->probes.next) != &shard->probes)
        probe_free(list_entry(node, struct probe, link));
}
