#include "lib/check_main.h"

#include "base/rng.h"
#include "unit/client/lab.h"

#include <stdio.h>

/* Random readings: a program assigns, seeks, lets go, subscribes and reads little or much, with
 * little room, while leaders move, brokers die, and old records are deleted. Each record returned
 * is the one after the last, but for deleted ones; and once all is healed, every partition that is
 * assigned is read to its end. */

enum { READINGS = 40, READING_PARTITIONS = 4, READING_STEPS = 400 };

struct reading {
    struct lab lab;
    struct rng rng;
    struct lab_topic *topic;
    uintptr_t produced;
    enum client_reset reset;
    struct {
        bool assigned;
        int64_t next; /* -1: to be told by the first record */
    } at[READING_PARTITIONS];
    struct client_slice *held; /* taken, and read later */
};

static int32_t reading_partition(struct reading *r)
{
    return (int32_t)rng_below(&r->rng, READING_PARTITIONS);
}

static node_id_t reading_broker(struct reading *r)
{
    return (node_id_t)rng_between(&r->rng, 1, LAB_BROKERS);
}

static void reading_elect(struct reading *r, int32_t partition)
{
    for (int i = 0; i < 10; i++) {
        node_id_t broker = reading_broker(r);
        if (!r->lab.brokers[broker].down) {
            lab_lead(&r->lab, r->topic, partition, broker);
            return;
        }
    }
}

static void reading_kill(struct reading *r, node_id_t broker)
{
    if (r->lab.brokers[broker].down)
        return;
    lab_kill(&r->lab, broker);
    for (int32_t i = 0; i < READING_PARTITIONS; i++) {
        if (r->topic->partitions[i].leader == broker)
            reading_elect(r, i);
    }
}

static void reading_seek(struct reading *r, int32_t index)
{
    const struct lab_partition *p = &r->topic->partitions[index];
    int64_t offset = (int64_t)rng_between(&r->rng, (uint64_t)p->log_start, (uint64_t)p->end);
    int64_t next = offset;
    if (rng_below(&r->rng, 3) == 0) {
        static const int64_t places[] = {KARST_OFFSET_LATEST, KARST_OFFSET_EARLIEST,
                                         KARST_OFFSET_RESET};
        offset = places[rng_below(&r->rng, ARRAY_LEN(places))];
        next = -1;
    }
    ck_assert_int_eq(client_assign(r->lab.client, "orders", index, offset), ERR_OK);
    r->at[index].assigned = true;
    r->at[index].next = next;
}

static void reading_subscribe(struct reading *r)
{
    ck_assert_int_eq(client_subscribe(r->lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    for (int32_t i = 0; i < READING_PARTITIONS; i++) {
        r->at[i].assigned = true;
        r->at[i].next = -1;
    }
}

static void reading_trouble(struct reading *r)
{
    int32_t index = reading_partition(r);
    struct lab_partition *p = &r->topic->partitions[index];
    switch (rng_below(&r->rng, 9)) {
    case 0:
    case 1:
        reading_elect(r, index);
        break;
    case 2:
        reading_kill(r, reading_broker(r));
        break;
    case 3:
        lab_start(&r->lab, reading_broker(r));
        break;
    case 4:
        p->log_start = (int64_t)rng_between(&r->rng, (uint64_t)p->log_start, (uint64_t)p->end);
        break;
    case 5:
        if (client_unassign(r->lab.client, "orders", index) == ERR_OK)
            r->at[index].assigned = false;
        break;
    case 6:
        if (rng_below(&r->rng, 4) == 0)
            reading_subscribe(r);
        break;
    default:
        reading_seek(r, index);
    }
}

static void reading_record(struct reading *r, int32_t index, int64_t offset)
{
    const struct lab_partition *p = &r->topic->partitions[index];
    int64_t *next = &r->at[index].next;
    ck_assert(r->at[index].assigned);
    if (*next >= 0) {
        ck_assert_int_ge(offset, *next);
        bool earliest = r->reset == CLIENT_RESET_EARLIEST;
        bool deleted = *next < p->log_start && (!earliest || offset <= p->log_start);
        ck_assert_msg(offset == *next || deleted, "%d: %lld after %lld, from %lld", (int)index,
                      (long long)offset, (long long)*next, (long long)p->log_start);
    }
    *next = offset + 1;
}

/* As karst_consume does. */
static void reading_slice(struct reading *r, struct client_slice *slice)
{
    ck_assert_int_eq(slice->err, ERR_OK);
    for (size_t at = 0; client_slice_current(slice) && at < slice->bytes;) {
        struct record_cursor cursor;
        struct record record;
        ck_assert_int_eq(record_cursor_init(&cursor, slice->data + at, slice->bytes - at), ERR_OK);
        while (record_cursor_next(&cursor, &record) == ERR_OK) {
            if (record.offset >= slice->from)
                reading_record(r, slice->index, record.offset);
        }
        at += cursor.info.bytes;
    }
    client_slice_returned(slice, slice->end);
    client_slice_free(r->lab.client, slice);
}

static void reading_read(struct reading *r, uint64_t most)
{
    if (r->held != NULL)
        reading_slice(r, r->held);
    r->held = NULL;
    struct client_slice *slice = NULL;
    while (most-- > 0 && (slice = client_take_slice(r->lab.client)) != NULL)
        reading_slice(r, slice);
    if (rng_below(&r->rng, 4) == 0)
        r->held = client_take_slice(r->lab.client);
}

static void reading_produce(struct reading *r)
{
    for (uint64_t count = rng_below(&r->rng, 20); count > 0; count--) {
        err_t err = lab_produce(&r->lab, "orders", reading_partition(r), ++r->produced);
        ck_assert(err == ERR_OK || err == ERR_FULL);
    }
}

static void reading_end(struct reading *r)
{
    for (node_id_t i = 1; i <= LAB_BROKERS; i++)
        lab_start(&r->lab, i);
    client_flush(r->lab.client);
    for (int i = 0; i < 300; i++) {
        lab_run_ms(&r->lab, 20);
        reading_read(r, UINT64_MAX);
    }
    for (int32_t i = 0; i < READING_PARTITIONS; i++) {
        const struct lab_partition *p = &r->topic->partitions[i];
        int64_t position = client_position(r->lab.client, "orders", i);
        if (!r->at[i].assigned)
            ck_assert_int_eq(position, -1);
        else
            ck_assert_int_eq(position, p->end);
    }
    if (r->held != NULL)
        client_slice_free(r->lab.client, r->held);
    lab_fini(&r->lab);
}

static void reading_run(uint64_t seed)
{
    static struct reading r;
    struct client_config config;
    r = (struct reading){0};
    rng_seed(&r.rng, seed);
    client_config_init(&config);
    config.linger_ms = (uint32_t)rng_below(&r.rng, 6);
    config.batch_bytes = (uint32_t)rng_between(&r.rng, 512, 2048);
    config.partition_bytes_max = (uint32_t)rng_between(&r.rng, 1, 4000);
    config.fetch_buffer_bytes = rng_between(&r.rng, 1, 8000);
    config.fetch_wait_ms = (uint32_t)rng_between(&r.rng, 1, 500);
    config.metadata_age_ms = (uint32_t)rng_between(&r.rng, 50, 5000);
    config.reset = rng_below(&r.rng, 2) == 0 ? CLIENT_RESET_EARLIEST : CLIENT_RESET_LATEST;
    r.reset = config.reset;
    lab_init(&r.lab, &config);
    r.topic = lab_add_topic(&r.lab, "orders", READING_PARTITIONS);
    for (int step = 0; step < READING_STEPS; step++) {
        reading_produce(&r);
        if (rng_chance(&r.rng, 300000))
            reading_trouble(&r);
        lab_run_ms(&r.lab, rng_below(&r.rng, 30));
        if (rng_below(&r.rng, 3) == 0)
            reading_read(&r, rng_below(&r.rng, 6));
    }
    reading_end(&r);
}

START_TEST(random_readings_leave_nothing_out_and_stand_still_nowhere)
{
    uint64_t seed = check_main_seed();
    for (uint64_t i = 0; i < READINGS; i++) {
        fprintf(stderr, "reading %llu\n", (unsigned long long)(seed + i));
        reading_run(seed + i);
    }
}
END_TEST

CHECK_MAIN("client/readings", random_readings_leave_nothing_out_and_stand_still_nowhere)
