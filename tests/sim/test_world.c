#include "sim/sim_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/check_main.h"
#include "wire/wire.h"

/* A peer answers each frame with the same bytes, or collects what it is told. */
struct peer {
    struct env *env;
    env_conn conn; /* the last one accepted or dialled */
    bool echoes;
    unsigned accepted, connected, frames, closed, drained, room, mails, dones;
    uint32_t received[4096]; /* correlation ids, in order */
    uint32_t mail_seen[2];
    bool in_order;
    err_t closed_err;
    env_conn closed_conn;
};

struct mail {
    struct env_message message;
    uint32_t number;
};

static void peer_accepted(void *actor, env_conn conn, unsigned listener, const char *name)
{
    struct peer *peer = actor;
    ck_assert_uint_eq(listener, 0);
    ck_assert_ptr_nonnull(name);
    peer->conn = conn;
    peer->accepted++;
}

static void peer_connected(void *actor, env_conn conn)
{
    struct peer *peer = actor;
    ck_assert(env_conn_equal(conn, peer->conn));
    peer->connected++;
}

static void peer_received(void *actor, env_conn conn, struct frame *frame)
{
    struct peer *peer = actor;
    struct wire_header header;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    peer->received[peer->frames++ % ARRAY_LEN(peer->received)] = header.correlation;
    if (peer->echoes)
        (void)peer->env->net.send(peer->env->net.self, conn, frame, 0, frame->used);
    else
        frame_unref(frame);
}

static void peer_closed(void *actor, env_conn conn, err_t err)
{
    struct peer *peer = actor;
    peer->closed++;
    peer->closed_err = err;
    peer->closed_conn = conn;
}

static void peer_drained(void *actor, env_conn conn)
{
    (void)conn;
    ((struct peer *)actor)->drained++;
}

static void peer_mail(void *actor, void *message)
{
    struct peer *peer = actor;
    struct mail *mail = message;
    if (mail->number != peer->mail_seen[mail->message.from]++)
        peer->in_order = false;
    peer->mails++;
    free(mail);
}

static void peer_room(void *actor, unsigned to)
{
    (void)to;
    ((struct peer *)actor)->room++;
}

static void peer_boot(struct peer *peer, struct sim_host *host, unsigned actor)
{
    memset(peer, 0, sizeof *peer);
    peer->in_order = true;
    peer->env = sim_host_env(host, actor);
    peer->env->actor = peer;
    peer->env->upcalls = (struct env_upcalls){
        .accepted = peer_accepted,
        .connected = peer_connected,
        .received = peer_received,
        .closed = peer_closed,
        .drained = peer_drained,
        .mail = peer_mail,
        .mail_room = peer_room,
    };
}

static void mail_free(struct env_message *message)
{
    free(container_of(message, struct mail, message));
}

/* A server that echoes and a client, each on a host of its own. */
struct lab {
    struct sim_world world;
    struct sim_host *hosts[2];
    struct peer server, client;
};

static void lab_init(struct lab *lab, uint64_t seed)
{
    sim_world_init(&lab->world, seed);
    for (int i = 0; i < 2; i++) {
        lab->hosts[i] = sim_host_add(&lab->world);
        lab->hosts[i]->message_free = mail_free;
        sim_host_boot(lab->hosts[i], 2);
    }
    lab->hosts[0]->port = 9000;
    lab->hosts[0]->accepting = 1;
    peer_boot(&lab->server, lab->hosts[0], 0);
    peer_boot(&lab->client, lab->hosts[1], 0);
    lab->server.echoes = true;
}

static void lab_dial(struct lab *lab)
{
    struct env *env = lab->client.env;
    ck_assert_int_eq(env->net.dial(env->net.self, "n0", 9000, &lab->client.conn), ERR_OK);
}

static void lab_connect(struct lab *lab)
{
    lab_dial(lab);
    sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(10));
    ck_assert_uint_eq(lab->client.connected, 1);
    ck_assert_uint_eq(lab->server.accepted, 1);
}

static void lab_send(struct lab *lab, enum wire_kind kind, uint16_t method, uint32_t correlation)
{
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = kind, .method = method, .correlation = correlation, .attachment_bytes = 1000});
    ck_assert_ptr_nonnull(frame);
    memset(frame->bytes + frame->used, 7, 1000);
    frame->used += 1000;
    struct env *env = lab->client.env;
    (void)env->net.send(env->net.self, lab->client.conn, frame, 0, frame->used);
}

static void lab_send_many(struct lab *lab, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        lab_send(lab, WIRE_REQUEST, WIRE_PRODUCE, i);
}

static void lab_fini(struct lab *lab)
{
    sim_world_fini(&lab->world);
    frame_cache_drain();
}

START_TEST(frames_come_back_whole_and_in_order)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    lab_send_many(&lab, 500);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.frames, 500);
    for (uint32_t i = 0; i < 500; i++)
        ck_assert_uint_eq(lab.client.received[i], i);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_frame_sent_in_parts_arrives_as_one)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST, .method = WIRE_FETCH, .correlation = 9, .attachment_bytes = 100});
    frame->used += 100;
    struct env *env = lab.client.env;
    for (size_t at = 0; at < frame->used; at++)
        ck_assert_int_eq(env->net.send(env->net.self, lab.client.conn, frame_ref(frame), at, 1),
                         ERR_OK);
    frame_unref(frame);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.frames, 1);
    ck_assert_uint_eq(lab.client.received[0], 9);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_cut_link_holds_frames_and_a_healed_one_delivers_them)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_cut(&lab.world, 0, 1, true);
    lab_send_many(&lab, 20);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 0);
    sim_heal(&lab.world);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.frames, 20);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_link_cut_one_way_lets_the_other_way_through)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_cut_one_way(&lab.world, 0, 1, true);
    lab_send_many(&lab, 5);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 5);
    ck_assert_uint_eq(lab.client.frames, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_connection_over_a_cut_link_breaks_in_the_end)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_cut(&lab.world, 0, 1, true);
    lab_send_many(&lab, 1);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(20000));
    ck_assert_uint_eq(lab.client.closed, 1);
    ck_assert_uint_eq(lab.server.closed, 1);
    ck_assert_int_eq(lab.client.closed_err, ERR_UNREACHABLE);
    sim_heal(&lab.world);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_reset_closes_both_ends_once)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    lab.world.net.reset_ppm = 1000000;
    lab_send_many(&lab, 3);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.closed, 1);
    ck_assert_uint_eq(lab.server.closed, 1);
    ck_assert_int_eq(lab.client.closed_err, ERR_IO);
    struct env *env = lab.client.env;
    ck_assert_int_eq(env->net.send(env->net.self, lab.client.conn, frame_new(16), 0, 0),
                     ERR_CLOSED);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_dropped_connection_is_told_to_the_other_end_only)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    struct env *env = lab.client.env;
    env->net.drop(env->net.self, lab.client.conn);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.closed, 0);
    ck_assert_uint_eq(lab.server.closed, 1);
    ck_assert_int_eq(lab.server.closed_err, ERR_CLOSED);
    ck_assert_uint_eq(lab.world.conns.next == &lab.world.conns, 1); /* nothing is kept of it */
    lab_fini(&lab);
}
END_TEST

START_TEST(a_killed_process_says_goodbye_and_its_address_refuses)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    lab_send_many(&lab, 3);
    sim_host_stop(lab.hosts[0]);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.closed, 1);
    ck_assert_int_eq(lab.client.closed_err, ERR_CLOSED);
    lab_dial(&lab);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.closed, 2);
    ck_assert_int_eq(lab.client.closed_err, ERR_REFUSED);
    ck_assert(env_conn_equal(lab.client.closed_conn, lab.client.conn));
    lab_fini(&lab);
}
END_TEST

START_TEST(a_machine_without_power_is_silent)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    lab.hosts[0]->powered = false;
    sim_host_stop(lab.hosts[0]);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(500));
    ck_assert_uint_eq(lab.client.closed, 0);
    lab_dial(&lab);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(10000));
    ck_assert_uint_eq(lab.client.closed, 2);
    ck_assert_int_eq(lab.client.closed_err, ERR_UNREACHABLE);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_host_restarts_and_is_dialled_again)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_host_stop(lab.hosts[0]);
    sim_host_boot(lab.hosts[0], 2);
    peer_boot(&lab.server, lab.hosts[0], 0);
    lab.server.echoes = true;
    lab_dial(&lab);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.connected, 2);
    lab_send_many(&lab, 2);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.frames, 2);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_paused_host_does_nothing_and_then_all)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_host_pause(lab.hosts[0], ENV_MS(5000));
    lab_send_many(&lab, 4);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(4990));
    ck_assert_uint_eq(lab.server.frames, 0);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(lab.client.frames, 4);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_stuck_actor_lags_behind_the_others_of_its_host)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    struct peer other;
    peer_boot(&other, lab.hosts[0], 1);
    lab_connect(&lab);
    sim_actor_pause(lab.hosts[0], 1, ENV_MS(500));
    struct env *env = lab.server.env;
    struct mail *mail = calloc(1, sizeof *mail);
    ck_assert_int_eq(env->mail.post(env->mail.self, 1, mail), ERR_OK);
    lab_send_many(&lab, 4);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(490));
    ck_assert_uint_eq(lab.client.frames, 4);
    ck_assert_uint_eq(other.mails, 0);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert_uint_eq(other.mails, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(mail_that_lags_holds_up_nothing_else)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    struct env *env = sim_host_env(lab.hosts[0], 1);
    sim_mail_lag(lab.hosts[0], 1, 0, ENV_MS(500));
    for (uint32_t i = 0; i < 3; i++) {
        struct mail *mail = calloc(1, sizeof *mail);
        mail->number = i;
        ck_assert_int_eq(env->mail.post(env->mail.self, 0, mail), ERR_OK);
    }
    lab_send_many(&lab, 4);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(490));
    ck_assert_uint_eq(lab.client.frames, 4);
    ck_assert_uint_eq(lab.server.mails, 0);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(20));
    ck_assert_uint_eq(lab.server.mails, 3);
    ck_assert(lab.server.in_order);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_slow_link_is_slow_one_way_and_in_order)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    sim_slow_link(&lab.world, 0, 1, ENV_MS(1000));
    lab_send_many(&lab, 50);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(20));
    ck_assert_uint_eq(lab.server.frames, 50);
    ck_assert_uint_lt(lab.client.frames, 50);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1100));
    ck_assert_uint_eq(lab.client.frames, 50);
    for (uint32_t i = 0; i < 50; i++)
        ck_assert_uint_eq(lab.client.received[i], i);
    lab_fini(&lab);
}
END_TEST

START_TEST(paused_reads_hold_frames_until_they_go_on)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    struct env *env = lab.server.env;
    env->net.pause_reads(env->net.self, lab.server.conn, true);
    lab_send_many(&lab, 100);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 0);
    ck_assert_uint_ge(lab.client.env->net.queued_bytes(lab.client.env->net.self, lab.client.conn),
                      100 * 1000);
    env->net.pause_reads(env->net.self, lab.server.conn, false);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.frames, 100);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_output_queue_over_its_bound_is_told_when_it_has_drained)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab.world.net.queue_bytes_max = 50000;
    lab_connect(&lab);
    lab_send_many(&lab, 10);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.drained, 0);
    lab_send_many(&lab, 100);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.client.drained, 1);
    lab_fini(&lab);
}
END_TEST

START_TEST(only_rafts_frames_are_lost_doubled_and_overtake)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab_connect(&lab);
    lab.server.echoes = false;
    lab.world.net.raft_loss_ppm = 200000;
    lab.world.net.raft_duplicate_ppm = 200000;
    lab.world.net.raft_reorder_ppm = 300000;
    lab_send_many(&lab, 500);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 500);
    for (uint32_t i = 0; i < 500; i++)
        ck_assert_uint_eq(lab.server.received[i], i);
    lab.server.frames = 0;
    for (uint32_t i = 0; i < 500; i++)
        lab_send(&lab, WIRE_ONEWAY, WIRE_RAFT, i);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(lab.server.frames, 500 - lab.world.frames_lost + lab.world.frames_duplicated);
    ck_assert_uint_gt(lab.world.frames_lost, 0);
    unsigned overtakes = 0;
    for (uint32_t i = 1; i < lab.server.frames; i++)
        overtakes += lab.server.received[i] < lab.server.received[i - 1];
    ck_assert_uint_gt(overtakes, 0);
    lab_fini(&lab);
}
END_TEST

START_TEST(mail_is_bounded_in_order_and_tells_of_room)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    struct peer to;
    peer_boot(&to, lab.hosts[1], 1);
    struct env *env = lab.client.env;
    uint32_t posted = 0;
    for (;;) {
        struct mail *mail = calloc(1, sizeof *mail);
        mail->number = posted;
        if (env->mail.post(env->mail.self, 1, mail) != ERR_OK) {
            free(mail);
            break;
        }
        posted++;
    }
    ck_assert_uint_eq(posted, SIM_MAILBOX);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(to.mails, posted);
    ck_assert(to.in_order);
    ck_assert_uint_eq(lab.client.room, 1);
    /* what nobody takes is freed with the host */
    struct mail *left = calloc(1, sizeof *left);
    ck_assert_int_eq(env->mail.post(env->mail.self, 1, left), ERR_OK);
    lab_fini(&lab);
}
END_TEST

struct alarm {
    struct env_timer timer;
    struct env *env;
    uint64_t fired_ns;
    unsigned times;
};

static void alarm_fire(struct env_timer *timer, uint64_t now_ns)
{
    struct alarm *alarm = container_of(timer, struct alarm, timer);
    alarm->fired_ns = now_ns;
    if (++alarm->times < 3)
        alarm->env->timer_start(alarm->env->self, timer, now_ns + ENV_MS(10));
}

START_TEST(timers_fire_when_they_are_due_and_not_when_stopped)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    lab.hosts[1]->clock_ppm = 150;
    struct env *env = lab.client.env;
    struct alarm first = {.env = env, .timer.fire = alarm_fire};
    struct alarm second = {.env = env, .timer.fire = alarm_fire};
    uint64_t began = env_now(env);
    env->timer_start(env->self, &first.timer, began + ENV_MS(50));
    env->timer_start(env->self, &second.timer, began + ENV_MS(50));
    env->timer_stop(env->self, &second.timer);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(49));
    ck_assert_uint_eq(first.times, 0);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(1000));
    ck_assert_uint_eq(first.times, 3);
    ck_assert_uint_ge(first.fired_ns, began + ENV_MS(70));
    ck_assert_uint_le(first.fired_ns, began + ENV_MS(72));
    ck_assert_uint_eq(second.times, 0);
    lab_fini(&lab);
}
END_TEST

struct work {
    struct env_done op;
    bool ran, done;
};

static void work_run(void *arg)
{
    ((struct work *)arg)->ran = true;
}

static void work_done(struct env_done *op, err_t err)
{
    struct work *work = container_of(op, struct work, op);
    ck_assert_int_eq(err, ERR_OK);
    ck_assert(work->ran);
    work->done = true;
}

START_TEST(work_is_done_elsewhere_and_told_later)
{
    struct lab lab;
    lab_init(&lab, check_main_seed());
    struct env *env = lab.client.env;
    struct work work = {.op.done = work_done}, dropped = {.op.done = work_done};
    ck_assert_int_eq(env->workers.submit(env->workers.self, work_run, &work, &work.op), ERR_OK);
    ck_assert(!work.ran);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert(work.done);
    ck_assert_int_eq(env->workers.submit(env->workers.self, work_run, &dropped, &dropped.op),
                     ERR_OK);
    sim_host_stop(lab.hosts[1]);
    sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
    ck_assert(!dropped.done);
    lab_fini(&lab);
}
END_TEST

/* Some traffic with all faults; the hash of the run. */
static uint64_t run_of(uint64_t seed)
{
    struct lab lab;
    lab_init(&lab, seed);
    lab.world.net.raft_loss_ppm = lab.world.net.raft_reorder_ppm = 100000;
    lab.world.net.reset_ppm = 1000;
    lab_dial(&lab);
    for (uint32_t i = 0; i < 300; i++) {
        sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(3));
        if (lab.client.closed > 0) {
            lab.client.closed = 0;
            lab_dial(&lab);
            sim_run_until(&lab.world, lab.world.now_ns + ENV_MS(100));
        }
        lab_send(&lab, i % 3 == 0 ? WIRE_ONEWAY : WIRE_REQUEST, WIRE_RAFT, i);
    }
    sim_note(&lab.world, lab.client.frames);
    uint64_t hash = lab.world.hash;
    lab_fini(&lab);
    return hash;
}

struct step_seen {
    uint64_t at_ns, value;
};
static struct step_seen step_seen;

static void step_run(struct sim_world *world, const uint64_t args[SIM_LATER_ARGS])
{
    step_seen = (struct step_seen){world->now_ns, args[0]};
    if (args[0] == 1)
        sim_later(world, 10, step_run, (const uint64_t[SIM_LATER_ARGS]){2});
}

START_TEST(what_comes_later_comes_once_and_may_go_on)
{
    struct sim_world world;
    sim_world_init(&world, check_main_seed());
    sim_later(&world, 100, step_run, (const uint64_t[SIM_LATER_ARGS]){1});
    sim_run_until(&world, 105);
    ck_assert_uint_eq(step_seen.at_ns, 100);
    sim_run_until(&world, 1000);
    ck_assert_uint_eq(step_seen.at_ns, 110);
    ck_assert_uint_eq(step_seen.value, 2);
    sim_later(&world, 100, step_run, (const uint64_t[SIM_LATER_ARGS]){3});
    sim_world_fini(&world); /* the leak checker looks */
}
END_TEST

/* Of two directories, one file in each, made in turns: how many names survive a power cut. */
static void names_survive(bool any_order, uint64_t seed, unsigned into[2])
{
    struct sim_disk *disk = sim_disk_new(&(struct sim_disk_options){.seed = seed});
    struct sim_disk_view view;
    sim_disk_any_order(disk, any_order);
    sim_disk_view_init(&view, disk, NULL, NULL);
    struct env_disk *env = &view.env;
    char name[16];
    ck_assert_int_eq(env->make_directory(env->self, "a"), ERR_OK);
    ck_assert_int_eq(env->make_directory(env->self, "b"), ERR_OK);
    ck_assert_int_eq(env->sync_names(env->self, ""), ERR_OK);
    for (int i = 0; i < 20; i++) {
        env_file file;
        (void)snprintf(name, sizeof name, "%c/%02d", "ab"[i % 2], i / 2); /* fits */
        ck_assert_int_eq(env->open(env->self, name, ENV_OPEN_CREATE, &file), ERR_OK);
        env->close(env->self, file);
    }
    sim_disk_power_cut(disk);
    for (int i = 0; i < 20; i++) {
        env_file file;
        (void)snprintf(name, sizeof name, "%c/%02d", "ab"[i % 2], i / 2); /* fits */
        if (env->open(env->self, name, 0, &file) != ERR_OK)
            continue;
        ck_assert_uint_eq(into[i % 2], (unsigned)i / 2); /* of each directory a prefix */
        into[i % 2]++;
        env->close(env->self, file);
    }
    sim_disk_free(disk);
}

START_TEST(in_any_order_each_directory_keeps_its_own_prefix)
{
    bool apart = false;
    for (uint64_t i = 0; i < 50; i++) {
        unsigned strict[2] = {0, 0}, ordered[2] = {0, 0};
        names_survive(false, check_main_seed() + i, ordered);
        names_survive(true, check_main_seed() + i, strict);
        ck_assert(ordered[0] == ordered[1] || ordered[0] == ordered[1] + 1);
        apart = apart || strict[0] + 1 < strict[1] || strict[0] > strict[1] + 1;
    }
    ck_assert(apart);
}
END_TEST

START_TEST(the_same_seed_gives_the_same_run)
{
    uint64_t seed = check_main_seed();
    ck_assert_uint_eq(run_of(seed), run_of(seed));
    ck_assert_uint_ne(run_of(seed), run_of(seed + 1));
}
END_TEST

CHECK_MAIN("sim/world", frames_come_back_whole_and_in_order, a_frame_sent_in_parts_arrives_as_one,
           a_cut_link_holds_frames_and_a_healed_one_delivers_them,
           a_link_cut_one_way_lets_the_other_way_through,
           a_connection_over_a_cut_link_breaks_in_the_end, a_reset_closes_both_ends_once,
           a_dropped_connection_is_told_to_the_other_end_only,
           a_killed_process_says_goodbye_and_its_address_refuses, a_machine_without_power_is_silent,
           a_host_restarts_and_is_dialled_again, a_paused_host_does_nothing_and_then_all,
           a_stuck_actor_lags_behind_the_others_of_its_host, mail_that_lags_holds_up_nothing_else,
           a_slow_link_is_slow_one_way_and_in_order, paused_reads_hold_frames_until_they_go_on,
           an_output_queue_over_its_bound_is_told_when_it_has_drained,
           only_rafts_frames_are_lost_doubled_and_overtake,
           mail_is_bounded_in_order_and_tells_of_room,
           timers_fire_when_they_are_due_and_not_when_stopped,
           work_is_done_elsewhere_and_told_later, what_comes_later_comes_once_and_may_go_on,
           in_any_order_each_directory_keeps_its_own_prefix, the_same_seed_gives_the_same_run)
