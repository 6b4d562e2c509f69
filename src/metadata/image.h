/* image.h - the cluster's state as a value: what applying the metadata log's records in order
 * gives.
 *
 * An image never changes: applying records to it makes a new one that shares what did not change
 * (copy-on-write by topic). The quorum's thread makes them and hands each, with the difference to
 * the one before, to every shard, which pins it.
 *
 *   image ──edit_begin──▶ edit ──apply record*──▶ edit ──edit_finish──▶ image', difference
 *
 * Ownership: references; image_unref frees with the last one. What getters return lives as long as
 *            the image.
 * Thread:    images and differences are read on any thread; an edit belongs to one.
 * Memory:    there is no going on without it: an allocation that fails aborts.
 * Errors:    a record that can't be applied leaves the edit as it was and says why: the controller
 *            never proposes it, and a broker that reads one from the log stops (R3, R27). */
#ifndef KARST_METADATA_IMAGE_H
#define KARST_METADATA_IMAGE_H

#include "base/bytes.h"
#include "base/err.h"
#include "record/types.h"

#include "proto/metadata.pb-c.h"

enum { IMAGE_FEATURE_LEVEL = 1, LISTENERS_MAX = 4, DIRECTORIES_MAX = 16 };

struct image_listener {
    char *name, *host;
    uint16_t port;
};

enum broker_state {
    BROKER_STATE_FENCED,
    BROKER_STATE_ACTIVE,
    BROKER_STATE_LEAVING,
    BROKER_STATE_DRAINING
};

struct image_broker {
    node_id_t id;
    struct uuid incarnation;
    broker_epoch_t epoch;
    enum broker_state state;
    uint32_t listener_count, directory_count, failed_count;
    struct image_listener listeners[LISTENERS_MAX];
    struct uuid directories[DIRECTORIES_MAX]; /* online ones (R1) */
    struct uuid failed[DIRECTORIES_MAX];      /* offline until they are verified (R14) */
    char *rack;                               /* NULL: none */
    bool clean_start;
    struct uuid boot_id;
    uint32_t feature_min, feature_max;
};

struct image_partition {
    uint8_t replica_count, isr_count, elr_count;
    uint8_t recovery_state; /* 1: elected uncleanly, recovering */
    node_id_t replicas[REPLICAS_MAX];
    struct uuid directories[REPLICAS_MAX]; /* of each replica; zero: not yet said (R1) */
    node_id_t isr[REPLICAS_MAX];
    node_id_t elr[REPLICAS_MAX]; /* KIP-966; kept by the format, filled later */
    node_id_t leader;            /* -1: none */
    leader_epoch_t leader_epoch;
    int32_t partition_epoch;
    leader_epoch_t last_unclean_leader_epoch;
};

struct image_config {
    char *key, *value;
};

struct image_topic {
    struct uuid id, request_id;
    char *name;
    int32_t partition_count;
    const struct image_partition *partitions; /* by index */
    uint32_t config_count;
    const struct image_config *configs; /* sorted by key */
};

struct image;

struct image *image_new_empty(void);
struct image *image_ref(struct image *image);
void image_unref(struct image *image); /* accepts NULL */

/* Index of the last entry applied; 0: none. Metadata offset in heartbeats, broker epochs. */
int64_t image_offset(const struct image *image);
const struct uuid *image_cluster_id(const struct image *image); /* zero before the first record */
const struct uuid *image_recovery_id(const struct image *image);
uint32_t image_feature_level(const struct image *image);
producer_id_t image_next_producer_id(const struct image *image);
/* Same in every replica that applied the same records: the sum of hashes of all that the image
 * holds (each topic, partition, config, broker, ...), so that it does not depend on the order in
 * which they came. */
uint64_t image_digest(const struct image *image);

const struct image_broker *image_broker(const struct image *image, node_id_t id); /* NULL: none */
size_t image_broker_count(const struct image *image);
const struct image_broker *image_broker_at(const struct image *image,
                                           size_t idx); /* by id, rising */
/* The address that listener name advertises; NULL when the broker or the listener is unknown. */
const struct image_listener *image_broker_listener(const struct image_broker *broker,
                                                   const char *name);
size_t image_voter_count(const struct image *image);
const Karst__Voter *image_voter_at(const struct image *image, size_t idx);

const struct image_topic *image_topic(const struct image *image,
                                      const struct uuid *id); /* NULL: none */
const struct image_topic *image_topic_by_name(const struct image *image, const char *name);
/* A topic whose name is the same when '.' and '_' are taken for one (metrics do); NULL: none. */
const struct image_topic *image_topic_colliding(const struct image *image, const char *name);
const struct image_partition *image_partition(const struct image *image,
                                              const struct partition_id *id);
size_t image_topic_count(const struct image *image);
size_t image_partition_count(const struct image *image);
/* A transaction was begun and not ended: a new controller aborts it first (R23). */
bool image_transaction_open(const struct image *image);
/* Each topic in order of creation. each must not keep pointers longer than the image. */
void image_each_topic(const struct image *image,
                      void (*each)(void *context, const struct image_topic *topic), void *context);
/* The topic's value, else the broker default (node_id -1 row), else NULL. */
const char *image_topic_config(const struct image *image, const struct image_topic *topic,
                               const char *key);
/* The same as a number; fallback when not set or not a number. */
int64_t image_topic_config_int(const struct image *image, const struct image_topic *topic,
                               const char *key, int64_t fallback);

/* A partition id's place among replicas, ISR: -1 when not there. */
int image_partition_replica_index(const struct image_partition *p, node_id_t node);
bool image_partition_in_isr(const struct image_partition *p, node_id_t node);

/* ---- change ---- */

/* What an image has that the one before had not. Partitions are listed once, in order of change. */
struct image_difference {
    struct partition_id *partitions; /* new, changed, or gone (image_partition says NULL) */
    size_t partition_count;
    struct uuid *topics; /* created, deleted, or with changed configs */
    size_t topic_count;
    node_id_t *brokers; /* registered or changed */
    size_t broker_count;
    bool voters_changed;
};

struct image_edit;
struct image_edit *image_edit_begin(struct image *base); /* takes a reference */
/* The same for an edit that lives long and is never finished (the controller's speculation): it
 * keeps no note of what changed. */
struct image_edit *image_edit_begin_speculative(struct image *base);
/* Applies one record. ERR_INVALID_UPDATE_VERSION: partition epoch is not old + 1;
 * ERR_UNSUPPORTED_VERSION: type or version unknown; ERR_INVALID_REQUEST, ERR_UNKNOWN_TOPIC_ID,
 * ERR_INCONSISTENT_CLUSTER_ID, ... In a transaction (R23) records are kept aside and applied with
 * its end. */
err_t image_edit_apply(struct image_edit *edit, const Karst__MetadataRecord *record);
/* Decodes a MetadataEntry, record by record, and applies all of it. offset: of the entry. */
err_t image_edit_apply_entry(struct image_edit *edit, struct bytes entry, int64_t offset);
/* The edit as it stands so far, to be read by the functions above; valid until the next apply. */
const struct image *image_edit_view(const struct image_edit *edit);
/* Ends the edit. ret_difference (may be NULL) is malloc'd: image_difference_free. */
struct image *image_edit_finish(struct image_edit *edit, struct image_difference **ret_difference);
void image_edit_abandon(struct image_edit *edit); /* accepts NULL */
void image_difference_free(struct image_difference *difference);
/* From nothing to image: what a shard is given at start and after a snapshot. */
struct image_difference *image_difference_all(struct image *image);
/* From one image to a later one that did not come by records (a restored snapshot): gone ones
 * included. */
struct image_difference *image_difference_between(struct image *before, struct image *after);

/* ---- snapshot: a stream of records that rebuilds the image; each length-prefixed, CRC32C at the
 * end ---- */

/* malloc'd into *ret_data. */
err_t image_encode_snapshot(struct image *image, uint8_t **ret_data, size_t *ret_len);
/* ERR_CORRUPT, ERR_UNSUPPORTED_VERSION. */
err_t image_decode_snapshot(struct bytes snapshot, struct image **ret_image);

#endif
