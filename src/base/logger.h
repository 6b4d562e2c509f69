/* logger.h - the process's log lines: "2026-11-28T12:00:00.123Z INFO shard0 message key=value".
 * The one global beside the configuration. Thread safe; a line is one write. */
#ifndef KARST_BASE_LOGGER_H
#define KARST_BASE_LOGGER_H

#include <stdbool.h>

#include "base/assert.h"

enum logger_level { LOGGER_DEBUG, LOGGER_INFO, LOGGER_WARN, LOGGER_ERROR, LOGGER_OFF };

/* write receives whole lines, newline included; NULL: standard error. In the simulator it is a hook
 * that stamps virtual time, so stamp_wall_clock is false there. */
void logger_set(enum logger_level least, void (*write)(void *context, const char *line, int len),
                void *context, bool stamp_wall_clock);
void logger_name_thread(const char *name); /* up to 15 letters, per thread */
bool logger_enabled(enum logger_level level);
void logger_line(enum logger_level level, const char *format, ...) PRINTF_LIKE(2, 3);

#define log_debug(...)                                                                             \
    (logger_enabled(LOGGER_DEBUG) ? logger_line(LOGGER_DEBUG, __VA_ARGS__) : (void)0)
#define log_info(...) logger_line(LOGGER_INFO, __VA_ARGS__)
#define log_warn(...) logger_line(LOGGER_WARN, __VA_ARGS__)
#define log_error(...) logger_line(LOGGER_ERROR, __VA_ARGS__)

#endif
