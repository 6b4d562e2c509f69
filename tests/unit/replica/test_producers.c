#include "unit/replica/lab.h"

static struct replica_lab *lab_two(void)
{
    return replica_lab_leader(&(struct lab_setup){.epoch = 5, .replicas = {1, 2}});
}

START_TEST(a_duplicate_waits_like_its_original) /* R28 */
{
    struct replica_lab *lab = lab_two();
    uint32_t first = replica_lab_produce_as(lab, 7, 0, 0, 5);
    uint32_t again = replica_lab_produce_as(lab, 7, 0, 0, 5);
    ck_assert_int_eq(lab->log->end, 5);
    replica_lab_flush(lab);
    ck_assert(!replica_lab_answered(lab, again));
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, first), ERR_OK);
    ck_assert_int_eq(replica_lab_err(lab, again), ERR_OK);
    ck_assert_int_eq(lab->waits[again].waiter.base, 0);
    uint32_t later = replica_lab_produce_as(lab, 7, 0, 0, 5); /* committed: at once */
    ck_assert_int_eq(replica_lab_err(lab, later), ERR_OK);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_duplicate_is_answered_before_what_came_between)
{
    struct replica_lab *lab = lab_two();
    replica_lab_produce_as(lab, 7, 0, 0, 5);
    uint32_t between = replica_lab_produce_as(lab, 7, 0, 5, 5);
    uint32_t again = replica_lab_produce_as(lab, 7, 0, 0, 5);
    replica_lab_flush(lab);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, again), ERR_OK);
    ck_assert(!replica_lab_answered(lab, between));
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_gap_is_refused)
{
    struct replica_lab *lab = lab_two();
    uint32_t gap = replica_lab_produce_as(lab, 7, 0, 3, 5); /* unknown, so new: it begins at 0 */
    ck_assert_int_eq(replica_lab_err(lab, gap), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    replica_lab_produce_as(lab, 7, 0, 0, 5);
    gap = replica_lab_produce_as(lab, 7, 0, 6, 5);
    ck_assert_int_eq(replica_lab_err(lab, gap), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    uint32_t overlap = replica_lab_produce_as(lab, 7, 0, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, overlap), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    ck_assert_int_eq(lab->log->end, 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(the_window_holds_five_batches)
{
    struct replica_lab *lab = lab_two();
    for (int i = 0; i < 6; i++)
        replica_lab_produce_as(lab, 7, 0, i * 2, 2);
    uint32_t second = replica_lab_produce_as(lab, 7, 0, 2, 2);
    uint32_t first = replica_lab_produce_as(lab, 7, 0, 0, 2);
    ck_assert_int_eq(lab->log->end, 12);
    replica_lab_flush(lab);
    replica_lab_fetch_from(lab, 2, 12);
    ck_assert_int_eq(replica_lab_err(lab, second), ERR_OK);
    ck_assert_int_eq(lab->waits[second].waiter.base, 2);
    ck_assert_int_eq(replica_lab_err(lab, first), ERR_DUPLICATE_SEQUENCE_NUMBER);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_new_epoch_begins_at_zero_and_fences_the_old)
{
    struct replica_lab *lab = lab_two();
    replica_lab_produce_as(lab, 7, 0, 0, 5);
    uint32_t wrong = replica_lab_produce_as(lab, 7, 1, 5, 5);
    ck_assert_int_eq(replica_lab_err(lab, wrong), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    uint32_t right = replica_lab_produce_as(lab, 7, 1, 0, 5);
    ck_assert(!replica_lab_answered(lab, right));
    uint32_t zombie = replica_lab_produce_as(lab, 7, 0, 5, 5);
    ck_assert_int_eq(replica_lab_err(lab, zombie), ERR_INVALID_PRODUCER_EPOCH);
    replica_lab_free(lab);
}
END_TEST

START_TEST(sequences_wrap_to_zero)
{
    struct replica_lab *lab = lab_two();
    struct batch_info near = lab_batch(7, 0, INT32_MAX - 1, 4); /* ..., 2^31 - 1, 0, 1 */
    near.last_offset = 3;
    replica_note_batch(lab->replica, &near);
    uint32_t next = replica_lab_produce_as(lab, 7, 0, 2, 3);
    ck_assert_int_eq(lab->log->end, 3);
    ck_assert(!replica_lab_answered(lab, next));
    uint32_t again = replica_lab_produce_as(lab, 7, 0, 2, 3);
    ck_assert(!replica_lab_answered(lab, again));
    ck_assert_int_eq(lab->log->end, 3);
    replica_lab_free(lab);
}
END_TEST

START_TEST(batches_of_one_request_follow_each_other)
{
    struct replica_lab *lab = lab_two();
    struct batch_info good[] = {lab_batch(7, 0, 0, 2), lab_batch(8, 0, 0, 1),
                                lab_batch(7, 0, 2, 2)};
    uint32_t wait = replica_lab_produce_batches(lab, good, 3, -1);
    ck_assert_int_eq(lab->log->end, 5);
    struct batch_info bad[] = {lab_batch(7, 0, 4, 2), lab_batch(7, 0, 7, 2)};
    uint32_t refused = replica_lab_produce_batches(lab, bad, 2, -1);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    struct batch_info mixed[] = {lab_batch(7, 0, 2, 2), lab_batch(7, 0, 4, 2)};
    refused = replica_lab_produce_batches(lab, mixed, 2, -1);
    ck_assert_int_eq(replica_lab_err(lab, refused), ERR_DUPLICATE_SEQUENCE_NUMBER);
    ck_assert_int_eq(lab->log->end, 5);
    uint32_t again = replica_lab_produce_batches(lab, good, 3, -1);
    replica_lab_flush(lab);
    replica_lab_fetch_from(lab, 2, 5);
    ck_assert_int_eq(replica_lab_err(lab, wait), ERR_OK);
    ck_assert_int_eq(replica_lab_err(lab, again), ERR_OK);
    ck_assert_int_eq(lab->log->end, 5);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_failed_append_leaves_no_trace_in_the_window)
{
    struct replica_lab *lab = lab_two();
    lab->append_err = ERR_NOT_ENOUGH_SPACE;
    replica_lab_produce_as(lab, 7, 0, 0, 5);
    uint32_t again = replica_lab_produce_as(lab, 7, 0, 0, 5);
    ck_assert_int_eq(lab->log->end, 5);
    ck_assert(!replica_lab_answered(lab, again));
    replica_lab_free(lab);
}
END_TEST

/* What the lab's follower notes as its shard would: batches of two records. */
static void note(struct replica_lab *lab, producer_id_t id, int32_t sequence, offset_t base)
{
    struct batch_info info = lab_batch(id, 0, sequence, 2);
    info.base_offset = base;
    info.last_offset = base + 1;
    replica_note_batch(lab->replica, &info);
}

static struct replica_lab *lab_cut_at(offset_t end, int batches)
{
    struct replica_lab *lab =
        replica_lab_follower(&(struct lab_setup){.epoch = 5, .old_epoch = 4, .end = 2 * batches});
    for (int i = 0; i < batches; i++)
        note(lab, 7, 2 * i, 2 * i);
    struct replica_arrived data = lab_data(lab);
    data.diverging_epoch = 4;
    data.diverging_end = end;
    replica_lab_data(lab, data, 0, 0);
    ck_assert_int_eq(lab->log->end, end);
    lab->partition.leader = 1;
    lab->partition.leader_epoch = 6;
    replica_lab_image(lab);
    return lab;
}

START_TEST(a_cut_takes_what_it_cut_out_of_the_window)
{
    struct replica_lab *lab = lab_cut_at(4, 4);
    ck_assert_uint_eq(lab->rebuilds, 0);
    uint32_t wait = replica_lab_produce_as(lab, 7, 0, 4, 2);
    ck_assert_int_eq(lab->log->end, 6);
    ck_assert(!replica_lab_answered(lab, wait));
    replica_lab_free(lab);

    lab = lab_cut_at(0, 4); /* all of it: it is unknown, and begins anew */
    ck_assert_uint_eq(lab->rebuilds, 0);
    ck_assert_uint_eq(replica_producer_count(lab->replica), 0);
    replica_lab_free(lab);
}
END_TEST

START_TEST(a_cut_below_the_window_asks_for_the_log)
{
    struct replica_lab *lab = lab_cut_at(4, 8);
    ck_assert_uint_eq(lab->rebuilds, 1);
    ck_assert_uint_eq(replica_producer_count(lab->replica), 0);
    note(lab, 7, 0, 0);
    note(lab, 7, 2, 2);
    uint32_t wait = replica_lab_produce_as(lab, 7, 0, 4, 2);
    ck_assert(!replica_lab_answered(lab, wait));
    ck_assert_int_eq(lab->log->end, 6);
    replica_lab_free(lab);
}
END_TEST

START_TEST(producers_are_bounded_and_the_silent_one_goes)
{
    struct replica_lab *lab = lab_two(); /* four */
    for (producer_id_t id = 1; id <= 4; id++)
        replica_lab_produce_as(lab, id, 0, 0, 1);
    replica_lab_produce_as(lab, 1, 0, 1, 1);
    replica_lab_produce_as(lab, 5, 0, 0, 1); /* 2 goes */
    ck_assert_uint_eq(replica_producer_count(lab->replica), 4);
    offset_t end = lab->log->end;
    replica_lab_produce_as(lab, 1, 0, 2, 1);
    ck_assert_int_eq(lab->log->end, end + 1);
    /* Now one that is unknown may have been forgotten: any sequence is taken. */
    replica_lab_produce_as(lab, 2, 0, 1, 1);
    ck_assert_int_eq(lab->log->end, end + 2);
    replica_lab_free(lab);
}
END_TEST

static size_t snapshot_of(const struct replica_lab *lab, uint8_t *into, size_t size)
{
    size_t bytes = replica_snapshot_bytes(lab->replica);
    ck_assert_uint_le(bytes, size);
    replica_write_snapshot(lab->replica, into);
    return bytes;
}

START_TEST(a_snapshot_gives_back_what_was_known)
{
    struct replica_lab *lab = lab_two();
    uint8_t snapshot[4096], again[4096];
    offset_t offset = -1;
    for (int i = 0; i < 7; i++)
        replica_lab_produce_as(lab, 7, 0, i, 1);
    replica_lab_produce_as(lab, 8, 3, 0, 5);
    size_t bytes = snapshot_of(lab, snapshot, sizeof(snapshot));

    struct replica_lab *other = replica_lab_leader(
        &(struct lab_setup){.epoch = 6, .old_epoch = 5, .end = 12, .replicas = {1, 2}});
    struct bytes in = {snapshot, bytes};
    ck_assert_int_eq(replica_read_snapshot(other->replica, in, &offset), ERR_OK);
    ck_assert_int_eq(offset, 12);
    ck_assert_uint_eq(replica_producer_count(other->replica), 2);
    ck_assert_uint_eq(snapshot_of(other, again, sizeof(again)), bytes);
    ck_assert_mem_eq(again, snapshot, bytes);
    uint32_t known = replica_lab_produce_as(other, 7, 0, 6, 1);
    ck_assert_int_eq(other->log->end, 12);
    ck_assert_int_eq(other->waits[known].waiter.base, 6);
    replica_lab_produce_as(other, 7, 0, 7, 1);
    ck_assert_int_eq(other->log->end, 13);
    replica_lab_free(lab);
    replica_lab_free(other);
}
END_TEST

START_TEST(a_broken_snapshot_is_refused_whole)
{
    struct replica_lab *lab = lab_two();
    struct replica_lab *empty = lab_two();
    uint8_t snapshot[4096], broken[4096];
    offset_t offset;
    replica_lab_produce_as(lab, 7, 0, 0, 1);
    replica_lab_produce_as(lab, 8, 0, 0, 1);
    size_t bytes = snapshot_of(lab, snapshot, sizeof(snapshot));
    ck_assert_int_eq(
        replica_read_snapshot(empty->replica, (struct bytes){snapshot, bytes}, &offset),
        ERR_OFFSET_OUT_OF_RANGE); /* a log that has lost it */
    for (size_t i = 0; i < bytes; i++) {
        memcpy(broken, snapshot, bytes);
        broken[i] ^= 0x40;
        ck_assert_int_eq(
            replica_read_snapshot(empty->replica, (struct bytes){broken, bytes}, &offset),
            ERR_CORRUPT);
        ck_assert_int_eq(
            replica_read_snapshot(empty->replica, (struct bytes){snapshot, i}, &offset),
            ERR_CORRUPT);
        ck_assert_uint_eq(replica_producer_count(empty->replica), 0);
    }
    replica_lab_free(lab);
    replica_lab_free(empty);
}
END_TEST

CHECK_MAIN("replica/producers", a_duplicate_waits_like_its_original,
           a_duplicate_is_answered_before_what_came_between, a_gap_is_refused,
           the_window_holds_five_batches, a_new_epoch_begins_at_zero_and_fences_the_old,
           sequences_wrap_to_zero, batches_of_one_request_follow_each_other,
           a_failed_append_leaves_no_trace_in_the_window, a_cut_takes_what_it_cut_out_of_the_window,
           a_cut_below_the_window_asks_for_the_log, producers_are_bounded_and_the_silent_one_goes,
           a_snapshot_gives_back_what_was_known, a_broken_snapshot_is_refused_whole)
