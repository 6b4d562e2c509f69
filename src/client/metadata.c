#include <stdlib.h>
#include <string.h>

#include "client/core.h"

/* ---- topics ---- */

struct client_topic *client_topic_find(const struct client *client, const char *name)
{
    struct client_topic *last = client->last_topic;
    if (last != NULL && strcmp(last->name, name) == 0)
        return last;
    struct bytes key = {(const uint8_t *)name, strlen(name)};
    return table_get_bytes(&client->topic_by_name, key);
}

struct client_topic *client_topic_get(struct client *client, const char *name)
{
    struct client_topic *topic = client_topic_find(client, name);
    if (topic != NULL) {
        client->last_topic = topic;
        return topic;
    }
    topic = calloc(1, sizeof(*topic));
    if (topic == NULL)
        return NULL;
    topic->name = strdup(name);
    topic->metadata_offset = -1;
    topic->sticky = -1;
    list_init(&topic->unassigned);
    struct bytes key = {(const uint8_t *)topic->name, strlen(name)};
    if (topic->name == NULL || table_put_bytes(&client->topic_by_name, key, topic) != ERR_OK) {
        free(topic->name);
        free(topic);
        return NULL;
    }
    list_push_back(&client->topics, &topic->link);
    client->last_topic = topic;
    client_metadata_want(client);
    client_wake(client);
    return topic;
}

static err_t client_topic_make_room(struct client_topic *topic, int32_t room)
{
    if (room <= topic->partition_room)
        return ERR_OK;
    struct client_partition **partitions =
        realloc(topic->partitions, (size_t)room * sizeof(*partitions));
    if (partitions == NULL)
        return ERR_NO_MEMORY;
    for (int32_t i = topic->partition_room; i < room; i++)
        partitions[i] = NULL;
    topic->partitions = partitions;
    topic->partition_room = room;
    return ERR_OK;
}

struct client_partition *client_partition_get(struct client *client, struct client_topic *topic,
                                              int32_t index)
{
    ASSERT(index >= 0);
    if (client_topic_make_room(topic, index + 1) != ERR_OK)
        return NULL;
    struct client_partition *p = topic->partitions[index];
    if (p != NULL)
        return p;
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return NULL;
    p->topic = topic;
    p->index = index;
    p->leader = NO_NODE;
    p->leader_epoch = -1;
    p->producer_id = -1;
    p->batch_bytes = CLIENT_BATCH_BYTES_FIRST;
    if (p->batch_bytes > client->config.batch_bytes)
        p->batch_bytes = client->config.batch_bytes;
    list_init(&p->dirty_link);
    list_init(&p->batches);
    topic->partitions[index] = p;
    return p;
}

struct client_partition *client_partition_find(const struct client *client, const char *topic_name,
                                               int32_t index)
{
    const struct client_topic *topic = client_topic_find(client, topic_name);
    if (topic == NULL || index < 0 || index >= topic->partition_room)
        return NULL;
    return topic->partitions[index];
}

void client_topic_ask_again(struct client *client, struct client_topic *topic)
{
    if (topic->err == ERR_OK)
        return;
    topic->err = ERR_OK;
    topic->missing_ns = 0;
    client_metadata_want(client);
    client_wake(client);
}

void client_ask_again(struct client *client, const char *name)
{
    struct client_topic *topic = client_topic_find(client, name);
    if (topic != NULL)
        client_topic_ask_again(client, topic);
}

int32_t client_partition_count(struct client *client, const char *name)
{
    if (!topic_name_legal(name))
        return -ERR_INVALID_TOPIC_EXCEPTION;
    struct client_topic *topic = client_topic_get(client, name);
    if (topic == NULL)
        return -ERR_NO_MEMORY;
    if (topic->err != ERR_OK)
        return -topic->err;
    return topic->known ? topic->partition_count : 0;
}

void client_topics_free(struct client *client)
{
    struct list_node *node;
    while ((node = list_pop_front(&client->errors)) != NULL)
        client_slice_free(client, list_entry(node, struct client_slice, link));
    while ((node = list_pop_front(&client->topics)) != NULL) {
        struct client_topic *topic = list_entry(node, struct client_topic, link);
        client_producer_free(client, topic);
        client_consumer_free(client, topic);
        for (int32_t i = 0; i < topic->partition_room; i++)
            free(topic->partitions[i]);
        free(topic->partitions);
        free(topic->name);
        free(topic);
    }
}

/* ---- what is to be looked at ---- */

void client_partition_dirty(struct client *client, struct client_partition *p)
{
    list_remove(&p->dirty_link);
    list_push_back(&client->dirty, &p->dirty_link);
}

void client_partition_due(struct client *client, struct client_partition *p, uint64_t at_ns)
{
    if (heap_holds(&p->due)) {
        if (p->due.key <= at_ns)
            return;
        p->due.key = at_ns;
        heap_key_changed(&client->due, &p->due);
        return;
    }
    p->due.key = at_ns;
    if (heap_push(&client->due, &p->due) != ERR_OK)
        client_partition_dirty(client, p); /* without memory: too early rather than never */
}

static bool client_partition_has_work(const struct client_partition *p)
{
    return client_producer_has_work(p) || client_consumer_has_work(p);
}

void client_all_dirty(struct client *client)
{
    list_for_each (node, &client->topics) {
        struct client_topic *topic = list_entry(node, struct client_topic, link);
        for (int32_t i = 0; i < topic->partition_room; i++) {
            struct client_partition *p = topic->partitions[i];
            if (p != NULL && client_partition_has_work(p))
                client_partition_dirty(client, p);
        }
    }
}

/* ---- leaders ---- */

struct client_broker *client_partition_leader(struct client *client, struct client_partition *p,
                                              uint64_t now)
{
    if (!p->topic->known)
        return NULL; /* it is being asked for */
    if (p->leader == NO_NODE) {
        client_metadata_want(client);
        return NULL;
    }
    if (now < p->retry_at_ns) {
        client_partition_due(client, p, p->retry_at_ns);
        return NULL;
    }
    p->leader_bad = false; /* nobody knows better: once more */
    struct client_broker *broker = client_broker_by_id(client, p->leader);
    if (broker == NULL) {
        client_metadata_want(client);
        return NULL;
    }
    if (broker->state == CLIENT_READY)
        return broker;
    client_broker_want(client, broker, now);
    if (broker->failures > 0 || now > broker->since_ns + ENV_MS(CLIENT_HEDGE_MS))
        client_metadata_want(client);
    return NULL;
}

void client_partition_worked(struct client_partition *p)
{
    p->failures = 0;
    p->leader_bad = false;
    p->retry_at_ns = 0;
}

static void client_partition_led(struct client *client, struct client_partition *p,
                                 node_id_t leader, leader_epoch_t leader_epoch)
{
    if (leader != p->leader) {
        client_producer_detach(client, p);
        client_consumer_detach(p);
    }
    p->leader = leader;
    p->leader_epoch = leader_epoch;
    p->leader_bad = false;
    p->retry_at_ns = 0;
    if (client_partition_has_work(p))
        client_partition_dirty(client, p);
}

void client_partition_failed(struct client *client, struct client_partition *p, err_t err,
                             node_id_t hint, leader_epoch_t hint_epoch)
{
    uint64_t now = client_now(client);
    p->failures++;
    client_partition_dirty(client, p);
    if (!client_err_is_leaders(err)) {
        /* A lost connection says nothing of who leads, and costs a dial before the next try. */
        p->retry_at_ns = now + client_backoff_ns(p->failures, CLIENT_RETRY_MS, CLIENT_RETRY_MS_MAX);
        return;
    }
    client_metadata_want(client);
    if (hint != NO_NODE && hint_epoch > p->leader_epoch) { /* KIP-951: no need to ask */
        client_partition_led(client, p, hint, hint_epoch);
        return;
    }
    p->leader_bad = true;
    p->retry_at_ns = now + client_backoff_ns(p->failures + 1, CLIENT_RETRY_MS, CLIENT_RETRY_MS_MAX);
}

/* ---- asking ---- */

void client_metadata_want(struct client *client)
{
    client->metadata_wanted = true;
}

/* Somebody waits for what only newer metadata can tell. */
static bool client_partition_distressed(struct client *client, const struct client_partition *p)
{
    if (!client_partition_has_work(p))
        return false;
    if (p->leader == NO_NODE || p->leader_bad)
        return true;
    const struct client_broker *broker = client_broker_by_id(client, p->leader);
    return broker == NULL || broker->probed ||
           (broker->state != CLIENT_READY && broker->failures > 0);
}

static bool client_distressed(struct client *client)
{
    list_for_each (node, &client->topics) {
        const struct client_topic *topic = list_entry(node, struct client_topic, link);
        if (!topic->known && topic->err == ERR_OK)
            return true;
        for (int32_t i = 0; i < topic->partition_count; i++) {
            if (topic->partitions[i] != NULL &&
                client_partition_distressed(client, topic->partitions[i]))
                return true;
        }
    }
    return false;
}

static void client_learn_brokers(struct client *client, const Karst__MetadataReply *reply)
{
    list_for_each (node, &client->brokers)
        list_entry(node, struct client_broker, link)->listed = false;
    for (size_t i = 0; i < reply->n_brokers; i++) {
        const Karst__MetadataBroker *row = reply->brokers[i];
        if (row->port == 0 || row->port > UINT16_MAX)
            continue;
        struct client_broker *broker = client_broker_at(client, row->host, (uint16_t)row->port);
        if (broker == NULL)
            continue;
        struct client_broker *same = client_broker_by_id(client, row->node_id);
        if (same != NULL && same != broker)
            same->node_id = NO_NODE; /* it moved to another address */
        broker->node_id = row->node_id;
        broker->listed = true;
    }
}

static err_t client_learn_partitions(struct client *client, struct client_topic *topic,
                                     const Karst__MetadataTopic *row)
{
    int32_t count = 0;
    for (size_t i = 0; i < row->n_partitions; i++) {
        const Karst__MetadataPartition *partition = row->partitions[i];
        if (partition->index < 0 || partition->index >= TOPIC_PARTITIONS_MAX)
            continue;
        struct client_partition *p = client_partition_get(client, topic, partition->index);
        if (p == NULL)
            return ERR_NO_MEMORY;
        if (partition->index >= count)
            count = partition->index + 1;
        /* A leader may have told us of a newer epoch than this broker's image has. */
        bool news = partition->leader_epoch > p->leader_epoch ||
                    (partition->leader_epoch == p->leader_epoch && partition->leader != p->leader);
        if (news)
            client_partition_led(client, p, partition->leader, partition->leader_epoch);
    }
    topic->partition_count = count;
    return ERR_OK;
}

static void client_topic_made_anew(struct client *client, struct client_topic *topic)
{
    client_consumer_topic_gone(client, topic, ERR_UNKNOWN_TOPIC_ID);
    for (int32_t i = 0; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL)
            continue;
        client_producer_reset(client, p);
        p->leader = NO_NODE;
        p->leader_epoch = -1;
        p->retry_at_ns = 0;
    }
}

static void client_learn_topic(struct client *client, const Karst__MetadataTopic *row,
                               int64_t metadata_offset)
{
    struct client_topic *topic = client_topic_find(client, row->name);
    if (topic == NULL || metadata_offset < topic->metadata_offset)
        return;
    if (row->error != ERR_OK) {
        uint64_t now = client_now(client);
        if (topic->missing_ns == 0)
            topic->missing_ns = now;
        if (!topic->known && now < topic->missing_ns + ENV_MS(CLIENT_TOPIC_GRACE_MS) &&
            err_retriable(row->error))
            return;
        topic->known = false;
        topic->partition_count = 0;
        topic->metadata_offset = metadata_offset;
        topic->err = row->error;
        client_producer_topic_gone(client, topic, row->error);
        client_consumer_topic_gone(client, topic, row->error);
        client_ready(client);
        return;
    }
    struct uuid id;
    if (!wire_get_uuid(&row->topic_id, &id))
        return;
    if (!uuid_is_zero(&topic->id) && !uuid_equal(&topic->id, &id))
        client_topic_made_anew(client, topic); /* it may have been missed in between */
    topic->id = id;
    if (client_learn_partitions(client, topic, row) != ERR_OK)
        return;
    topic->metadata_offset = metadata_offset;
    topic->missing_ns = 0;
    topic->err = ERR_OK;
    topic->known = topic->partition_count > 0;
    client_producer_assign(client, topic);
    client_consumer_assign(client, topic);
    client_ready(client);
}

static void client_metadata_done(struct client *client, struct client_call *call, err_t err,
                                 const struct client_reply *reply)
{
    free(call);
    client->metadata_in_flight--;
    if (err != ERR_OK || client->ended)
        return; /* still wanted: another broker is asked */
    const Karst__MetadataReply *metadata = (const Karst__MetadataReply *)reply->message;
    struct uuid cluster_id;
    if (!wire_get_uuid(&metadata->cluster_id, &cluster_id))
        return;
    if (uuid_is_zero(&client->cluster_id))
        client->cluster_id = cluster_id;
    if (!uuid_equal(&client->cluster_id, &cluster_id))
        return;
    client->metadata_age_ns = client_now(client);
    client_learn_brokers(client, metadata);
    for (size_t i = 0; i < metadata->n_topics; i++)
        client_learn_topic(client, metadata->topics[i], metadata->metadata_offset);
    client->metadata_wanted = client_distressed(client);
    if (client->metadata_wanted)
        client_broker_widen(client, client->metadata_age_ns);
}

/* The topics of the request; the count, or -1 without memory. */
static err_t client_metadata_send(struct client *client, struct client_broker *broker)
{
    arena_reset(&client->arena);
    size_t count = table_count(&client->topic_by_name);
    char **names = arena_calloc(&client->arena, count + 1, sizeof(*names));
    struct client_call *call = calloc(1, sizeof(*call));
    if (names == NULL || call == NULL) {
        free(call);
        return ERR_NO_MEMORY;
    }
    Karst__MetadataRequest request = KARST__METADATA_REQUEST__INIT;
    request.topics = names;
    list_for_each (node, &client->topics)
        names[request.n_topics++] = list_entry(node, struct client_topic, link)->name;
    call->method = WIRE_METADATA;
    call->done = client_metadata_done;
    err_t err = client_call_start(client, broker, call, &request.base, 0);
    if (err != ERR_OK)
        free(call);
    return err;
}

uint64_t client_metadata_turn(struct client *client, uint64_t now)
{
    uint64_t age_ns = ENV_MS(client->config.metadata_age_ms);
    bool any = !list_empty(&client->topics);
    if (any && client->metadata_age_ns != 0 && now >= client->metadata_age_ns + age_ns)
        client->metadata_wanted = true;
    if (!client->metadata_wanted || !any)
        return any && client->metadata_age_ns != 0 ? client->metadata_age_ns + age_ns : 0;
    uint64_t pause_ms = client->metadata_in_flight > 0 ? CLIENT_HEDGE_MS : CLIENT_REFRESH_MS;
    uint64_t after_ns = client->metadata_sent_ns + ENV_MS(pause_ms);
    if (client->metadata_sent_ns != 0 && now < after_ns)
        return after_ns;
    struct client_broker *broker = client_broker_any(client, now);
    if (broker != NULL && client_metadata_send(client, broker) == ERR_OK) {
        client->metadata_sent_ns = now;
        client->metadata_in_flight++;
    }
    /* Somebody becomes READY, or it is tried again. */
    return now + ENV_MS(broker != NULL ? CLIENT_HEDGE_MS : CLIENT_REFRESH_MS);
}
