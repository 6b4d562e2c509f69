#include "log/manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/crc32c.h"
#include "log/log_internal.h"

enum {
    ROW_BYTES = 32,
    MANIFEST_MAGIC = 0x4b4d414e, /* KMAN */
    MANIFEST_VERSION = 1,
    MANIFEST_BYTES_MAX = 256 * 1024 * 1024,
    KIND_ADDED = 1,
    KIND_REMOVED = 2,
};

/* ---- the set ---- */

static void key_make(uint8_t key[20], const struct partition_id *id)
{
    memcpy(key, id->topic.b, sizeof(id->topic.b));
    put_u32(key + 16, (uint32_t)id->index);
}

void manifest_set_init(struct manifest_set *set)
{
    table_init(&set->table, 0);
}

void manifest_set_fini(struct manifest_set *set)
{
    uint32_t at = 0;
    for (struct manifest_entry *entry; (entry = table_next(&set->table, &at)) != NULL;)
        free(entry);
    table_fini(&set->table);
}

bool manifest_set_has(const struct manifest_set *set, const struct partition_id *id)
{
    uint8_t key[20];
    key_make(key, id);
    return table_get_bytes(&set->table, (struct bytes){key, sizeof(key)}) != NULL;
}

err_t manifest_set_add(struct manifest_set *set, const struct partition_id *id)
{
    if (manifest_set_has(set, id))
        return ERR_OK;
    struct manifest_entry *entry = calloc(1, sizeof(*entry));
    if (entry == NULL)
        return ERR_NO_MEMORY;
    entry->id = *id;
    key_make(entry->key, id);
    err_t err = table_put_bytes(&set->table, (struct bytes){entry->key, sizeof(entry->key)}, entry);
    if (err != ERR_OK)
        free(entry);
    return err;
}

static void set_remove(struct manifest_set *set, const struct partition_id *id)
{
    uint8_t key[20];
    key_make(key, id);
    free(table_remove_bytes(&set->table, (struct bytes){key, sizeof(key)}));
}

/* ---- rows ---- */

static void row_seal(uint8_t row[ROW_BYTES])
{
    put_u32(row + ROW_BYTES - 4, crc32c(0, row, ROW_BYTES - 4));
}

static bool row_good(const uint8_t row[ROW_BYTES])
{
    return get_u32(row + ROW_BYTES - 4) == crc32c(0, row, ROW_BYTES - 4);
}

static void row_head(uint8_t row[ROW_BYTES])
{
    memset(row, 0, ROW_BYTES);
    put_u32(row, MANIFEST_MAGIC);
    put_u32(row + 4, MANIFEST_VERSION);
    row_seal(row);
}

static void row_make(uint8_t row[ROW_BYTES], uint32_t kind, const struct partition_id *id)
{
    memset(row, 0, ROW_BYTES);
    put_u32(row, kind);
    key_make(row + 4, id);
    row_seal(row);
}

static void row_id(const uint8_t row[ROW_BYTES], struct partition_id *ret_id)
{
    memcpy(ret_id->topic.b, row + 4, sizeof(ret_id->topic.b));
    ret_id->index = (int32_t)get_u32(row + 20);
}

static void row_remove(struct manifest_set *set, const uint8_t row[ROW_BYTES])
{
    struct partition_id id;
    row_id(row, &id);
    set_remove(set, &id);
}

static err_t row_apply(const uint8_t row[ROW_BYTES], struct manifest_set *set, bool *ret_removed)
{
    struct partition_id id;
    uint32_t kind = get_u32(row);
    row_id(row, &id);
    if (kind == KIND_ADDED)
        return manifest_set_add(set, &id);
    if (kind != KIND_REMOVED)
        return ERR_UNSUPPORTED_VERSION;
    set_remove(set, &id);
    *ret_removed = true;
    return ERR_OK;
}

static err_t rows_apply(const uint8_t *data, size_t len, struct manifest_set *set,
                        struct manifest_file *ret)
{
    uint8_t head[ROW_BYTES];
    row_head(head);
    if (len < ROW_BYTES || memcmp(data, head, ROW_BYTES) != 0) {
        ret->foldable = true;
        /* Torn at its creation: no row was ever synced into it. */
        return len <= ROW_BYTES ? ERR_OK : ERR_CORRUPT;
    }
    size_t at = ROW_BYTES;
    for (; at + ROW_BYTES <= len; at += ROW_BYTES) {
        if (!row_good(data + at))
            break;
        err_t err = row_apply(data + at, set, &ret->foldable);
        if (err != ERR_OK)
            return err;
    }
    ret->good_bytes = at;
    /* Each row was synced before the next was written: only the last one can be torn. */
    if (len - at >= 2 * ROW_BYTES)
        return ERR_CORRUPT;
    ret->foldable = ret->foldable || len > at;
    return ERR_OK;
}

err_t manifest_load(struct env_disk *disk, const char *name, struct manifest_set *set,
                    struct manifest_file *ret)
{
    uint8_t *data;
    size_t len;
    *ret = (struct manifest_file){0};
    err_t err = small_file_load(disk, name, MANIFEST_BYTES_MAX, &data, &len);
    if (err == ERR_NOT_FOUND)
        return ERR_OK;
    if (err != ERR_OK)
        return err;
    err = rows_apply(data, len, set, ret);
    free(data);
    return err;
}

err_t manifest_fold(struct env_disk *disk, const struct manifest_set *set)
{
    size_t len = (table_count(&set->table) + 1) * ROW_BYTES;
    uint8_t *data = malloc(len);
    if (data == NULL)
        return ERR_NO_MEMORY;
    row_head(data);
    uint8_t *row = data + ROW_BYTES;
    uint32_t at = 0;
    for (struct manifest_entry *entry; (entry = table_next(&set->table, &at)) != NULL;) {
        row_make(row, KIND_ADDED, &entry->id);
        row += ROW_BYTES;
    }
    err_t err = small_file_replace(disk, "", "manifest-0", data, len);
    free(data);
    return err;
}

/* ---- the writer of one shard ---- */

struct manifest {
    struct env_disk *disk;
    env_file file;
    char name[32];
    uint64_t end;
    struct manifest_set set;
    bool failed;
};

static err_t manifest_append(struct manifest *manifest, uint8_t row[ROW_BYTES])
{
    struct env_disk *disk = manifest->disk;
    struct iovec part = {.iov_base = row, .iov_len = ROW_BYTES};
    if (manifest->failed)
        return ERR_KAFKA_STORAGE_ERROR;
    err_t err = disk->write(disk->self, manifest->file, manifest->end, &part, 1);
    if (err != ERR_OK)
        return err; /* the next try overwrites what there is of it */
    err = disk->sync_now(disk->self, manifest->file);
    if (err != ERR_OK) {
        manifest->failed = true;
        return err;
    }
    manifest->end += ROW_BYTES;
    return ERR_OK;
}

/* The head comes with the first row, durable before it: a shard that only opens what others have
 * named needs no room (R16). */
static err_t manifest_write(struct manifest *manifest, uint8_t row[ROW_BYTES])
{
    struct env_disk *disk = manifest->disk;
    uint8_t head[ROW_BYTES];
    err_t err = ERR_OK;
    if (manifest->end == 0) {
        row_head(head);
        err = manifest_append(manifest, head);
        if (err != ERR_OK)
            return err;
        err = disk->sync_names(disk->self, "");
        manifest->failed = err != ERR_OK; /* R14: of the name's sync nothing is known */
    }
    return err == ERR_OK ? manifest_append(manifest, row) : err;
}

static err_t manifest_begin(struct manifest *manifest, uint64_t good_bytes)
{
    manifest->end = good_bytes;
    return manifest->disk->set_size(manifest->disk->self, manifest->file, good_bytes);
}

err_t manifest_open(struct env_disk *disk, unsigned writer, struct manifest **ret_manifest)
{
    struct manifest_file folded, own;
    struct manifest *manifest = calloc(1, sizeof(*manifest));
    if (manifest == NULL)
        return ERR_NO_MEMORY;
    manifest->disk = disk;
    manifest->file.id = -1;
    manifest_set_init(&manifest->set);
    (void)snprintf(manifest->name, sizeof(manifest->name), "manifest-%u", writer); /* fits */
    err_t err = manifest_load(disk, "manifest-0", &manifest->set, &folded);
    own = folded;
    if (err == ERR_OK && writer != 0)
        err = manifest_load(disk, manifest->name, &manifest->set, &own);
    if (err == ERR_OK)
        err = disk->open(disk->self, manifest->name, ENV_OPEN_CREATE, &manifest->file);
    if (err == ERR_OK)
        err = manifest_begin(manifest, own.good_bytes);
    if (err != ERR_OK) {
        manifest_close(manifest);
        return err;
    }
    *ret_manifest = manifest;
    return ERR_OK;
}

/* The file with rows added, in its place: several rows written behind the others could be torn so
 * that good ones follow a bad one, which is what rot looks like. */
static err_t manifest_replace(struct manifest *manifest, const uint8_t *rows, size_t len)
{
    struct env_disk *disk = manifest->disk;
    uint8_t *data;
    size_t old;
    env_file file;
    if (manifest->failed)
        return ERR_KAFKA_STORAGE_ERROR;
    err_t err = small_file_load(disk, manifest->name, MANIFEST_BYTES_MAX, &data, &old);
    if (err != ERR_OK)
        return err;
    size_t head = manifest->end == 0 ? ROW_BYTES : (size_t)manifest->end;
    uint8_t *both = realloc(data, head + len);
    if (both == NULL || (manifest->end > 0 && old < head)) {
        free(both == NULL ? data : both);
        return both == NULL ? ERR_NO_MEMORY : ERR_CORRUPT;
    }
    if (manifest->end == 0)
        row_head(both);
    memcpy(both + head, rows, len);
    err = small_file_write_aside(disk, manifest->name, both, head + len, true);
    free(both);
    if (err != ERR_OK) {
        manifest->failed = err != ERR_NOT_ENOUGH_SPACE; /* then it is as it was */
        return err;
    }
    err = small_file_put_in_place(disk, manifest->name);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, "");
    if (err == ERR_OK)
        err = disk->open(disk->self, manifest->name, 0, &file);
    if (err != ERR_OK) {
        manifest->failed = true; /* which of the two files it is now, nobody knows */
        return err;
    }
    disk->close(disk->self, manifest->file);
    manifest->file = file;
    manifest->end = head + len;
    return ERR_OK;
}

/* The set is ahead of the file by what is added, and lacks nothing that the file may have: a
 * removal that finds nothing would leave the row. After a failed sync that is not known. */
err_t manifest_change(struct manifest *manifest, bool add, const struct partition_id *ids,
                      size_t count)
{
    size_t len = 0;
    err_t err = ERR_OK;
    if (!add && manifest->failed)
        return ERR_KAFKA_STORAGE_ERROR;
    uint8_t *rows = calloc(count + 1, ROW_BYTES); /* never nothing */
    if (rows == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        if (manifest_set_has(&manifest->set, &ids[i]) == add)
            continue;
        row_make(rows + len, add ? KIND_ADDED : KIND_REMOVED, &ids[i]);
        len += ROW_BYTES;
        if (add)
            err = manifest_set_add(&manifest->set, &ids[i]);
    }
    if (err == ERR_OK && len > 0)
        err = len == ROW_BYTES ? manifest_write(manifest, rows)
                               : manifest_replace(manifest, rows, len);
    /* What was added in vain, or is removed now: the rows say which. */
    for (size_t at = 0; at < len && add == (err != ERR_OK); at += ROW_BYTES)
        row_remove(&manifest->set, rows + at);
    free(rows);
    return err;
}

err_t manifest_add(struct manifest *manifest, const struct partition_id *id)
{
    return manifest_change(manifest, true, id, 1);
}

err_t manifest_remove(struct manifest *manifest, const struct partition_id *id)
{
    return manifest_change(manifest, false, id, 1);
}

void manifest_close(struct manifest *manifest)
{
    if (manifest == NULL)
        return;
    if (manifest->file.id >= 0)
        manifest->disk->close(manifest->disk->self, manifest->file);
    manifest_set_fini(&manifest->set);
    free(manifest);
}
