#include "metadata/trie.h"

#include <stdlib.h>

#include "base/assert.h"

struct trie_node {
    atomic_uint refs;
    int bit;      /* where the children differ, 63..0; -1: a leaf */
    uint64_t key; /* a leaf's; of a branch, any key below it: they agree above bit */
    union {
        struct trie_node *child[2];
        struct {
            struct shared *value;
            struct trie_node *next; /* another leaf of the same key */
        } leaf;
    };
};

struct trie_node *trie_ref(struct trie_node *root)
{
    if (root != NULL)
        atomic_fetch_add_explicit(&root->refs, 1, memory_order_relaxed);
    return root;
}

/* Recursion is bounded by the 64 bits of a key; leaves of one key are walked. */
void trie_unref(struct trie_node *root)
{
    struct trie_node *node = root;
    while (node != NULL && atomic_fetch_sub_explicit(&node->refs, 1, memory_order_acq_rel) == 1) {
        struct trie_node *next;
        if (node->bit < 0) {
            shared_unref(node->leaf.value);
            next = node->leaf.next;
        } else {
            trie_unref(node->child[0]);
            next = node->child[1];
        }
        free(node);
        node = next;
    }
}

static struct trie_node *trie_leaf(uint64_t key, struct shared *value)
{
    struct trie_node *leaf = metadata_alloc(sizeof(*leaf));
    atomic_init(&leaf->refs, 1);
    leaf->bit = -1;
    leaf->key = key;
    leaf->leaf.value = value;
    return leaf;
}

/* Makes the node in slot this root's alone; the way to slot is already. */
static struct trie_node *trie_own_node(struct trie_node **slot)
{
    struct trie_node *node = *slot;
    if (atomic_load_explicit(&node->refs, memory_order_acquire) == 1)
        return node;
    struct trie_node *copy = metadata_alloc(sizeof(*copy));
    atomic_init(&copy->refs, 1);
    copy->bit = node->bit;
    copy->key = node->key;
    if (node->bit < 0) {
        copy->leaf.value = shared_ref(node->leaf.value);
        copy->leaf.next = trie_ref(node->leaf.next);
    } else {
        copy->child[0] = trie_ref(node->child[0]);
        copy->child[1] = trie_ref(node->child[1]);
    }
    *slot = copy;
    trie_unref(node);
    return copy;
}

static bool trie_holds(const struct trie_node *node, uint64_t key)
{
    if (node->bit < 0)
        return key == node->key;
    return ((key ^ node->key) >> node->bit) >> 1 == 0; /* two shifts: bit may be 63 */
}

static unsigned trie_side(const struct trie_node *node, uint64_t key)
{
    return (unsigned)(key >> node->bit) & 1;
}

struct shared *trie_find(const struct trie_node *root, uint64_t key, trie_match match,
                         const void *probe)
{
    const struct trie_node *node = root;
    while (node != NULL && node->bit >= 0)
        node = node->child[trie_side(node, key)];
    if (node == NULL || node->key != key)
        return NULL;
    for (; node != NULL; node = node->leaf.next)
        if (match(node->leaf.value, probe))
            return node->leaf.value;
    return NULL;
}

void trie_add(struct trie_node **root, uint64_t key, struct shared *value)
{
    struct trie_node **slot = root;
    while (*slot != NULL && trie_holds(*slot, key)) {
        struct trie_node *node = trie_own_node(slot);
        slot = node->bit < 0 ? &node->leaf.next : &node->child[trie_side(node, key)];
    }
    struct trie_node *leaf = trie_leaf(key, value);
    struct trie_node *other = *slot;
    if (other == NULL) { /* the first of all, or one more of its key */
        *slot = leaf;
        return;
    }
    struct trie_node *branch = metadata_alloc(sizeof(*branch));
    atomic_init(&branch->refs, 1);
    branch->bit = 63 - __builtin_clzll(key ^ other->key);
    branch->key = key;
    branch->child[trie_side(branch, key)] = leaf;
    branch->child[!trie_side(branch, key)] = other;
    *slot = branch;
}

/* Owns the way to the leaf of a value that is there. ret_branch: the slot of the branch above, or
 * NULL. */
static struct trie_node **trie_own_leaf(struct trie_node **root, uint64_t key, trie_match match,
                                        const void *probe, struct trie_node ***ret_branch)
{
    struct trie_node **slot = root, **branch = NULL;
    for (;;) {
        ASSERT(*slot != NULL);
        struct trie_node *node = trie_own_node(slot);
        if (node->bit < 0 && match(node->leaf.value, probe)) {
            *ret_branch = branch;
            return slot;
        }
        if (node->bit < 0) {
            branch = NULL; /* not the first of its key: nothing above changes when it goes */
            slot = &node->leaf.next;
            continue;
        }
        branch = slot;
        slot = &node->child[trie_side(node, key)];
    }
}

struct shared **trie_own(struct trie_node **root, uint64_t key, trie_match match, const void *probe)
{
    if (trie_find(*root, key, match, probe) == NULL)
        return NULL; /* before anything is copied */
    struct trie_node **branch;
    return &(*trie_own_leaf(root, key, match, probe, &branch))->leaf.value;
}

bool trie_remove(struct trie_node **root, uint64_t key, trie_match match, const void *probe)
{
    if (trie_find(*root, key, match, probe) == NULL)
        return false;
    struct trie_node **branch;
    struct trie_node **slot = trie_own_leaf(root, key, match, probe, &branch);
    struct trie_node *leaf = *slot;
    *slot = trie_ref(leaf->leaf.next);
    trie_unref(leaf);
    if (*slot == NULL && branch != NULL) { /* a branch with one child is that child */
        struct trie_node *above = *branch;
        *branch = trie_ref(above->child[above->child[0] == NULL]);
        trie_unref(above);
    }
    return true;
}

void trie_each(const struct trie_node *root, void (*each)(void *context, struct shared *value),
               void *context)
{
    for (const struct trie_node *node = root; node != NULL;) {
        if (node->bit < 0) {
            each(context, node->leaf.value);
            node = node->leaf.next;
        } else {
            trie_each(node->child[0], each, context);
            node = node->child[1];
        }
    }
}
