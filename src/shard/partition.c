#include <stdlib.h>
#include <string.h>

#include "shard/partition_internal.h"

/* ---- the table ---- */

static struct bytes id_key(const struct partition_id *id)
{
    static_assert(sizeof(struct partition_id) == 20, "the key has no padding");
    return (struct bytes){(const uint8_t *)id, sizeof(*id)};
}

struct partition *partition_find(const struct partition_table *table, const struct partition_id *id)
{
    return table_get_bytes(&table->by_id, id_key(id));
}

static void table_init_lists(struct partition_table *table)
{
    struct list_node *lists[] = {
        &table->all,        &table->answered,      &table->flush,         &table->serve,
        &table->delta,      &table->tick,          &table->leaders,       &table->streams,
        &table->checkpoint, &table->dirty_streams, &table->parked_deltas, &table->opening,
        &table->deletions,  &table->unlinks,       &table->fresh,
    };
    for (size_t i = 0; i < ARRAY_LEN(lists); i++)
        list_init(lists[i]);
}

struct partition_table *partition_table_new(const struct partition_host *host,
                                            const struct partition_options *options)
{
    size_t disks = host->env->disk_count;
    struct partition_table *table = calloc(1, sizeof(*table));
    if (table == NULL)
        return NULL;
    table->host = *host;
    table->options = *options;
    table->env = host->env;
    table->broker_epoch = -1;
    table_init(&table->by_id, table->env->random(table->env->self));
    table_init_lists(table);
    heap_init(&table->due);
    table->open_timer.fire = partition_open_some;
    /* Sessions of a process begin at a place of its own, so that data meant for the process before
     * are no more than noise (R6). */
    table->session = (table->env->random(table->env->self) >> 8) + 1;
    table->last_tick_ns = env_now(table->env);
    table->manifests = calloc(disks, sizeof(*table->manifests));
    table->disk_clean = calloc(disks, sizeof(*table->disk_clean));
    table->disk_failed = calloc(disks, sizeof(*table->disk_failed));
    table->disk_partitions = calloc(disks, sizeof(*table->disk_partitions));
    bool enough = table->manifests != NULL && table->disk_clean != NULL &&
                  table->disk_failed != NULL && table->disk_partitions != NULL;
    if (!enough) {
        (void)partition_table_free(table, false); /* nothing is open */
        return NULL;
    }
    if (host->shard == 0)
        partition_sweep_deleted(table);
    return table;
}

err_t partition_table_free(struct partition_table *table, bool sync)
{
    if (table == NULL)
        return ERR_OK;
    table->env->timer_stop(table->env->self, &table->open_timer);
    err_t first = sync ? partition_stop_logs(table) : ERR_OK;
    list_for_each_safe (node, after, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        err_t err = partition_forget(p, ERR_NOT_LEADER_OR_FOLLOWER, sync && !p->stopped);
        if (first == ERR_OK)
            first = err;
    }
    partition_deletions_fini(table, sync);
    partition_settling_fini(table, sync);
    partition_hand_out(table);
    ASSERT(heap_top(&table->due) == NULL);
    partition_streams_fini(table);
    for (size_t i = 0; table->manifests != NULL && i < table->env->disk_count; i++)
        if (table->manifests[i] != NULL)
            manifest_close(table->manifests[i]);
    image_unref(table->image);
    heap_fini(&table->due);
    table_fini(&table->by_id);
    free(table->manifests);
    free(table->disk_clean);
    free(table->disk_failed);
    free(table->disk_partitions);
    free(table->found);
    free(table->lost);
    free(table);
    return first;
}

void partition_table_found(struct partition_table *table, const struct partition_found *found,
                           size_t count, const bool *disk_clean)
{
    ASSERT(table->found == NULL);
    for (size_t i = 0; i < table->env->disk_count && disk_clean != NULL; i++)
        table->disk_clean[i] = disk_clean[i];
    if (count == 0)
        return;
    table->found = calloc(count, sizeof(*found));
    ASSERT(table->found != NULL); /* at start, before anything is promised */
    memcpy(table->found, found, count * sizeof(*found));
    table->found_count = count;
    qsort(table->found, count, sizeof(*found), partition_found_order);
}

void partition_table_lost(struct partition_table *table, const struct partition_id *lost,
                          size_t count)
{
    ASSERT(table->lost == NULL);
    if (count == 0)
        return;
    table->lost = calloc(count, sizeof(*lost));
    ASSERT(table->lost != NULL); /* at start, before anything is promised */
    memcpy(table->lost, lost, count * sizeof(*lost));
    table->lost_count = count;
}

void partition_list_once(struct list_node *list, struct list_node *node)
{
    if (list_empty(node))
        list_push_back(list, node);
}

/* ---- parts ---- */

void part_answer(struct partition_table *table, struct part *part, err_t err, const char *sentence)
{
    struct partition *p = partition_find(table, &part->id);
    if (part->owner_state == PART_ANSWERED)
        return;
    if (p != NULL && part->owner_state == PART_WAITS_FETCH)
        p->fetch_count--;
    if (p != NULL && part->owner_state == PART_PARKED)
        p->parked_count--;
    heap_remove(&table->due, &part->due);
    list_remove(&part->waiting);
    part->owner_state = PART_ANSWERED;
    part->err = err;
    part->sentence = sentence;
    if (p != NULL && p->log != NULL) {
        part->log_start = p->replica.log_start;
        part->high_watermark = p->replica.hw;
    }
    if (err == ERR_NOT_LEADER_OR_FOLLOWER || err == ERR_FENCED_LEADER_EPOCH) {
        /* KIP-951. Where we lead ourselves, and lack the lease, we know of nobody better. */
        const struct image_partition *now =
            table->image == NULL ? NULL : image_partition(table->image, &part->id);
        bool other = now != NULL && now->leader != table->host.node;
        part->leader = other ? now->leader : NO_NODE;
        part->leader_epoch = other ? now->leader_epoch : -1;
    }
    list_push_back(&table->answered, &part->waiting);
}

void partition_hand_out(struct partition_table *table)
{
    struct list_node *node;
    while ((node = list_pop_front(&table->answered)) != NULL) {
        struct part *part = list_entry(node, struct part, waiting);
        part->owner_state = PART_NONE;
        table->host.part_done(table->host.self, part);
    }
}

void partition_cancel(struct partition_table *table, struct part *part)
{
    struct partition *p = partition_find(table, &part->id);
    switch ((enum part_state)part->owner_state) {
    case PART_WAITS_PRODUCE: {
        struct replica_event ev = {.type = REPLICA_CANCEL, .err = ERR_CANCELED};
        ASSERT(p != NULL);
        ev.waiter = &((struct produce_part *)part)->waiter;
        partition_step(p, &ev);
        break;
    }
    case PART_WAITS_FETCH:
    case PART_PARKED:
        part_answer(table, part, ERR_CANCELED, NULL);
        break;
    case PART_NONE:
    case PART_ANSWERED:
        break; /* it is on its way back */
    }
    partition_hand_out(table);
}

/* ---- time ---- */

static void tick_parts(struct partition_table *table, uint64_t now_ns)
{
    struct heap_node *top;
    while ((top = heap_top(&table->due)) != NULL && top->key <= now_ns) {
        struct part *part = heap_entry(top, struct part, due);
        struct partition *p = partition_find(table, &part->id);
        heap_remove(&table->due, &part->due);
        ASSERT(p != NULL);
        partition_part_due(p, part);
    }
}

static void tick_replicas(struct partition_table *table, bool gap)
{
    list_for_each_safe (node, after, &table->tick) {
        struct partition *p = list_entry(node, struct partition, tick);
        struct replica_event ev = {.type = REPLICA_TICK, .loop_gap = gap};
        if (p->unreadable)
            partition_end_unreadable(p);
        partition_step(p, &ev);
    }
}

static void fail_on_disk(struct partition *p)
{
    struct replica_event ev = {.type = REPLICA_FAILED};
    p->disk_error = true;
    if (p->log != NULL && !p->replica.failed)
        partition_step(p, &ev);
    else
        partition_tell_failed(p, ERR_KAFKA_STORAGE_ERROR);
}

/* A leader waits for a member of the ISR whose disk is slow no longer than it must: it is told. */
static void tick_slow(struct partition_table *table, uint64_t now_ns)
{
    for (uint32_t i = 0; i < table->env->disk_count; i++) {
        if (!space_turns_slow(&table->env->disks[i], now_ns, &table->slow_until_ns[i]))
            continue;
        list_for_each (node, &table->all) {
            struct partition *p = list_entry(node, struct partition, all);
            if (p->disk != i || p->log == NULL)
                continue;
            p->slow_due = true;
            partition_list_once(&table->delta, &p->delta);
        }
    }
}

/* R14: whatever it was that could not be synced, a name or a checkpoint, and whoever asked for it:
 * the disk takes no more, and nobody knows what of the last is on it. */
static void tick_disks(struct partition_table *table)
{
    for (uint32_t i = 0; i < table->env->disk_count; i++) {
        const struct env_disk *disk = &table->env->disks[i];
        const uint32_t bit = UINT32_C(1) << i;
        if ((table->disks_offline & bit) != 0 || !disk->is_offline(disk->self))
            continue;
        table->disks_offline |= bit;
        table->disk_failed[i] = true;
        list_for_each_safe (node, after, &table->all) {
            struct partition *p = list_entry(node, struct partition, all);
            if (p->disk == i && p->folder[0] != '\0')
                fail_on_disk(p);
        }
    }
}

/* R15: a few at a time, since each may wait for the disk. */
static void tick_checkpoints(struct partition_table *table, uint64_t now_ns)
{
    for (unsigned i = 0; i < CHECKPOINTS_A_TICK && !list_empty(&table->checkpoint); i++) {
        struct partition *p = list_entry(table->checkpoint.next, struct partition, checkpoint);
        if (p->checkpoint_ns > now_ns || (i > 0 && env_now(table->env) > now_ns + CHECKPOINTING_NS))
            return;
        list_remove(&p->checkpoint);
        partition_save_snapshot(p, SNAPSHOT_STEP_BYTES);
        err_t err = log_checkpoint(p->log);
        if (err != ERR_OK)
            log_warn("%s: the checkpoint was not written: %s", p->folder, err_sentence(err));
    }
}

void partition_tick(struct partition_table *table, uint64_t now_ns)
{
    /* A process that was stopped saw nothing of what came meanwhile. */
    bool gap = now_ns - table->last_tick_ns > LOOP_GAP_NS;
    table->last_tick_ns = now_ns;
    partition_check_ready(table);
    tick_disks(table);
    partition_sweep_strays(table, now_ns);
    partition_delete_some(table);
    partition_settle_some(table);
    partition_open_again(table);
    tick_slow(table, now_ns);
    tick_parts(table, now_ns);
    tick_replicas(table, gap);
    tick_checkpoints(table, now_ns);
    partition_keepalive(table, now_ns);
    partition_expire_deltas(table, now_ns);
    partition_hand_out(table);
}

void partition_turn_ended(struct partition_table *table)
{
    struct list_node *node;
    table->made_in_turn = 0;
    while ((node = list_pop_front(&table->flush)) != NULL)
        log_flush(list_entry(node, struct partition, flush)->log);
    partition_send_data(table);
    partition_send_deltas(table);
}

/* ---- for checkers ---- */

bool partition_look(const struct partition_table *table, const struct partition_id *id,
                    struct partition_view *ret_view)
{
    const struct partition *p = partition_find(table, id);
    if (p == NULL || !list_empty(&p->opening))
        return false;
    const struct replica *r = &p->replica;
    if (p->log == NULL) {
        *ret_view = (struct partition_view){.id = *id, .failed = true};
        return true;
    }
    *ret_view = (struct partition_view){
        .id = *id,
        .leading = r->role == REPLICA_LEADER && !r->failed,
        .following = r->role == REPLICA_FOLLOWER && r->leader >= 0 && !r->failed && !r->stopped,
        .failed = r->failed || r->stopped,
        .leader_epoch = r->leader_epoch,
        .partition_epoch = r->partition_epoch,
        .log_start = r->log_start,
        .end = r->end,
        .flushed_end = r->flushed_end,
        .high_watermark = r->hw,
        .truncations = r->truncations,
        .isr_shrinks = r->isr_shrinks,
        .isr_growths = r->isr_growths,
        .torn = p->torn,
    };
    return true;
}

size_t partition_count(const struct partition_table *table)
{
    return table_count(&table->by_id);
}

bool partition_log_end(const struct partition_table *table, const struct partition_id *id,
                       leader_epoch_t *ret_last_epoch, offset_t *ret_end)
{
    const struct partition *p = partition_find(table, id);
    if (p == NULL || p->log == NULL || p->replica.failed || p->replica.stopped)
        return false;
    *ret_last_epoch = log_last_epoch(p->log);
    *ret_end = log_end(p->log);
    return true;
}

struct log *partition_log(const struct partition_table *table, const struct partition_id *id)
{
    const struct partition *p = partition_find(table, id);
    return p == NULL ? NULL : p->log;
}
