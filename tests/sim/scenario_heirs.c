/* scenario_heirs.c - histories around one change of a partition's leader, step by step. */
#include "proto/rpc.pb-c.h"
#include "sim/check.h"
#include "sim/scenario_faults.h"
#include "sim/sim_load.h"

/* A partition, where things are set for a history; node numbers, 0: none. */
struct place {
    uint64_t topic, index;
    node_id_t leader, other, third;
};

static const struct image_partition *place_part(const struct sim_run *run, uint64_t topic,
                                                uint64_t index)
{
    const struct image *image = check_quorum_image(run->quorum);
    const struct image_topic *found =
        image == NULL ? NULL : image_topic_by_name(image, load_topics[topic].name);
    return found == NULL ? NULL : &found->partitions[index];
}

static struct sim_node *up_node(struct sim_run *run, uint64_t id)
{
    struct sim_node *node = sim_run_node(run, (node_id_t)id);
    return run->phase == RUN_SAFETY && node != NULL && sim_node_up(node) ? node : NULL;
}

/* Of three replicas, of which all live; in sync or not. */
static bool place_draw(struct sim_run *run, bool cached, struct place *ret)
{
    uint64_t topic = rng_below(&run->rng, (uint64_t)load_topic_count(run));
    if (cached)
        for (int i = 0; i < load_topic_count(run); i++)
            if (load_topics[i].cached)
                topic = (uint64_t)i;
    uint64_t index = rng_below(&run->rng, (uint64_t)load_topics[topic].partitions);
    const struct image_partition *p = place_part(run, topic, index);
    bool swaps = rng_chance(&run->rng, 500000);
    if (p == NULL || p->replica_count != 3 || p->leader == NO_NODE)
        return false;
    node_id_t others[3];
    int count = 0;
    for (int i = 0; i < 3; i++) {
        if (up_node(run, (uint64_t)p->replicas[i]) == NULL)
            return false;
        if (p->replicas[i] != p->leader)
            others[count++] = p->replicas[i];
    }
    *ret = (struct place){topic, index, p->leader, others[swaps], others[!swaps]};
    return true;
}

static unsigned host_of(node_id_t node)
{
    return (unsigned)node - 1;
}

static void all_heal(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    (void)args;
    if (sim_run_of(world)->phase == RUN_SAFETY)
        sim_heal(world);
}

/* ---- heir: the next leader has not heard of the high watermark (R4) ----
 * The third replica loses the leader, so that nothing is committed until it has left the ISR; as it
 * has, its leader loses the preferred one, too, which leads next. What the third one has reaches
 * the high watermark that the new leader knows, and not what is committed. */

static void heir_leads(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *controller = the_controller(run);
    const struct image_partition *p = place_part(run, args[0], args[1]);
    struct partition_id id = {.index = (int32_t)args[1]};
    if (run->phase != RUN_SAFETY || !sim_node_up(controller) || p == NULL ||
        !check_data_partition(run->data, load_topics[args[0]].name, id.index, &id))
        return;
    Karst__ElectPartition row = KARST__ELECT_PARTITION__INIT;
    Karst__ElectPartition *rows[] = {&row};
    Karst__ElectLeadersRequest request = KARST__ELECT_LEADERS_REQUEST__INIT;
    row.topic_id = wire_put_uuid(&id.topic);
    row.index = id.index;
    request.n_partitions = 1;
    request.partitions = rows;
    ask_controller(controller, WIRE_ELECT_LEADERS, &request.base);
}

static void heir_is_cut_off(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    if (run->phase != RUN_SAFETY)
        return;
    sim_cut_one_way(world, (unsigned)args[2], (unsigned)args[3], true);
}

/* The heir is back, and in sync; until the controller moves the leadership by itself. */
static void heir_waits(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    const struct image_partition *p = place_part(run, args[0], args[1]);
    if (run->phase != RUN_SAFETY || p == NULL || p->isr_count != 3 || p->leader == NO_NODE ||
        p->leader == p->replicas[0])
        return;
    node_id_t third = p->leader == p->replicas[1] ? p->replicas[2] : p->replicas[1];
    sim_cut(world, host_of(third), host_of(p->leader), true);
    const uint64_t next[] = {args[0], args[1], host_of(p->leader), host_of(p->replicas[0])};
    sim_later(world, args[2], heir_is_cut_off, next);
    sim_later(world, args[2] + args[3], heir_leads, next);
    sim_later(world, args[2] + args[3] + ENV_MS(1500), all_heal, next);
}

void fault_heir(struct sim_run *run)
{
    struct place at;
    uint64_t leaves = ms_between(run, 1400, 1700), elected = ms_between(run, 100, 400);
    uint64_t restart = ms_between(run, 50, 300);
    if (!place_draw(run, false, &at))
        return;
    sim_say(run,
            "%s-%llu: the leader %d is killed; as it is back its successor loses the third "
            "replica, %llu ms later is not heard by it, and it is to lead after %llu ms more",
            load_topics[at.topic].name, (unsigned long long)at.index, at.leader,
            (unsigned long long)leaves / 1000000, (unsigned long long)elected / 1000000);
    run->counters.cuts++;
    sim_node_stop(sim_run_node(run, at.leader), NODE_KILL, restart);
    const uint64_t args[] = {at.topic, at.index, leaves, elected};
    sim_later(&run->world, restart + ENV_MS(1700), heir_waits, args);
}

/* ---- late proposal: it names a life of the follower that is past (R4) ----
 * A follower without power comes back, catches up and is proposed; while the proposal is on a slow
 * link, its power goes again, and with it what it had in the page cache. */

static void late_proposal_past(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *follower = up_node(run, args[0]);
    if (follower == NULL)
        return;
    sim_cut(world, (unsigned)args[1], follower->host->idx, true);
    sim_node_stop(follower, NODE_POWER_CUT, args[2]);
}

static void late_proposal_ends(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    if (run->phase != RUN_SAFETY)
        return;
    sim_disk_slow(run->nodes[args[0] - 1]->disk, 1);
    sim_heal(world);
}

void fault_late_proposal(struct sim_run *run)
{
    struct place at;
    uint64_t again = ms_between(run, 150, 1200), restart = ms_between(run, 1, 40);
    uint64_t last_restart = ms_between(run, 1, 40);
    struct sim_node *controller = the_controller(run);
    if (!place_draw(run, true, &at) || at.leader == controller->id || at.other == controller->id)
        return;
    struct sim_node *follower = sim_run_node(run, at.other);
    sim_say(run,
            "%s-%llu: the leader %d speaks slowly to the controller %d, and node %d loses its "
            "power twice, %llu ms apart",
            load_topics[at.topic].name, (unsigned long long)at.index, at.leader, controller->id,
            at.other, (unsigned long long)again / 1000000);
    sim_slow_link(&run->world, host_of(at.leader), controller->host->idx, ENV_MS(1500));
    sim_disk_slow(follower->disk, 300);
    sim_node_stop(follower, NODE_POWER_CUT, restart);
    const uint64_t args[] = {(uint64_t)at.other, host_of(at.leader), last_restart, 0};
    sim_later(&run->world, again, late_proposal_past, args);
    sim_later(&run->world, again + ENV_MS(2500), late_proposal_ends, args);
}

/* ---- late answer: of a leader that is past, about a log that is past (R6) ----
 * A leader is left alone; its successor tells it slowly what to cut, and dies. */

static void late_answer_dies(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_node *successor = up_node(sim_run_of(world), args[0]);
    if (successor != NULL)
        sim_node_stop(successor, NODE_KILL, args[1]);
}

static void late_answer_back(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    struct sim_run *run = sim_run_of(world);
    struct sim_node *first = up_node(run, args[2]);
    const struct image_partition *p = place_part(run, args[0], args[1]);
    if (first == NULL || p == NULL)
        return;
    for (unsigned i = 0; i < run->node_count; i++)
        if (i != first->host->idx)
            sim_cut(world, i, first->host->idx, false);
    if (p->leader == NO_NODE || p->leader == first->id)
        return;
    sim_slow_link(world, host_of(p->leader), first->host->idx, ENV_MS(3000));
    const uint64_t next[] = {(uint64_t)p->leader, args[3] * 4, 0, 0};
    sim_later(world, args[3], late_answer_dies, next);
    sim_later(world, args[3] + ENV_MS(4000), all_heal, next);
}

void fault_late_answer(struct sim_run *run)
{
    struct place at;
    uint64_t alone = ms_between(run, 2200, 3200), dies = ms_between(run, 100, 900);
    if (!place_draw(run, false, &at))
        return;
    sim_say(run,
            "%s-%llu: the leader %d is left with its clients for %llu ms; its successor answers it "
            "slowly, and dies %llu ms later",
            load_topics[at.topic].name, (unsigned long long)at.index, at.leader,
            (unsigned long long)alone / 1000000, (unsigned long long)dies / 1000000);
    run->counters.cuts++;
    for (unsigned i = 0; i < run->node_count; i++)
        if (i != host_of(at.leader))
            sim_cut(&run->world, i, host_of(at.leader), true);
    const uint64_t args[] = {at.topic, at.index, (uint64_t)at.leader, dies};
    sim_later(&run->world, alone, late_answer_back, args);
}
