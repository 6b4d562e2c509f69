/* timers.h - the timers of one loop: a heap, and a timerfd that makes the loop's wait end in time.
 *
 * A timerfd and not the loops' own timers, because these run on CLOCK_MONOTONIC in milliseconds:
 * ours see a suspended machine (R10), and both loops share the code.
 * Thread: the loop's. */
#ifndef KARST_IO_TIMERS_H
#define KARST_IO_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/heap.h"
#include "env/env.h"

struct io_timers {
    struct heap heap;
    uint64_t sequence;
    uint64_t armed_ns; /* when fd fires; 0: not set */
    int fd;
};

uint64_t io_clock_mono_ns(void); /* CLOCK_BOOTTIME */
int64_t io_clock_wall_ms(void);

err_t io_timers_init(struct io_timers *timers);
void io_timers_fini(struct io_timers *timers); /* after a failed init, too */
/* Starting a started timer moves it. ERR_NO_MEMORY: it is not started. */
err_t io_timers_start(struct io_timers *timers, struct env_timer *timer, uint64_t due_ns);
void io_timers_stop(struct io_timers *timers, struct env_timer *timer);
/* Fires those that are due, in their order, until go_on returns false. Each started timer fires at
 * most once a call. Returns whether some that are due are left. */
bool io_timers_run(struct io_timers *timers, bool (*go_on)(void *context), void *context);
/* Before waiting. */
void io_timers_arm(struct io_timers *timers);
/* When fd is readable. */
void io_timers_clear(struct io_timers *timers);

#endif
