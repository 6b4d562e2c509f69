#include "unit/replica/lab.h"

static struct replica_delta_row lab_row(struct replica_lab *lab)
{
    struct replica_delta_row row;
    ck_assert(replica_delta_row(lab->replica, false, &row));
    return row;
}

static bool lab_owes(struct replica_lab *lab)
{
    struct replica_delta_row row;
    return replica_delta_row(lab->replica, false, &row);
}

START_TEST(the_first_word_to_a_leader_tells_both_ends_and_the_last_epoch)
{
    struct replica_lab *lab = replica_lab_follower(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .flushed_end = 90, .hw = 50});
    ck_assert_uint_eq(lab->deltas, 1);
    ck_assert_uint_eq(lab->flushes, 1);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_int_eq(row.leader_epoch, 5);
    ck_assert_int_eq(row.fetch_offset, 100);
    ck_assert_int_eq(row.flushed_end, 90);
    ck_assert_int_eq(row.last_fetched_epoch, 4);
    ck_assert(row.want);
    ck_assert(!lab_owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_flush_is_told_without_asking_for_data_again)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    (void)lab_row(lab);
    replica_lab_data(lab, lab_data(lab), 10, 5);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_int_eq(row.fetch_offset, 10); /* ahead of the flush */
    ck_assert_int_eq(row.flushed_end, 0);
    ck_assert(row.want);
    ck_assert_uint_eq(lab->flushes, 1);
    replica_lab_flush(lab);
    row = lab_row(lab);
    ck_assert_int_eq(row.flushed_end, 10);
    ck_assert(!row.want); /* the order stands */
    ck_assert(!lab_owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(hw_is_the_smaller_of_the_leaders_and_the_own_flush) /* R7 */
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_arrived data = lab_data(lab);
    data.high_watermark = 8;
    replica_lab_data(lab, data, 10, 5);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    replica_lab_flush_to(lab, 6);
    ck_assert_int_eq(replica_lab_hw(lab), 6);
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_hw(lab), 8);
    data = lab_data(lab);
    data.high_watermark = 10; /* alone */
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(data_of_another_life_are_not_appended) /* R6 */
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_arrived data = lab_data(lab);
    data.session--;
    replica_lab_data(lab, data, 10, 5);
    data = lab_data(lab);
    data.leader_epoch = 4;
    replica_lab_data(lab, data, 10, 4);
    data = lab_data(lab);
    data.from = 3;
    replica_lab_data(lab, data, 10, 5);
    data = lab_data(lab);
    data.fetch_offset = 3;
    replica_lab_data(lab, data, 10, 5);
    ck_assert_int_eq(lab->log->end, 0);
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_int_eq(lab->log->end, 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_new_leader_begins_a_new_session) /* R6 */
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_arrived old = lab_data(lab);
    lab->partition.leader = 3;
    lab->partition.leader_epoch = 6;
    replica_lab_image(lab);
    ck_assert_uint_gt(lab->replica->session, old.session);
    replica_lab_data(lab, old, 10, 5);
    ck_assert_int_eq(lab->log->end, 0);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_int_eq(row.leader_epoch, 6);
    ck_assert(row.want);
    replica_lab_free(lab);
}
END_TEST

START_TEST(divergence_is_cut_to_the_leaders_end) /* R9 */
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 50});
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 4;
    data.diverging_end = 80;
    (void)lab_row(lab);
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 80);
    ck_assert_uint_eq(lab->replica->truncations, 1);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_int_eq(row.fetch_offset, 80);
    ck_assert_int_eq(row.flushed_end, 80);
    ck_assert_uint_gt(row.session, data.session); /* what was sent to the old end is void */
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 80);
    replica_lab_free(lab);
}
END_TEST

START_TEST(divergence_is_cut_to_the_own_end_of_the_common_epoch) /* R9, KIP-279 */
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 9, .old_epoch = 2, .end = 40, .hw = 30});
    /* epoch 4 of an old leadership of this broker, from 40 on */
    lab->partition.leader = 1;
    lab->partition.leader_epoch = 10;
    replica_lab_image(lab);
    replica_lab_append(lab, 20);
    lab->partition.leader = 2;
    lab->partition.leader_epoch = 11;
    replica_lab_image(lab);
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 8; /* which is not known here: 2 is the largest below */
    data.diverging_end = 55;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 40);
    ck_assert_int_eq(lab_row(lab).last_fetched_epoch, 2); /* and it asks again */
    replica_lab_free(lab);
}
END_TEST

START_TEST(below_the_hw_nothing_is_cut_without_an_unclean_election) /* R9 */
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 90});
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 4;
    data.diverging_end = 80;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 100);
    ck_assert_uint_eq(lab->reports, 1);
    ck_assert(lab->replica->stopped);
    ck_assert(!lab_owes(lab));
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_int_eq(lab->log->end, 100);
    lab->partition.leader_epoch = 6; /* another leader may agree with it */
    replica_lab_image(lab);
    ck_assert(lab_owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_unclean_election_lets_it_cut_below_the_hw) /* R9 */
{
    struct replica_lab *lab = replica_lab_follower(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 90, .last_unclean = 5});
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 4;
    data.diverging_end = 80;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 80);
    ck_assert_int_eq(replica_lab_hw(lab), 80);
    replica_lab_free(lab);
}
END_TEST

START_TEST(out_of_range_starts_where_the_leader_starts)
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 90});
    struct replica_arrived data = lab_data(lab);
    data.err = ERR_OFFSET_OUT_OF_RANGE;
    data.log_start = 500;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_uint_eq(lab->resets, 1);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_int_eq(row.fetch_offset, 500);
    ck_assert_int_eq(row.log_start, 500);
    ck_assert_int_eq(row.last_fetched_epoch, -1);
    ck_assert_int_eq(replica_lab_hw(lab), 500);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_refused_fetch_is_told_again_later)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_arrived data = lab_data(lab);
    (void)lab_row(lab);
    data.err = ERR_UNKNOWN_LEADER_EPOCH;
    replica_lab_data(lab, data, 0, 0);
    ck_assert(!lab_owes(lab));
    ck_assert(replica_wants_tick(lab->replica));
    replica_lab_tick(lab, 50);
    ck_assert(!lab_owes(lab));
    replica_lab_tick(lab, 60);
    ck_assert(lab_row(lab).want);
    ck_assert(!replica_wants_tick(lab->replica));
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_broken_stream_is_told_again_later_in_a_new_session)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_event lost = {.type = REPLICA_STREAM_LOST};
    uint64_t session = lab_row(lab).session;
    replica_lab_step(lab, &lost);
    replica_lab_tick(lab, 110);
    struct replica_delta_row row = lab_row(lab);
    ck_assert_uint_gt(row.session, session);
    ck_assert(row.want);
    replica_lab_free(lab);
}
END_TEST

START_TEST(broken_data_are_fetched_again)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    struct replica_arrived data = lab_data(lab);
    data.broken = true;
    replica_lab_data(lab, data, 10, 5);
    ck_assert_int_eq(lab->log->end, 0);
    replica_lab_tick(lab, 110);
    ck_assert(lab_row(lab).want);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_full_disk_is_tried_again_later)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    (void)lab_row(lab);
    lab->append_err = ERR_NOT_ENOUGH_SPACE;
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_int_eq(lab->log->end, 0);
    ck_assert_uint_eq(lab->truncations, 1); /* mended */
    ck_assert(!lab_owes(lab));
    replica_lab_tick(lab, 110);
    struct replica_delta_row row = lab_row(lab);
    ck_assert(row.want && row.slow); /* R16: nobody is to wait for it */
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_int_eq(lab->log->end, 10);
    ck_assert(!lab_row(lab).slow);
    replica_lab_free(lab);
}
END_TEST

START_TEST(without_a_leader_nothing_is_fetched)
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.leader = -1});
    ck_assert_int_eq(lab->replica->role, REPLICA_FOLLOWER);
    ck_assert(!lab_owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_empty_epoch_of_the_own_past_is_forgotten_and_asked_about)
{
    struct replica_lab *lab = replica_lab_follower(
        &(struct lab_setup){.epoch = 4, .old_epoch = 4, .end = 100, .hw = 100});
    lab->partition.leader = 1;
    lab->partition.leader_epoch = 5;
    replica_lab_image(lab); /* led, and wrote nothing */
    lab->partition.leader = 2;
    lab->partition.leader_epoch = 6;
    replica_lab_image(lab);
    ck_assert_int_eq(lab_row(lab).last_fetched_epoch, 5);
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 4;
    data.diverging_end = 100;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 100);
    ck_assert_int_eq(lab_row(lab).last_fetched_epoch, 4);
    replica_lab_free(lab);
}
END_TEST

CHECK_MAIN("replica/follower", the_first_word_to_a_leader_tells_both_ends_and_the_last_epoch,
           a_flush_is_told_without_asking_for_data_again,
           hw_is_the_smaller_of_the_leaders_and_the_own_flush,
           data_of_another_life_are_not_appended, a_new_leader_begins_a_new_session,
           divergence_is_cut_to_the_leaders_end,
           divergence_is_cut_to_the_own_end_of_the_common_epoch,
           below_the_hw_nothing_is_cut_without_an_unclean_election,
           an_unclean_election_lets_it_cut_below_the_hw,
           out_of_range_starts_where_the_leader_starts, a_refused_fetch_is_told_again_later,
           a_broken_stream_is_told_again_later_in_a_new_session, broken_data_are_fetched_again,
           a_full_disk_is_tried_again_later, without_a_leader_nothing_is_fetched,
           an_empty_epoch_of_the_own_past_is_forgotten_and_asked_about)
