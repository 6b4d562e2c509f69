#include "io/mailbox.h"

#include <stdlib.h>

#include "base/assert.h"

static struct io_mail_pair *mail_pair(const struct io_mail *mail, unsigned to, unsigned from)
{
    return &mail->pairs[to * (mail->actor_count + 1) + from];
}

err_t io_mail_init(struct io_mail *mail, unsigned actor_count, uint32_t slots)
{
    ASSERT(actor_count > 0);
    ASSERT(actor_count <= IO_ACTORS_MAX);
    size_t pairs = (size_t)actor_count * (actor_count + 1);
    *mail = (struct io_mail){.actor_count = actor_count};
    mail->pairs = calloc(pairs, sizeof(*mail->pairs));
    if (mail->pairs == NULL)
        return ERR_NO_MEMORY;
    pthread_mutex_init(&mail->outside, NULL);
    for (size_t i = 0; i < pairs; i++) {
        err_t err = ring_init(&mail->pairs[i].ring, slots);
        if (err != ERR_OK) {
            io_mail_fini(mail);
            return err;
        }
    }
    return ERR_OK;
}

void io_mail_fini(struct io_mail *mail)
{
    if (mail->pairs == NULL)
        return;
    size_t pairs = (size_t)mail->actor_count * (mail->actor_count + 1);
    for (size_t i = 0; i < pairs; i++)
        ring_fini(&mail->pairs[i].ring);
    free(mail->pairs);
    mail->pairs = NULL;
    pthread_mutex_destroy(&mail->outside);
}

err_t io_mail_post_outside(struct io_mail *mail, unsigned to, void *message)
{
    if (to >= mail->actor_count)
        return ERR_INVALID;
    pthread_mutex_lock(&mail->outside);
    bool posted = ring_push(&mail_pair(mail, to, mail->actor_count)->ring, message);
    pthread_mutex_unlock(&mail->outside);
    if (!posted)
        return ERR_FULL;
    io_wake_ring(mail->wakes[to]);
    return ERR_OK;
}

void io_mailbox_init(struct io_mailbox *box, struct io_mail *mail, unsigned number)
{
    *box = (struct io_mailbox){.mail = mail, .number = number};
}

err_t io_mailbox_post(struct io_mailbox *box, unsigned to, void *message)
{
    ASSERT(message != NULL);
    if (to >= box->mail->actor_count)
        return ERR_INVALID;
    struct io_mail_pair *pair = mail_pair(box->mail, to, box->number);
    box->to_wake |= UINT64_C(1) << to;
    if (ring_push(&pair->ring, message))
        return ERR_OK;

    /* The receiver may have emptied the ring before it could see that we wait: try once more after
     * having said so. The exchanges on both sides leave no gap. */
    (void)atomic_exchange_explicit(&pair->wants_room, true, memory_order_acq_rel);
    if (ring_push(&pair->ring, message)) {
        atomic_store_explicit(&pair->wants_room, false, memory_order_relaxed);
        return ERR_OK;
    }
    box->waiting |= UINT64_C(1) << to;
    return ERR_FULL;
}

void io_mailbox_ring(struct io_mailbox *box)
{
    while (box->to_wake != 0) {
        unsigned to = (unsigned)__builtin_ctzll(box->to_wake);
        box->to_wake &= box->to_wake - 1;
        io_wake_ring(box->mail->wakes[to]);
    }
}

/* Returns false when take wants no more. */
static bool mailbox_drain_pair(struct io_mailbox *box, unsigned from,
                               bool (*take)(void *context, void *message), void *context)
{
    struct io_mail_pair *pair = mail_pair(box->mail, box->number, from);
    bool go_on = true;
    unsigned taken = 0;
    while (go_on && taken < IO_MAIL_TURN) {
        void *message = ring_pop(&pair->ring);
        if (message == NULL)
            break;
        taken++;
        go_on = take(context, message);
    }
    if (taken > 0 && from < box->mail->actor_count &&
        atomic_exchange_explicit(&pair->wants_room, false, memory_order_acq_rel)) {
        atomic_store_explicit(&pair->has_room, true, memory_order_release);
        io_wake_ring(box->mail->wakes[from]);
    }
    return go_on;
}

bool io_mailbox_drain(struct io_mailbox *box, bool (*take)(void *context, void *message),
                      void *context)
{
    unsigned senders = box->mail->actor_count + 1;
    unsigned first = box->next;
    box->next = (box->next + 1) % senders;
    for (unsigned i = 0; i < senders; i++) {
        if (!mailbox_drain_pair(box, (first + i) % senders, take, context))
            return true;
    }
    for (unsigned from = 0; from < senders; from++) {
        if (!ring_empty(&mail_pair(box->mail, box->number, from)->ring))
            return true;
    }
    return false;
}

void io_mailbox_tell_room(struct io_mailbox *box, void (*room)(void *context, unsigned to),
                          void *context)
{
    for (uint64_t left = box->waiting; left != 0; left &= left - 1) {
        unsigned to = (unsigned)__builtin_ctzll(left);
        struct io_mail_pair *pair = mail_pair(box->mail, to, box->number);
        if (!atomic_exchange_explicit(&pair->has_room, false, memory_order_acq_rel))
            continue;
        box->waiting &= ~(UINT64_C(1) << to); /* before: room may post, and find it full again */
        room(context, to);
    }
}

bool io_mailbox_any(const struct io_mailbox *box)
{
    for (uint64_t left = box->waiting; left != 0; left &= left - 1) {
        unsigned to = (unsigned)__builtin_ctzll(left);
        if (atomic_load_explicit(&mail_pair(box->mail, to, box->number)->has_room,
                                 memory_order_relaxed))
            return true;
    }
    for (unsigned from = 0; from <= box->mail->actor_count; from++) {
        if (!ring_empty(&mail_pair(box->mail, box->number, from)->ring))
            return true;
    }
    return false;
}
