#include "quorum/configurations.h"

#include <stdlib.h>

void configurations_fini(struct configurations *configurations)
{
    free(configurations->list);
    *configurations = (struct configurations){0};
}

void configurations_note(struct configurations *configurations, const struct members *members)
{
    const struct members *last = configurations_last(configurations);
    ASSERT(last == NULL || last->index < members->index);
    if (configurations->count == configurations->capacity) {
        size_t capacity = configurations->capacity == 0 ? 4 : configurations->capacity * 2;
        struct members *list = realloc(configurations->list, capacity * sizeof *list);
        ASSERT(list != NULL);
        configurations->list = list;
        configurations->capacity = capacity;
    }
    configurations->list[configurations->count++] = *members;
}

void configurations_cut(struct configurations *configurations, uint64_t index)
{
    while (configurations->count > 0 &&
           configurations->list[configurations->count - 1].index >= index)
        configurations->count--;
}

void configurations_drop(struct configurations *configurations, uint64_t index)
{
    size_t dropped = 0;
    while (dropped + 1 < configurations->count && configurations->list[dropped + 1].index <= index)
        dropped++;
    if (dropped == 0)
        return;
    configurations->count -= dropped;
    memmove(configurations->list, configurations->list + dropped,
            configurations->count * sizeof *configurations->list);
}

void configurations_reset(struct configurations *configurations, const struct members *members)
{
    configurations->count = 0;
    configurations_note(configurations, members);
}

const struct members *configurations_at(const struct configurations *configurations, uint64_t index)
{
    for (size_t i = configurations->count; i > 0; i--)
        if (configurations->list[i - 1].index <= index)
            return &configurations->list[i - 1];
    return NULL;
}

const struct members *configurations_last(const struct configurations *configurations)
{
    return configurations->count == 0 ? NULL : &configurations->list[configurations->count - 1];
}

const struct member *members_find(const struct members *members, node_id_t node)
{
    for (unsigned i = 0; i < members->count; i++)
        if (members->list[i].id == members_raft_id(node))
            return &members->list[i];
    return NULL;
}

unsigned members_voters(const struct members *members)
{
    unsigned voters = 0;
    for (unsigned i = 0; i < members->count; i++)
        voters += members->list[i].role == RAFT_VOTER;
    return voters;
}

bool members_equal(const struct members *members, const struct raft_configuration *configuration)
{
    if (members->count != configuration->n)
        return false;
    for (unsigned i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        const struct raft_server *server = &configuration->servers[i];
        if (member->id != server->id || member->role != server->role ||
            strcmp(member->address, server->address) != 0)
            return false;
    }
    return true;
}
