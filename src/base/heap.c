#include "base/heap.h"

#include <stdlib.h>

static bool heap_before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->sequence < b->sequence;
}

static void heap_place(struct heap *h, uint32_t at, struct heap_node *node)
{
    h->nodes[at] = node;
    node->index = at;
}

static void heap_sift_up(struct heap *h, struct heap_node *node)
{
    uint32_t at = node->index;
    while (at > 1 && heap_before(node, h->nodes[at / 2])) {
        heap_place(h, at, h->nodes[at / 2]);
        at /= 2;
    }
    heap_place(h, at, node);
}

static void heap_sift_down(struct heap *h, struct heap_node *node)
{
    uint32_t at = node->index;
    while (at * 2 <= h->count) {
        uint32_t child = at * 2;
        if (child < h->count && heap_before(h->nodes[child + 1], h->nodes[child]))
            child++;
        if (!heap_before(h->nodes[child], node))
            break;
        heap_place(h, at, h->nodes[child]);
        at = child;
    }
    heap_place(h, at, node);
}

void heap_init(struct heap *h)
{
    *h = (struct heap){0};
}

void heap_fini(struct heap *h)
{
    free(h->nodes);
    *h = (struct heap){0};
}

err_t heap_reserve(struct heap *h, uint32_t count)
{
    if (count <= h->capacity)
        return ERR_OK;
    if (count > UINT32_MAX / 4) /* so that no index of a child wraps */
        return ERR_NO_MEMORY;
    uint32_t capacity = h->capacity == 0 ? 64 : h->capacity * 2;
    if (capacity < count)
        capacity = count;
    struct heap_node **nodes = realloc(h->nodes, ((size_t)capacity + 1) * sizeof(*nodes));
    if (nodes == NULL)
        return ERR_NO_MEMORY;
    h->nodes = nodes;
    h->capacity = capacity;
    return ERR_OK;
}

err_t heap_push(struct heap *h, struct heap_node *node)
{
    ASSERT(!heap_holds(node));
    err_t err = heap_reserve(h, h->count + 1);
    if (err != ERR_OK)
        return err;
    h->count++;
    heap_place(h, h->count, node);
    heap_sift_up(h, node);
    return ERR_OK;
}

void heap_key_changed(struct heap *h, struct heap_node *node)
{
    ASSERT(heap_holds(node));
    ASSERT(h->nodes[node->index] == node);
    heap_sift_up(h, node);
    heap_sift_down(h, node);
}

void heap_remove(struct heap *h, struct heap_node *node)
{
    if (!heap_holds(node))
        return;
    ASSERT(node->index <= h->count);
    ASSERT(h->nodes[node->index] == node);
    uint32_t at = node->index;
    struct heap_node *last = h->nodes[h->count];
    h->count--;
    node->index = 0;
    if (last == node)
        return;
    heap_place(h, at, last);
    heap_key_changed(h, last);
}

struct heap_node *heap_pop(struct heap *h)
{
    struct heap_node *top = heap_top(h);
    if (top != NULL)
        heap_remove(h, top);
    return top;
}
