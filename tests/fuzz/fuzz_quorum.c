/* What a voter keeps on its disk, decoded: the first byte says whether the rest is the bytes of a
 * snapshot file, or key and value of an entry. What is taken is written again as it was. */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "quorum/entry.h"
#include "quorum/snapshot.h"

enum { KEY_BYTES = 27, FLAG_ENTRY = 1 };

/* ---- a snapshot file ---- */

static void fuzz_snapshot(const uint8_t *data, size_t size)
{
    struct snapshot_head head, again;
    struct bytes image, image_again;
    if (snapshot_decode((struct bytes){data, size}, &head, &image) != ERR_OK)
        return;
    ASSERT(image.len <= size);
    ASSERT(head.members.count <= MEMBERS_MAX);
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    bool taken = members_to_raft(&head.members, &configuration);
    ASSERT(taken);
    raft_configuration_close(&configuration);
    size_t len;
    uint8_t *file = snapshot_encode(&head, &image, 1, &len);
    ASSERT(file != NULL);
    err_t err = snapshot_decode((struct bytes){file, len}, &again, &image_again);
    ASSERT(err == ERR_OK);
    ASSERT(again.index == head.index);
    ASSERT(again.members.count == head.members.count);
    ASSERT(image_again.len == image.len);
    free(file);
}

static void fuzz_snapshot_sealed(const uint8_t *data, size_t size)
{
    fuzz_snapshot(data, size);
    if (size < 16)
        return;
    uint8_t *sealed = malloc(size);
    ASSERT(sealed != NULL);
    memcpy(sealed, data, size);
    put_u32(sealed + size - 4, crc32c(0, sealed, size - 4));
    fuzz_snapshot(sealed, size);
    free(sealed);
}

/* ---- an entry ---- */

static void fuzz_entry(const uint8_t *data, size_t size)
{
    if (size < KEY_BYTES)
        return;
    size_t capacity = BATCH_HEADER_BYTES + batch_record_bytes_max(KEY_BYTES, size - KEY_BYTES);
    uint8_t *batch = malloc(capacity);
    ASSERT(batch != NULL);
    struct batch_builder builder;
    batch_begin(&builder, batch, capacity);
    err_t err = batch_add(&builder, 1000, (struct bytes){data, KEY_BYTES},
                          (struct bytes){data + KEY_BYTES, size - KEY_BYTES}, NULL, 0);
    ASSERT(err == ERR_OK);
    size_t len = batch_finish(&builder, 0, -1, -1, -1);
    batch_patch(batch, (offset_t)(get_u64(data + 1) & INT64_MAX),
                (leader_epoch_t)get_u64(data + 9));
    struct batch_info info;
    struct entry entry;
    struct bytes inner;
    err = batch_check_crc(batch, len, &info);
    if (err == ERR_OK && entry_decode(&info, batch, &entry) == ERR_OK) {
        ASSERT(entry_legal(&entry));
        ASSERT((offset_t)entry.index == info.base_offset);
        if (entry_unpad(entry.data, &inner) == ERR_OK)
            ASSERT(inner.len + 4 <= entry.data.len);
        uint8_t *again = malloc(entry_batch_bytes_max(entry.data.len));
        ASSERT(again != NULL);
        ASSERT(entry_encode(&entry, 1000, again) == len);
        ASSERT(memcmp(again, batch, len) == 0);
        free(again);
    }
    free(batch);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] & FLAG_ENTRY)
        fuzz_entry(data + 1, size - 1);
    else
        fuzz_snapshot_sealed(data + 1, size - 1);
    return 0;
}
