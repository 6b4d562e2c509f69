/* net.h - the connections of one shard, over libevent's readiness; private to src/io.
 *
 *            dial a name            dial an address           accept [net_adopt]
 *                 │                        │                        │
 *   RESOLVING ────┴──[resolved]──> CONNECTING ──[net_connected]──> OPEN ──[net_fail]──> DEAD
 *       └──────────────┴──[net_fail]──> DEAD                        │                    │
 *                                       finish, all sent [net_linger]    upcall closed [net_tell]
 *                                                                   ▼                    │
 *                                                               LINGERING ──> FREE <─────┘
 *   drop: from anywhere to FREE.
 *
 * A connection reads when nothing pauses it: its actor, its own output over the bound, bytes that
 * it has read and not yet handed over, or the shard's budget. What pauses in the middle of a read
 * keeps the rest of what was read: a paused connection hands over nothing. Upcalls other than
 * accepted and received are notes ("news") that net_work tells, so that none comes from within a
 * call of the actor's.
 * Memory: connections live in one table of connections_max; a frame's bytes are charged to the
 * budget; the queue of output grows with what the actor sends, which the bound makes it stop.
 * Thread: the shard's, but what begins with io_net_count or io_net_hand. */
#ifndef KARST_IO_NET_H
#define KARST_IO_NET_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "env/env.h"
#include "io/actor.h"
#include "io/io.h"

enum {
    NET_FRAME_LENGTH_BYTES = 4,
    NET_FRAME_LENGTH_MIN = 8,              /* no protocol of ours has a shorter one */
    NET_READ_AHEAD_BYTES = 64 * 1024,      /* many small frames in one read */
    NET_READ_AHEAD_LARGE_BYTES = 4 * 1024, /* after a large frame: what is read ahead is copied */
    NET_FRAME_LARGE_BYTES = 128 * 1024,
    NET_FRAME_FIRST_BYTES = 4 * 1024, /* a frame has room for these, or for so many times */
    NET_FRAME_GROWTH = 4,             /* of what has arrived */
    NET_WRITE_PARTS = 64,             /* of one sendmsg */
    NET_HANDED_MAX = 256,             /* accepted, not yet taken by their shard */
    NET_ADDRESSES_MAX = 4,            /* of a name, tried in order */
    NET_HOST_SIZE = 256,              /* a DNS name and its NUL */
    NET_LINGER_MS = 1000,             /* for the peer's last bytes, after a finish */
    NET_STUCK_MS = 100,            /* who takes nothing for so long needs no more answers, either */
    NET_STALL_SHORT_MS = 1000,     /* instead of stall_ms, for output while its budget is used up */
    NET_BUDGET_LOOK_MS = 2,        /* while over budget: other threads free frames, too */
    NET_STARVED_MS = 2000,         /* over budget, and no frame ends: who begun the largest goes */
    NET_OUTPUT_OVERHEAD = 256,     /* what a small answer takes in memory beside its bytes */
    NET_CROWDED_BYTES = 64 * 1024, /* instead of output_bytes_max, while all have much queued */
};

enum net_state {
    NET_FREE,
    NET_RESOLVING,
    NET_CONNECTING,
    NET_OPEN,
    NET_LINGERING,
    NET_DEAD,
};

enum net_pause {
    NET_PAUSE_ACTOR = 1,
    NET_PAUSE_OUTPUT = 2, /* more than net_output_bound is queued */
    NET_PAUSE_HELD = 4,   /* bytes that were read wait in held */
    NET_PAUSE_BUDGET = 8, /* in net->parked */
};

enum net_news {
    NET_NEWS_CONNECTED = 1,
    NET_NEWS_DRAINED = 2,
    NET_NEWS_HELD = 4, /* held can be handed over */
    NET_NEWS_CLOSED = 8,
};

struct net_output {
    struct frame *frame;
    uint32_t at, bytes;
};

struct net_conn {
    struct io_net *net;
    uint32_t slot, generation;
    uint32_t next_free; /* in the free list */
    enum net_state state;
    int fd;    /* -1: none */
    err_t err; /* DEAD: why */
    unsigned paused, news;
    bool finishing; /* no upcalls any more; ends when all is sent */
    bool trusted;   /* the bounds that all share do not stop it */
    bool reading;   /* the event is added */
    bool writing;   /* the event is added: the socket was full, or connects */
    struct event read_event, write_event;
    struct env_timer timer;                              /* dial, stall, linger */
    struct list_node dirty_link, news_link, parked_link; /* in no list: pointing to themselves */

    struct frame *frame;  /* begun, not whole; NULL: between frames */
    uint32_t frame_bytes; /* of it when it is whole; its capacity may be less as yet */
    uint8_t head[NET_FRAME_LENGTH_BYTES];
    uint32_t head_used; /* bytes of the next frame's length word */
    uint32_t last_frame_bytes;
    struct frame *held; /* its bytes [at .. used) were read, and come next */
    uint64_t read_ns;   /* when the peer last sent something, or reading went on */

    struct net_output *output; /* a ring of output_room, a power of two */
    uint32_t output_first, output_count, output_room;
    size_t output_bytes;
    uint64_t written_ns; /* when the kernel last took something, or the queue was empty */

    struct net_dial *dial; /* NULL: no further addresses */
};

struct net_handed {
    int fd;
    unsigned listener;
    struct sockaddr_storage peer;
};

struct io_net {
    struct io_actor *actor;
    struct event_base *base;
    struct frame_budget budget;
    uint32_t frame_bytes_max;
    size_t output_bytes_max;
    size_t output_bytes; /* of all connections, with their overhead */
    uint64_t stall_ns, dial_ns;
    uint32_t connections_max;

    struct net_conn *conns; /* [connections_max] */
    uint32_t conns_used, free_first;
    atomic_uint conn_count; /* handed ones included */
    struct list_node dirty, news, parked;
    struct list_node dials; /* whose names are being looked up */
    struct env_timer budget_timer;
    struct net_conn *grower; /* takes memory over the budget, to end its frame; NULL: nobody */
    uint64_t ended_ns;       /* when a frame last ended, or somebody began to wait for that */
    uint64_t now_ns;         /* of this turn; 0: not asked for yet */
    uint8_t *read_ahead;

    pthread_mutex_t handed_lock;
    struct net_handed handed[NET_HANDED_MAX];
    size_t handed_count;
    atomic_bool handed_any;
};

/* Fills actor->env.net. base is the shard's. */
err_t io_net_new(struct io_actor *actor, struct event_base *base, const struct io_config *config,
                 struct io_net **ret_net);
void io_net_free(struct io_net *net); /* accepts NULL; workers are stopped */
void io_net_turn_begin(struct io_net *net);
/* Takes what the acceptor handed over, and tells the news. Returns whether some is left. */
bool io_net_work(struct io_net *net);
/* Gives the kernel what the turn has queued. Returns whether net_work has something to do. */
bool io_net_flush(struct io_net *net);
bool io_net_handed_any(struct io_net *net);

/* Any thread: one connection more, if there are fewer than limit. */
bool io_net_count(struct io_net *net, uint32_t limit);
/* The acceptor's: an accepted and counted connection. False: too many wait; it stays the caller's.
 */
bool io_net_hand(struct io_net *net, const struct net_handed *handed);

/* ---- between the files of the net ---- */

uint64_t net_now(struct io_net *net); /* one reading of the clock a turn */

struct net_conn *net_take(struct io_net *net, int fd, enum net_state state); /* counted before */
void net_release(struct net_conn *conn);
/* The connection is over: the actor is told unless it finished it. The slot may be free afterwards.
 */
void net_fail(struct net_conn *conn, err_t err);
void net_add_news(struct net_conn *conn, unsigned news);
void net_update_reading(struct net_conn *conn);
void net_assign_events(struct net_conn *conn);
void net_set_pause(struct net_conn *conn, unsigned why, bool paused);
void net_start_timer(struct net_conn *conn, uint64_t due_ns);
/* Looks in a while whether the peer takes its output, and ends the frame that it has begun. */
void net_watch_stall(struct net_conn *conn, uint64_t now_ns);
/* Still the connection of that generation, and no end in sight. */
bool net_is_open(const struct net_conn *conn, uint32_t generation);
static inline env_conn net_handle(const struct net_conn *conn)
{
    return (env_conn){.slot = conn->slot, .generation = conn->generation};
}

static inline struct net_output *net_output_at(const struct net_conn *conn, uint32_t i)
{
    return &conn->output[(conn->output_first + i) & (conn->output_room - 1)];
}

/* net_read.c */
void net_on_readable(evutil_socket_t fd, short what, void *arg);
void net_hand_held(struct net_conn *conn);
void net_unpark(struct io_net *net);
bool net_may_unpark(const struct io_net *net);
void net_stop_growing(struct net_conn *conn); /* it reads no more of its frame */

/* net_write.c */
bool net_crowded(const struct io_net *net);
err_t net_queue(struct net_conn *conn, struct frame *frame, size_t at, size_t bytes);
void net_write(struct net_conn *conn); /* OPEN; it may be over afterwards */
void net_on_writable(evutil_socket_t fd, short what, void *arg);
void net_drop_output(struct net_conn *conn);

/* net_dial.c */
err_t net_dial(void *self, const char *host, uint16_t port, env_conn *ret_conn);
void net_on_connected(struct net_conn *conn);
void net_dial_detach(struct net_conn *conn);
void net_dials_free(struct io_net *net);

#endif
