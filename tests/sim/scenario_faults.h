/* scenario_faults.h - what scenarios are made of: each fault is drawn from run->rng here and now,
 * with all that follows of it, and says what it does in one line. */
#ifndef KARST_TESTS_SIM_SCENARIO_FAULTS_H
#define KARST_TESTS_SIM_SCENARIO_FAULTS_H

#include "sim/sim_node.h"
#include "sim/sim_run.h"

uint64_t ms_between(struct sim_run *run, uint64_t low, uint64_t high);
struct sim_node *any_node(struct sim_run *run);
/* Of any partition of the load; any node, when nobody leads. */
struct sim_node *any_leader(struct sim_run *run);
/* The active controller, or any voter when there is none. */
struct sim_node *the_controller(struct sim_run *run);

/* A request, as a broker would forward it; whatever becomes of it, nobody tries again. */
void ask_controller(struct sim_node *controller, uint16_t method, const ProtobufCMessage *message);

/* ---- processes and machines (scenario_faults.c) ---- */
void fault_stop(struct sim_run *run, struct sim_node *node); /* kill, or power cut */
void fault_blackout(struct sim_run *run);
void fault_kill_and_cut(struct sim_run *run, struct sim_node *node);
void fault_fuse(struct sim_run *run,
                struct sim_node *node); /* power goes in a change of the disk */
void fault_pause(struct sim_run *run, struct sim_node *node);
void fault_stuck_actor(struct sim_run *run, struct sim_node *node);
void fault_image_lag(struct sim_run *run, struct sim_node *node); /* of one shard */
void fault_wall_clock(struct sim_run *run, struct sim_node *node);
void fault_drain(struct sim_node *node);
/* ---- disks ---- */
void fault_bad_sync(struct sim_run *run, struct sim_node *node);
void fault_lose(struct sim_run *run, struct sim_node *node); /* the disk, or one folder */
void fault_slow_disk(struct sim_run *run, struct sim_node *node);

/* ---- links (scenario_links.c) ---- */
void fault_cut(struct sim_run *run, unsigned a, unsigned b); /* both ways, or one */
void fault_flap(struct sim_run *run, unsigned a, unsigned b);
void fault_slow_link(struct sim_run *run, unsigned a, unsigned b);
/* From all other nodes; from clients too, or not: then it serves them what it knows. */
void fault_isolate(struct sim_run *run, unsigned idx);
/* From the other voters only: observers, brokers and clients still hear a voter that knows nothing
 * new; a controller is deposed, and still answers heartbeats. */
void fault_isolate_voter(struct sim_run *run, const struct sim_node *voter);
/* In two, anyhow: a deposed controller keeps some brokers. */
void fault_split(struct sim_run *run);
void fault_heal(struct sim_run *run);
void fault_weather(struct sim_run *run); /* delays, loss, doubling, overtaking, resets */

/* ---- histories, of several steps (scenario_histories.c) ---- */
/* A leader is left alone, writes what nobody gets, comes back, and may end while it cuts that off.
 */
void fault_ghost(struct sim_run *run, struct sim_node *node);
/* R8: when a leader dies alone in its ISR, there live a log that is longer with records of an older
 * epoch, and one of its own. */
void fault_zombie(struct sim_run *run);
/* The controller is left alone, a voter dies as it comes back, then the new controller. */
void fault_usurp(struct sim_run *run);
/* ---- around one change of a leader (scenario_heirs.c) ---- */
void fault_heir(struct sim_run *run);
void fault_late_proposal(struct sim_run *run);
void fault_late_answer(struct sim_run *run);

#endif
