#include "io/inbox.h"

void io_list_move(struct list_node *to, struct list_node *from)
{
    if (list_empty(from))
        return;
    from->next->prev = to->prev;
    to->prev->next = from->next;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}

void io_inbox_init(struct io_inbox *inbox, struct io_wake *wake)
{
    pthread_mutex_init(&inbox->lock, NULL);
    list_init(&inbox->done);
    atomic_init(&inbox->any, false);
    inbox->wake = wake;
}

void io_inbox_fini(struct io_inbox *inbox)
{
    pthread_mutex_destroy(&inbox->lock);
}

void io_inbox_put(struct io_inbox *inbox, struct list_node *ops)
{
    if (list_empty(ops))
        return;
    pthread_mutex_lock(&inbox->lock);
    io_list_move(&inbox->done, ops);
    atomic_store_explicit(&inbox->any, true, memory_order_relaxed);
    pthread_mutex_unlock(&inbox->lock);
    io_wake_ring(inbox->wake);
}

void io_inbox_take(struct io_inbox *inbox, struct list_node *ret_ops)
{
    if (!io_inbox_any(inbox))
        return;
    pthread_mutex_lock(&inbox->lock);
    io_list_move(ret_ops, &inbox->done);
    atomic_store_explicit(&inbox->any, false, memory_order_relaxed);
    pthread_mutex_unlock(&inbox->lock);
}

bool io_inbox_any(struct io_inbox *inbox)
{
    return atomic_load_explicit(&inbox->any, memory_order_relaxed);
}
