/* arena.h - memory that is freed all at once: one for each request. Bounded by its cap.
 * Blocks of a reset arena are kept for its next use. Not shared between threads. */
#ifndef KARST_BASE_ARENA_H
#define KARST_BASE_ARENA_H

#include <stddef.h>

struct arena_block;
struct arena {
    struct arena_block *first, *current;
    size_t taken;     /* bytes given out since the last reset */
    size_t bytes_max; /* cap on taken */
};

void arena_init(struct arena *a, size_t bytes_max);
void arena_fini(struct arena *a); /* accepts zeroed */
void arena_reset(struct arena *a);
/* 16-byte aligned, not cleared; NULL over the cap or without memory. */
void *arena_alloc(struct arena *a, size_t bytes);
void *arena_calloc(struct arena *a, size_t count, size_t bytes); /* cleared; checks the product */
char *arena_strdup(struct arena *a, const char *text);

#endif
