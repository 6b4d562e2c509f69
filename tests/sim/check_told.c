/* check_told.c - what clients are told agrees with the truth; and what all is in the end. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "log/log.h"
#include "sim/check_internal.h"

/* ---- what clients are told ---- */

void check_data_acked(struct check_data *data, const struct check_ack *ack)
{
    struct truth *part = check_part(data, &ack->id);
    if (part == NULL) {
        sim_fail(data->run, "acknowledged records are of a partition", "an unknown one");
        return;
    }
    if (check_unclean_lately(data, part))
        return;
    size_t at = part->truth_count;
    if (ack->base_offset >= 0)
        at = check_truth_at(part, ack->base_offset);
    else
        while (at > 0 && (part->truth[at - 1].producer_id != ack->producer_id ||
                          part->truth[at - 1].base_sequence != ack->base_sequence))
            at--;
    if (ack->base_offset < 0 && at > 0)
        at--;
    const struct truth_batch *truth = &part->truth[at];
    if (at >= part->truth_count || truth->crc != ack->crc || truth->count != ack->count ||
        truth->producer_id != ack->producer_id || truth->base_sequence != ack->base_sequence ||
        (ack->base_offset >= 0 && truth->base != ack->base_offset)) {
        sim_fail(data->run, "what is acknowledged is committed",
                 "%s-%d: sequence %d of producer %" PRId64 " was acknowledged at %" PRId64
                 "; committed up to %" PRId64,
                 part->topic, part->id.index, ack->base_sequence, ack->producer_id,
                 ack->base_offset, part->truth_end);
        return;
    }
    data->run->counters.acknowledged += (uint64_t)ack->count;
    check_isr_has_all(data, part, "it was acknowledged");
}

void check_data_delivered(struct check_data *data, const struct partition_id *id, offset_t offset,
                          uint64_t serial)
{
    struct truth *part = check_part(data, id);
    ASSERT(part != NULL);
    if (offset < 0 || offset >= part->truth_end || part->serials[offset] != serial)
        sim_fail(data->run, "what is acknowledged is committed",
                 "%s-%d: libkarst's record %" PRIu64 " was delivered at %" PRId64
                 "; committed up to %" PRId64,
                 part->topic, part->id.index, serial, offset, part->truth_end);
    data->run->counters.acknowledged++;
    data->run->counters.delivered++;
    check_isr_has_all(data, part, "it was delivered");
}

void check_data_gave_up(struct check_data *data, const struct partition_id *id)
{
    struct truth *part = check_part(data, id);
    ASSERT(part != NULL);
    part->may_skip = true;
}

bool check_data_partition(const struct check_data *data, const char *topic, int32_t index,
                          struct partition_id *ret_id)
{
    for (size_t t = 0; t < data->topic_count; t++)
        if (strcmp(data->topics[t].load->name, topic) == 0 && index < data->topics[t].partitions) {
            *ret_id = data->topics[t].parts[index].id;
            return true;
        }
    return false;
}

/* It raised the high watermark, told of it and closed its table in one turn. */
static bool closed_as_it_told(const struct check_data *data, const struct truth *part,
                              offset_t high_watermark)
{
    for (unsigned i = 0; i < data->run->node_count; i++) {
        const struct held *replica = &part->replicas[i];
        if (replica->closed && replica->leading && high_watermark <= replica->end)
            return true;
    }
    return false;
}

void check_data_read(struct check_data *data, const struct partition_id *id, offset_t offset,
                     offset_t high_watermark, struct bytes batches, offset_t *ret_next)
{
    struct truth *part = check_part(data, id);
    ASSERT(part != NULL);
    *ret_next = offset;
    if (check_unclean_lately(data, part))
        return; /* read again, when it is settled what is left */
    if (high_watermark > part->truth_end && closed_as_it_told(data, part, high_watermark)) {
        if (high_watermark > part->told_end)
            part->told_end = high_watermark;
        return; /* read again, when another leads */
    }
    if (high_watermark > part->truth_end)
        sim_fail(data->run, "consumers see only what is committed",
                 "%s-%d: high watermark %" PRId64 " of %" PRId64, part->topic, part->id.index,
                 high_watermark, part->truth_end);
    offset_t next = offset;
    for (size_t at = 0; at < batches.len && !data->run->failed;) {
        struct batch_info info;
        err_t err = batch_check(batches.data + at, batches.len - at, &info);
        size_t nth = err == ERR_OK ? check_truth_at(part, info.base_offset) : part->truth_count;
        bool follows =
            err == ERR_OK && (at == 0 ? info.base_offset <= offset && info.last_offset >= offset
                                      : info.base_offset == next);
        if (!follows || nth == part->truth_count || part->truth[nth].base != info.base_offset ||
            part->truth[nth].crc != info.crc) {
            sim_fail(data->run, "what is read is what is committed",
                     "%s-%d: asked for %" PRId64 ", got %" PRId64 " with CRC %08" PRIx32
                     " (%s), committed up to %" PRId64,
                     part->topic, part->id.index, next, err == ERR_OK ? info.base_offset : -1,
                     err == ERR_OK ? info.crc : 0, err_name(err), part->truth_end);
            return;
        }
        next = info.last_offset + 1;
        at += info.bytes;
        data->run->counters.read += (uint64_t)info.record_count;
    }
    *ret_next = next;
}

bool check_data_settled(const struct check_data *data, const struct partition_id *id)
{
    const struct truth *part = check_part(data, id);
    return part != NULL && !check_unclean_lately(data, part);
}

/* ---- in the end ---- */

static bool part_converged(struct check_data *data, const struct truth *part, char *ret_why,
                           size_t size)
{
    const struct image_partition *p = &part->committed;
    if (p->leader == NO_NODE || p->isr_count != p->replica_count) {
        (void)snprintf(ret_why, size, "%s-%d: leader %d, %u of %u replicas in sync", part->topic,
                       part->id.index, p->leader, p->isr_count, p->replica_count);
        return false;
    }
    const struct held *leader = &part->replicas[p->leader - 1];
    for (unsigned i = 0; i < p->replica_count; i++) {
        const struct held *replica = &part->replicas[p->replicas[i] - 1];
        if (replica->seen && sim_node_up(sim_run_node(data->run, p->replicas[i])) &&
            replica->leading == (p->replicas[i] == p->leader) && replica->end == leader->end &&
            replica->hw == leader->end)
            continue;
        (void)snprintf(ret_why, size,
                       "%s-%d: node %d %s, end %" PRId64 " high watermark %" PRId64
                       "; leader %d, end %" PRId64,
                       part->topic, part->id.index, p->replicas[i],
                       !replica->seen     ? "has not opened it"
                       : replica->leading ? "leads"
                                          : "follows",
                       replica->end, replica->hw, p->leader, leader->end);
        return false;
    }
    return true;
}

bool check_data_converged(struct check_data *data, char *ret_why, size_t size)
{
    for (size_t t = 0; t < data->topic_count; t++) {
        if (data->topics[t].partitions == 0) {
            (void)snprintf(ret_why, size, "topic %s is not there", data->topics[t].load->name);
            return false;
        }
        for (int32_t i = 0; i < data->topics[t].partitions; i++)
            if (!part_converged(data, &data->topics[t].parts[i], ret_why, size))
                return false;
    }
    return true;
}

void check_data_final(struct check_data *data)
{
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            struct truth *part = &data->topics[t].parts[i];
            if (part->told_end > part->truth_end && part->unclean_epoch < 0)
                sim_fail(data->run, "consumers see only what is committed",
                         "%s-%d: told to %" PRId64 ", committed is %" PRId64, part->topic,
                         part->id.index, part->told_end, part->truth_end);
            for (unsigned k = 0; k < part->committed.replica_count && !data->run->failed; k++) {
                struct sim_node *node = sim_run_node(data->run, part->committed.replicas[k]);
                unsigned shard = partition_shard(&part->id, RUN_SHARDS);
                struct log *log = partition_log(shard_partitions(node->shards[shard]), &part->id);
                if (log == NULL || log_end(log) != part->truth_end)
                    sim_fail(data->run, "in the end every replica has the same",
                             "%s-%d on node %d ends at %" PRId64 ", committed is %" PRId64,
                             part->topic, part->id.index, node->id, log == NULL ? -1 : log_end(log),
                             part->truth_end);
                else
                    check_walk(data, part, node, 0, part->truth_end, false);
            }
        }
}
