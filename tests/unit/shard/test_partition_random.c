/* A seed's history of three brokers: produce, kill, cut off, elect, delay, in any order. What was
 * committed once is there for good, and acknowledged records are committed, in order, once. */
#include <stdio.h>
#include <stdlib.h>

#include "log/log.h"
#include "unit/shard/partition_lab.h"

enum { HISTORIES = 15, STEPS = 500, PRODUCERS = 4, RECORDS_MAX = 4000, VALUE_SIZE = 12 };

struct history {
    struct lab *lab;
    struct rng rng;
    char committed[RECORDS_MAX][VALUE_SIZE]; /* by offset */
    offset_t committed_end;
    struct lab_call *calls[STEPS];
    char values[STEPS][VALUE_SIZE];
    int call_count;
    /* Each has one batch in flight, and tells it again until it is acknowledged. */
    struct {
        int32_t next_sequence;
        int waiting; /* its last call; -1: none */
    } producers[PRODUCERS];
    unsigned elections, kills;
};

static bool chance(struct history *h, unsigned percent)
{
    return rng_below(&h->rng, 100) < percent;
}

/* ---- what must hold after each step ---- */

static void value_at(struct log *log, offset_t offset, char into[VALUE_SIZE], offset_t *ret_next)
{
    struct frame *frame;
    struct record_cursor cursor;
    struct record record;
    struct log_read_args args = {.offset = offset, .limit = log_end(log), .bytes_max = 1};
    ck_assert_int_eq(log_read(log, &args, &frame), ERR_OK);
    ck_assert_ptr_nonnull(frame);
    ck_assert_int_eq(record_cursor_init(&cursor, frame->bytes, frame->used), ERR_OK);
    ck_assert_int_eq(record_cursor_next(&cursor, &record), ERR_OK);
    ck_assert_int_eq(record.offset, offset);
    ck_assert_uint_lt(record.value.len, VALUE_SIZE);
    memcpy(into, record.value.data, record.value.len);
    into[record.value.len] = 0;
    *ret_next = cursor.info.last_offset + 1;
    frame_unref(frame);
}

/* All that any replica counts as committed is the same everywhere, for ever. */
static void check_committed(struct history *h)
{
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        struct lab_node *node = &h->lab->nodes[id];
        struct log *log = node->up ? partition_log(node->table, &h->lab->id) : NULL;
        struct partition_view view;
        if (log == NULL || !partition_look(node->table, &h->lab->id, &view))
            continue;
        ck_assert_int_le(view.high_watermark, view.flushed_end);
        offset_t from = view.high_watermark < h->committed_end && !chance(h, 5)
                            ? view.high_watermark
                            : 0; /* all of it now and then: it costs */
        if (view.high_watermark > h->committed_end)
            from = h->committed_end > 0 ? h->committed_end - 1 : 0;
        for (offset_t at = from; at < view.high_watermark;) {
            char value[VALUE_SIZE];
            offset_t next;
            value_at(log, at, value, &next);
            ck_assert_int_eq(next, at + 1);
            ck_assert_int_lt(at, RECORDS_MAX);
            if (at >= h->committed_end) {
                memcpy(h->committed[at], value, VALUE_SIZE);
                h->committed_end = at + 1;
            }
            ck_assert_msg(strcmp(h->committed[at], value) == 0,
                          "node %d has %s committed at %lld, where %s was", (int)id, value,
                          (long long)at, h->committed[at]);
            at = next;
        }
    }
}

static void check_acknowledged(struct history *h)
{
    for (int i = 0; i < h->call_count; i++) {
        const struct lab_call *call = h->calls[i];
        if (!call->answered || call->part.err != ERR_OK)
            continue;
        offset_t at = call->produce.base_offset;
        ck_assert_int_ge(at, 0);
        ck_assert_msg(at < h->committed_end && strcmp(h->committed[at], h->values[i]) == 0,
                      "%s was acknowledged at %lld, and is not there", h->values[i], (long long)at);
    }
}

/* ---- what happens ---- */

static void do_produce(struct history *h, unsigned producer)
{
    const struct image_partition *p = lab_partition_now(h->lab);
    int *waiting = &h->producers[producer].waiting;
    int32_t *sequence = &h->producers[producer].next_sequence;
    node_id_t to = p->leader;
    if (chance(h, 10))
        to = (node_id_t)rng_between(&h->rng, 1, LAB_NODES); /* a stale client */
    if (to < 0 || !h->lab->nodes[to].up || h->call_count == STEPS)
        return;
    const struct lab_call *last = *waiting < 0 ? NULL : h->calls[*waiting];
    if (last != NULL && !last->answered)
        return;
    int at = h->call_count++;
    if (last != NULL && last->part.err == ERR_OK)
        ++*sequence;
    (void)snprintf(h->values[at], VALUE_SIZE, "%c%d", 'a' + (char)producer, (int)*sequence);
    *waiting = at;
    h->calls[at] = lab_produce_as(h->lab, to, 7 + producer, *sequence, h->values[at]);
}

static unsigned up_count(const struct history *h)
{
    unsigned count = 0;
    for (node_id_t id = 1; id <= LAB_NODES; id++)
        count += h->lab->nodes[id].up;
    return count;
}

/* As the controller: from the ISR, who is there; else nobody. */
static void do_elect(struct history *h, node_id_t gone)
{
    const struct image_partition *p = lab_partition_now(h->lab);
    uint32_t isr = 0;
    node_id_t leader = NO_NODE;
    for (uint8_t i = 0; i < p->isr_count; i++) {
        struct lab_node *node = &h->lab->nodes[p->isr[i]];
        if (p->isr[i] == gone && p->isr_count > 1)
            continue;
        isr = isr * 10 + (uint32_t)p->isr[i];
        if (node->up && !node->mute && p->isr[i] != gone && (leader < 0 || chance(h, 30)))
            leader = p->isr[i];
    }
    h->elections++;
    lab_elect(h->lab, leader, isr);
}

static void do_kill(struct history *h)
{
    node_id_t id = (node_id_t)rng_between(&h->rng, 1, LAB_NODES);
    if (!h->lab->nodes[id].up || up_count(h) < 2)
        return;
    h->kills++;
    lab_kill(h->lab, id, chance(h, 50));
    if (chance(h, 80))
        do_elect(h, id);
}

static void do_start(struct history *h)
{
    node_id_t id = (node_id_t)rng_between(&h->rng, 1, LAB_NODES);
    if (!h->lab->nodes[id].up)
        lab_start(h->lab, id);
    else if (lab_partition_now(h->lab)->leader < 0)
        do_elect(h, NO_NODE);
}

static void do_mute(struct history *h)
{
    node_id_t id = (node_id_t)rng_between(&h->rng, 1, LAB_NODES);
    struct lab_node *node = &h->lab->nodes[id];
    if (!node->up)
        return;
    lab_mute(h->lab, id, !node->mute);
    node->lease = !node->mute;
    if (node->mute && chance(h, 70))
        do_elect(h, id);
}

static void do_step(struct history *h)
{
    struct lab_node *node = &h->lab->nodes[rng_between(&h->rng, 1, LAB_NODES)];
    uint64_t draw = rng_below(&h->rng, 100);
    if (draw < 40)
        do_produce(h, (unsigned)rng_below(&h->rng, PRODUCERS));
    else if (draw < 43)
        do_kill(h);
    else if (draw < 50)
        do_start(h);
    else if (draw < 54)
        do_mute(h);
    else if (draw < 58)
        node->hold_syncs = !node->hold_syncs && node->up;
    else if (draw < 62)
        lab_tick(h->lab, rng_between(&h->rng, 1, 200));
    else if (draw < 64)
        lab_tick(h->lab, rng_between(&h->rng, 5000, 12000));
    else if (draw < 66)
        h->lab->unsure_alters = !h->lab->unsure_alters;
    else
        for (uint64_t i = rng_below(&h->rng, 12); i > 0; i--)
            (void)lab_pump_one(h->lab);
}

/* All is healed: everything must come to be the same. */
static void heal(struct history *h)
{
    struct lab *lab = h->lab;
    lab->unsure_alters = false;
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        lab->nodes[id].hold_syncs = false;
        if (!lab->nodes[id].up)
            lab_start(lab, id);
        else if (lab->nodes[id].mute)
            lab_mute(lab, id, false);
        lab->nodes[id].lease = true;
    }
    lab_tick(lab, 1000);
    if (lab_partition_now(lab)->leader < 0)
        do_elect(h, NO_NODE);
    lab_tick(lab, 40000); /* what waits ends */
    for (unsigned i = 0; i < 3 * PRODUCERS; i++) {
        do_produce(h, i % PRODUCERS);
        lab_tick(lab, 1000);
    }
}

/* Each record once, none missing, in the order of its producer. */
static void check_sequences(const struct history *h)
{
    int32_t next[PRODUCERS] = {0};
    for (offset_t i = 0; i < h->committed_end; i++) {
        unsigned producer = (unsigned)(h->committed[i][0] - 'a');
        ck_assert_uint_lt(producer, PRODUCERS);
        ck_assert_int_eq(strtol(h->committed[i] + 1, NULL, 10), next[producer]);
        next[producer]++;
    }
    for (unsigned i = 0; i < PRODUCERS; i++)
        ck_assert_int_ge(next[i], h->producers[i].next_sequence);
}

static void live(uint64_t seed, struct history *h)
{
    memset(h, 0, sizeof(*h));
    rng_seed(&h->rng, seed);
    struct partition_options options = lab_options();
    if (chance(h, 30))
        options.min_insync_replicas = 2;
    if (chance(h, 70))
        options.replica_fetch_bytes_max = 100; /* one batch at a time */
    h->lab = lab_new_with(rng_next(&h->rng), &options);
    for (unsigned i = 0; i < PRODUCERS; i++)
        h->producers[i].waiting = -1;
    lab_create(h->lab);
    lab_pump(h->lab);
    for (int i = 0; i < STEPS - 60; i++) {
        do_step(h);
        check_committed(h);
    }
    heal(h);
    check_committed(h);
    check_acknowledged(h);
    ck_assert_uint_eq(lab_isr(h->lab), 123);
    ck_assert_str_eq(lab_log_values(h->lab, 1), lab_log_values(h->lab, 2));
    ck_assert_str_eq(lab_log_values(h->lab, 1), lab_log_values(h->lab, 3));
    check_sequences(h);
    lab_free(h->lab);
}

START_TEST(acknowledged_records_stay_whatever_happens)
{
    uint64_t seed = check_main_seed();
    struct history *h = malloc(sizeof(*h));
    unsigned elections = 0, kills = 0;
    offset_t records = 0;
    ck_assert_ptr_nonnull(h);
    for (uint64_t i = 0; i < HISTORIES; i++) {
        live(seed + i, h);
        elections += h->elections;
        kills += h->kills;
        records += h->committed_end;
    }
    fprintf(stderr, "%lld records, %u elections, %u kills\n", (long long)records, elections, kills);
    ck_assert_uint_gt(elections, HISTORIES);
    ck_assert_uint_gt(kills, HISTORIES);
    ck_assert_int_gt(records, 10 * HISTORIES);
    free(h);
}
END_TEST

CHECK_MAIN("shard/partition_random", acknowledged_records_stay_whatever_happens)
