#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/table.h"
#include "sim/check.h"
#include "sim/sim_node.h"

enum { TERMS_MAX = 1 << 16, INDEXES_MAX = 1 << 18 };

/* A voter or observer as it was after its last turn. */
struct member {
    unsigned life;
    struct quorum_view view;
    uint64_t term; /* the highest it ever told: survives */
    int64_t image_offset, shard_offsets[RUN_SHARDS];
};

struct committed {
    uint64_t term;   /* 0: not known */
    uint64_t digest; /* of the image whose offset this is */
    bool has_digest;
};

struct check_quorum {
    struct sim_run *run;
    struct member members[RUN_NODES_MAX];
    node_id_t leader_of[TERMS_MAX];
    struct committed *committed; /* by index */
    struct table before;         /* (index, term) → term of the entry before it, + 1 */
    struct image *newest;
};

struct check_quorum *check_quorum_new(struct sim_run *run)
{
    struct check_quorum *check = calloc(1, sizeof *check);
    ASSERT(check != NULL);
    check->run = run;
    check->committed = calloc(INDEXES_MAX, sizeof check->committed[0]);
    ASSERT(check->committed != NULL);
    table_init(&check->before, run->seed);
    return check;
}

void check_quorum_free(struct check_quorum *check)
{
    image_unref(check->newest);
    table_fini(&check->before);
    free(check->committed);
    free(check);
}

struct image *check_quorum_image(const struct check_quorum *check)
{
    return check->newest;
}

/* ---- election safety ---- */

static void check_term(struct check_quorum *check, const struct sim_node *node,
                       const struct quorum_view *view)
{
    struct member *member = &check->members[node->id - 1];
    if (view->voter && view->term < member->term)
        sim_fail(check->run, "a voter's term never falls", "node %d: %" PRIu64 " after %" PRIu64,
                 node->id, view->term, member->term);
    if (view->voter)
        member->term = view->term; /* an observer only tells what it hears */
    if (!view->leader || view->term >= TERMS_MAX)
        return;
    node_id_t *leader = &check->leader_of[view->term];
    if (*leader != 0 && *leader != node->id)
        sim_fail(check->run, "one leader of the quorum for each term (election safety)",
                 "term %" PRIu64 ": nodes %d and %d", view->term, *leader, node->id);
    if (*leader == 0)
        sim_say(check->run, "node %d leads the quorum in term %" PRIu64 " from index %" PRIu64,
                node->id, view->term, view->last_index);
    *leader = node->id;
}

/* ---- log matching: an entry (index, term) has the same entry before it everywhere ---- */

static void check_entry(struct check_quorum *check, const struct sim_node *node, uint64_t index)
{
    uint64_t term = quorum_entry_term(node->quorum, index);
    uint64_t before = quorum_entry_term(node->quorum, index - 1);
    if (term == 0 || before == 0 || term >= TERMS_MAX)
        return;
    if (before > term)
        sim_fail(check->run, "terms in a log never fall", "node %d at %" PRIu64, node->id, index);
    uint64_t key = index << 16 | term;
    void *known = table_get(&check->before, key);
    void *value = (void *)(uintptr_t)(before + 1);
    if (known == NULL)
        ASSERT(table_put(&check->before, key, value) == ERR_OK);
    else if (known != value)
        sim_fail(check->run, "logs with the same entry have the same before it (log matching)",
                 "node %d: before (%" PRIu64 ", term %" PRIu64 ") is term %" PRIu64
                 ", elsewhere %" PRIu64,
                 node->id, index, term, before, (uint64_t)(uintptr_t)known - 1);
}

static void check_log(struct check_quorum *check, const struct sim_node *node,
                      const struct quorum_view *was, const struct quorum_view *now)
{
    uint64_t from = was->last_index + 1;
    if (now->truncations != was->truncations ||
        now->snapshots_installed != was->snapshots_installed || now->last_index < was->last_index)
        from = now->commit_index + 1;
    for (uint64_t index = from < 2 ? 2 : from; index <= now->last_index; index++)
        check_entry(check, node, index);
}

/* ---- state machine safety ---- */

static void check_applied(struct check_quorum *check, const struct sim_node *node,
                          const struct quorum_view *was, const struct quorum_view *now)
{
    if (now->applied_index < was->applied_index || now->commit_index < was->commit_index)
        sim_fail(check->run, "what is committed stays committed",
                 "node %d: commit %" PRIu64 " applied %" PRIu64 " after %" PRIu64 ", %" PRIu64,
                 node->id, now->commit_index, now->applied_index, was->commit_index,
                 was->applied_index);
    for (uint64_t i = was->applied_index + 1; i <= now->applied_index && i < INDEXES_MAX; i++) {
        uint64_t term = quorum_entry_term(node->quorum, i);
        if (term == 0)
            continue; /* it came with a snapshot */
        if (check->committed[i].term != 0 && check->committed[i].term != term)
            sim_fail(check->run,
                     "the same entry is applied at an index everywhere (state machine safety)",
                     "node %d at %" PRIu64 ": of term %" PRIu64 ", elsewhere of %" PRIu64, node->id,
                     i, term, check->committed[i].term);
        check->committed[i].term = term;
    }
}

static void check_digest(struct check_quorum *check, const struct sim_node *node,
                         struct image *image)
{
    int64_t offset = image_offset(image);
    if (offset < 0 || offset >= INDEXES_MAX)
        return;
    struct committed *at = &check->committed[offset];
    if (at->has_digest && at->digest != image_digest(image))
        sim_fail(check->run, "applying the same entries gives the same image everywhere",
                 "node %d at %" PRId64 ": digest %" PRIx64 ", elsewhere %" PRIx64, node->id, offset,
                 image_digest(image), at->digest);
    at->digest = image_digest(image);
    at->has_digest = true;
}

static void check_image(struct check_quorum *check, const struct sim_node *node)
{
    struct member *member = &check->members[node->id - 1];
    struct image *image = quorum_image(node->quorum);
    if (image == NULL || image_offset(image) == member->image_offset)
        return;
    if (image_offset(image) < member->image_offset)
        sim_fail(check->run, "metadata never goes back", "node %d: %" PRId64 " after %" PRId64,
                 node->id, image_offset(image), member->image_offset);
    member->image_offset = image_offset(image);
    check_digest(check, node, image);
    if (check->newest != NULL && image_offset(image) <= image_offset(check->newest))
        return;
    image_unref(check->newest);
    check->newest = image_ref(image);
    sim_note(&check->run->world, image_digest(image));
    check_data_image(check->run->data, image);
    check_lease_image(check->run, image);
}

/* ---- after turns ---- */

static void member_counted(struct check_quorum *check, const struct quorum_view *was,
                           const struct quorum_view *now)
{
    struct run_counters *counters = &check->run->counters;
    counters->elections += now->elections_won - was->elections_won;
    counters->early_elections += now->early_elections - was->early_elections;
    counters->truncations += now->truncations - was->truncations;
    counters->snapshots_installed += now->snapshots_installed - was->snapshots_installed;
}

void check_quorum_turn(struct check_quorum *check, struct sim_node *node)
{
    struct member *member = &check->members[node->id - 1];
    if (member->life != node->life)
        *member = (struct member){.life = node->life, .term = member->term};
    struct quorum_view now;
    quorum_look(node->quorum, &now);
    struct quorum_view *was = &member->view;
    check_term(check, node, &now);
    check_log(check, node, was, &now);
    check_applied(check, node, was, &now);
    check_image(check, node);
    member_counted(check, was, &now);
    if (now.controller_active != was->controller_active)
        sim_say(check->run, "node %d: controller %s", node->id,
                now.controller_active ? "active" : "inactive");
    *was = now;
}

void check_quorum_shard(struct check_quorum *check, struct sim_node *node, unsigned shard)
{
    struct member *member = &check->members[node->id - 1];
    if (member->life != node->life)
        return; /* its quorum has not had a turn yet */
    struct image *image = shard_image(node->shards[shard]);
    if (image == NULL || image_offset(image) == member->shard_offsets[shard])
        return;
    if (image_offset(image) < member->shard_offsets[shard])
        sim_fail(check->run, "metadata never goes back",
                 "node %d, shard %u: %" PRId64 " after %" PRId64, node->id, shard,
                 image_offset(image), member->shard_offsets[shard]);
    member->shard_offsets[shard] = image_offset(image);
    check_digest(check, node, image);
}

void check_quorum_node_stops(struct check_quorum *check, struct sim_node *node)
{
    check_quorum_turn(check, node);
}

/* ---- in the end ---- */

struct unhealthy {
    char *why;
    size_t size;
    bool found;
};

static void topic_in_sync(void *context, const struct image_topic *topic)
{
    struct unhealthy *bad = context;
    for (int32_t i = 0; i < topic->partition_count && !bad->found; i++) {
        const struct image_partition *p = &topic->partitions[i];
        if (p->leader != NO_NODE && p->isr_count == p->replica_count)
            continue;
        bad->found = true;
        (void)snprintf(bad->why, bad->size, "%s-%d: leader %d, %u of %u replicas in sync",
                       topic->name, i, p->leader, p->isr_count, p->replica_count);
    }
}

static bool brokers_active(const struct check_quorum *check, char *ret_why, size_t size)
{
    if (check->newest == NULL || image_broker_count(check->newest) != check->run->node_count) {
        (void)snprintf(ret_why, size, "not all brokers are registered");
        return false;
    }
    for (size_t i = 0; i < check->run->node_count; i++) {
        const struct image_broker *broker = image_broker_at(check->newest, i);
        if (broker->state == BROKER_STATE_ACTIVE)
            continue;
        (void)snprintf(ret_why, size, "broker %d is not active (state %d)", broker->id,
                       (int)broker->state);
        return false;
    }
    return true;
}

/* All know the same configuration, and each is what it says. */
static bool servers_agree(const struct check_quorum *check, node_id_t leader, char *ret_why,
                          size_t size)
{
    struct quorum_server told[RUN_NODES_MAX], own[RUN_NODES_MAX];
    const struct sim_node *leading = check->run->nodes[leader - 1];
    size_t count = leading->quorum == NULL
                       ? 0
                       : quorum_servers(leading->quorum, told, RUN_NODES_MAX);
    for (unsigned i = 0; i < check->run->node_count; i++) {
        const struct sim_node *node = check->run->nodes[i];
        bool serves = false, same = node->quorum != NULL &&
                                    quorum_servers(node->quorum, own, RUN_NODES_MAX) == count;
        for (size_t k = 0; k < count && same; k++) {
            same = own[k].node == told[k].node && own[k].role == told[k].role;
            serves = serves || told[k].node == node->id;
        }
        if (same && serves == check->members[i].view.voter)
            continue;
        (void)snprintf(ret_why, size, "node %d is %s of the quorum, and node %d says otherwise",
                       node->id, check->members[i].view.voter ? "a server" : "an observer", leader);
        return false;
    }
    return true;
}

bool check_quorum_converged(const struct check_quorum *check, char *ret_why, size_t size)
{
    unsigned active = 0;
    node_id_t leader = NO_NODE;
    for (unsigned i = 0; i < check->run->node_count; i++) {
        active += check->members[i].view.controller_active;
        if (check->members[i].view.controller_active)
            leader = (node_id_t)i + 1;
    }
    if (active != 1) {
        (void)snprintf(ret_why, size, "%u controllers are active", active);
        return false;
    }
    if (!brokers_active(check, ret_why, size) || !servers_agree(check, leader, ret_why, size))
        return false;
    for (unsigned i = 0; i < check->run->node_count; i++) {
        const struct member *member = &check->members[i];
        if (member->view.leader_node != leader) {
            (void)snprintf(ret_why, size, "node %u takes node %d for the quorum's leader, not %d",
                           i + 1, member->view.leader_node, leader);
            return false;
        }
        for (int shard = 0; shard < RUN_SHARDS; shard++)
            if (member->shard_offsets[shard] != image_offset(check->newest)) {
                (void)snprintf(ret_why, size,
                               "node %u, shard %d: metadata at %" PRId64 " of %" PRId64, i + 1,
                               shard, member->shard_offsets[shard], image_offset(check->newest));
                return false;
            }
    }
    struct unhealthy bad = {.why = ret_why, .size = size};
    image_each_topic(check->newest, topic_in_sync, &bad);
    return !bad.found;
}

struct sim_node *check_quorum_controller(const struct check_quorum *check)
{
    for (unsigned i = 0; i < check->run->node_count; i++)
        if (sim_node_up(check->run->nodes[i]) && check->members[i].view.controller_active)
            return check->run->nodes[i];
    return NULL;
}

void check_quorum_describe(const struct check_quorum *check)
{
    for (unsigned i = 0; i < check->run->node_count; i++) {
        const struct quorum_view *view = &check->members[i].view;
        sim_say(check->run,
                "node %u: %s%s term %" PRIu64 " of node %d, last %" PRIu64 " commit %" PRIu64
                " applied %" PRIu64 " snapshot %" PRIu64 "; shards at %" PRId64 " %" PRId64
                " %" PRId64,
                i + 1, view->voter ? "voter" : "observer", view->leader ? ", leads," : ",",
                view->term, view->leader_node, view->last_index, view->commit_index,
                view->applied_index, view->snapshot_index, check->members[i].shard_offsets[0],
                check->members[i].shard_offsets[1], check->members[i].shard_offsets[2]);
    }
}
