#include "io/timers.h"

#include <poll.h>

#include "base/rng.h"
#include "lib/check_main.h"

enum { TIMERS = 200 };

struct timed {
    struct env_timer timer;
    struct fired *fired;
    uint64_t wanted_ns;
};

struct fired {
    struct io_timers timers;
    const struct timed *order[TIMERS * 2];
    unsigned count, stop_after, restarts;
    struct timed timed[TIMERS];
};

static void note_fired(struct env_timer *timer, uint64_t now_ns)
{
    struct timed *timed = container_of(timer, struct timed, timer);
    ck_assert_uint_eq(timer->due_ns, 0); /* no longer started */
    ck_assert_uint_ge(now_ns, timed->wanted_ns);
    timed->fired->order[timed->fired->count++] = timed;
}

static bool go_on(void *context)
{
    const struct fired *fired = context;
    return fired->stop_after == 0 || fired->count < fired->stop_after;
}

static void fired_init(struct fired *fired)
{
    *fired = (struct fired){0};
    ck_assert_int_eq(io_timers_init(&fired->timers), ERR_OK);
    for (unsigned i = 0; i < TIMERS; i++) {
        fired->timed[i].timer.fire = note_fired;
        fired->timed[i].fired = fired;
    }
}

static void start(struct fired *fired, struct timed *timed, uint64_t due_ns)
{
    timed->wanted_ns = due_ns;
    ck_assert_int_eq(io_timers_start(&fired->timers, &timed->timer, due_ns), ERR_OK);
}

static void wait_for_fd(struct fired *fired)
{
    struct pollfd at = {.fd = fired->timers.fd, .events = POLLIN};
    io_timers_arm(&fired->timers);
    ck_assert_int_eq(poll(&at, 1, -1), 1);
    io_timers_clear(&fired->timers);
}

START_TEST(timers_fire_in_order_and_none_too_early)
{
    static struct fired fired;
    fired_init(&fired);
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    uint64_t now = io_clock_mono_ns();
    for (unsigned i = 0; i < TIMERS; i++)
        start(&fired, &fired.timed[i], now + rng_below(&rng, ENV_MS(20)));
    for (unsigned i = 0; i < TIMERS; i += 2) /* a started timer moves */
        start(&fired, &fired.timed[i], now + rng_below(&rng, ENV_MS(20)));
    while (fired.count < TIMERS) {
        wait_for_fd(&fired);
        (void)io_timers_run(&fired.timers, go_on, &fired);
    }
    for (unsigned i = 1; i < TIMERS; i++)
        ck_assert_uint_le(fired.order[i - 1]->wanted_ns, fired.order[i]->wanted_ns);
    io_timers_fini(&fired.timers);
}
END_TEST

START_TEST(timers_of_the_same_time_fire_as_they_were_started)
{
    static struct fired fired;
    fired_init(&fired);
    for (unsigned i = 0; i < TIMERS; i++)
        start(&fired, &fired.timed[i], 5);
    start(&fired, &fired.timed[0], 5);
    ck_assert(!io_timers_run(&fired.timers, go_on, &fired));
    ck_assert_uint_eq(fired.count, TIMERS);
    for (unsigned i = 0; i < TIMERS; i++)
        ck_assert_ptr_eq(fired.order[i], &fired.timed[(i + 1) % TIMERS]);
    io_timers_fini(&fired.timers);
}
END_TEST

START_TEST(stopped_timers_do_not_fire)
{
    static struct fired fired;
    fired_init(&fired);
    for (unsigned i = 0; i < 10; i++)
        start(&fired, &fired.timed[i], i);
    for (unsigned i = 0; i < 10; i += 2) {
        io_timers_stop(&fired.timers, &fired.timed[i].timer);
        io_timers_stop(&fired.timers, &fired.timed[i].timer); /* twice is once */
        ck_assert_uint_eq(fired.timed[i].timer.due_ns, 0);
    }
    (void)io_timers_run(&fired.timers, go_on, &fired);
    ck_assert_uint_eq(fired.count, 5);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_ptr_eq(fired.order[i], &fired.timed[i * 2 + 1]);
    io_timers_fini(&fired.timers);
}
END_TEST

static void fire_again(struct env_timer *timer, uint64_t now_ns)
{
    struct timed *timed = container_of(timer, struct timed, timer);
    timed->fired->restarts++;
    ck_assert_int_eq(io_timers_start(&timed->fired->timers, timer, now_ns), ERR_OK);
}

START_TEST(a_timer_that_is_always_due_does_not_hold_the_loop)
{
    static struct fired fired;
    fired_init(&fired);
    fired.timed[0].timer.fire = fire_again;
    start(&fired, &fired.timed[0], 1);
    ck_assert(io_timers_run(&fired.timers, go_on, &fired)); /* says that something is left */
    ck_assert_uint_eq(fired.restarts, 1);
    io_timers_stop(&fired.timers, &fired.timed[0].timer);
    ck_assert(!io_timers_run(&fired.timers, go_on, &fired));
    io_timers_fini(&fired.timers);
}
END_TEST

START_TEST(a_stopped_actor_gets_no_more_timers)
{
    static struct fired fired;
    fired_init(&fired);
    for (unsigned i = 0; i < 10; i++)
        start(&fired, &fired.timed[i], 1);
    fired.stop_after = 3;
    ck_assert(io_timers_run(&fired.timers, go_on, &fired));
    ck_assert_uint_eq(fired.count, 3);
    io_timers_fini(&fired.timers);
}
END_TEST

START_TEST(an_earlier_timer_moves_the_wake_up)
{
    static struct fired fired;
    fired_init(&fired);
    uint64_t now = io_clock_mono_ns();
    start(&fired, &fired.timed[0], now + ENV_MS(3600 * 1000));
    io_timers_arm(&fired.timers);
    start(&fired, &fired.timed[1], now + ENV_MS(1));
    wait_for_fd(&fired); /* not in an hour */
    (void)io_timers_run(&fired.timers, go_on, &fired);
    ck_assert_uint_eq(fired.count, 1);
    io_timers_fini(&fired.timers);
}
END_TEST

CHECK_MAIN("io/timers", timers_fire_in_order_and_none_too_early,
           timers_of_the_same_time_fire_as_they_were_started, stopped_timers_do_not_fire,
           a_timer_that_is_always_due_does_not_hold_the_loop, a_stopped_actor_gets_no_more_timers,
           an_earlier_timer_moves_the_wake_up)
