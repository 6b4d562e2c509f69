/* partition_internal.h - what the files of the partition table share.
 *
 *   partition.c          the table, its parts, cancel, ticks, turns
 *   partition_apply.c    the image's word: opens, creates, leads, follows, closes, deletes
 *   partition_folder.c   folders: names, disks, what was found, strays
 *   partition_delete.c   folders of deleted topics
 *   partition_settle.c   new logs made durable, many at once
 *   partition_execute.c  effects of the replica on the log, and events back
 *   partition_snapshot.c what is known of producers, beside the log
 *   partition_stop.c     all logs closed in order
 *   partition_stray.c    folders of no partition here
 *   partition_serve.c    produce, fetch, list offsets; what waits
 *   partition_stream.c   a follower's deltas up, a leader's data down (R7)
 *
 * Parts that were answered are gathered in the table and handed out last, so that whoever takes
 * them may call in again. */
#ifndef KARST_SHARD_PARTITION_INTERNAL_H
#define KARST_SHARD_PARTITION_INTERNAL_H

#include "base/heap.h"
#include "base/logger.h"
#include "base/table.h"
#include "log/log.h"
#include "log/log_dir.h"
#include "replica/replica.h"
#include "shard/partition.h"

enum {
    PRODUCE_BATCHES_MAX = 1024,    /* of one part */
    PARKED_DELTAS_MAX = 4096,      /* over it the follower is told to ask again */
    STREAM_WINDOW_BYTES = 8 << 20, /* sent to one follower's connection and not yet asked past */
    STREAM_ROWS_MAX = 10000,       /* of one frame */
    PRODUCERS_MAX = 50000,         /* of one partition */
    CHECKPOINTS_A_TICK = 4,
    OPENED_AT_ONCE_MAX = 16,        /* logs recovered before the loop goes on */
    SNAPSHOT_STEP_BYTES = 64 << 20, /* of log, after which the producers are saved again */
    SNAPSHOT_STOP_BYTES = 1 << 20,  /* the same at a clean stop: less is read faster */
    FOLDER_SIZE = TOPIC_NAME_MAX + 16,
};
#define OPENING_NS ENV_MS(5) /* after so long the loop goes on, too */
#define FETCH_RETRY_NS ENV_MS(20)
#define PROPOSAL_RETRY_NS ENV_MS(200)
#define CHECKPOINT_NS ENV_MS(5000)
#define CHECKPOINTING_NS ENV_MS(5) /* after so long the next tick goes on */
#define KEEPALIVE_NS ENV_MS(1000)
#define PARKED_DELTA_NS ENV_MS(5000) /* then the follower is told to ask again */
#define LOOP_GAP_NS ENV_MS(1000)

enum part_state {
    PART_NONE,
    PART_WAITS_FETCH,   /* in fetches */
    PART_WAITS_PRODUCE, /* in the replica, by its waiter */
    PART_PARKED,        /* in parked: until the image has its epoch */
    PART_ANSWERED,      /* in answered */
};

/* A leading broker that this shard follows: what is gathered for it in a turn, and who follows it.
 */
struct leader_link {
    struct list_node link;
    node_id_t node;
    struct list_node followers; /* struct partition */
    uint64_t spoke_ns;          /* when something last passed, either way */
    Karst__ReplicaFetchPartition *rows;
    Karst__ReplicaFetchPartition **row_ptrs;
    size_t count, capacity;
};

/* A follower's connection, on whichever shard: what is gathered for it in a turn. */
struct stream_row {
    struct partition_id id;
    Karst__ReplicaDataPartition message;
};
struct stream {
    struct list_node link;
    struct list_node dirty; /* rows are gathered */
    unsigned via_shard;
    env_conn conn;
    uint64_t outstanding; /* bytes sent, and not yet asked past */
    struct stream_row *rows;
    struct frame **frames;
    size_t count, frame_count, capacity;
    uint64_t bytes; /* of frames */
};

/* A leader's way to one follower of a partition. */
struct follower_way {
    struct stream *stream; /* NULL: none */
    uint32_t outstanding;
};

struct partition {
    struct partition_id id; /* the table's key */
    struct partition_table *table;
    struct list_node all;
    struct list_node fresh;   /* its log is new, and nobody made it durable yet */
    struct list_node opening; /* its log waits to be recovered */
    uint32_t disk;
    char folder[FOLDER_SIZE];
    struct log *log; /* NULL: not open, and why */
    err_t open_err;
    bool in_manifest; /* this process has made sure of it (R1) */
    bool torn;
    bool stopped;             /* by partition_stop_logs, or as well as it could: no more syncs */
    bool told_failed;         /* host.replica_failed was called with an error */
    bool disk_error;          /* a sync or a cut failed: so has the directory (R14) */
    bool slow_due; /* its leader is to hear that the disk is slow */
    bool unreadable;          /* while it leads, and another could: the tick ends it */
    offset_t snapshot_offset; /* of the producers' snapshot that is on the disk; -1: none */
    uint64_t snapshot_bytes;  /* of the log, when it was written */
    struct replica replica;   /* valid with log */
    struct list_node fetches, parked; /* parts */
    uint32_t fetch_count, parked_count;
    struct follower_way ways[REPLICAS_MAX];
    struct leader_link *leader; /* NULL: follows nobody */
    struct list_node following; /* leader->followers */
    /* what the turn's end is to do; each in no list when there is nothing */
    struct list_node flush, serve, delta;
    struct list_node tick;
    struct list_node checkpoint;
    uint64_t checkpoint_ns;
};

struct parked_delta {
    struct list_node link;
    uint64_t since_ns;
    struct replica_delta delta;
};

/* The produce part or data whose effects are being executed. */
struct append_context {
    uint8_t *patch; /* a leader's; NULL: a follower's, as they are */
    const uint8_t *bytes;
    size_t len;
    uint32_t batch_count; /* in infos */
    bool producers;       /* some batch has a producer id */
};

struct partition_table {
    struct partition_host host;
    struct partition_options options;
    struct env *env;
    struct image *image;
    bool ready;                  /* the image has this process's registration (R2, R21) */
    broker_epoch_t broker_epoch; /* as of then */
    bool strays_judged, strays_listed;
    uint64_t sweep_ns; /* when strays are looked at again */
    bool name_taken;   /* a folder's name still belongs to a deleted topic, or there is no room to
                        make one (R16): tried again by the tick */
    struct table by_id;
    struct list_node all;
    struct manifest **manifests; /* by disk; NULL: not opened yet */
    bool *disk_clean, *disk_failed;
    uint32_t disks_offline; /* bits: all on them were told */
    uint64_t slow_until_ns[DIRECTORIES_MAX];
    uint32_t *disk_partitions;
    struct partition_found *found;
    size_t found_count;
    struct partition_id *lost;
    size_t lost_count;

    struct heap due; /* parts */
    uint64_t due_sequence;
    struct list_node answered;
    struct list_node flush, serve, delta, tick, checkpoint, opening; /* partitions */
    struct env_timer open_timer;
    uint32_t made_in_turn; /* logs that were not there; more of them are made in later turns */
    struct list_node deletions, unlinks; /* of folders: to be renamed; renamed */
    uint64_t rename_ns;                  /* not before */
    struct list_node fresh;              /* partitions */
    size_t fresh_count;
    struct settling *settling; /* what a worker does for them; NULL: nothing */
    struct list_node leaders, streams, dirty_streams;
    struct stream *last_stream; /* mostly the next one, too */
    struct list_node parked_deltas;
    uint32_t parked_delta_count;
    uint64_t session; /* first of this process's sessions */
    uint64_t last_tick_ns;
    struct append_context append;
    struct batch_info infos[PRODUCE_BATCHES_MAX];
};

/* ---- partition.c ---- */
struct partition *partition_find(const struct partition_table *table,
                                 const struct partition_id *id);
/* Answers: takes it from wherever it waits. With NOT_LEADER_OR_FOLLOWER the leader is told. */
void part_answer(struct partition_table *table, struct part *part, err_t err, const char *sentence);
/* Hands out what was answered: last in each call from outside. */
void partition_hand_out(struct partition_table *table);
void partition_list_once(struct list_node *list, struct list_node *node);

/* ---- partition_apply.c ---- */
void partition_apply_all(struct partition_table *table);
/* The image's registration and ours may have come together: leads and follows from then on. */
void partition_check_ready(struct partition_table *table);
/* What was found of it is no more. */
void partition_forget_found(struct partition_table *table, const struct partition_id *id);
/* Those whose folder's name was still taken. */
void partition_open_again(struct partition_table *table);
/* Closes the log, gives its parts back with err, forgets it. */
err_t partition_forget(struct partition *p, err_t err, bool sync);

/* Recovers some of the logs that were found, or makes some of the many that a topic wants: all at
 * once would silence the shard for seconds. */
void partition_open_some(struct env_timer *timer, uint64_t now_ns);

/* ---- partition_folder.c ---- */
int partition_found_order(const void *a, const void *b); /* how table->found is sorted */
/* What was found of it at start; NULL: nothing. */
struct partition_found *partition_find_folder(const struct partition_table *table,
                                              const struct partition_id *id);
/* Opens or creates the log; sets p->log, or open_err. */
void partition_open(struct partition *p, const struct image_topic *topic, bool member);
/* R1: before the first bytes that may be acknowledged. */
err_t partition_enter_manifest(struct partition *p);
void partition_log_options(const struct partition_table *table, const struct image_topic *topic,
                           struct log_options *ret_options);

/* ---- partition_delete.c ---- */
/* In this turn, or in a later one (partition_delete_some). */
void partition_delete_folder(struct partition_table *table, uint32_t disk, const char *folder,
                             const struct partition_id *id);
void partition_delete_some(struct partition_table *table);
/* What an earlier process has not finished. */
void partition_sweep_deleted(struct partition_table *table);
/* One whose name is nobody's already. */
void partition_delete_renamed(struct partition_table *table, uint32_t disk, const char *folder);
/* Those of the directory whose names end so. */
void partition_each_folder(struct env_disk *disk, const char *suffix,
                           void (*each)(void *context, const char *folder), void *context);
/* sync: what is left gets its new name, for the next start to delete. */
void partition_deletions_fini(struct partition_table *table, bool sync);

/* ---- partition_settle.c ---- */
void partition_is_fresh(struct partition *p); /* its log was made */
void partition_not_fresh(struct partition *p);
/* Has a worker make new logs durable, when there are many. */
void partition_settle_some(struct partition_table *table);
/* A record for a new log is here: with it all the others that wait, if there are some. Where it
 * can't be, nothing is done. */
void partition_settle_now(struct partition *p);
/* loop_runs: completions still come. */
void partition_settling_fini(struct partition_table *table, bool loop_runs);

/* ---- partition_execute.c ---- */
/* Fills in the time and the lease, steps, executes. */
void partition_step(struct partition *p, struct replica_event *ev);
void partition_flushed(void *owner, offset_t flushed_end, err_t err);
/* What log_read has just answered. A leader that can't read what followers wait for stops all of
 * them: another of the ISR shall lead. The last of it stays, and serves what can be read. */
void partition_was_read(struct partition *p, offset_t offset, err_t err);
/* After partition_was_read, when nobody walks over what waits. */
void partition_end_unreadable(struct partition *p);
/* To the host; ERR_OK counts after an error only. */
void partition_tell_failed(struct partition *p, err_t err);

/* ---- partition_snapshot.c ---- */
/* When the log has grown by bytes_min since the last one. A failure is told, and costs reading. */
void partition_save_snapshot(struct partition *p, uint64_t bytes_min);
/* Before a cut is made: a snapshot of what lies above is no more (and synced). */
err_t partition_drop_snapshot(struct partition *p, offset_t above);
/* Makes known what the log says of its producers, of whom the replica knows nobody: from the
 * snapshot, and from the batches after it. */
err_t partition_read_producers(struct partition *p);

/* ---- partition_stray.c ---- */
void partition_judge_strays(struct partition_table *table);
void partition_sweep_strays(struct partition_table *table, uint64_t now_ns);

/* ---- partition_stop.c ---- */
/* Replicas stop; logs become what log_close(log, true) leaves, together where there are many. */
err_t partition_stop_logs(struct partition_table *table);

/* ---- partition_serve.c ---- */
/* The high watermark moved, or the role changed: serves or refuses what waits. */
void partition_wake_fetches(struct partition *p);
/* The image has moved: parts that named a newer epoch are tried again. */
void partition_unpark(struct partition *p);
void partition_part_due(struct partition *p, struct part *part);

/* ---- partition_stream.c ---- */
void partition_send_deltas(struct partition_table *table);
void partition_send_data(struct partition_table *table);
void partition_keepalive(struct partition_table *table, uint64_t now_ns);
void partition_expire_deltas(struct partition_table *table, uint64_t now_ns);
/* Moves the partition to the leader that its replica follows now. */
void partition_link_leader(struct partition *p);
void partition_forget_ways(struct partition *p);
void partition_unpark_deltas(struct partition_table *table, const struct partition_id *id);
void partition_streams_fini(struct partition_table *table);

#endif
