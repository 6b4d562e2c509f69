/* configurations.h - which servers make up the quorum, by this server's log: the configuration of
 * its snapshot, and each change entry behind it.
 *
 *   [at or before the snapshot] [change] ... [the last: in force, committed or not]
 *
 * libraft keeps but two indexes for this, and loses its way with them (raft_guard.c); this is what
 * the log says. Thread: the quorum's. Memory: there is no going on without it. */
#ifndef KARST_QUORUM_CONFIGURATIONS_H
#define KARST_QUORUM_CONFIGURATIONS_H

#include "quorum/members.h"

struct configurations {
    struct members *list; /* by index, rising */
    size_t count, capacity;
};
void configurations_fini(struct configurations *configurations); /* accepts zeroed */

/* A change entry was written at members->index, above all that are known. */
void configurations_note(struct configurations *configurations, const struct members *members);
/* The log was cut: entries from index on are gone. */
void configurations_cut(struct configurations *configurations, uint64_t index);
/* A snapshot at index is durable: of those up to it the last one is enough. */
void configurations_drop(struct configurations *configurations, uint64_t index);
/* The log was replaced by a snapshot. */
void configurations_reset(struct configurations *configurations, const struct members *members);

/* The one in force at index; NULL: not known (any more). Valid until the next change. */
const struct members *configurations_at(const struct configurations *configurations,
                                        uint64_t index);
const struct members *configurations_last(const struct configurations *configurations);

/* NULL: no such server. */
const struct member *members_find(const struct members *members, node_id_t node);
unsigned members_voters(const struct members *members);
/* The same servers in the same order, in the same roles. */
bool members_equal(const struct members *members, const struct raft_configuration *configuration);

#endif
