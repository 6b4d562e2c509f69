/* quorum_lab.h - a few quorums in one process: virtual time, in-memory disks, a network that the
 * test steers, and the promises of raft checked after every slice of time.
 *
 * Node i has node id i and one shard, which is the lab's: it carries frames and notes updates. The
 * first voters of the nodes are voters, the others observers. A command registers a broker that no
 * node has: the image then tells whether it is there. */
#ifndef KARST_TESTS_QUORUM_LAB_H
#define KARST_TESTS_QUORUM_LAB_H

#include "lib/check_main.h"
#include "quorum/quorum.h"
#include "sim/sim_world.h"

enum {
    LAB_NODES_MAX = 7,
    LAB_TERMS_MAX = 4096,
    LAB_OFFSETS_MAX = 1 << 16,
    LAB_QUORUMS_MAX = 4, /* the first one, and those after recoveries */
    LAB_CALLS_MAX = 1 << 14
};

struct lab;

struct lab_node {
    struct lab *lab;
    unsigned idx;
    struct sim_host *host;
    struct sim_disk *disk;
    struct quorum_config config;
    struct log_options log_options;
    struct quorum *quorum; /* NULL: down */
    struct image *image;   /* as the shard was told */
    struct quorum_leader leader;
    unsigned updates;
    char stopped[256]; /* why it ended itself; "": it did not */
};

/* A frame on its way to a peer. False: it is lost. */
typedef bool (*lab_filter)(struct lab *lab, unsigned from, unsigned to,
                           const Karst__RaftMessage *raft);

struct lab {
    struct sim_world world;
    unsigned voters, nodes;
    struct lab_node node[LAB_NODES_MAX];
    uint64_t delay_ms_max;
    uint32_t loss_ppm, duplicate_ppm;
    bool cut[LAB_NODES_MAX][LAB_NODES_MAX];
    lab_filter filter;
    void *data; /* the filter's */
    /* checks */
    node_id_t leader_of[LAB_TERMS_MAX];
    uint64_t digest_at[LAB_OFFSETS_MAX * LAB_QUORUMS_MAX];
    bool digest_known[LAB_OFFSETS_MAX * LAB_QUORUMS_MAX];
    bool tolerate; /* a broken rule is noted here instead of failing the test: for canaries */
    char broken[128];
    /* commands */
    unsigned calls;
    err_t outcome[LAB_CALLS_MAX]; /* by command; ERR_BUSY: not answered */
    struct {                      /* requests between nodes, by token of the carrier */
        unsigned node;
        uint64_t token;
    } carried[LAB_CALLS_MAX];
    unsigned carries;
    unsigned asked;        /* by lab_ask: the last one's answer counts */
    struct frame *reply;   /* of lab_ask; NULL: not yet */
    int64_t change_offset; /* of the image when a change was asked for first */
};

struct lab_options {
    uint64_t seed;
    unsigned voters, observers;
    uint64_t snapshot_bytes, trailing_bytes; /* 0: defaults */
    uint32_t message_bytes;
    uint64_t segment_bytes; /* of the metadata log; 0: 8 MiB */
};
struct lab *lab_new(const struct lab_options *options); /* formatted, all started */
void lab_free(struct lab *lab);

void lab_start(struct lab *lab, unsigned node);
void lab_stop(struct lab *lab, unsigned node, bool power_cut);
void lab_run_ms(struct lab *lab, uint64_t ms);
/* Runs until true, at most ms; false: it did not come. */
bool lab_run_until(struct lab *lab, bool (*is)(struct lab *lab), uint64_t ms);
bool lab_has_active(struct lab *lab);  /* some controller is active */
int lab_leader(const struct lab *lab); /* of the newest term, with an active controller; -1 */
void lab_cut(struct lab *lab, unsigned node, bool cut); /* from and to all others */
void lab_heal(struct lab *lab);
struct quorum_view lab_look(const struct lab *lab, unsigned node);

/* A raft message of from's reaches to, past cuts and filter. */
void lab_inject(struct lab *lab, unsigned from, unsigned to, const Karst__RaftMessage *raft);

/* The leader hears of the voter, and nothing else: it does not step down for silence. */
void lab_contact(struct lab *lab, unsigned leader, unsigned voter);

/* node's shard has found that dead, which led term, is dead: true or not. */
void lab_prove(struct lab *lab, unsigned node, unsigned dead, uint64_t term);
/* node is about to end. */
void lab_hand_over(struct lab *lab, unsigned node);

/* Any request; its answer comes into reply. peer: whom the hello named, NO_NODE: a client. */
void lab_ask(struct lab *lab, unsigned node, uint16_t method, const ProtobufCMessage *message,
             node_id_t peer);
/* Any request; the reply or error frame (the caller's), at most ms later. NULL: none came. */
struct frame *lab_call(struct lab *lab, unsigned node, uint16_t method,
                       const ProtobufCMessage *message, unsigned ms);

/* The node's broker is registered and active, with the leader's help. */
void lab_register(struct lab *lab, unsigned node);
/* AddVoter or RemoveVoter of node, asked at a node; the answer comes into reply. */
void lab_ask_change(struct lab *lab, unsigned at, uint16_t method, unsigned node,
                    unsigned timeout_ms);
/* Asked of the leader, and of the next one when that is another: as brokers forward it. */
err_t lab_change(struct lab *lab, uint16_t method, unsigned node, unsigned timeout_ms);
/* Of node in the configuration that at knows to be committed; -1: it is no server. */
int lab_role(const struct lab *lab, unsigned at, unsigned node);

/* Sends a command to a node; returns its number. */
unsigned lab_command(struct lab *lab, unsigned node);
/* Sends it to the leader, again when refused, until it is acknowledged. */
unsigned lab_commit(struct lab *lab);
bool lab_image_has(const struct image *image, unsigned command);
/* All acknowledged commands are in the node's image. */
bool lab_keeps_acknowledged(const struct lab *lab, unsigned node);
/* All nodes that are up have the same image, and a leader. */
bool lab_agrees(struct lab *lab);
void lab_print(const struct lab *lab); /* each node's state, for a failed test */

/* A scripted history shows what it is for: in a canary build, with that bug planted, it tells that
 * a rule is broken. Elsewhere: nothing. */
void lab_must_break(bool (*history)(void), const char *canary);

#endif
