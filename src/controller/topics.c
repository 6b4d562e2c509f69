#include <stdlib.h>

#include "base/canary.h"
#include "base/logger.h"
#include "controller/internal.h"
#include "controller/placement.h"
#include "controller/topic_config.h"

/* ---- CreateTopics ---- */

/* One topic of a request, on the way from wish to records. */
struct creation {
    const Karst__CreateTopic *topic;
    const Karst__CreateTopicsRequest *request;
    struct uuid id, request_id;
    int32_t partitions;
    size_t replication_factor;
    err_t err;
    const char *sentence; /* in the reply's arena; NULL: the table's */
};

static bool creation_fail(struct creation *n, err_t err, const char *sentence)
{
    n->err = err;
    n->sentence = sentence;
    return false;
}

static size_t active_brokers(const struct controller *c)
{
    size_t active = 0;
    for (size_t i = 0; i < image_broker_count(view(c)); i++)
        active += image_broker_at(view(c), i)->state == BROKER_STATE_ACTIVE;
    return active;
}

/* A wish is an id of 16 bytes, or none. */
static bool creation_ids(struct controller *c, struct creation *n)
{
    if (n->request->has_request_id && !request_uuid(&n->request->request_id, &n->request_id))
        return creation_fail(n, ERR_INVALID_REQUEST, "a request id is 16 bytes");
    if (n->topic->has_topic_id && !request_uuid(&n->topic->topic_id, &n->id))
        return creation_fail(n, ERR_INVALID_REQUEST, "a topic id is 16 bytes");
    if (uuid_is_zero(&n->id))
        n->id = uuid_make(rng_next(c->rng), rng_next(c->rng));
    return true;
}

static bool creation_name(struct controller *c, struct creation *n)
{
    const char *name = n->topic->name;
    if (!topic_name_legal(name))
        return creation_fail(n, ERR_INVALID_TOPIC_EXCEPTION, NULL);
    if (strcmp(name, "__cluster_metadata") == 0)
        return creation_fail(n, ERR_INVALID_TOPIC_EXCEPTION,
                             "__cluster_metadata is the name of the cluster's own log");
    if (image_topic_by_name(view(c), name) != NULL)
        return creation_fail(n, ERR_TOPIC_ALREADY_EXISTS, NULL);
    if (image_topic(view(c), &n->id) != NULL)
        return creation_fail(n, ERR_INVALID_REQUEST, "a topic of another name has this id");
    const struct image_topic *colliding = image_topic_colliding(view(c), name);
    if (colliding != NULL)
        return creation_fail(n, ERR_INVALID_TOPIC_EXCEPTION,
                             reply_text(c,
                                        "'%s' collides with the topic '%s': metrics take '.' and "
                                        "'_' for the same",
                                        name, colliding->name));
    return true;
}

static bool creation_counts(struct controller *c, struct creation *n)
{
    const Karst__CreateTopic *topic = n->topic;
    n->partitions = topic->partitions == -1 ? c->config.default_partitions : topic->partitions;
    int32_t most = c->config.topic_partitions_max < TOPIC_PARTITIONS_MAX
                       ? c->config.topic_partitions_max
                       : TOPIC_PARTITIONS_MAX;
    if ((n->partitions < 1 || n->partitions > most) &&
        !CANARY("controller_any_number_of_partitions"))
        return creation_fail(
            n, ERR_INVALID_PARTITIONS,
            reply_text(c, "a topic has 1 to %d partitions, not %d", most, n->partitions));
    int32_t replicas = topic->replication_factor == -1 ? c->config.default_replication_factor
                                                       : topic->replication_factor;
    size_t active = active_brokers(c);
    if (replicas < 1 || replicas > REPLICAS_MAX)
        return creation_fail(
            n, ERR_INVALID_REPLICATION_FACTOR,
            reply_text(c, "a replication factor is 1 to %d, not %d", REPLICAS_MAX, replicas));
    if ((size_t)replicas > active)
        return creation_fail(n, ERR_INVALID_REPLICATION_FACTOR,
                             reply_text(c,
                                        "replication factor %d needs as many active brokers, and "
                                        "there are %zu: start more, or ask for less",
                                        replicas, active));
    n->replication_factor = (size_t)replicas;
    return true;
}

static bool creation_assigned_row(struct controller *c, struct creation *n, size_t partition)
{
    const Karst__ReplicaAssignment *row = n->topic->assignment[partition];
    if (row->n_replicas < 1 || row->n_replicas > REPLICAS_MAX ||
        row->n_replicas != n->topic->assignment[0]->n_replicas)
        return creation_fail(n, ERR_INVALID_REPLICA_ASSIGNMENT,
                             reply_text(c,
                                        "partition %zu is assigned %zu replicas: each has the same "
                                        "number, 1 to %d",
                                        partition, row->n_replicas, REPLICAS_MAX));
    bool active = false;
    for (size_t i = 0; i < row->n_replicas; i++) {
        const struct image_broker *broker = image_broker(view(c), row->replicas[i]);
        if (broker == NULL)
            return creation_fail(n, ERR_INVALID_REPLICA_ASSIGNMENT,
                                 reply_text(c,
                                            "partition %zu is assigned to broker %d, which is "
                                            "not registered",
                                            partition, row->replicas[i]));
        for (size_t k = 0; k < i; k++)
            if (row->replicas[k] == row->replicas[i])
                return creation_fail(n, ERR_INVALID_REPLICA_ASSIGNMENT,
                                     reply_text(c, "partition %zu is assigned to broker %d twice",
                                                partition, row->replicas[i]));
        active = active || broker->state == BROKER_STATE_ACTIVE;
    }
    if (!active)
        return creation_fail(n, ERR_INVALID_REPLICA_ASSIGNMENT,
                             reply_text(c, "no broker of partition %zu is active", partition));
    return true;
}

static bool creation_assignment(struct controller *c, struct creation *n)
{
    const Karst__CreateTopic *topic = n->topic;
    if (topic->partitions != -1 || topic->replication_factor != -1)
        return creation_fail(n, ERR_INVALID_REQUEST,
                             "with an assignment, partitions and replication factor are not given");
    if (topic->n_assignment > (size_t)c->config.topic_partitions_max)
        return creation_fail(n, ERR_INVALID_PARTITIONS, NULL);
    for (size_t i = 0; i < topic->n_assignment; i++)
        if (!creation_assigned_row(c, n, i))
            return false;
    n->partitions = (int32_t)topic->n_assignment;
    n->replication_factor = topic->assignment[0]->n_replicas;
    return true;
}

static bool creation_configs(struct controller *c, struct creation *n)
{
    char sentence[256];
    for (size_t i = 0; i < n->topic->n_configs; i++) {
        const Karst__ConfigValue *config = n->topic->configs[i];
        err_t err = topic_config_check(config->key, config->value, sentence, sizeof(sentence));
        if (err != ERR_OK)
            return creation_fail(n, err, reply_text(c, "%s", sentence));
    }
    return true;
}

static err_t creation_partition(struct controller *c, const struct creation *n, int32_t index,
                                node_id_t *nodes)
{
    node_id_t isr[REPLICAS_MAX];
    struct uuid directories[REPLICAS_MAX]; /* R1: chosen here, so that no record lacks them */
    ProtobufCBinaryData directory_rows[REPLICAS_MAX];
    const struct partition_id id = {n->id, index};
    Karst__PartitionRecord record = KARST__PARTITION_RECORD__INIT;
    record.topic_id = record_uuid(&n->id);
    record.index = index;
    record.n_replicas = record.n_directories = n->replication_factor;
    record.replicas = nodes;
    record.directories = directory_rows;
    record.isr = isr;
    for (size_t i = 0; i < n->replication_factor; i++) {
        const struct image_broker *broker = image_broker(view(c), nodes[i]);
        if (broker->state == BROKER_STATE_ACTIVE)
            isr[record.n_isr++] = nodes[i];
        directories[i] = replica_directory(broker, &id);
        directory_rows[i] = record_uuid(&directories[i]);
    }
    ASSERT(record.n_isr > 0); /* it was checked before any record */
    record.leader = isr[0];
    return decision_add(c, &record.base);
}

/* R23: a topic is there with all its partitions, or not at all. */
static err_t creation_records(struct controller *c, const struct creation *n)
{
    decision_begin_transaction(c);
    Karst__TopicRecord topic = KARST__TOPIC_RECORD__INIT;
    topic.topic_id = record_uuid(&n->id);
    topic.name = n->topic->name;
    topic.request_id = record_uuid(&n->request_id);
    err_t err = decision_add(c, &topic.base);
    for (size_t i = 0; i < n->topic->n_configs && err == ERR_OK; i++) {
        Karst__ConfigRecord config = KARST__CONFIG_RECORD__INIT;
        config.resource = KARST__CONFIG_RESOURCE__CONFIG_TOPIC;
        config.topic_id = topic.topic_id;
        config.node_id = NO_NODE;
        config.key = n->topic->configs[i]->key;
        config.value = n->topic->configs[i]->value;
        err = decision_add(c, &config.base);
    }
    struct placement placement;
    placement_init(&placement, view(c), c->rng);
    for (int32_t i = 0; i < n->partitions && err == ERR_OK; i++) {
        node_id_t nodes[REPLICAS_MAX];
        if (n->topic->n_assignment == 0)
            placement_choose(&placement, i, n->replication_factor, nodes);
        else
            memcpy(nodes, n->topic->assignment[i]->replicas,
                   n->replication_factor * sizeof(*nodes));
        err = creation_partition(c, n, i, nodes);
    }
    placement_fini(&placement);
    err = decision_end_transaction(c, err);
    if (err != ERR_OK)
        decision_complain("a new topic", err);
    return err;
}

/* R26: a retry of the request that made the topic finds its own result. */
static bool creation_done_before(struct controller *c, struct creation *n)
{
    const struct image_topic *found = image_topic_by_name(view(c), n->topic->name);
    if (found == NULL)
        return false;
    bool same_request =
        !uuid_is_zero(&n->request_id) && uuid_equal(&n->request_id, &found->request_id);
    bool same_id = n->topic->has_topic_id && uuid_equal(&n->id, &found->id);
    if (!same_request && !same_id)
        return false;
    n->id = found->id;
    n->partitions = found->partition_count;
    n->replication_factor = found->partition_count == 0 ? 0 : found->partitions[0].replica_count;
    return true;
}

static void create(struct controller *c, struct creation *n)
{
    if (!creation_ids(c, n) || creation_done_before(c, n) || !creation_name(c, n))
        return;
    bool counted = n->topic->n_assignment > 0 ? creation_assignment(c, n) : creation_counts(c, n);
    if (!counted || !creation_configs(c, n) || n->request->validate_only)
        return;
    const char *refusal = space_refusal(c);
    if (refusal != NULL) {
        creation_fail(n, ERR_NOT_ENOUGH_SPACE, refusal);
        return;
    }
    n->err = creation_records(c, n);
    if (n->err != ERR_OK)
        return;
    log_info("controller: topic '%s' with %d partitions, %zu replicas each", n->topic->name,
             n->partitions, n->replication_factor);
}

static void result_fill(struct controller *c, Karst__TopicResult *row, const char *name, err_t err,
                        const char *sentence)
{
    char *copy = name == NULL ? NULL : arena_strdup(c->arena, name);
    row->name = copy == NULL ? record_text("") : copy;
    row->error = err;
    if (err != ERR_OK)
        row->message = record_text(sentence == NULL ? err_sentence(err) : sentence);
}

static void create_row(struct controller *c, const struct creation *n, Karst__TopicResult *row)
{
    result_fill(c, row, n->topic->name, n->err, n->sentence);
    if (n->err != ERR_OK)
        return;
    row->has_topic_id = !n->request->validate_only;
    if (row->has_topic_id)
        row->topic_id = reply_uuid(c, &n->id);
    row->has_partitions = row->has_replication_factor = true;
    row->partitions = n->partitions;
    row->replication_factor = (int32_t)n->replication_factor;
}

static struct bytes text_key(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}

ProtobufCMessage *topics_create(struct controller *c, const Karst__CreateTopicsRequest *request)
{
    Karst__CreateTopicsReply *reply = reply_new(c, &karst__create_topics_reply__descriptor);
    void **rows = reply_rows(c, &karst__topic_result__descriptor, request->n_topics);
    if (reply == NULL || rows == NULL)
        return NULL;
    /* A name that comes twice is refused both times: which of the two was meant? */
    struct table seen, twice;
    table_init(&seen, rng_next(c->rng));
    table_init(&twice, rng_next(c->rng));
    err_t err = ERR_OK;
    for (size_t i = 0; i < request->n_topics && err == ERR_OK; i++) {
        struct bytes key = text_key(request->topics[i]->name);
        bool again = table_get_bytes(&seen, key) != NULL;
        err = table_put_bytes(again ? &twice : &seen, key, request->topics[i]);
    }
    for (size_t i = 0; i < request->n_topics && err == ERR_OK; i++) {
        struct creation n = {.topic = request->topics[i], .request = request};
        if (table_get_bytes(&twice, text_key(n.topic->name)) != NULL)
            creation_fail(&n, ERR_INVALID_REQUEST, "the request names this topic twice");
        else
            create(c, &n);
        create_row(c, &n, rows[i]);
    }
    table_fini(&seen);
    table_fini(&twice);
    if (err != ERR_OK)
        return NULL;
    reply->n_topics = request->n_topics;
    reply->topics = (Karst__TopicResult **)rows;
    return &reply->base;
}

/* ---- DeleteTopics ---- */

/* With an id, what is to go is known for sure; a topic that is gone already is a success where the
 * name came too, since then a broker looked the id up, and this is its second try (R26). */
static err_t delete_find(struct controller *c, const Karst__DeleteTopic *topic, struct uuid *ret_id,
                         bool *ret_gone)
{
    if (topic->has_topic_id) {
        if (!request_uuid(&topic->topic_id, ret_id))
            return ERR_INVALID_REQUEST;
        *ret_gone = image_topic(view(c), ret_id) == NULL;
        return *ret_gone && topic->name == NULL ? ERR_UNKNOWN_TOPIC_ID : ERR_OK;
    }
    if (topic->name == NULL)
        return ERR_INVALID_REQUEST;
    const struct image_topic *found = image_topic_by_name(view(c), topic->name);
    if (found == NULL)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    *ret_id = found->id;
    return ERR_OK;
}

static void delete_one(struct controller *c, const Karst__DeleteTopic *topic,
                       Karst__TopicResult *row)
{
    struct uuid id = {0};
    bool gone = false;
    const char *name = topic->name;
    err_t err = delete_find(c, topic, &id, &gone);
    if (err == ERR_OK && !gone) {
        const struct image_topic *found = image_topic(view(c), &id);
        if (name == NULL)
            name = arena_strdup(c->arena, found->name);
        log_info("controller: topic '%s' is deleted", found->name);
        Karst__DeleteTopicRecord record = KARST__DELETE_TOPIC_RECORD__INIT;
        record.topic_id = record_uuid(&id);
        err = decision_add(c, &record.base);
    }
    result_fill(c, row, name, err, NULL);
    row->has_topic_id = !uuid_is_zero(&id);
    if (row->has_topic_id)
        row->topic_id = reply_uuid(c, &id);
}

ProtobufCMessage *topics_delete(struct controller *c, const Karst__DeleteTopicsRequest *request)
{
    Karst__DeleteTopicsReply *reply = reply_new(c, &karst__delete_topics_reply__descriptor);
    void **rows = reply_rows(c, &karst__topic_result__descriptor, request->n_topics);
    if (reply == NULL || rows == NULL)
        return NULL;
    for (size_t i = 0; i < request->n_topics; i++)
        delete_one(c, request->topics[i], rows[i]);
    reply->n_topics = request->n_topics;
    reply->topics = (Karst__TopicResult **)rows;
    return &reply->base;
}
