#include <stdlib.h>

#include "log/log_internal.h"

offset_t log_start(const struct log *log)
{
    return log->start;
}

offset_t log_end(const struct log *log)
{
    return log->end;
}

offset_t log_flushed_end(const struct log *log)
{
    return log->flushed.offset;
}

uint64_t log_generation(const struct log *log)
{
    return log->generation;
}

uint64_t log_bytes(const struct log *log)
{
    return log->bytes;
}

err_t log_failure(const struct log *log)
{
    return log->failure;
}

void log_fail(struct log *log, err_t err, bool mendable)
{
    if (log->failure != ERR_OK && !log->mendable)
        return; /* for good */
    log->failure = err == ERR_NOT_ENOUGH_SPACE ? err : ERR_KAFKA_STORAGE_ERROR;
    log->mendable = mendable;
}

static bool log_dead(const struct log *log)
{
    return log->failure != ERR_OK && !log->mendable;
}

void log_forget_hints(struct log *log)
{
    for (unsigned i = 0; i < LOG_HINTS; i++)
        log->hints[i].offset = -1;
}

/* ---- append ---- */

struct append_plan {
    uint64_t bytes;
    size_t epochs;
    offset_t last_offset;
};

/* Reads the headers only: the records were checked before. */
static err_t append_plan(const struct log *log, const struct iovec *parts, int count,
                         struct append_plan *ret)
{
    struct append_plan plan = {0};
    offset_t expected = log->end;
    leader_epoch_t epoch = epochs_last(&log->epochs);
    for (int i = 0; i < count; i++) {
        const uint8_t *at = parts[i].iov_base;
        size_t left = parts[i].iov_len;
        while (left > 0) {
            struct batch_info info;
            if (batch_peek(at, left, &info) != ERR_OK)
                return ERR_INVALID;
            bool fits = log->options.compacted ? info.base_offset >= expected
                                               : info.base_offset == expected;
            if (!fits || info.leader_epoch < epoch)
                return ERR_INVALID;
            plan.epochs += info.leader_epoch > epoch;
            epoch = info.leader_epoch;
            expected = info.last_offset + 1;
            plan.bytes += info.bytes;
            at += info.bytes;
            left -= info.bytes;
        }
    }
    plan.last_offset = expected - 1;
    if (plan.bytes == 0 || plan.bytes > INT32_MAX || plan.last_offset - log->end > INT32_MAX)
        return ERR_INVALID;
    *ret = plan;
    return ERR_OK;
}

void log_note_batch(struct log *log, const struct batch_info *info)
{
    struct segment *active = log_active(log);
    index_note(log, info, active->bytes);
    epochs_note(&log->epochs, info->leader_epoch, info->base_offset);
    active->bytes += info->bytes;
    log->bytes += info->bytes;
    if (info->max_timestamp > active->max_timestamp)
        active->max_timestamp = info->max_timestamp;
    log->end = info->last_offset + 1;
}

/* Rows of the index tell offsets by 32 bits, from the segment's base on. */
static bool append_offsets_fit(const struct log *log, const struct append_plan *plan)
{
    return plan->last_offset - log_active(log)->base < INT32_MAX;
}

static bool append_needs_roll(const struct log *log, const struct append_plan *plan)
{
    const struct segment *active = log_active(log);
    uint64_t bytes_max =
        log->options.segment_bytes < INT32_MAX ? log->options.segment_bytes : INT32_MAX;
    if (active->bytes == 0)
        return false;
    return active->bytes + plan->bytes > bytes_max || !append_offsets_fit(log, plan);
}

static err_t append_make_room(struct log *log, const struct append_plan *plan)
{
    err_t err = segment_sweep(log);
    if (err == ERR_OK)
        err = segment_open_active(log);
    if (err == ERR_OK)
        err = index_start_buffer(log);
    if (err == ERR_OK)
        err = epochs_reserve(&log->epochs, plan->epochs);
    if (err == ERR_OK && log->unsettled)
        err = log_settle(log);
    if (err != ERR_OK)
        return err;
    if (append_needs_roll(log, plan)) {
        err = segment_roll(log);
        bool fits = log_active(log)->bytes + plan->bytes <= log->active_file_bytes &&
                    log->active_file_bytes <= INT32_MAX && append_offsets_fit(log, plan);
        if (err == ERR_NOT_ENOUGH_SPACE && fits)
            err = ERR_OK; /* R16: a long segment is better than none */
        if (err != ERR_OK)
            return err;
    }
    return segment_grow(log, plan->bytes);
}

err_t log_append(struct log *log, const struct iovec *parts, int count)
{
    struct append_plan plan;
    if (log->failure != ERR_OK)
        return log->failure;
    err_t err = append_plan(log, parts, count, &plan);
    if (err != ERR_OK)
        return err;
    err = append_make_room(log, &plan);
    bool passing = err == ERR_FULL || err == ERR_NO_MEMORY || err == ERR_NOT_ENOUGH_SPACE;
    if (passing && log->failure == ERR_OK)
        return err; /* nothing was touched: the caller may try again */
    if (err == ERR_OK)
        err = log->disk->write(log->disk->self, log->active->file, log_active(log)->bytes, parts,
                               count);
    if (err != ERR_OK) {
        log_fail(log, err, true);
        return log->failure;
    }
    for (int i = 0; i < count; i++) {
        const uint8_t *at = parts[i].iov_base;
        const uint8_t *end = at + parts[i].iov_len;
        while (at < end) {
            struct batch_info info;
            err = batch_peek(at, (size_t)(end - at), &info);
            ASSERT(err == ERR_OK);
            log_note_batch(log, &info);
            at += info.bytes;
        }
    }
    segment_grow_ahead(log);
    return ERR_OK;
}

/* ---- flush rounds ---- */

static void round_ended(struct log *log);

static void file_synced(struct env_done *op, err_t err)
{
    struct log_file *file = container_of(op, struct log_file, op);
    struct log *log = file->log;
    file->in_flight = false;
    if (file->unwanted)
        segment_forget_file(log, file);
    if (err != ERR_OK && log->round.err == ERR_OK)
        log->round.err = err;
    if (--log->round.in_flight > 0)
        return;
    if (log->detached)
        log_free(log);
    else
        round_ended(log);
}

static void round_begin(struct log *log)
{
    struct env_disk *disk = log->disk;
    struct segment *active = log_active(log);
    log->round = (struct log_round){
        .generation = log->generation, /* R6: noted before the sync */
        .point = {.offset = log->end, .base = active->base, .position = active->bytes},
    };
    list_for_each (node, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        ASSERT(!file->in_flight);
        file->sealed_in_round = file->sealed;
        if (file->sealed && CANARY("log_roll_forgets_old_segment")) /* R15 */
            continue;
        file->op.done = file_synced;
        err_t err = disk->sync(disk->self, file->file, &file->op);
        if (err != ERR_OK) {
            log->round.err = err;
            break;
        }
        file->in_flight = true;
        log->round.in_flight++;
    }
    /* Nobody will tell of the failure: we do, but not within the caller's call. */
    if (log->round.in_flight == 0) {
        log->round.failing = true;
        log->env->timer_start(log->env->self, &log->failed_later, env_now(log->env));
    }
}

static void failed_later_fire(struct env_timer *timer, uint64_t now_ns)
{
    struct log *log = container_of(timer, struct log, failed_later);
    (void)now_ns;
    log->round.failing = false;
    round_ended(log);
}

void log_init_rounds(struct log *log)
{
    log->failed_later.fire = failed_later_fire;
}

static bool round_raise(struct log *log)
{
    const struct log_round *round = &log->round;
    struct log_point point = round->point;
    /* R6: a truncation since then has synced what it left, and flushed is at its cut: an older
     * round has nothing to add. */
    if (round->generation != log->generation) {
        if (!CANARY("log_stale_completion"))
            return false;
        point.offset = point.offset < log->end ? point.offset : log->end;
    }
    if (CANARY("log_flush_reports_end_not_synced"))
        point = (struct log_point){log->end, log_active(log)->base, log_active(log)->bytes};
    if (point.offset <= log->flushed.offset)
        return false;
    log->flushed = point;
    return true;
}

static void round_ended(struct log *log)
{
    bool again = log->round.again;
    log->round.again = false;
    if (log->round.err != ERR_OK) {
        /* R14: the kernel calls the pages clean now. Never tried again. */
        bool told = log_dead(log);
        log_fail(log, ERR_KAFKA_STORAGE_ERROR, false);
        if (!told && log->upcalls.flushed != NULL)
            log->upcalls.flushed(log->upcalls.owner, log->flushed.offset, log->failure);
        return;
    }
    list_for_each_safe (node, after, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        if (file->sealed && file->sealed_in_round)
            segment_forget_file(log, file);
    }
    bool raised = round_raise(log);
    if (again)
        log_flush(log);
    if (raised && log->upcalls.flushed != NULL) /* last: the owner may close the log in it */
        log->upcalls.flushed(log->upcalls.owner, log->flushed.offset, ERR_OK);
}

void log_flush(struct log *log)
{
    if (log_dead(log) || log->end == log->flushed.offset)
        return;
    if (log->round.in_flight > 0 || log->round.failing)
        log->round.again = true;
    else
        round_begin(log);
}

err_t log_sync_all(struct log *log)
{
    struct env_disk *disk = log->disk;
    list_for_each_safe (node, after, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        if (file->unwanted)
            continue;
        err_t err = disk->sync_now(disk->self, file->file);
        if (err != ERR_OK) {
            log_fail(log, err, false);
            return log->failure;
        }
        if (file->sealed)
            segment_forget_file(log, file);
    }
    const struct segment *active = log_active(log);
    log->flushed = (struct log_point){log->end, active->base, active->bytes};
    return ERR_OK;
}

/* ---- creation made durable ---- */

err_t log_settle_files(struct log *log)
{
    char name[LOG_NAME_SIZE];
    struct env_disk *disk = log->disk;
    log_file_name(name, log->directory, "checkpoint");
    err_t err = small_file_sync(disk, name);
    log_file_name(name, log->directory, "partition.metadata"); /* R21 */
    if (err == ERR_OK)
        err = small_file_sync(disk, name);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, log->directory);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, "");
    return err;
}

void log_settled(struct log *log)
{
    if (!log->unsettled)
        return;
    log->unsettled = false;
    log->saved.durable_slot = log->saved.slot;
}

err_t log_settle(struct log *log)
{
    if (!log->unsettled)
        return ERR_OK;
    err_t err = log_settle_files(log);
    if (err == ERR_OK)
        log_settled(log);
    else
        log_fail(log, err, false);
    return err;
}
