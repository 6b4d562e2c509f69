/* check.h - what must always be true, checked after each turn of a node's actor and at each
 * acknowledgement and read of a client.
 *
 * The truth about a partition is the row of batches below the highest high watermark that any
 * leader has had: read from that leader's log when the watermark moves, never changed after.
 * Whatever was acknowledged, read, or stands below a replica's own high watermark must be in it, at
 * its offset, with its CRC; sequences of one producer follow each other in it without gap or
 * repetition.
 *
 * Topics whose owners allow that records are lost keep them, too, but where a committed unclean
 * election says so: the truth is cut to what the elected leader has.
 *
 * The truth about the quorum is who led each term, the term of each committed index, and the digest
 * of the image there. */
#ifndef KARST_TESTS_SIM_CHECK_H
#define KARST_TESTS_SIM_CHECK_H

#include "metadata/image.h"
#include "sim/sim_load.h"

/* ---- data ---- */

struct check_data *check_data_new(struct sim_run *run);
void check_data_free(struct check_data *data);
/* Partitions that are checked: all of this topic's, which outlives the run. */
void check_data_topic(struct check_data *data, const struct load_topic *topic);
/* The newest committed image has moved. */
void check_data_image(struct check_data *data, const struct image *image);
void check_data_shard(struct check_data *data, struct sim_node *node, unsigned shard);
/* The node's process is about to end; its disk keeps what was flushed. */
void check_data_node_stops(struct check_data *data, struct sim_node *node);

/* Its disk froze in this turn: what was under way may be there in part. */
void check_data_node_torn(struct check_data *data, struct sim_node *node);
/* R1: may this node lose a replica (folder "TOPIC-INDEX", NULL: all), so that each ISR still has a
 * member with its disk? */
bool check_data_may_lose(const struct check_data *data, const struct sim_node *node,
                         const char *folder);
/* What was lost still counts somewhere. */
bool check_data_any_lost(const struct check_data *data);
void check_data_lost(struct check_data *data, const struct sim_node *node, const char *folder);

struct check_ack {
    struct partition_id id;
    offset_t base_offset; /* -1: not said */
    uint32_t crc;
    int32_t count;
    producer_id_t producer_id;
    int32_t base_sequence;
};
void check_data_acked(struct check_data *data, const struct check_ack *ack);
/* libkarst said that this record of its stands there. Its values are serial numbers, which grow by
 * one in each partition; one that it gave up leaves a gap. */
void check_data_delivered(struct check_data *data, const struct partition_id *id, offset_t offset,
                          uint64_t serial);
void check_data_gave_up(struct check_data *data, const struct partition_id *id);
/* By name; false: it is not there yet. */
bool check_data_partition(const struct check_data *data, const char *topic, int32_t index,
                          struct partition_id *ret_id);
/* bytes: batches that a fetch at offset gave. *ret_next: the offset after them. */
void check_data_read(struct check_data *data, const struct partition_id *id, offset_t offset,
                     offset_t high_watermark, struct bytes batches, offset_t *ret_next);
/* End of what is known to be committed; 0 for an unknown one. */
offset_t check_data_end(const struct check_data *data, const struct partition_id *id);
/* False: an unclean election was lately, and what clients are told may be of before it. */
bool check_data_settled(const struct check_data *data, const struct partition_id *id);
/* After all has healed: every replica has the same, to its end. Says what is missing yet. */
bool check_data_converged(struct check_data *data, char *ret_why, size_t size);
/* Every replica's log, batch by batch. */
void check_data_final(struct check_data *data);

/* ---- leases (R10), offsets in heartbeats (R30) ---- */

/* A frame leaves a node: without a lease nothing is answered that another leader may contradict;
 * and a heartbeat tells what all shards have. */
void check_lease_frame(struct sim_run *run, struct sim_actor *actor, const struct frame *frame);
/* The newest committed image: whom it fences holds no lease. */
void check_lease_image(struct sim_run *run, const struct image *image);

/* ---- quorum ---- */

struct check_quorum *check_quorum_new(struct sim_run *run);
void check_quorum_free(struct check_quorum *check);
void check_quorum_turn(struct check_quorum *check, struct sim_node *node);
void check_quorum_node_stops(struct check_quorum *check, struct sim_node *node);
void check_quorum_shard(struct check_quorum *check, struct sim_node *node, unsigned shard);
/* The newest image that was committed; NULL: none yet. */
struct image *check_quorum_image(const struct check_quorum *check);
bool check_quorum_converged(const struct check_quorum *check, char *ret_why, size_t size);
/* Who takes itself for the active controller, the first of them; NULL: nobody. */
struct sim_node *check_quorum_controller(const struct check_quorum *check);
/* Where each node stands, into the timeline. */
void check_quorum_describe(const struct check_quorum *check);

#endif
