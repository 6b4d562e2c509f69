/* A log directory's life in which one call of the disk, or one allocation, fails: what was told to
 * be there is there after a power cut, and what was told to be gone is not. */
#include <stdio.h>
#include <stdlib.h>

#include "lib/check_main.h"
#include "lib/faults.h"
#include "log/log.h"
#include "log/log_dir.h"
#include "sim/sim_disk.h"

enum { IDS = 7 };

enum known { UNKNOWN, GONE, THERE };

static struct {
    struct sim_disk *sim;
    struct sim_disk_view view;
    struct faults_disk faulty;
    struct env env;
    struct env_disk *disk;
    enum known rows[IDS]; /* of the manifest */
    bool folders[IDS];    /* made, and made durable */
    bool formatted;
} dir;

static const struct log_dir_meta meta = {
    .cluster_id = {{1, 2, 3}}, .directory_id = {{4, 5, 6}}, .node_id = 7};
static const struct uuid incarnation = {{8}};

static void never_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    (void)context;
    (void)delay_ns;
    (void)op;
    (void)err;
    ck_abort_msg("no sync is asynchronous here");
}

static uint64_t mono_ns(void *self)
{
    (void)self;
    return 1;
}

static uint64_t random_of(void *self)
{
    (void)self;
    return 42;
}

static void setup(uint64_t seed)
{
    memset(&dir, 0, sizeof(dir));
    dir.sim = sim_disk_new(&(struct sim_disk_options){
        .seed = seed, .writeback_per_million = 100000, .no_sync_all = seed % 3 == 0});
    sim_disk_view_init(&dir.view, dir.sim, never_schedule, NULL);
    faults_disk_init(&dir.faulty, &dir.view.env);
    dir.disk = &dir.faulty.env;
    dir.env = (struct env){.clock = {.mono_ns = mono_ns}, .random = random_of};
    for (int i = 0; i < IDS; i++)
        dir.rows[i] = GONE;
}

static struct partition_id id_of(int number)
{
    return (struct partition_id){.topic = uuid_make((uint64_t)number, 1), .index = number};
}

/* All that is known is so; each id is named once. */
static void check_state(const struct log_dir_state *state)
{
    bool found[IDS] = {false};
    ck_assert(uuid_equal(&state->meta.directory_id, &meta.directory_id));
    for (size_t i = 0; i < state->replica_count; i++) {
        const struct log_dir_replica *replica = &state->replicas[i];
        int number = replica->id.index;
        struct partition_id id = id_of(number);
        ck_assert(partition_id_equal(&id, &replica->id));
        ck_assert(!found[number]);
        found[number] = replica->in_manifest;
        if (dir.folders[number])
            ck_assert_int_ne(replica->folder[0], '\0');
    }
    for (int i = 0; i < IDS; i++)
        if (dir.rows[i] != UNKNOWN)
            ck_assert_msg(found[i] == (dir.rows[i] == THERE), "id %d", i);
}

static bool open_and_check(void)
{
    struct log_dir_state state;
    if (log_dir_open(dir.disk, &state) != ERR_OK)
        return false;
    faults_quiet();
    check_state(&state);
    faults_loud();
    log_dir_state_fini(&state);
    return true;
}

static void change(struct manifest *manifest, bool add, int first, int count)
{
    struct partition_id ids[IDS];
    for (int i = 0; i < count; i++)
        ids[i] = id_of(first + i);
    err_t err = ERR_KAFKA_STORAGE_ERROR;
    if (manifest != NULL)
        err = manifest_change(manifest, add, ids, (size_t)count);
    for (int i = first; i < first + count; i++)
        if (err == ERR_OK)
            dir.rows[i] = add ? THERE : GONE;
        else if (manifest != NULL && dir.rows[i] != (add ? THERE : GONE))
            dir.rows[i] = UNKNOWN;
}

/* Two shards' manifests: rows one by one and many at once, added and removed. */
static void life_of_manifests(void)
{
    struct manifest *first = NULL, *second = NULL;
    if (manifest_open(dir.disk, 0, &first) != ERR_OK)
        first = NULL;
    if (manifest_open(dir.disk, 1, &second) != ERR_OK)
        second = NULL;
    change(first, true, 0, 1);
    change(first, true, 1, 2);
    change(first, true, 0, 3); /* all there already */
    change(second, true, 3, 3);
    change(second, true, 6, 1);
    change(first, false, 0, 1);
    change(second, false, 4, 2);
    manifest_close(first);
    manifest_close(second);
}

static void life_of_log(int number)
{
    const struct log_options options = {
        .segment_bytes = 8192, .index_interval_bytes = 300, .preallocate_bytes = 4096};
    char folder[32];
    struct log *log;
    struct log_recovery recovery;
    (void)snprintf(folder, sizeof(folder), "orders-%d", number);
    err_t err = log_open(
        &(struct log_open_args){
            .env = &dir.env,
            .disk = dir.disk,
            .directory = folder,
            .topic = id_of(number).topic,
            .options = &options,
        },
        &log, &recovery);
    if (err == ERR_OK)
        err = log_close(log, true);
    dir.folders[number] = err == ERR_OK;
}

static void life_after_failure(void)
{
    struct log_dir_verdict verdict;
    bool failed, verified;
    log_dir_mark_failed(dir.disk);
    if (log_dir_is_failed(dir.disk, &failed) != ERR_OK ||
        log_dir_verify(&dir.env, dir.disk, &verdict) != ERR_OK)
        return;
    faults_quiet();
    ck_assert_uint_eq(verdict.corrupt, 0);
    faults_loud();
    if (log_dir_take_verified(dir.disk, &verified) != ERR_OK)
        return;
    if (log_dir_is_failed(dir.disk, &failed) == ERR_OK)
        ck_assert(!failed);
}

static void life(void)
{
    dir.formatted = log_dir_format(dir.disk, &meta) == ERR_OK;
    if (!dir.formatted || !open_and_check())
        return;
    /* Named after they are durable (R21); one fault is over at the second try. */
    for (int i = 1; i <= 3; i += 2)
        for (int again = 0; again < 2 && !dir.folders[i]; again++)
            life_of_log(i);
    life_of_manifests();
    if (log_dir_mark_clean(dir.disk, &incarnation) != ERR_OK)
        sim_disk_kill(dir.sim);
    if (!open_and_check())
        return;
    life_of_manifests();
    life_after_failure();
}

/* False: there are no more places. */
static bool run(enum faults_kind kind, err_t err, uint64_t nth)
{
    setup(nth);
    if (getenv("KARST_TRACE") != NULL)
        fprintf(stderr, "fault %d at %llu\n", (int)kind, (unsigned long long)nth);
    faults_arm(kind, nth, err);
    life();
    bool met = faults_disarm();
    sim_disk_power_cut(dir.sim);
    struct log_dir_meta read;
    if (!dir.formatted)
        ck_assert_int_eq(log_dir_format(dir.disk, &meta), ERR_OK);
    ck_assert_int_eq(log_dir_read_meta(dir.disk, &read), ERR_OK);
    ck_assert(open_and_check());
    life_of_manifests(); /* and all works again */
    for (int i = 0; i < IDS; i++)
        ck_assert_int_eq(dir.rows[i], i == 0 || i == 4 || i == 5 ? GONE : THERE);
    sim_disk_power_cut(dir.sim);
    ck_assert(open_and_check());
    sim_disk_free(dir.sim);
    return met;
}

static void run_all(enum faults_kind kind, err_t err)
{
    uint64_t nth = 1;
    while (run(kind, err, nth))
        nth++;
    ck_assert_uint_gt(nth, 30); /* else the life is short */
}

START_TEST(a_failed_call_of_the_disk_loses_and_invents_no_row)
{
    run_all(FAULTS_DISK, ERR_IO);
}
END_TEST

START_TEST(a_full_disk_loses_and_invents_no_row) /* R16 */
{
    run_all(FAULTS_DISK, ERR_NOT_ENOUGH_SPACE);
}
END_TEST

START_TEST(a_failed_allocation_loses_and_invents_no_row)
{
    run_all(FAULTS_MEMORY, ERR_NO_MEMORY);
}
END_TEST

CHECK_MAIN("log/log_dir_faults", a_failed_call_of_the_disk_loses_and_invents_no_row,
           a_full_disk_loses_and_invents_no_row, a_failed_allocation_loses_and_invents_no_row)
