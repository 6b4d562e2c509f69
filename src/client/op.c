#include <stdio.h>
#include <stdlib.h>

#include "client/core.h"

/* One try of an op; the op may be gone before it comes back. */
struct client_op_call {
    struct client_call call;
    struct client_op *op; /* NULL: canceled */
};

static void client_op_finish(struct client *client, struct client_op *op, err_t err,
                             const char *sentence)
{
    op->finished = true;
    op->err = err;
    if (err != ERR_OK)
        snprintf(op->sentence, sizeof(op->sentence), "%s",
                 sentence == NULL ? err_sentence(err) : sentence);
    list_remove(&op->link);
    client_ready(client);
}

void client_op_start(struct client *client, struct client_op *op)
{
    op->call = NULL;
    op->retry_at_ns = 0;
    op->finished = false;
    op->late = false;
    op->uncertain = false;
    op->err = ERR_REQUEST_TIMED_OUT;
    op->sentence[0] = '\0';
    op->tries = 0;
    list_push_back(&client->ops, &op->link);
    struct client_topic *topic = op->topic == NULL ? NULL : client_topic_get(client, op->topic);
    if (op->topic != NULL && topic == NULL) {
        client_op_finish(client, op, ERR_NO_MEMORY, NULL);
        return;
    }
    if (topic != NULL)
        client_topic_ask_again(client, topic);
    client_wake(client);
}

void client_op_cancel(struct client *client, struct client_op *op)
{
    (void)client;
    if (op->finished)
        return;
    list_remove(&op->link);
    if (op->call != NULL)
        op->call->op = NULL;
    op->call = NULL;
    op->finished = true;
}

/* A message of the arena of the reply at hand, into one that lives on: packed and read again. */
static const ProtobufCMessage *client_op_keep(struct client_op *op, const ProtobufCMessage *message)
{
    size_t bytes = protobuf_c_message_get_packed_size(message);
    uint8_t *packed = arena_alloc(op->arena, bytes);
    ProtobufCMessage *kept;
    if (packed == NULL)
        return NULL;
    protobuf_c_message_pack(message, packed);
    err_t err = wire_unpack(message->descriptor, (struct bytes){packed, bytes}, op->arena, &kept);
    return err == ERR_OK ? kept : NULL;
}

/* The try has failed, and another is worth while. */
static void client_op_again(struct client *client, struct client_op *op, err_t err,
                            const char *sentence)
{
    uint64_t now = client_now(client);
    op->err = err;
    snprintf(op->sentence, sizeof(op->sentence), "%s",
             sentence == NULL ? err_sentence(err) : sentence);
    op->retry_at_ns = now + client_backoff_ns(op->tries + 1, CLIENT_RETRY_MS, CLIENT_RETRY_MS_MAX);
    if (op->topic != NULL && client_err_is_leaders(err))
        client_metadata_want(client);
}

static void client_op_done(struct client *client, struct client_call *call, err_t err,
                           const struct client_reply *reply)
{
    struct client_op_call *op_call = container_of(call, struct client_op_call, call);
    struct client_op *op = op_call->op;
    free(op_call);
    if (op == NULL)
        return;
    op->call = NULL;
    ASSERT(reply != NULL || err != ERR_OK);
    const char *sentence = client->said;
    bool again = err_retriable(err);
    if (reply != NULL)
        again = op->judge(op, reply->message, &err, &sentence);
    /* Unanswered, or the broker does not know the outcome itself (R26). */
    op->uncertain = op->uncertain || reply == NULL || err == ERR_REQUEST_TIMED_OUT;
    op->reply = err == ERR_OK ? client_op_keep(op, reply->message) : NULL;
    if (err == ERR_OK && op->reply == NULL)
        err = ERR_NO_MEMORY;
    if (again) /* at the deadline, this answer will do */
        client_op_again(client, op, err, sentence);
    else
        client_op_finish(client, op, err, sentence);
}

/* Whom to send it to; NULL: not now. */
static struct client_broker *client_op_broker(struct client *client, struct client_op *op,
                                              struct uuid *ret_topic_id, uint64_t now)
{
    if (op->topic == NULL)
        return client_broker_any(client, now);
    struct client_topic *topic = client_topic_find(client, op->topic);
    if (topic->err != ERR_OK) {
        client_op_finish(client, op, topic->err, NULL);
        return NULL;
    }
    if (!topic->known)
        return NULL; /* it is being asked for */
    if (op->partition >= topic->partition_count) {
        client_op_finish(client, op, ERR_UNKNOWN_TOPIC_OR_PARTITION, NULL);
        return NULL;
    }
    *ret_topic_id = topic->id;
    struct client_partition *p = client_partition_get(client, topic, op->partition);
    if (p != NULL && p->leader == NO_NODE) {
        /* So far: what there is to tell at the deadline. */
        op->err = ERR_LEADER_NOT_AVAILABLE;
        snprintf(op->sentence, sizeof(op->sentence), "%s-%d has no leader at present", op->topic,
                 (int)op->partition);
    }
    return p == NULL ? NULL : client_partition_leader(client, p, now);
}

static void client_op_try(struct client *client, struct client_op *op, uint64_t now)
{
    struct uuid topic_id = {{0}};
    struct client_broker *broker = client_op_broker(client, op, &topic_id, now);
    if (broker == NULL || op->finished)
        return;
    const ProtobufCMessage *message = op->encode(op, &topic_id);
    struct client_op_call *op_call = calloc(1, sizeof(*op_call));
    if (message == NULL || op_call == NULL) {
        free(op_call);
        return;
    }
    op_call->op = op;
    op_call->call.method = op->method;
    op_call->call.done = client_op_done;
    if (client_call_start(client, broker, &op_call->call, message, 0) != ERR_OK) {
        free(op_call);
        return;
    }
    op->tries++;
    op->call = op_call;
}

uint64_t client_ops_turn(struct client *client, uint64_t now)
{
    uint64_t due_ns = 0;
    list_for_each_safe (node, after, &client->ops) {
        struct client_op *op = list_entry(node, struct client_op, link);
        if (now >= op->deadline_ns) { /* with what the last try had to say */
            char sentence[CLIENT_SENTENCE_SIZE];
            snprintf(sentence, sizeof(sentence), "%s", op->sentence);
            err_t err = op->err;
            client_op_cancel(client, op);
            op->late = true;
            client_op_finish(client, op, err, sentence[0] == '\0' ? NULL : sentence);
            continue;
        }
        if (op->call == NULL && now >= op->retry_at_ns)
            client_op_try(client, op, now);
        if (op->finished)
            continue;
        due_ns = client_sooner(due_ns, op->deadline_ns);
        if (op->call == NULL) {
            uint64_t again_ns = now + ENV_MS(CLIENT_RETRY_MS);
            due_ns = client_sooner(due_ns, op->retry_at_ns > now ? op->retry_at_ns : again_ns);
        }
    }
    return due_ns;
}
