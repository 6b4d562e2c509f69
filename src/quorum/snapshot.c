#include "quorum/snapshot.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/canary.h"
#include "base/crc32c.h"
#include "base/logger.h"
#include "proto/quorum.pb-c.h"
#include "quorum/store.h"
#include "wire/wire.h"

enum {
    MAGIC = 0x4B534E50, /* "KSNP" */
    VERSION = 1,
    FIXED_BYTES = 12,
    CRC_BYTES = 4,
    HEAD_ARENA_BYTES = 64 << 10,
    NAME_BYTES = 80,
};

/* ---- bytes ---- */

struct packed_head {
    Karst__SnapshotHead head;
    Karst__SnapshotServer servers[MEMBERS_MAX];
    Karst__SnapshotServer *pointers[MEMBERS_MAX];
    char addresses[MEMBERS_MAX][QUORUM_ADDRESS_MAX];
};

static void head_to_proto(const struct snapshot_head *head, size_t image_bytes,
                          struct packed_head *packed)
{
    packed->head = (Karst__SnapshotHead)KARST__SNAPSHOT_HEAD__INIT;
    packed->head.index = head->index;
    packed->head.term = head->term;
    packed->head.cluster_id = wire_put_uuid(&head->cluster_id);
    packed->head.configuration_index = head->members.index;
    packed->head.image_bytes = image_bytes;
    packed->head.n_servers = head->members.count;
    packed->head.servers = packed->pointers;
    for (unsigned i = 0; i < head->members.count; i++) {
        const struct member *member = &head->members.list[i];
        packed->servers[i] = (Karst__SnapshotServer)KARST__SNAPSHOT_SERVER__INIT;
        packed->servers[i].id = member->id;
        packed->servers[i].role = (uint32_t)member->role;
        memcpy(packed->addresses[i], member->address, sizeof member->address);
        packed->servers[i].address = packed->addresses[i];
        packed->pointers[i] = &packed->servers[i];
    }
}

static bool head_from_proto(const Karst__SnapshotHead *packed, struct snapshot_head *head)
{
    head->index = packed->index;
    head->term = packed->term;
    head->members.index = packed->configuration_index;
    head->members.count = 0;
    if (!wire_get_uuid(&packed->cluster_id, &head->cluster_id) || packed->n_servers > MEMBERS_MAX ||
        packed->index == 0 || packed->index > INT64_MAX || packed->term == 0 ||
        packed->term > INT32_MAX)
        return false;
    for (size_t i = 0; i < packed->n_servers; i++) {
        const Karst__SnapshotServer *server = packed->servers[i];
        struct member *member = &head->members.list[i];
        size_t len = strlen(server->address);
        if (server->id == 0 || server->role > RAFT_SPARE || len >= sizeof member->address)
            return false;
        member->id = server->id;
        member->role = (int)server->role;
        memcpy(member->address, server->address, len + 1);
        head->members.count++;
    }
    return members_distinct(&head->members);
}

uint8_t *snapshot_encode(const struct snapshot_head *head, const struct bytes *image,
                         unsigned image_parts, size_t *ret_len)
{
    size_t image_bytes = 0;
    for (unsigned i = 0; i < image_parts; i++)
        image_bytes += image[i].len;
    struct packed_head *packed = malloc(sizeof *packed);
    if (packed == NULL)
        return NULL;
    head_to_proto(head, image_bytes, packed);
    size_t head_bytes = karst__snapshot_head__get_packed_size(&packed->head);
    size_t len = FIXED_BYTES + head_bytes + image_bytes + CRC_BYTES;
    uint8_t *file = len > SNAPSHOT_BYTES_MAX ? NULL : malloc(len);
    if (file == NULL) {
        free(packed);
        return NULL;
    }
    put_u32(file, MAGIC);
    put_u32(file + 4, VERSION);
    put_u32(file + 8, (uint32_t)head_bytes);
    (void)karst__snapshot_head__pack(&packed->head, file + FIXED_BYTES); /* head_bytes again */
    free(packed);
    uint8_t *at = file + FIXED_BYTES + head_bytes;
    for (unsigned i = 0; i < image_parts; i++) {
        if (image[i].len > 0)
            memcpy(at, image[i].data, image[i].len);
        at += image[i].len;
    }
    put_u32(at, crc32c(0, file, len - CRC_BYTES));
    *ret_len = len;
    return file;
}

err_t snapshot_decode(struct bytes file, struct snapshot_head *ret_head, struct bytes *ret_image)
{
    if (file.len < FIXED_BYTES + CRC_BYTES || get_u32(file.data) != MAGIC)
        return ERR_CORRUPT;
    if (get_u32(file.data + 4) != VERSION)
        return ERR_UNSUPPORTED_VERSION;
    size_t body = file.len - FIXED_BYTES - CRC_BYTES;
    size_t head_bytes = get_u32(file.data + 8);
    if ((head_bytes > body && !CANARY("quorum_snapshot_any_head")) ||
        get_u32(file.data + file.len - CRC_BYTES) != crc32c(0, file.data, file.len - CRC_BYTES))
        return ERR_CORRUPT;

    struct arena arena;
    arena_init(&arena, HEAD_ARENA_BYTES);
    ProtobufCMessage *message = NULL;
    struct bytes packed = {file.data + FIXED_BYTES, head_bytes};
    err_t err = wire_unpack(&karst__snapshot_head__descriptor, packed, &arena, &message);
    if (err == ERR_OK) {
        const Karst__SnapshotHead *head = (const Karst__SnapshotHead *)(const void *)message;
        struct snapshot_head decoded;
        if (head->image_bytes != body - head_bytes || !head_from_proto(head, &decoded)) {
            err = ERR_CORRUPT;
        } else {
            *ret_head = decoded;
            *ret_image = (struct bytes){packed.data + head_bytes, body - head_bytes};
        }
    } else {
        err = ERR_CORRUPT;
    }
    arena_fini(&arena);
    return err;
}

/* ---- names ---- */

static const char *const suffix = ".checkpoint";
static const char *const suffix_aside = ".checkpoint.tmp";

static void name_print(uint64_t index, uint64_t term, const char *ending, char name[NAME_BYTES])
{
    (void)snprintf(name, NAME_BYTES, STORE_DIRECTORY "/%020" PRIu64 "-%010" PRIu64 "%s", index,
                   term, ending);
}

/* "00000000000000000012-0000000003.checkpoint", and nothing after it; or the same with
 * suffix_aside. */
static bool name_parse(const char *entry, const char *ending, uint64_t *ret_index,
                       uint64_t *ret_term)
{
    char name[NAME_BYTES];
    char *end = NULL;
    uint64_t index = strtoull(entry, &end, 10);
    if (*end != '-')
        return false;
    uint64_t term = strtoull(end + 1, &end, 10);
    name_print(index, term, ending, name);
    if (strcmp(name + sizeof STORE_DIRECTORY, entry) != 0)
        return false;
    *ret_index = index;
    *ret_term = term;
    return true;
}

struct newest {
    uint64_t index, term;
};

static void newest_look(void *context, const char *entry, bool is_directory)
{
    struct newest *newest = context;
    uint64_t index = 0;
    uint64_t term = 0;
    if (!is_directory && name_parse(entry, suffix, &index, &term) && index > newest->index)
        *newest = (struct newest){index, term};
}

err_t snapshot_find(struct env_disk *disk, uint64_t *ret_index, uint64_t *ret_term)
{
    struct newest newest = {0};
    err_t err = disk->list(disk->self, STORE_DIRECTORY, newest_look, &newest);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    *ret_index = newest.index;
    *ret_term = newest.term;
    return ERR_OK;
}

enum { REMOVED_MAX = 16 };
struct removed {
    uint64_t keep;
    unsigned count;
    char names[REMOVED_MAX][NAME_BYTES];
};

static void removed_look(void *context, const char *entry, bool is_directory)
{
    struct removed *removed = context;
    uint64_t index = 0;
    uint64_t term = 0;
    bool ours =
        name_parse(entry, suffix, &index, &term) || name_parse(entry, suffix_aside, &index, &term);
    if (is_directory || removed->count == REMOVED_MAX || !ours || index >= removed->keep)
        return;
    (void)snprintf(removed->names[removed->count++], NAME_BYTES, STORE_DIRECTORY "/%s", entry);
}

void snapshot_remove_older(struct env_disk *disk, uint64_t index)
{
    struct removed removed = {.keep = index};
    (void)disk->list(disk->self, STORE_DIRECTORY, removed_look, &removed); /* best effort */
    for (unsigned i = 0; i < removed.count; i++)
        (void)disk->unlink(disk->self, removed.names[i]); /* tried again after the next one */
}

err_t snapshot_read(struct env_disk *disk, uint64_t index, uint64_t term, uint8_t **ret_file,
                    size_t *ret_len)
{
    char name[NAME_BYTES];
    name_print(index, term, suffix, name);
    env_file handle;
    err_t err = disk->open(disk->self, name, 0, &handle);
    if (err != ERR_OK)
        return err;
    uint64_t size = 0;
    size_t got = 0;
    uint8_t *file = NULL;
    err = disk->size(disk->self, handle, &size);
    if (err == ERR_OK && (size == 0 || size > SNAPSHOT_BYTES_MAX))
        err = ERR_CORRUPT;
    if (err == ERR_OK && (file = malloc(size)) == NULL)
        err = ERR_NO_MEMORY;
    if (err == ERR_OK)
        err = disk->read(disk->self, handle, 0, file, size, &got);
    if (err == ERR_OK && got != size)
        err = ERR_CORRUPT;
    disk->close(disk->self, handle);
    if (err != ERR_OK) {
        free(file);
        return err;
    }
    *ret_file = file;
    *ret_len = size;
    return ERR_OK;
}

/* ---- writing ---- */

struct snapshot_write {
    struct env_done op;
    struct env_disk *disk;
    env_file file;
    uint64_t index, term;
    snapshot_written written; /* NULL: detached */
    void *owner;
};

static err_t put_in_place(struct env_disk *disk, uint64_t index, uint64_t term)
{
    char aside[NAME_BYTES];
    char name[NAME_BYTES];
    name_print(index, term, suffix_aside, aside);
    name_print(index, term, suffix, name);
    err_t err = disk->rename(disk->self, aside, name);
    return err != ERR_OK ? err : disk->sync_names(disk->self, STORE_DIRECTORY);
}

static void write_synced(struct env_done *op, err_t err)
{
    struct snapshot_write *write = container_of(op, struct snapshot_write, op);
    snapshot_written written = write->written;
    void *owner = write->owner;
    struct env_disk *disk = write->disk;
    if (written != NULL) { /* else the actor is gone, and its disk perhaps too */
        disk->close(disk->self, write->file);
        if (err == ERR_OK)
            err = put_in_place(disk, write->index, write->term);
    }
    free(write);
    if (written != NULL)
        written(owner, err);
}

/* All of it, aside, not synced; on failure nothing is left of it. */
static err_t write_aside(struct env_disk *disk, uint64_t index, uint64_t term, struct bytes file,
                         env_file *ret_handle)
{
    char aside[NAME_BYTES];
    name_print(index, term, suffix_aside, aside);
    union {
        const uint8_t *from;
        void *into;
    } data = {.from = file.data};
    struct iovec part = {data.into, file.len};
    env_file handle;
    err_t err = disk->open(disk->self, aside, ENV_OPEN_CREATE, &handle);
    if (err != ERR_OK)
        return err;
    err = disk->set_size(disk->self, handle, 0);
    if (err == ERR_OK)
        err = disk->write(disk->self, handle, 0, &part, 1);
    if (err == ERR_OK) {
        *ret_handle = handle;
        return ERR_OK;
    }
    disk->close(disk->self, handle);
    (void)disk->unlink(disk->self, aside); /* R16: a part of one is no use to anybody */
    return err;
}

static void file_free(struct bytes file)
{
    free((void *)(uintptr_t)file.data); /* malloc'd by whoever made it */
}

err_t snapshot_write_start(struct env_disk *disk, uint64_t index, uint64_t term, struct bytes file,
                           snapshot_written written, void *owner, struct snapshot_write **ret_write)
{
    struct snapshot_write *write = calloc(1, sizeof *write);
    err_t err = write == NULL ? ERR_NO_MEMORY : ERR_OK;
    if (err == ERR_OK)
        err = write_aside(disk, index, term, file, &write->file);
    file_free(file);
    if (err != ERR_OK) {
        free(write);
        return err;
    }
    write->op.done = write_synced;
    write->disk = disk;
    write->index = index;
    write->term = term;
    write->written = written;
    write->owner = owner;
    err = disk->sync(disk->self, write->file, &write->op);
    if (err != ERR_OK) {
        char aside[NAME_BYTES];
        name_print(index, term, suffix_aside, aside);
        disk->close(disk->self, write->file);
        (void)disk->unlink(disk->self, aside);
        free(write);
        return err;
    }
    *ret_write = write;
    return ERR_OK;
}

err_t snapshot_write_now(struct env_disk *disk, uint64_t index, uint64_t term, struct bytes file)
{
    env_file handle;
    err_t err = write_aside(disk, index, term, file, &handle);
    file_free(file);
    if (err != ERR_OK)
        return err;
    err = disk->sync_now(disk->self, handle);
    disk->close(disk->self, handle);
    return err != ERR_OK ? err : put_in_place(disk, index, term);
}

void snapshot_write_detach(struct snapshot_write *write)
{
    write->written = NULL;
}
