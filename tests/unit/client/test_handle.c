#include "lib/check_main.h"

#include "client/karst.h"
#include "unit/client/lab.h"

#include <poll.h>
#include <pthread.h>
#include <stdio.h>

static struct karst *connect_to(const struct lab *lab, const char *name, const char *value)
{
    char address[32], why[256] = "";
    struct karst_config *config = karst_config_new();
    struct karst *karst;
    snprintf(address, sizeof(address), "127.0.0.1:%u", lab->live_port);
    ck_assert_int_eq(karst_config_set(config, "bootstrap.servers", address, NULL, 0), KARST_OK);
    if (name != NULL)
        ck_assert_int_eq(karst_config_set(config, name, value, why, sizeof(why)), KARST_OK);
    int err = karst_new(config, &karst, why, sizeof(why));
    ck_assert_msg(err == KARST_OK, "%s", why);
    karst_config_free(config);
    return karst;
}

struct seen {
    pthread_t thread; /* whose callbacks these must be */
    size_t count, failed;
    int last_err;
};

static void on_delivery(void *context, const struct karst_delivery *delivery)
{
    struct seen *seen = context;
    ck_assert(pthread_equal(seen->thread, pthread_self()));
    ck_assert_str_eq(delivery->topic, "orders");
    seen->count++;
    seen->last_err = delivery->err;
    if (delivery->err != KARST_OK)
        seen->failed++;
}

static int produce(struct karst *karst, int32_t partition, const char *value)
{
    struct karst_message message = {
        .topic = "orders",
        .partition = partition,
        .value = value,
        .value_bytes = strlen(value),
    };
    return karst_produce(karst, &message);
}

START_TEST(callbacks_run_inside_the_calls_of_the_program)
{
    struct lab lab;
    struct seen seen = {.thread = pthread_self()};
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, NULL, NULL);
    karst_on_delivery(karst, on_delivery, &seen);
    for (int i = 0; i < 100; i++)
        ck_assert_int_eq(produce(karst, i % 3, "v"), KARST_OK);
    ck_assert_uint_eq(seen.count, 0);
    while (seen.count < 100)
        ck_assert_int_gt(karst_poll(karst, 10000), 0);
    ck_assert_int_eq(karst_outstanding(karst), 0);
    ck_assert_int_eq(karst_poll(karst, 0), 0);
    ck_assert_int_eq(produce(karst, 0, "w"), KARST_OK);
    ck_assert_int_eq(karst_flush(karst, 10000), KARST_OK);
    ck_assert_uint_eq(seen.count, 101);
    ck_assert_uint_eq(seen.failed, 0);
    karst_close(karst, 0);
    lab_live_end(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(the_descriptor_is_readable_while_there_is_something)
{
    struct lab lab;
    struct seen seen = {.thread = pthread_self()};
    struct karst_record record;
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, NULL, NULL);
    karst_on_delivery(karst, on_delivery, &seen);
    struct pollfd fd = {.fd = karst_poll_fd(karst), .events = POLLIN};
    ck_assert_int_eq(poll(&fd, 1, 0), 0);
    ck_assert_int_eq(produce(karst, 0, "a"), KARST_OK);
    ck_assert_int_eq(produce(karst, 0, "b"), KARST_OK);
    ck_assert_int_eq(poll(&fd, 1, 10000), 1);
    while (seen.count < 2)
        ck_assert_int_gt(karst_poll(karst, 10000), 0);
    ck_assert_int_eq(poll(&fd, 1, 0), 0);

    ck_assert_int_eq(karst_assign(karst, "orders", 0, 0), KARST_OK);
    ck_assert_int_eq(poll(&fd, 1, 10000), 1);
    ck_assert_int_eq(karst_consume(karst, &record, 1, 10000), 1);
    ck_assert_int_eq(poll(&fd, 1, 0), 1); /* "b" is still there */
    ck_assert_int_eq(karst_consume(karst, &record, 1, 10000), 1);
    ck_assert_int_eq(record.offset, 1);
    ck_assert_int_eq(karst_consume(karst, &record, 1, 0), 0);
    ck_assert_int_eq(poll(&fd, 1, 0), 0);
    karst_close(karst, 0);
    lab_live_end(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(records_come_back_as_they_were_sent)
{
    struct lab lab;
    struct karst_record records[64];
    struct karst_header header = {"trace", "\x01\x02", 2};
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, "auto.offset.reset", "earliest");
    struct karst_message message = {
        .topic = "orders",
        .partition = 2,
        .key = "key",
        .key_bytes = 3,
        .value = NULL,
        .timestamp_ms = 1234567890123,
        .headers = &header,
        .header_count = 1,
    };
    ck_assert_int_eq(karst_produce(karst, &message), KARST_OK);
    ck_assert_int_eq(produce(karst, 2, ""), KARST_OK);
    ck_assert_int_eq(karst_flush(karst, 10000), KARST_OK);
    ck_assert_int_eq(karst_subscribe(karst, "orders", KARST_OFFSET_RESET), KARST_OK);
    int count = 0;
    while (count < 2)
        count += karst_consume(karst, records + count, 1, 10000);
    const struct karst_record *first = records;
    ck_assert_str_eq(first->topic, "orders");
    ck_assert_int_eq(first->partition, 2);
    ck_assert_int_eq(first->offset, 0);
    ck_assert_int_eq(first->timestamp_ms, 1234567890123);
    ck_assert_ptr_null(first->value);
    ck_assert_uint_eq(first->header_count, 1);
    ck_assert_ptr_nonnull(records[1].value);
    ck_assert_uint_eq(records[1].value_bytes, 0);
    ck_assert_ptr_null(records[1].key);
    ck_assert_int_eq(karst_position(karst, "orders", 2), 2);

    ck_assert_int_eq(karst_seek(karst, "orders", 2, 0), KARST_OK);
    ck_assert_int_eq(karst_consume(karst, records, 64, 10000), 2);
    const char *name;
    const void *value;
    size_t name_bytes, value_bytes;
    ck_assert_int_eq(karst_record_header(records, 0, &name, &name_bytes, &value, &value_bytes),
                     KARST_OK);
    ck_assert_uint_eq(name_bytes, 5);
    ck_assert_int_eq(memcmp(name, "trace", 5), 0);
    ck_assert_uint_eq(value_bytes, 2);
    ck_assert_int_eq(karst_record_header(records, 1, &name, &name_bytes, &value, &value_bytes),
                     KARST_ERR_INVALID);
    ck_assert_int_eq(memcmp(records[0].key, "key", 3), 0);
    karst_close(karst, 0);
    lab_live_end(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(closing_tells_what_becomes_of_every_record)
{
    struct lab lab;
    struct seen seen = {.thread = pthread_self()};
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, "linger.ms", "60000");
    karst_on_delivery(karst, on_delivery, &seen);
    for (int i = 0; i < 10; i++)
        ck_assert_int_eq(produce(karst, 0, "v"), KARST_OK);
    karst_close(karst, 10000); /* sends without lingering */
    ck_assert_uint_eq(seen.count, 10);
    ck_assert_uint_eq(seen.failed, 0);

    lab_live_end(&lab);
    lab_fini(&lab);
    lab_live_start(&lab, true);
    karst = connect_to(&lab, NULL, NULL);
    karst_on_delivery(karst, on_delivery, &seen);
    for (int i = 0; i < 5; i++)
        ck_assert_int_eq(produce(karst, 0, "v"), KARST_OK);
    ck_assert_int_eq(karst_flush(karst, 50), KARST_ERR_TIMED_OUT);
    ck_assert_ptr_nonnull(strstr(karst_error(karst), "5 records"));
    karst_close(karst, 0);
    ck_assert_uint_eq(seen.count, 15);
    ck_assert_uint_eq(seen.failed, 5);
    ck_assert_int_eq(seen.last_err, KARST_ERR_CANCELED);
    lab_live_end(&lab);
    lab_fini(&lab);
}
END_TEST

START_TEST(topics_are_made_described_and_measured)
{
    struct lab lab;
    struct karst_topics *topics;
    int64_t first, end;
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, NULL, NULL);
    struct karst_topic_spec spec = {.name = "made", .partitions = 2, .replication_factor = 1};
    ck_assert_int_eq(karst_topic_create(karst, &spec, 10000), KARST_OK);
    ck_assert_int_eq(karst_topic_create(karst, &spec, 10000), KARST_ERR_TOPIC_ALREADY_EXISTS);
    ck_assert_str_eq(karst_error(karst), "it is there");
    static const char *const names[] = {"orders", "made"};
    ck_assert_int_eq(karst_topics_describe(karst, names, 2, 10000, &topics), KARST_OK);
    ck_assert_uint_eq(topics->count, 2);
    ck_assert_str_eq(topics->topics[0].name, "made"); /* in order of names */
    ck_assert_uint_eq(topics->topics[1].partition_count, 3);
    ck_assert_int_eq(topics->topics[1].partitions[2].leader, 1);
    karst_topics_free(topics);
    ck_assert_int_eq(karst_partition_count(karst, "orders", 10000), 3);
    for (int i = 0; i < 7; i++)
        ck_assert_int_eq(produce(karst, 1, "v"), KARST_OK);
    ck_assert_int_eq(karst_flush(karst, 10000), KARST_OK);
    ck_assert_int_eq(karst_offsets(karst, "orders", 1, &first, &end, 10000), KARST_OK);
    ck_assert_int_eq(first, 0);
    ck_assert_int_eq(end, 7);
    ck_assert_int_eq(karst_offsets(karst, "orders", 9, &first, &end, 10000),
                     KARST_ERR_UNKNOWN_TOPIC_OR_PARTITION);
    karst_close(karst, 0);
    lab_live_end(&lab);
    lab_fini(&lab);
}
END_TEST

static void *produce_many(void *context)
{
    struct karst *karst = context;
    for (int i = 0; i < 20000; i++) {
        int err;
        while ((err = produce(karst, KARST_PARTITION_ANY, "from one of many threads")) ==
               KARST_ERR_FULL)
            ;
        ck_assert_int_eq(err, KARST_OK);
    }
    return NULL;
}

START_TEST(many_threads_may_produce)
{
    struct lab lab;
    struct seen seen = {.thread = pthread_self()};
    pthread_t threads[4];
    lab_live_start(&lab, false);
    struct karst *karst = connect_to(&lab, "buffer.memory", "1000000");
    karst_on_delivery(karst, on_delivery, &seen);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, produce_many, karst), 0);
    while (seen.count < 80000)
        (void)karst_poll(karst, 1000);
    for (size_t i = 0; i < ARRAY_LEN(threads); i++)
        pthread_join(threads[i], NULL);
    ck_assert_uint_eq(seen.failed, 0);
    karst_close(karst, 0);
    lab_live_end(&lab);
    int64_t in_logs = 0;
    for (int32_t i = 0; i < 3; i++)
        in_logs += lab.topics[0].partitions[i].end;
    ck_assert_int_eq(in_logs, 80000);
    lab_fini(&lab);
}
END_TEST

START_TEST(without_a_broker_calls_end_at_their_time)
{
    struct lab lab;
    lab_live_start(&lab, false);
    lab_live_end(&lab); /* its port refuses now */
    struct karst *karst = connect_to(&lab, NULL, NULL);
    struct karst_cluster *cluster;
    ck_assert_int_eq(karst_cluster_describe(karst, 100, &cluster), KARST_ERR_TIMED_OUT);
    ck_assert_ptr_nonnull(strstr(karst_error(karst), "no broker answered"));
    ck_assert_int_eq(karst_partition_count(karst, "orders", 100), -KARST_ERR_TIMED_OUT);
    ck_assert_int_eq(produce(karst, 0, "v"), KARST_OK);
    karst_close(karst, 10);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("client/handle", callbacks_run_inside_the_calls_of_the_program,
           the_descriptor_is_readable_while_there_is_something, records_come_back_as_they_were_sent,
           closing_tells_what_becomes_of_every_record, topics_are_made_described_and_measured,
           many_threads_may_produce, without_a_broker_calls_end_at_their_time)
