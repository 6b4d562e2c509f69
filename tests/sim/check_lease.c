#include <inttypes.h>

#include "proto/rpc.pb-c.h"
#include "sim/check.h"
#include "sim/sim_load.h"
#include "sim/sim_node.h"
#include "wire/wire.h"

/* ---- answers ---- */

/* acks=all needs no lease: the in-sync replicas have it, whoever leads. */
static bool topic_is_acks_one(const struct sim_run *run, const ProtobufCBinaryData *topic)
{
    struct partition_id id = {.index = 0};
    if (!wire_get_uuid(topic, &id.topic))
        return false;
    for (int i = 0; i < load_topic_count(run); i++) {
        struct partition_id first;
        if (load_topics[i].acks == 1 &&
            check_data_partition(run->data, load_topics[i].name, 0, &first) &&
            uuid_equal(&first.topic, &id.topic))
            return true;
    }
    return false;
}

/* NULL: nothing that needs a lease. */
static const char *reply_needs_lease(const struct sim_run *run, uint16_t method,
                                     const ProtobufCMessage *message)
{
    if (method == WIRE_PRODUCE) {
        const Karst__ProduceReply *reply = (const Karst__ProduceReply *)message;
        for (size_t i = 0; i < reply->n_partitions; i++)
            if (reply->partitions[i]->error == ERR_OK &&
                topic_is_acks_one(run, &reply->partitions[i]->topic_id))
                return "acknowledges a record with acks=1";
    } else if (method == WIRE_FETCH) {
        const Karst__FetchReply *reply = (const Karst__FetchReply *)message;
        for (size_t i = 0; i < reply->n_partitions; i++)
            if (reply->partitions[i]->error == ERR_OK)
                return "answers a fetch";
    } else {
        const Karst__ListOffsetsReply *reply = (const Karst__ListOffsetsReply *)message;
        for (size_t i = 0; i < reply->n_partitions; i++)
            if (reply->partitions[i]->error == ERR_OK)
                return "tells where a partition ends";
    }
    return NULL;
}

static void frame_answers(struct sim_run *run, const struct sim_node *node, unsigned shard,
                          const struct wire_header *header, const struct frame *frame)
{
    struct shard_view view;
    shard_look(node->shards[shard], &view);
    if (view.lease_valid)
        return;
    struct arena arena;
    ProtobufCMessage *message;
    arena_init(&arena, 16 << 20);
    err_t err = wire_unpack(wire_method_find(header->method)->reply, wire_message(frame, header),
                            &arena, &message);
    const char *what = err == ERR_OK ? reply_needs_lease(run, header->method, message) : NULL;
    if (what != NULL)
        sim_fail(run, "without a lease a broker answers nothing as a leader (R10)",
                 "node %d, shard %u, %s %s", node->id, shard,
                 view.fenced ? "fenced," : "its lease over,", what);
    arena_fini(&arena);
}

/* ---- heartbeats ---- */

static void frame_beats(struct sim_run *run, const struct sim_node *node,
                        const struct wire_header *header, const struct frame *frame)
{
    struct arena arena;
    ProtobufCMessage *message;
    arena_init(&arena, 1 << 20);
    if (wire_unpack(&karst__heartbeat_request__descriptor, wire_message(frame, header), &arena,
                    &message) == ERR_OK) {
        const Karst__HeartbeatRequest *beat = (const Karst__HeartbeatRequest *)message;
        for (unsigned i = 0; i < RUN_SHARDS && beat->node_id == node->id; i++) {
            const struct image *image = shard_image(node->shards[i]);
            int64_t has = image == NULL ? -1 : image_offset(image);
            if (beat->metadata_offset > has)
                sim_fail(run, "heartbeats tell the offset that all shards have (R30)",
                         "node %d: %" PRId64 ", its shard %u has %" PRId64, node->id,
                         (int64_t)beat->metadata_offset, i, has);
        }
    }
    arena_fini(&arena);
}

void check_lease_frame(struct sim_run *run, struct sim_actor *actor, const struct frame *frame)
{
    struct wire_header header;
    if (actor->host->idx >= run->node_count || actor->idx >= RUN_SHARDS || run->failed)
        return;
    const struct sim_node *node = run->nodes[actor->host->idx];
    if (!sim_node_up(node) || node->shards[RUN_SHARDS - 1] == NULL ||
        wire_decode_header(frame, &header) != ERR_OK)
        return;
    if (header.kind == WIRE_REPLY &&
        (header.method == WIRE_PRODUCE || header.method == WIRE_FETCH ||
         header.method == WIRE_LIST_OFFSETS))
        frame_answers(run, node, actor->idx, &header, frame);
    else if (header.kind == WIRE_REQUEST && header.method == WIRE_HEARTBEAT)
        frame_beats(run, node, &header, frame);
}

/* ---- fencing ---- */

void check_lease_image(struct sim_run *run, const struct image *image)
{
    for (unsigned i = 0; i < run->node_count; i++) {
        const struct sim_node *node = run->nodes[i];
        const struct image_broker *broker = image_broker(image, node->id);
        if (broker == NULL || broker->state != BROKER_STATE_FENCED || !sim_node_up(node))
            continue;
        for (unsigned shard = 0; shard < RUN_SHARDS; shard++) {
            struct shard_view view;
            if (node->shards[shard] == NULL)
                continue; /* it starts */
            shard_look(node->shards[shard], &view);
            if (view.broker_epoch == broker->epoch && view.lease_valid)
                sim_fail(run, "whom the controller fences holds no lease (R10)",
                         "node %d, broker epoch %" PRId64 ", shard %u", node->id,
                         (int64_t)broker->epoch, shard);
        }
    }
}
