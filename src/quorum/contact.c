#include "quorum/contact.h"

void contact_asked(struct contact *contact, uint64_t term, uint64_t sent_ns, uint64_t current_term)
{
    if (term < current_term || term < contact->asked_term)
        return;
    if (term > contact->asked_term)
        contact->asked_ns = 0;
    contact->asked_term = term;
    if (sent_ns > contact->asked_ns)
        contact->asked_ns = sent_ns;
}

uint64_t contact_stamp(const struct contact *contact, uint64_t term)
{
    return term == contact->asked_term ? contact->asked_ns : 0;
}

void contact_answered(struct contact *contact, uint64_t term, raft_id voter, uint64_t sent_ns)
{
    if (term != contact->term) {
        contact->term = term;
        contact->count = 0;
    }
    unsigned i = 0;
    while (i < contact->count && contact->rows[i].voter != voter)
        i++;
    if (i == MEMBERS_MAX)
        return; /* more have come and gone in this term than there may be members: no lease by it */
    if (i == contact->count) {
        contact->rows[contact->count].voter = voter;
        contact->rows[contact->count++].sent_ns = 0;
    }
    if (sent_ns > contact->rows[i].sent_ns)
        contact->rows[i].sent_ns = sent_ns;
}

uint64_t contact_ns(const struct contact *contact, uint64_t term, raft_id voter)
{
    for (unsigned i = 0; term == contact->term && i < contact->count; i++)
        if (contact->rows[i].voter == voter)
            return contact->rows[i].sent_ns;
    return 0;
}

uint64_t contact_majority_ns(const struct contact *contact, uint64_t term, raft_id self,
                             const struct raft_configuration *configuration, uint64_t now_ns)
{
    uint64_t newest_first[MEMBERS_MAX];
    unsigned voters = 0;
    for (unsigned i = 0; i < configuration->n && voters < MEMBERS_MAX; i++) {
        const struct raft_server *server = &configuration->servers[i];
        if (server->role != RAFT_VOTER)
            continue;
        uint64_t ns = server->id == self ? now_ns : contact_ns(contact, term, server->id);
        unsigned at = voters++;
        for (; at > 0 && newest_first[at - 1] < ns; at--)
            newest_first[at] = newest_first[at - 1];
        newest_first[at] = ns;
    }
    return voters == 0 ? 0 : newest_first[voters / 2];
}
