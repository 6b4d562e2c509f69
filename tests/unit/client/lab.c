#include "unit/client/lab.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

enum lab_event_kind { LAB_CONNECTED, LAB_CLOSED, LAB_TO_BROKER, LAB_TO_CLIENT };

struct lab_event {
    struct heap_node heap; /* key: when */
    enum lab_event_kind kind;
    env_conn conn;
    struct frame *frame;
    err_t err;
};

/* ---- events ---- */

static void lab_schedule(struct lab *lab, uint64_t after_ns, const struct lab_event *what)
{
    struct lab_event *event = malloc(sizeof(*event));
    ck_assert_ptr_nonnull(event);
    *event = *what;
    event->heap = (struct heap_node){.key = lab->now_ns + after_ns, .sequence = lab->sequence++};
    ck_assert_int_eq(heap_push(&lab->events, &event->heap), ERR_OK);
}

void lab_answer(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns)
{
    if (lab->live != NULL) {
        lab_live_answer(lab, conn, frame);
        return;
    }
    lab_schedule(lab, after_ns + LAB_LATENCY_US * 1000,
                 &(struct lab_event){.kind = LAB_TO_CLIENT, .conn = conn, .frame = frame});
}

void lab_repeat(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns)
{
    if (lab->live != NULL) {
        lab_live_repeat(lab, conn, frame, after_ns);
        return;
    }
    lab_schedule(
        lab, after_ns,
        &(struct lab_event){.kind = LAB_TO_BROKER, .conn = conn, .frame = frame_ref(frame)});
}

static struct lab_conn *lab_conn_find(struct lab *lab, env_conn conn)
{
    ck_assert_uint_lt(conn.slot, LAB_CONNS);
    struct lab_conn *found = &lab->conns[conn.slot];
    return found->generation == conn.generation ? found : NULL;
}

static void lab_event_run(struct lab *lab, struct lab_event *event)
{
    struct lab_conn *conn = lab_conn_find(lab, event->conn);
    const struct env_upcalls *upcalls = &lab->env.upcalls;
    switch (event->kind) {
    case LAB_CONNECTED:
        if (conn != NULL && conn->dialing) {
            conn->dialing = false;
            conn->open = true;
            upcalls->connected(lab->env.actor, event->conn);
        }
        break;
    case LAB_CLOSED:
        if (conn != NULL && (conn->open || conn->dialing)) {
            conn->open = conn->dialing = false;
            conn->generation++;
            upcalls->closed(lab->env.actor, event->conn, event->err);
        }
        break;
    case LAB_TO_BROKER:
        if (conn != NULL && conn->open && !lab->brokers[conn->broker].down)
            lab_broker_handle(lab, event->conn, event->frame);
        break;
    case LAB_TO_CLIENT:
        if (conn != NULL && conn->open && !lab->brokers[conn->broker].frozen) {
            upcalls->received(lab->env.actor, event->conn, event->frame);
            event->frame = NULL;
        }
        break;
    }
    frame_unref(event->frame);
    free(event);
}

static void lab_take_deliveries(struct lab *lab)
{
    struct client_done *first = client_take_done(lab->client);
    for (const struct client_done *done = first; done != NULL; done = done->next) {
        for (uint32_t i = 0; i < done->count; i++) {
            if (lab->delivery_count == lab->delivery_room) {
                lab->delivery_room = lab->delivery_room * 2 + 64;
                lab->deliveries =
                    realloc(lab->deliveries, lab->delivery_room * sizeof(*lab->deliveries));
                ck_assert_ptr_nonnull(lab->deliveries);
            }
            lab->deliveries[lab->delivery_count++] = (struct lab_delivery){
                .err = done->err,
                .partition = done->partition,
                .offset = done->base_offset < 0 ? -1 : done->base_offset + i,
                .opaque = done->opaques == NULL ? 0 : (uintptr_t)done->opaques[i],
            };
        }
    }
    client_done_free(lab->client, first);
}

/* One event or timer; false: nothing before until_ns. */
static bool lab_step(struct lab *lab, uint64_t until_ns)
{
    struct heap_node *first = heap_top(&lab->events);
    uint64_t timer_ns = lab->timer == NULL ? UINT64_MAX : lab->timer->due_ns;
    uint64_t event_ns = first == NULL ? UINT64_MAX : first->key;
    if (lab->woken)
        event_ns = lab->now_ns;
    uint64_t next_ns = timer_ns < event_ns ? timer_ns : event_ns;
    if (next_ns > until_ns) {
        lab->now_ns = until_ns;
        return false;
    }
    if (next_ns > lab->now_ns)
        lab->now_ns = next_ns;
    if (lab->woken) {
        lab->woken = false;
    } else if (timer_ns <= event_ns) {
        struct env_timer *timer = lab->timer;
        lab->timer = NULL;
        timer->due_ns = 0;
        timer->fire(timer, lab->now_ns);
    } else {
        lab_event_run(lab, heap_entry(heap_pop(&lab->events), struct lab_event, heap));
    }
    lab->env.upcalls.turn_ended(lab->env.actor);
    lab_take_deliveries(lab);
    return true;
}

void lab_run_ms(struct lab *lab, uint64_t ms)
{
    uint64_t until_ns = lab->now_ns + ENV_MS(ms);
    while (lab_step(lab, until_ns))
        ;
}

bool lab_run_until_delivered(struct lab *lab, size_t count, uint64_t ms)
{
    uint64_t until_ns = lab->now_ns + ENV_MS(ms);
    while (lab->delivery_count < count && lab_step(lab, until_ns))
        ;
    return lab->delivery_count >= count;
}

/* ---- env ---- */

static uint64_t lab_mono_ns(void *self)
{
    return ((struct lab *)self)->now_ns;
}

static int64_t lab_wall_ms(void *self)
{
    return 1700000000000 + (int64_t)(((struct lab *)self)->now_ns / 1000000);
}

static uint64_t lab_random(void *self)
{
    return ((struct lab *)self)->sequence++ * UINT64_C(0x9E3779B97F4A7C15) + 1;
}

static void lab_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    struct lab *lab = self;
    ck_assert(lab->timer == NULL || lab->timer == timer);
    lab->timer = timer;
    timer->due_ns = due_ns;
}

static void lab_timer_stop(void *self, struct env_timer *timer)
{
    struct lab *lab = self;
    timer->due_ns = 0;
    lab->timer = NULL;
}

static err_t lab_dial(void *self, const char *host, uint16_t port, env_conn *ret_conn)
{
    struct lab *lab = self;
    ck_assert_str_eq(host, "lab");
    ck_assert_uint_gt(port, 9000);
    ck_assert_uint_le(port, 9000 + LAB_BROKERS);
    uint32_t slot = lab->conn_count++;
    ck_assert_uint_lt(slot, LAB_CONNS);
    lab->dials++;
    struct lab_conn *conn = &lab->conns[slot];
    *conn = (struct lab_conn){.dialing = true, .generation = 1, .broker = port - 9000U};
    *ret_conn = (env_conn){.slot = slot, .generation = 1};
    bool refused = lab->brokers[conn->broker].down;
    lab_schedule(lab, LAB_LATENCY_US * 1000,
                 &(struct lab_event){.kind = refused ? LAB_CLOSED : LAB_CONNECTED,
                                     .conn = *ret_conn,
                                     .err = ERR_REFUSED});
    return ERR_OK;
}

/* Collects the parts of a frame; whole ones go to the broker. */
static err_t lab_send(void *self, env_conn handle, struct frame *frame, size_t at, size_t bytes)
{
    struct lab *lab = self;
    struct lab_conn *conn = lab_conn_find(lab, handle);
    ck_assert_uint_le(at + bytes, frame->used);
    if (conn == NULL || !conn->open) {
        frame_unref(frame);
        return ERR_CLOSED;
    }
    if (conn->partial_used + bytes > conn->partial_room) {
        conn->partial_room = conn->partial_used + bytes;
        conn->partial = realloc(conn->partial, conn->partial_room);
        ck_assert_ptr_nonnull(conn->partial);
    }
    memcpy(conn->partial + conn->partial_used, frame->bytes + at, bytes);
    conn->partial_used += bytes;
    frame_unref(frame);
    size_t whole = (size_t)get_u32(conn->partial) + 4;
    ck_assert_uint_le(conn->partial_used, whole); /* parts end where the header says */
    if (conn->partial_used < whole)
        return ERR_OK;
    struct frame *request = frame_new(whole);
    memcpy(request->bytes, conn->partial, whole);
    request->used = (uint32_t)whole;
    conn->partial_used = 0;
    lab_schedule(lab, LAB_LATENCY_US * 1000,
                 &(struct lab_event){.kind = LAB_TO_BROKER, .conn = handle, .frame = request});
    return ERR_OK;
}

static size_t lab_queued_bytes(void *self, env_conn conn)
{
    (void)self;
    (void)conn;
    return 0;
}

static void lab_movement(void *self, env_conn handle, uint64_t *ret_received_ns,
                         size_t *ret_untaken)
{
    struct lab *lab = self;
    const struct lab_conn *conn = lab_conn_find(lab, handle);
    struct lab_broker *broker = conn == NULL ? NULL : &lab->brokers[conn->broker];
    *ret_received_ns = broker != NULL && broker->trickles ? lab->now_ns : 0;
    *ret_untaken = broker != NULL && broker->untaken > 0 ? broker->untaken-- : 0;
}

static void lab_drop(void *self, env_conn handle)
{
    struct lab_conn *conn = lab_conn_find(self, handle);
    if (conn != NULL) {
        conn->open = conn->dialing = false;
        conn->generation++;
    }
}

static void lab_wake(void *context)
{
    ((struct lab *)context)->woken = true;
}

static void lab_ready(void *context)
{
    (void)context; /* the lab looks after each step */
}

/* ---- the lab itself ---- */

void lab_init(struct lab *lab, struct client_config *config)
{
    struct client_config defaults;
    *lab = (struct lab){.now_ns = ENV_MS(1000), .next_producer_id = 1000, .metadata_offset = 10};
    if (config == NULL) {
        config = &defaults;
        client_config_init(config);
    }
    if (config->bootstrap_count == 0) {
        config->bootstrap_count = 2;
        config->bootstrap[0] = (struct client_address){"lab", 9001};
        config->bootstrap[1] = (struct client_address){"lab", 9002};
    }
    lab->env.clock = (struct env_clock){lab_mono_ns, lab_wall_ms, lab};
    lab->env.net = (struct env_net){
        .dial = lab_dial,
        .send = lab_send,
        .queued_bytes = lab_queued_bytes,
        .movement = lab_movement,
        .drop = lab_drop,
        .self = lab,
    };
    lab->env.random = lab_random;
    lab->env.timer_start = lab_timer_start;
    lab->env.timer_stop = lab_timer_stop;
    lab->env.self = lab;
    struct client_hooks hooks = {.wake = lab_wake, .ready = lab_ready, .context = lab};
    ck_assert_int_eq(client_new(config, &lab->env, &hooks, &lab->client), ERR_OK);
}

void lab_fini(struct lab *lab)
{
    client_free(lab->client); /* NULL in a live lab */
    struct heap_node *node;
    while ((node = heap_pop(&lab->events)) != NULL) {
        struct lab_event *event = heap_entry(node, struct lab_event, heap);
        frame_unref(event->frame);
        free(event);
    }
    heap_fini(&lab->events);
    for (size_t i = 0; i < LAB_CONNS; i++)
        free(lab->conns[i].partial);
    for (size_t i = 0; i < lab->topic_count; i++) {
        for (int32_t j = 0; j < LAB_PARTITIONS; j++)
            lab_partition_free(&lab->topics[i].partitions[j]);
    }
    free(lab->deliveries);
}

struct lab_topic *lab_add_topic(struct lab *lab, const char *name, int32_t partitions)
{
    ck_assert_uint_lt(lab->topic_count, LAB_TOPICS);
    struct lab_topic *topic = &lab->topics[lab->topic_count++];
    snprintf(topic->name, sizeof(topic->name), "%s", name);
    topic->id = uuid_make(lab->topic_count, 77);
    topic->partition_count = partitions;
    for (int32_t i = 0; i < partitions; i++)
        topic->partitions[i].leader = i % LAB_BROKERS + 1;
    lab->metadata_offset++;
    return topic;
}

void lab_lead(struct lab *lab, struct lab_topic *topic, int32_t index, node_id_t leader)
{
    topic->partitions[index].leader = leader;
    topic->partitions[index].leader_epoch++;
    lab->metadata_offset++;
}

void lab_kill(struct lab *lab, node_id_t broker)
{
    lab->brokers[broker].down = true;
    for (uint32_t slot = 0; slot < lab->conn_count; slot++) {
        struct lab_conn *conn = &lab->conns[slot];
        if (conn->broker == (unsigned)broker && (conn->open || conn->dialing))
            lab_schedule(lab, LAB_LATENCY_US * 1000,
                         &(struct lab_event){.kind = LAB_CLOSED,
                                             .conn = {slot, conn->generation},
                                             .err = ERR_CLOSED});
    }
}

void lab_start(struct lab *lab, node_id_t broker)
{
    lab->brokers[broker].down = false;
}

err_t lab_produce(struct lab *lab, const char *topic, int32_t partition, uintptr_t number)
{
    char value[32];
    snprintf(value, sizeof(value), "%zu", (size_t)number);
    return client_produce(lab->client, &(struct karst_message){
                                           .topic = topic,
                                           .partition = partition,
                                           .value = value,
                                           .value_bytes = strlen(value),
                                           .opaque = (void *)number,
                                       });
}

size_t lab_log_values(const struct lab_partition *p, uintptr_t *into, size_t max)
{
    size_t count = 0;
    for (size_t i = 0; i < p->batch_count; i++) {
        struct record_cursor cursor;
        struct record record;
        ck_assert_int_eq(record_cursor_init(&cursor, p->batches[i].data, p->batches[i].info.bytes),
                         ERR_OK);
        while (record_cursor_next(&cursor, &record) == ERR_OK) {
            char text[32] = "";
            ck_assert_uint_lt(record.value.len, sizeof(text));
            memcpy(text, record.value.data, record.value.len);
            ck_assert_uint_lt(count, max);
            ck_assert_int_eq(record.offset, (int64_t)count); /* offsets have no gaps here */
            into[count++] = strtoul(text, NULL, 10);
        }
    }
    return count;
}
