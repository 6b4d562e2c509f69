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
};
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
void serve_describe(struct quorum *quorum, const struct quorum_call *call);
void serve_settle(struct quorum *quorum, bool leader_changed);
void serve_tick(struct quorum *quorum, uint64_t now_ns);

/* ---- observer.c: the pull ---- */

struct snapshot_job;
struct observer {
    struct store store;
    struct members members; /* by the last change entry or snapshot */
    struct quorum_address source;
    unsigned next_source;
    uint64_t token; /* of the pull in flight; 0: none */
    uint64_t tokens;
    bool pulled;            /* the last answer was good: the first retry is at once */
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
void observer_answer(struct quorum *quorum, struct quorum_peer_answer *answer); /* not taken */
void observer_settle(struct quorum *quorum);

/* ---- quorum.c ---- */

struct quorum {
    struct env *env;
    const struct quorum_config *config;
    bool voter, started, failed;
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
};

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
