#include "lib/shard_lab.h"

/* Connections and requests: hello, splitting and gathering, deadlines, closing, pausing. */

static struct lab lab;
static struct arena arena;

static void setup(unsigned nodes)
{
    lab_init(&lab, nodes, check_main_seed());
    arena_init(&arena, 16 << 20);
    lab_settle(&lab, 1);
}

static void teardown(void)
{
    arena_fini(&arena);
    lab_fini(&lab);
}

/* Two partitions of topic 1 that lie on different shards. */
static void on_both_shards(int32_t into[2])
{
    into[0] = into[1] = -1;
    for (int32_t i = 0; i < 1000 && (into[0] < 0 || into[1] < 0); i++) {
        struct partition_id id = lab_partition_id(i);
        into[partition_shard(&id, LAB_SHARDS)] = i;
    }
}

START_TEST(nothing_is_heard_before_the_hello)
{
    setup(1);
    env_conn conn = lab_dial(&lab, 0);
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    (void)lab_send(&lab, conn, WIRE_PROBE, &probe.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_INVALID_REQUEST);
    lab_run(&lab, 100);
    ck_assert(lab_is_closed(&lab, conn));
    teardown();
}
END_TEST

START_TEST(a_connection_that_never_says_hello_is_closed)
{
    setup(1);
    env_conn conn = lab_dial(&lab, 0);
    lab_run(&lab, 9000);
    ck_assert(!lab_is_closed(&lab, conn));
    lab_run(&lab, 2000);
    ck_assert(lab_is_closed(&lab, conn));
    teardown();
}
END_TEST

static void refused_hello(const Karst__Hello *hello, err_t expected)
{
    env_conn conn = lab_dial(&lab, 0);
    lab_send_hello(&lab, conn, hello);
    ck_assert_int_eq(lab_take_error(&lab, conn), expected);
    lab_run(&lab, 100);
    ck_assert(lab_is_closed(&lab, conn));
}

START_TEST(a_hello_that_is_wrong_is_told_why_and_closed)
{
    setup(1);
    struct uuid other = lab_uuid(42), own = lab_uuid(1);
    Karst__Hello hello = lab_hello();
    hello.magic = 7;
    refused_hello(&hello, ERR_INVALID_REQUEST);
    hello = lab_hello();
    hello.version = 2;
    refused_hello(&hello, ERR_UNSUPPORTED_VERSION);
    hello = lab_hello();
    hello.has_cluster_id = true;
    hello.cluster_id = wire_put_uuid(&other);
    refused_hello(&hello, ERR_INCONSISTENT_CLUSTER_ID);
    hello.cluster_id.len = 3;
    refused_hello(&hello, ERR_INVALID_REQUEST);
    /* A broker says its cluster and incarnation. */
    hello = lab_hello();
    hello.has_node_id = true;
    hello.node_id = 2;
    refused_hello(&hello, ERR_INVALID_REQUEST);
    /* Somebody who says that he is this very broker. */
    hello.node_id = 1;
    hello.has_cluster_id = hello.has_incarnation = true;
    hello.cluster_id = wire_put_uuid(&own);
    hello.incarnation = wire_put_uuid(&other);
    refused_hello(&hello, ERR_DUPLICATE_BROKER_REGISTRATION);
    teardown();
}
END_TEST

START_TEST(a_second_hello_closes_the_connection)
{
    setup(1);
    env_conn conn = lab_connect(&lab, 0);
    Karst__Hello hello = lab_hello();
    lab_send_hello(&lab, conn, &hello);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_INVALID_REQUEST);
    lab_run(&lab, 100);
    ck_assert(lab_is_closed(&lab, conn));
    teardown();
}
END_TEST

START_TEST(produce_is_split_over_the_shards_and_gathered_in_order_of_rows)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    for (int try = 0; try < 4; try++) { /* on connections of either shard */
        env_conn conn = lab_connect(&lab, 0);
        uint32_t id = lab_produce(&lab, conn, -1, 1000, indexes, 2);
        Karst__ProduceReply *reply =
            (Karst__ProduceReply *)lab_reply(&lab, conn, id, WIRE_PRODUCE, &arena);
        ck_assert_uint_eq(reply->n_partitions, 2);
        for (int i = 0; i < 2; i++) {
            ck_assert_int_eq(reply->partitions[i]->index, indexes[i]);
            ck_assert_int_eq(reply->partitions[i]->error, ERR_OK);
            ck_assert_ptr_null(reply->partitions[i]->message);
            ck_assert_int_eq(reply->partitions[i]->base_offset, try);
        }
    }
    ck_assert_uint_eq(fake_table(&lab, 0, 0)->produced, 4);
    ck_assert_uint_eq(fake_table(&lab, 0, 1)->produced, 4);
    teardown();
}
END_TEST

START_TEST(an_error_of_one_part_is_told_for_its_partition_only)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    fake_table(&lab, 0, 1)->err = ERR_NOT_ENOUGH_REPLICAS;
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = lab_produce(&lab, conn, -1, 1000, indexes, 2);
    Karst__ProduceReply *reply =
        (Karst__ProduceReply *)lab_reply(&lab, conn, id, WIRE_PRODUCE, &arena);
    ck_assert_int_eq(reply->partitions[0]->error, ERR_OK);
    ck_assert_int_eq(reply->partitions[1]->error, ERR_NOT_ENOUGH_REPLICAS);
    ck_assert_str_eq(reply->partitions[1]->message, err_sentence(ERR_NOT_ENOUGH_REPLICAS));
    teardown();
}
END_TEST

START_TEST(a_part_that_is_missing_at_the_deadline_is_timed_out_alone)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    struct partition_table *stuck = fake_table(&lab, 0, 1);
    stuck->hold = stuck->stuck = true;
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = lab_produce(&lab, conn, -1, 100, indexes, 2);
    Karst__ProduceReply *reply =
        (Karst__ProduceReply *)lab_reply(&lab, conn, id, WIRE_PRODUCE, &arena);
    ck_assert_int_eq(reply->partitions[0]->error, ERR_OK);
    ck_assert_int_eq(reply->partitions[1]->error, ERR_REQUEST_TIMED_OUT);
    ck_assert_int_eq(reply->partitions[1]->index, indexes[1]);
    /* It comes back to nobody, later. */
    fake_release(stuck);
    lab_run(&lab, 50);
    ck_assert_ptr_null(lab_take(&lab, conn, 50));
    teardown();
}
END_TEST

START_TEST(acks_0_is_silent_and_an_error_of_it_closes)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    env_conn conn = lab_connect(&lab, 0);
    (void)lab_produce(&lab, conn, 0, 1000, indexes, 2);
    ck_assert_ptr_null(lab_take(&lab, conn, 100));
    ck_assert(!lab_is_closed(&lab, conn));
    fake_table(&lab, 0, 1)->err = ERR_NOT_LEADER_OR_FOLLOWER;
    (void)lab_produce(&lab, conn, 0, 1000, indexes, 2);
    ck_assert_ptr_null(lab_take(&lab, conn, 100));
    ck_assert(lab_is_closed(&lab, conn));
    teardown();
}
END_TEST

START_TEST(replies_come_in_the_order_of_completion)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    fake_table(&lab, 0, 0)->hold = true;
    env_conn conn = lab_connect(&lab, 0);
    uint32_t slow = lab_produce(&lab, conn, -1, 1000, &indexes[0], 1);
    uint32_t fast = lab_produce(&lab, conn, -1, 1000, &indexes[1], 1);
    (void)lab_reply(&lab, conn, fast, WIRE_PRODUCE, &arena);
    ck_assert_ptr_null(lab_take(&lab, conn, 50));
    fake_release(fake_table(&lab, 0, 0));
    (void)lab_reply(&lab, conn, slow, WIRE_PRODUCE, &arena);
    teardown();
}
END_TEST

START_TEST(batches_of_a_partition_reach_its_owner_in_order_of_arrival)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    env_conn conn = lab_connect(&lab, 0);
    for (int i = 0; i < 6; i++)
        (void)lab_produce(&lab, conn, -1, 1000, indexes, 1 + (size_t)(i % 2));
    lab_run(&lab, 200);
    struct partition_table *table = fake_table(&lab, 0, 0);
    ck_assert_uint_eq(table->produced, 6);
    for (unsigned i = 1; i < table->produced; i++)
        ck_assert_int_gt(table->order[i], table->order[i - 1]);
    teardown();
}
END_TEST

START_TEST(a_connection_with_too_many_requests_waits_in_its_socket)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_table(&lab, 0, i)->hold = true;
    env_conn conn = lab_connect(&lab, 0);
    for (int i = 0; i < 3 * LAB_REQUESTS_MAX; i++) {
        (void)lab_produce(&lab, conn, -1, 5000, indexes, 1);
        lab_run(&lab, 20);
    }
    ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 0)), LAB_REQUESTS_MAX);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_release(fake_table(&lab, 0, i));
    lab_run(&lab, 500);
    ck_assert_uint_eq(fake_table(&lab, 0, 0)->produced, 3 * LAB_REQUESTS_MAX);
    for (int i = 0; i < 3 * LAB_REQUESTS_MAX; i++)
        frame_unref(lab_take(&lab, conn, 10));
    ck_assert_ptr_null(lab_take(&lab, conn, 10));
    teardown();
}
END_TEST

/* The mailbox from shard to shard, full while the test says so. */
static struct {
    err_t (*post)(void *self, unsigned to_actor, void *message);
    bool full[LAB_SHARDS];
    unsigned refused;
} mailbox;

static err_t mailbox_post(void *self, unsigned to_actor, void *message)
{
    if (to_actor < LAB_SHARDS && mailbox.full[to_actor]) {
        mailbox.refused++;
        return ERR_FULL;
    }
    return mailbox.post(self, to_actor, message);
}

START_TEST(a_full_mailbox_stops_the_reading_and_loses_nothing)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    env_conn conns[4];
    for (int i = 0; i < 4; i++)
        conns[i] = lab_connect(&lab, 0);
    memset(&mailbox, 0, sizeof(mailbox));
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        struct env *env = sim_host_env(lab.nodes[0].host, i);
        mailbox.post = env->mail.post;
        env->mail.post = mailbox_post;
        mailbox.full[i] = true;
    }
    for (int round = 0; round < 10; round++) {
        for (int i = 0; i < 4; i++)
            (void)lab_produce(&lab, conns[i], -1, 60000, indexes, 2);
        lab_run(&lab, 10);
    }
    /* Each shard took what came before it heard of the full mailbox, and then nothing more. */
    unsigned taken = 0;
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        struct shard_view view;
        shard_look(lab.nodes[0].shards[i], &view);
        taken += (unsigned)view.requests;
    }
    ck_assert_uint_gt(mailbox.refused, 0);
    ck_assert_uint_le(taken, 4 + 4);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        mailbox.full[i] = false;
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        struct env *env = sim_host_env(lab.nodes[0].host, i);
        for (unsigned j = 0; j < LAB_SHARDS; j++)
            env->upcalls.mail_room(env->actor, j);
    }
    lab_run(&lab, 500);
    ck_assert_uint_eq(fake_table(&lab, 0, 0)->produced, 40);
    ck_assert_uint_eq(fake_table(&lab, 0, 1)->produced, 40);
    for (int i = 0; i < 40; i++) {
        struct frame *reply = lab_take(&lab, conns[i % 4], 100);
        ck_assert_ptr_nonnull(reply);
        frame_unref(reply);
    }
    teardown();
}
END_TEST

/* A shard that waits for its disk must cost the node neither its place in the quorum nor, where
 * that leads, the others theirs: raft's frames and heartbeats come on brokers' connections. */
START_TEST(a_full_mailbox_stops_nothing_that_brokers_say)
{
    setup(2);
    int32_t indexes[2];
    on_both_shards(indexes);
    env_conn brokers[2], client[2];
    for (int i = 0; i < 2; i++) { /* one on each shard */
        brokers[i] = lab_connect_broker(&lab, 0, 2, 12);
        client[i] = lab_connect(&lab, 0);
    }
    memset(&mailbox, 0, sizeof(mailbox));
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        struct env *env = sim_host_env(lab.nodes[0].host, i);
        mailbox.post = env->mail.post;
        env->mail.post = mailbox_post;
        mailbox.full[i] = true;
    }
    for (int i = 0; i < 2; i++)
        (void)lab_produce(&lab, client[i], -1, 60000, indexes, 2);
    lab_run(&lab, 10);
    ck_assert_uint_gt(mailbox.refused, 0);
    const unsigned before = lab.nodes[0].oneways;
    Karst__RaftMessage raft = KARST__RAFT_MESSAGE__INIT;
    for (int i = 0; i < 2; i++)
        lab_send_oneway(&lab, brokers[i], WIRE_RAFT, &raft.base);
    lab_run(&lab, 10);
    ck_assert_uint_eq(lab.nodes[0].oneways, before + 2);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        mailbox.full[i] = false;
    teardown();
}
END_TEST

START_TEST(a_fetch_gives_records_in_the_order_of_rows_up_to_its_bound)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_table(&lab, 0, i)->record_bytes = 700;
    env_conn conn = lab_connect(&lab, 0);
    (void)lab_fetch(&lab, conn, 100, indexes, 2); /* at most 1,500 bytes */
    struct frame *frame = lab_take(&lab, conn, 100);
    struct wire_header header;
    ProtobufCMessage *message;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_int_eq(wire_unpack(&karst__fetch_reply__descriptor, wire_message(frame, &header),
                                 &arena, &message),
                     ERR_OK);
    Karst__FetchReply *reply = (Karst__FetchReply *)message;
    struct bytes records = wire_attachment(frame, &header);
    ck_assert_uint_eq(records.len, 1400);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_int_eq(reply->partitions[i]->index, indexes[i]);
        ck_assert_uint_eq(reply->partitions[i]->bytes, 700);
        ck_assert_int_eq(records.data[700 * i], (0x40 + indexes[i]) & 0xff);
        ck_assert_int_eq(records.data[700 * i + 699], (0x40 + indexes[i]) & 0xff);
    }
    frame_unref(frame);

    /* Over the bound: the second one's are left out, and fetched again. */
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_table(&lab, 0, i)->record_bytes = 900;
    (void)lab_fetch(&lab, conn, 100, indexes, 2);
    frame = lab_take(&lab, conn, 100);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_uint_eq(wire_attachment(frame, &header).len, 900);
    frame_unref(frame);
    teardown();
}
END_TEST

START_TEST(a_fetch_ends_as_soon_as_one_partition_has_enough)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    fake_table(&lab, 0, 1)->record_bytes = 100;
    for (int try = 0; try < 4; try++) {
        env_conn conn = lab_connect(&lab, 0);
        uint32_t id = lab_fetch(&lab, conn, 3000, indexes, 2);
        uint64_t before = lab.world.now_ns;
        Karst__FetchReply *reply =
            (Karst__FetchReply *)lab_reply(&lab, conn, id, WIRE_FETCH, &arena);
        ck_assert_uint_lt(lab.world.now_ns - before, ENV_MS(500));
        ck_assert_int_eq(reply->partitions[0]->error, ERR_OK);
        ck_assert_uint_eq(reply->partitions[0]->bytes, 0);
        ck_assert_uint_eq(reply->partitions[1]->bytes, 100);
    }
    ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 0)), 0);
    teardown();
}
END_TEST

START_TEST(a_closed_connection_takes_its_waits_back)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    for (int try = 0; try < 4; try++) {
        env_conn conn = lab_connect(&lab, 0);
        (void)lab_fetch(&lab, conn, 60000, indexes, 2);
        lab_run(&lab, 50);
        ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 0)), 1);
        ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 1)), 1);
        lab.client->net.drop(lab.client->net.self, conn);
        lab_run(&lab, 50);
        ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 0)), 0);
        ck_assert_uint_eq(fake_held(fake_table(&lab, 0, 1)), 0);
    }
    teardown();
}
END_TEST

START_TEST(a_node_that_is_killed_with_requests_everywhere_frees_them_all)
{
    setup(1);
    int32_t indexes[2];
    on_both_shards(indexes);
    env_conn conns[4];
    for (int i = 0; i < 4; i++) {
        conns[i] = lab_connect(&lab, 0);
        (void)lab_fetch(&lab, conns[i], 60000, indexes, 2);
    }
    lab_run(&lab, 50);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_table(&lab, 0, i)->hold = true;
    for (int i = 0; i < 4; i++) /* some of these are still in the mail */
        (void)lab_produce(&lab, conns[i], -1, 60000, indexes, 2);
    sim_run_until(&lab.world, lab.world.now_ns + 1200000);
    lab_stop_node(&lab, 0);
    teardown(); /* the leak checker looks */
}
END_TEST

START_TEST(metadata_is_answered_from_the_image)
{
    setup(3);
    env_conn conn = lab_connect(&lab, 1);
    Karst__MetadataRequest request = KARST__METADATA_REQUEST__INIT;
    char known[] = "orders", unknown[] = "nothing", illegal[] = "a/b";
    char *names[] = {known, unknown, illegal};
    request.n_topics = 3;
    request.topics = names;
    uint32_t id = lab_send(&lab, conn, WIRE_METADATA, &request.base, NULL, 0);
    Karst__MetadataReply *reply =
        (Karst__MetadataReply *)lab_reply(&lab, conn, id, WIRE_METADATA, &arena);
    ck_assert_int_eq(reply->controller, 1);
    ck_assert_uint_eq(reply->n_brokers, 3);
    ck_assert_str_eq(reply->brokers[2]->host, "n2");
    ck_assert_uint_eq(reply->brokers[2]->port, LAB_PORT);
    ck_assert_int_eq(reply->brokers[2]->state, KARST__BROKER_STATE__BROKER_ACTIVE);
    ck_assert_uint_eq(reply->n_topics, 3);
    ck_assert_int_eq(reply->topics[0]->error, ERR_OK);
    ck_assert_uint_eq(reply->topics[0]->n_partitions, 4);
    ck_assert_int_eq(reply->topics[0]->partitions[3]->leader, 1);
    ck_assert_uint_eq(reply->topics[0]->partitions[3]->n_isr, 3);
    ck_assert_int_eq(reply->topics[1]->error, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_str_eq(reply->topics[1]->message, err_sentence(ERR_UNKNOWN_TOPIC_OR_PARTITION));
    ck_assert_int_eq(reply->topics[2]->error, ERR_INVALID_TOPIC_EXCEPTION);

    karst__metadata_request__init(&request);
    request.has_all_topics = request.all_topics = true;
    id = lab_send(&lab, conn, WIRE_METADATA, &request.base, NULL, 0);
    reply = (Karst__MetadataReply *)lab_reply(&lab, conn, id, WIRE_METADATA, &arena);
    ck_assert_uint_eq(reply->n_topics, 1);
    ck_assert_str_eq(reply->topics[0]->name, "orders");

    Karst__DescribeClusterRequest describe = KARST__DESCRIBE_CLUSTER_REQUEST__INIT;
    id = lab_send(&lab, conn, WIRE_DESCRIBE_CLUSTER, &describe.base, NULL, 0);
    Karst__DescribeClusterReply *cluster =
        (Karst__DescribeClusterReply *)lab_reply(&lab, conn, id, WIRE_DESCRIBE_CLUSTER, &arena);
    ck_assert_uint_eq(cluster->topics, 1);
    ck_assert_uint_eq(cluster->partitions, 4);
    ck_assert_uint_eq(cluster->under_replicated, 0);
    ck_assert_uint_eq(cluster->offline, 0);
    teardown();
}
END_TEST

START_TEST(before_the_first_image_metadata_says_so)
{
    lab_init(&lab, 1, check_main_seed());
    arena_init(&arena, 1 << 20);
    env_conn conn = lab_connect(&lab, 0);
    Karst__MetadataRequest request = KARST__METADATA_REQUEST__INIT;
    (void)lab_send(&lab, conn, WIRE_METADATA, &request.base, NULL, 0);
    ck_assert_int_eq(lab_take_error(&lab, conn), ERR_LEADER_NOT_AVAILABLE);
    teardown();
}
END_TEST

START_TEST(producer_ids_are_never_given_twice)
{
    setup(2);
    env_conn conns[3];
    int64_t ids[12];
    for (int i = 0; i < 3; i++)
        conns[i] = lab_connect(&lab, 1);
    Karst__InitProducerIdRequest request = KARST__INIT_PRODUCER_ID_REQUEST__INIT;
    uint32_t correlations[12];
    for (int i = 0; i < 12; i++)
        correlations[i] =
            lab_send(&lab, conns[i % 3], WIRE_INIT_PRODUCER_ID, &request.base, NULL, 0);
    for (int i = 0; i < 12; i++) {
        Karst__InitProducerIdReply *reply = (Karst__InitProducerIdReply *)lab_reply(
            &lab, conns[i % 3], correlations[i], WIRE_INIT_PRODUCER_ID, &arena);
        ck_assert_int_eq(reply->error, ERR_OK);
        ids[i] = reply->producer_id;
        for (int j = 0; j < i; j++)
            ck_assert_int_ne(ids[i], ids[j]);
    }
    ck_assert_uint_eq(lab.nodes[0].allocates, 4); /* blocks of three */
    teardown();
}
END_TEST

static err_t produce_answered_late(int acks)
{
    int32_t index = 0;
    struct partition_id id = lab_partition_id(index);
    struct partition_table *owner = fake_table(&lab, 0, partition_shard(&id, LAB_SHARDS));
    env_conn conn = lab_connect(&lab, 0);
    owner->hold = true;
    lab.nodes[0].silent = true;
    lab_run(&lab, 1500);
    uint32_t correlation = lab_produce(&lab, conn, acks, 1500, &index, 1);
    lab_run(&lab, 800);
    struct shard_view view;
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        shard_look(lab.nodes[0].shards[i], &view);
        ck_assert(!view.lease_valid);
    }
    fake_release(owner);
    Karst__ProduceReply *reply =
        (Karst__ProduceReply *)lab_reply(&lab, conn, correlation, WIRE_PRODUCE, &arena);
    return reply->partitions[0]->error;
}

START_TEST(an_answer_that_is_late_is_not_told_without_a_lease)
{
    setup(1);
    ck_assert_int_eq(produce_answered_late(1), ERR_NOT_LEADER_OR_FOLLOWER);
    teardown();
    setup(1);
    ck_assert_int_eq(produce_answered_late(-1), ERR_OK); /* the in-sync replicas have it */
    teardown();
}
END_TEST

CHECK_MAIN("shard/session", nothing_is_heard_before_the_hello,
           a_connection_that_never_says_hello_is_closed,
           a_hello_that_is_wrong_is_told_why_and_closed, a_second_hello_closes_the_connection,
           produce_is_split_over_the_shards_and_gathered_in_order_of_rows,
           an_error_of_one_part_is_told_for_its_partition_only,
           a_part_that_is_missing_at_the_deadline_is_timed_out_alone,
           acks_0_is_silent_and_an_error_of_it_closes, replies_come_in_the_order_of_completion,
           batches_of_a_partition_reach_its_owner_in_order_of_arrival,
           a_connection_with_too_many_requests_waits_in_its_socket,
           a_full_mailbox_stops_the_reading_and_loses_nothing,
           a_full_mailbox_stops_nothing_that_brokers_say,
           a_fetch_gives_records_in_the_order_of_rows_up_to_its_bound,
           a_fetch_ends_as_soon_as_one_partition_has_enough,
           a_closed_connection_takes_its_waits_back,
           a_node_that_is_killed_with_requests_everywhere_frees_them_all,
           metadata_is_answered_from_the_image, before_the_first_image_metadata_says_so,
           producer_ids_are_never_given_twice, an_answer_that_is_late_is_not_told_without_a_lease)
