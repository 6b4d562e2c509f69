/* Replies lie in the request's arena, which is bounded. Whatever its room: a reply that does not
 * fit says that its outcome is not told, what is refused is not done, and what was decided can be
 * committed. */
#include "lib/check_main.h"
#include "unit/controller/lab.h"

enum { ROOM_STEP = 16, ROOM_MAX = 4096 };

/* Ids of a request, which outlive it. */
static ProtobufCBinaryData bin(struct uuid id)
{
    static struct uuid ids[32];
    static size_t next;
    struct uuid *kept = &ids[next++ % ARRAY_LEN(ids)];
    *kept = id;
    return (ProtobufCBinaryData){sizeof(kept->b), kept->b};
}

static char *words(const char *said)
{
    return (char *)(uintptr_t)said;
}

/* "t": one partition of brokers 1 to 3; "led": as well, led by 2; "waits": held by 3 alone, which
 * is dead, so that its end is asked of 1 and 2. */
static void setup(struct lab *lab)
{
    lab_init(lab, 3);
    (void)lab_assigned(lab, "t", 3, 1, 2, 3);
    (void)lab_assigned(lab, "led", 3, 2, 1, 3);
    struct partition_id waits = lab_assigned(lab, "waits", 3, 3, 1, 2);
    const struct lab_alter alone = {.id = waits, .isr_count = 1, .isr = {3}};
    ck_assert_int_eq(lab_alter(lab, &alone)->error, ERR_OK);
    lab_commit(lab);
    lab_died(lab, 3, 0);
    lab_commit(lab);
    Karst__ElectPartition row = KARST__ELECT_PARTITION__INIT, *rows = &row;
    Karst__ElectLeadersRequest order = KARST__ELECT_LEADERS_REQUEST__INIT;
    row.topic_id = bin(waits.topic);
    order.unclean = true;
    order.n_partitions = 1;
    order.partitions = &rows;
    (void)lab_ask(lab, &order.base, NO_NODE);
    lab_commit(lab);
    ck_assert_int_eq(lab_partition(lab, &waits)->leader, NO_NODE);
}

/* ---- requests ---- */

static const ProtobufCMessage *ask_register(struct lab *lab, uint64_t cluster, uint32_t level)
{
    static Karst__Listener listener, *listeners = &listener;
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    static ProtobufCBinaryData directory;
    listener = (Karst__Listener)KARST__LISTENER__INIT;
    listener.name = words("RPC");
    listener.host = words("here");
    listener.port = 9004;
    directory = bin(lab_id(99));
    request.node_id = 4;
    request.cluster_id = bin(lab_id(cluster));
    request.incarnation = bin(lab_id(100));
    request.boot_id = bin(lab_id(101));
    request.n_listeners = 1;
    request.listeners = &listeners;
    request.n_online_directories = 1;
    request.online_directories = &directory;
    request.has_feature_min = request.has_feature_max = true;
    request.feature_min = request.feature_max = level;
    return lab_ask(lab, &request.base, 4);
}

static const ProtobufCMessage *registers(struct lab *lab)
{
    return ask_register(lab, 1, 1);
}

static const ProtobufCMessage *registers_elsewhere(struct lab *lab)
{
    const ProtobufCMessage *reply = ask_register(lab, 2, 1);
    ck_assert_ptr_null(image_broker(lab_view(lab), 4)); /* with or without a sentence */
    return reply;
}

static const ProtobufCMessage *registers_too_new(struct lab *lab)
{
    const ProtobufCMessage *reply = ask_register(lab, 1, 2);
    ck_assert_ptr_null(image_broker(lab_view(lab), 4));
    return reply;
}

static const ProtobufCMessage *beats(struct lab *lab)
{
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(lab), 1)->epoch;
    request.metadata_offset = image_offset(lab->committed);
    return lab_ask(lab, &request.base, 1);
}

static const ProtobufCMessage *alters(struct lab *lab)
{
    static const char *const names[] = {"t", "led"};
    static Karst__IsrMember members[2], *member_rows[2] = {&members[0], &members[1]};
    static Karst__AlterPartitionItem items[2], *rows[2] = {&items[0], &items[1]};
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    for (size_t i = 0; i < 2; i++) {
        struct partition_id id = lab_id_of(lab, names[i], 0);
        const struct image_partition *p = lab_partition(lab, &id);
        members[i] = (Karst__IsrMember)KARST__ISR_MEMBER__INIT;
        members[i].node_id = (int32_t)i + 1;
        members[i].broker_epoch = image_broker(lab_view(lab), (node_id_t)i + 1)->epoch;
        items[i] = (Karst__AlterPartitionItem)KARST__ALTER_PARTITION_ITEM__INIT;
        items[i].topic_id = bin(id.topic);
        items[i].leader_epoch = p->leader_epoch;
        items[i].partition_epoch = p->partition_epoch;
        items[i].n_isr = 2;
        items[i].isr = member_rows;
    }
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(lab), 1)->epoch;
    request.n_partitions = 2;
    request.partitions = rows;
    return lab_ask(lab, &request.base, 1);
}

static const ProtobufCMessage *allocates(struct lab *lab)
{
    Karst__AllocateProducerIdsRequest request = KARST__ALLOCATE_PRODUCER_IDS_REQUEST__INIT;
    request.node_id = 2;
    request.broker_epoch = image_broker(lab_view(lab), 2)->epoch;
    return lab_ask(lab, &request.base, 2);
}

static const ProtobufCMessage *creates(struct lab *lab)
{
    static const struct {
        const char *name;
        int32_t partitions, replicas;
    } wishes[] = {{"new", 3, 2},  {"t", 1, 1},    {"a.b", 1, 1},   {"a_b", 1, 1},
                  {"many", 2, 9}, {"none", 0, 1}, {"twice", 1, 1}, {"twice", 1, 1}};
    static Karst__CreateTopic topics[ARRAY_LEN(wishes)], *rows[ARRAY_LEN(wishes)];
    static Karst__ConfigValue config, *configs = &config;
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    for (size_t i = 0; i < ARRAY_LEN(wishes); i++) {
        topics[i] = (Karst__CreateTopic)KARST__CREATE_TOPIC__INIT;
        topics[i].name = words(wishes[i].name);
        topics[i].partitions = wishes[i].partitions;
        topics[i].replication_factor = wishes[i].replicas;
        rows[i] = &topics[i];
    }
    config = (Karst__ConfigValue)KARST__CONFIG_VALUE__INIT;
    config.key = words("retention.ms");
    config.value = words("60000");
    topics[0].n_configs = 1;
    topics[0].configs = &configs;
    request.n_topics = ARRAY_LEN(wishes);
    request.topics = rows;
    const ProtobufCMessage *reply = lab_ask(lab, &request.base, NO_NODE);
    ck_assert_ptr_null(image_topic_by_name(lab_view(lab), "many"));
    ck_assert_ptr_null(image_topic_by_name(lab_view(lab), "none"));
    ck_assert_ptr_null(image_topic_by_name(lab_view(lab), "twice"));
    return reply;
}

static const ProtobufCMessage *deletes(struct lab *lab)
{
    static Karst__DeleteTopic topics[3], *rows[3];
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    for (size_t i = 0; i < 3; i++) {
        topics[i] = (Karst__DeleteTopic)KARST__DELETE_TOPIC__INIT;
        rows[i] = &topics[i];
    }
    topics[0].has_topic_id = true;
    topics[0].topic_id = bin(lab_id_of(lab, "t", 0).topic);
    topics[1].name = words("led");
    topics[2].name = words("nothing");
    request.n_topics = 3;
    request.topics = rows;
    return lab_ask(lab, &request.base, NO_NODE);
}

static const ProtobufCMessage *elects(struct lab *lab)
{
    static Karst__ElectPartition parts[2], *rows[2];
    Karst__ElectLeadersRequest request = KARST__ELECT_LEADERS_REQUEST__INIT;
    for (size_t i = 0; i < 2; i++) {
        parts[i] = (Karst__ElectPartition)KARST__ELECT_PARTITION__INIT;
        rows[i] = &parts[i];
    }
    parts[0].topic_id = bin(lab_id_of(lab, "led", 0).topic);
    parts[1].topic_id = (ProtobufCBinaryData){3, (uint8_t *)words("abc")};
    request.n_partitions = 2;
    request.partitions = rows;
    return lab_ask(lab, &request.base, NO_NODE);
}

/* ---- with less and less room ---- */

static void with_any_room(const ProtobufCMessage *(*ask)(struct lab *lab),
                          const ProtobufCMessageDescriptor *type)
{
    size_t fitted = 0;
    for (size_t room = 0; room <= ROOM_MAX; room += ROOM_STEP) {
        struct lab lab;
        setup(&lab);
        arena_fini(&lab.arena);
        arena_init(&lab.arena, room);
        const ProtobufCMessage *reply = ask(&lab);
        if (reply->descriptor != type) {
            const Karst__Error *error = (const Karst__Error *)reply;
            ck_assert_ptr_eq(reply->descriptor, &karst__error__descriptor);
            ck_assert_int_eq(error->code, ERR_REQUEST_TIMED_OUT);
        }
        fitted += reply->descriptor == type;
        lab_commit(&lab);
        lab_fini(&lab);
    }
    ck_assert_uint_gt(fitted, 1);
    ck_assert_uint_le(fitted, ROOM_MAX / ROOM_STEP);
}

START_TEST(a_registration_is_refused_also_where_no_sentence_fits)
{
    with_any_room(registers, &karst__register_broker_reply__descriptor);
    with_any_room(registers_elsewhere, &karst__register_broker_reply__descriptor);
    with_any_room(registers_too_new, &karst__register_broker_reply__descriptor);
}
END_TEST

START_TEST(a_heartbeat_without_room_asks_nothing)
{
    with_any_room(beats, &karst__heartbeat_reply__descriptor);
}
END_TEST

START_TEST(an_isr_whose_reply_does_not_fit_is_not_told)
{
    with_any_room(alters, &karst__alter_partition_reply__descriptor);
    with_any_room(allocates, &karst__allocate_producer_ids_reply__descriptor);
    with_any_room(elects, &karst__elect_leaders_reply__descriptor);
}
END_TEST

START_TEST(topics_are_made_and_deleted_whole_whatever_fits_of_the_reply)
{
    with_any_room(creates, &karst__create_topics_reply__descriptor);
    with_any_room(deletes, &karst__delete_topics_reply__descriptor);
}
END_TEST

CHECK_MAIN("controller/room", a_registration_is_refused_also_where_no_sentence_fits,
           a_heartbeat_without_room_asks_nothing, an_isr_whose_reply_does_not_fit_is_not_told,
           topics_are_made_and_deleted_whole_whatever_fits_of_the_reply)
