#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/handle.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

enum {
    ADMIN_ARENA_BYTES_MAX = 256 << 20,
    ADMIN_GRACE_MS = 1000,   /* after an op's own deadline: its end is told by the loop */
    ADMIN_MISSING_TRIES = 4, /* a topic just made may not be known to the broker asked */
};

/* One call of the program: the op, and what it is made of. */
struct admin_call {
    struct client_op op;
    struct arena arena;
    const struct karst_topic_spec *spec;
    const char *const *names; /* NULL: all */
    size_t name_count;
    const char *name; /* to delete */
    struct uuid topic_id, request_id;
    int64_t timestamp;
    uint32_t timeout_ms;
    bool of_leader;  /* the quorum as its leader sees it */
    int32_t node_id; /* to be added, or removed */
};

/* protobuf-c does not know const; packing only reads. */
static char *admin_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void admin_begin(struct karst *karst, struct admin_call *call, uint16_t method,
                        int timeout_ms)
{
    arena_init(&call->arena, ADMIN_ARENA_BYTES_MAX);
    call->op.arena = &call->arena;
    call->op.method = method;
    call->op.deadline_ns = karst_deadline_ns(karst, timeout_ms);
    call->timeout_ms = timeout_ms < 0 ? INT32_MAX : (uint32_t)timeout_ms;
}

/* The broker gives up before we do, and says why. */
static uint32_t admin_timeout_ms(const struct admin_call *call)
{
    return call->timeout_ms / 5 * 4 + 1;
}

/* Starts the ops, and waits for all. Those not finished then are canceled. */
static void admin_run(struct karst *karst, struct admin_call *const *calls, size_t count)
{
    uint64_t deadline_ns = calls[0]->op.deadline_ns;
    if (deadline_ns != UINT64_MAX)
        deadline_ns += ENV_MS(ADMIN_GRACE_MS);
    pthread_mutex_lock(&karst->lock);
    for (size_t i = 0; i < count; i++)
        client_op_start(karst->client, &calls[i]->op);
    for (size_t i = 0; i < count; i++) {
        while (!calls[i]->op.finished && karst_wait(karst, deadline_ns))
            ;
        client_op_cancel(karst->client, &calls[i]->op);
    }
    pthread_mutex_unlock(&karst->lock);
}

/* The error of a call that has ended. */
static err_t admin_err(struct karst *karst, const struct admin_call *call)
{
    const struct client_op *op = &call->op;
    if (op->err == ERR_OK)
        return ERR_OK;
    if (op->tries == 0 && op->err == ERR_REQUEST_TIMED_OUT)
        return karst_fail_unanswered(karst, call->timeout_ms);
    if (op->late && op->err != ERR_REQUEST_TIMED_OUT)
        return karst_fail(karst, op->err, "not done in %u ms; last: %s", call->timeout_ms,
                          op->sentence);
    return karst_fail(karst, op->err, "%s", op->sentence);
}

static err_t admin_run_one(struct karst *karst, struct admin_call *call)
{
    admin_run(karst, &call, 1);
    return admin_err(karst, call);
}

/* ---- topics made and deleted ---- */

static const ProtobufCMessage *admin_encode_create(struct client_op *op, const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    const struct karst_topic_spec *spec = call->spec;
    Karst__CreateTopicsRequest *request = arena_alloc(&call->arena, sizeof(*request));
    Karst__CreateTopic *topic = arena_alloc(&call->arena, sizeof(*topic));
    Karst__CreateTopic **topics = arena_alloc(&call->arena, sizeof(*topics));
    Karst__ConfigValue *values = arena_calloc(&call->arena, spec->config_count, sizeof(*values));
    Karst__ConfigValue **list = arena_calloc(&call->arena, spec->config_count, sizeof(*list));
    if (request == NULL || topic == NULL || topics == NULL || values == NULL || list == NULL)
        return NULL;
    karst__create_topics_request__init(request);
    karst__create_topic__init(topic);
    topic->name = admin_text(spec->name);
    topic->has_partitions = spec->partitions != -1;
    topic->partitions = spec->partitions;
    topic->has_replication_factor = spec->replication_factor != -1;
    topic->replication_factor = spec->replication_factor;
    for (size_t i = 0; i < spec->config_count; i++) {
        karst__config_value__init(&values[i]);
        values[i].key = admin_text(spec->configs[i].name);
        values[i].value = admin_text(spec->configs[i].value);
        list[i] = &values[i];
    }
    topic->configs = list;
    topic->n_configs = spec->config_count;
    /* Fixed here: a second try meets what the first has made (R26). */
    topic->has_topic_id = true;
    topic->topic_id = wire_put_uuid(&call->topic_id);
    request->has_request_id = true;
    request->request_id = wire_put_uuid(&call->request_id);
    topics[0] = topic;
    request->topics = topics;
    request->n_topics = 1;
    request->timeout_ms = admin_timeout_ms(call);
    return &request->base;
}

/* The one row of a reply about topics. */
static err_t admin_row(err_t err, const char *message, Karst__TopicResult *const *rows,
                       size_t count, const char **ret_sentence)
{
    *ret_sentence = err == ERR_OK && count > 0 ? rows[0]->message : message;
    if (err != ERR_OK)
        return err;
    return count == 0 ? ERR_UNKNOWN_SERVER_ERROR : rows[0]->error;
}

static bool admin_judge_create(struct client_op *op, const ProtobufCMessage *message,
                               err_t *ret_err, const char **ret_sentence)
{
    struct admin_call *call = container_of(op, struct admin_call, op);
    const Karst__CreateTopicsReply *reply = (const Karst__CreateTopicsReply *)message;
    err_t err =
        admin_row(reply->error, reply->message, reply->topics, reply->n_topics, ret_sentence);
    struct uuid id;
    if (err == ERR_TOPIC_ALREADY_EXISTS && reply->topics[0]->has_topic_id &&
        wire_get_uuid(&reply->topics[0]->topic_id, &id) && uuid_equal(&id, &call->topic_id))
        err = ERR_OK; /* by an earlier try of this call */
    *ret_err = err;
    return err_retriable(err);
}

int karst_topic_create(struct karst *karst, const struct karst_topic_spec *spec, int timeout_ms)
{
    struct admin_call call = {.spec = spec};
    admin_begin(karst, &call, WIRE_CREATE_TOPICS, timeout_ms);
    pthread_mutex_lock(&karst->lock);
    call.topic_id = client_make_uuid(karst->client);
    call.request_id = client_make_uuid(karst->client);
    pthread_mutex_unlock(&karst->lock);
    call.op.encode = admin_encode_create;
    call.op.judge = admin_judge_create;
    err_t err = admin_run_one(karst, &call);
    arena_fini(&call.arena);
    return err;
}

static const ProtobufCMessage *admin_encode_delete(struct client_op *op, const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__DeleteTopicsRequest *request = arena_alloc(&call->arena, sizeof(*request));
    Karst__DeleteTopic *topic = arena_alloc(&call->arena, sizeof(*topic));
    Karst__DeleteTopic **topics = arena_alloc(&call->arena, sizeof(*topics));
    if (request == NULL || topic == NULL || topics == NULL)
        return NULL;
    karst__delete_topics_request__init(request);
    karst__delete_topic__init(topic);
    topic->name = admin_text(call->name);
    topics[0] = topic;
    request->topics = topics;
    request->n_topics = 1;
    request->timeout_ms = admin_timeout_ms(call);
    return &request->base;
}

static bool admin_judge_delete(struct client_op *op, const ProtobufCMessage *message,
                               err_t *ret_err, const char **ret_sentence)
{
    const Karst__DeleteTopicsReply *reply = (const Karst__DeleteTopicsReply *)message;
    err_t err =
        admin_row(reply->error, reply->message, reply->topics, reply->n_topics, ret_sentence);
    *ret_err = err;
    if (err != ERR_UNKNOWN_TOPIC_OR_PARTITION)
        return err_retriable(err);
    if (op->uncertain) {
        *ret_err = ERR_OK; /* an earlier try of this call has deleted it */
        return false;
    }
    return op->tries < ADMIN_MISSING_TRIES;
}

int karst_topic_delete(struct karst *karst, const char *name, int timeout_ms)
{
    struct admin_call call = {.name = name};
    admin_begin(karst, &call, WIRE_DELETE_TOPICS, timeout_ms);
    call.op.encode = admin_encode_delete;
    call.op.judge = admin_judge_delete;
    err_t err = admin_run_one(karst, &call);
    arena_fini(&call.arena);
    return err;
}

/* ---- what is described ---- */

/* What the program gets: one piece of memory, freed with its arena. */
struct admin_result {
    union {
        struct karst_topics topics;
        struct karst_cluster cluster;
        struct karst_quorum quorum;
    } is;
    struct arena arena;
};

typedef bool (*admin_fill)(struct arena *arena, const void *reply, struct admin_result *into);

/* Ends a call that ended with err. The reply's arena becomes the result's, with the rows in it. */
static err_t admin_result_of(struct karst *karst, struct admin_call *call, err_t err,
                             admin_fill fill, struct admin_result **ret_result)
{
    struct admin_result *result = NULL;
    if (err == ERR_OK) {
        result = calloc(1, sizeof(*result));
        if (result == NULL || !fill(&call->arena, call->op.reply, result))
            err = karst_fail(karst, ERR_NO_MEMORY, NULL);
    }
    if (err != ERR_OK) {
        free(result);
        arena_fini(&call->arena);
        return err;
    }
    ASSERT(result != NULL);
    result->arena = call->arena;
    *ret_result = result;
    return ERR_OK;
}

static void admin_result_free(struct admin_result *result)
{
    arena_fini(&result->arena);
    free(result);
}

/* ---- topics ---- */

static const ProtobufCMessage *admin_encode_describe(struct client_op *op,
                                                     const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__MetadataRequest *request = arena_alloc(&call->arena, sizeof(*request));
    char **names = arena_calloc(&call->arena, call->name_count, sizeof(*names));
    if (request == NULL || names == NULL)
        return NULL;
    karst__metadata_request__init(request);
    for (size_t i = 0; i < call->name_count; i++)
        names[i] = admin_text(call->names[i]);
    request->topics = names;
    request->n_topics = call->name_count;
    request->has_all_topics = call->names == NULL;
    request->all_topics = call->names == NULL;
    return &request->base;
}

static bool admin_judge_describe(struct client_op *op, const ProtobufCMessage *message,
                                 err_t *ret_err, const char **ret_sentence)
{
    const Karst__MetadataReply *reply = (const Karst__MetadataReply *)message;
    (void)ret_sentence; /* each topic has its own */
    *ret_err = ERR_OK;
    for (size_t i = 0; i < reply->n_topics; i++) {
        if (err_retriable(reply->topics[i]->error))
            return op->tries < ADMIN_MISSING_TRIES;
    }
    return false;
}

static bool admin_fill_partitions(struct arena *arena, const Karst__MetadataTopic *row,
                                  struct karst_topic *topic)
{
    struct karst_partition *partitions =
        arena_calloc(arena, row->n_partitions, sizeof(*partitions));
    struct karst_setting *configs = arena_calloc(arena, row->n_configs, sizeof(*configs));
    if (partitions == NULL || configs == NULL)
        return false;
    for (size_t i = 0; i < row->n_partitions; i++) {
        const Karst__MetadataPartition *partition = row->partitions[i];
        partitions[i] = (struct karst_partition){
            .index = partition->index,
            .leader = partition->leader,
            .leader_epoch = partition->leader_epoch,
            .replicas = partition->replicas,
            .replica_count = partition->n_replicas,
            .isr = partition->isr,
            .isr_count = partition->n_isr,
        };
    }
    for (size_t i = 0; i < row->n_configs; i++)
        configs[i] = (struct karst_setting){row->configs[i]->key, row->configs[i]->value};
    topic->partitions = partitions;
    topic->partition_count = row->n_partitions;
    topic->configs = configs;
    topic->config_count = row->n_configs;
    return true;
}

static int admin_compare_topics(const void *a, const void *b)
{
    const struct karst_topic *left = a, *right = b;
    return strcmp(left->name, right->name);
}

/* The rows stay where they were read: in the arena that becomes the result's. */
static bool admin_fill_topics(struct arena *arena, const void *message, struct admin_result *result)
{
    const Karst__MetadataReply *reply = message;
    struct karst_topics *into = &result->is.topics;
    struct karst_topic *topics = arena_calloc(arena, reply->n_topics, sizeof(*topics));
    if (topics == NULL)
        return false;
    for (size_t i = 0; i < reply->n_topics; i++) {
        const Karst__MetadataTopic *row = reply->topics[i];
        struct uuid id = {{0}};
        topics[i].name = row->name;
        topics[i].err = row->error;
        topics[i].reason = row->message;
        if (row->error != ERR_OK) {
            if (topics[i].reason == NULL)
                topics[i].reason = err_sentence(row->error);
            continue;
        }
        if (row->has_topic_id)
            (void)wire_get_uuid(&row->topic_id, &id); /* else it stays zero */
        uuid_text(&id, topics[i].id);
        if (!admin_fill_partitions(arena, row, &topics[i]))
            return false;
    }
    qsort(topics, reply->n_topics, sizeof(*topics), admin_compare_topics);
    into->topics = topics;
    into->count = reply->n_topics;
    return true;
}

int karst_topics_describe(struct karst *karst, const char *const *names, size_t count,
                          int timeout_ms, struct karst_topics **ret_topics)
{
    struct admin_call call = {.names = names, .name_count = names == NULL ? 0 : count};
    admin_begin(karst, &call, WIRE_METADATA, timeout_ms);
    call.op.encode = admin_encode_describe;
    call.op.judge = admin_judge_describe;
    struct admin_result *result;
    err_t err =
        admin_result_of(karst, &call, admin_run_one(karst, &call), admin_fill_topics, &result);
    if (err == ERR_OK)
        *ret_topics = &result->is.topics;
    return err;
}

void karst_topics_free(struct karst_topics *topics)
{
    if (topics == NULL)
        return;
    admin_result_free(container_of(topics, struct admin_result, is.topics));
}

/* ---- the cluster described ---- */

static const ProtobufCMessage *admin_encode_cluster(struct client_op *op, const struct uuid *unused)
{
    (void)unused;
    Karst__DescribeClusterRequest *request = arena_alloc(op->arena, sizeof(*request));
    if (request == NULL)
        return NULL;
    karst__describe_cluster_request__init(request);
    return &request->base;
}

static bool admin_judge_cluster(struct client_op *op, const ProtobufCMessage *message,
                                err_t *ret_err, const char **ret_sentence)
{
    (void)op;
    (void)message;
    (void)ret_sentence; /* it has no error of its own */
    *ret_err = ERR_OK;
    return false;
}

static const char *admin_state_name(Karst__BrokerState state)
{
    switch (state) {
    case KARST__BROKER_STATE__BROKER_FENCED:
        return "fenced";
    case KARST__BROKER_STATE__BROKER_ACTIVE:
        return "active";
    case KARST__BROKER_STATE__BROKER_LEAVING:
        return "leaving";
    case KARST__BROKER_STATE__BROKER_DRAINING:
        return "draining";
    default:
        return "unknown";
    }
}

static bool admin_fill_cluster(struct arena *arena, const void *message,
                               struct admin_result *result)
{
    const Karst__DescribeClusterReply *reply = message;
    struct karst_cluster *cluster = &result->is.cluster;
    struct karst_broker *brokers = arena_calloc(arena, reply->n_brokers, sizeof(*brokers));
    struct uuid id = {{0}};
    if (brokers == NULL)
        return false;
    for (size_t i = 0; i < reply->n_brokers; i++) {
        const Karst__MetadataBroker *row = reply->brokers[i];
        brokers[i] = (struct karst_broker){
            .node_id = row->node_id,
            .host = row->host,
            .port = (uint16_t)row->port,
            .rack = row->rack,
            .state = admin_state_name(row->state),
        };
        for (size_t j = 0; j < reply->n_voters; j++)
            brokers[i].voter = brokers[i].voter || reply->voters[j]->node_id == row->node_id;
    }
    (void)wire_get_uuid(&reply->cluster_id, &id); /* else it stays zero */
    uuid_text(&id, cluster->id);
    cluster->controller = reply->controller;
    cluster->controller_epoch = reply->controller_epoch;
    cluster->metadata_offset = reply->metadata_offset;
    cluster->brokers = brokers;
    cluster->broker_count = reply->n_brokers;
    cluster->topics = reply->topics;
    cluster->partitions = reply->partitions;
    cluster->under_replicated = reply->under_replicated;
    cluster->offline = reply->offline;
    return true;
}

int karst_cluster_describe(struct karst *karst, int timeout_ms, struct karst_cluster **ret_cluster)
{
    struct admin_call call = {0};
    admin_begin(karst, &call, WIRE_DESCRIBE_CLUSTER, timeout_ms);
    call.op.encode = admin_encode_cluster;
    call.op.judge = admin_judge_cluster;
    struct admin_result *result;
    err_t err =
        admin_result_of(karst, &call, admin_run_one(karst, &call), admin_fill_cluster, &result);
    if (err == ERR_OK)
        *ret_cluster = &result->is.cluster;
    return err;
}

void karst_cluster_free(struct karst_cluster *cluster)
{
    if (cluster == NULL)
        return;
    admin_result_free(container_of(cluster, struct admin_result, is.cluster));
}

/* ---- offsets ---- */

static const ProtobufCMessage *admin_encode_offset(struct client_op *op,
                                                   const struct uuid *topic_id)
{
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__ListOffsetsRequest *request = arena_alloc(&call->arena, sizeof(*request));
    Karst__ListOffsetsPartition *row = arena_alloc(&call->arena, sizeof(*row));
    Karst__ListOffsetsPartition **rows = arena_alloc(&call->arena, sizeof(*rows));
    if (request == NULL || row == NULL || rows == NULL)
        return NULL;
    karst__list_offsets_request__init(request);
    karst__list_offsets_partition__init(row);
    call->topic_id = *topic_id;
    row->topic_id = wire_put_uuid(&call->topic_id);
    row->index = op->partition;
    row->timestamp = call->timestamp;
    rows[0] = row;
    request->partitions = rows;
    request->n_partitions = 1;
    return &request->base;
}

static bool admin_judge_offset(struct client_op *op, const ProtobufCMessage *message,
                               err_t *ret_err, const char **ret_sentence)
{
    (void)op;
    const Karst__ListOffsetsReply *reply = (const Karst__ListOffsetsReply *)message;
    *ret_err = ERR_UNKNOWN_SERVER_ERROR;
    if (reply->n_partitions > 0) {
        *ret_err = reply->partitions[0]->error;
        *ret_sentence = reply->partitions[0]->message;
    }
    return err_retriable(*ret_err);
}

int karst_offsets(struct karst *karst, const char *topic, int32_t partition, int64_t *ret_first,
                  int64_t *ret_end, int timeout_ms)
{
    if (!topic_name_legal(topic) || partition < 0 || partition >= TOPIC_PARTITIONS_MAX)
        return karst_fail(karst, ERR_INVALID, "%s-%d is no partition", topic, partition);
    struct admin_call call[2] = {{.timestamp = KARST_OFFSET_EARLIEST},
                                 {.timestamp = KARST_OFFSET_LATEST}};
    struct admin_call *calls[2] = {&call[0], &call[1]};
    for (size_t i = 0; i < ARRAY_LEN(call); i++) {
        admin_begin(karst, &call[i], WIRE_LIST_OFFSETS, timeout_ms);
        call[i].op.topic = topic;
        call[i].op.partition = partition;
        call[i].op.encode = admin_encode_offset;
        call[i].op.judge = admin_judge_offset;
    }
    admin_run(karst, calls, ARRAY_LEN(call));
    err_t err = admin_err(karst, &call[0]);
    if (err == ERR_OK)
        err = admin_err(karst, &call[1]);
    if (err == ERR_OK) {
        const Karst__ListOffsetsReply *first = (const void *)call[0].op.reply;
        const Karst__ListOffsetsReply *end = (const void *)call[1].op.reply;
        *ret_first = first->partitions[0]->offset;
        *ret_end = end->partitions[0]->offset;
    }
    for (size_t i = 0; i < ARRAY_LEN(call); i++)
        arena_fini(&call[i].arena);
    return err;
}

/* ---- the metadata quorum ---- */

/* What raft calls a server's role is of no use to people. */
static const char *admin_role_name(uint32_t role)
{
    static const char *const names[] = {"catching up", "voter", "joining"};
    return role < sizeof(names) / sizeof(names[0]) ? names[role] : "unknown";
}

static const ProtobufCMessage *admin_encode_quorum(struct client_op *op, const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__DescribeQuorumRequest *request = arena_alloc(op->arena, sizeof(*request));
    if (request == NULL)
        return NULL;
    karst__describe_quorum_request__init(request);
    request->has_of_leader = true;
    request->of_leader = call->of_leader;
    return &request->base;
}

static bool admin_fill_quorum(struct arena *arena, const void *message, struct admin_result *result)
{
    const Karst__DescribeQuorumReply *reply = message;
    struct karst_quorum *quorum = &result->is.quorum;
    size_t count = reply->n_servers > 0 ? reply->n_servers : reply->n_voters;
    struct karst_quorum_server *servers = arena_calloc(arena, count, sizeof(*servers));
    if (servers == NULL)
        return false;
    for (size_t i = 0; i < reply->n_servers; i++) {
        const Karst__QuorumServer *row = reply->servers[i];
        struct uuid directory;
        servers[i] = (struct karst_quorum_server){
            .node_id = row->node_id,
            .host = row->host,
            .port = (uint16_t)row->port,
            .role = admin_role_name(row->role),
            .metadata_end = row->has_match_index ? (int64_t)row->match_index : -1,
        };
        if (row->has_directory_id && wire_get_uuid(&row->directory_id, &directory))
            uuid_text(&directory, servers[i].directory);
    }
    /* An observer knows the voters by the metadata only. */
    for (size_t i = 0; i < count && reply->n_servers == 0; i++)
        servers[i] = (struct karst_quorum_server){.node_id = reply->voters[i]->node_id,
                                                  .host = reply->voters[i]->host,
                                                  .port = (uint16_t)reply->voters[i]->port,
                                                  .role = "voter",
                                                  .metadata_end = -1};
    quorum->leader = reply->leader;
    quorum->leader_epoch = (int32_t)reply->term;
    quorum->high_watermark = (int64_t)reply->commit_index;
    quorum->log_end = (int64_t)reply->last_index;
    quorum->servers = servers;
    quorum->server_count = count;
    return true;
}

static err_t admin_describe_quorum(struct karst *karst, struct admin_call *call, int timeout_ms,
                                   bool of_leader)
{
    admin_begin(karst, call, WIRE_DESCRIBE_QUORUM, timeout_ms);
    call->of_leader = of_leader;
    call->op.encode = admin_encode_quorum;
    call->op.judge = admin_judge_cluster; /* it has no error of its own, either */
    err_t err = admin_run_one(karst, call);
    if (err != ERR_OK)
        arena_fini(&call->arena);
    return err;
}

int karst_quorum_describe(struct karst *karst, int timeout_ms, struct karst_quorum **ret_quorum)
{
    struct admin_call call = {0};
    /* Half of the time is for the leader: a quorum without one must be seen, too. */
    bool of_leader = true;
    err_t err =
        admin_describe_quorum(karst, &call, timeout_ms < 0 ? timeout_ms : timeout_ms / 2, true);
    if (err != ERR_OK) {
        of_leader = false;
        call = (struct admin_call){0};
        err = admin_describe_quorum(karst, &call, timeout_ms < 0 ? timeout_ms : timeout_ms / 2,
                                    false);
    }
    if (err != ERR_OK)
        return err;
    struct admin_result *result;
    err = admin_result_of(karst, &call, err, admin_fill_quorum, &result);
    if (err != ERR_OK)
        return err;
    result->is.quorum.of_leader = of_leader;
    *ret_quorum = &result->is.quorum;
    return ERR_OK;
}

void karst_quorum_free(struct karst_quorum *quorum)
{
    if (quorum == NULL)
        return;
    admin_result_free(container_of(quorum, struct admin_result, is.quorum));
}

static const ProtobufCMessage *admin_encode_add_voter(struct client_op *op,
                                                      const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__AddVoterRequest *request = arena_alloc(op->arena, sizeof(*request));
    if (request == NULL)
        return NULL;
    karst__add_voter_request__init(request);
    request->node_id = call->node_id;
    request->timeout_ms = admin_timeout_ms(call);
    return &request->base;
}

static const ProtobufCMessage *admin_encode_remove_voter(struct client_op *op,
                                                         const struct uuid *unused)
{
    (void)unused;
    struct admin_call *call = container_of(op, struct admin_call, op);
    Karst__RemoveVoterRequest *request = arena_alloc(op->arena, sizeof(*request));
    if (request == NULL)
        return NULL;
    karst__remove_voter_request__init(request);
    request->node_id = call->node_id;
    request->timeout_ms = admin_timeout_ms(call);
    return &request->base;
}

static bool admin_judge_change(struct client_op *op, const ProtobufCMessage *message,
                               err_t *ret_err, const char **ret_sentence)
{
    bool adding = op->method == WIRE_ADD_VOTER;
    if (adding) {
        const Karst__AddVoterReply *reply = (const Karst__AddVoterReply *)message;
        *ret_err = reply->error;
        *ret_sentence = reply->message;
    } else {
        const Karst__RemoveVoterReply *reply = (const Karst__RemoveVoterReply *)message;
        *ret_err = reply->error;
        *ret_sentence = reply->message;
    }
    if (op->uncertain && *ret_err == (adding ? ERR_DUPLICATE_VOTER : ERR_VOTER_NOT_FOUND))
        *ret_err = ERR_OK; /* an earlier try of this call has done it */
    return false;
}

static int admin_change_voter(struct karst *karst, uint16_t method, int32_t node_id, int timeout_ms)
{
    struct admin_call call = {.node_id = node_id};
    admin_begin(karst, &call, method, timeout_ms);
    call.op.encode = method == WIRE_ADD_VOTER ? admin_encode_add_voter : admin_encode_remove_voter;
    call.op.judge = admin_judge_change;
    err_t err = admin_run_one(karst, &call);
    arena_fini(&call.arena);
    return err;
}

int karst_quorum_add_voter(struct karst *karst, int32_t node_id, int timeout_ms)
{
    return admin_change_voter(karst, WIRE_ADD_VOTER, node_id, timeout_ms);
}

int karst_quorum_remove_voter(struct karst *karst, int32_t node_id, int timeout_ms)
{
    return admin_change_voter(karst, WIRE_REMOVE_VOTER, node_id, timeout_ms);
}
