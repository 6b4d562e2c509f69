/* The voters change: one is added, one is removed, somebody dies in the middle of it. */
#include <stdio.h>

#include "base/logger.h"
#include "unit/quorum/quorum_lab.h"

enum { STANDBY = 0, VOTER = 1, TIMEOUT_MS = 8000 };

static struct lab *lab_seeded(uint64_t seed, unsigned voters, unsigned observers,
                              uint64_t snapshot_bytes)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(&(struct lab_options){.seed = seed,
                                                    .voters = voters,
                                                    .observers = observers,
                                                    .snapshot_bytes = snapshot_bytes,
                                                    .trailing_bytes = snapshot_bytes / 4,
                                                    .segment_bytes = 4096});
    lab_commit(lab);
    for (unsigned i = 0; i < lab->nodes; i++)
        lab_register(lab, i);
    ck_assert(lab_run_until(lab, lab_agrees, 5000));
    lab_run_ms(lab, 150); /* the leader has heard of all */
    return lab;
}

static struct lab *lab_of(unsigned voters, unsigned observers, uint64_t snapshot_bytes)
{
    return lab_seeded(check_main_seed(), voters, observers, snapshot_bytes);
}

static err_t add(struct lab *lab, unsigned node)
{
    return lab_change(lab, WIRE_ADD_VOTER, node, TIMEOUT_MS);
}

static err_t drop(struct lab *lab, unsigned node)
{
    return lab_change(lab, WIRE_REMOVE_VOTER, node, TIMEOUT_MS);
}

/* All that are up agree on who votes, and on what else is committed. */
static bool settled(struct lab *lab)
{
    if (!lab_agrees(lab))
        return false;
    unsigned leader = (unsigned)lab_leader(lab);
    for (unsigned i = 0; i < lab->nodes; i++) {
        if (lab->node[i].quorum == NULL)
            continue;
        bool serves = lab_role(lab, leader, i) >= 0;
        if (lab_look(lab, i).voter != serves)
            return false;
        for (unsigned k = 0; k < lab->nodes; k++)
            if (lab_role(lab, i, k) != lab_role(lab, leader, k))
                return false;
    }
    return true;
}

static unsigned voters(const struct lab *lab)
{
    unsigned count = 0;
    for (unsigned i = 0; i < lab->nodes; i++)
        count += lab_role(lab, (unsigned)lab_leader(lab), i) == VOTER;
    return count;
}

static bool image_tells_voters(struct lab *lab)
{
    const struct image *image = lab->node[lab_leader(lab)].image;
    if (image_voter_count(image) != voters(lab))
        return false;
    for (size_t i = 0; i < image_voter_count(image); i++) {
        const Karst__Voter *voter = image_voter_at(image, i);
        if (lab_role(lab, (unsigned)lab_leader(lab), (unsigned)voter->node_id) != VOTER ||
            voter->port != 9000 + (unsigned)voter->node_id)
            return false;
    }
    return true;
}

static void must_settle(struct lab *lab)
{
    if (!lab_run_until(lab, settled, 20000)) {
        lab_print(lab);
        for (unsigned i = 0; i < lab->nodes; i++)
            for (unsigned k = 0; k < lab->nodes; k++)
                fprintf(stderr, "%s%d", k == 0 ? "\n" : " ", lab_role(lab, i, k));
        ck_abort_msg("the cluster does not agree on its voters");
    }
    for (unsigned i = 0; i < lab->nodes; i++)
        ck_assert(lab->node[i].quorum == NULL || lab_keeps_acknowledged(lab, i));
    lab_run_ms(lab, 150); /* the leader has heard of all */
}

static void restart_all(struct lab *lab, bool power_cut)
{
    for (unsigned i = 0; i < lab->nodes; i++)
        lab_stop(lab, i, power_cut);
    for (unsigned i = 0; i < lab->nodes; i++)
        lab_start(lab, i);
}

/* ---- what is asked for is done ---- */

START_TEST(observers_become_voters_without_a_restart_and_stay_so)
{
    struct lab *lab = lab_of(3, 2, 3000);
    unsigned updates = lab->node[3].updates;
    ck_assert_int_eq(add(lab, 3), ERR_OK);
    ck_assert_int_eq(add(lab, 4), ERR_OK);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 5);
    ck_assert(image_tells_voters(lab));
    ck_assert_uint_gt(lab->node[3].updates, updates); /* and in the same life */
    /* Of five, any three are enough. */
    lab_stop(lab, 0, true);
    lab_stop(lab, 1, true);
    for (unsigned i = 0; i < 30; i++)
        lab_commit(lab);
    lab_start(lab, 0);
    lab_start(lab, 1);
    must_settle(lab);
    restart_all(lab, true);
    lab_commit(lab);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 5);
    lab_free(lab);
}
END_TEST

START_TEST(a_leader_hands_over_before_it_is_removed)
{
    struct lab *lab = lab_of(3, 0, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    ck_assert_int_eq(drop(lab, leader), ERR_OK);
    ck_assert_int_ne(lab_leader(lab), (int)leader);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 2);
    ck_assert(!lab_look(lab, leader).voter);
    ck_assert(image_tells_voters(lab));
    for (unsigned i = 0; i < 5; i++)
        lab_commit(lab);
    must_settle(lab);
    lab_free(lab);
}
END_TEST

START_TEST(all_first_voters_can_be_replaced)
{
    struct lab *lab = lab_of(3, 3, 3000);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_int_eq(add(lab, 3 + i), ERR_OK);
        ck_assert_int_eq(drop(lab, i), ERR_OK);
        lab_commit(lab);
    }
    must_settle(lab);
    for (unsigned i = 0; i < 6; i++)
        ck_assert_int_eq(lab_look(lab, i).voter, i >= 3);
    restart_all(lab, true);
    lab_commit(lab);
    must_settle(lab);
    /* A new broker, whose list names the first voters only: they know who votes now. */
    lab_stop(lab, 0, true);
    sim_disk_wipe(lab->node[0].disk);
    lab_start(lab, 0);
    must_settle(lab);
    for (unsigned i = 0; i < 3; i++)
        lab_stop(lab, i, false);
    lab_commit(lab);
    lab_free(lab);
}
END_TEST

START_TEST(one_voter_becomes_three_and_one_again)
{
    struct lab *lab = lab_of(1, 2, 0);
    ck_assert_int_eq(add(lab, 1), ERR_OK);
    ck_assert_int_eq(add(lab, 2), ERR_OK);
    lab_stop(lab, 0, true);
    lab_commit(lab);
    lab_start(lab, 0);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 3);
    ck_assert_int_eq(drop(lab, 1), ERR_OK);
    ck_assert_int_eq(drop(lab, 2), ERR_OK);
    must_settle(lab);
    restart_all(lab, false);
    lab_commit(lab);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 1);
    lab_free(lab);
}
END_TEST

/* Nobody sends it anything any more: it asks. */
START_TEST(a_voter_that_was_removed_while_it_was_away_observes)
{
    struct lab *lab = lab_of(3, 1, 0);
    unsigned away = ((unsigned)lab_leader(lab) + 1) % 3;
    lab_stop(lab, away, false);
    ck_assert_int_eq(add(lab, 3), ERR_OK);
    ck_assert_int_eq(drop(lab, away), ERR_OK);
    lab_commit(lab);
    lab_start(lab, away);
    must_settle(lab);
    ck_assert(!lab_look(lab, away).voter);
    /* And it may come back: its vote file is where it was. */
    ck_assert_int_eq(add(lab, away), ERR_OK);
    must_settle(lab);
    ck_assert(lab_look(lab, away).voter);
    lab_free(lab);
}
END_TEST

/* As an observer it has seen later terms than it voted in; it is named again while it is down, as
 * the last entry of its log says, and comes back as a server. */
START_TEST(a_server_that_observed_meanwhile_has_no_older_term_than_its_log)
{
    struct lab *lab = lab_of(3, 0, 0);
    unsigned node = ((unsigned)lab_leader(lab) + 1) % 3;
    uint64_t term = lab_look(lab, node).term;
    ck_assert_int_eq(drop(lab, node), ERR_OK);
    must_settle(lab);
    for (unsigned i = 0; i < 3; i++) {
        unsigned leader = (unsigned)lab_leader(lab);
        lab_stop(lab, leader, true);
        lab_start(lab, leader);
        lab_run_ms(lab, 2000);
        lab_commit(lab);
    }
    must_settle(lab);
    unsigned leader = (unsigned)lab_leader(lab);
    ck_assert_uint_gt(lab_look(lab, leader).term, term);
    lab_ask_change(lab, leader, WIRE_ADD_VOTER, node, TIMEOUT_MS);
    for (unsigned ms = 0; ms < 500 && lab_role(lab, node, node) < 0; ms++)
        lab_run_ms(lab, 1);
    lab_run_ms(lab, 8); /* its flush; seldom its next look at who it is */
    lab_stop(lab, node, true);
    lab_cut(lab, node, true);
    lab_start(lab, node);
    ck_assert(lab_look(lab, node).voter);
    ck_assert_uint_ge(lab_look(lab, node).term, lab_look(lab, leader).term);
    lab_heal(lab);
    must_settle(lab);
    lab_free(lab);
}
END_TEST

/* ---- what is refused ---- */

START_TEST(what_would_be_wrong_is_refused)
{
    struct lab *lab = lab_of(3, 2, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    ck_assert_int_eq(add(lab, 6), ERR_BROKER_NOT_AVAILABLE); /* there is none */
    ck_assert_int_eq(add(lab, leader), ERR_DUPLICATE_VOTER);
    ck_assert_int_eq(drop(lab, 4), ERR_VOTER_NOT_FOUND);
    lab_cut(lab, 3, true);
    lab_ask_change(lab, leader, WIRE_ADD_VOTER, 3, 1000);
    lab_run_ms(lab, 100);
    lab_ask_change(lab, leader, WIRE_ADD_VOTER, 4, 1000);
    lab_run_ms(lab, 20);
    ck_assert_ptr_nonnull(lab->reply);
    lab_heal(lab);
    lab_run_ms(lab, 3000);
    must_settle(lab);
    /* Of two voters left one is dead: the other can't be removed, nor a third one added safely. */
    unsigned other = ((unsigned)lab_leader(lab) + 1) % 3;
    unsigned third = ((unsigned)lab_leader(lab) + 2) % 3;
    while (lab_role(lab, (unsigned)lab_leader(lab), 3) >= 0)
        ck_assert_int_eq(drop(lab, 3), ERR_OK);
    lab_stop(lab, other, false);
    lab_run_ms(lab, 1500);
    ck_assert_int_eq(drop(lab, third), ERR_POLICY_VIOLATION);
    ck_assert_int_eq(drop(lab, other), ERR_OK); /* the dead one goes */
    ck_assert_int_eq(drop(lab, (unsigned)lab_leader(lab)), ERR_OK);
    ck_assert_int_eq(drop(lab, (unsigned)lab_leader(lab)), ERR_POLICY_VIOLATION);
    lab_free(lab);
}
END_TEST

/* Who has lost its disk has lost its vote: under its old id it could vote twice. */
START_TEST(a_voter_with_another_disk_is_another_voter)
{
    struct lab *lab = lab_of(3, 1, 0);
    ck_assert_int_eq(add(lab, 3), ERR_OK);
    must_settle(lab);
    lab_stop(lab, 3, false);
    sim_disk_wipe(lab->node[3].disk);
    lab->node[3].config.directory_id = uuid_make(333, 1);
    lab_start(lab, 3);
    lab_run_ms(lab, 3000);
    ck_assert(!lab_look(lab, 3).voter);
    ck_assert_uint_eq(lab_look(lab, 3).last_index,
                      lab_look(lab, (unsigned)lab_leader(lab)).last_index);
    lab_register(lab, 3);
    ck_assert_int_eq(add(lab, 3), ERR_INVALID_VOTER_KEY);
    ck_assert_int_eq(drop(lab, 3), ERR_OK);
    ck_assert_int_eq(add(lab, 3), ERR_OK);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 4);
    lab_free(lab);
}
END_TEST

START_TEST(who_does_not_catch_up_is_no_server_in_the_end)
{
    struct lab *lab = lab_of(3, 1, 0);
    lab_cut(lab, 3, true);
    ck_assert_int_eq(lab_change(lab, WIRE_ADD_VOTER, 3, 1500), ERR_REQUEST_TIMED_OUT);
    for (unsigned i = 0; i < 5; i++)
        lab_commit(lab);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 3), -1);
    lab_heal(lab);
    must_settle(lab);
    ck_assert(!lab_look(lab, 3).voter);
    ck_assert_int_eq(add(lab, 3), ERR_OK);
    lab_free(lab);
}
END_TEST

/* Its caller and its leader are gone: nobody goes on with it. */
START_TEST(what_nobody_ends_is_undone)
{
    struct lab *lab = lab_of(3, 1, 0);
    unsigned leader = (unsigned)lab_leader(lab);
    lab_cut(lab, 3, true);
    lab_ask_change(lab, leader, WIRE_ADD_VOTER, 3, TIMEOUT_MS);
    lab_run_ms(lab, 300);
    ck_assert_int_ge(lab_role(lab, leader, 3), 0);
    lab_stop(lab, leader, true);
    lab_heal(lab);
    lab_start(lab, leader);
    lab_run_ms(lab, 14000);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 3);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 3), -1);
    lab_free(lab);
}
END_TEST

/* ---- a lost voter is replaced ---- */

enum { REPLACE_AFTER_MS = 3000 };

/* No broker of a voter is registered: whether they live, only the quorum knows. */
static struct lab *lab_that_replaces(unsigned observers)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct lab *lab = lab_new(
        &(struct lab_options){.seed = check_main_seed(), .voters = 3, .observers = observers});
    for (unsigned i = 0; i < lab->nodes; i++)
        lab->node[i].config.replace_after_ms = REPLACE_AFTER_MS;
    lab_commit(lab);
    for (unsigned i = 3; i < lab->nodes; i++)
        lab_register(lab, i);
    return lab;
}

START_TEST(an_observer_takes_a_lost_voters_place)
{
    struct lab *lab = lab_that_replaces(2);
    unsigned lost = ((unsigned)lab_leader(lab) + 1) % 3;
    lab_stop(lab, lost, true);
    lab_run_ms(lab, REPLACE_AFTER_MS / 2);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), lost), VOTER);
    lab_run_ms(lab, REPLACE_AFTER_MS * 2);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 3);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), lost), -1);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 3), VOTER);
    /* The leader, too: another one finds it lost. */
    lost = (unsigned)lab_leader(lab);
    lab_stop(lab, lost, true);
    lab_run_ms(lab, REPLACE_AFTER_MS * 3);
    must_settle(lab);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), lost), -1);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 4), VOTER);
    ck_assert_uint_eq(voters(lab), 3);
    lab_start(lab, lost);
    must_settle(lab);
    ck_assert(!lab_look(lab, lost).voter);
    lab_free(lab);
}
END_TEST

START_TEST(a_voter_that_is_back_in_time_keeps_its_place)
{
    struct lab *lab = lab_that_replaces(1);
    unsigned away = ((unsigned)lab_leader(lab) + 1) % 3;
    for (unsigned i = 0; i < 3; i++) {
        lab_stop(lab, away, true);
        lab_run_ms(lab, REPLACE_AFTER_MS - 1000);
        lab_start(lab, away);
        lab_run_ms(lab, 1000);
    }
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 3);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), 3), -1);
    lab_free(lab);
}
END_TEST

START_TEST(without_an_observer_a_lost_voter_stays)
{
    struct lab *lab = lab_that_replaces(0);
    unsigned lost = ((unsigned)lab_leader(lab) + 1) % 3;
    lab_stop(lab, lost, true);
    lab_run_ms(lab, REPLACE_AFTER_MS * 3);
    ck_assert_int_eq(lab_role(lab, (unsigned)lab_leader(lab), lost), VOTER);
    lab_start(lab, lost);
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), 3);
    lab_free(lab);
}
END_TEST

/* Decisions and changes take turns in the log, whose indexes the decisions know beforehand. */
START_TEST(changes_under_load)
{
    struct lab *lab = lab_of(3, 2, 20000);
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned node = 3; node < 5; node++) {
            unsigned leader = (unsigned)lab_leader(lab);
            lab_ask_change(lab, leader, round == 0 ? WIRE_ADD_VOTER : WIRE_REMOVE_VOTER, node,
                           TIMEOUT_MS);
            for (unsigned i = 0; i < 4000 && lab->reply == NULL; i++) {
                (void)lab_command(lab, leader);
                lab_run_ms(lab, 1);
            }
            ck_assert_ptr_nonnull(lab->reply);
        }
        must_settle(lab);
        ck_assert_uint_eq(voters(lab), round == 0 ? 5 : 3);
    }
    lab_free(lab);
}
END_TEST

/* ---- somebody dies in the middle ---- */

enum victim { LEADER, FOLLOWER, JOINING, LEADER_CUT, VICTIMS };

/* A change is under way for so long when it happens; asked again, it comes to its end. */
static void interrupted(uint64_t seed, uint16_t method, unsigned step, unsigned after_ms)
{
    enum victim victim = step % VICTIMS;
    bool power_cut = step / VICTIMS % 2;
    bool adding = method == WIRE_ADD_VOTER;
    unsigned first = adding ? 3 : 4; /* voters: one may die before and after */
    struct lab *lab = lab_seeded(seed + step, first, adding, 1500);
    unsigned leader = (unsigned)lab_leader(lab);
    unsigned node = adding ? 3 : (leader + 1) % first;
    unsigned hit = victim == FOLLOWER ? (leader + 2) % first : victim == JOINING ? node : leader;
    lab->change_offset = image_offset(lab->node[leader].image);
    lab_ask_change(lab, leader, method, node, TIMEOUT_MS);
    lab_run_ms(lab, after_ms);
    if (victim == LEADER_CUT)
        lab_cut(lab, hit, true);
    else
        lab_stop(lab, hit, power_cut);
    lab_run_ms(lab, 1500);
    lab_commit(lab);
    if (victim == LEADER_CUT)
        lab_heal(lab);
    else
        lab_start(lab, hit);
    lab_commit(lab);
    lab_run_ms(lab, 300); /* who has just come back is heard of */
    /* What was done of it is kept or undone, and nothing is in the way. */
    err_t err = lab_change(lab, method, node, TIMEOUT_MS);
    err_t done = adding ? ERR_DUPLICATE_VOTER : ERR_VOTER_NOT_FOUND;
    ck_assert_msg(err == ERR_OK || err == done, "%s after %u ms: %s", adding ? "add" : "remove",
                  after_ms, err_name(err));
    must_settle(lab);
    ck_assert_uint_eq(voters(lab), adding ? 4 : 3);
    ck_assert(image_tells_voters(lab));
    restart_all(lab, true);
    lab_commit(lab);
    must_settle(lab);
    lab_free(lab);
}

START_TEST(an_addition_survives_whoever_dies_at_any_step)
{
    uint64_t seed = check_main_seed();
    for (unsigned step = 0; step < 80; step++)
        interrupted(seed, WIRE_ADD_VOTER, step, step * 3);
}
END_TEST

START_TEST(a_removal_survives_whoever_dies_at_any_step)
{
    uint64_t seed = check_main_seed();
    for (unsigned step = 0; step < 48; step++)
        interrupted(seed, WIRE_REMOVE_VOTER, step, step);
}
END_TEST

CHECK_MAIN("quorum/change", observers_become_voters_without_a_restart_and_stay_so,
           a_leader_hands_over_before_it_is_removed, all_first_voters_can_be_replaced,
           one_voter_becomes_three_and_one_again,
           a_voter_that_was_removed_while_it_was_away_observes,
           a_server_that_observed_meanwhile_has_no_older_term_than_its_log,
           what_would_be_wrong_is_refused, a_voter_with_another_disk_is_another_voter,
           who_does_not_catch_up_is_no_server_in_the_end, what_nobody_ends_is_undone,
           an_observer_takes_a_lost_voters_place, a_voter_that_is_back_in_time_keeps_its_place,
           without_an_observer_a_lost_voter_stays, changes_under_load,
           an_addition_survives_whoever_dies_at_any_step,
           a_removal_survives_whoever_dies_at_any_step)
