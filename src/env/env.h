/* env.h - the world as Karst's code sees it: clock, timers, disks, net, mail, workers.
 *
 * One env for each actor: a shard, or the quorum. src/io implements it with libevent (shards),
 * src/io_uv with libuv (the quorum); tests/sim implements it with virtual time. Everything above
 * this floor reaches the world through it, so that the simulator owns every order of events.
 *
 * Thread:    an env belongs to one thread; only mail crosses, by its owner's mailbox.
 * Calls:     what returns an error never completes; what returns ERR_OK and takes a completion
 *            completes exactly once, later, from the loop: never inside the call.
 * Upcalls:   run on the actor's thread, from the loop, never inside a call of the actor's.
 * Ownership: completions and timers are embedded in the caller's object, which must outlive them.
 * Units:     ns for the monotonic clock, ms for wall time, bytes for everything else. */
#ifndef KARST_ENV_ENV_H
#define KARST_ENV_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/assert.h"
#include "base/err.h"
#include "base/frame.h"
#include "base/heap.h"
#include "base/list.h"

/* ---- clock, timers ---- */

struct env_timer {
    struct heap_node heap;                                  /* the loop's */
    uint64_t due_ns;                                        /* 0: not started */
    void (*fire)(struct env_timer *timer, uint64_t now_ns); /* may start it again */
};

struct env_clock {
    uint64_t (*mono_ns)(void *self); /* CLOCK_BOOTTIME: leases must see a suspended machine (R10) */
    int64_t (*wall_ms)(void *self);  /* record timestamps only, never decisions */
    void *self;
};

/* ---- disk ---- */

struct env_done {
    struct list_node link; /* the loop's */
    void (*done)(struct env_done *op, err_t err);
    err_t err;    /* the loop's */
    void *target; /* the loop's: the file of a sync */
};

typedef struct {
    int32_t id; /* -1: none */
} env_file;

enum env_open {
    ENV_OPEN_CREATE = 1,    /* when it is not there */
    ENV_OPEN_EXCLUSIVE = 2, /* with CREATE: ERR_EXISTS when it is there */
    ENV_OPEN_MARK = 4       /* with CREATE: also in an offline directory; a name, and no bytes */
};

/* Names are relative to the log directory that the disk was opened for ("orders-0/00000000.log");
 * no name begins with '/' or holds "..". Missing files: ERR_NOT_FOUND. No room:
 * ERR_NOT_ENOUGH_SPACE. Files of a disk may be opened by several actors, each with an env_disk of
 * its own. */
struct env_disk {
    err_t (*open)(void *self, const char *name, unsigned flags, env_file *ret_file);
    /* Returns when the bytes are visible to readers (page cache); durable only after sync. Short
     * writes are errors. Writing past the end extends the file. */
    err_t (*write)(void *self, env_file file, uint64_t at, const struct iovec *parts, int count);
    /* Up to bytes from at; *ret_bytes is less only at the end of the file. */
    err_t (*read)(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                  size_t *ret_bytes);
    err_t (*size)(void *self, env_file file, uint64_t *ret_bytes);
    /* Extends the file to from + bytes; the new part reads as zeros and has its blocks (R13). */
    err_t (*allocate)(void *self, env_file file, uint64_t from, uint64_t bytes);
    /* All from the cut to the end of the file reads as zeros; the size stays (R13). Not durable. */
    err_t (*zero_from)(void *self, env_file file, uint64_t from);
    err_t (*set_size)(void *self, env_file file, uint64_t bytes); /* cuts, or extends by a hole */
    /* Joins the directory's next flush round. What was written before the call is durable when it
     * completes with ERR_OK; the caller notes (generation, end) before calling (R6). After a
     * failure the directory is offline for good: every later sync fails (R14). */
    err_t (*sync)(void *self, env_file file, struct env_done *op);
    /* Blocks; for small checked files (term and vote, checkpoints), start and stop only. */
    err_t (*sync_now)(void *self, env_file file);
    err_t (*sync_names)(void *self, const char *directory); /* "" is the log directory itself */
    /* Blocks until all that was written, cut and named on the disk is durable: for start and stop,
     * where many files would each cost a sync. ERR_UNSUPPORTED_VERSION: nothing was done, since the
     * disk can't, or would not tell of failures (R18): each file is to be synced. After another
     * failure the directory is offline, like after a failed sync. A worker may call it, too. */
    err_t (*sync_all)(void *self);
    err_t (*make_directory)(void *self, const char *name);         /* ERR_EXISTS when it is there */
    err_t (*rename)(void *self, const char *from, const char *to); /* replaces; directories too */
    err_t (*unlink)(void *self, const char *name); /* a file or an empty directory */
    /* Calls each for every entry, in no special order; each must not touch the disk. */
    err_t (*list)(void *self, const char *directory,
                  void (*each)(void *context, const char *entry, bool is_directory), void *context);
    err_t (*free_bytes)(void *self, uint64_t *ret_bytes);
    /* How long the flush round at hand lasts already; 0: there is none. NULL: nobody knows. */
    uint64_t (*sync_age_ns)(void *self);
    /* What is clean leaves the page cache: the next reads tell what is on the disk (R14). */
    err_t (*drop_cache)(void *self, env_file file);
    void (*close)(void *self, env_file file);
    /* A sync failed, whoever's and of whatever: the directory is offline for good (R14). */
    bool (*is_offline)(void *self);
    void *self;
};

/* ---- net ---- */

/* A closed connection's handle matches nobody: its generation is past. */
typedef struct {
    uint32_t slot, generation; /* generation 0: none */
} env_conn;

static inline bool env_conn_equal(env_conn a, env_conn b)
{
    return a.slot == b.slot && a.generation == b.generation;
}

/* Whole frames, never sockets. A frame on the wire begins with its length: four bytes, big-endian,
 * counting what follows them. Only shards and clients have a net; the quorum's frames go to its
 * shard by mail. */
struct env_net {
    /* Completes with the upcall connected, or with closed. port 0 is refused. */
    err_t (*dial)(void *self, const char *host, uint16_t port, env_conn *ret_conn);
    /* Queues frame->bytes[at .. at+bytes): whole frames, or the parts of one in order. Takes over
     * one reference of the caller's, also on failure. Sent at the end of the turn at the latest. */
    err_t (*send)(void *self, env_conn conn, struct frame *frame, size_t at, size_t bytes);
    /* What is not yet given to the kernel; 0 when the connection is gone. */
    size_t (*queued_bytes)(void *self, env_conn conn);
    /* How its bytes move, whatever becomes of the frames: when the peer last sent some, and how
     * many of ours its host has not taken yet. NULL: that is not told. */
    void (*movement)(void *self, env_conn conn, uint64_t *ret_received_ns, size_t *ret_untaken);
    void (*pause_reads)(void *self, env_conn conn, bool paused);
    /* Of a broker: it is read over the budget, too, since what it says gives memory back. What was
     * dialled always is. NULL: there is no budget. */
    void (*trust)(void *self, env_conn conn);
    /* Closes at once; what is queued is lost; the upcall closed does not come. Unknown: nothing. */
    void (*drop)(void *self, env_conn conn);
    /* Closes when what is queued is sent, or the peer is gone; the upcall closed does not come. */
    void (*finish)(void *self, env_conn conn);
    void *self;
};

/* ---- mail, workers ---- */

/* Actors of a node are numbered: shards 0 .. n-1, the quorum n. Bounded, in order between any two,
 * one wake-up for many. */
struct env_mail {
    /* The message is the receiver's when ERR_OK. ERR_FULL: nothing was taken; the sender keeps it,
     * and tries again at the upcall mail_room. */
    err_t (*post)(void *self, unsigned to_actor, void *message);
    void *self;
};

/* Blocking or long work elsewhere; done comes back here. run may touch only what arg owns. */
struct env_workers {
    err_t (*submit)(void *self, void (*run)(void *arg), void *arg, struct env_done *op);
    void *self;
};

/* ---- what the world tells the actor ---- */

struct env_upcalls {
    /* listener: its place in the configuration's list. peer: "10.0.0.7:51234", for log lines. */
    void (*accepted)(void *actor, env_conn conn, unsigned listener, const char *peer);
    void (*connected)(void *actor, env_conn conn); /* a dial came through */
    /* The frame is the actor's, its length word included; its size was checked against
     * socket.request.max.bytes. */
    void (*received)(void *actor, env_conn conn, struct frame *frame);
    /* The handle is dead. ERR_REFUSED: the peer's own address refused (a proof of death, R10);
     * ERR_UNREACHABLE, ERR_CLOSED, ERR_IO, ERR_INVALID_REQUEST (a frame's length is out of range),
     * ERR_REQUEST_TIMED_OUT (the peer neither reads nor ends its frame), ERR_NO_MEMORY. */
    void (*closed)(void *actor, env_conn conn, err_t err);
    /* The output queue fell under half of its bound after having been over it. */
    void (*drained)(void *actor, env_conn conn);
    void (*mail)(void *actor, void *message);
    void (*mail_room)(void *actor, unsigned to_actor);
    /* After each batch of upcalls, timers and completions, before the loop waits: what was gathered
     * during the turn is sent now. */
    void (*turn_ended)(void *actor);
};

struct env {
    struct env_clock clock;
    struct env_disk *disks; /* one for each log directory; the quorum: its metadata directory */
    size_t disk_count;
    struct env_net net; /* zeroed for the quorum */
    struct env_mail mail;
    struct env_workers workers;
    uint64_t (*random)(void *self); /* seeded; ids and jitter, never safety */
    /* Starting a started timer moves it. */
    void (*timer_start)(void *self, struct env_timer *timer, uint64_t due_ns);
    void (*timer_stop)(void *self, struct env_timer *timer);
    void *self;
    /* Set by the actor's init, before the loop runs; NULL entries are never called. */
    struct env_upcalls upcalls;
    void *actor;
    /* The actor asks its process to end: fail-stop, or asked by SIGTERM and done. In the broker the
     * process exits with that code after a clear log line; in the simulator the node stops. */
    void (*exit_node)(void *self, int code, const char *why);
};

static inline uint64_t env_now(const struct env *env)
{
    return env->clock.mono_ns(env->clock.self);
}
#define ENV_MS(ms) ((uint64_t)(ms)*UINT64_C(1000000))

#endif
