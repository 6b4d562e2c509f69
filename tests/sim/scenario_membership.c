#include "sim/scenario.h"
#include "sim/scenario_faults.h"

/* The voters change, while nodes die and links break: each change is asked of the active
 * controller. */

enum { TIMEOUT_MS = 4000 };

void membership_setup(struct sim_run *run)
{
    uint64_t replace_ms = rng_chance(&run->rng, 400000) ? rng_between(&run->rng, 1000, 4000) : 0;
    rough_setup(run);
    for (unsigned i = 0; i < run->node_count; i++) {
        run->nodes[i]->replace_ms = replace_ms;
        run->nodes[i]->keeps_disk = true;
    }
}

static void fault_add_voter(struct sim_run *run, struct sim_node *controller)
{
    struct sim_node *node = any_node(run);
    Karst__AddVoterRequest request = KARST__ADD_VOTER_REQUEST__INIT;
    request.node_id = node->id;
    request.timeout_ms = TIMEOUT_MS;
    sim_say(run, "node %d is asked to make node %d a voter", controller->id, node->id);
    ask_controller(controller, WIRE_ADD_VOTER, &request.base);
}

static void fault_remove_voter(struct sim_run *run, struct sim_node *controller)
{
    struct sim_node *node = any_node(run);
    Karst__RemoveVoterRequest request = KARST__REMOVE_VOTER_REQUEST__INIT;
    request.node_id = node->id;
    request.timeout_ms = TIMEOUT_MS;
    sim_say(run, "node %d is asked to remove the voter %d", controller->id, node->id);
    ask_controller(controller, WIRE_REMOVE_VOTER, &request.base);
}

static void fault_change(struct sim_run *run)
{
    struct sim_node *controller = the_controller(run);
    if (!sim_node_up(controller))
        return;
    if (rng_chance(&run->rng, 550000))
        fault_add_voter(run, controller);
    else
        fault_remove_voter(run, controller);
}

uint64_t membership_fault(struct sim_run *run)
{
    uint64_t draw = rng_below(&run->rng, 100);
    bool soon = false; /* something else happens while it is under way */
    if (draw < 45) {
        fault_change(run);
        soon = rng_chance(&run->rng, 700000);
    } else if (draw < 55) {
        fault_stop(run, the_controller(run));
    } else if (draw < 67) {
        fault_stop(run, any_node(run));
    } else if (draw < 72) {
        fault_isolate(run, (unsigned)the_controller(run)->id - 1);
    } else if (draw < 76) {
        fault_split(run);
    } else if (draw < 90) {
        fault_heal(run);
    } else if (draw < 94) {
        fault_pause(run, any_node(run));
    } else if (draw < 97) {
        fault_drain(any_node(run));
    } else {
        fault_slow_disk(run, any_node(run));
    }
    return soon ? ms_between(run, 1, 120) : ms_between(run, 200, 4000);
}
