/* assert.h - assertions that stay on in release builds: they state our own invariants, never what
 * comes from a disk, a peer or a client. A failed one logs its place and aborts. */
#ifndef KARST_BASE_ASSERT_H
#define KARST_BASE_ASSERT_H

#include <assert.h> /* static_assert */
#include <stddef.h>

_Noreturn void assert_failed(const char *expression, const char *file, int line);

#define ASSERT(expression) ((expression) ? (void)0 : assert_failed(#expression, __FILE__, __LINE__))

#define NODISCARD __attribute__((warn_unused_result))
#define PRINTF_LIKE(at, first) __attribute__((format(printf, at, first)))
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
#define ARRAY_LEN(array) (sizeof(array) / sizeof((array)[0]))

#endif
