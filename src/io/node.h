/* node.h - the inside of a node, for the loops (src/io, src/io_uv) and their tests. */
#ifndef KARST_IO_NODE_H
#define KARST_IO_NODE_H

#include <limits.h>
#include <pthread.h>

#include "io/actor.h"
#include "io/io.h"

struct io_loop;
struct io_net;
struct io_acceptor;

enum { IO_NODE_RUNS = INT_MIN }; /* in place of an exit code */

/* A loop of another kind: run is its thread's body; free is called when all threads have ended. */
struct io_foreign_loop {
    void (*run)(void *loop);
    void (*free)(void *loop);
    void *loop;
};

struct io_node {
    struct io_config config; /* pointers in it are not kept */
    unsigned actor_count;    /* shards and the quorum */
    struct io_mail mail;
    struct io_workers workers;
    struct io_directory *directories; /* the shards', then the quorum's if there is one */
    size_t directory_count;           /* the shards' */
    size_t directories_opened;
    struct io_actor *actors; /* [actor_count] */
    unsigned actors_made;
    struct io_loop *loops; /* [shard_count] */
    struct io_net **nets;  /* theirs */
    struct io_acceptor *acceptor;
    struct io_foreign_loop quorum;
    pthread_t *threads; /* [actor_count] */
    unsigned started;
    int ended_fd;         /* eventfd: readable when the node is to end */
    atomic_int exit_code; /* IO_NODE_RUNS: not yet to end */
};

int io_node_exit_code(const struct io_node *node);

/* The quorum's actor, whose loop the caller brings; between new and start. */
struct io_actor *io_node_quorum(struct io_node *node);
void io_node_set_quorum_loop(struct io_node *node, const struct io_foreign_loop *loop);

#endif
