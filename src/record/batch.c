#include "record/batch.h"

#include "base/assert.h"
#include "base/canary.h"
#include "base/crc32c.h"
#include "record/batch_layout.h"

enum {
    BATCH_COMPRESSION_LAST = 4, /* none, gzip, snappy, lz4, zstd */
    RECORD_BYTES_MIN = 7, /* length, attributes, two deltas, key and value length, header count */
    /* The most that a byte can unpack to: a block of zstd, which repeats one byte 2^17 times, takes
     * 4. gzip, lz4 and snappy are far below. */
    PACKED_RATIO_MAX = 1 << 15,
};

static bool batch_counts_possible(const struct batch_info *info, int32_t last_delta)
{
    if (info->record_count < 0 || last_delta < 0)
        return false;
    /* A cleaned batch may have fewer records than offsets, down to none (R9); never more. */
    if (info->record_count > (int64_t)last_delta + 1)
        return false;
    if (info->base_offset < 0 || info->base_offset > INT64_MAX - last_delta)
        return false;
    uint16_t codec = info->attributes & BATCH_COMPRESSION_MASK;
    if (codec > BATCH_COMPRESSION_LAST)
        return false;
    uint64_t body = info->bytes - BATCH_HEADER_BYTES;
    if (codec != 0)
        body *= PACKED_RATIO_MAX;
    return (uint64_t)info->record_count * RECORD_BYTES_MIN <= body;
}

err_t batch_peek(const void *data, size_t len, struct batch_info *ret_info)
{
    const uint8_t *p = data;
    struct batch_info info = {0};
    *ret_info = info;
    if (len < BATCH_PREFIX_BYTES)
        return ERR_SHORT;
    uint32_t length = get_u32(p + BATCH_AT_LENGTH);
    if ((length < BATCH_HEADER_BYTES - BATCH_PREFIX_BYTES && !CANARY("record_batch_any_length")) ||
        length > INT32_MAX - BATCH_PREFIX_BYTES)
        return ERR_CORRUPT_MESSAGE;
    info.bytes = length + BATCH_PREFIX_BYTES;
    info.base_offset = (int64_t)get_u64(p);
    *ret_info = info;
    if (len <= BATCH_AT_MAGIC)
        return ERR_SHORT;
    if (p[BATCH_AT_MAGIC] != BATCH_MAGIC)
        return ERR_UNSUPPORTED_FOR_MESSAGE_FORMAT;
    if (len < BATCH_HEADER_BYTES)
        return ERR_SHORT;

    int32_t last_delta = (int32_t)get_u32(p + BATCH_AT_LAST_DELTA);
    info.leader_epoch = (int32_t)get_u32(p + BATCH_AT_LEADER_EPOCH);
    info.crc = get_u32(p + BATCH_AT_CRC);
    info.attributes = get_u16(p + BATCH_AT_ATTRIBUTES);
    info.base_timestamp = (int64_t)get_u64(p + BATCH_AT_BASE_TIMESTAMP);
    info.max_timestamp = (int64_t)get_u64(p + BATCH_AT_MAX_TIMESTAMP);
    info.producer_id = (int64_t)get_u64(p + BATCH_AT_PRODUCER_ID);
    info.producer_epoch = (int16_t)get_u16(p + BATCH_AT_PRODUCER_EPOCH);
    info.base_sequence = (int32_t)get_u32(p + BATCH_AT_BASE_SEQUENCE);
    info.record_count = (int32_t)get_u32(p + BATCH_AT_RECORD_COUNT);
    if (!batch_counts_possible(&info, last_delta))
        return ERR_CORRUPT_MESSAGE;
    info.last_offset = info.base_offset + last_delta;
    *ret_info = info;
    return len < info.bytes ? ERR_SHORT : ERR_OK;
}

err_t batch_check_crc(const void *data, size_t len, struct batch_info *ret_info)
{
    err_t err = batch_peek(data, len, ret_info);
    if (err != ERR_OK)
        return err;
    const uint8_t *covered = (const uint8_t *)data + BATCH_AT_ATTRIBUTES;
    uint32_t crc = crc32c(0, covered, ret_info->bytes - BATCH_AT_ATTRIBUTES);
    return crc == ret_info->crc ? ERR_OK : ERR_CORRUPT_MESSAGE;
}

/* Most varints of a record are one or two bytes long: the loop is spared for those. */
static inline bool record_varint_short(struct reader *r, uint32_t *ret_zigzag)
{
    if (r->end - r->at < 2)
        return false;
    if (r->at[0] < 0x80) {
        *ret_zigzag = *r->at++;
        return true;
    }
    if (r->at[1] >= 0x80)
        return false;
    *ret_zigzag = (uint32_t)(r->at[0] & 0x7f) | (uint32_t)r->at[1] << 7;
    r->at += 2;
    return true;
}

static inline int64_t record_varlong(struct reader *r)
{
    uint32_t zigzag;
    if (record_varint_short(r, &zigzag))
        return (int64_t)(zigzag >> 1) ^ -(int64_t)(zigzag & 1);
    return reader_varlong(r);
}

static inline int32_t record_varint(struct reader *r)
{
    uint32_t zigzag;
    if (record_varint_short(r, &zigzag))
        return (int32_t)(zigzag >> 1) ^ -(int32_t)(zigzag & 1);
    return reader_varint(r);
}

/* A length of -1 is null; below that is a lie. */
static inline struct bytes record_nullable(struct reader *r)
{
    int32_t len = record_varint(r);
    if (len == -1)
        return (struct bytes){0};
    if (len < 0) {
        r->failed = true;
        return (struct bytes){0};
    }
    return reader_bytes(r, (size_t)len);
}

/* Offset as a delta and timestamp as a delta: what a check needs, and a cursor adds its base to. */
static inline bool record_read(struct reader *r, struct record *ret_record)
{
    int32_t len = record_varint(r);
    if (len < 0)
        return false;
    struct bytes raw = reader_bytes(r, (size_t)len);
    if (r->failed)
        return false;
    struct reader body;
    reader_init(&body, raw.data, raw.len);
    if (raw.len == 0)
        return false;
    body.at++; /* attributes: none are defined */
    ret_record->timestamp = record_varlong(&body);
    ret_record->offset = record_varint(&body);
    ret_record->key = record_nullable(&body);
    ret_record->value = record_nullable(&body);
    ret_record->header_count = record_varint(&body);
    ret_record->headers = (struct bytes){body.at, reader_left(&body)};
    if (body.failed || ret_record->header_count < 0)
        return false;
    if (ret_record->header_count == 0)
        return reader_left(&body) == 0;

    struct record_header header;
    for (int32_t i = 0; i < ret_record->header_count; i++) {
        if (record_header_next(&body, &header) != ERR_OK)
            return false;
    }
    return reader_left(&body) == 0;
}

err_t record_header_next(struct reader *headers, struct record_header *ret_header)
{
    struct record_header header;
    int32_t name_len = record_varint(headers);
    if (headers->failed || name_len < 0)
        return ERR_CORRUPT_MESSAGE;
    header.name = reader_bytes(headers, (size_t)name_len);
    header.value = record_nullable(headers);
    if (headers->failed)
        return ERR_CORRUPT_MESSAGE;
    *ret_header = header;
    return ERR_OK;
}

err_t batch_check(const void *data, size_t len, struct batch_info *ret_info)
{
    err_t err = batch_check_crc(data, len, ret_info);
    if (err != ERR_OK)
        return err;
    /* What a producer sends has all its records: offsets are given by their count. */
    if (ret_info->record_count == 0 ||
        ret_info->last_offset - ret_info->base_offset != ret_info->record_count - 1)
        return ERR_CORRUPT_MESSAGE;
    if ((ret_info->attributes & BATCH_COMPRESSION_MASK) != 0)
        return ERR_OK;

    struct reader reader;
    reader_init(&reader, (const uint8_t *)data + BATCH_HEADER_BYTES,
                ret_info->bytes - BATCH_HEADER_BYTES);
    for (int32_t i = 0; i < ret_info->record_count; i++) {
        struct record record;
        if (!record_read(&reader, &record) || record.offset != i)
            return ERR_CORRUPT_MESSAGE;
    }
    return reader_left(&reader) == 0 ? ERR_OK : ERR_CORRUPT_MESSAGE;
}

void batch_patch(void *data, offset_t base_offset, leader_epoch_t leader_epoch)
{
    ASSERT(base_offset >= 0);
    uint8_t *p = data;
    put_u64(p, (uint64_t)base_offset);
    put_u32(p + BATCH_AT_LEADER_EPOCH, (uint32_t)leader_epoch);
}

err_t record_cursor_init(struct record_cursor *cursor, const void *data, size_t len)
{
    err_t err = batch_peek(data, len, &cursor->info);
    if (err != ERR_OK)
        return err;
    if ((cursor->info.attributes & BATCH_COMPRESSION_MASK) != 0)
        return ERR_UNSUPPORTED_VERSION;
    reader_init(&cursor->reader, (const uint8_t *)data + BATCH_HEADER_BYTES,
                cursor->info.bytes - BATCH_HEADER_BYTES);
    cursor->left = cursor->info.record_count;
    return ERR_OK;
}

err_t record_cursor_next(struct record_cursor *cursor, struct record *ret_record)
{
    if (cursor->left == 0)
        return ERR_NOT_FOUND;
    struct record record;
    if (!record_read(&cursor->reader, &record))
        return ERR_CORRUPT_MESSAGE;
    const struct batch_info *info = &cursor->info;
    if (record.offset < 0 || record.offset > info->last_offset - info->base_offset)
        return ERR_CORRUPT_MESSAGE;
    record.offset += info->base_offset;
    if ((info->attributes & BATCH_TIMESTAMP_APPEND) != 0)
        record.timestamp = info->max_timestamp;
    else /* wraps rather than overflows: any bytes may come */
        record.timestamp = (int64_t)((uint64_t)record.timestamp + (uint64_t)info->base_timestamp);
    cursor->left--;
    *ret_record = record;
    return ERR_OK;
}
