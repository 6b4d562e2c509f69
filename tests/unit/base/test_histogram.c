#include "base/histogram.h"

#include <stdlib.h>

#include "base/rng.h"
#include "lib/check_main.h"

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

START_TEST(quantiles_are_within_a_thirty_second)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    static uint64_t values[5000];
    static struct histogram h;
    histogram_init(&h);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        values[i] = rng_next(&rng) >> rng_below(&rng, 64);
        histogram_add(&h, values[i]);
    }
    qsort(values, ARRAY_LEN(values), sizeof(values[0]), compare_u64);
    for (size_t rank = 1; rank <= ARRAY_LEN(values); rank++) {
        uint64_t exact = values[rank - 1];
        uint64_t got = histogram_quantile(&h, ((double)rank - 0.5) / (double)ARRAY_LEN(values));
        ck_assert_uint_ge(got, exact);
        ck_assert_uint_le(got - exact, exact / 32);
    }
    ck_assert_uint_eq(histogram_quantile(&h, 0), values[0]);
    ck_assert_uint_eq(histogram_quantile(&h, 1), values[ARRAY_LEN(values) - 1]);
}
END_TEST

START_TEST(small_values_are_exact)
{
    struct histogram h;
    histogram_init(&h);
    for (uint64_t i = 0; i < 32; i++)
        histogram_add(&h, i);
    for (uint64_t i = 0; i < 32; i++)
        ck_assert_uint_eq(histogram_quantile(&h, ((double)i + 0.5) / 32), i);
}
END_TEST

START_TEST(the_extremes_fit)
{
    struct histogram h;
    histogram_init(&h);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
    histogram_add(&h, 0);
    histogram_add(&h, UINT64_MAX);
    ck_assert_uint_eq(h.min, 0);
    ck_assert_uint_eq(h.max, UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 1), UINT64_MAX);
    ck_assert_uint_eq(histogram_quantile(&h, 0.5), 0);
}
END_TEST

START_TEST(merging_is_adding_all)
{
    static struct histogram a, b, both, empty;
    histogram_init(&a);
    histogram_init(&b);
    histogram_init(&both);
    histogram_init(&empty);
    for (uint64_t i = 1; i < 1000; i++) {
        histogram_add(i % 3 == 0 ? &a : &b, i * i);
        histogram_add(&both, i * i);
    }
    histogram_merge(&a, &b);
    histogram_merge(&a, &empty);
    ck_assert_mem_eq(&a, &both, sizeof(a));
}
END_TEST

CHECK_MAIN("base/histogram", quantiles_are_within_a_thirty_second, small_values_are_exact,
           the_extremes_fit, merging_is_adding_all)
