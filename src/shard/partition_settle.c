#include <stdlib.h>

#include "shard/partition_internal.h"

/* New logs become durable, and are named in the manifest, before their first record is taken (R1,
 * R21): five syncs each, in which the shard stands still. A topic with many partitions has a worker
 * sync the disk as a whole meanwhile, and one change of the manifest names them all. A record that
 * comes earlier does not wait for that: the shard does the same for all at once. */

enum {
    SETTLED_AT_ONCE_MAX = 1024,
    SETTLED_AT_ONCE_MIN = 4, /* fewer do it themselves */
    SETTLE_NOW_COUNT = 256,  /* also while others are still made */
};

struct settling {
    struct env_done op;
    struct partition_table *table; /* NULL: gone */
    struct env_disk *disk;
    uint32_t disk_idx;
    err_t err;
    size_t count;
    struct partition_id ids[SETTLED_AT_ONCE_MAX];
};

/* On a worker's thread. */
static void settling_run(void *arg)
{
    struct settling *s = arg;
    s->err = s->disk->sync_all(s->disk->self);
}

static err_t name_all(struct partition_table *table, const struct settling *s)
{
    struct manifest **manifest = &table->manifests[s->disk_idx];
    err_t err = ERR_OK;
    if (*manifest == NULL)
        err = manifest_open(s->disk, table->host.shard, manifest);
    return err == ERR_OK ? manifest_change(*manifest, true, s->ids, s->count) : err;
}

/* The disk is synced as a whole: those that did not do it alone meanwhile are named. */
static err_t settle(struct partition_table *table, struct settling *s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->count; i++) {
        struct partition *p = partition_find(table, &s->ids[i]);
        if (p == NULL || p->log == NULL || p->in_manifest)
            continue; /* deleted, or it did not wait */
        log_settled(p->log);
        s->ids[kept++] = s->ids[i];
    }
    s->count = kept;
    err_t err = name_all(table, s);
    for (size_t i = 0; i < s->count && err == ERR_OK; i++)
        partition_find(table, &s->ids[i])->in_manifest = true;
    return err;
}

static void settling_done(struct env_done *op, err_t err)
{
    struct settling *s = container_of(op, struct settling, op);
    struct partition_table *table = s->table;
    if (table != NULL) {
        table->settling = NULL;
        if (err == ERR_OK && s->err == ERR_OK)
            (void)settle(table, s); /* told by the first record of each, which tries for itself */
    }
    free(s);
}

static bool is_time(const struct partition_table *table)
{
    return table->settling == NULL && table->fresh_count > 0 &&
           (list_empty(&table->opening) || table->fresh_count >= SETTLE_NOW_COUNT);
}

/* Takes the new logs of one disk from the list. NULL: no memory. */
static struct settling *settling_new(struct partition_table *table, uint32_t disk)
{
    struct settling *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->disk_idx = disk;
    s->disk = &table->env->disks[disk];
    s->table = table;
    s->op.done = settling_done;
    list_for_each_safe (node, after, &table->fresh) {
        struct partition *p = list_entry(node, struct partition, fresh);
        if (p->disk != disk || s->count == SETTLED_AT_ONCE_MAX)
            continue;
        if (!p->in_manifest)
            s->ids[s->count++] = p->id;
        partition_not_fresh(p);
    }
    return s;
}

void partition_settle_some(struct partition_table *table)
{
    struct settling *s = NULL;
    if (is_time(table))
        s = settling_new(table, list_entry(table->fresh.next, struct partition, fresh)->disk);
    if (s == NULL)
        return;
    struct env_workers *workers = &table->env->workers;
    if (s->count >= SETTLED_AT_ONCE_MIN &&
        workers->submit(workers->self, settling_run, s, &s->op) == ERR_OK)
        table->settling = s;
    else
        free(s); /* each with its first record */
}

static bool is_among(const struct settling *s, const struct partition_id *id)
{
    for (size_t i = 0; s != NULL && i < s->count; i++)
        if (partition_id_equal(&s->ids[i], id))
            return true;
    return false;
}

void partition_settle_now(struct partition *p)
{
    struct partition_table *table = p->table;
    struct env_disk *disk = &table->env->disks[p->disk];
    if (is_among(table->settling, &p->id)) { /* a worker is at it: then it finds nobody */
        if (table->settling->count >= SETTLED_AT_ONCE_MIN && disk->sync_all(disk->self) == ERR_OK) {
            (void)settle(table, table->settling);
            table->settling->count = 0;
        }
        return;
    }
    if (list_empty(&p->fresh) || table->fresh_count < SETTLED_AT_ONCE_MIN)
        return;
    struct settling *s = settling_new(table, p->disk);
    if (s != NULL && disk->sync_all(disk->self) == ERR_OK)
        (void)settle(table, s);
    free(s);
}

void partition_is_fresh(struct partition *p)
{
    list_push_back(&p->table->fresh, &p->fresh);
    p->table->fresh_count++;
}

void partition_not_fresh(struct partition *p)
{
    if (list_empty(&p->fresh))
        return;
    list_remove(&p->fresh);
    p->table->fresh_count--;
}

void partition_settling_fini(struct partition_table *table, bool loop_runs)
{
    if (table->settling == NULL)
        return;
    table->settling->table = NULL; /* its completion frees it */
    if (!loop_runs)
        free(table->settling);
    table->settling = NULL;
}
