#include "unit/controller/lab.h"

#include "lib/check_main.h"

static ProtobufCBinaryData bin(const struct uuid *id)
{
    return (ProtobufCBinaryData){sizeof(id->b), (uint8_t *)(uintptr_t)id->b};
}

/* A heartbeat of node that says what has failed in its life; directory 0: none. */
static const Karst__HeartbeatReply *beat(struct lab *lab, node_id_t node, uint64_t directory,
                                         const struct partition_id *logs, size_t count)
{
    struct uuid failed_directory = lab_id(directory);
    ProtobufCBinaryData directories = bin(&failed_directory);
    Karst__LostReplica rows[8], *row_ptrs[8];
    ck_assert_uint_le(count, 8);
    for (size_t i = 0; i < count; i++) {
        karst__lost_replica__init(&rows[i]);
        rows[i].topic_id = bin(&logs[i].topic);
        rows[i].index = logs[i].index;
        row_ptrs[i] = &rows[i];
    }
    Karst__HeartbeatRequest request = KARST__HEARTBEAT_REQUEST__INIT;
    request.node_id = node;
    request.broker_epoch = image_broker(lab_view(lab), node)->epoch;
    request.metadata_offset = image_offset(lab->committed);
    request.n_failed_directories = directory != 0;
    request.failed_directories = &directories;
    request.n_failed = count;
    request.failed = row_ptrs;
    const Karst__HeartbeatReply *reply = lab_ask(lab, &request.base, node);
    ck_assert_int_eq(reply->error, ERR_OK);
    lab_commit(lab);
    return reply;
}

static uint64_t own_directory(node_id_t node)
{
    return 5000000 + (uint64_t)node;
}

START_TEST(a_leader_whose_log_failed_leaves_the_isr_and_another_leads)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    struct partition_id other = lab_assigned(&lab, "u", 3, 1, 2, 3);
    beat(&lab, 1, 0, &id, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2,3] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &other), "1 [1,2,3] e0 p0"); /* its own log is good */
    beat(&lab, 1, 0, &id, 1);
    ck_assert_str_eq(lab_records(&lab), ""); /* said again, it changes nothing */
    lab_fini(&lab);
}
END_TEST

START_TEST(a_follower_whose_log_failed_does_not_come_back_by_what_the_leader_still_believes)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 2, 1, 2);
    beat(&lab, 2, 0, &id, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e0 p1");
    const struct lab_alter back = {.id = id, .isr_count = 2, .isr = {1, 2}};
    ck_assert_int_eq(lab_alter(&lab, &back)->error, ERR_INELIGIBLE_REPLICA);
    beat(&lab, 2, 0, NULL, 0); /* set aside, and fetched anew */
    ck_assert_int_eq(lab_alter(&lab, &back)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_last_member_with_a_failed_log_stays_by_name_and_leads_in_its_next_life)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 1, 1);
    beat(&lab, 1, 0, &id, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [1] e1 p1");
    lab_run(&lab, 1000, 1);
    beat(&lab, 1, 0, &id, 1);
    ck_assert_str_eq(lab_state(&lab, &id), "-1 [1] e1 p1");
    lab_join(&lab, 1, 1); /* recovery has cut what was not whole */
    ck_assert_str_eq(lab_state(&lab, &id), "1 [1] e2 p2");
    lab_fini(&lab);
}
END_TEST

START_TEST(a_new_controller_learns_of_failed_logs_with_the_next_heartbeat)
{
    struct lab lab;
    lab_init(&lab, 2);
    struct partition_id id = lab_assigned(&lab, "t", 1, 1);
    beat(&lab, 1, 0, &id, 1);
    lab_take_over(&lab);
    lab_commit(&lab);
    beat(&lab, 1, 0, &id, 1);
    ck_assert_int_eq(lab_partition(&lab, &id)->leader, NO_NODE);
    lab_fini(&lab);
}
END_TEST

/* R14: in the metadata, for every later controller; the broker's other directories go on. */
START_TEST(a_directory_that_failed_a_sync_is_offline_until_it_was_verified)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct partition_id id = lab_assigned(&lab, "t", 3, 1, 2, 3);
    struct partition_id alone = lab_assigned(&lab, "alone", 1, 1);
    beat(&lab, 1, own_directory(1), NULL, 0);
    ck_assert_str_eq(lab_state(&lab, &id), "2 [2,3] e1 p1");
    ck_assert_str_eq(lab_state(&lab, &alone), "-1 [1] e1 p1");
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->directory_count, 0);
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->failed_count, 1);
    const struct lab_alter back = {.id = id, .isr_count = 3, .isr = {1, 2, 3}};
    ck_assert_int_eq(lab_alter(&lab, &back)->error, ERR_INELIGIBLE_REPLICA);
    lab_take_over(&lab);
    lab_commit(&lab);
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, NO_NODE);

    struct lab_registration again = {.node = 1, .life = 1};
    ck_assert_int_eq(lab_register(&lab, &again)->error, ERR_LOG_DIR_NOT_FOUND);
    again.verified = true;
    ck_assert_int_eq(lab_register(&lab, &again)->error, ERR_OK);
    lab_commit(&lab);
    lab_heartbeat(&lab, 1);
    lab_commit(&lab);
    ck_assert_uint_eq(image_broker(lab_view(&lab), 1)->failed_count, 0);
    ck_assert_int_eq(lab_partition(&lab, &alone)->leader, 1);
    ck_assert_int_eq(lab_alter(&lab, &back)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_mark_outlives_a_life_without_the_directory)
{
    struct lab lab;
    lab_init(&lab, 1);
    beat(&lab, 1, own_directory(1), NULL, 0);
    struct lab_registration elsewhere = {.node = 1, .life = 1, .directory = 777};
    ck_assert_int_eq(lab_register(&lab, &elsewhere)->error, ERR_OK);
    lab_commit(&lab);
    struct lab_registration back = {.node = 1, .life = 2};
    ck_assert_int_eq(lab_register(&lab, &back)->error, ERR_LOG_DIR_NOT_FOUND);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/failures", a_leader_whose_log_failed_leaves_the_isr_and_another_leads,
           a_follower_whose_log_failed_does_not_come_back_by_what_the_leader_still_believes,
           the_last_member_with_a_failed_log_stays_by_name_and_leads_in_its_next_life,
           a_new_controller_learns_of_failed_logs_with_the_next_heartbeat,
           a_directory_that_failed_a_sync_is_offline_until_it_was_verified,
           the_mark_outlives_a_life_without_the_directory)
