/* recover.c - karstd recover: a majority of the quorum's voters is gone for good, and a person says
 * that the cluster goes on with what this node has (quorum/recover.c). */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/world.h"
#include "io_uv/io_uv.h"
#include "log/log_dir.h"
#include "quorum/quorum.h"

static const char usage[] =
    "usage: karstd recover [--confirm] CONFIG\n"
    "\n"
    "For when a majority of the voters of the metadata quorum is lost for good. The broker must "
    "not\n"
    "run. Without --confirm it only tells what this node has: do that on every node that is left,\n"
    "and choose the one with the highest epoch, of those the one with the highest offset.\n"
    "\n"
    "With --confirm that node's metadata become the cluster's, and it the only voter: what only "
    "the\n"
    "lost ones knew is given up. Start it, then the others, which take its metadata over; then "
    "add\n"
    "voters (karst quorum add-voter). Never start one of the lost voters with its old disk before\n"
    "the recovered one runs.\n"
    "\n"
    "example: karstd recover --confirm /etc/karst/karst.conf\n";

static err_t recover_quorum(struct world *world, struct env *data, struct env *metadata,
                            bool confirmed, struct quorum_recovery *ret_recovery)
{
    struct log_dir_meta meta;
    err_t err = log_dir_read_meta(&data->disks[0], &meta);
    if (err == ERR_OK && meta.node_id != world->options.node_id)
        err = ERR_INVALID_CONFIG;
    if (err != ERR_OK)
        return err;
    const struct listener_address *a = &world->advertised[0];
    struct quorum_config config = {
        .node = meta.node_id,
        .cluster_id = meta.cluster_id,
        .directory_id = meta.directory_id,
        .self = {.node = meta.node_id, .port = a->port},
    };
    memcpy(config.self.host, a->host, sizeof config.self.host);
    return quorum_recover(metadata, &config, confirmed, ret_recovery);
}

static err_t recover(struct world *world, bool confirmed)
{
    struct io_config config;
    struct io_listener listeners[ADDRESS_LISTENERS_MAX];
    struct io_node *node;
    struct quorum_recovery recovery;
    world_io_config(world, &config, listeners);
    config.shard_count = 1;
    config.listener_count = 0;
    if (world->advertised[0].port == 0) {
        (void)snprintf(world->why, sizeof world->why,
                       "%s: a voter needs a port of its own in listeners, not 0",
                       world->config_file);
        return ERR_INVALID_CONFIG;
    }
    err_t err = io_node_new(&config, &node, world->why, sizeof world->why);
    if (err != ERR_OK)
        return err;
    err = io_uv_add_quorum(node);
    if (err == ERR_OK)
        err =
            recover_quorum(world, io_node_env(node, 0), io_node_env(node, 1), confirmed, &recovery);
    io_node_free(node);
    if (err == ERR_NOT_FOUND)
        (void)snprintf(world->why, sizeof world->why, "%s holds no metadata of a cluster",
                       world->metadata_directory);
    else if (err != ERR_OK)
        (void)snprintf(world->why, sizeof world->why, "%s: %s", world->metadata_directory,
                       err_sentence(err));
    else
        printf("node %lld: metadata up to offset %" PRIu64 " of epoch %" PRIu64
               ", %zu brokers, %zu topics%s\n",
               (long long)world->options.node_id, recovery.index, recovery.term, recovery.brokers,
               recovery.topics, confirmed ? "; it is the only voter now" : "");
    return err;
}

int recover_main(int argc, char **argv)
{
    static const struct option options[] = {
        {"confirm", no_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'}, {NULL, 0, NULL, 0}};
    bool confirmed = false;
    for (int c; (c = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        if (c == 'h')
            return fputs(usage, stdout) == EOF ? 1 : 0;
        if (c != 'c')
            return 2; /* getopt has said why */
        confirmed = true;
    }
    if (optind + 1 != argc) {
        fputs("karstd recover: name the configuration; karstd recover --help tells more\n", stderr);
        return 2;
    }
    struct world world;
    err_t err = world_init(&world, argv[optind]);
    if (err == ERR_OK)
        err = world_lock(&world, false);
    if (err == ERR_OK)
        err = recover(&world, confirmed);
    if (err != ERR_OK)
        fprintf(stderr, "karstd recover: %s\n", world.why);
    world_fini(&world);
    return err == ERR_OK ? 0 : 1;
}
