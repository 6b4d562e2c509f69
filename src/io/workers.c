#include "io/workers.h"

#include <stdlib.h>

#include "io/thread.h"

err_t io_workers_init(struct io_workers *workers, size_t queue_max)
{
    *workers = (struct io_workers){.queue_max = queue_max};
    workers->queue = calloc(queue_max, sizeof(*workers->queue));
    if (workers->queue == NULL)
        return ERR_NO_MEMORY;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->more, NULL);
    return ERR_OK;
}

void io_workers_fini(struct io_workers *workers)
{
    if (workers->queue == NULL)
        return;
    ASSERT(workers->started == 0);
    free(workers->queue);
    workers->queue = NULL;
    pthread_cond_destroy(&workers->more);
    pthread_mutex_destroy(&workers->lock);
}

/* Returns false when the pool is stopping. */
static bool workers_take(struct io_workers *workers, struct io_job *ret_job)
{
    bool taken = false;
    pthread_mutex_lock(&workers->lock);
    while (workers->count == 0 && !workers->stopping)
        pthread_cond_wait(&workers->more, &workers->lock);
    if (!workers->stopping) {
        *ret_job = workers->queue[workers->first];
        workers->first = (workers->first + 1) % workers->queue_max;
        workers->count--;
        taken = true;
    }
    pthread_mutex_unlock(&workers->lock);
    return taken;
}

static void workers_main(void *context)
{
    struct io_workers *workers = context;
    struct io_job job;
    while (workers_take(workers, &job)) {
        job.run(job.arg);
        struct list_node ops;
        list_init(&ops);
        job.op->err = ERR_OK;
        list_push_back(&ops, &job.op->link);
        io_inbox_put(job.inbox, &ops);
    }
}

err_t io_workers_start(struct io_workers *workers, unsigned threads)
{
    ASSERT(threads <= IO_WORKERS_MAX);
    for (unsigned i = 0; i < threads; i++) {
        err_t err = io_thread_start(&workers->threads[i], "worker", workers_main, workers);
        if (err != ERR_OK)
            return err;
        workers->started++;
    }
    return ERR_OK;
}

void io_workers_stop(struct io_workers *workers)
{
    if (workers->queue == NULL)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->stopping = true;
    pthread_cond_broadcast(&workers->more);
    pthread_mutex_unlock(&workers->lock);
    for (; workers->started > 0; workers->started--)
        pthread_join(workers->threads[workers->started - 1], NULL);
}

err_t io_workers_submit(struct io_workers *workers, const struct io_job *job)
{
    err_t err = ERR_FULL;
    pthread_mutex_lock(&workers->lock);
    if (workers->count < workers->queue_max) {
        workers->queue[(workers->first + workers->count) % workers->queue_max] = *job;
        workers->count++;
        pthread_cond_signal(&workers->more);
        err = ERR_OK;
    }
    pthread_mutex_unlock(&workers->lock);
    return err;
}
