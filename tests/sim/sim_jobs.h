/* sim_jobs.h - many seeds, each run in a process of its own, so many at a time: a crash of one is
 * that seed's verdict, and nothing of one reaches another.
 *
 * Thread: one. */
#ifndef KARST_TESTS_SIM_JOBS_H
#define KARST_TESTS_SIM_JOBS_H

#include "sim/sim_run.h"

enum { JOBS_MAX = 64, JOB_SECONDS_MAX = 300 /* of real time: then a seed has failed */ };

struct job_result {
    uint64_t seed, hash, events, virtual_ms;
    uint32_t failed;
    char scenario[16], promise[160]; /* the broken one; "no assertion fails: ..." after a crash */
    struct run_counters counters;
};

struct jobs {
    uint64_t first_seed, count;
    uint64_t seconds; /* no seed is begun later; 0: without bound */
    unsigned at_a_time;
    bool stop_at_failure;
    /* In the seed's process. */
    void (*run)(void *context, uint64_t seed, struct job_result *ret_result);
    /* For each seed, in the order in which they end. */
    void (*ended)(void *context, const struct job_result *result);
    /* In a process that is about to die of a signal. */
    void (*crashed)(void *context, const struct sim_run *run, const char *promise);
    void *context;
};

void jobs_run(const struct jobs *jobs);

#endif
