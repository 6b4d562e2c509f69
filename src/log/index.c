/* The index of a segment, so that an offset or a time is found without a walk over the whole file:
 *
 *   row of 20 bytes:  0 offset - base   4 position   8 greatest timestamp before   16 CRC32C
 *   the first row:    0 magic           4 version    8 base                        16 CRC32C
 *
 * It is never synced but when it was cut, and never trusted: each row has its own CRC (with the
 * base in it), and the batch at a row's position must begin where the row says. What is missing or
 * bad is made again from the batches. Kafka keeps offsets and times apart, in two files without
 * checks; one row here costs less and can't disagree with its twin. */
#include <stdlib.h>

#include "base/crc32c.h"
#include "log/log_internal.h"

enum {
    ROW_BYTES = 20,
    ROWS_READ_MAX = 200,      /* at once */
    INDEX_MAGIC = 0x4b494458, /* KIDX */
    INDEX_VERSION = 1,
};

static const struct index_row index_origin = {.max_timestamp = -1};

static uint32_t row_crc(offset_t base, const uint8_t *row)
{
    uint8_t salt[8];
    put_u64(salt, (uint64_t)base);
    return crc32c(crc32c(0, salt, sizeof(salt)), row, ROW_BYTES - 4);
}

static void row_encode(uint8_t *to, offset_t base, const struct index_row *row)
{
    put_u32(to, row->relative);
    put_u32(to + 4, row->position);
    put_u64(to + 8, (uint64_t)row->max_timestamp);
    put_u32(to + 16, row_crc(base, to));
}

static bool row_decode(const uint8_t *from, offset_t base, struct index_row *ret_row)
{
    if (get_u32(from + 16) != row_crc(base, from))
        return false;
    *ret_row = (struct index_row){
        .relative = get_u32(from),
        .position = get_u32(from + 4),
        .max_timestamp = (int64_t)get_u64(from + 8),
    };
    return true;
}

/* ---- the file ---- */

struct index_file {
    struct env_disk *disk;
    env_file file;
    offset_t base;
    uint32_t rows;
};

static void index_file_close(struct index_file *f)
{
    f->disk->close(f->disk->self, f->file);
}

/* ERR_NOT_FOUND; ERR_CORRUPT: its first row is bad. Neither leaves it open. */
static err_t index_file_open(struct log *log, offset_t base, struct index_file *ret)
{
    struct env_disk *disk = log->disk;
    char name[LOG_NAME_SIZE];
    uint8_t head[ROW_BYTES];
    uint64_t size = 0;
    size_t got = 0;
    segment_name(name, log->directory, base, "index");
    *ret = (struct index_file){.disk = disk, .base = base};
    err_t err = disk->open(disk->self, name, 0, &ret->file);
    if (err != ERR_OK)
        return err;
    err = disk->size(disk->self, ret->file, &size);
    if (err == ERR_OK)
        err = disk->read(disk->self, ret->file, 0, head, sizeof(head), &got);
    if (err == ERR_OK &&
        (got != sizeof(head) || get_u32(head) != INDEX_MAGIC ||
         get_u32(head + 4) != INDEX_VERSION || (offset_t)get_u64(head + 8) != base ||
         get_u32(head + 16) != row_crc(base, head)))
        err = ERR_CORRUPT;
    if (err != ERR_OK) {
        index_file_close(ret);
        return err;
    }
    ret->rows = (uint32_t)(size / ROW_BYTES - 1);
    return ERR_OK;
}

static err_t index_file_create(struct log *log, offset_t base, struct index_file *ret)
{
    struct env_disk *disk = log->disk;
    char name[LOG_NAME_SIZE];
    uint8_t head[ROW_BYTES];
    segment_name(name, log->directory, base, "index");
    *ret = (struct index_file){.disk = disk, .base = base};
    err_t err = disk->open(disk->self, name, ENV_OPEN_CREATE, &ret->file);
    if (err != ERR_OK)
        return err;
    put_u32(head, INDEX_MAGIC);
    put_u32(head + 4, INDEX_VERSION);
    put_u64(head + 8, (uint64_t)base);
    put_u32(head + 16, row_crc(base, head));
    struct iovec part = {.iov_base = head, .iov_len = sizeof(head)};
    err = disk->set_size(disk->self, ret->file, 0);
    if (err == ERR_OK)
        err = disk->write(disk->self, ret->file, 0, &part, 1);
    if (err != ERR_OK)
        index_file_close(ret);
    return err;
}

static err_t index_file_row(const struct index_file *f, uint32_t idx, struct index_row *ret_row)
{
    uint8_t bytes[ROW_BYTES];
    size_t got;
    uint64_t at = ((uint64_t)idx + 1) * ROW_BYTES;
    err_t err = f->disk->read(f->disk->self, f->file, at, bytes, sizeof(bytes), &got);
    if (err != ERR_OK)
        return err;
    return got == sizeof(bytes) && row_decode(bytes, f->base, ret_row) ? ERR_OK : ERR_CORRUPT;
}

static err_t index_file_append(struct index_file *f, const struct index_row *rows, uint32_t count)
{
    uint8_t bytes[INDEX_BUFFER_ROWS * ROW_BYTES];
    ASSERT(count <= INDEX_BUFFER_ROWS);
    for (uint32_t i = 0; i < count; i++)
        row_encode(bytes + (size_t)i * ROW_BYTES, f->base, &rows[i]);
    struct iovec part = {.iov_base = bytes, .iov_len = (size_t)count * ROW_BYTES};
    uint64_t at = ((uint64_t)f->rows + 1) * ROW_BYTES;
    err_t err = f->disk->write(f->disk->self, f->file, at, &part, 1);
    if (err == ERR_OK)
        f->rows += count;
    return err;
}

/* ---- rows of the active segment ---- */

err_t index_start_buffer(struct log *log)
{
    if (log->index.rows == NULL)
        log->index.rows = calloc(INDEX_BUFFER_ROWS, sizeof(log->index.rows[0]));
    return log->index.rows == NULL ? ERR_NO_MEMORY : ERR_OK;
}

static void index_add(struct log *log, offset_t offset, uint64_t position)
{
    struct index_buffer *index = &log->index;
    const struct segment *active = log_active(log);
    if (index->broken || index->rows == NULL)
        return;
    index->rows[index->count++] = (struct index_row){
        .relative = (uint32_t)(offset - active->base),
        .position = (uint32_t)position,
        .max_timestamp = active->max_timestamp,
    };
    index->next_position = position + log->options.index_interval_bytes;
    if (index->count == INDEX_BUFFER_ROWS)
        index_flush(log);
}

void index_note(struct log *log, const struct batch_info *info, uint64_t position)
{
    if (position >= log->index.next_position)
        index_add(log, info->base_offset, position);
}

void index_close_row(struct log *log)
{
    struct index_row last;
    const struct segment *active = log_active(log);
    if (active->bytes <= log->options.index_interval_bytes || /* a small one needs no index */
        index_last(log, log->segment_count - 1, &last) != ERR_OK)
        return;
    if (last.position != active->bytes)
        index_add(log, log->end, active->bytes);
}

void index_flush(struct log *log)
{
    struct index_buffer *index = &log->index;
    struct index_file f;
    if (index->count == 0)
        return;
    offset_t base = log_active(log)->base;
    err_t err =
        index->file_rows > 0 ? index_file_open(log, base, &f) : index_file_create(log, base, &f);
    if (err == ERR_OK) {
        f.rows = index->file_rows;
        err = index_file_append(&f, index->rows, index->count);
        index_file_close(&f);
    }
    if (err == ERR_OK)
        index->file_rows += index->count;
    else
        index->broken = true;
    index->count = 0;
}

/* ---- looking up ---- */

static bool row_is_floor(const struct index_row *row, bool by_time, int64_t key, offset_t base)
{
    return by_time ? row->max_timestamp < key : base + row->relative <= key;
}

static err_t index_file_floor(const struct index_file *f, bool by_time, int64_t key,
                              struct index_row *ret_row)
{
    uint32_t low = 0, high = f->rows;
    *ret_row = index_origin;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct index_row row;
        err_t err = index_file_row(f, middle, &row);
        if (err != ERR_OK)
            return err;
        if (row_is_floor(&row, by_time, key, f->base)) {
            *ret_row = row;
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return ERR_OK;
}

static bool index_buffer_floor(const struct log *log, bool by_time, int64_t key,
                               struct index_row *ret_row)
{
    const struct index_buffer *index = &log->index;
    for (uint32_t i = index->count; i > 0; i--) {
        if (row_is_floor(&index->rows[i - 1], by_time, key, log_active(log)->base)) {
            *ret_row = index->rows[i - 1];
            return true;
        }
    }
    return false;
}

/* A missing file is an empty one while nothing needs it to be there. */
static bool index_may_be_missing(const struct log *log, size_t idx)
{
    if (idx + 1 == log->segment_count)
        return log->index.file_rows == 0;
    return log->segments[idx].bytes <= log->options.index_interval_bytes;
}

static err_t index_floor_once(struct log *log, size_t idx, bool by_time, int64_t key,
                              struct index_row *ret_row)
{
    struct index_file f;
    if (idx + 1 == log->segment_count && index_buffer_floor(log, by_time, key, ret_row))
        return ERR_OK;
    *ret_row = index_origin;
    if (index_may_be_missing(log, idx))
        return ERR_OK;
    err_t err = index_file_open(log, log->segments[idx].base, &f);
    if (err != ERR_OK)
        return err;
    if (idx + 1 == log->segment_count)
        f.rows = log->index.file_rows;
    err = index_file_floor(&f, by_time, key, ret_row);
    index_file_close(&f);
    if (err == ERR_OK && ret_row->position > log->segments[idx].bytes)
        err = ERR_CORRUPT;
    return err;
}

void index_floor(struct log *log, size_t idx, bool by_time, int64_t key, struct index_row *ret_row)
{
    if (index_floor_once(log, idx, by_time, key, ret_row) == ERR_OK)
        return;
    if (index_rebuild(log, idx) != ERR_OK ||
        index_floor_once(log, idx, by_time, key, ret_row) != ERR_OK)
        *ret_row = index_origin; /* on a full disk, say: slow, but right */
}

err_t index_last(struct log *log, size_t idx, struct index_row *ret_row)
{
    const struct index_buffer *index = &log->index;
    bool active = idx + 1 == log->segment_count;
    struct index_file f;
    *ret_row = index_origin;
    if (active && index->count > 0) {
        *ret_row = index->rows[index->count - 1];
        return ERR_OK;
    }
    if (index_may_be_missing(log, idx))
        return ERR_OK;
    err_t err = index_file_open(log, log->segments[idx].base, &f);
    if (err != ERR_OK)
        return err;
    uint32_t rows = active ? index->file_rows : f.rows;
    if (rows > 0)
        err = index_file_row(&f, rows - 1, ret_row);
    index_file_close(&f);
    if (err == ERR_OK && ret_row->position > log->segments[idx].bytes)
        err = ERR_CORRUPT;
    return err;
}

/* ---- mending ---- */

/* Counts the good rows up to limit, from the first on. */
static err_t index_file_good_rows(const struct index_file *f, offset_t limit,
                                  struct index_row *ret_last, uint32_t *ret_rows)
{
    uint8_t bytes[ROWS_READ_MAX * ROW_BYTES];
    size_t got = 0;
    struct index_row last = index_origin, row;
    uint32_t rows = 0;
    for (; rows < f->rows; rows++) {
        uint32_t place = rows % ROWS_READ_MAX;
        err_t err = ERR_OK;
        if (place == 0)
            err = f->disk->read(f->disk->self, f->file, ((uint64_t)rows + 1) * ROW_BYTES, bytes,
                                sizeof(bytes), &got);
        if (err != ERR_OK)
            return err;
        if (got < ((size_t)place + 1) * ROW_BYTES ||
            !row_decode(bytes + (size_t)place * ROW_BYTES, f->base, &row))
            break;
        if (f->base + row.relative > limit || row.position <= last.position ||
            row.relative < last.relative || row.max_timestamp < last.max_timestamp)
            break;
        last = row;
    }
    *ret_last = last;
    *ret_rows = rows;
    return ERR_OK;
}

err_t index_trim(struct log *log, size_t idx, offset_t limit, struct index_row *ret_last,
                 uint32_t *ret_rows)
{
    struct index_file f;
    struct index_row last;
    uint32_t rows;
    *ret_last = index_origin;
    *ret_rows = 0;
    err_t err = index_file_open(log, log->segments[idx].base, &f);
    if (err == ERR_NOT_FOUND || err == ERR_CORRUPT)
        return ERR_OK; /* the next row makes the file anew */
    if (err != ERR_OK)
        return err;
    err = index_file_good_rows(&f, limit, &last, &rows);
    if (err == ERR_OK && rows < f.rows) {
        /* Synced: a row that came back after a power cut would be good by its CRC, and wrong. */
        err = f.disk->set_size(f.disk->self, f.file, ((uint64_t)rows + 1) * ROW_BYTES);
        if (err == ERR_OK)
            err = f.disk->sync_now(f.disk->self, f.file);
    }
    index_file_close(&f);
    if (err == ERR_OK) {
        *ret_last = last;
        *ret_rows = rows;
    }
    return err;
}

static err_t index_rebuild_rows(struct log *log, size_t idx, env_file file, struct index_file *f,
                                struct index_row *ret_last)
{
    const struct segment *segment = &log->segments[idx];
    struct index_row rows[INDEX_BUFFER_ROWS];
    uint32_t count = 0;
    uint64_t next = log->options.index_interval_bytes;
    int64_t max_timestamp = -1;
    struct scanner scan;
    struct batch_info info;
    scanner_init(&scan, log->disk, file, 0, segment->bytes, NULL);
    scanner_expect(&scan, segment->base, log->options.compacted);
    err_t err;
    while ((err = scanner_header(&scan, &info)) == ERR_OK) {
        if (scan.at >= next) {
            *ret_last = rows[count++] = (struct index_row){
                .relative = (uint32_t)(info.base_offset - segment->base),
                .position = (uint32_t)scan.at,
                .max_timestamp = max_timestamp,
            };
            next = scan.at + log->options.index_interval_bytes;
        }
        if (count == INDEX_BUFFER_ROWS) {
            err = index_file_append(f, rows, count);
            if (err != ERR_OK)
                break;
            count = 0;
        }
        max_timestamp = info.max_timestamp > max_timestamp ? info.max_timestamp : max_timestamp;
        scanner_skip(&scan, &info);
    }
    if (err == ERR_NOT_FOUND)
        err = count > 0 ? index_file_append(f, rows, count) : ERR_OK;
    scanner_fini(&scan);
    return err;
}

err_t index_rebuild(struct log *log, size_t idx)
{
    struct index_row last = index_origin;
    struct index_file f;
    env_file file;
    err_t err = segment_borrow(log, idx, &file);
    if (err != ERR_OK)
        return err;
    err = index_file_create(log, log->segments[idx].base, &f);
    if (err == ERR_OK) {
        err = index_rebuild_rows(log, idx, file, &f, &last);
        index_file_close(&f);
    }
    segment_return(log, idx, file);
    if (err == ERR_OK && idx + 1 == log->segment_count)
        index_continue(log, &last, f.rows);
    return err;
}

void index_continue(struct log *log, const struct index_row *last, uint32_t rows)
{
    struct index_buffer *index = &log->index;
    index->count = 0;
    index->file_rows = rows;
    index->next_position = (uint64_t)last->position + log->options.index_interval_bytes;
    index->broken = false;
}

void index_resume(struct log *log)
{
    struct index_file f;
    struct index_row last = index_origin;
    index_continue(log, &last, 0);
    err_t err = index_file_open(log, log_active(log)->base, &f);
    if (err == ERR_OK) {
        uint32_t rows = f.rows;
        if (rows > 0)
            err = index_file_row(&f, rows - 1, &last);
        index_file_close(&f);
        if (err == ERR_OK && last.position <= log_active(log)->bytes) {
            index_continue(log, &last, rows);
            return;
        }
    } else if (err == ERR_NOT_FOUND &&
               log_active(log)->bytes <= log->options.index_interval_bytes) {
        return;
    }
    if (index_rebuild(log, log->segment_count - 1) != ERR_OK)
        log->index.broken = true;
}
