/* sim_world.h - virtual time: one heap of events, one seed, and the hosts, actors and links of a
 * simulated network. The second implementation of src/env/env.h.
 *
 *   world ── host (a machine: clock, disk, up or down, paused) ── actor (shard, quorum, client: an
 * env) └─ link from host to host (delay, loss, cut)
 *
 * Everything that happens to an actor waits in its queue as an item (a message, a frame, a
 * completion, a timer that is due). A turn of the actor takes some of them: the order between
 * sources is drawn from the seed, the order within one source (a sender's mailbox, a connection) is
 * kept. So races between threads appear in one thread, and the same seed replays bit for bit.
 *
 * Thread: one. Nothing here reads a clock or an address. */
#ifndef KARST_SIM_WORLD_H
#define KARST_SIM_WORLD_H

#include "base/heap.h"
#include "base/rng.h"
#include "env/env.h"
#include "env/message.h"
#include "sim/sim_disk.h"

enum { SIM_HOSTS_MAX = 16, SIM_ACTORS_MAX = 80, SIM_MAILBOX = 4096, SIM_CONNS_MAX = 512 };

struct sim_world;
struct sim_host;
struct sim_actor;
struct sim_end; /* one end of a connection (sim_net.c) */

struct sim_event {
    struct heap_node node; /* key: when, in ns of world time */
    void (*run)(struct sim_world *world, struct sim_event *event);
};

/* What the network does; drawn from the seed by the scenario, changed as it runs. */
struct sim_net_options {
    uint64_t delay_min_ns, delay_max_ns;
    uint32_t raft_loss_ppm, raft_duplicate_ppm, raft_reorder_ppm; /* of raft's one-way frames */
    uint32_t reset_ppm;       /* of frames: the connection breaks */
    uint64_t give_up_ns;      /* a connection over a cut link breaks within this */
    uint64_t queue_bytes_max; /* of one direction: then drained follows */
};

struct sim_world {
    uint64_t now_ns;
    uint64_t sequence;
    uint64_t events_run;
    uint64_t hash; /* of all that happened: two runs of a seed must agree */
    struct heap events;
    struct rng rng;
    struct sim_net_options net;
    struct sim_host *hosts[SIM_HOSTS_MAX];
    unsigned host_count;
    bool cut[SIM_HOSTS_MAX][SIM_HOSTS_MAX];         /* from, to: nothing gets through */
    uint64_t slow_ns[SIM_HOSTS_MAX][SIM_HOSTS_MAX]; /* from, to: up to so much later */
    uint64_t links_changed_ns;                      /* when a link was last cut or made whole */
    struct list_node conns;
    struct list_node laters;
    uint32_t conn_generation;
    uint64_t frames_sent, frames_lost, frames_duplicated, resets;
    /* Around each turn of an actor: for checkers, and for who writes the log lines. May be NULL. */
    void (*turn_begins)(struct sim_world *world, struct sim_actor *actor);
    void (*turn_ended)(struct sim_world *world, struct sim_actor *actor);
    /* A whole frame leaves an actor, for whoever listens in. May be NULL. */
    void (*frame_leaves)(struct sim_world *world, struct sim_actor *actor,
                         const struct frame *frame);
    void *data;
};

void sim_world_init(struct sim_world *world, uint64_t seed);
void sim_world_fini(struct sim_world *world);
void sim_schedule(struct sim_world *world, struct sim_event *event, uint64_t delay_ns);
void sim_unschedule(struct sim_world *world, struct sim_event *event);
/* Runs the next event; false when none is left. */
bool sim_step(struct sim_world *world);
/* Runs all events up to until_ns, which becomes the time. */
void sim_run_until(struct sim_world *world, uint64_t until_ns);
/* Something else once, after so long; args are copied. The world frees what has not run. */
enum { SIM_LATER_ARGS = 4 };
typedef void sim_later_fn(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS]);
void sim_later(struct sim_world *world, uint64_t delay_ns, sim_later_fn *step,
               const uint64_t args[SIM_LATER_ARGS]);
/* Mixes a value into the hash of the run. */
void sim_note(struct sim_world *world, uint64_t value);

/* ---- hosts ---- */

struct sim_host {
    struct sim_world *world;
    unsigned idx;
    char name[16]; /* "n0", "n1", ...: what dial takes */
    bool up;
    bool powered;             /* down but powered: its address refuses; else silence */
    bool dying;               /* its actors are being taken apart: what they send is lost */
    uint64_t paused_until_ns; /* SIGSTOP: no turns */
    int64_t clock_offset_ns, clock_ppm;
    int64_t wall_offset_ms;            /* how wrong its wall clock is: it may jump */
    uint64_t turn_min_ns, turn_max_ns; /* how long work waits before an actor looks at it */
    struct sim_actor *actors[SIM_ACTORS_MAX];
    unsigned actor_count;
    struct sim_disk *disk; /* the caller's; survives crashes; NULL: none */
    uint16_t port;         /* that its listener 0 has; 0: none */
    unsigned accepting;    /* actors 0 .. accepting-1 take new connections */
    /* An actor called exit_node: called after its turn. The hook stops the host. */
    void (*exited)(struct sim_host *host, int code, const char *why);
    /* Frees a message that nobody took. */
    void (*message_free)(struct env_message *message);
    void *data;
    int exit_code;
    char exit_why[256];
    bool exiting;
    struct sim_event exit_event;
};

struct sim_host *sim_host_add(struct sim_world *world);
/* Boots with actor_count actors (their envs are ready; the caller sets upcalls); up. */
void sim_host_boot(struct sim_host *host, unsigned actor_count);
/* Takes all actors down at once: items, timers and connections are gone, peers see their
 * connections closed. The caller frees what lived in the actors before, with host->dying set (its
 * code is not called again). */
void sim_host_stop(struct sim_host *host);
struct env *sim_host_env(struct sim_host *host, unsigned actor);
void sim_host_pause(struct sim_host *host, uint64_t for_ns);
/* One thread of it only: its image, its disk's completions and its mail lag behind. */
void sim_actor_pause(struct sim_host *host, unsigned actor, uint64_t for_ns);
/* What one actor of it posts to another waits so long, while that one goes on with all else. */
void sim_mail_lag(struct sim_host *host, unsigned from, unsigned to, uint64_t for_ns);
/* Both directions, or one. Frames under way wait until the link is whole again, or the connection
 * breaks (give_up_ns). */
void sim_cut(struct sim_world *world, unsigned a, unsigned b, bool cut);
void sim_cut_one_way(struct sim_world *world, unsigned from, unsigned to, bool cut);
/* Frames from host to host take up to so much longer. */
void sim_slow_link(struct sim_world *world, unsigned from, unsigned to, uint64_t slow_ns);
void sim_heal(struct sim_world *world); /* every link */

/* ---- actors ---- */

enum sim_item_kind {
    SIM_ITEM_MAIL,
    SIM_ITEM_ROOM,
    SIM_ITEM_DONE,
    SIM_ITEM_ACCEPTED,
    SIM_ITEM_CONNECTED,
    SIM_ITEM_FRAME,
    SIM_ITEM_CLOSED,
    SIM_ITEM_DRAINED
};

struct sim_item {
    struct list_node link;
    enum sim_item_kind kind;
    uint32_t source; /* items of one source keep their order */
    union {
        struct env_message *message;
        unsigned to_actor;
        struct {
            struct env_done *op;
            err_t err;
        } done;
        struct {
            env_conn conn;
            struct frame *frame;
            err_t err;
        } net;
    };
};

struct sim_actor {
    struct sim_host *host;
    unsigned idx;
    struct env env;
    struct list_node items;
    size_t item_count;
    struct heap timers;
    struct list_node delayed; /* completions under way (sim_world.c) */
    struct sim_disk_view disk;
    struct sim_end *ends[SIM_CONNS_MAX]; /* its connections, by slot */
    struct sim_event turn;
    uint64_t busy_until_ns;
    uint64_t stuck_until_ns; /* its thread makes no progress; the others of its node do */
    bool mail_lags;
    uint64_t mail_lags_until_ns[SIM_ACTORS_MAX]; /* what this sender posts */
    uint32_t mail_waiting[SIM_ACTORS_MAX];       /* from each sender: the mailbox's bound */
    bool mail_refused[SIM_ACTORS_MAX];           /* told ERR_FULL, and not yet of room */
};

/* For sim_net.c, sim_disk's hook: queues an item and makes sure that a turn comes. */
struct sim_item *sim_actor_item(struct sim_actor *actor, enum sim_item_kind kind, uint32_t source);

/* ---- net (sim_net.c) ---- */

void sim_net_init(struct sim_actor *actor);
/* Before the upcall of a frame item: false, it is not for the actor any more. */
bool sim_net_taken(struct sim_actor *actor, const struct sim_item *item);
void sim_net_host_stopped(struct sim_host *host);
void sim_net_link_changed(struct sim_world *world);
void sim_net_fini(struct sim_world *world);

#endif
