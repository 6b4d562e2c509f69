/* frame.h - reference-counted bytes: one message of the wire, or a block that replies point into.
 *
 * Ownership: frame_new gives one reference; whoever drops the last one frees it.
 * Thread:    references may be taken and dropped on any thread; the bytes are written only while
 *            there is one owner.
 * Small frames (to 64 KiB) come from a bounded cache of the calling thread. */
#ifndef KARST_BASE_FRAME_H
#define KARST_BASE_FRAME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the frames of one shard may hold together; over it the shard stops reading its sockets. */
struct frame_budget {
    atomic_size_t used; /* bytes */
    size_t bytes_max;
};

struct frame {
    atomic_uint refs;
    uint32_t capacity;           /* bytes */
    uint32_t used;               /* bytes */
    uint32_t at;                 /* a mark of the owner's: where what matters begins */
    struct frame_budget *budget; /* charged until freed; NULL: none */
    uint64_t charge;             /* bytes */
    uint8_t bytes[];             /* 16-byte aligned */
};

/* capacity > 0 and below 2 GiB; NULL when there is no memory. used is 0, bytes are not cleared. */
struct frame *frame_new(size_t capacity);
/* The same, charged to a budget, which must outlive it; the charge itself never fails. */
struct frame *frame_new_charged(size_t capacity, struct frame_budget *budget);
/* So much more is held because of it, as long as it lives. By its only owner. */
void frame_charge(struct frame *frame, size_t bytes);
/* More is charged to its budget than that may hold. */
bool frame_over_budget(const struct frame *frame);
struct frame *frame_ref(struct frame *frame);
void frame_unref(struct frame *frame); /* accepts NULL */
/* Frees what this thread's cache holds; before the thread ends. */
void frame_cache_drain(void);

#endif
