#include "base/crc32c.h"

#include "base/rng.h"
#include "lib/check_main.h"

START_TEST(the_check_value_is_right)
{
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283);
}
END_TEST

/* RFC 3720, appendix B.4. */
START_TEST(the_vectors_of_iscsi_are_right)
{
    uint8_t block[32] = {0};
    ck_assert_uint_eq(crc32c(0, block, 32), 0x8A9136AA);
    for (int i = 0; i < 32; i++)
        block[i] = 0xff;
    ck_assert_uint_eq(crc32c(0, block, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        block[i] = (uint8_t)i;
    ck_assert_uint_eq(crc32c(0, block, 32), 0x46DD794E);
}
END_TEST

START_TEST(parts_give_what_the_whole_gives)
{
    struct rng rng;
    rng_seed(&rng, check_main_seed());
    uint8_t bytes[3000];
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (uint8_t)rng_next(&rng);
    uint32_t whole = crc32c(0, bytes, sizeof(bytes));
    for (int i = 0; i < 300; i++) {
        size_t cut = rng_between(&rng, 0, sizeof(bytes));
        uint32_t crc = crc32c(0, bytes, cut);
        ck_assert_uint_eq(crc32c(crc, bytes + cut, sizeof(bytes) - cut), whole);
    }
}
END_TEST

START_TEST(no_bytes_change_nothing)
{
    ck_assert_uint_eq(crc32c(0, NULL, 0), 0);
    ck_assert_uint_eq(crc32c(0x12345678, "", 0), 0x12345678);
}
END_TEST

CHECK_MAIN("base/crc32c", the_check_value_is_right, the_vectors_of_iscsi_are_right,
           parts_give_what_the_whole_gives, no_bytes_change_nothing)
