#include <stdlib.h>
#include <string.h>

#include "client/core.h"

/* One Fetch or ListOffsets request under way, for partitions of one broker. */
struct client_fetch_target {
    struct client_consumption *consumption;
    uint64_t round;
};
struct client_fetch_call {
    struct client_call call;
    struct client_broker *broker;
    size_t count;
    struct client_fetch_target targets[];
};

enum { CLIENT_FETCHES_MAX = 16, CLIENT_OFFSET_LATEST = -1, CLIENT_OFFSET_EARLIEST = -2 };

bool client_consumer_has_work(const struct client_partition *p)
{
    return p->consumption != NULL && p->consumption->assigned && !p->consumption->stopped;
}

/* ---- slices ---- */

static struct client_slice *client_slice_new(const struct client_topic *topic, int32_t index)
{
    struct client_slice *slice = calloc(1, sizeof(*slice));
    if (slice == NULL)
        return NULL;
    list_init(&slice->link);
    slice->topic = topic->name;
    slice->index = index;
    return slice;
}

void client_slice_free(struct client *client, struct client_slice *slice)
{
    (void)client;
    frame_unref(slice->frame);
    free(slice);
}

/* Told once; without memory it is not told, and the partition stands still. */
static void client_tell_error_behind(struct client *client, struct list_node *slices,
                                     const struct client_topic *topic, int32_t index, err_t err)
{
    struct client_slice *slice = client_slice_new(topic, index);
    if (slice == NULL)
        return;
    slice->err = err;
    list_push_back(slices, &slice->link);
    client_ready(client);
}

static void client_tell_error(struct client *client, const struct client_topic *topic,
                              int32_t index, err_t err)
{
    client_tell_error_behind(client, &client->errors, topic, index, err);
}

/* There is room again: those that wait for it are looked at. */
static void client_fetch_room(struct client *client)
{
    if (!client->fetch_waits || client->ended)
        return;
    client->fetch_waits = false;
    client_all_dirty(client);
    client_wake(client);
}

static void client_drop_slices(struct client *client, struct client_consumption *consumption)
{
    struct list_node *node;
    while ((node = list_pop_front(&consumption->slices)) != NULL)
        client_slice_free(client, list_entry(node, struct client_slice, link));
    client->fetch_buffered -= consumption->buffered;
    consumption->buffered = 0;
    list_remove(&consumption->link);
    client_fetch_room(client);
}

struct client_slice *client_take_slice(struct client *client)
{
    struct list_node *node = list_pop_front(&client->errors);
    if (node != NULL)
        return list_entry(node, struct client_slice, link);
    node = list_pop_front(&client->consumable);
    if (node == NULL)
        return NULL;
    struct client_consumption *consumption = list_entry(node, struct client_consumption, link);
    struct client_slice *slice = list_entry(consumption->slices.next, struct client_slice, link);
    list_remove(&slice->link);
    consumption->buffered -= slice->bytes;
    client->fetch_buffered -= slice->bytes;
    if (!list_empty(&consumption->slices))
        list_push_back(&client->consumable, &consumption->link);
    if (!consumption->in_flight) { /* room for more */
        client_partition_dirty(client, consumption->partition);
        client_wake(client);
    }
    client_fetch_room(client);
    return slice;
}

bool client_slice_current(const struct client_slice *slice)
{
    const struct client_partition *p = slice->partition;
    return p != NULL && p->consumption->assigned && p->consumption->generation == slice->generation;
}

void client_slice_returned(struct client_slice *slice, offset_t next)
{
    if (!client_slice_current(slice))
        return;
    struct client_consumption *consumption = slice->partition->consumption;
    ASSERT(next >= consumption->position);
    consumption->shown = true;
    consumption->position = next == consumption->skip_from ? consumption->skip_to : next;
}

void client_slice_broken(struct client *client, struct client_slice *slice)
{
    if (!client_slice_current(slice))
        return;
    struct client_consumption *consumption = slice->partition->consumption;
    consumption->stopped = true;
    client_drop_slices(client, consumption); /* they would leave out what can't be read */
}

bool client_has_slice(const struct client *client)
{
    if (!list_empty(&client->errors) || list_empty(&client->consumable))
        return false;
    const struct client_consumption *next =
        list_entry(client->consumable.next, struct client_consumption, link);
    return list_entry(next->slices.next, struct client_slice, link)->err == ERR_OK;
}

bool client_has_news(const struct client *client)
{
    return client->done_first != NULL || !list_empty(&client->errors) ||
           !list_empty(&client->consumable);
}

/* ---- assigning ---- */

static err_t client_consumption_start(struct client *client, struct client_partition *p,
                                      int64_t offset)
{
    struct client_consumption *consumption = p->consumption;
    if (consumption == NULL) {
        consumption = calloc(1, sizeof(*consumption));
        if (consumption == NULL)
            return ERR_NO_MEMORY;
        list_init(&consumption->slices);
        list_init(&consumption->link);
        list_init(&consumption->gather_link);
        consumption->partition = p;
        p->consumption = consumption;
    }
    client_drop_slices(client, consumption);
    consumption->assigned = true;
    consumption->stopped = consumption->shown = false;
    consumption->in_flight = false; /* what is under way is of an older generation */
    consumption->generation = ++client->next_generation;
    consumption->start = offset;
    consumption->resolved = offset >= 0;
    consumption->fetch_at = offset;
    consumption->position = offset >= 0 ? offset : -1;
    consumption->skip_from = consumption->skip_to = -1;
    client_partition_dirty(client, p);
    client_wake(client);
    return ERR_OK;
}

static err_t client_assignable(const char *topic, int32_t index, int64_t offset)
{
    if (!topic_name_legal(topic))
        return ERR_INVALID_TOPIC_EXCEPTION;
    if (index < 0 || index >= TOPIC_PARTITIONS_MAX || offset < KARST_OFFSET_RESET)
        return ERR_INVALID;
    return ERR_OK;
}

err_t client_assign(struct client *client, const char *name, int32_t index, int64_t offset)
{
    err_t err = client_assignable(name, index, offset);
    if (err != ERR_OK)
        return err;
    struct client_topic *topic = client_topic_get(client, name);
    if (topic == NULL)
        return ERR_NO_MEMORY;
    client_topic_ask_again(client, topic);
    if (topic->known && index >= topic->partition_count)
        return ERR_UNKNOWN_TOPIC_OR_PARTITION;
    struct client_partition *p = client_partition_get(client, topic, index);
    return p == NULL ? ERR_NO_MEMORY : client_consumption_start(client, p, offset);
}

static void client_consumption_end(struct client *client, struct client_partition *p)
{
    if (p == NULL || p->consumption == NULL)
        return;
    client_drop_slices(client, p->consumption);
    p->consumption->assigned = false;
}

err_t client_unassign(struct client *client, const char *topic, int32_t index)
{
    struct client_partition *p = client_partition_find(client, topic, index);
    if (p == NULL || p->consumption == NULL || !p->consumption->assigned)
        return ERR_NOT_FOUND;
    client_consumption_end(client, p);
    return ERR_OK;
}

err_t client_subscribe(struct client *client, const char *name, int64_t offset)
{
    err_t err = client_assignable(name, 0, offset);
    if (err != ERR_OK)
        return err;
    struct client_topic *topic = client_topic_get(client, name);
    if (topic == NULL)
        return ERR_NO_MEMORY;
    client_topic_ask_again(client, topic);
    topic->subscribed = true;
    topic->subscribed_offset = offset;
    topic->subscribed_done = false;
    client_consumer_assign(client, topic);
    return ERR_OK;
}

err_t client_unsubscribe(struct client *client, const char *name)
{
    struct client_topic *topic = client_topic_find(client, name);
    if (topic == NULL || !topic->subscribed)
        return ERR_NOT_FOUND;
    topic->subscribed = false;
    for (int32_t i = 0; i < topic->partition_room; i++)
        client_consumption_end(client, topic->partitions[i]);
    return ERR_OK;
}

void client_consumer_assign(struct client *client, struct client_topic *topic)
{
    if (!topic->known)
        return;
    for (int32_t i = topic->partition_count; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL || !client_consumer_has_work(p))
            continue;
        p->consumption->stopped = true;
        client_tell_error(client, topic, i, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    if (!topic->subscribed)
        return;
    for (int32_t i = 0; i < topic->partition_count; i++) {
        struct client_partition *p = topic->partitions[i];
        /* One that was let go meanwhile stays so. */
        if (p == NULL || (topic->subscribed_done && p->consumption != NULL))
            continue;
        /* What is added later is read from its first record: nobody has read it before. */
        int64_t offset = topic->subscribed_done ? KARST_OFFSET_EARLIEST : topic->subscribed_offset;
        if (client_consumption_start(client, p, offset) != ERR_OK)
            return; /* with the next metadata again */
    }
    topic->subscribed_done = true;
}

void client_consumer_topic_gone(struct client *client, struct client_topic *topic, err_t err)
{
    bool told = topic->subscribed;
    if (topic->subscribed)
        client_tell_error(client, topic, -1, err);
    topic->subscribed = false;
    for (int32_t i = 0; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL || !client_consumer_has_work(p))
            continue;
        client_drop_slices(client, p->consumption);
        p->consumption->stopped = true;
        p->consumption->generation = ++client->next_generation;
        if (!told)
            client_tell_error(client, topic, i, err);
    }
}

int64_t client_position(const struct client *client, const char *topic, int32_t index)
{
    const struct client_partition *p = client_partition_find(client, topic, index);
    if (p == NULL || p->consumption == NULL || !p->consumption->assigned)
        return -1;
    return p->consumption->position;
}

void client_consumer_free(struct client *client, struct client_topic *topic)
{
    for (int32_t i = 0; i < topic->partition_room; i++) {
        struct client_partition *p = topic->partitions[i];
        if (p == NULL || p->consumption == NULL)
            continue;
        client_drop_slices(client, p->consumption);
        free(p->consumption);
        p->consumption = NULL;
    }
}

/* ---- asking ---- */

void client_consumer_look(struct client *client, struct client_partition *p, uint64_t now)
{
    struct client_consumption *consumption = p->consumption;
    if (!client_consumer_has_work(p) || consumption->in_flight)
        return;
    if (consumption->buffered >= client->config.partition_bytes_max)
        return; /* until a slice is taken */
    if (client->fetch_buffered >= client->config.fetch_buffer_bytes) {
        client->fetch_waits = true;
        return;
    }
    struct client_broker *broker = client_partition_leader(client, p, now);
    if (broker == NULL)
        return;
    if (broker->fetches >= CLIENT_FETCHES_MAX) {
        client->fetch_waits = true; /* one of them comes back */
        return;
    }
    list_remove(&consumption->gather_link);
    list_push_back(&client->fetches, &consumption->gather_link);
}

static void client_fetch_done(struct client *client, struct client_call *call, err_t err,
                              const struct client_reply *reply);
static void client_list_done(struct client *client, struct client_call *call, err_t err,
                             const struct client_reply *reply);

static ProtobufCMessage *client_fetch_message(struct client *client,
                                              const struct client_fetch_call *fetch)
{
    Karst__FetchRequest *request = arena_alloc(&client->arena, sizeof(*request));
    Karst__FetchPartition *rows = arena_calloc(&client->arena, fetch->count, sizeof(*rows));
    Karst__FetchPartition **list = arena_calloc(&client->arena, fetch->count, sizeof(*list));
    if (request == NULL || rows == NULL || list == NULL)
        return NULL;
    karst__fetch_request__init(request);
    /* The answer comes before the request is given up, and its connection with it. */
    request->wait_ms_max = client->config.fetch_wait_ms < client->config.request_timeout_ms / 2
                               ? client->config.fetch_wait_ms
                               : client->config.request_timeout_ms / 2;
    request->bytes_min = client->config.fetch_bytes_min;
    request->bytes_max = client->config.fetch_bytes_max;
    request->partitions = list;
    request->n_partitions = fetch->count;
    for (size_t i = 0; i < fetch->count; i++) {
        const struct client_consumption *consumption = fetch->targets[i].consumption;
        const struct client_partition *p = consumption->partition;
        karst__fetch_partition__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&p->topic->id);
        rows[i].index = p->index;
        rows[i].offset = consumption->fetch_at;
        rows[i].bytes_max = client->config.partition_bytes_max;
        rows[i].has_leader_epoch = p->leader_epoch >= 0;
        rows[i].leader_epoch = p->leader_epoch;
        list[i] = &rows[i];
    }
    return &request->base;
}

/* Where to begin: latest or earliest, by what was asked for or auto.offset.reset. */
static int64_t client_start_timestamp(const struct client *client,
                                      const struct client_consumption *consumption)
{
    int64_t start = consumption->start;
    if (start == KARST_OFFSET_RESET)
        return client->config.reset == CLIENT_RESET_EARLIEST ? CLIENT_OFFSET_EARLIEST
                                                             : CLIENT_OFFSET_LATEST;
    return start == KARST_OFFSET_EARLIEST ? CLIENT_OFFSET_EARLIEST : CLIENT_OFFSET_LATEST;
}

static ProtobufCMessage *client_list_message(struct client *client,
                                             const struct client_fetch_call *fetch)
{
    Karst__ListOffsetsRequest *request = arena_alloc(&client->arena, sizeof(*request));
    Karst__ListOffsetsPartition *rows = arena_calloc(&client->arena, fetch->count, sizeof(*rows));
    Karst__ListOffsetsPartition **list = arena_calloc(&client->arena, fetch->count, sizeof(*list));
    if (request == NULL || rows == NULL || list == NULL)
        return NULL;
    karst__list_offsets_request__init(request);
    request->partitions = list;
    request->n_partitions = fetch->count;
    for (size_t i = 0; i < fetch->count; i++) {
        const struct client_consumption *consumption = fetch->targets[i].consumption;
        const struct client_partition *p = consumption->partition;
        karst__list_offsets_partition__init(&rows[i]);
        rows[i].topic_id = wire_put_uuid(&p->topic->id);
        rows[i].index = p->index;
        rows[i].timestamp = client_start_timestamp(client, consumption);
        rows[i].has_leader_epoch = p->leader_epoch >= 0;
        rows[i].leader_epoch = p->leader_epoch;
        list[i] = &rows[i];
    }
    return &request->base;
}

/* Of the gathered ones, all of the first one's broker that need the same. */
static void client_fetch_start(struct client *client, uint64_t now)
{
    struct client_consumption *first =
        list_entry(client->fetches.next, struct client_consumption, gather_link);
    struct client_broker *broker = client_broker_by_id(client, first->partition->leader);
    bool resolved = first->resolved;
    size_t count = 0;
    list_for_each (node, &client->fetches)
        count++;
    struct client_fetch_call *fetch =
        calloc(1, sizeof(*fetch) + count * sizeof(struct client_fetch_target));
    bool ready = broker != NULL && broker->state == CLIENT_READY && fetch != NULL;
    list_for_each_safe (node, after, &client->fetches) {
        struct client_consumption *consumption =
            list_entry(node, struct client_consumption, gather_link);
        if (consumption->partition->leader != first->partition->leader ||
            consumption->resolved != resolved)
            continue;
        list_remove(node);
        if (ready)
            fetch->targets[fetch->count++] = (struct client_fetch_target){consumption, 0};
        else
            client_partition_due(client, consumption->partition, now + ENV_MS(CLIENT_RETRY_MS));
    }
    if (!ready) {
        free(fetch);
        return;
    }
    fetch->broker = broker;
    broker->fetches++;
    for (size_t i = 0; i < fetch->count; i++) {
        struct client_fetch_target *target = &fetch->targets[i];
        target->round = target->consumption->round = ++client->next_generation;
        target->consumption->in_flight = true;
    }
    arena_reset(&client->arena);
    fetch->call.method = resolved ? WIRE_FETCH : WIRE_LIST_OFFSETS;
    fetch->call.done = resolved ? client_fetch_done : client_list_done;
    ProtobufCMessage *message =
        resolved ? client_fetch_message(client, fetch) : client_list_message(client, fetch);
    err_t err = ERR_NO_MEMORY;
    if (message != NULL)
        err = client_call_start(client, broker, &fetch->call, message, 0);
    if (err != ERR_OK)
        fetch->call.done(client, &fetch->call, err, NULL);
}

void client_consumer_send(struct client *client, uint64_t now)
{
    while (!list_empty(&client->fetches))
        client_fetch_start(client, now);
}

/* ---- answers ---- */

static bool client_target_waits(const struct client_fetch_target *target)
{
    return target->consumption->in_flight && target->consumption->round == target->round;
}

/* Its answer is here. NULL: it was assigned anew, asked elsewhere or given up meanwhile. */
static struct client_consumption *client_target(struct client *client,
                                                const struct client_fetch_target *target)
{
    struct client_consumption *consumption = target->consumption;
    if (!client_target_waits(target))
        return NULL;
    consumption->in_flight = false;
    client_partition_dirty(client, consumption->partition);
    return consumption->assigned && !consumption->stopped ? consumption : NULL;
}

void client_consumer_detach(struct client_partition *p)
{
    if (p->consumption != NULL)
        p->consumption->in_flight = false;
}

static void client_fetch_over(struct client *client, struct client_fetch_call *fetch)
{
    fetch->broker->fetches--;
    free(fetch);
    client_fetch_room(client);
}

/* What was fetched before the error is returned before it is told. */
static void client_stop(struct client *client, struct client_consumption *consumption, err_t err)
{
    const struct client_partition *p = consumption->partition;
    struct list_node *slices =
        list_empty(&consumption->slices) ? &client->errors : &consumption->slices;
    consumption->stopped = true;
    client_tell_error_behind(client, slices, p->topic, p->index, err);
}

/* What is between the fetched and to is left out. */
static void client_skip_to(struct client_consumption *consumption, offset_t to)
{
    if (consumption->position < 0 || consumption->position == consumption->fetch_at) {
        consumption->position = to; /* nothing waits to be returned */
    } else if (consumption->skip_to != consumption->fetch_at) {
        consumption->skip_from = consumption->fetch_at;
    }
    consumption->skip_to = to;
    consumption->fetch_at = to;
}

/* The offset is outside the log. Records that were deleted below it are skipped; the end is never
 * gone back to, since that would show offsets twice. */
static void client_out_of_range(struct client *client, struct client_consumption *consumption,
                                int64_t log_start)
{
    bool below = log_start >= 0 && consumption->fetch_at < log_start;
    /* Nothing was returned, nor waits for it. */
    bool fresh = !consumption->shown && consumption->position == consumption->start &&
                 consumption->fetch_at == consumption->start;
    if (client->config.reset == CLIENT_RESET_NONE || (!below && !fresh)) {
        client_stop(client, consumption, ERR_OFFSET_OUT_OF_RANGE);
        return;
    }
    if (below && client->config.reset == CLIENT_RESET_EARLIEST) {
        client_skip_to(consumption, log_start);
        return;
    }
    if (fresh)
        consumption->fetch_at = consumption->position = -1;
    consumption->start = KARST_OFFSET_RESET;
    consumption->resolved = false;
}

static void client_partition_error(struct client *client, struct client_consumption *consumption,
                                   err_t err, node_id_t leader, leader_epoch_t leader_epoch)
{
    if (err_retriable(err) || err == ERR_UNKNOWN_SERVER_ERROR)
        client_partition_failed(client, consumption->partition, err, leader, leader_epoch);
    else
        client_stop(client, consumption, err);
}

/* Finds the whole batches at the start of data: their bytes, and in *next the offset after them. */
static err_t client_check_batches(const struct client *client, struct bytes data, offset_t *next,
                                  size_t *ret_bytes)
{
    size_t at = 0;
    while (at < data.len) {
        struct batch_info info;
        err_t err = client->config.check_crcs
                        ? batch_check_crc(data.data + at, data.len - at, &info)
                        : batch_peek(data.data + at, data.len - at, &info);
        if (err == ERR_SHORT)
            break; /* cut by the size limit */
        if (err != ERR_OK)
            return err;
        if (info.last_offset >= *next) /* the first may begin, and end, before what was asked for */
            *next = info.last_offset + 1;
        at += info.bytes;
    }
    *ret_bytes = at;
    return ERR_OK;
}

static void client_take_data(struct client *client, struct client_consumption *consumption,
                             struct frame *frame, struct bytes data)
{
    struct client_partition *p = consumption->partition;
    offset_t next = consumption->fetch_at;
    size_t bytes;
    err_t err = client_check_batches(client, data, &next, &bytes);
    if (err != ERR_OK) {
        client_partition_failed(client, p, err, NO_NODE, -1);
        return;
    }
    client_partition_worked(p);
    if (next == consumption->fetch_at)
        return;
    struct client_slice *slice = client_slice_new(p->topic, p->index);
    if (slice == NULL) {
        client_partition_due(client, p, client_now(client) + ENV_MS(CLIENT_RETRY_MS));
        return;
    }
    slice->partition = p;
    slice->generation = consumption->generation;
    slice->frame = frame_ref(frame);
    slice->data = data.data;
    slice->bytes = bytes;
    slice->from = consumption->fetch_at;
    slice->end = next;
    consumption->fetch_at = next;
    consumption->buffered += bytes;
    client->fetch_buffered += bytes;
    if (list_empty(&consumption->slices))
        list_push_back(&client->consumable, &consumption->link);
    list_push_back(&consumption->slices, &slice->link);
    client_ready(client);
}

static const struct client_fetch_target *client_target_of(const struct client_fetch_call *fetch,
                                                          size_t guess, int32_t index,
                                                          const ProtobufCBinaryData *topic_id)
{
    struct uuid id;
    if (!wire_get_uuid(topic_id, &id))
        return NULL;
    for (size_t i = 0; i < fetch->count; i++) {
        const struct client_fetch_target *target = &fetch->targets[(guess + i) % fetch->count];
        const struct client_partition *p = target->consumption->partition;
        if (p->index == index && uuid_equal(&p->topic->id, &id))
            return target;
    }
    return NULL;
}

static void client_fetch_row(struct client *client, struct client_consumption *consumption,
                             const Karst__FetchPartitionReply *row, struct frame *frame,
                             struct bytes data)
{
    if (row->error == ERR_OK)
        client_take_data(client, consumption, frame, data);
    else if (row->error == ERR_OFFSET_OUT_OF_RANGE)
        client_out_of_range(client, consumption, row->log_start);
    else
        client_partition_error(client, consumption, row->error, row->leader, row->leader_epoch);
}

static void client_fetch_done(struct client *client, struct client_call *call, err_t err,
                              const struct client_reply *reply)
{
    struct client_fetch_call *fetch = container_of(call, struct client_fetch_call, call);
    const Karst__FetchReply *message =
        reply == NULL ? NULL : (const Karst__FetchReply *)reply->message;
    size_t at = 0;
    for (size_t i = 0; message != NULL && i < message->n_partitions; i++) {
        const Karst__FetchPartitionReply *row = message->partitions[i];
        if (row->bytes > reply->attachment.len - at)
            break; /* the rows lie about the attachment: the rest is asked for again */
        struct bytes data = {reply->attachment.data + at, row->bytes};
        at += row->bytes;
        const struct client_fetch_target *target =
            client_target_of(fetch, i, row->index, &row->topic_id);
        struct client_consumption *consumption = target == NULL || !target->consumption->in_flight
                                                     ? NULL
                                                     : client_target(client, target);
        if (consumption != NULL)
            client_fetch_row(client, consumption, row, reply->frame, data);
    }
    /* Those without a row, or all when there is no reply. */
    for (size_t i = 0; i < fetch->count; i++) {
        struct client_consumption *consumption = client_target(client, &fetch->targets[i]);
        if (consumption != NULL)
            client_partition_error(client, consumption,
                                   err == ERR_OK ? ERR_UNKNOWN_SERVER_ERROR : err, NO_NODE, -1);
    }
    client_fetch_over(client, fetch);
}

static void client_list_row(struct client *client, struct client_consumption *consumption,
                            const Karst__ListOffsetsPartitionReply *row)
{
    if (row->error != ERR_OK || row->offset < 0) {
        client_partition_error(client, consumption,
                               row->error == ERR_OK ? ERR_OFFSET_NOT_AVAILABLE : row->error,
                               NO_NODE, -1);
        return;
    }
    client_partition_worked(consumption->partition);
    consumption->resolved = true;
    /* Never back, when a reset follows what was fetched; some of it may not be returned yet. */
    if (row->offset > consumption->fetch_at)
        client_skip_to(consumption, row->offset);
    consumption->start = consumption->fetch_at;
}

static void client_list_done(struct client *client, struct client_call *call, err_t err,
                             const struct client_reply *reply)
{
    struct client_fetch_call *fetch = container_of(call, struct client_fetch_call, call);
    const Karst__ListOffsetsReply *message =
        reply == NULL ? NULL : (const Karst__ListOffsetsReply *)reply->message;
    for (size_t i = 0; message != NULL && i < message->n_partitions; i++) {
        const Karst__ListOffsetsPartitionReply *row = message->partitions[i];
        const struct client_fetch_target *target =
            client_target_of(fetch, i, row->index, &row->topic_id);
        struct client_consumption *consumption = target == NULL || !target->consumption->in_flight
                                                     ? NULL
                                                     : client_target(client, target);
        if (consumption != NULL)
            client_list_row(client, consumption, row);
    }
    for (size_t i = 0; i < fetch->count; i++) {
        struct client_consumption *consumption = client_target(client, &fetch->targets[i]);
        if (consumption != NULL)
            client_partition_error(client, consumption,
                                   err == ERR_OK ? ERR_UNKNOWN_SERVER_ERROR : err, NO_NODE, -1);
    }
    client_fetch_over(client, fetch);
}
