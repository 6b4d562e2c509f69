/* Ids that are none, rows that are too many, and calls at a controller that is not active: refused
 * or left out, and the rest of the request stands. */
#include <string.h>

#include "lib/check_main.h"
#include "unit/controller/lab.h"

static struct lab lab; /* each test has a process of its own */

static uint8_t junk[17] = {1, 2, 3};

static ProtobufCBinaryData bin(struct uuid id)
{
    static struct uuid ids[64];
    static size_t next;
    struct uuid *kept = &ids[next++ % ARRAY_LEN(ids)];
    *kept = id;
    return (ProtobufCBinaryData){sizeof(kept->b), kept->b};
}

static ProtobufCBinaryData bad(size_t len)
{
    return (ProtobufCBinaryData){len, junk};
}

static ProtobufCBinaryData zero(void)
{
    return bin((struct uuid){0});
}

static char *words(const char *said)
{
    return (char *)(uintptr_t)said;
}

/* ---- registrations ---- */

static Karst__Listener listener, *listeners = &listener;
static ProtobufCBinaryData directory;
static Karst__LostReplica lost, *lost_rows = &lost;

static Karst__RegisterBrokerRequest registration(node_id_t node)
{
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    listener = (Karst__Listener)KARST__LISTENER__INIT;
    listener.name = words("RPC");
    listener.host = words("here");
    listener.port = 9004;
    directory = bin(lab_id(5000000 + (uint64_t)node));
    lost = (Karst__LostReplica)KARST__LOST_REPLICA__INIT;
    request.node_id = node;
    request.cluster_id = bin(lab_id(1));
    request.incarnation = bin(lab_incarnation(node, 9));
    request.boot_id = bin(lab_id(3));
    request.n_listeners = 1;
    request.listeners = &listeners;
    request.n_online_directories = 1;
    request.online_directories = &directory;
    return request;
}

static err_t registers(const Karst__RegisterBrokerRequest *request)
{
    const Karst__RegisterBrokerReply *reply = lab_ask(&lab, &request->base, 1);
    if (reply->error != ERR_OK)
        ck_assert_uint_eq(lab.last.count, 0);
    return reply->error;
}

START_TEST(a_registration_with_ids_that_are_none_is_refused_whole)
{
    lab_init(&lab, 1);
    Karst__RegisterBrokerRequest request = registration(4);
    request.cluster_id = bad(15);
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    request.incarnation = bad(17);
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    directory = bad(3);
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    directory = zero();
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(-1);
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    request.n_listeners = 0;
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    lost.topic_id = bad(15);
    request.n_lost = 1;
    request.lost = &lost_rows;
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    request.has_feature_min = request.has_feature_max = true;
    request.feature_min = request.feature_max = 0;
    ck_assert_int_eq(registers(&request), ERR_UNSUPPORTED_VERSION);
    request = registration(4);
    request.boot_id = bad(4); /* found by apply: nothing of it is left */
    ck_assert_int_eq(registers(&request), ERR_INVALID_REQUEST);
    request = registration(4);
    ck_assert_int_eq(registers(&request), ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_without_a_directory_is_placed_nowhere) /* R1 */
{
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    Karst__RegisterBrokerRequest request = registration(2);
    request.n_online_directories = 0;
    lost.topic_id = bin(id.topic);
    request.n_lost = 1;
    request.lost = &lost_rows;
    ck_assert_int_eq(registers(&request), ERR_OK);
    lab_commit(&lab);
    const struct image_partition *p = lab_partition(&lab, &id);
    ck_assert(!image_partition_in_isr(p, 2));
    ck_assert(uuid_is_zero(&p->directories[1]));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_machine_that_does_not_say_its_boot_may_have_lost_its_page_cache) /* R20 */
{
    lab_init(&lab, 1);
    const Karst__TopicResult *made = lab_create(&lab, "t", 1, 1, "flush.before.ack", "false", NULL);
    ck_assert_int_eq(made->error, ERR_OK);
    lab_commit(&lab);
    struct partition_id id = lab_id_of(&lab, "t", 0);
    Karst__RegisterBrokerRequest request = registration(1);
    request.boot_id = zero();
    ck_assert_int_eq(registers(&request), ERR_OK);
    lab_commit(&lab);
    ck_assert_int_ge(lab_partition(&lab, &id)->last_unclean_leader_epoch, 0);
    lab_fini(&lab);
}
END_TEST

/* ---- heartbeats ---- */

static Karst__HeartbeatRequest heartbeat(node_id_t node)
{
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = node;
    request.broker_epoch = image_broker(lab_view(&lab), node)->epoch;
    request.metadata_offset = image_offset(lab.committed);
    return request;
}

START_TEST(malformed_rows_of_a_heartbeat_are_left_out)
{
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    ProtobufCBinaryData rows[DIRECTORIES_MAX + 4];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        rows[i] = bin(lab_id(700 + i));
    rows[0] = bad(15);
    rows[1] = zero();
    Karst__LostReplica failed = KARST__LOST_REPLICA__INIT, *failed_rows = &failed;
    failed.topic_id = bad(3);
    Karst__LogEnd end = KARST__LOG_END__INIT, *ends = &end;
    end.topic_id = bad(17);
    Karst__HeartbeatRequest request = heartbeat(1);
    request.n_failed_directories = 2;
    request.failed_directories = rows;
    request.n_failed = 1;
    request.failed = &failed_rows;
    request.n_full_directories = ARRAY_LEN(rows); /* more than a broker can have */
    request.full_directories = rows;
    request.n_ends = 1;
    request.ends = &ends;
    const Karst__HeartbeatReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->error, ERR_OK);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 1);
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->failed_count, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_directory_that_failed_is_marked_once_and_no_more_than_there_can_be) /* R14 */
{
    lab_init(&lab, 1);
    ProtobufCBinaryData rows[DIRECTORIES_MAX + 4];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++)
        rows[i] = bin(lab_id(700 + i));
    Karst__HeartbeatRequest request = heartbeat(1);
    request.failed_directories = rows;
    request.n_failed_directories = 2;
    (void)lab_ask(&lab, &request.base, 1);
    lab_commit(&lab);
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->failed_count, 2);
    (void)lab_ask(&lab, &request.base, 1);
    ck_assert_uint_eq(lab.last.count, 0);
    request.n_failed_directories = ARRAY_LEN(rows);
    (void)lab_ask(&lab, &request.base, 1);
    lab_commit(&lab);
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->failed_count, DIRECTORIES_MAX);
    lab_fini(&lab);
}
END_TEST

/* ---- topics, elections ---- */

static const Karst__TopicResult *creates(Karst__CreateTopic *topic, ProtobufCBinaryData request_id)
{
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topic;
    request.has_request_id = request_id.data != NULL;
    request.request_id = request_id;
    const Karst__CreateTopicsReply *reply = lab_ask(&lab, &request.base, NO_NODE);
    return reply->topics[0];
}

START_TEST(a_topic_is_asked_for_with_ids_and_assignments_that_are_some)
{
    enum { MANY = 20001 };
    static int32_t nodes[REPLICAS_MAX + 1];
    static Karst__ReplicaAssignment rows[2], *row_ptrs[MANY];
    ProtobufCBinaryData none = {0, NULL};
    lab_init(&lab, 2);
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT;
    topic.name = words("t");
    topic.partitions = topic.replication_factor = 1;
    ck_assert_int_eq(creates(&topic, bad(15))->error, ERR_INVALID_REQUEST);
    topic.has_topic_id = true;
    topic.topic_id = bad(17);
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REQUEST);
    topic.has_topic_id = false;
    for (int i = 0; i <= REPLICAS_MAX; i++)
        nodes[i] = i + 1;
    for (int i = 0; i < 2; i++) {
        rows[i] = (Karst__ReplicaAssignment)KARST__REPLICA_ASSIGNMENT__INIT;
        rows[i].replicas = nodes;
        rows[i].n_replicas = 2;
    }
    for (int i = 0; i < MANY; i++)
        row_ptrs[i] = &rows[i % 2];
    topic.n_assignment = 2;
    topic.assignment = row_ptrs;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REQUEST); /* counts are given too */
    topic.partitions = -1;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REQUEST);
    topic.replication_factor = -1;
    rows[0].n_replicas = rows[1].n_replicas = 0;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REPLICA_ASSIGNMENT);
    rows[0].n_replicas = rows[1].n_replicas = REPLICAS_MAX + 1;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REPLICA_ASSIGNMENT);
    rows[0].n_replicas = 1;
    rows[1].n_replicas = 2;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_REPLICA_ASSIGNMENT);
    rows[1].n_replicas = 1;
    topic.n_assignment = MANY;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_INVALID_PARTITIONS);
    topic.n_assignment = 2;
    ck_assert_int_eq(creates(&topic, none)->error, ERR_OK);
    lab_commit(&lab);

    Karst__DeleteTopic gone = KARST__DELETE_TOPIC__INIT, *gone_rows = &gone;
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    gone.name = words("t");
    gone.has_topic_id = true;
    gone.topic_id = bad(3);
    request.n_topics = 1;
    request.topics = &gone_rows;
    const Karst__DeleteTopicsReply *reply = lab_ask(&lab, &request.base, NO_NODE);
    ck_assert_int_eq(reply->topics[0]->error, ERR_INVALID_REQUEST);
    ck_assert_ptr_nonnull(image_topic_by_name(lab_view(&lab), "t"));
    lab_fini(&lab);
}
END_TEST

START_TEST(an_isr_of_a_topic_id_that_is_none_is_refused)
{
    lab_init(&lab, 2);
    (void)lab_assigned(&lab, "t", 2, 1, 2);
    Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT, *items = &item;
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    item.topic_id = bad(15);
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch;
    request.n_partitions = 1;
    request.partitions = &items;
    const Karst__AlterPartitionReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->partitions[0]->error, ERR_INVALID_REQUEST);
    ck_assert(!reply->partitions[0]->has_leader);
    lab_fini(&lab);
}
END_TEST

/* ---- not active ---- */

START_TEST(a_controller_that_is_not_active_decides_nothing)
{
    lab_init(&lab, 1);
    struct record_list records = {0};
    struct uuid incarnation = lab_incarnation(1, 0);
    controller_deactivate(lab.controller);
    controller_deactivate(lab.controller); /* twice is once */
    controller_tick(lab.controller, 100, lab.now_ns + LAB_MS(100000), &records);
    controller_broker_died(lab.controller, 1, &incarnation, 100, lab.now_ns, &records);
    controller_committed(lab.controller, lab.committed);
    ck_assert_uint_eq(records.count, 0);
    ck_assert_ptr_null(controller_view(lab.controller));
    ck_assert_uint_eq(controller_silence_due_ns(lab.controller), UINT64_MAX);
    controller_free(NULL);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/malformed", a_registration_with_ids_that_are_none_is_refused_whole,
           a_broker_without_a_directory_is_placed_nowhere,
           a_machine_that_does_not_say_its_boot_may_have_lost_its_page_cache,
           malformed_rows_of_a_heartbeat_are_left_out,
           a_directory_that_failed_is_marked_once_and_no_more_than_there_can_be,
           a_topic_is_asked_for_with_ids_and_assignments_that_are_some,
           an_isr_of_a_topic_id_that_is_none_is_refused,
           a_controller_that_is_not_active_decides_nothing)
