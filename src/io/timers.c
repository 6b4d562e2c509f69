#include "io/timers.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { NS_PER_S = 1000000000, NS_PER_MS = 1000000, MS_PER_S = 1000 };

uint64_t io_clock_mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_BOOTTIME, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

int64_t io_clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * MS_PER_S + now.tv_nsec / NS_PER_MS;
}

err_t io_timers_init(struct io_timers *timers)
{
    *timers = (struct io_timers){0};
    heap_init(&timers->heap);
    timers->fd = timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
    return timers->fd < 0 ? err_from_errno(errno) : ERR_OK;
}

void io_timers_fini(struct io_timers *timers)
{
    if (timers->fd >= 0)
        close(timers->fd);
    timers->fd = -1;
    heap_fini(&timers->heap);
}

err_t io_timers_start(struct io_timers *timers, struct env_timer *timer, uint64_t due_ns)
{
    heap_remove(&timers->heap, &timer->heap);
    timer->due_ns = due_ns == 0 ? 1 : due_ns; /* 0 says that it is not started */
    timer->heap.key = timer->due_ns;
    timer->heap.sequence = timers->sequence++;
    err_t err = heap_push(&timers->heap, &timer->heap);
    if (err != ERR_OK)
        timer->due_ns = 0;
    return err;
}

void io_timers_stop(struct io_timers *timers, struct env_timer *timer)
{
    heap_remove(&timers->heap, &timer->heap);
    timer->due_ns = 0;
}

bool io_timers_run(struct io_timers *timers, bool (*go_on)(void *context), void *context)
{
    if (heap_top(&timers->heap) == NULL)
        return false;
    uint64_t now = io_clock_mono_ns();
    uint32_t left = timers->heap.count; /* a timer that restarts itself for the past ends no loop */
    for (;;) {
        struct heap_node *node = heap_top(&timers->heap);
        if (node == NULL || node->key > now)
            return false;
        if (left-- == 0 || !go_on(context))
            return true;
        struct env_timer *timer = heap_entry(heap_pop(&timers->heap), struct env_timer, heap);
        timer->due_ns = 0;
        timer->fire(timer, now);
    }
}

void io_timers_arm(struct io_timers *timers)
{
    struct heap_node *node = heap_top(&timers->heap);
    /* One wake-up too early costs less than a system call for each deadline that is met: requests
     * start and stop their timers all the time. */
    if (node == NULL || (timers->armed_ns != 0 && timers->armed_ns <= node->key))
        return;
    struct itimerspec at = {
        .it_value = {.tv_sec = (time_t)(node->key / NS_PER_S),
                     .tv_nsec = (long)(node->key % NS_PER_S)},
    };
    timerfd_settime(timers->fd, TFD_TIMER_ABSTIME, &at, NULL);
    timers->armed_ns = node->key;
}

void io_timers_clear(struct io_timers *timers)
{
    uint64_t count;
    (void)!read(timers->fd, &count, sizeof(count)); /* EAGAIN: set anew meanwhile */
    timers->armed_ns = 0;
}
