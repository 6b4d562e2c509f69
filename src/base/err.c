#include "base/err.h"

#include <errno.h>
#include <stddef.h>

struct err_row {
    err_t code;
    bool retriable;
    const char *name, *sentence;
};

static const struct err_row err_rows[] = {
#define ERR_ROW(name, code, retriable, sentence) {(code), (retriable), #name, (sentence)},
    ERR_MAP(ERR_ROW)
#undef ERR_ROW
};

static const struct err_row *err_find(err_t err)
{
    static const struct err_row unknown = {0, false, "UNKNOWN_ERROR_CODE",
                                           "an error that this version does not know"};
    for (size_t i = 0; i < sizeof(err_rows) / sizeof(err_rows[0]); i++)
        if (err_rows[i].code == err)
            return &err_rows[i];
    return &unknown;
}

const char *err_name(err_t err)
{
    return err_find(err)->name;
}

const char *err_sentence(err_t err)
{
    return err_find(err)->sentence;
}

bool err_retriable(err_t err)
{
    return err_find(err)->retriable;
}

err_t err_from_errno(int error)
{
    switch (error) {
    case 0:
        return ERR_OK;
    case ENOSPC:
    case EDQUOT:
        return ERR_NOT_ENOUGH_SPACE;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
    case ENOTEMPTY:
        return ERR_EXISTS;
    case ENOMEM:
    case ENOBUFS:
        return ERR_NO_MEMORY;
    case EINVAL:
    case ENAMETOOLONG:
        return ERR_INVALID;
    case EBUSY:
    case EADDRINUSE:
        return ERR_BUSY;
    case ECONNREFUSED:
        return ERR_REFUSED;
    case EHOSTUNREACH:
    case ENETUNREACH:
    case EADDRNOTAVAIL:
    case ETIMEDOUT:
        return ERR_UNREACHABLE;
    case ECONNRESET:
    case ECONNABORTED:
    case EPIPE:
        return ERR_CLOSED;
    case ECANCELED:
        return ERR_CANCELED;
    default:
        return ERR_IO;
    }
}
