#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/log.h"
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
    const char *topic;
    bool idempotent;
    struct truth_batch *truth;
    size_t truth_count, truth_capacity;
    offset_t truth_end;
    node_id_t leader_of[EPOCHS_MAX];  /* by leader epoch; 0: nobody yet */
    struct image_partition committed; /* newest */
    bool known;
    struct held replicas[RUN_NODES_MAX];
    struct sequence sequences[PRODUCERS_MAX];
    size_t sequence_count;
    bool has_serials;  /* libkarst's: the first 8 bytes of each value */
    bool may_skip;     /* it gave a record up */
    uint64_t *serials; /* by offset */
    size_t serial_capacity;
    uint64_t next_serial;
};

struct topic {
    const char *name;
    bool idempotent, has_serials;
    int32_t partitions; /* 0: not made yet */
    struct truth *parts;
};

struct check_data {
    struct sim_run *run;
    struct topic topics[TOPICS_MAX];
    size_t topic_count;
};

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
    data->topics[data->topic_count++] = (struct topic){
        .name = topic->name, .idempotent = topic->idempotent, .has_serials = topic->karst};
}

static struct truth *part_find(const struct check_data *data, const struct partition_id *id)
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
    const struct truth *part = part_find(data, id);
    return part == NULL ? 0 : part->truth_end;
}

/* ---- the committed state of partitions ---- */

/* Whoever may be elected has all that is committed, on its disk. */
static void check_isr_has_all(struct check_data *data, const struct truth *part, const char *when)
{
    for (unsigned i = 0; i < part->committed.isr_count; i++) {
        const struct sim_node *node = sim_run_node(data->run, part->committed.isr[i]);
        const struct held *replica = &part->replicas[node->id - 1];
        if (replica->durable < part->truth_end && !replica->lost)
            sim_fail(data->run, "every member of the ISR has all that is committed on its disk",
                     "%s-%d: %" PRId64 " is committed, node %d has flushed %" PRId64
                     " and is in the ISR at partition epoch %d (%s)",
                     part->topic, part->id.index, part->truth_end, node->id, replica->durable,
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
    part->committed = *now;
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

void check_data_image(struct check_data *data, const struct image *image)
{
    swapped_disks(data, image);
    for (size_t t = 0; t < data->topic_count; t++) {
        struct topic *topic = &data->topics[t];
        const struct image_topic *now = image_topic_by_name(image, topic->name);
        if (now == NULL)
            continue;
        if (topic->partitions == 0) {
            topic->partitions = now->partition_count;
            topic->parts = calloc((size_t)now->partition_count, sizeof topic->parts[0]);
            ASSERT(topic->parts != NULL);
            for (int32_t i = 0; i < now->partition_count; i++) {
                topic->parts[i].id = (struct partition_id){now->id, i};
                topic->parts[i].topic = topic->name;
                topic->parts[i].idempotent = topic->idempotent;
                topic->parts[i].has_serials = topic->has_serials;
            }
        }
        for (int32_t i = 0; i < topic->partitions; i++)
            part_committed(data, &topic->parts[i], &now->partitions[i]);
    }
}

/* ---- the truth ---- */

/* The first batch that ends above offset; truth_count: none. */
static size_t truth_at(const struct truth *part, offset_t offset)
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
    if (part->idempotent)
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
        if (part->has_serials)
            truth_serials(walk->data, part, batch, info->bytes);
        return ERR_OK;
    }
    size_t at = truth_at(part, info->base_offset);
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

/* The replica's log from..until is what the truth says; adds: it may tell more of it. */
static void part_walk(struct check_data *data, struct truth *part, const struct sim_node *node,
                      unsigned shard, offset_t from, offset_t until, bool adds)
{
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
    offset_t least = replica->closed ? replica->hw : replica->durable;
    if (view->end < least && replica->life != 0)
        sim_fail(data->run, "what was flushed survives",
                 "%s-%d on node %d: ends at %" PRId64 " after a restart, %" PRId64
                 " was flushed before",
                 part->topic, part->id.index, node->id, view->end, least);
    *replica = (struct held){.seen = true, .life = node->life, .lost = replica->lost};
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
    if (view.failed && (sim_disk_frozen(node->disk) || sim_disk_offline(node->disk)))
        return; /* the disk is to blame; the next life tells what it has */
    if (!replica->seen || replica->life != node->life)
        replica_first_look(data, part, replica, node, &view);
    if (replica->lost && view.leading)
        sim_fail(data->run, "a replica that lost its disk does not lead", "%s-%d on node %d",
                 part->topic, part->id.index, node->id);
    if (view.end < replica->verified)
        sim_fail(data->run, "what stands below the high watermark is never cut",
                 "%s-%d on node %d: cut to %" PRId64 ", its high watermark was %" PRId64,
                 part->topic, part->id.index, node->id, view.end, replica->hw);
    if (view.flushed_end > view.end || view.high_watermark > view.end)
        sim_fail(data->run, "ends are in order",
                 "%s-%d on node %d: end %" PRId64 " flushed %" PRId64 " high watermark %" PRId64,
                 part->topic, part->id.index, node->id, view.end, view.flushed_end,
                 view.high_watermark);
    /* A leader may have moved it, told of it, and been deposed in one turn. */
    bool led = view.leading || replica->leading;
    bool leads_more = led && view.high_watermark > part->truth_end;
    replica->leading = view.leading;
    replica->end = view.end;
    replica->durable = view.flushed_end;
    replica->hw = view.high_watermark;
    replica_counted(&data->run->counters, replica, &view);
    if (view.leading)
        replica_leads(data, part, node, &view);
    if (view.high_watermark > replica->verified) {
        if (!led && view.high_watermark > part->truth_end)
            sim_fail(data->run, "a follower's high watermark was a leader's",
                     "%s-%d on node %d: %" PRId64 " of %" PRId64, part->topic, part->id.index,
                     node->id, view.high_watermark, part->truth_end);
        part_walk(data, part, node, shard, replica->verified, view.high_watermark, led);
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

/* ---- lost disks ---- */

static bool part_is_of(const struct truth *part, const struct sim_node *node, const char *folder)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s-%d", part->topic, part->id.index); /* fits */
    return image_partition_replica_index(&part->committed, node->id) >= 0 &&
           (folder == NULL || strcmp(folder, name) == 0);
}

static bool part_may_lose(const struct truth *part, const struct sim_node *node)
{
    unsigned others = 0;
    for (unsigned i = 0; i < part->committed.isr_count; i++) {
        node_id_t member = part->committed.isr[i];
        others += member != node->id && !part->replicas[member - 1].lost;
    }
    return others > 0;
}

struct others {
    const struct sim_node *node;
    bool needed; /* a partition has no other member with its disk */
};

static void topic_has_others(void *context, const struct image_topic *topic)
{
    struct others *others = context;
    for (int32_t i = 0; i < topic->partition_count && !others->needed; i++) {
        const struct image_partition *p = &topic->partitions[i];
        unsigned count = 0;
        for (unsigned k = 0; k < p->isr_count; k++)
            count += p->isr[k] != others->node->id &&
                     !sim_run_node(others->node->run, p->isr[k])->disk_swapped;
        others->needed = image_partition_in_isr(p, others->node->id) && count == 0;
    }
}

bool check_data_may_lose(const struct check_data *data, const struct sim_node *node,
                         const char *folder)
{
    const struct image *image = check_quorum_image(data->run->quorum);
    struct others others = {.node = node};
    if (image == NULL)
        return false;
    if (folder == NULL)
        image_each_topic(image, topic_has_others, &others);
    if (others.needed)
        return false;
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            const struct truth *part = &data->topics[t].parts[i];
            if (part_is_of(part, node, folder) && !part_may_lose(part, node))
                return false;
        }
    return true;
}

bool check_data_any_lost(const struct check_data *data)
{
    for (unsigned node = 0; node < data->run->node_count; node++) {
        if (data->run->nodes[node]->disk_swapped)
            return true;
        for (size_t t = 0; t < data->topic_count; t++)
            for (int32_t i = 0; i < data->topics[t].partitions; i++)
                if (data->topics[t].parts[i].replicas[node].lost)
                    return true;
    }
    return false;
}

void check_data_lost(struct check_data *data, const struct sim_node *node, const char *folder)
{
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            struct truth *part = &data->topics[t].parts[i];
            if (part_is_of(part, node, folder))
                part->replicas[node->id - 1] =
                    (struct held){.lost = isr_has(&part->committed, node->id)};
        }
}

/* ---- what clients are told ---- */

void check_data_acked(struct check_data *data, const struct check_ack *ack)
{
    struct truth *part = part_find(data, &ack->id);
    if (part == NULL) {
        sim_fail(data->run, "acknowledged records are of a partition", "an unknown one");
        return;
    }
    size_t at = part->truth_count;
    if (ack->base_offset >= 0)
        at = truth_at(part, ack->base_offset);
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
    struct truth *part = part_find(data, id);
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
    struct truth *part = part_find(data, id);
    ASSERT(part != NULL);
    part->may_skip = true;
}

bool check_data_partition(const struct check_data *data, const char *topic, int32_t index,
                          struct partition_id *ret_id)
{
    for (size_t t = 0; t < data->topic_count; t++)
        if (strcmp(data->topics[t].name, topic) == 0 && index < data->topics[t].partitions) {
            *ret_id = data->topics[t].parts[index].id;
            return true;
        }
    return false;
}

void check_data_read(struct check_data *data, const struct partition_id *id, offset_t offset,
                     offset_t high_watermark, struct bytes batches, offset_t *ret_next)
{
    struct truth *part = part_find(data, id);
    ASSERT(part != NULL);
    if (high_watermark > part->truth_end)
        sim_fail(data->run, "consumers see only what is committed",
                 "%s-%d: high watermark %" PRId64 " of %" PRId64, part->topic, part->id.index,
                 high_watermark, part->truth_end);
    offset_t next = offset;
    for (size_t at = 0; at < batches.len && !data->run->failed;) {
        struct batch_info info;
        err_t err = batch_check(batches.data + at, batches.len - at, &info);
        size_t nth = err == ERR_OK ? truth_at(part, info.base_offset) : part->truth_count;
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
            (void)snprintf(ret_why, size, "topic %s is not there", data->topics[t].name);
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
                    part_walk(data, part, node, shard, 0, part->truth_end, false);
            }
        }
}
