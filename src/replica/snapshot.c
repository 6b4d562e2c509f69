#include "base/bytes.h"
#include "base/canary.h"
#include "base/crc32c.h"
#include "replica/internal.h"

/*   0   4  magic         12  8  offset: the log's end that it tells of
 *   4   4  version       20  1  complete
 *   8   4  producers     21     producers, the one silent longest first; then the CRC32C of all
 * before
 *
 * A producer: id 8, epoch 2, batches in the window 1, batches noted 8; then first and last sequence
 * 4 each, base and end 8 each, for each batch of the window. */
enum {
    SNAPSHOT_MAGIC = 0x4b505253, /* KPRS */
    SNAPSHOT_VERSION = 1,
    SNAPSHOT_HEAD_BYTES = 21,
    SNAPSHOT_PRODUCER_BYTES = 19,
    SNAPSHOT_BATCH_BYTES = 24,
    SNAPSHOT_CRC_BYTES = 4,
};

size_t replica_snapshot_bytes(const struct replica *r)
{
    size_t bytes = SNAPSHOT_HEAD_BYTES + SNAPSHOT_CRC_BYTES;
    list_for_each (node, &r->producers.by_use) {
        const struct producer *producer = list_entry(node, struct producer, use);
        bytes += SNAPSHOT_PRODUCER_BYTES + producer->count * (size_t)SNAPSHOT_BATCH_BYTES;
    }
    return bytes;
}

static uint8_t *write_producer(uint8_t *at, const struct producer *producer)
{
    put_u64(at, (uint64_t)producer->id);
    put_u16(at + 8, (uint16_t)producer->epoch);
    at[10] = producer->count;
    put_u64(at + 11, producer->noted);
    at += SNAPSHOT_PRODUCER_BYTES;
    for (uint8_t i = 0; i < producer->count; i++) {
        const struct producer_batch *batch = &producer->window[i];
        put_u32(at, (uint32_t)batch->first);
        put_u32(at + 4, (uint32_t)batch->last);
        put_u64(at + 8, (uint64_t)batch->base);
        put_u64(at + 16, (uint64_t)batch->end);
        at += SNAPSHOT_BATCH_BYTES;
    }
    return at;
}

void replica_write_snapshot(const struct replica *r, uint8_t *into)
{
    uint8_t *at = into;
    put_u32(at, SNAPSHOT_MAGIC);
    put_u32(at + 4, SNAPSHOT_VERSION);
    put_u32(at + 8, (uint32_t)table_count(&r->producers.by_id));
    put_u64(at + 12, (uint64_t)r->end);
    at[20] = r->producers.complete;
    at += SNAPSHOT_HEAD_BYTES;
    list_for_each (node, &r->producers.by_use)
        at = write_producer(at, list_entry(node, struct producer, use));
    put_u32(at, crc32c(0, into, (size_t)(at - into)));
}

/* False: not what write_producer writes. */
static bool read_producer(struct replica *r, struct reader *in, offset_t offset)
{
    producer_id_t id = (producer_id_t)reader_u64(in);
    int16_t epoch = (int16_t)reader_u16(in);
    uint8_t count = reader_u8(in);
    uint64_t noted = reader_u64(in);
    bool sound = !in->failed && id >= 0 && epoch >= 0 && count > 0 && noted >= count &&
                 (count <= PRODUCER_WINDOW || CANARY("replica_snapshot_any_window")) &&
                 table_get(&r->producers.by_id, (uint64_t)id) == NULL;
    if (!sound)
        return false;
    struct producer *producer = producers_add(&r->producers, id);
    producer->epoch = epoch;
    producer->count = count;
    producer->noted = noted;
    for (uint8_t i = 0; i < count; i++) {
        struct producer_batch *batch = &producer->window[i];
        batch->first = (int32_t)reader_u32(in);
        batch->last = (int32_t)reader_u32(in);
        batch->base = (offset_t)reader_u64(in);
        batch->end = (offset_t)reader_u64(in);
        if (in->failed || batch->first < 0 || batch->last < 0 || batch->base < 0 ||
            batch->end <= batch->base || batch->end > offset)
            return false;
    }
    return true;
}

err_t replica_read_snapshot(struct replica *r, struct bytes snapshot, offset_t *ret_offset)
{
    struct reader in;
    ASSERT(table_count(&r->producers.by_id) == 0);
    if (snapshot.len < SNAPSHOT_HEAD_BYTES + SNAPSHOT_CRC_BYTES)
        return ERR_CORRUPT;
    size_t body = snapshot.len - SNAPSHOT_CRC_BYTES;
    if (get_u32(snapshot.data + body) != crc32c(0, snapshot.data, body))
        return ERR_CORRUPT;
    reader_init(&in, snapshot.data, body);
    if (reader_u32(&in) != SNAPSHOT_MAGIC)
        return ERR_CORRUPT;
    if (reader_u32(&in) != SNAPSHOT_VERSION)
        return ERR_UNSUPPORTED_VERSION;
    uint32_t count = reader_u32(&in);
    offset_t offset = (offset_t)reader_u64(&in);
    bool complete = reader_u8(&in) == 1;
    if (offset < 0 || offset > r->end)
        return ERR_OFFSET_OUT_OF_RANGE; /* the log has lost what it tells of */
    bool sound = true;
    for (uint32_t i = 0; i < count && sound; i++)
        sound = read_producer(r, &in, offset);
    if (!sound || reader_left(&in) != 0) {
        producers_clear(&r->producers, r->log_start == 0);
        return ERR_CORRUPT;
    }
    r->producers.complete = complete && count <= r->producers.count_max;
    *ret_offset = offset;
    return ERR_OK;
}
