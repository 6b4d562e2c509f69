#include <stdlib.h>

#include "base/canary.h"
#include "proto/rpc.pb-c.h"
#include "shard/internal.h"

/* Requests that somebody else decides: the active controller (Admin, and most of Cluster), or this
 * node's quorum (Quorum).
 *
 *   a client's: ids are fixed ─▶ call, tried until the deadline ─▶ own image awaited ─▶ reply
 *   a broker's: this node's quorum, one try: what was forwarded is not forwarded again (R26) */

enum { ADMIN_TIMEOUT_MS_MAX = 60 * 60 * 1000 };

struct admin {
    struct list_node link;
    struct shard *shard;
    struct request *request;
    struct call *call; /* NULL: answered */
    uint64_t deadline_ns;
    /* Topics that the image must have, or must not have any more; in the request's arena. */
    struct uuid *topics;
    uint32_t topic_count;
    bool deleting;
    bool awaiting;
};

static const struct wire_method *admin_method(const ProtobufCMessage *message)
{
    size_t count;
    const struct wire_method *methods = wire_methods(&count);
    for (size_t i = 0; i < count; i++)
        if (methods[i].request == message->descriptor)
            return &methods[i];
    return NULL;
}

static uint64_t admin_timeout_ns(const struct shard *shard, uint32_t timeout_ms)
{
    if (timeout_ms == 0)
        return shard->config->request_timeout_ns;
    return ENV_MS(timeout_ms < ADMIN_TIMEOUT_MS_MAX ? timeout_ms : ADMIN_TIMEOUT_MS_MAX);
}

/* ---- before the first try: what a retry needs to meet its own result (R26) ---- */

static bool admin_make_id(struct shard *shard, struct arena *arena, ProtobufCBinaryData *ret_bytes)
{
    struct env *env = shard->env;
    struct uuid *id = arena_alloc(arena, sizeof(*id));
    if (id == NULL)
        return false;
    uint64_t high = env->random(env->self);
    *id = uuid_make(high, env->random(env->self));
    *ret_bytes = wire_put_uuid(id);
    return true;
}

static err_t admin_fix_create(struct admin *admin, Karst__CreateTopicsRequest *create)
{
    struct arena *arena = &admin->request->arena;
    if (!create->has_request_id || create->request_id.len != sizeof(struct uuid)) {
        if (!admin_make_id(admin->shard, arena, &create->request_id))
            return ERR_NO_MEMORY;
        create->has_request_id = true;
    }
    for (size_t i = 0; i < create->n_topics; i++) {
        Karst__CreateTopic *topic = create->topics[i];
        if (topic->has_topic_id && topic->topic_id.len == sizeof(struct uuid))
            continue;
        if (!admin_make_id(admin->shard, arena, &topic->topic_id))
            return ERR_NO_MEMORY;
        topic->has_topic_id = true;
    }
    return ERR_OK;
}

/* Names become ids by the own image. *ret_all: every one did, so that a retry can't delete another
 * topic of the same name. */
static void admin_fix_delete(struct admin *admin, Karst__DeleteTopicsRequest *delete, bool *ret_all)
{
    const struct image *image = admin->shard->image;
    *ret_all = true;
    for (size_t i = 0; i < delete->n_topics; i++) {
        Karst__DeleteTopic *topic = delete->topics[i];
        if (topic->has_topic_id)
            continue;
        const struct image_topic *found = NULL;
        if (image != NULL && topic->name != NULL)
            found = image_topic_by_name(image, topic->name);
        struct uuid *id = NULL;
        if (found != NULL)
            id = arena_alloc(&admin->request->arena, sizeof(*id));
        if (id == NULL) {
            *ret_all = false;
            continue;
        }
        *id = found->id;
        topic->topic_id = wire_put_uuid(id);
        topic->has_topic_id = true;
    }
}

/* A retry that finds the voters as they are to be knows by the offset whether they were so before.
 * Not the client's to say. */
static uint64_t admin_fix_change(const struct shard *shard, ProtobufCMessage *message)
{
    int64_t offset = shard->image == NULL ? -1 : image_offset(shard->image);
    if (message->descriptor == &karst__add_voter_request__descriptor) {
        Karst__AddVoterRequest *add = (Karst__AddVoterRequest *)message;
        add->has_metadata_offset = true;
        add->metadata_offset = offset;
        return admin_timeout_ns(shard, add->timeout_ms);
    }
    Karst__RemoveVoterRequest *remove = (Karst__RemoveVoterRequest *)message;
    remove->has_metadata_offset = true;
    remove->metadata_offset = offset;
    return admin_timeout_ns(shard, remove->timeout_ms);
}

/* ---- after the answer ---- */

static void admin_end(struct admin *admin)
{
    struct shard *shard = admin->shard;
    struct request *request = admin->request;
    list_remove(&admin->link);
    free(admin);
    request_release(shard, request);
}

static bool admin_image_reached(const struct admin *admin)
{
    const struct image *image = admin->shard->image;
    for (uint32_t i = 0; i < admin->topic_count; i++)
        if ((image_topic(image, &admin->topics[i]) == NULL) != admin->deleting)
            return false;
    return true;
}

static void admin_await(struct admin *admin, Karst__TopicResult *const *topics, size_t count,
                        bool deleting)
{
    admin->topics = arena_calloc(&admin->request->arena, count, sizeof(struct uuid));
    admin->deleting = deleting;
    if (admin->topics == NULL || admin->shard->image == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        if (topics[i]->error == ERR_OK && topics[i]->has_topic_id &&
            wire_get_uuid(&topics[i]->topic_id, &admin->topics[admin->topic_count]))
            admin->topic_count++;
    admin->awaiting = !admin_image_reached(admin);
}

/* A topic that our image had, and that the controller does not know any more, is deleted: by an
 * earlier try of ours, or by somebody else. Either way it is what was asked for. */
static bool admin_was_deleted(const struct admin *admin, const Karst__TopicResult *result)
{
    struct uuid id;
    bool gone =
        result->error == ERR_UNKNOWN_TOPIC_ID || result->error == ERR_UNKNOWN_TOPIC_OR_PARTITION;
    return gone && admin->shard->image != NULL && result->has_topic_id &&
           wire_get_uuid(&result->topic_id, &id) && image_topic(admin->shard->image, &id) != NULL;
}

static void admin_take_delete(struct admin *admin, Karst__DeleteTopicsReply *reply)
{
    bool changed = false;
    for (size_t i = 0; i < reply->n_topics; i++) {
        if (!admin_was_deleted(admin, reply->topics[i]))
            continue;
        reply->topics[i]->error = ERR_OK;
        reply->topics[i]->message = NULL;
        changed = true;
    }
    if (changed) {
        struct frame *frame = wire_frame(&(struct wire_frame_args){
            .kind = WIRE_REPLY, .method = WIRE_DELETE_TOPICS, .message = &reply->base});
        if (frame != NULL) {
            frame_unref(admin->request->reply_frame);
            admin->request->reply_frame = frame;
        }
    }
    admin_await(admin, reply->topics, reply->n_topics, true);
}

/* The answering broker waits for its own image, so that the client's next Metadata sees what it
 * did. */
static void admin_take_reply(struct admin *admin)
{
    struct request *request = admin->request;
    const ProtobufCMessageDescriptor *asked = request->message->descriptor;
    const ProtobufCMessageDescriptor *type;
    if (asked == &karst__create_topics_request__descriptor)
        type = &karst__create_topics_reply__descriptor;
    else if (asked == &karst__delete_topics_request__descriptor)
        type = &karst__delete_topics_reply__descriptor;
    else
        return;
    struct wire_header header;
    ProtobufCMessage *message;
    if (wire_decode_header(request->reply_frame, &header) != ERR_OK || header.kind != WIRE_REPLY ||
        wire_unpack(type, wire_message(request->reply_frame, &header), &request->arena, &message) !=
            ERR_OK)
        return;
    if (type == &karst__delete_topics_reply__descriptor) {
        admin_take_delete(admin, (Karst__DeleteTopicsReply *)message);
        return;
    }
    const Karst__CreateTopicsReply *reply = (const Karst__CreateTopicsReply *)message;
    const Karst__CreateTopicsRequest *create = (const Karst__CreateTopicsRequest *)request->message;
    if (!create->validate_only)
        admin_await(admin, reply->topics, reply->n_topics, false);
}

static void admin_done(struct shard *shard, void *context, err_t err, struct frame *reply)
{
    struct admin *admin = context;
    struct request *request = admin->request;
    admin->call = NULL;
    if (err != ERR_OK) {
        /* Lost on the way: its outcome is not known (R26). */
        bool led = shard->active_here || shard->leader.node != NO_NODE;
        request_fail(request, ERR_REQUEST_TIMED_OUT,
                     led ? NULL
                         : "the request timed out; its outcome is unknown, and the cluster has no "
                           "controller at present: do most of its voters run?");
    } else {
        request->reply_frame = reply;
        if (request_session(shard, request) != NULL)
            admin_take_reply(admin);
    }
    if (!admin->awaiting)
        admin_end(admin);
}

void admin_image_moved(struct shard *shard)
{
    list_for_each_safe (node, after, &shard->admins) {
        struct admin *admin = list_entry(node, struct admin, link);
        if (admin->awaiting && admin_image_reached(admin))
            admin_end(admin);
    }
}

void admin_tick(struct shard *shard, uint64_t now_ns)
{
    list_for_each_safe (node, after, &shard->admins) {
        struct admin *admin = list_entry(node, struct admin, link);
        if (admin->awaiting && now_ns >= admin->deadline_ns)
            admin_end(admin); /* it is done, only not yet seen here */
    }
}

/* ---- begin ---- */

/* A client's request: ids, deadline, and a frame of its own. */
static err_t admin_prepare(struct admin *admin, const struct wire_method *method,
                           struct call_args *args)
{
    struct shard *shard = admin->shard;
    /* Ours alone: decoded into the request's arena. */
    void *message = (void *)(uintptr_t)admin->request->message;
    uint64_t timeout_ns = shard->config->request_timeout_ns;
    err_t err = ERR_OK;
    args->retry = true;
    if (method->id == WIRE_CREATE_TOPICS) {
        Karst__CreateTopicsRequest *create = message;
        timeout_ns = admin_timeout_ns(shard, create->timeout_ms);
        err = admin_fix_create(admin, create);
    } else if (method->id == WIRE_DELETE_TOPICS) {
        Karst__DeleteTopicsRequest *delete = message;
        timeout_ns = admin_timeout_ns(shard, delete->timeout_ms);
        admin_fix_delete(admin, delete, &args->retry);
    } else if (method->id == WIRE_ADD_VOTER || method->id == WIRE_REMOVE_VOTER) {
        timeout_ns = admin_fix_change(shard, message);
    }
    if (err != ERR_OK)
        return err;
    admin->deadline_ns = env_now(shard->env) + timeout_ns;
    args->frame = wire_frame(
        &(struct wire_frame_args){.kind = WIRE_REQUEST, .method = method->id, .message = message});
    return args->frame == NULL ? ERR_NO_MEMORY : ERR_OK;
}

/* For this node's quorum, whatever that is, and not for the controller. */
static bool admin_is_for_here(const ProtobufCMessage *message)
{
    return message->descriptor == &karst__describe_quorum_request__descriptor &&
           !((const Karst__DescribeQuorumRequest *)message)->of_leader;
}

static bool admin_is_for_brokers(uint16_t method)
{
    return method == WIRE_REGISTER_BROKER || method == WIRE_HEARTBEAT ||
           method == WIRE_ALTER_PARTITION || method == WIRE_ALLOCATE_PRODUCER_IDS ||
           method == WIRE_METADATA_FETCH;
}

void admin_begin(struct shard *shard, struct session *session, struct request *request)
{
    const struct wire_method *method = admin_method(request->message);
    ASSERT(method != NULL);
    bool broker = session->node != NO_NODE && !CANARY("shard_forwards_twice"); /* R26 */
    if (!broker && admin_is_for_brokers(method->id)) {
        request_fail(request, ERR_CLUSTER_AUTHORIZATION_FAILED,
                     "this request is between brokers only");
        return;
    }
    struct admin *admin = calloc(1, sizeof(*admin));
    if (admin == NULL) {
        request_fail(request, ERR_NO_MEMORY, NULL);
        return;
    }
    admin->shard = shard;
    admin->request = request;
    admin->deadline_ns = request->deadline_ns;
    struct call_args args = {
        .peer = session->node,
        .peer_epoch = session->broker_epoch,
        .done = admin_done,
        .context = admin,
    };
    err_t err = ERR_OK;
    args.here = broker || admin_is_for_here(request->message);
    if (args.here)
        args.frame = frame_ref(request->frame);
    else
        err = admin_prepare(admin, method, &args);
    args.deadline_ns = admin->deadline_ns;
    if (err == ERR_OK) {
        admin->call = call_begin(shard, &args);
        err = admin->call == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err != ERR_OK) {
        free(admin);
        request_fail(request, err, NULL);
        return;
    }
    request->away++;
    list_push_back(&shard->admins, &admin->link);
}

void admin_fini(struct shard *shard)
{
    struct list_node *node;
    while ((node = list_pop_front(&shard->admins)) != NULL) {
        struct admin *admin = list_entry(node, struct admin, link);
        request_lost(admin->request);
        free(admin);
    }
}
