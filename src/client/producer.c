#include <stdlib.h>
#include <string.h>

#include "client/core.h"

/* One produce request under way. */
struct client_produce_call {
    struct client_call call;
    size_t count;
    struct client_batch *batches[];
};

enum { CLIENT_OUTPUT_LOOK_MS = 2, CLIENT_ANSWER_MS = 1000 };

bool client_producer_has_work(const struct client_partition *p)
{
    return p->open != NULL || !list_empty(&p->batches);
}

int64_t client_outstanding(const struct client *client)
{
    return client->outstanding;
}

/* ---- taking records ---- */

/* Records without a key stay with one partition until its batch is full or sent: batches are large
 * then. Partitions without a leader are left out while there are others. */
static int32_t client_choose_sticky(struct client *client, struct client_topic *topic)
{
    int32_t count = topic->partition_count;
    int32_t start = (int32_t)rng_below(&client->rng, (uint64_t)count);
    for (int32_t i = 0; i < count; i++) {
        int32_t index = (int32_t)(((int64_t)start + i) % count);
        const struct client_partition *p = topic->partitions[index];
        if (p != NULL && p->leader != NO_NODE && !p->leader_bad)
            return index;
    }
    return start;
}

static int32_t client_choose(struct client *client, struct client_topic *topic, struct bytes key)
{
    if (key.data != NULL)
        return client_partition_of_key(key.data, key.len, topic->partition_count);
    if (topic->sticky < 0 || topic->sticky >= topic->partition_count)
        topic->sticky = client_choose_sticky(client, topic);
    return topic->sticky;
}

static void client_unstick(struct client_partition *p)
{
    if (p->topic->sticky == p->index)
        p->topic->sticky = -1;
}

static void client_press(struct client *client)
{
    if (client->pressed)
        return;
    client->pressed = true;
    client_all_dirty(client);
    client_wake(client);
}

/* A batch was begun, and the one before it perhaps sealed. */
static void client_batch_begun(struct client *client, struct client_partition *p, bool sealed)
{
    p->open->partition = p;
    p->open->topic = p->topic;
    if (sealed) {
        /* The next one of a partition that fills its batches is made for more at once. */
        p->batch_bytes = client->config.batch_bytes;
        client_unstick(p);
    }
    if (sealed || client->config.linger_ms == 0 || client->flushing) {
        client_partition_dirty(client, p);
        client_wake(client);
        return;
    }
    uint64_t due_ns = p->open->created_ns + ENV_MS(client->config.linger_ms);
    client_partition_due(client, p, due_ns);
    if (client->timer_due_ns == 0 || client->timer_due_ns > due_ns)
        client_wake(client);
}

static err_t client_put(struct client *client, struct client_partition *p,
                        const struct client_record *record)
{
    struct client_batch *before = p->open;
    err_t err = client_batch_add(client, &p->open, &p->batches, p->batch_bytes, record);
    if (err == ERR_OK && p->open != before)
        client_batch_begun(client, p, before != NULL);
    return err;
}

static err_t client_put_unassigned(struct client *client, struct client_topic *topic,
                                   const struct client_record *record)
{
    uint32_t batch_bytes = client->config.batch_bytes;
    if (batch_bytes > CLIENT_BATCH_BYTES_FIRST)
        batch_bytes = CLIENT_BATCH_BYTES_FIRST;
    err_t err =
        client_batch_add(client, &topic->unassigned_open, &topic->unassigned, batch_bytes, record);
    if (err == ERR_OK)
        topic->unassigned_open->topic = topic;
    return err;
}

static err_t client_message_record(struct client *client, const struct karst_message *message,
                                   struct client_record *ret_record)
{
    struct client_record record = {
        .key = {message->key, message->key == NULL ? 0 : message->key_bytes},
        .value = {message->value, message->value == NULL ? 0 : message->value_bytes},
        .timestamp = message->timestamp_ms,
        .opaque = message->opaque,
    };
    uint64_t bytes = (uint64_t)record.key.len + record.value.len;
    if (record.key.len > client->config.record_bytes_max ||
        record.value.len > client->config.record_bytes_max || message->header_count > INT16_MAX)
        return ERR_MESSAGE_TOO_LARGE;
    if (message->header_count > 0) {
        arena_reset(&client->arena);
        struct record_header *headers =
            arena_calloc(&client->arena, message->header_count, sizeof(*headers));
        if (headers == NULL)
            return ERR_NO_MEMORY;
        for (size_t i = 0; i < message->header_count; i++) {
            const struct karst_header *header = &message->headers[i];
            size_t value_bytes = header->value == NULL ? 0 : header->value_bytes;
            headers[i].name = (struct bytes){(const uint8_t *)header->name, strlen(header->name)};
            headers[i].value = (struct bytes){header->value, value_bytes};
            bytes += headers[i].name.len + value_bytes;
        }
        record.headers = headers;
        record.header_count = (int32_t)message->header_count;
    }
    if (bytes > client->config.record_bytes_max)
        return ERR_MESSAGE_TOO_LARGE;
    if (record.timestamp == 0)
        record.timestamp = client->env->clock.wall_ms(client->env->clock.self);
    *ret_record = record;
    return ERR_OK;
}

err_t client_produce(struct client *client, const struct karst_message *message)
{
    struct client_topic *topic = client_topic_find(client, message->topic);
    if (topic == NULL) {
        if (!topic_name_legal(message->topic))
            return ERR_INVALID_TOPIC_EXCEPTION;
        topic = client_topic_get(client, message->topic);
        if (topic == NULL)
            return ERR_NO_MEMORY;
    }
    client->last_topic = topic;
    if (topic->err != ERR_OK) { /* perhaps it was made meanwhile */
        client_metadata_want(client);
        client_wake(client);
        return topic->err;
    }
    int32_t index = message->partition;
    if (index < KARST_PARTITION_ANY || index >= TOPIC_PARTITIONS_MAX)
        return ERR_INVALID;
    if (topic->known && index >= topic->partition_count)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    struct client_record record;
    err_t err = client_message_record(client, message, &record);
    if (err != ERR_OK)
        return err;

    if (index == KARST_PARTITION_ANY && !topic->known) {
        err = client_put_unassigned(client, topic, &record);
    } else {
        if (index == KARST_PARTITION_ANY)
            index = client_choose(client, topic, record.key);
        struct client_partition *p = client_partition_get(client, topic, index);
        err = p == NULL ? ERR_NO_MEMORY : client_put(client, p, &record);
    }
    if (client->config.idempotent && client->id_generation == 0)
        client->id_wanted = true;
    if (err == ERR_FULL)
        client_press(client);
    if (err != ERR_OK)
        return err;
    client->outstanding++;
    client->queued++;
    return ERR_OK;
}

void client_flush(struct client *client)
{
    if (client->queued == 0)
        return;
    client->flushing = true;
    client_all_dirty(client);
    client_wake(client);
}

/* ---- sending ---- */

static bool client_open_is_due(const struct client *client, const struct client_partition *p,
                               uint64_t now)
{
    return p->open != NULL && (client->flushing || (client->pressed && p->in_flight == 0) ||
                               now >= p->open->created_ns + ENV_MS(client->config.linger_ms));
}

static void client_seal(struct client_partition *p)
{
    /* A partition whose batches stay small is not given large ones. */
    if (p->open->builder.used * 4 < p->batch_bytes && p->batch_bytes > CLIENT_BATCH_BYTES_FIRST)
        p->batch_bytes /= 2;
    list_push_back(&p->batches, &p->open->link);
    p->open = NULL;
    client_unstick(p);
}

/* NULL: none, or the window is used up. A batch may be sent only while its broker would still know
 * the oldest one that is not settled: that one may have to be recognised as a duplicate. */
static struct client_batch *client_next_unsent(const struct client *client,
                                               const struct client_partition *p)
{
    uint32_t before = 0;
    list_for_each (node, &p->batches) {
        struct client_batch *batch = list_entry(node, struct client_batch, link);
        if (before++ == client->config.in_flight_max)
            return NULL;
        if (!batch->in_flight && !batch->acknowledged)
            return batch;
    }
    return NULL;
}

/* All batches that are sealed are under way or settled, and one more may follow. */
static bool client_window_open(const struct client *client, const struct client_partition *p)
{
    uint32_t count = 0;
    list_for_each (node, &p->batches) {
        const struct client_batch *batch = list_entry(node, struct client_batch, link);
        if (++count == client->config.in_flight_max || !(batch->in_flight || batch->acknowledged))
            return false;
    }
    return true;
}

/* Whose sequence its batches continue. Nothing of the partition is under way when that changes. */
static bool client_identify(struct client *client, struct client_partition *p)
{
    if (!client->config.idempotent) {
        p->id_generation = 1;
        p->producer_epoch = -1;
        return true;
    }
    if (p->id_generation != 0 && !p->renew)
        return true;
    if (client->id_generation <= (p->renew ? p->id_generation : 0)) {
        client->id_wanted = true;
        return false;
    }
    ASSERT(p->in_flight == 0);
    p->id_generation = client->id_generation;
    p->producer_id = client->producer_id;
    p->producer_epoch = client->producer_epoch;
    p->next_sequence = 0;
    p->renew = false;
    return true;
}

static bool client_output_full(struct client *client, const struct client_broker *broker)
{
    return client->config.acks == 0 &&
           client->env->net.queued_bytes(client->env->net.self, broker->conn) >
               CLIENT_OUTPUT_BYTES_MAX;
}

void client_producer_look(struct client *client, struct client_partition *p, uint64_t now)
{
    if (!client_producer_has_work(p) || (p->draining && p->in_flight > 0))
        return;
    p->draining = false;
    bool due = client_open_is_due(client, p, now);
    if (p->open != NULL && !due)
        client_partition_due(client, p, p->open->created_ns + ENV_MS(client->config.linger_ms));
    if (client_next_unsent(client, p) == NULL && !(due && client_window_open(client, p)))
        return;
    struct client_broker *broker = client_partition_leader(client, p, now);
    if (broker == NULL)
        return;
    if (client_output_full(client, broker)) {
        client_partition_due(client, p, now + ENV_MS(CLIENT_OUTPUT_LOOK_MS));
        return;
    }
    if (!client_identify(client, p))
        return;
    for (;;) {
        if (client_open_is_due(client, p, now) && client_window_open(client, p))
            client_seal(p);
        struct client_batch *batch = client_next_unsent(client, p);
        if (batch == NULL)
            return;
        if (client_batch_stamp(client, batch) != ERR_OK) {
            client_partition_due(client, p, now + ENV_MS(CLIENT_RETRY_MS));
            return;
        }
        batch->in_flight = true;
        p->in_flight++;
        list_push_back(&broker->batches, &batch->gather_link);
    }
}

static void client_batch_result(struct client *client, struct client_batch *batch, err_t err,
                                const Karst__ProducePartitionReply *row);

static void client_produce_done(struct client *client, struct client_call *call, err_t err,
                                const struct client_reply *reply)
{
    struct client_produce_call *produce = container_of(call, struct client_produce_call, call);
    const Karst__ProduceReply *message =
        reply == NULL ? NULL : (const Karst__ProduceReply *)reply->message;
    for (size_t i = 0; i < produce->count; i++) {
        struct client_batch *batch = produce->batches[i];
        if (batch == NULL)
            continue; /* it was sent to another leader meanwhile */
        const struct client_partition *p = batch->partition;
        const Karst__ProducePartitionReply *row = NULL;
        /* Mostly in the order of the request; but that is not promised. */
        for (size_t j = 0; message != NULL && row == NULL && j < message->n_partitions; j++) {
            const Karst__ProducePartitionReply *candidate =
                message->partitions[(i + j) % message->n_partitions];
            struct uuid id;
            if (candidate->index == p->index && wire_get_uuid(&candidate->topic_id, &id) &&
                uuid_equal(&id, &p->topic->id))
                row = candidate;
        }
        if (message != NULL)
            err = row == NULL ? ERR_REQUEST_TIMED_OUT : row->error;
        client_batch_result(client, batch, err, row);
    }
    free(produce);
}

/* What one request takes of the gathered batches: in order, one of each partition. */
static void client_produce_pick(struct client *client, struct client_broker *broker,
                                struct client_produce_call *produce, size_t *ret_bytes)
{
    size_t bytes = 0;
    uint64_t mark = ++client->request_mark;
    list_for_each_safe (node, after, &broker->batches) {
        struct client_batch *batch = list_entry(node, struct client_batch, gather_link);
        if (batch->partition->request_mark == mark)
            continue;
        /* A broker closes the connection for a request over its socket.request.max.bytes. */
        if (bytes > 0 && bytes + batch->frame->used > client->config.record_bytes_max)
            break;
        batch->partition->request_mark = mark;
        bytes += batch->frame->used;
        list_remove(&batch->gather_link);
        batch->call = produce;
        batch->call_slot = produce->count;
        produce->batches[produce->count++] = batch;
    }
    *ret_bytes = bytes;
}

static err_t client_produce_start(struct client *client, struct client_broker *broker,
                                  struct client_produce_call *produce, size_t bytes)
{
    arena_reset(&client->arena);
    Karst__ProducePartition *rows = arena_calloc(&client->arena, produce->count, sizeof(*rows));
    Karst__ProducePartition **row_list =
        arena_calloc(&client->arena, produce->count, sizeof(*row_list));
    if (rows == NULL || row_list == NULL)
        return ERR_NO_MEMORY;
    Karst__ProduceRequest request = KARST__PRODUCE_REQUEST__INIT;
    request.acks = client->config.acks;
    request.partitions = row_list;
    request.n_partitions = produce->count;
    uint64_t now = client_now(client), most_ns = ENV_MS(client->config.request_timeout_ms);
    uint64_t least_ns = most_ns < ENV_MS(CLIENT_ANSWER_MS) ? most_ns : ENV_MS(CLIENT_ANSWER_MS);
    uint64_t deadline_ns = now + most_ns;
    for (size_t i = 0; i < produce->count; i++) {
        const struct client_batch *batch = produce->batches[i];
        const struct client_partition *p = batch->partition;
        karst__produce_partition__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&p->topic->id);
        rows[i].index = p->index;
        rows[i].bytes = batch->frame->used;
        rows[i].has_leader_epoch = p->leader_epoch >= 0;
        rows[i].leader_epoch = p->leader_epoch;
        row_list[i] = &rows[i];
        if (batch->deadline_ns < deadline_ns)
            deadline_ns = batch->deadline_ns;
    }
    /* A batch at the end of its time is no reason to give up a connection that others use. */
    if (deadline_ns < now + least_ns)
        deadline_ns = now + least_ns;
    /* The broker gives up before we do, and says so: a call that passes its deadline ends the
     * connection, and what others have under way there. */
    request.timeout_ms = (uint32_t)((deadline_ns - now) / ENV_MS(1) / 5 * 4 + 1);
    produce->call.method = WIRE_PRODUCE;
    produce->call.done = client->config.acks == 0 ? NULL : client_produce_done;
    produce->call.deadline_ns = deadline_ns;
    return client_call_start(client, broker, &produce->call, &request.base, bytes);
}

static void client_produce_request(struct client *client, struct client_broker *broker)
{
    size_t count = 0;
    list_for_each (node, &broker->batches)
        count++;
    struct client_produce_call *produce =
        calloc(1, sizeof(*produce) + count * sizeof(struct client_batch *));
    if (produce == NULL) {
        struct list_node *node = list_pop_front(&broker->batches);
        client_batch_result(client, list_entry(node, struct client_batch, gather_link),
                            ERR_NO_MEMORY, NULL);
        return;
    }
    size_t bytes;
    client_produce_pick(client, broker, produce, &bytes);
    err_t err = client_produce_start(client, broker, produce, bytes);
    if (err != ERR_OK) {
        client_produce_done(client, &produce->call, err, NULL);
        return;
    }
    for (size_t i = 0; i < produce->count; i++) {
        struct frame *frame = produce->batches[i]->frame;
        client_call_part(client, broker, frame_ref(frame), frame->used);
    }
    if (client->config.acks == 0) /* nobody will say anything */
        client_produce_done(client, &produce->call, ERR_OK, NULL);
}

void client_producer_send(struct client *client)
{
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        while (!list_empty(&broker->batches))
            client_produce_request(client, broker);
    }
}

/* ---- what came of it ---- */

void client_producer_detach(struct client *client, struct client_partition *p)
{
    if (!client->config.idempotent)
        return; /* what was done, and not answered, would be done twice */
    list_for_each (node, &p->batches) {
        struct client_batch *batch = list_entry(node, struct client_batch, link);
        if (!batch->in_flight || batch->call == NULL)
            continue;
        batch->call->batches[batch->call_slot] = NULL;
        batch->call = NULL;
        batch->in_flight = false;
        batch->perhaps_written = true;
        p->in_flight--;
    }
}

/* What is acknowledged is told in order: not before all ahead of it. */
static void client_settle(struct client *client, struct client_partition *p)
{
    while (!list_empty(&p->batches)) {
        struct client_batch *first = list_entry(p->batches.next, struct client_batch, link);
        if (!first->acknowledged)
            return;
        client_batch_done(client, first, ERR_OK, first->base_offset);
    }
}

/* Nothing of the batch is in the log after this answer. */
static bool client_err_refuses(err_t err)
{
    return err == ERR_NOT_ENOUGH_REPLICAS || err == ERR_NOT_ENOUGH_SPACE;
}

/* When its time is over: why it was refused all along, or that nobody knows what became of it. */
static err_t client_batch_why_late(const struct client_batch *batch)
{
    if (batch->perhaps_written || batch->refused == ERR_OK)
        return ERR_REQUEST_TIMED_OUT;
    return batch->refused;
}

static void client_batch_failed_for_good(struct client *client, struct client_batch *batch,
                                         err_t err)
{
    struct client_partition *p = batch->partition;
    if (p != NULL && batch->id_generation != 0) {
        /* Its numbers may be missing: then the first one behind it is told of a gap, and all take a
         * sequence of their own. Not before: what was sent behind it may be written, as it may be
         * itself, and under other numbers would be written again. */
        p->draining = true;
        client_partition_dirty(client, p);
    }
    client_batch_done(client, batch, err, -1);
    if (p != NULL)
        client_settle(client, p);
}

static void client_batch_result(struct client *client, struct client_batch *batch, err_t err,
                                const Karst__ProducePartitionReply *row)
{
    struct client_partition *p = batch->partition;
    bool first = p->batches.next == &batch->link;
    ASSERT(batch->in_flight);
    batch->in_flight = false;
    batch->call = NULL;
    p->in_flight--;
    client_partition_dirty(client, p);
    if (err == ERR_OK || err == ERR_DUPLICATE_SEQUENCE_NUMBER) {
        client_partition_worked(p);
        batch->acknowledged = true;
        batch->base_offset = row == NULL ? -1 : row->base_offset;
        client_settle(client, p);
        return;
    }
    if (row != NULL && client_err_refuses(err))
        batch->refused = err;
    else
        batch->perhaps_written = true;
    /* All that is under way comes back before anything is sent: order, and sequences, are kept.
     * What comes back with the first failure says nothing new, but perhaps who leads. */
    bool known = p->draining;
    p->draining = true;
    bool sequence_broken = err == ERR_UNKNOWN_PRODUCER_ID || err == ERR_INVALID_PRODUCER_EPOCH ||
                           err == ERR_PRODUCER_FENCED;
    bool gap = err == ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
    if (client->config.idempotent && (sequence_broken || gap)) {
        /* A gap before a later batch is no news: an earlier one has failed, and is sent again
         * first. Before the first of all it means that the broker has lost what it had
         * acknowledged. */
        if (sequence_broken || first)
            p->renew = true;
    } else if (p->topic->err != ERR_OK) {
        client_batch_failed_for_good(client, batch, p->topic->err);
        return;
    } else if (!err_retriable(err)) {
        client_batch_failed_for_good(client, batch, err);
        return;
    }
    if (client_now(client) >= batch->deadline_ns) {
        client_batch_failed_for_good(client, batch, client_batch_why_late(batch));
        return;
    }
    node_id_t hint = row == NULL ? NO_NODE : row->leader;
    leader_epoch_t hint_epoch = row == NULL ? -1 : row->leader_epoch;
    if (!known || (hint != NO_NODE && hint_epoch > p->leader_epoch))
        client_partition_failed(client, p, err, hint, hint_epoch);
}

/* ---- time, and the end of topics ---- */

static void client_fail_sealed(struct client *client, struct list_node *batches, uint64_t before_ns,
                               err_t err)
{
    /* From the start after each: with one, those behind it may be settled, too. */
    struct list_node *node = batches->next;
    while (node != batches) {
        struct client_batch *batch = list_entry(node, struct client_batch, link);
        node = node->next;
        if (batch->in_flight || batch->acknowledged || batch->deadline_ns > before_ns)
            continue;
        client_batch_failed_for_good(
            client, batch, err == ERR_REQUEST_TIMED_OUT ? client_batch_why_late(batch) : err);
        node = batches->next;
    }
}

static void client_fail_open(struct client *client, struct client_batch **open, uint64_t before_ns,
                             err_t err)
{
    struct client_batch *batch = *open;
    if (batch == NULL || batch->deadline_ns > before_ns)
        return;
    *open = NULL;
    client_batch_failed_for_good(client, batch, err);
}

static void client_fail_topic(struct client *client, struct client_topic *topic, uint64_t before_ns,
                              err_t err)
{
    client_fail_sealed(client, &topic->unassigned, before_ns, err);
    client_fail_open(client, &topic->unassigned_open, before_ns, err);
    for (int32_t i = 0; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL || !client_producer_has_work(p))
            continue;
        client_fail_sealed(client, &p->batches, before_ns, err);
        client_fail_open(client, &p->open, before_ns, err);
    }
}

void client_producer_tick(struct client *client, struct client_topic *topic, uint64_t now)
{
    client_fail_topic(client, topic, now, ERR_REQUEST_TIMED_OUT);
}

void client_producer_topic_gone(struct client *client, struct client_topic *topic, err_t err)
{
    client_fail_topic(client, topic, UINT64_MAX, err);
}

void client_producer_reset(struct client *client, struct client_partition *p)
{
    p->draining = true;
    p->renew = client->config.idempotent;
}

/* ---- records that waited for their topic ---- */

/* The record's headers, as batch_add takes them; of arena. */
static const struct record_header *client_headers_of(struct arena *arena,
                                                     const struct record *record)
{
    struct record_header *headers =
        arena_calloc(arena, (size_t)record->header_count + 1, sizeof(*headers));
    struct reader reader;
    reader_init(&reader, record->headers.data, record->headers.len);
    for (int32_t i = 0; headers != NULL && i < record->header_count; i++) {
        err_t err = record_header_next(&reader, &headers[i]);
        ASSERT(err == ERR_OK); /* our own bytes */
    }
    return headers;
}

/* One by one, by their keys. Returns how many found a place: all, or memory has ended. */
static uint32_t client_spread(struct client *client, struct client_topic *topic,
                              struct client_batch *batch)
{
    struct record_cursor cursor;
    struct record read;
    struct arena arena;
    uint32_t moved = 0;
    size_t bytes = batch_finish(&batch->builder, 0, -1, -1, -1);
    err_t err = record_cursor_init(&cursor, batch->builder.data, bytes);
    ASSERT(err == ERR_OK);
    arena_init(&arena, WIRE_UNPACKED_BYTES_MAX);
    while (record_cursor_next(&cursor, &read) == ERR_OK) {
        arena_reset(&arena);
        struct client_record record = {
            .key = read.key,
            .value = read.value,
            .headers = client_headers_of(&arena, &read),
            .header_count = read.header_count,
            .timestamp = read.timestamp,
            .opaque = batch->opaques == NULL ? NULL : batch->opaques[read.offset],
        };
        int32_t index = client_choose(client, topic, record.key);
        struct client_partition *p = client_partition_get(client, topic, index);
        if (p == NULL || record.headers == NULL || client_put(client, p, &record) != ERR_OK)
            break;
        moved++;
    }
    arena_fini(&arena);
    return moved;
}

/* Whole batches where no record has a key. */
static err_t client_move(struct client *client, struct client_topic *topic,
                         struct client_batch *batch)
{
    int32_t index = client_choose_sticky(client, topic);
    struct client_partition *p = client_partition_get(client, topic, index);
    if (p == NULL)
        return ERR_NO_MEMORY;
    batch->partition = p;
    list_push_back(&p->batches, &batch->link);
    client_partition_dirty(client, p);
    return ERR_OK;
}

void client_producer_assign(struct client *client, struct client_topic *topic)
{
    if (topic->partition_count == 0)
        return;
    for (int32_t i = topic->partition_count; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL)
            continue;
        client_fail_sealed(client, &p->batches, UINT64_MAX, ERR_UNKNOWN_TOPIC_OR_PARTITION);
        client_fail_open(client, &p->open, UINT64_MAX, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    if (topic->unassigned_open != NULL)
        list_push_back(&topic->unassigned, &topic->unassigned_open->link);
    topic->unassigned_open = NULL;
    struct list_node *node;
    client->overdraft = true;
    while ((node = list_pop_front(&topic->unassigned)) != NULL) {
        struct client_batch *batch = list_entry(node, struct client_batch, link);
        if (!batch->keyed && client_move(client, topic, batch) == ERR_OK)
            continue;
        uint32_t moved = client_spread(client, topic, batch);
        uint32_t left = (uint32_t)batch->builder.count - moved;
        if (left == 0) {
            client_batch_free(client, batch);
            continue;
        }
        if (batch->opaques != NULL)
            memmove(batch->opaques, batch->opaques + moved, left * sizeof(void *));
        batch->builder.count = (int32_t)left;
        client_batch_failed_for_good(client, batch, ERR_NO_MEMORY);
    }
    client->overdraft = false;
}

void client_producer_free(struct client *client, struct client_topic *topic)
{
    (void)client;
    ASSERT(list_empty(&topic->unassigned) && topic->unassigned_open == NULL);
    for (int32_t i = 0; i < topic->partition_room; i++)
        ASSERT(topic->partitions[i] == NULL || !client_producer_has_work(topic->partitions[i]));
}

/* ---- the producer's id ---- */

static void client_id_done(struct client *client, struct client_call *call, err_t err,
                           const struct client_reply *reply)
{
    free(call);
    ASSERT(reply != NULL || err != ERR_OK);
    client->id_in_flight = false;
    const Karst__InitProducerIdReply *message =
        reply == NULL ? NULL : (const Karst__InitProducerIdReply *)reply->message;
    if (err == ERR_OK)
        err = message->error;
    if (err != ERR_OK || message->producer_id < 0 || message->producer_epoch > INT16_MAX) {
        client->id_retry_ns = client_now(client) + ENV_MS(CLIENT_RETRY_MS);
        return;
    }
    client->id_generation++;
    client->producer_id = message->producer_id;
    client->producer_epoch = (int16_t)message->producer_epoch;
    client->id_wanted = false;
    client_all_dirty(client);
}

uint64_t client_producer_id_turn(struct client *client, uint64_t now)
{
    if (!client->id_wanted || client->id_in_flight)
        return 0;
    if (now < client->id_retry_ns)
        return client->id_retry_ns;
    uint64_t again_ns = now + ENV_MS(CLIENT_RETRY_MS);
    struct client_broker *broker = client_broker_any(client, now);
    struct client_call *call = broker == NULL ? NULL : calloc(1, sizeof(*call));
    if (call == NULL)
        return again_ns;
    Karst__InitProducerIdRequest request = KARST__INIT_PRODUCER_ID_REQUEST__INIT;
    call->method = WIRE_INIT_PRODUCER_ID;
    call->done = client_id_done;
    if (client_call_start(client, broker, call, &request.base, 0) != ERR_OK) {
        free(call);
        return again_ns;
    }
    client->id_in_flight = true;
    return 0;
}
