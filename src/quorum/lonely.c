/* A server that was removed while it was away does not hear of it: nobody sends to it any more, and
 * nobody votes for it while there is a leader. So who knows no leader for a while asks those that
 * it knows, one after the other, who makes up the quorum now. A committed configuration that is
 * newer than its own and does not name it is the answer: it goes on as an observer (role.c). */
#include "base/logger.h"
#include "quorum/internal.h"

enum { PATIENCE = 2 /* election timeouts */ };

static bool asked_address(const struct quorum *quorum, struct quorum_address *ret_address)
{
    const struct lonely *lonely = &quorum->lonely;
    const struct members *members = configurations_last(&quorum->io.configurations);
    size_t servers = members == NULL ? 0 : members->count;
    size_t voters = image_voter_count(quorum->feed.image);
    size_t count = servers + voters + quorum->config->bootstrap_count;
    if (count == 0)
        return false;
    size_t at = lonely->next % count;
    if (at < servers) {
        ret_address->node = members_node(members->list[at].id);
        return members_address_parse(members->list[at].address, ret_address);
    }
    if (at >= servers + voters) {
        *ret_address = quorum->config->bootstrap[at - servers - voters];
        return true;
    }
    const Karst__Voter *voter = image_voter_at(quorum->feed.image, at - servers);
    size_t len = strlen(voter->host);
    if (len >= sizeof ret_address->host || voter->port > UINT16_MAX)
        return false;
    ret_address->node = voter->node_id;
    ret_address->port = (uint16_t)voter->port;
    memcpy(ret_address->host, voter->host, len + 1);
    return true;
}

static void ask(struct quorum *quorum)
{
    struct lonely *lonely = &quorum->lonely;
    struct quorum_address to = {.node = NO_NODE};
    bool known = asked_address(quorum, &to);
    lonely->next++;
    if (!known || to.node == quorum->config->node)
        return; /* the next one a moment later */
    Karst__DescribeQuorumRequest request = KARST__DESCRIBE_QUORUM_REQUEST__INIT;
    lonely->token = quorum->env->random(quorum->env->self) | 1;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST,
        .method = WIRE_DESCRIBE_QUORUM,
        .message = &request.base,
    });
    if (frame != NULL)
        (void)quorum_send(quorum, &to, lonely->token, frame); /* full: the next one */
}

void lonely_tick(struct quorum *quorum, uint64_t now_ns)
{
    struct lonely *lonely = &quorum->lonely;
    raft_id leader = 0;
    const char *address = NULL;
    raft_leader(&quorum->raft, &leader, &address);
    uint64_t patience_ns = ENV_MS(PATIENCE * (uint64_t)quorum->config->election_timeout_ms);
    if (leader != 0) {
        lonely->since_ns = 0;
        return;
    }
    if (lonely->since_ns == 0)
        lonely->since_ns = now_ns;
    if (now_ns - lonely->since_ns < patience_ns || now_ns < lonely->next_ns)
        return;
    lonely->next_ns = now_ns + patience_ns / (2 * PATIENCE);
    ask(quorum);
}

static bool names(const Karst__DescribeQuorumReply *reply, node_id_t node)
{
    for (size_t i = 0; i < reply->n_servers; i++)
        if (reply->servers[i]->node_id == node)
            return true;
    return false;
}

/* The reply's configuration was committed after our last one, or instead of it. */
static bool supersedes(const struct quorum *quorum, const Karst__DescribeQuorumReply *reply)
{
    const struct members *own = configurations_last(&quorum->io.configurations);
    if (own == NULL || !reply->has_configuration_index || reply->n_servers == 0)
        return false;
    uint64_t term = store_term(quorum->store, own->index);
    if (term != 0 && reply->configuration_term != 0 && term != reply->configuration_term)
        return reply->configuration_term > term;
    return reply->configuration_index > own->index;
}

void lonely_answer(struct quorum *quorum, const struct quorum_peer_answer *answer)
{
    struct lonely *lonely = &quorum->lonely;
    if (answer->token != lonely->token || answer->err != ERR_OK || lonely->since_ns == 0)
        return;
    lonely->token = 0;
    struct wire_header header;
    ProtobufCMessage *message = NULL;
    if (wire_decode_header(answer->frame, &header) != ERR_OK || header.kind != WIRE_REPLY ||
        header.method != WIRE_DESCRIBE_QUORUM ||
        wire_unpack(&karst__describe_quorum_reply__descriptor, wire_message(answer->frame, &header),
                    &quorum->arena, &message) != ERR_OK)
        return;
    const Karst__DescribeQuorumReply *reply =
        (const Karst__DescribeQuorumReply *)(const void *)message;
    if (!supersedes(quorum, reply) || names(reply, quorum->config->node))
        return;
    log_info("quorum: node %d says that the quorum goes on without this one", (int)answer->peer);
    lonely->removed = true;
}
