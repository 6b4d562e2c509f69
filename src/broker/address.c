#include "broker/address.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static err_t refuse(char *why, size_t why_len, const char *format, ...) PRINTF_LIKE(3, 4);

static err_t refuse(char *why, size_t why_len, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(why, why_len, format, args); /* cut: fine */
    va_end(args);
    return ERR_INVALID_CONFIG;
}

/* The next item of a list between commas, trimmed, into item; false at the end. */
static bool next_item(const char **at, char *item, size_t item_size)
{
    const char *from = *at;
    while (isspace((unsigned char)*from) || *from == ',')
        from++;
    if (*from == '\0')
        return false;
    size_t len = strcspn(from, ",");
    *at = from + len;
    while (len > 0 && isspace((unsigned char)from[len - 1]))
        len--;
    if (len >= item_size)
        len = item_size - 1;
    memcpy(item, from, len);
    item[len] = '\0';
    return true;
}

static bool parse_host_port(const char *text, char *host, size_t host_size, uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL || colon == text)
        return false;
    size_t len = (size_t)(colon - text);
    if (text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
    } else if (memchr(text, ':', len) != NULL) {
        return false; /* an IPv6 literal without brackets */
    }
    char *end;
    unsigned long port = strtoul(colon + 1, &end, 10);
    if (!isdigit((unsigned char)colon[1]) || *end != '\0' || port > 65535 || len >= host_size)
        return false;
    memcpy(host, text, len);
    host[len] = '\0';
    *ret_port = (uint16_t)port;
    return true;
}

err_t address_parse_listeners(const char *text, struct listener_address *into, size_t max,
                              size_t *ret_count, char *why, size_t why_len)
{
    char item[320];
    size_t count = 0;
    while (next_item(&text, item, sizeof item)) {
        if (count == max)
            return refuse(why, why_len, "more than %zu listeners", max);
        struct listener_address *a = &into[count++];
        const char *slashes = strstr(item, "://");
        size_t len = slashes == NULL ? 0 : (size_t)(slashes - item);
        if (len == 0 || len >= sizeof a->name ||
            !parse_host_port(slashes + 3, a->host, sizeof a->host, &a->port))
            return refuse(why, why_len, "\"%s\" is not NAME://HOST:PORT", item);
        memcpy(a->name, item, len);
        a->name[len] = '\0';
        if (strcmp(a->name, "RPC") != 0)
            return refuse(why, why_len, "listener \"%s\" is of no known kind; there is RPC",
                          a->name);
    }
    if (count == 0)
        return refuse(why, why_len, "at least one listener is needed: RPC://HOST:PORT");
    *ret_count = count;
    return ERR_OK;
}

err_t address_parse_voters(const char *text, struct quorum_address *into, size_t max,
                           size_t *ret_count, char *why, size_t why_len)
{
    char item[320];
    size_t count = 0;
    while (next_item(&text, item, sizeof item)) {
        if (count == max)
            return refuse(why, why_len, "more than %zu voters", max);
        struct quorum_address *a = &into[count];
        char *end;
        long id = strtol(item, &end, 10);
        if (end == item || *end != '@' || id < 0 || id > INT32_MAX ||
            !parse_host_port(end + 1, a->host, sizeof a->host, &a->port) || a->port == 0)
            return refuse(why, why_len, "voter \"%s\" is not ID@HOST:PORT", item);
        a->node = (node_id_t)id;
        for (size_t i = 0; i < count; i++)
            if (into[i].node == a->node)
                return refuse(why, why_len, "voter %ld is named twice", id);
        count++;
    }
    *ret_count = count;
    return ERR_OK;
}

err_t address_parse_servers(const char *text, struct quorum_address *into, size_t max,
                            size_t *ret_count, char *why, size_t why_len)
{
    char item[320];
    size_t count = 0;
    while (next_item(&text, item, sizeof item)) {
        if (count == max)
            return refuse(why, why_len, "more than %zu servers", max);
        struct quorum_address *a = &into[count++];
        a->node = NO_NODE;
        if (!parse_host_port(item, a->host, sizeof a->host, &a->port) || a->port == 0)
            return refuse(why, why_len, "server \"%s\" is not HOST:PORT", item);
    }
    *ret_count = count;
    return ERR_OK;
}
