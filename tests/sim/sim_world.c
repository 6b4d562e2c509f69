#include "sim/sim_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TURN_ITEMS_MAX = 64 };

/* ---- what comes later ---- */

struct sim_later {
    struct sim_event event;
    struct list_node link;
    sim_later_fn *step;
    uint64_t args[SIM_LATER_ARGS];
};

static void later_run(struct sim_world *world, struct sim_event *event)
{
    struct sim_later *later = container_of(event, struct sim_later, event);
    list_remove(&later->link);
    later->step(world, later->args);
    free(later);
}

void sim_later(struct sim_world *world, uint64_t delay_ns, sim_later_fn *step,
               const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_later *later = calloc(1, sizeof *later);
    ASSERT(later != NULL);
    later->event.run = later_run;
    later->step = step;
    memcpy(later->args, args, sizeof later->args);
    list_push_back(&world->laters, &later->link);
    sim_schedule(world, &later->event, delay_ns);
}

static void laters_drop(struct sim_world *world)
{
    for (struct list_node *node; (node = list_pop_front(&world->laters)) != NULL;) {
        struct sim_later *later = list_entry(node, struct sim_later, link);
        sim_unschedule(world, &later->event);
        free(later);
    }
}

/* ---- world ---- */

void sim_world_init(struct sim_world *world, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    rng_seed(&world->rng, seed);
    heap_init(&world->events);
    list_init(&world->conns);
    list_init(&world->laters);
    world->hash = seed;
    world->net = (struct sim_net_options){
        .delay_min_ns = 20000,
        .delay_max_ns = 400000,
        .queue_bytes_max = 8 << 20,
        .give_up_ns = ENV_MS(10000),
    };
}

void sim_world_fini(struct sim_world *world)
{
    for (unsigned i = 0; i < world->host_count; i++) {
        sim_host_stop(world->hosts[i]);
        free(world->hosts[i]);
    }
    sim_net_fini(world);
    laters_drop(world);
    heap_fini(&world->events);
}

void sim_note(struct sim_world *world, uint64_t value)
{
    world->hash = (world->hash ^ value) * UINT64_C(0x9E3779B97F4A7C15);
    world->hash ^= world->hash >> 29;
}

void sim_schedule(struct sim_world *world, struct sim_event *event, uint64_t delay_ns)
{
    sim_unschedule(world, event);
    event->node.key = world->now_ns + delay_ns;
    event->node.sequence = world->sequence++;
    ASSERT(heap_push(&world->events, &event->node) == ERR_OK);
}

void sim_unschedule(struct sim_world *world, struct sim_event *event)
{
    heap_remove(&world->events, &event->node);
}

bool sim_step(struct sim_world *world)
{
    struct heap_node *node = heap_pop(&world->events);
    if (node == NULL)
        return false;
    ASSERT(node->key >= world->now_ns);
    world->now_ns = node->key;
    world->events_run++;
    struct sim_event *event = heap_entry(node, struct sim_event, node);
    event->run(world, event);
    return true;
}

void sim_run_until(struct sim_world *world, uint64_t until_ns)
{
    for (const struct heap_node *top;
         (top = heap_top(&world->events)) != NULL && top->key <= until_ns;)
        (void)sim_step(world); /* there is one */
    world->now_ns = until_ns;
}

/* ---- clock and timers of an actor ---- */

static uint64_t host_mono(const struct sim_host *host)
{
    int64_t now = (int64_t)host->world->now_ns;
    return (uint64_t)(now + host->clock_offset_ns + now / 1000000 * host->clock_ppm);
}

static uint64_t actor_mono_ns(void *self)
{
    return host_mono(((struct sim_actor *)self)->host);
}

static int64_t actor_wall_ms(void *self)
{
    const struct sim_host *host = ((struct sim_actor *)self)->host;
    return INT64_C(1700000000000) + (int64_t)(host_mono(host) / 1000000) + host->wall_offset_ms;
}

static uint64_t actor_random(void *self)
{
    return rng_next(&((struct sim_actor *)self)->host->world->rng);
}

static bool item_lags(const struct sim_actor *actor, const struct sim_item *item)
{
    return item->kind == SIM_ITEM_MAIL &&
           actor->host->world->now_ns < actor->mail_lags_until_ns[item->source];
}

/* Since when there is something to look at: from now on, or when the first mail has lagged enough.
 */
static uint64_t actor_items_at(struct sim_actor *actor)
{
    uint64_t now = actor->host->world->now_ns, at = UINT64_MAX;
    if (!actor->mail_lags || actor->item_count == 0)
        return actor->item_count > 0 ? now : UINT64_MAX;
    list_for_each (node, &actor->items) {
        const struct sim_item *item = list_entry(node, struct sim_item, link);
        if (!item_lags(actor, item))
            return now;
        if (actor->mail_lags_until_ns[item->source] < at)
            at = actor->mail_lags_until_ns[item->source];
    }
    return at;
}

/* Plans the next turn: soon when items wait, else when the first timer is due. */
static void actor_plan(struct sim_actor *actor)
{
    struct sim_host *host = actor->host;
    struct sim_world *world = host->world;
    uint64_t at = actor_items_at(actor);
    if (at != UINT64_MAX)
        at += rng_between(&world->rng, host->turn_min_ns, host->turn_max_ns);
    if (heap_top(&actor->timers) != NULL) {
        uint64_t due = heap_top(&actor->timers)->key;
        uint64_t mono = host_mono(host);
        uint64_t timer_at = world->now_ns + (due > mono ? due - mono : 0);
        at = timer_at < at ? timer_at : at;
    }
    if (at == UINT64_MAX) {
        sim_unschedule(world, &actor->turn);
        return;
    }
    if (at < actor->busy_until_ns)
        at = actor->busy_until_ns;
    uint64_t asleep_until_ns = host->paused_until_ns > actor->stuck_until_ns
                                   ? host->paused_until_ns
                                   : actor->stuck_until_ns;
    if (at < asleep_until_ns)
        at = asleep_until_ns;
    if (heap_holds(&actor->turn.node) && actor->turn.node.key <= at &&
        actor->turn.node.key >= asleep_until_ns)
        return;
    sim_schedule(world, &actor->turn, at - world->now_ns);
}

static void actor_timer_stop(void *self, struct env_timer *timer)
{
    struct sim_actor *actor = self;
    if (timer->due_ns == 0)
        return;
    heap_remove(&actor->timers, &timer->heap);
    timer->due_ns = 0;
}

static void actor_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    struct sim_actor *actor = self;
    actor_timer_stop(actor, timer);
    timer->due_ns = due_ns == 0 ? 1 : due_ns;
    timer->heap =
        (struct heap_node){.key = timer->due_ns, .sequence = actor->host->world->sequence++};
    ASSERT(heap_push(&actor->timers, &timer->heap) == ERR_OK);
    actor_plan(actor);
}

/* ---- items and turns ---- */

struct sim_item *sim_actor_item(struct sim_actor *actor, enum sim_item_kind kind, uint32_t source)
{
    struct sim_item *item = calloc(1, sizeof *item);
    ASSERT(item != NULL);
    item->kind = kind;
    item->source = source;
    list_push_back(&actor->items, &item->link);
    actor->item_count++;
    actor_plan(actor);
    return item;
}

/* A random item, then the oldest of its source; NULL: all that wait lag. */
static struct sim_item *actor_take(struct sim_actor *actor)
{
    uint64_t nth = rng_below(&actor->host->world->rng, actor->item_count);
    struct list_node *node = actor->items.next;
    while (nth-- > 0)
        node = node->next;
    for (size_t tried = 0; actor->mail_lags; node = node->next) {
        if (node == &actor->items)
            continue;
        if (!item_lags(actor, list_entry(node, struct sim_item, link)))
            break;
        if (++tried == actor->item_count)
            return NULL;
    }
    uint32_t source = list_entry(node, struct sim_item, link)->source;
    node = actor->items.next;
    while (list_entry(node, struct sim_item, link)->source != source)
        node = node->next;
    list_remove(node);
    actor->item_count--;
    return list_entry(node, struct sim_item, link);
}

static void actor_mail_taken(struct sim_actor *actor, unsigned from)
{
    actor->mail_waiting[from]--;
    if (!actor->mail_refused[from] || actor->mail_waiting[from] > SIM_MAILBOX / 2)
        return;
    actor->mail_refused[from] = false;
    sim_actor_item(actor->host->actors[from], SIM_ITEM_ROOM, 1000 + actor->idx)->to_actor =
        actor->idx;
}

static void actor_run_item(struct sim_actor *actor, struct sim_item *item)
{
    struct env_upcalls *up = &actor->env.upcalls;
    void *self = actor->env.actor;
    sim_note(actor->host->world, (uint64_t)item->kind << 32 | actor->host->idx << 8 | actor->idx);
    switch (item->kind) {
    case SIM_ITEM_MAIL:
        actor_mail_taken(actor, item->source);
        up->mail(self, item->message);
        break;
    case SIM_ITEM_ROOM:
        if (up->mail_room != NULL)
            up->mail_room(self, item->to_actor);
        break;
    case SIM_ITEM_DONE:
        item->done.op->err = item->done.err;
        item->done.op->done(item->done.op, item->done.err);
        break;
    default:
        if (!sim_net_taken(actor, item))
            break;
        if (item->kind == SIM_ITEM_ACCEPTED)
            up->accepted(self, item->net.conn, 0, "sim");
        else if (item->kind == SIM_ITEM_CONNECTED)
            up->connected(self, item->net.conn);
        else if (item->kind == SIM_ITEM_FRAME)
            up->received(self, item->net.conn, item->net.frame);
        else if (item->kind == SIM_ITEM_CLOSED)
            up->closed(self, item->net.conn, item->net.err);
        else if (up->drained != NULL)
            up->drained(self, item->net.conn);
        break;
    }
}

static void actor_run_timers(struct sim_actor *actor)
{
    uint64_t now = host_mono(actor->host);
    for (int fired = 0; fired < TURN_ITEMS_MAX; fired++) {
        struct heap_node *top = heap_top(&actor->timers);
        if (top == NULL || top->key > now)
            break;
        struct env_timer *timer = heap_entry(heap_pop(&actor->timers), struct env_timer, heap);
        timer->due_ns = 0;
        sim_note(actor->host->world, 0x71 + actor->idx);
        timer->fire(timer, now);
    }
}

static void actor_turn(struct sim_world *world, struct sim_event *event)
{
    struct sim_actor *actor = container_of(event, struct sim_actor, turn);
    if (world->turn_begins != NULL)
        world->turn_begins(world, actor);
    actor_run_timers(actor);
    uint64_t budget = rng_between(&world->rng, 1, TURN_ITEMS_MAX);
    for (uint64_t i = 0; i < budget && actor->item_count > 0; i++) {
        struct sim_item *item = actor_take(actor);
        if (item == NULL)
            break;
        actor_run_item(actor, item);
        free(item);
    }
    if (actor->env.upcalls.turn_ended != NULL)
        actor->env.upcalls.turn_ended(actor->env.actor);
    actor->busy_until_ns = world->now_ns + rng_between(&world->rng, 200, 5000);
    actor_plan(actor);
    if (world->turn_ended != NULL)
        world->turn_ended(world, actor);
}

/* ---- mail, workers, exit ---- */

static err_t actor_post(void *self, unsigned to_actor, void *message)
{
    struct sim_actor *from = self;
    ASSERT(to_actor < from->host->actor_count);
    struct sim_actor *to = from->host->actors[to_actor];
    if (to->mail_waiting[from->idx] >= SIM_MAILBOX) {
        to->mail_refused[from->idx] = true;
        return ERR_FULL;
    }
    to->mail_waiting[from->idx]++;
    ((struct env_message *)message)->from = from->idx;
    sim_actor_item(to, SIM_ITEM_MAIL, from->idx)->message = message;
    return ERR_OK;
}

struct sim_delayed {
    struct sim_event event;
    struct list_node link; /* of its actor's, to be dropped with it */
    struct sim_actor *actor;
    struct env_done *op;
    err_t err;
    void (*run)(void *arg);
    void *arg;
};

enum { SOURCE_DONE = 900 };

static void delayed_run(struct sim_world *world, struct sim_event *event)
{
    (void)world;
    struct sim_delayed *delayed = container_of(event, struct sim_delayed, event);
    struct sim_actor *actor = delayed->actor;
    list_remove(&delayed->link);
    if (delayed->run != NULL)
        delayed->run(delayed->arg);
    struct sim_item *item = sim_actor_item(actor, SIM_ITEM_DONE, SOURCE_DONE);
    item->done.op = delayed->op;
    item->done.err = delayed->err;
    free(delayed);
}

static void actor_delay(struct sim_actor *actor, uint64_t delay_ns, struct sim_delayed how)
{
    struct sim_delayed *delayed = malloc(sizeof *delayed);
    ASSERT(delayed != NULL);
    *delayed = how;
    delayed->event = (struct sim_event){.run = delayed_run};
    delayed->actor = actor;
    list_push_back(&actor->delayed, &delayed->link);
    sim_schedule(actor->host->world, &delayed->event, delay_ns);
}

static err_t actor_submit(void *self, void (*run)(void *arg), void *arg, struct env_done *op)
{
    struct sim_actor *actor = self;
    uint64_t delay = rng_between(&actor->host->world->rng, 50000, 5000000);
    actor_delay(actor, delay, (struct sim_delayed){.run = run, .arg = arg, .op = op});
    return ERR_OK;
}

static void actor_disk_done(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    actor_delay(context, delay_ns, (struct sim_delayed){.op = op, .err = err});
}

static void host_exit_run(struct sim_world *world, struct sim_event *event)
{
    (void)world;
    struct sim_host *host = container_of(event, struct sim_host, exit_event);
    host->exited(host, host->exit_code, host->exit_why);
}

static void actor_exit_node(void *self, int code, const char *why)
{
    struct sim_host *host = ((struct sim_actor *)self)->host;
    if (host->exiting)
        return;
    host->exiting = true;
    host->exit_code = code;
    (void)snprintf(host->exit_why, sizeof host->exit_why, "%s", why); /* cut at the bound */
    sim_schedule(host->world, &host->exit_event, 0);
}

/* ---- hosts ---- */

struct sim_host *sim_host_add(struct sim_world *world)
{
    ASSERT(world->host_count < SIM_HOSTS_MAX);
    struct sim_host *host = calloc(1, sizeof *host);
    ASSERT(host != NULL);
    host->world = world;
    host->idx = world->host_count;
    (void)snprintf(host->name, sizeof host->name, "n%u", host->idx); /* fits */
    host->powered = true;
    host->clock_offset_ns =
        (int64_t)rng_below(&world->rng, 1000) * INT64_C(1000000000) + 1000000000;
    host->turn_min_ns = 500;
    host->turn_max_ns = 20000;
    host->exit_event.run = host_exit_run;
    world->hosts[world->host_count++] = host;
    return host;
}

static struct sim_actor *actor_new(struct sim_host *host, unsigned idx)
{
    struct sim_actor *actor = calloc(1, sizeof *actor);
    ASSERT(actor != NULL);
    actor->host = host;
    actor->idx = idx;
    actor->turn.run = actor_turn;
    list_init(&actor->items);
    heap_init(&actor->timers);
    list_init(&actor->delayed);
    struct env *env = &actor->env;
    env->clock = (struct env_clock){actor_mono_ns, actor_wall_ms, actor};
    env->mail = (struct env_mail){actor_post, actor};
    env->workers = (struct env_workers){actor_submit, actor};
    env->random = actor_random;
    env->timer_start = actor_timer_start;
    env->timer_stop = actor_timer_stop;
    env->exit_node = actor_exit_node;
    env->self = actor;
    if (host->disk != NULL) {
        sim_disk_view_init(&actor->disk, host->disk, actor_disk_done, actor);
        env->disks = &actor->disk.env;
        env->disk_count = 1;
    }
    sim_net_init(actor);
    return actor;
}

void sim_host_boot(struct sim_host *host, unsigned actor_count)
{
    ASSERT(!host->up && actor_count <= SIM_ACTORS_MAX);
    host->up = true;
    host->exiting = host->dying = false;
    host->paused_until_ns = 0;
    host->actor_count = actor_count;
    for (unsigned i = 0; i < actor_count; i++)
        host->actors[i] = actor_new(host, i);
}

static void actor_free(struct sim_actor *actor)
{
    struct sim_world *world = actor->host->world;
    sim_unschedule(world, &actor->turn);
    for (struct list_node *node; (node = list_pop_front(&actor->items)) != NULL;) {
        struct sim_item *item = list_entry(node, struct sim_item, link);
        if (item->kind == SIM_ITEM_MAIL && actor->host->message_free != NULL)
            actor->host->message_free(item->message);
        else if (item->kind == SIM_ITEM_FRAME)
            frame_unref(item->net.frame);
        free(item);
    }
    for (struct list_node *node; (node = list_pop_front(&actor->delayed)) != NULL;) {
        struct sim_delayed *delayed = list_entry(node, struct sim_delayed, link);
        sim_unschedule(world, &delayed->event);
        free(delayed);
    }
    heap_fini(&actor->timers);
    free(actor);
}

void sim_host_stop(struct sim_host *host)
{
    if (!host->up)
        return;
    host->up = false;
    sim_unschedule(host->world, &host->exit_event);
    sim_net_host_stopped(host);
    for (unsigned i = 0; i < host->actor_count; i++)
        actor_free(host->actors[i]);
    host->actor_count = 0;
    host->dying = false;
}

struct env *sim_host_env(struct sim_host *host, unsigned actor)
{
    ASSERT(actor < host->actor_count);
    return &host->actors[actor]->env;
}

void sim_host_pause(struct sim_host *host, uint64_t for_ns)
{
    host->paused_until_ns = host->world->now_ns + for_ns;
    for (unsigned i = 0; i < host->actor_count; i++)
        if (heap_holds(&host->actors[i]->turn.node))
            actor_plan(host->actors[i]);
}

void sim_actor_pause(struct sim_host *host, unsigned idx, uint64_t for_ns)
{
    ASSERT(idx < host->actor_count);
    struct sim_actor *actor = host->actors[idx];
    actor->stuck_until_ns = host->world->now_ns + for_ns;
    if (heap_holds(&actor->turn.node))
        actor_plan(actor);
}

void sim_mail_lag(struct sim_host *host, unsigned from, unsigned to, uint64_t for_ns)
{
    ASSERT(from < host->actor_count && to < host->actor_count);
    host->actors[to]->mail_lags = true;
    host->actors[to]->mail_lags_until_ns[from] = host->world->now_ns + for_ns;
}

void sim_cut(struct sim_world *world, unsigned a, unsigned b, bool cut)
{
    world->cut[a][b] = world->cut[b][a] = cut;
    sim_net_link_changed(world);
}

void sim_cut_one_way(struct sim_world *world, unsigned from, unsigned to, bool cut)
{
    world->cut[from][to] = cut;
    sim_net_link_changed(world);
}

void sim_slow_link(struct sim_world *world, unsigned from, unsigned to, uint64_t slow_ns)
{
    world->slow_ns[from][to] = slow_ns;
}

void sim_heal(struct sim_world *world)
{
    memset(world->cut, 0, sizeof world->cut);
    memset(world->slow_ns, 0, sizeof world->slow_ns);
    sim_net_link_changed(world);
}
