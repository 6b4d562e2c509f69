#include "base/canary.h"

#include "lib/check_main.h"

#ifdef KARST_CANARIES
START_TEST(only_the_named_canary_sings)
{
    ck_assert(!CANARY("early_ack"));
    canary_arm("early_ack");
    ck_assert(CANARY("early_ack"));
    ck_assert(!CANARY("early"));
}
END_TEST
#else
START_TEST(only_the_named_canary_sings)
{
    static_assert(!CANARY("early_ack"), "canaries are constants in a build without them");
}
END_TEST
#endif

CHECK_MAIN("base/canary", only_the_named_canary_sings)
