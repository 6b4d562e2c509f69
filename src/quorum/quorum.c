#include "quorum/quorum.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/logger.h"
#include "quorum/internal.h"

enum {
    ARENA_BYTES_MAX = 96 << 20,
    PIECES_TIMEOUT_MS = 3000, /* of a snapshot that comes in */
    SNAPSHOT_BYTES_DEFAULT = 20 << 20,
    TRAILING_ENTRIES_MAX = 1 << 20,
    THRESHOLD_NEVER = 1 << 30,
};

/* ---- messages ---- */

void quorum_message_free(struct env_message *message)
{
    switch (message->type) {
    case QUORUM_CALL:
        frame_unref(container_of(message, struct quorum_call, message)->frame);
        break;
    case QUORUM_ONEWAY:
        frame_unref(container_of(message, struct quorum_oneway, message)->frame);
        break;
    case QUORUM_PEER_ANSWER:
        frame_unref(container_of(message, struct quorum_peer_answer, message)->frame);
        break;
    case QUORUM_ANSWER:
        frame_unref(container_of(message, struct quorum_answer, message)->frame);
        break;
    case QUORUM_PEER_SEND:
        frame_unref(container_of(message, struct quorum_peer_send, message)->frame);
        break;
    case QUORUM_UPDATE:
        metadata_update_unref(container_of(message, struct quorum_update, message)->update);
        break;
    default:
        break; /* nothing inside */
    }
    free(message); /* it is the first field of each */
}

void quorum_fail(struct quorum *quorum, const char *why)
{
    if (quorum->failed)
        return;
    quorum->failed = true;
    log_error("quorum: %s", why);
    quorum->env->exit_node(quorum->env->self, 1, why);
}

void quorum_fail_err(struct quorum *quorum, const char *what, err_t err)
{
    char why[256];
    (void)snprintf(why, sizeof why, "%s: %s", what, err_sentence(err));
    quorum_fail(quorum, why);
}

void quorum_post(struct quorum *quorum, unsigned shard, struct env_message *message)
{
    struct env_outbox *out = &quorum->out[shard];
    message->from = quorum->config->shards;
    if (!env_outbox_post(out, quorum->env, shard, message) && out->count > QUORUM_BACKLOG_MAX)
        quorum_fail(quorum, "a shard has stopped taking messages");
}

void quorum_answer(struct quorum *quorum, unsigned actor, uint64_t token, struct frame *frame)
{
    if (frame == NULL)
        return;
    struct quorum_answer *answer = calloc(1, sizeof *answer);
    ASSERT(answer != NULL);
    answer->message.type = QUORUM_ANSWER;
    answer->token = token;
    answer->frame = frame;
    quorum_post(quorum, actor, &answer->message);
}

bool quorum_send(struct quorum *quorum, const struct quorum_address *to, uint64_t token,
                 struct frame *frame)
{
    if (quorum->out[0].count >= QUORUM_SENDS_MAX) {
        frame_unref(frame);
        return false;
    }
    struct quorum_peer_send *send = calloc(1, sizeof *send);
    ASSERT(send != NULL);
    send->message.type = QUORUM_PEER_SEND;
    send->token = token;
    send->to = *to;
    send->frame = frame;
    quorum_post(quorum, 0, &send->message);
    return true;
}

/* ---- leader ---- */

struct quorum_address quorum_address_of(const struct quorum *quorum, node_id_t node)
{
    struct quorum_address address = {.node = NO_NODE};
    if (node < 0)
        return address;
    if (node == quorum->config->node)
        return quorum->config->self;
    const struct raft_configuration *configuration = &quorum->raft.configuration;
    for (unsigned i = 0; quorum->voter && i < configuration->n; i++) {
        if (configuration->servers[i].id == members_raft_id(node) &&
            members_address_parse(configuration->servers[i].address, &address)) {
            address.node = node;
            return address;
        }
    }
    for (size_t i = 0; i < image_voter_count(quorum->feed.image); i++) {
        const Karst__Voter *voter = image_voter_at(quorum->feed.image, i);
        size_t len = strlen(voter->host);
        if (voter->node_id != node || len >= sizeof address.host || voter->port > UINT16_MAX)
            continue;
        memcpy(address.host, voter->host, len + 1);
        address.port = (uint16_t)voter->port;
        address.node = node;
    }
    return address;
}

static node_id_t leader_node(const struct quorum *quorum, uint64_t *ret_term)
{
    if (!quorum->voter) {
        *ret_term = quorum->observer.leader_term;
        return quorum->observer.leader;
    }
    *ret_term = quorum->raft.current_term;
    raft_id leader = 0;
    const char *address = NULL;
    struct raft *raft = (struct raft *)(uintptr_t)&quorum->raft; /* only read */
    raft_leader(raft, &leader, &address);
    return members_node(leader);
}

/* True: it changed, and the shards were told. */
static bool tell_leader(struct quorum *quorum)
{
    struct quorum_leader now = {.message.type = QUORUM_LEADER};
    now.leader = quorum_address_of(quorum, leader_node(quorum, &now.term));
    now.active_here = quorum->leader.stage == LEADER_ACTIVE;
    const struct quorum_leader *told = &quorum->told;
    bool same = quorum->told_any && told->leader.node == now.leader.node &&
                told->leader.port == now.leader.port &&
                strcmp(told->leader.host, now.leader.host) == 0 && told->term == now.term &&
                told->active_here == now.active_here;
    if (same)
        return false;
    quorum->told = now;
    quorum->told_any = true;
    for (unsigned i = 0; i < quorum->config->shards; i++) {
        struct quorum_leader *message = malloc(sizeof *message);
        ASSERT(message != NULL);
        *message = now;
        quorum_post(quorum, i, &message->message);
    }
    return true;
}

/* ---- snapshots by bytes (R22): libraft counts entries ---- */

bool quorum_snapshot_due(const struct quorum *quorum)
{
    uint64_t bytes = quorum->config->snapshot_bytes;
    return quorum->store->bytes_since_snapshot >= (bytes == 0 ? SNAPSHOT_BYTES_DEFAULT : bytes);
}

static unsigned trailing_entries(const struct quorum *quorum)
{
    const struct store *store = quorum->store;
    uint64_t average = store->entries_since_snapshot == 0
                           ? 1
                           : store->bytes_since_snapshot / store->entries_since_snapshot;
    uint64_t entries = quorum->config->trailing_bytes / (average == 0 ? 1 : average);
    if (entries > TRAILING_ENTRIES_MAX)
        entries = TRAILING_ENTRIES_MAX;
    return entries == 0 ? 1 : (unsigned)entries;
}

uint64_t quorum_keep_from(const struct quorum *quorum, uint64_t index)
{
    uint64_t trailing = trailing_entries(quorum);
    return index > trailing ? index - trailing + 1 : 1;
}

static void plan_snapshot(struct quorum *quorum)
{
    if (quorum->raft.snapshot.pending.term != 0 || quorum->io.put != NULL)
        return; /* libraft reads trailing again when it is done */
    bool due = quorum_snapshot_due(quorum);
    raft_set_snapshot_threshold(&quorum->raft, due ? 1 : THRESHOLD_NEVER);
    if (due)
        raft_set_snapshot_trailing(&quorum->raft, trailing_entries(quorum));
}

/* ---- settling ---- */

void quorum_pump(struct quorum *quorum)
{
    if (!quorum->started || quorum->failed)
        return;
    do {
        while (quorum->voter && !quorum->failed && quorum_io_drain(&quorum->io))
            continue;
        if (quorum->failed)
            return;
        feed_settle(quorum);
        bool moved = quorum->feed.moved; /* also by a snapshot on the way */
        quorum->feed.moved = false;
        if (quorum->voter)
            leader_settle(quorum, moved);
        bool leader_changed = tell_leader(quorum);
        if (quorum->voter) {
            serve_settle(quorum, leader_changed);
            plan_snapshot(quorum);
        } else {
            observer_settle(quorum);
        }
    } while (quorum->voter && !list_empty(&quorum->io.results));
}

void quorum_log_flushed(void *owner, offset_t flushed_end, err_t err)
{
    struct quorum *quorum = owner;
    if (quorum->failed)
        return;
    if (quorum->voter)
        quorum_io_flushed(&quorum->io, flushed_end, err);
    else if (err != ERR_OK)
        quorum_fail_err(quorum, "the metadata log can't be synced", err);
    quorum_pump(quorum);
}

static void tick_due(struct env_timer *timer, uint64_t now_ns)
{
    struct quorum *quorum = container_of(timer, struct quorum, timer);
    if (quorum->failed)
        return;
    uint64_t due_ns = now_ns + ENV_MS(QUORUM_TICK_MS);
    uint64_t raft_ns = quorum->voter ? quorum->io.tick_timer.due_ns : 0;
    if (raft_ns > now_ns + ENV_MS(QUORUM_TICK_MS) / 2 && raft_ns < due_ns)
        due_ns = raft_ns; /* one wake-up for both */
    quorum->env->timer_start(quorum->env->self, timer, due_ns);
    ballast_restore(&quorum->ballast);
    controller_set_low_space(quorum->leader.controller, ballast_low(&quorum->ballast));
    role_tick(quorum); /* here, where nothing of raft's or the log's is on the stack */
    if (quorum->voter && !quorum->failed) {
        leader_tick(quorum, now_ns);
        serve_tick(quorum, now_ns);
        lonely_tick(quorum, now_ns);
    }
    quorum_pump(quorum);
}

/* ---- mail ---- */

static void take_call(struct quorum *quorum, const struct quorum_call *call)
{
    struct wire_header header;
    err_t err = wire_decode_header(call->frame, &header);
    uint16_t method = err == ERR_OK ? header.method : 0;
    if (err == ERR_OK && leader_is_method(method))
        leader_call(quorum, call, &header);
    else if (err == ERR_OK && method == WIRE_METADATA_FETCH)
        serve_metadata_fetch(quorum, call, &header);
    else if (err == ERR_OK && method == WIRE_DESCRIBE_QUORUM)
        serve_describe(quorum, call, &header);
    else
        quorum_answer(
            quorum, call->message.from, call->token,
            wire_error_frame(method, 0, err == ERR_OK ? ERR_UNSUPPORTED_VERSION : err, NULL));
}

/* Where to answer: the configuration knows its servers, and the image all brokers. */
static const char *address_of_sender(const struct quorum *quorum, raft_id id,
                                     char into[QUORUM_ADDRESS_MAX])
{
    const struct raft_configuration *configuration = &quorum->raft.configuration;
    for (unsigned i = 0; i < configuration->n; i++)
        if (configuration->servers[i].id == id)
            return configuration->servers[i].address;
    const struct image_broker *broker = image_broker(quorum->feed.image, members_node(id));
    struct quorum_address address = {.port = 1};
    bool known = broker != NULL && broker->listener_count > 0 &&
                 strlen(broker->listeners[0].host) < sizeof address.host;
    if (!known)
        return "unknown:1"; /* its connection answers it */
    memcpy(address.host, broker->listeners[0].host, strlen(broker->listeners[0].host) + 1);
    address.port = broker->listeners[0].port;
    members_address_print(&address, NULL, into);
    return into;
}

static void take_raft(struct quorum *quorum, const struct quorum_oneway *oneway)
{
    const Karst__RaftMessage *packed = NULL;
    struct raft_message message;
    char address[QUORUM_ADDRESS_MAX];
    err_t err = messages_unpack(oneway->frame, &quorum->arena, &packed);
    /* Who says that he is another is not listened to: his votes would count twice. */
    if (err != ERR_OK || packed->from != oneway->peer || packed->to != quorum->config->node) {
        log_warn("quorum: a raft message of node %d is refused", (int)oneway->peer);
        return;
    }
    if (packed->type == RAFT_IO_INSTALL_SNAPSHOT) {
        if (!messages_assemble(&quorum->assembly, packed, env_now(quorum->env),
                               ENV_MS(PIECES_TIMEOUT_MS), &message))
            return;
    } else if (messages_to_raft(packed, &message) != ERR_OK) {
        log_warn("quorum: a raft message of node %d is malformed", (int)oneway->peer);
        return;
    }
    message.server_address = address_of_sender(quorum, message.server_id, address);
    quorum_io_receive(&quorum->io, &message, packed->sent_ns);
}

static void take_proof(struct quorum *quorum, const struct quorum_peer_died *died)
{
    leader_peer_died(quorum, died->node, &died->incarnation);
    if (died->led_term != 0)
        election_leader_died(&quorum->io, members_raft_id(died->node), died->led_term);
}

static void take_answer(struct quorum *quorum, struct quorum_peer_answer *answer)
{
    if (quorum->voter)
        lonely_answer(quorum, answer);
    else
        observer_answer(quorum, answer);
}

static void on_mail(void *actor, void *mail)
{
    struct quorum *quorum = actor;
    struct env_message *message = mail;
    if (!quorum->failed && quorum->started) {
        arena_reset(&quorum->arena);
        switch (message->type) {
        case QUORUM_CALL:
            take_call(quorum, container_of(message, struct quorum_call, message));
            break;
        case QUORUM_ONEWAY:
            if (quorum->voter)
                take_raft(quorum, container_of(message, struct quorum_oneway, message));
            break;
        case QUORUM_PEER_ANSWER:
            take_answer(quorum, container_of(message, struct quorum_peer_answer, message));
            break;
        case QUORUM_PEER_DIED:
            if (quorum->voter)
                take_proof(quorum, container_of(message, struct quorum_peer_died, message));
            break;
        case QUORUM_HAND_OVER:
            if (quorum->voter)
                leader_hand_over(quorum);
            break;
        default:
            break; /* a lost peer: only a hint, and the probe tells more */
        }
    }
    quorum_message_free(message);
    quorum_pump(quorum);
}

static void on_mail_room(void *actor, unsigned to_actor)
{
    struct quorum *quorum = actor;
    if (to_actor < quorum->config->shards)
        (void)env_outbox_flush(&quorum->out[to_actor], quorum->env, to_actor);
}

/* ---- format ---- */

static void ignore_flushed(void *owner, offset_t flushed_end, err_t err)
{
    (void)owner;
    (void)flushed_end;
    (void)err;
}

/* Entry 1, byte for byte the same on each of the first voters. */
static err_t encode_voters(const struct quorum_address *voters, size_t count,
                           struct raft_buffer *ret_buffer)
{
    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    size_t used = 9; /* version and count */
    int rv = 0;
    for (size_t i = 0; i < count && rv == 0; i++) {
        char text[QUORUM_ADDRESS_MAX];
        members_address_print(&voters[i], NULL, text);
        used += 8 + strlen(text) + 1 + 1;
        rv = voters[i].node < 0
                 ? RAFT_BADID
                 : raft_configuration_add(&configuration, members_raft_id(voters[i].node), text,
                                          RAFT_VOTER);
    }
    if (rv == 0)
        rv = raft_configuration_encode(&configuration, ret_buffer);
    raft_configuration_close(&configuration);
    if (rv != 0)
        return rv == RAFT_NOMEM ? ERR_NO_MEMORY : ERR_INVALID;
    /* libraft leaves its padding as malloc gave it. */
    ASSERT(used <= ret_buffer->len);
    memset((uint8_t *)ret_buffer->base + used, 0, ret_buffer->len - used);
    return ERR_OK;
}

err_t quorum_format(struct env *env, const struct quorum_address *voters, size_t voter_count)
{
    struct vote_file vote;
    struct store store;
    struct store_loaded loaded;
    if (voter_count == 0 || voter_count > QUORUM_VOTERS_MAX)
        return ERR_INVALID;
    err_t err = vote_open(&env->disks[0], &vote);
    if (err == ERR_OK) {
        vote_close(&vote);
        return ERR_EXISTS;
    }
    if (err != ERR_NOT_FOUND)
        return err;
    struct raft_buffer buffer;
    err = encode_voters(voters, voter_count, &buffer);
    if (err != ERR_OK)
        return err;
    struct log_upcalls upcalls = {.flushed = ignore_flushed};
    err = store_open(env, NULL, upcalls, &store, &loaded);
    if (err == ERR_OK) {
        struct entry entry = {
            .index = 1,
            .term = 1,
            .type = ENTRY_CHANGE,
            .data = {buffer.base, buffer.len},
        };
        /* A format that was cut short left entry 1 at most: the vote file comes last. */
        if (store.snapshot_index > 0 || store_last(&store) > 1)
            err = ERR_EXISTS;
        if (err == ERR_OK && store_last(&store) == 1)
            err = store_truncate(&store, 1);
        if (err == ERR_OK)
            err = store_write(&store, &entry, 1);
        store_close(&store, err == ERR_OK);
        store_loaded_fini(&loaded);
    }
    raft_free(buffer.base);
    return err != ERR_OK ? err : vote_create(&env->disks[0], 1);
}

/* ---- life ---- */

err_t quorum_new(struct env *env, const struct quorum_config *config, struct quorum **ret_quorum)
{
    ASSERT(config->shards > 0);
    ASSERT(config->shards <= QUORUM_SHARDS_MAX);
    ASSERT(config->heartbeat_ms > 0);
    ASSERT(config->heartbeat_ms < config->election_timeout_ms);
    struct quorum *quorum = calloc(1, sizeof *quorum);
    if (quorum == NULL)
        return ERR_NO_MEMORY;
    quorum->env = env;
    quorum->config = config;
    quorum->timer.fire = tick_due;
    arena_init(&quorum->arena, ARENA_BYTES_MAX);
    for (unsigned i = 0; i < config->shards; i++)
        env_outbox_init(&quorum->out[i]);
    feed_init(quorum);
    serve_init(quorum);

    ballast_init(&quorum->ballast, &env->disks[0], config->reserve_bytes);
    err_t err = leader_init(quorum) ? role_load(quorum) : ERR_NO_MEMORY;
    if (err != ERR_OK) {
        log_error("quorum: the metadata directory can't be used: %s", err_sentence(err));
        quorum_free(quorum);
        return err;
    }
    env->upcalls = (struct env_upcalls){.mail = on_mail, .mail_room = on_mail_room};
    env->actor = quorum;
    *ret_quorum = quorum;
    return ERR_OK;
}

void quorum_start(struct quorum *quorum)
{
    struct env *env = quorum->env;
    env->timer_start(env->self, &quorum->timer, env_now(env) + ENV_MS(QUORUM_TICK_MS));
    ballast_restore(&quorum->ballast);
    role_start(quorum);
    quorum_pump(quorum);
}

void quorum_free(struct quorum *quorum)
{
    if (quorum == NULL)
        return;
    quorum->failed = true; /* nothing is sent or decided any more */
    quorum->env->timer_stop(quorum->env->self, &quorum->timer);
    if (quorum->raft.io != NULL)
        raft_close(&quorum->raft, NULL);
    observer_fini(quorum);
    messages_assembly_drop(&quorum->assembly);
    leader_fini(quorum);
    serve_fini(quorum);
    feed_fini(quorum);
    for (unsigned i = 0; i < quorum->config->shards; i++) {
        struct list_node *node;
        while ((node = list_pop_front(&quorum->out[i].waiting)) != NULL)
            quorum_message_free(list_entry(node, struct env_message, link));
    }
    arena_fini(&quorum->arena);
    ballast_fini(&quorum->ballast);
    free(quorum);
}

/* ---- for tests, checkers, metrics ---- */

struct quorum_counters quorum_counters(const struct quorum *quorum)
{
    struct quorum_counters counters = quorum->past;
    const struct quorum_io *io = &quorum->io; /* zeroed while it observes */
    counters.truncations += io->truncations;
    counters.snapshots_taken += io->snapshots_taken;
    counters.snapshots_installed += io->snapshots_installed;
    counters.early_elections += io->early_elections;
    counters.clamped += io->clamped;
    counters.held += io->held;
    counters.stale += io->stale;
    counters.covered += io->covered;
    counters.reconfigured += io->reconfigured;
    return counters;
}

void quorum_look(const struct quorum *quorum, struct quorum_view *ret_view)
{
    struct quorum_view view = {.voter = quorum->voter};
    if (quorum->store->log == NULL) { /* it could not be opened anew, and the node ends */
        *ret_view = quorum->parted;
        return;
    }
    view.leader_node = leader_node(quorum, &view.term);
    view.last_index = store_last(quorum->store);
    view.snapshot_index = quorum->store->snapshot_index;
    view.elections_won = quorum->elections_won;
    struct quorum_counters counters = quorum_counters(quorum);
    view.truncations = counters.truncations;
    view.snapshots_taken = counters.snapshots_taken + quorum->observer.snapshots_taken;
    view.snapshots_installed = counters.snapshots_installed + quorum->observer.snapshots_installed;
    view.early_elections = counters.early_elections;
    view.clamped = counters.clamped;
    view.held = counters.held;
    view.stale = counters.stale;
    view.covered = counters.covered;
    view.reconfigured = counters.reconfigured;
    if (quorum->voter) {
        struct raft *raft = (struct raft *)(uintptr_t)&quorum->raft; /* only read */
        view.leader = raft_state(raft) == RAFT_LEADER;
        view.controller_active = quorum->leader.stage == LEADER_ACTIVE;
        view.contact_ns = view.leader ? quorum_io_contact_ns(&quorum->io) : 0;
        view.commit_index = quorum->raft.commit_index;
        view.applied_index = raft_last_applied(raft);
    } else {
        view.commit_index = quorum->observer.commit_index;
        view.applied_index = view.last_index;
    }
    *ret_view = view;
}

struct image *quorum_image(const struct quorum *quorum)
{
    return quorum->feed.image;
}

size_t quorum_servers(const struct quorum *quorum, struct quorum_server *ret_servers, size_t max)
{
    const struct members *members =
        quorum->voter ? guard_committed(&quorum->io) : &quorum->observer.members;
    size_t count = members == NULL ? 0 : members->count;
    for (size_t i = 0; i < count && i < max; i++)
        ret_servers[i] =
            (struct quorum_server){members_node(members->list[i].id), members->list[i].role};
    return count;
}

uint64_t quorum_entry_term(const struct quorum *quorum, uint64_t index)
{
    return quorum->store->log == NULL ? 0 : store_term(quorum->store, index);
}
