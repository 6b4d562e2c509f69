/* raft's messages, one after the other, each with its length in two bytes: what becomes of them is
 * what libraft may be given, and the snapshot that comes in pieces is whole. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "fuzz/rows.h"
#include "quorum/entry.h"
#include "quorum/messages.h"
#include "wire/wire.h"

const struct rows_shape fuzz_shape = {.head = 2, .length_bytes = 2};

enum {
    SECOND = 1000000000,
    SNAPSHOT_MAX = 1 << 20, /* half a gigabyte is allowed; here it is only slow */
};

static struct frame *fuzz_frame(struct bytes packed)
{
    struct frame *frame = frame_new(WIRE_HEADER_BYTES + packed.len);
    ASSERT(frame != NULL);
    uint8_t *at = frame->bytes;
    memset(at, 0, WIRE_HEADER_BYTES);
    put_u32(at, (uint32_t)(WIRE_HEADER_BYTES - 4 + packed.len));
    at[4] = WIRE_ONEWAY;
    at[5] = WIRE_VERSION;
    put_u16(at + 6, WIRE_RAFT);
    put_u32(at + 12, (uint32_t)packed.len);
    if (packed.len > 0)
        memcpy(at + WIRE_HEADER_BYTES, packed.data, packed.len);
    frame->used = (uint32_t)(WIRE_HEADER_BYTES + packed.len);
    return frame;
}

static void fuzz_entries(const struct raft_message *message)
{
    const struct raft_append_entries *args = &message->append_entries;
    uint64_t term = args->prev_log_term;
    for (unsigned i = 0; i < args->n_entries; i++) {
        const struct raft_entry *entry = &args->entries[i];
        ASSERT(entry->term >= term);
        ASSERT(entry->term <= args->term);
        ASSERT(entry->buf.len > 0);
        ASSERT(entry->buf.len % ENTRY_ALIGN == 0);
        term = entry->term;
        if (entry->type != ENTRY_CHANGE)
            continue;
        /* libraft aborts or misbehaves over a configuration that it can not take. */
        struct members members;
        struct raft_configuration configuration;
        bool decoded = members_decode((struct bytes){entry->buf.base, entry->buf.len}, &members);
        ASSERT(decoded);
        raft_configuration_init(&configuration);
        bool taken = members_to_raft(&members, &configuration);
        ASSERT(taken);
        raft_configuration_close(&configuration);
    }
}

/* What libraft got would be sent on as it came. */
static void fuzz_round_trip(const struct raft_message *message, const Karst__RaftMessage *packed)
{
    struct frame *frame = messages_encode(message, packed->to, packed->sent_ns);
    ASSERT(frame != NULL);
    struct arena arena;
    arena_init(&arena, 4 << 20);
    const Karst__RaftMessage *again = NULL;
    if (packed->from < INT32_MAX) { /* else its raft id is no node's any more */
        err_t err = messages_unpack(frame, &arena, &again);
        ASSERT(err == ERR_OK);
        ASSERT(again->type == packed->type);
        ASSERT(again->term == packed->term);
        ASSERT(again->to == packed->from);
        ASSERT(packed->type != RAFT_IO_APPEND_ENTRIES || again->n_entries == packed->n_entries);
    }
    arena_fini(&arena);
    frame_unref(frame);
}

static void fuzz_installed(struct raft_message *message, const Karst__RaftMessage *packed)
{
    const struct raft_install_snapshot *args = &message->install_snapshot;
    ASSERT(args->data.len == packed->snapshot_bytes);
    ASSERT(args->conf.n > 0);
    ASSERT(args->conf.n <= MEMBERS_MAX);
    ASSERT(args->last_term <= args->term);
    struct members members;
    bool kept = members_from_raft(&args->conf, args->conf_index, &members);
    ASSERT(kept);
    size_t len = args->data.len < MESSAGE_PIECE_BYTES ? args->data.len : MESSAGE_PIECE_BYTES;
    struct frame *piece = messages_encode_piece(message, packed->to, 0, len);
    ASSERT(piece != NULL);
    frame_unref(piece);
    messages_drop(message);
}

static void fuzz_message(struct messages_assembly *assembly, struct bytes bytes, uint64_t now_ns)
{
    struct arena arena;
    struct frame *frame = fuzz_frame(bytes);
    const Karst__RaftMessage *packed;
    struct raft_message message;
    arena_init(&arena, 1 << 20);
    if (messages_unpack(frame, &arena, &packed) == ERR_OK) {
        if (packed->type != RAFT_IO_INSTALL_SNAPSHOT) {
            if (messages_to_raft(packed, &message) == ERR_OK) {
                if (message.type == RAFT_IO_APPEND_ENTRIES)
                    fuzz_entries(&message);
                fuzz_round_trip(&message, packed);
                messages_drop(&message);
            }
        } else if (packed->snapshot_bytes <= SNAPSHOT_MAX || packed->snapshot_bytes >> 32 > 0) {
            if (messages_assemble(assembly, packed, now_ns, SECOND, &message))
                fuzz_installed(&message, packed);
        }
    }
    arena_fini(&arena);
    frame_unref(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct messages_assembly assembly = {0};
    struct reader reader;
    uint64_t now_ns = SECOND;
    reader_init(&reader, data, size);
    while (reader_left(&reader) > 0) {
        struct bytes bytes = reader_bytes(&reader, reader_u16(&reader));
        if (reader.failed)
            break;
        fuzz_message(&assembly, bytes, now_ns);
        now_ns += SECOND / 3;
    }
    messages_assembly_drop(&assembly);
    return 0;
}
