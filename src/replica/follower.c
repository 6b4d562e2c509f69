#include "replica/internal.h"

#include "base/canary.h"

/* R6: nothing that was asked for before this is taken any more. */
static void follower_begin_session(struct replica *r)
{
    r->session++;
    r->retry_ns = 0;
}

void follower_become(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    r->role = REPLICA_FOLLOWER;
    r->stopped = false;
    r->leader_hw = -1;
    r->full = false;
    follower_begin_session(r);
    if (r->session < ev->leadership.session)
        r->session = ev->leadership.session;
    if (r->failed || r->leader < 0)
        return;
    if (CANARY("replica_truncates_to_hw") && r->hw < r->end) {
        effect_add(fx, REPLICA_DO_TRUNCATE)->offset = r->hw;
        return;
    }
    if (r->flush_before_ack && r->flushed_end < r->end)
        effect_add(fx, REPLICA_DO_FLUSH);
    effect_add(fx, REPLICA_DO_SEND_DELTA);
}

/* R7: what the leader counts as committed, of what a power cut here would leave. */
void follower_raise_hw(struct replica *r, struct replica_effects *fx)
{
    offset_t own = replica_own_durable(r);
    offset_t hw = r->leader_hw < own ? r->leader_hw : own;
    if (hw <= r->hw)
        return;
    r->hw = hw;
    effect_add(fx, REPLICA_DO_HW_MOVED);
}

static void fetch_later(struct replica *r, uint64_t now_ns)
{
    r->retry_ns = now_ns + r->config.retry_ns;
}

static void stop_following(struct replica *r, const char *why, struct replica_effects *fx)
{
    r->stopped = true;
    effect_add(fx, REPLICA_DO_REPORT)->why = why;
}

/* R9: cuts to min(the leader's end, the own end) of the largest epoch that both know; the answer to
 * the next delta says whether that was enough. */
static void follower_diverged(struct replica *r, const struct replica_arrived *in,
                              struct replica_effects *fx)
{
    const struct replica_history *history = &r->config.history;
    offset_t target = in->diverging_end;
    if (in->diverging_epoch >= 0) {
        leader_epoch_t epoch;
        offset_t end;
        history->epoch_end(history->log, in->diverging_epoch, &epoch, &end);
        if (epoch < 0)
            end = r->log_start; /* all that is here is of later epochs */
        if (end < target)
            target = end;
    }
    if (target > r->end)
        target = r->end;
    bool unclean = r->last_unclean_leader_epoch > history->last_epoch(history->log);
    if (target < r->hw && !unclean && !CANARY("replica_cuts_below_hw")) {
        stop_following(r, "the leader's log differs below the high watermark known here", fx);
        return;
    }
    if (target < r->end)
        r->truncations++; /* else an epoch is forgotten that wrote nothing */
    effect_add(fx, target < r->log_start ? REPLICA_DO_RESET : REPLICA_DO_TRUNCATE)->offset = target;
}

/* The leader does not have any more what comes next here: start where it starts, as one step. */
static void follower_out_of_range(struct replica *r, const struct replica_event *ev,
                                  struct replica_effects *fx)
{
    if (ev->data.log_start <= r->end) {
        fetch_later(r, ev->now_ns);
        return;
    }
    r->truncations++;
    effect_add(fx, REPLICA_DO_RESET)->offset = ev->data.log_start;
}

/* R6: of this session, and with it of this leader, epoch and generation. */
static bool is_current(const struct replica *r, const struct replica_arrived *in)
{
    if (CANARY("replica_accepts_old_session"))
        return true;
    return in->from == r->leader && in->leader_epoch == r->leader_epoch &&
           in->session == r->session;
}

void follower_data(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    const struct replica_arrived *in = &ev->data;
    if (r->stopped || r->failed || r->retry_ns != 0 || !is_current(r, in))
        return;
    if (in->err == ERR_OFFSET_OUT_OF_RANGE) {
        follower_out_of_range(r, ev, fx);
        return;
    }
    if (in->err == ERR_KAFKA_STORAGE_ERROR) {
        r->retry_ns = ev->now_ns + r->config.proposal_retry_ns; /* that lasts */
        return;
    }
    if (in->err != ERR_OK || in->broken) {
        fetch_later(r, ev->now_ns);
        return;
    }
    if (in->diverging_end >= 0) {
        follower_diverged(r, in, fx);
        return;
    }
    if (in->high_watermark > r->leader_hw)
        r->leader_hw = in->high_watermark;
    if (in->records && in->fetch_offset == r->end)
        effect_add(fx, REPLICA_DO_APPEND);
    else
        follower_raise_hw(r, fx);
}

void follower_appended(struct replica *r, const struct replica_event *ev,
                       struct replica_effects *fx)
{
    const struct replica_appended *in = &ev->appended;
    if (in->err == ERR_FULL || in->err == ERR_NO_MEMORY || in->err == ERR_INVALID) {
        fetch_later(r, ev->now_ns); /* the log is good; the data, or this moment, were not */
        return;
    }
    r->full = in->err == ERR_NOT_ENOUGH_SPACE;
    if (r->full) {
        fetch_later(r, ev->now_ns);
        effect_add(fx, REPLICA_DO_TRUNCATE)->offset = r->end; /* R19: mends the log */
        return;
    }
    if (in->err != ERR_OK) {
        replica_stop(r, ERR_KAFKA_STORAGE_ERROR, fx);
        effect_add(fx, REPLICA_DO_REPORT)->why = "an append failed";
        return;
    }
    r->end = in->end;
    follower_raise_hw(r, fx);
    if (r->flush_before_ack)
        effect_add(fx, REPLICA_DO_FLUSH);
    effect_add(fx, REPLICA_DO_SEND_DELTA); /* ahead of the flush */
}

void follower_cut(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    (void)ev; /* its ends are taken by the step */
    uint64_t retry_ns = r->retry_ns;
    follower_begin_session(r);
    r->retry_ns = retry_ns; /* a full disk is asked again later */
    if (retry_ns == 0)
        effect_add(fx, REPLICA_DO_SEND_DELTA);
}

void follower_tick(struct replica *r, const struct replica_event *ev, struct replica_effects *fx)
{
    if (!r->flush_before_ack && r->flushed_end < r->end && !r->failed)
        effect_add(fx, REPLICA_DO_FLUSH);
    if (r->retry_ns == 0 || ev->now_ns < r->retry_ns)
        return;
    follower_begin_session(r);
    effect_add(fx, REPLICA_DO_SEND_DELTA);
}

void follower_stream_lost(struct replica *r, const struct replica_event *ev)
{
    if (r->leader >= 0 && !r->stopped && !r->failed)
        fetch_later(r, ev->now_ns);
}

bool replica_delta_row(struct replica *r, bool again, struct replica_delta_row *ret_row)
{
    bool silent = r->role != REPLICA_FOLLOWER || r->leader < 0 || r->stopped || r->failed;
    if (silent || r->retry_ns != 0)
        return false;
    bool same_life = r->told.session == r->session && r->told.leader_epoch == r->leader_epoch;
    bool want = !same_life || r->told.fetch_offset != r->end;
    if (!want && !again && r->told.flushed_end == r->flushed_end)
        return false;
    *ret_row = (struct replica_delta_row){
        .leader_epoch = r->leader_epoch,
        .session = r->session,
        .fetch_offset = r->end,
        .flushed_end = r->flushed_end,
        .log_start = r->log_start,
        .last_fetched_epoch = r->config.history.last_epoch(r->config.history.log),
        .want = want,
        .slow = r->full,
    };
    r->told.session = r->session;
    r->told.leader_epoch = r->leader_epoch;
    r->told.fetch_offset = r->end;
    r->told.flushed_end = r->flushed_end;
    return true;
}
