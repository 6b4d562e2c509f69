/* Metadata: an entry applied to an image, and a snapshot restored. What was taken in encodes to
 * what decodes to the same. A snapshot's CRC is made right, since a fuzzer does not find it. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "base/crc32c.h"
#include "fuzz/rows.h"
#include "metadata/image.h"
#include "metadata/record.h"

#include <stdlib.h>

const struct rows_shape fuzz_shape = {.head = 3, .length_at = 1, .length_bytes = 2};

/* The image as a snapshot gives the same image. */
static void fuzz_round_trip(struct image *image)
{
    uint8_t *data = NULL;
    size_t len = 0;
    ASSERT(image_encode_snapshot(image, &data, &len) == ERR_OK);
    struct image *restored = NULL;
    ASSERT(image_decode_snapshot((struct bytes){data, len}, &restored) == ERR_OK);
    ASSERT(image_digest(restored) == image_digest(image));
    uint8_t *again = NULL;
    size_t again_len = 0;
    ASSERT(image_encode_snapshot(restored, &again, &again_len) == ERR_OK);
    ASSERT(again_len == len && memcmp(again, data, len) == 0);
    free(again);
    free(data);
    image_unref(restored);
}

static void fuzz_entry(const uint8_t *data, size_t size)
{
    struct image *empty = image_new_empty();
    struct image_edit *edit = image_edit_begin(empty);
    struct bytes entry = {data, size};
    Karst__MetadataRecord record;
    size_t at = 0;
    while (record_next(entry, &at, &record)) {
        uint64_t before = image_digest(image_edit_view(edit));
        if (image_edit_apply(edit, &record) != ERR_OK) /* it leaves no trace */
            ASSERT(image_digest(image_edit_view(edit)) == before);
    }
    struct image_difference *difference = NULL;
    struct image *image = image_edit_finish(edit, &difference);
    image_difference_free(difference);
    fuzz_round_trip(image);
    image_unref(image);
    image_unref(empty);
}

static void fuzz_snapshot(const uint8_t *data, size_t size)
{
    struct image *image = NULL;
    if (image_decode_snapshot((struct bytes){data, size}, &image) != ERR_OK)
        return;
    fuzz_round_trip(image);
    image_unref(image);
}

/* The input as rows, each a record: type, length in two bytes, payload. So a record may be changed,
 * doubled or cut without the lengths around it. */
static void fuzz_rows(const uint8_t *data, size_t size)
{
    struct reader reader;
    struct record_list list;
    record_list_init(&list);
    reader_init(&reader, data, size);
    while (reader_left(&reader) > 0) {
        Karst__MetadataRecord record = KARST__METADATA_RECORD__INIT;
        record.type = reader_u8(&reader);
        record.version = 1;
        struct bytes payload = reader_bytes(&reader, reader_u16(&reader));
        if (reader.failed)
            break;
        record.payload = (ProtobufCBinaryData){payload.len, (uint8_t *)(uintptr_t)payload.data};
        record_list_add_packed(&list, &record);
    }
    if (list.len > 0)
        fuzz_entry(list.data, list.len);
    record_list_fini(&list);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_entry(data, size);
    fuzz_rows(data, size);
    fuzz_snapshot(data, size);
    if (size < 36)
        return 0;
    uint8_t *sealed = malloc(size);
    ASSERT(sealed != NULL);
    memcpy(sealed, data, size);
    put_u64(sealed + 24, size - 36);
    put_u32(sealed + size - 4, crc32c(0, sealed, size - 4));
    fuzz_snapshot(sealed, size);
    free(sealed);
    return 0;
}
