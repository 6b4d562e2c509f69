#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/crc32c.h"
#include "metadata/state.h"

/* A snapshot (all integers big-endian):
 *
 *   0   4  magic "KSNP"
 *   4   4  version of this layout (1)
 *   8   8  offset of the last entry applied
 *   16  8  digest of the image
 *   24  8  length of the records
 *   32     records: a MetadataEntry, which is length-prefixed MetadataRecords; feature level and
 *          cluster first (R27), an open transaction last
 *   end-4  CRC32C of all before
 *
 * Topics come in order of creation, so that a restored image walks and encodes as the first did. */
enum {
    SNAPSHOT_MAGIC = 0x4B534E50,
    SNAPSHOT_VERSION = 1,
    SNAPSHOT_HEADER_BYTES = 32,
    SNAPSHOT_CRC_BYTES = 4,
};

static ProtobufCBinaryData snapshot_uuid(const struct uuid *id)
{
    return (ProtobufCBinaryData){sizeof(id->b), (uint8_t *)(uintptr_t)id->b};
}

static void snapshot_brokers(const struct image *image, struct record_list *records)
{
    for (size_t i = 0; i < image_broker_count(image); i++) {
        const struct image_broker *broker = image_broker_at(image, i);
        Karst__RegisterBrokerRecord record = KARST__REGISTER_BROKER_RECORD__INIT;
        Karst__Listener listeners[LISTENERS_MAX], *listener_rows[LISTENERS_MAX];
        ProtobufCBinaryData directories[DIRECTORIES_MAX], failed[DIRECTORIES_MAX];
        for (uint32_t k = 0; k < broker->listener_count; k++) {
            karst__listener__init(&listeners[k]);
            listeners[k].name = broker->listeners[k].name;
            listeners[k].host = broker->listeners[k].host;
            listeners[k].port = broker->listeners[k].port;
            listener_rows[k] = &listeners[k];
        }
        for (uint32_t k = 0; k < broker->directory_count; k++)
            directories[k] = snapshot_uuid(&broker->directories[k]);
        record.node_id = broker->id;
        record.incarnation = snapshot_uuid(&broker->incarnation);
        record.n_listeners = broker->listener_count;
        record.listeners = listener_rows;
        record.rack = broker->rack;
        record.n_online_directories = broker->directory_count;
        record.online_directories = directories;
        for (uint32_t k = 0; k < broker->failed_count; k++)
            failed[k] = snapshot_uuid(&broker->failed[k]);
        record.n_failed_directories = broker->failed_count;
        record.failed_directories = failed;
        record.clean_start = broker->clean_start;
        record.boot_id = snapshot_uuid(&broker->boot_id);
        record.has_feature_min = record.has_feature_max = true;
        record.feature_min = broker->feature_min;
        record.feature_max = broker->feature_max;
        record.broker_epoch = broker->epoch;
        record_list_add(records, &record.base);
        if (broker->state == BROKER_STATE_FENCED) /* as it registers */
            continue;
        Karst__BrokerChangeRecord change = KARST__BROKER_CHANGE_RECORD__INIT;
        change.node_id = broker->id;
        change.broker_epoch = broker->epoch;
        change.state = (Karst__BrokerState)broker->state;
        record_list_add(records, &change.base);
    }
}

static void snapshot_broker_configs(const struct image *image, struct record_list *records)
{
    for (size_t i = 0; image->broker_configs != NULL && i < image->broker_configs->count; i++) {
        const struct node_configs *row = &image->broker_configs->at[i];
        for (uint32_t k = 0; k < row->configs->count; k++) {
            Karst__ConfigRecord record = KARST__CONFIG_RECORD__INIT;
            record.resource = KARST__CONFIG_RESOURCE__CONFIG_BROKER;
            record.node_id = row->node;
            record.key = row->configs->at[k].key;
            record.value = row->configs->at[k].value;
            record_list_add(records, &record.base);
        }
    }
}

static void snapshot_partition(const struct uuid *topic, int32_t index,
                               const struct image_partition *p, struct record_list *records)
{
    /* The message's lists are not const, but packing only reads them. */
    struct image_partition copy = *p;
    ProtobufCBinaryData directories[REPLICAS_MAX];
    Karst__PartitionRecord record = KARST__PARTITION_RECORD__INIT;
    record.topic_id = snapshot_uuid(topic);
    record.index = index;
    record.n_replicas = copy.replica_count;
    record.replicas = copy.replicas;
    bool directories_said = false;
    for (size_t i = 0; i < copy.replica_count; i++) {
        directories[i] = snapshot_uuid(&copy.directories[i]);
        directories_said = directories_said || !uuid_is_zero(&copy.directories[i]);
    }
    record.n_directories = directories_said ? copy.replica_count : 0;
    record.directories = directories;
    record.n_isr = copy.isr_count;
    record.isr = copy.isr;
    record.n_elr = copy.elr_count;
    record.elr = copy.elr;
    record.leader = copy.leader;
    record.leader_epoch = copy.leader_epoch;
    record.partition_epoch = copy.partition_epoch;
    record.has_recovery_state = copy.recovery_state != 0;
    record.recovery_state = copy.recovery_state;
    record.has_last_unclean_leader_epoch = copy.last_unclean_leader_epoch != -1;
    record.last_unclean_leader_epoch = copy.last_unclean_leader_epoch;
    record_list_add(records, &record.base);
}

static void snapshot_topic(void *context, const struct image_topic *topic)
{
    struct record_list *records = context;
    Karst__TopicRecord record = KARST__TOPIC_RECORD__INIT;
    record.topic_id = snapshot_uuid(&topic->id);
    record.name = topic->name;
    record.request_id = snapshot_uuid(&topic->request_id);
    record_list_add(records, &record.base);
    for (uint32_t i = 0; i < topic->config_count; i++) {
        Karst__ConfigRecord config = KARST__CONFIG_RECORD__INIT;
        config.resource = KARST__CONFIG_RESOURCE__CONFIG_TOPIC;
        config.topic_id = snapshot_uuid(&topic->id);
        config.node_id = NO_NODE;
        config.key = topic->configs[i].key;
        config.value = topic->configs[i].value;
        record_list_add(records, &config.base);
    }
    for (int32_t i = 0; i < topic->partition_count; i++)
        snapshot_partition(&topic->id, i, &topic->partitions[i], records);
}

static void snapshot_records(const struct image *image, struct record_list *records)
{
    if (image->feature_level != 0) {
        Karst__FeatureLevelRecord level = KARST__FEATURE_LEVEL_RECORD__INIT;
        level.level = image->feature_level;
        record_list_add(records, &level.base);
    }
    if (!uuid_is_zero(&image->cluster_id)) {
        Karst__ClusterRecord cluster = KARST__CLUSTER_RECORD__INIT;
        cluster.cluster_id = snapshot_uuid(&image->cluster_id);
        cluster.quorum_recovery_id = snapshot_uuid(&image->recovery_id);
        record_list_add(records, &cluster.base);
    }
    if (image->voters != NULL)
        record_list_add(records, &image->voters->record->base);
    if (image->next_producer_id != 0) {
        Karst__ProducerIdsRecord ids = KARST__PRODUCER_IDS_RECORD__INIT;
        ids.node_id = NO_NODE;
        ids.broker_epoch = -1;
        ids.next_producer_id = image->next_producer_id;
        record_list_add(records, &ids.base);
    }
    snapshot_brokers(image, records);
    snapshot_broker_configs(image, records);
    image_each_topic(image, snapshot_topic, records);
    if (image->pending != NULL) {
        Karst__BeginTransactionRecord begin = KARST__BEGIN_TRANSACTION_RECORD__INIT;
        record_list_add(records, &begin.base);
        record_list_append(records, &image->pending->records);
    }
}

err_t image_encode_snapshot(struct image *image, uint8_t **ret_data, size_t *ret_len)
{
    struct record_list records;
    record_list_init(&records);
    snapshot_records(image, &records);
    size_t len = SNAPSHOT_HEADER_BYTES + records.len + SNAPSHOT_CRC_BYTES;
    uint8_t *data = malloc(len);
    if (data != NULL) {
        put_u32(data, SNAPSHOT_MAGIC);
        put_u32(data + 4, SNAPSHOT_VERSION);
        put_u64(data + 8, (uint64_t)image->offset);
        put_u64(data + 16, image->digest);
        put_u64(data + 24, records.len);
        if (records.len > 0)
            memcpy(data + SNAPSHOT_HEADER_BYTES, records.data, records.len);
        put_u32(data + len - SNAPSHOT_CRC_BYTES, crc32c(0, data, len - SNAPSHOT_CRC_BYTES));
        *ret_data = data;
        *ret_len = len;
    }
    record_list_fini(&records);
    return data == NULL ? ERR_NO_MEMORY : ERR_OK;
}

err_t image_decode_snapshot(struct bytes snapshot, struct image **ret_image)
{
    if (snapshot.len < SNAPSHOT_HEADER_BYTES + SNAPSHOT_CRC_BYTES ||
        get_u32(snapshot.data) != SNAPSHOT_MAGIC)
        return ERR_CORRUPT;
    size_t crc_at = snapshot.len - SNAPSHOT_CRC_BYTES;
    if (crc32c(0, snapshot.data, crc_at) != get_u32(snapshot.data + crc_at))
        return ERR_CORRUPT;
    if (get_u32(snapshot.data + 4) != SNAPSHOT_VERSION)
        return ERR_UNSUPPORTED_VERSION;
    uint64_t offset = get_u64(snapshot.data + 8);
    if (offset > INT64_MAX || get_u64(snapshot.data + 24) != crc_at - SNAPSHOT_HEADER_BYTES)
        return ERR_CORRUPT;

    struct bytes records = {snapshot.data + SNAPSHOT_HEADER_BYTES, crc_at - SNAPSHOT_HEADER_BYTES};
    struct image *empty = image_new_empty();
    struct image_edit *edit = image_edit_begin_speculative(empty);
    image_unref(empty);
    Karst__MetadataRecord record;
    err_t err = ERR_OK;
    size_t at = 0;
    while (err == ERR_OK && record_next(records, &at, &record))
        err = image_edit_apply(edit, &record);
    if (err == ERR_OK &&
        (at != records.len || image_digest(image_edit_view(edit)) != get_u64(snapshot.data + 16)))
        err = ERR_CORRUPT;
    if (err != ERR_OK) {
        image_edit_abandon(edit);
        return err == ERR_UNSUPPORTED_VERSION ? err : ERR_CORRUPT;
    }
    struct image *image = image_edit_finish(edit, NULL);
    image->offset = (int64_t)offset;
    *ret_image = image;
    return ERR_OK;
}
