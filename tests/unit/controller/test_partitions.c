/* AlterPartition: what a leader may do to its ISR (R3, R4). */
#include "unit/controller/lab.h"

#include "lib/check_main.h"

/* Partition of 1, 2, 3, led by 1, with ISR {1, 2}. */
static struct partition_id two_of_three(struct lab *lab)
{
    lab_init(lab, 4);
    struct partition_id id = lab_assigned(lab, "t", 3, 1, 2, 3);
    const struct lab_alter shrink = {.id = id, .isr_count = 2, .isr = {2, 1}};
    ck_assert_int_eq(lab_alter(lab, &shrink)->error, ERR_OK);
    lab_commit(lab);
    return id;
}

START_TEST(a_leader_shrinks_and_grows_its_isr)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e0 p1"); /* no election: the same epoch */
    const Karst__AlterPartitionItemReply *row =
        lab_alter(&lab, &(struct lab_alter){.id = id, .isr_count = 3, .isr = {3, 2, 1}});
    ck_assert_int_eq(row->error, ERR_OK);
    ck_assert_int_eq(row->leader, 1);
    ck_assert_int_eq(row->leader_epoch, 0);
    ck_assert_int_eq(row->partition_epoch, 2);
    ck_assert_uint_eq(row->n_isr, 3);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2,3] e0 p2");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

/* R5: so that a leader can end a proposal of which it never heard. */
START_TEST(the_same_isr_again_ends_what_was_proposed_on_the_old_state)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = id, .isr_count = 2, .isr = {2, 1}};
    const Karst__AlterPartitionItemReply *row = lab_alter(&lab, &alter);
    ck_assert_int_eq(row->error, ERR_OK);
    ck_assert_int_eq(row->partition_epoch, 2);
    ck_assert_uint_eq(row->n_isr, 2);
    lab_commit(&lab);
    alter.partition_epoch_off = -1;
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INVALID_UPDATE_VERSION);
    lab_fini(&lab);
}
END_TEST

START_TEST(of_two_proposals_on_one_state_the_second_is_refused_before_the_first_commits)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = id, .isr_count = 3, .isr = {1, 2, 3}};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_OK);
    alter.isr_count = 1;
    alter.partition_epoch_off = -1;
    const Karst__AlterPartitionItemReply *row = lab_alter(&lab, &alter);
    ck_assert_int_eq(row->error, ERR_INVALID_UPDATE_VERSION);
    ck_assert_int_eq(row->partition_epoch, 2); /* what is, to propose anew on */
    ck_assert_uint_eq(row->n_isr, 3);
    alter.partition_epoch_off = 1;
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INVALID_UPDATE_VERSION);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(only_the_leader_of_this_epoch_proposes)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = id, .from = 2, .isr_count = 2, .isr = {1, 2}};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_NOT_LEADER_OR_FOLLOWER);
    alter.from = 1;
    alter.leader_epoch_off = -1;
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_FENCED_LEADER_EPOCH);
    alter.leader_epoch_off = 1;
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_UNKNOWN_LEADER_EPOCH);
    lab_died(&lab, 1, 0);
    alter.leader_epoch_off = 0;
    const Karst__AlterPartitionItemReply *row = lab_alter(&lab, &alter);
    ck_assert_int_eq(row->error, ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(row->leader, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_leader_of_an_older_life_is_refused_whole)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    (void)id;
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(&lab), 1)->epoch - 1;
    const Karst__AlterPartitionReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->error, ERR_STALE_BROKER_EPOCH);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_isr_is_of_assigned_replicas_each_once_the_leader_among_them)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    const struct lab_alter wrong[] = {
        {.id = id, .isr_count = 0},
        {.id = id, .isr_count = 2, .isr = {1, 4}},
        {.id = id, .isr_count = 2, .isr = {2, 3}},
        {.id = id, .isr_count = 2, .isr = {1, 1}},
        {.id = id, .isr_count = 4, .isr = {1, 2, 3, 4}},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_int_eq(lab_alter(&lab, &wrong[i])->error, ERR_INVALID_REQUEST);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e0 p1");
    lab_fini(&lab);
}
END_TEST

START_TEST(who_joins_is_alive_in_the_life_that_caught_up)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = id, .isr_count = 3, .isr = {1, 2, 3}, .member_epoch_off = -1};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INELIGIBLE_REPLICA);
    alter.member_epoch_off = 1;
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INELIGIBLE_REPLICA);
    alter.member_epoch_off = 0;
    lab_leave(&lab, 3);
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INELIGIBLE_REPLICA);
    lab_died(&lab, 3, 0);
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INELIGIBLE_REPLICA);
    lab_commit(&lab);
    lab_register(&lab, &(struct lab_registration){.node = 3, .life = 1});
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_INELIGIBLE_REPLICA); /* fenced yet */
    lab_commit(&lab);
    lab_heartbeat(&lab, 3);
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_does_not_exist_is_named)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = {lab_id(99), 0}, .from = 1, .isr_count = 1, .isr = {1}};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_UNKNOWN_TOPIC_ID);
    alter.id = (struct partition_id){id.topic, 1};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_recovery_ends_and_never_begins_by_the_leader)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    Karst__IsrMember member = KARST__ISR_MEMBER__INIT, *members = &member;
    member.node_id = 1;
    member.broker_epoch = image_broker(lab_view(&lab), 1)->epoch;
    Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT, *items = &item;
    item.topic_id = (ProtobufCBinaryData){16, id.topic.b};
    item.partition_epoch = 1;
    item.n_isr = 1;
    item.isr = &members;
    item.has_recovery_state = true;
    item.recovery_state = 1;
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = member.broker_epoch;
    request.n_partitions = 1;
    request.partitions = &items;
    const Karst__AlterPartitionReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->partitions[0]->error, ERR_INVALID_REQUEST);
    lab_fini(&lab);
}
END_TEST

START_TEST(nothing_is_decided_by_a_controller_that_lost_its_term)
{
    struct lab lab;
    struct partition_id id = two_of_three(&lab);
    struct lab_alter alter = {.id = id, .from = 1, .isr_count = 1, .isr = {1}};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_OK);
    lab_take_over(&lab); /* the proposal was lost with the term */
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e0 p1");
    lab_commit(&lab);
    controller_deactivate(lab.controller);
    ck_assert(!controller_active(lab.controller));
    ck_assert_ptr_null(lab_view(&lab));
    Karst__AlterPartitionRequest request = KARST__ALTER_PARTITION_REQUEST__INIT;
    const Karst__AlterPartitionReply *reply = lab_ask(&lab, &request.base, 1);
    ck_assert_int_eq(reply->error, ERR_NOT_CONTROLLER);
    lab_tick(&lab, 1000000);
    ck_assert_uint_eq(lab.last.count, 0);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/partitions", a_leader_shrinks_and_grows_its_isr,
           the_same_isr_again_ends_what_was_proposed_on_the_old_state,
           of_two_proposals_on_one_state_the_second_is_refused_before_the_first_commits,
           only_the_leader_of_this_epoch_proposes, a_leader_of_an_older_life_is_refused_whole,
           an_isr_is_of_assigned_replicas_each_once_the_leader_among_them,
           who_joins_is_alive_in_the_life_that_caught_up, what_does_not_exist_is_named,
           a_recovery_ends_and_never_begins_by_the_leader,
           nothing_is_decided_by_a_controller_that_lost_its_term)
