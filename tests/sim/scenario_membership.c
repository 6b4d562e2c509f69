#include <stdlib.h>

#include "sim/scenario.h"
#include "sim/scenario_faults.h"

/* The voters change, while nodes die and links break: each change is asked of the active controller,
 * as a broker would forward it, and whatever becomes of it, nobody tries again. */

enum { NO_TOKEN = -1, TIMEOUT_MS = 4000 };

static void ask(struct sim_node *controller, uint16_t method, const ProtobufCMessage *message)
{
    struct env *env = sim_host_env(controller->host, 0);
    struct quorum_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->message.type = QUORUM_CALL;
    call->token = (uint64_t)NO_TOKEN; /* shard 0 gets the answer, and knows no such call */
    call->peer = NO_NODE;
    call->peer_epoch = -1;
    call->frame = wire_frame(
        &(struct wire_frame_args){.kind = WIRE_REQUEST, .method = method, .message = message});
    ASSERT(call->frame != NULL);
    if (env->mail.post(env->mail.self, RUN_SHARDS, call) != ERR_OK)
        quorum_message_free(&call->message); /* its mailbox is full: not this time */
}

static void fault_add_voter(struct sim_run *run, struct sim_node *controller)
{
    struct sim_node *node = any_node(run);
    Karst__AddVoterRequest request = KARST__ADD_VOTER_REQUEST__INIT;
    request.node_id = node->id;
    request.timeout_ms = TIMEOUT_MS;
    node->voter = true; /* or will be: its disk is not to be swapped from now on */
    sim_say(run, "node %d is asked to make node %d a voter", controller->id, node->id);
    ask(controller, WIRE_ADD_VOTER, &request.base);
}

static void fault_remove_voter(struct sim_run *run, struct sim_node *controller)
{
    struct sim_node *node = any_node(run);
    Karst__RemoveVoterRequest request = KARST__REMOVE_VOTER_REQUEST__INIT;
    request.node_id = node->id;
    request.timeout_ms = TIMEOUT_MS;
    sim_say(run, "node %d is asked to remove the voter %d", controller->id, node->id);
    ask(controller, WIRE_REMOVE_VOTER, &request.base);
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
