/* The configuration file: any text. What is taken lies in its range; what is not has a complaint.
 */
#include "fuzz/fuzz.h"

#include <string.h>

#include "base/assert.h"
#include "broker/options.h"

static void fuzz_check(const struct options *options)
{
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++) {
        const void *at = (const char *)options + table[i].offset;
        if (table[i].type == OPTION_TEXT) {
            ASSERT(*(char *const *)at != NULL || table[i].fallback == NULL);
        } else if (table[i].type != OPTION_BOOL) {
            int64_t number = *(const int64_t *)at;
            ASSERT(number >= table[i].min);
            ASSERT(number <= table[i].max);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char complaint[80];
    struct options options = {0};
    memset(complaint, 'x', sizeof(complaint));
    err_t err = options_parse((const char *)data, size, "fuzz.conf", &options, complaint,
                              sizeof(complaint));
    ASSERT(memchr(complaint, '\0', sizeof(complaint)) != NULL);
    if (err == ERR_OK)
        fuzz_check(&options);
    else
        ASSERT(complaint[0] != '\0');
    options_fini(&options);
    return 0;
}
