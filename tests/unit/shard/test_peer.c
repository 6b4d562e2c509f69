#include "lib/shard_lab.h"

/* Connections between brokers: raft's frames, replica streams, and the probe of the dead. */

static struct lab lab;

static void setup(unsigned nodes, node_id_t controller)
{
    lab_init(&lab, nodes, check_main_seed());
    lab_settle(&lab, controller);
}

START_TEST(raft_frames_reach_the_peers_quorum)
{
    setup(2, NO_NODE);
    for (int i = 0; i < 10; i++)
        lab_quorum_send(&lab, 0, 1, 0);
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[1].oneways, 10);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_quorums_request_is_answered_with_its_token)
{
    setup(2, NO_NODE);
    lab_quorum_send(&lab, 0, 1, 77);
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[0].peer_answers, 1);
    ck_assert_uint_eq(lab.nodes[0].peer_answer.token, 77);
    ck_assert_int_eq(lab.nodes[0].peer_answer.err, ERR_OK);
    ck_assert_int_eq(lab.nodes[0].peer_answer.peer, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_quorums_request_to_a_dead_or_silent_peer_ends_with_an_error)
{
    setup(2, NO_NODE);
    lab.nodes[1].silent = true;
    lab_quorum_send(&lab, 0, 1, 5);
    lab_run(&lab, 1500);
    ck_assert_uint_eq(lab.nodes[0].peer_answers, 1);
    ck_assert_int_eq(lab.nodes[0].peer_answer.err, ERR_REQUEST_TIMED_OUT);
    lab_stop_node(&lab, 1);
    lab_run(&lab, 1000);
    lab_quorum_send(&lab, 0, 1, 6);
    lab_run(&lab, 500);
    ck_assert_uint_eq(lab.nodes[0].peer_answers, 2);
    ck_assert_uint_eq(lab.nodes[0].peer_answer.token, 6);
    ck_assert_int_ne(lab.nodes[0].peer_answer.err, ERR_OK);
    lab_fini(&lab);
}
END_TEST

START_TEST(frames_to_a_peer_that_is_away_are_bounded_and_flow_when_it_is_back)
{
    setup(2, NO_NODE);
    sim_cut(&lab.world, 0, 1, true);
    for (int i = 0; i < 2000; i++) {
        lab_quorum_send(&lab, 0, 1, 0);
        if (i % 100 == 0)
            lab_run(&lab, 20);
    }
    lab_run(&lab, 3000);
    sim_heal(&lab.world);
    lab_run(&lab, 3000);
    unsigned before = lab.nodes[1].oneways;
    lab_quorum_send(&lab, 0, 1, 0);
    lab_run(&lab, 1500);
    ck_assert_uint_gt(lab.nodes[1].oneways, before);
    lab_fini(&lab);
}
END_TEST

/* ---- replica streams ---- */

static struct frame *deltas_frame(node_id_t node, broker_epoch_t epoch, const int32_t *indexes,
                                  size_t count)
{
    struct uuid topic = lab_uuid(1);
    Karst__ReplicaFetchRequest request = KARST__REPLICA_FETCH_REQUEST__INIT;
    Karst__ReplicaFetchPartition rows[8], *list[8];
    for (size_t i = 0; i < count; i++) {
        karst__replica_fetch_partition__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&topic);
        rows[i].index = indexes[i];
        rows[i].fetch_offset = 40 + indexes[i];
        rows[i].flushed_end = 30 + indexes[i];
        rows[i].session = 3;
        list[i] = &rows[i];
    }
    request.node_id = node;
    request.broker_epoch = epoch;
    request.n_partitions = count;
    request.partitions = list;
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY, .method = WIRE_REPLICA_FETCH, .message = &request.base});
}

static unsigned deltas_at(unsigned node)
{
    unsigned count = 0;
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        count += fake_table(&lab, node, i)->deltas;
    return count;
}

START_TEST(orders_reach_the_owners_and_data_comes_back_on_the_same_stream)
{
    setup(2, 1);
    static const int32_t indexes[] = {0, 1, 2, 3, 4, 5};
    for (unsigned shard = 0; shard < LAB_SHARDS;
         shard++) { /* each follower shard: its own stream */
        struct partition_table *follower = fake_table(&lab, 1, shard);
        unsigned before = deltas_at(0);
        follower->host.stream_send(follower->host.self, 1, deltas_frame(2, 12, indexes, 6));
        lab_run(&lab, 200);
        ck_assert_uint_eq(deltas_at(0), before + 6);
    }
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        struct partition_table *leader = fake_table(&lab, 0, i);
        struct replica_delta delta = leader->last_delta;
        ck_assert_int_eq(delta.follower, 2);
        ck_assert_int_eq(delta.broker_epoch, 12);
        ck_assert_int_eq(delta.fetch_offset, 40 + delta.id.index);
        ck_assert_int_eq(delta.flushed_end, 30 + delta.id.index);
        ck_assert(delta.want);

        Karst__ReplicaData data = KARST__REPLICA_DATA__INIT;
        Karst__ReplicaDataPartition row = KARST__REPLICA_DATA_PARTITION__INIT, *rows = &row;
        /* The follower's shard of it: the stream that the delta came on was the last one's. */
        struct partition_id id = lab_partition_id(0);
        while (partition_shard(&id, LAB_SHARDS) != LAB_SHARDS - 1)
            id.index++;
        row.topic_id = wire_put_uuid(&id.topic);
        row.index = id.index;
        row.session = 3;
        row.fetch_offset = 40;
        row.has_bytes = true;
        row.bytes = 300;
        data.n_partitions = 1;
        data.partitions = &rows;
        struct frame *records = frame_new(300);
        records->used = 300;
        memset(records->bytes, 0x5a, 300);
        struct frame *header = wire_frame(&(struct wire_frame_args){.kind = WIRE_ONEWAY,
                                                                    .method = WIRE_REPLICA_DATA,
                                                                    .message = &data.base,
                                                                    .attachment_bytes = 300,
                                                                    .attachment_apart = true});
        leader->host.stream_reply(leader->host.self, delta.via_shard, delta.conn, header, &records,
                                  1);
        lab_run(&lab, 100);
        struct partition_table *follower = fake_table(&lab, 1, LAB_SHARDS - 1);
        ck_assert_uint_eq(follower->data, i + 1);
        ck_assert_uint_eq(follower->last_data.bytes, 300);
        ck_assert_int_eq(follower->last_data.from, 1);
        ck_assert_uint_eq(follower->last_byte, 0x5a);
    }
    lab_fini(&lab);
}
END_TEST

START_TEST(a_stream_that_breaks_is_told_at_both_ends)
{
    setup(2, 1);
    static const int32_t indexes[] = {0, 1, 2, 3};
    struct partition_table *follower = fake_table(&lab, 1, 0);
    follower->host.stream_send(follower->host.self, 1, deltas_frame(2, 12, indexes, 4));
    lab_run(&lab, 100);
    unsigned lost = follower->lost;
    sim_cut(&lab.world, 0, 1, true);
    follower->host.stream_send(follower->host.self, 1, deltas_frame(2, 12, indexes, 4));
    lab_run(&lab, 5000);
    ck_assert_uint_gt(follower->lost, lost);
    sim_heal(&lab.world);
    lab_run(&lab, 1000);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert_uint_ge(fake_table(&lab, 0, i)->gone, 1);
    unsigned before = deltas_at(0);
    follower->host.stream_send(follower->host.self, 1, deltas_frame(2, 12, indexes, 4));
    lab_run(&lab, 1000);
    ck_assert_uint_eq(deltas_at(0), before + 4);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_leader_that_is_dead_is_told_to_the_follower)
{
    setup(2, 1);
    static const int32_t indexes[] = {0};
    lab_stop_node(&lab, 0);
    lab_run(&lab, 100);
    struct partition_table *follower = fake_table(&lab, 1, 1);
    unsigned lost = follower->lost;
    follower->host.stream_send(follower->host.self, 1, deltas_frame(2, 12, indexes, 1));
    lab_run(&lab, 300);
    ck_assert_uint_gt(follower->lost, lost);
    lab_fini(&lab);
}
END_TEST

static bool refused_delta(node_id_t hello_node, broker_epoch_t hello_epoch, node_id_t node,
                          broker_epoch_t epoch)
{
    static const int32_t indexes[] = {0, 1};
    env_conn conn = lab_connect_broker(&lab, 0, hello_node, hello_epoch);
    unsigned before = deltas_at(0);
    struct frame *frame = deltas_frame(node, epoch, indexes, 2);
    (void)lab.client->net.send(lab.client->net.self, conn, frame, 0, frame->used);
    lab_run(&lab, 100);
    bool refused = deltas_at(0) == before && lab_is_closed(&lab, conn);
    if (!refused) {
        ck_assert_uint_eq(deltas_at(0), before + 2);
        lab.client->net.drop(lab.client->net.self, conn);
        lab_run(&lab, 50);
    }
    return refused;
}

START_TEST(only_the_broker_that_the_hello_named_acknowledges)
{
    setup(2, 1);
    ck_assert(!refused_delta(2, 12, 2, 12));
    ck_assert(refused_delta(2, 12, 3, 12)); /* for somebody else */
    ck_assert(refused_delta(2, 12, 2, 13)); /* for another incarnation */
    ck_assert(refused_delta(9, 19, 9, 19)); /* not in the image */
    ck_assert(refused_delta(2, -1, 2, -1)); /* not registered */
    ck_assert(refused_delta(NO_NODE, -1, 2, 12));
    lab_fini(&lab);
}
END_TEST

START_TEST(raft_of_a_client_closes_the_connection)
{
    setup(2, 1);
    env_conn conn = lab_connect(&lab, 0);
    Karst__RaftMessage raft = KARST__RAFT_MESSAGE__INIT;
    lab_send_oneway(&lab, conn, WIRE_RAFT, &raft.base);
    lab_run(&lab, 100);
    ck_assert(lab_is_closed(&lab, conn));
    ck_assert_uint_eq(lab.nodes[0].oneways, 0);
    lab_fini(&lab);
}
END_TEST

/* ---- probes (R10) ---- */

START_TEST(a_killed_broker_is_proved_dead_in_tens_of_milliseconds)
{
    setup(3, 1);
    lab_run(&lab, 500);
    lab_stop_node(&lab, 2);
    lab_run(&lab, 60);
    ck_assert_uint_ge(lab.nodes[0].died, 1);
    ck_assert_int_eq(lab.nodes[0].died_node, 3);
    ck_assert_uint_ge(lab.nodes[0].lost, 1);
    ck_assert_uint_eq(lab.nodes[1].died, 0); /* the active controller's node alone asks */
    lab_fini(&lab);
}
END_TEST

START_TEST(a_host_without_power_proves_nothing)
{
    setup(3, 1);
    lab.nodes[2].host->powered = false;
    lab_stop_node(&lab, 2);
    lab_run(&lab, 5000);
    ck_assert_uint_eq(lab.nodes[0].died, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_living_broker_that_lost_its_connections_is_not_dead)
{
    setup(3, 1);
    sim_cut(&lab.world, 0, 2, true);
    lab_run(&lab, 10000);
    sim_heal(&lab.world);
    lab_run(&lab, 5000);
    ck_assert_uint_eq(lab.nodes[0].died, 0);
    ck_assert_uint_ge(lab.nodes[0].lost, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(another_incarnation_at_the_address_proves_the_death_of_the_first)
{
    setup(3, 1);
    struct record_list records;
    record_list_init(&records);
    /* Registered is a process that is not the one which answers there. */
    struct uuid earlier = lab_uuid(777);
    lab_register_node(&lab.nodes[2], &records, &earlier, 40);
    lab_broker_change(&records, 3, 40, BROKER_STATE_ACTIVE);
    lab_publish(&lab, &records);
    lab_run(&lab, 100);
    lab_lead(&lab, NO_NODE);
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[0].died, 0);
    lab_lead(&lab, 1); /* a new controller looks at all of them */
    lab_run(&lab, 200);
    ck_assert_uint_ge(lab.nodes[0].died, 1);
    ck_assert_int_eq(lab.nodes[0].died_node, 3);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_controller_finds_who_died_with_the_old_one)
{
    setup(3, 2);
    lab_stop_node(&lab, 1);
    lab_run(&lab, 500);
    ck_assert_uint_eq(lab.nodes[0].died, 0);
    lab_lead(&lab, 1);
    lab_run(&lab, 100);
    ck_assert_uint_ge(lab.nodes[0].died, 1);
    ck_assert_int_eq(lab.nodes[0].died_node, 2);
    lab_fini(&lab);
}
END_TEST

/* Three nodes; the first ones are voters. */
static void setup_voters(unsigned voters, node_id_t leader)
{
    setup(3, leader);
    struct record_list records;
    record_list_init(&records);
    lab_voters(&records, voters);
    lab_publish(&lab, &records);
    lab_run(&lab, 100);
}

START_TEST(a_voter_proves_that_the_quorums_leader_is_dead)
{
    setup_voters(2, 2);
    for (unsigned i = 0; i < 3; i += 2)
        lab_quorum_send(&lab, i, 1, 0);
    lab_run(&lab, 100);
    lab_stop_node(&lab, 1);
    lab_run(&lab, 60);
    ck_assert_uint_ge(lab.nodes[0].died, 1);
    ck_assert_int_eq(lab.nodes[0].died_node, 2);
    ck_assert_uint_eq(lab.nodes[0].died_term, lab.term);
    ck_assert_uint_eq(lab.nodes[2].died, 0); /* an observer elects nobody */
    lab_fini(&lab);
}
END_TEST

START_TEST(the_end_of_a_probe_is_no_hint)
{
    setup_voters(3, 2); /* each of the three probes some other */
    lab_run(&lab, 2000);
    unsigned lost = lab.nodes[0].lost + lab.nodes[1].lost + lab.nodes[2].lost;
    lab_run(&lab, 5000);
    ck_assert_uint_eq(lab.nodes[0].lost + lab.nodes[1].lost + lab.nodes[2].lost, lost);
    env_conn conn = lab_connect_broker(&lab, 0, 2, 12);
    lab.client->net.drop(lab.client->net.self, conn);
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[0].lost + lab.nodes[1].lost + lab.nodes[2].lost, lost);
    lab_fini(&lab);
}
END_TEST

/* The pauses between its looks grow to 400 ms; they must not hide what happens meanwhile. */
START_TEST(a_new_hint_is_followed_at_once_although_a_probe_is_under_way)
{
    for (unsigned pause = 20; pause < 1000; pause += 70) {
        setup_voters(2, 2);
        lab_run(&lab, 3000);
        unsigned lost = lab.nodes[0].lost;
        env_conn conn = lab_connect_broker(&lab, 0, 2, 12);
        Karst__RaftMessage raft = KARST__RAFT_MESSAGE__INIT;
        lab_send_oneway(&lab, conn, WIRE_RAFT, &raft.base);
        lab_run(&lab, 20);
        lab.client->net.drop(lab.client->net.self, conn);
        lab_run(&lab, pause);
        ck_assert_uint_eq(lab.nodes[0].lost, lost + 1);
        lab_stop_node(&lab, 1);
        lab_run(&lab, 40);
        ck_assert_msg(lab.nodes[0].died >= 1, "not proved within 40 ms after %u ms", pause);
        lab_fini(&lab);
    }
}
END_TEST

/* It led an older term: what is proved of it is nothing of the present leader. */
START_TEST(a_follower_that_dies_is_no_leader_that_died)
{
    setup_voters(3, 3);
    lab_lead(&lab, 1);
    lab_run(&lab, 100);
    lab_stop_node(&lab, 2);
    lab_run(&lab, 60);
    ck_assert_uint_ge(lab.nodes[0].died, 1);
    ck_assert_uint_eq(lab.nodes[0].died_term, 0);
    ck_assert_uint_eq(lab.nodes[1].died, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_leader_that_is_cut_off_is_not_dead)
{
    setup_voters(3, 3);
    for (unsigned i = 0; i < 2; i++)
        lab_quorum_send(&lab, i, 2, 0);
    lab_run(&lab, 100);
    for (unsigned i = 0; i < 2; i++)
        sim_cut(&lab.world, i, 2, true);
    lab_run(&lab, 10000);
    ck_assert_uint_ge(lab.nodes[0].lost + lab.nodes[1].lost, 1);
    ck_assert_uint_eq(lab.nodes[0].died + lab.nodes[1].died, 0);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("shard/peer", raft_frames_reach_the_peers_quorum,
           a_quorums_request_is_answered_with_its_token,
           a_quorums_request_to_a_dead_or_silent_peer_ends_with_an_error,
           frames_to_a_peer_that_is_away_are_bounded_and_flow_when_it_is_back,
           orders_reach_the_owners_and_data_comes_back_on_the_same_stream,
           a_stream_that_breaks_is_told_at_both_ends, a_leader_that_is_dead_is_told_to_the_follower,
           only_the_broker_that_the_hello_named_acknowledges,
           raft_of_a_client_closes_the_connection,
           a_killed_broker_is_proved_dead_in_tens_of_milliseconds,
           a_host_without_power_proves_nothing,
           a_living_broker_that_lost_its_connections_is_not_dead,
           another_incarnation_at_the_address_proves_the_death_of_the_first,
           a_new_controller_finds_who_died_with_the_old_one,
           a_voter_proves_that_the_quorums_leader_is_dead, the_end_of_a_probe_is_no_hint,
           a_new_hint_is_followed_at_once_although_a_probe_is_under_way,
           a_follower_that_dies_is_no_leader_that_died, a_leader_that_is_cut_off_is_not_dead)
