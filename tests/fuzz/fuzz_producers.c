/* A producer snapshot: one byte for the log's end, then the file. Its CRC is made right, too, since
 * a fuzzer does not find it. What is taken writes itself again, and goes on with further batches.
 */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/crc32c.h"
#include "replica/replica.h"

enum { PRODUCERS_MAX = 6 };

static leader_epoch_t no_last_epoch(const void *log)
{
    (void)log;
    return -1;
}

static void no_epoch_end(const void *log, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                         offset_t *ret_end)
{
    (void)log;
    (void)asked;
    *ret_epoch = -1;
    *ret_end = -1;
}

static struct replica *fuzz_replica(offset_t end)
{
    const struct replica_config config = {
        .node = 1,
        .history = {.last_epoch = no_last_epoch, .epoch_end = no_epoch_end},
        .producers_max = PRODUCERS_MAX,
    };
    struct replica *r = malloc(sizeof(*r));
    ASSERT(r != NULL);
    replica_init(r, &config, &(struct replica_start){.end = end, .flushed_end = end});
    return r;
}

static uint8_t *fuzz_write(const struct replica *r, size_t *ret_len)
{
    *ret_len = replica_snapshot_bytes(r);
    uint8_t *written = malloc(*ret_len);
    ASSERT(written != NULL);
    replica_write_snapshot(r, written);
    return written;
}

/* What it writes is what it reads. */
static void fuzz_round_trip(const struct replica *r)
{
    size_t len, again_len;
    offset_t offset;
    uint8_t *written = fuzz_write(r, &len);
    struct replica *other = fuzz_replica(r->end);
    err_t err = replica_read_snapshot(other, (struct bytes){written, len}, &offset);
    ASSERT(err == ERR_OK);
    ASSERT(offset == r->end);
    uint8_t *again = fuzz_write(other, &again_len);
    ASSERT(again_len == len);
    ASSERT(memcmp(again, written, len) == 0);
    free(written);
    free(again);
    replica_fini(other);
    free(other);
}

static void fuzz_read(offset_t end, const uint8_t *data, size_t size)
{
    struct replica *r = fuzz_replica(end);
    offset_t offset = -1;
    if (replica_read_snapshot(r, (struct bytes){data, size}, &offset) == ERR_OK) {
        ASSERT(offset >= 0);
        ASSERT(offset <= end);
        fuzz_round_trip(r);
        for (int i = 0; i < PRODUCERS_MAX + 2; i++)
            replica_note_batch(r, &(struct batch_info){
                                      .base_offset = end + i,
                                      .last_offset = end + i,
                                      .record_count = 1,
                                      .producer_id = i / 2,
                                      .base_sequence = i % 2,
                                  });
        ASSERT(table_count(&r->producers.by_id) <= PRODUCERS_MAX);
    } else {
        ASSERT(table_count(&r->producers.by_id) == 0);
    }
    replica_fini(r);
    free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 + 4)
        return 0;
    offset_t end = data[0];
    data++;
    size--;
    fuzz_read(end, data, size);
    uint8_t *sealed = malloc(size);
    ASSERT(sealed != NULL);
    memcpy(sealed, data, size);
    put_u32(sealed + size - 4, crc32c(0, sealed, size - 4));
    fuzz_read(end, sealed, size);
    free(sealed);
    return 0;
}
