#include "io/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DISK_FILE_MODE = 0640, DISK_DIRECTORY_MODE = 0750, DISK_ZEROS_BYTES = 64 * 1024 };

static const uint8_t disk_zeros[DISK_ZEROS_BYTES];

/* ---- the table of files ---- */

static struct io_file *disk_entry(struct io_disk *disk, int32_t id)
{
    return &disk->chunks[id / IO_FILES_CHUNK][id % IO_FILES_CHUNK];
}

/* A file that the actor has open. Another id is the actor's mistake. */
static struct io_file *disk_file(struct io_disk *disk, env_file file)
{
    ASSERT(file.id >= 0);
    ASSERT(file.id < disk->used);
    struct io_file *entry = disk_entry(disk, file.id);
    ASSERT(entry->fd >= 0);
    ASSERT(!entry->closing);
    return entry;
}

static err_t disk_entry_take(struct io_disk *disk, int32_t *ret_id)
{
    if (disk->free_first >= 0) {
        *ret_id = disk->free_first;
        disk->free_first = disk_entry(disk, *ret_id)->next;
        return ERR_OK;
    }
    if (disk->used == IO_FILES_CHUNK * IO_FILES_CHUNKS)
        return ERR_FULL;
    if (disk->used % IO_FILES_CHUNK == 0) {
        struct io_file *chunk = calloc(IO_FILES_CHUNK, sizeof(*chunk));
        if (chunk == NULL)
            return ERR_NO_MEMORY;
        disk->chunks[disk->used / IO_FILES_CHUNK] = chunk;
    }
    *ret_id = disk->used++;
    return ERR_OK;
}

static void disk_entry_close(struct io_disk *disk, int32_t id)
{
    struct io_file *entry = disk_entry(disk, id);
    close(entry->fd);
    entry->fd = -1;
    entry->closing = false;
    entry->next = disk->free_first;
    disk->free_first = id;
}

/* ---- names ---- */

static bool disk_name_valid(const char *name)
{
    if (name[0] == '/')
        return false;
    for (const char *part = name; part != NULL; part = strchr(part, '/')) {
        part += part[0] == '/';
        if (part[0] == '.' && part[1] == '.' && (part[2] == '/' || part[2] == '\0'))
            return false;
    }
    return true;
}

/* ERR_OK when names of the directory may be changed. */
static err_t disk_name_check(const struct io_disk *disk, const char *name)
{
    if (name[0] == '\0' || !disk_name_valid(name))
        return ERR_INVALID;
    return io_directory_offline(disk->directory) ? ERR_KAFKA_STORAGE_ERROR : ERR_OK;
}

static err_t disk_open_directory(struct io_disk *disk, const char *name, int *ret_fd)
{
    if (!disk_name_valid(name))
        return ERR_INVALID;
    int fd = openat(disk->directory->fd, name[0] == '\0' ? "." : name,
                    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_from_errno(errno);
    *ret_fd = fd;
    return ERR_OK;
}

static err_t disk_open(void *self, const char *name, unsigned flags, env_file *ret_file)
{
    struct io_disk *disk = self;
    if (name[0] == '\0' || !disk_name_valid(name))
        return ERR_INVALID;
    if ((flags & ENV_OPEN_CREATE) != 0 && (flags & ENV_OPEN_MARK) == 0 &&
        io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    int32_t id;
    err_t err = disk_entry_take(disk, &id);
    if (err != ERR_OK)
        return err;
    int how = O_RDWR | O_CLOEXEC;
    how |= (flags & ENV_OPEN_CREATE) != 0 ? O_CREAT : 0;
    how |= (flags & ENV_OPEN_EXCLUSIVE) != 0 ? O_EXCL : 0;
    struct io_file *entry = disk_entry(disk, id);
    *entry = (struct io_file){
        .fd = openat(disk->directory->fd, name, how, DISK_FILE_MODE), .id = id, .disk = disk};
    if (entry->fd < 0) {
        err = err_from_errno(errno);
        entry->next = disk->free_first;
        disk->free_first = id;
        return err;
    }
    ret_file->id = id;
    return ERR_OK;
}

static void disk_close(void *self, env_file file)
{
    struct io_disk *disk = self;
    struct io_file *entry = disk_file(disk, file);
    entry->closing = true;
    if (entry->syncs == 0)
        disk_entry_close(disk, file.id);
}

static err_t disk_make_directory(void *self, const char *name)
{
    struct io_disk *disk = self;
    err_t err = disk_name_check(disk, name);
    if (err == ERR_OK && mkdirat(disk->directory->fd, name, DISK_DIRECTORY_MODE) != 0)
        err = err_from_errno(errno);
    return err;
}

static err_t disk_rename(void *self, const char *from, const char *to)
{
    struct io_disk *disk = self;
    err_t err = disk_name_check(disk, from);
    if (err == ERR_OK)
        err = disk_name_check(disk, to);
    if (err == ERR_OK && renameat(disk->directory->fd, from, disk->directory->fd, to) != 0)
        err = err_from_errno(errno);
    return err;
}

static err_t disk_unlink(void *self, const char *name)
{
    struct io_disk *disk = self;
    err_t err = disk_name_check(disk, name);
    if (err != ERR_OK || unlinkat(disk->directory->fd, name, 0) == 0)
        return err;
    if (errno == EISDIR && unlinkat(disk->directory->fd, name, AT_REMOVEDIR) == 0)
        return ERR_OK;
    return err_from_errno(errno);
}

static bool disk_is_directory(int fd, const struct dirent *entry)
{
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_DIR;
    struct stat status;
    return fstatat(fd, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static err_t disk_list(void *self, const char *name,
                       void (*each)(void *context, const char *entry, bool is_directory),
                       void *context)
{
    int fd = -1;
    err_t err = disk_open_directory(self, name, &fd);
    if (err != ERR_OK)
        return err;
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        err = err_from_errno(errno);
        close(fd);
        return err;
    }
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(directory);
        if (entry == NULL) {
            err = err_from_errno(errno);
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(context, entry->d_name, disk_is_directory(fd, entry));
    }
    closedir(directory);
    return err;
}

/* ---- bytes ---- */

static err_t disk_write_all(int fd, uint64_t at, const uint8_t *data, size_t len)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? err_from_errno(errno) : ERR_IO;
        at += (size_t)n;
        data += n;
        len -= (size_t)n;
    }
    return ERR_OK;
}

static err_t disk_write(void *self, env_file file, uint64_t at, const struct iovec *parts,
                        int count)
{
    struct io_disk *disk = self;
    int fd = disk_file(disk, file)->fd;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    while (count > 0) {
        ssize_t n = pwritev(fd, parts, count < IOV_MAX ? count : IOV_MAX, (off_t)at);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        at += (size_t)n;
        size_t left = (size_t)n;
        for (; count > 0 && left >= parts->iov_len; count--)
            left -= (parts++)->iov_len;
        if (count == 0)
            break;
        /* Cut short within a part (a full disk, mostly): its rest tells why. */
        size_t rest = parts->iov_len - left;
        err_t err = disk_write_all(fd, at, (const uint8_t *)parts->iov_base + left, rest);
        if (err != ERR_OK)
            return err;
        at += rest;
        parts++;
        count--;
    }
    return ERR_OK;
}

static err_t disk_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                       size_t *ret_bytes)
{
    int fd = disk_file(self, file)->fd;
    size_t got = 0;
    while (got < bytes) {
        ssize_t n = pread(fd, (uint8_t *)into + got, bytes - got, (off_t)(at + got));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_from_errno(errno);
        if (n == 0)
            break;
        got += (size_t)n;
    }
    *ret_bytes = got;
    return ERR_OK;
}

static err_t disk_size(void *self, env_file file, uint64_t *ret_bytes)
{
    struct stat status;
    if (fstat(disk_file(self, file)->fd, &status) != 0)
        return err_from_errno(errno);
    *ret_bytes = (uint64_t)status.st_size;
    return ERR_OK;
}

static err_t disk_write_zeros(int fd, uint64_t from, uint64_t end)
{
    while (from < end) {
        size_t len = end - from < DISK_ZEROS_BYTES ? (size_t)(end - from) : DISK_ZEROS_BYTES;
        err_t err = disk_write_all(fd, from, disk_zeros, len);
        if (err != ERR_OK)
            return err;
        from += len;
    }
    return ERR_OK;
}

/* ERR_UNSUPPORTED_VERSION: not on this file system. */
static err_t disk_fallocate(int fd, int mode, uint64_t from, uint64_t bytes)
{
    int result;
    do {
        result = fallocate(fd, mode, (off_t)from, (off_t)bytes);
    } while (result != 0 && errno == EINTR);
    if (result == 0)
        return ERR_OK;
    return errno == EOPNOTSUPP ? ERR_UNSUPPORTED_VERSION : err_from_errno(errno);
}

static err_t disk_allocate(void *self, env_file file, uint64_t from, uint64_t bytes)
{
    struct io_disk *disk = self;
    int fd = disk_file(disk, file)->fd;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    if (bytes == 0)
        return ERR_OK;
    err_t err = disk_fallocate(fd, 0, from, bytes);
    if (err != ERR_UNSUPPORTED_VERSION)
        return err;
    uint64_t size = 0;
    err = disk_size(disk, file, &size);
    return err == ERR_OK ? disk_write_zeros(fd, size, from + bytes) : err;
}

static err_t disk_zero_from(void *self, env_file file, uint64_t from)
{
    struct io_disk *disk = self;
    int fd = disk_file(disk, file)->fd;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    uint64_t size = 0;
    err_t err = disk_size(disk, file, &size);
    if (err != ERR_OK || from >= size)
        return err;
    /* Rather than a hole: the blocks stay ours, so that a full disk can't fail what is written here
     * next (R13, R16). */
    err = disk_fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, from, size - from);
    if (err != ERR_UNSUPPORTED_VERSION)
        return err;
    err = disk_fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, size - from);
    if (err == ERR_OK)
        return disk_allocate(disk, file, from, size - from);
    return err == ERR_UNSUPPORTED_VERSION ? disk_write_zeros(fd, from, size) : err;
}

static err_t disk_set_size(void *self, env_file file, uint64_t bytes)
{
    struct io_disk *disk = self;
    int fd = disk_file(disk, file)->fd;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    return ftruncate(fd, (off_t)bytes) == 0 ? ERR_OK : err_from_errno(errno);
}

static err_t disk_free_bytes(void *self, uint64_t *ret_bytes)
{
    const struct io_disk *disk = self;
    struct statvfs status;
    if (fstatvfs(disk->directory->fd, &status) != 0)
        return err_from_errno(errno);
    *ret_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    return ERR_OK;
}

static uint64_t disk_sync_age_ns(void *self)
{
    const struct io_disk *disk = self;
    return io_directory_sync_age_ns(disk->directory);
}

static err_t disk_drop_cache(void *self, env_file file)
{
    int error = posix_fadvise(disk_file(self, file)->fd, 0, 0, POSIX_FADV_DONTNEED);
    return err_from_errno(error);
}

/* ---- durability ---- */

static err_t disk_sync(void *self, env_file file, struct env_done *op)
{
    struct io_disk *disk = self;
    struct io_file *entry = disk_file(disk, file);
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    entry->syncs++;
    op->target = entry;
    list_push_back(&disk->syncs, &op->link);
    return ERR_OK;
}

void io_disk_synced(struct env_done *op)
{
    struct io_file *entry = op->target;
    ASSERT(entry->syncs > 0);
    entry->syncs--;
    if (entry->closing && entry->syncs == 0)
        disk_entry_close(entry->disk, entry->id);
}

void io_disk_submit(struct io_disk *disk)
{
    io_directory_submit(disk->directory, disk->actor, &disk->syncs);
}

static err_t disk_sync_now(void *self, env_file file)
{
    struct io_disk *disk = self;
    int fd = disk_file(disk, file)->fd;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    if (disk->directory->sync_file(fd) == 0)
        return ERR_OK;
    io_directory_fail(disk->directory, errno);
    return ERR_KAFKA_STORAGE_ERROR;
}

static err_t disk_sync_names(void *self, const char *name)
{
    struct io_disk *disk = self;
    if (io_directory_offline(disk->directory))
        return ERR_KAFKA_STORAGE_ERROR;
    int fd = -1;
    err_t err = disk_open_directory(disk, name, &fd);
    if (err != ERR_OK)
        return err;
    if (fsync(fd) != 0) {
        io_directory_fail(disk->directory, errno);
        err = ERR_KAFKA_STORAGE_ERROR;
    }
    close(fd);
    return err;
}

static err_t disk_sync_all(void *self)
{
    struct io_disk *disk = self;
    return io_directory_sync_all(disk->directory);
}

static bool disk_is_offline(void *self)
{
    const struct io_disk *disk = self;
    return io_directory_offline(disk->directory);
}

void io_disk_init(struct io_disk *disk, struct io_directory *directory, unsigned actor)
{
    *disk = (struct io_disk){.directory = directory, .actor = actor, .free_first = -1};
    list_init(&disk->syncs);
}

void io_disk_fini(struct io_disk *disk)
{
    for (int32_t id = 0; id < disk->used; id++) {
        if (disk_entry(disk, id)->fd >= 0)
            close(disk_entry(disk, id)->fd);
    }
    for (size_t i = 0; i < IO_FILES_CHUNKS; i++)
        free(disk->chunks[i]);
}

struct env_disk io_disk_env(struct io_disk *disk)
{
    return (struct env_disk){
        .open = disk_open,
        .write = disk_write,
        .read = disk_read,
        .size = disk_size,
        .allocate = disk_allocate,
        .zero_from = disk_zero_from,
        .set_size = disk_set_size,
        .sync = disk_sync,
        .sync_now = disk_sync_now,
        .sync_names = disk_sync_names,
        .sync_all = disk_sync_all,
        .make_directory = disk_make_directory,
        .rename = disk_rename,
        .unlink = disk_unlink,
        .list = disk_list,
        .free_bytes = disk_free_bytes,
        .sync_age_ns = disk_sync_age_ns,
        .drop_cache = disk_drop_cache,
        .close = disk_close,
        .is_offline = disk_is_offline,
        .self = disk,
    };
}
