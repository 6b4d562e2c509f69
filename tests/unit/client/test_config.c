#include "lib/check_main.h"

#include "client/client.h"

#include <string.h>

static err_t set(struct client_config *config, const char *name, const char *value, char *why)
{
    return client_config_set(config, name, value, why, CLIENT_SENTENCE_SIZE);
}

START_TEST(addresses_are_hosts_and_ports)
{
    struct client_config config;
    char why[CLIENT_SENTENCE_SIZE];
    client_config_init(&config);
    ck_assert_int_eq(set(&config, "bootstrap.servers", "one:9091, [::1]:92 ,10.0.0.3:65535", why),
                     ERR_OK);
    ck_assert_uint_eq(config.bootstrap_count, 3);
    ck_assert_str_eq(config.bootstrap[0].host, "one");
    ck_assert_uint_eq(config.bootstrap[0].port, 9091);
    ck_assert_str_eq(config.bootstrap[1].host, "::1");
    ck_assert_uint_eq(config.bootstrap[1].port, 92);
    ck_assert_uint_eq(config.bootstrap[2].port, 65535);
    static const char *const bad[] = {"one", "one:", ":9", "one:0", "one:65536", "one:9x", "a:1,b"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        ck_assert_int_eq(set(&config, "bootstrap.servers", bad[i], why), ERR_INVALID);
        ck_assert_ptr_nonnull(strstr(why, "HOST:PORT"));
    }
}
END_TEST

START_TEST(values_out_of_range_are_named)
{
    struct client_config config;
    char why[CLIENT_SENTENCE_SIZE];
    client_config_init(&config);
    ck_assert_int_eq(set(&config, "linger.ms", "17", why), ERR_OK);
    ck_assert_uint_eq(config.linger_ms, 17);
    ck_assert_int_eq(set(&config, "batch.size", "511", why), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "512"));
    ck_assert_int_eq(set(&config, "linger.ms", "-1", why), ERR_INVALID);
    ck_assert_int_eq(set(&config, "linger.ms", "5ms", why), ERR_INVALID);
    ck_assert_int_eq(set(&config, "check.crcs", "yes", why), ERR_INVALID);
    ck_assert_int_eq(set(&config, "acks", "2", why), ERR_INVALID);
    ck_assert_int_eq(set(&config, "linger.msec", "5", why), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "linger.msec"));
    ck_assert_uint_eq(config.linger_ms, 17);
    ck_assert_int_eq(set(&config, "buffer.memory", "99999999999", why), ERR_OK);
    ck_assert_uint_eq(config.buffer_bytes, UINT64_C(99999999999));
}
END_TEST

START_TEST(idempotence_needs_all_acknowledgements)
{
    struct client_config config;
    char why[CLIENT_SENTENCE_SIZE];
    client_config_init(&config);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "bootstrap.servers"));
    ck_assert_int_eq(set(&config, "bootstrap.servers", "a:1", why), ERR_OK);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_OK);
    ck_assert(config.idempotent);
    ck_assert_int_eq(set(&config, "acks", "1", why), ERR_OK);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_OK);
    ck_assert(!config.idempotent);
    ck_assert_int_eq(set(&config, "enable.idempotence", "true", why), ERR_OK);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_INVALID);
}
END_TEST

START_TEST(a_record_may_not_linger_for_longer_than_it_lives)
{
    struct client_config config;
    char why[CLIENT_SENTENCE_SIZE];
    client_config_init(&config);
    ck_assert_int_eq(set(&config, "bootstrap.servers", "a:1", why), ERR_OK);
    ck_assert_int_eq(set(&config, "linger.ms", "120000", why), ERR_OK);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(why, "delivery.timeout.ms"));
    ck_assert_int_eq(set(&config, "linger.ms", "119999", why), ERR_OK);
    ck_assert_int_eq(client_config_check(&config, why, sizeof(why)), ERR_OK);
}
END_TEST

CHECK_MAIN("client/config", addresses_are_hosts_and_ports, values_out_of_range_are_named,
           idempotence_needs_all_acknowledgements, a_record_may_not_linger_for_longer_than_it_lives)
