#include <string.h>

#include "shard/partition_internal.h"

/* ---- appends, cuts ---- */

/* Zero-copy: the frame's bytes get their offsets in place, and go to the log as they lie. */
static void patch_batches(struct partition_table *table, offset_t base, leader_epoch_t epoch)
{
    struct append_context *in = &table->append;
    uint8_t *at = in->patch;
    for (uint32_t i = 0; i < in->batch_count; i++) {
        struct batch_info *info = &table->infos[i];
        offset_t records = info->last_offset - info->base_offset + 1;
        batch_patch(at, base, epoch);
        info->base_offset = base;
        info->last_offset = base + records - 1;
        info->leader_epoch = epoch;
        base += records;
        at += info->bytes;
    }
}

static void note_followed(struct partition *p, const uint8_t *at, size_t left)
{
    struct batch_info info;
    while (left > 0 && batch_peek(at, left, &info) == ERR_OK) {
        replica_note_batch(&p->replica, &info);
        at += info.bytes;
        left -= info.bytes;
    }
}

static void do_append(struct partition *p, const struct replica_effect *effect)
{
    struct partition_table *table = p->table;
    struct append_context in = table->append;
    struct replica_event ev = {.type = REPLICA_APPENDED};
    if (in.patch != NULL) {
        patch_batches(table, effect->offset, effect->epoch);
        ev.appended.batches = table->infos;
        ev.appended.count = in.batch_count;
    }
    struct iovec part = {.iov_len = in.len};
    memcpy(&part.iov_base, &in.bytes, sizeof(in.bytes)); /* read only, whatever iovec says */
    ev.appended.err = partition_enter_manifest(p);
    if (ev.appended.err == ERR_IO) { /* R14: it syncs */
        p->disk_error = true;
        ev.appended.err = ERR_KAFKA_STORAGE_ERROR;
    }
    if (ev.appended.err == ERR_OK)
        ev.appended.err = log_append(p->log, &part, 1);
    ev.appended.end = log_end(p->log);
    if (ev.appended.err == ERR_OK && in.patch == NULL && in.producers)
        note_followed(p, in.bytes, in.len);
    partition_step(p, &ev);
}

static void do_cut(struct partition *p, const struct replica_effect *effect)
{
    struct replica_event ev = {.type = REPLICA_CUT};
    bool reset = effect->type == REPLICA_DO_RESET;
    ev.cut.err = partition_drop_snapshot(p, reset ? -1 : effect->offset);
    if (ev.cut.err == ERR_OK && reset)
        ev.cut.err = partition_enter_manifest(p);
    if (ev.cut.err == ERR_OK)
        ev.cut.err =
            reset ? log_reset(p->log, effect->offset) : log_truncate(p->log, effect->offset);
    /* R13: a cut syncs; what is left after a failed one is not known. */
    p->disk_error = p->disk_error || ev.cut.err == ERR_IO || ev.cut.err == ERR_KAFKA_STORAGE_ERROR;
    ev.cut.log_start = log_start(p->log);
    ev.cut.end = log_end(p->log);
    ev.cut.flushed_end = log_flushed_end(p->log);
    if (ev.cut.end != p->replica.end || ev.cut.err != ERR_OK)
        log_info("%s: from %lld %s offset %lld in epoch %d: %s", p->folder,
                 (long long)p->replica.end, effect->type == REPLICA_DO_RESET ? "anew to" : "cut to",
                 (long long)ev.cut.end, (int)p->replica.leader_epoch, err_sentence(ev.cut.err));
    partition_step(p, &ev);
}

/* ---- the controller ---- */

static void do_propose(struct partition *p, const struct replica_proposal *proposal)
{
    struct partition_table *table = p->table;
    Karst__IsrMember members[REPLICAS_MAX];
    Karst__IsrMember *pointers[REPLICAS_MAX];
    Karst__AlterPartitionItem item = KARST__ALTER_PARTITION_ITEM__INIT;
    item.topic_id = (ProtobufCBinaryData){sizeof(p->id.topic.b), p->id.topic.b};
    item.index = p->id.index;
    item.leader_epoch = proposal->leader_epoch;
    item.partition_epoch = proposal->partition_epoch;
    for (uint32_t i = 0; i < proposal->count; i++) {
        karst__isr_member__init(&members[i]);
        members[i].node_id = proposal->isr[i].node;
        members[i].broker_epoch = proposal->isr[i].node == table->host.node
                                      ? table->host.broker_epoch(table->host.self)
                                      : proposal->isr[i].broker_epoch;
        pointers[i] = &members[i];
    }
    item.n_isr = proposal->count;
    item.isr = pointers;
    table->host.alter_partition(table->host.self, &p->id, &item);
}

void partition_tell_failed(struct partition *p, err_t err)
{
    const struct partition_host *host = &p->table->host;
    bool news = err != ERR_OK || p->told_failed;
    p->told_failed = err != ERR_OK;
    if (news && host->replica_failed != NULL)
        host->replica_failed(host->self, &p->id, p->disk, err);
}

static void do_report(struct partition *p, const char *why)
{
    log_error("%s: the replica stopped: %s", p->folder, why);
    if (p->replica.failed)
        partition_wake_fetches(p);
    if (p->disk_error)
        p->table->disk_failed[p->disk] = true; /* for new partitions (R14) */
    partition_tell_failed(p, p->disk_error ? ERR_KAFKA_STORAGE_ERROR : ERR_REPLICA_NOT_AVAILABLE);
}

/* ---- effects ---- */

static void take_answered(struct partition *p, struct replica_effects *fx)
{
    struct list_node *node;
    while ((node = list_pop_front(&fx->answered)) != NULL) {
        struct replica_waiter *waiter = list_entry(node, struct replica_waiter, link);
        struct produce_part *part = container_of(waiter, struct produce_part, waiter);
        part->base_offset = waiter->base;
        part_answer(p->table, &part->part, waiter->err, NULL);
    }
}

/* False: the log refused. */
static bool do_begin_epoch(struct partition *p, leader_epoch_t epoch)
{
    err_t err = log_begin_epoch(p->log, epoch);
    if (err != ERR_OK)
        log_error("%s: leader epoch %d was not noted: %s", p->folder, (int)epoch,
                  err_sentence(err));
    return err == ERR_OK;
}

static void do_effect(struct partition *p, struct replica_effects *fx,
                      const struct replica_effect *effect)
{
    struct partition_table *table = p->table;
    struct replica_event failed = {.type = REPLICA_FAILED};
    switch (effect->type) {
    case REPLICA_DO_APPEND:
        do_append(p, effect);
        break;
    case REPLICA_DO_TRUNCATE:
    case REPLICA_DO_RESET:
        do_cut(p, effect);
        break;
    case REPLICA_DO_BEGIN_EPOCH:
        if (!do_begin_epoch(p, effect->epoch))
            partition_step(p, &failed);
        break;
    case REPLICA_DO_FLUSH:
        partition_list_once(&table->flush, &p->flush);
        break;
    case REPLICA_DO_SEND_DATA:
        partition_list_once(&table->serve, &p->serve);
        break;
    case REPLICA_DO_SEND_DELTA:
        partition_list_once(&table->delta, &p->delta);
        break;
    case REPLICA_DO_PROPOSE:
        do_propose(p, &fx->proposal);
        break;
    case REPLICA_DO_HW_MOVED:
        log_set_high_watermark(p->log, p->replica.hw);
        partition_wake_fetches(p);
        break;
    case REPLICA_DO_REBUILD:
        if (partition_read_producers(p) != ERR_OK)
            partition_step(p, &failed);
        break;
    case REPLICA_DO_REPORT:
        do_report(p, effect->why);
        break;
    }
}

void partition_step(struct partition *p, struct replica_event *ev)
{
    struct partition_table *table = p->table;
    struct replica_effects fx;
    offset_t end = p->replica.end, hw = p->replica.hw;
    ev->now_ns = env_now(table->env);
    ev->lease_valid = table->host.lease_valid(table->host.self, ev->now_ns);
    replica_step(&p->replica, ev, &fx);
    take_answered(p, &fx);
    for (uint32_t i = 0; i < fx.count; i++)
        do_effect(p, &fx, &fx.list[i]);
    if (!replica_wants_tick(&p->replica) && !p->unreadable)
        list_remove(&p->tick);
    else
        partition_list_once(&table->tick, &p->tick);
    bool moved = end != p->replica.end || hw != p->replica.hw;
    if (moved && list_empty(&p->checkpoint) && !p->replica.failed) {
        p->checkpoint_ns = ev->now_ns + CHECKPOINT_NS;
        list_push_back(&table->checkpoint, &p->checkpoint);
    }
}

void partition_flushed(void *owner, offset_t flushed_end, err_t err)
{
    struct partition *p = owner;
    struct replica_event ev = {.type = REPLICA_FLUSHED};
    ev.flushed_end = flushed_end;
    p->disk_error = p->disk_error || err != ERR_OK;
    if (err != ERR_OK)
        ev.type = REPLICA_FAILED; /* R14: its directory is offline for good */
    partition_step(p, &ev);
    partition_hand_out(p->table);
}

void partition_was_read(struct partition *p, offset_t offset, err_t err)
{
    const struct replica *r = &p->replica;
    if ((err != ERR_IO && err != ERR_CORRUPT_MESSAGE) || p->unreadable || r->failed ||
        r->role != REPLICA_LEADER || (r->isr & (r->isr - 1)) == 0)
        return;
    log_error("%s: reading at offset %lld failed, and another can lead: %s", p->folder,
              (long long)offset, err_sentence(err));
    p->unreadable = true;
    partition_list_once(&p->table->tick, &p->tick);
}

void partition_end_unreadable(struct partition *p)
{
    struct replica_event ev = {.type = REPLICA_FAILED};
    bool leads = p->replica.role == REPLICA_LEADER && !p->replica.failed;
    p->unreadable = false;
    if (leads)
        partition_step(p, &ev);
}
