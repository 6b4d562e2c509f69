/* karst.h - libkarst, the C client of Karst: producer, consumer, administration.
 *
 * A handle (struct karst) has one I/O thread that owns its connections. Everything the library
 * tells comes back on your own threads: delivery callbacks run inside karst_poll, karst_flush,
 * karst_consume and karst_close, never elsewhere. karst_poll_fd gives a descriptor for loops of
 * your own.
 *
 * Threads:  karst_produce may be called from any thread. The other calls of one handle are for one
 *           thread at a time. Different handles have nothing in common.
 * Errors:   0 is success; all codes are Kafka's where Kafka has one (NOT_LEADER_OR_FOLLOWER is 6),
 *           and 10000 and above are the library's own. karst_error tells what happened in a
 *           sentence.
 * Memory:   records are copied by karst_produce. What karst_consume returns points into the
 *           library's memory and is valid until the next karst_consume of that handle.
 * Units:    milliseconds for times and timeouts (-1: without end), bytes for sizes. */
#ifndef KARST_H
#define KARST_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KARST_API __attribute__((visibility("default")))

/* The codes that programs look at; karst_err_name knows all of them. */
enum {
    KARST_OK = 0,
    KARST_ERR_OFFSET_OUT_OF_RANGE = 1,
    KARST_ERR_UNKNOWN_TOPIC_OR_PARTITION = 3,
    KARST_ERR_TIMED_OUT = 7,
    KARST_ERR_MESSAGE_TOO_LARGE = 10,
    KARST_ERR_TOPIC_ALREADY_EXISTS = 36,
    KARST_ERR_FULL = 10000, /* buffer.memory is used up: poll, then try again */
    KARST_ERR_NO_MEMORY = 10001,
    KARST_ERR_CANCELED = 10011, /* the handle was closed before the record was acknowledged */
    KARST_ERR_INVALID = 10012,  /* an argument is out of range */
};

/* "NOT_LEADER_OR_FOLLOWER", and its sentence; never NULL. Static. */
KARST_API const char *karst_err_name(int err);
KARST_API const char *karst_err_sentence(int err);

/* ---- configuration ---- */

/* Names and meanings are Kafka's:
 *   bootstrap.servers        HOST:PORT[,HOST:PORT...]; required
 *   client.id                for the brokers' logs
 *   acks                     all (default), 1, 0
 *   enable.idempotence       true (default; false when acks is not all)
 *   linger.ms                5; how long a record may wait for others of its partition
 *   batch.size               1000000 bytes; a batch that is full is sent at once
 *   buffer.memory            67108864 bytes of records not yet acknowledged and reported
 *   max.request.size         1048576 bytes; the largest record, and what one request carries at
 *                            most, but for a single batch
 *   delivery.timeout.ms      120000; then a record that is not acknowledged has failed
 *   request.timeout.ms       30000; an unanswered request is given up, and retried
 *   max.in.flight.requests.per.connection  5; batches of one partition under way
 *   connection.idle.check.ms 500; a broker that owes an answer and is silent for that long is
 *                            probed, and given up after four times as long (Karst's own key)
 *   metadata.max.age.ms      60000
 *   auto.offset.reset        earliest, latest (default), none
 *   fetch.min.bytes          1
 *   fetch.max.wait.ms        500
 *   fetch.max.bytes          16777216
 *   max.partition.fetch.bytes 1048576
 *   fetch.buffer.memory      67108864 bytes fetched ahead of the program (Karst's own key)
 *   check.crcs               true */
struct karst_config;

KARST_API struct karst_config *karst_config_new(void); /* NULL without memory */
KARST_API void karst_config_free(struct karst_config *config);
/* KARST_ERR_INVALID: why (may be NULL) gets a sentence that names what would be right. */
KARST_API int karst_config_set(struct karst_config *config, const char *name, const char *value,
                               char *why, size_t why_size);

/* ---- handles ---- */

struct karst;

/* Starts the I/O thread; nothing is contacted yet that a call would have to wait for. The
 * configuration is copied. */
KARST_API int karst_new(const struct karst_config *config, struct karst **ret_karst, char *why,
                        size_t why_size);
/* Waits up to timeout_ms for the records under way; those still not acknowledged are reported with
 * KARST_ERR_CANCELED, inside this call. Accepts NULL. */
KARST_API void karst_close(struct karst *karst, int timeout_ms);
/* Runs the callbacks that are due, waiting up to timeout_ms for the first. Returns how many ran. */
KARST_API int karst_poll(struct karst *karst, int timeout_ms);
/* Readable when karst_poll or karst_consume has something; the library's to read and close. */
KARST_API int karst_poll_fd(struct karst *karst);
/* What the last call that failed had to say; "" at first. Valid until the next call. */
KARST_API const char *karst_error(const struct karst *karst);

/* ---- producing ---- */

enum { KARST_PARTITION_ANY = -1 };

struct karst_header {
    const char *name;
    const void *value; /* NULL: null */
    size_t value_bytes;
};

struct karst_message {
    const char *topic;
    int32_t partition; /* KARST_PARTITION_ANY: by the key's hash as Kafka does, or spread */
    const void *key;   /* NULL: null */
    size_t key_bytes;
    const void *value; /* NULL: null */
    size_t value_bytes;
    int64_t timestamp_ms; /* 0: now */
    const struct karst_header *headers;
    size_t header_count;
    void *opaque; /* comes back with the delivery */
};

struct karst_delivery {
    const char *topic;
    int32_t partition;
    int err;        /* KARST_OK: acknowledged as acks asks */
    int64_t offset; /* -1: not known (acks=0, or not acknowledged) */
    void *opaque;
};

/* For each record that karst_produce took, once; in order within a partition for those that were
 * acknowledged. Set it before the first karst_produce; without one, deliveries are only counted. */
typedef void (*karst_delivery_cb)(void *context, const struct karst_delivery *delivery);
KARST_API void karst_on_delivery(struct karst *karst, karst_delivery_cb callback, void *context);

/* Takes a record; what becomes of it is told by the delivery callback. Never waits. KARST_ERR_FULL:
 * nothing was taken; karst_poll until there is room. KARST_ERR_UNKNOWN_TOPIC_OR_PARTITION: the
 * cluster is known to have no such topic or partition. */
KARST_API int karst_produce(struct karst *karst, const struct karst_message *message);
/* Sends without lingering, and polls until all is delivered. KARST_ERR_TIMED_OUT. */
KARST_API int karst_flush(struct karst *karst, int timeout_ms);
/* Records taken and not yet reported. */
KARST_API int64_t karst_outstanding(const struct karst *karst);
/* Waits until the topic is known; the number of its partitions, or a negated error. */
KARST_API int karst_partition_count(struct karst *karst, const char *topic, int timeout_ms);

/* ---- consuming ---- */

enum {
    KARST_OFFSET_LATEST = -1,
    KARST_OFFSET_EARLIEST = -2,
    KARST_OFFSET_RESET = -3, /* as auto.offset.reset says */
};

struct karst_record {
    const char *topic;
    int32_t partition;
    int64_t offset;
    int64_t timestamp_ms;
    const void *key; /* NULL: null */
    size_t key_bytes;
    const void *value; /* NULL: null */
    size_t value_bytes;
    size_t header_count;
    const void *headers; /* see karst_record_header */
    size_t headers_bytes;
};

/* All partitions of the topic, those added later too (from their beginning). */
KARST_API int karst_subscribe(struct karst *karst, const char *topic, int64_t offset);
KARST_API int karst_unsubscribe(struct karst *karst, const char *topic);
/* One partition. Assigned again it is as if karst_seek were called. */
KARST_API int karst_assign(struct karst *karst, const char *topic, int32_t partition,
                           int64_t offset);
KARST_API int karst_unassign(struct karst *karst, const char *topic, int32_t partition);
KARST_API int karst_seek(struct karst *karst, const char *topic, int32_t partition, int64_t offset);
/* Offset of the next record to be returned; below 0: not known yet. */
KARST_API int64_t karst_position(const struct karst *karst, const char *topic, int32_t partition);
/* The next records, waiting up to timeout_ms for the first; runs due callbacks, too. Returns how
 * many (0: none in time), or a negated error that concerns one partition (karst_error names it) and
 * ends it until karst_seek; the others go on. Offsets of a partition only ever grow, but by
 * karst_seek. */
KARST_API int karst_consume(struct karst *karst, struct karst_record *into, int max,
                            int timeout_ms);
/* The record's header number at, from 0; the name is not terminated. KARST_ERR_INVALID: none. */
KARST_API int karst_record_header(const struct karst_record *record, size_t at,
                                  const char **ret_name, size_t *ret_name_bytes,
                                  const void **ret_value, size_t *ret_value_bytes);
/* First offset, and the end up to which consumers may read. */
KARST_API int karst_offsets(struct karst *karst, const char *topic, int32_t partition,
                            int64_t *ret_first, int64_t *ret_end, int timeout_ms);

/* ---- administration ---- */

struct karst_setting {
    const char *name, *value;
};

struct karst_topic_spec {
    const char *name;
    int32_t partitions;         /* -1: the broker's num.partitions */
    int32_t replication_factor; /* -1: the broker's default.replication.factor */
    const struct karst_setting *configs;
    size_t config_count;
};

KARST_API int karst_topic_create(struct karst *karst, const struct karst_topic_spec *spec,
                                 int timeout_ms);
KARST_API int karst_topic_delete(struct karst *karst, const char *name, int timeout_ms);

struct karst_partition {
    int32_t index;
    int32_t leader; /* -1: none */
    int32_t leader_epoch;
    const int32_t *replicas;
    size_t replica_count;
    const int32_t *isr;
    size_t isr_count;
};

struct karst_topic {
    const char *name;
    char id[23]; /* as text */
    int err;     /* of this topic; all below is empty then */
    const char *reason;
    const struct karst_partition *partitions;
    size_t partition_count;
    const struct karst_setting *configs; /* those that were set for it */
    size_t config_count;
};

struct karst_topics {
    const struct karst_topic *topics;
    size_t count;
};

/* names NULL: all topics. In order of names; an unknown topic is an entry with err set. */
KARST_API int karst_topics_describe(struct karst *karst, const char *const *names, size_t count,
                                    int timeout_ms, struct karst_topics **ret_topics);
KARST_API void karst_topics_free(struct karst_topics *topics);

struct karst_broker {
    int32_t node_id;
    const char *host;
    uint16_t port;
    const char *rack;  /* NULL: none */
    const char *state; /* "active", "fenced", "leaving", "draining" */
    int voter;         /* else an observer */
};

struct karst_cluster {
    char id[23];
    int32_t controller; /* -1: not known */
    int32_t controller_epoch;
    int64_t metadata_offset;
    const struct karst_broker *brokers;
    size_t broker_count;
    uint32_t topics, partitions;
    uint32_t under_replicated; /* partitions whose ISR is smaller than their replicas */
    uint32_t offline;          /* partitions without a leader */
};

KARST_API int karst_cluster_describe(struct karst *karst, int timeout_ms,
                                     struct karst_cluster **ret_cluster);
KARST_API void karst_cluster_free(struct karst_cluster *cluster);

/* ---- the metadata quorum ---- */

struct karst_quorum_server {
    int32_t node_id;
    const char *host;
    uint16_t port;
    const char *role;     /* "voter"; on its way to be one, "joining" or "catching up" */
    char directory[23];   /* its log directory's id; "": of a voter of the first hour */
    int64_t metadata_end; /* so much of the metadata log it has, durably; -1: not known */
};

struct karst_quorum {
    int32_t leader; /* -1: not known */
    int32_t leader_epoch;
    int64_t high_watermark; /* index of the last committed entry */
    int64_t log_end;        /* of the broker that told this */
    int of_leader;          /* told by the leader; else by any broker, as far as that knows */
    const struct karst_quorum_server *servers;
    size_t server_count;
};

/* As the leader sees it; where none answers in time, as some broker does. */
KARST_API int karst_quorum_describe(struct karst *karst, int timeout_ms,
                                    struct karst_quorum **ret_quorum);
KARST_API void karst_quorum_free(struct karst_quorum *quorum);
/* Returns when the node votes, or does so no more. What takes longer than the timeout is undone, or
 * its outcome is not known: karst_quorum_describe tells. */
KARST_API int karst_quorum_add_voter(struct karst *karst, int32_t node_id, int timeout_ms);
KARST_API int karst_quorum_remove_voter(struct karst *karst, int32_t node_id, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
