/* shard.h - one shard of a broker: its connections, the partitions that hash to it, their requests.
 * Shard 0 also holds the broker's lifecycle (register, heartbeat, lease, drain) and the connections
 * that the quorum's frames use.
 *
 *   session.c    connections: hello, requests in, replies out, split over shards and gathered
 *   partition.c  partitions: log + replica state machine
 *   peer.c       connections to other brokers: streams, forwarded calls, the quorum's frames
 *   lifecycle.c  shard 0: register, heartbeat, lease, controlled shutdown
 *   (internal.h lists all)
 *
 * Thread: its env's. A shard is made before its loop runs. */
#ifndef KARST_SHARD_SHARD_H
#define KARST_SHARD_SHARD_H

#include "metadata/image.h"
#include "quorum/quorum.h"
#include "shard/partition.h"
#include "shard/request.h"

/* ---- codecs: how a listener's bytes become requests; rpc and kafka fill one in ---- */

enum codec_verdict {
    CODEC_REQUEST, /* a request to execute */
    CODEC_DONE,    /* handled by the codec and the shard's hooks (hello, one-way) */
    CODEC_CLOSE,   /* the peer broke the protocol: close, after what the codec queued */
};

struct session; /* a connection's state: who the peer is (src/shard/session.h) */

struct shard_codec {
    const char *name; /* the listener's: "RPC" */
    /* Takes the frame. On CODEC_REQUEST *ret_request is ready: type, parts, frame, arena filled.
     * Errors of a whole request are answered by the codec itself (CODEC_DONE). */
    enum codec_verdict (*decode)(struct shard *shard, struct session *session, struct frame *frame,
                                 struct request **ret_request);
    /* Writes the reply of a finished request (all parts back, or err set) into the connection. */
    void (*encode)(struct shard *shard, struct session *session, struct request *request);
};

/* ---- configuration, life ---- */

struct shard_listener {
    const struct shard_codec *codec;
    char name[32];
    char host[256]; /* advertised */
    uint16_t port;
};

struct shard_config {
    node_id_t node;
    unsigned shard_count;
    struct uuid cluster_id, incarnation, boot_id;
    const char *rack; /* NULL */
    struct shard_listener listeners[LISTENERS_MAX];
    size_t listener_count;
    struct uuid directories[DIRECTORIES_MAX]; /* online, in the order of env->disks */
    size_t directory_count;
    bool clean_start;
    /* Replicas that the manifests name and no folder holds (R1). */
    const struct partition_id *lost;
    size_t lost_count;
    const struct partition_found *found; /* of all shards; each takes its share */
    size_t found_count;
    const bool *disk_clean;
    const bool *disk_verified; /* since it failed a sync (R14); NULL: none of them */
    uint64_t session_timeout_ns; /* broker.session.timeout.ms: the lease (R10) */
    uint64_t heartbeat_ns;       /* broker.heartbeat.interval.ms */
    uint32_t connections_max;    /* of one shard */
    uint32_t requests_max;       /* in work, of one connection */
    uint64_t request_timeout_ns; /* calls to the controller and to peers */
    /* Of all shards: what consumers' fetches have read and no socket has taken yet is charged to
     * it; over it they are answered THROTTLING_QUOTA_EXCEEDED. Outlives all frames. NULL: no bound.
     */
    struct frame_budget *read_budget;
    struct partition_options partition;
};

struct shard;

/* Sets env->upcalls and env->actor. config outlives it. */
err_t shard_new(struct env *env, unsigned idx, const struct shard_config *config,
                struct shard **ret_shard);
/* First timers, registration (shard 0). From the loop or before it runs. */
void shard_start(struct shard *shard);
/* Shard 0 only, on its thread: controlled shutdown: leaderships are moved away first, then every
 * shard syncs and closes its logs, the clean markers are written, and env.exit_node(0) is called. A
 * second call, or drain_timeout passing, stops at once. */
void shard_drain(struct shard *shard, uint64_t timeout_ns);
/* The same, asked for by mail from outside of the actors (SIGTERM); malloc'd, the shard frees it.
 */
enum { SHARD_MESSAGE_DRAIN = 199 };
struct shard_drain_message {
    struct env_message message;
    uint64_t timeout_ns;
};
/* As in a crash; accepts NULL. All loops of the node have stopped; the shards of a node are freed
 * one after the other, then what lay in their mailboxes by shard_message_free. */
void shard_free(struct shard *shard);
/* Any message to a shard or to the quorum that nobody took, with what it holds. */
void shard_message_free(struct env_message *message);

struct image *shard_image(const struct shard *shard); /* borrowed; NULL before the first update */
struct partition_table *shard_partitions(const struct shard *shard);

struct shard_view {
    uint64_t requests, replies, errors;
    uint32_t connections;
    bool lease_valid, fenced, registered;
    broker_epoch_t broker_epoch;
};
void shard_look(const struct shard *shard, struct shard_view *ret_view);

#endif
