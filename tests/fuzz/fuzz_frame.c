/* A frame as the net hands it over: header, then the message of its method. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "fuzz/rows.h"
#include "wire/wire.h"

const struct rows_shape fuzz_shape = {
    .head = WIRE_HEADER_BYTES, .length_at = 12, .length_bytes = 4, .framed = true};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct frame *frame = frame_new(size == 0 ? 1 : size);
    ASSERT(frame != NULL);
    if (size > 0)
        memcpy(frame->bytes, data, size);
    frame->used = (uint32_t)size;
    if (size >= 4) /* the net cuts frames by this word: it is always right */
        put_u32(frame->bytes, (uint32_t)size - 4);

    struct wire_header header;
    if (wire_decode_header(frame, &header) == ERR_OK) {
        struct bytes message = wire_message(frame, &header);
        struct bytes attachment = wire_attachment(frame, &header);
        ASSERT(WIRE_HEADER_BYTES + message.len + attachment.len == size);
        const struct wire_method *method = wire_method_find(header.method);
        if (method != NULL) {
            struct arena arena;
            ProtobufCMessage *unpacked;
            arena_init(&arena, 1 << 20);
            (void)wire_unpack(header.kind == WIRE_REPLY ? method->reply : method->request, message,
                              &arena, &unpacked);
            arena_fini(&arena);
        }
    }
    frame_unref(frame);
    return 0;
}
