#include "log/log.h"
#include "unit/shard/partition_lab.h"

static struct lab *lab_ready(void)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    return lab;
}

static void all_logs_are(struct lab *lab, const char *values)
{
    for (node_id_t node = 1; node <= LAB_NODES; node++)
        ck_assert_str_eq(lab_log_values(lab, node), values);
}

START_TEST(a_killed_leader_is_followed_by_one_that_has_all)
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_kill(lab, 1, true);
    lab_elect(lab, 2, 23);
    lab_tick(lab, 100);
    struct lab_call *call = lab_produce(lab, 2, -1, 1, "b");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_int_eq(call->produce.base_offset, 1);
    lab_start(lab, 1);
    lab_tick(lab, 500);
    ck_assert_uint_eq(lab_isr(lab), 123); /* it has caught up and joined (R4) */
    all_logs_are(lab, "a,b");
    ck_assert_int_eq(lab_look(lab, 1).high_watermark, 2);
    lab_free(lab);
}
END_TEST

START_TEST(what_only_the_old_leader_had_is_cut) /* R9 */
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_mute(lab, 1, true);
    struct lab_call *alone = lab_produce(lab, 1, -1, 1, "lost");
    struct lab_call *alone_too = lab_produce(lab, 1, 1, 1, "lost");
    lab_pump(lab);
    ck_assert(!alone->answered);
    ck_assert_int_eq(lab_err(alone_too), ERR_OK); /* acks=1 asked for no more */
    lab_elect(lab, 2, 23);
    lab_tick(lab, 100);
    lab_produce(lab, 2, -1, 1, "b");
    lab_pump(lab);
    lab_mute(lab, 1, false);
    ck_assert_int_eq(lab_err(alone), ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(alone->part.leader, 2);
    lab_tick(lab, 500);
    all_logs_are(lab, "a,b");
    ck_assert_uint_eq(lab_look(lab, 1).truncations, 1);
    ck_assert_uint_eq(lab_isr(lab), 123);
    lab_free(lab);
}
END_TEST

/* KIP-101's history: truncating to the high watermark would lose b. */
START_TEST(a_follower_that_restarts_keeps_what_lies_above_its_high_watermark)
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_produce(lab, 1, -1, 1, "b");
    lab_pump(lab);
    ck_assert_int_eq(lab_look(lab, 2).high_watermark, 0); /* it has not been told */
    lab_kill(lab, 2, true);
    lab_start(lab, 2);
    lab_kill(lab, 1, true); /* before 2 has heard of it */
    lab_kill(lab, 3, true);
    lab_elect(lab, 2, 2);
    lab_start(lab, 1);
    lab_start(lab, 3);
    lab_tick(lab, 500);
    all_logs_are(lab, "a,b");
    lab_free(lab);
}
END_TEST

/* KIP-279's history: two leaders each write an epoch that the other does not know. */
START_TEST(logs_that_diverged_twice_become_one)
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_mute(lab, 2, true);
    lab_mute(lab, 3, true);
    lab_produce(lab, 1, 1, 1, "one");
    lab_pump(lab);
    lab_kill(lab, 1, false);
    lab_elect(lab, 2, 2);
    lab_mute(lab, 2, false);
    lab_produce(lab, 2, 1, 1, "two");
    lab_produce(lab, 2, 1, 1, "two");
    lab_pump(lab);
    lab_kill(lab, 2, true);
    lab_mute(lab, 3, false);
    lab_elect(lab, 3, 3);
    lab_produce(lab, 3, 1, 1, "three");
    lab_pump(lab);
    lab_start(lab, 1);
    lab_start(lab, 2);
    lab_tick(lab, 1000);
    ck_assert_str_eq(lab_log_values(lab, 3), "a,three");
    all_logs_are(lab, "a,three");
    lab_free(lab);
}
END_TEST

START_TEST(below_its_high_watermark_a_replica_stops_rather_than_cuts) /* R9 */
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_tick(lab, 100);
    lab_mute(lab, 3, true);
    lab_produce(lab, 1, -1, 1, "b");
    lab_tick(lab, 11000); /* 3 has left the ISR */
    lab_tick(lab, 100);
    ck_assert_uint_eq(lab_isr(lab), 12);
    ck_assert_int_eq(lab_look(lab, 2).high_watermark, 2);
    lab_kill(lab, 1, false);
    lab_mute(lab, 3, false);
    lab_elect(lab, 3, 3); /* by mistake: nobody said that it is unclean */
    lab_produce(lab, 3, 1, 1, "c");
    lab_tick(lab, 1000);
    ck_assert_str_eq(lab_log_values(lab, 2), "a,b");
    ck_assert(lab_look(lab, 2).failed);
    ck_assert_uint_eq(lab->nodes[2].replicas_failed, 1);
    lab_unclean(lab, 3, 3); /* now a person has */
    lab_tick(lab, 1000);
    ck_assert_str_eq(lab_log_values(lab, 2), "a,c");
    ck_assert(!lab_look(lab, 2).failed);
    ck_assert_int_eq(lab->nodes[2].replica_err, ERR_OK); /* else it is kept out of the ISR */
    lab_free(lab);
}
END_TEST

START_TEST(a_dead_follower_leaves_the_isr_and_comes_back)
{
    struct lab *lab = lab_ready();
    lab_kill(lab, 3, true);
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "a");
    lab_tick(lab, 9000);
    ck_assert(!call->answered);
    lab_tick(lab, 3000);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_uint_eq(lab_isr(lab), 12);
    ck_assert_uint_ge(lab_look(lab, 1).isr_shrinks, 1);
    lab_start(lab, 3);
    lab_tick(lab, 500);
    ck_assert_uint_eq(lab_isr(lab), 123);
    ck_assert_uint_ge(lab_look(lab, 1).isr_growths, 1);
    all_logs_are(lab, "a");
    lab_free(lab);
}
END_TEST

/* The history of R4: true high watermark 6, the new leader knows less, a follower lies between. */
START_TEST(nobody_joins_below_what_the_last_leader_may_have_acknowledged)
{
    struct partition_options options = lab_options();
    options.replica_fetch_bytes_max = 100; /* one batch at a time */
    struct lab *lab = lab_new_with(check_main_seed(), &options);
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_mute(lab, 3, true);
    lab_produce(lab, 1, 1, 1, "b");
    lab_tick(lab, 12000);
    ck_assert_uint_eq(lab_isr(lab), 12);
    struct lab_call *call = NULL;
    lab->nodes[1].hold_syncs = true; /* so that the high watermark stays behind what 2 is sent */
    for (int i = 0; i < 4; i++)
        call = lab_produce(lab, 1, -1, 1, "c");
    lab_pump(lab);
    lab->nodes[1].hold_syncs = false;
    lab_pump(lab);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    lab_kill(lab, 1, true);
    lab_elect(lab, 2, 12); /* 1 still counts, so that 2 can't know what is committed */
    ck_assert_int_eq(lab_look(lab, 2).high_watermark, 2);
    lab_mute(lab, 3, false);
    lab->now_ns += ENV_MS(100);
    for (int i = 0; i < 1000; i++) {
        if (!lab_pump_one(lab))
            partition_tick(lab->nodes[3].table, lab->now_ns += ENV_MS(25));
        ck_assert(lab_isr(lab) == 12 || lab_look(lab, 3).flushed_end >= 6);
    }
    ck_assert_uint_eq(lab_isr(lab), 123);
    lab_free(lab);
}
END_TEST

START_TEST(an_alter_without_an_outcome_is_told_again) /* R5 */
{
    struct lab *lab = lab_ready();
    lab_kill(lab, 3, true);
    lab->hold_alters = true;
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "a");
    lab_tick(lab, 15000);
    ck_assert(!call->answered);
    lab->hold_alters = false;
    lab_tick(lab, 500);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_uint_eq(lab_isr(lab), 12);
    lab_free(lab);
}
END_TEST

START_TEST(a_restarted_leader_does_not_lead_on_by_an_old_image) /* R2 */
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, 1, 1, "a");
    lab_pump(lab);
    struct partition_view view = lab_look(lab, 1);
    ck_assert(view.leading);
    /* Its process is another now; the image does not know that yet. */
    lab->nodes[1].broker_epoch += 1000;
    lab_tick(lab, 25);
    view = lab_look(lab, 1);
    ck_assert(!view.leading);
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "b");
    ck_assert_int_eq(lab_err(call), ERR_NOT_LEADER_OR_FOLLOWER);
    lab_free(lab);
}
END_TEST

START_TEST(producers_are_known_to_the_next_leader_and_after_restart)
{
    struct lab *lab = lab_ready();
    lab_produce_as(lab, 1, 7, 0, "a");
    lab_produce_as(lab, 1, 7, 1, "b");
    lab_pump(lab);
    lab_kill(lab, 1, true);
    lab_elect(lab, 2, 23);
    lab_tick(lab, 100);
    struct lab_call *again = lab_produce_as(lab, 2, 7, 1, "b"); /* R28 */
    struct lab_call *gap = lab_produce_as(lab, 2, 7, 3, "d");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(again), ERR_OK);
    ck_assert_int_eq(again->produce.base_offset, 1);
    ck_assert_int_eq(lab_err(gap), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    lab_kill(lab, 2, true);
    lab_kill(lab, 3, true);
    lab_start(lab, 3);
    lab_elect(lab, 3, 3);
    struct lab_call *early = lab_produce_as(lab, 3, 7, 2, "c");
    ck_assert_int_eq(lab_err(early), ERR_LEADER_NOT_AVAILABLE); /* its log is opened by and by */
    lab_pump(lab);
    again = lab_produce_as(lab, 3, 7, 0, "a");
    struct lab_call *next = lab_produce_as(lab, 3, 7, 2, "c");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(again), ERR_OK);
    ck_assert_int_eq(again->produce.base_offset, 0);
    ck_assert_int_eq(next->produce.base_offset, 2);
    ck_assert_str_eq(lab_log_values(lab, 3), "a,b,c");
    lab_free(lab);
}
END_TEST

START_TEST(a_lost_folder_is_not_made_anew_while_it_is_a_member) /* R1 */
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_kill(lab, 2, false);
    lab_kill(lab, 3, false);
    lab_elect(lab, 1, 1);
    lab_kill(lab, 1, false);
    ck_assert_int_eq(sim_disk_lose(lab->nodes[1].disk, "orders-0"), ERR_OK);
    lab_start(lab, 1); /* the last member: it stays one */
    ck_assert(lab_look(lab, 1).failed);
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "b");
    ck_assert_int_eq(lab_err(call), ERR_KAFKA_STORAGE_ERROR);
    lab_start(lab, 2);
    lab_unclean(lab, 2, 2);
    lab_tick(lab, 500);
    ck_assert_uint_eq(lab_isr(lab), 12);
    ck_assert_str_eq(lab_log_values(lab, 1), "a"); /* as a follower, from the leader */
    lab_free(lab);
}
END_TEST

START_TEST(a_full_disk_refuses_and_recovers) /* R16, R19 */
{
    struct lab *lab = lab_ready();
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    sim_disk_fail_write(lab->nodes[1].disk, 1, ERR_NOT_ENOUGH_SPACE);
    struct lab_call *refused = lab_produce(lab, 1, -1, 1, "b");
    ck_assert_int_eq(lab_err(refused), ERR_NOT_ENOUGH_SPACE);
    struct lab_call *after = lab_produce(lab, 1, -1, 1, "c");
    sim_disk_fail_write(lab->nodes[2].disk, 1, ERR_NOT_ENOUGH_SPACE);
    lab_tick(lab, 1000);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_int_eq(lab_err(after), ERR_OK);
    all_logs_are(lab, "a,c");
    lab_free(lab);
}
END_TEST

START_TEST(a_failed_sync_ends_the_replica_and_nothing_was_promised) /* R14, R19 */
{
    struct lab *lab = lab_ready();
    sim_disk_fail_sync(lab->nodes[1].disk, 3); /* the first two settle the folder */
    struct lab_call *last = NULL;
    for (int i = 0; i < 3; i++) {
        last = lab_produce(lab, 1, -1, 1, "a");
        lab_pump(lab);
    }
    ck_assert_int_eq(lab_err(last), ERR_KAFKA_STORAGE_ERROR);
    ck_assert(lab_look(lab, 1).failed);
    ck_assert_uint_ge(lab->nodes[1].replicas_failed, 1);
    struct lab_call *fetch = lab_fetch(lab, 1, 0, 1);
    ck_assert_int_eq(lab_err(fetch), ERR_KAFKA_STORAGE_ERROR);
    lab_free(lab);
}
END_TEST

START_TEST(a_failed_sync_of_any_file_takes_the_whole_directory_offline) /* R14 */
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    sim_disk_fail_sync(lab->nodes[1].disk, 1); /* of its leader epochs, with the checkpoint */
    lab_tick(lab, 6000);
    lab_tick(lab, 100);
    ck_assert(lab_look(lab, 1).failed);
    ck_assert_int_eq(lab->nodes[1].replica_err, ERR_KAFKA_STORAGE_ERROR);
    lab_free(lab);
}
END_TEST

START_TEST(who_can_not_read_its_log_leads_no_more_while_another_can)
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_mute(lab, 2, true);
    lab_mute(lab, 3, true);
    lab_elect(lab, 1, 1); /* nobody else could: what can be read is read on */
    lab_tick(lab, 100);
    ck_assert_int_eq(sim_disk_rot(lab->nodes[1].disk, "orders-0/00000000000000000000.log", 65, 1),
                     ERR_OK);
    ck_assert_int_eq(lab_err(lab_fetch(lab, 1, 0, 1)), ERR_CORRUPT_MESSAGE);
    lab_tick(lab, 100);
    ck_assert(!lab_look(lab, 1).failed);
    lab_elect(lab, 1, 123);
    ck_assert_int_eq(lab_err(lab_fetch(lab, 1, 0, 1)), ERR_CORRUPT_MESSAGE);
    lab_tick(lab, 100);
    ck_assert(lab_look(lab, 1).failed);
    ck_assert_uint_ge(lab->nodes[1].replicas_failed, 1);
    lab_free(lab);
}
END_TEST

START_TEST(segments_roll_under_replication)
{
    struct lab *lab = lab_ready();
    char value[900];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    for (int i = 0; i < 200; i++) {
        struct lab_call *call = lab_produce(lab, 1, -1, 2, value);
        lab_pump(lab);
        ck_assert_int_eq(lab_err(call), ERR_OK);
    }
    lab_kill(lab, 2, true);
    lab_start(lab, 2);
    lab_tick(lab, 500);
    ck_assert_int_eq(lab_look(lab, 2).end, 400);
    ck_assert_str_eq(lab_log_values(lab, 2), lab_log_values(lab, 1));
    lab_free(lab);
}
END_TEST

/* More than a clean stop leaves to be read again. */
static void produce_much(struct lab *lab, node_id_t node, int16_t acks)
{
    char value[900];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    for (int i = 0; i < 400; i++) {
        struct lab_call *call = lab_produce(lab, node, acks, 4, value);
        lab_pump(lab);
        ck_assert_int_eq(lab_err(call), ERR_OK);
    }
}

static bool has_snapshot(struct lab *lab, node_id_t node)
{
    struct env_disk *disk = &lab->nodes[node].view.env;
    env_file file;
    if (disk->open(disk->self, "orders-0/producers.snapshot", 0, &file) != ERR_OK)
        return false;
    disk->close(disk->self, file);
    return true;
}

START_TEST(a_clean_stop_saves_what_is_known_of_producers)
{
    struct lab *lab = lab_ready();
    lab_produce_as(lab, 1, 7, 0, "a");
    produce_much(lab, 1, -1);
    lab_stop(lab, 1);
    lab_stop(lab, 2);
    lab_stop(lab, 3);
    lab_elect(lab, 1, 1);
    lab_start(lab, 1);
    lab_elect(lab, 1, 1);
    lab_pump(lab);
    ck_assert(has_snapshot(lab, 1));
    struct lab_call *again = lab_produce_as(lab, 1, 7, 0, "a");
    struct lab_call *next = lab_produce_as(lab, 1, 7, 1, "b");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(again), ERR_OK);
    ck_assert_int_eq(again->produce.base_offset, 0);
    ck_assert_int_eq(next->produce.base_offset, 1601);
    lab_kill(lab, 1, true); /* what came after the snapshot is read from the log */
    ck_assert_int_eq(sim_disk_rot(lab->nodes[2].disk, "orders-0/producers.snapshot", 30, 1),
                     ERR_OK);
    lab_start(lab, 1);
    lab_elect(lab, 1, 1);
    lab_pump(lab);
    again = lab_produce_as(lab, 1, 7, 1, "b");
    lab_pump(lab);
    ck_assert_int_eq(again->produce.base_offset, 1601);
    lab_start(lab, 2); /* a broken one is of no use, and no harm */
    lab_tick(lab, 500);
    ck_assert(!has_snapshot(lab, 2));
    lab_elect(lab, 2, 12);
    again = lab_produce_as(lab, 2, 7, 1, "b");
    lab_tick(lab, 100);
    ck_assert_int_eq(lab_err(again), ERR_OK);
    ck_assert_int_eq(again->produce.base_offset, 1601);
    lab_free(lab);
}
END_TEST

START_TEST(a_cut_takes_the_snapshot_of_what_it_cut_along)
{
    struct lab *lab = lab_ready();
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_mute(lab, 1, true);
    produce_much(lab, 1, 1);
    lab_stop(lab, 1);
    lab_elect(lab, 2, 23);
    lab_tick(lab, 100);
    lab_produce(lab, 2, -1, 1, "b");
    ck_assert(has_snapshot(lab, 1));
    lab_start(lab, 1);
    lab_tick(lab, 500);
    ck_assert(!has_snapshot(lab, 1));
    all_logs_are(lab, "a,b");
    lab_free(lab);
}
END_TEST

static err_t (*read_of_disk)(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                             size_t *ret_bytes);
static uint64_t bytes_read;

static err_t count_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                        size_t *ret_bytes)
{
    bytes_read += bytes;
    return read_of_disk(self, file, at, into, bytes, ret_bytes);
}

START_TEST(a_cut_below_what_is_known_of_a_producer_does_not_read_the_whole_log)
{
    struct lab *lab = lab_ready();
    for (int i = 0; i < 10; i++)
        lab_produce_as(lab, 1, 7, i, "a");
    produce_much(lab, 1, -1);
    lab_stop(lab, 1);
    lab_elect(lab, 2, 23);
    lab_start(lab, 1);
    lab_tick(lab, 500);
    ck_assert(has_snapshot(lab, 1));
    lab_elect(lab, 1, 123);
    lab_tick(lab, 100);
    lab_mute(lab, 1, true);
    for (int i = 10; i < 20; i++) /* more than are remembered */
        lab_produce_as(lab, 1, 7, i, "b");
    lab_pump(lab);
    ck_assert_int_eq(lab_look(lab, 1).end, 1620);
    lab_elect(lab, 2, 23);
    lab_tick(lab, 100);
    struct env_disk *disk = lab->nodes[1].env.disks;
    read_of_disk = disk->read;
    disk->read = count_read;
    bytes_read = 0;
    lab_mute(lab, 1, false);
    lab_tick(lab, 500);
    disk->read = read_of_disk;
    ck_assert_int_eq(lab_look(lab, 1).end, 1610);
    ck_assert_uint_lt(bytes_read, 500000);
    lab_tick(lab, 1000);
    lab_elect(lab, 1, 123);
    struct lab_call *next = lab_produce_as(lab, 1, 7, 10, "c");
    lab_tick(lab, 100);
    ck_assert_int_eq(lab_err(next), ERR_OK);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("shard/partition_failover", a_killed_leader_is_followed_by_one_that_has_all,
           what_only_the_old_leader_had_is_cut,
           a_follower_that_restarts_keeps_what_lies_above_its_high_watermark,
           logs_that_diverged_twice_become_one,
           below_its_high_watermark_a_replica_stops_rather_than_cuts,
           a_dead_follower_leaves_the_isr_and_comes_back,
           nobody_joins_below_what_the_last_leader_may_have_acknowledged,
           an_alter_without_an_outcome_is_told_again,
           a_restarted_leader_does_not_lead_on_by_an_old_image,
           producers_are_known_to_the_next_leader_and_after_restart,
           a_lost_folder_is_not_made_anew_while_it_is_a_member, a_full_disk_refuses_and_recovers,
           a_failed_sync_ends_the_replica_and_nothing_was_promised,
           a_failed_sync_of_any_file_takes_the_whole_directory_offline,
           who_can_not_read_its_log_leads_no_more_while_another_can,
           segments_roll_under_replication, a_clean_stop_saves_what_is_known_of_producers,
           a_cut_takes_the_snapshot_of_what_it_cut_along,
           a_cut_below_what_is_known_of_a_producer_does_not_read_the_whole_log)
