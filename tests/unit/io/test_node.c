#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/check_main.h"
#include "unit/io/lab.h"

static void expect_no_node(const struct io_config *config, err_t wanted, const char *text)
{
    struct io_node *node = NULL;
    char why[256];
    ck_assert_int_eq(io_node_new(config, &node, why, sizeof(why)), wanted);
    ck_assert_ptr_null(node);
    ck_assert_msg(strstr(why, text) != NULL, "\"%s\" does not say \"%s\"", why, text);
}

START_TEST(a_busy_port_is_named)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    struct io_listener busy = {.host = "127.0.0.1", .port = io_node_port(lab.node, 0)};
    struct io_config second = lab_config();
    second.listeners = &busy;
    char text[64];
    snprintf(text, sizeof(text), "127.0.0.1:%u: Address already in use", busy.port);
    expect_no_node(&second, ERR_BUSY, text);
    lab_close(&lab);
}
END_TEST

START_TEST(a_missing_directory_is_named)
{
    static const char *const paths[] = {"/nonexistent/logs"};
    struct io_config config = lab_config();
    config.directories = paths;
    config.directory_count = 1;
    expect_no_node(&config, ERR_NOT_FOUND, "/nonexistent/logs");
}
END_TEST

START_TEST(illegal_configurations_are_refused)
{
    struct io_config config = lab_config();
    config.shard_count = 0;
    expect_no_node(&config, ERR_INVALID, "out of range");
    config = lab_config();
    config.mailbox_slots = 100;
    expect_no_node(&config, ERR_INVALID, "out of range");
    config = lab_config();
    config.frame_bytes_max = UINT32_MAX;
    expect_no_node(&config, ERR_INVALID, "out of range");
}
END_TEST

START_TEST(a_node_that_never_started_is_freed)
{
    struct io_config config = lab_config();
    struct io_node *node = NULL;
    char why[256];
    ck_assert_int_eq(io_node_new(&config, &node, why, sizeof(why)), ERR_OK);
    ck_assert_uint_ne(io_node_port(node, 0), 0);
    io_node_free(node);
    io_node_free(NULL);
}
END_TEST

static void exit_with_three(struct lab_actor *actor, void *arg)
{
    (void)arg;
    actor->env->exit_node(actor->env->self, 3, "asked to");
    actor->env->exit_node(actor->env->self, 4, "too late");
}

static void count_call(struct lab_actor *actor, void *arg)
{
    lab_add(actor->lab, arg);
}

START_TEST(an_actor_ends_the_node_with_its_code)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    struct lab lab;
    lab_open(&lab, &config);
    lab_call(&lab, 1, exit_with_three, NULL);
    ck_assert_int_eq(io_node_wait(lab.node, NULL), 0);
    ck_assert_int_eq(io_node_join(lab.node), 3);
    io_node_free(lab.node);
}
END_TEST

START_TEST(a_signal_comes_out_of_wait)
{
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    ck_assert_int_eq(kill(getpid(), SIGTERM), 0);
    ck_assert_int_eq(io_node_wait(lab.node, &signals), SIGTERM);
    lab_call(&lab, 0, exit_with_three, NULL); /* as the broker would, having drained */
    ck_assert_int_eq(io_node_wait(lab.node, &signals), 0);
    ck_assert_int_eq(io_node_join(lab.node), 3);
    io_node_free(lab.node);
}
END_TEST

/* ---- mail ---- */

struct gate {
    sem_t reached, open;
};

static void wait_at_gate(struct lab_actor *actor, void *arg)
{
    (void)actor;
    struct gate *gate = arg;
    sem_post(&gate->reached);
    while (sem_wait(&gate->open) != 0)
        ;
}

struct filling {
    unsigned posted, calls;
    err_t last;
};

static void fill_the_ring(struct lab_actor *actor, void *arg)
{
    struct filling *filling = arg;
    while ((filling->last = lab_post(actor, 1, count_call, &filling->calls)) == ERR_OK)
        filling->posted++;
}

START_TEST(a_full_mailbox_tells_its_sender_when_there_is_room)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    struct lab lab;
    lab_open(&lab, &config);
    struct gate gate;
    sem_init(&gate.reached, 0, 0);
    sem_init(&gate.open, 0, 0);
    lab_tell(&lab, 1, wait_at_gate, &gate);
    while (sem_wait(&gate.reached) != 0)
        ;
    struct filling filling = {0};
    lab_call(&lab, 0, fill_the_ring, &filling);
    ck_assert_int_eq(filling.last, ERR_FULL);
    ck_assert_uint_eq(filling.posted, config.mailbox_slots);
    ck_assert_uint_eq(lab_counts(&lab, 0).room, 0);
    sem_post(&gate.open);
    lab_wait(&lab, 0, room, 1);
    lab_wait_until(&lab, &filling.calls, filling.posted);
    ck_assert_uint_eq(lab_counts(&lab, 0).room, 1);
    sem_destroy(&gate.reached);
    sem_destroy(&gate.open);
    lab_close(&lab);
}
END_TEST

/* ---- timers, workers, disks through the env ---- */

struct work {
    struct env_timer timer;
    struct env_done op;
    struct lab_actor *actor;
    pthread_t ran_on;
    uint64_t due_ns;
    err_t err;
    unsigned fired, done;
};

static void work_fired(struct env_timer *timer, uint64_t now_ns)
{
    struct work *work = container_of(timer, struct work, timer);
    ck_assert_uint_ge(now_ns, work->due_ns);
    ck_assert_uint_ge(env_now(work->actor->env), now_ns);
    lab_add(work->actor->lab, &work->fired);
}

static void start_timer(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    work->actor = actor;
    work->timer.fire = work_fired;
    work->due_ns = env_now(actor->env) + ENV_MS(5);
    actor->env->timer_start(actor->env->self, &work->timer, work->due_ns);
}

START_TEST(an_idle_loop_wakes_for_its_timer)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    struct work work = {0};
    lab_call(&lab, 0, start_timer, &work);
    lab_wait_until(&lab, &work.fired, 1);
    lab_close(&lab);
}
END_TEST

static void start_timer_and_exit(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    start_timer(actor, work);
    actor->env->timer_start(actor->env->self, &work->timer, 1); /* due at once */
    exit_with_three(actor, NULL);
}

START_TEST(after_exit_node_no_upcall_comes)
{
    struct io_config config = lab_config();
    struct lab lab;
    lab_open(&lab, &config);
    struct work work = {0};
    lab_call(&lab, 0, start_timer_and_exit, &work);
    ck_assert_int_eq(io_node_join(lab.node), 3);
    ck_assert_uint_eq(work.fired, 0);
    io_node_free(lab.node);
}
END_TEST

static void work_run(void *arg)
{
    struct work *work = arg;
    work->ran_on = pthread_self();
}

static void work_done(struct env_done *op, err_t err)
{
    struct work *work = container_of(op, struct work, op);
    work->err = err;
    ck_assert(!pthread_equal(work->ran_on, pthread_self()));
    lab_add(work->actor->lab, &work->done);
}

static void submit_work(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    work->actor = actor;
    work->op.done = work_done;
    const struct env_workers *workers = &actor->env->workers;
    work->err = workers->submit(workers->self, work_run, work, &work->op);
}

START_TEST(work_runs_elsewhere_and_is_done_here)
{
    struct io_config config = lab_config();
    config.shard_count = 2;
    struct lab lab;
    lab_open(&lab, &config);
    static struct work works[200];
    for (unsigned i = 0; i < ARRAY_LEN(works); i++)
        lab_call(&lab, i % 2, submit_work, &works[i]);
    for (unsigned i = 0; i < ARRAY_LEN(works); i++) {
        lab_wait_until(&lab, &works[i].done, 1);
        ck_assert_int_eq(works[i].err, ERR_OK);
    }
    lab_close(&lab);
}
END_TEST

static void submit_three(struct lab_actor *actor, void *arg)
{
    for (unsigned i = 0; i < 3; i++)
        submit_work(actor, (struct work *)arg + i);
}

START_TEST(a_full_queue_of_work_is_said)
{
    struct io_config config = lab_config();
    config.worker_threads = 0; /* nobody takes any */
    config.worker_queue_max = 2;
    struct lab lab;
    lab_open(&lab, &config);
    struct work works[3] = {0};
    lab_call(&lab, 0, submit_three, works);
    ck_assert_int_eq(works[0].err, ERR_OK);
    ck_assert_int_eq(works[1].err, ERR_OK);
    ck_assert_int_eq(works[2].err, ERR_FULL);
    lab_close(&lab);
}
END_TEST

static void write_and_sync(struct lab_actor *actor, void *arg)
{
    struct work *work = arg;
    const struct env_disk *disk = &actor->env->disks[1];
    env_file file;
    work->actor = actor;
    work->op.done = work_done;
    struct iovec part = {(void *)(uintptr_t) "text", 4};
    ck_assert_uint_eq(actor->env->disk_count, 2);
    ck_assert_int_eq(disk->open(disk->self, "f", ENV_OPEN_CREATE, &file), ERR_OK);
    ck_assert_int_eq(disk->write(disk->self, file, 0, &part, 1), ERR_OK);
    ck_assert_int_eq(disk->sync(disk->self, file, &work->op), ERR_OK);
    disk->close(disk->self, file);
}

START_TEST(syncs_of_all_shards_complete_at_home)
{
    char paths[2][LAB_PATH_SIZE];
    lab_make_directory(paths[0]);
    lab_make_directory(paths[1]);
    struct io_config config = lab_config();
    config.shard_count = 2;
    config.directories = (const char *const[]){paths[0], paths[1]};
    config.directory_count = 2;
    struct lab lab;
    lab_make(&lab, &config);
    static struct work works[101];
    write_and_sync(&lab.actors[0], &works[100]); /* before the start, by main */
    lab_start(&lab);
    for (unsigned i = 0; i < 100; i++)
        lab_call(&lab, i % 2, write_and_sync, &works[i]);
    for (unsigned i = 0; i < ARRAY_LEN(works); i++) {
        lab_wait_until(&lab, &works[i].done, 1);
        ck_assert_int_eq(works[i].err, ERR_OK);
    }
    lab_close(&lab);
    lab_remove_directory(paths[0]);
    lab_remove_directory(paths[1]);
}
END_TEST

CHECK_MAIN("io/node", a_busy_port_is_named, a_missing_directory_is_named,
           illegal_configurations_are_refused, a_node_that_never_started_is_freed,
           an_actor_ends_the_node_with_its_code, after_exit_node_no_upcall_comes,
           a_signal_comes_out_of_wait, a_full_mailbox_tells_its_sender_when_there_is_room,
           an_idle_loop_wakes_for_its_timer, work_runs_elsewhere_and_is_done_here,
           a_full_queue_of_work_is_said, syncs_of_all_shards_complete_at_home)
