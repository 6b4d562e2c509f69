/* sim_run.h - one run: a seed, a scenario, the world with its cluster and clients, what is known to
 * be true of it, and the verdict.
 *
 *   SAFETY  faults and load      every promise is checked as events run
 *   HEAL    faults end           all must converge within a bound of virtual time
 *   READ    load has ended       consumers read all back
 *   DONE
 *
 * Thread: one; a process runs one at a time. */
#ifndef KARST_TESTS_SIM_RUN_H
#define KARST_TESTS_SIM_RUN_H

#include "sim/sim_world.h"

enum {
    RUN_NODES_MAX = 7,
    RUN_CLIENTS_MAX = 8,
    RUN_SHARDS = 3,
    RUN_NOTES = 256,
    RUN_NOTE_BYTES = 240,
    RUN_FAULTS_MAX = 1024 /* no more of them in one run */
};

struct sim_node;
struct sim_client;
struct sim_karst;
struct check_data;
struct check_quorum;

enum run_phase { RUN_SAFETY, RUN_HEAL, RUN_READ, RUN_DONE };

/* What a run went through. CI fails when one of the first kind is zero over all seeds. */
#define RUN_COUNTERS(X)                                                                            \
    X(acknowledged, "records acknowledged with acks=all")                                          \
    X(elections, "elections of the quorum won")                                                    \
    X(early_elections, "elections begun on proof of the leader's death")                           \
    X(leader_changes, "partitions that changed their leader")                                      \
    X(truncations, "logs cut back, of partitions and of the quorum")                               \
    X(isr_shrinks, "replicas that left an ISR")                                                    \
    X(isr_growths, "replicas that joined one")                                                     \
    X(snapshots_installed, "metadata snapshots taken over from another node")                      \
    X(torn_writes, "files torn by a power cut")                                                    \
    X(delivered, "records that libkarst produced and was told of")                                 \
    X(read, "records read by consumers")                                                           \
    X(crashes, "processes killed or machines cut off from power")                                  \
    X(retries, "batches sent again by producers")                                                  \
    X(unclean, "partitions that gave records up by an unclean election")                           \
    X(cuts, "links cut")

struct run_counters {
#define RUN_COUNTER_FIELD(name, what) uint64_t name;
    RUN_COUNTERS(RUN_COUNTER_FIELD)
#undef RUN_COUNTER_FIELD
};

struct run_note {
    uint64_t at_ns;
    unsigned fault; /* it is a part of this one; 0: of none */
    char text[RUN_NOTE_BYTES];
};

/* The numberth fault of a run. What it draws depends on the seed and the number only, so that it
 * stays what it is when others are left out. */
struct run_fault {
    unsigned number; /* from 1 */
    uint64_t at_ms;
};

/* What of its notes a run prints as they come. */
enum run_show {
    RUN_SHOW_NOTHING,
    RUN_SHOW_FAULTS,   /* standard output: each fault, and what it does */
    RUN_SHOW_TIMELINE, /* standard output: all notes */
    RUN_SHOW_DEBUG     /* standard error: debug lines, too */
};

struct run_options {
    uint64_t seed;
    const struct scenario *scenario;
    uint64_t safety_ns; /* how long faults and load go on */
    uint64_t steps_max; /* events; 0: without bound */
    uint64_t shake;     /* other delays, orders and clients around the same faults; 0: the seed's */
    const struct run_fault *faults; /* these only, in order of time; NULL: all that are drawn */
    size_t fault_count;
    uint32_t without_clients; /* bit i: client i does nothing; 0, the admin, makes the topics */
    enum run_show show;
};

struct sim_run {
    struct sim_world world;
    uint64_t seed;
    const struct scenario *scenario;
    struct rng rng; /* of nodes and clients, and, while a fault is made, of that fault alone */
    const struct run_options *options;
    enum run_phase phase;
    struct sim_node *nodes[RUN_NODES_MAX];
    unsigned node_count, voter_count;
    struct sim_client *clients[RUN_CLIENTS_MAX];
    unsigned client_count;
    struct sim_karst *karst; /* NULL: left out */
    struct check_data *data;
    struct check_quorum *quorum;
    struct run_counters counters;
    struct sim_event fault;
    unsigned faults;     /* made so far */
    unsigned fault_now;  /* the number of the one that is being made; 0: none */
    uint64_t mixed;      /* scenario_mixed.c: bit i is the ith scenario */
    unsigned mixed_pace; /* gaps between faults, in quarters of what they are elsewhere */
    uint64_t heal_at_ns, phase_began_ns;
    /* the verdict */
    bool failed;
    char promise[80];
    char what[512];
    struct run_note notes[RUN_NOTES]; /* a ring */
    uint64_t note_count;
};

static inline struct sim_run *sim_run_of(struct sim_world *world)
{
    return container_of(world, struct sim_run, world);
}

/* Runs it all; *ret_run (to be freed by sim_run_free) holds the verdict. options outlive it. */
void sim_run(const struct run_options *options, struct sim_run **ret_run);
void sim_run_free(struct sim_run *run);
/* The run that is being run, for signal handlers; NULL: none. */
struct sim_run *sim_run_current(void);

/* A line of the timeline. */
void sim_say(struct sim_run *run, const char *format, ...) PRINTF_LIKE(2, 3);
/* A promise is broken: the first one is kept, the run ends after this event. */
void sim_fail(struct sim_run *run, const char *promise, const char *format, ...) PRINTF_LIKE(3, 4);
/* The last lines of the timeline, to standard error. */
void sim_print_notes(const struct sim_run *run, unsigned last);

#endif
