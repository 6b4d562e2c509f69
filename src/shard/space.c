#include "shard/internal.h"

/* How full the disks are, and which are slow, for the heartbeats (R16): appends to a full one stop
 * at log.dir.min.free.bytes, so that what is left is the metadata log's. A quarter of it left is
 * the second mark, below which nothing more is to be created. */

enum { SECOND_MARK = 4 };

/* A sync that lasts so long makes a disk slow, and so long it counts as that afterwards: that it
 * ended does not tell that the next one will. */
#define SYNC_SLOW_NS ENV_MS(2000)
#define DISK_REST_NS ENV_MS(10000)

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

bool space_turns_slow(const struct env_disk *disk, uint64_t now_ns, uint64_t *until_ns)
{
    bool was_slow = now_ns < *until_ns;
    if (disk->sync_age_ns == NULL || disk->sync_age_ns(disk->self) < SYNC_SLOW_NS)
        return false;
    *until_ns = now_ns + DISK_REST_NS;
    return !was_slow;
}

/* What is led on a disk whose syncs last for seconds waits for each of them, while another's could
 * go on: it moves, as from a full one. */
static bool space_is_slow(struct shard *shard, unsigned disk)
{
    uint64_t *until_ns = &shard->lifecycle.slow_until_ns[disk], now_ns = env_now(shard->env);
    if (space_turns_slow(&shard->env->disks[disk], now_ns, until_ns))
        log_warn("log directory %u is slow: a sync lasts for seconds; who can lead elsewhere shall",
                 disk);
    return now_ns < *until_ns;
}

bool space_fill(struct shard *shard, Karst__HeartbeatRequest *request)
{
    const struct shard_config *config = shard->config;
    uint32_t avoided = 0;
    for (unsigned i = 0; i < shard->env->disk_count; i++) {
        if (config->partition.free_bytes_min > 0) /* else no bound is wanted */
            space_look(shard, i);
        avoided |= space_is_slow(shard, i) ? 1U << i : 0;
    }
    avoided |= shard->lifecycle.full_disks;
    request->has_low_space = request->low_space = shard->lifecycle.low_disks != 0;
    if (avoided == 0)
        return true;
    request->full_directories =
        arena_calloc(&shard->scratch, DIRECTORIES_MAX, sizeof(*request->full_directories));
    if (request->full_directories == NULL)
        return false;
    for (size_t i = 0; i < config->directory_count; i++)
        if (avoided & 1U << i)
            request->full_directories[request->n_full_directories++] =
                wire_put_uuid(&config->directories[i]);
    return true;
}
