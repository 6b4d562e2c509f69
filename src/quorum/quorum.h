/* quorum.h - the metadata quorum of one broker: canonical/raft over our own raft_io (voters), or
 * the observer's pull; the metadata log and its snapshots; the image; the active controller.
 *
 * An actor of its own, number `shards` of its node. It has no sockets: frames to and from peers
 * pass through shard 0 by mail. A voter's life:
 *
 *   quorum_new [load: term, vote, snapshot, log → image] ──quorum_start──▶ follower ⇄ candidate
 *   candidate ──majority of votes──▶ leader
 *   leader ──own-term barrier applied──▶ controller active ──any loss of leadership──▶ inactive
 *
 * An observer becomes a server of the quorum, and a server an observer, while it runs, as the
 * committed configuration says (role.c); AddVoter and RemoveVoter change that (change.c).
 *
 * Every message below begins with struct env_message; who receives it owns it (free) and the
 * references in it.
 * Errors: a failed write of the metadata log, a record that can't be applied, an image digest that
 * differs: fail-stop by env.exit_node with a clear sentence. */
#ifndef KARST_QUORUM_QUORUM_H
#define KARST_QUORUM_QUORUM_H

#include "controller/controller.h"
#include "env/message.h"
#include "log/log.h"
#include "metadata/image.h"
#include "wire/wire.h"

enum { QUORUM_VOTERS_MAX = 7, QUORUM_ADDRESS_MAX = 300, QUORUM_SHARDS_MAX = 64 };

struct quorum_address {
    node_id_t node; /* -1: not known (a bootstrap server) */
    uint16_t port;
    char host[256];
};

/* ---- mail to the quorum ---- */

enum quorum_message_type {
    QUORUM_CALL = 1,    /* struct quorum_call */
    QUORUM_ONEWAY,      /* struct quorum_oneway */
    QUORUM_PEER_ANSWER, /* struct quorum_peer_answer */
    QUORUM_PEER_DIED,   /* struct quorum_peer_died */
    QUORUM_PEER_LOST,   /* struct quorum_peer_died: its connection closed; a hint only */
    QUORUM_HAND_OVER,   /* struct env_message: this process ends soon, another voter should lead */
    /* from the quorum, to shards */
    QUORUM_ANSWER = 20, /* struct quorum_answer, to the shard that called */
    QUORUM_UPDATE,      /* struct quorum_update, to every shard */
    QUORUM_LEADER,      /* struct quorum_leader, to every shard */
    QUORUM_PEER_SEND,   /* struct quorum_peer_send, to shard 0 */
};

/* A request for the controller, or MetadataFetch, DescribeQuorum, as it came or as it was packed.
 */
struct quorum_call {
    struct env_message message;
    uint64_t token;      /* the caller's, for the answer */
    struct frame *frame; /* a whole frame: header, message */
    node_id_t peer;      /* who the connection's hello said it is; -1: a client */
    broker_epoch_t peer_epoch;
};
struct quorum_answer {
    struct env_message message;
    uint64_t token;
    struct frame *frame; /* a whole reply or error frame; its correlation is 0: to be patched */
};

/* A raft message. */
struct quorum_oneway {
    struct env_message message;
    struct frame *frame;
    node_id_t peer;
};

/* Shard 0 sends frame to node, dialling its address when there is no connection. token 0: one-way,
 * best effort. Else: a request; its reply, or the error, comes back as quorum_peer_answer. */
struct quorum_peer_send {
    struct env_message message;
    uint64_t token;
    struct quorum_address to; /* node -1: any connection to that address */
    struct frame *frame;
};
struct quorum_peer_answer {
    struct env_message message;
    uint64_t token;
    err_t err; /* ERR_OK: frame is a whole reply or error frame */
    struct frame *frame;
    node_id_t peer; /* who answered */
};

/* Proof of death (R10) for that incarnation, found by shard 0's probe. */
struct quorum_peer_died {
    struct env_message message;
    node_id_t node;
    struct uuid incarnation;
    uint64_t led_term; /* of the quorum: told before the address was dialled; 0: it did not lead */
};

/* The image moved; in order. The difference is from the update before. */
struct metadata_update {
    atomic_uint refs;
    struct image *image;
    struct image_difference *difference;
};
void metadata_update_unref(struct metadata_update *update); /* accepts NULL */
struct quorum_update {
    struct env_message message;
    struct metadata_update *update; /* one reference */
};

/* Who leads the quorum, as far as this node knows. */
struct quorum_leader {
    struct env_message message;
    struct quorum_address leader; /* node -1: unknown */
    uint64_t term;
    bool active_here; /* this node's controller is active */
};

void quorum_message_free(struct env_message *message); /* any of the above, references included */

/* ---- life ---- */

struct quorum_config {
    node_id_t node;
    unsigned shards;
    struct uuid cluster_id;
    struct uuid directory_id;   /* of the first log directory: whose vote it is */
    struct quorum_address self; /* as advertised to brokers */
    /* Where an observer first looks for the quorum. */
    const struct quorum_address *bootstrap;
    size_t bootstrap_count;
    uint32_t election_timeout_ms;    /* controller.quorum.election.timeout.ms */
    uint64_t replace_after_ms;       /* controller.quorum.voter.replace.after.ms; 0: never */
    uint32_t heartbeat_ms;           /* raft's; a fifth of the election timeout */
    uint64_t snapshot_bytes;         /* of log since the last snapshot:
                                        metadata.log.max.record.bytes.between.snapshots */
    uint64_t trailing_bytes;         /* of log kept behind a snapshot */
    uint64_t reserve_bytes;          /* metadata.log.reserve.bytes (R16); 0: none */
    uint32_t message_bytes;          /* of entries in one raft message (R22); 0: 1 MiB */
    struct log_options *log_options; /* NULL: defaults (written zeros, 8 MiB segments) */
    struct controller_config controller;
};

struct quorum;

/* Makes the first state of a voter in env's metadata directory: entry 1, the voters' configuration,
 * the same on each of them. Synced. ERR_EXISTS when there is a metadata log already. */
err_t quorum_format(struct env *env, const struct quorum_address *voters, size_t voter_count);

/* Offline (recover.c): a majority of the voters is lost for good, and what this node has becomes
 * the cluster's metadata, with it as the only voter. Not confirmed: it only tells what it has, and
 * changes nothing. config needs node, cluster_id, directory_id, self, log_options.
 * ERR_NOT_FOUND: it has no metadata. */
struct quorum_recovery {
    uint64_t index, term; /* of its last entry */
    size_t brokers, topics, voters;
};
err_t quorum_recover(struct env *env, const struct quorum_config *config, bool confirmed,
                     struct quorum_recovery *ret_recovery);

/* Loads what is on disk; a directory without a formatted log makes an observer. Posts nothing yet.
 * env and config outlive it. Sets env->upcalls and env->actor. */
err_t quorum_new(struct env *env, const struct quorum_config *config, struct quorum **ret_quorum);
/* From the loop, or before it runs: elections, pulls, updates to shards begin. */
void quorum_start(struct quorum *quorum);
/* Crash-safe at any time: drops everything, writes nothing. The env's loop and workers have
 * stopped: no work of the quorum's is running or will complete, but syncs in flight may. */
void quorum_free(struct quorum *quorum);

/* ---- for tests, the simulator's checkers, metrics ---- */

struct quorum_view {
    bool voter, leader, controller_active;
    uint64_t term, commit_index, last_index, applied_index, snapshot_index;
    node_id_t leader_node; /* -1 */
    uint64_t truncations, snapshots_taken, snapshots_installed, elections_won;
    uint64_t contact_ns;      /* a leader: when a majority knew it last (R10); 0: never */
    uint64_t early_elections; /* begun on proof of the leader's death (election.c) */
    /* how often the guard acted (raft_guard.c, raft_membership.c) */
    uint64_t clamped, held, stale, covered, reconfigured;
};
void quorum_look(const struct quorum *quorum, struct quorum_view *ret_view);
struct image *quorum_image(const struct quorum *quorum); /* borrowed */
/* The servers by the last configuration that this node knows to be committed, with raft's roles
 * (0 stand-by, 1 voter, 2 spare). Returns how many; at most max are told. */
struct quorum_server {
    node_id_t node;
    int role;
};
size_t quorum_servers(const struct quorum *quorum, struct quorum_server *ret_servers, size_t max);
/* Term of the log's entry; 0: not in the log (any more). */
uint64_t quorum_entry_term(const struct quorum *quorum, uint64_t index);

#endif
