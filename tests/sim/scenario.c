#include "sim/scenario.h"

#include <string.h>

#include "sim/check.h"
#include "sim/sim_node.h"

/* ---- what the faults are made of ---- */

static uint64_t ms_between(struct sim_run *run, uint64_t low, uint64_t high)
{
    return ENV_MS(rng_between(&run->rng, low, high));
}

static struct sim_node *any_node(struct sim_run *run)
{
    return run->nodes[rng_below(&run->rng, run->node_count)];
}

/* Often shorter than a broker's session, so that it is back before it was missed (R2). */
static uint64_t restart_delay(struct sim_run *run)
{
    switch (rng_below(&run->rng, 4)) {
    case 0:
        return ms_between(run, 1, 40);
    case 1:
        return ms_between(run, 40, 1500);
    case 2:
        return ms_between(run, 1500, 5000);
    default:
        return ms_between(run, 3000, 12000);
    }
}

static void fault_stop(struct sim_run *run, struct sim_node *node)
{
    enum node_stop how = rng_chance(&run->rng, 500000) ? NODE_KILL : NODE_POWER_CUT;
    sim_node_stop(node, how, restart_delay(run));
    if (!node->host->up && rng_chance(&run->rng, 300000))
        node->boot_fuse = rng_between(&run->rng, 1, rng_chance(&run->rng, 500000) ? 15 : 250);
}

/* The power of the whole room. */
static void fault_blackout(struct sim_run *run)
{
    sim_say(run, "the power fails everywhere");
    for (unsigned i = 0; i < run->node_count; i++)
        sim_node_stop(run->nodes[i], NODE_POWER_CUT, restart_delay(run));
}

static void fault_pause(struct sim_run *run, struct sim_node *node)
{
    uint64_t ns = ms_between(run, 20, 4000);
    sim_say(run, "node %d stands still for %llu ms", node->id, (unsigned long long)ns / 1000000);
    sim_host_pause(node->host, ns);
}

static void fault_stuck_actor(struct sim_run *run, struct sim_node *node)
{
    unsigned actor = (unsigned)rng_below(&run->rng, RUN_SHARDS + 1);
    uint64_t ns = ms_between(run, 5, 2500);
    if (!sim_node_up(node))
        return;
    sim_say(run, "node %d: actor %u is stuck for %llu ms", node->id, actor,
            (unsigned long long)ns / 1000000);
    sim_actor_pause(node->host, actor, ns);
}

/* Killed, and the machine loses its power before anything could be synced. */
static void fault_kill_and_cut(struct sim_run *run, struct sim_node *node)
{
    if (!sim_node_up(node))
        return;
    sim_node_stop(node, NODE_KILL, restart_delay(run));
    sim_say(run, "node %d: and its machine loses its power", node->id);
    sim_disk_power_cut(node->disk);
}

/* In the middle of any change of the disk. */
static void fault_fuse(struct sim_run *run, struct sim_node *node)
{
    if (sim_node_up(node))
        sim_node_fuse(node, rng_between(&run->rng, 1, 300), restart_delay(run));
}

/* The directory is offline from then on; the quorum's log is there, too, and ends the process. */
static void fault_bad_sync(struct sim_run *run, struct sim_node *node)
{
    if (!sim_node_up(node))
        return;
    uint64_t nth = rng_between(&run->rng, 1, 60);
    sim_say(run, "node %d: sync %llu from now fails", node->id, (unsigned long long)nth);
    node->expects_exit = true;
    sim_disk_fail_sync(node->disk, nth);
}

/* Something may still go wrong by itself. */
static bool fault_pending(const struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++)
        if (run->nodes[i]->fuse_restart_ns != 0 || run->nodes[i]->expects_exit)
            return true;
    return false;
}

/* A disk, or a folder, of a node, while all are well: else the others could be fenced and leave the
 * lost one as the last of an ISR by name, which needs a person (without KIP-966's ELR). */
static void fault_lose(struct sim_run *run, struct sim_node *node)
{
    static const char *const folders[] = {"orders-0",      "orders-1",      "orders-2", "orders-3",
                                          "payments.eu-0", "payments.eu-1", "clicks-0", "clicks-1"};
    bool whole = !node->voter && rng_chance(&run->rng, 500000);
    const char *folder = whole ? NULL : folders[rng_below(&run->rng, ARRAY_LEN(folders))];
    char why[128];
    if (fault_pending(run) || !check_data_may_lose(run->data, node, folder) ||
        !check_quorum_converged(run->quorum, why, sizeof why))
        return;
    if (node->host->up)
        sim_node_stop(node, NODE_KILL, restart_delay(run));
    if (whole)
        sim_node_swap_disk(node);
    else
        (void)sim_node_lose_folder(node, folder); /* it may have none of the name */
}

static void fault_slow_disk(struct sim_run *run, struct sim_node *node)
{
    static const uint32_t factors[] = {1, 1, 5, 30, 200};
    uint32_t factor = factors[rng_below(&run->rng, ARRAY_LEN(factors))];
    sim_say(run, "node %d: syncs take %u times as long", node->id, factor);
    sim_disk_slow(node->disk, factor);
}

static void fault_drain(struct sim_node *node)
{
    if (sim_node_up(node))
        sim_node_drain(node);
}

static void fault_cut(struct sim_run *run, unsigned a, unsigned b)
{
    if (a == b)
        return;
    run->counters.cuts++;
    if (rng_chance(&run->rng, 300000)) {
        sim_say(run, "nothing gets from host %u to %u", a, b);
        sim_cut_one_way(&run->world, a, b, true);
    } else {
        sim_say(run, "hosts %u and %u are cut off from each other", a, b);
        sim_cut(&run->world, a, b, true);
    }
}

/* From all other nodes; from clients too, or not: then it serves them what it knows. */
static void fault_isolate(struct sim_run *run, unsigned idx)
{
    unsigned hosts = rng_chance(&run->rng, 500000) ? run->node_count : run->world.host_count;
    sim_say(run, "node %u is isolated%s", idx + 1,
            hosts == run->node_count ? " from the other nodes" : "");
    run->counters.cuts++;
    for (unsigned i = 0; i < hosts; i++)
        if (i != idx)
            sim_cut(&run->world, i, idx, true);
}

static void fault_heal(struct sim_run *run)
{
    sim_say(run, "links are whole again");
    sim_heal(&run->world);
}

static void fault_weather(struct sim_run *run)
{
    static const uint64_t slowest[] = {400000, 400000, 3000000, 30000000};
    static const uint32_t rates[] = {0, 0, 20000, 100000};
    struct sim_net_options *net = &run->world.net;
    net->delay_max_ns = slowest[rng_below(&run->rng, ARRAY_LEN(slowest))];
    net->raft_loss_ppm = rates[rng_below(&run->rng, ARRAY_LEN(rates))];
    net->raft_duplicate_ppm = rates[rng_below(&run->rng, ARRAY_LEN(rates))];
    net->raft_reorder_ppm = rates[rng_below(&run->rng, ARRAY_LEN(rates))];
    net->reset_ppm = rng_chance(&run->rng, 300000) ? 500 : 0;
    sim_say(run, "network: to %llu us, raft loss %u, doubled %u, overtaking %u, resets %u ppm",
            (unsigned long long)net->delay_max_ns / 1000, net->raft_loss_ppm,
            net->raft_duplicate_ppm, net->raft_reorder_ppm, net->reset_ppm);
}

/* ---- scenarios ---- */

static uint64_t crashes_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    if (draw < 40)
        fault_stop(run, any_node(run));
    else if (draw < 45)
        fault_blackout(run);
    else if (draw < 52)
        fault_kill_and_cut(run, any_node(run));
    else if (draw < 62)
        fault_fuse(run, any_node(run));
    else if (draw < 70)
        fault_pause(run, any_node(run));
    else if (draw < 80)
        fault_stuck_actor(run, any_node(run));
    else if (draw < 90)
        fault_slow_disk(run, any_node(run));
    else
        fault_drain(any_node(run));
    return ms_between(run, 200, 6000);
}

static uint64_t partitions_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    unsigned a = (unsigned)rng_below(&run->rng, run->world.host_count);
    unsigned b = (unsigned)rng_below(&run->rng, run->node_count);
    if (draw < 20)
        fault_isolate(run, b);
    else if (draw < 45)
        fault_cut(run, a, b);
    else if (draw < 75)
        fault_heal(run);
    else if (draw < 85)
        fault_weather(run);
    else if (draw < 90)
        fault_stop(run, any_node(run));
    else if (draw < 95)
        fault_stuck_actor(run, any_node(run));
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
    if (draw < 50)
        fault_stop(run, observer);
    else if (draw < 65)
        fault_stop(run, any_node(run));
    else if (draw < 75)
        fault_isolate(run, (unsigned)observer->id - 1);
    else if (draw < 90)
        fault_heal(run);
    else
        fault_drain(any_node(run));
    return ms_between(run, 300, 6000);
}

/* Disks are lost, whole or one folder; syncs fail; power goes at any place. */
static uint64_t disks_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    if (check_data_any_lost(run->data))
        return ms_between(run, 50, 500);
    if (draw < 35)
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

static void rough_setup(struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++) {
        struct sim_host *host = run->nodes[i]->host;
        host->clock_ppm = (int64_t)rng_below(&run->rng, 400) - 200;
        host->turn_max_ns = rng_between(&run->rng, 5000, 200000);
    }
    fault_weather(run);
}

static const struct scenario scenarios[] = {
    {"quiet", "three nodes, nothing goes wrong", 3, 3, NULL, NULL},
    {"crashes", "processes are killed, power is cut, disks are slow, machines stand still", 3, 3,
     rough_setup, crashes_fault},
    {"partitions", "links are cut, connections break, raft's frames are lost and overtake", 3, 3,
     rough_setup, partitions_fault},
    {"observers", "five nodes, three voters: an observer leads and is killed", 5, 3, rough_setup,
     observers_fault},
    {"disks", "five nodes: disks and folders are lost, syncs fail, power goes at any place", 5, 3,
     rough_setup, disks_fault},
    {"full", "disks are full, one or all, and nodes start again on them", 3, 3, full_setup,
     full_fault},
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
