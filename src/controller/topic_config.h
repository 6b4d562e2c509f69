/* topic_config.h - the configuration keys that a topic may set, by Kafka's names, and what their
 * values may be. */
#ifndef KARST_CONTROLLER_TOPIC_CONFIG_H
#define KARST_CONTROLLER_TOPIC_CONFIG_H

#include <stddef.h>

#include "base/err.h"

/* ERR_INVALID_CONFIG: sentence (of size bytes) says what is wrong, and the nearest name or what is
 * right. */
err_t topic_config_check(const char *key, const char *value, char *sentence, size_t size);

#endif
