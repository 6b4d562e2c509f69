/* check_main.h - the main of a unit test: CHECK_MAIN("base/ring", test_a, test_b) as the last line
 * of the file. Each test runs in its own process (CK_FORK=no: in one, for the debugger); the
 * results are printed as TAP, which meson reads. CK_RUN_CASE and CHECK_ONLY=test_a run one. */
#ifndef KARST_TESTS_CHECK_MAIN_H
#define KARST_TESTS_CHECK_MAIN_H

#include <check.h>
#include <stddef.h>
#include <stdint.h>

#include "base/assert.h"

int check_main_run(const char *suite, const TTest *const *tests, size_t count);

/* The seed of a property test: KARST_SEED when it is set, else fresh. It is printed first. */
uint64_t check_main_seed(void);

#define CHECK_MAIN(suite, ...)                                                                     \
    int main(void)                                                                                 \
    {                                                                                              \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return check_main_run(suite, tests, ARRAY_LEN(tests));                                     \
    }

#endif
