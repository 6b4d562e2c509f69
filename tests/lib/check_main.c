#include "lib/check_main.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/canary.h"

int check_main_run(const char *name, const TTest *const *tests, size_t count)
{
    const char *only = getenv("CHECK_ONLY");
#ifdef KARST_CANARIES
    if (getenv("KARST_CANARY") != NULL)
        canary_arm(getenv("KARST_CANARY")); /* and then some test must fail */
#endif
    Suite *suite = suite_create(name);
    TCase *tcase = tcase_create(name);
    size_t chosen = 0;
    tcase_set_timeout(tcase, 50); /* under meson's own, so that the test is named */
    for (size_t i = 0; i < count; i++) {
        if (only != NULL && strcmp(only, tests[i]->name) != 0)
            continue;
        tcase_add_test(tcase, tests[i]);
        chosen++;
    }
    suite_add_tcase(suite, tcase);

    SRunner *runner = srunner_create(suite);
    srunner_set_tap(runner, "-");
    srunner_run_all(runner, CK_SILENT);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    if (chosen == 0)
        fprintf(stderr, "%s: no test is called %s\n", name, only == NULL ? "(none)" : only);
    return failed == 0 && chosen > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

uint64_t check_main_seed(void)
{
    uint64_t seed = 0;
    const char *given = getenv("KARST_SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 0);
    else
        ck_assert_int_eq(getrandom(&seed, sizeof(seed), 0), sizeof(seed));
    fprintf(stderr, "KARST_SEED=%" PRIu64 "\n", seed);
    return seed;
}
