/* Batches: a check, and the walk of what passes it. The input's CRC is made right half the time,
 * since a fuzzer does not find it. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "record/batch.h"

#include <stdlib.h>

static void fuzz_walk(const uint8_t *data, size_t size, bool checked)
{
    struct record_cursor cursor;
    struct record record;
    if (record_cursor_init(&cursor, data, size) != ERR_OK)
        return;
    int32_t records = 0;
    err_t err;
    while ((err = record_cursor_next(&cursor, &record)) == ERR_OK) {
        ASSERT(record.offset >= cursor.info.base_offset);
        ASSERT(record.offset <= cursor.info.last_offset);
        struct reader headers;
        struct record_header header;
        reader_init(&headers, record.headers.data, record.headers.len);
        for (int32_t i = 0; i < record.header_count; i++)
            ASSERT(record_header_next(&headers, &header) == ERR_OK);
        records++;
    }
    ASSERT(!checked || (err == ERR_NOT_FOUND && records == cursor.info.record_count));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct batch_info info;
    fuzz_walk(data, size, batch_check(data, size, &info) == ERR_OK);

    if (size < BATCH_HEADER_BYTES)
        return 0;
    uint8_t *sealed = malloc(size);
    ASSERT(sealed != NULL);
    memcpy(sealed, data, size);
    put_u32(sealed + 8, (uint32_t)(size - BATCH_PREFIX_BYTES));
    put_u32(sealed + 17, crc32c(0, sealed + 21, size - 21));
    fuzz_walk(sealed, size, batch_check(sealed, size, &info) == ERR_OK);
    free(sealed);
    return 0;
}
