/* snapshot.h - the image at an index as a file beside the metadata log: <index>-<term>.checkpoint
 *
 *   4 magic  4 version  4 bytes of the head  SnapshotHead (proto/quorum.proto)  image  4 CRC32C
 *
 * Written aside, synced, renamed, its directory synced: a file of that name is whole. It is the
 * same file on every node, so that an observer stores the bytes that a voter serves.
 * Thread: the quorum's. */
#ifndef KARST_QUORUM_SNAPSHOT_H
#define KARST_QUORUM_SNAPSHOT_H

#include "env/env.h"
#include "quorum/members.h"

enum { SNAPSHOT_BYTES_MAX = 512 << 20 };

struct snapshot_head {
    uint64_t index, term;
    struct uuid cluster_id;
    struct members members;
};

/* The whole file, malloc'd; NULL without memory or when it is too large. image: its parts. */
uint8_t *snapshot_encode(const struct snapshot_head *head, const struct bytes *image,
                         unsigned image_parts, size_t *ret_len);
/* image points into file. ERR_CORRUPT, ERR_UNSUPPORTED_VERSION, ERR_NO_MEMORY. */
err_t snapshot_decode(struct bytes file, struct snapshot_head *ret_head, struct bytes *ret_image);

/* The newest of the directory; index 0: there is none. */
err_t snapshot_find(struct env_disk *disk, uint64_t *ret_index, uint64_t *ret_term);
/* malloc'd. ERR_NOT_FOUND. */
err_t snapshot_read(struct env_disk *disk, uint64_t index, uint64_t term, uint8_t **ret_file,
                    size_t *ret_len);
/* All before index, and what was left aside of such: best effort. */
void snapshot_remove_older(struct env_disk *disk, uint64_t index);

/* Takes file (malloc'd), also on failure. Durable when it returns ERR_OK: blocks. */
err_t snapshot_write_now(struct env_disk *disk, uint64_t index, uint64_t term, struct bytes file);

struct snapshot_write;
typedef void (*snapshot_written)(void *owner, err_t err);
/* Takes file (malloc'd), also on failure. written comes later, from the loop. */
err_t snapshot_write_start(struct env_disk *disk, uint64_t index, uint64_t term, struct bytes file,
                           snapshot_written written, void *owner,
                           struct snapshot_write **ret_write);
/* The owner goes away: written does not come. The sync in flight ends by itself. */
void snapshot_write_detach(struct snapshot_write *write);

#endif
