/* A voter's directory with a wound (wound.h; flag 1: the vote's checks are made right again). What
 * opens is a part of what was written, and can be gone on with. */
#include "fuzz/fuzz.h"

#include "base/crc32c.h"
#include "base/logger.h"
#include "fuzz/wound.h"
#include "quorum/store.h"
#include "quorum/vote.h"
#include "sim/sim_world.h"

enum {
    ENTRIES = 12,
    SNAPSHOT_AT = 4,
    TERM_CHANGES_AT = 7,
    FLAG_SEAL = 1,
    SLOT_BYTES = 36,
    SLOT_SPACING = 4096,
    VOTED_TERM = 9,
    VOTED_FOR = 2,
};

static const char *const wounded[] = {
    STORE_DIRECTORY "/quorum-state",
    STORE_DIRECTORY "/00000000000000000001.log",
    STORE_DIRECTORY "/checkpoint",
    STORE_DIRECTORY "/leader-epoch-checkpoint",
    STORE_DIRECTORY "/00000000000000000004-0000000001.checkpoint",
};

struct fuzz_node {
    struct sim_world world;
    struct sim_host *host;
    struct sim_disk *disk;
    struct env *env;
    struct store store;
    struct store_loaded loaded;
};

static void ignore_mail(void *actor, void *message)
{
    (void)actor;
    (void)message;
}

static void ignore_flushed(void *owner, offset_t flushed_end, err_t err)
{
    (void)owner;
    (void)flushed_end;
    (void)err;
}

static err_t node_open(struct fuzz_node *node)
{
    static const struct log_options options = {
        .segment_bytes = 8192, .index_interval_bytes = 512, .preallocate_bytes = 2048};
    sim_host_boot(node->host, 1);
    node->env = sim_host_env(node->host, 0);
    node->env->upcalls.mail = ignore_mail;
    return store_open(node->env, &options, (struct log_upcalls){.flushed = ignore_flushed},
                      &node->store, &node->loaded);
}

static void node_close(struct fuzz_node *node, bool sync)
{
    store_close(&node->store, sync);
    store_loaded_fini(&node->loaded);
    sim_disk_kill(node->disk);
    sim_host_stop(node->host);
}

static void node_settle(struct fuzz_node *node)
{
    sim_run_until(&node->world, node->world.now_ns + ENV_MS(10));
}

/* The one entry that may be at an index. */
static struct entry entry_at(uint64_t index, uint8_t into[64])
{
    uint8_t raw[32];
    memset(raw, (int)index, sizeof(raw));
    size_t len = index * 5 % sizeof(raw);
    entry_pad((struct bytes){raw, len}, into);
    return (struct entry){
        .index = index,
        .term = index < TERM_CHANGES_AT ? 1 : 3,
        .type = ENTRY_COMMAND,
        .data = {into, entry_padded_bytes(len)},
    };
}

static void snapshot_done(void *owner, err_t err)
{
    bool *done = owner;
    ASSERT(err == ERR_OK);
    *done = true;
}

static const struct bytes snapshot_image = {(const uint8_t *)"what was decided", 16};

static void node_snapshot(struct fuzz_node *node)
{
    const struct snapshot_head head = {
        .index = SNAPSHOT_AT,
        .term = 1,
        .cluster_id = {{7}},
        .members = {.index = 1,
                    .count = 2,
                    .list = {{1, RAFT_VOTER, "a:1"}, {2, RAFT_STANDBY, "b:2"}}},
    };
    size_t len;
    bool done = false;
    struct snapshot_write *write;
    uint8_t *file = snapshot_encode(&head, &snapshot_image, 1, &len);
    ASSERT(file != NULL);
    err_t err = snapshot_write_start(node->store.disk, SNAPSHOT_AT, 1, (struct bytes){file, len},
                                     snapshot_done, &done, &write);
    ASSERT(err == ERR_OK);
    node_settle(node);
    ASSERT(done);
}

static void node_fill(struct fuzz_node *node)
{
    uint8_t data[64];
    err_t err = node_open(node);
    ASSERT(err == ERR_OK);
    for (uint64_t index = 1; index <= ENTRIES; index++) {
        struct entry entry = entry_at(index, data);
        err = store_append(&node->store, &entry, 1);
        ASSERT(err == ERR_OK);
        node_settle(node);
    }
    node_snapshot(node);
    struct vote_file vote;
    err = vote_create(node->store.disk, VOTED_TERM - 1);
    ASSERT(err == ERR_OK);
    err = vote_open(node->store.disk, &vote);
    ASSERT(err == ERR_OK);
    err = vote_write(&vote, VOTED_TERM, VOTED_FOR);
    ASSERT(err == ERR_OK);
    vote_close(&vote);
    node_close(node, true);
}

/* The vote's two slots; all else keeps the checks that do not fit any more. */
static void seal_vote(uint8_t *data, size_t len, const char *name)
{
    for (size_t slot = 0; name == wounded[0] && slot + SLOT_BYTES <= len; slot += SLOT_SPACING)
        put_u32(data + slot + SLOT_BYTES - 4, crc32c(0, data + slot, SLOT_BYTES - 4));
}

static void node_check_loaded(const struct fuzz_node *node)
{
    uint8_t data[64];
    uint64_t snapshot = node->store.snapshot_index;
    ASSERT(snapshot == 0 || snapshot == SNAPSHOT_AT);
    if (snapshot != 0) {
        ASSERT(node->loaded.image.len == snapshot_image.len);
        ASSERT(memcmp(node->loaded.image.data, snapshot_image.data, snapshot_image.len) == 0);
    }
    for (size_t i = 0; i < node->loaded.entry_count; i++) {
        const struct entry *got = &node->loaded.entries[i];
        struct entry expected = entry_at(got->index, data);
        ASSERT(i > 0 || got->index <= snapshot + 1);
        ASSERT(i == 0 || got->index == node->loaded.entries[i - 1].index + 1);
        ASSERT(got->term == expected.term);
        ASSERT(got->data.len == expected.data.len);
        ASSERT(memcmp(got->data.data, expected.data.data, expected.data.len) == 0);
    }
}

static void node_check_vote(struct fuzz_node *node, bool sealed)
{
    struct vote_file vote;
    if (vote_open(node->store.disk, &vote) != ERR_OK)
        return;
    ASSERT(sealed || (vote.term == VOTED_TERM && vote.vote == VOTED_FOR) ||
           (vote.term == VOTED_TERM - 1 && vote.vote == 0));
    err_t err = vote_write(&vote, vote.term, 1);
    ASSERT(err == ERR_OK);
    vote_close(&vote);
}

static void node_go_on(struct fuzz_node *node)
{
    uint8_t data[64];
    for (int i = 0; i < 3; i++) {
        struct entry entry = entry_at(store_last(&node->store) + 1, data);
        err_t err = store_append(&node->store, &entry, 1);
        ASSERT(err == ERR_OK);
    }
    node_settle(node);
    err_t err = store_truncate(&node->store, store_last(&node->store));
    ASSERT(err == ERR_OK);
}

static void node_begin(struct fuzz_node *node)
{
    *node = (struct fuzz_node){0};
    sim_world_init(&node->world, 1);
    node->disk = sim_disk_new(
        &(struct sim_disk_options){.seed = 1, .sync_ns_min = 1000, .sync_ns_max = 1000});
    node->host = sim_host_add(&node->world);
    node->host->disk = node->disk;
}

static void node_end(struct fuzz_node *node)
{
    sim_world_fini(&node->world);
    sim_disk_free(node->disk);
}

static void node_capture(struct wound_directory *into)
{
    struct fuzz_node node;
    node_begin(&node);
    node_fill(&node);
    sim_host_boot(node.host, 1);
    wound_capture(&sim_host_env(node.host, 0)->disks[0], into);
    sim_disk_kill(node.disk);
    sim_host_stop(node.host);
    node_end(&node);
}

static void node_restore(struct fuzz_node *node, const struct wound_directory *sound,
                         const struct wound *wound, bool seal)
{
    sim_host_boot(node->host, 1);
    struct env_disk *disk = &sim_host_env(node->host, 0)->disks[0];
    wound_restore(disk, sound);
    wound_apply(disk, wound, seal ? seal_vote : NULL);
    sim_disk_kill(node->disk);
    sim_host_stop(node->host);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wound_directory sound;
    struct fuzz_node node;
    if (size < 4)
        return 0;
    logger_set(LOGGER_OFF, NULL, NULL, false);
    if (sound.count == 0)
        node_capture(&sound);
    bool seal = (data[1] & FLAG_SEAL) != 0;
    struct wound wound = {
        .name = wounded[data[0] % ARRAY_LEN(wounded)],
        .place = get_u16(data + 2),
        .dense = (data[1] & WOUND_DENSE) != 0,
        .with = {data + 4, size - 4},
    };
    node_begin(&node);
    node_restore(&node, &sound, &wound, seal);
    if (node_open(&node) == ERR_OK) {
        node_check_loaded(&node);
        node_check_vote(&node, seal);
        node_go_on(&node);
        uint64_t last = store_last(&node.store);
        node_close(&node, false);
        err_t err = node_open(&node);
        ASSERT(err == ERR_OK);
        ASSERT(store_last(&node.store) == last);
        node_check_loaded(&node);
    }
    node_close(&node, false);
    node_end(&node);
    return 0;
}
