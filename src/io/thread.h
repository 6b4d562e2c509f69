/* thread.h - threads of the process: named, with a small stack, deaf to signals (those are main's).
 */
#ifndef KARST_IO_THREAD_H
#define KARST_IO_THREAD_H

#include <pthread.h>

#include "base/err.h"

/* name: up to 15 letters, copied; also that of its log lines. The thread drains its frame cache
 * when run returns. */
err_t io_thread_start(pthread_t *ret_thread, const char *name, void (*run)(void *context),
                      void *context);

#endif
