/* options.h - the broker's configuration: one table says every key's name, type, unit, default,
 * range and meaning; the parser, the documentation and the describe services read it.
 *
 * The file is `key = value` by line, '#' begins a comment, Kafka's names wherever Kafka has the
 * key. An unknown key, a value out of range, a key given twice: an error with the line's number,
 * and for an unknown key the nearest name. */
#ifndef KARST_BROKER_OPTIONS_H
#define KARST_BROKER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

enum option_type { OPTION_INT, OPTION_BYTES, OPTION_MS, OPTION_BOOL, OPTION_TEXT };

struct options {
    int64_t node_id;
    char *log_dirs, *metadata_log_dir;
    char *listeners, *advertised_listeners;
    char *bootstrap_servers;
    char *rack;
    int64_t shards;
    int64_t session_timeout_ms, heartbeat_interval_ms, election_timeout_ms, voter_replace_ms;
    int64_t replica_lag_ms, replica_fetch_bytes, replica_fetch_response_bytes;
    int64_t request_bytes_max, queued_bytes_max, connections_max, requests_in_flight_max;
    int64_t request_timeout_ms, controlled_shutdown_ms;
    int64_t min_insync, default_replication, default_partitions, topic_partitions_max;
    bool flush_before_ack;
    int64_t segment_bytes, preallocate_bytes, message_bytes_max, free_bytes_min;
    int64_t snapshot_bytes, metadata_reserve_bytes, stray_retention_ms, stray_percent_max;
    char *log_level;
};

struct option_row {
    const char *name, *unit;
    enum option_type type;
    const char *fallback; /* NULL: must be given */
    int64_t min, max;     /* of numbers */
    bool dynamic;         /* may change while the broker runs */
    const char *sentence;
    size_t offset; /* in struct options */
};

/* The table, in the order of the documentation. */
const struct option_row *options_table(size_t *ret_count);
/* The nearest name in the table; NULL when none is near. */
const char *options_nearest(const char *name);

/* All from a file. On failure complain tells a person: "FILE:12: unknown key ...". */
err_t options_load(const char *file, struct options *ret_options, char *complain,
                   size_t complain_len);
/* The same from text, for tests and fuzzers. name stands in complaints. */
err_t options_parse(const char *text, size_t len, const char *name, struct options *ret_options,
                    char *complain, size_t complain_len);
void options_fini(struct options *options); /* accepts zeroed */

/* docs/configuration.md. */
void options_print_markdown(FILE *out);

#endif
