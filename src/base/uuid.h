/* uuid.h - 16-byte ids (topics, clusters, directories, incarnations); text is Kafka's: 22 letters
 * of URL-safe base64. All zero means none. */
#ifndef KARST_BASE_UUID_H
#define KARST_BASE_UUID_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

struct uuid {
    uint8_t b[16];
};
enum { UUID_TEXT_SIZE = 23 }; /* with the final NUL */

/* From 16 random bytes (RFC 9562 version 4 bits are set; never all zero). */
struct uuid uuid_make(uint64_t high, uint64_t low);
char *uuid_text(const struct uuid *id, char into[UUID_TEXT_SIZE]);
bool uuid_parse(const char *text, struct uuid *ret_id);
static inline bool uuid_equal(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->b, b->b, 16) == 0;
}
static inline bool uuid_is_zero(const struct uuid *id)
{
    static const struct uuid zero;
    return uuid_equal(id, &zero);
}
/* Well mixed, for tables and for the choice of a shard; seeded by nothing: the same everywhere. */
uint64_t uuid_hash(const struct uuid *id);

#endif
