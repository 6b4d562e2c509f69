#include <string.h>

#include "metadata/state.h"

/* Each thing in an image has a hash over all its fields, in a fixed order, with its kind in front;
 * the image's digest is their sum modulo 2^64. An edit subtracts what was and adds what is. It
 * tells replicas that differ (R27), not forgers: the mix is fast, not cryptographic. A new field of
 * a record belongs in the hash only from the feature level on that allows it, or old and new
 * brokers would differ. */
enum digest_kind {
    DIGEST_LEVEL = 1,
    DIGEST_CLUSTER,
    DIGEST_PRODUCER_IDS,
    DIGEST_BROKER,
    DIGEST_VOTERS,
    DIGEST_TOPIC,
    DIGEST_PARTITION,
    DIGEST_TOPIC_CONFIG,
    DIGEST_BROKER_CONFIG,
    DIGEST_PENDING,
};

static void digest_u64(uint64_t *hash, uint64_t v)
{
    __extension__ unsigned __int128 product =
        (unsigned __int128)(*hash ^ v ^ UINT64_C(0xA0761D6478BD642F)) *
        UINT64_C(0xE7037ED1A0B428DB);
    *hash = ((uint64_t)product ^ (uint64_t)(product >> 64)) + UINT64_C(0x9E3779B97F4A7C15);
}

static void digest_int(uint64_t *hash, int64_t v)
{
    digest_u64(hash, (uint64_t)v);
}

static void digest_bytes(uint64_t *hash, const void *data, size_t len)
{
    digest_u64(hash, len);
    const uint8_t *at = data;
    for (; len >= 8; at += 8, len -= 8)
        digest_u64(hash, get_u64(at));
    uint8_t last[8] = {0};
    if (len > 0) {
        memcpy(last, at, len);
        digest_u64(hash, get_u64(last));
    }
}

static void digest_text(uint64_t *hash, const char *text)
{
    digest_bytes(hash, text, strlen(text));
}

static void digest_uuid(uint64_t *hash, const struct uuid *id)
{
    digest_u64(hash, get_u64(id->b));
    digest_u64(hash, get_u64(id->b + 8));
}

static void digest_nodes(uint64_t *hash, const node_id_t *nodes, size_t count)
{
    digest_u64(hash, count);
    for (size_t i = 0; i < count; i++)
        digest_int(hash, nodes[i]);
}

static uint64_t digest_begin(enum digest_kind kind)
{
    uint64_t hash = 0;
    digest_u64(&hash, kind);
    return hash;
}

uint64_t digest_level(uint32_t level)
{
    uint64_t hash = digest_begin(DIGEST_LEVEL);
    digest_u64(&hash, level);
    return hash;
}

uint64_t digest_cluster(const struct uuid *cluster_id, const struct uuid *recovery_id)
{
    uint64_t hash = digest_begin(DIGEST_CLUSTER);
    digest_uuid(&hash, cluster_id);
    digest_uuid(&hash, recovery_id);
    return hash;
}

uint64_t digest_producer_ids(producer_id_t next)
{
    uint64_t hash = digest_begin(DIGEST_PRODUCER_IDS);
    digest_int(&hash, next);
    return hash;
}

uint64_t digest_broker(const struct image_broker *broker)
{
    uint64_t hash = digest_begin(DIGEST_BROKER);
    digest_int(&hash, broker->id);
    digest_uuid(&hash, &broker->incarnation);
    digest_int(&hash, broker->epoch);
    digest_u64(&hash, (uint64_t)broker->state);
    digest_u64(&hash, broker->listener_count);
    for (uint32_t i = 0; i < broker->listener_count; i++) {
        digest_text(&hash, broker->listeners[i].name);
        digest_text(&hash, broker->listeners[i].host);
        digest_u64(&hash, broker->listeners[i].port);
    }
    digest_u64(&hash, broker->directory_count);
    for (uint32_t i = 0; i < broker->directory_count; i++)
        digest_uuid(&hash, &broker->directories[i]);
    digest_u64(&hash, broker->failed_count);
    for (uint32_t i = 0; i < broker->failed_count; i++)
        digest_uuid(&hash, &broker->failed[i]);
    digest_u64(&hash, broker->rack != NULL);
    if (broker->rack != NULL)
        digest_text(&hash, broker->rack);
    digest_u64(&hash, broker->clean_start);
    digest_uuid(&hash, &broker->boot_id);
    digest_u64(&hash, broker->feature_min);
    digest_u64(&hash, broker->feature_max);
    return hash;
}

uint64_t digest_voters(const Karst__VotersRecord *voters)
{
    if (voters == NULL)
        return 0;
    uint64_t hash = digest_begin(DIGEST_VOTERS);
    for (size_t i = 0; i < voters->n_voters; i++) {
        digest_int(&hash, voters->voters[i]->node_id);
        digest_text(&hash, voters->voters[i]->host);
        digest_u64(&hash, voters->voters[i]->port);
    }
    return hash;
}

uint64_t digest_topic(const struct topic_identity *topic)
{
    uint64_t hash = digest_begin(DIGEST_TOPIC);
    digest_uuid(&hash, &topic->id);
    digest_uuid(&hash, &topic->request_id);
    digest_text(&hash, topic->name);
    return hash;
}

uint64_t digest_partition(const struct uuid *topic, int32_t index, const struct image_partition *p)
{
    uint64_t hash = digest_begin(DIGEST_PARTITION);
    digest_uuid(&hash, topic);
    digest_int(&hash, index);
    digest_nodes(&hash, p->replicas, p->replica_count);
    for (size_t i = 0; i < p->replica_count; i++)
        digest_uuid(&hash, &p->directories[i]);
    digest_nodes(&hash, p->isr, p->isr_count);
    digest_nodes(&hash, p->elr, p->elr_count);
    digest_u64(&hash, p->recovery_state);
    digest_int(&hash, p->leader);
    digest_int(&hash, p->leader_epoch);
    digest_int(&hash, p->partition_epoch);
    digest_int(&hash, p->last_unclean_leader_epoch);
    return hash;
}

uint64_t digest_topic_config(const struct uuid *topic, const char *key, const char *value)
{
    uint64_t hash = digest_begin(DIGEST_TOPIC_CONFIG);
    digest_uuid(&hash, topic);
    digest_text(&hash, key);
    digest_text(&hash, value);
    return hash;
}

uint64_t digest_broker_config(node_id_t node, const char *key, const char *value)
{
    uint64_t hash = digest_begin(DIGEST_BROKER_CONFIG);
    digest_int(&hash, node);
    digest_text(&hash, key);
    digest_text(&hash, value);
    return hash;
}

uint64_t digest_pending_begin(void)
{
    return digest_begin(DIGEST_PENDING);
}

uint64_t digest_pending(uint64_t hash, const Karst__MetadataRecord *record)
{
    digest_u64(&hash, record->type);
    digest_u64(&hash, record->version);
    digest_bytes(&hash, record->payload.data, record->payload.len);
    return hash;
}
