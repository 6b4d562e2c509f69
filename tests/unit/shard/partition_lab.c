#include "unit/shard/partition_lab.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "log/log.h"
#include "log/log_dir.h"
#include "wire/wire.h"

enum { LAB_TOPIC = 77 };

/* ---- env ---- */

static uint64_t lab_mono(void *self)
{
    const struct lab_node *node = self;
    return node->lab->now_ns;
}

static int64_t lab_wall(void *self)
{
    const struct lab_node *node = self;
    return (int64_t)(node->lab->now_ns / 1000000);
}

static uint64_t lab_random(void *self)
{
    struct lab_node *node = self;
    return rng_next(&node->lab->rng);
}

static void lab_timer_stop(void *self, struct env_timer *timer)
{
    struct lab_node *node = self;
    for (size_t i = 0; i < LAB_TIMERS_MAX; i++)
        if (node->timers[i] == timer)
            node->timers[i] = NULL;
    timer->due_ns = 0;
}

static void lab_timer_start(void *self, struct env_timer *timer, uint64_t due_ns)
{
    struct lab_node *node = self;
    lab_timer_stop(self, timer);
    timer->due_ns = due_ns;
    for (size_t i = 0; i < LAB_TIMERS_MAX; i++) {
        if (node->timers[i] != NULL)
            continue;
        node->timers[i] = timer;
        return;
    }
    ck_abort_msg("too many timers");
}

static void lab_exit(void *self, int code, const char *why)
{
    struct lab_node *node = self;
    if (!node->may_exit)
        ck_abort_msg("exit %d: %s", code, why);
    node->exited = true;
}

static void lab_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    struct lab_node *node = context;
    (void)delay_ns;
    ck_assert_uint_lt(node->sync_count, LAB_SYNCS_MAX);
    node->syncs[node->sync_count++] = (struct lab_sync){op, err};
}

/* ---- the host ---- */

static void lab_part_done(void *self, struct part *part)
{
    (void)self;
    struct lab_call *call = container_of(part, struct lab_call, part);
    ck_assert(!call->answered);
    call->answered = true;
}

static void lab_send(struct lab *lab, node_id_t from, node_id_t to, uint32_t generation, bool data,
                     struct frame *frame)
{
    struct lab_message *message = calloc(1, sizeof(*message));
    ck_assert_ptr_nonnull(message);
    *message = (struct lab_message){
        .from = from, .to = to, .generation = generation, .data = data, .frame = frame};
    list_push_back(&lab->messages, &message->link);
}

static void lab_drop(struct lab_message *message)
{
    list_remove(&message->link);
    frame_unref(message->frame);
    free(message);
}

static void lab_stream_send(void *self, node_id_t leader, struct frame *frame)
{
    struct lab_node *node = self;
    static uint32_t generations;
    if (node->streams[leader] == 0)
        node->streams[leader] = ++generations;
    node->lab->frames_up++;
    lab_send(node->lab, node->id, leader, node->streams[leader], false, frame);
}

static void lab_stream_reply(void *self, unsigned via_shard, env_conn conn, struct frame *header,
                             struct frame **records, size_t count)
{
    struct lab_node *node = self;
    size_t bytes = header->used;
    ck_assert_uint_eq(via_shard, 0);
    for (size_t i = 0; i < count; i++)
        bytes += records[i]->used;
    struct frame *whole = frame_new(bytes);
    memcpy(whole->bytes, header->bytes, header->used);
    whole->used = header->used;
    for (size_t i = 0; i < count; i++) {
        memcpy(whole->bytes + whole->used, records[i]->bytes, records[i]->used);
        whole->used += records[i]->used;
        frame_unref(records[i]);
    }
    frame_unref(header);
    node->lab->frames_down++;
    lab_send(node->lab, node->id, (node_id_t)conn.slot, conn.generation, true, whole);
}

static bool lab_lease(void *self, uint64_t now_ns)
{
    const struct lab_node *node = self;
    (void)now_ns;
    return node->lease;
}

static broker_epoch_t lab_broker_epoch(void *self)
{
    const struct lab_node *node = self;
    return node->broker_epoch;
}

static void lab_replica_failed(void *self, const struct partition_id *id, uint32_t disk, err_t err)
{
    struct lab_node *node = self;
    (void)id;
    (void)disk;
    node->replica_err = err;
    node->replicas_failed++;
}

/* ---- the controller ---- */

const struct image_partition *lab_partition_now(const struct lab *lab)
{
    return image_partition(lab->image, &lab->id);
}

static void lab_publish(struct lab *lab, struct record_list *list)
{
    struct image_difference *difference;
    lab->image = lab_apply(lab->image, list, &difference);
    for (node_id_t id = 1; id <= LAB_NODES; id++)
        if (lab->nodes[id].up && !lab->nodes[id].mute)
            partition_table_apply(lab->nodes[id].table, lab->image, difference);
    image_difference_free(difference);
}

/* A node that could not hear catches up. */
static void lab_catch_up(struct lab *lab, struct lab_node *node)
{
    struct image_difference *all = image_difference_all(lab->image);
    partition_table_apply(node->table, lab->image, all);
    image_difference_free(all);
}

static void lab_change(struct lab *lab, node_id_t leader, uint32_t isr, bool unclean)
{
    struct record_list list;
    const struct image_partition *p = lab_partition_now(lab);
    struct lab_change change = {
        .topic = LAB_TOPIC,
        .partition_epoch = p->partition_epoch + 1,
        .leader = -2,
        .leader_epoch = -1,
    };
    if (leader != -2) {
        change.leader = leader;
        change.leader_epoch = p->leader_epoch + 1;
    }
    if (unclean)
        change.last_unclean = change.leader_epoch;
    for (uint32_t place = 100000; place > 0; place /= 10)
        if (isr / place % 10 != 0)
            change.isr[change.isr_count++] = (node_id_t)(isr / place % 10);
    record_list_init(&list);
    lab_partition_change(&list, &change);
    lab_publish(lab, &list);
}

void lab_elect(struct lab *lab, node_id_t leader, uint32_t isr)
{
    lab_change(lab, leader, isr, false);
}

void lab_unclean(struct lab *lab, node_id_t leader, uint32_t isr)
{
    lab_change(lab, leader, isr, true);
}

uint32_t lab_isr(const struct lab *lab)
{
    uint32_t digits = 0;
    for (node_id_t id = 1; id <= LAB_NODES; id++)
        if (image_partition_in_isr(lab_partition_now(lab), id))
            digits = digits * 10 + (uint32_t)id;
    return digits;
}

static err_t lab_judge(const struct lab *lab, const struct lab_alter *alter)
{
    const struct image_partition *p = lab_partition_now(lab);
    if (lab->alter_err != ERR_OK)
        return lab->alter_err;
    if (p == NULL)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    if (p->leader != alter->from || alter->leader_epoch != p->leader_epoch)
        return ERR_FENCED_LEADER_EPOCH;
    if (alter->partition_epoch != p->partition_epoch)
        return ERR_INVALID_UPDATE_VERSION;
    for (size_t i = 0; i < alter->isr_count; i++) {
        const struct image_broker *broker = image_broker(lab->image, alter->isr[i].node);
        if (broker->epoch != alter->isr[i].epoch || broker->state != BROKER_STATE_ACTIVE)
            return ERR_INELIGIBLE_REPLICA;
    }
    return ERR_OK;
}

static void lab_alter(void *self, const struct partition_id *id,
                      const Karst__AlterPartitionItem *item)
{
    struct lab_node *node = self;
    struct lab_alter *alter = calloc(1, sizeof(*alter));
    (void)id;
    ck_assert_ptr_nonnull(alter);
    *alter = (struct lab_alter){
        .from = node->id,
        .life = node->life,
        .leader_epoch = item->leader_epoch,
        .partition_epoch = item->partition_epoch,
        .isr_count = item->n_isr,
    };
    for (size_t i = 0; i < item->n_isr; i++) {
        alter->isr[i].node = item->isr[i]->node_id;
        alter->isr[i].epoch = item->isr[i]->broker_epoch;
    }
    list_push_back(&node->lab->alters_sent, &alter->link);
}

static void lab_tell(struct lab *lab, const struct lab_alter *alter,
                     const Karst__AlterPartitionItemReply *reply)
{
    struct lab_node *node = &lab->nodes[alter->from];
    if (!node->up || node->life != alter->life || alter->told)
        return;
    if (reply == NULL)
        partition_alter_failed(node->table, &lab->id, ERR_REQUEST_TIMED_OUT);
    else
        partition_altered(node->table, &lab->id, reply);
    partition_turn_ended(node->table);
}

static void lab_control(struct lab *lab, struct lab_alter *alter)
{
    bool cut_off = lab->hold_alters || lab->nodes[alter->from].mute;
    bool unsure = lab->unsure_alters && rng_below(&lab->rng, 3) == 0;
    list_remove(&alter->link);
    if (unsure && !alter->told) {
        lab_tell(lab, alter, NULL);
        alter->told = true;
        list_push_back(&lab->alters_sent, &alter->link); /* it comes later, or never */
        return;
    }
    Karst__AlterPartitionItemReply reply = KARST__ALTER_PARTITION_ITEM_REPLY__INIT;
    reply.error = lab_judge(lab, alter);
    if (reply.error == ERR_OK && !cut_off) {
        uint32_t isr = 0;
        for (size_t i = 0; i < alter->isr_count; i++)
            isr = isr * 10 + (uint32_t)alter->isr[i].node;
        lab->alters++;
        reply.partition_epoch = alter->partition_epoch + 1;
        lab_change(lab, -2, isr, false);
    }
    lab_tell(lab, alter, cut_off ? NULL : &reply);
    free(alter);
}

/* ---- life ---- */

static void lab_node_init(struct lab *lab, node_id_t id)
{
    struct lab_node *node = &lab->nodes[id];
    node->lab = lab;
    node->id = id;
    node->broker_epoch = 10 + id; /* lab_image's */
    node->disk = sim_disk_new(&(struct sim_disk_options){
        .seed = rng_next(&lab->rng), .sync_ns_max = 1, .writeback_per_million = 100000});
    sim_disk_view_init(&node->view, node->disk, lab_schedule, node);
    faults_disk_init(&node->faulty, &node->view.env);
    node->faulty.sound = true;
    node->env = (struct env){
        .clock = {lab_mono, lab_wall, node},
        .disks = &node->faulty.env,
        .disk_count = 1,
        .random = lab_random,
        .timer_start = lab_timer_start,
        .timer_stop = lab_timer_stop,
        .self = node,
        .exit_node = lab_exit,
    };
}

static void lab_boot(struct lab *lab, struct lab_node *node)
{
    struct log_dir_state state;
    struct partition_found found[4];
    struct partition_id lost[4];
    size_t found_count = 0, lost_count = 0;
    bool clean = false;
    ck_assert_int_eq(log_dir_open(&node->view.env, &state), ERR_OK);
    for (size_t i = 0; i < state.replica_count; i++) {
        const struct log_dir_replica *replica = &state.replicas[i];
        if (replica->folder[0] == 0) {
            lost[lost_count++] = replica->id;
            continue;
        }
        found[found_count] = (struct partition_found){
            .id = replica->id, .in_manifest = replica->in_manifest, .synced = state.synced};
        memcpy(found[found_count++].folder, replica->folder, sizeof(replica->folder));
    }
    log_dir_state_fini(&state);
    struct partition_host host = {
        .self = node,
        .env = &node->env,
        .node = node->id,
        .shards = 1,
        .part_done = lab_part_done,
        .stream_send = lab_stream_send,
        .stream_reply = lab_stream_reply,
        .alter_partition = lab_alter,
        .lease_valid = lab_lease,
        .broker_epoch = lab_broker_epoch,
        .replica_failed = lab_replica_failed,
        .found_all = lab->found_all,
        .found_all_count = lab->found_all_count,
    };
    node->table = partition_table_new(&host, &lab->options);
    ck_assert_ptr_nonnull(node->table);
    partition_table_found(node->table, found, found_count, &clean);
    partition_table_lost(node->table, lost, lost_count);
    node->up = true;
    node->lease = true;
    node->mute = false;
    node->life++;
    lab_catch_up(lab, node);
}

struct partition_options lab_options(void)
{
    return (struct partition_options){
        .replica_lag_max_ns = ENV_MS(10000),
        .replica_fetch_bytes_max = 1 << 20,
        .replica_fetch_response_bytes_max = 4 << 20,
        .flush_before_ack = true,
        .min_insync_replicas = 1,
        .message_bytes_max = 1 << 20,
        .segment_bytes = 64 << 10,
        .preallocate_bytes = 16 << 10,
        .waiters_max = 100,
    };
}

struct lab *lab_new_with(uint64_t seed, const struct partition_options *options)
{
    struct lab *lab = calloc(1, sizeof(*lab));
    ck_assert_ptr_nonnull(lab);
    rng_seed(&lab->rng, seed);
    list_init(&lab->messages);
    list_init(&lab->alters_sent);
    lab->now_ns = UINT64_C(1000000000000);
    lab->image = lab_image();
    lab->id = (struct partition_id){lab_uuid(LAB_TOPIC), 0};
    lab->options = *options;
    const struct log_dir_meta meta = {lab_uuid(1), lab_uuid(2), -1};
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        lab_node_init(lab, id);
        ck_assert_int_eq(log_dir_format(&lab->nodes[id].view.env, &meta), ERR_OK);
        lab_boot(lab, &lab->nodes[id]);
    }
    return lab;
}

struct lab *lab_new(uint64_t seed)
{
    struct partition_options options = lab_options();
    return lab_new_with(seed, &options);
}

/* As the real quorum's entry: the old incarnation leaves every ISR that has another member (R2). */
void lab_start(struct lab *lab, node_id_t id)
{
    struct lab_node *node = &lab->nodes[id];
    const struct image_partition *p = lab_partition_now(lab);
    struct record_list list;
    ck_assert(!node->up);
    node->broker_epoch += 100;
    record_list_init(&list);
    lab_register(&list, id, 1000 + (uint64_t)node->broker_epoch, node->broker_epoch);
    lab_broker_change(&list, id, node->broker_epoch, BROKER_STATE_ACTIVE);
    if (p != NULL && image_partition_in_isr(p, id)) {
        struct lab_change change = {
            .topic = LAB_TOPIC,
            .partition_epoch = p->partition_epoch + 1,
            .leader = -2,
            .leader_epoch = -1,
        };
        for (uint8_t i = 0; i < p->isr_count; i++)
            if (p->isr[i] != id || p->isr_count == 1)
                change.isr[change.isr_count++] = p->isr[i];
        if (p->leader == id) {
            change.leader = change.isr[0];
            change.leader_epoch = p->leader_epoch + 1;
        }
        lab_partition_change(&list, &change);
    }
    lab_publish(lab, &list);
    lab_boot(lab, node);
}

static void lab_break_streams(struct lab *lab, struct lab_node *node, bool tell)
{
    list_for_each_safe (at, after, &lab->messages) {
        struct lab_message *message = list_entry(at, struct lab_message, link);
        if (message->from == node->id || message->to == node->id)
            lab_drop(message);
    }
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        struct lab_node *other = &lab->nodes[id];
        uint32_t up = node->streams[id], down = other->streams[node->id];
        node->streams[id] = other->streams[node->id] = 0;
        if (id == node->id)
            continue;
        if (up != 0 && other->up)
            partition_follower_gone(other->table, 0, (env_conn){(uint32_t)node->id, up});
        if (down != 0 && other->up)
            partition_stream_lost(other->table, node->id, ERR_CLOSED);
        if (up != 0 && tell)
            partition_stream_lost(node->table, id, ERR_CLOSED);
        if (down != 0 && tell)
            partition_follower_gone(node->table, 0, (env_conn){(uint32_t)id, down});
    }
}

static void lab_end_life(struct lab *lab, node_id_t id, bool sync)
{
    struct lab_node *node = &lab->nodes[id];
    ck_assert(node->up);
    ck_assert(partition_table_free(node->table, sync) == ERR_OK || faults_met());
    node->table = NULL;
    node->up = false;
    node->sync_count = 0;
    memset(node->timers, 0, sizeof(node->timers));
    node->hold_syncs = false;
    lab_break_streams(lab, node, false);
}

void lab_kill(struct lab *lab, node_id_t id, bool power_cut)
{
    lab_end_life(lab, id, false);
    if (power_cut)
        sim_disk_power_cut(lab->nodes[id].disk);
    else
        sim_disk_kill(lab->nodes[id].disk);
}

void lab_stop(struct lab *lab, node_id_t id)
{
    lab_end_life(lab, id, true);
    sim_disk_power_cut(lab->nodes[id].disk);
}

void lab_mute(struct lab *lab, node_id_t id, bool mute)
{
    struct lab_node *node = &lab->nodes[id];
    node->mute = mute;
    lab_break_streams(lab, node, true);
    if (!mute)
        lab_catch_up(lab, node);
}

void lab_free(struct lab *lab)
{
    for (node_id_t id = 1; id <= LAB_NODES; id++)
        if (lab->nodes[id].up)
            lab_kill(lab, id, false);
    for (node_id_t id = 1; id <= LAB_NODES; id++)
        sim_disk_free(lab->nodes[id].disk);
    for (size_t i = 0; i < lab->call_count; i++) {
        struct lab_call *call = lab->calls[i];
        ck_assert(call->answered);
        if (call->request.type == REQUEST_FETCH)
            frame_unref(call->fetch.records);
        frame_unref(call->request.frame);
        free(call);
    }
    while (!list_empty(&lab->alters_sent))
        free(list_entry(list_pop_front(&lab->alters_sent), struct lab_alter, link));
    image_unref(lab->image);
    frame_cache_drain();
    free(lab);
}

void lab_create(struct lab *lab)
{
    struct record_list list;
    record_list_init(&list);
    lab_topic(&list, LAB_TOPIC, "orders");
    lab_partition(&list, LAB_TOPIC, 0, 1, LAB_NODES);
    lab_publish(lab, &list);
}

void lab_configure(struct lab *lab, const char *key, const char *value)
{
    struct record_list list;
    record_list_init(&list);
    lab_config(&list, LAB_TOPIC, key, value);
    lab_publish(lab, &list);
}

void lab_delete(struct lab *lab)
{
    struct record_list list;
    record_list_init(&list);
    lab_delete_topic(&list, LAB_TOPIC);
    lab_publish(lab, &list);
}

/* ---- delivery ---- */

static void lab_take_deltas(struct lab_node *node, const struct lab_message *message,
                            const Karst__ReplicaFetchRequest *request)
{
    for (size_t i = 0; i < request->n_partitions; i++) {
        const Karst__ReplicaFetchPartition *row = request->partitions[i];
        struct replica_delta delta = {
            .id.index = row->index,
            .follower = request->node_id,
            .broker_epoch = request->broker_epoch,
            .conn = {(uint32_t)message->from, message->generation},
            .leader_epoch = row->leader_epoch,
            .fetch_offset = row->fetch_offset,
            .flushed_end = row->flushed_end,
            .log_start = row->log_start,
            .last_fetched_epoch = row->last_fetched_epoch,
            .session = row->session,
            .stop = row->stop,
            .want = row->want,
        };
        ck_assert(wire_get_uuid(&row->topic_id, &delta.id.topic));
        partition_delta(node->table, &delta);
    }
}

static void lab_take_data(struct lab_node *node, const struct lab_message *message,
                          const Karst__ReplicaData *data, struct bytes attachment)
{
    size_t at = 0;
    for (size_t i = 0; i < data->n_partitions; i++) {
        const Karst__ReplicaDataPartition *row = data->partitions[i];
        struct replica_data in = {
            .id.index = row->index,
            .err = row->error,
            .leader_epoch = row->leader_epoch,
            .session = row->session,
            .high_watermark = row->high_watermark,
            .log_start = row->log_start,
            .fetch_offset = row->fetch_offset,
            .diverging_epoch = row->diverging_epoch,
            .diverging_end = row->diverging_end,
            .records = attachment.data + at,
            .bytes = row->bytes,
            .from = message->from,
        };
        ck_assert(wire_get_uuid(&row->topic_id, &in.id.topic));
        at += row->bytes;
        ck_assert_uint_le(at, attachment.len);
        partition_data(node->table, &in);
    }
    ck_assert_uint_eq(at, attachment.len);
}

static void lab_deliver(struct lab *lab, struct lab_message *message)
{
    struct lab_node *to = &lab->nodes[message->to], *from = &lab->nodes[message->from];
    uint32_t now = message->data ? to->streams[from->id] : from->streams[to->id];
    if (!to->up && !message->data && now == message->generation) {
        from->streams[to->id] = 0;
        partition_stream_lost(from->table, to->id, ERR_REFUSED);
    }
    if (to->mute || from->mute) {
        lab_break_streams(lab, to->mute ? to : from, (to->mute ? to : from)->up);
        return; /* the message is gone with them */
    }
    if (!to->up || now != message->generation) {
        lab_drop(message);
        return;
    }
    struct wire_header header;
    struct arena arena;
    ProtobufCMessage *decoded;
    arena_init(&arena, 1 << 20);
    ck_assert_int_eq(wire_decode_header(message->frame, &header), ERR_OK);
    ck_assert_int_eq(header.kind, WIRE_ONEWAY);
    ck_assert_int_eq(wire_unpack(message->data ? &karst__replica_data__descriptor
                                               : &karst__replica_fetch_request__descriptor,
                                 wire_message(message->frame, &header), &arena, &decoded),
                     ERR_OK);
    if (message->data)
        lab_take_data(to, message, (const Karst__ReplicaData *)decoded,
                      wire_attachment(message->frame, &header));
    else
        lab_take_deltas(to, message, (const Karst__ReplicaFetchRequest *)decoded);
    arena_fini(&arena);
    lab_drop(message);
    partition_turn_ended(to->table);
}

static void lab_finish_sync(struct lab_node *node, size_t idx)
{
    struct lab_sync sync = node->syncs[idx];
    memmove(&node->syncs[idx], &node->syncs[idx + 1],
            (--node->sync_count - idx) * sizeof(node->syncs[0]));
    sync.op->done(sync.op, sync.err);
    partition_turn_ended(node->table);
}

/* Timers that are due are first. */
static bool lab_fire_timer(struct lab_node *node)
{
    for (size_t i = 0; i < LAB_TIMERS_MAX; i++) {
        struct env_timer *timer = node->timers[i];
        if (timer == NULL || timer->due_ns > node->lab->now_ns)
            continue;
        node->timers[i] = NULL;
        timer->due_ns = 0;
        timer->fire(timer, node->lab->now_ns);
        partition_turn_ended(node->table);
        return true;
    }
    return false;
}

/* The oldest message of each connection may come next, or any sync. */
bool lab_pump_one(struct lab *lab)
{
    struct lab_message *next[2 * LAB_NODES * LAB_NODES];
    size_t count = 0, syncs = 0;
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        struct lab_node *node = &lab->nodes[id];
        if (node->up)
            partition_turn_ended(node->table);
        if (node->up && lab_fire_timer(node))
            return true;
        syncs += node->hold_syncs ? 0 : node->sync_count;
    }
    list_for_each (at, &lab->messages) {
        struct lab_message *message = list_entry(at, struct lab_message, link);
        bool first = true;
        for (size_t i = 0; i < count && first; i++)
            first = next[i]->from != message->from || next[i]->to != message->to ||
                    next[i]->data != message->data;
        if (first)
            next[count++] = message;
    }
    size_t alters = list_empty(&lab->alters_sent) ? 0 : 1;
    if (count + syncs + alters == 0)
        return false;
    size_t chosen = rng_below(&lab->rng, count + syncs + alters);
    if (chosen < count) {
        lab_deliver(lab, next[chosen]);
        return true;
    }
    chosen -= count;
    if (chosen < alters) {
        lab_control(lab, list_entry(lab->alters_sent.next, struct lab_alter, link));
        return true;
    }
    chosen -= alters;
    for (node_id_t id = 1; id <= LAB_NODES; id++) {
        struct lab_node *node = &lab->nodes[id];
        size_t here = node->hold_syncs ? 0 : node->sync_count;
        if (chosen < here) {
            lab_finish_sync(node, chosen);
            return true;
        }
        chosen -= here;
    }
    return true;
}

void lab_pump(struct lab *lab)
{
    for (int i = 0; i < 100000; i++)
        if (!lab_pump_one(lab))
            return;
    ck_abort_msg("it never comes to rest");
}

void lab_tick(struct lab *lab, uint64_t later_ms)
{
    while (later_ms > 0) { /* as the shard: often enough that no loop seems to have stood still */
        uint64_t step = later_ms < 500 ? later_ms : 500;
        lab->now_ns += ENV_MS(step);
        later_ms -= step;
        for (node_id_t id = 1; id <= LAB_NODES; id++)
            if (lab->nodes[id].up)
                partition_tick(lab->nodes[id].table, lab->now_ns);
        lab_pump(lab);
    }
}
