#include "lib/check_main.h"

#include "base/rng.h"
#include "unit/client/lab.h"

#include <stdio.h>
#include <stdlib.h>

/* Random histories: leaders move, brokers are killed, frozen, and lose their answers, requests are
 * refused, while a client produces and reads. Afterwards all is healed, and every record must have
 * been acknowledged once, lie in its log once and in order, and have been read once and in order.
 */

enum { HISTORIES = 25, HISTORY_PARTITIONS = 4, HISTORY_STEPS = 400 };

struct history {
    struct lab lab;
    struct rng rng;
    struct lab_topic *topic;
    uintptr_t produced[HISTORY_PARTITIONS]; /* records, numbered from 1 in each */
    int64_t read[HISTORY_PARTITIONS];
};

/* Requests and answers are only ever lost with their connection. */
static void history_restart(struct history *h, node_id_t broker)
{
    h->lab.brokers[broker].mute = false;
    h->lab.brokers[broker].frozen = false;
    lab_kill(&h->lab, broker);
    lab_start(&h->lab, broker);
}

static void history_heal(struct history *h)
{
    for (node_id_t i = 1; i <= LAB_BROKERS; i++) {
        if (h->lab.brokers[i].mute || h->lab.brokers[i].frozen)
            history_restart(h, i);
        h->lab.brokers[i].down = false;
    }
    h->lab.produce_err_count = 0;
}

static node_id_t history_broker(struct history *h)
{
    return (node_id_t)rng_between(&h->rng, 1, LAB_BROKERS);
}

/* Whom a cluster would elect: one that is there, if there is one. */
static void history_elect(struct history *h, int32_t partition)
{
    for (int i = 0; i < 10; i++) {
        node_id_t broker = history_broker(h);
        if (!h->lab.brokers[broker].down && !h->lab.brokers[broker].frozen) {
            lab_lead(&h->lab, h->topic, partition, broker);
            return;
        }
    }
}

static void history_trouble(struct history *h)
{
    static const err_t errors[] = {ERR_NOT_ENOUGH_REPLICAS, ERR_REQUEST_TIMED_OUT,
                                   ERR_NOT_LEADER_OR_FOLLOWER, ERR_KAFKA_STORAGE_ERROR,
                                   ERR_THROTTLING_QUOTA_EXCEEDED};
    node_id_t broker = history_broker(h);
    struct lab_broker *of = &h->lab.brokers[broker];
    switch (rng_below(&h->rng, 8)) {
    case 0:
    case 1:
        history_elect(h, (int32_t)rng_below(&h->rng, HISTORY_PARTITIONS));
        break;
    case 2:
        if (!of->down)
            lab_kill(&h->lab, broker);
        for (int32_t i = 0; i < HISTORY_PARTITIONS; i++) {
            if (h->topic->partitions[i].leader == broker)
                history_elect(h, i);
        }
        break;
    case 3:
        lab_start(&h->lab, broker);
        break;
    case 4:
        if (of->frozen)
            history_restart(h, broker);
        else
            of->frozen = true;
        break;
    case 5:
        if (of->mute)
            history_restart(h, broker);
        else
            of->mute = true;
        break;
    case 6:
        h->lab.produce_err = errors[rng_below(&h->rng, ARRAY_LEN(errors))];
        h->lab.produce_err_count = (unsigned)rng_below(&h->rng, 6);
        break;
    default:
        h->lab.hints = !h->lab.hints;
    }
}

static void history_produce(struct history *h)
{
    for (uint64_t count = rng_below(&h->rng, 30); count > 0; count--) {
        int32_t partition = (int32_t)rng_below(&h->rng, HISTORY_PARTITIONS);
        err_t err = lab_produce(&h->lab, "orders", partition, h->produced[partition] + 1);
        ck_assert(err == ERR_OK || err == ERR_FULL);
        if (err == ERR_OK)
            h->produced[partition]++;
    }
}

static void history_read(struct history *h)
{
    struct client_slice *slice;
    while ((slice = client_take_slice(h->lab.client)) != NULL) {
        ck_assert_int_eq(slice->err, ERR_OK);
        for (size_t at = 0; at < slice->bytes;) {
            struct record_cursor cursor;
            struct record record;
            ck_assert_int_eq(record_cursor_init(&cursor, slice->data + at, slice->bytes - at),
                             ERR_OK);
            while (record_cursor_next(&cursor, &record) == ERR_OK) {
                if (record.offset < slice->from)
                    continue;
                ck_assert_int_eq(record.offset, h->read[slice->index]); /* no gaps here */
                h->read[slice->index]++;
            }
            at += cursor.info.bytes;
        }
        client_slice_returned(slice, slice->end);
        client_slice_free(h->lab.client, slice);
    }
}

static void history_check(struct history *h)
{
    uintptr_t next[HISTORY_PARTITIONS] = {0};
    for (size_t i = 0; i < h->lab.delivery_count; i++) {
        const struct lab_delivery *delivery = &h->lab.deliveries[i];
        ck_assert_int_eq(delivery->err, ERR_OK);
        ck_assert_uint_eq(delivery->opaque, ++next[delivery->partition]);
        if (delivery->offset >= 0) /* unknown: an answer was lost, and the window has passed */
            ck_assert_int_eq(delivery->offset, (int64_t)delivery->opaque - 1);
    }
    for (int32_t i = 0; i < HISTORY_PARTITIONS; i++) {
        uintptr_t *values = calloc(h->produced[i] + 1, sizeof(*values));
        ck_assert_uint_eq(next[i], h->produced[i]);
        ck_assert_uint_eq(lab_log_values(&h->topic->partitions[i], values, h->produced[i] + 1),
                          h->produced[i]);
        for (uintptr_t j = 0; j < h->produced[i]; j++)
            ck_assert_uint_eq(values[j], j + 1);
        ck_assert_int_eq(h->read[i], (int64_t)h->produced[i]);
        free(values);
    }
}

static void history_run(uint64_t seed)
{
    static struct history h;
    struct client_config config;
    h = (struct history){0};
    rng_seed(&h.rng, seed);
    client_config_init(&config);
    config.linger_ms = (uint32_t)rng_below(&h.rng, 6);
    config.batch_bytes = (uint32_t)rng_between(&h.rng, 512, 4096);
    config.buffer_bytes = 1 << 20;
    config.in_flight_max = (uint32_t)rng_between(&h.rng, 1, 5);
    lab_init(&h.lab, &config);
    h.topic = lab_add_topic(&h.lab, "orders", HISTORY_PARTITIONS);
    ck_assert_int_eq(client_subscribe(h.lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    for (int step = 0; step < HISTORY_STEPS; step++) {
        history_produce(&h);
        if (rng_chance(&h.rng, 200000))
            history_trouble(&h);
        lab_run_ms(&h.lab, rng_below(&h.rng, 30));
        history_read(&h);
    }
    history_heal(&h);
    uint64_t healed_ns = h.lab.now_ns;
    client_flush(h.lab.client);
    for (int i = 0; i < 100 && client_outstanding(h.lab.client) > 0; i++) {
        lab_run_ms(&h.lab, 100);
        history_read(&h);
    }
    ck_assert_int_eq(client_outstanding(h.lab.client), 0);
    ck_assert_uint_lt(h.lab.now_ns - healed_ns, ENV_MS(8000));
    lab_run_ms(&h.lab, 3000);
    history_read(&h);
    history_check(&h);
    lab_fini(&h.lab);
}

START_TEST(random_histories_lose_nothing_and_do_nothing_twice)
{
    uint64_t seed = check_main_seed();
    for (uint64_t i = 0; i < HISTORIES; i++) {
        fprintf(stderr, "history %llu\n", (unsigned long long)(seed + i));
        history_run(seed + i);
    }
}
END_TEST

CHECK_MAIN("client/history", random_histories_lose_nothing_and_do_nothing_twice)
