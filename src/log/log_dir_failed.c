#include <stdio.h>
#include <stdlib.h>

#include "base/logger.h"
#include "log/log_dir.h"
#include "log/log_internal.h"

/* R14: after a failed sync the kernel calls the pages clean, and a restart would read them as if
 * they were on the disk. A log cuts what it reads above its recovery point, but other files were
 * written by other hands: the directory is used again only when all of it was read past the cache.
 */

enum {
    VERIFIED_MAGIC = 0x4b564652, /* KVFR */
    NOTE_VERSION = 1,
    FILES_MAX = 65536, /* of one folder */
    SEGMENT_BYTES = 1 << 30,
};
#define FAILED_FILE ".failed_sync"
#define VERIFIED_FILE ".verified"
#define CORRUPT_SUFFIX "-corrupt"

/* ---- the marks ---- */

/* The disk has just refused a sync: what gets there gets there, and the metadata is told, too. The
 * directory is offline: its name alone says it. */
void log_dir_mark_failed(struct env_disk *disk)
{
    env_file file;
    if (disk->open(disk->self, FAILED_FILE, ENV_OPEN_CREATE | ENV_OPEN_MARK, &file) == ERR_OK)
        disk->close(disk->self, file);
}

static err_t note_is_there(struct env_disk *disk, const char *name, bool *ret_there)
{
    env_file file;
    err_t err = disk->open(disk->self, name, 0, &file);
    *ret_there = err == ERR_OK;
    if (err == ERR_OK)
        disk->close(disk->self, file);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

err_t log_dir_is_failed(struct env_disk *disk, bool *ret_failed)
{
    return note_is_there(disk, FAILED_FILE, ret_failed);
}

err_t log_dir_take_verified(struct env_disk *disk, bool *ret_verified)
{
    uint8_t *data;
    size_t len;
    struct reader body;
    *ret_verified = false;
    err_t err = small_file_load(disk, VERIFIED_FILE, CHECKED_BYTES, &data, &len);
    if (err == ERR_NOT_FOUND)
        return ERR_OK;
    if (err != ERR_OK && err != ERR_CORRUPT)
        return err;
    if (err == ERR_OK) {
        *ret_verified = checked_open(data, len, VERIFIED_MAGIC, NOTE_VERSION, &body) == ERR_OK;
        free(data);
    }
    err = disk->unlink(disk->self, VERIFIED_FILE);
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

/* ---- karstd verify ---- */

struct folder_files {
    char (*names)[LOG_NAME_SIZE];
    size_t count, capacity;
    const char *folder;
    bool no_memory;
};

static void folder_entry(void *context, const char *entry, bool is_directory)
{
    struct folder_files *files = context;
    if (is_directory || strlen(files->folder) + strlen(entry) + 2 > LOG_NAME_SIZE)
        return;
    if (files->count == files->capacity) {
        size_t capacity = files->capacity == 0 ? 16 : files->capacity * 2;
        void *names =
            capacity > FILES_MAX ? NULL : realloc(files->names, capacity * sizeof(files->names[0]));
        if (names == NULL) {
            files->no_memory = true;
            return;
        }
        files->names = names;
        files->capacity = capacity;
    }
    char *name = files->names[files->count++];
    if (files->folder[0] == '\0')
        memcpy(name, entry, strlen(entry) + 1);
    else
        log_file_name(name, files->folder, entry);
}

/* The next reads of the folder's files tell what is on the disk. */
static err_t folder_uncache(struct env_disk *disk, const char *folder)
{
    struct folder_files files = {.folder = folder};
    err_t err = disk->list(disk->self, folder, folder_entry, &files);
    if (err == ERR_OK && files.no_memory)
        err = ERR_NO_MEMORY;
    for (size_t i = 0; i < files.count && err == ERR_OK; i++)
        err = small_file_uncache(disk, files.names[i], false);
    free(files.names);
    return err;
}

static err_t seen(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct log_dir_verdict *verdict = context;
    (void)batch;
    verdict->bytes += info->bytes; /* its CRC was checked */
    return ERR_OK;
}

static err_t verify_log(struct env *env, struct env_disk *disk,
                        const struct log_dir_replica *replica, struct log_dir_verdict *verdict)
{
    struct log_options options = {
        .segment_bytes = SEGMENT_BYTES, .index_interval_bytes = 4096, .preallocate_bytes = 4096};
    struct log_open_args args = {
        .env = env,
        .disk = disk,
        .directory = replica->folder,
        .topic = replica->id.topic,
        .options = &options,
        .must_exist = replica->in_manifest, /* else it never acknowledged: made anew */
        .visit = seen,
        .visit_context = verdict,
        .visit_all = true,
    };
    struct log *log;
    struct log_recovery recovery;
    err_t err = folder_uncache(disk, replica->folder);
    if (err == ERR_OK)
        err = log_open(&args, &log, &recovery);
    if (err != ERR_OK)
        return err;
    verdict->logs++;
    verdict->torn += recovery.torn;
    return log_close(log, false);
}

/* R15: kept for a person; the manifest still names it, so that the replica is LOST (R1). */
static err_t verify_set_aside(struct env *env, struct env_disk *disk, const char *folder)
{
    char aside[LOG_NAME_SIZE];
    int chars = snprintf(aside, sizeof(aside), "%s.%016llx" CORRUPT_SUFFIX, folder,
                         (unsigned long long)env->random(env->self));
    if (chars < 0 || (size_t)chars >= sizeof(aside))
        return ERR_INVALID;
    log_error("%s: stored bytes failed their checks: kept as %s", folder, aside);
    err_t err = disk->rename(disk->self, folder, aside);
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

static err_t verify_lift(struct env_disk *disk)
{
    uint8_t data[CHECKED_BYTES];
    bool failed;
    checked_seal(data, sizeof(data), VERIFIED_MAGIC, NOTE_VERSION);
    err_t err = small_file_replace(disk, "", VERIFIED_FILE, data, sizeof(data));
    if (err == ERR_OK)
        err = log_dir_is_failed(disk, &failed);
    if (err == ERR_OK && failed)
        err = disk->unlink(disk->self, FAILED_FILE);
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

err_t log_dir_verify(struct env *env, struct env_disk *disk, struct log_dir_verdict *ret_verdict)
{
    struct log_dir_state state;
    struct log_dir_verdict verdict = {0};
    err_t err = folder_uncache(disk, "");
    if (err == ERR_OK)
        err = folder_uncache(disk, METADATA_LOG_FOLDER); /* the quorum's start checks it itself */
    if (err == ERR_OK || err == ERR_NOT_FOUND)
        err = log_dir_open(disk, &state);
    if (err != ERR_OK)
        return err;
    for (size_t i = 0; i < state.replica_count && err == ERR_OK; i++) {
        const struct log_dir_replica *replica = &state.replicas[i];
        if (replica->folder[0] == '\0') {
            verdict.lost++;
            continue;
        }
        err = verify_log(env, disk, replica, &verdict);
        if (err == ERR_CORRUPT || err == ERR_NOT_FOUND) {
            verdict.corrupt++;
            err = verify_set_aside(env, disk, replica->folder);
        }
    }
    log_dir_state_fini(&state);
    if (err == ERR_OK)
        err = verify_lift(disk);
    if (err == ERR_OK)
        *ret_verdict = verdict;
    return err;
}
