#include "metadata/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "metadata/shared.h"

/* By type. A new version of a record raises version_max, and the feature level that allows it
 * (R27). */
static const struct {
    const ProtobufCMessageDescriptor *descriptor;
    uint32_t version_max;
} record_types[] = {
    [KARST__RECORD_TYPE__RECORD_FEATURE_LEVEL] = {&karst__feature_level_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_CLUSTER] = {&karst__cluster_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_REGISTER_BROKER] = {&karst__register_broker_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_BROKER_CHANGE] = {&karst__broker_change_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_TOPIC] = {&karst__topic_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_DELETE_TOPIC] = {&karst__delete_topic_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_PARTITION] = {&karst__partition_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_PARTITION_CHANGE] = {&karst__partition_change_record__descriptor,
                                                     1},
    [KARST__RECORD_TYPE__RECORD_CONFIG] = {&karst__config_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_PRODUCER_IDS] = {&karst__producer_ids_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_VOTERS] = {&karst__voters_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_BEGIN_TRANSACTION] = {&karst__begin_transaction_record__descriptor,
                                                      1},
    [KARST__RECORD_TYPE__RECORD_END_TRANSACTION] = {&karst__end_transaction_record__descriptor, 1},
    [KARST__RECORD_TYPE__RECORD_ABORT_TRANSACTION] = {&karst__abort_transaction_record__descriptor,
                                                      1},
    [KARST__RECORD_TYPE__RECORD_DIGEST] = {&karst__digest_record__descriptor, 1},
};

uint32_t record_type_of(const ProtobufCMessageDescriptor *descriptor)
{
    for (uint32_t type = 1; type < ARRAY_LEN(record_types); type++)
        if (record_types[type].descriptor == descriptor)
            return type;
    return 0;
}

const ProtobufCMessageDescriptor *record_descriptor(uint32_t type)
{
    return type < ARRAY_LEN(record_types) ? record_types[type].descriptor : NULL;
}

uint32_t record_version_max(uint32_t type)
{
    return type < ARRAY_LEN(record_types) ? record_types[type].version_max : 0;
}

/* ---- packing ---- */

/* The protobuf encoding of MetadataEntry and MetadataRecord, whose every tag is one byte. */
enum {
    TAG_ENTRY_RECORD = 1 << 3 | 2,
    TAG_TYPE = 1 << 3 | 0,
    TAG_VERSION = 2 << 3 | 0,
    TAG_PAYLOAD = 3 << 3 | 2,
    WIRE_TYPE_MASK = 7,
    VARINT_BYTES_MAX = 10,
};

static size_t varint_size(uint64_t v)
{
    size_t size = 1;
    for (; v >= 0x80; v >>= 7)
        size++;
    return size;
}

static uint8_t *varint_put(uint8_t *p, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        *p++ = (uint8_t)(v | 0x80);
    *p++ = (uint8_t)v;
    return p;
}

void record_list_init(struct record_list *list)
{
    *list = (struct record_list){0};
}

void record_list_fini(struct record_list *list)
{
    free(list->data);
    *list = (struct record_list){0};
}

static void record_list_reserve(struct record_list *list, size_t more)
{
    if (list->capacity - list->len >= more)
        return;
    size_t capacity = list->capacity == 0 ? 512 : list->capacity;
    while (capacity - list->len < more)
        capacity *= 2;
    list->data = metadata_realloc(list->data, capacity);
    list->capacity = capacity;
}

/* The frame of one record; returns the place of its payload, which the caller fills. */
static uint8_t *record_list_open(struct record_list *list, uint32_t type, uint32_t version,
                                 size_t payload_len)
{
    size_t record_len =
        3 + varint_size(type) + varint_size(version) + varint_size(payload_len) + payload_len;
    size_t len = 1 + varint_size(record_len) + record_len;
    ASSERT(len <= METADATA_ENTRY_BYTES_MAX);
    record_list_reserve(list, len);
    uint8_t *p = list->data + list->len;
    *p++ = TAG_ENTRY_RECORD;
    p = varint_put(p, record_len);
    *p++ = TAG_TYPE;
    p = varint_put(p, type);
    *p++ = TAG_VERSION;
    p = varint_put(p, version);
    *p++ = TAG_PAYLOAD;
    p = varint_put(p, payload_len);
    list->len += len;
    list->count++;
    return p;
}

void record_list_add(struct record_list *list, const ProtobufCMessage *payload)
{
    uint32_t type = record_type_of(payload->descriptor);
    ASSERT(type != 0);
    size_t payload_len = protobuf_c_message_get_packed_size(payload);
    /* Version 1 is the only one that feature level 1 allows. */
    uint8_t *p = record_list_open(list, type, 1, payload_len);
    size_t packed = protobuf_c_message_pack(payload, p);
    ASSERT(packed == payload_len);
}

void record_list_add_packed(struct record_list *list, const Karst__MetadataRecord *record)
{
    uint8_t *p = record_list_open(list, record->type, record->version, record->payload.len);
    if (record->payload.len > 0)
        memcpy(p, record->payload.data, record->payload.len);
}

void record_list_append(struct record_list *list, const struct record_list *other)
{
    if (other->len == 0)
        return;
    record_list_reserve(list, other->len);
    memcpy(list->data + list->len, other->data, other->len);
    list->len += other->len;
    list->count += other->count;
}

struct bytes record_list_entry(const struct record_list *list, size_t at)
{
    ASSERT(at <= list->len);
    if (list->len - at <= METADATA_ENTRY_BYTES_MAX) /* the whole rest */
        return (struct bytes){at == list->len ? NULL : list->data + at, list->len - at};
    struct bytes rest = {list->data + at, list->len - at};
    Karst__MetadataRecord record;
    size_t end = 0;
    for (size_t next = 0; record_next(rest, &next, &record) && next <= METADATA_ENTRY_BYTES_MAX;)
        end = next;
    ASSERT(end > 0);
    return (struct bytes){rest.data, end};
}

/* ---- walking ---- */

static bool varint_get(struct bytes b, size_t *at, uint64_t *ret_v)
{
    uint64_t v = 0;
    for (size_t i = 0; i < VARINT_BYTES_MAX && *at < b.len; i++) {
        uint8_t byte = b.data[(*at)++];
        v |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            *ret_v = v;
            return true;
        }
    }
    return false;
}

static bool bytes_get(struct bytes b, size_t *at, struct bytes *ret_view)
{
    uint64_t len;
    if (!varint_get(b, at, &len) || len > b.len - *at)
        return false;
    *ret_view = (struct bytes){b.data + *at, (size_t)len};
    *at += (size_t)len;
    return true;
}

/* A field that this build does not know (they are only ever added). */
static bool field_skip(struct bytes b, size_t *at, uint8_t tag)
{
    uint64_t number;
    struct bytes view;
    size_t fixed;
    switch (tag & WIRE_TYPE_MASK) {
    case 0:
        return varint_get(b, at, &number);
    case 2:
        return bytes_get(b, at, &view);
    case 1:
    case 5:
        fixed = (tag & WIRE_TYPE_MASK) == 1 ? 8 : 4;
        if (b.len - *at < fixed)
            return false;
        *at += fixed;
        return true;
    default:
        return false;
    }
}

static bool record_parse(struct bytes b, Karst__MetadataRecord *ret_record)
{
    bool type_seen = false, version_seen = false, payload_seen = false;
    uint64_t type = 0, version = 0;
    struct bytes payload = {0};
    for (size_t at = 0; at < b.len;) {
        uint8_t tag = b.data[at++];
        bool read;
        if (tag == TAG_TYPE)
            read = type_seen = varint_get(b, &at, &type);
        else if (tag == TAG_VERSION)
            read = version_seen = varint_get(b, &at, &version);
        else if (tag == TAG_PAYLOAD)
            read = payload_seen = bytes_get(b, &at, &payload);
        else
            read = tag >= 1 << 3 && tag < 0x80 && field_skip(b, &at, tag);
        if (!read)
            return false;
    }
    if (!type_seen || !version_seen || !payload_seen || type > UINT32_MAX || version > UINT32_MAX)
        return false;
    karst__metadata_record__init(ret_record);
    ret_record->type = (uint32_t)type;
    ret_record->version = (uint32_t)version;
    ret_record->payload.len = payload.len;
    /* The field is not const, but nobody writes through a record that was walked. */
    ret_record->payload.data = (uint8_t *)(uintptr_t)payload.data;
    return true;
}

bool record_next(struct bytes entry, size_t *at, Karst__MetadataRecord *ret_record)
{
    size_t next = *at;
    struct bytes view;
    if (next >= entry.len || entry.data[next++] != TAG_ENTRY_RECORD)
        return false;
    if (!bytes_get(entry, &next, &view) || !record_parse(view, ret_record))
        return false;
    *at = next;
    return true;
}
