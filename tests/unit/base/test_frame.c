#include "base/frame.h"

#include <pthread.h>
#include <string.h>

#include "lib/check_main.h"

START_TEST(a_frame_has_the_size_asked_for_and_is_aligned)
{
    static const size_t sizes[] = {1, 255, 256, 257, 4096, 65535, 65536, 65537, 1 << 20};
    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct frame *frame = frame_new(sizes[i]);
        ck_assert_uint_eq(frame->capacity, sizes[i]);
        ck_assert_uint_eq(frame->used, 0);
        ck_assert_uint_eq((uintptr_t)frame->bytes % 16, 0);
        memset(frame->bytes, 0xa5, sizes[i]); /* all of it is ours */
        frame_unref(frame);
    }
    frame_cache_drain();
}
END_TEST

START_TEST(the_last_reference_frees_and_returns_the_charge)
{
    struct frame_budget budget = {.bytes_max = 1000};
    struct frame *small = frame_new_charged(100, &budget);
    struct frame *large = frame_new_charged(100000, &budget);
    ck_assert_uint_eq(atomic_load(&budget.used), 100100);
    ck_assert_ptr_eq(frame_ref(small), small);
    frame_unref(small);
    ck_assert_uint_eq(atomic_load(&budget.used), 100100);
    frame_unref(small);
    ck_assert_uint_eq(atomic_load(&budget.used), 100000);
    frame_unref(large);
    ck_assert_uint_eq(atomic_load(&budget.used), 0);
    frame_unref(NULL);
    frame_cache_drain();
}
END_TEST

/* More frames than the cache keeps, freed and taken again: none is given out twice. */
START_TEST(frames_alive_at_the_same_time_are_different)
{
    enum { COUNT = 3000 };
    static struct frame *frames[COUNT];
    for (int round = 0; round < 3; round++) {
        for (uint32_t i = 0; i < COUNT; i++) {
            frames[i] = frame_new(300 + i % 100);
            memcpy(frames[i]->bytes, &i, sizeof(i));
        }
        for (uint32_t i = 0; i < COUNT; i++) {
            ck_assert_mem_eq(frames[i]->bytes, &i, sizeof(i));
            ck_assert_uint_eq(frames[i]->capacity, 300 + i % 100);
        }
        for (uint32_t i = 0; i < COUNT; i++)
            frame_unref(frames[i]);
    }
    frame_cache_drain();
}
END_TEST

START_TEST(what_a_frame_brings_about_is_charged_as_long_as_it_lives)
{
    struct frame_budget budget = {.bytes_max = 1000};
    struct frame *frame = frame_new_charged(400, &budget);
    ck_assert(!frame_over_budget(frame));
    frame_charge(frame, 700);
    ck_assert(frame_over_budget(frame));
    ck_assert_uint_eq(atomic_load(&budget.used), 1100);
    frame_unref(frame);
    ck_assert_uint_eq(atomic_load(&budget.used), 0);
    frame = frame_new(100);
    frame_charge(frame, 5000);
    ck_assert(!frame_over_budget(frame)); /* there is none */
    frame_unref(frame);
}
END_TEST

static void *drop_all(void *argument)
{
    struct frame **frames = argument;
    for (; *frames != NULL; frames++)
        frame_unref(*frames);
    frame_cache_drain();
    return NULL;
}

START_TEST(references_are_dropped_on_any_thread)
{
    enum { COUNT = 2000 };
    static struct frame *frames[COUNT + 1];
    struct frame_budget budget = {0};
    for (size_t i = 0; i < COUNT; i++)
        frames[i] = frame_ref(frame_new_charged(64 + i, &budget));
    pthread_t threads[2];
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, drop_all, frames), 0);
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    ck_assert_uint_eq(atomic_load(&budget.used), 0);
}
END_TEST

CHECK_MAIN("base/frame", a_frame_has_the_size_asked_for_and_is_aligned,
           the_last_reference_frees_and_returns_the_charge,
           frames_alive_at_the_same_time_are_different,
           what_a_frame_brings_about_is_charged_as_long_as_it_lives,
           references_are_dropped_on_any_thread)
