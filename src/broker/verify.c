/* verify.c - karstd verify CONFIG: a directory that failed a sync comes back when all that is in it
 * was read from the disk itself (R14). */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "broker/world.h"
#include "io_uv/io_uv.h"
#include "log/log_dir.h"

static const char usage[] =
    "usage: karstd verify CONFIG\n"
    "\n"
    "Reads every log of the broker's directories past the page cache, checks each batch, and "
    "takes\n"
    "the mark of a failed sync from the directories. The broker must not run. What is corrupt is\n"
    "kept under another name, and fetched anew from the partition's leader.\n"
    "\n"
    "example: karstd verify /etc/karst/karst.conf\n";

static err_t verify_directories(struct world *world, struct env *env)
{
    for (size_t i = 0; i < world->directory_count; i++) {
        struct log_dir_verdict verdict;
        err_t err = log_dir_verify(env, &env->disks[i], &verdict);
        if (err != ERR_OK) {
            (void)snprintf(world->why, sizeof world->why, "%s: %s", world->directories[i],
                           err_sentence(err));
            return err;
        }
        printf("%s: %zu logs read, %" PRIu64 " bytes; %zu torn tails cut, %zu corrupt and set "
               "aside, %zu lost\n",
               world->directories[i], verdict.logs, verdict.bytes, verdict.torn, verdict.corrupt,
               verdict.lost);
    }
    return ERR_OK;
}

static err_t verify(struct world *world)
{
    struct io_config config;
    struct io_listener listeners[ADDRESS_LISTENERS_MAX];
    struct io_node *node;
    world_io_config(world, &config, listeners);
    config.shard_count = 1;
    config.listener_count = 0;
    err_t err = io_node_new(&config, &node, world->why, sizeof world->why);
    if (err != ERR_OK)
        return err;
    err = io_uv_add_quorum(node);
    if (err == ERR_OK)
        err = verify_directories(world, io_node_env(node, 0));
    io_node_free(node);
    return err;
}

int verify_main(int argc, char **argv)
{
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0))
        return fputs(usage, stdout) == EOF ? 1 : 0;
    if (argc != 2 || argv[1][0] == '-') {
        fputs("karstd verify: name the configuration; karstd verify --help tells more\n", stderr);
        return 2;
    }
    struct world world;
    err_t err = world_init(&world, argv[1]);
    if (err == ERR_OK)
        err = world_lock(&world, false);
    if (err == ERR_OK)
        err = verify(&world);
    if (err != ERR_OK)
        fprintf(stderr, "karstd verify: %s\n", world.why);
    world_fini(&world);
    return err == ERR_OK ? 0 : 1;
}
