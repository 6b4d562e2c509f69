#include "io/acceptor.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/logger.h"

enum {
    ACCEPTOR_BATCH = 64,      /* in one turn */
    ACCEPTOR_BACKLOG = 1024,  /* the kernel's own bound may be lower */
    ACCEPTOR_RETRY_MS = 50,   /* when all shards are at their bound, or the process is */
    ACCEPTOR_DIALS_PART = 16, /* of connections_max are kept for dials */
};

struct acceptor_listener {
    struct io_acceptor *acceptor;
    unsigned number;
    int fd;
    uint16_t port;
    struct event event;
    bool listening; /* the event is added */
};

struct io_acceptor {
    struct io_net *const *nets;
    unsigned net_count, next;
    uint32_t accepted_max; /* of a shard */
    struct env_timer retry;
    struct acceptor_listener *listeners;
    size_t listener_count;
};

/* The shard with the fewest connections has counted one more; false when all are full. */
static bool acceptor_choose(struct io_acceptor *acceptor, struct io_net **ret_net)
{
    ASSERT(acceptor->net_count > 0);
    struct io_net *best = acceptor->nets[acceptor->next];
    unsigned best_count = atomic_load_explicit(&best->conn_count, memory_order_relaxed);
    for (unsigned i = 1; i < acceptor->net_count; i++) {
        struct io_net *net = acceptor->nets[(acceptor->next + i) % acceptor->net_count];
        unsigned count = atomic_load_explicit(&net->conn_count, memory_order_relaxed);
        if (count < best_count) {
            best_count = count;
            best = net;
        }
    }
    acceptor->next = (acceptor->next + 1) % acceptor->net_count;
    *ret_net = best;
    return io_net_count(best, acceptor->accepted_max);
}

static void acceptor_pause(struct io_acceptor *acceptor)
{
    struct io_actor *actor = acceptor->nets[0]->actor;
    for (size_t i = 0; i < acceptor->listener_count; i++) {
        if (acceptor->listeners[i].listening)
            event_del(&acceptor->listeners[i].event);
        acceptor->listeners[i].listening = false;
    }
    actor->env.timer_start(actor, &acceptor->retry, io_clock_mono_ns() + ENV_MS(ACCEPTOR_RETRY_MS));
}

static void acceptor_resume(struct env_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    struct io_acceptor *acceptor = container_of(timer, struct io_acceptor, retry);
    for (size_t i = 0; i < acceptor->listener_count; i++) {
        event_add(&acceptor->listeners[i].event, NULL);
        acceptor->listeners[i].listening = true;
    }
}

/* Returns false when there is nothing to accept, or no room for it. */
static bool acceptor_accept(struct acceptor_listener *listener)
{
    struct io_acceptor *acceptor = listener->acceptor;
    struct io_net *net;
    if (!acceptor_choose(acceptor, &net)) {
        acceptor_pause(acceptor); /* bound: connections_max; the rest waits in the backlog */
        return false;
    }
    struct net_handed handed = {.listener = listener->number};
    socklen_t size = sizeof(handed.peer);
    handed.fd =
        accept4(listener->fd, (struct sockaddr *)&handed.peer, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    int error = errno;
    if (handed.fd >= 0 && io_net_hand(net, &handed))
        return true;
    atomic_fetch_sub_explicit(&net->conn_count, 1, memory_order_relaxed);
    if (handed.fd >= 0) {
        close(handed.fd); /* bound: NET_HANDED_MAX, of a shard that does not move */
        return true;
    }
    if (error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM) {
        log_warn("can not accept connections for now error=\"%s\"", strerror(error));
        acceptor_pause(acceptor);
        return false;
    }
    return error != EAGAIN; /* others are the peer's: it is gone already */
}

static void acceptor_on_readable(evutil_socket_t fd, short what, void *arg)
{
    (void)fd; /* the listener has it */
    (void)what;
    struct acceptor_listener *listener = arg;
    for (unsigned i = 0; i < ACCEPTOR_BATCH; i++) {
        if (!acceptor_accept(listener))
            return;
    }
}

/* Returns the errno of the last address that failed, or 0. */
static int acceptor_bind(struct acceptor_listener *listener, const struct addrinfo *at)
{
    int error = EADDRNOTAVAIL;
    for (; at != NULL; at = at->ai_next) {
        int fd = socket(at->ai_family, at->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) {
            error = errno;
            continue;
        }
        /* TCP_NODELAY and keep-alive are inherited by what is accepted. */
        int on = 1, off = 0;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (at->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
        if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, ACCEPTOR_BACKLOG) == 0) {
            listener->fd = fd;
            return 0;
        }
        error = errno;
        close(fd);
    }
    return error;
}

static uint16_t acceptor_bound_port(int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } address = {.v6 = {0}};
    socklen_t size = sizeof(address);
    (void)getsockname(fd, &address.any, &size); /* it is bound: it has one */
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static err_t acceptor_listen(struct acceptor_listener *listener, const struct io_listener *wanted,
                             char *why, size_t why_size)
{
    const char *host = wanted->host == NULL || wanted->host[0] == '\0' ? NULL : wanted->host;
    char port[8];
    snprintf(port, sizeof(port), "%u", wanted->port);
    /* "All addresses" is [::], which takes IPv4 too, where there is IPv6. */
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_family = host == NULL ? AF_INET6 : AF_UNSPEC,
                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found = NULL;
    int error = getaddrinfo(host, port, &hints, &found);
    if (error != 0) {
        snprintf(why, why_size, "listener %s:%u: %s", host == NULL ? "*" : host, wanted->port,
                 gai_strerror(error));
        return ERR_UNREACHABLE;
    }
    error = acceptor_bind(listener, found);
    freeaddrinfo(found);
    if (error != 0 && host == NULL) {
        hints.ai_family = AF_INET;
        if (getaddrinfo(host, port, &hints, &found) == 0) {
            error = acceptor_bind(listener, found);
            freeaddrinfo(found);
        }
    }
    if (error != 0) {
        snprintf(why, why_size, "listener %s:%u: %s", host == NULL ? "*" : host, wanted->port,
                 strerror(error));
        return err_from_errno(error);
    }
    listener->port = acceptor_bound_port(listener->fd);
    return ERR_OK;
}

err_t io_acceptor_new(const struct io_config *config, struct io_net *const *nets,
                      struct io_acceptor **ret_acceptor, char *why, size_t why_size)
{
    struct io_acceptor *acceptor = calloc(1, sizeof(*acceptor));
    struct acceptor_listener *listeners = calloc(config->listener_count, sizeof(*listeners));
    if (acceptor == NULL || listeners == NULL) {
        free(acceptor);
        free(listeners);
        return ERR_NO_MEMORY;
    }
    acceptor->nets = nets;
    acceptor->net_count = config->shard_count;
    acceptor->accepted_max =
        config->connections_max - config->connections_max / ACCEPTOR_DIALS_PART;
    acceptor->retry.fire = acceptor_resume;
    acceptor->listeners = listeners;
    for (unsigned i = 0; i < config->listener_count; i++) {
        struct acceptor_listener *listener = &listeners[i];
        listener->acceptor = acceptor;
        listener->number = i;
        err_t err = acceptor_listen(listener, &config->listeners[i], why, why_size);
        if (err != ERR_OK) {
            io_acceptor_free(acceptor);
            return err;
        }
        acceptor->listener_count++;
        event_assign(&listener->event, nets[0]->base, listener->fd, EV_READ | EV_PERSIST,
                     acceptor_on_readable, listener);
        event_add(&listener->event, NULL);
        listener->listening = true;
    }
    *ret_acceptor = acceptor;
    return ERR_OK;
}

void io_acceptor_free(struct io_acceptor *acceptor)
{
    if (acceptor == NULL)
        return;
    struct io_actor *actor = acceptor->nets[0]->actor;
    actor->env.timer_stop(actor, &acceptor->retry);
    for (size_t i = 0; i < acceptor->listener_count; i++) {
        if (acceptor->listeners[i].listening)
            event_del(&acceptor->listeners[i].event);
        close(acceptor->listeners[i].fd);
    }
    free(acceptor->listeners);
    free(acceptor);
}

uint16_t io_acceptor_port(const struct io_acceptor *acceptor, unsigned listener)
{
    ASSERT(listener < acceptor->listener_count);
    return acceptor->listeners[listener].port;
}
