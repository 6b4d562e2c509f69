/* core.h - the structures of libkarst's state machine; private to this folder. client.h says how it
 * is driven; each section here names the file that owns it. */
#ifndef KARST_CLIENT_CORE_H
#define KARST_CLIENT_CORE_H

#include "base/heap.h"
#include "base/rng.h"
#include "base/table.h"
#include "client/client.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

enum {
    CLIENT_TICK_MS = 50,    /* how often silence and deadlines are looked at */
    CLIENT_REFRESH_MS = 20, /* between two askings for metadata while somebody waits for it */
    CLIENT_VIEWS = 3,       /* brokers to ask while somebody waits */
    CLIENT_HEDGE_MS = 100,  /* then another broker is asked, or dialled, too */
    CLIENT_RETRY_MS = 20,   /* first wait before a retry; the very first is at once */
    CLIENT_RETRY_MS_MAX = 200,
    CLIENT_DIAL_MS = 20, /* first wait after a refused dial */
    CLIENT_DIAL_MS_MAX = 500,
    CLIENT_TOPIC_GRACE_MS = 1000, /* a topic just made may not be known to every broker yet */
    CLIENT_SILENCE_FACTOR = 4,    /* silences until a broker is given up */
    CLIENT_BATCH_BYTES_FIRST = 16 * 1024, /* of a partition's first batch; it grows to batch.size */
    CLIENT_OUTPUT_BYTES_MAX = 4 << 20,    /* acks=0: no reply slows us down, the socket does */
    CLIENT_SPARE_FRAMES_MAX = 16,
};

/* ---- brokers and calls: broker.c ---- */

enum client_broker_state { CLIENT_IDLE, CLIENT_DIALING, CLIENT_GREETING, CLIENT_READY };

struct client_broker {
    struct list_node link; /* client->brokers */
    struct client_address address;
    node_id_t node_id; /* NO_NODE: an address of the bootstrap list, not yet known by id */
    bool bootstrap;    /* from the configuration: kept for good */
    bool listed;       /* in the last metadata */
    enum client_broker_state state;
    env_conn conn;
    uint64_t since_ns;        /* when it came into its state */
    uint64_t heard_ns;        /* last frame of it, or when it began to owe us one */
    uint64_t dial_after_ns;   /* IDLE: not before */
    unsigned failures;        /* in a row */
    bool wanted;              /* somebody has work for it */
    bool probed;              /* silent, and asked whether it is there */
    uint64_t given, taken;    /* bytes of this connection, and those that its host had at a look */
    bool moved;               /* something that it led is led by another */
    struct list_node calls;   /* under way, oldest first */
    struct list_node batches; /* gathered in this turn, to be sent at its end */
    uint64_t output_full_ns;  /* acks=0: not before; 0: free */
    unsigned fetches;         /* under way */
};

/* One request under way. done is called exactly once, with the reply (err ERR_OK) or without; it
 * owns the object from then on. reply is valid during the call. */
struct client_reply {
    const ProtobufCMessage *message;
    struct frame *frame; /* take a reference to keep the attachment */
    struct bytes attachment;
};
struct client_call {
    struct list_node link; /* broker->calls */
    struct client_broker *broker;
    uint16_t method;
    uint32_t correlation;
    uint64_t deadline_ns; /* 0: request.timeout.ms, which bounds it anyway */
    void (*done)(struct client *client, struct client_call *call, err_t err,
                 const struct client_reply *reply);
};

struct client_broker *client_broker_by_id(struct client *client, node_id_t node_id);
struct client_broker *client_broker_at(struct client *client, const char *host, uint16_t port);
/* A READY broker, another one each time; NULL: none, and one is being dialled. */
struct client_broker *client_broker_any(struct client *client, uint64_t now);
/* One that has no connection is dialled, when there are few that have: for other views of who
 * leads. */
void client_broker_widen(struct client *client, uint64_t now);
/* It is READY soon, or its failure is told. */
void client_broker_want(struct client *client, struct client_broker *broker, uint64_t now);
/* Its connection ends; all its calls are done with err. */
void client_broker_fail(struct client *client, struct client_broker *broker, err_t err);
void client_brokers_tick(struct client *client, uint64_t now);
/* Dials those that are wanted; when it is to be called again (0: not by itself). */
uint64_t client_brokers_turn(struct client *client, uint64_t now);
bool client_brokers_owe(const struct client *client); /* something is under way */
void client_brokers_free(struct client *client);
/* Sends message, and counts attachment_bytes that the caller sends next by client_call_part. The
 * broker is READY. ERR_NO_MEMORY: nothing was sent and done is not called. */
err_t client_call_start(struct client *client, struct client_broker *broker,
                        struct client_call *call, const ProtobufCMessage *message,
                        size_t attachment_bytes);
void client_call_part(struct client *client, struct client_broker *broker, struct frame *frame,
                      size_t bytes);
/* The upcalls of env. */
void client_on_connected(void *actor, env_conn conn);
void client_on_received(void *actor, env_conn conn, struct frame *frame);
void client_on_closed(void *actor, env_conn conn, err_t err);

/* ---- topics and partitions: metadata.c ---- */

struct client_batch;
struct client_partition {
    struct client_topic *topic;
    int32_t index;
    node_id_t leader; /* NO_NODE: none, or not known */
    leader_epoch_t leader_epoch;
    bool
        leader_bad; /* it was tried and said no, or is gone: wait for another, or for retry_at_ns */
    uint64_t retry_at_ns;
    unsigned failures;           /* in a row */
    struct list_node dirty_link; /* client->dirty: to be looked at in the next turn */
    struct heap_node due;        /* client->due: to be looked at then */

    /* producer.c */
    struct client_batch *open; /* being filled */
    struct list_node batches;  /* sealed, oldest first; those under way come first */
    unsigned in_flight;
    bool draining;          /* something failed: all under way must come back first */
    bool renew;             /* the sequence is broken: a new producer id is needed */
    uint64_t id_generation; /* of the id below; 0: none yet */
    producer_id_t producer_id;
    int16_t producer_epoch;
    int32_t next_sequence;
    uint32_t batch_bytes; /* what the next batch is made for */
    uint64_t request_mark;

    struct client_consumption *consumption; /* consumer.c; NULL: was never assigned */
};

struct client_topic {
    struct list_node link; /* client->topics */
    char *name;
    struct uuid id;
    bool known;
    err_t err;               /* the cluster says so, for longer than the grace */
    uint64_t missing_ns;     /* since when it is said to be missing; 0: it is not */
    int64_t metadata_offset; /* of what is known of it */
    /* Those over the count wait until the topic is known, or were of one that had more. */
    struct client_partition **partitions;
    int32_t partition_room;
    int32_t partition_count;     /* as the cluster says; 0: not known */
    int32_t sticky;              /* partition of records without a key */
    struct list_node unassigned; /* batches of records from before it was known */
    struct client_batch *unassigned_open;
    bool subscribed;
    int64_t subscribed_offset; /* where its partitions begin */
    bool subscribed_done;      /* those that come up later begin at 0 */
};

/* Never NULL but without memory. A new one is asked for. */
struct client_topic *client_topic_get(struct client *client, const char *name);
struct client_topic *client_topic_find(const struct client *client, const char *name);
/* It was said to be missing: that may be old. Asked for as if it were new. */
void client_topic_ask_again(struct client *client, struct client_topic *topic);
struct client_partition *client_partition_find(const struct client *client, const char *topic,
                                               int32_t index);
/* Made when it is not there; NULL without memory. */
struct client_partition *client_partition_get(struct client *client, struct client_topic *topic,
                                              int32_t index);
/* The broker to speak to, READY; NULL: not now, and what is needed for it has been started. */
struct client_broker *client_partition_leader(struct client *client, struct client_partition *p,
                                              uint64_t now);
void client_partition_dirty(struct client *client, struct client_partition *p);
void client_partition_due(struct client *client, struct client_partition *p, uint64_t at_ns);
void client_all_dirty(struct client *client);
/* A request about the partition failed: what that says of its leader, and when to try again. hint:
 * leader and epoch that came with NOT_LEADER_OR_FOLLOWER. */
void client_partition_failed(struct client *client, struct client_partition *p, err_t err,
                             node_id_t hint, leader_epoch_t hint_epoch);
void client_partition_worked(struct client_partition *p);
void client_metadata_want(struct client *client);
uint64_t client_metadata_turn(struct client *client, uint64_t now); /* when next; 0: not */
void client_topics_free(struct client *client);

/* ---- producing: producer.c, batch.c ---- */

struct client_produce_call;
struct client_batch {
    struct list_node link;        /* partition->batches */
    struct list_node gather_link; /* broker->batches */
    struct client_topic *topic;
    struct client_partition *partition; /* NULL: waits for its topic */
    struct frame *frame;
    struct batch_builder builder;
    void **opaques; /* NULL: all are NULL */
    uint32_t opaque_room;
    uint64_t id_generation; /* of the id it is stamped with; 0: not stamped */
    int32_t base_sequence;
    bool in_flight;
    struct client_produce_call *call; /* in_flight and sent: the request, and its place there */
    size_t call_slot;
    bool acknowledged;    /* told when all before it are settled, too */
    bool perhaps_written; /* a try had no answer, or one that leaves it open */
    err_t refused;        /* by the last try, if nothing was written; ERR_OK: not yet */
    int64_t base_offset;
    bool keyed; /* a record has a key: not all may go to one partition */
    uint64_t created_ns, deadline_ns;
    size_t charged; /* of buffer.memory */
    struct client_done result;
};

struct client_record {
    struct bytes key, value;
    const struct record_header *headers;
    int32_t header_count;
    int64_t timestamp;
    void *opaque;
};
/* Adds a record. ERR_FULL: buffer.memory is used up, and nothing was changed. When *batch is full
 * it moves into sealed, and a new one is begun. */
err_t client_batch_add(struct client *client, struct client_batch **batch, struct list_node *sealed,
                       uint32_t batch_bytes, const struct client_record *record);
/* The bytes are final: header, sequence, CRC. A frame that somebody still sends is copied first. */
err_t client_batch_stamp(struct client *client, struct client_batch *batch);
/* Its fate is known. */
void client_batch_done(struct client *client, struct client_batch *batch, err_t err,
                       int64_t base_offset);
void client_batch_free(struct client *client, struct client_batch *batch);
void client_spares_free(struct client *client);

void client_producer_look(struct client *client, struct client_partition *p, uint64_t now);
void client_producer_send(struct client *client);                      /* what was gathered */
uint64_t client_producer_id_turn(struct client *client, uint64_t now); /* when next; 0: not */
void client_producer_tick(struct client *client, struct client_topic *topic, uint64_t now);
bool client_producer_has_work(const struct client_partition *p);
/* The topic became known: records that waited for it go to their partitions. */
void client_producer_assign(struct client *client, struct client_topic *topic);
/* The cluster has no such topic any more: what is queued for it fails. */
void client_producer_topic_gone(struct client *client, struct client_topic *topic, err_t err);
/* Another broker leads: what is under way to the old one is not waited for, but sent again. */
void client_producer_detach(struct client *client, struct client_partition *p);
/* The topic was made anew: sequences begin again. */
void client_producer_reset(struct client *client, struct client_partition *p);
void client_producer_free(struct client *client, struct client_topic *topic);

/* Kafka's choice: murmur2 of the key, its sign bit cut off, modulo the partitions. */
int32_t client_murmur2(const void *data, size_t len);
int32_t client_partition_of_key(const void *key, size_t key_bytes, int32_t partition_count);

/* ---- consuming: consumer.c ---- */

struct client_consumption {
    bool assigned;
    uint64_t generation; /* of the assignment: slices of an older one are dropped */
    uint64_t round;      /* of the request under way: what answers an older one is dropped */
    int64_t start;       /* an offset, or KARST_OFFSET_...: not yet resolved */
    offset_t fetch_at;   /* next to be fetched; valid when start was resolved */
    offset_t position;   /* next to be returned; -1: not known */
    /* When all before skip_from is returned, skip_to is next: what lies between was deleted, or a
     * reset leaves it out. -1: none. */
    offset_t skip_from, skip_to;
    bool resolved, in_flight, stopped; /* stopped: an error was told, until a seek */
    bool shown;                        /* something was returned since it was assigned */
    size_t buffered;                   /* bytes in slices */
    struct list_node slices;
    struct list_node link; /* client->consumable: has slices */
    struct list_node gather_link;
    struct client_partition *partition;
};

void client_consumer_look(struct client *client, struct client_partition *p, uint64_t now);
/* Another broker leads: the answer of the old one is not waited for. */
void client_consumer_detach(struct client_partition *p);
void client_consumer_send(struct client *client, uint64_t now);
bool client_consumer_has_work(const struct client_partition *p);
void client_consumer_assign(struct client *client, struct client_topic *topic);
void client_consumer_topic_gone(struct client *client, struct client_topic *topic, err_t err);
void client_consumer_free(struct client *client, struct client_topic *topic);

/* ---- ops: op.c ---- */

/* When it is to be called again; 0: not by itself. */
uint64_t client_ops_turn(struct client *client, uint64_t now);

/* ---- the whole: client.c ---- */

struct client {
    struct client_config config;
    struct env *env;
    struct client_hooks hooks;
    bool woken;         /* a turn was asked for and has not come yet */
    bool ended;         /* the loop is over */
    struct arena arena; /* of the reply at hand, and of requests while they are encoded */
    struct env_timer timer;
    uint64_t timer_due_ns; /* 0: none */
    uint64_t tick_ns;      /* next look at silence and deadlines */

    struct list_node brokers;
    struct client_broker *last_any;
    uint32_t next_correlation;
    const char *said;             /* by the broker, with the error at hand; NULL: nothing */
    struct client_address failed; /* the last that could not be spoken to; "" at first */
    err_t failed_err;
    struct uuid cluster_id; /* zero: not known */

    struct list_node topics;
    struct table topic_by_name;
    struct client_topic *last_topic; /* of client_produce */
    struct list_node dirty;
    struct heap due;
    bool metadata_wanted;
    uint64_t metadata_at_ns;  /* not before, while wanted */
    uint64_t metadata_age_ns; /* when it was last answered */
    unsigned metadata_in_flight;
    uint64_t metadata_sent_ns;

    uint64_t id_generation; /* of the producer id; 0: none yet */
    producer_id_t producer_id;
    int16_t producer_epoch;
    bool id_wanted, id_in_flight;
    uint64_t id_retry_ns;
    size_t buffer_used;  /* bytes, of buffer.memory */
    bool flushing;       /* nothing lingers */
    bool pressed;        /* nor now: the buffer was full */
    int64_t outstanding; /* records taken and not yet given back */
    int64_t queued;      /* of them those whose fate is not known */
    bool overdraft;      /* records move between batches: buffer.memory does not stop that */
    struct rng rng;
    uint64_t request_mark;
    struct client_done *done_first, *done_last;
    struct frame *spares[CLIENT_SPARE_FRAMES_MAX];
    size_t spare_count;

    uint64_t next_generation; /* of assignments, and of their requests */
    size_t fetch_buffered;
    bool fetch_waits; /* a partition waits for room in the buffer, or for a fetch to come back */
    struct list_node consumable;
    struct list_node errors;  /* slices without data, to be told first */
    struct list_node fetches; /* consumptions to be fetched, gathered in this turn */
    struct list_node ops;
};

void client_wake(struct client *client);
void client_ready(struct client *client);
static inline uint64_t client_now(const struct client *client)
{
    return env_now(client->env);
}
/* The sooner of two times, where 0 is never. */
static inline uint64_t client_sooner(uint64_t a, uint64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}
/* 0 for the first failure, then CLIENT_RETRY_MS doubling. */
uint64_t client_backoff_ns(unsigned failures, unsigned first_ms, unsigned last_ms);
/* Errors after which the leader of a partition is looked for anew. */
bool client_err_is_leaders(err_t err);

#endif
