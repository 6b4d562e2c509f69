/* partition.h - one partition's replica on its owner shard: the log, the replica state machine, and
 * the execution of its effects. Private to src/shard.
 *
 *   session.c, stream.c  ──parts, deltas, data──▶          partition.c ──▶ replica, log
 *                        ◀──answered parts, frames to peers──
 *
 * Ownership: the shard's table owns partitions. A part handed in comes back exactly once through
 *            host.part_done, at once or later (also when the partition is deleted, closed, or
 *            changes its role).
 * Thread:    the owner shard's. */
#ifndef KARST_SHARD_PARTITION_H
#define KARST_SHARD_PARTITION_H

#include "metadata/image.h"
#include "proto/rpc.pb-c.h"
#include "shard/request.h"

struct shard;
struct partition_table;

/* What the table needs of its shard (shard.c, session.c, peers.c): one struct, so that it can be
 * tested without sockets. */
struct partition_found;
struct partition_host {
    void *self;
    struct env *env;
    /* Of all shards, for the judgement of strays (R21); NULL: only this one's. */
    const struct partition_found *found_all;
    size_t found_all_count;
    const struct uuid *directories; /* ids, in the order of env->disks; NULL: not known */
    node_id_t node;
    unsigned shard, shards;
    /* An answered part goes back to its request (by mail when that is another shard's). */
    void (*part_done)(void *self, struct part *part);
    /* Sends one ReplicaFetchRequest frame (one-way) to the leading broker over this shard's
     * stream to it, dialled when needed. Best effort: when the stream breaks,
     * partition_stream_lost is called. Takes the frame. */
    void (*stream_send)(void *self, node_id_t leader, struct frame *frame);
    /* Sends data of one follower's partitions back to where its deltas came from. header is a
     * frame; then count frames of records follow as its attachment. Takes all references. */
    void (*stream_reply)(void *self, unsigned via_shard, env_conn conn, struct frame *header,
                         struct frame **records, size_t count);
    /* AlterPartition to the controller: packed into one request with others of this turn; the
     * reply comes as partition_altered for each item, or partition_alter_failed (unknown
     * outcome). */
    void (*alter_partition)(void *self, const struct partition_id *id,
                            const Karst__AlterPartitionItem *item);
    /* This broker's lease (R10): valid until then. Read again at reply time. */
    bool (*lease_valid)(void *self, uint64_t now_ns);
    broker_epoch_t (*broker_epoch)(void *self); /* -1 before registration */
    struct frame_budget *read_budget;           /* as in shard_config; NULL: no bound */
    /* That replica stopped. ERR_KAFKA_STORAGE_ERROR: its directory has, a sync failed there (R14);
     * else it alone: its log takes no appends (R19), is corrupt (R15), or would have to be cut
     * below its high watermark (R9). A log line was written. ERR_OK: it works again, or is gone.
     * May be NULL. */
    void (*replica_failed)(void *self, const struct partition_id *id, uint32_t disk, err_t err);
};

/* One row of a follower's ReplicaFetchRequest, decoded by the receiving shard, for the owner. */
struct replica_delta {
    struct env_message message; /* first; travels by mail when the owner is another shard */
    struct partition_id id;
    node_id_t follower;
    broker_epoch_t broker_epoch;
    unsigned via_shard; /* whose connection it came on: data goes back there */
    env_conn conn;
    leader_epoch_t leader_epoch;
    offset_t fetch_offset, flushed_end, log_start;
    leader_epoch_t last_fetched_epoch;
    uint64_t session;
    bool stop, want, slow;
};

/* One row of ReplicaData, decoded by the follower's shard (always the owner: streams are per
 * shard). */
struct replica_data {
    struct partition_id id;
    err_t err;
    leader_epoch_t leader_epoch;
    uint64_t session;
    offset_t high_watermark, log_start, fetch_offset;
    leader_epoch_t diverging_epoch;
    offset_t diverging_end;
    const uint8_t *records; /* in the frame, borrowed; a follower keeps the leader's bytes */
    uint32_t bytes;
    node_id_t from;
};

struct partition_options {
    uint64_t replica_lag_max_ns;       /* replica.lag.time.max.ms */
    uint32_t replica_fetch_bytes_max;  /* of one partition in one answer */
    uint32_t replica_fetch_response_bytes_max;
    bool flush_before_ack;             /* log.flush.before.ack */
    int32_t min_insync_replicas;       /* the broker's default */
    uint32_t message_bytes_max;        /* message.max.bytes: of one batch */
    uint64_t segment_bytes;            /* log.segment.bytes */
    uint32_t preallocate_bytes;
    uint64_t free_bytes_min;           /* log.dir.min.free.bytes */
    int64_t stray_retention_ms;        /* log.stray.retention.ms */
    uint32_t stray_percent_max;        /* log.stray.max.percent; 0: no bound */
    uint32_t waiters_max;              /* parts waiting on one partition */
};

struct partition_table *partition_table_new(const struct partition_host *host,
                                            const struct partition_options *options);
/* sync: flush and checkpoint every log first (a clean stop). All parts come back. An error says
 * that not all is durable: no clean marker then (R17). */
err_t partition_table_free(struct partition_table *table, bool sync);

/* Replicas found on disk at start (this shard's share): opened when the image assigns them here,
 * else strays. clean: of the directory. */
struct partition_found {
    struct partition_id id;
    uint32_t disk;    /* index in env->disks */
    bool in_manifest; /* it may have acknowledged: else it is made anew when it is broken (R1) */
    bool synced;      /* log_dir_open made durable what it holds, for its first opener (R14) */
    char folder[TOPIC_NAME_MAX + 16];
};
void partition_table_found(struct partition_table *table, const struct partition_found *found,
                           size_t count, const bool *disk_clean);

/* Replicas that a manifest names and no folder holds (R1): never made anew while they are
 * members. */
void partition_table_lost(struct partition_table *table, const struct partition_id *lost,
                          size_t count);

/* The shard has pinned image; acts on what changed for its own partitions: opens, creates, leads,
 * follows, closes, deletes. In one step for each partition (R6). */
void partition_table_apply(struct partition_table *table, struct image *image,
                           const struct image_difference *difference);

/* A part for a partition that this shard owns. Unknown partitions are answered so. */
void partition_produce(struct partition_table *table, struct produce_part *part);
void partition_fetch(struct partition_table *table, struct fetch_part *part);
void partition_list_offsets(struct partition_table *table, struct list_offsets_part *part);
void partition_epoch_end(struct partition_table *table, struct epoch_end_part *part);
/* The connection is gone, or the request is given up: its waiting parts come back ERR_CANCELED. */
void partition_cancel(struct partition_table *table, struct part *part);

void partition_delta(struct partition_table *table, struct replica_delta *delta); /* borrowed */
void partition_data(struct partition_table *table, const struct replica_data *data);
/* The stream to that leader broke: standing orders are told again when it is back (the next
 * stream_send dials). Followers retry with a short backoff. */
void partition_stream_lost(struct partition_table *table, node_id_t leader, err_t err);
/* A follower's connection is gone: what was promised to it is forgotten. */
void partition_follower_gone(struct partition_table *table, unsigned via_shard, env_conn conn);

void partition_altered(struct partition_table *table, const struct partition_id *id,
                       const Karst__AlterPartitionItemReply *item);
void partition_alter_failed(struct partition_table *table, const struct partition_id *id,
                            err_t err);

/* End of the shard's turn: log flushes are asked for, followers' deltas and answers gathered
 * during the turn are sent, one frame for each peer. */
void partition_turn_ended(struct partition_table *table);
/* Ends waits whose time is over; lag; ISR shrink; checkpoints. Every 10 to 50 ms. */
void partition_tick(struct partition_table *table, uint64_t now_ns);
/* In space.c. True when it was not slow before: a sync lasts for seconds. *until_ns, zeroed at
 * first: until when it counts as slow. */
bool space_turns_slow(const struct env_disk *disk, uint64_t now_ns, uint64_t *until_ns);

/* How far the log goes, for an unclean election (R8). False: it is not open, or has failed. */
bool partition_log_end(const struct partition_table *table, const struct partition_id *id,
                       leader_epoch_t *ret_last_epoch, offset_t *ret_end);

/* ---- for the simulator's checkers, metrics ---- */
struct partition_view {
    struct partition_id id;
    bool leading, following, failed;
    leader_epoch_t leader_epoch;
    int32_t partition_epoch;
    offset_t log_start, end, flushed_end, high_watermark;
    uint64_t truncations, isr_shrinks, isr_growths, torn;
};
/* False: not here, or its log still waits to be recovered. */
bool partition_look(const struct partition_table *table, const struct partition_id *id,
                    struct partition_view *ret_view);
size_t partition_count(const struct partition_table *table);
/* The log, for checkers that compare replicas byte by byte; NULL when not open. */
struct log *partition_log(const struct partition_table *table, const struct partition_id *id);

#endif
