#include "sim/sim_run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logger.h"
#include "sim/check.h"
#include "sim/scenario.h"
#include "sim/sim_client.h"
#include "sim/sim_node.h"

/* How long after the last fault all must be well again. The longest single wait on the way: a lost
 * snapshot is sent again after 5 s, a connection over a cut link breaks after 10 s. */
#define CONVERGE_NS (UINT64_C(40) * 1000000000)
#define READ_NS (UINT64_C(30) * 1000000000)
#define POLL_NS ENV_MS(50)

static struct sim_run *current;

struct sim_run *sim_run_current(void)
{
    return current;
}

/* ---- the timeline ---- */

static void note_print(FILE *out, const struct run_note *note)
{
    char fault[16] = "";
    if (note->fault != 0)
        (void)snprintf(fault, sizeof fault, "[%u] ", note->fault);
    fprintf(out, "%10.4f  %s%s\n", (double)note->at_ns / 1e9, fault, note->text);
}

static void note_show(const struct sim_run *run, const struct run_note *note)
{
    enum run_show show = run->options->show;
    if (show == RUN_SHOW_FAULTS && note->fault != 0)
        printf("    %s\n", note->text);
    if (show == RUN_SHOW_TIMELINE)
        note_print(stdout, note);
    if (show == RUN_SHOW_DEBUG)
        note_print(stderr, note);
    if (show == RUN_SHOW_FAULTS || show == RUN_SHOW_TIMELINE)
        (void)fflush(stdout); /* the next step may be a crash */
}

static void say_to(struct sim_run *run, const char *text)
{
    struct run_note *note = &run->notes[run->note_count++ % RUN_NOTES];
    note->at_ns = run->world.now_ns;
    note->fault = run->fault_now;
    size_t len = strlen(text);
    if (len >= RUN_NOTE_BYTES)
        len = RUN_NOTE_BYTES - 1;
    memcpy(note->text, text, len);
    note->text[len] = '\0';
    note_show(run, note);
}

void sim_say(struct sim_run *run, const char *format, ...)
{
    char text[RUN_NOTE_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args); /* cut at the bound */
    va_end(args);
    say_to(run, text);
}

void sim_fail(struct sim_run *run, const char *promise, const char *format, ...)
{
    if (run->failed)
        return;
    run->failed = true;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(run->what, sizeof run->what, format, args); /* cut at the bound */
    va_end(args);
    (void)snprintf(run->promise, sizeof run->promise, "%s", promise);
    sim_say(run, "BROKEN: %s: %s", run->promise, run->what);
}

void sim_print_notes(const struct sim_run *run, unsigned last)
{
    uint64_t from = run->note_count > last ? run->note_count - last : 0;
    for (uint64_t i = from; i < run->note_count; i++)
        note_print(stderr, &run->notes[i % RUN_NOTES]);
}

/* Log lines of the code under test belong to the timeline, under their actor's name. */
static void log_to_timeline(void *context, const char *line, int len)
{
    (void)context;
    if (current == NULL || len <= 1)
        return;
    char text[RUN_NOTE_BYTES];
    (void)snprintf(text, sizeof text, "%.*s", len - 1, line); /* cut at the bound */
    say_to(current, text);
}

/* ---- around turns ---- */

static void turn_begins(struct sim_world *world, struct sim_actor *actor)
{
    struct sim_run *run = sim_run_of(world);
    char name[16];
    if (actor->host->idx < run->node_count)
        (void)snprintf(name, sizeof name, actor->idx < RUN_SHARDS ? "node%u.%u" : "node%u.quorum",
                       actor->host->idx + 1, actor->idx);
    else
        (void)snprintf(name, sizeof name, "client%u", actor->host->idx - run->node_count);
    logger_name_thread(name);
}

static void turn_ended(struct sim_world *world, struct sim_actor *actor)
{
    struct sim_run *run = sim_run_of(world);
    if (actor->host->idx >= run->node_count || run->failed)
        return;
    struct sim_node *node = run->nodes[actor->host->idx];
    if (!sim_node_up(node))
        return;
    if (actor->idx == RUN_SHARDS) {
        check_quorum_turn(run->quorum, node);
    } else {
        check_quorum_shard(run->quorum, node, actor->idx);
        check_data_shard(run->data, node, actor->idx);
    }
    sim_node_turn_ended(node);
}

static void frame_leaves(struct sim_world *world, struct sim_actor *actor,
                         const struct frame *frame)
{
    check_lease_frame(sim_run_of(world), actor, frame);
}

/* ---- faults ---- */

/* Draws for one purpose of a seed, whatever is drawn elsewhere. (Not rng_seed's own constant: the
 * states of two purposes would be the same words, shifted.) */
static uint64_t seed_of(uint64_t seed, uint64_t purpose)
{
    return seed ^ purpose * UINT64_C(0xD1B54A32D192ED03);
}

/* Returns ms until the one that the scenario wants after it. */
static uint64_t fault_make(struct sim_run *run, unsigned number)
{
    if (run->options->show == RUN_SHOW_FAULTS)
        printf("fault %u at %" PRIu64 " ms\n", number, run->world.now_ns / 1000000);
    struct rng others = run->rng;
    rng_seed(&run->rng, seed_of(run->seed, number));
    run->fault_now = number;
    uint64_t wait_ns = run->scenario->fault(run);
    run->fault_now = 0;
    run->rng = others;
    run->faults++;
    return (wait_ns + 999999) / 1000000;
}

static void fault_schedule(struct sim_run *run, uint64_t at_ms)
{
    uint64_t at_ns = ENV_MS(at_ms);
    sim_schedule(&run->world, &run->fault,
                 at_ns > run->world.now_ns ? at_ns - run->world.now_ns : 0);
}

static void fault_event(struct sim_world *world, struct sim_event *event)
{
    (void)event;
    struct sim_run *run = sim_run_of(world);
    const struct run_options *options = run->options;
    if (run->phase != RUN_SAFETY)
        return;
    if (options->faults == NULL) {
        uint64_t wait_ms = fault_make(run, run->faults + 1);
        if (run->faults < RUN_FAULTS_MAX)
            fault_schedule(run, world->now_ns / 1000000 + wait_ms);
        return;
    }
    (void)fault_make(run, options->faults[run->faults].number);
    if (run->faults < options->fault_count)
        fault_schedule(run, options->faults[run->faults].at_ms);
}

static void faults_begin(struct sim_run *run)
{
    const struct run_options *options = run->options;
    uint64_t first_ms = rng_between(&run->rng, 1000, 6000);
    run->fault.run = fault_event;
    if (run->scenario->fault == NULL || (options->faults != NULL && options->fault_count == 0))
        return;
    fault_schedule(run, options->faults == NULL ? first_ms : options->faults[0].at_ms);
}

/* ---- the run ---- */

/* Runs for so long; false when the run is over (failed, or out of steps). */
static bool run_for(struct sim_run *run, const struct run_options *options, uint64_t ns)
{
    uint64_t until = run->world.now_ns + ns;
    for (const struct heap_node *top;
         (top = heap_top(&run->world.events)) != NULL && top->key <= until;) {
        if (run->failed)
            return false;
        if (options->steps_max != 0 && run->world.events_run >= options->steps_max)
            return false;
        (void)sim_step(&run->world); /* there is one */
    }
    if (!run->failed)
        run->world.now_ns = until;
    return !run->failed;
}

static void run_phase(struct sim_run *run, enum run_phase phase)
{
    static const char *const names[] = {"safety", "heal", "read back", "done"};
    run->phase = phase;
    run->phase_began_ns = run->world.now_ns;
    sim_say(run, "---- phase: %s", names[phase]);
}

static void run_heal(struct sim_run *run)
{
    run_phase(run, RUN_HEAL);
    sim_unschedule(&run->world, &run->fault);
    sim_heal(&run->world);
    run->world.net = (struct sim_net_options){.delay_min_ns = 20000,
                                              .delay_max_ns = 400000,
                                              .queue_bytes_max = 8 << 20,
                                              .give_up_ns = ENV_MS(10000)};
    for (unsigned i = 0; i < run->node_count; i++) {
        struct sim_node *node = run->nodes[i];
        sim_disk_slow(node->disk, 1);
        sim_disk_freeze_at(node->disk, 0);
        sim_disk_set_capacity(node->disk, 0);
        node->fuse_restart_ns = node->boot_fuse = 0;
        if (sim_disk_offline(node->disk))
            sim_node_stop(node, NODE_KILL, 0); /* a person replaces the process, as R14 asks */
        sim_disk_fail_sync(node->disk, 0);
        if (!sim_node_up(node))
            sim_node_start(node);
    }
    for (unsigned i = 0; i < run->client_count; i++)
        sim_client_end_load(run->clients[i]);
    if (run->karst != NULL)
        sim_karst_end_load(run->karst);
}

/* Polls until ready says so; else the promise of convergence is broken. */
static bool run_until_ready(struct sim_run *run, const struct run_options *options,
                            bool (*ready)(struct sim_run *run, char *ret_why, size_t size),
                            uint64_t bound_ns)
{
    char why[256] = "";
    uint64_t began = run->world.now_ns;
    unsigned good = 0; /* polls in a row: it must last */
    while (run->world.now_ns - began < bound_ns) {
        if (!run_for(run, options, POLL_NS))
            return false;
        good = ready(run, why, sizeof why) ? good + 1 : 0;
        if (good >= 3) {
            sim_say(run, "ready after %" PRIu64 " ms", (run->world.now_ns - began) / 1000000);
            return true;
        }
    }
    check_quorum_describe(run->quorum);
    sim_fail(run, "all converges when faults end", "not within %" PRIu64 " s: %s",
             bound_ns / 1000000000, why);
    return false;
}

static bool healed(struct sim_run *run, char *ret_why, size_t size)
{
    for (unsigned i = 0; i < run->node_count; i++) {
        if (sim_node_up(run->nodes[i]))
            continue;
        (void)snprintf(ret_why, size, "node %u is down", i + 1);
        return false;
    }
    if (!check_quorum_converged(run->quorum, ret_why, size))
        return false;
    for (unsigned i = 0; i < run->client_count; i++)
        if (!sim_client_idle(run->clients[i], ret_why, size))
            return false;
    return (run->karst == NULL || sim_karst_idle(run->karst, ret_why, size)) &&
           check_data_converged(run->data, ret_why, size);
}

static bool all_read(struct sim_run *run, char *ret_why, size_t size)
{
    for (unsigned i = 0; i < run->client_count; i++)
        if (!sim_client_idle(run->clients[i], ret_why, size))
            return false;
    return run->karst == NULL || sim_karst_idle(run->karst, ret_why, size);
}

static void run_phases(struct sim_run *run, const struct run_options *options)
{
    run_phase(run, RUN_SAFETY);
    if (!run_for(run, options, options->safety_ns))
        return;
    run_heal(run);
    if (!run_until_ready(run, options, healed, CONVERGE_NS))
        return;
    run_phase(run, RUN_READ);
    for (unsigned i = 0; i < run->client_count; i++)
        sim_client_read_all(run->clients[i]);
    if (run->karst != NULL)
        sim_karst_read_all(run->karst);
    if (!run_until_ready(run, options, all_read, READ_NS))
        return;
    check_data_final(run->data);
    run_phase(run, RUN_DONE);
}

static void disks_counted(struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++)
        run->counters.torn_writes += sim_disk_counters(run->nodes[i]->disk)->torn_files;
}

void sim_run(const struct run_options *options, struct sim_run **ret_run)
{
    struct sim_run *run = calloc(1, sizeof *run);
    ASSERT(run != NULL);
    *ret_run = run;
    current = run;
    run->seed = options->seed;
    run->scenario = options->scenario;
    run->options = options;
    sim_world_init(&run->world, seed_of(options->seed, options->shake));
    rng_seed(&run->rng, options->seed ^ UINT64_C(0x5DEECE66D));
    run->world.turn_begins = turn_begins;
    run->world.turn_ended = turn_ended;
    run->world.frame_leaves = frame_leaves;
    run->node_count = options->scenario->nodes;
    run->voter_count = options->scenario->voters;
    logger_set(options->show == RUN_SHOW_DEBUG ? LOGGER_DEBUG : LOGGER_INFO, log_to_timeline, NULL,
               false);
    run->data = check_data_new(run);
    run->quorum = check_quorum_new(run);
    for (unsigned i = 0; i < run->node_count; i++)
        run->nodes[i] = sim_node_new(run, i, i < run->voter_count);
    if (options->scenario->setup != NULL)
        options->scenario->setup(run);
    if (options->shake != 0)
        rng_seed(&run->rng, seed_of(options->seed ^ UINT64_C(0x5DEECE66D), options->shake));
    for (unsigned i = 0; i < run->node_count; i++)
        sim_node_format(run->nodes[i]);
    for (unsigned i = 0; i < run->node_count && !run->failed; i++)
        sim_node_start(run->nodes[i]);
    sim_clients_add(run);
    faults_begin(run);
    if (!run->failed)
        run_phases(run, options);
    for (unsigned i = 0; i < run->node_count; i++)
        if (sim_node_up(run->nodes[i])) {
            check_data_node_stops(run->data, run->nodes[i]);
            check_quorum_node_stops(run->quorum, run->nodes[i]);
        }
    disks_counted(run);
}

void sim_run_free(struct sim_run *run)
{
    for (unsigned i = 0; i < run->client_count; i++)
        sim_client_free(run->clients[i]);
    sim_karst_free(run->karst);
    for (unsigned i = 0; i < run->node_count; i++)
        sim_node_free(run->nodes[i]);
    check_data_free(run->data);
    check_quorum_free(run->quorum);
    sim_world_fini(&run->world);
    logger_set(LOGGER_WARN, NULL, NULL, true);
    current = NULL;
    free(run);
}
