/* heap.h - intrusive binary min-heap by (key, sequence): timers, and the simulator's events.
 *
 * Ownership: nodes belong to the caller and stay where they are while in the heap.
 * Errors:    push needs memory now and then; nothing else can fail.
 * Order:     equal keys come out by sequence, and what draws its sequence from a counter therefore
 *            in order of arrival. */
#ifndef KARST_BASE_HEAP_H
#define KARST_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/err.h"

struct heap_node {
    uint64_t key;
    uint64_t sequence;
    uint32_t index; /* the heap's; 0: in no heap */
};

struct heap {
    struct heap_node **nodes; /* from 1; the children of i are 2i and 2i+1 */
    uint32_t count, capacity;
};

void heap_init(struct heap *h); /* a zeroed heap is an empty one, too */
void heap_fini(struct heap *h); /* the nodes are left as they are */
/* The node is in no heap. ERR_NO_MEMORY: it still is not. */
err_t heap_push(struct heap *h, struct heap_node *node) NODISCARD;
/* Room for count nodes in all: pushes up to there can't fail. */
err_t heap_reserve(struct heap *h, uint32_t count) NODISCARD;
struct heap_node *heap_pop(struct heap *h);                    /* NULL when empty */
void heap_remove(struct heap *h, struct heap_node *node);      /* in no heap: nothing happens */
void heap_key_changed(struct heap *h, struct heap_node *node); /* node's key was written */

static inline struct heap_node *heap_top(const struct heap *h)
{
    return h->count == 0 ? NULL : h->nodes[1];
}
static inline bool heap_holds(const struct heap_node *node)
{
    return node->index != 0;
}

#define heap_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

#endif
