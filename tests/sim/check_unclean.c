/* check_unclean.c - topics whose owners allow that records are lost: by an election of who was not
 * in the ISR (unclean.leader.election.enable, R8), or by a power cut, where records are
 * acknowledged from the page cache (flush.before.ack=false, R20). Even there nothing is lost but by
 * a committed unclean election, and it takes the log that loses least. */
#include <inttypes.h>

#include "log/log.h"
#include "sim/check_internal.h"

/* Since when a broker must have been well for its answer to count: the controller asks for as long
 * as a session. */
#define WELL_NS ENV_MS(2300)

struct divergence {
    const struct truth *part;
    offset_t end; /* the log equals the truth so far */
};

static err_t divergence_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct divergence *d = context;
    (void)batch;
    size_t at = check_truth_at(d->part, info->base_offset);
    if (at == d->part->truth_count || d->part->truth[at].base != info->base_offset ||
        d->part->truth[at].last != info->last_offset || d->part->truth[at].crc != info->crc)
        return ERR_CANCELED;
    d->end = info->last_offset + 1;
    return ERR_OK;
}

/* The truth is what the elected leader has of it. */
static void unclean_cut(struct check_data *data, struct truth *part, struct log *log)
{
    struct divergence d = {.part = part, .end = log_start(log)};
    (void)log_walk(log, log_start(log), divergence_visit, &d); /* to the first that differs */
    if (d.end > log_flushed_end(log)) {                        /* the rest may still be lost, too */
        size_t count = check_truth_at(part, log_flushed_end(log));
        d.end = count == 0 ? log_start(log) : part->truth[count - 1].last + 1;
    }
    sim_say(data->run, "%s-%d: of %" PRId64 " committed records an unclean election kept %" PRId64,
            part->topic, part->id.index, part->truth_end, d.end);
    data->run->counters.unclean++;
    part->truth_count = check_truth_at(part, d.end);
    part->truth_end = d.end;
    part->cut_due = false;
    part->cut_ns = data->run->world.now_ns;
    for (unsigned i = 0; i < data->run->node_count; i++)
        part->replicas[i].verified = 0;
}

/* ---- R8 ---- */

static bool cut_from(const struct sim_run *run, unsigned a, unsigned b)
{
    return run->world.cut[a][b] || run->world.cut[b][a];
}

/* It had the time to answer what the controller asked. */
static bool node_is_well(const struct check_data *data, const struct sim_node *node)
{
    const struct sim_run *run = data->run;
    const struct sim_host *host = node->host;
    uint64_t now = check_decided_ns(data);
    if (!sim_node_up(node) || now < data->active[node->id - 1].since_ns + WELL_NS ||
        now < node->started_ns + WELL_NS || now < host->paused_until_ns + WELL_NS ||
        now < run->world.links_changed_ns + WELL_NS || sim_disk_offline(node->disk))
        return false;
    for (unsigned i = 0; i < host->actor_count; i++)
        if (now < host->actors[i]->stuck_until_ns + WELL_NS || host->actors[i]->mail_lags)
            return false;
    for (unsigned i = 0; i < run->voter_count; i++)
        if (cut_from(run, host->idx, i) || run->world.slow_ns[host->idx][i] != 0 ||
            run->world.slow_ns[i][host->idx] != 0)
            return false;
    return true;
}

static void unclean_is_longest(struct check_data *data, const struct truth *part)
{
    const struct image_partition *now = &part->committed;
    const struct held *elected = &part->replicas[now->leader - 1];
    if (!elected->seen)
        return; /* what it has is not known */
    for (unsigned i = 0; i < now->replica_count; i++) {
        const struct sim_node *node = sim_run_node(data->run, now->replicas[i]);
        const struct held *other = &part->replicas[node->id - 1];
        bool longer = other->last_epoch > elected->last_epoch ||
                      (other->last_epoch == elected->last_epoch && other->end > elected->end);
        if (longer && other->seen && node_is_well(data, node))
            sim_fail(data->run, "an unclean election takes the longest log of the latest epoch",
                     "%s-%d: node %d ends at %" PRId64 " in epoch %d, node %d at %" PRId64
                     " in epoch %d",
                     part->topic, part->id.index, now->leader, elected->end, elected->last_epoch,
                     node->id, other->end, other->last_epoch);
    }
}

/* ---- for check_data.c, check_told.c ---- */

void check_unclean_committed(struct check_data *data, struct truth *part,
                             const struct image_partition *was)
{
    const struct image_partition *now = &part->committed;
    if (now->last_unclean_leader_epoch <= part->unclean_epoch)
        return;
    part->unclean_epoch = now->last_unclean_leader_epoch;
    part->cut_due = true;
    if (!part->load->unclean && !part->load->cached)
        sim_fail(data->run, "an unclean election needs the topic's permission", "%s-%d",
                 part->topic, part->id.index);
    if (now->leader != NO_NODE && !image_partition_in_isr(was, now->leader))
        unclean_is_longest(data, part);
}

bool check_unclean_skips(struct check_data *data, struct truth *part, const struct sim_node *node,
                         const struct partition_view *view)
{
    if (part->unclean_epoch < 0)
        return false;
    if (view->leader_epoch < part->unclean_epoch)
        return true; /* it has not heard of it */
    struct log *log = partition_log(
        shard_partitions(node->shards[partition_shard(&part->id, RUN_SHARDS)]), &part->id);
    if (part->cut_due && view->leading && log != NULL)
        unclean_cut(data, part, log);
    /* A follower may not have cut yet what the leader lost: at the end its log is compared. */
    return part->cut_due || !view->leading;
}

bool check_unclean_lately(const struct check_data *data, const struct truth *part)
{
    return part->unclean_epoch >= 0 &&
           (part->cut_due || data->run->world.now_ns < part->cut_ns + ENV_MS(5000));
}
