#include "io/net.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* "255.255.255.255:65535", "[ffff:...:ffff%interface]:65535" */
enum { NET_PEER_SIZE = 96 };

/* ---- the table ---- */

struct net_conn *net_take(struct io_net *net, int fd, enum net_state state)
{
    uint32_t slot = net->free_first;
    if (slot != UINT32_MAX) {
        net->free_first = net->conns[slot].next_free;
    } else {
        slot = net->conns_used++;
        ASSERT(slot < net->connections_max); /* counted before */
    }
    struct net_conn *conn = &net->conns[slot];
    uint32_t generation = conn->generation == 0 ? 1 : conn->generation;
    *conn = (struct net_conn){.net = net, .slot = slot, .generation = generation};
    conn->state = state;
    conn->fd = fd;
    list_init(&conn->dirty_link);
    list_init(&conn->news_link);
    list_init(&conn->parked_link);
    conn->read_ns = conn->written_ns = net_now(net);
    return conn;
}

/* Leaves nothing but the state and the generation. */
static void net_tear_down(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    if (conn->reading)
        event_del(&conn->read_event);
    if (conn->writing)
        event_del(&conn->write_event);
    conn->reading = conn->writing = false;
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    net->actor->env.timer_stop(net->actor, &conn->timer);
    list_remove(&conn->dirty_link);
    list_remove(&conn->news_link);
    list_remove(&conn->parked_link);
    conn->news = 0;
    net_drop_output(conn);
    frame_unref(conn->frame);
    frame_unref(conn->held);
    conn->frame = conn->held = NULL;
    conn->head_used = 0;
    net_stop_growing(conn);
    net_dial_detach(conn);
}

void net_release(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    net_tear_down(conn);
    conn->state = NET_FREE;
    conn->generation += conn->generation == UINT32_MAX ? 2 : 1; /* 0 is nobody's */
    conn->next_free = net->free_first;
    net->free_first = conn->slot;
    atomic_fetch_sub_explicit(&net->conn_count, 1, memory_order_relaxed);
}

void net_fail(struct net_conn *conn, err_t err)
{
    ASSERT(conn->state != NET_FREE);
    ASSERT(conn->state != NET_DEAD);
    if (conn->finishing) {
        net_release(conn);
        return;
    }
    net_tear_down(conn);
    conn->state = NET_DEAD;
    conn->err = err;
    net_add_news(conn, NET_NEWS_CLOSED);
}

bool net_is_open(const struct net_conn *conn, uint32_t generation)
{
    return conn->generation == generation && conn->state == NET_OPEN && !conn->finishing &&
           !io_actor_stopping(conn->net->actor);
}

/* NULL: the handle is of nobody whom the actor may still speak to. */
static struct net_conn *net_find(struct io_net *net, env_conn handle)
{
    if (handle.generation == 0 || handle.slot >= net->conns_used)
        return NULL;
    struct net_conn *conn = &net->conns[handle.slot];
    if (conn->generation != handle.generation || conn->state == NET_FREE || conn->finishing)
        return NULL;
    return conn;
}

/* ---- reading or not ---- */

void net_update_reading(struct net_conn *conn)
{
    bool wanted = (conn->state == NET_OPEN && conn->paused == 0 && !conn->finishing) ||
                  conn->state == NET_LINGERING;
    if (wanted == conn->reading)
        return;
    conn->reading = wanted;
    if (wanted) {
        conn->read_ns = net_now(conn->net); /* the pause was not the peer's */
        event_add(&conn->read_event, NULL);
    } else {
        event_del(&conn->read_event);
        net_stop_growing(conn); /* another may, meanwhile */
    }
}

void net_set_pause(struct net_conn *conn, unsigned why, bool paused)
{
    conn->paused = paused ? conn->paused | why : conn->paused & ~why;
    if (conn->paused == NET_PAUSE_HELD)
        net_add_news(conn, NET_NEWS_HELD);
    net_update_reading(conn);
}

/* ---- timers ---- */

/* What is read for a peer that takes none of it is memory that others wait for. */
static bool net_starves_others(const struct net_conn *conn, uint64_t now_ns)
{
    if (conn->output_bytes == 0 || now_ns - conn->written_ns < ENV_MS(NET_STALL_SHORT_MS))
        return false;
    if (net_crowded(conn->net) && !conn->trusted)
        return true;
    for (uint32_t i = 0; i < conn->output_count; i++) {
        const struct frame_budget *budget = net_output_at(conn, i)->frame->budget;
        if (budget != NULL &&
            atomic_load_explicit(&budget->used, memory_order_relaxed) > budget->bytes_max)
            return true;
    }
    return false;
}

static void net_timer_fired(struct env_timer *timer, uint64_t now_ns)
{
    struct net_conn *conn = container_of(timer, struct net_conn, timer);
    if (conn->state == NET_LINGERING) {
        net_release(conn);
        return;
    }
    if (conn->state != NET_OPEN) {
        net_fail(conn, ERR_UNREACHABLE); /* dial_ms is over */
        return;
    }
    uint64_t stall_ns = conn->net->stall_ns;
    uint64_t since = now_ns;
    if (conn->output_bytes > 0)
        since = conn->written_ns;
    if (conn->reading && (conn->frame != NULL || conn->head_used > 0) && conn->read_ns < since)
        since = conn->read_ns;
    if (now_ns - since >= stall_ns || net_starves_others(conn, now_ns))
        net_fail(conn, ERR_REQUEST_TIMED_OUT);
    else if (conn->output_bytes > 0 || conn->frame != NULL || conn->head_used > 0)
        net_watch_stall(conn, now_ns);
}

void net_watch_stall(struct net_conn *conn, uint64_t now_ns)
{
    uint64_t stall_ns = conn->net->stall_ns, short_ns = ENV_MS(NET_STALL_SHORT_MS);
    net_start_timer(conn, now_ns + (stall_ns < short_ns ? stall_ns : short_ns));
}

/* A started timer is left as it is: it looks again when it fires. */
void net_start_timer(struct net_conn *conn, uint64_t due_ns)
{
    if (conn->timer.due_ns != 0)
        return;
    conn->timer.fire = net_timer_fired;
    conn->net->actor->env.timer_start(conn->net->actor, &conn->timer, due_ns);
}

/* ---- news ---- */

void net_add_news(struct net_conn *conn, unsigned news)
{
    if (conn->news == 0)
        list_push_back(&conn->net->news, &conn->news_link);
    conn->news |= news;
}

static void net_tell(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    const struct env_upcalls *upcalls = &net->actor->env.upcalls;
    void *actor = net->actor->env.actor;
    env_conn handle = net_handle(conn);
    unsigned news = conn->news;
    conn->news = 0;
    if ((news & NET_NEWS_CLOSED) != 0) {
        err_t err = conn->err;
        net_release(conn);
        if (upcalls->closed != NULL)
            upcalls->closed(actor, handle, err);
        return;
    }
    if (conn->finishing)
        return;
    if ((news & NET_NEWS_CONNECTED) != 0 && upcalls->connected != NULL)
        upcalls->connected(actor, handle);
    if ((news & NET_NEWS_DRAINED) != 0 && upcalls->drained != NULL &&
        net_is_open(conn, handle.generation))
        upcalls->drained(actor, handle);
    if ((news & NET_NEWS_HELD) != 0 && net_is_open(conn, handle.generation) &&
        conn->paused == NET_PAUSE_HELD)
        net_hand_held(conn);
}

static bool net_tell_all(struct io_net *net)
{
    struct list_node now;
    list_init(&now);
    io_list_move(&now, &net->news); /* what comes up meanwhile is told in the next turn */
    struct list_node *node;
    while (!io_actor_stopping(net->actor) && (node = list_pop_front(&now)) != NULL)
        net_tell(list_entry(node, struct net_conn, news_link));
    while ((node = list_pop_front(&now)) != NULL)
        list_push_back(&net->news, node);
    return !list_empty(&net->news);
}

/* ---- accepted connections ---- */

bool io_net_count(struct io_net *net, uint32_t limit)
{
    unsigned count = atomic_load_explicit(&net->conn_count, memory_order_relaxed);
    do {
        if (count >= limit)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&net->conn_count, &count, count + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool io_net_hand(struct io_net *net, const struct net_handed *handed)
{
    pthread_mutex_lock(&net->handed_lock);
    bool room = net->handed_count < NET_HANDED_MAX;
    if (room) {
        net->handed[net->handed_count++] = *handed;
        atomic_store_explicit(&net->handed_any, true, memory_order_relaxed);
    }
    pthread_mutex_unlock(&net->handed_lock);
    if (room)
        io_wake_ring(&net->actor->wake);
    return room;
}

bool io_net_handed_any(struct io_net *net)
{
    return atomic_load_explicit(&net->handed_any, memory_order_relaxed);
}

void net_assign_events(struct net_conn *conn)
{
    event_assign(&conn->read_event, conn->net->base, conn->fd, EV_READ | EV_PERSIST,
                 net_on_readable, conn);
    event_assign(&conn->write_event, conn->net->base, conn->fd, EV_WRITE | EV_PERSIST,
                 net_on_writable, conn);
}

static void net_adopt(struct io_net *net, const struct net_handed *handed)
{
    struct net_conn *conn = net_take(net, handed->fd, NET_OPEN);
    net_assign_events(conn);
    net_update_reading(conn);

    char host[NET_PEER_SIZE - 16] = "?", port[8] = "?", peer[NET_PEER_SIZE];
    (void)getnameinfo((const struct sockaddr *)&handed->peer, sizeof(handed->peer), host,
                      sizeof(host), port, sizeof(port),
                      NI_NUMERICHOST | NI_NUMERICSERV); /* fails: "?", it is for log lines */
    bool v6 = handed->peer.ss_family == AF_INET6;
    snprintf(peer, sizeof(peer), v6 ? "[%s]:%s" : "%s:%s", host, port);
    if (net->actor->env.upcalls.accepted != NULL)
        net->actor->env.upcalls.accepted(net->actor->env.actor, net_handle(conn), handed->listener,
                                         peer);
}

static void net_take_handed(struct io_net *net)
{
    while (io_net_handed_any(net) && !io_actor_stopping(net->actor)) {
        struct net_handed handed;
        pthread_mutex_lock(&net->handed_lock);
        handed = net->handed[--net->handed_count];
        atomic_store_explicit(&net->handed_any, net->handed_count > 0, memory_order_relaxed);
        pthread_mutex_unlock(&net->handed_lock);
        net_adopt(net, &handed);
    }
}

/* ---- env_net ---- */

static err_t net_send(void *self, env_conn handle, struct frame *frame, size_t at, size_t bytes)
{
    ASSERT(at <= frame->capacity);
    ASSERT(bytes <= frame->capacity - at);
    struct net_conn *conn = net_find(self, handle);
    err_t err = ERR_CLOSED;
    if (conn != NULL && conn->state != NET_DEAD)
        err = net_queue(conn, frame, at, bytes);
    if (err != ERR_OK || bytes == 0)
        frame_unref(frame);
    return err;
}

static void net_trust(void *self, env_conn handle)
{
    struct net_conn *conn = net_find(self, handle);
    if (conn == NULL || conn->trusted)
        return;
    conn->trusted = true;
    list_remove(&conn->parked_link);
    if (conn->state == NET_OPEN)
        net_set_pause(conn, NET_PAUSE_BUDGET, false);
}

static size_t net_queued_bytes(void *self, env_conn handle)
{
    const struct net_conn *conn = net_find(self, handle);
    return conn == NULL ? 0 : conn->output_bytes;
}

static void net_movement(void *self, env_conn handle, uint64_t *ret_received_ns,
                         size_t *ret_untaken)
{
    const struct net_conn *conn = net_find(self, handle);
    int in_kernel = 0;
    *ret_received_ns = 0;
    *ret_untaken = 0;
    if (conn == NULL || conn->state != NET_OPEN)
        return;
    if (ioctl(conn->fd, SIOCOUTQ, &in_kernel) != 0)
        in_kernel = 0; /* as if it were taken: then only answers count */
    *ret_received_ns = conn->read_ns;
    *ret_untaken = conn->output_bytes + (size_t)in_kernel;
}

static void net_pause_reads(void *self, env_conn handle, bool paused)
{
    struct net_conn *conn = net_find(self, handle);
    if (conn != NULL && conn->state != NET_DEAD)
        net_set_pause(conn, NET_PAUSE_ACTOR, paused);
}

static void net_drop(void *self, env_conn handle)
{
    struct net_conn *conn = net_find(self, handle);
    if (conn != NULL)
        net_release(conn);
}

static void net_finish(void *self, env_conn handle)
{
    struct net_conn *conn = net_find(self, handle);
    if (conn == NULL)
        return;
    if (conn->state == NET_DEAD) {
        net_release(conn);
        return;
    }
    conn->finishing = true;
    net_update_reading(conn);
    /* The end of the turn sends what there is, or finds that all is sent. */
    if (conn->state == NET_OPEN && !conn->writing) {
        list_remove(&conn->dirty_link);
        list_push_back(&conn->net->dirty, &conn->dirty_link);
    }
}

/* ---- the loop's side ---- */

void io_net_turn_begin(struct io_net *net)
{
    net->now_ns = 0;
}

uint64_t net_now(struct io_net *net)
{
    if (net->now_ns == 0)
        net->now_ns = io_clock_mono_ns();
    return net->now_ns;
}

bool io_net_work(struct io_net *net)
{
    net_take_handed(net);
    net_unpark(net);
    return net_tell_all(net);
}

bool io_net_flush(struct io_net *net)
{
    struct list_node *node;
    while ((node = list_pop_front(&net->dirty)) != NULL)
        net_write(list_entry(node, struct net_conn, dirty_link));
    return !list_empty(&net->news) || net_may_unpark(net);
}

err_t io_net_new(struct io_actor *actor, struct event_base *base, const struct io_config *config,
                 struct io_net **ret_net)
{
    struct io_net *net = calloc(1, sizeof(*net));
    if (net == NULL)
        return ERR_NO_MEMORY;
    net->actor = actor;
    net->base = base;
    net->budget.bytes_max = config->budget_bytes / config->shard_count;
    net->frame_bytes_max = config->frame_bytes_max;
    net->output_bytes_max = config->output_bytes_max;
    net->stall_ns = ENV_MS(config->stall_ms);
    net->dial_ns = ENV_MS(config->dial_ms);
    net->connections_max = config->connections_max;
    net->free_first = UINT32_MAX;
    list_init(&net->dirty);
    list_init(&net->news);
    list_init(&net->parked);
    list_init(&net->dials);
    pthread_mutex_init(&net->handed_lock, NULL);
    net->conns = calloc(net->connections_max, sizeof(*net->conns));
    net->read_ahead = malloc(NET_READ_AHEAD_BYTES);
    if (net->conns == NULL || net->read_ahead == NULL) {
        io_net_free(net);
        return ERR_NO_MEMORY;
    }
    actor->env.net = (struct env_net){
        .dial = net_dial,
        .send = net_send,
        .queued_bytes = net_queued_bytes,
        .movement = net_movement,
        .pause_reads = net_pause_reads,
        .trust = net_trust,
        .drop = net_drop,
        .finish = net_finish,
        .self = net,
    };
    *ret_net = net;
    return ERR_OK;
}

void io_net_free(struct io_net *net)
{
    if (net == NULL)
        return;
    for (uint32_t slot = 0; net->conns != NULL && slot < net->conns_used; slot++) {
        if (net->conns[slot].state != NET_FREE)
            net_release(&net->conns[slot]);
    }
    net_dials_free(net);
    for (size_t i = 0; i < net->handed_count; i++)
        close(net->handed[i].fd);
    free(net->conns);
    free(net->read_ahead);
    pthread_mutex_destroy(&net->handed_lock);
    free(net);
}
