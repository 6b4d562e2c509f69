/* A log directory with a wound: recovery, reads, cuts and appends over whatever its files say.
 * The input is a wound (wound.h); flags 1: its checks are made right again, 2: the marker says
 * clean. */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/crc32c.h"
#include "base/logger.h"
#include "fuzz/wound.h"
#include "log/log.h"
#include "log/log_dir.h"
#include "sim/sim_disk.h"

enum { BATCHES = 24, VALUE_BYTES = 90, FLAG_SEAL = 1, FLAG_CLEAN = 2 };

static const char *const wounded[] = {
    "orders-0/checkpoint",
    "orders-0/leader-epoch-checkpoint",
    "orders-0/partition.metadata",
    "orders-0/00000000000000000000.log",
    "orders-0/00000000000000000000.index",
    "manifest-0",
    "meta.properties",
    ".kafka_cleanshutdown",
};

struct world {
    struct sim_disk *disk;
    struct sim_disk_view view;
    struct env env;
    struct env_done *op;
};

static void world_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    struct world *w = context;
    (void)delay_ns;
    (void)err;
    w->op = op; /* completed by the end of the disk's life */
}

static uint64_t world_mono_ns(void *self)
{
    (void)self;
    return 1;
}

static void world_timer(void *self, struct env_timer *timer, uint64_t due_ns)
{
    (void)self;
    timer->due_ns = due_ns;
}

static void world_timer_stop(void *self, struct env_timer *timer)
{
    (void)self;
    timer->due_ns = 0;
}

static void world_init(struct world *w)
{
    *w = (struct world){0};
    w->disk = sim_disk_new(&(struct sim_disk_options){.seed = 1});
    sim_disk_view_init(&w->view, w->disk, world_schedule, w);
    w->env = (struct env){
        .clock = {.mono_ns = world_mono_ns},
        .timer_start = world_timer,
        .timer_stop = world_timer_stop,
    };
}

static err_t world_open(struct world *w, bool clean, struct log **ret_log)
{
    static const struct log_options options = {
        .segment_bytes = 2048, .index_interval_bytes = 200, .preallocate_bytes = 1024};
    struct log_recovery recovery;
    return log_open(
        &(struct log_open_args){
            .env = &w->env,
            .disk = &w->view.env,
            .directory = "orders-0",
            .topic = uuid_make(1, 1),
            .options = &options,
            .clean = clean,
        },
        ret_log, &recovery);
}

static err_t append_one(struct log *log, leader_epoch_t epoch)
{
    uint8_t bytes[512], value[VALUE_BYTES] = {1, 2, 3};
    struct batch_builder builder;
    batch_begin(&builder, bytes, sizeof(bytes));
    err_t err = batch_add(&builder, 1000 + log_end(log) % 100000, (struct bytes){0},
                          (struct bytes){value, sizeof(value)}, NULL, 0);
    ASSERT(err == ERR_OK);
    struct iovec part = {bytes, batch_finish(&builder, 0, -1, -1, -1)};
    batch_patch(bytes, log_end(log), epoch);
    return log_append(log, &part, 1);
}

/* A directory with two segments, three epochs, two replicas. */
static void world_fill(struct world *w)
{
    struct log_dir_meta meta = {.cluster_id = {{1}}, .directory_id = {{2}}, .node_id = 3};
    struct uuid incarnation = uuid_make(7, 7);
    struct manifest *manifest = NULL;
    struct log *log = NULL;
    err_t err = log_dir_format(&w->view.env, &meta);
    ASSERT(err == ERR_OK);
    err = world_open(w, false, &log);
    ASSERT(err == ERR_OK);
    for (int i = 0; i < BATCHES; i++) {
        err = append_one(log, i / 10);
        ASSERT(err == ERR_OK);
    }
    err = log_close(log, true);
    ASSERT(err == ERR_OK);
    err = manifest_open(&w->view.env, 0, &manifest);
    ASSERT(err == ERR_OK);
    for (int i = 0; i < 2; i++) {
        err = manifest_add(manifest, &(struct partition_id){uuid_make(1, 1), i});
        ASSERT(err == ERR_OK);
    }
    manifest_close(manifest);
    err = log_dir_mark_clean(&w->view.env, &incarnation);
    ASSERT(err == ERR_OK);
    sim_disk_kill(w->disk); /* completes the round that a roll began */
}

/* The CRC that ends the file or each row of it; only so does a wound get past the first check. */
static void seal(uint8_t *data, size_t len, const char *name)
{
    bool slots = name == wounded[0];
    size_t row = slots ? 4096 : name == wounded[5] ? 32 : len;
    for (size_t at = 0; at < len; at += row) {
        size_t bytes = slots ? 64 : row;
        if (bytes >= 12 && at + bytes <= len)
            put_u32(data + at + bytes - 4, crc32c(0, data + at, bytes - 4));
    }
}

static err_t see(void *context, const struct batch_info *info, const uint8_t *batch)
{
    offset_t *last = context;
    ASSERT(batch[16] == 2);
    ASSERT(info->base_offset > *last);
    *last = info->last_offset;
    return ERR_OK;
}

static void world_use(struct log *log)
{
    offset_t last = -1, offset;
    int64_t timestamp;
    ASSERT(log_start(log) <= log_end(log));
    ASSERT(log_flushed_end(log) == log_end(log));
    err_t walked = log_walk(log, log_start(log), see, &last);
    ASSERT(walked != ERR_OK || log_start(log) == log_end(log) || last + 1 == log_end(log));
    for (offset_t at = log_start(log); at < log_end(log) && at < log_start(log) + BATCHES; at++) {
        struct frame *frame = NULL;
        struct log_read_args args = {.offset = at, .limit = log_end(log), .bytes_max = 300};
        if (log_read(log, &args, &frame) == ERR_OK)
            frame_unref(frame);
    }
    (void)log_find_time(log, 1010, log_end(log), &offset, &timestamp);
    for (int i = 0; i < 3; i++)
        (void)append_one(log, log_last_epoch(log) < 0 ? 0 : log_last_epoch(log));
    if (log_truncate(log, log_start(log) + (log_end(log) - log_start(log)) / 2) == ERR_OK)
        (void)append_one(log, log_last_epoch(log) < 0 ? 0 : log_last_epoch(log));
    (void)log_checkpoint(log);
}

static void world_capture(struct wound_directory *into)
{
    struct world w;
    world_init(&w);
    world_fill(&w);
    wound_capture(&w.view.env, into);
    sim_disk_free(w.disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wound_directory sound;
    struct world w;
    struct log_dir_state state;
    struct log *log = NULL;
    if (size < 4)
        return 0;
    logger_set(LOGGER_OFF, NULL, NULL, false);
    if (sound.count == 0)
        world_capture(&sound);
    world_init(&w);
    wound_restore(&w.view.env, &sound);
    wound_apply(&w.view.env,
                &(struct wound){
                    .name = wounded[data[0] % ARRAY_LEN(wounded)],
                    .place = get_u16(data + 2),
                    .dense = (data[1] & WOUND_DENSE) != 0,
                    .with = {data + 4, size - 4},
                },
                data[1] & FLAG_SEAL ? seal : NULL);
    if (log_dir_open(&w.view.env, &state) == ERR_OK)
        log_dir_state_fini(&state);
    if (world_open(&w, data[1] & FLAG_CLEAN, &log) == ERR_OK) {
        world_use(log);
        (void)log_close(log, false);
    }
    sim_disk_kill(w.disk);
    /* What was accepted once, and cut and appended to, is accepted again. */
    if (log != NULL) {
        err_t err = world_open(&w, false, &log);
        if (err == ERR_OK)
            (void)log_close(log, true);
    }
    sim_disk_free(w.disk);
    return 0;
}
