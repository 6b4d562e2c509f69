#include "base/canary.h"
#include "base/logger.h"
#include "rpc/internal.h"

enum {
    RPC_TIMEOUT_MS_MAX = 60 * 60 * 1000,
    RPC_FETCH_BYTES_MAX = 64 << 20, /* of one reply, whatever the client asks for */
};
#define RPC_NS_PER_MS UINT64_C(1000000)

/* What a method's request is to the shard. Filled: by a function that makes its parts. */
struct rpc_method {
    uint16_t id;
    enum request_type type;
    err_t (*fill)(struct shard *shard, struct request *request, struct bytes attachment,
                  const char **ret_sentence);
    bool brokers_only; /* R12 */
};

static uint64_t rpc_deadline(struct shard *shard, uint32_t timeout_ms)
{
    if (timeout_ms > RPC_TIMEOUT_MS_MAX)
        timeout_ms = RPC_TIMEOUT_MS_MAX;
    return shard_now_ns(shard) + timeout_ms * RPC_NS_PER_MS;
}

static err_t rpc_read_partition(const ProtobufCBinaryData *topic, int32_t index,
                                struct partition_id *ret_id)
{
    if (index < 0 || !wire_get_uuid(topic, &ret_id->topic))
        return ERR_INVALID_REQUEST;
    ret_id->index = index;
    return ERR_OK;
}

/* ---- requests with parts ---- */

/* NULL: *ret_err says why. */
static void *rpc_make_parts(struct request *request, size_t count, err_t *ret_err,
                            const char **ret_sentence)
{
    if (count > REQUEST_PARTS_MAX) {
        *ret_sentence = "the request names more partitions than one may: split it";
        *ret_err = ERR_INVALID_REQUEST;
        return NULL;
    }
    void *parts = session_request_parts(request, (uint32_t)count);
    *ret_err = parts == NULL ? ERR_NO_MEMORY : ERR_OK;
    return parts;
}

static err_t rpc_fill_produce(struct shard *shard, struct request *request, struct bytes attachment,
                              const char **ret_sentence)
{
    const Karst__ProduceRequest *produce = (const Karst__ProduceRequest *)request->message;
    if (produce->acks < -1 || produce->acks > 1)
        return ERR_INVALID_REQUIRED_ACKS;
    err_t err;
    struct produce_part *parts = rpc_make_parts(request, produce->n_partitions, &err, ret_sentence);
    if (parts == NULL)
        return err;
    /* Our frame: the owner of a part patches its batches in place. */
    uint8_t *records = request->frame->bytes + (attachment.data - request->frame->bytes);
    size_t left = attachment.len;
    for (size_t i = 0; i < produce->n_partitions; i++) {
        const Karst__ProducePartition *row = produce->partitions[i];
        struct produce_part *part = &parts[i];
        err = rpc_read_partition(&row->topic_id, row->index, &part->part.id);
        if (err != ERR_OK || row->bytes > left) {
            *ret_sentence = "the rows of the request do not fit its records";
            return ERR_INVALID_REQUEST;
        }
        part->part.leader_epoch_asked = row->leader_epoch;
        part->records = records;
        part->bytes = row->bytes;
        part->acks = (int16_t)produce->acks;
        part->base_offset = -1;
        records += row->bytes;
        left -= row->bytes;
    }
    if (left > 0) {
        *ret_sentence = "the request has records that no row names";
        return ERR_INVALID_REQUEST;
    }
    request->acks = (int16_t)produce->acks;
    request->silent = produce->acks == 0;
    request->deadline_ns = rpc_deadline(shard, produce->timeout_ms);
    return ERR_OK;
}

static uint32_t rpc_least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static err_t rpc_fill_fetch(struct shard *shard, struct request *request, struct bytes attachment,
                            const char **ret_sentence)
{
    (void)attachment;
    const Karst__FetchRequest *fetch = (const Karst__FetchRequest *)request->message;
    err_t err;
    struct fetch_part *parts = rpc_make_parts(request, fetch->n_partitions, &err, ret_sentence);
    if (parts == NULL)
        return err;
    request->bytes_max = rpc_least(fetch->bytes_max, RPC_FETCH_BYTES_MAX);
    request->bytes_min = rpc_least(fetch->bytes_min, request->bytes_max);
    request->deadline_ns = rpc_deadline(shard, fetch->wait_ms_max);
    for (size_t i = 0; i < fetch->n_partitions; i++) {
        const Karst__FetchPartition *row = fetch->partitions[i];
        struct fetch_part *part = &parts[i];
        err = rpc_read_partition(&row->topic_id, row->index, &part->part.id);
        if (err != ERR_OK)
            return err;
        part->part.leader_epoch_asked = row->leader_epoch;
        part->offset = row->offset;
        part->bytes_max = rpc_least(row->bytes_max, request->bytes_max);
        /* Of several, the first that has enough ends the wait of all; what they have together is
         * not added up while they wait on different shards. */
        part->bytes_min = rpc_least(request->bytes_min, part->bytes_max);
    }
    return ERR_OK;
}

static err_t rpc_fill_list_offsets(struct shard *shard, struct request *request,
                                   struct bytes attachment, const char **ret_sentence)
{
    (void)shard;
    (void)attachment;
    const Karst__ListOffsetsRequest *list = (const Karst__ListOffsetsRequest *)request->message;
    err_t err;
    struct list_offsets_part *parts =
        rpc_make_parts(request, list->n_partitions, &err, ret_sentence);
    if (parts == NULL)
        return err;
    for (size_t i = 0; i < list->n_partitions; i++) {
        const Karst__ListOffsetsPartition *row = list->partitions[i];
        err = rpc_read_partition(&row->topic_id, row->index, &parts[i].part.id);
        if (err != ERR_OK)
            return err;
        parts[i].part.leader_epoch_asked = row->leader_epoch;
        parts[i].timestamp = row->timestamp;
        parts[i].offset = -1;
        parts[i].found_timestamp = -1;
    }
    return ERR_OK;
}

static err_t rpc_fill_epoch_end(struct shard *shard, struct request *request,
                                struct bytes attachment, const char **ret_sentence)
{
    (void)shard;
    (void)attachment;
    const Karst__EpochEndOffsetRequest *ask =
        (const Karst__EpochEndOffsetRequest *)request->message;
    err_t err;
    struct epoch_end_part *parts = rpc_make_parts(request, ask->n_partitions, &err, ret_sentence);
    if (parts == NULL)
        return err;
    for (size_t i = 0; i < ask->n_partitions; i++) {
        const Karst__EpochEndOffsetPartition *row = ask->partitions[i];
        err = rpc_read_partition(&row->topic_id, row->index, &parts[i].part.id);
        if (err != ERR_OK)
            return err;
        parts[i].part.leader_epoch_asked = row->current_leader_epoch;
        parts[i].asked = row->asked_epoch;
        parts[i].epoch = -1;
        parts[i].end = -1;
    }
    return ERR_OK;
}

static const struct rpc_method rpc_methods[] = {
    {WIRE_PRODUCE, REQUEST_PRODUCE, rpc_fill_produce, false},
    {WIRE_FETCH, REQUEST_FETCH, rpc_fill_fetch, false},
    {WIRE_LIST_OFFSETS, REQUEST_LIST_OFFSETS, rpc_fill_list_offsets, false},
    {WIRE_EPOCH_END_OFFSET, REQUEST_EPOCH_END_OFFSET, rpc_fill_epoch_end, true},
    {WIRE_METADATA, REQUEST_LOCAL, NULL, false},
    {WIRE_INIT_PRODUCER_ID, REQUEST_LOCAL, NULL, false},
    {WIRE_DESCRIBE_CLUSTER, REQUEST_LOCAL, NULL, false},
    {WIRE_PROBE, REQUEST_LOCAL, NULL, false},
    /* Who may call these is the shard's to say. */
    {WIRE_REGISTER_BROKER, REQUEST_CALL, NULL, false},
    {WIRE_HEARTBEAT, REQUEST_CALL, NULL, false},
    {WIRE_ALTER_PARTITION, REQUEST_CALL, NULL, false},
    {WIRE_ALLOCATE_PRODUCER_IDS, REQUEST_CALL, NULL, false},
    {WIRE_CREATE_TOPICS, REQUEST_CALL, NULL, false},
    {WIRE_DELETE_TOPICS, REQUEST_CALL, NULL, false},
    {WIRE_ELECT_LEADERS, REQUEST_CALL, NULL, false},
    {WIRE_ADD_VOTER, REQUEST_CALL, NULL, false},
    {WIRE_REMOVE_VOTER, REQUEST_CALL, NULL, false},
    {WIRE_METADATA_FETCH, REQUEST_CALL, NULL, false},
    {WIRE_DESCRIBE_QUORUM, REQUEST_CALL, NULL, false},
};

static const struct rpc_method *rpc_method_find(uint16_t id)
{
    for (size_t i = 0; i < ARRAY_LEN(rpc_methods); i++)
        if (rpc_methods[i].id == id)
            return &rpc_methods[i];
    return NULL;
}

/* ---- frames ---- */

void rpc_send_error(struct shard *shard, struct session *session, uint16_t method,
                    uint32_t correlation, err_t err, const char *sentence)
{
    struct frame *frame = wire_error_frame(method, correlation, err, sentence);
    if (frame != NULL)
        session_send(shard, session, frame);
}

static enum codec_verdict rpc_refuse(struct shard *shard, struct session *session,
                                     const struct wire_header *header, err_t err,
                                     const char *sentence)
{
    rpc_send_error(shard, session, header->method, header->correlation, err, sentence);
    return err == ERR_INVALID_REQUEST ? CODEC_CLOSE : CODEC_DONE;
}

static err_t rpc_fill(struct shard *shard, struct request *request, const struct rpc_method *method,
                      const struct wire_header *header, const char **ret_sentence)
{
    ProtobufCMessage *message;
    struct bytes attachment = wire_attachment(request->frame, header);
    err_t err = wire_unpack(wire_method_find(method->id)->request,
                            wire_message(request->frame, header), &request->arena, &message);
    if (err != ERR_OK)
        return err;
    request->message = message;
    if (attachment.len > 0 && method->type != REQUEST_PRODUCE)
        return ERR_INVALID_REQUEST;
    return method->fill == NULL ? ERR_OK : method->fill(shard, request, attachment, ret_sentence);
}

/* Takes the frame in any case. */
static enum codec_verdict rpc_request(struct shard *shard, struct session *session,
                                      struct frame *frame, const struct wire_header *header,
                                      struct request **ret_request)
{
    const struct rpc_method *method = rpc_method_find(header->method);
    const char *sentence = NULL;
    err_t err = ERR_OK;
    if (method == NULL)
        err = ERR_UNSUPPORTED_VERSION;
    else if (method->brokers_only && !session_is_broker(shard, session))
        err = ERR_CLUSTER_AUTHORIZATION_FAILED;
    struct request *request = NULL;
    if (err == ERR_OK) {
        request = session_request_new(shard, session, method->type, frame);
        err = request == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        frame_unref(frame);
        return rpc_refuse(shard, session, header, err, NULL);
    }
    request->method = header->method;
    request->correlation = header->correlation;
    err = rpc_fill(shard, request, method, header, &sentence);
    if (err != ERR_OK) {
        if (!CANARY("rpc_keeps_refused_request"))
            session_request_drop(shard, request);
        return rpc_refuse(shard, session, header, err, sentence);
    }
    *ret_request = request;
    return CODEC_REQUEST;
}

static enum codec_verdict rpc_hello(struct shard *shard, struct session *session,
                                    struct frame *frame, const struct wire_header *header)
{
    ProtobufCMessage *message;
    struct session_hello said = {0};
    const char *sentence = NULL;
    err_t err = wire_unpack(&karst__hello__descriptor, wire_message(frame, header),
                            shard_scratch(shard), &message);
    if (err == ERR_OK) {
        const Karst__Hello *hello = (const Karst__Hello *)message;
        said.node = hello->node_id;
        said.broker_epoch = hello->broker_epoch;
        said.cluster_known = hello->has_cluster_id;
        if (hello->magic == WIRE_HELLO_MAGIC && hello->version != WIRE_VERSION)
            err = ERR_UNSUPPORTED_VERSION;
        else if (hello->magic != WIRE_HELLO_MAGIC ||
                 (said.cluster_known && !wire_get_uuid(&hello->cluster_id, &said.cluster_id)) ||
                 (hello->has_incarnation && !wire_get_uuid(&hello->incarnation, &said.incarnation)))
            err = ERR_INVALID_REQUEST;
    }
    if (err == ERR_OK)
        err = session_hello(shard, session, &said);
    struct frame *answer = err == ERR_OK ? shard_hello_frame(shard) : NULL;
    frame_unref(frame);
    if (answer != NULL) {
        session_send(shard, session, answer);
        return CODEC_DONE;
    }
    if (err == ERR_OK)
        err = ERR_NO_MEMORY;
    if (err == ERR_DUPLICATE_BROKER_REGISTRATION)
        sentence = "this broker has the node id that the hello claims";
    rpc_send_error(shard, session, header->method, header->correlation, err, sentence);
    return CODEC_CLOSE;
}

/* No reply is possible: what is wrong closes the connection; what is unknown is not for us. */
static enum codec_verdict rpc_oneway(struct shard *shard, struct session *session,
                                     struct frame *frame, const struct wire_header *header)
{
    err_t err = ERR_OK;
    if (header->method == WIRE_RAFT && session->node != NO_NODE) {
        session_take_raft(shard, session, frame);
        return CODEC_DONE;
    }
    if (header->method == WIRE_RAFT) {
        err = ERR_CLUSTER_AUTHORIZATION_FAILED; /* R12: brokers only */
    } else if (header->method == WIRE_REPLICA_FETCH) {
        ProtobufCMessage *message;
        err = wire_unpack(&karst__replica_fetch_request__descriptor, wire_message(frame, header),
                          shard_scratch(shard), &message);
        if (err == ERR_OK)
            err = session_take_deltas(shard, session, (const Karst__ReplicaFetchRequest *)message);
    }
    frame_unref(frame);
    if (err == ERR_OK)
        return CODEC_DONE;
    log_warn("connection of %s closed: %s", session->peer_name, err_sentence(err));
    return CODEC_CLOSE;
}

enum codec_verdict rpc_decode(struct shard *shard, struct session *session, struct frame *frame,
                              struct request **ret_request)
{
    struct wire_header header = {0};
    err_t err = wire_decode_header(frame, &header);
    const char *sentence = NULL;
    if (err == ERR_OK && header.kind != WIRE_HELLO && !session->named) {
        err = ERR_INVALID_REQUEST;
        sentence = "the first frame of a connection must be a hello";
    }
    if (err == ERR_OK) {
        switch (header.kind) {
        case WIRE_HELLO:
            return rpc_hello(shard, session, frame, &header);
        case WIRE_REQUEST:
            return rpc_request(shard, session, frame, &header, ret_request);
        case WIRE_ONEWAY:
            return rpc_oneway(shard, session, frame, &header);
        default:
            err = ERR_INVALID_REQUEST; /* the answer to nothing that we asked */
            break;
        }
    }
    frame_unref(frame);
    rpc_send_error(shard, session, header.method, header.correlation, err, sentence);
    return CODEC_CLOSE;
}
