/* disk.h - an actor's env_disk for one log directory: its table of open files.
 *
 * Thread: the actor's; the flusher reads only what io_file says. */
#ifndef KARST_IO_DISK_H
#define KARST_IO_DISK_H

#include "env/env.h"
#include "io/directory.h"

enum {
    IO_FILES_CHUNK = 256,   /* entries never move: the flusher holds pointers to them */
    IO_FILES_CHUNKS = 1024, /* bound on open files: ERR_FULL */
};

struct io_disk {
    struct io_directory *directory;
    unsigned actor;
    struct list_node syncs; /* of this turn, handed over at its end */
    struct io_file *chunks[IO_FILES_CHUNKS];
    int32_t used;       /* entries ever taken */
    int32_t free_first; /* -1: none */
};

void io_disk_init(struct io_disk *disk, struct io_directory *directory, unsigned actor);
void io_disk_fini(struct io_disk *disk); /* closes all; the flusher is stopped */
struct env_disk io_disk_env(struct io_disk *disk);
/* Hands the syncs of the turn to the flusher. */
void io_disk_submit(struct io_disk *disk);
/* The flusher gave this operation back: to be called before its done. */
void io_disk_synced(struct env_done *op);

#endif
