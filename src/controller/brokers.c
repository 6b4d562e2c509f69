#include <inttypes.h>
#include <stdlib.h>

#include "base/canary.h"
#include "base/logger.h"
#include "controller/internal.h"

enum {
    SHORT_LIFE_WAITS = 10, /* shorter than so many preferred_leader_wait_ns */
    LEASE_DRIFT = 100,     /* clocks of two machines differ by less than one part in so many */
};

/* ---- soft state ---- */

struct broker_soft *brokers_soft(struct controller *c, node_id_t node)
{
    struct broker_soft *soft = table_get(&c->brokers, (uint64_t)node);
    if (soft != NULL)
        return soft;
    soft = calloc(1, sizeof(*soft));
    ASSERT(soft != NULL);
    soft->id = node;
    soft->epoch = -1;
    err_t err = table_put(&c->brokers, (uint64_t)node, soft);
    ASSERT(err == ERR_OK);
    return soft;
}

/* A registration, as the view has it, begins a new life. */
static struct broker_soft *soft_begin(struct controller *c, node_id_t node, broker_epoch_t epoch)
{
    struct broker_soft *soft = brokers_soft(c, node);
    soft->epoch = epoch;
    soft->heard = false;
    soft->last_seen_ns = soft->active_since_ns = c->now_ns;
    soft->settled_offset = OFFSET_NOT_KNOWN;
    failures_forget(soft);
    soft->full_count = 0;
    soft->low_space = false;
    return soft;
}

void brokers_learn(struct controller *c)
{
    for (size_t i = 0; i < image_broker_count(view(c)); i++) {
        const struct image_broker *broker = image_broker_at(view(c), i);
        soft_begin(c, broker->id, broker->epoch); /* R10: all count as just seen */
    }
}

static void soft_supersede(struct broker_soft *soft, const struct uuid *incarnation)
{
    soft->incarnations[soft->incarnation_count % INCARNATIONS_KEPT] = *incarnation;
    soft->incarnation_count++;
}

static bool soft_superseded(const struct broker_soft *soft, const struct uuid *incarnation)
{
    for (unsigned i = 0; i < INCARNATIONS_KEPT && i < soft->incarnation_count; i++)
        if (uuid_equal(&soft->incarnations[i], incarnation))
            return true;
    return false;
}

/* ---- settling: what a committed image says of a broker that is FENCED or LEAVING ---- */

struct leads_query {
    node_id_t node;
    bool movable_only;
    const struct image *image;
    bool leads;
};

static bool has_active_follower(const struct image *image, const struct image_partition *p)
{
    for (int i = 0; i < p->isr_count; i++) {
        const struct image_broker *member = image_broker(image, p->isr[i]);
        if (p->isr[i] != p->leader && member != NULL && member->state == BROKER_STATE_ACTIVE)
            return true;
    }
    return false;
}

static void leads_topic(void *context, const struct image_topic *topic)
{
    struct leads_query *query = context;
    for (int32_t i = 0; i < topic->partition_count && !query->leads; i++) {
        const struct image_partition *p = &topic->partitions[i];
        query->leads = p->leader == query->node &&
                       (!query->movable_only || has_active_follower(query->image, p));
    }
}

void brokers_settle(struct controller *c)
{
    table_for_each (struct broker_soft, soft, &c->brokers) {
        const struct image_broker *broker = image_broker(c->committed, soft->id);
        if (soft->settled_offset != OFFSET_NOT_KNOWN || broker == NULL ||
            broker->epoch != soft->epoch || broker->state == BROKER_STATE_ACTIVE)
            continue;
        struct leads_query query = {.node = soft->id,
                                    .movable_only = broker->state != BROKER_STATE_FENCED,
                                    .image = c->committed};
        image_each_topic(c->committed, leads_topic, &query);
        if (!query.leads)
            soft->settled_offset = image_offset(c->committed);
    }
}

/* ---- state changes ---- */

err_t brokers_check(struct controller *c, node_id_t node, broker_epoch_t epoch)
{
    const struct image_broker *broker = image_broker(view(c), node);
    if (broker == NULL)
        return ERR_BROKER_ID_NOT_REGISTERED;
    return broker->epoch == epoch ? ERR_OK : ERR_STALE_BROKER_EPOCH; /* R2 */
}

/* Its leaderships end: after a short life they come back later the next time. */
static void soft_life_ends(struct controller *c, struct broker_soft *soft)
{
    uint64_t up_ns = c->now_ns - soft->active_since_ns;
    soft->flaps =
        up_ns < SHORT_LIFE_WAITS * c->config.preferred_leader_wait_ns ? soft->flaps + 1 : 0;
    soft->settled_offset = OFFSET_NOT_KNOWN;
}

static bool broker_set_state(struct controller *c, node_id_t node, enum broker_state state)
{
    const struct image_broker *broker = image_broker(view(c), node);
    Karst__BrokerChangeRecord change = KARST__BROKER_CHANGE_RECORD__INIT;
    change.node_id = node;
    change.broker_epoch = broker->epoch;
    change.state = (Karst__BrokerState)state;
    err_t err = decision_add(c, &change.base);
    if (err != ERR_OK)
        decision_complain("a broker's state", err);
    return err == ERR_OK;
}

/* R23: the broker first, then its partitions, each record good by itself. */
static bool broker_fence_alone(struct controller *c, node_id_t node)
{
    if (!broker_set_state(c, node, BROKER_STATE_FENCED))
        return false;
    soft_life_ends(c, brokers_soft(c, node));
    return true;
}

static void broker_fenced(struct controller *c, node_id_t node, const char *why)
{
    size_t changed = repair_broker(c, node);
    log_info("controller: fenced broker %d of epoch %" PRId64 ": %s; %zu partitions changed", node,
             brokers_soft(c, node)->epoch, why, changed);
}

void brokers_fence(struct controller *c, node_id_t node, const char *why)
{
    if (broker_fence_alone(c, node))
        broker_fenced(c, node, why);
}

/* R10: by then its lease has ended, whoever renewed it last: a lease counts from when a majority
 * knew the last controller, and that was before this one began. */
static uint64_t broker_silent_from_ns(const struct controller *c, const struct broker_soft *soft)
{
    const struct image_broker *broker = image_broker(view(c), soft->id);
    if (broker == NULL || broker->state == BROKER_STATE_FENCED)
        return UINT64_MAX;
    uint64_t session_ns = c->config.session_timeout_ns;
    uint64_t seen_ns = soft->last_seen_ns > c->activated_ns ? soft->last_seen_ns : c->activated_ns;
    return seen_ns + session_ns + session_ns / LEASE_DRIFT;
}

uint64_t brokers_silence_due_ns(const struct controller *c)
{
    uint64_t due_ns = UINT64_MAX;
    table_for_each (const struct broker_soft, soft, &c->brokers) {
        uint64_t from_ns = broker_silent_from_ns(c, soft);
        due_ns = from_ns < due_ns ? from_ns : due_ns;
    }
    return due_ns;
}

void brokers_fence_silent(struct controller *c)
{
    /* First all, then their partitions: else the last one in the table would be left as the only
     * member of an ISR whose others have as much. */
    table_for_each (struct broker_soft, soft, &c->brokers)
        soft->silent =
            c->now_ns >= broker_silent_from_ns(c, soft) && broker_fence_alone(c, soft->id);
    table_for_each (struct broker_soft, soft, &c->brokers) {
        if (soft->silent)
            broker_fenced(c, soft->id, "no heartbeat within broker.session.timeout.ms");
    }
}

void brokers_note_gap(struct controller *c, uint64_t gap_ns)
{
    table_for_each (struct broker_soft, soft, &c->brokers) {
        uint64_t later_ns = soft->last_seen_ns + gap_ns;
        soft->last_seen_ns = later_ns < c->now_ns ? later_ns : c->now_ns;
    }
}

static void broker_unfence(struct controller *c, struct broker_soft *soft)
{
    if (!broker_set_state(c, soft->id, BROKER_STATE_ACTIVE))
        return;
    soft->active_since_ns = c->now_ns;
    uint64_t due_ns = c->now_ns + c->config.preferred_leader_wait_ns;
    if (due_ns < c->preferred_due_ns)
        c->preferred_due_ns = due_ns;
    elect_waiting(c, soft->id);
    log_info("controller: broker %d of epoch %" PRId64 " is active", soft->id, soft->epoch);
}

/* ---- heartbeats ---- */

void brokers_heard(struct controller *c, node_id_t node)
{
    struct broker_soft *soft = brokers_soft(c, node);
    if (soft->heard)
        return;
    soft->heard = true;
    /* R2: who stayed with it in an ISR because it was not known to live leaves it now. */
    if (image_broker(view(c), node)->state != BROKER_STATE_FENCED)
        (void)repair_broker(c, node);
}

ProtobufCMessage *brokers_heartbeat(struct controller *c, const Karst__HeartbeatRequest *request)
{
    const ProtobufCMessageDescriptor *type = &karst__heartbeat_reply__descriptor;
    err_t err = brokers_check(c, request->node_id, request->broker_epoch);
    if (err != ERR_OK)
        return reply_error(c, type, err, NULL);
    Karst__HeartbeatReply *reply = reply_new(c, type);
    if (reply == NULL)
        return NULL;
    struct broker_soft *soft = brokers_soft(c, request->node_id);
    soft->last_seen_ns = c->now_ns;
    brokers_heard(c, request->node_id);
    failures_take(c, request);
    space_take(c, request);
    unclean_take(c, request);
    /* R30: each of its shards has seen the image in which it leads nothing. One that comes back
     * from a long stop would otherwise be trusted while it still believes in an old leadership. */
    bool knows = soft->settled_offset != OFFSET_NOT_KNOWN &&
                 request->metadata_offset >= soft->settled_offset;
    enum broker_state state = image_broker(view(c), request->node_id)->state;
    if (state == BROKER_STATE_FENCED) {
        if (knows && !request->want_fence && !request->want_shutdown)
            broker_unfence(c, soft);
        reply->may_shut_down = request->want_shutdown && knows;
    } else if (request->want_fence) {
        brokers_fence(c, request->node_id, "as it asked");
    } else if (request->want_shutdown && state == BROKER_STATE_ACTIVE) {
        soft->settled_offset = OFFSET_NOT_KNOWN;
        if (broker_set_state(c, request->node_id, BROKER_STATE_LEAVING))
            log_info("controller: broker %d leaves; %zu partitions changed", request->node_id,
                     repair_broker(c, request->node_id));
    } else if (state != BROKER_STATE_ACTIVE && repair_broker(c, request->node_id) > 0) {
        soft->settled_offset = OFFSET_NOT_KNOWN; /* a follower came into the ISR meanwhile */
    } else if (state != BROKER_STATE_ACTIVE) {
        reply->may_shut_down = knows;
    }
    reply->has_caught_up = reply->has_fenced = reply->has_may_shut_down = true;
    reply->has_metadata_offset = true;
    reply->caught_up = request->metadata_offset >= image_offset(c->committed);
    reply->fenced = image_broker(view(c), request->node_id)->state == BROKER_STATE_FENCED;
    reply->metadata_offset = image_offset(c->committed);
    unclean_ask(c, request->node_id, reply);
    return &reply->base;
}

/* ---- registration ---- */

struct registration {
    const Karst__RegisterBrokerRequest *request;
    struct table lost; /* the bytes of partition ids that its manifest names and no folder holds */
    struct partition_id *lost_ids;
    bool cache_lost;                   /* the last life's page cache may be gone (R20) */
    size_t lost_isr, ended, unflushed; /* for the log */
    err_t err;
};

static bool registration_online(const struct registration *r, const struct uuid *directory)
{
    for (size_t i = 0; i < r->request->n_online_directories; i++)
        if (memcmp(r->request->online_directories[i].data, directory->b, sizeof(directory->b)) == 0)
            return true;
    return false;
}

static bool registration_lost(const struct registration *r, const struct partition_id *id,
                              const struct uuid *directory)
{
    struct bytes key = {(const uint8_t *)id, sizeof(*id)};
    return table_get_bytes(&r->lost, key) != NULL ||
           (!uuid_is_zero(directory) && !registration_online(r, directory));
}
static_assert(sizeof(struct partition_id) == 20, "no padding in a table's key");

/* R1: a lost replica is no member of anything. The last one stays in the ISR by name, so that the
 * record says where the data was, but in a directory that is not online: it is not elected before a
 * person orders it. */
static void registration_plan_lost(const struct registration *r, struct partition_plan *plan,
                                   int replica)
{
    const node_id_t node = r->request->node_id;
    struct uuid *directory = &plan->directories[replica];
    plan->directories_set = true;
    if (plan_in_isr(plan, node)) {
        if (uuid_is_zero(directory) || registration_online(r, directory))
            memset(directory->b, 0xff, sizeof(directory->b)); /* never the id of one */
        return;
    }
    /* As replica_directory chooses, of what is online from now on. */
    const Karst__RegisterBrokerRequest *request = r->request;
    memset(directory->b, 0, sizeof(directory->b));
    if (request->n_online_directories > 0)
        memcpy(
            directory->b,
            request->online_directories[directory_choice(&plan->id, request->n_online_directories)]
                .data,
            sizeof(directory->b));
}

/* R20: a topic that is acknowledged before it is flushed. */
static bool registration_unflushed(const struct controller *c, const struct registration *r,
                                   const struct partition_id *id)
{
    const char *value =
        image_topic_config(view(c), image_topic(view(c), &id->topic), "flush.before.ack");
    return value == NULL ? !r->request->flush_before_ack : strcmp(value, "true") != 0;
}

/* Another member is known to live. Where none is, as after a power cut, the one that comes back
 * must not leave the partition to one that perhaps does not: it has all that is acknowledged. */
static bool registration_others_live(const struct controller *c, const struct image_partition *p,
                                     node_id_t node)
{
    for (int i = 0; i < p->isr_count; i++) {
        const struct image_broker *broker = image_broker(view(c), p->isr[i]);
        const struct broker_soft *soft = table_get(&c->brokers, (uint64_t)p->isr[i]);
        if (p->isr[i] != node && broker != NULL && broker->state != BROKER_STATE_FENCED &&
            soft != NULL && soft->heard)
            return true;
    }
    return false;
}

/* R2: the old incarnation's leadership and ISR membership end. */
static void registration_partition(struct controller *c, const struct partition_id *id,
                                   const struct image_partition *p, void *context)
{
    struct registration *r = context;
    const node_id_t node = r->request->node_id;
    int replica = image_partition_replica_index(p, node);
    if (replica < 0 || r->err != ERR_OK)
        return;
    struct partition_plan plan;
    plan_begin(&plan, id, p);
    const bool was_member = image_partition_in_isr(p, node);
    const bool lost = registration_lost(r, id, &p->directories[replica]);
    const bool intact = !lost && !(r->cache_lost && registration_unflushed(c, r, id));
    if (was_member && (!intact || registration_others_live(c, p, node)) &&
        !CANARY("controller_skips_incarnation_fencing"))
        plan_leave_isr(&plan, node); /* stays where it is the last */
    if (lost) {
        registration_plan_lost(r, &plan, replica);
        r->lost_isr += was_member;
        plan_leave_elr(&plan, node);
    }
    if (p->leader == node && !CANARY("controller_skips_incarnation_fencing"))
        plan.leader = elect(c, &plan, node);
    /* Whoever leads after this, also the same broker, does so in a new epoch. */
    plan.new_epoch = plan.isr_count != p->isr_count;
    /* R20: with the power went what was acknowledged from the page cache. Another member stays in
     * its place; the last one comes back with less than it promised, and the others must be allowed
     * to cut below what they know as committed (R9). */
    if (plan_in_isr(&plan, node) && r->cache_lost && registration_unflushed(c, r, id) &&
        !CANARY("controller_trusts_lost_page_cache")) {
        plan.unclean = true;
        plan.recovery_state = 1;
        r->unflushed++;
    }
    r->ended += was_member;
    r->err = plan_done(c, &plan);
}

static err_t registration_read_lost(struct controller *c, struct registration *r)
{
    const Karst__RegisterBrokerRequest *request = r->request;
    table_init(&r->lost, rng_next(c->rng));
    r->lost_ids = calloc(request->n_lost + 1, sizeof(*r->lost_ids));
    if (r->lost_ids == NULL)
        return ERR_NO_MEMORY;
    for (size_t i = 0; i < request->n_lost; i++) {
        struct partition_id *id = &r->lost_ids[i];
        id->index = request->lost[i]->index;
        if (!request_uuid(&request->lost[i]->topic_id, &id->topic))
            return ERR_INVALID_REQUEST;
        struct bytes key = {(const uint8_t *)id, sizeof(*id)};
        err_t err = table_put_bytes(&r->lost, key, id);
        if (err != ERR_OK)
            return err;
    }
    return ERR_OK;
}

static err_t registration_record(struct controller *c, const Karst__RegisterBrokerRequest *request,
                                 broker_epoch_t epoch)
{
    Karst__RegisterBrokerRecord record = KARST__REGISTER_BROKER_RECORD__INIT;
    record.node_id = request->node_id;
    record.incarnation = request->incarnation;
    record.n_listeners = request->n_listeners;
    record.listeners = request->listeners;
    record.rack = request->rack;
    record.n_online_directories = request->n_online_directories;
    record.online_directories = request->online_directories;
    record.clean_start = request->clean_start;
    record.boot_id = request->boot_id;
    ProtobufCBinaryData marked[DIRECTORIES_MAX];
    record.n_failed_directories =
        failures_carry(image_broker(view(c), request->node_id), request, marked);
    record.failed_directories = marked;
    record.has_feature_min = record.has_feature_max = true;
    record.feature_min = request->feature_min;
    record.feature_max = request->feature_max;
    record.broker_epoch = epoch;
    return decision_add(c, &record.base);
}

/* All of it in one transaction: nobody sees the new incarnation beside the old one's leaderships.
 */
static err_t registration_decide(struct controller *c, struct registration *r, broker_epoch_t epoch)
{
    err_t err = registration_read_lost(c, r);
    if (err == ERR_OK) {
        decision_begin_transaction(c);
        r->err = registration_record(c, r->request, epoch);
        each_partition(c, registration_partition, r);
        err = decision_end_transaction(c, r->err);
    }
    table_fini(&r->lost);
    free(r->lost_ids);
    return err;
}

/* What a broker's owner can mend, said before the general checks of apply. *ret_sentence may be
 * NULL, where there is no room for it: then the error says it alone. */
static err_t registration_fault(struct controller *c, const Karst__RegisterBrokerRequest *request,
                                const char **ret_sentence)
{
    struct uuid cluster, id;
    *ret_sentence = "cluster id and incarnation are 16 bytes";
    if (!request_uuid(&request->cluster_id, &cluster) || !request_uuid(&request->incarnation, &id))
        return ERR_INVALID_REQUEST;
    *ret_sentence = "a directory id is 16 bytes, not all zero";
    for (size_t i = 0; i < request->n_online_directories; i++)
        if (!request_uuid(&request->online_directories[i], &id) || uuid_is_zero(&id))
            return ERR_INVALID_REQUEST;
    *ret_sentence = "node.id must be 0 or above";
    if (request->node_id < 0)
        return ERR_INVALID_REQUEST;
    *ret_sentence = "a broker needs a listener that others can reach: set listeners, or "
                    "advertised.listeners";
    if (request->n_listeners == 0)
        return ERR_INVALID_REQUEST;
    if (!uuid_equal(&cluster, image_cluster_id(view(c)))) {
        *ret_sentence =
            reply_text(c,
                       "node %d belongs to another cluster: its log directories were formatted "
                       "for that one; check its voters' addresses, or format new directories",
                       request->node_id);
        return ERR_INCONSISTENT_CLUSTER_ID;
    }
    uint32_t level = image_feature_level(view(c));
    if (request->feature_min > level || request->feature_max < level) {
        *ret_sentence =
            reply_text(c,
                       "the cluster is at feature level %u, node %d knows %u to %u: "
                       "install a version that knows it",
                       level, request->node_id, request->feature_min, request->feature_max);
        return ERR_UNSUPPORTED_VERSION;
    }
    /* R14: the page cache may have told a recovery more than the disk holds. */
    const struct uuid *marked =
        failures_marked_online(image_broker(view(c), request->node_id), request);
    if (marked == NULL)
        return ERR_OK;
    char text[UUID_TEXT_SIZE];
    *ret_sentence = reply_text(c,
                               "log directory %s of node %d failed a sync: run karstd verify, or "
                               "take it out of log.dirs",
                               uuid_text(marked, text), request->node_id);
    return ERR_LOG_DIR_NOT_FOUND;
}

/* A living broker's id is taken over at once (R2): that is a quick restart, far more often than two
 * processes under one id, and to wait for the old session would cost each restart two seconds. Of
 * two that live, the older is told STALE_BROKER_EPOCH and exits; its own retries are known and
 * refused, so the two do not take turns. */
ProtobufCMessage *brokers_register(struct controller *c,
                                   const Karst__RegisterBrokerRequest *request)
{
    const ProtobufCMessageDescriptor *type = &karst__register_broker_reply__descriptor;
    const char *sentence;
    err_t err = registration_fault(c, request, &sentence);
    if (err != ERR_OK) {
        c->at_once = true;
        return reply_error(c, type, err, sentence);
    }
    Karst__RegisterBrokerReply *reply = reply_new(c, type);
    if (reply == NULL)
        return NULL;
    reply->has_broker_epoch = true;
    struct uuid incarnation, before = {0};
    (void)request_uuid(&request->incarnation, &incarnation); /* registration_fault has checked it */
    struct broker_soft *soft = brokers_soft(c, request->node_id);
    const struct image_broker *old = image_broker(view(c), request->node_id);
    if (old != NULL && uuid_equal(&old->incarnation, &incarnation)) { /* R26: a retry */
        soft->last_seen_ns = c->now_ns;
        reply->broker_epoch = old->epoch;
        return &reply->base;
    }
    if (soft_superseded(soft, &incarnation))
        return reply_error(c, type, ERR_STALE_BROKER_EPOCH, NULL);
    broker_epoch_t epoch = c->entry_offset;
    enum broker_state state_before = BROKER_STATE_FENCED;
    if (old != NULL) {
        before = old->incarnation;
        state_before = old->state;
        if (old->epoch >= epoch) /* both in one entry */
            epoch = old->epoch + 1;
    }
    struct uuid boot;
    struct registration r = {.request = request};
    bool same_boot = old != NULL && request_uuid(&request->boot_id, &boot) &&
                     !uuid_is_zero(&boot) && uuid_equal(&boot, &old->boot_id);
    r.cache_lost = !request->clean_start && !same_boot;
    err = registration_decide(c, &r, epoch);
    if (err != ERR_OK)
        return reply_error(c, type, err, NULL);
    if (!uuid_is_zero(&before)) {
        soft_supersede(soft, &before);
        if (state_before != BROKER_STATE_FENCED)
            soft_life_ends(c, soft);
    }
    soft_begin(c, request->node_id, epoch);
    log_info("controller: registered broker %d with epoch %" PRId64
             "; %zu ISR memberships of its last life ended, %zu replicas of the ISR are lost",
             request->node_id, epoch, r.ended, r.lost_isr);
    if (r.unflushed > 0)
        log_warn(
            "controller: broker %d stopped with its machine: of %zu partitions that are "
            "acknowledged before they are flushed it is the last in-sync replica, and may have "
            "lost records",
            request->node_id, r.unflushed);
    reply->broker_epoch = epoch;
    return &reply->base;
}
