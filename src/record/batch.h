/* batch.h - record batches of Kafka's format v2: check, read, walk, build, patch.
 *
 *   offset  size  field                     offset  size  field
 *   0       8     base offset               23      4     last offset delta
 *   8       4     length of what follows    27      8     base timestamp
 *   12      4     partition leader epoch    35      8     max timestamp
 *   16      1     magic (2)                 43      8     producer id
 *   17      4     CRC32C of byte 21 to end  51      2     producer epoch
 *   21      2     attributes                53      4     base sequence
 *                                           57      4     record count; 61: records
 *
 * Base offset and leader epoch lie outside the CRC, so that the broker patches them in place and
 * the bytes go from socket to disk to socket unchanged. All functions are pure and total: any bytes
 * in, an error out. Nothing is copied or allocated. */
#ifndef KARST_RECORD_BATCH_H
#define KARST_RECORD_BATCH_H

#include "base/bytes.h"
#include "base/err.h"
#include "record/types.h"

enum {
    BATCH_HEADER_BYTES = 61,
    BATCH_PREFIX_BYTES = 12, /* base offset and length: enough to know where the batch ends */
    BATCH_COMPRESSION_MASK = 0x07,
    BATCH_TIMESTAMP_APPEND = 0x08,
    BATCH_TRANSACTIONAL = 0x10,
    BATCH_CONTROL = 0x20,
};

struct batch_info {
    offset_t base_offset;
    offset_t last_offset; /* inclusive */
    uint32_t bytes;       /* of the whole batch, prefix included */
    leader_epoch_t leader_epoch;
    uint32_t crc;
    uint16_t attributes;
    int64_t base_timestamp, max_timestamp; /* ms */
    producer_id_t producer_id;             /* -1: none */
    int16_t producer_epoch;
    int32_t base_sequence; /* -1: none */
    int32_t record_count;
};

/* Reads the header at the start of data. ERR_SHORT: the batch does not end within len
 * (ret_info->bytes is set when 12 bytes were there, else 0; all of ret_info when the 61 of the
 * header were there, so that a scan may read headers only); ERR_CORRUPT_MESSAGE: lengths or counts
 * are impossible; ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT: magic is not 2. The CRC is not looked at. */
err_t batch_peek(const void *data, size_t len, struct batch_info *ret_info);

/* batch_peek, and the CRC, and, where records are not compressed, each record's framing: the count
 * and the offset deltas 0, 1, 2, ... must be as the header says. For what producers send. */
err_t batch_check(const void *data, size_t len, struct batch_info *ret_info);

/* batch_peek and the CRC. For what comes from a leader or from the disk. */
err_t batch_check_crc(const void *data, size_t len, struct batch_info *ret_info);

/* The two fields outside the CRC. data holds a batch that was checked. */
void batch_patch(void *data, offset_t base_offset, leader_epoch_t leader_epoch);

/* ---- one record after the other ---- */

struct record {
    offset_t offset;
    int64_t timestamp;
    struct bytes key, value; /* data NULL: null, as opposed to empty */
    int32_t header_count;
    struct bytes headers; /* raw, see record_header_next */
};

struct record_cursor {
    struct batch_info info;
    struct reader reader;
    int32_t left;
};

/* data holds one whole batch. ERR_UNSUPPORTED_VERSION: it is compressed. */
err_t record_cursor_init(struct record_cursor *cursor, const void *data, size_t len);
/* ERR_OK and a record; ERR_NOT_FOUND at the end; ERR_CORRUPT_MESSAGE. */
err_t record_cursor_next(struct record_cursor *cursor, struct record *ret_record);

struct record_header {
    struct bytes name, value;
};
/* headers reads record.headers (reader_init); called header_count times. ERR_CORRUPT_MESSAGE. */
err_t record_header_next(struct reader *headers, struct record_header *ret_header);

/* ---- building ---- */

/* Appends records into memory of the caller's; the header is written by batch_finish. */
struct batch_builder {
    uint8_t *data;
    size_t capacity, used; /* bytes; used counts the header */
    int64_t base_timestamp, max_timestamp;
    int32_t count;
};

void batch_begin(struct batch_builder *b, void *data, size_t capacity);
/* Upper bound of what a record with these sizes takes. */
size_t batch_record_bytes_max(size_t key_len, size_t value_len);
/* ERR_FULL: it does not fit, and nothing was changed. key or value with data NULL are null.
 * headers: pairs of name and value, header_count of them; NULL when 0. */
err_t batch_add(struct batch_builder *b, int64_t timestamp, struct bytes key, struct bytes value,
                const struct record_header *headers, int32_t header_count);
/* Writes the header with base offset 0 and leader epoch -1; returns the batch's bytes. count > 0.
 * attributes: no compression bits. producer_id -1 for none. */
size_t batch_finish(struct batch_builder *b, uint16_t attributes, producer_id_t producer_id,
                    int16_t producer_epoch, int32_t base_sequence);

#endif
