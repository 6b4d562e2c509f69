#include "broker/options.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "lib/check_main.h"

static char complaint[512];
static struct options options;

static err_t parse(const char *text)
{
    options_fini(&options);
    return options_parse(text, strlen(text), "karst.conf", &options, complaint, sizeof complaint);
}

#define REQUIRED "node.id = 7\nlog.dirs = /data/a,/data/b\n"

START_TEST(what_is_not_said_has_its_default)
{
    ck_assert_int_eq(parse(REQUIRED), ERR_OK);
    ck_assert_int_eq(options.node_id, 7);
    ck_assert_str_eq(options.log_dirs, "/data/a,/data/b");
    ck_assert_int_eq(options.session_timeout_ms, 2000);
    ck_assert(options.flush_before_ack);
    ck_assert_str_eq(options.listeners, "RPC://127.0.0.1:9091");
}
END_TEST

START_TEST(comments_blank_lines_and_spaces_mean_nothing)
{
    ck_assert_int_eq(parse("# a comment\n\n  node.id=1  \r\n\tlog.dirs =  /d \n   # another\n"
                           "log.flush.before.ack = false"),
                     ERR_OK);
    ck_assert_int_eq(options.node_id, 1);
    ck_assert_str_eq(options.log_dirs, "/d");
    ck_assert(!options.flush_before_ack);
}
END_TEST

START_TEST(an_unknown_key_is_refused_with_its_line_and_the_nearest_name)
{
    ck_assert_int_eq(parse(REQUIRED "min.insync.replica = 2\n"), ERR_INVALID_CONFIG);
    ck_assert_str_eq(complaint, "karst.conf:3: unknown key \"min.insync.replica\"; did you mean "
                                "min.insync.replicas?");
    ck_assert_int_eq(parse("zzz = 2\n"), ERR_INVALID_CONFIG);
    ck_assert_ptr_eq(strstr(complaint, "did you mean"), NULL);
}
END_TEST

START_TEST(a_value_out_of_range_is_refused_with_the_range)
{
    ck_assert_int_eq(parse(REQUIRED "min.insync.replicas = 0\n"), ERR_INVALID_CONFIG);
    ck_assert_str_eq(complaint, "karst.conf:3: min.insync.replicas = 0 is out of range: 1 to 16");
    ck_assert_int_eq(parse(REQUIRED "min.insync.replicas = two\n"), ERR_INVALID_CONFIG);
    ck_assert_str_eq(complaint,
                     "karst.conf:3: min.insync.replicas must be a whole number, not \"two\"");
    ck_assert_int_eq(parse(REQUIRED "node.id = 99999999999999999999\n"), ERR_INVALID_CONFIG);
    ck_assert_int_eq(parse("log.flush.before.ack = yes\n"), ERR_INVALID_CONFIG);
}
END_TEST

START_TEST(what_contradicts_is_refused)
{
    ck_assert_int_eq(parse("log.dirs = /d\n"), ERR_INVALID_CONFIG);
    ck_assert_str_eq(complaint, "karst.conf: node.id is missing; it has no default");
    ck_assert_int_eq(parse(REQUIRED "node.id = 7\n"), ERR_INVALID_CONFIG);
    ck_assert_str_eq(complaint, "karst.conf:3: node.id is given twice");
    ck_assert_int_eq(parse(REQUIRED "broker.heartbeat.interval.ms = 1500\n"), ERR_INVALID_CONFIG);
    ck_assert_int_eq(parse(REQUIRED "just words\n"), ERR_INVALID_CONFIG);
}
END_TEST

START_TEST(any_bytes_are_refused_or_parsed)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    char bytes[200];
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = "node.id=7\nlog.dirs #\xff\0"[rng_below(&rng, 23)];
        }
        options_fini(&options);
        (void)options_parse(bytes, sizeof bytes, "x", &options, complaint,
                            sizeof complaint); /* no crash */
    }
}
END_TEST

START_TEST(every_default_is_in_its_range_and_every_key_has_a_sentence)
{
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        ck_assert_uint_gt(strlen(table[i].sentence), 10);
        ck_assert_str_eq(options_nearest(table[i].name), table[i].name);
        if (table[i].type == OPTION_TEXT || table[i].type == OPTION_BOOL ||
            table[i].fallback == NULL)
            continue;
        ck_assert_int_ge(atoll(table[i].fallback), table[i].min);
        ck_assert_int_le(atoll(table[i].fallback), table[i].max);
    }
}
END_TEST

CHECK_MAIN("broker/options", what_is_not_said_has_its_default,
           comments_blank_lines_and_spaces_mean_nothing,
           an_unknown_key_is_refused_with_its_line_and_the_nearest_name,
           a_value_out_of_range_is_refused_with_the_range, what_contradicts_is_refused,
           any_bytes_are_refused_or_parsed,
           every_default_is_in_its_range_and_every_key_has_a_sentence)
