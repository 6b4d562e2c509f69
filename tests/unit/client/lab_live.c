#include "unit/client/lab.h"

#include <check.h>
#include <stdlib.h>

#include "io/io.h"

struct lab_repeat {
    struct env_timer timer;
    struct list_node link; /* lab->live_repeats */
    struct lab *lab;
    env_conn conn;
    struct frame *frame;
};

static void live_accepted(void *actor, env_conn conn, unsigned listener, const char *peer)
{
    struct lab *lab = actor;
    (void)listener;
    (void)peer;
    ck_assert_uint_lt(conn.slot, LAB_CONNS);
    lab->conns[conn.slot].broker = 1;
    lab->conns[conn.slot].greeted = false;
}

static void live_received(void *actor, env_conn conn, struct frame *frame)
{
    lab_broker_handle(actor, conn, frame);
    frame_unref(frame);
}

void lab_live_answer(struct lab *lab, env_conn conn, struct frame *frame)
{
    const struct env_net *net = &io_node_env(lab->live, 0)->net;
    (void)net->send(net->self, conn, frame, 0, frame->used); /* the peer may be gone */
}

static void live_fire(struct env_timer *timer, uint64_t now_ns)
{
    struct lab_repeat *repeat = container_of(timer, struct lab_repeat, timer);
    (void)now_ns;
    list_remove(&repeat->link);
    lab_broker_handle(repeat->lab, repeat->conn, repeat->frame);
    frame_unref(repeat->frame);
    free(repeat);
}

void lab_live_repeat(struct lab *lab, env_conn conn, struct frame *frame, uint64_t after_ns)
{
    struct env *env = io_node_env(lab->live, 0);
    struct lab_repeat *repeat = calloc(1, sizeof(*repeat));
    *repeat = (struct lab_repeat){.lab = lab, .conn = conn, .frame = frame_ref(frame)};
    repeat->timer.fire = live_fire;
    list_push_back(&lab->live_repeats, &repeat->link);
    env->timer_start(env->self, &repeat->timer, env_now(env) + after_ns);
}

void lab_live_start(struct lab *lab, bool mute)
{
    struct io_listener listener = {.host = "127.0.0.1"};
    struct io_config config;
    char why[256];
    *lab = (struct lab){.next_producer_id = 1000, .metadata_offset = 10};
    lab->brokers[1].mute = mute;
    list_init(&lab->live_repeats);
    io_config_init(&config);
    config.listeners = &listener;
    config.listener_count = 1;
    err_t err = io_node_new(&config, &lab->live, why, sizeof(why));
    ck_assert_msg(err == ERR_OK, "%s", why);
    struct env *env = io_node_env(lab->live, 0);
    env->actor = lab;
    env->upcalls.accepted = live_accepted;
    env->upcalls.received = live_received;
    lab->live_port = io_node_port(lab->live, 0);
    struct lab_topic *topic = lab_add_topic(lab, "orders", 3);
    for (int32_t i = 0; i < 3; i++)
        topic->partitions[i].leader = 1;
    ck_assert_int_eq(io_node_start(lab->live), ERR_OK);
}

void lab_live_end(struct lab *lab)
{
    io_node_end(lab->live, 0, "the test is over");
    ck_assert_int_eq(io_node_join(lab->live), 0);
    struct list_node *node;
    while ((node = list_pop_front(&lab->live_repeats)) != NULL) {
        struct lab_repeat *repeat = list_entry(node, struct lab_repeat, link);
        frame_unref(repeat->frame);
        free(repeat);
    }
    io_node_free(lab->live);
    lab->live = NULL;
}
