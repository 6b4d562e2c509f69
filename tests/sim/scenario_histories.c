#include "sim/check.h"
#include "sim/scenario_faults.h"
#include "sim/sim_load.h"

static struct sim_node *step_node(struct sim_run *run, uint64_t id)
{
    return run->phase == RUN_SAFETY ? sim_run_node(run, (node_id_t)id) : NULL;
}

/* From the other nodes; clients still reach it. */
static void leave_alone(struct sim_run *run, const struct sim_node *node, bool alone)
{
    for (unsigned i = 0; i < run->node_count; i++)
        if (i != node->host->idx)
            sim_cut(&run->world, i, node->host->idx, alone);
}

/* ---- ghost: node, how it ends, when after it is back, restart ---- */

enum { GHOST_LIVES, GHOST_KILLED, GHOST_CUT, GHOST_CUT_TOO, GHOST_ENDS };

static void ghost_ends(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *node = step_node(run, args[0]);
    if (node == NULL)
        return;
    if (args[1] != GHOST_LIVES)
        sim_node_stop(node, args[1] == GHOST_KILLED ? NODE_KILL : NODE_POWER_CUT, args[3]);
    sim_disk_slow(node->disk, 1);
}

static void ghost_back(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *node = step_node(run, args[0]);
    if (node == NULL)
        return;
    leave_alone(run, node, false);
    sim_later(world, args[2], ghost_ends, args);
}

void fault_ghost(struct sim_run *run, struct sim_node *node)
{
    static const uint32_t factors[] = {1, 30, 300, 2000};
    static const char *const ends[] = {"lives", "is killed", "loses its power", "loses its power"};
    uint32_t factor = factors[rng_below(&run->rng, ARRAY_LEN(factors))];
    uint64_t alone = ms_between(run, 1800, 3500);
    const uint64_t args[] = {(uint64_t)node->id, rng_below(&run->rng, GHOST_ENDS),
                             ms_between(run, 0, rng_chance(&run->rng, 500000) ? 300 : 2500),
                             ms_between(run, 1, 2000)};
    if (!sim_node_up(node))
        return;
    sim_say(run,
            "node %d is left with its clients for %llu ms, syncs take %u times as long; %llu ms "
            "after that it %s",
            node->id, (unsigned long long)alone / 1000000, factor,
            (unsigned long long)args[2] / 1000000, ends[args[1]]);
    run->counters.cuts++;
    sim_disk_slow(node->disk, factor);
    leave_alone(run, node, true);
    sim_later(&run->world, alone, ghost_back, args);
}

/* ---- zombie: partition, the first leader, when the second ends, its restart ---- */

#define ZOMBIE_TOPIC "loose"

static const struct image_partition *zombie_part(const struct sim_run *run, uint64_t index)
{
    const struct image *image = check_quorum_image(run->quorum);
    const struct image_topic *topic =
        image == NULL ? NULL : image_topic_by_name(image, ZOMBIE_TOPIC);
    return topic == NULL ? NULL : &topic->partitions[index];
}

static void zombie_heals(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    (void)args;
    if (sim_run_of(world)->phase == RUN_SAFETY)
        sim_heal(world);
}

static void zombie_leader_ends(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *second = step_node(run, args[1]);
    if (second == NULL)
        return;
    sim_node_stop(second, NODE_KILL, args[3]);
    sim_later(world, ENV_MS(4500), zombie_heals, args);
}

/* The first one is back, but the second leader does not reach it; nor the third replica the second,
 * so that it falls out of sync. */
static void zombie_back(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *first = step_node(run, args[1]);
    const struct image_partition *p = zombie_part(run, args[0]);
    if (first == NULL || p == NULL)
        return;
    leave_alone(run, first, false);
    if (p->leader == NO_NODE || p->leader == first->id)
        return;
    const struct sim_node *second = sim_run_node(run, p->leader);
    for (int i = 0; i < p->replica_count; i++)
        if (p->replicas[i] != second->id)
            sim_cut(world, (unsigned)p->replicas[i] - 1, second->host->idx, true);
    const uint64_t next[] = {args[0], (uint64_t)second->id, args[2], args[3]};
    sim_later(world, args[2], zombie_leader_ends, next);
}

void fault_zombie(struct sim_run *run)
{
    uint64_t index = rng_below(&run->rng, 2), alone = ms_between(run, 2300, 3500);
    const struct image_partition *p = zombie_part(run, index);
    struct sim_node *first = p == NULL ? NULL : sim_run_node(run, p->leader);
    const uint64_t args[] = {index, first == NULL ? 0 : (uint64_t)first->id,
                             ms_between(run, 2500, 4000), ms_between(run, 6000, 12000)};
    if (first == NULL || !sim_node_up(first))
        return;
    sim_say(run,
            "node %d, which leads %s-%llu, is left with its clients for %llu ms; then its "
            "successor loses both replicas, and %llu ms later ends",
            first->id, ZOMBIE_TOPIC, (unsigned long long)index, (unsigned long long)alone / 1000000,
            (unsigned long long)args[2] / 1000000);
    run->counters.cuts++;
    leave_alone(run, first, true);
    sim_later(&run->world, alone, zombie_back, args);
}

/* ---- usurp: the old controller, when the new one ends, restarts, which disk ---- */

static void usurp_ends(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *old = step_node(run, args[0]);
    struct sim_node *new = run->phase == RUN_SAFETY ? check_quorum_controller(run->quorum) : NULL;
    if (old == NULL)
        return;
    if (new != NULL &&new != old)
        sim_node_stop(new, NODE_POWER_CUT, args[2]);
    sim_node_stop(old, NODE_POWER_CUT, args[2] / 4);
    sim_disk_slow(old->disk, 1);
}

static void usurp_back(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *old = step_node(run, args[0]);
    if (old == NULL)
        return;
    const struct sim_node *new = check_quorum_controller(run->quorum);
    for (unsigned i = 0; i < run->voter_count && new != NULL &&new != old; i++)
        if (run->nodes[i] != old && run->nodes[i] != new)
            sim_node_stop(run->nodes[i], NODE_KILL, args[2] / 2);
    leave_alone(run, old, false);
    sim_later(world, args[1], usurp_ends, args);
}

void fault_usurp(struct sim_run *run)
{
    struct sim_node *old = the_controller(run);
    uint32_t factor = rng_chance(&run->rng, 500000) ? 300 : 2000;
    uint64_t alone = ms_between(run, 400, 2500);
    const uint64_t args[] = {(uint64_t)old->id, ms_between(run, 2, 900), ms_between(run, 400, 4000),
                             0};
    if (!sim_node_up(old))
        return;
    sim_say(run,
            "node %d, the controller, is left alone for %llu ms, syncs take %u times as long; then "
            "the other voters die, its successor %llu ms later",
            old->id, (unsigned long long)alone / 1000000, factor,
            (unsigned long long)args[1] / 1000000);
    run->counters.cuts++;
    sim_disk_slow(old->disk, factor);
    leave_alone(run, old, true);
    sim_later(&run->world, alone, usurp_back, args);
}
