#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "unit/shard/partition_lab.h"

START_TEST(a_produce_is_acknowledged_when_all_have_flushed_it)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab->nodes[3].hold_syncs = true;
    struct lab_call *call = lab_produce(lab, 1, -1, 3, "x");
    lab_pump(lab);
    ck_assert(!call->answered);
    ck_assert_int_eq(lab_look(lab, 3).end, 3); /* it has it, and has not flushed it */
    ck_assert_int_eq(lab_look(lab, 1).high_watermark, 0);
    lab->nodes[3].hold_syncs = false;
    lab_pump(lab);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_int_eq(call->produce.base_offset, 0);
    ck_assert_int_eq(call->part.high_watermark, 3);
    for (node_id_t node = 1; node <= 3; node++)
        ck_assert_str_eq(lab_log_values(lab, node), "x,x,x");
    lab_free(lab);
}
END_TEST

START_TEST(many_produces_ride_in_few_frames)
{
    struct lab *lab = lab_new(check_main_seed());
    struct lab_call *calls[200];
    lab_create(lab);
    lab_pump(lab);
    uint64_t down = lab->frames_down;
    lab->nodes[1].hold_syncs = true;
    for (int i = 0; i < 100; i++)
        calls[i] = lab_produce(lab, 1, -1, 1, "x");
    lab_pump(lab);
    lab->nodes[1].hold_syncs = false;
    lab_pump(lab);
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(lab_err(calls[i]), ERR_OK);
        ck_assert_int_eq(calls[i]->produce.base_offset, i);
    }
    ck_assert_uint_lt(lab->frames_down - down, 40);
    ck_assert_int_eq(lab_look(lab, 2).end, 100);
    lab_free(lab);
}
END_TEST

START_TEST(consumers_see_no_further_than_the_high_watermark)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab->nodes[2].hold_syncs = true;
    lab_produce(lab, 1, 1, 1, "a");
    lab_pump(lab);
    struct lab_call *at_once = lab_fetch(lab, 1, 0, 0);
    ck_assert_str_eq(lab_values(at_once), "");
    struct lab_call *waits = lab_fetch(lab, 1, 0, 1);
    ck_assert(!waits->answered);
    lab->nodes[2].hold_syncs = false;
    lab_pump(lab);
    ck_assert_str_eq(lab_values(waits), "a");
    ck_assert_int_eq(waits->part.high_watermark, 1);
    struct lab_call *beyond = lab_fetch(lab, 1, 2, 1);
    ck_assert_int_eq(lab_err(beyond), ERR_OFFSET_OUT_OF_RANGE);
    lab_free(lab);
}
END_TEST

START_TEST(a_fetch_waits_for_bytes_min_or_its_deadline)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    struct lab_call *much = lab_fetch(lab, 1, 0, 100);
    struct lab_call *more = lab_fetch(lab, 1, 0, 100000);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    ck_assert(!much->answered);
    lab_produce(lab, 1, -1, 1, "b");
    lab_pump(lab);
    ck_assert_str_eq(lab_values(much), "a,b");
    ck_assert(!more->answered);
    lab_tick(lab, 30000);
    ck_assert_str_eq(lab_values(more), "a,b");
    lab_free(lab);
}
END_TEST

static err_t (*read_of_disk)(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                             size_t *ret_bytes);
static uint64_t bytes_read;

static err_t count_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                        size_t *ret_bytes)
{
    bytes_read += bytes;
    return read_of_disk(self, file, at, into, bytes, ret_bytes);
}

START_TEST(a_fetch_that_waits_is_not_read_for_before_there_can_be_enough)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_mute(lab, 2, true);
    lab_mute(lab, 3, true);
    lab_elect(lab, 1, 1);
    lab_pump(lab);
    struct lab_call *waits = lab_fetch(lab, 1, 0, 20000);
    struct env_disk *disk = lab->nodes[1].env.disks;
    read_of_disk = disk->read;
    disk->read = count_read;
    bytes_read = 0;
    int count = 0;
    for (; !waits->answered && count < 1000; count++) {
        lab_produce(lab, 1, -1, 1, "a");
        lab_pump(lab);
    }
    disk->read = read_of_disk;
    ck_assert_int_eq(lab_err(waits), ERR_OK);
    ck_assert_uint_ge(waits->fetch.records->used, 20000);
    ck_assert_uint_lt(waits->fetch.records->used, 20200); /* nor later than that */
    ck_assert_uint_lt(bytes_read, 100000);
    lab_free(lab);
}
END_TEST

START_TEST(what_one_request_fetches_is_bounded_while_it_is_read)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    struct lab_call *calls[3];
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        calls[i] = lab_call_new(lab, REQUEST_FETCH);
        calls[i]->fetch.bytes_max = calls[i]->fetch.bytes_min = 100;
        calls[i]->part.request = &calls[0]->request; /* parts of one */
    }
    calls[0]->request.bytes_max = 100;
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        lab_call_begin(lab, 1, calls[i]);
        lab_tick(lab, 31000);
        ck_assert_int_eq(lab_err(calls[i]), ERR_OK);
    }
    ck_assert_ptr_nonnull(calls[0]->fetch.records);
    ck_assert_ptr_nonnull(calls[1]->fetch.records); /* one batch was not all of it */
    ck_assert_ptr_null(calls[2]->fetch.records);
    lab_free(lab);
}
END_TEST

START_TEST(a_canceled_part_comes_back_once)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab->nodes[2].hold_syncs = true;
    struct lab_call *produce = lab_produce(lab, 1, -1, 1, "a");
    struct lab_call *fetch = lab_fetch(lab, 1, 0, 1);
    partition_cancel(lab->nodes[1].table, &fetch->part);
    partition_cancel(lab->nodes[1].table, &produce->part);
    ck_assert_int_eq(lab_err(fetch), ERR_CANCELED);
    ck_assert_int_eq(lab_err(produce), ERR_CANCELED);
    lab->nodes[2].hold_syncs = false;
    lab_pump(lab);
    ck_assert_int_eq(lab_look(lab, 1).high_watermark, 1); /* written all the same */
    lab_free(lab);
}
END_TEST

START_TEST(a_produce_times_out_by_what_it_waits_for)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_configure(lab, "min.insync.replicas", "2");
    lab_pump(lab);
    lab->hold_alters = true;
    lab_mute(lab, 2, true);
    struct lab_call *slow = lab_produce(lab, 1, -1, 1, "a");
    lab_tick(lab, 30000);
    ck_assert_int_eq(lab_err(slow), ERR_REQUEST_TIMED_OUT);
    struct lab_call *stuck = lab_produce(lab, 1, -1, 1, "b");
    lab_elect(lab, 1, 1); /* the others are out */
    ck_assert_int_eq(lab_err(stuck), ERR_NOT_LEADER_OR_FOLLOWER);
    struct lab_call *refused = lab_produce(lab, 1, -1, 1, "c");
    ck_assert_int_eq(lab_err(refused), ERR_NOT_ENOUGH_REPLICAS);
    lab_free(lab);
}
END_TEST

START_TEST(bad_batches_are_refused_for_what_they_are)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_configure(lab, "max.message.bytes", "200");
    lab_pump(lab);
    struct lab_call *good = lab_produce(lab, 1, -1, 1, "a");
    struct lab_call *crc = lab_call_new(lab, REQUEST_PRODUCE);
    crc->request.frame = frame_new(4096);
    memcpy(crc->request.frame->bytes, good->produce.records, good->produce.bytes);
    crc->request.frame->bytes[good->produce.bytes - 1] ^= 1;
    crc->produce.records = crc->request.frame->bytes;
    crc->produce.bytes = good->produce.bytes;
    crc->produce.acks = -1;
    lab_call_begin(lab, 1, crc);
    ck_assert_int_eq(lab_err(crc), ERR_CORRUPT_MESSAGE);
    struct lab_call *cut = lab_call_new(lab, REQUEST_PRODUCE);
    cut->produce.records = good->produce.records;
    cut->produce.bytes = good->produce.bytes - 1;
    cut->produce.acks = -1;
    lab_call_begin(lab, 1, cut);
    ck_assert_int_eq(lab_err(cut), ERR_CORRUPT_MESSAGE);
    struct lab_call *empty = lab_call_new(lab, REQUEST_PRODUCE);
    empty->produce.acks = -1;
    lab_call_begin(lab, 1, empty);
    ck_assert_int_eq(lab_err(empty), ERR_INVALID_RECORD);
    struct lab_call *large = lab_produce(lab, 1, -1, 100, "a");
    ck_assert_int_eq(lab_err(large), ERR_MESSAGE_TOO_LARGE);
    lab_pump(lab);
    ck_assert_int_eq(lab_err(good), ERR_OK);
    ck_assert_int_eq(lab_look(lab, 1).end, 1);
    lab_free(lab);
}
END_TEST

/* A hostile client's: what is compressed is not unpacked here, so that its count is its word. */
START_TEST(batches_that_claim_too_many_records_are_refused_and_the_leader_leads_on)
{
    enum { LEN = 500000, COUNT = 3 };
    struct partition_options options = lab_options();
    options.segment_bytes = 8 << 20;
    struct lab *lab = lab_new_with(check_main_seed(), &options);
    lab_create(lab);
    struct lab_call *call = lab_call_new(lab, REQUEST_PRODUCE);
    struct frame *frame = call->request.frame = frame_new((size_t)LEN * COUNT);
    for (uint8_t *at = frame->bytes; at < frame->bytes + LEN * COUNT; at += LEN) {
        memset(at, 0xff, LEN);
        put_u64(at, 0);
        put_u32(at + 8, LEN - 12);
        at[16] = 2;
        put_u16(at + 21, 4); /* zstd */
        put_u32(at + 23, INT32_MAX - 1);
        put_u32(at + 57, INT32_MAX);
        put_u32(at + 17, crc32c(0, at + 21, LEN - 21));
    }
    call->produce.records = frame->bytes;
    call->produce.bytes = LEN * COUNT;
    call->produce.acks = -1;
    lab_call_begin(lab, 1, call);
    lab_pump(lab);
    ck_assert_int_eq(lab_err(call), ERR_RECORD_LIST_TOO_LARGE);
    struct lab_call *good = lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(good), ERR_OK);
    lab_free(lab);
}
END_TEST

START_TEST(others_than_the_leader_say_who_leads)
{
    struct lab *lab = lab_new(check_main_seed());
    struct lab_call *early = lab_fetch(lab, 2, 0, 0);
    ck_assert_int_eq(lab_err(early), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_create(lab);
    lab_pump(lab);
    struct lab_call *calls[] = {lab_produce(lab, 2, -1, 1, "a"), lab_fetch(lab, 2, 0, 0),
                                lab_list_offsets(lab, 2, -1), lab_epoch_end(lab, 2, 0)};
    for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
        ck_assert_int_eq(lab_err(calls[i]), ERR_NOT_LEADER_OR_FOLLOWER);
        ck_assert_int_eq(calls[i]->part.leader, 1);
        ck_assert_int_eq(calls[i]->part.leader_epoch, lab_partition_now(lab)->leader_epoch);
    }
    lab->nodes[1].lease = false; /* R10 */
    struct lab_call *unled = lab_produce(lab, 1, -1, 1, "a");
    ck_assert_int_eq(lab_err(unled), ERR_NOT_LEADER_OR_FOLLOWER);
    ck_assert_int_eq(unled->part.leader, NO_NODE);
    lab_free(lab);
}
END_TEST

START_TEST(offsets_are_listed_to_the_high_watermark)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 5, "a");
    lab_pump(lab);
    ck_assert_int_eq(lab_list_offsets(lab, 1, -1)->list.offset, 5);
    ck_assert_int_eq(lab_list_offsets(lab, 1, -2)->list.offset, 0);
    struct lab_call *by_time = lab_list_offsets(lab, 1, 1000);
    ck_assert_int_eq(lab_err(by_time), ERR_OK);
    ck_assert_int_eq(by_time->list.offset, 0);
    ck_assert_int_eq(by_time->list.found_timestamp, 1000);
    struct lab_call *later = lab_list_offsets(lab, 1, 1001);
    ck_assert_int_eq(lab_err(later), ERR_OK);
    ck_assert_int_eq(later->list.offset, -1);
    struct lab_call *epoch = lab_epoch_end(lab, 1, lab_partition_now(lab)->leader_epoch);
    ck_assert_int_eq(lab_err(epoch), ERR_OK);
    ck_assert_int_eq(epoch->epoch.end, 5);
    lab_free(lab);
}
END_TEST

START_TEST(a_part_that_names_a_newer_epoch_waits_for_the_image) /* R30 */
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    leader_epoch_t epoch = lab_partition_now(lab)->leader_epoch;
    struct lab_call *parked = lab_call_new(lab, REQUEST_FETCH);
    parked->fetch.bytes_max = 1000;
    parked->part.leader_epoch_asked = epoch + 1;
    lab_call_begin(lab, 2, parked);
    ck_assert(!parked->answered);
    struct lab_call *forever = lab_call_new(lab, REQUEST_FETCH);
    forever->fetch.bytes_max = 1000;
    forever->part.leader_epoch_asked = epoch + 7;
    lab_call_begin(lab, 2, forever);
    lab_elect(lab, 2, 123);
    lab_pump(lab);
    ck_assert_int_eq(lab_err(parked), ERR_OK);
    struct lab_call *old = lab_call_new(lab, REQUEST_FETCH);
    old->part.leader_epoch_asked = epoch;
    lab_call_begin(lab, 2, old);
    ck_assert_int_eq(lab_err(old), ERR_FENCED_LEADER_EPOCH);
    lab_tick(lab, 31000);
    ck_assert_int_eq(lab_err(forever), ERR_UNKNOWN_LEADER_EPOCH);
    lab_free(lab);
}
END_TEST

START_TEST(a_deleted_topic_gives_its_parts_back_and_leaves_no_folder) /* R21 */
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab->nodes[2].hold_syncs = true;
    struct lab_call *produce = lab_produce(lab, 1, -1, 1, "b");
    struct lab_call *fetch = lab_fetch(lab, 1, 1, 1);
    lab_delete(lab);
    ck_assert_int_eq(lab_err(produce), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(lab_err(fetch), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab->nodes[2].hold_syncs = false;
    lab_pump(lab);
    for (node_id_t node = 1; node <= 3; node++) {
        struct env_disk *disk = &lab->nodes[node].view.env;
        env_file file;
        ck_assert_uint_eq(partition_count(lab->nodes[node].table), 0);
        ck_assert_int_eq(disk->open(disk->self, "orders-0/00000000000000000000.log", 0, &file),
                         ERR_NOT_FOUND);
    }
    lab_kill(lab, 1, true);
    lab_start(lab, 1); /* and it is not lost: the manifest was told */
    ck_assert_uint_eq(partition_count(lab->nodes[1].table), 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_topic_deleted_while_its_log_waits_to_be_opened_takes_the_folder_along)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_kill(lab, 1, true);
    lab_start(lab, 1);
    struct partition_view view;
    ck_assert(!partition_look(lab->nodes[1].table, &lab->id, &view));
    lab_delete(lab);
    struct env_disk *disk = &lab->nodes[1].view.env;
    ck_assert_int_eq(disk->list(disk->self, "orders-0", NULL, NULL), ERR_NOT_FOUND);
    lab_pump(lab);
    ck_assert_uint_eq(partition_count(lab->nodes[1].table), 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_slow_reader_gets_no_more_than_its_window)
{
    struct partition_options options = lab_options();
    options.replica_fetch_bytes_max = 4000;
    struct lab *lab = lab_new_with(check_main_seed(), &options);
    lab_create(lab);
    lab_pump(lab);
    lab_mute(lab, 3, true);
    for (int i = 0; i < 90; i++)
        lab_produce(lab, 1, 1, 30, "0123456789");
    lab_pump(lab);
    ck_assert_int_eq(lab_look(lab, 2).end, 2700); /* piece by piece, each asked for */
    ck_assert_str_eq(lab_log_values(lab, 2), lab_log_values(lab, 1));
    lab_mute(lab, 3, false);
    lab_tick(lab, 1000);
    ck_assert_int_eq(lab_look(lab, 3).end, 2700);
    lab_free(lab);
}
END_TEST

START_TEST(idle_partitions_cost_nothing)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_tick(lab, 1000);
    uint64_t frames = lab->frames_up + lab->frames_down;
    lab_tick(lab, 10000);
    ck_assert_uint_le(lab->frames_up + lab->frames_down - frames, 30); /* signs of life */
    lab_free(lab);
}
END_TEST

START_TEST(an_order_for_a_topic_that_is_no_more_does_not_wait_for_ever)
{
    struct lab *lab = lab_new(check_main_seed());
    lab_create(lab);
    lab_pump(lab);
    struct replica_delta delta = {
        .id = {lab_uuid(1000), 0},
        .follower = 2,
        .broker_epoch = lab->nodes[2].broker_epoch,
        .conn = {.slot = 2, .generation = lab->nodes[2].streams[1]},
        .leader_epoch = 0,
        .session = 1,
        .want = true,
    };
    partition_delta(lab->nodes[1].table, &delta);
    lab_tick(lab, 4000);
    uint64_t down = lab->frames_down;
    lab_tick(lab, 500);
    ck_assert_uint_eq(lab->frames_down, down); /* the image may come yet */
    lab_tick(lab, 1000);
    ck_assert_uint_eq(lab->frames_down, down + 1);
    down = lab->frames_down;
    lab_tick(lab, 10000);
    ck_assert_uint_eq(lab->frames_down, down);
    lab_free(lab);
}
END_TEST

static uint64_t tells_age(void *self)
{
    return *(const uint64_t *)self;
}

START_TEST(a_disk_is_slow_from_a_long_sync_on_and_for_a_while_after_it)
{
    uint64_t age_ns = 0, until_ns = 0, now_ns = ENV_MS(100000);
    struct env_disk disk = {.sync_age_ns = tells_age, .self = &age_ns};
    ck_assert(!space_turns_slow(&disk, now_ns, &until_ns));
    age_ns = ENV_MS(1900);
    ck_assert(!space_turns_slow(&disk, now_ns, &until_ns));
    ck_assert_uint_eq(until_ns, 0);
    age_ns = ENV_MS(2100);
    ck_assert(space_turns_slow(&disk, now_ns, &until_ns));
    ck_assert(!space_turns_slow(&disk, now_ns + ENV_MS(50), &until_ns)); /* is known */
    age_ns = 0;
    ck_assert(!space_turns_slow(&disk, now_ns + ENV_MS(100), &until_ns));
    ck_assert_uint_gt(until_ns, now_ns + ENV_MS(5000));
    ck_assert_uint_lt(until_ns, now_ns + ENV_MS(20000));
    age_ns = ENV_MS(2100);
    ck_assert(space_turns_slow(&disk, until_ns + 1, &until_ns));
}
END_TEST

CHECK_MAIN("shard/partition", a_produce_is_acknowledged_when_all_have_flushed_it,
           many_produces_ride_in_few_frames, consumers_see_no_further_than_the_high_watermark,
           a_fetch_waits_for_bytes_min_or_its_deadline,
           a_fetch_that_waits_is_not_read_for_before_there_can_be_enough,
           what_one_request_fetches_is_bounded_while_it_is_read, a_canceled_part_comes_back_once,
           a_produce_times_out_by_what_it_waits_for, bad_batches_are_refused_for_what_they_are,
           batches_that_claim_too_many_records_are_refused_and_the_leader_leads_on,
           others_than_the_leader_say_who_leads, offsets_are_listed_to_the_high_watermark,
           a_part_that_names_a_newer_epoch_waits_for_the_image,
           a_deleted_topic_gives_its_parts_back_and_leaves_no_folder,
           a_topic_deleted_while_its_log_waits_to_be_opened_takes_the_folder_along,
           a_slow_reader_gets_no_more_than_its_window,
           a_disk_is_slow_from_a_long_sync_on_and_for_a_while_after_it,
           an_order_for_a_topic_that_is_no_more_does_not_wait_for_ever,
           idle_partitions_cost_nothing)
