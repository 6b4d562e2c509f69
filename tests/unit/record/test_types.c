#include "lib/check_main.h"
#include "record/types.h"

#include <string.h>

START_TEST(topic_names_follow_kafkas_rules)
{
    ck_assert(topic_name_legal("a"));
    ck_assert(topic_name_legal("orders.2026_11-28"));
    ck_assert(topic_name_legal("..."));
    ck_assert(topic_name_legal(".a"));
    ck_assert(!topic_name_legal(""));
    ck_assert(!topic_name_legal("."));
    ck_assert(!topic_name_legal(".."));
    ck_assert(!topic_name_legal("a/b"));
    ck_assert(!topic_name_legal("a b"));
    ck_assert(!topic_name_legal("na\xc3\xafve"));
}
END_TEST

START_TEST(topic_names_end_at_249_letters)
{
    char name[TOPIC_NAME_MAX + 2];
    memset(name, 'x', sizeof(name));
    name[TOPIC_NAME_MAX] = '\0';
    ck_assert(topic_name_legal(name));
    name[TOPIC_NAME_MAX] = 'x';
    name[TOPIC_NAME_MAX + 1] = '\0';
    ck_assert(!topic_name_legal(name));
}
END_TEST

START_TEST(partitions_spread_over_the_shards)
{
    int counts[3] = {0};
    struct partition_id id = {.topic = uuid_make(1, 2)};
    for (id.index = 0; id.index < 3000; id.index++)
        counts[partition_shard(&id, 3)]++;
    for (int i = 0; i < 3; i++)
        ck_assert_int_gt(counts[i], 800);
}
END_TEST

CHECK_MAIN("record/types", topic_names_follow_kafkas_rules, topic_names_end_at_249_letters,
           partitions_spread_over_the_shards)
