#include "base/assert.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

enum { WIRE_METHODS_MAX = 64 };

static const struct {
    enum wire_service number;
    const ProtobufCServiceDescriptor *descriptor;
} wire_services[] = {
    {WIRE_DATA, &karst__data__descriptor},       {WIRE_REPLICA, &karst__replica__descriptor},
    {WIRE_CLUSTER, &karst__cluster__descriptor}, {WIRE_ADMIN, &karst__admin__descriptor},
    {WIRE_QUORUM, &karst__quorum__descriptor},
};

/* Made of the service descriptors before main, so that it needs neither a lock nor a second list of
 * the methods, and is never written again. */
static struct wire_method wire_method_table[WIRE_METHODS_MAX];
static size_t wire_method_count;
static uint16_t wire_service_first[ARRAY_LEN(wire_services)]; /* its first place in the table */

__attribute__((constructor)) static void wire_methods_fill(void)
{
    for (size_t i = 0; i < ARRAY_LEN(wire_services); i++) {
        const ProtobufCServiceDescriptor *service = wire_services[i].descriptor;
        wire_service_first[i] = (uint16_t)wire_method_count;
        for (unsigned j = 0; j < service->n_methods; j++) {
            ASSERT(wire_method_count < WIRE_METHODS_MAX);
            wire_method_table[wire_method_count++] = (struct wire_method){
                .id = WIRE_METHOD(wire_services[i].number, j),
                .service = service->short_name,
                .name = service->methods[j].name,
                .request = service->methods[j].input,
                .reply = service->methods[j].output,
            };
        }
    }
}

const struct wire_method *wire_method_find(uint16_t id)
{
    for (size_t i = 0; i < ARRAY_LEN(wire_services); i++) {
        unsigned place = id & 0xff;
        if (id >> 8 == wire_services[i].number)
            return place < wire_services[i].descriptor->n_methods
                       ? &wire_method_table[wire_service_first[i] + place]
                       : NULL;
    }
    return NULL;
}

const struct wire_method *wire_methods(size_t *ret_count)
{
    *ret_count = wire_method_count;
    return wire_method_table;
}
