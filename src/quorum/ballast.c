#include "quorum/ballast.h"

#include "base/canary.h"
#include "base/logger.h"
#include "quorum/store.h"

static const char *const ballast_name = STORE_DIRECTORY "/ballast";

enum { PARTS = 8 };

/* True: there is more room now. */
static bool ballast_release(struct ballast *ballast)
{
    struct env_disk *disk = &ballast->inner;
    env_file file;
    if (ballast->left == 0 || CANARY("quorum_keeps_ballast") ||
        disk->open(disk->self, ballast_name, 0, &file) != ERR_OK)
        return false;
    uint64_t part = ballast->bytes / PARTS + 1;
    bool first = !ballast_low(ballast);
    ballast->left = ballast->left > part ? ballast->left - part : 0;
    err_t err = disk->set_size(disk->self, file, ballast->left);
    disk->close(disk->self, file);
    if (first || ballast->left == 0)
        log_warn("the disk of the metadata log is full: its reserve is given up, %llu bytes are "
                 "left of it; delete topics, or free space otherwise",
                 (unsigned long long)ballast->left);
    return err == ERR_OK;
}

/* ---- the wrapped disk: what may need room is tried again ---- */

#define TRY_AGAIN(ballast, call)                                                                   \
    do {                                                                                           \
        err_t err;                                                                                 \
        do                                                                                         \
            err = (call);                                                                          \
        while (err == ERR_NOT_ENOUGH_SPACE && ballast_release(ballast));                           \
        return err;                                                                                \
    } while (0)

static err_t wrap_open(void *self, const char *name, unsigned flags, env_file *ret_file)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.open(b->inner.self, name, flags, ret_file));
}

static err_t wrap_write(void *self, env_file file, uint64_t at, const struct iovec *parts,
                        int count)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.write(b->inner.self, file, at, parts, count));
}

static err_t wrap_allocate(void *self, env_file file, uint64_t from, uint64_t bytes)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.allocate(b->inner.self, file, from, bytes));
}

static err_t wrap_zero_from(void *self, env_file file, uint64_t from)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.zero_from(b->inner.self, file, from));
}

static err_t wrap_rename(void *self, const char *from, const char *to)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.rename(b->inner.self, from, to));
}

static err_t wrap_make_directory(void *self, const char *name)
{
    struct ballast *b = self;
    TRY_AGAIN(b, b->inner.make_directory(b->inner.self, name));
}

/* The log asks before it grows: what can be given up is room. */
static err_t wrap_free_bytes(void *self, uint64_t *ret_bytes)
{
    struct ballast *b = self;
    uint64_t bytes;
    err_t err = b->inner.free_bytes(b->inner.self, &bytes);
    if (err == ERR_OK)
        *ret_bytes = bytes + b->left;
    return err;
}

static err_t wrap_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                       size_t *ret_bytes)
{
    struct ballast *b = self;
    return b->inner.read(b->inner.self, file, at, into, bytes, ret_bytes);
}

static err_t wrap_size(void *self, env_file file, uint64_t *ret_bytes)
{
    struct ballast *b = self;
    return b->inner.size(b->inner.self, file, ret_bytes);
}

static err_t wrap_set_size(void *self, env_file file, uint64_t bytes)
{
    struct ballast *b = self;
    return b->inner.set_size(b->inner.self, file, bytes);
}

static err_t wrap_sync(void *self, env_file file, struct env_done *op)
{
    struct ballast *b = self;
    return b->inner.sync(b->inner.self, file, op);
}

static err_t wrap_sync_now(void *self, env_file file)
{
    struct ballast *b = self;
    return b->inner.sync_now(b->inner.self, file);
}

static err_t wrap_sync_all(void *self)
{
    struct ballast *b = self;
    return b->inner.sync_all(b->inner.self);
}

static err_t wrap_sync_names(void *self, const char *directory)
{
    struct ballast *b = self;
    return b->inner.sync_names(b->inner.self, directory);
}

static err_t wrap_unlink(void *self, const char *name)
{
    struct ballast *b = self;
    return b->inner.unlink(b->inner.self, name);
}

static err_t wrap_list(void *self, const char *directory,
                       void (*each)(void *context, const char *entry, bool is_directory),
                       void *context)
{
    struct ballast *b = self;
    return b->inner.list(b->inner.self, directory, each, context);
}

static uint64_t wrap_sync_age_ns(void *self)
{
    struct ballast *b = self;
    return b->inner.sync_age_ns == NULL ? 0 : b->inner.sync_age_ns(b->inner.self);
}

static err_t wrap_drop_cache(void *self, env_file file)
{
    struct ballast *b = self;
    return b->inner.drop_cache(b->inner.self, file);
}

static void wrap_close(void *self, env_file file)
{
    struct ballast *b = self;
    b->inner.close(b->inner.self, file);
}

static bool wrap_is_offline(void *self)
{
    struct ballast *b = self;
    return b->inner.is_offline(b->inner.self);
}

static const struct env_disk wrapped = {
    .open = wrap_open,
    .write = wrap_write,
    .read = wrap_read,
    .size = wrap_size,
    .allocate = wrap_allocate,
    .zero_from = wrap_zero_from,
    .set_size = wrap_set_size,
    .sync = wrap_sync,
    .sync_now = wrap_sync_now,
    .sync_all = wrap_sync_all,
    .sync_names = wrap_sync_names,
    .make_directory = wrap_make_directory,
    .rename = wrap_rename,
    .unlink = wrap_unlink,
    .list = wrap_list,
    .free_bytes = wrap_free_bytes,
    .sync_age_ns = wrap_sync_age_ns,
    .drop_cache = wrap_drop_cache,
    .close = wrap_close,
    .is_offline = wrap_is_offline,
};
static_assert(sizeof(struct env_disk) == 21 * sizeof(void *), "each function is wrapped");

/* ---- life ---- */

void ballast_init(struct ballast *ballast, struct env_disk *disk, uint64_t bytes)
{
    env_file file;
    uint64_t size = 0;
    *ballast = (struct ballast){.inner = *disk, .bytes = bytes};
    if (bytes == 0)
        return;
    if (disk->open(disk->self, ballast_name, 0, &file) == ERR_OK) {
        (void)disk->size(disk->self, file, &size); /* then it counts as gone */
        disk->close(disk->self, file);
    }
    ballast->left = size < bytes ? size : bytes;
    ballast->outer = disk;
    *disk = wrapped;
    disk->self = ballast;
}

void ballast_fini(struct ballast *ballast)
{
    if (ballast->outer != NULL)
        *ballast->outer = ballast->inner;
    ballast->outer = NULL;
}

void ballast_restore(struct ballast *ballast)
{
    struct env_disk *disk = &ballast->inner;
    env_file file;
    uint64_t free_bytes, size = 0;
    if (!ballast_low(ballast) || disk->free_bytes(disk->self, &free_bytes) != ERR_OK ||
        free_bytes < 2 * ballast->bytes ||
        disk->open(disk->self, ballast_name, ENV_OPEN_CREATE, &file) != ERR_OK)
        return;
    err_t err = disk->size(disk->self, file, &size);
    if (err == ERR_OK && size < ballast->bytes)
        err = disk->allocate(disk->self, file, size, ballast->bytes - size);
    if (err != ERR_OK)
        (void)disk->set_size(disk->self, file, ballast->left); /* tried again */
    disk->close(disk->self, file);
    if (err == ERR_OK)
        ballast->left = ballast->bytes;
}
