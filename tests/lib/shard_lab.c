#include "lib/shard_lab.h"

#include <stdio.h>
#include <stdlib.h>

#include "rpc/rpc.h"

enum { LAB_ROWS_MAX = 16 };

/* ---- the played quorum ---- */

static struct frame *quorum_reply(uint16_t method, const ProtobufCMessage *message)
{
    struct frame *frame = wire_frame(
        &(struct wire_frame_args){.kind = WIRE_REPLY, .method = method, .message = message});
    ASSERT(frame != NULL);
    return frame;
}

static struct frame *quorum_register(struct lab_node *node)
{
    Karst__RegisterBrokerReply reply = KARST__REGISTER_BROKER_REPLY__INIT;
    reply.error = node->register_err;
    reply.has_broker_epoch = true;
    reply.broker_epoch = 10 + node->call_peer;
    return quorum_reply(WIRE_REGISTER_BROKER, &reply.base);
}

static struct frame *quorum_heartbeat(struct lab_node *node, const ProtobufCMessage *message)
{
    const Karst__HeartbeatRequest *request = (const Karst__HeartbeatRequest *)message;
    node->heartbeat_offset = request->metadata_offset;
    if (request->node_id == 1) {
        node->failed_directories = request->n_failed_directories;
        node->failed_replicas = request->n_failed;
        for (size_t i = 0; i < request->n_ends; i++) {
            ASSERT(request->ends[i]->leader_epoch == node->asks_epoch);
            ASSERT(request->ends[i]->last_epoch == 3);
            node->ends_sum += request->ends[i]->end;
            node->ends_told++;
        }
    }
    node->shutdowns_wanted += request->want_shutdown ? 1 : 0;
    Karst__HeartbeatReply reply = KARST__HEARTBEAT_REPLY__INIT;
    struct partition_id ids[4];
    Karst__LogEnd rows[4], *row_ptrs[4];
    reply.asked = row_ptrs;
    while (node->asks_ends && request->node_id == 1 && reply.n_asked < ARRAY_LEN(rows)) {
        size_t i = reply.n_asked++;
        ids[i] = lab_partition_id((int32_t)i);
        karst__log_end__init(row_ptrs[i] = &rows[i]);
        rows[i].topic_id = wire_put_uuid(&ids[i].topic);
        rows[i].index = ids[i].index;
        rows[i].leader_epoch = node->asks_epoch;
    }
    reply.error = node->heartbeat_err;
    reply.has_fenced = true;
    reply.fenced = node->fenced;
    reply.has_may_shut_down = true;
    reply.may_shut_down = node->may_shut_down && request->want_shutdown;
    reply.has_quorum_age_ms = true;
    reply.quorum_age_ms = node->quorum_age_ms;
    return quorum_reply(WIRE_HEARTBEAT, &reply.base);
}

static struct frame *quorum_create(struct lab_node *node, const struct frame *frame,
                                   const ProtobufCMessage *message)
{
    frame_unref(node->last_create);
    node->last_create = frame_new(frame->used);
    memcpy(node->last_create->bytes, frame->bytes, frame->used);
    node->last_create->used = frame->used;
    if (node->creates <= node->refuse_creates)
        return wire_error_frame(WIRE_CREATE_TOPICS, 0, ERR_NOT_CONTROLLER, NULL);
    const Karst__CreateTopicsRequest *request = (const Karst__CreateTopicsRequest *)message;
    Karst__CreateTopicsReply reply = KARST__CREATE_TOPICS_REPLY__INIT;
    Karst__TopicResult results[LAB_ROWS_MAX], *list[LAB_ROWS_MAX];
    for (size_t i = 0; i < request->n_topics && i < LAB_ROWS_MAX; i++) {
        karst__topic_result__init(&results[i]);
        results[i].name = request->topics[i]->name;
        results[i].has_topic_id = true;
        results[i].topic_id = request->topics[i]->topic_id;
        results[i].error = node->create_err;
        list[reply.n_topics++] = &results[i];
    }
    reply.topics = list;
    return quorum_reply(WIRE_CREATE_TOPICS, &reply.base);
}

static struct frame *quorum_delete(const ProtobufCMessage *message)
{
    const Karst__DeleteTopicsRequest *request = (const Karst__DeleteTopicsRequest *)message;
    Karst__DeleteTopicsReply reply = KARST__DELETE_TOPICS_REPLY__INIT;
    Karst__TopicResult results[LAB_ROWS_MAX], *list[LAB_ROWS_MAX];
    for (size_t i = 0; i < request->n_topics && i < LAB_ROWS_MAX; i++) {
        karst__topic_result__init(&results[i]);
        results[i].name =
            request->topics[i]->name == NULL ? (char *)(uintptr_t) "" : request->topics[i]->name;
        results[i].has_topic_id = request->topics[i]->has_topic_id;
        results[i].topic_id = request->topics[i]->topic_id;
        results[i].error = ERR_UNKNOWN_TOPIC_ID; /* as if an earlier try had done it */
        list[reply.n_topics++] = &results[i];
    }
    reply.topics = list;
    return quorum_reply(WIRE_DELETE_TOPICS, &reply.base);
}

static struct frame *quorum_alter(const ProtobufCMessage *message)
{
    const Karst__AlterPartitionRequest *request = (const Karst__AlterPartitionRequest *)message;
    Karst__AlterPartitionReply reply = KARST__ALTER_PARTITION_REPLY__INIT;
    Karst__AlterPartitionItemReply items[LAB_ROWS_MAX], *list[LAB_ROWS_MAX];
    for (size_t i = 0; i < request->n_partitions && i < LAB_ROWS_MAX; i++) {
        karst__alter_partition_item_reply__init(&items[i]);
        items[i].topic_id = request->partitions[i]->topic_id;
        items[i].index = request->partitions[i]->index;
        list[reply.n_partitions++] = &items[i];
    }
    reply.partitions = list;
    return quorum_reply(WIRE_ALTER_PARTITION, &reply.base);
}

static struct frame *quorum_allocate(struct lab_node *node)
{
    Karst__AllocateProducerIdsReply reply = KARST__ALLOCATE_PRODUCER_IDS_REPLY__INIT;
    reply.has_first_producer_id = true;
    reply.first_producer_id = 1000 * node->allocates;
    reply.has_count = true;
    reply.count = 3;
    return quorum_reply(WIRE_ALLOCATE_PRODUCER_IDS, &reply.base);
}

static struct frame *quorum_handle(struct lab_node *node, const struct frame *frame)
{
    struct wire_header header;
    ASSERT(wire_decode_header(frame, &header) == ERR_OK);
    struct arena arena;
    arena_init(&arena, 1 << 20);
    ProtobufCMessage *message;
    ASSERT(wire_unpack(wire_method_find(header.method)->request, wire_message(frame, &header),
                       &arena, &message) == ERR_OK);
    struct frame *reply = NULL;
    if (!node->active && header.method != WIRE_DESCRIBE_QUORUM) {
        node->others++;
        reply = wire_error_frame(header.method, 0, ERR_NOT_CONTROLLER, NULL);
    } else if (header.method == WIRE_REGISTER_BROKER) {
        node->registers++;
        reply = quorum_register(node);
    } else if (header.method == WIRE_HEARTBEAT) {
        node->heartbeats++;
        reply = quorum_heartbeat(node, message);
    } else if (header.method == WIRE_CREATE_TOPICS) {
        node->creates++;
        node->create_peer = node->call_peer;
        reply = quorum_create(node, frame, message);
    } else if (header.method == WIRE_DELETE_TOPICS) {
        node->deletes++;
        reply = quorum_delete(message);
    } else if (header.method == WIRE_ALTER_PARTITION) {
        node->alters++;
        reply = quorum_alter(message);
    } else if (header.method == WIRE_ALLOCATE_PRODUCER_IDS) {
        node->allocates++;
        reply = quorum_allocate(node);
    } else {
        node->others++;
        Karst__DescribeQuorumReply describe = KARST__DESCRIBE_QUORUM_REPLY__INIT;
        reply = quorum_reply(WIRE_DESCRIBE_QUORUM, &describe.base);
    }
    arena_fini(&arena);
    return reply;
}

static void quorum_post(struct lab_node *node, unsigned to, struct env_message *message,
                        uint32_t type)
{
    struct env *env = sim_host_env(node->host, LAB_SHARDS);
    message->type = type;
    message->from = LAB_SHARDS;
    ASSERT(env->mail.post(env->mail.self, to, message) == ERR_OK);
}

static void quorum_mail(void *actor, void *mail)
{
    struct lab_node *node = actor;
    struct env_message *message = mail;
    if (message->type == QUORUM_CALL) {
        struct quorum_call *call = mail;
        node->call_peer = call->peer;
        if (!node->silent) {
            struct quorum_answer *answer = calloc(1, sizeof(*answer));
            answer->token = call->token;
            answer->frame = quorum_handle(node, call->frame);
            quorum_post(node, message->from, &answer->message, QUORUM_ANSWER);
        }
    } else if (message->type == QUORUM_ONEWAY) {
        node->oneways++;
    } else if (message->type == QUORUM_PEER_DIED) {
        node->died++;
        node->died_node = ((struct quorum_peer_died *)mail)->node;
        node->died_term = ((struct quorum_peer_died *)mail)->led_term;
    } else if (message->type == QUORUM_PEER_ANSWER) {
        node->peer_answers++;
        node->peer_answer = *(struct quorum_peer_answer *)mail;
    } else if (message->type == QUORUM_PEER_LOST) {
        node->lost++;
    } else if (message->type == QUORUM_HAND_OVER) {
        node->hand_overs++;
    }
    quorum_message_free(message);
}

void lab_quorum_send(struct lab *lab, unsigned node, unsigned to, uint64_t token)
{
    struct quorum_peer_send *send = calloc(1, sizeof(*send));
    Karst__DescribeQuorumRequest describe = KARST__DESCRIBE_QUORUM_REQUEST__INIT;
    Karst__RaftMessage raft = KARST__RAFT_MESSAGE__INIT;
    send->token = token;
    send->to.node = lab->nodes[to].id;
    send->to.port = LAB_PORT;
    snprintf(send->to.host, sizeof(send->to.host), "%s", lab->nodes[to].host->name);
    send->frame = wire_frame(&(struct wire_frame_args){
        .kind = token == 0 ? WIRE_ONEWAY : WIRE_REQUEST,
        .method = token == 0 ? WIRE_RAFT : WIRE_DESCRIBE_QUORUM,
        .message = token == 0 ? &raft.base : &describe.base,
    });
    quorum_post(&lab->nodes[node], 0, &send->message, QUORUM_PEER_SEND);
}

/* ---- nodes ---- */

static void node_exited(struct sim_host *host, int code, const char *why)
{
    struct lab_node *node = host->data;
    node->exited = true;
    node->exit_code = code;
    snprintf(node->exit_why, sizeof(node->exit_why), "%s", why);
}

static void node_start(struct lab *lab, unsigned idx)
{
    struct lab_node *node = &lab->nodes[idx];
    *node = (struct lab_node){.lab = lab, .id = (node_id_t)idx + 1};
    node->host = sim_host_add(&lab->world);
    node->host->port = LAB_PORT;
    node->host->accepting = LAB_SHARDS;
    node->host->powered = true;
    node->host->message_free = shard_message_free;
    node->host->exited = node_exited;
    node->host->data = node;
    node->disk = sim_disk_new(&(struct sim_disk_options){.seed = idx + 1});
    node->host->disk = node->disk;
    sim_host_boot(node->host, LAB_SHARDS + 1);
    node->config = (struct shard_config){
        .node = node->id,
        .shard_count = LAB_SHARDS,
        .cluster_id = lab_uuid(1),
        .incarnation = lab_uuid(500 + idx),
        .boot_id = lab_uuid(600),
        .listeners = {{.codec = &rpc_codec, .name = "RPC", .port = LAB_PORT}},
        .listener_count = 1,
        .directories = {lab_uuid(5000 + idx + 1)},
        .directory_count = 1,
        .session_timeout_ns = ENV_MS(2000),
        .heartbeat_ns = ENV_MS(200),
        .connections_max = 32,
        .requests_max = LAB_REQUESTS_MAX,
        .request_timeout_ns = ENV_MS(1000),
    };
    snprintf(node->config.listeners[0].host, sizeof(node->config.listeners[0].host), "%s",
             node->host->name);
    struct env *quorum = sim_host_env(node->host, LAB_SHARDS);
    quorum->actor = node;
    quorum->upcalls.mail = quorum_mail;
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ASSERT(shard_new(sim_host_env(node->host, i), i, &node->config, &node->shards[i]) ==
               ERR_OK);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        shard_start(node->shards[i]);
}

void lab_stop_node(struct lab *lab, unsigned idx)
{
    struct lab_node *node = &lab->nodes[idx];
    if (!node->host->up)
        return;
    node->host->dying = true;
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        shard_free(node->shards[i]);
        node->shards[i] = NULL;
    }
    sim_host_stop(node->host);
    sim_disk_free(node->disk);
    frame_unref(node->last_create);
    node->last_create = NULL;
}

/* ---- clients ---- */

static void client_connected(void *actor, env_conn conn)
{
    ((struct lab *)actor)->connected = conn;
}

static void client_received(void *actor, env_conn conn, struct frame *frame)
{
    struct lab *lab = actor;
    struct lab_received *received = calloc(1, sizeof(*received));
    received->conn = conn;
    received->frame = frame;
    list_push_back(&lab->received, &received->link);
}

static void client_closed(void *actor, env_conn conn, err_t err)
{
    (void)err;
    struct lab *lab = actor;
    lab->closed = conn;
    lab->closed_count++;
}

env_conn lab_dial(struct lab *lab, unsigned node)
{
    env_conn conn;
    const char *host = lab->nodes[node].host->name;
    ASSERT(lab->client->net.dial(lab->client->net.self, host, LAB_PORT, &conn) == ERR_OK);
    lab_run(lab, 20);
    ASSERT(env_conn_equal(conn, lab->connected));
    return conn;
}

Karst__Hello lab_hello(void)
{
    Karst__Hello hello = KARST__HELLO__INIT;
    hello.magic = WIRE_HELLO_MAGIC;
    hello.version = 1;
    return hello;
}

void lab_send_hello(struct lab *lab, env_conn conn, const Karst__Hello *hello)
{
    struct frame *frame =
        wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello->base});
    (void)lab->client->net.send(lab->client->net.self, conn, frame, 0, frame->used);
}

static void lab_expect_hello(struct lab *lab, env_conn conn)
{
    struct wire_header header;
    struct frame *frame = lab_take(lab, conn, 100);
    ASSERT(frame != NULL);
    ASSERT(wire_decode_header(frame, &header) == ERR_OK);
    ASSERT(header.kind == WIRE_HELLO);
    frame_unref(frame);
}

env_conn lab_connect(struct lab *lab, unsigned node)
{
    env_conn conn = lab_dial(lab, node);
    Karst__Hello hello = lab_hello();
    lab_send_hello(lab, conn, &hello);
    lab_expect_hello(lab, conn);
    return conn;
}

env_conn lab_connect_broker(struct lab *lab, unsigned node, node_id_t as, broker_epoch_t epoch)
{
    env_conn conn = lab_dial(lab, node);
    Karst__Hello hello = lab_hello();
    struct uuid cluster = lab_uuid(1), incarnation = lab_uuid(900);
    hello.has_cluster_id = hello.has_node_id = hello.has_incarnation = hello.has_broker_epoch =
        true;
    hello.cluster_id = wire_put_uuid(&cluster);
    hello.node_id = as;
    hello.incarnation = wire_put_uuid(&incarnation);
    hello.broker_epoch = epoch;
    lab_send_hello(lab, conn, &hello);
    lab_expect_hello(lab, conn);
    return conn;
}

static void lab_send_frame(struct lab *lab, env_conn conn, const struct wire_frame_args *args,
                           const void *attachment)
{
    struct frame *frame = wire_frame(args);
    if (attachment != NULL)
        memcpy(frame->bytes + frame->used, attachment, args->attachment_bytes);
    frame->used += (uint32_t)args->attachment_bytes;
    (void)lab->client->net.send(lab->client->net.self, conn, frame, 0, frame->used);
}

uint32_t lab_send(struct lab *lab, env_conn conn, uint16_t method, const ProtobufCMessage *message,
                  const void *attachment, size_t attachment_bytes)
{
    lab_send_frame(lab, conn,
                   &(struct wire_frame_args){.kind = WIRE_REQUEST,
                                             .method = method,
                                             .correlation = ++lab->correlation,
                                             .message = message,
                                             .attachment_bytes = attachment_bytes},
                   attachment);
    return lab->correlation;
}

void lab_send_oneway(struct lab *lab, env_conn conn, uint16_t method,
                     const ProtobufCMessage *message)
{
    lab_send_frame(
        lab, conn,
        &(struct wire_frame_args){.kind = WIRE_ONEWAY, .method = method, .message = message}, NULL);
}

static struct frame *lab_pop(struct lab *lab, env_conn conn)
{
    list_for_each (node, &lab->received) {
        struct lab_received *received = list_entry(node, struct lab_received, link);
        if (!env_conn_equal(received->conn, conn))
            continue;
        struct frame *frame = received->frame;
        list_remove(&received->link);
        free(received);
        return frame;
    }
    return NULL;
}

struct frame *lab_take(struct lab *lab, env_conn conn, uint64_t ms)
{
    uint64_t until = lab->world.now_ns + ENV_MS(ms);
    struct frame *frame = lab_pop(lab, conn);
    while (frame == NULL && lab->world.now_ns < until) {
        sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(1));
        frame = lab_pop(lab, conn);
    }
    return frame;
}

ProtobufCMessage *lab_reply(struct lab *lab, env_conn conn, uint32_t correlation, uint16_t method,
                            struct arena *arena)
{
    struct wire_header header;
    ProtobufCMessage *message;
    struct frame *frame = lab_take(lab, conn, 5000);
    ASSERT(frame != NULL);
    ASSERT(wire_decode_header(frame, &header) == ERR_OK);
    ASSERT(header.kind == WIRE_REPLY);
    ASSERT(header.correlation == correlation);
    ASSERT(header.method == method);
    ASSERT(wire_unpack(wire_method_find(method)->reply, wire_message(frame, &header), arena,
                       &message) == ERR_OK);
    frame_unref(frame);
    return message;
}

err_t lab_take_error(struct lab *lab, env_conn conn)
{
    struct wire_header header;
    struct frame *frame = lab_take(lab, conn, 5000);
    ASSERT(frame != NULL);
    ASSERT(wire_decode_header(frame, &header) == ERR_OK);
    ASSERT(header.kind == WIRE_ERROR);
    struct arena arena;
    arena_init(&arena, 1 << 16);
    ProtobufCMessage *message;
    ASSERT(wire_unpack(&karst__error__descriptor, wire_message(frame, &header), &arena, &message) ==
           ERR_OK);
    err_t err = ((Karst__Error *)message)->code;
    ASSERT(strlen(((Karst__Error *)message)->message) > 5);
    arena_fini(&arena);
    frame_unref(frame);
    return err;
}

bool lab_is_closed(const struct lab *lab, env_conn conn)
{
    return lab->closed_count > 0 && env_conn_equal(lab->closed, conn);
}

struct partition_id lab_partition_id(int32_t index)
{
    return (struct partition_id){.topic = lab_uuid(1), .index = index};
}

uint32_t lab_produce(struct lab *lab, env_conn conn, int acks, uint32_t timeout_ms,
                     const int32_t *indexes, size_t count)
{
    static uint8_t marker;
    struct uuid topic = lab_uuid(1);
    Karst__ProduceRequest request = KARST__PRODUCE_REQUEST__INIT;
    Karst__ProducePartition parts[16], *rows[16];
    uint8_t records[16 * 8];
    for (size_t i = 0; i < count; i++) {
        karst__produce_partition__init(&parts[i]);
        parts[i].topic_id = wire_put_uuid(&topic);
        parts[i].index = indexes[i];
        parts[i].bytes = 8;
        rows[i] = &parts[i];
        memset(records + 8 * i, ++marker, 8);
    }
    request.acks = acks;
    request.timeout_ms = timeout_ms;
    request.n_partitions = count;
    request.partitions = rows;
    return lab_send(lab, conn, WIRE_PRODUCE, &request.base, records, 8 * count);
}

uint32_t lab_fetch(struct lab *lab, env_conn conn, uint32_t wait_ms, const int32_t *indexes,
                   size_t count)
{
    struct uuid topic = lab_uuid(1);
    Karst__FetchRequest request = KARST__FETCH_REQUEST__INIT;
    Karst__FetchPartition parts[16], *rows[16];
    for (size_t i = 0; i < count; i++) {
        karst__fetch_partition__init(&parts[i]);
        parts[i].topic_id = wire_put_uuid(&topic);
        parts[i].index = indexes[i];
        parts[i].bytes_max = 1000;
        rows[i] = &parts[i];
    }
    request.wait_ms_max = wait_ms;
    request.bytes_min = 1;
    request.bytes_max = 1500;
    request.n_partitions = count;
    request.partitions = rows;
    return lab_send(lab, conn, WIRE_FETCH, &request.base, NULL, 0);
}

/* ---- the cluster ---- */

void lab_init(struct lab *lab, unsigned nodes, uint64_t seed)
{
    memset(lab, 0, sizeof(*lab));
    sim_world_init(&lab->world, seed);
    lab->world.net.give_up_ns = ENV_MS(2000);
    list_init(&lab->received);
    lab->node_count = nodes;
    for (unsigned i = 0; i < nodes; i++)
        node_start(lab, i);
    lab->client_host = sim_host_add(&lab->world);
    sim_host_boot(lab->client_host, 1);
    lab->client = sim_host_env(lab->client_host, 0);
    lab->client->actor = lab;
    lab->client->upcalls = (struct env_upcalls){
        .connected = client_connected, .received = client_received, .closed = client_closed};
    lab->image = image_new_empty();
}

void lab_fini(struct lab *lab)
{
    for (unsigned i = 0; i < lab->node_count; i++)
        lab_stop_node(lab, i);
    sim_host_stop(lab->client_host);
    struct list_node *node;
    while ((node = list_pop_front(&lab->received)) != NULL) {
        struct lab_received *received = list_entry(node, struct lab_received, link);
        frame_unref(received->frame);
        free(received);
    }
    image_unref(lab->image);
    sim_world_fini(&lab->world);
}

void lab_run(struct lab *lab, uint64_t ms)
{
    sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(ms));
}

void lab_lead(struct lab *lab, node_id_t leader)
{
    lab->term++;
    for (unsigned i = 0; i < lab->node_count; i++) {
        struct lab_node *node = &lab->nodes[i];
        node->active = node->id == leader;
        if (!node->host->up)
            continue;
        for (unsigned j = 0; j < LAB_SHARDS; j++) {
            struct quorum_leader *news = calloc(1, sizeof(*news));
            news->leader.node = leader;
            if (leader != NO_NODE) {
                news->leader.port = LAB_PORT;
                snprintf(news->leader.host, sizeof(news->leader.host), "%s",
                         lab->nodes[leader - 1].host->name);
            }
            news->active_here = node->active;
            news->term = lab->term;
            quorum_post(node, j, &news->message, QUORUM_LEADER);
        }
    }
}

void lab_publish(struct lab *lab, struct record_list *records)
{
    struct image *before = image_ref(lab->image);
    struct image_edit *edit = image_edit_begin(lab->image);
    struct bytes entry = {records->data, records->len};
    err_t err = image_edit_apply_entry(edit, entry, image_offset(lab->image) + 1);
    ASSERT(err == ERR_OK);
    image_unref(lab->image);
    lab->image = image_edit_finish(edit, NULL);
    record_list_fini(records);
    for (unsigned i = 0; i < lab->node_count; i++) {
        if (!lab->nodes[i].host->up)
            continue;
        for (unsigned j = 0; j < LAB_SHARDS; j++) {
            struct metadata_update *update = calloc(1, sizeof(*update));
            struct quorum_update *message = calloc(1, sizeof(*message));
            atomic_init(&update->refs, 1);
            update->image = image_ref(lab->image);
            update->difference = image_difference_between(before, lab->image);
            message->update = update;
            quorum_post(&lab->nodes[i], j, &message->message, QUORUM_UPDATE);
        }
    }
    image_unref(before);
}

void lab_register_node(const struct lab_node *node, struct record_list *records,
                       const struct uuid *incarnation, broker_epoch_t epoch)
{
    Karst__RegisterBrokerRecord record = KARST__REGISTER_BROKER_RECORD__INIT;
    Karst__Listener listener = KARST__LISTENER__INIT, *listeners = &listener;
    listener.name = (char *)(uintptr_t) "RPC";
    listener.host = node->host->name;
    listener.port = LAB_PORT;
    record.node_id = node->id;
    record.incarnation = wire_put_uuid(incarnation);
    record.boot_id = wire_put_uuid(&node->config.boot_id);
    record.n_listeners = 1;
    record.listeners = &listeners;
    record.broker_epoch = epoch;
    record_list_add(records, &record.base);
}

void lab_settle(struct lab *lab, node_id_t controller)
{
    struct record_list records;
    record_list_init(&records);
    lab_feature(&records, 1);
    lab_cluster(&records, 1, 2);
    for (unsigned i = 0; i < lab->node_count; i++) {
        struct lab_node *node = &lab->nodes[i];
        lab_register_node(node, &records, &node->config.incarnation, 10 + node->id);
        lab_broker_change(&records, node->id, 10 + node->id, BROKER_STATE_ACTIVE);
    }
    lab_topic(&records, 1, "orders");
    for (int32_t i = 0; i < 4; i++)
        lab_partition(&records, 1, i, 1, lab->node_count);
    lab_publish(lab, &records);
    lab_lead(lab, controller);
    lab_run(lab, 500);
}
