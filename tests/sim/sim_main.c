/* karst-sim - runs seeds of a simulated cluster and says what was broken. */
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/canary.h"
#include "base/frame.h"
#include "sim/scenario.h"
#include "sim/sim_run.h"

static const char usage[] =
    "usage: karst-sim [--scenario NAME] [--seed S [--count N] [--jobs J]] [--seconds T]\n"
    "                 [--steps N] [--verbose] [--twice] [--require-counters]\n"
    "                 [--canary NAME [--expect-found]] [--ci]\n"
    "\n"
    "Runs a whole cluster in virtual time and checks its promises. The same seed gives the same\n"
    "run, bit for bit.\n"
    "\n"
    "  --scenario NAME     see below; mix (default): chosen by the seed\n"
    "  --seed S            the first seed (default 1)\n"
    "  --count N           that many seeds, S, S+1, ... (default 1)\n"
    "  --jobs J            processes that share them (default 1)\n"
    "  --seconds T         virtual seconds of faults and load (default 60); healing follows\n"
    "  --steps N           no more events than that\n"
    "  --verbose           the timeline as it goes, debug lines included\n"
    "  --twice             runs each seed twice: the hashes must be equal\n"
    "  --require-counters  fails when what must happen never happened in all seeds\n"
    "  --canary NAME       arms a planted bug (builds with -Dcanaries=true)\n"
    "  --expect-found      succeeds when a seed finds it; stops at the first\n"
    "  --ci                200 seeds, or as many as KARST_SIM_SEEDS says, in two processes; all\n"
    "                      counters are required when they are 100 or more\n"
    "\n"
    "example: karst-sim --scenario crashes --seed 17 --verbose\n"
    "\n"
    "scenarios:\n";

struct arguments {
    const char *scenario, *canary;
    uint64_t seed, count, seconds, steps;
    unsigned jobs;
    bool verbose, twice, require_counters, expect_found;
};

/* What a run tells its parent. */
struct result {
    uint64_t seed, hash, events;
    uint32_t failed, crashed, begun;
    char scenario[16], promise[80];
    struct run_counters counters;
};

static void print_usage(FILE *out)
{
    fputs(usage, out);
    for (size_t i = 0; scenario_at(i) != NULL; i++)
        fprintf(out, "  %-12s %s\n", scenario_at(i)->name, scenario_at(i)->what);
}

static void set_ci(struct arguments *a)
{
    const char *seeds = getenv("KARST_SIM_SEEDS");
    a->count = seeds == NULL ? 200 : strtoull(seeds, NULL, 0);
    a->jobs = 2;
    a->require_counters = a->count >= 100; /* fewer may miss a rare one */
}

/* 0: go on; else exit code + 1. */
static int parse(int argc, char **argv, struct arguments *a)
{
    static const struct option options[] = {{"scenario", required_argument, NULL, 's'},
                                            {"seed", required_argument, NULL, 'S'},
                                            {"count", required_argument, NULL, 'n'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"seconds", required_argument, NULL, 't'},
                                            {"steps", required_argument, NULL, 'N'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"twice", no_argument, NULL, '2'},
                                            {"require-counters", no_argument, NULL, 'r'},
                                            {"canary", required_argument, NULL, 'c'},
                                            {"expect-found", no_argument, NULL, 'f'},
                                            {"ci", no_argument, NULL, 'i'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "hv", options, NULL)) != -1;) {
        uint64_t number = optarg == NULL ? 0 : strtoull(optarg, NULL, 0);
        switch (c) {
        case 's':
            a->scenario = optarg;
            break;
        case 'S':
            a->seed = number;
            break;
        case 'n':
            a->count = number;
            break;
        case 'j':
            a->jobs = (unsigned)number;
            break;
        case 't':
            a->seconds = number;
            break;
        case 'N':
            a->steps = number;
            break;
        case 'v':
            a->verbose = true;
            break;
        case '2':
            a->twice = true;
            break;
        case 'r':
            a->require_counters = true;
            break;
        case 'c':
            a->canary = optarg;
            break;
        case 'f':
            a->expect_found = true;
            break;
        case 'i':
            set_ci(a);
            break;
        case 'h':
            print_usage(stdout);
            return 1;
        default:
            print_usage(stderr);
            return 3;
        }
    }
    bool mix = strcmp(a->scenario, "mix") == 0;
    if (optind == argc && a->jobs > 0 && a->jobs <= 64 && a->count > 0 &&
        (mix || scenario_find(a->scenario) != NULL))
        return 0;
    print_usage(stderr);
    return 3;
}

static const struct scenario *scenario_of(const struct arguments *a, uint64_t seed)
{
    /* of ten seeds: one quiet, three crashes, three partitions, two observers, one disks */
    static const char *const mix[] = {"crashes",    "partitions", "observers", "disks",
                                      "quiet",      "partitions", "crashes",   "observers",
                                      "partitions", "crashes"};
    if (strcmp(a->scenario, "mix") != 0)
        return scenario_find(a->scenario);
    return scenario_find(mix[seed % ARRAY_LEN(mix)]);
}

static void print_failure(const struct sim_run *run, const struct arguments *a)
{
    fprintf(stderr, "\nseed %" PRIu64 " (%s): BROKEN PROMISE: %s\n  %s\nthe last events:\n",
            run->seed, run->scenario->name, run->promise, run->what);
    if (!run->verbose)
        sim_print_notes(run, 60);
    fprintf(stderr,
            "replay: karst-sim --scenario %s --seed %" PRIu64 " --seconds %" PRIu64 "%s%s"
            " --verbose\n\n",
            run->scenario->name, run->seed, a->seconds, a->canary == NULL ? "" : " --canary ",
            a->canary == NULL ? "" : a->canary);
}

/* An assertion of the code under test, or worse: the timeline tells what led there. */
static void crashed(int number)
{
    struct sim_run *run = sim_run_current();
    if (run != NULL) {
        fprintf(stderr, "\nseed %" PRIu64 " (%s): signal %d; the last events:\n", run->seed,
                run->scenario->name, number);
        sim_print_notes(run, 60);
        fprintf(stderr, "replay: karst-sim --scenario %s --seed %" PRIu64 " --verbose\n\n",
                run->scenario->name, run->seed);
    }
    signal(number, SIG_DFL);
    raise(number);
}

static void run_seed(const struct arguments *a, uint64_t seed, struct result *ret)
{
    struct run_options options = {.seed = seed,
                                  .scenario = scenario_of(a, seed),
                                  .safety_ns = a->seconds * UINT64_C(1000000000),
                                  .steps_max = a->steps,
                                  .verbose = a->verbose};
    struct sim_run *run;
    sim_run(&options, &run);
    if (run->failed && !a->expect_found)
        print_failure(run, a);
    else if (run->failed)
        fprintf(stderr, "seed %" PRIu64 " (%s): %s\n  %s\n", seed, run->scenario->name,
                run->promise, run->what);
    *ret = (struct result){.seed = seed,
                           .hash = run->world.hash,
                           .events = run->world.events_run,
                           .failed = run->failed,
                           .counters = run->counters};
    memcpy(ret->promise, run->promise, sizeof ret->promise);
    (void)snprintf(ret->scenario, sizeof ret->scenario, "%s", run->scenario->name);
    sim_run_free(run);
    if (!a->twice)
        return;
    sim_run(&options, &run);
    if (run->world.hash != ret->hash) {
        fprintf(stderr, "seed %" PRIu64 ": two runs differ: %016" PRIx64 " and %016" PRIx64 "\n",
                seed, ret->hash, run->world.hash);
        ret->failed = 1;
        (void)snprintf(ret->promise, sizeof ret->promise, "the same seed gives the same run");
    }
    sim_run_free(run);
}

/* A worker takes every jobs-th seed. */
static void worker(const struct arguments *a, unsigned nth, int out)
{
    signal(SIGABRT, crashed);
    signal(SIGSEGV, crashed);
    signal(SIGBUS, crashed);
    for (uint64_t i = nth; i < a->count; i += a->jobs) {
        struct result result = {.seed = a->seed + i, .begun = 1};
        if (write(out, &result, sizeof result) != (ssize_t)sizeof result)
            _exit(1); /* nobody listens */
        run_seed(a, a->seed + i, &result);
        if (write(out, &result, sizeof result) != (ssize_t)sizeof result)
            _exit(1);
        if (a->expect_found && result.failed)
            break;
    }
    frame_cache_drain();
}

static void print_result(const struct result *r)
{
    printf("seed %-5" PRIu64 " %-11s %016" PRIx64 " events %-8" PRIu64, r->seed, r->scenario,
           r->hash, r->events);
#define COUNTER_PRINT(name, what) printf(" " #name " %" PRIu64, r->counters.name);
    RUN_COUNTERS(COUNTER_PRINT)
#undef COUNTER_PRINT
    printf("%s%s\n", r->failed ? " BROKEN: " : "", r->failed ? r->promise : "");
    (void)fflush(stdout);
}

static void counters_add(struct run_counters *to, const struct run_counters *from)
{
#define COUNTER_ADD(name, what) to->name += from->name;
    RUN_COUNTERS(COUNTER_ADD)
#undef COUNTER_ADD
}

/* True when all of them happened. */
static bool counters_seen(const struct run_counters *sum)
{
    bool seen = true;
    printf("in all:");
#define COUNTER_SUM(name, what)                                                                    \
    printf(" " #name " %" PRIu64, sum->name);                                                      \
    seen = seen && sum->name > 0;
    RUN_COUNTERS(COUNTER_SUM)
#undef COUNTER_SUM
    printf("\n");
    if (!seen)
        printf("some of this never happened: the run shows less than it should\n");
    return seen;
}

struct totals {
    uint64_t done, failed, first_failed;
    struct run_counters counters;
};

/* Reads results until all workers have closed their ends, or one has found what was looked for. */
static void collect(int in, const struct arguments *a, struct totals *totals)
{
    struct result result;
    while (read(in, &result, sizeof result) == (ssize_t)sizeof result) {
        if (result.begun)
            continue;
        print_result(&result);
        totals->done++;
        if (result.failed && totals->failed++ == 0)
            totals->first_failed = result.seed;
        counters_add(&totals->counters, &result.counters);
        if (result.failed && a->expect_found)
            break; /* the other workers end at their next write */
    }
    close(in);
}

int main(int argc, char **argv)
{
    struct arguments a = {.scenario = "mix", .seed = 1, .count = 1, .jobs = 1, .seconds = 60};
    int code = parse(argc, argv, &a);
    if (code != 0)
        return code - 1;
#ifdef KARST_CANARIES
    if (a.canary != NULL)
        canary_arm(a.canary);
#else
    if (a.canary != NULL) {
        fprintf(stderr, "karst-sim: this build has no canaries; configure one with "
                        "-Dcanaries=true\n");
        return 2;
    }
#endif
    int ends[2];
    if (pipe(ends) != 0)
        return 1;
    for (unsigned i = 0; i < a.jobs; i++) {
        pid_t pid = fork();
        if (pid < 0)
            return 1;
        if (pid == 0) {
            close(ends[0]);
            worker(&a, i, ends[1]);
            exit(0);
        }
    }
    close(ends[1]);
    struct totals totals = {0};
    collect(ends[0], &a, &totals);
    bool crashed_one = false;
    for (int status; wait(&status) > 0;)
        crashed_one = crashed_one || !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    bool seen = a.count == 1 || counters_seen(&totals.counters);
    printf("%" PRIu64 " of %" PRIu64 " seeds run, %" PRIu64 " broke a promise%s\n", totals.done,
           a.count, totals.failed, crashed_one ? "; a worker crashed" : "");
    if (a.expect_found) {
        bool found = totals.failed > 0 || crashed_one;
        printf("%s: %s", a.canary == NULL ? "no canary" : a.canary, found ? "found" : "NOT FOUND");
        if (totals.failed > 0)
            printf(" by seed %" PRIu64, totals.first_failed);
        printf("\n");
        return found ? 0 : 1;
    }
    return totals.failed == 0 && !crashed_one && totals.done == a.count &&
                   (seen || !a.require_counters)
               ? 0
               : 1;
}
