/* partition_lab.h - three brokers' partition tables (one shard each), joined by their frames: disks
 * that lose what was not synced, a controller that is one function, time that the test moves.
 *
 * Frames and syncs wait until lab_pump, or are dropped with their node. Nodes are 1, 2, 3; there is
 * one topic, "orders", and its partition 0, replicated on all. */
#ifndef KARST_TESTS_PARTITION_LAB_H
#define KARST_TESTS_PARTITION_LAB_H

#include "base/rng.h"
#include "lib/check_main.h"
#include "lib/faults.h"
#include "lib/metadata_lab.h"
#include "shard/partition.h"
#include "sim/sim_disk.h"

enum { LAB_NODES = 3, LAB_SYNCS_MAX = 4096, LAB_PARTS_MAX = 2048, LAB_TIMERS_MAX = 4 };

struct lab;

struct lab_sync {
    struct env_done *op;
    err_t err;
};

struct lab_node {
    struct lab *lab;
    node_id_t id;
    bool up;
    bool lease;
    bool mute;       /* what it sends is lost, and its streams break: cut off */
    bool hold_syncs; /* its disk takes its time */
    broker_epoch_t broker_epoch;
    uint32_t life; /* of its connections */
    struct sim_disk *disk;
    struct sim_disk_view view;
    struct faults_disk faulty; /* the view; sound but where a test says otherwise */
    struct env env;
    struct env_timer *timers[LAB_TIMERS_MAX];
    struct lab_sync syncs[LAB_SYNCS_MAX];
    size_t sync_count;
    struct partition_table *table;
    uint32_t streams[LAB_NODES + 1]; /* generation of its connection to each leader; 0: none */
    uint64_t replicas_failed;
    err_t replica_err; /* as last told */
    bool may_exit, exited;
};

struct lab_message {
    struct list_node link;
    node_id_t from, to;
    uint32_t generation; /* of the connection */
    bool data;           /* down; else deltas */
    struct frame *frame; /* header and attachment in one */
};

/* An AlterPartition on its way to the controller. */
struct lab_alter {
    struct list_node link;
    node_id_t from;
    uint32_t life;
    bool told; /* that its outcome is unknown; it may still be accepted */
    leader_epoch_t leader_epoch;
    int32_t partition_epoch;
    size_t isr_count;
    struct {
        node_id_t node;
        broker_epoch_t epoch;
    } isr[REPLICAS_MAX];
};

/* A produce or fetch with its answer. */
struct lab_call {
    struct request request;
    union {
        struct part part;
        struct produce_part produce;
        struct fetch_part fetch;
        struct list_offsets_part list;
        struct epoch_end_part epoch;
    };
    bool answered;
};

struct lab {
    struct lab_node nodes[LAB_NODES + 1]; /* by id */
    struct image *image;
    uint64_t now_ns;
    struct rng rng;
    struct list_node messages;
    struct lab_call *calls[LAB_PARTS_MAX];
    size_t call_count;
    struct partition_id id;
    struct list_node alters_sent;
    bool hold_alters;   /* the controller is not there */
    bool unsure_alters; /* outcomes are lost now and then, and what was given up comes later */
    err_t alter_err;    /* it refuses; ERR_OK: it does as asked */
    uint64_t alters;    /* accepted */
    struct partition_options options;
    const struct partition_found *found_all; /* at the next boot: as if of all shards */
    size_t found_all_count;
    uint64_t frames_up, frames_down;
};

struct partition_options lab_options(void);
struct lab *lab_new_with(uint64_t seed, const struct partition_options *options);
struct lab *lab_new(uint64_t seed);
void lab_free(struct lab *lab);

/* Registers the node anew, as a new process on the disk it has, and boots it. */
void lab_start(struct lab *lab, node_id_t node);
void lab_kill(struct lab *lab, node_id_t node, bool power_cut);
void lab_stop(struct lab *lab, node_id_t node); /* in order: all is synced */
void lab_mute(struct lab *lab, node_id_t node, bool mute);
/* Creates the topic; node 1 leads. */
void lab_create(struct lab *lab);
void lab_configure(struct lab *lab, const char *key, const char *value);
void lab_delete(struct lab *lab);
/* A new leader epoch; isr in decimal digits: 23 is {2, 3}. */
void lab_elect(struct lab *lab, node_id_t leader, uint32_t isr);
void lab_unclean(struct lab *lab, node_id_t leader, uint32_t isr);
const struct image_partition *lab_partition_now(const struct lab *lab);
uint32_t lab_isr(const struct lab *lab); /* sorted digits */

/* Delivers and syncs until nothing moves. */
void lab_pump(struct lab *lab);
/* One of what waits, drawn from the seed; false: nothing waits. */
bool lab_pump_one(struct lab *lab);
void lab_tick(struct lab *lab, uint64_t later_ms); /* and pumps */

struct lab_call *lab_produce(struct lab *lab, node_id_t node, int16_t acks, int records,
                             const char *value);
struct lab_call *lab_produce_as(struct lab *lab, node_id_t node, producer_id_t id, int32_t sequence,
                                const char *value);
struct lab_call *lab_fetch(struct lab *lab, node_id_t node, offset_t offset, uint32_t bytes_min);
struct lab_call *lab_list_offsets(struct lab *lab, node_id_t node, int64_t timestamp);
struct lab_call *lab_epoch_end(struct lab *lab, node_id_t node, leader_epoch_t asked);
void lab_call_begin(struct lab *lab, node_id_t node, struct lab_call *call);
struct lab_call *lab_call_new(struct lab *lab, enum request_type type);
err_t lab_err(const struct lab_call *call); /* it was answered */
/* The values of a fetch's records, joined by ','. */
const char *lab_values(const struct lab_call *call);
/* The same of a node's whole log, by its own log_read. */
const char *lab_log_values(struct lab *lab, node_id_t node);
struct partition_view lab_look(struct lab *lab, node_id_t node);

#endif
