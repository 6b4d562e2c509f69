#include "base/canary.h"
#include "shard/partition_internal.h"

enum { LOOK_BYTES_MIN = 4096, LOOKS = 8 };

/* ---- arriving, waiting ---- */

static void part_arrives(struct part *part)
{
    list_init(&part->waiting);
    part->due = (struct heap_node){0};
    part->owner_state = PART_NONE;
    part->err = ERR_OK;
    part->sentence = NULL;
    part->leader = NO_NODE;
    part->leader_epoch = -1;
    part->log_start = -1;
    part->high_watermark = -1;
}

/* False: there is no memory for the deadline. */
static bool part_waits(struct partition_table *table, struct part *part, enum part_state state)
{
    part->due.key = part->deadline_ns;
    part->due.sequence = table->due_sequence++;
    if (heap_push(&table->due, &part->due) != ERR_OK)
        return false;
    part->owner_state = (uint8_t)state;
    return true;
}

static void answer_unknown(struct partition_table *table, struct part *part)
{
    bool exists = table->image != NULL && image_partition(table->image, &part->id) != NULL;
    part_answer(table, part, exists ? ERR_NOT_LEADER_OR_FOLLOWER : ERR_UNKNOWN_TOPIC_OR_PARTITION,
                NULL);
}

static void answer_unopened(struct partition *p, struct part *part)
{
    struct partition_table *table = p->table;
    const struct image_partition *now = image_partition(table->image, &p->id);
    if (list_empty(&p->opening)) {
        part_answer(table, part, ERR_KAFKA_STORAGE_ERROR, NULL);
        return;
    }
    list_remove(&p->opening); /* the next one: somebody will ask again */
    list_push_front(&table->opening, &p->opening);
    if (now != NULL && now->leader == table->host.node)
        part_answer(table, part, ERR_LEADER_NOT_AVAILABLE, "the leader still opens its log");
    else
        part_answer(table, part, ERR_NOT_LEADER_OR_FOLLOWER, NULL);
}

/* R30: an epoch that this shard's image has not reached. Bounded by waiters_max. */
static bool park(struct partition *p, struct part *part)
{
    struct partition_table *table = p->table;
    if (part->leader_epoch_asked <= p->replica.leader_epoch ||
        CANARY("shard_answers_by_an_old_image"))
        return false;
    if (p->parked_count >= table->options.waiters_max || !part_waits(table, part, PART_PARKED)) {
        part_answer(table, part, ERR_UNKNOWN_LEADER_EPOCH, NULL);
        return true;
    }
    p->parked_count++;
    list_push_back(&p->parked, &part->waiting);
    return true;
}

/* The partition, when the part can be looked at now; else it is answered or parked. */
static struct partition *part_admit(struct partition_table *table, struct part *part)
{
    struct partition *p = partition_find(table, &part->id);
    part_arrives(part);
    if (p == NULL) {
        answer_unknown(table, part);
        return NULL;
    }
    if (p->log == NULL) {
        answer_unopened(p, part);
        return NULL;
    }
    return park(p, part) ? NULL : p;
}

static bool lease_now(const struct partition *p)
{
    const struct partition_host *host = &p->table->host;
    return host->lease_valid(host->self, env_now(p->table->env));
}

/* ---- produce ---- */

static err_t produce_check_batch(const struct batch_info *info, uint32_t bytes_max)
{
    if (info->bytes > bytes_max)
        return ERR_MESSAGE_TOO_LARGE;
    if ((info->attributes & (BATCH_CONTROL | BATCH_TRANSACTIONAL)) != 0)
        return ERR_INVALID_RECORD; /* only coordinators write these */
    return info->record_count > 0 ? ERR_OK : ERR_INVALID_RECORD;
}

/* Fills the table's infos. */
static err_t produce_check(struct partition *p, const struct produce_part *part,
                           uint32_t *ret_count)
{
    struct partition_table *table = p->table;
    const struct image_topic *topic = image_topic(table->image, &p->id.topic);
    uint32_t bytes_max = table->options.message_bytes_max;
    if (topic != NULL)
        bytes_max =
            (uint32_t)image_topic_config_int(table->image, topic, "max.message.bytes", bytes_max);
    uint32_t count = 0;
    int64_t records = 0;
    for (uint32_t at = 0; at < part->bytes;) {
        if (count == PRODUCE_BATCHES_MAX)
            return ERR_RECORD_LIST_TOO_LARGE;
        struct batch_info *info = &table->infos[count++];
        err_t err = batch_check(part->records + at, part->bytes - at, info);
        if (err == ERR_OK)
            err = produce_check_batch(info, bytes_max);
        if (err != ERR_OK)
            return err == ERR_SHORT ? ERR_CORRUPT_MESSAGE : err;
        at += info->bytes;
        records += info->record_count;
    }
    *ret_count = count;
    if (records > INT32_MAX)
        return ERR_RECORD_LIST_TOO_LARGE; /* more than one log_append takes */
    return count > 0 ? ERR_OK : ERR_INVALID_RECORD;
}

static void produce_step(struct partition *p, struct produce_part *part, uint32_t count)
{
    struct partition_table *table = p->table;
    struct replica_event ev = {.type = REPLICA_PRODUCE};
    table->append = (struct append_context){
        .patch = part->records,
        .bytes = part->records,
        .len = part->bytes,
        .batch_count = count,
    };
    part->waiter.acks = part->acks;
    ev.produce = (struct replica_produce){table->infos, count, &part->waiter};
    partition_step(p, &ev);
    table->append = (struct append_context){0};
    /* Without memory for its deadline it waits as long as it takes; its request ends in time. */
    if (part->waiter.waiting && !part_waits(table, &part->part, PART_WAITS_PRODUCE))
        part->part.owner_state = PART_WAITS_PRODUCE;
}

static void produce_try(struct partition *p, struct produce_part *part)
{
    struct partition_table *table = p->table;
    uint32_t count = 0;
    err_t err = replica_check_leader(&p->replica, lease_now(p)); /* before the CRC's work */
    if (err == ERR_OK && part->bytes > table->options.segment_bytes)
        err = ERR_RECORD_LIST_TOO_LARGE;
    if (err == ERR_OK)
        err = produce_check(p, part, &count);
    if (err != ERR_OK)
        part_answer(table, &part->part, err, NULL);
    else
        produce_step(p, part, count);
}

void partition_produce(struct partition_table *table, struct produce_part *part)
{
    part->base_offset = -1;
    struct partition *p = part_admit(table, &part->part);
    if (p != NULL)
        produce_try(p, part);
    partition_hand_out(table);
}

/* ---- fetch ---- */

/* Is what was read all that there is below the limit? Else it was cut by its size. */
static bool reaches(const struct frame *records, offset_t limit)
{
    struct batch_info info = {.last_offset = limit - 1};
    uint32_t at = 0;
    while (at < records->used &&
           batch_peek(records->bytes + at, records->used - at, &info) == ERR_OK)
        at += info.bytes;
    return info.last_offset + 1 >= limit;
}

static err_t fetch_read(struct partition *p, const struct fetch_part *part, offset_t limit,
                        struct frame **ret_records)
{
    struct frame_budget *budget = p->table->host.read_budget;
    struct log_read_args args = {
        .offset = part->offset, .limit = limit, .bytes_max = part->bytes_max, .budget = budget};
    *ret_records = NULL;
    /* Many slow readers hold what was read for them: others wait, the memory is bounded. */
    if (budget != NULL &&
        atomic_load_explicit(&budget->used, memory_order_relaxed) > budget->bytes_max)
        return ERR_THROTTLING_QUOTA_EXCEEDED;
    err_t err = log_read(p->log, &args, ret_records);
    partition_was_read(p, part->offset, err);
    return err == ERR_IO ? ERR_KAFKA_STORAGE_ERROR : err;
}

/* Of many partitions the first ones may bring all that the reply takes: the others are not read in
 * vain, by whichever shard. */
static bool fetch_has_room(const struct fetch_part *part)
{
    const struct request *request = part->part.request;
    size_t taken = atomic_load_explicit(&request->bytes_read, memory_order_relaxed);
    return taken == 0 || taken < request->bytes_max;
}

/* It waits for more than can have come since it last looked. What lay above the limit then may have
 * come below it meanwhile, nobody knows how much: it looks a few times before there is enough, and
 * when all is below it; who lacks little looks each time. */
static bool fetch_is_early(const struct partition *p, const struct fetch_part *part, offset_t limit)
{
    uint64_t now = log_bytes(p->log), wanted = part->lacks;
    if (part->part.owner_state != PART_WAITS_FETCH || now < part->log_bytes)
        return false;
    if (!part->saw_all)
        wanted = limit == p->replica.end || wanted < LOOK_BYTES_MIN ? 0 : wanted / LOOKS;
    return now - part->log_bytes < wanted;
}

static void fetch_note(const struct partition *p, struct fetch_part *part, offset_t limit,
                       const struct frame *records)
{
    part->log_bytes = log_bytes(p->log);
    part->lacks = part->bytes_min - (records == NULL ? 0 : records->used);
    part->saw_all = limit == p->replica.end;
}

/* True when it is answered. last: it gets what there is. */
static bool fetch_try(struct partition *p, struct fetch_part *part, bool last)
{
    struct partition_table *table = p->table;
    offset_t limit;
    if (part->part.leader_epoch_asked >= 0 &&
        part->part.leader_epoch_asked < p->replica.leader_epoch) {
        part_answer(table, &part->part, ERR_FENCED_LEADER_EPOCH, NULL);
        return true;
    }
    err_t err = replica_check_fetch(&p->replica, part->offset, lease_now(p), &limit);
    struct frame *records = NULL;
    bool room = fetch_has_room(part);
    if (err == ERR_OK && room && !last && fetch_is_early(p, part, limit))
        return false;
    if (err == ERR_OK && room && part->offset < limit)
        err = fetch_read(p, part, limit, &records);
    if (err != ERR_OK) {
        part_answer(table, &part->part, err, NULL);
        return true;
    }
    bool enough = records != NULL && (records->used >= part->bytes_min || !reaches(records, limit));
    if (room && !enough && !last && part->bytes_min > 0) {
        fetch_note(p, part, limit, records);
        frame_unref(records);
        return false;
    }
    part->records = records;
    if (records != NULL)
        atomic_fetch_add_explicit(&part->part.request->bytes_read, records->used,
                                  memory_order_relaxed);
    part_answer(table, &part->part, ERR_OK, NULL);
    return true;
}

static void fetch_begin(struct partition *p, struct fetch_part *part)
{
    struct partition_table *table = p->table;
    bool late = part->part.deadline_ns <= env_now(table->env);
    bool full = p->fetch_count >= table->options.waiters_max;
    if (fetch_try(p, part, late || full))
        return;
    if (!part_waits(table, &part->part, PART_WAITS_FETCH)) {
        (void)fetch_try(p, part, true);
        return;
    }
    p->fetch_count++;
    list_push_back(&p->fetches, &part->part.waiting);
}

void partition_fetch(struct partition_table *table, struct fetch_part *part)
{
    part->records = NULL;
    struct partition *p = part_admit(table, &part->part);
    if (p != NULL)
        fetch_begin(p, part);
    partition_hand_out(table);
}

void partition_wake_fetches(struct partition *p)
{
    list_for_each_safe (node, after, &p->fetches) {
        struct part *part = list_entry(node, struct part, waiting);
        (void)fetch_try(p, container_of(part, struct fetch_part, part), false);
    }
}

/* ---- offsets ---- */

static err_t list_offsets_by_time(struct partition *p, struct list_offsets_part *part,
                                  offset_t latest)
{
    offset_t offset;
    int64_t timestamp;
    err_t err = log_find_time(p->log, part->timestamp, latest, &offset, &timestamp);
    if (err == ERR_OK) {
        part->offset = offset;
        part->found_timestamp = timestamp;
    }
    return err == ERR_NOT_FOUND ? ERR_OK : err; /* none so late: offset -1, as Kafka's */
}

static err_t list_offsets_find(struct partition *p, struct list_offsets_part *part)
{
    offset_t latest;
    bool lease = lease_now(p);
    if (part->part.leader_epoch_asked >= 0 &&
        part->part.leader_epoch_asked < p->replica.leader_epoch)
        return ERR_FENCED_LEADER_EPOCH;
    if (part->timestamp == -2) { /* earliest */
        err_t err = replica_check_leader(&p->replica, lease);
        if (err == ERR_OK)
            part->offset = p->replica.log_start;
        return err;
    }
    err_t err = replica_check_latest(&p->replica, lease, &latest);
    if (err != ERR_OK)
        return err;
    if (part->timestamp != -1)
        return part->timestamp < 0 ? ERR_INVALID_TIMESTAMP : list_offsets_by_time(p, part, latest);
    part->offset = latest;
    return ERR_OK;
}

static void list_offsets_try(struct partition *p, struct list_offsets_part *part)
{
    err_t err = list_offsets_find(p, part);
    part_answer(p->table, &part->part, err, NULL);
    if (err == ERR_OK)
        part->part.leader_epoch = p->replica.leader_epoch;
}

void partition_list_offsets(struct partition_table *table, struct list_offsets_part *part)
{
    part->offset = -1;
    part->found_timestamp = -1;
    struct partition *p = part_admit(table, &part->part);
    if (p != NULL)
        list_offsets_try(p, part);
    partition_hand_out(table);
}

/* ---- epochs ---- */

static void epoch_end_try(struct partition *p, struct epoch_end_part *part)
{
    err_t err = replica_check_leader(&p->replica, lease_now(p));
    if (err == ERR_OK && part->part.leader_epoch_asked >= 0 &&
        part->part.leader_epoch_asked < p->replica.leader_epoch)
        err = ERR_FENCED_LEADER_EPOCH;
    if (err == ERR_OK)
        log_epoch_end(p->log, part->asked, &part->epoch, &part->end);
    part_answer(p->table, &part->part, err, NULL);
}

void partition_epoch_end(struct partition_table *table, struct epoch_end_part *part)
{
    part->epoch = -1;
    part->end = -1;
    struct partition *p = part_admit(table, &part->part);
    if (p != NULL)
        epoch_end_try(p, part);
    partition_hand_out(table);
}

/* ---- after waiting ---- */

static void part_try_again(struct partition *p, struct part *part)
{
    switch (part->request->type) {
    case REQUEST_PRODUCE:
        produce_try(p, container_of(part, struct produce_part, part));
        break;
    case REQUEST_FETCH:
        fetch_begin(p, container_of(part, struct fetch_part, part));
        break;
    case REQUEST_LIST_OFFSETS:
        list_offsets_try(p, container_of(part, struct list_offsets_part, part));
        break;
    case REQUEST_EPOCH_END_OFFSET:
        epoch_end_try(p, container_of(part, struct epoch_end_part, part));
        break;
    case REQUEST_LOCAL:
    case REQUEST_CALL:
        ASSERT(!"a part of a request that has none");
    }
}

void partition_unpark(struct partition *p)
{
    struct list_node waited;
    list_init(&waited);
    list_for_each_safe (node, after, &p->parked) {
        struct part *part = list_entry(node, struct part, waiting);
        if (part->leader_epoch_asked > p->replica.leader_epoch)
            continue;
        list_remove(node);
        list_push_back(&waited, node);
    }
    struct list_node *node;
    while ((node = list_pop_front(&waited)) != NULL) {
        struct part *part = list_entry(node, struct part, waiting);
        heap_remove(&p->table->due, &part->due);
        p->parked_count--;
        part->owner_state = PART_NONE;
        part_try_again(p, part);
    }
}

void partition_part_due(struct partition *p, struct part *part)
{
    struct replica_event ev = {.type = REPLICA_CANCEL};
    switch ((enum part_state)part->owner_state) {
    case PART_WAITS_FETCH:
        (void)fetch_try(p, container_of(part, struct fetch_part, part), true);
        break;
    case PART_WAITS_PRODUCE:
        ev.err = replica_timeout(&p->replica);
        ev.waiter = &container_of(part, struct produce_part, part)->waiter;
        partition_step(p, &ev);
        break;
    case PART_PARKED:
        part_answer(p->table, part, ERR_UNKNOWN_LEADER_EPOCH, NULL);
        break;
    case PART_NONE:
    case PART_ANSWERED:
        break;
    }
}
