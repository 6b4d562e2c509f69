#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/rng.h"
#include "io/net.h"
#include "lib/check_main.h"
#include "unit/io/lab.h"

/* Frames as they go over the wire, one after the other. */
struct stream {
    uint8_t *bytes;
    size_t len;
};

static struct stream stream_new(struct rng *rng, unsigned frames, size_t total_max)
{
    struct stream stream = {.bytes = malloc(frames * total_max)};
    ck_assert_ptr_nonnull(stream.bytes);
    for (unsigned i = 0; i < frames; i++) {
        size_t total = (size_t)rng_between(rng, 12, total_max);
        lab_fill_frame(stream.bytes + stream.len, total, rng_next(rng));
        stream.len += total;
    }
    return stream;
}

static void expect_echo(int fd, const struct stream *stream)
{
    uint8_t *back = malloc(stream->len);
    ck_assert_ptr_nonnull(back);
    lab_read(fd, back, stream->len);
    ck_assert_mem_eq(back, stream->bytes, stream->len);
    free(back);
}

/* ---- framing ---- */

START_TEST(frames_that_come_byte_by_byte_arrive_whole)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    struct stream stream = stream_new(&rng, 5, 100);
    for (size_t i = 0; i < stream.len; i++)
        lab_write(fd, stream.bytes + i, 1);
    expect_echo(fd, &stream);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 5);
    free(stream.bytes);
    close(fd);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_CLOSED);
    lab_close(&lab);
}
END_TEST

START_TEST(many_frames_in_one_write_arrive_in_order)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    struct stream stream = stream_new(&rng, 2000, 60);
    lab_write(fd, stream.bytes, stream.len);
    expect_echo(fd, &stream);
    free(stream.bytes);
    close(fd);
    lab_close(&lab);
}
END_TEST

/* Sizes around every path: within the read-ahead, across it, large ones that are read in place. */
START_TEST(frames_of_all_sizes_in_pieces_of_all_sizes_come_back_unchanged)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    static const size_t sizes[] = {100, 5000, 70000, 300000, 3000000};
    for (unsigned round = 0; round < 20; round++) {
        struct stream stream = stream_new(&rng, 4, sizes[round % ARRAY_LEN(sizes)]);
        for (size_t at = 0; at < stream.len;) {
            size_t piece = (size_t)rng_between(&rng, 1, stream.len / 3 + 1);
            piece = piece < stream.len - at ? piece : stream.len - at;
            lab_write(fd, stream.bytes + at, piece);
            at += piece;
        }
        expect_echo(fd, &stream);
        free(stream.bytes);
    }
    close(fd);
    lab_close(&lab);
}
END_TEST

static void expect_refused_length(uint32_t length)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    uint8_t head[4];
    put_u32(head, length);
    lab_write(fd, head, sizeof(head));
    ck_assert_uint_eq(lab_read_to_end(fd), 0);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_INVALID_REQUEST);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 0);
    close(fd);
    lab_close(&lab);
}

START_TEST(a_length_over_the_bound_closes_the_connection)
{
    expect_refused_length(8 * 1024 * 1024 + 1);
    expect_refused_length(UINT32_MAX);
}
END_TEST

START_TEST(a_length_too_short_closes_the_connection)
{
    expect_refused_length(0);
    expect_refused_length(7);
}
END_TEST

START_TEST(garbage_closes_the_connection_and_no_other)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int good = lab_dial(&lab);
    int bad = lab_dial(&lab);
    uint8_t garbage[4096];
    for (size_t i = 0; i < sizeof(garbage); i++)
        garbage[i] = (uint8_t)rng_between(&rng, 1, 255); /* a length of 16 MiB at least */
    lab_write(bad, garbage, sizeof(garbage));
    (void)lab_read_to_end(bad);
    close(bad);
    struct stream stream = stream_new(&rng, 10, 1000);
    lab_write(good, stream.bytes, stream.len);
    expect_echo(good, &stream);
    ck_assert_uint_eq(lab_counts(&lab, 0).closed, 1);
    free(stream.bytes);
    close(good);
    lab_close(&lab);
}
END_TEST

START_TEST(a_peer_gone_within_a_frame_is_closed)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    uint8_t bytes[100];
    lab_fill_frame(bytes, sizeof(bytes), 1);
    lab_write(fd, bytes, 50);
    close(fd);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_CLOSED);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 0);
    lab_close(&lab);
}
END_TEST

/* ---- pauses ---- */

static void pause_after_three(struct lab_actor *actor, env_conn conn, struct frame *frame)
{
    unsigned *seen = actor->own;
    frame_unref(frame);
    if (++*seen % 3 == 0)
        actor->env->net.pause_reads(actor->env->net.self, conn, true);
}

static void resume(struct lab_actor *actor, void *arg)
{
    (void)arg;
    actor->env->net.pause_reads(actor->env->net.self, actor->conn, false);
}

static void look_at_own(struct lab_actor *actor, void *arg)
{
    *(unsigned *)arg = *(unsigned *)actor->own;
}

START_TEST(a_paused_connection_hands_over_nothing_not_even_what_was_read)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_make(&lab, &config);
    unsigned seen = 0;
    lab.actors[0].own = &seen;
    lab.actors[0].on_received = pause_after_three;
    lab_start(&lab);
    int fd = lab_dial(&lab);
    uint8_t bytes[30 * 40];
    for (unsigned i = 0; i < 30; i++)
        lab_fill_frame(bytes + i * 40, 40, i);
    lab_write(fd, bytes, sizeof(bytes));
    for (unsigned batch = 1; batch <= 10; batch++) {
        lab_wait(&lab, 0, received, batch * 3);
        unsigned now = 0;
        lab_call(&lab, 0, look_at_own, &now);
        ck_assert_uint_eq(now, batch * 3);
        lab_call(&lab, 0, resume, NULL);
    }
    close(fd);
    lab_close(&lab);
}
END_TEST

enum { HELD_FRAMES = 40, HELD_FRAME_BYTES = 16 * 1024 };

struct holder {
    struct frame *frames[HELD_FRAMES];
    unsigned count, most;
};

static void hold(struct lab_actor *actor, env_conn conn, struct frame *frame)
{
    (void)conn;
    struct holder *holder = actor->own;
    holder->frames[holder->count++] = frame;
    holder->most = holder->count > holder->most ? holder->count : holder->most;
}

static void release_held(struct lab_actor *actor, void *arg)
{
    struct holder *holder = actor->own;
    *(unsigned *)arg += holder->count;
    while (holder->count > 0)
        frame_unref(holder->frames[--holder->count]);
}

START_TEST(over_the_budget_sockets_wait_and_nothing_is_lost)
{
    struct io_config config = lab_config();
    config.budget_bytes = 6 * HELD_FRAME_BYTES;
    struct lab lab;
    lab_make(&lab, &config);
    struct holder holder = {0};
    lab.actors[0].own = &holder;
    lab.actors[0].on_received = hold;
    lab_start(&lab);
    int fds[2] = {lab_dial(&lab), lab_dial(&lab)};
    uint8_t *bytes = malloc(HELD_FRAME_BYTES);
    lab_fill_frame(bytes, HELD_FRAME_BYTES, 3);
    for (unsigned i = 0; i < HELD_FRAMES; i++)
        lab_write(fds[i % 2], bytes, HELD_FRAME_BYTES);
    unsigned released = 0;
    while (released < HELD_FRAMES) {
        lab_wait(&lab, 0, received, released + 1);
        lab_call(&lab, 0, release_held, &released);
    }
    ck_assert_uint_eq(released, HELD_FRAMES);
    /* The last read may pass the budget by what it reads ahead, and a begun frame is ended. */
    ck_assert_uint_le(holder.most, 6 + 64 * 1024 / HELD_FRAME_BYTES + 2);
    free(bytes);
    close(fds[0]);
    close(fds[1]);
    lab_close(&lab);
}
END_TEST

static void trust(struct lab_actor *actor, void *arg)
{
    (void)arg;
    actor->env->net.trust(actor->env->net.self, actor->conn);
}

START_TEST(over_the_budget_brokers_are_read)
{
    struct io_config config = lab_config();
    config.budget_bytes = 1000;
    struct lab lab;
    lab_make(&lab, &config);
    struct holder holder = {0};
    lab.actors[0].own = &holder;
    lab.actors[0].on_received = hold;
    lab_start(&lab);
    int client = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    int broker = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 2);
    uint8_t *bytes = malloc(HELD_FRAME_BYTES);
    lab_fill_frame(bytes, HELD_FRAME_BYTES, 3);
    lab_write(client, bytes, HELD_FRAME_BYTES); /* held: there is no room for more */
    lab_wait(&lab, 0, received, 1);
    lab_write(client, bytes, HELD_FRAME_BYTES);
    lab_write(broker, bytes, HELD_FRAME_BYTES); /* parked before it is trusted, or not */
    lab_call(&lab, 0, trust, NULL);
    lab_wait(&lab, 0, received, 2);
    lab_write(broker, bytes, HELD_FRAME_BYTES);
    lab_wait(&lab, 0, received, 3);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 3); /* the client waits */
    unsigned released = 0;
    lab_call(&lab, 0, release_held, &released);
    lab_wait(&lab, 0, received, 4); /* no longer */
    lab_call(&lab, 0, release_held, &released);
    ck_assert_uint_eq(released, 4);
    free(bytes);
    close(client);
    close(broker);
    lab_close(&lab);
}
END_TEST

START_TEST(a_frame_larger_than_the_budget_is_still_read)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    config.budget_bytes = 1000;
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    struct stream stream = stream_new(&rng, 3, 500000);
    lab_write(fd, stream.bytes, stream.len);
    expect_echo(fd, &stream);
    free(stream.bytes);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(announced_bytes_that_do_not_come_stop_nobody)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    config.budget_bytes = 1024 * 1024;
    struct lab lab;
    lab_open(&lab, &config);
    int greedy[30];
    uint8_t begin[100] = {0};
    put_u32(begin, config.frame_bytes_max);
    for (size_t i = 0; i < ARRAY_LEN(greedy); i++) {
        greedy[i] = lab_dial(&lab);
        lab_write(greedy[i], begin, sizeof(begin));
    }
    int fd = lab_dial(&lab);
    struct stream stream = stream_new(&rng, 20, 100000);
    lab_write(fd, stream.bytes, stream.len);
    expect_echo(fd, &stream);
    free(stream.bytes);
    for (size_t i = 0; i < ARRAY_LEN(greedy); i++)
        close(greedy[i]);
    close(fd);
    lab_close(&lab);
}
END_TEST

/* ---- output ---- */

enum { FLOOD_FRAMES = 64, FLOOD_FRAME_BYTES = 256 * 1024 };

static void flood(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    for (unsigned i = 0; i < FLOOD_FRAMES; i++) {
        struct frame *frame = lab_frame(FLOOD_FRAME_BYTES, i);
        ck_assert_int_eq(net->send(net->self, actor->conn, frame, 0, frame->used), ERR_OK);
    }
    *(size_t *)arg = net->queued_bytes(net->self, actor->conn);
}

static void do_nothing(struct lab_actor *actor, void *arg)
{
    (void)actor;
    (void)arg;
}

START_TEST(over_the_output_bound_reads_pause_and_go_on_when_half_is_sent)
{
    struct io_config config = lab_config();
    config.output_bytes_max = 1024 * 1024;
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    size_t queued = 0;
    lab_call(&lab, 0, flood, &queued);
    ck_assert_uint_eq(queued, (size_t)FLOOD_FRAMES * FLOOD_FRAME_BYTES);
    uint8_t request[64];
    lab_fill_frame(request, sizeof(request), 9);
    lab_write(fd, request, sizeof(request));
    for (unsigned i = 0; i < 10; i++)
        lab_call(&lab, 0, do_nothing, NULL); /* turns in which it could be read */
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 0);
    ck_assert_uint_eq(lab_counts(&lab, 0).drained, 0);

    uint8_t *bytes = malloc(FLOOD_FRAME_BYTES), *expected = malloc(FLOOD_FRAME_BYTES);
    for (unsigned i = 0; i < FLOOD_FRAMES; i++) {
        lab_fill_frame(expected, FLOOD_FRAME_BYTES, i);
        lab_read(fd, bytes, FLOOD_FRAME_BYTES);
        ck_assert_mem_eq(bytes, expected, FLOOD_FRAME_BYTES);
    }
    lab_wait(&lab, 0, drained, 1);
    lab_read(fd, bytes, sizeof(request)); /* the echo of what waited */
    ck_assert_mem_eq(bytes, request, sizeof(request));
    ck_assert_uint_eq(lab_counts(&lab, 0).drained, 1);
    free(bytes);
    free(expected);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(a_peer_that_does_not_read_is_closed)
{
    struct io_config config = lab_config();
    config.stall_ms = 30;
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    size_t queued = 0;
    lab_call(&lab, 0, flood, &queued);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REQUEST_TIMED_OUT);
    close(fd);
    lab_close(&lab);
}
END_TEST

static void look_at_budget(struct lab_actor *actor, void *arg)
{
    const struct io_net *net = actor->env->net.self;
    size_t used = atomic_load(&net->budget.used);
    if (used > *(size_t *)arg)
        *(size_t *)arg = used;
}

enum { LARGE_FRAME_BYTES = 1 << 20 };

/* All but the end of it. */
static size_t write_of_large(int fd, size_t from, int flags)
{
    static uint8_t bytes[LARGE_FRAME_BYTES];
    put_u32(bytes, LARGE_FRAME_BYTES - 4);
    ssize_t n = send(fd, bytes + from, LARGE_FRAME_BYTES - 1000 - from, flags);
    return n > 0 ? (size_t)n : 0;
}

START_TEST(frames_that_were_begun_take_no_more_than_the_budget_and_two_of_them)
{
    enum { PEERS = 20 };
    struct io_config config = lab_config();
    config.budget_bytes = LARGE_FRAME_BYTES;
    config.frame_bytes_max = LARGE_FRAME_BYTES;
    config.stall_ms = 1000 * 1000;
    struct lab lab;
    lab_open(&lab, &config);
    int fds[PEERS];
    size_t sent[PEERS] = {0}, most = 0;
    uint8_t begin[4];
    put_u32(begin, LARGE_FRAME_BYTES - 4);
    for (size_t i = 0; i < PEERS; i++) {
        fds[i] = lab_dial(&lab);
        lab_write(fds[i], begin, sizeof(begin));
        sent[i] = sizeof(begin);
    }
    for (unsigned round = 0; round < 300; round++) {
        for (size_t i = 0; i < PEERS; i++)
            sent[i] += write_of_large(fds[i], sent[i], MSG_DONTWAIT);
        lab_call(&lab, 0, look_at_budget, &most);
    }
    /* One that grew as the budget ended, and one that may go on, beside the budget. */
    ck_assert_uint_le(most, 3 * LARGE_FRAME_BYTES + 256 * 1024);
    for (size_t i = 0; i < PEERS; i++)
        close(fds[i]);
    lab_close(&lab);
}
END_TEST

START_TEST(frames_that_do_not_end_keep_nobody_waiting_for_long)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    config.budget_bytes = LARGE_FRAME_BYTES;
    config.frame_bytes_max = LARGE_FRAME_BYTES;
    config.stall_ms = 1000 * 1000; /* a byte now and then would do as well */
    struct lab lab;
    lab_open(&lab, &config);
    int slow[2];
    for (size_t i = 0; i < ARRAY_LEN(slow); i++) {
        slow[i] = lab_dial(&lab);
        for (size_t sent = 0; sent < LARGE_FRAME_BYTES - 1000;)
            sent += write_of_large(slow[i], sent, 0);
    }
    for (size_t most = 0; most <= LARGE_FRAME_BYTES;)
        lab_call(&lab, 0, look_at_budget, &most);
    int fd = lab_dial(&lab);
    struct stream stream = stream_new(&rng, 20, 10000);
    lab_write(fd, stream.bytes, stream.len);
    expect_echo(fd, &stream);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REQUEST_TIMED_OUT);
    free(stream.bytes);
    for (size_t i = 0; i < ARRAY_LEN(slow); i++)
        close(slow[i]);
    close(fd);
    lab_close(&lab);
}
END_TEST

static struct frame_budget short_memory = {.bytes_max = 1024};

static void flood_from_short_memory(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    flood(actor, arg);
    struct frame *frame = frame_new_charged(FLOOD_FRAME_BYTES, &short_memory);
    ck_assert_ptr_nonnull(frame);
    frame->used = FLOOD_FRAME_BYTES;
    ck_assert_int_eq(net->send(net->self, actor->conn, frame, 0, frame->used), ERR_OK);
}

START_TEST(a_peer_that_does_not_read_what_others_wait_for_is_closed_soon)
{
    struct io_config config = lab_config();
    config.stall_ms = 1000 * 1000;
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    size_t queued = 0;
    lab_call(&lab, 0, flood_from_short_memory, &queued);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REQUEST_TIMED_OUT);
    ck_assert_uint_eq(atomic_load(&short_memory.used), 0);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(what_peers_do_not_read_is_bounded_for_all_of_them_together)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct io_config config = lab_config();
    config.budget_bytes = 1024 * 1024;
    config.output_bytes_max = UINT32_MAX;
    config.stall_ms = 1000 * 1000;
    struct lab lab;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    size_t queued = 0;
    lab_call(&lab, 0, flood, &queued);
    uint8_t request[64];
    lab_fill_frame(request, sizeof(request), 9);
    lab_write(fd, request, sizeof(request));
    int other = lab_dial(&lab); /* has nothing to read, and is served */
    struct stream stream = stream_new(&rng, 20, 100);
    lab_write(other, stream.bytes, stream.len);
    expect_echo(other, &stream);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 20);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REQUEST_TIMED_OUT);
    free(stream.bytes);
    close(other);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(a_peer_that_does_not_end_its_frame_is_closed)
{
    struct io_config config = lab_config();
    config.stall_ms = 30;
    struct lab lab;
    lab_open(&lab, &config);
    int idle = lab_dial(&lab), fd = lab_dial(&lab);
    uint8_t bytes[100];
    lab_fill_frame(bytes, sizeof(bytes), 1);
    lab_write(fd, bytes, sizeof(bytes) - 1);
    ck_assert_uint_eq(lab_read_to_end(fd), 0);
    lab_wait(&lab, 0, closed, 1);
    ck_assert_int_eq(lab_counts(&lab, 0).closed_err, ERR_REQUEST_TIMED_OUT);
    lab_write(idle, bytes, sizeof(bytes)); /* between frames a peer may be silent */
    lab_read(idle, bytes, sizeof(bytes));
    close(fd);
    close(idle);
    lab_close(&lab);
}
END_TEST

/* ---- ends ---- */

static void flood_and_finish(struct lab_actor *actor, env_conn conn, struct frame *frame)
{
    const struct env_net *net = &actor->env->net;
    frame_unref(frame);
    size_t queued = 0;
    flood(actor, &queued);
    net->finish(net->self, conn);
    ck_assert_int_eq(net->send(net->self, conn, lab_frame(12, 1), 0, 12), ERR_CLOSED);
}

START_TEST(finish_sends_all_though_the_peer_sent_more_than_is_read)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_make(&lab, &config);
    lab.actors[0].on_received = flood_and_finish;
    lab_start(&lab);
    int fd = lab_dial(&lab);
    uint8_t bytes[20 * 1000];
    for (unsigned i = 0; i < 20; i++)
        lab_fill_frame(bytes + i * 1000, 1000, i);
    lab_write(fd, bytes, sizeof(bytes));
    ck_assert_uint_eq(lab_read_to_end(fd), (size_t)FLOOD_FRAMES * FLOOD_FRAME_BYTES);
    close(fd);
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 1);
    ck_assert_uint_eq(lab_counts(&lab, 0).closed, 0); /* it was the actor's own doing */
    lab_close(&lab);
}
END_TEST

static void drop_on_second(struct lab_actor *actor, env_conn conn, struct frame *frame)
{
    const struct env_net *net = &actor->env->net;
    frame_unref(frame);
    if (++*(unsigned *)actor->own == 2) {
        net->drop(net->self, conn);
        net->drop(net->self, conn);              /* nobody's handle now */
        net->pause_reads(net->self, conn, true); /* nothing happens */
        ck_assert_uint_eq(net->queued_bytes(net->self, conn), 0);
        ck_assert_int_eq(net->send(net->self, conn, lab_frame(12, 1), 0, 12), ERR_CLOSED);
    }
}

START_TEST(a_dropped_connection_tells_nothing_more)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_make(&lab, &config);
    unsigned seen = 0;
    lab.actors[0].own = &seen;
    lab.actors[0].on_received = drop_on_second;
    lab_start(&lab);
    int fd = lab_dial(&lab);
    uint8_t bytes[10 * 40];
    for (unsigned i = 0; i < 10; i++)
        lab_fill_frame(bytes + i * 40, 40, i);
    lab_write(fd, bytes, sizeof(bytes));
    ck_assert_uint_eq(lab_read_to_end(fd), 0);
    lab_wait(&lab, 0, received, 2);
    for (unsigned i = 0; i < 10; i++)
        lab_call(&lab, 0, do_nothing, NULL); /* turns in which more could come */
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 2);
    ck_assert_uint_eq(lab_counts(&lab, 0).closed, 0);
    close(fd);
    /* The slot's next connection has another handle. */
    struct lab_actor *actor = &lab.actors[0];
    env_conn before = actor->conn;
    fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 2);
    ck_assert(!env_conn_equal(before, actor->conn));
    ck_assert_uint_eq(before.slot, actor->conn.slot);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(at_the_bound_connections_wait_for_others_to_leave)
{
    struct io_config config = lab_config();
    config.connections_max = 4;
    struct lab lab;
    lab_open(&lab, &config);
    int fds[6];
    uint8_t bytes[40];
    lab_fill_frame(bytes, sizeof(bytes), 1);
    for (unsigned i = 0; i < 6; i++) {
        fds[i] = lab_dial(&lab);
        lab_write(fds[i], bytes, sizeof(bytes));
    }
    for (unsigned i = 0; i < 4; i++)
        lab_read(fds[i], bytes, sizeof(bytes));
    ck_assert_uint_eq(lab_counts(&lab, 0).accepted, 4);
    close(fds[0]);
    close(fds[1]);
    for (unsigned i = 4; i < 6; i++)
        lab_read(fds[i], bytes, sizeof(bytes));
    for (unsigned i = 2; i < 6; i++)
        close(fds[i]);
    lab_close(&lab);
}
END_TEST

START_TEST(new_connections_go_to_the_shard_with_the_fewest)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    struct lab lab;
    lab_open(&lab, &config);
    int fds[8];
    uint8_t bytes[40];
    lab_fill_frame(bytes, sizeof(bytes), 1);
    for (unsigned i = 0; i < 8; i++) {
        fds[i] = lab_dial(&lab);
        lab_write(fds[i], bytes, sizeof(bytes));
        lab_read(fds[i], bytes, sizeof(bytes));
    }
    ck_assert_uint_eq(lab_counts(&lab, 0).accepted, 4);
    ck_assert_uint_eq(lab_counts(&lab, 1).accepted, 4);
    for (unsigned i = 0; i < 8; i++)
        close(fds[i]);
    lab_close(&lab);
}
END_TEST

CHECK_MAIN("io/net", frames_that_come_byte_by_byte_arrive_whole,
           many_frames_in_one_write_arrive_in_order,
           frames_of_all_sizes_in_pieces_of_all_sizes_come_back_unchanged,
           a_length_over_the_bound_closes_the_connection, a_length_too_short_closes_the_connection,
           garbage_closes_the_connection_and_no_other, a_peer_gone_within_a_frame_is_closed,
           a_paused_connection_hands_over_nothing_not_even_what_was_read,
           over_the_budget_sockets_wait_and_nothing_is_lost, over_the_budget_brokers_are_read,
           a_frame_larger_than_the_budget_is_still_read,
           announced_bytes_that_do_not_come_stop_nobody,
           over_the_output_bound_reads_pause_and_go_on_when_half_is_sent,
           a_peer_that_does_not_read_is_closed,
           a_peer_that_does_not_read_what_others_wait_for_is_closed_soon,
           what_peers_do_not_read_is_bounded_for_all_of_them_together,
           a_peer_that_does_not_end_its_frame_is_closed,
           finish_sends_all_though_the_peer_sent_more_than_is_read,
           a_dropped_connection_tells_nothing_more,
           at_the_bound_connections_wait_for_others_to_leave,
           new_connections_go_to_the_shard_with_the_fewest,
           frames_that_were_begun_take_no_more_than_the_budget_and_two_of_them,
           frames_that_do_not_end_keep_nobody_waiting_for_long)
