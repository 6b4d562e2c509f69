#include "lib/shard_lab.h"

/* Requests that the controller decides: here, forwarded, tried again, and awaited in the image. */

static struct lab lab;
static struct arena arena;

static void setup(unsigned nodes, node_id_t controller)
{
    lab_init(&lab, nodes, check_main_seed());
    arena_init(&arena, 16 << 20);
    lab_settle(&lab, controller);
}

static void teardown(void)
{
    arena_fini(&arena);
    lab_fini(&lab);
}

static uint32_t create(env_conn conn, uint32_t timeout_ms)
{
    static char name[] = "payments";
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    topic.name = name;
    request.n_topics = 1;
    request.topics = &topics;
    request.timeout_ms = timeout_ms;
    return lab_send(&lab, conn, WIRE_CREATE_TOPICS, &request.base, NULL, 0);
}

/* The topic of the last CreateTopics that a controller saw. */
static const Karst__CreateTopicsRequest *created(unsigned node)
{
    struct wire_header header;
    ProtobufCMessage *message;
    const struct frame *frame = lab.nodes[node].last_create;
    ck_assert_ptr_nonnull(frame);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_int_eq(wire_unpack(&karst__create_topics_request__descriptor,
                                 wire_message(frame, &header), &arena, &message),
                     ERR_OK);
    return (const Karst__CreateTopicsRequest *)message;
}

static void publish_created(unsigned node)
{
    const Karst__CreateTopicsRequest *request = created(node);
    struct record_list records;
    record_list_init(&records);
    Karst__TopicRecord record = KARST__TOPIC_RECORD__INIT;
    record.topic_id = request->topics[0]->topic_id;
    record.name = request->topics[0]->name;
    record.request_id = request->request_id;
    record_list_add(&records, &record.base);
    lab_publish(&lab, &records);
}

static void create_and_await(unsigned asked, unsigned controller)
{
    env_conn conn = lab_connect(&lab, asked);
    uint32_t id = create(conn, 3000);
    lab_run(&lab, 300);
    ck_assert_uint_eq(lab.nodes[controller].creates, 1);
    /* Decided, but not told before this broker's image has it. */
    ck_assert_ptr_null(lab_take(&lab, conn, 50));
    publish_created(controller);
    Karst__CreateTopicsReply *reply =
        (Karst__CreateTopicsReply *)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    ck_assert_int_eq(reply->topics[0]->error, ERR_OK);
    ck_assert_uint_eq(reply->topics[0]->topic_id.len, 16);
}

START_TEST(the_controllers_own_broker_asks_its_quorum)
{
    setup(1, 1);
    create_and_await(0, 0);
    ck_assert_int_eq(lab.nodes[0].create_peer, NO_NODE);
    teardown();
}
END_TEST

START_TEST(another_broker_forwards_with_fixed_ids)
{
    setup(2, 2);
    create_and_await(0, 1);
    const Karst__CreateTopicsRequest *request = created(1);
    ck_assert_uint_eq(request->request_id.len, 16);
    ck_assert_uint_eq(request->topics[0]->topic_id.len, 16);
    teardown();
}
END_TEST

START_TEST(a_retry_carries_the_ids_of_the_first_try)
{
    setup(2, 2);
    lab.nodes[1].refuse_creates = 3;
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = create(conn, 3000);
    struct uuid first[2] = {{{0}}, {{0}}};
    for (int i = 0; i < 200 && lab.nodes[1].creates < 4; i++) {
        lab_run(&lab, 5);
        if (lab.nodes[1].creates == 0)
            continue;
        struct uuid now[2];
        ck_assert(wire_get_uuid(&created(1)->request_id, &now[0]));
        ck_assert(wire_get_uuid(&created(1)->topics[0]->topic_id, &now[1]));
        if (uuid_is_zero(&first[0]))
            memcpy(first, now, sizeof(first));
        ck_assert(uuid_equal(&first[0], &now[0]));
        ck_assert(uuid_equal(&first[1], &now[1]));
    }
    ck_assert_uint_eq(lab.nodes[1].creates, 4);
    publish_created(1);
    (void)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    teardown();
}
END_TEST

START_TEST(a_call_follows_the_controller_to_another_broker)
{
    setup(3, 2);
    lab.nodes[1].silent = true; /* hangs, with the request */
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = create(conn, 5000);
    lab_run(&lab, 300);
    lab_lead(&lab, NO_NODE);
    lab_run(&lab, 100);
    lab_lead(&lab, 3);
    lab_run(&lab, 300);
    ck_assert_uint_eq(lab.nodes[2].creates, 1);
    publish_created(2);
    (void)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    teardown();
}
END_TEST

START_TEST(a_call_survives_the_death_of_the_controllers_broker)
{
    setup(3, 2);
    env_conn conn = lab_connect(&lab, 0);
    lab.nodes[1].silent = true;
    uint32_t id = create(conn, 5000);
    lab_run(&lab, 100);
    lab_stop_node(&lab, 1);
    lab_run(&lab, 300);
    lab_lead(&lab, 3);
    lab_run(&lab, 300);
    ck_assert_uint_eq(lab.nodes[2].creates, 1);
    publish_created(2);
    (void)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    teardown();
}
END_TEST

START_TEST(without_a_controller_a_call_times_out)
{
    setup(2, NO_NODE);
    env_conn conn = lab_connect(&lab, 0);
    (void)create(conn, 400);
    uint64_t before = lab.world.now_ns;
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_REQUEST_TIMED_OUT);
    ck_assert_uint_ge(lab.world.now_ns - before, ENV_MS(390));
    ck_assert_uint_lt(lab.world.now_ns - before, ENV_MS(600));
    teardown();
}
END_TEST

START_TEST(a_reply_does_not_wait_for_the_image_beyond_its_deadline)
{
    setup(1, 1);
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = create(conn, 300);
    Karst__CreateTopicsReply *reply =
        (Karst__CreateTopicsReply *)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    ck_assert_int_eq(reply->topics[0]->error, ERR_OK);
    teardown();
}
END_TEST

START_TEST(a_refused_topic_is_told_at_once)
{
    setup(2, 2);
    lab.nodes[1].create_err = ERR_TOPIC_ALREADY_EXISTS;
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = create(conn, 5000);
    uint64_t before = lab.world.now_ns;
    Karst__CreateTopicsReply *reply =
        (Karst__CreateTopicsReply *)lab_reply(&lab, conn, id, WIRE_CREATE_TOPICS, &arena);
    ck_assert_int_eq(reply->topics[0]->error, ERR_TOPIC_ALREADY_EXISTS);
    ck_assert_uint_lt(lab.world.now_ns - before, ENV_MS(300));
    teardown();
}
END_TEST

START_TEST(what_was_forwarded_is_not_forwarded_again)
{
    setup(2, 2);
    env_conn conn = lab_connect_broker(&lab, 0, 7, 17);
    uint32_t id = create(conn, 3000);
    (void)id;
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_NOT_CONTROLLER);
    ck_assert_uint_eq(lab.nodes[1].creates, 0);
    teardown();
}
END_TEST

static uint32_t delete_named(env_conn conn, char *name)
{
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    Karst__DeleteTopic topic = KARST__DELETE_TOPIC__INIT, *topics = &topic;
    topic.name = name;
    request.n_topics = 1;
    request.topics = &topics;
    request.timeout_ms = 2000;
    return lab_send(&lab, conn, WIRE_DELETE_TOPICS, &request.base, NULL, 0);
}

START_TEST(a_delete_that_an_earlier_try_did_is_done)
{
    setup(2, 2);
    char known[] = "orders", unknown[] = "nothing";
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = delete_named(conn, known);
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[1].deletes, 1);
    ck_assert_ptr_null(lab_take(&lab, conn, 50)); /* the image still has it */
    struct record_list records;
    record_list_init(&records);
    lab_delete_topic(&records, 1);
    lab_publish(&lab, &records);
    Karst__DeleteTopicsReply *reply =
        (Karst__DeleteTopicsReply *)lab_reply(&lab, conn, id, WIRE_DELETE_TOPICS, &arena);
    ck_assert_int_eq(reply->topics[0]->error, ERR_OK);

    id = delete_named(conn, unknown);
    reply = (Karst__DeleteTopicsReply *)lab_reply(&lab, conn, id, WIRE_DELETE_TOPICS, &arena);
    ck_assert_int_eq(reply->topics[0]->error, ERR_UNKNOWN_TOPIC_ID);
    teardown();
}
END_TEST

START_TEST(a_client_can_not_speak_for_a_broker)
{
    setup(1, 1);
    env_conn conn = lab_connect(&lab, 0);
    Karst__HeartbeatRequest heartbeat = KARST__HEARTBEAT_REQUEST__INIT;
    unsigned before = lab.nodes[0].heartbeats;
    heartbeat.node_id = 1;
    (void)lab_send(&lab, conn, WIRE_HEARTBEAT, &heartbeat.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_CLUSTER_AUTHORIZATION_FAILED);
    Karst__MetadataFetchRequest pull = KARST__METADATA_FETCH_REQUEST__INIT;
    (void)lab_send(&lab, conn, WIRE_METADATA_FETCH, &pull.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_CLUSTER_AUTHORIZATION_FAILED);
    Karst__EpochEndOffsetRequest ends = KARST__EPOCH_END_OFFSET_REQUEST__INIT;
    (void)lab_send(&lab, conn, WIRE_EPOCH_END_OFFSET, &ends.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_CLUSTER_AUTHORIZATION_FAILED);
    ck_assert(!lab_is_closed(&lab, conn));
    ck_assert_uint_le(lab.nodes[0].heartbeats, before + 1); /* its own */
    teardown();
}
END_TEST

START_TEST(a_broker_must_be_in_the_image_for_replica_requests)
{
    setup(2, 1);
    Karst__EpochEndOffsetRequest ends = KARST__EPOCH_END_OFFSET_REQUEST__INIT;
    Karst__EpochEndOffsetPartition part = KARST__EPOCH_END_OFFSET_PARTITION__INIT, *parts = &part;
    struct uuid topic = lab_uuid(1);
    part.topic_id = wire_put_uuid(&topic);
    part.asked_epoch = 3;
    ends.n_partitions = 1;
    ends.partitions = &parts;
    env_conn stranger = lab_connect_broker(&lab, 0, 9, 19);
    (void)lab_send(&lab, stranger, WIRE_EPOCH_END_OFFSET, &ends.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, stranger), ERR_CLUSTER_AUTHORIZATION_FAILED);
    env_conn known = lab_connect_broker(&lab, 0, 2, 12);
    uint32_t id = lab_send(&lab, known, WIRE_EPOCH_END_OFFSET, &ends.base, NULL, 0);
    Karst__EpochEndOffsetReply *reply =
        (Karst__EpochEndOffsetReply *)lab_reply(&lab, known, id, WIRE_EPOCH_END_OFFSET, &arena);
    ck_assert_int_eq(reply->partitions[0]->epoch, 3);
    ck_assert_int_eq(reply->partitions[0]->end, 99);
    teardown();
}
END_TEST

START_TEST(anybody_may_describe_the_quorum_of_a_broker)
{
    setup(2, 2);
    env_conn conn = lab_connect(&lab, 0);
    Karst__DescribeQuorumRequest request = KARST__DESCRIBE_QUORUM_REQUEST__INIT;
    uint32_t id = lab_send(&lab, conn, WIRE_DESCRIBE_QUORUM, &request.base, NULL, 0);
    (void)lab_reply(&lab, conn, id, WIRE_DESCRIBE_QUORUM, &arena);
    teardown();
}
END_TEST

START_TEST(proposals_of_one_turn_go_in_one_request)
{
    setup(2, 2);
    struct partition_table *table = fake_table(&lab, 0, 0);
    struct partition_id id = lab_partition_id(0);
    Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT;
    Karst__IsrMember member = KARST__ISR_MEMBER__INIT, *isr = &member;
    item.topic_id = wire_put_uuid(&id.topic);
    item.n_isr = 1;
    item.isr = &isr;
    table->host.alter_partition(table->host.self, &id, &item);
    table->host.alter_partition(table->host.self, &id, &item);
    lab_run(&lab, 200);
    ck_assert_uint_eq(lab.nodes[1].alters, 1);
    ck_assert_int_eq(lab.nodes[1].call_peer, 1);
    ck_assert_uint_eq(table->altered, 2);
    ck_assert_uint_eq(table->alter_failed, 0);

    lab.nodes[1].silent = true;
    table->host.alter_partition(table->host.self, &id, &item);
    lab_run(&lab, 3000);
    ck_assert_uint_eq(table->alter_failed, 1);
    teardown();
}
END_TEST

CHECK_MAIN("shard/call", the_controllers_own_broker_asks_its_quorum,
           another_broker_forwards_with_fixed_ids, a_retry_carries_the_ids_of_the_first_try,
           a_call_follows_the_controller_to_another_broker,
           a_call_survives_the_death_of_the_controllers_broker,
           without_a_controller_a_call_times_out,
           a_reply_does_not_wait_for_the_image_beyond_its_deadline, a_refused_topic_is_told_at_once,
           what_was_forwarded_is_not_forwarded_again, a_delete_that_an_earlier_try_did_is_done,
           a_client_can_not_speak_for_a_broker, a_broker_must_be_in_the_image_for_replica_requests,
           anybody_may_describe_the_quorum_of_a_broker, proposals_of_one_turn_go_in_one_request)
