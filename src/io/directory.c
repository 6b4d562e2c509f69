#include "io/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/canary.h"
#include "base/logger.h"
#include "io/thread.h"
#include "io/timers.h"

/* Measured on ext4 and virtio, 16 KiB dirty in each file: 4 files take 1.0 ms one after the other,
 * 0.6 with their writes started first, 0.4 by syncfs; 16 take 4.4, 2.5 and 0.9; 1,000 take 220, 80
 * and 25. syncfs waits for what others have dirty on the file system, too: it must be well ahead.
 */
enum { SYNCFS_FILES_MIN = 16 };

/* Before Linux 5.8 syncfs does not report failed writes (R18). */
static bool syncfs_reports_errors(void)
{
    struct utsname name;
    unsigned major = 0, minor = 0;
    if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return false;
    return major > 5 || (major == 5 && minor >= 8);
}

err_t io_directory_open(struct io_directory *directory, const char *path, bool syncfs_wanted,
                        unsigned actor_count)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    err_t err = fd < 0 ? err_from_errno(errno) : ERR_OK;
    *directory = (struct io_directory){
        .path = strdup(path),
        .fd = fd,
        .syncfs_allowed = syncfs_wanted && syncfs_reports_errors(),
        .all = directory,
        .all_count = 1,
        .submitted = calloc(actor_count, sizeof(struct list_node)),
        .inboxes = calloc(actor_count, sizeof(struct io_inbox *)),
        .actor_count = actor_count,
        .sync_file = fdatasync,
        .sync_all = syncfs,
    };
    if (directory->path == NULL || directory->submitted == NULL || directory->inboxes == NULL)
        err = ERR_NO_MEMORY;
    struct stat status;
    if (err == ERR_OK && fstat(directory->fd, &status) != 0)
        err = err_from_errno(errno);
    pthread_mutex_init(&directory->lock, NULL);
    pthread_cond_init(&directory->more, NULL);
    if (err != ERR_OK) {
        io_directory_close(directory);
        return err;
    }
    directory->device = status.st_dev;
    for (unsigned i = 0; i < actor_count; i++)
        list_init(&directory->submitted[i]);
    return ERR_OK;
}

void io_directory_close(struct io_directory *directory)
{
    if (directory->actor_count == 0)
        return;
    ASSERT(!directory->started);
    if (directory->fd >= 0)
        close(directory->fd);
    free(directory->path);
    free(directory->submitted);
    free(directory->inboxes);
    pthread_cond_destroy(&directory->more);
    pthread_mutex_destroy(&directory->lock);
    *directory = (struct io_directory){.fd = -1};
}

bool io_directory_offline(const struct io_directory *directory)
{
    return atomic_load_explicit(&directory->offline, memory_order_relaxed);
}

void io_directory_fail(struct io_directory *directory, int error)
{
    if (atomic_exchange_explicit(&directory->offline, true, memory_order_relaxed))
        return;
    log_error("sync failed: the log directory is offline for good directory=%s error=\"%s\"",
              directory->path, strerror(error));
}

/* syncfs does not tell whose pages failed: all directories of that file system go (R18). */
static void directory_fail_device(const struct io_directory *directory, int error)
{
    for (size_t i = 0; i < directory->all_count; i++) {
        if (&directory->all[i] == directory || (directory->all[i].device == directory->device &&
                                                !CANARY("io_syncfs_fails_one_directory")))
            io_directory_fail(&directory->all[i], error);
    }
}

err_t io_directory_sync_all(struct io_directory *directory)
{
    if (!directory->syncfs_allowed)
        return ERR_UNSUPPORTED_VERSION;
    if (io_directory_offline(directory))
        return ERR_KAFKA_STORAGE_ERROR; /* never tried again (R14) */
    if (directory->sync_all(directory->fd) == 0)
        return ERR_OK;
    directory_fail_device(directory, errno);
    return ERR_KAFKA_STORAGE_ERROR;
}

/* Returns the number of different files of a round, and the first of them. */
static size_t directory_gather(struct io_directory *directory, const struct list_node *lists,
                               struct io_file *ret_files[SYNCFS_FILES_MIN])
{
    size_t count = 0;
    for (unsigned actor = 0; actor < directory->actor_count; actor++) {
        list_for_each (node, &lists[actor]) {
            struct io_file *file = list_entry(node, struct env_done, link)->target;
            if (file->round == directory->round)
                continue;
            file->round = directory->round;
            if (count < SYNCFS_FILES_MIN)
                ret_files[count] = file;
            count++;
        }
    }
    return count;
}

/* Starts the writes of all, so that the disk has them together: what fails is told by fdatasync. */
static void directory_start_writes(struct io_file *const *files, size_t count)
{
    for (size_t i = 0; i < count && count > 1; i++)
        (void)sync_file_range(files[i]->fd, 0, 0, SYNC_FILE_RANGE_WRITE);
}

static err_t directory_sync_file(struct io_directory *directory, struct io_file *file)
{
    if (file->round_synced == directory->round)
        return file->round_err;
    file->round_synced = directory->round;
    file->round_err = ERR_OK;
    if (io_directory_offline(directory)) {
        file->round_err = ERR_KAFKA_STORAGE_ERROR; /* never tried again (R14) */
    } else if (directory->sync_file(file->fd) != 0) {
        io_directory_fail(directory, errno);
        file->round_err = ERR_KAFKA_STORAGE_ERROR;
    }
    return file->round_err;
}

static void directory_round(struct io_directory *directory, struct list_node *lists)
{
    directory->round++;
    struct io_file *files[SYNCFS_FILES_MIN];
    size_t count = directory_gather(directory, lists, files);
    bool offline = io_directory_offline(directory);
    bool all = directory->syncfs_allowed && count >= SYNCFS_FILES_MIN && !offline;
    err_t all_err = all ? io_directory_sync_all(directory) : ERR_OK;
    if (!all && !offline)
        directory_start_writes(files, count < SYNCFS_FILES_MIN ? count : SYNCFS_FILES_MIN);
    for (unsigned actor = 0; actor < directory->actor_count; actor++) {
        list_for_each (node, &lists[actor]) {
            struct env_done *op = list_entry(node, struct env_done, link);
            op->err = all ? all_err : directory_sync_file(directory, op->target);
        }
    }
    for (unsigned actor = 0; actor < directory->actor_count; actor++)
        io_inbox_put(directory->inboxes[actor], &lists[actor]);
}

/* Waits for requests; returns false when there are none and the flusher is to stop. */
static bool directory_take(struct io_directory *directory, struct list_node *ret_lists)
{
    bool any = false;
    pthread_mutex_lock(&directory->lock);
    for (;;) {
        for (unsigned actor = 0; actor < directory->actor_count; actor++) {
            any = any || !list_empty(&directory->submitted[actor]);
            io_list_move(&ret_lists[actor], &directory->submitted[actor]);
        }
        if (any || directory->stopping)
            break;
        directory->waiting = true;
        pthread_cond_wait(&directory->more, &directory->lock);
        directory->waiting = false;
    }
    pthread_mutex_unlock(&directory->lock);
    return any;
}

static void directory_main(void *context)
{
    struct io_directory *directory = context;
    struct list_node lists[IO_ACTORS_MAX];
    for (unsigned actor = 0; actor < directory->actor_count; actor++)
        list_init(&lists[actor]);
    while (directory_take(directory, lists)) {
        atomic_store_explicit(&directory->began_ns, io_clock_mono_ns(), memory_order_relaxed);
        directory_round(directory, lists);
        atomic_store_explicit(&directory->began_ns, 0, memory_order_relaxed);
    }
}

uint64_t io_directory_sync_age_ns(const struct io_directory *directory)
{
    uint64_t began_ns = atomic_load_explicit(&directory->began_ns, memory_order_relaxed);
    uint64_t now_ns = io_clock_mono_ns();
    return began_ns == 0 || now_ns < began_ns ? 0 : now_ns - began_ns;
}

err_t io_directory_start(struct io_directory *directory)
{
    err_t err = io_thread_start(&directory->thread, "flusher", directory_main, directory);
    directory->started = err == ERR_OK;
    return err;
}

void io_directory_stop(struct io_directory *directory)
{
    if (!directory->started)
        return;
    pthread_mutex_lock(&directory->lock);
    directory->stopping = true;
    pthread_cond_signal(&directory->more);
    pthread_mutex_unlock(&directory->lock);
    pthread_join(directory->thread, NULL);
    directory->started = false;
}

void io_directory_submit(struct io_directory *directory, unsigned actor, struct list_node *ops)
{
    if (list_empty(ops))
        return;
    pthread_mutex_lock(&directory->lock);
    io_list_move(&directory->submitted[actor], ops);
    bool wake = directory->waiting;
    directory->waiting = false; /* one signal for all who come before it wakes */
    pthread_mutex_unlock(&directory->lock);
    if (wake)
        pthread_cond_signal(&directory->more);
}
