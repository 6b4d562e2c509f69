#include "lib/check_main.h"

#include "unit/client/lab.h"

#include <stdio.h>
#include <stdlib.h>

/* Reads what is there as karst_consume does; each record's offset must be above the last of its
 * partition. */
struct reader_lab {
    int64_t next[LAB_PARTITIONS];
    uintptr_t values[4096];
    size_t count;
    err_t err; /* the last one told */
};

static void read_all(struct lab *lab, struct reader_lab *into)
{
    struct client_slice *slice;
    while ((slice = client_take_slice(lab->client)) != NULL) {
        size_t at = 0;
        if (slice->err != ERR_OK)
            into->err = slice->err;
        while (slice->err == ERR_OK && client_slice_current(slice) && at < slice->bytes) {
            struct record_cursor cursor;
            struct record record;
            ck_assert_int_eq(record_cursor_init(&cursor, slice->data + at, slice->bytes - at),
                             ERR_OK);
            while (record_cursor_next(&cursor, &record) == ERR_OK) {
                if (record.offset < slice->from)
                    continue;
                char text[32] = "";
                memcpy(text, record.value.data, record.value.len);
                ck_assert_int_ge(record.offset, into->next[slice->index]);
                into->next[slice->index] = record.offset + 1;
                into->values[into->count++] = strtoul(text, NULL, 10);
            }
            at += cursor.info.bytes;
        }
        if (slice->err == ERR_OK)
            client_slice_returned(slice, slice->end);
        client_slice_free(lab->client, slice);
    }
}

/* Writes count records into a partition, some in each batch. */
static void fill(struct lab *lab, const char *topic, int32_t partition, uintptr_t first,
                 size_t count)
{
    size_t before = lab->delivery_count;
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(lab_produce(lab, topic, partition, first + i), ERR_OK);
        if (i % 7 == 6) {
            client_flush(lab->client);
            ck_assert(lab_run_until_delivered(lab, before + i + 1, 1000));
        }
    }
    client_flush(lab->client);
    ck_assert(lab_run_until_delivered(lab, before + count, 1000));
}

START_TEST(all_records_of_a_topic_are_read_once_and_in_order)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 3);
    for (int32_t i = 0; i < 3; i++)
        fill(&lab, "orders", i, 1000 * (uintptr_t)i, 50);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    for (int i = 0; i < 20; i++) {
        lab_run_ms(&lab, 10);
        read_all(&lab, &seen);
    }
    ck_assert_uint_eq(seen.count, 150);
    for (int32_t i = 0; i < 3; i++) {
        ck_assert_int_eq(seen.next[i], 50);
        ck_assert_int_eq(client_position(lab.client, "orders", i), 50);
    }
    fill(&lab, "orders", 1, 5000, 5);
    lab_run_ms(&lab, 600);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 155);
    ck_assert_int_eq(seen.next[1], 55);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_offset_within_a_batch_begins_there)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 20);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 3), ERR_OK);
    lab_run_ms(&lab, 50);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 17);
    ck_assert_uint_eq(seen.values[0], 3);
    lab_fini(&lab);
}
END_TEST

START_TEST(latest_reads_only_what_comes_later)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 10);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_RESET), ERR_OK);
    lab_run_ms(&lab, 50);
    fill(&lab, "orders", 0, 10, 3);
    lab_run_ms(&lab, 600);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_uint_eq(seen.values[0], 10);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_seek_drops_what_was_fetched_for_elsewhere)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 40);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 50); /* fetched, not read */
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 30), ERR_OK);
    ck_assert_int_eq(client_position(lab.client, "orders", 0), 30);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 0);
    lab_run_ms(&lab, 600);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 10);
    ck_assert_uint_eq(seen.values[0], 30);
    lab_fini(&lab);
}
END_TEST

START_TEST(leaders_are_followed_without_a_record_twice)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    for (uintptr_t i = 0; i < 60; i++) {
        fill(&lab, "orders", 0, i * 10, 10);
        read_all(&lab, &seen);
        if (i % 10 == 5)
            lab_lead(&lab, topic, 0, (node_id_t)(i / 10 % 3 + 1));
    }
    lab_run_ms(&lab, 1000);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 600);
    for (size_t i = 0; i < 600; i++)
        ck_assert_uint_eq(seen.values[i], i);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_killed_leader_is_left_by_its_readers)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    fill(&lab, "orders", 0, 0, 10);
    lab_run_ms(&lab, 600);
    lab_kill(&lab, 1);
    lab_run_ms(&lab, 90);
    lab_lead(&lab, topic, 0, 2);
    fill(&lab, "orders", 0, 10, 10);
    lab_run_ms(&lab, 30);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 20);
    lab_fini(&lab);
}
END_TEST

START_TEST(deleted_records_are_skipped_and_the_end_is_never_gone_back_to)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.reset = CLIENT_RESET_EARLIEST;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 21);
    topic->partitions[0].log_start = 14;
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 2), ERR_OK);
    lab_run_ms(&lab, 100);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 7);
    ck_assert_uint_eq(seen.values[0], 14);
    topic->partitions[0].end = 15; /* the log was cut: an unclean election */
    lab_run_ms(&lab, 1000);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 7);
    ck_assert_int_eq(seen.err, ERR_OFFSET_OUT_OF_RANGE);
    lab_fini(&lab);
}
END_TEST

START_TEST(without_a_reset_a_bad_offset_is_an_error)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.reset = CLIENT_RESET_NONE;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 100), ERR_OK);
    lab_run_ms(&lab, 100);
    read_all(&lab, &seen);
    ck_assert_int_eq(seen.err, ERR_OFFSET_OUT_OF_RANGE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_missing_topic_is_told)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    ck_assert_int_eq(client_subscribe(lab.client, "nowhere", KARST_OFFSET_EARLIEST), ERR_OK);
    ck_assert_int_eq(client_assign(lab.client, "orders", 5, 0), ERR_OK);
    lab_run_ms(&lab, 100);
    read_all(&lab, &seen);
    ck_assert_int_eq(seen.err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    seen.err = ERR_OK;
    lab_run_ms(&lab, 2500);
    read_all(&lab, &seen);
    ck_assert_int_eq(seen.err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_is_fetched_ahead_is_bounded)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.partition_bytes_max = 500;
    config.fetch_buffer_bytes = 1200;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 3);
    for (int32_t i = 0; i < 3; i++)
        fill(&lab, "orders", i, 0, 210);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    lab_run_ms(&lab, 100);
    unsigned fetches = 0;
    for (node_id_t i = 1; i <= LAB_BROKERS; i++)
        fetches += lab.brokers[i].requests[WIRE_FETCH];
    ck_assert_uint_lt(fetches, 8); /* and no more until something is taken */
    for (int i = 0; i < 200 && seen.count < 630; i++) {
        read_all(&lab, &seen);
        lab_run_ms(&lab, 5);
    }
    ck_assert_uint_eq(seen.count, 630);
    lab_fini(&lab);
}
END_TEST

START_TEST(partitions_of_an_unsubscribed_topic_are_let_go)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 10);
    ck_assert_int_eq(client_unsubscribe(lab.client, "orders"), ERR_NOT_FOUND);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    lab_run_ms(&lab, 50);
    ck_assert_int_eq(client_unsubscribe(lab.client, "orders"), ERR_OK);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 0);
    ck_assert_int_eq(client_position(lab.client, "orders", 0), -1);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_start_above_the_end_is_reset_and_read_from)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 20);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 1000), ERR_OK);
    lab_run_ms(&lab, 400);
    unsigned asked = 0;
    for (node_id_t i = 1; i <= LAB_BROKERS; i++)
        asked += lab.brokers[i].requests[WIRE_LIST_OFFSETS];
    ck_assert_uint_lt(asked, 3);
    fill(&lab, "orders", 0, 20, 5);
    lab_run_ms(&lab, 600);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 5);
    ck_assert_uint_eq(seen.values[0], 20);
    lab_fini(&lab);
}
END_TEST

/* The log's start passes what was fetched ahead and not yet read: that is still returned, then what
 * comes after the reset, and nothing goes back. */
START_TEST(a_reset_leaves_what_was_fetched_before_it)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 20);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 100); /* all fetched, nothing read */
    struct lab_partition *p = &topic->partitions[0];
    p->log_start = 30;
    p->end = 40;
    lab_run_ms(&lab, 1000); /* out of range below: on to the latest */
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 20);
    ck_assert_int_eq(seen.err, ERR_OK);
    ck_assert_int_ge(client_position(lab.client, "orders", 0), 20);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_unassigned_partition_of_a_subscription_stays_so)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.metadata_age_ms = 100;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 2);
    fill(&lab, "orders", 0, 0, 10);
    fill(&lab, "orders", 1, 100, 10);
    ck_assert_int_eq(client_subscribe(lab.client, "orders", KARST_OFFSET_EARLIEST), ERR_OK);
    lab_run_ms(&lab, 50);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 20);
    ck_assert_int_eq(client_unassign(lab.client, "orders", 1), ERR_OK);
    lab_run_ms(&lab, 1000); /* metadata comes again meanwhile */
    seen.next[1] = 0;
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 20);
    ck_assert_int_eq(client_position(lab.client, "orders", 1), -1);
    lab_fini(&lab);
}
END_TEST

START_TEST(what_is_dropped_makes_room_for_others)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.fetch_buffer_bytes = 1;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 2);
    fill(&lab, "orders", 0, 0, 10);
    fill(&lab, "orders", 1, 100, 10);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 50); /* the buffer is full */
    ck_assert_int_eq(client_assign(lab.client, "orders", 1, 0), ERR_OK);
    lab_run_ms(&lab, 50);
    ck_assert_int_eq(client_unassign(lab.client, "orders", 0), ERR_OK);
    lab_run_ms(&lab, 50);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 10);
    ck_assert_uint_eq(seen.values[0], 100);
    lab_fini(&lab);
}
END_TEST

START_TEST(behind_bytes_that_cant_be_read_nothing_is_returned)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.partition_bytes_max = 100;
    config.fetch_buffer_bytes = 1 << 20;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 7);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 50);
    struct client_slice *slice = client_take_slice(lab.client);
    ck_assert_ptr_nonnull(slice);
    fill(&lab, "orders", 0, 7, 7);
    lab_run_ms(&lab, 600); /* the next one is fetched ahead */
    client_slice_broken(lab.client, slice);
    client_slice_free(lab.client, slice);
    ck_assert_ptr_null(client_take_slice(lab.client));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_topic_that_was_missing_is_asked_for_again)
{
    struct lab lab;
    struct reader_lab seen = {0};
    lab_init(&lab, NULL);
    ck_assert_int_eq(client_partition_count(lab.client, "orders"), 0);
    lab_run_ms(&lab, 2000);
    ck_assert_int_eq(client_partition_count(lab.client, "orders"), -ERR_UNKNOWN_TOPIC_OR_PARTITION);
    lab_add_topic(&lab, "orders", 2);
    client_ask_again(lab.client, "orders");
    lab_run_ms(&lab, 100);
    ck_assert_int_eq(client_partition_count(lab.client, "orders"), 2);
    for (unsigned i = 0; i < 2; i++) { /* missing, and told so each time */
        ck_assert_int_eq(client_assign(lab.client, "others", 0, 0), ERR_OK);
        lab_run_ms(&lab, 2000);
        seen.err = ERR_OK;
        read_all(&lab, &seen);
        ck_assert_int_eq(seen.err, ERR_UNKNOWN_TOPIC_OR_PARTITION);
    }
    ck_assert_int_eq(client_assign(lab.client, "others", 0, 0), ERR_OK);
    lab_add_topic(&lab, "others", 1);
    fill(&lab, "others", 0, 0, 7);
    lab_run_ms(&lab, 100);
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 7);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_error_is_told_after_what_was_fetched_before_it)
{
    struct lab lab;
    struct client_config config;
    client_config_init(&config);
    config.reset = CLIENT_RESET_NONE;
    lab_init(&lab, &config);
    struct lab_topic *topic = lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 7);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 100);
    topic->partitions[0].log_start = 100;
    lab_run_ms(&lab, 1000);
    ck_assert(client_has_slice(lab.client));
    struct client_slice *slice = client_take_slice(lab.client);
    ck_assert_int_eq(slice->err, ERR_OK);
    ck_assert_int_eq(slice->end, 7);
    client_slice_free(lab.client, slice);
    ck_assert(!client_has_slice(lab.client)); /* an error comes first */
    slice = client_take_slice(lab.client);
    ck_assert_int_eq(slice->err, ERR_OFFSET_OUT_OF_RANGE);
    client_slice_free(lab.client, slice);
    ck_assert_ptr_null(client_take_slice(lab.client));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_long_wait_for_records_ends_no_connection)
{
    struct lab lab;
    struct reader_lab seen = {0};
    struct client_config config;
    client_config_init(&config);
    config.fetch_wait_ms = 60000;
    config.request_timeout_ms = 2000;
    lab_init(&lab, &config);
    lab_add_topic(&lab, "orders", 1);
    fill(&lab, "orders", 0, 0, 10);
    ck_assert_int_eq(client_assign(lab.client, "orders", 0, 0), ERR_OK);
    lab_run_ms(&lab, 100);
    unsigned dials = lab.dials;
    lab_run_ms(&lab, 20000);
    ck_assert_uint_le(lab.dials, dials + 2); /* others, for metadata */
    read_all(&lab, &seen);
    ck_assert_uint_eq(seen.count, 10);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("client/consumer", all_records_of_a_topic_are_read_once_and_in_order,
           an_offset_within_a_batch_begins_there, latest_reads_only_what_comes_later,
           a_seek_drops_what_was_fetched_for_elsewhere, leaders_are_followed_without_a_record_twice,
           a_killed_leader_is_left_by_its_readers,
           deleted_records_are_skipped_and_the_end_is_never_gone_back_to,
           without_a_reset_a_bad_offset_is_an_error, a_missing_topic_is_told,
           what_is_fetched_ahead_is_bounded, partitions_of_an_unsubscribed_topic_are_let_go,
           a_start_above_the_end_is_reset_and_read_from, a_reset_leaves_what_was_fetched_before_it,
           an_unassigned_partition_of_a_subscription_stays_so,
           what_is_dropped_makes_room_for_others,
           behind_bytes_that_cant_be_read_nothing_is_returned,
           a_topic_that_was_missing_is_asked_for_again, a_long_wait_for_records_ends_no_connection,
           an_error_is_told_after_what_was_fetched_before_it)
