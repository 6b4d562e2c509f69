/* Every message of the RPC: the first byte chooses which. What is read must be written again, and
 * read the same. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "fuzz/rows.h"
#include "wire/wire.h"

#include <stdlib.h>

const struct rows_shape fuzz_shape = {.before = 1};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    size_t count;
    const struct wire_method *methods = wire_methods(&count);
    const struct wire_method *method = &methods[data[0] / 2 % count];
    const ProtobufCMessageDescriptor *type = data[0] % 2 == 0 ? method->request : method->reply;

    struct arena arena;
    ProtobufCMessage *message, *again;
    arena_init(&arena, 1 << 20);
    if (wire_unpack(type, (struct bytes){data + 1, size - 1}, &arena, &message) == ERR_OK) {
        size_t packed_size = protobuf_c_message_get_packed_size(message);
        uint8_t *packed = malloc(packed_size + 1);
        ASSERT(packed != NULL);
        ASSERT(protobuf_c_message_pack(message, packed) == packed_size);
        struct arena second;
        arena_init(&second, 4 << 20);
        /* protobuf-c takes an unknown field of number 0 when its tag is over-long, and then writes
         * one that it refuses: a second reading may fail, but not differ. */
        if (wire_unpack(type, (struct bytes){packed, packed_size}, &second, &again) == ERR_OK)
            ASSERT(protobuf_c_message_get_packed_size(again) == packed_size);
        arena_fini(&second);
        free(packed);
    }
    arena_fini(&arena);
    return 0;
}
