#include "fuzz/rows.h"

#include <string.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/rng.h"

enum { ROWS_MAX = 64, FIELDS_MAX = 128, OUT_MAX = 1 << 16, DEPTH_MAX = 4 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);

/* ---- what is written ---- */

struct out {
    uint8_t *data;
    size_t len;
    size_t max;
    bool full;
};

static void out_put(struct out *out, const uint8_t *data, size_t len)
{
    if (len == 0)
        return; /* data may be NULL */
    if (out->full || len > out->max - out->len) {
        out->full = true;
        return;
    }
    memmove(out->data + out->len, data, len);
    out->len += len;
}

static void out_varint(struct out *out, uint64_t value)
{
    for (; value > 0x7f; value >>= 7)
        out_put(out, &(uint8_t){(uint8_t)(value | 0x80)}, 1);
    out_put(out, &(uint8_t){(uint8_t)value}, 1);
}

/* ---- protobuf fields ---- */

enum { WIRE_VARINT = 0, WIRE_FIXED64 = 1, WIRE_BYTES = 2, WIRE_FIXED32 = 5 };

struct field {
    uint64_t tag;
    uint64_t value; /* of a varint; of bytes, their length */
    size_t begin;
    size_t content; /* after tag and length */
    size_t end;
};

static bool varint_read(struct bytes from, size_t *at, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64 && *at < from.len; shift += 7) {
        uint8_t byte = from.data[(*at)++];
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* 0: these are not fields, or none. */
static unsigned fields_split(struct bytes from, struct field fields[FIELDS_MAX])
{
    unsigned count = 0;
    for (size_t at = 0; at < from.len; count++) {
        if (count == FIELDS_MAX)
            return 0;
        struct field *field = &fields[count];
        *field = (struct field){.begin = at};
        if (!varint_read(from, &at, &field->tag) || field->tag >> 3 == 0)
            return 0;
        unsigned type = field->tag & 7;
        if ((type == WIRE_VARINT || type == WIRE_BYTES) && !varint_read(from, &at, &field->value))
            return 0;
        field->content = at;
        if (type != WIRE_VARINT && type != WIRE_FIXED64 && type != WIRE_BYTES &&
            type != WIRE_FIXED32)
            return 0;
        uint64_t len = type == WIRE_BYTES     ? field->value
                       : type == WIRE_FIXED64 ? 8
                       : type == WIRE_FIXED32 ? 4
                                              : 0;
        if (len > from.len - at)
            return 0;
        at += len;
        field->end = at;
    }
    return count;
}

static uint64_t value_changed(struct rng *rng, uint64_t value)
{
    static const uint64_t edges[] = {
        0, 1, 2, UINT64_MAX, INT32_MAX, (uint64_t)INT32_MIN, 1ULL << 31, 1ULL << 32, INT64_MAX,
    };
    switch (rng_below(rng, 4)) {
    case 0:
        return value + rng_below(rng, 5) - 2;
    case 1:
        return edges[rng_below(rng, ARRAY_LEN(edges))];
    default:
        return rng_next(rng) >> rng_below(rng, 64);
    }
}

/* One field changed, or one of a message within, however deep. False: these are not fields. */
static bool message_change(struct rng *rng, struct bytes from, struct out *out, unsigned depth)
{
    struct field fields[FIELDS_MAX];
    static uint8_t inner[DEPTH_MAX][OUT_MAX];
    unsigned count = fields_split(from, fields);
    if (count == 0)
        return false;
    const struct field *field = &fields[rng_below(rng, count)];
    struct bytes content = {from.data + field->content, field->end - field->content};
    size_t whole = field->end - field->begin;
    out_put(out, from.data, field->begin);
    uint64_t what = rng_below(rng, 8);
    if (what == 0) {
        out_put(out, from.data + field->begin, whole);
        out_put(out, from.data + field->begin, whole);
    } else if (what == 1) {
        out_varint(out, ((field->tag >> 3) + rng_below(rng, 3)) << 3 | (field->tag & 7));
        out_put(out, from.data + field->content, content.len);
    } else if (what > 2) { /* 2: dropped */
        struct out within = {.data = inner[depth], .max = OUT_MAX};
        out_varint(out, field->tag);
        if ((field->tag & 7) == WIRE_VARINT) {
            out_varint(out, value_changed(rng, field->value));
        } else if ((field->tag & 7) == WIRE_BYTES) {
            if (depth + 1 == DEPTH_MAX || !message_change(rng, content, &within, depth + 1)) {
                out_put(&within, content.data, content.len);
                within.len = LLVMFuzzerMutate(within.data, within.len, content.len + 16);
            }
            out_varint(out, within.len);
            out_put(out, within.data, within.len);
        } else {
            uint8_t fixed[8];
            put_u64(fixed, rng_next(rng));
            out_put(out, fixed, content.len);
        }
    }
    out_put(out, from.data + field->end, from.len - field->end);
    return true;
}

/* ---- rows ---- */

struct row {
    const uint8_t *head;
    struct bytes message;
    struct bytes tail;
};

static bool row_read(struct reader *reader, struct row *ret_row)
{
    const struct rows_shape *shape = &fuzz_shape;
    struct bytes head = reader_bytes(reader, shape->head);
    if (reader->failed)
        return false;
    size_t left = reader_left(reader);
    size_t len = shape->length_bytes == 0   ? left
                 : shape->length_bytes == 2 ? get_u16(head.data + shape->length_at)
                                            : get_u32(head.data + shape->length_at);
    if (len > left)
        return false;
    *ret_row = (struct row){.head = head.data, .message = reader_bytes(reader, len)};
    if (!shape->framed)
        return true;
    size_t after = (size_t)get_u32(head.data) + 4;
    if (after < shape->head + len || after - shape->head > left)
        return false;
    ret_row->tail = reader_bytes(reader, after - shape->head - len);
    return true;
}

static void row_write(struct out *out, const struct row *row)
{
    const struct rows_shape *shape = &fuzz_shape;
    size_t at = out->len;
    out_put(out, row->head, shape->head);
    out_put(out, row->message.data, row->message.len);
    out_put(out, row->tail.data, row->tail.len);
    if (out->full)
        return;
    if (shape->length_bytes == 2)
        put_u16(out->data + at + shape->length_at, (uint16_t)row->message.len);
    else if (shape->length_bytes == 4)
        put_u32(out->data + at + shape->length_at, (uint32_t)row->message.len);
    if (shape->framed)
        put_u32(out->data + at, (uint32_t)(out->len - at) - 4);
}

/* 0: the input is no rows. */
static unsigned rows_split(const uint8_t *data, size_t size, struct row rows[ROWS_MAX])
{
    struct reader reader;
    unsigned count = 0;
    reader_init(&reader, data, size);
    (void)reader_bytes(&reader, fuzz_shape.before);
    while (!reader.failed && reader_left(&reader) > 0) {
        if (count == ROWS_MAX || !row_read(&reader, &rows[count]))
            return 0;
        count++;
    }
    return reader.failed ? 0 : count;
}

static void row_change(struct rng *rng, struct row *row)
{
    static uint8_t message[OUT_MAX];
    struct out out = {.data = message, .max = sizeof(message)};
    if (rng_below(rng, 4) > 0 && message_change(rng, row->message, &out, 0)) {
        if (!out.full)
            row->message = (struct bytes){out.data, out.len};
        return;
    }
    out = (struct out){.data = message, .max = sizeof(message)};
    out_put(&out, row->message.data, row->message.len);
    if (out.full)
        return;
    row->message =
        (struct bytes){message, LLVMFuzzerMutate(message, out.len, row->message.len + 32)};
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    static uint8_t bytes[OUT_MAX];
    struct row rows[ROWS_MAX];
    struct rng rng;
    rng_seed(&rng, seed);
    unsigned count = rows_split(data, size, rows);
    if (count == 0 || rng_below(&rng, 8) == 0)
        return LLVMFuzzerMutate(data, size, size_max);

    struct out out = {.data = bytes, .max = size_max < OUT_MAX ? size_max : OUT_MAX};
    unsigned which = (unsigned)rng_below(&rng, count), other = (unsigned)rng_below(&rng, count);
    uint64_t what = rng_below(&rng, 10);
    if (what == 0) {
        struct row swapped = rows[which];
        rows[which] = rows[other];
        rows[other] = swapped;
    } else if (what > 2) {
        row_change(&rng, &rows[which]);
    }
    out_put(&out, data, fuzz_shape.before);
    for (unsigned i = 0; i < count; i++) {
        if (what == 1 && i == which && count > 1)
            continue; /* dropped */
        row_write(&out, &rows[i]);
        if (what == 2 && i == other)
            row_write(&out, &rows[which]); /* doubled */
    }
    if (out.full || out.len == 0)
        return LLVMFuzzerMutate(data, size, size_max);
    memcpy(data, bytes, out.len);
    return out.len;
}
