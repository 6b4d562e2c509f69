#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "lib/check_main.h"
#include "unit/io/lab.h"

struct dial {
    const char *host;
    uint16_t port;
    err_t err; /* of the call itself */
    env_conn conn;
};

static void dial_it(struct lab_actor *actor, void *arg)
{
    struct dial *dial = arg;
    const struct env_net *net = &actor->env->net;
    dial->err = net->dial(net->self, dial->host, dial->port, &dial->conn);
}

/* Of this machine. A bare root file system has no /etc/hosts, and so no name that needs no server.
 */
static const char *local_name(void)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (getaddrinfo("localhost", NULL, &hints, &found) == 0) {
        freeaddrinfo(found);
        return "localhost";
    }
    fprintf(stderr, "localhost has no address here: 127.0.0.1 is dialed instead\n");
    return "127.0.0.1";
}

/* A port of 127.0.0.1 that refuses: it is bound, but nobody listens. */
static int refusing_socket(uint16_t *ret_port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(bind(fd, (const struct sockaddr *)&address, size), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

static void expect_refusal(const char *host)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    struct dial dial = {.host = host};
    int fd = refusing_socket(&dial.port);
    lab_call(&lab, 0, dial_it, &dial);
    ck_assert_int_eq(dial.err, ERR_OK);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REFUSED);
    ck_assert_uint_eq(lab_counts(&lab, 0).connected, 0);
    close(fd);
    lab_close(&lab);
}

START_TEST(a_refused_dial_of_an_address_says_refused)
{
    expect_refusal("127.0.0.1");
}
END_TEST

START_TEST(a_refused_dial_of_a_name_says_refused)
{
    expect_refusal(local_name());
}
END_TEST

START_TEST(a_name_that_is_none_is_unreachable)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    struct dial dial = {.host = "a..b", .port = 9}; /* illegal: no server is asked */
    lab_call(&lab, 0, dial_it, &dial);
    ck_assert_int_eq(dial.err, ERR_OK);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_UNREACHABLE);
    lab_close(&lab);
}
END_TEST

START_TEST(illegal_dials_are_refused_at_once)
{
    struct io_config config = lab_config();
    config.connections_max = 1;
    struct lab lab;
    lab_open(&lab, &config);
    uint16_t port = io_node_port(lab.node, 0);
    struct dial no_port = {.host = "127.0.0.1"}, no_host = {.host = "", .port = port};
    lab_call(&lab, 0, dial_it, &no_port);
    lab_call(&lab, 0, dial_it, &no_host);
    ck_assert_int_eq(no_port.err, ERR_INVALID);
    ck_assert_int_eq(no_host.err, ERR_INVALID);
    /* The bound on connections holds for dials: the first takes the only place. */
    struct dial first = {.host = "127.0.0.1", .port = port}, second = first;
    lab_call(&lab, 0, dial_it, &first);
    lab_call(&lab, 0, dial_it, &second);
    ck_assert_int_eq(first.err, ERR_OK);
    ck_assert_int_eq(second.err, ERR_FULL);
    lab_close(&lab);
}
END_TEST

static void dial_and_drop(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    dial_it(actor, arg);
    net->drop(net->self, ((struct dial *)arg)->conn);
}

START_TEST(a_dial_dropped_on_its_way_tells_nothing)
{
    struct io_config config = lab_config();
    struct lab lab, peer;
    lab_open(&lab, &config);
    lab_open(&peer, &config);
    uint16_t port = io_node_port(peer.node, 0);
    struct dial by_name = {.host = local_name(), .port = port};
    struct dial by_address = {.host = "127.0.0.1", .port = port};
    for (unsigned i = 0; i < 20; i++) {
        lab_call(&lab, 0, dial_and_drop, &by_name);
        lab_call(&lab, 0, dial_and_drop, &by_address);
    }
    lab_call(&lab, 0, dial_it, &by_address);
    lab_wait(&lab, 0, connected, 1);
    ck_assert_uint_eq(lab_counts(&lab, 0).connected, 1);
    ck_assert_uint_eq(lab_counts(&lab, 0).closed, 0);
    lab_close(&lab);
    lab_close(&peer);
}
END_TEST

static void dial_send_finish(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    dial_it(actor, arg);
    env_conn conn = ((struct dial *)arg)->conn;
    for (unsigned i = 0; i < 3; i++) /* a frame in two parts, a whole one, and nothing */
        ck_assert_int_eq(net->send(net->self, conn, lab_frame(100, 7), i * 50, i < 2 ? 50 : 0),
                         ERR_OK);
    ck_assert_int_eq(net->send(net->self, conn, lab_frame(200, 8), 0, 200), ERR_OK);
    ck_assert_uint_eq(net->queued_bytes(net->self, conn), 300);
    net->finish(net->self, conn);
    ck_assert_uint_eq(net->queued_bytes(net->self, conn), 0); /* no longer the actor's */
}

START_TEST(what_is_sent_before_the_connection_stands_arrives)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    struct lab lab;
    lab_open(&lab, &config);
    struct dial dials[2] = {{.host = "127.0.0.1", .port = io_node_port(lab.node, 0)},
                            {.host = local_name(), .port = io_node_port(lab.node, 0)}};
    for (unsigned i = 0; i < 2; i++) {
        lab_call(&lab, i, dial_send_finish, &dials[i]);
        lab_wait_until(&lab, &lab.received, 2 * (i + 1));
    }
    struct lab_counts zero = lab_counts(&lab, 0), one = lab_counts(&lab, 1);
    ck_assert_uint_eq(zero.received_bytes + one.received_bytes, 600);
    ck_assert_uint_eq(zero.connected + one.connected, 0); /* finished: no upcall any more */
    lab_close(&lab);
}
END_TEST

/* ---- two shards under load ---- */

enum { LOAD_FRAMES = 3000, LOAD_WINDOW = 64 };

struct load {
    struct dial dial;
    unsigned sent, back;
};

static size_t load_size(unsigned i)
{
    return i % 100 == 0 ? 200 * 1000 : 16 + i % 3000;
}

static void load_send(struct lab_actor *actor, struct load *load)
{
    const struct env_net *net = &actor->env->net;
    while (load->sent < LOAD_FRAMES && load->sent - load->back < LOAD_WINDOW) {
        struct frame *frame = lab_frame(load_size(load->sent), load->sent);
        ck_assert_int_eq(net->send(net->self, load->dial.conn, frame, 0, frame->used), ERR_OK);
        load->sent++;
    }
}

/* The dialer's frames are answers and are checked; the other side's are sent back. */
static void load_received(struct lab_actor *actor, env_conn conn, struct frame *frame)
{
    struct load *load = actor->own;
    const struct env_net *net = &actor->env->net;
    if (!env_conn_equal(conn, load->dial.conn)) {
        (void)net->send(net->self, conn, frame, 0, frame->used);
        return;
    }
    struct frame *expected = lab_frame(load_size(load->back), load->back);
    ck_assert_uint_eq(frame->used, expected->used);
    ck_assert_mem_eq(frame->bytes, expected->bytes, expected->used);
    frame_unref(expected);
    frame_unref(frame);
    load->back++;
    load_send(actor, load);
}

static void load_start(struct lab_actor *actor, void *arg)
{
    (void)arg;
    struct load *load = actor->own;
    dial_it(actor, &load->dial);
    load_send(actor, load);
}

START_TEST(two_shards_echo_each_other_under_load)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    config.output_bytes_max = 256 * 1024;
    config.budget_bytes = 1024 * 1024;
    struct lab lab;
    lab_make(&lab, &config);
    struct load loads[2] = {0};
    for (unsigned i = 0; i < 2; i++) {
        loads[i].dial = (struct dial){.host = "127.0.0.1", .port = io_node_port(lab.node, 0)};
        lab.actors[i].own = &loads[i];
        lab.actors[i].on_received = load_received;
    }
    lab_start(&lab);
    lab_call(&lab, 0, load_start, NULL);
    lab_call(&lab, 1, load_start, NULL);
    lab_wait_until(&lab, &lab.received, 4 * LOAD_FRAMES);
    ck_assert_uint_eq(lab_counts(&lab, 0).closed + lab_counts(&lab, 1).closed, 0);
    lab_close(&lab);
    ck_assert_uint_eq(loads[0].back, LOAD_FRAMES);
    ck_assert_uint_eq(loads[1].back, LOAD_FRAMES);
}
END_TEST

CHECK_MAIN("io/dial", a_refused_dial_of_an_address_says_refused,
           a_refused_dial_of_a_name_says_refused, a_name_that_is_none_is_unreachable,
           illegal_dials_are_refused_at_once, a_dial_dropped_on_its_way_tells_nothing,
           what_is_sent_before_the_connection_stands_arrives, two_shards_echo_each_other_under_load)
