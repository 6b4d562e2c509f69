#include "unit/io/lab.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <netinet/tcp.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/rng.h"

struct lab_message {
    void (*run)(struct lab_actor *actor, void *arg);
    void *arg;
    sem_t *ran; /* NULL: nobody waits */
};

/* ---- the actors ---- */

static void lab_changed(struct lab_actor *actor, unsigned *count, env_conn conn, err_t err)
{
    pthread_mutex_lock(&actor->lab->lock);
    (*count)++;
    if (count == &actor->counts.received)
        actor->lab->received++;
    if (count == &actor->counts.closed)
        actor->counts.closed_err = err;
    if (count == &actor->counts.accepted || count == &actor->counts.connected)
        actor->conn = conn;
    pthread_cond_broadcast(&actor->lab->changed);
    pthread_mutex_unlock(&actor->lab->lock);
}

static void lab_accepted(void *self, env_conn conn, unsigned listener, const char *peer)
{
    struct lab_actor *actor = self;
    ck_assert_uint_eq(listener, 0);
    ck_assert_ptr_nonnull(strstr(peer, "127.0.0.1:"));
    lab_changed(actor, &actor->counts.accepted, conn, ERR_OK);
}

static void lab_connected(void *self, env_conn conn)
{
    struct lab_actor *actor = self;
    lab_changed(actor, &actor->counts.connected, conn, ERR_OK);
}

static void lab_closed(void *self, env_conn conn, err_t err)
{
    struct lab_actor *actor = self;
    lab_changed(actor, &actor->counts.closed, conn, err);
}

static void lab_drained(void *self, env_conn conn)
{
    struct lab_actor *actor = self;
    lab_changed(actor, &actor->counts.drained, conn, ERR_OK);
}

static void lab_mail_room(void *self, unsigned to)
{
    (void)to;
    struct lab_actor *actor = self;
    lab_changed(actor, &actor->counts.room, (env_conn){0}, ERR_OK);
}

static void lab_received(void *self, env_conn conn, struct frame *frame)
{
    struct lab_actor *actor = self;
    size_t used = frame->used;
    if (actor->on_received != NULL)
        actor->on_received(actor, conn, frame);
    else
        (void)actor->env->net.send(actor->env->net.self, conn, frame, 0, frame->used);
    pthread_mutex_lock(&actor->lab->lock);
    actor->counts.received_bytes += used;
    pthread_mutex_unlock(&actor->lab->lock);
    lab_changed(actor, &actor->counts.received, conn, ERR_OK);
}

static void lab_mail(void *self, void *message)
{
    struct lab_message mail = *(struct lab_message *)message;
    free(message);
    mail.run(self, mail.arg);
    if (mail.ran != NULL)
        sem_post(mail.ran);
}

/* ---- the node ---- */

struct io_config lab_config(void)
{
    static const struct io_listener listener = {.host = "127.0.0.1"};
    struct io_config config;
    io_config_init(&config);
    config.listeners = &listener;
    config.listener_count = 1;
    config.frame_bytes_max = 8 * 1024 * 1024;
    config.mailbox_slots = 64;
    config.connections_max = 64;
    return config;
}

void lab_make(struct lab *lab, const struct io_config *config)
{
    *lab = (struct lab){0};
    pthread_mutex_init(&lab->lock, NULL);
    pthread_cond_init(&lab->changed, NULL);
    lab->actor_count = config->shard_count + (config->metadata_directory != NULL);
    ck_assert_uint_le(lab->actor_count, LAB_ACTORS_MAX);
    char why[256];
    err_t err = io_node_new(config, &lab->node, why, sizeof(why));
    ck_assert_msg(err == ERR_OK, "io_node_new: %s", why);
    for (unsigned i = 0; i < lab->actor_count; i++) {
        struct lab_actor *actor = &lab->actors[i];
        *actor = (struct lab_actor){.lab = lab, .env = io_node_env(lab->node, i), .number = i};
        actor->env->actor = actor;
        actor->env->upcalls = (struct env_upcalls){
            .accepted = lab_accepted,
            .connected = lab_connected,
            .received = lab_received,
            .closed = lab_closed,
            .drained = lab_drained,
            .mail = lab_mail,
            .mail_room = lab_mail_room,
        };
    }
}

void lab_start(struct lab *lab)
{
    ck_assert_int_eq(io_node_start(lab->node), ERR_OK);
}

void lab_open(struct lab *lab, const struct io_config *config)
{
    lab_make(lab, config);
    lab_start(lab);
}

void lab_close(struct lab *lab)
{
    io_node_end(lab->node, 0, "the test is over");
    ck_assert_int_eq(io_node_wait(lab->node, NULL), 0);
    ck_assert_int_eq(io_node_join(lab->node), 0);
    io_node_free(lab->node);
    pthread_cond_destroy(&lab->changed);
    pthread_mutex_destroy(&lab->lock);
}

static struct lab_message *lab_message(void (*run)(struct lab_actor *actor, void *arg), void *arg,
                                       sem_t *ran)
{
    struct lab_message *message = malloc(sizeof(*message));
    ck_assert_ptr_nonnull(message);
    *message = (struct lab_message){.run = run, .arg = arg, .ran = ran};
    return message;
}

void lab_call(struct lab *lab, unsigned actor, void (*run)(struct lab_actor *actor, void *arg),
              void *arg)
{
    sem_t ran;
    sem_init(&ran, 0, 0);
    ck_assert_int_eq(io_node_post(lab->node, actor, lab_message(run, arg, &ran)), ERR_OK);
    while (sem_wait(&ran) != 0)
        ;
    sem_destroy(&ran);
}

void lab_tell(struct lab *lab, unsigned actor, void (*run)(struct lab_actor *actor, void *arg),
              void *arg)
{
    ck_assert_int_eq(io_node_post(lab->node, actor, lab_message(run, arg, NULL)), ERR_OK);
}

err_t lab_post(struct lab_actor *from, unsigned to, void (*run)(struct lab_actor *actor, void *arg),
               void *arg)
{
    struct lab_message *message = lab_message(run, arg, NULL);
    err_t err = from->env->mail.post(from->env->mail.self, to, message);
    if (err != ERR_OK)
        free(message);
    return err;
}

void lab_wait_until(struct lab *lab, const unsigned *count, unsigned value)
{
    pthread_mutex_lock(&lab->lock);
    while (*count < value)
        pthread_cond_wait(&lab->changed, &lab->lock);
    pthread_mutex_unlock(&lab->lock);
}

struct lab_counts lab_counts(struct lab *lab, unsigned actor)
{
    pthread_mutex_lock(&lab->lock);
    struct lab_counts counts = lab->actors[actor].counts;
    pthread_mutex_unlock(&lab->lock);
    return counts;
}

void lab_add(struct lab *lab, unsigned *count)
{
    pthread_mutex_lock(&lab->lock);
    (*count)++;
    pthread_cond_broadcast(&lab->changed);
    pthread_mutex_unlock(&lab->lock);
}

/* ---- the other side ---- */

int lab_dial(struct lab *lab)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons(io_node_port(lab->node, 0)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    return fd;
}

void lab_write(int fd, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        at += n;
        len -= (size_t)n;
    }
}

void lab_read(int fd, void *into, size_t len)
{
    uint8_t *at = into;
    while (len > 0) {
        ssize_t n = read(fd, at, len);
        ck_assert_int_gt(n, 0);
        at += n;
        len -= (size_t)n;
    }
}

size_t lab_read_to_end(int fd)
{
    uint8_t bytes[16384];
    size_t got = 0;
    for (;;) {
        ssize_t n = read(fd, bytes, sizeof(bytes));
        if (n <= 0)
            return got;
        got += (size_t)n;
    }
}

void lab_fill_frame(uint8_t *bytes, size_t total, uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    put_u32(bytes, (uint32_t)(total - 4));
    for (size_t at = 4; at < total; at += 8) {
        uint64_t word = rng_next(&rng);
        memcpy(bytes + at, &word, total - at < 8 ? total - at : 8);
    }
}

struct frame *lab_frame(size_t total, uint64_t seed)
{
    struct frame *frame = frame_new(total);
    ck_assert_ptr_nonnull(frame);
    frame->used = (uint32_t)total;
    lab_fill_frame(frame->bytes, total, seed);
    return frame;
}

/* ---- directories ---- */

void lab_make_directory(char path[LAB_PATH_SIZE])
{
    const char *parent = getenv("TMPDIR");
    snprintf(path, LAB_PATH_SIZE, "%s/karst-test-XXXXXX", parent == NULL ? "/tmp" : parent);
    ck_assert_ptr_nonnull(mkdtemp(path));
}

static int lab_remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status; /* nftw's callback: only the path matters */
    (void)type;
    (void)walk;
    return remove(path);
}

void lab_remove_directory(const char *path)
{
    ck_assert_int_eq(nftw(path, lab_remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
}
