/* client.h - libkarst's state machine: what decides, over env. handle.c runs it on a thread of its
 * own behind karst.h; the simulator runs it beside its brokers.
 *
 *   brokers:    IDLE ──[dial]──> DIALING ──[connected]──> GREETING ──[hello]──> READY
 *               any ──[closed, silent, refused]──> IDLE, after a short wait
 *   partition:  records ──[client_produce]──> open batch ──[full, linger]──> sealed
 *               sealed ──[sent]──> under way ──[acknowledged]──> done
 *               under way ──[retriable]──> sealed again; first all of the partition that is under
 *               way must have come back (order is kept by that)
 *
 * Ownership: what client_new allocates is the client's; messages are copied; done batches and
 * fetched slices are the caller's until it gives them back.
 * Thread: one at a time. Upcalls and timers of env come on the loop's thread and take hooks->lock;
 * the other functions are called with the lock held, on any thread, and never call into env but for
 * its clock: what they want done is told by hooks->wake, upon which the owner has client_turn
 * called on the loop's thread.
 * Bounds: buffer.memory, fetch.buffer.memory; one request for each broker and purpose beside those
 * of max.in.flight. */
#ifndef KARST_CLIENT_CLIENT_H
#define KARST_CLIENT_CLIENT_H

#include <protobuf-c/protobuf-c.h>

#include "base/arena.h"
#include "base/uuid.h"
#include "client/karst.h"
#include "env/env.h"
#include "record/batch.h"

enum { CLIENT_BOOTSTRAP_MAX = 32, CLIENT_HOST_SIZE = 256, CLIENT_SENTENCE_SIZE = 512 };

struct client_address {
    char host[CLIENT_HOST_SIZE];
    uint16_t port;
};

enum client_reset { CLIENT_RESET_EARLIEST, CLIENT_RESET_LATEST, CLIENT_RESET_NONE };

struct client_config {
    struct client_address bootstrap[CLIENT_BOOTSTRAP_MAX];
    size_t bootstrap_count;
    char client_id[64];
    int acks; /* -1, 0, 1 */
    bool idempotent;
    bool idempotence_asked; /* set by name: acks=1 is then a contradiction */
    bool check_crcs;
    enum client_reset reset;
    uint32_t linger_ms, delivery_timeout_ms, request_timeout_ms, silence_ms, metadata_age_ms;
    uint32_t fetch_wait_ms, fetch_bytes_min, fetch_bytes_max, partition_bytes_max;
    uint32_t batch_bytes, record_bytes_max, in_flight_max;
    uint64_t buffer_bytes, fetch_buffer_bytes;
};

void client_config_init(struct client_config *config);
/* One "name = value"; why gets a sentence. */
err_t client_config_set(struct client_config *config, const char *name, const char *value,
                        char *why, size_t why_size);
/* What values say together. */
err_t client_config_check(struct client_config *config, char *why, size_t why_size);

struct client_hooks {
    void (*lock)(void *context); /* NULL: one thread does all */
    void (*unlock)(void *context);
    void (*wake)(void *context);  /* client_turn is wanted, on the loop's thread */
    void (*ready)(void *context); /* something is done, fetched or answered */
    void *context;
};

struct client;

/* Sets env's upcalls; nothing is dialled before the first client_turn. */
err_t client_new(const struct client_config *config, struct env *env,
                 const struct client_hooks *hooks, struct client **ret_client);
void client_free(struct client *client); /* accepts NULL; the loop has ended */
struct uuid client_make_uuid(struct client *client);
/* The work that is due: on the loop's thread, with the lock. It ends each turn of the loop by
 * itself. */
void client_turn(struct client *client);

/* ---- producing ---- */

err_t client_produce(struct client *client, const struct karst_message *message);
/* From now on nothing lingers, until all that was produced is done. */
void client_flush(struct client *client);
int64_t client_outstanding(const struct client *client); /* records taken, not yet given back */
/* All that is not done is done with err; after the loop has ended. */
void client_abandon(struct client *client, err_t err);

/* A batch whose fate is known: records base_offset, base_offset + 1, ... */
struct client_done {
    struct client_done *next;
    const char *topic;
    int32_t partition;
    err_t err;
    int64_t base_offset; /* -1: not known */
    uint32_t count;
    void **opaques; /* one for each record; NULL: all are NULL */
};
/* All that is done, oldest first; NULL: nothing. Given back as a whole by client_done_free. */
struct client_done *client_take_done(struct client *client);
void client_done_free(struct client *client, struct client_done *first);

/* ---- consuming ---- */

err_t client_subscribe(struct client *client, const char *topic, int64_t offset);
err_t client_unsubscribe(struct client *client, const char *topic);
err_t client_assign(struct client *client, const char *topic, int32_t partition, int64_t offset);
err_t client_unassign(struct client *client, const char *topic, int32_t partition);
int64_t client_position(const struct client *client, const char *topic, int32_t partition);

/* Whole batches of one partition, in a frame; or an error of it. */
struct client_slice {
    struct list_node link;
    const char *topic;
    int32_t index;                      /* -1: all of the topic */
    struct client_partition *partition; /* NULL: an error of the topic */
    uint64_t generation;                /* of the assignment */
    struct frame *frame;
    const uint8_t *data;
    size_t bytes;
    offset_t from, end; /* records from .. end-1 are wanted */
    err_t err;          /* not ERR_OK: no frame */
};
/* The next slice, by turns of the partitions; NULL: none. */
struct client_slice *client_take_slice(struct client *client);
/* Its partition was not assigned anew since: its records are still wanted. */
bool client_slice_current(const struct client_slice *slice);
/* Records below next were returned to the program. */
void client_slice_returned(struct client_slice *slice, offset_t next);
/* Its bytes can't be read: the partition stands still until it is assigned anew. */
void client_slice_broken(struct client *client, struct client_slice *slice);
void client_slice_free(struct client *client, struct client_slice *slice);
/* A further slice is there, and no error before it. */
bool client_has_slice(const struct client *client);
bool client_has_done(const struct client *client);
bool client_has_news(const struct client *client); /* something done, fetched, or an error */

/* ---- asking ---- */

/* "HOST:PORT: connection refused": the last address that could not be spoken to; false: none. */
bool client_last_failure(const struct client *client, char *into, size_t size);

/* Partitions of the topic; 0: not known yet (it is being asked for); below 0: a negated error. */
int32_t client_partition_count(struct client *client, const char *topic);
/* An error of the topic that is known from earlier counts no more: it is asked for anew. */
void client_ask_again(struct client *client, const char *topic);

/* One request to any broker, or to the leader of a partition, sent again until it is answered or
 * its time is over: it must be one that may be sent twice. Embedded in the caller's object; its
 * functions are called with the lock held. */
struct client_op {
    struct list_node link;       /* from here to arena: the client's */
    struct client_op_call *call; /* under way */
    uint64_t retry_at_ns;
    bool finished;
    bool late;      /* by the deadline; err and sentence are of the last try before it */
    bool uncertain; /* nobody knows what became of a try: it may have been done */
    err_t err;      /* of the last try; ERR_OK with a message */
    char sentence[CLIENT_SENTENCE_SIZE];
    const ProtobufCMessage *reply; /* in arena */

    struct arena *arena; /* for the request and the reply: the caller's */
    uint16_t method;
    unsigned tries;
    uint64_t deadline_ns;
    const char *topic; /* NULL: any broker; else it goes to the leader of this partition */
    int32_t partition;
    /* Makes the request; topic_id: of the topic. NULL without memory. */
    const ProtobufCMessage *(*encode)(struct client_op *op, const struct uuid *topic_id);
    /* What the reply says; true: another try. */
    bool (*judge)(struct client_op *op, const ProtobufCMessage *reply, err_t *ret_err,
                  const char **ret_sentence);
};
void client_op_start(struct client *client, struct client_op *op);
/* Until finished it may be canceled; afterwards it does nothing. */
void client_op_cancel(struct client *client, struct client_op *op);

#endif
