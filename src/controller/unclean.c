#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"
#include "base/logger.h"
#include "controller/internal.h"

/* No member of the ISR lives, and the topic's configuration or a person prefers what others have to
 * waiting (R8). The replica with the longest log loses least: by its last epoch first, since a log
 * that is long with records of an old leader is a zombie's; then by its end. So all live replicas
 * are asked, by the replies to their heartbeats, and the next heartbeats bring their answers:
 *
 *   no leader ──question_begin──▶ ASKED ──all have answered, or some, and time is over──▶ elected
 *                                  └──a member of the ISR may lead again──▶ elected, nothing lost
 *
 * Without a leader no log changes, so that an answer holds until there is one. Questions are soft
 * state: a new controller asks anew, and a person's order is given again. */

enum {
    QUESTIONS_MAX = 10000,   /* more partitions wait for the next tick */
    QUESTION_ROWS_MAX = 500, /* of one reply */
};

struct question {
    struct partition_id id; /* the table's key */
    leader_epoch_t leader_epoch;
    uint64_t deadline_ns;
    uint8_t count;
    struct answer {
        node_id_t node;
        broker_epoch_t broker_epoch; /* R2: the log that the next life recovers may be another */
        leader_epoch_t last_epoch;
        offset_t end;
    } answers[REPLICAS_MAX];
};

static struct bytes question_key(const struct partition_id *id)
{
    return (struct bytes){(const uint8_t *)id, sizeof(*id)};
}

static void question_end(struct controller *c, struct question *question)
{
    (void)table_remove_bytes(&c->questions, question_key(&question->id)); /* it is there */
    free(question);
}

void unclean_forget(struct controller *c)
{
    table_for_each (struct question, question, &c->questions)
        free(question);
    table_clear(&c->questions);
}

/* By this life of the broker. */
static bool answer_stands(const struct controller *c, const struct answer *answer)
{
    const struct image_broker *broker = image_broker(view(c), answer->node);
    return broker != NULL && broker->epoch == answer->broker_epoch;
}

static bool question_answered(const struct controller *c, const struct question *question,
                              node_id_t node)
{
    for (uint8_t i = 0; i < question->count; i++)
        if (question->answers[i].node == node)
            return answer_stands(c, &question->answers[i]);
    return false;
}

/* Its place, that of an earlier life's too; NULL: there is none. */
static struct answer *question_place(struct question *question, node_id_t node)
{
    for (uint8_t i = 0; i < question->count; i++)
        if (question->answers[i].node == node)
            return &question->answers[i];
    return question->count == REPLICAS_MAX ? NULL : &question->answers[question->count++];
}

/* ---- the election ---- */

/* "2, 3": those of the ISR, who may have records that the leader lacks. */
static const char *unclean_missing(const struct image_partition *p, char *into, size_t size)
{
    size_t len = 0;
    into[0] = '\0';
    for (uint8_t i = 0; i < p->isr_count && len < size; i++)
        len += (size_t)snprintf(into + len, size - len, i == 0 ? "%d" : ", %d", p->isr[i]);
    return into;
}

static err_t unclean_elect(struct controller *c, const struct partition_id *id,
                           const struct image_partition *p, node_id_t leader)
{
    char topic[UUID_TEXT_SIZE], missing[64];
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    plan.leader = leader;
    plan.unclean = true;
    plan.recovery_state = 1;
    plan.isr[0] = leader;
    plan.isr_count = 1;
    plan.elr_count = 0;
    /* What was lost is given up: who had it may begin anew where there is room. */
    for (int i = 0; i < p->replica_count; i++) {
        if (!replica_lost(c, p, p->replicas[i]))
            continue;
        plan.directories_set = true;
        plan.directories[i] = replica_directory(image_broker(view(c), p->replicas[i]), id);
    }
    log_warn("controller: partition %d of topic %s gets leader %d by an unclean election: records "
             "that only broker %s had are lost",
             id->index, uuid_text(&id->topic, topic), leader,
             unclean_missing(p, missing, sizeof(missing)));
    return plan_done(c, &plan);
}

/* A member lives after all: nothing is lost. True: it leads. */
static bool unclean_not_needed(struct controller *c, const struct partition_id *id,
                               const struct image_partition *p)
{
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    plan.leader = elect(c, &plan, NO_NODE);
    return plan.leader != NO_NODE && plan_done(c, &plan) == ERR_OK;
}

static node_id_t question_longest(const struct controller *c, const struct question *question,
                                  const struct image_partition *p)
{
    int best = -1;
    for (int i = 0; i < question->count; i++) {
        if (!answer_stands(c, &question->answers[i]) ||
            !may_lead(c, &question->id, p, question->answers[i].node))
            continue;
        bool newer =
            best < 0 || question->answers[i].last_epoch > question->answers[best].last_epoch;
        bool same =
            best >= 0 && question->answers[i].last_epoch == question->answers[best].last_epoch;
        if (CANARY("controller_elects_longest_zombie")) /* R8: the end alone */
            newer = best < 0, same = best >= 0;
        if (newer || (same && question->answers[i].end > question->answers[best].end))
            best = i;
    }
    if (best < 0)
        return NO_NODE;
    log_warn("controller: of partition %d, broker %d has the longest log of those that live: epoch "
             "%d, end %" PRId64,
             question->id.index, question->answers[best].node, question->answers[best].last_epoch,
             question->answers[best].end);
    return question->answers[best].node;
}

/* Decides when it is time; the question may be gone after it. */
static void question_try(struct controller *c, struct question *question)
{
    const struct image_partition *p = image_partition(view(c), &question->id);
    if (p == NULL || p->leader != NO_NODE || p->leader_epoch != question->leader_epoch ||
        unclean_not_needed(c, &question->id, p)) {
        question_end(c, question);
        return;
    }
    bool all = true;
    for (int i = 0; i < p->replica_count; i++)
        if (may_lead(c, &question->id, p, p->replicas[i]))
            all = all && question_answered(c, question, p->replicas[i]);
    if (!all && c->now_ns < question->deadline_ns)
        return;
    node_id_t leader = question_longest(c, question, p);
    if (leader == NO_NODE)
        return; /* nobody has answered who may lead now: to choose blindly would lose most */
    (void)unclean_elect(c, &question->id, p, leader); /* it has complained */
    question_end(c, question);
}

/* ---- questions ---- */

static err_t question_begin(struct controller *c, const struct partition_id *id,
                            const struct image_partition *p)
{
    if (table_get_bytes(&c->questions, question_key(id)) != NULL)
        return ERR_OK; /* asked already */
    struct question *question =
        table_count(&c->questions) < QUESTIONS_MAX ? calloc(1, sizeof(*question)) : NULL;
    if (question == NULL)
        return ERR_FULL;
    question->id = *id;
    question->leader_epoch = p->leader_epoch;
    question->deadline_ns = c->now_ns + c->config.session_timeout_ns;
    err_t err = table_put_bytes(&c->questions, question_key(&question->id), question);
    if (err != ERR_OK)
        free(question);
    return err;
}

/* Among one there is nothing to compare. */
static err_t unclean_begin(struct controller *c, const struct partition_id *id,
                           const struct image_partition *p)
{
    node_id_t one = NO_NODE;
    int count = 0;
    for (int i = 0; i < p->replica_count; i++) {
        if (!may_lead(c, id, p, p->replicas[i]))
            continue;
        one = p->replicas[i];
        count++;
    }
    if (count == 0)
        return ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE;
    return count == 1 ? unclean_elect(c, id, p, one) : question_begin(c, id, p);
}

err_t unclean_ordered(struct controller *c, const struct partition_id *id)
{
    const struct image_partition *p = image_partition(view(c), id);
    if (unclean_not_needed(c, id, p))
        return ERR_OK;
    err_t err = unclean_begin(c, id, p);
    if (err != ERR_ELIGIBLE_LEADERS_NOT_AVAILABLE)
        return err;
    /* R1: what it had is lost; it begins anew, empty, since a person says so. */
    for (int i = 0; i < p->replica_count; i++)
        if (broker_active(c, p->replicas[i]) && !failures_has(brokers_soft(c, p->replicas[i]), id))
            return unclean_elect(c, id, p, p->replicas[i]);
    return err;
}

static bool unclean_allowed(const struct controller *c, const struct partition_id *id)
{
    const char *value = image_topic_config(view(c), image_topic(view(c), &id->topic),
                                           "unclean.leader.election.enable");
    return value != NULL && strcmp(value, "true") == 0;
}

static void unclean_one(struct controller *c, const struct partition_id *id,
                        const struct image_partition *p, void *context)
{
    bool *full = context;
    if (p->leader != NO_NODE || !unclean_allowed(c, id) || unclean_not_needed(c, id, p))
        return;
    /* Who is lost comes back empty only by a person's order (R1). */
    *full = *full || unclean_begin(c, id, p) == ERR_FULL;
}

void unclean_tick(struct controller *c)
{
    if (c->now_ns >= c->unclean_due_ns) {
        bool full = false;
        c->unclean_due_ns = NEVER_NS; /* until the next one loses its leader, or a broker comes */
        each_partition(c, unclean_one, &full);
        if (full)
            c->unclean_due_ns = c->now_ns + c->config.session_timeout_ns;
    }
    table_for_each (struct question, question, &c->questions)
        question_try(c, question);
}

/* ---- heartbeats ---- */

void unclean_take(struct controller *c, const Karst__HeartbeatRequest *request)
{
    for (size_t i = 0; i < request->n_ends; i++) {
        const Karst__LogEnd *row = request->ends[i];
        struct partition_id id = {.index = row->index};
        if (!request_uuid(&row->topic_id, &id.topic))
            continue;
        struct question *question = table_get_bytes(&c->questions, question_key(&id));
        const struct image_partition *p = image_partition(view(c), &id);
        if (question == NULL || p == NULL || row->leader_epoch != question->leader_epoch ||
            image_partition_replica_index(p, request->node_id) < 0 ||
            question_answered(c, question, request->node_id))
            continue;
        struct answer *answer = question_place(question, request->node_id);
        if (answer == NULL)
            continue;
        *answer =
            (struct answer){request->node_id, request->broker_epoch, row->last_epoch, row->end};
        question_try(c, question);
    }
}

void unclean_ask(struct controller *c, node_id_t node, Karst__HeartbeatReply *reply)
{
    if (table_count(&c->questions) == 0)
        return;
    Karst__LogEnd **rows =
        (Karst__LogEnd **)reply_rows(c, &karst__log_end__descriptor, QUESTION_ROWS_MAX);
    if (rows == NULL)
        return; /* the next reply asks */
    reply->asked = rows;
    table_for_each (struct question, question, &c->questions) {
        const struct image_partition *p = image_partition(view(c), &question->id);
        if (p == NULL || reply->n_asked == QUESTION_ROWS_MAX ||
            image_partition_replica_index(p, node) < 0 || question_answered(c, question, node))
            continue;
        Karst__LogEnd *row = rows[reply->n_asked++];
        row->topic_id = reply_uuid(c, &question->id.topic);
        row->index = question->id.index;
        row->leader_epoch = question->leader_epoch;
    }
}
