/* bytes.h - views of memory, big-endian integers, varints, and a bounded reader that never runs
 * over: after the first failure every further read fails too, so that one check at the end does. */
#ifndef KARST_BASE_BYTES_H
#define KARST_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data;
    size_t len;
};

static inline uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}
static inline uint32_t get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return __builtin_bswap32(v);
}
static inline uint64_t get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return __builtin_bswap64(v);
}
static inline void put_u16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}
static inline void put_u32(uint8_t *p, uint32_t v)
{
    v = __builtin_bswap32(v);
    memcpy(p, &v, 4);
}
static inline void put_u64(uint8_t *p, uint64_t v)
{
    v = __builtin_bswap64(v);
    memcpy(p, &v, 8);
}

/* Zigzag varints, as in Kafka's records (and protobuf's sint). Return the bytes written: to 5, 10.
 */
size_t put_varint(uint8_t *p, int32_t v);
size_t put_varlong(uint8_t *p, int64_t v);
size_t varint_len(int32_t v);
size_t varlong_len(int64_t v);

struct reader {
    const uint8_t *at, *end;
    bool failed;
};

void reader_init(struct reader *r, const void *data, size_t len);
static inline size_t reader_left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}
uint8_t reader_u8(struct reader *r); /* these return 0 after a failure */
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
int32_t reader_varint(struct reader *r); /* over-long encodings fail */
int64_t reader_varlong(struct reader *r);
/* A view of the next len bytes; empty after a failure. */
struct bytes reader_bytes(struct reader *r, size_t len);

#endif
