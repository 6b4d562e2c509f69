#include "sim/scenario.h"
#include "sim/sim_node.h"

/* Full disks (R16), of one node and of all at once, with restarts on them: nobody stops for want of
 * room, and when there is room again, by topics that are deleted or otherwise, all goes on. */

enum {
    FREE_BYTES_MIN = 256 << 10,
    RESERVE_BYTES = 256 << 10,
};

void full_setup(struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++) {
        run->nodes[i]->free_bytes_min = FREE_BYTES_MIN;
        run->nodes[i]->reserve_bytes = RESERVE_BYTES;
    }
}

static uint64_t ms_between(struct sim_run *run, uint64_t low, uint64_t high)
{
    return ENV_MS(rng_between(&run->rng, low, high));
}

/* So much is left, from nothing to enough for a while. */
static void full_leave(struct sim_run *run, struct sim_node *node)
{
    static const uint64_t left[] = {0, 0, 8 << 10, 64 << 10, 256 << 10, 600 << 10, 1 << 20};
    uint64_t bytes = left[rng_below(&run->rng, ARRAY_LEN(left))];
    sim_say(run, "node %d: %llu bytes are left on its disk", node->id, (unsigned long long)bytes);
    sim_disk_set_capacity(node->disk, sim_disk_used(node->disk) + bytes);
}

static void full_room(struct sim_run *run, struct sim_node *node)
{
    sim_say(run, "node %d: there is room on its disk", node->id);
    sim_disk_set_capacity(node->disk, 0);
}

uint64_t full_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    struct sim_node *node = run->nodes[rng_below(&run->rng, run->node_count)];
    enum node_stop how = rng_chance(&run->rng, 500000) ? NODE_KILL : NODE_POWER_CUT;
    if (draw < 25) {
        for (unsigned i = 0; i < run->node_count; i++)
            full_leave(run, run->nodes[i]);
    } else if (draw < 45) {
        full_leave(run, node);
    } else if (draw < 60) {
        for (unsigned i = 0; i < run->node_count; i++)
            full_room(run, run->nodes[i]);
    } else if (draw < 75) {
        full_room(run, node);
    } else if (draw < 80) {
        for (unsigned i = 0; i < run->node_count; i++)
            sim_node_stop(run->nodes[i], how, ms_between(run, 1, 3000));
    } else {
        sim_node_stop(node, how, ms_between(run, 1, 5000));
    }
    return ms_between(run, 300, 5000);
}
