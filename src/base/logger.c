#include "base/logger.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LOGGER_LINE_BYTES = 2048 };

/* Set while the process has one thread; only the level may change later. */
static struct {
    void (*write)(void *context, const char *line, int len);
    void *context;
    bool stamp;
} logger = {.stamp = true};
static atomic_int logger_least = LOGGER_INFO;
static _Thread_local char logger_thread[16] = "main";

static const char *const logger_level_names[] = {"DEBUG", "INFO", "WARN", "ERROR", "OFF"};

void logger_set(enum logger_level least, void (*write)(void *context, const char *line, int len),
                void *context, bool stamp_wall_clock)
{
    logger.write = write;
    logger.context = context;
    logger.stamp = stamp_wall_clock;
    atomic_store_explicit(&logger_least, (int)least, memory_order_relaxed);
}

void logger_name_thread(const char *name)
{
    (void)snprintf(logger_thread, sizeof(logger_thread), "%s", name); /* cut at the bound */
}

bool logger_enabled(enum logger_level level)
{
    return (int)level >= atomic_load_explicit(&logger_least, memory_order_relaxed);
}

static void logger_write_stderr(const char *line, size_t len)
{
    while (len > 0) {
        ssize_t written = write(STDERR_FILENO, line, len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* nobody can be told that the log is gone */
        line += written;
        len -= (size_t)written;
    }
}

/* "2026-11-28T12:00:00.123Z INFO shard0 ", or without the time. */
static size_t logger_put_head(char *line, size_t size, enum logger_level level)
{
    size_t at = 0;
    if (logger.stamp) {
        struct timespec now;
        struct tm utc;
        (void)clock_gettime(CLOCK_REALTIME, &now); /* can't fail for this clock */
        (void)gmtime_r(&now.tv_sec, &utc);         /* fails only past the year 2^31 */
        at = strftime(line, size, "%Y-%m-%dT%H:%M:%S", &utc);
        at += (size_t)snprintf(line + at, size - at, ".%03ldZ ", now.tv_nsec / 1000000);
    }
    at +=
        (size_t)snprintf(line + at, size - at, "%s %s ", logger_level_names[level], logger_thread);
    return at;
}

void logger_line(enum logger_level level, const char *format, ...)
{
    ASSERT(level < LOGGER_OFF);
    if (!logger_enabled(level))
        return;
    int error = errno; /* a log line must not change what its caller is about to look at */
    char line[LOGGER_LINE_BYTES];
    size_t head = logger_put_head(line, sizeof(line), level);
    size_t room = sizeof(line) - head - 1; /* one is the newline's */

    va_list arguments;
    va_start(arguments, format);
    int wanted = vsnprintf(line + head, room, format, arguments);
    va_end(arguments);
    size_t len = wanted < 0 ? 0 : (size_t)wanted;
    if (len >= room) { /* bound: a longer line is cut, and says so */
        len = room - 1;
        memset(line + head + len - 3, '.', 3);
    }
    /* What came from a peer must not be able to forge a line. */
    for (size_t i = head; i < head + len; i++)
        if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
            line[i] = '?';
    line[head + len] = '\n';
    len += head + 1;
    if (logger.write != NULL)
        logger.write(logger.context, line, (int)len);
    else
        logger_write_stderr(line, len);
    errno = error;
}
