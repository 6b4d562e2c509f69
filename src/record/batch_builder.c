#include "base/assert.h"
#include "base/crc32c.h"
#include "record/batch.h"
#include "record/batch_layout.h"

enum { VARINT_BYTES_MAX = 5, VARLONG_BYTES_MAX = 10 };

void batch_begin(struct batch_builder *b, void *data, size_t capacity)
{
    ASSERT(capacity >= BATCH_HEADER_BYTES);
    ASSERT(capacity <= INT32_MAX);
    *b = (struct batch_builder){.data = data, .capacity = capacity, .used = BATCH_HEADER_BYTES};
}

size_t batch_record_bytes_max(size_t key_len, size_t value_len)
{
    /* length, attributes, timestamp, offset, key and value length, header count (of none: one) */
    return VARINT_BYTES_MAX + 1 + VARLONG_BYTES_MAX + 3 * VARINT_BYTES_MAX + 1 + key_len +
           value_len;
}

/* Short varints are the rule: no call for those of one byte, and two for lengths. */
static inline size_t batch_varlong_len(int64_t v)
{
    if (v >= -64 && v < 64)
        return 1;
    return v >= -8192 && v < 8192 ? 2 : varlong_len(v);
}

static inline uint8_t *batch_put_varlong(uint8_t *p, int64_t v)
{
    uint64_t zigzag = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
    if (zigzag >= 0x4000)
        return p + put_varlong(p, v);
    if (zigzag >= 0x80) {
        *p++ = (uint8_t)(zigzag | 0x80);
        zigzag >>= 7;
    }
    *p++ = (uint8_t)zigzag;
    return p;
}

static inline size_t batch_nullable_len(struct bytes b)
{
    return b.data == NULL ? 1 : batch_varlong_len((int64_t)b.len) + b.len;
}

static inline uint8_t *batch_put_nullable(uint8_t *p, struct bytes b)
{
    if (b.data == NULL)
        return batch_put_varlong(p, -1);
    p = batch_put_varlong(p, (int64_t)b.len);
    if (b.len > 0)
        memcpy(p, b.data, b.len);
    return p + b.len;
}

err_t batch_add(struct batch_builder *b, int64_t timestamp, struct bytes key, struct bytes value,
                const struct record_header *headers, int32_t header_count)
{
    ASSERT(header_count >= 0);
    size_t room = b->capacity - b->used;
    if (b->count == INT32_MAX || key.len > room || value.len > room)
        return ERR_FULL;
    int64_t base = b->count == 0 ? timestamp : b->base_timestamp;
    int64_t delta = (int64_t)((uint64_t)timestamp - (uint64_t)base);
    size_t body = 1 + batch_varlong_len(delta) + batch_varlong_len(b->count) +
                  batch_nullable_len(key) + batch_nullable_len(value) +
                  batch_varlong_len(header_count);
    for (int32_t i = 0; i < header_count; i++) {
        if (headers[i].name.len > room || headers[i].value.len > room || body > room)
            return ERR_FULL;
        body += varint_len((int32_t)headers[i].name.len) + headers[i].name.len +
                batch_nullable_len(headers[i].value);
    }
    if (body > room || batch_varlong_len((int64_t)body) + body > room)
        return ERR_FULL;

    uint8_t *p = b->data + b->used;
    p = batch_put_varlong(p, (int64_t)body);
    *p++ = 0; /* attributes: none are defined */
    p = batch_put_varlong(p, delta);
    p = batch_put_varlong(p, b->count);
    p = batch_put_nullable(p, key);
    p = batch_put_nullable(p, value);
    p = batch_put_varlong(p, header_count);
    for (int32_t i = 0; i < header_count; i++) {
        struct bytes name = headers[i].name;
        p = batch_put_nullable(p, (struct bytes){name.data == NULL ? p : name.data, name.len});
        p = batch_put_nullable(p, headers[i].value);
    }
    b->used = (size_t)(p - b->data);
    b->base_timestamp = base;
    if (b->count == 0 || timestamp > b->max_timestamp)
        b->max_timestamp = timestamp;
    b->count++;
    return ERR_OK;
}

size_t batch_finish(struct batch_builder *b, uint16_t attributes, producer_id_t producer_id,
                    int16_t producer_epoch, int32_t base_sequence)
{
    ASSERT(b->count > 0);
    ASSERT((attributes & BATCH_COMPRESSION_MASK) == 0);
    uint8_t *p = b->data;
    put_u64(p, 0);
    put_u32(p + BATCH_AT_LENGTH, (uint32_t)(b->used - BATCH_PREFIX_BYTES));
    put_u32(p + BATCH_AT_LEADER_EPOCH, UINT32_MAX); /* leader epoch -1: the leader's to patch */
    p[BATCH_AT_MAGIC] = BATCH_MAGIC;
    put_u16(p + BATCH_AT_ATTRIBUTES, attributes);
    put_u32(p + BATCH_AT_LAST_DELTA, (uint32_t)b->count - 1);
    put_u64(p + BATCH_AT_BASE_TIMESTAMP, (uint64_t)b->base_timestamp);
    put_u64(p + BATCH_AT_MAX_TIMESTAMP, (uint64_t)b->max_timestamp);
    put_u64(p + BATCH_AT_PRODUCER_ID, (uint64_t)producer_id);
    put_u16(p + BATCH_AT_PRODUCER_EPOCH, (uint16_t)producer_epoch);
    put_u32(p + BATCH_AT_BASE_SEQUENCE, (uint32_t)base_sequence);
    put_u32(p + BATCH_AT_RECORD_COUNT, (uint32_t)b->count);
    uint32_t crc = crc32c(0, p + BATCH_AT_ATTRIBUTES, b->used - BATCH_AT_ATTRIBUTES);
    put_u32(p + BATCH_AT_CRC, crc);
    return b->used;
}
