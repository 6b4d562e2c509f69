#include "lib/metadata_lab.h"

#include <stdio.h>

#include "lib/check_main.h"

#define REFUSED(image, expected, ...)                                                              \
    do {                                                                                           \
        struct record_list refused = {0};                                                          \
        struct record_list *into = &refused;                                                       \
        __VA_ARGS__;                                                                               \
        ck_assert_str_eq(err_name(lab_refused(image, into)), expected);                            \
    } while (0)

static struct image *image_with_topic(int32_t partitions)
{
    struct record_list list = {0};
    lab_topic(&list, 7, "orders");
    for (int32_t i = 0; i < partitions; i++)
        lab_partition(&list, 7, i, 1, 3);
    return lab_apply(lab_image(), &list, NULL);
}

static const struct image_partition *partition_of(const struct image *image, uint64_t topic,
                                                  int32_t index)
{
    struct partition_id id = {lab_uuid(topic), index};
    return image_partition(image, &id);
}

START_TEST(feature_level_and_cluster_come_before_all_else)
{
    struct image *empty = image_new_empty();
    REFUSED(empty, "INVALID_REQUEST", lab_register(into, 1, 1, 1));
    REFUSED(empty, "INVALID_REQUEST", lab_cluster(into, 1, 2); lab_register(into, 1, 1, 1));
    REFUSED(empty, "INVALID_REQUEST", lab_feature(into, 1); lab_topic(into, 1, "a"));
    REFUSED(empty, "INVALID_REQUEST", lab_begin(into));
    image_unref(empty);
}
END_TEST

START_TEST(an_unknown_level_type_or_version_stops)
{
    struct image *empty = image_new_empty();
    REFUSED(empty, "UNSUPPORTED_VERSION", lab_feature(into, IMAGE_FEATURE_LEVEL + 1));
    REFUSED(empty, "UNSUPPORTED_VERSION", lab_feature(into, 0));
    struct image_edit *edit = image_edit_begin(empty);
    Karst__MetadataRecord record = KARST__METADATA_RECORD__INIT;
    record.type = KARST__RECORD_TYPE__RECORD_CLUSTER;
    record.version = 2;
    ck_assert_int_eq(image_edit_apply(edit, &record), ERR_UNSUPPORTED_VERSION);
    record.type = 99;
    record.version = 1;
    ck_assert_int_eq(image_edit_apply(edit, &record), ERR_UNSUPPORTED_VERSION);
    record.type = 0;
    ck_assert_int_eq(image_edit_apply(edit, &record), ERR_UNSUPPORTED_VERSION);
    image_edit_abandon(edit);
    image_unref(empty);
}
END_TEST

START_TEST(another_clusters_id_is_refused)
{
    struct image *image = lab_image();
    REFUSED(image, "INCONSISTENT_CLUSTER_ID", lab_cluster(into, 2, 2));
    struct record_list list = {0};
    lab_cluster(&list, 1, 3); /* the same cluster after a recovery by hand */
    image = lab_apply(image, &list, NULL);
    struct uuid recovery = lab_uuid(3);
    ck_assert(uuid_equal(image_recovery_id(image), &recovery));
    image_unref(image);
}
END_TEST

START_TEST(a_new_incarnation_is_fenced_and_has_a_higher_epoch)
{
    struct image *image = lab_image();
    REFUSED(image, "STALE_BROKER_EPOCH", lab_register(into, 2, 200, 12));
    REFUSED(image, "DUPLICATE_BROKER_REGISTRATION", lab_register(into, 2, 102, 50));
    ck_assert_int_eq(image_broker(image, 2)->state, BROKER_STATE_ACTIVE);
    struct record_list list = {0};
    lab_register(&list, 2, 200, 50);
    image = lab_apply(image, &list, NULL);
    ck_assert_int_eq(image_broker(image, 2)->state, BROKER_STATE_FENCED);
    ck_assert_int_eq(image_broker(image, 2)->epoch, 50);
    ck_assert_str_eq(image_broker_listener(image_broker(image, 2), "RPC")->host,
                     "broker-2.example");
    ck_assert_str_eq(image_broker(image, 2)->rack, "even");
    ck_assert_ptr_null(image_broker_listener(image_broker(image, 2), "KAFKA"));
    ck_assert_ptr_null(image_broker_listener(image_broker(image, 9), "RPC"));
    image_unref(image);
}
END_TEST

START_TEST(a_broker_change_names_the_epoch_it_was_decided_for)
{
    struct image *image = lab_image();
    REFUSED(image, "STALE_BROKER_EPOCH", lab_broker_change(into, 2, 11, BROKER_STATE_FENCED));
    REFUSED(image, "BROKER_ID_NOT_REGISTERED", lab_broker_change(into, 4, 14, BROKER_STATE_FENCED));
    REFUSED(image, "UNSUPPORTED_VERSION", lab_broker_change(into, 2, 12, (enum broker_state)4));
    image_unref(image);
}
END_TEST

START_TEST(topics_have_one_id_and_one_legal_name)
{
    struct image *image = image_with_topic(1);
    REFUSED(image, "TOPIC_ALREADY_EXISTS", lab_topic(into, 8, "orders"));
    REFUSED(image, "TOPIC_ALREADY_EXISTS", lab_topic(into, 7, "other"));
    REFUSED(image, "INVALID_TOPIC_EXCEPTION", lab_topic(into, 8, "a/b"));
    REFUSED(image, "INVALID_TOPIC_EXCEPTION", lab_topic(into, 8, ""));
    REFUSED(image, "UNKNOWN_TOPIC_ID", lab_delete_topic(into, 8));
    REFUSED(image, "UNKNOWN_TOPIC_ID", lab_partition(into, 8, 0, 1, 3));
    REFUSED(image, "UNKNOWN_TOPIC_ID", lab_config(into, 8, "retention.ms", "1"));
    image_unref(image);
}
END_TEST

START_TEST(a_topic_is_found_by_id_name_and_colliding_name)
{
    struct record_list list = {0};
    lab_topic(&list, 8, "a.b_c");
    struct image *image = lab_apply(image_with_topic(2), &list, NULL);
    struct uuid id = lab_uuid(8);
    const struct image_topic *topic = image_topic(image, &id);
    ck_assert_str_eq(topic->name, "a.b_c");
    ck_assert_ptr_eq(image_topic_by_name(image, "a.b_c"), topic);
    ck_assert_ptr_null(image_topic_by_name(image, "a_b_c"));
    ck_assert_ptr_eq(image_topic_colliding(image, "a_b.c"), topic);
    ck_assert_ptr_null(image_topic_colliding(image, "a-b_c"));
    ck_assert_uint_eq(image_topic_count(image), 2);
    ck_assert_uint_eq(image_partition_count(image), 2);
    lab_delete_topic(&list, 7);
    image = lab_apply(image, &list, NULL);
    ck_assert_uint_eq(image_topic_count(image), 1);
    ck_assert_uint_eq(image_partition_count(image), 0);
    ck_assert_ptr_null(image_topic_by_name(image, "orders"));
    ck_assert_ptr_null(partition_of(image, 7, 0));
    image_unref(image);
}
END_TEST

START_TEST(partitions_come_in_order_and_are_sound)
{
    struct image *image = image_with_topic(1);
    REFUSED(image, "INVALID_PARTITIONS", lab_partition(into, 7, 0, 1, 3));
    REFUSED(image, "INVALID_PARTITIONS", lab_partition(into, 7, 2, 1, 3));
    REFUSED(image, "INVALID_REQUEST", lab_partition(into, 7, 1, 1, 0));
    REFUSED(image, "INVALID_REQUEST", lab_partition(into, 7, 1, -1, 3));
    ck_assert_ptr_null(partition_of(image, 7, 1));
    ck_assert_ptr_null(partition_of(image, 7, -1));
    ck_assert_int_eq(partition_of(image, 7, 0)->leader, 1);
    ck_assert_int_eq(image_partition_replica_index(partition_of(image, 7, 0), 3), 2);
    ck_assert_int_eq(image_partition_replica_index(partition_of(image, 7, 0), 4), -1);
    ck_assert(image_partition_in_isr(partition_of(image, 7, 0), 2));
    ck_assert(!image_partition_in_isr(partition_of(image, 7, 0), 4));
    image_unref(image);
}
END_TEST

static struct lab_change change_of(int32_t partition_epoch, node_id_t leader,
                                   leader_epoch_t leader_epoch, size_t isr_count)
{
    return (struct lab_change){.topic = 7,
                               .partition_epoch = partition_epoch,
                               .leader = leader,
                               .leader_epoch = leader_epoch,
                               .isr_count = isr_count,
                               .isr = {1, 2, 3}};
}

START_TEST(a_partition_changes_only_from_the_epoch_before)
{
    struct image *image = image_with_topic(1);
    struct lab_change change = change_of(2, 2, 1, 0);
    REFUSED(image, "INVALID_UPDATE_VERSION", lab_partition_change(into, &change));
    change.partition_epoch = 0;
    REFUSED(image, "INVALID_UPDATE_VERSION", lab_partition_change(into, &change));
    change.partition_epoch = 1;
    change.index = 1;
    REFUSED(image, "UNKNOWN_TOPIC_OR_PARTITION", lab_partition_change(into, &change));
    change.index = 0;
    struct record_list list = {0};
    lab_partition_change(&list, &change);
    image = lab_apply(image, &list, NULL);
    ck_assert_int_eq(partition_of(image, 7, 0)->leader, 2);
    ck_assert_int_eq(partition_of(image, 7, 0)->partition_epoch, 1);
    ck_assert_int_eq(partition_of(image, 7, 0)->leader_epoch, 1);
    image_unref(image);
}
END_TEST

START_TEST(any_election_raises_the_leader_epoch)
{
    struct image *image = image_with_topic(1);
    struct lab_change other = change_of(1, 2, -1, 0), same = change_of(1, 1, -1, 0);
    struct lab_change lower = change_of(1, -2, -1, 2);
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &other));
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &same));
    struct record_list list = {0};
    same.leader_epoch = 5;
    lab_partition_change(&list, &same);
    image = lab_apply(image, &list, NULL);
    lower.partition_epoch = 2;
    lower.leader_epoch = 4;
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &lower));
    image_unref(image);
}
END_TEST

START_TEST(a_leader_is_in_the_isr_and_the_isr_among_the_replicas)
{
    struct image *image = image_with_topic(1);
    struct lab_change outside = change_of(1, 3, 1, 2), gone = change_of(1, -2, -1, 1);
    gone.isr[0] = 2;
    struct lab_change stranger = change_of(1, -2, -1, 3), twice = change_of(1, -2, -1, 3);
    stranger.isr[2] = 4;
    twice.isr[2] = 1;
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &outside));
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &gone));
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &stranger));
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &twice));
    image_unref(image);
}
END_TEST

START_TEST(an_unclean_election_is_remembered_for_good)
{
    struct image *image = image_with_topic(1);
    struct lab_change change = change_of(1, 1, 4, 1);
    change.last_unclean = 4;
    struct record_list list = {0};
    lab_partition_change(&list, &change);
    image = lab_apply(image, &list, NULL);
    change = change_of(2, 1, 5, 0);
    change.last_unclean = 3;
    REFUSED(image, "INVALID_REQUEST", lab_partition_change(into, &change));
    change.last_unclean = 0;
    lab_partition_change(&list, &change);
    image = lab_apply(image, &list, NULL);
    ck_assert_int_eq(partition_of(image, 7, 0)->last_unclean_leader_epoch, 4);
    image_unref(image);
}
END_TEST

START_TEST(a_topics_config_falls_back_to_the_brokers)
{
    struct image *image = image_with_topic(1);
    struct record_list list = {0};
    lab_config(&list, 7, "segment.bytes", "1000");
    lab_config(&list, 7, "min.insync.replicas", "2");
    lab_config(&list, 7, "cleanup.policy", "compact");
    lab_config(&list, 7, "segment.bytes", "2000");
    lab_broker_config(&list, -1, "segment.bytes", "3000");
    lab_broker_config(&list, -1, "retention.ms", "4000");
    lab_broker_config(&list, 2, "segment.ms", "5");
    image = lab_apply(image, &list, NULL);
    const struct image_topic *topic = image_topic_by_name(image, "orders");
    ck_assert_uint_eq(topic->config_count, 3);
    for (uint32_t i = 1; i < topic->config_count; i++)
        ck_assert_int_lt(strcmp(topic->configs[i - 1].key, topic->configs[i].key), 0);
    ck_assert_int_eq(image_topic_config_int(image, topic, "segment.bytes", -1), 2000);
    ck_assert_int_eq(image_topic_config_int(image, topic, "retention.ms", -1), 4000);
    ck_assert_int_eq(image_topic_config_int(image, topic, "segment.ms", -1), -1);
    ck_assert_int_eq(image_topic_config_int(image, topic, "cleanup.policy", -1), -1);
    ck_assert_int_eq(partition_of(image, 7, 0)->leader, 1); /* untouched */
    lab_config(&list, 7, "segment.bytes", NULL);
    lab_config(&list, 7, "absent", NULL);
    image = lab_apply(image, &list, NULL);
    topic = image_topic_by_name(image, "orders");
    ck_assert_uint_eq(topic->config_count, 2);
    ck_assert_int_eq(image_topic_config_int(image, topic, "segment.bytes", -1), 3000);
    image_unref(image);
}
END_TEST

START_TEST(producer_ids_are_given_once)
{
    struct image *image = lab_image();
    struct record_list list = {0};
    lab_producer_ids(&list, 1000);
    image = lab_apply(image, &list, NULL);
    ck_assert_int_eq(image_next_producer_id(image), 1000);
    REFUSED(image, "INVALID_REQUEST", lab_producer_ids(into, 1000));
    REFUSED(image, "INVALID_REQUEST", lab_producer_ids(into, 999));
    image_unref(image);
}
END_TEST

START_TEST(voters_are_learned_from_their_record)
{
    struct image *image = lab_image();
    ck_assert_uint_eq(image_voter_count(image), 3);
    ck_assert_int_eq(image_voter_at(image, 2)->node_id, 3);
    REFUSED(image, "INVALID_REQUEST", lab_voters(into, 0));
    struct record_list list = {0};
    lab_voters(&list, 5);
    struct image_difference *difference;
    image = lab_apply(image, &list, &difference);
    ck_assert(difference->voters_changed);
    ck_assert_uint_eq(image_voter_count(image), 5);
    image_difference_free(difference);
    image_unref(image);
}
END_TEST

START_TEST(a_transaction_shows_nothing_before_its_end)
{
    struct image *before = lab_image();
    struct record_list list = {0};
    lab_begin(&list);
    lab_topic(&list, 7, "orders");
    struct image_difference *difference;
    struct image *image = lab_apply(image_ref(before), &list, &difference);
    ck_assert(image_transaction_open(image));
    ck_assert_uint_eq(image_topic_count(image), 0);
    ck_assert_uint_eq(difference->topic_count, 0);
    ck_assert_uint_ne(image_digest(image), image_digest(before));
    image_difference_free(difference);

    lab_partition(&list, 7, 0, 1, 3);
    struct image *middle = image_ref(image);
    image = lab_apply(image, &list, NULL);
    ck_assert_uint_ne(image_digest(image), image_digest(middle));
    lab_end(&list);
    image = lab_apply(image, &list, &difference);
    ck_assert(!image_transaction_open(image));
    ck_assert_int_eq(partition_of(image, 7, 0)->leader, 1);
    ck_assert_uint_eq(difference->topic_count, 1);
    ck_assert_uint_eq(difference->partition_count, 1);
    image_difference_free(difference);

    lab_abort(&list);
    middle = lab_apply(middle, &list, NULL);
    ck_assert(!image_transaction_open(middle));
    ck_assert_uint_eq(image_digest(middle), image_digest(before));
    image_unref(middle);
    image_unref(image);
    image_unref(before);
}
END_TEST

START_TEST(a_transaction_with_one_bad_record_does_nothing)
{
    struct image *image = image_with_topic(1);
    REFUSED(image, "UNKNOWN_TOPIC_ID", lab_begin(into); lab_delete_topic(into, 7);
            lab_delete_topic(into, 8); lab_end(into));
    REFUSED(image, "INVALID_REQUEST", lab_begin(into); lab_begin(into));
    REFUSED(image, "INVALID_REQUEST", lab_end(into));
    REFUSED(image, "INVALID_REQUEST", lab_abort(into));

    struct image_edit *edit = image_edit_begin(image);
    struct record_list list = {0};
    lab_begin(&list);
    lab_delete_topic(&list, 7);
    lab_delete_topic(&list, 8);
    ck_assert_int_eq(image_edit_apply_entry(edit, (struct bytes){list.data, list.len}, 1000),
                     ERR_OK);
    uint64_t digest = image_digest(image_edit_view(edit));
    record_list_fini(&list);
    lab_end(&list);
    ck_assert_int_ne(image_edit_apply_entry(edit, (struct bytes){list.data, list.len}, 1001),
                     ERR_OK);
    ck_assert_uint_eq(image_digest(image_edit_view(edit)), digest);
    ck_assert_ptr_nonnull(image_topic_by_name(image_edit_view(edit), "orders"));
    record_list_fini(&list);
    image_edit_abandon(edit);
    image_unref(image);
}
END_TEST

START_TEST(a_digest_that_differs_stops)
{
    struct image *image = image_with_topic(3);
    struct record_list list = {0};
    lab_digest(&list, image_digest(image));
    image = lab_apply(image, &list, NULL);
    REFUSED(image, "CORRUPT", lab_digest(into, image_digest(image) + 1));
    image_unref(image);
}
END_TEST

START_TEST(an_entry_is_whole_and_comes_once)
{
    struct image *image = lab_image();
    struct record_list list = {0};
    lab_topic(&list, 7, "orders");
    struct image_edit *edit = image_edit_begin(image);
    struct bytes entry = {list.data, list.len};
    ck_assert_int_eq(image_edit_apply_entry(edit, entry, image_offset(image)), ERR_INVALID_REQUEST);
    entry.len--;
    ck_assert_int_eq(image_edit_apply_entry(edit, entry, image_offset(image) + 1),
                     ERR_INVALID_REQUEST);
    image_edit_abandon(edit);
    record_list_fini(&list);
    image_unref(image);
}
END_TEST

START_TEST(an_old_image_does_not_see_what_came_later)
{
    struct image *old = image_with_topic(100);
    uint64_t digest = image_digest(old);
    const struct image_partition *partitions = image_topic_by_name(old, "orders")->partitions;
    struct record_list list = {0};
    struct lab_change change = change_of(1, 2, 1, 0);
    for (change.index = 0; change.index < 100; change.index++)
        lab_partition_change(&list, &change);
    lab_partition(&list, 7, 100, 1, 3);
    lab_config(&list, 7, "retention.ms", "1");
    lab_broker_change(&list, 3, 13, BROKER_STATE_FENCED);
    struct image *image = lab_apply(image_ref(old), &list, NULL);
    ck_assert_int_eq(partition_of(image, 7, 99)->leader, 2);
    ck_assert_int_eq(partition_of(old, 7, 99)->leader, 1);
    ck_assert_ptr_null(partition_of(old, 7, 100));
    ck_assert_uint_eq(image_topic_by_name(old, "orders")->config_count, 0);
    ck_assert_int_eq(image_broker(old, 3)->state, BROKER_STATE_ACTIVE);
    ck_assert_ptr_eq(image_topic_by_name(old, "orders")->partitions, partitions);
    ck_assert_uint_eq(image_digest(old), digest);
    image_unref(old);
    image_unref(image);
}
END_TEST

START_TEST(an_edit_copies_a_topic_once_and_leaves_the_others_shared)
{
    struct record_list list = {0};
    for (uint64_t i = 100; i < 300; i++) {
        char name[16];
        snprintf(name, sizeof(name), "t%d", (int)i);
        lab_topic(&list, i, name);
        lab_partition(&list, i, 0, 1, 3);
    }
    struct image *before = lab_apply(image_with_topic(10000), &list, NULL);
    struct image_edit *edit = image_edit_begin(before);
    struct lab_change change = change_of(1, 2, 1, 0);
    const struct image_partition *copied = NULL;
    for (change.index = 0; change.index < 10000; change.index++) {
        lab_partition_change(&list, &change);
        Karst__MetadataRecord record;
        size_t at = 0;
        ck_assert(record_next((struct bytes){list.data, list.len}, &at, &record));
        ck_assert_int_eq(image_edit_apply(edit, &record), ERR_OK);
        record_list_fini(&list);
        const struct image_partition *now =
            image_topic_by_name(image_edit_view(edit), "orders")->partitions;
        ck_assert(copied == NULL || copied == now);
        copied = now;
    }
    struct image *after = image_edit_finish(edit, NULL);
    ck_assert_ptr_ne(image_topic_by_name(before, "orders")->partitions, copied);
    ck_assert_ptr_eq(image_topic_by_name(before, "t150"), image_topic_by_name(after, "t150"));
    image_unref(before);
    image_unref(after);
}
END_TEST

CHECK_MAIN("metadata/image", feature_level_and_cluster_come_before_all_else,
           an_unknown_level_type_or_version_stops, another_clusters_id_is_refused,
           a_new_incarnation_is_fenced_and_has_a_higher_epoch,
           a_broker_change_names_the_epoch_it_was_decided_for,
           topics_have_one_id_and_one_legal_name, a_topic_is_found_by_id_name_and_colliding_name,
           partitions_come_in_order_and_are_sound, a_partition_changes_only_from_the_epoch_before,
           any_election_raises_the_leader_epoch,
           a_leader_is_in_the_isr_and_the_isr_among_the_replicas,
           an_unclean_election_is_remembered_for_good, a_topics_config_falls_back_to_the_brokers,
           producer_ids_are_given_once, voters_are_learned_from_their_record,
           a_transaction_shows_nothing_before_its_end,
           a_transaction_with_one_bad_record_does_nothing, a_digest_that_differs_stops,
           an_entry_is_whole_and_comes_once, an_old_image_does_not_see_what_came_later,
           an_edit_copies_a_topic_once_and_leaves_the_others_shared)
