/* The contract of struct raft_io, without raft above it: what raft may ask at once, and in which
 * order it is done and told. */
#include "quorum/raft_io.h"

#include <stdlib.h>

#include "base/logger.h"
#include "lib/check_main.h"
#include "sim/sim_world.h"

enum { TOLD_MAX = 64 };

struct io_lab {
    struct sim_world world;
    struct sim_host *host;
    struct sim_disk *disk;
    struct env *env;
    struct quorum_io io;
    struct raft raft;
    char told[TOLD_MAX]; /* names of requests, in the order of their callbacks */
    unsigned told_count;
    unsigned inside; /* in a call of raft_io: nothing may call back */
    char failed[256];
    unsigned sent;
};

static struct io_lab *lab_now;

static void told(char name)
{
    ck_assert_uint_eq(lab_now->inside, 0);
    ck_assert_uint_lt(lab_now->told_count, TOLD_MAX - 1);
    lab_now->told[lab_now->told_count++] = name;
}

static void no_upcall(void *self)
{
    (void)self;
}

static void pump(void *self)
{
    struct io_lab *lab = self;
    while (!lab->io.failed && quorum_io_drain(&lab->io))
        continue;
}

static void failed(void *self, const char *why)
{
    (void)snprintf(((struct io_lab *)self)->failed, 256, "%s", why);
}

static bool posted(void *self, node_id_t node, const char *address, struct frame *frame)
{
    (void)node;
    (void)address;
    ((struct io_lab *)self)->sent++;
    frame_unref(frame);
    return true;
}

static void flushed(void *owner, offset_t end, err_t err)
{
    struct io_lab *lab = owner;
    quorum_io_flushed(&lab->io, end, err);
    pump(lab);
}

static void ignore_mail(void *actor, void *message)
{
    (void)actor;
    (void)message;
}

static void lab_open(struct io_lab *lab)
{
    lab_now = lab;
    sim_host_boot(lab->host, 1);
    lab->env = sim_host_env(lab->host, 0);
    lab->env->upcalls.mail = ignore_mail;
    struct vote_file vote;
    err_t err = store_open(lab->env, NULL, (struct log_upcalls){flushed, lab}, &lab->io.store,
                           &lab->io.loaded);
    ck_assert_int_eq(err, ERR_OK);
    err = vote_open(&lab->env->disks[0], &vote);
    if (err == ERR_NOT_FOUND) {
        ck_assert_int_eq(vote_create(&lab->env->disks[0], 1), ERR_OK);
        err = vote_open(&lab->env->disks[0], &vote);
    }
    ck_assert_int_eq(err, ERR_OK);
    quorum_io_init(&lab->io, &(struct quorum_io_args){
                                 .env = lab->env,
                                 .owner = {lab, no_upcall, pump, failed, posted},
                                 .raft = &lab->raft,
                                 .vote = &vote,
                             });
    lab->io.raft_io.data = &lab->raft;
}

static void closed(struct raft_io *io)
{
    (void)io;
}

static void lab_crash(struct io_lab *lab)
{
    lab->io.raft_io.close(&lab->io.raft_io, closed);
    sim_disk_power_cut(lab->disk);
    sim_host_stop(lab->host);
    memset(&lab->io, 0, sizeof lab->io);
    memset(lab->told, 0, sizeof lab->told);
    lab->told_count = 0;
}

static struct io_lab *lab_new(void)
{
    struct io_lab *lab = calloc(1, sizeof *lab);
    uint64_t seed = check_main_seed();
    logger_set(LOGGER_OFF, NULL, NULL, false);
    sim_world_init(&lab->world, seed);
    lab->disk = sim_disk_new(
        &(struct sim_disk_options){.seed = seed, .sync_ns_min = 1000000, .sync_ns_max = 3000000});
    lab->host = sim_host_add(&lab->world);
    lab->host->disk = lab->disk;
    lab_open(lab);
    return lab;
}

static void lab_free(struct io_lab *lab)
{
    lab_crash(lab);
    sim_world_fini(&lab->world);
    sim_disk_free(lab->disk);
    free(lab);
}

static void run(struct io_lab *lab)
{
    sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(50));
}

/* ---- requests, named by a letter ---- */

struct request {
    union {
        struct raft_io_append append;
        struct raft_io_snapshot_put put;
        struct raft_io_send send;
    };
    struct raft_entry entries[4];
    struct raft_snapshot snapshot;
    uint8_t data[4][16];
};

static struct request requests[128];

static void append_told(struct raft_io_append *append, int status)
{
    ck_assert_int_eq(status, 0);
    told((char)(container_of(append, struct request, append) - requests));
}

static void put_told(struct raft_io_snapshot_put *put, int status)
{
    struct request *request = container_of(put, struct request, put);
    raft_configuration_close(&request->snapshot.configuration);
    if (status != 0) {
        ck_assert_str_ne(lab_now->failed, "");
        return;
    }
    raft_free(request->snapshot.bufs); /* else close does it */
    told((char)(request - requests));
}

static int append(struct io_lab *lab, char name, raft_term term, unsigned count, size_t len)
{
    struct request *request = &requests[(int)name];
    for (unsigned i = 0; i < count; i++) {
        memset(request->data[i], name, sizeof request->data[i]);
        request->entries[i] =
            (struct raft_entry){.term = term, .type = RAFT_COMMAND, .buf = {request->data[i], len}};
    }
    lab->inside++;
    int rv = lab->io.raft_io.append(&lab->io.raft_io, &request->append, request->entries, count,
                                    append_told);
    lab->inside--;
    return rv;
}

static void truncate_from(struct io_lab *lab, raft_index index)
{
    lab->inside++;
    ck_assert_int_eq(lab->io.raft_io.truncate(&lab->io.raft_io, index), 0);
    lab->inside--;
}

static void put(struct io_lab *lab, char name, raft_index index, raft_term term, unsigned trailing)
{
    struct request *request = &requests[(int)name];
    request->snapshot =
        (struct raft_snapshot){.index = index, .term = term, .configuration_index = 1, .n_bufs = 1};
    raft_configuration_init(&request->snapshot.configuration);
    ck_assert_int_eq(
        raft_configuration_add(&request->snapshot.configuration, 1, "host:1", RAFT_VOTER), 0);
    request->snapshot.bufs = raft_malloc(sizeof *request->snapshot.bufs);
    request->snapshot.bufs[0] = (struct raft_buffer){request->data, 16};
    lab->inside++;
    int rv = lab->io.raft_io.snapshot_put(&lab->io.raft_io, trailing, &request->put,
                                          &request->snapshot, put_told);
    lab->inside--;
    ck_assert_int_eq(rv, 0);
}

static void check_log(struct io_lab *lab, raft_index first, const char *letters)
{
    const struct store_loaded *loaded = &lab->io.loaded;
    ck_assert_uint_eq(loaded->entry_count, strlen(letters));
    ck_assert_uint_eq(store_first(&lab->io.store), first);
    for (size_t i = 0; i < loaded->entry_count; i++)
        ck_assert_int_eq(loaded->entries[i].data.data[0], letters[i]);
}

/* ---- tests ---- */

START_TEST(appends_are_told_in_order_when_durable)
{
    struct io_lab *lab = lab_new();
    for (char name = 'a'; name <= 'h'; name++)
        ck_assert_int_eq(append(lab, name, 1, 2, 8), 0);
    ck_assert_str_eq(lab->told, "");
    run(lab);
    ck_assert_str_eq(lab->told, "abcdefgh");
    lab_crash(lab);
    lab_open(lab);
    check_log(lab, 1, "aabbccddeeffgghh");
    lab_free(lab);
}
END_TEST

START_TEST(an_entry_of_odd_length_is_refused)
{
    struct io_lab *lab = lab_new();
    ck_assert_int_eq(append(lab, 'a', 1, 1, 9), RAFT_INVALID);
    ck_assert_int_eq(append(lab, 'b', 1, 1, 16), 0);
    run(lab);
    ck_assert_str_eq(lab->told, "b");
    lab_free(lab);
}
END_TEST

START_TEST(a_truncation_between_two_appends_cuts_only_the_first)
{
    struct io_lab *lab = lab_new();
    ck_assert_int_eq(append(lab, 'a', 1, 4, 8), 0);
    ck_assert_int_eq(append(lab, 'b', 1, 2, 8), 0);
    truncate_from(lab, 3);
    ck_assert_int_eq(append(lab, 'c', 2, 3, 8), 0);
    ck_assert_str_eq(lab->told, "");
    run(lab);
    ck_assert_str_eq(lab->told,
                     "abc"); /* all in their turn: raft finds by the terms what is gone */
    lab_crash(lab);
    lab_open(lab);
    check_log(lab, 1, "aaccc");
    lab_free(lab);
}
END_TEST

START_TEST(an_own_snapshot_lets_appends_and_truncations_pass)
{
    struct io_lab *lab = lab_new();
    ck_assert_int_eq(append(lab, 'a', 1, 4, 8), 0);
    run(lab);
    put(lab, 'p', 2, 1, 1);
    ck_assert_int_eq(append(lab, 'b', 1, 2, 8), 0);
    truncate_from(lab, 6);
    ck_assert_int_eq(append(lab, 'c', 2, 1, 8), 0);
    run(lab);
    ck_assert_uint_eq(lab->told_count, 4);
    lab_crash(lab);
    lab_open(lab);
    check_log(lab, 1, "aaaabc"); /* one segment: it stays whole */
    ck_assert_uint_eq(lab->io.loaded.head.index, 2);
    lab_free(lab);
}
END_TEST

START_TEST(what_comes_after_an_install_waits_for_it)
{
    struct io_lab *lab = lab_new();
    ck_assert_int_eq(append(lab, 'a', 1, 4, 8), 0);
    put(lab, 'i', 40, 3, 0);
    ck_assert_int_eq(append(lab, 'b', 3, 4, 8), 0);
    truncate_from(lab, 43);
    ck_assert_int_eq(append(lab, 'c', 4, 1, 8), 0);
    run(lab);
    ck_assert_str_eq(lab->told, "aibc");
    lab_crash(lab);
    lab_open(lab);
    check_log(lab, 41, "bbc");
    ck_assert_uint_eq(lab->io.loaded.head.index, 40);
    lab_free(lab);
}
END_TEST

START_TEST(a_crash_in_an_install_leaves_the_old_log_or_the_new)
{
    struct io_lab *lab = lab_new();
    ck_assert_int_eq(append(lab, 'a', 1, 4, 8), 0);
    run(lab);
    uint64_t begin = sim_disk_counters(lab->disk)->operations;
    unsigned installed = 0;
    for (uint64_t cut = 1; cut < 40; cut++) {
        put(lab, 'i', 40 + cut, 3, 0);
        sim_disk_freeze_at(lab->disk, begin + cut);
        run(lab);
        lab_crash(lab);
        lab_open(lab);
        raft_index index = lab->io.loaded.head.index;
        if (index == 0)
            check_log(lab, 1, "aaaa");
        else
            check_log(lab, index + 1, "");
        installed += index == 40 + cut;
        begin = sim_disk_counters(lab->disk)->operations;
    }
    ck_assert_uint_gt(installed, 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_failed_sync_ends_the_process)
{
    struct io_lab *lab = lab_new();
    sim_disk_fail_sync(lab->disk, 1);
    ck_assert_int_eq(append(lab, 'a', 1, 1, 8), 0);
    run(lab);
    ck_assert_str_eq(lab->told, "");
    ck_assert_str_ne(lab->failed, "");
    ck_assert_int_eq(append(lab, 'b', 1, 1, 8), RAFT_IOERR);
    lab_free(lab);
}
END_TEST

START_TEST(term_and_vote_are_durable_when_they_return)
{
    struct io_lab *lab = lab_new();
    struct raft_io *io = &lab->io.raft_io;
    ck_assert_int_eq(io->set_term(io, 7), 0);
    ck_assert_int_eq(io->set_vote(io, 3), 0);
    lab_crash(lab);
    lab_open(lab);
    ck_assert_uint_eq(lab->io.vote.term, 7);
    ck_assert_uint_eq(lab->io.vote.vote, 3);
    io = &lab->io.raft_io;
    ck_assert_int_eq(io->set_term(io, 8), 0); /* resets the vote */
    lab_crash(lab);
    lab_open(lab);
    ck_assert_uint_eq(lab->io.vote.term, 8);
    ck_assert_uint_eq(lab->io.vote.vote, 0);
    lab_free(lab);
}
END_TEST

static void send_told(struct raft_io_send *send, int status)
{
    (void)send;
    told(status == 0 ? 's' : 'n');
}

START_TEST(a_send_never_fails_at_once)
{
    struct io_lab *lab = lab_new();
    struct raft_io *io = &lab->io.raft_io;
    struct raft_io_send send[2];
    struct raft_message message = {.type = RAFT_IO_REQUEST_VOTE, .server_id = 2};
    message.request_vote.term = 1;
    lab->inside++;
    ck_assert_int_eq(io->send(io, &send[0], &message, send_told), 0); /* no address: told later */
    message.server_address = "host:2";
    ck_assert_int_eq(io->send(io, &send[1], &message, send_told), 0);
    lab->inside--;
    pump(lab);
    ck_assert_str_eq(lab->told, "ns");
    ck_assert_uint_eq(lab->sent, 1);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("quorum/raft_io", appends_are_told_in_order_when_durable,
           an_entry_of_odd_length_is_refused, a_truncation_between_two_appends_cuts_only_the_first,
           an_own_snapshot_lets_appends_and_truncations_pass,
           what_comes_after_an_install_waits_for_it,
           a_crash_in_an_install_leaves_the_old_log_or_the_new, a_failed_sync_ends_the_process,
           term_and_vote_are_durable_when_they_return, a_send_never_fails_at_once)
