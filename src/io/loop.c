#include "io/loop.h"

#include "io/node.h"

static void loop_on_wake(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* the actor has it */
    (void)what;
    struct io_loop *loop = arg;
    io_wake_clear(&loop->actor->wake);
}

static void loop_on_timer(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* as above */
    (void)what;
    struct io_loop *loop = arg;
    io_timers_clear(&loop->actor->timers);
}

err_t io_loop_init(struct io_loop *loop, struct io_actor *actor, const struct io_config *config)
{
    *loop = (struct io_loop){.actor = actor};
    struct event_config *how = event_config_new();
    if (how == NULL)
        return ERR_NO_MEMORY;
    /* No locks: one thread. No change list: what is deleted must be out of the kernel's set before
     * its descriptor is closed, since another thread may get the same number at once. */
    event_config_set_flag(how, EVENT_BASE_FLAG_NOLOCK);
    loop->base = event_base_new_with_config(how);
    event_config_free(how);
    if (loop->base == NULL)
        return ERR_NO_MEMORY;
    event_assign(&loop->wake_event, loop->base, actor->wake.fd, EV_READ | EV_PERSIST, loop_on_wake,
                 loop);
    event_assign(&loop->timer_event, loop->base, actor->timers.fd, EV_READ | EV_PERSIST,
                 loop_on_timer, loop);
    event_add(&loop->wake_event, NULL);
    event_add(&loop->timer_event, NULL);
    err_t err = io_net_new(actor, loop->base, config, &loop->net);
    if (err != ERR_OK)
        io_loop_fini(loop);
    return err;
}

void io_loop_fini(struct io_loop *loop)
{
    if (loop->base == NULL)
        return;
    io_net_free(loop->net);
    event_del(&loop->wake_event);
    event_del(&loop->timer_event);
    event_base_free(loop->base);
    loop->base = NULL;
}

void io_loop_run(void *arg)
{
    struct io_loop *loop = arg;
    struct io_actor *actor = loop->actor;
    bool more = true; /* what was asked for before the start */
    while (!io_actor_stopping(actor)) {
        bool wait = !more && io_actor_may_wait(actor) && !io_net_handed_any(loop->net);
        io_net_turn_begin(loop->net);
        event_base_loop(loop->base, wait ? EVLOOP_ONCE : EVLOOP_NONBLOCK);
        io_actor_awake(actor);
        more = io_actor_work(actor);
        more = io_net_work(loop->net) || more;
        io_actor_turn_end(actor);
        more = io_net_flush(loop->net) || more;
    }
    /* Asked to end in order: what the kernel takes of the last replies still goes out. */
    if (io_node_exit_code(actor->node) == 0)
        (void)io_net_flush(loop->net);
}
