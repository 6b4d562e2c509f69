#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/net.h"

/* Where a dial may go. It belongs to its connection; while a worker looks the name up, to the
 * lookup. */
struct net_dial {
    struct env_done op;
    struct list_node link; /* in net->dials during the lookup */
    struct io_net *net;
    env_conn handle;
    bool looking_up;
    bool other_failure; /* an address failed otherwise than by refusing */
    char host[NET_HOST_SIZE];
    char port[8];
    struct sockaddr_storage addresses[NET_ADDRESSES_MAX];
    socklen_t sizes[NET_ADDRESSES_MAX];
    unsigned count, next;
};

/* Blocks, unless flags say that the host is an address. Touches nothing but the dial. */
static void net_dial_look_up(struct net_dial *dial, int flags)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    if (getaddrinfo(dial->host, dial->port, &hints, &found) != 0)
        return;
    for (const struct addrinfo *at = found; at != NULL && dial->count < NET_ADDRESSES_MAX;
         at = at->ai_next) {
        if (at->ai_addrlen > sizeof(dial->addresses[0]))
            continue;
        memcpy(&dial->addresses[dial->count], at->ai_addr, at->ai_addrlen);
        dial->sizes[dial->count++] = at->ai_addrlen;
    }
    freeaddrinfo(found);
}

static void net_dial_work(void *arg)
{
    net_dial_look_up(arg, 0);
}

/* Returns 0 when the connection is on its way. */
static int net_dial_address(struct net_conn *conn, const struct sockaddr *address, socklen_t size)
{
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return errno;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (connect(fd, address, size) != 0 && errno != EINPROGRESS) {
        int error = errno;
        close(fd);
        return error;
    }
    conn->fd = fd;
    conn->state = NET_CONNECTING;
    net_assign_events(conn);
    conn->writing = true;
    event_add(&conn->write_event, NULL);
    return 0;
}

/* Tries the next address, or fails the connection. */
static void net_dial_next(struct net_conn *conn)
{
    struct net_dial *dial = conn->dial;
    while (dial->next < dial->count) {
        unsigned i = dial->next++;
        int error =
            net_dial_address(conn, (const struct sockaddr *)&dial->addresses[i], dial->sizes[i]);
        if (error == 0)
            return;
        dial->other_failure = dial->other_failure || error != ECONNREFUSED;
    }
    /* Only when all of the peer's addresses refuse is that a proof of death (R10). */
    net_fail(conn, dial->count > 0 && !dial->other_failure ? ERR_REFUSED : ERR_UNREACHABLE);
}

static void net_looked_up(struct env_done *op, err_t err)
{
    (void)err; /* without addresses there is nothing to try */
    struct net_dial *dial = container_of(op, struct net_dial, op);
    struct net_conn *conn = &dial->net->conns[dial->handle.slot];
    dial->looking_up = false;
    list_remove(&dial->link);
    if (conn->generation == dial->handle.generation && conn->dial == dial)
        net_dial_next(conn);
    else
        free(dial);
}

void net_dial_detach(struct net_conn *conn)
{
    if (conn->dial != NULL && !conn->dial->looking_up)
        free(conn->dial);
    conn->dial = NULL;
}

void net_dials_free(struct io_net *net)
{
    list_for_each_safe (node, after, &net->dials)
        free(list_entry(node, struct net_dial, link));
    list_init(&net->dials);
}

/* A socket that happens to get the very port it dials connects to itself: nobody listens there. */
static bool net_is_own_peer(int fd)
{
    struct sockaddr_storage own = {0}, peer = {0};
    socklen_t own_size = sizeof(own), peer_size = sizeof(peer);
    return getsockname(fd, (struct sockaddr *)&own, &own_size) == 0 &&
           getpeername(fd, (struct sockaddr *)&peer, &peer_size) == 0 && own_size == peer_size &&
           memcmp(&own, &peer, own_size) == 0;
}

void net_on_connected(struct net_conn *conn)
{
    struct io_net *net = conn->net;
    int error = 0;
    socklen_t size = sizeof(error);
    if (getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error == 0 && net_is_own_peer(conn->fd))
        error = ECONNREFUSED;
    event_del(&conn->write_event);
    conn->writing = false;
    if (error != 0) {
        close(conn->fd);
        conn->fd = -1;
        conn->dial->other_failure = conn->dial->other_failure || error != ECONNREFUSED;
        net_dial_next(conn);
        return;
    }
    net_dial_detach(conn);
    net->actor->env.timer_stop(net->actor, &conn->timer);
    conn->state = NET_OPEN;
    conn->read_ns = conn->written_ns = net_now(net);
    net_add_news(conn, NET_NEWS_CONNECTED);
    net_update_reading(conn);
    if (conn->output_count > 0 || conn->finishing)
        net_write(conn);
}

err_t net_dial(void *self, const char *host, uint16_t port, env_conn *ret_conn)
{
    struct io_net *net = self;
    if (port == 0 || host[0] == '\0' || strlen(host) >= NET_HOST_SIZE)
        return ERR_INVALID;
    struct net_dial *dial = calloc(1, sizeof(*dial));
    if (dial == NULL)
        return ERR_NO_MEMORY;
    if (!io_net_count(net, net->connections_max)) {
        free(dial);
        return ERR_FULL; /* bound: connections_max */
    }
    struct net_conn *conn = net_take(net, -1, NET_RESOLVING);
    conn->trusted = true;
    conn->dial = dial;
    dial->net = net;
    dial->handle = net_handle(conn);
    dial->op.done = net_looked_up;
    snprintf(dial->host, sizeof(dial->host), "%s", host);
    snprintf(dial->port, sizeof(dial->port), "%u", port);
    net_dial_look_up(dial, AI_NUMERICHOST);
    if (dial->count == 0) {
        const struct env_workers *workers = &net->actor->env.workers;
        err_t err = workers->submit(workers->self, net_dial_work, dial, &dial->op);
        if (err != ERR_OK) {
            net_release(conn);
            return err;
        }
        dial->looking_up = true;
        list_push_back(&net->dials, &dial->link);
    }
    net_start_timer(conn, net_now(net) + net->dial_ns);
    *ret_conn = net_handle(conn);
    if (!dial->looking_up)
        net_dial_next(conn); /* a failure is news, and told later */
    return ERR_OK;
}
