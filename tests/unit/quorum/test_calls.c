#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

static struct lab *led_lab(unsigned voters, unsigned observers)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(
        &(struct lab_options){.seed = check_main_seed(), .voters = voters, .observers = observers});
    lab_commit(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 3000));
    return lab;
}

static err_t error_of(struct frame *frame)
{
    struct wire_header header;
    ck_assert_ptr_nonnull(frame);
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    err_t err = ERR_OK;
    if (header.kind == WIRE_ERROR) {
        struct bytes bytes = wire_message(frame, &header);
        Karst__Error *error = karst__error__unpack(NULL, bytes.len, bytes.data);
        err = error->code;
        karst__error__free_unpacked(error, NULL);
    }
    frame_unref(frame);
    return err;
}

START_TEST(only_the_active_controller_decides)
{
    struct lab *lab = led_lab(3, 1);
    for (unsigned i = 0; i < 4; i++) {
        if ((int)i == lab_leader(lab))
            continue;
        unsigned command = lab_command(lab, i);
        lab_run_ms(lab, 10);
        ck_assert_int_eq(lab->outcome[command], ERR_NOT_CONTROLLER);
    }
    lab_free(lab);
}
END_TEST

START_TEST(a_reply_waits_for_the_commit_and_fails_with_the_leadership)
{
    struct lab *lab = led_lab(3, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    lab_cut(lab, leader, true);
    unsigned command = lab_command(lab, leader);
    lab_run_ms(lab, 200);
    ck_assert_int_eq(lab->outcome[command], ERR_BUSY);
    lab_run_ms(lab, 1500);
    ck_assert_int_eq(lab->outcome[command], ERR_NOT_CONTROLLER);
    ck_assert(!lab_look(lab, leader).controller_active);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    lab_free(lab);
}
END_TEST

/* ms in which the leader hears of a voter, but not that anything was stored. */
static void hears_only(struct lab *lab, unsigned leader, unsigned ms)
{
    for (unsigned i = 0; i < ms; i += 50) {
        lab_contact(lab, leader, (leader + 1) % 3);
        lab_run_ms(lab, 50);
    }
}

START_TEST(a_call_that_nothing_decides_times_out)
{
    struct lab *lab = led_lab(3, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    lab_cut(lab, leader, true);
    unsigned command = lab_command(lab, leader);
    hears_only(lab, leader, 9000);
    ck_assert_int_eq(lab->outcome[command], ERR_BUSY);
    hears_only(lab, leader, 2000);
    ck_assert_int_eq(lab->outcome[command], ERR_REQUEST_TIMED_OUT);
    ck_assert(lab_look(lab, leader).controller_active);
    lab_heal(lab);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    lab_free(lab);
}
END_TEST

START_TEST(calls_that_come_together_share_an_entry)
{
    struct lab *lab = led_lab(3, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    uint64_t before = lab_look(lab, leader).last_index;
    unsigned first = lab_command(lab, leader);
    for (unsigned i = 1; i < 200; i++)
        (void)lab_command(lab, leader);
    lab_run_ms(lab, 200);
    for (unsigned i = first; i < first + 200; i++)
        ck_assert_int_eq(lab->outcome[i], ERR_OK);
    ck_assert_uint_lt(lab_look(lab, leader).last_index, before + 20);
    lab_free(lab);
}
END_TEST

START_TEST(any_node_describes_the_quorum)
{
    struct lab *lab = led_lab(3, 1);
    for (unsigned i = 0; i < 4; i++) {
        Karst__DescribeQuorumRequest request = KARST__DESCRIBE_QUORUM_REQUEST__INIT;
        struct frame *frame = lab_call(lab, i, WIRE_DESCRIBE_QUORUM, &request.base, 50);
        struct wire_header header;
        ck_assert_ptr_nonnull(frame);
        ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
        ck_assert_int_eq(header.kind, WIRE_REPLY);
        struct bytes bytes = wire_message(frame, &header);
        Karst__DescribeQuorumReply *reply =
            karst__describe_quorum_reply__unpack(NULL, bytes.len, bytes.data);
        ck_assert_int_eq(reply->leader, lab_leader(lab));
        ck_assert_uint_eq(reply->n_voters, 3);
        ck_assert_uint_eq(reply->term, lab_look(lab, (unsigned)lab_leader(lab)).term);
        karst__describe_quorum_reply__free_unpacked(reply, NULL);
        frame_unref(frame);
    }
    lab_free(lab);
}
END_TEST

START_TEST(strange_calls_are_answered)
{
    struct lab *lab = led_lab(1, 1);
    Karst__ProbeRequest probe = KARST__PROBE_REQUEST__INIT;
    ck_assert_int_eq(error_of(lab_call(lab, 0, WIRE_PROBE, &probe.base, 50)),
                     ERR_UNSUPPORTED_VERSION);
    ck_assert_int_eq(error_of(lab_call(lab, 0, 0x7F7F, &probe.base, 50)), ERR_UNSUPPORTED_VERSION);
    /* An empty message lacks what a registration requires. */
    ck_assert_int_eq(error_of(lab_call(lab, 0, WIRE_REGISTER_BROKER, &probe.base, 50)),
                     ERR_INVALID_REQUEST);
    ck_assert_int_eq(error_of(lab_call(lab, 0, WIRE_METADATA_FETCH, &probe.base, 50)),
                     ERR_INVALID_REQUEST);
    Karst__MetadataFetchRequest fetch = KARST__METADATA_FETCH_REQUEST__INIT;
    fetch.offset = 1;
    struct frame *frame = lab_call(lab, 1, WIRE_METADATA_FETCH, &fetch.base, 50);
    struct wire_header header;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    struct bytes bytes = wire_message(frame, &header);
    Karst__MetadataFetchReply *reply =
        karst__metadata_fetch_reply__unpack(NULL, bytes.len, bytes.data);
    ck_assert_int_eq(reply->error, ERR_REPLICA_NOT_AVAILABLE);
    ck_assert_uint_eq(reply->n_voters, 1); /* it says who serves */
    ck_assert_int_eq(reply->voters[0]->node_id, 0);
    karst__metadata_fetch_reply__free_unpacked(reply, NULL);
    frame_unref(frame);
    lab_free(lab);
}
END_TEST

/* Nobody's vote counts twice: a message is believed only of the node that the connection's hello
 * named. */
START_TEST(a_raft_message_in_anothers_name_is_refused)
{
    struct lab *lab = led_lab(3, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    uint64_t term = lab_look(lab, leader).term;
    Karst__RaftMessage message = KARST__RAFT_MESSAGE__INIT;
    message.type = 2;
    message.to = (int32_t)leader;
    message.term = term + 5; /* would depose it */
    message.from = (int32_t)((leader + 1) % 3);
    lab_inject(lab, (leader + 2) % 3, leader, &message);
    lab_run_ms(lab, 20);
    ck_assert_uint_eq(lab_look(lab, leader).term, term);
    lab_inject(lab, (leader + 1) % 3, leader, &message);
    lab_run_ms(lab, 20);
    ck_assert_uint_ge(lab_look(lab, leader).term, term + 5);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("quorum/calls", only_the_active_controller_decides,
           a_reply_waits_for_the_commit_and_fails_with_the_leadership,
           a_call_that_nothing_decides_times_out, calls_that_come_together_share_an_entry,
           any_node_describes_the_quorum, strange_calls_are_answered,
           a_raft_message_in_anothers_name_is_refused)
