#include "controller/placement.h"

#include <stdio.h>

#include "lib/check_main.h"
#include "unit/controller/lab.h"

enum { NODES_MAX = 16 };

static void check_different(const node_id_t *nodes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < i; k++)
            ck_assert_int_ne(nodes[i], nodes[k]);
}

START_TEST(leaders_and_followers_are_spread_evenly)
{
    enum { BROKERS = 5, FACTOR = 3, PARTITIONS = 600 };
    struct lab lab;
    lab_init(&lab, BROKERS);
    rng_seed(&lab.rng, check_main_seed());
    struct placement placement;
    placement_init(&placement, lab_view(&lab), &lab.rng);
    ck_assert_uint_eq(placement.count, BROKERS);
    int led[NODES_MAX] = {0}, held[NODES_MAX] = {0}, pairs[NODES_MAX][NODES_MAX] = {{0}};
    for (int32_t i = 0; i < PARTITIONS; i++) {
        node_id_t nodes[FACTOR];
        placement_choose(&placement, i, FACTOR, nodes);
        check_different(nodes, FACTOR);
        led[nodes[0]]++;
        for (int j = 0; j < FACTOR; j++)
            held[nodes[j]]++;
        pairs[nodes[0]][nodes[1]]++;
    }
    for (int node = 1; node <= BROKERS; node++) {
        ck_assert_int_eq(led[node], PARTITIONS / BROKERS);
        ck_assert_int_eq(held[node], PARTITIONS * FACTOR / BROKERS);
        for (int other = 1; other <= BROKERS; other++) /* when it dies, all others take over */
            ck_assert_int_eq(pairs[node][other],
                             node == other ? 0 : PARTITIONS / BROKERS / (BROKERS - 1));
    }
    placement_fini(&placement);
    lab_fini(&lab);
}
END_TEST

START_TEST(all_brokers_hold_a_partition_of_as_many_replicas)
{
    struct lab lab;
    lab_init(&lab, 3);
    struct placement placement;
    placement_init(&placement, lab_view(&lab), &lab.rng);
    for (int32_t i = 0; i < 10; i++) {
        node_id_t nodes[3];
        placement_choose(&placement, i, 3, nodes);
        check_different(nodes, 3);
    }
    placement_fini(&placement);
    lab_fini(&lab);
}
END_TEST

START_TEST(one_broker_holds_all)
{
    struct lab lab;
    lab_init(&lab, 1);
    struct placement placement;
    placement_init(&placement, lab_view(&lab), &lab.rng);
    node_id_t node;
    placement_choose(&placement, 7, 1, &node);
    ck_assert_int_eq(node, 1);
    placement_fini(&placement);
    lab_fini(&lab);
}
END_TEST

static void join_rack(struct lab *lab, node_id_t node, const char *rack)
{
    lab_register(lab, &(struct lab_registration){.node = node, .rack = rack});
    lab_commit(lab);
    lab_heartbeat(lab, node);
    lab_commit(lab);
}

START_TEST(each_rack_has_a_replica_before_one_has_two)
{
    /* Seven brokers in three racks of 4, 2, 1. */
    static const char *const racks[] = {"a", "a", "b", "a", "c", "b", "a"};
    struct lab lab;
    lab_init(&lab, 0);
    for (size_t i = 0; i < ARRAY_LEN(racks); i++)
        join_rack(&lab, (node_id_t)i + 1, racks[i]);
    rng_seed(&lab.rng, check_main_seed());
    struct placement placement;
    placement_init(&placement, lab_view(&lab), &lab.rng);
    ck_assert_uint_eq(placement.rack_count, 3);
    for (size_t factor = 1; factor <= 7; factor++) {
        for (int32_t i = 0; i < 200; i++) {
            node_id_t nodes[7];
            placement_choose(&placement, i, factor, nodes);
            check_different(nodes, factor);
            bool in[3] = {false};
            for (size_t j = 0; j < factor; j++)
                in[racks[nodes[j] - 1][0] - 'a'] = true;
            size_t covered = (size_t)in[0] + in[1] + in[2];
            ck_assert_uint_eq(covered, factor < 3 ? factor : 3);
        }
    }
    placement_fini(&placement);
    lab_fini(&lab);
}
END_TEST

START_TEST(racks_count_only_where_every_broker_names_one)
{
    struct lab lab;
    lab_init(&lab, 0);
    join_rack(&lab, 1, "a");
    join_rack(&lab, 2, NULL);
    struct placement placement;
    placement_init(&placement, lab_view(&lab), &lab.rng);
    ck_assert_uint_eq(placement.rack_count, 0);
    placement_fini(&placement);
    lab_fini(&lab);
}
END_TEST

CHECK_MAIN("controller/placement", leaders_and_followers_are_spread_evenly,
           all_brokers_hold_a_partition_of_as_many_replicas, one_broker_holds_all,
           each_rack_has_a_replica_before_one_has_two,
           racks_count_only_where_every_broker_names_one)
