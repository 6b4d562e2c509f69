/* wake.h - how other threads wake a loop that waits: an eventfd and an "armed" flag, so that only
 * the first of many messages costs a system call.
 *
 * Thread: ring from any thread; the rest on the thread of the loop. What a thread did before its
 *         ring is seen by the owner after arm or disarm, or the ring wakes it. */
#ifndef KARST_IO_WAKE_H
#define KARST_IO_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

struct io_wake {
    int fd;
    atomic_bool armed; /* the owner waits, or is about to */
};

err_t io_wake_init(struct io_wake *wake);
void io_wake_fini(struct io_wake *wake); /* after a failed init, too */
void io_wake_ring(struct io_wake *wake);
/* Before waiting: arm, then look once more at all that others fill, then wait or disarm. */
void io_wake_arm(struct io_wake *wake);
void io_wake_disarm(struct io_wake *wake);
/* When fd is readable. */
void io_wake_clear(struct io_wake *wake);

#endif
