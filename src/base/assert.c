#include "base/assert.h"

#include <stdlib.h>

#include "base/logger.h"

_Noreturn void assert_failed(const char *expression, const char *file, int line)
{
    log_error("assertion failed: %s at %s:%d", expression, file, line);
    abort();
}
