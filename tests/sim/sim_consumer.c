/* sim_consumer.c - a consumer: asks where partitions begin and end, starts anywhere between, reads
 * on to the end and tails a while, then starts elsewhere. When the load has ended it reads all of
 * them from their beginning to their end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/sim_client.h"

enum { SPANS = LOAD_TOPICS * LOAD_PARTITIONS_MAX };

enum span_state { SPAN_ASKS, SPAN_READS, SPAN_READ_ALL };

struct span {
    int topic;
    int32_t index;
    enum span_state state;
    bool busy; /* part of a call */
    bool from_the_end;
    offset_t position, all_until;
    uint64_t until_ns; /* then elsewhere */
    uint64_t again_at_ns;
};

struct span_call {
    struct client_call call; /* first */
    struct span *spans[SPANS];
    offset_t offsets[SPANS]; /* asked for */
    bool epochs;             /* the request named the leader epochs */
    unsigned count;
};

struct consumer {
    struct span spans[SPANS];
    unsigned span_count;
    struct span_call fetches[RUN_NODES_MAX], lists[RUN_NODES_MAX];
};

static struct partition_id span_id(const struct sim_client *client, const struct span *span)
{
    return (struct partition_id){client->topics[span->topic].id, span->index};
}

static void span_error(struct sim_client *client, struct span *span)
{
    span->again_at_ns = client_now(client) + rng_between(&client->rng, ENV_MS(10), ENV_MS(150));
    client_want_metadata(client);
}

/* ---- fetches ---- */

/* Out of range is only what the log never had: what this offset rests on was committed. */
static void fetch_error(struct sim_client *client, const struct span_call *call, struct span *span,
                        const Karst__FetchPartitionReply *reply)
{
    struct partition_id id = span_id(client, span);
    if (reply->error == ERR_OFFSET_OUT_OF_RANGE && call->epochs &&
        span->position <= check_data_end(client->run->data, &id) && /* asked at or below it */
        check_data_settled(client->run->data, &id))
        sim_fail(client->run, "what was committed can be read",
                 "node %u says that %" PRId64 " of %s-%d is out of range", call->call.broker + 1,
                 span->position, load_topics[span->topic].name, span->index);
    else if (!err_retriable(reply->error) && reply->error != ERR_OFFSET_OUT_OF_RANGE)
        sim_fail(client->run, "legal fetches are served", "%s-%d at %" PRId64 ": %s %s",
                 load_topics[span->topic].name, span->index, span->position, err_name(reply->error),
                 reply->message == NULL ? "" : reply->message);
    span_error(client, span);
}

static void fetch_done(struct sim_client *client, struct client_call *base, err_t err,
                       const ProtobufCMessage *message, struct bytes attachment)
{
    struct span_call *call = container_of(base, struct span_call, call);
    const Karst__FetchReply *reply = (const Karst__FetchReply *)message;
    if (err == ERR_OK && reply->n_partitions != call->count) {
        sim_fail(client->run, "replies answer their requests", "%zu of %u partitions",
                 reply->n_partitions, call->count);
        return;
    }
    size_t at = 0;
    for (unsigned i = 0; i < call->count; i++) {
        struct span *span = call->spans[i];
        span->busy = false;
        if (span->position != call->offsets[i] && err != ERR_OK)
            continue; /* sent elsewhere meanwhile */
        if (err != ERR_OK) {
            span_error(client, span);
            continue;
        }
        const Karst__FetchPartitionReply *row = reply->partitions[i];
        if (row->error != ERR_OK) {
            fetch_error(client, call, span, row);
            continue;
        }
        if (row->bytes > attachment.len - at) {
            sim_fail(client->run, "replies can be decoded", "an attachment is too short");
            return;
        }
        struct partition_id id = span_id(client, span);
        offset_t next = call->offsets[i];
        check_data_read(client->run->data, &id, next, row->high_watermark,
                        (struct bytes){attachment.data + at, row->bytes}, &next);
        at += row->bytes;
        if (span->position == call->offsets[i]) /* else it was sent elsewhere meanwhile */
            span->position = next;
    }
}

static void fetch_from(struct sim_client *client, struct consumer *consumer, unsigned broker,
                       uint64_t now)
{
    struct span_call *call = &consumer->fetches[broker];
    if (call->call.active)
        return;
    Karst__FetchPartition rows[SPANS];
    Karst__FetchPartition *pointers[SPANS];
    call->count = 0;
    call->epochs = rng_chance(&client->rng, 500000);
    for (unsigned i = 0; i < consumer->span_count; i++) {
        struct span *span = &consumer->spans[i];
        struct client_topic *topic = &client->topics[span->topic];
        unsigned leader;
        if (span->state == SPAN_ASKS || span->busy || now < span->again_at_ns ||
            !client_broker(client, topic->partitions[span->index].leader, &leader) ||
            leader != broker)
            continue;
        if (span->state == SPAN_READ_ALL && span->position >= span->all_until)
            continue;
        Karst__FetchPartition *row = &rows[call->count];
        *row = (Karst__FetchPartition)KARST__FETCH_PARTITION__INIT;
        row->topic_id = wire_put_uuid(&topic->id);
        row->index = span->index;
        row->offset = span->position;
        row->bytes_max = (uint32_t)rng_between(&client->rng, 1, 128 << 10);
        row->has_leader_epoch = call->epochs;
        row->leader_epoch = call->epochs ? topic->partitions[span->index].leader_epoch : -1;
        pointers[call->count] = row;
        span->busy = true;
        call->offsets[call->count] = span->position;
        call->spans[call->count++] = span;
    }
    if (call->count == 0)
        return;
    Karst__FetchRequest request = KARST__FETCH_REQUEST__INIT;
    request.wait_ms_max = (uint32_t)rng_below(&client->rng, 500);
    request.bytes_min = (uint32_t)rng_below(&client->rng, 5000);
    request.bytes_max = 512 << 10;
    request.n_partitions = call->count;
    request.partitions = pointers;
    client_call(client, &call->call, broker, &request.base, (struct bytes){NULL, 0});
}

/* ---- where partitions begin and end ---- */

static void list_row(struct sim_client *client, struct span *span,
                     const Karst__ListOffsetsPartitionReply *row)
{
    struct partition_id id = span_id(client, span);
    if (row->error != ERR_OK) {
        if (!err_retriable(row->error))
            sim_fail(client->run, "legal requests are served", "list offsets of %s-%d: %s",
                     load_topics[span->topic].name, span->index, err_name(row->error));
        span_error(client, span);
        return;
    }
    /* Not above what any leader's high watermark was; a deposed leader may know less. */
    bool settled = check_data_settled(client->run->data, &id);
    if (row->offset < 0 || (settled && row->offset > check_data_end(client->run->data, &id))) {
        sim_fail(client->run, "consumers see only what is committed",
                 "%s-%d ends at %" PRId64 ", but %" PRId64 " is committed",
                 load_topics[span->topic].name, span->index, row->offset,
                 check_data_end(client->run->data, &id));
        return;
    }
    span->state = SPAN_READS;
    span->position = row->offset;
    if (span->from_the_end && row->offset > 0 && rng_chance(&client->rng, 700000))
        span->position = (offset_t)rng_below(&client->rng, (uint64_t)row->offset);
    span->until_ns = client_now(client) + rng_between(&client->rng, ENV_MS(500), ENV_MS(5000));
}

static void list_done(struct sim_client *client, struct client_call *base, err_t err,
                      const ProtobufCMessage *message, struct bytes attachment)
{
    (void)attachment;
    struct span_call *call = container_of(base, struct span_call, call);
    const Karst__ListOffsetsReply *reply = (const Karst__ListOffsetsReply *)message;
    if (err == ERR_OK && reply->n_partitions != call->count) {
        sim_fail(client->run, "replies answer their requests", "%zu of %u partitions",
                 reply->n_partitions, call->count);
        return;
    }
    for (unsigned i = 0; i < call->count; i++) {
        call->spans[i]->busy = false;
        if (call->spans[i]->state != SPAN_ASKS)
            continue; /* to be read from the beginning meanwhile */
        if (err == ERR_OK)
            list_row(client, call->spans[i], reply->partitions[i]);
        else
            span_error(client, call->spans[i]);
    }
}

static void list_from(struct sim_client *client, struct consumer *consumer, unsigned broker,
                      uint64_t now)
{
    struct span_call *call = &consumer->lists[broker];
    if (call->call.active)
        return;
    Karst__ListOffsetsPartition rows[SPANS];
    Karst__ListOffsetsPartition *pointers[SPANS];
    call->count = 0;
    for (unsigned i = 0; i < consumer->span_count; i++) {
        struct span *span = &consumer->spans[i];
        struct client_topic *topic = &client->topics[span->topic];
        unsigned leader;
        if (span->state != SPAN_ASKS || span->busy || now < span->again_at_ns ||
            !client_broker(client, topic->partitions[span->index].leader, &leader) ||
            leader != broker)
            continue;
        Karst__ListOffsetsPartition *row = &rows[call->count];
        *row = (Karst__ListOffsetsPartition)KARST__LIST_OFFSETS_PARTITION__INIT;
        row->topic_id = wire_put_uuid(&topic->id);
        row->index = span->index;
        span->from_the_end = rng_chance(&client->rng, 800000);
        row->timestamp = span->from_the_end ? -1 : -2;
        pointers[call->count] = row;
        span->busy = true;
        call->spans[call->count++] = span;
    }
    if (call->count == 0)
        return;
    Karst__ListOffsetsRequest request = KARST__LIST_OFFSETS_REQUEST__INIT;
    request.n_partitions = call->count;
    request.partitions = pointers;
    client_call(client, &call->call, broker, &request.base, (struct bytes){NULL, 0});
}

/* ---- life ---- */

static void consumer_tick(struct sim_client *client, uint64_t now)
{
    struct consumer *consumer = client->state;
    for (int i = 0; i < load_topic_count(client->run); i++)
        if (!client->topics[i].known)
            return;
    for (unsigned i = 0; i < consumer->span_count; i++) {
        struct span *span = &consumer->spans[i];
        if (span->state == SPAN_READS && !span->busy && now > span->until_ns && !client->load_ended)
            span->state = SPAN_ASKS;
    }
    for (unsigned broker = 0; broker < client->run->node_count; broker++) {
        list_from(client, consumer, broker, now);
        fetch_from(client, consumer, broker, now);
    }
}

static void consumer_read_all(struct sim_client *client)
{
    struct consumer *consumer = client->state;
    for (unsigned i = 0; i < consumer->span_count; i++) {
        struct span *span = &consumer->spans[i];
        struct partition_id id = span_id(client, span);
        span->state = SPAN_READ_ALL;
        span->position = 0;
        span->all_until = check_data_end(client->run->data, &id);
    }
}

static bool consumer_idle(struct sim_client *client, char *ret_why, size_t size)
{
    const struct consumer *consumer = client->state;
    if (client->run->phase != RUN_READ)
        return true;
    for (unsigned i = 0; i < consumer->span_count; i++) {
        const struct span *span = &consumer->spans[i];
        if (span->position >= span->all_until)
            continue;
        (void)snprintf(ret_why, size, "client %u has read %s-%d to %" PRId64 " of %" PRId64,
                       client->idx, load_topics[span->topic].name, span->index, span->position,
                       span->all_until);
        return false;
    }
    return true;
}

static void consumer_start(struct sim_client *client)
{
    struct consumer *consumer = calloc(1, sizeof *consumer);
    ASSERT(consumer != NULL);
    client->state = consumer;
    for (int i = 0; i < RUN_NODES_MAX; i++) {
        consumer->fetches[i].call = (struct client_call){.method = WIRE_FETCH, .done = fetch_done};
        consumer->lists[i].call =
            (struct client_call){.method = WIRE_LIST_OFFSETS, .done = list_done};
    }
    for (int topic = 0; topic < load_topic_count(client->run); topic++)
        for (int32_t index = 0; index < load_topics[topic].partitions; index++)
            consumer->spans[consumer->span_count++] = (struct span){.topic = topic, .index = index};
}

static void consumer_free(struct sim_client *client)
{
    free(client->state);
}

const struct client_role consumer_role = {.start = consumer_start,
                                          .tick = consumer_tick,
                                          .read_all = consumer_read_all,
                                          .idle = consumer_idle,
                                          .free = consumer_free};
