/* table.h - hash table from 64-bit or byte-string keys to pointers; iterated in order of insertion.
 *
 * The order depends on the calls alone, neither on the seed nor on an address, so that a walk over
 * a table may decide things in the simulator. For cold and small sets uthash does the same.
 *
 * Ownership: values and the bytes of keys are the caller's; a key must live as long as its entry,
 *            so it is mostly a field of its value.
 * Thread:    one.
 * Errors:    put needs memory now and then (ERR_NO_MEMORY, nothing changed); nothing else can fail.
 * Seed:      of the hash; random where keys come from outside. */
#ifndef KARST_BASE_TABLE_H
#define KARST_BASE_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"
#include "base/bytes.h"
#include "base/err.h"

struct table_entry {
    uint64_t hash;
    struct bytes key; /* of a 64-bit key: data is NULL, and number holds it */
    uint64_t number;
    void *value; /* NULL: removed */
};

struct table {
    struct table_entry *entries; /* in order of insertion, the removed ones among them */
    uint32_t *index;             /* place in entries + 1; 0: free */
    uint32_t used;               /* entries, the removed ones too */
    uint32_t count;
    uint32_t capacity; /* of entries; the index has twice as many slots, a power of two */
    uint64_t seed;
};

void table_init(struct table *t, uint64_t seed); /* allocates nothing */
void table_fini(struct table *t);                /* accepts zeroed */
void table_clear(struct table *t);
static inline size_t table_count(const struct table *t)
{
    return t->count;
}

/* get: NULL when absent. put: value is not NULL; a present key keeps its place and gets the new
 * value (and the new key's bytes). remove: returns the value, NULL when absent. */
void *table_get(const struct table *t, uint64_t key);
err_t table_put(struct table *t, uint64_t key, void *value) NODISCARD;
void *table_remove(struct table *t, uint64_t key);
/* One table has keys of one kind. */
void *table_get_bytes(const struct table *t, struct bytes key);
err_t table_put_bytes(struct table *t, struct bytes key, void *value) NODISCARD;
void *table_remove_bytes(struct table *t, struct bytes key);

/* Walks: *at is 0 at first; NULL at the end. Removing is allowed on the way, putting is not. */
void *table_next(const struct table *t, uint32_t *at);
#define table_for_each(type, value, t)                                                             \
    for (uint32_t value##_at = 0, value##_once = 1; value##_once; value##_once = 0)                \
        for (type * value; (value = table_next((t), &value##_at)) != NULL;)

#endif
