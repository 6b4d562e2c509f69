#include "quorum/store.h"

#include <stdlib.h>

#include "base/logger.h"

static const struct log_options default_options = {
    .segment_bytes = 8 << 20,
    .index_interval_bytes = 4096,
    .preallocate_bytes = 1 << 20,
    .written_zeros = true,
};

/* ---- terms ---- */

static err_t spans_add(struct store *store, uint64_t term, uint64_t index)
{
    if (store->span_count > 0 && store->spans[store->span_count - 1].term == term)
        return ERR_OK;
    if (store->span_count == store->span_capacity) {
        size_t capacity = store->span_capacity == 0 ? 64 : store->span_capacity * 2;
        struct term_span *spans = realloc(store->spans, capacity * sizeof *spans);
        if (spans == NULL)
            return ERR_NO_MEMORY;
        store->spans = spans;
        store->span_capacity = capacity;
    }
    store->spans[store->span_count++] = (struct term_span){term, index};
    return ERR_OK;
}

static void spans_cut(struct store *store, uint64_t index)
{
    while (store->span_count > 0 && store->spans[store->span_count - 1].start >= index)
        store->span_count--;
}

/* Terms whose entries are all below first are forgotten. */
static void spans_drop(struct store *store, uint64_t first)
{
    size_t dropped = 0;
    while (dropped + 1 < store->span_count && store->spans[dropped + 1].start <= first)
        dropped++;
    store->span_count -= dropped;
    memmove(store->spans, store->spans + dropped, store->span_count * sizeof *store->spans);
}

uint64_t store_term(const struct store *store, uint64_t index)
{
    if (index == 0)
        return 0;
    if (index >= store_first(store) && index < (uint64_t)log_end(store->log)) {
        size_t low = 0;
        size_t high = store->span_count;
        while (high - low > 1) {
            size_t middle = low + (high - low) / 2;
            if (store->spans[middle].start <= index)
                low = middle;
            else
                high = middle;
        }
        ASSERT(high > low && store->spans[low].start <= index);
        return store->spans[low].term;
    }
    return index == store->snapshot_index ? store->snapshot_term : 0;
}

/* ---- open ---- */

struct loading {
    struct store *store;
    struct store_loaded *loaded;
};

static bool grow(void **memory, size_t *capacity, size_t needed, size_t size)
{
    if (needed <= *capacity)
        return true;
    size_t more = *capacity == 0 ? 256 : *capacity * 2;
    while (more < needed)
        more *= 2;
    void *grown = realloc(*memory, more * size);
    if (grown == NULL)
        return false;
    *memory = grown;
    *capacity = more;
    return true;
}

static err_t loading_visit(void *context, const struct batch_info *info, const uint8_t *batch)
{
    struct loading *loading = context;
    struct store_loaded *loaded = loading->loaded;
    struct entry entry;
    err_t err = entry_decode(info, batch, &entry);
    if (err != ERR_OK)
        return err;
    if (loaded->entry_count > 0) {
        const struct entry *before = &loaded->entries[loaded->entry_count - 1];
        if (entry.index != before->index + 1 || entry.term < before->term)
            return ERR_CORRUPT;
    }
    void *entries = loaded->entries;
    void *data = loaded->data;
    bool ok = grow(&entries, &loaded->entry_capacity, loaded->entry_count + 1, sizeof entry) &&
              grow(&data, &loaded->data_capacity, loaded->data_len + entry.data.len, 1);
    loaded->entries = entries;
    loaded->data = data;
    if (!ok)
        return ERR_NO_MEMORY;
    memcpy(loaded->data + loaded->data_len, entry.data.data, entry.data.len);
    entry.data.data = NULL; /* data may move yet: set when all is read */
    loaded->data_len += entry.data.len;
    loaded->entries[loaded->entry_count++] = entry;
    return spans_add(loading->store, entry.term, entry.index);
}

static void loaded_point(struct store_loaded *loaded)
{
    size_t at = 0;
    for (size_t i = 0; i < loaded->entry_count; i++) {
        loaded->entries[i].data.data = loaded->data + at;
        at += loaded->entries[i].data.len;
    }
}

void store_loaded_fini(struct store_loaded *loaded)
{
    free(loaded->entries);
    free(loaded->data);
    free(loaded->snapshot);
    *loaded = (struct store_loaded){0};
}

static err_t load_snapshot(struct store *store, struct store_loaded *loaded)
{
    uint64_t index = 0;
    uint64_t term = 0;
    size_t len = 0;
    err_t err = snapshot_find(store->disk, &index, &term);
    if (err != ERR_OK || index == 0)
        return err;
    err = snapshot_read(store->disk, index, term, &loaded->snapshot, &len);
    if (err == ERR_OK)
        err = snapshot_decode((struct bytes){loaded->snapshot, len}, &loaded->head, &loaded->image);
    if (err == ERR_OK && (loaded->head.index != index || loaded->head.term != term))
        err = ERR_CORRUPT;
    if (err != ERR_OK) {
        log_error("quorum: the metadata snapshot at %llu is unreadable: %s",
                  (unsigned long long)index, err_sentence(err));
        return err;
    }
    store->snapshot_index = index;
    store->snapshot_term = term;
    return ERR_OK;
}

/* Snapshot and log must join. A log that lacks (index, term) of the snapshot is of the time before
 * it was installed, and goes whole (R24). */
static err_t join_snapshot(struct store *store, struct store_loaded *loaded)
{
    uint64_t first = (uint64_t)log_start(store->log);
    uint64_t end = (uint64_t)log_end(store->log);
    uint64_t index = store->snapshot_index;
    if (first == end && end != index + 1)
        return log_reset(store->log, (offset_t)(index + 1)); /* new, or installed just now */
    if (first > index + 1)
        return ERR_CORRUPT; /* the snapshot between was lost */
    if (index == 0 || first == index + 1 ||
        (index < end && store_term(store, index) == store->snapshot_term))
        return ERR_OK;
    log_warn("quorum: the metadata log up to %llu is replaced by the snapshot at %llu",
             (unsigned long long)(end - 1), (unsigned long long)index);
    loaded->entry_count = 0;
    store->span_count = 0;
    return log_reset(store->log, (offset_t)(index + 1));
}

err_t store_open(struct env *env, const struct log_options *options, struct log_upcalls upcalls,
                 struct store *ret_store, struct store_loaded *ret_loaded)
{
    struct store *store = ret_store;
    *store = (struct store){.env = env, .disk = &env->disks[0]};
    *ret_loaded = (struct store_loaded){0};
    struct loading loading = {store, ret_loaded};
    err_t err = store_inspect(store->disk);
    if (err == ERR_OK)
        err = load_snapshot(store, ret_loaded);
    if (err == ERR_OK) {
        struct log_recovery recovery;
        struct log_open_args args = {
            .env = env,
            .disk = store->disk,
            .directory = STORE_DIRECTORY,
            .options = options != NULL ? options : &default_options,
            .upcalls = upcalls,
            .visit = loading_visit,
            .visit_context = &loading,
            .visit_all = true,
        };
        err = log_open(&args, &store->log, &recovery);
    }
    if (err == ERR_OK)
        err = join_snapshot(store, ret_loaded);
    if (err != ERR_OK) {
        store_close(store, false);
        store_loaded_fini(ret_loaded);
        return err;
    }
    loaded_point(ret_loaded);
    snapshot_remove_older(store->disk, store->snapshot_index); /* what a crash brought back */
    for (size_t i = 0; i < ret_loaded->entry_count; i++) {
        if (ret_loaded->entries[i].index <= store->snapshot_index)
            continue;
        store->bytes_since_snapshot += ret_loaded->entries[i].data.len;
        store->entries_since_snapshot++;
    }
    return ERR_OK;
}

void store_close(struct store *store, bool sync)
{
    log_close(store->log, sync);
    free(store->spans);
    *store = (struct store){0};
}

/* ---- ends ---- */

uint64_t store_first(const struct store *store)
{
    return (uint64_t)log_start(store->log);
}

uint64_t store_last(const struct store *store)
{
    return (uint64_t)log_end(store->log) - 1;
}

uint64_t store_flushed(const struct store *store)
{
    return (uint64_t)log_flushed_end(store->log) - 1;
}

/* ---- changes ---- */

err_t store_write(struct store *store, const struct entry *entries, size_t count)
{
    size_t capacity = 0;
    for (size_t i = 0; i < count; i++)
        capacity += entry_batch_bytes_max(entries[i].data.len);
    uint8_t *batches = malloc(capacity);
    if (batches == NULL)
        return ERR_NO_MEMORY;
    int64_t timestamp = store->env->clock.wall_ms(store->env->clock.self);
    size_t used = 0;
    size_t data_bytes = 0;
    err_t err = ERR_OK;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        struct entry entry = entries[i];
        ASSERT(entry.index == store_last(store) + 1 + i);
        entry.flushed = store_flushed(store);
        used += entry_encode(&entry, timestamp, batches + used);
        data_bytes += entry.data.len;
        err = spans_add(store, entry.term, entry.index);
    }
    if (err == ERR_OK) {
        struct iovec part = {batches, used};
        err = log_append(store->log, &part, 1);
    }
    free(batches);
    if (err != ERR_OK)
        return err;
    store->bytes_since_snapshot += data_bytes;
    store->entries_since_snapshot += count;
    return ERR_OK;
}

err_t store_append(struct store *store, const struct entry *entries, size_t count)
{
    err_t err = store_write(store, entries, count);
    if (err == ERR_OK)
        log_flush(store->log);
    return err;
}

err_t store_truncate(struct store *store, uint64_t index)
{
    ASSERT(index > store->snapshot_index);
    err_t err = log_truncate(store->log, (offset_t)index);
    if (err != ERR_OK)
        return err;
    ASSERT((uint64_t)log_end(store->log) == index); /* each batch is one entry */
    spans_cut(store, index);
    return ERR_OK;
}

err_t store_reset(struct store *store, uint64_t index, uint64_t term)
{
    err_t err = log_reset(store->log, (offset_t)(index + 1));
    if (err != ERR_OK)
        return err;
    store->span_count = 0;
    store->snapshot_index = index;
    store->snapshot_term = term;
    store->bytes_since_snapshot = 0;
    store->entries_since_snapshot = 0;
    snapshot_remove_older(store->disk, index);
    return ERR_OK;
}

err_t store_snapshot_taken(struct store *store, uint64_t index, uint64_t term, uint64_t keep_from)
{
    ASSERT(index > store->snapshot_index);
    ASSERT(keep_from <= index + 1);
    uint64_t entries = store_last(store) - index;
    if (store->entries_since_snapshot > 0)
        store->bytes_since_snapshot =
            store->bytes_since_snapshot / store->entries_since_snapshot * entries;
    store->entries_since_snapshot = entries;
    store->snapshot_index = index;
    store->snapshot_term = term;
    err_t err = ERR_OK;
    /* An observer applies what is not flushed yet: that part of its log stays. */
    if (keep_from > store_flushed(store) + 1)
        keep_from = store_flushed(store) + 1;
    if (keep_from > store_first(store))
        err = log_drop_prefix(store->log, (offset_t)keep_from);
    if (err != ERR_OK)
        return err;
    spans_drop(store, store_first(store));
    snapshot_remove_older(store->disk, index);
    return ERR_OK;
}

/* ---- reading ---- */

struct reading {
    store_visit visit;
    void *context;
};

err_t store_read(struct store *store, uint64_t index, uint64_t last, size_t bytes_max,
                 store_visit visit, void *context, struct frame **ret_frame)
{
    *ret_frame = NULL;
    if (index > last)
        return ERR_OK;
    struct log_read_args args = {
        .offset = (offset_t)index,
        .limit = (offset_t)(last + 1),
        .bytes_max = bytes_max,
    };
    struct frame *frame = NULL;
    err_t err = log_read(store->log, &args, &frame);
    if (err != ERR_OK || frame == NULL)
        return err;
    for (size_t at = 0; at < frame->used && err == ERR_OK;) {
        struct batch_info info;
        struct entry entry;
        err = batch_check_crc(frame->bytes + at, frame->used - at, &info);
        if (err == ERR_OK)
            err = entry_decode(&info, frame->bytes + at, &entry);
        if (err != ERR_OK)
            break;
        visit(context, &entry);
        at += info.bytes;
    }
    if (err != ERR_OK) {
        frame_unref(frame);
        return err;
    }
    *ret_frame = frame;
    return ERR_OK;
}
