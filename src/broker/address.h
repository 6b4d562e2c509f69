/* address.h - the addresses that configuration and command line name: listeners, voters, servers.
 */
#ifndef KARST_BROKER_ADDRESS_H
#define KARST_BROKER_ADDRESS_H

#include <stddef.h>

#include "quorum/quorum.h"

enum { ADDRESS_LISTENERS_MAX = 4, ADDRESS_SERVERS_MAX = 16 };

struct listener_address {
    char name[32];
    char host[256];
    uint16_t port;
};

/* "RPC://HOST:PORT, ..."; HOST may be an IPv6 literal in brackets. why tells a person what is
 * wrong. */
err_t address_parse_listeners(const char *text, struct listener_address *into, size_t max,
                              size_t *ret_count, char *why, size_t why_len);
/* "1@HOST:PORT,2@HOST:PORT": ids differ. */
err_t address_parse_voters(const char *text, struct quorum_address *into, size_t max,
                           size_t *ret_count, char *why, size_t why_len);
/* "HOST:PORT,HOST:PORT"; nodes are -1. Empty text: none. */
err_t address_parse_servers(const char *text, struct quorum_address *into, size_t max,
                            size_t *ret_count, char *why, size_t why_len);

#endif
