#include "base/table.h"

#include <stdio.h>

#include "base/rng.h"
#include "lib/check_main.h"

enum { KEYS = 500 };

/* Against a plain array, under random calls; the walk must be in order of insertion. */
START_TEST(a_table_agrees_with_an_array)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct table table;
    table_init(&table, rng_next(&rng));
    static uint64_t keys[KEYS], since[KEYS]; /* since: the step of insertion; 0: absent */
    for (size_t i = 0; i < KEYS; i++)
        keys[i] = i < 3 ? i : rng_next(&rng);
    size_t count = 0;
    for (uint64_t step = 1; step < 50000; step++) {
        size_t i = rng_below(&rng, KEYS);
        ck_assert_ptr_eq(table_get(&table, keys[i]), since[i] == 0 ? NULL : &keys[i]);
        if (rng_chance(&rng, 500000)) {
            ck_assert_int_eq(table_put(&table, keys[i], &keys[i]), ERR_OK);
            count += since[i] == 0;
            since[i] = since[i] == 0 ? step : since[i];
        } else {
            ck_assert_ptr_eq(table_remove(&table, keys[i]), since[i] == 0 ? NULL : &keys[i]);
            count -= since[i] != 0;
            since[i] = 0;
        }
        ck_assert_uint_eq(table_count(&table), count);
        if (step % 100 != 0)
            continue;
        uint64_t before = 0;
        size_t walked = 0;
        table_for_each (uint64_t, key, &table) {
            uint64_t inserted = since[key - keys];
            ck_assert_uint_gt(inserted, before);
            before = inserted;
            walked++;
        }
        ck_assert_uint_eq(walked, count);
    }
    table_fini(&table);
}
END_TEST

START_TEST(keys_of_bytes_are_compared_by_content)
{
    struct table table;
    table_init(&table, 1);
    static char names[1000][16];
    for (size_t i = 0; i < 1000; i++) {
        int len = snprintf(names[i], sizeof(names[i]), "topic-%zu", i);
        struct bytes key = {.data = (const uint8_t *)names[i], .len = (size_t)len};
        ck_assert_int_eq(table_put_bytes(&table, key, names[i]), ERR_OK);
    }
    const uint8_t other[] = "topic-77x";
    struct bytes key = {.data = other, .len = 8};
    ck_assert_ptr_eq(table_get_bytes(&table, key), names[77]);
    key.len = 9;
    ck_assert_ptr_null(table_get_bytes(&table, key));
    key.len = 8;
    ck_assert_ptr_eq(table_remove_bytes(&table, key), names[77]);
    ck_assert_ptr_null(table_get_bytes(&table, key));
    struct bytes nothing = {0};
    ck_assert_ptr_null(table_get_bytes(&table, nothing));
    ck_assert_int_eq(table_put_bytes(&table, nothing, names), ERR_OK);
    ck_assert_ptr_eq(table_get_bytes(&table, nothing), names);
    table_fini(&table);
}
END_TEST

START_TEST(the_walk_does_not_depend_on_the_seed)
{
    struct table a, b;
    table_init(&a, 1);
    table_init(&b, 2);
    static int values[100];
    for (uint64_t i = 0; i < 100; i++) {
        ck_assert_int_eq(table_put(&a, i * 977, &values[i]), ERR_OK);
        ck_assert_int_eq(table_put(&b, i * 977, &values[i]), ERR_OK);
    }
    uint32_t at_a = 0, at_b = 0;
    for (int i = 0; i <= 100; i++)
        ck_assert_ptr_eq(table_next(&a, &at_a), table_next(&b, &at_b));
    table_fini(&a);
    table_fini(&b);
}
END_TEST

START_TEST(entries_may_be_removed_on_the_way)
{
    struct table table;
    table_init(&table, 3);
    static uint64_t keys[100];
    for (uint64_t i = 0; i < 100; i++) {
        keys[i] = i;
        ck_assert_int_eq(table_put(&table, i, &keys[i]), ERR_OK);
    }
    size_t walked = 0;
    table_for_each (uint64_t, key, &table) {
        ck_assert_ptr_eq(table_remove(&table, *key), key);
        walked++;
    }
    ck_assert_uint_eq(walked, 100);
    ck_assert_uint_eq(table_count(&table), 0);
    table_clear(&table);
    ck_assert_int_eq(table_put(&table, 5, &keys[5]), ERR_OK);
    ck_assert_ptr_eq(table_get(&table, 5), &keys[5]);
    table_fini(&table);
}
END_TEST

/* A table that is filled and emptied for ever must not grow for ever. */
START_TEST(removed_entries_are_reclaimed)
{
    struct table table;
    table_init(&table, 4);
    int value = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        ck_assert_int_eq(table_put(&table, i, &value), ERR_OK);
        if (i >= 10)
            ck_assert_ptr_nonnull(table_remove(&table, i - 10));
    }
    ck_assert_uint_le(table.capacity, 64);
    table_fini(&table);
}
END_TEST

CHECK_MAIN("base/table", a_table_agrees_with_an_array, keys_of_bytes_are_compared_by_content,
           the_walk_does_not_depend_on_the_seed, entries_may_be_removed_on_the_way,
           removed_entries_are_reclaimed)
