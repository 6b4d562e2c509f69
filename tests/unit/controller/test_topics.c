#include "unit/controller/lab.h"

#include <stdio.h>

#include "lib/check_main.h"

struct wish {
    const char *name;
    uint64_t topic_id, request_id; /* 0: none */
    bool validate_only;
};

static const Karst__TopicResult *create_wish(struct lab *lab, const struct wish *wish)
{
    struct uuid topic_id = lab_id(wish->topic_id), request_id = lab_id(wish->request_id);
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    topic.name = (char *)(uintptr_t)wish->name;
    topic.partitions = 3;
    topic.replication_factor = 2;
    topic.has_topic_id = wish->topic_id != 0;
    topic.topic_id = (ProtobufCBinaryData){16, topic_id.b};
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    request.has_request_id = wish->request_id != 0;
    request.request_id = (ProtobufCBinaryData){16, request_id.b};
    request.has_validate_only = request.validate_only = wish->validate_only;
    const Karst__CreateTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    return reply->topics[0];
}

static const Karst__TopicResult *delete_topic(struct lab *lab, const char *name, uint64_t id)
{
    struct uuid topic_id = lab_id(id);
    Karst__DeleteTopic topic = KARST__DELETE_TOPIC__INIT, *topics = &topic;
    topic.name = (char *)(uintptr_t)name;
    topic.has_topic_id = id != 0;
    topic.topic_id = (ProtobufCBinaryData){16, topic_id.b};
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    const Karst__DeleteTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    return reply->topics[0];
}

START_TEST(a_topic_is_there_with_all_its_partitions)
{
    struct lab lab;
    lab_init(&lab, 3);
    const Karst__TopicResult *result =
        lab_create(&lab, "orders", 6, 2, "retention.ms", "60000", "min.insync.replicas", "2", NULL);
    ck_assert_int_eq(result->error, ERR_OK);
    ck_assert_str_eq(result->name, "orders");
    ck_assert_int_eq(result->partitions, 6);
    ck_assert_int_eq(result->replication_factor, 2);
    lab_commit(&lab);
    const struct image_topic *topic = image_topic_by_name(lab.committed, "orders");
    ck_assert_mem_eq(result->topic_id.data, topic->id.b, 16);
    ck_assert_int_eq(topic->partition_count, 6);
    ck_assert_int_eq(image_topic_config_int(lab.committed, topic, "min.insync.replicas", 1), 2);
    int led[4] = {0};
    for (int32_t i = 0; i < 6; i++) {
        const struct image_partition *p = &topic->partitions[i];
        ck_assert_int_eq(p->replica_count, 2);
        ck_assert_int_eq(p->isr_count, 2);
        ck_assert_int_eq(p->leader, p->replicas[0]);
        ck_assert_int_eq(p->leader_epoch, 0);
        ck_assert_int_eq(p->partition_epoch, 0);
        struct uuid directory = lab_id(5000000 + (uint64_t)p->replicas[1]);
        ck_assert(uuid_equal(&p->directories[1], &directory)); /* R1 */
        led[p->leader]++;
    }
    for (int node = 1; node <= 3; node++)
        ck_assert_int_eq(led[node], 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(defaults_fill_what_is_not_said)
{
    struct lab lab;
    lab_init(&lab, 1);
    const Karst__TopicResult *result = lab_create(&lab, "t", -1, -1, NULL);
    ck_assert_int_eq(result->error, ERR_OK);
    ck_assert_int_eq(result->partitions, 1);
    ck_assert_int_eq(result->replication_factor, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(illegal_names_are_refused)
{
    struct lab lab;
    lab_init(&lab, 1);
    char longest[251];
    memset(longest, 'a', 250);
    longest[250] = '\0';
    const char *const names[] = {"",    ".",        "..",    "a b",
                                 "a/b", "\xc3\xa4", longest, "__cluster_metadata"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const Karst__TopicResult *result = lab_create(&lab, names[i], 1, 1, NULL);
        ck_assert_int_eq(result->error, ERR_INVALID_TOPIC_EXCEPTION);
        ck_assert_ptr_nonnull(result->message);
    }
    longest[249] = '\0';
    ck_assert_int_eq(lab_create(&lab, longest, 1, 1, NULL)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(names_that_exist_or_collide_are_refused)
{
    struct lab lab;
    lab_init(&lab, 1);
    ck_assert_int_eq(lab_create(&lab, "a.b", 1, 1, NULL)->error, ERR_OK);
    ck_assert_int_eq(lab_create(&lab, "a.b", 1, 1, NULL)->error, ERR_TOPIC_ALREADY_EXISTS);
    const Karst__TopicResult *result = lab_create(&lab, "a_b", 1, 1, NULL);
    ck_assert_int_eq(result->error, ERR_INVALID_TOPIC_EXCEPTION);
    ck_assert_ptr_nonnull(strstr(result->message, "a.b"));
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(counts_out_of_range_are_refused_with_the_range)
{
    struct lab lab;
    lab_init(&lab, 2);
    const int32_t partitions[] = {0, -2, 20001};
    for (size_t i = 0; i < ARRAY_LEN(partitions); i++)
        ck_assert_int_eq(lab_create(&lab, "t", partitions[i], 1, NULL)->error,
                         ERR_INVALID_PARTITIONS);
    const int32_t factors[] = {0, -2, 17, 3};
    for (size_t i = 0; i < ARRAY_LEN(factors); i++)
        ck_assert_int_eq(lab_create(&lab, "t", 1, factors[i], NULL)->error,
                         ERR_INVALID_REPLICATION_FACTOR);
    const Karst__TopicResult *result = lab_create(&lab, "t", 1, 3, NULL);
    ck_assert_ptr_nonnull(strstr(result->message, "there are 2"));
    lab_died(&lab, 2, 0); /* a fenced broker takes no new replica */
    ck_assert_int_eq(lab_create(&lab, "t", 1, 2, NULL)->error, ERR_INVALID_REPLICATION_FACTOR);
    ck_assert_int_eq(lab_create(&lab, "t", 1, 1, NULL)->error, ERR_OK);
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_wrong_config_is_refused_with_the_nearest_name)
{
    struct lab lab;
    lab_init(&lab, 1);
    const Karst__TopicResult *result = lab_create(&lab, "t", 1, 1, "retention.mss", "1", NULL);
    ck_assert_int_eq(result->error, ERR_INVALID_CONFIG);
    ck_assert_ptr_nonnull(strstr(result->message, "'retention.ms'"));
    result = lab_create(&lab, "t", 1, 1, "min.insync.replicas", "0", NULL);
    ck_assert_int_eq(result->error, ERR_INVALID_CONFIG);
    ck_assert_str_eq(lab_records(&lab), "");
    enum { WORDS = 30000 };
    static char endless[WORDS * 7]; /* each word is right, but there is no end of them */
    for (int i = 0; i < WORDS; i++)
        memcpy(endless + (size_t)i * 7, i + 1 == WORDS ? "delete" : "delete,", 7);
    result = lab_create(&lab, "t", 1, 1, "cleanup.policy", endless, NULL);
    ck_assert_int_eq(result->error, ERR_INVALID_CONFIG);
    ck_assert_str_eq(lab_records(&lab), "");
    ck_assert_ptr_null(image_topic_by_name(lab_view(&lab), "t"));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_retry_finds_its_own_result)
{
    struct lab lab;
    lab_init(&lab, 2);
    const struct wish by_request = {.name = "t", .request_id = 7};
    struct uuid first;
    memcpy(first.b, create_wish(&lab, &by_request)->topic_id.data, 16);
    const Karst__TopicResult *again = create_wish(&lab, &by_request); /* before the commit */
    ck_assert_int_eq(again->error, ERR_OK);
    ck_assert_mem_eq(again->topic_id.data, first.b, 16);
    ck_assert_int_eq(again->partitions, 3);
    ck_assert_int_eq(again->replication_factor, 2);
    ck_assert_str_eq(lab_records(&lab), "");
    lab_commit(&lab);
    lab_take_over(&lab);
    ck_assert_int_eq(create_wish(&lab, &by_request)->error, ERR_OK);
    const struct wish other_request = {.name = "t", .request_id = 8};
    ck_assert_int_eq(create_wish(&lab, &other_request)->error, ERR_TOPIC_ALREADY_EXISTS);

    const struct wish by_id = {.name = "u", .topic_id = 9};
    ck_assert_int_eq(create_wish(&lab, &by_id)->error, ERR_OK);
    ck_assert_int_eq(create_wish(&lab, &by_id)->error, ERR_OK);
    const struct wish taken = {.name = "v", .topic_id = 9};
    ck_assert_int_eq(create_wish(&lab, &taken)->error, ERR_INVALID_REQUEST);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_trial_creates_nothing)
{
    struct lab lab;
    lab_init(&lab, 2);
    const struct wish trial = {.name = "t", .validate_only = true};
    const Karst__TopicResult *result = create_wish(&lab, &trial);
    ck_assert_int_eq(result->error, ERR_OK);
    ck_assert_int_eq(result->partitions, 3);
    ck_assert(!result->has_topic_id);
    ck_assert_str_eq(lab_records(&lab), "");
    const struct wish bad = {.name = "a b", .validate_only = true};
    ck_assert_int_eq(create_wish(&lab, &bad)->error, ERR_INVALID_TOPIC_EXCEPTION);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_name_twice_in_one_request_is_refused_both_times)
{
    struct lab lab;
    lab_init(&lab, 1);
    Karst__CreateTopic topics[3], *rows[3];
    char names[3][2] = {"a", "b", "a"};
    for (int i = 0; i < 3; i++) {
        karst__create_topic__init(&topics[i]);
        topics[i].name = names[i];
        rows[i] = &topics[i];
    }
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 3;
    request.topics = rows;
    const Karst__CreateTopicsReply *reply = lab_ask(&lab, &request.base, NO_NODE);
    ck_assert_int_eq(reply->topics[0]->error, ERR_INVALID_REQUEST);
    ck_assert_int_eq(reply->topics[1]->error, ERR_OK);
    ck_assert_int_eq(reply->topics[2]->error, ERR_INVALID_REQUEST);
    request.n_topics = 0;
    ck_assert_int_eq(((const Karst__CreateTopicsReply *)lab_ask(&lab, &request.base, -1))->error,
                     ERR_OK);
    lab_fini(&lab);
}
END_TEST

static err_t create_assigned(struct lab *lab, const int32_t (*replicas)[3], size_t partitions,
                             size_t per_partition, int32_t factor)
{
    Karst__ReplicaAssignment rows[4], *pointers[4];
    int32_t nodes[4][3];
    for (size_t i = 0; i < partitions; i++) {
        memcpy(nodes[i], replicas[i], sizeof(nodes[i]));
        karst__replica_assignment__init(&rows[i]);
        rows[i].n_replicas = per_partition;
        rows[i].replicas = nodes[i];
        pointers[i] = &rows[i];
    }
    rows[partitions - 1].n_replicas -= replicas[partitions - 1][2] == -9; /* one short */
    Karst__CreateTopic topic = KARST__CREATE_TOPIC__INIT, *topics = &topic;
    char name[] = "assigned";
    topic.name = name;
    topic.replication_factor = factor;
    topic.n_assignment = partitions;
    topic.assignment = pointers;
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = &topics;
    const Karst__CreateTopicsReply *reply = lab_ask(lab, &request.base, NO_NODE);
    ck_assert(reply->topics[0]->error == ERR_OK || reply->topics[0]->message != NULL);
    return reply->topics[0]->error;
}

START_TEST(an_assignment_by_hand_is_followed_or_refused)
{
    struct lab lab;
    lab_init(&lab, 3);
    lab_died(&lab, 3, 0);
    const int32_t good[][3] = {{2, 3}, {1, 2}};
    const int32_t twice[][3] = {{2, 3}, {1, 1}};
    const int32_t unknown[][3] = {{2, 7}};
    const int32_t dead[][3] = {{3}};
    const int32_t uneven[][3] = {{1, 2, 3}, {1, 2, -9}};
    ck_assert_int_eq(create_assigned(&lab, twice, 2, 2, -1), ERR_INVALID_REPLICA_ASSIGNMENT);
    ck_assert_int_eq(create_assigned(&lab, unknown, 1, 2, -1), ERR_INVALID_REPLICA_ASSIGNMENT);
    ck_assert_int_eq(create_assigned(&lab, dead, 1, 1, -1), ERR_INVALID_REPLICA_ASSIGNMENT);
    ck_assert_int_eq(create_assigned(&lab, uneven, 2, 3, -1), ERR_INVALID_REPLICA_ASSIGNMENT);
    ck_assert_int_eq(create_assigned(&lab, good, 2, 2, 2), ERR_INVALID_REQUEST);
    ck_assert_int_eq(create_assigned(&lab, good, 2, 2, -1), ERR_OK);
    struct partition_id first = lab_id_of(&lab, "assigned", 0);
    struct partition_id second = lab_id_of(&lab, "assigned", 1);
    ck_assert_str_eq(lab_state(&lab, &first), "2 [2] e0 p0"); /* 3 is dead */
    ck_assert_str_eq(lab_state(&lab, &second), "1 [1,2] e0 p0");
    lab_commit(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(ten_thousand_partitions_in_one_request)
{
    struct lab lab;
    lab_init(&lab, 3);
    const Karst__TopicResult *result = lab_create(&lab, "big", 10000, 3, NULL);
    ck_assert_int_eq(result->error, ERR_OK);
    ck_assert_uint_gt(lab.last.len, METADATA_ENTRY_BYTES_MAX); /* more than one entry */
    struct bytes entry = record_list_entry(&lab.last, 0);
    struct image_edit *edit = image_edit_begin(lab.committed);
    ck_assert_int_eq(image_edit_apply_entry(edit, entry, image_offset(lab.committed) + 1), ERR_OK);
    struct image *part = image_edit_finish(edit, NULL);
    ck_assert_ptr_null(image_topic_by_name(part, "big")); /* nobody sees a part of it */
    image_unref(part);
    lab_commit(&lab);
    ck_assert_int_eq(image_topic_by_name(lab.committed, "big")->partition_count, 10000);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_topic_is_deleted_by_name_or_id_and_a_retry_is_a_success)
{
    struct lab lab;
    lab_init(&lab, 2);
    const struct wish wish = {.name = "t", .topic_id = 9};
    create_wish(&lab, &wish);
    lab_commit(&lab);
    ck_assert_int_eq(delete_topic(&lab, "absent", 0)->error, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(delete_topic(&lab, NULL, 0)->error, ERR_INVALID_REQUEST);
    ck_assert_int_eq(delete_topic(&lab, NULL, 10)->error, ERR_UNKNOWN_TOPIC_ID);
    const Karst__TopicResult *result = delete_topic(&lab, "t", 9);
    ck_assert_int_eq(result->error, ERR_OK);
    ck_assert_str_eq(result->name, "t");
    ck_assert_ptr_null(image_topic_by_name(lab_view(&lab), "t"));
    ck_assert_int_eq(delete_topic(&lab, "t", 9)->error, ERR_OK);
    ck_assert_str_eq(lab_records(&lab), "");
    /* Made again meanwhile: the retry does not take the new one. */
    const struct wish anew = {.name = "t", .topic_id = 11};
    create_wish(&lab, &anew);
    ck_assert_int_eq(delete_topic(&lab, "t", 9)->error, ERR_OK);
    ck_assert_ptr_nonnull(image_topic_by_name(lab_view(&lab), "t"));
    ck_assert_str_eq(delete_topic(&lab, NULL, 11)->name, "t");
    ck_assert_int_eq(delete_topic(&lab, "t", 0)->error, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_commit(&lab);
    ck_assert_uint_eq(image_topic_count(lab.committed), 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_request_that_is_none_is_answered)
{
    struct lab lab;
    lab_init(&lab, 1);
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    const ProtobufCMessage *reply = lab_ask(&lab, &probe.base, 1);
    ck_assert_ptr_eq(reply->descriptor, &karst__error__descriptor);
    ck_assert_int_eq(((const Karst__Error *)(const void *)reply)->code, ERR_UNSUPPORTED_VERSION);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/topics", a_topic_is_there_with_all_its_partitions,
           defaults_fill_what_is_not_said, illegal_names_are_refused,
           names_that_exist_or_collide_are_refused, counts_out_of_range_are_refused_with_the_range,
           a_wrong_config_is_refused_with_the_nearest_name, a_retry_finds_its_own_result,
           a_trial_creates_nothing, a_name_twice_in_one_request_is_refused_both_times,
           an_assignment_by_hand_is_followed_or_refused, ten_thousand_partitions_in_one_request,
           a_topic_is_deleted_by_name_or_id_and_a_retry_is_a_success,
           a_request_that_is_none_is_answered)
