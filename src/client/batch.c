#include <stdlib.h>
#include <string.h>

#include "client/core.h"

/* Frames of full size come and go by the thousand: a few are kept, since fresh pages cost more than
 * what is written into them. */
static struct frame *client_frame_new(struct client *client, size_t capacity)
{
    if (capacity == client->config.batch_bytes && client->spare_count > 0)
        return client->spares[--client->spare_count];
    return frame_new(capacity);
}

static void client_frame_drop(struct client *client, struct frame *frame)
{
    bool spare = frame->capacity == client->config.batch_bytes &&
                 client->spare_count < CLIENT_SPARE_FRAMES_MAX &&
                 atomic_load_explicit(&frame->refs, memory_order_acquire) == 1;
    if (spare)
        client->spares[client->spare_count++] = frame;
    else
        frame_unref(frame);
}

void client_spares_free(struct client *client)
{
    while (client->spare_count > 0)
        frame_unref(client->spares[--client->spare_count]);
}

/* ---- buffer.memory ---- */

static err_t client_charge(struct client *client, struct client_batch *batch, size_t bytes)
{
    /* One batch is taken in any case: a small buffer makes us slow, not dead. */
    bool over =
        client->buffer_used > 0 && bytes > client->config.buffer_bytes - client->buffer_used;
    if (client->buffer_used > client->config.buffer_bytes)
        over = true;
    if (over && !client->overdraft)
        return ERR_FULL;
    client->buffer_used += bytes;
    batch->charged += bytes;
    return ERR_OK;
}

static void client_uncharge(struct client *client, struct client_batch *batch, size_t bytes)
{
    ASSERT(batch->charged >= bytes);
    batch->charged -= bytes;
    client->buffer_used -= bytes;
    if (client->buffer_used < client->config.buffer_bytes / 4 * 3)
        client->pressed = false;
}

/* ---- filling ---- */

static err_t client_batch_new(struct client *client, size_t capacity,
                              struct client_batch **ret_batch)
{
    struct client_batch *batch = calloc(1, sizeof(*batch));
    if (batch == NULL)
        return ERR_NO_MEMORY;
    err_t err = client_charge(client, batch, capacity);
    if (err == ERR_OK) {
        batch->frame = client_frame_new(client, capacity);
        if (batch->frame == NULL)
            err = ERR_NO_MEMORY;
    }
    if (err != ERR_OK) {
        client_uncharge(client, batch, batch->charged);
        free(batch);
        return err;
    }
    list_init(&batch->link);
    list_init(&batch->gather_link);
    batch_begin(&batch->builder, batch->frame->bytes, capacity);
    batch->base_sequence = -1;
    batch->created_ns = client_now(client);
    batch->deadline_ns = batch->created_ns + ENV_MS(client->config.delivery_timeout_ms);
    *ret_batch = batch;
    return ERR_OK;
}

/* Into a larger frame, to batch.size. */
static err_t client_batch_grow(struct client *client, struct client_batch *batch)
{
    size_t capacity = batch->builder.capacity, most = client->config.batch_bytes;
    if (capacity >= most)
        return ERR_FULL;
    size_t larger = capacity < most / 4 ? capacity * 4 : most;
    err_t err = client_charge(client, batch, larger - capacity);
    if (err != ERR_OK)
        return err;
    struct frame *frame = client_frame_new(client, larger);
    if (frame == NULL) {
        client_uncharge(client, batch, larger - capacity);
        return ERR_NO_MEMORY;
    }
    memcpy(frame->bytes, batch->builder.data, batch->builder.used);
    client_frame_drop(client, batch->frame);
    batch->frame = frame;
    batch->builder.data = frame->bytes;
    batch->builder.capacity = larger;
    return ERR_OK;
}

/* Most programs have no use for opaques: only those that do pay for them. */
static err_t client_batch_room(struct client *client, struct client_batch *batch,
                               const void *opaque)
{
    uint32_t count = (uint32_t)batch->builder.count;
    if (opaque == NULL && batch->opaques == NULL)
        return ERR_OK;
    if (count < batch->opaque_room)
        return ERR_OK;
    uint32_t room = count < 32 ? 64 : count * 2;
    size_t more = (room - batch->opaque_room) * sizeof(void *);
    err_t err = client_charge(client, batch, more);
    if (err != ERR_OK)
        return err;
    void **opaques = realloc(batch->opaques, room * sizeof(void *));
    if (opaques == NULL) {
        client_uncharge(client, batch, more);
        return ERR_NO_MEMORY;
    }
    memset(opaques + batch->opaque_room, 0, more);
    batch->opaques = opaques;
    batch->opaque_room = room;
    return ERR_OK;
}

static err_t client_batch_put(struct client *client, struct client_batch *batch,
                              const struct client_record *record)
{
    err_t err = client_batch_room(client, batch, record->opaque);
    if (err != ERR_OK)
        return err;
    struct batch_builder *builder = &batch->builder;
    err = batch_add(builder, record->timestamp, record->key, record->value, record->headers,
                    record->header_count);
    while (err == ERR_FULL) {
        if (client_batch_grow(client, batch) != ERR_OK)
            return ERR_FULL;
        err = batch_add(builder, record->timestamp, record->key, record->value, record->headers,
                        record->header_count);
    }
    if (err != ERR_OK)
        return err;
    if (batch->opaques != NULL)
        batch->opaques[builder->count - 1] = record->opaque;
    batch->keyed = batch->keyed || record->key.data != NULL;
    return ERR_OK;
}

static size_t client_record_bytes_max(const struct client_record *record)
{
    size_t bytes = batch_record_bytes_max(record->key.len, record->value.len);
    for (int32_t i = 0; i < record->header_count; i++)
        bytes += 10 + record->headers[i].name.len + record->headers[i].value.len;
    return bytes;
}

err_t client_batch_add(struct client *client, struct client_batch **batch, struct list_node *sealed,
                       uint32_t batch_bytes, const struct client_record *record)
{
    if (*batch != NULL) {
        err_t err = client_batch_put(client, *batch, record);
        if (err != ERR_FULL)
            return err;
    }
    size_t least = BATCH_HEADER_BYTES + client_record_bytes_max(record);
    struct client_batch *fresh;
    err_t err = client_batch_new(client, least > batch_bytes ? least : batch_bytes, &fresh);
    if (err != ERR_OK)
        return err;
    err = client_batch_put(client, fresh, record);
    if (err != ERR_OK) {
        client_batch_free(client, fresh);
        return err;
    }
    if (*batch != NULL)
        list_push_back(sealed, &(*batch)->link);
    *batch = fresh;
    return ERR_OK;
}

/* ---- what becomes of it ---- */

err_t client_batch_stamp(struct client *client, struct client_batch *batch)
{
    struct client_partition *p = batch->partition;
    bool idempotent = client->config.idempotent;
    if (batch->id_generation == p->id_generation)
        return ERR_OK; /* sent again as it was: that is what makes it a duplicate */
    if (atomic_load_explicit(&batch->frame->refs, memory_order_acquire) > 1) {
        /* An older sending of these bytes is not over; it keeps them. */
        struct frame *frame = client_frame_new(client, batch->builder.capacity);
        if (frame == NULL)
            return ERR_NO_MEMORY;
        memcpy(frame->bytes, batch->builder.data, batch->builder.used);
        frame_unref(batch->frame);
        batch->frame = frame;
        batch->builder.data = frame->bytes;
    }
    batch->id_generation = p->id_generation;
    batch->base_sequence = idempotent ? p->next_sequence : -1;
    size_t bytes =
        batch_finish(&batch->builder, 0, p->producer_id, p->producer_epoch, batch->base_sequence);
    batch->frame->used = (uint32_t)bytes;
    /* After the last one comes 0 again, as in Kafka. */
    if (idempotent)
        p->next_sequence = (int32_t)(((uint32_t)p->next_sequence + (uint32_t)batch->builder.count) &
                                     (uint32_t)INT32_MAX);
    return ERR_OK;
}

static void client_batch_drop_frame(struct client *client, struct client_batch *batch)
{
    if (batch->frame == NULL)
        return;
    client_frame_drop(client, batch->frame);
    batch->frame = NULL;
    client_uncharge(client, batch, batch->builder.capacity);
}

void client_batch_done(struct client *client, struct client_batch *batch, err_t err,
                       int64_t base_offset)
{
    ASSERT(!batch->in_flight);
    list_remove(&batch->link);
    list_remove(&batch->gather_link);
    client_batch_drop_frame(client, batch);
    struct client_done *done = &batch->result;
    done->next = NULL;
    done->topic = batch->topic->name;
    done->partition = batch->partition == NULL ? KARST_PARTITION_ANY : batch->partition->index;
    done->err = err;
    done->base_offset = base_offset;
    done->count = (uint32_t)batch->builder.count;
    done->opaques = batch->opaques;
    if (client->done_first == NULL)
        client->done_first = done;
    else
        client->done_last->next = done;
    client->done_last = done;
    client->queued -= done->count;
    if (client->queued == 0)
        client->flushing = false;
    client_ready(client);
}

void client_batch_free(struct client *client, struct client_batch *batch)
{
    client_batch_drop_frame(client, batch);
    client_uncharge(client, batch, batch->charged);
    free(batch->opaques);
    free(batch);
}

bool client_has_done(const struct client *client)
{
    return client->done_first != NULL;
}

struct client_done *client_take_done(struct client *client)
{
    struct client_done *first = client->done_first;
    client->done_first = client->done_last = NULL;
    return first;
}

void client_done_free(struct client *client, struct client_done *first)
{
    while (first != NULL) {
        struct client_batch *batch = container_of(first, struct client_batch, result);
        first = first->next;
        client->outstanding -= batch->result.count;
        client_batch_free(client, batch);
    }
}
