/* check_internal.h - private to check_data.c (the truth, and replicas against it), check_told.c
 * (what clients are told; the end), check_lost.c (lost disks), check_unclean.c (topics that may
 * lose records). */
#ifndef KARST_TESTS_SIM_CHECK_INTERNAL_H
#define KARST_TESTS_SIM_CHECK_INTERNAL_H

#include "sim/check.h"
#include "sim/sim_node.h"

enum { TOPICS_MAX = 8, EPOCHS_MAX = 4096, PRODUCERS_MAX = 64 };

struct truth_batch {
    offset_t base, last;
    uint32_t crc;
    int32_t count;
    producer_id_t producer_id;
    int32_t base_sequence;
};

/* One replica as it was after the last turn of its shard. */
struct held {
    bool seen;   /* in this life */
    bool closed; /* by a shutdown: what it was at last was not seen */
    bool lost;   /* with its disk, while it was in the ISR: until it is not (R1) */
    unsigned life;
    bool leading;
    leader_epoch_t last_epoch; /* of its log */
    leader_epoch_t leader_epoch;
    offset_t end, durable, hw;
    offset_t verified;          /* its log equals the truth up to here, in this life */
    uint64_t truncations, torn; /* counters of this life, already summed */
};

struct sequence {
    producer_id_t id;
    int32_t next;
};

struct truth {
    struct partition_id id;
    const struct load_topic *load;
    const char *topic;
    struct truth_batch *truth;
    size_t truth_count, truth_capacity;
    offset_t truth_end;
    offset_t told_end; /* by a leader in its last turn, which nobody saw: true by the end */
    node_id_t leader_of[EPOCHS_MAX];  /* by leader epoch; 0: nobody yet */
    node_id_t elected[EPOCHS_MAX];    /* the same, as committed: it may not know it yet */
    struct image_partition committed; /* newest */
    bool known;
    struct held replicas[RUN_NODES_MAX];
    struct sequence sequences[PRODUCERS_MAX];
    size_t sequence_count;
    bool may_skip;     /* libkarst gave a record up */
    uint64_t *serials; /* by offset: libkarst's, the first 8 bytes of each value */
    size_t serial_capacity;
    uint64_t next_serial;
    /* of topics that may lose records */
    leader_epoch_t unclean_epoch; /* of the last unclean election; -1: none */
    bool cut_due;                 /* its leader has not been seen to lead yet */
    uint64_t cut_ns;              /* when it was */
};

struct topic {
    const struct load_topic *load;
    int32_t partitions; /* 0: not made yet */
    struct truth *parts;
};

struct check_data {
    struct sim_run *run;
    struct topic topics[TOPICS_MAX];
    size_t topic_count;
    uint64_t committed_ns[3]; /* when the image moved, the newest first */
    struct {
        broker_epoch_t epoch;
        uint64_t since_ns;
    } active[RUN_NODES_MAX]; /* brokers, in the image; UINT64_MAX / 2: not active */
};

/* No decision of what is committed now was made earlier: two entries at most were before it, one of
 * them on its way. */
uint64_t check_decided_ns(const struct check_data *data);
struct truth *check_part(const struct check_data *data, const struct partition_id *id);
/* The first batch that ends above offset; truth_count: none. */
size_t check_truth_at(const struct truth *part, offset_t offset);
/* Whoever may be elected has all that is committed, on its disk. */
void check_isr_has_all(struct check_data *data, const struct truth *part, const char *when);
/* The replica's log from..until is what the truth says; adds: it may tell more of it. */
void check_walk(struct check_data *data, struct truth *part, const struct sim_node *node,
                offset_t from, offset_t until, bool adds);

/* ---- check_unclean.c ---- */

/* The committed state moved from was. */
void check_unclean_committed(struct check_data *data, struct truth *part,
                             const struct image_partition *was);
/* Before a replica is compared with the truth: true, it is not to be. */
bool check_unclean_skips(struct check_data *data, struct truth *part, const struct sim_node *node,
                         const struct partition_view *view);
/* What was told lately may be of before an unclean election. */
bool check_unclean_lately(const struct check_data *data, const struct truth *part);

#endif
