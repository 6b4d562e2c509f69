#include "broker/world.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/logger.h"

static err_t refuse(struct world *world, err_t err, const char *format, ...) PRINTF_LIKE(3, 4);

static err_t refuse(struct world *world, err_t err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(world->why, sizeof world->why, format, args); /* cut: fine */
    va_end(args);
    return err;
}

static err_t split_directories(struct world *world)
{
    world->directory_text = strdup(world->options.log_dirs);
    if (world->directory_text == NULL)
        return refuse(world, ERR_NO_MEMORY, "no memory");
    char *save = NULL;
    for (char *at = strtok_r(world->directory_text, ",", &save); at != NULL;
         at = strtok_r(NULL, ",", &save)) {
        while (*at == ' ')
            at++;
        size_t len = strlen(at);
        while (len > 0 && at[len - 1] == ' ')
            at[--len] = '\0';
        if (len == 0)
            continue;
        for (size_t i = 0; i < world->directory_count; i++) {
            if (strcmp(world->directories[i], at) == 0)
                return refuse(world, ERR_INVALID_CONFIG, "%s: log.dirs names %s twice",
                              world->config_file, at);
        }
        if (world->directory_count == WORLD_DIRECTORIES_MAX)
            return refuse(world, ERR_INVALID_CONFIG, "%s: more than %d log.dirs",
                          world->config_file, WORLD_DIRECTORIES_MAX);
        world->directories[world->directory_count++] = at;
    }
    if (world->directory_count == 0)
        return refuse(world, ERR_INVALID_CONFIG, "%s: log.dirs names no directory",
                      world->config_file);
    world->metadata_directory = world->options.metadata_log_dir[0] != '\0'
                                    ? world->options.metadata_log_dir
                                    : world->directories[0];
    return ERR_OK;
}

static err_t parse_listeners(struct world *world)
{
    const struct options *o = &world->options;
    char why[256];
    err_t err = address_parse_listeners(o->listeners, world->listeners, ADDRESS_LISTENERS_MAX,
                                        &world->listener_count, why, sizeof why);
    if (err != ERR_OK)
        return refuse(world, err, "%s: listeners: %s", world->config_file, why);
    size_t count = world->listener_count;
    if (o->advertised_listeners[0] == '\0') {
        memcpy(world->advertised, world->listeners, sizeof world->listeners);
    } else {
        err = address_parse_listeners(o->advertised_listeners, world->advertised,
                                      ADDRESS_LISTENERS_MAX, &count, why, sizeof why);
        if (err != ERR_OK)
            return refuse(world, err, "%s: advertised.listeners: %s", world->config_file, why);
    }
    if (count != world->listener_count)
        return refuse(world, ERR_INVALID_CONFIG,
                      "%s: advertised.listeners must name as many as listeners",
                      world->config_file);
    for (size_t i = 0; i < count; i++) {
        const char *host = world->advertised[i].host;
        if (host[0] == '\0' || strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0)
            return refuse(
                world, ERR_INVALID_CONFIG,
                "%s: nobody can connect to \"%s\": say in advertised.listeners which address "
                "clients shall use",
                world->config_file, host);
    }
    err = address_parse_servers(o->bootstrap_servers, world->servers, ADDRESS_SERVERS_MAX,
                                &world->server_count, why, sizeof why);
    return err == ERR_OK ? ERR_OK
                         : refuse(world, err, "%s: controller.quorum.bootstrap.servers: %s",
                                  world->config_file, why);
}

static err_t set_log_level(struct world *world)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], world->options.log_level) != 0)
            continue;
        logger_set((enum logger_level)i, NULL, NULL, true);
        return ERR_OK;
    }
    return refuse(world, ERR_INVALID_CONFIG,
                  "%s: log.level must be debug, info, warn or error, not "
                  "\"%s\"",
                  world->config_file, world->options.log_level);
}

err_t world_init(struct world *world, const char *config_file)
{
    memset(world, 0, sizeof *world);
    world->config_file = config_file;
    err_t err = options_load(config_file, &world->options, world->why, sizeof world->why);
    if (err == ERR_OK)
        err = set_log_level(world);
    if (err == ERR_OK)
        err = split_directories(world);
    if (err == ERR_OK)
        err = parse_listeners(world);
    return err;
}

void world_fini(struct world *world)
{
    for (size_t i = 0; i < world->lock_count; i++)
        (void)close(world->locks[i]); /* gives the lock back */
    free(world->directory_text);
    options_fini(&world->options);
}

/* mkdir -p. */
static int make_path(const char *path)
{
    char part[4096];
    if (snprintf(part, sizeof part, "%s", path) >= (int)sizeof part) {
        errno = ENAMETOOLONG;
        return -1;
    }
    for (char *at = part + 1; *at != '\0'; at++) {
        if (*at != '/')
            continue;
        *at = '\0';
        if (mkdir(part, 0750) != 0 && errno != EEXIST)
            return -1;
        *at = '/';
    }
    return mkdir(part, 0750) != 0 && errno != EEXIST ? -1 : 0;
}

static err_t lock_one(struct world *world, const char *directory, bool make)
{
    char name[4096];
    if (make && make_path(directory) != 0)
        return refuse(world, err_from_errno(errno), "%s: can't be made: %s", directory,
                      strerror(errno));
    if (snprintf(name, sizeof name, "%s/.lock", directory) >= (int)sizeof name)
        return refuse(world, ERR_INVALID_CONFIG, "%s: the name is too long", directory);
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0)
        return refuse(world, err_from_errno(errno), "%s: %s%s", directory, strerror(errno),
                      errno == ENOENT ? "; run karstd format first" : "");
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        (void)close(fd); /* nothing was written */
        return refuse(world, ERR_BUSY, "%s: another karstd uses this directory", directory);
    }
    world->locks[world->lock_count++] = fd;
    return ERR_OK;
}

static bool is_log_dir(const struct world *world, const char *directory)
{
    for (size_t i = 0; i < world->directory_count; i++)
        if (strcmp(world->directories[i], directory) == 0)
            return true;
    return false;
}

err_t world_lock(struct world *world, bool make)
{
    err_t err = ERR_OK;
    for (size_t i = 0; i < world->directory_count && err == ERR_OK; i++)
        err = lock_one(world, world->directories[i], make);
    if (err == ERR_OK && !is_log_dir(world, world->metadata_directory))
        err = lock_one(world, world->metadata_directory, make);
    return err;
}

void world_io_config(struct world *world, struct io_config *ret_config,
                     struct io_listener *listeners)
{
    const struct options *o = &world->options;
    io_config_init(ret_config);
    for (size_t i = 0; i < world->listener_count; i++)
        listeners[i] = (struct io_listener){world->listeners[i].host, world->listeners[i].port};
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t shards = o->shards > 0 ? o->shards : cores > 0 ? cores : 1;
    ret_config->shard_count = (unsigned)(shards > IO_SHARDS_MAX ? IO_SHARDS_MAX : shards);
    ret_config->directories = world->directories;
    ret_config->directory_count = world->directory_count;
    ret_config->metadata_directory = world->metadata_directory;
    ret_config->listeners = listeners;
    ret_config->listener_count = world->listener_count;
    ret_config->frame_bytes_max = (uint32_t)o->request_bytes_max;
    ret_config->budget_bytes = (uint64_t)o->queued_bytes_max;
    ret_config->connections_max = (uint32_t)o->connections_max / ret_config->shard_count;
    if (ret_config->connections_max < 16)
        ret_config->connections_max = 16;
}

struct uuid world_random_uuid(void)
{
    uint64_t words[2];
    ASSERT(getrandom(words, sizeof words, 0) == sizeof words);
    return uuid_make(words[0], words[1]);
}

struct uuid world_boot_id(void)
{
    struct uuid id = {{0}};
    FILE *in = fopen("/proc/sys/kernel/random/boot_id", "r");
    if (in == NULL)
        return id; /* zero: not known, so never the same (R20) */
    for (int i = 0; i < 16; i++) {
        unsigned byte;
        if (fscanf(in, i == 4 || i == 6 || i == 8 || i == 10 ? "-%2x" : "%2x", &byte) != 1) {
            memset(&id, 0, sizeof id);
            break;
        }
        id.b[i] = (uint8_t)byte;
    }
    (void)fclose(in); /* was only read */
    return id;
}
