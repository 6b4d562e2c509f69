#include <string.h>

#include "base/assert.h"
#include "base/canary.h"
#include "metadata/state.h"

/* Partitions are compared as memory, and what their lists leave free is zero. */
static_assert(sizeof(struct image_partition) == 4 + 3 * REPLICAS_MAX * sizeof(node_id_t) +
                                                    REPLICAS_MAX * sizeof(struct uuid) + 16,
              "no padding");

static bool nodes_hold(const node_id_t *nodes, size_t count, node_id_t node)
{
    for (size_t i = 0; i < count; i++)
        if (nodes[i] == node)
            return true;
    return false;
}

/* Different node ids, min to REPLICAS_MAX of them, each among the replicas unless those are NULL.
 */
static bool nodes_take(const int32_t *from, size_t count, size_t min,
                       const struct image_partition *assigned, node_id_t *into, uint8_t *ret_count)
{
    if (count < min || count > REPLICAS_MAX)
        return false;
    memset(into, 0, REPLICAS_MAX * sizeof(*into));
    for (size_t i = 0; i < count; i++) {
        if (from[i] < 0 || nodes_hold(into, i, from[i]))
            return false;
        if (assigned != NULL && image_partition_replica_index(assigned, from[i]) < 0)
            return false;
        into[i] = from[i];
    }
    *ret_count = (uint8_t)count;
    return true;
}

static bool directories_take(const ProtobufCBinaryData *from, size_t count,
                             struct image_partition *into)
{
    if (count == 0) /* not said */
        return true;
    if (count != into->replica_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!apply_uuid(&from[i], &into->directories[i]))
            return false;
    return true;
}

/* What holds for every partition, however it came to be. */
static bool partition_sound(const struct image_partition *p)
{
    if (p->leader != NO_NODE && !image_partition_in_isr(p, p->leader))
        return false;
    for (int i = 0; i < p->elr_count; i++)
        if (image_partition_in_isr(p, p->elr[i])) /* KIP-966: one or the other */
            return false;
    return p->leader >= NO_NODE && p->leader_epoch >= 0 && p->partition_epoch >= 0 &&
           p->recovery_state <= 1 && p->last_unclean_leader_epoch >= -1 &&
           p->last_unclean_leader_epoch <= p->leader_epoch;
}

err_t apply_partition(struct apply *apply, const Karst__PartitionRecord *record)
{
    struct image *image = apply->image;
    struct uuid id;
    if (!apply_uuid(&record->topic_id, &id))
        return ERR_INVALID_REQUEST;
    /* Reassignment comes with a later feature level: nothing here would act on it (R27). */
    if (record->n_last_known_elr > 0 || record->n_adding_replicas > 0 ||
        record->n_removing_replicas > 0)
        return ERR_UNSUPPORTED_VERSION;
    const struct topic *found = image_find_topic(image, &id);
    if (found == NULL)
        return ERR_UNKNOWN_TOPIC_ID;
    if (record->index != found->pub.partition_count || record->index >= TOPIC_PARTITIONS_MAX)
        return ERR_INVALID_PARTITIONS;

    struct image_partition p = {
        .leader = record->leader,
        .leader_epoch = record->leader_epoch,
        .partition_epoch = record->partition_epoch,
        .last_unclean_leader_epoch = record->last_unclean_leader_epoch,
    };
    if (record->recovery_state > 1)
        return ERR_UNSUPPORTED_VERSION;
    p.recovery_state = (uint8_t)record->recovery_state;
    if (!nodes_take(record->replicas, record->n_replicas, 1, NULL, p.replicas, &p.replica_count) ||
        !nodes_take(record->isr, record->n_isr, 1, &p, p.isr, &p.isr_count) ||
        !nodes_take(record->elr, record->n_elr, 0, &p, p.elr, &p.elr_count) ||
        !directories_take(record->directories, record->n_directories, &p) || !partition_sound(&p))
        return ERR_INVALID_REQUEST;

    struct topic *topic = image_own_topic(image, &id);
    struct partition_set *set = topic_own_partitions(topic, 1);
    set->at[set->count++] = p;
    topic->pub.partition_count = set->count;
    image->partition_count++;
    image->digest += digest_partition(&id, record->index, &p);
    tracker_partition(apply->tracker, &id, record->index);
    return ERR_OK;
}

/* The state after the change, in *p. */
static err_t partition_changed(const Karst__PartitionChangeRecord *record,
                               struct image_partition *p)
{
    const leader_epoch_t epoch_before = p->leader_epoch;
    const leader_epoch_t unclean_before = p->last_unclean_leader_epoch;
    /* R3: decided on exactly this state. */
    if (record->partition_epoch != (int64_t)p->partition_epoch + 1)
        return ERR_INVALID_UPDATE_VERSION;
    p->partition_epoch = record->partition_epoch;
    if (record->isr_set && !nodes_take(record->isr, record->n_isr, 1, p, p->isr, &p->isr_count))
        return ERR_INVALID_REQUEST;
    if (record->elr_set && !nodes_take(record->elr, record->n_elr, 0, p, p->elr, &p->elr_count))
        return ERR_INVALID_REQUEST;
    if (record->has_leader_epoch)
        p->leader_epoch = record->leader_epoch;
    if (record->has_leader)
        p->leader = record->leader;
    if (record->has_recovery_state) {
        if (record->recovery_state > 1)
            return ERR_UNSUPPORTED_VERSION;
        p->recovery_state = (uint8_t)record->recovery_state;
    }
    if (record->has_last_unclean_leader_epoch)
        p->last_unclean_leader_epoch = record->last_unclean_leader_epoch;
    if (!directories_take(record->directories, record->n_directories, p))
        return ERR_INVALID_REQUEST;
    /* R2: any election, also of the same broker, begins a higher leader epoch. */
    if (p->leader_epoch < epoch_before)
        return ERR_INVALID_REQUEST;
    if (record->has_leader && p->leader_epoch == epoch_before &&
        !CANARY("controller_keeps_leader_epoch_on_reelection"))
        return ERR_INVALID_REQUEST;
    if (p->last_unclean_leader_epoch < unclean_before) /* R8: for good */
        return ERR_INVALID_REQUEST;
    return partition_sound(p) ? ERR_OK : ERR_INVALID_REQUEST;
}

err_t apply_partition_change(struct apply *apply, const Karst__PartitionChangeRecord *record)
{
    struct image *image = apply->image;
    struct uuid id;
    if (!apply_uuid(&record->topic_id, &id))
        return ERR_INVALID_REQUEST;
    const struct topic *found = image_find_topic(image, &id);
    if (found == NULL)
        return ERR_UNKNOWN_TOPIC_ID;
    if (record->index < 0 || record->index >= found->pub.partition_count)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    struct image_partition after = found->pub.partitions[record->index];
    err_t err = partition_changed(record, &after);
    if (err != ERR_OK)
        return err;

    struct topic *topic = image_own_topic(image, &id);
    struct image_partition *place = &topic_own_partitions(topic, 0)->at[record->index];
    image->digest -= digest_partition(&id, record->index, place);
    image->digest += digest_partition(&id, record->index, &after);
    *place = after;
    tracker_partition(apply->tracker, &id, record->index);
    return ERR_OK;
}
