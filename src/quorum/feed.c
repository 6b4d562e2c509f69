#include <stdlib.h>

#include "base/logger.h"
#include "quorum/internal.h"

void feed_init(struct quorum *quorum)
{
    quorum->feed.image = image_new_empty();
}

void feed_fini(struct quorum *quorum)
{
    image_edit_abandon(quorum->feed.edit);
    image_unref(quorum->feed.image);
    image_unref(quorum->feed.snapshot);
}

/* ---- to the shards ---- */

void metadata_update_unref(struct metadata_update *update)
{
    if (update == NULL || atomic_fetch_sub_explicit(&update->refs, 1, memory_order_acq_rel) != 1)
        return;
    image_unref(update->image);
    image_difference_free(update->difference);
    free(update);
}

static void publish(struct quorum *quorum, struct image_difference *difference)
{
    struct metadata_update *update = calloc(1, sizeof *update);
    ASSERT(update != NULL);
    quorum->feed.moved = true;
    atomic_init(&update->refs, quorum->config->shards);
    update->image = image_ref(quorum->feed.image);
    update->difference = difference;
    for (unsigned i = 0; i < quorum->config->shards; i++) {
        struct quorum_update *message = calloc(1, sizeof *message);
        ASSERT(message != NULL);
        message->message.type = QUORUM_UPDATE;
        message->update = update;
        quorum_post(quorum, i, &message->message);
    }
}

void feed_settle(struct quorum *quorum)
{
    struct feed *feed = &quorum->feed;
    if (feed->edit == NULL)
        return;
    struct image_difference *difference = NULL;
    struct image *before = feed->image;
    feed->image = image_edit_finish(feed->edit, &difference);
    feed->edit = NULL;
    image_unref(before);
    publish(quorum, difference);
}

void feed_replace(struct quorum *quorum, struct image *image)
{
    feed_settle(quorum); /* what was applied before it is published before it */
    struct image *before = quorum->feed.image;
    quorum->feed.image = image;
    publish(quorum, image_difference_between(before, image));
    image_unref(before);
}

/* ---- from the log ---- */

/* A log of another cluster must not be followed, however it came here. */
static bool cluster_matches(struct quorum *quorum, const struct image *image)
{
    const struct uuid *id = image_cluster_id(image);
    if (uuid_is_zero(id) || uuid_equal(id, &quorum->config->cluster_id))
        return true;
    quorum_fail(quorum, "the metadata log is another cluster's");
    return false;
}

bool feed_apply(struct quorum *quorum, uint64_t index, struct bytes padded)
{
    struct feed *feed = &quorum->feed;
    struct bytes entry;
    /* Who was an observer has applied more than raft knows of, and the other way round (role.c). */
    if ((int64_t)index <= image_offset(feed->image))
        return true;
    if (feed->edit == NULL)
        feed->edit = image_edit_begin(feed->image);
    err_t err = entry_unpad(padded, &entry);
    if (err == ERR_OK)
        err = image_edit_apply_entry(feed->edit, entry, (int64_t)index);
    if (err == ERR_OK)
        return cluster_matches(quorum, image_edit_view(feed->edit));
    /* R3, R27: what is committed must be understood by all, in the same way. */
    char why[200];
    (void)snprintf(why, sizeof why, "metadata entry %llu can't be applied: %s (%s)",
                   (unsigned long long)index, err_sentence(err), err_name(err));
    quorum_fail(quorum, why);
    return false;
}

bool feed_restore(struct quorum *quorum, struct bytes bytes)
{
    struct image *image = NULL;
    err_t err = image_decode_snapshot(bytes, &image);
    if (err != ERR_OK) {
        quorum_fail(quorum, "a metadata snapshot can't be read");
        return false;
    }
    if (!cluster_matches(quorum, image)) {
        image_unref(image);
        return false;
    }
    feed_settle(quorum);
    if (image_offset(image) > 0 && image_offset(image) <= image_offset(quorum->feed.image))
        image_unref(image); /* role.c: what is here goes on */
    else
        feed_replace(quorum, image);
    return true;
}

/* ---- raft's state machine ---- */

static int fsm_apply(struct raft_fsm *fsm, const struct raft_buffer *buf, void **result)
{
    struct quorum *quorum = fsm->data;
    *result = NULL;
    uint64_t index = raft_last_applied(&quorum->raft) + 1;
    if (quorum->failed || !feed_apply(quorum, index, (struct bytes){buf->base, buf->len}))
        return RAFT_MALFORMED;
    return 0;
}

/* Takes a reference to the image of this moment: constant time. */
static int fsm_snapshot(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct quorum *quorum = fsm->data;
    if (quorum->failed)
        return RAFT_BUSY;
    feed_settle(quorum);
    ASSERT(quorum->feed.snapshot == NULL);
    quorum->feed.snapshot = image_ref(quorum->feed.image);
    *bufs = NULL;
    *n_bufs = 0;
    return 0;
}

/* On a worker: reads the image, which never changes, and what raft gave it. */
static int fsm_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct quorum *quorum = fsm->data;
    uint8_t *data = NULL;
    size_t len = 0;
    if (image_encode_snapshot(quorum->feed.snapshot, &data, &len) != ERR_OK)
        return RAFT_NOMEM;
    struct raft_buffer *buffer = malloc(sizeof *buffer);
    if (buffer == NULL) {
        free(data);
        return RAFT_NOMEM;
    }
    *buffer = (struct raft_buffer){data, len};
    *bufs = buffer;
    *n_bufs = 1;
    return 0;
}

static int fsm_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *bufs[], unsigned *n_bufs)
{
    struct quorum *quorum = fsm->data;
    if (*bufs != NULL)
        free((*bufs)[0].base);
    free(*bufs);
    *bufs = NULL;
    *n_bufs = 0;
    image_unref(quorum->feed.snapshot);
    quorum->feed.snapshot = NULL;
    return 0;
}

static int fsm_restore(struct raft_fsm *fsm, struct raft_buffer *buf)
{
    struct quorum *quorum = fsm->data;
    if (quorum->failed || !feed_restore(quorum, (struct bytes){buf->base, buf->len}))
        return RAFT_MALFORMED;
    raft_free(buf->base);
    return 0;
}

const struct raft_fsm feed_fsm = {
    .version = 3,
    .apply = fsm_apply,
    .snapshot = fsm_snapshot,
    .restore = fsm_restore,
    .snapshot_finalize = fsm_snapshot_finalize,
    .snapshot_async = fsm_snapshot_async,
};
