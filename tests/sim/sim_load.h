/* sim_load.h - the topics of the load, and the client that is libkarst's own code (sim_karst.c):
 * its state machine (client/client.h) on a host of its own, producing to and reading from one
 * topic. */
#ifndef KARST_TESTS_SIM_LOAD_H
#define KARST_TESTS_SIM_LOAD_H

#include "sim/sim_run.h"

enum {
    LOAD_TOPICS = 6,
    LOAD_STRICT = 4, /* the first ones lose nothing; the others are of scenarios that say so */
    LOAD_PARTITIONS_MAX = 4
};

/* Made by the admin client, known to all. */
struct load_topic {
    const char *name;
    int32_t partitions, replication_factor, min_isr;
    int16_t acks;
    bool idempotent;
    bool karst;   /* libkarst alone produces to it */
    bool cached;  /* acknowledged from the page cache (R20) */
    bool unclean; /* who was not in sync may be elected (R8) */
};
extern const struct load_topic load_topics[LOAD_TOPICS];
int load_topic_count(const struct sim_run *run);

void sim_karst_add(struct sim_run *run);
void sim_karst_free(struct sim_karst *karst); /* accepts NULL */
void sim_karst_end_load(struct sim_karst *karst);
void sim_karst_read_all(struct sim_karst *karst);
bool sim_karst_idle(const struct sim_karst *karst, char *ret_why, size_t size);

#endif
