/* Random histories of one log, cut at every operation of its disk, or with one call or allocation
 * that fails. What was flushed must be there byte for byte; nothing may be there that was not
 * appended, or that was cut (R13). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/rng.h"
#include "unit/log/log_lab.h"

enum fault {
    FAULT_POWER_CUT,
    FAULT_SYNC_FAILS,
    FAULT_WRITE_FAILS,
    FAULT_CALL_FAILS, /* any one of the disk: it answers ERR_IO and has done nothing */
    FAULT_NO_MEMORY
};

struct history {
    struct log_lab lab;
    struct rng rng;
    enum fault fault;
    uint64_t at;      /* the fault's place: an operation, a sync, a write; 0: none */
    offset_t promise; /* flushed end that was told */
    /* What the operation under way may leave behind, beside what was before it. */
    offset_t reset_to;      /* -1: none */
    offset_t start_highest; /* of a prefix drop */
    bool crashed;
};

static struct history h; /* large; each test has a process of its own */

static uint64_t drawn(uint64_t bound)
{
    return rng_below(&h.rng, bound);
}

/* A life's end disarms the disk. */
static void history_arm(bool first)
{
    uint64_t syncs = sim_disk_counters(h.lab.disk)->syncs;
    if (h.fault == FAULT_POWER_CUT)
        sim_disk_freeze_at(h.lab.disk, h.at);
    else if (h.fault == FAULT_SYNC_FAILS && h.at > syncs)
        sim_disk_fail_sync(h.lab.disk, h.at - syncs);
    else if (h.fault == FAULT_WRITE_FAILS && first)
        sim_disk_fail_write(h.lab.disk, h.at, h.at % 2 == 0 ? ERR_IO : ERR_NOT_ENOUGH_SPACE);
    else if (h.fault == FAULT_CALL_FAILS && first)
        faults_arm(FAULTS_DISK, h.at, ERR_IO);
    else if (h.fault == FAULT_NO_MEMORY && first)
        faults_arm(FAULTS_MEMORY, h.at, ERR_NO_MEMORY);
}

static bool fails_once(void)
{
    return h.fault == FAULT_CALL_FAILS || h.fault == FAULT_NO_MEMORY;
}

static void history_open(bool clean)
{
    err_t err = lab_try_open(&h.lab, clean);
    for (int again = 0; err != ERR_OK && !sim_disk_frozen(h.lab.disk) && again < 2; again++)
        err = lab_try_open(&h.lab, clean); /* the one write or sync that was to fail is over */
    if (err != ERR_OK) {
        ck_assert_msg(sim_disk_frozen(h.lab.disk) || sim_disk_offline(h.lab.disk), "open: %s",
                      err_name(err));
        h.lab.log = NULL;
        h.crashed = true;
    }
}

/* A history ends with a fault that its log can't outlive. */
static void history_after(err_t err)
{
    struct log *log = h.lab.log;
    if (sim_disk_frozen(h.lab.disk))
        h.crashed = true;
    if (err == ERR_OK || h.crashed || log == NULL || log_failure(log) == ERR_OK)
        return;
    h.crashed = log_truncate(log, log_end(log)) != ERR_OK; /* R19: refused, then cut back */
    if (!h.crashed)
        lab_model_cut(&h.lab, log_end(log));
}

static void op_append(void)
{
    h.lab.epoch += drawn(8) == 0;
    err_t err = lab_try_append(&h.lab, 1 + (int)drawn(4), 1 + (size_t)drawn(500));
    if (err == ERR_NO_MEMORY || err == ERR_FULL)
        lab_model_cut(&h.lab, log_end(h.lab.log)); /* nothing was touched */
    history_after(err);
}

static void op_flush(void)
{
    log_flush(h.lab.log);
    for (uint64_t i = drawn(4); i > 0; i--)
        lab_pump_one(&h.lab);
    history_after(log_failure(h.lab.log));
}

static void op_truncate(void)
{
    struct log *log = h.lab.log;
    offset_t span = log_end(log) - log_start(log);
    offset_t to = log_end(log) - (offset_t)drawn((uint64_t)(drawn(3) == 0 ? span : span / 8) + 1);
    size_t at = h.lab.batch_count;
    while (at > 0 && h.lab.batches[at - 1].last >= to)
        at--;
    offset_t cut = at < h.lab.batch_count ? h.lab.batches[at].base : log_end(log);
    if (h.promise > cut)
        h.promise = cut;
    err_t err = log_truncate(log, to);
    if (err == ERR_OK) {
        ck_assert_int_eq(log_end(log), cut);
        lab_model_cut(&h.lab, cut);
    }
    history_after(err);
}

static void op_reset(void)
{
    if (drawn(3) != 0)
        return;
    h.reset_to = (offset_t)drawn(2000);
    if (log_reset(h.lab.log, h.reset_to) == ERR_OK) {
        lab_model_cut(&h.lab, 0);
        h.promise = h.start_highest = h.reset_to;
        h.reset_to = -1;
        history_after(ERR_OK);
    } else {
        h.crashed = true;
    }
}

static void op_drop_prefix(void)
{
    struct log *log = h.lab.log;
    offset_t flushed = log_flushed_end(log), start = log_start(log);
    offset_t to = start + (offset_t)drawn((uint64_t)(flushed - start) + 1);
    h.start_highest = to > h.start_highest ? to : h.start_highest;
    err_t err = log_drop_prefix(log, to);
    if (err == ERR_OK)
        lab_model_drop(&h.lab, log_start(log));
    else
        h.crashed = true;
}

static void op_checkpoint(void)
{
    log_set_high_watermark(h.lab.log, log_flushed_end(h.lab.log));
    history_after(log_checkpoint(h.lab.log));
}

static void op_begin_epoch(void)
{
    h.lab.epoch++;
    history_after(log_begin_epoch(h.lab.log, h.lab.epoch));
}

/* The one who asked learns of the failure, or gets what there is. */
static void op_read(void)
{
    struct log *log = h.lab.log;
    offset_t start = log_start(log), end = log_end(log);
    offset_t from = start + (offset_t)drawn((uint64_t)(end - start) + 1);
    struct log_read_args args = {.offset = from, .limit = end, .bytes_max = drawn(3000)};
    struct frame *frame = NULL;
    size_t at = 0;
    err_t err = log_read(log, &args, &frame);
    ck_assert(err == ERR_OK || faults_met());
    while (at < h.lab.batch_count && h.lab.batches[at].last < from)
        at++;
    if (frame != NULL) {
        ck_assert_uint_lt(at, h.lab.batch_count);
        ck_assert_mem_eq(frame->bytes, h.lab.batches[at].bytes, h.lab.batches[at].len);
        frame_unref(frame);
    }
}

static void op_find_time(void)
{
    if (h.lab.batch_count == 0 || h.lab.batches[0].base < log_start(h.lab.log))
        return;
    const struct lab_batch *batch = &h.lab.batches[drawn(h.lab.batch_count)];
    offset_t offset;
    int64_t timestamp;
    err_t err = log_find_time(h.lab.log, batch->timestamp, log_end(h.lab.log), &offset, &timestamp);
    if (err != ERR_OK)
        ck_assert(faults_met());
    else
        ck_assert_int_eq(offset, batch->base);
}

static err_t count_batch(void *context, const struct batch_info *info, const uint8_t *batch)
{
    size_t *count = context;
    (void)info;
    (void)batch;
    ++*count;
    return ERR_OK;
}

static void op_walk(void)
{
    struct log *log = h.lab.log;
    size_t count = 0, expected = 0;
    err_t err = log_walk(log, log_start(log), count_batch, &count);
    for (size_t i = 0; i < h.lab.batch_count; i++)
        expected += h.lab.batches[i].base >= log_start(log);
    if (err != ERR_OK)
        ck_assert(faults_met());
    else
        ck_assert_uint_eq(count, expected);
}

static bool stop_with_others(void)
{
    struct env_disk *disk = &h.lab.faulty.env;
    err_t err = ERR_OK;
    for (unsigned step = 0; step < LOG_STOP_STEPS && err == ERR_OK; step++) {
        err = log_stop(h.lab.log, (enum log_stop_step)step);
        if (err == ERR_OK)
            err = disk->sync_all(disk->self);
    }
    (void)log_close(h.lab.log, false);
    return err == ERR_OK;
}

static void op_restart(void)
{
    bool clean = false;
    if (drawn(2) == 0) {
        clean = drawn(2) == 0 ? log_close(h.lab.log, true) == ERR_OK : stop_with_others();
        h.lab.log = NULL;
        if (clean && h.lab.batch_count > 0)
            h.promise = h.lab.batches[h.lab.batch_count - 1].last + 1;
        if (clean)
            lab_pump(&h.lab);
    }
    if (sim_disk_frozen(h.lab.disk)) {
        h.crashed = true;
        return;
    }
    lab_kill(&h.lab);
    history_arm(false);
    history_open(clean);
    if (h.lab.log == NULL)
        return;
    ck_assert_int_ge(log_end(h.lab.log), h.promise);
    lab_model_cut(&h.lab, log_end(h.lab.log)); /* what a failed sync lost */
}

static void history_step(void)
{
    uint64_t what = drawn(fails_once() ? 115 : 100);
    if (what >= 110)
        what % 2 == 0 ? op_walk() : op_find_time();
    else if (what >= 100)
        op_read();
    else if (what < 50)
        op_append();
    else if (what < 75)
        op_flush();
    else if (what < 83)
        op_truncate();
    else if (what < 85)
        op_reset();
    else if (what < 89)
        op_drop_prefix();
    else if (what < 94)
        op_checkpoint();
    else if (what < 96)
        op_begin_epoch();
    else
        op_restart();
    if (h.lab.log == NULL || h.crashed)
        return;
    h.promise = log_flushed_end(h.lab.log);
    h.start_highest = log_start(h.lab.log);
}

/* What is left is one of the states that the history allows. */
static void history_check(void)
{
    struct log *log = h.lab.log;
    offset_t end = log_end(log);
    ck_assert_int_eq(log_flushed_end(log), end);
    if (h.reset_to >= 0 && log_start(log) == h.reset_to && end == h.reset_to) {
        lab_model_cut(&h.lab, 0);
        ck_assert_uint_eq(log_bytes(log), 0);
    } else {
        ck_assert_int_ge(end, h.promise);
        ck_assert_int_le(log_start(log), h.start_highest);
        lab_model_cut(&h.lab, end);
    }
    h.reset_to = -1;
    lab_check(&h.lab);
}

/* The node goes down; perhaps again while it recovers; then it must be well, and stay so. */
static void history_recover(void)
{
    struct sim_disk *disk = h.lab.disk;
    bool power_cut = drawn(3) != 0;
    bool freeze = drawn(2) == 0;
    (void)faults_disarm();
    power_cut ? lab_power_cut(&h.lab) : lab_kill(&h.lab);
    if (freeze)
        sim_disk_freeze_at(disk, sim_disk_counters(disk)->operations + 1 + drawn(20));
    err_t err = lab_try_open(&h.lab, false);
    ck_assert_msg(err == ERR_OK || sim_disk_frozen(disk), "recovery: %s", err_name(err));
    if (sim_disk_frozen(disk)) {
        h.lab.log = err == ERR_OK ? h.lab.log : NULL;
        lab_power_cut(&h.lab);
        lab_open(&h.lab, false);
    }
    sim_disk_freeze_at(disk, 0);
    history_check();
    h.lab.epoch = log_last_epoch(h.lab.log) < 0 ? 0 : log_last_epoch(h.lab.log);
    for (int i = 0; i < 3; i++)
        lab_append(&h.lab, 2, 300);
    lab_flush(&h.lab);
    lab_check(&h.lab);
    lab_power_cut(&h.lab);
    lab_open(&h.lab, false);
    lab_check(&h.lab);
    ck_assert_int_eq(log_close(h.lab.log, true), ERR_OK);
    h.lab.log = NULL;
    lab_power_cut(&h.lab);
    lab_open(&h.lab, true);
    ck_assert(h.lab.recovery.clean);
    lab_check(&h.lab);
}

/* False: the fault's place lies behind the end of the history. */
static bool history_run(uint64_t seed, enum fault fault, uint64_t at)
{
    if (getenv("KARST_TRACE") != NULL)
        fprintf(stderr, "history of seed %" PRIu64 ", fault %d at %" PRIu64 "\n", seed, (int)fault,
                at);
    memset(&h, 0, sizeof(h));
    rng_seed(&h.rng, seed);
    lab_init(&h.lab, seed + at);
    h.reset_to = -1;
    h.lab.options.written_zeros = drawn(4) == 0;
    h.lab.options.segment_bytes = 2048 + drawn(8192);
    h.lab.options.index_interval_bytes = 100 + (uint32_t)drawn(1000);
    h.fault = fault;
    h.at = at;
    history_arm(true);
    history_open(false);
    for (int step = 0; step < 60 && !h.crashed; step++)
        history_step();
    bool met = fails_once()                 ? faults_met()
               : fault == FAULT_WRITE_FAILS ? at < 150
               : fault == FAULT_SYNC_FAILS  ? sim_disk_counters(h.lab.disk)->failed_syncs > 0
                                            : h.crashed;
    history_recover();
    lab_fini(&h.lab);
    return met;
}

static void histories(enum fault fault, unsigned seeds)
{
    uint64_t seed = check_main_seed(), total = 0;
    for (unsigned i = 0; i < seeds; i++) {
        uint64_t at = 1;
        while (history_run(seed + i, fault, at))
            at++;
        total += at;
    }
    /* Else the histories are short. A log allocates less often than it asks its disk. */
    ck_assert_uint_gt(total, (fault == FAULT_NO_MEMORY ? 5 : 20) * (uint64_t)seeds);
}

START_TEST(a_power_cut_at_any_operation_keeps_what_was_flushed_and_invents_nothing)
{
    histories(FAULT_POWER_CUT, 4);
}
END_TEST

START_TEST(a_failed_sync_at_any_place_keeps_what_was_flushed_and_invents_nothing)
{
    histories(FAULT_SYNC_FAILS, 4);
}
END_TEST

START_TEST(a_failed_write_at_any_place_keeps_what_was_flushed_and_invents_nothing)
{
    histories(FAULT_WRITE_FAILS, 4);
}
END_TEST

START_TEST(a_failed_call_of_the_disk_at_any_place_keeps_what_was_flushed_and_invents_nothing)
{
    histories(FAULT_CALL_FAILS, 1);
}
END_TEST

START_TEST(a_failed_allocation_at_any_place_keeps_what_was_flushed_and_invents_nothing)
{
    histories(FAULT_NO_MEMORY, 2);
}
END_TEST

CHECK_MAIN("log/crash", a_power_cut_at_any_operation_keeps_what_was_flushed_and_invents_nothing,
           a_failed_sync_at_any_place_keeps_what_was_flushed_and_invents_nothing,
           a_failed_write_at_any_place_keeps_what_was_flushed_and_invents_nothing,
           a_failed_call_of_the_disk_at_any_place_keeps_what_was_flushed_and_invents_nothing,
           a_failed_allocation_at_any_place_keeps_what_was_flushed_and_invents_nothing)
