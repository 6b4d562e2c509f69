/* lab.h - a node with simple actors, whose threads do what a test hands them; a temporary
 * directory; and plain blocking sockets as the other side. Everything waits for events, nothing for
 * time. */
#ifndef KARST_TESTS_UNIT_IO_LAB_H
#define KARST_TESTS_UNIT_IO_LAB_H

#include <check.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "env/env.h"
#include "io/io.h"

enum { LAB_ACTORS_MAX = 3, LAB_PATH_SIZE = 256 };

struct lab_counts { /* what an actor's upcalls told so far */
    unsigned accepted, connected, received, closed, drained, room;
    uint64_t received_bytes;
    err_t closed_err; /* of the last one */
};

struct lab_actor {
    struct lab *lab;
    struct env *env;
    unsigned number;
    env_conn conn; /* the last accepted or connected one; the actor's thread's */
    /* NULL: each frame is sent back. The frame is the callee's. */
    void (*on_received)(struct lab_actor *actor, env_conn conn, struct frame *frame);
    void *own;                /* the test's */
    struct lab_counts counts; /* under the lab's lock */
};

struct lab {
    struct io_node *node;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct lab_actor actors[LAB_ACTORS_MAX];
    unsigned actor_count;
    unsigned received; /* by all actors; under the lock */
};

/* A configuration with one shard, one listener on a free port of 127.0.0.1, and small bounds. */
struct io_config lab_config(void);
/* shards and, if it has a metadata directory, the quorum's; made, not started: a test sets
 * on_received between. */
void lab_make(struct lab *lab, const struct io_config *config);
void lab_start(struct lab *lab);
/* lab_make and lab_start. */
void lab_open(struct lab *lab, const struct io_config *config);
void lab_close(struct lab *lab); /* ends the node with code 0, and checks that it does */

/* Runs on the thread of the actor; returns when it has run. */
void lab_call(struct lab *lab, unsigned actor, void (*run)(struct lab_actor *actor, void *arg),
              void *arg);
/* The same, but returns at once. */
void lab_tell(struct lab *lab, unsigned actor, void (*run)(struct lab_actor *actor, void *arg),
              void *arg);
/* From an actor's thread to another actor: run is called there. Returns what post said. */
err_t lab_post(struct lab_actor *from, unsigned to, void (*run)(struct lab_actor *actor, void *arg),
               void *arg);
/* Waits until the member of the actor's counts is at least the value. */
#define lab_wait(lab, actor, member, value)                                                        \
    lab_wait_until(lab, &(lab)->actors[actor].counts.member, value)
void lab_wait_until(struct lab *lab, const unsigned *count, unsigned value);
struct lab_counts lab_counts(struct lab *lab, unsigned actor);
/* For a test's own counters: under the lock, and told to those who wait. */
void lab_add(struct lab *lab, unsigned *count);

/* A connection to the lab's listener, to be closed by the test. */
int lab_dial(struct lab *lab);
void lab_write(int fd, const void *data, size_t len);
/* Reads exactly len bytes. */
void lab_read(int fd, void *into, size_t len);
/* Reads until the end; returns the bytes. An error (a reset) counts as the end, too. */
size_t lab_read_to_end(int fd);
/* Fills a frame of total bytes, the length word included; the rest depends on seed. */
void lab_fill_frame(uint8_t *bytes, size_t total, uint64_t seed);
struct frame *lab_frame(size_t total, uint64_t seed);

/* A fresh directory under TMPDIR, removed with all that it has by lab_remove_directory. */
void lab_make_directory(char path[LAB_PATH_SIZE]);
void lab_remove_directory(const char *path);

#endif
