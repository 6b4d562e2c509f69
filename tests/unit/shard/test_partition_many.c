/* One broker's table of a hundred partitions: made, stopped, killed and recovered, with few syncs
 * and never all in one turn. */
#include <stdio.h>

#include "lib/check_main.h"
#include "lib/metadata_lab.h"
#include "log/log_dir.h"
#include "shard/partition.h"
#include "shard/partition_internal.h"
#include "sim/sim_disk.h"

enum { TOPIC = 5, PARTITIONS = 100 };

static struct {
    struct sim_disk *disk;
    struct sim_disk_view view;
    struct env env;
    struct env_timer *timer;
    struct env_done *syncs[PARTITIONS];
    size_t sync_count;
    struct env_done *work;
    uint64_t now_ns;
    struct image *image;
    struct partition_table *table;
    bool clean; /* the last stop said so */
    unsigned turns;
} lab;

static void lab_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    (void)context;
    (void)delay_ns;
    ck_assert_int_eq(err, ERR_OK);
    ck_assert_uint_lt(lab.sync_count, PARTITIONS);
    lab.syncs[lab.sync_count++] = op;
}

/* A worker that is done by the next look at it (lab_work). */
static err_t lab_submit(void *self, void (*run)(void *arg), void *arg, struct env_done *op)
{
    (void)self;
    ck_assert_ptr_null(lab.work);
    run(arg);
    lab.work = op;
    return ERR_OK;
}

static void lab_work(void)
{
    struct env_done *op = lab.work;
    lab.work = NULL;
    if (op != NULL)
        op->done(op, ERR_OK);
}

static int64_t lab_wall(void *self)
{
    (void)self;
    return 1000000;
}

static uint64_t lab_mono(void *self)
{
    (void)self;
    return lab.now_ns;
}

static uint64_t lab_random(void *self)
{
    (void)self;
    return 42;
}

static void lab_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    (void)self;
    timer->due_ns = due_ns;
    lab.timer = timer; /* the table's only one */
}

static void lab_timer_stop(void *self, struct env_timer *timer)
{
    (void)self;
    timer->due_ns = 0;
    lab.timer = NULL;
}

static void host_part_done(void *self, struct part *part)
{
    (void)self;
    (void)part;
}

static bool host_lease(void *self, uint64_t now_ns)
{
    (void)self;
    (void)now_ns;
    return true;
}

static broker_epoch_t host_epoch(void *self)
{
    (void)self;
    return 11; /* lab_image's, of broker 1 */
}

static void lab_boot(void)
{
    struct log_dir_state state;
    static struct partition_found found[PARTITIONS];
    size_t count = 0;
    ck_assert_int_eq(log_dir_open(&lab.view.env, &state), ERR_OK);
    for (size_t i = 0; i < state.replica_count; i++) {
        const struct log_dir_replica *replica = &state.replicas[i];
        ck_assert_uint_lt(count, PARTITIONS);
        found[count] = (struct partition_found){
            .id = replica->id, .in_manifest = replica->in_manifest, .synced = state.synced};
        memcpy(found[count++].folder, replica->folder, sizeof(replica->folder));
    }
    lab.clean = !uuid_is_zero(&state.clean_incarnation);
    log_dir_state_fini(&state);
    lab.table = partition_table_new(
        &(struct partition_host){
            .env = &lab.env,
            .node = 1,
            .shards = 1,
            .part_done = host_part_done,
            .lease_valid = host_lease,
            .broker_epoch = host_epoch,
        },
        &(struct partition_options){
            .replica_lag_max_ns = ENV_MS(10000),
            .flush_before_ack = true,
            .min_insync_replicas = 1,
            .message_bytes_max = 1 << 20,
            .segment_bytes = 64 << 10,
            .preallocate_bytes = 16 << 10,
            .waiters_max = 100,
        });
    ck_assert_ptr_nonnull(lab.table);
    partition_table_found(lab.table, found, count, &lab.clean);
    struct image_difference *all = image_difference_all(lab.image);
    partition_table_apply(lab.table, lab.image, all);
    image_difference_free(all);
}

static void many_begin(bool no_sync_all)
{
    lab.disk = sim_disk_new(
        &(struct sim_disk_options){.seed = check_main_seed(), .no_sync_all = no_sync_all});
    sim_disk_view_init(&lab.view, lab.disk, lab_schedule, NULL);
    lab.now_ns = 1;
    lab.env = (struct env){
        .clock = {.mono_ns = lab_mono, .wall_ms = lab_wall},
        .disks = &lab.view.env,
        .disk_count = 1,
        .workers = {.submit = lab_submit},
        .random = lab_random,
        .timer_start = lab_timer_start,
        .timer_stop = lab_timer_stop,
    };
    struct log_dir_meta meta = {.cluster_id = {{1}}, .directory_id = {{2}}, .node_id = 1};
    ck_assert_int_eq(log_dir_format(&lab.view.env, &meta), ERR_OK);
    struct record_list list;
    record_list_init(&list);
    lab_topic(&list, TOPIC, "orders");
    for (int32_t i = 0; i < PARTITIONS; i++)
        lab_partition(&list, TOPIC, i, 1, 1);
    lab.image = lab_apply(lab_image(), &list, NULL);
    lab_boot();
}

static void many_end(void)
{
    (void)partition_table_free(lab.table, false);
    sim_disk_free(lab.disk);
    image_unref(lab.image);
}

static struct log *log_of(int32_t index)
{
    struct partition_id id = {lab_uuid(TOPIC), index};
    return partition_log(lab.table, &id);
}

static size_t open_logs(void)
{
    size_t open = 0;
    for (int32_t i = 0; i < PARTITIONS; i++)
        open += log_of(i) != NULL;
    return open;
}

/* Turns of the loop until nothing is left to be opened. */
static void lab_turns(void)
{
    partition_turn_ended(lab.table);
    for (lab.turns = 1; lab.timer != NULL; lab.turns++) {
        struct env_timer *timer = lab.timer;
        size_t before = open_logs();
        lab.timer = NULL;
        timer->fire(timer, lab.now_ns);
        partition_turn_ended(lab.table);
        ck_assert_uint_le(open_logs() - before, OPENED_AT_ONCE_MAX);
    }
    ck_assert_uint_eq(open_logs(), PARTITIONS);
}

/* One record into each log, not flushed. */
static void lab_fill(void)
{
    for (int32_t i = 0; i < PARTITIONS; i++) {
        struct partition_id id = {lab_uuid(TOPIC), i};
        struct partition *p = partition_find(lab.table, &id);
        ck_assert_int_eq(partition_enter_manifest(p), ERR_OK);
        uint8_t batch[256];
        struct batch_builder builder;
        batch_begin(&builder, batch, sizeof(batch));
        struct bytes value = {(const uint8_t *)"value", 5};
        ck_assert_int_eq(batch_add(&builder, 1000, (struct bytes){0}, value, NULL, 0), ERR_OK);
        struct iovec part = {batch, batch_finish(&builder, 0, -1, -1, -1)};
        batch_patch(batch, log_end(p->log), log_last_epoch(p->log));
        ck_assert_int_eq(log_append(p->log, &part, 1), ERR_OK);
    }
}

static uint64_t sync_count(void)
{
    return sim_disk_counters(lab.disk)->syncs;
}

static void each_log_ends_at(offset_t end)
{
    for (int32_t i = 0; i < PARTITIONS; i++)
        ck_assert_int_eq(log_end(log_of(i)), end);
}

START_TEST(a_topic_of_many_partitions_is_made_over_many_turns)
{
    many_begin(false);
    ck_assert_uint_eq(open_logs(), OPENED_AT_ONCE_MAX);
    lab_turns();
    ck_assert_uint_ge(lab.turns, PARTITIONS / OPENED_AT_ONCE_MAX);
    many_end();
}
END_TEST

START_TEST(many_logs_are_stopped_and_recovered_by_a_few_syncs)
{
    many_begin(false);
    lab_turns();
    lab_fill();
    uint64_t syncs = sync_count();
    ck_assert_int_eq(partition_table_free(lab.table, true), ERR_OK);
    ck_assert_uint_eq(sync_count() - syncs, LOG_STOP_STEPS);
    ck_assert_int_eq(log_dir_mark_clean(&lab.view.env, &(struct uuid){{3}}), ERR_OK);
    sim_disk_power_cut(lab.disk);

    lab_boot();
    ck_assert(lab.clean);
    lab_turns();
    each_log_ends_at(1);
    lab_fill();
    (void)partition_table_free(lab.table, false);
    sim_disk_kill(lab.disk);

    syncs = sync_count();
    lab_boot();
    ck_assert(!lab.clean);
    lab_turns();
    ck_assert_uint_lt(sync_count() - syncs, 10);
    each_log_ends_at(2);
    (void)partition_table_free(lab.table, false);
    sim_disk_power_cut(lab.disk); /* what recovery calls flushed is on the disk */
    lab_boot();
    lab_turns();
    each_log_ends_at(2);
    many_end();
}
END_TEST

START_TEST(a_stop_whose_sync_fails_is_not_clean)
{
    for (uint64_t nth = 1; nth <= LOG_STOP_STEPS; nth++) {
        many_begin(false);
        lab_turns();
        lab_fill();
        sim_disk_fail_sync(lab.disk, nth);
        ck_assert_int_ne(partition_table_free(lab.table, true), ERR_OK);
        sim_disk_power_cut(lab.disk);
        lab_boot();
        lab_turns(); /* none is corrupt */
        for (int32_t i = 0; i < PARTITIONS && nth > 1; i++)
            ck_assert_int_eq(log_end(log_of(i)), 1);
        many_end();
    }
}
END_TEST

START_TEST(where_all_can_not_be_synced_at_once_a_stop_is_as_clean)
{
    many_begin(true);
    lab_turns();
    lab_fill();
    ck_assert_int_eq(partition_table_free(lab.table, true), ERR_OK);
    ck_assert_int_eq(log_dir_mark_clean(&lab.view.env, &(struct uuid){{3}}), ERR_OK);
    sim_disk_power_cut(lab.disk);
    lab_boot();
    ck_assert(lab.clean);
    lab_turns();
    each_log_ends_at(1);
    many_end();
}
END_TEST

static void count_folder(void *context, const char *entry, bool is_directory)
{
    (void)entry;
    *(size_t *)context += is_directory;
}

static size_t folders(void)
{
    size_t count = 0;
    struct env_disk *disk = &lab.view.env;
    ck_assert_int_eq(disk->list(disk->self, "", count_folder, &count), ERR_OK);
    return count;
}

static void delete_topic(void)
{
    struct record_list list;
    struct image_difference *difference;
    record_list_init(&list);
    lab_delete_topic(&list, TOPIC);
    lab.image = lab_apply(lab.image, &list, &difference);
    partition_table_apply(lab.table, lab.image, difference);
    image_difference_free(difference);
}

START_TEST(many_new_logs_are_made_durable_by_a_worker) /* R1, R21 */
{
    many_begin(false);
    lab_turns();
    uint64_t syncs = sync_count();
    partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    ck_assert_ptr_nonnull(lab.work);
    lab_work();
    ck_assert_uint_lt(sync_count() - syncs, 10);
    syncs = sync_count();
    lab_fill(); /* each log's first record */
    ck_assert_uint_eq(sync_count(), syncs);
    partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    ck_assert_ptr_null(lab.work); /* there is nothing more to do */
    (void)partition_table_free(lab.table, false);
    sim_disk_power_cut(lab.disk);
    struct log_dir_state state;
    ck_assert_int_eq(log_dir_open(&lab.view.env, &state), ERR_OK);
    ck_assert_uint_eq(state.replica_count, PARTITIONS);
    for (size_t i = 0; i < PARTITIONS; i++)
        ck_assert(state.replicas[i].in_manifest && state.replicas[i].folder[0] != 0);
    log_dir_state_fini(&state);
    lab.table = NULL;
    many_end();
}
END_TEST

START_TEST(a_first_record_does_not_wait_for_the_worker)
{
    for (int busy = 0; busy < 2; busy++) {
        many_begin(false);
        lab_turns();
        if (busy)
            partition_tick(lab.table, lab.now_ns += ENV_MS(50));
        uint64_t syncs = sync_count();
        lab_fill();
        ck_assert_uint_lt(sync_count() - syncs, 10); /* once for all */
        lab_work();
        (void)partition_table_free(lab.table, false);
        sim_disk_power_cut(lab.disk);
        lab_boot();
        lab_turns();
        many_end();
    }
}
END_TEST

START_TEST(a_deletion_or_a_stop_does_not_wait_for_the_worker)
{
    many_begin(false);
    lab_turns();
    partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    delete_topic();
    lab_work();
    many_end();
    many_begin(false);
    lab_turns();
    partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    ck_assert_int_eq(partition_table_free(lab.table, true), ERR_OK);
    lab_work(); /* its completion finds nobody */
    lab.table = NULL;
    many_end();
}
END_TEST

START_TEST(a_topic_of_many_partitions_is_deleted_over_many_turns)
{
    many_begin(false);
    lab_turns();
    lab_fill();
    (void)partition_table_free(lab.table, false);
    sim_disk_kill(lab.disk);
    lab_boot();
    lab_turns();
    ck_assert_uint_eq(folders(), PARTITIONS);
    uint64_t syncs = sync_count();
    delete_topic();
    ck_assert_uint_eq(partition_count(lab.table), 0);
    ck_assert_uint_ge(folders(), PARTITIONS / 4); /* not all at once */
    for (int i = 0; i < 20; i++)
        partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    ck_assert_uint_eq(folders(), 0);
    ck_assert_uint_lt(sync_count() - syncs, 20);
    (void)partition_table_free(lab.table, false);
    sim_disk_power_cut(lab.disk);
    struct log_dir_state state;
    ck_assert_int_eq(log_dir_open(&lab.view.env, &state), ERR_OK);
    ck_assert_uint_eq(state.replica_count, 0); /* neither a folder nor a row in the manifest */
    log_dir_state_fini(&state);
    lab.table = NULL;
    many_end();
}
END_TEST

START_TEST(a_stop_in_the_middle_of_a_deletion_leaves_it_to_the_next_start)
{
    many_begin(false);
    lab_turns();
    delete_topic();
    ck_assert_uint_ge(folders(), PARTITIONS / 4);
    ck_assert_int_eq(partition_table_free(lab.table, true), ERR_OK);
    sim_disk_kill(lab.disk);
    lab_boot();
    for (int i = 0; i < 20; i++)
        partition_tick(lab.table, lab.now_ns += ENV_MS(50));
    ck_assert_uint_eq(folders(), 0);
    many_end();
}
END_TEST

static err_t (*list_of_disk)(void *self, const char *directory,
                             void (*each)(void *context, const char *entry, bool is_directory),
                             void *context);
static unsigned lists;

static err_t count_list(void *self, const char *directory,
                        void (*each)(void *context, const char *entry, bool is_directory),
                        void *context)
{
    lists++;
    return list_of_disk(self, directory, each, context);
}

START_TEST(logs_that_find_no_room_are_tried_again_some_at_a_time) /* R16 */
{
    many_begin(false);
    list_of_disk = lab.view.env.list;
    lab.view.env.list = count_list;
    sim_disk_set_capacity(lab.disk, sim_disk_used(lab.disk));
    while (lab.timer != NULL) {
        struct env_timer *timer = lab.timer;
        lab.timer = NULL;
        timer->fire(timer, lab.now_ns);
        partition_turn_ended(lab.table);
    }
    ck_assert_uint_eq(open_logs(), OPENED_AT_ONCE_MAX);
    for (int i = 0; i < 10; i++) {
        lists = 0;
        partition_tick(lab.table, lab.now_ns);
        partition_turn_ended(lab.table);
        ck_assert_uint_ge(lists, 1);
        ck_assert_uint_le(lists, OPENED_AT_ONCE_MAX + 1); /* one looks for strays */
    }
    sim_disk_set_capacity(lab.disk, 0);
    for (int i = 0; i < 10 && open_logs() < PARTITIONS; i++) {
        partition_tick(lab.table, lab.now_ns);
        partition_turn_ended(lab.table);
    }
    ck_assert_uint_eq(open_logs(), PARTITIONS);
    many_end();
}
END_TEST

static err_t (*sync_of_disk)(void *self, env_file file);
static unsigned slow_syncs;

static err_t slow_sync(void *self, env_file file)
{
    slow_syncs++;
    lab.now_ns += ENV_MS(50);
    return sync_of_disk(self, file);
}

START_TEST(checkpoints_do_not_hold_the_loop_on_a_slow_disk)
{
    many_begin(false);
    lab_turns();
    struct request request = {.type = REQUEST_PRODUCE};
    for (int32_t i = 0; i < PARTITIONS; i++) {
        uint8_t batch[256];
        struct batch_builder builder;
        batch_begin(&builder, batch, sizeof(batch));
        ck_assert_int_eq(batch_add(&builder, 1000, (struct bytes){0}, (struct bytes){0}, NULL, 0),
                         ERR_OK);
        struct produce_part part = {
            .part = {.request = &request, .id = {lab_uuid(TOPIC), i}, .leader_epoch_asked = -1},
            .records = batch,
            .bytes = (uint32_t)batch_finish(&builder, 0, -1, -1, -1),
        };
        partition_produce(lab.table, &part); /* acks=0: answered at once */
        ck_assert_int_eq(part.part.err, ERR_OK);
    }
    partition_turn_ended(lab.table);
    while (lab.sync_count > 0) {
        struct env_done *op = lab.syncs[--lab.sync_count];
        op->done(op, ERR_OK);
        partition_turn_ended(lab.table);
    }
    lab.now_ns += ENV_MS(6000);
    sync_of_disk = lab.view.env.sync_now;
    lab.view.env.sync_now = slow_sync;
    partition_tick(lab.table, lab.now_ns);
    ck_assert_uint_eq(slow_syncs, 1); /* of the first log's epochs */
    many_end();
}
END_TEST

CHECK_MAIN("shard/partition_many", a_topic_of_many_partitions_is_made_over_many_turns,
           many_logs_are_stopped_and_recovered_by_a_few_syncs,
           many_new_logs_are_made_durable_by_a_worker, a_first_record_does_not_wait_for_the_worker,
           a_deletion_or_a_stop_does_not_wait_for_the_worker,
           a_topic_of_many_partitions_is_deleted_over_many_turns,
           a_stop_in_the_middle_of_a_deletion_leaves_it_to_the_next_start,
           a_stop_whose_sync_fails_is_not_clean,
           where_all_can_not_be_synced_at_once_a_stop_is_as_clean,
           logs_that_find_no_room_are_tried_again_some_at_a_time,
           checkpoints_do_not_hold_the_loop_on_a_slow_disk)
