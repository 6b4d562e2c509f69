#include "base/canary.h"
#include "controller/internal.h"

/* AlterPartition (R4): a leader proposes its ISR, as compare-and-swap on the state that it knows.
 */

static bool isr_named_twice(const Karst__AlterPartitionItem *item, size_t until)
{
    for (size_t i = 0; i < until; i++)
        if (item->isr[i]->node_id == item->isr[until]->node_id)
            return true;
    return false;
}

/* Each member is assigned, once, and the leader among them. */
static bool isr_sound(const Karst__AlterPartitionItem *item, const struct image_partition *p)
{
    if (item->n_isr == 0 || item->n_isr > p->replica_count)
        return false;
    bool leader = false;
    for (size_t i = 0; i < item->n_isr; i++) {
        node_id_t node = item->isr[i]->node_id;
        if (image_partition_replica_index(p, node) < 0 || isr_named_twice(item, i))
            return false;
        leader = leader || node == p->leader;
    }
    return leader;
}

/* R4: the life of the broker that the leader saw catch up is the one that is registered now; one
 * that joins is neither fenced nor leaving, and its log has not failed since: what the leader knows
 * of it may be older than that (R1, R19). */
static bool member_eligible(const struct controller *c, const struct partition_id *id,
                            const struct image_partition *p, const Karst__IsrMember *member)
{
    const struct image_broker *broker = image_broker(view(c), member->node_id);
    if (broker == NULL)
        return false;
    if (broker->epoch != member->broker_epoch && !CANARY("controller_ignores_broker_epoch_in_isr"))
        return false;
    if (image_partition_in_isr(p, member->node_id))
        return true;
    return broker->state == BROKER_STATE_ACTIVE && replica_sound(c, id, p, member->node_id);
}

static err_t alter_check(const struct controller *c, node_id_t leader,
                         const Karst__AlterPartitionItem *item, const struct partition_id *id,
                         const struct image_partition *p)
{
    if (item->leader_epoch < p->leader_epoch)
        return ERR_FENCED_LEADER_EPOCH;
    if (item->leader_epoch > p->leader_epoch)
        return ERR_UNKNOWN_LEADER_EPOCH;
    if (p->leader != leader)
        return ERR_NOT_LEADER_OR_FOLLOWER;
    if (item->partition_epoch != p->partition_epoch && /* R3 */
        !CANARY("controller_accepts_stale_partition_epoch"))
        return ERR_INVALID_UPDATE_VERSION;
    if (!isr_sound(item, p))
        return ERR_INVALID_REQUEST;
    if (item->has_recovery_state && item->recovery_state > p->recovery_state)
        return ERR_INVALID_REQUEST; /* it only ends */
    for (size_t i = 0; i < item->n_isr; i++)
        if (!member_eligible(c, id, p, item->isr[i]))
            return ERR_INELIGIBLE_REPLICA;
    return ERR_OK;
}

static err_t alter(struct controller *c, node_id_t leader, const Karst__AlterPartitionItem *item,
                   const struct partition_id *id)
{
    const struct image_partition *p = image_partition(view(c), id);
    if (p == NULL)
        return image_topic(view(c), &id->topic) == NULL ? ERR_UNKNOWN_TOPIC_ID
                                                        : ERR_UNKNOWN_TOPIC_OR_PARTITION;
    err_t err = alter_check(c, leader, item, id, p);
    if (err != ERR_OK)
        return err;
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    /* R5: a leader that asks for the ISR as it is wants to know that an older proposal of its, of
     * which it never heard, can't be accepted any more. */
    plan.new_version = true;
    plan.isr_count = 0;
    bool grows = false;
    /* In replica order, so that the same set is the same record. */
    for (int i = 0; i < p->replica_count; i++) {
        node_id_t node = p->replicas[i];
        for (size_t k = 0; k < item->n_isr; k++)
            if (item->isr[k]->node_id == node)
                plan.isr[plan.isr_count++] = node;
        bool joined = plan.isr_count > 0 && plan.isr[plan.isr_count - 1] == node &&
                      !image_partition_in_isr(p, node);
        grows = grows || joined;
    }
    for (uint8_t i = 0; i < plan.isr_count; i++)
        plan_leave_elr(&plan, plan.isr[i]);
    if (item->has_recovery_state)
        plan.recovery_state = (int)item->recovery_state;
    uint64_t due_ns = c->now_ns + c->config.preferred_leader_wait_ns;
    if (grows && due_ns < c->preferred_due_ns)
        c->preferred_due_ns = due_ns;
    return plan_done(c, &plan);
}

/* The state as it is now, whatever became of the proposal: the leader learns what to propose next.
 */
static void alter_reply_state(struct controller *c, const struct partition_id *id,
                              Karst__AlterPartitionItemReply *row)
{
    const struct image_partition *p = image_partition(view(c), id);
    if (p == NULL)
        return;
    row->has_leader = row->has_leader_epoch = row->has_partition_epoch = true;
    row->leader = p->leader;
    row->leader_epoch = p->leader_epoch;
    row->partition_epoch = p->partition_epoch;
    row->isr = arena_alloc(c->arena, p->isr_count * sizeof(*row->isr));
    if (row->isr == NULL)
        return;
    memcpy(row->isr, p->isr, p->isr_count * sizeof(*row->isr));
    row->n_isr = p->isr_count;
}

ProtobufCMessage *partitions_alter(struct controller *c,
                                   const Karst__AlterPartitionRequest *request)
{
    const ProtobufCMessageDescriptor *type = &karst__alter_partition_reply__descriptor;
    err_t err = brokers_check(c, request->node_id, request->broker_epoch); /* R4 */
    if (err != ERR_OK)
        return reply_error(c, type, err, NULL);
    brokers_heard(c, request->node_id);
    Karst__AlterPartitionReply *reply = reply_new(c, type);
    void **rows =
        reply_rows(c, &karst__alter_partition_item_reply__descriptor, request->n_partitions);
    if (reply == NULL || rows == NULL)
        return NULL;
    for (size_t i = 0; i < request->n_partitions; i++) {
        const Karst__AlterPartitionItem *item = request->partitions[i];
        Karst__AlterPartitionItemReply *row = rows[i];
        struct partition_id id = {.index = item->index};
        if (request_uuid(&item->topic_id, &id.topic))
            row->error = alter(c, request->node_id, item, &id);
        else
            row->error = ERR_INVALID_REQUEST;
        row->topic_id = reply_uuid(c, &id.topic);
        row->index = id.index;
        alter_reply_state(c, &id, row);
    }
    reply->n_partitions = request->n_partitions;
    reply->partitions = (Karst__AlterPartitionItemReply **)rows;
    return &reply->base;
}
