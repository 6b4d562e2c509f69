#include <stdlib.h>

#include "base/canary.h"
#include "log/log_internal.h"

/* What the folder holds; filled by disk.list. */
struct folder {
    offset_t *bases; /* of .log files, sorted after the list */
    size_t count, capacity;
    bool no_memory;
};

struct recovery {
    const struct log_open_args *args;
    struct log *log;
    struct folder folder;
    struct checkpoint checkpoint;
    struct log_recovery found;
    leader_epoch_t epoch; /* of the batch before */
    offset_t expected;    /* base of the next one */
};

/* ---- the folder ---- */

static void folder_entry(void *context, const char *entry, bool is_directory)
{
    struct folder *folder = context;
    offset_t base;
    if (is_directory || !segment_name_parse(entry, "log", &base))
        return;
    if (folder->count == folder->capacity) {
        size_t capacity = folder->capacity == 0 ? 4 : folder->capacity * 2;
        offset_t *bases = realloc(folder->bases, capacity * sizeof(bases[0]));
        if (bases == NULL) {
            folder->no_memory = true;
            return;
        }
        folder->bases = bases;
        folder->capacity = capacity;
    }
    folder->bases[folder->count++] = base;
}

static int base_order(const void *a, const void *b)
{
    offset_t x = *(const offset_t *)a, y = *(const offset_t *)b;
    return (x > y) - (x < y);
}

static err_t folder_read(struct recovery *r)
{
    struct env_disk *disk = r->args->disk;
    struct folder *folder = &r->folder;
    err_t err = disk->list(disk->self, r->args->directory, folder_entry, folder);
    if (err == ERR_OK && folder->no_memory)
        err = ERR_NO_MEMORY;
    if (err == ERR_OK && folder->count > 1)
        qsort(folder->bases, folder->count, sizeof(folder->bases[0]), base_order);
    return err;
}

static err_t segment_file_bytes(struct recovery *r, offset_t base, uint64_t *ret_bytes)
{
    struct env_disk *disk = r->args->disk;
    char name[LOG_NAME_SIZE];
    env_file file;
    segment_name(name, r->args->directory, base, "log");
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, file, ret_bytes);
    disk->close(disk->self, file);
    return err;
}

/* ---- creation ---- */

/* A power cut during the creation left parts; nothing was appended before all of it was durable
 * (R21), so that segments with bytes mean something else was lost. */
static err_t creation_was_cut_short(struct recovery *r)
{
    for (size_t i = 0; i < r->folder.count; i++) {
        uint64_t bytes;
        err_t err = segment_file_bytes(r, r->folder.bases[i], &bytes);
        if (err != ERR_OK)
            return err;
        if (bytes > 0 || r->folder.bases[i] != 0)
            return ERR_CORRUPT;
    }
    return ERR_OK;
}

static err_t log_create(struct recovery *r)
{
    struct log *log = r->log;
    struct env_disk *disk = log->disk;
    err_t err = disk->make_directory(disk->self, log->directory);
    if (err == ERR_EXISTS)
        err = creation_was_cut_short(r);
    log->unsettled = true;
    if (err == ERR_OK)
        err = segment_create(log, 0);
    struct checkpoint what = {0};
    if (err == ERR_OK)
        err = checkpoint_save(log, &what, false);
    if (err == ERR_OK)
        err = partition_metadata_save(disk, log->directory, &r->args->topic);
    r->found.created = true;
    if (err == ERR_OK && !r->args->settle_later)
        err = log_settle(log);
    return err;
}

/* ---- segments that the checkpoint speaks for ---- */

static err_t segment_push(struct log *log, offset_t base, uint64_t bytes)
{
    err_t err = segments_reserve(log, log->segment_count + 1);
    if (err != ERR_OK)
        return err;
    log->segments[log->segment_count++] =
        (struct segment){.base = base, .bytes = bytes, .max_timestamp = TIMESTAMP_UNKNOWN};
    log->bytes += bytes;
    return ERR_OK;
}

/* Finishes a prefix drop, and finds the segment of the recovery point. */
static err_t recovery_match(struct recovery *r, size_t *ret_first, size_t *ret_idx)
{
    const struct folder *folder = &r->folder;
    const struct checkpoint *cp = &r->checkpoint;
    size_t first = 0, idx = 0;
    while (first + 1 < folder->count && folder->bases[first + 1] <= cp->log_start)
        first++;
    if (folder->count == 0 || folder->bases[first] > cp->log_start)
        return ERR_CORRUPT; /* R15: bytes that were durable are gone */
    while (idx < folder->count && folder->bases[idx] != cp->recovery.base)
        idx++;
    if (idx == folder->count || idx < first)
        return ERR_CORRUPT;
    if (idx + 1 < folder->count && folder->bases[idx + 1] < cp->recovery.offset)
        return ERR_CORRUPT;
    for (size_t i = 0; i < first; i++) {
        err_t err = segment_unlink(r->log, folder->bases[i]);
        if (err != ERR_OK)
            return err;
    }
    *ret_first = first;
    *ret_idx = idx;
    return ERR_OK;
}

/* ---- reading back ---- */

/* R13: what makes a batch one of this log's. */
static bool batch_belongs(const struct recovery *r, const struct batch_info *info)
{
    offset_t point = r->checkpoint.recovery.offset;
    if (r->log->options.compacted ? info->base_offset < r->expected
                                  : info->base_offset != r->expected)
        return false;
    if (info->base_offset < point && info->last_offset >= point)
        return false; /* the recovery point is a batch's end */
    return info->leader_epoch >= r->epoch &&
           (info->base_offset < point || info->leader_epoch >= epochs_last(&r->log->epochs));
}

/* Takes batches until one is bad (ERR_CORRUPT) or the end (ERR_NOT_FOUND). counted: they are in the
 * segment's bytes already. */
static err_t recovery_walk(struct recovery *r, struct scanner *scan, bool counted)
{
    const struct log_open_args *args = r->args;
    for (;;) {
        struct batch_info info;
        const uint8_t *batch;
        err_t err = scanner_batch(scan, &info, &batch);
        if (err == ERR_OK && !batch_belongs(r, &info))
            err = ERR_CORRUPT;
        if (err == ERR_OK && args->visit != NULL)
            err = args->visit(args->visit_context, &info, batch);
        if (err == ERR_OK && !counted) {
            err = epochs_reserve(&r->log->epochs, 1);
            if (err == ERR_OK)
                log_note_batch(r->log, &info);
        }
        if (err != ERR_OK)
            return err;
        r->epoch = info.leader_epoch;
        r->expected = info.last_offset + 1;
        scanner_skip(scan, &info);
    }
}

/* Segments wholly below the recovery point: their sizes are right, since they were synced with
 * them. */
static err_t recovery_below(struct recovery *r, size_t first, size_t idx)
{
    struct log *log = r->log;
    for (size_t i = first; i < idx; i++) {
        struct scanner scan;
        env_file file;
        uint64_t bytes;
        err_t err = segment_file_bytes(r, r->folder.bases[i], &bytes);
        if (err == ERR_OK)
            err = segment_push(log, r->folder.bases[i], bytes);
        if (err != ERR_OK)
            return err;
        if (!r->args->visit_all)
            continue;
        char name[LOG_NAME_SIZE];
        segment_name(name, log->directory, r->folder.bases[i], "log");
        err = log->disk->open(log->disk->self, name, 0, &file);
        if (err != ERR_OK)
            return err;
        r->expected = r->folder.bases[i];
        scanner_init(&scan, log->disk, file, 0, bytes, NULL);
        err = recovery_walk(r, &scan, true);
        r->found.bytes_read += scan.bytes_read;
        scanner_fini(&scan);
        log->disk->close(log->disk->self, file);
        if (err == ERR_NOT_FOUND)
            err = r->expected == r->folder.bases[i + 1] ? ERR_OK : ERR_CORRUPT;
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

/* Where to begin in the recovery point's segment: at the last good row of its index, or its start.
 */
static err_t recovery_start(struct recovery *r, env_file file, uint64_t size,
                            uint64_t *ret_position)
{
    struct log *log = r->log;
    size_t idx = log->segment_count - 1;
    offset_t base = log->segments[idx].base, point = r->checkpoint.recovery.offset;
    bool whole = r->args->visit_all || base != r->checkpoint.recovery.base;
    struct index_row last;
    uint32_t rows;
    err_t err = index_trim(log, idx, whole ? base - 1 : point, &last, &rows);
    if (err == ERR_OK && last.position > 0 && base + last.relative < point) {
        uint8_t window[SCAN_WINDOW_BYTES];
        struct batch_info info;
        struct scanner scan;
        scanner_init(&scan, log->disk, file, last.position, size, window);
        if (scanner_header(&scan, &info) != ERR_OK || info.base_offset != base + last.relative)
            err = index_trim(log, idx, base - 1, &last, &rows);
    }
    if (err != ERR_OK)
        return err;
    index_continue(log, &last, rows);
    log->segments[idx].bytes = last.position;
    log->segments[idx].max_timestamp = last.max_timestamp;
    log->bytes += last.position;
    log->end = r->expected = base + last.relative;
    *ret_position = last.position;
    return ERR_OK;
}

/* R14: what is dirty is synced first, then leaves the cache, then is read. That sync_all went well
 * spares the sync, and not the rest: of a sync that failed in an earlier life it knows nothing. */
static err_t recovery_open_uncached(struct recovery *r, offset_t base, env_file *ret_file,
                                    uint64_t *ret_size)
{
    struct env_disk *disk = r->args->disk;
    char name[LOG_NAME_SIZE];
    segment_name(name, r->args->directory, base, "log");
    err_t err = disk->open(disk->self, name, 0, ret_file);
    if (err != ERR_OK)
        return err;
    if (!r->args->synced)
        err = disk->sync_now(disk->self, *ret_file);
    if (err == ERR_OK && !CANARY("log_recovery_believes_the_cache"))
        err = disk->drop_cache(disk->self, *ret_file);
    if (err == ERR_OK)
        err = disk->size(disk->self, *ret_file, ret_size);
    if (err != ERR_OK)
        disk->close(disk->self, *ret_file);
    return err;
}

/* One segment at or above the recovery point. *ret_whole: it ends well; false: torn, cut there. */
static err_t recovery_segment(struct recovery *r, size_t folder_idx, bool *ret_whole)
{
    struct log *log = r->log;
    struct scanner scan = {0};
    env_file file;
    uint64_t size, position;
    bool zero = true;
    bool is_last = folder_idx + 1 == r->folder.count;
    err_t err = segment_push(log, r->folder.bases[folder_idx], 0);
    if (err == ERR_OK)
        err = recovery_open_uncached(r, r->folder.bases[folder_idx], &file, &size);
    if (err != ERR_OK)
        return err;
    err = recovery_start(r, file, size, &position);
    if (err == ERR_OK) {
        scanner_init(&scan, log->disk, file, position, size, NULL);
        err = recovery_walk(r, &scan, false);
    }
    bool bad = err == ERR_CORRUPT;
    if (err == ERR_NOT_FOUND)
        err = scanner_rest_is_zero(&scan, &zero);
    if (err == ERR_OK || bad) {
        /* R15 */
        bool below = r->expected < r->checkpoint.recovery.offset;
        err = below && !CANARY("log_corrupt_is_torn") ? ERR_CORRUPT : ERR_OK;
        *ret_whole = !bad && zero && (is_last || r->folder.bases[folder_idx + 1] == r->expected);
    }
    if (err == ERR_OK && *ret_whole && !is_last && size != log_active(log)->bytes) {
        /* The roll's own cut did not reach the disk. */
        err = log->disk->set_size(log->disk->self, file, log_active(log)->bytes);
        if (err == ERR_OK)
            err = log->disk->sync_now(log->disk->self, file);
    }
    r->found.bytes_read += scan.bytes_read;
    scanner_fini(&scan);
    log->disk->close(log->disk->self, file);
    if (err == ERR_OK) {
        index_close_row(log);
        index_flush(log);
    }
    return err;
}

/* R15: the first bad batch at or above the recovery point ends the log, even if good ones follow;
 * R13: what follows must not be read again. */
static err_t recovery_cut(struct recovery *r, size_t folder_idx)
{
    struct log *log = r->log;
    err_t err = ERR_OK;
    for (size_t i = r->folder.count; i > folder_idx + 1 && err == ERR_OK; i--)
        err = segment_unlink(log, r->folder.bases[i - 1]);
    if (err == ERR_OK && r->folder.count > folder_idx + 1)
        err = log->disk->sync_names(log->disk->self, log->directory);
    if (err == ERR_OK)
        err = segment_open_active(log);
    if (err == ERR_OK)
        err = segment_zero_tail(log);
    if (err == ERR_OK)
        err = log->disk->sync_now(log->disk->self, log->active->file);
    r->found.torn = true;
    r->found.cut_from = log->end;
    return err;
}

static err_t recovery_above(struct recovery *r, size_t idx)
{
    struct log *log = r->log;
    err_t err = index_start_buffer(log);
    epochs_cut(&log->epochs, r->checkpoint.recovery.offset); /* told anew by the batches */
    bool whole = true;
    for (size_t i = idx; i < r->folder.count && err == ERR_OK && whole; i++) {
        err = recovery_segment(r, i, &whole);
        if (err == ERR_OK && !whole)
            err = recovery_cut(r, i);
    }
    return err;
}

/* R14, R21 for the small files and the names: an earlier life may have been killed before it synced
 * them, or its sync failed, which left them clean in the cache and missing on the disk. */
static err_t folder_sync(struct recovery *r)
{
    static const char *const files[] = {"checkpoint", "partition.metadata"};
    struct env_disk *disk = r->args->disk;
    char name[LOG_NAME_SIZE];
    err_t err = ERR_OK;
    for (size_t i = 0; i < ARRAY_LEN(files) && err == ERR_OK; i++) {
        log_file_name(name, r->args->directory, files[i]);
        err = small_file_uncache(disk, name, r->args->synced);
    }
    if (r->args->synced)
        return err;
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, r->args->directory);
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

/* ---- after a clean stop ---- */

/* The checkpoint says where the log ends; a glance at what follows guards against a marker that was
 * written though the close had failed. */
static err_t clean_tail_holds(struct recovery *r, bool *ret_holds)
{
    const struct log_point *end = &r->checkpoint.recovery;
    struct env_disk *disk = r->args->disk;
    char name[LOG_NAME_SIZE];
    uint8_t head[BATCH_PREFIX_BYTES] = {0};
    env_file file;
    uint64_t size;
    size_t got;
    segment_name(name, r->args->directory, end->base, "log");
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, file, &size);
    if (err == ERR_OK)
        err = disk->read(disk->self, file, end->position, head, sizeof(head), &got);
    disk->close(disk->self, file);
    *ret_holds = err == ERR_OK && size >= end->position && get_u32(head + 8) == 0;
    return err;
}

static err_t recovery_clean(struct recovery *r)
{
    struct log *log = r->log;
    const struct log_point *end = &r->checkpoint.recovery;
    err_t err = segment_push(log, end->base, end->position);
    log->end = end->offset;
    epochs_cut(&log->epochs, end->offset); /* one without batches, or cut away since it was saved */
    r->found.clean = true;
    if (err != ERR_OK || !r->args->visit_all)
        return err;
    struct scanner scan;
    env_file file;
    char name[LOG_NAME_SIZE];
    segment_name(name, log->directory, end->base, "log");
    err = log->disk->open(log->disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    r->expected = end->base;
    scanner_init(&scan, log->disk, file, 0, end->position, NULL);
    err = recovery_walk(r, &scan, true);
    r->found.bytes_read += scan.bytes_read;
    scanner_fini(&scan);
    log->disk->close(log->disk->self, file);
    if (err == ERR_NOT_FOUND)
        err = r->expected == end->offset ? ERR_OK : ERR_CORRUPT;
    return err;
}

/* ---- opening ---- */

static err_t log_recover(struct recovery *r)
{
    struct log *log = r->log;
    size_t first, idx;
    bool clean = false;
    err_t err = checkpoint_load(log->disk, log->directory, &r->checkpoint);
    /* It is as old as partition.metadata: torn, while nothing was ever appended here, it is a
     * creation that a power cut caught. */
    if ((err == ERR_NOT_FOUND || err == ERR_CORRUPT) && !r->args->must_exist)
        return log_create(r);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
    log->saved = r->checkpoint;
    log->start = r->checkpoint.log_start;
    if (r->checkpoint.resetting) {
        log->end = log->start;
        log->flushed = r->checkpoint.recovery;
        return log_reset_files(log, r->folder.bases, r->folder.count);
    }
    err = epochs_load(&log->epochs, log->disk, log->directory);
    if (err == ERR_OK)
        err = recovery_match(r, &first, &idx);
    if (err == ERR_OK && r->args->clean && r->checkpoint.closed && idx + 1 == r->folder.count)
        err = clean_tail_holds(r, &clean);
    if (err == ERR_OK)
        err = recovery_below(r, first, idx);
    if (err == ERR_OK && r->args->clean && !clean)
        err = folder_sync(r);
    if (err != ERR_OK)
        return err;
    err = clean ? recovery_clean(r) : recovery_above(r, idx);
    if (err != ERR_OK)
        return err;
    const struct segment *active = log_active(log);
    log->flushed = (struct log_point){log->end, active->base, active->bytes};
    return ERR_OK;
}

static err_t log_open_folder(struct recovery *r)
{
    const struct log_open_args *args = r->args;
    struct uuid topic;
    err_t err = folder_read(r);
    if (err == ERR_NOT_FOUND)
        return args->must_exist ? ERR_NOT_FOUND : log_create(r);
    if (err == ERR_OK && !args->clean)
        err = folder_sync(r);
    if (err != ERR_OK)
        return err;
    err = partition_metadata_load(args->disk, args->directory, &topic);
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
        return args->must_exist ? ERR_NOT_FOUND : log_create(r);
    if (err != ERR_OK)
        return err;
    return uuid_equal(&topic, &args->topic) ? log_recover(r) : ERR_INCONSISTENT_TOPIC_ID;
}

err_t log_open(const struct log_open_args *args, struct log **ret_log,
               struct log_recovery *ret_recovery)
{
    ASSERT(args->options->preallocate_bytes > 0);
    ASSERT(args->options->index_interval_bytes > 0);
    struct log *log = calloc(1, sizeof(*log));
    if (log == NULL)
        return ERR_NO_MEMORY;
    log->env = args->env;
    log->disk = args->disk;
    log->options = *args->options;
    log->upcalls = args->upcalls;
    log->epochs.unsaved_from = INT64_MAX;
    log->leftover = -1;
    list_init(&log->files);
    log_init_rounds(log);
    log_forget_hints(log);
    struct recovery r = {.args = args, .log = log, .epoch = -1, .found = {.cut_from = -1}};
    log->directory = strdup(args->directory);
    err_t err = log->directory == NULL ? ERR_NO_MEMORY : log_open_folder(&r);
    free(r.folder.bases);
    if (err != ERR_OK) {
        log_free(log);
        return err;
    }
    log->high_watermark =
        r.checkpoint.high_watermark < log->end ? r.checkpoint.high_watermark : log->end;
    r.found.high_watermark = log->high_watermark;
    /* An idle log holds no descriptor and no buffer. */
    if (log->active != NULL)
        segment_forget_file(log, log->active);
    free(log->index.rows);
    log->index.rows = NULL;
    *ret_log = log;
    *ret_recovery = r.found;
    return ERR_OK;
}
