#include "lib/faults.h"

#define WORLD(...)                                                                                 \
    do {                                                                                           \
        faults_quiet();                                                                            \
        __VA_ARGS__;                                                                               \
        faults_loud();                                                                             \
    } while (0)
/* Frames that lie in the cache would hide allocations. */
#define ACTOR(...)                                                                                 \
    do {                                                                                           \
        frame_cache_drain();                                                                       \
        faults_loud();                                                                             \
        __VA_ARGS__;                                                                               \
        faults_quiet();                                                                            \
    } while (0)

static const struct env *inner_of(void *self)
{
    return &((const struct faults_env *)self)->inner;
}

/* ---- what the actor asks ---- */

static err_t net_dial(void *self, const char *host, uint16_t port, env_conn *ret_conn)
{
    const struct env_net *net = &inner_of(self)->net;
    err_t err;
    WORLD(err = net->dial(net->self, host, port, ret_conn));
    return err;
}

static err_t net_send(void *self, env_conn conn, struct frame *frame, size_t at, size_t bytes)
{
    const struct env_net *net = &inner_of(self)->net;
    err_t err;
    WORLD(err = net->send(net->self, conn, frame, at, bytes));
    return err;
}

static size_t net_queued_bytes(void *self, env_conn conn)
{
    const struct env_net *net = &inner_of(self)->net;
    return net->queued_bytes(net->self, conn);
}

static void net_pause_reads(void *self, env_conn conn, bool paused)
{
    const struct env_net *net = &inner_of(self)->net;
    WORLD(net->pause_reads(net->self, conn, paused));
}

static void net_drop(void *self, env_conn conn)
{
    const struct env_net *net = &inner_of(self)->net;
    WORLD(net->drop(net->self, conn));
}

static void net_finish(void *self, env_conn conn)
{
    const struct env_net *net = &inner_of(self)->net;
    WORLD(net->finish(net->self, conn));
}

static err_t mail_post(void *self, unsigned to_actor, void *message)
{
    const struct env_mail *mail = &inner_of(self)->mail;
    err_t err;
    WORLD(err = mail->post(mail->self, to_actor, message));
    return err;
}

static err_t workers_submit(void *self, void (*run)(void *arg), void *arg, struct env_done *op)
{
    const struct env_workers *workers = &inner_of(self)->workers;
    err_t err;
    WORLD(err = workers->submit(workers->self, run, arg, op));
    return err;
}

static uint64_t env_random(void *self)
{
    return inner_of(self)->random(inner_of(self)->self);
}

static void env_exit_node(void *self, int code, const char *why)
{
    WORLD(inner_of(self)->exit_node(inner_of(self)->self, code, why));
}

/* ---- timers ---- */

static struct faults_env *timers_of; /* the first to start one: all share its table */

static void timer_fires(struct env_timer *timer, uint64_t now_ns);

/* Gives the timer its own function back. False: it was not started by us. */
static bool timer_forget(struct env_timer *timer)
{
    for (size_t i = 0; timers_of != NULL && i < FAULTS_TIMERS_MAX; i++) {
        if (timers_of->timers[i].timer != timer)
            continue;
        timers_of->timers[i].timer = NULL;
        timer->fire = timers_of->timers[i].fire;
        return true;
    }
    return false;
}

static void timer_fires(struct env_timer *timer, uint64_t now_ns)
{
    bool known = timer_forget(timer);
    ASSERT(known);
    ACTOR(timer->fire(timer, now_ns));
}

static void timer_note(struct faults_env *faulty, struct env_timer *timer)
{
    if (timers_of == NULL)
        timers_of = faulty;
    if (timer->fire == timer_fires)
        return;
    for (size_t i = 0; i < FAULTS_TIMERS_MAX; i++) {
        if (timers_of->timers[i].timer != NULL)
            continue;
        timers_of->timers[i].timer = timer;
        timers_of->timers[i].fire = timer->fire;
        timer->fire = timer_fires;
        return;
    }
    ASSERT(!"more timers than there is room for");
}

static void env_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    timer_note(self, timer);
    WORLD(inner_of(self)->timer_start(inner_of(self)->self, timer, due_ns));
}

static void env_timer_stop(void *self, struct env_timer *timer)
{
    (void)timer_forget(timer);
    WORLD(inner_of(self)->timer_stop(inner_of(self)->self, timer));
}

/* ---- what the world tells ---- */

static void up_accepted(void *self, env_conn conn, unsigned listener, const char *peer)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.accepted(f->actor, conn, listener, peer));
}

static void up_connected(void *self, env_conn conn)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.connected(f->actor, conn));
}

static void up_received(void *self, env_conn conn, struct frame *frame)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.received(f->actor, conn, frame));
}

static void up_closed(void *self, env_conn conn, err_t err)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.closed(f->actor, conn, err));
}

static void up_mail(void *self, void *message)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.mail(f->actor, message));
}

static void up_mail_room(void *self, unsigned to_actor)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.mail_room(f->actor, to_actor));
}

static void up_turn_ended(void *self)
{
    struct faults_env *f = self;
    ACTOR(f->inner.upcalls.turn_ended(f->actor));
}

void faults_env_wrap(struct faults_env *f, struct env *env)
{
    *f = (struct faults_env){.inner = *env, .actor = env->actor};
    timers_of = NULL;
    ASSERT(env->disk_count <= FAULTS_DISKS_MAX);
    for (size_t i = 0; i < env->disk_count; i++) {
        faults_disk_init(&f->disks[i], &f->inner.disks[i]);
        f->disk_envs[i] = f->disks[i].env;
    }
    env->disks = f->disk_envs;
    env->net = (struct env_net){
        .dial = net_dial,
        .send = net_send,
        .queued_bytes = net_queued_bytes,
        .pause_reads = net_pause_reads,
        .drop = net_drop,
        .finish = net_finish,
        .self = f,
    };
    env->mail = (struct env_mail){mail_post, f};
    env->workers = (struct env_workers){workers_submit, f};
    env->random = env_random;
    env->timer_start = env_timer_start;
    env->timer_stop = env_timer_stop;
    env->exit_node = env_exit_node;
    env->self = f;
    env->actor = f;
    env->upcalls = (struct env_upcalls){
        .accepted = up_accepted,
        .connected = up_connected,
        .received = up_received,
        .closed = up_closed,
        .mail = up_mail,
        .mail_room = up_mail_room,
        .turn_ended = up_turn_ended,
    };
}
