#include "broker/address.h"

#include <string.h>

#include "lib/check_main.h"

static char why[256];

START_TEST(listeners_have_a_name_a_host_and_a_port)
{
    struct listener_address a[2];
    size_t count;
    ck_assert_int_eq(
        address_parse_listeners(" RPC://h:1 ,RPC://[::1]:65535", a, 2, &count, why, sizeof why),
        ERR_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_str_eq(a[0].name, "RPC");
    ck_assert_str_eq(a[0].host, "h");
    ck_assert_uint_eq(a[0].port, 1);
    ck_assert_str_eq(a[1].host, "::1");
    ck_assert_uint_eq(a[1].port, 65535);
}
END_TEST

START_TEST(bad_listeners_are_refused_with_a_reason)
{
    static const char *const bad[] = {"",           "h:1",
                                      "RPC://h",    "RPC://:1",
                                      "RPC://h:",   "RPC://h:65536",
                                      "RPC://h:-1", "RPC://::1:2",
                                      "FTP://h:1",  "RPC://h:1,RPC://h:2,RPC://h:3"};
    struct listener_address a[2];
    size_t count;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        why[0] = '\0';
        ck_assert_msg(address_parse_listeners(bad[i], a, 2, &count, why, sizeof why) != ERR_OK,
                      "%s", bad[i]);
        ck_assert_uint_gt(strlen(why), 0);
    }
}
END_TEST

START_TEST(voters_have_ids_that_differ)
{
    struct quorum_address a[3];
    size_t count;
    ck_assert_int_eq(address_parse_voters("1@h:1,2@h:2", a, 3, &count, why, sizeof why), ERR_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(a[1].node, 2);
    ck_assert_uint_eq(a[1].port, 2);
    ck_assert_int_ne(address_parse_voters("1@h:1,1@h:2", a, 3, &count, why, sizeof why), ERR_OK);
    ck_assert_str_eq(why, "voter 1 is named twice");
    ck_assert_int_ne(address_parse_voters("h:1", a, 3, &count, why, sizeof why), ERR_OK);
    ck_assert_int_ne(address_parse_voters("1@h:0", a, 3, &count, why, sizeof why), ERR_OK);
}
END_TEST

START_TEST(no_servers_are_fine)
{
    struct quorum_address a[2];
    size_t count = 9;
    ck_assert_int_eq(address_parse_servers("", a, 2, &count, why, sizeof why), ERR_OK);
    ck_assert_uint_eq(count, 0);
    ck_assert_int_eq(address_parse_servers("h:9,i:8", a, 2, &count, why, sizeof why), ERR_OK);
    ck_assert_uint_eq(count, 2);
    ck_assert_int_eq(a[0].node, NO_NODE);
}
END_TEST

CHECK_MAIN("broker/address", listeners_have_a_name_a_host_and_a_port,
           bad_listeners_are_refused_with_a_reason, voters_have_ids_that_differ,
           no_servers_are_fine)
