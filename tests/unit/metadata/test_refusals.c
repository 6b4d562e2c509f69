/* Every way in which a record can be wrong: it is refused by its error and leaves no trace; what it
 * was made from is taken. */
#include <string.h>

#include "lib/check_main.h"
#include "lib/metadata_lab.h"

static struct image *image; /* each test has a process of its own */

static err_t refused(const ProtobufCMessage *record)
{
    struct record_list list = {0};
    uint64_t digest = image_digest(image);
    record_list_add(&list, record);
    err_t err = lab_refused(image, &list);
    ck_assert_uint_eq(image_digest(image), digest);
    return err;
}

#define REFUSED(expected, record)                                                                  \
    ck_assert_str_eq(err_name(refused(&(record).base)), err_name(expected))

static void taken(const ProtobufCMessage *record)
{
    struct record_list list = {0};
    record_list_add(&list, record);
    image = lab_apply(image, &list, NULL);
}

/* One field of a good record, made wrong. */
#define WRONG(expected, good, ...)                                                                 \
    do {                                                                                           \
        __typeof__(good) wrong = (good);                                                           \
        __VA_ARGS__;                                                                               \
        REFUSED(expected, wrong);                                                                  \
    } while (0)

static ProtobufCBinaryData bin(uint64_t number)
{
    static struct uuid ids[64];
    static size_t next;
    struct uuid *id = &ids[next++ % ARRAY_LEN(ids)];
    *id = lab_uuid(number);
    return (ProtobufCBinaryData){sizeof(id->b), id->b};
}

static ProtobufCBinaryData zero(size_t len)
{
    static uint8_t zeros[17];
    return (ProtobufCBinaryData){len, zeros};
}

static char *text(size_t len)
{
    static char letters[(33 << 10) + 1];
    memset(letters, 'x', sizeof(letters) - 1);
    return letters + sizeof(letters) - 1 - len;
}

static char *words(const char *said)
{
    return (char *)(uintptr_t)said;
}

START_TEST(a_cluster_record_names_a_cluster)
{
    struct record_list list = {0};
    image = image_new_empty();
    lab_feature(&list, 1);
    image = lab_apply(image, &list, NULL);
    Karst__ClusterRecord good = KARST__CLUSTER_RECORD__INIT;
    good.cluster_id = bin(1);
    good.quorum_recovery_id = bin(2);
    WRONG(ERR_INVALID_REQUEST, good, wrong.cluster_id = zero(15));
    WRONG(ERR_INVALID_REQUEST, good, wrong.cluster_id = zero(16));
    WRONG(ERR_INVALID_REQUEST, good, wrong.quorum_recovery_id = zero(17));
    taken(&good.base);
    image_unref(image);
}
END_TEST

/* ---- brokers ---- */

static Karst__Listener listeners[LISTENERS_MAX + 1], *listener_rows[LISTENERS_MAX + 1];
static ProtobufCBinaryData directories[DIRECTORIES_MAX + 1];

static Karst__RegisterBrokerRecord registration(void)
{
    Karst__RegisterBrokerRecord record = KARST__REGISTER_BROKER_RECORD__INIT;
    for (size_t i = 0; i <= LISTENERS_MAX; i++) {
        listeners[i] = (Karst__Listener)KARST__LISTENER__INIT;
        listeners[i].name = words("RPC");
        listeners[i].host = words("here");
        listeners[i].port = 1;
        listener_rows[i] = &listeners[i];
    }
    for (size_t i = 0; i <= DIRECTORIES_MAX; i++)
        directories[i] = bin(600 + i);
    record.node_id = 7;
    record.broker_epoch = 70;
    record.incarnation = bin(700);
    record.boot_id = zero(16); /* not known: no fault */
    record.n_listeners = LISTENERS_MAX;
    record.listeners = listener_rows;
    record.n_online_directories = DIRECTORIES_MAX;
    record.online_directories = directories;
    return record;
}

START_TEST(a_broker_is_registered_by_who_it_is)
{
    image = lab_image();
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.node_id = -1);
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.broker_epoch = -1);
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.incarnation = zero(15));
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.incarnation = zero(16));
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.boot_id = zero(0));
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.rack = words(""));
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.rack = text(256));
    WRONG(ERR_UNSUPPORTED_VERSION, registration(), wrong.has_feature_min = true,
          wrong.feature_min = 2);
    WRONG(ERR_UNSUPPORTED_VERSION, registration(), wrong.has_feature_max = true,
          wrong.feature_max = 0);
    Karst__RegisterBrokerRecord good = registration();
    good.rack = text(255);
    taken(&good.base);
    image_unref(image);
}
END_TEST

START_TEST(a_broker_has_listeners_that_others_can_reach)
{
    image = lab_image();
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.n_listeners = 0);
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.n_listeners = LISTENERS_MAX + 1);
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].name = words(""));
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].name = text(65));
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].host = words(""));
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].host = text(256));
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].port = 0);
    WRONG(ERR_INVALID_REQUEST, registration(), listeners[1].port = 65536);
    Karst__RegisterBrokerRecord good = registration();
    listeners[1].name = text(64);
    listeners[1].host = text(255);
    listeners[1].port = 65535;
    taken(&good.base);
    image_unref(image);
}
END_TEST

START_TEST(a_brokers_directories_are_named_and_bounded) /* R1, R14 */
{
    image = lab_image();
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.n_online_directories = DIRECTORIES_MAX + 1);
    WRONG(ERR_INVALID_REQUEST, registration(), directories[1] = zero(16));
    WRONG(ERR_INVALID_REQUEST, registration(), directories[1] = zero(15));
    WRONG(ERR_INVALID_REQUEST, registration(), wrong.failed_directories = directories,
          wrong.n_failed_directories = DIRECTORIES_MAX + 1);
    Karst__RegisterBrokerRecord good = registration();
    good.failed_directories = directories + 1;
    good.n_failed_directories = DIRECTORIES_MAX;
    taken(&good.base);

    /* As many as may be are marked: one more is too many, the same ones again are nothing new. */
    Karst__BrokerChangeRecord change = KARST__BROKER_CHANGE_RECORD__INIT;
    change.node_id = 7;
    change.broker_epoch = 70;
    change.n_failed_directories = DIRECTORIES_MAX;
    change.failed_directories = directories + 1;
    WRONG(ERR_INVALID_REQUEST, change, wrong.failed_directories = directories);
    WRONG(ERR_INVALID_REQUEST, change, wrong.n_failed_directories = DIRECTORIES_MAX + 1);
    WRONG(ERR_UNSUPPORTED_VERSION, change, wrong.state = (Karst__BrokerState)-1);
    taken(&change.base);
    ck_assert_uint_eq(image_broker(image, 7)->failed_count, DIRECTORIES_MAX);
    ck_assert_uint_eq(image_broker(image, 7)->directory_count, 1);
    image_unref(image);
}
END_TEST

/* ---- topics, configs ---- */

START_TEST(a_topic_has_an_id_and_the_request_that_made_it)
{
    image = lab_image();
    Karst__TopicRecord good = KARST__TOPIC_RECORD__INIT;
    good.topic_id = bin(7);
    good.name = words("orders");
    good.request_id = zero(16); /* not said */
    WRONG(ERR_INVALID_REQUEST, good, wrong.topic_id = zero(15));
    WRONG(ERR_INVALID_REQUEST, good, wrong.topic_id = zero(16));
    WRONG(ERR_INVALID_REQUEST, good, wrong.request_id = zero(0));
    taken(&good.base);
    Karst__DeleteTopicRecord gone = KARST__DELETE_TOPIC_RECORD__INIT;
    gone.topic_id = bin(7);
    WRONG(ERR_INVALID_REQUEST, gone, wrong.topic_id = zero(17));
    taken(&gone.base);
    ck_assert_uint_eq(image_topic_count(image), 0);
    image_unref(image);
}
END_TEST

START_TEST(a_config_is_of_a_topic_or_a_broker_and_bounded)
{
    struct record_list list = {0};
    image = lab_image();
    lab_topic(&list, 7, "orders");
    image = lab_apply(image, &list, NULL);
    Karst__ConfigRecord good = KARST__CONFIG_RECORD__INIT;
    good.resource = KARST__CONFIG_RESOURCE__CONFIG_TOPIC;
    good.topic_id = bin(7);
    good.node_id = NO_NODE;
    good.key = text(255);
    good.value = words("");
    WRONG(ERR_INVALID_REQUEST, good, wrong.key = words(""));
    WRONG(ERR_INVALID_REQUEST, good, wrong.key = text(256));
    WRONG(ERR_INVALID_REQUEST, good, wrong.key = words("a"), wrong.value = text((32 << 10) + 1));
    WRONG(ERR_INVALID_REQUEST, good, wrong.topic_id = zero(3));
    WRONG(ERR_INVALID_REQUEST, good, wrong.node_id = 1);
    WRONG(ERR_UNSUPPORTED_VERSION, good, wrong.resource = (Karst__ConfigResource)3);
    taken(&good.base);
    good.resource = KARST__CONFIG_RESOURCE__CONFIG_BROKER;
    good.topic_id = zero(0);
    WRONG(ERR_INVALID_REQUEST, good, wrong.topic_id = bin(7));
    WRONG(ERR_INVALID_REQUEST, good, wrong.node_id = -2);
    taken(&good.base);
    /* To take back what is not there is no fault, and nothing. */
    uint64_t digest = image_digest(image);
    good.key = words("b");
    good.value = NULL;
    good.node_id = 3;
    taken(&good.base);
    ck_assert_uint_eq(image_digest(image), digest);
    image_unref(image);
}
END_TEST

START_TEST(brokers_configs_lie_apart_by_node_and_go_one_by_one)
{
    static const node_id_t nodes[] = {3, 1, NO_NODE, 2};
    struct record_list list = {0};
    image = lab_image();
    uint64_t digest = image_digest(image);
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        lab_broker_config(&list, nodes[i], "a", "1");
        lab_broker_config(&list, nodes[i], "b", "2");
    }
    image = lab_apply(image, &list, NULL);
    ck_assert_uint_ne(image_digest(image), digest);
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        lab_broker_config(&list, nodes[i], "b", NULL);
        lab_broker_config(&list, nodes[i], "a", NULL);
    }
    image = lab_apply(image, &list, NULL);
    ck_assert_uint_eq(image_digest(image), digest);
    image_unref(image);
}
END_TEST

START_TEST(producer_ids_go_to_a_broker_of_this_life)
{
    image = lab_image();
    Karst__ProducerIdsRecord good = KARST__PRODUCER_IDS_RECORD__INIT;
    good.node_id = 2;
    good.broker_epoch = 12;
    good.next_producer_id = 1000;
    WRONG(ERR_BROKER_ID_NOT_REGISTERED, good, wrong.node_id = 9);
    WRONG(ERR_STALE_BROKER_EPOCH, good, wrong.broker_epoch = 11);
    WRONG(ERR_INVALID_REQUEST, good, wrong.next_producer_id = 0);
    taken(&good.base);
    REFUSED(ERR_INVALID_REQUEST, good); /* given once */
    image_unref(image);
}
END_TEST

START_TEST(voters_are_one_to_sixteen_each_once_at_an_address)
{
    enum { MOST = 16 };
    static Karst__Voter voters[MOST + 1], *rows[MOST + 1];
    image = lab_image();
    for (int i = 0; i <= MOST; i++) {
        voters[i] = (Karst__Voter)KARST__VOTER__INIT;
        voters[i].node_id = i;
        voters[i].host = words("here");
        voters[i].port = 65535;
        rows[i] = &voters[i];
    }
    Karst__VotersRecord good = KARST__VOTERS_RECORD__INIT;
    good.n_voters = MOST;
    good.voters = rows;
    WRONG(ERR_INVALID_REQUEST, good, wrong.n_voters = 0);
    WRONG(ERR_INVALID_REQUEST, good, wrong.n_voters = MOST + 1);
    WRONG(ERR_INVALID_REQUEST, good, voters[2].node_id = -1);
    WRONG(ERR_INVALID_REQUEST, good, voters[2].node_id = 1);
    voters[2].node_id = 2;
    WRONG(ERR_INVALID_REQUEST, good, voters[2].port = 0);
    WRONG(ERR_INVALID_REQUEST, good, voters[2].port = 65536);
    voters[2].port = 1;
    WRONG(ERR_INVALID_REQUEST, good, voters[2].host = words(""));
    WRONG(ERR_INVALID_REQUEST, good, voters[2].host = text(256));
    voters[2].host = text(255);
    taken(&good.base);
    ck_assert_uint_eq(image_voter_count(image), MOST);
    image_unref(image);
}
END_TEST

/* ---- partitions ---- */

static int32_t replicas[REPLICAS_MAX + 1], isr[REPLICAS_MAX + 1], elr[REPLICAS_MAX + 1];

/* Of replicas 1, 2, 3; 1 and 2 are in sync, 3 is eligible. */
static Karst__PartitionRecord partition(void)
{
    Karst__PartitionRecord record = KARST__PARTITION_RECORD__INIT;
    for (int i = 0; i <= REPLICAS_MAX; i++)
        replicas[i] = isr[i] = i + 1;
    elr[0] = 3;
    for (size_t i = 0; i < 3; i++)
        directories[i] = bin(600 + i);
    record.topic_id = bin(7);
    record.n_replicas = record.n_directories = 3;
    record.replicas = replicas;
    record.directories = directories;
    record.n_isr = 2;
    record.isr = isr;
    record.n_elr = 1;
    record.elr = elr;
    record.leader = 1;
    record.leader_epoch = 4;
    record.partition_epoch = 5;
    record.has_last_unclean_leader_epoch = true;
    record.last_unclean_leader_epoch = 2;
    return record;
}

static void image_with_topic(void)
{
    struct record_list list = {0};
    image = lab_image();
    lab_topic(&list, 7, "orders");
    image = lab_apply(image, &list, NULL);
}

START_TEST(a_partition_is_born_sound)
{
    image_with_topic();
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.topic_id = zero(0));
    WRONG(ERR_INVALID_PARTITIONS, partition(), wrong.index = 1);
    WRONG(ERR_INVALID_PARTITIONS, partition(), wrong.index = -1);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.n_replicas = 0);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.n_replicas = REPLICAS_MAX + 1);
    WRONG(ERR_INVALID_REQUEST, partition(), replicas[2] = -3);
    WRONG(ERR_INVALID_REQUEST, partition(), replicas[2] = 1);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.n_isr = 0);
    WRONG(ERR_INVALID_REQUEST, partition(), isr[1] = 4);
    WRONG(ERR_INVALID_REQUEST, partition(), elr[0] = 4);
    WRONG(ERR_INVALID_REQUEST, partition(), elr[0] = 2); /* KIP-966 */
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.n_directories = 2);
    WRONG(ERR_INVALID_REQUEST, partition(), directories[1] = zero(15));
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.leader = 3);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.leader = -2);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.leader_epoch = -1);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.partition_epoch = -1);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.last_unclean_leader_epoch = 5);
    WRONG(ERR_INVALID_REQUEST, partition(), wrong.last_unclean_leader_epoch = -2);
    WRONG(ERR_UNSUPPORTED_VERSION, partition(), wrong.has_recovery_state = true,
          wrong.recovery_state = 2);
    Karst__PartitionRecord good = partition();
    taken(&good.base);
    image_unref(image);
}
END_TEST

START_TEST(what_a_later_level_says_of_replicas_stops) /* R27 */
{
    image_with_topic();
    WRONG(ERR_UNSUPPORTED_VERSION, partition(), wrong.n_last_known_elr = 1,
          wrong.last_known_elr = elr);
    WRONG(ERR_UNSUPPORTED_VERSION, partition(), wrong.n_adding_replicas = 1,
          wrong.adding_replicas = elr);
    WRONG(ERR_UNSUPPORTED_VERSION, partition(), wrong.n_removing_replicas = 1,
          wrong.removing_replicas = elr);
    image_unref(image);
}
END_TEST

static Karst__PartitionChangeRecord change(void)
{
    Karst__PartitionChangeRecord record = KARST__PARTITION_CHANGE_RECORD__INIT;
    (void)partition();
    record.topic_id = bin(7);
    record.partition_epoch = 6;
    record.has_leader_epoch = true;
    record.leader_epoch = 5;
    record.has_leader = true;
    record.leader = 1;
    return record;
}

START_TEST(a_partition_changes_into_what_is_sound)
{
    image_with_topic();
    Karst__PartitionRecord born = partition();
    taken(&born.base);
    WRONG(ERR_INVALID_REQUEST, change(), wrong.topic_id = zero(0));
    WRONG(ERR_UNKNOWN_TOPIC_OR_PARTITION, change(), wrong.index = 1);
    WRONG(ERR_UNKNOWN_TOPIC_OR_PARTITION, change(), wrong.index = -1);
    WRONG(ERR_INVALID_UPDATE_VERSION, change(), wrong.partition_epoch = 7);         /* R3 */
    WRONG(ERR_INVALID_REQUEST, change(), wrong.has_isr_set = wrong.isr_set = true); /* empty */
    WRONG(ERR_INVALID_REQUEST, change(), wrong.has_elr_set = wrong.elr_set = true, wrong.n_elr = 1,
          wrong.elr = elr, elr[0] = 9);
    WRONG(ERR_INVALID_REQUEST, change(), wrong.n_directories = 1, wrong.directories = directories);
    WRONG(ERR_INVALID_REQUEST, change(), wrong.leader_epoch = 3);
    WRONG(ERR_INVALID_REQUEST, change(), wrong.leader_epoch = 4); /* R2: elected, so higher */
    WRONG(ERR_INVALID_REQUEST, change(), wrong.leader = 3);
    WRONG(ERR_INVALID_REQUEST, change(), wrong.has_last_unclean_leader_epoch = true,
          wrong.last_unclean_leader_epoch = 1); /* R8: for good */
    WRONG(ERR_UNSUPPORTED_VERSION, change(), wrong.has_recovery_state = true,
          wrong.recovery_state = 2);
    Karst__PartitionChangeRecord good = change();
    good.has_elr_set = good.elr_set = true; /* to none */
    good.has_recovery_state = true;
    good.recovery_state = 1;
    taken(&good.base);
    ck_assert_int_eq(image_partition(image, &(struct partition_id){lab_uuid(7), 0})->elr_count, 0);
    image_unref(image);
}
END_TEST

CHECK_MAIN("metadata/refusals", a_cluster_record_names_a_cluster,
           a_broker_is_registered_by_who_it_is, a_broker_has_listeners_that_others_can_reach,
           a_brokers_directories_are_named_and_bounded,
           a_topic_has_an_id_and_the_request_that_made_it,
           a_config_is_of_a_topic_or_a_broker_and_bounded,
           brokers_configs_lie_apart_by_node_and_go_one_by_one,
           producer_ids_go_to_a_broker_of_this_life,
           voters_are_one_to_sixteen_each_once_at_an_address, a_partition_is_born_sound,
           what_a_later_level_says_of_replicas_stops, a_partition_changes_into_what_is_sound)
