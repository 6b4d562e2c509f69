/* workers.h - a small pool of threads for blocking work, with a bounded queue.
 *
 * Thread:    submit from any thread; the work runs on the pool's, done in the owner's loop.
 * Ownership: what arg points to is the work's until done; at stop, what has not begun never runs.
 */
#ifndef KARST_IO_WORKERS_H
#define KARST_IO_WORKERS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

#include "env/env.h"
#include "io/inbox.h"

struct io_job {
    void (*run)(void *arg);
    void *arg;
    struct env_done *op;
    struct io_inbox *inbox;
};

enum { IO_WORKERS_MAX = 8 };

struct io_workers {
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct io_job *queue; /* a ring; under the lock, as all that follows */
    size_t queue_max, first, count;
    bool stopping;
    pthread_t threads[IO_WORKERS_MAX];
    unsigned started;
};

err_t io_workers_init(struct io_workers *workers, size_t queue_max);
void io_workers_fini(struct io_workers *workers); /* accepts zeroed; stopped before */
err_t io_workers_start(struct io_workers *workers, unsigned threads);
/* Waits for what runs; may be called again. */
void io_workers_stop(struct io_workers *workers);
/* ERR_FULL: nothing was taken. */
err_t io_workers_submit(struct io_workers *workers, const struct io_job *job);

#endif
