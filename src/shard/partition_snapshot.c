#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"
#include "shard/partition_internal.h"

/* What is known of a partition's producers, beside its log: a start then reads the log from there
 * on. A snapshot that tells of more than the log holds is of another history, and goes before the
 * log can grow past it again. */

enum { SNAPSHOT_BYTES_MAX = 64 << 20, SNAPSHOT_NAME_SIZE = FOLDER_SIZE + 32 };

static void snapshot_name(const struct partition *p, const char *suffix,
                          char into[SNAPSHOT_NAME_SIZE])
{
    (void)snprintf(into, SNAPSHOT_NAME_SIZE, "%s/producers.snapshot%s", p->folder, suffix);
}

static err_t write_aside(struct env_disk *disk, const char *name, uint8_t *data, size_t len)
{
    env_file file;
    struct iovec part = {data, len};
    err_t err = disk->open(disk->self, name, ENV_OPEN_CREATE, &file);
    if (err != ERR_OK)
        return err;
    err = disk->set_size(disk->self, file, 0);
    if (err == ERR_OK)
        err = disk->write(disk->self, file, 0, &part, 1);
    if (err == ERR_OK)
        err = disk->sync_now(disk->self, file);
    disk->close(disk->self, file);
    return err;
}

static err_t save(struct partition *p, uint8_t *data, size_t len)
{
    struct env_disk *disk = &p->table->env->disks[p->disk];
    char name[SNAPSHOT_NAME_SIZE], aside[SNAPSHOT_NAME_SIZE];
    snapshot_name(p, "", name);
    snapshot_name(p, ".tmp", aside);
    err_t err = write_aside(disk, aside, data, len);
    if (err == ERR_OK)
        err = disk->rename(disk->self, aside, name);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, p->folder);
    return err;
}

void partition_save_snapshot(struct partition *p, uint64_t bytes_min)
{
    uint64_t written = log_bytes(p->log);
    if (p->replica.failed || written < p->snapshot_bytes + bytes_min)
        return;
    size_t len = replica_snapshot_bytes(&p->replica);
    uint8_t *data = len > SNAPSHOT_BYTES_MAX ? NULL : malloc(len);
    if (data == NULL)
        return; /* the next start reads more */
    replica_write_snapshot(&p->replica, data);
    p->snapshot_offset = p->replica.end; /* also when it fails: who knows what is there then */
    p->snapshot_bytes = written;
    err_t err = save(p, data, len);
    free(data);
    if (err != ERR_OK)
        log_warn("%s: the snapshot of producers was not written: %s", p->folder, err_sentence(err));
}

err_t partition_drop_snapshot(struct partition *p, offset_t above)
{
    struct env_disk *disk = &p->table->env->disks[p->disk];
    char name[SNAPSHOT_NAME_SIZE];
    if (p->snapshot_offset <= above || CANARY("log_state_survives_truncation"))
        return ERR_OK;
    snapshot_name(p, "", name);
    err_t err = disk->unlink(disk->self, name);
    if (err == ERR_NOT_FOUND)
        err = ERR_OK;
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, p->folder);
    if (err == ERR_OK) {
        p->snapshot_offset = -1;
        p->snapshot_bytes = 0;
    }
    return err;
}

static err_t load(const struct partition *p, uint8_t **ret_data, size_t *ret_len)
{
    struct env_disk *disk = &p->table->env->disks[p->disk];
    char name[SNAPSHOT_NAME_SIZE];
    env_file file;
    uint64_t size = 0;
    uint8_t *data = NULL;
    snapshot_name(p, "", name);
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, file, &size);
    if (err == ERR_OK && size > SNAPSHOT_BYTES_MAX)
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        data = malloc((size_t)size + 1);
    if (data != NULL)
        err = disk->read(disk->self, file, 0, data, (size_t)size, ret_len);
    else if (err == ERR_OK)
        err = ERR_NO_MEMORY;
    disk->close(disk->self, file);
    if (err == ERR_OK)
        *ret_data = data;
    else
        free(data);
    return err;
}

static err_t load_snapshot(struct partition *p, offset_t *ret_from)
{
    uint8_t *data;
    size_t len;
    *ret_from = log_start(p->log);
    p->snapshot_offset = -1;
    p->snapshot_bytes = 0;
    err_t err = load(p, &data, &len);
    if (err == ERR_NOT_FOUND)
        return ERR_OK;
    if (err == ERR_OK) {
        err = replica_read_snapshot(&p->replica, (struct bytes){data, len}, ret_from);
        free(data);
    }
    if (err == ERR_OK) {
        p->snapshot_offset = *ret_from;
        p->snapshot_bytes = log_bytes(p->log);
        if (*ret_from < log_start(p->log))
            *ret_from = log_start(p->log);
        return ERR_OK;
    }
    log_info("%s: the snapshot of producers is of no use: %s", p->folder, err_sentence(err));
    p->snapshot_offset = INT64_MAX; /* whatever it tells of */
    return partition_drop_snapshot(p, -1);
}

static err_t note_batch(void *context, const struct batch_info *info, const uint8_t *batch)
{
    (void)batch;
    replica_note_batch(context, info);
    return ERR_OK;
}

err_t partition_read_producers(struct partition *p)
{
    offset_t from;
    err_t err = load_snapshot(p, &from);
    return err == ERR_OK ? log_walk(p->log, from, note_batch, &p->replica) : err;
}
