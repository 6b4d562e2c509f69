/* placement.h - which brokers hold a new topic's partitions (design §6).
 *
 *   leader of partition i:   broker (start + i) mod n
 *   its j-th other replica:  the broker 1 + (shift + j) mod (n - 1) places after the leader, where
 * shift goes up by one with each round over the brokers
 *
 * as Kafka does, so that the followers of one leader are spread over all others. With racks, the
 * brokers are dealt from the racks in turn, and a rack gets a second replica only when each has
 * one. */
#ifndef KARST_CONTROLLER_PLACEMENT_H
#define KARST_CONTROLLER_PLACEMENT_H

#include "base/rng.h"
#include "metadata/image.h"

struct placement {
    const struct image_broker **brokers; /* the active ones, in the order of dealing */
    size_t count, rack_count;            /* racks: 0 where not every broker names one */
    size_t *rack_of;                     /* by place in brokers */
    uint64_t start, shift;
};

/* Over the image's ACTIVE brokers; must not outlive it. */
void placement_init(struct placement *p, const struct image *image, struct rng *rng);
void placement_fini(struct placement *p);
/* count different brokers for partition index, the leader first; count ≤ p->count, ≤ REPLICAS_MAX.
 */
void placement_choose(const struct placement *p, int32_t index, size_t count, node_id_t *ret_nodes);

#endif
