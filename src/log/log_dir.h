/* log_dir.h - a log directory as a whole: identity, what it must hold, and how it was left.
 *
 *   meta.properties       cluster.id, node.id, directory.id, version, check; by karstd format
 *   manifest-<writer>     append-only, checksummed (topic id, partition, added or removed): every
 *                         replica that ever acknowledged from here (R1). One file for each writer
 *                         (shard); at start all are read as one and folded into manifest-0, so that
 *                         nothing depends on the shard count (R17).
 *   .kafka_cleanshutdown  names the incarnation that stopped cleanly (R17)
 *   .failed_sync          a sync failed here (R14); .verified: it was read whole since then
 *   TOPIC-PARTITION/      logs
 *
 * Thread: log_dir_open runs before the shards; the manifest writer belongs to one shard. */
#ifndef KARST_LOG_LOG_DIR_H
#define KARST_LOG_LOG_DIR_H

#include "env/env.h"
#include "record/types.h"

#define METADATA_LOG_FOLDER "__cluster_metadata-0" /* not among the replicas */

struct log_dir_meta {
    struct uuid cluster_id, directory_id;
    node_id_t node_id; /* -1: not formatted with one */
};

/* Written aside, synced, renamed. ERR_EXISTS when there is one with other contents. */
err_t log_dir_format(struct env_disk *disk, const struct log_dir_meta *meta);
/* ERR_NOT_FOUND: not formatted. ERR_CORRUPT. */
err_t log_dir_read_meta(struct env_disk *disk, struct log_dir_meta *ret_meta);

struct log_dir_replica {
    struct partition_id id;
    bool in_manifest;
    char folder[TOPIC_NAME_MAX + 16]; /* "": the manifest names it, but no folder holds it: LOST */
};

struct log_dir_state {
    struct log_dir_meta meta;
    struct uuid clean_incarnation; /* zero: the last stop was not clean */
    bool synced; /* then all that it left was made durable at once (sync_all): log_open need not */
    struct log_dir_replica *replicas; /* malloc'd; folders and manifest joined by id */
    size_t replica_count;
};

/* After an unclean stop all is synced first, so that what is read is what lasts (R14). Reads meta,
 * manifests (a torn last row is dropped; a bad one before it is ERR_CORRUPT), folders;
 * folds the manifests; removes the clean marker and syncs the directory (R17). A folder whose
 * partition.metadata can't be read holds no replica; the metadata log is one of the others. */
err_t log_dir_open(struct env_disk *disk, struct log_dir_state *ret_state);
void log_dir_state_fini(struct log_dir_state *state); /* accepts zeroed */

/* After every log is synced and closed without an error. */
err_t log_dir_mark_clean(struct env_disk *disk, const struct uuid *incarnation);

/* ---- a directory that failed a sync (R14) ---- */

/* Best effort: the disk has just failed. */
void log_dir_mark_failed(struct env_disk *disk);
/* Such a directory is not opened before log_dir_verify. */
err_t log_dir_is_failed(struct env_disk *disk, bool *ret_failed);

struct log_dir_verdict {
    size_t logs, torn; /* good ones; those of them with a tail that was cut */
    size_t corrupt;    /* set aside now: LOST from here on (R15) */
    size_t lost;       /* named by the manifest, and without a folder */
    uint64_t bytes;
};
/* Reads every log of the directory past the page cache, then takes the mark away and notes that the
 * directory was verified. No broker runs on it. An error leaves the mark. */
err_t log_dir_verify(struct env *env, struct env_disk *disk, struct log_dir_verdict *ret_verdict);
/* Was it verified since the last start? The note is gone after this, durably: a later failure must
 * not meet an old note. */
err_t log_dir_take_verified(struct env_disk *disk, bool *ret_verified);

struct manifest; /* the writer of one shard */
err_t manifest_open(struct env_disk *disk, unsigned writer, struct manifest **ret_manifest);
/* Appends and syncs (blocking; a replica is created once). Returns at once when it is there.
 * The log is settled before (log_settle). After a failed sync it fails for good. */
err_t manifest_add(struct manifest *manifest, const struct partition_id *id);
/* Before the folder is deleted. Returns at once when it is not there. */
err_t manifest_remove(struct manifest *manifest, const struct partition_id *id);
/* The same for many, by a few syncs in all. */
err_t manifest_change(struct manifest *manifest, bool add, const struct partition_id *ids,
                      size_t count);
void manifest_close(struct manifest *manifest); /* accepts NULL */

#endif
