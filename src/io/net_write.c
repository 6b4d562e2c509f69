#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "io/net.h"

enum { NET_OUTPUT_ROOM_MIN = 8, NET_OUTPUT_ROOM_KEPT = 256 };

static err_t net_output_grow(struct net_conn *conn)
{
    uint32_t room = conn->output_room == 0 ? NET_OUTPUT_ROOM_MIN : conn->output_room * 2;
    struct net_output *output = calloc(room, sizeof(*output));
    if (output == NULL)
        return ERR_NO_MEMORY;
    for (uint32_t i = 0; i < conn->output_count; i++)
        output[i] = *net_output_at(conn, i);
    free(conn->output);
    conn->output = output;
    conn->output_room = room;
    conn->output_first = 0;
    return ERR_OK;
}

/* What many do not read is bounded like what they send: over it nobody gets more answers who has
 * some to read, and who takes nothing is closed soon. */
bool net_crowded(const struct io_net *net)
{
    return net->output_bytes > net->budget.bytes_max;
}

static size_t net_output_held(const struct net_conn *conn)
{
    return conn->output_bytes + (size_t)conn->output_count * NET_OUTPUT_OVERHEAD;
}

static size_t net_output_bound(const struct net_conn *conn)
{
    size_t most = conn->net->output_bytes_max;
    bool stuck =
        conn->output_bytes > 0 && net_now(conn->net) - conn->written_ns > ENV_MS(NET_STUCK_MS);
    bool less = (stuck || net_crowded(conn->net)) && !conn->trusted;
    return less && most > NET_CROWDED_BYTES ? NET_CROWDED_BYTES : most;
}

err_t net_queue(struct net_conn *conn, struct frame *frame, size_t at, size_t bytes)
{
    struct io_net *net = conn->net;
    if (bytes == 0)
        return ERR_OK;
    if (conn->output_count == conn->output_room) {
        err_t err = net_output_grow(conn);
        if (err != ERR_OK)
            return err;
    }
    if (conn->output_count == 0)
        conn->written_ns = net_now(net);
    *net_output_at(conn, conn->output_count++) =
        (struct net_output){.frame = frame, .at = (uint32_t)at, .bytes = (uint32_t)bytes};
    conn->output_bytes += bytes;
    net->output_bytes += bytes + NET_OUTPUT_OVERHEAD;
    if (net_output_held(conn) > net_output_bound(conn) && (conn->paused & NET_PAUSE_OUTPUT) == 0)
        net_set_pause(conn, NET_PAUSE_OUTPUT, true);
    if (conn->state == NET_OPEN && !conn->writing && list_empty(&conn->dirty_link))
        list_push_back(&net->dirty, &conn->dirty_link);
    return ERR_OK;
}

void net_drop_output(struct net_conn *conn)
{
    conn->net->output_bytes -= net_output_held(conn);
    for (uint32_t i = 0; i < conn->output_count; i++)
        frame_unref(net_output_at(conn, i)->frame);
    free(conn->output);
    conn->output = NULL;
    conn->output_first = conn->output_count = conn->output_room = 0;
    conn->output_bytes = 0;
}

static void net_output_sent(struct net_conn *conn, size_t bytes)
{
    conn->output_bytes -= bytes;
    conn->net->output_bytes -= bytes;
    conn->written_ns = net_now(conn->net);
    while (bytes > 0) {
        struct net_output *first = net_output_at(conn, 0);
        if (bytes < first->bytes) {
            first->at += (uint32_t)bytes;
            first->bytes -= (uint32_t)bytes;
            return;
        }
        bytes -= first->bytes;
        frame_unref(first->frame);
        conn->output_first = (conn->output_first + 1) & (conn->output_room - 1);
        conn->output_count--;
        conn->net->output_bytes -= NET_OUTPUT_OVERHEAD;
    }
}

/* What is left when all is sent: the peer must be able to read the last of it before the socket
 * goes, which bytes from it that nobody reads would prevent (a reset). */
static void net_linger(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    frame_unref(conn->frame);
    frame_unref(conn->held);
    conn->frame = conn->held = NULL;
    conn->state = NET_LINGERING;
    shutdown(conn->fd, SHUT_WR);
    net_update_reading(conn);
    net->actor->env.timer_start(net->actor, &conn->timer, net_now(net) + ENV_MS(NET_LINGER_MS));
}

static void net_set_writing(struct net_conn *conn, bool writing)
{
    if (conn->writing == writing)
        return;
    conn->writing = writing;
    if (writing)
        event_add(&conn->write_event, NULL);
    else
        event_del(&conn->write_event);
}

/* Sends one batch. Returns false when the kernel takes no more now; *ret_err says when it never
 * will. */
static bool net_send_batch(struct net_conn *conn, err_t *ret_err)
{
    struct iovec parts[NET_WRITE_PARTS];
    size_t count = 0, bytes = 0;
    for (; count < conn->output_count && count < NET_WRITE_PARTS; count++) {
        const struct net_output *output = net_output_at(conn, (uint32_t)count);
        parts[count] = (struct iovec){output->frame->bytes + output->at, output->bytes};
        bytes += output->bytes;
    }
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t n = sendmsg(conn->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            *ret_err = err_from_errno(errno);
        return errno == EINTR;
    }
    net_output_sent(conn, (size_t)n);
    return (size_t)n == bytes; /* less: it is full, there is no need to hear it again */
}

void net_write(struct net_conn *conn)
{
    err_t err = ERR_OK;
    while (conn->output_count > 0 && net_send_batch(conn, &err))
        ;
    if (err != ERR_OK) {
        net_fail(conn, err);
        return;
    }
    if ((conn->paused & NET_PAUSE_OUTPUT) != 0 &&
        net_output_held(conn) <= net_output_bound(conn) / 2) {
        net_set_pause(conn, NET_PAUSE_OUTPUT, false);
        net_add_news(conn, NET_NEWS_DRAINED);
    }
    net_set_writing(conn, conn->output_count > 0);
    if (conn->output_count > 0) {
        net_watch_stall(conn, conn->written_ns);
        return;
    }
    if (conn->output_room > NET_OUTPUT_ROOM_KEPT)
        net_drop_output(conn);
    if (conn->finishing)
        net_linger(conn);
}

void net_on_writable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* the connection has it */
    (void)what;
    struct net_conn *conn = arg;
    if (conn->state == NET_CONNECTING)
        net_on_connected(conn);
    else
        net_write(conn);
}
