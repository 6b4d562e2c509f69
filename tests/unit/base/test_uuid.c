#include "base/uuid.h"

#include "base/rng.h"
#include "lib/check_main.h"

START_TEST(text_is_kafkas)
{
    /* org.apache.kafka.common.Uuid prints its METADATA_TOPIC_ID (0, 1) and ZERO_UUID so. */
    struct uuid id = {0};
    char text[UUID_TEXT_SIZE];
    ck_assert_str_eq(uuid_text(&id, text), "AAAAAAAAAAAAAAAAAAAAAA");
    ck_assert(uuid_is_zero(&id));
    id.b[15] = 1;
    ck_assert_str_eq(uuid_text(&id, text), "AAAAAAAAAAAAAAAAAAAAAQ");
    ck_assert(!uuid_is_zero(&id));
    memset(id.b, 0xff, sizeof(id.b));
    ck_assert_str_eq(uuid_text(&id, text), "_____________________w");
}
END_TEST

START_TEST(parsing_undoes_text)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    for (int i = 0; i < 1000; i++) {
        struct uuid id = uuid_make(rng_next(&rng), rng_next(&rng)), back;
        char text[UUID_TEXT_SIZE];
        ck_assert(uuid_parse(uuid_text(&id, text), &back));
        ck_assert(uuid_equal(&id, &back));
    }
}
END_TEST

START_TEST(other_texts_are_refused)
{
    struct uuid id;
    ck_assert(!uuid_parse("", &id));
    ck_assert(!uuid_parse("AAAAAAAAAAAAAAAAAAAAA", &id));   /* 21 */
    ck_assert(!uuid_parse("AAAAAAAAAAAAAAAAAAAAAAA", &id)); /* 23 */
    ck_assert(!uuid_parse("AAAAAAAAAAAAAAAAAAAAAB", &id));  /* spare bits */
    ck_assert(!uuid_parse("AAAAAAAAAA+AAAAAAAAAAA", &id));
    ck_assert(!uuid_parse("AAAAAAAAAA\xc3\xa4"
                          "AAAAAAAAAA",
                          &id));
}
END_TEST

START_TEST(a_made_id_is_version_4_and_never_zero)
{
    struct uuid id = uuid_make(0, 0);
    ck_assert(!uuid_is_zero(&id));
    ck_assert_uint_eq(id.b[6] >> 4, 4);
    ck_assert_uint_eq(id.b[8] >> 6, 2);
}
END_TEST

/* It chooses shards, and stands in no file: but two processes of one version must agree. */
START_TEST(the_hash_is_the_same_everywhere_and_spreads)
{
    unsigned shards[8] = {0};
    for (uint64_t i = 0; i < 8000; i++) {
        struct uuid id = {0};
        memcpy(id.b, &i, sizeof(i)); /* near ids, the worst case */
        shards[uuid_hash(&id) % 8]++;
    }
    for (size_t i = 0; i < 8; i++) {
        ck_assert_uint_gt(shards[i], 800);
        ck_assert_uint_lt(shards[i], 1200);
    }
}
END_TEST

CHECK_MAIN("base/uuid", text_is_kafkas, parsing_undoes_text, other_texts_are_refused,
           a_made_id_is_version_4_and_never_zero, the_hash_is_the_same_everywhere_and_spreads)
