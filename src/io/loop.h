/* loop.h - a shard's loop: libevent's readiness around an actor and its net. */
#ifndef KARST_IO_LOOP_H
#define KARST_IO_LOOP_H

#include "io/actor.h"
#include "io/net.h"

struct io_loop {
    struct io_actor *actor;
    struct io_net *net;
    struct event_base *base;
    struct event wake_event, timer_event;
};

err_t io_loop_init(struct io_loop *loop, struct io_actor *actor, const struct io_config *config);
void io_loop_fini(struct io_loop *loop); /* accepts zeroed */
/* The body of its thread: runs until the actor is stopped. */
void io_loop_run(void *loop);

#endif
