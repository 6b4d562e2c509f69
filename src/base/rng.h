/* rng.h - seeded pseudo-random numbers (xoshiro256**): the same seed, the same row, everywhere. */
#ifndef KARST_BASE_RNG_H
#define KARST_BASE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
uint64_t rng_below(struct rng *r, uint64_t bound);                /* 0 .. bound-1; bound > 0 */
uint64_t rng_between(struct rng *r, uint64_t low, uint64_t high); /* low .. high, both included */
bool rng_chance(struct rng *r, uint32_t per_million);

#endif
