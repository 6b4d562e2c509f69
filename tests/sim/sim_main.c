/* karst-sim - runs seeds of a simulated cluster and says what was broken. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/canary.h"
#include "sim/scenario.h"
#include "sim/sim_jobs.h"

static const char usage[] =
    "usage: karst-sim [--scenario NAME] [--seed S] [--count N | --minutes M] [--jobs J]\n"
    "                 [--seconds T] [--steps N] [--faults LIST] [--shake K]\n"
    "                 [--without-clients LIST] [--list-faults | --timeline | --verbose]\n"
    "                 [--twice] [--quiet] [--require-counters]\n"
    "                 [--canary NAME [--expect-found]] [--ci]\n"
    "\n"
    "Runs a whole cluster in virtual time and checks its promises. The same seed gives the same\n"
    "run, bit for bit.\n"
    "\n"
    "which runs\n"
    "  --scenario NAME     see below; mix (default): chosen by the seed\n"
    "  --seed S            the first seed (default 1)\n"
    "  --count N           that many seeds, S, S+1, ... (default 1)\n"
    "  --minutes M         as many as begin in M minutes of real time\n"
    "  --jobs J            so many at a time, each in a process of its own (default 1)\n"
    "\n"
    "what a run is\n"
    "  --seconds T         virtual seconds of faults and load (default 60); healing follows\n"
    "  --steps N           no more events than that\n"
    "  --faults LIST       only these of the seed's faults: NUMBER@MS,NUMBER@MS,... or none\n"
    "  --shake K           the same faults, with other delays, orders and clients\n"
    "  --without-clients LIST  1 and 2 produce, 3 and 4 consume, 5 is libkarst: N,N,...\n"
    "\n"
    "what is shown\n"
    "  --list-faults       each fault, its number, time and what it did\n"
    "  --timeline          what happened, as it goes, to standard output\n"
    "  --verbose           the same to standard error, debug lines included\n"
    "  --quiet             no line for a seed that broke nothing\n"
    "\n"
    "verdicts\n"
    "  --twice             runs each seed twice: the hashes must be equal\n"
    "  --require-counters  fails when what must happen never happened in all seeds\n"
    "  --canary NAME       arms a planted bug (builds with -Dcanaries=true)\n"
    "  --expect-found      succeeds when a seed finds it; stops at the first\n"
    "  --ci                200 seeds, or as many as KARST_SIM_SEEDS says, two at a time; all\n"
    "                      counters are required when they are 100 or more\n"
    "\n"
    "example: karst-sim --scenario crashes --seed 17 --timeline\n"
    "\n"
    "scenarios:\n";

struct arguments {
    const char *scenario, *canary;
    uint64_t seed, count, minutes, seconds, steps, shake;
    unsigned jobs;
    const char *fault_list; /* NULL: all */
    struct run_fault faults[RUN_FAULTS_MAX];
    size_t fault_count;
    uint32_t without_clients;
    enum run_show show;
    bool twice, quiet, require_counters, expect_found;
};

struct totals {
    const struct arguments *arguments;
    uint64_t done, failed, first_failed, virtual_ms;
    struct run_counters counters;
};

/* ---- arguments ---- */

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

/* "3@2150,7@9802", times not falling; "none". */
static bool set_faults(struct arguments *a, const char *text)
{
    a->fault_list = text;
    if (strcmp(text, "none") == 0)
        return true;
    for (char *end = NULL; a->fault_count < RUN_FAULTS_MAX; text = end + 1) {
        struct run_fault *fault = &a->faults[a->fault_count++];
        fault->number = (unsigned)strtoul(text, &end, 10);
        if (*end != '@')
            return false;
        fault->at_ms = strtoull(end + 1, &end, 10);
        if (fault->number == 0 || (a->fault_count > 1 && fault[-1].at_ms > fault->at_ms))
            return false;
        if (*end != ',')
            return *end == '\0';
    }
    return false;
}

static bool set_without_clients(struct arguments *a, const char *text)
{
    for (char *end = NULL;; text = end + 1) {
        unsigned long client = strtoul(text, &end, 10);
        if (client < 1 || client > 5)
            return false;
        a->without_clients |= UINT32_C(1) << client;
        if (*end != ',')
            return *end == '\0';
    }
}

static const struct option options[] = {{"scenario", required_argument, NULL, 's'},
                                        {"seed", required_argument, NULL, 'S'},
                                        {"count", required_argument, NULL, 'n'},
                                        {"minutes", required_argument, NULL, 'm'},
                                        {"jobs", required_argument, NULL, 'j'},
                                        {"seconds", required_argument, NULL, 't'},
                                        {"steps", required_argument, NULL, 'N'},
                                        {"faults", required_argument, NULL, 'F'},
                                        {"shake", required_argument, NULL, 'k'},
                                        {"without-clients", required_argument, NULL, 'w'},
                                        {"list-faults", no_argument, NULL, 'l'},
                                        {"timeline", no_argument, NULL, 'T'},
                                        {"verbose", no_argument, NULL, 'v'},
                                        {"quiet", no_argument, NULL, 'q'},
                                        {"twice", no_argument, NULL, '2'},
                                        {"require-counters", no_argument, NULL, 'r'},
                                        {"canary", required_argument, NULL, 'c'},
                                        {"expect-found", no_argument, NULL, 'f'},
                                        {"ci", no_argument, NULL, 'i'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static bool set_number(struct arguments *a, int option, const char *text)
{
    char *end;
    uint64_t number = strtoull(text, &end, 0);
    if (end == text || *end != '\0')
        return false;
    switch (option) {
    case 'S':
        a->seed = number;
        return true;
    case 'n':
        a->count = number;
        return number > 0;
    case 'm':
        a->minutes = number;
        a->count = UINT64_MAX;
        return number > 0;
    case 'j':
        a->jobs = (unsigned)number;
        return number > 0 && number <= JOBS_MAX;
    case 't':
        a->seconds = number;
        return true;
    case 'N':
        a->steps = number;
        return true;
    default:
        ASSERT(option == 'k');
        a->shake = number;
        return true;
    }
}

static bool set_option(struct arguments *a, int option, const char *text)
{
    switch (option) {
    case 's':
        a->scenario = text;
        return strcmp(text, "mix") == 0 || scenario_find(text) != NULL;
    case 'F':
        return set_faults(a, text);
    case 'w':
        return set_without_clients(a, text);
    case 'l':
        a->show = RUN_SHOW_FAULTS;
        return true;
    case 'T':
        a->show = RUN_SHOW_TIMELINE;
        return true;
    case 'v':
        a->show = RUN_SHOW_DEBUG;
        return true;
    case 'q':
        return a->quiet = true;
    case '2':
        return a->twice = true;
    case 'r':
        return a->require_counters = true;
    case 'c':
        a->canary = text;
        return true;
    case 'f':
        return a->expect_found = true;
    case 'i':
        set_ci(a);
        return true;
    case '?':
        return false;
    default:
        return set_number(a, option, text);
    }
}

/* 0: go on; else exit code + 1. */
static int parse(int argc, char **argv, struct arguments *a)
{
    for (int c; (c = getopt_long(argc, argv, "hvq", options, NULL)) != -1;) {
        if (c == 'h') {
            print_usage(stdout);
            return 1;
        }
        if (!set_option(a, c, optarg)) {
            print_usage(stderr);
            return 3;
        }
    }
    if (optind == argc)
        return 0;
    print_usage(stderr);
    return 3;
}

/* ---- one seed ---- */

/* What --scenario mix draws, by the seed. */
static const char *const mix[] = {"crashes",   "mixed",  "partitions", "observers",  "disks",
                                  "quiet",     "mixed3", "loose",      "crashes",    "partitions",
                                  "full",      "quorum", "mixed",      "partitions", "membership",
                                  "observers", "mixed3", "disks",      "crashes",    "mixed7"};

static const struct scenario *scenario_of(const struct arguments *a, uint64_t seed)
{
    if (strcmp(a->scenario, "mix") != 0)
        return scenario_find(a->scenario);
    return scenario_find(mix[seed % ARRAY_LEN(mix)]);
}

static bool mix_complete(void)
{
    bool complete = true;
    for (size_t i = 0; scenario_at(i) != NULL; i++) {
        bool drawn = false;
        for (size_t k = 0; k < ARRAY_LEN(mix); k++)
            drawn = drawn || strcmp(mix[k], scenario_at(i)->name) == 0;
        if (!drawn)
            fprintf(stderr, "karst-sim: no seed draws the scenario %s\n", scenario_at(i)->name);
        complete = complete && drawn;
    }
    return complete;
}

static void print_replay(const struct sim_run *run, const struct arguments *a)
{
    fprintf(stderr, "replay: karst-sim --scenario %s --seed %" PRIu64 " --seconds %" PRIu64,
            run->scenario->name, run->seed, a->seconds);
    if (a->fault_list != NULL)
        fprintf(stderr, " --faults %s", a->fault_list);
    if (a->shake != 0)
        fprintf(stderr, " --shake %" PRIu64, a->shake);
    for (unsigned i = 1; i < 32; i++)
        if ((a->without_clients >> i & 1) != 0)
            fprintf(stderr, " --without-clients %u", i);
    if (a->canary != NULL)
        fprintf(stderr, " --canary %s", a->canary);
    fprintf(stderr, " --timeline\n\n");
}

static void print_failure(const struct sim_run *run, const struct arguments *a)
{
    fprintf(stderr, "\nseed %" PRIu64 " (%s): BROKEN PROMISE: %s\n  %s\nthe last events:\n",
            run->seed, run->scenario->name, run->promise, run->what);
    if (a->show == RUN_SHOW_NOTHING)
        sim_print_notes(run, 60);
    print_replay(run, a);
}

static void seed_crashed(void *context, const struct sim_run *run, const char *promise)
{
    const struct totals *totals = context;
    const struct arguments *a = totals->arguments;
    if (a->quiet)
        return;
    fprintf(stderr, "\nseed %" PRIu64 " (%s): %s; the last events:\n", run->seed,
            run->scenario->name, promise);
    sim_print_notes(run, 60);
    print_replay(run, a);
}

static void run_seed(void *context, uint64_t seed, struct job_result *ret)
{
    const struct totals *totals = context;
    const struct arguments *a = totals->arguments;
    struct run_options run_options = {.seed = seed,
                                      .scenario = scenario_of(a, seed),
                                      .safety_ns = a->seconds * UINT64_C(1000000000),
                                      .steps_max = a->steps,
                                      .shake = a->shake,
                                      .faults = a->fault_list == NULL ? NULL : a->faults,
                                      .fault_count = a->fault_count,
                                      .without_clients = a->without_clients,
                                      .show = a->show};
    struct sim_run *run;
    (void)snprintf(ret->scenario, sizeof ret->scenario, "%s", run_options.scenario->name);
    sim_run(&run_options, &run);
    if (run->failed && !a->expect_found && !a->quiet)
        print_failure(run, a);
    else if (run->failed && !a->quiet)
        fprintf(stderr, "seed %" PRIu64 " (%s): %s\n  %s\n", seed, run->scenario->name,
                run->promise, run->what);
    ret->hash = run->world.hash;
    ret->events = run->world.events_run;
    ret->virtual_ms = run->world.now_ns / 1000000;
    ret->failed = run->failed;
    ret->counters = run->counters;
    (void)snprintf(ret->promise, sizeof ret->promise, "%s", run->promise);
    sim_run_free(run);
    if (!a->twice)
        return;
    sim_run(&run_options, &run);
    if (run->world.hash != ret->hash) {
        fprintf(stderr, "seed %" PRIu64 ": two runs differ: %016" PRIx64 " and %016" PRIx64 "\n",
                seed, ret->hash, run->world.hash);
        ret->failed = 1;
        (void)snprintf(ret->promise, sizeof ret->promise, "the same seed gives the same run");
    }
    sim_run_free(run);
}

/* ---- all seeds ---- */

static void print_result(const struct job_result *r)
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

static void seed_ended(void *context, const struct job_result *result)
{
    struct totals *totals = context;
    if (!totals->arguments->quiet || result->failed)
        print_result(result);
    totals->done++;
    totals->virtual_ms += result->virtual_ms;
    if (result->failed && totals->failed++ == 0)
        totals->first_failed = result->seed;
    counters_add(&totals->counters, &result->counters);
}

static uint64_t real_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void print_totals(const struct totals *totals, uint64_t took_ms)
{
    printf("%" PRIu64 " seeds run, %" PRIu64 " broke a promise; %.1f virtual hours in %.1f s, %.0f"
           " seeds a minute\n",
           totals->done, totals->failed, (double)totals->virtual_ms / 3.6e6, (double)took_ms / 1e3,
           (double)totals->done * 60000 / (double)(took_ms + 1));
}

static int verdict(const struct totals *totals, bool seen)
{
    const struct arguments *a = totals->arguments;
    bool found = totals->failed > 0;
    if (a->expect_found) {
        printf("%s: %s", a->canary == NULL ? "no canary" : a->canary,
               found ? "found" : "NOT FOUND");
        if (found)
            printf(" by seed %" PRIu64, totals->first_failed);
        printf("\n");
        return found ? 0 : 1;
    }
    bool all = totals->done == a->count || a->minutes != 0;
    return !found && all && (seen || !a->require_counters) ? 0 : 1;
}

int main(int argc, char **argv)
{
    static struct arguments a = {
        .scenario = "mix", .seed = 1, .count = 1, .jobs = 1, .seconds = 60};
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
    if (!mix_complete())
        return 1;
    struct totals totals = {.arguments = &a};
    struct jobs jobs = {.first_seed = a.seed,
                        .count = a.count,
                        .seconds = a.minutes * 60,
                        .at_a_time = a.jobs,
                        .stop_at_failure = a.expect_found,
                        .run = run_seed,
                        .ended = seed_ended,
                        .crashed = seed_crashed,
                        .context = &totals};
    uint64_t began_ms = real_ms();
    jobs_run(&jobs);
    bool seen = a.count == 1 || counters_seen(&totals.counters);
    print_totals(&totals, real_ms() - began_ms);
    return verdict(&totals, seen);
}
