/* ballast.h - room for the metadata log on a disk that others have filled (R16): a file that has
 * its blocks and holds nothing. The quorum's own disk is wrapped: a change that finds no room gives
 * up a part of the file and is tried again; nothing else does. (A part at a time, since what is
 * free can be taken by others.) Replicated data fill all voters alike, and a voter that can not
 * write what it must is a voter that stops.
 *
 *   WHOLE ──a change finds no room──▶ LESS, GONE ──ballast_restore [twice as much is free]──▶ WHOLE
 *
 * Ownership: the disk is wrapped in place, until ballast_fini.
 * Thread:    the quorum's.
 * Errors:    none; where there is no room for it, it is tried again. */
#ifndef KARST_QUORUM_BALLAST_H
#define KARST_QUORUM_BALLAST_H

#include "env/env.h"

struct ballast {
    struct env_disk inner;  /* as it was */
    struct env_disk *outer; /* NULL: not wrapped */
    uint64_t bytes;         /* 0: none is wanted */
    uint64_t left;          /* of them */
};

void ballast_init(struct ballast *ballast, struct env_disk *disk, uint64_t bytes);
void ballast_fini(struct ballast *ballast); /* accepts zeroed */
/* Now and then, once the store's directory is there. */
void ballast_restore(struct ballast *ballast);
/* Some of it was given up: only what frees space is to be decided now. */
static inline bool ballast_low(const struct ballast *ballast)
{
    return ballast->left < ballast->bytes;
}

#endif
