#include <stdlib.h>

#include "log/log_internal.h"

void scanner_init(struct scanner *scan, struct env_disk *disk, env_file file, uint64_t at,
                  uint64_t end, uint8_t *window)
{
    *scan = (struct scanner){
        .disk = disk,
        .file = file,
        .at = at,
        .end = end,
        .expected = -1,
        .gaps = true, /* who checks nothing here checks it himself, or wants to see all */
        .window = window,
        .window_bytes = window == NULL ? 0 : SCAN_WINDOW_BYTES,
        .window_owned = window == NULL,
    };
}

void scanner_fini(struct scanner *scan)
{
    if (scan->window_owned)
        free(scan->window);
    *scan = (struct scanner){0};
}

/* The window holds at least want bytes from scan->at, or all up to scan->end. */
static err_t scanner_load(struct scanner *scan, size_t want)
{
    uint64_t left = scan->at < scan->end ? scan->end - scan->at : 0;
    if (want > left)
        want = (size_t)left;
    if (scan->at >= scan->loaded_at && scan->at + want <= scan->loaded_at + scan->loaded)
        return ERR_OK;
    if (want > scan->window_bytes || scan->window == NULL) {
        size_t bytes = want > SCAN_BUFFER_BYTES ? want : SCAN_BUFFER_BYTES;
        ASSERT(scan->window_owned);
        uint8_t *window = realloc(scan->window, bytes);
        if (window == NULL)
            return ERR_NO_MEMORY;
        scan->window = window;
        scan->window_bytes = bytes;
    }
    scan->loaded = 0;
    size_t ask = left < scan->window_bytes ? (size_t)left : scan->window_bytes;
    size_t got = 0;
    err_t err = scan->disk->read(scan->disk->self, scan->file, scan->at, scan->window, ask, &got);
    if (err != ERR_OK)
        return err;
    scan->loaded_at = scan->at;
    scan->loaded = got;
    scan->bytes_read += got;
    return got >= want ? ERR_OK : ERR_CORRUPT; /* the file is shorter than it should be */
}

static const uint8_t *scanner_data(const struct scanner *scan)
{
    return scan->window + (scan->at - scan->loaded_at);
}

static size_t scanner_have(const struct scanner *scan)
{
    return (size_t)(scan->loaded_at + scan->loaded - scan->at);
}

err_t scanner_header(struct scanner *scan, struct batch_info *ret_info)
{
    if (scan->at >= scan->end)
        return ERR_NOT_FOUND;
    err_t err = scanner_load(scan, BATCH_HEADER_BYTES);
    if (err != ERR_OK)
        return err;
    const uint8_t *data = scanner_data(scan);
    size_t have = scanner_have(scan);
    /* Zeros are what a segment has after its last batch (R13): length 0 is the end. Fewer bytes
     * than a length needs can't hold a batch either. */
    if (have < BATCH_PREFIX_BYTES || get_u32(data + 8) == 0)
        return scan->exact ? ERR_CORRUPT : ERR_NOT_FOUND;
    err = batch_peek(data, have, ret_info);
    if (err != ERR_OK && err != ERR_SHORT)
        return ERR_CORRUPT;
    if (have < BATCH_HEADER_BYTES || ret_info->bytes > scan->end - scan->at)
        return ERR_CORRUPT;
    if (scan->exact && (scan->gaps ? ret_info->base_offset < scan->expected
                                   : ret_info->base_offset != scan->expected))
        return ERR_CORRUPT;
    return ERR_OK;
}

err_t scanner_batch(struct scanner *scan, struct batch_info *ret_info, const uint8_t **ret_batch)
{
    err_t err = scanner_header(scan, ret_info);
    if (err != ERR_OK)
        return err;
    err = scanner_load(scan, ret_info->bytes);
    if (err != ERR_OK)
        return err;
    const uint8_t *data = scanner_data(scan);
    if (batch_check_crc(data, ret_info->bytes, ret_info) != ERR_OK)
        return ERR_CORRUPT;
    *ret_batch = data;
    return ERR_OK;
}

err_t scanner_rest_is_zero(struct scanner *scan, bool *ret_zero)
{
    uint64_t at = scan->at;
    *ret_zero = true;
    err_t err = ERR_OK;
    while (scan->at < scan->end && *ret_zero && err == ERR_OK) {
        err = scanner_load(scan, 1);
        if (err != ERR_OK)
            break;
        const uint8_t *data = scanner_data(scan);
        size_t have = scanner_have(scan);
        /* Equal to itself one byte on, and beginning with zero: all zeros, at memcmp's speed. */
        *ret_zero = data[0] == 0 && memcmp(data, data + 1, have - 1) == 0;
        scan->at += have;
    }
    scan->at = at;
    return err;
}

err_t log_scan_file(struct env_disk *disk, const char *name, log_visit visit, void *context,
                    uint64_t *ret_bytes)
{
    env_file file;
    uint64_t size;
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    struct scanner scan = {0};
    err = disk->size(disk->self, file, &size);
    if (err != ERR_OK)
        goto done;
    scanner_init(&scan, disk, file, 0, size, NULL);
    for (;;) {
        struct batch_info info;
        const uint8_t *batch;
        err = scanner_batch(&scan, &info, &batch);
        if (err != ERR_OK) {
            err = err == ERR_NOT_FOUND ? ERR_OK : err;
            break;
        }
        err = visit(context, &info, batch);
        if (err != ERR_OK)
            break;
        scanner_skip(&scan, &info);
    }
    *ret_bytes = scan.at;
done:
    scanner_fini(&scan);
    disk->close(disk->self, file);
    return err;
}
