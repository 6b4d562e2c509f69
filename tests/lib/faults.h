/* faults.h - the nth of something fails, once: each call of a disk, or each allocation of the code
 * under test. For loops that fail every one of them (SQLite's way), one in each run:
 *
 *   for (uint64_t nth = 1; ran_into; nth++) {
 *       faults_arm(FAULTS_MEMORY, nth, ERR_NO_MEMORY);
 *       ... the code under test ...
 *       ran_into = faults_disarm();
 *       ... what it promised holds ...
 *   }
 *
 * Allocations are those of all objects of the program (malloc, calloc, realloc, strdup, and those
 * from arenas, through the linker's --wrap), but for what runs between faults_quiet and
 * faults_loud: the test's own.
 * Thread: one. */
#ifndef KARST_TESTS_FAULTS_H
#define KARST_TESTS_FAULTS_H

#include "env/env.h"

enum faults_kind {
    FAULTS_NONE,
    FAULTS_DISK,   /* a call of a faults_disk answers the error, and does nothing */
    FAULTS_MEMORY, /* an allocation answers NULL */
    FAULTS_PLACES  /* the same, for programs that allocate much: each place in the code once, as its
                      last callers tell it; nth does not matter */
};

void faults_arm(enum faults_kind kind, uint64_t nth, err_t err);
/* True: the nth was reached. */
bool faults_disarm(void);
bool faults_met(void);
void faults_quiet(void); /* nests */
void faults_loud(void);

/* A disk whose calls fail; the world behind it is quiet. */
struct faults_disk {
    struct env_disk env; /* what the code under test gets */
    struct env_disk *inner;
    bool sound; /* this one's calls do not count */
};
void faults_disk_init(struct faults_disk *disk, struct env_disk *inner);

/* An env changed in place, for a program that is quiet: loud is what its actor does in upcalls and
 * timers, and not what the world does for it meanwhile. After the actor has set its upcalls. */
enum { FAULTS_TIMERS_MAX = 256, FAULTS_DISKS_MAX = 4 };
struct faults_env {
    struct env inner; /* as it was */
    struct faults_disk disks[FAULTS_DISKS_MAX];
    struct env_disk disk_envs[FAULTS_DISKS_MAX];
    void *actor;
    struct {
        struct env_timer *timer;
        void (*fire)(struct env_timer *timer, uint64_t now_ns);
    } timers[FAULTS_TIMERS_MAX];
};
void faults_env_wrap(struct faults_env *faulty, struct env *env);

#endif
