#include "lib/faults.h"

#include <stdlib.h>

#include "base/arena.h"

static struct {
    enum faults_kind kind;
    uint64_t nth, seen;
    err_t err;
    unsigned quiet;
    bool met;
} faults;

void faults_arm(enum faults_kind kind, uint64_t nth, err_t err)
{
    faults.kind = kind;
    faults.nth = nth;
    faults.seen = 0;
    faults.err = err;
    faults.met = false;
}

bool faults_disarm(void)
{
    faults.kind = FAULTS_NONE;
    return faults.met;
}

bool faults_met(void)
{
    return faults.met;
}

void faults_quiet(void)
{
    faults.quiet++;
}

void faults_loud(void)
{
    ASSERT(faults.quiet > 0);
    faults.quiet--;
}

static bool faults_hit(enum faults_kind kind)
{
    if (faults.kind != kind || faults.quiet > 0 || ++faults.seen != faults.nth)
        return false;
    faults.met = true;
    return true;
}

/* ---- allocations ---- */

enum { PLACES_MAX = 4096, CALLERS = 4, FRAME_BYTES_MAX = 1 << 20 };

/* From the frame pointers, which the build keeps. A library may not: there the way ends. */
static bool place_is_new(void *const *frame)
{
    static uintptr_t places[PLACES_MAX];
    static size_t count;
    uintptr_t place = 0;
    for (int i = 0; i < CALLERS; i++) {
        uintptr_t here = (uintptr_t)frame, next = (uintptr_t)frame[0];
        place = place * 31 + (uintptr_t)frame[1];
        if (next <= here || next - here > FRAME_BYTES_MAX || next % sizeof(void *) != 0)
            break;
        frame = (void *const *)frame[0];
    }
    for (size_t i = 0; i < count; i++)
        if (places[i] == place)
            return false;
    ASSERT(count < PLACES_MAX);
    places[count++] = place;
    return true;
}

static bool memory_lacks(void *const *frame)
{
    if (faults.kind != FAULTS_PLACES)
        return faults_hit(FAULTS_MEMORY);
    if (faults.quiet > 0 || faults.met || !place_is_new(frame))
        return false;
    faults.met = true;
    return true;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t bytes)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL : __real_malloc(bytes);
}

void *__wrap_calloc(size_t count, size_t bytes)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL : __real_calloc(count, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL : __real_realloc(old, bytes);
}

char *__wrap_strdup(const char *text)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL : __real_strdup(text);
}

/* An arena lacks memory by its cap, too, which no test of a whole program reaches. */
void *__real_arena_alloc(struct arena *arena, size_t bytes);
void *__real_arena_calloc(struct arena *arena, size_t count, size_t bytes);
void *__wrap_arena_alloc(struct arena *arena, size_t bytes);
void *__wrap_arena_calloc(struct arena *arena, size_t count, size_t bytes);

void *__wrap_arena_alloc(struct arena *arena, size_t bytes)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL : __real_arena_alloc(arena, bytes);
}

void *__wrap_arena_calloc(struct arena *arena, size_t count, size_t bytes)
{
    return memory_lacks(__builtin_frame_address(0)) ? NULL
                                                    : __real_arena_calloc(arena, count, bytes);
}

/* libcheck notes the place of each assertion, in memory of its own. */
void __real__mark_point(const char *file, int line);
void __wrap__mark_point(const char *file, int line);

void __wrap__mark_point(const char *file, int line)
{
    faults_quiet();
    __real__mark_point(file, line);
    faults_loud();
}

/* ---- the disk ---- */

static bool disk_fails(const struct faults_disk *disk)
{
    return !disk->sound && faults_hit(FAULTS_DISK);
}

/* The call of the disk behind, unless this one is to fail. */
#define PASS(call, ...)                                                                            \
    struct env_disk *inner = ((struct faults_disk *)self)->inner;                                  \
    if (disk_fails(self))                                                                          \
        return faults.err;                                                                         \
    faults_quiet();                                                                                \
    err_t err = inner->call(inner->self, __VA_ARGS__);                                             \
    faults_loud();                                                                                 \
    return err

static err_t disk_open(void *self, const char *name, unsigned flags, env_file *ret_file)
{
    PASS(open, name, flags, ret_file);
}

static err_t disk_write(void *self, env_file file, uint64_t at, const struct iovec *parts,
                        int count)
{
    PASS(write, file, at, parts, count);
}

static err_t disk_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                       size_t *ret_bytes)
{
    PASS(read, file, at, into, bytes, ret_bytes);
}

static err_t disk_size(void *self, env_file file, uint64_t *ret_bytes)
{
    PASS(size, file, ret_bytes);
}

static err_t disk_allocate(void *self, env_file file, uint64_t from, uint64_t bytes)
{
    PASS(allocate, file, from, bytes);
}

static err_t disk_zero_from(void *self, env_file file, uint64_t from)
{
    PASS(zero_from, file, from);
}

static err_t disk_set_size(void *self, env_file file, uint64_t bytes)
{
    PASS(set_size, file, bytes);
}

static err_t disk_sync(void *self, env_file file, struct env_done *op)
{
    PASS(sync, file, op);
}

static err_t disk_sync_now(void *self, env_file file)
{
    PASS(sync_now, file);
}

static err_t disk_sync_names(void *self, const char *directory)
{
    PASS(sync_names, directory);
}

static err_t disk_sync_all(void *self)
{
    struct env_disk *inner = ((struct faults_disk *)self)->inner;
    if (disk_fails(self))
        return faults.err;
    faults_quiet();
    err_t err = inner->sync_all(inner->self);
    faults_loud();
    return err;
}

static err_t disk_make_directory(void *self, const char *name)
{
    PASS(make_directory, name);
}

static err_t disk_rename(void *self, const char *from, const char *to)
{
    PASS(rename, from, to);
}

static err_t disk_unlink(void *self, const char *name)
{
    PASS(unlink, name);
}

struct each_entry {
    void (*each)(void *context, const char *entry, bool is_directory);
    void *context;
};

/* What it calls is the code under test. */
static void disk_list_entry(void *context, const char *entry, bool is_directory)
{
    const struct each_entry *each = context;
    faults_loud();
    each->each(each->context, entry, is_directory);
    faults_quiet();
}

static err_t disk_list(void *self, const char *directory,
                       void (*each)(void *context, const char *entry, bool is_directory),
                       void *context)
{
    struct each_entry entry = {each, context};
    PASS(list, directory, disk_list_entry, &entry);
}

static err_t disk_free_bytes(void *self, uint64_t *ret_bytes)
{
    PASS(free_bytes, ret_bytes);
}

static err_t disk_drop_cache(void *self, env_file file)
{
    PASS(drop_cache, file);
}

static void disk_close(void *self, env_file file)
{
    struct env_disk *inner = ((struct faults_disk *)self)->inner;
    faults_quiet();
    inner->close(inner->self, file);
    faults_loud();
}

static bool disk_is_offline(void *self)
{
    const struct env_disk *inner = ((struct faults_disk *)self)->inner;
    return inner->is_offline(inner->self);
}

void faults_disk_init(struct faults_disk *disk, struct env_disk *inner)
{
    disk->inner = inner;
    disk->sound = false;
    disk->env = (struct env_disk){
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
        .drop_cache = disk_drop_cache,
        .close = disk_close,
        .is_offline = disk_is_offline,
        .self = disk,
    };
}
