#include <errno.h>
#include <libsmartcols/libsmartcols.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "karst/cli.h"

enum { PROGRESS_MS = 500, NS_PER_MS = 1000000, NS_PER_S = 1000000000 };

int cli_output_end(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return CLI_DONE;
    fprintf(stderr, "karst: standard output can not be written: %s\n", strerror(errno));
    return CLI_FAILED;
}

int cli_print_json(json_t *value)
{
    if (value == NULL) {
        fprintf(stderr, "karst: %s\n", karst_err_sentence(KARST_ERR_NO_MEMORY));
        return CLI_FAILED;
    }
    (void)json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(9));
    json_decref(value);
    putchar('\n');
    return cli_output_end(); /* knows of any failure to write */
}

/* ---- tables ---- */

bool cli_table_init(struct cli_table *table, const char *const *headings, size_t count,
                    uint64_t right)
{
    table->columns = count;
    table->table = scols_new_table();
    if (table->table == NULL)
        return false;
    scols_table_set_termforce(table->table, SCOLS_TERMFORCE_NEVER); /* the same into a pipe */
    for (size_t i = 0; i < count; i++) {
        int flags = (right >> i & 1) != 0 ? SCOLS_FL_RIGHT : 0;
        if (scols_table_new_column(table->table, headings[i], 0, flags) == NULL)
            return false;
    }
    return true;
}

bool cli_table_row(struct cli_table *table, const char *const *cells)
{
    struct libscols_line *line = scols_table_new_line(table->table, NULL);
    for (size_t i = 0; line != NULL && i < table->columns; i++) {
        if (scols_line_set_data(line, i, cells[i]) != 0)
            return false;
    }
    return line != NULL;
}

int cli_table_print(struct cli_table *table)
{
    scols_print_table(table->table);
    scols_unref_table(table->table);
    return cli_output_end();
}

/* ---- progress ---- */

uint64_t cli_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

void cli_address(const char *host, unsigned port, char *into, size_t size)
{
    bool ip6 = strchr(host, ':') != NULL;
    snprintf(into, size, "%s%s%s:%u", ip6 ? "[" : "", host, ip6 ? "]" : "", port);
}

const char *cli_bytes_text(double bytes, char *into, size_t size)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    for (; bytes >= 1000 && unit + 1 < ARRAY_LEN(units); unit++)
        bytes /= 1000;
    snprintf(into, size, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
    return into;
}

void cli_progress_start(struct cli_progress *progress)
{
    *progress = (struct cli_progress){.start_ns = cli_now_ns()};
    progress->last_ns = progress->start_ns;
}

double cli_seconds(const struct cli_progress *progress)
{
    return (double)(cli_now_ns() - progress->start_ns) / NS_PER_S;
}

void cli_progress_show(struct cli_progress *progress)
{
    uint64_t now = cli_now_ns();
    if (now - progress->last_ns < (uint64_t)PROGRESS_MS * NS_PER_MS)
        return;
    progress->last_ns = now;
    if (isatty(STDERR_FILENO) != 1)
        return;
    char bytes[32], rate[32];
    double seconds = (double)(now - progress->start_ns) / NS_PER_S;
    fprintf(stderr, "\r\033[K%llu records  %s  %.0f records/s  %s/s",
            (unsigned long long)progress->records,
            cli_bytes_text((double)progress->bytes, bytes, sizeof(bytes)),
            (double)progress->records / seconds,
            cli_bytes_text((double)progress->bytes / seconds, rate, sizeof(rate)));
    progress->shown = true;
}

void cli_progress_end(struct cli_progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r\033[K");
    progress->shown = false;
}
