/* lab.h - a controller, the committed image behind it, and requests made in one line.
 *
 * What the controller decides waits in proposed until lab_commit, which cuts it into entries as the
 * quorum does, applies them to the committed image, and checks that both images are the same then.
 */
#ifndef KARST_TESTS_CONTROLLER_LAB_H
#define KARST_TESTS_CONTROLLER_LAB_H

#include <check.h>

#include "controller/controller.h"

#define LAB_MS(ms) ((uint64_t)(ms)*1000000)

enum { LAB_SESSION_MS = 2000, LAB_PREFERRED_MS = 5000 };

struct lab {
    struct controller *controller;
    struct rng rng;
    struct arena arena; /* of the last reply */
    struct image *committed;
    struct record_list proposed;
    struct record_list last; /* of the last decision alone */
    uint64_t now_ns;
};

/* A cluster with brokers 1 to brokers, all active, and its controller, which took over long ago. */
void lab_init(struct lab *lab, int brokers);
void lab_fini(struct lab *lab);

struct uuid lab_id(uint64_t number);
struct uuid lab_incarnation(node_id_t node, int life);
const struct image *lab_view(const struct lab *lab);

/* From a broker (from >= 0) or a client (-1). The reply lives until the next request. */
const void *lab_ask(struct lab *lab, const ProtobufCMessage *request, node_id_t from);
void lab_commit(struct lab *lab);
void lab_tick(struct lab *lab, uint64_t after_ms);
/* As time goes by with all of brokers but except heartbeating: ticks every 200 ms, commits. */
void lab_run(struct lab *lab, uint64_t ms, node_id_t except);
void lab_died(struct lab *lab, node_id_t node, int life);
/* Another controller takes over at the committed state; what was not committed is lost. */
void lab_take_over(struct lab *lab);

struct lab_registration {
    node_id_t node;
    int life;           /* of the incarnation id: 0 is what lab_init registers */
    uint64_t directory; /* 0: the one that the node always has */
    const struct partition_id *lost;
    size_t lost_count;
    const char *rack;
    uint64_t cluster; /* 0: the right one */
    bool verified;    /* its directory was (R14) */
    bool clean;       /* the last stop was */
    uint64_t boot;    /* 0: the machine runs on */
};
const Karst__RegisterBrokerReply *lab_register(struct lab *lab,
                                               const struct lab_registration *registration);
/* With the metadata offset of the committed image, and the epoch of the view. */
const Karst__HeartbeatReply *lab_heartbeat(struct lab *lab, node_id_t node);
const Karst__HeartbeatReply *lab_heartbeat_at(struct lab *lab, node_id_t node, int64_t offset);
const Karst__HeartbeatReply *lab_leave(struct lab *lab, node_id_t node);
/* Register, commit, heartbeat, commit: active. */
void lab_join(struct lab *lab, node_id_t node, int life);

/* NULL-terminated "key", "value" pairs follow. */
const Karst__TopicResult *lab_create(struct lab *lab, const char *name, int32_t partitions,
                                     int32_t replication_factor, ...);
/* One partition on these brokers, in this order; the ISR is those of them that are active. */
struct partition_id lab_assigned(struct lab *lab, const char *name, int count, ...);
const struct image_partition *lab_partition(const struct lab *lab, const struct partition_id *id);
struct partition_id lab_id_of(const struct lab *lab, const char *topic, int32_t index);

/* AlterPartition as the leader of the view would send it: the ISR to be, with the view's epochs. */
struct lab_alter {
    struct partition_id id;
    node_id_t from;                                /* 0: the view's leader */
    int32_t leader_epoch_off, partition_epoch_off; /* added to the right ones */
    int64_t member_epoch_off;                      /* of the last member */
    int isr_count;
    node_id_t isr[REPLICAS_MAX];
};
const Karst__AlterPartitionItemReply *lab_alter(struct lab *lab, const struct lab_alter *alter);

/* "1 [1,2,3] e0 p0": leader, ISR, leader epoch, partition epoch. Valid until the next call. */
const char *lab_state(const struct lab *lab, const struct partition_id *id);
/* Types of the records of the last decision: "BrokerChange PartitionChange PartitionChange". */
const char *lab_records(const struct lab *lab);

#endif
