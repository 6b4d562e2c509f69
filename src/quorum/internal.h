/* internal.h - the quorum's parts, private to this folder.
 *
 *   raft (voters) ──apply──▶ feed ──difference, image──▶ shards
 *   observer ────────apply──▶ feed
 *   calls ──▶ leader ──controller──▶ proposals ──raft_apply──▶ raft          (the active one)
 *         └─▶ serve  (MetadataFetch, DescribeQuorum)                          (voters)
 *
 * Everything begins in an upcall of the env's loop and ends in quorum_pump: what raft finished is
 * told, what was applied is published, what was decided is proposed. raft_* is called from there
 * and from guard_upcall_done only, never inside a callback of raft's (rule "no re-entry"). */
#ifndef KARST_QUORUM_INTERNAL_H
#define KARST_QUORUM_INTERNAL_H

#include "base/rng.h"
#include "quorum/ballast.h"
#include "quorum/raft_io.h"

enum {
    QUORUM_TICK_MS = 100,
    QUORUM_BACKLOG_MAX = 16384, /* messages that a shard did not take: then fail-stop */
    QUORUM_SENDS_MAX = 4096,    /* frames to peers waiting for shard 0: more are dropped */
    LEADER_PROOFS_MAX = 8,
};

/* ---- feed.c: entries → image → shards ---- */

struct feed {
    struct image *image;     /* what is published */
    struct image_edit *edit; /* applied, not yet published; NULL: nothing */
    struct image *snapshot;  /* that is being encoded on a worker */
    bool moved;              /* published, and the pump has not looked yet */
};
void feed_init(struct quorum *quorum);
void feed_fini(struct quorum *quorum);
/* A command's entry. On failure the process ends, and false. */
bool feed_apply(struct quorum *quorum, uint64_t index, struct bytes padded);
/* Publishes what was applied. */
void feed_settle(struct quorum *quorum);
/* A restored snapshot's image (one reference, taken). */
void feed_replace(struct quorum *quorum, struct image *image);
/* Decodes and replaces. On failure the process ends, and false. */
bool feed_restore(struct quorum *quorum, struct bytes image);
extern const struct raft_fsm feed_fsm; /* data: the quorum */

/* ---- change.c: the voters, one change at a time ---- */

struct change {
    bool active, adding, submitted; /* submitted: a slot of the log is asked for */
    bool asked;                     /* somebody waits for the answer */
    unsigned actor;
    uint64_t token;
    node_id_t node;
    char address[QUORUM_ADDRESS_MAX]; /* to be added with */
    uint64_t deadline_ns;             /* of an addition: then it is undone */
    uint64_t slot_ns;                 /* since when the slot's turn has come; 0: it has not */
    uint64_t round_index, round_ns;   /* of the catching up */
    uint64_t term_ns, idle_ns;        /* since when it leads, and nothing was changed */
    uint64_t recorded_index;          /* of the configuration that the image tells */
    uint64_t not_before_ns;           /* of the next replacement of a lost voter */
    size_t next_observer;             /* to be tried as one */
    struct {
        raft_id id;
        uint64_t since_ns;
    } lost[MEMBERS_MAX];
    unsigned lost_count;
    struct raft_change request;
};
enum change_turn { CHANGE_BEGUN, CHANGE_WAITS, CHANGE_GIVES_UP, CHANGE_FAILED };
bool change_is_method(uint16_t method);
/* Takes nothing; answers now or later. The controller is active. */
void change_call(struct quorum *quorum, const struct quorum_call *call,
                 const struct wire_header *header);
/* The slot's turn to become an entry has come. GIVES_UP: something else must fill it. */
enum change_turn change_take_turn(struct quorum *quorum, raft_change_cb done);
/* The slot is filled and applied. */
void change_slot_done(struct quorum *quorum);
/* While the controller is active: what is due is begun. */
void change_settle(struct quorum *quorum);
void change_begin_term(struct quorum *quorum);
void change_lost(struct quorum *quorum);

/* ---- leader.c: the controller of the active leader ---- */

struct proposal;
enum leader_stage {
    LEADER_NOT,
    LEADER_BARRIER,   /* the own-term entry is not applied yet */
    LEADER_BOOTSTRAP, /* a new cluster's first records are not applied yet */
    LEADER_ACTIVE,
};
struct leader {
    enum leader_stage stage;
    uint64_t term;
    struct controller *controller;
    struct rng rng;
    struct list_node proposals; /* in order of their index; the first may be in flight */
    struct proposal *in_flight;
    size_t proposal_bytes, calls;
    unsigned undigested; /* proposals since the last digest */
    uint64_t next_tick_ns;
    /* Proved dead (R10), also while another led: the last ones, a ring. */
    struct leader_proof {
        node_id_t node;
        struct uuid incarnation;
    } dead[LEADER_PROOFS_MAX];
    unsigned dead_count;
    struct raft_transfer transfer;
    struct change change;
};
/* The next entry but what is proposed already is a slot of change.c's. */
void leader_submit_slot(struct quorum *quorum);
/* Records of a decision of this turn. */
void leader_add_records(struct quorum *quorum, struct record_list *records);
uint64_t leader_decision_index(const struct quorum *quorum);
/* The reply (taken) goes out when all that is proposed is applied. */
void leader_answer(struct quorum *quorum, unsigned actor, uint64_t token, uint16_t method,
                   struct frame *reply);
bool leader_init(struct quorum *quorum);
void leader_fini(struct quorum *quorum);
bool leader_is_method(uint16_t method);
/* Takes nothing; answers now or later. */
void leader_call(struct quorum *quorum, const struct quorum_call *call,
                 const struct wire_header *header);
void leader_peer_died(struct quorum *quorum, node_id_t node, const struct uuid *incarnation);
/* This process ends soon: another voter should lead. */
void leader_hand_over(struct quorum *quorum);
void leader_tick(struct quorum *quorum, uint64_t now_ns);
/* After feed_settle: follows raft's state, sends replies, proposes. */
void leader_settle(struct quorum *quorum, bool image_moved);

/* ---- serve.c: what a voter tells observers and people ---- */

struct serve {
    struct list_node waiters; /* long polls */
    size_t waiter_count;
    uint64_t commit_seen;
    uint8_t *file; /* the snapshot that is being fetched; NULL: none */
    size_t file_len;
    uint64_t file_index, file_term, file_used_ns;
};
void serve_init(struct quorum *quorum);
void serve_fini(struct quorum *quorum);
void serve_metadata_fetch(struct quorum *quorum, const struct quorum_call *call,
                          const struct wire_header *header);
void serve_describe(struct quorum *quorum, const struct quorum_call *call,
                    const struct wire_header *header);
void serve_settle(struct quorum *quorum, bool leader_changed);
void serve_tick(struct quorum *quorum, uint64_t now_ns);
/* It is no server any more: who waits is told so. */
void serve_stop(struct quorum *quorum);

/* ---- observer.c: the pull ---- */

struct snapshot_job;
struct observer {
    struct store store;
    struct members members; /* by the last change entry or snapshot */
    struct quorum_address source;
    unsigned next_source;
    struct quorum_address hints[MEMBERS_MAX]; /* voters, by one that is none any more */
    unsigned hint_count;
    uint64_t token; /* of the pull in flight; 0: none */
    uint64_t tokens;
    bool pulled;            /* the last answer was good: the first retry is at once */
    bool fresh;             /* its voter had heard of the leader */
    struct env_timer timer; /* the pull's deadline, or the time of the next one */
    node_id_t leader;
    uint64_t leader_term, commit_index;
    uint8_t *file; /* a snapshot in pieces; NULL: none */
    uint64_t file_bytes, file_received, file_index, file_term;
    struct image *install_image; /* while the file is being written */
    struct snapshot_head install_head;
    struct snapshot_write *write;
    struct snapshot_job *job; /* an own snapshot under way */
    uint64_t snapshots_taken, snapshots_installed;
};
err_t observer_init(struct quorum *quorum, struct store_loaded *loaded);
void observer_start(struct quorum *quorum);
void observer_fini(struct quorum *quorum);
/* Its store is closed, all of it durable if that is possible; nothing may be under way. */
void observer_stop(struct quorum *quorum);
void observer_answer(struct quorum *quorum, struct quorum_peer_answer *answer); /* not taken */
void observer_settle(struct quorum *quorum);

/* ---- lonely.c: a server without a leader asks whether it is one still ---- */

struct lonely {
    uint64_t since_ns, next_ns, token;
    unsigned next;
    bool removed;
};
void lonely_tick(struct quorum *quorum, uint64_t now_ns);
void lonely_answer(struct quorum *quorum, const struct quorum_peer_answer *answer); /* not taken */

/* ---- role.c: server or observer ---- */

err_t role_load(struct quorum *quorum);
void role_start(struct quorum *quorum);
void role_tick(struct quorum *quorum);

/* ---- quorum.c ---- */

/* Of quorum_view: what became of raft_io's when it was a server before. */
struct quorum_counters {
    uint64_t clamped, held, stale, covered, reconfigured, truncations, snapshots_taken,
        snapshots_installed, early_elections;
};

struct quorum {
    struct env *env;
    const struct quorum_config *config;
    bool voter; /* a server of the quorum: most of them vote */
    bool has_vote, started, failed;
    struct raft raft;
    struct raft_fsm fsm;
    struct quorum_io io;
    struct messages_assembly assembly;
    struct observer observer;
    struct ballast ballast;     /* of its disk (R16) */
    struct store *store;        /* the io's or the observer's */
    struct store_loaded loaded; /* an observer's, until it starts */
    struct feed feed;
    struct leader leader;
    struct serve serve;
    struct arena arena; /* of the message at hand */
    struct env_timer timer;
    struct env_outbox out[QUORUM_SHARDS_MAX];
    struct quorum_leader told; /* the last QUORUM_LEADER */
    bool told_any;
    uint64_t elections_won;
    struct quorum_counters past; /* of times as a server */
    struct quorum_view parted;   /* when its log was closed to be opened in another role */
    struct lonely lonely;
};

struct quorum_counters quorum_counters(const struct quorum *quorum);
void quorum_log_flushed(void *owner, offset_t flushed_end, err_t err); /* the log's upcall */
void quorum_pump(struct quorum *quorum);
void quorum_fail(struct quorum *quorum, const char *why);
void quorum_fail_err(struct quorum *quorum, const char *what, err_t err);
/* The message is taken. */
void quorum_post(struct quorum *quorum, unsigned shard, struct env_message *message);
/* A reply or error frame (taken; NULL: no memory, the caller's deadline ends it). */
void quorum_answer(struct quorum *quorum, unsigned actor, uint64_t token, struct frame *frame);
/* A frame (taken) to a peer, by shard 0. False: dropped. */
bool quorum_send(struct quorum *quorum, const struct quorum_address *to, uint64_t token,
                 struct frame *frame);
/* Of a snapshot due now: from which index the log is kept behind it. */
uint64_t quorum_keep_from(const struct quorum *quorum, uint64_t index);
bool quorum_snapshot_due(const struct quorum *quorum);
/* Where a node listens to brokers, by raft's configuration or the image; node -1: unknown. */
struct quorum_address quorum_address_of(const struct quorum *quorum, node_id_t node);

#endif
