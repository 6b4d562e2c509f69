#include "base/assert.h"
#include "base/canary.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

enum {
    WIRE_AT_KIND = 4,
    WIRE_AT_VERSION = 5,
    WIRE_AT_METHOD = 6,
    WIRE_AT_CORRELATION = 8,
    WIRE_AT_MESSAGE_BYTES = 12,
    WIRE_LENGTH_BYTES = 4,
};

err_t wire_decode_header(const struct frame *frame, struct wire_header *ret_header)
{
    if (frame->used < WIRE_HEADER_BYTES)
        return ERR_INVALID_REQUEST;
    const uint8_t *p = frame->bytes;
    uint32_t length = get_u32(p);
    if (length != frame->used - WIRE_LENGTH_BYTES)
        return ERR_INVALID_REQUEST;
    struct wire_header header = {
        .length = frame->used,
        .kind = p[WIRE_AT_KIND],
        .version = p[WIRE_AT_VERSION],
        .method = get_u16(p + WIRE_AT_METHOD),
        .correlation = get_u32(p + WIRE_AT_CORRELATION),
        .message_bytes = get_u32(p + WIRE_AT_MESSAGE_BYTES),
    };
    /* Version first: a later one may mean all that follows differently. */
    if (header.version != WIRE_VERSION) {
        *ret_header = header;
        return ERR_UNSUPPORTED_VERSION;
    }
    if (header.kind < WIRE_HELLO || header.kind > WIRE_ONEWAY)
        return ERR_INVALID_REQUEST;
    if ((header.message_bytes > header.length - WIRE_HEADER_BYTES &&
         !CANARY("wire_message_past_its_frame")) ||
        header.message_bytes > WIRE_MESSAGE_BYTES_MAX)
        return ERR_INVALID_REQUEST;
    *ret_header = header;
    return ERR_OK;
}

struct frame *wire_frame(const struct wire_frame_args *args)
{
    size_t message_bytes =
        args->message == NULL ? 0 : protobuf_c_message_get_packed_size(args->message);
    ASSERT(message_bytes <= WIRE_MESSAGE_BYTES_MAX);
    ASSERT(args->attachment_bytes < (size_t)INT32_MAX - WIRE_HEADER_BYTES - message_bytes);
    size_t own = WIRE_HEADER_BYTES + message_bytes;
    size_t length = own + args->attachment_bytes;
    struct frame *frame = frame_new(args->attachment_apart ? own : length);
    if (frame == NULL)
        return NULL;
    uint8_t *p = frame->bytes;
    put_u32(p, (uint32_t)(length - WIRE_LENGTH_BYTES));
    p[WIRE_AT_KIND] = (uint8_t)args->kind;
    p[WIRE_AT_VERSION] = WIRE_VERSION;
    put_u16(p + WIRE_AT_METHOD, args->method);
    put_u32(p + WIRE_AT_CORRELATION, args->correlation);
    put_u32(p + WIRE_AT_MESSAGE_BYTES, (uint32_t)message_bytes);
    if (message_bytes > 0) {
        size_t packed = protobuf_c_message_pack(args->message, p + WIRE_HEADER_BYTES);
        ASSERT(packed == message_bytes);
    }
    frame->used = (uint32_t)own;
    return frame;
}

struct frame *wire_error_frame(uint16_t method, uint32_t correlation, err_t err,
                               const char *sentence)
{
    Karst__Error error = KARST__ERROR__INIT;
    error.code = err;
    /* protobuf-c does not know const; packing only reads. */
    error.message = (char *)(uintptr_t)(sentence == NULL ? err_sentence(err) : sentence);
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ERROR,
        .method = method,
        .correlation = correlation,
        .message = &error.base,
    });
}
