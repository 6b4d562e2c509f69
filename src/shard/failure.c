#include <stdlib.h>

#include "log/log_dir.h"
#include "shard/internal.h"

/* What failed in this life of the broker: shard 0 gathers it from all, and each heartbeat says it
 * (R14, R19). */

enum { FAILED_REPLICAS_MAX = 10000 }; /* over it the broker ends: others shall lead */

static void failures_end(struct shard *shard, const char *why)
{
    shard->env->exit_node(shard->env->self, 1, why);
}

/* ---- seen by a shard ---- */

/* One failed directory is contained: its replicas answer KAFKA_STORAGE_ERROR, the others go on. */
void failure_seen(struct shard *shard, const struct partition_id *id, uint32_t disk, err_t err)
{
    ASSERT(disk < DIRECTORIES_MAX);
    if (err == ERR_KAFKA_STORAGE_ERROR && !(shard->disks_failed & 1U << disk)) {
        shard->disks_failed |= 1U << disk;
        log_dir_mark_failed(&shard->env->disks[disk]);
    }
    struct shard_failure *failure = malloc(sizeof(*failure));
    if (failure == NULL) {
        failures_end(shard, "no memory to report a failed replica");
        return;
    }
    failure->id = *id;
    failure->disk = disk;
    failure->err = err;
    if (shard->idx != 0)
        shard_post(shard, 0, &failure->message, SHARD_FAILURE);
    else
        failure_arrived(shard, failure);
}

/* ---- at shard 0 ---- */

static bool failures_remove(struct failures *failures, const struct partition_id *id)
{
    for (size_t i = 0; i < failures->count; i++) {
        if (!partition_id_equal(&failures->ids[i], id))
            continue;
        failures->ids[i] = failures->ids[--failures->count];
        return true;
    }
    return false;
}

static void failures_add(struct shard *shard, const struct partition_id *id)
{
    struct failures *failures = &shard->lifecycle.failures;
    (void)failures_remove(failures, id); /* told again */
    if (failures->count == failures->capacity) {
        size_t capacity = failures->capacity == 0 ? 16 : 2 * failures->capacity;
        struct partition_id *ids = capacity > 2 * FAILED_REPLICAS_MAX
                                       ? NULL
                                       : realloc(failures->ids, capacity * sizeof(*ids));
        if (ids == NULL) {
            failures_end(shard, "too many replicas have failed; see the lines above, and the "
                                "disks");
            return;
        }
        failures->ids = ids;
        failures->capacity = capacity;
    }
    failures->ids[failures->count++] = *id;
}

void failure_arrived(struct shard *shard, struct shard_failure *failure)
{
    struct failures *failures = &shard->lifecycle.failures;
    uint32_t bit = failure->err == ERR_KAFKA_STORAGE_ERROR ? 1U << failure->disk : 0;
    if (bit & ~failures->disks)
        log_error("log directory %u is offline: a sync failed; karstd verify can bring it back",
                  (unsigned)failure->disk);
    failures->disks |= bit;
    if (failure->err == ERR_OK)
        (void)failures_remove(failures, &failure->id);
    else
        failures_add(shard, &failure->id);
    free(failure);
    lifecycle_failed(shard, failures->disks == (1U << shard->env->disk_count) - 1);
}

/* Into a heartbeat, which lives in the scratch arena. False: no memory. */
bool failures_fill(struct shard *shard, Karst__HeartbeatRequest *request)
{
    const struct shard_config *config = shard->config;
    const struct failures *failures = &shard->lifecycle.failures;
    struct arena *arena = &shard->scratch;
    if (failures->count == 0 && failures->disks == 0)
        return true;
    Karst__LostReplica *rows = arena_calloc(arena, failures->count + 1, sizeof(*rows));
    request->failed = arena_calloc(arena, failures->count + 1, sizeof(Karst__LostReplica *));
    request->failed_directories =
        arena_calloc(arena, DIRECTORIES_MAX, sizeof(*request->failed_directories));
    if (rows == NULL || request->failed == NULL || request->failed_directories == NULL)
        return false;
    for (size_t i = 0; i < failures->count; i++) {
        karst__lost_replica__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&failures->ids[i].topic);
        rows[i].index = failures->ids[i].index;
        request->failed[i] = &rows[i];
    }
    request->n_failed = failures->count;
    for (size_t i = 0; i < config->directory_count; i++)
        if (failures->disks & 1U << i)
            request->failed_directories[request->n_failed_directories++] =
                wire_put_uuid(&config->directories[i]);
    return true;
}

void failures_fini(struct shard *shard)
{
    free(shard->lifecycle.failures.ids);
    shard->lifecycle.failures = (struct failures){0};
}
