#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "broker/world.h"
#include "io_uv/io_uv.h"
#include "log/log_dir.h"

static const char usage[] =
    "usage: karstd format --config FILE --cluster-id ID [--node-id N]\n"
    "                     [--voters 1@HOST:PORT,2@HOST:PORT,3@HOST:PORT | --standalone]\n"
    "\n"
    "Makes the directories that FILE names and writes their identity. Run it once on each machine\n"
    "before its first start, with the same cluster id everywhere (karstd new-id prints a fresh "
    "one).\n"
    "\n"
    "  --voters LIST   this broker is one of the first voters of the metadata quorum: 1, 3 or 5 "
    "of\n"
    "                  them; the same list, in the same order, on each. Brokers that are "
    "formatted\n"
    "                  without it follow the quorum, and find it by the configuration's\n"
    "                  controller.quorum.bootstrap.servers.\n"
    "  --standalone    a cluster of this one broker\n"
    "\n"
    "example: karstd format --config karst.conf --cluster-id $(karstd new-id) --standalone\n";

struct format {
    const char *config, *cluster_text, *node_text, *voters_text;
    bool standalone;
    struct uuid cluster_id;
    struct quorum_address voters[QUORUM_VOTERS_MAX];
    size_t voter_count;
};

static int bad_usage(const char *why)
{
    fprintf(stderr, "karstd format: %s; karstd format --help tells more\n", why);
    return 2;
}

/* 0, or the exit code of bad usage. */
static int parse_arguments(int argc, char **argv, struct format *f)
{
    static const struct option options[] = {
        {"config", required_argument, NULL, 'c'},
        {"cluster-id", required_argument, NULL, 'i'},
        {"node-id", required_argument, NULL, 'n'},
        {"voters", required_argument, NULL, 'v'},
        {"standalone", no_argument, NULL, 's'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    for (int c; (c = getopt_long(argc, argv, ":c:h", options, NULL)) != -1;) {
        if (c == 'c')
            f->config = optarg;
        else if (c == 'i')
            f->cluster_text = optarg;
        else if (c == 'n')
            f->node_text = optarg;
        else if (c == 'v')
            f->voters_text = optarg;
        else if (c == 's')
            f->standalone = true;
        else if (c == 'h')
            exit(fputs(usage, stdout) == EOF ? 1 : 0);
        else
            return bad_usage(c == ':' ? "an option needs a value" : "unknown option");
    }
    if (optind < argc)
        return bad_usage("too many arguments");
    if (f->config == NULL || f->cluster_text == NULL)
        return bad_usage("--config and --cluster-id are needed");
    if (f->standalone && f->voters_text != NULL)
        return bad_usage("--standalone and --voters exclude each other");
    if (!uuid_parse(f->cluster_text, &f->cluster_id) || uuid_is_zero(&f->cluster_id))
        return bad_usage("the cluster id is not one: 22 characters, as karstd new-id prints");
    char why[256];
    if (f->voters_text != NULL && address_parse_voters(f->voters_text, f->voters, QUORUM_VOTERS_MAX,
                                                       &f->voter_count, why, sizeof why) != ERR_OK)
        return bad_usage(why);
    if (f->voters_text != NULL && f->voter_count % 2 == 0)
        return bad_usage(
            "an even number of voters survives no more losses than one less; name 1, 3 or 5");
    return 0;
}

/* The voters against the configuration: this broker must stand among them, under its own address.
 */
static err_t check_voters(struct format *f, struct world *world)
{
    node_id_t self = (node_id_t)world->options.node_id;
    if (f->standalone) {
        f->voters[0] = (struct quorum_address){.node = self, .port = world->advertised[0].port};
        memcpy(f->voters[0].host, world->advertised[0].host, sizeof f->voters[0].host);
        f->voter_count = 1;
    }
    for (size_t i = 0; i < f->voter_count; i++) {
        const struct quorum_address *v = &f->voters[i];
        if (v->node != self)
            continue;
        if (v->port != 0 && v->port == world->advertised[0].port &&
            strcmp(v->host, world->advertised[0].host) == 0)
            return ERR_OK;
        (void)snprintf(
            world->why, sizeof world->why,
            "voter %d is %s:%u in --voters, but the configuration advertises %s:%u; they "
            "must agree, and the port can't be 0",
            (int)self, v->host, v->port, world->advertised[0].host, world->advertised[0].port);
        return ERR_INVALID_CONFIG;
    }
    (void)snprintf(world->why, sizeof world->why,
                   "node %d is not among the voters; leave --voters out to follow the quorum",
                   (int)self);
    return ERR_INVALID_CONFIG;
}

static err_t write_meta(struct world *world, struct env *env, const struct format *f)
{
    for (size_t i = 0; i < env->disk_count; i++) {
        struct log_dir_meta meta = {.cluster_id = f->cluster_id,
                                    .directory_id = world_random_uuid(),
                                    .node_id = (node_id_t)world->options.node_id};
        struct log_dir_meta old;
        err_t err = log_dir_read_meta(&env->disks[i], &old);
        if (err == ERR_NOT_FOUND) {
            err = log_dir_format(&env->disks[i], &meta);
        } else if (err == ERR_OK && (!uuid_equal(&old.cluster_id, &meta.cluster_id) ||
                                     old.node_id != meta.node_id)) {
            char id[UUID_TEXT_SIZE];
            (void)snprintf(
                world->why, sizeof world->why,
                "it is formatted already, for node %d of cluster %s; remove it if its data "
                "are not wanted",
                (int)old.node_id, uuid_text(&old.cluster_id, id));
            return ERR_EXISTS;
        }
        if (err != ERR_OK) {
            (void)snprintf(world->why, sizeof world->why, "%s", err_sentence(err));
            return err;
        }
    }
    return ERR_OK;
}

static err_t format_directories(struct format *f, struct world *world)
{
    struct io_config config;
    struct io_listener listeners[ADDRESS_LISTENERS_MAX];
    world_io_config(world, &config, listeners);
    config.shard_count = 1;
    config.listener_count = 0; /* the broker may be running elsewhere under this address */
    struct io_node *node;
    err_t err = io_node_new(&config, &node, world->why, sizeof world->why);
    if (err != ERR_OK)
        return err;
    err = io_uv_add_quorum(node);
    if (err == ERR_OK)
        err = write_meta(world, io_node_env(node, 0), f);
    if (err == ERR_OK && f->voter_count > 0) {
        err = quorum_format(io_node_env(node, 1), f->voters, f->voter_count);
        if (err == ERR_EXISTS) /* a second format of the same cluster changes nothing */
            err = ERR_OK;
        else if (err != ERR_OK)
            (void)snprintf(world->why, sizeof world->why, "metadata log: %s", err_sentence(err));
    }
    io_node_free(node);
    return err;
}

static bool is_node(const char *text, int64_t node)
{
    char *end;
    long long number = strtoll(text, &end, 10);
    return end != text && *end == '\0' && number == node;
}

int format_main(int argc, char **argv)
{
    struct format f = {0};
    int code = parse_arguments(argc, argv, &f);
    if (code != 0)
        return code;
    struct world world;
    err_t err = world_init(&world, f.config);
    if (err == ERR_OK && f.node_text != NULL && !is_node(f.node_text, world.options.node_id)) {
        (void)snprintf(world.why, sizeof world.why, "--node-id %s, but %s says node.id = %lld",
                       f.node_text, f.config, (long long)world.options.node_id);
        err = ERR_INVALID_CONFIG;
    }
    if (err == ERR_OK && (f.standalone || f.voters_text != NULL))
        err = check_voters(&f, &world);
    if (err == ERR_OK)
        err = world_lock(&world, true);
    if (err == ERR_OK)
        err = format_directories(&f, &world);
    if (err == ERR_OK)
        printf("formatted %s for node %lld of cluster %s%s\n", world.options.log_dirs,
               (long long)world.options.node_id, f.cluster_text,
               f.voter_count > 0 ? ", a voter" : "");
    else
        fprintf(stderr, "karstd format: %s\n", world.why);
    world_fini(&world);
    return err == ERR_OK ? 0 : 1;
}
