#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/canary.h"
#include "metadata/state.h"

/* Each function checks all of its record first and changes the image last, so that a record that
 * can't be applied leaves no trace. The checks are the same on the controller, before it proposes
 * (R3), and on every broker, which stops at a record that fails them. */

enum {
    LISTENER_NAME_MAX = 64,
    LISTENER_HOST_MAX = 255,
    RACK_MAX = 255,
    CONFIG_KEY_MAX = 255,
    CONFIG_VALUE_MAX = 32 << 10,
    VOTERS_MAX = 16,
};

bool apply_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id)
{
    if (bytes->len != sizeof(ret_id->b))
        return false;
    memcpy(ret_id->b, bytes->data, sizeof(ret_id->b));
    return true;
}

static bool text_between(const char *text, size_t min, size_t max)
{
    size_t len = strlen(text);
    return len >= min && len <= max;
}

static err_t apply_feature_level(struct apply *apply, const Karst__FeatureLevelRecord *record)
{
    struct image *image = apply->image;
    if (record->level < 1 || record->level > IMAGE_FEATURE_LEVEL)
        return ERR_UNSUPPORTED_VERSION;
    if (record->level < image->feature_level) /* what newer records said can't be unsaid */
        return ERR_INVALID_REQUEST;
    if (image->feature_level != 0)
        image->digest -= digest_level(image->feature_level);
    image->feature_level = record->level;
    image->digest += digest_level(image->feature_level);
    return ERR_OK;
}

static err_t apply_cluster(struct apply *apply, const Karst__ClusterRecord *record)
{
    struct image *image = apply->image;
    struct uuid cluster, recovery;
    if (!apply_uuid(&record->cluster_id, &cluster) ||
        !apply_uuid(&record->quorum_recovery_id, &recovery) || uuid_is_zero(&cluster))
        return ERR_INVALID_REQUEST;
    bool known = !uuid_is_zero(&image->cluster_id);
    if (known && !uuid_equal(&cluster, &image->cluster_id))
        return ERR_INCONSISTENT_CLUSTER_ID;
    if (known)
        image->digest -= digest_cluster(&image->cluster_id, &image->recovery_id);
    image->cluster_id = cluster;
    image->recovery_id = recovery;
    image->digest += digest_cluster(&cluster, &recovery);
    return ERR_OK;
}

/* ---- brokers ---- */

static bool apply_listeners(const Karst__RegisterBrokerRecord *record, struct image_broker *into)
{
    if (record->n_listeners < 1 || record->n_listeners > LISTENERS_MAX)
        return false;
    for (size_t i = 0; i < record->n_listeners; i++) {
        const Karst__Listener *listener = record->listeners[i];
        if (!text_between(listener->name, 1, LISTENER_NAME_MAX) ||
            !text_between(listener->host, 1, LISTENER_HOST_MAX) || listener->port < 1 ||
            listener->port > UINT16_MAX)
            return false;
        into->listeners[i] =
            (struct image_listener){listener->name, listener->host, (uint16_t)listener->port};
    }
    into->listener_count = (uint32_t)record->n_listeners;
    return true;
}

static bool directories_take(const ProtobufCBinaryData *from, size_t count, struct uuid *into,
                             uint32_t *ret_count)
{
    if (count > DIRECTORIES_MAX)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!apply_uuid(&from[i], &into[i]) || uuid_is_zero(&into[i]))
            return false;
    *ret_count = (uint32_t)count;
    return true;
}

static bool apply_directories(const Karst__RegisterBrokerRecord *record, struct image_broker *into)
{
    return directories_take(record->online_directories, record->n_online_directories,
                            into->directories, &into->directory_count) &&
           directories_take(record->failed_directories, record->n_failed_directories, into->failed,
                            &into->failed_count);
}

static bool directory_among(const struct uuid *directories, uint32_t count, const struct uuid *id)
{
    for (uint32_t i = 0; i < count; i++)
        if (uuid_equal(&directories[i], id))
            return true;
    return false;
}

/* R14: from the online ones to the failed ones, until the next registration. False: malformed, or
 * too many. */
static bool directories_fail(const Karst__BrokerChangeRecord *record, struct image_broker *broker)
{
    struct uuid failed[DIRECTORIES_MAX];
    uint32_t count, kept = 0;
    if (!directories_take(record->failed_directories, record->n_failed_directories, failed, &count))
        return false;
    for (uint32_t i = 0; i < broker->directory_count; i++)
        if (!directory_among(failed, count, &broker->directories[i]))
            broker->directories[kept++] = broker->directories[i];
    memset(&broker->directories[kept], 0,
           (broker->directory_count - kept) * sizeof(broker->directories[0]));
    broker->directory_count = kept;
    for (uint32_t i = 0; i < count; i++) {
        if (directory_among(broker->failed, broker->failed_count, &failed[i]))
            continue;
        if (broker->failed_count == DIRECTORIES_MAX)
            return false;
        broker->failed[broker->failed_count++] = failed[i];
    }
    return true;
}

static void put_broker(struct apply *apply, const struct image_broker *from)
{
    struct image *image = apply->image;
    const struct image_broker *before = image_broker(image, from->id);
    if (before != NULL)
        image->digest -= digest_broker(before);
    struct broker *broker = broker_new(from);
    image->digest += digest_broker(&broker->pub);
    image_put_broker(image, broker);
    tracker_broker(apply->tracker, broker->pub.id);
}

/* R2: a new incarnation is a new broker under the old id: fenced, with a higher epoch. What the old
 * one led ends by partition changes that the controller brackets with this record. */
static err_t apply_register_broker(struct apply *apply, const Karst__RegisterBrokerRecord *record)
{
    struct image_broker broker = {
        .id = record->node_id,
        .epoch = record->broker_epoch,
        .state = BROKER_STATE_FENCED,
        .rack = record->rack,
        .clean_start = record->clean_start,
        .feature_min = record->feature_min,
        .feature_max = record->feature_max,
    };
    if (broker.id < 0 || broker.epoch < 0 ||
        !apply_uuid(&record->incarnation, &broker.incarnation) ||
        uuid_is_zero(&broker.incarnation) || !apply_uuid(&record->boot_id, &broker.boot_id) ||
        !apply_listeners(record, &broker) || !apply_directories(record, &broker) ||
        (broker.rack != NULL && !text_between(broker.rack, 1, RACK_MAX)))
        return ERR_INVALID_REQUEST;
    if (broker.feature_min > apply->image->feature_level ||
        broker.feature_max < apply->image->feature_level)
        return ERR_UNSUPPORTED_VERSION;
    const struct image_broker *before = image_broker(apply->image, broker.id);
    if (before != NULL && broker.epoch <= before->epoch)
        return ERR_STALE_BROKER_EPOCH;
    if (before != NULL && uuid_equal(&before->incarnation, &broker.incarnation))
        return ERR_DUPLICATE_BROKER_REGISTRATION;
    put_broker(apply, &broker);
    return ERR_OK;
}

static err_t apply_broker_change(struct apply *apply, const Karst__BrokerChangeRecord *record)
{
    const struct image_broker *before = image_broker(apply->image, record->node_id);
    if (before == NULL)
        return ERR_BROKER_ID_NOT_REGISTERED;
    if (before->epoch != record->broker_epoch)
        return ERR_STALE_BROKER_EPOCH;
    if (record->state < KARST__BROKER_STATE__BROKER_FENCED ||
        record->state > KARST__BROKER_STATE__BROKER_DRAINING)
        return ERR_UNSUPPORTED_VERSION;
    struct image_broker broker = *before;
    broker.state = (enum broker_state)record->state;
    if (!directories_fail(record, &broker))
        return ERR_INVALID_REQUEST;
    put_broker(apply, &broker);
    return ERR_OK;
}

static_assert((int)BROKER_STATE_FENCED == (int)KARST__BROKER_STATE__BROKER_FENCED &&
                  (int)BROKER_STATE_ACTIVE == (int)KARST__BROKER_STATE__BROKER_ACTIVE &&
                  (int)BROKER_STATE_LEAVING == (int)KARST__BROKER_STATE__BROKER_LEAVING &&
                  (int)BROKER_STATE_DRAINING == (int)KARST__BROKER_STATE__BROKER_DRAINING,
              "the image's states are the record's");

/* ---- topics ---- */

static err_t apply_topic(struct apply *apply, const Karst__TopicRecord *record)
{
    struct image *image = apply->image;
    struct uuid id, request_id;
    if (!apply_uuid(&record->topic_id, &id) || !apply_uuid(&record->request_id, &request_id) ||
        uuid_is_zero(&id))
        return ERR_INVALID_REQUEST;
    if (!topic_name_legal(record->name))
        return ERR_INVALID_TOPIC_EXCEPTION;
    if ((image_topic(image, &id) != NULL && !CANARY("metadata_adds_a_topic_twice")) ||
        image_topic_by_name(image, record->name) != NULL)
        return ERR_TOPIC_ALREADY_EXISTS;
    image_add_topic(image, &id, &request_id, record->name);
    image->digest += digest_topic(image_find_topic(image, &id)->identity);
    tracker_topic(apply->tracker, &id);
    return ERR_OK;
}

static err_t apply_delete_topic(struct apply *apply, const Karst__DeleteTopicRecord *record)
{
    struct image *image = apply->image;
    struct uuid id;
    if (!apply_uuid(&record->topic_id, &id))
        return ERR_INVALID_REQUEST;
    const struct topic *topic = image_find_topic(image, &id);
    if (topic == NULL)
        return ERR_UNKNOWN_TOPIC_ID;
    image->digest -= digest_topic(topic->identity);
    for (uint32_t i = 0; i < topic->pub.config_count; i++)
        image->digest -=
            digest_topic_config(&id, topic->pub.configs[i].key, topic->pub.configs[i].value);
    for (int32_t i = 0; i < topic->pub.partition_count; i++) {
        image->digest -= digest_partition(&id, i, &topic->pub.partitions[i]);
        tracker_partition(apply->tracker, &id, i);
    }
    tracker_topic(apply->tracker, &id);
    image_remove_topic(image, &id);
    return ERR_OK;
}

/* ---- configs ---- */

static err_t apply_topic_config(struct apply *apply, const Karst__ConfigRecord *record)
{
    struct image *image = apply->image;
    struct uuid id;
    if (!apply_uuid(&record->topic_id, &id) || record->node_id != NO_NODE)
        return ERR_INVALID_REQUEST;
    struct topic *topic = image_own_topic(image, &id);
    if (topic == NULL)
        return ERR_UNKNOWN_TOPIC_ID;
    const char *before = config_set_get(topic->configs, record->key);
    if (before != NULL)
        image->digest -= digest_topic_config(&id, record->key, before);
    if (record->value != NULL)
        image->digest += digest_topic_config(&id, record->key, record->value);
    topic_set_configs(topic, config_set_with(topic->configs, record->key, record->value));
    tracker_topic(apply->tracker, &id);
    return ERR_OK;
}

static err_t apply_broker_config(struct apply *apply, const Karst__ConfigRecord *record)
{
    struct image *image = apply->image;
    if (record->topic_id.len != 0 || record->node_id < NO_NODE)
        return ERR_INVALID_REQUEST;
    const struct config_set *set = image_find_node_configs(image, record->node_id);
    const char *before = config_set_get(set, record->key);
    if (before != NULL)
        image->digest -= digest_broker_config(record->node_id, record->key, before);
    if (record->value != NULL)
        image->digest += digest_broker_config(record->node_id, record->key, record->value);
    image_put_node_configs(image, record->node_id,
                           config_set_with(set, record->key, record->value));
    if (record->node_id >= 0)
        tracker_broker(apply->tracker, record->node_id);
    return ERR_OK;
}

static err_t apply_config(struct apply *apply, const Karst__ConfigRecord *record)
{
    if (!text_between(record->key, 1, CONFIG_KEY_MAX) ||
        (record->value != NULL && !text_between(record->value, 0, CONFIG_VALUE_MAX)))
        return ERR_INVALID_REQUEST;
    if (record->resource == KARST__CONFIG_RESOURCE__CONFIG_TOPIC)
        return apply_topic_config(apply, record);
    if (record->resource == KARST__CONFIG_RESOURCE__CONFIG_BROKER)
        return apply_broker_config(apply, record);
    return ERR_UNSUPPORTED_VERSION;
}

/* ---- the rest ---- */

static err_t apply_producer_ids(struct apply *apply, const Karst__ProducerIdsRecord *record)
{
    struct image *image = apply->image;
    if (record->next_producer_id <= image->next_producer_id) /* an id is given once */
        return ERR_INVALID_REQUEST;
    if (record->node_id != NO_NODE) { /* -1: a snapshot's, which keeps only where the blocks end */
        const struct image_broker *broker = image_broker(image, record->node_id);
        if (broker == NULL)
            return ERR_BROKER_ID_NOT_REGISTERED;
        if (broker->epoch != record->broker_epoch)
            return ERR_STALE_BROKER_EPOCH;
    }
    if (image->next_producer_id != 0)
        image->digest -= digest_producer_ids(image->next_producer_id);
    image->next_producer_id = record->next_producer_id;
    image->digest += digest_producer_ids(image->next_producer_id);
    return ERR_OK;
}

/* The image keeps the record itself, out of the edit's scratch memory. */
static Karst__VotersRecord *voters_copy(const Karst__VotersRecord *record)
{
    size_t size = karst__voters_record__get_packed_size(record);
    uint8_t *packed = metadata_alloc(size + 1);
    karst__voters_record__pack(record, packed);
    Karst__VotersRecord *copy = karst__voters_record__unpack(NULL, size, packed);
    ASSERT(copy != NULL);
    free(packed);
    return copy;
}

static err_t apply_voters(struct apply *apply, const Karst__VotersRecord *record)
{
    struct image *image = apply->image;
    if (record->n_voters < 1 || record->n_voters > VOTERS_MAX)
        return ERR_INVALID_REQUEST;
    for (size_t i = 0; i < record->n_voters; i++) {
        const Karst__Voter *voter = record->voters[i];
        if (voter->node_id < 0 || voter->port < 1 || voter->port > UINT16_MAX ||
            !text_between(voter->host, 1, LISTENER_HOST_MAX))
            return ERR_INVALID_REQUEST;
        for (size_t k = 0; k < i; k++)
            if (record->voters[k]->node_id == voter->node_id)
                return ERR_INVALID_REQUEST;
    }
    image->digest -= digest_voters(image->voters == NULL ? NULL : image->voters->record);
    image_set_voters(image, voters_copy(record));
    image->digest += digest_voters(image->voters->record);
    tracker_voters(apply->tracker);
    return ERR_OK;
}

/* R27: replicas that applied the same records are the same, or stop. */
static err_t apply_digest(struct apply *apply, const Karst__DigestRecord *record)
{
    bool same = record->digest == apply->image->digest || CANARY("metadata_any_digest");
    return same ? ERR_OK : ERR_CORRUPT;
}

/* The record's own type, which the descriptor of its type promises. */
#define AS(type, message) ((const type *)(const void *)(message))

err_t apply_record(struct apply *apply, uint32_t type, const ProtobufCMessage *payload)
{
    /* R27: what rules the reading of all others comes first. */
    bool founding = type == KARST__RECORD_TYPE__RECORD_FEATURE_LEVEL ||
                    type == KARST__RECORD_TYPE__RECORD_CLUSTER;
    if (!founding && (apply->image->feature_level == 0 || uuid_is_zero(&apply->image->cluster_id)))
        return ERR_INVALID_REQUEST;
    switch (type) {
    case KARST__RECORD_TYPE__RECORD_FEATURE_LEVEL:
        return apply_feature_level(apply, AS(Karst__FeatureLevelRecord, payload));
    case KARST__RECORD_TYPE__RECORD_CLUSTER:
        return apply_cluster(apply, AS(Karst__ClusterRecord, payload));
    case KARST__RECORD_TYPE__RECORD_REGISTER_BROKER:
        return apply_register_broker(apply, AS(Karst__RegisterBrokerRecord, payload));
    case KARST__RECORD_TYPE__RECORD_BROKER_CHANGE:
        return apply_broker_change(apply, AS(Karst__BrokerChangeRecord, payload));
    case KARST__RECORD_TYPE__RECORD_TOPIC:
        return apply_topic(apply, AS(Karst__TopicRecord, payload));
    case KARST__RECORD_TYPE__RECORD_DELETE_TOPIC:
        return apply_delete_topic(apply, AS(Karst__DeleteTopicRecord, payload));
    case KARST__RECORD_TYPE__RECORD_PARTITION:
        return apply_partition(apply, AS(Karst__PartitionRecord, payload));
    case KARST__RECORD_TYPE__RECORD_PARTITION_CHANGE:
        return apply_partition_change(apply, AS(Karst__PartitionChangeRecord, payload));
    case KARST__RECORD_TYPE__RECORD_CONFIG:
        return apply_config(apply, AS(Karst__ConfigRecord, payload));
    case KARST__RECORD_TYPE__RECORD_PRODUCER_IDS:
        return apply_producer_ids(apply, AS(Karst__ProducerIdsRecord, payload));
    case KARST__RECORD_TYPE__RECORD_VOTERS:
        return apply_voters(apply, AS(Karst__VotersRecord, payload));
    case KARST__RECORD_TYPE__RECORD_DIGEST:
        return apply_digest(apply, AS(Karst__DigestRecord, payload));
    default:
        return ERR_UNSUPPORTED_VERSION;
    }
}
