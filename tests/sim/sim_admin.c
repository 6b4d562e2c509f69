/* sim_admin.c - makes the load's topics through any broker; then makes and deletes others, so that
 * metadata moves all the time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/sim_client.h"

enum { SCRATCH_TOPICS = 3 };

struct admin {
    struct client_call call;
    bool made[LOAD_TOPICS];
    bool scratch_there[SCRATCH_TOPICS]; /* as far as is known */
    bool creating;
    int topic; /* of the call: of the load, or LOAD_TOPICS + scratch */
    uint64_t next_at_ns;
    bool last_done; /* after the load: one more topic could be made and deleted */
};

static bool admin_load_made(const struct sim_run *run, const struct admin *admin)
{
    for (int i = 0; i < load_topic_count(run); i++)
        if (!admin->made[i])
            return false;
    return true;
}

static void admin_result(struct sim_client *client, struct admin *admin, const char *name,
                         err_t err)
{
    bool creating = admin->creating;
    if (err == ERR_OK || (creating && err == ERR_TOPIC_ALREADY_EXISTS) ||
        (!creating && (err == ERR_UNKNOWN_TOPIC_OR_PARTITION || err == ERR_UNKNOWN_TOPIC_ID))) {
        sim_say(client->run, "admin: topic %s %s", name, creating ? "is there" : "is gone");
        if (admin->topic < LOAD_TOPICS)
            admin->made[admin->topic] = true;
        else
            admin->scratch_there[admin->topic - LOAD_TOPICS] = creating;
        if (client->load_ended)
            admin->last_done = true;
        return;
    }
    /* INVALID_REPLICATION_FACTOR: not enough brokers are alive at present. */
    if (!err_retriable(err) && err != ERR_INVALID_REPLICATION_FACTOR)
        sim_fail(client->run, "legal admin requests are served", "%s topic %s: %s",
                 creating ? "create" : "delete", name, err_name(err));
}

static void admin_done(struct sim_client *client, struct client_call *call, err_t err,
                       const ProtobufCMessage *message, struct bytes attachment)
{
    (void)call;
    (void)attachment;
    struct admin *admin = client->state;
    if (err != ERR_OK)
        return; /* again */
    if (admin->creating) {
        const Karst__CreateTopicsReply *reply = (const Karst__CreateTopicsReply *)message;
        for (size_t i = 0; i < reply->n_topics && reply->error == ERR_OK; i++)
            admin_result(client, admin, reply->topics[i]->name, reply->topics[i]->error);
    } else {
        const Karst__DeleteTopicsReply *reply = (const Karst__DeleteTopicsReply *)message;
        for (size_t i = 0; i < reply->n_topics && reply->error == ERR_OK; i++)
            admin_result(client, admin, reply->topics[i]->name, reply->topics[i]->error);
    }
}

static void admin_create(struct sim_client *client, struct admin *admin, char *name,
                         const struct load_topic *topic)
{
    char min_isr[8];
    (void)snprintf(min_isr, sizeof min_isr, "%d", topic->min_isr); /* fits */
    const char *const texts[][2] = {
        {"min.insync.replicas", min_isr},
        {"flush.before.ack", topic->cached ? "false" : "true"},
        {"unclean.leader.election.enable", topic->unclean ? "true" : "false"}};
    Karst__ConfigValue configs[ARRAY_LEN(texts)], *config_rows[ARRAY_LEN(texts)];
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        configs[i] = (Karst__ConfigValue)KARST__CONFIG_VALUE__INIT;
        configs[i].key = (char *)(uintptr_t)texts[i][0];
        configs[i].value = (char *)(uintptr_t)texts[i][1];
        config_rows[i] = &configs[i];
    }
    Karst__CreateTopic row = KARST__CREATE_TOPIC__INIT;
    row.name = name;
    row.has_partitions = row.has_replication_factor = true;
    row.partitions = topic->partitions;
    row.replication_factor = topic->replication_factor;
    row.n_configs = ARRAY_LEN(texts);
    row.configs = config_rows;
    Karst__CreateTopic *rows[] = {&row};
    Karst__CreateTopicsRequest request = KARST__CREATE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = rows;
    request.timeout_ms = 2000;
    admin->creating = true;
    admin->call.method = WIRE_CREATE_TOPICS;
    client_call(client, &admin->call, client_any_broker(client), &request.base,
                (struct bytes){NULL, 0});
}

static void admin_delete(struct sim_client *client, struct admin *admin, char *name)
{
    Karst__DeleteTopic row = KARST__DELETE_TOPIC__INIT;
    row.name = name;
    Karst__DeleteTopic *rows[] = {&row};
    Karst__DeleteTopicsRequest request = KARST__DELETE_TOPICS_REQUEST__INIT;
    request.n_topics = 1;
    request.topics = rows;
    request.timeout_ms = 2000;
    admin->creating = false;
    admin->call.method = WIRE_DELETE_TOPICS;
    client_call(client, &admin->call, client_any_broker(client), &request.base,
                (struct bytes){NULL, 0});
}

static void admin_tick(struct sim_client *client, uint64_t now)
{
    struct admin *admin = client->state;
    if (admin->call.active || now < admin->next_at_ns || admin->last_done)
        return;
    char name[32];
    admin->next_at_ns = now + rng_between(&client->rng, ENV_MS(20), ENV_MS(200));
    for (int i = 0; i < load_topic_count(client->run); i++) {
        if (admin->made[i])
            continue;
        admin->topic = i;
        (void)snprintf(name, sizeof name, "%s", load_topics[i].name); /* fits */
        admin_create(client, admin, name, &load_topics[i]);
        return;
    }
    if (client->run->phase != RUN_SAFETY && !client->load_ended)
        return;
    admin->next_at_ns = now + rng_between(&client->rng, ENV_MS(50), ENV_MS(1500));
    int scratch = (int)rng_below(&client->rng, SCRATCH_TOPICS);
    admin->topic = LOAD_TOPICS + scratch;
    (void)snprintf(name, sizeof name, "scratch-%d", scratch); /* fits */
    struct load_topic topic = {.partitions = (int32_t)rng_between(&client->rng, 1, 6),
                               .replication_factor = (int32_t)rng_between(&client->rng, 1, 3),
                               .min_isr = 1};
    if (admin->scratch_there[scratch])
        admin_delete(client, admin, name);
    else
        admin_create(client, admin, name, &topic);
}

static void admin_start(struct sim_client *client)
{
    struct admin *admin = calloc(1, sizeof *admin);
    ASSERT(admin != NULL);
    admin->call.done = admin_done;
    client->state = admin;
}

static bool admin_idle(struct sim_client *client, char *ret_why, size_t size)
{
    const struct admin *admin = client->state;
    if (admin_load_made(client->run, admin) && admin->last_done)
        return true;
    (void)snprintf(ret_why, size, "the admin could not make or delete a topic");
    return false;
}

static void admin_free(struct sim_client *client)
{
    free(client->state);
}

const struct client_role admin_role = {
    .start = admin_start, .tick = admin_tick, .idle = admin_idle, .free = admin_free};
