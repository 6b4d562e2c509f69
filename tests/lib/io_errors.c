/* io_errors.c - a library for LD_PRELOAD that makes a broker's calls to its disks fail, or last.
 *
 * $KARST_IO_ERRORS names a file of IO_RULES rules (struct io_rule), which chaos_io_errors.py writes
 * while the broker runs. The first rule that is on, has the call among its own and matches the path
 * of the file decides. Without the file, or a rule, all calls are the kernel's own.
 *
 * Thread: any; rules are read and counted down by atomics, in the memory that the file is. */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { IO_RULES = 16, IO_PATTERN_SIZE = 220, IO_FILES_MAX = 4096 };

/* The numbers stand in chaos_io_errors.py, too. */
enum io_call {
    IO_READ = 1 << 0,
    IO_WRITE = 1 << 1,
    IO_SYNC = 1 << 2, /* fdatasync, fsync */
    IO_SYNC_FS = 1 << 3,
    IO_OPEN = 1 << 4,
    IO_CREATE = 1 << 5,
    IO_ALLOCATE = 1 << 6,
    IO_SIZE = 1 << 7,
    IO_RENAME = 1 << 8,
    IO_UNLINK = 1 << 9,
};
enum io_kind {
    IO_FAIL,
    IO_SHORT, /* half is read or written, and said so */
    IO_TORN,  /* half is written, and the call fails */
    IO_LOSE,  /* a sync fails, and what was written since the last one is lost: it reads as zeros */
};

struct io_rule {
    atomic_uint on;
    uint32_t calls;
    uint32_t kind;
    int32_t error; /* 0: it succeeds, late */
    uint32_t delay_ms;
    uint32_t percent; /* of the calls that match */
    atomic_int skip;  /* so many that match pass first */
    atomic_int left;  /* and then so many are hit */
    atomic_uint hits;
    char pattern[IO_PATTERN_SIZE]; /* fnmatch; '*' takes slashes, too */
};
_Static_assert(sizeof(struct io_rule) == 256, "as chaos_io_errors.py writes it");

static struct io_rule *io_rules;
static atomic_uint io_draw = 1;
/* What was written since the last sync: [from, end) of each descriptor. */
static _Atomic uint64_t io_dirty_from[IO_FILES_MAX], io_dirty_end[IO_FILES_MAX];

__attribute__((constructor)) static void io_errors_begin(void)
{
    const char *path = getenv("KARST_IO_ERRORS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    void *at =
        mmap(NULL, IO_RULES * sizeof(struct io_rule), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at != MAP_FAILED)
        io_rules = at;
    close(fd);
}

/* ---- paths ---- */

static void io_path(int fd, const char *name, char ret_path[PATH_MAX])
{
    char link[64];
    size_t used = 0;
    if (name == NULL || name[0] != '/') {
        snprintf(link, sizeof(link), fd == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, ret_path, PATH_MAX - 1);
        used = n > 0 ? (size_t)n : 0;
    }
    if (name == NULL)
        ret_path[used] = '\0';
    else
        snprintf(ret_path + used, PATH_MAX - used, used > 0 ? "/%s" : "%s", name);
}

/* ---- rules ---- */

static bool io_rule_hits(struct io_rule *rule)
{
    if (rule->percent < 100) {
        unsigned draw = atomic_fetch_add(&io_draw, 1) * 2654435761U;
        if ((draw >> 8) % 100 >= rule->percent)
            return false;
    }
    if (atomic_load(&rule->skip) > 0 && atomic_fetch_sub(&rule->skip, 1) > 0)
        return false;
    if (atomic_load(&rule->left) <= 0 || atomic_fetch_sub(&rule->left, 1) <= 0)
        return false;
    atomic_fetch_add(&rule->hits, 1);
    return true;
}

static void io_wait(uint32_t ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    while (nanosleep(&left, &left) != 0)
        ;
}

/* The rule that this call meets, its delay over; NULL: none. name NULL: the file of the fd. */
static struct io_rule *io_meet(enum io_call call, int fd, const char *name)
{
    char path[PATH_MAX];
    bool known = false;
    for (size_t i = 0; io_rules != NULL && i < IO_RULES; i++) {
        struct io_rule *rule = &io_rules[i];
        if (atomic_load_explicit(&rule->on, memory_order_acquire) == 0 ||
            (rule->calls & (uint32_t)call) == 0)
            continue;
        if (!known)
            io_path(fd, name, path);
        known = true;
        if (fnmatch(rule->pattern, path, 0) != 0 || !io_rule_hits(rule))
            continue;
        io_wait(rule->delay_ms);
        return rule->error == 0 && rule->kind != IO_SHORT ? NULL : rule;
    }
    return NULL;
}

static int io_refuse(const struct io_rule *rule)
{
    errno = rule->error;
    return -1;
}

/* ---- what is dirty ---- */

static void io_note_written(int fd, int64_t at, ssize_t bytes)
{
    if (fd < 0 || fd >= IO_FILES_MAX || bytes <= 0)
        return;
    uint64_t from = (uint64_t)at, end = from + (uint64_t)bytes;
    if (atomic_load(&io_dirty_end[fd]) == 0 || from < atomic_load(&io_dirty_from[fd]))
        atomic_store(&io_dirty_from[fd], from);
    if (end > atomic_load(&io_dirty_end[fd]))
        atomic_store(&io_dirty_end[fd], end);
}

static void io_forget_written(int fd, bool lose)
{
    static const char zeros[65536];
    if (fd < 0 || fd >= IO_FILES_MAX)
        return;
    uint64_t end = atomic_exchange(&io_dirty_end[fd], 0);
    for (uint64_t at = atomic_load(&io_dirty_from[fd]); lose && at < end;) {
        size_t bytes = end - at < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
        if (syscall(SYS_pwrite64, fd, zeros, bytes, at) <= 0)
            break;
        at += bytes;
    }
}

/* Of segments only: other files are replaced, and a lost one would be another fault. */
static void io_lose_below(int directory)
{
    char above[PATH_MAX], path[PATH_MAX];
    io_path(directory, NULL, above);
    for (int fd = 0; fd < IO_FILES_MAX; fd++) {
        if (atomic_load(&io_dirty_end[fd]) == 0)
            continue;
        io_path(fd, NULL, path);
        if (strncmp(path, above, strlen(above)) == 0 && fnmatch("*.log", path, 0) == 0)
            io_forget_written(fd, true);
    }
}

/* ---- the calls ---- */

ssize_t pread(int fd, void *into, size_t bytes, off_t at)
{
    const struct io_rule *rule = io_meet(IO_READ, fd, NULL);
    if (rule != NULL && rule->kind != IO_SHORT)
        return io_refuse(rule);
    return syscall(SYS_pread64, fd, into, rule != NULL && bytes > 1 ? bytes / 2 : bytes, at);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    const struct io_rule *rule = io_meet(IO_WRITE, fd, NULL);
    if (rule != NULL && rule->kind != IO_SHORT && rule->kind != IO_TORN)
        return io_refuse(rule);
    ssize_t n = syscall(SYS_pwrite64, fd, data, rule != NULL && bytes > 1 ? bytes / 2 : bytes, at);
    io_note_written(fd, at, n);
    return rule != NULL && rule->kind == IO_TORN ? io_refuse(rule) : n;
}

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    const struct io_rule *rule = io_meet(IO_WRITE, fd, NULL);
    if (rule != NULL && rule->kind != IO_SHORT && rule->kind != IO_TORN)
        return io_refuse(rule);
    ssize_t n;
    if (rule != NULL && parts[0].iov_len > 1)
        n = syscall(SYS_pwrite64, fd, parts[0].iov_base, parts[0].iov_len / 2, at);
    else
        n = syscall(SYS_pwritev, fd, parts, count, at, 0);
    io_note_written(fd, at, n);
    return rule != NULL && rule->kind == IO_TORN ? io_refuse(rule) : n;
}

static int io_sync(enum io_call call, long number, int fd)
{
    const struct io_rule *rule = io_meet(call, fd, NULL);
    if (rule == NULL || rule->kind == IO_SHORT) {
        if (call == IO_SYNC)
            io_forget_written(fd, false);
        return (int)syscall(number, fd);
    }
    if (rule->kind == IO_LOSE && call == IO_SYNC)
        io_forget_written(fd, true);
    if (rule->kind == IO_LOSE && call == IO_SYNC_FS)
        io_lose_below(fd);
    return io_refuse(rule);
}

int fdatasync(int fd)
{
    return io_sync(IO_SYNC, SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return io_sync(IO_SYNC, SYS_fsync, fd);
}

int syncfs(int fd)
{
    return io_sync(IO_SYNC_FS, SYS_syncfs, fd);
}

int openat(int fd, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = (flags & O_CREAT) != 0 ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    const struct io_rule *rule = io_meet((flags & O_CREAT) != 0 ? IO_CREATE : IO_OPEN, fd, name);
    if (rule != NULL)
        return io_refuse(rule);
    int opened = (int)syscall(SYS_openat, fd, name, flags, mode);
    io_forget_written(opened, false);
    return opened;
}

int fallocate(int fd, int mode, off_t from, off_t bytes)
{
    const struct io_rule *rule = io_meet(IO_ALLOCATE, fd, NULL);
    return rule != NULL ? io_refuse(rule) : (int)syscall(SYS_fallocate, fd, mode, from, bytes);
}

int ftruncate(int fd, off_t bytes)
{
    const struct io_rule *rule = io_meet(IO_SIZE, fd, NULL);
    return rule != NULL ? io_refuse(rule) : (int)syscall(SYS_ftruncate, fd, bytes);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    const struct io_rule *rule = io_meet(IO_RENAME, to_fd, to);
    return rule != NULL ? io_refuse(rule)
                        : (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, 0);
}

int unlinkat(int fd, const char *name, int flags)
{
    const struct io_rule *rule = io_meet(IO_UNLINK, fd, name);
    return rule != NULL ? io_refuse(rule) : (int)syscall(SYS_unlinkat, fd, name, flags);
}
