/* histogram.h - log-linear counts of unsigned values: constant memory, error under 1/32. */
#ifndef KARST_BASE_HISTOGRAM_H
#define KARST_BASE_HISTOGRAM_H

#include <stdint.h>

enum { HISTOGRAM_SUB = 32, HISTOGRAM_BUCKETS = (64 - 5 + 1) * HISTOGRAM_SUB };

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total, sum, min, max;
};

void histogram_init(struct histogram *h);
void histogram_add(struct histogram *h, uint64_t value);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* quantile 0 .. 1; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *h, double quantile);

#endif
