/* log.h - one partition's log on one disk: segments, index, leader epochs, recovery, group commit.
 * Also the metadata log of the quorum (with other options), so that both recover alike.
 *
 *   DIR/00000000000000000000.log    a segment: batches back to back in a preallocated file, zeros
 *                                   after the last one
 *   DIR/00000000000000000000.index  offsets and times of some batches; never trusted, made anew
 *   DIR/leader-epoch-checkpoint     (epoch, start offset) rows
 *   DIR/partition.metadata          topic id, written and synced before the first append (R21)
 *   DIR/checkpoint                  recovery point, high watermark hint, log start
 *
 *            append            sync round            FLUSHED
 *   end ────────────▶ end' ───────────────▶ flushed_end ─────▶ owner's upcall
 *
 * Ownership: a log belongs to one actor, and lives until log_close, also while a sync is in flight:
 *            close detaches it, the completion frees it.
 * Thread:    its env's.
 * Errors:    a failed write or sync leaves the log failed: appends answer ERR_KAFKA_STORAGE_ERROR
 *            (or ERR_NOT_ENOUGH_SPACE); log_truncate to the old end mends a failed write (R19),
 *            nothing mends a failed sync.
 * Units:     offsets, bytes. Ends are exclusive. */
#ifndef KARST_LOG_LOG_H
#define KARST_LOG_LOG_H

#include "env/env.h"
#include "record/batch.h"

struct log;

struct log_options {
    uint64_t segment_bytes;        /* roll when the next append would pass it (log.segment.bytes) */
    uint32_t index_interval_bytes; /* about one index row for so many bytes (4096) */
    uint32_t preallocate_bytes;    /* the active segment grows by so much at a time at most, zeros
                                      with their blocks before data enter (R13) */
    bool written_zeros;            /* the metadata log: preallocate by writing zeros and syncing,
                                      ahead (R16, R24), so that a full disk can't stop an append */
    uint64_t free_bytes_min;       /* appends that would grow the file below so much free space
                                      answer ERR_NOT_ENOUGH_SPACE (log.dir.min.free.bytes) */
    bool compacted;                /* offsets may have gaps (R13); else a gap is an error */
};

struct log_upcalls {
    /* flushed_end rose, or a sync failed for good. From the loop; the log may be closed in it. */
    void (*flushed)(void *owner, offset_t flushed_end, err_t err);
    void *owner;
};

/* What recovery found; for log lines, counters, and the LOST report of R1, R15. */
struct log_recovery {
    bool created;      /* the folder was not there, and was made */
    bool clean;        /* the tail was not read: the clean marker held */
    bool torn;         /* a bad batch at or above the recovery point: cut there */
    offset_t cut_from; /* where the first bad batch stood: the end now; -1 unless torn */
    uint64_t bytes_read;
    offset_t high_watermark; /* the checkpoint's hint, at most the end; 0 when none */
};

/* Sees one batch; valid during the call. An error ends the walk and is returned. */
typedef err_t (*log_visit)(void *context, const struct batch_info *info, const uint8_t *batch);

struct log_open_args {
    struct env *env;
    struct env_disk *disk;
    const char *directory; /* "orders-0" */
    struct uuid topic;
    const struct log_options *options;
    struct log_upcalls upcalls;
    bool clean;        /* the directory's clean marker held (R17) */
    bool synced;       /* sync_all made durable what earlier lives left (log_dir_open), and nobody
                          has opened the log since: its own syncs are spared (R14) */
    bool must_exist;   /* ERR_NOT_FOUND instead of creating (R1) */
    bool settle_later; /* a new log's files are not synced yet, but by log_settle or the first
                          append, so that many logs are created fast */
    log_visit visit;
    void *visit_context;
    bool visit_all;
};

/* Opens or creates directory on disk. clean: what the checkpoint says is true (R17). topic: written
 * to partition.metadata when created, else compared: ERR_INCONSISTENT_TOPIC_ID. visit is called for
 * every batch that recovery reads, in order, and may be NULL; with visit_all it is called for every
 * batch of the log (producer state, entries of raft).
 * ERR_CORRUPT: a bad batch below the recovery point, or a file missing (R15): no batch was changed.
 * On success flushed_end = end: recovery syncs, drops the cache, and reads back (R14). */
err_t log_open(const struct log_open_args *args, struct log **ret_log,
               struct log_recovery *ret_recovery);

/* Writes the checkpoint after a blocking sync (sync), or closes as in a crash. NULL is accepted.
 * The log is gone in any case; an error says: not all is durable, so no clean marker (R17). */
err_t log_close(struct log *log, bool sync);

/* Many logs of one disk are stopped for three syncs of it, instead of several of each log: every
 * log takes a step, sync_all, every log takes the next. After the last sync_all they are what
 * log_close(log, true) leaves, and log_close(log, false) follows. From the first step on nothing is
 * appended or cut. A step after a failed one, of the log or of the disk, must not be taken: its log
 * is closed as in a crash. */
enum log_stop_step {
    LOG_STOP_WRITE, /* what the checkpoint will speak for */
    LOG_STOP_NAME,  /* its small files get their names */
    LOG_STOP_MARK,  /* the checkpoint */
    LOG_STOP_STEPS
};
err_t log_stop(struct log *log, enum log_stop_step step);
bool log_close_syncs(const struct log *log); /* log_close(log, true) would have to */

/* Makes a new log's folder durable (blocking), if it is not yet: before manifest_add names it. */
err_t log_settle(struct log *log);
/* The disk was synced as a whole since the log was made: as log_settle, which has nothing to do. */
void log_settled(struct log *log);

offset_t log_start(const struct log *log);
offset_t log_end(const struct log *log);         /* the written end: what fetchers may see (R19) */
offset_t log_flushed_end(const struct log *log); /* durable: survives a power cut */
uint64_t log_generation(const struct log *log);  /* raised at each truncation or reset (R6) */
uint64_t log_bytes(const struct log *log);       /* of batches, all segments */
err_t log_failure(const struct log *log);        /* what appends answer now; ERR_OK: it is good */

/* Batches back to back, checked, offsets already patched: first base = log_end (or above it, where
 * compacted), each next = last + 1, epochs not falling. Each part holds whole batches. One gathered
 * write; allocates only at a roll. New epochs enter the cache.
 * ERR_INVALID: they do not fit, or span more than 2^31 offsets; ERR_FULL: too many segments wait
 * for their sync, which was asked for; ERR_NO_MEMORY, ERR_NOT_ENOUGH_SPACE while log_failure is
 * ERR_OK: nothing changed, and the log is good. Other failures: nothing is visible, the log is
 * failed (R19). */
err_t log_append(struct log *log, const struct iovec *parts, int count);

/* Asks for a flush round; the upcall flushed follows when flushed_end rose by it. Calls while one
 * is in flight are joined into the next. Does nothing when flushed_end = end. A round that began
 * before a truncation or reset says nothing (R6). Rolls ask for one by themselves. */
void log_flush(struct log *log);

/* Where and how much: whole batches from the one that holds offset, at least one (even if larger
 * than bytes_max), at most bytes_max, all below limit (an offset: high watermark or end), of one
 * segment. Into a new frame (charged to budget, may be NULL), whose used bytes are batches, CRCs
 * checked. *ret_frame is NULL when there is nothing below the limit. ERR_OFFSET_OUT_OF_RANGE:
 * offset < start or > end. ERR_CORRUPT_MESSAGE: the disk has rotted. */
struct log_read_args {
    offset_t offset, limit;
    size_t bytes_max;
    struct frame_budget *budget;
};
err_t log_read(struct log *log, const struct log_read_args *args, struct frame **ret_frame);

/* First record at or after timestamp in a batch wholly below limit (the batch's first where records
 * are compressed), and its timestamp (then the batch's greatest); ERR_NOT_FOUND. */
err_t log_find_time(struct log *log, int64_t timestamp, offset_t limit, offset_t *ret_offset,
                    int64_t *ret_timestamp);

/* Cuts to offset (rounded down to a batch's base, which is then log_end), raises the generation,
 * zeros what is past the cut and syncs it before returning (R13): then flushed_end = end. Epochs
 * that begin at or above are forgotten. At the end of a good log that is all, and the generation
 * stays.
 * ERR_OFFSET_OUT_OF_RANGE: not from start to end. */
err_t log_truncate(struct log *log, offset_t offset);
/* Deletes all and starts empty at offset, as one checkpointed step. */
err_t log_reset(struct log *log, offset_t offset);
/* Deletes whole segments below offset (the metadata log after a snapshot), oldest first; the active
 * one stays. log_start becomes the base of the first one left. ERR_INVALID: above flushed_end. */
err_t log_drop_prefix(struct log *log, offset_t offset);

/* Walks batches from the one that holds offset to the end, reading from the page cache. */
err_t log_walk(struct log *log, offset_t offset, log_visit visit, void *context);
/* The same over one segment file of any directory, which is not changed: for karst log dump.
 * *ret_bytes: how far its batches are good. ERR_CORRUPT: a bad one is there. */
err_t log_scan_file(struct env_disk *disk, const char *name, log_visit visit, void *context,
                    uint64_t *ret_bytes);

/* Hint to write with the next checkpoint (R15). Checkpoints are written at rolls, by log_close, and
 * when log_checkpoint is called (every few seconds by the owner; an idle log costs nothing, also
 * no descriptor from then on).
 * Recovery point = flushed_end. Blocks only when leader epochs are new. */
void log_set_high_watermark(struct log *log, offset_t high_watermark);
err_t log_checkpoint(struct log *log);

/* ---- leader epochs (R9, KIP-101, KIP-279) ---- */

leader_epoch_t log_last_epoch(const struct log *log); /* -1: empty */
/* A new leader notes (epoch, end) even if it writes nothing. ERR_INVALID: below the last epoch. */
err_t log_begin_epoch(struct log *log, leader_epoch_t epoch);
/* The largest epoch ≤ asked and its exclusive end: (-1, -1) when asked is above the last epoch, or
 * below the first (UNDEFINED: the follower retries or truncates to the leader's start). */
void log_epoch_end(const struct log *log, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                   offset_t *ret_end);

#endif
