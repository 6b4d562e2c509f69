/* ring.h - bounded single-producer single-consumer queue of pointers.
 *
 * Ownership: a pushed message belongs to the consumer; on failure it stays the caller's.
 * Thread:    one producer, one consumer; init and fini with both stopped.
 * Errors:    push returns false when full; nothing blocks, nothing allocates after init.
 * Units:     capacity in slots, a power of two. */
#ifndef KARST_BASE_RING_H
#define KARST_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/assert.h"
#include "base/err.h"

struct ring {
    void **slots;
    size_t mask;
    char pad0[64];
    atomic_size_t head; /* next to pop; written by the consumer */
    size_t tail_seen;   /* the consumer's copy of tail */
    char pad1[64];
    atomic_size_t tail; /* next to push; written by the producer */
    size_t head_seen;   /* the producer's copy of head */
    char pad2[64];
};

err_t ring_init(struct ring *r, size_t capacity);
void ring_fini(struct ring *r); /* accepts zeroed; what is still inside is the caller's loss */
bool ring_push(struct ring *r, void *message) NODISCARD;
void *ring_pop(struct ring *r); /* NULL when empty */
bool ring_empty(const struct ring *r);

#endif
