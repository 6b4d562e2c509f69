#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/table.h"
#include "metadata/state.h"

/* A growing array of one kind. */
struct vector {
    void *at;
    size_t count, capacity;
};

static void vector_add(struct vector *v, const void *item, size_t size)
{
    if (v->count == v->capacity) {
        v->capacity = v->capacity == 0 ? 8 : v->capacity * 2;
        v->at = metadata_realloc(v->at, v->capacity * size);
    }
    memcpy((char *)v->at + v->count * size, item, size);
    v->count++;
}

/* A topic that was touched: which of its things are in the lists already. */
struct touched {
    struct uuid id;
    bool listed;
    uint8_t *partitions; /* bits */
    size_t partitions_bytes;
};

struct tracker {
    struct table topics;  /* id → struct touched */
    struct touched *last; /* changes come in runs of one topic */
    struct vector partitions, changed_topics, brokers;
    bool voters;
};

struct tracker *tracker_new(void)
{
    struct tracker *tracker = metadata_alloc(sizeof(*tracker));
    table_init(&tracker->topics, 0); /* topic ids are random */
    return tracker;
}

void tracker_free(struct tracker *tracker)
{
    if (tracker == NULL)
        return;
    table_for_each (struct touched, topic, &tracker->topics) {
        free(topic->partitions);
        free(topic);
    }
    table_fini(&tracker->topics);
    free(tracker->partitions.at);
    free(tracker->changed_topics.at);
    free(tracker->brokers.at);
    free(tracker);
}

static struct touched *tracker_touch(struct tracker *tracker, const struct uuid *id)
{
    if (tracker->last != NULL && uuid_equal(&tracker->last->id, id))
        return tracker->last;
    struct bytes key = {id->b, sizeof(id->b)};
    struct touched *topic = table_get_bytes(&tracker->topics, key);
    if (topic == NULL) {
        topic = metadata_alloc(sizeof(*topic));
        topic->id = *id;
        err_t err =
            table_put_bytes(&tracker->topics, (struct bytes){topic->id.b, sizeof(id->b)}, topic);
        ASSERT(err == ERR_OK);
    }
    tracker->last = topic;
    return topic;
}

void tracker_partition(struct tracker *tracker, const struct uuid *topic, int32_t index)
{
    if (tracker == NULL)
        return;
    struct touched *touched = tracker_touch(tracker, topic);
    size_t byte = (size_t)index / 8;
    uint8_t bit = (uint8_t)(1 << (index % 8));
    if (byte >= touched->partitions_bytes) {
        size_t bytes = byte * 2 + 8;
        touched->partitions = metadata_realloc(touched->partitions, bytes);
        memset(touched->partitions + touched->partitions_bytes, 0,
               bytes - touched->partitions_bytes);
        touched->partitions_bytes = bytes;
    }
    if (touched->partitions[byte] & bit)
        return;
    touched->partitions[byte] |= bit;
    struct partition_id id = {*topic, index};
    vector_add(&tracker->partitions, &id, sizeof(id));
}

void tracker_topic(struct tracker *tracker, const struct uuid *topic)
{
    if (tracker == NULL)
        return;
    struct touched *touched = tracker_touch(tracker, topic);
    if (!touched->listed)
        vector_add(&tracker->changed_topics, topic, sizeof(*topic));
    touched->listed = true;
}

void tracker_broker(struct tracker *tracker, node_id_t node)
{
    if (tracker == NULL)
        return;
    const node_id_t *listed = tracker->brokers.at;
    for (size_t i = 0; i < tracker->brokers.count; i++)
        if (listed[i] == node)
            return;
    vector_add(&tracker->brokers, &node, sizeof(node));
}

void tracker_voters(struct tracker *tracker)
{
    if (tracker != NULL)
        tracker->voters = true;
}

/* ---- what differs ---- */

static bool partition_differs(const struct image *before, const struct image *after,
                              const struct partition_id *id)
{
    const struct image_partition *was = image_partition(before, id);
    const struct image_partition *is = image_partition(after, id);
    if (was == NULL || is == NULL)
        return was != is;
    return was != is && memcmp(was, is, sizeof(*is)) != 0;
}

static bool configs_differ(const struct config_set *was, const struct config_set *is)
{
    if (was == is || was == NULL || is == NULL)
        return was != is;
    if (was->count != is->count)
        return true;
    for (uint32_t i = 0; i < was->count; i++)
        if (strcmp(was->at[i].key, is->at[i].key) != 0 ||
            strcmp(was->at[i].value, is->at[i].value) != 0)
            return true;
    return false;
}

static bool topic_differs(const struct image *before, const struct image *after,
                          const struct uuid *id)
{
    const struct topic *was = image_find_topic(before, id);
    const struct topic *is = image_find_topic(after, id);
    if (was == NULL || is == NULL)
        return was != is;
    return was != is && (digest_topic(was->identity) != digest_topic(is->identity) ||
                         configs_differ(was->configs, is->configs));
}

static bool broker_differs(const struct image *before, const struct image *after, node_id_t node)
{
    const struct broker *was = image_find_broker(before, node);
    const struct broker *is = image_find_broker(after, node);
    if (configs_differ(image_find_node_configs(before, node), image_find_node_configs(after, node)))
        return true;
    if (was == NULL || is == NULL)
        return was != is;
    return was != is && digest_broker(&was->pub) != digest_broker(&is->pub);
}

static bool voters_differ(const struct image *before, const struct image *after)
{
    return digest_voters(before->voters == NULL ? NULL : before->voters->record) !=
           digest_voters(after->voters == NULL ? NULL : after->voters->record);
}

struct image_difference *tracker_difference(const struct tracker *tracker,
                                            const struct image *before, const struct image *after)
{
    struct vector partitions = {0}, topics = {0}, brokers = {0};
    const struct partition_id *partition = tracker->partitions.at;
    for (size_t i = 0; i < tracker->partitions.count; i++)
        if (partition_differs(before, after, &partition[i]))
            vector_add(&partitions, &partition[i], sizeof(*partition));
    const struct uuid *topic = tracker->changed_topics.at;
    for (size_t i = 0; i < tracker->changed_topics.count; i++)
        if (topic_differs(before, after, &topic[i]))
            vector_add(&topics, &topic[i], sizeof(*topic));
    const node_id_t *node = tracker->brokers.at;
    for (size_t i = 0; i < tracker->brokers.count; i++)
        if (broker_differs(before, after, node[i]))
            vector_add(&brokers, &node[i], sizeof(*node));

    struct image_difference *difference = metadata_alloc(sizeof(*difference));
    difference->partitions = partitions.at;
    difference->partition_count = partitions.count;
    difference->topics = topics.at;
    difference->topic_count = topics.count;
    difference->brokers = brokers.at;
    difference->broker_count = brokers.count;
    difference->voters_changed = tracker->voters && voters_differ(before, after);
    return difference;
}

void image_difference_free(struct image_difference *difference)
{
    if (difference == NULL)
        return;
    free(difference->partitions);
    free(difference->topics);
    free(difference->brokers);
    free(difference);
}

static void tracker_whole_topic(void *context, const struct image_topic *topic)
{
    struct tracker *tracker = context;
    tracker_topic(tracker, &topic->id);
    for (int32_t i = 0; i < topic->partition_count; i++)
        tracker_partition(tracker, &topic->id, i);
}

static void tracker_whole_image(struct tracker *tracker, const struct image *image)
{
    for (size_t i = 0; i < image_broker_count(image); i++)
        tracker_broker(tracker, image_broker_at(image, i)->id);
    image_each_topic(image, tracker_whole_topic, tracker);
    tracker_voters(tracker);
}

struct image_difference *image_difference_between(struct image *before, struct image *after)
{
    struct tracker *tracker = tracker_new();
    tracker_whole_image(tracker, before); /* what is gone comes first */
    tracker_whole_image(tracker, after);
    struct image_difference *difference = tracker_difference(tracker, before, after);
    tracker_free(tracker);
    return difference;
}

struct image_difference *image_difference_all(struct image *image)
{
    struct image *nothing = image_new_empty();
    struct image_difference *difference = image_difference_between(nothing, image);
    image_unref(nothing);
    return difference;
}
