#include "lib/check_main.h"

#include "unit/client/lab.h"

struct lab_op {
    struct client_op op;
    struct arena arena;
    Karst__CreateTopic topic;
    Karst__CreateTopic *topics[1];
    Karst__CreateTopicsRequest request;
    struct uuid topic_id, request_id;
};

static const ProtobufCMessage *encode(struct client_op *op, const struct uuid *unused)
{
    struct lab_op *create = container_of(op, struct lab_op, op);
    (void)unused;
    karst__create_topic__init(&create->topic);
    karst__create_topics_request__init(&create->request);
    create->topic_id = uuid_make(5, 6);
    create->topic.name = (char *)(uintptr_t) "made";
    create->topic.partitions = 2;
    create->topic.has_topic_id = true;
    create->topic.topic_id = wire_put_uuid(&create->topic_id);
    create->topics[0] = &create->topic;
    create->request.topics = create->topics;
    create->request.n_topics = 1;
    create->request.has_request_id = true;
    create->request.request_id = wire_put_uuid(&create->topic_id);
    return &create->request.base;
}

static bool judge(struct client_op *op, const ProtobufCMessage *message, err_t *ret_err,
                  const char **ret_sentence)
{
    const Karst__CreateTopicsReply *reply = (const Karst__CreateTopicsReply *)message;
    (void)op;
    *ret_err = reply->topics[0]->error;
    *ret_sentence = reply->topics[0]->message;
    return err_retriable(*ret_err);
}

static void op_start(struct lab *lab, struct lab_op *op, uint64_t ms)
{
    *op = (struct lab_op){.op = {.arena = &op->arena, .method = WIRE_CREATE_TOPICS}};
    arena_init(&op->arena, 1 << 20);
    op->op.deadline_ns = lab->now_ns + ENV_MS(ms);
    op->op.encode = encode;
    op->op.judge = judge;
    client_op_start(lab->client, &op->op);
}

START_TEST(an_op_is_answered_by_any_broker)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    lab_kill(&lab, 1);
    op_start(&lab, &op, 1000);
    lab_run_ms(&lab, 100);
    ck_assert(op.op.finished);
    ck_assert_int_eq(op.op.err, ERR_OK);
    ck_assert_ptr_nonnull(op.op.reply);
    ck_assert_str_eq(lab.topics[0].name, "made");
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_retriable_answer_is_asked_again)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    lab.admin_err = ERR_NOT_CONTROLLER;
    lab.admin_err_count = 3;
    op_start(&lab, &op, 1000);
    lab_run_ms(&lab, 500);
    ck_assert(op.op.finished);
    ck_assert_int_eq(op.op.err, ERR_OK);
    ck_assert_uint_eq(op.op.tries, 4);
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_final_answer_comes_with_its_sentence)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    lab_add_topic(&lab, "made", 1);
    op_start(&lab, &op, 1000);
    lab_run_ms(&lab, 100);
    ck_assert(op.op.finished);
    ck_assert_int_eq(op.op.err, ERR_TOPIC_ALREADY_EXISTS);
    ck_assert_str_eq(op.op.sentence, "it is there");
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_lost_answer_is_asked_for_elsewhere)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    lab.brokers[1].mute = true;
    op_start(&lab, &op, 10000);
    lab_run_ms(&lab, 100);
    ck_assert(!op.op.finished);
    lab_kill(&lab, 1);
    lab_run_ms(&lab, 200);
    ck_assert(op.op.finished);
    ck_assert(op.op.uncertain);
    ck_assert_int_eq(op.op.err, ERR_TOPIC_ALREADY_EXISTS); /* by the first try: the id says so */
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

START_TEST(an_op_ends_at_its_deadline)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    for (node_id_t i = 1; i <= LAB_BROKERS; i++)
        lab_kill(&lab, i);
    op_start(&lab, &op, 700);
    lab_run_ms(&lab, 690);
    ck_assert(!op.op.finished);
    lab_run_ms(&lab, 20);
    ck_assert(op.op.finished);
    ck_assert_int_eq(op.op.err, ERR_REQUEST_TIMED_OUT);
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

START_TEST(a_canceled_op_is_not_touched_again)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    lab.brokers[1].mute = lab.brokers[2].mute = true;
    op_start(&lab, &op, 1000);
    while (op.op.call == NULL)
        lab_run_ms(&lab, 1);
    client_op_cancel(lab.client, &op.op);
    arena_fini(&op.arena);
    memset(&op, 0xff, sizeof(op));
    lab_run_ms(&lab, 2000);
    lab_fini(&lab);
}
END_TEST

/* As of a topic that is not there: perhaps another broker knows it. */
static bool judge_to_ask_on(struct client_op *op, const ProtobufCMessage *message, err_t *ret_err,
                            const char **ret_sentence)
{
    (void)op;
    (void)message;
    (void)ret_sentence;
    *ret_err = ERR_OK;
    return true;
}

START_TEST(an_answer_that_could_be_better_is_the_one_at_the_deadline)
{
    struct lab lab;
    struct lab_op op;
    lab_init(&lab, NULL);
    op_start(&lab, &op, 100);
    op.op.judge = judge_to_ask_on;
    lab_run_ms(&lab, 110);
    ck_assert(op.op.finished);
    ck_assert(op.op.late);
    ck_assert_int_eq(op.op.err, ERR_OK);
    ck_assert_ptr_nonnull(op.op.reply);
    arena_fini(&op.arena);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("client/op", an_op_is_answered_by_any_broker, a_retriable_answer_is_asked_again,
           a_final_answer_comes_with_its_sentence, a_lost_answer_is_asked_for_elsewhere,
           an_op_ends_at_its_deadline, a_canceled_op_is_not_touched_again,
           an_answer_that_could_be_better_is_the_one_at_the_deadline)
