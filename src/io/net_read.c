#include <errno.h>
#include <string.h>
#include <sys/uio.h>

#include "base/bytes.h"
#include "io/net.h"

/* ---- the budget ---- */

static size_t net_budget_used(const struct io_net *net)
{
    return atomic_load_explicit(&net->budget.used, memory_order_relaxed);
}

static bool net_over_budget(const struct io_net *net)
{
    return net_budget_used(net) > net->budget.bytes_max;
}

bool net_may_unpark(const struct io_net *net)
{
    /* An eighth under, so that not every freed frame makes all of them read. */
    return !list_empty(&net->parked) &&
           net_budget_used(net) <= net->budget.bytes_max - net->budget.bytes_max / 8;
}

/* What is begun can only be freed when it is whole, and for that it needs more than it is charged
 * for as yet: one connection after the other gets it, so that all of them together take no more
 * than the budget and two frames: the last that began to grow under it, and this one. */
static void net_let_grow(struct net_conn *conn)
{
    conn->net->grower = conn;
    conn->net->ended_ns = net_now(conn->net);
}

void net_stop_growing(struct net_conn *conn)
{
    if (conn->net->grower == conn)
        conn->net->grower = NULL;
}

static bool net_goes_on(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    if (conn->frame == NULL)
        return false;
    if (conn->frame->used < conn->frame->capacity)
        return true;
    if (net->grower == NULL)
        net_let_grow(conn);
    return net->grower == conn;
}

static void net_park(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    if (list_empty(&net->parked) && net->grower == NULL)
        net->ended_ns = net_now(net);
    net_set_pause(conn, NET_PAUSE_BUDGET, true);
    list_push_back(&net->parked, &conn->parked_link);
}

static void net_unpark_one(struct net_conn *conn)
{
    list_remove(&conn->parked_link);
    net_set_pause(conn, NET_PAUSE_BUDGET, false);
}

static void net_unpark_grower(struct io_net *net)
{
    list_for_each_safe (node, after, &net->parked) {
        struct net_conn *conn = list_entry(node, struct net_conn, parked_link);
        if (conn->frame == NULL)
            continue;
        net_let_grow(conn);
        net_unpark_one(conn);
        return;
    }
}

/* Peers that send the end of a frame byte by byte, or never, would stop all the others. Those have
 * waited long enough when no frame has ended for a while, though most of the memory is in such that
 * we do read: the largest of them goes. */
static void net_end_starvation(struct io_net *net)
{
    struct net_conn *largest = NULL;
    size_t begun = 0;
    if (net_now(net) - net->ended_ns < ENV_MS(NET_STARVED_MS))
        return;
    for (uint32_t slot = 0; slot < net->conns_used; slot++) {
        struct net_conn *conn = &net->conns[slot];
        if (conn->state != NET_OPEN || conn->trusted || !conn->reading || conn->frame == NULL)
            continue;
        begun += conn->frame->capacity;
        if (largest == NULL || conn->frame->capacity > largest->frame->capacity)
            largest = conn;
    }
    if (begun > net->budget.bytes_max / 2)
        net_fail(largest, ERR_REQUEST_TIMED_OUT);
}

static void net_budget_look(struct env_timer *timer, uint64_t now_ns)
{
    (void)timer; /* it only makes a turn, which looks at the budget */
    (void)now_ns;
}

void net_unpark(struct io_net *net)
{
    if (list_empty(&net->parked))
        return;
    if (!net_may_unpark(net)) {
        if (net->grower == NULL)
            net_unpark_grower(net);
        net_end_starvation(net);
        if (net->budget_timer.due_ns == 0) {
            net->budget_timer.fire = net_budget_look;
            net->actor->env.timer_start(net->actor, &net->budget_timer,
                                        net_now(net) + ENV_MS(NET_BUDGET_LOOK_MS));
        }
        return;
    }
    while (!list_empty(&net->parked))
        net_unpark_one(list_entry(net->parked.next, struct net_conn, parked_link));
}

/* ---- bytes to frames ---- */

static void net_hand_frame(struct net_conn *conn)
{
    const struct io_actor *actor = conn->net->actor;
    struct frame *frame = conn->frame;
    conn->frame = NULL;
    conn->last_frame_bytes = frame->used;
    conn->net->ended_ns = net_now(conn->net);
    net_stop_growing(conn);
    if (actor->env.upcalls.received != NULL)
        actor->env.upcalls.received(actor->env.actor, net_handle(conn), frame);
    else
        frame_unref(frame);
}

/* The capacity of a frame of which so much has come. */
static size_t net_frame_room(const struct net_conn *conn, size_t arrived)
{
    size_t room = arrived * NET_FRAME_GROWTH;
    if (conn->frame_bytes / 2 <= conn->last_frame_bytes)
        return conn->frame_bytes; /* it sends such frames: no copy for them */
    room = room < NET_FRAME_FIRST_BYTES ? NET_FRAME_FIRST_BYTES : room;
    return room < conn->frame_bytes ? room : conn->frame_bytes;
}

/* The begun frame has room for more bytes afterwards. */
static err_t net_grow_frame(struct net_conn *conn)
{
    struct frame *frame = conn->frame;
    if (frame->used < frame->capacity)
        return ERR_OK;
    struct frame *larger = frame_new_charged(net_frame_room(conn, frame->used), &conn->net->budget);
    if (larger == NULL)
        return ERR_NO_MEMORY;
    memcpy(larger->bytes, frame->bytes, frame->used);
    larger->used = frame->used;
    frame_unref(frame);
    conn->frame = larger;
    return ERR_OK;
}

/* Takes the next frame's length word, or what there is of it. With ERR_OK and *at < len, there is a
 * frame. */
static err_t net_begin_frame(struct net_conn *conn, const uint8_t *data, size_t len, size_t *at)
{
    while (conn->head_used < NET_FRAME_LENGTH_BYTES && *at < len)
        conn->head[conn->head_used++] = data[(*at)++];
    if (conn->head_used < NET_FRAME_LENGTH_BYTES)
        return ERR_OK;
    uint32_t length = get_u32(conn->head);
    if (length < NET_FRAME_LENGTH_MIN || length > conn->net->frame_bytes_max)
        return ERR_INVALID_REQUEST;
    conn->frame_bytes = length + NET_FRAME_LENGTH_BYTES;
    conn->frame = frame_new_charged(net_frame_room(conn, len - *at), &conn->net->budget);
    if (conn->frame == NULL)
        return ERR_NO_MEMORY;
    memcpy(conn->frame->bytes, conn->head, NET_FRAME_LENGTH_BYTES);
    conn->frame->used = NET_FRAME_LENGTH_BYTES;
    conn->head_used = 0;
    return ERR_OK;
}

/* Hands over the frames in the data until the connection is paused. Returns the bytes consumed:
 * all, when it is over. */
static size_t net_parse(struct net_conn *conn, const uint8_t *data, size_t len)
{
    uint32_t generation = conn->generation;
    size_t at = 0;
    while (at < len && (conn->paused & ~(unsigned)NET_PAUSE_HELD) == 0) {
        err_t err =
            conn->frame == NULL ? net_begin_frame(conn, data, len, &at) : net_grow_frame(conn);
        if (err != ERR_OK) {
            net_fail(conn, err);
            return len;
        }
        if (conn->frame == NULL)
            return len;
        struct frame *frame = conn->frame;
        size_t rest = frame->capacity - frame->used;
        size_t take = len - at < rest ? len - at : rest;
        memcpy(frame->bytes + frame->used, data + at, take);
        frame->used += (uint32_t)take;
        at += take;
        if (frame->used < conn->frame_bytes)
            continue;
        net_hand_frame(conn);
        if (!net_is_open(conn, generation))
            return len;
    }
    return at;
}

static void net_hold(struct net_conn *conn, const uint8_t *data, size_t len)
{
    ASSERT(conn->held == NULL);
    conn->held = frame_new_charged(len, &conn->net->budget);
    if (conn->held == NULL) {
        net_fail(conn, ERR_NO_MEMORY);
        return;
    }
    memcpy(conn->held->bytes, data, len);
    conn->held->used = (uint32_t)len;
    net_set_pause(conn, NET_PAUSE_HELD, true);
}

void net_hand_held(struct net_conn *conn)
{
    uint32_t generation = conn->generation;
    struct frame *held = frame_ref(conn->held); /* the actor may drop the connection */
    size_t consumed = net_parse(conn, held->bytes + held->at, held->used - held->at);
    held->at += (uint32_t)consumed;
    if (net_is_open(conn, generation) && held->at == held->used) {
        frame_unref(conn->held);
        conn->held = NULL;
        net_set_pause(conn, NET_PAUSE_HELD, false);
    }
    frame_unref(held);
}

/* ---- readable ---- */

static void net_discard(struct net_conn *conn)
{
    ssize_t n = read(conn->fd, conn->net->read_ahead, NET_READ_AHEAD_BYTES);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        net_release(conn);
}

/* Up to len bytes for the frame that was begun, and then into the read-ahead buffer. */
static ssize_t net_readv(struct net_conn *conn, size_t rest, size_t ahead)
{
    struct iovec parts[2];
    int count = 0;
    if (rest > 0)
        parts[count++] = (struct iovec){conn->frame->bytes + conn->frame->used, rest};
    if (ahead > 0)
        parts[count++] = (struct iovec){conn->net->read_ahead, ahead};
    return readv(conn->fd, parts, count);
}

static void net_read(struct net_conn *conn, size_t ahead)
{
    struct io_net *net = conn->net;
    if (conn->frame != NULL && net_grow_frame(conn) != ERR_OK) {
        net_fail(conn, ERR_NO_MEMORY);
        return;
    }
    size_t rest = conn->frame == NULL ? 0 : conn->frame->capacity - conn->frame->used;
    ssize_t n = net_readv(conn, rest, ahead);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        net_fail(conn, n == 0 ? ERR_CLOSED : err_from_errno(errno));
        return;
    }
    conn->read_ns = net_now(net);
    uint32_t generation = conn->generation;
    size_t got = (size_t)n, begun = got < rest ? got : rest;
    if (begun > 0) {
        conn->frame->used += (uint32_t)begun;
        if (conn->frame->used == conn->frame_bytes)
            net_hand_frame(conn);
    }
    if (got > begun && net_is_open(conn, generation)) {
        size_t left = got - begun;
        size_t consumed = net_parse(conn, net->read_ahead, left);
        if (consumed < left && net_is_open(conn, generation))
            net_hold(conn, net->read_ahead + consumed, left - consumed);
    }
    if (net_is_open(conn, generation) && (conn->frame != NULL || conn->head_used > 0))
        net_watch_stall(conn, conn->read_ns);
}

void net_on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* the connection has it */
    (void)what;
    struct net_conn *conn = arg;
    struct io_net *net = conn->net;
    if (io_actor_stopping(net->actor))
        return;
    if (conn->state == NET_LINGERING) {
        net_discard(conn);
        return;
    }
    size_t ahead = NET_READ_AHEAD_BYTES;
    if (conn->last_frame_bytes >= NET_FRAME_LARGE_BYTES)
        ahead = NET_READ_AHEAD_LARGE_BYTES;
    if (net_over_budget(net) && !conn->trusted) {
        ahead = 0;
        if (!net_goes_on(conn)) {
            net_park(conn);
            return;
        }
    }
    net_read(conn, ahead);
}
