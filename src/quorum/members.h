/* members.h - raft's configuration as a value: libraft exports no decoder, and its own trusts the
 * bytes.
 *
 * raft's server ids must be above zero and Karst's node ids begin at zero: id = node + 1.
 * An address is "host:port"; the host may be an IPv6 literal. Of a voter that was added at run time
 * it is "host:port/directory": the id of the log directory that it was added with. Who comes back
 * with another one has lost its vote, and is another voter (KIP-853). */
#ifndef KARST_QUORUM_MEMBERS_H
#define KARST_QUORUM_MEMBERS_H

#include <raft.h>

#include "base/bytes.h"
#include "quorum/quorum.h"

enum { MEMBERS_MAX = 16 };

struct member {
    uint64_t id;
    int role; /* RAFT_VOTER, ... */
    char address[QUORUM_ADDRESS_MAX];
};

struct members {
    uint64_t index; /* of the entry that said it; 0: none known */
    unsigned count;
    struct member list[MEMBERS_MAX];
};

static inline raft_id members_raft_id(node_id_t node)
{
    return (raft_id)node + 1;
}
static inline node_id_t members_node(uint64_t raft_id_)
{
    return raft_id_ == 0 || raft_id_ > INT32_MAX ? NO_NODE : (node_id_t)(raft_id_ - 1);
}

/* No id and no address stands there twice: libraft takes no other configuration, and what it does
 * with an entry or a snapshot that holds one is to stop. */
bool members_distinct(const struct members *members);
/* From the bytes of a change entry. index is left to the caller. False: malformed. */
bool members_decode(struct bytes data, struct members *ret_members);
/* False: more than fit, or an address too long. */
bool members_from_raft(const struct raft_configuration *configuration, uint64_t index,
                       struct members *ret_members);
/* configuration is initialised; false: without memory, or a duplicate. */
bool members_to_raft(const struct members *members, struct raft_configuration *configuration);

/* "host:port" into at least QUORUM_ADDRESS_MAX; and "/directory", unless that is NULL or zero. */
void members_address_print(const struct quorum_address *address, const struct uuid *directory,
                           char *into);
/* False: the address tells none. */
bool members_address_directory(const char *text, struct uuid *ret_directory);
/* node is left as it is; false: no port, or too long. */
bool members_address_parse(const char *text, struct quorum_address *ret_address);

#endif
