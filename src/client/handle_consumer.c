#include "client/handle.h"

static err_t karst_tell(struct karst *karst, err_t err, const char *topic, int32_t partition)
{
    if (err == ERR_OK)
        return err;
    if (partition < 0)
        return karst_fail(karst, err, "topic %s: %s", topic, err_sentence(err));
    return karst_fail(karst, err, "%s-%d: %s", topic, partition, err_sentence(err));
}

int karst_subscribe(struct karst *karst, const char *topic, int64_t offset)
{
    pthread_mutex_lock(&karst->lock);
    err_t err = client_subscribe(karst->client, topic, offset);
    pthread_mutex_unlock(&karst->lock);
    return karst_tell(karst, err, topic, -1);
}

int karst_unsubscribe(struct karst *karst, const char *topic)
{
    pthread_mutex_lock(&karst->lock);
    err_t err = client_unsubscribe(karst->client, topic);
    pthread_mutex_unlock(&karst->lock);
    return karst_tell(karst, err, topic, -1);
}

int karst_assign(struct karst *karst, const char *topic, int32_t partition, int64_t offset)
{
    pthread_mutex_lock(&karst->lock);
    err_t err = client_assign(karst->client, topic, partition, offset);
    pthread_mutex_unlock(&karst->lock);
    return karst_tell(karst, err, topic, partition);
}

int karst_unassign(struct karst *karst, const char *topic, int32_t partition)
{
    pthread_mutex_lock(&karst->lock);
    err_t err = client_unassign(karst->client, topic, partition);
    pthread_mutex_unlock(&karst->lock);
    return karst_tell(karst, err, topic, partition);
}

int karst_seek(struct karst *karst, const char *topic, int32_t partition, int64_t offset)
{
    return karst_assign(karst, topic, partition, offset);
}

int64_t karst_position(const struct karst *karst, const char *topic, int32_t partition)
{
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&karst->lock; /* not part of the value */
    pthread_mutex_lock(lock);
    int64_t position = client_position(karst->client, topic, partition);
    pthread_mutex_unlock(lock);
    return position;
}

/* ---- records ---- */

static void karst_show(const struct client_slice *slice, const struct record *record,
                       struct karst_record *into)
{
    *into = (struct karst_record){
        .topic = slice->topic,
        .partition = slice->index,
        .offset = record->offset,
        .timestamp_ms = record->timestamp,
        .key = record->key.data,
        .key_bytes = record->key.len,
        .value = record->value.data,
        .value_bytes = record->value.len,
        .header_count = (size_t)record->header_count,
        .headers = record->headers.data,
        .headers_bytes = record->headers.len,
    };
}

/* The next batch of the slice; ERR_NOT_FOUND at its end. */
static err_t karst_next_batch(struct karst *karst)
{
    const struct client_slice *slice = karst->slice;
    while (karst->slice_at < slice->bytes) {
        err_t err = record_cursor_init(&karst->cursor, slice->data + karst->slice_at,
                                       slice->bytes - karst->slice_at);
        const struct batch_info *info = &karst->cursor.info;
        if (info->bytes > 0)
            karst->slice_at += info->bytes;
        bool wanted = info->last_offset >= karst->next && (info->attributes & BATCH_CONTROL) == 0;
        if (err != ERR_OK && err != ERR_UNSUPPORTED_VERSION)
            return err;
        if (!wanted)
            continue;
        karst->in_batch = err == ERR_OK;
        return err;
    }
    return ERR_NOT_FOUND;
}

/* Records of the slice, up to max; ERR_NOT_FOUND: it has no more. */
static err_t karst_read_slice(struct karst *karst, struct karst_record *into, int max,
                              int *ret_count)
{
    int count = 0;
    err_t err = ERR_OK;
    while (count < max) {
        struct record record;
        if (!karst->in_batch) {
            err = karst_next_batch(karst);
            if (err != ERR_OK)
                break;
        }
        err = record_cursor_next(&karst->cursor, &record);
        if (err == ERR_NOT_FOUND) {
            karst->in_batch = false;
            continue;
        }
        if (err != ERR_OK)
            break;
        if (record.offset < karst->next) /* asked for from within a batch */
            continue;
        karst->next = record.offset + 1;
        karst_show(karst->slice, &record, &into[count++]);
    }
    *ret_count = count;
    return err;
}

/* The slice at hand is over: its bytes stay until the next call, since records point to them. */
static void karst_end_slice(struct karst *karst)
{
    list_push_back(&karst->shown, &karst->slice->link);
    karst->slice = NULL;
    karst->in_batch = false;
}

/* With the lock: a slice to read, if there is one; ERR_NOT_FOUND: none. An error only when nothing
 * was returned before it. */
static err_t karst_take_slice(struct karst *karst, bool errors_too)
{
    if (karst->slice != NULL && !client_slice_current(karst->slice))
        karst_end_slice(karst); /* the program went elsewhere meanwhile */
    if (karst->slice != NULL)
        return ERR_OK;
    if (!errors_too && !client_has_slice(karst->client))
        return ERR_NOT_FOUND;
    struct client_slice *slice = client_take_slice(karst->client);
    if (slice == NULL)
        return ERR_NOT_FOUND;
    if (slice->err != ERR_OK) {
        err_t err = karst_tell(karst, slice->err, slice->topic, slice->index);
        client_slice_free(karst->client, slice);
        return err;
    }
    karst->slice = slice;
    karst->slice_at = 0;
    karst->in_batch = false;
    karst->next = slice->from;
    return ERR_OK;
}

/* Reads on from slice to slice. Returns records, 0, or a negated error. */
static int karst_read(struct karst *karst, struct karst_record *into, int max)
{
    int count = 0;
    while (count < max) {
        pthread_mutex_lock(&karst->lock);
        err_t err = karst_take_slice(karst, count == 0);
        pthread_mutex_unlock(&karst->lock);
        if (err == ERR_NOT_FOUND)
            break;
        if (err != ERR_OK)
            return -err;
        int read;
        err = karst_read_slice(karst, into + count, max - count, &read);
        count += read;
        pthread_mutex_lock(&karst->lock);
        client_slice_returned(karst->slice, err == ERR_NOT_FOUND ? karst->slice->end : karst->next);
        if (err != ERR_OK && err != ERR_NOT_FOUND)
            client_slice_broken(karst->client, karst->slice);
        pthread_mutex_unlock(&karst->lock);
        if (err != ERR_OK && err != ERR_NOT_FOUND) {
            (void)karst_tell(karst, err, karst->slice->topic, karst->slice->index);
            karst_end_slice(karst);
            return count > 0 ? count : -err;
        }
        if (err == ERR_NOT_FOUND)
            karst_end_slice(karst);
    }
    return count;
}

static void karst_hide(struct karst *karst)
{
    struct list_node *node;
    pthread_mutex_lock(&karst->lock);
    while ((node = list_pop_front(&karst->shown)) != NULL)
        client_slice_free(karst->client, list_entry(node, struct client_slice, link));
    pthread_mutex_unlock(&karst->lock);
}

int karst_consume(struct karst *karst, struct karst_record *into, int max, int timeout_ms)
{
    uint64_t deadline_ns = karst_deadline_ns(karst, timeout_ms);
    karst_hide(karst);
    if (max <= 0)
        return -karst_fail(karst, ERR_INVALID, "max is %d", max);
    for (;;) {
        (void)karst_run_done(karst);
        int count = karst_read(karst, into, max);
        pthread_mutex_lock(&karst->lock);
        bool again = count == 0 && (client_has_news(karst->client) || karst->slice != NULL ||
                                    karst_wait(karst, deadline_ns));
        karst_show_event(karst);
        pthread_mutex_unlock(&karst->lock);
        if (!again)
            return count;
    }
}

int karst_record_header(const struct karst_record *record, size_t at, const char **ret_name,
                        size_t *ret_name_bytes, const void **ret_value, size_t *ret_value_bytes)
{
    struct reader reader;
    struct record_header header = {0};
    if (at >= record->header_count)
        return ERR_INVALID;
    reader_init(&reader, record->headers, record->headers_bytes);
    for (size_t i = 0; i <= at; i++) {
        if (record_header_next(&reader, &header) != ERR_OK)
            return ERR_INVALID;
    }
    *ret_name = (const char *)header.name.data;
    *ret_name_bytes = header.name.len;
    *ret_value = header.value.data;
    *ret_value_bytes = header.value.len;
    return ERR_OK;
}
