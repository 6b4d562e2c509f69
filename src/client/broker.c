#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/core.h"

enum { CLIENT_HELLO_MAGIC = 0x4B525354, CLIENT_HELLO_VERSION = 1 };

/* ---- who they are ---- */

struct client_broker *client_broker_by_id(struct client *client, node_id_t node_id)
{
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->node_id == node_id)
            return broker;
    }
    return NULL;
}

struct client_broker *client_broker_at(struct client *client, const char *host, uint16_t port)
{
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->address.port == port && strcmp(broker->address.host, host) == 0)
            return broker;
    }
    if (strlen(host) >= CLIENT_HOST_SIZE)
        return NULL;
    struct client_broker *broker = calloc(1, sizeof(*broker));
    if (broker == NULL)
        return NULL;
    memcpy(broker->address.host, host, strlen(host) + 1);
    broker->address.port = port;
    broker->node_id = NO_NODE;
    list_init(&broker->calls);
    list_init(&broker->batches);
    list_push_back(&client->brokers, &broker->link);
    return broker;
}

static struct client_broker *client_broker_of(struct client *client, env_conn conn)
{
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->state != CLIENT_IDLE && env_conn_equal(broker->conn, conn))
            return broker;
    }
    return NULL;
}

/* ---- coming and going ---- */

static void client_broker_enter(struct client *client, struct client_broker *broker,
                                enum client_broker_state state)
{
    ASSERT(state == CLIENT_IDLE || state == broker->state + 1);
    broker->state = state;
    broker->since_ns = client_now(client);
    broker->heard_ns = broker->since_ns;
    broker->probed = false;
}

/* The connection is gone: whatever waited for it is told, and who leads now is asked elsewhere. */
static void client_broker_lost(struct client *client, struct client_broker *broker, err_t err)
{
    uint64_t now = client_now(client);
    /* One that was silent is as one that refuses: who waits for it goes on asking the others. */
    bool was_well = broker->state == CLIENT_READY && !broker->probed;
    client->failed = broker->address;
    client->failed_err = err;
    client_broker_enter(client, broker, CLIENT_IDLE);
    broker->conn = (env_conn){0};
    broker->given = broker->taken = 0;
    broker->output_full_ns = 0;
    broker->failures = was_well ? 0 : broker->failures + 1;
    broker->dial_after_ns = now;
    if (broker->failures > 0)
        broker->dial_after_ns +=
            client_backoff_ns(broker->failures + 1, CLIENT_DIAL_MS, CLIENT_DIAL_MS_MAX);

    struct list_node calls;
    list_init(&calls);
    struct list_node *node;
    while ((node = list_pop_front(&broker->calls)) != NULL)
        list_push_back(&calls, node);
    while ((node = list_pop_front(&calls)) != NULL) {
        struct client_call *call = list_entry(node, struct client_call, link);
        call->done(client, call, err_retriable(err) ? err : ERR_NETWORK_EXCEPTION, NULL);
    }
    client_metadata_want(client);
    client_all_dirty(client);
}

void client_broker_fail(struct client *client, struct client_broker *broker, err_t err)
{
    if (broker->state == CLIENT_IDLE)
        return;
    client->env->net.drop(client->env->net.self, broker->conn);
    client_broker_lost(client, broker, err);
}

static void client_broker_dial(struct client *client, struct client_broker *broker, uint64_t now)
{
    broker->wanted = false;
    err_t err = client->env->net.dial(client->env->net.self, broker->address.host,
                                      broker->address.port, &broker->conn);
    if (err == ERR_OK) {
        client_broker_enter(client, broker, CLIENT_DIALING);
        return;
    }
    broker->failures++;
    broker->dial_after_ns =
        now + client_backoff_ns(broker->failures + 1, CLIENT_DIAL_MS, CLIENT_DIAL_MS_MAX);
    broker->wanted = true;
}

void client_broker_want(struct client *client, struct client_broker *broker, uint64_t now)
{
    if (broker->state != CLIENT_IDLE)
        return;
    if (now >= broker->dial_after_ns)
        client_broker_dial(client, broker, now);
    else
        broker->wanted = true; /* client_brokers_tick */
}

struct client_broker *client_broker_any(struct client *client, uint64_t now)
{
    /* In the order of the list, beginning after the last one: a READY one that is not silent. */
    struct list_node *start = client->last_any == NULL ? &client->brokers : &client->last_any->link;
    struct client_broker *idle = NULL;
    bool coming = false;
    struct list_node *node = start;
    do {
        node = node->next;
        if (node == &client->brokers)
            continue;
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->state == CLIENT_READY && !broker->probed) {
            client->last_any = broker;
            return broker;
        }
        bool usable = broker->bootstrap || broker->listed;
        if (broker->state == CLIENT_IDLE && usable && now >= broker->dial_after_ns && idle == NULL)
            idle = broker;
        bool young = now < broker->since_ns + ENV_MS(CLIENT_HEDGE_MS);
        if ((broker->state == CLIENT_DIALING || broker->state == CLIENT_GREETING) && young)
            coming = true;
    } while (node != start);
    if (!coming && idle != NULL) {
        client->last_any = idle;
        client_broker_dial(client, idle, now);
    }
    return NULL;
}

void client_broker_widen(struct client *client, uint64_t now)
{
    struct client_broker *idle = NULL;
    unsigned others = 0;
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->state != CLIENT_IDLE)
            others++;
        else if (idle == NULL && broker->listed && now >= broker->dial_after_ns)
            idle = broker;
    }
    if (others < CLIENT_VIEWS && idle != NULL)
        client_broker_dial(client, idle, now);
}

/* ---- calls ---- */

static bool client_owes(const struct client_broker *broker)
{
    return broker->state == CLIENT_DIALING || broker->state == CLIENT_GREETING ||
           !list_empty(&broker->calls);
}

err_t client_call_start(struct client *client, struct client_broker *broker,
                        struct client_call *call, const ProtobufCMessage *message,
                        size_t attachment_bytes)
{
    ASSERT(broker->state == CLIENT_READY);
    uint64_t now = client_now(client);
    call->correlation = client->next_correlation++;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST,
        .method = call->method,
        .correlation = call->correlation,
        .message = message,
        .attachment_bytes = attachment_bytes,
        .attachment_apart = true,
    });
    if (frame == NULL)
        return ERR_NO_MEMORY;
    if (!client_owes(broker))
        broker->heard_ns = now; /* it owed us nothing until now: its silence was right */
    call->broker = broker;
    if (call->done != NULL) {
        uint64_t deadline_ns = now + ENV_MS(client->config.request_timeout_ms);
        if (call->deadline_ns == 0 || call->deadline_ns > deadline_ns)
            call->deadline_ns = deadline_ns;
        list_push_back(&broker->calls, &call->link);
    }
    client_call_part(client, broker, frame, frame->used);
    return ERR_OK;
}

void client_call_part(struct client *client, struct client_broker *broker, struct frame *frame,
                      size_t bytes)
{
    /* A connection that takes nothing more is closed: that is told by the upcall, and ends the
     * call. */
    broker->given += bytes;
    (void)client->env->net.send(client->env->net.self, broker->conn, frame, 0, bytes);
}

static void client_probe_done(struct client *client, struct client_call *call, err_t err,
                              const struct client_reply *reply)
{
    (void)client; /* that something came is all that counts: client_on_received notes it */
    (void)err;
    (void)reply;
    free(call);
}

/* A broker that owes something and says nothing: is it there? Others are asked meanwhile whether it
 * still leads what we wait for. */
static void client_broker_probe(struct client *client, struct client_broker *broker)
{
    broker->probed = true;
    client_metadata_want(client);
    if (broker->state != CLIENT_READY)
        return;
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    struct client_call *call = calloc(1, sizeof(*call));
    if (call == NULL)
        return;
    call->method = WIRE_PROBE;
    call->done = client_probe_done;
    if (client_call_start(client, broker, call, &probe.base, 0) != ERR_OK)
        free(call);
}

/* On a slow link a large frame takes longer than any silence: while its bytes move, somebody is
 * there. What the host has taken counts only while there is more to take, since it goes on taking
 * for a process that stands still. */
static void client_broker_look_for_movement(struct client *client, struct client_broker *broker,
                                            uint64_t now)
{
    const struct env_net *net = &client->env->net;
    uint64_t received_ns;
    size_t untaken;
    if (net->movement == NULL || broker->state != CLIENT_READY)
        return;
    net->movement(net->self, broker->conn, &received_ns, &untaken);
    uint64_t taken = broker->given > untaken ? broker->given - untaken : 0;
    bool moves = taken > broker->taken && untaken > 0;
    broker->taken = taken;
    if (moves)
        received_ns = now;
    if (received_ns <= broker->heard_ns)
        return;
    broker->heard_ns = received_ns;
    broker->probed = false;
}

static void client_broker_tick(struct client *client, struct client_broker *broker, uint64_t now)
{
    if (client_owes(broker))
        client_broker_look_for_movement(client, broker, now);
    uint64_t silence_ns = ENV_MS(client->config.silence_ms);
    if (client_owes(broker) && now >= broker->heard_ns + CLIENT_SILENCE_FACTOR * silence_ns) {
        client_broker_fail(client, broker, ERR_NETWORK_EXCEPTION);
        return;
    }
    if (client_owes(broker) && !broker->probed && now >= broker->heard_ns + silence_ns)
        client_broker_probe(client, broker);
    uint64_t first_ns = UINT64_MAX;
    list_for_each (node, &broker->calls) {
        const struct client_call *call = list_entry(node, struct client_call, link);
        if (call->deadline_ns < first_ns)
            first_ns = call->deadline_ns;
    }
    if (now >= first_ns)
        client_broker_fail(client, broker, ERR_REQUEST_TIMED_OUT);
}

bool client_brokers_owe(const struct client *client)
{
    list_for_each (node, &client->brokers) {
        if (client_owes(list_entry(node, struct client_broker, link)))
            return true;
    }
    return false;
}

void client_brokers_tick(struct client *client, uint64_t now)
{
    list_for_each_safe (node, after, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        client_broker_tick(client, broker, now);
        if (broker->state == CLIENT_IDLE && !broker->bootstrap && !broker->listed &&
            list_empty(&broker->batches)) {
            if (client->last_any == broker)
                client->last_any = NULL;
            list_remove(&broker->link);
            free(broker);
        }
    }
}

uint64_t client_brokers_turn(struct client *client, uint64_t now)
{
    uint64_t due_ns = 0;
    list_for_each (node, &client->brokers) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        if (broker->wanted && now >= broker->dial_after_ns)
            client_broker_want(client, broker, now);
        if (broker->wanted)
            due_ns = client_sooner(due_ns, broker->dial_after_ns);
    }
    return due_ns;
}

bool client_last_failure(const struct client *client, char *into, size_t size)
{
    if (client->failed.host[0] == '\0')
        return false;
    const char *what =
        client->failed_err == ERR_INVALID_REQUEST || client->failed_err == ERR_UNSUPPORTED_VERSION
            ? "it does not speak Karst's RPC"
            : err_sentence(client->failed_err);
    bool ip6 = strchr(client->failed.host, ':') != NULL;
    snprintf(into, size, "%s%s%s:%u: %s", ip6 ? "[" : "", client->failed.host, ip6 ? "]" : "",
             client->failed.port, what);
    return true;
}

void client_brokers_free(struct client *client)
{
    struct list_node *node;
    while ((node = list_pop_front(&client->brokers)) != NULL) {
        struct client_broker *broker = list_entry(node, struct client_broker, link);
        ASSERT(list_empty(&broker->calls));
        free(broker);
    }
}

/* ---- upcalls ---- */

void client_on_connected(void *actor, env_conn conn)
{
    struct client *client = actor;
    client->hooks.lock(client->hooks.context);
    struct client_broker *broker = client_broker_of(client, conn);
    if (broker != NULL && broker->state == CLIENT_DIALING) {
        Karst__Hello hello = KARST__HELLO__INIT;
        hello.magic = CLIENT_HELLO_MAGIC;
        hello.version = CLIENT_HELLO_VERSION;
        hello.client_id = client->config.client_id;
        client_broker_enter(client, broker, CLIENT_GREETING);
        struct frame *frame =
            wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello.base});
        if (frame == NULL)
            client_broker_fail(client, broker, ERR_NO_MEMORY);
        else
            client_call_part(client, broker, frame, frame->used);
    }
    client->hooks.unlock(client->hooks.context);
}

void client_on_closed(void *actor, env_conn conn, err_t err)
{
    struct client *client = actor;
    client->hooks.lock(client->hooks.context);
    struct client_broker *broker = client_broker_of(client, conn);
    if (broker != NULL)
        client_broker_lost(client, broker, err == ERR_CLOSED ? ERR_NETWORK_EXCEPTION : err);
    client->hooks.unlock(client->hooks.context);
}

static err_t client_on_hello(struct client *client, struct client_broker *broker,
                             const Karst__Hello *hello)
{
    if (hello->magic != CLIENT_HELLO_MAGIC || hello->version != CLIENT_HELLO_VERSION)
        return ERR_UNSUPPORTED_VERSION;
    struct uuid cluster_id;
    if (hello->has_cluster_id && wire_get_uuid(&hello->cluster_id, &cluster_id)) {
        if (uuid_is_zero(&client->cluster_id))
            client->cluster_id = cluster_id;
        if (!uuid_equal(&client->cluster_id, &cluster_id))
            return ERR_INCONSISTENT_CLUSTER_ID;
    }
    if (hello->node_id != broker->node_id) {
        /* Its address was another's: what we know of ids is old. */
        struct client_broker *same = client_broker_by_id(client, hello->node_id);
        if (same != NULL)
            same->node_id = NO_NODE;
        if (broker->node_id != NO_NODE)
            client_metadata_want(client);
        broker->node_id = hello->node_id;
    }
    client_broker_enter(client, broker, CLIENT_READY);
    broker->failures = 0;
    client_all_dirty(client);
    return ERR_OK;
}

static struct client_call *client_call_find(struct client_broker *broker, uint32_t correlation)
{
    list_for_each (node, &broker->calls) { /* mostly the first: replies come nearly in order */
        struct client_call *call = list_entry(node, struct client_call, link);
        if (call->correlation == correlation)
            return call;
    }
    return NULL;
}

/* A reply, or an error instead of one. What can't be read ends the connection. */
static err_t client_on_reply(struct client *client, struct client_broker *broker,
                             struct frame *frame, const struct wire_header *header)
{
    struct client_call *call = client_call_find(broker, header->correlation);
    if (call == NULL || call->method != header->method)
        return ERR_INVALID_REQUEST; /* every call is answered once, and none is forgotten before */
    const ProtobufCMessageDescriptor *type = header->kind == WIRE_ERROR
                                                 ? &karst__error__descriptor
                                                 : wire_method_find(call->method)->reply;
    ProtobufCMessage *message;
    err_t err = wire_unpack(type, wire_message(frame, header), &client->arena, &message);
    if (err != ERR_OK)
        return err;
    list_remove(&call->link);
    if (header->kind == WIRE_ERROR) {
        err_t code = ((const Karst__Error *)message)->code;
        client->said = ((const Karst__Error *)message)->message;
        call->done(client, call, code == ERR_OK ? ERR_UNKNOWN_SERVER_ERROR : code, NULL);
        client->said = NULL;
        return ERR_OK;
    }
    struct client_reply reply = {message, frame, wire_attachment(frame, header)};
    call->done(client, call, ERR_OK, &reply);
    return ERR_OK;
}

static err_t client_on_frame(struct client *client, struct client_broker *broker,
                             struct frame *frame)
{
    struct wire_header header;
    err_t err = wire_decode_header(frame, &header);
    if (err != ERR_OK)
        return err;
    if (broker->state == CLIENT_READY && (header.kind == WIRE_REPLY || header.kind == WIRE_ERROR))
        return client_on_reply(client, broker, frame, &header);
    if (broker->state != CLIENT_GREETING || header.kind != WIRE_HELLO)
        return ERR_INVALID_REQUEST;
    ProtobufCMessage *message;
    err = wire_unpack(&karst__hello__descriptor, wire_message(frame, &header), &client->arena,
                      &message);
    return err == ERR_OK ? client_on_hello(client, broker, (const Karst__Hello *)message) : err;
}

void client_on_received(void *actor, env_conn conn, struct frame *frame)
{
    struct client *client = actor;
    client->hooks.lock(client->hooks.context);
    struct client_broker *broker = client_broker_of(client, conn);
    if (broker != NULL) {
        broker->heard_ns = client_now(client);
        broker->probed = false;
        arena_reset(&client->arena);
        err_t err = client_on_frame(client, broker, frame);
        if (err != ERR_OK)
            client_broker_fail(client, broker, err);
    }
    frame_unref(frame);
    client->hooks.unlock(client->hooks.context);
}
