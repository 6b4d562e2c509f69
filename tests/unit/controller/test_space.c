#include "unit/controller/lab.h"

#include "lib/check_main.h"

/* A heartbeat of node: its directory is full or not, and near the second mark or not. */
static void beat(struct lab *lab, node_id_t node, bool full, bool low)
{
    struct uuid directory = lab_id(5000000 + (uint64_t)node);
    ProtobufCBinaryData row = {sizeof(directory.b), directory.b};
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = node;
    request.broker_epoch = image_broker(lab_view(lab), node)->epoch;
    request.metadata_offset = image_offset(lab->committed);
    request.n_full_directories = full;
    request.full_directories = &row;
    request.has_low_space = true;
    request.low_space = low;
    const Karst__HeartbeatReply *reply = lab_ask(lab, &request.base, node);
    ck_assert_int_eq(reply->error, ERR_OK);
    lab_commit(lab);
}

START_TEST(a_full_leader_hands_over_to_a_member_with_room)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    beat(&lab, 2, true, false);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2,3] e0 p0");
    beat(&lab, 1, true, false);
    ck_assert_str_eq(lab_state(&lab, &id), "3 [1,2,3] e1 p1");
    beat(&lab, 1, true, false);
    ck_assert_str_eq(lab_records(&lab), ""); /* told again, it changes nothing */
    lab_fini(&lab);
}
END_TEST

START_TEST(leadership_stays_where_all_members_are_full)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    beat(&lab, 2, true, false);
    beat(&lab, 1, true, false);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1,2] e0 p0");
    lab_died(&lab, 1, 0); /* full, but alive */
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2] e1 p1");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(who_has_room_again_takes_over_and_is_preferred_again)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    beat(&lab, 2, true, false);
    beat(&lab, 1, true, false);
    beat(&lab, 2, false, false);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [1,2] e1 p1");
    for (int i = 0; i < 100; i++) { /* 1 is full still: it stays where there is room */
        lab_tick(&lab, 200);
        lab_commit(&lab);
        beat(&lab, 1, true, false);
        beat(&lab, 2, false, false);
    }
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 2);
    for (int i = 0; i < 100; i++) {
        lab_tick(&lab, 200);
        lab_commit(&lab);
        beat(&lab, 1, false, false);
        beat(&lab, 2, false, false);
    }
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, 1);
    lab_fini(&lab);
}
END_TEST

static err_t delete_topic(struct lab *lab, char *name)
{
    Karst__DeleteTopic topic = KARST__DELETE_TOPIC__INIT, *topics = &topic;
    topic.name = name;
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    const Karst__DeleteTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    err_t err = reply->topics[0]->error;
    lab_commit(lab);
    return err;
}

static err_t allocate_ids(struct lab *lab)
{
    Karst__AllocateProducerIdsRequest request = KARST__ALLOCATE_PRODUCER_IDS_REQUEST__INIT;
    request.node_id = 1;
    request.broker_epoch = image_broker(lab_view(lab), 1)->epoch;
    const Karst__AllocateProducerIdsReply *reply = lab_ask(lab, &request.base, 1);
    err_t err = reply->error;
    lab_commit(lab);
    return err;
}

START_TEST(below_the_second_mark_only_what_frees_space_or_fences_is_decided)
{
    struct lab lab;
    char name[] = "t";
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    beat(&lab, 3, true, true);
    ck_assert_int_eq(lab_create(&lab, "u", 1, 1, NULL)->error, ERR_NOT_ENOUGH_SPACE);
    ck_assert_int_eq(allocate_ids(&lab), ERR_NOT_ENOUGH_SPACE);
    lab_died(&lab, 1, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2,3] e1 p1");
    lab_commit(&lab);
    lab_join(&lab, 1, 1); /* a restart is no growth: it is what brings a cluster back */
    ck_assert_int_eq(delete_topic(&lab, name), ERR_OK);
    beat(&lab, 3, false, false);
    ck_assert_int_eq(lab_create(&lab, "u", 1, 1, NULL)->error, ERR_OK);
    ck_assert_int_eq(allocate_ids(&lab), ERR_OK);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_reserve_of_the_own_metadata_log_counts_too)
{
    struct lab lab;
    lab_init(&lab, 1);
    controller_set_low_space(lab.controller, true);
    ck_assert_int_eq(lab_create(&lab, "u", 1, 1, NULL)->error, ERR_NOT_ENOUGH_SPACE);
    controller_set_low_space(lab.controller, false);
    ck_assert_int_eq(lab_create(&lab, "u", 1, 1, NULL)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/space", a_full_leader_hands_over_to_a_member_with_room,
           leadership_stays_where_all_members_are_full,
           who_has_room_again_takes_over_and_is_preferred_again,
           below_the_second_mark_only_what_frees_space_or_fences_is_decided,
           the_reserve_of_the_own_metadata_log_counts_too)
