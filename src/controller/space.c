#include "base/logger.h"
#include "controller/internal.h"

/* Full disks (R16). A leader without room takes no records while a follower with room could: its
 * leaderships move, but never to another that is full, since that would help nobody. And where a
 * disk is so full that the metadata log is in danger, nothing is decided that makes it grow: topics
 * can still be deleted, and brokers come and go. */

bool space_full(const struct controller *c, const struct image_partition *p, node_id_t node)
{
    const struct broker_soft *soft = table_get(&c->brokers, (uint64_t)node);
    int replica = image_partition_replica_index(p, node);
    if (soft == NULL || soft->full_count == 0 || replica < 0)
        return false;
    const struct uuid *directory = &p->directories[replica];
    for (size_t i = 0; i < soft->full_count; i++)
        if (uuid_equal(&soft->full[i], directory))
            return true;
    return uuid_is_zero(directory); /* wherever it lies: some directory is full */
}

struct space_scan {
    size_t moved;
};

static void space_move(struct controller *c, const struct partition_id *id,
                       const struct image_partition *p, void *context)
{
    struct space_scan *scan = context;
    struct partition_plan plan;
    if (p->leader == NO_NODE || !space_full(c, p, p->leader))
        return;
    plan_begin(&plan, id, p);
    node_id_t other = elect(c, &plan, p->leader);
    if (other == NO_NODE || space_full(c, p, other))
        return;
    plan.leader = other;
    scan->moved += plan_done(c, &plan) == ERR_OK;
}

/* True: it differs from what was known. */
static bool space_note(struct broker_soft *soft, const Karst__HeartbeatRequest *request)
{
    struct uuid full[DIRECTORIES_MAX];
    size_t count = 0;
    for (size_t i = 0; i < request->n_full_directories && count < DIRECTORIES_MAX; i++)
        count += request_uuid(&request->full_directories[i], &full[count]);
    soft->low_space = request->low_space;
    if (count == soft->full_count && memcmp(full, soft->full, count * sizeof(full[0])) == 0)
        return false;
    memcpy(soft->full, full, count * sizeof(full[0]));
    soft->full_count = count;
    return true;
}

void space_take(struct controller *c, const Karst__HeartbeatRequest *request)
{
    struct broker_soft *soft = brokers_soft(c, request->node_id);
    if (!space_note(soft, request))
        return;
    /* Of all full brokers: who has room again takes over from others, too. */
    struct space_scan scan = {0};
    each_partition(c, space_move, &scan);
    log_warn("controller: %zu log directories of broker %d are full or slow; %zu leaderships moved",
             soft->full_count, request->node_id, scan.moved);
    uint64_t due_ns = c->now_ns + c->config.preferred_leader_wait_ns;
    if (due_ns < c->preferred_due_ns)
        c->preferred_due_ns = due_ns;
}

void controller_set_low_space(struct controller *c, bool low)
{
    c->low_space = low;
}

const char *space_refusal(const struct controller *c)
{
    bool low = c->low_space;
    table_for_each (struct broker_soft, soft, &c->brokers)
        low = low || soft->low_space;
    return low ? "a broker's disk is nearly full: delete topics, or free space otherwise; until "
                 "then nothing is created"
               : NULL;
}
