/* state.h - what an image is made of. Private to this folder.
 *
 * image ─┬─ by_id    ──▶ topic ─┬─▶ identity    (id, name: shared by all versions of the topic)
 *        ├─ by_name  ──▶ identity ├─▶ partitions (one array)
 *        ├─ by_order ──▶ identity └─▶ configs
 *        ├─ brokers ──▶ broker…     broker_configs, voters, pending
 *
 * Every arrow is a counted reference. An edit works on an image that it alone holds, and copies a
 * part on the way before it changes it, unless that part too is its alone: a topic with 10,000
 * partitions is copied once for each edit, not for each record. */
#ifndef KARST_METADATA_STATE_H
#define KARST_METADATA_STATE_H

#include "metadata/image.h"
#include "metadata/record.h"
#include "metadata/shared.h"
#include "metadata/trie.h"

struct topic_identity {
    struct shared shared;
    struct uuid id, request_id;
    uint64_t order; /* of creation, in this image */
    char name[];
};

struct partition_set {
    struct shared shared;
    int32_t count, capacity;
    struct image_partition at[];
};

struct config_set {
    struct shared shared;
    uint32_t count;
    struct image_config at[]; /* sorted by key; the strings follow */
};

struct topic {
    struct shared shared;
    struct image_topic pub; /* points into the parts below */
    struct topic_identity *identity;
    struct partition_set *partitions;
    struct config_set *configs; /* NULL: none */
};

struct broker {
    struct shared shared;
    struct image_broker pub; /* the strings follow */
};

struct broker_set {
    struct shared shared;
    size_t count;
    struct broker *at[]; /* sorted by id */
};

struct node_configs {
    node_id_t node; /* -1: all brokers */
    struct config_set *configs;
};

struct broker_configs {
    struct shared shared;
    size_t count;
    struct node_configs at[]; /* sorted by node */
};

struct voter_set {
    struct shared shared;
    Karst__VotersRecord *record;
};

/* Records of an open transaction (R23). */
struct pending {
    struct shared shared;
    struct record_list records; /* without its Begin */
    uint64_t hash;
};

struct image {
    struct shared shared;
    int64_t offset;
    struct uuid cluster_id, recovery_id;
    uint32_t feature_level; /* 0: not said yet */
    producer_id_t next_producer_id;
    uint64_t digest;
    uint64_t next_order;
    size_t topic_count, partition_count;
    struct trie_node *by_id, *by_name, *by_order;
    struct broker_set *brokers; /* NULL: none, as the three below */
    struct broker_configs *broker_configs;
    struct voter_set *voters;
    struct pending *pending;
};

/* ---- parts.c ---- */

/* A private copy: all parts are shared with the original. */
struct image *image_copy(struct image *image);

bool topic_match_id(const struct shared *topic, const void *id);
bool identity_match_name(const struct shared *identity, const void *name);
bool identity_match_order(const struct shared *identity, const void *order);
/* Key of by_name: names that differ in '.' and '_' only have the same. */
uint64_t topic_name_key(const char *name);
/* Both names are the same when '.' and '_' are taken for one. */
bool topic_names_collide(const char *a, const char *b);

struct topic *image_find_topic(const struct image *image, const struct uuid *id);
/* For change: the topic itself is the image's alone, its parts may be shared. NULL: absent. */
struct topic *image_own_topic(struct image *image, const struct uuid *id);
/* For change: the partitions too, with room for more. topic is the image's alone. */
struct partition_set *topic_own_partitions(struct topic *topic, int32_t more);
void topic_set_configs(struct topic *topic, struct config_set *configs); /* takes the reference */
void image_add_topic(struct image *image, const struct uuid *id, const struct uuid *request_id,
                     const char *name);
void image_remove_topic(struct image *image, const struct uuid *id);

/* The set with key set to value, or without it (value NULL); NULL when that is empty. */
struct config_set *config_set_with(const struct config_set *set, const char *key,
                                   const char *value);
const char *config_set_get(const struct config_set *set, const char *key);

struct broker *broker_new(const struct image_broker *from);
struct broker *image_find_broker(const struct image *image, node_id_t id);
void image_put_broker(struct image *image, struct broker *broker); /* takes the reference */
struct config_set *image_find_node_configs(const struct image *image, node_id_t node);
void image_put_node_configs(struct image *image, node_id_t node, struct config_set *configs);
void image_set_voters(struct image *image, Karst__VotersRecord *record); /* takes it */
void image_set_pending(struct image *image, struct pending *pending);    /* takes the reference */
struct pending *image_own_pending(struct image *image); /* begins one where there is none */

/* ---- digest.c: the image's digest is the sum of these over all that it holds ---- */

uint64_t digest_level(uint32_t level);
uint64_t digest_cluster(const struct uuid *cluster_id, const struct uuid *recovery_id);
uint64_t digest_producer_ids(producer_id_t next);
uint64_t digest_broker(const struct image_broker *broker);
uint64_t digest_voters(const Karst__VotersRecord *voters); /* NULL: 0 */
uint64_t digest_topic(const struct topic_identity *topic);
uint64_t digest_partition(const struct uuid *topic, int32_t index, const struct image_partition *p);
uint64_t digest_topic_config(const struct uuid *topic, const char *key, const char *value);
uint64_t digest_broker_config(node_id_t node, const char *key, const char *value);
uint64_t digest_pending_begin(void);
/* The pending transaction's after one more record; hash: of those before. */
uint64_t digest_pending(uint64_t hash, const Karst__MetadataRecord *record);

/* ---- difference.c: notes what an edit touches ---- */

struct tracker;
struct tracker *tracker_new(void);
void tracker_free(struct tracker *tracker); /* accepts NULL, as those below */
void tracker_partition(struct tracker *tracker, const struct uuid *topic, int32_t index);
void tracker_topic(struct tracker *tracker, const struct uuid *topic);
void tracker_broker(struct tracker *tracker, node_id_t node);
void tracker_voters(struct tracker *tracker);
/* What of it differs between the two. */
struct image_difference *tracker_difference(const struct tracker *tracker,
                                            const struct image *before, const struct image *after);

/* ---- apply.c, apply_partition.c ---- */

struct apply {
    struct image *image; /* the edit's own */
    struct tracker *tracker;
};
/* One record that is no matter of transactions. The image is unchanged on failure. */
err_t apply_record(struct apply *apply, uint32_t type, const ProtobufCMessage *payload);
err_t apply_partition(struct apply *apply, const Karst__PartitionRecord *record);
err_t apply_partition_change(struct apply *apply, const Karst__PartitionChangeRecord *record);
bool apply_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id); /* false: not 16 bytes */

#endif
