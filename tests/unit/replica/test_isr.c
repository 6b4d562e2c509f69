#include "unit/replica/lab.h"

START_TEST(a_follower_joins_only_at_the_epochs_start) /* R4 */
{
    struct replica_lab *lab = replica_lab_leader(
        &(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 100, .hw = 80, .isr = {1, 3}});
    replica_lab_fetch_from(lab, 2, 85); /* above the known hw, below what may be committed */
    ck_assert_uint_eq(lab->proposals, 0);
    replica_lab_fetch_from(lab, 2, 100);
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 123);
    ck_assert_int_eq(lab->proposal.leader_epoch, 5);
    ck_assert_int_eq(lab->proposal.partition_epoch, lab->partition.partition_epoch);
    ck_assert_int_eq(lab->proposal.isr[1].broker_epoch, 12);
    replica_lab_free(lab);
}
END_TEST

START_TEST(below_min_insync_only_who_has_all_joins) /* R4 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}, .min_insync = 2});
    replica_lab_produce(lab, 1, 10);
    replica_lab_flush(lab);
    replica_lab_fetch_from(lab, 2, 9); /* at the hw, 0, and at the epoch's start, 0 */
    ck_assert_uint_eq(lab->proposals, 0);
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_fenced_broker_is_not_proposed)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    lab->peers[1].active = false;
    replica_lab_image(lab);
    replica_lab_fetch_from(lab, 2, 0);
    ck_assert_uint_eq(lab->proposals, 0);
    lab->peers[1].active = true;
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_proposed_addition_counts_before_it_is_accepted) /* R5 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    replica_lab_fetch_from(lab, 2, 0);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    uint32_t wait = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    ck_assert(!replica_lab_answered(lab, wait)); /* 2 may be a member by now */
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_proposed_removal_still_counts) /* R5 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    uint32_t wait = replica_lab_produce(lab, -1, 5);
    replica_lab_flush(lab);
    replica_lab_tick(lab, 10001);
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 1);
    uint32_t other = replica_lab_produce(lab, -1, 1);
    replica_lab_flush(lab);
    ck_assert(!replica_lab_answered(lab, wait));
    replica_lab_altered(lab, ERR_OK); /* accepted: yet only the image changes the ISR */
    ck_assert(!replica_lab_answered(lab, wait));
    lab->partition.isr_count = 1;
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    ck_assert_int_eq(replica_lab_err(lab, other), ERR_OK);
    ck_assert_uint_eq(lab->replica->isr_shrinks, 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(one_proposal_is_in_flight) /* R5 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    replica_lab_fetch_from(lab, 2, 0);
    replica_lab_fetch_from(lab, 3, 0);
    replica_lab_tick(lab, 1000);
    ck_assert_uint_eq(lab->proposals, 1);
    lab->partition.isr[1] = 2;
    lab->partition.isr_count = 2;
    replica_lab_image(lab); /* faster than the answer */
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_uint_eq(lab->replica->isr_growths, 1);
    replica_lab_altered(lab, ERR_OK);
    replica_lab_tick(lab, 1000);
    ck_assert_uint_eq(lab->proposals, 2);
    ck_assert_int_eq(replica_lab_proposed(lab), 123);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_refusal_ends_the_maximal_isr) /* R5 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    replica_lab_fetch_from(lab, 2, 0);
    replica_lab_append(lab, 5);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    replica_lab_altered(lab, ERR_INELIGIBLE_REPLICA);
    ck_assert_int_eq(replica_lab_hw(lab), 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_unknown_outcome_keeps_the_maximal_isr) /* R5 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    struct replica_event failed = {.type = REPLICA_ALTER_FAILED};
    replica_lab_fetch_from(lab, 2, 0);
    replica_lab_append(lab, 5);
    replica_lab_step(lab, &failed);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    ck_assert(replica_wants_tick(lab->replica));
    replica_lab_tick(lab, 200); /* told again, at the same partition epoch */
    ck_assert_uint_eq(lab->proposals, 2);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_altered(lab, ERR_INELIGIBLE_REPLICA); /* says nothing about the first */
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    replica_lab_tick(lab, 200);
    ck_assert_uint_eq(lab->proposals, 3);
    ck_assert_int_eq(replica_lab_proposed(lab), 1); /* what ends it is a new partition epoch */
    replica_lab_altered(lab, ERR_OK);
    ck_assert_int_eq(replica_lab_hw(lab), 0);
    replica_lab_image(lab);
    ck_assert_int_eq(replica_lab_hw(lab), 5);
    replica_lab_fetch_from(lab, 2, 5); /* and it may be proposed again */
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_addition_of_unknown_outcome_is_not_told_again_for_another_incarnation) /* R4 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    struct replica_event failed = {.type = REPLICA_ALTER_FAILED};
    replica_lab_append(lab, 5);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_step(lab, &failed);
    lab->peers[1].broker_epoch = 50; /* maybe with an empty disk; no ISR knew it */
    lab->partition.partition_epoch--;
    replica_lab_image(lab);
    replica_lab_tick(lab, 200);
    ck_assert_uint_eq(lab->proposals, 2);
    ck_assert_int_eq(replica_lab_proposed(lab), 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_answer_is_never_taken_for_anothers)
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .isr = {1}});
    replica_lab_fetch_from(lab, 2, 0);
    replica_lab_image(lab); /* something else changed the partition */
    replica_lab_append(lab, 5);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_uint_eq(lab->proposals, 1); /* the first's answer is not here */
    replica_lab_altered(lab, ERR_INVALID_UPDATE_VERSION);
    replica_lab_tick(lab, 1);
    ck_assert_uint_eq(lab->proposals, 2);
    ck_assert_int_eq(lab->proposal.partition_epoch, lab->partition.partition_epoch);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_member_that_lost_what_it_acknowledged_is_removed_at_once) /* R5 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    replica_lab_fetch_from(lab, 2, 6);
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 1);
    replica_lab_free(lab);
}
END_TEST

static void full_disk_at(struct replica_lab *lab, node_id_t follower, offset_t end)
{
    replica_lab_fetched(lab, (struct replica_fetched){
                                 .follower = follower,
                                 .broker_epoch = lab->peers[follower - 1].broker_epoch,
                                 .leader_epoch = 5,
                                 .session = 501, /* it was cut after the failed append */
                                 .fetch_offset = end,
                                 .flushed_end = end,
                                 .last_fetched_epoch = 5,
                                 .want = true,
                                 .slow = true,
                             });
}

START_TEST(who_has_a_full_disk_is_not_waited_for) /* R16 */
{
    struct replica_lab *lab = replica_lab_leader(&(struct lab_setup){.epoch = 5, .min_insync = 2});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    replica_lab_fetch_from(lab, 3, 10);
    full_disk_at(lab, 3, 10);
    ck_assert_uint_eq(lab->proposals, 0); /* it lacks nothing yet */
    replica_lab_append(lab, 10);
    full_disk_at(lab, 3, 10);
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 12);
    replica_lab_altered(lab, ERR_OK);
    lab->partition.isr_count = 2;
    replica_lab_image(lab);
    full_disk_at(lab, 3, 10); /* it has all that is committed, and would leave again at once */
    ck_assert_uint_eq(lab->proposals, 1);
    full_disk_at(lab, 2, 10); /* with it there would be too few */
    ck_assert_uint_eq(lab->proposals, 1);
    full_disk_at(lab, 3, 20);
    ck_assert_uint_eq(lab->proposals, 2); /* it had room after all */
    ck_assert_int_eq(replica_lab_proposed(lab), 123);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_follower_a_round_trip_behind_does_not_lag)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    for (int i = 0; i < 30; i++) { /* always one batch behind, for 30 s */
        replica_lab_append(lab, 10);
        replica_lab_fetch_from(lab, 2, lab->log->end - 10);
        replica_lab_tick(lab, 1000);
    }
    ck_assert_uint_eq(lab->proposals, 0);
    for (int i = 0; i < 12; i++) { /* now it stays where it is */
        replica_lab_append(lab, 10);
        replica_lab_tick(lab, 1000);
    }
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(replica_lab_proposed(lab), 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(an_idle_partition_has_no_laggards)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    replica_lab_tick(lab, 3600 * 1000);
    replica_lab_append(lab, 10); /* after an hour: the clock starts now */
    replica_lab_tick(lab, 9000);
    ck_assert_uint_eq(lab->proposals, 0);
    replica_lab_tick(lab, 2000);
    ck_assert_uint_eq(lab->proposals, 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_loop_that_stood_still_blames_nobody)
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    lab->loop_gap = true;
    replica_lab_tick(lab, 60000);
    ck_assert_uint_eq(lab->proposals, 0);
    replica_lab_tick(lab, 10001);
    ck_assert_uint_eq(lab->proposals, 1);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_newer_incarnation_is_a_follower_of_which_nothing_is_known) /* R2 */
{
    struct replica_lab *lab =
        replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
    replica_lab_append(lab, 10);
    replica_lab_fetch_from(lab, 2, 10);
    ck_assert_int_eq(replica_lab_hw(lab), 10);
    lab->partition.isr_count = 1; /* registered anew: out of the ISR in the same entry */
    lab->peers[1].broker_epoch = 50;
    replica_lab_image(lab);
    ck_assert_uint_eq(lab->proposals, 0);
    ck_assert(!lab->replica->followers[1].counted);
    replica_lab_fetched(lab, (struct replica_fetched){
                                 .follower = 2,
                                 .broker_epoch = 50,
                                 .leader_epoch = 5,
                                 .session = 3, /* its sessions begin anew, too */
                                 .fetch_offset = 10,
                                 .flushed_end = 10,
                                 .last_fetched_epoch = 5,
                                 .want = true,
                             });
    ck_assert_uint_eq(lab->proposals, 1);
    ck_assert_int_eq(lab->proposal.isr[1].broker_epoch, 50);
    replica_lab_free(lab);
}
END_TEST

CHECK_MAIN("replica/isr", a_follower_joins_only_at_the_epochs_start,
           below_min_insync_only_who_has_all_joins, a_fenced_broker_is_not_proposed,
           a_proposed_addition_counts_before_it_is_accepted, a_proposed_removal_still_counts,
           one_proposal_is_in_flight, a_refusal_ends_the_maximal_isr,
           an_unknown_outcome_keeps_the_maximal_isr,
           an_addition_of_unknown_outcome_is_not_told_again_for_another_incarnation,
           an_answer_is_never_taken_for_anothers,
           a_member_that_lost_what_it_acknowledged_is_removed_at_once,
           who_has_a_full_disk_is_not_waited_for, a_follower_a_round_trip_behind_does_not_lag,
           an_idle_partition_has_no_laggards, a_loop_that_stood_still_blames_nobody,
           a_newer_incarnation_is_a_follower_of_which_nothing_is_known)
