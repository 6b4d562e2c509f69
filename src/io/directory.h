/* directory.h - one log directory of the process, and its flusher: the thread that makes writes
 * durable for all actors, in rounds (group commit).
 *
 *   ONLINE ──a sync failed [directory_fail]──> OFFLINE     for good (R14): the kernel may call the
 *                                                          pages of a failed sync clean
 *
 * A round takes all requests that have gathered, syncs each file once (few: one by one by
 * fdatasync; many: one syncfs, R18), and gives every owner its completions with one wake-up.
 * Thread: submit from any actor's thread; open and close with the flusher stopped. */
#ifndef KARST_IO_DIRECTORY_H
#define KARST_IO_DIRECTORY_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/list.h"
#include "io/inbox.h"
#include "io/mailbox.h"

struct io_disk;

/* Of a table of disk.h. What the flusher uses stays as it is while a sync is pending. */
struct io_file {
    int fd;       /* -1: the entry is free */
    int32_t id;   /* its place in the table */
    int32_t next; /* the free list's */
    struct io_disk *disk;
    uint32_t syncs; /* pending; the owner's */
    bool closing;   /* closed by the actor; the descriptor follows when no sync is pending (R18) */
    uint64_t round; /* the flusher's: the last round with this file */
    uint64_t round_synced;
    err_t round_err;
};

struct io_directory {
    char *path;
    int fd;
    dev_t device;
    atomic_bool offline;
    bool syncfs_allowed;
    /* All of the process, for the failure of a file system that they share. */
    struct io_directory *all;
    size_t all_count;

    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t more;
    bool stopping, waiting;      /* under the lock, as the list */
    struct list_node *submitted; /* of env_done with their target; one list for each actor */
    struct io_inbox **inboxes;   /* one for each actor */
    unsigned actor_count;
    uint64_t round;                 /* the flusher's */
    atomic_uint_least64_t began_ns; /* of the round at hand; 0: none */

    /* The system's; tests put failures here before the start. */
    int (*sync_file)(int fd);
    int (*sync_all)(int fd);
};

/* The directory must exist. syncfs: allowed for this directory (never for the metadata log, R24).
 */
err_t io_directory_open(struct io_directory *directory, const char *path, bool syncfs,
                        unsigned actor_count);
void io_directory_close(struct io_directory *directory); /* accepts zeroed */
err_t io_directory_start(struct io_directory *directory);
void io_directory_stop(struct io_directory *directory); /* ends the round at hand; may come twice */
/* The list of env_done, each with its target, joins the next round; it is empty afterwards. */
void io_directory_submit(struct io_directory *directory, unsigned actor, struct list_node *ops);
/* From any thread. */
uint64_t io_directory_sync_age_ns(const struct io_directory *directory);
bool io_directory_offline(const struct io_directory *directory);
/* Blocks; from any thread. ERR_UNSUPPORTED_VERSION: syncfs is not to be used here. */
err_t io_directory_sync_all(struct io_directory *directory);
/* A sync failed outside of a round. */
void io_directory_fail(struct io_directory *directory, int error);

#endif
