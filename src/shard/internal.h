/* internal.h - what the files of src/shard share: the shard itself, and the messages between
 * shards.
 *
 *   shard.c        life, upcalls, mail
 *   session.c      connections: accepted, hello, paused, closed
 *   request.c      requests: pooled, split, gathered, answered
 *   local.c        answers from the image; producer ids
 *   call.c         requests to the controller and the quorum, here or forwarded (R26)
 *   admin.c        clients' calls: ids fixed before the first try, the image awaited after it
 *   peer.c         connections to other brokers
 *   probe.c        is that broker dead? (R10)
 *   stream.c       replica traffic between peers and partitions (R7)
 *   ends.c         how far logs go, before an unclean election (R8)
 *   failure.c      replicas and directories that failed, for the heartbeats (R14, R19)
 *   space.c        how full the disks are, for the heartbeats (R16)
 *   lifecycle.c    shard 0: registration, heartbeats, lease, controlled shutdown
 *   partition.c    partitions (partition.h) */
#ifndef KARST_SHARD_INTERNAL_H
#define KARST_SHARD_INTERNAL_H

#include "base/logger.h"
#include "shard/session.h"
#include "shard/shard.h"
#include "wire/wire.h"

enum {
    SHARD_TICK_NS = 50 * 1000 * 1000,
    SHARD_IDLE_TICK_NS = 250 * 1000 * 1000,    /* nothing waits: an idle broker costs its ticks */
    SHARD_CHANGED_NS = 2 * 1000 * 1000 * 1000, /* replicas settle after the image moved */
    SHARD_SIGN_NS = 250 * 1000 * 1000,         /* between two signs of life to shard 0 */
    SHARD_HELLO_NS_MAX = INT64_C(10) * 1000 * 1000 * 1000, /* a connection says who it is in time */
    SHARD_ANSWER_GRACE_NS = 250 * 1000 * 1000, /* owners answer by the deadline themselves */
    SHARD_POOL_REQUESTS_MAX = 256,
    SESSION_FETCH_BYTES_MAX = 128 << 20, /* asked for by a connection's fetches in work */
    SHARD_SCRATCH_BYTES_MAX = 64 << 20,
};
#define PEER_LISTENER "RPC" /* the listener that brokers use between them */

/* ---- messages between the shards of a node (199: shard.h) ---- */

enum shard_message_type {
    SHARD_PART = 100,   /* struct part: to the owner of its partition */
    SHARD_PART_BACK,    /* struct part: answered, to the shard of its request */
    SHARD_CANCEL,       /* struct shard_cancel: to an owner of waiting parts */
    SHARD_CANCEL_BACK,  /* the same, when it was done */
    SHARD_DELTAS,       /* struct shard_deltas: a follower's orders, to the owner */
    SHARD_STREAM_REPLY, /* struct shard_stream_reply: data for a follower, to its connection's shard
                         */
    SHARD_FOLLOWER_GONE, /* struct shard_follower_gone: its connection closed, to every owner */
    SHARD_APPLIED,       /* struct shard_applied: to shard 0 (R30) */
    SHARD_LEASE,         /* struct shard_lease_news: from shard 0 to all (R10) */
    SHARD_PEER_HINT,     /* struct shard_peer_hint: to shard 0, maybe that broker died (R10) */
    SHARD_ID_ASKED,      /* struct shard_id: a producer id wanted, to shard 0 */
    SHARD_ID_GIVEN,      /* the same, answered */
    SHARD_STOP,          /* struct env_message: close the partitions; from shard 0 */
    SHARD_STOPPED,       /* struct shard_stopped: it was done; to shard 0 */
    SHARD_FINISH,        /* struct env_message: close the connections; from shard 0 */
    SHARD_END_ASKED,     /* struct shard_end: to the owner of a partition (R8) */
    SHARD_END_TOLD,      /* the same, answered: to shard 0 */
    SHARD_FAILURE,       /* struct shard_failure: to shard 0 (R19) */
};

/* A request's connection closed, or the request has what it wants: an owner gives back what waits.
 * The request is not freed before the message is back. */
struct shard_cancel {
    struct env_message message;
    struct request *request;
};

struct shard_deltas {
    struct env_message message;
    uint32_t count;
    struct replica_delta rows[];
};

struct shard_stream_reply {
    struct env_message message;
    env_conn conn;
    struct frame *header;
    uint32_t count;
    struct frame *records[];
};

struct shard_follower_gone {
    struct env_message message;
    unsigned via_shard;
    env_conn conn;
};

struct shard_applied {
    struct env_message message;
    int64_t offset;
};

struct shard_lease {
    uint64_t until_ns;           /* 0: none */
    broker_epoch_t broker_epoch; /* -1: not registered */
    bool fenced;
};
struct shard_lease_news {
    struct env_message message;
    struct shard_lease lease;
};

struct shard_peer_hint {
    struct env_message message;
    node_id_t node;
};

struct shard_id {
    struct env_message message;
    struct request *request; /* the asking shard's */
    err_t err;
    producer_id_t id;
};

struct shard_end {
    struct env_message message;
    struct list_node link; /* lifecycle.ends */
    struct partition_id id;
    leader_epoch_t leader_epoch; /* as asked */
    leader_epoch_t last_epoch;
    offset_t end;
};

struct shard_failure {
    struct env_message message;
    struct partition_id id;
    uint32_t disk;
    err_t err; /* as of partition_host.replica_failed */
};

struct shard_stopped {
    struct env_message message;
    err_t err; /* not ERR_OK: not all of its logs are durable */
};

/* ---- connections ---- */

enum conn_kind { CONN_FREE, CONN_SESSION, CONN_PEER, CONN_PROBE };

struct conn_entry {
    uint32_t generation;
    enum conn_kind kind;
    void *owner; /* struct session, peer, probe */
};

/* By slot; slots are few and used again. */
struct conn_table {
    struct conn_entry *entries;
    uint32_t count;
};

/* ---- calls ---- */

enum call_state { CALL_IDLE, CALL_AT_QUORUM, CALL_AT_PEER };

struct call;
/* reply: ERR_OK: a whole reply or error frame, the receiver's. Else NULL, and why there is none.
 * The call is freed after. */
typedef void (*call_done)(struct shard *shard, void *context, err_t err, struct frame *reply);

struct call_args {
    struct frame *frame; /* a whole request frame; taken */
    node_id_t peer;      /* on whose behalf (quorum_call.peer); NO_NODE: a client's */
    broker_epoch_t peer_epoch;
    uint64_t deadline_ns;
    bool here;  /* this node's quorum only, whoever leads */
    bool retry; /* until the deadline; only what was made idempotent (R26) */
    call_done done;
    void *context;
};

/* ---- peers ---- */

enum peer_lane {
    PEER_CONTROL, /* calls, raft */
    PEER_STREAM,  /* this shard's replica traffic as a follower (R7) */
};

/* One request to a peer that waits for its answer. Embedded in the asker's object. */
struct peer_ask {
    struct list_node link; /* of its peer's; in no list: not asked */
    uint32_t correlation;  /* set by peer_ask */
    /* From the loop, never inside peer_ask. frame: the receiver's, when ERR_OK. */
    void (*answered)(struct shard *shard, struct peer_ask *ask, err_t err, struct frame *frame,
                     node_id_t peer);
};

struct peer_to {
    node_id_t node; /* NO_NODE: whoever is at host */
    enum peer_lane lane;
    const char *host; /* NULL: as the image says */
    uint16_t port;
};

/* ---- lifecycle (shard 0) ---- */

enum lifecycle_state {
    LIFECYCLE_REGISTERING,
    LIFECYCLE_RUNNING,
    LIFECYCLE_LEAVING,  /* leaderships are moved away */
    LIFECYCLE_STOPPING, /* shards sync and close their logs */
    LIFECYCLE_STOPPED,
};

/* All that failed in this life. */
struct failures {
    struct partition_id *ids;
    size_t count, capacity;
    uint32_t disks; /* bits */
};

struct lifecycle {
    enum lifecycle_state state;
    struct env_timer timer; /* the next heartbeat or registration */
    struct env_timer stop_timer;
    struct call *call; /* the one in flight; NULL */
    uint64_t call_sent_ns;
    bool again;         /* something changed while it was in flight */
    bool handing_over;  /* LEAVING, all but the lead of the quorum has left */
    uint64_t *heard_ns; /* by shard: its last sign of life */
    bool stuck;         /* one of them gives none */
    int64_t *applied;   /* by shard (R30); -1: nothing yet */
    unsigned stopped;
    bool unclean;                            /* some log could not be made durable */
    uint32_t full_disks, low_disks;          /* bits (R16) */
    uint64_t slow_until_ns[DIRECTORIES_MAX]; /* they count as slow */
    struct list_node ends;                   /* struct shard_end: answers to be told */
    size_t end_count, told_ends;             /* told by the heartbeat in flight */
    struct failures failures;
    uint32_t told_disks; /* of them, by the heartbeat in flight */
    bool doomed;         /* all directories failed: it ends when the controller knows */
};

struct shard {
    struct env *env;
    unsigned idx;
    const struct shard_config *config;
    struct partition_table *table; /* NULL after the stop */
    struct image *image;
    struct arena scratch;    /* of the call at hand: nothing that calls back may hold it */
    struct arena data_arena; /* rows of replica data, while partitions take them */
    struct env_timer tick;
    bool idle;           /* the next tick is a late one */
    uint64_t sign_ns;    /* the last sign of life to shard 0 */
    uint64_t changed_ns; /* when the image last moved */
    uint32_t parts_here; /* at this owner, not yet answered */

    struct conn_table conns;
    struct list_node sessions;
    struct list_node detached; /* requests that nobody waits for, and parts of them are away */
    struct list_node free_requests;
    uint32_t free_request_count;
    struct list_node admins; /* requests that are calls (admin.c) */

    struct env_outbox *outboxes; /* by actor */
    unsigned outboxes_waiting;
    bool paused; /* an outbox waits, or the shard stops: no requests of clients are read */
    bool stopping, dying;
    bool doomed;           /* some session is */
    uint32_t disks_failed; /* bits, as far as this shard's replicas saw */

    struct quorum_address leader;
    uint64_t term;
    bool active_here;
    struct shard_lease lease;

    uint32_t last_correlation;
    uint64_t last_token;
    struct list_node calls;
    struct list_node peers;
    struct list_node peer_sends; /* struct peer_send: the quorum's, waiting for answers (shard 0) */
    struct list_node probes;     /* shard 0 */
    struct list_node alters;     /* struct alter_batch in flight */
    struct alter_batch *alter;   /* gathered in this turn; NULL */

    struct lifecycle lifecycle;
    /* shard 0: producer ids */
    producer_id_t next_id, end_id;
    bool ids_asked;
    struct list_node ids_wanted; /* struct shard_id */

    uint64_t requests, replies, errors;
    uint32_t connections;
};

/* shard.c */
void shard_post(struct shard *shard, unsigned to, struct env_message *message, uint32_t type);
static inline unsigned shard_quorum(const struct shard *shard)
{
    return shard->config->shard_count;
}
uint64_t shard_random(struct shard *shard, uint64_t bound);
err_t conn_add(struct shard *shard, env_conn conn, enum conn_kind kind, void *owner);
void conn_remove(struct shard *shard, env_conn conn);
struct conn_entry *conn_find(struct shard *shard, env_conn conn); /* NULL */
bool shard_lease_valid(const struct shard *shard, uint64_t now_ns);

/* session.c */
void session_accepted(struct shard *shard, env_conn conn, unsigned listener, const char *peer);
void session_received(struct shard *shard, struct session *session, struct frame *frame);
/* The connection is gone: frees the session; its requests are detached. */
void session_closed(struct shard *shard, struct session *session, err_t err);
/* drop: at once; else after what is queued. Frees the session. */
void session_end(struct shard *shard, struct session *session, bool drop);
/* At the end of the turn, after what is queued. */
void session_doom(struct shard *shard, struct session *session);
void sessions_end_doomed(struct shard *shard);
void session_update_pause(struct shard *shard, struct session *session);
void sessions_update_pause(struct shard *shard);
void sessions_tick(struct shard *shard, uint64_t now_ns);

/* request.c */
void request_begin(struct shard *shard, struct session *session, struct request *request);
/* One of what was counted in request->away is back. */
void request_release(struct shard *shard, struct request *request);
void request_detach(struct shard *shard, struct request *request); /* its connection is gone */
void request_destroy(struct request *request); /* memory and references; no shard is needed */
struct session *request_session(struct shard *shard,
                                const struct request *request); /* NULL: gone */
void request_fail(struct request *request, err_t err, const char *sentence);
void part_arrived(struct shard *shard, struct part *part); /* at its owner */
void part_done(struct shard *shard, struct part *part);    /* answered, at its owner */
void part_came_back(struct shard *shard, struct part *part);
/* The node ends while that was away; all of its threads have stopped. */
void request_lost(struct request *request);
void part_lost(struct part *part);
void cancel_arrived(struct shard *shard, struct shard_cancel *cancel);
void cancel_came_back(struct shard *shard, struct shard_cancel *cancel);
void cancel_lost(struct shard_cancel *cancel);
void requests_tick(struct shard *shard, struct session *session, uint64_t now_ns);

/* local.c */
void local_begin(struct shard *shard, struct session *session, struct request *request);
void id_asked(struct shard *shard, struct shard_id *ask);
void id_given(struct shard *shard, struct shard_id *ask);

/* call.c */
struct call *call_begin(struct shard *shard, const struct call_args *args); /* NULL: no memory */
void call_abandon(struct shard *shard, struct call *call);                  /* done is not called */
void call_answered(struct shard *shard, struct quorum_answer *answer);
void calls_leader_changed(struct shard *shard);
void calls_fini(struct shard *shard);
/* What the reply says as a whole: its error field, or the error frame's; ERR_OK when it has
 * neither. */
err_t call_reply_error(struct shard *shard, const struct frame *reply);

/* admin.c */
void admin_begin(struct shard *shard, struct session *session, struct request *request);
void admin_image_moved(struct shard *shard);
void admin_tick(struct shard *shard, uint64_t now_ns);
void admin_fini(struct shard *shard);

/* peer.c */
/* Takes the frame, whose correlation is set. On failure answered is not called. */
err_t peer_ask(struct shard *shard, const struct peer_to *to, struct frame *frame,
               struct peer_ask *ask);
void peer_ask_cancel(struct peer_ask *ask); /* also when it is not asked */
/* One-way: takes the frame. ERR_FULL: dropped, the peer's queue is long. */
err_t peer_send(struct shard *shard, const struct peer_to *to, struct frame *frame);
void peer_connected(struct shard *shard, void *peer);
void peer_received(struct shard *shard, void *peer, struct frame *frame);
void peer_closed(struct shard *shard, void *peer, err_t err);
void peers_renew(struct shard *shard); /* our broker epoch changed: hellos say it anew (R12) */
void peers_fini(struct shard *shard);
/* The quorum's (shard 0). Takes the message. */
void peer_quorum_send(struct shard *shard, struct quorum_peer_send *send);
struct peer_identity {
    node_id_t node;
    struct uuid incarnation;
};
/* Reads a peer's hello, the answer to ours; ERR_INCONSISTENT_CLUSTER_ID, ERR_INVALID_REQUEST, or
 * what the peer's error frame says. */
err_t peer_read_hello(struct shard *shard, const struct frame *frame,
                      struct peer_identity *ret_who);

/* probe.c: shard 0 begins them; any shard hints */
void probe_hint(struct shard *shard, node_id_t node);
void probe_begin(struct shard *shard, node_id_t node);
void probe_begin_all(struct shard *shard); /* a new controller does not know who is there */
void probe_connected(struct shard *shard, void *probe);
void probe_received(struct shard *shard, void *probe, struct frame *frame);
void probe_closed(struct shard *shard, void *probe, err_t err);
void probes_fini(struct shard *shard);

/* stream.c */
void stream_host_init(struct shard *shard, struct partition_host *ret_host);
/* The frame is borrowed. ERR_INVALID_REQUEST: not what a leader sends. */
err_t stream_take_data(struct shard *shard, node_id_t leader, const struct wire_header *header,
                       struct frame *frame);
void stream_deltas_arrived(struct shard *shard, const struct shard_deltas *deltas);
void stream_reply_arrived(struct shard *shard, struct shard_stream_reply *reply);
void stream_session_closed(struct shard *shard, struct session *session);
void stream_turn_ended(struct shard *shard);
void stream_fini(struct shard *shard);

/* failure.c */
void failure_seen(struct shard *shard, const struct partition_id *id, uint32_t disk, err_t err);
void failure_arrived(struct shard *shard, struct shard_failure *failure); /* takes it */
bool failures_fill(struct shard *shard, Karst__HeartbeatRequest *request);
void failures_fini(struct shard *shard);

/* ends.c */
void ends_init(struct shard *shard);
void ends_fini(struct shard *shard);
void ends_asked(struct shard *shard, const Karst__HeartbeatReply *reply);
void ends_taken(struct shard *shard);
bool ends_fill(struct shard *shard, Karst__HeartbeatRequest *request);
void end_asked(struct shard *shard, struct shard_end *end); /* both take it */
void end_told(struct shard *shard, struct shard_end *end);

/* space.c: into a heartbeat. False: no memory */
bool space_fill(struct shard *shard, Karst__HeartbeatRequest *request);

/* lifecycle.c */
void lifecycle_start(struct shard *shard);
void lifecycle_hurry(struct shard *shard); /* a heartbeat now, or when the one in flight is back */
void lifecycle_failed(struct shard *shard,
                      bool all); /* something to tell; every directory failed */
void lifecycle_applied(struct shard *shard, unsigned from, int64_t offset);
void lifecycle_leader_changed(struct shard *shard);
void lifecycle_stopped(struct shard *shard, err_t err);
void lifecycle_stop_here(struct shard *shard); /* SHARD_STOP, on every shard */
void lifecycle_finish_here(struct shard *shard);
void lifecycle_fini(struct shard *shard);

#endif
