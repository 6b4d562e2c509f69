#include "io/mailbox.h"

#include <poll.h>
#include <stdlib.h>

#include "lib/check_main.h"

enum { ACTORS = 3, SLOTS = 16, MESSAGES = 50000 };

struct mail_lab {
    struct io_mail mail;
    struct io_wake wakes[ACTORS];
    struct io_mailbox boxes[ACTORS];
};

static void mail_lab_open(struct mail_lab *lab, uint32_t slots)
{
    ck_assert_int_eq(io_mail_init(&lab->mail, ACTORS, slots), ERR_OK);
    for (unsigned i = 0; i < ACTORS; i++) {
        ck_assert_int_eq(io_wake_init(&lab->wakes[i]), ERR_OK);
        lab->mail.wakes[i] = &lab->wakes[i];
        io_mailbox_init(&lab->boxes[i], &lab->mail, i);
    }
}

static void mail_lab_close(struct mail_lab *lab)
{
    for (unsigned i = 0; i < ACTORS; i++)
        io_wake_fini(&lab->wakes[i]);
    io_mail_fini(&lab->mail);
}

static bool readable(int fd)
{
    struct pollfd at = {.fd = fd, .events = POLLIN};
    return poll(&at, 1, 0) == 1;
}

static void wait_for_wake(struct io_mailbox *box, struct io_wake *wake)
{
    io_wake_arm(wake);
    if (!io_mailbox_any(box)) {
        struct pollfd at = {.fd = wake->fd, .events = POLLIN};
        ck_assert_int_eq(poll(&at, 1, -1), 1);
        io_wake_clear(wake);
    }
    io_wake_disarm(wake);
}

/* ---- one thread ---- */

struct taken {
    uintptr_t messages[4096];
    unsigned count;
};

static bool take(void *context, void *message)
{
    struct taken *taken = context;
    taken->messages[taken->count++] = (uintptr_t)message;
    return true;
}

START_TEST(mail_of_each_sender_comes_in_order)
{
    struct mail_lab lab;
    mail_lab_open(&lab, SLOTS);
    for (uintptr_t i = 1; i <= 5; i++) {
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 2, (void *)(i)), ERR_OK);
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[1], 2, (void *)(100 + i)), ERR_OK);
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[2], 2, (void *)(200 + i)), ERR_OK);
        ck_assert_int_eq(io_mail_post_outside(&lab.mail, 2, (void *)(300 + i)), ERR_OK);
    }
    struct taken taken = {0};
    ck_assert(!io_mailbox_drain(&lab.boxes[2], take, &taken));
    ck_assert_uint_eq(taken.count, 20);
    uintptr_t next[4] = {1, 101, 201, 301};
    for (unsigned i = 0; i < taken.count; i++)
        ck_assert_uint_eq(taken.messages[i], next[taken.messages[i] / 100]++);
    ck_assert(!io_mailbox_any(&lab.boxes[2]));
    ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], ACTORS, &lab), ERR_INVALID);
    mail_lab_close(&lab);
}
END_TEST

START_TEST(many_messages_wake_once_and_nobody_who_does_not_wait)
{
    struct mail_lab lab;
    mail_lab_open(&lab, SLOTS);
    for (unsigned i = 0; i < 5; i++)
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 1, &lab), ERR_OK);
    io_mailbox_ring(&lab.boxes[0]);
    ck_assert(!readable(lab.wakes[1].fd)); /* it is at work, and will look itself */
    io_wake_arm(&lab.wakes[1]);
    ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 1, &lab), ERR_OK);
    ck_assert(!readable(lab.wakes[1].fd)); /* told at the end of the turn */
    io_mailbox_ring(&lab.boxes[0]);
    ck_assert(readable(lab.wakes[1].fd));
    io_wake_clear(&lab.wakes[1]);
    io_mailbox_ring(&lab.boxes[0]);
    ck_assert(!readable(lab.wakes[1].fd));
    mail_lab_close(&lab);
}
END_TEST

static void note_room(void *context, unsigned to)
{
    *(uint64_t *)context |= UINT64_C(1) << to;
}

START_TEST(a_full_ring_is_told_when_it_has_room)
{
    struct mail_lab lab;
    mail_lab_open(&lab, SLOTS);
    uint64_t room = 0;
    for (uintptr_t i = 0; i < SLOTS; i++)
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 1, &lab), ERR_OK);
    ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 1, &lab), ERR_FULL);
    ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 2, &lab), ERR_OK); /* rings are apart */
    io_mailbox_tell_room(&lab.boxes[0], note_room, &room);
    ck_assert_uint_eq(room, 0);
    io_wake_arm(&lab.wakes[0]);
    struct taken taken = {0};
    ck_assert(!io_mailbox_drain(&lab.boxes[1], take, &taken));
    ck_assert_uint_eq(taken.count, SLOTS);
    ck_assert(readable(lab.wakes[0].fd)); /* the sender waited, and is woken */
    ck_assert(io_mailbox_any(&lab.boxes[0]));
    io_mailbox_tell_room(&lab.boxes[0], note_room, &room);
    ck_assert_uint_eq(room, 1 << 1);
    ck_assert(!io_mailbox_any(&lab.boxes[0]));
    room = 0;
    io_mailbox_tell_room(&lab.boxes[0], note_room, &room);
    ck_assert_uint_eq(room, 0); /* told once */
    mail_lab_close(&lab);
}
END_TEST

START_TEST(one_busy_sender_does_not_starve_the_others)
{
    struct mail_lab lab;
    mail_lab_open(&lab, 2048);
    for (uintptr_t i = 1; i <= 2000; i++)
        ck_assert_int_eq(io_mailbox_post(&lab.boxes[0], 2, (void *)i), ERR_OK);
    ck_assert_int_eq(io_mailbox_post(&lab.boxes[1], 2, (void *)(uintptr_t)100000), ERR_OK);
    struct taken taken = {0};
    ck_assert(io_mailbox_drain(&lab.boxes[2], take, &taken)); /* some are left */
    ck_assert_uint_eq(taken.count, IO_MAIL_TURN + 1);
    while (io_mailbox_drain(&lab.boxes[2], take, &taken))
        ;
    ck_assert_uint_eq(taken.count, 2001);
    mail_lab_close(&lab);
}
END_TEST

/* ---- threads: two senders and a receiver, rings that are full most of the time ---- */

struct sender {
    struct mail_lab *lab;
    unsigned number;
};

static void no_room(void *context, unsigned to)
{
    (void)context;
    ck_assert_uint_eq(to, 2);
}

static void *send_all(void *arg)
{
    const struct sender *sender = arg;
    struct io_mailbox *box = &sender->lab->boxes[sender->number];
    for (uintptr_t i = 1; i <= MESSAGES; i++) {
        void *message = (void *)(sender->number * (uintptr_t)MESSAGES + i);
        while (io_mailbox_post(box, 2, message) != ERR_OK) {
            io_mailbox_ring(box);
            wait_for_wake(box, &sender->lab->wakes[sender->number]);
            io_mailbox_tell_room(box, no_room, NULL);
        }
    }
    io_mailbox_ring(box);
    return NULL;
}

static bool check_order(void *context, void *message)
{
    uintptr_t *seen = context, at = (uintptr_t)message - 1;
    ck_assert_uint_eq(at % MESSAGES, seen[at / MESSAGES]);
    seen[at / MESSAGES]++;
    return true;
}

START_TEST(senders_that_wait_for_room_lose_nothing)
{
    struct mail_lab lab;
    mail_lab_open(&lab, SLOTS);
    struct sender senders[2] = {{&lab, 0}, {&lab, 1}};
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, send_all, &senders[i]), 0);
    uintptr_t seen[2] = {0};
    while (seen[0] + seen[1] < 2 * MESSAGES) {
        if (!io_mailbox_drain(&lab.boxes[2], check_order, seen) && seen[0] + seen[1] < 2 * MESSAGES)
            wait_for_wake(&lab.boxes[2], &lab.wakes[2]);
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    mail_lab_close(&lab);
}
END_TEST

CHECK_MAIN("io/mailbox", mail_of_each_sender_comes_in_order,
           many_messages_wake_once_and_nobody_who_does_not_wait,
           a_full_ring_is_told_when_it_has_room, one_busy_sender_does_not_starve_the_others,
           senders_that_wait_for_room_lose_nothing)
