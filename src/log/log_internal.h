/* log_internal.h - private to src/log: what the files of one log share.
 *
 *   files.c       small checked files: read, replace; names of a log's files
 *   scan.c        batches of one segment file, one after the other, from any position
 *   index.c       the offset and time index of a segment
 *   epochs.c      leader epochs and their file
 *   checkpoint.c  the checkpoint file and partition.metadata
 *   segment.c     the active segment's file, growth, rolls, finding an offset's position
 *   append.c      log_append, flush rounds (R6), failure
 *   read.c        log_read, log_find_time, log_walk
 *   cut.c         truncation, reset, prefix drop
 *   recovery.c    log_open
 *   close.c       log_close, log_stop
 *   log_dir.c, manifest.c   the directory as a whole */
#ifndef KARST_LOG_INTERNAL_H
#define KARST_LOG_INTERNAL_H

#include "base/canary.h"
#include "log/log.h"

enum {
    LOG_NAME_SIZE = 320,    /* DIRECTORY/FILE with the final NUL */
    INDEX_BUFFER_ROWS = 64, /* rows of the active segment not yet written */
    LOG_UNSYNCED_MAX = 16,  /* sealed segments not yet synced: then appends answer ERR_FULL */
    LOG_HINTS = 4,
    SCAN_WINDOW_BYTES = 4096,
    SCAN_BUFFER_BYTES = 64 * 1024,
};
#define TIMESTAMP_UNKNOWN INT64_MIN

/* ---- files.c ---- */

/* The whole file, malloc'd. ERR_NOT_FOUND; ERR_CORRUPT: larger than bytes_max. */
err_t small_file_load(struct env_disk *disk, const char *name, size_t bytes_max, uint8_t **ret_data,
                      size_t *ret_len);
/* Written aside, synced, renamed; directory (where name lies) synced (R17). */
err_t small_file_replace(struct env_disk *disk, const char *directory, const char *name,
                         const uint8_t *data, size_t len);
/* The same in two halves, without their syncs. */
err_t small_file_write_aside(struct env_disk *disk, const char *name, const uint8_t *data,
                             size_t len, bool sync);
err_t small_file_put_in_place(struct env_disk *disk, const char *name);
err_t small_file_sync(struct env_disk *disk, const char *name);
/* R14: what an earlier life left in it is durable, and the next read tells what is on the disk.
 * synced: sync_all did the first half. A missing file is fine. */
err_t small_file_uncache(struct env_disk *disk, const char *name, bool synced);

enum { CHECKED_HEAD_BYTES = 8, CHECKED_BYTES = 12 }; /* magic, version; and with the CRC */
/* data[8 .. len-4) is the body: writes magic and version before it, CRC32C after it. */
void checked_seal(uint8_t *data, size_t len, uint32_t magic, uint32_t version);
/* The body, or ERR_CORRUPT. Another version is ERR_UNSUPPORTED_VERSION. */
err_t checked_open(const uint8_t *data, size_t len, uint32_t magic, uint32_t version,
                   struct reader *ret_body);

/* DIRECTORY/FILE. */
void log_file_name(char into[LOG_NAME_SIZE], const char *directory, const char *file);
/* DIRECTORY/00000000000000000042.log; suffix without the point. */
void segment_name(char into[LOG_NAME_SIZE], const char *directory, offset_t base,
                  const char *suffix);
/* True: entry is a segment's file of that suffix. */
bool segment_name_parse(const char *entry, const char *suffix, offset_t *ret_base);

/* ---- scan.c ---- */

struct scanner {
    struct env_disk *disk;
    env_file file;
    uint64_t at;       /* of the next batch */
    uint64_t end;      /* of what may hold batches: no batch passes it */
    offset_t expected; /* base of the next batch; -1: any */
    bool exact;        /* batches fill all up to end: zeros are no end but rot */
    bool gaps;         /* expected is the least (compacted) */
    uint8_t *window;
    size_t window_bytes; /* capacity */
    bool window_owned;   /* malloc'd here; grows to the size of a batch */
    uint64_t loaded_at;
    size_t loaded;
    uint64_t bytes_read;
};

/* window: SCAN_WINDOW_BYTES or more of the caller's, for headers only; NULL: allocated when needed.
 */
void scanner_init(struct scanner *scan, struct env_disk *disk, env_file file, uint64_t at,
                  uint64_t end, uint8_t *window);
void scanner_fini(struct scanner *scan);
/* The header at scan->at. ERR_NOT_FOUND: the end, by position or by zeros (length 0). ERR_CORRUPT:
 * no batch, or one that passes scan->end. Other errors are the disk's. Does not move. */
err_t scanner_header(struct scanner *scan, struct batch_info *ret_info);
/* The same, with the whole batch and its CRC checked. Valid until the next call. */
err_t scanner_batch(struct scanner *scan, struct batch_info *ret_info, const uint8_t **ret_batch);
static inline void scanner_skip(struct scanner *scan, const struct batch_info *info)
{
    scan->at += info->bytes;
    scan->expected = info->last_offset + 1;
}
/* Of a segment whose end is known: base offsets lie outside the CRC, and are checked by their row.
 */
static inline void scanner_expect(struct scanner *scan, offset_t expected, bool gaps)
{
    scan->expected = expected;
    scan->exact = true;
    scan->gaps = gaps;
}
/* Whether all from scan->at to its end reads as zeros. */
err_t scanner_rest_is_zero(struct scanner *scan, bool *ret_zero);

/* ---- index.c ---- */

/* No batch before offset has a greater timestamp than max_timestamp; the batch at position begins
 * at offset, or above it where the log was compacted. */
struct index_row {
    uint32_t relative; /* offset - base of the segment */
    uint32_t position;
    int64_t max_timestamp;
};

struct index_buffer {       /* of the active segment */
    struct index_row *rows; /* INDEX_BUFFER_ROWS, allocated with the first append */
    uint32_t count;
    uint32_t file_rows;     /* already in the file */
    uint64_t next_position; /* a batch at or after it gets a row */
    bool broken; /* a write failed: no more rows; the file is rebuilt at the next start */
};

/* ---- epochs.c ---- */

struct epoch_row {
    offset_t start;
    leader_epoch_t epoch;
};

struct epochs {
    struct epoch_row *rows; /* rising in both */
    size_t count, capacity;
    offset_t unsaved_from; /* rows that begin there or above may differ from the file's */
};

err_t epochs_reserve(struct epochs *epochs, size_t more);
/* Reserved; no-op unless epoch is above the last one. */
void epochs_note(struct epochs *epochs, leader_epoch_t epoch, offset_t start);
void epochs_cut(struct epochs *epochs, offset_t end); /* forgets rows at or above end */
void epochs_drop_prefix(struct epochs *epochs, offset_t start);
/* What the file says of offsets below the recovery point must be right; rows at or above it are
 * never believed, since the batches tell them anew, and an epoch without batches is nothing to
 * keep. */
static inline bool epochs_unsaved(const struct epochs *epochs, offset_t recovery_point)
{
    return epochs->unsaved_from < recovery_point;
}
static inline leader_epoch_t epochs_last(const struct epochs *epochs)
{
    return epochs->count == 0 ? -1 : epochs->rows[epochs->count - 1].epoch;
}
err_t epochs_load(struct epochs *epochs, struct env_disk *disk, const char *directory);
err_t epochs_save(struct epochs *epochs, struct env_disk *disk, const char *directory); /* synced */
/* The two halves of it, without their syncs: the file is durable before it gets its name (R17). */
err_t epochs_write_aside(const struct epochs *epochs, struct env_disk *disk, const char *directory);
err_t epochs_put_in_place(struct env_disk *disk, const char *directory);

/* ---- checkpoint.c ---- */

/* An offset and where it lies: the first byte that is not below it. */
struct log_point {
    offset_t offset;
    offset_t base; /* of its segment */
    uint64_t position;
};

struct checkpoint {
    uint64_t sequence;
    struct log_point recovery;
    offset_t high_watermark, log_start;
    bool resetting; /* all but an empty segment at log_start is to be deleted */
    bool closed;    /* by log_close: the log ends at the recovery point */
    /* Not in the file: where this one is, and which slot survives a power cut for sure. */
    unsigned slot, durable_slot;
};

/* ERR_NOT_FOUND, ERR_CORRUPT. */
err_t checkpoint_load(struct env_disk *disk, const char *directory, struct checkpoint *ret);
/* With the next sequence, beside the one that is durable; then log->saved. Durable when sync. */
err_t checkpoint_save(struct log *log, struct checkpoint *what, bool sync);

err_t partition_metadata_load(struct env_disk *disk, const char *directory, struct uuid *ret_topic);
err_t partition_metadata_save(struct env_disk *disk, const char *directory,
                              const struct uuid *topic);

/* ---- the log ---- */

struct segment {
    offset_t base;
    uint64_t bytes;        /* of batches */
    int64_t max_timestamp; /* TIMESTAMP_UNKNOWN: to be read from its index; -1 when empty */
};

/* An open file of a segment: the active one, or sealed ones until they are synced (R15, R18). */
struct log_file {
    struct list_node link;
    struct env_done op;
    struct log *log;
    env_file file;
    offset_t base; /* of its segment */
    bool sealed;
    bool in_flight;       /* op is with the disk */
    bool sealed_in_round; /* was sealed before the round began, so that the round makes it whole */
    bool unwanted;        /* closed when nothing is in flight */
};

/* A flush round: what was true when it began (R6). */
struct log_round {
    uint64_t generation;
    struct log_point point;
    unsigned in_flight;
    err_t err;
    bool again;   /* asked for while this one is in flight */
    bool failing; /* the disk took no sync: failed_later tells the owner */
};

struct log_hint {    /* where a read ended */
    offset_t offset; /* -1: none */
    offset_t base;
    uint64_t position;
};

struct log {
    struct env *env;
    struct env_disk *disk;
    struct log_options options;
    struct log_upcalls upcalls;
    char *directory;

    offset_t start, end, high_watermark;
    struct log_point flushed;
    uint64_t generation;
    uint64_t bytes;
    err_t failure; /* what appends answer; ERR_OK: good */
    bool mendable; /* the failure: log_truncate mends it */
    bool cutting;  /* a truncation to cut failed half way: it must be done again first */
    struct log_point cut;
    bool unsettled;    /* created, not yet durable */
    offset_t leftover; /* base of a segment's file whose making failed: it goes before the next
                          append, and with what mends the log; -1: none */
    bool detached;     /* closed while a sync is in flight */

    struct segment *segments; /* rising; the last one is active */
    size_t segment_count, segment_capacity;
    struct list_node files;
    struct log_file *active;    /* NULL: not opened yet */
    uint64_t active_file_bytes; /* of the file, zeros included; known when open */
    struct index_buffer index;

    struct epochs epochs;
    struct checkpoint saved; /* newest in the file */
    struct log_round round;
    struct env_timer failed_later;
    struct log_hint hints[LOG_HINTS];
    unsigned next_hint;
};

static inline struct segment *log_active(const struct log *log)
{
    return &log->segments[log->segment_count - 1];
}

/* segment.c */
err_t segments_reserve(struct log *log, size_t count);
/* Opens the active segment's file and its index, when that was not done yet. */
err_t segment_open_active(struct log *log);
/* The file of any segment for reading; to be given back. */
err_t segment_borrow(struct log *log, size_t idx, env_file *ret_file);
void segment_return(struct log *log, size_t idx, env_file file);
size_t segment_find(const struct log *log,
                    offset_t offset); /* the last with base <= offset, or 0 */
/* First batch of the segment whose last offset is at or above offset, and where it begins.
 * ERR_NOT_FOUND: all end below. */
err_t segment_locate(struct log *log, size_t idx, offset_t offset, uint64_t *ret_position,
                     struct batch_info *ret_info);
err_t segment_max_timestamp(struct log *log, size_t idx, int64_t *ret_timestamp);
/* Room for bytes at the active segment's end, in blocks of the disk (R13, R16). */
err_t segment_grow(struct log *log, uint64_t bytes);
void segment_grow_ahead(struct log *log);
err_t segment_roll(struct log *log);
/* A new, empty, last segment; its name is durable on return (R17). */
err_t segment_create(struct log *log, offset_t base);
/* Deletes, durably, what a failed roll left. */
err_t segment_sweep(struct log *log);
void segment_forget_file(struct log *log, struct log_file *file);
err_t segment_unlink(struct log *log, offset_t base); /* and its index; open files are forgotten */
/* Everything past the active segment's batches reads as zeros. Not durable. */
err_t segment_zero_tail(struct log *log);

/* index.c: idx is a place in log->segments */
err_t index_start_buffer(struct log *log);
/* Before the batch is counted in the segment's bytes and timestamp. */
void index_note(struct log *log, const struct batch_info *info, uint64_t position);
void index_flush(struct log *log); /* the rows in memory, into the file; failures break the index */
void index_close_row(struct log *log); /* a last row that tells end and greatest timestamp */
/* Greatest row at or below offset, or with a timestamp below (by_time): the start of the segment
 * when there is none, or none can be had. A bad row makes the index be rebuilt. */
void index_floor(struct log *log, size_t idx, bool by_time, int64_t key, struct index_row *ret_row);
err_t index_last(struct log *log, size_t idx, struct index_row *ret_row);
/* Keeps the good rows up to limit (offset) and cuts the rest; recovery goes on from the last. */
err_t index_trim(struct log *log, size_t idx, offset_t limit, struct index_row *ret_last,
                 uint32_t *ret_rows);
err_t index_rebuild(struct log *log, size_t idx);
/* Takes up the active segment's index where the file ends. */
void index_resume(struct log *log);
/* After rows up to last are known to be in the active segment's file. */
void index_continue(struct log *log, const struct index_row *last, uint32_t rows);

/* append.c */
void log_fail(struct log *log, err_t err, bool mendable);
void log_note_batch(struct log *log, const struct batch_info *info);
err_t log_sync_all(struct log *log); /* blocks; then flushed = end; on failure the log is dead */
void log_free(struct log *log);
void log_init_rounds(struct log *log);

void log_forget_hints(struct log *log);
err_t log_settle_files(struct log *log);
/* checkpoint.c: of the log's state; see log_checkpoint */
err_t log_save_checkpoint(struct log *log, bool sync, bool closed);

/* cut.c: the second half of a reset, which recovery does again when it was cut short */
err_t log_reset_files(struct log *log, const offset_t *bases, size_t count);

#endif
