#include "io/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/check_main.h"
#include "unit/io/lab.h"

/* One directory with one actor's disk, and that actor's inbox, without a loop. */
struct disk_lab {
    char path[LAB_PATH_SIZE];
    struct io_directory directory;
    struct io_wake wake;
    struct io_inbox inbox;
    struct io_disk disk;
    struct env_disk env;
};

static void disk_lab_open(struct disk_lab *lab)
{
    lab_make_directory(lab->path);
    ck_assert_int_eq(io_directory_open(&lab->directory, lab->path, true, 1), ERR_OK);
    ck_assert_int_eq(io_wake_init(&lab->wake), ERR_OK);
    io_inbox_init(&lab->inbox, &lab->wake);
    lab->directory.inboxes[0] = &lab->inbox;
    io_disk_init(&lab->disk, &lab->directory, 0);
    lab->env = io_disk_env(&lab->disk);
}

static void disk_lab_close(struct disk_lab *lab)
{
    io_directory_stop(&lab->directory);
    io_disk_fini(&lab->disk);
    io_inbox_fini(&lab->inbox);
    io_wake_fini(&lab->wake);
    io_directory_close(&lab->directory);
    lab_remove_directory(lab->path);
}

static env_file open_file(struct disk_lab *lab, const char *name)
{
    env_file file = {-1};
    ck_assert_int_eq(lab->env.open(lab->env.self, name, ENV_OPEN_CREATE, &file), ERR_OK);
    ck_assert_int_ge(file.id, 0);
    return file;
}

static void write_text(struct disk_lab *lab, env_file file, uint64_t at, const char *text)
{
    struct iovec part = {(void *)(uintptr_t)text, strlen(text)};
    ck_assert_int_eq(lab->env.write(lab->env.self, file, at, &part, 1), ERR_OK);
}

static uint64_t file_size(struct disk_lab *lab, env_file file)
{
    uint64_t size = 0;
    ck_assert_int_eq(lab->env.size(lab->env.self, file, &size), ERR_OK);
    return size;
}

/* Bytes [from, end) are all zeros. */
static void expect_zeros(struct disk_lab *lab, env_file file, uint64_t from, uint64_t end)
{
    uint8_t bytes[4096];
    while (from < end) {
        size_t got = 0, want = end - from < sizeof(bytes) ? (size_t)(end - from) : sizeof(bytes);
        ck_assert_int_eq(lab->env.read(lab->env.self, file, from, bytes, want, &got), ERR_OK);
        ck_assert_uint_eq(got, want);
        for (size_t i = 0; i < got; i++)
            ck_assert_uint_eq(bytes[i], 0);
        from += got;
    }
}

/* ---- completions ---- */

struct sync_op {
    struct env_done op;
    unsigned *completed;
    err_t err;
};

static void sync_done(struct env_done *op, err_t err)
{
    struct sync_op *sync = container_of(op, struct sync_op, op);
    sync->err = err;
    (*sync->completed)++;
}

static err_t start_sync(struct disk_lab *lab, env_file file, struct sync_op *sync,
                        unsigned *completed)
{
    *sync = (struct sync_op){.op.done = sync_done, .completed = completed, .err = ERR_INVALID};
    return lab->env.sync(lab->env.self, file, &sync->op);
}

/* Waits, as a loop does, until so many have completed in all. */
static void complete(struct disk_lab *lab, const unsigned *completed, unsigned wanted)
{
    while (*completed < wanted) {
        struct list_node ops;
        list_init(&ops);
        io_wake_arm(&lab->wake);
        if (!io_inbox_any(&lab->inbox)) {
            struct pollfd fd = {.fd = lab->wake.fd, .events = POLLIN};
            ck_assert_int_eq(poll(&fd, 1, -1), 1);
            io_wake_clear(&lab->wake);
        }
        io_wake_disarm(&lab->wake);
        io_inbox_take(&lab->inbox, &ops);
        struct list_node *node;
        while ((node = list_pop_front(&ops)) != NULL) {
            struct env_done *op = list_entry(node, struct env_done, link);
            io_disk_synced(op);
            op->done(op, op->err);
        }
    }
}

/* ---- names ---- */

START_TEST(open_makes_finds_and_excludes)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file file = {-1};
    ck_assert_int_eq(lab.env.open(lab.env.self, "f", 0, &file), ERR_NOT_FOUND);
    ck_assert_int_eq(file.id, -1);
    ck_assert_int_eq(lab.env.open(lab.env.self, "d/f", ENV_OPEN_CREATE, &file), ERR_NOT_FOUND);
    ck_assert_int_eq(lab.env.make_directory(lab.env.self, "d"), ERR_OK);
    ck_assert_int_eq(lab.env.make_directory(lab.env.self, "d"), ERR_EXISTS);
    unsigned fresh = ENV_OPEN_CREATE | ENV_OPEN_EXCLUSIVE;
    ck_assert_int_eq(lab.env.open(lab.env.self, "d/f", fresh, &file), ERR_OK);
    env_file again = {-1};
    ck_assert_int_eq(lab.env.open(lab.env.self, "d/f", fresh, &again), ERR_EXISTS);
    ck_assert_int_eq(lab.env.open(lab.env.self, "d/f", 0, &again), ERR_OK);
    ck_assert_int_ne(file.id, again.id);
    lab.env.close(lab.env.self, file);
    lab.env.close(lab.env.self, again);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(names_can_not_leave_the_directory)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    static const char *const bad[] = {"", "/etc/passwd", "..", "../x", "d/../x", "d/.."};
    env_file file = {-1};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_int_eq(lab.env.open(lab.env.self, bad[i], 0, &file), ERR_INVALID);
        ck_assert_int_eq(lab.env.unlink(lab.env.self, bad[i]), ERR_INVALID);
        ck_assert_int_eq(lab.env.make_directory(lab.env.self, bad[i]), ERR_INVALID);
        ck_assert_int_eq(lab.env.rename(lab.env.self, "x", bad[i]), ERR_INVALID);
    }
    lab.env.close(lab.env.self, open_file(&lab, "..x")); /* these are names like others */
    lab.env.close(lab.env.self, open_file(&lab, "x..y"));
    disk_lab_close(&lab);
}
END_TEST

static void count_entry(void *context, const char *entry, bool is_directory)
{
    unsigned *counts = context;
    counts[is_directory]++;
    ck_assert_str_eq(entry, is_directory ? "d" : "new");
}

START_TEST(names_are_changed_listed_and_removed)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file old = open_file(&lab, "old"), new = open_file(&lab, "new");
    write_text(&lab, old, 0, "old");
    ck_assert_int_eq(lab.env.rename(lab.env.self, "old", "new"), ERR_OK); /* replaces */
    ck_assert_int_eq(lab.env.rename(lab.env.self, "old", "new"), ERR_NOT_FOUND);
    ck_assert_int_eq(lab.env.make_directory(lab.env.self, "dir"), ERR_OK);
    ck_assert_int_eq(lab.env.rename(lab.env.self, "dir", "d"), ERR_OK);
    ck_assert_int_eq(lab.env.sync_names(lab.env.self, ""), ERR_OK);
    ck_assert_int_eq(lab.env.sync_names(lab.env.self, "d"), ERR_OK);
    ck_assert_int_eq(lab.env.sync_names(lab.env.self, "none"), ERR_NOT_FOUND);
    unsigned counts[2] = {0};
    ck_assert_int_eq(lab.env.list(lab.env.self, "", count_entry, counts), ERR_OK);
    ck_assert_uint_eq(counts[false], 1);
    ck_assert_uint_eq(counts[true], 1);
    ck_assert_int_eq(lab.env.list(lab.env.self, "none", count_entry, counts), ERR_NOT_FOUND);
    env_file found = {-1};
    ck_assert_int_eq(lab.env.open(lab.env.self, "new", 0, &found), ERR_OK);
    ck_assert_uint_eq(file_size(&lab, found), 3);
    lab.env.close(lab.env.self, open_file(&lab, "d/f"));
    ck_assert_int_eq(lab.env.unlink(lab.env.self, "d"), ERR_EXISTS); /* not empty */
    ck_assert_int_eq(lab.env.unlink(lab.env.self, "d/f"), ERR_OK);
    ck_assert_int_eq(lab.env.unlink(lab.env.self, "d"), ERR_OK);
    ck_assert_int_eq(lab.env.unlink(lab.env.self, "d"), ERR_NOT_FOUND);
    lab.env.close(lab.env.self, old);
    lab.env.close(lab.env.self, new);
    lab.env.close(lab.env.self, found);
    disk_lab_close(&lab);
}
END_TEST

/* ---- bytes ---- */

START_TEST(writes_gather_more_parts_than_the_system_takes_at_once)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file file = open_file(&lab, "f");
    enum { PARTS = 3000 };
    static uint8_t bytes[PARTS * 3];
    static struct iovec parts[PARTS];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < PARTS; i++)
        parts[i] = (struct iovec){bytes + i * 3, 3};
    ck_assert_int_eq(lab.env.write(lab.env.self, file, 5, parts, PARTS), ERR_OK);
    ck_assert_uint_eq(file_size(&lab, file), 5 + sizeof(bytes));
    static uint8_t back[sizeof(bytes) + 100];
    size_t got = 0;
    ck_assert_int_eq(lab.env.read(lab.env.self, file, 5, back, sizeof(back), &got), ERR_OK);
    ck_assert_uint_eq(got, sizeof(bytes)); /* less than asked only at the end */
    ck_assert_mem_eq(back, bytes, sizeof(bytes));
    ck_assert_int_eq(lab.env.read(lab.env.self, file, 100000, back, 1, &got), ERR_OK);
    ck_assert_uint_eq(got, 0);
    expect_zeros(&lab, file, 0, 5);
    lab.env.close(lab.env.self, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(allocated_and_cut_parts_read_as_zeros)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file file = open_file(&lab, "f");
    write_text(&lab, file, 0, "head");
    ck_assert_int_eq(lab.env.allocate(lab.env.self, file, 4, 100000), ERR_OK);
    ck_assert_uint_eq(file_size(&lab, file), 100004);
    expect_zeros(&lab, file, 4, 100004);
    write_text(&lab, file, 10000, "cut from within this");
    ck_assert_int_eq(lab.env.zero_from(lab.env.self, file, 10003), ERR_OK);
    ck_assert_uint_eq(file_size(&lab, file), 100004); /* the size stays (R13) */
    expect_zeros(&lab, file, 10003, 100004);
    char text[3];
    size_t got = 0;
    ck_assert_int_eq(lab.env.read(lab.env.self, file, 10000, text, 3, &got), ERR_OK);
    ck_assert_mem_eq(text, "cut", 3);
    ck_assert_int_eq(lab.env.zero_from(lab.env.self, file, 200000), ERR_OK); /* nothing there */
    ck_assert_int_eq(lab.env.set_size(lab.env.self, file, 2), ERR_OK);
    ck_assert_uint_eq(file_size(&lab, file), 2);
    ck_assert_int_eq(lab.env.set_size(lab.env.self, file, 50), ERR_OK);
    expect_zeros(&lab, file, 2, 50);
    lab.env.close(lab.env.self, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(a_cut_keeps_the_blocks)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file file = open_file(&lab, "f");
    ck_assert_int_eq(lab.env.allocate(lab.env.self, file, 0, 1 << 20), ERR_OK);
    write_text(&lab, file, 0, "something");
    ck_assert_int_eq(lab.env.zero_from(lab.env.self, file, 4), ERR_OK);
    ck_assert_int_eq(lab.env.sync_now(lab.env.self, file), ERR_OK);
    struct stat status;
    char name[LAB_PATH_SIZE + 8];
    snprintf(name, sizeof(name), "%s/f", lab.path);
    ck_assert_int_eq(stat(name, &status), 0);
    ck_assert_int_ge(status.st_blocks * 512, 1 << 20);
    uint64_t free_bytes = 0;
    ck_assert_int_eq(lab.env.free_bytes(lab.env.self, &free_bytes), ERR_OK);
    ck_assert_uint_gt(free_bytes, 0);
    ck_assert_int_eq(lab.env.drop_cache(lab.env.self, file), ERR_OK);
    expect_zeros(&lab, file, 4, 1 << 20);
    lab.env.close(lab.env.self, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(a_write_that_finds_no_room_says_so)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    env_file file = open_file(&lab, "full");
    int full = open("/dev/full", O_RDWR | O_CLOEXEC);
    ck_assert_int_ge(full, 0);
    int *fd = &lab.disk.chunks[0][file.id].fd;
    close(*fd);
    *fd = full;
    struct iovec part = {(void *)(uintptr_t) "text", 4};
    ck_assert_int_eq(lab.env.write(lab.env.self, file, 0, &part, 1), ERR_NOT_ENOUGH_SPACE);
    lab.env.close(lab.env.self, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(more_files_than_a_chunk_are_open_at_once)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    enum { FILES = 700 };
    env_file files[FILES];
    for (unsigned i = 0; i < FILES; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        files[i] = open_file(&lab, name);
        write_text(&lab, files[i], 0, name);
    }
    for (unsigned i = 0; i < FILES; i++) {
        char name[16], back[16] = {0};
        snprintf(name, sizeof(name), "f%u", i);
        size_t got = 0;
        ck_assert_int_eq(lab.env.read(lab.env.self, files[i], 0, back, 15, &got), ERR_OK);
        ck_assert_str_eq(back, name);
        lab.env.close(lab.env.self, files[i]);
    }
    ck_assert_int_lt(open_file(&lab, "again").id, FILES); /* places are taken again */
    disk_lab_close(&lab);
}
END_TEST

/* ---- flush rounds; the file and the syncs that a stand-in for the system saw ---- */

static atomic_uint file_syncs, all_syncs, fail_from, open_fds;

static int count_file_sync(int fd)
{
    atomic_fetch_add(&open_fds, fcntl(fd, F_GETFD) != -1);
    if (atomic_fetch_add(&file_syncs, 1) + 1 >= atomic_load(&fail_from)) {
        errno = EIO;
        return -1;
    }
    return fdatasync(fd);
}

static int count_all_sync(int fd)
{
    if (atomic_fetch_add(&all_syncs, 1) + 1 >= atomic_load(&fail_from)) {
        errno = EIO;
        return -1;
    }
    return syncfs(fd);
}

static void count_syncs(struct disk_lab *lab, unsigned first_failure)
{
    atomic_store(&file_syncs, 0);
    atomic_store(&all_syncs, 0);
    atomic_store(&open_fds, 0);
    atomic_store(&fail_from, first_failure);
    lab->directory.sync_file = count_file_sync;
    lab->directory.sync_all = count_all_sync;
}

START_TEST(a_round_syncs_each_file_once)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, UINT32_MAX);
    env_file files[3] = {open_file(&lab, "a"), open_file(&lab, "b"), open_file(&lab, "c")};
    struct sync_op ops[30];
    unsigned completed = 0;
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        ck_assert_int_eq(start_sync(&lab, files[i % 3], &ops[i], &completed), ERR_OK);
    ck_assert_uint_eq(completed, 0); /* never inside the call */
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    complete(&lab, &completed, ARRAY_LEN(ops));
    for (unsigned i = 0; i < ARRAY_LEN(ops); i++)
        ck_assert_int_eq(ops[i].err, ERR_OK);
    ck_assert_uint_eq(atomic_load(&file_syncs), 3);
    ck_assert_uint_eq(atomic_load(&all_syncs), 0);
    disk_lab_close(&lab);
}
END_TEST

static sem_t sync_may_end;

static int sync_that_lasts(int fd)
{
    while (sem_wait(&sync_may_end) != 0)
        ;
    return fdatasync(fd);
}

START_TEST(how_long_a_sync_lasts_is_told_while_it_does)
{
    struct disk_lab lab;
    struct sync_op op;
    unsigned completed = 0;
    disk_lab_open(&lab);
    ck_assert_int_eq(sem_init(&sync_may_end, 0, 0), 0);
    lab.directory.sync_file = sync_that_lasts;
    env_file file = open_file(&lab, "file");
    write_text(&lab, file, 0, "text");
    ck_assert_uint_eq(lab.env.sync_age_ns(lab.env.self), 0);
    ck_assert_int_eq(start_sync(&lab, file, &op, &completed), ERR_OK);
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    uint64_t age_ns = 0, before_ns = 0;
    while (before_ns == 0) { /* it grows */
        before_ns = age_ns;
        age_ns = lab.env.sync_age_ns(lab.env.self);
        ck_assert_uint_ge(age_ns, before_ns);
    }
    sem_post(&sync_may_end);
    complete(&lab, &completed, 1);
    ck_assert_int_eq(op.err, ERR_OK);
    io_directory_stop(&lab.directory);
    ck_assert_uint_eq(lab.env.sync_age_ns(lab.env.self), 0);
    disk_lab_close(&lab);
}
END_TEST

static void open_many(struct disk_lab *lab, env_file *files, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        char name[16];
        snprintf(name, sizeof(name), "f%u", i);
        files[i] = open_file(lab, name);
        write_text(lab, files[i], 0, name);
    }
}

START_TEST(many_files_are_synced_by_one_syncfs)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, UINT32_MAX);
    enum { MANY = 200 };
    env_file files[MANY];
    struct sync_op ops[MANY];
    unsigned completed = 0;
    open_many(&lab, files, MANY);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(start_sync(&lab, files[i], &ops[i], &completed), ERR_OK);
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    complete(&lab, &completed, MANY);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(ops[i].err, ERR_OK);
    ck_assert_uint_eq(atomic_load(&file_syncs), 0);
    ck_assert_uint_eq(atomic_load(&all_syncs), 1);
    disk_lab_close(&lab);
}
END_TEST

static void expect_offline(struct disk_lab *lab, env_file file)
{
    struct sync_op op;
    unsigned completed = 0;
    struct iovec part = {(void *)(uintptr_t) "text", 4};
    env_file other = {-1};
    ck_assert_int_eq(start_sync(lab, file, &op, &completed), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.sync_now(lab->env.self, file), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.sync_names(lab->env.self, ""), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.write(lab->env.self, file, 0, &part, 1), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.allocate(lab->env.self, file, 0, 100), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.zero_from(lab->env.self, file, 0), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.set_size(lab->env.self, file, 0), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.open(lab->env.self, "new", ENV_OPEN_CREATE, &other),
                     ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.unlink(lab->env.self, "f0"), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab->env.open(lab->env.self, "mark", ENV_OPEN_CREATE | ENV_OPEN_MARK, &other),
                     ERR_OK);
    lab->env.close(lab->env.self, other);
    char text[2];
    size_t got = 0;
    ck_assert_int_eq(lab->env.read(lab->env.self, file, 0, text, 2, &got), ERR_OK);
}

START_TEST(a_failed_sync_takes_the_directory_offline_for_good)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, 2);
    env_file files[4];
    open_many(&lab, files, 4);
    struct sync_op ops[4];
    unsigned completed = 0;
    for (unsigned i = 0; i < 4; i++)
        ck_assert_int_eq(start_sync(&lab, files[i], &ops[i], &completed), ERR_OK);
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    complete(&lab, &completed, 4);
    ck_assert_int_eq(ops[0].err, ERR_OK); /* that one was durable */
    for (unsigned i = 1; i < 4; i++)
        ck_assert_int_eq(ops[i].err, ERR_KAFKA_STORAGE_ERROR);
    ck_assert_uint_eq(atomic_load(&file_syncs), 2); /* nothing is tried after the failure (R14) */
    expect_offline(&lab, files[0]);
    ck_assert_uint_eq(atomic_load(&file_syncs), 2);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(a_failed_syncfs_fails_all_directories_of_its_file_system)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, 1);
    enum { MANY = 100 };
    static env_file files[MANY];
    static struct sync_op ops[MANY];
    struct io_directory all[2] = {lab.directory, lab.directory};
    all[1].path = lab.path;
    lab.directory.all = all; /* two stand-ins on the same device */
    lab.directory.all_count = 2;
    unsigned completed = 0;
    open_many(&lab, files, MANY);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(start_sync(&lab, files[i], &ops[i], &completed), ERR_OK);
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    complete(&lab, &completed, MANY);
    for (unsigned i = 0; i < MANY; i++)
        ck_assert_int_eq(ops[i].err, ERR_KAFKA_STORAGE_ERROR);
    ck_assert(io_directory_offline(&all[0]));
    ck_assert(io_directory_offline(&all[1]));
    disk_lab_close(&lab);
}
END_TEST

START_TEST(all_is_synced_at_once_where_the_file_system_allows)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, 2);
    env_file file = open_file(&lab, "f0");
    lab.directory.syncfs_allowed = false;
    ck_assert_int_eq(lab.env.sync_all(lab.env.self), ERR_UNSUPPORTED_VERSION);
    ck_assert_uint_eq(atomic_load(&all_syncs), 0);
    ck_assert(!io_directory_offline(&lab.directory));
    lab.directory.syncfs_allowed = true;
    ck_assert_int_eq(lab.env.sync_all(lab.env.self), ERR_OK);
    ck_assert_int_eq(lab.env.sync_all(lab.env.self), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_int_eq(lab.env.sync_all(lab.env.self), ERR_KAFKA_STORAGE_ERROR);
    ck_assert_uint_eq(atomic_load(&all_syncs), 2); /* nothing is tried after the failure (R14) */
    expect_offline(&lab, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(a_failed_sync_now_takes_the_directory_offline)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, 2);
    env_file file = open_file(&lab, "f0");
    ck_assert_int_eq(lab.env.sync_now(lab.env.self, file), ERR_OK);
    ck_assert_int_eq(lab.env.sync_now(lab.env.self, file), ERR_KAFKA_STORAGE_ERROR);
    expect_offline(&lab, file);
    disk_lab_close(&lab);
}
END_TEST

START_TEST(a_file_is_not_closed_under_a_pending_sync)
{
    struct disk_lab lab;
    disk_lab_open(&lab);
    count_syncs(&lab, UINT32_MAX);
    env_file file = open_file(&lab, "f");
    struct sync_op ops[2];
    unsigned completed = 0;
    ck_assert_int_eq(start_sync(&lab, file, &ops[0], &completed), ERR_OK);
    ck_assert_int_eq(start_sync(&lab, file, &ops[1], &completed), ERR_OK);
    lab.env.close(lab.env.self, file);
    env_file other = open_file(&lab, "other");
    ck_assert_int_ne(other.id, file.id); /* its place is not given away meanwhile */
    io_disk_submit(&lab.disk);
    ck_assert_int_eq(io_directory_start(&lab.directory), ERR_OK);
    complete(&lab, &completed, 2);
    ck_assert_int_eq(ops[0].err, ERR_OK);
    ck_assert_uint_eq(atomic_load(&open_fds), 1);
    ck_assert_int_eq(open_file(&lab, "third").id, file.id); /* now it is closed */
    disk_lab_close(&lab);
}
END_TEST

CHECK_MAIN("io/disk", open_makes_finds_and_excludes, names_can_not_leave_the_directory,
           names_are_changed_listed_and_removed,
           writes_gather_more_parts_than_the_system_takes_at_once,
           allocated_and_cut_parts_read_as_zeros, a_cut_keeps_the_blocks,
           a_write_that_finds_no_room_says_so, more_files_than_a_chunk_are_open_at_once,
           a_round_syncs_each_file_once, how_long_a_sync_lasts_is_told_while_it_does,
           many_files_are_synced_by_one_syncfs, a_failed_sync_takes_the_directory_offline_for_good,
           a_failed_syncfs_fails_all_directories_of_its_file_system,
           all_is_synced_at_once_where_the_file_system_allows,
           a_failed_sync_now_takes_the_directory_offline, a_file_is_not_closed_under_a_pending_sync)
