/* raft_io.h - libraft's world (struct raft_io, version 2) over env and the metadata log, with the
 * guard that keeps stock libraft 0.15 safe.
 *
 *   raft ──append, truncate, snapshot_put──▶ [waiting: behind an install] ──▶ store ──▶ flushed
 *   raft ◀──callbacks, one by one── [results] ◀──quorum_io_drain, from the loop
 *
 * Operations execute in the order of submission (rule "order"): the log is written at the call,
 * unless a snapshot is being installed, which replaces the log: then what comes after it waits.
 * Nothing calls back before it returns: what is finished waits in results.
 *
 * Thread: the quorum's. Errors: any failed write ends the process (rule "fail-stop": libraft 0.15
 * goes on leading after a failed append, and two failures in a row crash it). */
#ifndef KARST_QUORUM_RAFT_IO_H
#define KARST_QUORUM_RAFT_IO_H

#include "quorum/configurations.h"
#include "quorum/contact.h"
#include "quorum/messages.h"
#include "quorum/store.h"
#include "quorum/vote.h"

/* What the io tells its quorum. */
struct quorum_io_owner {
    void *self;
    /* After each upcall into raft has returned; may call raft_* (rule "no re-entry"). */
    void (*upcall_done)(void *self);
    /* After a completion from the loop: time to drain and to settle. */
    void (*pump)(void *self);
    /* Ends the process. Returns. */
    void (*fail)(void *self, const char *why);
    /* A one-way frame (taken) to a node; false: dropped, its queue is full. */
    bool (*post)(void *self, node_id_t node, const char *address, struct frame *frame);
};

/* What the message being processed, or the one that led to the completion at hand, allows to
 * answer. */
struct guard_context {
    bool set;
    uint64_t match; /* last index that the request spoke of */
    uint64_t term;
    raft_id from;
};

struct quorum_io {
    struct raft_io raft_io; /* raft_io.data is struct raft */
    struct raft *raft;
    struct env *env;
    struct quorum_io_owner owner;
    node_id_t node;
    struct uuid cluster_id;
    size_t message_bytes;
    bool failed;

    struct store store;
    struct store_loaded loaded; /* until raft takes it */
    struct vote_file vote;
    struct configurations configurations; /* by the log as it is written */

    struct list_node appends; /* written, not durable yet; in order */
    struct list_node waiting; /* behind an install */
    struct list_node results; /* finished: to be told */
    struct list_node sending; /* snapshots going out in pieces */
    struct list_node working; /* on a worker */
    struct io_op *put;        /* the snapshot being written; one at a time */
    bool installing;          /* and it replaces the log */

    raft_io_tick_cb tick;
    raft_io_recv_cb recv;
    uint64_t tick_ns;
    struct env_timer tick_timer, piece_timer;

    /* the guard */
    struct guard_context context;
    struct contact contact;
    struct raft_barrier barrier;
    uint64_t own_term;                     /* in which our barrier was appended; 0: none */
    uint64_t own_term_applied;             /* and applied */
    uint64_t heard_ns;                     /* of the leader, last */
    uint64_t told_term, told[MEMBERS_MAX]; /* by guard_tell_commit: commit index, by server */
    /* by server: a success that may not be counted yet (rule "hold"); from 0: none */
    struct guard_held {
        raft_id from;
        struct raft_append_entries_result result;
    } kept[MEMBERS_MAX];
    unsigned kept_count;

    /* the early election (election.c): who is proved dead, and as the leader of which term */
    struct {
        raft_id leader;
        raft_term term;      /* 0: nobody */
        raft_term seen_term; /* at this voter's last turn */
        uint64_t until_ns;
        struct env_timer timer;
    } early;
    uint64_t early_elections;

    uint64_t clamped, held, stale, covered, reconfigured, truncations, snapshots_taken,
        snapshots_installed;
};

/* Takes store and loaded over (moved); vote is opened already. */
struct quorum_io_args {
    struct env *env;
    struct quorum_io_owner owner;
    struct raft *raft;
    node_id_t node;
    struct uuid cluster_id;
    size_t message_bytes; /* 0: MESSAGE_ENTRIES_BYTES */
    const struct vote_file *vote;
};
void quorum_io_init(struct quorum_io *io, const struct quorum_io_args *args);

/* The log's upcall. */
void quorum_io_flushed(struct quorum_io *io, offset_t flushed_end, err_t err);
/* Tells one finished operation; false: there is none. */
bool quorum_io_drain(struct quorum_io *io);
/* The message is taken; server_address is set. sent_ns: its stamp (contact.h), 0 without one. */
void quorum_io_receive(struct quorum_io *io, struct raft_message *message, uint64_t sent_ns);
/* While this node leads: until when a majority knew it, by our clock (contact.h). */
uint64_t quorum_io_contact_ns(const struct quorum_io *io);

/* ---- the guard (raft_guard.c) ---- */

void guard_receive(struct quorum_io *io, struct raft_message *message);
/* send of struct raft_io. */
int guard_send(struct raft_io *raft_io, struct raft_io_send *request,
               const struct raft_message *message, raft_io_send_cb cb);
/* After each upcall: the own-term entry (rule "own-term entry"). */
void guard_upcall_done(struct quorum_io *io);
/* While nothing is proposed: whoever has what is committed is told so. */
void guard_tell_commit(struct quorum_io *io);

/* ---- its rules on configurations (raft_membership.c) ---- */

void guard_configure(struct quorum_io *io);
void guard_before_tick(struct quorum_io *io);
bool guard_receive_vote(struct quorum_io *io, struct raft_message *message);
/* The last configuration that is known to be committed; NULL: none. */
const struct members *guard_committed(const struct quorum_io *io);
/* Best effort: the committed change at index has removed it. */
void guard_tell_removed(struct quorum_io *io, const struct member *removed, raft_index index);

/* ---- the early election (election.c) ---- */

/* Proof that who led this term is dead. After this the owner settles. */
void election_leader_died(struct quorum_io *io, raft_id leader, raft_term term);
void election_forget_leader(struct raft *raft); /* of a follower */
void election_turn_due(struct env_timer *timer, uint64_t now_ns);
/* This voter has just started: if nobody turns out to lead, it does not wait for a silence. */
void election_started(struct quorum_io *io);
/* Somebody asks for a vote: who has been silent for an election timeout leads no more. */
void election_forget_silent(struct quorum_io *io);

/* ---- operations, for the files above ---- */

enum io_op_kind { IO_APPEND, IO_TRUNCATE, IO_PUT, IO_GET, IO_SEND, IO_WORK };

struct io_op {
    struct list_node link;
    enum io_op_kind kind;
    struct quorum_io *io;
    struct guard_context context;
    int status;
    void *request; /* raft's; NULL for truncate */
    union {
        struct {
            const struct raft_entry *entries;
            unsigned count;
            uint64_t wait_end; /* done when so much is flushed */
        } append;
        uint64_t truncate;
        struct {
            const struct raft_snapshot *snapshot;
            unsigned trailing; /* 0: install */
            struct snapshot_write *write;
        } put;
        struct raft_snapshot *got;
        struct {
            struct raft_message message; /* InstallSnapshot: its buffers are raft's until told */
            char *address;               /* NULL: no snapshot */
            size_t at;
        } send;
        struct env_done work;
    };
};
struct io_op *io_op_new(struct quorum_io *io, enum io_op_kind kind, void *request);
void io_op_finish(struct io_op *op, int status);
void io_fail(struct quorum_io *io, const char *what, err_t err);
/* Begins to send a snapshot; op->send.message is set. */
void io_send_snapshot(struct io_op *op);

#endif
