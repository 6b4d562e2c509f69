/* types.h - the words of the domain that every floor shares, and the limits of names. */
#ifndef KARST_RECORD_TYPES_H
#define KARST_RECORD_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"

typedef int64_t offset_t;       /* a record's place in its partition; ends are exclusive */
typedef int32_t leader_epoch_t; /* grows with each election of a partition; -1: none known */
typedef int32_t node_id_t;      /* a broker; -1: none */
typedef int64_t broker_epoch_t; /* metadata offset of a broker's registration (R2); -1: none */
typedef int64_t producer_id_t;  /* -1: not idempotent */

enum {
    NO_NODE = -1,
    TOPIC_NAME_MAX = 249, /* letters, Kafka's limit */
    REPLICAS_MAX = 16,    /* of one partition */
    TOPIC_PARTITIONS_MAX = 100000,
};

/* A partition's name between brokers, shards and threads: never the topic's name (R30). */
struct partition_id {
    struct uuid topic;
    int32_t index;
};

static inline bool partition_id_equal(const struct partition_id *a, const struct partition_id *b)
{
    return a->index == b->index && uuid_equal(&a->topic, &b->topic);
}
static inline uint64_t partition_id_hash(const struct partition_id *id)
{
    uint64_t h =
        uuid_hash(&id->topic) ^ ((uint64_t)(uint32_t)id->index * UINT64_C(0x9E3779B97F4A7C15));
    h ^= h >> 32;
    return h * UINT64_C(0xD6E8FEB86659FD93);
}
/* The shard of shards that owns the partition (R30). */
static inline unsigned partition_shard(const struct partition_id *id, unsigned shards)
{
    return (unsigned)((partition_id_hash(id) >> 33) % shards);
}

/* 1 to 249 of [a-zA-Z0-9._-], not "." or "..". */
bool topic_name_legal(const char *name);

#endif
