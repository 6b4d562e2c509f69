#include "base/crc32c.h"

#include <isa-l/crc.h>

/* What one call of ISA-L takes: its length is an int. */
enum { CRC32C_STEP = 1 << 30 };

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    /* ISA-L leaves the initial value and the final xor to its caller. It does not write, although
     * it asks for a pointer to what it may write. */
    const unsigned char *at = data;
    crc = ~crc;
    while (len > 0) {
        int step = len < CRC32C_STEP ? (int)len : CRC32C_STEP;
        crc = crc32_iscsi((unsigned char *)(uintptr_t)at, step, crc);
        at += step;
        len -= (size_t)step;
    }
    return ~crc;
}
