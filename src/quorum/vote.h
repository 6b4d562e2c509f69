/* vote.h - term and vote of a voter: a small file of two checksummed slots, overwritten in place.
 *
 *   0     4 magic  4 version  8 sequence  8 term  8 vote  4 CRC32C of these
 *   4096  the same: writes alternate, so that a torn one leaves the other slot whole (R24)
 *
 * Written in place because a full disk must not keep a voter from voting (R16).
 * Thread: the quorum's. Errors: a failed write means that the voter may not go on: fail-stop. */
#ifndef KARST_QUORUM_VOTE_H
#define KARST_QUORUM_VOTE_H

#include "env/env.h"

struct vote_file {
    struct env_disk *disk; /* NULL: not open */
    env_file file;
    uint64_t sequence; /* of the newest slot */
    uint64_t term;
    uint64_t vote; /* raft id; 0: none */
};

/* Makes the file (its directory exists), durably. */
err_t vote_create(struct env_disk *disk, uint64_t term);
/* ERR_NOT_FOUND: this node is no voter. ERR_CORRUPT: neither slot is whole. */
err_t vote_open(struct env_disk *disk, struct vote_file *ret_vote);
/* Durable when it returns ERR_OK. */
err_t vote_write(struct vote_file *vote, uint64_t term, uint64_t id);
void vote_close(struct vote_file *vote); /* accepts zeroed */

#endif
