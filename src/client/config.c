#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/client.h"

/* How a value is read, and where it goes. */
enum client_option_kind { OPTION_U32, OPTION_U64, OPTION_BOOL, OPTION_OTHER };

struct client_option {
    const char *name;
    enum client_option_kind kind;
    size_t at; /* in struct client_config */
    uint64_t least, most;
};

#define AT(field) offsetof(struct client_config, field)
static const struct client_option client_options[] = {
    {"bootstrap.servers", OPTION_OTHER, 0, 0, 0},
    {"client.id", OPTION_OTHER, 0, 0, 0},
    {"acks", OPTION_OTHER, 0, 0, 0},
    {"enable.idempotence", OPTION_BOOL, AT(idempotent), 0, 0},
    {"linger.ms", OPTION_U32, AT(linger_ms), 0, 900000},
    {"batch.size", OPTION_U32, AT(batch_bytes), 512, 64 << 20},
    {"buffer.memory", OPTION_U64, AT(buffer_bytes), 64 << 10, UINT64_C(1) << 40},
    {"max.request.size", OPTION_U32, AT(record_bytes_max), 1, 64 << 20},
    {"delivery.timeout.ms", OPTION_U32, AT(delivery_timeout_ms), 1, INT32_MAX},
    {"request.timeout.ms", OPTION_U32, AT(request_timeout_ms), 1, INT32_MAX},
    {"max.in.flight.requests.per.connection", OPTION_U32, AT(in_flight_max), 1, 5},
    {"connection.idle.check.ms", OPTION_U32, AT(silence_ms), 10, 600000},
    {"metadata.max.age.ms", OPTION_U32, AT(metadata_age_ms), 10, INT32_MAX},
    {"auto.offset.reset", OPTION_OTHER, 0, 0, 0},
    {"fetch.min.bytes", OPTION_U32, AT(fetch_bytes_min), 0, 64 << 20},
    {"fetch.max.wait.ms", OPTION_U32, AT(fetch_wait_ms), 0, 600000},
    {"fetch.max.bytes", OPTION_U32, AT(fetch_bytes_max), 1, 64 << 20},
    {"max.partition.fetch.bytes", OPTION_U32, AT(partition_bytes_max), 1, 64 << 20},
    {"fetch.buffer.memory", OPTION_U64, AT(fetch_buffer_bytes), 1, UINT64_C(1) << 40},
    {"check.crcs", OPTION_BOOL, AT(check_crcs), 0, 0},
};
#undef AT

void client_config_init(struct client_config *config)
{
    *config = (struct client_config){
        .client_id = "libkarst",
        .acks = -1,
        .idempotent = true,
        .check_crcs = true,
        .reset = CLIENT_RESET_LATEST,
        .linger_ms = 5,
        .delivery_timeout_ms = 120000,
        .request_timeout_ms = 30000,
        .silence_ms = 500,
        .metadata_age_ms = 60000,
        .fetch_wait_ms = 500,
        .fetch_bytes_min = 1,
        .fetch_bytes_max = 16 << 20,
        .partition_bytes_max = 1 << 20,
        .batch_bytes = 1000000,
        .record_bytes_max = 1 << 20,
        .in_flight_max = 5,
        .buffer_bytes = 64 << 20,
        .fetch_buffer_bytes = 64 << 20,
    };
}

/* "HOST:PORT", "[::1]:9091". */
static bool client_parse_address(const char *text, size_t len, struct client_address *ret_address)
{
    const char *colon = memrchr(text, ':', len);
    if (colon == NULL)
        return false;
    const char *host = text;
    size_t host_len = (size_t)(colon - text);
    if (host_len >= 2 && host[0] == '[' && host[host_len - 1] == ']') {
        host++;
        host_len -= 2;
    }
    size_t port_len = len - (size_t)(colon + 1 - text);
    if (host_len == 0 || host_len >= CLIENT_HOST_SIZE || port_len == 0 || port_len > 5)
        return false;
    uint32_t port = 0;
    for (size_t i = 0; i < port_len; i++) {
        char digit = colon[1 + i];
        if (digit < '0' || digit > '9')
            return false;
        port = port * 10 + (uint32_t)(digit - '0');
    }
    if (port == 0 || port > UINT16_MAX)
        return false;
    memcpy(ret_address->host, host, host_len);
    ret_address->host[host_len] = '\0';
    ret_address->port = (uint16_t)port;
    return true;
}

static err_t client_set_bootstrap(struct client_config *config, const char *value, char *why,
                                  size_t why_size)
{
    size_t count = 0;
    for (const char *at = value; *at != '\0';) {
        size_t len = strcspn(at, ",");
        size_t begin = strspn(at, " ");
        size_t end = len;
        while (end > begin && at[end - 1] == ' ')
            end--;
        if (begin < end) {
            if (count == CLIENT_BOOTSTRAP_MAX) {
                snprintf(why, why_size, "bootstrap.servers: more than %d addresses",
                         CLIENT_BOOTSTRAP_MAX);
                return ERR_INVALID;
            }
            if (!client_parse_address(at + begin, end - begin, &config->bootstrap[count])) {
                snprintf(why, why_size,
                         "bootstrap.servers: \"%.*s\" is not HOST:PORT with a port of 1 to 65535",
                         (int)(end - begin), at + begin);
                return ERR_INVALID;
            }
            count++;
        }
        at += len + (at[len] == ',' ? 1 : 0);
    }
    config->bootstrap_count = count;
    return ERR_OK;
}

static err_t client_set_other(struct client_config *config, const char *name, const char *value,
                              char *why, size_t why_size)
{
    if (strcmp(name, "bootstrap.servers") == 0)
        return client_set_bootstrap(config, value, why, why_size);
    if (strcmp(name, "client.id") == 0) {
        if (strlen(value) < sizeof(config->client_id)) {
            memcpy(config->client_id, value, strlen(value) + 1);
            return ERR_OK;
        }
        snprintf(why, why_size, "client.id is longer than %zu letters",
                 sizeof(config->client_id) - 1);
        return ERR_INVALID;
    }
    if (strcmp(name, "acks") == 0) {
        static const struct {
            const char *text;
            int acks;
        } choices[] = {{"all", -1}, {"-1", -1}, {"1", 1}, {"0", 0}};
        for (size_t i = 0; i < ARRAY_LEN(choices); i++) {
            if (strcmp(value, choices[i].text) == 0) {
                config->acks = choices[i].acks;
                return ERR_OK;
            }
        }
        snprintf(why, why_size, "acks is \"%s\", not all, 1 or 0", value);
        return ERR_INVALID;
    }
    static const char *const resets[] = {"earliest", "latest", "none"};
    for (size_t i = 0; i < ARRAY_LEN(resets); i++) {
        if (strcmp(value, resets[i]) == 0) {
            config->reset = (enum client_reset)i;
            return ERR_OK;
        }
    }
    snprintf(why, why_size, "auto.offset.reset is \"%s\", not earliest, latest or none", value);
    return ERR_INVALID;
}

static bool client_parse_number(const char *value, uint64_t *ret_number)
{
    char *end;
    errno = 0;
    if (*value < '0' || *value > '9')
        return false;
    unsigned long long number = strtoull(value, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *ret_number = number;
    return true;
}

static err_t client_set_bool(struct client_config *config, const struct client_option *option,
                             const char *value, char *why, size_t why_size)
{
    bool yes = strcmp(value, "true") == 0;
    if (!yes && strcmp(value, "false") != 0) {
        snprintf(why, why_size, "%s is \"%s\", not true or false", option->name, value);
        return ERR_INVALID;
    }
    bool *place = (bool *)(void *)((char *)config + option->at);
    *place = yes;
    if (place == &config->idempotent)
        config->idempotence_asked = yes;
    return ERR_OK;
}

err_t client_config_set(struct client_config *config, const char *name, const char *value,
                        char *why, size_t why_size)
{
    const struct client_option *option = NULL;
    for (size_t i = 0; option == NULL && i < ARRAY_LEN(client_options); i++) {
        if (strcmp(client_options[i].name, name) == 0)
            option = &client_options[i];
    }
    if (option == NULL) {
        snprintf(why, why_size, "there is no client setting \"%s\"; karst.h lists them", name);
        return ERR_INVALID;
    }
    if (option->kind == OPTION_OTHER)
        return client_set_other(config, name, value, why, why_size);
    if (option->kind == OPTION_BOOL)
        return client_set_bool(config, option, value, why, why_size);
    uint64_t number;
    if (!client_parse_number(value, &number) || number < option->least || number > option->most) {
        snprintf(why, why_size, "%s is \"%s\", not a number of %llu to %llu", name, value,
                 (unsigned long long)option->least, (unsigned long long)option->most);
        return ERR_INVALID;
    }
    void *place = (char *)config + option->at;
    if (option->kind == OPTION_U32)
        *(uint32_t *)place = (uint32_t)number;
    else
        *(uint64_t *)place = number;
    return ERR_OK;
}

err_t client_config_check(struct client_config *config, char *why, size_t why_size)
{
    if (config->bootstrap_count == 0) {
        snprintf(why, why_size, "bootstrap.servers is not set: give HOST:PORT of a broker");
        return ERR_INVALID;
    }
    if (config->linger_ms >= config->delivery_timeout_ms) {
        snprintf(why, why_size, "linger.ms (%u) must be below delivery.timeout.ms (%u)",
                 config->linger_ms, config->delivery_timeout_ms);
        return ERR_INVALID;
    }
    if (config->acks != -1 && config->idempotence_asked) {
        snprintf(why, why_size, "enable.idempotence=true needs acks=all");
        return ERR_INVALID;
    }
    if (config->acks != -1)
        config->idempotent = false;
    return ERR_OK;
}
