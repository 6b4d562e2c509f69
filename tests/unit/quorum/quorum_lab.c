#include "unit/quorum/quorum_lab.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"

enum {
    COMMAND_NODE = 1000,
    ELECTION_MS = 300,
    HEARTBEAT_MS = 60,
    CARRIED = 1 << 20,
    CALLED = 1 << 30
};

static void broken(struct lab *lab, const char *format, ...) PRINTF_LIKE(2, 3);
static void broken(struct lab *lab, const char *format, ...)
{
    if (lab->broken[0] == '\0') {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(lab->broken, sizeof lab->broken, format, args);
        va_end(args);
    }
    if (!lab->tolerate)
        ck_abort_msg("%s", lab->broken);
}

/* ---- the network ---- */

struct packet {
    struct sim_event event;
    struct lab *lab;
    unsigned from, to;
    uint64_t token; /* of a request; 0: one-way */
    bool reply;
    err_t err;
    struct frame *frame;
};

static void post(struct lab *lab, unsigned node, void *message)
{
    struct env *env = sim_host_env(lab->node[node].host, 0);
    if (env->mail.post(env->mail.self, 1, message) != ERR_OK)
        quorum_message_free(message);
}

static void post_answer(struct lab *lab, unsigned to, unsigned from, uint64_t token, err_t err,
                        struct frame *frame)
{
    struct quorum_peer_answer *answer = calloc(1, sizeof *answer);
    answer->message.type = QUORUM_PEER_ANSWER;
    answer->token = token;
    answer->err = err;
    answer->frame = frame;
    answer->peer = (node_id_t)from;
    post(lab, to, answer);
}

static void packet_arrive(struct sim_world *world, struct sim_event *event)
{
    (void)world;
    struct packet *packet = container_of(event, struct packet, event);
    struct lab *lab = packet->lab;
    bool up = lab->node[packet->to].quorum != NULL && !lab->cut[packet->from][packet->to];
    struct frame *frame = frame_ref(packet->frame);
    if (!up) {
        frame_unref(frame);
    } else if (packet->reply) {
        post_answer(lab, packet->to, packet->from, packet->token, packet->err, frame);
    } else if (packet->token == 0) {
        struct quorum_oneway *oneway = calloc(1, sizeof *oneway);
        oneway->message.type = QUORUM_ONEWAY;
        oneway->frame = frame;
        oneway->peer = (node_id_t)packet->from;
        post(lab, packet->to, oneway);
    } else {
        ck_assert_uint_lt(lab->carries, LAB_CALLS_MAX);
        lab->carried[lab->carries].node = packet->from;
        lab->carried[lab->carries].token = packet->token;
        struct quorum_call *call = calloc(1, sizeof *call);
        call->message.type = QUORUM_CALL;
        call->token = CARRIED + lab->carries++;
        call->frame = frame;
        call->peer = (node_id_t)packet->from;
        call->peer_epoch = -1;
        post(lab, packet->to, call);
    }
    frame_unref(packet->frame);
    free(packet);
}

static bool filtered(struct lab *lab, unsigned from, unsigned to, struct frame *frame)
{
    if (lab->filter == NULL)
        return false;
    struct wire_header header;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    if (header.method != WIRE_RAFT)
        return false;
    struct bytes bytes = wire_message(frame, &header);
    Karst__RaftMessage *raft = karst__raft_message__unpack(NULL, bytes.len, bytes.data);
    ck_assert_ptr_nonnull(raft);
    bool lost = !lab->filter(lab, from, to, raft);
    karst__raft_message__free_unpacked(raft, NULL);
    return lost;
}

static void packet_send(struct lab *lab, const struct packet *what)
{
    struct packet *packet = malloc(sizeof *packet);
    *packet = *what;
    packet->lab = lab;
    packet->event = (struct sim_event){.run = packet_arrive};
    (void)frame_ref(packet->frame);
    sim_schedule(&lab->world, &packet->event,
                 ENV_MS(1) + rng_below(&lab->world.rng, ENV_MS(lab->delay_ms_max)));
}

static void carry(struct lab_node *node, struct quorum_peer_send *send)
{
    struct lab *lab = node->lab;
    unsigned to = send->to.port - 9000u;
    struct packet packet = {
        .from = node->idx, .to = to, .token = send->token, .frame = send->frame};
    if (to >= lab->nodes)
        return; /* an address that nobody has */
    if (filtered(lab, node->idx, to, send->frame) || rng_chance(&lab->world.rng, lab->loss_ppm)) {
        if (send->token != 0)
            post_answer(lab, node->idx, to, send->token, ERR_UNREACHABLE, NULL);
        return;
    }
    packet_send(lab, &packet);
    if (send->token == 0 && rng_chance(&lab->world.rng, lab->duplicate_ppm))
        packet_send(lab, &packet);
}

/* ---- the shard ---- */

static void take_answer(struct lab_node *node, struct quorum_answer *answer)
{
    struct lab *lab = node->lab;
    struct wire_header header;
    ck_assert_int_eq(wire_decode_header(answer->frame, &header), ERR_OK);
    if (answer->token >= CALLED) {
        if (answer->token != CALLED + lab->asked)
            return; /* of a call that was given up */
        frame_unref(lab->reply);
        lab->reply = frame_ref(answer->frame);
        return;
    }
    if (answer->token >= CARRIED) {
        unsigned at = (unsigned)(answer->token - CARRIED);
        packet_send(lab, &(struct packet){.from = node->idx,
                                          .to = lab->carried[at].node,
                                          .token = lab->carried[at].token,
                                          .reply = true,
                                          .frame = answer->frame});
        return;
    }
    struct bytes bytes = wire_message(answer->frame, &header);
    if (header.kind == WIRE_ERROR) {
        Karst__Error *error = karst__error__unpack(NULL, bytes.len, bytes.data);
        lab->outcome[answer->token] = error->code;
        karst__error__free_unpacked(error, NULL);
        return;
    }
    Karst__RegisterBrokerReply *reply =
        karst__register_broker_reply__unpack(NULL, bytes.len, bytes.data);
    ck_assert_ptr_nonnull(reply);
    lab->outcome[answer->token] = reply->error;
    if (reply->error == ERR_OK && !lab_image_has(node->image, (unsigned)answer->token))
        broken(lab, "command %u is acknowledged before its image came", (unsigned)answer->token);
    karst__register_broker_reply__free_unpacked(reply, NULL);
}

static void take_update(struct lab_node *node, struct metadata_update *update)
{
    struct lab *lab = node->lab;
    image_unref(node->image);
    node->image = image_ref(update->image);
    node->updates++;
    /* A recovery jumps by 2^20. */
    uint64_t offset = (uint64_t)image_offset(update->image);
    uint64_t quorum = offset >> 20;
    uint64_t digest = image_digest(update->image);
    ck_assert_uint_lt(offset & 0xfffff, LAB_OFFSETS_MAX);
    ck_assert_uint_lt(quorum, LAB_QUORUMS_MAX);
    offset = (offset & 0xfffff) + quorum * LAB_OFFSETS_MAX;
    if (lab->digest_known[offset] && lab->digest_at[offset] != digest)
        broken(lab, "state machine safety: node %u differs at %" PRIu64, node->idx, offset);
    lab->digest_known[offset] = true;
    lab->digest_at[offset] = digest;
}

static void shard_mail(void *actor, void *mail)
{
    struct lab_node *node = actor;
    struct env_message *message = mail;
    if (message->type == QUORUM_PEER_SEND)
        carry(node, mail);
    else if (message->type == QUORUM_ANSWER)
        take_answer(node, mail);
    else if (message->type == QUORUM_UPDATE)
        take_update(node, ((struct quorum_update *)mail)->update);
    else if (message->type == QUORUM_LEADER)
        node->leader = *(struct quorum_leader *)mail;
    quorum_message_free(message);
}

/* ---- nodes ---- */

static void node_exited(struct sim_host *host, int code, const char *why)
{
    struct lab_node *node = host->data;
    (void)code;
    (void)snprintf(node->stopped, sizeof node->stopped, "%s", why);
    lab_stop(node->lab, node->idx, false);
}

static struct quorum_address address_of(unsigned node)
{
    struct quorum_address address = {.node = (node_id_t)node, .port = (uint16_t)(9000 + node)};
    (void)snprintf(address.host, sizeof address.host, "host%u", node);
    return address;
}

void lab_start(struct lab *lab, unsigned idx)
{
    struct lab_node *node = &lab->node[idx];
    ck_assert_ptr_null(node->quorum);
    sim_host_boot(node->host, 2);
    struct env *shard = sim_host_env(node->host, 0);
    shard->actor = node;
    shard->upcalls.mail = shard_mail;
    err_t err = quorum_new(sim_host_env(node->host, 1), &node->config, &node->quorum);
    ck_assert_msg(err == ERR_OK, "quorum_new: %s", err_sentence(err));
    quorum_start(node->quorum);
}

void lab_stop(struct lab *lab, unsigned idx, bool power_cut)
{
    struct lab_node *node = &lab->node[idx];
    if (node->quorum == NULL)
        return;
    node->host->dying = true;
    quorum_free(node->quorum);
    node->quorum = NULL;
    /* The disk ends what is in flight first: that still closes files through the actor's env. */
    if (power_cut)
        sim_disk_power_cut(node->disk);
    else
        sim_disk_kill(node->disk);
    sim_host_stop(node->host);
    image_unref(node->image);
    node->image = image_new_empty();
}

struct lab *lab_new(const struct lab_options *options)
{
    static struct quorum_address bootstrap[LAB_NODES_MAX];
    struct lab *lab = calloc(1, sizeof *lab);
    ck_assert_ptr_nonnull(lab);
    sim_world_init(&lab->world, options->seed);
    lab->voters = options->voters;
    lab->nodes = options->voters + options->observers;
    lab->delay_ms_max = 3;
    for (unsigned i = 0; i < LAB_TERMS_MAX; i++)
        lab->leader_of[i] = -1;
    for (unsigned i = 0; i < lab->nodes; i++)
        bootstrap[i] = address_of(i);
    for (unsigned i = 0; i < lab->nodes; i++) {
        struct lab_node *node = &lab->node[i];
        node->lab = lab;
        node->idx = i;
        node->image = image_new_empty();
        node->disk = sim_disk_new(&(struct sim_disk_options){
            .seed = options->seed + i, .sync_ns_min = 1000000, .sync_ns_max = 3000000});
        node->host = sim_host_add(&lab->world);
        node->host->disk = node->disk;
        node->host->data = node;
        node->host->exited = node_exited;
        node->host->message_free = quorum_message_free;
        node->config = (struct quorum_config){
            .node = (node_id_t)i,
            .shards = 1,
            .cluster_id = {{1, 2, 3}},
            .directory_id = uuid_make(100 + i, 1),
            .self = address_of(i),
            .bootstrap = bootstrap,
            .bootstrap_count = lab->voters,
            .election_timeout_ms = ELECTION_MS,
            .heartbeat_ms = HEARTBEAT_MS,
            .snapshot_bytes = options->snapshot_bytes,
            .trailing_bytes = options->trailing_bytes,
            .message_bytes = options->message_bytes,
            .controller = {.session_timeout_ns = ENV_MS(1000000000),
                           .default_partitions = 1,
                           .default_replication_factor = 1,
                           .topic_partitions_max = 100},
        };
        if (options->segment_bytes > 0) {
            node->log_options = (struct log_options){.segment_bytes = options->segment_bytes,
                                                     .index_interval_bytes = 1024,
                                                     .preallocate_bytes = 4096,
                                                     .written_zeros = true};
            node->config.log_options = &node->log_options;
        }
        if (i < lab->voters) {
            sim_host_boot(node->host, 1);
            err_t err = quorum_format(sim_host_env(node->host, 0), bootstrap, lab->voters);
            ck_assert_msg(err == ERR_OK, "quorum_format: %s", err_sentence(err));
            sim_host_stop(node->host);
            sim_disk_power_cut(node->disk); /* format must have synced what it made */
        }
        lab_start(lab, i);
    }
    return lab;
}

void lab_free(struct lab *lab)
{
    for (unsigned i = 0; i < lab->nodes; i++) {
        lab_stop(lab, i, false);
        image_unref(lab->node[i].image);
    }
    lab->filter = NULL;
    frame_unref(lab->reply);
    while (sim_step(&lab->world)) /* packets under way: nobody is up */
        continue;
    sim_world_fini(&lab->world);
    for (unsigned i = 0; i < lab->nodes; i++)
        sim_disk_free(lab->node[i].disk);
    free(lab);
}

/* ---- checks ---- */

struct quorum_view lab_look(const struct lab *lab, unsigned node)
{
    struct quorum_view view = {.leader_node = -1};
    if (lab->node[node].quorum != NULL)
        quorum_look(lab->node[node].quorum, &view);
    return view;
}

static void check_elections(struct lab *lab)
{
    for (unsigned i = 0; i < lab->nodes; i++) {
        struct quorum_view view = lab_look(lab, i);
        if (!view.leader)
            continue;
        ck_assert_uint_lt(view.term, LAB_TERMS_MAX);
        node_id_t *leader = &lab->leader_of[view.term];
        if (*leader != -1 && *leader != (node_id_t)i)
            broken(lab, "election safety: nodes %d and %u lead term %" PRIu64, (int)*leader, i,
                   view.term);
        *leader = (node_id_t)i;
    }
}

/* Log matching: equal terms at an index mean equal logs up to it. */
static void check_logs(struct lab *lab, unsigned a, unsigned b)
{
    struct quorum *x = lab->node[a].quorum;
    struct quorum *y = lab->node[b].quorum;
    if (x == NULL || y == NULL)
        return;
    struct quorum_view vx = lab_look(lab, a);
    struct quorum_view vy = lab_look(lab, b);
    uint64_t index = vx.last_index < vy.last_index ? vx.last_index : vy.last_index;
    bool matched = false;
    for (uint64_t looked = 0; index > 0 && looked < 64; index--, looked++) {
        uint64_t tx = quorum_entry_term(x, index);
        uint64_t ty = quorum_entry_term(y, index);
        if (tx == 0 || ty == 0)
            return; /* before a snapshot */
        if (tx == ty)
            matched = true;
        else if (matched)
            broken(lab, "log matching: nodes %u and %u differ at %" PRIu64, a, b, index);
    }
}

void lab_run_ms(struct lab *lab, uint64_t ms)
{
    for (uint64_t i = 0; i < ms; i++) {
        sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(1));
        check_elections(lab);
        if (lab->world.now_ns / 1000000 % 20 != 0)
            continue;
        for (unsigned a = 0; a < lab->nodes; a++)
            for (unsigned b = a + 1; b < lab->nodes; b++)
                check_logs(lab, a, b);
    }
}

bool lab_run_until(struct lab *lab, bool (*is)(struct lab *lab), uint64_t ms)
{
    for (uint64_t i = 0; i < ms && !is(lab); i++)
        lab_run_ms(lab, 1);
    return is(lab);
}

int lab_leader(const struct lab *lab)
{
    int leader = -1;
    uint64_t term = 0;
    for (unsigned i = 0; i < lab->nodes; i++) {
        struct quorum_view view = lab_look(lab, i);
        if (view.controller_active && view.term > term) {
            term = view.term;
            leader = (int)i;
        }
    }
    return leader;
}

bool lab_has_active(struct lab *lab)
{
    return lab_leader(lab) >= 0;
}

void lab_cut(struct lab *lab, unsigned node, bool cut)
{
    for (unsigned i = 0; i < lab->nodes; i++)
        if (i != node)
            lab->cut[i][node] = lab->cut[node][i] = cut;
}

void lab_heal(struct lab *lab)
{
    memset(lab->cut, 0, sizeof lab->cut);
    lab->loss_ppm = 0;
    lab->duplicate_ppm = 0;
    lab->filter = NULL;
}

void lab_inject(struct lab *lab, unsigned from, unsigned to, const Karst__RaftMessage *raft)
{
    struct quorum_oneway *oneway = calloc(1, sizeof *oneway);
    oneway->message.type = QUORUM_ONEWAY;
    oneway->peer = (node_id_t)from;
    oneway->frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY, .method = WIRE_RAFT, .message = &raft->base});
    post(lab, to, oneway);
}

void lab_contact(struct lab *lab, unsigned leader, unsigned voter)
{
    Karst__RaftMessage contact = KARST__RAFT_MESSAGE__INIT;
    contact.type = 2;
    contact.from = (int32_t)voter;
    contact.to = (int32_t)leader;
    contact.term = lab_look(lab, leader).term;
    contact.has_rejected = contact.has_last_log_index = true;
    contact.rejected = 1; /* long matched: raft takes note of the contact only */
    lab_inject(lab, voter, leader, &contact);
}

void lab_prove(struct lab *lab, unsigned node, unsigned dead, uint64_t term)
{
    struct quorum_peer_died *died = calloc(1, sizeof *died);
    died->message.type = QUORUM_PEER_DIED;
    died->node = (node_id_t)dead;
    died->led_term = term;
    post(lab, node, died);
}

void lab_hand_over(struct lab *lab, unsigned node)
{
    struct env_message *message = calloc(1, sizeof *message);
    message->type = QUORUM_HAND_OVER;
    post(lab, node, message);
}

void lab_ask(struct lab *lab, unsigned node, uint16_t method, const ProtobufCMessage *message,
             node_id_t peer)
{
    struct quorum_call *call = calloc(1, sizeof *call);
    frame_unref(lab->reply);
    lab->reply = NULL;
    call->message.type = QUORUM_CALL;
    call->token = CALLED + ++lab->asked;
    call->peer = peer;
    call->peer_epoch = -1;
    call->frame = wire_frame(
        &(struct wire_frame_args){.kind = WIRE_REQUEST, .method = method, .message = message});
    post(lab, node, call);
}

struct frame *lab_call(struct lab *lab, unsigned node, uint16_t method,
                       const ProtobufCMessage *message, unsigned ms)
{
    lab_ask(lab, node, method, message, NO_NODE);
    for (unsigned i = 0; i < ms && lab->reply == NULL; i++)
        lab_run_ms(lab, 1);
    struct frame *reply = lab->reply;
    lab->reply = NULL;
    return reply;
}

/* ---- changes of the voters ---- */

static err_t code_of(struct frame *frame)
{
    struct wire_header header;
    if (frame == NULL)
        return ERR_REQUEST_TIMED_OUT;
    ck_assert_int_eq(wire_decode_header(frame, &header), ERR_OK);
    struct bytes bytes = wire_message(frame, &header);
    /* All of these begin with the code and the sentence, and so does Error. */
    Karst__AddVoterReply *reply = karst__add_voter_reply__unpack(NULL, bytes.len, bytes.data);
    ck_assert_ptr_nonnull(reply);
    err_t err = reply->error;
    karst__add_voter_reply__free_unpacked(reply, NULL);
    return err;
}

static err_t ask_leader(struct lab *lab, uint16_t method, const ProtobufCMessage *message,
                        node_id_t peer)
{
    ck_assert(lab_run_until(lab, lab_has_active, 20000));
    unsigned leader = (unsigned)lab_leader(lab);
    lab_ask(lab, leader, method, message, peer);
    for (unsigned i = 0; i < 12000 && lab->reply == NULL && lab->node[leader].quorum != NULL; i++)
        lab_run_ms(lab, 1);
    struct frame *frame = lab->reply;
    lab->reply = NULL;
    err_t err = code_of(frame);
    frame_unref(frame);
    return err;
}

void lab_register(struct lab *lab, unsigned node)
{
    const struct quorum_config *config = &lab->node[node].config;
    struct uuid incarnation = uuid_make(node + 1, rng_next(&lab->world.rng));
    struct uuid boot = uuid_make(1, 1);
    ProtobufCBinaryData directories = wire_put_uuid(&config->directory_id);
    struct quorum_address address = config->self;
    char name[] = "RPC";
    Karst__Listener listener = KARST__LISTENER__INIT;
    listener.name = name;
    listener.host = address.host;
    listener.port = address.port;
    Karst__Listener *listeners[] = {&listener};
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    request.cluster_id = wire_put_uuid(&config->cluster_id);
    request.node_id = (int32_t)node;
    request.incarnation = wire_put_uuid(&incarnation);
    request.boot_id = wire_put_uuid(&boot);
    request.n_listeners = 1;
    request.listeners = listeners;
    request.n_online_directories = 1;
    request.online_directories = &directories;
    ck_assert_int_eq(ask_leader(lab, WIRE_REGISTER_BROKER, &request.base, (node_id_t)node), ERR_OK);
    const struct image *image = lab->node[lab_leader(lab)].image;
    Karst__HeartbeatRequest heartbeat = KARST__HEARTBEAT_REQUEST__INIT;
    heartbeat.node_id = (int32_t)node;
    heartbeat.broker_epoch = image_broker(image, (node_id_t)node)->epoch;
    heartbeat.metadata_offset = image_offset(image);
    ck_assert_int_eq(ask_leader(lab, WIRE_HEARTBEAT, &heartbeat.base, (node_id_t)node), ERR_OK);
    image = lab->node[lab_leader(lab)].image;
    ck_assert_int_eq(image_broker(image, (node_id_t)node)->state, BROKER_STATE_ACTIVE);
}

void lab_ask_change(struct lab *lab, unsigned at, uint16_t method, unsigned node,
                    unsigned timeout_ms)
{
    Karst__AddVoterRequest add = KARST__ADD_VOTER_REQUEST__INIT;
    Karst__RemoveVoterRequest remove = KARST__REMOVE_VOTER_REQUEST__INIT;
    add.node_id = remove.node_id = (int32_t)node;
    add.timeout_ms = remove.timeout_ms = timeout_ms;
    add.has_metadata_offset = remove.has_metadata_offset = true;
    add.metadata_offset = remove.metadata_offset = lab->change_offset;
    lab_ask(lab, at, method, method == WIRE_ADD_VOTER ? &add.base : &remove.base, NO_NODE);
}

err_t lab_change(struct lab *lab, uint16_t method, unsigned node, unsigned timeout_ms)
{
    ck_assert(lab_run_until(lab, lab_has_active, 20000));
    lab->change_offset = image_offset(lab->node[lab_leader(lab)].image);
    err_t err = ERR_NOT_CONTROLLER;
    uint64_t end_ns = lab->world.now_ns + ENV_MS(timeout_ms + 1000);
    while (lab->world.now_ns < end_ns && err == ERR_NOT_CONTROLLER) {
        ck_assert(lab_run_until(lab, lab_has_active, 20000));
        unsigned leader = (unsigned)lab_leader(lab);
        lab_ask_change(lab, leader, method, node, timeout_ms);
        while (lab->world.now_ns < end_ns && lab->reply == NULL && lab->node[leader].quorum != NULL)
            lab_run_ms(lab, 1);
        if (lab->reply == NULL && lab->node[leader].quorum == NULL)
            continue; /* it died: another is asked */
        struct frame *frame = lab->reply;
        lab->reply = NULL;
        err = code_of(frame);
        frame_unref(frame);
        lab_run_ms(lab, 20);
    }
    return err;
}

int lab_role(const struct lab *lab, unsigned at, unsigned node)
{
    struct quorum_server servers[LAB_NODES_MAX];
    if (lab->node[at].quorum == NULL)
        return -1;
    size_t count = quorum_servers(lab->node[at].quorum, servers, LAB_NODES_MAX);
    for (size_t i = 0; i < count && i < LAB_NODES_MAX; i++)
        if (servers[i].node == (node_id_t)node)
            return servers[i].role;
    return -1;
}

/* ---- commands ---- */

unsigned lab_command(struct lab *lab, unsigned node)
{
    ck_assert_uint_lt(lab->calls, LAB_CALLS_MAX);
    unsigned command = lab->calls++;
    lab->outcome[command] = ERR_BUSY;
    struct uuid incarnation = uuid_make(command + 1, 7);
    struct uuid boot = uuid_make(1, 1);
    struct uuid directory = uuid_make(command + 1, 9);
    ProtobufCBinaryData directories = wire_put_uuid(&directory);
    char host[300];
    size_t len = command % 255 + 1; /* entries of all lengths */
    memset(host, 'h', len);
    host[len] = '\0';
    char name[] = "RPC";
    Karst__Listener listener = KARST__LISTENER__INIT;
    listener.name = name;
    listener.host = host;
    listener.port = 9092;
    Karst__Listener *listeners[] = {&listener};
    Karst__RegisterBrokerRequest request = KARST__REGISTER_BROKER_REQUEST__INIT;
    request.cluster_id = wire_put_uuid(&lab->node[node].config.cluster_id);
    request.node_id = (int32_t)(COMMAND_NODE + command);
    request.incarnation = wire_put_uuid(&incarnation);
    request.boot_id = wire_put_uuid(&boot);
    request.n_listeners = 1;
    request.listeners = listeners;
    request.n_online_directories = 1;
    request.online_directories = &directories;
    struct quorum_call *call = calloc(1, sizeof *call);
    call->message.type = QUORUM_CALL;
    call->token = command;
    call->peer = request.node_id;
    call->peer_epoch = -1;
    call->frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_REQUEST, .method = WIRE_REGISTER_BROKER, .message = &request.base});
    post(lab, node, call);
    return command;
}

unsigned lab_commit(struct lab *lab)
{
    for (unsigned tries = 0; tries < 100; tries++) {
        if (!lab_run_until(lab, lab_has_active, 10000))
            ck_abort_msg("no leader");
        unsigned command = lab_command(lab, (unsigned)lab_leader(lab));
        for (unsigned i = 0; i < 11000 && lab->outcome[command] == ERR_BUSY; i++)
            lab_run_ms(lab, 1);
        if (lab->outcome[command] == ERR_OK)
            return command;
    }
    ck_abort_msg("no command is acknowledged: %s", err_name(lab->outcome[lab->calls - 1]));
}

bool lab_image_has(const struct image *image, unsigned command)
{
    return image_broker(image, (node_id_t)(COMMAND_NODE + command)) != NULL;
}

bool lab_keeps_acknowledged(const struct lab *lab, unsigned node)
{
    for (unsigned i = 0; i < lab->calls; i++)
        if (lab->outcome[i] == ERR_OK && !lab_image_has(lab->node[node].image, i))
            return false;
    return true;
}

bool lab_agrees(struct lab *lab)
{
    int leader = lab_leader(lab);
    if (leader < 0)
        return false;
    struct quorum_view view = lab_look(lab, (unsigned)leader);
    for (unsigned i = 0; i < lab->nodes; i++) {
        const struct lab_node *node = &lab->node[i];
        struct quorum_view other = lab_look(lab, i);
        if (node->quorum == NULL)
            continue;
        if (other.applied_index != view.applied_index || other.leader_node != leader ||
            image_digest(node->image) != image_digest(lab->node[leader].image))
            return false;
    }
    return true;
}

void lab_print(const struct lab *lab)
{
    for (unsigned i = 0; i < lab->nodes; i++) {
        struct quorum_view v = lab_look(lab, i);
        fprintf(stderr,
                "node %u: %s%s%s term %" PRIu64 " leader %d last %" PRIu64 " commit %" PRIu64
                " applied %" PRIu64 " snapshot %" PRIu64 " (taken %" PRIu64 " installed %" PRIu64
                ") clamped %" PRIu64 " held %" PRIu64 " stale %" PRIu64 " %s\n",
                i, lab->node[i].quorum == NULL ? "down" : "up", v.leader ? " leader" : "",
                v.controller_active ? " active" : "", v.term, (int)v.leader_node, v.last_index,
                v.commit_index, v.applied_index, v.snapshot_index, v.snapshots_taken,
                v.snapshots_installed, v.clamped, v.held, v.stale, lab->node[i].stopped);
    }
}

#ifdef KARST_CANARIES
void lab_must_break(bool (*history)(void), const char *canary)
{
    canary_arm(canary);
    ck_assert_msg(history(), "with %s the history breaks nothing: it proves nothing", canary);
    canary_arm("none");
}
#else
void lab_must_break(bool (*history)(void), const char *canary)
{
    (void)history;
    (void)canary;
}
#endif
