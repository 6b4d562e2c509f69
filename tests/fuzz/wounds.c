/* The mutator of what is given wounds (wound.h): every other time a new one, in any file, of a few
 * bytes that are a number at an edge, or a cut. */
#include <string.h>

#include "base/assert.h"
#include "base/rng.h"
#include "fuzz/wound.h"

enum { HEAD = 4, FLAGS = 3, NUMBER_MAX = 8 };

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t size_max);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t size_max, unsigned seed)
{
    static const uint64_t edges[] = {0, 1, UINT64_MAX, INT64_MAX, INT32_MAX, 1ULL << 31};
    struct rng rng;
    rng_seed(&rng, seed);
    if (rng_below(&rng, 2) == 0 || size_max < HEAD + NUMBER_MAX)
        return LLVMFuzzerMutate(data, size, size_max);
    data[0] = (uint8_t)rng_next(&rng);
    data[1] = (uint8_t)(rng_below(&rng, FLAGS + 1) | WOUND_DENSE);
    put_u16(data + 2, (uint16_t)rng_next(&rng));
    uint8_t number[NUMBER_MAX];
    put_u64(number, rng_below(&rng, 2) == 0 ? rng_next(&rng) >> rng_below(&rng, 64)
                                            : edges[rng_below(&rng, ARRAY_LEN(edges))]);
    size_t len = rng_below(&rng, 16) == 0 ? 0 : (size_t)1 << rng_below(&rng, 4);
    memcpy(data + HEAD, number + sizeof(number) - len, len); /* its low bytes */
    return HEAD + len;
}
