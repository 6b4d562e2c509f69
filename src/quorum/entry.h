/* entry.h - a raft entry as a record batch of the metadata log (R24): one entry = one batch = one
 * record; base offset = index, leader epoch = term.
 *
 *   key    1 version  8 index  8 term  2 type  8 flushed   (big-endian)
 *   value  the entry's bytes, a multiple of 8
 *
 * Base offset and epoch lie outside the batch's CRC, so the key repeats them. flushed is the last
 * index that this node knew to be durable when it wrote the entry: a bad entry at or below it is
 * rot, not a torn tail. All functions are pure and total. */
#ifndef KARST_QUORUM_ENTRY_H
#define KARST_QUORUM_ENTRY_H

#include "record/batch.h"

enum entry_type { ENTRY_COMMAND = 1, ENTRY_BARRIER = 2, ENTRY_CHANGE = 3 }; /* libraft's numbers */

enum {
    ENTRY_ALIGN = 8,           /* what libraft's memory asks of an entry's length */
    ENTRY_BYTES_MAX = 8 << 20, /* nobody writes more than 512 KiB (R23): a bound for decoders */
};

struct entry {
    uint64_t index, term;
    enum entry_type type;
    uint64_t flushed;
    struct bytes data;
};

/* Length a multiple of 8, type known, term in the 31 bits of a leader epoch, and a change holds a
 * configuration (libraft's own decoder would trust it). */
bool entry_legal(const struct entry *entry);
/* Upper bound of the batch's bytes. */
size_t entry_batch_bytes_max(size_t data_len);
/* The batch into memory of at least that size; returns its bytes. timestamp: ms, for people. */
size_t entry_encode(const struct entry *entry, int64_t timestamp, uint8_t *into);
/* ERR_CORRUPT: the batch is whole, but is no entry, or says another place than it is at. */
err_t entry_decode(const struct batch_info *info, const uint8_t *batch, struct entry *ret_entry);

/* What an entry of commands holds (padding): the true length in four bytes, the bytes, zeros up to
 * a multiple of 8. Without the length the zeros would be read as a part of the message. */
size_t entry_padded_bytes(size_t len);
void entry_pad(struct bytes data, uint8_t *into);
err_t entry_unpad(struct bytes padded, struct bytes *ret_data);

#endif
