#include "lib/check_main.h"

#include "client/core.h"
#include "unit/client/lab.h"

#include <stdio.h>
#include <stdlib.h>

/* Every record up to count was acknowledged once, and lies in the log of partition 0 once, in the
 * order in which it was produced, at the offset that was told. */
static void assert_exact(const struct lab *lab, const struct lab_partition *p, size_t count)
{
    uintptr_t *values = calloc(count + 1, sizeof(*values));
    ck_assert_uint_eq(lab_log_values(p, values, count + 1), count);
    ck_assert_uint_eq(lab->delivery_count, count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_eq(values[i], i + 1);
        ck_assert_int_eq(lab->deliveries[i].err, ERR_OK);
        ck_assert_uint_eq(lab->deliveries[i].opaque, i + 1);
        ck_assert_int_eq(lab->deliveries[i].offset, (int64_t)i);
    }
    free(values);
}

START_TEST(a_record_finds_its_partition_and_comes_back_with_its_offset)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 3);
    ck_assert_int_eq(lab_produce(&lab, "orders", 2, 1), ERR_OK);
    ck_assert_int_eq(client_outstanding(lab.client), 1);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    assert_exact(&lab, &topic->partitions[2], 1);
    ck_assert_int_eq(lab.deliveries[0].partition, 2);
    ck_assert_int_eq(client_outstanding(lab.client), 0);
    ck_assert_uint_lt(lab.now_ns, ENV_MS(1020)); /* dial, hello, metadata, id, linger: no waits */
    lab_fini(&lab);
}
END_TEST

START_TEST(records_linger_into_one_batch)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 1000; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1000, 1000));
    assert_exact(&lab, &topic->partitions[0], 1000);
    ck_assert_uint_eq(topic->partitions[0].batch_count, 1);
    ck_assert_uint_eq(lab.brokers[1].requests[WIRE_PRODUCE], 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(full_batches_go_at_once_five_at_a_time)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.batch_bytes = 1024;
    config.linger_ms = 10000;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 5000; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
    client_flush(lab.client);
    ck_assert(lab_run_until_delivered(&lab, 5000, 1000));
    assert_exact(&lab, &topic->partitions[0], 5000);
    ck_assert_uint_gt(topic->partitions[0].batch_count, 40);
    for (size_t i = 0; i < topic->partitions[0].batch_count; i++)
        ck_assert_uint_le(topic->partitions[0].batches[i].info.bytes, 1024);
    lab_fini(&lab);
}
END_TEST

START_TEST(keyed_records_wait_for_the_topic_and_go_by_their_key)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 3);
    for (int i = 0; i < 30; i++) {
        char key[16];
        snprintf(key, sizeof(key), "key-%d", i % 10);
        struct karst_message message = {
            .topic = "orders",
            .partition = KARST_PARTITION_ANY,
            .key = key,
            .key_bytes = strlen(key),
            .value = "v",
            .value_bytes = 1,
            .headers = &(struct karst_header){"h", key, strlen(key)},
            .header_count = 1,
        };
        ck_assert_int_eq(client_produce(lab.client, &message), ERR_OK);
    }
    ck_assert(lab_run_until_delivered(&lab, 30, 1000));
    size_t used = 0;
    for (int32_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < topic->partitions[i].batch_count; j++) {
            struct record_cursor cursor;
            struct record record;
            const struct lab_batch *batch = &topic->partitions[i].batches[j];
            ck_assert_int_eq(record_cursor_init(&cursor, batch->data, batch->info.bytes), ERR_OK);
            while (record_cursor_next(&cursor, &record) == ERR_OK) {
                ck_assert_int_eq(record.header_count, 1);
                char key[16] = "";
                memcpy(key, record.key.data, record.key.len);
                ck_assert_int_eq(strncmp(key, "key-", 4), 0);
                used++;
            }
        }
        ck_assert_int_gt(topic->partitions[i].end, 0);
    }
    ck_assert_uint_eq(used, 30);
    lab_fini(&lab);
}
END_TEST

START_TEST(records_without_keys_are_spread_in_whole_batches)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 1;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 3);
    for (uintptr_t i = 1; i <= 100; i++) {
        ck_assert_int_eq(lab_produce(&lab, "orders", KARST_PARTITION_ANY, i), ERR_OK);
        if (i % 2 == 0)
            lab_run_ms(&lab, 4);
    }
    ck_assert(lab_run_until_delivered(&lab, 100, 1000));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_gt(topic->partitions[i].end, 10);
        ck_assert_int_eq(topic->partitions[i].batches[1].info.record_count, 2);
    }
    lab_fini(&lab);
}
END_TEST

static void leader_change(bool hints)
{
    struct lab lab;
    lab_init(&lab, NULL);
    lab.hints = hints;
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 300; i++) {
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
        if (i % 100 == 0)
            lab_lead(&lab, topic, 0, (node_id_t)(1 + i / 100 % 3));
        lab_run_ms(&lab, 1);
    }
    ck_assert(lab_run_until_delivered(&lab, 300, 1000));
    assert_exact(&lab, &topic->partitions[0], 300);
    ck_assert_uint_gt(topic->partitions[0].batch_count, 3);
    lab_fini(&lab);
}

START_TEST(a_moved_leader_is_followed_by_its_hint)
{
    leader_change(true);
}
END_TEST

START_TEST(a_moved_leader_is_followed_by_metadata)
{
    leader_change(false);
}
END_TEST

START_TEST(a_hint_is_followed_without_a_wait)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 0;
    lab_init(&lab, &config);
    lab.hints = true;
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 2);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert_int_eq(lab_produce(&lab, "orders", 1, 2), ERR_OK); /* so that broker 2 is known */
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    lab_lead(&lab, topic, 0, 2);
    uint64_t start_ns = lab.now_ns;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 3), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 3, 1000));
    ck_assert_uint_lt(lab.now_ns - start_ns, ENV_MS(1));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_killed_leader_is_left_as_soon_as_another_leads)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    uintptr_t number = 0;
    while (number < 20) {
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, ++number), ERR_OK);
        lab_run_ms(&lab, 1);
    }
    lab_kill(&lab, 1);
    while (number < 100) { /* fenced and elected after 80 ms */
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, ++number), ERR_OK);
        lab_run_ms(&lab, 1);
    }
    lab_lead(&lab, topic, 0, 3);
    uint64_t start_ns = lab.now_ns;
    ck_assert(lab_run_until_delivered(&lab, 100, 1000));
    assert_exact(&lab, &topic->partitions[0], 100);
    ck_assert_uint_lt(lab.now_ns - start_ns, ENV_MS(25)); /* one round of asking, and a dial */
    ck_assert_uint_lt(lab.dials, 20);
    lab_fini(&lab);
}
END_TEST

static void check_frozen_leader_is_left(uint64_t after_ms)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.brokers[1].frozen = true;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    lab_run_ms(&lab, after_ms);
    lab_lead(&lab, topic, 0, 2);
    uint64_t start_ns = lab.now_ns;
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_msg((lab.now_ns - start_ns) / ENV_MS(1) < 30, "after %u ms: %u ms",
                  (unsigned)after_ms, (unsigned)((lab.now_ns - start_ns) / ENV_MS(1)));
    assert_exact(&lab, &topic->partitions[0], 2);
    lab_fini(&lab);
}

START_TEST(a_frozen_leader_is_left_when_another_leads)
{
    /* The silence is noticed, and others are asked; given up, and dialled again, in vain. */
    for (uint64_t after_ms = 600; after_ms < 6000; after_ms += 85)
        check_frozen_leader_is_left(after_ms);
}
END_TEST

/* A frame of a MiB takes seconds on a slow link, in either direction: that is no silence, and a new
 * connection would begin it again. What only the host of a frozen process takes is. */
START_TEST(a_broker_whose_bytes_move_is_not_given_up)
{
    struct lab lab;
    for (unsigned direction = 0; direction < 2; direction++) {
        lab_init(&lab, NULL);
        lab_add_topic(&lab, "orders", 1);
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
        ck_assert(lab_run_until_delivered(&lab, 1, 1000));
        lab.brokers[1].frozen = true;
        lab.brokers[1].trickles = direction == 0;
        lab.brokers[1].untaken = direction == 1 ? 200 : 0;
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
        unsigned dials = lab.dials;
        lab_run_ms(&lab, 9000);
        ck_assert_uint_eq(lab.dials, dials);
        lab.brokers[1].trickles = false;
        lab.brokers[1].untaken = 0;
        lab_run_ms(&lab, 3000);
        ck_assert_uint_gt(lab.dials, dials);
        lab_fini(&lab);
    }
}
END_TEST

START_TEST(the_answers_of_a_deposed_leader_are_not_waited_for)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 0;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 2);
    ck_assert_int_eq(lab_produce(&lab, "orders", 1, 1), ERR_OK); /* broker 2 is connected, too */
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.brokers[1].mute = true;
    for (uintptr_t i = 2; i <= 6; i++) {
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
        lab_run_ms(&lab, 1);
    }
    ck_assert_int_eq(topic->partitions[0].end, 5); /* done, and not answered */
    lab_lead(&lab, topic, 0, 2);
    client_metadata_want(lab.client); /* as its age would have it */
    uint64_t start_ns = lab.now_ns;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 7), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 7, 1000));
    ck_assert_uint_lt(lab.now_ns - start_ns, ENV_MS(25));
    ck_assert_int_eq(topic->partitions[0].end, 6); /* and nothing twice */
    lab.brokers[1].mute = false;
    lab_run_ms(&lab, 100);
    lab_fini(&lab);
}
END_TEST

START_TEST(batches_that_fail_together_wait_as_one)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 0;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.produce_err = ERR_NOT_ENOUGH_REPLICAS;
    lab.produce_err_count = 5;
    uint64_t start_ns = lab.now_ns;
    for (uintptr_t i = 2; i <= 6; i++) {
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
        lab.env.upcalls.turn_ended(lab.env.actor);
    }
    ck_assert(lab_run_until_delivered(&lab, 6, 1000));
    ck_assert_uint_lt(lab.now_ns - start_ns, ENV_MS(1)); /* the first retry is at once */
    assert_exact(&lab, &topic->partitions[0], 6);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_lost_answer_makes_no_duplicate)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 10; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
    lab.brokers[1].mute = true;
    lab_run_ms(&lab, 50); /* written, and the answer is lost */
    ck_assert_uint_eq(lab.delivery_count, 0);
    ck_assert_int_eq(topic->partitions[0].end, 10);
    lab.brokers[1].mute = false;
    lab_kill(&lab, 1);
    lab_run_ms(&lab, 5);
    lab_start(&lab, 1);
    ck_assert(lab_run_until_delivered(&lab, 10, 2000));
    assert_exact(&lab, &topic->partitions[0], 10);
    lab_fini(&lab);
}
END_TEST

START_TEST(failed_batches_are_sent_again_in_order)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.batch_bytes = 512;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    static const err_t errors[] = {ERR_NOT_ENOUGH_REPLICAS, ERR_REQUEST_TIMED_OUT,
                                   ERR_NOT_LEADER_OR_FOLLOWER, ERR_THROTTLING_QUOTA_EXCEEDED};
    uintptr_t number = 0;
    for (size_t round = 0; round < 40; round++) {
        for (int i = 0; i < 100; i++)
            ck_assert_int_eq(lab_produce(&lab, "orders", 0, ++number), ERR_OK);
        lab.produce_err = errors[round % ARRAY_LEN(errors)];
        lab.produce_err_count = 1 + (unsigned)round % 3;
        lab_run_ms(&lab, 3);
    }
    ck_assert(lab_run_until_delivered(&lab, number, 5000));
    assert_exact(&lab, &topic->partitions[0], number);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_refused_batch_fails_alone_and_the_sequence_goes_on)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 0;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.produce_err = ERR_MESSAGE_TOO_LARGE;
    lab.produce_err_count = 1;
    for (uintptr_t i = 2; i <= 5; i++) { /* all under way at once */
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
        lab.env.upcalls.turn_ended(lab.env.actor);
    }
    ck_assert(lab_run_until_delivered(&lab, 5, 1000));
    uintptr_t values[8];
    ck_assert_uint_eq(lab_log_values(&topic->partitions[0], values, 8), 4);
    ck_assert_int_eq(lab.deliveries[1].err, ERR_MESSAGE_TOO_LARGE);
    ck_assert_uint_eq(lab.deliveries[1].opaque, 2);
    for (uintptr_t i = 0; i < 4; i++)
        ck_assert_uint_eq(values[i], i == 0 ? 1 : i + 2);
    ck_assert_int_eq(topic->partitions[0].batches[1].info.producer_id,
                     topic->partitions[0].batches[0].info.producer_id + 1);
    ck_assert_int_eq(topic->partitions[0].batches[1].info.base_sequence, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_unknown_producer_takes_a_new_id)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 3; i++) {
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
        if (i == 2) {
            lab.produce_err = ERR_UNKNOWN_PRODUCER_ID;
            lab.produce_err_count = 1;
        }
        ck_assert(lab_run_until_delivered(&lab, i, 1000));
    }
    assert_exact(&lab, &topic->partitions[0], 3);
    ck_assert_int_eq(lab.next_producer_id, 1002);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_full_buffer_refuses_and_makes_room_again)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.buffer_bytes = 64 << 10;
    config.batch_bytes = 16 << 10;
    config.linger_ms = 60000;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    uintptr_t number = 0;
    err_t err = ERR_OK;
    while (err == ERR_OK) {
        err = lab_produce(&lab, "orders", 0, number + 1);
        number += err == ERR_OK;
        ck_assert_uint_lt(number, 100000);
    }
    ck_assert_int_eq(err, ERR_FULL);
    ck_assert_uint_gt(number, 1000);
    lab_run_ms(&lab, 50); /* what lingers is sent, too: it stands in the way */
    ck_assert_uint_gt(lab.delivery_count, number / 2);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, ++number), ERR_OK);
    client_flush(lab.client);
    ck_assert(lab_run_until_delivered(&lab, number, 1000));
    assert_exact(&lab, &topic->partitions[0], number);
    lab_fini(&lab);
}
END_TEST

START_TEST(records_too_large_and_bad_arguments_are_refused)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.record_bytes_max = 1000;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 1);
    static char value[1001];
    struct karst_message message = {
        .topic = "orders", .partition = 0, .value = value, .value_bytes = 1001};
    ck_assert_int_eq(client_produce(lab.client, &message), ERR_MESSAGE_TOO_LARGE);
    message.value_bytes = 1000;
    ck_assert_int_eq(client_produce(lab.client, &message), ERR_OK);
    message.partition = -2;
    ck_assert_int_eq(client_produce(lab.client, &message), ERR_INVALID);
    message.partition = 0;
    message.topic = "or/ders";
    ck_assert_int_eq(client_produce(lab.client, &message), ERR_INVALID_TOPIC_EXCEPTION);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    message.topic = "orders";
    message.partition = 1;
    ck_assert_int_eq(client_produce(lab.client, &message), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_unknown_topic_fails_after_its_grace)
{
    struct lab lab;
    lab_init(&lab, NULL);
    ck_assert_int_eq(lab_produce(&lab, "nowhere", KARST_PARTITION_ANY, 1), ERR_OK);
    ck_assert_int_eq(lab_produce(&lab, "nowhere", 3, 2), ERR_OK);
    lab_run_ms(&lab, 900);
    ck_assert_uint_eq(lab.delivery_count, 0); /* it might just have been made */
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_int_eq(lab.deliveries[0].err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    ck_assert_int_eq(lab_produce(&lab, "nowhere", 0, 3), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_add_topic(&lab, "nowhere", 1);
    lab_run_ms(&lab, 100);
    ck_assert_int_eq(lab_produce(&lab, "nowhere", 0, 4), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 3, 1000));
    ck_assert_int_eq(lab.deliveries[2].err, ERR_OK);
    lab_fini(&lab);
}
END_TEST

START_TEST(without_any_broker_records_fail_at_their_time)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.delivery_timeout_ms = 3000;
    lab_init(&lab, &config);
    for (node_id_t i = 1; i <= LAB_BROKERS; i++)
        lab_kill(&lab, i);
    for (uintptr_t i = 1; i <= 10; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", KARST_PARTITION_ANY, i), ERR_OK);
    lab_run_ms(&lab, 2900);
    ck_assert_uint_eq(lab.delivery_count, 0);
    ck_assert(lab_run_until_delivered(&lab, 10, 300));
    ck_assert_int_eq(lab.deliveries[9].err, ERR_REQUEST_TIMED_OUT);
    ck_assert_uint_lt(lab.dials, 60); /* and nobody was hammered meanwhile */
    lab_fini(&lab);
}
END_TEST

START_TEST(a_batch_out_of_time_leaves_no_gap_behind)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.delivery_timeout_ms = 500;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.produce_err = ERR_NOT_ENOUGH_REPLICAS;
    lab.produce_err_count = 1000;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_int_eq(lab.deliveries[1].err, ERR_NOT_ENOUGH_REPLICAS);
    lab.produce_err_count = 0;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 3), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 3, 1000));
    ck_assert_int_eq(lab.deliveries[2].err, ERR_OK);
    ck_assert_int_eq(topic->partitions[0].end, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_was_sent_behind_a_batch_out_of_time_is_not_written_twice)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.linger_ms = 0;
    config.delivery_timeout_ms = 500;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    lab.brokers[1].mute = true; /* both are written, and nobody says so */
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    lab_run_ms(&lab, 200);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 3), ERR_OK);
    lab_run_ms(&lab, 20);
    ck_assert_int_eq(topic->partitions[0].end, 3);
    lab.brokers[1].mute = false;
    lab.produce_err = ERR_NOT_ENOUGH_REPLICAS;
    lab.produce_err_count = 1000;
    lab_kill(&lab, 1);
    lab_run_ms(&lab, 5);
    lab_start(&lab, 1);
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_int_eq(lab.deliveries[1].err, ERR_REQUEST_TIMED_OUT); /* refused, but only at last */
    lab.produce_err_count = 0;
    ck_assert(lab_run_until_delivered(&lab, 3, 1000));
    ck_assert_int_eq(lab.deliveries[2].err, ERR_OK);
    ck_assert_int_eq(lab.deliveries[2].offset, 2);
    ck_assert_int_eq(topic->partitions[0].end, 3);
    lab_fini(&lab);
}
END_TEST

START_TEST(acks_0_is_done_when_it_is_sent)
{
    struct lab lab;
    struct client_config config;
    char why[CLIENT_SENTENCE_SIZE];
    client_config_init(&config);
    ck_assert_int_eq(client_config_set(&config, "bootstrap.servers", "lab:9003", why, sizeof(why)),
                     ERR_OK);
    config.acks = 0;
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_OK);
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 20; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 20, 1000));
    ck_assert_int_eq(lab.deliveries[0].err, ERR_OK);
    ck_assert_int_eq(lab.deliveries[0].offset, -1);
    lab_run_ms(&lab, 1);
    ck_assert_int_eq(topic->partitions[0].end, 20);
    ck_assert_int_eq(topic->partitions[0].batches[0].info.producer_id, -1);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_deleted_topic_fails_what_waits_for_it)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    topic->deleted = true;
    lab.metadata_offset++;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_int_eq(lab.deliveries[1].err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_topic_made_anew_takes_a_sequence_of_its_own)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *old = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    old->deleted = true;
    struct lab_topic *anew = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 2, 1000));
    ck_assert_int_eq(lab.deliveries[1].err, ERR_OK);
    ck_assert_int_eq(anew->partitions[0].end, 1);
    ck_assert_int_eq(old->partitions[0].end, 1);
    lab_fini(&lab);
}
END_TEST

/* The cluster has said that the topic is gone before it was made again: its new partitions count
 * their epochs from the start. */
START_TEST(a_topic_missed_for_a_while_is_known_by_its_new_leaders)
{
    struct lab lab;
    lab_init(&lab, NULL);
    struct lab_topic *old = lab_add_topic(&lab, "orders", 1);
    for (int i = 0; i < 4; i++)
        lab_lead(&lab, old, 0, (node_id_t)(i % 2 + 2)); /* epochs go up; the last leader is 3 */
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    old->deleted = true;
    lab.metadata_offset++;
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 2), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 2, 2000));
    ck_assert_int_eq(lab.deliveries[1].err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    struct lab_topic *anew = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 3), ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_run_ms(&lab, 200);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 3), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 3, 2000));
    ck_assert_int_eq(lab.deliveries[2].err, ERR_OK);
    ck_assert_int_eq(anew->partitions[0].end, 1);
    lab_fini(&lab);
}
END_TEST

/* Else the call passes its deadline here, and the connection ends for all. */
START_TEST(a_broker_is_asked_to_answer_before_the_call_is_given_up)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.delivery_timeout_ms = 5000;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 1), ERR_OK);
    ck_assert(lab_run_until_delivered(&lab, 1, 1000));
    ck_assert_uint_lt(lab.produce_timeout_ms, 4500);
    ck_assert_uint_gt(lab.produce_timeout_ms, 3500);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_is_abandoned_is_told)
{
    struct lab lab;
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    for (uintptr_t i = 1; i <= 3; i++)
        ck_assert_int_eq(lab_produce(&lab, "orders", 0, i), ERR_OK);
    lab.brokers[1].mute = true;
    lab_run_ms(&lab, 50); /* under way */
    ck_assert_int_eq(lab_produce(&lab, "orders", 0, 4), ERR_OK);
    ck_assert_int_eq(lab_produce(&lab, "others", KARST_PARTITION_ANY, 5), ERR_OK);
    client_abandon(lab.client, ERR_CANCELED);
    struct client_done *first = client_take_done(lab.client);
    uint32_t count = 0;
    for (const struct client_done *done = first; done != NULL; done = done->next) {
        ck_assert_int_eq(done->err, ERR_CANCELED);
        count += done->count;
    }
    ck_assert_uint_eq(count, 5);
    client_done_free(lab.client, first);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("client/producer", a_record_finds_its_partition_and_comes_back_with_its_offset,
           records_linger_into_one_batch, full_batches_go_at_once_five_at_a_time,
           keyed_records_wait_for_the_topic_and_go_by_their_key,
           records_without_keys_are_spread_in_whole_batches, a_moved_leader_is_followed_by_its_hint,
           a_moved_leader_is_followed_by_metadata, a_hint_is_followed_without_a_wait,
           a_killed_leader_is_left_as_soon_as_another_leads,
           a_frozen_leader_is_left_when_another_leads,
           the_answers_of_a_deposed_leader_are_not_waited_for,
           batches_that_fail_together_wait_as_one, a_lost_answer_makes_no_duplicate,
           failed_batches_are_sent_again_in_order,
           a_refused_batch_fails_alone_and_the_sequence_goes_on, an_unknown_producer_takes_a_new_id,
           a_full_buffer_refuses_and_makes_room_again,
           records_too_large_and_bad_arguments_are_refused, an_unknown_topic_fails_after_its_grace,
           without_any_broker_records_fail_at_their_time, a_batch_out_of_time_leaves_no_gap_behind,
           what_was_sent_behind_a_batch_out_of_time_is_not_written_twice,
           acks_0_is_done_when_it_is_sent, a_deleted_topic_fails_what_waits_for_it,
           a_topic_made_anew_takes_a_sequence_of_its_own, what_is_abandoned_is_told,
           a_topic_missed_for_a_while_is_known_by_its_new_leaders,
           a_broker_is_asked_to_answer_before_the_call_is_given_up,
           a_broker_whose_bytes_move_is_not_given_up)
