/* actor.h - what the loops of both kinds (libevent for shards, libuv for the quorum) share: an env
 * with its timers, disks, mail, workers and completions. A loop adds the waiting, and the net.
 *
 *   init ──> [turn_begin → events of the loop → work → turn_end → may_wait?]* ──> fini
 *
 * Thread: the loop's; but io_actor_stop may come from any. */
#ifndef KARST_IO_ACTOR_H
#define KARST_IO_ACTOR_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/rng.h"
#include "env/env.h"
#include "io/disk.h"
#include "io/inbox.h"
#include "io/mailbox.h"
#include "io/timers.h"
#include "io/wake.h"
#include "io/workers.h"

struct io_node;

struct io_actor {
    struct env env;
    struct io_node *node;
    unsigned number;
    struct io_wake wake;
    struct io_inbox inbox;
    struct io_timers timers;
    struct io_mailbox mailbox;
    struct io_workers *workers;
    struct io_disk *disks;
    struct rng rng;
    atomic_bool stopping;
};

/* directories: those of this actor. On failure it is as after fini. */
err_t io_actor_init(struct io_actor *actor, struct io_node *node, unsigned number,
                    struct io_directory *directories, size_t directory_count);
void io_actor_fini(struct io_actor *actor);

static inline bool io_actor_stopping(const struct io_actor *actor)
{
    return atomic_load_explicit(&actor->stopping, memory_order_relaxed);
}
/* The loop ends at the next chance, and no upcall comes any more. */
void io_actor_stop(struct io_actor *actor);

/* Fires timers, completes operations, hands over mail; bounded. Returns whether some is left. */
bool io_actor_work(struct io_actor *actor);
/* The upcall turn_ended; then what the turn gathered for others goes out. */
void io_actor_turn_end(struct io_actor *actor);
/* True: the loop may wait for its descriptors (wake.fd and timers.fd among them). Afterwards, also
 * when it did not wait, io_actor_awake. */
bool io_actor_may_wait(struct io_actor *actor);
void io_actor_awake(struct io_actor *actor);

#endif
