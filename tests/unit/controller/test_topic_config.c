#include "controller/topic_config.h"

#include <string.h>

#include "lib/check_main.h"

static char sentence[256];

static err_t check(const char *key, const char *value)
{
    sentence[0] = '\0';
    return topic_config_check(key, value, sentence, sizeof(sentence));
}

START_TEST(right_values_pass)
{
    static const char *const right[][2] = {
        {"cleanup.policy", "delete"},
        {"cleanup.policy", "compact,delete"},
        {"compression.type", "zstd"},
        {"flush.messages", "1"},
        {"flush.ms", "0"},
        {"index.interval.bytes", "4096"},
        {"max.message.bytes", "1048588"},
        {"message.timestamp.type", "LogAppendTime"},
        {"min.insync.replicas", "2147483647"},
        {"retention.bytes", "-1"},
        {"retention.ms", "9223372036854775807"},
        {"flush.before.ack", "false"},
        {"segment.bytes", "1073741824"},
        {"segment.ms", "604800000"},
        {"unclean.leader.election.enable", "false"},
    };
    for (size_t i = 0; i < ARRAY_LEN(right); i++)
        ck_assert_msg(check(right[i][0], right[i][1]) == ERR_OK, "%s=%s: %s", right[i][0],
                      right[i][1], sentence);
}
END_TEST

START_TEST(wrong_values_are_named_with_what_is_right)
{
    static const char *const wrong[][3] = {
        {"cleanup.policy", "deleted", "delete compact"},
        {"cleanup.policy", "delete,", "delete compact"},
        {"cleanup.policy", "", "delete compact"},
        {"cleanup.policy", "delete compact", "delete compact"},
        {"compression.type", "brotli", "zstd"},
        {"compression.type", "gzip,lz4", "zstd"},
        {"min.insync.replicas", "0", "from 1 to 2147483647"},
        {"min.insync.replicas", "two", "from 1"},
        {"min.insync.replicas", "2x", "from 1"},
        {"min.insync.replicas", " 2", "from 1"},
        {"min.insync.replicas", "", "from 1"},
        {"retention.ms", "-2", "from -1"},
        {"retention.ms", "9223372036854775808", "from -1"},
        {"segment.bytes", "2147483648", "to 2147483647"},
        {"unclean.leader.election.enable", "yes", "true or false"},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        ck_assert_int_eq(check(wrong[i][0], wrong[i][1]), ERR_INVALID_CONFIG);
        ck_assert_msg(strstr(sentence, wrong[i][2]) != NULL, "%s=%s: %s", wrong[i][0], wrong[i][1],
                      sentence);
    }
}
END_TEST

START_TEST(an_unknown_name_brings_the_nearest)
{
    ck_assert_int_eq(check("min.isr.replicas", "1"), ERR_INVALID_CONFIG);
    ck_assert_ptr_nonnull(strstr(sentence, "'min.insync.replicas'"));
    check("segment.byte", "1");
    ck_assert_ptr_nonnull(strstr(sentence, "'segment.bytes'"));
    check("zzzzzzzzzzzz", "1");
    ck_assert_ptr_null(strstr(sentence, "did you mean"));
    check("", "1");
    ck_assert_ptr_null(strstr(sentence, "did you mean"));
    char endless[4000];
    memset(endless, 'a', sizeof(endless) - 1);
    endless[sizeof(endless) - 1] = '\0';
    ck_assert_int_eq(check(endless, endless), ERR_INVALID_CONFIG);
    ck_assert_int_eq(check("retention.ms", endless), ERR_INVALID_CONFIG);
}
END_TEST

CHECK_MAIN("controller/topic_config", right_values_pass, wrong_values_are_named_with_what_is_right,
           an_unknown_name_brings_the_nearest)
