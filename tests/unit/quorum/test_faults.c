/* Random histories: crashes, power cuts, partitions, loss, duplicates, slow disks; the lab checks
 * election safety, log matching and state machine safety all the way, and at the end all must be
 * healed. */
#include <stdio.h>

#include "base/logger.h"

#include "unit/quorum/quorum_lab.h"

static void random_fault(struct lab *lab, struct rng *rng)
{
    unsigned node = (unsigned)rng_below(rng, lab->nodes);
    switch (rng_below(rng, 13)) {
    case 0:
    case 1: {
        unsigned down = 0;
        for (unsigned i = 0; i < lab->voters; i++)
            down += lab->node[i].quorum == NULL;
        if (down < lab->voters / 2 || rng_chance(rng, 200000))
            lab_stop(lab, node, rng_chance(rng, 500000));
        break;
    }
    case 2:
    case 3:
    case 4:
        for (unsigned i = 0; i < lab->nodes; i++)
            if (lab->node[i].quorum == NULL)
                lab_start(lab, i);
        break;
    case 5:
        lab_cut(lab, node, true);
        break;
    case 6: { /* one way only */
        unsigned to = (unsigned)rng_below(rng, lab->nodes);
        lab->cut[node][to] = node != to;
        break;
    }
    case 7:
        sim_disk_slow(lab->node[node].disk, (uint32_t)rng_between(rng, 1, 200));
        break;
    case 8: /* of whoever leads, for some or all, true or not */
        for (unsigned i = 0; i < lab->voters; i++) {
            struct quorum_view view = lab_look(lab, i);
            if (view.leader_node >= 0 && lab->node[i].quorum != NULL && rng_chance(rng, 800000))
                lab_prove(lab, i, (unsigned)view.leader_node, view.term);
        }
        break;
    case 9: { /* the leader dies, and all find out */
        int leader = lab_leader(lab);
        if (leader < 0)
            break;
        uint64_t term = lab_look(lab, (unsigned)leader).term;
        lab_stop(lab, (unsigned)leader, rng_chance(rng, 500000));
        for (unsigned i = 0; i < lab->voters; i++)
            if (lab->node[i].quorum != NULL)
                lab_prove(lab, i, (unsigned)leader, term);
        break;
    }
    case 10:
        if (lab_leader(lab) >= 0)
            lab_hand_over(lab, (unsigned)lab_leader(lab));
        break;
    default:
        lab_heal(lab);
        lab->loss_ppm = (uint32_t)rng_below(rng, 100000);
        lab->duplicate_ppm = (uint32_t)rng_below(rng, 100000);
        break;
    }
}

static void end_healed(struct lab *lab)
{
    lab_heal(lab);
    for (unsigned i = 0; i < lab->nodes; i++) {
        sim_disk_slow(lab->node[i].disk, 1);
        ck_assert_str_eq(lab->node[i].stopped, "");
        if (lab->node[i].quorum == NULL)
            lab_start(lab, i);
    }
    (void)lab_commit(lab); /* that it is acknowledged is the claim */
    if (!lab_run_until(lab, lab_agrees, 20000)) {
        lab_print(lab);
        ck_abort_msg("the nodes do not converge");
    }
    for (unsigned i = 0; i < lab->nodes; i++)
        ck_assert_msg(lab_keeps_acknowledged(lab, i), "node %u lost an acknowledged command", i);
}

static void history(uint64_t seed, unsigned voters, unsigned observers)
{
    struct rng rng;
    rng_seed(&rng, seed);
    struct lab *lab = lab_new(&(struct lab_options){
        .seed = seed,
        .voters = voters,
        .observers = observers,
        .snapshot_bytes = rng_chance(&rng, 500000) ? rng_between(&rng, 2000, 20000) : 0,
        .trailing_bytes = rng_between(&rng, 0, 4000),
        .message_bytes = rng_chance(&rng, 300000) ? 600 : 0,
        .segment_bytes = rng_chance(&rng, 500000) ? 4096 : 0,
    });
    lab->delay_ms_max = rng_between(&rng, 1, 60);
    for (unsigned step = 0; step < 120; step++) {
        lab_run_ms(lab, rng_between(&rng, 1, 120));
        for (unsigned i = 0; i < lab->voters; i++)
            if (lab_look(lab, i).controller_active)
                for (uint64_t n = rng_below(&rng, 5); n > 0; n--)
                    (void)lab_command(lab, i);
        if (rng_chance(&rng, 400000))
            random_fault(lab, &rng);
    }
    end_healed(lab);
    lab_free(lab);
}

static void histories(unsigned voters, unsigned observers, unsigned count)
{
    uint64_t seed = check_main_seed();
    logger_set(LOGGER_OFF, NULL, NULL, false);
    for (unsigned i = 0; i < count; i++) {
        fprintf(stderr, "history %llu\n", (unsigned long long)(seed + i));
        history(seed + i, voters, observers);
    }
}

START_TEST(three_voters_keep_what_they_acknowledged)
{
    histories(3, 0, 12);
}
END_TEST

START_TEST(five_voters_keep_what_they_acknowledged)
{
    histories(5, 0, 5);
}
END_TEST

START_TEST(voters_and_observers_keep_what_they_acknowledged)
{
    histories(3, 2, 6);
}
END_TEST

CHECK_MAIN("quorum/faults", three_voters_keep_what_they_acknowledged,
           five_voters_keep_what_they_acknowledged,
           voters_and_observers_keep_what_they_acknowledged)
