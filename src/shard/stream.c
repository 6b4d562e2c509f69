#include <stdlib.h>

#include "base/canary.h"
#include "shard/internal.h"

/* Replica traffic between partitions and the net (R7), and what else partitions ask of their shard.
 *
 *   follower's shard                                   leader's broker
 *   partition ─stream_send─▶ PEER_STREAM connection ─▶ some shard's session ─SHARD_DELTAS─▶ owner
 *   partition ◀─stream_take_data─ the same connection ◀─SHARD_STREAM_REPLY─ stream_reply ◀─ owner
 */

enum { ALTER_ITEMS_MAX = 1000, ALTER_ARENA_BYTES_MAX = 4 << 20 };

/* The AlterPartition proposals of one turn. */
struct alter_batch {
    struct list_node link;
    struct arena arena;
    struct call *call;
    uint32_t count;
    struct partition_id ids[ALTER_ITEMS_MAX];
    Karst__AlterPartitionItem *items[ALTER_ITEMS_MAX];
};

static void alter_batch_free(struct alter_batch *batch)
{
    list_remove(&batch->link);
    arena_fini(&batch->arena);
    free(batch);
}

static void alter_batch_failed(struct shard *shard, struct alter_batch *batch, err_t err)
{
    for (uint32_t i = 0; i < batch->count && shard->table != NULL; i++)
        partition_alter_failed(shard->table, &batch->ids[i], err);
    alter_batch_free(batch);
}

static err_t alter_read_reply(struct alter_batch *batch, struct frame *reply,
                              Karst__AlterPartitionReply **ret_reply)
{
    struct wire_header header;
    ProtobufCMessage *message;
    err_t err = wire_decode_header(reply, &header);
    if (err != ERR_OK)
        return err;
    if (header.kind != WIRE_REPLY)
        return ERR_NOT_CONTROLLER; /* an error frame: refused as a whole */
    err = wire_unpack(&karst__alter_partition_reply__descriptor, wire_message(reply, &header),
                      &batch->arena, &message);
    if (err != ERR_OK)
        return err;
    *ret_reply = (Karst__AlterPartitionReply *)message;
    return (*ret_reply)->error;
}

static void alter_done(struct shard *shard, void *context, err_t err, struct frame *frame)
{
    struct alter_batch *batch = context;
    Karst__AlterPartitionReply *reply = NULL;
    if (err == ERR_OK)
        err = alter_read_reply(batch, frame, &reply);
    frame_unref(frame);
    if (err != ERR_OK) {
        alter_batch_failed(shard, batch, err);
        return;
    }
    for (uint32_t i = 0; i < batch->count && shard->table != NULL; i++) {
        const Karst__AlterPartitionItemReply *found = NULL;
        for (size_t j = 0; j < reply->n_partitions && found == NULL; j++) {
            /* Mostly in the order of the request. */
            const Karst__AlterPartitionItemReply *row =
                reply->partitions[(i + j) % reply->n_partitions];
            struct partition_id id = {.index = row->index};
            if (wire_get_uuid(&row->topic_id, &id.topic) && partition_id_equal(&id, &batch->ids[i]))
                found = row;
        }
        if (found != NULL)
            partition_altered(shard->table, &batch->ids[i], found);
        else
            partition_alter_failed(shard->table, &batch->ids[i], ERR_UNKNOWN_SERVER_ERROR);
    }
    alter_batch_free(batch);
}

static void alter_send(struct shard *shard)
{
    struct alter_batch *batch = shard->alter;
    shard->alter = NULL;
    if (shard->lease.broker_epoch < 0) {
        alter_batch_failed(shard, batch, ERR_BROKER_ID_NOT_REGISTERED);
        return;
    }
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    request.node_id = shard->config->node;
    request.broker_epoch = shard->lease.broker_epoch;
    request.n_partitions = batch->count;
    request.partitions = batch->items;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST, .method = WIRE_ALTER_PARTITION, .message = &request.base});
    if (frame != NULL)
        /* R5: each try's outcome is the partition's to know. A second one, refused because the
         * first was accepted, would read as a refusal: the retry is the partition's, which keeps
         * the maximal ISR meanwhile. */
        batch->call = call_begin(
            shard, &(struct call_args){
                       .frame = frame,
                       .peer = shard->config->node,
                       .peer_epoch = shard->lease.broker_epoch,
                       .deadline_ns = env_now(shard->env) + shard->config->request_timeout_ns,
                       .retry = false,
                       .done = alter_done,
                       .context = batch,
                   });
    if (batch->call == NULL)
        alter_batch_failed(shard, batch, ERR_NO_MEMORY);
}

static Karst__AlterPartitionItem *alter_copy(struct arena *arena,
                                             const Karst__AlterPartitionItem *item)
{
    Karst__AlterPartitionItem *copy = arena_alloc(arena, sizeof(*copy));
    uint8_t *topic = arena_alloc(arena, item->topic_id.len);
    Karst__IsrMember **isr = arena_calloc(arena, item->n_isr, sizeof(Karst__IsrMember *));
    Karst__IsrMember *members = arena_calloc(arena, item->n_isr, sizeof(*members));
    if (copy == NULL || topic == NULL || isr == NULL || members == NULL)
        return NULL;
    *copy = *item;
    copy->topic_id.data = memcpy(topic, item->topic_id.data, item->topic_id.len);
    for (size_t i = 0; i < item->n_isr; i++) {
        members[i] = *item->isr[i];
        isr[i] = &members[i];
    }
    copy->isr = isr;
    return copy;
}

static void host_alter_partition(void *self, const struct partition_id *id,
                                 const Karst__AlterPartitionItem *item)
{
    struct shard *shard = self;
    if (shard->alter != NULL && shard->alter->count == ALTER_ITEMS_MAX)
        alter_send(shard);
    if (shard->alter == NULL) {
        struct alter_batch *batch = calloc(1, sizeof(*batch));
        if (batch == NULL) {
            shard->env->exit_node(shard->env->self, 1,
                                  "no memory for a change of replicas in sync");
            return;
        }
        arena_init(&batch->arena, ALTER_ARENA_BYTES_MAX);
        list_push_back(&shard->alters, &batch->link);
        shard->alter = batch;
    }
    struct alter_batch *batch = shard->alter;
    Karst__AlterPartitionItem *copy = alter_copy(&batch->arena, item);
    if (copy == NULL) {
        shard->env->exit_node(shard->env->self, 1, "no memory for a change of replicas in sync");
        return;
    }
    batch->ids[batch->count] = *id;
    batch->items[batch->count++] = copy;
}

/* ---- what partitions ask ---- */

static void host_part_done(void *self, struct part *part)
{
    part_done(self, part);
}

static void host_stream_send(void *self, node_id_t leader, struct frame *frame)
{
    /* A failure is told by partition_stream_lost. */
    (void)peer_send(self, &(struct peer_to){.node = leader, .lane = PEER_STREAM}, frame);
}

static void stream_put(struct shard *shard, env_conn conn, struct frame *header,
                       struct frame *const *records, size_t count)
{
    struct env_net *net = &shard->env->net;
    /* To a closed connection they are dropped: partition_follower_gone follows. */
    (void)net->send(net->self, conn, header, 0, header->used);
    for (size_t i = 0; i < count; i++)
        (void)net->send(net->self, conn, records[i], 0, records[i]->used);
}

static void host_stream_reply(void *self, unsigned via_shard, env_conn conn, struct frame *header,
                              struct frame **records, size_t count)
{
    struct shard *shard = self;
    if (via_shard == shard->idx) {
        stream_put(shard, conn, header, records, count);
        return;
    }
    struct shard_stream_reply *reply = malloc(sizeof(*reply) + count * sizeof(records[0]));
    if (reply == NULL) {
        /* A stream that silently loses a row stalls a follower for good. */
        shard->env->exit_node(shard->env->self, 1, "no memory for a message between shards");
        return;
    }
    reply->conn = conn;
    reply->header = header;
    reply->count = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        reply->records[i] = records[i];
    shard_post(shard, via_shard, &reply->message, SHARD_STREAM_REPLY);
}

static void host_replica_failed(void *self, const struct partition_id *id, uint32_t disk, err_t err)
{
    failure_seen(self, id, disk, err);
}

static bool host_lease_valid(void *self, uint64_t now_ns)
{
    return shard_lease_valid(self, now_ns);
}

static broker_epoch_t host_broker_epoch(void *self)
{
    return ((struct shard *)self)->lease.broker_epoch;
}

void stream_host_init(struct shard *shard, struct partition_host *ret_host)
{
    *ret_host = (struct partition_host){
        .self = shard,
        .env = shard->env,
        .node = shard->config->node,
        .shard = shard->idx,
        .shards = shard->config->shard_count,
        .part_done = host_part_done,
        .stream_send = host_stream_send,
        .stream_reply = host_stream_reply,
        .alter_partition = host_alter_partition,
        .lease_valid = host_lease_valid,
        .broker_epoch = host_broker_epoch,
        .replica_failed = host_replica_failed,
        .directories = shard->config->directories,
        .found_all = shard->config->found,
        .found_all_count = shard->config->found_count,
        .read_budget = shard->config->read_budget,
    };
}

/* ---- leader's side: orders in, data out ---- */

void stream_deltas_arrived(struct shard *shard, const struct shard_deltas *deltas)
{
    for (uint32_t i = 0; i < deltas->count && shard->table != NULL; i++) {
        struct replica_delta delta = deltas->rows[i];
        partition_delta(shard->table, &delta);
    }
}

void stream_reply_arrived(struct shard *shard, struct shard_stream_reply *reply)
{
    stream_put(shard, reply->conn, reply->header, reply->records, reply->count);
    free(reply);
}

static err_t delta_read(const struct session *session, const Karst__ReplicaFetchPartition *row,
                        struct replica_delta *ret_delta)
{
    *ret_delta = (struct replica_delta){
        .id.index = row->index,
        .follower = session->node,
        .broker_epoch = session->broker_epoch,
        .conn = session->conn,
        .leader_epoch = row->leader_epoch,
        .fetch_offset = row->fetch_offset,
        .flushed_end = row->flushed_end,
        .log_start = row->log_start,
        .last_fetched_epoch = row->last_fetched_epoch,
        .session = row->session,
        .stop = row->has_stop && row->stop,
        .want = row->want,
        .slow = row->has_slow && row->slow,
    };
    bool sound = wire_get_uuid(&row->topic_id, &ret_delta->id.topic) && row->index >= 0 &&
                 row->fetch_offset >= 0 && row->flushed_end >= 0 && row->log_start >= 0;
    return sound ? ERR_OK : ERR_INVALID_REQUEST;
}

/* Copies a frame's rows into one message for each owner, then gives them out: what partitions do
 * with their own may write replies, which must not disturb what is still being read. */
static err_t deltas_sort(struct shard *shard, const struct session *session,
                         const Karst__ReplicaFetchRequest *request, struct shard_deltas **sorted)
{
    for (size_t i = 0; i < request->n_partitions; i++) {
        struct replica_delta delta;
        err_t err = delta_read(session, request->partitions[i], &delta);
        if (err != ERR_OK)
            return err;
        delta.via_shard = shard->idx;
        unsigned owner = partition_shard(&delta.id, shard->config->shard_count);
        struct shard_deltas *deltas = sorted[owner];
        if (deltas == NULL) {
            deltas = malloc(sizeof(*deltas) + request->n_partitions * sizeof(deltas->rows[0]));
            if (deltas == NULL)
                return ERR_NO_MEMORY;
            deltas->count = 0;
            sorted[owner] = deltas;
        }
        deltas->rows[deltas->count++] = delta;
    }
    return ERR_OK;
}

err_t session_take_deltas(struct shard *shard, struct session *session,
                          const Karst__ReplicaFetchRequest *request)
{
    /* R12: an acknowledgement is that of the broker, and of the incarnation, that the hello named.
     */
    if ((!session_is_broker(shard, session) || request->node_id != session->node) &&
        !CANARY("shard_anybody_acknowledges"))
        return ERR_CLUSTER_AUTHORIZATION_FAILED;
    if (request->broker_epoch != session->broker_epoch || request->broker_epoch < 0)
        return ERR_STALE_BROKER_EPOCH;
    struct shard_deltas *sorted[QUORUM_SHARDS_MAX] = {NULL};
    unsigned shards = shard->config->shard_count;
    err_t err = deltas_sort(shard, session, request, sorted);
    for (unsigned owner = 0; owner < shards; owner++) {
        if (sorted[owner] == NULL)
            continue;
        if (err != ERR_OK) {
            free(sorted[owner]);
            continue;
        }
        session->delta_shards |= UINT64_C(1) << owner;
        if (owner == shard->idx) {
            stream_deltas_arrived(shard, sorted[owner]);
            free(sorted[owner]);
        } else {
            shard_post(shard, owner, &sorted[owner]->message, SHARD_DELTAS);
        }
    }
    return err;
}

void stream_session_closed(struct shard *shard, struct session *session)
{
    for (unsigned owner = 0; owner < shard->config->shard_count; owner++) {
        if ((session->delta_shards >> owner & 1) == 0)
            continue;
        if (owner == shard->idx) {
            if (shard->table != NULL)
                partition_follower_gone(shard->table, shard->idx, session->conn);
            continue;
        }
        struct shard_follower_gone *gone = malloc(sizeof(*gone));
        if (gone == NULL)
            continue; /* what is sent to it goes nowhere; its next connection replaces it */
        gone->via_shard = shard->idx;
        gone->conn = session->conn;
        shard_post(shard, owner, &gone->message, SHARD_FOLLOWER_GONE);
    }
}

/* ---- follower's side: data in ---- */

static void data_read(const Karst__ReplicaDataPartition *row, node_id_t leader, uint8_t *records,
                      struct replica_data *ret_data)
{
    *ret_data = (struct replica_data){
        .id.index = row->index,
        .err = row->error,
        .leader_epoch = row->leader_epoch,
        .session = row->session,
        .high_watermark = row->high_watermark,
        .log_start = row->log_start,
        .fetch_offset = row->fetch_offset,
        .diverging_epoch = row->diverging_epoch,
        .diverging_end = row->diverging_end,
        .records = records,
        .bytes = row->bytes,
        .from = leader,
    };
}

err_t stream_take_data(struct shard *shard, node_id_t leader, const struct wire_header *header,
                       struct frame *frame)
{
    ProtobufCMessage *message;
    arena_reset(&shard->data_arena);
    err_t err = wire_unpack(&karst__replica_data__descriptor, wire_message(frame, header),
                            &shard->data_arena, &message);
    if (err != ERR_OK)
        return err;
    const Karst__ReplicaData *data = (const Karst__ReplicaData *)message;
    struct bytes attachment = wire_attachment(frame, header);
    uint64_t sum = 0;
    for (size_t i = 0; i < data->n_partitions; i++) {
        sum += data->partitions[i]->bytes;
        if (data->partitions[i]->topic_id.len != sizeof(struct uuid))
            return ERR_INVALID_REQUEST;
    }
    if (sum != attachment.len)
        return ERR_INVALID_REQUEST;
    uint8_t *records = frame->bytes + (attachment.data - frame->bytes);
    for (size_t i = 0; i < data->n_partitions && shard->table != NULL; i++) {
        struct replica_data row;
        data_read(data->partitions[i], leader, records, &row);
        (void)wire_get_uuid(&data->partitions[i]->topic_id, &row.id.topic); /* length checked */
        records += row.bytes;
        if (partition_shard(&row.id, shard->config->shard_count) != shard->idx)
            return ERR_INVALID_REQUEST; /* nothing that this stream asked for */
        partition_data(shard->table, &row);
    }
    return ERR_OK;
}

/* ---- turns, end ---- */

void stream_turn_ended(struct shard *shard)
{
    if (shard->alter != NULL)
        alter_send(shard);
}

void stream_fini(struct shard *shard)
{
    shard->alter = NULL;
    struct list_node *node;
    while ((node = shard->alters.next) != &shard->alters)
        alter_batch_free(list_entry(node, struct alter_batch, link));
}
