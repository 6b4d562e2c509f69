#include "shard/internal.h"

/* How full the disks are, for the heartbeats (R16): appends to a full one stop at
 * log.dir.min.free.bytes, so that what is left is the metadata log's. A quarter of it left is the
 * second mark, below which nothing more is to be created. */

enum { SECOND_MARK = 4 };

static bool space_below(uint64_t free_bytes, uint64_t mark, bool before)
{
    return free_bytes < (before ? 2 * mark : mark); /* no flapping at the mark */
}

static void space_look(struct shard *shard, unsigned disk)
{
    const struct partition_options *options = &shard->config->partition;
    struct lifecycle *life = &shard->lifecycle;
    struct env_disk *on = &shard->env->disks[disk];
    const uint32_t bit = 1U << disk;
    uint64_t free_bytes;
    if (on->free_bytes(on->self, &free_bytes) != ERR_OK)
        return; /* as it was; the disk's failure is told otherwise */
    bool full = space_below(free_bytes, options->free_bytes_min + options->message_bytes_max,
                            life->full_disks & bit);
    bool low =
        space_below(free_bytes, options->free_bytes_min / SECOND_MARK, life->low_disks & bit);
    if (full && !(life->full_disks & bit))
        log_warn("log directory %u is full: no records are taken there before space is freed",
                 disk);
    life->full_disks = full ? life->full_disks | bit : life->full_disks & ~bit;
    life->low_disks = low ? life->low_disks | bit : life->low_disks & ~bit;
}

bool space_fill(struct shard *shard, Karst__HeartbeatRequest *request)
{
    const struct shard_config *config = shard->config;
    if (config->partition.free_bytes_min == 0)
        return true; /* no bound is wanted */
    for (unsigned i = 0; i < shard->env->disk_count; i++)
        space_look(shard, i);
    request->has_low_space = request->low_space = shard->lifecycle.low_disks != 0;
    if (shard->lifecycle.full_disks == 0)
        return true;
    request->full_directories =
        arena_calloc(&shard->scratch, DIRECTORIES_MAX, sizeof(*request->full_directories));
    if (request->full_directories == NULL)
        return false;
    for (size_t i = 0; i < config->directory_count; i++)
        if (shard->lifecycle.full_disks & 1U << i)
            request->full_directories[request->n_full_directories++] =
                wire_put_uuid(&config->directories[i]);
    return true;
}
