#include "sim/sim_node.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "rpc/rpc.h"
#include "sim/check.h"

static const struct uuid cluster_id = {{0x4b, 0x61, 0x72, 0x73, 0x74, 1, 0x40, 1, 0x80, 1}};

struct sim_node *sim_run_node(const struct sim_run *run, node_id_t id)
{
    return id >= 1 && (unsigned)id <= run->node_count ? run->nodes[id - 1] : NULL;
}

/* ---- before the first start ---- */

static void node_restart_run(struct sim_world *world, struct sim_event *event)
{
    struct sim_node *node = container_of(event, struct sim_node, restart);
    if (sim_run_of(world)->phase == RUN_SAFETY && !sim_node_up(node))
        sim_node_start(node);
}

static void node_exited(struct sim_host *host, int code, const char *why)
{
    struct sim_node *node = host->data;
    struct sim_run *run = node->run;
    sim_say(run, "node %d ends itself, code %d: %s", node->id, code, why);
    if (code != 0 && !node->expects_exit)
        sim_fail(run, "no node ends itself without cause", "node %d, code %d: %s", node->id, code,
                 why);
    sim_node_stop(node, NODE_KILL, rng_between(&run->rng, ENV_MS(50), ENV_MS(3000)));
    if (run->phase != RUN_SAFETY && !run->failed)
        sim_node_start(node);
}

struct sim_node *sim_node_new(struct sim_run *run, unsigned idx, bool voter)
{
    struct sim_node *node = calloc(1, sizeof *node);
    ASSERT(node != NULL);
    node->run = run;
    node->id = (node_id_t)idx + 1;
    node->voter = voter;
    node->host = sim_host_add(&run->world);
    ASSERT(node->host->idx == idx);
    node->host->port = NODE_PORT;
    node->host->accepting = RUN_SHARDS;
    node->host->exited = node_exited;
    node->host->message_free = NULL; /* sim_node_start */
    node->host->data = node;
    node->restart.run = node_restart_run;
    node->disk = sim_disk_new(&(struct sim_disk_options){.seed = rng_next(&run->rng),
                                                         .sync_ns_min = 50000,
                                                         .sync_ns_max = 1500000,
                                                         .writeback_per_million = 3000,
                                                         .no_sync_all = idx % 4 == 3});
    node->host->disk = node->disk;
    node->directory = uuid_make(rng_next(&run->rng), rng_next(&run->rng));
    return node;
}

static void node_address(const struct sim_run *run, unsigned idx, struct quorum_address *ret)
{
    *ret = (struct quorum_address){.node = (node_id_t)idx + 1, .port = NODE_PORT};
    memcpy(ret->host, run->nodes[idx]->host->name, sizeof run->nodes[idx]->host->name);
}

/* False: it can not go on. That its disk froze meanwhile is nobody's fault. */
static bool node_require(struct sim_node *node, err_t err, const char *what)
{
    if (err != ERR_OK && !sim_disk_frozen(node->disk))
        sim_fail(node->run, "a node starts from what it left on its disk", "node %d: %s: %s",
                 node->id, what, err_name(err));
    return err == ERR_OK;
}

void sim_node_format(struct sim_node *node)
{
    struct sim_run *run = node->run;
    sim_host_boot(node->host, RUN_SHARDS + 1);
    struct log_dir_meta meta = {
        .cluster_id = cluster_id, .directory_id = node->directory, .node_id = node->id};
    struct env *env = sim_host_env(node->host, RUN_SHARDS);
    (void)node_require(node, log_dir_format(env->disks, &meta),
                       "log_dir_format"); /* the run ends */
    struct quorum_address voters[RUN_NODES_MAX];
    for (unsigned i = 0; i < run->voter_count; i++)
        node_address(run, i, &voters[i]);
    if (node->voter)
        (void)node_require(node, quorum_format(env, voters, run->voter_count), "quorum_format");
    sim_disk_kill(node->disk);
    sim_host_stop(node->host);
}

/* ---- start ---- */

static void node_directory(struct sim_node *node)
{
    struct shard_config *config = &node->shard_config;
    struct log_dir_state *state = &node->directory_state;
    node->found = calloc(state->replica_count + 1, sizeof *node->found);
    node->lost = calloc(state->replica_count + 1, sizeof *node->lost);
    ASSERT(node->found != NULL && node->lost != NULL);
    for (size_t i = 0; i < state->replica_count; i++) {
        const struct log_dir_replica *replica = &state->replicas[i];
        if (replica->folder[0] == '\0') {
            node->lost[config->lost_count++] = replica->id;
            continue;
        }
        struct partition_found *found = &node->found[config->found_count++];
        found->id = replica->id;
        found->in_manifest = replica->in_manifest;
        found->synced = state->synced;
        memcpy(found->folder, replica->folder, sizeof found->folder);
    }
    config->found = node->found;
    config->lost = node->lost;
    node->disk_clean = !uuid_is_zero(&state->clean_incarnation);
    config->disk_clean = &node->disk_clean;
    config->disk_verified = &node->disk_verified;
    config->clean_start = node->disk_clean;
    config->directories[0] = state->meta.directory_id;
    config->directory_count = 1;
}

static void node_configure_shards(struct sim_node *node)
{
    struct sim_run *run = node->run;
    struct shard_config *config = &node->shard_config;
    *config = (struct shard_config){
        .node = node->id,
        .shard_count = RUN_SHARDS,
        .cluster_id = cluster_id,
        .incarnation = uuid_make(rng_next(&run->rng), rng_next(&run->rng)),
        .boot_id = uuid_make(rng_next(&run->rng), rng_next(&run->rng)),
        .listeners = {{.codec = &rpc_codec, .name = "RPC", .port = NODE_PORT}},
        .listener_count = 1,
        .session_timeout_ns = ENV_MS(2000),
        .heartbeat_ns = ENV_MS(200),
        .connections_max = 200,
        .requests_max = 100,
        .request_timeout_ns = ENV_MS(2000),
        .partition = {.replica_lag_max_ns = ENV_MS(1500),
                      .replica_fetch_bytes_max = 256 << 10,
                      .replica_fetch_response_bytes_max = 1 << 20,
                      .flush_before_ack = true,
                      .min_insync_replicas = 2,
                      .message_bytes_max = 256 << 10,
                      .segment_bytes = 64 << 10,
                      .preallocate_bytes = 16 << 10,
                      .free_bytes_min = node->free_bytes_min,
                      .waiters_max = 1000},
    };
    memcpy(config->listeners[0].host, node->host->name, sizeof node->host->name);
    node_directory(node);
}

static void node_configure_quorum(struct sim_node *node)
{
    struct sim_run *run = node->run;
    node->metadata_log = (struct log_options){.segment_bytes = 16 << 10,
                                              .index_interval_bytes = 4096,
                                              .preallocate_bytes = 16 << 10,
                                              .written_zeros = true};
    for (unsigned i = 0; i < run->voter_count; i++)
        node_address(run, i, &node->bootstrap[i]);
    node->quorum_config = (struct quorum_config){
        .node = node->id,
        .shards = RUN_SHARDS,
        .cluster_id = cluster_id,
        .directory_id = node->directory,
        .bootstrap = node->bootstrap,
        .bootstrap_count = run->voter_count,
        .election_timeout_ms = 500,
        .heartbeat_ms = 100,
        .snapshot_bytes = 6 << 10,
        .trailing_bytes = 1 << 10,
        .reserve_bytes = node->reserve_bytes,
        .message_bytes = node->raft_bytes,
        .replace_after_ms = node->replace_ms,
        .log_options = &node->metadata_log,
        .controller = {.session_timeout_ns = ENV_MS(2000),
                       .default_partitions = 1,
                       .default_replication_factor = 3,
                       .topic_partitions_max = 100,
                       .preferred_leader_wait_ns = ENV_MS(5000)},
    };
    node_address(run, (unsigned)node->id - 1, &node->quorum_config.self);
}

/* R14: a person runs karstd verify after a failed sync; and before each later start, since the note
 * of it may be gone before the broker has registered. */
static bool node_verify(struct sim_node *node, struct env *env)
{
    struct log_dir_verdict verdict;
    sim_disk_set_capacity(node->disk, 0); /* who verifies a full disk makes room first */
    if (!node_require(node, log_dir_verify(env, env->disks, &verdict), "log_dir_verify") ||
        !node_require(node, log_dir_take_verified(env->disks, &node->disk_verified),
                      "log_dir_take_verified"))
        return false;
    sim_say(node->run, "node %d: disk verified, %zu logs, %zu corrupt, %zu lost", node->id,
            verdict.logs, verdict.corrupt, verdict.lost);
    if (verdict.corrupt > 0)
        sim_fail(node->run, "a failed sync takes nothing that was durable", "node %d: %zu logs",
                 node->id, verdict.corrupt);
    return true;
}

static bool node_boot(struct sim_node *node)
{
    struct env *env = sim_host_env(node->host, RUN_SHARDS);
    if (node->disk_suspect && !node_verify(node, env))
        return false;
    if (!node_require(node, log_dir_open(env->disks, &node->directory_state), "log_dir_open"))
        return false;
    node_configure_shards(node);
    node_configure_quorum(node);
    if (!node_require(node, quorum_new(env, &node->quorum_config, &node->quorum), "quorum_new"))
        return false;
    for (unsigned i = 0; i < RUN_SHARDS; i++) {
        err_t err =
            shard_new(sim_host_env(node->host, i), i, &node->shard_config, &node->shards[i]);
        if (!node_require(node, err, "shard_new"))
            return false;
    }
    return true;
}

void sim_node_start(struct sim_node *node)
{
    struct sim_run *run = node->run;
    sim_unschedule(&run->world, &node->restart);
    node->life++;
    node->started_ns = run->world.now_ns;
    node->expects_exit = false;
    node->host->powered = true;
    node->host->message_free = shard_message_free;
    sim_say(run, "node %d starts, life %u", node->id, node->life);
    sim_host_boot(node->host, RUN_SHARDS + 1);
    if (node->boot_fuse != 0)
        sim_node_fuse(node, node->boot_fuse, rng_between(&run->rng, ENV_MS(5), ENV_MS(4000)));
    node->boot_fuse = 0;
    if (!node_boot(node)) {
        if (run->failed)
            return;
        sim_say(run, "node %d: the disk froze while it started", node->id);
        check_data_node_torn(run->data, node);
        sim_node_stop(node, NODE_POWER_CUT, node->fuse_restart_ns);
        return;
    }
    quorum_start(node->quorum);
    for (unsigned i = 0; i < RUN_SHARDS; i++)
        shard_start(node->shards[i]);
}

/* ---- stop ---- */

/* As in a crash: what is freed writes nothing, and what it sends is lost. */
static void node_take_apart(struct sim_node *node)
{
    uint64_t operations = sim_disk_counters(node->disk)->operations;
    bool frozen = sim_disk_frozen(node->disk);
    node->host->dying = true;
    for (unsigned i = 0; i < RUN_SHARDS; i++) {
        shard_free(node->shards[i]);
        node->shards[i] = NULL;
    }
    if (node->quorum != NULL)
        quorum_free(node->quorum);
    node->quorum = NULL;
    if (sim_disk_counters(node->disk)->operations != operations && !frozen)
        sim_fail(node->run, "what is freed as in a crash writes nothing", "node %d did", node->id);
}

void sim_node_stop(struct sim_node *node, enum node_stop how, uint64_t restart_ns)
{
    struct sim_run *run = node->run;
    if (!node->host->up)
        return;
    sim_say(run, "node %d %s", node->id, how == NODE_KILL ? "is killed" : "loses its power");
    run->counters.crashes++;
    node->fuse_restart_ns = 0;
    if (node->shards[RUN_SHARDS - 1] != NULL) { /* else it died while it started */
        check_data_node_stops(run->data, node);
        check_quorum_node_stops(run->quorum, node);
    }
    node_take_apart(node);
    node->disk_suspect = node->disk_suspect || sim_disk_offline(node->disk);
    node->host->powered = how == NODE_KILL;
    /* Before the actors end: what waits for a sync closes its file. */
    if (how == NODE_KILL)
        sim_disk_kill(node->disk);
    else
        sim_disk_power_cut(node->disk);
    sim_host_stop(node->host);
    log_dir_state_fini(&node->directory_state);
    memset(&node->directory_state, 0, sizeof node->directory_state);
    free(node->found);
    free(node->lost);
    node->found = NULL;
    node->lost = NULL;
    if (restart_ns != 0)
        sim_schedule(&run->world, &node->restart, restart_ns);
}

void sim_node_fuse(struct sim_node *node, uint64_t nth, uint64_t restart_ns)
{
    node->fuse_restart_ns = restart_ns;
    sim_disk_freeze_at(node->disk, sim_disk_counters(node->disk)->operations + nth);
}

void sim_node_turn_ended(struct sim_node *node)
{
    if (node->fuse_restart_ns == 0 || !sim_disk_frozen(node->disk))
        return;
    sim_say(node->run, "node %d: the disk froze in the middle of a change", node->id);
    check_data_node_torn(node->run->data, node);
    sim_node_stop(node, NODE_POWER_CUT, node->fuse_restart_ns);
}

void sim_node_swap_disk(struct sim_node *node)
{
    ASSERT(!node->host->up);
    ASSERT(!node->voter);
    sim_say(node->run, "node %d comes back with another disk", node->id);
    sim_disk_wipe(node->disk);
    node->directory = uuid_make(rng_next(&node->run->rng), rng_next(&node->run->rng));
    sim_node_format(node);
    check_data_lost(node->run->data, node, NULL);
    node->disk_swapped = true;
}

bool sim_node_lose_folder(struct sim_node *node, const char *folder)
{
    ASSERT(!node->host->up);
    if (sim_disk_lose(node->disk, folder) != ERR_OK)
        return false;
    sim_say(node->run, "node %d has lost its folder %s", node->id, folder);
    check_data_lost(node->run->data, node, folder);
    return true;
}

void sim_node_drain(struct sim_node *node)
{
    sim_say(node->run, "node %d is asked to shut down", node->id);
    struct shard_drain_message *drain = calloc(1, sizeof *drain);
    ASSERT(drain != NULL);
    drain->message.type = SHARD_MESSAGE_DRAIN;
    drain->timeout_ns = ENV_MS(10000);
    node->expects_exit = true; /* with code 1 when the time is over */
    struct env *env = sim_host_env(node->host, RUN_SHARDS);
    if (env->mail.post(env->mail.self, 0, drain) != ERR_OK)
        free(drain); /* its mailbox is full: not this time */
}

void sim_node_free(struct sim_node *node)
{
    if (node == NULL)
        return;
    node_take_apart(node);
    sim_disk_kill(node->disk);
    sim_host_stop(node->host);
    sim_unschedule(&node->run->world, &node->restart);
    sim_disk_free(node->disk);
    log_dir_state_fini(&node->directory_state);
    free(node->found);
    free(node->lost);
    free(node);
}
