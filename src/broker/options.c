#include "broker/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/canary.h"

enum { OPTIONS_FILE_BYTES_MAX = 1 << 20, NAME_MAX_LEN = 128 };

struct parser {
    const char *name; /* of the file */
    struct options *options;
    bool *given;
    char *complain;
    size_t complain_len;
};

static err_t complain(const struct parser *p, int line, const char *format, ...) PRINTF_LIKE(3, 4);

static err_t complain(const struct parser *p, int line, const char *format, ...)
{
    int at = line > 0 ? snprintf(p->complain, p->complain_len, "%s:%d: ", p->name, line)
                      : snprintf(p->complain, p->complain_len, "%s: ", p->name);
    if (at >= 0 && (size_t)at < p->complain_len) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(p->complain + at, p->complain_len - (size_t)at, format,
                        args); /* cut: fine */
        va_end(args);
    }
    return ERR_INVALID_CONFIG;
}

/* Levenshtein's distance of two short names. */
static size_t distance(const char *a, const char *b)
{
    size_t row[NAME_MAX_LEN + 1];
    size_t blen = strlen(b);
    for (size_t j = 0; j <= blen; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= blen; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[blen];
}

const char *options_nearest(const char *name)
{
    size_t count, best = 0, best_distance = SIZE_MAX;
    const struct option_row *table = options_table(&count);
    if (strlen(name) > NAME_MAX_LEN)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t d = distance(name, table[i].name);
        if (d < best_distance) {
            best_distance = d;
            best = i;
        }
    }
    return best_distance <= strlen(name) / 2 ? table[best].name : NULL;
}

static void *field(struct options *options, const struct option_row *option)
{
    return (char *)options + option->offset;
}

static err_t set(const struct parser *p, const struct option_row *o, const char *value, int line)
{
    void *at = field(p->options, o);
    if (o->type == OPTION_TEXT) {
        char **text = at;
        free(*text);
        *text = strdup(value);
        return *text == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (o->type == OPTION_BOOL) {
        bool yes = strcmp(value, "true") == 0;
        if (!yes && strcmp(value, "false") != 0)
            return complain(p, line, "%s must be true or false, not \"%s\"", o->name, value);
        *(bool *)at = yes;
        return ERR_OK;
    }
    char *end;
    errno = 0;
    long long number = strtoll(value, &end, 10);
    if (end == value || *end != '\0')
        return complain(p, line, "%s must be a whole number, not \"%s\"", o->name, value);
    if (errno != 0 || number < o->min || number > o->max)
        return complain(p, line, "%s = %s is out of range: %lld to %lld", o->name, value,
                        (long long)o->min, (long long)o->max);
    *(int64_t *)at = number;
    return ERR_OK;
}

/* Cuts white space from both ends, in place. */
static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t len = strlen(text);
    while ((len > 0 || CANARY("options_trim_past_the_start")) &&
           isspace((unsigned char)text[len - 1]))
        text[--len] = '\0';
    return text;
}

static err_t parse_line(const struct parser *p, char *text, int line)
{
    char *key = trim(text);
    if (*key == '\0' || *key == '#')
        return ERR_OK;
    char *equals = strchr(key, '=');
    if (equals == NULL)
        return complain(p, line, "expected key = value, not \"%s\"", key);
    *equals = '\0';
    char *value = trim(equals + 1);
    key = trim(key);
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (strcmp(table[i].name, key) != 0)
            continue;
        if (p->given[i])
            return complain(p, line, "%s is given twice", key);
        p->given[i] = true;
        return set(p, &table[i], value, line);
    }
    const char *nearest = options_nearest(key);
    if (nearest == NULL)
        return complain(p, line, "unknown key \"%s\"; docs/configuration.md has them all", key);
    return complain(p, line, "unknown key \"%s\"; did you mean %s?", key, nearest);
}

static err_t finish(const struct parser *p)
{
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++)
        if (table[i].fallback == NULL && !p->given[i])
            return complain(p, 0, "%s is missing; it has no default", table[i].name);
    const struct options *o = p->options;
    if (o->heartbeat_interval_ms * 2 > o->session_timeout_ms)
        return complain(p, 0,
                        "broker.heartbeat.interval.ms must be at most half of "
                        "broker.session.timeout.ms");
    if (o->message_bytes_max > o->request_bytes_max)
        return complain(p, 0, "message.max.bytes is above socket.request.max.bytes");
    return ERR_OK;
}

err_t options_parse(const char *text, size_t len, const char *name, struct options *ret_options,
                    char *complaint, size_t complain_len)
{
    size_t count;
    const struct option_row *table = options_table(&count);
    struct options options = {0};
    struct parser p = {name, &options, calloc(count, sizeof(bool)), complaint, complain_len};
    char *copy = malloc(len + 1);
    err_t err = p.given == NULL || copy == NULL ? ERR_NO_MEMORY : ERR_OK;
    complaint[0] = '\0';
    for (size_t i = 0; i < count && err == ERR_OK; i++)
        if (table[i].fallback != NULL)
            err = set(&p, &table[i], table[i].fallback, 0);
    if (err == ERR_OK && memchr(text, '\0', len) != NULL)
        err = complain(&p, 0, "is no text: it holds a NUL byte");
    if (err == ERR_OK) {
        memcpy(copy, text, len);
        copy[len] = '\0';
        int line = 1;
        for (char *at = copy; at != NULL && err == ERR_OK; line++) {
            char *next = strchr(at, '\n');
            if (next != NULL)
                *next++ = '\0';
            err = parse_line(&p, at, line);
            at = next;
        }
    }
    if (err == ERR_OK)
        err = finish(&p);
    free(copy);
    free(p.given);
    if (err != ERR_OK)
        options_fini(&options);
    else
        *ret_options = options;
    return err;
}

err_t options_load(const char *file, struct options *ret_options, char *complaint,
                   size_t complain_len)
{
    FILE *in = fopen(file, "r");
    if (in == NULL) {
        (void)snprintf(complaint, complain_len, "%s: %s", file, strerror(errno)); /* cut: fine */
        return err_from_errno(errno);
    }
    char *text = malloc(OPTIONS_FILE_BYTES_MAX);
    size_t len = text == NULL ? 0 : fread(text, 1, OPTIONS_FILE_BYTES_MAX, in);
    err_t err = ERR_OK;
    if (text == NULL || ferror(in) != 0) {
        (void)snprintf(complaint, complain_len, "%s: can't be read", file); /* cut: fine */
        err = ERR_IO;
    } else if (len == OPTIONS_FILE_BYTES_MAX) {
        (void)snprintf(complaint, complain_len, "%s: is larger than 1 MiB", file); /* cut: fine */
        err = ERR_INVALID_CONFIG;
    }
    (void)fclose(in); /* was only read */
    if (err == ERR_OK)
        err = options_parse(text, len, file, ret_options, complaint, complain_len);
    free(text);
    return err;
}

void options_fini(struct options *options)
{
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        if (table[i].type != OPTION_TEXT)
            continue;
        char **text = field(options, &table[i]);
        free(*text);
        *text = NULL;
    }
}
