#include <stdlib.h>

#include "base/canary.h"
#include "base/logger.h"
#include "quorum/internal.h"

enum {
    ENTRY_OPEN_BYTES = 64 << 10, /* an entry with more takes no further decisions */
    PROPOSAL_BYTES_MAX = 16 << 20,
    CALLS_MAX = 8192,
    CALL_DEADLINE_MS = 10000,
    DIGEST_EVERY = 256, /* entries */
    DIGEST_BYTES_MAX = 64,
    TICKS_A_SESSION = 10,
};

/* What becomes one raft entry. */
struct proposal {
    struct list_node link;
    uint64_t index;
    struct record_list records;
    struct list_node calls; /* to be answered when it is applied */
    bool slot; /* of change.c: a change of the configuration, or a barrier in its place */
    struct raft_apply request;
    struct raft_barrier barrier;
    struct quorum *quorum;
    bool finished;
    int status;
};

struct pending_call {
    struct list_node link;
    uint64_t token;
    unsigned actor;
    uint16_t method;
    struct frame *reply;
    uint64_t deadline_ns;
};

/* ---- life ---- */

bool leader_init(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    list_init(&leader->proposals);
    rng_seed(&leader->rng, quorum->env->random(quorum->env->self));
    leader->controller = controller_new(&quorum->config->controller, &leader->rng);
    return leader->controller != NULL;
}

static void call_free(struct quorum *quorum, struct pending_call *call)
{
    list_remove(&call->link);
    frame_unref(call->reply);
    free(call);
    quorum->leader.calls--;
}

static void proposal_free(struct quorum *quorum, struct proposal *proposal)
{
    list_remove(&proposal->link);
    quorum->leader.proposal_bytes -= proposal->records.len;
    record_list_fini(&proposal->records);
    free(proposal);
}

void leader_fini(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    if (leader->controller == NULL)
        return;
    while (!list_empty(&leader->proposals)) {
        struct proposal *proposal = list_entry(leader->proposals.next, struct proposal, link);
        while (!list_empty(&proposal->calls))
            call_free(quorum, list_entry(proposal->calls.next, struct pending_call, link));
        proposal_free(quorum, proposal);
    }
    controller_free(leader->controller);
}

/* ---- proposals ---- */

static struct proposal *tail(const struct leader *leader)
{
    if (list_empty(&leader->proposals))
        return NULL;
    return list_entry(leader->proposals.prev, struct proposal, link);
}

/* The proposal that still takes decisions, or NULL: a new one is needed. */
static struct proposal *open_proposal(const struct leader *leader)
{
    struct proposal *last = tail(leader);
    bool open = last != NULL && last != leader->in_flight && !last->slot &&
                last->records.len < ENTRY_OPEN_BYTES;
    return open ? last : NULL;
}

/* Only the leader appends, and nothing but proposals once it is active: so the index is known. */
static uint64_t new_index(const struct quorum *quorum)
{
    const struct proposal *last = tail(&quorum->leader);
    if (last != NULL)
        return last->index + 1;
    struct raft *raft = (struct raft *)(uintptr_t)&quorum->raft; /* raft_last_index only reads */
    return raft_last_index(raft) + 1;
}

uint64_t leader_decision_index(const struct quorum *quorum)
{
    const struct proposal *open = open_proposal(&quorum->leader);
    return open != NULL ? open->index : new_index(quorum);
}

static struct proposal *proposal_new(struct quorum *quorum)
{
    struct proposal *proposal = calloc(1, sizeof *proposal);
    ASSERT(proposal != NULL);
    proposal->quorum = quorum;
    proposal->index = new_index(quorum);
    record_list_init(&proposal->records);
    list_init(&proposal->calls);
    list_push_back(&quorum->leader.proposals, &proposal->link);
    return proposal;
}

static void proposal_add(struct quorum *quorum, struct proposal *proposal, struct bytes records)
{
    size_t before = proposal->records.len;
    Karst__MetadataRecord record;
    for (size_t at = 0; record_next(records, &at, &record);)
        record_list_add_packed(&proposal->records, &record);
    quorum->leader.proposal_bytes += proposal->records.len - before;
}

/* Records of one decision, in order, from the index that was told for it. What is too large for one
 * entry is cut between records: where a part must not be seen alone, the controller made it a
 * transaction (R23). */
void leader_add_records(struct quorum *quorum, struct record_list *records)
{
    struct bytes run;
    for (size_t at = 0; (run = record_list_entry(records, at)).len > 0; at += run.len) {
        struct proposal *proposal = open_proposal(&quorum->leader);
        if (proposal == NULL || proposal->records.len + run.len > METADATA_ENTRY_BYTES_MAX)
            proposal = proposal_new(quorum);
        proposal_add(quorum, proposal, run);
    }
}

void leader_submit_slot(struct quorum *quorum)
{
    proposal_new(quorum)->slot = true;
}

static void applied(struct raft_apply *request, int status, void *result)
{
    (void)result;
    struct proposal *proposal = container_of(request, struct proposal, request);
    proposal->finished = true; /* the rest after raft has returned (rule "no re-entry") */
    proposal->status = status;
}

static void barrier_applied(struct raft_barrier *request, int status)
{
    struct proposal *proposal = container_of(request, struct proposal, barrier);
    proposal->finished = true;
    proposal->status = status;
}

static void changed(struct raft_change *request, int status)
{
    struct change *change = container_of(request, struct change, request);
    struct leader *leader = container_of(change, struct leader, change);
    ASSERT(leader->in_flight != NULL && leader->in_flight->slot);
    leader->in_flight->finished = true;
    leader->in_flight->status = status;
}

/* Replicas that differ must stop before they tell anybody (R27). Only where nothing was decided
 * beyond this entry does the controller's image end where the entry does. */
static void add_digest(struct quorum *quorum, struct proposal *proposal)
{
    struct leader *leader = &quorum->leader;
    if (++leader->undigested < DIGEST_EVERY || proposal != tail(leader) ||
        proposal->records.len + DIGEST_BYTES_MAX > METADATA_ENTRY_BYTES_MAX ||
        leader->stage != LEADER_ACTIVE || image_transaction_open(quorum->feed.image))
        return;
    leader->undigested = 0;
    Karst__DigestRecord digest = KARST__DIGEST_RECORD__INIT;
    digest.digest = image_digest(controller_view(leader->controller));
    size_t before = proposal->records.len;
    record_list_add(&proposal->records, &digest.base);
    leader->proposal_bytes += proposal->records.len - before;
}

/* The entries behind it know their indexes: so something is put in the slot in any case. */
static bool propose_slot(struct quorum *quorum, struct proposal *proposal)
{
    struct leader *leader = &quorum->leader;
    enum change_turn turn = change_take_turn(quorum, changed);
    if (turn == CHANGE_WAITS)
        return true;
    if (turn == CHANGE_FAILED ||
        (turn == CHANGE_GIVES_UP &&
         raft_barrier(&quorum->raft, &proposal->barrier, barrier_applied) != 0))
        return false;
    ASSERT(raft_last_index(&quorum->raft) == proposal->index);
    leader->in_flight = proposal;
    guard_configure(&quorum->io);
    return true;
}

/* One entry in flight: libraft commits only at exactly its last stored index, and calls back for
 * several when the first is applied (R22). False: raft takes none. */
static bool propose(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    if (leader->in_flight != NULL || list_empty(&leader->proposals))
        return true;
    struct proposal *proposal = list_entry(leader->proposals.next, struct proposal, link);
    if (proposal->slot)
        return propose_slot(quorum, proposal);
    add_digest(quorum, proposal);
    struct bytes records = {proposal->records.data, proposal->records.len};
    struct raft_buffer buffer = {.len = entry_padded_bytes(records.len)};
    buffer.base = raft_malloc(buffer.len);
    ASSERT(buffer.base != NULL);
    entry_pad(records, buffer.base);
    ASSERT(proposal->index == raft_last_index(&quorum->raft) + 1);
    int rv = raft_apply(&quorum->raft, &proposal->request, &buffer, 1, applied);
    if (rv != 0) {
        raft_free(buffer.base);
        return false;
    }
    leader->in_flight = proposal;
    return true;
}

/* ---- gain and loss ---- */

/* Loss of leadership: the speculation is dropped whole (R3). What was in flight may still be
 * committed by the next leader: the caller asks it again, and finds its own result (R26). */
static void leader_lost(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    ASSERT(leader->in_flight == NULL || leader->in_flight->finished);
    if (leader->stage != LEADER_NOT)
        log_info("quorum: no longer leader of term %llu", (unsigned long long)leader->term);
    change_lost(quorum);
    if (controller_active(leader->controller))
        controller_deactivate(leader->controller);
    leader->stage = LEADER_NOT;
    leader->term = 0;
    leader->in_flight = NULL;
    while (!list_empty(&leader->proposals)) {
        struct proposal *proposal = list_entry(leader->proposals.next, struct proposal, link);
        while (!list_empty(&proposal->calls)) {
            struct pending_call *call = list_entry(proposal->calls.next, struct pending_call, link);
            quorum_answer(quorum, call->actor, call->token,
                          wire_error_frame(call->method, 0, ERR_NOT_CONTROLLER, NULL));
            call_free(quorum, call);
        }
        proposal_free(quorum, proposal);
    }
}

static void propose_bootstrap(struct quorum *quorum)
{
    const struct raft_configuration *configuration = &quorum->raft.configuration;
    Karst__Voter voters[MEMBERS_MAX];
    const Karst__Voter *pointers[MEMBERS_MAX];
    struct quorum_address addresses[MEMBERS_MAX];
    size_t count = 0;
    for (unsigned i = 0; i < configuration->n && count < MEMBERS_MAX; i++) {
        const struct raft_server *server = &configuration->servers[i];
        if (server->role != RAFT_VOTER ||
            !members_address_parse(server->address, &addresses[count]))
            continue;
        voters[count] = (Karst__Voter)KARST__VOTER__INIT;
        voters[count].node_id = members_node(server->id);
        voters[count].host = addresses[count].host;
        voters[count].port = addresses[count].port;
        pointers[count] = &voters[count];
        count++;
    }
    struct env *env = quorum->env;
    struct uuid recovery_id = uuid_make(env->random(env->self), env->random(env->self));
    struct record_list records;
    record_list_init(&records);
    controller_bootstrap_records(&quorum->config->cluster_id, &recovery_id, pointers, count,
                                 &records);
    leader_add_records(quorum, &records);
    record_list_fini(&records);
}

static void decide_died(struct quorum *quorum, const struct leader_proof *proof)
{
    struct record_list records;
    record_list_init(&records);
    controller_broker_died(quorum->leader.controller, proof->node, &proof->incarnation,
                           (int64_t)leader_decision_index(quorum), env_now(quorum->env), &records);
    leader_add_records(quorum, &records);
    record_list_fini(&records);
}

static void activate(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    struct record_list records;
    record_list_init(&records);
    leader->stage = LEADER_ACTIVE;
    leader->undigested = 0;
    leader->next_tick_ns = 0;
    change_begin_term(quorum);
    controller_activate(leader->controller, quorum->feed.image, (int64_t)new_index(quorum),
                        env_now(quorum->env), &records);
    leader_add_records(quorum, &records);
    record_list_fini(&records);
    /* What was proved before counts now: an incarnation that is dead stays so. */
    for (unsigned i = 0; i < leader->dead_count && i < LEADER_PROOFS_MAX; i++)
        decide_died(quorum, &leader->dead[i]);
    log_info("quorum: controller active in term %llu", (unsigned long long)leader->term);
}

static void follow_raft(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    struct quorum_io *io = &quorum->io;
    bool leads = raft_state(&quorum->raft) == RAFT_LEADER && io->own_term != 0;
    uint64_t term = leads ? io->own_term : 0;
    if (leader->term != 0 && leader->term != term)
        leader_lost(quorum);
    if (leads && leader->term == 0) {
        leader->term = term;
        leader->stage = LEADER_BARRIER;
        quorum->elections_won++;
        log_info("quorum: leader of term %llu", (unsigned long long)term);
    }
    if (leader->stage != LEADER_BARRIER || io->own_term_applied != term)
        return;
    if (image_offset(quorum->feed.image) == 0) {
        leader->stage = LEADER_BOOTSTRAP;
        propose_bootstrap(quorum);
    } else {
        activate(quorum);
    }
}

/* What is committed is applied and published by now: its replies go out. */
static void finish_in_flight(struct quorum *quorum)
{
    struct leader *leader = &quorum->leader;
    struct proposal *proposal = leader->in_flight;
    if (proposal == NULL || !proposal->finished || proposal->status != 0)
        return;
    leader->in_flight = NULL;
    while (!list_empty(&proposal->calls)) {
        struct pending_call *call = list_entry(proposal->calls.next, struct pending_call, link);
        quorum_answer(quorum, call->actor, call->token, frame_ref(call->reply));
        call_free(quorum, call);
    }
    bool slot = proposal->slot;
    proposal_free(quorum, proposal);
    if (slot)
        change_slot_done(quorum);
    if (leader->stage == LEADER_BOOTSTRAP)
        activate(quorum);
}

void leader_settle(struct quorum *quorum, bool image_moved)
{
    struct leader *leader = &quorum->leader;
    if (image_moved && leader->stage == LEADER_ACTIVE)
        controller_committed(leader->controller, quorum->feed.image);
    finish_in_flight(quorum);
    follow_raft(quorum);
    if (leader->in_flight != NULL && leader->in_flight->finished)
        leader_lost(quorum); /* it failed, and raft leads on: a transfer */
    if (leader->stage == LEADER_ACTIVE)
        change_settle(quorum);
    if (propose(quorum)) {
        if (leader->in_flight == NULL)
            guard_tell_commit(&quorum->io);
        return;
    }
    leader_lost(quorum);
    /* Begin anew, with another own-term entry, if raft still leads later. */
    quorum->io.own_term = quorum->io.own_term_applied = 0;
}

/* ---- calls ---- */

bool leader_is_method(uint16_t method)
{
    switch (method) {
    case WIRE_REGISTER_BROKER:
    case WIRE_HEARTBEAT:
    case WIRE_ALTER_PARTITION:
    case WIRE_ALLOCATE_PRODUCER_IDS:
    case WIRE_CREATE_TOPICS:
    case WIRE_DELETE_TOPICS:
    case WIRE_ELECT_LEADERS:
    case WIRE_ADD_VOTER:
    case WIRE_REMOVE_VOTER:
        return true;
    default:
        return false;
    }
}

void leader_answer(struct quorum *quorum, unsigned actor, uint64_t token, uint16_t method,
                   struct frame *reply)
{
    struct proposal *proposal = tail(&quorum->leader);
    if (proposal == NULL) {
        quorum_answer(quorum, actor, token, reply);
        return;
    }
    struct pending_call *pending = calloc(1, sizeof *pending);
    ASSERT(pending != NULL);
    pending->token = token;
    pending->actor = actor;
    pending->method = method;
    pending->reply = reply;
    pending->deadline_ns = env_now(quorum->env) + ENV_MS(CALL_DEADLINE_MS);
    list_push_back(&proposal->calls, &pending->link);
    quorum->leader.calls++;
}

/* R10: the lease that a heartbeat renews counts from when a majority of the voters knew of this
 * controller, and not from now: it may be deposed already. */
static void tell_age(const struct quorum *quorum, ProtobufCMessage *message)
{
    if (message->descriptor != &karst__heartbeat_reply__descriptor)
        return;
    Karst__HeartbeatReply *reply = (Karst__HeartbeatReply *)(void *)message;
    uint64_t contact_ns = quorum_io_contact_ns(&quorum->io); /* first: it may be as late as now */
    uint64_t age_ms = (env_now(quorum->env) - contact_ns) / ENV_MS(1) + 1;
    reply->has_quorum_age_ms = true;
    reply->quorum_age_ms = age_ms < UINT32_MAX ? (uint32_t)age_ms : UINT32_MAX;
}

static void decide(struct quorum *quorum, const struct quorum_call *call, uint16_t method,
                   const ProtobufCMessage *message)
{
    struct leader *leader = &quorum->leader;
    struct controller_request request = {
        .method = method,
        .message = message,
        .from = call->peer,
        .from_epoch = call->peer_epoch,
    };
    struct controller_decision decision = {.reply = NULL};
    record_list_init(&decision.records);
    controller_handle(leader->controller, &request, (int64_t)leader_decision_index(quorum),
                      env_now(quorum->env), &quorum->arena, &decision);
    ASSERT(decision.reply != NULL);
    tell_age(quorum, decision.reply);
    leader_add_records(quorum, &decision.records);
    bool wait =
        decision.records.count > 0 || (!decision.reply_at_once && !list_empty(&leader->proposals));
    record_list_fini(&decision.records);
    struct frame *reply = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REPLY,
        .method = method,
        .message = decision.reply,
    });
    if (reply == NULL)
        reply = wire_error_frame(method, 0, ERR_REQUEST_TIMED_OUT, NULL);
    /* R3: a reply tells what is decided, so it waits until all that is proposed is committed, also
     * when this decision needed no record. */
    if (wait)
        leader_answer(quorum, call->message.from, call->token, method, reply);
    else
        quorum_answer(quorum, call->message.from, call->token, reply);
}

static void refuse(struct quorum *quorum, const struct quorum_call *call, uint16_t method,
                   err_t err)
{
    quorum_answer(quorum, call->message.from, call->token, wire_error_frame(method, 0, err, NULL));
}

void leader_call(struct quorum *quorum, const struct quorum_call *call,
                 const struct wire_header *header)
{
    struct leader *leader = &quorum->leader;
    uint16_t method = header->method;
    if (leader->stage != LEADER_ACTIVE) {
        refuse(quorum, call, method, ERR_NOT_CONTROLLER);
        return;
    }
    if (leader->calls >= CALLS_MAX || leader->proposal_bytes >= PROPOSAL_BYTES_MAX) {
        refuse(quorum, call, method, ERR_THROTTLING_QUOTA_EXCEEDED);
        return;
    }
    if (change_is_method(method)) {
        change_call(quorum, call, header);
        return;
    }
    const struct wire_method *found = wire_method_find(method);
    ASSERT(found != NULL);
    ProtobufCMessage *message = NULL;
    err_t err =
        wire_unpack(found->request, wire_message(call->frame, header), &quorum->arena, &message);
    if (err != ERR_OK)
        refuse(quorum, call, method, err);
    else
        decide(quorum, call, method, message);
}

void leader_peer_died(struct quorum *quorum, node_id_t node, const struct uuid *incarnation)
{
    struct leader *leader = &quorum->leader;
    struct leader_proof *proof = &leader->dead[leader->dead_count++ % LEADER_PROOFS_MAX];
    *proof = (struct leader_proof){.node = node, .incarnation = *incarnation};
    if (leader->stage == LEADER_ACTIVE)
        decide_died(quorum, proof);
}

/* The voter whose log is longest; not one whose broker is fenced: a dead one's may be as long. */
static raft_id successor(const struct quorum *quorum)
{
    const struct raft *raft = &quorum->raft;
    const struct raft_configuration *configuration = &raft->configuration;
    raft_id best = 0;
    raft_index best_index = 0;
    for (unsigned i = 0; i < configuration->n; i++) {
        const struct raft_server *server = &configuration->servers[i];
        const struct image_broker *broker =
            image_broker(quorum->feed.image, members_node(server->id));
        raft_index index = raft->leader_state.progress[i].match_index;
        if (server->role != RAFT_VOTER || server->id == raft->id || index <= best_index ||
            (broker != NULL && broker->state != BROKER_STATE_ACTIVE))
            continue;
        best = server->id;
        best_index = index;
    }
    return best;
}

/* Raft's leadership transfer (§3.10): when the other has all entries, it is told to hold an
 * election at once. Until it leads, and for one election timeout at most, libraft takes no
 * proposals: whoever asks is told to ask again (leader_settle). */
void leader_hand_over(struct quorum *quorum)
{
    if (raft_state(&quorum->raft) != RAFT_LEADER)
        return;
    raft_id to = successor(quorum);
    if (to == 0 || raft_transfer(&quorum->raft, &quorum->leader.transfer, to, NULL) != 0)
        return; /* the process ends, and the others find out by themselves */
    log_info("quorum: handing the leadership over to node %d", members_node(to));
}

/* ---- time ---- */

/* A call whose entry neither commits nor fails (a leader that hears nobody): its outcome is
 * unknown. */
static void end_overdue(struct quorum *quorum, uint64_t now_ns)
{
    list_for_each (node, &quorum->leader.proposals) {
        struct proposal *proposal = list_entry(node, struct proposal, link);
        list_for_each_safe (link, after, &proposal->calls) {
            struct pending_call *call = list_entry(link, struct pending_call, link);
            if (call->deadline_ns > now_ns)
                break; /* in order */
            quorum_answer(quorum, call->actor, call->token,
                          wire_error_frame(call->method, 0, ERR_REQUEST_TIMED_OUT, NULL));
            call_free(quorum, call);
        }
    }
}

void leader_tick(struct quorum *quorum, uint64_t now_ns)
{
    struct leader *leader = &quorum->leader;
    end_overdue(quorum, now_ns);
    if (leader->stage != LEADER_ACTIVE || now_ns < leader->next_tick_ns)
        return;
    uint64_t silence_ns = controller_silence_due_ns(leader->controller);
    leader->next_tick_ns = now_ns + quorum->config->controller.session_timeout_ns / TICKS_A_SESSION;
    if (silence_ns > now_ns && silence_ns < leader->next_tick_ns)
        leader->next_tick_ns = silence_ns;
    if (leader->next_tick_ns < now_ns + ENV_MS(QUORUM_TICK_MS))
        quorum->env->timer_start(quorum->env->self, &quorum->timer, leader->next_tick_ns);
    struct record_list records;
    record_list_init(&records);
    controller_tick(leader->controller, (int64_t)leader_decision_index(quorum), now_ns, &records);
    leader_add_records(quorum, &records);
    record_list_fini(&records);
}
