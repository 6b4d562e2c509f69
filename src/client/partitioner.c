#include "client/core.h"

/* MurmurHash2 by Austin Appleby (public domain), with Kafka's seed: records with a key go where
 * Kafka's producers send them. */
int32_t client_murmur2(const void *data, size_t len)
{
    enum { ROTATE = 24 };
    const uint32_t seed = 0x9747b28c, mix = 0x5bd1e995;
    const uint8_t *p = data;
    uint32_t hash = seed ^ (uint32_t)len;
    for (; len >= 4; p += 4, len -= 4) {
        uint32_t k =
            (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
        k *= mix;
        k ^= k >> ROTATE;
        k *= mix;
        hash *= mix;
        hash ^= k;
    }
    if (len >= 3)
        hash ^= (uint32_t)p[2] << 16;
    if (len >= 2)
        hash ^= (uint32_t)p[1] << 8;
    if (len >= 1) {
        hash ^= p[0];
        hash *= mix;
    }
    hash ^= hash >> 13;
    hash *= mix;
    hash ^= hash >> 15;
    return (int32_t)hash;
}

int32_t client_partition_of_key(const void *key, size_t key_bytes, int32_t partition_count)
{
    ASSERT(partition_count > 0);
    return (client_murmur2(key, key_bytes) & INT32_MAX) % partition_count;
}
