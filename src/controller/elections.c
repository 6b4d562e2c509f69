#include <stdlib.h>

#include "base/canary.h"
#include "base/logger.h"
#include "controller/internal.h"

enum {
    PREFERRED_MOVES_MAX = 1000, /* in one tick: the rest waits for the next */
    FLAPS_MAX = 4,
};

/* ---- plans ---- */

void plan_begin(struct partition_plan *plan, const struct partition_id *id,
                const struct image_partition *now)
{
    *plan = (struct partition_plan){
        .id = *id,
        .now = now,
        .leader = now->leader,
        .isr_count = now->isr_count,
        .elr_count = now->elr_count,
        .recovery_state = -1,
    };
    memcpy(plan->isr, now->isr, sizeof(plan->isr));
    memcpy(plan->elr, now->elr, sizeof(plan->elr));
    memcpy(plan->directories, now->directories, sizeof(plan->directories));
}

static void nodes_remove(node_id_t *nodes, uint8_t *count, node_id_t node)
{
    uint8_t kept = 0;
    for (uint8_t i = 0; i < *count; i++)
        if (nodes[i] != node)
            nodes[kept++] = nodes[i];
    *count = kept;
}

/* The last one stays: the record must say who has the data. */
void plan_leave_isr(struct partition_plan *plan, node_id_t node)
{
    if (plan->isr_count > 1)
        nodes_remove(plan->isr, &plan->isr_count, node);
}

void plan_leave_elr(struct partition_plan *plan, node_id_t node)
{
    nodes_remove(plan->elr, &plan->elr_count, node);
}

static bool nodes_equal(const node_id_t *a, uint8_t a_count, const node_id_t *b, uint8_t b_count)
{
    return a_count == b_count && memcmp(a, b, a_count * sizeof(*a)) == 0;
}

static bool plan_changes(const struct partition_plan *plan)
{
    const struct image_partition *now = plan->now;
    return plan->leader != now->leader || plan->new_epoch || plan->unclean || plan->new_version ||
           !nodes_equal(plan->isr, plan->isr_count, now->isr, now->isr_count) ||
           !nodes_equal(plan->elr, plan->elr_count, now->elr, now->elr_count) ||
           (plan->recovery_state >= 0 && plan->recovery_state != now->recovery_state) ||
           (plan->directories_set &&
            memcmp(plan->directories, now->directories, sizeof(plan->directories)) != 0);
}

err_t plan_done(struct controller *c, struct partition_plan *plan)
{
    if (!plan_changes(plan))
        return ERR_OK;
    const struct image_partition *now = plan->now;
    Karst__PartitionChangeRecord record = KARST__PARTITION_CHANGE_RECORD__INIT;
    record.topic_id = record_uuid(&plan->id.topic);
    record.index = plan->id.index;
    record.partition_epoch = now->partition_epoch + 1; /* R3 */
    if (!nodes_equal(plan->isr, plan->isr_count, now->isr, now->isr_count)) {
        record.has_isr_set = record.isr_set = true;
        record.n_isr = plan->isr_count;
        record.isr = plan->isr;
    }
    if (!nodes_equal(plan->elr, plan->elr_count, now->elr, now->elr_count)) {
        record.has_elr_set = record.elr_set = true;
        record.n_elr = plan->elr_count;
        record.elr = plan->elr;
    }
    const bool elected = plan->leader != now->leader;
    if (elected || plan->new_epoch || plan->unclean) { /* R2: a higher epoch with each election */
        bool keep = elected && plan->leader != NO_NODE &&
                    CANARY("controller_keeps_leader_epoch_on_reelection");
        record.has_leader_epoch = true;
        record.leader_epoch = now->leader_epoch + (keep ? 0 : 1);
        record.has_leader = elected;
        record.leader = plan->leader;
    }
    if (plan->unclean) { /* R8: for good */
        record.has_last_unclean_leader_epoch = true;
        record.last_unclean_leader_epoch = record.leader_epoch;
    }
    if (plan->recovery_state >= 0) {
        record.has_recovery_state = true;
        record.recovery_state = (uint32_t)plan->recovery_state;
    }
    ProtobufCBinaryData directories[REPLICAS_MAX];
    if (plan->directories_set) {
        for (size_t i = 0; i < now->replica_count; i++)
            directories[i] = record_uuid(&plan->directories[i]);
        record.n_directories = now->replica_count;
        record.directories = directories;
    }
    if (plan->leader == NO_NODE) {
        uint64_t due_ns = c->now_ns + c->config.session_timeout_ns;
        if (due_ns < c->unclean_due_ns)
            c->unclean_due_ns = due_ns;
    }
    err_t err = decision_add(c, &record.base);
    if (err != ERR_OK)
        decision_complain("a partition's change", err);
    return err;
}

/* ---- who may lead ---- */

bool replica_lost(const struct controller *c, const struct image_partition *p, node_id_t node)
{
    int replica = image_partition_replica_index(p, node);
    const struct image_broker *broker = image_broker(view(c), node);
    if (replica < 0 || broker == NULL)
        return true;
    if (uuid_is_zero(&p->directories[replica])) /* not yet said */
        return false;
    for (uint32_t i = 0; i < broker->directory_count; i++)
        if (uuid_equal(&broker->directories[i], &p->directories[replica]))
            return false;
    return true;
}

bool replica_sound(const struct controller *c, const struct partition_id *id,
                   const struct image_partition *p, node_id_t node)
{
    const struct broker_soft *soft = table_get(&c->brokers, (uint64_t)node);
    return !replica_lost(c, p, node) && (soft == NULL || !failures_has(soft, id));
}

struct uuid replica_directory(const struct image_broker *broker, const struct partition_id *id)
{
    if (broker == NULL || broker->directory_count == 0)
        return (struct uuid){0};
    return broker->directories[directory_choice(id, broker->directory_count)];
}

bool broker_active(const struct controller *c, node_id_t node)
{
    const struct image_broker *broker = image_broker(view(c), node);
    return broker != NULL && broker->state == BROKER_STATE_ACTIVE;
}

bool may_lead(const struct controller *c, const struct partition_id *id,
              const struct image_partition *p, node_id_t node)
{
    return broker_active(c, node) && replica_sound(c, id, p, node);
}

bool plan_in_isr(const struct partition_plan *plan, node_id_t node)
{
    for (uint8_t i = 0; i < plan->isr_count; i++)
        if (plan->isr[i] == node)
            return true;
    return false;
}

node_id_t elect(const struct controller *c, const struct partition_plan *plan, node_id_t except)
{
    node_id_t full = NO_NODE;
    for (int i = 0; i < plan->now->replica_count; i++) {
        node_id_t node = plan->now->replicas[i];
        if (node == except || !plan_in_isr(plan, node) || !may_lead(c, &plan->id, plan->now, node))
            continue;
        if (!space_full(c, plan->now, node))
            return node;
        if (full == NO_NODE)
            full = node;
    }
    return full;
}

/* ---- repair ---- */

/* Whose log is lost or failed is as good as fenced, for this partition (R1, R19). */
static enum broker_state member_state(const struct controller *c, const struct partition_plan *plan,
                                      node_id_t node)
{
    const struct image_broker *broker = image_broker(view(c), node);
    bool sound = replica_sound(c, &plan->id, plan->now, node);
    if (broker == NULL || (!sound && !CANARY("controller_keeps_failed_replicas")))
        return BROKER_STATE_FENCED;
    return broker->state;
}

/* Active members stay. Without one those that leave stay, and without those all: the ISR is never
 * empty, and of members that are equally gone each has all that was acknowledged. */
static void repair_isr(const struct controller *c, struct partition_plan *plan)
{
    int active = 0, live = 0;
    for (uint8_t i = 0; i < plan->isr_count; i++) {
        enum broker_state state = member_state(c, plan, plan->isr[i]);
        active += state == BROKER_STATE_ACTIVE;
        live += state != BROKER_STATE_FENCED;
    }
    if (live == 0)
        return;
    uint8_t kept = 0;
    for (uint8_t i = 0; i < plan->isr_count; i++) {
        enum broker_state state = member_state(c, plan, plan->isr[i]);
        if (state == BROKER_STATE_ACTIVE || (active == 0 && state != BROKER_STATE_FENCED))
            plan->isr[kept++] = plan->isr[i];
    }
    plan->isr_count = kept;
}

bool repair(struct controller *c, const struct partition_id *id, const struct image_partition *p)
{
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    repair_isr(c, &plan);
    enum broker_state state = member_state(c, &plan, p->leader);
    bool leads_on = state == BROKER_STATE_ACTIVE && plan_in_isr(&plan, p->leader);
    if (!leads_on)
        plan.leader = elect(c, &plan, NO_NODE);
    /* One that leaves and is the last leads on until it goes: a new one it may not become. */
    if (plan.leader == NO_NODE && p->leader != NO_NODE && state != BROKER_STATE_FENCED &&
        plan_in_isr(&plan, p->leader))
        plan.leader = p->leader;
    if (plan.leader == NO_NODE && CANARY("controller_elects_outside_isr")) {
        for (int i = 0; i < p->replica_count && plan.leader == NO_NODE; i++)
            if (broker_active(c, p->replicas[i]))
                plan.leader = p->replicas[i];
        if (plan.leader != NO_NODE && !plan_in_isr(&plan, plan.leader)) {
            plan.isr[0] = plan.leader;
            plan.isr_count = 1;
        }
    }
    return plan_changes(&plan) && plan_done(c, &plan) == ERR_OK;
}

static void collect_topic(void *context, const struct image_topic *topic)
{
    struct uuid **next = context;
    *(*next)++ = topic->id;
}

/* Decisions replace the topics that they touch, so the walk is over ids, and finds each anew. */
void each_partition(struct controller *c, partition_act act, void *context)
{
    size_t count = image_topic_count(view(c));
    struct uuid *topics = calloc(count + 1, sizeof(*topics));
    ASSERT(topics != NULL);
    struct uuid *next = topics;
    image_each_topic(view(c), collect_topic, &next);
    for (size_t t = 0; t < count; t++) {
        const struct image_topic *topic = image_topic(view(c), &topics[t]);
        size_t records = c->records->count;
        for (int32_t i = 0; i < topic->partition_count; i++) {
            struct partition_id id = {topics[t], i};
            act(c, &id, &topic->partitions[i], context);
            if (c->records->count != records) {
                topic = image_topic(view(c), &topics[t]);
                records = c->records->count;
            }
        }
    }
    free(topics);
}

struct repair_scan {
    node_id_t node; /* NO_NODE: all */
    size_t changed;
};

static void repair_one(struct controller *c, const struct partition_id *id,
                       const struct image_partition *p, void *context)
{
    struct repair_scan *scan = context;
    if (scan->node == NO_NODE || p->leader == scan->node || image_partition_in_isr(p, scan->node))
        scan->changed += repair(c, id, p);
}

size_t repair_broker(struct controller *c, node_id_t node)
{
    struct repair_scan scan = {.node = node};
    each_partition(c, repair_one, &scan);
    return scan.changed;
}

size_t repair_all(struct controller *c)
{
    return repair_broker(c, NO_NODE);
}

static void elect_waiting_one(struct controller *c, const struct partition_id *id,
                              const struct image_partition *p, void *context)
{
    const node_id_t *node = context;
    if (image_partition_in_isr(p, *node))
        repair(c, id, p);
}

void elect_waiting(struct controller *c, node_id_t node)
{
    each_partition(c, elect_waiting_one, &node);
    /* It may be what an unclean election waited for. */
    uint64_t due_ns = c->now_ns + c->config.session_timeout_ns;
    if (due_ns < c->unclean_due_ns)
        c->unclean_due_ns = due_ns;
}

/* ---- preferred leaders ---- */

/* When the broker may have its leaderships back: longer after each short life. */
static uint64_t preferred_since_ns(struct controller *c, node_id_t node)
{
    const struct broker_soft *soft = brokers_soft(c, node);
    unsigned flaps = soft->flaps < FLAPS_MAX ? soft->flaps : FLAPS_MAX;
    return soft->active_since_ns + (c->config.preferred_leader_wait_ns << flaps);
}

static bool preferred_wanted(const struct controller *c, const struct partition_id *id,
                             const struct image_partition *p)
{
    node_id_t node = p->replicas[0];
    return p->leader != NO_NODE && p->leader != node && image_partition_in_isr(p, node) &&
           may_lead(c, id, p, node) && !space_full(c, p, node);
}

struct preferred_scan {
    size_t moved;
    uint64_t next_ns;
};

static void preferred_one(struct controller *c, const struct partition_id *id,
                          const struct image_partition *p, void *context)
{
    struct preferred_scan *scan = context;
    if (!preferred_wanted(c, id, p))
        return;
    node_id_t node = p->replicas[0];
    uint64_t due_ns = preferred_since_ns(c, node);
    uint64_t silent_ns = c->now_ns - brokers_soft(c, node)->last_seen_ns;
    if (silent_ns > c->config.session_timeout_ns / 2) /* its lease may be near its end */
        due_ns = c->now_ns + c->config.preferred_leader_wait_ns;
    if (due_ns <= c->now_ns && scan->moved < PREFERRED_MOVES_MAX) {
        struct partition_plan plan;
        plan_begin(&plan, id, p);
        plan.leader = node;
        scan->moved += plan_done(c, &plan) == ERR_OK;
        return;
    }
    if (due_ns < scan->next_ns)
        scan->next_ns = due_ns;
}

void elect_preferred_due(struct controller *c)
{
    struct preferred_scan scan = {.next_ns = NEVER_NS};
    each_partition(c, preferred_one, &scan);
    c->preferred_due_ns = scan.next_ns;
    if (scan.moved > 0)
        log_info("controller: %zu partitions are led by their preferred leader again", scan.moved);
}

/* ---- ElectLeaders ---- */

static err_t elect_asked(struct controller *c, const struct partition_id *id, bool unclean)
{
    if (image_topic(view(c), &id->topic) == NULL)
        return ERR_UNKNOWN_TOPIC_ID;
    const struct image_partition *p = image_partition(view(c), id);
    if (p == NULL)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (unclean)
        return p->leader != NO_NODE ? ERR_ELECTION_NOT_NEEDED : unclean_ordered(c, id);
    if (p->leader == p->replicas[0])
        return ERR_ELECTION_NOT_NEEDED;
    if (!image_partition_in_isr(p, p->replicas[0]) || !may_lead(c, id, p, p->replicas[0]))
        return ERR_PREFERRED_LEADER_NOT_AVAILABLE;
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    plan.leader = p->replicas[0];
    return plan_done(c, &plan);
}

ProtobufCMessage *elections_request(struct controller *c, const Karst__ElectLeadersRequest *request)
{
    const ProtobufCMessageDescriptor *type = &karst__elect_leaders_reply__descriptor;
    if (request->n_partitions == 0)
        return reply_error(c, type, ERR_INVALID_REQUEST, "name the partitions to elect for");
    Karst__ElectLeadersReply *reply = reply_new(c, type);
    void **rows =
        reply_rows(c, &karst__elect_leaders_partition_reply__descriptor, request->n_partitions);
    if (reply == NULL || rows == NULL)
        return NULL;
    for (size_t i = 0; i < request->n_partitions; i++) {
        Karst__ElectLeadersPartitionReply *row = rows[i];
        struct partition_id id = {.index = request->partitions[i]->index};
        if (request_uuid(&request->partitions[i]->topic_id, &id.topic))
            row->error = elect_asked(c, &id, request->unclean);
        else
            row->error = ERR_INVALID_REQUEST;
        row->topic_id = reply_uuid(c, &id.topic);
        row->index = id.index;
        if (row->error != ERR_OK)
            row->message = record_text(err_sentence(row->error));
    }
    reply->n_partitions = request->n_partitions;
    reply->partitions = (Karst__ElectLeadersPartitionReply **)rows;
    return &reply->base;
}
