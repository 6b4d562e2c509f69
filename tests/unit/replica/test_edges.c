/* What comes late, twice, from strangers, or at a role that is past; and each answer of the
 * controller. */
#include "unit/replica/lab.h"

static bool owes(struct replica_lab *lab)
{
    struct replica_delta_row row;
    return replica_delta_row(lab->replica, false, &row);
}

static void step(struct replica_lab *lab, enum replica_event_type type)
{
    struct replica_event ev = {.type = type, .flushed_end = lab->replica->flushed_end};
    replica_lab_step(lab, &ev);
}

START_TEST(a_passing_lack_at_a_leader_is_throttled_and_leaves_it_whole)
{
    static const err_t lacks[] = {ERR_FULL, ERR_NO_MEMORY};
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1}});
    for (size_t i = 0; i < ARRAY_LEN(lacks); i++) {
        lab->append_err = lacks[i];
        uint32_t refused = replica_lab_produce(lab, -1, 5);
        ck_assert_int_eq(replica_lab_err(lab, refused), ERR_THROTTLING_QUOTA_EXCEEDED);
        ck_assert_uint_eq(lab->truncations + lab->reports, 0);
    }
    uint32_t after = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    ck_assert_int_eq(replica_lab_err(lab, after), ERR_OK);
    ck_assert_int_eq(lab->waits[after].waiter.base, 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_passing_lack_at_a_follower_is_fetched_again_later)
{
    static const err_t lacks[] = {ERR_FULL, ERR_NO_MEMORY, ERR_INVALID};
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    ck_assert(owes(lab));
    for (size_t i = 0; i < ARRAY_LEN(lacks); i++) {
        lab->append_err = lacks[i];
        replica_lab_data(lab, lab_data(lab), 10, 5);
        ck_assert_int_eq(lab->log->end, 0);
        ck_assert(!owes(lab));
        replica_lab_tick(lab, 10000);
        ck_assert(owes(lab));
    }
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_int_eq(lab->log->end, 10);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_follower_whose_append_fails_stops_and_fetches_no_more) /* R19 */
{
    struct replica_lab *lab = replica_lab_follower(&(struct lab_setup){.epoch = 5});
    ck_assert(owes(lab));
    lab->append_err = ERR_IO;
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_uint_eq(lab->reports, 1);
    replica_lab_data(lab, lab_data(lab), 10, 5);
    step(lab, REPLICA_STREAM_LOST);
    replica_lab_tick(lab, 10000);
    ck_assert(!owes(lab));
    ck_assert_int_eq(lab->log->end, 0);
    /* Another leader changes nothing of that; nor does to lead. */
    lab->partition.leader = 3;
    lab->partition.leader_epoch++;
    replica_lab_image(lab);
    ck_assert(!owes(lab));
    lab->partition.leader = 1;
    lab->partition.leader_epoch++;
    replica_lab_image(lab);
    uint32_t refused = replica_lab_produce(lab, -1, 5);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_KAFKA_STORAGE_ERROR);
    ck_assert(!replica_wants_tick(lab->replica));
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_leader_that_is_deposed_flushes_what_it_had_as_a_follower)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5});
    replica_lab_produce(lab, -1, 5);
    uint32_t flushes = lab->flushes;
    lab->partition.leader = 2;
    lab->partition.leader_epoch = 6;
    replica_lab_image(lab);
    ck_assert_uint_eq(lab->flushes, flushes + 1);
    ck_assert(owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(without_flush_before_ack_a_follower_flushes_at_leisure)
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 5, .no_flush = true});
    (void)owes(lab);
    replica_lab_data(lab, lab_data(lab), 10, 5);
    ck_assert_uint_eq(lab->flushes, 0);
    ck_assert(replica_wants_tick(lab->replica));
    replica_lab_tick(lab, 100);
    ck_assert_uint_eq(lab->flushes, 1);
    replica_lab_flush(lab);
    replica_lab_tick(lab, 100);
    ck_assert_uint_eq(lab->flushes, 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(divergence_below_the_own_start_begins_anew)
{
    struct replica_lab *lab = replica_lab_follower(
        &(struct lab_setup){.epoch = 9, .old_epoch = 7, .end = 20, .hw = 0, .last_unclean = 9});
    (void)owes(lab);
    lab->log->start = 5;
    lab->replica->log_start = 5;
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 3; /* all that is here is of later ones */
    data.diverging_end = 2;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_uint_eq(lab->resets, 1);
    ck_assert_int_eq(lab->log->end, 2);
    replica_lab_free(lab);
}
END_TEST

START_TEST(divergence_above_the_own_end_cuts_nothing)
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 9, .old_epoch = 7, .end = 20, .hw = 5});
    (void)owes(lab);
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = -1;
    data.diverging_end = 50;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, 20);
    ck_assert_uint_eq(lab->replica->truncations, 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(out_of_range_at_a_leader_that_has_it_is_asked_again_later)
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 9, .old_epoch = 7, .end = 20});
    (void)owes(lab);
    struct replica_arrived data = lab_data(lab);
    data.err = ERR_OFFSET_OUT_OF_RANGE;
    data.log_start = 10;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_uint_eq(lab->resets, 0);
    ck_assert(!owes(lab));
    replica_lab_tick(lab, 10000);
    ck_assert(owes(lab));
    replica_lab_free(lab);
}
END_TEST

START_TEST(what_is_said_to_no_role_changes_nothing)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 10, .hw = 3});
    struct replica_event gone = {.type = REPLICA_LEADERSHIP};
    replica_lab_step(lab, &gone); /* no replica of it any more */
    ck_assert_int_eq(lab->replica->role, REPLICA_IDLE);
    step(lab, REPLICA_FLUSHED);
    step(lab, REPLICA_TICK);
    step(lab, REPLICA_STREAM_LOST);
    step(lab, REPLICA_ALTERED);
    step(lab, REPLICA_ALTER_FAILED);
    ck_assert_uint_eq(replica_owed(lab->replica), 0);
    ck_assert(!replica_wants_tick(lab->replica));
    ck_assert(!owes(lab));
    struct replica_answer answer;
    ck_assert(!replica_answer(lab->replica, 0, &answer));
    uint32_t refused = replica_lab_produce(lab, -1, 1);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_NOT_LEADER_OR_FOLLOWER);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_older_image_says_nothing_new)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5});
    lab->partition.leader = 2;
    lab->partition.leader_epoch = 4;
    replica_lab_image(lab);
    ck_assert_int_eq(lab->replica->role, REPLICA_LEADER);
    lab->partition.leader_epoch = 5;
    lab->partition.partition_epoch = -5; /* raised by one */
    replica_lab_image(lab);
    ck_assert_int_eq(lab->replica->role, REPLICA_LEADER);
    replica_lab_free(lab);
}
END_TEST

START_TEST(strangers_and_nonsense_move_no_leader)
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 10, .hw = 3, .isr = {1, 2}});
    replica_lab_fetched(lab, (struct replica_fetched){.follower = 9,
                                                      .leader_epoch = 5,
                                                      .session = 1,
                                                      .fetch_offset = 10,
                                                      .flushed_end = 10,
                                                      .last_fetched_epoch = 5});
    replica_lab_fetched(lab, (struct replica_fetched){.follower = 2,
                                                      .broker_epoch = 12,
                                                      .leader_epoch = 5,
                                                      .session = 1,
                                                      .fetch_offset = -1,
                                                      .flushed_end = 10,
                                                      .last_fetched_epoch = 5});
    ck_assert_int_eq(replica_lab_hw(lab), 3);
    struct replica_event forget = {.type = REPLICA_FORGET, .follower = 9};
    replica_lab_step(lab, &forget);
    forget.follower = 1; /* this one is no follower of itself */
    replica_lab_step(lab, &forget);
    struct replica_answer answer;
    ck_assert(!replica_answer(lab->replica, 99, &answer));
    ck_assert(!replica_answer(lab->replica, replica_lab_place(lab, 1), &answer));
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_follower_below_the_start_of_the_log_is_told_so)
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 10, .hw = 10, .isr = {1}});
    lab->log->start = 4;
    lab->replica->log_start = 4;
    replica_lab_fetched(lab, (struct replica_fetched){.follower = 2,
                                                      .broker_epoch = 12,
                                                      .leader_epoch = 5,
                                                      .session = 1,
                                                      .fetch_offset = 2,
                                                      .last_fetched_epoch = 4,
                                                      .want = true});
    struct replica_answer answer;
    ck_assert(replica_answer(lab->replica, replica_lab_place(lab, 2), &answer));
    ck_assert_int_eq(answer.err, ERR_OFFSET_OUT_OF_RANGE);
    offset_t limit;
    ck_assert_int_eq(replica_check_fetch(lab->replica, 3, true, &limit), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(replica_check_fetch(lab->replica, 11, true, &limit), ERR_OFFSET_OUT_OF_RANGE);
    ck_assert_int_eq(replica_check_fetch(lab->replica, 4, true, &limit), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_follower_that_stops_is_forgotten_until_it_fetches_again)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1, 2}, .replicas = {1, 2}});
    replica_lab_fetch_from(lab, 2, 0);
    uint64_t session = lab->replica->followers[replica_lab_place(lab, 2)].session;
    replica_lab_fetched(lab, (struct replica_fetched){.follower = 2,
                                                      .broker_epoch = 12,
                                                      .leader_epoch = 5,
                                                      .session = session,
                                                      .stop = true});
    replica_lab_append(lab, 5);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    ck_assert_uint_eq(replica_owed(lab->replica), 0);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_hw(lab), 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(nothing_but_legal_produce_is_taken)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5});
    uint32_t low = replica_lab_produce(lab, -2, 1);
    ck_assert_int_eq(replica_lab_err(lab, low), ERR_INVALID_REQUIRED_ACKS);
    uint32_t none = replica_lab_produce_batches(lab, NULL, 0, -1);
    ck_assert_int_eq(replica_lab_err(lab, none), ERR_INVALID_REQUEST);
    struct batch_info bad = lab_batch(7, -1, 0, 1);
    uint32_t epochless = replica_lab_produce_batches(lab, &bad, 1, -1);
    ck_assert_int_eq(replica_lab_err(lab, epochless), ERR_INVALID_RECORD);
    bad = lab_batch(7, 0, -1, 1);
    uint32_t unnumbered = replica_lab_produce_batches(lab, &bad, 1, -1);
    ck_assert_int_eq(replica_lab_err(lab, unnumbered), ERR_INVALID_RECORD);
    ck_assert_int_eq(lab->log->end, 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_request_half_new_and_half_told_before_is_refused)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5});
    replica_lab_produce_as(lab, 7, 0, 0, 2);
    replica_lab_produce_as(lab, 8, 0, 0, 2); /* between those two of 7 */
    replica_lab_produce_as(lab, 7, 0, 2, 2);
    struct batch_info mixed[] = {lab_batch(7, 0, 2, 2), lab_batch(7, 0, 4, 2)};
    uint32_t wait = replica_lab_produce_batches(lab, mixed, 2, -1);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_DUPLICATE_SEQUENCE_NUMBER);
    struct batch_info apart[] = {lab_batch(7, 0, 0, 2), lab_batch(7, 0, 2, 2)};
    wait = replica_lab_produce_batches(lab, apart, 2, -1);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_DUPLICATE_SEQUENCE_NUMBER);
    ck_assert_int_eq(lab->log->end, 6);
    replica_lab_free(lab);
}
END_TEST

START_TEST(each_refusal_of_the_controller_ends_the_proposal) /* R5 */
{
    static const err_t refusals[] = {
        ERR_INELIGIBLE_REPLICA, ERR_FENCED_LEADER_EPOCH,        ERR_NOT_LEADER_OR_FOLLOWER,
        ERR_NEW_LEADER_ELECTED, ERR_UNKNOWN_TOPIC_OR_PARTITION, ERR_UNKNOWN_TOPIC_ID,
        ERR_INVALID_REQUEST,    ERR_STALE_BROKER_EPOCH,         ERR_NOT_CONTROLLER,
        ERR_POLICY_VIOLATION,   ERR_INVALID_UPDATE_VERSION};
    for (size_t i = 0; i < ARRAY_LEN(refusals); i++) {
        struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
        replica_lab_fetch_from(lab, 2, 0);
        replica_lab_append(lab, 5);
        ck_assert_int_eq(replica_lab_hw(lab), 0);
        replica_lab_altered(lab, refusals[i]);
        ck_assert_int_eq(replica_lab_hw(lab), 5);
        replica_lab_free(lab);
    }
}
END_TEST

START_TEST(an_answer_that_is_no_refusal_leaves_the_outcome_open) /* R5 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    replica_lab_fetch_from(lab, 2, 0);
    replica_lab_append(lab, 5);
    replica_lab_altered(lab, ERR_REQUEST_TIMED_OUT);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    replica_lab_tick(lab, 200);
    /* The version is not what it was: maybe by that attempt. The image tells. */
    replica_lab_altered(lab, ERR_INVALID_UPDATE_VERSION);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    uint32_t proposals = lab->proposals;
    replica_lab_tick(lab, 10000);
    ck_assert_uint_eq(lab->proposals, proposals);
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_hw(lab), 5);
    replica_lab_free(lab);
}
END_TEST

CHECK_MAIN("replica/edges", a_passing_lack_at_a_leader_is_throttled_and_leaves_it_whole,
           a_passing_lack_at_a_follower_is_fetched_again_later,
           a_follower_whose_append_fails_stops_and_fetches_no_more,
           a_leader_that_is_deposed_flushes_what_it_had_as_a_follower,
           without_flush_before_ack_a_follower_flushes_at_leisure,
           divergence_below_the_own_start_begins_anew, divergence_above_the_own_end_cuts_nothing,
           out_of_range_at_a_leader_that_has_it_is_asked_again_later,
           what_is_said_to_no_role_changes_nothing, an_older_image_says_nothing_new,
           strangers_and_nonsense_move_no_leader, a_follower_below_the_start_of_the_log_is_told_so,
           a_follower_that_stops_is_forgotten_until_it_fetches_again,
           nothing_but_legal_produce_is_taken, a_request_half_new_and_half_told_before_is_refused,
           each_refusal_of_the_controller_ends_the_proposal,
           an_answer_that_is_no_refusal_leaves_the_outcome_open)
