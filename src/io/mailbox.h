/* mailbox.h - messages between the actors of a node: one bounded ring for each ordered pair.
 *
 * Order:     kept between any two actors; receivers take from their senders in turn.
 * Wake-ups:  a post only notes whom to wake; io_mailbox_ring wakes each once, at the end of a turn.
 * Full:      the sender is noted; when the receiver has taken some, the sender is told (mail_room).
 * Thread:    each io_mailbox belongs to its actor's thread; io_mail_post_outside is for all others.
 * Ownership: a message belongs to the receiver once posted; what lies in the rings at the end of
 * the node is lost to it, with what it holds. */
#ifndef KARST_IO_MAILBOX_H
#define KARST_IO_MAILBOX_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/ring.h"
#include "io/wake.h"

enum {
    IO_ACTORS_MAX = 64, /* sets of actors are bits of one word */
    IO_MAIL_TURN = 256, /* messages that one sender may have taken in one turn of the receiver */
};

struct io_mail_pair {
    struct ring ring;
    atomic_bool wants_room; /* set by the sender, taken by the receiver */
    atomic_bool has_room;   /* set by the receiver, taken by the sender */
};

/* What all actors of a node share. Sender number actor_count is everybody else. */
struct io_mail {
    unsigned actor_count;
    struct io_mail_pair *pairs; /* [receiver * (actor_count + 1) + sender] */
    struct io_wake *wakes[IO_ACTORS_MAX];
    pthread_mutex_t outside; /* makes one producer of all other threads */
};

struct io_mailbox {
    struct io_mail *mail;
    unsigned number;  /* our actor */
    unsigned next;    /* the sender to begin with, so that none starves */
    uint64_t to_wake; /* actors with mail from this turn */
    uint64_t waiting; /* actors whose rings were full */
};

/* wakes of all actors must be set before anybody posts. slots: a power of two. */
err_t io_mail_init(struct io_mail *mail, unsigned actor_count, uint32_t slots);
void io_mail_fini(struct io_mail *mail); /* accepts zeroed */
/* From any thread that is no actor's; wakes the receiver. ERR_FULL, ERR_INVALID: it stays the
 * caller's. */
err_t io_mail_post_outside(struct io_mail *mail, unsigned to, void *message);

void io_mailbox_init(struct io_mailbox *box, struct io_mail *mail, unsigned number);
err_t io_mailbox_post(struct io_mailbox *box, unsigned to, void *message);
/* Wakes those who got mail since the last call. */
void io_mailbox_ring(struct io_mailbox *box);
/* Gives each message to take until it returns false, a bounded number of each sender. Returns
 * whether some are left. */
bool io_mailbox_drain(struct io_mailbox *box, bool (*take)(void *context, void *message),
                      void *context);
/* Calls room for each receiver that was full and no longer is. */
void io_mailbox_tell_room(struct io_mailbox *box, void (*room)(void *context, unsigned to),
                          void *context);
/* There is something for drain or tell_room. */
bool io_mailbox_any(const struct io_mailbox *box);

#endif
