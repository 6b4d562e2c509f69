#include "rpc/internal.h"

const struct shard_codec rpc_codec = {
    .name = "RPC",
    .decode = rpc_decode,
    .encode = rpc_encode,
};

/* What a part that is not back when the request's time is over tells: its owner may still write to
 * all of it but its id. */
static err_t rpc_part_error(const struct part *part)
{
    return part->back ? part->err : ERR_REQUEST_TIMED_OUT;
}

/* protobuf-c does not know const; packing only reads. NULL for success. */
static char *rpc_part_sentence(const struct part *part)
{
    err_t err = rpc_part_error(part);
    if (err == ERR_OK)
        return NULL;
    const char *sentence = part->back ? part->sentence : NULL;
    return (char *)(uintptr_t)(sentence == NULL ? err_sentence(err) : sentence);
}

/* Rows of a reply, one for each part: *ret_rows points at them. NULL without memory. */
static void *rpc_rows(struct request *request, size_t row_bytes, void ***ret_rows)
{
    char *rows = arena_calloc(&request->arena, request->part_count, row_bytes);
    void **list = arena_calloc(&request->arena, request->part_count, sizeof(void *));
    if (rows == NULL || list == NULL)
        return NULL;
    for (uint32_t i = 0; i < request->part_count; i++)
        list[i] = rows + i * row_bytes;
    *ret_rows = list;
    return rows;
}

static struct frame *rpc_reply_frame(const struct request *request, const ProtobufCMessage *reply,
                                     size_t attachment_bytes)
{
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REPLY,
        .method = request->method,
        .correlation = request->correlation,
        .message = reply,
        .attachment_bytes = attachment_bytes,
        .attachment_apart = true,
    });
}

static struct frame *rpc_encode_produce(struct request *request)
{
    Karst__ProduceReply reply = KARST__PRODUCE_REPLY__INIT;
    void **list;
    Karst__ProducePartitionReply *rows = rpc_rows(request, sizeof(*rows), &list);
    if (rows == NULL)
        return NULL;
    for (uint32_t i = 0; i < request->part_count; i++) {
        const struct produce_part *part = (const struct produce_part *)request_part(request, i);
        Karst__ProducePartitionReply *row = &rows[i];
        karst__produce_partition_reply__init(row);
        row->topic_id = wire_put_uuid(&part->part.id.topic);
        row->index = part->part.id.index;
        row->error = rpc_part_error(&part->part);
        row->message = rpc_part_sentence(&part->part);
        if (!part->part.back)
            continue;
        row->has_base_offset = part->base_offset >= 0;
        row->base_offset = part->base_offset;
        row->has_log_start = part->part.log_start >= 0;
        row->log_start = part->part.log_start;
        row->has_leader = row->has_leader_epoch = part->part.leader_epoch >= 0;
        row->leader = part->part.leader;
        row->leader_epoch = part->part.leader_epoch;
    }
    reply.n_partitions = request->part_count;
    reply.partitions = (Karst__ProducePartitionReply **)list;
    return rpc_reply_frame(request, &reply.base, 0);
}

/* Bytes of this part's records that the reply takes along; the others are dropped, and fetched
 * again: a fetch's bound is for the whole, of which at least one batch always goes. */
static uint32_t rpc_take_records(const struct request *request, struct fetch_part *part,
                                 size_t *sum)
{
    if (!part->part.back || part->records == NULL)
        return 0;
    uint32_t bytes = part->records->used;
    if (*sum > 0 && (*sum >= request->bytes_max || bytes > request->bytes_max - *sum)) {
        frame_unref(part->records);
        part->records = NULL;
        return 0;
    }
    *sum += bytes;
    return bytes;
}

static struct frame *rpc_encode_fetch(struct request *request)
{
    Karst__FetchReply reply = KARST__FETCH_REPLY__INIT;
    void **list;
    Karst__FetchPartitionReply *rows = rpc_rows(request, sizeof(*rows), &list);
    if (rows == NULL)
        return NULL;
    size_t sum = 0;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct fetch_part *part = (struct fetch_part *)request_part(request, i);
        Karst__FetchPartitionReply *row = &rows[i];
        karst__fetch_partition_reply__init(row);
        row->topic_id = wire_put_uuid(&part->part.id.topic);
        row->index = part->part.id.index;
        row->error = rpc_part_error(&part->part);
        row->message = rpc_part_sentence(&part->part);
        row->bytes = rpc_take_records(request, part, &sum);
        row->has_bytes = row->bytes > 0;
        if (!part->part.back)
            continue;
        row->has_high_watermark = part->part.high_watermark >= 0;
        row->high_watermark = part->part.high_watermark;
        row->has_log_start = part->part.log_start >= 0;
        row->log_start = part->part.log_start;
        row->has_leader = row->has_leader_epoch = part->part.leader_epoch >= 0;
        row->leader = part->part.leader;
        row->leader_epoch = part->part.leader_epoch;
    }
    reply.n_partitions = request->part_count;
    reply.partitions = (Karst__FetchPartitionReply **)list;
    return rpc_reply_frame(request, &reply.base, sum);
}

/* The records go as they are, frame after frame: nothing is copied. */
static void rpc_send_records(struct shard *shard, struct session *session, struct request *request)
{
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct fetch_part *part = (struct fetch_part *)request_part(request, i);
        if (!part->part.back || part->records == NULL)
            continue;
        struct frame *records = part->records;
        part->records = NULL;
        session_send(shard, session, records);
    }
}

static struct frame *rpc_encode_list_offsets(struct request *request)
{
    Karst__ListOffsetsReply reply = KARST__LIST_OFFSETS_REPLY__INIT;
    void **list;
    Karst__ListOffsetsPartitionReply *rows = rpc_rows(request, sizeof(*rows), &list);
    if (rows == NULL)
        return NULL;
    for (uint32_t i = 0; i < request->part_count; i++) {
        const struct list_offsets_part *part =
            (const struct list_offsets_part *)request_part(request, i);
        Karst__ListOffsetsPartitionReply *row = &rows[i];
        karst__list_offsets_partition_reply__init(row);
        row->topic_id = wire_put_uuid(&part->part.id.topic);
        row->index = part->part.id.index;
        row->error = rpc_part_error(&part->part);
        row->message = rpc_part_sentence(&part->part);
        if (!part->part.back)
            continue;
        row->has_offset = part->offset >= 0;
        row->offset = part->offset;
        row->has_timestamp = part->found_timestamp >= 0;
        row->timestamp = part->found_timestamp;
        row->has_leader_epoch = part->part.leader_epoch >= 0;
        row->leader_epoch = part->part.leader_epoch;
    }
    reply.n_partitions = request->part_count;
    reply.partitions = (Karst__ListOffsetsPartitionReply **)list;
    return rpc_reply_frame(request, &reply.base, 0);
}

static struct frame *rpc_encode_epoch_end(struct request *request)
{
    Karst__EpochEndOffsetReply reply = KARST__EPOCH_END_OFFSET_REPLY__INIT;
    void **list;
    Karst__EpochEndOffsetPartitionReply *rows = rpc_rows(request, sizeof(*rows), &list);
    if (rows == NULL)
        return NULL;
    for (uint32_t i = 0; i < request->part_count; i++) {
        const struct epoch_end_part *part = (const struct epoch_end_part *)request_part(request, i);
        Karst__EpochEndOffsetPartitionReply *row = &rows[i];
        karst__epoch_end_offset_partition_reply__init(row);
        row->topic_id = wire_put_uuid(&part->part.id.topic);
        row->index = part->part.id.index;
        row->error = rpc_part_error(&part->part);
        if (!part->part.back)
            continue;
        row->has_epoch = part->epoch >= 0;
        row->epoch = part->epoch;
        row->has_end = part->end >= 0;
        row->end = part->end;
    }
    reply.n_partitions = request->part_count;
    reply.partitions = (Karst__EpochEndOffsetPartitionReply **)list;
    return rpc_reply_frame(request, &reply.base, 0);
}

/* From the image: as large as the cluster, so that the frame's bound is looked at here. */
static struct frame *rpc_encode_local(struct request *request)
{
    if (protobuf_c_message_get_packed_size(request->reply) > WIRE_MESSAGE_BYTES_MAX) {
        request->err = ERR_POLICY_VIOLATION;
        request->sentence = "the answer is larger than a frame may be: ask for fewer topics";
        return NULL;
    }
    return rpc_reply_frame(request, request->reply, 0);
}

static struct frame *rpc_encode_call(struct request *request)
{
    struct frame *frame = request->reply_frame;
    request->reply_frame = NULL;
    if (frame != NULL)
        wire_set_correlation(frame, request->correlation);
    return frame;
}

void rpc_encode(struct shard *shard, struct session *session, struct request *request)
{
    struct frame *frame = NULL;
    if (request->err == ERR_OK) {
        switch (request->type) {
        case REQUEST_PRODUCE:
            frame = rpc_encode_produce(request);
            break;
        case REQUEST_FETCH:
            frame = rpc_encode_fetch(request);
            break;
        case REQUEST_LIST_OFFSETS:
            frame = rpc_encode_list_offsets(request);
            break;
        case REQUEST_EPOCH_END_OFFSET:
            frame = rpc_encode_epoch_end(request);
            break;
        case REQUEST_LOCAL:
            frame = rpc_encode_local(request);
            break;
        case REQUEST_CALL:
            frame = rpc_encode_call(request);
            break;
        }
    }
    if (frame == NULL) {
        err_t err = request->err == ERR_OK ? ERR_NO_MEMORY : request->err;
        rpc_send_error(shard, session, request->method, request->correlation, err,
                       request->sentence);
        return;
    }
    session_send(shard, session, frame);
    if (request->type == REQUEST_FETCH)
        rpc_send_records(shard, session, request);
}
