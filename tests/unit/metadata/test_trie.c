#include "metadata/trie.h"

#include <stdlib.h>

#include "base/rng.h"
#include "lib/check_main.h"

static size_t items_alive;

struct item {
    struct shared shared;
    uint64_t key;
    uint64_t name; /* several may have one key */
    uint64_t version;
};

static void item_destroy(struct shared *self)
{
    items_alive--;
    free(self);
}

static struct shared *item_new(uint64_t key, uint64_t name, uint64_t version)
{
    struct item *item = metadata_alloc(sizeof(*item));
    shared_init(&item->shared, item_destroy);
    item->key = key;
    item->name = name;
    item->version = version;
    items_alive++;
    return &item->shared;
}

static bool item_match(const struct shared *value, const void *name)
{
    return PART_OF(item, value)->name == *(const uint64_t *)name;
}

static const struct item *item_find(const struct trie_node *root, uint64_t key, uint64_t name)
{
    struct shared *found = trie_find(root, key, item_match, &name);
    return found == NULL ? NULL : PART_OF(item, found);
}

struct order {
    uint64_t last;
    size_t count;
};

static void order_check(void *context, struct shared *value)
{
    struct order *order = context;
    uint64_t key = PART_OF(item, value)->key;
    ck_assert(order->count == 0 || key >= order->last);
    order->last = key;
    order->count++;
}

enum { KEYS = 64, NAMES = 3 };

/* The model: versions by key and name, 0 where absent. */
struct model {
    uint64_t version[KEYS][NAMES];
};

static uint64_t model_key(size_t idx)
{
    return idx * UINT64_C(0x8421084210842109); /* far apart in all bits; the first is 0 */
}

static void model_check(const struct model *model, const struct trie_node *root)
{
    size_t count = 0;
    for (size_t k = 0; k < KEYS; k++) {
        for (uint64_t n = 0; n < NAMES; n++) {
            const struct item *item = item_find(root, model_key(k), n);
            ck_assert_uint_eq(item == NULL ? 0 : item->version, model->version[k][n]);
            count += item != NULL;
        }
    }
    struct order order = {0};
    trie_each(root, order_check, &order);
    ck_assert_uint_eq(order.count, count);
}

static void model_step(struct model *model, struct trie_node **root, struct rng *rng,
                       uint64_t version)
{
    size_t k = (size_t)rng_below(rng, KEYS);
    uint64_t n = rng_below(rng, NAMES);
    uint64_t *place = &model->version[k][n];
    if (*place == 0) {
        ck_assert(!trie_remove(root, model_key(k), item_match, &n));
        ck_assert_ptr_null(trie_own(root, model_key(k), item_match, &n));
        trie_add(root, model_key(k), item_new(model_key(k), n, version));
        *place = version;
    } else if (rng_chance(rng, 500000)) {
        struct shared **slot = trie_own(root, model_key(k), item_match, &n);
        ck_assert_ptr_nonnull(slot);
        shared_unref(*slot);
        *slot = item_new(model_key(k), n, version);
        *place = version;
    } else {
        ck_assert(trie_remove(root, model_key(k), item_match, &n));
        *place = 0;
    }
}

START_TEST(every_version_stays_what_it_was)
{
    enum { VERSIONS = 40, STEPS = 50 };
    static struct model models[VERSIONS];
    struct trie_node *roots[VERSIONS] = {0};
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    uint64_t version = 0;
    for (size_t v = 0; v < VERSIONS; v++) {
        if (v > 0) { /* a fork of any earlier one */
            size_t from = (size_t)rng_below(&rng, v);
            models[v] = models[from];
            roots[v] = trie_ref(roots[from]);
        }
        for (int step = 0; step < STEPS; step++)
            model_step(&models[v], &roots[v], &rng, ++version);
    }
    for (size_t v = 0; v < VERSIONS; v++)
        model_check(&models[v], roots[v]);
    for (size_t v = 0; v < VERSIONS; v += 2)
        trie_unref(roots[v]);
    for (size_t v = 1; v < VERSIONS; v += 2)
        model_check(&models[v], roots[v]);
    for (size_t v = 1; v < VERSIONS; v += 2)
        trie_unref(roots[v]);
    ck_assert_uint_eq(items_alive, 0);
}
END_TEST

START_TEST(a_change_where_nobody_else_looks_copies_nothing)
{
    struct trie_node *root = NULL;
    for (uint64_t k = 0; k < KEYS; k++)
        trie_add(&root, k, item_new(k, 0, 1));
    uint64_t name = 0;
    struct shared **first = trie_own(&root, 17, item_match, &name);
    ck_assert_ptr_eq(trie_own(&root, 17, item_match, &name), first);
    struct trie_node *other = trie_ref(root);
    ck_assert_ptr_ne(trie_own(&root, 17, item_match, &name), first);
    trie_unref(other);
    trie_unref(root);
    ck_assert_uint_eq(items_alive, 0);
}
END_TEST

START_TEST(keys_at_both_ends_are_kept_apart)
{
    const uint64_t keys[] = {
        0, 1, UINT64_MAX, UINT64_MAX - 1, UINT64_C(1) << 63, UINT64_C(1) << 31};
    struct trie_node *root = NULL;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        trie_add(&root, keys[i], item_new(keys[i], 0, i + 1));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++)
        ck_assert_uint_eq(item_find(root, keys[i], 0)->version, i + 1);
    ck_assert_ptr_null(item_find(root, 2, 0));
    trie_unref(root);
}
END_TEST

CHECK_MAIN("metadata/trie", every_version_stays_what_it_was,
           a_change_where_nobody_else_looks_copies_nothing, keys_at_both_ends_are_kept_apart)
