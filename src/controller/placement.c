#include "controller/placement.h"

#include <stdlib.h>

#include "base/assert.h"

static int compare_racks(const void *a, const void *b)
{
    const struct image_broker *const *x = a, *const *y = b;
    int order = strcmp((*x)->rack, (*y)->rack);
    return order != 0 ? order : ((*x)->id > (*y)->id) - ((*x)->id < (*y)->id);
}

/* Brokers sorted by rack become rounds of one from each rack: r1b1 r2b1 r3b1 r1b2 r2b2 … */
static void placement_deal(struct placement *p)
{
    const struct image_broker **sorted = calloc(p->count, sizeof(*sorted));
    size_t *first = calloc(p->count + 1, sizeof(*first)); /* of each rack, in sorted */
    ASSERT(sorted != NULL);
    ASSERT(first != NULL);
    memcpy(sorted, p->brokers, p->count * sizeof(*sorted));
    qsort(sorted, p->count, sizeof(*sorted), compare_racks);
    for (size_t i = 0; i < p->count; i++)
        if (i == 0 || strcmp(sorted[i]->rack, sorted[i - 1]->rack) != 0)
            first[p->rack_count++] = i;
    first[p->rack_count] = p->count;
    size_t dealt = 0;
    for (size_t round = 0; dealt < p->count; round++) {
        for (size_t rack = 0; rack < p->rack_count; rack++) {
            if (first[rack] + round >= first[rack + 1])
                continue;
            p->brokers[dealt] = sorted[first[rack] + round];
            p->rack_of[dealt++] = rack;
        }
    }
    free(sorted);
    free(first);
}

void placement_init(struct placement *p, const struct image *image, struct rng *rng)
{
    size_t brokers = image_broker_count(image);
    *p = (struct placement){0};
    p->brokers = calloc(brokers + 1, sizeof(const struct image_broker *));
    p->rack_of = calloc(brokers + 1, sizeof(*p->rack_of));
    ASSERT(p->brokers != NULL);
    ASSERT(p->rack_of != NULL);
    bool racks = true;
    for (size_t i = 0; i < brokers; i++) { /* by id, rising */
        const struct image_broker *broker = image_broker_at(image, i);
        if (broker->state != BROKER_STATE_ACTIVE)
            continue;
        p->brokers[p->count++] = broker;
        racks = racks && broker->rack != NULL;
    }
    if (racks && p->count > 0)
        placement_deal(p);
    p->start = p->count == 0 ? 0 : rng_below(rng, p->count);
    p->shift = p->count < 2 ? 0 : rng_below(rng, p->count - 1);
}

void placement_fini(struct placement *p)
{
    free(p->brokers);
    free(p->rack_of);
    *p = (struct placement){0};
}

void placement_choose(const struct placement *p, int32_t index, size_t count, node_id_t *ret_nodes)
{
    ASSERT(count >= 1);
    ASSERT(count <= p->count);
    ASSERT(count <= REPLICAS_MAX);
    size_t racks[REPLICAS_MAX], chosen = 0, others = p->count - 1;
    size_t leader = (size_t)((p->start + (uint64_t)index) % p->count);
    uint64_t shift = p->shift + (uint64_t)index / p->count;
    ret_nodes[chosen] = p->brokers[leader]->id;
    racks[chosen++] = p->rack_of[leader];
    /* The first walk takes each rack once; the second takes what is left. */
    for (int walk = 0; walk < 2; walk++) {
        for (size_t j = 0; j < others && chosen < count; j++) {
            size_t place = (leader + 1 + (size_t)((shift + j) % others)) % p->count;
            bool taken = false, rack_taken = false;
            for (size_t k = 0; k < chosen; k++) {
                taken = taken || ret_nodes[k] == p->brokers[place]->id;
                rack_taken = rack_taken || racks[k] == p->rack_of[place];
            }
            if (taken || (walk == 0 && p->rack_count > 0 && rack_taken))
                continue;
            ret_nodes[chosen] = p->brokers[place]->id;
            racks[chosen++] = p->rack_of[place];
        }
    }
    ASSERT(chosen == count);
}
