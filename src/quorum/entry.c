#include "quorum/entry.h"

#include "base/canary.h"
#include "quorum/members.h"

enum { KEY_VERSION = 1, KEY_BYTES = 27 };

bool entry_legal(const struct entry *entry)
{
    if (entry->type < ENTRY_COMMAND || entry->type > ENTRY_CHANGE)
        return false;
    if (entry->data.len == 0 || entry->data.len % ENTRY_ALIGN != 0 ||
        entry->data.len > ENTRY_BYTES_MAX)
        return false;
    if (entry->term == 0 || entry->term > INT32_MAX || entry->index == 0 ||
        entry->index > INT64_MAX)
        return false;
    struct members members;
    return entry->type != ENTRY_CHANGE || members_decode(entry->data, &members);
}

size_t entry_batch_bytes_max(size_t data_len)
{
    return BATCH_HEADER_BYTES + batch_record_bytes_max(KEY_BYTES, data_len);
}

size_t entry_encode(const struct entry *entry, int64_t timestamp, uint8_t *into)
{
    uint8_t key[KEY_BYTES];
    key[0] = KEY_VERSION;
    put_u64(key + 1, entry->index);
    put_u64(key + 9, entry->term);
    put_u16(key + 17, (uint16_t)entry->type);
    put_u64(key + 19, entry->flushed);

    struct batch_builder builder;
    batch_begin(&builder, into, entry_batch_bytes_max(entry->data.len));
    err_t err =
        batch_add(&builder, timestamp, (struct bytes){key, sizeof key}, entry->data, NULL, 0);
    ASSERT(err == ERR_OK);
    size_t bytes = batch_finish(&builder, 0, -1, -1, -1);
    batch_patch(into, (offset_t)entry->index, (leader_epoch_t)entry->term);
    return bytes;
}

err_t entry_decode(const struct batch_info *info, const uint8_t *batch, struct entry *ret_entry)
{
    if (info->record_count != 1)
        return ERR_CORRUPT;
    struct record_cursor cursor;
    struct record record;
    if (record_cursor_init(&cursor, batch, info->bytes) != ERR_OK ||
        record_cursor_next(&cursor, &record) != ERR_OK)
        return ERR_CORRUPT;
    if (record.key.len != KEY_BYTES || record.key.data[0] != KEY_VERSION)
        return ERR_CORRUPT;
    const uint8_t *key = record.key.data;
    struct entry entry = {
        .index = get_u64(key + 1),
        .term = get_u64(key + 9),
        .type = get_u16(key + 17),
        .flushed = get_u64(key + 19),
        .data = record.value,
    };
    if (!entry_legal(&entry))
        return ERR_CORRUPT;
    /* R24: base offset and epoch lie outside of the CRC; the key repeats them inside. */
    bool elsewhere = (offset_t)entry.index != info->base_offset ||
                     (leader_epoch_t)entry.term != info->leader_epoch;
    if (elsewhere && !CANARY("quorum_entry_at_any_place"))
        return ERR_CORRUPT;
    *ret_entry = entry;
    return ERR_OK;
}

size_t entry_padded_bytes(size_t len)
{
    return (4 + len + ENTRY_ALIGN - 1) / ENTRY_ALIGN * ENTRY_ALIGN;
}

void entry_pad(struct bytes data, uint8_t *into)
{
    put_u32(into, (uint32_t)data.len);
    if (data.len > 0)
        memcpy(into + 4, data.data, data.len);
    memset(into + 4 + data.len, 0, entry_padded_bytes(data.len) - 4 - data.len);
}

err_t entry_unpad(struct bytes padded, struct bytes *ret_data)
{
    if (padded.len < 4)
        return ERR_CORRUPT;
    size_t len = get_u32(padded.data);
    if (len > padded.len - 4 || entry_padded_bytes(len) != padded.len)
        return ERR_CORRUPT;
    *ret_data = (struct bytes){padded.data + 4, len};
    return ERR_OK;
}
