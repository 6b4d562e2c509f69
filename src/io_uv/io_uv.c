#include "io_uv/io_uv.h"

#include <stdlib.h>
#include <uv.h>

#include "io/node.h"

struct uv_actor {
    struct io_actor *actor;
    uv_loop_t loop;
    uv_poll_t wake, timer;
    unsigned open; /* handles of the two that are initialised */
};

static err_t uv_actor_error(int status)
{
    /* On Unix libuv's codes are negated errno. */
    return status >= 0 ? ERR_OK : err_from_errno(-status);
}

static void uv_actor_on_wake(uv_poll_t *poll, int status, int events)
{
    (void)status; /* an eventfd does not fail */
    (void)events;
    struct uv_actor *self = container_of(poll, struct uv_actor, wake);
    io_wake_clear(&self->actor->wake);
}

static void uv_actor_on_timer(uv_poll_t *poll, int status, int events)
{
    (void)status; /* nor does a timerfd */
    (void)events;
    struct uv_actor *self = container_of(poll, struct uv_actor, timer);
    io_timers_clear(&self->actor->timers);
}

static void uv_actor_run(void *arg)
{
    struct uv_actor *self = arg;
    struct io_actor *actor = self->actor;
    bool more = true; /* what was asked for before the start */
    while (!io_actor_stopping(actor)) {
        bool wait = !more && io_actor_may_wait(actor);
        uv_run(&self->loop, wait ? UV_RUN_ONCE : UV_RUN_NOWAIT);
        io_actor_awake(actor);
        more = io_actor_work(actor);
        io_actor_turn_end(actor);
    }
}

static void uv_actor_free(void *arg)
{
    struct uv_actor *self = arg;
    if (self->open > 0)
        uv_close((uv_handle_t *)&self->wake, NULL);
    if (self->open > 1)
        uv_close((uv_handle_t *)&self->timer, NULL);
    uv_run(&self->loop, UV_RUN_DEFAULT); /* until both are closed */
    int status = uv_loop_close(&self->loop);
    ASSERT(status == 0);
    free(self);
}

static err_t uv_actor_watch(struct uv_actor *self, uv_poll_t *poll, int fd,
                            uv_poll_cb when_readable)
{
    int status = uv_poll_init(&self->loop, poll, fd);
    if (status < 0)
        return uv_actor_error(status);
    self->open++;
    return uv_actor_error(uv_poll_start(poll, UV_READABLE, when_readable));
}

err_t io_uv_add_quorum(struct io_node *node)
{
    struct uv_actor *self = calloc(1, sizeof(*self));
    if (self == NULL)
        return ERR_NO_MEMORY;
    self->actor = io_node_quorum(node);
    err_t err = uv_actor_error(uv_loop_init(&self->loop));
    if (err != ERR_OK) {
        free(self);
        return err;
    }
    err = uv_actor_watch(self, &self->wake, self->actor->wake.fd, uv_actor_on_wake);
    if (err == ERR_OK)
        err = uv_actor_watch(self, &self->timer, self->actor->timers.fd, uv_actor_on_timer);
    if (err != ERR_OK) {
        uv_actor_free(self);
        return err;
    }
    io_node_set_quorum_loop(
        node, &(struct io_foreign_loop){.run = uv_actor_run, .free = uv_actor_free, .loop = self});
    return ERR_OK;
}
