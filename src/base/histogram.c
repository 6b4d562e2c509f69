#include "base/histogram.h"

#include <stddef.h>

#include "base/assert.h"

/* Values under 32 have a bucket each; from there every power of two is cut into 32. */
enum { HISTOGRAM_SUB_BITS = 5 };
static_assert(HISTOGRAM_SUB == 1 << HISTOGRAM_SUB_BITS, "a power of two is cut into SUB buckets");

static size_t histogram_bucket(uint64_t value)
{
    if (value < HISTOGRAM_SUB)
        return (size_t)value;
    unsigned shift = (unsigned)(63 - __builtin_clzll(value)) - HISTOGRAM_SUB_BITS;
    return (shift + 1) * HISTOGRAM_SUB + (size_t)(value >> shift) - HISTOGRAM_SUB;
}

/* The largest value of a bucket. */
static uint64_t histogram_bucket_last(size_t bucket)
{
    if (bucket < HISTOGRAM_SUB)
        return bucket;
    unsigned shift = (unsigned)(bucket / HISTOGRAM_SUB) - 1;
    uint64_t first = (uint64_t)(HISTOGRAM_SUB + bucket % HISTOGRAM_SUB) << shift;
    return first + ((UINT64_C(1) << shift) - 1);
}

void histogram_init(struct histogram *h)
{
    *h = (struct histogram){.min = UINT64_MAX};
}

void histogram_add(struct histogram *h, uint64_t value)
{
    size_t bucket = histogram_bucket(value);
    ASSERT(bucket < HISTOGRAM_BUCKETS);
    h->counts[bucket]++;
    h->total++;
    h->sum += value;
    if (value < h->min)
        h->min = value;
    if (value > h->max)
        h->max = value;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->total += from->total;
    into->sum += from->sum;
    if (from->min < into->min)
        into->min = from->min;
    if (from->max > into->max)
        into->max = from->max;
}

uint64_t histogram_quantile(const struct histogram *h, double quantile)
{
    if (h->total == 0)
        return 0;
    if (quantile <= 0)
        return h->min;
    /* The smallest value that at least this many values do not exceed. */
    uint64_t rank = quantile >= 1 ? h->total : (uint64_t)(quantile * (double)h->total);
    if ((double)rank < quantile * (double)h->total && rank < h->total)
        rank++;
    uint64_t seen = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen < rank)
            continue;
        uint64_t last = histogram_bucket_last(i);
        return last > h->max ? h->max : last < h->min ? h->min : last;
    }
    return h->max;
}
