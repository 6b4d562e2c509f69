#include <stdlib.h>
#include <string.h>

#include "log/log.h"
#include "unit/shard/partition_lab.h"

enum { LAB_BATCH_BYTES = 4096, LAB_TEXT_MAX = 1 << 20 };

/* ---- calls ---- */

struct lab_call *lab_call_new(struct lab *lab, enum request_type type)
{
    struct lab_call *call = calloc(1, sizeof(*call));
    ck_assert_ptr_nonnull(call);
    ck_assert_uint_lt(lab->call_count, LAB_PARTS_MAX);
    lab->calls[lab->call_count++] = call;
    call->request.type = type;
    call->part.request = &call->request;
    call->part.id = lab->id;
    call->part.leader_epoch_asked = -1;
    call->part.deadline_ns = lab->now_ns + ENV_MS(30000);
    return call;
}

void lab_call_begin(struct lab *lab, node_id_t node, struct lab_call *call)
{
    struct partition_table *table = lab->nodes[node].table;
    ck_assert(lab->nodes[node].up);
    switch (call->request.type) {
    case REQUEST_PRODUCE:
        partition_produce(table, &call->produce);
        break;
    case REQUEST_FETCH:
        partition_fetch(table, &call->fetch);
        break;
    case REQUEST_LIST_OFFSETS:
        partition_list_offsets(table, &call->list);
        break;
    case REQUEST_EPOCH_END_OFFSET:
        partition_epoch_end(table, &call->epoch);
        break;
    case REQUEST_LOCAL:
    case REQUEST_CALL:
        ck_abort_msg("no part");
    }
    partition_turn_ended(table);
}

static struct lab_call *lab_produce_batch(struct lab *lab, node_id_t node, int16_t acks,
                                          int records, const char *value, producer_id_t id,
                                          int32_t sequence)
{
    struct lab_call *call = lab_call_new(lab, REQUEST_PRODUCE);
    struct batch_builder builder;
    struct bytes bytes = {(const uint8_t *)value, strlen(value)};
    call->request.frame = frame_new(LAB_BATCH_BYTES);
    batch_begin(&builder, call->request.frame->bytes, LAB_BATCH_BYTES);
    for (int i = 0; i < records; i++)
        ck_assert_int_eq(batch_add(&builder, 1000, (struct bytes){0}, bytes, NULL, 0), ERR_OK);
    call->produce.records = call->request.frame->bytes;
    call->produce.bytes = (uint32_t)batch_finish(&builder, 0, id, id < 0 ? -1 : 0, sequence);
    call->produce.acks = acks;
    lab_call_begin(lab, node, call);
    return call;
}

struct lab_call *lab_produce(struct lab *lab, node_id_t node, int16_t acks, int records,
                             const char *value)
{
    return lab_produce_batch(lab, node, acks, records, value, -1, -1);
}

struct lab_call *lab_produce_as(struct lab *lab, node_id_t node, producer_id_t id, int32_t sequence,
                                const char *value)
{
    return lab_produce_batch(lab, node, -1, 1, value, id, sequence);
}

struct lab_call *lab_fetch(struct lab *lab, node_id_t node, offset_t offset, uint32_t bytes_min)
{
    struct lab_call *call = lab_call_new(lab, REQUEST_FETCH);
    call->fetch.offset = offset;
    call->fetch.bytes_max = 1 << 20;
    call->fetch.bytes_min = bytes_min;
    lab_call_begin(lab, node, call);
    return call;
}

struct lab_call *lab_list_offsets(struct lab *lab, node_id_t node, int64_t timestamp)
{
    struct lab_call *call = lab_call_new(lab, REQUEST_LIST_OFFSETS);
    call->list.timestamp = timestamp;
    lab_call_begin(lab, node, call);
    return call;
}

struct lab_call *lab_epoch_end(struct lab *lab, node_id_t node, leader_epoch_t asked)
{
    struct lab_call *call = lab_call_new(lab, REQUEST_EPOCH_END_OFFSET);
    call->epoch.asked = asked;
    lab_call_begin(lab, node, call);
    return call;
}

err_t lab_err(const struct lab_call *call)
{
    ck_assert(call->answered);
    return call->part.err;
}

/* ---- reading ---- */

static size_t lab_add_values(char *text, size_t used, const uint8_t *at, size_t left)
{
    while (left > 0) {
        struct batch_info info;
        struct record_cursor cursor;
        struct record record;
        ck_assert_int_eq(batch_check(at, left, &info), ERR_OK);
        ck_assert_int_eq(record_cursor_init(&cursor, at, info.bytes), ERR_OK);
        while (record_cursor_next(&cursor, &record) == ERR_OK) {
            ck_assert_uint_lt(used + record.value.len + 2, LAB_TEXT_MAX);
            if (used > 0)
                text[used++] = ',';
            memcpy(text + used, record.value.data, record.value.len);
            used += record.value.len;
        }
        at += info.bytes;
        left -= info.bytes;
    }
    text[used] = 0;
    return used;
}

const char *lab_values(const struct lab_call *call)
{
    static char text[LAB_TEXT_MAX];
    text[0] = 0;
    ck_assert_int_eq(lab_err(call), ERR_OK);
    if (call->fetch.records != NULL)
        (void)lab_add_values(text, 0, call->fetch.records->bytes, call->fetch.records->used);
    return text;
}

const char *lab_log_values(struct lab *lab, node_id_t node)
{
    static char texts[LAB_NODES + 1][LAB_TEXT_MAX];
    char *text = texts[node];
    size_t used = 0;
    struct log *log = partition_log(lab->nodes[node].table, &lab->id);
    text[0] = 0;
    ck_assert_ptr_nonnull(log);
    for (offset_t next = log_start(log); next < log_end(log);) {
        struct frame *frame;
        struct batch_info info;
        struct log_read_args args = {.offset = next, .limit = log_end(log), .bytes_max = 1};
        ck_assert_int_eq(log_read(log, &args, &frame), ERR_OK);
        ck_assert_ptr_nonnull(frame);
        ck_assert_int_eq(batch_peek(frame->bytes, frame->used, &info), ERR_OK);
        used = lab_add_values(text, used, frame->bytes, frame->used);
        next = info.last_offset + 1;
        frame_unref(frame);
    }
    return text;
}

struct partition_view lab_look(struct lab *lab, node_id_t node)
{
    struct partition_view view;
    ck_assert(partition_look(lab->nodes[node].table, &lab->id, &view));
    return view;
}
