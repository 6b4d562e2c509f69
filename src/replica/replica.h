/* replica.h - one partition on one broker, leader or follower: what to append, cut, flush, tell and
 * acknowledge. It decides; its shard does (src/shard/partition.c).
 *
 *            LEADERSHIP, another leads              LEADERSHIP, this broker leads
 *   IDLE ──────────────────────────────▶ FOLLOWER ──────────────────────────────▶ LEADER
 *    ▲ ▲                                  │  ▲ │         waiters fail, [leader_become]  │ │
 *    │ │    LEADERSHIP, no replica here   │  │ └─ DATA: APPEND, TRUNCATE, RESET         │ │
 *    │ └──────────────────────────────────┘  │    [follower.c]                          │ │
 *    │                                       └──────────────────────────────────────────┘ │
 *    └────────────── CLOSE, FAILED: waiters fail [replica_stop] ◀─────────────────────────┘
 *
 * Leader:   PRODUCE ─▶ APPEND ─▶ APPENDED ─▶ FLUSH ─▶ FLUSHED ─┐
 *           FETCHED (a follower's two ends) ───────────────────┴─▶ high watermark ─▶ answers
 * Follower: DATA ─▶ APPEND ─▶ APPENDED ─▶ FLUSH, SEND_DELTA ─▶ FLUSHED ─▶ SEND_DELTA
 *
 * Effects are executed in the order of the list. APPEND, TRUNCATE and RESET are the last of theirs,
 * and what became of them is told at once by APPENDED or CUT, before any other event.
 *
 * Ownership: waiters are embedded in the caller's objects and linked here until they are answered.
 *            What events point at is read during the step only.
 * Thread:    its shard's. No clock: events carry the time; no I/O.
 * Errors:    in waiters, in answers; what a peer says is never asserted.
 * Units:     offsets; ends are exclusive; ns. */
#ifndef KARST_REPLICA_REPLICA_H
#define KARST_REPLICA_REPLICA_H

#include "base/list.h"
#include "base/table.h"
#include "metadata/image.h"
#include "record/batch.h"

enum {
    REPLICA_EFFECTS_MAX = 8,
    PRODUCER_WINDOW = 5, /* batches in flight that a producer may have, as in Kafka */
};

enum replica_role { REPLICA_IDLE, REPLICA_FOLLOWER, REPLICA_LEADER };

/* The log's leader epochs, in memory (log_last_epoch, log_epoch_end). */
struct replica_history {
    const void *log;
    leader_epoch_t (*last_epoch)(const void *log); /* -1: empty */
    void (*epoch_end)(const void *log, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                      offset_t *ret_end);
};

struct replica_config {
    node_id_t node;
    struct replica_history history;
    uint64_t lag_max_ns;        /* replica.lag.time.max.ms */
    uint64_t retry_ns;          /* of a refused fetch */
    uint64_t proposal_retry_ns; /* of a refused proposal, or one of unknown outcome */
    uint32_t waiters_max;       /* over it produce answers THROTTLING_QUOTA_EXCEEDED */
    uint32_t producers_max;     /* over it the one that was silent longest is forgotten */
};

/* ---- waiters: produce parts between their append and their answer ---- */

struct replica_waiter {
    struct list_node link;
    offset_t base, end; /* of its batches; answered when the high watermark reaches end */
    int16_t acks;       /* -1, 0, 1 */
    bool waiting;       /* linked in the replica */
    err_t verdict;      /* its answer when end is reached */
    err_t err;          /* its answer */
};

/* ---- events ---- */

enum replica_event_type {
    REPLICA_LEADERSHIP,   /* the image's partition changed, or what it says of its brokers */
    REPLICA_PRODUCE,      /* leader: batches that were checked */
    REPLICA_APPENDED,     /* what became of APPEND */
    REPLICA_CUT,          /* what became of TRUNCATE or RESET */
    REPLICA_FLUSHED,      /* the log's flushed end rose */
    REPLICA_FETCHED,      /* leader: a follower's standing order (R7) */
    REPLICA_DATA,         /* follower: the leader's answer */
    REPLICA_STREAM_LOST,  /* follower: the stream to the leader broke */
    REPLICA_FORGET,       /* leader: the connection of a follower is gone */
    REPLICA_ALTERED,      /* the controller's answer to PROPOSE */
    REPLICA_ALTER_FAILED, /* nobody knows what became of PROPOSE */
    REPLICA_CANCEL,       /* a waiter is to come back, with err */
    REPLICA_TICK,
    REPLICA_FAILED, /* the log failed for good */
    REPLICA_CLOSE,  /* the partition leaves this broker: all waiters come back, with err */
};

struct replica_peer {
    broker_epoch_t broker_epoch; /* -1: not registered */
    bool active;                 /* may join the ISR: neither fenced nor leaving */
};

struct replica_leadership {
    const struct image_partition *partition; /* NULL: no leadership may be held or followed now */
    const struct replica_peer *peers;        /* by place among partition->replicas */
    int32_t min_insync;
    bool flush_before_ack;
    uint64_t session; /* > 0; sessions begin at it: the same for all of this process's life */
};

struct replica_produce {
    struct batch_info *batches; /* as checked; APPENDED wants them with their offsets */
    uint32_t count;
    struct replica_waiter *waiter; /* acks is set; the rest is written here */
};

struct replica_appended {
    err_t
        err; /* NOT_ENOUGH_SPACE: mended by a cut; FULL, NO_MEMORY: a passing lack; else for good */
    offset_t end;                     /* of the log; on failure as before */
    const struct batch_info *batches; /* those of PRODUCE with their offsets; NULL at a follower, */
    uint32_t count;                   /* who notes each by replica_note_batch */
};

struct replica_cut {
    err_t err;
    offset_t log_start, end, flushed_end;
};

struct replica_fetched {
    node_id_t follower;
    broker_epoch_t broker_epoch; /* as the connection's hello proved (R12) */
    leader_epoch_t leader_epoch;
    uint64_t session;
    offset_t fetch_offset, flushed_end;
    leader_epoch_t last_fetched_epoch;
    bool stop, want, slow;
};

struct replica_arrived {
    node_id_t from;
    err_t err;
    leader_epoch_t leader_epoch;
    uint64_t session;
    offset_t high_watermark, log_start, fetch_offset;
    leader_epoch_t diverging_epoch;
    offset_t diverging_end; /* -1: not diverging */
    bool records;           /* whole batches, checked, contiguous from fetch_offset on */
    bool broken;            /* they were not: fetch again */
};

struct replica_altered {
    err_t err;
    int32_t partition_epoch;
};

struct replica_event {
    enum replica_event_type type;
    uint64_t now_ns;
    bool lease_valid; /* this broker's, as of now (R10) */
    bool loop_gap;    /* TICK: this loop stood still for over a second */
    err_t err;        /* CANCEL, CLOSE, FAILED, FLUSHED */
    union {
        struct replica_leadership leadership;
        struct replica_produce produce;
        struct replica_appended appended;
        struct replica_cut cut;
        offset_t flushed_end; /* FLUSHED */
        struct replica_fetched fetched;
        struct replica_arrived data;
        node_id_t follower; /* FORGET */
        struct replica_altered altered;
        struct replica_waiter *waiter; /* CANCEL */
    };
};

/* ---- effects ---- */

enum replica_effect_type {
    REPLICA_DO_APPEND,   /* leader: patch from (offset, epoch) on, and append; follower: append */
    REPLICA_DO_TRUNCATE, /* cut to offset */
    REPLICA_DO_RESET,    /* start empty at offset */
    REPLICA_DO_BEGIN_EPOCH, /* note (epoch, end) in the log */
    REPLICA_DO_FLUSH,       /* at the end of the turn */
    REPLICA_DO_SEND_DATA,   /* some follower is owed an answer: replica_answer, at the turn's end */
    REPLICA_DO_SEND_DELTA,  /* the leader is owed a delta: replica_delta_row, at the turn's end */
    REPLICA_DO_PROPOSE,     /* effects.proposal to the controller */
    REPLICA_DO_HW_MOVED,    /* waiting fetches may be served */
    REPLICA_DO_REBUILD,     /* the producers' state: replica_note_batch for each batch of the log */
    REPLICA_DO_REPORT,      /* the replica stopped: why is for the operator */
};

struct replica_effect {
    enum replica_effect_type type;
    offset_t offset;
    leader_epoch_t epoch;
    const char *why;
};

struct replica_proposal {
    leader_epoch_t leader_epoch;
    int32_t partition_epoch;
    uint32_t count;
    struct {
        node_id_t node;
        broker_epoch_t broker_epoch; /* of this broker itself: the caller's to fill */
    } isr[REPLICAS_MAX];
};

struct replica_effects {
    struct replica_effect list[REPLICA_EFFECTS_MAX];
    uint32_t count;
    struct replica_proposal proposal;
    struct list_node answered; /* struct replica_waiter, to be taken from here at once */
};

/* ---- state ---- */

enum follower_answer { ANSWER_NONE, ANSWER_DIVERGING, ANSWER_OUT_OF_RANGE, ANSWER_RETRY };

/* What a leader knows of one follower, in this leader epoch. */
struct replica_follower {
    node_id_t node;
    broker_epoch_t broker_epoch;
    bool active;
    bool counted; /* its last epoch was checked: its ends count (R5) */
    bool order;   /* it wants data from fetch_offset, and none was sent */
    bool gone;    /* its connection is: nothing can be told */
    bool hw_due;  /* told alone when no data takes it along */
    bool slow;    /* it lacks records, and says that it has no room for them (R16) */
    enum follower_answer answer;
    leader_epoch_t diverging_epoch;
    offset_t diverging_end;
    uint64_t session;                   /* 0: none yet */
    offset_t fetch_offset, flushed_end; /* -1: not known */
    offset_t told_hw;
    uint64_t caught_up_ns;  /* when it last had all */
    offset_t end_at_update; /* the leader's end at its last delta, and when that was */
    uint64_t update_ns;
};

enum proposal_state {
    PROPOSAL_NONE,
    PROPOSAL_SENT,
    PROPOSAL_ACCEPTED, /* the image is awaited: it alone changes the ISR (R5) */
    PROPOSAL_UNKNOWN,  /* no outcome: told again */
};

struct producers {
    struct table by_id;      /* struct producer */
    struct list_node by_use; /* the one silent longest first */
    uint32_t count_max;
    bool complete; /* nobody was forgotten: an unknown producer is a new one */
};

struct replica {
    struct replica_config config;
    enum replica_role role;
    bool failed;  /* the log is: no appends any more */
    bool stopped; /* a follower that would have to cut below its high watermark (R9) */
    leader_epoch_t leader_epoch;
    node_id_t leader;
    int32_t partition_epoch;
    leader_epoch_t last_unclean_leader_epoch;
    int32_t min_insync;
    bool flush_before_ack;
    offset_t log_start, end, flushed_end, hw;

    /* replicas by their place in the partition record; sets of them are bits */
    struct replica_follower followers[REPLICAS_MAX];
    uint32_t replica_count, self;
    uint32_t isr; /* committed */
    struct {
        enum proposal_state state;
        bool outstanding; /* its answer has not come, whatever the image says by now */
        bool uncertain;   /* an attempt's outcome is unknown: only the image ends it (R5) */
        uint32_t isr;     /* as proposed */
        uint32_t added;   /* counted for the high watermark until it is settled */
        uint64_t retry_ns;
    } proposal;
    offset_t epoch_start; /* the log's end when this leader epoch began (R4, R11) */
    bool appending;       /* APPEND was asked for and APPENDED has not come */
    struct replica_waiter *appending_waiter;
    struct list_node waiting_hw;    /* acks=all, by end */
    struct list_node waiting_flush; /* acks=1, by end */
    uint32_t waiter_count;

    /* follower */
    uint64_t session;
    offset_t leader_hw;
    uint64_t retry_ns; /* fetch again then; 0: not waiting */
    bool full;         /* the last append failed for want of space (R16) */
    struct {
        uint64_t session;
        leader_epoch_t leader_epoch;
        offset_t fetch_offset, flushed_end;
    } told;

    struct producers producers;
    uint64_t truncations, isr_shrinks, isr_growths;
};

/* The log was opened: its ends, and the checkpoint's high watermark, a hint (R15). Then
 * replica_note_batch for what is in it, and LEADERSHIP. */
struct replica_start {
    offset_t log_start, end, flushed_end, high_watermark;
};
void replica_init(struct replica *r, const struct replica_config *config,
                  const struct replica_start *start);
void replica_fini(struct replica *r); /* no waiters are left: after CLOSE or FAILED */

void replica_step(struct replica *r, const struct replica_event *ev,
                  struct replica_effects *ret_fx);

/* A batch that is in the log now: at recovery, after REBUILD, at a follower after APPENDED. */
void replica_note_batch(struct replica *r, const struct batch_info *info);

/* ---- what is known of producers as bytes, so that a start need not read the whole log ---- */

size_t replica_snapshot_bytes(const struct replica *r);
/* Of the state at the log's end; into has replica_snapshot_bytes. */
void replica_write_snapshot(const struct replica *r, uint8_t *into);
/* Before any batch is noted. *ret_offset: those from there on are to be noted still.
 * ERR_OFFSET_OUT_OF_RANGE: the log ends below it; ERR_CORRUPT, ERR_UNSUPPORTED_VERSION. After an
 * error nobody is known. */
err_t replica_read_snapshot(struct replica *r, struct bytes snapshot, offset_t *ret_offset);

/* ---- what a leader owes a follower; called at the end of a turn ---- */

struct replica_answer {
    err_t err;
    uint64_t session;
    leader_epoch_t leader_epoch;
    offset_t high_watermark, log_start, fetch_offset;
    leader_epoch_t diverging_epoch;
    offset_t diverging_end;
    bool read; /* records from fetch_offset to the log's end are wanted with it */
};
/* False: nothing is owed to the replica at that place. */
bool replica_answer(const struct replica *r, uint32_t place, struct replica_answer *ret_answer);
/* It was sent, with records or without. */
void replica_answered(struct replica *r, uint32_t place, bool with_records);
/* Places of followers that are owed something, as bits. */
uint32_t replica_owed(const struct replica *r);

/* ---- what a follower owes its leader ---- */

struct replica_delta_row {
    leader_epoch_t leader_epoch;
    uint64_t session;
    offset_t fetch_offset, flushed_end, log_start;
    leader_epoch_t last_fetched_epoch;
    bool want, slow;
};
/* False: the leader knows all. Else the row counts as told. again: also when nothing is new (the
 * stream's sign of life). */
bool replica_delta_row(struct replica *r, bool again, struct replica_delta_row *ret_row);

/* ---- reading (R10, R11) ---- */

/* May a consumer be served from offset? ERR_OK: *ret_limit is the exclusive end of what it may see;
 * offset at or above it waits. */
err_t replica_check_fetch(const struct replica *r, offset_t offset, bool lease_valid,
                          offset_t *ret_limit);
/* May ListOffsets answer "latest"? ERR_OFFSET_NOT_AVAILABLE until this leader knows it (KIP-207).
 */
err_t replica_check_latest(const struct replica *r, bool lease_valid, offset_t *ret_latest);
/* Does it lead, with a lease? */
err_t replica_check_leader(const struct replica *r, bool lease_valid);
/* What a produce answers when its time is over. */
err_t replica_timeout(const struct replica *r);
/* TICK is wanted: somebody lags, or something is to be told again. */
bool replica_wants_tick(const struct replica *r);
size_t replica_producer_count(const struct replica *r);

#endif
