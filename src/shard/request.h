/* request.h - the broker's services as typed requests and replies: what the codecs of the listeners
 * fill in and read, and what shards pass to each other.
 *
 * A request belongs to the shard of its connection. Its parts go to the shards that own the
 * partitions (by mail when it is another's: the part is the message) and come back answered; when
 * all are back, the codec writes the reply. While a part is away only its owner touches it. */
#ifndef KARST_SHARD_REQUEST_H
#define KARST_SHARD_REQUEST_H

#include "base/arena.h"
#include "env/message.h"
#include "record/batch.h"
#include "replica/replica.h"

#include <protobuf-c/protobuf-c.h>
#include <stdatomic.h>

enum request_type {
    REQUEST_PRODUCE = 1,
    REQUEST_FETCH,
    REQUEST_LIST_OFFSETS,
    REQUEST_EPOCH_END_OFFSET,
    REQUEST_LOCAL, /* answered by the connection's shard from its image: Metadata, Probe, ... */
    REQUEST_CALL,  /* the controller's or the quorum's: packed, forwarded, answered as it comes */
};

enum { REQUEST_ARENA_BYTES_MAX = 64 << 20, REQUEST_PARTS_MAX = 20000 };

struct request;

/* Head of every part. */
struct part {
    struct env_message message; /* type: shard's; first member */
    struct request *request;
    struct partition_id id;
    leader_epoch_t leader_epoch_asked; /* -1: not said. Newer than the shard's: parks (R30) */
    bool back;                         /* the request's shard's: it has come back answered */
    bool at_owner; /* the owner's shard's: it is here and not yet answered (for SHARD_CANCEL) */
    /* the answer */
    err_t err;
    const char *sentence; /* static; NULL: the table's */
    node_id_t leader;     /* with NOT_LEADER_OR_FOLLOWER (KIP-951), else -1 */
    leader_epoch_t leader_epoch;
    offset_t log_start, high_watermark;
    /* the owner's while it waits there */
    struct list_node waiting;
    struct heap_node due; /* by deadline_ns */
    uint8_t owner_state;  /* partition_internal.h */
    uint64_t deadline_ns;
};

struct produce_part {
    struct part part;
    uint8_t *records; /* in request->frame: whole batches, patched in place by the owner */
    uint32_t bytes;
    int16_t acks;
    offset_t base_offset;         /* answer: of the first batch; -1 */
    struct replica_waiter waiter; /* the owner's: acknowledged when its end is reached */
};

struct fetch_part {
    struct part part;
    offset_t offset;
    uint32_t bytes_max;
    /* Kept by the owner until so much is there, or the deadline: the request's, of the whole. */
    uint32_t bytes_min;
    struct frame *records; /* answer: whole batches, records->used bytes; NULL: none */
    /* The owner's while it waits: what the log held when it last looked, how much more it needs,
     * and whether it saw all of that. */
    uint64_t log_bytes, lacks;
    bool saw_all;
};

struct list_offsets_part {
    struct part part;
    int64_t timestamp; /* ms; -1 latest, -2 earliest */
    offset_t offset;   /* answer */
    int64_t found_timestamp;
};

struct epoch_end_part {
    struct part part;
    leader_epoch_t asked;
    leader_epoch_t epoch; /* answer; -1: undefined */
    offset_t end;
};

/* One request of one connection. parts is an array of one of the above, by type. */
struct request {
    enum request_type type;
    uint16_t method;      /* the codec's */
    uint32_t correlation; /* the codec's */
    env_conn conn;
    struct list_node link; /* of its connection's requests; of the detached, of the free ones */
    unsigned home;         /* the shard of its connection */
    struct frame *frame;   /* the bytes that decoded messages and records point into */
    struct arena arena;    /* all else of it, the request itself excepted */
    const ProtobufCMessage *message; /* decoded; what the codec wants to keep */
    int16_t acks;
    bool silent; /* acks=0: no reply; an error closes the connection */
    uint64_t deadline_ns;
    uint32_t part_count;
    uint32_t away; /* parts, cancels, calls that are not back: until 0 it is not freed */
    void *parts;
    /* Fetch: answered when so much is gathered; at most so much is sent. */
    uint32_t bytes_min, bytes_max;
    uint64_t bytes_gathered;
    atomic_size_t bytes_read; /* by the owners, for all parts: over bytes_max they read no more */
    bool hurried;             /* fetch: enough is there, waiting parts were asked back */
    bool answered;            /* the reply is out, or nobody waits for it */
    bool orphan;              /* its shard was freed: who brings the last part back frees it */
    /* REQUEST_LOCAL, REQUEST_CALL: the answer. */
    ProtobufCMessage *reply;   /* in the arena */
    struct frame *reply_frame; /* REQUEST_CALL: a whole frame, correlation to be patched */
    err_t err;                 /* the request as a whole failed */
    const char *sentence;      /* NULL: the table's */
};

static inline size_t part_bytes(enum request_type type)
{
    switch (type) {
    case REQUEST_PRODUCE:
        return sizeof(struct produce_part);
    case REQUEST_FETCH:
        return sizeof(struct fetch_part);
    case REQUEST_LIST_OFFSETS:
        return sizeof(struct list_offsets_part);
    case REQUEST_EPOCH_END_OFFSET:
        return sizeof(struct epoch_end_part);
    default:
        return 0;
    }
}
static inline struct part *request_part(const struct request *request, uint32_t idx)
{
    return (struct part *)(void *)((char *)request->parts + idx * part_bytes(request->type));
}

#endif
