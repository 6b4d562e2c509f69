#include "base/list.h"

#include "lib/check_main.h"

struct item {
    int number;
    struct list_node link;
};

START_TEST(nodes_come_out_in_order)
{
    struct list_node head;
    list_init(&head);
    ck_assert(list_empty(&head));
    ck_assert_ptr_null(list_pop_front(&head));
    struct item items[4];
    for (int i = 1; i < 4; i++) {
        items[i].number = i;
        list_push_back(&head, &items[i].link);
    }
    items[0].number = 0;
    list_push_front(&head, &items[0].link);
    int next = 0;
    list_for_each (node, &head)
        ck_assert_int_eq(list_entry(node, struct item, link)->number, next++);
    ck_assert_int_eq(next, 4);
    for (int i = 0; i < 4; i++)
        ck_assert_ptr_eq(list_pop_front(&head), &items[i].link);
    ck_assert(list_empty(&head));
}
END_TEST

START_TEST(the_node_at_hand_may_be_removed)
{
    struct list_node head;
    list_init(&head);
    struct item items[6];
    for (int i = 0; i < 6; i++) {
        items[i].number = i;
        list_push_back(&head, &items[i].link);
    }
    list_for_each_safe (node, after, &head) {
        if (list_entry(node, struct item, link)->number % 2 == 0)
            list_remove(node);
    }
    list_remove(&items[0].link); /* a second time does nothing */
    for (int i = 1; i < 6; i += 2)
        ck_assert_ptr_eq(list_pop_front(&head), &items[i].link);
    ck_assert(list_empty(&head));
}
END_TEST

CHECK_MAIN("base/list", nodes_come_out_in_order, the_node_at_hand_may_be_removed)
