#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/assert.h"
#include "base/canary.h"
#include "metadata/state.h"

/* What a record of half a MiB can become, unpacked: a list of one-byte integers grows fourfold, one
 * of empty bytes sixteenfold. */
enum { EDIT_SCRATCH_BYTES_MAX = 16 * METADATA_ENTRY_BYTES_MAX };

struct image_edit {
    struct image *base;
    struct image *work;      /* this edit's alone; its parts are copied before they are changed */
    struct tracker *tracker; /* NULL: nobody wants the difference */
    struct arena scratch;    /* one record unpacked */
};

static struct image_edit *edit_new(struct image *base)
{
    struct image_edit *edit = metadata_alloc(sizeof(*edit));
    edit->base = image_ref(base);
    edit->work = image_copy(base);
    arena_init(&edit->scratch, EDIT_SCRATCH_BYTES_MAX);
    return edit;
}

struct image_edit *image_edit_begin(struct image *base)
{
    struct image_edit *edit = edit_new(base);
    edit->tracker = tracker_new();
    return edit;
}

struct image_edit *image_edit_begin_speculative(struct image *base)
{
    return edit_new(base);
}

static void *scratch_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void scratch_free(void *arena, void *ptr)
{
    (void)arena; /* all at once, before the next record */
    (void)ptr;
}

static err_t edit_unpack(struct image_edit *edit, const Karst__MetadataRecord *record,
                         ProtobufCMessage **ret_payload)
{
    arena_reset(&edit->scratch);
    ProtobufCAllocator allocator = {scratch_alloc, scratch_free, &edit->scratch};
    *ret_payload = protobuf_c_message_unpack(record_descriptor(record->type), &allocator,
                                             record->payload.len, record->payload.data);
    return *ret_payload == NULL ? ERR_INVALID_REQUEST : ERR_OK;
}

static err_t edit_apply_one(struct image_edit *edit, struct image *to,
                            const Karst__MetadataRecord *record)
{
    ProtobufCMessage *payload = NULL;
    err_t err = edit_unpack(edit, record, &payload);
    if (err != ERR_OK)
        return err;
    struct apply apply = {to, edit->tracker};
    return apply_record(&apply, record->type, payload);
}

/* ---- transactions (R23, KIP-868) ----
 *
 *   closed ──Begin──▶ open ──record*──▶ open ──End [all applied]──▶ closed
 *                       └────────Abort [all dropped]──────────────▶ closed
 *
 * An open one is part of the image: it may span entries, and a snapshot between them. */

static err_t edit_begin_transaction(struct image *image)
{
    if (image->pending != NULL)
        return ERR_INVALID_REQUEST;
    if (image->feature_level == 0)
        return ERR_INVALID_REQUEST;
    image->digest += image_own_pending(image)->hash;
    return ERR_OK;
}

static void edit_drop_transaction(struct image *image)
{
    image->digest -= image->pending->hash;
    image_set_pending(image, NULL);
}

static err_t edit_end_transaction(struct image_edit *edit)
{
    if (edit->work->pending == NULL)
        return ERR_INVALID_REQUEST;
    /* On a copy, so that one bad record among them leaves the edit as it was. */
    struct image *whole = image_copy(edit->work);
    struct pending *pending = whole->pending;
    shared_ref(&pending->shared);
    edit_drop_transaction(whole);
    struct bytes records = {pending->records.data, pending->records.len};
    Karst__MetadataRecord record;
    err_t err = ERR_OK;
    for (size_t at = 0; err == ERR_OK && record_next(records, &at, &record);)
        err = edit_apply_one(edit, whole, &record);
    PART_UNREF(pending);
    if (err != ERR_OK) {
        image_unref(whole);
        return err;
    }
    image_unref(edit->work);
    edit->work = whole;
    return ERR_OK;
}

static err_t edit_keep_aside(struct image_edit *edit, const Karst__MetadataRecord *record)
{
    /* A digest in the middle would speak of a state that nobody has. */
    if (record->type == KARST__RECORD_TYPE__RECORD_DIGEST ||
        record->payload.len > METADATA_ENTRY_BYTES_MAX / 2)
        return ERR_INVALID_REQUEST;
    struct image *image = edit->work;
    image->digest -= image->pending->hash;
    struct pending *pending = image_own_pending(image);
    record_list_add_packed(&pending->records, record);
    pending->hash = digest_pending(pending->hash, record);
    image->digest += pending->hash;
    return ERR_OK;
}

err_t image_edit_apply(struct image_edit *edit, const Karst__MetadataRecord *record)
{
    /* R27: what this build does not know stops it; guessing would part it from the others. */
    if (record->version < 1 || (record->version > record_version_max(record->type) &&
                                !CANARY("metadata_guesses_newer_records")))
        return ERR_UNSUPPORTED_VERSION;
    switch (record->type) {
    case KARST__RECORD_TYPE__RECORD_BEGIN_TRANSACTION:
        return edit_begin_transaction(edit->work);
    case KARST__RECORD_TYPE__RECORD_END_TRANSACTION:
        return edit_end_transaction(edit);
    case KARST__RECORD_TYPE__RECORD_ABORT_TRANSACTION:
        if (edit->work->pending == NULL)
            return ERR_INVALID_REQUEST;
        edit_drop_transaction(edit->work);
        return ERR_OK;
    default:
        if (edit->work->pending != NULL && !CANARY("metadata_shows_open_transaction"))
            return edit_keep_aside(edit, record);
        return edit_apply_one(edit, edit->work, record);
    }
}

err_t image_edit_apply_entry(struct image_edit *edit, struct bytes entry, int64_t offset)
{
    if (offset <= edit->work->offset)
        return ERR_INVALID_REQUEST;
    Karst__MetadataRecord record;
    size_t at = 0;
    while (record_next(entry, &at, &record)) {
        err_t err = image_edit_apply(edit, &record);
        if (err != ERR_OK)
            return err;
    }
    if (at != entry.len)
        return ERR_INVALID_REQUEST;
    edit->work->offset = offset;
    return ERR_OK;
}

const struct image *image_edit_view(const struct image_edit *edit)
{
    return edit->work;
}

struct image *image_edit_finish(struct image_edit *edit, struct image_difference **ret_difference)
{
    struct image *image = image_ref(edit->work);
    if (ret_difference != NULL) {
        ASSERT(edit->tracker != NULL); /* not a speculative one */
        *ret_difference = tracker_difference(edit->tracker, edit->base, image);
    }
    image_edit_abandon(edit);
    return image;
}

void image_edit_abandon(struct image_edit *edit)
{
    if (edit == NULL)
        return;
    image_unref(edit->work);
    image_unref(edit->base);
    tracker_free(edit->tracker);
    arena_fini(&edit->scratch);
    free(edit);
}
