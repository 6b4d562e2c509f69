/* check_lost.c - replicas whose disks were lost (R1). */
#include <stdio.h>
#include <string.h>

#include "sim/check_internal.h"
static bool part_is_of(const struct truth *part, const struct sim_node *node, const char *folder)
{
    char name[64];
    (void)snprintf(name, sizeof name, "%s-%d", part->topic, part->id.index); /* fits */
    return image_partition_replica_index(&part->committed, node->id) >= 0 &&
           (folder == NULL || strcmp(folder, name) == 0);
}

static bool part_may_lose(const struct truth *part, const struct sim_node *node)
{
    unsigned others = 0;
    for (unsigned i = 0; i < part->committed.isr_count; i++) {
        node_id_t member = part->committed.isr[i];
        others += member != node->id && !part->replicas[member - 1].lost;
    }
    return others > 0;
}

struct others {
    const struct sim_node *node;
    bool needed; /* a partition has no other member with its disk */
};

static void topic_has_others(void *context, const struct image_topic *topic)
{
    struct others *others = context;
    for (int32_t i = 0; i < topic->partition_count && !others->needed; i++) {
        const struct image_partition *p = &topic->partitions[i];
        unsigned count = 0;
        for (unsigned k = 0; k < p->isr_count; k++)
            count += p->isr[k] != others->node->id &&
                     !sim_run_node(others->node->run, p->isr[k])->disk_swapped;
        others->needed = image_partition_in_isr(p, others->node->id) && count == 0;
    }
}

bool check_data_may_lose(const struct check_data *data, const struct sim_node *node,
                         const char *folder)
{
    const struct image *image = check_quorum_image(data->run->quorum);
    struct others others = {.node = node};
    if (image == NULL)
        return false;
    if (folder == NULL)
        image_each_topic(image, topic_has_others, &others);
    if (others.needed)
        return false;
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            const struct truth *part = &data->topics[t].parts[i];
            if (part_is_of(part, node, folder) && !part_may_lose(part, node))
                return false;
        }
    return true;
}

bool check_data_any_lost(const struct check_data *data)
{
    for (unsigned node = 0; node < data->run->node_count; node++) {
        if (data->run->nodes[node]->disk_swapped)
            return true;
        for (size_t t = 0; t < data->topic_count; t++)
            for (int32_t i = 0; i < data->topics[t].partitions; i++)
                if (data->topics[t].parts[i].replicas[node].lost)
                    return true;
    }
    return false;
}

void check_data_lost(struct check_data *data, const struct sim_node *node, const char *folder)
{
    for (size_t t = 0; t < data->topic_count; t++)
        for (int32_t i = 0; i < data->topics[t].partitions; i++) {
            struct truth *part = &data->topics[t].parts[i];
            if (part_is_of(part, node, folder))
                part->replicas[node->id - 1] =
                    (struct held){.lost = image_partition_in_isr(&part->committed, node->id)};
        }
}
