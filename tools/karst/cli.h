/* cli.h - what the commands of karst share: options, connection, output.
 *
 * A command parses its options with cli_getopt, which takes those common to all, then connects and
 * does its work. Results go to standard output (tables for a person, JSON with --json), progress
 * and errors to standard error. Exit codes: 0 all was done, 1 something failed, 2 usage. */
#ifndef KARST_TOOLS_CLI_H
#define KARST_TOOLS_CLI_H

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/assert.h"
#include "client/karst.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_CONFIGS_MAX = 64 };

struct cli_command {
    const char *group; /* NULL: none ("produce") */
    const char *name;
    const char *arguments; /* "NAME --partitions N" */
    const char *summary;   /* one line */
    const char *options;   /* lines; NULL: only the common ones */
    const char *example;
    int (*run)(const struct cli_command *command, int argc, char **argv);
};

struct cli {
    const struct cli_command *command;
    const char *bootstrap;
    bool json;
    int timeout_ms;
    bool timeout_given;                    /* by --timeout-ms */
    const char *settings[CLI_CONFIGS_MAX]; /* NAME=VALUE of libkarst */
    size_t setting_count;
    struct karst *karst;
    bool told_wait;
};

void cli_init(struct cli *cli, const struct cli_command *command);
/* Options of the command's own: short letters or numbers from CLI_OWN on; longs ends with a zeroed
 * entry. Returns one of them, -1 at the end, or -2: the command ends now with *ret_exit (help was
 * asked for, or the usage was wrong). */
enum { CLI_OWN = 1000, CLI_OWN_MAX = 24 };
int cli_getopt(struct cli *cli, int argc, char **argv, const struct option *longs, int *ret_exit);
/* Complains on standard error, and names the help. Returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) PRINTF_LIKE(2, 3);
/* All of it for a command without options of its own: cli_init, the common options, and so many
 * arguments, from argv[optind] on. CLI_GO_ON, or the exit code with which the command ends now. */
enum { CLI_GO_ON = -1 };
int cli_begin(struct cli *cli, const struct cli_command *command, int argc, char **argv, int least,
              int most);
/* The argument after the options that must be there; false: told, and CLI_USAGE is due. */
bool cli_arguments(const struct cli *cli, int argc, int least, int most);
bool cli_number(const char *text, int64_t least, int64_t most, int64_t *ret_number);

/* Settings of libkarst before --client-config has its say. */
void cli_set(struct cli *cli, const char *setting);
/* Makes the handle; false: told. CLI_USAGE when the settings are wrong. */
int cli_connect(struct cli *cli);
void cli_close(struct cli *cli);
/* Tells karst_error of a failed call. Returns CLI_FAILED. */
int cli_fail(const struct cli *cli, const char *what);

/* SIGINT and SIGTERM ask for an end instead of making one, the first time. */
void cli_catch_signals(void);
bool cli_stopped(void);
/* For who is asked to stop and waits for what is under way: says so, once. */
void cli_tell_wait(struct cli *cli);
/* For who was stopped before all was done: says so. Returns CLI_FAILED. */
int cli_interrupted(void);

/* ---- output ---- */

/* Writes out what is buffered. CLI_DONE, or told and CLI_FAILED: standard output took not all. */
int cli_output_end(void);
int cli_print_json(json_t *value); /* takes the reference; CLI_DONE or CLI_FAILED */
/* Rows of cells, aligned when standard output is a terminal or not. right: columns that are
 * numbers, a bit each. */
struct cli_table {
    struct libscols_table *table;
    size_t columns;
};
bool cli_table_init(struct cli_table *table, const char *const *headings, size_t count,
                    uint64_t right);
bool cli_table_row(struct cli_table *table, const char *const *cells);
int cli_table_print(struct cli_table *table); /* and ends it */

/* A line on standard error that is renewed twice a second, when that is a terminal. */
struct cli_progress {
    bool shown;
    uint64_t start_ns, last_ns;
    uint64_t records, bytes;
};
uint64_t cli_now_ns(void); /* CLOCK_MONOTONIC */
void cli_progress_start(struct cli_progress *progress);
void cli_progress_show(struct cli_progress *progress);
void cli_progress_end(struct cli_progress *progress);
double cli_seconds(const struct cli_progress *progress);
/* "host:port", or "[::1]:port". */
void cli_address(const char *host, unsigned port, char *into, size_t size);
const char *cli_bytes_text(double bytes, char *into, size_t size); /* "12.3 MB" */

/* ---- commands ---- */

extern const struct cli_command topic_create_command, topic_list_command, topic_describe_command,
    topic_delete_command, produce_command, consume_command, cluster_status_command,
    quorum_describe_command, quorum_add_voter_command, quorum_remove_voter_command,
    bench_produce_command, bench_consume_command;

#endif
