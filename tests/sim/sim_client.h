/* sim_client.h - simulated clients: each is a host with one actor that speaks frames to brokers.
 *
 *   sim_client.c     connections, calls, metadata
 *   sim_producer.c   lanes (one a partition) of batches, sent again until they are acknowledged
 *   sim_consumer.c   fetches from random offsets, tails, reads all back in the end
 *   sim_admin.c      makes the topics, makes and deletes others meanwhile
 *
 * They know nothing of the cluster but what it tells them, and give what they are told to the
 * checkers. */
#ifndef KARST_TESTS_SIM_CLIENT_H
#define KARST_TESTS_SIM_CLIENT_H

#include "proto/rpc.pb-c.h"
#include "record/batch.h"
#include "sim/sim_load.h"
#include "wire/wire.h"


struct client_partition {
    node_id_t leader;
    leader_epoch_t leader_epoch;
};
struct client_topic {
    bool known;
    struct uuid id;
    struct client_partition partitions[LOAD_PARTITIONS_MAX];
};

struct client_call;
/* err: of the connection or the request as a whole; header and frame (borrowed) when ERR_OK.
 * message is unpacked into the client's arena, valid during the call. */
typedef void client_call_done(struct sim_client *client, struct client_call *call, err_t err,
                              const ProtobufCMessage *message, struct bytes attachment);
struct client_call {
    struct list_node link;
    bool active;
    uint32_t correlation;
    unsigned broker; /* host */
    uint64_t deadline_ns;
    uint16_t method;
    client_call_done *done;
};

enum client_conn_state { CLIENT_CLOSED, CLIENT_DIALLING, CLIENT_GREETING, CLIENT_READY };
struct client_conn {
    enum client_conn_state state;
    env_conn conn;
    uint64_t again_at_ns;     /* not dialled before */
    int64_t metadata_offset;  /* the last one shown here: never goes back */
    struct list_node waiting; /* frames until it is ready */
};

struct client_role {
    void (*start)(struct sim_client *client);
    void (*tick)(struct sim_client *client, uint64_t now_ns);
    void (*end_load)(struct sim_client *client);
    void (*read_all)(struct sim_client *client);
    bool (*idle)(struct sim_client *client, char *ret_why, size_t size);
    void (*free)(struct sim_client *client);
};

struct sim_client {
    struct sim_run *run;
    struct sim_host *host;
    struct env *env;
    unsigned idx;
    struct rng rng;
    const struct client_role *role;
    void *state; /* the role's */
    struct client_conn conns[RUN_NODES_MAX];
    struct list_node calls; /* sent and not answered */
    uint32_t correlation;
    struct env_timer tick;
    struct arena arena;
    struct client_topic topics[LOAD_TOPICS];
    struct client_call metadata;
    uint64_t metadata_asked_ns;
    bool metadata_wanted;
    bool load_ended;
};

void sim_clients_add(struct sim_run *run);
void sim_client_free(struct sim_client *client);
/* No new load; what is under way is brought to its end. */
void sim_client_end_load(struct sim_client *client);
void sim_client_read_all(struct sim_client *client);
bool sim_client_idle(struct sim_client *client, char *ret_why, size_t size);

/* Sends a request to a broker, dialling when needed. call is not active; done follows exactly once,
 * later. attachment may be empty. */
void client_call(struct sim_client *client, struct client_call *call, unsigned broker,
                 const ProtobufCMessage *message, struct bytes attachment);
unsigned client_any_broker(struct sim_client *client);
/* Host of a node id from a broker's answer; false: the cluster told of a broker that is not there.
 */
bool client_broker(struct sim_client *client, node_id_t id, unsigned *ret_broker);
void client_want_metadata(struct sim_client *client);
static inline uint64_t client_now(const struct sim_client *client)
{
    return env_now(client->env);
}

extern const struct client_role producer_role, consumer_role, admin_role;

#endif
