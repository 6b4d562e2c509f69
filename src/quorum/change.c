/* AddVoter and RemoveVoter: one change of the voters at a time, by the active controller.
 *
 * What is to be done next follows from the configuration in force, so that a new leader goes on
 * where the last one was, when the caller asks it again (R26):
 *
 *   add      not there ─▶ SPARE (its node becomes a server, role.c) ─▶ STANDBY (gets the log, and
 *            has no vote) ─▶ has all of it ─▶ VOTER. Not in time: it is removed again.
 *   remove   there ─▶ not there. A leader hands over first, and is removed by the next one.
 *
 * Each step is one entry, in a slot of the leader's proposals; the next begins when it is applied.
 * A controller is active only behind its own-term entry, so no older change is open then. The other
 * voters need not have applied it (upstream asks that for the sake of its rollback, which we do not
 * use: raft_membership.c); and a dead one could never be removed.
 *
 * The role of a voter is given when the stand-by has all entries there are, and nothing is in
 * flight: libraft would wait for that by itself, and append the entry at any time. Here its place
 * in the log is known beforehand. */
#include <stdarg.h>
#include <stdio.h>

#include "base/logger.h"
#include "quorum/internal.h"

enum {
    TIMEOUT_MS = 10000, /* of who tells none */
    TIMEOUT_MS_MAX = 60 * 60 * 1000,
    ORPHAN_MS = 10000,      /* a server that nobody makes a voter is removed */
    REPLACEMENT_MS = 60000, /* to catch up, for a replacement */
};

/* Both requests. */
struct asked {
    uint16_t method;
    node_id_t node;
    uint64_t timeout_ns;
    int64_t offset; /* the image's when it was first seen; -1: not told */
};

struct refusal {
    err_t err; /* ERR_OK: none */
    char text[512];
};

static bool refuse(struct refusal *refusal, err_t err, const char *format, ...) PRINTF_LIKE(3, 4);
static bool refuse(struct refusal *refusal, err_t err, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(refusal->text, sizeof refusal->text, format, args); /* cut: fine */
    va_end(args);
    refusal->err = err;
    return false;
}

bool change_is_method(uint16_t method)
{
    return method == WIRE_ADD_VOTER || method == WIRE_REMOVE_VOTER;
}

/* ---- the configuration ---- */

static const struct members *in_force(const struct quorum *quorum)
{
    return configurations_last(&quorum->io.configurations);
}

static bool is_applied(const struct quorum *quorum, const struct members *members)
{
    return members->index <= quorum->raft.last_applied;
}

static uint64_t match_index(const struct quorum *quorum, raft_id id)
{
    const struct raft *raft = &quorum->raft;
    for (unsigned i = 0; i < raft->configuration.n; i++)
        if (raft->configuration.servers[i].id == id)
            return raft->leader_state.progress[i].match_index;
    return 0;
}

static uint64_t last_index(const struct quorum *quorum)
{
    struct raft *raft = (struct raft *)(uintptr_t)&quorum->raft; /* raft_last_index only reads */
    return raft_last_index(raft);
}

enum life { DEAD, NOT_HEARD_YET, ALIVE };

/* As of now: a majority of which one has just died can't commit its own beginning, and none other
 * can be elected before it comes back. */
static enum life life_of(const struct quorum *quorum, raft_id id)
{
    const struct quorum_io *io = &quorum->io;
    uint64_t now_ns = env_now(quorum->env);
    uint64_t age_max_ns = ENV_MS(quorum->config->election_timeout_ms);
    uint64_t heard_ns = contact_ns(&io->contact, quorum->raft.current_term, id);
    const struct image_broker *broker =
        image_broker(controller_view(quorum->leader.controller), members_node(id));
    if (id == quorum->raft.id)
        return ALIVE;
    if (broker != NULL && broker->state == BROKER_STATE_FENCED)
        return DEAD;
    if (heard_ns != 0)
        return now_ns - heard_ns <= age_max_ns ? ALIVE : DEAD;
    return now_ns - quorum->leader.change.term_ns <= age_max_ns ? NOT_HEARD_YET : DEAD;
}

/* Those who vote after the change, and those of them who are there. */
static bool check_majority(const struct quorum *quorum, const struct asked *asked,
                           struct refusal *refusal)
{
    const struct members *members = in_force(quorum);
    bool adding = asked->method == WIRE_ADD_VOTER;
    unsigned voters = adding, alive = adding, unknown = 0;
    for (unsigned i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (member->role != RAFT_VOTER || members_node(member->id) == asked->node)
            continue;
        enum life life = life_of(quorum, member->id);
        voters++;
        alive += life == ALIVE;
        unknown += life == NOT_HEARD_YET;
    }
    if (voters == 0)
        return refuse(refusal, ERR_POLICY_VIOLATION, "node %d is the only voter", asked->node);
    if (voters > QUORUM_VOTERS_MAX)
        return refuse(refusal, ERR_POLICY_VIOLATION, "a quorum has at most %d voters",
                      QUORUM_VOTERS_MAX);
    /* This leader is too young to know: it is asked again, as one that does not lead yet. */
    if (alive <= voters / 2 && alive + unknown > voters / 2)
        return refuse(refusal, ERR_NOT_CONTROLLER, "not all voters are heard of yet");
    if (alive <= voters / 2)
        return refuse(refusal, ERR_POLICY_VIOLATION,
                      "only %u of the %u voters would be alive, which is no majority", alive,
                      voters);
    return true;
}

/* ---- who may be added ---- */

/* The address that a node would be added with. */
static bool address_of(const struct quorum *quorum, const struct asked *asked, char *ret_address,
                       struct uuid *ret_directory, struct refusal *refusal)
{
    static const char *const states[] = {"fenced", "active", "leaving", "draining"};
    const struct image_broker *broker = image_broker(quorum->feed.image, asked->node);
    if (broker == NULL || broker->state != BROKER_STATE_ACTIVE)
        return refuse(refusal, ERR_BROKER_NOT_AVAILABLE, "node %d is not an active broker%s%s",
                      asked->node, broker == NULL ? ": none has registered" : ": it is ",
                      broker == NULL ? "" : states[broker->state]);
    if (broker->listener_count == 0 || broker->directory_count == 0)
        return refuse(refusal, ERR_BROKER_NOT_AVAILABLE,
                      "node %d has no listener or no log directory", asked->node);
    struct quorum_address address = {.node = asked->node, .port = broker->listeners[0].port};
    size_t len = strlen(broker->listeners[0].host);
    if (len >= sizeof address.host)
        return refuse(refusal, ERR_INVALID_REQUEST, "the address of node %d is too long",
                      asked->node);
    memcpy(address.host, broker->listeners[0].host, len + 1);
    *ret_directory = broker->directories[0];
    members_address_print(&address, ret_directory, ret_address);
    return true;
}

/* What it has done already shows in the configuration that was in force when it was asked (R26). */
static bool was_there(const struct quorum *quorum, const struct asked *asked, bool *ret_voter)
{
    const struct members *then =
        asked->offset < 0 ? NULL
                          : configurations_at(&quorum->io.configurations, (uint64_t)asked->offset);
    const struct member *member = then == NULL ? NULL : members_find(then, asked->node);
    *ret_voter = member != NULL && member->role == RAFT_VOTER;
    return then != NULL;
}

static bool check_add(const struct quorum *quorum, const struct asked *asked, char *ret_address,
                      struct refusal *refusal)
{
    struct uuid directory, named;
    char a[UUID_TEXT_SIZE], b[UUID_TEXT_SIZE];
    if (!address_of(quorum, asked, ret_address, &directory, refusal))
        return false;
    const struct member *member = members_find(in_force(quorum), asked->node);
    bool keyed = member != NULL && members_address_directory(member->address, &named);
    if (keyed && !uuid_equal(&named, &directory))
        return refuse(refusal, ERR_INVALID_VOTER_KEY,
                      "node %d is in the quorum with log directory %s, and has %s now: its vote is "
                      "lost; remove it first, then add it again",
                      asked->node, uuid_text(&named, a), uuid_text(&directory, b));
    if (member != NULL && member->role == RAFT_VOTER)
        return refuse(refusal, ERR_DUPLICATE_VOTER,
                      "node %d is a voter already; if its disk was replaced, remove it first",
                      asked->node);
    return check_majority(quorum, asked, refusal);
}

static bool check_remove(const struct quorum *quorum, const struct asked *asked,
                         struct refusal *refusal)
{
    const struct member *member = members_find(in_force(quorum), asked->node);
    if (member == NULL)
        return refuse(refusal, ERR_VOTER_NOT_FOUND, "node %d is no voter", asked->node);
    return member->role != RAFT_VOTER || check_majority(quorum, asked, refusal);
}

/* ---- answers ---- */

static struct frame *reply_frame(uint16_t method, err_t err, const char *text)
{
    union {
        const char *from;
        char *text;
    } message = {.from = text};
    Karst__AddVoterReply added = KARST__ADD_VOTER_REPLY__INIT;
    Karst__RemoveVoterReply removed = KARST__REMOVE_VOTER_REPLY__INIT;
    added.error = removed.error = err;
    added.message = removed.message = message.text;
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REPLY,
        .method = method,
        .message = method == WIRE_ADD_VOTER ? &added.base : &removed.base,
    });
}

/* The end for who asked, if somebody does still. */
static void answer(struct quorum *quorum, err_t err, const char *text)
{
    struct change *change = &quorum->leader.change;
    uint16_t method = change->adding ? WIRE_ADD_VOTER : WIRE_REMOVE_VOTER;
    if (!change->asked)
        return;
    change->asked = false;
    struct frame *frame = reply_frame(method, err, text);
    if (frame == NULL)
        return; /* its deadline ends it */
    if (err == ERR_OK)
        leader_answer(quorum, change->actor, change->token, method, frame);
    else
        quorum_answer(quorum, change->actor, change->token, frame);
}

/* ---- the image's list of voters ---- */

static bool same_voters(const struct image *image, const Karst__Voter *voters, size_t count)
{
    if (image_voter_count(image) != count)
        return false;
    for (size_t i = 0; i < count; i++) {
        const Karst__Voter *told = image_voter_at(image, i);
        if (told->node_id != voters[i].node_id || told->port != voters[i].port ||
            strcmp(told->host, voters[i].host) != 0)
            return false;
    }
    return true;
}

/* Observers find the quorum by it, and people see it. */
static void record_voters(struct quorum *quorum, const struct members *members)
{
    struct leader *leader = &quorum->leader;
    Karst__Voter voters[MEMBERS_MAX];
    const Karst__Voter *pointers[MEMBERS_MAX];
    struct quorum_address addresses[MEMBERS_MAX];
    size_t count = 0;
    if (leader->change.recorded_index == members->index)
        return;
    leader->change.recorded_index = members->index;
    for (unsigned i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (member->role != RAFT_VOTER ||
            !members_address_parse(member->address, &addresses[count]))
            continue;
        voters[count] = (Karst__Voter)KARST__VOTER__INIT;
        voters[count].node_id = members_node(member->id);
        voters[count].host = addresses[count].host;
        voters[count].port = addresses[count].port;
        pointers[count] = &voters[count];
        count++;
    }
    if (same_voters(controller_view(leader->controller), voters, count))
        return;
    struct record_list records;
    record_list_init(&records);
    controller_voters(leader->controller, pointers, count, (int64_t)leader_decision_index(quorum),
                      env_now(quorum->env), &records);
    leader_add_records(quorum, &records);
    record_list_fini(&records);
}

/* ---- a lost voter is replaced ---- */

/* Neither the quorum nor the controller hears of it. */
static bool is_lost(const struct quorum *quorum, raft_id id)
{
    const struct image_broker *broker = image_broker(quorum->feed.image, members_node(id));
    return life_of(quorum, id) == DEAD && (broker == NULL || broker->state == BROKER_STATE_FENCED);
}

/* Since when it is lost without a break, as far as this leader knows; 0: it is not. */
static uint64_t lost_since(struct quorum *quorum, raft_id id, uint64_t now_ns)
{
    struct change *change = &quorum->leader.change;
    unsigned i = 0;
    while (i < change->lost_count && change->lost[i].id != id)
        i++;
    bool lost = is_lost(quorum, id);
    if (lost && i == change->lost_count && i < MEMBERS_MAX) {
        change->lost[i].id = id;
        change->lost[i].since_ns = now_ns;
        change->lost_count++;
    } else if (!lost && i < change->lost_count) {
        change->lost[i] = change->lost[--change->lost_count];
    }
    return lost && i < change->lost_count ? change->lost[i].since_ns : 0;
}

static bool begin_replacement(struct quorum *quorum, uint16_t method, node_id_t node)
{
    struct change *change = &quorum->leader.change;
    struct asked asked = {.method = method, .node = node, .offset = -1};
    struct refusal refusal;
    bool adding = method == WIRE_ADD_VOTER;
    if (adding ? !check_add(quorum, &asked, change->address, &refusal)
               : !check_majority(quorum, &asked, &refusal))
        return false;
    change->active = true;
    change->asked = change->submitted = false;
    change->adding = adding;
    change->node = node;
    change->round_index = 0;
    change->deadline_ns = env_now(quorum->env) + ENV_MS(REPLACEMENT_MS);
    return true;
}

/* In turn, so that one that does not catch up is not the only one ever tried. */
static void add_some_observer(struct quorum *quorum, const struct members *members)
{
    struct change *change = &quorum->leader.change;
    const struct image *image = quorum->feed.image;
    size_t count = image_broker_count(image);
    for (size_t i = 0; i < count; i++) {
        const struct image_broker *broker =
            image_broker_at(image, (change->next_observer + i) % count);
        if (broker->state != BROKER_STATE_ACTIVE || members_find(members, broker->id) != NULL ||
            !begin_replacement(quorum, WIRE_ADD_VOTER, broker->id))
            continue;
        change->next_observer = (change->next_observer + i + 1) % count;
        log_info("quorum: a voter is lost, and node %d is to take its place", broker->id);
        return;
    }
}

/* An odd number of voters gets one more first, an even number loses the lost one: so each step
 * follows from what is, and another leader goes on with it. */
static void find_lost(struct quorum *quorum, const struct members *members)
{
    uint64_t after_ns = ENV_MS(quorum->config->replace_after_ms);
    uint64_t now_ns = env_now(quorum->env);
    struct change *change = &quorum->leader.change;
    for (unsigned i = 0; i < members->count && after_ns != 0 && !change->active; i++) {
        raft_id id = members->list[i].id;
        uint64_t since_ns =
            members->list[i].role == RAFT_VOTER ? lost_since(quorum, id, now_ns) : 0;
        if (since_ns == 0 || now_ns - since_ns < after_ns || now_ns < change->not_before_ns)
            continue;
        if (members_voters(members) % 2 == 1)
            add_some_observer(quorum, members);
        else if (begin_replacement(quorum, WIRE_REMOVE_VOTER, members_node(id)))
            log_info("quorum: the lost voter %d is removed", change->node);
    }
}

/* ---- steps ---- */

static void submit(struct quorum *quorum)
{
    quorum->leader.change.submitted = true;
    quorum->leader.change.slot_ns = 0;
    leader_submit_slot(quorum);
}

/* Rounds, as in Raft §4.2.1: it has what there was when the round began; when that took less than
 * an election timeout, the rest will not hold the others up for long. */
static bool caught_up(struct quorum *quorum, const struct member *member)
{
    struct change *change = &quorum->leader.change;
    uint64_t now_ns = env_now(quorum->env);
    if (change->round_index != 0 && match_index(quorum, member->id) < change->round_index)
        return false;
    bool quick = change->round_index != 0 &&
                 now_ns - change->round_ns < ENV_MS(quorum->config->election_timeout_ms);
    change->round_index = last_index(quorum);
    change->round_ns = now_ns;
    return quick;
}

static void done(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    log_info("quorum: node %d %s", change->node,
             change->adding ? "is a voter now" : "has left the quorum");
    answer(quorum, ERR_OK, NULL);
    change->active = false;
    change->idle_ns = env_now(quorum->env);
}

/* What is half done is undone: it has no vote yet. */
static void give_up(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    log_warn("quorum: node %d has not caught up in time, and does not become a voter",
             change->node);
    change->not_before_ns = env_now(quorum->env) + ENV_MS(REPLACEMENT_MS);
    answer(quorum, ERR_REQUEST_TIMED_OUT,
           "it did not catch up in time, and is not made a voter; look at its log");
    change->adding = false;
}

static void advance(struct quorum *quorum, const struct members *members)
{
    struct change *change = &quorum->leader.change;
    const struct member *member = members_find(members, change->node);
    bool overdue = env_now(quorum->env) >= change->deadline_ns;
    if (change->adding && (member == NULL || member->role != RAFT_VOTER) && overdue)
        give_up(quorum);
    if (change->adding ? member != NULL && member->role == RAFT_VOTER : member == NULL)
        done(quorum);
    else if (!change->adding || member == NULL || member->role == RAFT_SPARE ||
             caught_up(quorum, member))
        submit(quorum);
}

/* Left over from a leader that was lost, and nobody has asked this one to go on. */
static void find_orphan(struct quorum *quorum, const struct members *members)
{
    struct change *change = &quorum->leader.change;
    if (env_now(quorum->env) - change->idle_ns < ENV_MS(ORPHAN_MS))
        return;
    for (unsigned i = 0; i < members->count; i++) {
        if (members->list[i].role == RAFT_VOTER)
            continue;
        change->active = true;
        change->adding = change->asked = change->submitted = false;
        change->node = members_node(members->list[i].id);
        log_info("quorum: node %d was to become a voter, and is removed again", change->node);
        return;
    }
}

void change_settle(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    const struct members *members = in_force(quorum);
    if (members == NULL || !is_applied(quorum, members))
        return;
    record_voters(quorum, members);
    if (!change->active)
        find_orphan(quorum, members);
    if (!change->active)
        find_lost(quorum, members);
    if (change->active && !change->submitted)
        advance(quorum, members);
}

/* ---- a slot's turn ---- */

static int begin_add(struct quorum *quorum, const struct member *member, raft_change_cb cb)
{
    struct change *change = &quorum->leader.change;
    struct raft *raft = &quorum->raft;
    raft_id id = members_raft_id(change->node);
    if (member == NULL)
        return raft_add(raft, &change->request, id, change->address, cb);
    return raft_assign(raft, &change->request, id,
                       member->role == RAFT_SPARE ? RAFT_STANDBY : RAFT_VOTER, cb);
}

/* A stand-by must have the last entry: the leader waits for it a moment, with nothing in flight. */
static bool lacks_entries(struct quorum *quorum, const struct member *member)
{
    return member != NULL && member->role == RAFT_STANDBY &&
           match_index(quorum, member->id) != last_index(quorum);
}

enum change_turn change_take_turn(struct quorum *quorum, raft_change_cb cb)
{
    struct change *change = &quorum->leader.change;
    const struct members *members = in_force(quorum);
    const struct member *member = members_find(members, change->node);
    uint64_t now_ns = env_now(quorum->env);
    if (change->slot_ns == 0)
        change->slot_ns = now_ns;
    if (!change->active || !is_applied(quorum, members))
        return CHANGE_GIVES_UP;
    if (change->adding && lacks_entries(quorum, member)) {
        bool patient = now_ns - change->slot_ns < ENV_MS(quorum->config->election_timeout_ms);
        return patient ? CHANGE_WAITS : CHANGE_GIVES_UP;
    }
    int rv = change->adding
                 ? begin_add(quorum, member, cb)
                 : raft_remove(&quorum->raft, &change->request, members_raft_id(change->node), cb);
    quorum->io.told_term = 0; /* by place in the configuration, which is another now */
    if (rv == RAFT_NOTLEADER)
        return CHANGE_FAILED;
    if (rv != 0)
        log_warn("quorum: raft refuses to change node %d: %s", change->node, raft_strerror(rv));
    return rv == 0 ? CHANGE_BEGUN : CHANGE_GIVES_UP;
}

void change_slot_done(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    const struct members *members = in_force(quorum);
    change->submitted = false;
    if (change->adding || members_find(members, change->node) != NULL)
        return;
    /* What it was is in the configuration before. */
    const struct members *before =
        configurations_at(&quorum->io.configurations, members->index - 1);
    const struct member *removed = before == NULL ? NULL : members_find(before, change->node);
    if (removed != NULL)
        guard_tell_removed(&quorum->io, removed, members->index);
}

/* ---- calls ---- */

static bool decode(struct quorum *quorum, const struct quorum_call *call,
                   const struct wire_header *header, struct asked *ret_asked)
{
    ProtobufCMessage *message = NULL;
    uint64_t timeout_ms = 0;
    ret_asked->method = header->method;
    const struct wire_method *method = wire_method_find(header->method);
    if (wire_unpack(method->request, wire_message(call->frame, header), &quorum->arena, &message) !=
        ERR_OK)
        return false;
    if (header->method == WIRE_ADD_VOTER) {
        const Karst__AddVoterRequest *add = (const Karst__AddVoterRequest *)(const void *)message;
        ret_asked->node = add->node_id;
        ret_asked->offset = add->metadata_offset;
        timeout_ms = add->timeout_ms;
    } else {
        const Karst__RemoveVoterRequest *remove =
            (const Karst__RemoveVoterRequest *)(const void *)message;
        ret_asked->node = remove->node_id;
        ret_asked->offset = remove->metadata_offset;
        timeout_ms = remove->timeout_ms;
    }
    if (timeout_ms == 0)
        timeout_ms = TIMEOUT_MS;
    ret_asked->timeout_ns = ENV_MS(timeout_ms < TIMEOUT_MS_MAX ? timeout_ms : TIMEOUT_MS_MAX);
    return ret_asked->node >= 0 && ret_asked->node < INT32_MAX;
}

/* One change at a time; the same one again is a retry, whose first caller is gone. */
static bool check_busy(struct quorum *quorum, const struct asked *asked, struct refusal *refusal)
{
    const struct change *change = &quorum->leader.change;
    bool adding = asked->method == WIRE_ADD_VOTER;
    if (!change->active || (change->node == asked->node && change->adding == adding))
        return true;
    return refuse(refusal, ERR_BUSY, "another change is under way: node %d is being %s",
                  change->node, change->adding ? "added" : "removed");
}

/* True: it is done already, since it was asked first. */
static bool is_done(const struct quorum *quorum, const struct asked *asked)
{
    bool was_voter, adding = asked->method == WIRE_ADD_VOTER;
    if (!was_there(quorum, asked, &was_voter) || was_voter == adding)
        return false;
    const struct member *member = members_find(in_force(quorum), asked->node);
    return adding ? member != NULL && member->role == RAFT_VOTER : member == NULL;
}

static void begin(struct quorum *quorum, const struct quorum_call *call, const struct asked *asked,
                  const char *address)
{
    struct change *change = &quorum->leader.change;
    if (change->active) {
        answer(quorum, ERR_REQUEST_TIMED_OUT, NULL);
    } else {
        change->active = true;
        change->submitted = false;
        change->adding = asked->method == WIRE_ADD_VOTER;
        change->node = asked->node;
        change->round_index = 0;
        memcpy(change->address, address, sizeof change->address);
    }
    change->asked = true;
    change->actor = call->message.from;
    change->token = call->token;
    change->deadline_ns = env_now(quorum->env) + asked->timeout_ns;
}

void change_call(struct quorum *quorum, const struct quorum_call *call,
                 const struct wire_header *header)
{
    struct asked asked;
    struct refusal refusal = {.err = ERR_OK};
    char address[QUORUM_ADDRESS_MAX] = "";
    uint16_t method = header->method;
    if (!decode(quorum, call, header, &asked)) {
        quorum_answer(quorum, call->message.from, call->token,
                      wire_error_frame(method, 0, ERR_INVALID_REQUEST, NULL));
        return;
    }
    if (!quorum->leader.change.active && is_done(quorum, &asked)) {
        struct frame *frame = reply_frame(method, ERR_OK, NULL);
        if (frame != NULL)
            leader_answer(quorum, call->message.from, call->token, method, frame);
        return;
    }
    bool legal = check_busy(quorum, &asked, &refusal) &&
                 (method == WIRE_ADD_VOTER ? check_add(quorum, &asked, address, &refusal)
                                           : check_remove(quorum, &asked, &refusal));
    if (!legal) {
        quorum_answer(quorum, call->message.from, call->token,
                      reply_frame(method, refusal.err, refusal.text));
    } else if (method == WIRE_REMOVE_VOTER && asked.node == quorum->config->node) {
        /* Another leads, then: who forwards finds it, and asks it (R26). */
        leader_hand_over(quorum);
        quorum_answer(quorum, call->message.from, call->token,
                      wire_error_frame(method, 0, ERR_NOT_CONTROLLER, NULL));
    } else {
        begin(quorum, call, &asked, address);
    }
}

/* ---- gain and loss ---- */

void change_begin_term(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    change->active = change->asked = change->submitted = false;
    change->recorded_index = change->not_before_ns = 0;
    change->lost_count = 0;
    change->term_ns = change->idle_ns = env_now(quorum->env);
}

/* The next leader is asked again, and goes on (R26). */
void change_lost(struct quorum *quorum)
{
    struct change *change = &quorum->leader.change;
    uint16_t method = change->adding ? WIRE_ADD_VOTER : WIRE_REMOVE_VOTER;
    if (change->asked)
        quorum_answer(quorum, change->actor, change->token,
                      wire_error_frame(method, 0, ERR_NOT_CONTROLLER, NULL));
    change->active = change->asked = change->submitted = false;
}
