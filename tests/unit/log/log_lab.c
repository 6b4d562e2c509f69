#include "unit/log/log_lab.h"

#include <stdio.h>
#include <stdlib.h>

static void lab_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    struct log_lab *lab = context;
    (void)delay_ns;
    ck_assert_uint_lt(lab->scheduled_count, LAB_SCHEDULED_MAX);
    lab->scheduled[lab->scheduled_count++] = (struct lab_done){op, err};
}

static void lab_flushed(void *owner, offset_t flushed_end, err_t err)
{
    struct log_lab *lab = owner;
    lab->told_end = flushed_end;
    lab->told_err = err;
    lab->told_count++;
}

static uint64_t lab_mono_ns(void *self)
{
    (void)self;
    return 1;
}

static void lab_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    struct log_lab *lab = self;
    timer->due_ns = due_ns;
    lab->timer = timer;
}

static void lab_timer_stop(void *self, struct env_timer *timer)
{
    struct log_lab *lab = self;
    timer->due_ns = 0;
    if (lab->timer == timer)
        lab->timer = NULL;
}

void lab_init(struct log_lab *lab, uint64_t seed)
{
    memset(lab, 0, sizeof(*lab));
    lab->disk = sim_disk_new(&(struct sim_disk_options){
        .seed = seed, .sync_ns_min = 1, .sync_ns_max = 100, .writeback_per_million = 200000});
    sim_disk_any_order(lab->disk, seed % 2 == 1); /* of names and sizes */
    sim_disk_view_init(&lab->view, lab->disk, lab_schedule, lab);
    faults_disk_init(&lab->faulty, &lab->view.env);
    lab->env = (struct env){
        .clock = {.mono_ns = lab_mono_ns},
        .disks = &lab->faulty.env,
        .disk_count = 1,
        .timer_start = lab_timer_start,
        .timer_stop = lab_timer_stop,
        .self = lab,
    };
    lab->options = (struct log_options){
        .segment_bytes = 8192, .index_interval_bytes = 300, .preallocate_bytes = 4096};
    lab->topic = uuid_make(seed, 7);
    lab->sync_all = seed % 2 == 0;
    lab->now_ms = 1000000;
}

void lab_fini(struct log_lab *lab)
{
    (void)log_close(lab->log, false);
    lab->log = NULL;
    lab->scheduled_count = 0;
    sim_disk_free(lab->disk);
    lab_model_cut(lab, 0);
}

static err_t lab_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct log_lab *lab = context;
    (void)info;
    (void)batch;
    lab->visited++;
    return ERR_OK;
}

err_t lab_try_open(struct log_lab *lab, bool clean)
{
    lab->visited = 0;
    lab->told_end = -1;
    lab->told_err = ERR_OK;
    lab->told_count = 0;
    bool synced = lab->sync_all && !clean;
    struct env_disk *disk = &lab->faulty.env;
    err_t err = synced ? disk->sync_all(disk->self) : ERR_OK;
    if (err != ERR_OK)
        return err;
    return log_open(
        &(struct log_open_args){
            .env = &lab->env,
            .disk = disk,
            .directory = "orders-0",
            .topic = lab->topic,
            .options = &lab->options,
            .upcalls = {.flushed = lab_flushed, .owner = lab},
            .clean = clean,
            .synced = synced,
            .visit = lab_visit,
            .visit_context = lab,
        },
        &lab->log, &lab->recovery);
}

void lab_open(struct log_lab *lab, bool clean)
{
    ck_assert_int_eq(lab_try_open(lab, clean), ERR_OK);
    ck_assert_int_eq(log_flushed_end(lab->log), log_end(lab->log));
}

static void lab_end_life(struct log_lab *lab)
{
    (void)log_close(lab->log, false);
    lab->log = NULL;
    lab->scheduled_count = 0;
}

void lab_kill(struct log_lab *lab)
{
    lab_end_life(lab);
    faults_quiet();
    sim_disk_kill(lab->disk);
    faults_loud();
}

void lab_power_cut(struct log_lab *lab)
{
    lab_end_life(lab);
    faults_quiet();
    sim_disk_power_cut(lab->disk);
    faults_loud();
}

/* ---- appends ---- */

static size_t lab_build(struct log_lab *lab, uint8_t *into, int records, size_t value_bytes)
{
    static uint8_t value[LAB_BATCH_BYTES_MAX];
    struct batch_builder builder;
    batch_begin(&builder, into, LAB_BATCH_BYTES_MAX);
    for (int i = 0; i < records; i++) {
        memset(value, 'a' + (int)(lab->serial % 26), value_bytes);
        int chars =
            snprintf((char *)value, sizeof(value), "%llu/%d", (unsigned long long)lab->serial, i);
        size_t len = (size_t)chars > value_bytes ? (size_t)chars : value_bytes;
        ck_assert_int_eq(batch_add(&builder, lab->now_ms + i, (struct bytes){0},
                                   (struct bytes){value, len}, NULL, 0),
                         ERR_OK);
    }
    lab->serial++;
    return batch_finish(&builder, 0, -1, -1, -1);
}

err_t lab_try_append(struct log_lab *lab, int records, size_t value_bytes)
{
    uint8_t bytes[LAB_BATCH_BYTES_MAX];
    size_t len = lab_build(lab, bytes, records, value_bytes);
    offset_t base = log_end(lab->log) + lab->gap;
    faults_quiet();
    batch_patch(bytes, base, lab->epoch);
    struct lab_batch *batch = &lab->batches[lab->batch_count];
    ck_assert_uint_lt(lab->batch_count, LAB_BATCHES_MAX);
    *batch = (struct lab_batch){.base = base,
                                .last = base + records - 1,
                                .epoch = lab->epoch,
                                .timestamp = lab->now_ms,
                                .bytes = malloc(len),
                                .len = len};
    memcpy(batch->bytes, bytes, len);
    faults_loud();
    lab->batch_count++;
    lab->now_ms += records;
    struct iovec part = {.iov_base = bytes, .iov_len = len};
    return log_append(lab->log, &part, 1);
}

void lab_append(struct log_lab *lab, int records, size_t value_bytes)
{
    ck_assert_int_eq(lab_try_append(lab, records, value_bytes), ERR_OK);
}

void lab_model_cut(struct log_lab *lab, offset_t offset)
{
    while (lab->batch_count > 0 && lab->batches[lab->batch_count - 1].last >= offset)
        free(lab->batches[--lab->batch_count].bytes);
}

void lab_model_drop(struct log_lab *lab, offset_t start)
{
    size_t drop = 0;
    while (drop < lab->batch_count && lab->batches[drop].last < start)
        free(lab->batches[drop++].bytes);
    lab->batch_count -= drop;
    memmove(lab->batches, lab->batches + drop, lab->batch_count * sizeof(lab->batches[0]));
}

/* ---- completions ---- */

void lab_pump_one(struct log_lab *lab)
{
    if (lab->timer != NULL) {
        struct env_timer *timer = lab->timer;
        lab->timer = NULL;
        timer->due_ns = 0;
        timer->fire(timer, 1);
    }
    if (lab->scheduled_count == 0)
        return;
    struct lab_done first = lab->scheduled[0];
    lab->scheduled_count--;
    memmove(lab->scheduled, lab->scheduled + 1, lab->scheduled_count * sizeof(first));
    faults_quiet(); /* the disk's own work is in it */
    first.op->done(first.op, first.err);
    faults_loud();
}

void lab_pump(struct log_lab *lab)
{
    while (lab->scheduled_count > 0 || lab->timer != NULL)
        lab_pump_one(lab);
}

void lab_flush(struct log_lab *lab)
{
    log_flush(lab->log);
    lab_pump(lab);
    ck_assert_int_eq(log_flushed_end(lab->log), log_end(lab->log));
}

/* ---- checks ---- */

struct lab_walk {
    const struct log_lab *lab;
    size_t next;
};

static err_t lab_compare(void *context, const struct batch_info *info, const uint8_t *bytes)
{
    struct lab_walk *walk = context;
    const struct log_lab *lab = walk->lab;
    ck_assert_uint_lt(walk->next, lab->batch_count); /* else invented */
    const struct lab_batch *batch = &lab->batches[walk->next++];
    ck_assert_int_eq(info->base_offset, batch->base);
    ck_assert_int_eq(info->last_offset, batch->last);
    ck_assert_uint_eq(info->bytes, batch->len);
    ck_assert_mem_eq(bytes, batch->bytes, batch->len);
    return ERR_OK;
}

struct frame *lab_read(struct log_lab *lab, offset_t offset, offset_t limit, size_t bytes_max)
{
    struct frame *frame = NULL;
    ck_assert_int_eq(
        log_read(lab->log,
                 &(struct log_read_args){.offset = offset, .limit = limit, .bytes_max = bytes_max},
                 &frame),
        ERR_OK);
    return frame;
}

static void lab_check_reads(struct log_lab *lab, size_t at)
{
    const struct lab_batch *batch = &lab->batches[at];
    offset_t inside = batch->base + (batch->last - batch->base) / 2, offset;
    int64_t timestamp;
    struct frame *frame = lab_read(lab, inside, log_end(lab->log), 1);
    ck_assert_ptr_nonnull(frame);
    ck_assert_uint_eq(frame->used, batch->len);
    ck_assert_mem_eq(frame->bytes, batch->bytes, batch->len);
    frame_unref(frame);
    int64_t asked = batch->timestamp + (inside - batch->base);
    ck_assert_int_eq(log_find_time(lab->log, asked, log_end(lab->log), &offset, &timestamp),
                     ERR_OK);
    ck_assert_int_eq(offset, inside);
    ck_assert_int_eq(timestamp, asked);
}

static void lab_check_epochs(struct log_lab *lab)
{
    for (size_t i = 0; i < lab->batch_count; i++) {
        leader_epoch_t epoch, asked = lab->batches[i].epoch;
        offset_t end, expected = log_end(lab->log);
        for (size_t j = lab->batch_count; j > i && lab->batches[j - 1].epoch > asked; j--)
            expected = lab->batches[j - 1].base;
        log_epoch_end(lab->log, asked, &epoch, &end);
        ck_assert_int_eq(epoch, asked);
        ck_assert_int_eq(end, expected);
    }
}

void lab_check(struct log_lab *lab)
{
    struct lab_walk walk = {.lab = lab};
    uint64_t bytes = 0;
    lab_model_drop(lab, log_start(lab->log));
    ck_assert_int_eq(log_walk(lab->log, log_start(lab->log), lab_compare, &walk), ERR_OK);
    ck_assert_uint_eq(walk.next, lab->batch_count);
    for (size_t i = 0; i < lab->batch_count; i++)
        bytes += lab->batches[i].len;
    ck_assert_uint_eq(log_bytes(lab->log), bytes);
    if (lab->batch_count > 0)
        ck_assert_int_eq(log_end(lab->log), lab->batches[lab->batch_count - 1].last + 1);
    for (size_t i = 0; i < lab->batch_count; i++)
        lab_check_reads(lab, i);
    lab_check_epochs(lab);
}
