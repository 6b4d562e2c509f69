#include "broker/options.h"

#include <stddef.h>

#define KIB INT64_C(1024)
#define MIB (1024 * KIB)
#define GIB (1024 * MIB)
#define FIELD(name) offsetof(struct options, name)

static const struct option_row table[] = {
    {"node.id", "", OPTION_INT, NULL, 0, INT32_MAX, false,
     "This broker's number, unlike every other one's in the cluster.", FIELD(node_id)},
    {"log.dirs", "", OPTION_TEXT, NULL, 0, 0, false,
     "Directories that hold the partitions, separated by commas; each formatted by karstd format.",
     FIELD(log_dirs)},
    {"metadata.log.dir", "", OPTION_TEXT, "", 0, 0, false,
     "Directory of the cluster's metadata log. Empty: the first of log.dirs.",
     FIELD(metadata_log_dir)},
    {"listeners", "", OPTION_TEXT, "RPC://127.0.0.1:9091", 0, 0, false,
     "Where to listen: NAME://HOST:PORT, separated by commas. Port 0: a free one.",
     FIELD(listeners)},
    {"advertised.listeners", "", OPTION_TEXT, "", 0, 0, false,
     "The addresses that clients and brokers are told. Empty: those of listeners.",
     FIELD(advertised_listeners)},
    {"controller.quorum.bootstrap.servers", "", OPTION_TEXT, "", 0, 0, false,
     "HOST:PORT of live brokers, separated by commas: where a broker that is no voter finds the "
     "quorum.",
     FIELD(bootstrap_servers)},
    {"broker.rack", "", OPTION_TEXT, "", 0, 0, false,
     "The rack of this broker; replicas of a partition are spread over racks.", FIELD(rack)},
    {"num.shards", "threads", OPTION_INT, "0", 0, 63, false,
     "Event loops that own connections and partitions. 0: one for each core.", FIELD(shards)},
    {"broker.session.timeout.ms", "ms", OPTION_MS, "2000", 200, 600000, false,
     "A broker that is silent for so long is fenced; its own lease ends as soon.",
     FIELD(session_timeout_ms)},
    {"broker.heartbeat.interval.ms", "ms", OPTION_MS, "200", 10, 60000, false,
     "How often a broker tells the controller that it lives.", FIELD(heartbeat_interval_ms)},
    {"controller.quorum.election.timeout.ms", "ms", OPTION_MS, "500", 50, 60000, false,
     "A voter that hears nothing of the leader for one to two times so long starts an election.",
     FIELD(election_timeout_ms)},
    {"controller.quorum.voter.replace.after.ms", "ms", OPTION_MS, "300000", 0, 604800000, false,
     "A voter that is lost for so long is replaced by an active observer, where there is one. 0: "
     "never.",
     FIELD(voter_replace_ms)},
    {"replica.lag.time.max.ms", "ms", OPTION_MS, "10000", 100, 3600000, false,
     "A follower that has not caught up for so long leaves the ISR.", FIELD(replica_lag_ms)},
    {"replica.fetch.max.bytes", "bytes", OPTION_BYTES, "1048576", KIB, GIB, false,
     "Most of one partition in one answer to a follower.", FIELD(replica_fetch_bytes)},
    {"replica.fetch.response.max.bytes", "bytes", OPTION_BYTES, "10485760", KIB, GIB, false,
     "Most of one answer to a follower.", FIELD(replica_fetch_response_bytes)},
    /* Least: what brokers send each other of the metadata log (1 MiB) passes the same door. */
    {"socket.request.max.bytes", "bytes", OPTION_BYTES, "104857600", 1536 * KIB, GIB, false,
     "The largest request; a larger one closes its connection.", FIELD(request_bytes_max)},
    {"queued.max.request.bytes", "bytes", OPTION_BYTES, "134217728", MIB, 64 * GIB, false,
     "What requests in work may hold together; over it the broker reads no sockets.",
     FIELD(queued_bytes_max)},
    {"max.connections", "", OPTION_INT, "4096", 16, 1000000, false,
     "Connections of the broker; more wait in the listeners' backlog.", FIELD(connections_max)},
    {"max.requests.in.flight.per.connection", "", OPTION_INT, "256", 1, 100000, false,
     "Requests of one connection in work; over it the broker does not read that socket.",
     FIELD(requests_in_flight_max)},
    {"request.timeout.ms", "ms", OPTION_MS, "5000", 100, 600000, false,
     "How long a broker waits for the controller or another broker to answer.",
     FIELD(request_timeout_ms)},
    {"controlled.shutdown.max.wait.ms", "ms", OPTION_MS, "10000", 0, 600000, false,
     "On SIGTERM: how long leadership may take to move away before the broker stops all the same.",
     FIELD(controlled_shutdown_ms)},
    {"min.insync.replicas", "", OPTION_INT, "1", 1, 16, false,
     "acks=all is refused while fewer replicas are in sync. Default for topics.",
     FIELD(min_insync)},
    {"default.replication.factor", "", OPTION_INT, "1", 1, 16, false,
     "For topics that do not say theirs.", FIELD(default_replication)},
    {"num.partitions", "", OPTION_INT, "1", 1, 100000, false, "For topics that do not say theirs.",
     FIELD(default_partitions)},
    {"max.topic.partitions", "", OPTION_INT, "100000", 1, 100000, false,
     "Most partitions that a topic may be created with.", FIELD(topic_partitions_max)},
    {"log.flush.before.ack", "", OPTION_BOOL, "true", 0, 0, false,
     "A replica acknowledges what it has flushed to the disk (acks=1 waits for the leader's "
     "flush).",
     FIELD(flush_before_ack)},
    {"log.segment.bytes", "bytes", OPTION_BYTES, "1073741824", 64 * KIB, 2 * GIB - 1, false,
     "A log begins a new segment at this size.", FIELD(segment_bytes)},
    {"log.preallocate.bytes", "bytes", OPTION_BYTES, "16777216", 4 * KIB, GIB, false,
     "A log's active segment grows by so much at a time.", FIELD(preallocate_bytes)},
    {"message.max.bytes", "bytes", OPTION_BYTES, "1048588", 64, GIB, false,
     "The largest record batch. Default for topics (max.message.bytes).", FIELD(message_bytes_max)},
    {"log.dir.min.free.bytes", "bytes", OPTION_BYTES, "67108864", 0, 1024 * GIB, false,
     "Appends stop when a log directory's file system has less left.", FIELD(free_bytes_min)},
    {"metadata.log.max.record.bytes.between.snapshots", "bytes", OPTION_BYTES, "20971520", 64 * KIB,
     GIB, false, "The metadata log is replaced by a snapshot after so much.",
     FIELD(snapshot_bytes)},
    {"metadata.log.reserve.bytes", "bytes", OPTION_BYTES, "8388608", 0, GIB, false,
     "Room kept for the metadata log on its disk, and given up only for it when the disk is full.",
     FIELD(metadata_reserve_bytes)},
    {"log.stray.retention.ms", "ms", OPTION_MS, "604800000", 0, INT64_C(31536000000), false,
     "A folder of no partition of this broker is set aside for so long, then deleted.",
     FIELD(stray_retention_ms)},
    {"log.stray.max.percent", "percent", OPTION_INT, "50", 1, 100, false,
     "The broker does not start when more of a directory's folders are of no partition of it.",
     FIELD(stray_percent_max)},
    {"log.level", "", OPTION_TEXT, "info", 0, 0, false,
     "Least level of the broker's log lines: debug, info, warn or error.", FIELD(log_level)},
};

const struct option_row *options_table(size_t *ret_count)
{
    *ret_count = sizeof table / sizeof table[0];
    return table;
}

static const char *type_name(enum option_type type)
{
    switch (type) {
    case OPTION_BOOL:
        return "boolean";
    case OPTION_TEXT:
        return "text";
    default:
        return "number";
    }
}

void options_print_markdown(FILE *out)
{
    fputs("# Configuration of karstd\n\n"
          "Written by `karstd options --markdown`. The file has a `key = value` on each line; `#` "
          "begins a\n"
          "comment. Names are Kafka's wherever Kafka has the key.\n\n"
          "| key | type | default | range | meaning |\n|---|---|---|---|---|\n",
          out);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const struct option_row *o = &table[i];
        fprintf(out, "| `%s` | %s%s%s | ", o->name, type_name(o->type),
                o->unit[0] != '\0' ? ", " : "", o->unit);
        fprintf(out,
                o->fallback == NULL      ? "required | "
                : o->fallback[0] == '\0' ? "| "
                                         : "`%s` | ",
                o->fallback);
        if (o->type == OPTION_BOOL || o->type == OPTION_TEXT)
            fputs("| ", out);
        else
            fprintf(out, "%lld to %lld | ", (long long)o->min, (long long)o->max);
        fprintf(out, "%s |\n", o->sentence);
    }
}
