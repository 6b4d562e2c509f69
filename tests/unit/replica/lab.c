#include "unit/replica/lab.h"

#include <stdlib.h>
#include <string.h>

/* ---- the toy log ---- */

static leader_epoch_t lab_last_epoch(const void *self)
{
    const struct lab_log *log = self;
    return log->epoch_count == 0 ? -1 : log->epochs[log->epoch_count - 1].epoch;
}

static void lab_epoch_end(const void *self, leader_epoch_t asked, leader_epoch_t *ret_epoch,
                          offset_t *ret_end)
{
    const struct lab_log *log = self;
    *ret_epoch = -1;
    *ret_end = -1;
    if (asked > lab_last_epoch(log))
        return;
    for (uint32_t i = 0; i < log->epoch_count; i++) {
        if (log->epochs[i].epoch > asked)
            return;
        *ret_epoch = log->epochs[i].epoch;
        *ret_end = i + 1 < log->epoch_count ? log->epochs[i + 1].start : log->end;
    }
}

static void lab_begin_epoch(struct lab_log *log, leader_epoch_t epoch)
{
    if (epoch <= lab_last_epoch(log))
        return;
    ck_assert_uint_lt(log->epoch_count, LAB_EPOCHS_MAX);
    log->epochs[log->epoch_count].epoch = epoch;
    log->epochs[log->epoch_count++].start = log->end;
}

static void lab_extend(struct lab_log *log, uint32_t records, leader_epoch_t epoch)
{
    lab_begin_epoch(log, epoch);
    for (uint32_t i = 0; i < records; i++) {
        ck_assert_int_lt(log->end, LAB_RECORDS_MAX);
        log->epoch_of[log->end++] = epoch;
    }
}

static void lab_cut(struct lab_log *log, offset_t end)
{
    log->end = end;
    if (log->flushed_end > end)
        log->flushed_end = end;
    while (log->epoch_count > 0 && log->epochs[log->epoch_count - 1].start >= end)
        log->epoch_count--;
}

/* ---- effects ---- */

static void lab_execute(struct replica_lab *lab, struct replica_effects *fx);

void replica_lab_step(struct replica_lab *lab, struct replica_event *ev)
{
    struct replica_effects fx;
    ev->now_ns = lab->now_ns;
    ev->lease_valid = lab->lease_valid;
    ev->loop_gap = lab->loop_gap;
    replica_step(lab->replica, ev, &fx);
    lab_execute(lab, &fx);
}

static void lab_do_append(struct replica_lab *lab, const struct replica_effect *effect)
{
    struct replica_event ev = {.type = REPLICA_APPENDED};
    ev.appended.err = lab->append_err;
    lab->append_err = ERR_OK;
    struct batch_info batches[16];
    if (lab->batches != NULL) {
        offset_t next = effect->offset;
        ck_assert_uint_le(lab->batch_count, ARRAY_LEN(batches));
        for (uint32_t i = 0; i < lab->batch_count; i++) {
            batches[i] = lab->batches[i];
            batches[i].base_offset = next;
            next += batches[i].record_count;
            batches[i].last_offset = next - 1;
        }
        ev.appended.batches = batches;
        ev.appended.count = lab->batch_count;
    }
    if (ev.appended.err == ERR_OK)
        lab_extend(lab->log, lab->appending,
                   lab->batches != NULL ? effect->epoch : lab->appending_epoch);
    ev.appended.end = lab->log->end;
    lab->batches = NULL;
    replica_lab_step(lab, &ev);
}

static void lab_do_cut(struct replica_lab *lab, const struct replica_effect *effect)
{
    struct lab_log *log = lab->log;
    if (effect->type == REPLICA_DO_RESET) {
        lab->resets++;
        *log = (struct lab_log){
            .start = effect->offset, .end = effect->offset, .flushed_end = effect->offset};
    } else {
        lab->truncations++;
        lab_cut(log, effect->offset);
    }
    struct replica_event ev = {.type = REPLICA_CUT};
    ev.cut = (struct replica_cut){
        .log_start = log->start, .end = log->end, .flushed_end = log->flushed_end};
    replica_lab_step(lab, &ev);
}

static void lab_do(struct replica_lab *lab, struct replica_effects *fx,
                   const struct replica_effect *effect)
{
    switch (effect->type) {
    case REPLICA_DO_APPEND:
        lab_do_append(lab, effect);
        break;
    case REPLICA_DO_TRUNCATE:
    case REPLICA_DO_RESET:
        lab_do_cut(lab, effect);
        break;
    case REPLICA_DO_BEGIN_EPOCH:
        lab_begin_epoch(lab->log, effect->epoch);
        break;
    case REPLICA_DO_FLUSH:
        lab->flushes++;
        break;
    case REPLICA_DO_SEND_DATA:
        break; /* tests ask replica_answer */
    case REPLICA_DO_SEND_DELTA:
        lab->deltas++;
        break;
    case REPLICA_DO_PROPOSE:
        lab->proposal = fx->proposal;
        lab->proposals++;
        break;
    case REPLICA_DO_HW_MOVED:
        lab->hw_moves++;
        break;
    case REPLICA_DO_REBUILD:
        lab->rebuilds++;
        break;
    case REPLICA_DO_REPORT:
        ck_assert_ptr_nonnull(effect->why);
        lab->reports++;
        break;
    }
}

static void lab_execute(struct replica_lab *lab, struct replica_effects *fx)
{
    struct list_node *node;
    while ((node = list_pop_front(&fx->answered)) != NULL) {
        const struct replica_waiter *waiter = list_entry(node, struct replica_waiter, link);
        for (uint32_t i = 0; i < lab->wait_count; i++)
            if (&lab->waits[i].waiter == waiter) {
                ck_assert(!lab->waits[i].answered);
                lab->waits[i].answered = true;
            }
    }
    for (uint32_t i = 0; i < fx->count; i++) {
        bool last = i + 1 == fx->count;
        enum replica_effect_type type = fx->list[i].type;
        if (type == REPLICA_DO_APPEND || type == REPLICA_DO_TRUNCATE || type == REPLICA_DO_RESET)
            ck_assert(last);
        lab_do(lab, fx, &fx->list[i]);
    }
}

/* ---- setting up ---- */

static struct replica_lab *lab_new(const struct lab_setup *setup, node_id_t leader)
{
    static const node_id_t three[] = {1, 2, 3};
    struct replica_lab *lab = calloc(1, sizeof *lab);
    ck_assert_ptr_nonnull(lab);
    lab->replica = calloc(1, sizeof *lab->replica);
    lab->log = calloc(1, sizeof *lab->log);
    lab->now_ns = UINT64_C(1000000000000);
    lab->lease_valid = true;
    lab->flush_before_ack = !setup->no_flush;
    lab->min_insync = setup->min_insync != 0 ? setup->min_insync : 1;
    lab_extend(lab->log, (uint32_t)setup->end, setup->old_epoch);
    if (setup->end == 0)
        lab->log->epoch_count = 0;
    lab->log->flushed_end = setup->flushed_end != 0 ? setup->flushed_end : setup->end;
    struct replica_config config = {
        .node = 1,
        .history = {lab->log, lab_last_epoch, lab_epoch_end},
        .lag_max_ns = UINT64_C(10000000000),
        .retry_ns = UINT64_C(100000000),
        .proposal_retry_ns = UINT64_C(100000000),
        .waiters_max = setup->waiters_max != 0 ? setup->waiters_max : 100,
        .producers_max = 4,
    };
    struct replica_start start = {
        .end = lab->log->end,
        .flushed_end = lab->log->flushed_end,
        .high_watermark = setup->hw,
    };
    replica_init(lab->replica, &config, &start);
    struct image_partition *p = &lab->partition;
    const node_id_t *replicas = setup->replicas[0] != 0 ? setup->replicas : three;
    size_t replicas_max = setup->replicas[0] != 0 ? REPLICAS_MAX : ARRAY_LEN(three);
    for (size_t i = 0; i < replicas_max && replicas[i] != 0; i++) {
        p->replicas[p->replica_count++] = replicas[i];
        lab->peers[i] = (struct replica_peer){.broker_epoch = 10 + replicas[i], .active = true};
    }
    const node_id_t *isr = setup->isr[0] != 0 ? setup->isr : p->replicas;
    for (size_t i = 0; i < REPLICAS_MAX && isr[i] != 0; i++)
        p->isr[p->isr_count++] = isr[i];
    p->leader = leader;
    p->leader_epoch = setup->epoch != 0 ? setup->epoch : 1;
    p->partition_epoch = 6;
    p->last_unclean_leader_epoch = setup->last_unclean != 0 ? setup->last_unclean : -1;
    replica_lab_image(lab);
    return lab;
}

struct replica_lab *replica_lab_leader(const struct lab_setup *setup)
{
    return lab_new(setup, 1);
}

struct replica_lab *replica_lab_follower(const struct lab_setup *setup)
{
    return lab_new(setup, setup->leader != 0 ? setup->leader : 2);
}

void replica_lab_free(struct replica_lab *lab)
{
    struct replica_event ev = {.type = REPLICA_CLOSE, .err = ERR_UNKNOWN_TOPIC_OR_PARTITION};
    replica_lab_step(lab, &ev);
    replica_fini(lab->replica);
    free(lab->replica);
    free(lab->log);
    free(lab);
}

void replica_lab_image(struct replica_lab *lab)
{
    struct replica_event ev = {.type = REPLICA_LEADERSHIP};
    lab->partition.partition_epoch++;
    ev.leadership = (struct replica_leadership){
        .partition = &lab->partition,
        .peers = lab->peers,
        .min_insync = lab->min_insync,
        .flush_before_ack = lab->flush_before_ack,
        .session = 1000,
    };
    replica_lab_step(lab, &ev);
}

/* ---- produce ---- */

struct batch_info lab_batch(producer_id_t id, int16_t epoch, int32_t sequence, uint32_t records)
{
    return (struct batch_info){
        .last_offset = records - 1,
        .bytes = 61 + 10 * records,
        .leader_epoch = -1,
        .producer_id = id,
        .producer_epoch = epoch,
        .base_sequence = sequence,
        .record_count = (int32_t)records,
    };
}

uint32_t replica_lab_produce_batches(struct replica_lab *lab, struct batch_info *batches,
                                     uint32_t count, int16_t acks)
{
    ck_assert_uint_lt(lab->wait_count, LAB_WAITERS_MAX);
    uint32_t wait = lab->wait_count++;
    lab->waits[wait].waiter.acks = acks;
    lab->appending = 0;
    for (uint32_t i = 0; i < count; i++)
        lab->appending += (uint32_t)batches[i].record_count;
    lab->batches = batches;
    lab->batch_count = count;
    struct replica_event ev = {.type = REPLICA_PRODUCE};
    ev.produce = (struct replica_produce){batches, count, &lab->waits[wait].waiter};
    replica_lab_step(lab, &ev);
    lab->batches = NULL;
    return wait;
}

uint32_t replica_lab_produce(struct replica_lab *lab, int16_t acks, uint32_t records)
{
    struct batch_info batch = lab_batch(-1, -1, -1, records);
    return replica_lab_produce_batches(lab, &batch, 1, acks);
}

uint32_t replica_lab_produce_as(struct replica_lab *lab, producer_id_t id, int16_t epoch,
                                int32_t sequence, uint32_t records)
{
    struct batch_info batch = lab_batch(id, epoch, sequence, records);
    return replica_lab_produce_batches(lab, &batch, 1, -1);
}

bool replica_lab_answered(const struct replica_lab *lab, uint32_t wait)
{
    return lab->waits[wait].answered;
}

err_t replica_lab_err(const struct replica_lab *lab, uint32_t wait)
{
    ck_assert(lab->waits[wait].answered);
    return lab->waits[wait].waiter.err;
}

void replica_lab_append(struct replica_lab *lab, uint32_t records)
{
    (void)replica_lab_produce(lab, -1, records);
    replica_lab_flush(lab);
}

void replica_lab_flush_to(struct replica_lab *lab, offset_t end)
{
    struct replica_event ev = {.type = REPLICA_FLUSHED};
    lab->log->flushed_end = end;
    ev.flushed_end = end;
    replica_lab_step(lab, &ev);
}

void replica_lab_flush(struct replica_lab *lab)
{
    replica_lab_flush_to(lab, lab->log->end);
}

/* ---- followers, leaders, time ---- */

void replica_lab_fetched(struct replica_lab *lab, struct replica_fetched fetched)
{
    struct replica_event ev = {.type = REPLICA_FETCHED};
    ev.fetched = fetched;
    replica_lab_step(lab, &ev);
}

void replica_lab_fetch_from(struct replica_lab *lab, node_id_t follower, offset_t end)
{
    leader_epoch_t last = end > 0 ? lab->log->epoch_of[end - 1] : -1;
    replica_lab_fetched(lab, (struct replica_fetched){
                                 .follower = follower,
                                 .broker_epoch = 10 + follower,
                                 .leader_epoch = lab->partition.leader_epoch,
                                 .session = 500,
                                 .fetch_offset = end,
                                 .flushed_end = end,
                                 .last_fetched_epoch = last,
                                 .want = true,
                             });
}

uint32_t replica_lab_place(const struct replica_lab *lab, node_id_t node)
{
    int place = image_partition_replica_index(&lab->partition, node);
    ck_assert_int_ge(place, 0);
    return (uint32_t)place;
}

struct replica_arrived lab_data(const struct replica_lab *lab)
{
    return (struct replica_arrived){
        .from = lab->partition.leader,
        .leader_epoch = lab->partition.leader_epoch,
        .session = lab->replica->session,
        .fetch_offset = lab->log->end,
        .diverging_epoch = -1,
        .diverging_end = -1,
    };
}

void replica_lab_data(struct replica_lab *lab, struct replica_arrived data, uint32_t records,
                      leader_epoch_t epoch)
{
    struct replica_event ev = {.type = REPLICA_DATA};
    data.records = records > 0;
    lab->appending = records;
    lab->appending_epoch = epoch;
    ev.data = data;
    replica_lab_step(lab, &ev);
}

void replica_lab_tick(struct replica_lab *lab, uint64_t later_ms)
{
    struct replica_event ev = {.type = REPLICA_TICK};
    lab->now_ns += later_ms * 1000000;
    replica_lab_step(lab, &ev);
    lab->loop_gap = false;
}

void replica_lab_altered(struct replica_lab *lab, err_t err)
{
    struct replica_event ev = {.type = REPLICA_ALTERED};
    ev.altered.err = err;
    ev.altered.partition_epoch = lab->partition.partition_epoch + (err == ERR_OK ? 1 : 0);
    replica_lab_step(lab, &ev);
}

offset_t replica_lab_hw(const struct replica_lab *lab)
{
    return lab->replica->hw;
}

int64_t replica_lab_proposed(const struct replica_lab *lab)
{
    int64_t digits = 0;
    for (uint32_t i = 0; i < lab->proposal.count; i++)
        digits = digits * 10 + lab->proposal.isr[i].node;
    return digits;
}
