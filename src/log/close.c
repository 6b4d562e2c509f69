#include <stdlib.h>

#include "log/log_internal.h"

void log_free(struct log *log)
{
    while (!list_empty(&log->files))
        segment_forget_file(log, list_entry(log->files.next, struct log_file, link));
    free(log->segments);
    free(log->epochs.rows);
    free(log->index.rows);
    free(log->directory);
    free(log);
}

static err_t log_close_clean(struct log *log)
{
    if (log->failure != ERR_OK)
        return log->failure;
    err_t err = log_settle(log);
    bool unsynced = log->end != log->flushed.offset;
    list_for_each (node, &log->files)
        unsynced = unsynced || list_entry(node, struct log_file, link)->sealed;
    if (err == ERR_OK && unsynced)
        err = log_sync_all(log);
    if (err == ERR_OK && log->active != NULL) {
        index_close_row(log);
        index_flush(log);
    }
    return err == ERR_OK ? log_save_checkpoint(log, true, true) : err;
}

err_t log_close(struct log *log, bool sync)
{
    if (log == NULL)
        return ERR_OK;
    err_t err = sync ? log_close_clean(log) : ERR_OK;
    if (log->round.failing)
        log->env->timer_stop(log->env->self, &log->failed_later);
    log->upcalls.flushed = NULL;
    if (log->round.in_flight == 0) {
        log_free(log);
        return err;
    }
    log->detached = true; /* the last completion frees it */
    list_for_each_safe (node, after, &log->files) {
        segment_forget_file(log, list_entry(node, struct log_file, link));
    }
    return err;
}

/* ---- many at once ---- */

bool log_close_syncs(const struct log *log)
{
    bool sealed = false;
    list_for_each (node, &log->files) {
        const struct log_file *file = list_entry(node, struct log_file, link);
        sealed = sealed || (file->sealed && !file->unwanted);
    }
    return log->failure == ERR_OK && (sealed || log->unsettled || log->end != log->flushed.offset ||
                                      epochs_unsaved(&log->epochs, log->end) ||
                                      log->saved.recovery.offset != log->end || !log->saved.closed);
}

static void log_note_synced(struct log *log)
{
    const struct segment *active = log_active(log);
    list_for_each_safe (node, after, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        if (file->sealed && !file->unwanted)
            segment_forget_file(log, file);
    }
    log->unsettled = false;
    log->saved.durable_slot = log->saved.slot;
    log->flushed = (struct log_point){log->end, active->base, active->bytes};
}

err_t log_stop(struct log *log, enum log_stop_step step)
{
    if (log->failure != ERR_OK)
        return log->failure;
    switch (step) {
    case LOG_STOP_WRITE:
        if (log->active != NULL) {
            index_close_row(log);
            index_flush(log);
        }
        return epochs_unsaved(&log->epochs, log->end)
                   ? epochs_write_aside(&log->epochs, log->disk, log->directory)
                   : ERR_OK;
    case LOG_STOP_NAME:
        log_note_synced(log);
        return epochs_unsaved(&log->epochs, log->end)
                   ? epochs_put_in_place(log->disk, log->directory)
                   : ERR_OK;
    case LOG_STOP_MARK:
        log->epochs.unsaved_from = INT64_MAX;
        return log_save_checkpoint(log, false, true);
    case LOG_STOP_STEPS:
        break;
    }
    ASSERT(!"a step of log_stop");
    return ERR_INVALID;
}
