/* inbox.h - where other threads (flushers, workers) put the completions of a loop.
 *
 * Thread:    put from any thread, take on the owner's.
 * Ownership: the operations are the caller's, embedded in its objects; nothing is allocated. */
#ifndef KARST_IO_INBOX_H
#define KARST_IO_INBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/list.h"
#include "env/env.h"
#include "io/wake.h"

struct io_inbox {
    pthread_mutex_t lock;
    struct list_node done; /* of env_done; under the lock */
    atomic_bool any;
    struct io_wake *wake;
};

void io_inbox_init(struct io_inbox *inbox, struct io_wake *wake);
void io_inbox_fini(struct io_inbox *inbox); /* what is inside is never completed */
/* Moves all of the list (of env_done, err set) into the inbox, and wakes the owner once. */
void io_inbox_put(struct io_inbox *inbox, struct list_node *ops);
/* Moves all that is there to the end of the list. */
void io_inbox_take(struct io_inbox *inbox, struct list_node *ret_ops);
bool io_inbox_any(struct io_inbox *inbox);

/* All of from goes to the end of to. */
void io_list_move(struct list_node *to, struct list_node *from);

#endif
