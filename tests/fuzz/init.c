/* Before a libFuzzer program's first run: KARST_CANARY names the planted bug that it must find. */
#include "fuzz/fuzz.h"

#include <stdlib.h>

#include "base/canary.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
#ifdef KARST_CANARIES
    if (getenv("KARST_CANARY") != NULL)
        canary_arm(getenv("KARST_CANARY"));
#endif
    return 0;
}
