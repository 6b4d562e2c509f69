#include "controller/controller.h"

#include <stdlib.h>

#include "base/logger.h"
#include "controller/internal.h"

struct controller *controller_new(const struct controller_config *config, struct rng *rng)
{
    struct controller *c = calloc(1, sizeof(*c));
    ASSERT(c != NULL);
    c->config = *config;
    c->rng = rng;
    table_init(&c->brokers, 0); /* node ids are the operator's */
    table_init(&c->questions, rng_next(rng));
    return c;
}

static void controller_forget(struct controller *c)
{
    image_edit_abandon(c->edit);
    image_unref(c->committed);
    c->edit = NULL;
    c->committed = NULL;
    table_for_each (struct broker_soft, soft, &c->brokers) {
        failures_forget(soft);
        free(soft);
    }
    table_clear(&c->brokers);
    unclean_forget(c);
}

void controller_free(struct controller *c)
{
    if (c == NULL)
        return;
    controller_forget(c);
    table_fini(&c->brokers);
    table_fini(&c->questions);
    free(c);
}

bool controller_active(const struct controller *c)
{
    return c->active;
}

const struct image *controller_view(const struct controller *c)
{
    return c->active ? image_edit_view(c->edit) : NULL;
}

/* ---- life ---- */

void controller_activate(struct controller *c, struct image *image, int64_t next_offset,
                         uint64_t now_ns, struct record_list *ret_records)
{
    ASSERT(!c->active);
    c->active = true;
    c->committed = image_ref(image);
    c->edit = image_edit_begin_speculative(image);
    c->activated_ns = c->last_tick_ns = now_ns;
    c->preferred_due_ns = now_ns + c->config.preferred_leader_wait_ns;
    c->unclean_due_ns = now_ns + c->config.session_timeout_ns;
    decision_begin(c, ret_records, next_offset, now_ns);
    brokers_learn(c);
    if (image_transaction_open(view(c))) { /* R23: what the last controller left half said */
        Karst__AbortTransactionRecord abort = KARST__ABORT_TRANSACTION_RECORD__INIT;
        abort.reason = record_text("a new controller");
        err_t err = decision_add(c, &abort.base);
        ASSERT(err == ERR_OK);
    }
    /* R23: the last one may have fenced a broker and died before it moved all its partitions. */
    size_t repaired = repair_all(c);
    brokers_settle(c);
    log_info("controller: active with %zu topics, %zu partitions, %zu brokers; %zu partitions "
             "repaired",
             image_topic_count(image), image_partition_count(image), image_broker_count(image),
             repaired);
}

void controller_deactivate(struct controller *c)
{
    if (!c->active)
        return;
    c->active = false;
    controller_forget(c);
}

void controller_committed(struct controller *c, struct image *image)
{
    if (!c->active)
        return;
    image_ref(image);
    image_unref(c->committed);
    c->committed = image;
    /* All that was proposed is applied, or the two could not be equal. Speculation begins anew on
     * what everybody has, and shares its memory. */
    if (image_digest(image) == image_digest(view(c))) {
        image_edit_abandon(c->edit);
        c->edit = image_edit_begin_speculative(image);
    }
    brokers_settle(c);
}

/* ---- events ---- */

void controller_tick(struct controller *c, int64_t entry_offset, uint64_t now_ns,
                     struct record_list *ret_records)
{
    if (!c->active)
        return;
    decision_begin(c, ret_records, entry_offset, now_ns);
    uint64_t gap_ns = now_ns - c->last_tick_ns;
    c->last_tick_ns = now_ns;
    /* The process was stopped or starved: heartbeats may lie unread, and silence proves nothing. */
    if (gap_ns > c->config.session_timeout_ns / 2)
        brokers_note_gap(c, gap_ns);
    brokers_fence_silent(c);
    if (now_ns >= c->preferred_due_ns)
        elect_preferred_due(c);
    unclean_tick(c);
}

uint64_t controller_silence_due_ns(const struct controller *c)
{
    return c->active ? brokers_silence_due_ns(c) : UINT64_MAX;
}

void controller_broker_died(struct controller *c, node_id_t node, const struct uuid *incarnation,
                            int64_t entry_offset, uint64_t now_ns, struct record_list *ret_records)
{
    if (!c->active)
        return;
    decision_begin(c, ret_records, entry_offset, now_ns);
    const struct image_broker *broker = image_broker(view(c), node);
    if (broker == NULL || broker->state == BROKER_STATE_FENCED ||
        !uuid_equal(&broker->incarnation, incarnation))
        return; /* the proof is of an older life */
    brokers_fence(c, node, "its address refuses connections");
}

void controller_voters(struct controller *c, const Karst__Voter *const *voters, size_t voter_count,
                       int64_t entry_offset, uint64_t now_ns, struct record_list *ret_records)
{
    if (!c->active)
        return;
    decision_begin(c, ret_records, entry_offset, now_ns);
    Karst__VotersRecord record = KARST__VOTERS_RECORD__INIT;
    record.n_voters = voter_count;
    record.voters = (Karst__Voter **)(uintptr_t)voters; /* packing only reads them */
    err_t err = decision_add(c, &record.base);
    if (err != ERR_OK)
        decision_complain("the list of voters", err);
}

static ProtobufCMessage *allocate_producer_ids(struct controller *c,
                                               const Karst__AllocateProducerIdsRequest *request)
{
    const ProtobufCMessageDescriptor *type = &karst__allocate_producer_ids_reply__descriptor;
    err_t err = brokers_check(c, request->node_id, request->broker_epoch);
    if (err != ERR_OK)
        return reply_error(c, type, err, NULL);
    Karst__AllocateProducerIdsReply *reply = reply_new(c, type);
    if (reply == NULL)
        return NULL;
    const char *refusal = space_refusal(c);
    if (refusal != NULL)
        return reply_error(c, type, ERR_NOT_ENOUGH_SPACE, refusal);
    producer_id_t first = image_next_producer_id(view(c));
    if (first > INT64_MAX - PRODUCER_IDS_BLOCK)
        return reply_error(c, type, ERR_UNKNOWN_SERVER_ERROR,
                           "all producer ids of this cluster are given away");
    Karst__ProducerIdsRecord record = KARST__PRODUCER_IDS_RECORD__INIT;
    record.node_id = request->node_id;
    record.broker_epoch = request->broker_epoch;
    record.next_producer_id = first + PRODUCER_IDS_BLOCK;
    err = decision_add(c, &record.base);
    if (err != ERR_OK)
        return reply_error(c, type, err, NULL);
    reply->has_first_producer_id = reply->has_count = true;
    reply->first_producer_id = first;
    reply->count = PRODUCER_IDS_BLOCK;
    return &reply->base;
}

/* The message's own type, which its descriptor promises. */
#define AS(type, message) ((const type *)(const void *)(message))

enum method_kind { BROKERS_ONLY, ANYBODY };

#define METHODS(X)                                                                                 \
    X(register_broker, RegisterBroker, brokers_register, BROKERS_ONLY)                             \
    X(heartbeat, Heartbeat, brokers_heartbeat, BROKERS_ONLY)                                       \
    X(alter_partition, AlterPartition, partitions_alter, BROKERS_ONLY)                             \
    X(allocate_producer_ids, AllocateProducerIds, allocate_producer_ids, BROKERS_ONLY)             \
    X(create_topics, CreateTopics, topics_create, ANYBODY)                                         \
    X(delete_topics, DeleteTopics, topics_delete, ANYBODY)                                         \
    X(elect_leaders, ElectLeaders, elections_request, ANYBODY)

/* The handlers behind one signature: each knows the type of its message. */
#define METHOD_CALL(name, type, handler, kind)                                                     \
    static ProtobufCMessage *call_##name(struct controller *c, const ProtobufCMessage *message)    \
    {                                                                                              \
        return handler(c, AS(Karst__##type##Request, message));                                    \
    }
METHODS(METHOD_CALL)
#undef METHOD_CALL

static const struct {
    const ProtobufCMessageDescriptor *request, *reply;
    ProtobufCMessage *(*call)(struct controller *c, const ProtobufCMessage *message);
    enum method_kind kind;
} methods[] = {
#define METHOD_ROW(name, type, handler, kind)                                                      \
    {&karst__##name##_request__descriptor, &karst__##name##_reply__descriptor, call_##name, kind},
    METHODS(METHOD_ROW)
#undef METHOD_ROW
};

/* Replies that need no memory; never written. */
static char unknown_method_text[] = "the controller does not know this request";
static Karst__Error unknown_method = {
    .base = PROTOBUF_C_MESSAGE_INIT(&karst__error__descriptor),
    .code = ERR_UNSUPPORTED_VERSION,
    .message = unknown_method_text,
};
static char no_room_text[] = "the reply is too large; ask for less at a time";
static Karst__Error no_room = {
    .base = PROTOBUF_C_MESSAGE_INIT(&karst__error__descriptor),
    .code = ERR_REQUEST_TIMED_OUT,
    .message = no_room_text,
};

static ProtobufCMessage *handle(struct controller *c, const struct controller_request *request)
{
    for (size_t i = 0; i < ARRAY_LEN(methods); i++) {
        if (request->message->descriptor != methods[i].request)
            continue;
        if (!c->active) {
            c->at_once = true;
            return reply_error(c, methods[i].reply, ERR_NOT_CONTROLLER, NULL);
        }
        if (methods[i].kind == BROKERS_ONLY && request->from == NO_NODE) { /* R12 */
            c->at_once = true;
            return reply_error(c, methods[i].reply, ERR_CLUSTER_AUTHORIZATION_FAILED,
                               "only a broker, whose hello says so, may ask this");
        }
        return methods[i].call(c, request->message);
    }
    c->at_once = true;
    return &unknown_method.base;
}

void controller_handle(struct controller *c, const struct controller_request *request,
                       int64_t entry_offset, uint64_t now_ns, struct arena *arena,
                       struct controller_decision *ret_decision)
{
    c->at_once = false;
    c->arena = arena;
    if (c->active)
        decision_begin(c, &ret_decision->records, entry_offset, now_ns);
    ret_decision->reply = handle(c, request);
    ret_decision->reply_at_once = c->at_once;
    if (ret_decision->reply == NULL) {
        /* What was decided stands; its outcome is not told, as when a reply is lost. */
        ret_decision->reply = &no_room.base;
    }
    c->arena = NULL;
}

void controller_bootstrap_records(const struct uuid *cluster_id, const struct uuid *recovery_id,
                                  const Karst__Voter *const *voters, size_t voter_count,
                                  struct record_list *ret_records)
{
    Karst__FeatureLevelRecord level = KARST__FEATURE_LEVEL_RECORD__INIT;
    level.level = IMAGE_FEATURE_LEVEL;
    record_list_add(ret_records, &level.base);
    Karst__ClusterRecord cluster = KARST__CLUSTER_RECORD__INIT;
    cluster.cluster_id = record_uuid(cluster_id);
    cluster.quorum_recovery_id = record_uuid(recovery_id);
    record_list_add(ret_records, &cluster.base);
    Karst__VotersRecord record = KARST__VOTERS_RECORD__INIT;
    record.n_voters = voter_count;
    record.voters = (Karst__Voter **)(uintptr_t)voters; /* packing only reads them */
    record_list_add(ret_records, &record.base);
}
