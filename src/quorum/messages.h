/* messages.h - raft's messages as frames: RaftMessage (proto/rpc.proto) in WIRE_ONEWAY, and back.
 *
 * Decoders are total. What they give to raft is raft_malloc'd, as its contract asks: all entries of
 * a message lie in one batch. */
#ifndef KARST_QUORUM_MESSAGES_H
#define KARST_QUORUM_MESSAGES_H

#include <raft.h>

#include "quorum/members.h"

enum {
    MESSAGE_ENTRIES_BYTES = 1 << 20, /* of one AppendEntries, but at least one entry (R22) */
    MESSAGE_ENTRIES_MAX = 4096,
    MESSAGE_PIECE_BYTES = 256 << 10, /* of a snapshot */
};

/* How many of the entries fit in one frame. */
unsigned messages_entries_fit(const struct raft_entry *entries, unsigned count, size_t bytes_max);
/* Any message but InstallSnapshot; of AppendEntries, all n_entries. sent_ns: of AppendEntries and
 * its result (contact.h); 0: none. NULL without memory. */
struct frame *messages_encode(const struct raft_message *message, node_id_t from, uint64_t sent_ns);
/* len bytes of an InstallSnapshot's data from at. */
struct frame *messages_encode_piece(const struct raft_message *message, node_id_t from, size_t at,
                                    size_t len);

/* The packed message, in the arena. ERR_INVALID_REQUEST: malformed, or out of range. */
err_t messages_unpack(const struct frame *frame, struct arena *arena,
                      const Karst__RaftMessage **ret_packed);
/* Any message but InstallSnapshot; server_address is left NULL. ERR_INVALID_REQUEST, ERR_NO_MEMORY.
 */
err_t messages_to_raft(const Karst__RaftMessage *packed, struct raft_message *ret_message);
/* Frees what messages_to_raft gave (raft does it, when it gets the message). */
void messages_drop(struct raft_message *message);

/* ---- a snapshot in pieces, as it comes in: one at a time ---- */

enum { MESSAGE_PIECES_MAX = 2048 };
struct messages_assembly {
    uint8_t *data; /* raft_malloc'd; NULL: none under way */
    uint64_t bytes, missing;
    node_id_t from;
    uint64_t term, index, snapshot_term;
    uint64_t touched_ns; /* when the last piece came */
    uint8_t have[MESSAGE_PIECES_MAX / 8];
};

/* Takes a piece; they may come in any order, and twice. True when it was the last one missing, and
 * ret_message is the whole InstallSnapshot. What is lost comes when the leader sends all anew,
 * after its timeout. */
bool messages_assemble(struct messages_assembly *assembly, const Karst__RaftMessage *packed,
                       uint64_t now_ns, uint64_t timeout_ns, struct raft_message *ret_message);
void messages_assembly_drop(struct messages_assembly *assembly); /* accepts zeroed */

#endif
