/* list.h - intrusive doubly linked circular list; a node that is in no list links to itself. */
#ifndef KARST_BASE_LIST_H
#define KARST_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list_node {
    struct list_node *next, *prev;
};

static inline void list_init(struct list_node *head)
{
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list_node *head)
{
    return head->next == head;
}
static inline void list_push_back(struct list_node *head, struct list_node *node)
{
    node->prev = head->prev;
    node->next = head;
    head->prev->next = node;
    head->prev = node;
}
static inline void list_push_front(struct list_node *head, struct list_node *node)
{
    list_push_back(head->next, node);
}
/* Safe on a node that is in no list, if it was initialised. */
static inline void list_remove(struct list_node *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    node->next = node->prev = node;
}
/* NULL when empty. */
static inline struct list_node *list_pop_front(struct list_node *head)
{
    struct list_node *node = head->next;
    if (node == head)
        return NULL;
    list_remove(node);
    return node;
}

#define list_entry(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))
#define list_for_each(node, head)                                                                  \
    for (struct list_node *node = (head)->next; node != (head); node = node->next)
/* The node at hand may be removed. */
#define list_for_each_safe(node, after, head)                                                      \
    for (struct list_node *node = (head)->next, *after = node->next; node != (head);               \
         node = after, after = node->next)

#endif
