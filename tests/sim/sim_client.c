#include "sim/sim_client.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/check.h"
#include "sim/scenario.h"

#define TICK_NS ENV_MS(10)
#define CALL_NS ENV_MS(3000)
#define REDIAL_NS ENV_MS(50)
#define METADATA_NS ENV_MS(1000)
#define METADATA_HURRIED_NS ENV_MS(30)

const struct load_topic load_topics[LOAD_TOPICS] = {
    {.name = "orders",
     .partitions = 4,
     .replication_factor = 3,
     .min_isr = 2,
     .acks = -1,
     .idempotent = true},
    {.name = "payments.eu",
     .partitions = 2,
     .replication_factor = 3,
     .min_isr = 1,
     .acks = -1,
     .idempotent = true},
    {.name = "clicks", .partitions = 2, .replication_factor = 2, .min_isr = 1, .acks = 1},
    {.name = "ledger",
     .partitions = 3,
     .replication_factor = 3,
     .min_isr = 2,
     .acks = -1,
     .idempotent = true,
     .karst = true},
    {.name = "cached",
     .partitions = 2,
     .replication_factor = 3,
     .min_isr = 1,
     .acks = -1,
     .cached = true},
    {.name = "loose",
     .partitions = 2,
     .replication_factor = 3,
     .min_isr = 1,
     .acks = 1,
     .unclean = true},
};

int load_topic_count(const struct sim_run *run)
{
    return run->scenario->loose ? LOAD_TOPICS : LOAD_STRICT;
}

/* ---- connections ---- */

static void conn_forget_waiting(struct client_conn *conn);

/* Frames wait in a list of their own until the greeting is done. */
struct waiting_frame {
    struct list_node link;
    struct frame *frame;
};

static void conn_forget_waiting(struct client_conn *conn)
{
    for (struct list_node *node; (node = list_pop_front(&conn->waiting)) != NULL;) {
        struct waiting_frame *waiting = list_entry(node, struct waiting_frame, link);
        frame_unref(waiting->frame);
        free(waiting);
    }
}

static struct client_conn *conn_find(struct sim_client *client, env_conn handle)
{
    for (unsigned i = 0; i < client->run->node_count; i++) {
        struct client_conn *conn = &client->conns[i];
        if (conn->state != CLIENT_CLOSED && env_conn_equal(conn->conn, handle))
            return conn;
    }
    return NULL;
}

static unsigned conn_broker(const struct sim_client *client, const struct client_conn *conn)
{
    return (unsigned)(conn - client->conns);
}

static void call_end(struct sim_client *client, struct client_call *call, err_t err,
                     const ProtobufCMessage *message, struct bytes attachment)
{
    list_remove(&call->link);
    call->active = false;
    call->done(client, call, err, message, attachment);
}

/* Ends what was asked over this connection; its outcome is unknown. */
static void conn_lost(struct sim_client *client, struct client_conn *conn, err_t err)
{
    unsigned broker = conn_broker(client, conn);
    conn->state = CLIENT_CLOSED;
    conn->again_at_ns = client_now(client) + REDIAL_NS;
    conn_forget_waiting(conn);
    list_for_each_safe (node, after, &client->calls) {
        struct client_call *call = list_entry(node, struct client_call, link);
        if (call->broker == broker)
            call_end(client, call, err, NULL, (struct bytes){NULL, 0});
    }
    client_want_metadata(client);
}

static void conn_drop(struct sim_client *client, struct client_conn *conn, err_t err)
{
    client->env->net.drop(client->env->net.self, conn->conn);
    conn_lost(client, conn, err);
}

static void client_connected(void *actor, env_conn handle)
{
    struct sim_client *client = actor;
    struct client_conn *conn = conn_find(client, handle);
    if (conn == NULL)
        return;
    Karst__Hello hello = KARST__HELLO__INIT;
    char name[] = "karst-sim";
    hello.magic = 0x4B525354;
    hello.version = 1;
    hello.client_id = name;
    struct frame *frame =
        wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello.base});
    (void)client->env->net.send(client->env->net.self, handle, frame, 0, frame->used);
    conn->state = CLIENT_GREETING;
    conn->metadata_offset = 0;
}

static void conn_ready(struct sim_client *client, struct client_conn *conn)
{
    conn->state = CLIENT_READY;
    for (struct list_node *node; (node = list_pop_front(&conn->waiting)) != NULL;) {
        struct waiting_frame *waiting = list_entry(node, struct waiting_frame, link);
        (void)client->env->net.send(client->env->net.self, conn->conn, waiting->frame, 0,
                                    waiting->frame->used);
        free(waiting);
    }
}

static void client_closed(void *actor, env_conn handle, err_t err)
{
    struct sim_client *client = actor;
    struct client_conn *conn = conn_find(client, handle);
    if (conn != NULL)
        conn_lost(client, conn, err);
}

/* ---- calls ---- */

static struct client_call *call_find(struct sim_client *client, uint32_t correlation,
                                     unsigned broker)
{
    list_for_each (node, &client->calls) {
        struct client_call *call = list_entry(node, struct client_call, link);
        if (call->correlation == correlation && call->broker == broker)
            return call;
    }
    return NULL;
}

static void client_answer(struct sim_client *client, struct client_conn *conn, struct frame *frame,
                          const struct wire_header *header)
{
    struct client_call *call = call_find(client, header->correlation, conn_broker(client, conn));
    struct bytes none = {NULL, 0};
    if (call == NULL)
        return; /* it was given up */
    if (header->method != call->method) {
        sim_fail(client->run, "replies answer their requests", "method %u answered by %u",
                 call->method, header->method);
        return;
    }
    const ProtobufCMessageDescriptor *type = header->kind == WIRE_ERROR
                                                 ? &karst__error__descriptor
                                                 : wire_method_find(header->method)->reply;
    ProtobufCMessage *message;
    arena_reset(&client->arena);
    err_t err = wire_unpack(type, wire_message(frame, header), &client->arena, &message);
    if (err != ERR_OK) {
        sim_fail(client->run, "replies can be decoded", "method %u: %s", call->method,
                 err_name(err));
        return;
    }
    if (header->kind == WIRE_ERROR) {
        const Karst__Error *error = (const Karst__Error *)message;
        call_end(client, call, error->code == ERR_OK ? ERR_UNKNOWN_SERVER_ERROR : error->code, NULL,
                 none);
    } else {
        call_end(client, call, ERR_OK, message, wire_attachment(frame, header));
    }
}

static void client_received(void *actor, env_conn handle, struct frame *frame)
{
    struct sim_client *client = actor;
    struct client_conn *conn = conn_find(client, handle);
    struct wire_header header;
    err_t err = wire_decode_header(frame, &header);
    if (err != ERR_OK)
        sim_fail(client->run, "brokers send frames", "%s", err_name(err));
    else if (conn == NULL)
        (void)conn; /* it was dropped meanwhile */
    else if (header.kind == WIRE_HELLO)
        conn_ready(client, conn);
    else if (header.kind == WIRE_REPLY || header.kind == WIRE_ERROR)
        client_answer(client, conn, frame, &header);
    else
        sim_fail(client->run, "brokers send frames", "kind %u to a client", header.kind);
    frame_unref(frame);
}

static void client_dial(struct sim_client *client, unsigned broker)
{
    struct client_conn *conn = &client->conns[broker];
    err_t err = client->env->net.dial(client->env->net.self, client->run->world.hosts[broker]->name,
                                      client->run->world.hosts[broker]->port, &conn->conn);
    ASSERT(err == ERR_OK); /* a client has few connections */
    conn->state = CLIENT_DIALLING;
}

void client_call(struct sim_client *client, struct client_call *call, unsigned broker,
                 const ProtobufCMessage *message, struct bytes attachment)
{
    ASSERT(!call->active);
    ASSERT(broker < client->run->node_count);
    call->active = true;
    call->broker = broker;
    call->correlation = ++client->correlation;
    call->deadline_ns = client_now(client) + CALL_NS;
    list_push_back(&client->calls, &call->link);
    struct frame *frame = wire_frame(&(struct wire_frame_args){.kind = WIRE_REQUEST,
                                                               .method = call->method,
                                                               .correlation = call->correlation,
                                                               .message = message,
                                                               .attachment_bytes = attachment.len});
    ASSERT(frame != NULL);
    if (attachment.len > 0)
        memcpy(frame->bytes + frame->used, attachment.data, attachment.len);
    frame->used += (uint32_t)attachment.len;
    struct client_conn *conn = &client->conns[broker];
    if (conn->state == CLIENT_READY) {
        (void)client->env->net.send(client->env->net.self, conn->conn, frame, 0, frame->used);
        return;
    }
    struct waiting_frame *waiting = malloc(sizeof *waiting);
    ASSERT(waiting != NULL);
    waiting->frame = frame;
    list_push_back(&conn->waiting, &waiting->link);
    if (conn->state == CLIENT_CLOSED && client_now(client) >= conn->again_at_ns)
        client_dial(client, broker);
}

unsigned client_any_broker(struct sim_client *client)
{
    return (unsigned)rng_below(&client->rng, client->run->node_count);
}

bool client_broker(struct sim_client *client, node_id_t id, unsigned *ret_broker)
{
    if (id < 1 || (unsigned)id > client->run->node_count)
        return false;
    *ret_broker = (unsigned)id - 1;
    return true;
}

/* ---- metadata ---- */

static void metadata_topic(struct sim_client *client, const Karst__MetadataTopic *row)
{
    for (int i = 0; i < load_topic_count(client->run); i++) {
        struct client_topic *topic = &client->topics[i];
        if (strcmp(row->name, load_topics[i].name) != 0 || row->error != ERR_OK)
            continue;
        struct uuid id;
        if (!row->has_topic_id || !wire_get_uuid(&row->topic_id, &id) ||
            row->n_partitions != (size_t)load_topics[i].partitions ||
            (topic->known && !uuid_equal(&id, &topic->id))) {
            sim_fail(client->run, "metadata is what was committed", "topic %s: id or partitions",
                     row->name);
            return;
        }
        topic->known = true;
        topic->id = id;
        for (size_t k = 0; k < row->n_partitions; k++) {
            const Karst__MetadataPartition *from = row->partitions[k];
            if (from->index < 0 || from->index >= load_topics[i].partitions)
                continue;
            struct client_partition *to = &topic->partitions[from->index];
            if (from->leader_epoch >= to->leader_epoch)
                *to = (struct client_partition){from->leader, from->leader_epoch};
        }
    }
}

static void metadata_done(struct sim_client *client, struct client_call *call, err_t err,
                          const ProtobufCMessage *message, struct bytes attachment)
{
    (void)attachment;
    if (err != ERR_OK)
        return; /* asked again by the tick */
    const Karst__MetadataReply *reply = (const Karst__MetadataReply *)message;
    struct client_conn *conn = &client->conns[call->broker];
    if (reply->metadata_offset < conn->metadata_offset)
        sim_fail(client->run, "metadata shown on a connection never goes back",
                 "node %u: offset %" PRId64 " after %" PRId64, call->broker + 1,
                 reply->metadata_offset, conn->metadata_offset);
    conn->metadata_offset = reply->metadata_offset;
    client->metadata_wanted = false;
    for (size_t i = 0; i < reply->n_topics; i++)
        metadata_topic(client, reply->topics[i]);
}

static void metadata_ask(struct sim_client *client, uint64_t now)
{
    uint64_t wait = client->metadata_wanted ? METADATA_HURRIED_NS : METADATA_NS;
    if (client->metadata.active || now < client->metadata_asked_ns + wait)
        return;
    client->metadata_asked_ns = now;
    char *names[LOAD_TOPICS];
    char text[LOAD_TOPICS][32];
    for (int i = 0; i < load_topic_count(client->run); i++) {
        (void)snprintf(text[i], sizeof text[i], "%s", load_topics[i].name); /* fits */
        names[i] = text[i];
    }
    Karst__MetadataRequest request = KARST__METADATA_REQUEST__INIT;
    request.n_topics = (size_t)load_topic_count(client->run);
    request.topics = names;
    client_call(client, &client->metadata, client_any_broker(client), &request.base,
                (struct bytes){NULL, 0});
}

void client_want_metadata(struct sim_client *client)
{
    client->metadata_wanted = true;
}

/* ---- life ---- */

static void client_tick(struct env_timer *timer, uint64_t now_ns)
{
    struct sim_client *client = container_of(timer, struct sim_client, tick);
    list_for_each_safe (node, after, &client->calls) {
        struct client_call *call = list_entry(node, struct client_call, link);
        if (now_ns < call->deadline_ns)
            continue;
        /* Some clients hang up on a slow broker, and so lose all that they asked it. */
        if (rng_chance(&client->rng, 500000) &&
            client->conns[call->broker].state != CLIENT_CLOSED) {
            conn_drop(client, &client->conns[call->broker], ERR_REQUEST_TIMED_OUT);
            break;
        }
        call_end(client, call, ERR_REQUEST_TIMED_OUT, NULL, (struct bytes){NULL, 0});
        client_want_metadata(client);
        break; /* the list may be another; the rest next time */
    }
    for (unsigned i = 0; i < client->run->node_count; i++) {
        struct client_conn *conn = &client->conns[i];
        if (conn->state == CLIENT_CLOSED && !list_empty(&conn->waiting) &&
            now_ns >= conn->again_at_ns)
            client_dial(client, i);
    }
    metadata_ask(client, now_ns);
    client->role->tick(client, now_ns);
    client->env->timer_start(client->env->self, timer,
                             now_ns + rng_between(&client->rng, TICK_NS / 2, TICK_NS * 2));
}

static void nothing_do(struct sim_client *client)
{
    (void)client;
}

/* One that is left out of the run; its host is there, so that the faults find the same ones. */
static const struct client_role nothing_role = {.start = nothing_do, .free = nothing_do};

static void client_add(struct sim_run *run, const struct client_role *role)
{
    uint32_t without = run->options->without_clients | run->scenario->without_clients;
    bool left_out = (without >> run->client_count & 1) != 0;
    struct sim_client *client = calloc(1, sizeof *client);
    ASSERT(client != NULL && run->client_count < RUN_CLIENTS_MAX);
    client->run = run;
    client->idx = run->client_count;
    client->role = left_out ? &nothing_role : role;
    rng_seed(&client->rng, rng_next(&run->rng));
    list_init(&client->calls);
    arena_init(&client->arena, 16 << 20);
    for (int i = 0; i < RUN_NODES_MAX; i++)
        list_init(&client->conns[i].waiting);
    for (int i = 0; i < LOAD_TOPICS; i++)
        for (int k = 0; k < LOAD_PARTITIONS_MAX; k++)
            client->topics[i].partitions[k] = (struct client_partition){NO_NODE, -1};
    client->metadata = (struct client_call){.method = WIRE_METADATA, .done = metadata_done};
    client->metadata_wanted = true;
    client->host = sim_host_add(&run->world);
    sim_host_boot(client->host, 1);
    client->env = sim_host_env(client->host, 0);
    client->env->actor = client;
    client->env->upcalls = (struct env_upcalls){
        .connected = client_connected, .received = client_received, .closed = client_closed};
    client->tick.fire = client_tick;
    if (!left_out)
        client->env->timer_start(client->env->self, &client->tick, client_now(client) + TICK_NS);
    run->clients[run->client_count++] = client;
    client->role->start(client);
}

void sim_clients_add(struct sim_run *run)
{
    for (int i = 0; i < load_topic_count(run); i++)
        check_data_topic(run->data, &load_topics[i]);
    client_add(run, &admin_role);
    client_add(run, &producer_role);
    client_add(run, &producer_role);
    client_add(run, &consumer_role);
    client_add(run, &consumer_role);
    sim_karst_add(run);
}

void sim_client_free(struct sim_client *client)
{
    client->role->free(client);
    for (int i = 0; i < RUN_NODES_MAX; i++)
        conn_forget_waiting(&client->conns[i]);
    arena_fini(&client->arena);
    client->env->timer_stop(client->env->self, &client->tick);
    free(client);
}

void sim_client_end_load(struct sim_client *client)
{
    client->load_ended = true;
    if (client->role->end_load != NULL)
        client->role->end_load(client);
}

void sim_client_read_all(struct sim_client *client)
{
    if (client->role->read_all != NULL)
        client->role->read_all(client);
}

bool sim_client_idle(struct sim_client *client, char *ret_why, size_t size)
{
    return client->role->idle == NULL || client->role->idle(client, ret_why, size);
}
