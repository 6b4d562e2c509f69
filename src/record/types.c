#include "record/types.h"

#include <stddef.h>

bool topic_name_legal(const char *name)
{
    size_t len = 0;
    for (; name[len] != '\0'; len++) {
        char c = name[len];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                      c == '.' || c == '_' || c == '-';
        if (!letter || len == TOPIC_NAME_MAX)
            return false;
    }
    bool dots = name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
    return len > 0 && !dots;
}
