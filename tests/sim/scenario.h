/* scenario.h - what happens to a cluster: its size, its load, and a row of faults drawn from the
 * seed. To add one: a function for its faults, a row in scenario.c's table, and its share of
 * sim_main.c's mix. What faults are made of: scenario_faults.h. */
#ifndef KARST_TESTS_SIM_SCENARIO_H
#define KARST_TESTS_SIM_SCENARIO_H

#include "sim/sim_run.h"

struct scenario {
    const char *name, *what;
    unsigned nodes, voters;   /* observers are the rest */
    bool loose;               /* with the topics that may lose records */
    uint32_t without_clients; /* bit i: client i does nothing */
    /* Before anything starts: draws the network, the disks. May be NULL. */
    void (*setup)(struct sim_run *run);
    /* The next fault; returns ns until the one after. NULL: nothing ever goes wrong. */
    uint64_t (*fault)(struct sim_run *run);
};

/* scenario_full.c */
void full_setup(struct sim_run *run);
uint64_t full_fault(struct sim_run *run);
/* Clocks, disks and network as they are: what most scenarios begin with. */
void rough_setup(struct sim_run *run);
/* scenario_membership.c */
void membership_setup(struct sim_run *run);
uint64_t membership_fault(struct sim_run *run);
/* scenario_mixed.c */
void mixed_setup(struct sim_run *run);
uint64_t mixed_fault(struct sim_run *run);

const struct scenario *scenario_find(const char *name); /* NULL: none */
const struct scenario *scenario_at(size_t idx);         /* NULL: past the end */

#endif
