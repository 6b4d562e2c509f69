/* What a leader refuses of parts that are too old, too late, too many, or of others to write. */
#include <string.h>

#include "base/logger.h"
#include "shard/partition_internal.h"
#include "unit/shard/partition_lab.h"

static struct lab *lab;

static void setup(const struct partition_options *options)
{
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    lab = lab_new_with(3, options);
    lab_create(lab);
    lab_pump(lab);
}

static err_t asked_in(enum request_type type, leader_epoch_t epoch)
{
    struct lab_call *call = lab_call_new(lab, type);
    call->part.leader_epoch_asked = epoch;
    if (type == REQUEST_LIST_OFFSETS)
        call->list.timestamp = -2;
    lab_call_begin(lab, 1, call);
    lab_pump(lab);
    return lab_err(call);
}

START_TEST(a_part_of_an_older_epoch_is_fenced_whatever_it_asks)
{
    static const enum request_type types[] = {REQUEST_FETCH, REQUEST_LIST_OFFSETS,
                                              REQUEST_EPOCH_END_OFFSET};
    struct partition_options options = lab_options();
    setup(&options);
    lab_elect(lab, 1, 123);
    lab_pump(lab);
    leader_epoch_t now = lab_partition_now(lab)->leader_epoch;
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        ck_assert_int_eq(asked_in(types[i], now - 1), ERR_FENCED_LEADER_EPOCH);
        ck_assert_int_eq(asked_in(types[i], now), ERR_OK);
    }
    struct lab_call *time = lab_list_offsets(lab, 1, -7);
    ck_assert_int_eq(lab_err(time), ERR_INVALID_TIMESTAMP);
    lab_free(lab);
}
END_TEST

static err_t produce_of(uint16_t attributes, int batches)
{
    struct lab_call *call = lab_call_new(lab, REQUEST_PRODUCE);
    struct batch_builder builder;
    struct bytes value = {(const uint8_t *)"a", 1};
    size_t used = 0, room = (size_t)batches * 100;
    call->request.frame = frame_new(room);
    for (int i = 0; i < batches; i++) {
        batch_begin(&builder, call->request.frame->bytes + used, room - used);
        ck_assert_int_eq(batch_add(&builder, 1000, (struct bytes){0}, value, NULL, 0), ERR_OK);
        used += batch_finish(&builder, attributes, -1, -1, -1);
    }
    call->produce.records = call->request.frame->bytes;
    call->produce.bytes = (uint32_t)used;
    call->produce.acks = -1;
    lab_call_begin(lab, 1, call);
    lab_pump(lab);
    return lab_err(call);
}

START_TEST(what_only_coordinators_write_is_refused)
{
    struct partition_options options = lab_options();
    setup(&options);
    ck_assert_int_eq(produce_of(BATCH_CONTROL, 1), ERR_INVALID_RECORD);
    ck_assert_int_eq(produce_of(BATCH_TRANSACTIONAL, 1), ERR_INVALID_RECORD);
    ck_assert_int_eq(produce_of(0, 1), ERR_OK);
    ck_assert_int_eq(lab_look(lab, 1).end, 1);
    lab_free(lab);
}
END_TEST

START_TEST(more_than_a_segment_holds_or_a_part_may_have_is_refused)
{
    struct partition_options options = lab_options();
    setup(&options);
    ck_assert_int_eq(produce_of(0, 1000), ERR_RECORD_LIST_TOO_LARGE); /* bytes */
    lab_free(lab);
    options.segment_bytes = 4 << 20;
    setup(&options);
    ck_assert_int_eq(produce_of(0, 10000), ERR_RECORD_LIST_TOO_LARGE); /* batches */
    ck_assert_int_eq(lab_look(lab, 1).end, 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_fetch_too_late_or_one_too_many_is_answered_at_once)
{
    struct partition_options options = lab_options();
    options.waiters_max = 1;
    setup(&options);
    struct lab_call *late = lab_call_new(lab, REQUEST_FETCH);
    late->fetch.bytes_max = late->fetch.bytes_min = 100;
    late->part.deadline_ns = lab->now_ns;
    lab_call_begin(lab, 1, late);
    ck_assert_int_eq(lab_err(late), ERR_OK);
    struct lab_call *waits = lab_fetch(lab, 1, 0, 100);
    ck_assert(!waits->answered);
    struct lab_call *many = lab_fetch(lab, 1, 0, 100);
    ck_assert_int_eq(lab_err(many), ERR_OK);
    /* Of those that wait for a later epoch, as well. */
    struct lab_call *parked[2];
    for (size_t i = 0; i < ARRAY_LEN(parked); i++) {
        parked[i] = lab_call_new(lab, REQUEST_FETCH);
        parked[i]->part.leader_epoch_asked = 99;
        lab_call_begin(lab, 1, parked[i]);
    }
    ck_assert(!parked[0]->answered);
    ck_assert_int_eq(lab_err(parked[1]), ERR_UNKNOWN_LEADER_EPOCH);
    lab_tick(lab, 31000);
    ck_assert_int_eq(lab_err(parked[0]), ERR_UNKNOWN_LEADER_EPOCH);
    lab_free(lab);
}
END_TEST

/* ---- between brokers ---- */

static uint8_t batch[256];

/* What the leader would send to node 2 next, of one record. */
static struct replica_data data_of(leader_epoch_t epoch)
{
    const struct replica *r = &partition_find(lab->nodes[2].table, &lab->id)->replica;
    struct batch_builder builder;
    batch_begin(&builder, batch, sizeof(batch));
    ck_assert_int_eq(
        batch_add(&builder, 1000, (struct bytes){0}, (struct bytes){batch, 1}, NULL, 0), ERR_OK);
    size_t len = batch_finish(&builder, 0, -1, -1, -1);
    batch_patch(batch, r->end, epoch);
    return (struct replica_data){
        .id = lab->id,
        .leader_epoch = r->leader_epoch,
        .session = r->session,
        .high_watermark = 0,
        .fetch_offset = r->end,
        .diverging_epoch = -1,
        .diverging_end = -1,
        .records = batch,
        .bytes = (uint32_t)len,
        .from = 1,
    };
}

static offset_t end_after(const struct replica_data *data)
{
    partition_data(lab->nodes[2].table, data);
    offset_t end = lab_look(lab, 2).end;
    lab_tick(lab, 3000); /* what was broken is asked for again */
    return end;
}

START_TEST(data_that_are_not_what_was_asked_for_are_not_appended)
{
    struct partition_options options = lab_options();
    setup(&options);
    lab_elect(lab, 1, 123);
    ck_assert_int_eq(produce_of(0, 3), ERR_OK);
    lab_tick(lab, 500);
    ck_assert_int_eq(lab_look(lab, 2).end, 3);
    leader_epoch_t epoch = lab_partition_now(lab)->leader_epoch;
    struct replica_data data = data_of(epoch);
    batch[data.bytes - 1] ^= 1;
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch);
    batch_patch(batch, 7, epoch); /* another offset */
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch - 1); /* below the last one's */
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch + 1); /* above the leader's */
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch);
    data.bytes--;
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch);
    data.session--;
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch);
    data.id.index = 9; /* nobody's */
    ck_assert_int_eq(end_after(&data), 3);
    data = data_of(epoch);
    ck_assert_int_eq(end_after(&data), 4);
    lab_free(lab);
}
END_TEST

START_TEST(deltas_of_strangers_and_older_lives_move_nothing)
{
    struct partition_options options = lab_options();
    setup(&options);
    lab_elect(lab, 1, 123);
    lab_pump(lab);
    struct partition_table *leader = lab->nodes[1].table;
    leader_epoch_t epoch = lab_partition_now(lab)->leader_epoch;
    struct replica_delta good = {
        .id = lab->id,
        .follower = 2,
        .broker_epoch = lab->nodes[2].broker_epoch,
        .conn = {2, lab->nodes[2].streams[1]},
        .leader_epoch = epoch,
        .session = partition_find(lab->nodes[2].table, &lab->id)->replica.session,
        .last_fetched_epoch = -1,
    };
    struct replica_delta delta = good;
    delta.leader_epoch = epoch - 1; /* fenced */
    partition_delta(leader, &delta);
    delta = good;
    delta.broker_epoch--;
    partition_delta(leader, &delta);
    delta = good;
    delta.session--;
    partition_delta(leader, &delta);
    delta = good;
    delta.follower = 9;
    partition_delta(leader, &delta);
    delta = good;
    delta.id.topic = lab_uuid(4711); /* a topic that may come: it waits, once */
    partition_delta(leader, &delta);
    partition_delta(leader, &delta);
    delta.stop = true;
    partition_delta(leader, &delta);
    lab_tick(lab, 60000);
    Karst__AlterPartitionItemReply reply = KARST__ALTER_PARTITION_ITEM_REPLY__INIT;
    partition_altered(leader, &delta.id, &reply);
    partition_alter_failed(leader, &delta.id, ERR_REQUEST_TIMED_OUT);
    struct lab_call *call = lab_produce(lab, 1, -1, 1, "a");
    lab_tick(lab, 500);
    ck_assert_int_eq(lab_err(call), ERR_OK); /* and all goes on */
    ck_assert_int_eq(lab_look(lab, 2).end, 1);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("shard/partition_refusals", a_part_of_an_older_epoch_is_fenced_whatever_it_asks,
           what_only_coordinators_write_is_refused,
           more_than_a_segment_holds_or_a_part_may_have_is_refused,
           a_fetch_too_late_or_one_too_many_is_answered_at_once,
           data_that_are_not_what_was_asked_for_are_not_appended,
           deltas_of_strangers_and_older_lives_move_nothing)
