#include <stdlib.h>

#include "base/canary.h"
#include "shard/internal.h"

enum {
    /* What a pooled request keeps: more than a usual one needs, less than the pool could pin. */
    REQUEST_ARENA_KEPT_BYTES = 64 << 10,
};

/* ---- memory ---- */

struct request *session_request_new(struct shard *shard, struct session *session,
                                    enum request_type type, struct frame *frame)
{
    struct request *request;
    struct list_node *node = list_pop_front(&shard->free_requests);
    struct arena arena;
    if (node != NULL) {
        request = list_entry(node, struct request, link);
        shard->free_request_count--;
        arena = request->arena;
    } else {
        request = malloc(sizeof(*request));
        if (request == NULL)
            return NULL;
        arena_init(&arena, REQUEST_ARENA_BYTES_MAX);
    }
    *request = (struct request){
        .type = type,
        .conn = session->conn,
        .home = shard->idx,
        .frame = frame,
        .arena = arena,
        .deadline_ns = env_now(shard->env) + shard->config->request_timeout_ns,
    };
    list_init(&request->link);
    return request;
}

void *session_request_parts(struct request *request, uint32_t count)
{
    if (count > REQUEST_PARTS_MAX)
        return NULL;
    request->parts = arena_calloc(&request->arena, count, part_bytes(request->type));
    if (request->parts == NULL)
        return NULL;
    request->part_count = count;
    for (uint32_t i = 0; i < count; i++) {
        struct part *part = request_part(request, i);
        part->request = request;
        part->leader_epoch_asked = -1;
        part->err = ERR_REQUEST_TIMED_OUT;
        part->leader = NO_NODE;
        part->leader_epoch = -1;
        part->log_start = -1;
        part->high_watermark = -1;
        list_init(&part->waiting);
    }
    return request->parts;
}

static void request_drop_references(struct request *request)
{
    if (request->type == REQUEST_FETCH)
        for (uint32_t i = 0; i < request->part_count; i++)
            frame_unref(((struct fetch_part *)request_part(request, i))->records);
    frame_unref(request->reply_frame);
    frame_unref(request->frame);
}

void request_destroy(struct request *request)
{
    request_drop_references(request);
    arena_fini(&request->arena);
    free(request);
}

/* Nothing allocates on the hot path: requests come back with the memory of their arenas. */
static void request_recycle(struct shard *shard, struct request *request)
{
    ASSERT(request->away == 0);
    if (shard->free_request_count == SHARD_POOL_REQUESTS_MAX) {
        request_destroy(request);
        return;
    }
    request_drop_references(request);
    if (request->arena.taken > REQUEST_ARENA_KEPT_BYTES) {
        arena_fini(&request->arena);
        arena_init(&request->arena, REQUEST_ARENA_BYTES_MAX);
    } else {
        arena_reset(&request->arena);
    }
    request->frame = NULL;
    request->reply_frame = NULL;
    request->part_count = 0;
    list_push_front(&shard->free_requests, &request->link);
    shard->free_request_count++;
}

void session_request_drop(struct shard *shard, struct request *request)
{
    request_recycle(shard, request);
}

struct session *request_session(struct shard *shard, const struct request *request)
{
    struct conn_entry *entry = conn_find(shard, request->conn);
    return entry != NULL && entry->kind == CONN_SESSION ? entry->owner : NULL;
}

void request_fail(struct request *request, err_t err, const char *sentence)
{
    request->err = err;
    request->sentence = sentence;
}

/* ---- answers ---- */

static bool request_has_error(const struct request *request)
{
    if (request->err != ERR_OK)
        return true;
    for (uint32_t i = 0; i < request->part_count; i++) {
        const struct part *part = request_part(request, i);
        if (!part->back || part->err != ERR_OK)
            return true;
    }
    return false;
}

/* R10: the clock is read again when it replies. The owners had a lease when they answered their
 * parts, but these may have waited for this shard, and another broker may lead since then; what the
 * in-sync replicas have acknowledged stays true. */
static void request_review_lease(struct shard *shard, struct request *request)
{
    bool needs_lease = request->type == REQUEST_FETCH || request->type == REQUEST_LIST_OFFSETS ||
                       (request->type == REQUEST_PRODUCE && request->acks == 1);
    if (!needs_lease || shard_lease_valid(shard, shard_now_ns(shard)))
        return;
    if (CANARY("shard_answers_after_its_lease"))
        return;
    if (CANARY("replica_serves_without_lease"))
        return;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct part *part = request_part(request, i);
        if (!part->back || part->err != ERR_OK)
            continue;
        part->err = ERR_NOT_LEADER_OR_FOLLOWER;
        if (request->type == REQUEST_PRODUCE)
            ((struct produce_part *)part)->base_offset = -1;
        if (request->type != REQUEST_FETCH)
            continue;
        struct fetch_part *fetch = (struct fetch_part *)part;
        frame_unref(fetch->records);
        fetch->records = NULL;
    }
}

static void request_answer(struct shard *shard, struct request *request)
{
    struct session *session = request_session(shard, request);
    ASSERT(session != NULL);
    request->answered = true;
    shard->replies++;
    if (request->err != ERR_OK)
        shard->errors++;
    list_remove(&request->link);
    session->request_count--;
    session->fetch_bytes -= request->bytes_max;
    request_review_lease(shard, request);
    if (!request->silent) {
        session->codec->encode(shard, session, request);
    } else if (request_has_error(request)) {
        /* Nobody reads an answer: the closed connection is one (acks=0). */
        shard->errors++;
        session_doom(shard, session);
    }
    session_update_pause(shard, session);
    if (request->away > 0)
        list_push_back(&shard->detached, &request->link);
}

void request_release(struct shard *shard, struct request *request)
{
    ASSERT(request->away > 0);
    if (--request->away > 0)
        return;
    if (!request->answered)
        request_answer(shard, request);
    list_remove(&request->link);
    request_recycle(shard, request);
}

/* ---- split ---- */

static void part_execute(struct shard *shard, struct part *part)
{
    part->at_owner = true;
    shard->parts_here++;
    if (shard->table == NULL) {
        part->err = ERR_NOT_LEADER_OR_FOLLOWER;
        part->sentence = "this broker is shutting down";
        part_done(shard, part);
        return;
    }
    void *any = part;
    switch (part->request->type) {
    case REQUEST_PRODUCE:
        partition_produce(shard->table, any);
        return;
    case REQUEST_FETCH:
        partition_fetch(shard->table, any);
        return;
    case REQUEST_LIST_OFFSETS:
        partition_list_offsets(shard->table, any);
        return;
    case REQUEST_EPOCH_END_OFFSET:
        partition_epoch_end(shard->table, any);
        return;
    case REQUEST_LOCAL:
    case REQUEST_CALL:
        break;
    }
    ASSERT(!"a part of a request that has none");
}

static void request_send_part(struct shard *shard, struct request *request, struct part *part,
                              unsigned owner)
{
    part->deadline_ns = request->deadline_ns;
    if (request->hurried)
        ((struct fetch_part *)part)->bytes_min =
            0; /* enough is there: whatever there is, at once */
    request->away++;
    part->message.from = shard->idx;
    if (owner == shard->idx)
        part_execute(shard, part);
    else
        shard_post(shard, owner, &part->message, SHARD_PART);
}

/* Own parts first: what they bring may spare the others their wait. In order for each owner: the
 * batches of a partition reach it as they came (R28). */
static void request_split(struct shard *shard, struct request *request)
{
    unsigned shards = shard->config->shard_count;
    for (int others = 0; others < 2; others++) {
        for (uint32_t i = 0; i < request->part_count; i++) {
            struct part *part = request_part(request, i);
            unsigned owner = partition_shard(&part->id, shards);
            if ((owner != shard->idx) == (others == 1))
                request_send_part(shard, request, part, owner);
        }
        if (shards == 1)
            return;
    }
}

/* The one check point of authorisation: every request of every listener passes here, with what the
 * connection's hello said. There are no principals yet, so that all is allowed. */
static err_t request_authorize(const struct session *session, const struct request *request)
{
    (void)session;
    (void)request;
    return ERR_OK;
}

void request_begin(struct shard *shard, struct session *session, struct request *request)
{
    shard->requests++;
    frame_charge(request->frame, request->arena.taken); /* rows grow: 35 bytes become 400 */
    list_push_back(&session->requests, &request->link);
    session->request_count++;
    session->fetch_bytes += request->bytes_max; /* 0 for all others */
    session_update_pause(shard, session);
    request->away = 1; /* ours, so that nothing ends it before all of it was sent */
    err_t err = request_authorize(session, request);
    if (err != ERR_OK)
        request_fail(request, err, NULL);
    else if (request->type == REQUEST_LOCAL)
        local_begin(shard, session, request);
    else if (request->type == REQUEST_CALL)
        admin_begin(shard, session, request);
    else
        request_split(shard, request);
    request_release(shard, request);
}

/* ---- asking parts back ---- */

static void request_cancel_parts(struct shard *shard, struct request *request)
{
    unsigned shards = shard->config->shard_count;
    uint64_t owners = 0;
    request->away++;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct part *part = request_part(request, i);
        if (part->back)
            continue;
        unsigned owner = partition_shard(&part->id, shards);
        if (owner != shard->idx)
            owners |= UINT64_C(1) << owner;
        else if (part->at_owner && shard->table != NULL)
            partition_cancel(shard->table, part);
    }
    for (unsigned owner = 0; owner < shards; owner++) {
        if ((owners >> owner & 1) == 0)
            continue;
        struct shard_cancel *cancel = malloc(sizeof(*cancel));
        if (cancel == NULL)
            continue; /* the parts end by their deadline */
        cancel->request = request;
        request->away++;
        shard_post(shard, owner, &cancel->message, SHARD_CANCEL);
    }
    request_release(shard, request);
}

void request_detach(struct shard *shard, struct request *request)
{
    list_remove(&request->link);
    list_push_back(&shard->detached, &request->link);
    request->answered = true;
    request_cancel_parts(shard, request);
}

/* At an owner. Of the request only what never changes while parts are away is read, and of the
 * parts only our own. */
void cancel_arrived(struct shard *shard, struct shard_cancel *cancel)
{
    struct request *request = cancel->request;
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct part *part = request_part(request, i);
        if (partition_shard(&part->id, shard->config->shard_count) == shard->idx &&
            part->at_owner && shard->table != NULL)
            partition_cancel(shard->table, part);
    }
    shard_post(shard, request->home, &cancel->message, SHARD_CANCEL_BACK);
}

void cancel_came_back(struct shard *shard, struct shard_cancel *cancel)
{
    struct request *request = cancel->request;
    free(cancel);
    request_release(shard, request);
}

/* ---- parts at their owner, and back ---- */

void part_arrived(struct shard *shard, struct part *part)
{
    part_execute(shard, part);
}

void part_done(struct shard *shard, struct part *part)
{
    ASSERT(part->at_owner);
    part->at_owner = false;
    shard->parts_here--;
    if (shard->dying)
        part_lost(part);
    else if (part->request->home == shard->idx)
        part_came_back(shard, part);
    else
        shard_post(shard, part->request->home, &part->message, SHARD_PART_BACK);
}

static void fetch_part_came_back(struct shard *shard, struct fetch_part *part)
{
    struct request *request = part->part.request;
    if (part->part.err == ERR_CANCELED && request->hurried)
        part->part.err = ERR_OK; /* nothing new here, that is all */
    if (part->records != NULL)
        request->bytes_gathered += part->records->used;
    bool enough = part->part.err != ERR_OK || request->bytes_gathered >= request->bytes_min;
    if (!enough || request->hurried || request->answered || request->part_count == 1)
        return;
    request->hurried = true;
    request_cancel_parts(shard, request);
}

void part_came_back(struct shard *shard, struct part *part)
{
    struct request *request = part->request;
    ASSERT(!part->back);
    part->back = true;
    if (request->type == REQUEST_FETCH)
        fetch_part_came_back(shard, (struct fetch_part *)part);
    request_release(shard, request);
}

/* ---- time ---- */

/* Fetches that wait hold memory that is wanted: they end with what there is. */
static void request_make_room(struct shard *shard, struct request *request)
{
    if (request->type != REQUEST_FETCH || request->hurried || request->answered ||
        !frame_over_budget(request->frame))
        return;
    request->hurried = true;
    request_cancel_parts(shard, request);
}

/* One deadline for a request, however many shards work for it: what is missing then is timed out
 * for its partitions only. The request itself is kept until all of it is back. */
void requests_tick(struct shard *shard, struct session *session, uint64_t now_ns)
{
    list_for_each_safe (node, after, &session->requests) {
        struct request *request = list_entry(node, struct request, link);
        if (request->part_count > 0 && now_ns > request->deadline_ns + SHARD_ANSWER_GRACE_NS)
            request_answer(shard, request);
        else
            request_make_room(shard, request);
    }
}

/* ---- the end of a node, all of its threads stopped ---- */

void request_lost(struct request *request)
{
    ASSERT(request->away > 0);
    request->away--;
    if (request->orphan && request->away == 0)
        request_destroy(request);
}

void part_lost(struct part *part)
{
    request_lost(part->request);
}

void cancel_lost(struct shard_cancel *cancel)
{
    struct request *request = cancel->request;
    free(cancel);
    request_lost(request);
}
