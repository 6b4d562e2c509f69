#include "base/heap.h"

#include "base/rng.h"
#include "lib/check_main.h"

START_TEST(equal_keys_come_out_in_order_of_sequence)
{
    struct heap heap = {0};
    struct heap_node nodes[100] = {0};
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++) {
        nodes[i].key = 7;
        nodes[i].sequence = (i * 37) % 100;
        ck_assert_int_eq(heap_push(&heap, &nodes[i]), ERR_OK);
    }
    for (size_t i = 0; i < ARRAY_LEN(nodes); i++)
        ck_assert_uint_eq(heap_pop(&heap)->sequence, i);
    ck_assert_ptr_null(heap_pop(&heap));
    heap_fini(&heap);
}
END_TEST

static struct heap_node *least_of(struct heap_node *nodes, size_t count)
{
    struct heap_node *least = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!heap_holds(&nodes[i]))
            continue;
        if (least == NULL || nodes[i].key < least->key ||
            (nodes[i].key == least->key && nodes[i].sequence < least->sequence))
            least = &nodes[i];
    }
    return least;
}

/* Against a plain search for the least, under random pushes, pops, removals and moves. */
START_TEST(the_top_is_always_the_least)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct heap heap;
    heap_init(&heap);
    struct heap_node nodes[60] = {0};
    for (uint64_t step = 0; step < 20000; step++) {
        struct heap_node *node = &nodes[rng_below(&rng, ARRAY_LEN(nodes))];
        if (!heap_holds(node)) {
            node->key = rng_below(&rng, 50);
            node->sequence = step;
            ck_assert_int_eq(heap_push(&heap, node), ERR_OK);
        } else if (rng_chance(&rng, 300000)) {
            heap_remove(&heap, node);
            ck_assert(!heap_holds(node));
        } else if (rng_chance(&rng, 500000)) {
            node->key = rng_below(&rng, 50);
            heap_key_changed(&heap, node);
        } else {
            struct heap_node *least = least_of(nodes, ARRAY_LEN(nodes));
            ck_assert_ptr_eq(heap_pop(&heap), least);
            ck_assert(!heap_holds(least));
        }
        ck_assert_ptr_eq(heap_top(&heap), least_of(nodes, ARRAY_LEN(nodes)));
    }
    heap_fini(&heap);
}
END_TEST

START_TEST(removing_a_node_of_no_heap_does_nothing)
{
    struct heap heap = {0};
    struct heap_node node = {.key = 1};
    heap_remove(&heap, &node);
    ck_assert_ptr_null(heap_top(&heap));
    heap_fini(&heap);
}
END_TEST

CHECK_MAIN("base/heap", equal_keys_come_out_in_order_of_sequence, the_top_is_always_the_least,
           removing_a_node_of_no_heap_does_nothing)
