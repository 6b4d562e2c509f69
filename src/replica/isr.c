#include "replica/internal.h"

#include "base/canary.h"

/* R5: an unknown outcome may have added whom we proposed, and a proposed removal may be refused:
 * the high watermark waits for all that may be members. */
uint32_t isr_maximal(const struct replica *r)
{
    if (CANARY("replica_counts_proposed_removal_as_gone") && r->proposal.state != PROPOSAL_NONE)
        return r->proposal.isr;
    return r->isr | r->proposal.added;
}

static bool is_enough(const struct replica *r, uint32_t isr)
{
    int32_t wanted = r->min_insync;
    if (wanted > (int32_t)r->replica_count)
        wanted = (int32_t)r->replica_count;
    return __builtin_popcount(isr) >= wanted;
}

bool isr_has_enough(const struct replica *r)
{
    return is_enough(r, r->isr);
}

/* R4: what it has durably, said in this epoch, reaches all that may be committed: the high
 * watermark, and what the leaders before may have acknowledged. */
static bool may_join(const struct replica *r, const struct replica_follower *f)
{
    if (!f->active || f->answer != ANSWER_NONE)
        return false;
    offset_t durable = follower_durable(r, f);
    if (durable < 0)
        return false;
    if (durable < r->hw)
        return false;
    if (durable < r->epoch_start && !CANARY("replica_joins_isr_below_epoch_start"))
        return false;
    if (f->slow && durable < r->end)
        return false; /* it would leave again at once */
    return isr_has_enough(r) || durable >= r->end;
}

static bool is_lagging(const struct replica *r, const struct replica_follower *f, uint64_t now_ns)
{
    if (follower_durable(r, f) >= r->end)
        return false;
    return now_ns - f->caught_up_ns > r->config.lag_max_ns;
}

/* R16: who waits for one with a full disk waits until a person frees space. While enough others are
 * in sync it leaves, and comes back when it has room. */
static bool is_spared(const struct replica *r, const struct replica_follower *f, uint32_t others)
{
    return f->slow && follower_durable(r, f) < r->end && is_enough(r, others);
}

static uint32_t isr_wanted(const struct replica *r, uint64_t now_ns, bool lag)
{
    uint32_t wanted = r->isr;
    for (uint32_t i = 0; i < r->replica_count; i++) {
        const struct replica_follower *f = &r->followers[i];
        if (i == r->self)
            continue;
        if (r->isr & place_bit(i)) {
            offset_t durable = follower_durable(r, f);
            /* R5: it lacks what it acknowledged; who waits for it waits for nothing. */
            bool lost = durable >= 0 && durable < r->hw;
            bool spared = is_spared(r, f, wanted & ~place_bit(i));
            if (lost || spared || (lag && is_lagging(r, f, now_ns)))
                wanted &= ~place_bit(i);
        } else if (may_join(r, f)) {
            wanted |= place_bit(i);
        }
    }
    return wanted;
}

static void propose(struct replica *r, uint32_t isr, uint64_t now_ns, struct replica_effects *fx)
{
    r->proposal.state = PROPOSAL_SENT;
    r->proposal.outstanding = true;
    r->proposal.isr = isr;
    r->proposal.added |= isr & ~r->isr;
    r->proposal.retry_ns = now_ns + r->config.proposal_retry_ns;
    fx->proposal = (struct replica_proposal){
        .leader_epoch = r->leader_epoch,
        .partition_epoch = r->partition_epoch,
    };
    for (uint32_t i = 0; i < r->replica_count; i++) {
        if (!(isr & place_bit(i)))
            continue;
        fx->proposal.isr[fx->proposal.count].node = r->followers[i].node;
        fx->proposal.isr[fx->proposal.count].broker_epoch = r->followers[i].broker_epoch;
        fx->proposal.count++;
    }
    effect_add(fx, REPLICA_DO_PROPOSE);
}

/* R4 for an attempt that is made again: who was to be added may be another incarnation by now, of
 * which nothing is known. */
static bool may_still_join(const struct replica *r, uint32_t added)
{
    for (uint32_t i = 0; i < r->replica_count; i++)
        if ((added & place_bit(i)) && !may_join(r, &r->followers[i]))
            return false;
    return true;
}

void isr_review(struct replica *r, uint64_t now_ns, bool lag, struct replica_effects *fx)
{
    bool busy = r->proposal.outstanding || r->proposal.state == PROPOSAL_ACCEPTED;
    if (busy || r->failed || now_ns < r->proposal.retry_ns)
        return;
    if (r->proposal.state == PROPOSAL_UNKNOWN) {
        /* The same partition epoch again: at most one of the attempts can be accepted. */
        bool same = may_still_join(r, r->proposal.isr & ~r->isr);
        propose(r, same ? r->proposal.isr : r->isr, now_ns, fx);
        return;
    }
    uint32_t wanted = isr_wanted(r, now_ns, lag);
    if (wanted != r->isr)
        propose(r, wanted, now_ns, fx);
}

/* Says this answer that the attempt it answers was not accepted, and never will be? */
static bool is_refusal(err_t err)
{
    switch (err) {
    case ERR_INELIGIBLE_REPLICA:
    case ERR_FENCED_LEADER_EPOCH:
    case ERR_NOT_LEADER_OR_FOLLOWER:
    case ERR_NEW_LEADER_ELECTED:
    case ERR_UNKNOWN_TOPIC_OR_PARTITION:
    case ERR_UNKNOWN_TOPIC_ID:
    case ERR_INVALID_REQUEST:
    case ERR_STALE_BROKER_EPOCH:
    case ERR_NOT_CONTROLLER:
    case ERR_POLICY_VIOLATION:
    case ERR_INVALID_UPDATE_VERSION:
        return true;
    default:
        return false;
    }
}

/* False: the image was faster, and what it settled is not asked any more. There is one in flight
 * until its answer is here, so that an answer is never taken for another's. */
static bool proposal_came_back(struct replica *r)
{
    bool current = r->proposal.outstanding && r->proposal.state == PROPOSAL_SENT;
    r->proposal.outstanding = false;
    return current;
}

static void outcome_unknown(struct replica *r, uint64_t now_ns)
{
    r->proposal.state = PROPOSAL_UNKNOWN;
    r->proposal.uncertain = true;
    r->proposal.retry_ns = now_ns + r->config.proposal_retry_ns;
}

void isr_altered(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_altered *in = &ev->altered;
    if (!proposal_came_back(r))
        return;
    if (in->err == ERR_OK && in->partition_epoch > r->partition_epoch) {
        r->proposal.state = PROPOSAL_ACCEPTED;
        return;
    }
    if (!is_refusal(in->err)) {
        outcome_unknown(r, ev->now_ns);
        return;
    }
    if (in->err == ERR_INVALID_UPDATE_VERSION && r->proposal.uncertain) {
        r->proposal.state = PROPOSAL_ACCEPTED; /* maybe by an attempt of ours: the image tells */
        return;
    }
    r->proposal.retry_ns = ev->now_ns + r->config.proposal_retry_ns;
    if (r->proposal.uncertain) {
        /* An attempt may still be on its way, and be accepted later. What ends that is a change of
         * the partition epoch, so that we ask for the ISR as it is. */
        r->proposal.state = PROPOSAL_UNKNOWN;
        r->proposal.isr = r->isr;
        return;
    }
    r->proposal.state = PROPOSAL_NONE;
    r->proposal.added = 0;
    leader_review(r, ev, fx);
}

void isr_alter_failed(struct replica *r, const struct replica_event *ev)
{
    if (proposal_came_back(r))
        outcome_unknown(r, ev->now_ns);
}

void isr_settled(struct replica *r)
{
    r->proposal.state = PROPOSAL_NONE;
    r->proposal.uncertain = false;
    r->proposal.added = 0;
    r->proposal.retry_ns = 0;
}
