#include "lib/shard_lab.h"
#include "log/log_dir.h"
#include "shard/internal.h"

/* Registration, heartbeats, the lease, and the end in order. */

static struct lab lab;

static struct shard_view view(unsigned node, unsigned shard)
{
    struct shard_view seen;
    shard_look(lab.nodes[node].shards[shard], &seen);
    return seen;
}

static void setup(unsigned nodes, node_id_t controller)
{
    lab_init(&lab, nodes, check_main_seed());
    lab_settle(&lab, controller);
}

START_TEST(a_broker_registers_and_all_its_shards_have_the_lease)
{
    setup(2, 2);
    ck_assert_uint_eq(lab.nodes[1].registers, 2);
    ck_assert_uint_ge(lab.nodes[1].heartbeats, 2);
    for (unsigned node = 0; node < 2; node++) {
        for (unsigned i = 0; i < LAB_SHARDS; i++) {
            ck_assert(view(node, i).registered);
            ck_assert(view(node, i).lease_valid);
            ck_assert_int_eq(view(node, i).broker_epoch, 11 + (int)node);
        }
    }
    lab_fini(&lab);
}
END_TEST

START_TEST(heartbeats_tell_the_offset_that_all_shards_have)
{
    setup(1, 1);
    ck_assert_int_eq(lab.nodes[0].heartbeat_offset, image_offset(lab.image));
    struct record_list records;
    record_list_init(&records);
    lab_config(&records, 1, "retention.ms", "1000");
    lab_publish(&lab, &records);
    lab_run(&lab, 300);
    ck_assert_int_eq(lab.nodes[0].heartbeat_offset, image_offset(lab.image));
    lab_fini(&lab);
}
END_TEST

START_TEST(heartbeats_tell_the_offset_of_the_slowest_shard)
{
    setup(1, 1);
    int64_t before = image_offset(lab.image);
    sim_actor_pause(lab.nodes[0].host, 1, ENV_MS(1000));
    struct record_list records;
    record_list_init(&records);
    lab_config(&records, 1, "retention.ms", "1000");
    lab_publish(&lab, &records);
    lab_run(&lab, 600);
    ck_assert_int_eq(lab.nodes[0].heartbeat_offset, before);
    lab_run(&lab, 900);
    ck_assert_int_eq(lab.nodes[0].heartbeat_offset, image_offset(lab.image));
    lab_fini(&lab);
}
END_TEST

START_TEST(the_lease_ends_with_the_session_after_the_last_answered_heartbeat)
{
    setup(2, 2);
    lab.nodes[1].silent = true;
    lab_run(&lab, 1500);
    ck_assert(view(0, 1).lease_valid);
    lab_run(&lab, 700);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(!view(0, i).lease_valid);
    lab.nodes[1].silent = false;
    lab_run(&lab, 1500);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(view(0, i).lease_valid);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_controller_that_may_be_deposed_renews_no_lease)
{
    setup(2, 2);
    lab.nodes[1].quorum_age_ms = 1200;
    lab_run(&lab, 700);
    ck_assert(view(0, 1).lease_valid);
    lab.nodes[1].silent = true;
    lab_run(&lab, 900);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(!view(0, i).lease_valid);
    lab.nodes[1].silent = false;
    lab.nodes[1].quorum_age_ms = 2500;
    lab_run(&lab, 1500);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(!view(0, i).lease_valid);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_fenced_broker_has_no_lease)
{
    setup(2, 2);
    lab.nodes[1].fenced = true;
    lab_run(&lab, 500);
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        ck_assert(view(0, i).fenced);
        ck_assert(!view(0, i).lease_valid);
    }
    lab.nodes[1].fenced = false;
    lab_run(&lab, 500);
    ck_assert(view(0, 1).lease_valid);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_fenced_broker_tells_at_once_that_it_has_caught_up)
{
    setup(2, 2);
    lab.nodes[1].fenced = true;
    lab_run(&lab, 500);
    /* Just after a heartbeat: the next regular one is far. */
    unsigned before = lab.nodes[1].heartbeats;
    while (lab.nodes[1].heartbeats < before + 2)
        lab_run(&lab, 1);
    struct record_list records;
    record_list_init(&records);
    lab_config(&records, 1, "retention.ms", "1000");
    lab_publish(&lab, &records);
    lab_run(&lab, 40);
    ck_assert_int_eq(lab.nodes[1].heartbeat_offset, image_offset(lab.image));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_with_a_loop_that_stands_still_sends_no_heartbeats)
{
    setup(2, 2);
    struct shard *stuck = lab.nodes[0].shards[1];
    struct env *env = sim_host_env(lab.nodes[0].host, 1);
    lab_run(&lab, 3000);
    ck_assert(view(0, 0).lease_valid);
    env->timer_stop(env->self, &stuck->tick);
    lab_run(&lab, 5000);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(!view(0, i).lease_valid);
    ck_assert(view(1, 0).lease_valid);
    env->timer_start(env->self, &stuck->tick, env_now(env));
    lab_run(&lab, 500);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ck_assert(view(0, i).lease_valid);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_superseded_process_ends_itself)
{
    setup(2, 2);
    lab.nodes[1].heartbeat_err = ERR_STALE_BROKER_EPOCH;
    lab_run(&lab, 500);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 1);
    ck_assert_ptr_nonnull(strstr(lab.nodes[0].exit_why, "node id"));
    lab_fini(&lab);
}
END_TEST

START_TEST(the_image_tells_a_superseded_process_too)
{
    setup(2, 2);
    struct record_list records;
    record_list_init(&records);
    lab_register(&records, 1, 901, 50);
    lab_publish(&lab, &records);
    lab_run(&lab, 100);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_that_is_not_known_registers_again)
{
    setup(2, 2);
    unsigned before = lab.nodes[1].registers;
    lab.nodes[1].heartbeat_err = ERR_BROKER_ID_NOT_REGISTERED;
    lab_run(&lab, 300);
    lab.nodes[1].heartbeat_err = ERR_OK;
    lab_run(&lab, 300);
    ck_assert_uint_gt(lab.nodes[1].registers, before);
    ck_assert(view(0, 0).registered);
    ck_assert(!lab.nodes[0].exited);
    lab_fini(&lab);
}
END_TEST

START_TEST(registration_goes_on_until_somebody_answers)
{
    setup(2, NO_NODE);
    ck_assert(!view(0, 0).registered);
    lab_run(&lab, 5000);
    lab.nodes[1].register_err = ERR_DUPLICATE_BROKER_REGISTRATION;
    lab_lead(&lab, 2);
    lab_run(&lab, 1000);
    ck_assert(!view(0, 0).registered);
    lab.nodes[1].register_err = ERR_OK;
    lab_run(&lab, 1000);
    ck_assert(view(0, 0).registered);
    ck_assert(view(0, 1).lease_valid);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_cluster_that_is_not_ours_ends_the_process)
{
    lab_init(&lab, 1, check_main_seed());
    lab.nodes[0].register_err = ERR_INCONSISTENT_CLUSTER_ID;
    lab_settle(&lab, 1);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 1);
    lab_fini(&lab);
}
END_TEST

/* Its registration was lost on the way, and another process' came meanwhile (R2). */
START_TEST(a_process_superseded_before_it_registered_ends_itself)
{
    lab_init(&lab, 1, check_main_seed());
    lab.nodes[0].register_err = ERR_STALE_BROKER_EPOCH;
    lab_settle(&lab, 1);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 1);
    ck_assert_ptr_nonnull(strstr(lab.nodes[0].exit_why, "node id"));
    lab_fini(&lab);
}
END_TEST

/* Is the marker of a clean stop there? */
static bool clean(unsigned node)
{
    struct env_disk *disk = &sim_host_env(lab.nodes[node].host, 0)->disks[0];
    env_file file;
    if (disk->open(disk->self, ".kafka_cleanshutdown", 0, &file) != ERR_OK)
        return false;
    disk->close(disk->self, file);
    return true;
}

START_TEST(drain_waits_for_the_controller_then_stops_clean)
{
    setup(2, 2);
    env_conn conn = lab_connect(&lab, 0);
    int32_t index = 0;
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        fake_table(&lab, 0, i)->hold = true;
    uint32_t id = lab_produce(&lab, conn, -1, 60000, &index, 1);
    shard_drain(lab.nodes[0].shards[0], ENV_MS(10000));
    lab_run(&lab, 1000);
    ck_assert(lab.nodes[1].shutdowns_wanted > 0);
    ck_assert(!lab.nodes[0].exited);
    ck_assert(!clean(0));
    lab.nodes[1].may_shut_down = true;
    struct arena arena;
    arena_init(&arena, 1 << 20);
    Karst__ProduceReply *reply =
        (Karst__ProduceReply *)lab_reply(&lab, conn, id, WIRE_PRODUCE, &arena);
    ck_assert_int_eq(reply->partitions[0]->error, ERR_NOT_LEADER_OR_FOLLOWER);
    arena_fini(&arena);
    lab_run(&lab, 100);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 0);
    ck_assert(lab_is_closed(&lab, conn));
    ck_assert(clean(0));
    lab_fini(&lab);
}
END_TEST

START_TEST(drain_stops_without_the_controller_when_its_time_is_over)
{
    setup(2, 2);
    lab.nodes[1].silent = true;
    shard_drain(lab.nodes[0].shards[0], ENV_MS(300));
    lab_run(&lab, 200);
    ck_assert(!lab.nodes[0].exited);
    lab_run(&lab, 200);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 0);
    lab_fini(&lab);
}
END_TEST

/* Node 1 leads the quorum, whose voters are nodes 1 and 2, and leads no partition any more. */
static void drain_of_the_quorums_leader(void)
{
    setup(2, 1);
    struct record_list records;
    record_list_init(&records);
    lab_voters(&records, 2);
    lab_publish(&lab, &records);
    lab_run(&lab, 100);
    lab.nodes[0].may_shut_down = true;
    shard_drain(lab.nodes[0].shards[0], ENV_MS(10000));
    lab_run(&lab, 100);
    ck_assert_uint_eq(lab.nodes[0].hand_overs, 1);
    ck_assert(!lab.nodes[0].exited);
}

START_TEST(drain_hands_the_quorum_over_first)
{
    drain_of_the_quorums_leader();
    lab_lead(&lab, NO_NODE); /* under way */
    lab_run(&lab, 100);
    ck_assert(!lab.nodes[0].exited);
    lab_lead(&lab, 2);
    lab_run(&lab, 100);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 0);
    ck_assert(clean(0));
    lab_fini(&lab);
}
END_TEST

START_TEST(drain_does_not_wait_for_a_successor_for_long)
{
    drain_of_the_quorums_leader();
    lab_run(&lab, 600);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 0);
    ck_assert(clean(0));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_second_drain_does_not_wait)
{
    setup(2, 2);
    lab.nodes[1].silent = true;
    shard_drain(lab.nodes[0].shards[0], ENV_MS(60000));
    lab_run(&lab, 50);
    shard_drain(lab.nodes[0].shards[0], ENV_MS(60000));
    lab_run(&lab, 100);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_stop_that_could_not_sync_all_leaves_no_marker)
{
    setup(2, 2);
    lab.nodes[1].may_shut_down = true;
    fake_table(&lab, 0, 1)->free_err = ERR_KAFKA_STORAGE_ERROR;
    shard_drain(lab.nodes[0].shards[0], ENV_MS(10000));
    lab_run(&lab, 300);
    ck_assert(lab.nodes[0].exited);
    ck_assert(!clean(0));
    lab_fini(&lab);
}
END_TEST

/* R20: the controller believes a marker, and would not hear that the life before lost its cache. */
START_TEST(a_stop_before_a_registration_does_not_hide_an_unclean_one)
{
    for (int was_clean = 0; was_clean < 2; was_clean++) {
        lab_init(&lab, 2, check_main_seed());
        lab.nodes[0].config.clean_start = was_clean;
        lab_settle(&lab, NO_NODE);
        ck_assert(!view(0, 0).registered);
        shard_drain(lab.nodes[0].shards[0], ENV_MS(10000));
        lab_run(&lab, 300);
        ck_assert(lab.nodes[0].exited);
        ck_assert_int_eq(clean(0), was_clean);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(a_broker_whose_last_directory_failed_ends_itself)
{
    setup(2, 2);
    struct partition_table *table = fake_table(&lab, 0, 1);
    struct partition_id id = lab_partition_id(0);
    table->host.replica_failed(table->host.self, &id, 0, ERR_REPLICA_NOT_AVAILABLE);
    lab_run(&lab, 10);
    ck_assert(!lab.nodes[0].exited); /* that replica alone stopped */
    table->host.replica_failed(table->host.self, &id, 0, ERR_KAFKA_STORAGE_ERROR);
    lab_run(&lab, 10);
    ck_assert(lab.nodes[0].exited);
    ck_assert_int_eq(lab.nodes[0].exit_code, 1);
    ck_assert_uint_eq(lab.nodes[1].failed_directories, 1); /* the controller knows why (R14) */
    bool marked;
    struct env_disk *disk = &sim_host_env(lab.nodes[0].host, 0)->disks[0];
    ck_assert_int_eq(log_dir_is_failed(disk, &marked), ERR_OK);
    ck_assert(marked);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_whose_last_directory_failed_does_not_wait_for_a_silent_controller)
{
    setup(2, 2);
    struct partition_table *table = fake_table(&lab, 0, 1);
    struct partition_id id = lab_partition_id(0);
    lab.nodes[1].silent = true;
    table->host.replica_failed(table->host.self, &id, 0, ERR_KAFKA_STORAGE_ERROR);
    lab_run(&lab, 1000);
    ck_assert(!lab.nodes[0].exited);
    lab_run(&lab, 1500);
    ck_assert(lab.nodes[0].exited);
    lab_fini(&lab);
}
END_TEST

START_TEST(heartbeats_say_which_replicas_failed_until_they_work_again)
{
    setup(2, 2);
    for (int32_t i = 0; i < 3; i++) {
        struct partition_table *table = fake_table(&lab, 0, (unsigned)i % LAB_SHARDS);
        struct partition_id id = lab_partition_id(i);
        table->host.replica_failed(table->host.self, &id, 0, ERR_CORRUPT);
        table->host.replica_failed(table->host.self, &id, 0, ERR_REPLICA_NOT_AVAILABLE);
    }
    lab_run(&lab, 20);
    ck_assert_uint_eq(lab.nodes[1].failed_replicas, 3); /* told at once */
    lab_run(&lab, 1000);
    ck_assert_uint_eq(lab.nodes[1].failed_replicas, 3);
    ck_assert_uint_eq(lab.nodes[1].failed_directories, 0);
    struct partition_table *table = fake_table(&lab, 0, 1);
    struct partition_id id = lab_partition_id(1);
    table->host.replica_failed(table->host.self, &id, 0, ERR_OK);
    lab_run(&lab, 20);
    ck_assert_uint_eq(lab.nodes[1].failed_replicas, 2);
    lab_fini(&lab);
}
END_TEST

/* R8: who has not heard that the partition has no leader may still take records from an old one. */
START_TEST(how_far_a_log_goes_is_told_of_the_epoch_asked_for_alone)
{
    setup(2, 2);
    lab.nodes[1].asks_epoch = 7; /* which the image has not seen */
    lab.nodes[1].asks_ends = true;
    lab_run(&lab, 1000);
    ck_assert_uint_eq(lab.nodes[1].ends_told, 0);
    lab_fini(&lab);
}
END_TEST

/* Partitions 0 to 2 answer, from both shards; 3 is not open. */
START_TEST(what_the_controller_asks_of_logs_is_told_with_the_next_heartbeat)
{
    setup(2, 2);
    lab.nodes[1].asks_ends = true;
    while (lab.nodes[1].ends_told == 0)
        lab_run(&lab, 1);
    lab.nodes[1].asks_ends = false;
    lab_run(&lab, 50);
    ck_assert_uint_ge(lab.nodes[1].ends_told, 3);
    size_t told = lab.nodes[1].ends_told;
    ck_assert_int_ge(lab.nodes[1].ends_sum, 100 + 101 + 102);
    lab_run(&lab, 1000);
    ck_assert_uint_eq(lab.nodes[1].ends_told, told); /* once is enough */
    lab_fini(&lab);
}
END_TEST

/* All that a heartbeat says lies side by side until it is packed. */
START_TEST(a_heartbeat_says_at_once_what_failed_and_what_was_asked)
{
    setup(2, 2);
    for (int32_t i = 0; i < 3; i++) {
        struct partition_table *table = fake_table(&lab, 0, (unsigned)i % LAB_SHARDS);
        struct partition_id id = lab_partition_id(i);
        table->host.replica_failed(table->host.self, &id, 0, ERR_REPLICA_NOT_AVAILABLE);
    }
    lab.nodes[1].asks_ends = true;
    while (lab.nodes[1].ends_told < 3)
        lab_run(&lab, 1);
    ck_assert_uint_eq(lab.nodes[1].failed_replicas, 3);
    ck_assert_int_ge(lab.nodes[1].ends_sum, 100 + 101 + 102);
    lab.nodes[1].asks_ends = false;
    lab_run(&lab, 500);
    ck_assert_uint_eq(lab.nodes[1].failed_replicas, 3);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("shard/lifecycle", a_broker_registers_and_all_its_shards_have_the_lease,
           heartbeats_tell_the_offset_that_all_shards_have,
           heartbeats_tell_the_offset_of_the_slowest_shard,
           the_lease_ends_with_the_session_after_the_last_answered_heartbeat,
           a_controller_that_may_be_deposed_renews_no_lease, a_fenced_broker_has_no_lease,
           a_fenced_broker_tells_at_once_that_it_has_caught_up,
           a_broker_with_a_loop_that_stands_still_sends_no_heartbeats,
           a_superseded_process_ends_itself, the_image_tells_a_superseded_process_too,
           a_broker_that_is_not_known_registers_again, registration_goes_on_until_somebody_answers,
           a_cluster_that_is_not_ours_ends_the_process,
           drain_waits_for_the_controller_then_stops_clean,
           drain_stops_without_the_controller_when_its_time_is_over,
           drain_hands_the_quorum_over_first, drain_does_not_wait_for_a_successor_for_long,
           a_second_drain_does_not_wait, a_stop_that_could_not_sync_all_leaves_no_marker,
           a_stop_before_a_registration_does_not_hide_an_unclean_one,
           a_broker_whose_last_directory_failed_ends_itself,
           a_broker_whose_last_directory_failed_does_not_wait_for_a_silent_controller,
           heartbeats_say_which_replicas_failed_until_they_work_again,
           a_heartbeat_says_at_once_what_failed_and_what_was_asked,
           what_the_controller_asks_of_logs_is_told_with_the_next_heartbeat,
           a_process_superseded_before_it_registered_ends_itself,
           how_far_a_log_goes_is_told_of_the_epoch_asked_for_alone)
