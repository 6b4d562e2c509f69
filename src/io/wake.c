#include "io/wake.h"

#include <errno.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

err_t io_wake_init(struct io_wake *wake)
{
    atomic_init(&wake->armed, false);
    wake->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    return wake->fd < 0 ? err_from_errno(errno) : ERR_OK;
}

void io_wake_fini(struct io_wake *wake)
{
    if (wake->fd >= 0)
        close(wake->fd);
    wake->fd = -1;
}

/* The exchanges order the two sides: either the owner's arm comes later, and it sees what the
 * ringer did before; or the ringer sees the flag, and writes. */
void io_wake_ring(struct io_wake *wake)
{
    if (!atomic_exchange_explicit(&wake->armed, false, memory_order_acq_rel))
        return;
    uint64_t one = 1;
    (void)!write(wake->fd, &one, sizeof(one)); /* EAGAIN: the counter is full, so it is readable */
}

void io_wake_arm(struct io_wake *wake)
{
    (void)atomic_exchange_explicit(&wake->armed, true, memory_order_acq_rel);
}

void io_wake_disarm(struct io_wake *wake)
{
    (void)atomic_exchange_explicit(&wake->armed, false, memory_order_acq_rel);
}

void io_wake_clear(struct io_wake *wake)
{
    uint64_t count;
    (void)!read(wake->fd, &count, sizeof(count)); /* EAGAIN: already cleared */
}
