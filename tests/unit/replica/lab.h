/* lab.h - one replica with a toy log: offsets and epochs, no bytes. Effects are executed at once,
 * but for flushes, which the test ends. This broker is node 1; replicas are 1, 2, 3 unless said. */
#ifndef KARST_TESTS_REPLICA_LAB_H
#define KARST_TESTS_REPLICA_LAB_H

#include "lib/check_main.h"
#include "replica/replica.h"

enum { LAB_RECORDS_MAX = 4096, LAB_EPOCHS_MAX = 64, LAB_WAITERS_MAX = 64 };

struct lab_log {
    offset_t start, end, flushed_end;
    leader_epoch_t epoch_of[LAB_RECORDS_MAX]; /* by offset */
    struct {
        leader_epoch_t epoch;
        offset_t start;
    } epochs[LAB_EPOCHS_MAX];
    uint32_t epoch_count;
};

struct lab_wait {
    struct replica_waiter waiter;
    bool answered;
};

struct replica_lab {
    struct replica *replica; /* malloc'd: it links to itself */
    struct lab_log *log;
    struct image_partition partition;
    struct replica_peer peers[REPLICAS_MAX];
    uint64_t now_ns;
    bool lease_valid, loop_gap;
    bool flush_before_ack;
    int32_t min_insync;
    err_t append_err; /* of the next append */
    struct lab_wait waits[LAB_WAITERS_MAX];
    uint32_t wait_count;
    uint32_t appending; /* records of the produce or data at hand */
    leader_epoch_t appending_epoch;
    const struct batch_info *batches;
    uint32_t batch_count;
    struct replica_proposal proposal; /* the last one */
    uint32_t proposals, flushes, hw_moves, reports, rebuilds, deltas, truncations, resets;
};

/* isr: up to the first 0. Zeroed fields: epoch 1, ISR {1, 2, 3}, min.insync 1, an empty log. */
struct lab_setup {
    leader_epoch_t epoch;
    node_id_t isr[REPLICAS_MAX];
    node_id_t replicas[REPLICAS_MAX];
    node_id_t leader; /* lab_follower: default 2 */
    int32_t min_insync;
    offset_t end, flushed_end,
        hw; /* of the log before, all of old_epoch; flushed_end 0: all of it */
    leader_epoch_t old_epoch;
    bool no_flush;
    leader_epoch_t last_unclean;
    uint32_t waiters_max;
};
struct replica_lab *replica_lab_leader(const struct lab_setup *setup);
struct replica_lab *replica_lab_follower(const struct lab_setup *setup);
void replica_lab_free(struct replica_lab *lab);

/* Steps with what the lab knows (time, lease), executes the effects. */
void replica_lab_step(struct replica_lab *lab, struct replica_event *ev);
/* The image says it again: after the test changed lab->partition (the partition epoch is raised).
 */
void replica_lab_image(struct replica_lab *lab);

/* One batch without a producer id; returns the wait's number. */
uint32_t replica_lab_produce(struct replica_lab *lab, int16_t acks, uint32_t records);
/* A batch of an idempotent producer. */
uint32_t replica_lab_produce_as(struct replica_lab *lab, producer_id_t id, int16_t epoch,
                                int32_t sequence, uint32_t records);
uint32_t replica_lab_produce_batches(struct replica_lab *lab, struct batch_info *batches,
                                     uint32_t count, int16_t acks);
struct batch_info lab_batch(producer_id_t id, int16_t epoch, int32_t sequence, uint32_t records);
bool replica_lab_answered(const struct replica_lab *lab, uint32_t wait);
err_t replica_lab_err(const struct replica_lab *lab, uint32_t wait); /* it was answered */

void replica_lab_append(struct replica_lab *lab, uint32_t records); /* acks=all, then flushed */
void replica_lab_flush(struct replica_lab *lab);                    /* all that is written */
void replica_lab_flush_to(struct replica_lab *lab, offset_t end);

/* The follower's delta: it has fetched and flushed to end, in the leader's last epoch. */
void replica_lab_fetch_from(struct replica_lab *lab, node_id_t follower, offset_t end);
void replica_lab_fetched(struct replica_lab *lab, struct replica_fetched fetched);
/* The place of a broker among the replicas. */
uint32_t replica_lab_place(const struct replica_lab *lab, node_id_t node);

/* The leader's answer, of this session and epoch, from the follower's end on. */
struct replica_arrived lab_data(const struct replica_lab *lab);
void replica_lab_data(struct replica_lab *lab, struct replica_arrived data, uint32_t records,
                      leader_epoch_t epoch);
void replica_lab_tick(struct replica_lab *lab, uint64_t later_ms);
void replica_lab_altered(struct replica_lab *lab, err_t err);
offset_t replica_lab_hw(const struct replica_lab *lab);
/* The proposal's nodes as decimal digits in order: {1, 3} is 13. */
int64_t replica_lab_proposed(const struct replica_lab *lab);

#endif
