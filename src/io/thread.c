#include "io/thread.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/frame.h"
#include "base/logger.h"

enum { THREAD_NAME_SIZE = 16, THREAD_STACK_BYTES = 512 * 1024 };

struct thread_start {
    char name[THREAD_NAME_SIZE];
    void (*run)(void *context);
    void *context;
};

static void *thread_main(void *arg)
{
    struct thread_start start = *(struct thread_start *)arg;
    free(arg);
    pthread_setname_np(pthread_self(), start.name);
    logger_name_thread(start.name);
    start.run(start.context);
    frame_cache_drain();
    return NULL;
}

err_t io_thread_start(pthread_t *ret_thread, const char *name, void (*run)(void *context),
                      void *context)
{
    struct thread_start *start = calloc(1, sizeof(*start));
    if (start == NULL)
        return ERR_NO_MEMORY;
    snprintf(start->name, sizeof(start->name), "%s", name);
    start->run = run;
    start->context = context;

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    static const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    sigset_t all, before;
    sigfillset(&all);
    for (size_t i = 0; i < ARRAY_LEN(own); i++)
        sigdelset(&all, own[i]); /* a crash is reported by the thread that crashes */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(ret_thread, &attributes, thread_main, start);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (error != 0)
        free(start);
    return err_from_errno(error);
}
