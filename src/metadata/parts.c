#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "metadata/state.h"

/* ---- image ---- */

static void image_destroy(struct shared *self)
{
    struct image *image = container_of(self, struct image, shared);
    trie_unref(image->by_id);
    trie_unref(image->by_name);
    trie_unref(image->by_order);
    PART_UNREF(image->brokers);
    PART_UNREF(image->broker_configs);
    PART_UNREF(image->voters);
    PART_UNREF(image->pending);
    free(image);
}

struct image *image_new_empty(void)
{
    struct image *image = metadata_alloc(sizeof(*image));
    shared_init(&image->shared, image_destroy);
    return image;
}

struct image *image_copy(struct image *image)
{
    struct image *copy = metadata_alloc(sizeof(*copy));
    shared_init(&copy->shared, image_destroy);
    copy->offset = image->offset;
    copy->cluster_id = image->cluster_id;
    copy->recovery_id = image->recovery_id;
    copy->feature_level = image->feature_level;
    copy->next_producer_id = image->next_producer_id;
    copy->digest = image->digest;
    copy->next_order = image->next_order;
    copy->topic_count = image->topic_count;
    copy->partition_count = image->partition_count;
    copy->by_id = trie_ref(image->by_id);
    copy->by_name = trie_ref(image->by_name);
    copy->by_order = trie_ref(image->by_order);
    copy->brokers = PART_REF(image->brokers);
    copy->broker_configs = PART_REF(image->broker_configs);
    copy->voters = PART_REF(image->voters);
    copy->pending = PART_REF(image->pending);
    return copy;
}

/* ---- topics ---- */

bool topic_match_id(const struct shared *topic, const void *id)
{
    return uuid_equal(&PART_OF(topic, topic)->pub.id, id);
}

bool identity_match_name(const struct shared *identity, const void *name)
{
    return strcmp(PART_OF(topic_identity, identity)->name, name) == 0;
}

bool identity_match_order(const struct shared *identity, const void *order)
{
    return PART_OF(topic_identity, identity)->order == *(const uint64_t *)order;
}

uint64_t topic_name_key(const char *name)
{
    uint64_t hash = UINT64_C(0xCBF29CE484222325); /* FNV-1a, and a last mix for the upper bits */
    for (const char *at = name; *at != '\0'; at++) {
        hash ^= (uint8_t)(*at == '.' ? '_' : *at);
        hash *= UINT64_C(0x100000001B3);
    }
    hash = (hash ^ hash >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return hash ^ hash >> 32;
}

bool topic_names_collide(const char *a, const char *b)
{
    for (; *a != '\0' && *b != '\0'; a++, b++)
        if ((*a == '.' ? '_' : *a) != (*b == '.' ? '_' : *b))
            return false;
    return *a == *b;
}

struct topic *image_find_topic(const struct image *image, const struct uuid *id)
{
    struct shared *found = trie_find(image->by_id, uuid_hash(id), topic_match_id, id);
    return found == NULL ? NULL : container_of(found, struct topic, shared);
}

static void topic_destroy(struct shared *self)
{
    struct topic *topic = container_of(self, struct topic, shared);
    PART_UNREF(topic->identity);
    PART_UNREF(topic->partitions);
    PART_UNREF(topic->configs);
    free(topic);
}

static void part_free(struct shared *self)
{
    free(self); /* shared is the first member */
}

static struct topic *topic_new(struct topic_identity *identity, struct partition_set *partitions,
                               struct config_set *configs)
{
    struct topic *topic = metadata_alloc(sizeof(*topic));
    shared_init(&topic->shared, topic_destroy);
    topic->identity = identity;
    topic->partitions = partitions;
    topic->pub.id = identity->id;
    topic->pub.request_id = identity->request_id;
    topic->pub.name = identity->name;
    if (partitions != NULL) {
        topic->pub.partition_count = partitions->count;
        topic->pub.partitions = partitions->at;
    }
    topic_set_configs(topic, configs);
    return topic;
}

struct topic *image_own_topic(struct image *image, const struct uuid *id)
{
    struct shared **place = trie_own(&image->by_id, uuid_hash(id), topic_match_id, id);
    if (place == NULL)
        return NULL;
    struct topic *topic = container_of(*place, struct topic, shared);
    if (shared_alone(&topic->shared))
        return topic;
    shared_ref(&topic->identity->shared);
    struct topic *copy =
        topic_new(topic->identity, PART_REF(topic->partitions), PART_REF(topic->configs));
    *place = &copy->shared;
    shared_unref(&topic->shared);
    return copy;
}

struct partition_set *topic_own_partitions(struct topic *topic, int32_t more)
{
    struct partition_set *set = topic->partitions;
    int32_t count = set == NULL ? 0 : set->count;
    int32_t capacity = set == NULL ? 0 : set->capacity;
    bool alone = set != NULL && shared_alone(&set->shared);
    if (alone && capacity - count >= more)
        return set;
    capacity = more == 0 ? count : count + more + count / 2;
    size_t bytes = sizeof(*set) + (size_t)capacity * sizeof(set->at[0]);
    if (alone) {
        set = metadata_realloc(set, bytes);
    } else {
        struct partition_set *copy = metadata_alloc(bytes);
        shared_init(&copy->shared, part_free);
        copy->count = count;
        if (set != NULL)
            memcpy(copy->at, set->at, (size_t)count * sizeof(copy->at[0]));
        PART_UNREF(set);
        set = copy;
    }
    set->capacity = capacity;
    topic->partitions = set;
    topic->pub.partitions = set->at;
    return set;
}

void topic_set_configs(struct topic *topic, struct config_set *configs)
{
    PART_UNREF(topic->configs);
    topic->configs = configs;
    topic->pub.config_count = configs == NULL ? 0 : configs->count;
    topic->pub.configs = configs == NULL ? NULL : configs->at;
}

void image_add_topic(struct image *image, const struct uuid *id, const struct uuid *request_id,
                     const char *name)
{
    size_t name_bytes = strlen(name) + 1;
    struct topic_identity *identity = metadata_alloc(sizeof(*identity) + name_bytes);
    shared_init(&identity->shared, part_free);
    identity->id = *id;
    identity->request_id = *request_id;
    identity->order = image->next_order++;
    memcpy(identity->name, name, name_bytes);
    trie_add(&image->by_id, uuid_hash(id), &topic_new(identity, NULL, NULL)->shared);
    trie_add(&image->by_name, topic_name_key(name), shared_ref(&identity->shared));
    trie_add(&image->by_order, identity->order, shared_ref(&identity->shared));
    image->topic_count++;
}

void image_remove_topic(struct image *image, const struct uuid *id)
{
    struct topic *topic = image_find_topic(image, id);
    ASSERT(topic != NULL);
    struct topic_identity *identity = topic->identity;
    shared_ref(&identity->shared);
    image->topic_count--;
    image->partition_count -= (size_t)topic->pub.partition_count;
    bool removed = trie_remove(&image->by_name, topic_name_key(identity->name), identity_match_name,
                               identity->name);
    ASSERT(removed);
    removed =
        trie_remove(&image->by_order, identity->order, identity_match_order, &identity->order);
    ASSERT(removed);
    removed = trie_remove(&image->by_id, uuid_hash(&identity->id), topic_match_id, &identity->id);
    ASSERT(removed);
    PART_UNREF(identity);
}

/* ---- configs ---- */

static void config_set_put(struct config_set *set, char **text, const char *key, const char *value)
{
    set->at[set->count].key = *text;
    *text = stpcpy(*text, key) + 1;
    set->at[set->count].value = *text;
    *text = stpcpy(*text, value) + 1;
    set->count++;
}

struct config_set *config_set_with(const struct config_set *set, const char *key, const char *value)
{
    uint32_t had = set == NULL ? 0 : set->count;
    size_t text_bytes = strlen(key) + 1 + (value == NULL ? 0 : strlen(value) + 1);
    for (uint32_t i = 0; i < had; i++)
        text_bytes += strlen(set->at[i].key) + 1 + strlen(set->at[i].value) + 1;
    struct config_set *with =
        metadata_alloc(sizeof(*with) + (had + 1) * sizeof(with->at[0]) + text_bytes);
    shared_init(&with->shared, part_free);
    char *text = (char *)&with->at[had + 1];
    bool placed = value == NULL;
    for (uint32_t i = 0; i < had; i++) {
        int order = strcmp(set->at[i].key, key);
        if (order >= 0 && !placed) {
            config_set_put(with, &text, key, value);
            placed = true;
        }
        if (order != 0)
            config_set_put(with, &text, set->at[i].key, set->at[i].value);
    }
    if (!placed)
        config_set_put(with, &text, key, value);
    if (with->count > 0)
        return with;
    PART_UNREF(with);
    return NULL;
}

const char *config_set_get(const struct config_set *set, const char *key)
{
    uint32_t low = 0, high = set == NULL ? 0 : set->count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strcmp(set->at[mid].key, key);
        if (order == 0)
            return set->at[mid].value;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

struct config_set *image_find_node_configs(const struct image *image, node_id_t node)
{
    for (size_t i = 0; image->broker_configs != NULL && i < image->broker_configs->count; i++)
        if (image->broker_configs->at[i].node == node)
            return image->broker_configs->at[i].configs;
    return NULL;
}

static void broker_configs_destroy(struct shared *self)
{
    struct broker_configs *all = container_of(self, struct broker_configs, shared);
    for (size_t i = 0; i < all->count; i++)
        PART_UNREF(all->at[i].configs);
    free(all);
}

void image_put_node_configs(struct image *image, node_id_t node, struct config_set *configs)
{
    struct broker_configs *before = image->broker_configs;
    size_t had = before == NULL ? 0 : before->count;
    struct broker_configs *after =
        metadata_alloc(sizeof(*after) + (had + 1) * sizeof(after->at[0]));
    shared_init(&after->shared, broker_configs_destroy);
    struct node_configs row = {node, configs};
    for (size_t i = 0; i < had; i++) {
        if (row.configs != NULL && before->at[i].node > node) {
            after->at[after->count++] = row;
            row.configs = NULL;
        }
        if (before->at[i].node != node)
            after->at[after->count++] =
                (struct node_configs){before->at[i].node, PART_REF(before->at[i].configs)};
    }
    if (row.configs != NULL)
        after->at[after->count++] = row;
    PART_UNREF(before);
    image->broker_configs = after;
    if (after->count == 0) {
        PART_UNREF(after);
        image->broker_configs = NULL;
    }
}

/* ---- brokers ---- */

static size_t text_size(const char *text)
{
    return text == NULL ? 0 : strlen(text) + 1;
}

static char *text_put(char **at, const char *text)
{
    if (text == NULL)
        return NULL;
    char *put = *at;
    *at = stpcpy(put, text) + 1;
    return put;
}

struct broker *broker_new(const struct image_broker *from)
{
    size_t bytes = sizeof(struct broker) + text_size(from->rack);
    for (uint32_t i = 0; i < from->listener_count; i++)
        bytes += text_size(from->listeners[i].name) + text_size(from->listeners[i].host);
    struct broker *broker = metadata_alloc(bytes);
    shared_init(&broker->shared, part_free);
    broker->pub = *from;
    char *text = (char *)(broker + 1);
    broker->pub.rack = text_put(&text, from->rack);
    for (uint32_t i = 0; i < from->listener_count; i++) {
        broker->pub.listeners[i].name = text_put(&text, from->listeners[i].name);
        broker->pub.listeners[i].host = text_put(&text, from->listeners[i].host);
    }
    return broker;
}

/* Place of id, or where it would be. */
static size_t broker_place(const struct broker_set *set, node_id_t id)
{
    size_t low = 0, high = set == NULL ? 0 : set->count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (set->at[mid]->pub.id < id)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct broker *image_find_broker(const struct image *image, node_id_t id)
{
    size_t place = broker_place(image->brokers, id);
    if (image->brokers == NULL || place == image->brokers->count ||
        image->brokers->at[place]->pub.id != id)
        return NULL;
    return image->brokers->at[place];
}

static void broker_set_destroy(struct shared *self)
{
    struct broker_set *set = container_of(self, struct broker_set, shared);
    for (size_t i = 0; i < set->count; i++)
        PART_UNREF(set->at[i]);
    free(set);
}

void image_put_broker(struct image *image, struct broker *broker)
{
    struct broker_set *before = image->brokers;
    size_t had = before == NULL ? 0 : before->count;
    size_t place = broker_place(before, broker->pub.id);
    ASSERT(place <= had);
    size_t replaced = place < had && before->at[place]->pub.id == broker->pub.id;
    struct broker_set *after = metadata_alloc(sizeof(*after) + (had + 1) * sizeof(after->at[0]));
    shared_init(&after->shared, broker_set_destroy);
    for (size_t i = 0; i < place; i++)
        after->at[after->count++] = PART_REF(before->at[i]);
    after->at[after->count++] = broker;
    for (size_t i = place + replaced; i < had; i++)
        after->at[after->count++] = PART_REF(before->at[i]);
    PART_UNREF(before);
    image->brokers = after;
}

/* ---- voters, pending transaction ---- */

static void voter_set_destroy(struct shared *self)
{
    struct voter_set *set = container_of(self, struct voter_set, shared);
    karst__voters_record__free_unpacked(set->record, NULL);
    free(set);
}

void image_set_voters(struct image *image, Karst__VotersRecord *record)
{
    struct voter_set *set = metadata_alloc(sizeof(*set));
    shared_init(&set->shared, voter_set_destroy);
    set->record = record;
    PART_UNREF(image->voters);
    image->voters = set;
}

static void pending_destroy(struct shared *self)
{
    struct pending *pending = container_of(self, struct pending, shared);
    record_list_fini(&pending->records);
    free(pending);
}

void image_set_pending(struct image *image, struct pending *pending)
{
    PART_UNREF(image->pending);
    image->pending = pending;
}

struct pending *image_own_pending(struct image *image)
{
    struct pending *before = image->pending;
    if (before != NULL && shared_alone(&before->shared))
        return before;
    struct pending *own = metadata_alloc(sizeof(*own));
    shared_init(&own->shared, pending_destroy);
    record_list_init(&own->records);
    own->hash = digest_pending_begin();
    if (before != NULL) {
        record_list_append(&own->records, &before->records);
        own->hash = before->hash;
    }
    image_set_pending(image, own);
    return own;
}
