#include <stdlib.h>

#include "base/canary.h"
#include "shard/partition_internal.h"
#include "wire/wire.h"

/* ==== a follower's side: deltas up ==== */

static struct leader_link *leader_get(struct partition_table *table, node_id_t node)
{
    list_for_each (at, &table->leaders) {
        struct leader_link *leader = list_entry(at, struct leader_link, link);
        if (leader->node == node)
            return leader;
    }
    struct leader_link *leader = calloc(1, sizeof(*leader));
    ASSERT(leader != NULL); /* one for each broker: a few hundred bytes */
    leader->node = node;
    list_init(&leader->followers);
    list_push_back(&table->leaders, &leader->link);
    return leader;
}

void partition_link_leader(struct partition *p)
{
    const struct replica *r = &p->replica;
    list_remove(&p->following);
    p->leader = NULL;
    if (r->role != REPLICA_FOLLOWER || r->leader < 0)
        return;
    p->leader = leader_get(p->table, r->leader);
    list_push_back(&p->leader->followers, &p->following);
}

static void leader_add_row(struct leader_link *leader, const struct partition *p,
                           const struct replica_delta_row *row)
{
    if (leader->count == leader->capacity) {
        size_t capacity = leader->capacity == 0 ? 16 : leader->capacity * 2;
        leader->rows = realloc(leader->rows, capacity * sizeof(*leader->rows));
        leader->row_ptrs = realloc(leader->row_ptrs, capacity * sizeof(*leader->row_ptrs));
        ASSERT(leader->rows != NULL); /* a hundred bytes for each partition followed */
        ASSERT(leader->row_ptrs != NULL);
        leader->capacity = capacity;
    }
    Karst__ReplicaFetchPartition *out = &leader->rows[leader->count++];
    karst__replica_fetch_partition__init(out);
    /* The partition outlives the turn; a protobuf's bytes are not const. */
    out->topic_id = wire_put_uuid(&p->id.topic);
    out->index = p->id.index;
    out->leader_epoch = row->leader_epoch;
    out->fetch_offset = row->fetch_offset;
    out->flushed_end = row->flushed_end;
    out->last_fetched_epoch = row->last_fetched_epoch;
    out->log_start = row->log_start;
    out->session = row->session;
    out->has_want = true;
    out->want = row->want;
    out->has_slow = out->slow =
        row->slow || env_now(p->table->env) < p->table->slow_until_ns[p->disk];
}

static void leader_send(struct partition_table *table, struct leader_link *leader)
{
    Karst__ReplicaFetchRequest request = KARST__REPLICA_FETCH_REQUEST__INIT;
    for (size_t i = 0; i < leader->count; i++)
        leader->row_ptrs[i] = &leader->rows[i];
    request.node_id = table->host.node;
    request.broker_epoch = table->broker_epoch;
    request.n_partitions = leader->count;
    request.partitions = leader->row_ptrs;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY, .method = WIRE_REPLICA_FETCH, .message = &request.base});
    leader->count = 0;
    leader->spoke_ns = env_now(table->env);
    if (frame == NULL) {
        partition_stream_lost(table, leader->node, ERR_NO_MEMORY); /* all is told again */
        return;
    }
    table->host.stream_send(table->host.self, leader->node, frame);
}

static void leaders_send(struct partition_table *table)
{
    list_for_each (at, &table->leaders) {
        struct leader_link *leader = list_entry(at, struct leader_link, link);
        if (leader->count > 0)
            leader_send(table, leader);
    }
}

void partition_send_deltas(struct partition_table *table)
{
    struct list_node *node;
    while ((node = list_pop_front(&table->delta)) != NULL) {
        struct partition *p = list_entry(node, struct partition, delta);
        struct replica_delta_row row;
        bool again = p->slow_due;
        p->slow_due = false;
        if (p->leader == NULL || !table->ready || !replica_delta_row(&p->replica, again, &row))
            continue;
        leader_add_row(p->leader, p, &row);
        if (p->leader->count == STREAM_ROWS_MAX)
            leader_send(table, p->leader);
    }
    leaders_send(table);
}

/* An idle stream whose leader lost the connection, while the news of it was lost on the way, is
 * found by one row now and then: the answer is a reset. */
void partition_keepalive(struct partition_table *table, uint64_t now_ns)
{
    list_for_each (at, &table->leaders) {
        struct leader_link *leader = list_entry(at, struct leader_link, link);
        struct replica_delta_row row;
        if (list_empty(&leader->followers) || !table->ready ||
            now_ns < leader->spoke_ns + KEEPALIVE_NS)
            continue;
        struct partition *p = list_entry(leader->followers.next, struct partition, following);
        list_remove(&p->following);
        list_push_back(&leader->followers, &p->following);
        if (replica_delta_row(&p->replica, true, &row))
            leader_add_row(leader, p, &row);
        leader->spoke_ns = now_ns;
    }
    leaders_send(table);
}

void partition_stream_lost(struct partition_table *table, node_id_t node, err_t err)
{
    struct leader_link *leader = leader_get(table, node);
    uint64_t waiting = 0;
    (void)err;
    list_for_each_safe (at, after, &leader->followers) {
        struct partition *p = list_entry(at, struct partition, following);
        struct replica_event ev = {.type = REPLICA_STREAM_LOST};
        partition_step(p, &ev);
        waiting++;
    }
    log_debug("stream to broker %d lost, %llu partitions wait", (int)node,
              (unsigned long long)waiting);
    partition_hand_out(table);
}

/* ---- data in ---- */

/* Whole batches, right CRCs, from offset on, of epochs between the log's last and the leader's. */
static bool data_good(const struct partition *p, const struct replica_data *data,
                      bool *ret_producers)
{
    offset_t expected = data->fetch_offset;
    leader_epoch_t epoch = log_last_epoch(p->log);
    bool producers = false;
    for (uint32_t at = 0; at < data->bytes;) {
        struct batch_info info;
        if (batch_check_crc(data->records + at, data->bytes - at, &info) != ERR_OK)
            return false;
        if (info.base_offset != expected || info.leader_epoch < epoch ||
            info.leader_epoch > data->leader_epoch)
            return false;
        producers = producers || info.producer_id >= 0;
        expected = info.last_offset + 1;
        epoch = info.leader_epoch;
        at += info.bytes;
    }
    *ret_producers = producers;
    return true;
}

void partition_data(struct partition_table *table, const struct replica_data *data)
{
    struct partition *p = partition_find(table, &data->id);
    struct replica_event ev = {.type = REPLICA_DATA};
    bool producers = false;
    if (p == NULL || p->log == NULL)
        return;
    if (p->leader != NULL && p->leader->node == data->from)
        p->leader->spoke_ns = env_now(table->env);
    /* What was asked for in another session is not even looked at (R6). */
    bool current =
        (data->session == p->replica.session && data->leader_epoch == p->replica.leader_epoch) ||
        CANARY("replica_accepts_old_session");
    bool fits = data->bytes > 0 && data->fetch_offset == p->replica.end &&
                p->replica.role == REPLICA_FOLLOWER && current;
    ev.data = (struct replica_arrived){
        .from = data->from,
        .err = data->err,
        .leader_epoch = data->leader_epoch,
        .session = data->session,
        .high_watermark = data->high_watermark,
        .log_start = data->log_start,
        .fetch_offset = data->fetch_offset,
        .diverging_epoch = data->diverging_epoch,
        .diverging_end = data->diverging_end,
        .records = fits,
        .broken = fits && !data_good(p, data, &producers),
    };
    if (ev.data.broken)
        log_warn("%s: broken data from broker %d at offset %lld", p->folder, (int)data->from,
                 (long long)data->fetch_offset);
    table->append =
        (struct append_context){.bytes = data->records, .len = data->bytes, .producers = producers};
    partition_step(p, &ev);
    table->append = (struct append_context){0};
    partition_hand_out(table);
}

/* ==== a leader's side: data down ==== */

static struct stream *stream_get(struct partition_table *table, unsigned via_shard, env_conn conn)
{
    struct stream *last = table->last_stream;
    if (last != NULL && last->via_shard == via_shard && env_conn_equal(last->conn, conn))
        return last;
    list_for_each (node, &table->streams) {
        struct stream *stream = list_entry(node, struct stream, link);
        if (stream->via_shard == via_shard && env_conn_equal(stream->conn, conn))
            return table->last_stream = stream;
    }
    struct stream *stream = calloc(1, sizeof(*stream));
    ASSERT(stream != NULL); /* one for each peer's shard: a few hundred bytes */
    stream->via_shard = via_shard;
    stream->conn = conn;
    list_init(&stream->dirty);
    list_push_back(&table->streams, &stream->link);
    return table->last_stream = stream;
}

static void stream_free(struct partition_table *table, struct stream *stream)
{
    for (size_t i = 0; i < stream->frame_count; i++)
        frame_unref(stream->frames[i]);
    list_remove(&stream->link);
    list_remove(&stream->dirty);
    if (table->last_stream == stream)
        table->last_stream = NULL;
    free(stream->rows);
    free(stream->frames);
    free(stream);
}

void partition_streams_fini(struct partition_table *table)
{
    while (!list_empty(&table->streams))
        stream_free(table, list_entry(table->streams.next, struct stream, link));
    struct list_node *node;
    while ((node = list_pop_front(&table->parked_deltas)) != NULL)
        free(list_entry(node, struct parked_delta, link));
    while ((node = list_pop_front(&table->leaders)) != NULL) {
        struct leader_link *leader = list_entry(node, struct leader_link, link);
        free(leader->rows);
        free(leader->row_ptrs);
        free(leader);
    }
}

static void way_asked_past(struct follower_way *way)
{
    if (way->stream != NULL)
        way->stream->outstanding -= way->outstanding;
    way->outstanding = 0;
}

void partition_forget_ways(struct partition *p)
{
    for (size_t i = 0; i < ARRAY_LEN(p->ways); i++) {
        way_asked_past(&p->ways[i]);
        p->ways[i].stream = NULL;
    }
}

/* ---- one frame for each stream and turn ---- */

static void stream_send(struct partition_table *table, struct stream *stream)
{
    Karst__ReplicaData data = KARST__REPLICA_DATA__INIT;
    Karst__ReplicaDataPartition **rows = calloc(stream->count, sizeof(*rows));
    ASSERT(rows != NULL); /* eight bytes for each row */
    for (size_t i = 0; i < stream->count; i++) {
        rows[i] = &stream->rows[i].message;
        rows[i]->topic_id = wire_put_uuid(&stream->rows[i].id.topic);
    }
    data.n_partitions = stream->count;
    data.partitions = rows;
    struct frame *header = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY,
        .method = WIRE_REPLICA_DATA,
        .message = &data.base,
        .attachment_bytes = stream->bytes,
        .attachment_apart = true,
    });
    free(rows);
    ASSERT(header != NULL); /* a stream that loses a row stalls its follower for good */
    table->host.stream_reply(table->host.self, stream->via_shard, stream->conn, header,
                             stream->frames, stream->frame_count);
    stream->count = 0;
    stream->frame_count = 0;
    stream->bytes = 0;
    list_remove(&stream->dirty);
}

/* Takes the frame. */
static void stream_add_row(struct partition_table *table, struct stream *stream,
                           const struct partition_id *id, const struct replica_answer *answer,
                           struct frame *records)
{
    if (stream->count == stream->capacity) {
        size_t capacity = stream->capacity == 0 ? 16 : stream->capacity * 2;
        stream->rows = realloc(stream->rows, capacity * sizeof(*stream->rows));
        stream->frames = realloc(stream->frames, capacity * sizeof(*stream->frames));
        ASSERT(stream->rows != NULL); /* a hundred bytes for each partition led */
        ASSERT(stream->frames != NULL);
        stream->capacity = capacity;
    }
    struct stream_row *row = &stream->rows[stream->count++];
    row->id = *id;
    karst__replica_data_partition__init(&row->message);
    row->message.index = id->index;
    row->message.error = answer->err;
    row->message.leader_epoch = answer->leader_epoch;
    row->message.session = answer->session;
    row->message.high_watermark = answer->high_watermark;
    row->message.log_start = answer->log_start;
    row->message.fetch_offset = answer->fetch_offset;
    row->message.has_diverging_epoch = row->message.has_diverging_end = answer->diverging_end >= 0;
    row->message.diverging_epoch = answer->diverging_epoch;
    row->message.diverging_end = answer->diverging_end;
    if (records != NULL) {
        row->message.has_bytes = true;
        row->message.bytes = records->used;
        stream->bytes += records->used;
        stream->frames[stream->frame_count++] = records;
    }
    partition_list_once(&table->dirty_streams, &stream->dirty);
    if (stream->count == STREAM_ROWS_MAX)
        stream_send(table, stream);
}

/* What one turn's reads of one partition share: mostly all followers are at the same place. */
struct shared_read {
    offset_t offset;
    size_t bytes_max;
    struct frame *frame; /* NULL: nothing was read */
};

static err_t read_for_follower(struct partition *p, struct shared_read *shared, offset_t offset,
                               size_t bytes_max, struct frame **ret_frame)
{
    *ret_frame = NULL;
    if (shared->frame != NULL && shared->offset == offset && shared->bytes_max <= bytes_max) {
        *ret_frame = frame_ref(shared->frame);
        return ERR_OK;
    }
    struct log_read_args args = {
        .offset = offset, .limit = log_end(p->log), .bytes_max = bytes_max};
    err_t err = log_read(p->log, &args, ret_frame);
    partition_was_read(p, offset, err);
    if (err != ERR_OK || *ret_frame == NULL)
        return err;
    frame_unref(shared->frame);
    *shared = (struct shared_read){offset, bytes_max, frame_ref(*ret_frame)};
    return ERR_OK;
}

/* False: the connection has all that it may have for now; the order stands. */
static bool serve_follower(struct partition *p, uint32_t place, struct shared_read *shared)
{
    struct partition_table *table = p->table;
    struct follower_way *way = &p->ways[place];
    struct stream *stream = way->stream;
    struct replica_answer answer;
    struct frame *records = NULL;
    if (stream == NULL || !replica_answer(&p->replica, place, &answer))
        return true;
    if (answer.read) {
        uint64_t response_max = table->options.replica_fetch_response_bytes_max;
        if (stream->outstanding >= STREAM_WINDOW_BYTES || stream->bytes >= response_max)
            return false;
        uint64_t left = response_max - stream->bytes;
        uint64_t bytes_max = table->options.replica_fetch_bytes_max;
        answer.err = read_for_follower(p, shared, answer.fetch_offset,
                                       (size_t)(left < bytes_max ? left : bytes_max), &records);
        if (answer.err != ERR_OK)
            log_warn("%s: reading for broker %d at offset %lld failed: %s", p->folder,
                     (int)p->replica.followers[place].node, (long long)answer.fetch_offset,
                     err_sentence(answer.err));
    }
    bool done = records != NULL || answer.err != ERR_OK;
    if (records != NULL) {
        /* A batch is read whole, however little was left: what would not fit goes in a frame of its
         * own, since the follower takes no larger ones than a producer may send. */
        if (stream->bytes > 0 &&
            stream->bytes + records->used > table->options.replica_fetch_response_bytes_max)
            stream_send(table, stream);
        way->outstanding += records->used;
        stream->outstanding += records->used;
    }
    replica_answered(&p->replica, place, done);
    stream_add_row(table, stream, &p->id, &answer, records);
    return true;
}

static bool serve_partition(struct partition *p)
{
    struct shared_read shared = {0};
    uint32_t owed = replica_owed(&p->replica);
    bool all = true;
    for (uint32_t place = 0; owed != 0; place++, owed >>= 1)
        if ((owed & 1) != 0 && !serve_follower(p, place, &shared))
            all = false;
    frame_unref(shared.frame);
    return all;
}

void partition_send_data(struct partition_table *table)
{
    struct list_node blocked, *node;
    list_init(&blocked);
    while ((node = list_pop_front(&table->serve)) != NULL)
        if (!serve_partition(list_entry(node, struct partition, serve)))
            list_push_back(&blocked, node); /* until the follower asks past what it has */
    while ((node = list_pop_front(&blocked)) != NULL)
        list_push_back(&table->serve, node);
    while (!list_empty(&table->dirty_streams))
        stream_send(table, list_entry(table->dirty_streams.next, struct stream, dirty));
}

/* ---- deltas in ---- */

static void refuse_delta(struct partition_table *table, const struct replica_delta *delta,
                         err_t err)
{
    struct replica_answer answer = {
        .err = err,
        .session = delta->session,
        .leader_epoch = delta->leader_epoch,
        .high_watermark = -1,
        .log_start = -1,
        .fetch_offset = delta->fetch_offset,
        .diverging_epoch = -1,
        .diverging_end = -1,
    };
    if (!delta->stop)
        stream_add_row(table, stream_get(table, delta->via_shard, delta->conn), &delta->id, &answer,
                       NULL);
}

/* R30: the follower's image is ahead of ours. Its order waits for the image. */
static void park_delta(struct partition_table *table, const struct replica_delta *delta)
{
    list_for_each (node, &table->parked_deltas) {
        struct parked_delta *parked = list_entry(node, struct parked_delta, link);
        if (parked->delta.follower == delta->follower &&
            partition_id_equal(&parked->delta.id, &delta->id)) {
            bool want = parked->delta.want && parked->delta.session == delta->session;
            parked->delta = *delta;
            parked->delta.want = want || delta->want;
            return;
        }
    }
    struct parked_delta *parked = NULL;
    if (table->parked_delta_count < PARKED_DELTAS_MAX)
        parked = malloc(sizeof(*parked));
    if (parked == NULL) {
        refuse_delta(table, delta, ERR_UNKNOWN_LEADER_EPOCH);
        return;
    }
    parked->since_ns = env_now(table->env);
    parked->delta = *delta;
    list_push_back(&table->parked_deltas, &parked->link);
    table->parked_delta_count++;
}

/* What waits for an image that never comes: of a topic that is deleted already. */
void partition_expire_deltas(struct partition_table *table, uint64_t now_ns)
{
    while (!list_empty(&table->parked_deltas)) {
        struct parked_delta *parked =
            list_entry(table->parked_deltas.next, struct parked_delta, link);
        if (now_ns - parked->since_ns < PARKED_DELTA_NS)
            return;
        list_remove(&parked->link);
        table->parked_delta_count--;
        refuse_delta(table, &parked->delta, ERR_UNKNOWN_LEADER_EPOCH);
        free(parked);
    }
}

/* Those that wait for no more than what the partition is now. */
static bool is_due(const struct partition *p, const struct replica_delta *delta)
{
    bool ahead = p->log != NULL && delta->leader_epoch > p->replica.leader_epoch;
    return partition_id_equal(&delta->id, &p->id) && list_empty(&p->opening) && !ahead;
}

void partition_unpark_deltas(struct partition_table *table, const struct partition_id *id)
{
    const struct partition *p = partition_find(table, id);
    struct list_node due, *next;
    list_init(&due);
    if (p == NULL)
        return;
    list_for_each_safe (node, after, &table->parked_deltas) {
        if (!is_due(p, &list_entry(node, struct parked_delta, link)->delta))
            continue;
        list_remove(node);
        list_push_back(&due, node);
        table->parked_delta_count--;
    }
    while ((next = list_pop_front(&due)) != NULL) {
        struct parked_delta *parked = list_entry(next, struct parked_delta, link);
        struct replica_delta delta = parked->delta;
        free(parked);
        partition_delta(table, &delta);
    }
}

/* Where the follower's answers go now, and what of the window its delta gives back. */
static void take_way(struct partition *p, const struct replica_delta *delta)
{
    for (uint32_t place = 0; place < p->replica.replica_count; place++) {
        const struct replica_follower *f = &p->replica.followers[place];
        struct follower_way *way = &p->ways[place];
        bool same_life = delta->broker_epoch == f->broker_epoch;
        if (f->node != delta->follower || delta->broker_epoch < f->broker_epoch ||
            (same_life && delta->session < f->session))
            continue;
        bool same_stream = way->stream != NULL && way->stream->via_shard == delta->via_shard &&
                           env_conn_equal(way->stream->conn, delta->conn);
        if (!same_stream || delta->want || delta->stop || delta->session != f->session)
            way_asked_past(way);
        if (!same_stream)
            way->stream = stream_get(p->table, delta->via_shard, delta->conn);
    }
}

/* ERR_OK: it is for this broker, as the leader in that epoch. ERR_BUSY: when the image comes. */
static err_t admit_delta(const struct partition_table *table, const struct partition *p,
                         const struct replica_delta *delta)
{
    if (p == NULL) {
        const struct image_partition *now =
            table->ready ? image_partition(table->image, &delta->id) : NULL;
        bool known = now != NULL && now->leader_epoch >= delta->leader_epoch;
        return known ? ERR_NOT_LEADER_OR_FOLLOWER : ERR_BUSY;
    }
    if (p->log == NULL)
        return list_empty(&p->opening) ? ERR_KAFKA_STORAGE_ERROR : ERR_BUSY;
    if (delta->leader_epoch > p->replica.leader_epoch)
        return ERR_BUSY;
    if (delta->leader_epoch < p->replica.leader_epoch)
        return ERR_FENCED_LEADER_EPOCH;
    return replica_check_leader(&p->replica, true); /* to replicate, no lease is needed */
}

void partition_delta(struct partition_table *table, struct replica_delta *delta)
{
    struct partition *p = partition_find(table, &delta->id);
    err_t err = admit_delta(table, p, delta);
    if (err == ERR_BUSY) {
        park_delta(table, delta);
        return;
    }
    if (err != ERR_OK) {
        refuse_delta(table, delta, err);
        return;
    }
    struct replica_event ev = {.type = REPLICA_FETCHED};
    ev.fetched = (struct replica_fetched){
        .follower = delta->follower,
        .broker_epoch = delta->broker_epoch,
        .leader_epoch = delta->leader_epoch,
        .session = delta->session,
        .fetch_offset = delta->fetch_offset,
        .flushed_end = delta->flushed_end,
        .last_fetched_epoch = delta->last_fetched_epoch,
        .stop = delta->stop,
        .want = delta->want,
        .slow = delta->slow,
    };
    take_way(p, delta);
    partition_step(p, &ev);
    partition_hand_out(table);
}

void partition_follower_gone(struct partition_table *table, unsigned via_shard, env_conn conn)
{
    struct stream *stream = stream_get(table, via_shard, conn);
    struct list_node gone, *next;
    list_init(&gone);
    list_for_each_safe (node, after, &table->parked_deltas) {
        const struct replica_delta *delta = &list_entry(node, struct parked_delta, link)->delta;
        if (delta->via_shard != via_shard || !env_conn_equal(delta->conn, conn))
            continue;
        list_remove(node);
        list_push_back(&gone, node);
        table->parked_delta_count--;
    }
    while ((next = list_pop_front(&gone)) != NULL)
        free(list_entry(next, struct parked_delta, link));
    list_for_each_safe (node, after, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        for (uint32_t place = 0; place < REPLICAS_MAX; place++) {
            if (p->ways[place].stream != stream)
                continue;
            way_asked_past(&p->ways[place]);
            p->ways[place].stream = NULL;
            struct replica_event ev = {.type = REPLICA_FORGET};
            ev.follower = p->replica.followers[place].node;
            partition_step(p, &ev);
        }
    }
    stream_free(table, stream);
    partition_hand_out(table);
}

/* ---- the controller's answers ---- */

void partition_altered(struct partition_table *table, const struct partition_id *id,
                       const Karst__AlterPartitionItemReply *item)
{
    struct partition *p = partition_find(table, id);
    struct replica_event ev = {.type = REPLICA_ALTERED};
    if (p == NULL || p->log == NULL)
        return;
    ev.altered.err = item->error;
    ev.altered.partition_epoch = item->partition_epoch;
    partition_step(p, &ev);
    partition_hand_out(table);
}

void partition_alter_failed(struct partition_table *table, const struct partition_id *id, err_t err)
{
    struct partition *p = partition_find(table, id);
    struct replica_event ev = {.type = REPLICA_ALTER_FAILED};
    if (p == NULL || p->log == NULL)
        return;
    log_debug("%s: a change of the ISR has no outcome: %s", p->folder, err_sentence(err));
    partition_step(p, &ev);
    partition_hand_out(table);
}
