#include "sim/check.h"
#include "sim/scenario.h"

/* Whatever the other scenarios do to a cluster, in random mixes: the seed draws which of them, and
 * how fast one fault follows the other. */

static bool mixed_takes(const struct sim_run *run, const struct scenario *other)
{
    unsigned observers = run->node_count - run->voter_count;
    return other->fault != NULL && other->fault != mixed_fault &&
           (run->scenario->loose || !other->loose) && other->nodes <= run->node_count &&
           other->nodes - other->voters <= observers;
}

static void mixed_set_up(struct sim_run *run, uint64_t chosen)
{
    void (*done[64])(struct sim_run *);
    unsigned count = 0;
    for (size_t i = 0; scenario_at(i) != NULL; i++) {
        void (*setup)(struct sim_run *) = scenario_at(i)->setup;
        bool wanted = (chosen >> i & 1) != 0 && setup != NULL;
        for (unsigned k = 0; k < count; k++)
            wanted = wanted && done[k] != setup; /* several share one */
        if (!wanted)
            continue;
        done[count++] = setup;
        setup(run);
    }
}

void mixed_setup(struct sim_run *run)
{
    static const unsigned paces[] = {1, 2, 4, 4, 8};
    run->mixed = 0;
    while (run->mixed == 0) {
        for (size_t i = 0; scenario_at(i) != NULL; i++) {
            bool takes = mixed_takes(run, scenario_at(i));
            if (takes && rng_chance(&run->rng, 500000))
                run->mixed |= UINT64_C(1) << i;
        }
    }
    run->mixed_pace = paces[rng_below(&run->rng, ARRAY_LEN(paces))];
    for (size_t i = 0; scenario_at(i) != NULL; i++)
        if ((run->mixed >> i & 1) != 0)
            sim_say(run, "mixed: %s", scenario_at(i)->name);
    mixed_set_up(run, run->mixed);
}

uint64_t mixed_fault(struct sim_run *run)
{
    /* Else the others of an ISR might go, and the lost replica be its last: that needs a person. */
    if (check_data_any_lost(run->data))
        return ENV_MS(rng_between(&run->rng, 50, 500));
    uint64_t nth = rng_below(&run->rng, (uint64_t)__builtin_popcountll(run->mixed));
    size_t idx = 0;
    for (;; idx++) {
        if ((run->mixed >> idx & 1) == 0)
            continue;
        if (nth-- == 0)
            break;
    }
    return scenario_at(idx)->fault(run) * run->mixed_pace / 4;
}
