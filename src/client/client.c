#include <stdlib.h>

#include "client/core.h"

uint64_t client_backoff_ns(unsigned failures, unsigned first_ms, unsigned last_ms)
{
    if (failures <= 1)
        return 0;
    unsigned doublings = failures - 2 < 16 ? failures - 2 : 16;
    uint64_t ms = (uint64_t)first_ms << doublings;
    return ENV_MS(ms < last_ms ? ms : last_ms);
}

bool client_err_is_leaders(err_t err)
{
    switch (err) {
    case ERR_NOT_LEADER_OR_FOLLOWER:
    case ERR_LEADER_NOT_AVAILABLE:
    case ERR_REPLICA_NOT_AVAILABLE:
    case ERR_FENCED_LEADER_EPOCH:
    case ERR_UNKNOWN_LEADER_EPOCH:
    case ERR_KAFKA_STORAGE_ERROR:
    case ERR_UNKNOWN_TOPIC_OR_PARTITION:
    case ERR_UNKNOWN_TOPIC_ID:
    case ERR_INCONSISTENT_TOPIC_ID:
    case ERR_NEW_LEADER_ELECTED:
        return true;
    default:
        return false;
    }
}

void client_wake(struct client *client)
{
    if (client->woken || client->ended)
        return;
    client->woken = true;
    client->hooks.wake(client->hooks.context);
}

void client_ready(struct client *client)
{
    client->hooks.ready(client->hooks.context);
}

/* ---- the loop ---- */

static void client_tick(struct client *client, uint64_t now)
{
    client->tick_ns = now + ENV_MS(CLIENT_TICK_MS);
    client_brokers_tick(client, now);
    list_for_each (node, &client->topics)
        client_producer_tick(client, list_entry(node, struct client_topic, link), now);
}

static void client_look_at_dirty(struct client *client, uint64_t now)
{
    struct heap_node *due;
    while ((due = heap_top(&client->due)) != NULL && due->key <= now) {
        (void)heap_pop(&client->due);
        client_partition_dirty(client, heap_entry(due, struct client_partition, due));
    }
    struct list_node dirty;
    list_init(&dirty);
    struct list_node *node;
    while ((node = list_pop_front(&client->dirty)) != NULL)
        list_push_back(&dirty, node); /* what becomes dirty meanwhile is for the next turn */
    while ((node = list_pop_front(&dirty)) != NULL) {
        struct client_partition *p = list_entry(node, struct client_partition, dirty_link);
        client_producer_look(client, p, now);
        client_consumer_look(client, p, now);
    }
}

void client_turn(struct client *client)
{
    if (client->ended)
        return;
    uint64_t now = client_now(client);
    client->woken = false;
    if (now >= client->tick_ns)
        client_tick(client, now);
    client_look_at_dirty(client, now);
    client_producer_send(client);
    client_consumer_send(client, now);
    uint64_t due_ns = client_producer_id_turn(client, now);
    due_ns = client_sooner(due_ns, client_ops_turn(client, now));
    due_ns = client_sooner(due_ns, client_metadata_turn(client, now));
    due_ns = client_sooner(due_ns, client_brokers_turn(client, now));

    struct heap_node *first = heap_top(&client->due);
    if (first != NULL)
        due_ns = client_sooner(due_ns, first->key);
    if (!list_empty(&client->dirty))
        due_ns = client_sooner(due_ns, now);
    if (client->queued > 0 || client_brokers_owe(client))
        due_ns = client_sooner(due_ns, client->tick_ns);
    if (due_ns == client->timer_due_ns)
        return;
    client->timer_due_ns = due_ns;
    if (due_ns == 0)
        client->env->timer_stop(client->env->self, &client->timer);
    else
        client->env->timer_start(client->env->self, &client->timer, due_ns);
}

static void client_on_timer(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns; /* the turn's end looks at the clock */
    struct client *client = container_of(timer, struct client, timer);
    client->hooks.lock(client->hooks.context);
    client->timer_due_ns = 0;
    client->hooks.unlock(client->hooks.context);
}

static void client_on_turn_ended(void *actor)
{
    struct client *client = actor;
    client->hooks.lock(client->hooks.context);
    client_turn(client);
    client->hooks.unlock(client->hooks.context);
}

/* ---- beginning and end ---- */

static void client_no_lock(void *context)
{
    (void)context; /* one thread does all */
}

err_t client_new(const struct client_config *config, struct env *env,
                 const struct client_hooks *hooks, struct client **ret_client)
{
    ASSERT(config->bootstrap_count > 0);
    struct client *client = calloc(1, sizeof(*client));
    if (client == NULL)
        return ERR_NO_MEMORY;
    client->config = *config;
    client->env = env;
    client->hooks = *hooks;
    if (client->hooks.lock == NULL) {
        client->hooks.lock = client_no_lock;
        client->hooks.unlock = client_no_lock;
    }
    client->timer.fire = client_on_timer;
    client->producer_id = -1;
    arena_init(&client->arena, WIRE_UNPACKED_BYTES_MAX);
    rng_seed(&client->rng, env->random(env->self));
    table_init(&client->topic_by_name, rng_next(&client->rng));
    heap_init(&client->due);
    list_init(&client->brokers);
    list_init(&client->topics);
    list_init(&client->dirty);
    list_init(&client->consumable);
    list_init(&client->errors);
    list_init(&client->fetches);
    list_init(&client->ops);
    for (size_t i = 0; i < config->bootstrap_count; i++) {
        const struct client_address *address = &config->bootstrap[i];
        struct client_broker *broker = client_broker_at(client, address->host, address->port);
        if (broker == NULL) {
            client_free(client);
            return ERR_NO_MEMORY;
        }
        broker->bootstrap = true;
    }
    env->actor = client;
    env->upcalls.connected = client_on_connected;
    env->upcalls.received = client_on_received;
    env->upcalls.closed = client_on_closed;
    env->upcalls.turn_ended = client_on_turn_ended;
    *ret_client = client;
    return ERR_OK;
}

struct uuid client_make_uuid(struct client *client)
{
    uint64_t high = rng_next(&client->rng);
    return uuid_make(high, rng_next(&client->rng));
}

/* Calls that are under way end without an answer; the loop is over, so nothing is sent for them. */
static void client_end_calls(struct client *client)
{
    client->ended = true;
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        struct list_node *call_node;
        while ((call_node = list_pop_front(&broker->calls)) != NULL) {
            struct client_call *call = list_entry(call_node, struct client_call, link);
            call->done(client, call, ERR_CANCELED, NULL);
        }
    }
}

void client_abandon(struct client *client, err_t err)
{
    client_end_calls(client);
    list_for_each (node, &client->topics)
        client_producer_topic_gone(client, list_entry(node, struct client_topic, link), err);
}

void client_free(struct client *client)
{
    if (client == NULL)
        return;
    client_abandon(client, ERR_CANCELED);
    client->env->timer_stop(client->env->self, &client->timer);
    client_done_free(client, client_take_done(client));
    client_topics_free(client);
    client_brokers_free(client);
    client_spares_free(client);
    table_fini(&client->topic_by_name);
    heap_fini(&client->due);
    arena_fini(&client->arena);
    free(client);
}
