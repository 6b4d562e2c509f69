#include "base/ring.h"

#include <pthread.h>
#include <sched.h>
#include <stdint.h>

#include "lib/check_main.h"

START_TEST(a_full_ring_refuses_and_keeps_the_order)
{
    struct ring ring;
    int messages[9];
    ck_assert_int_eq(ring_init(&ring, 8), ERR_OK);
    ck_assert(ring_empty(&ring));
    ck_assert_ptr_null(ring_pop(&ring));
    for (int lap = 0; lap < 5; lap++) {
        for (int i = 0; i < 8; i++)
            ck_assert(ring_push(&ring, &messages[i]));
        ck_assert(!ring_push(&ring, &messages[8]));
        ck_assert(!ring_empty(&ring));
        ck_assert_ptr_eq(ring_pop(&ring), &messages[0]);
        ck_assert(ring_push(&ring, &messages[8]));
        for (int i = 1; i < 9; i++)
            ck_assert_ptr_eq(ring_pop(&ring), &messages[i]);
        ck_assert_ptr_null(ring_pop(&ring));
    }
    ring_fini(&ring);
}
END_TEST

enum { MESSAGES = 200000 };

static void *produce(void *argument)
{
    struct ring *ring = argument;
    for (uintptr_t i = 1; i <= MESSAGES; i++)
        while (!ring_push(ring, (void *)i)) /* NOLINT: a number in place of a message */
            sched_yield();
    return NULL;
}

START_TEST(two_threads_lose_and_reorder_nothing)
{
    struct ring ring;
    ck_assert_int_eq(ring_init(&ring, 64), ERR_OK);
    pthread_t producer;
    ck_assert_int_eq(pthread_create(&producer, NULL, produce, &ring), 0);
    for (uintptr_t expected = 1; expected <= MESSAGES;) {
        uintptr_t got = (uintptr_t)ring_pop(&ring);
        if (got == 0) {
            sched_yield();
            continue;
        }
        ck_assert_uint_eq(got, expected);
        expected++;
    }
    ck_assert_int_eq(pthread_join(producer, NULL), 0);
    ck_assert(ring_empty(&ring));
    ring_fini(&ring);
}
END_TEST

START_TEST(fini_accepts_zeroed)
{
    struct ring ring = {0};
    ring_fini(&ring);
    ck_assert_ptr_null(ring.slots);
}
END_TEST

CHECK_MAIN("base/ring", a_full_ring_refuses_and_keeps_the_order,
           two_threads_lose_and_reorder_nothing, fini_accepts_zeroed)
