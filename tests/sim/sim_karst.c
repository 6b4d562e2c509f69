#include "sim/sim_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "client/client.h"
#include "sim/check.h"
#include "sim/scenario.h"
#include "sim/sim_node.h"

enum { RECORDS_A_TICK_MAX = 6, VALUE_BYTES_MAX = 300 };

struct ledger_lane {
    uint64_t next_serial; /* of records given to libkarst */
    uint64_t done_serial; /* of the next one to be told */
    offset_t position;    /* next to be read */
    bool assigned;
};

struct sim_karst {
    struct sim_run *run;
    struct sim_host *host;
    struct env *env;
    struct rng rng;
    struct client *client;
    const struct load_topic *topic;
    struct ledger_lane lanes[LOAD_PARTITIONS_MAX];
    struct env_timer tick;
    uint64_t elsewhere_ns;
    bool ended, reads_all;
};

static bool ledger_id(const struct sim_karst *karst, int32_t index, struct partition_id *ret_id)
{
    return check_data_partition(karst->run->data, karst->topic->name, index, ret_id);
}

/* ---- producing ---- */

static void ledger_produce_one(struct sim_karst *karst, int32_t partition)
{
    struct ledger_lane *lane = &karst->lanes[partition];
    uint8_t value[VALUE_BYTES_MAX] = {0};
    put_u64(value, lane->next_serial);
    struct karst_message message = {
        .topic = karst->topic->name,
        .partition = partition,
        .value = value,
        .value_bytes = rng_between(&karst->rng, 8, VALUE_BYTES_MAX),
        /* serials begin at 1 here: NULL would be no opaque */
        .opaque = (void *)(uintptr_t)(lane->next_serial + 1),
    };
    err_t err = client_produce(karst->client, &message);
    if (err == ERR_OK)
        lane->next_serial++;
    else if (err != ERR_FULL)
        sim_fail(karst->run, "libkarst takes legal records", "%s", err_name(err));
}

/* Records of a batch: in order within their partition, each once. */
static void ledger_delivered(struct sim_karst *karst, const struct client_done *done)
{
    struct ledger_lane *lane = &karst->lanes[done->partition];
    struct partition_id id;
    ASSERT(ledger_id(karst, done->partition, &id));
    for (uint32_t i = 0; i < done->count && !karst->run->failed; i++) {
        uint64_t serial = (uint64_t)(uintptr_t)done->opaques[i] - 1;
        if (serial != lane->done_serial)
            sim_fail(karst->run, "libkarst tells of each record once, in order",
                     "%s-%d: %" PRIu64 " after %" PRIu64, done->topic, done->partition, serial,
                     lane->done_serial - 1);
        lane->done_serial = serial + 1;
        if (done->err == ERR_OK)
            check_data_delivered(karst->run->data, &id, done->base_offset + i, serial);
    }
    if (done->err == ERR_OK)
        return;
    /* Its time is not over before the run is: nothing else may end a legal record. */
    sim_fail(karst->run, "libkarst delivers", "%s-%d: %u records: %s", done->topic, done->partition,
             done->count, err_name(done->err));
    check_data_gave_up(karst->run->data, &id);
}

static void ledger_take_done(struct sim_karst *karst)
{
    struct client_done *first = client_take_done(karst->client);
    for (const struct client_done *done = first; done != NULL; done = done->next)
        ledger_delivered(karst, done);
    client_done_free(karst->client, first);
}

/* ---- consuming ---- */

static void ledger_assign(struct sim_karst *karst, int32_t partition, offset_t offset)
{
    struct ledger_lane *lane = &karst->lanes[partition];
    lane->position = offset;
    lane->assigned = true;
    err_t err = client_assign(karst->client, karst->topic->name, partition, offset);
    if (err != ERR_OK)
        sim_fail(karst->run, "libkarst assigns", "%s", err_name(err));
}

static void ledger_read(struct sim_karst *karst, struct client_slice *slice)
{
    struct ledger_lane *lane = &karst->lanes[slice->index];
    struct partition_id id;
    ASSERT(ledger_id(karst, slice->index, &id));
    if (slice->err != ERR_OK) {
        /* A deposed leader may not have what was read at its successor. */
        if (slice->err != ERR_OFFSET_OUT_OF_RANGE)
            sim_fail(karst->run, "libkarst reads", "%s-%d: %s", slice->topic, slice->index,
                     err_name(slice->err));
        ledger_assign(karst, slice->index, lane->position);
        return;
    }
    offset_t next = slice->from;
    if (slice->from != lane->position)
        sim_fail(karst->run, "libkarst reads on where it was", "%s-%d: %" PRId64 " at %" PRId64,
                 slice->topic, slice->index, slice->from, lane->position);
    check_data_read(karst->run->data, &id, slice->from, 0,
                    (struct bytes){slice->data, slice->bytes}, &next);
    if (next != slice->end && !karst->run->failed)
        sim_fail(karst->run, "libkarst reads on where it was",
                 "%s-%d: a slice to %" PRId64 " has records to %" PRId64, slice->topic,
                 slice->index, slice->end, next);
    lane->position = slice->end;
    client_slice_returned(slice, slice->end);
}

static void ledger_take_slices(struct sim_karst *karst)
{
    for (struct client_slice *slice;
         !karst->run->failed && (slice = client_take_slice(karst->client)) != NULL;) {
        if (slice->index >= 0 && (slice->err != ERR_OK || client_slice_current(slice)))
            ledger_read(karst, slice);
        client_slice_free(karst->client, slice);
    }
}

/* ---- life ---- */

static void ledger_work(struct sim_karst *karst, uint64_t now_ns)
{
    struct partition_id id;
    if (!ledger_id(karst, 0, &id))
        return; /* the topic is not made yet */
    for (int32_t i = 0; i < karst->topic->partitions; i++) {
        if (!karst->lanes[i].assigned)
            ledger_assign(karst, i, 0);
        uint64_t records = karst->ended ? 0 : rng_below(&karst->rng, RECORDS_A_TICK_MAX);
        for (uint64_t k = 0; k < records && rng_chance(&karst->rng, 300000); k++)
            ledger_produce_one(karst, i);
    }
    ledger_take_done(karst);
    ledger_take_slices(karst);
    if (karst->ended || now_ns < karst->elsewhere_ns)
        return;
    karst->elsewhere_ns = now_ns + rng_between(&karst->rng, ENV_MS(500), ENV_MS(4000));
    int32_t lane = (int32_t)rng_below(&karst->rng, (uint64_t)karst->topic->partitions);
    if (ledger_id(karst, lane, &id) && check_data_end(karst->run->data, &id) > 0)
        ledger_assign(
            karst, lane,
            (offset_t)rng_below(&karst->rng, (uint64_t)check_data_end(karst->run->data, &id)));
}

static void ledger_tick(struct env_timer *timer, uint64_t now_ns)
{
    struct sim_karst *karst = container_of(timer, struct sim_karst, tick);
    ledger_work(karst, now_ns); /* libkarst's own turn follows, when this one of the loop ends */
    karst->env->timer_start(karst->env->self, timer,
                            now_ns + rng_between(&karst->rng, ENV_MS(2), ENV_MS(40)));
}

static void ledger_hook(void *context)
{
    (void)context; /* the tick looks */
}

static void ledger_configure(struct sim_karst *karst, struct client_config *ret_config)
{
    char why[256];
    client_config_init(ret_config);
    ret_config->linger_ms = (uint32_t)rng_below(&karst->rng, 20);
    ret_config->delivery_timeout_ms = 3600000;
    ret_config->request_timeout_ms = 3000;
    ret_config->batch_bytes = (uint32_t)rng_between(&karst->rng, 2000, 60000);
    ret_config->fetch_wait_ms = 300;
    ret_config->bootstrap_count = 2;
    for (size_t i = 0; i < 2; i++) {
        struct client_address *address = &ret_config->bootstrap[i];
        const struct sim_host *host = karst->run->nodes[i]->host;
        memcpy(address->host, host->name, sizeof host->name);
        address->port = host->port;
    }
    ASSERT(client_config_check(ret_config, why, sizeof why) == ERR_OK);
}

void sim_karst_add(struct sim_run *run)
{
    struct sim_host *host = sim_host_add(&run->world); /* for the faults that draw hosts */
    uint32_t without = run->options->without_clients | run->scenario->without_clients;
    if ((without >> run->client_count & 1) != 0)
        return; /* the last one: no draw of another changes */
    struct sim_karst *karst = calloc(1, sizeof *karst);
    struct client_config config;
    ASSERT(karst != NULL);
    karst->run = run;
    rng_seed(&karst->rng, rng_next(&run->rng));
    for (int i = 0; i < LOAD_TOPICS; i++)
        if (load_topics[i].karst)
            karst->topic = &load_topics[i];
    karst->host = host;
    sim_host_boot(karst->host, 1);
    karst->env = sim_host_env(karst->host, 0);
    ledger_configure(karst, &config);
    struct client_hooks hooks = {.wake = ledger_hook, .ready = ledger_hook, .context = karst};
    ASSERT(client_new(&config, karst->env, &hooks, &karst->client) == ERR_OK);
    karst->tick.fire = ledger_tick;
    karst->env->timer_start(karst->env->self, &karst->tick, env_now(karst->env) + ENV_MS(10));
    run->karst = karst;
}

void sim_karst_free(struct sim_karst *karst)
{
    if (karst == NULL)
        return;
    client_free(karst->client);
    karst->env->timer_stop(karst->env->self, &karst->tick);
    free(karst);
}

void sim_karst_end_load(struct sim_karst *karst)
{
    karst->ended = true;
    client_flush(karst->client);
}

void sim_karst_read_all(struct sim_karst *karst)
{
    karst->reads_all = true;
    for (int32_t i = 0; i < karst->topic->partitions; i++)
        ledger_assign(karst, i, 0);
}

bool sim_karst_idle(const struct sim_karst *karst, char *ret_why, size_t size)
{
    if (client_outstanding(karst->client) > 0) {
        (void)snprintf(ret_why, size, "libkarst still has %" PRId64 " records to deliver",
                       client_outstanding(karst->client));
        return false;
    }
    for (int32_t i = 0; karst->reads_all && i < karst->topic->partitions; i++) {
        struct partition_id id;
        if (ledger_id(karst, i, &id) &&
            karst->lanes[i].position >= check_data_end(karst->run->data, &id))
            continue;
        (void)snprintf(ret_why, size, "libkarst has read %s-%d to %" PRId64, karst->topic->name, i,
                       karst->lanes[i].position);
        return false;
    }
    return true;
}
