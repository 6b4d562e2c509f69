#include <stdlib.h>

#include "log/log_internal.h"

enum {
    EPOCHS_MAGIC = 0x4b45504f, /* KEPO */
    EPOCHS_VERSION = 1,
    EPOCHS_ROW_BYTES = 12,
    EPOCHS_ROWS_MAX = 1 << 20,
};
#define EPOCHS_FILE "leader-epoch-checkpoint"

err_t epochs_reserve(struct epochs *epochs, size_t more)
{
    size_t need = epochs->count + more;
    if (need <= epochs->capacity)
        return ERR_OK;
    size_t capacity = need < 4 ? 4 : need + need / 2;
    struct epoch_row *rows = realloc(epochs->rows, capacity * sizeof(rows[0]));
    if (rows == NULL)
        return ERR_NO_MEMORY;
    epochs->rows = rows;
    epochs->capacity = capacity;
    return ERR_OK;
}

static void epochs_changed(struct epochs *epochs, offset_t from)
{
    if (from < epochs->unsaved_from)
        epochs->unsaved_from = from;
}

void epochs_note(struct epochs *epochs, leader_epoch_t epoch, offset_t start)
{
    if (epoch <= epochs_last(epochs))
        return;
    /* An epoch that wrote nothing gives its place to the next: answers about it are the same, and
     * the rows are bounded by the batches. */
    if (epochs->count > 0 && epochs->rows[epochs->count - 1].start == start)
        epochs->count--;
    ASSERT(epochs->count < epochs->capacity);
    epochs->rows[epochs->count++] = (struct epoch_row){.start = start, .epoch = epoch};
    epochs_changed(epochs, start);
}

void epochs_cut(struct epochs *epochs, offset_t end)
{
    while (epochs->count > 0 && epochs->rows[epochs->count - 1].start >= end) {
        epochs->count--;
        epochs_changed(epochs, epochs->rows[epochs->count].start);
    }
}

void epochs_drop_prefix(struct epochs *epochs, offset_t start)
{
    size_t below = 0;
    while (below < epochs->count && epochs->rows[below].start <= start)
        below++;
    if (below == 0)
        return;
    size_t drop = below - 1; /* the epoch that holds start stays, from there on */
    if (drop == 0 && epochs->rows[0].start == start)
        return;
    epochs->count -= drop;
    memmove(epochs->rows, epochs->rows + drop, epochs->count * sizeof(epochs->rows[0]));
    epochs->rows[0].start = start;
    epochs_changed(epochs, 0);
}

err_t epochs_load(struct epochs *epochs, struct env_disk *disk, const char *directory)
{
    char name[LOG_NAME_SIZE];
    uint8_t *data;
    size_t len;
    struct reader body;
    log_file_name(name, directory, EPOCHS_FILE);
    err_t err = small_file_load(
        disk, name, (size_t)EPOCHS_ROWS_MAX * EPOCHS_ROW_BYTES + CHECKED_BYTES, &data, &len);
    if (err == ERR_NOT_FOUND)
        return ERR_OK; /* it is written with the first epoch */
    if (err != ERR_OK)
        return err;
    err = checked_open(data, len, EPOCHS_MAGIC, EPOCHS_VERSION, &body);
    if (err == ERR_OK && reader_left(&body) % EPOCHS_ROW_BYTES != 0)
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        err = epochs_reserve(epochs, reader_left(&body) / EPOCHS_ROW_BYTES);
    struct epoch_row last = {.start = -1, .epoch = -1};
    while (err == ERR_OK && reader_left(&body) > 0) {
        struct epoch_row row = {.epoch = (leader_epoch_t)reader_u32(&body)};
        row.start = (offset_t)reader_u64(&body);
        if (row.start <= last.start || row.epoch <= last.epoch)
            err = ERR_CORRUPT;
        else
            epochs->rows[epochs->count++] = last = row;
    }
    free(data);
    return err;
}

static err_t epochs_write(const struct epochs *epochs, struct env_disk *disk, const char *directory,
                          bool sync)
{
    char name[LOG_NAME_SIZE];
    size_t len = epochs->count * EPOCHS_ROW_BYTES + CHECKED_BYTES;
    uint8_t *data = malloc(len);
    if (data == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < epochs->count; i++) {
        uint8_t *row = data + CHECKED_HEAD_BYTES + i * EPOCHS_ROW_BYTES;
        put_u32(row, (uint32_t)epochs->rows[i].epoch);
        put_u64(row + 4, (uint64_t)epochs->rows[i].start);
    }
    checked_seal(data, len, EPOCHS_MAGIC, EPOCHS_VERSION);
    log_file_name(name, directory, EPOCHS_FILE);
    err_t err = small_file_write_aside(disk, name, data, len, sync);
    free(data);
    return err;
}

err_t epochs_write_aside(const struct epochs *epochs, struct env_disk *disk, const char *directory)
{
    return epochs_write(epochs, disk, directory, false);
}

err_t epochs_put_in_place(struct env_disk *disk, const char *directory)
{
    char name[LOG_NAME_SIZE];
    log_file_name(name, directory, EPOCHS_FILE);
    return small_file_put_in_place(disk, name);
}

err_t epochs_save(struct epochs *epochs, struct env_disk *disk, const char *directory)
{
    err_t err = epochs_write(epochs, disk, directory, true);
    if (err == ERR_OK)
        err = epochs_put_in_place(disk, directory);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, directory);
    if (err == ERR_OK)
        epochs->unsaved_from = INT64_MAX;
    return err;
}

/* ---- what log.h promises ---- */

leader_epoch_t log_last_epoch(const struct log *log)
{
    return epochs_last(&log->epochs);
}

err_t log_begin_epoch(struct log *log, leader_epoch_t epoch)
{
    if (epoch < epochs_last(&log->epochs))
        return ERR_INVALID;
    err_t err = epochs_reserve(&log->epochs, 1);
    if (err == ERR_OK)
        epochs_note(&log->epochs, epoch, log->end);
    return err;
}

void log_epoch_end(const struct log *log, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                   offset_t *ret_end)
{
    const struct epochs *epochs = &log->epochs;
    *ret_epoch = -1;
    *ret_end = -1;
    if (asked > epochs_last(epochs))
        return;
    for (size_t i = epochs->count; i > 0; i--) {
        if (epochs->rows[i - 1].epoch <= asked) {
            *ret_epoch = epochs->rows[i - 1].epoch;
            *ret_end = i == epochs->count ? log->end : epochs->rows[i].start;
            return;
        }
    }
}
