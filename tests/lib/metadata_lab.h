/* metadata_lab.h - small records, made in one line, for the tests of metadata. */
#ifndef KARST_TESTS_LIB_METADATA_LAB_H
#define KARST_TESTS_LIB_METADATA_LAB_H

#include "base/rng.h"
#include "metadata/image.h"
#include "metadata/record.h"

struct uuid lab_uuid(uint64_t number); /* not zero, also for 0 */

/* Each adds one record to list. */
void lab_feature(struct record_list *list, uint32_t level);
void lab_cluster(struct record_list *list, uint64_t cluster, uint64_t recovery);
void lab_register(struct record_list *list, node_id_t node, uint64_t incarnation,
                  broker_epoch_t epoch);
void lab_broker_change(struct record_list *list, node_id_t node, broker_epoch_t epoch,
                       enum broker_state state);
/* R14: its one directory failed a sync. */
void lab_directory_fails(struct record_list *list, const struct image_broker *broker);
void lab_topic(struct record_list *list, uint64_t id, const char *name);
void lab_delete_topic(struct record_list *list, uint64_t id);
/* Replicas and ISR first, first + 1, …; the first leads. */
void lab_partition(struct record_list *list, uint64_t topic, int32_t index, node_id_t first,
                   size_t replicas);
void lab_config(struct record_list *list, uint64_t topic, const char *key, const char *value);
void lab_broker_config(struct record_list *list, node_id_t node, const char *key,
                       const char *value);
void lab_producer_ids(struct record_list *list, producer_id_t next);
void lab_voters(struct record_list *list, size_t count);
void lab_begin(struct record_list *list);
void lab_end(struct record_list *list);
void lab_abort(struct record_list *list);
void lab_digest(struct record_list *list, uint64_t digest);

/* The next leader (-1: none) and ISR of a partition: epochs go up by one. */
struct lab_change {
    uint64_t topic;
    int32_t index;
    int32_t partition_epoch;
    node_id_t leader;            /* -2: not said */
    leader_epoch_t leader_epoch; /* -1: not said */
    size_t isr_count;
    node_id_t isr[REPLICAS_MAX]; /* count 0: not said */
    leader_epoch_t last_unclean; /* 0: not said */
};
void lab_partition_change(struct record_list *list, const struct lab_change *change);

/* Applies all of list to image as the entry after its last, and drops both. Fails the test where a
 * record can't be applied. */
struct image *lab_apply(struct image *image, struct record_list *list,
                        struct image_difference **ret_difference);
/* What the first record of list that can't be applied says; frees list. The image is unharmed. */
err_t lab_refused(struct image *image, struct record_list *list);
/* Level, cluster, three voters, three active brokers 1 to 3 with epochs 11 to 13. */
struct image *lab_image(void);

#endif
