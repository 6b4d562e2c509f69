#include "lib/check_main.h"

#include "client/core.h"

#include <string.h>

/* The vectors of Kafka's own test (UtilsTest.testMurmur2). */
START_TEST(murmur2_gives_kafkas_numbers)
{
    static const struct {
        const char *text;
        int32_t hash;
    } vectors[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
    };
    for (size_t i = 0; i < ARRAY_LEN(vectors); i++)
        ck_assert_int_eq(client_murmur2(vectors[i].text, strlen(vectors[i].text)), vectors[i].hash);
}
END_TEST

START_TEST(keys_go_where_kafkas_producers_send_them)
{
    ck_assert_int_eq(client_partition_of_key("foobar", 6, 7), (-790332482 & INT32_MAX) % 7);
    ck_assert_int_eq(client_partition_of_key("21", 2, 1), 0);
    for (int32_t count = 1; count < 50; count++) {
        int32_t partition = client_partition_of_key("a-little-bit-long-string", 24, count);
        ck_assert_int_ge(partition, 0);
        ck_assert_int_lt(partition, count);
    }
}
END_TEST

CHECK_MAIN("client/partitioner", murmur2_gives_kafkas_numbers,
           keys_go_where_kafkas_producers_send_them)
