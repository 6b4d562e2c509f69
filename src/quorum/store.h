/* store.h - the metadata log and its snapshots on disk, as voters and observers keep them alike
 * (R24).
 *
 *   __cluster_metadata-0/  segments of src/log; <index>-<term>.checkpoint; quorum-state (voters)
 *
 * The log holds all entries behind the snapshot's index, and some before it (trailing).
 *
 * Thread: the quorum's. Errors: after any failed write the owner must stop (fail-stop). */
#ifndef KARST_QUORUM_STORE_H
#define KARST_QUORUM_STORE_H

#include "log/log.h"
#include "quorum/entry.h"
#include "quorum/snapshot.h"

#define STORE_DIRECTORY "__cluster_metadata-0"

struct term_span {
    uint64_t term, start; /* index of its first entry */
};

struct store {
    struct env *env;
    struct env_disk *disk;
    struct log *log; /* NULL: not open */
    struct term_span *spans;
    size_t span_count, span_capacity;
    uint64_t snapshot_index, snapshot_term; /* of the newest durable one; 0: none */
    uint64_t bytes_since_snapshot, entries_since_snapshot;
};

/* What was on disk; the caller takes it apart and frees it. */
struct store_loaded {
    struct entry *entries; /* in order; their data points into data */
    size_t entry_count, entry_capacity;
    uint8_t *data;
    size_t data_len, data_capacity;
    uint8_t *snapshot; /* the newest file, decoded below; NULL: none */
    struct snapshot_head head;
    struct bytes image;
};
void store_loaded_fini(struct store_loaded *loaded); /* accepts zeroed */

/* Opens or creates. options NULL: defaults. ERR_CORRUPT: a bad entry where durable ones must be, a
 * gap between snapshot and log, a bad snapshot; nothing was changed. */
err_t store_open(struct env *env, const struct log_options *options, struct log_upcalls upcalls,
                 struct store *ret_store, struct store_loaded *ret_loaded);
void store_close(struct store *store, bool sync); /* accepts zeroed */

uint64_t store_first(const struct store *store);   /* index of the first entry in the log */
uint64_t store_last(const struct store *store);    /* of the last one, or of the snapshot */
uint64_t store_flushed(const struct store *store); /* last durable index */
/* 0: not in the log, and not the snapshot's. */
uint64_t store_term(const struct store *store, uint64_t index);

/* Entries that follow on store_last, written and with a flush asked for; the log's upcall tells. */
err_t store_append(struct store *store, const struct entry *entries, size_t count);
err_t store_write(struct store *store, const struct entry *entries, size_t count); /* no flush */
/* All from index on is gone, durably. */
err_t store_truncate(struct store *store, uint64_t index);
/* A snapshot at (index, term) is durable, and nothing of the log is of use any more. */
err_t store_reset(struct store *store, uint64_t index, uint64_t term);
/* A snapshot at (index, term) of this very log is durable: entries below keep_from may go. */
err_t store_snapshot_taken(struct store *store, uint64_t index, uint64_t term, uint64_t keep_from);

/* Calls visit for the entries from index to last (inclusive), until about bytes_max of data. The
 * data live until *ret_frame is dropped. */
typedef void (*store_visit)(void *context, const struct entry *entry);
err_t store_read(struct store *store, uint64_t index, uint64_t last, size_t bytes_max,
                 store_visit visit, void *context, struct frame **ret_frame);

/* A first look at the segments, before recovery may cut anything: ERR_CORRUPT when a bad entry lies
 * at or below an index that a later good one says was durable. */
err_t store_inspect(struct env_disk *disk);

#endif
