#include "base/logger.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "lib/check_main.h"

static char last[4096];
static int lines;

static void keep(void *context, const char *line, int len)
{
    ck_assert_ptr_eq(context, &lines);
    ck_assert_int_lt(len, (int)sizeof(last));
    memcpy(last, line, (size_t)len);
    last[len] = '\0';
    lines++;
}

START_TEST(a_line_has_level_thread_and_message)
{
    logger_set(LOGGER_INFO, keep, &lines, false);
    logger_name_thread("shard0");
    log_info("partition %s-%d leads", "orders", 3);
    ck_assert_str_eq(last, "INFO shard0 partition orders-3 leads\n");
    logger_name_thread("a-name-over-fifteen-letters");
    log_error("x");
    ck_assert_str_eq(last, "ERROR a-name-over-fif x\n");
}
END_TEST

START_TEST(what_is_below_the_level_is_not_written)
{
    logger_set(LOGGER_WARN, keep, &lines, false);
    log_debug("%s", "no");
    log_info("no");
    ck_assert_int_eq(lines, 0);
    log_warn("yes");
    ck_assert_int_eq(lines, 1);
    logger_set(LOGGER_OFF, keep, &lines, false);
    log_error("no");
    ck_assert_int_eq(lines, 1);
}
END_TEST

START_TEST(a_stamped_line_begins_with_utc_time)
{
    logger_set(LOGGER_INFO, keep, &lines, true);
    log_info("hello");
    int year, month, day, hour, minute, second, ms, taken = 0;
    ck_assert_int_eq(sscanf(last, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ INFO main hello%n", &year, &month,
                            &day, &hour, &minute, &second, &ms, &taken),
                     7);
    ck_assert_uint_eq((size_t)taken + 1, strlen(last));
}
END_TEST

START_TEST(a_message_can_not_forge_a_line)
{
    logger_set(LOGGER_INFO, keep, &lines, false);
    log_info("topic %s", "a\nERROR main b\x1b[31m\x7f");
    ck_assert_str_eq(last, "INFO main topic a?ERROR main b?[31m?\n");
    ck_assert_int_eq(lines, 1);
}
END_TEST

START_TEST(a_long_line_is_cut_and_says_so)
{
    logger_set(LOGGER_INFO, keep, &lines, false);
    log_info("%05000d", 7);
    ck_assert_uint_eq(strlen(last), 2047);
    ck_assert_str_eq(last + 2047 - 4, "...\n");
}
END_TEST

START_TEST(errno_survives_a_line)
{
    logger_set(LOGGER_INFO, NULL, NULL, true);
    errno = ENOSPC;
    log_info("this line goes to standard error");
    ck_assert_int_eq(errno, ENOSPC);
}
END_TEST

CHECK_MAIN("base/logger", a_line_has_level_thread_and_message,
           what_is_below_the_level_is_not_written, a_stamped_line_begins_with_utc_time,
           a_message_can_not_forge_a_line, a_long_line_is_cut_and_says_so, errno_survives_a_line)
