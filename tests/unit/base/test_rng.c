#include "base/rng.h"

#include "lib/check_main.h"

START_TEST(the_same_seed_gives_the_same_row)
{
    struct rng a, b;
    rng_seed(&a, 42);
    rng_seed(&b, 42);
    for (int i = 0; i < 1000; i++)
        ck_assert_uint_eq(rng_next(&a), rng_next(&b));
    rng_seed(&b, 43);
    ck_assert_uint_ne(rng_next(&a), rng_next(&b));
}
END_TEST

/* xoshiro256** from the state 1, 2, 3, 4: the first values that its authors' code gives. */
START_TEST(the_row_is_that_of_xoshiro256starstar)
{
    struct rng r = {.s = {1, 2, 3, 4}};
    ck_assert_uint_eq(rng_next(&r), UINT64_C(11520));
    ck_assert_uint_eq(rng_next(&r), UINT64_C(0));
    ck_assert_uint_eq(rng_next(&r), UINT64_C(1509978240));
    ck_assert_uint_eq(rng_next(&r), UINT64_C(1215971899390074240));
}
END_TEST

START_TEST(below_is_in_bounds_and_reaches_them)
{
    struct rng r;
    rng_seed(&r, check_main_seed());
    unsigned seen[7] = {0};
    for (int i = 0; i < 70000; i++)
        seen[rng_below(&r, 7)]++;
    for (size_t i = 0; i < 7; i++) {
        ck_assert_uint_gt(seen[i], 9000); /* ten standard deviations from 10,000 */
        ck_assert_uint_lt(seen[i], 11000);
    }
    for (int i = 0; i < 1000; i++) {
        ck_assert_uint_eq(rng_below(&r, 1), 0);
        uint64_t between = rng_between(&r, 5, 6);
        ck_assert(between == 5 || between == 6);
        ck_assert_uint_eq(rng_between(&r, UINT64_MAX, UINT64_MAX), UINT64_MAX);
    }
}
END_TEST

START_TEST(chance_is_per_million)
{
    struct rng r;
    rng_seed(&r, check_main_seed());
    unsigned hits = 0;
    for (int i = 0; i < 100000; i++) {
        hits += rng_chance(&r, 250000);
        ck_assert(!rng_chance(&r, 0));
        ck_assert(rng_chance(&r, 1000000));
    }
    ck_assert_uint_gt(hits, 23500);
    ck_assert_uint_lt(hits, 26500);
}
END_TEST

CHECK_MAIN("base/rng", the_same_seed_gives_the_same_row, the_row_is_that_of_xoshiro256starstar,
           below_is_in_bounds_and_reaches_them, chance_is_per_million)
