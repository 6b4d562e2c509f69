#include "wire/wire.h"

#include "base/canary.h"

/* A small message may grow 57-fold in memory (a repeated empty submessage is two bytes packed):
 * what one may take is capped by the arena, and once more here for arenas with a wide cap. */
struct wire_allocator {
    struct arena *arena;
    size_t bytes_left;
};

static void *wire_allocator_alloc(void *data, size_t bytes)
{
    struct wire_allocator *allocator = data;
    if (bytes > allocator->bytes_left)
        return NULL;
    allocator->bytes_left -= bytes;
    return arena_alloc(allocator->arena, bytes);
}

static void wire_allocator_free(void *data, void *place)
{
    (void)data; /* all is freed with the arena */
    (void)place;
}

err_t wire_unpack(const ProtobufCMessageDescriptor *type, struct bytes packed, struct arena *arena,
                  ProtobufCMessage **ret_message)
{
    struct wire_allocator capped = {.arena = arena, .bytes_left = WIRE_UNPACKED_BYTES_MAX};
    ProtobufCAllocator allocator = {
        .alloc = wire_allocator_alloc,
        .free = wire_allocator_free,
        .allocator_data = &capped,
    };
    ProtobufCMessage *message =
        protobuf_c_message_unpack(type, &allocator, packed.len, packed.data);
    if (message == NULL && !CANARY("wire_malformed_is_fine"))
        return ERR_INVALID_REQUEST;
    *ret_message = message;
    return ERR_OK;
}

bool wire_get_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id)
{
    if (bytes->len != sizeof(ret_id->b))
        return false;
    memcpy(ret_id->b, bytes->data, sizeof(ret_id->b));
    return true;
}

ProtobufCBinaryData wire_put_uuid(const struct uuid *id)
{
    return (ProtobufCBinaryData){.len = sizeof(id->b), .data = (uint8_t *)(uintptr_t)id->b};
}
