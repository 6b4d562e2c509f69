/* sim_node.h - one broker on a simulated host: three shards and the quorum, booted as karstd does
 * it, crashed, restarted.
 *
 *   DOWN ──sim_node_start──▶ UP ──sim_node_stop, or the node ends itself──▶ DOWN */
#ifndef KARST_TESTS_SIM_NODE_H
#define KARST_TESTS_SIM_NODE_H

#include "log/log_dir.h"
#include "quorum/quorum.h"
#include "shard/shard.h"
#include "sim/sim_run.h"

enum { NODE_PORT = 9091 };

struct sim_node {
    struct sim_run *run;
    struct sim_host *host;
    struct sim_disk *disk;
    node_id_t id;
    bool voter;               /* from the beginning */
    bool keeps_disk;          /* it may become one: its disk is not to be swapped */
    unsigned life;            /* counts starts */
    uint64_t started_ns;      /* the last one */
    bool expects_exit;        /* what was done to it may make it end itself */
    uint64_t fuse_restart_ns; /* 0: no fuse */
    uint64_t boot_fuse;       /* of its next start: may blow while it recovers; 0: none */
    struct sim_event restart;
    struct uuid directory;
    uint64_t free_bytes_min, reserve_bytes; /* of its configuration (R16) */
    uint64_t replace_ms;                    /* after which a lost voter is replaced; 0: never */
    uint32_t raft_bytes;                    /* of entries in one message (R22); 0: the default */
    bool disk_swapped;                      /* and not yet registered with the new one */
    /* while up */
    struct quorum *quorum;
    struct shard *shards[RUN_SHARDS];
    struct shard_config shard_config;
    struct quorum_config quorum_config;
    struct log_options metadata_log;
    struct quorum_address bootstrap[RUN_NODES_MAX];
    struct log_dir_state directory_state;
    struct partition_found *found;
    struct partition_id *lost;
    bool disk_clean, disk_verified;
    bool disk_suspect; /* a sync has failed in some life */
};

enum node_stop { NODE_KILL, NODE_POWER_CUT };

/* Hosts must be added in the order of node ids, before any client: node i + 1 is host i. */
struct sim_node *sim_node_new(struct sim_run *run, unsigned idx, bool voter);
void sim_node_free(struct sim_node *node); /* accepts NULL; as if killed */
/* Of a new directory, as karstd format does it. */
void sim_node_format(struct sim_node *node);
void sim_node_start(struct sim_node *node);
/* Down; started again after restart_ns, or by sim_node_start when that is 0. */
void sim_node_stop(struct sim_node *node, enum node_stop how, uint64_t restart_ns);
/* Controlled shutdown, and a new start after a while. */
void sim_node_drain(struct sim_node *node);
/* What a power cut finds in the middle of a turn: nothing reaches the disk from its nth change on;
 * the turn in which that happens is the node's last. */
void sim_node_fuse(struct sim_node *node, uint64_t nth, uint64_t restart_ns);
/* After each turn of its actors: a fuse that blew cuts the power. */
void sim_node_turn_ended(struct sim_node *node);
/* R1: of a node that is down. Another, empty disk, formatted; not of a voter, which has its id from
 * its log. Or one replica's folder. The caller has made sure that the ISR has others. */
void sim_node_swap_disk(struct sim_node *node);
bool sim_node_lose_folder(struct sim_node *node, const char *folder);
static inline bool sim_node_up(const struct sim_node *node)
{
    return node->quorum != NULL;
}
struct sim_node *sim_run_node(const struct sim_run *run, node_id_t id); /* NULL: none */

#endif
