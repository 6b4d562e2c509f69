#include <stdlib.h>

#include "log/log_internal.h"

/* ---- truncation ---- */

/* Where a cut at offset falls: a batch's first byte. */
static err_t cut_find(struct log *log, offset_t offset, size_t *ret_idx,
                      struct log_point *ret_point)
{
    size_t idx = log->segment_count - 1;
    struct log_point point = {log->end, log_active(log)->base, log_active(log)->bytes};
    if (offset < log->end) {
        struct batch_info info;
        idx = segment_find(log, offset);
        err_t err = segment_locate(log, idx, offset, &point.position, &info);
        point.offset = info.base_offset;
        point.base = log->segments[idx].base;
        if (err == ERR_NOT_FOUND && idx + 1 < log->segment_count) {
            idx++; /* in the gap after the segment's last batch (compacted) */
            point = (struct log_point){log->segments[idx].base, log->segments[idx].base, 0};
        } else if (err != ERR_OK) {
            return err;
        }
    } else if (log->cutting) {
        point = log->cut; /* the end is there already, the files are not */
        idx = segment_find(log, point.base);
    }
    *ret_idx = idx;
    *ret_point = point;
    return ERR_OK;
}

static err_t cut_later_segments(struct log *log, size_t idx)
{
    bool any = idx + 1 < log->segment_count;
    while (idx + 1 <
           log->segment_count) { /* newest first: what is left after a crash is whole (R24) */
        err_t err = segment_unlink(log, log_active(log)->base);
        if (err != ERR_OK)
            return err;
        log->bytes -= log_active(log)->bytes;
        log->segment_count--;
    }
    if (!any)
        return ERR_OK;
    log->index.count = 0; /* rows of a deleted segment */
    list_for_each (node, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        if (file->base == log_active(log)->base && !file->unwanted) {
            /* A round in flight has synced what it was, not what it becomes. */
            file->sealed = file->sealed_in_round = false;
            log->active = file;
        }
    }
    if (CANARY("log_truncate_without_sync")) /* R13 */
        return ERR_OK;
    return log->disk->sync_names(log->disk->self, log->directory);
}

static err_t cut_index(struct log *log, offset_t cut)
{
    struct index_row last;
    uint32_t rows;
    index_flush(log);
    err_t err = index_trim(log, log->segment_count - 1, cut, &last, &rows);
    if (err == ERR_OK)
        index_continue(log, &last, rows);
    return err;
}

/* The checkpoint goes down before any byte changes, so that a half-done cut is a torn tail above
 * the recovery point and never a hole below it. */
static err_t cut_files(struct log *log, size_t idx, const struct log_point *point)
{
    err_t err = segment_sweep(log);
    if (err == ERR_OK && log->saved.recovery.offset > point->offset)
        err = log_save_checkpoint(log, true, false);
    if (err == ERR_OK)
        err = cut_later_segments(log, idx);
    if (err == ERR_OK)
        err = segment_open_active(log);
    if (err != ERR_OK)
        return err;
    struct segment *active = log_active(log);
    log->bytes -= active->bytes - point->position;
    active->bytes = point->position;
    active->max_timestamp = point->position == 0 ? -1 : TIMESTAMP_UNKNOWN;
    err = cut_index(log, point->offset);
    if (err == ERR_OK)
        err = segment_max_timestamp(log, idx, &active->max_timestamp);
    if (err == ERR_OK && !CANARY("log_truncate_without_zeros")) /* R13 */
        err = segment_zero_tail(log);
    return err;
}

err_t log_truncate(struct log *log, offset_t offset)
{
    struct log_point point;
    size_t idx;
    if (log->failure != ERR_OK && !log->mendable)
        return log->failure;
    if (offset < log->start || offset > log->end)
        return ERR_OFFSET_OUT_OF_RANGE;
    err_t err = cut_find(log, offset, &idx, &point);
    if (err != ERR_OK)
        return err;
    epochs_cut(&log->epochs, point.offset); /* also the empty one of a leader that wrote nothing */
    if (point.offset == log->end && log->failure == ERR_OK)
        return ERR_OK;
    log->generation++; /* R6 */
    log->end = point.offset;
    log->cut = point;
    log->cutting = true;
    if (log->high_watermark > log->end)
        log->high_watermark = log->end;
    if (log->flushed.offset > point.offset)
        log->flushed = point;
    log_forget_hints(log);
    err = cut_files(log, idx, &point);
    if (err == ERR_OK && CANARY("log_truncate_without_sync")) /* R13 */
        log->flushed = point;
    else if (err == ERR_OK)
        err = log_sync_all(log);
    if (err != ERR_OK) {
        log_fail(log, err, true);
        return log->failure;
    }
    log->cutting = false;
    log->failure = ERR_OK;
    log->mendable = false;
    return ERR_OK;
}

/* ---- reset ---- */

err_t log_reset_files(struct log *log, const offset_t *bases, size_t count)
{
    char name[LOG_NAME_SIZE];
    struct env_disk *disk = log->disk;
    for (size_t i = count; i > 0; i--) {
        err_t err = segment_unlink(log, bases[i - 1]);
        if (err != ERR_OK)
            return err;
    }
    log_file_name(name, log->directory, "leader-epoch-checkpoint");
    err_t err = disk->unlink(disk->self, name);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    log->epochs.count = 0;
    log->epochs.unsaved_from = INT64_MAX;
    log->segment_count = 0;
    log->bytes = 0;
    err = segment_create(log, log->start);
    if (err != ERR_OK)
        return err;
    /* Durable before the first append: done again later, it would delete what was appended. */
    return log_save_checkpoint(log, true, false);
}

err_t log_reset(struct log *log, offset_t offset)
{
    if (log->failure != ERR_OK && !log->mendable)
        return log->failure;
    if (offset < 0)
        return ERR_INVALID;
    log->generation++; /* R6 */
    log->start = log->end = log->high_watermark = offset;
    log->flushed = (struct log_point){.offset = offset, .base = offset};
    log_forget_hints(log);
    struct checkpoint what = {
        .recovery = log->flushed,
        .high_watermark = offset,
        .log_start = offset,
        .resetting = true,
    };
    offset_t *bases = calloc(log->segment_count, sizeof(bases[0]));
    err_t err = bases == NULL ? ERR_NO_MEMORY : log_settle(log);
    if (err == ERR_OK)
        err = segment_sweep(log);
    if (err == ERR_OK)
        err = checkpoint_save(log, &what, true);
    if (err == ERR_OK) {
        for (size_t i = 0; i < log->segment_count; i++)
            bases[i] = log->segments[i].base;
        err = log_reset_files(log, bases, log->segment_count);
    }
    free(bases);
    if (err != ERR_OK) {
        log_fail(log, err, false); /* the next start finishes it */
        return log->failure;
    }
    log->cutting = false;
    log->failure = ERR_OK;
    log->mendable = false;
    return ERR_OK;
}

/* ---- prefix ---- */

err_t log_drop_prefix(struct log *log, offset_t offset)
{
    size_t drop = 0;
    if (log->failure != ERR_OK)
        return log->failure;
    if (offset > log->flushed.offset)
        return ERR_INVALID;
    while (drop + 1 < log->segment_count && log->segments[drop + 1].base <= offset)
        drop++;
    if (drop == 0)
        return ERR_OK;
    log->start = log->segments[drop].base;
    if (log->flushed.base < log->start)
        log->flushed = (struct log_point){log->start, log->start, 0};
    log_forget_hints(log);
    /* Durable first: else a missing first segment would look like a lost one. Epochs go after it,
     * since what the checkpoint calls the log needs its rows. */
    err_t err = log_save_checkpoint(log, true, false);
    if (err == ERR_OK)
        epochs_drop_prefix(&log->epochs, log->start);
    for (size_t i = 0; i < drop && err == ERR_OK; i++) { /* oldest first */
        log->bytes -= log->segments[i].bytes;
        err = segment_unlink(log, log->segments[i].base);
    }
    log->segment_count -= drop;
    memmove(log->segments, log->segments + drop, log->segment_count * sizeof(log->segments[0]));
    return err;
}
