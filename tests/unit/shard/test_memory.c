/* A broker whose shards lack memory for a moment: each place that allocates fails, once. A client
 * gets an answer, an error or a closed connection, and the next one what it asks for; or the
 * process ends itself, and says why. Nothing leaks. */
#include "base/logger.h"
#include "lib/faults.h"
#include "lib/shard_lab.h"

static struct lab lab;
static struct faults_env faulty[LAB_SHARDS];
static env_conn conn; /* the client's; generation 0: none */

static bool is_up(void)
{
    return !lab.nodes[0].exited;
}

/* ---- a client that takes what comes ---- */

static struct frame *take(uint64_t ms)
{
    for (uint64_t at = 0; at < ms; at += 50) {
        struct frame *frame = lab_take(&lab, conn, 50);
        if (frame != NULL || lab_is_closed(&lab, conn) || !is_up())
            return frame;
    }
    return NULL;
}

static bool dial(void)
{
    Karst__Hello hello = lab_hello();
    struct env_net *net = &lab.client->net;
    ck_assert_int_eq(net->dial(net->self, lab.nodes[0].host->name, LAB_PORT, &conn), ERR_OK);
    lab_run(&lab, 20);
    lab_send_hello(&lab, conn, &hello);
    struct frame *frame = take(200);
    bool heard = frame != NULL;
    frame_unref(frame);
    if (!heard)
        net->drop(net->self, conn);
    return heard;
}

static void connect(void)
{
    for (int tries = 0; tries < 3 && is_up(); tries++)
        if (dial())
            return;
    ck_assert(!is_up());
}

/* True: answered, be it with an error. */
static bool answered(void)
{
    struct frame *frame = is_up() ? take(4000) : NULL;
    bool told = frame != NULL;
    frame_unref(frame);
    if (!told && is_up()) {
        ck_assert_msg(lab_is_closed(&lab, conn) || faults_met(), "no answer");
        if (lab_is_closed(&lab, conn))
            connect();
    }
    return told;
}

static void ask(uint16_t method, const ProtobufCMessage *message)
{
    if (!is_up())
        return;
    (void)lab_send(&lab, conn, method, message, NULL, 0);
    (void)answered();
}

/* ---- what happens ---- */

static void clients_ask(void)
{
    static const int32_t indexes[] = {0, 1, 2, 3};
    Karst__MetadataRequest metadata = KARST__METADATA_REQUEST__INIT;
    Karst__DescribeClusterRequest cluster = KARST__DESCRIBE_CLUSTER_REQUEST__INIT;
    Karst__DescribeQuorumRequest quorum = KARST__DESCRIBE_QUORUM_REQUEST__INIT;
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    Karst__InitProducerIdRequest ids = KARST__INIT_PRODUCER_ID_REQUEST__INIT;
    metadata.has_all_topics = metadata.all_topics = true;
    ask(WIRE_METADATA, &metadata.base);
    ask(WIRE_DESCRIBE_CLUSTER, &cluster.base);
    ask(WIRE_DESCRIBE_QUORUM, &quorum.base);
    ask(WIRE_PROBE, &probe.base);
    ask(WIRE_INIT_PRODUCER_ID, &ids.base);
    if (is_up()) {
        (void)lab_produce(&lab, conn, -1, 500, indexes, 4);
        (void)answered();
    }
    if (is_up()) {
        (void)lab_fetch(&lab, conn, 100, indexes, 4);
        (void)answered();
    }
}

static void topics_come_and_go(void)
{
    static char name[] = "new", old[] = "orders";
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    Karst__CreateTopicsRequest create = KARST__CREATE_TOPICS_REQUEST__INIT;
    topic.name = name;
    topic.partitions = topic.replication_factor = 1;
    create.timeout_ms = 300; /* the topic never comes into the image */
    create.n_topics = 1;
    create.topics = &topics;
    ask(WIRE_CREATE_TOPICS, &create.base);
    Karst__DeleteTopic gone = KARST__DELETE_TOPIC__INIT, *rows = &gone;
    Karst__DeleteTopicsRequest delete = KARST__DELETE_TOPICS_REQUEST__INIT;
    gone.name = old;
    delete.timeout_ms = 300;
    delete.n_topics = 1;
    delete.topics = &rows;
    ask(WIRE_DELETE_TOPICS, &delete.base);
}

/* The other broker's replicas fetch from the first, by connections that come and go. */
static void a_follower_fetches(void)
{
    struct uuid topic = lab_uuid(1);
    Karst__ReplicaFetchRequest request = KARST__REPLICA_FETCH_REQUEST__INIT;
    Karst__ReplicaFetchPartition rows[4], *list[4];
    for (int32_t i = 0; i < 4; i++) {
        karst__replica_fetch_partition__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&topic);
        rows[i].index = i;
        rows[i].session = 3;
        list[i] = &rows[i];
    }
    request.node_id = 2;
    request.broker_epoch = 12;
    request.n_partitions = 4;
    request.partitions = list;
    struct partition_host *host = &fake_table(&lab, 1, 0)->host;
    host->stream_send(host->self, 1,
                      wire_frame(&(struct wire_frame_args){.kind = WIRE_ONEWAY,
                                                           .method = WIRE_REPLICA_FETCH,
                                                           .message = &request.base}));
    lab_run(&lab, 300);
    sim_cut(&lab.world, 0, 1, true);
    lab_run(&lab, 2100); /* the connections break */
    sim_heal(&lab.world);
    lab_run(&lab, 500);
}

/* What partitions and the quorum of the first broker ask of its shards. */
static void the_inside_asks(void)
{
    for (unsigned i = 0; i < LAB_SHARDS && is_up(); i++) {
        struct partition_host *host = &fake_table(&lab, 0, i)->host;
        struct partition_id id = lab_partition_id((int32_t)i);
        Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT;
        Karst__IsrMember member = KARST__ISR_MEMBER__INIT, *isr = &member;
        item.topic_id = wire_put_uuid(&id.topic);
        item.n_isr = 1;
        item.isr = &isr;
        struct frame *frame = wire_error_frame(0, 0, ERR_IO, NULL);
        faults_loud();
        host->alter_partition(host->self, &id, &item);
        host->replica_failed(host->self, &id, 0, ERR_CORRUPT);
        host->stream_send(host->self, 2, frame);
        faults_quiet();
    }
    lab.nodes[1].asks_ends = true;
    lab_quorum_send(&lab, 0, 1, 7);
    lab_quorum_send(&lab, 0, 1, 0);
    lab_quorum_send(&lab, 1, 0, 8);
    lab_quorum_send(&lab, 1, 0, 0);
    lab_run(&lab, 850);
    lab.nodes[1].asks_ends = false; /* or it asks with each reply, and each answer hurries */
    lab_run(&lab, 1100);
}

static void the_controller_moves(void)
{
    lab_lead(&lab, 1);
    lab_run(&lab, 700);
    clients_ask();
    lab_stop_node(&lab, 1); /* found dead by probes */
    lab_run(&lab, 1500);
}

static void the_first_stops(void)
{
    if (!is_up())
        return;
    lab.nodes[0].may_shut_down = true;
    faults_loud();
    shard_drain(lab.nodes[0].shards[0], ENV_MS(1000));
    faults_quiet();
    lab_run(&lab, 4000);
    ck_assert(lab.nodes[0].exited);
}

static void live(void)
{
    lab_settle(&lab, 2);
    connect();
    clients_ask();
    topics_come_and_go();
    a_follower_fetches();
    the_inside_asks();
    the_controller_moves();
}

static bool run(void)
{
    frame_cache_drain();
    lab_init(&lab, 2, 5);
    lab.nodes[0].config.partition.free_bytes_min = 1 << 20;
    lab.nodes[0].config.heartbeat_ns = ENV_MS(800); /* few: each is the same */
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        faults_env_wrap(&faulty[i], sim_host_env(lab.nodes[0].host, i));
    faults_arm(FAULTS_PLACES, 1, ERR_NO_MEMORY);
    live();
    bool stops = is_up();
    if (stops) {
        connect(); /* and all is well */
        Karst__MetadataRequest metadata = KARST__METADATA_REQUEST__INIT;
        (void)lab_send(&lab, conn, WIRE_METADATA, &metadata.base, NULL, 0);
        ck_assert(answered());
    }
    the_first_stops();
    bool met = faults_disarm();
    if (!stops)
        ck_assert_str_ne(lab.nodes[0].exit_why, "");
    lab_fini(&lab);
    return met;
}

START_TEST(a_shard_without_memory_for_a_moment_answers_and_goes_on)
{
    unsigned runs = 0;
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    faults_quiet(); /* but for the shards of the first broker */
    while (run())
        runs++;
    ck_assert_uint_gt(runs, 40);
    faults_loud();
}
END_TEST

CHECK_MAIN("shard/memory", a_shard_without_memory_for_a_moment_answers_and_goes_on)
