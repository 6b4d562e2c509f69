#include "log/log_dir.h"

#include <stdlib.h>

#include "lib/check_main.h"
#include "log/log.h"
#include "sim/sim_disk.h"

static struct sim_disk *sim;
static struct sim_disk_view view;
static struct env_disk *disk = &view.env;

static const struct log_dir_meta meta = {
    .cluster_id = {{1, 2, 3}}, .directory_id = {{4, 5, 6}}, .node_id = 7};

static void never_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    (void)context;
    (void)delay_ns;
    (void)op;
    (void)err;
    ck_abort_msg("no sync is asynchronous here");
}

static void setup(uint64_t seed)
{
    sim = sim_disk_new(&(struct sim_disk_options){.seed = seed, .writeback_per_million = 100000});
    sim_disk_any_order(sim, seed % 2 == 1); /* of names and sizes */
    sim_disk_view_init(&view, sim, never_schedule, NULL);
    ck_assert_int_eq(log_dir_format(disk, &meta), ERR_OK);
}

static struct partition_id id_of(int number)
{
    return (struct partition_id){.topic = uuid_make((uint64_t)number, 1), .index = number};
}

static struct log_dir_state state_open(void)
{
    struct log_dir_state state;
    ck_assert_int_eq(log_dir_open(disk, &state), ERR_OK);
    return state;
}

static const struct log_dir_replica *state_find(const struct log_dir_state *state, int number)
{
    struct partition_id id = id_of(number);
    const struct log_dir_replica *found = NULL;
    for (size_t i = 0; i < state->replica_count; i++) {
        if (!partition_id_equal(&state->replicas[i].id, &id))
            continue;
        ck_assert_ptr_null(found); /* named once */
        found = &state->replicas[i];
    }
    return found;
}

START_TEST(a_formatted_directory_keeps_its_identity)
{
    struct log_dir_meta read, other = meta;
    setup(1);
    sim_disk_power_cut(sim);
    ck_assert_int_eq(log_dir_read_meta(disk, &read), ERR_OK);
    ck_assert(uuid_equal(&read.cluster_id, &meta.cluster_id));
    ck_assert(uuid_equal(&read.directory_id, &meta.directory_id));
    ck_assert_int_eq(read.node_id, 7);
    ck_assert_int_eq(log_dir_format(disk, &meta), ERR_OK);
    other.node_id = 8;
    ck_assert_int_eq(log_dir_format(disk, &other), ERR_EXISTS);
    for (uint64_t at = 0; sim_disk_rot(sim, "meta.properties", at, 0x04) == ERR_OK; at++) {
        ck_assert_int_eq(log_dir_read_meta(disk, &read), ERR_CORRUPT);
        ck_assert_int_eq(sim_disk_rot(sim, "meta.properties", at, 0x04), ERR_OK);
    }
    ck_assert_int_eq(log_dir_read_meta(disk, &read), ERR_OK);
    ck_assert_int_eq(sim_disk_lose(sim, "meta.properties"), ERR_OK);
    ck_assert_int_eq(log_dir_read_meta(disk, &read), ERR_NOT_FOUND);
    sim_disk_free(sim);
}
END_TEST

START_TEST(the_clean_marker_holds_once)
{
    struct uuid incarnation = uuid_make(5, 5);
    setup(2);
    struct log_dir_state state = state_open();
    ck_assert(uuid_is_zero(&state.clean_incarnation));
    log_dir_state_fini(&state);
    ck_assert_int_eq(log_dir_mark_clean(disk, &incarnation), ERR_OK);
    sim_disk_power_cut(sim);
    state = state_open();
    ck_assert(uuid_equal(&state.clean_incarnation, &incarnation));
    log_dir_state_fini(&state);
    sim_disk_power_cut(sim); /* it does not come back */
    state = state_open();
    ck_assert(uuid_is_zero(&state.clean_incarnation));
    log_dir_state_fini(&state);
    sim_disk_free(sim);
}
END_TEST

START_TEST(what_is_read_after_a_crash_is_what_a_power_cut_leaves) /* R14 */
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct manifest *writer;
        setup(seed);
        ck_assert_int_eq(manifest_open(disk, 0, &writer), ERR_OK);
        struct partition_id kept = id_of(1), failed = id_of(2);
        ck_assert_int_eq(manifest_add(writer, &kept), ERR_OK);
        sim_disk_fail_sync(sim, 1);
        ck_assert_int_eq(manifest_add(writer, &failed), ERR_IO); /* its pages are called clean */
        manifest_close(writer);
        sim_disk_kill(sim);
        struct log_dir_state state = state_open();
        ck_assert(state.synced);
        size_t count = state.replica_count;
        ck_assert_ptr_nonnull(state_find(&state, 1));
        log_dir_state_fini(&state);
        sim_disk_power_cut(sim);
        state = state_open();
        ck_assert_uint_eq(state.replica_count, count);
        log_dir_state_fini(&state);
        sim_disk_free(sim);
    }
}
END_TEST

START_TEST(where_all_can_not_be_synced_at_once_each_log_does_it)
{
    sim = sim_disk_new(&(struct sim_disk_options){.seed = 1, .no_sync_all = true});
    sim_disk_view_init(&view, sim, never_schedule, NULL);
    ck_assert_int_eq(log_dir_format(disk, &meta), ERR_OK);
    struct log_dir_state state = state_open();
    ck_assert(!state.synced);
    log_dir_state_fini(&state);
    sim_disk_free(sim);
}
END_TEST

START_TEST(manifests_of_all_writers_are_folded_into_one)
{
    struct manifest *writers[3];
    setup(3);
    for (unsigned w = 0; w < 3; w++)
        ck_assert_int_eq(manifest_open(disk, w, &writers[w]), ERR_OK);
    for (int i = 0; i < 30; i++) {
        struct partition_id id = id_of(i);
        ck_assert_int_eq(manifest_add(writers[i % 3], &id), ERR_OK);
    }
    uint64_t syncs = sim_disk_counters(sim)->syncs;
    struct partition_id id = id_of(4), gone = id_of(5);
    ck_assert_int_eq(manifest_add(writers[1], &id), ERR_OK); /* it is there */
    ck_assert_uint_eq(sim_disk_counters(sim)->syncs, syncs);
    ck_assert_int_eq(manifest_remove(writers[2], &gone), ERR_OK);
    for (unsigned w = 0; w < 3; w++)
        manifest_close(writers[w]);
    sim_disk_power_cut(sim);
    for (int life = 0; life < 2; life++) {
        struct log_dir_state state = state_open();
        ck_assert_uint_eq(state.replica_count, 29);
        ck_assert_ptr_null(state_find(&state, 5));
        const struct log_dir_replica *replica = state_find(&state, 4);
        ck_assert(replica->in_manifest);
        ck_assert_str_eq(replica->folder, ""); /* no folder holds it: LOST */
        log_dir_state_fini(&state);
    }
    ck_assert_int_eq(manifest_open(disk, 5, &writers[0]), ERR_OK); /* other shards now */
    ck_assert_int_eq(manifest_remove(writers[0], &id), ERR_OK);
    manifest_close(writers[0]);
    struct log_dir_state state = state_open();
    ck_assert_uint_eq(state.replica_count, 28);
    log_dir_state_fini(&state);
    sim_disk_free(sim);
}
END_TEST

static void make_log(const char *directory, int number)
{
    static struct env env; /* a log that only opens and closes asks nothing of it */
    static const struct log_options options = {
        .segment_bytes = 1 << 20, .index_interval_bytes = 4096, .preallocate_bytes = 4096};
    struct log_recovery recovery;
    struct log *log = NULL;
    struct partition_id id = id_of(number);
    struct log_open_args args = {
        .env = &env, .disk = disk, .directory = directory, .topic = id.topic, .options = &options};
    ck_assert_int_eq(log_open(&args, &log, &recovery), ERR_OK);
    ck_assert_int_eq(log_close(log, false), ERR_OK);
}

START_TEST(folders_and_manifest_are_joined_by_topic_id)
{
    struct manifest *manifest;
    setup(4);
    make_log("orders-1", 1);
    make_log("orders-renamed-2", 2);
    ck_assert_int_eq(disk->make_directory(disk->self, "half-3"), ERR_OK);
    ck_assert_int_eq(disk->make_directory(disk->self, "lost+found"), ERR_OK);
    ck_assert_int_eq(manifest_open(disk, 0, &manifest), ERR_OK);
    struct partition_id one = id_of(1), three = id_of(3);
    ck_assert_int_eq(manifest_add(manifest, &one), ERR_OK);
    ck_assert_int_eq(manifest_add(manifest, &three), ERR_OK);
    manifest_close(manifest);
    struct log_dir_state state = state_open();
    ck_assert_uint_eq(state.replica_count, 3);
    ck_assert_str_eq(state_find(&state, 1)->folder, "orders-1");
    ck_assert(state_find(&state, 1)->in_manifest);
    ck_assert_str_eq(state_find(&state, 2)->folder, "orders-renamed-2");
    ck_assert(!state_find(&state, 2)->in_manifest);
    ck_assert_str_eq(state_find(&state, 3)->folder, "");
    log_dir_state_fini(&state);
    sim_disk_free(sim);
}
END_TEST

START_TEST(a_bad_row_is_corrupt_unless_it_is_the_last)
{
    struct log_dir_state state;
    struct manifest *manifest;
    setup(5);
    ck_assert_int_eq(manifest_open(disk, 0, &manifest), ERR_OK);
    for (int i = 0; i < 4; i++) {
        struct partition_id id = id_of(i);
        ck_assert_int_eq(manifest_add(manifest, &id), ERR_OK);
    }
    manifest_close(manifest);
    ck_assert_int_eq(sim_disk_rot(sim, "manifest-0", 32 * 2 + 9, 1), ERR_OK);
    ck_assert_int_eq(log_dir_open(disk, &state), ERR_CORRUPT);
    ck_assert_int_eq(sim_disk_rot(sim, "manifest-0", 32 * 2 + 9, 1), ERR_OK);
    ck_assert_int_eq(sim_disk_rot(sim, "manifest-0", 32 * 4 + 9, 1), ERR_OK);
    state = state_open();
    ck_assert_uint_eq(state.replica_count, 3);
    log_dir_state_fini(&state);
    sim_disk_free(sim);
}
END_TEST

/* Adds and removes until the disk freezes; counts[i]: 1 surely there, 0 surely not, -1 unknown. */
enum { SINGLE = 12, BULK = 6, NAMED = SINGLE + BULK };

/* What a call said of each id is in counts: -1 while it says nothing. */
static bool change_bulk(struct manifest *writer, bool add, int first, size_t count, int *counts)
{
    struct partition_id ids[BULK];
    for (size_t i = 0; i < count; i++) {
        ids[i] = id_of(first + (int)i);
        counts[first + (int)i] = -1;
    }
    err_t err = manifest_change(writer, add, ids, count);
    for (size_t i = 0; i < count && err == ERR_OK; i++)
        counts[first + (int)i] = add;
    return err == ERR_OK;
}

static void manifest_life(int counts[NAMED])
{
    struct manifest *writers[2] = {NULL, NULL};
    struct log_dir_state state;
    if (log_dir_open(disk, &state) != ERR_OK)
        return;
    log_dir_state_fini(&state);
    for (unsigned w = 0; w < 2; w++) {
        if (manifest_open(disk, w, &writers[w]) != ERR_OK)
            goto done;
    }
    for (int i = 0; i < 18; i++) {
        int number = i % 12;
        struct partition_id id = id_of(number);
        bool remove = i >= 12;
        counts[number] = -1;
        err_t err = remove ? manifest_remove(writers[number % 2], &id)
                           : manifest_add(writers[number % 2], &id);
        if (err != ERR_OK)
            break;
        counts[number] = !remove;
    }
    for (unsigned w = 0; w < 2; w++) {
        int first = SINGLE + (int)w * BULK / 2;
        if (!change_bulk(writers[w], true, first, BULK / 2, counts) ||
            !change_bulk(writers[w], false, first + 1, 2, counts))
            break;
    }
done:
    for (unsigned w = 0; w < 2; w++)
        manifest_close(writers[w]);
}

START_TEST(no_power_cut_loses_or_invents_a_manifest_row)
{
    uint64_t seed = check_main_seed();
    bool done = false;
    for (uint64_t at = 1; !done; at++) {
        int counts[NAMED] = {0};
        setup(seed + at);
        sim_disk_freeze_at(sim, sim_disk_counters(sim)->operations + at);
        manifest_life(counts);
        done = !sim_disk_frozen(sim);
        sim_disk_power_cut(sim);
        sim_disk_freeze_at(sim, sim_disk_counters(sim)->operations + 1 + at % 9);
        struct log_dir_state state;
        if (log_dir_open(disk, &state) == ERR_OK) /* cut again while it folds */
            log_dir_state_fini(&state);
        sim_disk_power_cut(sim);
        state = state_open();
        for (int i = 0; i < NAMED; i++) {
            if (counts[i] >= 0)
                ck_assert_int_eq(state_find(&state, i) != NULL, counts[i]);
        }
        log_dir_state_fini(&state);
        sim_disk_free(sim);
    }
}
END_TEST

CHECK_MAIN("log/log_dir", a_formatted_directory_keeps_its_identity, the_clean_marker_holds_once,
           what_is_read_after_a_crash_is_what_a_power_cut_leaves,
           where_all_can_not_be_synced_at_once_each_log_does_it,
           manifests_of_all_writers_are_folded_into_one,
           folders_and_manifest_are_joined_by_topic_id, a_bad_row_is_corrupt_unless_it_is_the_last,
           no_power_cut_loses_or_invents_a_manifest_row)
