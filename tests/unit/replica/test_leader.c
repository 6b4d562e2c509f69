#include "unit/replica/lab.h"

START_TEST(hw_waits_for_the_slowest_isr_member)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 0); /* replica 3 has nothing yet */
    replica_lab_fetch_from(lab, 3, 7);
    ck_assert_int_eq(replica_lab_hw(lab), 7);
    replica_lab_fetch_from(lab, 3, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(hw_waits_for_the_own_flush)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    uint32_t wait = replica_lab_produce(lab, -1, 10);
    replica_lab_fetch_from(lab, 2, 10);
    replica_lab_fetch_from(lab, 3, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    ck_assert(!replica_lab_answered(lab, wait));
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    ck_assert_int_eq(lab->waits[wait].waiter.base, 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_followers_unflushed_bytes_do_not_count)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 3, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    struct replica_fetched fetched = {
        .follower = 2,
        .broker_epoch = 12,
        .leader_epoch = 3,
        .session = 9,
        .fetch_offset = 10,
        .flushed_end = 4,
        .last_fetched_epoch = 3,
        .want = true,
    };
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 4);
    fetched.flushed_end = 10;
    fetched.want = false;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(without_flush_before_ack_written_ends_count)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 3, .replicas = {1, 2}, .no_flush = true});
    uint32_t all = replica_lab_produce(lab, -1, 10);
    uint32_t one = replica_lab_produce(lab, 1, 1);
    ck_assert_int_eq(replica_lab_err(lab, one), ERR_OK);
    struct replica_fetched fetched = {
        .follower = 2,
        .broker_epoch = 12,
        .leader_epoch = 3,
        .session = 9,
        .fetch_offset = 10,
        .flushed_end = 0,
        .last_fetched_epoch = 3,
    };
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    ck_assert_int_eq(replica_lab_err(lab, all), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(acks_one_waits_for_the_leaders_flush_only)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    uint32_t wait = replica_lab_produce(lab, 1, 5);
    ck_assert(!replica_lab_answered(lab, wait));
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    uint32_t none = replica_lab_produce(lab, 0, 5);
    ck_assert_int_eq(replica_lab_err(lab, none), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(waiters_are_answered_in_the_order_of_offsets)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 3, .replicas = {1, 2}});
    uint32_t first = replica_lab_produce(lab, -1, 5);
    uint32_t second = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, first), ERR_OK);
    ck_assert(!replica_lab_answered(lab, second));
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert_int_eq(replica_lab_err(lab, second), ERR_OK);
    ck_assert_int_eq(lab->waits[second].waiter.base, 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(acks_all_is_refused_below_min_insync) /* R5 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 3, .isr = {1}, .min_insync = 2});
    uint32_t all = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, all), ERR_NOT_ENOUGH_REPLICAS);
    uint32_t one = replica_lab_produce(lab, 1, 5);
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, one), ERR_OK);
    ck_assert_int_eq(replica_lab_hw(lab), 0); /* R5: nor does it move */
    replica_lab_free(lab);
}
END_TEST

START_TEST(min_insync_never_asks_for_more_than_there_are_replicas)
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 3, .replicas = {1}, .isr = {1}, .min_insync = 2});
    uint32_t all = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, all), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_isr_fallen_below_min_keeps_acks_all_waiting)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 3, .replicas = {1, 2}, .min_insync = 2});
    uint32_t wait = replica_lab_produce(lab, -1, 5);
    lab->partition.isr_count = 1;
    replica_lab_image(lab);
    replica_lab_flush(lab);
    ck_assert(!replica_lab_answered(lab, wait));
    ck_assert_int_eq(replica_timeout(lab->replica), ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND);
    lab->partition.isr_count = 2;
    replica_lab_fetch_from(lab, 2, 5);
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    ck_assert_int_eq(replica_timeout(lab->replica), ERR_REQUEST_TIMED_OUT);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_deposed_leader_fails_its_waiters)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    uint32_t all = replica_lab_produce(lab, -1, 5);
    uint32_t one = replica_lab_produce(lab, 1, 5);
    lab->partition.leader = 2;
    lab->partition.leader_epoch = 4;
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_err(lab, all), ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(replica_lab_err(lab, one), ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(lab->replica->role, REPLICA_FOLLOWER);
    ck_assert_int_eq(lab->replica->leader, 2);
    ck_assert_int_eq(lab->replica->leader_epoch, 4);
    uint32_t late = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, late), ERR_NOT_LEADER_OR_FOLLOWER);
    replica_lab_free(lab);
}
END_TEST

START_TEST(without_a_lease_nothing_is_promised) /* R10 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    offset_t offset;
    uint32_t before = replica_lab_produce(lab, 1, 5);
    lab->lease_valid = false;
    uint32_t after = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, after), ERR_NOT_LEADER_OR_FOLLOWER);
    replica_lab_flush(lab); /* the lease is read again at the answer */
    ck_assert_int_eq(replica_lab_err(lab, before), ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(replica_check_fetch(lab->replica, 0, false, &offset),
                     ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(replica_check_latest(lab->replica, false, &offset),
                     ERR_NOT_LEADER_OR_FOLLOWER);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_new_leader_begins_at_its_own_hw_and_below_its_flush)
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .flushed_end = 70, .hw = 80});
    ck_assert_int_eq(replica_lab_hw(lab), 70);
    ck_assert_uint_eq(lab->flushes, 1);
    ck_assert_int_eq(lab->log->epochs[lab->log->epoch_count - 1].epoch, 5);
    ck_assert_int_eq(lab->log->epochs[lab->log->epoch_count - 1].start, 100);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_new_leader_knows_no_follower) /* R11 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 3});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    replica_lab_fetch_from(lab, 3, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    lab->partition.leader_epoch = 4; /* elected again */
    replica_lab_image(lab);
    replica_lab_append(lab, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_fetch_from(lab, 2, 20);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_fetch_from(lab, 3, 20);
    ck_assert_int_eq(replica_lab_hw(lab), 20);
    replica_lab_free(lab);
}
END_TEST

START_TEST(latest_is_not_told_before_the_epochs_start_is_committed) /* R11, KIP-207 */
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 80, .replicas = {1, 2}});
    offset_t offset;
    ck_assert_int_eq(replica_check_latest(lab->replica, true, &offset), ERR_OFFSET_NOT_AVAILABLE);
    ck_assert_int_eq(replica_check_fetch(lab->replica, 90, true, &offset), ERR_OK);
    ck_assert_int_eq(offset, 80); /* it waits */
    ck_assert_int_eq(replica_check_fetch(lab->replica, 101, true, &offset),
                     ERR_OFFSET_OUT_OF_RANGE);
    replica_lab_fetch_from(lab, 2, 100);
    ck_assert_int_eq(replica_check_latest(lab->replica, true, &offset), ERR_OK);
    ck_assert_int_eq(offset, 100);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_followers_history_is_checked_before_it_counts) /* R5, R9 */
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 2, .end = 100, .hw = 80, .replicas = {1, 2}});
    struct replica_answer answer;
    struct replica_fetched fetched = {
        .follower = 2,
        .broker_epoch = 12,
        .leader_epoch = 5,
        .session = 9,
        .fetch_offset = 110,
        .flushed_end = 110,
        .last_fetched_epoch = 4, /* ours goes from 2 to 5 */
        .want = true,
    };
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 80);
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert_int_eq(answer.diverging_epoch, 2);
    ck_assert_int_eq(answer.diverging_end, 100);
    ck_assert(!answer.read);
    replica_answered(lab->replica, 1, false);
    ck_assert(!replica_answer(lab->replica, 1, &answer));

    fetched.session = 10;
    fetched.fetch_offset = fetched.flushed_end = 95;
    fetched.last_fetched_epoch = 2;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 95);
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert(answer.read);
    ck_assert_int_eq(answer.fetch_offset, 95);
    ck_assert_uint_eq(answer.session, 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(too_much_of_the_same_epoch_diverges)
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 80, .replicas = {1, 2}});
    struct replica_answer answer;
    replica_lab_append(lab, 50); /* epoch 4 ends at 100 here */
    replica_lab_fetched(lab, (struct replica_fetched){
                                 .follower = 2,
                                 .broker_epoch = 12,
                                 .leader_epoch = 5,
                                 .session = 9,
                                 .fetch_offset = 120,
                                 .flushed_end = 120,
                                 .last_fetched_epoch = 4,
                                 .want = true,
                             });
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert_int_eq(answer.diverging_epoch, 4);
    ck_assert_int_eq(answer.diverging_end, 100);
    ck_assert_int_eq(replica_lab_hw(lab), 80);
    replica_lab_free(lab);
}
END_TEST

START_TEST(deltas_of_other_epochs_and_lives_are_dropped) /* R2, R6 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    struct replica_fetched fetched = {
        .follower = 2,
        .broker_epoch = 12,
        .leader_epoch = 4,
        .session = 9,
        .fetch_offset = 10,
        .flushed_end = 10,
        .last_fetched_epoch = 5,
    };
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    fetched.leader_epoch = 5;
    fetched.broker_epoch = 11;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    fetched.broker_epoch = 12;
    fetched.follower = 7;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    fetched.follower = 2;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_append(lab, 10);
    fetched.session = 8; /* an older stream, by a slower way */
    fetched.fetch_offset = fetched.flushed_end = 20;
    replica_lab_fetched(lab, fetched);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_order_is_sent_once_and_stays_until_it_is)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    struct replica_answer answer;
    replica_lab_fetch_from(lab, 2, 0);
    ck_assert(!replica_answer(lab->replica, 1, &answer)); /* nothing to send */
    replica_lab_append(lab, 10);
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert(answer.read);
    ck_assert(replica_answer(lab->replica, 1, &answer)); /* asking does not send */
    replica_answered(lab->replica, 1, true);
    replica_lab_append(lab, 10);
    ck_assert(!replica_answer(lab->replica, 1, &answer)); /* not before it asks again */
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert_int_eq(answer.fetch_offset, 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(the_hw_is_told_alone_when_no_data_takes_it_along)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    struct replica_answer answer;
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert(!replica_answer(lab->replica, 1, &answer));
    replica_lab_tick(lab, 20);
    ck_assert(replica_answer(lab->replica, 1, &answer));
    ck_assert(!answer.read);
    ck_assert_int_eq(answer.high_watermark, 10);
    replica_answered(lab->replica, 1, false);
    replica_lab_tick(lab, 20);
    ck_assert(!replica_answer(lab->replica, 1, &answer));
    ck_assert(!replica_wants_tick(lab->replica)); /* idle partitions cost nothing */
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_full_disk_fails_one_append_and_is_mended) /* R19, R16 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1}});
    uint32_t first = replica_lab_produce(lab, -1, 5);
    lab->append_err = ERR_NOT_ENOUGH_SPACE;
    uint32_t refused = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_NOT_ENOUGH_SPACE);
    ck_assert_uint_eq(lab->truncations, 1);
    ck_assert_int_eq(lab->log->end, 5);
    ck_assert(!replica_lab_answered(lab, first));
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, first), ERR_OK);
    uint32_t after = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, after), ERR_OK);
    ck_assert_int_eq(lab->waits[after].waiter.base, 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_broken_disk_fails_all_waiters_and_ends_the_replica) /* R19 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1}});
    uint32_t first = replica_lab_produce(lab, -1, 5);
    lab->append_err = ERR_IO;
    uint32_t refused = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_IO);
    ck_assert_int_eq(replica_lab_err(lab, first), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_uint_eq(lab->reports, 1);
    uint32_t after = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, after), ERR_KAFKA_STORAGE_ERROR);
    replica_lab_free(lab);
}
END_TEST

START_TEST(waiters_are_bounded)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.waiters_max = 2});
    replica_lab_produce(lab, -1, 1);
    replica_lab_produce(lab, 1, 1);
    uint32_t third = replica_lab_produce(lab, -1, 1);
    ck_assert_int_eq(replica_lab_err(lab, third), ERR_THROTTLING_QUOTA_EXCEEDED);
    ck_assert_int_eq(lab->log->end, 2);
    uint32_t illegal = replica_lab_produce(lab, 2, 1);
    ck_assert_int_eq(replica_lab_err(lab, illegal), ERR_INVALID_REQUIRED_ACKS);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_canceled_waiter_comes_back_once)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){0});
    uint32_t wait = replica_lab_produce(lab, -1, 1);
    struct replica_event ev = {.type = REPLICA_CANCEL, .err = ERR_CANCELED};
    ev.waiter = &lab->waits[wait].waiter;
    replica_lab_step(lab, &ev);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_CANCELED);
    replica_lab_step(lab, &ev);
    ck_assert_uint_eq(lab->replica->waiter_count, 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_full_disk_does_not_make_a_leader_forget_its_epoch) /* R9, R19 */
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 3, .end = 10, .hw = 10, .isr = {1, 3}});
    lab->append_err = ERR_NOT_ENOUGH_SPACE;
    replica_lab_produce(lab, -1, 1);
    /* What 2 took from a leader of epoch 4 is nobody else's. */
    replica_lab_fetched(lab, (struct replica_fetched){
                                 .follower = 2,
                                 .broker_epoch = 12,
                                 .leader_epoch = 5,
                                 .session = 1,
                                 .fetch_offset = 11,
                                 .flushed_end = 11,
                                 .last_fetched_epoch = 4,
                                 .want = true,
                             });
    struct replica_answer answer;
    ck_assert(replica_answer(lab->replica, replica_lab_place(lab, 2), &answer));
    ck_assert_int_eq(answer.err, ERR_OK);
    ck_assert_int_eq(answer.diverging_epoch, 3);
    ck_assert_int_eq(answer.diverging_end, 10);
    replica_lab_free(lab);
}
END_TEST

CHECK_MAIN(
    "replica/leader", hw_waits_for_the_slowest_isr_member, hw_waits_for_the_own_flush,
    a_followers_unflushed_bytes_do_not_count, without_flush_before_ack_written_ends_count,
    acks_one_waits_for_the_leaders_flush_only, waiters_are_answered_in_the_order_of_offsets,
    acks_all_is_refused_below_min_insync, min_insync_never_asks_for_more_than_there_are_replicas,
    an_isr_fallen_below_min_keeps_acks_all_waiting, a_deposed_leader_fails_its_waiters,
    without_a_lease_nothing_is_promised, a_new_leader_begins_at_its_own_hw_and_below_its_flush,
    a_new_leader_knows_no_follower, latest_is_not_told_before_the_epochs_start_is_committed,
    a_followers_history_is_checked_before_it_counts, too_much_of_the_same_epoch_diverges,
    deltas_of_other_epochs_and_lives_are_dropped, an_order_is_sent_once_and_stays_until_it_is,
    the_hw_is_told_alone_when_no_data_takes_it_along, a_full_disk_fails_one_append_and_is_mended,
    a_broken_disk_fails_all_waiters_and_ends_the_replica, waiters_are_bounded,
    a_canceled_waiter_comes_back_once, a_full_disk_does_not_make_a_leader_forget_its_epoch)
