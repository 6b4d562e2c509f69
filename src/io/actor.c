#include "io/actor.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "io/node.h"

static uint64_t actor_mono_ns(void *self)
{
    (void)self; /* one clock for all */
    return io_clock_mono_ns();
}

static int64_t actor_wall_ms(void *self)
{
    (void)self; /* as above */
    return io_clock_wall_ms();
}

static uint64_t actor_random(void *self)
{
    struct io_actor *actor = self;
    return rng_next(&actor->rng);
}

static void actor_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    struct io_actor *actor = self;
    if (io_timers_start(&actor->timers, timer, due_ns) != ERR_OK)
        io_node_end(actor->node, 1, "no memory for a timer");
}

static void actor_timer_stop(void *self, struct env_timer *timer)
{
    struct io_actor *actor = self;
    io_timers_stop(&actor->timers, timer);
}

static err_t actor_post(void *self, unsigned to_actor, void *message)
{
    struct io_actor *actor = self;
    return io_mailbox_post(&actor->mailbox, to_actor, message);
}

static err_t actor_submit(void *self, void (*run)(void *arg), void *arg, struct env_done *op)
{
    struct io_actor *actor = self;
    op->target = NULL;
    struct io_job job = {.run = run, .arg = arg, .op = op, .inbox = &actor->inbox};
    return io_workers_submit(actor->workers, &job);
}

static void actor_exit_node(void *self, int code, const char *why)
{
    struct io_actor *actor = self;
    io_node_end(actor->node, code, why);
}

static err_t actor_init_disks(struct io_actor *actor, struct io_directory *directories,
                              size_t count)
{
    if (count == 0)
        return ERR_OK;
    actor->disks = calloc(count, sizeof(*actor->disks));
    actor->env.disks = calloc(count, sizeof(*actor->env.disks));
    if (actor->disks == NULL || actor->env.disks == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < count; i++) {
        io_disk_init(&actor->disks[i], &directories[i], actor->number);
        actor->env.disks[i] = io_disk_env(&actor->disks[i]);
        directories[i].inboxes[actor->number] = &actor->inbox;
    }
    actor->env.disk_count = count;
    return ERR_OK;
}

err_t io_actor_init(struct io_actor *actor, struct io_node *node, unsigned number,
                    struct io_directory *directories, size_t directory_count)
{
    *actor = (struct io_actor){.node = node, .number = number, .workers = &node->workers};
    actor->timers.fd = -1;
    actor->wake.fd = -1;
    uint64_t seed = 0;
    err_t err = getrandom(&seed, sizeof(seed), 0) == sizeof(seed) ? ERR_OK : ERR_IO;
    rng_seed(&actor->rng, seed);
    io_inbox_init(&actor->inbox, &actor->wake);
    io_mailbox_init(&actor->mailbox, &node->mail, number);
    node->mail.wakes[number] = &actor->wake;
    if (err == ERR_OK)
        err = io_wake_init(&actor->wake);
    if (err == ERR_OK)
        err = io_timers_init(&actor->timers);
    if (err == ERR_OK)
        err = actor_init_disks(actor, directories, directory_count);
    if (err != ERR_OK) {
        io_actor_fini(actor);
        return err;
    }
    actor->env.clock = (struct env_clock){actor_mono_ns, actor_wall_ms, actor};
    actor->env.mail = (struct env_mail){actor_post, actor};
    actor->env.workers = (struct env_workers){actor_submit, actor};
    actor->env.random = actor_random;
    actor->env.timer_start = actor_timer_start;
    actor->env.timer_stop = actor_timer_stop;
    actor->env.exit_node = actor_exit_node;
    actor->env.self = actor;
    return ERR_OK;
}

void io_actor_fini(struct io_actor *actor)
{
    for (size_t i = 0; i < actor->env.disk_count; i++)
        io_disk_fini(&actor->disks[i]);
    free(actor->disks);
    free(actor->env.disks);
    actor->disks = NULL;
    actor->env.disks = NULL;
    actor->env.disk_count = 0;
    io_timers_fini(&actor->timers);
    io_inbox_fini(&actor->inbox);
    io_wake_fini(&actor->wake);
}

void io_actor_stop(struct io_actor *actor)
{
    atomic_store_explicit(&actor->stopping, true, memory_order_relaxed);
    io_wake_ring(&actor->wake);
}

static bool actor_go_on(void *context)
{
    return !io_actor_stopping(context);
}

static bool actor_take_mail(void *context, void *message)
{
    struct io_actor *actor = context;
    if (actor->env.upcalls.mail != NULL)
        actor->env.upcalls.mail(actor->env.actor, message);
    return !io_actor_stopping(actor);
}

static void actor_tell_room(void *context, unsigned to)
{
    struct io_actor *actor = context;
    if (actor->env.upcalls.mail_room != NULL && !io_actor_stopping(actor))
        actor->env.upcalls.mail_room(actor->env.actor, to);
}

static void actor_complete(struct io_actor *actor)
{
    struct list_node ops;
    list_init(&ops);
    io_inbox_take(&actor->inbox, &ops);
    struct list_node *node;
    while (!io_actor_stopping(actor) && (node = list_pop_front(&ops)) != NULL) {
        struct env_done *op = list_entry(node, struct env_done, link);
        if (op->target != NULL)
            io_disk_synced(op);
        op->done(op, op->err); /* may free it */
    }
}

bool io_actor_work(struct io_actor *actor)
{
    bool more = io_timers_run(&actor->timers, actor_go_on, actor);
    actor_complete(actor);
    io_mailbox_tell_room(&actor->mailbox, actor_tell_room, actor);
    if (!io_actor_stopping(actor) && io_mailbox_drain(&actor->mailbox, actor_take_mail, actor))
        more = true;
    return more;
}

void io_actor_turn_end(struct io_actor *actor)
{
    if (actor->env.upcalls.turn_ended != NULL && !io_actor_stopping(actor))
        actor->env.upcalls.turn_ended(actor->env.actor);
    for (size_t i = 0; i < actor->env.disk_count; i++)
        io_disk_submit(&actor->disks[i]);
    io_mailbox_ring(&actor->mailbox);
}

bool io_actor_may_wait(struct io_actor *actor)
{
    io_wake_arm(&actor->wake);
    if (io_actor_stopping(actor) || io_inbox_any(&actor->inbox) || io_mailbox_any(&actor->mailbox))
        return false;
    io_timers_arm(&actor->timers);
    return true;
}

void io_actor_awake(struct io_actor *actor)
{
    io_wake_disarm(&actor->wake);
}
