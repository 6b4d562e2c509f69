/* shard_lab.h - brokers whose shards are real, on simulated hosts: their partitions and their
 * quorum are played by the lab, and clients speak frames.
 *
 * It asserts by ASSERT, not by check, since fuzz targets use it, too.
 * Nodes are 1, 2, ... on hosts "n0", "n1", ...; the last host is the clients'. */
#ifndef KARST_TESTS_LIB_SHARD_LAB_H
#define KARST_TESTS_LIB_SHARD_LAB_H

#include "lib/check_main.h"
#include "lib/metadata_lab.h"
#include "proto/rpc.pb-c.h"
#include "quorum/quorum.h"
#include "shard/session.h"
#include "sim/sim_world.h"
#include "wire/wire.h"

enum { LAB_SHARDS = 2, LAB_NODES_MAX = 3, LAB_PORT = 9000, LAB_REQUESTS_MAX = 8 };

struct lab_node {
    struct lab *lab;
    node_id_t id;
    struct sim_host *host;
    struct sim_disk *disk;
    struct shard_config config;
    struct shard *shards[LAB_SHARDS];
    /* What its quorum was told: counts of calls by method, and the last one. */
    bool active;
    unsigned registers, heartbeats, creates, deletes, alters, allocates, others, oneways, died,
        lost;
    node_id_t call_peer, create_peer, died_node;
    uint64_t died_term;                    /* in which that one led the quorum */
    unsigned hand_overs;                   /* of the lead of the quorum */
    struct quorum_peer_answer peer_answer; /* the last one; its frame is gone */
    unsigned peer_answers;
    struct frame *last_create;
    int64_t heartbeat_offset;
    size_t failed_directories, failed_replicas; /* of the last heartbeat from node 1 */
    bool asks_ends;                             /* of all partitions of topic 1, each time */
    leader_epoch_t asks_epoch; /* with it */
    size_t ends_told;                           /* answers since then */
    offset_t ends_sum;
    unsigned shutdowns_wanted;
    /* How it answers. */
    err_t heartbeat_err, register_err, create_err;
    bool fenced, may_shut_down, silent;
    uint32_t quorum_age_ms; /* as its controller says with each heartbeat */
    unsigned refuse_creates; /* that many are answered NOT_CONTROLLER first */
    bool exited;
    int exit_code;
    char exit_why[200];
};

/* What was received on a connection of the clients', in order. */
struct lab_received {
    struct list_node link;
    env_conn conn;
    struct frame *frame;
};

struct lab {
    struct sim_world world;
    struct lab_node nodes[LAB_NODES_MAX];
    unsigned node_count;
    struct sim_host *client_host;
    struct env *client;
    struct list_node received;
    env_conn connected, closed; /* the last ones */
    unsigned closed_count;
    struct image *image;
    uint32_t correlation;
    uint64_t term; /* raised by lab_lead */
};

/* Nodes run, but nobody leads, and there is no image. */
void lab_init(struct lab *lab, unsigned nodes, uint64_t seed);
void lab_fini(struct lab *lab);
void lab_run(struct lab *lab, uint64_t ms);
void lab_stop_node(struct lab *lab, unsigned idx); /* as kill -9 */

/* Its quorum sends to a peer: a one-way frame (token 0), or DescribeQuorum as a request. */
void lab_quorum_send(struct lab *lab, unsigned node, unsigned to, uint64_t token);

/* The controller is at node (NO_NODE: nobody knows). */
void lab_lead(struct lab *lab, node_id_t node);
/* Applies records, and gives the image to all shards of all nodes, or of one. */
void lab_publish(struct lab *lab, struct record_list *records);
/* Level, cluster, every node active with epoch 10 + id at its host's address; topic 1 "orders" with
 * four partitions led by node 1. Then a leader, and all lets the brokers settle. */
void lab_settle(struct lab *lab, node_id_t controller);
void lab_register_node(const struct lab_node *node, struct record_list *records,
                       const struct uuid *incarnation, broker_epoch_t epoch);

/* ---- clients ---- */

env_conn lab_dial(struct lab *lab, unsigned node);
/* The same, with a hello: a client's, or that of a broker. */
env_conn lab_connect(struct lab *lab, unsigned node);
env_conn lab_connect_broker(struct lab *lab, unsigned node, node_id_t as, broker_epoch_t epoch);
void lab_send_hello(struct lab *lab, env_conn conn, const Karst__Hello *hello);
Karst__Hello lab_hello(void);
/* Sends a request; returns its correlation id. */
uint32_t lab_send(struct lab *lab, env_conn conn, uint16_t method, const ProtobufCMessage *message,
                  const void *attachment, size_t attachment_bytes);
void lab_send_oneway(struct lab *lab, env_conn conn, uint16_t method,
                     const ProtobufCMessage *message);
/* The next frame on conn; NULL: none within ms. */
struct frame *lab_take(struct lab *lab, env_conn conn, uint64_t ms);
/* The reply to a request, unpacked into arena; fails the test on anything else. */
ProtobufCMessage *lab_reply(struct lab *lab, env_conn conn, uint32_t correlation, uint16_t method,
                            struct arena *arena);
/* The next frame is an error frame: its code. */
err_t lab_take_error(struct lab *lab, env_conn conn);
bool lab_is_closed(const struct lab *lab, env_conn conn);

struct partition_id lab_partition_id(int32_t index); /* of topic 1 */
uint32_t lab_produce(struct lab *lab, env_conn conn, int acks, uint32_t timeout_ms,
                     const int32_t *indexes, size_t count);
uint32_t lab_fetch(struct lab *lab, env_conn conn, uint32_t wait_ms, const int32_t *indexes,
                   size_t count);

/* ---- the played partitions (shard_lab_partition.c) ---- */

enum { FAKE_ROWS_MAX = 64 };

/* How the partitions of a shard behave, and what they were told. */
struct partition_table {
    struct partition_host host;
    struct list_node held; /* parts */
    bool hold;             /* produce waits until fake_release */
    bool stuck;            /* parts that are held stay past their deadline */
    err_t err;             /* of every part */
    err_t free_err;        /* of the table's end */
    uint32_t record_bytes; /* what a fetch finds; 0: it waits */
    offset_t next_offset;
    unsigned produced, fetched, canceled, applied, turns, deltas, data, gone, lost, altered,
        alter_failed;
    struct replica_delta last_delta;
    struct replica_data last_data;
    uint8_t last_byte;             /* of the last data */
    offset_t order[FAKE_ROWS_MAX]; /* first bytes of produced records, in order of arrival */
};
struct partition_table *fake_table(struct lab *lab, unsigned node, unsigned shard);
void fake_release(struct partition_table *table);
unsigned fake_held(const struct partition_table *table);

#endif
