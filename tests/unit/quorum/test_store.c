#include "quorum/store.h"

#include <stdlib.h>

#include "base/logger.h"
#include "lib/check_main.h"
#include "quorum/messages.h"
#include "quorum/vote.h"
#include "sim/sim_world.h"

/* One actor with a disk, and nobody in it. */
struct store_lab {
    struct sim_world world;
    struct sim_host *host;
    struct sim_disk *disk;
    struct env *env;
    struct store store;
    struct store_loaded loaded;
};

static void ignore_flushed(void *owner, offset_t flushed_end, err_t err)
{
    (void)owner;
    (void)flushed_end;
    ck_assert_int_eq(err, ERR_OK);
}

static void ignore_mail(void *actor, void *message)
{
    (void)actor;
    (void)message;
}

static struct log_options small_segments = {.segment_bytes = 4096,
                                            .index_interval_bytes = 1024,
                                            .preallocate_bytes = 4096,
                                            .written_zeros = true};

static err_t lab_open(struct store_lab *lab)
{
    sim_host_boot(lab->host, 1);
    lab->env = sim_host_env(lab->host, 0);
    lab->env->upcalls.mail = ignore_mail;
    return store_open(lab->env, &small_segments, (struct log_upcalls){.flushed = ignore_flushed},
                      &lab->store, &lab->loaded);
}

static void lab_close(struct store_lab *lab, bool power_cut)
{
    store_close(&lab->store, false);
    store_loaded_fini(&lab->loaded);
    if (power_cut)
        sim_disk_power_cut(lab->disk);
    else
        sim_disk_kill(lab->disk);
    sim_host_stop(lab->host);
}

static struct store_lab *lab_new(void)
{
    struct store_lab *lab = calloc(1, sizeof *lab);
    uint64_t seed = check_main_seed();
    logger_set(LOGGER_OFF, NULL, NULL, false);
    sim_world_init(&lab->world, seed);
    lab->disk = sim_disk_new(
        &(struct sim_disk_options){.seed = seed, .sync_ns_min = 1000, .sync_ns_max = 100000});
    lab->host = sim_host_add(&lab->world);
    lab->host->disk = lab->disk;
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    return lab;
}

static void lab_free(struct store_lab *lab)
{
    lab_close(lab, false);
    sim_world_fini(&lab->world);
    sim_disk_free(lab->disk);
    free(lab);
}

static void settle(struct store_lab *lab)
{
    sim_run_until(&lab->world, lab->world.now_ns + ENV_MS(10));
}

/* The contents of entry index: its length and bytes follow from index and term. */
static struct bytes contents(uint64_t index, uint64_t term, uint8_t into[512])
{
    size_t len = index * 7 % 300;
    uint8_t raw[300];
    memset(raw, (int)(index + 3 * term), len);
    entry_pad((struct bytes){raw, len}, into);
    return (struct bytes){into, entry_padded_bytes(len)};
}

static void append(struct store_lab *lab, uint64_t term, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        uint8_t data[512];
        uint64_t index = store_last(&lab->store) + 1;
        struct entry entry = {.index = index,
                              .term = term,
                              .type = ENTRY_COMMAND,
                              .data = contents(index, term, data)};
        ck_assert_int_eq(store_append(&lab->store, &entry, 1), ERR_OK);
    }
    settle(lab);
    ck_assert_uint_eq(store_flushed(&lab->store), store_last(&lab->store));
}

static void check_loaded(const struct store_lab *lab, uint64_t first, uint64_t last)
{
    const struct store_loaded *loaded = &lab->loaded;
    ck_assert_uint_eq(store_last(&lab->store), last);
    ck_assert_uint_eq(loaded->entry_count, last + 1 - first);
    for (size_t i = 0; i < loaded->entry_count; i++) {
        const struct entry *entry = &loaded->entries[i];
        uint8_t data[512];
        struct bytes expected = contents(entry->index, entry->term, data);
        ck_assert_uint_eq(entry->index, first + i);
        ck_assert_uint_eq(entry->term, store_term(&lab->store, entry->index));
        ck_assert_uint_eq(entry->data.len, expected.len);
        ck_assert_mem_eq(entry->data.data, expected.data, expected.len);
        struct bytes raw;
        ck_assert_int_eq(entry_unpad(entry->data, &raw), ERR_OK);
        ck_assert_uint_eq(raw.len, entry->index * 7 % 300); /* the padding is no part of it */
    }
}

START_TEST(entries_of_all_lengths_survive_a_power_cut)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 100);
    append(lab, 4, 100);
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 1, 200);
    ck_assert_uint_eq(store_term(&lab->store, 100), 1);
    ck_assert_uint_eq(store_term(&lab->store, 101), 4);
    ck_assert_uint_eq(store_term(&lab->store, 201), 0);
    lab_free(lab);
}
END_TEST

START_TEST(what_is_cut_off_is_gone_for_good)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 60);
    append(lab, 2, 60);
    ck_assert_int_eq(store_truncate(&lab->store, 70), ERR_OK);
    append(lab, 3, 10);
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 1, 79);
    ck_assert_uint_eq(store_term(&lab->store, 69), 2);
    ck_assert_uint_eq(store_term(&lab->store, 70), 3);
    lab_free(lab);
}
END_TEST

/* ---- rot and torn tails ---- */

struct place {
    uint64_t segment, at;
};

/* Where in the segments the entry lies: the middle of its batch. */
static struct place find_entry(struct store_lab *lab, uint64_t index)
{
    static uint8_t data[1 << 16];
    for (uint64_t base = index; base > 0; base--) {
        char name[64];
        env_file file;
        size_t got = 0;
        struct env_disk *disk = &lab->env->disks[0];
        (void)snprintf(name, sizeof name, STORE_DIRECTORY "/%020llu.log", (unsigned long long)base);
        if (disk->open(disk->self, name, 0, &file) != ERR_OK)
            continue;
        ck_assert_int_eq(disk->read(disk->self, file, 0, data, sizeof data, &got), ERR_OK);
        disk->close(disk->self, file);
        struct batch_info info;
        for (size_t at = 0; batch_peek(data + at, got - at, &info) == ERR_OK; at += info.bytes)
            if (info.base_offset == (offset_t)index)
                return (struct place){base, at + info.bytes / 2};
    }
    ck_abort_msg("entry %llu is not there", (unsigned long long)index);
}

static void rot(struct store_lab *lab, uint64_t index)
{
    struct place place = find_entry(lab, index);
    char name[64];
    (void)snprintf(name, sizeof name, STORE_DIRECTORY "/%020llu.log",
                   (unsigned long long)place.segment);
    ck_assert_int_eq(sim_disk_rot(lab->disk, name, place.at, 0x10), ERR_OK);
}

START_TEST(a_bad_entry_that_was_durable_is_refused)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 40);
    append(lab, 1, 1); /* says that 40 is durable */
    rot(lab, 20);
    lab_close(lab, false);
    ck_assert_int_eq(lab_open(lab), ERR_CORRUPT);
    lab_close(lab, false);
    ck_assert_int_eq(lab_open(lab), ERR_CORRUPT); /* and nothing was cut meanwhile */
    lab_free(lab);
}
END_TEST

START_TEST(the_first_look_tells_rot_from_a_torn_tail)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 4);
    struct env_disk *disk = &lab->env->disks[0];
    ck_assert_int_eq(store_inspect(disk), ERR_OK);
    /* Ten at once: none of them knows that another is durable. */
    struct entry entries[10];
    uint8_t data[10][512];
    for (unsigned i = 0; i < 10; i++)
        entries[i] = (struct entry){
            .index = 5 + i, .term = 1, .type = ENTRY_COMMAND, .data = contents(5 + i, 1, data[i])};
    ck_assert_int_eq(store_append(&lab->store, entries, 10), ERR_OK);
    settle(lab);
    rot(lab, 7);
    ck_assert_int_eq(store_inspect(disk), ERR_OK); /* it may be torn, with good ones behind it */
    rot(lab, 7);
    ck_assert_int_eq(store_inspect(disk), ERR_OK); /* as it was */
    append(lab, 1, 1);                             /* says that 14 is durable */
    rot(lab, 7);
    ck_assert_int_eq(store_inspect(disk), ERR_CORRUPT);
    rot(lab, 7);
    rot(lab, 15);
    ck_assert_int_eq(store_inspect(disk), ERR_OK); /* nobody says that the last one was */
    lab_free(lab);
}
END_TEST

START_TEST(an_entry_at_another_place_is_refused)
{
    uint8_t data[512];
    uint8_t batch[1024];
    struct entry entry = {
        .index = 9, .term = 3, .type = ENTRY_COMMAND, .data = contents(9, 3, data)};
    size_t bytes = entry_encode(&entry, 0, batch);
    struct batch_info info;
    struct entry decoded;
    ck_assert_int_eq(batch_check(batch, bytes, &info), ERR_OK);
    ck_assert_int_eq(entry_decode(&info, batch, &decoded), ERR_OK);
    ck_assert_uint_eq(decoded.index, 9);
    batch_patch(batch, 10, 3); /* outside the CRC */
    ck_assert_int_eq(batch_check(batch, bytes, &info), ERR_OK);
    ck_assert_int_eq(entry_decode(&info, batch, &decoded), ERR_CORRUPT);
    batch_patch(batch, 9, 4);
    ck_assert_int_eq(batch_check(batch, bytes, &info), ERR_OK);
    ck_assert_int_eq(entry_decode(&info, batch, &decoded), ERR_CORRUPT);
}
END_TEST

/* ---- snapshots ---- */

static void count_written(void *owner, err_t err)
{
    ck_assert_int_eq(err, ERR_OK);
    ++*(unsigned *)owner;
}

static void write_snapshot(struct store_lab *lab, uint64_t index, uint64_t term)
{
    struct snapshot_head head = {.index = index, .term = term, .cluster_id = {{5}}};
    head.members.index = 1;
    head.members.count = 1;
    head.members.list[0].id = 1;
    head.members.list[0].role = RAFT_VOTER;
    (void)snprintf(head.members.list[0].address, QUORUM_ADDRESS_MAX, "host:1");
    struct bytes parts[2] = {{(const uint8_t *)"ima", 3}, {(const uint8_t *)"ge", 2}};
    struct bytes file;
    file.data = snapshot_encode(&head, parts, 2, &file.len);
    unsigned written = 0;
    struct snapshot_write *write;
    ck_assert_int_eq(
        snapshot_write_start(lab->store.disk, index, term, file, count_written, &written, &write),
        ERR_OK);
    settle(lab);
    ck_assert_uint_eq(written, 1);
}

START_TEST(a_snapshot_lets_the_log_before_it_go)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 150);
    append(lab, 2, 50);
    write_snapshot(lab, 180, 2);
    ck_assert_int_eq(store_snapshot_taken(&lab->store, 180, 2, 160), ERR_OK);
    uint64_t first = store_first(&lab->store);
    ck_assert_uint_gt(first, 1);
    ck_assert_uint_le(first, 160);
    ck_assert_uint_eq(store_term(&lab->store, first), first <= 150 ? 1 : 2);
    write_snapshot(lab, 190, 2);
    ck_assert_int_eq(store_snapshot_taken(&lab->store, 190, 2, 190), ERR_OK);
    first = store_first(&lab->store);
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, first, 200);
    ck_assert_uint_eq(lab->loaded.head.index, 190);
    ck_assert_uint_eq(lab->loaded.image.len, 5);
    ck_assert_mem_eq(lab->loaded.image.data, "image", 5);
    ck_assert_str_eq(lab->loaded.head.members.list[0].address, "host:1");
    uint64_t index = 0;
    uint64_t term = 0;
    uint8_t *file = NULL;
    size_t len = 0;
    ck_assert_int_eq(snapshot_find(lab->store.disk, &index, &term), ERR_OK);
    ck_assert_uint_eq(index, 190);
    ck_assert_int_eq(snapshot_read(lab->store.disk, 180, 2, &file, &len), ERR_NOT_FOUND);
    lab_free(lab);
}
END_TEST

/* R24: a crash between the rename of an installed snapshot and the reset of the log. */
START_TEST(a_log_that_lacks_the_snapshots_entry_is_discarded_whole)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 50);
    write_snapshot(lab, 40, 3); /* the log has (40, 1) */
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 41, 40);
    ck_assert_uint_eq(store_term(&lab->store, 40), 3);
    append(lab, 3, 10);
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 41, 50);
    write_snapshot(lab, 90, 3); /* beyond the log's end */
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 91, 90);
    lab_free(lab);
}
END_TEST

START_TEST(a_log_that_contains_the_snapshots_entry_is_kept)
{
    struct store_lab *lab = lab_new();
    append(lab, 1, 50);
    write_snapshot(lab, 40, 1);
    lab_close(lab, true);
    ck_assert_int_eq(lab_open(lab), ERR_OK);
    check_loaded(lab, 1, 50);
    lab_free(lab);
}
END_TEST

/* ---- term and vote ---- */

START_TEST(a_torn_vote_leaves_the_one_before)
{
    struct store_lab *lab = lab_new();
    struct env_disk *disk = &lab->env->disks[0];
    struct vote_file vote = {.disk = NULL};
    ck_assert_int_eq(vote_open(disk, &vote), ERR_NOT_FOUND);
    ck_assert_int_eq(vote_create(disk, 1), ERR_OK);
    ck_assert_int_eq(vote_open(disk, &vote), ERR_OK);
    for (uint64_t term = 2; term < 20; term++)
        ck_assert_int_eq(vote_write(&vote, term, term % 3 + 1), ERR_OK);
    uint64_t newest = (vote.sequence % 2) * 4096;
    vote_close(&vote);
    ck_assert_int_eq(sim_disk_rot(lab->disk, STORE_DIRECTORY "/quorum-state", newest + 17, 1),
                     ERR_OK);
    ck_assert_int_eq(vote_open(disk, &vote), ERR_OK);
    ck_assert_uint_eq(vote.term, 18);
    ck_assert_uint_eq(vote.vote, 18 % 3 + 1);
    vote_close(&vote);
    ck_assert_int_eq(
        sim_disk_rot(lab->disk, STORE_DIRECTORY "/quorum-state", 4096 - newest + 17, 1), ERR_OK);
    ck_assert_int_eq(vote_open(disk, &vote), ERR_CORRUPT);
    lab_free(lab);
}
END_TEST

/* ---- decoders are total ---- */

static void decode_all(struct bytes bytes, struct arena *arena)
{
    struct bytes part;
    struct members members;
    struct snapshot_head head;
    struct batch_info info;
    struct entry entry;
    (void)entry_unpad(bytes, &part);
    (void)members_decode(bytes, &members);
    (void)snapshot_decode(bytes, &head, &part);
    if (batch_check_crc(bytes.data, bytes.len, &info) == ERR_OK)
        (void)entry_decode(&info, bytes.data, &entry);
    struct frame *frame = frame_new(WIRE_HEADER_BYTES + bytes.len);
    memset(frame->bytes, 0, WIRE_HEADER_BYTES);
    put_u32(frame->bytes, (uint32_t)(WIRE_HEADER_BYTES + bytes.len - 4));
    frame->bytes[4] = WIRE_ONEWAY;
    frame->bytes[5] = WIRE_VERSION;
    put_u16(frame->bytes + 6, WIRE_RAFT);
    put_u32(frame->bytes + 12, (uint32_t)bytes.len);
    memcpy(frame->bytes + WIRE_HEADER_BYTES, bytes.data, bytes.len);
    frame->used = (uint32_t)(WIRE_HEADER_BYTES + bytes.len);
    const Karst__RaftMessage *packed;
    struct raft_message message;
    struct messages_assembly assembly = {0};
    arena_reset(arena);
    if (messages_unpack(frame, arena, &packed) == ERR_OK) {
        if (messages_to_raft(packed, &message) == ERR_OK)
            messages_drop(&message);
        if (packed->type == RAFT_IO_INSTALL_SNAPSHOT && packed->snapshot_bytes < 1 << 20 &&
            messages_assemble(&assembly, packed, 1, 1000, &message))
            messages_drop(&message);
        messages_assembly_drop(&assembly);
    }
    frame_unref(frame);
}

START_TEST(decoders_take_any_bytes)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    struct arena arena;
    arena_init(&arena, 16 << 20);
    uint8_t data[512];
    uint8_t seeds[3][1024];
    size_t lens[3];
    struct entry entry = {
        .index = 9, .term = 3, .type = ENTRY_COMMAND, .data = contents(9, 3, data)};
    lens[0] = entry_encode(&entry, 0, seeds[0]);
    uint8_t zeros[8] = {0};
    Karst__RaftEntry item = KARST__RAFT_ENTRY__INIT;
    item.term = 2;
    item.type = 2;
    item.data = (ProtobufCBinaryData){sizeof zeros, zeros};
    Karst__RaftEntry *items[] = {&item};
    Karst__RaftMessage message = KARST__RAFT_MESSAGE__INIT;
    message.type = 1;
    message.term = 3;
    message.n_entries = 1;
    message.entries = items;
    lens[1] = karst__raft_message__pack(&message, seeds[1]);
    char host[] = "h:1";
    Karst__RaftServer server = KARST__RAFT_SERVER__INIT;
    server.address = host;
    server.role = 1;
    Karst__RaftServer *servers[] = {&server};
    message.type = RAFT_IO_INSTALL_SNAPSHOT;
    message.n_entries = 0;
    message.n_servers = 1;
    message.servers = servers;
    message.has_snapshot_index = message.has_snapshot_term = message.has_snapshot_bytes = true;
    message.has_piece = true;
    message.snapshot_index = message.snapshot_term = 2;
    message.snapshot_bytes = 8;
    message.piece = item.data;
    lens[2] = karst__raft_message__pack(&message, seeds[2]);
    for (unsigned round = 0; round < 60000; round++) {
        unsigned which = (unsigned)rng_below(&rng, 3);
        uint8_t bytes[1024];
        memcpy(bytes, seeds[which], lens[which]);
        for (uint64_t flips = rng_below(&rng, 4); flips > 0; flips--)
            bytes[rng_below(&rng, lens[which])] = (uint8_t)rng_next(&rng);
        decode_all((struct bytes){bytes, rng_between(&rng, 1, lens[which])}, &arena);
        decode_all((struct bytes){bytes, lens[which]}, &arena);
    }
    arena_fini(&arena);
}
END_TEST

CHECK_MAIN("quorum/store", entries_of_all_lengths_survive_a_power_cut,
           what_is_cut_off_is_gone_for_good, a_bad_entry_that_was_durable_is_refused,
           the_first_look_tells_rot_from_a_torn_tail, an_entry_at_another_place_is_refused,
           a_snapshot_lets_the_log_before_it_go,
           a_log_that_lacks_the_snapshots_entry_is_discarded_whole,
           a_log_that_contains_the_snapshots_entry_is_kept, a_torn_vote_leaves_the_one_before,
           decoders_take_any_bytes)
