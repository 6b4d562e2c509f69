#include <stdlib.h>

#include "proto/rpc.pb-c.h"
#include "shard/internal.h"

/* A call and its tries:
 *
 *   IDLE ──[a controller is known]──▶ AT_QUORUM (it is ours) or AT_PEER ──answer──▶ done
 *    ▲                                                  │
 *    └── not the controller, connection lost, leader ───┘
 *        changed: after a backoff, or news of a leader
 *
 *   deadline: done, REQUEST_TIMED_OUT */

enum { CALL_BACKOFF_NS = 20 * 1000 * 1000, CALL_JITTER_NS = 30 * 1000 * 1000 };

struct call {
    struct list_node link;
    struct env_timer timer; /* the next try, or the deadline */
    struct shard *shard;
    struct call_args args;
    struct frame *frame; /* ours; each try sends a reference, or a copy with its own correlation */
    enum call_state state;
    uint64_t token; /* of the try at the quorum; 0: none */
    node_id_t asked;
    struct peer_ask ask;
    uint64_t retry_ns;
    bool left; /* whom it was given to leads no more, and nobody tries it again */
};

static void call_try(struct call *call);

static void call_start_timer(struct call *call)
{
    struct env *env = call->shard->env;
    uint64_t due = call->args.deadline_ns;
    if (call->state == CALL_IDLE && call->retry_ns > 0 && call->retry_ns < due)
        due = call->retry_ns;
    env->timer_start(env->self, &call->timer, due);
}

static void call_free(struct call *call)
{
    struct env *env = call->shard->env;
    env->timer_stop(env->self, &call->timer);
    list_remove(&call->link);
    peer_ask_cancel(&call->ask);
    frame_unref(call->frame);
    free(call);
}

void call_abandon(struct shard *shard, struct call *call)
{
    (void)shard;
    call_free(call);
}

static void call_end(struct call *call, err_t err, struct frame *reply)
{
    struct shard *shard = call->shard;
    call_done done = call->args.done;
    void *context = call->args.context;
    call_free(call);
    done(shard, context, err, reply);
}

/* The try came to nothing that may be told: another one later, or the end. */
static void call_failed(struct call *call, err_t err)
{
    struct shard *shard = call->shard;
    call->state = CALL_IDLE;
    call->token = 0;
    uint64_t now = env_now(shard->env);
    if (!call->args.retry || now >= call->args.deadline_ns) {
        call_end(call, call->args.retry ? ERR_REQUEST_TIMED_OUT : err, NULL);
        return;
    }
    call->retry_ns = now + CALL_BACKOFF_NS + shard_random(shard, CALL_JITTER_NS);
    call_start_timer(call);
}

err_t call_reply_error(struct shard *shard, const struct frame *reply)
{
    struct wire_header header;
    err_t err = wire_decode_header(reply, &header);
    if (err != ERR_OK)
        return err;
    struct arena *arena = shard_scratch(shard);
    ProtobufCMessage *message;
    if (header.kind == WIRE_ERROR) {
        err = wire_unpack(&karst__error__descriptor, wire_message(reply, &header), arena, &message);
        return err != ERR_OK ? err : ((Karst__Error *)message)->code;
    }
    const struct wire_method *method = wire_method_find(header.method);
    if (header.kind != WIRE_REPLY || method == NULL)
        return ERR_INVALID_REQUEST;
    const ProtobufCFieldDescriptor *field =
        protobuf_c_message_descriptor_get_field_by_name(method->reply, "error");
    if (field == NULL || field->type != PROTOBUF_C_TYPE_INT32)
        return ERR_OK;
    err = wire_unpack(method->reply, wire_message(reply, &header), arena, &message);
    if (err != ERR_OK)
        return err;
    memcpy(&err, (const char *)message + field->offset, sizeof(err));
    return err;
}

static void call_take_reply(struct call *call, struct frame *reply)
{
    struct shard *shard = call->shard;
    /* An outcome that is told for good, or "not here (any more)": then another try, which finds
     * what an earlier one may have done (R26). */
    if (call->args.retry && call_reply_error(shard, reply) == ERR_NOT_CONTROLLER) {
        frame_unref(reply);
        call_failed(call, ERR_NOT_CONTROLLER);
        return;
    }
    call_end(call, ERR_OK, reply);
}

static void call_peer_answered(struct shard *shard, struct peer_ask *ask, err_t err,
                               struct frame *frame, node_id_t peer)
{
    (void)shard;
    (void)peer;
    struct call *call = container_of(ask, struct call, ask);
    if (err == ERR_OK)
        call_take_reply(call, frame);
    else
        call_failed(call, err);
}

void call_answered(struct shard *shard, struct quorum_answer *answer)
{
    struct frame *frame = answer->frame;
    uint64_t token = answer->token;
    answer->frame = NULL;
    quorum_message_free(&answer->message);
    list_for_each (node, &shard->calls) {
        struct call *call = list_entry(node, struct call, link);
        if (call->token == token) {
            call_take_reply(call, frame);
            return;
        }
    }
    frame_unref(frame); /* it timed out meanwhile */
}

static err_t call_quorum(struct call *call)
{
    struct shard *shard = call->shard;
    struct quorum_call *message = malloc(sizeof(*message));
    if (message == NULL)
        return ERR_NO_MEMORY;
    call->token = ++shard->last_token;
    call->state = CALL_AT_QUORUM;
    message->token = call->token;
    message->frame = frame_ref(call->frame);
    message->peer = call->args.peer;
    message->peer_epoch = call->args.peer_epoch;
    shard_post(shard, shard_quorum(shard), &message->message, QUORUM_CALL);
    return ERR_OK;
}

static err_t call_peer(struct call *call)
{
    struct shard *shard = call->shard;
    /* A copy: the correlation is written into it, and an earlier try's may still lie in a queue. */
    struct frame *copy = frame_new(call->frame->used);
    if (copy == NULL)
        return ERR_NO_MEMORY;
    memcpy(copy->bytes, call->frame->bytes, call->frame->used);
    copy->used = call->frame->used;
    struct peer_to to = {.node = shard->leader.node,
                         .lane = PEER_CONTROL,
                         .host = shard->leader.host,
                         .port = shard->leader.port};
    call->asked = shard->leader.node;
    call->state = CALL_AT_PEER;
    return peer_ask(shard, &to, copy, &call->ask);
}

static void call_try(struct call *call)
{
    struct shard *shard = call->shard;
    err_t err = ERR_OK;
    call->retry_ns = 0;
    if (call->args.here || shard->active_here)
        err = call_quorum(call);
    else if (shard->leader.node != NO_NODE && shard->leader.node != shard->config->node)
        err = call_peer(call);
    /* else: IDLE until the quorum names a leader, or the deadline */
    if (err != ERR_OK) {
        call_failed(call, err);
        return;
    }
    call_start_timer(call);
}

static void call_timer(struct env_timer *timer, uint64_t now_ns)
{
    struct call *call = container_of(timer, struct call, timer);
    if (now_ns >= call->args.deadline_ns)
        call_end(call, ERR_REQUEST_TIMED_OUT, NULL);
    else if (call->left)
        call_end(call, ERR_NETWORK_EXCEPTION, NULL);
    else
        call_try(call);
}

struct call *call_begin(struct shard *shard, const struct call_args *args)
{
    struct call *call = malloc(sizeof(*call));
    if (call == NULL) {
        frame_unref(args->frame);
        return NULL;
    }
    *call = (struct call){
        .shard = shard,
        .timer = {.fire = call_timer},
        .args = *args,
        .frame = args->frame,
        .ask = {.answered = call_peer_answered},
    };
    list_init(&call->ask.link);
    list_push_back(&shard->calls, &call->link);
    /* From the loop, so that done is never called from here. */
    call->retry_ns = env_now(shard->env);
    call_start_timer(call);
    return call;
}

void calls_leader_changed(struct shard *shard)
{
    uint64_t now = env_now(shard->env);
    list_for_each (node, &shard->calls) {
        struct call *call = list_entry(node, struct call, link);
        bool moved = call->state == CALL_AT_PEER && call->asked != shard->leader.node;
        if (moved) {
            /* What the old one did, or not, the new one knows (R26). */
            peer_ask_cancel(&call->ask);
            call->state = CALL_IDLE;
            call->left = !call->args.retry;
        }
        if (call->state == CALL_IDLE && !call->args.here) {
            call->retry_ns = now;
            call_start_timer(call);
        }
    }
}

void calls_fini(struct shard *shard)
{
    struct list_node *node;
    while ((node = shard->calls.next) != &shard->calls)
        call_free(list_entry(node, struct call, link));
}
