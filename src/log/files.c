#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"
#include "base/crc32c.h"
#include "log/log_internal.h"

err_t small_file_load(struct env_disk *disk, const char *name, size_t bytes_max, uint8_t **ret_data,
                      size_t *ret_len)
{
    env_file file;
    uint64_t size;
    uint8_t *data = NULL;
    size_t got = 0;
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, file, &size);
    if (err != ERR_OK)
        goto done;
    if (size > bytes_max) {
        err = ERR_CORRUPT;
        goto done;
    }
    data = malloc((size_t)size + 1);
    if (data == NULL) {
        err = ERR_NO_MEMORY;
        goto done;
    }
    err = disk->read(disk->self, file, 0, data, (size_t)size, &got);
done:
    disk->close(disk->self, file);
    if (err != ERR_OK) {
        free(data);
        return err;
    }
    *ret_data = data;
    *ret_len = got;
    return ERR_OK;
}

static void aside_name(char into[LOG_NAME_SIZE + 8], const char *name)
{
    int chars = snprintf(into, LOG_NAME_SIZE + 8, "%s.tmp", name);
    ASSERT(chars > 0 && chars < LOG_NAME_SIZE + 8);
}

err_t small_file_write_aside(struct env_disk *disk, const char *name, const uint8_t *data,
                             size_t len, bool sync)
{
    char aside[LOG_NAME_SIZE + 8];
    env_file file;
    aside_name(aside, name);
    err_t err = disk->open(disk->self, aside, ENV_OPEN_CREATE, &file);
    if (err != ERR_OK)
        return err;
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
    err = disk->set_size(disk->self, file, 0);
    if (err == ERR_OK)
        err = disk->write(disk->self, file, 0, &part, 1);
    if (err == ERR_OK && sync)
        err = disk->sync_now(disk->self, file);
    disk->close(disk->self, file);
    return err;
}

err_t small_file_put_in_place(struct env_disk *disk, const char *name)
{
    char aside[LOG_NAME_SIZE + 8];
    aside_name(aside, name);
    return disk->rename(disk->self, aside, name);
}

err_t small_file_replace(struct env_disk *disk, const char *directory, const char *name,
                         const uint8_t *data, size_t len)
{
    err_t err = small_file_write_aside(disk, name, data, len, true);
    if (err == ERR_OK)
        err = small_file_put_in_place(disk, name);
    if (err == ERR_OK && !CANARY("log_replace_forgets_the_name")) /* R17 */
        err = disk->sync_names(disk->self, directory);
    return err;
}

err_t small_file_sync(struct env_disk *disk, const char *name)
{
    env_file file;
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->sync_now(disk->self, file);
    disk->close(disk->self, file);
    return err;
}

err_t small_file_uncache(struct env_disk *disk, const char *name, bool synced)
{
    env_file file;
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_OK : err;
    if (!synced)
        err = disk->sync_now(disk->self, file);
    if (err == ERR_OK && !CANARY("log_recovery_believes_the_cache"))
        err = disk->drop_cache(disk->self, file);
    disk->close(disk->self, file);
    return err;
}

void checked_seal(uint8_t *data, size_t len, uint32_t magic, uint32_t version)
{
    ASSERT(len >= CHECKED_BYTES);
    put_u32(data, magic);
    put_u32(data + 4, version);
    put_u32(data + len - 4, crc32c(0, data, len - 4));
}

err_t checked_open(const uint8_t *data, size_t len, uint32_t magic, uint32_t version,
                   struct reader *ret_body)
{
    if (len < CHECKED_BYTES || get_u32(data) != magic)
        return ERR_CORRUPT;
    if (get_u32(data + len - 4) != crc32c(0, data, len - 4))
        return ERR_CORRUPT;
    if (get_u32(data + 4) != version)
        return ERR_UNSUPPORTED_VERSION;
    reader_init(ret_body, data + CHECKED_HEAD_BYTES, len - CHECKED_BYTES);
    return ERR_OK;
}

void log_file_name(char into[LOG_NAME_SIZE], const char *directory, const char *file)
{
    int chars = snprintf(into, LOG_NAME_SIZE, "%s/%s", directory, file);
    ASSERT(chars > 0 && chars < LOG_NAME_SIZE);
}

void segment_name(char into[LOG_NAME_SIZE], const char *directory, offset_t base,
                  const char *suffix)
{
    int chars = snprintf(into, LOG_NAME_SIZE, "%s/%020" PRId64 ".%s", directory, base, suffix);
    ASSERT(chars > 0 && chars < LOG_NAME_SIZE);
}

bool segment_name_parse(const char *entry, const char *suffix, offset_t *ret_base)
{
    enum { DIGITS = 20 };
    uint64_t base = 0;
    for (int i = 0; i < DIGITS; i++) {
        if (entry[i] < '0' || entry[i] > '9' || base > INT64_MAX / 10)
            return false;
        base = base * 10 + (uint64_t)(entry[i] - '0');
    }
    if (entry[DIGITS] != '.' || strcmp(entry + DIGITS + 1, suffix) != 0 || base > INT64_MAX)
        return false;
    *ret_base = (offset_t)base;
    return true;
}
