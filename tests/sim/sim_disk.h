/* sim_disk.h - a log directory's disk in memory: what is written is only in the page cache until it
 * is synced, and a power cut loses, keeps or tears what was not.
 *
 *   write, zero_from ──▶ cache ── sync (as of its start), or the kernel by itself ──▶ disk
 *   open, rename, ... ──▶ names ── sync_names, or the kernel by itself, in order ───▶ names on disk
 *
 * The model: a page is 4 KiB, eight sectors. At a power cut each sector that was not synced
 * survives or not by itself, drawn from the seed, so that writes are torn and reordered within and
 * across files. Names and sizes are one ordered journal, of which a drawn prefix survives (ext4,
 * ordered), or, stricter, a prefix of each directory's and each file's own. sync_names makes one
 * directory's names durable, sync one file's bytes and size, neither the other's; sync_all all of
 * them. After a failed sync the pages are clean, the old bytes are on the disk, and every later
 * sync fails until the process is started again (R14).
 *
 * Ownership: the disk outlives its views and the node; file ids end with the node's life.
 * Thread:    one.
 * Errors:    a foreign or closed file id is an assertion. */
#ifndef KARST_TESTS_SIM_DISK_H
#define KARST_TESTS_SIM_DISK_H

#include "env/env.h"

struct sim_disk;

struct sim_disk_options {
    uint64_t seed;
    uint64_t capacity_bytes;           /* 0: without bound */
    uint64_t sync_ns_min, sync_ns_max; /* how long a sync takes */
    uint32_t writeback_per_million; /* chance, at each change, that the kernel writes some back */
    bool no_sync_all;               /* the file system can't */
};

struct sim_disk_counters {
    uint64_t operations; /* that change something, in all lives; the clock of sim_disk_freeze_at */
    uint64_t syncs, failed_syncs, power_cuts;
    uint64_t torn_files; /* at power cuts: files of which some unsynced sectors survived, not all */
    uint64_t lost_bytes; /* at power cuts: in unsynced sectors that did not survive */
    uint64_t lost_names; /* at power cuts: journal entries that did not survive */
};

struct sim_disk *sim_disk_new(const struct sim_disk_options *options);
void sim_disk_free(struct sim_disk *disk); /* accepts NULL */
const struct sim_disk_counters *sim_disk_counters(const struct sim_disk *disk);

/* Calls op->done(op, err) after delay_ns of virtual time, once. */
typedef void sim_disk_schedule_fn(void *context, uint64_t delay_ns, struct env_done *op, err_t err);

/* One actor's way to the disk; several may share it. Lives in the actor's world. */
struct sim_disk_view {
    struct env_disk env; /* what the actor gets */
    struct sim_disk *disk;
    sim_disk_schedule_fn *schedule;
    void *schedule_context;
};
void sim_disk_view_init(struct sim_disk_view *view, struct sim_disk *disk,
                        sim_disk_schedule_fn *schedule, void *schedule_context);

/* ---- the end of the node's life ----
 * Before either, the node's actors are closed (log_close without sync) and what this disk has
 * scheduled is discarded by the scheduler, not run. Syncs in flight are then completed here with
 * ERR_CANCELED, so that what waits for them is freed. All file ids end. */

void sim_disk_kill(struct sim_disk *disk);      /* kill -9: the page cache stays */
void sim_disk_power_cut(struct sim_disk *disk); /* and this loses what was not synced */
void sim_disk_wipe(struct sim_disk *disk);      /* another, empty disk under the same id (R1) */

/* ---- faults ---- */

void sim_disk_slow(struct sim_disk *disk, uint32_t factor); /* of the syncs' time; 1: as it was */
void sim_disk_any_order(struct sim_disk *disk, bool any_order);             /* of names and sizes */
void sim_disk_set_capacity(struct sim_disk *disk, uint64_t capacity_bytes); /* 0: without bound */
uint64_t sim_disk_used(const struct sim_disk *disk);
/* The nth write, sync (of files and names) from now fails: 1 is the next; 0 takes it back. A failed
 * write has written a part. */
void sim_disk_fail_write(struct sim_disk *disk, uint64_t nth, err_t err);
void sim_disk_fail_sync(struct sim_disk *disk, uint64_t nth);
bool sim_disk_offline(const struct sim_disk *disk); /* a sync has failed in this life */
/* The operation of this number (counters.operations after it) is done in part at most, and none
 * after it: all answer ERR_IO. For a power cut at any place. 0: never; lifted by the end of the
 * life. */
void sim_disk_freeze_at(struct sim_disk *disk, uint64_t operation);
bool sim_disk_frozen(const struct sim_disk *disk);
/* Flips bits of one byte, in the cache and on the disk. */
err_t sim_disk_rot(struct sim_disk *disk, const char *name, uint64_t at, uint8_t bits);
/* A file, or a directory with all in it, is gone, durably (R1: one folder lost). */
err_t sim_disk_lose(struct sim_disk *disk, const char *name);

#endif
