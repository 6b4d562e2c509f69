#include <stdlib.h>

#include "proto/rpc.pb-c.h"
#include "shard/internal.h"

/* What the connection's shard answers by itself, from the image that it has pinned; and producer
 * ids, which shard 0 gives out of the block that the controller gave this broker. */

/* The replies point into the image: they are packed before this shard can pin another one.
 * protobuf-c does not know const; packing only reads. */
#define UNCONST(type, place) ((type *)(uintptr_t)(place))

static Karst__BrokerState local_broker_state(enum broker_state state)
{
    switch (state) {
    case BROKER_STATE_ACTIVE:
        return KARST__BROKER_STATE__BROKER_ACTIVE;
    case BROKER_STATE_LEAVING:
        return KARST__BROKER_STATE__BROKER_LEAVING;
    case BROKER_STATE_DRAINING:
        return KARST__BROKER_STATE__BROKER_DRAINING;
    case BROKER_STATE_FENCED:
        break;
    }
    return KARST__BROKER_STATE__BROKER_FENCED;
}

/* Brokers with an address on the listener that was asked; NULL without memory. */
static Karst__MetadataBroker **local_brokers(const struct image *image, const char *listener_name,
                                             struct arena *arena, size_t *ret_count)
{
    size_t count = image_broker_count(image);
    Karst__MetadataBroker **rows = arena_calloc(arena, count, sizeof(Karst__MetadataBroker *));
    Karst__MetadataBroker *brokers = arena_calloc(arena, count, sizeof(*brokers));
    if (rows == NULL || brokers == NULL)
        return NULL;
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        const struct image_broker *broker = image_broker_at(image, i);
        const struct image_listener *listener = image_broker_listener(broker, listener_name);
        if (listener == NULL)
            continue;
        Karst__MetadataBroker *row = &brokers[used];
        karst__metadata_broker__init(row);
        row->node_id = broker->id;
        row->host = listener->host;
        row->port = listener->port;
        row->rack = broker->rack;
        row->state = local_broker_state(broker->state);
        row->broker_epoch = broker->epoch;
        rows[used++] = row;
    }
    *ret_count = used;
    return rows;
}

/* ---- Metadata ---- */

static bool local_topic_partitions(const struct image_topic *topic, struct arena *arena,
                                   Karst__MetadataTopic *row)
{
    size_t count = (size_t)topic->partition_count;
    Karst__MetadataPartition *parts = arena_calloc(arena, count, sizeof(*parts));
    row->partitions = arena_calloc(arena, count, sizeof(Karst__MetadataPartition *));
    if (parts == NULL || row->partitions == NULL)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct image_partition *partition = &topic->partitions[i];
        Karst__MetadataPartition *part = &parts[i];
        karst__metadata_partition__init(part);
        part->index = (int32_t)i;
        part->leader = partition->leader;
        part->leader_epoch = partition->leader_epoch;
        part->partition_epoch = partition->partition_epoch;
        part->n_replicas = partition->replica_count;
        part->replicas = UNCONST(int32_t, partition->replicas);
        part->n_isr = partition->isr_count;
        part->isr = UNCONST(int32_t, partition->isr);
        part->n_elr = partition->elr_count;
        part->elr = UNCONST(int32_t, partition->elr);
        row->partitions[i] = part;
    }
    row->n_partitions = count;
    return true;
}

static bool local_topic_configs(const struct image_topic *topic, struct arena *arena,
                                Karst__MetadataTopic *row)
{
    Karst__ConfigValue *values = arena_calloc(arena, topic->config_count, sizeof(*values));
    row->configs = arena_calloc(arena, topic->config_count, sizeof(Karst__ConfigValue *));
    if (values == NULL || row->configs == NULL)
        return false;
    for (uint32_t i = 0; i < topic->config_count; i++) {
        karst__config_value__init(&values[i]);
        values[i].key = topic->configs[i].key;
        values[i].value = topic->configs[i].value;
        row->configs[i] = &values[i];
    }
    row->n_configs = topic->config_count;
    return true;
}

static Karst__MetadataTopic *local_topic(const struct image_topic *topic, struct arena *arena)
{
    Karst__MetadataTopic *row = arena_alloc(arena, sizeof(*row));
    if (row == NULL)
        return NULL;
    karst__metadata_topic__init(row);
    row->name = topic->name;
    row->has_topic_id = true;
    row->topic_id = wire_put_uuid(&topic->id);
    if (!local_topic_partitions(topic, arena, row) || !local_topic_configs(topic, arena, row))
        return NULL;
    return row;
}

static Karst__MetadataTopic *local_unknown_topic(const char *name, struct arena *arena)
{
    Karst__MetadataTopic *row = arena_alloc(arena, sizeof(*row));
    if (row == NULL)
        return NULL;
    err_t err =
        topic_name_legal(name) ? ERR_UNKNOWN_TOPIC_OR_PARTITION : ERR_INVALID_TOPIC_EXCEPTION;
    karst__metadata_topic__init(row);
    row->error = err;
    row->message = UNCONST(char, err_sentence(err));
    row->name = UNCONST(char, name);
    return row;
}

struct local_topics {
    struct arena *arena;
    Karst__MetadataTopic **rows;
    size_t count, room;
    bool failed;
};

static void local_add_topic(void *context, const struct image_topic *topic)
{
    struct local_topics *topics = context;
    Karst__MetadataTopic *row = topics->failed ? NULL : local_topic(topic, topics->arena);
    if (row == NULL || topics->count == topics->room)
        topics->failed = true;
    else
        topics->rows[topics->count++] = row;
}

static err_t local_metadata(struct shard *shard, struct session *session, struct request *request)
{
    const Karst__MetadataRequest *asked = (const Karst__MetadataRequest *)request->message;
    const struct image *image = shard->image;
    struct arena *arena = &request->arena;
    bool all = asked->has_all_topics && asked->all_topics;
    struct local_topics topics = {
        .arena = arena,
        .room = all ? image_topic_count(image) : asked->n_topics,
    };
    Karst__MetadataReply *reply = arena_alloc(arena, sizeof(*reply));
    topics.rows = arena_calloc(arena, topics.room, sizeof(Karst__MetadataTopic *));
    if (reply == NULL || topics.rows == NULL)
        return ERR_NO_MEMORY;
    karst__metadata_reply__init(reply);
    reply->cluster_id = wire_put_uuid(&shard->config->cluster_id);
    reply->controller = shard->leader.node;
    reply->metadata_offset = image_offset(image);
    reply->brokers = local_brokers(image, session->codec->name, arena, &reply->n_brokers);
    if (all)
        image_each_topic(image, local_add_topic, &topics);
    for (size_t i = 0; !all && i < asked->n_topics; i++) {
        const struct image_topic *topic = image_topic_by_name(image, asked->topics[i]);
        Karst__MetadataTopic *row = topic != NULL ? local_topic(topic, arena)
                                                  : local_unknown_topic(asked->topics[i], arena);
        topics.failed = topics.failed || row == NULL;
        topics.rows[topics.count++] = row;
    }
    if (reply->brokers == NULL || topics.failed)
        return ERR_NO_MEMORY;
    reply->topics = topics.rows;
    reply->n_topics = topics.count;
    request->reply = &reply->base;
    return ERR_OK;
}

/* ---- DescribeCluster ---- */

static void local_count_partitions(void *context, const struct image_topic *topic)
{
    Karst__DescribeClusterReply *reply = context;
    reply->topics++;
    reply->partitions += (uint32_t)topic->partition_count;
    for (int32_t i = 0; i < topic->partition_count; i++) {
        const struct image_partition *partition = &topic->partitions[i];
        reply->under_replicated += partition->isr_count < partition->replica_count;
        reply->offline += partition->leader == NO_NODE;
    }
}

static err_t local_describe_cluster(struct shard *shard, struct session *session,
                                    struct request *request)
{
    const struct image *image = shard->image;
    struct arena *arena = &request->arena;
    Karst__DescribeClusterReply *reply = arena_alloc(arena, sizeof(*reply));
    if (reply == NULL)
        return ERR_NO_MEMORY;
    karst__describe_cluster_reply__init(reply);
    reply->cluster_id = wire_put_uuid(&shard->config->cluster_id);
    reply->controller = shard->leader.node;
    reply->controller_epoch = (int32_t)shard->term;
    reply->metadata_offset = image_offset(image);
    reply->brokers = local_brokers(image, session->codec->name, arena, &reply->n_brokers);
    reply->n_voters = image_voter_count(image);
    reply->voters = arena_calloc(arena, reply->n_voters, sizeof(Karst__Voter *));
    if (reply->brokers == NULL || reply->voters == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < reply->n_voters; i++)
        reply->voters[i] = UNCONST(Karst__Voter, image_voter_at(image, i));
    image_each_topic(image, local_count_partitions, reply);
    request->reply = &reply->base;
    return ERR_OK;
}

static err_t local_probe(struct shard *shard, struct session *session, struct request *request)
{
    (void)session;
    Karst__ProbeReply *reply = arena_alloc(&request->arena, sizeof(*reply));
    if (reply == NULL)
        return ERR_NO_MEMORY;
    karst__probe_reply__init(reply);
    reply->node_id = shard->config->node;
    reply->incarnation = wire_put_uuid(&shard->config->incarnation);
    request->reply = &reply->base;
    return ERR_OK;
}

/* ---- producer ids ---- */

static void id_answer(struct shard *shard, struct shard_id *ask, err_t err, producer_id_t id)
{
    ask->err = err;
    ask->id = id;
    if (ask->request->home == shard->idx)
        id_given(shard, ask);
    else
        shard_post(shard, ask->request->home, &ask->message, SHARD_ID_GIVEN);
}

/* Gives what there is to those who wait. */
static void ids_serve(struct shard *shard)
{
    while (shard->next_id < shard->end_id && !list_empty(&shard->ids_wanted)) {
        struct list_node *node = list_pop_front(&shard->ids_wanted);
        struct shard_id *ask =
            container_of(list_entry(node, struct env_message, link), struct shard_id, message);
        id_answer(shard, ask, ERR_OK, shard->next_id++);
    }
}

static err_t ids_read_block(struct shard *shard, const struct frame *frame)
{
    struct wire_header header;
    ProtobufCMessage *message;
    err_t err = call_reply_error(shard, frame);
    if (err == ERR_OK)
        err = wire_decode_header(frame, &header);
    if (err == ERR_OK)
        err = wire_unpack(&karst__allocate_producer_ids_reply__descriptor,
                          wire_message(frame, &header), shard_scratch(shard), &message);
    if (err != ERR_OK)
        return err;
    const Karst__AllocateProducerIdsReply *reply = (const Karst__AllocateProducerIdsReply *)message;
    if (reply->first_producer_id < 0 || reply->count <= 0)
        return ERR_UNKNOWN_SERVER_ERROR;
    shard->next_id = reply->first_producer_id;
    shard->end_id = reply->first_producer_id + reply->count;
    return ERR_OK;
}

static void ids_ask_block(struct shard *shard);

static void ids_done(struct shard *shard, void *context, err_t err, struct frame *frame)
{
    (void)context;
    shard->ids_asked = false;
    if (err == ERR_OK)
        err = ids_read_block(shard, frame);
    frame_unref(frame);
    if (err == ERR_OK)
        ids_serve(shard);
    struct list_node *node;
    while (err != ERR_OK && (node = list_pop_front(&shard->ids_wanted)) != NULL) {
        struct shard_id *ask =
            container_of(list_entry(node, struct env_message, link), struct shard_id, message);
        id_answer(shard, ask, err, -1);
    }
    if (!list_empty(&shard->ids_wanted))
        ids_ask_block(shard);
}

static void ids_ask_block(struct shard *shard)
{
    Karst__AllocateProducerIdsRequest request = KARST__ALLOCATE_PRODUCER_IDS_REQUEST__INIT;
    request.node_id = shard->config->node;
    request.broker_epoch = shard->lease.broker_epoch;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST, .method = WIRE_ALLOCATE_PRODUCER_IDS, .message = &request.base});
    struct call_args args = {
        .frame = frame,
        .peer = shard->config->node,
        .peer_epoch = shard->lease.broker_epoch,
        .deadline_ns = env_now(shard->env) + shard->config->request_timeout_ns,
        .retry = true, /* a block that was given twice is a gap, nothing more */
        .done = ids_done,
    };
    shard->ids_asked = frame != NULL && call_begin(shard, &args) != NULL;
    if (!shard->ids_asked)
        ids_done(shard, NULL, ERR_NO_MEMORY, NULL);
}

void id_asked(struct shard *shard, struct shard_id *ask)
{
    list_push_back(&shard->ids_wanted, &ask->message.link);
    ids_serve(shard);
    if (!list_empty(&shard->ids_wanted) && !shard->ids_asked)
        ids_ask_block(shard);
}

void id_given(struct shard *shard, struct shard_id *ask)
{
    struct request *request = ask->request;
    Karst__InitProducerIdReply *reply = arena_alloc(&request->arena, sizeof(*reply));
    if (reply == NULL) {
        request_fail(request, ERR_NO_MEMORY, NULL);
    } else {
        karst__init_producer_id_reply__init(reply);
        reply->error = ask->err;
        if (ask->err == ERR_OK) {
            reply->has_producer_id = true;
            reply->producer_id = ask->id;
            reply->has_producer_epoch = true;
        } else {
            reply->message = UNCONST(char, err_sentence(ask->err));
        }
        request->reply = &reply->base;
    }
    free(ask);
    request_release(shard, request);
}

static err_t local_init_producer_id(struct shard *shard, struct session *session,
                                    struct request *request)
{
    (void)session;
    struct shard_id *ask = calloc(1, sizeof(*ask));
    if (ask == NULL)
        return ERR_NO_MEMORY;
    ask->request = request;
    list_init(&ask->message.link);
    ask->message.type = SHARD_ID_ASKED;
    request->away++;
    if (shard->idx == 0)
        id_asked(shard, ask);
    else
        shard_post(shard, 0, &ask->message, SHARD_ID_ASKED);
    return ERR_OK;
}

/* ---- begin ---- */

void local_begin(struct shard *shard, struct session *session, struct request *request)
{
    static const struct {
        const ProtobufCMessageDescriptor *type;
        err_t (*answer)(struct shard *shard, struct session *session, struct request *request);
        bool needs_image;
    } answers[] = {
        {&karst__metadata_request__descriptor, local_metadata, true},
        {&karst__describe_cluster_request__descriptor, local_describe_cluster, true},
        {&karst__probe_request__descriptor, local_probe, false},
        {&karst__init_producer_id_request__descriptor, local_init_producer_id, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
        if (answers[i].type != request->message->descriptor)
            continue;
        err_t err = ERR_LEADER_NOT_AVAILABLE;
        if (!answers[i].needs_image || shard->image != NULL)
            err = answers[i].answer(shard, session, request);
        if (err == ERR_LEADER_NOT_AVAILABLE)
            request_fail(request, err, "this broker has just started and knows no metadata yet");
        else if (err != ERR_OK)
            request_fail(request, err, NULL);
        return;
    }
    request_fail(request, ERR_UNSUPPORTED_VERSION, NULL);
}
