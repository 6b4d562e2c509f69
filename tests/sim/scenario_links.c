#include <stdio.h>
#include <string.h>

#include "sim/check.h"
#include "sim/scenario_faults.h"

void fault_cut(struct sim_run *run, unsigned a, unsigned b)
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

void fault_isolate(struct sim_run *run, unsigned idx)
{
    unsigned hosts = rng_chance(&run->rng, 500000) ? run->node_count : run->world.host_count;
    sim_say(run, "node %u is isolated%s", idx + 1,
            hosts == run->node_count ? " from the other nodes" : "");
    run->counters.cuts++;
    for (unsigned i = 0; i < hosts; i++)
        if (i != idx)
            sim_cut(&run->world, i, idx, true);
}

void fault_split(struct sim_run *run)
{
    uint64_t sides = rng_next(&run->rng);
    char apart[64] = "";
    for (unsigned i = 0; i < run->node_count; i++)
        if ((sides >> i & 1) != 0)
            (void)snprintf(apart + strlen(apart), sizeof apart - strlen(apart), " %u", i + 1);
    sim_say(run, "the nodes%s are cut off from the others", apart);
    run->counters.cuts++;
    for (unsigned i = 0; i < run->node_count; i++)
        for (unsigned k = 0; k < i; k++)
            if ((sides >> i & 1) != (sides >> k & 1))
                sim_cut(&run->world, i, k, true);
}

void fault_heal(struct sim_run *run)
{
    sim_say(run, "links are whole again");
    sim_heal(&run->world);
}

void fault_weather(struct sim_run *run)
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

static void flap_step(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    unsigned a = (unsigned)args[0], b = (unsigned)args[1];
    bool one_way = args[3] % 2 == 1, cut = args[2] % 2 == 1;
    if (run->phase != RUN_SAFETY)
        return;
    sim_cut_one_way(world, a, b, cut);
    if (!one_way)
        sim_cut_one_way(world, b, a, cut);
    const uint64_t next[] = {a, b, args[2] - 1, args[3]};
    if (args[2] > 0)
        sim_later(world, args[3], flap_step, next);
}

void fault_flap(struct sim_run *run, unsigned a, unsigned b)
{
    uint64_t times = rng_between(&run->rng, 2, 20), every = ms_between(run, 5, 800);
    bool one_way = rng_chance(&run->rng, 400000);
    if (a == b)
        return;
    run->counters.cuts++;
    sim_say(run, "the link from host %u to %u%s comes and goes %llu times, every %llu ms", a, b,
            one_way ? "" : ", and back,", (unsigned long long)times,
            (unsigned long long)every / 1000000);
    /* odd: cut, even: whole, the last one too; the lowest bit of the time says one way or both */
    const uint64_t args[] = {a, b, times * 2 + 1, (every & ~UINT64_C(1)) | one_way};
    flap_step(&run->world, args);
}

void fault_slow_link(struct sim_run *run, unsigned a, unsigned b)
{
    static const uint64_t slowest_ms[] = {5, 50, 300, 1500, 3000};
    uint64_t slow = slowest_ms[rng_below(&run->rng, ARRAY_LEN(slowest_ms))];
    bool one_way = rng_chance(&run->rng, 500000);
    if (a == b)
        return;
    sim_say(run, "the link from host %u to %u%s takes up to %llu ms", a, b,
            one_way ? "" : ", and back,", (unsigned long long)slow);
    sim_slow_link(&run->world, a, b, ENV_MS(slow));
    if (!one_way)
        sim_slow_link(&run->world, b, a, ENV_MS(slow));
}

void fault_isolate_voter(struct sim_run *run, const struct sim_node *voter)
{
    if (!voter->voter)
        return;
    sim_say(run, "voter %d hears and reaches no other voter", voter->id);
    run->counters.cuts++;
    for (unsigned i = 0; i < run->voter_count; i++)
        if (i != voter->host->idx)
            sim_cut(&run->world, i, voter->host->idx, true);
}
