#include "lib/shard_lab.h"

/* Bytes that are no requests, and requests that may not be: each is told why. */

static struct lab lab;
static struct arena arena;

static void setup(void)
{
    lab_init(&lab, 1, check_main_seed());
    arena_init(&arena, 1 << 20);
    lab_settle(&lab, 1);
}

static void teardown(void)
{
    arena_fini(&arena);
    lab_fini(&lab);
}

static void put(env_conn conn, struct frame *frame)
{
    (void)lab.client->net.send(lab.client->net.self, conn, frame, 0, frame->used);
}

static struct frame *raw(uint8_t kind, uint8_t version, uint16_t method, uint32_t message_bytes,
                         const void *rest, size_t rest_bytes)
{
    struct frame *frame = frame_new(WIRE_HEADER_BYTES + rest_bytes);
    put_u32(frame->bytes, (uint32_t)(WIRE_HEADER_BYTES - 4 + rest_bytes));
    frame->bytes[4] = kind;
    frame->bytes[5] = version;
    put_u16(frame->bytes + 6, method);
    put_u32(frame->bytes + 8, 4711);
    put_u32(frame->bytes + 12, message_bytes);
    memcpy(frame->bytes + WIRE_HEADER_BYTES, rest, rest_bytes);
    frame->used = (uint32_t)(WIRE_HEADER_BYTES + rest_bytes);
    return frame;
}

static void stays(env_conn conn, err_t expected)
{
    ck_assert_int_eq(lab_take_error(&lab, conn), expected);
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    uint32_t id = lab_send(&lab, conn, WIRE_PROBE, &probe.base, NULL, 0);
    Karst__ProbeReply *reply = (Karst__ProbeReply *)lab_reply(&lab, conn, id, WIRE_PROBE, &arena);
    ck_assert_int_eq(reply->node_id, 1);
}

static void closes(env_conn conn, err_t expected)
{
    ck_assert_int_eq(lab_take_error(&lab, conn), expected);
    lab_run(&lab, 50);
    ck_assert(lab_is_closed(&lab, conn));
}

START_TEST(an_unknown_method_is_answered_and_the_connection_stays)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    static const uint16_t methods[] = {0,        WIRE_METHOD(1, 200), WIRE_METHOD(77, 0),
                                       0xffff,   WIRE_REPLICA_FETCH,  WIRE_REPLICA_DATA,
                                       WIRE_RAFT};
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        put(conn, raw(WIRE_REQUEST, 1, methods[i], 0, "", 0));
        stays(conn, ERR_UNSUPPORTED_VERSION);
    }
    put(conn, raw(WIRE_ONEWAY, 1, WIRE_METHOD(1, 200), 0, "", 0)); /* no answer is possible */
    lab_run(&lab, 50);
    ck_assert(!lab_is_closed(&lab, conn));
    teardown();
}
END_TEST

START_TEST(malformed_frames_are_told_and_the_connection_closes)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 1, WIRE_METADATA, 1000, "abc", 3)); /* the message ends too early */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    put(conn, raw(99, 1, WIRE_METADATA, 0, "", 0)); /* no such kind */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 9, WIRE_METADATA, 0, "", 0)); /* a later header */
    closes(conn, ERR_UNSUPPORTED_VERSION);
    conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 1, WIRE_METADATA, 4, "\xff\xff\xff\xff", 4)); /* no protobuf */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REPLY, 1, WIRE_METADATA, 0, "", 0)); /* of nothing that was asked */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 1, WIRE_METADATA, 0, "xyz", 3)); /* records where none belong */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 1, WIRE_PRODUCE, 0, "", 0)); /* required fields are missing */
    closes(conn, ERR_INVALID_REQUEST);
    teardown();
}
END_TEST

static void produce(env_conn conn, int acks, uint32_t said_bytes, size_t topic_bytes, int32_t index,
                    size_t sent_bytes)
{
    struct uuid topic = lab_uuid(1);
    Karst__ProduceRequest request = KARST__PRODUCE_REQUEST__INIT;
    Karst__ProducePartition part = KARST__PRODUCE_PARTITION__INIT, *parts = &part;
    part.topic_id = wire_put_uuid(&topic);
    part.topic_id.len = topic_bytes;
    part.index = index;
    part.bytes = said_bytes;
    request.acks = acks;
    request.timeout_ms = 100;
    request.n_partitions = 1;
    request.partitions = &parts;
    (void)lab_send(&lab, conn, WIRE_PRODUCE, &request.base, "0123456789abcdef", sent_bytes);
}

START_TEST(records_must_be_what_the_rows_say)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    produce(conn, -1, 17, 16, 0, 16); /* more than there are */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    produce(conn, -1, 15, 16, 0, 16); /* one byte is nobody's */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    produce(conn, -1, UINT32_MAX, 16, 0, 16);
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    produce(conn, -1, 16, 15, 0, 16); /* no topic id */
    closes(conn, ERR_INVALID_REQUEST);
    conn = lab_connect(&lab, 0);
    produce(conn, -1, 16, 16, -1, 16); /* no partition */
    closes(conn, ERR_INVALID_REQUEST);
    ck_assert_uint_eq(fake_table(&lab, 0, 0)->produced + fake_table(&lab, 0, 1)->produced, 0);
    conn = lab_connect(&lab, 0);
    produce(conn, 7, 16, 16, 0, 16);
    stays(conn, ERR_INVALID_REQUIRED_ACKS);
    teardown();
}
END_TEST

START_TEST(more_partitions_than_a_request_may_have_are_refused)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    struct uuid topic = lab_uuid(1);
    static Karst__ListOffsetsPartition part;
    static Karst__ListOffsetsPartition *parts[REQUEST_PARTS_MAX + 1];
    karst__list_offsets_partition__init(&part);
    part.topic_id = wire_put_uuid(&topic);
    part.timestamp = -1;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        parts[i] = &part;
    Karst__ListOffsetsRequest request = KARST__LIST_OFFSETS_REQUEST__INIT;
    request.partitions = parts;
    request.n_partitions = REQUEST_PARTS_MAX;
    struct arena large;
    arena_init(&large, 64 << 20);
    uint32_t id = lab_send(&lab, conn, WIRE_LIST_OFFSETS, &request.base, NULL, 0);
    Karst__ListOffsetsReply *reply =
        (Karst__ListOffsetsReply *)lab_reply(&lab, conn, id, WIRE_LIST_OFFSETS, &large);
    ck_assert_uint_eq(reply->n_partitions, REQUEST_PARTS_MAX);
    ck_assert_int_eq(reply->partitions[REQUEST_PARTS_MAX - 1]->offset, 77);
    arena_fini(&large);
    request.n_partitions = REQUEST_PARTS_MAX + 1;
    (void)lab_send(&lab, conn, WIRE_LIST_OFFSETS, &request.base, NULL, 0);
    closes(conn, ERR_INVALID_REQUEST);
    teardown();
}
END_TEST

START_TEST(empty_requests_get_empty_replies)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    uint32_t id = lab_produce(&lab, conn, -1, 100, NULL, 0);
    Karst__ProduceReply *produced =
        (Karst__ProduceReply *)lab_reply(&lab, conn, id, WIRE_PRODUCE, &arena);
    ck_assert_uint_eq(produced->n_partitions, 0);
    id = lab_fetch(&lab, conn, 100, NULL, 0);
    Karst__FetchReply *fetched = (Karst__FetchReply *)lab_reply(&lab, conn, id, WIRE_FETCH, &arena);
    ck_assert_uint_eq(fetched->n_partitions, 0);
    teardown();
}
END_TEST

START_TEST(a_fetch_that_finds_nothing_ends_at_its_deadline)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    static const int32_t indexes[] = {0, 1, 2};
    uint64_t before = lab.world.now_ns;
    uint32_t id = lab_fetch(&lab, conn, 300, indexes, 3);
    Karst__FetchReply *reply = (Karst__FetchReply *)lab_reply(&lab, conn, id, WIRE_FETCH, &arena);
    ck_assert_uint_ge(lab.world.now_ns - before, ENV_MS(299));
    ck_assert_uint_lt(lab.world.now_ns - before, ENV_MS(400));
    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(reply->partitions[i]->error, ERR_OK);
        ck_assert_uint_eq(reply->partitions[i]->bytes, 0);
    }
    teardown();
}
END_TEST

START_TEST(a_connection_that_asks_for_too_much_waits_in_its_socket)
{
    setup();
    env_conn conn = lab_connect(&lab, 0);
    struct uuid topic = lab_uuid(1);
    Karst__FetchRequest request = KARST__FETCH_REQUEST__INIT;
    Karst__FetchPartition part = KARST__FETCH_PARTITION__INIT, *parts = &part;
    part.topic_id = wire_put_uuid(&topic);
    part.bytes_max = UINT32_MAX;
    request.wait_ms_max = 300;
    request.bytes_min = 1;
    request.bytes_max = UINT32_MAX;
    request.n_partitions = 1;
    request.partitions = &parts;
    for (int i = 0; i < 6; i++) {
        (void)lab_send(&lab, conn, WIRE_FETCH, &request.base, NULL, 0);
        lab_run(&lab, 20);
    }
    unsigned fetched = fake_table(&lab, 0, 0)->fetched + fake_table(&lab, 0, 1)->fetched;
    ck_assert_uint_eq(fetched, 3);
    for (int i = 0; i < 6; i++) {
        struct frame *reply = lab_take(&lab, conn, 1000);
        ck_assert_ptr_nonnull(reply);
        frame_unref(reply);
    }
    teardown();
}
END_TEST

START_TEST(garbage_never_ends_a_broker)
{
    setup();
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    for (int i = 0; i < 300; i++) {
        env_conn conn = rng_chance(&rng, 500000) ? lab_connect(&lab, 0) : lab_dial(&lab, 0);
        for (uint64_t frames = rng_between(&rng, 1, 4); frames > 0; frames--) {
            uint8_t bytes[64];
            size_t size = (size_t)rng_below(&rng, sizeof(bytes) + 1);
            for (size_t j = 0; j < size; j++)
                bytes[j] = (uint8_t)rng_next(&rng);
            put(conn, raw((uint8_t)rng_below(&rng, 7), 1, (uint16_t)rng_below(&rng, 0x0603),
                          (uint32_t)rng_below(&rng, size + 2), bytes, size));
        }
        lab_run(&lab, 2);
        lab.client->net.drop(lab.client->net.self, conn);
    }
    env_conn conn = lab_connect(&lab, 0);
    put(conn, raw(WIRE_REQUEST, 1, 0, 0, "", 0));
    stays(conn, ERR_UNSUPPORTED_VERSION);
    struct shard_view view;
    for (unsigned i = 0; i < LAB_SHARDS; i++) {
        shard_look(lab.nodes[0].shards[i], &view);
        ck_assert_uint_le(view.connections, 2);
    }
    teardown();
}
END_TEST

CHECK_MAIN("rpc/codec", an_unknown_method_is_answered_and_the_connection_stays,
           malformed_frames_are_told_and_the_connection_closes, records_must_be_what_the_rows_say,
           more_partitions_than_a_request_may_have_are_refused, empty_requests_get_empty_replies,
           a_fetch_that_finds_nothing_ends_at_its_deadline,
           a_connection_that_asks_for_too_much_waits_in_its_socket, garbage_never_ends_a_broker)
