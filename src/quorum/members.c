#include "quorum/members.h"

#include <stdio.h>

enum { ENCODING_VERSION = 1, ROLE_LAST = RAFT_SPARE };

bool members_distinct(const struct members *members)
{
    for (unsigned i = 1; i < members->count; i++)
        for (unsigned k = 0; k < i; k++)
            if (members->list[i].id == members->list[k].id ||
                strcmp(members->list[i].address, members->list[k].address) == 0)
                return false;
    return true;
}

bool members_decode(struct bytes data, struct members *ret_members)
{
    /* 1 version, 8 count (little-endian), then for each: 8 id, text with its final NUL, 1 role. */
    struct members members = {0};
    struct reader reader;
    reader_init(&reader, data.data, data.len);
    if (reader_u8(&reader) != ENCODING_VERSION)
        return false;
    uint64_t count = __builtin_bswap64(reader_u64(&reader));
    if (reader.failed || count == 0 || count > MEMBERS_MAX)
        return false;
    for (; members.count < count; members.count++) {
        struct member *member = &members.list[members.count];
        member->id = __builtin_bswap64(reader_u64(&reader));
        if (reader.failed || member->id == 0)
            return false;
        const uint8_t *end = memchr(reader.at, 0, reader_left(&reader));
        if (end == NULL || (size_t)(end - reader.at) >= sizeof member->address)
            return false;
        struct bytes text = reader_bytes(&reader, (size_t)(end + 1 - reader.at));
        memcpy(member->address, text.data, text.len);
        member->role = reader_u8(&reader);
        if (reader.failed || member->role > ROLE_LAST)
            return false;
    }
    if (!members_distinct(&members))
        return false;
    *ret_members = members;
    return true;
}

bool members_from_raft(const struct raft_configuration *configuration, uint64_t index,
                       struct members *ret_members)
{
    struct members members = {.index = index};
    if (configuration->n > MEMBERS_MAX)
        return false;
    for (; members.count < configuration->n; members.count++) {
        const struct raft_server *server = &configuration->servers[members.count];
        struct member *member = &members.list[members.count];
        size_t len = strlen(server->address);
        if (len >= sizeof member->address)
            return false;
        member->id = server->id;
        member->role = server->role;
        memcpy(member->address, server->address, len + 1);
    }
    *ret_members = members;
    return true;
}

bool members_to_raft(const struct members *members, struct raft_configuration *configuration)
{
    for (unsigned i = 0; i < members->count; i++) {
        const struct member *member = &members->list[i];
        if (raft_configuration_add(configuration, member->id, member->address, member->role) != 0)
            return false;
    }
    return true;
}

void members_address_print(const struct quorum_address *address, const struct uuid *directory,
                           char *into)
{
    static_assert(sizeof address->host + 7 + UUID_TEXT_SIZE < QUORUM_ADDRESS_MAX,
                  "host, colon, port, slash, directory, NUL");
    char text[UUID_TEXT_SIZE] = "";
    bool tell = directory != NULL && !uuid_is_zero(directory);
    (void)snprintf(into, QUORUM_ADDRESS_MAX, "%s:%u%s%s", address->host, (unsigned)address->port,
                   tell ? "/" : "", tell ? uuid_text(directory, text) : text);
}

bool members_address_directory(const char *text, struct uuid *ret_directory)
{
    const char *slash = strrchr(text, '/');
    return slash != NULL && uuid_parse(slash + 1, ret_directory);
}

bool members_address_parse(const char *text, struct quorum_address *ret_address)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text || (size_t)(colon - text) >= sizeof ret_address->host)
        return false;
    unsigned port = 0;
    for (const char *at = colon + 1; *at != '\0' && *at != '/'; at++) {
        if (*at < '0' || *at > '9' || port > UINT16_MAX)
            return false;
        port = port * 10 + (unsigned)(*at - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return false;
    memcpy(ret_address->host, text, (size_t)(colon - text));
    ret_address->host[colon - text] = '\0';
    ret_address->port = (uint16_t)port;
    return true;
}
