#include "base/frame.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

/* Classes are powers of two from 256 bytes to 64 KiB. Each keeps at most half a MiB for a thread:
 * what a thread frees beyond that, because others allocate what it frees, goes back to malloc. */
enum {
    FRAME_CLASS_SHIFT = 8,
    FRAME_CLASSES = 9,
    FRAME_CACHED_BYTES_MAX = 64 * 1024,
    FRAME_CLASS_KEPT_BYTES = 512 * 1024,
};
static_assert(FRAME_CACHED_BYTES_MAX == 1 << (FRAME_CLASS_SHIFT + FRAME_CLASSES - 1),
              "the last class is the largest cached frame");
static_assert(offsetof(struct frame, bytes) % 16 == 0, "bytes must be aligned");

struct frame_cache {
    struct frame *first; /* the next one's address lies in the first bytes of each */
    size_t count;
};
static _Thread_local struct frame_cache frame_caches[FRAME_CLASSES];

/* Under AddressSanitizer every frame is malloc's, so that a use after the last unref is seen. */
#if defined(__SANITIZE_ADDRESS__)
#define FRAME_CACHE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FRAME_CACHE 0
#endif
#endif
#ifndef FRAME_CACHE
#define FRAME_CACHE 1
#endif

/* FRAME_CLASSES: too large for the cache. */
static size_t frame_class(size_t capacity)
{
    if (!FRAME_CACHE || capacity > FRAME_CACHED_BYTES_MAX)
        return FRAME_CLASSES;
    if (capacity <= 1 << FRAME_CLASS_SHIFT)
        return 0;
    return (size_t)(64 - __builtin_clzll(capacity - 1)) - FRAME_CLASS_SHIFT;
}

static struct frame *frame_cache_take(size_t class)
{
    struct frame_cache *cache = &frame_caches[class];
    struct frame *frame = cache->first;
    if (frame == NULL)
        return NULL;
    memcpy(&cache->first, frame->bytes, sizeof(frame));
    cache->count--;
    return frame;
}

static bool frame_cache_give(size_t class, struct frame *frame)
{
    struct frame_cache *cache = &frame_caches[class];
    size_t bytes = (size_t)1 << (class + FRAME_CLASS_SHIFT);
    if ((cache->count + 1) * bytes > FRAME_CLASS_KEPT_BYTES)
        return false;
    memcpy(frame->bytes, &cache->first, sizeof(frame));
    cache->first = frame;
    cache->count++;
    return true;
}

struct frame *frame_new_charged(size_t capacity, struct frame_budget *budget)
{
    ASSERT(capacity > 0);
    ASSERT(capacity < (size_t)1 << 31);
    size_t class = frame_class(capacity);
    struct frame *frame = class == FRAME_CLASSES ? NULL : frame_cache_take(class);
    if (frame == NULL) {
        size_t room = class == FRAME_CLASSES ? capacity : (size_t)1 << (class + FRAME_CLASS_SHIFT);
        frame = malloc(sizeof(*frame) + room);
        if (frame == NULL)
            return NULL;
    }
    atomic_init(&frame->refs, 1);
    frame->capacity = (uint32_t)capacity;
    frame->used = 0;
    frame->at = 0;
    frame->budget = budget;
    frame->charge = capacity;
    if (budget != NULL)
        atomic_fetch_add_explicit(&budget->used, capacity, memory_order_relaxed);
    return frame;
}

struct frame *frame_new(size_t capacity)
{
    return frame_new_charged(capacity, NULL);
}

void frame_charge(struct frame *frame, size_t bytes)
{
    frame->charge += bytes;
    if (frame->budget != NULL)
        atomic_fetch_add_explicit(&frame->budget->used, bytes, memory_order_relaxed);
}

bool frame_over_budget(const struct frame *frame)
{
    const struct frame_budget *budget = frame->budget;
    return budget != NULL &&
           atomic_load_explicit(&budget->used, memory_order_relaxed) > budget->bytes_max;
}

struct frame *frame_ref(struct frame *frame)
{
    unsigned before = atomic_fetch_add_explicit(&frame->refs, 1, memory_order_relaxed);
    ASSERT(before > 0);
    ASSERT(before < UINT32_MAX);
    return frame;
}

void frame_unref(struct frame *frame)
{
    if (frame == NULL)
        return;
    /* Release: our reads are over. Acquire, for the last one: so are everybody's. */
    unsigned before = atomic_fetch_sub_explicit(&frame->refs, 1, memory_order_acq_rel);
    ASSERT(before > 0);
    if (before > 1)
        return;
    if (frame->budget != NULL) {
        size_t used =
            atomic_fetch_sub_explicit(&frame->budget->used, frame->charge, memory_order_relaxed);
        ASSERT(used >= frame->charge);
    }
    size_t class = frame_class(frame->capacity);
    if (class == FRAME_CLASSES || !frame_cache_give(class, frame))
        free(frame);
}

void frame_cache_drain(void)
{
    for (size_t class = 0; class < FRAME_CLASSES; class ++) {
        struct frame *frame;
        while ((frame = frame_cache_take(class)) != NULL)
            free(frame);
    }
}
