/* The played partitions: what partition.h promises, without logs. */
#include <stdlib.h>

#include "lib/shard_lab.h"

struct partition_table *partition_table_new(const struct partition_host *host,
                                            const struct partition_options *options)
{
    (void)options;
    struct partition_table *table = calloc(1, sizeof(*table));
    ASSERT(table != NULL);
    table->host = *host;
    list_init(&table->held);
    return table;
}

static void fake_answer(struct partition_table *table, struct part *part, err_t err)
{
    list_remove(&part->waiting);
    part->err = err;
    if (err == ERR_OK) {
        part->high_watermark = table->next_offset;
        part->log_start = 0;
        part->leader_epoch = 0;
    }
    table->host.part_done(table->host.self, part);
}

static void fake_end_all(struct partition_table *table, err_t err)
{
    struct list_node *node;
    while ((node = table->held.next) != &table->held)
        fake_answer(table, list_entry(node, struct part, waiting), err);
}

err_t partition_table_free(struct partition_table *table, bool sync)
{
    (void)sync;
    err_t err = table->free_err;
    fake_end_all(table, ERR_NOT_LEADER_OR_FOLLOWER);
    free(table);
    return err;
}

void partition_table_lost(struct partition_table *table, const struct partition_id *lost,
                          size_t count)
{
    for (size_t i = 0; i < count; i++)
        ASSERT(partition_shard(&lost[i], table->host.shards) == table->host.shard);
}

void partition_table_found(struct partition_table *table, const struct partition_found *found,
                           size_t count, const bool *disk_clean)
{
    (void)disk_clean;
    for (size_t i = 0; i < count; i++)
        ASSERT(partition_shard(&found[i].id, table->host.shards) == table->host.shard);
}

void partition_table_apply(struct partition_table *table, struct image *image,
                           const struct image_difference *difference)
{
    ASSERT(image != NULL);
    ASSERT(difference != NULL);
    table->applied++;
}

static void fake_own(const struct partition_table *table, const struct part *part)
{
    ASSERT(partition_shard(&part->id, table->host.shards) == table->host.shard);
}

void partition_produce(struct partition_table *table, struct produce_part *part)
{
    fake_own(table, &part->part);
    if (table->produced < FAKE_ROWS_MAX && part->bytes > 0)
        table->order[table->produced] = part->records[0];
    table->produced++;
    list_push_back(&table->held, &part->part.waiting);
    part->base_offset = table->next_offset++;
    if (!table->hold)
        fake_answer(table, &part->part, table->err);
}

static void fake_fill(const struct partition_table *table, struct fetch_part *part)
{
    part->records = frame_new(table->record_bytes);
    ASSERT(part->records != NULL);
    part->records->used = table->record_bytes;
    memset(part->records->bytes, (int)(0x40 + part->part.id.index), table->record_bytes);
}

void partition_fetch(struct partition_table *table, struct fetch_part *part)
{
    fake_own(table, &part->part);
    table->fetched++;
    list_push_back(&table->held, &part->part.waiting);
    if (table->record_bytes > 0)
        fake_fill(table, part);
    if (table->record_bytes > 0 || part->bytes_min == 0 || table->err != ERR_OK)
        fake_answer(table, &part->part, table->err);
}

void partition_list_offsets(struct partition_table *table, struct list_offsets_part *part)
{
    fake_own(table, &part->part);
    list_push_back(&table->held, &part->part.waiting);
    part->offset = part->timestamp == -1 ? 77 : 0;
    fake_answer(table, &part->part, table->err);
}

void partition_epoch_end(struct partition_table *table, struct epoch_end_part *part)
{
    fake_own(table, &part->part);
    list_push_back(&table->held, &part->part.waiting);
    part->epoch = part->asked;
    part->end = 99;
    fake_answer(table, &part->part, table->err);
}

void partition_cancel(struct partition_table *table, struct part *part)
{
    fake_own(table, part);
    table->canceled++;
    fake_answer(table, part, ERR_CANCELED);
}

void partition_delta(struct partition_table *table, struct replica_delta *delta)
{
    ASSERT(partition_shard(&delta->id, table->host.shards) == table->host.shard);
    table->deltas++;
    table->last_delta = *delta;
}

void partition_data(struct partition_table *table, const struct replica_data *data)
{
    table->data++;
    table->last_data = *data;
    table->last_byte = data->bytes > 0 ? data->records[data->bytes - 1] : 0;
}

void partition_stream_lost(struct partition_table *table, node_id_t leader, err_t err)
{
    (void)leader;
    ASSERT(err != ERR_OK);
    table->lost++;
}

void partition_follower_gone(struct partition_table *table, unsigned via_shard, env_conn conn)
{
    ASSERT(table->last_delta.via_shard == via_shard);
    ASSERT(env_conn_equal(table->last_delta.conn, conn));
    table->gone++;
}

void partition_altered(struct partition_table *table, const struct partition_id *id,
                       const Karst__AlterPartitionItemReply *item)
{
    ASSERT(item->index == id->index);
    table->altered++;
}

bool partition_log_end(const struct partition_table *table, const struct partition_id *id,
                       leader_epoch_t *ret_last_epoch, offset_t *ret_end)
{
    (void)table;
    *ret_last_epoch = 3;
    *ret_end = 100 + id->index;
    return id->index != 3; /* that one is not open */
}

void partition_alter_failed(struct partition_table *table, const struct partition_id *id, err_t err)
{
    (void)id;
    ASSERT(err != ERR_OK);
    table->alter_failed++;
}

void partition_turn_ended(struct partition_table *table)
{
    table->turns++;
}

void partition_tick(struct partition_table *table, uint64_t now_ns)
{
    list_for_each_safe (node, after, &table->held) {
        struct part *part = list_entry(node, struct part, waiting);
        if (now_ns >= part->deadline_ns && !table->stuck)
            fake_answer(table, part,
                        part->request->type == REQUEST_FETCH ? ERR_OK : ERR_REQUEST_TIMED_OUT);
    }
}

struct partition_table *fake_table(struct lab *lab, unsigned node, unsigned shard)
{
    return shard_partitions(lab->nodes[node].shards[shard]);
}

void fake_release(struct partition_table *table)
{
    table->hold = false;
    table->stuck = false;
    fake_end_all(table, table->err);
}

unsigned fake_held(const struct partition_table *table)
{
    unsigned count = 0;
    list_for_each (node, &table->held)
        count++;
    return count;
}
