/* checkpoint: two slots, each within one sector and a page of its own, overwritten in turn; the one
 * with the higher sequence holds. A torn write costs the newer one, and the one before says less
 * but nothing wrong: so most are not even synced. Where less would be wrong (truncation, reset,
 * clean stop), they are.
 *
 *   0 magic  4 version  8 sequence  16 recovery point  24 its segment  32 its position in it
 *   40 high watermark  48 log start  56 flags  60 CRC32C */
#include <stdlib.h>

#include "log/log_internal.h"

enum {
    CHECKPOINT_MAGIC = 0x4b434b50, /* KCKP */
    CHECKPOINT_VERSION = 1,
    CHECKPOINT_BYTES = 64,
    CHECKPOINT_SLOT_BYTES = 4096,
    FLAG_RESETTING = 1,
    FLAG_CLOSED = 2,

    METADATA_MAGIC = 0x4b504d44, /* KPMD */
    METADATA_VERSION = 1,
    METADATA_BYTES = CHECKED_BYTES + 16,
};

static bool checkpoint_decode(const uint8_t *data, struct checkpoint *ret)
{
    struct reader body;
    if (checked_open(data, CHECKPOINT_BYTES, CHECKPOINT_MAGIC, CHECKPOINT_VERSION, &body) != ERR_OK)
        return false;
    struct checkpoint what = {.sequence = reader_u64(&body)};
    what.recovery.offset = (offset_t)reader_u64(&body);
    what.recovery.base = (offset_t)reader_u64(&body);
    what.recovery.position = reader_u64(&body);
    what.high_watermark = (offset_t)reader_u64(&body);
    what.log_start = (offset_t)reader_u64(&body);
    uint32_t flags = reader_u32(&body);
    what.resetting = flags & FLAG_RESETTING;
    what.closed = flags & FLAG_CLOSED;
    if ((what.log_start < 0 || what.recovery.base < 0 || what.recovery.offset < what.log_start ||
         what.recovery.offset < what.recovery.base) &&
        !CANARY("log_checkpoint_any_numbers"))
        return false;
    if (what.resetting &&
        (what.recovery.offset != what.log_start || what.recovery.base != what.log_start))
        return false;
    *ret = what;
    return true;
}

err_t checkpoint_load(struct env_disk *disk, const char *directory, struct checkpoint *ret)
{
    char name[LOG_NAME_SIZE];
    uint8_t *data;
    size_t len;
    log_file_name(name, directory, "checkpoint");
    err_t err = small_file_load(disk, name, (size_t)2 * CHECKPOINT_SLOT_BYTES, &data, &len);
    if (err != ERR_OK)
        return err;
    bool found = false;
    for (unsigned slot = 0; (size_t)slot * CHECKPOINT_SLOT_BYTES + CHECKPOINT_BYTES <= len;
         slot++) {
        struct checkpoint what;
        if (checkpoint_decode(data + (size_t)slot * CHECKPOINT_SLOT_BYTES, &what) &&
            (!found || what.sequence > ret->sequence)) {
            *ret = what;
            ret->slot = ret->durable_slot = slot; /* recovery synced it, or a clean stop */
            found = true;
        }
    }
    free(data);
    return found ? ERR_OK : ERR_CORRUPT;
}

err_t checkpoint_save(struct log *log, struct checkpoint *what, bool sync)
{
    struct env_disk *disk = log->disk;
    char name[LOG_NAME_SIZE];
    uint8_t data[CHECKPOINT_BYTES] = {0};
    env_file file;
    what->sequence = log->saved.sequence + 1;
    what->slot = log->saved.durable_slot ^ 1u;
    what->durable_slot = sync ? what->slot : log->saved.durable_slot;
    put_u64(data + 8, what->sequence);
    put_u64(data + 16, (uint64_t)what->recovery.offset);
    put_u64(data + 24, (uint64_t)what->recovery.base);
    put_u64(data + 32, what->recovery.position);
    put_u64(data + 40, (uint64_t)what->high_watermark);
    put_u64(data + 48, (uint64_t)what->log_start);
    put_u32(data + 56, (what->resetting ? FLAG_RESETTING : 0u) | (what->closed ? FLAG_CLOSED : 0u));
    checked_seal(data, sizeof(data), CHECKPOINT_MAGIC, CHECKPOINT_VERSION);
    log_file_name(name, log->directory, "checkpoint");
    err_t err = disk->open(disk->self, name, ENV_OPEN_CREATE, &file);
    if (err != ERR_OK)
        return err;
    struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
    err = disk->write(disk->self, file, (uint64_t)what->slot * CHECKPOINT_SLOT_BYTES, &part, 1);
    if (err == ERR_OK && sync)
        err = disk->sync_now(disk->self, file);
    disk->close(disk->self, file);
    if (err == ERR_OK)
        log->saved = *what;
    return err;
}

err_t log_save_checkpoint(struct log *log, bool sync, bool closed)
{
    struct checkpoint what = {
        .recovery = log->flushed,
        .high_watermark = log->high_watermark,
        .log_start = log->start,
        .closed = closed,
    };
    if (what.high_watermark > log->end)
        what.high_watermark = log->end;
    /* R9: epochs are on the disk before the recovery point passes the batches that tell them; and a
     * truncation's are not, before it went down: rows above it are told anew by the batches. */
    if (epochs_unsaved(&log->epochs, what.recovery.offset) &&
        what.recovery.offset >= log->saved.recovery.offset) {
        err_t err = epochs_save(&log->epochs, log->disk, log->directory);
        if (err != ERR_OK)
            return err;
    }
    const struct checkpoint *old = &log->saved;
    if (old->recovery.offset == what.recovery.offset && old->log_start == what.log_start &&
        old->high_watermark == what.high_watermark && old->closed == closed && !old->resetting)
        return ERR_OK; /* nothing new: an idle log costs nothing */
    return checkpoint_save(log, &what, sync);
}

/* A log that has nothing unflushed (R18) holds a descriptor and a buffer for its next append only:
 * of ten thousand partitions, few are in use at a time. The metadata log keeps them. */
static void give_back(struct log *log)
{
    bool busy = log->round.in_flight > 0 || log->round.failing || log->end != log->flushed.offset ||
                log->active->sealed;
    if (busy || log->options.written_zeros)
        return;
    index_flush(log);
    segment_forget_file(log, log->active);
    free(log->index.rows);
    log->index.rows = NULL;
}

err_t log_checkpoint(struct log *log)
{
    if (log->failure != ERR_OK)
        return log->failure;
    if (log->unsettled)
        return ERR_OK;
    err_t err = log_save_checkpoint(log, false, false);
    if (err == ERR_OK && log->active != NULL)
        give_back(log);
    return err;
}

void log_set_high_watermark(struct log *log, offset_t high_watermark)
{
    log->high_watermark = high_watermark;
}

/* ---- partition.metadata ---- */

err_t partition_metadata_load(struct env_disk *disk, const char *directory, struct uuid *ret_topic)
{
    char name[LOG_NAME_SIZE];
    uint8_t *data;
    size_t len;
    struct reader body;
    log_file_name(name, directory, "partition.metadata");
    err_t err = small_file_load(disk, name, METADATA_BYTES, &data, &len);
    if (err != ERR_OK)
        return err;
    err = checked_open(data, len, METADATA_MAGIC, METADATA_VERSION, &body);
    struct bytes topic = {0};
    if (err == ERR_OK)
        topic = reader_bytes(&body, sizeof(ret_topic->b));
    if (err == ERR_OK && (body.failed || reader_left(&body) != 0))
        err = ERR_CORRUPT;
    if (err == ERR_OK)
        memcpy(ret_topic->b, topic.data, sizeof(ret_topic->b));
    free(data);
    return err;
}

err_t partition_metadata_save(struct env_disk *disk, const char *directory,
                              const struct uuid *topic)
{
    char name[LOG_NAME_SIZE];
    uint8_t data[METADATA_BYTES];
    env_file file;
    memcpy(data + CHECKED_HEAD_BYTES, topic->b, sizeof(topic->b));
    checked_seal(data, sizeof(data), METADATA_MAGIC, METADATA_VERSION);
    log_file_name(name, directory, "partition.metadata");
    err_t err = disk->open(disk->self, name, ENV_OPEN_CREATE, &file);
    if (err != ERR_OK)
        return err;
    struct iovec part = {.iov_base = data, .iov_len = sizeof(data)};
    err = disk->write(disk->self, file, 0, &part, 1);
    disk->close(disk->self, file);
    return err;
}
