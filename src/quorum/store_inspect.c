/* Tells rot from a torn tail. Recovery cuts the log at the first bad batch above its recovery
 * point, even when good ones follow: after a power cut they may. But each of our entries says how
 * far the log was known to be durable when it was written: a bad entry at or below that was
 * acknowledged, and cutting it would let this voter forget a vote for it (R24). */
#include <stdlib.h>

#include "quorum/store.h"

enum { SEGMENTS_MAX = 4096, SEGMENT_NAME_DIGITS = 20, SEGMENT_BYTES_MAX = 1 << 30 };

struct segments {
    uint64_t bases[SEGMENTS_MAX];
    size_t count;
    bool too_many;
};

static void segments_look(void *context, const char *entry, bool is_directory)
{
    struct segments *segments = context;
    char *end = NULL;
    uint64_t base = strtoull(entry, &end, 10);
    if (is_directory || end - entry != SEGMENT_NAME_DIGITS || strcmp(end, ".log") != 0)
        return;
    if (segments->count == SEGMENTS_MAX)
        segments->too_many = true;
    else
        segments->bases[segments->count++] = base;
}

static int segments_compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static err_t segment_read(struct env_disk *disk, uint64_t base, uint8_t **ret_data, size_t *ret_len)
{
    char name[sizeof STORE_DIRECTORY + 32];
    (void)snprintf(name, sizeof name, STORE_DIRECTORY "/%020llu.log", (unsigned long long)base);
    env_file file;
    err_t err = disk->open(disk->self, name, 0, &file);
    if (err != ERR_OK)
        return err;
    uint64_t size = 0;
    size_t got = 0;
    uint8_t *data = NULL;
    /* Only what is durable counts, not what a crash left in the page cache (R14). */
    err = disk->sync_now(disk->self, file);
    if (err == ERR_OK)
        err = disk->drop_cache(disk->self, file);
    if (err == ERR_OK)
        err = disk->size(disk->self, file, &size);
    if (err == ERR_OK && size > SEGMENT_BYTES_MAX)
        err = ERR_CORRUPT;
    if (err == ERR_OK && (data = malloc(size + 1)) == NULL)
        err = ERR_NO_MEMORY;
    if (err == ERR_OK)
        err = disk->read(disk->self, file, 0, data, size, &got);
    disk->close(disk->self, file);
    if (err != ERR_OK) {
        free(data);
        return err;
    }
    *ret_data = data;
    *ret_len = got;
    return ERR_OK;
}

struct inspection {
    uint64_t next; /* index that must come; 0: not known yet */
    bool bad;      /* it did not: what follows is looked through for good ones */
};

static bool all_zero(const uint8_t *data, size_t len)
{
    return len == 0 || (data[0] == 0 && memcmp(data, data + 1, len - 1) == 0);
}

static bool entry_at(const uint8_t *data, size_t len, struct entry *ret_entry, size_t *ret_bytes)
{
    struct batch_info info;
    if (batch_check_crc(data, len, &info) != ERR_OK ||
        entry_decode(&info, data, ret_entry) != ERR_OK)
        return false;
    *ret_bytes = info.bytes;
    return true;
}

/* Walks a segment. False: a later good entry says that the bad one was durable. */
static bool segment_inspect(struct inspection *at, const uint8_t *data, size_t len)
{
    enum { MAGIC_AT = 16 };
    struct entry entry;
    size_t bytes = 0;
    for (size_t pos = 0; pos + BATCH_HEADER_BYTES <= len;) {
        if (!at->bad) {
            if (entry_at(data + pos, len - pos, &entry, &bytes) && entry.index == at->next) {
                at->next++;
                pos += bytes;
                continue;
            }
            if (all_zero(data + pos, len - pos))
                return true;
            at->bad = true;
        }
        /* Any place may begin a good one: the bad one's length is worth nothing. */
        if (data[pos + MAGIC_AT] == 2 && entry_at(data + pos, len - pos, &entry, &bytes)) {
            if (entry.flushed >= at->next && entry.index >= at->next)
                return false;
            pos += bytes;
        } else {
            pos++;
        }
    }
    return true;
}

err_t store_inspect(struct env_disk *disk)
{
    struct segments *segments = calloc(1, sizeof *segments);
    if (segments == NULL)
        return ERR_NO_MEMORY;
    err_t err = disk->list(disk->self, STORE_DIRECTORY, segments_look, segments);
    if (err == ERR_OK && segments->too_many)
        err = ERR_CORRUPT;
    qsort(segments->bases, segments->count, sizeof segments->bases[0], segments_compare);
    struct inspection at = {0};
    for (size_t i = 0; i < segments->count && err == ERR_OK; i++) {
        uint8_t *data = NULL;
        size_t len = 0;
        err = segment_read(disk, segments->bases[i], &data, &len);
        if (err != ERR_OK)
            break;
        if (i == 0)
            at.next = segments->bases[i];
        if (segments->bases[i] != at.next)
            at.bad = true; /* the segment before lacks its end, or this one is of another life */
        if (!segment_inspect(&at, data, len))
            err = ERR_CORRUPT;
        free(data);
    }
    free(segments);
    return err == ERR_NOT_FOUND ? ERR_OK : err;
}
