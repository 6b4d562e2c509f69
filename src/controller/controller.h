/* controller.h - the active controller's decisions: (state, event) → records and replies. Pure.
 *
 * It decides on the speculative image: what is applied plus all that it proposed in this term (R3).
 * The quorum gives it requests, ticks and commits, takes its records, proposes them in raft entries
 * (one in flight, the rest gathered into the next, R22), and sends replies when what they tell is
 * committed.
 *
 *   INACTIVE ──controller_activate [own-term entry applied]──▶ ACTIVE
 *   ACTIVE ──controller_deactivate [leadership lost]──▶ INACTIVE   (speculation is dropped whole)
 *
 * The life of a broker, by its record's state:
 *
 *   ──RegisterBroker──▶ FENCED ──heartbeat [its image shows that it leads nothing]──▶ ACTIVE
 *   ACTIVE ──silence, proof of death, want_fence──▶ FENCED
 *   ACTIVE ──heartbeat with want_shutdown──▶ LEAVING ──silence, proof of death──▶ FENCED
 *   any ──RegisterBroker of a new incarnation──▶ FENCED, all that the old one led ended (R2)
 *
 * Records of one decision may be cut into entries between any two: what must be seen whole is in a
 * transaction already (R23), and the rest stands record by record; order is all that they need.
 *
 * Thread: the quorum's. Errors: in replies. Soft state (heartbeat times) is never in the image;
 * after activation every broker counts as just seen, and none is fenced for silence before a
 * session timeout has passed (R10). */
#ifndef KARST_CONTROLLER_CONTROLLER_H
#define KARST_CONTROLLER_CONTROLLER_H

#include "base/arena.h"
#include "base/rng.h"
#include "metadata/image.h"
#include "metadata/record.h"
#include "proto/rpc.pb-c.h"

struct controller_config {
    uint64_t session_timeout_ns; /* broker.session.timeout.ms */
    int32_t default_partitions;  /* num.partitions */
    int32_t default_replication_factor;
    int32_t topic_partitions_max;
    uint64_t preferred_leader_wait_ns; /* up and in sync for so long before it leads again */
};

/* A request to the controller, decoded: one of RegisterBroker, Heartbeat, AlterPartition,
 * AllocateProducerIds, CreateTopics, DeleteTopics, ElectLeaders (wire methods of Cluster and
 * Admin). The message's own descriptor says which. */
struct controller_request {
    uint16_t method;
    const ProtobufCMessage *message;
    node_id_t from; /* the connection's hello: -1 for a client */
    broker_epoch_t from_epoch;
};

/* What a decision gives. The reply is valid when commit of the records is known; where there are no
 * records, when everything proposed before is committed (so that nothing speculative is told). */
struct controller_decision {
    struct record_list records; /* init'd by the caller, appended to; to be proposed in order */
    /* In the arena; never NULL after controller_handle. The method's reply, or Error where there
     * was no room for it or no such method. */
    ProtobufCMessage *reply;
    bool reply_at_once; /* tells nothing of the state (refusals that stay true) */
};

struct controller;
/* rng, for placement, must outlive it. */
struct controller *controller_new(const struct controller_config *config, struct rng *rng);
void controller_free(struct controller *controller); /* accepts NULL */

/* image: all applied in this term, the own-term entry included. first entries (fencing of leaders
 * that are fenced, aborted transactions, ...) go into ret_records. next_offset: of the next entry.
 */
void controller_activate(struct controller *controller, struct image *image, int64_t next_offset,
                         uint64_t now_ns, struct record_list *ret_records);
void controller_deactivate(struct controller *controller);
bool controller_active(const struct controller *controller);

/* Decides. The records are already applied to the speculative image when this returns: they must be
 * proposed, or the controller deactivated. entry_offset: the index that the records' entry will
 * have. */
void controller_handle(struct controller *controller, const struct controller_request *request,
                       int64_t entry_offset, uint64_t now_ns, struct arena *arena,
                       struct controller_decision *ret_decision);
/* Silence, preferred leaders, unclean elections where configured. At least every session / 10. */
void controller_tick(struct controller *controller, int64_t entry_offset, uint64_t now_ns,
                     struct record_list *ret_records);
/* When somebody will have been silent for too long, if nothing comes of him: time for a tick.
 * UINT64_MAX: nobody will. */
uint64_t controller_silence_due_ns(const struct controller *controller);
/* Proof of death (R10): the broker's own address refused a connection, for the incarnation that is
 * registered now. Fences at once. */
void controller_broker_died(struct controller *controller, node_id_t node,
                            const struct uuid *incarnation, int64_t entry_offset, uint64_t now_ns,
                            struct record_list *ret_records);
/* The voters are these now: of the committed configuration, in its order. */
void controller_voters(struct controller *controller, const Karst__Voter *const *voters,
                       size_t voter_count, int64_t entry_offset, uint64_t now_ns,
                       struct record_list *ret_records);
/* R16: the disk of this node's metadata log is at its reserve (or no more): until it is told
 * otherwise, what would make the metadata grow is refused. Also while inactive. */
void controller_set_low_space(struct controller *controller, bool low);
/* The committed image moved (all entries up to its offset are applied). */
void controller_committed(struct controller *controller, struct image *image);
/* The speculative image, until the next call; NULL when inactive. */
const struct image *controller_view(const struct controller *controller);

/* The first records of a new cluster: feature level, cluster, voters. */
void controller_bootstrap_records(const struct uuid *cluster_id, const struct uuid *recovery_id,
                                  const Karst__Voter *const *voters, size_t voter_count,
                                  struct record_list *ret_records);

#endif
