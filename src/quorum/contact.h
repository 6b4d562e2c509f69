/* contact.h - until when did a majority of the voters know this leader? The brokers' leases hang on
 * it (R10): what leads next was elected after that moment, and so knows when the last lease ends.
 *
 * Each AppendEntries carries the leader's clock, and each answer the newest that its follower has
 * had of that term: whoever answers in a term had not voted in a later one when that was sent. (The
 * time at which the answer comes in proves nothing: it may have lain in a network for long.)
 *
 * Thread: the quorum's. Pure. */
#ifndef KARST_QUORUM_CONTACT_H
#define KARST_QUORUM_CONTACT_H

#include <raft.h>

#include "quorum/members.h"

struct contact {
    /* as a leader: the newest answered stamp of each voter */
    uint64_t term;
    struct {
        raft_id voter;
        uint64_t sent_ns;
    } rows[MEMBERS_MAX];
    unsigned count;
    /* as a follower: the newest stamp of that term */
    uint64_t asked_term, asked_ns;
};

/* An AppendEntries came, of this term; current_term is the receiver's, before it takes it. */
void contact_asked(struct contact *contact, uint64_t term, uint64_t sent_ns, uint64_t current_term);
/* The stamp for an answer in that term; 0: none. */
uint64_t contact_stamp(const struct contact *contact, uint64_t term);
/* The leader of term got an answer of that term. */
void contact_answered(struct contact *contact, uint64_t term, raft_id voter, uint64_t sent_ns);
/* For the leader of term: when it sent what that voter has answered last; 0: nothing. */
uint64_t contact_ns(const struct contact *contact, uint64_t term, raft_id voter);
/* For the leader of term: the newest time by its clock at which a majority of the configuration's
 * voters had begun no later term, itself included; 0: never. */
uint64_t contact_majority_ns(const struct contact *contact, uint64_t term, raft_id self,
                             const struct raft_configuration *configuration, uint64_t now_ns);

#endif
