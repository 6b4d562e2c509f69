/* wire.h - what shards, the quorum and clients share of Karst's RPC: the frame, the hello, the
 * method ids, and protobuf messages unpacked into an arena.
 *
 *   0   4  length of what follows (big-endian, as all)
 *   4   1  kind
 *   5   1  version of this header (1)
 *   6   2  method: service number * 256 + index in declaration order
 *   8   4  correlation id, the caller's
 *   12  4  bytes of the protobuf message
 *   16     protobuf message, then the attachment: raw record batches, to the end of the frame
 *
 * One connection carries many requests at a time; replies come in order of completion. The first
 * frame each way is a hello; a server answers nothing else before it. All functions are pure;
 * decoders are total: any bytes in, an error out. */
#ifndef KARST_WIRE_WIRE_H
#define KARST_WIRE_WIRE_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/bytes.h"
#include "base/err.h"
#include "base/frame.h"
#include "base/uuid.h"

enum {
    WIRE_VERSION = 1,
    WIRE_HELLO_MAGIC = 0x4B525354, /* "KRST" */
    WIRE_HEADER_BYTES = 16,
    WIRE_FRAME_BYTES_MIN = WIRE_HEADER_BYTES,
    WIRE_MESSAGE_BYTES_MAX = 16 << 20,  /* of the protobuf part */
    WIRE_UNPACKED_BYTES_MAX = 64 << 20, /* of what it becomes in the arena */
};

enum wire_kind {
    WIRE_HELLO = 1,   /* Hello, both ways */
    WIRE_REQUEST = 2, /* answered by one reply with its correlation id */
    WIRE_REPLY = 3,
    WIRE_ERROR = 4,  /* a reply whose message is Error: the request as a whole failed */
    WIRE_ONEWAY = 5, /* no reply: raft messages, the deltas and slices of a replica stream */
};

struct wire_header {
    uint32_t length; /* of the whole frame, the length word included */
    uint8_t kind;
    uint8_t version;
    uint16_t method;
    uint32_t correlation;
    uint32_t message_bytes;
};

/* frame is one whole frame as the net gives it. ERR_INVALID_REQUEST: lengths or kind are
 * impossible; ERR_UNSUPPORTED_VERSION: the header's version (ret_header is set, for the answer). */
err_t wire_decode_header(const struct frame *frame, struct wire_header *ret_header);
static inline struct bytes wire_message(const struct frame *frame, const struct wire_header *header)
{
    return (struct bytes){frame->bytes + WIRE_HEADER_BYTES, header->message_bytes};
}
static inline struct bytes wire_attachment(const struct frame *frame,
                                           const struct wire_header *header)
{
    return (struct bytes){frame->bytes + WIRE_HEADER_BYTES + header->message_bytes,
                          header->length - WIRE_HEADER_BYTES - header->message_bytes};
}

/* Of a whole frame that is only the caller's. */
static inline void wire_set_correlation(struct frame *frame, uint32_t correlation)
{
    put_u32(frame->bytes + 8, correlation);
}

/* A new frame: header, message, and room for attachment_bytes more, which count in its length; used
 * ends before that room, so that the caller appends into it, or sends the attachment as further
 * parts. message may be NULL (empty). NULL when there is no memory. */
struct wire_frame_args {
    enum wire_kind kind;
    uint16_t method;
    uint32_t correlation;
    const ProtobufCMessage *message;
    size_t attachment_bytes;
    bool attachment_apart; /* the frame's own memory has no room for it: it is sent by itself */
};
struct frame *wire_frame(const struct wire_frame_args *args);
/* A WIRE_ERROR reply; sentence NULL: the table's. */
struct frame *wire_error_frame(uint16_t method, uint32_t correlation, err_t err,
                               const char *sentence);

/* ---- methods ---- */

/* NULL when there is no such method; else the descriptors of its request and reply. */
struct wire_method {
    uint16_t id;
    const char *service, *name; /* "Data", "Produce" */
    const ProtobufCMessageDescriptor *request, *reply;
};
const struct wire_method *wire_method_find(uint16_t id);
/* All of them, in order of ids; for tests, docs and fuzzers. */
const struct wire_method *wire_methods(size_t *ret_count);

/* Service numbers; a method's id is WIRE_METHOD(service, index of the rpc in its service). Held to
 * the .proto by a test. */
enum wire_service {
    WIRE_DATA = 1,
    WIRE_REPLICA = 2,
    WIRE_CLUSTER = 3,
    WIRE_ADMIN = 4,
    WIRE_QUORUM = 5,
};
#define WIRE_METHOD(service, index) ((uint16_t)((service)*256 + (index)))
enum wire_method_id {
    WIRE_PRODUCE = WIRE_METHOD(WIRE_DATA, 0),
    WIRE_FETCH = WIRE_METHOD(WIRE_DATA, 1),
    WIRE_LIST_OFFSETS = WIRE_METHOD(WIRE_DATA, 2),
    WIRE_METADATA = WIRE_METHOD(WIRE_DATA, 3),
    WIRE_INIT_PRODUCER_ID = WIRE_METHOD(WIRE_DATA, 4),
    WIRE_REPLICA_FETCH = WIRE_METHOD(WIRE_REPLICA, 0), /* one-way, up: deltas */
    WIRE_REPLICA_DATA = WIRE_METHOD(WIRE_REPLICA, 1),  /* one-way, down: slices */
    WIRE_EPOCH_END_OFFSET = WIRE_METHOD(WIRE_REPLICA, 2),
    WIRE_REGISTER_BROKER = WIRE_METHOD(WIRE_CLUSTER, 0),
    WIRE_HEARTBEAT = WIRE_METHOD(WIRE_CLUSTER, 1),
    WIRE_ALTER_PARTITION = WIRE_METHOD(WIRE_CLUSTER, 2),
    WIRE_ALLOCATE_PRODUCER_IDS = WIRE_METHOD(WIRE_CLUSTER, 3),
    WIRE_DESCRIBE_CLUSTER = WIRE_METHOD(WIRE_CLUSTER, 4),
    WIRE_PROBE = WIRE_METHOD(WIRE_CLUSTER, 5),
    WIRE_CREATE_TOPICS = WIRE_METHOD(WIRE_ADMIN, 0),
    WIRE_DELETE_TOPICS = WIRE_METHOD(WIRE_ADMIN, 1),
    WIRE_ELECT_LEADERS = WIRE_METHOD(WIRE_ADMIN, 2),
    WIRE_ADD_VOTER = WIRE_METHOD(WIRE_ADMIN, 3),
    WIRE_REMOVE_VOTER = WIRE_METHOD(WIRE_ADMIN, 4),
    WIRE_RAFT = WIRE_METHOD(WIRE_QUORUM, 0),           /* one-way */
    WIRE_METADATA_FETCH = WIRE_METHOD(WIRE_QUORUM, 1), /* an observer's pull */
    WIRE_DESCRIBE_QUORUM = WIRE_METHOD(WIRE_QUORUM, 2),
};

/* ---- protobuf ---- */

/* Into the arena, capped by it and by WIRE_UNPACKED_BYTES_MAX; no free is needed or allowed.
 * ERR_INVALID_REQUEST: malformed. */
err_t wire_unpack(const ProtobufCMessageDescriptor *type, struct bytes packed, struct arena *arena,
                  ProtobufCMessage **ret_message);

/* Ids travel as 16 bytes; false for any other length. put points at the id, which must outlive it.
 */
bool wire_get_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id);
ProtobufCBinaryData wire_put_uuid(const struct uuid *id);

#endif
