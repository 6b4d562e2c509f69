#include "metadata/shared.h"

#include <stdlib.h>

#include "base/assert.h"

void *metadata_alloc(size_t bytes)
{
    void *ptr = calloc(1, bytes);
    ASSERT(ptr != NULL);
    return ptr;
}

void *metadata_realloc(void *ptr, size_t bytes)
{
    void *moved = realloc(ptr, bytes);
    ASSERT(moved != NULL);
    return moved;
}
