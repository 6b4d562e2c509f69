#include "quorum/messages.h"

#include <stdlib.h>

#include "base/canary.h"
#include "quorum/entry.h"
#include "quorum/snapshot.h"

/* ---- out ---- */

unsigned messages_entries_fit(const struct raft_entry *entries, unsigned count, size_t bytes_max)
{
    size_t bytes = 0;
    unsigned fit = 0;
    while (fit < count && fit < MESSAGE_ENTRIES_MAX) {
        bytes += entries[fit].buf.len;
        if (fit > 0 && bytes > bytes_max)
            break;
        fit++;
    }
    return fit;
}

static struct frame *pack(const Karst__RaftMessage *packed)
{
    return wire_frame(&(struct wire_frame_args){
        .kind = WIRE_ONEWAY,
        .method = WIRE_RAFT,
        .message = &packed->base,
    });
}

static Karst__RaftMessage begin(const struct raft_message *message, node_id_t from)
{
    Karst__RaftMessage packed = KARST__RAFT_MESSAGE__INIT;
    packed.type = message->type;
    packed.from = from;
    packed.to = members_node(message->server_id);
    return packed;
}

#define SET(packed, field, value) ((packed).has_##field = true, (packed).field = (value))

static struct frame *encode_append_entries(const struct raft_message *message, node_id_t from,
                                           uint64_t sent_ns)
{
    const struct raft_append_entries *args = &message->append_entries;
    Karst__RaftMessage packed = begin(message, from);
    packed.term = args->term;
    SET(packed, prev_log_index, args->prev_log_index);
    SET(packed, prev_log_term, args->prev_log_term);
    SET(packed, leader_commit, args->leader_commit);
    SET(packed, sent_ns, sent_ns);
    if (args->n_entries == 0)
        return pack(&packed);

    Karst__RaftEntry *entries = malloc(args->n_entries * sizeof *entries);
    Karst__RaftEntry **pointers = malloc(args->n_entries * sizeof *pointers);
    struct frame *frame = NULL;
    if (entries != NULL && pointers != NULL) {
        for (unsigned i = 0; i < args->n_entries; i++) {
            const struct raft_entry *entry = &args->entries[i];
            entries[i] = (Karst__RaftEntry)KARST__RAFT_ENTRY__INIT;
            entries[i].term = entry->term;
            entries[i].type = entry->type;
            entries[i].data = (ProtobufCBinaryData){entry->buf.len, entry->buf.base};
            pointers[i] = &entries[i];
        }
        packed.n_entries = args->n_entries;
        packed.entries = pointers;
        frame = pack(&packed);
    }
    free(entries);
    free(pointers);
    return frame;
}

struct frame *messages_encode(const struct raft_message *message, node_id_t from, uint64_t sent_ns)
{
    Karst__RaftMessage packed = begin(message, from);
    switch (message->type) {
    case RAFT_IO_APPEND_ENTRIES:
        return encode_append_entries(message, from, sent_ns);
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        packed.term = message->append_entries_result.term;
        SET(packed, rejected, message->append_entries_result.rejected);
        SET(packed, last_log_index, message->append_entries_result.last_log_index);
        SET(packed, sent_ns, sent_ns);
        break;
    case RAFT_IO_REQUEST_VOTE:
        packed.term = message->request_vote.term;
        SET(packed, last_log_index, message->request_vote.last_log_index);
        SET(packed, last_log_term, message->request_vote.last_log_term);
        SET(packed, disrupt_leader, message->request_vote.disrupt_leader);
        SET(packed, pre_vote, message->request_vote.pre_vote);
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        packed.term = message->request_vote_result.term;
        SET(packed, vote_granted, message->request_vote_result.vote_granted);
        SET(packed, pre_vote_result, (uint32_t)message->request_vote_result.pre_vote);
        break;
    default:
        ASSERT(message->type == RAFT_IO_TIMEOUT_NOW);
        packed.term = message->timeout_now.term;
        SET(packed, last_log_index, message->timeout_now.last_log_index);
        SET(packed, last_log_term, message->timeout_now.last_log_term);
        break;
    }
    return pack(&packed);
}

struct frame *messages_encode_piece(const struct raft_message *message, node_id_t from, size_t at,
                                    size_t len)
{
    const struct raft_install_snapshot *args = &message->install_snapshot;
    Karst__RaftServer servers[MEMBERS_MAX];
    Karst__RaftServer *pointers[MEMBERS_MAX];
    ASSERT(args->conf.n <= MEMBERS_MAX);
    Karst__RaftMessage packed = begin(message, from);
    packed.term = args->term;
    for (unsigned i = 0; i < args->conf.n; i++) {
        servers[i] = (Karst__RaftServer)KARST__RAFT_SERVER__INIT;
        servers[i].node_id = members_node(args->conf.servers[i].id);
        servers[i].address = args->conf.servers[i].address;
        servers[i].role = (uint32_t)args->conf.servers[i].role;
        pointers[i] = &servers[i];
    }
    packed.n_servers = args->conf.n;
    packed.servers = pointers;
    SET(packed, snapshot_index, args->last_index);
    SET(packed, snapshot_term, args->last_term);
    SET(packed, configuration_index, args->conf_index);
    SET(packed, snapshot_bytes, args->data.len);
    SET(packed, piece_at, at);
    packed.has_piece = true;
    packed.piece = (ProtobufCBinaryData){len, (uint8_t *)args->data.base + at};
    return pack(&packed);
}

/* ---- in ---- */

err_t messages_unpack(const struct frame *frame, struct arena *arena,
                      const Karst__RaftMessage **ret_packed)
{
    struct wire_header header;
    if (wire_decode_header(frame, &header) != ERR_OK || header.method != WIRE_RAFT)
        return ERR_INVALID_REQUEST;
    ProtobufCMessage *message = NULL;
    err_t err = wire_unpack(&karst__raft_message__descriptor, wire_message(frame, &header), arena,
                            &message);
    if (err != ERR_OK)
        return err;
    const Karst__RaftMessage *packed = (const Karst__RaftMessage *)(const void *)message;
    if (packed->type < RAFT_IO_APPEND_ENTRIES || packed->type > RAFT_IO_TIMEOUT_NOW ||
        packed->from < 0 || packed->to < 0 || packed->term == 0 || packed->term > INT32_MAX)
        return ERR_INVALID_REQUEST;
    *ret_packed = packed;
    return ERR_OK;
}

static bool entries_legal(const Karst__RaftMessage *packed, size_t *ret_bytes)
{
    uint64_t term = packed->prev_log_term;
    size_t bytes = 0;
    if (packed->n_entries > MESSAGE_ENTRIES_MAX ||
        packed->prev_log_index > INT64_MAX - MESSAGE_ENTRIES_MAX)
        return false;
    for (size_t i = 0; i < packed->n_entries; i++) {
        const Karst__RaftEntry *from = packed->entries[i];
        struct entry entry = {
            .index = packed->prev_log_index + 1 + i,
            .term = from->term,
            .type = from->type,
            .data = {from->data.data, from->data.len},
        };
        if (!entry_legal(&entry) || entry.term > packed->term ||
            (entry.term < term && !CANARY("quorum_entries_in_any_order")))
            return false;
        term = entry.term;
        bytes += entry.data.len;
    }
    *ret_bytes = bytes;
    return true;
}

static err_t entries_to_raft(const Karst__RaftMessage *packed, struct raft_append_entries *args)
{
    size_t bytes = 0;
    if (!entries_legal(packed, &bytes))
        return ERR_INVALID_REQUEST;
    args->n_entries = (unsigned)packed->n_entries;
    args->entries = NULL;
    if (packed->n_entries == 0)
        return ERR_OK;
    uint8_t *batch = raft_malloc(bytes);
    args->entries = raft_calloc(packed->n_entries, sizeof *args->entries);
    if (batch == NULL || args->entries == NULL) {
        raft_free(batch);
        raft_free(args->entries);
        return ERR_NO_MEMORY;
    }
    uint8_t *at = batch;
    for (size_t i = 0; i < packed->n_entries; i++) {
        const Karst__RaftEntry *from = packed->entries[i];
        memcpy(at, from->data.data, from->data.len);
        args->entries[i] = (struct raft_entry){
            .term = from->term,
            .type = (unsigned short)from->type,
            .buf = {at, from->data.len},
            .batch = batch,
        };
        at += from->data.len;
    }
    return ERR_OK;
}

err_t messages_to_raft(const Karst__RaftMessage *packed, struct raft_message *ret_message)
{
    struct raft_message message = {
        .type = (unsigned short)packed->type,
        .server_id = members_raft_id(packed->from),
    };
    switch (packed->type) {
    case RAFT_IO_APPEND_ENTRIES: {
        message.append_entries.term = packed->term;
        message.append_entries.prev_log_index = packed->prev_log_index;
        message.append_entries.prev_log_term = packed->prev_log_term;
        message.append_entries.leader_commit = packed->leader_commit;
        err_t err = entries_to_raft(packed, &message.append_entries);
        if (err != ERR_OK)
            return err;
        break;
    }
    case RAFT_IO_APPEND_ENTRIES_RESULT:
        message.append_entries_result.term = packed->term;
        message.append_entries_result.rejected = packed->rejected;
        message.append_entries_result.last_log_index = packed->last_log_index;
        break;
    case RAFT_IO_REQUEST_VOTE:
        message.request_vote.term = packed->term;
        message.request_vote.candidate_id = message.server_id;
        message.request_vote.last_log_index = packed->last_log_index;
        message.request_vote.last_log_term = packed->last_log_term;
        message.request_vote.disrupt_leader = packed->disrupt_leader;
        message.request_vote.pre_vote = packed->pre_vote;
        break;
    case RAFT_IO_REQUEST_VOTE_RESULT:
        if (packed->pre_vote_result > raft_tribool_false)
            return ERR_INVALID_REQUEST;
        message.request_vote_result.term = packed->term;
        message.request_vote_result.vote_granted = packed->vote_granted;
        message.request_vote_result.pre_vote = (raft_tribool)packed->pre_vote_result;
        break;
    case RAFT_IO_TIMEOUT_NOW:
        message.timeout_now.term = packed->term;
        message.timeout_now.last_log_index = packed->last_log_index;
        message.timeout_now.last_log_term = packed->last_log_term;
        break;
    default:
        return ERR_INVALID_REQUEST;
    }
    *ret_message = message;
    return ERR_OK;
}

void messages_drop(struct raft_message *message)
{
    if (message->type == RAFT_IO_APPEND_ENTRIES && message->append_entries.n_entries > 0) {
        raft_free(message->append_entries.entries[0].batch);
        raft_free(message->append_entries.entries);
    } else if (message->type == RAFT_IO_INSTALL_SNAPSHOT) {
        raft_configuration_close(&message->install_snapshot.conf);
        raft_free(message->install_snapshot.data.base);
    }
}

/* ---- a snapshot in pieces ---- */

void messages_assembly_drop(struct messages_assembly *assembly)
{
    raft_free(assembly->data);
    *assembly = (struct messages_assembly){0};
}

static bool same_snapshot(const struct messages_assembly *assembly,
                          const Karst__RaftMessage *packed)
{
    return assembly->data != NULL && assembly->from == packed->from &&
           assembly->term == packed->term && assembly->index == packed->snapshot_index &&
           assembly->snapshot_term == packed->snapshot_term &&
           assembly->bytes == packed->snapshot_bytes;
}

static bool assembly_begin(struct messages_assembly *assembly, const Karst__RaftMessage *packed)
{
    messages_assembly_drop(assembly);
    if (packed->snapshot_bytes == 0 || packed->snapshot_bytes > SNAPSHOT_BYTES_MAX ||
        packed->snapshot_index == 0 || packed->snapshot_index > INT64_MAX ||
        packed->snapshot_term == 0 || packed->snapshot_term > packed->term)
        return false;
    assembly->data = raft_malloc(packed->snapshot_bytes);
    assembly->bytes = assembly->missing = packed->snapshot_bytes;
    assembly->from = packed->from;
    assembly->term = packed->term;
    assembly->index = packed->snapshot_index;
    assembly->snapshot_term = packed->snapshot_term;
    return assembly->data != NULL;
}

static bool servers_to_raft(const Karst__RaftMessage *packed,
                            struct raft_configuration *configuration)
{
    if (packed->n_servers == 0 || packed->n_servers > MEMBERS_MAX)
        return false;
    for (size_t i = 0; i < packed->n_servers; i++) {
        const Karst__RaftServer *server = packed->servers[i];
        if (server->node_id < 0 || server->role > RAFT_SPARE ||
            strlen(server->address) >= QUORUM_ADDRESS_MAX ||
            raft_configuration_add(configuration, members_raft_id(server->node_id), server->address,
                                   (int)server->role) != 0)
            return false;
    }
    return true;
}

/* Another snapshot than the one under way: of a newer term, or a later one of this term, or when
 * nothing more comes of the other. */
static bool supersedes(const struct messages_assembly *assembly, const Karst__RaftMessage *packed,
                       uint64_t now_ns, uint64_t timeout_ns)
{
    return assembly->data == NULL || now_ns - assembly->touched_ns > timeout_ns ||
           packed->term > assembly->term ||
           (packed->term == assembly->term && packed->snapshot_index > assembly->index);
}

/* False: no piece of this snapshot. */
static bool take_piece(struct messages_assembly *assembly, const Karst__RaftMessage *packed)
{
    uint64_t at = packed->piece_at;
    if (at >= assembly->bytes || at % MESSAGE_PIECE_BYTES != 0)
        return false;
    uint64_t len = assembly->bytes - at;
    if (len > MESSAGE_PIECE_BYTES)
        len = MESSAGE_PIECE_BYTES;
    if (packed->piece.len != len)
        return false;
    uint64_t nth = at / MESSAGE_PIECE_BYTES;
    uint8_t bit = (uint8_t)(1u << nth % 8);
    if (assembly->have[nth / 8] & bit)
        return true;
    assembly->have[nth / 8] |= bit;
    memcpy(assembly->data + at, packed->piece.data, len);
    assembly->missing -= len;
    return true;
}

bool messages_assemble(struct messages_assembly *assembly, const Karst__RaftMessage *packed,
                       uint64_t now_ns, uint64_t timeout_ns, struct raft_message *ret_message)
{
    static_assert((uint64_t)MESSAGE_PIECES_MAX * MESSAGE_PIECE_BYTES >= SNAPSHOT_BYTES_MAX,
                  "a bit for each piece");
    if (!same_snapshot(assembly, packed)) {
        if (!supersedes(assembly, packed, now_ns, timeout_ns))
            return false;
        if (!assembly_begin(assembly, packed)) {
            messages_assembly_drop(assembly);
            return false;
        }
    }
    if (!take_piece(assembly, packed))
        return false;
    assembly->touched_ns = now_ns;
    if (assembly->missing > 0)
        return false;

    struct raft_configuration configuration;
    raft_configuration_init(&configuration);
    if (!servers_to_raft(packed, &configuration)) {
        raft_configuration_close(&configuration);
        messages_assembly_drop(assembly);
        return false;
    }
    *ret_message = (struct raft_message){
        .type = RAFT_IO_INSTALL_SNAPSHOT,
        .server_id = members_raft_id(packed->from),
    };
    struct raft_install_snapshot *args = &ret_message->install_snapshot;
    args->term = packed->term;
    args->last_index = packed->snapshot_index;
    args->last_term = packed->snapshot_term;
    args->conf = configuration;
    args->conf_index = packed->configuration_index;
    args->data = (struct raft_buffer){assembly->data, assembly->bytes};
    *assembly = (struct messages_assembly){0};
    return true;
}
