#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "shard/partition_internal.h"

enum {
    INDEX_INTERVAL_BYTES = 4096,
    NAME_SIZE = 512,
};
#define CORRUPT_SUFFIX "-corrupt"

/* ---- options ---- */

void partition_log_options(const struct partition_table *table, const struct image_topic *topic,
                           struct log_options *ret_options)
{
    const struct partition_options *options = &table->options;
    *ret_options = (struct log_options){
        .segment_bytes = (uint64_t)image_topic_config_int(table->image, topic, "segment.bytes",
                                                          (int64_t)options->segment_bytes),
        .index_interval_bytes = INDEX_INTERVAL_BYTES,
        .preallocate_bytes = options->preallocate_bytes,
        .free_bytes_min = options->free_bytes_min,
    };
}

/* ---- opening ---- */

int partition_found_order(const void *a, const void *b)
{
    const struct partition_found *x = a, *y = b;
    return memcmp(&x->id, &y->id, sizeof(x->id));
}

/* The disk that the image names for this broker's replica; DIRECTORIES_MAX: none of ours. */
static uint32_t named_disk(const struct partition_table *table, const struct partition_id *id)
{
    const struct image_partition *p = image_partition(table->image, id);
    int replica = p == NULL ? -1 : image_partition_replica_index(p, table->host.node);
    for (uint32_t i = 0; replica >= 0 && table->host.directories != NULL; i++) {
        if (i == table->env->disk_count)
            break;
        if (uuid_equal(&table->host.directories[i], &p->directories[replica]))
            return i;
    }
    return DIRECTORIES_MAX;
}

struct partition_found *partition_find_folder(const struct partition_table *table,
                                              const struct partition_id *id)
{
    const struct partition_found wanted = {.id = *id};
    struct partition_found *found = table->found_count == 0
                                        ? NULL
                                        : bsearch(&wanted, table->found, table->found_count,
                                                  sizeof(wanted), partition_found_order);
    if (found == NULL)
        return NULL;
    /* Of two folders, one was left in a directory that was offline while the other was filled: the
     * image knows which counts. */
    while (found > table->found && partition_id_equal(&found[-1].id, id))
        found--;
    for (uint32_t named = named_disk(table, id); found->disk != named; found++)
        if (found + 1 == table->found + table->found_count || !partition_id_equal(&found[1].id, id))
            break;
    return found;
}

static bool is_lost(const struct partition_table *table, const struct partition_id *id)
{
    for (size_t i = 0; i < table->lost_count; i++)
        if (partition_id_equal(&table->lost[i], id))
            return true;
    return false;
}

/* The one that the image names (R1); else that with the fewest partitions of this shard. */
static uint32_t choose_disk(const struct partition_table *table, const struct partition_id *id)
{
    uint32_t best = 0, named = named_disk(table, id);
    if (named < table->env->disk_count && !table->disk_failed[named])
        return named;
    for (uint32_t i = 1; i < table->env->disk_count; i++) {
        bool better = table->disk_partitions[i] < table->disk_partitions[best];
        if (!table->disk_failed[i] && (better || table->disk_failed[best]))
            best = i;
    }
    return best;
}

static leader_epoch_t history_last_epoch(const void *log)
{
    return log_last_epoch(log);
}

static void history_epoch_end(const void *log, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                              offset_t *ret_end)
{
    log_epoch_end(log, asked, ret_epoch, ret_end);
}

static err_t start_replica(struct partition *p, const struct log_recovery *recovery)
{
    const struct partition_options *options = &p->table->options;
    struct replica_config config = {
        .node = p->table->host.node,
        .history = {p->log, history_last_epoch, history_epoch_end},
        .lag_max_ns = options->replica_lag_max_ns,
        .retry_ns = FETCH_RETRY_NS,
        .proposal_retry_ns = PROPOSAL_RETRY_NS,
        .waiters_max = options->waiters_max,
        .producers_max = PRODUCERS_MAX,
    };
    struct replica_start start = {
        .log_start = log_start(p->log),
        .end = log_end(p->log),
        .flushed_end = log_flushed_end(p->log),
        .high_watermark = recovery->high_watermark,
    };
    replica_init(&p->replica, &config, &start);
    err_t err = partition_read_producers(p);
    if (err == ERR_OK && start.end > start.log_start)
        err = partition_enter_manifest(p);
    return err;
}

static void tell_opened(const struct partition *p, const struct log_recovery *recovery)
{
    if (recovery->torn)
        log_warn("%s: a torn tail was cut at offset %lld", p->folder, (long long)log_end(p->log));
    if (!recovery->created)
        log_info("%s: opened, offsets %lld to %lld, high watermark %lld", p->folder,
                 (long long)log_start(p->log), (long long)log_end(p->log),
                 (long long)p->replica.hw);
}

/* R15: what is corrupt below the recovery point is never led. */
static void tell_failed(struct partition *p, err_t err)
{
    log_error("%s: can not be opened: %s%s", p->folder, err_sentence(err),
              err == ERR_CORRUPT ? "; it is fetched anew when it counts as in sync no more" : "");
    partition_tell_failed(p, err == ERR_KAFKA_STORAGE_ERROR ? ERR_REPLICA_NOT_AVAILABLE : err);
}

static err_t open_log(struct partition *p, const struct image_topic *topic,
                      struct partition_found *found, struct log_recovery *ret_recovery)
{
    struct partition_table *table = p->table;
    struct log_options options;
    bool synced = found != NULL && found->synced;
    if (found != NULL)
        found->synced = false; /* from here on it is this process that writes there */
    p->disk = found != NULL ? found->disk : choose_disk(table, &p->id);
    if (found != NULL)
        (void)snprintf(p->folder, sizeof(p->folder), "%s", found->folder);
    else
        (void)snprintf(p->folder, sizeof(p->folder), "%s-%d", topic->name, (int)p->id.index);
    partition_log_options(table, topic, &options);
    err_t err = log_open(
        &(struct log_open_args){
            .env = table->env,
            .disk = &table->env->disks[p->disk],
            .directory = p->folder,
            .topic = p->id.topic,
            .options = &options,
            .upcalls = {partition_flushed, p},
            .clean = table->disk_clean[p->disk],
            .synced = synced,
            .must_exist = found != NULL && found->in_manifest,
            .settle_later = true,
        },
        &p->log, ret_recovery);
    if (err != ERR_OK)
        return err;
    err = start_replica(p, ret_recovery);
    if (err != ERR_OK) {
        (void)log_close(p->log, false); /* as after a crash */
        replica_fini(&p->replica);
        p->log = NULL;
    }
    return err;
}

/* R15: kept under another name for a person, and out of the way: what is no member of the ISR may
 * be made anew from the leader's log. */
static bool set_corrupt_aside(struct partition *p)
{
    struct env *env = p->table->env;
    struct env_disk *on = &env->disks[p->disk];
    char aside[NAME_SIZE];
    (void)snprintf(aside, sizeof(aside), "%s.%016llx" CORRUPT_SUFFIX, p->folder,
                   (unsigned long long)env->random(env->self));
    err_t err = on->rename(on->self, p->folder, aside);
    if (err == ERR_OK)
        err = on->sync_names(on->self, "");
    if (err != ERR_OK) {
        log_error("%s: can not be set aside: %s", p->folder, err_sentence(err));
        return false;
    }
    log_error("%s: stored bytes failed their checks: kept as %s, and fetched anew", p->folder,
              aside);
    partition_forget_found(p->table, &p->id);
    return true;
}

void partition_open(struct partition *p, const struct image_topic *topic, bool member)
{
    struct partition_table *table = p->table;
    struct partition_found *found = partition_find_folder(table, &p->id);
    struct log_recovery recovery;
    if (found == NULL && member && is_lost(table, &p->id) &&
        !CANARY("shard_recreates_lost_replica")) {
        /* R1: empty, it would vouch for what it does not have. */
        if (p->open_err != ERR_NOT_FOUND)
            log_error("%s-%d: the replica is lost, and still counted as in sync: not made anew",
                      topic->name, (int)p->id.index);
        p->open_err = ERR_NOT_FOUND;
        return;
    }
    err_t err = open_log(p, topic, found, &recovery);
    if (err == ERR_CORRUPT && !member && set_corrupt_aside(p)) {
        found = NULL;
        err = open_log(p, topic, NULL, &recovery);
    }
    if (err == ERR_INCONSISTENT_TOPIC_ID && found == NULL) {
        /* R21: the name's last owner is another shard that has not deleted it yet, or a stray that
         * another shard has not set aside yet. */
        table->name_taken = true;
        p->open_err = err;
        return;
    }
    if (err == ERR_NOT_ENOUGH_SPACE) {
        /* R16: it is no member yet, or could be opened without; tried again by the tick. */
        if (p->open_err != err)
            log_warn("%s: no room to make its log; tried again", p->folder);
        table->name_taken = true;
        p->open_err = err;
        return;
    }
    if (err != ERR_OK) {
        if (p->open_err != err)
            tell_failed(p, err);
        p->open_err = err;
        return;
    }
    p->open_err = ERR_OK;
    partition_tell_failed(p, ERR_OK);
    p->torn = recovery.torn;
    if (recovery.created)
        partition_is_fresh(p);
    table->disk_partitions[p->disk]++;
    tell_opened(p, &recovery);
}

/* ---- manifest ---- */

err_t partition_enter_manifest(struct partition *p)
{
    struct partition_table *table = p->table;
    struct manifest **manifest = &table->manifests[p->disk];
    if (!p->in_manifest)
        partition_settle_now(p);
    if (p->in_manifest)
        return ERR_OK;
    err_t err = log_settle(p->log);
    if (err == ERR_OK && *manifest == NULL)
        err = manifest_open(&table->env->disks[p->disk], table->host.shard, manifest);
    if (err == ERR_OK)
        err = manifest_add(*manifest, &p->id);
    p->in_manifest = err == ERR_OK;
    return err;
}
