#include "base/arena.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { ARENA_ALIGN = 16, ARENA_BLOCK_BYTES = 8 * 1024 - 64, ARENA_KEPT_BYTES = 256 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t bytes; /* of data */
    size_t used;
    size_t pad;
    uint8_t data[];
};
static_assert(sizeof(struct arena_block) % ARENA_ALIGN == 0, "data must be aligned");

void arena_init(struct arena *a, size_t bytes_max)
{
    *a = (struct arena){.bytes_max = bytes_max};
}

static void arena_free_from(struct arena_block *block)
{
    while (block != NULL) {
        struct arena_block *next = block->next;
        free(block);
        block = next;
    }
}

void arena_fini(struct arena *a)
{
    arena_free_from(a->first);
    *a = (struct arena){0};
}

void arena_reset(struct arena *a)
{
    /* One huge request must not pin its blocks for ever: the first few are kept, to a bound. */
    size_t kept = 0;
    struct arena_block **at = &a->first;
    while (*at != NULL && kept + (*at)->bytes <= ARENA_KEPT_BYTES) {
        kept += (*at)->bytes;
        (*at)->used = 0;
        at = &(*at)->next;
    }
    arena_free_from(*at);
    *at = NULL;
    a->current = a->first;
    a->taken = 0;
}

/* A block with room for bytes, after the current one: one kept from before, or a new one. */
static struct arena_block *arena_next_block(struct arena *a, size_t bytes)
{
    struct arena_block *after = a->current == NULL ? a->first : a->current->next;
    if (after != NULL && after->bytes >= bytes)
        return after;
    size_t size = bytes > ARENA_BLOCK_BYTES ? bytes : ARENA_BLOCK_BYTES;
    struct arena_block *block = malloc(sizeof(*block) + size);
    if (block == NULL)
        return NULL;
    *block = (struct arena_block){.next = after, .bytes = size};
    if (a->current == NULL)
        a->first = block;
    else
        a->current->next = block;
    return block;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    ASSERT(a->taken <= a->bytes_max);
    if (bytes == 0)
        bytes = 1; /* each piece has its own place, and counts */
    if (bytes > a->bytes_max - a->taken || bytes > SIZE_MAX / 2)
        return NULL;
    size_t rounded = (bytes + ARENA_ALIGN - 1) & ~(size_t)(ARENA_ALIGN - 1);
    if (a->current == NULL || a->current->bytes - a->current->used < rounded) {
        struct arena_block *block = arena_next_block(a, rounded);
        if (block == NULL)
            return NULL;
        ASSERT(block->used == 0);
        a->current = block;
    }
    void *place = a->current->data + a->current->used;
    a->current->used += rounded;
    /* The rounding counts, so that many small pieces can not outgrow the cap; the last piece may
     * reach it exactly. */
    a->taken = rounded > a->bytes_max - a->taken ? a->bytes_max : a->taken + rounded;
    return place;
}

void *arena_calloc(struct arena *a, size_t count, size_t bytes)
{
    size_t product;
    if (__builtin_mul_overflow(count, bytes, &product))
        return NULL;
    void *place = arena_alloc(a, product);
    return place == NULL ? NULL : memset(place, 0, product);
}

char *arena_strdup(struct arena *a, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = arena_alloc(a, size);
    return copy == NULL ? NULL : memcpy(copy, text, size);
}
