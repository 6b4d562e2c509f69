/* trie.h - persistent map from 64-bit keys to shared values: a big-endian Patricia tree
 * (Okasaki & Gill, "Fast Mergeable Integer Maps", 1998).
 *
 * A root is a reference. Two roots share every node that is the same; a change copies the path to
 * it, some 14 small nodes among 10,000 keys, and nothing of what only this root holds. Different
 * values may have one key (they are hashes): match says which is meant.
 *
 * Ownership: the tree holds a reference to each value. Thread: reading on any; a root is changed by
 * one. */
#ifndef KARST_METADATA_TRIE_H
#define KARST_METADATA_TRIE_H

#include "metadata/shared.h"

struct trie_node; /* NULL: the empty tree */

typedef bool (*trie_match)(const struct shared *value, const void *probe);

struct trie_node *trie_ref(struct trie_node *root);
void trie_unref(struct trie_node *root);

struct shared *trie_find(const struct trie_node *root, uint64_t key, trie_match match,
                         const void *probe);
/* Adds value, which must not be there yet; takes over the caller's reference. */
void trie_add(struct trie_node **root, uint64_t key, struct shared *value);
/* The place of a value, for its replacement, on a path that this root alone holds; NULL: absent.
 * Valid until the next call. Whoever replaces the value swaps the references. */
struct shared **trie_own(struct trie_node **root, uint64_t key, trie_match match,
                         const void *probe);
/* Drops the tree's reference. false: it was not there. */
bool trie_remove(struct trie_node **root, uint64_t key, trie_match match, const void *probe);
/* In order of keys. */
void trie_each(const struct trie_node *root, void (*each)(void *context, struct shared *value),
               void *context);

#endif
