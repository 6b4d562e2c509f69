#include <stdlib.h>

#include "shard/internal.h"

/* Before an unclean election the controller asks how far each live replica's log goes (R8): its
 * questions come with replies to heartbeats, go to the shards that own the partitions, and the next
 * heartbeat brings the answers. What is lost on the way is asked again. */

enum { ENDS_MAX = 1000 }; /* answers that wait for a heartbeat */

/* ---- at the owner ---- */

/* A log that still waits to be opened, or has failed, does not answer. Nor does one whose shard has
 * not heard of that epoch: it may still take records from who led before (R8). */
static bool end_look(struct shard *shard, struct shard_end *end)
{
    const struct image_partition *p =
        shard->image == NULL ? NULL : image_partition(shard->image, &end->id);
    return p != NULL && p->leader_epoch == end->leader_epoch && shard->table != NULL &&
           partition_log_end(shard->table, &end->id, &end->last_epoch, &end->end);
}

void end_asked(struct shard *shard, struct shard_end *end)
{
    if (end_look(shard, end))
        shard_post(shard, 0, &end->message, SHARD_END_TOLD);
    else
        free(end);
}

/* ---- at shard 0 ---- */

void end_told(struct shard *shard, struct shard_end *end)
{
    struct lifecycle *life = &shard->lifecycle;
    list_for_each (node, &life->ends) {
        struct shard_end *known = list_entry(node, struct shard_end, link);
        if (partition_id_equal(&known->id, &end->id) && known->leader_epoch == end->leader_epoch) {
            free(end); /* asked twice, while the answer was on its way */
            return;
        }
    }
    if (life->end_count == ENDS_MAX) {
        free(end);
        return;
    }
    life->end_count++;
    list_push_back(&life->ends, &end->link);
    lifecycle_hurry(shard);
}

void ends_asked(struct shard *shard, const Karst__HeartbeatReply *reply)
{
    for (size_t i = 0; i < reply->n_asked; i++) {
        const Karst__LogEnd *row = reply->asked[i];
        struct shard_end *end = calloc(1, sizeof(*end));
        if (end == NULL)
            return;
        end->id.index = row->index;
        end->leader_epoch = row->leader_epoch;
        if (!wire_get_uuid(&row->topic_id, &end->id.topic)) {
            free(end);
            continue;
        }
        unsigned owner = partition_shard(&end->id, shard->config->shard_count);
        if (owner != 0)
            shard_post(shard, owner, &end->message, SHARD_END_ASKED);
        else if (end_look(shard, end))
            end_told(shard, end);
        else
            free(end);
    }
}

static void end_drop(struct lifecycle *life)
{
    struct list_node *node = list_pop_front(&life->ends);
    ASSERT(node != NULL);
    life->end_count--;
    free(list_entry(node, struct shard_end, link));
}

/* The heartbeat that carried them was answered. */
void ends_taken(struct shard *shard)
{
    for (; shard->lifecycle.told_ends > 0; shard->lifecycle.told_ends--)
        end_drop(&shard->lifecycle);
}

bool ends_fill(struct shard *shard, Karst__HeartbeatRequest *request)
{
    struct lifecycle *life = &shard->lifecycle;
    struct arena *arena = &shard->scratch; /* in use: the heartbeat lives in it */
    life->told_ends = 0;
    if (life->end_count == 0)
        return true;
    Karst__LogEnd *rows = arena_calloc(arena, life->end_count, sizeof(*rows));
    request->ends = arena_calloc(arena, life->end_count, sizeof(Karst__LogEnd *));
    if (rows == NULL || request->ends == NULL)
        return false;
    list_for_each (node, &life->ends) {
        const struct shard_end *end = list_entry(node, struct shard_end, link);
        Karst__LogEnd *row = &rows[request->n_ends];
        karst__log_end__init(row);
        row->topic_id = wire_put_uuid(&end->id.topic);
        row->index = end->id.index;
        row->leader_epoch = end->leader_epoch;
        row->has_last_epoch = row->has_end = true;
        row->last_epoch = end->last_epoch;
        row->end = end->end;
        request->ends[request->n_ends++] = row;
    }
    life->told_ends = life->end_count;
    return true;
}

void ends_init(struct shard *shard)
{
    list_init(&shard->lifecycle.ends);
}

void ends_fini(struct shard *shard)
{
    while (shard->lifecycle.end_count > 0)
        end_drop(&shard->lifecycle);
}
