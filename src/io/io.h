/* io.h - the real world behind env.h: one process's actors, each with a loop on its own thread.
 *
 *   io_node_new ──> [actors set env->upcalls, read their disks] ──> io_node_start
 *      ──> io_node_wait (signals) ──> somebody calls exit_node ──> io_node_join ──> io_node_free
 *
 * Shards 0 .. n-1 run libevent loops. The quorum's actor (number n) has its loop in src/io_uv,
 * which adds it between new and start. A client is a node of one shard without directories,
 * listeners, or quorum. Threads:  actors + one flusher for each directory + the workers. All
 * signals are blocked in them. Functions here are the main thread's, unless they say otherwise. An
 * env may be used by the main thread until the start, by its loop from then until io_node_join
 * returns, and afterwards again by main, but without syncs, mail, and workers. Bounds:   in struct
 * io_config; what happens at each bound stands there. */
#ifndef KARST_IO_IO_H
#define KARST_IO_IO_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "env/env.h"

enum { IO_SHARDS_MAX = 63 };

struct io_listener {
    const char *host; /* NULL or "": all addresses */
    uint16_t port;    /* 0: any free one; io_node_port tells it */
};

struct io_config {
    unsigned shard_count;
    /* They must exist. Shards see them all as env->disks, in this order. */
    const char *const *directories;
    size_t directory_count;
    const char
        *metadata_directory; /* the quorum's only disk; NULL: this node has no quorum actor */
    /* One socket each. New connections go to the shard that has the fewest. */
    const struct io_listener *listeners;
    size_t listener_count;
    uint32_t frame_bytes_max; /* socket.request.max.bytes; what a frame's length may say. Over it:
                                 the connection closes with ERR_INVALID_REQUEST */
    uint64_t budget_bytes;    /* queued.max.request.bytes, of all shards. A shard over its part ends
                              the frames that it has begun, one at a time; when none ends for 2 s,
                              the largest of them is given up with its connection */
    uint32_t output_bytes_max; /* of a connection; over it its reads pause until half is sent */
    uint32_t stall_ms;         /* a peer that reads nothing of its output, or sends nothing of the
                                  frame it has begun, for so long is closed */
    uint32_t dial_ms;          /* a dial that takes longer is ERR_UNREACHABLE */
    uint32_t connections_max;  /* of a shard; at it new ones wait in the listener's backlog, dials
                                  are  refused with ERR_FULL; a sixteenth is kept for dials */
    uint32_t mailbox_slots;    /* of each ordered pair of actors, a power of two: ERR_FULL */
    uint32_t worker_threads;
    uint32_t worker_queue_max; /* jobs: ERR_FULL */
};

struct io_node;

/* Kafka's defaults where Kafka has the value; one shard and nothing else. */
void io_config_init(struct io_config *config);

/* Opens the directories and binds the listeners; nothing runs yet. why gets a sentence for a person
 * that names the cause ("listener 127.0.0.1:9091: address in use"). */
err_t io_node_new(const struct io_config *config, struct io_node **ret_node, char *why,
                  size_t why_size);
/* When all threads have ended: what nobody took any more. Before io_node_free; accepts NULL. */
void io_node_drop_mail(struct io_node *node, void (*drop)(void *message));
void io_node_free(struct io_node *node); /* joined, or never started; accepts NULL */

/* Of shard 0 .. n-1, or of the quorum (n). Valid until io_node_free. */
struct env *io_node_env(struct io_node *node, unsigned actor);
uint16_t io_node_port(const struct io_node *node, unsigned listener);

/* Starts all threads. On failure none runs. */
err_t io_node_start(struct io_node *node);
/* Gives an actor mail from outside of all actors; from any thread. ERR_FULL: it stays the caller's.
 */
err_t io_node_post(struct io_node *node, unsigned actor, void *message);
/* Waits for one of the signals, which the caller has blocked, and returns its number; or returns 0
 * when the node is to end. signals NULL: none. */
int io_node_wait(struct io_node *node, const sigset_t *signals);
/* What exit_node of an actor does; from any thread. The first code counts. All loops end after the
 * upcall at hand; with code 0 they first give the kernel what it takes of their output. why: for a
 * log line; NULL: none. */
void io_node_end(struct io_node *node, int code, const char *why);
/* Waits until all threads have ended, the loops first; returns the exit code. */
int io_node_join(struct io_node *node);

#endif
