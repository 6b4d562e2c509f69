/* broker.c - karstd CONFIG: from the directories' state to running actors, and back. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logger.h"
#include "broker/world.h"
#include "io_uv/io_uv.h"
#include "log/log_dir.h"
#include "rpc/rpc.h"
#include "shard/shard.h"

struct broker {
    struct world world;
    struct io_node *io;
    struct quorum *quorum;
    struct shard *shards[IO_SHARDS_MAX];
    struct shard_config shard_config;
    struct frame_budget read_budget; /* as much again as requests may hold */
    struct quorum_config quorum_config;
    struct log_dir_state directories[WORLD_DIRECTORIES_MAX];
    size_t directory_count;
    bool clean[WORLD_DIRECTORIES_MAX], verified[WORLD_DIRECTORIES_MAX];
    struct partition_found *found;
    struct partition_id *lost;
};

static err_t refuse(struct broker *b, err_t err, const char *directory, const char *what)
{
    (void)snprintf(b->world.why, sizeof b->world.why, "%s: %s", directory, what); /* cut: fine */
    return err;
}

/* The directory must be this node's, of the cluster of the first one. */
static err_t check_meta(struct broker *b, const char *directory, const struct log_dir_meta *meta)
{
    char a[UUID_TEXT_SIZE], c[UUID_TEXT_SIZE];
    const struct uuid *cluster = &b->directories[0].meta.cluster_id;
    struct world *world = &b->world;
    if (meta->node_id != world->options.node_id) {
        (void)snprintf(world->why, sizeof world->why,
                       "%s was formatted for node %d, but %s says node.id = %lld", directory,
                       (int)meta->node_id, world->config_file, (long long)world->options.node_id);
        return ERR_INVALID_CONFIG;
    }
    if (uuid_equal(&meta->cluster_id, cluster))
        return ERR_OK;
    (void)snprintf(
        world->why, sizeof world->why,
        "%s belongs to cluster %s, but %s to cluster %s: the directories of one broker must "
        "be of one cluster",
        directory, uuid_text(&meta->cluster_id, a), world->directories[0], uuid_text(cluster, c));
    return ERR_INCONSISTENT_CLUSTER_ID;
}

/* R14: what a directory holds after a failed sync, the page cache does not tell. */
static err_t check_marks(struct broker *b, struct env_disk *disk, size_t idx)
{
    bool failed;
    const char *name = b->world.directories[idx];
    err_t err = log_dir_is_failed(disk, &failed);
    if (err == ERR_OK && failed)
        return refuse(b, ERR_KAFKA_STORAGE_ERROR, name,
                      "a sync failed here: run karstd verify, or take it out of log.dirs");
    if (err == ERR_OK)
        err = log_dir_take_verified(disk, &b->verified[idx]);
    return err == ERR_OK ? ERR_OK : refuse(b, err, name, err_sentence(err));
}

static err_t open_directories(struct broker *b, struct env *env)
{
    for (size_t i = 0; i < b->world.directory_count; i++) {
        const char *name = b->world.directories[i];
        struct log_dir_state *state = &b->directories[i];
        err_t err = check_marks(b, &env->disks[i], i);
        if (err != ERR_OK)
            return err;
        err = log_dir_open(&env->disks[i], state);
        if (err == ERR_NOT_FOUND)
            return refuse(b, err, name, "is not formatted; run karstd format first");
        if (err != ERR_OK)
            return refuse(b, err, name, err_sentence(err));
        b->directory_count++;
        err = check_meta(b, name, &state->meta);
        if (err != ERR_OK)
            return err;
        b->clean[i] = !uuid_is_zero(&state->clean_incarnation);
    }
    return ERR_OK;
}

/* What the directories hold, and what their manifests name but no folder holds (R1). */
static err_t list_replicas(struct broker *b)
{
    size_t total = 0, found = 0, lost = 0;
    for (size_t i = 0; i < b->directory_count; i++)
        total += b->directories[i].replica_count;
    b->found = calloc(total + 1, sizeof *b->found);
    b->lost = calloc(total + 1, sizeof *b->lost);
    if (b->found == NULL || b->lost == NULL)
        return refuse(b, ERR_NO_MEMORY, "replicas", "no memory");
    for (size_t i = 0; i < b->directory_count; i++) {
        for (size_t k = 0; k < b->directories[i].replica_count; k++) {
            const struct log_dir_replica *r = &b->directories[i].replicas[k];
            if (r->folder[0] == '\0') {
                b->lost[lost++] = r->id;
                continue;
            }
            b->found[found] = (struct partition_found){.id = r->id,
                                                       .disk = (uint32_t)i,
                                                       .in_manifest = r->in_manifest,
                                                       .synced = b->directories[i].synced};
            memcpy(b->found[found].folder, r->folder, sizeof r->folder);
            found++;
        }
    }
    struct shard_config *c = &b->shard_config;
    c->found = b->found;
    c->found_count = found;
    c->lost = b->lost;
    c->lost_count = lost;
    return ERR_OK;
}

static void configure_partitions(const struct options *o, struct partition_options *ret)
{
    /* Answers to followers come through the same door as requests, a row for each partition too. */
    int64_t response_bytes = o->replica_fetch_response_bytes;
    if (response_bytes > o->request_bytes_max / 2)
        response_bytes = o->request_bytes_max / 2;
    *ret = (struct partition_options){
        .replica_lag_max_ns = ENV_MS(o->replica_lag_ms),
        .replica_fetch_bytes_max = (uint32_t)o->replica_fetch_bytes,
        .replica_fetch_response_bytes_max = (uint32_t)response_bytes,
        .flush_before_ack = o->flush_before_ack,
        .min_insync_replicas = (int32_t)o->min_insync,
        .message_bytes_max = (uint32_t)o->message_bytes_max,
        .segment_bytes = (uint64_t)o->segment_bytes,
        .preallocate_bytes = (uint32_t)o->preallocate_bytes,
        .free_bytes_min = (uint64_t)o->free_bytes_min,
        .stray_retention_ms = o->stray_retention_ms,
        .stray_percent_max = (uint32_t)o->stray_percent_max,
        .waiters_max = 100000,
    };
}

static void configure_shards(struct broker *b, const struct io_config *io)
{
    const struct options *o = &b->world.options;
    struct shard_config *c = &b->shard_config;
    c->node = (node_id_t)o->node_id;
    c->shard_count = io->shard_count;
    c->cluster_id = b->directories[0].meta.cluster_id;
    c->incarnation = world_random_uuid();
    c->boot_id = world_boot_id();
    c->rack = o->rack[0] == '\0' ? NULL : o->rack;
    c->clean_start = true;
    c->listener_count = b->world.listener_count;
    for (size_t i = 0; i < c->listener_count; i++) {
        const struct listener_address *a = &b->world.advertised[i];
        struct shard_listener *l = &c->listeners[i];
        l->codec = &rpc_codec;
        memcpy(l->name, a->name, sizeof l->name);
        memcpy(l->host, a->host, sizeof l->host);
        l->port = a->port != 0 ? a->port : io_node_port(b->io, (unsigned)i);
    }
    c->directory_count = b->directory_count;
    for (size_t i = 0; i < b->directory_count; i++) {
        c->directories[i] = b->directories[i].meta.directory_id;
        c->clean_start = c->clean_start && b->clean[i];
    }
    c->disk_clean = b->clean;
    c->disk_verified = b->verified;
    c->session_timeout_ns = ENV_MS(o->session_timeout_ms);
    c->heartbeat_ns = ENV_MS(o->heartbeat_interval_ms);
    c->connections_max = io->connections_max;
    c->requests_max = (uint32_t)o->requests_in_flight_max;
    c->request_timeout_ns = ENV_MS(o->request_timeout_ms);
    b->read_budget.bytes_max = (size_t)o->queued_bytes_max;
    c->read_budget = &b->read_budget;
    configure_partitions(o, &c->partition);
}

static void configure_quorum(struct broker *b)
{
    const struct options *o = &b->world.options;
    const struct shard_listener *self = &b->shard_config.listeners[0];
    struct quorum_config *c = &b->quorum_config;
    *c = (struct quorum_config){
        .node = b->shard_config.node,
        .shards = b->shard_config.shard_count,
        .cluster_id = b->shard_config.cluster_id,
        .directory_id = b->directories[0].meta.directory_id,
        .self = {.node = b->shard_config.node, .port = self->port},
        .bootstrap = b->world.servers,
        .bootstrap_count = b->world.server_count,
        .election_timeout_ms = (uint32_t)o->election_timeout_ms,
        .heartbeat_ms = (uint32_t)o->election_timeout_ms / 5,
        .replace_after_ms = (uint64_t)o->voter_replace_ms,
        .snapshot_bytes = (uint64_t)o->snapshot_bytes,
        .trailing_bytes = (uint64_t)o->snapshot_bytes / 4,
        .reserve_bytes = (uint64_t)o->metadata_reserve_bytes,
        .controller =
            {
                .session_timeout_ns = ENV_MS(o->session_timeout_ms),
                .default_partitions = (int32_t)o->default_partitions,
                .default_replication_factor = (int32_t)o->default_replication,
                .topic_partitions_max = (int32_t)o->topic_partitions_max,
                .preferred_leader_wait_ns = ENV_MS(5000),
            },
    };
    memcpy(c->self.host, self->host, sizeof c->self.host);
}

/* The shards have taken their shares of what was found; b->found stays, since each of them judges
 * by all of it what is stray (partition_host.found_all). */
static void forget_directories(struct broker *b)
{
    for (size_t i = 0; i < b->directory_count; i++)
        log_dir_state_fini(&b->directories[i]);
}

static err_t make_actors(struct broker *b, unsigned shard_count)
{
    err_t err = quorum_new(io_node_env(b->io, shard_count), &b->quorum_config, &b->quorum);
    if (err != ERR_OK)
        return refuse(b, err, b->world.metadata_directory, err_sentence(err));
    for (unsigned i = 0; i < shard_count && err == ERR_OK; i++)
        err = shard_new(io_node_env(b->io, i), i, &b->shard_config, &b->shards[i]);
    if (err != ERR_OK)
        return refuse(b, err, "shard", err_sentence(err));
    forget_directories(b);
    quorum_start(b->quorum);
    for (unsigned i = 0; i < shard_count; i++)
        shard_start(b->shards[i]);
    return ERR_OK;
}

static err_t broker_start(struct broker *b, const char *config_file)
{
    struct io_config config;
    struct io_listener listeners[ADDRESS_LISTENERS_MAX];
    err_t err = world_init(&b->world, config_file);
    if (err == ERR_OK)
        err = world_lock(&b->world, false);
    if (err != ERR_OK)
        return err;
    world_io_config(&b->world, &config, listeners);
    err = io_node_new(&config, &b->io, b->world.why, sizeof b->world.why);
    if (err == ERR_OK)
        err = io_uv_add_quorum(b->io);
    if (err == ERR_OK)
        err = open_directories(b, io_node_env(b->io, 0));
    if (err == ERR_OK)
        err = list_replicas(b);
    if (err != ERR_OK)
        return err;
    configure_shards(b, &config);
    configure_quorum(b);
    err = make_actors(b, config.shard_count);
    if (err == ERR_OK)
        err = io_node_start(b->io);
    if (err != ERR_OK && b->world.why[0] == '\0')
        return refuse(b, err, "start", err_sentence(err));
    return err;
}

/* SIGTERM and SIGINT: leave in order; a second one: without waiting for the leaderships to move
 * (the controller may be gone for good); a third one: at once. */
static void broker_wait(struct broker *b)
{
    static const char *const answers[] = {"moving leadership away, then stopping",
                                          "closing the logs, then stopping", "stopping at once"};
    sigset_t signals;
    (void)sigemptyset(&signals); /* can't fail */
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    unsigned asked = 0;
    for (int number; (number = io_node_wait(b->io, &signals)) != 0;) {
        log_info("signal %d: %s", number, answers[asked]);
        struct shard_drain_message *drain = asked == 2 ? NULL : calloc(1, sizeof *drain);
        if (drain != NULL) {
            drain->message.type = SHARD_MESSAGE_DRAIN;
            drain->timeout_ns = ENV_MS(b->world.options.controlled_shutdown_ms);
        }
        if (drain == NULL || io_node_post(b->io, 0, drain) != ERR_OK) {
            free(drain);
            io_node_end(b->io, 1, "stopped by a signal");
        }
        asked += asked < 2;
    }
}

static void drop_message(void *message)
{
    shard_message_free(message);
}

static void broker_fini(struct broker *b)
{
    for (unsigned i = 0; i < IO_SHARDS_MAX; i++)
        if (b->shards[i] != NULL)
            shard_free(b->shards[i]);
    if (b->quorum != NULL)
        quorum_free(b->quorum);
    io_node_drop_mail(b->io, drop_message);
    io_node_free(b->io);
    for (size_t i = 0; i < b->directory_count; i++)
        log_dir_state_fini(&b->directories[i]);
    free(b->found);
    free(b->lost);
    world_fini(&b->world);
}

int broker_main(const char *config_file)
{
    struct broker *b = calloc(1, sizeof *b);
    if (b == NULL)
        return 1;
    sigset_t blocked;
    (void)sigemptyset(&blocked); /* can't fail */
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &blocked, NULL); /* all threads; io_node_wait takes them */
    (void)signal(SIGPIPE, SIG_IGN);
    int code = 1;
    err_t err = broker_start(b, config_file);
    if (err == ERR_OK) {
        char cluster[UUID_TEXT_SIZE];
        const struct shard_listener *l = &b->shard_config.listeners[0];
        log_info("karstd runs: node=%d cluster=%s rpc=%s:%u shards=%u", (int)b->shard_config.node,
                 uuid_text(&b->shard_config.cluster_id, cluster), l->host, l->port,
                 b->shard_config.shard_count);
        broker_wait(b);
        code = io_node_join(b->io);
        log_info("karstd ends: code=%d", code);
    } else {
        fprintf(stderr, "karstd: %s\n", b->world.why);
    }
    broker_fini(b);
    free(b);
    return code;
}
