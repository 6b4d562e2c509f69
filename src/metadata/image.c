#include "metadata/image.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "metadata/state.h"

struct image *image_ref(struct image *image)
{
    return PART_REF(image);
}

void image_unref(struct image *image)
{
    PART_UNREF(image);
}

int64_t image_offset(const struct image *image)
{
    return image->offset;
}

const struct uuid *image_cluster_id(const struct image *image)
{
    return &image->cluster_id;
}

const struct uuid *image_recovery_id(const struct image *image)
{
    return &image->recovery_id;
}

uint32_t image_feature_level(const struct image *image)
{
    return image->feature_level;
}

producer_id_t image_next_producer_id(const struct image *image)
{
    return image->next_producer_id;
}

uint64_t image_digest(const struct image *image)
{
    return image->digest;
}

bool image_transaction_open(const struct image *image)
{
    return image->pending != NULL;
}

/* ---- brokers, voters ---- */

const struct image_broker *image_broker(const struct image *image, node_id_t id)
{
    const struct broker *broker = image_find_broker(image, id);
    return broker == NULL ? NULL : &broker->pub;
}

size_t image_broker_count(const struct image *image)
{
    return image->brokers == NULL ? 0 : image->brokers->count;
}

const struct image_broker *image_broker_at(const struct image *image, size_t idx)
{
    ASSERT(idx < image_broker_count(image));
    return &image->brokers->at[idx]->pub;
}

const struct image_listener *image_broker_listener(const struct image_broker *broker,
                                                   const char *name)
{
    for (uint32_t i = 0; broker != NULL && i < broker->listener_count; i++)
        if (strcmp(broker->listeners[i].name, name) == 0)
            return &broker->listeners[i];
    return NULL;
}

size_t image_voter_count(const struct image *image)
{
    return image->voters == NULL ? 0 : image->voters->record->n_voters;
}

const Karst__Voter *image_voter_at(const struct image *image, size_t idx)
{
    ASSERT(idx < image_voter_count(image));
    return image->voters->record->voters[idx];
}

/* ---- topics ---- */

const struct image_topic *image_topic(const struct image *image, const struct uuid *id)
{
    const struct topic *topic = image_find_topic(image, id);
    return topic == NULL ? NULL : &topic->pub;
}

static const struct image_topic *image_topic_by(const struct image *image, const char *name,
                                                trie_match match)
{
    struct shared *found = trie_find(image->by_name, topic_name_key(name), match, name);
    if (found == NULL)
        return NULL;
    return image_topic(image, &PART_OF(topic_identity, found)->id);
}

const struct image_topic *image_topic_by_name(const struct image *image, const char *name)
{
    return image_topic_by(image, name, identity_match_name);
}

static bool identity_match_colliding(const struct shared *identity, const void *name)
{
    return topic_names_collide(PART_OF(topic_identity, identity)->name, name);
}

const struct image_topic *image_topic_colliding(const struct image *image, const char *name)
{
    return image_topic_by(image, name, identity_match_colliding);
}

const struct image_partition *image_partition(const struct image *image,
                                              const struct partition_id *id)
{
    const struct image_topic *topic = image_topic(image, &id->topic);
    if (topic == NULL || id->index < 0 || id->index >= topic->partition_count)
        return NULL;
    return &topic->partitions[id->index];
}

size_t image_topic_count(const struct image *image)
{
    return image->topic_count;
}

size_t image_partition_count(const struct image *image)
{
    return image->partition_count;
}

struct topic_walk {
    const struct image *image;
    void (*each)(void *context, const struct image_topic *topic);
    void *context;
};

static void topic_walk_one(void *context, struct shared *value)
{
    const struct topic_walk *walk = context;
    const struct topic_identity *identity = PART_OF(topic_identity, value);
    const struct image_topic *topic = image_topic(walk->image, &identity->id);
    ASSERT(topic != NULL);
    walk->each(walk->context, topic);
}

void image_each_topic(const struct image *image,
                      void (*each)(void *context, const struct image_topic *topic), void *context)
{
    struct topic_walk walk = {image, each, context};
    trie_each(image->by_order, topic_walk_one, &walk);
}

const char *image_topic_config(const struct image *image, const struct image_topic *topic,
                               const char *key)
{
    const struct topic *whole = PART_OF(topic, (const char *)topic - offsetof(struct topic, pub));
    const char *value = config_set_get(whole->configs, key);
    if (value != NULL)
        return value;
    return config_set_get(image_find_node_configs(image, NO_NODE), key);
}

int64_t image_topic_config_int(const struct image *image, const struct image_topic *topic,
                               const char *key, int64_t fallback)
{
    const char *value = image_topic_config(image, topic, key);
    if (value == NULL)
        return fallback;
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0')
        return fallback;
    return number;
}

int image_partition_replica_index(const struct image_partition *p, node_id_t node)
{
    for (int i = 0; i < p->replica_count; i++)
        if (p->replicas[i] == node)
            return i;
    return -1;
}

bool image_partition_in_isr(const struct image_partition *p, node_id_t node)
{
    for (int i = 0; i < p->isr_count; i++)
        if (p->isr[i] == node)
            return true;
    return false;
}
