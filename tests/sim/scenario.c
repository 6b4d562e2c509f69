#include "sim/scenario.h"

#include <string.h>

#include "sim/check.h"
#include "sim/scenario_faults.h"

static uint64_t crashes_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    if (draw < 33)
        fault_stop(run, any_node(run));
    else if (draw < 37)
        fault_blackout(run);
    else if (draw < 43)
        fault_kill_and_cut(run, any_node(run));
    else if (draw < 52)
        fault_fuse(run, any_node(run));
    else if (draw < 58)
        fault_pause(run, any_node(run));
    else if (draw < 65)
        fault_stuck_actor(run, any_node(run));
    else if (draw < 72)
        fault_image_lag(run, any_node(run));
    else if (draw < 82)
        fault_slow_disk(run, any_node(run));
    else if (draw < 84)
        fault_wall_clock(run, any_node(run));
    else if (draw < 92)
        fault_ghost(run, any_leader(run));
    else
        fault_drain(any_node(run));
    return ms_between(run, 200, 6000);
}

static uint64_t partitions_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    unsigned a = (unsigned)rng_below(&run->rng, run->world.host_count);
    unsigned b = (unsigned)rng_below(&run->rng, run->node_count);
    if (draw < 12)
        fault_isolate(run, b);
    else if (draw < 16)
        fault_split(run);
    else if (draw < 30)
        fault_cut(run, a, b);
    else if (draw < 37)
        fault_flap(run, a, b);
    else if (draw < 44)
        fault_slow_link(run, a, b);
    else if (draw < 68)
        fault_heal(run);
    else if (draw < 76)
        fault_weather(run);
    else if (draw < 80)
        fault_ghost(run, any_leader(run));
    else if (draw < 85)
        fault_late_answer(run);
    else if (draw < 90)
        fault_stop(run, any_node(run));
    else if (draw < 93)
        fault_stuck_actor(run, any_node(run));
    else if (draw < 96)
        fault_image_lag(run, any_node(run));
    else
        fault_pause(run, any_node(run));
    return ms_between(run, 100, 5000);
}

/* Brokers that are no voters lead partitions, and are killed. */
static uint64_t observers_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    unsigned observers = run->node_count - run->voter_count;
    struct sim_node *observer =
        run->nodes[run->voter_count + (unsigned)rng_below(&run->rng, observers)];
    if (draw < 12) {
        fault_heal(run);
        fault_heir(run);
        return ms_between(run, 6000, 8000);
    }
    if (draw < 34)
        fault_stop(run, observer);
    else if (draw < 42)
        fault_stop(run, any_node(run));
    else if (draw < 48)
        fault_isolate(run, (unsigned)observer->id - 1);
    else if (draw < 57)
        fault_isolate_voter(run, the_controller(run));
    else if (draw < 66)
        fault_split(run);
    else if (draw < 70)
        fault_image_lag(run, any_node(run));
    else if (draw < 75)
        fault_ghost(run, any_leader(run));
    else if (draw < 78)
        fault_late_answer(run);
    else if (draw < 94)
        fault_heal(run);
    else
        fault_drain(any_node(run));
    return ms_between(run, 300, 6000);
}

/* Topics that may lose records, by unclean elections (R8) and power cuts (R20). */
static uint64_t loose_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    unsigned a = (unsigned)rng_below(&run->rng, run->node_count);
    unsigned b = (unsigned)rng_below(&run->rng, run->node_count);
    if (draw < 25) {
        fault_zombie(run);
        return ms_between(run, 12000, 16000);
    }
    if (draw < 38) {
        fault_late_proposal(run);
        return ms_between(run, 3500, 5000);
    }
    if (draw < 50)
        fault_blackout(run);
    else if (draw < 65)
        fault_stop(run, any_leader(run));
    else if (draw < 72)
        fault_slow_link(run, a, b);
    else if (draw < 85)
        fault_slow_disk(run, any_node(run));
    else if (draw < 90)
        fault_ghost(run, any_leader(run));
    else
        fault_heal(run);
    return ms_between(run, 200, 5000);
}

/* The quorum alone: its leader falls again and again, with little load, so that all depends on what
 * raft's messages say and disks keep. */
static uint64_t quorum_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    if (draw < 25) {
        fault_usurp(run);
        return ms_between(run, 3000, 6000);
    }
    if (draw < 40)
        fault_isolate_voter(run, the_controller(run));
    else if (draw < 60)
        fault_heal(run);
    else if (draw < 70)
        fault_stop(run, the_controller(run));
    else if (draw < 75)
        fault_stop(run, any_node(run));
    else if (draw < 80)
        fault_fuse(run, any_node(run));
    else if (draw < 88)
        fault_slow_disk(run, any_node(run));
    else if (draw < 96)
        fault_weather(run);
    else
        fault_pause(run, the_controller(run));
    return ms_between(run, 50, 2500);
}

/* Disks are lost, whole or one folder; syncs fail; power goes at any place. */
static uint64_t disks_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    if (check_data_any_lost(run->data))
        return ms_between(run, 50, 500);
    if (draw < 30)
        fault_lose(run, any_node(run));
    else if (draw < 55)
        fault_bad_sync(run, any_node(run));
    else if (draw < 70)
        fault_fuse(run, any_node(run));
    else if (draw < 80)
        fault_kill_and_cut(run, any_node(run));
    else if (draw < 90)
        fault_stop(run, any_node(run));
    else
        fault_slow_disk(run, any_node(run));
    return ms_between(run, 500, 8000);
}

void rough_setup(struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++) {
        struct sim_host *host = run->nodes[i]->host;
        host->clock_ppm = (int64_t)rng_below(&run->rng, 400) - 200;
        host->turn_max_ns = rng_between(&run->rng, 5000, 200000);
        sim_disk_any_order(run->nodes[i]->disk, rng_chance(&run->rng, 400000));
        run->nodes[i]->raft_bytes = rng_chance(&run->rng, 500000) ? 2 << 10 : 0;
    }
    fault_weather(run);
}

static const struct scenario scenarios[] = {
    {.name = "quiet", .what = "three nodes, nothing goes wrong", .nodes = 3, .voters = 3},
    {.name = "crashes",
     .what = "processes are killed, power is cut, disks are slow, machines stand still",
     .nodes = 3,
     .voters = 3,
     .setup = rough_setup,
     .fault = crashes_fault},
    {.name = "partitions",
     .what = "links are cut, flap, are slow; connections break, raft's frames are lost, overtake",
     .nodes = 3,
     .voters = 3,
     .setup = rough_setup,
     .fault = partitions_fault},
    {.name = "observers",
     .what = "five nodes, three voters: observers lead, are killed, hear stale voters",
     .nodes = 5,
     .voters = 3,
     .setup = rough_setup,
     .fault = observers_fault},
    {.name = "disks",
     .what = "five nodes: disks and folders are lost, syncs fail, power goes at any place",
     .nodes = 5,
     .voters = 3,
     .setup = rough_setup,
     .fault = disks_fault},
    {.name = "full",
     .what = "disks are full, one or all, and nodes start again on them",
     .nodes = 3,
     .voters = 3,
     .setup = full_setup,
     .fault = full_fault},
    {.name = "loose",
     .what = "five nodes: topics that may lose records, by unclean elections and power cuts",
     .nodes = 5,
     .voters = 3,
     .loose = true,
     .setup = rough_setup,
     .fault = loose_fault},
    {.name = "quorum",
     .what = "three voters with little load: their leader falls, comes back, falls",
     .nodes = 3,
     .voters = 3,
     .without_clients = 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5,
     .setup = rough_setup,
     .fault = quorum_fault},
    {.name = "membership",
     .what = "five nodes, three voters at first: they change while nodes die and links break",
     .nodes = 5,
     .voters = 3,
     .setup = membership_setup,
     .fault = membership_fault},
    {.name = "mixed",
     .what = "five nodes: faults of all other scenarios, in a mix that the seed draws",
     .nodes = 5,
     .voters = 3,
     .loose = true,
     .setup = mixed_setup,
     .fault = mixed_fault},
    {.name = "mixed3",
     .what = "the same, three nodes",
     .nodes = 3,
     .voters = 3,
     .setup = mixed_setup,
     .fault = mixed_fault},
    {.name = "mixed7",
     .what = "the same, seven nodes, five voters",
     .nodes = 7,
     .voters = 5,
     .loose = true,
     .setup = mixed_setup,
     .fault = mixed_fault},
};

const struct scenario *scenario_at(size_t idx)
{
    return idx < ARRAY_LEN(scenarios) ? &scenarios[idx] : NULL;
}

const struct scenario *scenario_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++)
        if (strcmp(scenarios[i].name, name) == 0)
            return &scenarios[i];
    return NULL;
}
