#include <stdlib.h>
#include <unistd.h>

#include "lib/check_main.h"
#include "unit/io/lab.h"

/* What net.movement tells of bytes, whatever becomes of frames. */

struct movement {
    uint64_t received_ns;
    size_t untaken;
};

static void look(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    struct movement *movement = arg;
    net->movement(net->self, actor->conn, &movement->received_ns, &movement->untaken);
}

enum { FRAME_BYTES = 32 << 20 }; /* more than two sockets hold */

static void send_large(struct lab_actor *actor, void *arg)
{
    const struct env_net *net = &actor->env->net;
    (void)arg;
    struct frame *frame = lab_frame(FRAME_BYTES, 1);
    ck_assert_int_eq(net->send(net->self, actor->conn, frame, 0, frame->used), ERR_OK);
}

START_TEST(bytes_of_a_frame_that_is_not_whole_are_told)
{
    struct io_config config = lab_config();
    struct lab lab;
    struct movement before, after;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    uint8_t bytes[100];
    lab_wait(&lab, 0, accepted, 1);
    lab_call(&lab, 0, look, &before);
    ck_assert_uint_eq(before.untaken, 0);
    lab_fill_frame(bytes, sizeof(bytes), 1);
    for (size_t i = 0; i < sizeof(bytes) - 1; i++) {
        lab_write(fd, &bytes[i], 1);
        do
            lab_call(&lab, 0, look, &after);
        while (after.received_ns <= before.received_ns);
        before = after;
    }
    ck_assert_uint_eq(lab_counts(&lab, 0).received, 0);
    close(fd);
    lab_close(&lab);
}
END_TEST

START_TEST(bytes_that_the_peer_has_not_taken_are_told)
{
    struct io_config config = lab_config();
    struct lab lab;
    struct movement movement;
    lab_open(&lab, &config);
    int fd = lab_dial(&lab);
    lab_wait(&lab, 0, accepted, 1);
    lab_call(&lab, 0, send_large, NULL);
    lab_call(&lab, 0, look, &movement);
    ck_assert_uint_gt(movement.untaken, 0);
    size_t least = movement.untaken;
    uint8_t *bytes = malloc(FRAME_BYTES);
    lab_read(fd, bytes, FRAME_BYTES / 2);
    do
        lab_call(&lab, 0, look, &movement);
    while (movement.untaken >= least);
    lab_read(fd, bytes, FRAME_BYTES / 2);
    do
        lab_call(&lab, 0, look, &movement);
    while (movement.untaken > 0);
    free(bytes);
    close(fd);
    lab_close(&lab);
}
END_TEST

CHECK_MAIN("io/movement", bytes_of_a_frame_that_is_not_whole_are_told,
           bytes_that_the_peer_has_not_taken_are_told)
