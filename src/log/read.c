#include <stdlib.h>

#include "log/log_internal.h"

/* ---- reading for fetchers ---- */

/* A reader that goes on where it stopped needs no index. */
static bool hint_take(struct log *log, offset_t offset, size_t idx, uint64_t *ret_position)
{
    for (unsigned i = 0; i < LOG_HINTS; i++) {
        const struct log_hint *hint = &log->hints[i];
        if (hint->offset == offset && hint->base == log->segments[idx].base) {
            *ret_position = hint->position;
            log->next_hint = i; /* it is moved on, rather than another one lost */
            return true;
        }
    }
    return false;
}

static void hint_put(struct log *log, offset_t offset, offset_t base, uint64_t position)
{
    log->hints[log->next_hint] = (struct log_hint){offset, base, position};
    log->next_hint = (log->next_hint + 1) % LOG_HINTS;
}

/* How many of the bytes are whole, good batches below limit. Cold and warm are checked alike:
 * CRC32C over what is in the cache of the CPU already is nearly free, and disks rot. */
static err_t read_trim(struct frame *frame, offset_t limit, bool gaps, offset_t *ret_next)
{
    size_t at = 0;
    offset_t next = -1;
    err_t err = ERR_OK;
    while (at < frame->used) {
        struct batch_info info;
        err = batch_check_crc(frame->bytes + at, frame->used - at, &info);
        if (err != ERR_OK || info.last_offset >= limit)
            break;
        if (next >= 0 && (gaps ? info.base_offset < next : info.base_offset != next))
            break; /* base offsets lie outside the CRC */
        next = info.last_offset + 1;
        at += info.bytes;
    }
    frame->used = (uint32_t)at;
    *ret_next = next;
    return at > 0 || err == ERR_OK || err == ERR_SHORT ? ERR_OK : ERR_CORRUPT_MESSAGE;
}

static err_t read_into_frame(struct log *log, env_file file, uint64_t at, size_t bytes,
                             struct frame_budget *budget, struct frame **ret_frame)
{
    size_t got;
    struct frame *frame = budget == NULL ? frame_new(bytes) : frame_new_charged(bytes, budget);
    if (frame == NULL)
        return ERR_NO_MEMORY;
    err_t err = log->disk->read(log->disk->self, file, at, frame->bytes, bytes, &got);
    if (err == ERR_OK && got < bytes)
        err = ERR_CORRUPT_MESSAGE;
    if (err != ERR_OK) {
        frame_unref(frame);
        return err;
    }
    frame->used = (uint32_t)bytes;
    *ret_frame = frame;
    return ERR_OK;
}

/* From the batch at position. *ret_frame NULL: it is not below the limit. */
static err_t read_at(struct log *log, size_t idx, uint64_t position,
                     const struct log_read_args *args, struct frame **ret_frame)
{
    const struct segment *segment = &log->segments[idx];
    uint8_t head[BATCH_HEADER_BYTES];
    struct batch_info info;
    struct frame *frame = NULL;
    env_file file;
    size_t got;
    offset_t next = -1;
    err_t err = segment_borrow(log, idx, &file);
    if (err != ERR_OK)
        return err;
    err = log->disk->read(log->disk->self, file, position, head, sizeof(head), &got);
    if (err != ERR_OK)
        goto done;
    err = batch_peek(head, got, &info);
    if (got < sizeof(head) || (err != ERR_OK && err != ERR_SHORT) ||
        info.bytes > segment->bytes - position) {
        err = ERR_CORRUPT_MESSAGE;
        goto done;
    }
    err = ERR_OK;
    if (info.last_offset < args->offset ||
        (info.base_offset > args->offset && !log->options.compacted)) {
        err = ERR_CORRUPT_MESSAGE;
        goto done;
    }
    if (info.last_offset >= args->limit)
        goto done;
    uint64_t left = segment->bytes - position;
    size_t bytes = args->bytes_max < left ? args->bytes_max : (size_t)left;
    err = read_into_frame(log, file, position, bytes < info.bytes ? info.bytes : bytes,
                          args->budget, &frame);
    if (err == ERR_OK)
        err = read_trim(frame, args->limit, log->options.compacted, &next);
    if (err != ERR_OK || frame->used == 0) {
        frame_unref(frame);
        frame = NULL;
    } else {
        hint_put(log, next, segment->base, position + frame->used);
    }
done:
    segment_return(log, idx, file);
    if (err == ERR_OK)
        *ret_frame = frame;
    return err;
}

err_t log_read(struct log *log, const struct log_read_args *args, struct frame **ret_frame)
{
    struct batch_info info;
    uint64_t position;
    if (args->offset < log->start || args->offset > log->end)
        return ERR_OFFSET_OUT_OF_RANGE;
    *ret_frame = NULL;
    if (args->offset >= args->limit || args->offset == log->end)
        return ERR_OK;
    for (size_t idx = segment_find(log, args->offset); idx < log->segment_count; idx++) {
        if (hint_take(log, args->offset, idx, &position) && position < log->segments[idx].bytes)
            return read_at(log, idx, position, args, ret_frame);
        err_t err = segment_locate(log, idx, args->offset, &position, &info);
        if (err == ERR_OK)
            return read_at(log, idx, position, args, ret_frame);
        if (err == ERR_CORRUPT || (err == ERR_NOT_FOUND && !log->options.compacted))
            return ERR_CORRUPT_MESSAGE;
        if (err != ERR_NOT_FOUND) /* else a gap: the next segment has it */
            return err;
    }
    return ERR_OK;
}

/* ---- walking ---- */

/* Batches of one segment from position, where the one of that base is, to its end. */
static err_t walk_segment(struct log *log, size_t idx, uint64_t position, offset_t base,
                          log_visit visit, void *context)
{
    bool gaps = log->options.compacted;
    struct scanner scan;
    struct batch_info info;
    const uint8_t *batch;
    env_file file;
    err_t err = segment_borrow(log, idx, &file);
    if (err != ERR_OK)
        return err;
    scanner_init(&scan, log->disk, file, position, log->segments[idx].bytes, NULL);
    scanner_expect(&scan, base, gaps);
    offset_t end = idx + 1 < log->segment_count ? log->segments[idx + 1].base : log->end;
    for (;;) {
        err = scanner_batch(&scan, &info, &batch);
        if (err == ERR_NOT_FOUND) {
            err = gaps || scan.expected == end ? ERR_OK : ERR_CORRUPT_MESSAGE;
            break;
        }
        if (err != ERR_OK) {
            err = err == ERR_CORRUPT ? ERR_CORRUPT_MESSAGE : err;
            break;
        }
        err = visit(context, &info, batch);
        if (err != ERR_OK)
            break;
        scanner_skip(&scan, &info);
    }
    scanner_fini(&scan);
    segment_return(log, idx, file);
    return err;
}

err_t log_walk(struct log *log, offset_t offset, log_visit visit, void *context)
{
    struct batch_info info;
    uint64_t position;
    if (offset < log->start || offset > log->end)
        return ERR_OFFSET_OUT_OF_RANGE;
    if (offset == log->end)
        return ERR_OK;
    size_t idx = segment_find(log, offset);
    err_t err = segment_locate(log, idx, offset, &position, &info);
    if (err == ERR_OK)
        err = walk_segment(log, idx, position, info.base_offset, visit, context);
    else if (err == ERR_NOT_FOUND && log->options.compacted)
        err = ERR_OK; /* in the gap after the segment's last batch */
    else if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
        err = ERR_CORRUPT_MESSAGE;
    while (err == ERR_OK && ++idx < log->segment_count)
        err = walk_segment(log, idx, 0, log->segments[idx].base, visit, context);
    return err;
}

/* ---- times ---- */

struct time_search {
    int64_t timestamp;
    offset_t limit, start;
    offset_t offset; /* found; -1: not yet */
    int64_t found;
};

/* The first record of the batch that is late enough; the batch's first where records are packed. */
static void time_in_batch(struct time_search *search, const struct batch_info *info,
                          const uint8_t *batch)
{
    struct record_cursor cursor;
    struct record record;
    search->offset = info->base_offset > search->start ? info->base_offset : search->start;
    search->found = info->max_timestamp;
    if (record_cursor_init(&cursor, batch, info->bytes) != ERR_OK)
        return;
    while (record_cursor_next(&cursor, &record) == ERR_OK) {
        if (record.timestamp >= search->timestamp && record.offset >= search->start) {
            search->offset = record.offset;
            search->found = record.timestamp;
            return;
        }
    }
}

/* ERR_EXISTS ends the walk: found, or beyond the limit. */
static err_t time_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct time_search *search = context;
    if (info->last_offset >= search->limit)
        return ERR_EXISTS;
    if (info->max_timestamp < search->timestamp || info->last_offset < search->start)
        return ERR_OK;
    time_in_batch(search, info, batch);
    return ERR_EXISTS;
}

err_t log_find_time(struct log *log, int64_t timestamp, offset_t limit, offset_t *ret_offset,
                    int64_t *ret_timestamp)
{
    struct time_search search = {
        .timestamp = timestamp, .limit = limit, .start = log->start, .offset = -1};
    for (size_t idx = segment_find(log, log->start);
         idx < log->segment_count && log->segments[idx].base < limit; idx++) {
        int64_t greatest;
        struct index_row row;
        err_t err = segment_max_timestamp(log, idx, &greatest);
        if (err != ERR_OK)
            return err;
        if (greatest < timestamp)
            continue;
        index_floor(log, idx, true, timestamp, &row);
        err = walk_segment(log, idx, row.position, log->segments[idx].base + row.relative,
                           time_visit, &search);
        if (err == ERR_EXISTS)
            break;
        if (err != ERR_OK)
            return err;
    }
    if (search.offset < 0)
        return ERR_NOT_FOUND;
    *ret_offset = search.offset;
    *ret_timestamp = search.found;
    return ERR_OK;
}
