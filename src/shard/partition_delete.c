#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shard/partition_internal.h"

/* Folders of deleted topics (R21). Each is renamed, and that is synced, before anything in it goes:
 * from then on the name is free for another topic, and no crash can bring it back half deleted.
 * Some at a time, with their syncs in common: a topic may have had thousands, and what is unlinked
 * burdens the file system's journal, on which everybody's syncs wait. */

enum {
    RENAMED_AT_ONCE_MAX = 256,
    RENAMED_FEW = 16, /* over it the next ones wait */
    UNLINKED_AT_ONCE_MAX = 64,
    FILES_MAX = 65536, /* of one folder, or folders of one disk, in one sweep */
    NAME_SIZE = 512,
};
#define DELETED_SUFFIX "-delete"
#define RENAME_PAUSE_NS ENV_MS(250)
#define UNLINK_NS ENV_MS(10) /* of a turn */

struct deletion {
    struct list_node link;
    uint32_t disk;
    bool renamed, failed;
    struct partition_id id; /* of one that is not renamed yet */
    char folder[NAME_SIZE];
};

struct names {
    struct env_disk *disk;
    char (*list)[NAME_SIZE];
    size_t count, capacity;
    const char *suffix; /* of directories; NULL: files */
};

static void names_entry(void *context, const char *entry, bool is_directory)
{
    struct names *names = context;
    size_t len = strlen(entry);
    if (is_directory != (names->suffix != NULL) || len >= NAME_SIZE || names->count >= FILES_MAX)
        return;
    size_t suffix = names->suffix == NULL ? 0 : strlen(names->suffix);
    if (suffix > len || (suffix > 0 && strcmp(entry + len - suffix, names->suffix) != 0))
        return;
    if (names->count == names->capacity) {
        size_t capacity = names->capacity == 0 ? 16 : names->capacity * 2;
        void *list = realloc(names->list, capacity * NAME_SIZE);
        if (list == NULL)
            return; /* the next start sweeps what is left */
        names->list = list;
        names->capacity = capacity;
    }
    memcpy(names->list[names->count++], entry, len + 1);
}

static void unlink_folder(struct env_disk *disk, const char *folder)
{
    struct names files = {.disk = disk};
    char path[2 * NAME_SIZE];
    err_t err = disk->list(disk->self, folder, names_entry, &files);
    for (size_t i = 0; i < files.count && err == ERR_OK; i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, files.list[i]);
        err = disk->unlink(disk->self, path);
    }
    free(files.list);
    if (err == ERR_OK)
        err = disk->unlink(disk->self, folder);
    if (err != ERR_OK)
        log_warn("%s: not all of it was deleted: %s", folder, err_sentence(err));
}

static void deletion_rename(struct env_disk *on, struct deletion *d)
{
    char deleted[NAME_SIZE], topic[UUID_TEXT_SIZE];
    (void)snprintf(deleted, sizeof(deleted), "%.*s.%s" DELETED_SUFFIX, FOLDER_SIZE, d->folder,
                   uuid_text(&d->id.topic, topic));
    err_t err = on->rename(on->self, d->folder, deleted);
    if (err == ERR_OK) {
        log_info("%s: deleted with its topic", d->folder);
        memcpy(d->folder, deleted, sizeof(deleted));
        d->renamed = true;
    } else {
        log_error("%s: can not be deleted: %s", d->folder, err_sentence(err));
        d->failed = true;
    }
}

/* Their rows in the manifest, by one change. */
static err_t forget_rows(struct partition_table *table, uint32_t disk,
                         const struct partition_id *ids, size_t count)
{
    struct manifest **manifest = &table->manifests[disk];
    err_t err = ERR_OK;
    if (count == 0)
        return ERR_OK;
    if (*manifest == NULL)
        err = manifest_open(&table->env->disks[disk], table->host.shard, manifest);
    return err == ERR_OK ? manifest_change(*manifest, false, ids, count) : err;
}

/* Renames; what may be unlinked from then on goes into the table's list. */
static void rename_batch(struct partition_table *table, uint32_t disk, struct list_node *batch)
{
    struct env_disk *on = &table->env->disks[disk];
    struct partition_id ids[RENAMED_AT_ONCE_MAX];
    size_t count = 0;
    list_for_each (node, batch) {
        struct deletion *d = list_entry(node, struct deletion, link);
        if (d->renamed)
            continue;
        deletion_rename(on, d);
        if (!d->failed)
            ids[count++] = d->id;
    }
    err_t err = count == 0 ? ERR_OK : on->sync_names(on->self, "");
    if (err == ERR_OK)
        err = forget_rows(table, disk, ids, count);
    bool full = err == ERR_NOT_ENOUGH_SPACE;
    if (err != ERR_OK && !full)
        log_error("deleted folders are left to the next start: %s", err_sentence(err));
    for (struct list_node *node; (node = list_pop_front(batch)) != NULL;) {
        struct deletion *d = list_entry(node, struct deletion, link);
        if (full && !d->failed)
            unlink_folder(on, d->folder);
        if (err == ERR_OK && !d->failed)
            list_push_back(&table->unlinks, &d->link);
        else
            free(d);
    }
    /* R16: what frees space must not need any first. A row that stays names a topic that is no
     * more: nobody misses it. */
    if (full)
        (void)forget_rows(table, disk, ids, count);
}

static void rename_some(struct partition_table *table, uint64_t now_ns)
{
    struct list_node batch;
    unsigned count = 0;
    list_init(&batch);
    uint32_t disk = list_entry(table->deletions.next, struct deletion, link)->disk;
    for (; count < RENAMED_AT_ONCE_MAX && !list_empty(&table->deletions); count++) {
        struct deletion *d = list_entry(table->deletions.next, struct deletion, link);
        if (d->disk != disk)
            break;
        list_remove(&d->link);
        list_push_back(&batch, &d->link);
    }
    rename_batch(table, disk, &batch);
    if (count > RENAMED_FEW)
        table->rename_ns = now_ns + RENAME_PAUSE_NS;
}

void partition_delete_some(struct partition_table *table)
{
    const struct env *env = table->env;
    uint64_t now_ns = env_now(env);
    struct list_node *node;
    if (!list_empty(&table->deletions) && now_ns >= table->rename_ns)
        rename_some(table, now_ns);
    for (unsigned i = 0; i < UNLINKED_AT_ONCE_MAX; i++) {
        if (i > 0 && env_now(env) > now_ns + UNLINK_NS)
            return;
        if ((node = list_pop_front(&table->unlinks)) == NULL)
            return;
        struct deletion *d = list_entry(node, struct deletion, link);
        unlink_folder(&env->disks[d->disk], d->folder);
        free(d);
    }
}

static struct deletion *deletion_add(struct partition_table *table, uint32_t disk,
                                     const char *folder)
{
    struct deletion *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        log_error("%s: no memory to delete it: left alone", folder);
        return NULL;
    }
    d->disk = disk;
    (void)snprintf(d->folder, sizeof(d->folder), "%s", folder);
    list_push_back(&table->deletions, &d->link);
    return d;
}

void partition_delete_folder(struct partition_table *table, uint32_t disk, const char *folder,
                             const struct partition_id *id)
{
    struct deletion *d = deletion_add(table, disk, folder);
    if (d != NULL)
        d->id = *id;
}

void partition_delete_renamed(struct partition_table *table, uint32_t disk, const char *folder)
{
    struct deletion *d = deletion_add(table, disk, folder);
    if (d != NULL)
        d->renamed = true;
}

void partition_each_folder(struct env_disk *disk, const char *suffix,
                           void (*each)(void *context, const char *folder), void *context)
{
    struct names names = {.disk = disk, .suffix = suffix};
    err_t err = disk->list(disk->self, "", names_entry, &names);
    for (size_t i = 0; i < names.count && err == ERR_OK; i++)
        each(context, names.list[i]);
    free(names.list);
}

struct sweep {
    struct partition_table *table;
    uint32_t disk;
};

static void sweep_one(void *context, const char *folder)
{
    const struct sweep *sweep = context;
    partition_delete_renamed(sweep->table, sweep->disk, folder);
}

void partition_sweep_deleted(struct partition_table *table)
{
    for (uint32_t i = 0; i < table->env->disk_count; i++) {
        struct sweep sweep = {table, i};
        partition_each_folder(&table->env->disks[i], DELETED_SUFFIX, sweep_one, &sweep);
    }
}

void partition_deletions_fini(struct partition_table *table, bool sync)
{
    for (struct list_node *node; (node = list_pop_front(&table->deletions)) != NULL;) {
        struct deletion *d = list_entry(node, struct deletion, link);
        if (sync && !d->renamed) /* durable or not: at worst it is a stray at the next start */
            deletion_rename(&table->env->disks[d->disk], d);
        free(d);
    }
    for (struct list_node *node; (node = list_pop_front(&table->unlinks)) != NULL;)
        free(list_entry(node, struct deletion, link));
}
