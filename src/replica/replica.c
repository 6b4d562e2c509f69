#include "replica/internal.h"

#include "base/canary.h"

#include <string.h>

void replica_init(struct replica *r, const struct replica_config *config,
                  const struct replica_start *start)
{
    ASSERT(start->log_start <= start->end);
    ASSERT(start->flushed_end <= start->end);
    memset(r, 0, sizeof *r);
    r->config = *config;
    r->leader_epoch = -1;
    r->leader = NO_NODE;
    r->partition_epoch = -1;
    r->last_unclean_leader_epoch = -1;
    r->log_start = start->log_start;
    r->end = start->end;
    r->flushed_end = start->flushed_end;
    r->hw = start->high_watermark < start->flushed_end ? start->high_watermark : start->flushed_end;
    if (r->hw < r->log_start)
        r->hw = r->log_start;
    list_init(&r->waiting_hw);
    list_init(&r->waiting_flush);
    producers_init(&r->producers, config->producers_max, start->log_start == 0);
}

void replica_fini(struct replica *r)
{
    ASSERT(r->waiter_count == 0);
    producers_fini(&r->producers);
}

struct replica_effect *effect_add(struct replica_effects *fx, enum replica_effect_type type)
{
    ASSERT(fx->count < REPLICA_EFFECTS_MAX);
    struct replica_effect *effect = &fx->list[fx->count++];
    *effect = (struct replica_effect){.type = type};
    return effect;
}

offset_t replica_own_durable(const struct replica *r)
{
    bool written = !r->flush_before_ack || CANARY("replica_hw_ignores_flush");
    return written ? r->end : r->flushed_end;
}

/* ---- waiters ---- */

void waiter_answer(struct replica *r, struct replica_waiter *waiter, err_t err,
                   struct replica_effects *fx)
{
    if (waiter->waiting) {
        list_remove(&waiter->link);
        waiter->waiting = false;
        r->waiter_count--;
    }
    waiter->err = err;
    list_push_back(&fx->answered, &waiter->link);
}

void waiters_fail(struct replica *r, err_t err, struct replica_effects *fx)
{
    struct list_node *lists[] = {&r->waiting_hw, &r->waiting_flush};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        while (!list_empty(lists[i]))
            waiter_answer(r, list_entry(lists[i]->next, struct replica_waiter, link), err, fx);
    ASSERT(r->waiter_count == 0);
}

void replica_stop(struct replica *r, err_t err, struct replica_effects *fx)
{
    waiters_fail(r, err, fx);
    r->failed = true;
}

/* ---- leadership ---- */

/* Places may move when the replicas change: what is known of a broker goes with it. */
static void take_replicas(struct replica *r, const struct replica_leadership *in, uint64_t now_ns)
{
    const struct image_partition *p = in->partition;
    struct replica_follower before[REPLICAS_MAX];
    uint32_t before_count = r->replica_count;
    memcpy(before, r->followers, sizeof before);
    r->replica_count = p->replica_count;
    r->self = REPLICAS_MAX;
    r->isr = 0;
    for (uint32_t i = 0; i < p->replica_count; i++) {
        struct replica_follower *f = &r->followers[i];
        const struct replica_peer *peer = &in->peers[i];
        *f = (struct replica_follower){.node = p->replicas[i], .broker_epoch = -1};
        follower_forget(f, now_ns);
        for (uint32_t j = 0; j < before_count; j++)
            if (before[j].node == f->node)
                *f = before[j];
        if (peer->broker_epoch > f->broker_epoch) { /* R2 */
            f->broker_epoch = peer->broker_epoch;
            follower_forget(f, now_ns);
        }
        f->active = peer->active;
        if (f->node == r->config.node)
            r->self = i;
        if (image_partition_in_isr(p, f->node))
            r->isr |= place_bit(i);
    }
}

static void count_isr_moves(struct replica *r, uint32_t before)
{
    r->isr_shrinks += (uint64_t)__builtin_popcount(before & ~r->isr);
    r->isr_growths += (uint64_t)__builtin_popcount(r->isr & ~before);
}

static void go_idle(struct replica *r, struct replica_effects *fx)
{
    waiters_fail(r, ERR_NOT_LEADER_OR_FOLLOWER, fx);
    r->role = REPLICA_IDLE;
}

/* The image's word on this partition. One step: a follower's epoch, its cut and its first word to
 * the new leader are one (R6). */
static void replica_lead_or_follow(struct replica *r, const struct replica_event *ev,
                                   struct replica_effects *fx)
{
    const struct replica_leadership *in = &ev->leadership;
    const struct image_partition *p = in->partition;
    if (p == NULL || image_partition_replica_index(p, r->config.node) < 0) {
        go_idle(r, fx);
        return;
    }
    if (p->leader_epoch < r->leader_epoch || p->partition_epoch < r->partition_epoch)
        return; /* images come in order; an older one says nothing new */
    bool leads = p->leader == r->config.node;
    bool same = p->leader_epoch == r->leader_epoch && r->leader == p->leader &&
                r->role == (leads ? REPLICA_LEADER : REPLICA_FOLLOWER);
    bool newer = p->partition_epoch > r->partition_epoch;
    uint32_t isr_before = r->isr;
    r->leader_epoch = p->leader_epoch;
    r->leader = p->leader;
    r->partition_epoch = p->partition_epoch;
    r->last_unclean_leader_epoch = p->last_unclean_leader_epoch;
    r->min_insync = in->min_insync;
    r->flush_before_ack = in->flush_before_ack;
    take_replicas(r, in, ev->now_ns);
    ASSERT(r->self < r->replica_count);
    if (newer || !same)
        isr_settled(r); /* R5: the image has spoken */
    if (!same) {
        waiters_fail(r, ERR_NOT_LEADER_OR_FOLLOWER, fx);
        if (leads)
            leader_become(r, ev, fx);
        else
            follower_become(r, ev, fx);
    }
    if (r->role != REPLICA_LEADER)
        return;
    if (same)
        count_isr_moves(r, isr_before);
    leader_review(r, ev, fx);
    isr_review(r, ev->now_ns, false, fx);
}

/* ---- the step ---- */

static void take_cut(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_cut *in = &ev->cut;
    if (in->err != ERR_OK) {
        replica_stop(r, ERR_KAFKA_STORAGE_ERROR, fx);
        effect_add(fx, REPLICA_DO_REPORT)->why = "the log could not be cut";
        return;
    }
    bool emptied = in->log_start != r->log_start;
    r->log_start = in->log_start;
    r->end = in->end;
    r->flushed_end = in->flushed_end;
    if (r->hw > r->end)
        r->hw = r->end;
    if (r->hw < r->log_start)
        r->hw = r->log_start;
    if (emptied) {
        producers_clear(&r->producers, in->log_start == 0);
    } else if (!producers_cut(&r->producers, in->end)) {
        producers_clear(&r->producers, in->log_start == 0);
        effect_add(fx, REPLICA_DO_REBUILD);
    }
    if (r->role == REPLICA_FOLLOWER)
        follower_cut(r, ev, fx);
    if (r->role != REPLICA_LEADER)
        return;
    leader_note_epoch(r, fx); /* a cut forgets what begins at the end */
    leader_review(r, ev, fx); /* and has flushed what stays: no round will tell */
}

static void take_flushed(struct replica *r, const struct replica_event *ev,
                         struct replica_effects *fx)
{
    ASSERT(ev->flushed_end <= r->end);
    r->flushed_end = ev->flushed_end;
    if (r->role == REPLICA_LEADER) {
        leader_review(r, ev, fx);
        isr_review(r, ev->now_ns, false, fx);
    } else if (r->role == REPLICA_FOLLOWER) {
        follower_raise_hw(r, fx);
        effect_add(fx, REPLICA_DO_SEND_DELTA);
    }
}

static void step_leader(struct replica *r, const struct replica_event *ev,
                        struct replica_effects *fx)
{
    struct replica_follower *f;
    switch (ev->type) {
    case REPLICA_APPENDED:
        leader_appended(r, ev, fx);
        break;
    case REPLICA_FETCHED:
        leader_fetched(r, ev, fx);
        break;
    case REPLICA_FORGET:
        f = follower_find(r, ev->follower);
        if (f != NULL)
            f->gone = true; /* what it said still counts */
        break;
    case REPLICA_TICK:
        replica_leader_tick(r, ev, fx);
        break;
    default:
        break; /* of a role that is past */
    }
}

static void step_follower(struct replica *r, const struct replica_event *ev,
                          struct replica_effects *fx)
{
    switch (ev->type) {
    case REPLICA_APPENDED:
        follower_appended(r, ev, fx);
        break;
    case REPLICA_DATA:
        follower_data(r, ev, fx);
        break;
    case REPLICA_STREAM_LOST:
        follower_stream_lost(r, ev);
        break;
    case REPLICA_TICK:
        follower_tick(r, ev, fx);
        break;
    default:
        break;
    }
}

void replica_step(struct replica *r, const struct replica_event *ev, struct replica_effects *ret_fx)
{
    struct replica_effects *fx = ret_fx;
    fx->count = 0;
    list_init(&fx->answered);
    switch (ev->type) {
    case REPLICA_LEADERSHIP:
        replica_lead_or_follow(r, ev, fx);
        break;
    case REPLICA_PRODUCE:
        leader_produce(r, ev, fx);
        break;
    case REPLICA_CUT:
        take_cut(r, ev, fx);
        break;
    case REPLICA_FLUSHED:
        take_flushed(r, ev, fx);
        break;
    case REPLICA_ALTERED:
        isr_altered(r, ev, fx);
        break;
    case REPLICA_ALTER_FAILED:
        isr_alter_failed(r, ev);
        break;
    case REPLICA_CANCEL:
        if (ev->waiter->waiting)
            waiter_answer(r, ev->waiter, ev->err, fx);
        break;
    case REPLICA_FAILED:
        replica_stop(r, ERR_KAFKA_STORAGE_ERROR, fx);
        effect_add(fx, REPLICA_DO_REPORT)->why = "its log failed";
        break;
    case REPLICA_CLOSE:
        waiters_fail(r, ev->err, fx);
        r->role = REPLICA_IDLE;
        break;
    default:
        if (r->role == REPLICA_LEADER)
            step_leader(r, ev, fx);
        else if (r->role == REPLICA_FOLLOWER)
            step_follower(r, ev, fx);
        break;
    }
}

void replica_note_batch(struct replica *r, const struct batch_info *info)
{
    producers_note(&r->producers, info);
}

size_t replica_producer_count(const struct replica *r)
{
    return table_count(&r->producers.by_id);
}

/* ---- answers to followers ---- */

static bool is_owed(const struct replica *r, uint32_t place)
{
    const struct replica_follower *f = &r->followers[place];
    if (place == r->self || f->session == 0 || f->gone)
        return false;
    bool data = f->order && f->fetch_offset < r->end;
    bool hw =
        f->hw_due && f->told_hw < r->hw && !CANARY("replica_tells_hw_only_with_data"); /* R7 */
    return f->answer != ANSWER_NONE || data || hw;
}

uint32_t replica_owed(const struct replica *r)
{
    uint32_t owed = 0;
    if (r->role != REPLICA_LEADER)
        return 0;
    for (uint32_t i = 0; i < r->replica_count; i++)
        if (is_owed(r, i))
            owed |= place_bit(i);
    return owed;
}

bool replica_answer(const struct replica *r, uint32_t place, struct replica_answer *ret_answer)
{
    if (r->role != REPLICA_LEADER || place >= r->replica_count || !is_owed(r, place))
        return false;
    const struct replica_follower *f = &r->followers[place];
    *ret_answer = (struct replica_answer){
        .session = f->session,
        .leader_epoch = r->leader_epoch,
        .high_watermark = r->hw,
        .log_start = r->log_start,
        .fetch_offset = f->fetch_offset,
        .diverging_epoch = -1,
        .diverging_end = -1,
    };
    switch (f->answer) {
    case ANSWER_DIVERGING:
        ret_answer->diverging_epoch = f->diverging_epoch;
        ret_answer->diverging_end = f->diverging_end;
        break;
    case ANSWER_OUT_OF_RANGE:
        ret_answer->err = ERR_OFFSET_OUT_OF_RANGE;
        break;
    case ANSWER_RETRY:
        ret_answer->err = ERR_UNKNOWN_LEADER_EPOCH;
        break;
    case ANSWER_NONE:
        ret_answer->read = f->order && f->fetch_offset < r->end;
        break;
    }
    return true;
}

void replica_answered(struct replica *r, uint32_t place, bool with_records)
{
    ASSERT(place < r->replica_count);
    struct replica_follower *f = &r->followers[place];
    f->answer = ANSWER_NONE;
    f->hw_due = false;
    f->told_hw = r->hw;
    if (with_records)
        f->order = false;
}

/* ---- reading ---- */

err_t replica_check_leader(const struct replica *r, bool lease_valid)
{
    if (r->failed)
        return ERR_KAFKA_STORAGE_ERROR;
    if (r->role != REPLICA_LEADER)
        return ERR_NOT_LEADER_OR_FOLLOWER;
    /* R10: without it another may lead, and acknowledge what we have never seen. */
    if (!lease_valid && !CANARY("replica_serves_without_lease"))
        return ERR_NOT_LEADER_OR_FOLLOWER;
    return ERR_OK;
}

err_t replica_check_fetch(const struct replica *r, offset_t offset, bool lease_valid,
                          offset_t *ret_limit)
{
    err_t err = replica_check_leader(r, lease_valid);
    if (err != ERR_OK)
        return err;
    if (offset < r->log_start || offset > r->end)
        return ERR_OFFSET_OUT_OF_RANGE; /* R11: not what lies between high watermark and end */
    *ret_limit = r->hw;
    return ERR_OK;
}

err_t replica_check_latest(const struct replica *r, bool lease_valid, offset_t *ret_latest)
{
    err_t err = replica_check_leader(r, lease_valid);
    if (err != ERR_OK)
        return err;
    if (r->hw < r->epoch_start && !CANARY("replica_tells_latest_at_once"))
        return ERR_OFFSET_NOT_AVAILABLE; /* R11: those before may have told more */
    *ret_latest = r->hw;
    return ERR_OK;
}

err_t replica_timeout(const struct replica *r)
{
    return isr_has_enough(r) ? ERR_REQUEST_TIMED_OUT : ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND;
}

bool replica_wants_tick(const struct replica *r)
{
    if (r->failed)
        return false;
    if (!r->flush_before_ack && r->flushed_end < r->end)
        return true;
    if (r->role == REPLICA_FOLLOWER)
        return r->retry_ns != 0;
    if (r->role != REPLICA_LEADER)
        return false;
    if (r->proposal.state != PROPOSAL_NONE)
        return true;
    for (uint32_t i = 0; i < r->replica_count; i++) {
        const struct replica_follower *f = &r->followers[i];
        if (i == r->self)
            continue;
        bool told = !f->counted || f->gone || f->told_hw >= r->hw;
        if (!(r->isr & place_bit(i)) || !told || follower_durable(r, f) < r->end)
            return true;
    }
    return false;
}
