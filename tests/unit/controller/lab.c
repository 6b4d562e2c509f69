#include "unit/controller/lab.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/logger.h"

static ProtobufCBinaryData lab_bin(const struct uuid *id)
{
    return (ProtobufCBinaryData){sizeof(id->b), (uint8_t *)(uintptr_t)id->b};
}

static char *lab_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

struct uuid lab_id(uint64_t number)
{
    return uuid_make(number * UINT64_C(0x9E3779B97F4A7C15), number);
}

struct uuid lab_incarnation(node_id_t node, int life)
{
    return lab_id(1000000 + (uint64_t)node * 1000 + (uint64_t)life);
}

const struct image *lab_view(const struct lab *lab)
{
    return controller_view(lab->controller);
}

static struct controller *lab_controller(struct lab *lab)
{
    const struct controller_config config = {
        .session_timeout_ns = LAB_MS(LAB_SESSION_MS),
        .default_partitions = 1,
        .default_replication_factor = 1,
        .topic_partitions_max = 20000,
        .preferred_leader_wait_ns = LAB_MS(LAB_PREFERRED_MS),
    };
    return controller_new(&config, &lab->rng);
}

/* ---- committing ---- */

static void lab_apply_entry(struct lab *lab, struct bytes entry)
{
    struct image_edit *edit = image_edit_begin(lab->committed);
    err_t err = image_edit_apply_entry(edit, entry, image_offset(lab->committed) + 1);
    ck_assert_str_eq(err_name(err), "OK"); /* R3: what was proposed can be applied */
    struct image *after = image_edit_finish(edit, NULL);
    image_unref(lab->committed);
    lab->committed = after;
    controller_committed(lab->controller, after);
}

void lab_commit(struct lab *lab)
{
    struct bytes entry;
    for (size_t at = 0; (entry = record_list_entry(&lab->proposed, at)).len > 0; at += entry.len)
        lab_apply_entry(lab, entry);
    record_list_fini(&lab->proposed);
    ck_assert_uint_eq(image_digest(lab->committed), image_digest(lab_view(lab)));
}

static void lab_propose(struct lab *lab, struct record_list *records)
{
    record_list_append(&lab->proposed, records);
    record_list_fini(&lab->last);
    lab->last = *records;
}

static int64_t lab_offset(const struct lab *lab)
{
    return image_offset(lab->committed) + 1;
}

void lab_take_over(struct lab *lab)
{
    controller_free(lab->controller);
    lab->controller = lab_controller(lab);
    record_list_fini(&lab->proposed);
    struct record_list records = {0};
    controller_activate(lab->controller, lab->committed, lab_offset(lab), lab->now_ns, &records);
    lab_propose(lab, &records);
}

/* ---- requests, time ---- */

const void *lab_ask(struct lab *lab, const ProtobufCMessage *request, node_id_t from)
{
    struct controller_request asked = {.message = request, .from = from, .from_epoch = -1};
    struct controller_decision decision = {0};
    arena_reset(&lab->arena);
    controller_handle(lab->controller, &asked, lab_offset(lab), lab->now_ns, &lab->arena,
                      &decision);
    ck_assert_ptr_nonnull(decision.reply);
    lab_propose(lab, &decision.records);
    return decision.reply;
}

void lab_tick(struct lab *lab, uint64_t after_ms)
{
    struct record_list records = {0};
    lab->now_ns += LAB_MS(after_ms);
    controller_tick(lab->controller, lab_offset(lab), lab->now_ns, &records);
    lab_propose(lab, &records);
}

void lab_run(struct lab *lab, uint64_t ms, node_id_t except)
{
    for (uint64_t at = 0; at < ms; at += 200) {
        size_t brokers = image_broker_count(lab_view(lab));
        for (size_t i = 0; i < brokers; i++) {
            node_id_t node = image_broker_at(lab_view(lab), i)->id;
            if (node != except)
                lab_heartbeat(lab, node);
        }
        lab_commit(lab);
        lab_tick(lab, 200);
        struct record_list ticked = {0};
        record_list_append(&ticked, &lab->last);
        lab_commit(lab);
        record_list_fini(&lab->last);
        lab->last = ticked;
    }
}

void lab_died(struct lab *lab, node_id_t node, int life)
{
    struct record_list records = {0};
    struct uuid incarnation = lab_incarnation(node, life);
    controller_broker_died(lab->controller, node, &incarnation, lab_offset(lab), lab->now_ns,
                           &records);
    lab_propose(lab, &records);
}

/* ---- brokers ---- */

const Karst__RegisterBrokerReply *lab_register(struct lab *lab,
                                               const struct lab_registration *registration)
{
    const struct lab_registration *r = registration;
    struct uuid cluster = lab_id(r->cluster == 0 ? 1 : r->cluster);
    struct uuid boot = lab_id(r->boot == 0 ? 3 : r->boot);
    struct uuid incarnation = lab_incarnation(r->node, r->life);
    struct uuid directory = lab_id(r->directory == 0 ? 5000000 + (uint64_t)r->node : r->directory);
    ProtobufCBinaryData directories = lab_bin(&directory);
    Karst__Listener listener = KARST__LISTENER__INIT, *listeners = &listener;
    listener.name = lab_text("RPC");
    listener.host = lab_text("127.0.0.1");
    listener.port = 9000 + (uint32_t)r->node;
    Karst__LostReplica lost[16], *lost_rows[16];
    ASSERT(r->lost_count <= ARRAY_LEN(lost));
    for (size_t i = 0; i < r->lost_count; i++) {
        karst__lost_replica__init(&lost[i]);
        lost[i].topic_id = lab_bin(&r->lost[i].topic);
        lost[i].index = r->lost[i].index;
        lost_rows[i] = &lost[i];
    }
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    request.cluster_id = lab_bin(&cluster);
    request.node_id = r->node;
    request.incarnation = lab_bin(&incarnation);
    request.n_listeners = 1;
    request.listeners = &listeners;
    request.rack = lab_text(r->rack);
    request.n_online_directories = 1;
    request.online_directories = &directories;
    request.boot_id = lab_bin(&boot);
    request.clean_start = r->clean;
    request.n_verified_directories = r->verified;
    request.verified_directories = &directories;
    request.n_lost = r->lost_count;
    request.lost = lost_rows;
    return lab_ask(lab, &request.base, r->node);
}

static const Karst__HeartbeatReply *lab_beat(struct lab *lab, node_id_t node, int64_t offset,
                                             bool leave)
{
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = node;
    request.broker_epoch = image_broker(lab_view(lab), node)->epoch;
    request.metadata_offset = offset;
    request.has_want_shutdown = request.want_shutdown = leave;
    const Karst__HeartbeatReply *reply = lab_ask(lab, &request.base, node);
    ck_assert_int_eq(reply->error, ERR_OK);
    return reply;
}

const Karst__HeartbeatReply *lab_heartbeat(struct lab *lab, node_id_t node)
{
    return lab_beat(lab, node, image_offset(lab->committed), false);
}

const Karst__HeartbeatReply *lab_heartbeat_at(struct lab *lab, node_id_t node, int64_t offset)
{
    return lab_beat(lab, node, offset, false);
}

const Karst__HeartbeatReply *lab_leave(struct lab *lab, node_id_t node)
{
    return lab_beat(lab, node, image_offset(lab->committed), true);
}

void lab_join(struct lab *lab, node_id_t node, int life)
{
    ck_assert_int_eq(
        lab_register(lab, &(struct lab_registration){.node = node, .life = life})->error, ERR_OK);
    lab_commit(lab);
    lab_heartbeat(lab, node);
    lab_commit(lab);
    ck_assert_int_eq(image_broker(lab_view(lab), node)->state, BROKER_STATE_ACTIVE);
}

void lab_init(struct lab *lab, int brokers)
{
    *lab = (struct lab){.now_ns = LAB_MS(1000000)};
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    rng_seed(&lab->rng, 42);
    arena_init(&lab->arena, 64 << 20);
    lab->committed = image_new_empty();
    lab->controller = lab_controller(lab);
    struct uuid cluster = lab_id(1), recovery = lab_id(2);
    Karst__Voter voter = KARST__VOTER__INIT;
    const Karst__Voter *voters = &voter;
    voter.node_id = 1;
    voter.host = lab_text("127.0.0.1");
    voter.port = 9001;
    struct record_list records = {0};
    controller_bootstrap_records(&cluster, &recovery, &voters, 1, &records);
    lab_apply_entry(lab, (struct bytes){records.data, records.len});
    record_list_fini(&records);
    controller_activate(lab->controller, lab->committed, 2, lab->now_ns - LAB_MS(500000), &records);
    lab_propose(lab, &records);
    lab_commit(lab);
    for (node_id_t node = 1; node <= brokers; node++)
        lab_join(lab, node, 0);
    lab_tick(lab, 0); /* the gap since activation is none of a broker's */
}

void lab_fini(struct lab *lab)
{
    controller_free(lab->controller);
    image_unref(lab->committed);
    record_list_fini(&lab->proposed);
    record_list_fini(&lab->last);
    arena_fini(&lab->arena);
}

/* ---- topics ---- */

const Karst__TopicResult *lab_create(struct lab *lab, const char *name, int32_t partitions,
                                     int32_t replication_factor, ...)
{
    Karst__ConfigValue configs[16], *config_rows[16];
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    topic.name = lab_text(name);
    topic.partitions = partitions;
    topic.replication_factor = replication_factor;
    topic.configs = config_rows;
    va_list args;
    va_start(args, replication_factor);
    for (const char *key; (key = va_arg(args, const char *)) != NULL; topic.n_configs++) {
        ASSERT(topic.n_configs < ARRAY_LEN(configs));
        Karst__ConfigValue *config = config_rows[topic.n_configs] = &configs[topic.n_configs];
        karst__config_value__init(config);
        config->key = lab_text(key);
        config->value = lab_text(va_arg(args, const char *));
    }
    va_end(args);
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    const Karst__CreateTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    ck_assert_int_eq(reply->error, ERR_OK);
    ck_assert_uint_eq(reply->n_topics, 1);
    return reply->topics[0];
}

struct partition_id lab_assigned(struct lab *lab, const char *name, int count, ...)
{
    int32_t replicas[REPLICAS_MAX];
    va_list args;
    va_start(args, count);
    for (int i = 0; i < count; i++)
        replicas[i] = va_arg(args, int);
    va_end(args);
    Karst__ReplicaAssignment row = KARST__REPLICA_ASSIGNMENT__INIT, *rows = &row;
    row.n_replicas = (size_t)count;
    row.replicas = replicas;
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    topic.name = lab_text(name);
    topic.n_assignment = 1;
    topic.assignment = &rows;
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    const Karst__CreateTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    ck_assert_str_eq(err_name(reply->topics[0]->error), "OK");
    lab_commit(lab);
    return lab_id_of(lab, name, 0);
}

struct partition_id lab_id_of(const struct lab *lab, const char *topic, int32_t index)
{
    const struct image_topic *found = image_topic_by_name(lab_view(lab), topic);
    ck_assert_ptr_nonnull(found);
    return (struct partition_id){found->id, index};
}

const struct image_partition *lab_partition(const struct lab *lab, const struct partition_id *id)
{
    const struct image_partition *p = image_partition(lab_view(lab), id);
    ck_assert_ptr_nonnull(p);
    return p;
}

const Karst__AlterPartitionItemReply *lab_alter(struct lab *lab, const struct lab_alter *alter)
{
    const struct image_partition *p = image_partition(lab_view(lab), &alter->id);
    Karst__IsrMember members[REPLICAS_MAX], *rows[REPLICAS_MAX];
    for (int i = 0; i < alter->isr_count; i++) {
        const struct image_broker *broker = image_broker(lab_view(lab), alter->isr[i]);
        karst__isr_member__init(&members[i]);
        members[i].node_id = alter->isr[i];
        members[i].broker_epoch = broker == NULL ? 0 : broker->epoch;
        rows[i] = &members[i];
    }
    if (alter->isr_count > 0)
        members[alter->isr_count - 1].broker_epoch += alter->member_epoch_off;
    Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT, *items = &item;
    item.topic_id = lab_bin(&alter->id.topic);
    item.index = alter->id.index;
    item.leader_epoch = (p == NULL ? 0 : p->leader_epoch) + alter->leader_epoch_off;
    item.partition_epoch = (p == NULL ? 0 : p->partition_epoch) + alter->partition_epoch_off;
    item.n_isr = (size_t)alter->isr_count;
    item.isr = rows;
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    request.node_id = alter->from != 0 || p == NULL ? alter->from : p->leader;
    request.broker_epoch = image_broker(lab_view(lab), request.node_id)->epoch;
    request.n_partitions = 1;
    request.partitions = &items;
    const Karst__AlterPartitionReply *reply = lab_ask(lab, &request.base, request.node_id);
    ck_assert_int_eq(reply->error, ERR_OK);
    return reply->partitions[0];
}

/* ---- what is ---- */

const char *lab_state(const struct lab *lab, const struct partition_id *id)
{
    static char text[256];
    const struct image_partition *p = lab_partition(lab, id);
    int len = snprintf(text, sizeof(text), "%d [", p->leader);
    for (int i = 0; i < p->isr_count; i++)
        len += snprintf(text + len, sizeof(text) - (size_t)len, i == 0 ? "%d" : ",%d", p->isr[i]);
    snprintf(text + len, sizeof(text) - (size_t)len, "] e%d p%d", p->leader_epoch,
             p->partition_epoch);
    return text;
}

const char *lab_records(const struct lab *lab)
{
    static char text[1024];
    int len = 0;
    Karst__MetadataRecord record;
    text[0] = '\0';
    for (size_t at = 0; record_next((struct bytes){lab->last.data, lab->last.len}, &at, &record);) {
        const char *name = record_descriptor(record.type)->short_name;
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%s%.*s", len == 0 ? "" : " ",
                        (int)(strlen(name) - strlen("Record")), name);
        if (len > 900)
            break;
    }
    return text;
}
