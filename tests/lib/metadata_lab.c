#include "lib/metadata_lab.h"

#include <check.h>
#include <stdio.h>

#include "base/assert.h"

struct uuid lab_uuid(uint64_t number)
{
    return uuid_make(number * UINT64_C(0x9E3779B97F4A7C15), number);
}

static ProtobufCBinaryData lab_bin(const struct uuid *id)
{
    return (ProtobufCBinaryData){sizeof(id->b), (uint8_t *)(uintptr_t)id->b};
}

static char *lab_text(const char *text)
{
    return (char *)(uintptr_t)text;
}

void lab_feature(struct record_list *list, uint32_t level)
{
    Karst__FeatureLevelRecord record = KARST__FEATURE_LEVEL_RECORD__INIT;
    record.level = level;
    record_list_add(list, &record.base);
}

void lab_cluster(struct record_list *list, uint64_t cluster, uint64_t recovery)
{
    struct uuid cluster_id = lab_uuid(cluster), recovery_id = lab_uuid(recovery);
    Karst__ClusterRecord record = KARST__CLUSTER_RECORD__INIT;
    record.cluster_id = lab_bin(&cluster_id);
    record.quorum_recovery_id = lab_bin(&recovery_id);
    record_list_add(list, &record.base);
}

void lab_register(struct record_list *list, node_id_t node, uint64_t incarnation,
                  broker_epoch_t epoch)
{
    struct uuid incarnation_id = lab_uuid(incarnation), boot_id = lab_uuid(77);
    struct uuid directory = lab_uuid(5000 + (uint64_t)node);
    char host[32];
    snprintf(host, sizeof(host), "broker-%d.example", node);
    Karst__Listener listener = KARST__LISTENER__INIT, *listeners = &listener;
    listener.name = lab_text("RPC");
    listener.host = host;
    listener.port = 9091;
    ProtobufCBinaryData directories = lab_bin(&directory);
    Karst__RegisterBrokerRecord record = KARST__REGISTER_BROKER_RECORD__INIT;
    record.node_id = node;
    record.incarnation = lab_bin(&incarnation_id);
    record.n_listeners = 1;
    record.listeners = &listeners;
    record.rack = node % 2 == 0 ? lab_text("even") : NULL;
    record.n_online_directories = 1;
    record.online_directories = &directories;
    record.boot_id = lab_bin(&boot_id);
    record.broker_epoch = epoch;
    record_list_add(list, &record.base);
}

void lab_broker_change(struct record_list *list, node_id_t node, broker_epoch_t epoch,
                       enum broker_state state)
{
    Karst__BrokerChangeRecord record = KARST__BROKER_CHANGE_RECORD__INIT;
    record.node_id = node;
    record.broker_epoch = epoch;
    record.state = (Karst__BrokerState)state;
    record_list_add(list, &record.base);
}

void lab_directory_fails(struct record_list *list, const struct image_broker *broker)
{
    Karst__BrokerChangeRecord record = KARST__BROKER_CHANGE_RECORD__INIT;
    struct uuid directory = lab_uuid(5000 + (uint64_t)broker->id);
    ProtobufCBinaryData row = lab_bin(&directory);
    record.node_id = broker->id;
    record.broker_epoch = broker->epoch;
    record.state = (Karst__BrokerState)broker->state;
    record.n_failed_directories = 1;
    record.failed_directories = &row;
    record_list_add(list, &record.base);
}

void lab_topic(struct record_list *list, uint64_t id, const char *name)
{
    struct uuid topic_id = lab_uuid(id), request_id = lab_uuid(id + 1000);
    Karst__TopicRecord record = KARST__TOPIC_RECORD__INIT;
    record.topic_id = lab_bin(&topic_id);
    record.request_id = lab_bin(&request_id);
    record.name = lab_text(name);
    record_list_add(list, &record.base);
}

void lab_delete_topic(struct record_list *list, uint64_t id)
{
    struct uuid topic_id = lab_uuid(id);
    Karst__DeleteTopicRecord record = KARST__DELETE_TOPIC_RECORD__INIT;
    record.topic_id = lab_bin(&topic_id);
    record_list_add(list, &record.base);
}

void lab_partition(struct record_list *list, uint64_t topic, int32_t index, node_id_t first,
                   size_t replicas)
{
    struct uuid topic_id = lab_uuid(topic);
    node_id_t nodes[REPLICAS_MAX];
    for (size_t i = 0; i < replicas; i++)
        nodes[i] = first + (node_id_t)i;
    Karst__PartitionRecord record = KARST__PARTITION_RECORD__INIT;
    record.topic_id = lab_bin(&topic_id);
    record.index = index;
    record.n_replicas = record.n_isr = replicas;
    record.replicas = record.isr = nodes;
    record.leader = first;
    record_list_add(list, &record.base);
}

void lab_config(struct record_list *list, uint64_t topic, const char *key, const char *value)
{
    struct uuid topic_id = lab_uuid(topic);
    Karst__ConfigRecord record = KARST__CONFIG_RECORD__INIT;
    record.resource = KARST__CONFIG_RESOURCE__CONFIG_TOPIC;
    record.topic_id = lab_bin(&topic_id);
    record.node_id = -1;
    record.key = lab_text(key);
    record.value = lab_text(value);
    record_list_add(list, &record.base);
}

void lab_broker_config(struct record_list *list, node_id_t node, const char *key, const char *value)
{
    Karst__ConfigRecord record = KARST__CONFIG_RECORD__INIT;
    record.resource = KARST__CONFIG_RESOURCE__CONFIG_BROKER;
    record.node_id = node;
    record.key = lab_text(key);
    record.value = lab_text(value);
    record_list_add(list, &record.base);
}

void lab_producer_ids(struct record_list *list, producer_id_t next)
{
    Karst__ProducerIdsRecord record = KARST__PRODUCER_IDS_RECORD__INIT;
    record.node_id = -1;
    record.broker_epoch = -1;
    record.next_producer_id = next;
    record_list_add(list, &record.base);
}

void lab_voters(struct record_list *list, size_t count)
{
    Karst__Voter voters[16], *rows[16];
    ASSERT(count <= ARRAY_LEN(rows));
    for (size_t i = 0; i < count; i++) {
        karst__voter__init(&voters[i]);
        voters[i].node_id = (int32_t)i + 1;
        voters[i].host = lab_text("voter.example");
        voters[i].port = 9091;
        rows[i] = &voters[i];
    }
    Karst__VotersRecord record = KARST__VOTERS_RECORD__INIT;
    record.n_voters = count;
    record.voters = rows;
    record_list_add(list, &record.base);
}

void lab_begin(struct record_list *list)
{
    Karst__BeginTransactionRecord record = KARST__BEGIN_TRANSACTION_RECORD__INIT;
    record_list_add(list, &record.base);
}

void lab_end(struct record_list *list)
{
    Karst__EndTransactionRecord record = KARST__END_TRANSACTION_RECORD__INIT;
    record_list_add(list, &record.base);
}

void lab_abort(struct record_list *list)
{
    Karst__AbortTransactionRecord record = KARST__ABORT_TRANSACTION_RECORD__INIT;
    record_list_add(list, &record.base);
}

void lab_digest(struct record_list *list, uint64_t digest)
{
    Karst__DigestRecord record = KARST__DIGEST_RECORD__INIT;
    record.digest = digest;
    record_list_add(list, &record.base);
}

void lab_partition_change(struct record_list *list, const struct lab_change *change)
{
    struct uuid topic_id = lab_uuid(change->topic);
    struct lab_change copy = *change;
    Karst__PartitionChangeRecord record = KARST__PARTITION_CHANGE_RECORD__INIT;
    record.topic_id = lab_bin(&topic_id);
    record.index = copy.index;
    record.partition_epoch = copy.partition_epoch;
    record.has_isr_set = record.isr_set = copy.isr_count > 0;
    record.n_isr = copy.isr_count;
    record.isr = copy.isr;
    record.has_leader = copy.leader != -2;
    record.leader = copy.leader;
    record.has_leader_epoch = copy.leader_epoch != -1;
    record.leader_epoch = copy.leader_epoch;
    record.has_last_unclean_leader_epoch = copy.last_unclean != 0;
    record.last_unclean_leader_epoch = copy.last_unclean;
    record_list_add(list, &record.base);
}

struct image *lab_apply(struct image *image, struct record_list *list,
                        struct image_difference **ret_difference)
{
    struct image_edit *edit = image_edit_begin(image);
    struct bytes entry = {list->data, list->len};
    err_t err = image_edit_apply_entry(edit, entry, image_offset(image) + 1);
    ck_assert_str_eq(err_name(err), "OK");
    struct image *after = image_edit_finish(edit, ret_difference);
    image_unref(image);
    record_list_fini(list);
    return after;
}

err_t lab_refused(struct image *image, struct record_list *list)
{
    uint64_t digest = image_digest(image);
    struct image_edit *edit = image_edit_begin(image);
    struct bytes entry = {list->data, list->len};
    err_t err = image_edit_apply_entry(edit, entry, image_offset(image) + 1);
    if (list->count == 1) /* it leaves no trace */
        ck_assert_uint_eq(image_digest(image_edit_view(edit)), digest);
    image_edit_abandon(edit);
    ck_assert_uint_eq(image_digest(image), digest);
    record_list_fini(list);
    return err;
}

struct image *lab_image(void)
{
    struct record_list list = {0};
    lab_feature(&list, 1);
    lab_cluster(&list, 1, 2);
    lab_voters(&list, 3);
    for (node_id_t node = 1; node <= 3; node++) {
        lab_register(&list, node, 100 + (uint64_t)node, 10 + node);
        lab_broker_change(&list, node, 10 + node, BROKER_STATE_ACTIVE);
    }
    return lab_apply(image_new_empty(), &list, NULL);
}
