/* message.h - what actors send each other: a header to embed first in every message, and the outbox
 * that keeps what a full mailbox did not take, so that order is kept and nothing is lost. */
#ifndef KARST_ENV_MESSAGE_H
#define KARST_ENV_MESSAGE_H

#include "env/env.h"

struct env_message {
    struct list_node link; /* the owner's: outbox, or any list of its own */
    uint32_t type;         /* quorum/quorum.h: 1 .. 99; shard: 100 .. 199 */
    uint32_t from;         /* actor that posted it */
};

/* One for each receiver. Bounded by what its owner admits: while it is not empty, a shard takes no
 * new requests from its sockets. */
struct env_outbox {
    struct list_node waiting;
    size_t count;
};

static inline void env_outbox_init(struct env_outbox *box)
{
    list_init(&box->waiting);
    box->count = 0;
}

/* Posts what waits, in order, until full. True when nothing waits any more. For mail_room. */
static inline bool env_outbox_flush(struct env_outbox *box, struct env *env, unsigned to)
{
    while (!list_empty(&box->waiting)) {
        struct env_message *message = list_entry(box->waiting.next, struct env_message, link);
        list_remove(&message->link);
        if (env->mail.post(env->mail.self, to, message) != ERR_OK) {
            list_push_front(&box->waiting, &message->link);
            return false;
        }
        box->count--;
    }
    return true;
}

/* The message is taken in any case; false when it waits here. */
static inline bool env_outbox_post(struct env_outbox *box, struct env *env, unsigned to,
                                   struct env_message *message)
{
    list_init(&message->link);
    if (list_empty(&box->waiting) && env->mail.post(env->mail.self, to, message) == ERR_OK)
        return true;
    list_push_back(&box->waiting, &message->link);
    box->count++;
    return false;
}

#endif
