#include "sim/scenario_faults.h"

#include <stdlib.h>

#include "sim/check.h"
#include "sim/sim_load.h"

uint64_t ms_between(struct sim_run *run, uint64_t low, uint64_t high)
{
    return ENV_MS(rng_between(&run->rng, low, high));
}

struct sim_node *any_node(struct sim_run *run)
{
    return run->nodes[rng_below(&run->rng, run->node_count)];
}

struct sim_node *any_leader(struct sim_run *run)
{
    const struct image *image = check_quorum_image(run->quorum);
    const struct load_topic *load =
        &load_topics[rng_below(&run->rng, (uint64_t)load_topic_count(run))];
    uint64_t index = rng_below(&run->rng, (uint64_t)load->partitions);
    const struct image_topic *topic = image == NULL ? NULL : image_topic_by_name(image, load->name);
    struct sim_node *node =
        topic == NULL ? NULL : sim_run_node(run, topic->partitions[index].leader);
    return node == NULL ? any_node(run) : node;
}

struct sim_node *the_controller(struct sim_run *run)
{
    struct sim_node *any = run->nodes[rng_below(&run->rng, run->voter_count)];
    struct sim_node *controller = check_quorum_controller(run->quorum);
    return controller == NULL ? any : controller;
}

void ask_controller(struct sim_node *controller, uint16_t method, const ProtobufCMessage *message)
{
    struct env *env = sim_host_env(controller->host, 0);
    struct quorum_call *call = calloc(1, sizeof *call);
    ASSERT(call != NULL);
    call->message.type = QUORUM_CALL;
    call->token = UINT64_MAX; /* shard 0 gets the answer, and knows no such call */
    call->peer = NO_NODE;
    call->peer_epoch = -1;
    call->frame = wire_frame(
        &(struct wire_frame_args){.kind = WIRE_REQUEST, .method = method, .message = message});
    ASSERT(call->frame != NULL);
    if (env->mail.post(env->mail.self, RUN_SHARDS, call) != ERR_OK)
        quorum_message_free(&call->message); /* its mailbox is full: not this time */
}

/* Often shorter than a broker's session, so that it is back before it was missed (R2). */
static uint64_t restart_delay(struct sim_run *run)
{
    switch (rng_below(&run->rng, 4)) {
    case 0:
        return ms_between(run, 1, 40);
    case 1:
        return ms_between(run, 40, 1500);
    case 2:
        return ms_between(run, 1500, 5000);
    default:
        return ms_between(run, 3000, 12000);
    }
}

void fault_stop(struct sim_run *run, struct sim_node *node)
{
    enum node_stop how = rng_chance(&run->rng, 500000) ? NODE_KILL : NODE_POWER_CUT;
    sim_node_stop(node, how, restart_delay(run));
    if (!node->host->up && rng_chance(&run->rng, 300000))
        node->boot_fuse = rng_between(&run->rng, 1, rng_chance(&run->rng, 500000) ? 15 : 250);
}

/* The power of the whole room. */
void fault_blackout(struct sim_run *run)
{
    sim_say(run, "the power fails everywhere");
    for (unsigned i = 0; i < run->node_count; i++)
        sim_node_stop(run->nodes[i], NODE_POWER_CUT, restart_delay(run));
}

void fault_pause(struct sim_run *run, struct sim_node *node)
{
    uint64_t ns = ms_between(run, 20, 4000);
    sim_say(run, "node %d stands still for %llu ms", node->id, (unsigned long long)ns / 1000000);
    sim_host_pause(node->host, ns);
}

void fault_stuck_actor(struct sim_run *run, struct sim_node *node)
{
    unsigned actor = (unsigned)rng_below(&run->rng, RUN_SHARDS + 1);
    uint64_t ns = ms_between(run, 5, 2500);
    if (!sim_node_up(node))
        return;
    sim_say(run, "node %d: actor %u is stuck for %llu ms", node->id, actor,
            (unsigned long long)ns / 1000000);
    sim_actor_pause(node->host, actor, ns);
}

/* Its image stands still while it serves, and the node's other shards go on. */
void fault_image_lag(struct sim_run *run, struct sim_node *node)
{
    unsigned shard = (unsigned)rng_below(&run->rng, RUN_SHARDS);
    uint64_t ns = ms_between(run, 20, 4000);
    if (!sim_node_up(node))
        return;
    sim_say(run, "node %d: shard %u gets no metadata for %llu ms", node->id, shard,
            (unsigned long long)ns / 1000000);
    sim_mail_lag(node->host, RUN_SHARDS, shard, ns);
}

/* Decides nothing, and so changes nothing. */
void fault_wall_clock(struct sim_run *run, struct sim_node *node)
{
    static const uint64_t jumps_ms[] = {2000, 3600000, UINT64_C(86400000) * 400};
    uint64_t jump = rng_below(&run->rng, jumps_ms[rng_below(&run->rng, ARRAY_LEN(jumps_ms))]);
    node->host->wall_offset_ms = rng_chance(&run->rng, 500000) ? (int64_t)jump : -(int64_t)jump;
    sim_say(run, "node %d: its wall clock is wrong by %lld ms", node->id,
            (long long)node->host->wall_offset_ms);
}

/* Killed, and the machine loses its power before anything could be synced. */
void fault_kill_and_cut(struct sim_run *run, struct sim_node *node)
{
    if (!sim_node_up(node))
        return;
    sim_node_stop(node, NODE_KILL, restart_delay(run));
    sim_say(run, "node %d: and its machine loses its power", node->id);
    sim_disk_power_cut(node->disk);
}

/* In the middle of any change of the disk. */
void fault_fuse(struct sim_run *run, struct sim_node *node)
{
    if (sim_node_up(node))
        sim_node_fuse(node, rng_between(&run->rng, 1, 300), restart_delay(run));
}

/* The directory is offline from then on; the quorum's log is there, too, and ends the process. */
void fault_bad_sync(struct sim_run *run, struct sim_node *node)
{
    if (!sim_node_up(node))
        return;
    uint64_t nth = rng_between(&run->rng, 1, 60);
    sim_say(run, "node %d: sync %llu from now fails", node->id, (unsigned long long)nth);
    node->expects_exit = true;
    sim_disk_fail_sync(node->disk, nth);
}

/* Something may still go wrong by itself. */
static bool fault_pending(const struct sim_run *run)
{
    for (unsigned i = 0; i < run->node_count; i++)
        if (run->nodes[i]->fuse_restart_ns != 0 || run->nodes[i]->expects_exit)
            return true;
    return !list_empty(&run->world.laters);
}

/* A disk, or a folder, of a node, while all are well: else the others could be fenced and leave the
 * lost one as the last of an ISR by name, which needs a person (without KIP-966's ELR). */
void fault_lose(struct sim_run *run, struct sim_node *node)
{
    static const char *const folders[] = {"orders-0",      "orders-1",      "orders-2", "orders-3",
                                          "payments.eu-0", "payments.eu-1", "clicks-0", "clicks-1"};
    bool whole = !node->voter && !node->keeps_disk && rng_chance(&run->rng, 500000);
    const char *folder = whole ? NULL : folders[rng_below(&run->rng, ARRAY_LEN(folders))];
    char why[128];
    if (fault_pending(run) || !check_data_may_lose(run->data, node, folder) ||
        !check_quorum_converged(run->quorum, why, sizeof why))
        return;
    if (node->host->up)
        sim_node_stop(node, NODE_KILL, restart_delay(run));
    if (whole)
        sim_node_swap_disk(node);
    else
        (void)sim_node_lose_folder(node, folder); /* it may have none of the name */
}

void fault_slow_disk(struct sim_run *run, struct sim_node *node)
{
    static const uint32_t factors[] = {1, 1, 5, 30, 200, 2000};
    uint32_t factor = factors[rng_below(&run->rng, ARRAY_LEN(factors))];
    sim_say(run, "node %d: syncs take %u times as long", node->id, factor);
    sim_disk_slow(node->disk, factor);
}

void fault_drain(struct sim_node *node)
{
    if (sim_node_up(node))
        sim_node_drain(node);
}
