/* sim_producer.c - a producer: one lane for each partition, up to five batches of a lane under way,
 * sent again in order until they are acknowledged, with the acks of their topic. One request
 * carries the due batches of all partitions with the same acks that a broker leads. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/sim_client.h"

enum {
    LANES = LOAD_TOPICS * LOAD_PARTITIONS_MAX,
    IN_FLIGHT_MAX = 5, /* of a lane: the broker's window of sequences */
    CALLS_MAX = 32,
    ROWS_MAX = LANES * IN_FLIGHT_MAX,
    BATCH_BYTES_MAX = 40 << 10,
    REQUEST_BYTES_MAX = 200 << 10,
};

enum batch_state { BATCH_FREE, BATCH_WAITS, BATCH_SENT, BATCH_ACKED };

struct lane_batch {
    enum batch_state state;
    uint64_t number;  /* tells this use of the place from earlier ones */
    uint32_t attempt; /* of the last time it was sent */
    uint64_t again_at_ns;
    uint8_t *bytes;
    uint32_t len, crc;
    int32_t count, base_sequence;
};

struct lane {
    int topic;
    int32_t index;
    struct lane_batch batches[IN_FLIGHT_MAX]; /* a ring, oldest first */
    unsigned first, used;
    int32_t next_sequence;
    uint64_t next_at_ns;
    uint64_t interval_ns;
};

struct call_row {
    struct lane *lane;
    struct lane_batch *batch;
    uint64_t number;
    uint32_t attempt;
};

struct produce_call {
    struct client_call call; /* first */
    struct call_row rows[ROWS_MAX];
    unsigned row_count;
};

struct producer {
    producer_id_t id;
    int16_t epoch;
    struct client_call init;
    struct lane lanes[LANES];
    unsigned lane_count;
    struct produce_call calls[CALLS_MAX];
    uint64_t numbers;
    uint8_t *scratch; /* a request's attachment */
};

/* ---- producer id ---- */

static void init_done(struct sim_client *client, struct client_call *call, err_t err,
                      const ProtobufCMessage *message, struct bytes attachment)
{
    (void)call;
    (void)attachment;
    struct producer *producer = client->state;
    const Karst__InitProducerIdReply *reply = (const Karst__InitProducerIdReply *)message;
    if (err != ERR_OK || reply->error != ERR_OK)
        return; /* again by the tick */
    producer->id = reply->producer_id;
    producer->epoch = (int16_t)reply->producer_epoch;
    sim_say(client->run, "client %u is producer %" PRId64, client->idx, producer->id);
}

/* ---- batches ---- */

static struct lane_batch *lane_at(struct lane *lane, unsigned nth)
{
    return &lane->batches[(lane->first + nth) % IN_FLIGHT_MAX];
}

static void lane_make(struct sim_client *client, struct lane *lane)
{
    struct producer *producer = client->state;
    bool idempotent = load_topics[lane->topic].idempotent;
    struct lane_batch *batch = lane_at(lane, lane->used++);
    uint8_t value[8000];
    uint8_t *data = malloc(BATCH_BYTES_MAX);
    ASSERT(data != NULL);
    struct batch_builder builder;
    batch_begin(&builder, data, BATCH_BYTES_MAX);
    uint64_t records = rng_between(&client->rng, 1, 8);
    bool large = rng_chance(&client->rng, 30000);
    for (uint64_t i = 0; i < records; i++) {
        size_t len = rng_below(&client->rng, large ? 7000 : 200) + 8;
        uint64_t seed = rng_next(&client->rng);
        put_u64(value, seed);
        memset(value + 8, (int)(seed & 0xff), len - 8);
        err_t err = batch_add(&builder, INT64_C(1700000000000) + (int64_t)i,
                              (struct bytes){NULL, 0}, (struct bytes){value, len}, NULL, 0);
        if (err != ERR_OK)
            break; /* full */
    }
    size_t len =
        batch_finish(&builder, 0, idempotent ? producer->id : -1, idempotent ? producer->epoch : -1,
                     idempotent ? lane->next_sequence : -1);
    struct batch_info info;
    ASSERT(batch_check(data, len, &info) == ERR_OK);
    *batch = (struct lane_batch){.state = BATCH_WAITS,
                                 .number = ++producer->numbers,
                                 .bytes = data,
                                 .len = (uint32_t)len,
                                 .crc = info.crc,
                                 .count = info.record_count,
                                 .base_sequence = info.base_sequence};
    lane->next_sequence += info.record_count;
}

static void lane_retire(struct lane *lane)
{
    while (lane->used > 0 && lane_at(lane, 0)->state == BATCH_ACKED) {
        free(lane_at(lane, 0)->bytes);
        *lane_at(lane, 0) = (struct lane_batch){.state = BATCH_FREE};
        lane->first = (lane->first + 1) % IN_FLIGHT_MAX;
        lane->used--;
    }
}

/* ---- answers ---- */

static void batch_again(struct sim_client *client, struct lane_batch *batch)
{
    batch->state = BATCH_WAITS;
    batch->again_at_ns = client_now(client) + rng_between(&client->rng, ENV_MS(5), ENV_MS(100));
    client->run->counters.retries++;
    client_want_metadata(client);
}

static void batch_acked(struct sim_client *client, struct call_row *row,
                        const Karst__ProducePartitionReply *reply)
{
    struct producer *producer = client->state;
    const struct load_topic *topic = &load_topics[row->lane->topic];
    row->batch->state = BATCH_ACKED;
    if (topic->acks == -1) {
        struct check_ack ack = {.id = {client->topics[row->lane->topic].id, row->lane->index},
                                .base_offset = reply->base_offset,
                                .crc = row->batch->crc,
                                .count = row->batch->count,
                                .producer_id = topic->idempotent ? producer->id : -1,
                                .base_sequence = row->batch->base_sequence};
        check_data_acked(client->run->data, &ack);
    }
    lane_retire(row->lane);
}

static bool error_expected(const struct lane *lane, err_t err)
{
    if (err_retriable(err) || err == ERR_STALE_BROKER_EPOCH)
        return true;
    /* A later batch of the window may arrive where an earlier one was refused or lost; and a
     * deposed leader does not know all that its successor has taken. */
    return load_topics[lane->topic].idempotent && err == ERR_OUT_OF_ORDER_SEQUENCE_NUMBER;
}

static void row_answered(struct sim_client *client, struct call_row *row,
                         const Karst__ProducePartitionReply *reply)
{
    struct lane_batch *batch = row->batch;
    if (batch->number != row->number || batch->attempt != row->attempt ||
        batch->state != BATCH_SENT)
        return; /* sent again meanwhile */
    if (reply->error == ERR_OK || (reply->error == ERR_DUPLICATE_SEQUENCE_NUMBER &&
                                   load_topics[row->lane->topic].idempotent)) {
        batch_acked(client, row, reply);
        return;
    }
    if (!error_expected(row->lane, reply->error))
        sim_fail(client->run, "legal batches are taken", "client %u, %s-%d, sequence %d: %s %s",
                 client->idx, load_topics[row->lane->topic].name, row->lane->index,
                 batch->base_sequence, err_name(reply->error),
                 reply->message == NULL ? "" : reply->message);
    batch_again(client, batch);
}

static void produce_done(struct sim_client *client, struct client_call *base, err_t err,
                         const ProtobufCMessage *message, struct bytes attachment)
{
    (void)attachment;
    struct produce_call *call = container_of(base, struct produce_call, call);
    const Karst__ProduceReply *reply = (const Karst__ProduceReply *)message;
    if (err == ERR_OK && reply->n_partitions != call->row_count) {
        sim_fail(client->run, "replies answer their requests", "%zu of %u partitions",
                 reply->n_partitions, call->row_count);
        return;
    }
    for (unsigned i = 0; i < call->row_count; i++) {
        struct call_row *row = &call->rows[i];
        if (err == ERR_OK)
            row_answered(client, row, reply->partitions[i]);
        else if (row->batch->number == row->number && row->batch->attempt == row->attempt &&
                 row->batch->state == BATCH_SENT)
            batch_again(client, row->batch);
    }
}

/* ---- sending ---- */

/* Adds what is due of a lane, in order; a batch that waits holds back those behind it. */
static void lane_gather(struct lane *lane, uint64_t now, struct produce_call *call,
                        struct producer *producer, size_t *bytes)
{
    for (unsigned i = 0; i < lane->used; i++) {
        struct lane_batch *batch = lane_at(lane, i);
        if (batch->state != BATCH_WAITS)
            continue;
        if (batch->again_at_ns > now || *bytes + batch->len > REQUEST_BYTES_MAX)
            return;
        memcpy(producer->scratch + *bytes, batch->bytes, batch->len);
        *bytes += batch->len;
        batch->state = BATCH_SENT;
        batch->attempt++;
        call->rows[call->row_count++] = (struct call_row){
            .lane = lane, .batch = batch, .number = batch->number, .attempt = batch->attempt};
        return; /* the lane's next one goes with the next request: many are under way at a time */
    }
}

static void produce_send(struct sim_client *client, struct produce_call *call, unsigned broker,
                         int16_t acks, size_t bytes)
{
    struct producer *producer = client->state;
    Karst__ProducePartition rows[ROWS_MAX];
    Karst__ProducePartition *pointers[ROWS_MAX];
    bool epochs = rng_chance(&client->rng, 500000);
    for (unsigned i = 0; i < call->row_count; i++) {
        struct lane *lane = call->rows[i].lane;
        struct client_topic *topic = &client->topics[lane->topic];
        rows[i] = (Karst__ProducePartition)KARST__PRODUCE_PARTITION__INIT;
        rows[i].topic_id = wire_put_uuid(&topic->id);
        rows[i].index = lane->index;
        rows[i].bytes = call->rows[i].batch->len;
        rows[i].has_leader_epoch = epochs;
        rows[i].leader_epoch = epochs ? topic->partitions[lane->index].leader_epoch : -1;
        pointers[i] = &rows[i];
    }
    Karst__ProduceRequest request = KARST__PRODUCE_REQUEST__INIT;
    request.acks = acks;
    request.timeout_ms = 1500;
    request.n_partitions = call->row_count;
    request.partitions = pointers;
    client_call(client, &call->call, broker, &request.base,
                (struct bytes){producer->scratch, bytes});
}

static void produce_to(struct sim_client *client, unsigned broker, int16_t acks, uint64_t now)
{
    struct producer *producer = client->state;
    struct produce_call *call = NULL;
    for (int i = 0; i < CALLS_MAX && call == NULL; i++)
        if (!producer->calls[i].call.active)
            call = &producer->calls[i];
    if (call == NULL)
        return; /* bound: CALLS_MAX; the next tick */
    call->row_count = 0;
    size_t bytes = 0;
    for (unsigned i = 0; i < producer->lane_count; i++) {
        struct lane *lane = &producer->lanes[i];
        unsigned leader;
        if (load_topics[lane->topic].acks == acks &&
            client_broker(client, client->topics[lane->topic].partitions[lane->index].leader,
                          &leader) &&
            leader == broker)
            lane_gather(lane, now, call, producer, &bytes);
    }
    if (call->row_count > 0)
        produce_send(client, call, broker, acks, bytes);
}

static void producer_tick(struct sim_client *client, uint64_t now)
{
    struct producer *producer = client->state;
    for (int i = 0; i < load_topic_count(client->run); i++)
        if (!client->topics[i].known)
            return;
    if (producer->id < 0) {
        Karst__InitProducerIdRequest request = KARST__INIT_PRODUCER_ID_REQUEST__INIT;
        if (!producer->init.active)
            client_call(client, &producer->init, client_any_broker(client), &request.base,
                        (struct bytes){NULL, 0});
        return;
    }
    for (unsigned i = 0; i < producer->lane_count; i++) {
        struct lane *lane = &producer->lanes[i];
        if (client->load_ended || lane->used == IN_FLIGHT_MAX || now < lane->next_at_ns)
            continue;
        lane_make(client, lane);
        lane->next_at_ns = now + rng_below(&client->rng, lane->interval_ns * 2);
    }
    for (unsigned broker = 0; broker < client->run->node_count; broker++) {
        produce_to(client, broker, -1, now);
        produce_to(client, broker, 1, now);
    }
}

/* ---- life ---- */

static void producer_start(struct sim_client *client)
{
    struct producer *producer = calloc(1, sizeof *producer);
    ASSERT(producer != NULL);
    client->state = producer;
    producer->id = -1;
    producer->init = (struct client_call){.method = WIRE_INIT_PRODUCER_ID, .done = init_done};
    producer->scratch = malloc(REQUEST_BYTES_MAX);
    ASSERT(producer->scratch != NULL);
    for (int i = 0; i < CALLS_MAX; i++)
        producer->calls[i].call =
            (struct client_call){.method = WIRE_PRODUCE, .done = produce_done};
    for (int topic = 0; topic < load_topic_count(client->run); topic++)
        for (int32_t index = 0; !load_topics[topic].karst && index < load_topics[topic].partitions;
             index++)
            producer->lanes[producer->lane_count++] =
                (struct lane){.topic = topic,
                              .index = index,
                              .interval_ns = rng_between(&client->rng, ENV_MS(40), ENV_MS(300))};
}

static bool producer_idle(struct sim_client *client, char *ret_why, size_t size)
{
    const struct producer *producer = client->state;
    for (unsigned i = 0; i < producer->lane_count; i++) {
        const struct lane *lane = &producer->lanes[i];
        if (lane->used == 0)
            continue;
        (void)snprintf(ret_why, size, "client %u still has %u batches for %s-%d (leader %d)",
                       client->idx, lane->used, load_topics[lane->topic].name, lane->index,
                       client->topics[lane->topic].partitions[lane->index].leader);
        return false;
    }
    return true;
}

/* In the end one more batch for every lane: all partitions must take records again. */
static void producer_end_load(struct sim_client *client)
{
    struct producer *producer = client->state;
    if (producer->id < 0)
        return;
    for (unsigned i = 0; i < producer->lane_count; i++)
        if (producer->lanes[i].used < IN_FLIGHT_MAX)
            lane_make(client, &producer->lanes[i]);
}

static void producer_free(struct sim_client *client)
{
    struct producer *producer = client->state;
    for (unsigned i = 0; i < producer->lane_count; i++)
        for (int k = 0; k < IN_FLIGHT_MAX; k++)
            free(producer->lanes[i].batches[k].bytes);
    free(producer->scratch);
    free(producer);
}

const struct client_role producer_role = {.start = producer_start,
                                          .tick = producer_tick,
                                          .end_load = producer_end_load,
                                          .idle = producer_idle,
                                          .free = producer_free};
