/* What a leader refuses of parts that are too old, too late, too many, or of others to write. */
#include <string.h>

#include "base/logger.h"
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

CHECK_MAIN("shard/partition_refusals", a_part_of_an_older_epoch_is_fenced_whatever_it_asks,
           what_only_coordinators_write_is_refused,
           more_than_a_segment_holds_or_a_part_may_have_is_refused,
           a_fetch_too_late_or_one_too_many_is_answered_at_once)
