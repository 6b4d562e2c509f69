#include "unit/controller/lab.h"

#include "lib/check_main.h"

/* A partition of brokers 1 to 4 whose topic allows unclean elections, led and held by 1 alone,
 * which is dead. */
static struct partition_id leaderless(struct lab *lab)
{
    lab_init(lab, 4);
    struct partition_id id = lab_assigned(lab, "t", 4, 1, 2, 3, 4);
    const struct lab_alter alone = {.id = id, .isr_count = 1, .isr = {1}};
    ck_assert_int_eq(lab_alter(lab, &alone)->error, ERR_OK);
    lab_commit(lab);
    lab_died(lab, 1, 0);
    lab_commit(lab);
    return id;
}

static err_t order(struct lab *lab, const struct partition_id *id)
{
    Karst__ElectPartition partition = KARST__ELECT_PARTITION__INIT, *rows = &partition;
    partition.topic_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)id->topic.b};
    partition.index = id->index;
    Karst__ElectLeadersRequest request = KARST__ELECT_LEADERS_REQUEST__INIT;
    request.unclean = true;
    request.n_partitions = 1;
    request.partitions = &rows;
    const Karst__ElectLeadersReply *reply = lab_ask(lab, &request.base, NO_NODE);
    err_t err = reply->partitions[0]->error;
    lab_commit(lab);
    return err;
}

/* A heartbeat of node, with an answer for id unless last_epoch is below -1: how much it is asked.
 */
static size_t beat(struct lab *lab, node_id_t node, const struct partition_id *id,
                   leader_epoch_t asked_epoch, leader_epoch_t last_epoch, offset_t end)
{
    Karst__LogEnd row = KARST__LOG_END__INIT, *rows = &row;
    row.topic_id = (ProtobufCBinaryData){16, (uint8_t *)(uintptr_t)id->topic.b};
    row.index = id->index;
    row.leader_epoch = asked_epoch;
    row.last_epoch = last_epoch;
    row.end = end;
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = node;
    request.broker_epoch = image_broker(lab_view(lab), node)->epoch;
    request.metadata_offset = image_offset(lab->committed);
    request.n_ends = last_epoch >= -1;
    request.ends = &rows;
    const Karst__HeartbeatReply *reply = lab_ask(lab, &request.base, node);
    ck_assert_int_eq(reply->error, ERR_OK);
    size_t asked = reply->n_asked;
    if (asked > 0)
        ck_assert_int_eq(reply->asked[0]->leader_epoch, lab_partition(lab, id)->leader_epoch);
    lab_commit(lab);
    return asked;
}

START_TEST(the_log_of_the_latest_epoch_wins_over_a_longer_one)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE); /* they are asked first */
    ck_assert_uint_eq(beat(&lab, 2, &id, 0, -2, 0), 1);
    beat(&lab, 2, &id, 1, 0, 1000); /* a zombie's junk */
    beat(&lab, 3, &id, 1, 1, 80);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    ck_assert_uint_eq(beat(&lab, 3, &id, 0, -2, 0), 0); /* it has answered */
    beat(&lab, 4, &id, 1, 1, 85);
    ck_assert_str_eq(lab_state(&lab, &id), "4 [4] e2 p3");
    ck_assert_int_eq(lab_partition(&lab, &id)->last_unclean_leader_epoch, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(one_that_does_not_answer_is_waited_for_so_long)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    beat(&lab, 3, &id, 1, 0, 10);
    lab_tick(&lab, 1000);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    beat(&lab, 2, &id, 1, 0, 20);
    lab_heartbeat(&lab, 4);
    lab_tick(&lab, LAB_SESSION_MS - 800);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(without_any_answer_nobody_is_chosen_blindly)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    lab_run(&lab, 10000, 1);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    beat(&lab, 3, &id, 0, 5, 10); /* of another question */
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    beat(&lab, 3, &id, 1, 0, 10);
    lab_tick(&lab, 200);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 3);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_member_that_comes_back_meanwhile_leads_and_nothing_is_lost)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    beat(&lab, 2, &id, 1, 0, 10);
    lab_join(&lab, 1, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e2 p3");
    beat(&lab, 3, &id, 1, 0, 10);
    beat(&lab, 4, &id, 1, 0, 10);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e2 p3");
    ck_assert_int_eq(lab_partition(&lab, &id)->last_unclean_leader_epoch, -1);
    lab_fini(&lab);
}
END_TEST

START_TEST(who_died_after_its_answer_is_not_elected)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    beat(&lab, 2, &id, 1, 0, 100);
    beat(&lab, 3, &id, 1, 0, 50);
    lab_died(&lab, 2, 0);
    lab_commit(&lab);
    beat(&lab, 4, &id, 1, 0, 20);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 3);
    lab_fini(&lab);
}
END_TEST

/* What a process said of its log says nothing of the log that its next life has recovered (R2). */
START_TEST(the_answer_of_an_earlier_life_counts_no_more)
{
    struct lab lab;
    struct partition_id id = leaderless(&lab);
    ck_assert_int_eq(order(&lab, &id), ERR_OK);
    beat(&lab, 2, &id, 1, 0, 100);
    lab_join(&lab, 2, 1);
    ck_assert_uint_eq(beat(&lab, 2, &id, 0, -2, 0), 1); /* it is asked again */
    beat(&lab, 3, &id, 1, 0, 80);
    beat(&lab, 4, &id, 1, 0, 20);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE); /* 2 has not said yet */
    beat(&lab, 2, &id, 1, 0, 50);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 3);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/unclean", the_log_of_the_latest_epoch_wins_over_a_longer_one,
           one_that_does_not_answer_is_waited_for_so_long,
           without_any_answer_nobody_is_chosen_blindly,
           a_member_that_comes_back_meanwhile_leads_and_nothing_is_lost,
           who_died_after_its_answer_is_not_elected, the_answer_of_an_earlier_life_counts_no_more)
