#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/log.h"
#include "sim/check_internal.h"

struct check_data *check_data_new(struct sim_run *run)
{
    struct check_data *data = calloc(1, sizeof *data);
    ASSERT(data != NULL);
    data->run = run;
    return data;
}

void check_data_free(struct check_data *data)
{
    for (size_t t = 0; t < data->topic_count; t++) {
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            free(data->topics[t].parts[i].truth);
            free(data->topics[t].parts[i].serials);
        }
        free(data->topics[t].parts);
    }
    free(data);
}

void check_data_topic(struct check_data *data, const struct load_topic *topic)
{
    ASSERT(data->topic_count < TOPICS_MAX);
    data->topics[data->topic_count++] = (struct topic){.load = topic};
}

struct truth *check_part(const struct check_data *data, const struct partition_id *id)
{
    for (size_t t = 0; t < data->topic_count; t++) {
        const struct topic *topic = &data->topics[t];
        if (topic->partitions > 0 && uuid_equal(&topic->parts[0].id.topic, &id->topic) &&
            id->index >= 0 && id->index < topic->partitions)
            return &topic->parts[id->index];
    }
    return NULL;
}

offset_t check_data_end(const struct check_data *data, const struct partition_id *id)
{
    const struct truth *part = check_part(data, id);
    return part == NULL ? 0 : part->truth_end;
}

/* ---- the committed state of partitions ---- */

/* Who comes back from a power cut is a member until it has registered (R20). */
static bool node_registered(const struct sim_run *run, const struct sim_node *node)
{
    struct shard_view view;
    const struct image_broker *broker = image_broker(check_quorum_image(run->quorum), node->id);
    if (!sim_node_up(node) || node->shards[0] == NULL || broker == NULL)
        return false;
    shard_look(node->shards[0], &view);
    return view.broker_epoch == broker->epoch;
}

void check_isr_has_all(struct check_data *data, const struct truth *part, const char *when)
{
    for (unsigned i = 0; i < part->committed.isr_count && !part->cut_due; i++) {
        const struct sim_node *node = sim_run_node(data->run, part->committed.isr[i]);
        const struct held *replica = &part->replicas[node->id - 1];
        bool cached = part->load->cached;
        if (cached && !node_registered(data->run, node))
            continue;
        offset_t has = cached ? replica->end : replica->durable;
        if (has < part->truth_end && !replica->lost)
            sim_fail(data->run, "every member of the ISR has all that is committed on its disk",
                     "%s-%d: %" PRId64 " is committed, node %d has flushed %" PRId64
                     " and is in the ISR at partition epoch %d (%s)",
                     part->topic, part->id.index, part->truth_end, node->id, has,
                     part->committed.partition_epoch, when);
    }
}

static bool isr_has(const struct image_partition *p, node_id_t node)
{
    return image_partition_in_isr(p, node);
}

static void part_committed(struct check_data *data, struct truth *part,
                           const struct image_partition *now)
{
    struct image_partition *was = &part->committed;
    struct run_counters *counters = &data->run->counters;
    if (part->known && was->partition_epoch == now->partition_epoch)
        return;
    if (part->known) {
        for (unsigned i = 0; i < was->isr_count; i++)
            counters->isr_shrinks += !isr_has(now, was->isr[i]);
        for (unsigned i = 0; i < now->isr_count; i++)
            counters->isr_growths += !isr_has(was, now->isr[i]);
        counters->leader_changes += now->leader != was->leader && now->leader != NO_NODE;
        if (now->partition_epoch < was->partition_epoch || now->leader_epoch < was->leader_epoch)
            sim_fail(data->run, "epochs of a partition never fall", "%s-%d: %d/%d after %d/%d",
                     part->topic, part->id.index, now->leader_epoch, now->partition_epoch,
                     was->leader_epoch, was->partition_epoch);
        if (now->leader != was->leader && now->leader != NO_NODE &&
            now->leader_epoch == was->leader_epoch)
            sim_fail(data->run, "a new leader has a new leader epoch", "%s-%d: node %d in epoch %d",
                     part->topic, part->id.index, now->leader, now->leader_epoch);
    }
    if (now->isr_count == 0)
        sim_fail(data->run, "an ISR has a member", "%s-%d", part->topic, part->id.index);
    if (now->leader != NO_NODE && !isr_has(now, now->leader))
        sim_fail(data->run, "a leader is in its ISR", "%s-%d: node %d", part->topic, part->id.index,
                 now->leader);
    char isr[64] = "";
    for (unsigned i = 0; i < now->isr_count; i++)
        (void)snprintf(isr + strlen(isr), sizeof isr - strlen(isr), " %d", now->isr[i]);
    sim_say(data->run, "committed: %s-%d leader %d epoch %d/%d isr%s", part->topic, part->id.index,
            now->leader, now->leader_epoch, now->partition_epoch, isr);
    if (now->leader != NO_NODE && now->leader_epoch < EPOCHS_MAX)
        part->elected[now->leader_epoch] = now->leader;
    const struct image_partition before = part->committed;
    part->committed = *now;
    if (part->known)
        check_unclean_committed(data, part, &before);
    part->known = true;
    for (unsigned i = 0; i < data->run->node_count; i++)
        part->replicas[i].lost = part->replicas[i].lost && isr_has(now, (node_id_t)i + 1);
    check_isr_has_all(data, part, "the ISR changed");
}

/* It has registered with its new disk: it is no member of what it lost (R1). */
static void swapped_disks(struct check_data *data, const struct image *image)
{
    for (unsigned i = 0; i < data->run->node_count; i++) {
        struct sim_node *node = data->run->nodes[i];
        const struct image_broker *broker = image_broker(image, node->id);
        for (uint32_t k = 0; broker != NULL && k < broker->directory_count; k++)
            if (uuid_equal(&broker->directories[k], &node->directory))
                node->disk_swapped = false;
    }
}

static void image_moved(struct check_data *data, const struct image *image)
{
    uint64_t now = data->run->world.now_ns;
    memmove(&data->committed_ns[1], &data->committed_ns[0], 2 * sizeof data->committed_ns[0]);
    data->committed_ns[0] = now;
    for (unsigned i = 0; i < data->run->node_count; i++) {
        const struct image_broker *broker = image_broker(image, (node_id_t)i + 1);
        bool active = broker != NULL && broker->state == BROKER_STATE_ACTIVE;
        bool was = data->active[i].since_ns != UINT64_MAX / 2;
        if (active && (!was || data->active[i].epoch != broker->epoch))
            data->active[i].since_ns = now;
        data->active[i].epoch = active ? broker->epoch : -1;
        if (!active)
            data->active[i].since_ns = UINT64_MAX / 2;
    }
}

uint64_t check_decided_ns(const struct check_data *data)
{
    return data->committed_ns[2];
}

void check_data_image(struct check_data *data, const struct image *image)
{
    image_moved(data, image);
    swapped_disks(data, image);
    for (size_t t = 0; t < data->topic_count; t++) {
        struct topic *topic = &data->topics[t];
        const struct image_topic *now = image_topic_by_name(image, topic->load->name);
        if (now == NULL)
            continue;
        if (topic->partitions == 0) {
            topic->partitions = now->partition_count;
            topic->parts = calloc((size_t)now->partition_count, sizeof topic->parts[0]);
            ASSERT(topic->parts != NULL);
            for (int32_t i = 0; i < now->partition_count; i++) {
                topic->parts[i].id = (struct partition_id){now->id, i};
                topic->parts[i].load = topic->load;
                topic->parts[i].topic = topic->load->name;
                topic->parts[i].unclean_epoch = -1;
            }
        }
        for (int32_t i = 0; i < topic->partitions; i++)
            part_committed(data, &topic->parts[i], &now->partitions[i]);
    }
}

/* ---- the truth ---- */

size_t check_truth_at(const struct truth *part, offset_t offset)
{
    size_t low = 0, high = part->truth_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (part->truth[middle].last < offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void truth_sequence(struct check_data *data, struct truth *part,
                           const struct batch_info *info)
{
    size_t i = 0;
    while (i < part->sequence_count && part->sequences[i].id != info->producer_id)
        i++;
    if (i == part->sequence_count) {
        ASSERT(i < PRODUCERS_MAX);
        part->sequences[part->sequence_count++] = (struct sequence){info->producer_id, 0};
    }
    if (info->base_sequence != part->sequences[i].next)
        sim_fail(data->run, "an idempotent producer's records stand once and in order",
                 "%s-%d at %" PRId64 ": sequence %d of producer %" PRId64 " after %d", part->topic,
                 part->id.index, info->base_offset, info->base_sequence, info->producer_id,
                 part->sequences[i].next - 1);
    part->sequences[i].next = info->base_sequence + info->record_count;
}

static void truth_serial(struct check_data *data, struct truth *part, const struct record *record)
{
    uint64_t serial = record->value.len < 8 ? UINT64_MAX : get_u64(record->value.data);
    if (serial < part->next_serial || (serial > part->next_serial && !part->may_skip))
        sim_fail(data->run, "libkarst's records stand once and in order",
                 "%s-%d at %" PRId64 ": serial %" PRIu64 ", expected was %" PRIu64, part->topic,
                 part->id.index, record->offset, serial, part->next_serial);
    part->next_serial = serial + 1;
    size_t at = (size_t)record->offset;
    if (at >= part->serial_capacity) {
        part->serial_capacity = (at + 1) * 2;
        part->serials = realloc(part->serials, part->serial_capacity * sizeof part->serials[0]);
        ASSERT(part->serials != NULL);
    }
    part->serials[at] = serial;
}

static void truth_serials(struct check_data *data, struct truth *part, const uint8_t *batch,
                          size_t bytes)
{
    struct record_cursor cursor;
    struct record record;
    if (record_cursor_init(&cursor, batch, bytes) != ERR_OK)
        return; /* the reader finds it */
    while (record_cursor_next(&cursor, &record) == ERR_OK)
        truth_serial(data, part, &record);
}

static void truth_add(struct check_data *data, struct truth *part, const struct batch_info *info)
{
    if (part->truth_count == part->truth_capacity) {
        part->truth_capacity = part->truth_capacity == 0 ? 256 : part->truth_capacity * 2;
        part->truth = realloc(part->truth, part->truth_capacity * sizeof part->truth[0]);
        ASSERT(part->truth != NULL);
    }
    if (part->load->idempotent)
        truth_sequence(data, part, info);
    part->truth[part->truth_count++] = (struct truth_batch){.base = info->base_offset,
                                                            .last = info->last_offset,
                                                            .crc = info->crc,
                                                            .count = info->record_count,
                                                            .producer_id = info->producer_id,
                                                            .base_sequence = info->base_sequence};
    part->truth_end = info->last_offset + 1;
    sim_note(&data->run->world, info->crc);
}

struct walk {
    struct check_data *data;
    struct truth *part;
    const struct sim_node *node;
    offset_t next, until;
    bool adds; /* to the truth, where it ends */
};

static err_t walk_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct walk *walk = context;
    struct truth *part = walk->part;
    if (info->base_offset >= walk->until)
        return ERR_CANCELED;
    if (info->base_offset != walk->next) {
        sim_fail(walk->data->run, "offsets follow each other without gap",
                 "%s-%d on node %d: %" PRId64 " after %" PRId64, part->topic, part->id.index,
                 walk->node->id, info->base_offset, walk->next - 1);
        return ERR_CANCELED;
    }
    walk->next = info->last_offset + 1;
    if (info->base_offset >= part->truth_end && walk->adds) {
        truth_add(walk->data, part, info);
        if (part->load->karst)
            truth_serials(walk->data, part, batch, info->bytes);
        return ERR_OK;
    }
    size_t at = check_truth_at(part, info->base_offset);
    const struct truth_batch *truth = &part->truth[at];
    if (at == part->truth_count || truth->base != info->base_offset ||
        truth->last != info->last_offset || truth->crc != info->crc) {
        sim_fail(walk->data->run, "what is committed never changes",
                 "%s-%d on node %d: at %" PRId64 " stands CRC %08" PRIx32
                 " in epoch %d, committed was %08" PRIx32 " to %" PRId64,
                 part->topic, part->id.index, walk->node->id, info->base_offset, info->crc,
                 info->leader_epoch, at == part->truth_count ? 0 : truth->crc,
                 at == part->truth_count ? -1 : truth->last);
        return ERR_CANCELED;
    }
    return ERR_OK;
}

void check_walk(struct check_data *data, struct truth *part, const struct sim_node *node,
                offset_t from, offset_t until, bool adds)
{
    unsigned shard = partition_shard(&part->id, RUN_SHARDS);
    struct log *log = partition_log(shard_partitions(node->shards[shard]), &part->id);
    if (from >= until)
        return;
    if (log == NULL)
        sim_fail(data->run, "a replica with a high watermark has a log", "%s-%d on node %d",
                 part->topic, part->id.index, node->id);
    if (log == NULL)
        return;
    struct walk walk = {
        .data = data, .part = part, .node = node, .next = from, .until = until, .adds = adds};
    err_t err = log_walk(log, from, walk_visit, &walk);
    if (data->run->failed)
        return;
    if ((err != ERR_OK && err != ERR_CANCELED) || walk.next < until)
        sim_fail(data->run, "what is committed can be read",
                 "%s-%d on node %d: read from %" PRId64 " to %" PRId64 " of %" PRId64 ": %s",
                 part->topic, part->id.index, node->id, from, walk.next, until, err_name(err));
}

/* ---- replicas, after a turn ---- */

static void replica_first_look(struct check_data *data, const struct truth *part,
                               struct held *replica, const struct sim_node *node,
                               const struct partition_view *view)
{
    /* From the page cache more is acknowledged than is flushed. */
    bool by_hw = replica->closed && replica->hw < replica->durable;
    offset_t least = by_hw ? replica->hw : replica->durable;
    if (view->end < least && replica->life != 0)
        sim_fail(data->run, "what was flushed survives",
                 "%s-%d on node %d: ends at %" PRId64 " after a restart, %" PRId64
                 " was flushed before",
                 part->topic, part->id.index, node->id, view->end, least);
    /* R13. Nothing can have been appended yet: what a follower asks for comes after this turn. */
    if (view->end > replica->end && replica->life != 0 && !replica->closed && !view->leading)
        sim_fail(data->run, "what was cut off stays cut off",
                 "%s-%d on node %d: ends at %" PRId64 " after a restart, it ended at %" PRId64,
                 part->topic, part->id.index, node->id, view->end, replica->end);
    *replica = (struct held){.seen = true,
                             .life = node->life,
                             .lost = replica->lost,
                             .leader_epoch = view->leader_epoch};
}

/* In this turn, or at its begin: a leader may be made, move the high watermark, tell of it, and be
 * deposed in a single one. */
static bool replica_led(const struct truth *part, const struct held *replica,
                        const struct sim_node *node, const struct partition_view *view)
{
    bool led = view->leading || replica->leading;
    for (leader_epoch_t e = replica->leader_epoch + 1; e <= view->leader_epoch && e < EPOCHS_MAX;
         e++)
        led = led || part->elected[e] == node->id;
    return led;
}

static void replica_leads(struct check_data *data, struct truth *part, const struct sim_node *node,
                          const struct partition_view *view)
{
    if (view->leader_epoch < 0 || view->leader_epoch >= EPOCHS_MAX) {
        sim_fail(data->run, "leader epochs are sane", "%s-%d: %d", part->topic, part->id.index,
                 view->leader_epoch);
        return;
    }
    node_id_t *leader = &part->leader_of[view->leader_epoch];
    if (*leader != 0 && *leader != node->id)
        sim_fail(data->run, "one leader for each partition and leader epoch",
                 "%s-%d epoch %d: nodes %d and %d", part->topic, part->id.index, view->leader_epoch,
                 *leader, node->id);
    *leader = node->id;
}

static void replica_counted(struct run_counters *counters, struct held *replica,
                            const struct partition_view *view)
{
    if (view->truncations < replica->truncations)
        replica->truncations = 0; /* opened again */
    counters->truncations += view->truncations - replica->truncations;
    replica->truncations = view->truncations;
}

static void replica_look(struct check_data *data, struct truth *part, struct sim_node *node,
                         unsigned shard)
{
    struct partition_view view;
    struct held *replica = &part->replicas[node->id - 1];
    const struct partition_table *table = shard_partitions(node->shards[shard]);
    if (table == NULL) /* closed by a shutdown; maybe cut in the same turn */
        replica->closed = true;
    if (table == NULL || !partition_look(table, &part->id, &view))
        return; /* not opened yet: what was flushed stays */
    struct log *log = partition_log(table, &part->id);
    if (view.failed && (sim_disk_frozen(node->disk) || sim_disk_offline(node->disk))) {
        if (replica->life == node->life && view.end > replica->end)
            replica->end = view.end;
        /* A cut that was begun, and failed, may be on the disk all the same. */
        if (replica->life == node->life && log != NULL && log_end(log) < replica->durable &&
            log_end(log) >= replica->verified)
            replica->durable = log_end(log);
        return; /* the disk is to blame; the next life tells what it has */
    }
    if (!replica->seen || replica->life != node->life)
        replica_first_look(data, part, replica, node, &view);
    if (replica->lost && view.leading)
        sim_fail(data->run, "a replica that lost its disk does not lead", "%s-%d on node %d",
                 part->topic, part->id.index, node->id);
    replica->end = view.end;
    replica->durable = view.flushed_end;
    replica->last_epoch = log == NULL ? -1 : log_last_epoch(log);
    if (check_unclean_skips(data, part, node, &view)) {
        replica->leading = view.leading;
        replica->leader_epoch = view.leader_epoch;
        replica->hw = view.high_watermark;
        return;
    }
    if (view.end < replica->verified)
        sim_fail(data->run, "what stands below the high watermark is never cut",
                 "%s-%d on node %d: cut to %" PRId64 ", its high watermark was %" PRId64,
                 part->topic, part->id.index, node->id, view.end, replica->hw);
    if (view.flushed_end > view.end || view.high_watermark > view.end)
        sim_fail(data->run, "ends are in order",
                 "%s-%d on node %d: end %" PRId64 " flushed %" PRId64 " high watermark %" PRId64,
                 part->topic, part->id.index, node->id, view.end, view.flushed_end,
                 view.high_watermark);
    bool led = replica_led(part, replica, node, &view);
    bool leads_more = led && view.high_watermark > part->truth_end;
    replica->leading = view.leading;
    replica->leader_epoch = view.leader_epoch;
    replica->hw = view.high_watermark;
    replica_counted(&data->run->counters, replica, &view);
    if (view.leading)
        replica_leads(data, part, node, &view);
    if (view.high_watermark > replica->verified) {
        if (!led && view.high_watermark > part->truth_end)
            sim_fail(data->run, "a follower's high watermark was a leader's",
                     "%s-%d on node %d: %" PRId64 " of %" PRId64, part->topic, part->id.index,
                     node->id, view.high_watermark, part->truth_end);
        check_walk(data, part, node, replica->verified, view.high_watermark, led);
        replica->verified = view.high_watermark;
    }
    if (leads_more)
        check_isr_has_all(data, part, "the high watermark rose");
}

void check_data_shard(struct check_data *data, struct sim_node *node, unsigned shard)
{
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            struct truth *part = &data->topics[t].parts[i];
            if (partition_shard(&part->id, RUN_SHARDS) == shard &&
                image_partition_replica_index(&part->committed, node->id) >= 0)
                replica_look(data, part, node, shard);
        }
}

void check_data_node_stops(struct check_data *data, struct sim_node *node)
{
    for (unsigned shard = 0; shard < RUN_SHARDS && !data->run->failed; shard++)
        check_data_shard(data, node, shard);
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++)
            data->topics[t].parts[i].replicas[node->id - 1].seen = false;
}

void check_data_node_torn(struct check_data *data, struct sim_node *node)
{
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++)
            data->topics[t].parts[i].replicas[node->id - 1].closed = true;
}
