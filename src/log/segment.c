#include <stdlib.h>

#include "log/log_internal.h"

enum { GROWTH_BYTES_MIN = 64 * 1024, ZERO_BYTES = 64 * 1024 };

err_t segments_reserve(struct log *log, size_t count)
{
    if (count <= log->segment_capacity)
        return ERR_OK;
    size_t capacity = count < 2 ? 2 : count + count / 2;
    struct segment *segments = realloc(log->segments, capacity * sizeof(segments[0]));
    if (segments == NULL)
        return ERR_NO_MEMORY;
    log->segments = segments;
    log->segment_capacity = capacity;
    return ERR_OK;
}

/* ---- open files ---- */

/* Zeroed but for its file. */
static struct log_file *segment_add_file(struct log *log, struct log_file *f, offset_t base)
{
    f->log = log;
    f->base = base;
    list_push_back(&log->files, &f->link);
    return f;
}

void segment_forget_file(struct log *log, struct log_file *f)
{
    if (log->active == f)
        log->active = NULL;
    if (f->in_flight) {
        f->unwanted = true; /* its completion closes it */
        return;
    }
    log->disk->close(log->disk->self, f->file);
    list_remove(&f->link);
    free(f);
}

static err_t segment_open_file(struct log *log, offset_t base, unsigned flags, env_file *ret_file)
{
    char name[LOG_NAME_SIZE];
    segment_name(name, log->directory, base, "log");
    return log->disk->open(log->disk->self, name, flags, ret_file);
}

err_t segment_open_active(struct log *log)
{
    struct env_disk *disk = log->disk;
    const struct segment *segment = log_active(log);
    env_file file;
    uint64_t size;
    if (log->active != NULL)
        return ERR_OK;
    err_t err = segment_open_file(log, segment->base, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, file, &size);
    if (err == ERR_OK && size < segment->bytes)
        err = ERR_CORRUPT;
    struct log_file *active = err == ERR_OK ? calloc(1, sizeof(*active)) : NULL;
    if (active == NULL) {
        disk->close(disk->self, file);
        return err == ERR_OK ? ERR_NO_MEMORY : err;
    }
    active->file = file;
    log->active = segment_add_file(log, active, segment->base);
    log->active_file_bytes = size;
    index_resume(log);
    int64_t timestamp;
    err = segment_max_timestamp(log, log->segment_count - 1, &timestamp);
    if (err != ERR_OK)
        segment_forget_file(log, log->active);
    return err;
}

err_t segment_borrow(struct log *log, size_t idx, env_file *ret_file)
{
    if (idx + 1 < log->segment_count)
        return segment_open_file(log, log->segments[idx].base, 0, ret_file);
    err_t err = segment_open_active(log);
    if (err == ERR_OK)
        *ret_file = log->active->file;
    return err;
}

void segment_return(struct log *log, size_t idx, env_file file)
{
    if (idx + 1 < log->segment_count)
        log->disk->close(log->disk->self, file);
}

/* ---- finding ---- */

size_t segment_find(const struct log *log, offset_t offset)
{
    size_t low = 0, high = log->segment_count;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (log->segments[middle].base <= offset)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* From the row's batch, which must begin where the row says: only then the walk is in step. */
static err_t segment_walk_to(struct log *log, size_t idx, const struct index_row *row,
                             offset_t offset, struct scanner *scan, struct batch_info *ret_info)
{
    scan->at = row->position;
    scanner_expect(scan, log->segments[idx].base + row->relative, log->options.compacted);
    err_t err = scanner_header(scan, ret_info);
    while (err == ERR_OK && ret_info->last_offset < offset) {
        scanner_skip(scan, ret_info);
        err = scanner_header(scan, ret_info);
    }
    return err;
}

err_t segment_locate(struct log *log, size_t idx, offset_t offset, uint64_t *ret_position,
                     struct batch_info *ret_info)
{
    uint8_t window[SCAN_WINDOW_BYTES];
    struct scanner scan;
    struct index_row row;
    env_file file;
    err_t err = segment_borrow(log, idx, &file);
    if (err != ERR_OK)
        return err;
    index_floor(log, idx, false, offset, &row);
    scanner_init(&scan, log->disk, file, 0, log->segments[idx].bytes, window);
    err = segment_walk_to(log, idx, &row, offset, &scan, ret_info);
    if (err == ERR_CORRUPT && row.position > 0) {
        /* The index leads astray, or the batches are bad: only a walk from the start tells. */
        row = (struct index_row){.max_timestamp = -1};
        err = segment_walk_to(log, idx, &row, offset, &scan, ret_info);
        if (err == ERR_OK)
            (void)index_rebuild(log, idx); /* for the next reader; he will see when it failed */
    }
    segment_return(log, idx, file);
    if (err == ERR_OK)
        *ret_position = scan.at;
    return err;
}

err_t segment_max_timestamp(struct log *log, size_t idx, int64_t *ret_timestamp)
{
    struct segment *segment = &log->segments[idx];
    uint8_t window[SCAN_WINDOW_BYTES];
    struct index_row row;
    struct scanner scan;
    struct batch_info info;
    env_file file;
    if (segment->max_timestamp != TIMESTAMP_UNKNOWN) {
        *ret_timestamp = segment->max_timestamp;
        return ERR_OK;
    }
    err_t err = segment_borrow(log, idx, &file);
    if (err != ERR_OK)
        return err;
    err = index_last(log, idx, &row);
    if (err != ERR_OK)
        row = (struct index_row){.max_timestamp = -1};
    scanner_init(&scan, log->disk, file, row.position, segment->bytes, window);
    scanner_expect(&scan, segment->base + row.relative, log->options.compacted);
    int64_t timestamp = row.max_timestamp;
    while ((err = scanner_header(&scan, &info)) == ERR_OK) {
        timestamp = info.max_timestamp > timestamp ? info.max_timestamp : timestamp;
        scanner_skip(&scan, &info);
    }
    segment_return(log, idx, file);
    if (err != ERR_NOT_FOUND)
        return err;
    *ret_timestamp = segment->max_timestamp = timestamp;
    return ERR_OK;
}

/* ---- growth ---- */

/* The metadata log's space is written, so that no later write or sync needs a new block (R16). */
static err_t segment_write_zeros(struct log *log, uint64_t from, uint64_t to)
{
    static const uint8_t zeros[ZERO_BYTES];
    struct env_disk *disk = log->disk;
    err_t err = ERR_OK;
    while (from < to && err == ERR_OK) {
        size_t part = to - from < ZERO_BYTES ? (size_t)(to - from) : ZERO_BYTES;
        struct iovec iov = {.iov_base = (void *)(uintptr_t)zeros, .iov_len = part};
        err = disk->write(disk->self, log->active->file, from, &iov, 1);
        from += part;
    }
    return err;
}

err_t segment_zero_tail(struct log *log)
{
    struct env_disk *disk = log->disk;
    uint64_t from = log_active(log)->bytes;
    /* A failed write may have made the file longer than we know. */
    err_t err = disk->size(disk->self, log->active->file, &log->active_file_bytes);
    if (err != ERR_OK || from >= log->active_file_bytes)
        return err;
    if (log->options.written_zeros)
        return segment_write_zeros(log, from, log->active_file_bytes);
    return disk->zero_from(disk->self, log->active->file, from);
}

static err_t segment_extend(struct log *log, uint64_t to)
{
    struct env_disk *disk = log->disk;
    uint64_t from = log->active_file_bytes, free_bytes;
    err_t err = disk->free_bytes(disk->self, &free_bytes);
    if (err != ERR_OK)
        return err;
    if (free_bytes < log->options.free_bytes_min || /* R16 */
        free_bytes - log->options.free_bytes_min < to - from)
        return ERR_NOT_ENOUGH_SPACE;
    if (log->options.written_zeros) {
        err = segment_write_zeros(log, from, to);
        if (err == ERR_OK)
            err = disk->sync_now(disk->self, log->active->file);
    } else {
        err = disk->allocate(disk->self, log->active->file, from, to - from);
    }
    if (err == ERR_OK)
        log->active_file_bytes = to;
    return err;
}

err_t segment_grow(struct log *log, uint64_t bytes)
{
    uint64_t need = log_active(log)->bytes + bytes, now = log->active_file_bytes;
    if (need <= now)
        return ERR_OK;
    /* Twice as much each time, so that a small log stays small, up to preallocate_bytes a step. */
    uint64_t step = now < GROWTH_BYTES_MIN ? GROWTH_BYTES_MIN : now;
    if (step > log->options.preallocate_bytes || log->options.written_zeros)
        step = log->options.preallocate_bytes;
    uint64_t to = now + step;
    if (to > log->options.segment_bytes && !log->options.written_zeros)
        to = log->options.segment_bytes;
    if (to < need)
        to = need;
    err_t err = segment_extend(log, to);
    if (err == ERR_NOT_ENOUGH_SPACE && to > need)
        err = segment_extend(log, need);
    return err;
}

void segment_grow_ahead(struct log *log)
{
    uint64_t now = log->active_file_bytes, step = log->options.preallocate_bytes;
    if (!log->options.written_zeros || log_active(log)->bytes + step / 2 <= now)
        return;
    /* No room now is no harm yet: what is zeroed goes on taking appends (R16). */
    (void)segment_extend(log, now + step);
}

/* ---- rolls ---- */

/* A segment that is made, and not yet one of the log's. */
struct new_segment {
    offset_t base;
    struct log_file *file;
};

static err_t segment_make_file(struct log *log, env_file file)
{
    struct env_disk *disk = log->disk;
    uint64_t size;
    /* Left by a roll that failed: it enters service only empty (R13). */
    err_t err = disk->size(disk->self, file, &size);
    if (err == ERR_OK && size > 0)
        err = disk->set_size(disk->self, file, 0);
    /* R17: the name is durable before any data is in it. log_settle_files does so for a new log. */
    if (err == ERR_OK && !log->unsettled)
        err = disk->sync_names(disk->self, log->directory);
    return err;
}

/* Its name must not stay: the segment before it grows on, and a start would find both at odds. */
static void segment_give_up(struct log *log, const struct new_segment *segment, env_file file)
{
    log->disk->close(log->disk->self, file);
    log->leftover = segment->base;
    (void)segment_sweep(log); /* else before the next append */
}

static err_t segment_make(struct log *log, struct new_segment *segment)
{
    env_file file;
    err_t err = segments_reserve(log, log->segment_count + 1);
    if (err != ERR_OK)
        return err;
    segment->file = calloc(1, sizeof(*segment->file));
    if (segment->file == NULL)
        return ERR_NO_MEMORY;
    err = segment_open_file(log, segment->base, ENV_OPEN_CREATE, &file);
    if (err == ERR_OK) {
        err = segment_make_file(log, file);
        if (err != ERR_OK)
            segment_give_up(log, segment, file);
    }
    if (err != ERR_OK) {
        free(segment->file);
        return err;
    }
    segment->file->file = file;
    return ERR_OK;
}

static void segment_enter(struct log *log, const struct new_segment *segment)
{
    log->active = segment_add_file(log, segment->file, segment->base);
    log->active_file_bytes = 0;
    log->segments[log->segment_count++] =
        (struct segment){.base = segment->base, .max_timestamp = -1};
    index_continue(log, &(struct index_row){.max_timestamp = -1}, 0);
}

err_t segment_create(struct log *log, offset_t base)
{
    struct new_segment segment = {.base = base};
    err_t err = segment_make(log, &segment);
    if (err == ERR_OK)
        segment_enter(log, &segment);
    return err;
}

err_t segment_sweep(struct log *log)
{
    struct env_disk *disk = log->disk;
    char name[LOG_NAME_SIZE];
    if (log->leftover < 0)
        return ERR_OK;
    segment_name(name, log->directory, log->leftover, "log");
    err_t err = disk->unlink(disk->self, name);
    if (err == ERR_OK || err == ERR_NOT_FOUND)
        err = disk->sync_names(disk->self, log->directory);
    if (err == ERR_OK)
        log->leftover = -1;
    return err;
}

err_t segment_unlink(struct log *log, offset_t base)
{
    char name[LOG_NAME_SIZE];
    struct env_disk *disk = log->disk;
    list_for_each_safe (node, after, &log->files) {
        struct log_file *file = list_entry(node, struct log_file, link);
        if (file->base == base && !file->unwanted)
            segment_forget_file(log, file);
    }
    segment_name(name, log->directory, base, "index");
    err_t err = disk->unlink(disk->self, name);
    if (err != ERR_OK && err != ERR_NOT_FOUND)
        return err;
    segment_name(name, log->directory, base, "log");
    err = disk->unlink(disk->self, name);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}

err_t segment_roll(struct log *log)
{
    unsigned unsynced = 0;
    list_for_each (node, &log->files)
        unsynced++;
    if (unsynced > LOG_UNSYNCED_MAX)
        return ERR_FULL;
    struct log_file *old = log->active;
    uint64_t old_bytes = log_active(log)->bytes;
    index_close_row(log);
    index_flush(log);
    struct new_segment segment = {.base = log->end};
    err_t err = segment_make(log, &segment);
    if (err != ERR_OK)
        return err;
    /* Sealed, it is as long as what it holds: below the recovery point a start believes that. */
    err = log->disk->set_size(log->disk->self, old->file, old_bytes);
    if (err != ERR_OK) {
        segment_give_up(log, &segment, segment.file->file);
        free(segment.file);
        return err;
    }
    old->sealed = true;
    segment_enter(log, &segment);
    log_flush(log);
    (void)log_save_checkpoint(log, false, false); /* a failure costs only a longer recovery */
    return ERR_OK;
}
