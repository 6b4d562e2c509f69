/* session.h - a connection that was accepted: who the peer is, and its requests in work. What
 * codecs need of the shard stands here, too.
 *
 *   accepted ──codec's hello: session_hello──▶ named ──frames: codec decodes──▶ requests
 *
 * A frame becomes a request in three steps, all in shard_codec.decode: session_request_new takes
 * the frame, session_request_parts makes its parts (or the codec sets message, for LOCAL and CALL),
 * and returning it with CODEC_REQUEST executes it. session_request_drop gives one back that is not
 * to be.
 *
 * Thread: the shard's. Ownership: a session lives until its connection is closed. */
#ifndef KARST_SHARD_SESSION_H
#define KARST_SHARD_SESSION_H

#include "shard/shard.h"

enum { SESSION_PEER_NAME_SIZE = 64 };

struct session {
    struct list_node link; /* of the shard's sessions */
    env_conn conn;
    const struct shard_codec *codec;
    uint64_t since_ns;
    char peer_name[SESSION_PEER_NAME_SIZE]; /* "10.0.0.7:51234" */
    bool named;                             /* the hello was taken */
    bool spoke;                             /* and more came than that, which is all of a probe */
    bool paused;
    bool trusted; /* a broker's: read over the budget, too */
    bool doomed;  /* closed when the turn ends */
    /* Who the hello said it is (R12): node -1 for a client. */
    node_id_t node;
    struct uuid incarnation;
    broker_epoch_t broker_epoch;
    struct list_node requests; /* in work, not yet answered */
    uint32_t request_count;
    uint64_t fetch_bytes;  /* that its fetches in work may bring */
    uint64_t delta_shards; /* bit for each shard that holds orders of this follower */
};

/* What a hello says, decoded. */
struct session_hello {
    bool cluster_known;
    struct uuid cluster_id;
    node_id_t node; /* -1: a client */
    struct uuid incarnation;
    broker_epoch_t broker_epoch;
};

/* ERR_INCONSISTENT_CLUSTER_ID, ERR_INVALID_REQUEST (a second hello, a broker without an
 * incarnation), ERR_DUPLICATE_BROKER_REGISTRATION (it says that it is this node): to be told, then
 * closed. */
err_t session_hello(struct shard *shard, struct session *session,
                    const struct session_hello *hello);
/* A broker by its hello, and by the image (R12). */
bool session_is_broker(const struct shard *shard, const struct session *session);

/* Takes the frame, which must outlive the request; from a pool. NULL without memory: the frame is
 * still the caller's. deadline_ns is request.timeout from now until the codec says otherwise. */
struct request *session_request_new(struct shard *shard, struct session *session,
                                    enum request_type type, struct frame *frame);
/* count zeroed parts of the request's type, their heads filled with "not answered"; NULL without
 * memory, or over REQUEST_PARTS_MAX. */
void *session_request_parts(struct request *request, uint32_t count);
void session_request_drop(struct shard *shard, struct request *request);

/* Queues a frame to the peer; takes it. */
void session_send(struct shard *shard, struct session *session, struct frame *frame);

/* A follower's standing orders, from a session_is_broker whose node and epoch are those of request
 * (else ERR_CLUSTER_AUTHORIZATION_FAILED, ERR_STALE_BROKER_EPOCH: close). ERR_INVALID_REQUEST. */
err_t session_take_deltas(struct shard *shard, struct session *session,
                          const Karst__ReplicaFetchRequest *request);
/* A raft message, of a peer that said it is a broker; takes the frame. */
void session_take_raft(struct shard *shard, struct session *session, struct frame *frame);

/* What this broker says first on every connection; NULL without memory. */
struct frame *shard_hello_frame(struct shard *shard);

/* For codecs: memory of the call at hand only: not across anything that calls back. */
struct arena *shard_scratch(struct shard *shard);
uint64_t shard_now_ns(const struct shard *shard);

#endif
