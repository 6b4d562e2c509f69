/* Snapshots, digests and differences, over random legal histories. */
#include "lib/metadata_lab.h"

#include <stdio.h>
#include <stdlib.h>

#include "lib/check_main.h"

enum { TOPICS = 12, BROKERS = 5, STEPS = 60, RECORDS_PER_STEP = 8 };

/* A random legal step from the image at hand. */
static void random_partition_record(struct record_list *list, const struct image *image,
                                    struct rng *rng, uint64_t topic)
{
    struct uuid id = lab_uuid(topic);
    const struct image_topic *found = image_topic(image, &id);
    if (found->partition_count == 0 || rng_chance(rng, 200000)) {
        lab_partition(list, topic, found->partition_count, (node_id_t)rng_between(rng, 1, 3),
                      (size_t)rng_between(rng, 1, 3));
        return;
    }
    struct lab_change change = {.topic = topic, .leader = -2, .leader_epoch = -1};
    change.index = (int32_t)rng_below(rng, (uint64_t)found->partition_count);
    const struct image_partition *p = &found->partitions[change.index];
    change.partition_epoch = p->partition_epoch + 1;
    if (rng_chance(rng, 700000)) { /* shrinks or grows, leader first */
        change.isr_count = (size_t)rng_between(rng, 1, p->replica_count);
        for (size_t i = 0; i < change.isr_count; i++)
            change.isr[i] = p->replicas[i];
        change.leader = rng_chance(rng, 200000) ? -1 : change.isr[0];
        change.leader_epoch = p->leader_epoch + 1;
    }
    if (change.leader >= 0 && rng_chance(rng, 100000))
        change.last_unclean = change.leader_epoch;
    lab_partition_change(list, &change);
}

static void random_topic_record(struct record_list *list, const struct image *image,
                                struct rng *rng, uint64_t topic)
{
    struct uuid id = lab_uuid(topic);
    char name[32], value[16];
    if (image_topic(image, &id) == NULL) {
        snprintf(name, sizeof(name), "topic-%d", (int)topic);
        lab_topic(list, topic, name);
        return;
    }
    if (rng_chance(rng, 80000)) {
        lab_delete_topic(list, topic);
    } else if (rng_chance(rng, 200000)) {
        snprintf(name, sizeof(name), "key.%d", (int)rng_below(rng, 4));
        snprintf(value, sizeof(value), "%d", (int)rng_below(rng, 3));
        lab_config(list, topic, name, rng_chance(rng, 300000) ? NULL : value);
    } else {
        random_partition_record(list, image, rng, topic);
    }
}

static void random_record(struct record_list *list, const struct image *image, struct rng *rng)
{
    node_id_t node = (node_id_t)rng_between(rng, 1, BROKERS);
    const struct image_broker *broker = image_broker(image, node);
    switch (rng_below(rng, 20)) {
    case 0:
        lab_register(list, node, rng_next(rng), broker == NULL ? 100 : broker->epoch + 1);
        return;
    case 1:
        if (broker != NULL && rng_chance(rng, 300000))
            lab_directory_fails(list, broker);
        else if (broker != NULL)
            lab_broker_change(list, node, broker->epoch, (enum broker_state)rng_below(rng, 4));
        return;
    case 2:
        lab_voters(list, rng_chance(rng, 500000) ? 3 : 5);
        return;
    case 3:
        lab_producer_ids(list, image_next_producer_id(image) + 1000);
        return;
    case 4:
        lab_broker_config(list, (node_id_t)rng_below(rng, 3) - 1, "a.key",
                          rng_chance(rng, 300000) ? NULL : "a value");
        return;
    default:
        random_topic_record(list, image, rng, 1 + rng_below(rng, TOPICS));
    }
}

/* One entry of a few records, each legal after those before it. */
static struct image *random_step(struct image *image, struct rng *rng,
                                 struct image_difference **ret_difference)
{
    struct image_edit *edit = image_edit_begin(image);
    struct record_list entry = {0};
    for (int i = 0; i < RECORDS_PER_STEP; i++) {
        struct record_list one = {0};
        random_record(&one, image_edit_view(edit), rng);
        Karst__MetadataRecord record;
        size_t at = 0;
        while (record_next((struct bytes){one.data, one.len}, &at, &record))
            ck_assert_str_eq(err_name(image_edit_apply(edit, &record)), "OK");
        record_list_append(&entry, &one);
        record_list_fini(&one);
    }
    image_edit_abandon(edit);
    if (rng_chance(rng, 300000)) { /* the same in a transaction, cut anywhere */
        struct record_list whole = {0};
        lab_begin(&whole);
        record_list_append(&whole, &entry);
        image = lab_apply(image, &whole, NULL);
        record_list_fini(&entry);
        lab_end(&entry);
    }
    return lab_apply(image, &entry, ret_difference);
}

static struct image *round_trip(struct image *image)
{
    uint8_t *data, *again;
    size_t len, again_len;
    ck_assert_int_eq(image_encode_snapshot(image, &data, &len), ERR_OK);
    struct image *restored = NULL;
    ck_assert_str_eq(err_name(image_decode_snapshot((struct bytes){data, len}, &restored)), "OK");
    ck_assert_int_eq(image_encode_snapshot(restored, &again, &again_len), ERR_OK);
    ck_assert_uint_eq(len, again_len);
    ck_assert_mem_eq(data, again, len);
    ck_assert_uint_eq(image_digest(restored), image_digest(image));
    ck_assert_int_eq(image_offset(restored), image_offset(image));
    ck_assert_uint_eq(image_partition_count(restored), image_partition_count(image));
    free(data);
    free(again);
    return restored;
}

static bool difference_has(const struct image_difference *difference, const struct partition_id *id)
{
    size_t times = 0;
    for (size_t i = 0; i < difference->partition_count; i++)
        times += partition_id_equal(&difference->partitions[i], id);
    ck_assert_uint_le(times, 1); /* listed once */
    return times == 1;
}

static bool difference_has_topic(const struct image_difference *difference, const struct uuid *id)
{
    size_t times = 0;
    for (size_t i = 0; i < difference->topic_count; i++)
        times += uuid_equal(&difference->topics[i], id);
    ck_assert_uint_le(times, 1);
    return times == 1;
}

static bool configs_equal(const struct image_topic *a, const struct image_topic *b)
{
    if (a->config_count != b->config_count)
        return false;
    for (uint32_t i = 0; i < a->config_count; i++)
        if (strcmp(a->configs[i].key, b->configs[i].key) != 0 ||
            strcmp(a->configs[i].value, b->configs[i].value) != 0)
            return false;
    return true;
}

/* Names exactly what differs between the two. */
static void difference_check(const struct image_difference *difference, const struct image *before,
                             const struct image *after)
{
    for (uint64_t topic = 1; topic <= TOPICS; topic++) {
        struct uuid id = lab_uuid(topic);
        const struct image_topic *was = image_topic(before, &id), *is = image_topic(after, &id);
        bool differs = was != NULL && is != NULL ? !configs_equal(was, is) : was != is;
        ck_assert_int_eq(difference_has_topic(difference, &id), differs);
        int32_t most = was == NULL ? 0 : was->partition_count;
        if (is != NULL && is->partition_count > most)
            most = is->partition_count;
        for (int32_t i = 0; i < most; i++) {
            struct partition_id partition = {id, i};
            const struct image_partition *p = image_partition(before, &partition);
            const struct image_partition *q = image_partition(after, &partition);
            bool changed = p == NULL || q == NULL || memcmp(p, q, sizeof(*p)) != 0;
            ck_assert_int_eq(difference_has(difference, &partition), changed);
        }
    }
    for (node_id_t node = 1; node <= BROKERS; node++) {
        const struct image_broker *p = image_broker(before, node), *q = image_broker(after, node);
        bool changed =
            p != NULL && q != NULL ? p->epoch != q->epoch || p->state != q->state : p != q;
        bool listed = false;
        for (size_t i = 0; i < difference->broker_count; i++)
            listed = listed || difference->brokers[i] == node;
        ck_assert(listed || !changed);
    }
}

START_TEST(random_histories_survive_a_snapshot_and_name_their_differences)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    for (int history = 0; history < 20; history++) {
        struct image *image = lab_image();
        struct image *first = image_ref(image);
        for (int step = 0; step < STEPS; step++) {
            struct image *before = image_ref(image);
            struct image_difference *difference;
            image = random_step(image, &rng, &difference);
            difference_check(difference, before, image);
            image_difference_free(difference);

            struct image *restored = round_trip(image);
            difference = image_difference_between(image, restored);
            ck_assert_uint_eq(difference->partition_count, 0);
            ck_assert_uint_eq(difference->topic_count, 0);
            ck_assert_uint_eq(difference->broker_count, 0);
            ck_assert(!difference->voters_changed);
            image_difference_free(difference);
            if (rng_chance(&rng, 500000)) { /* go on from the restored one */
                image_unref(image);
                image = image_ref(restored);
            }
            image_unref(restored);
            image_unref(before);
        }
        struct image_difference *difference = image_difference_between(first, image);
        difference_check(difference, first, image);
        image_difference_free(difference);
        image_unref(first);
        image_unref(image);
    }
}
END_TEST

START_TEST(the_digest_does_not_depend_on_the_order_of_things)
{
    struct record_list list = {0};
    lab_topic(&list, 1, "a");
    lab_partition(&list, 1, 0, 1, 3);
    lab_topic(&list, 2, "b");
    lab_partition(&list, 2, 0, 2, 2);
    lab_config(&list, 1, "k", "v");
    struct image *one = lab_apply(lab_image(), &list, NULL);
    lab_topic(&list, 3, "c");
    lab_topic(&list, 2, "b");
    lab_topic(&list, 1, "a");
    lab_config(&list, 1, "k", "w");
    lab_config(&list, 1, "k", "v");
    lab_partition(&list, 2, 0, 2, 2);
    lab_partition(&list, 1, 0, 1, 3);
    lab_delete_topic(&list, 3);
    struct image *other = lab_apply(lab_image(), &list, NULL);
    ck_assert_uint_eq(image_digest(one), image_digest(other));
    lab_config(&list, 1, "k", "x");
    other = lab_apply(other, &list, NULL);
    ck_assert_uint_ne(image_digest(one), image_digest(other));
    image_unref(one);
    image_unref(other);
}
END_TEST

START_TEST(an_open_transaction_survives_a_snapshot)
{
    struct record_list list = {0};
    lab_begin(&list);
    lab_topic(&list, 1, "a");
    struct image *image = lab_apply(lab_image(), &list, NULL);
    struct image *restored = round_trip(image);
    ck_assert(image_transaction_open(restored));
    lab_end(&list);
    restored = lab_apply(restored, &list, NULL);
    ck_assert_ptr_nonnull(image_topic_by_name(restored, "a"));
    image_unref(restored);
    image_unref(image);
}
END_TEST

START_TEST(topics_are_walked_in_order_of_creation_also_after_a_snapshot)
{
    struct record_list list = {0};
    lab_topic(&list, 5, "z");
    lab_topic(&list, 3, "y");
    lab_topic(&list, 9, "x");
    struct image *image = lab_apply(lab_image(), &list, NULL);
    lab_delete_topic(&list, 3);
    lab_topic(&list, 3, "y");
    image = lab_apply(image, &list, NULL);
    struct image *restored = round_trip(image);
    struct image_difference *difference = image_difference_all(restored);
    ck_assert_uint_eq(difference->topic_count, 3);
    const uint64_t order[] = {5, 9, 3};
    for (size_t i = 0; i < 3; i++) {
        struct uuid id = lab_uuid(order[i]);
        ck_assert(uuid_equal(&difference->topics[i], &id));
    }
    ck_assert_uint_eq(difference->broker_count, 3);
    ck_assert(difference->voters_changed);
    image_difference_free(difference);
    image_unref(restored);
    image_unref(image);
}
END_TEST

START_TEST(a_damaged_snapshot_is_refused)
{
    struct image *image = lab_image();
    uint8_t *data;
    size_t len;
    ck_assert_int_eq(image_encode_snapshot(image, &data, &len), ERR_OK);
    struct image *restored = NULL;
    for (size_t cut = 0; cut < len; cut++)
        ck_assert_int_eq(image_decode_snapshot((struct bytes){data, cut}, &restored), ERR_CORRUPT);
    for (size_t at = 0; at < len; at++) {
        data[at] ^= 0x10;
        ck_assert_int_eq(image_decode_snapshot((struct bytes){data, len}, &restored), ERR_CORRUPT);
        data[at] ^= 0x10;
    }
    ck_assert_ptr_null(restored);
    free(data);
    image_unref(image);
}
END_TEST

START_TEST(what_was_made_and_dropped_in_one_edit_is_no_difference)
{
    struct record_list list = {0};
    lab_topic(&list, 1, "a");
    lab_partition(&list, 1, 0, 1, 3);
    lab_delete_topic(&list, 1);
    lab_broker_change(&list, 1, 11, BROKER_STATE_FENCED);
    lab_broker_change(&list, 1, 11, BROKER_STATE_ACTIVE);
    struct image_difference *difference;
    struct image *image = lab_apply(lab_image(), &list, &difference);
    ck_assert_uint_eq(difference->partition_count, 0);
    ck_assert_uint_eq(difference->topic_count, 0);
    ck_assert_uint_eq(difference->broker_count, 0);
    image_difference_free(difference);
    image_unref(image);
}
END_TEST

CHECK_MAIN("metadata/snapshot", random_histories_survive_a_snapshot_and_name_their_differences,
           the_digest_does_not_depend_on_the_order_of_things,
           an_open_transaction_survives_a_snapshot,
           topics_are_walked_in_order_of_creation_also_after_a_snapshot,
           a_damaged_snapshot_is_refused, what_was_made_and_dropped_in_one_edit_is_no_difference)
