/* Raft's messages and configurations as bytes: what is malformed is refused, field by field. */
#include <stdio.h>
#include <string.h>

#include "lib/check_main.h"
#include "proto/rpc.pb-c.h"
#include "quorum/messages.h"
#include "wire/wire.h"

static struct arena arena;

static err_t unpacks(const Karst__RaftMessage *message, uint16_t method)
{
    const Karst__RaftMessage *packed;
    struct frame *frame = wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY, .method = method, .message = &message->base});
    arena_reset(&arena);
    err_t err = messages_unpack(frame, &arena, &packed);
    frame_unref(frame);
    return err;
}

static Karst__RaftMessage message_of(int type)
{
    Karst__RaftMessage message = KARST__RAFT_MESSAGE__INIT;
    message.type = (uint32_t)type;
    message.from = 1;
    message.to = 2;
    message.term = 5;
    return message;
}

START_TEST(a_message_names_its_kind_its_ends_and_its_term)
{
    arena_init(&arena, 1 << 20);
    Karst__RaftMessage message = message_of(RAFT_IO_REQUEST_VOTE);
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_OK);
    ck_assert_int_eq(unpacks(&message, WIRE_REPLICA_FETCH), ERR_INVALID_REQUEST);
    message.type = RAFT_IO_TIMEOUT_NOW + 1;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    message.type = 0;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    message = message_of(RAFT_IO_REQUEST_VOTE);
    message.from = -1;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    message = message_of(RAFT_IO_REQUEST_VOTE);
    message.to = -1;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    message = message_of(RAFT_IO_REQUEST_VOTE);
    message.term = 0;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    message.term = UINT64_C(1) << 31;
    ck_assert_int_eq(unpacks(&message, WIRE_RAFT), ERR_INVALID_REQUEST);
    arena_fini(&arena);
}
END_TEST

/* ---- snapshots in pieces ---- */

static uint8_t bytes[2 * MESSAGE_PIECE_BYTES];
static char text[QUORUM_ADDRESS_MAX + 1];

static Karst__RaftMessage piece_of(size_t size, size_t at)
{
    static Karst__RaftServer server, *servers = &server;
    Karst__RaftMessage message = message_of(RAFT_IO_INSTALL_SNAPSHOT);
    server = (Karst__RaftServer)KARST__RAFT_SERVER__INIT;
    server.node_id = 1;
    server.role = RAFT_VOTER;
    server.address = (char *)(uintptr_t) "here:9001";
    message.snapshot_bytes = size;
    message.snapshot_index = 7;
    message.snapshot_term = 3;
    message.piece_at = at;
    message.piece.data = bytes;
    message.piece.len = size - at < MESSAGE_PIECE_BYTES ? size - at : MESSAGE_PIECE_BYTES;
    message.n_servers = 1;
    message.servers = &servers;
    return message;
}

static bool assembles(struct messages_assembly *assembly, const Karst__RaftMessage *piece)
{
    struct raft_message whole;
    if (!messages_assemble(assembly, piece, 1, 1000, &whole))
        return false;
    raft_configuration_close(&whole.install_snapshot.conf);
    raft_free(whole.install_snapshot.data.base);
    return true;
}

#define REFUSED_PIECE(...)                                                                         \
    do {                                                                                           \
        struct messages_assembly assembly = {0};                                                   \
        Karst__RaftMessage piece = piece_of(100, 0);                                               \
        __VA_ARGS__;                                                                               \
        ck_assert(!assembles(&assembly, &piece));                                                  \
        messages_assembly_drop(&assembly);                                                         \
    } while (0)

START_TEST(a_piece_of_no_snapshot_is_dropped)
{
    memset(text, 'x', sizeof(text) - 1);
    REFUSED_PIECE(piece.snapshot_bytes = 0);
    REFUSED_PIECE(piece.snapshot_bytes = UINT64_MAX);
    REFUSED_PIECE(piece.snapshot_index = 0);
    REFUSED_PIECE(piece.snapshot_index = UINT64_MAX);
    REFUSED_PIECE(piece.snapshot_term = 0);
    REFUSED_PIECE(piece.snapshot_term = 6); /* above its message's */
    REFUSED_PIECE(piece.piece_at = 100);
    REFUSED_PIECE(piece.piece_at = 1);
    REFUSED_PIECE(piece.piece.len = 99);
    REFUSED_PIECE(piece.n_servers = 0);
    REFUSED_PIECE(piece.n_servers = MEMBERS_MAX + 1);
    REFUSED_PIECE(piece.servers[0]->node_id = -1);
    REFUSED_PIECE(piece.servers[0]->role = RAFT_SPARE + 1);
    REFUSED_PIECE(piece.servers[0]->address = text);
    struct messages_assembly assembly = {0};
    Karst__RaftMessage piece = piece_of(100, 0);
    ck_assert(assembles(&assembly, &piece));
}
END_TEST

START_TEST(pieces_come_in_any_order_and_a_newer_snapshot_takes_over)
{
    struct messages_assembly assembly = {0};
    Karst__RaftMessage first = piece_of(MESSAGE_PIECE_BYTES + 10, 0);
    Karst__RaftMessage second = piece_of(MESSAGE_PIECE_BYTES + 10, MESSAGE_PIECE_BYTES);
    ck_assert(!assembles(&assembly, &second));
    ck_assert(!assembles(&assembly, &second)); /* twice is once */
    Karst__RaftMessage older = second;
    older.snapshot_index = 6;
    ck_assert(!assembles(&assembly, &older));
    ck_assert_uint_eq(assembly.index, 7);
    ck_assert(assembles(&assembly, &first));
    ck_assert(!assembles(&assembly, &first));
    Karst__RaftMessage newer = first;
    newer.snapshot_index = 8;
    ck_assert(!assembles(&assembly, &newer));
    ck_assert_uint_eq(assembly.index, 8);
    newer.term = 6;
    ck_assert(!assembles(&assembly, &newer));
    ck_assert_uint_eq(assembly.term, 6);
    messages_assembly_drop(&assembly);
}
END_TEST

/* ---- addresses, configurations ---- */

START_TEST(an_address_has_a_host_and_a_port)
{
    static const char *const wrong[] = {
        "",        "here",          ":9001",   "here:",   "here:0",    "here:65536",
        "here:9x", "here:99999999", "here:-1", "here: 1", "here:/abc", "here:9001:"};
    struct quorum_address address = {0};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++)
        ck_assert_msg(!members_address_parse(wrong[i], &address), "%s", wrong[i]);
    char long_host[sizeof address.host + 8];
    memset(long_host, 'h', sizeof address.host);
    memcpy(long_host + sizeof address.host, ":9001", 6);
    ck_assert(!members_address_parse(long_host, &address));
    ck_assert(members_address_parse("[::1]:65535", &address));
    ck_assert_str_eq(address.host, "[::1]");
    ck_assert_uint_eq(address.port, 65535);

    char printed[QUORUM_ADDRESS_MAX];
    struct uuid directory = uuid_make(1, 2), read, none = {0};
    members_address_print(&address, NULL, printed);
    ck_assert(!members_address_directory(printed, &read));
    members_address_print(&address, &none, printed);
    ck_assert(!members_address_directory(printed, &read));
    members_address_print(&address, &directory, printed);
    ck_assert(members_address_directory(printed, &read));
    ck_assert(uuid_equal(&read, &directory));
    ck_assert(members_address_parse(printed, &address));
    ck_assert_uint_eq(address.port, 65535);
    ck_assert(!members_address_directory("here:9001/no-id", &read));
}
END_TEST

START_TEST(a_configuration_of_bytes_is_whole_or_refused)
{
    /* version, count (little-endian), then id, address with its NUL, role */
    uint8_t good[] = {1, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 'a', ':', '1', 0, 1};
    struct members members;
    ck_assert(members_decode((struct bytes){good, sizeof good}, &members));
    ck_assert_uint_eq(members.count, 1);
    ck_assert_str_eq(members.list[0].address, "a:1");
    for (size_t len = 0; len < sizeof good; len++)
        ck_assert(!members_decode((struct bytes){good, len}, &members));
    static const struct {
        size_t at;
        uint8_t byte;
    } wrong[] = {{0, 2}, {1, 0}, {1, MEMBERS_MAX + 1}, {9, 0}, {20, 'x'}, {21, 9}};
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        uint8_t bad[sizeof good];
        memcpy(bad, good, sizeof good);
        bad[wrong[i].at] = wrong[i].byte;
        ck_assert_msg(!members_decode((struct bytes){bad, sizeof bad}, &members), "%zu", i);
    }
}
END_TEST

START_TEST(a_configuration_of_raft_fits_or_is_refused)
{
    struct raft_configuration configuration;
    struct members members;
    memset(text, 'x', sizeof(text) - 1);
    raft_configuration_init(&configuration);
    ck_assert_int_eq(raft_configuration_add(&configuration, 1, text, RAFT_VOTER), 0);
    ck_assert(!members_from_raft(&configuration, 3, &members)); /* too long an address */
    raft_configuration_close(&configuration);
    raft_configuration_init(&configuration);
    for (unsigned i = 1; i <= MEMBERS_MAX + 1; i++) {
        char address[16];
        (void)snprintf(address, sizeof address, "h:%u", i);
        ck_assert(members_from_raft(&configuration, 3, &members));
        ck_assert_int_eq(raft_configuration_add(&configuration, i, address, RAFT_VOTER), 0);
    }
    ck_assert(!members_from_raft(&configuration, 3, &members)); /* too many */
    raft_configuration_close(&configuration);
    members.list[1] = members.list[0]; /* twice */
    raft_configuration_init(&configuration);
    ck_assert(!members_to_raft(&members, &configuration));
    raft_configuration_close(&configuration);
}
END_TEST

CHECK_MAIN("quorum/messages", a_message_names_its_kind_its_ends_and_its_term,
           a_piece_of_no_snapshot_is_dropped,
           pieces_come_in_any_order_and_a_newer_snapshot_takes_over,
           an_address_has_a_host_and_a_port, a_configuration_of_bytes_is_whole_or_refused,
           a_configuration_of_raft_fits_or_is_refused)
