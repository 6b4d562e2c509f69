#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/canary.h"
#include "shard/partition_internal.h"

/* Folders of no partition of this broker (R21): their topics were deleted while it was away, or the
 * metadata are not those that the folders were filled under. Nobody knows which, so that nothing is
 * deleted at once:
 *
 *   found ──judged, once the own registration is applied──▶ NAME.TOPIC.WHEN-stray, listed
 *           ──log.stray.retention.ms later, by the wall clock in its name──▶ deleted
 *
 * Where most of a directory would be stray, it is more likely that the metadata are wrong: then
 * nothing is touched, and the broker ends. */

enum {
    STRAYS_FEW = 8, /* so many may all be of one topic: no sign of wrong metadata */
    NAME_SIZE = 512,
};
#define SWEEP_NS ENV_MS(60 * 1000)
#define STRAY_SUFFIX "-stray"

static bool is_stray(const struct partition_table *table, const struct partition_id *id)
{
    const struct image_partition *p = image_partition(table->image, id);
    return p == NULL || image_partition_replica_index(p, table->host.node) < 0;
}

/* ---- set aside ---- */

static void set_aside(struct partition_table *table, const struct partition_found *found)
{
    struct env_disk *on = &table->env->disks[found->disk];
    const struct env_clock *clock = &table->env->clock;
    struct manifest **manifest = &table->manifests[found->disk];
    char aside[NAME_SIZE], topic[UUID_TEXT_SIZE];
    (void)snprintf(aside, sizeof(aside), "%s.%s.%llx" STRAY_SUFFIX, found->folder,
                   uuid_text(&found->id.topic, topic),
                   (unsigned long long)clock->wall_ms(clock->self));
    err_t err = on->rename(on->self, found->folder, aside);
    if (err == ERR_OK)
        err = on->sync_names(on->self, "");
    if (err == ERR_OK && *manifest == NULL)
        err = manifest_open(on, table->host.shard, manifest);
    if (err == ERR_OK)
        err = manifest_remove(*manifest, &found->id);
    if (err == ERR_OK)
        log_warn("%s: no partition of this broker: kept as %s for log.stray.retention.ms",
                 found->folder, aside);
    else
        log_error("%s: can not be set aside: %s", found->folder, err_sentence(err));
}

/* More than half of one directory, by all shards' folders: each shard comes to the same answer
 * before it has touched any. */
static bool too_many(const struct partition_table *table, uint32_t *ret_disk)
{
    const struct partition_host *host = &table->host;
    const bool all = host->found_all != NULL;
    const struct partition_found *found = all ? host->found_all : table->found;
    const size_t found_count = all ? host->found_all_count : table->found_count;
    const uint32_t percent_max = table->options.stray_percent_max;
    size_t count[DIRECTORIES_MAX] = {0}, strays[DIRECTORIES_MAX] = {0};
    for (size_t i = 0; i < found_count; i++) {
        count[found[i].disk]++;
        strays[found[i].disk] += is_stray(table, &found[i].id);
    }
    for (uint32_t i = 0; i < table->env->disk_count && percent_max > 0; i++) {
        *ret_disk = i;
        if (strays[i] > STRAYS_FEW && strays[i] * 100 > count[i] * percent_max)
            return true;
    }
    return false;
}

/* No folder is judged before this broker's registration was applied. */
void partition_judge_strays(struct partition_table *table)
{
    uint32_t disk;
    if (table->strays_judged)
        return;
    table->strays_judged = true;
    if (too_many(table, &disk) && !CANARY("shard_judges_any_number_of_strays")) {
        log_error("most folders of log directory %u are of no partition of this broker; nothing "
                  "was touched",
                  (unsigned)disk);
        table->env->exit_node(table->env->self, 1,
                              "most of a log directory is of no partition of this broker: are "
                              "these the metadata of its cluster? If so, set "
                              "log.stray.max.percent = 100 and start again");
        return;
    }
    for (size_t i = 0; i < table->found_count; i++)
        if (is_stray(table, &table->found[i].id))
            set_aside(table, &table->found[i]);
}

/* ---- deleted ---- */

struct sweep {
    struct partition_table *table;
    uint32_t disk;
    int64_t now_ms;
};

/* False: the name does not say. */
static bool stray_since(const char *folder, int64_t *ret_ms)
{
    const char *dot = strrchr(folder, '.');
    char *end;
    if (dot == NULL)
        return false;
    unsigned long long ms = strtoull(dot + 1, &end, 16);
    if (end == dot + 1 || strcmp(end, STRAY_SUFFIX) != 0 || ms > INT64_MAX)
        return false;
    *ret_ms = (int64_t)ms;
    return true;
}

static void sweep_one(void *context, const char *folder)
{
    const struct sweep *sweep = context;
    const int64_t retention_ms = sweep->table->options.stray_retention_ms;
    int64_t since_ms;
    if (!stray_since(folder, &since_ms))
        return; /* not ours */
    if (sweep->now_ms - since_ms >= retention_ms) {
        log_warn("%s: deleted, after log.stray.retention.ms", folder);
        partition_delete_renamed(sweep->table, sweep->disk, folder);
    } else if (!sweep->table->strays_listed) {
        log_info("%s: a stray, to be deleted in %lld s", folder,
                 (long long)(since_ms + retention_ms - sweep->now_ms) / 1000);
    }
}

void partition_sweep_strays(struct partition_table *table, uint64_t now_ns)
{
    const struct env_clock *clock = &table->env->clock;
    if (table->host.shard != 0 || !table->strays_judged || now_ns < table->sweep_ns)
        return;
    for (uint32_t i = 0; i < table->env->disk_count; i++) {
        struct sweep sweep = {table, i, clock->wall_ms(clock->self)};
        partition_each_folder(&table->env->disks[i], STRAY_SUFFIX, sweep_one, &sweep);
    }
    table->strays_listed = true;
    table->sweep_ns = now_ns + SWEEP_NS;
}
