#include "shard/partition_internal.h"

/* A clean stop: each log would sync its files and names several times over; where there are many,
 * a few syncs of their whole disk do it for all. */

enum { TOGETHER_MIN = 4 /* dirty logs of one disk: fewer are closed one by one */ };

static void stop_replicas(struct partition_table *table)
{
    list_for_each (node, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        struct replica_event ev = {.type = REPLICA_CLOSE, .err = ERR_NOT_LEADER_OR_FOLLOWER};
        if (p->log == NULL)
            continue;
        partition_step(p, &ev);
        partition_save_snapshot(p, SNAPSHOT_STOP_BYTES);
    }
}

static size_t dirty_logs(const struct partition_table *table, uint32_t disk)
{
    size_t count = 0;
    list_for_each (node, &table->all) {
        const struct partition *p = list_entry(node, struct partition, all);
        count += p->log != NULL && p->disk == disk && log_close_syncs(p->log);
    }
    return count;
}

static err_t take_step(struct partition_table *table, uint32_t disk, enum log_stop_step step)
{
    err_t first = ERR_OK;
    list_for_each (node, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        if (p->log == NULL || p->disk != disk || p->stopped)
            continue;
        err_t err = log_stop(p->log, step);
        if (err == ERR_OK)
            continue;
        log_warn("%s: not all of it is on the disk: %s", p->folder, err_sentence(err));
        p->stopped = true; /* as in a crash */
        first = first == ERR_OK ? err : first;
    }
    return first;
}

static err_t stop_disk(struct partition_table *table, uint32_t disk)
{
    struct env_disk *on = &table->env->disks[disk];
    err_t first = ERR_OK, err = ERR_OK;
    for (unsigned step = 0; step < LOG_STOP_STEPS && err == ERR_OK; step++) {
        err = take_step(table, disk, (enum log_stop_step)step);
        first = first == ERR_OK ? err : first;
        err = on->sync_all(on->self);
        if (err == ERR_UNSUPPORTED_VERSION)
            return first; /* nothing is marked yet: one by one */
    }
    list_for_each (node, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        p->stopped = p->stopped || (p->log != NULL && p->disk == disk);
    }
    return first == ERR_OK ? err : first;
}

err_t partition_stop_logs(struct partition_table *table)
{
    err_t first = ERR_OK;
    stop_replicas(table);
    for (uint32_t disk = 0; disk < table->env->disk_count; disk++) {
        if (dirty_logs(table, disk) < TOGETHER_MIN)
            continue;
        err_t err = stop_disk(table, disk);
        first = first == ERR_OK ? err : first;
    }
    return first;
}
