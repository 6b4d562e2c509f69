/* Until when a majority knew a leader (R10): the lease of every broker hangs on it. */
#include "base/logger.h"
#include "quorum/contact.h"
#include "unit/quorum/quorum_lab.h"

static struct raft_server three[] = {
    {.id = 1, .role = RAFT_VOTER}, {.id = 2, .role = RAFT_VOTER}, {.id = 3, .role = RAFT_VOTER}};

static uint64_t majority(const struct contact *contact, uint64_t term, unsigned servers)
{
    struct raft_configuration configuration = {.servers = three, .n = servers};
    return contact_majority_ns(contact, term, 1, &configuration, 1000);
}

START_TEST(a_single_voter_is_its_own_majority)
{
    struct contact contact = {0};
    ck_assert_uint_eq(majority(&contact, 1, 1), 1000);
}
END_TEST

START_TEST(of_two_the_other_of_three_the_faster_makes_the_majority)
{
    struct contact contact = {0};
    ck_assert_uint_eq(majority(&contact, 7, 3), 0);
    contact_answered(&contact, 7, 2, 300);
    ck_assert_uint_eq(majority(&contact, 7, 2), 300);
    ck_assert_uint_eq(majority(&contact, 7, 3), 300);
    contact_answered(&contact, 7, 3, 500);
    ck_assert_uint_eq(majority(&contact, 7, 3), 500);
    contact_answered(&contact, 7, 3, 400); /* an older one, late */
    ck_assert_uint_eq(majority(&contact, 7, 3), 500);
}
END_TEST

START_TEST(who_does_not_vote_proves_nothing)
{
    struct contact contact = {0};
    three[2].role = RAFT_STANDBY;
    contact_answered(&contact, 7, 3, 900);
    contact_answered(&contact, 7, 2, 300);
    ck_assert_uint_eq(majority(&contact, 7, 3), 300);
    three[2].role = RAFT_VOTER;
}
END_TEST

START_TEST(answers_of_one_term_prove_nothing_in_another)
{
    struct contact contact = {0};
    contact_answered(&contact, 7, 2, 300);
    ck_assert_uint_eq(majority(&contact, 8, 3), 0);
    contact_answered(&contact, 8, 3, 200);
    ck_assert_uint_eq(majority(&contact, 8, 2), 0);
    ck_assert_uint_eq(majority(&contact, 8, 3), 200);
}
END_TEST

START_TEST(an_answer_carries_the_newest_stamp_of_its_term_only)
{
    struct contact contact = {0};
    contact_asked(&contact, 5, 100, 5);
    contact_asked(&contact, 5, 90, 5); /* overtaken */
    ck_assert_uint_eq(contact_stamp(&contact, 5), 100);
    ck_assert_uint_eq(contact_stamp(&contact, 6), 0);
    contact_asked(&contact, 6, 40, 5); /* another leader's clock */
    ck_assert_uint_eq(contact_stamp(&contact, 6), 40);
    contact_asked(&contact, 5, 200, 6); /* the old one's, late: we have voted since */
    ck_assert_uint_eq(contact_stamp(&contact, 5), 0);
    ck_assert_uint_eq(contact_stamp(&contact, 6), 40);
}
END_TEST

/* Between the old leader and the others nothing passes any more; the last answers are kept. */
struct late {
    unsigned old;
    Karst__RaftMessage answer[LAB_NODES_MAX]; /* type 0: none */
};

static bool not_of_old(struct lab *lab, unsigned from, unsigned to, const Karst__RaftMessage *raft)
{
    struct late *late = lab->data;
    if (to == late->old && raft->type == RAFT_IO_APPEND_ENTRIES_RESULT)
        late->answer[from] = *raft;
    return from != late->old && to != late->old;
}

static uint64_t clock_of(const struct lab *lab, unsigned node)
{
    return env_now(sim_host_env(lab->node[node].host, 0));
}

/* The promise: while an old leader believes in itself, its last contact lies before the moment at
 * which another began. Also when answers to it have lain somewhere until then. */
START_TEST(no_controller_begins_before_the_last_contact_of_the_one_before)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    for (unsigned round = 0; round < 20; round++) {
        struct lab *lab = lab_new(&(struct lab_options){.seed = check_main_seed() + round,
                                                        .voters = round % 2 == 0 ? 3 : 5});
        lab_commit(lab);
        lab_run_ms(lab, 50 + rng_below(&lab->world.rng, 200));
        struct late late = {.old = (unsigned)lab_leader(lab)};
        lab->data = &late;
        lab->filter = not_of_old;
        uint64_t began_ns = 0;
        while (began_ns == 0) {
            for (unsigned i = 1; i <= lab->voters / 2; i++)
                lab_contact(lab, late.old, (late.old + i) % lab->voters);
            lab_run_ms(lab, 1);
            for (unsigned i = 0; i < lab->voters; i++)
                if (i != late.old && lab_look(lab, i).controller_active)
                    began_ns = clock_of(lab, late.old);
        }
        for (unsigned i = 0; i < lab->voters; i++)
            if (late.answer[i].type != 0)
                lab_inject(lab, i, late.old, &late.answer[i]);
        lab_run_ms(lab, 5);
        struct quorum_view view = lab_look(lab, late.old);
        ck_assert(view.controller_active);
        ck_assert_uint_gt(view.contact_ns, 0);
        ck_assert_uint_lt(view.contact_ns, began_ns - ENV_MS(100));
        lab_free(lab);
    }
}
END_TEST

CHECK_MAIN("quorum_contact", a_single_voter_is_its_own_majority,
           of_two_the_other_of_three_the_faster_makes_the_majority,
           who_does_not_vote_proves_nothing, answers_of_one_term_prove_nothing_in_another,
           an_answer_carries_the_newest_stamp_of_its_term_only,
           no_controller_begins_before_the_last_contact_of_the_one_before)
