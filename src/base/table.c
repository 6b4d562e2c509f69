#include "base/table.h"

#include <stdlib.h>

/* Open addressing over a compact array: the index is probed linearly, the entries lie in order of
 * insertion. A removed entry keeps its place, marked by a NULL value, until the next rebuild. */
enum { TABLE_CAPACITY_FIRST = 8, TABLE_CAPACITY_MAX = 1 << 28 };

struct table_key {
    uint64_t hash;
    struct bytes bytes;
    uint64_t number;
};

static uint64_t table_mix(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static struct table_key table_key_number(const struct table *t, uint64_t number)
{
    uint64_t hash =
        table_mix(number ^ t->seed ^ UINT64_C(0xA0761D6478BD642F), UINT64_C(0xE7037ED1A0B428DB));
    return (struct table_key){.hash = hash, .number = number};
}

static struct table_key table_key_bytes(const struct table *t, struct bytes key)
{
    uint64_t hash = t->seed ^ key.len;
    for (size_t at = 0; at < key.len; at += 8) {
        uint64_t word = 0;
        memcpy(&word, key.data + at, key.len - at < 8 ? key.len - at : 8);
        hash = table_mix(hash ^ word ^ UINT64_C(0xA0761D6478BD642F), UINT64_C(0xE7037ED1A0B428DB));
    }
    /* An empty key may come without an address, but NULL means that the key is a number. */
    static const uint8_t empty[1];
    if (key.data == NULL)
        key.data = empty;
    return (struct table_key){.hash = hash, .bytes = key};
}

static bool table_entry_is(const struct table_entry *e, const struct table_key *key)
{
    if (e->hash != key->hash || e->value == NULL)
        return false;
    ASSERT((e->key.data == NULL) == (key->bytes.data == NULL)); /* one kind of keys */
    if (key->bytes.data == NULL)
        return e->number == key->number;
    return e->key.len == key->bytes.len && memcmp(e->key.data, key->bytes.data, e->key.len) == 0;
}

static size_t table_slot_mask(const struct table *t)
{
    return (size_t)t->capacity * 2 - 1;
}

static struct table_entry *table_find(const struct table *t, const struct table_key *key)
{
    if (t->capacity == 0)
        return NULL;
    size_t mask = table_slot_mask(t);
    for (size_t slot = key->hash & mask; t->index[slot] != 0; slot = (slot + 1) & mask) {
        struct table_entry *e = &t->entries[t->index[slot] - 1];
        if (table_entry_is(e, key))
            return e;
    }
    return NULL;
}

static void table_index(struct table *t, uint32_t place)
{
    size_t mask = table_slot_mask(t);
    size_t slot = t->entries[place].hash & mask;
    while (t->index[slot] != 0)
        slot = (slot + 1) & mask;
    t->index[slot] = place + 1;
}

/* Makes room for one more: drops the removed entries, and grows where more than half are alive. */
static err_t table_rebuild(struct table *t)
{
    uint32_t capacity = t->capacity == 0 ? TABLE_CAPACITY_FIRST : t->capacity;
    if (t->count > capacity / 2)
        capacity *= 2;
    if (capacity > TABLE_CAPACITY_MAX)
        return ERR_NO_MEMORY;
    struct table grown = {.seed = t->seed, .capacity = capacity};
    grown.entries = malloc(capacity * sizeof(*grown.entries));
    grown.index = calloc((size_t)capacity * 2, sizeof(*grown.index));
    if (grown.entries == NULL || grown.index == NULL) {
        table_fini(&grown);
        return ERR_NO_MEMORY;
    }
    for (uint32_t i = 0; i < t->used; i++) {
        if (t->entries[i].value == NULL)
            continue;
        grown.entries[grown.used] = t->entries[i];
        table_index(&grown, grown.used);
        grown.used++;
    }
    ASSERT(grown.used == t->count);
    grown.count = t->count;
    table_fini(t);
    *t = grown;
    return ERR_OK;
}

static err_t table_put_key(struct table *t, const struct table_key *key, void *value)
{
    ASSERT(value != NULL);
    struct table_entry *e = table_find(t, key);
    if (e != NULL) {
        e->key = key->bytes;
        e->value = value;
        return ERR_OK;
    }
    if (t->used == t->capacity) {
        err_t err = table_rebuild(t);
        if (err != ERR_OK)
            return err;
    }
    t->entries[t->used] = (struct table_entry){
        .hash = key->hash, .key = key->bytes, .number = key->number, .value = value};
    table_index(t, t->used);
    t->used++;
    t->count++;
    return ERR_OK;
}

static void *table_remove_key(struct table *t, const struct table_key *key)
{
    struct table_entry *e = table_find(t, key);
    if (e == NULL)
        return NULL;
    void *value = e->value;
    e->value = NULL;
    t->count--;
    return value;
}

void table_init(struct table *t, uint64_t seed)
{
    *t = (struct table){.seed = seed};
}

void table_fini(struct table *t)
{
    free(t->entries);
    free(t->index);
    *t = (struct table){.seed = t->seed};
}

void table_clear(struct table *t)
{
    t->used = 0;
    t->count = 0;
    if (t->capacity > 0)
        memset(t->index, 0, (size_t)t->capacity * 2 * sizeof(*t->index));
}

void *table_get(const struct table *t, uint64_t key)
{
    struct table_key k = table_key_number(t, key);
    struct table_entry *e = table_find(t, &k);
    return e == NULL ? NULL : e->value;
}

err_t table_put(struct table *t, uint64_t key, void *value)
{
    struct table_key k = table_key_number(t, key);
    return table_put_key(t, &k, value);
}

void *table_remove(struct table *t, uint64_t key)
{
    struct table_key k = table_key_number(t, key);
    return table_remove_key(t, &k);
}

void *table_get_bytes(const struct table *t, struct bytes key)
{
    struct table_key k = table_key_bytes(t, key);
    struct table_entry *e = table_find(t, &k);
    return e == NULL ? NULL : e->value;
}

err_t table_put_bytes(struct table *t, struct bytes key, void *value)
{
    struct table_key k = table_key_bytes(t, key);
    return table_put_key(t, &k, value);
}

void *table_remove_bytes(struct table *t, struct bytes key)
{
    struct table_key k = table_key_bytes(t, key);
    return table_remove_key(t, &k);
}

void *table_next(const struct table *t, uint32_t *at)
{
    while (*at < t->used) {
        void *value = t->entries[(*at)++].value;
        if (value != NULL)
            return value;
    }
    return NULL;
}
