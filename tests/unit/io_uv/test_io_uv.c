#include "io_uv/io_uv.h"

#include "lib/check_main.h"
#include "unit/io/lab.h"

/* Actor 0 is the only shard, actor 1 the quorum. */
struct uv_lab {
    struct lab lab;
    char path[LAB_PATH_SIZE];
};

static void uv_lab_open(struct uv_lab *lab)
{
    lab_make_directory(lab->path);
    struct io_config config = lab_config();
    config.metadata_directory = lab->path;
    lab_make(&lab->lab, &config);
    ck_assert_int_eq(io_uv_add_quorum(lab->lab.node), ERR_OK);
    lab_start(&lab->lab);
}

static void uv_lab_close(struct uv_lab *lab)
{
    lab_close(&lab->lab);
    lab_remove_directory(lab->path);
}

/* ---- mail ---- */

enum { ROUNDS = 5000 };

struct ball {
    unsigned throws;
    unsigned caught[2];
};

static void throw_it(struct lab_actor *actor, void *arg)
{
    struct ball *ball = arg;
    lab_add(actor->lab, &ball->caught[actor->number]);
    if (++ball->throws < 2 * ROUNDS)
        ck_assert_int_eq(lab_post(actor, 1 - actor->number, throw_it, ball), ERR_OK);
}

START_TEST(shard_and_quorum_send_each_other_mail)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    struct ball ball = {0};
    lab_tell(&lab.lab, 0, throw_it, &ball);
    lab_wait_until(&lab.lab, &ball.caught[1], ROUNDS);
    ck_assert_uint_eq(ball.caught[0], ROUNDS);
    uv_lab_close(&lab);
}
END_TEST

struct row {
    unsigned next, got, room_before;
};

static void take_in_row(struct lab_actor *actor, void *arg)
{
    struct row *row = arg;
    lab_add(actor->lab, &row->got);
}

static void send_row(struct lab_actor *actor, void *arg)
{
    struct row *row = arg;
    while (row->next < ROUNDS && lab_post(actor, 0, take_in_row, row) == ERR_OK)
        row->next++;
}

START_TEST(the_quorum_hears_when_a_full_shard_has_room)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    struct row row = {0};
    for (;;) {
        row.room_before = lab_counts(&lab.lab, 1).room;
        lab_call(&lab.lab, 1, send_row, &row);
        if (row.next == ROUNDS)
            break;
        lab_wait(&lab.lab, 1, room, row.room_before + 1);
    }
    lab_wait_until(&lab.lab, &row.got, ROUNDS);
    uv_lab_close(&lab);
}
END_TEST

/* ---- timers, disk, workers ---- */

struct work {
    struct lab_actor *actor;
    struct env_done op;
    err_t err;
    unsigned done, fired, order[3];
};

struct timed {
    struct env_timer timer;
    struct work *work;
    unsigned number;
};

static void timed_fired(struct env_timer *timer, uint64_t now_ns)
{
    struct timed *timed = container_of(timer, struct timed, timer);
    struct work *work = timed->work;
    ck_assert_uint_ge(env_now(work->actor->env), now_ns);
    work->order[work->fired] = timed->number;
    lab_add(work->actor->lab, &work->fired);
}

static void start_timers(struct lab_actor *actor, void *arg)
{
    static const uint64_t due_ms[] = {9, 3, 6};
    struct timed *timed = arg;
    uint64_t now = env_now(actor->env);
    timed->work->actor = actor;
    for (unsigned i = 0; i < ARRAY_LEN(due_ms); i++) {
        timed[i] = (struct timed){.timer.fire = timed_fired, .work = timed->work, .number = i};
        actor->env->timer_start(actor->env->self, &timed[i].timer, now + ENV_MS(due_ms[i]));
    }
}

START_TEST(timers_of_the_quorum_fire_in_order)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    struct work work = {0};
    struct timed timed[3] = {{.work = &work}};
    lab_call(&lab.lab, 1, start_timers, timed);
    lab_wait_until(&lab.lab, &work.fired, 3);
    ck_assert_uint_eq(work.order[0], 1);
    ck_assert_uint_eq(work.order[1], 2);
    ck_assert_uint_eq(work.order[2], 0);
    uv_lab_close(&lab);
}
END_TEST

static void work_done(struct env_done *op, err_t err)
{
    struct work *work = container_of(op, struct work, op);
    work->err = err;
    lab_add(work->actor->lab, &work->done);
}

static void write_and_sync(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    const struct env_disk *disk = actor->env->disks;
    ck_assert_uint_eq(actor->env->disk_count, 1);
    ck_assert_ptr_null(actor->env->net.dial); /* the quorum has no sockets */
    work->actor = actor;
    work->op.done = work_done;
    env_file file;
    struct iovec part = {(void *)(uintptr_t) "vote", 4};
    ck_assert_int_eq(disk->open(disk->self, "vote", ENV_OPEN_CREATE, &file), ERR_OK);
    ck_assert_int_eq(disk->write(disk->self, file, 0, &part, 1), ERR_OK);
    ck_assert_int_eq(disk->sync(disk->self, file, &work->op), ERR_OK);
    disk->close(disk->self, file);
}

START_TEST(syncs_of_the_metadata_directory_wake_the_quorum)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    for (unsigned i = 0; i < 50; i++) {
        struct work work = {0};
        lab_call(&lab.lab, 1, write_and_sync, &work);
        lab_wait_until(&lab.lab, &work.done, 1);
        ck_assert_int_eq(work.err, ERR_OK);
    }
    uv_lab_close(&lab);
}
END_TEST

static void count_run(void *arg)
{
    ++*(unsigned *)arg;
}

static void submit_work(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    const struct env_workers *workers = &actor->env->workers;
    work->actor = actor;
    work->op.done = work_done;
    ck_assert_int_eq(workers->submit(workers->self, count_run, &work->order[0], &work->op), ERR_OK);
}

START_TEST(work_of_the_quorum_is_done_at_home)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    struct work work = {0};
    lab_call(&lab.lab, 1, submit_work, &work);
    lab_wait_until(&lab.lab, &work.done, 1);
    ck_assert_int_eq(work.err, ERR_OK);
    ck_assert_uint_eq(work.order[0], 1);
    uv_lab_close(&lab);
}
END_TEST

static void exit_with_three(struct lab_actor *actor, void *arg)
{
    (void)arg;
    actor->env->exit_node(actor->env->self, 3, "asked to");
}

START_TEST(the_quorum_ends_the_node_with_its_code)
{
    struct uv_lab lab;
    uv_lab_open(&lab);
    lab_call(&lab.lab, 1, exit_with_three, NULL);
    ck_assert_int_eq(io_node_wait(lab.lab.node, NULL), 0);
    ck_assert_int_eq(io_node_join(lab.lab.node), 3);
    io_node_free(lab.lab.node);
    lab_remove_directory(lab.path);
}
END_TEST

CHECK_MAIN("io_uv", shard_and_quorum_send_each_other_mail,
           the_quorum_hears_when_a_full_shard_has_room, timers_of_the_quorum_fire_in_order,
           syncs_of_the_metadata_directory_wake_the_quorum, work_of_the_quorum_is_done_at_home,
           the_quorum_ends_the_node_with_its_code)
