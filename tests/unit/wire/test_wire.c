#include "lib/check_main.h"

#include "base/rng.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

#include <stdio.h>
#include <string.h>

static struct frame *frame_of(const void *bytes, size_t len)
{
    struct frame *frame = frame_new(len == 0 ? 1 : len);
    if (len > 0)
        memcpy(frame->bytes, bytes, len);
    frame->used = (uint32_t)len;
    return frame;
}

static err_t decode_bytes(const void *bytes, size_t len, struct wire_header *ret_header)
{
    struct frame *frame = frame_of(bytes, len);
    err_t err = wire_decode_header(frame, ret_header);
    frame_unref(frame);
    return err;
}

/* The ids are on the wire of every cluster that runs: this list is only ever appended to. */
START_TEST(method_ids_are_those_of_the_proto)
{
    static const struct {
        uint16_t id;
        const char *name;
    } pinned[] = {
        {0x100, "Data.Produce"},
        {0x101, "Data.Fetch"},
        {0x102, "Data.ListOffsets"},
        {0x103, "Data.Metadata"},
        {0x104, "Data.InitProducerId"},
        {0x200, "Replica.ReplicaFetch"},
        {0x201, "Replica.ReplicaDataSlices"},
        {0x202, "Replica.EpochEndOffset"},
        {0x300, "Cluster.RegisterBroker"},
        {0x301, "Cluster.Heartbeat"},
        {0x302, "Cluster.AlterPartition"},
        {0x303, "Cluster.AllocateProducerIds"},
        {0x304, "Cluster.DescribeCluster"},
        {0x305, "Cluster.Probe"},
        {0x400, "Admin.CreateTopics"},
        {0x401, "Admin.DeleteTopics"},
        {0x402, "Admin.ElectLeaders"},
        {0x403, "Admin.AddVoter"},
        {0x404, "Admin.RemoveVoter"},
        {0x500, "Quorum.Raft"},
        {0x501, "Quorum.MetadataFetch"},
        {0x502, "Quorum.DescribeQuorum"},
    };
    size_t count;
    const struct wire_method *methods = wire_methods(&count);
    ck_assert_uint_ge(count, ARRAY_LEN(pinned));
    for (size_t i = 0; i < ARRAY_LEN(pinned); i++) {
        char name[64];
        const struct wire_method *method = wire_method_find(pinned[i].id);
        ck_assert_ptr_nonnull(method);
        ck_assert_uint_eq(method->id, pinned[i].id);
        snprintf(name, sizeof(name), "%s.%s", method->service, method->name);
        ck_assert_str_eq(name, pinned[i].name);
    }
    for (size_t i = 1; i < count; i++)
        ck_assert_uint_lt(methods[i - 1].id, methods[i].id);
}
END_TEST

START_TEST(the_names_in_the_code_are_the_ids_of_the_proto)
{
    static const struct {
        enum wire_method_id id;
        const ProtobufCMessageDescriptor *request, *reply;
    } methods[] = {
        {WIRE_PRODUCE, &karst__produce_request__descriptor, &karst__produce_reply__descriptor},
        {WIRE_FETCH, &karst__fetch_request__descriptor, &karst__fetch_reply__descriptor},
        {WIRE_LIST_OFFSETS, &karst__list_offsets_request__descriptor,
         &karst__list_offsets_reply__descriptor},
        {WIRE_METADATA, &karst__metadata_request__descriptor, &karst__metadata_reply__descriptor},
        {WIRE_INIT_PRODUCER_ID, &karst__init_producer_id_request__descriptor,
         &karst__init_producer_id_reply__descriptor},
        {WIRE_REPLICA_FETCH, &karst__replica_fetch_request__descriptor,
         &karst__replica_data__descriptor},
        {WIRE_REPLICA_DATA, &karst__replica_data__descriptor,
         &karst__replica_fetch_request__descriptor},
        {WIRE_EPOCH_END_OFFSET, &karst__epoch_end_offset_request__descriptor,
         &karst__epoch_end_offset_reply__descriptor},
        {WIRE_REGISTER_BROKER, &karst__register_broker_request__descriptor,
         &karst__register_broker_reply__descriptor},
        {WIRE_HEARTBEAT, &karst__heartbeat_request__descriptor,
         &karst__heartbeat_reply__descriptor},
        {WIRE_ALTER_PARTITION, &karst__alter_partition_request__descriptor,
         &karst__alter_partition_reply__descriptor},
        {WIRE_ALLOCATE_PRODUCER_IDS, &karst__allocate_producer_ids_request__descriptor,
         &karst__allocate_producer_ids_reply__descriptor},
        {WIRE_DESCRIBE_CLUSTER, &karst__describe_cluster_request__descriptor,
         &karst__describe_cluster_reply__descriptor},
        {WIRE_PROBE, &karst__probe_request__descriptor, &karst__probe_reply__descriptor},
        {WIRE_CREATE_TOPICS, &karst__create_topics_request__descriptor,
         &karst__create_topics_reply__descriptor},
        {WIRE_DELETE_TOPICS, &karst__delete_topics_request__descriptor,
         &karst__delete_topics_reply__descriptor},
        {WIRE_ELECT_LEADERS, &karst__elect_leaders_request__descriptor,
         &karst__elect_leaders_reply__descriptor},
        {WIRE_ADD_VOTER, &karst__add_voter_request__descriptor,
         &karst__add_voter_reply__descriptor},
        {WIRE_REMOVE_VOTER, &karst__remove_voter_request__descriptor,
         &karst__remove_voter_reply__descriptor},
        {WIRE_RAFT, &karst__raft_message__descriptor, &karst__raft_ack__descriptor},
        {WIRE_METADATA_FETCH, &karst__metadata_fetch_request__descriptor,
         &karst__metadata_fetch_reply__descriptor},
        {WIRE_DESCRIBE_QUORUM, &karst__describe_quorum_request__descriptor,
         &karst__describe_quorum_reply__descriptor},
    };
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        const struct wire_method *method = wire_method_find((uint16_t)methods[i].id);
        ck_assert_ptr_nonnull(method);
        ck_assert_ptr_eq(method->request, methods[i].request);
        ck_assert_ptr_eq(method->reply, methods[i].reply);
    }
}
END_TEST

START_TEST(unknown_methods_are_not_found)
{
    size_t count, found = 0;
    (void)wire_methods(&count);
    for (unsigned id = 0; id <= UINT16_MAX; id++)
        found += wire_method_find((uint16_t)id) != NULL;
    ck_assert_uint_eq(found, count);
}
END_TEST

START_TEST(a_frame_is_laid_out_as_the_header_says)
{
    static const uint8_t should[] = {
        0,    0,    0,    19,        /* length of what follows */
        2,    1,                     /* a request, version 1 */
        0x01, 0x03,                  /* Data.Metadata */
        0xde, 0xad, 0xbe, 0xef,      /* correlation */
        0,    0,    0,    2,         /* protobuf bytes */
        0x10, 0x01,                  /* field 2, varint, true */
        'a',  't',  't',  'a',  'c', /* attachment */
    };
    Karst__MetadataRequest message = KARST__METADATA_REQUEST__INIT;
    message.has_all_topics = true;
    message.all_topics = true;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST,
        .method = WIRE_METADATA,
        .correlation = 0xdeadbeef,
        .message = &message.base,
        .attachment_bytes = 5,
    });
    ck_assert_uint_eq(frame->used, sizeof(should) - 5);
    ck_assert_uint_ge(frame->capacity, sizeof(should));
    memcpy(frame->bytes + frame->used, "attac", 5);
    frame->used += 5;
    ck_assert_int_eq(memcmp(frame->bytes, should, sizeof(should)), 0);

    struct wire_header header;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_uint_eq(header.length, sizeof(should));
    ck_assert_uint_eq(header.kind, WIRE_REQUEST);
    ck_assert_uint_eq(header.method, WIRE_METADATA);
    ck_assert_uint_eq(header.correlation, 0xdeadbeef);
    ck_assert_uint_eq(wire_message(frame, &header).len, 2);
    struct bytes attachment = wire_attachment(frame, &header);
    ck_assert_uint_eq(attachment.len, 5);
    ck_assert_int_eq(memcmp(attachment.data, "attac", 5), 0);
    frame_unref(frame);
}
END_TEST

START_TEST(an_attachment_that_is_sent_apart_counts_and_has_no_room)
{
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REPLY,
        .method = WIRE_FETCH,
        .attachment_bytes = 1 << 20,
        .attachment_apart = true,
    });
    ck_assert_uint_eq(frame->used, WIRE_HEADER_BYTES);
    ck_assert_uint_eq(get_u32(frame->bytes), WIRE_HEADER_BYTES - 4 + (1 << 20));
    ck_assert_uint_lt(frame->capacity, 1024);
    frame_unref(frame);
}
END_TEST

START_TEST(an_error_frame_carries_code_and_sentence)
{
    struct arena arena;
    struct wire_header header;
    ProtobufCMessage *message;
    arena_init(&arena, 4096);
    struct frame *frame = wire_error_frame(0x7777, 5, ERR_UNSUPPORTED_VERSION, NULL);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_uint_eq(header.kind, WIRE_ERROR);
    ck_assert_uint_eq(header.method, 0x7777);
    ck_assert_uint_eq(header.correlation, 5);
    ck_assert_int_eq(
        wire_unpack(&karst__error__descriptor, wire_message(frame, &header), &arena, &message),
        ERR_OK);
    Karst__Error *error = (Karst__Error *)message;
    ck_assert_int_eq(error->code, ERR_UNSUPPORTED_VERSION);
    ck_assert_str_eq(error->message, err_sentence(ERR_UNSUPPORTED_VERSION));
    frame_unref(frame);
    frame = wire_error_frame(0x7777, 5, ERR_INVALID_REQUEST, "say please");
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    ck_assert_int_eq(
        wire_unpack(&karst__error__descriptor, wire_message(frame, &header), &arena, &message),
        ERR_OK);
    ck_assert_str_eq(((Karst__Error *)message)->message, "say please");
    frame_unref(frame);
    arena_fini(&arena);
}
END_TEST

START_TEST(garbage_headers_are_refused)
{
    static const uint8_t good[] = {0, 0, 0, 14, 2, 1, 1, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0x10, 1};
    uint8_t bad[sizeof(good)];
    struct wire_header header;
    ck_assert_int_eq(decode_bytes(good, sizeof(good), &header), ERR_OK);
    for (size_t len = 0; len < sizeof(good); len++)
        ck_assert_int_eq(decode_bytes(good, len, &header), ERR_INVALID_REQUEST);

    memcpy(bad, good, sizeof(bad));
    bad[15] = 3; /* the message would pass the frame's end */
    ck_assert_int_eq(decode_bytes(bad, sizeof(bad), &header), ERR_INVALID_REQUEST);
    bad[12] = 0xff;
    ck_assert_int_eq(decode_bytes(bad, sizeof(bad), &header), ERR_INVALID_REQUEST);
    memcpy(bad, good, sizeof(bad));
    bad[0] = 0xff; /* a length other than the frame's */
    ck_assert_int_eq(decode_bytes(bad, sizeof(bad), &header), ERR_INVALID_REQUEST);
    for (unsigned kind = 0; kind < 256; kind++) {
        memcpy(bad, good, sizeof(bad));
        bad[4] = (uint8_t)kind;
        ck_assert_int_eq(decode_bytes(bad, sizeof(bad), &header),
                         kind >= WIRE_HELLO && kind <= WIRE_ONEWAY ? ERR_OK : ERR_INVALID_REQUEST);
    }
    memcpy(bad, good, sizeof(bad));
    bad[5] = 2;
    ck_assert_int_eq(decode_bytes(bad, sizeof(bad), &header), ERR_UNSUPPORTED_VERSION);
    ck_assert_uint_eq(header.correlation, 1); /* enough to answer it */
}
END_TEST

START_TEST(a_message_over_its_bound_is_refused)
{
    size_t len = WIRE_HEADER_BYTES + WIRE_MESSAGE_BYTES_MAX + 1;
    struct frame *frame = frame_new(len);
    struct wire_header header;
    memset(frame->bytes, 0, len);
    put_u32(frame->bytes, (uint32_t)len - 4);
    frame->bytes[4] = WIRE_REQUEST;
    frame->bytes[5] = WIRE_VERSION;
    frame->used = (uint32_t)len;
    put_u32(frame->bytes + 12, WIRE_MESSAGE_BYTES_MAX);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    put_u32(frame->bytes + 12, WIRE_MESSAGE_BYTES_MAX + 1);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_INVALID_REQUEST);
    frame_unref(frame);
}
END_TEST

/* 64 Ki empty partitions of a metadata topic are 128 KiB packed, and megabytes unpacked. */
START_TEST(a_message_that_grows_beyond_the_arena_is_refused)
{
    static uint8_t packed[1 << 17];
    struct arena arena;
    ProtobufCMessage *message;
    for (size_t i = 0; i < sizeof(packed); i += 2)
        packed[i] = 0x0a; /* field 1, length-delimited, empty */
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(wire_unpack(&karst__create_topics_request__descriptor,
                                 (struct bytes){packed, sizeof(packed)}, &arena, &message),
                     ERR_INVALID_REQUEST);
    ck_assert_uint_le(arena.taken, arena.bytes_max);
    arena_fini(&arena);
}
END_TEST

START_TEST(missing_required_fields_are_refused)
{
    struct arena arena;
    ProtobufCMessage *message;
    arena_init(&arena, 4096);
    ck_assert_int_eq(wire_unpack(&karst__hello__descriptor, (struct bytes){0}, &arena, &message),
                     ERR_INVALID_REQUEST);
    ck_assert_int_eq(wire_unpack(&karst__init_producer_id_request__descriptor, (struct bytes){0},
                                 &arena, &message),
                     ERR_OK);
    arena_fini(&arena);
}
END_TEST

START_TEST(ids_are_sixteen_bytes)
{
    struct uuid id = uuid_make(1, 2), back;
    ProtobufCBinaryData data = wire_put_uuid(&id);
    ck_assert(wire_get_uuid(&data, &back));
    ck_assert(uuid_equal(&id, &back));
    data.len = 15;
    ck_assert(!wire_get_uuid(&data, &back));
    data.len = 0;
    data.data = NULL;
    ck_assert(!wire_get_uuid(&data, &back));
}
END_TEST

START_TEST(random_bytes_never_crash_a_decoder)
{
    struct rng rng;
    struct arena arena;
    size_t count;
    const struct wire_method *methods = wire_methods(&count);
    rng_seed(&rng, check_main_seed());
    arena_init(&arena, 1 << 20);
    for (int round = 0; round < 50000; round++) {
        uint8_t bytes[128];
        size_t len = rng_below(&rng, sizeof(bytes));
        for (size_t i = 0; i < len; i++) /* small numbers are likelier to be tags and lengths */
            bytes[i] = (uint8_t)(rng_next(&rng) >> (rng_chance(&rng, 500000) ? 0 : 60));
        struct wire_header header;
        (void)decode_bytes(bytes, len, &header);
        const struct wire_method *method = &methods[rng_below(&rng, count)];
        ProtobufCMessage *message;
        arena_reset(&arena);
        if (wire_unpack(method->request, (struct bytes){bytes, len}, &arena, &message) == ERR_OK)
            ck_assert_ptr_eq(message->descriptor, method->request);
    }
    arena_fini(&arena);
}
END_TEST

CHECK_MAIN("wire/wire", method_ids_are_those_of_the_proto,
           the_names_in_the_code_are_the_ids_of_the_proto, unknown_methods_are_not_found,
           a_frame_is_laid_out_as_the_header_says,
           an_attachment_that_is_sent_apart_counts_and_has_no_room,
           an_error_frame_carries_code_and_sentence, garbage_headers_are_refused,
           a_message_over_its_bound_is_refused, a_message_that_grows_beyond_the_arena_is_refused,
           missing_required_fields_are_refused, ids_are_sixteen_bytes,
           random_bytes_never_crash_a_decoder)
