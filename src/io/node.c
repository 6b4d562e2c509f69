#include "io/node.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/logger.h"
#include "io/acceptor.h"
#include "io/loop.h"
#include "io/thread.h"

void io_config_init(struct io_config *config)
{
    *config = (struct io_config){
        .shard_count = 1,
        .frame_bytes_max = 100 * 1024 * 1024, /* socket.request.max.bytes */
        .budget_bytes = UINT64_C(256) * 1024 * 1024,
        .output_bytes_max = 4 * 1024 * 1024,
        .stall_ms = 30 * 1000,
        .dial_ms = 10 * 1000, /* socket.connection.setup.timeout.ms */
        .connections_max = 8192,
        .mailbox_slots = 1024,
        .worker_threads = 2,
        .worker_queue_max = 1024,
    };
}

static bool node_config_valid(const struct io_config *config)
{
    uint32_t slots = config->mailbox_slots;
    return config->shard_count > 0 && config->shard_count <= IO_SHARDS_MAX &&
           config->frame_bytes_max >= NET_FRAME_LENGTH_MIN &&
           config->frame_bytes_max < (UINT32_C(1) << 31) - NET_FRAME_LENGTH_BYTES &&
           config->budget_bytes / config->shard_count > 0 && config->output_bytes_max > 0 &&
           config->stall_ms > 0 && config->dial_ms > 0 && config->connections_max > 0 &&
           slots > 0 && (slots & (slots - 1)) == 0 && config->worker_queue_max > 0 &&
           config->worker_threads <= IO_WORKERS_MAX;
}

/* Partitions hold descriptors: as many as the system lets us have. */
static void node_raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* then we live with what there is */
}

static err_t node_open_directories(struct io_node *node, char *why, size_t why_size)
{
    const struct io_config *config = &node->config;
    bool quorum = config->metadata_directory != NULL;
    size_t total = config->directory_count + quorum;
    node->directories = calloc(total + 1, sizeof(*node->directories));
    if (node->directories == NULL)
        return ERR_NO_MEMORY;
    node->directory_count = config->directory_count;
    for (size_t i = 0; i < total; i++) {
        bool data = i < config->directory_count;
        const char *path = data ? config->directories[i] : config->metadata_directory;
        err_t err = io_directory_open(&node->directories[i], path, data, node->actor_count);
        if (err != ERR_OK) {
            snprintf(why, why_size, "log directory %s: %s", path, err_sentence(err));
            return err;
        }
        node->directories_opened++;
    }
    for (size_t i = 0; i < total; i++) {
        node->directories[i].all = node->directories;
        node->directories[i].all_count = total;
    }
    return ERR_OK;
}

static err_t node_make_actors(struct io_node *node)
{
    const struct io_config *config = &node->config;
    node->actors = calloc(node->actor_count, sizeof(*node->actors));
    node->loops = calloc(config->shard_count, sizeof(*node->loops));
    node->nets = calloc(config->shard_count, sizeof(struct io_net *));
    node->threads = calloc(node->actor_count, sizeof(*node->threads));
    if (node->actors == NULL || node->loops == NULL || node->nets == NULL || node->threads == NULL)
        return ERR_NO_MEMORY;
    for (unsigned i = 0; i < node->actor_count; i++) {
        bool shard = i < config->shard_count;
        err_t err = io_actor_init(&node->actors[i], node, i,
                                  node->directories + (shard ? 0 : node->directory_count),
                                  shard ? node->directory_count : 1);
        if (err != ERR_OK)
            return err;
        node->actors_made++;
        if (shard)
            err = io_loop_init(&node->loops[i], &node->actors[i], config);
        if (err != ERR_OK)
            return err;
        if (shard)
            node->nets[i] = node->loops[i].net;
    }
    return ERR_OK;
}

static err_t node_make(struct io_node *node, char *why, size_t why_size)
{
    const struct io_config *config = &node->config;
    node->ended_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (node->ended_fd < 0)
        return err_from_errno(errno);
    err_t err = io_mail_init(&node->mail, node->actor_count, config->mailbox_slots);
    if (err == ERR_OK)
        err = io_workers_init(&node->workers, config->worker_queue_max);
    if (err == ERR_OK)
        err = node_open_directories(node, why, why_size);
    if (err == ERR_OK)
        err = node_make_actors(node);
    if (err == ERR_OK && config->listener_count > 0)
        err = io_acceptor_new(config, node->nets, &node->acceptor, why, why_size);
    return err;
}

err_t io_node_new(const struct io_config *config, struct io_node **ret_node, char *why,
                  size_t why_size)
{
    snprintf(why, why_size, "%s", err_sentence(ERR_INVALID));
    if (!node_config_valid(config))
        return ERR_INVALID;
    if (config->directory_count > 0)
        node_raise_descriptors();
    struct io_node *node = calloc(1, sizeof(*node));
    if (node == NULL)
        return ERR_NO_MEMORY;
    node->config = *config;
    node->ended_fd = -1;
    atomic_init(&node->exit_code, IO_NODE_RUNS);
    node->actor_count = config->shard_count + (config->metadata_directory != NULL);
    snprintf(why, why_size, "no memory or no descriptors");
    err_t err = node_make(node, why, why_size);
    /* The caller's strings are not needed any more. */
    node->config.directories = NULL;
    node->config.metadata_directory = NULL;
    node->config.listeners = NULL;
    if (err != ERR_OK) {
        io_node_free(node);
        return err;
    }
    snprintf(why, why_size, "%s", err_sentence(ERR_OK));
    *ret_node = node;
    return ERR_OK;
}

struct mail_drop {
    void (*drop)(void *message);
};

static bool drop_one(void *context, void *message)
{
    ((struct mail_drop *)context)->drop(message);
    return true;
}

void io_node_drop_mail(struct io_node *node, void (*drop)(void *message))
{
    struct mail_drop context = {drop};
    if (node == NULL)
        return;
    ASSERT(node->started == 0);
    for (unsigned i = 0; i < node->actors_made; i++)
        while (io_mailbox_drain(&node->actors[i].mailbox, drop_one, &context))
            continue;
}

void io_node_free(struct io_node *node)
{
    if (node == NULL)
        return;
    ASSERT(node->started == 0);
    if (node->quorum.free != NULL)
        node->quorum.free(node->quorum.loop);
    io_acceptor_free(node->acceptor);
    for (unsigned i = 0; i < node->actors_made; i++) {
        if (i < node->config.shard_count)
            io_loop_fini(&node->loops[i]);
        io_actor_fini(&node->actors[i]);
    }
    for (size_t i = 0; i < node->directories_opened; i++)
        io_directory_close(&node->directories[i]);
    io_workers_fini(&node->workers);
    io_mail_fini(&node->mail);
    if (node->ended_fd >= 0)
        close(node->ended_fd);
    free(node->directories);
    free(node->actors);
    free(node->loops);
    free(node->nets);
    free(node->threads);
    free(node);
}

struct env *io_node_env(struct io_node *node, unsigned actor)
{
    ASSERT(actor < node->actor_count);
    return &node->actors[actor].env;
}

uint16_t io_node_port(const struct io_node *node, unsigned listener)
{
    ASSERT(node->acceptor != NULL);
    return io_acceptor_port(node->acceptor, listener);
}

struct io_actor *io_node_quorum(struct io_node *node)
{
    ASSERT(node->actor_count > node->config.shard_count);
    return &node->actors[node->config.shard_count];
}

void io_node_set_quorum_loop(struct io_node *node, const struct io_foreign_loop *loop)
{
    ASSERT(node->actor_count > node->config.shard_count);
    ASSERT(node->quorum.loop == NULL);
    node->quorum = *loop;
}

static err_t node_start_actor(struct io_node *node, unsigned number)
{
    char name[16];
    snprintf(name, sizeof(name), "shard%u", number);
    if (number < node->config.shard_count)
        return io_thread_start(&node->threads[number], name, io_loop_run, &node->loops[number]);
    ASSERT(node->quorum.run != NULL); /* src/io_uv gives it */
    return io_thread_start(&node->threads[number], "quorum", node->quorum.run, node->quorum.loop);
}

err_t io_node_start(struct io_node *node)
{
    ASSERT(node->started == 0);
    err_t err = io_workers_start(&node->workers, node->config.worker_threads);
    for (size_t i = 0; i < node->directories_opened && err == ERR_OK; i++)
        err = io_directory_start(&node->directories[i]);
    for (unsigned i = 0; i < node->actor_count && err == ERR_OK; i++) {
        err = node_start_actor(node, i);
        node->started += err == ERR_OK;
    }
    if (err != ERR_OK) {
        io_node_end(node, 1, "can not start all threads");
        (void)io_node_join(node); /* the code is ours */
    }
    return err;
}

err_t io_node_post(struct io_node *node, unsigned actor, void *message)
{
    return io_mail_post_outside(&node->mail, actor, message);
}

void io_node_end(struct io_node *node, int code, const char *why)
{
    int none = IO_NODE_RUNS;
    if (!atomic_compare_exchange_strong(&node->exit_code, &none, code))
        return;
    if (why != NULL && code == 0)
        log_info("the node ends: %s", why);
    else if (why != NULL)
        log_error("the node ends: %s code=%d", why, code);
    for (unsigned i = 0; i < node->actors_made; i++)
        io_actor_stop(&node->actors[i]);
    uint64_t one = 1;
    (void)!write(node->ended_fd, &one, sizeof(one)); /* a fresh eventfd takes it */
}

int io_node_exit_code(const struct io_node *node)
{
    return atomic_load(&node->exit_code);
}

int io_node_wait(struct io_node *node, const sigset_t *signals)
{
    struct pollfd fds[2] = {{.fd = node->ended_fd, .events = POLLIN}, {.fd = -1, .events = POLLIN}};
    if (signals != NULL)
        fds[1].fd = signalfd(-1, signals, SFD_CLOEXEC | SFD_NONBLOCK);
    int caught = 0;
    do {
        struct signalfd_siginfo info;
        if (poll(fds, ARRAY_LEN(fds), -1) > 0 && fds[1].revents != 0 &&
            read(fds[1].fd, &info, sizeof(info)) == sizeof(info))
            caught = (int)info.ssi_signo;
    } while (caught == 0 && fds[0].revents == 0);
    if (fds[1].fd >= 0)
        close(fds[1].fd);
    return caught;
}

int io_node_join(struct io_node *node)
{
    for (; node->started > 0; node->started--)
        pthread_join(node->threads[node->started - 1], NULL);
    io_workers_stop(&node->workers);
    for (size_t i = 0; i < node->directories_opened; i++)
        io_directory_stop(&node->directories[i]);
    return io_node_exit_code(node);
}
