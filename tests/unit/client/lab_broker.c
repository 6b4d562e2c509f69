#include "unit/client/lab.h"

#include <check.h>
#include <stdlib.h>

/* One request being answered. */
struct lab_request {
    struct lab *lab;
    env_conn conn;
    node_id_t node;
    struct wire_header header;
    struct frame *frame;
    struct bytes attachment;
    struct arena arena;
};

static void lab_reply(struct lab_request *r, const ProtobufCMessage *message,
                      struct bytes attachment)
{
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REPLY,
        .method = r->header.method,
        .correlation = r->header.correlation,
        .message = message,
        .attachment_bytes = attachment.len,
    });
    if (attachment.len > 0)
        memcpy(frame->bytes + frame->used, attachment.data, attachment.len);
    frame->used += (uint32_t)attachment.len;
    lab_answer(r->lab, r->conn, frame, 0);
}

static struct lab_topic *lab_topic_by_id(struct lab *lab, const ProtobufCBinaryData *bytes)
{
    struct uuid id;
    ck_assert(wire_get_uuid(bytes, &id));
    for (size_t i = 0; i < lab->topic_count; i++) {
        if (!lab->topics[i].deleted && uuid_equal(&lab->topics[i].id, &id))
            return &lab->topics[i];
    }
    return NULL;
}

static struct lab_topic *lab_topic_by_name(struct lab *lab, const char *name)
{
    for (size_t i = 0; i < lab->topic_count; i++) {
        if (!lab->topics[i].deleted && strcmp(lab->topics[i].name, name) == 0)
            return &lab->topics[i];
    }
    return NULL;
}

/* ---- metadata ---- */

static Karst__MetadataTopic *lab_metadata_topic(struct lab_request *r, const char *name)
{
    const struct lab_topic *topic = lab_topic_by_name(r->lab, name);
    Karst__MetadataTopic *row = arena_alloc(&r->arena, sizeof(*row));
    karst__metadata_topic__init(row);
    row->name = arena_strdup(&r->arena, name);
    if (topic == NULL) {
        row->error = ERR_UNKNOWN_TOPIC_OR_PARTITION;
        return row;
    }
    row->has_topic_id = true;
    row->topic_id = wire_put_uuid(&topic->id);
    row->n_partitions = (size_t)topic->partition_count;
    row->partitions = arena_calloc(&r->arena, row->n_partitions, sizeof(void *));
    for (int32_t i = 0; i < topic->partition_count; i++) {
        Karst__MetadataPartition *p = arena_alloc(&r->arena, sizeof(*p));
        karst__metadata_partition__init(p);
        p->index = i;
        p->leader = topic->partitions[i].leader;
        p->leader_epoch = topic->partitions[i].leader_epoch;
        p->n_replicas = p->n_isr = 1;
        p->replicas = p->isr = arena_calloc(&r->arena, 1, sizeof(int32_t));
        p->replicas[0] = p->leader;
        row->partitions[i] = p;
    }
    return row;
}

static void lab_metadata(struct lab_request *r, const Karst__MetadataRequest *request)
{
    static const struct uuid cluster = {{1, 2, 3}};
    Karst__MetadataReply reply = KARST__METADATA_REPLY__INIT;
    reply.cluster_id = wire_put_uuid(&cluster);
    reply.controller = 1;
    reply.metadata_offset = r->lab->metadata_offset;
    reply.n_brokers = r->lab->live != NULL ? 1 : LAB_BROKERS;
    reply.brokers = arena_calloc(&r->arena, LAB_BROKERS, sizeof(void *));
    for (int i = 0; i < (int)reply.n_brokers; i++) {
        Karst__MetadataBroker *broker = arena_alloc(&r->arena, sizeof(*broker));
        karst__metadata_broker__init(broker);
        broker->node_id = i + 1;
        bool live = r->lab->live != NULL;
        broker->host = arena_strdup(&r->arena, live ? "127.0.0.1" : "lab");
        broker->port = live ? r->lab->live_port : (uint32_t)(9001 + i);
        broker->state = KARST__BROKER_STATE__BROKER_ACTIVE;
        reply.brokers[i] = broker;
    }
    reply.topics = arena_calloc(&r->arena, request->n_topics + LAB_TOPICS, sizeof(void *));
    for (size_t i = 0; i < request->n_topics; i++)
        reply.topics[reply.n_topics++] = lab_metadata_topic(r, request->topics[i]);
    for (size_t i = 0; request->all_topics && i < r->lab->topic_count; i++)
        reply.topics[reply.n_topics++] = lab_metadata_topic(r, r->lab->topics[i].name);
    lab_reply(r, &reply.base, (struct bytes){0});
}

/* ---- produce ---- */

static void lab_append(struct lab_partition *p, struct bytes batch, const struct batch_info *info)
{
    p->batches = realloc(p->batches, (p->batch_count + 1) * sizeof(*p->batches));
    struct lab_batch *added = &p->batches[p->batch_count++];
    added->data = malloc(batch.len);
    memcpy(added->data, batch.data, batch.len);
    batch_patch(added->data, p->end, p->leader_epoch);
    ck_assert_int_eq(batch_check(added->data, batch.len, &added->info), ERR_OK);
    p->end += info->record_count;
}

static err_t lab_append_checked(struct lab_partition *p, struct bytes batch, int64_t *ret_base)
{
    struct batch_info info;
    err_t err = batch_check(batch.data, batch.len, &info);
    ck_assert_int_eq(err, ERR_OK);
    ck_assert_uint_eq(info.bytes, batch.len);
    if (info.producer_id < 0) {
        *ret_base = p->end;
        lab_append(p, batch, &info);
        return ERR_OK;
    }
    size_t i = 0;
    while (p->producers[i].id != 0 && p->producers[i].id != info.producer_id)
        ck_assert_uint_lt(++i, LAB_PRODUCERS);
    unsigned known = p->producers[i].batches < LAB_WINDOW ? p->producers[i].batches : LAB_WINDOW;
    for (unsigned j = 0; j < known; j++) {
        if (p->producers[i].last[j].sequence != info.base_sequence)
            continue;
        *ret_base = p->producers[i].last[j].offset;
        return ERR_OK; /* a duplicate is answered like the original */
    }
    if (info.base_sequence != p->producers[i].next_sequence)
        return ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    unsigned at = p->producers[i].batches++ % LAB_WINDOW;
    p->producers[i].id = info.producer_id;
    p->producers[i].next_sequence = info.base_sequence + info.record_count;
    p->producers[i].last[at].sequence = info.base_sequence;
    p->producers[i].last[at].offset = *ret_base = p->end;
    lab_append(p, batch, &info);
    return ERR_OK;
}

static void lab_produce_row(struct lab_request *r, const Karst__ProducePartition *row,
                            struct bytes batch, Karst__ProducePartitionReply *answer)
{
    struct lab *lab = r->lab;
    karst__produce_partition_reply__init(answer);
    answer->topic_id = row->topic_id;
    answer->index = row->index;
    struct lab_topic *topic = lab_topic_by_id(lab, &row->topic_id);
    if (lab->produce_err_count > 0) {
        lab->produce_err_count--;
        answer->error = lab->produce_err;
        return;
    }
    if (topic == NULL || row->index >= topic->partition_count) {
        answer->error = ERR_UNKNOWN_TOPIC_ID;
        return;
    }
    struct lab_partition *p = &topic->partitions[row->index];
    if (p->leader != r->node) {
        answer->error = ERR_NOT_LEADER_OR_FOLLOWER;
        answer->has_leader = answer->has_leader_epoch = lab->hints;
        answer->leader = lab->hints ? p->leader : -1;
        answer->leader_epoch = lab->hints ? p->leader_epoch : -1;
        return;
    }
    int64_t base = -1;
    answer->error = lab_append_checked(p, batch, &base);
    answer->has_base_offset = answer->error == ERR_OK;
    answer->base_offset = base;
}

static void lab_produce_request(struct lab_request *r, const Karst__ProduceRequest *request)
{
    Karst__ProduceReply reply = KARST__PRODUCE_REPLY__INIT;
    size_t at = 0;
    reply.partitions = arena_calloc(&r->arena, request->n_partitions, sizeof(void *));
    r->lab->produce_timeout_ms = request->timeout_ms;
    for (size_t i = 0; i < request->n_partitions; i++) {
        const Karst__ProducePartition *row = request->partitions[i];
        ck_assert_uint_le(row->bytes, r->attachment.len - at);
        for (size_t j = 0; j < i; j++) /* one batch of each partition in a request */
            ck_assert(request->partitions[j]->index != row->index ||
                      memcmp(request->partitions[j]->topic_id.data, row->topic_id.data, 16) != 0);
        Karst__ProducePartitionReply *answer = arena_alloc(&r->arena, sizeof(*answer));
        lab_produce_row(r, row, (struct bytes){r->attachment.data + at, row->bytes}, answer);
        at += row->bytes;
        /* In reverse: the order of rows is not promised. */
        reply.partitions[request->n_partitions - 1 - i] = answer;
        reply.n_partitions++;
    }
    ck_assert_uint_eq(at, r->attachment.len);
    if (request->acks != 0 && !r->lab->brokers[r->node].mute)
        lab_reply(r, &reply.base, (struct bytes){0});
}

/* ---- fetch, offsets ---- */

static void lab_fetch_row(struct lab_request *r, const Karst__FetchPartition *row,
                          Karst__FetchPartitionReply *answer, uint8_t *into, size_t *used)
{
    karst__fetch_partition_reply__init(answer);
    answer->topic_id = row->topic_id;
    answer->index = row->index;
    struct lab_topic *topic = lab_topic_by_id(r->lab, &row->topic_id);
    if (topic == NULL) {
        answer->error = ERR_UNKNOWN_TOPIC_ID;
        return;
    }
    const struct lab_partition *p = &topic->partitions[row->index];
    answer->has_log_start = true;
    answer->log_start = p->log_start;
    if (p->leader != r->node) {
        answer->error = ERR_NOT_LEADER_OR_FOLLOWER;
        return;
    }
    if (row->offset < p->log_start || row->offset > p->end) {
        answer->error = ERR_OFFSET_OUT_OF_RANGE;
        return;
    }
    for (size_t i = 0; i < p->batch_count; i++) {
        const struct lab_batch *batch = &p->batches[i];
        if (batch->info.last_offset < row->offset || batch->info.base_offset >= p->end)
            continue;
        if (answer->bytes > 0 && answer->bytes + batch->info.bytes > row->bytes_max)
            break;
        memcpy(into + *used, batch->data, batch->info.bytes);
        *used += batch->info.bytes;
        answer->has_bytes = true;
        answer->bytes += batch->info.bytes;
    }
}

static void lab_fetch(struct lab_request *r, const Karst__FetchRequest *request, bool again)
{
    static uint8_t data[16 << 20];
    size_t used = 0;
    bool errors = false;
    Karst__FetchReply reply = KARST__FETCH_REPLY__INIT;
    reply.partitions = arena_calloc(&r->arena, request->n_partitions, sizeof(void *));
    for (size_t i = 0; i < request->n_partitions; i++) {
        Karst__FetchPartitionReply *answer = arena_alloc(&r->arena, sizeof(*answer));
        lab_fetch_row(r, request->partitions[i], answer, data, &used);
        errors = errors || answer->error != ERR_OK;
        reply.partitions[reply.n_partitions++] = answer;
    }
    if (used == 0 && !errors && request->wait_ms_max > 0 && !again) {
        r->frame->at = 1; /* looked at once */
        lab_repeat(r->lab, r->conn, r->frame, ENV_MS(request->wait_ms_max));
        return;
    }
    lab_reply(r, &reply.base, (struct bytes){data, used});
}

static void lab_list_offsets(struct lab_request *r, const Karst__ListOffsetsRequest *request)
{
    Karst__ListOffsetsReply reply = KARST__LIST_OFFSETS_REPLY__INIT;
    reply.partitions = arena_calloc(&r->arena, request->n_partitions, sizeof(void *));
    for (size_t i = 0; i < request->n_partitions; i++) {
        const Karst__ListOffsetsPartition *row = request->partitions[i];
        const struct lab_topic *topic = lab_topic_by_id(r->lab, &row->topic_id);
        Karst__ListOffsetsPartitionReply *answer = arena_alloc(&r->arena, sizeof(*answer));
        karst__list_offsets_partition_reply__init(answer);
        answer->topic_id = row->topic_id;
        answer->index = row->index;
        if (topic == NULL) {
            answer->error = ERR_UNKNOWN_TOPIC_ID;
        } else if (topic->partitions[row->index].leader != r->node) {
            answer->error = ERR_NOT_LEADER_OR_FOLLOWER;
        } else {
            const struct lab_partition *p = &topic->partitions[row->index];
            answer->has_offset = true;
            answer->offset = row->timestamp == -2 ? p->log_start : p->end;
        }
        reply.partitions[reply.n_partitions++] = answer;
    }
    lab_reply(r, &reply.base, (struct bytes){0});
}

/* ---- the rest ---- */

static void lab_create_topics(struct lab_request *r, const Karst__CreateTopicsRequest *request)
{
    Karst__CreateTopicsReply reply = KARST__CREATE_TOPICS_REPLY__INIT;
    Karst__TopicResult result = KARST__TOPIC_RESULT__INIT;
    Karst__TopicResult *results[1] = {&result};
    const Karst__CreateTopic *topic = request->topics[0];
    ck_assert(topic->has_topic_id);
    ck_assert(request->has_request_id);
    result.name = topic->name;
    reply.topics = results;
    reply.n_topics = 1;
    const struct lab_topic *there = lab_topic_by_name(r->lab, topic->name);
    if (r->lab->admin_err_count > 0) {
        r->lab->admin_err_count--;
        result.error = r->lab->admin_err;
    } else if (there != NULL) {
        result.error = ERR_TOPIC_ALREADY_EXISTS;
        result.message = arena_strdup(&r->arena, "it is there");
        result.has_topic_id = true;
        result.topic_id = wire_put_uuid(&there->id);
    } else {
        struct lab_topic *made = lab_add_topic(r->lab, topic->name, topic->partitions);
        ck_assert(wire_get_uuid(&topic->topic_id, &made->id));
    }
    if (!r->lab->brokers[r->node].mute)
        lab_reply(r, &reply.base, (struct bytes){0});
}

static void lab_dispatch(struct lab_request *r, const ProtobufCMessage *message, bool again)
{
    Karst__ProbeReply probe = KARST__PROBE_REPLY__INIT;
    Karst__InitProducerIdReply id = KARST__INIT_PRODUCER_ID_REPLY__INIT;
    switch (r->header.method) {
    case WIRE_METADATA:
        lab_metadata(r, (const Karst__MetadataRequest *)message);
        return;
    case WIRE_PRODUCE:
        lab_produce_request(r, (const Karst__ProduceRequest *)message);
        return;
    case WIRE_FETCH:
        lab_fetch(r, (const Karst__FetchRequest *)message, again);
        return;
    case WIRE_LIST_OFFSETS:
        lab_list_offsets(r, (const Karst__ListOffsetsRequest *)message);
        return;
    case WIRE_CREATE_TOPICS:
        lab_create_topics(r, (const Karst__CreateTopicsRequest *)message);
        return;
    case WIRE_INIT_PRODUCER_ID:
        id.has_producer_id = true;
        id.producer_id = r->lab->next_producer_id++;
        lab_reply(r, &id.base, (struct bytes){0});
        return;
    case WIRE_PROBE:
        probe.node_id = r->node;
        lab_reply(r, &probe.base, (struct bytes){0});
        return;
    default:
        lab_answer(r->lab, r->conn,
                   wire_error_frame(r->header.method, r->header.correlation,
                                    ERR_UNSUPPORTED_VERSION, NULL),
                   0);
    }
}

static void lab_hello(struct lab *lab, env_conn conn, node_id_t node)
{
    static const struct uuid cluster = {{1, 2, 3}};
    Karst__Hello hello = KARST__HELLO__INIT;
    hello.magic = 0x4B525354;
    hello.version = 1;
    hello.has_cluster_id = true;
    hello.cluster_id = wire_put_uuid(&cluster);
    hello.has_node_id = true;
    hello.node_id = node;
    lab->conns[conn.slot].greeted = true;
    lab_answer(lab, conn,
               wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello.base}),
               0);
}

void lab_broker_handle(struct lab *lab, env_conn conn, struct frame *frame)
{
    struct lab_conn *of = &lab->conns[conn.slot];
    node_id_t node = (node_id_t)of->broker;
    if (lab->brokers[node].frozen)
        return;
    struct lab_request r = {.lab = lab, .conn = conn, .node = node, .frame = frame};
    ck_assert_int_eq(wire_decode_header(frame, &r.header), ERR_OK);
    if (r.header.kind == WIRE_HELLO) {
        lab_hello(lab, conn, node);
        return;
    }
    ck_assert(of->greeted);
    ck_assert_int_eq(r.header.kind, WIRE_REQUEST);
    lab->brokers[node].requests[r.header.method]++;
    const struct wire_method *method = wire_method_find(r.header.method);
    ck_assert_ptr_nonnull(method);
    ProtobufCMessage *message;
    arena_init(&r.arena, 64 << 20);
    r.attachment = wire_attachment(frame, &r.header);
    ck_assert_int_eq(
        wire_unpack(method->request, wire_message(frame, &r.header), &r.arena, &message), ERR_OK);
    lab_dispatch(&r, message, frame->at == 1);
    arena_fini(&r.arena);
}

void lab_partition_free(struct lab_partition *p)
{
    for (size_t i = 0; i < p->batch_count; i++)
        free(p->batches[i].data);
    free(p->batches);
}
