/* lab.h - a client over a world of its own: virtual time, and a cluster of simple brokers that
 * speak frames. Everything is in order and nothing is random but what a test does.
 *
 * The brokers share one truth (topics, leaders, logs), as if replication were perfect; what a test
 * makes them do wrong is in the fields below. */
#ifndef KARST_TESTS_CLIENT_LAB_H
#define KARST_TESTS_CLIENT_LAB_H

#include "base/heap.h"
#include "client/client.h"
#include "proto/rpc.pb-c.h"
#include "wire/wire.h"

enum {
    LAB_BROKERS = 3, /* node ids 1, 2, 3; ports 9001, 9002, 9003 */
    LAB_TOPICS = 4,
    LAB_PARTITIONS = 8,
    LAB_CONNS = 4096,
    LAB_PRODUCERS = 256,
    LAB_WINDOW = 5,
    LAB_LATENCY_US = 100,
};

struct lab_batch {
    uint8_t *data;
    struct batch_info info;
};

struct lab_partition {
    node_id_t leader; /* what is true; brokers answer from it */
    leader_epoch_t leader_epoch;
    struct lab_batch *batches;
    size_t batch_count;
    int64_t log_start, end;
    struct {
        producer_id_t id;
        int32_t next_sequence;
        struct {
            int32_t sequence;
            int64_t offset;
        } last[LAB_WINDOW]; /* its last batches, at sequence number of the batch % LAB_WINDOW */
        unsigned batches;
    } producers[LAB_PRODUCERS];
};

struct lab_topic {
    char name[32];
    struct uuid id;
    int32_t partition_count;
    bool deleted;
    struct lab_partition partitions[LAB_PARTITIONS];
};

struct lab_broker {
    bool down;                /* refuses connections */
    bool frozen;              /* takes everything, answers nothing */
    bool trickles;            /* bytes come of it all the time, but no whole frame */
    size_t untaken;           /* of ours by its host: one less at each look */
    bool mute;                /* loses its answers to produce requests, after doing them */
    unsigned requests[0x600]; /* by method */
};

struct lab_conn {
    bool open, dialing;
    uint32_t generation;
    unsigned broker;
    uint8_t *partial; /* towards the broker */
    size_t partial_used, partial_room;
    bool greeted;
};

struct lab {
    uint64_t now_ns;
    uint64_t sequence;
    struct heap events;
    struct env env;
    struct env_timer *timer; /* the client's only one */
    struct client *client;
    bool woken;
    struct lab_broker brokers[LAB_BROKERS + 1]; /* by node id */
    struct lab_conn conns[LAB_CONNS];
    uint32_t conn_count;
    struct lab_topic topics[LAB_TOPICS];
    size_t topic_count;
    int64_t metadata_offset;
    producer_id_t next_producer_id;
    /* The next produce requests' rows are answered so, without being done. */
    err_t produce_err;
    unsigned produce_err_count;
    uint32_t produce_timeout_ms; /* as the last produce request said */
    bool hints;                  /* NOT_LEADER_OR_FOLLOWER says who leads */
    err_t admin_err;             /* of CreateTopics, admin_err_count times */
    unsigned admin_err_count;
    unsigned dials;
    /* lab_live.c: the brokers stand behind real sockets, all as node 1 */
    struct io_node *live;
    uint16_t live_port;
    struct list_node live_repeats;
    /* what was delivered, in order */
    struct lab_delivery {
        err_t err;
        int32_t partition;
        int64_t offset;
        uintptr_t opaque;
    } * deliveries;
    size_t delivery_count, delivery_room;
};

/* config: NULL for defaults; bootstrap is broker 1 and 2 when it has none. */
void lab_init(struct lab *lab, struct client_config *config);
void lab_fini(struct lab *lab);
struct lab_topic *lab_add_topic(struct lab *lab, const char *name, int32_t partitions);
void lab_lead(struct lab *lab, struct lab_topic *topic, int32_t index, node_id_t leader);
void lab_kill(struct lab *lab, node_id_t broker);
void lab_start(struct lab *lab, node_id_t broker);
/* Runs for that long. */
void lab_run_ms(struct lab *lab, uint64_t ms);
/* Runs until so many records were delivered, or for ms; true: they were. */
bool lab_run_until_delivered(struct lab *lab, size_t count, uint64_t ms);
/* A record whose value and opaque are number. */
err_t lab_produce(struct lab *lab, const char *topic, int32_t partition, uintptr_t number);
/* Values in the partition's log, in order: number i is into[i]. */
size_t lab_log_values(const struct lab_partition *p, uintptr_t *into, size_t max);

/* lab_live.c: a broker on a thread of its own, at 127.0.0.1:live_port, for struct karst. Topics are
 * added before; the lab may be looked at after lab_live_end. */
void lab_live_start(struct lab *lab, bool mute);
void lab_live_end(struct lab *lab);
void lab_live_answer(struct lab *lab, env_conn conn, struct frame *frame);
void lab_live_repeat(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns);

/* lab_broker.c: a whole frame came; the answer goes out by lab_answer. */
void lab_broker_handle(struct lab *lab, env_conn conn, struct frame *frame);
void lab_answer(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns);
void lab_repeat(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns);
void lab_partition_free(struct lab_partition *p);

#endif
