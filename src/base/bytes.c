#include "base/bytes.h"

size_t put_varlong(uint8_t *p, int64_t v)
{
    uint64_t zigzag = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
    size_t len = 0;
    while (zigzag >= 0x80) {
        p[len++] = (uint8_t)(zigzag | 0x80);
        zigzag >>= 7;
    }
    p[len++] = (uint8_t)zigzag;
    return len;
}

size_t put_varint(uint8_t *p, int32_t v)
{
    return put_varlong(p, v); /* the zigzag of a 32-bit value is the same in 64 */
}

size_t varlong_len(int64_t v)
{
    uint64_t zigzag = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);
    size_t bits = 64 - (size_t)__builtin_clzll(zigzag | 1);
    return (bits + 6) / 7;
}

size_t varint_len(int32_t v)
{
    return varlong_len(v);
}

void reader_init(struct reader *r, const void *data, size_t len)
{
    r->at = data;
    r->end = len == 0 ? r->at : r->at + len;
    r->failed = false;
}

/* The next len bytes, or NULL and failed for good: nothing is left after a failure. */
static const uint8_t *reader_take(struct reader *r, size_t len)
{
    if (r->failed || len > reader_left(r)) {
        r->failed = true;
        r->at = r->end;
        return NULL;
    }
    const uint8_t *at = r->at;
    r->at += len;
    return at;
}

uint8_t reader_u8(struct reader *r)
{
    const uint8_t *p = reader_take(r, 1);
    return p == NULL ? 0 : *p;
}

uint16_t reader_u16(struct reader *r)
{
    const uint8_t *p = reader_take(r, 2);
    return p == NULL ? 0 : get_u16(p);
}

uint32_t reader_u32(struct reader *r)
{
    const uint8_t *p = reader_take(r, 4);
    return p == NULL ? 0 : get_u32(p);
}

uint64_t reader_u64(struct reader *r)
{
    const uint8_t *p = reader_take(r, 8);
    return p == NULL ? 0 : get_u64(p);
}

/* An unsigned varint of at most bits bits; what needs more bytes or bits than that fails. */
static uint64_t reader_unsigned(struct reader *r, unsigned bits)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < bits; shift += 7) {
        uint8_t byte = reader_u8(r);
        if (r->failed)
            return 0;
        unsigned room = bits - shift;
        if (room < 7 && (byte & 0x7f) >> room != 0)
            break;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0)
            return value;
    }
    r->failed = true;
    r->at = r->end;
    return 0;
}

int32_t reader_varint(struct reader *r)
{
    uint32_t zigzag = (uint32_t)reader_unsigned(r, 32);
    return (int32_t)(zigzag >> 1 ^ (0U - (zigzag & 1)));
}

int64_t reader_varlong(struct reader *r)
{
    uint64_t zigzag = reader_unsigned(r, 64);
    return (int64_t)(zigzag >> 1 ^ (UINT64_C(0) - (zigzag & 1)));
}

struct bytes reader_bytes(struct reader *r, size_t len)
{
    const uint8_t *p = reader_take(r, len);
    return p == NULL ? (struct bytes){0} : (struct bytes){.data = p, .len = len};
}
