/* shared.h - a reference count for the parts that images have in common, and memory that does not
 * fail.
 *
 * What more than one holds is never changed; what is held once, by the edit that is at work, may be
 * changed in place. That is the whole of copy-on-write here: shared_alone before each change. */
#ifndef KARST_METADATA_SHARED_H
#define KARST_METADATA_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* First member of what is counted. */
struct shared {
    atomic_uint refs;
    void (*destroy)(struct shared *self);
};

/* Cleared; aborts without memory: a broker that can't hold the metadata has nothing to go on with.
 */
void *metadata_alloc(size_t bytes);
void *metadata_realloc(void *ptr, size_t bytes);

static inline void shared_init(struct shared *s, void (*destroy)(struct shared *self))
{
    atomic_init(&s->refs, 1);
    s->destroy = destroy;
}
static inline struct shared *shared_ref(struct shared *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}
static inline void shared_unref(struct shared *s) /* accepts NULL */
{
    if (s != NULL && atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) == 1)
        s->destroy(s);
}
/* Only the caller's reference is left. Acquires what others wrote before they let go. */
static inline bool shared_alone(struct shared *s)
{
    return atomic_load_explicit(&s->refs, memory_order_acquire) == 1;
}

/* What a shared value is; shared is the first member of each part. */
#define PART_OF(type, value) ((const struct type *)(const void *)(value))

/* The same for parts whose first member is called shared; NULL stays NULL. */
#define PART_REF(part) ((part) == NULL ? NULL : (shared_ref(&(part)->shared), (part)))
#define PART_UNREF(part)                                                                           \
    do {                                                                                           \
        if ((part) != NULL)                                                                        \
            shared_unref(&(part)->shared);                                                         \
    } while (0)

#endif
