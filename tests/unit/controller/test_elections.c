#include "unit/controller/lab.h"

#include "lib/check_main.h"

static err_t elect(struct lab *lab, const struct partition_id *id, bool unclean)
{
    Karst__ElectPartition partition = KARST__ELECT_PARTITION__INIT, *rows = &partition;
    partition.topic_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)id->topic.b};
    partition.index = id->index;
    Karst__ElectLeadersRequest request = KARST__ELECT_LEADERS_REQUEST__INIT;
    request.unclean = unclean;
    request.n_partitions = 1;
    request.partitions = &rows;
    const Karst__ElectLeadersReply *reply = lab_ask(lab, &request.base, NO_NODE);
    ck_assert_int_eq(reply->error, ERR_OK);
    ck_assert(reply->partitions[0]->error == ERR_OK || reply->partitions[0]->message != NULL);
    return reply->partitions[0]->error;
}

static void shrink_to(struct lab *lab, const struct partition_id *id, node_id_t node)
{
    const struct lab_alter alter = {.id = *id, .isr_count = 1, .isr = {node}};
    ck_assert_int_eq(lab_alter(lab, &alter)->error, ERR_OK);
    lab_commit(lab);
}

START_TEST(the_next_leader_is_the_first_active_isr_member_in_replica_order)
{
    struct lab lab;
    lab_init(&lab, 4);
    struct partition_id id = lab_assigned(&lab, "t", 4, 3, 1, 4, 2);
    const struct lab_alter alter = {.id = id, .isr_count = 3, .isr = {2, 3, 4}};
    ck_assert_int_eq(lab_alter(&lab, &alter)->error, ERR_OK);
    lab_died(&lab, 3, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "4 [4,2] e1 p2"); /* 1 is not in sync */
    lab_died(&lab, 4, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e2 p3");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_last_isr_member_stays_and_leads_again_in_a_higher_epoch)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    shrink_to(&lab, &id, 1);
    lab_died(&lab, 1, 0);
    lab_commit(&lab);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [1] e1 p2"); /* 2 lives, but lacks records */
    lab_run(&lab, 20000, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [1] e1 p2");
    lab_join(&lab, 1, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e2 p3");
    lab_fini(&lab);
}
END_TEST

START_TEST(a_broker_that_is_fenced_or_leaves_is_not_elected)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    lab_leave(&lab, 2);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,3] e0 p1");
    lab_leave(&lab, 3);
    lab_died(&lab, 1, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [1] e1 p3");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_preferred_leader_leads_again_when_it_is_up_and_in_sync_for_long_enough)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    lab_run(&lab, 60000, 0); /* a long life before */
    lab_died(&lab, 1, 0);
    lab_commit(&lab);
    lab_join(&lab, 1, 1);
    lab_run(&lab, 10000, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e1 p1"); /* up, not in sync */
    const struct lab_alter grow = {.id = id, .isr_count = 2, .isr = {1, 2}};
    ck_assert_int_eq(lab_alter(&lab, &grow)->error, ERR_OK);
    lab_commit(&lab);
    lab_run(&lab, LAB_PREFERRED_MS - 400, 0);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 2);
    lab_run(&lab, 1000, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e2 p3");
    lab_fini(&lab);
}
END_TEST

START_TEST(a_preferred_leader_that_flaps_waits_longer_each_time)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    uint64_t waits[3];
    for (int life = 1; life <= 3; life++) {
        lab_died(&lab, 1, life - 1);
        lab_commit(&lab);
        lab_join(&lab, 1, life);
        const struct lab_alter grow = {.id = id, .isr_count = 2, .isr = {1, 2}};
        ck_assert_int_eq(lab_alter(&lab, &grow)->error, ERR_OK);
        lab_commit(&lab);
        uint64_t *wait = &waits[life - 1];
        for (*wait = 0; lab_partition(&lab, &id)->leader != 1; *wait += 200)
            lab_run(&lab, 200, 0);
    }
    ck_assert_uint_ge(waits[1], waits[0] + LAB_PREFERRED_MS);
    ck_assert_uint_ge(waits[2], waits[1] + 2 * LAB_PREFERRED_MS);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_unclean_election_needs_the_topics_permission_and_is_remembered)
{
    struct lab lab;
    lab_init(&lab, 3);
    ck_assert_int_eq(
        lab_create(&lab, "lossy", 1, 2, "unclean.leader.election.enable", "true", NULL)->error,
        ERR_OK);
    lab_commit(&lab);
    struct partition_id id = lab_id_of(&lab, "lossy", 0);
    node_id_t leader = lab_partition(&lab, &id)->replicas[0];
    node_id_t other = lab_partition(&lab, &id)->replicas[1];
    shrink_to(&lab, &id, leader);
    lab_died(&lab, leader, 0);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE); /* a quick restart loses nothing */
    lab_run(&lab, LAB_SESSION_MS - 400, leader);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    lab_run(&lab, 1000, leader);
    const struct image_partition *p = lab_partition(&lab, &id);
    ck_assert_int_eq(p->leader, other);
    ck_assert_int_eq(p->isr_count, 1);
    ck_assert_int_eq(p->isr[0], other);
    ck_assert_int_eq(p->last_unclean_leader_epoch, p->leader_epoch);
    ck_assert_int_eq(p->recovery_state, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_person_orders_an_unclean_election)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    ck_assert_int_eq(elect(&lab, &id, true), ERR_ELECTION_NOT_NEEDED);
    shrink_to(&lab, &id, 1);
    lab_died(&lab, 1, 0);
    ck_assert_int_eq(elect(&lab, &id, true), ERR_OK);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e2 p3");
    ck_assert_int_eq(lab_partition(&lab, &id)->last_unclean_leader_epoch, 2);
    lab_died(&lab, 2, 0);
    ck_assert_int_eq(elect(&lab, &id, true), ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_lost_last_replica_begins_anew_only_by_order)
{
    struct lab lab;
    lab_init(&lab, 1);
    struct partition_id id = lab_assigned(&lab, "t", 1, 1);
    lab_register(&lab,
                 &(struct lab_registration){.node = 1, .life = 1, .lost = &id, .lost_count = 1});
    lab_commit(&lab);
    lab_heartbeat(&lab, 1);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    ck_assert_int_eq(elect(&lab, &id, false), ERR_PREFERRED_LEADER_NOT_AVAILABLE);
    ck_assert_int_eq(elect(&lab, &id, true), ERR_OK);
    const struct image_partition *p = lab_partition(&lab, &id);
    ck_assert_int_eq(p->leader, 1);
    ck_assert_int_eq(p->last_unclean_leader_epoch, p->leader_epoch);
    lab_commit(&lab);
    lab_join(&lab, 1, 2); /* and is a replica as any other from then on */
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_preferred_election_is_asked_for)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    ck_assert_int_eq(elect(&lab, &id, false), ERR_ELECTION_NOT_NEEDED);
    lab_died(&lab, 1, 0);
    lab_commit(&lab);
    ck_assert_int_eq(elect(&lab, &id, false), ERR_PREFERRED_LEADER_NOT_AVAILABLE);
    lab_join(&lab, 1, 1);
    const struct lab_alter grow = {.id = id, .isr_count = 2, .isr = {1, 2}};
    ck_assert_int_eq(lab_alter(&lab, &grow)->error, ERR_OK);
    ck_assert_int_eq(elect(&lab, &id, false), ERR_OK);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e2 p3");
    struct partition_id nowhere = {lab_id(99), 0}, beyond = {id.topic, 1};
    ck_assert_int_eq(elect(&lab, &nowhere, false), ERR_UNKNOWN_TOPIC_ID);
    ck_assert_int_eq(elect(&lab, &beyond, true), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_controller_finishes_the_fencing_that_the_last_one_began)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    /* The last one's entry with the partitions was never committed. */
    Karst__BrokerChangeRecord fence = KARST__BROKER_CHANGE_RECORD__INIT;
    fence.node_id = 1;
    fence.broker_epoch = image_broker(lab.committed, 1)->epoch;
    fence.state = KARST__BROKER_STATE__BROKER_FENCED;
    struct record_list list = {0};
    record_list_add(&list, &fence.base);
    struct image_edit *edit = image_edit_begin(lab.committed);
    ck_assert_int_eq(image_edit_apply_entry(edit, (struct bytes){list.data, list.len},
                                            image_offset(lab.committed) + 1),
                     ERR_OK);
    image_unref(lab.committed);
    lab.committed = image_edit_finish(edit, NULL);
    record_list_fini(&list);
    lab_take_over(&lab);
    ck_assert_str_eq(lab_records(&lab), "PartitionChange");
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2,3] e1 p1");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_controller_aborts_an_open_transaction)
{
    struct lab lab;
    lab_init(&lab, 1);
    Karst__BeginTransactionRecord begin = KARST__BEGIN_TRANSACTION_RECORD__INIT;
    struct record_list list = {0};
    record_list_add(&list, &begin.base);
    struct image_edit *edit = image_edit_begin(lab.committed);
    ck_assert_int_eq(image_edit_apply_entry(edit, (struct bytes){list.data, list.len},
                                            image_offset(lab.committed) + 1),
                     ERR_OK);
    image_unref(lab.committed);
    lab.committed = image_edit_finish(edit, NULL);
    record_list_fini(&list);
    lab_take_over(&lab);
    ck_assert_str_eq(lab_records(&lab), "AbortTransaction");
    lab_commit(&lab);
    ck_assert(!image_transaction_open(lab.committed));
    ck_assert_int_eq(lab_create(&lab, "t", 1, 1, NULL)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(fencing_the_leader_of_ten_thousand_partitions_gives_entries_of_bounded_size)
{
    struct lab lab;
    lab_init(&lab, 2);
    ck_assert_int_eq(lab_create(&lab, "big", 10000, 2, NULL)->error, ERR_OK);
    lab_commit(&lab);
    lab_died(&lab, 1, 0);
    ck_assert_uint_eq(lab.last.count, 10001);
    ck_assert_int_eq(strncmp(lab_records(&lab), "BrokerChange ", 13), 0);
    size_t entries = 0, at = 0;
    for (struct bytes entry; (entry = record_list_entry(&lab.last, at)).len > 0; at += entry.len)
        entries++;
    ck_assert_uint_le(entries, 2);
    lab_commit(&lab);
    const struct image_topic *topic = image_topic_by_name(lab.committed, "big");
    for (int32_t i = 0; i < topic->partition_count; i++)
        ck_assert_int_eq(topic->partitions[i].leader, 2);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/elections", the_next_leader_is_the_first_active_isr_member_in_replica_order,
           the_last_isr_member_stays_and_leads_again_in_a_higher_epoch,
           a_broker_that_is_fenced_or_leaves_is_not_elected,
           the_preferred_leader_leads_again_when_it_is_up_and_in_sync_for_long_enough,
           a_preferred_leader_that_flaps_waits_longer_each_time,
           an_unclean_election_needs_the_topics_permission_and_is_remembered,
           a_person_orders_an_unclean_election, a_lost_last_replica_begins_anew_only_by_order,
           a_preferred_election_is_asked_for,
           a_new_controller_finishes_the_fencing_that_the_last_one_began,
           a_new_controller_aborts_an_open_transaction,
           fencing_the_leader_of_ten_thousand_partitions_gives_entries_of_bounded_size)
