#include "quorum/vote.h"

#include "base/bytes.h"
#include "base/canary.h"
#include "base/crc32c.h"
#include "quorum/store.h"

enum {
    SLOT_MAGIC = 0x4B514D54, /* "KQMT" */
    SLOT_VERSION = 1,
    SLOT_BYTES = 36,
    SLOT_SPACING = 4096, /* a page of its own: one write never touches the other slot */
};

static const char *const vote_name = STORE_DIRECTORY "/quorum-state";
static const char *const vote_name_aside = STORE_DIRECTORY "/quorum-state.tmp";

static void slot_encode(const struct vote_file *vote, uint8_t slot[SLOT_BYTES])
{
    put_u32(slot, SLOT_MAGIC);
    put_u32(slot + 4, SLOT_VERSION);
    put_u64(slot + 8, vote->sequence);
    put_u64(slot + 16, vote->term);
    put_u64(slot + 24, vote->vote);
    put_u32(slot + 32, crc32c(0, slot, 32));
}

static err_t slot_write(const struct vote_file *vote)
{
    uint8_t slot[SLOT_BYTES];
    slot_encode(vote, slot);
    struct iovec part = {slot, sizeof slot};
    struct env_disk *disk = vote->disk;
    uint64_t at = (vote->sequence % 2) * SLOT_SPACING;
    err_t err = disk->write(disk->self, vote->file, at, &part, 1);
    return err != ERR_OK ? err : disk->sync_now(disk->self, vote->file);
}

static bool slot_read(struct vote_file *vote, unsigned idx)
{
    uint8_t slot[SLOT_BYTES];
    size_t got = 0;
    struct env_disk *disk = vote->disk;
    err_t err = disk->read(disk->self, vote->file, idx * SLOT_SPACING, slot, sizeof slot, &got);
    if (err != ERR_OK || got != sizeof slot)
        return false;
    if (get_u32(slot) != SLOT_MAGIC || get_u32(slot + 4) != SLOT_VERSION)
        return false;
    if (get_u32(slot + 32) != crc32c(0, slot, 32) && !CANARY("quorum_vote_any_check"))
        return false;
    if (get_u64(slot + 8) < vote->sequence)
        return true;
    vote->sequence = get_u64(slot + 8);
    vote->term = get_u64(slot + 16);
    vote->vote = get_u64(slot + 24);
    return true;
}

err_t vote_create(struct env_disk *disk, uint64_t term)
{
    struct vote_file vote = {.disk = disk, .term = term};
    err_t err = disk->open(disk->self, vote_name_aside, ENV_OPEN_CREATE, &vote.file);
    if (err != ERR_OK)
        return err;
    /* Both slots, so that the first vote already overwrites blocks that exist. */
    for (vote.sequence = 1; vote.sequence <= 2 && err == ERR_OK; vote.sequence++)
        err = slot_write(&vote);
    disk->close(disk->self, vote.file);
    if (err == ERR_OK)
        err = disk->rename(disk->self, vote_name_aside, vote_name);
    if (err == ERR_OK)
        err = disk->sync_names(disk->self, STORE_DIRECTORY);
    return err;
}

err_t vote_open(struct env_disk *disk, struct vote_file *ret_vote)
{
    struct vote_file vote = {.disk = disk};
    err_t err = disk->open(disk->self, vote_name, 0, &vote.file);
    if (err != ERR_OK)
        return err;
    /* What a write left in the page cache only must not be taken for a promise kept: sync first. */
    err = disk->sync_now(disk->self, vote.file);
    if (err == ERR_OK)
        err = disk->drop_cache(disk->self, vote.file);
    if (err == ERR_OK) {
        bool first = slot_read(&vote, 0);
        bool second = slot_read(&vote, 1);
        if (!first && !second)
            err = ERR_CORRUPT;
    }
    if (err != ERR_OK) {
        disk->close(disk->self, vote.file);
        return err;
    }
    *ret_vote = vote;
    return ERR_OK;
}

err_t vote_write(struct vote_file *vote, uint64_t term, uint64_t id)
{
    vote->sequence++;
    vote->term = term;
    vote->vote = id;
    return slot_write(vote);
}

void vote_close(struct vote_file *vote)
{
    if (vote->disk != NULL)
        vote->disk->close(vote->disk->self, vote->file);
    vote->disk = NULL;
}
