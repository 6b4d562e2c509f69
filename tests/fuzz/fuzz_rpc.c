/* A connection to a broker: any frames, before a hello or after that of a client or of a broker.
 * The first byte says which; frames follow, each with its length word. The broker's partitions and
 * its quorum are played. After the connection is gone, nothing of it may be left. */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/logger.h"
#include "fuzz/rows.h"
#include "lib/shard_lab.h"
#include "rpc/rpc.h"

const struct rows_shape fuzz_shape = {
    .before = 1, .head = WIRE_HEADER_BYTES, .length_at = 12, .length_bytes = 4, .framed = true};

enum { FUZZ_CLIENT = 1, FUZZ_BROKER = 2, FUZZ_SHORTEST = 8, FUZZ_SLOT = 500 };

static struct lab lab;

static struct frame *fuzz_frame(const uint8_t *data, size_t size)
{
    struct frame *frame = frame_new(size);
    ASSERT(frame != NULL);
    memcpy(frame->bytes, data, size);
    frame->used = (uint32_t)size;
    put_u32(frame->bytes, (uint32_t)size - 4); /* the net cuts frames by this word */
    return frame;
}

static void fuzz_hello(struct env *env, env_conn conn, bool broker)
{
    Karst__Hello hello = lab_hello();
    struct uuid cluster = lab_uuid(1), incarnation = lab_uuid(900);
    hello.has_cluster_id = true;
    hello.cluster_id = wire_put_uuid(&cluster);
    if (broker) {
        hello.has_node_id = hello.has_incarnation = hello.has_broker_epoch = true;
        hello.node_id = 2;
        hello.incarnation = wire_put_uuid(&incarnation);
        hello.broker_epoch = 12;
    }
    env->upcalls.received(
        env->actor, conn,
        wire_frame(&(struct wire_frame_args){.kind = WIRE_HELLO, .message = &hello.base}));
}

static void fuzz_end(void)
{
    lab_fini(&lab);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint32_t generation;
    if (size == 0)
        return 0;
    if (generation == 0) {
        logger_set(LOGGER_OFF, NULL, NULL, false);
        lab_init(&lab, 2, 1);
        lab_settle(&lab, 1);
        (void)atexit(fuzz_end); /* without it the leak checker speaks of the lab */
    }
    env_conn conn = {.slot = FUZZ_SLOT, .generation = ++generation};
    struct env *env = sim_host_env(lab.nodes[0].host, 1);
    env->upcalls.accepted(env->actor, conn, 0, "fuzz");
    if ((data[0] & 3) != 0)
        fuzz_hello(env, conn, (data[0] & FUZZ_BROKER) != 0);
    size_t at = 1;
    while (size - at >= FUZZ_SHORTEST) {
        size_t length = (size_t)get_u32(data + at) + 4;
        if (length < FUZZ_SHORTEST || length > size - at)
            length = size - at;
        env->upcalls.received(env->actor, conn, fuzz_frame(data + at, length));
        at += length;
    }
    env->upcalls.turn_ended(env->actor);
    lab_run(&lab, 1);
    env->upcalls.closed(env->actor, conn, ERR_CLOSED);
    lab_run(&lab, 3);
    for (unsigned i = 0; i < LAB_SHARDS; i++)
        ASSERT(fake_held(fake_table(&lab, 0, i)) == 0);
    return 0;
}
