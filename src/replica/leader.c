#include "replica/internal.h"

#include "base/canary.h"

struct replica_follower *follower_find(struct replica *r, node_id_t node)
{
    for (uint32_t i = 0; i < r->replica_count; i++)
        if (r->followers[i].node == node && i != r->self)
            return &r->followers[i];
    return NULL;
}

void follower_forget(struct replica_follower *f, uint64_t now_ns)
{
    *f = (struct replica_follower){
        .node = f->node,
        .broker_epoch = f->broker_epoch,
        .active = f->active,
        .fetch_offset = -1,
        .flushed_end = -1,
        .told_hw = -1,
        .caught_up_ns = now_ns,
        .end_at_update = -1,
        .update_ns = now_ns,
    };
}

offset_t follower_durable(const struct replica *r, const struct replica_follower *f)
{
    if (!f->counted)
        return -1;
    if (!r->flush_before_ack || CANARY("replica_hw_ignores_flush"))
        return f->fetch_offset;
    return f->flushed_end < f->fetch_offset ? f->flushed_end : f->fetch_offset;
}

void leader_note_epoch(const struct replica *r, struct replica_effects *fx)
{
    if (r->config.history.last_epoch(r->config.history.log) < r->leader_epoch)
        effect_add(fx, REPLICA_DO_BEGIN_EPOCH)->epoch = r->leader_epoch;
}

void leader_become(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    r->role = REPLICA_LEADER;
    r->stopped = false;
    r->epoch_start = r->end;
    /* R11: what followers said to leaders before is nothing to this one. */
    for (uint32_t i = 0; i < r->replica_count; i++)
        follower_forget(&r->followers[i], ev->now_ns);
    if (r->failed)
        return;
    leader_note_epoch(r, fx);
    if (r->flushed_end < r->end)
        effect_add(fx, REPLICA_DO_FLUSH);
}

/* ---- produce ---- */

static void waiter_queue(struct replica *r, struct replica_waiter *waiter)
{
    struct list_node *head = waiter->acks == 1 ? &r->waiting_flush : &r->waiting_hw;
    struct list_node *after = head->prev;
    /* By end: a duplicate's may lie before others'. */
    while (after != head && list_entry(after, struct replica_waiter, link)->end > waiter->end)
        after = after->prev;
    list_push_front(after, &waiter->link);
    waiter->waiting = true;
    r->waiter_count++;
}

/* R28: the original is acknowledged when its acks say so, and the duplicate no earlier. */
static void duplicate_waits(struct replica *r, struct replica_waiter *waiter,
                            const struct replica_event *ev, struct replica_effects *fx)
{
    bool at_once = waiter->acks == 0 || CANARY("replica_duplicate_acked_at_once");
    if (at_once) {
        waiter_answer(r, waiter, waiter->verdict, fx);
        return;
    }
    waiter_queue(r, waiter);
    leader_review(r, ev, fx);
}

static err_t produce_refused(const struct replica *r, const struct replica_produce *in,
                             bool lease_valid)
{
    err_t err = replica_check_leader(r, lease_valid);
    if (err != ERR_OK)
        return err;
    int16_t acks = in->waiter->acks;
    if (acks < -1 || acks > 1)
        return ERR_INVALID_REQUIRED_ACKS;
    if (acks == -1 && !isr_has_enough(r))
        return ERR_NOT_ENOUGH_REPLICAS; /* R5 */
    if (r->waiter_count >= r->config.waiters_max)
        return ERR_THROTTLING_QUOTA_EXCEEDED;
    return in->count == 0 ? ERR_INVALID_REQUEST : ERR_OK;
}

/* All new, or all written before and side by side: else one base offset can't tell where they are.
 */
static enum sequence_verdict produce_check(const struct replica *r,
                                           const struct replica_produce *in,
                                           struct sequence_check *ret_check)
{
    struct sequence_check first = {0};
    enum sequence_verdict verdict = producers_check(&r->producers, in->batches, 0, &first);
    *ret_check = first;
    for (uint32_t i = 1; i < in->count && verdict != SEQUENCE_REFUSED; i++) {
        struct sequence_check check = {0};
        enum sequence_verdict next = producers_check(&r->producers, in->batches, i, &check);
        if (next == SEQUENCE_REFUSED) {
            ret_check->err = check.err;
            return SEQUENCE_REFUSED;
        }
        bool beside = next != SEQUENCE_DUPLICATE || check.base == ret_check->end;
        if (next != verdict || !beside) {
            ret_check->err = ERR_DUPLICATE_SEQUENCE_NUMBER;
            return SEQUENCE_REFUSED;
        }
        ret_check->end = check.end;
    }
    return verdict;
}

void leader_produce(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_produce *in = &ev->produce;
    struct replica_waiter *waiter = in->waiter;
    ASSERT(!r->appending);
    *waiter = (struct replica_waiter){.base = -1, .end = -1, .acks = waiter->acks};
    list_init(&waiter->link);
    err_t err = produce_refused(r, in, ev->lease_valid);
    if (err != ERR_OK) {
        waiter_answer(r, waiter, err, fx);
        return;
    }
    struct sequence_check check = {0};
    switch (produce_check(r, in, &check)) {
    case SEQUENCE_REFUSED:
        waiter_answer(r, waiter, check.err, fx);
        return;
    case SEQUENCE_DUPLICATE:
        waiter->base = check.base;
        waiter->end = check.end;
        duplicate_waits(r, waiter, ev, fx);
        return;
    case SEQUENCE_OLD_DUPLICATE:
        waiter->end = check.end; /* it lies below: its own end is not known any more */
        waiter->verdict = ERR_DUPLICATE_SEQUENCE_NUMBER;
        duplicate_waits(r, waiter, ev, fx);
        return;
    case SEQUENCE_NEW:
        break;
    }
    r->appending = true;
    r->appending_waiter = waiter;
    waiter->base = r->end;
    struct replica_effect *append = effect_add(fx, REPLICA_DO_APPEND);
    append->offset = r->end;
    append->epoch = r->leader_epoch;
}

/* R19: nothing of it is visible. A full disk is mended by cutting what was begun, and the next
 * append may succeed; a passing lack changed nothing; anything else ended the log. */
static void append_failed(struct replica *r, struct replica_waiter *waiter, err_t err,
                          struct replica_effects *fx)
{
    bool passing = err == ERR_FULL || err == ERR_NO_MEMORY;
    waiter->base = -1;
    waiter_answer(r, waiter, passing ? ERR_THROTTLING_QUOTA_EXCEEDED : err, fx);
    if (passing)
        return;
    if (err == ERR_NOT_ENOUGH_SPACE) {
        effect_add(fx, REPLICA_DO_TRUNCATE)->offset = r->end;
        return;
    }
    replica_stop(r, ERR_KAFKA_STORAGE_ERROR, fx);
    effect_add(fx, REPLICA_DO_REPORT)->why = "an append failed";
}

void leader_appended(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_appended *in = &ev->appended;
    struct replica_waiter *waiter = r->appending_waiter;
    ASSERT(r->appending);
    r->appending = false;
    r->appending_waiter = NULL;
    if (in->err != ERR_OK) {
        append_failed(r, waiter, in->err, fx);
        return;
    }
    for (uint32_t i = 0; i < r->replica_count; i++) {
        struct replica_follower *f = &r->followers[i];
        if (follower_durable(r, f) >= r->end)
            f->caught_up_ns = ev->now_ns; /* it had all until now */
    }
    for (uint32_t i = 0; i < in->count; i++)
        producers_note(&r->producers, &in->batches[i]);
    ASSERT(in->end > r->end);
    r->end = in->end;
    waiter->end = in->end;
    if (r->flush_before_ack)
        effect_add(fx, REPLICA_DO_FLUSH);
    if (replica_owed(r) != 0)
        effect_add(fx, REPLICA_DO_SEND_DATA);
    if (waiter->acks == 0)
        waiter_answer(r, waiter, ERR_OK, fx);
    else
        waiter_queue(r, waiter);
    leader_review(r, ev, fx);
}

/* ---- followers ---- */

/* R9, KIP-595: is what the follower holds below fetch_offset ours? Says what it should cut to. */
static enum follower_answer check_history(const struct replica *r, const struct replica_fetched *in,
                                          leader_epoch_t *ret_epoch, offset_t *ret_end)
{
    if (in->fetch_offset < r->log_start)
        return ANSWER_OUT_OF_RANGE;
    leader_epoch_t asked = in->last_fetched_epoch;
    if (asked < 0) { /* it holds nothing */
        *ret_epoch = -1;
        *ret_end = r->log_start;
        return in->fetch_offset <= r->end ? ANSWER_NONE : ANSWER_DIVERGING;
    }
    r->config.history.epoch_end(r->config.history.log, asked, ret_epoch, ret_end);
    if (*ret_epoch == asked && in->fetch_offset <= *ret_end)
        return ANSWER_NONE;
    if (*ret_epoch < 0) {
        if (asked > r->config.history.last_epoch(r->config.history.log))
            return ANSWER_RETRY; /* an epoch that we have never heard of */
        *ret_end = r->log_start; /* below our first: all of it is other than ours */
    }
    return ANSWER_DIVERGING;
}

/* KIP-16: it is caught up when it reaches where we were when it last told us, so that steady
 * produce does not make a lagging follower of one that is a round trip behind. */
static void note_progress(struct replica *r, struct replica_follower *f, uint64_t now_ns)
{
    offset_t durable = follower_durable(r, f);
    if (durable >= r->end)
        f->caught_up_ns = now_ns;
    else if (f->end_at_update >= 0 && durable >= f->end_at_update)
        f->caught_up_ns = f->update_ns > f->caught_up_ns ? f->update_ns : f->caught_up_ns;
    f->end_at_update = r->end;
    f->update_ns = now_ns;
}

static void take_ends(struct replica *r, struct replica_follower *f,
                      const struct replica_fetched *in, uint64_t now_ns)
{
    bool resumed = in->session != f->session;
    f->session = in->session;
    f->gone = false;
    f->answer = check_history(r, in, &f->diverging_epoch, &f->diverging_end);
    f->fetch_offset = in->fetch_offset;
    f->flushed_end = in->flushed_end;
    f->counted = f->answer == ANSWER_NONE;
    f->slow = in->slow && follower_durable(r, f) < r->end;
    if (resumed)
        f->told_hw = -1;
    if (!f->counted) {
        f->order = false;
        return;
    }
    if (in->want)
        f->order = true;
    else if (resumed)
        f->order = false;
    note_progress(r, f, now_ns);
}

void leader_fetched(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_fetched *in = &ev->fetched;
    struct replica_follower *f = follower_find(r, in->follower);
    if (f == NULL || in->leader_epoch != r->leader_epoch || in->fetch_offset < 0)
        return; /* not a replica, or of another epoch */
    if (in->broker_epoch < f->broker_epoch)
        return; /* R2: an incarnation that is past */
    if (in->broker_epoch > f->broker_epoch) {
        f->broker_epoch = in->broker_epoch;
        follower_forget(f, ev->now_ns);
    }
    if (in->session < f->session)
        return; /* a slower way of an older stream */
    if (in->stop) {
        uint64_t session = in->session;
        follower_forget(f, ev->now_ns);
        f->session = session;
        return;
    }
    take_ends(r, f, in, ev->now_ns);
    if (replica_owed(r) != 0)
        effect_add(fx, REPLICA_DO_SEND_DATA);
    leader_review(r, ev, fx);
    isr_review(r, ev->now_ns, false, fx);
}

void replica_leader_tick(struct replica *r, const struct replica_event *ev,
                         struct replica_effects *fx)
{
    for (uint32_t i = 0; i < r->replica_count; i++) {
        struct replica_follower *f = &r->followers[i];
        if (i == r->self)
            continue;
        /* A process that stood still did not see what came meanwhile: nobody lagged (SIGCONT). */
        if (ev->loop_gap || follower_durable(r, f) >= r->end)
            f->caught_up_ns = ev->now_ns;
        f->hw_due = f->counted && f->told_hw < r->hw;
    }
    if (replica_owed(r) != 0)
        effect_add(fx, REPLICA_DO_SEND_DATA);
    if (!r->flush_before_ack && r->flushed_end < r->end && !r->failed)
        effect_add(fx, REPLICA_DO_FLUSH);
    isr_review(r, ev->now_ns, true, fx);
}

/* ---- high watermark ---- */

static offset_t leader_bound(const struct replica *r)
{
    offset_t bound = replica_own_durable(r);
    uint32_t maximal = isr_maximal(r);
    for (uint32_t i = 0; i < r->replica_count; i++) {
        if (i == r->self || !(maximal & place_bit(i)))
            continue;
        offset_t durable = follower_durable(r, &r->followers[i]);
        if (durable < bound)
            bound = durable;
    }
    return bound;
}

static void answer_flushed(struct replica *r, const struct replica_event *ev,
                           struct replica_effects *fx)
{
    while (!list_empty(&r->waiting_flush)) {
        struct replica_waiter *waiter =
            list_entry(r->waiting_flush.next, struct replica_waiter, link);
        if (waiter->end > replica_own_durable(r))
            return;
        /* R10: acks=1 is this broker's word alone, and ends with its lease. */
        bool may = ev->lease_valid || CANARY("replica_serves_without_lease");
        waiter_answer(r, waiter, may ? waiter->verdict : ERR_NOT_LEADER_OR_FOLLOWER, fx);
    }
}

static void answer_committed(struct replica *r, struct replica_effects *fx)
{
    offset_t reached = CANARY("replica_acks_before_isr") ? replica_own_durable(r) : r->hw;
    while (!list_empty(&r->waiting_hw)) {
        struct replica_waiter *waiter = list_entry(r->waiting_hw.next, struct replica_waiter, link);
        if (waiter->end > reached)
            return;
        waiter_answer(r, waiter, waiter->verdict, fx);
    }
}

void leader_review(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    if (isr_has_enough(r) || CANARY("replica_hw_below_min_isr")) { /* R5 */
        offset_t bound = leader_bound(r);
        if (bound > r->hw) {
            r->hw = bound;
            effect_add(fx, REPLICA_DO_HW_MOVED);
        }
    }
    answer_flushed(r, ev, fx);
    answer_committed(r, fx);
}
