#include "base/rng.h"

#include "base/assert.h"

static uint64_t rng_rotate(uint64_t x, unsigned by)
{
    return x << by | x >> (64 - by);
}

/* splitmix64, as the authors of xoshiro advise for its seed: also from 0 it gives a good state. */
void rng_seed(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += UINT64_C(0x9E3779B97F4A7C15);
        uint64_t z = seed;
        z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
        r->s[i] = z ^ z >> 31;
    }
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->s;
    uint64_t result = rng_rotate(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rng_rotate(s[3], 45);
    return result;
}

uint64_t rng_below(struct rng *r, uint64_t bound)
{
    ASSERT(bound > 0);
    /* The high half of a product; the few low halves that would favour some values are drawn again
     * (Lemire, "Fast Random Integer Generation in an Interval"). */
    uint64_t unfair = (UINT64_C(0) - bound) % bound;
    for (;;) {
        __extension__ unsigned __int128 product = (unsigned __int128)rng_next(r) * bound;
        if ((uint64_t)product >= unfair)
            return (uint64_t)(product >> 64);
    }
}

uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high)
{
    ASSERT(low <= high);
    if (low == 0 && high == UINT64_MAX)
        return rng_next(r);
    return low + rng_below(r, high - low + 1);
}

bool rng_chance(struct rng *r, uint32_t per_million)
{
    return rng_below(r, 1000000) < per_million;
}
