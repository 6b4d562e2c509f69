/* internal.h - what the files of src/replica share.
 *
 *   replica.c    the step: which event goes where; leadership; answers to callers
 *   leader.c     produce, flushes, followers' orders, the high watermark, waiters
 *   isr.c        the in-sync set: who joins, who leaves, proposals
 *   follower.c   the leader's answers: append, cut, ask again
 *   producers.c  sequences and duplicates
 *   snapshot.c   the same as bytes */
#ifndef KARST_REPLICA_INTERNAL_H
#define KARST_REPLICA_INTERNAL_H

#include "replica/replica.h"

/* replica.c */
struct replica_effect *effect_add(struct replica_effects *fx, enum replica_effect_type type);
void waiter_answer(struct replica *r, struct replica_waiter *waiter, err_t err,
                   struct replica_effects *fx);
void waiters_fail(struct replica *r, err_t err, struct replica_effects *fx);
void replica_stop(struct replica *r, err_t err, struct replica_effects *fx);
/* The end that counts as kept: the flushed one, but for topics that do without. */
offset_t replica_own_durable(const struct replica *r);

/* leader.c */
void leader_become(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
/* R9: its epoch stands in the log's epochs, also when it has written nothing. */
void leader_note_epoch(const struct replica *r, struct replica_effects *fx);
void leader_produce(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void leader_appended(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void leader_fetched(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void replica_leader_tick(struct replica *r, const struct replica_event *ev,
                         struct replica_effects *fx);
/* Moves the high watermark as far as the ISR allows, and answers who waited for it. */
void leader_review(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
offset_t follower_durable(const struct replica *r, const struct replica_follower *f); /* -1 */
void follower_forget(struct replica_follower *f, uint64_t now_ns);
struct replica_follower *follower_find(struct replica *r, node_id_t node); /* NULL; never self */

/* isr.c */
static inline uint32_t place_bit(uint32_t place)
{
    return UINT32_C(1) << place;
}
/* Whose durable ends bound the high watermark (R5). */
uint32_t isr_maximal(const struct replica *r);
bool isr_has_enough(const struct replica *r); /* the committed ISR, for acks=all (R5) */
/* Proposes what should change. lag: also who fell behind. */
void isr_review(struct replica *r, uint64_t now_ns, bool lag, struct replica_effects *fx);
void isr_altered(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void isr_alter_failed(struct replica *r, const struct replica_event *ev);
/* The image's partition is newer than the one before. */
void isr_settled(struct replica *r);

/* follower.c */
void follower_become(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void follower_data(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void follower_appended(struct replica *r, const struct replica_event *ev,
                       struct replica_effects *fx);
void follower_cut(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void follower_tick(struct replica *r, const struct replica_event *ev, struct replica_effects *fx);
void follower_stream_lost(struct replica *r, const struct replica_event *ev);
void follower_raise_hw(struct replica *r, struct replica_effects *fx);

/* producers.c */
struct producer_batch {
    int32_t first, last; /* sequences */
    offset_t base, end;
};

struct producer {
    struct list_node use;
    producer_id_t id;
    int16_t epoch;
    uint8_t count;
    uint64_t noted; /* batches in the log, also those that the window has no place for */
    struct producer_batch window[PRODUCER_WINDOW]; /* the oldest first */
};

enum sequence_verdict {
    SEQUENCE_NEW,
    SEQUENCE_DUPLICATE,
    SEQUENCE_OLD_DUPLICATE,
    SEQUENCE_REFUSED
};

struct sequence_check {
    err_t err;          /* REFUSED */
    offset_t base, end; /* DUPLICATE: of the original; OLD_DUPLICATE: end is below the window */
};
void producers_init(struct producers *p, uint32_t count_max, bool complete);
void producers_fini(struct producers *p);
void producers_clear(struct producers *p, bool complete);
/* batches[at]; those before it are taken as if they were appended. */
enum sequence_verdict producers_check(const struct producers *p, const struct batch_info *batches,
                                      uint32_t at, struct sequence_check *ret_check);
void producers_note(struct producers *p, const struct batch_info *info);
struct producer *producers_add(struct producers *p, producer_id_t id); /* it is not known */
/* Forgets batches at or above end. False: the rest does not follow from what is known. */
bool producers_cut(struct producers *p, offset_t end);

#endif
