#include "base/uuid.h"

#include "base/bytes.h"

static const char uuid_letters[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

struct uuid uuid_make(uint64_t high, uint64_t low)
{
    struct uuid id;
    put_u64(id.b, high);
    put_u64(id.b + 8, low);
    id.b[6] = (uint8_t)((id.b[6] & 0x0f) | 0x40); /* version 4 */
    id.b[8] = (uint8_t)((id.b[8] & 0x3f) | 0x80); /* variant of RFC 9562 */
    return id;
}

char *uuid_text(const struct uuid *id, char into[UUID_TEXT_SIZE])
{
    uint32_t bits = 0;
    unsigned held = 0;
    size_t len = 0;
    for (size_t i = 0; i < sizeof(id->b); i++) {
        bits = bits << 8 | id->b[i];
        held += 8;
        while (held >= 6) {
            held -= 6;
            into[len++] = uuid_letters[bits >> held & 63];
        }
    }
    into[len++] = uuid_letters[bits << (6 - held) & 63];
    into[len] = '\0';
    return into;
}

bool uuid_parse(const char *text, struct uuid *ret_id)
{
    struct uuid id;
    uint32_t bits = 0;
    unsigned held = 0;
    size_t len = 0;
    for (size_t i = 0; i < UUID_TEXT_SIZE - 1; i++) {
        const char *letter = text[i] == '\0' ? NULL : strchr(uuid_letters, text[i]);
        if (letter == NULL)
            return false;
        bits = bits << 6 | (uint32_t)(letter - uuid_letters);
        held += 6;
        if (held >= 8) {
            held -= 8;
            id.b[len++] = (uint8_t)(bits >> held);
        }
    }
    /* The last letter has four bits to spare: with them set, one id would have many names. */
    if (text[UUID_TEXT_SIZE - 1] != '\0' || (bits & ((1U << held) - 1)) != 0)
        return false;
    *ret_id = id;
    return true;
}

uint64_t uuid_hash(const struct uuid *id)
{
    uint64_t h = get_u64(id->b) ^ get_u64(id->b + 8) * UINT64_C(0x9E3779B97F4A7C15);
    h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    h = (h ^ h >> 32) * UINT64_C(0xD6E8FEB86659FD93);
    return h ^ h >> 32;
}
