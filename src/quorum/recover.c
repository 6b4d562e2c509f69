/* A majority of the voters is lost for good: what one node has becomes the metadata of the cluster,
 * with that node as its only voter (R25). Offline, by a person, who has compared what is left:
 * entries that only the lost ones had, acknowledged or not, are given up.
 *
 * All of its log counts as committed, and becomes a snapshot; libraft's own recovery writes a
 * configuration of term 1, which any log overrules. Here index and term jump so far that nothing
 * the lost quorum may have written comes near: so no node ever goes back, and whoever comes to the
 * new quorum, an observer or a voter of the old one, finds that its log does not join, and gets the
 * snapshot. The recovery id in it says that this is another quorum. */
#include <stdlib.h>

#include "quorum/internal.h"

enum { INDEX_GAP = 1 << 20, TERM_GAP = 1 << 10 };

static void ignore_flushed(void *owner, offset_t flushed_end, err_t err)
{
    (void)owner;
    (void)flushed_end;
    (void)err;
}

/* What the snapshot and the entries behind it give. */
static err_t build_image(const struct store *store, const struct store_loaded *loaded,
                         struct image_edit **ret_edit)
{
    struct image *base = NULL;
    err_t err = ERR_OK;
    if (loaded->snapshot != NULL)
        err = image_decode_snapshot(loaded->image, &base);
    else
        base = image_new_empty();
    if (err != ERR_OK)
        return err;
    struct image_edit *edit = image_edit_begin(base);
    image_unref(base);
    for (size_t i = 0; i < loaded->entry_count && err == ERR_OK; i++) {
        const struct entry *entry = &loaded->entries[i];
        struct bytes records;
        if (entry->type != ENTRY_COMMAND || entry->index <= store->snapshot_index)
            continue;
        err = entry_unpad(entry->data, &records);
        if (err == ERR_OK)
            err = image_edit_apply_entry(edit, records, (int64_t)entry->index);
    }
    if (err != ERR_OK)
        image_edit_abandon(edit);
    else
        *ret_edit = edit;
    return err;
}

/* The first entry of the new quorum. */
static err_t apply_recovery(struct image_edit *edit, const struct quorum_config *config,
                            const struct uuid *recovery_id, uint64_t index)
{
    struct record_list records;
    record_list_init(&records);
    if (image_transaction_open(image_edit_view(edit))) { /* R23 */
        Karst__AbortTransactionRecord abort = KARST__ABORT_TRANSACTION_RECORD__INIT;
        record_list_add(&records, &abort.base);
    }
    Karst__ClusterRecord cluster = KARST__CLUSTER_RECORD__INIT;
    cluster.cluster_id = wire_put_uuid(&config->cluster_id);
    cluster.quorum_recovery_id = wire_put_uuid(recovery_id);
    record_list_add(&records, &cluster.base);
    union {
        const char *from;
        char *text;
    } host = {.from = config->self.host};
    Karst__Voter self = KARST__VOTER__INIT;
    Karst__Voter *voters[] = {&self};
    self.node_id = config->node;
    self.host = host.text;
    self.port = config->self.port;
    Karst__VotersRecord told = KARST__VOTERS_RECORD__INIT;
    told.n_voters = 1;
    told.voters = voters;
    record_list_add(&records, &told.base);
    err_t err =
        image_edit_apply_entry(edit, (struct bytes){records.data, records.len}, (int64_t)index);
    record_list_fini(&records);
    return err;
}

static err_t write_snapshot(struct store *store, struct image *image,
                            const struct snapshot_head *head)
{
    uint8_t *data = NULL;
    size_t len = 0, file_len = 0;
    err_t err = image_encode_snapshot(image, &data, &len);
    if (err != ERR_OK)
        return err;
    struct bytes part = {data, len};
    uint8_t *file = snapshot_encode(head, &part, 1, &file_len);
    free(data);
    if (file == NULL)
        return ERR_NO_MEMORY;
    return snapshot_write_now(store->disk, head->index, head->term, (struct bytes){file, file_len});
}

/* Its term is above all that it has voted in, and durable first: a crash leaves a voter of the old
 * quorum, or an observer, with a log that is as it was. */
static err_t raise_term(struct env_disk *disk, uint64_t log_term, uint64_t *ret_term)
{
    struct vote_file vote;
    err_t err = vote_open(disk, &vote);
    if (err == ERR_NOT_FOUND) {
        err = vote_create(disk, log_term == 0 ? 1 : log_term);
        if (err == ERR_OK)
            err = vote_open(disk, &vote);
    }
    if (err != ERR_OK)
        return err;
    uint64_t term = (vote.term > log_term ? vote.term : log_term) + TERM_GAP;
    if (term > INT32_MAX)
        err = ERR_INVALID;
    if (err == ERR_OK)
        err = vote_write(&vote, term, 0);
    vote_close(&vote);
    *ret_term = term;
    return err;
}

static err_t recover(struct env *env, const struct quorum_config *config, struct store *store,
                     struct image_edit *edit, uint64_t log_term)
{
    struct snapshot_head head = {.index = store_last(store) + INDEX_GAP};
    struct uuid recovery_id = uuid_make(env->random(env->self), env->random(env->self));
    struct image *image = NULL;
    struct image_difference *difference = NULL;
    err_t err = raise_term(store->disk, log_term, &head.term);
    if (err == ERR_OK)
        err = apply_recovery(edit, config, &recovery_id, head.index);
    if (err != ERR_OK) {
        image_edit_abandon(edit);
        return err;
    }
    image = image_edit_finish(edit, &difference);
    image_difference_free(difference);
    head.cluster_id = config->cluster_id;
    head.members.index = head.index;
    head.members.count = 1;
    head.members.list[0].id = members_raft_id(config->node);
    head.members.list[0].role = RAFT_VOTER;
    members_address_print(&config->self, &config->directory_id, head.members.list[0].address);
    err = write_snapshot(store, image, &head);
    image_unref(image);
    return err != ERR_OK ? err : store_reset(store, head.index, head.term);
}

err_t quorum_recover(struct env *env, const struct quorum_config *config, bool confirmed,
                     struct quorum_recovery *ret_recovery)
{
    struct store store;
    struct store_loaded loaded;
    struct image_edit *edit = NULL;
    struct log_upcalls upcalls = {.flushed = ignore_flushed};
    err_t err = store_open(env, config->log_options, upcalls, &store, &loaded);
    if (err != ERR_OK)
        return err;
    err = build_image(&store, &loaded, &edit);
    store_loaded_fini(&loaded);
    if (err != ERR_OK) {
        store_close(&store, false);
        return err;
    }
    const struct image *image = image_edit_view(edit);
    struct quorum_recovery recovery = {
        .index = store_last(&store),
        .term = store_term(&store, store_last(&store)),
        .brokers = image_broker_count(image),
        .topics = image_topic_count(image),
        .voters = image_voter_count(image),
    };
    if (uuid_is_zero(image_cluster_id(image)))
        err = ERR_NOT_FOUND;
    else if (!uuid_equal(image_cluster_id(image), &config->cluster_id))
        err = ERR_INCONSISTENT_CLUSTER_ID;
    if (err == ERR_OK && confirmed)
        err = recover(env, config, &store, edit, recovery.term);
    else
        image_edit_abandon(edit);
    store_close(&store, err == ERR_OK && confirmed);
    if (err == ERR_OK)
        *ret_recovery = recovery;
    return err;
}
