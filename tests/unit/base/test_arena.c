#include "base/arena.h"

#include <string.h>

#include "lib/check_main.h"

START_TEST(pieces_are_aligned_and_do_not_overlap)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    uint8_t *pieces[500];
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
        pieces[i] = arena_alloc(&a, i);
        ck_assert_ptr_nonnull(pieces[i]);
        ck_assert_uint_eq((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)(i & 0xff), i);
    }
    for (size_t i = 0; i < ARRAY_LEN(pieces); i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_eq(pieces[i][j], i & 0xff);
    arena_fini(&a);
}
END_TEST

START_TEST(a_piece_over_the_cap_is_refused)
{
    struct arena a;
    arena_init(&a, 1000);
    ck_assert_ptr_nonnull(arena_alloc(&a, 900));
    ck_assert_ptr_null(arena_alloc(&a, 101));
    ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
    arena_reset(&a);
    ck_assert_ptr_nonnull(arena_alloc(&a, 1000));
    ck_assert_ptr_null(arena_alloc(&a, 1));
    arena_fini(&a);
}
END_TEST

START_TEST(many_small_pieces_stay_under_the_cap)
{
    struct arena a;
    arena_init(&a, 16 * 1024);
    size_t given = 0;
    while (given < 100000 && arena_alloc(&a, 0) != NULL)
        given++;
    ck_assert_uint_le(given, 1024);
    arena_fini(&a);
}
END_TEST

START_TEST(calloc_clears_reused_memory_and_checks_the_product)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    memset(arena_alloc(&a, 4096), 0xff, 4096);
    arena_reset(&a);
    const uint8_t *cleared = arena_calloc(&a, 64, 64);
    for (size_t i = 0; i < 4096; i++)
        ck_assert_uint_eq(cleared[i], 0);
    ck_assert_ptr_null(arena_calloc(&a, SIZE_MAX / 2, 4));
    arena_fini(&a);
}
END_TEST

START_TEST(blocks_are_kept_by_a_reset)
{
    struct arena a;
    arena_init(&a, 1 << 20);
    const void *first = arena_alloc(&a, 100);
    (void)arena_alloc(&a, 100000);
    for (int i = 0; i < 10; i++) {
        arena_reset(&a);
        ck_assert_ptr_eq(arena_alloc(&a, 100), first);
    }
    arena_fini(&a);
}
END_TEST

START_TEST(strdup_copies)
{
    struct arena a;
    arena_init(&a, 64);
    char text[] = "orders";
    const char *copy = arena_strdup(&a, text);
    text[0] = 'b';
    ck_assert_str_eq(copy, "orders");
    arena_fini(&a);
}
END_TEST

START_TEST(fini_accepts_zeroed)
{
    struct arena a = {0};
    arena_fini(&a);
    ck_assert_ptr_null(a.first);
}
END_TEST

CHECK_MAIN("base/arena", pieces_are_aligned_and_do_not_overlap, a_piece_over_the_cap_is_refused,
           many_small_pieces_stay_under_the_cap, calloc_clears_reused_memory_and_checks_the_product,
           blocks_are_kept_by_a_reset, strdup_copies, fini_accepts_zeroed)
