#include <stdlib.h>
#include <string.h>

#include "shard/partition_internal.h"

/* ---- life of one partition ---- */

static struct partition *partition_add(struct partition_table *table, const struct partition_id *id)
{
    struct partition *p = calloc(1, sizeof(*p));
    ASSERT(p != NULL); /* without room for its partitions a broker can't go on */
    p->id = *id;
    p->table = table;
    struct list_node *nodes[] = {&p->all,        &p->fetches, &p->parked, &p->following,
                                 &p->flush,      &p->serve,   &p->delta,  &p->tick,
                                 &p->checkpoint, &p->opening, &p->fresh};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        list_init(nodes[i]);
    struct bytes key = {(const uint8_t *)&p->id, sizeof(p->id)};
    err_t err = table_put_bytes(&table->by_id, key, p);
    ASSERT(err == ERR_OK);
    list_push_back(&table->all, &p->all);
    return p;
}

static void answer_all(struct partition_table *table, struct list_node *parts, err_t err)
{
    while (!list_empty(parts))
        part_answer(table, list_entry(parts->next, struct part, waiting), err, NULL);
}

static err_t partition_close_log(struct partition *p, err_t err, bool sync)
{
    struct partition_table *table = p->table;
    struct replica_event ev = {.type = REPLICA_CLOSE, .err = err};
    if (p->log == NULL)
        return ERR_OK;
    partition_step(p, &ev);
    partition_forget_ways(p);
    if (sync)
        partition_save_snapshot(p, SNAPSHOT_STOP_BYTES);
    replica_fini(&p->replica);
    err_t closed = log_close(p->log, sync);
    if (closed != ERR_OK)
        log_warn("%s: not all of it is on the disk: %s", p->folder, err_sentence(closed));
    p->log = NULL;
    table->disk_partitions[p->disk]--;
    return closed;
}

err_t partition_forget(struct partition *p, err_t err, bool sync)
{
    struct partition_table *table = p->table;
    answer_all(table, &p->fetches, err);
    answer_all(table, &p->parked, err);
    err_t closed = partition_close_log(p, err, sync);
    partition_not_fresh(p);
    struct list_node *nodes[] = {&p->all,   &p->following, &p->flush,      &p->serve,
                                 &p->delta, &p->tick,      &p->checkpoint, &p->opening};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        list_remove(nodes[i]);
    struct bytes key = {(const uint8_t *)&p->id, sizeof(p->id)};
    (void)table_remove_bytes(&table->by_id, key); /* the same as p */
    free(p);
    return closed;
}

void partition_forget_found(struct partition_table *table, const struct partition_id *id)
{
    const struct partition_found *found = partition_find_folder(table, id);
    if (found == NULL)
        return;
    size_t at = (size_t)(found - table->found);
    memmove(&table->found[at], &table->found[at + 1],
            (--table->found_count - at) * sizeof(table->found[0]));
}

static void partition_delete(struct partition *p)
{
    struct partition_table *table = p->table;
    const struct partition_found *found = partition_find_folder(table, &p->id);
    struct partition_id id = p->id;
    struct partition_found folder = {.disk = p->disk};
    if (p->log != NULL)
        memcpy(folder.folder, p->folder, FOLDER_SIZE);
    if (found != NULL) { /* also one that is not open: not yet, or because it is broken */
        folder = *found;
        partition_forget_found(table, &id);
    }
    partition_tell_failed(p, ERR_OK);
    (void)partition_forget(p, ERR_UNKNOWN_TOPIC_OR_PARTITION, false); /* it goes anyway */
    if (folder.folder[0] != 0)
        partition_delete_folder(table, folder.disk, folder.folder, &id);
}

/* ---- what the image says ---- */

static bool flush_before_ack(const struct partition_table *table, const struct image_topic *topic)
{
    const char *value = image_topic_config(table->image, topic, "flush.before.ack");
    return value == NULL ? table->options.flush_before_ack : strcmp(value, "true") == 0;
}

static void partition_lead_or_follow(struct partition *p, const struct image_topic *topic,
                                     const struct image_partition *partition)
{
    struct partition_table *table = p->table;
    struct replica_peer peers[REPLICAS_MAX];
    for (uint8_t i = 0; i < partition->replica_count; i++) {
        const struct image_broker *broker = image_broker(table->image, partition->replicas[i]);
        peers[i].broker_epoch = broker == NULL ? -1 : broker->epoch;
        peers[i].active = broker != NULL && broker->state == BROKER_STATE_ACTIVE;
    }
    struct replica_event ev = {.type = REPLICA_LEADERSHIP};
    ev.leadership = (struct replica_leadership){
        .partition = partition,
        .peers = peers,
        .min_insync = (int32_t)image_topic_config_int(table->image, topic, "min.insync.replicas",
                                                      table->options.min_insync_replicas),
        .flush_before_ack = flush_before_ack(table, topic),
        .session = table->session,
    };
    enum replica_role role = p->replica.role;
    leader_epoch_t epoch = p->replica.leader_epoch;
    partition_step(p, &ev);
    if (p->replica.role != role || p->replica.leader_epoch != epoch) {
        partition_forget_ways(p);
        partition_link_leader(p);
        partition_wake_fetches(p);
    }
    if (!p->replica.failed && !p->replica.stopped)
        partition_tell_failed(p, ERR_OK); /* one that would have had to cut too deep begins anew */
    partition_unpark(p);
}

static void open_later(struct partition *p, bool leads)
{
    struct partition_table *table = p->table;
    if (list_empty(&table->opening))
        table->env->timer_start(table->env->self, &table->open_timer, env_now(table->env));
    if (leads)
        list_push_front(&table->opening, &p->opening); /* somebody waits for it */
    else
        list_push_back(&table->opening, &p->opening);
}

static void open_and_act(struct partition *p, const struct image_topic *topic,
                         const struct image_partition *partition)
{
    struct partition_table *table = p->table;
    struct partition_id id = p->id;
    if (p->log == NULL)
        partition_open(p, topic, image_partition_in_isr(partition, table->host.node));
    if (p->log != NULL)
        partition_lead_or_follow(p, topic, partition);
    partition_unpark_deltas(table, &id);
}

static void apply_one(struct partition_table *table, const struct partition_id *id)
{
    const struct image_topic *topic = image_topic(table->image, &id->topic);
    const struct image_partition *partition = image_partition(table->image, id);
    struct partition *p = partition_find(table, id);
    node_id_t node = table->host.node;
    if (partition == NULL || topic == NULL) {
        if (p != NULL)
            partition_delete(p);
        return;
    }
    if (image_partition_replica_index(partition, node) < 0) {
        if (p != NULL) {
            log_info("%s: no replica of this broker any more: left alone", p->folder);
            partition_tell_failed(p, ERR_OK);
            (void)partition_forget(p, ERR_NOT_LEADER_OR_FOLLOWER, false); /* nobody needs it */
        }
        return;
    }
    if (p == NULL) {
        p = partition_add(table, id);
        bool found = partition_find_folder(table, id) != NULL;
        if (found || table->made_in_turn++ >= OPENED_AT_ONCE_MAX)
            open_later(p, partition->leader == node);
    }
    if (list_empty(&p->opening))
        open_and_act(p, topic, partition);
}

void partition_open_some(struct env_timer *timer, uint64_t now_ns)
{
    struct partition_table *table = container_of(timer, struct partition_table, open_timer);
    struct list_node *node;
    if (!table->ready)
        return; /* partition_check_ready goes on with it */
    for (unsigned i = 0; i < OPENED_AT_ONCE_MAX; i++) {
        if (i > 0 && env_now(table->env) > now_ns + OPENING_NS)
            break;
        node = list_pop_front(&table->opening);
        if (node == NULL)
            break;
        struct partition_id id = list_entry(node, struct partition, opening)->id;
        apply_one(table, &id);
    }
    if (!list_empty(&table->opening))
        table->env->timer_start(table->env->self, timer, env_now(table->env));
    partition_hand_out(table);
}

static bool is_own(const struct partition_table *table, const struct partition_id *id)
{
    return partition_shard(id, table->host.shards) == table->host.shard;
}

static void apply_topic(void *context, const struct image_topic *topic)
{
    struct partition_table *table = context;
    for (int32_t i = 0; i < topic->partition_count; i++) {
        struct partition_id id = {topic->id, i};
        if (is_own(table, &id))
            apply_one(table, &id);
    }
}

void partition_apply_all(struct partition_table *table)
{
    image_each_topic(table->image, apply_topic, table);
    list_for_each_safe (node, after, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        if (image_partition(table->image, &p->id) == NULL)
            partition_delete(p);
    }
    partition_judge_strays(table);
}

/* False: it is still not open, and goes behind the others. */
static bool open_again(struct partition_table *table, struct partition *p)
{
    struct partition_id id = p->id;
    apply_one(table, &id);
    p = partition_find(table, &id);
    if (p == NULL || p->log != NULL)
        return true;
    list_remove(&p->all);
    list_push_back(&table->all, &p->all);
    return false;
}

void partition_open_again(struct partition_table *table)
{
    const uint64_t until_ns = env_now(table->env) + OPENING_NS;
    const struct list_node *first_failed = NULL;
    unsigned failed = 0;
    if (!table->name_taken || !table->ready)
        return;
    table->name_taken = false;
    list_for_each_safe (node, after, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        bool passing =
            p->open_err == ERR_INCONSISTENT_TOPIC_ID || p->open_err == ERR_NOT_ENOUGH_SPACE;
        if (node == first_failed)
            return; /* all were tried */
        if (p->log != NULL || !passing)
            continue;
        if (failed == OPENED_AT_ONCE_MAX || env_now(table->env) > until_ns) {
            table->name_taken = true; /* the next tick goes on */
            return;
        }
        if (open_again(table, p))
            continue;
        failed++;
        if (first_failed == NULL)
            first_failed = node;
    }
}

/* Another broker registered, or may join or not: its epoch and state are part of what leaders know.
 */
static void apply_broker(struct partition_table *table, node_id_t node)
{
    list_for_each_safe (at, after, &table->all) {
        struct partition *p = list_entry(at, struct partition, all);
        const struct image_partition *partition = image_partition(table->image, &p->id);
        bool concerned = partition != NULL && p->log != NULL && p->replica.role == REPLICA_LEADER &&
                         image_partition_replica_index(partition, node) >= 0;
        if (concerned)
            apply_one(table, &p->id);
    }
}

/* ---- registration ---- */

static bool registration_applied(const struct partition_table *table)
{
    broker_epoch_t epoch = table->host.broker_epoch(table->host.self);
    if (epoch < 0 || table->image == NULL)
        return false;
    const struct image_broker *broker = image_broker(table->image, table->host.node);
    return broker != NULL && broker->epoch == epoch;
}

/* Another process has registered under this node's id: nothing is led or followed any more. */
static void become_idle(struct partition_table *table)
{
    list_for_each_safe (node, after, &table->all) {
        struct partition *p = list_entry(node, struct partition, all);
        struct replica_event ev = {.type = REPLICA_LEADERSHIP};
        if (p->log == NULL)
            continue;
        partition_step(p, &ev);
        partition_forget_ways(p);
        partition_link_leader(p);
        partition_wake_fetches(p);
    }
}

void partition_check_ready(struct partition_table *table)
{
    bool ready = registration_applied(table);
    broker_epoch_t epoch = table->host.broker_epoch(table->host.self);
    if (ready == table->ready && (!ready || epoch == table->broker_epoch))
        return;
    table->ready = ready;
    table->broker_epoch = epoch;
    /* R2, R21: before the image has this process's registration, it tells of the life before: what
     * was led then is not led on, and no folder is judged. */
    if (!ready) {
        become_idle(table);
        return;
    }
    partition_apply_all(table);
    if (!list_empty(&table->opening))
        table->env->timer_start(table->env->self, &table->open_timer, env_now(table->env));
}

void partition_table_apply(struct partition_table *table, struct image *image,
                           const struct image_difference *difference)
{
    bool was_ready = table->ready;
    struct image *before = table->image;
    table->image = image_ref(image);
    image_unref(before);
    partition_check_ready(table);
    if (was_ready && table->ready) {
        for (size_t i = 0; i < difference->partition_count; i++)
            if (is_own(table, &difference->partitions[i]))
                apply_one(table, &difference->partitions[i]);
        for (size_t i = 0; i < difference->topic_count; i++) {
            const struct image_topic *topic = image_topic(image, &difference->topics[i]);
            if (topic != NULL)
                apply_topic(table, topic);
        }
        for (size_t i = 0; i < difference->broker_count; i++)
            apply_broker(table, difference->brokers[i]);
    }
    partition_delete_some(table);
    partition_hand_out(table);
}
