#include "controller/topic_config.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum config_kind { CONFIG_INTEGER, CONFIG_BOOLEAN, CONFIG_WORD, CONFIG_WORDS };

struct config_rule {
    const char *key;
    enum config_kind kind;
    int64_t min, max;  /* of an integer */
    const char *words; /* allowed ones, with a space after each */
};

static const struct config_rule config_rules[] = {
    {"cleanup.policy", CONFIG_WORDS, 0, 0, "delete compact "},
    {"compression.type", CONFIG_WORD, 0, 0, "producer uncompressed gzip snappy lz4 zstd "},
    {"flush.before.ack", CONFIG_BOOLEAN, 0, 0, NULL}, /* R20; Karst's own */
    {"flush.messages", CONFIG_INTEGER, 1, INT64_MAX, NULL},
    {"flush.ms", CONFIG_INTEGER, 0, INT64_MAX, NULL},
    {"index.interval.bytes", CONFIG_INTEGER, 0, INT32_MAX, NULL},
    {"max.message.bytes", CONFIG_INTEGER, 0, INT32_MAX, NULL},
    {"message.timestamp.type", CONFIG_WORD, 0, 0, "CreateTime LogAppendTime "},
    {"min.insync.replicas", CONFIG_INTEGER, 1, INT32_MAX, NULL},
    {"retention.bytes", CONFIG_INTEGER, -1, INT64_MAX, NULL},
    {"retention.ms", CONFIG_INTEGER, -1, INT64_MAX, NULL},
    {"segment.bytes", CONFIG_INTEGER, 14, INT32_MAX, NULL}, /* Kafka's least */
    {"segment.ms", CONFIG_INTEGER, 1, INT64_MAX, NULL},
    {"unclean.leader.election.enable", CONFIG_BOOLEAN, 0, 0, NULL},
};

/* ---- the nearest name ---- */

enum { NAME_LETTERS_MAX = 64 };

/* Letters to change, add or take away (Levenshtein); both names up to NAME_LETTERS_MAX. */
static size_t name_distance(const char *a, const char *b)
{
    size_t row[NAME_LETTERS_MAX + 1], b_len = strlen(b);
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t changed = diagonal + (a[i - 1] != b[j - 1]);
            size_t best = row[j] < row[j - 1] ? row[j] + 1 : row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best < changed ? best : changed;
        }
    }
    return row[b_len];
}

/* NULL: nothing is near. */
static const char *name_nearest(const char *key)
{
    if (strlen(key) > NAME_LETTERS_MAX)
        return NULL;
    const char *nearest = NULL;
    size_t least = strlen(key) / 2 + 1;
    for (size_t i = 0; i < ARRAY_LEN(config_rules); i++) {
        size_t distance = name_distance(key, config_rules[i].key);
        if (distance < least) {
            least = distance;
            nearest = config_rules[i].key;
        }
    }
    return nearest;
}

/* ---- values ---- */

enum { VALUE_LETTERS_MAX = 1024 };

static bool integer_within(const char *value, int64_t min, int64_t max)
{
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    bool digits =
        *value == '-' ? value[1] >= '0' && value[1] <= '9' : *value >= '0' && *value <= '9';
    return digits && errno == 0 && *end == '\0' && number >= min && number <= max;
}

static bool word_allowed(const char *word, size_t len, const char *words)
{
    for (const char *at = words; *at != '\0'; at = strchr(at, ' ') + 1)
        if (strncmp(at, word, len) == 0 && at[len] == ' ')
            return len > 0;
    return false;
}

static bool words_allowed(const char *list, const char *words)
{
    for (const char *at = list;; at++) {
        size_t len = strcspn(at, ",");
        if (!word_allowed(at, len, words))
            return false;
        at += len;
        if (*at == '\0')
            return true;
    }
}

static bool value_right(const struct config_rule *rule, const char *value)
{
    switch (rule->kind) {
    case CONFIG_INTEGER:
        return integer_within(value, rule->min, rule->max);
    case CONFIG_BOOLEAN:
        return strcmp(value, "true") == 0 || strcmp(value, "false") == 0;
    case CONFIG_WORD:
        return strchr(value, ' ') == NULL && word_allowed(value, strlen(value), rule->words);
    default:
        return strchr(value, ' ') == NULL && words_allowed(value, rule->words);
    }
}

static void value_say(const struct config_rule *rule, const char *value, char *sentence,
                      size_t size)
{
    switch (rule->kind) {
    case CONFIG_INTEGER:
        snprintf(sentence, size, "%s must be a whole number from %lld to %lld, not '%.64s'",
                 rule->key, (long long)rule->min, (long long)rule->max, value);
        break;
    case CONFIG_BOOLEAN:
        snprintf(sentence, size, "%s must be true or false, not '%.64s'", rule->key, value);
        break;
    default:
        snprintf(sentence, size, "%s must be %s of: %snot '%.64s'", rule->key,
                 rule->kind == CONFIG_WORD ? "one" : "one or more (with commas)", rule->words,
                 value);
        break;
    }
}

err_t topic_config_check(const char *key, const char *value, char *sentence, size_t size)
{
    for (size_t i = 0; i < ARRAY_LEN(config_rules); i++) {
        if (strcmp(config_rules[i].key, key) != 0)
            continue;
        if (strlen(value) <= VALUE_LETTERS_MAX && value_right(&config_rules[i], value))
            return ERR_OK;
        value_say(&config_rules[i], value, sentence, size);
        return ERR_INVALID_CONFIG;
    }
    const char *nearest = name_nearest(key);
    if (nearest != NULL)
        snprintf(sentence, size, "unknown topic configuration '%.64s': did you mean '%s'?", key,
                 nearest);
    else
        snprintf(sentence, size, "unknown topic configuration '%.64s'", key);
    return ERR_INVALID_CONFIG;
}
