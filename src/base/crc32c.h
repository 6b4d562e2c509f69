/* crc32c.h - CRC-32C (Castagnoli) as Kafka uses it: initial value and final xor of all ones. */
#ifndef KARST_BASE_CRC32C_H
#define KARST_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* crc is 0 at first, or what the part before gave: crc32c(crc32c(0, a), b) = crc32c(0, ab). */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
