/* handle.h - struct karst: the state machine on a thread of its own, and what its callers share;
 * private to this folder (handle.c, handle_consumer.c, handle_admin.c). */
#ifndef KARST_CLIENT_HANDLE_H
#define KARST_CLIENT_HANDLE_H

#include <pthread.h>

#include "client/client.h"
#include "io/io.h"

struct karst_config {
    struct client_config client;
};

struct karst {
    struct io_node *node;
    struct env *env;
    pthread_mutex_t lock; /* all of client */
    pthread_cond_t news;  /* something is done, fetched or answered */
    unsigned waiting;     /* callers at news */
    int event_fd;
    bool event_used; /* somebody has asked for it */
    bool event_set;
    struct client *client;
    char wake_message; /* its address is the mail */
    karst_delivery_cb on_delivery;
    void *on_delivery_context;
    char error[CLIENT_SENTENCE_SIZE + 256];

    /* karst_consume: of its caller's thread */
    struct client_slice *slice; /* being read; NULL: none */
    size_t slice_at;            /* where its next batch begins */
    bool in_batch;
    struct record_cursor cursor; /* in_batch */
    offset_t next;               /* records before it are not wanted */
    struct list_node shown;      /* slices to which the records last returned point */
};

/* Remembers the sentence, and returns err. NULL: the table's. */
int karst_fail(struct karst *karst, err_t err, const char *format, ...) PRINTF_LIKE(3, 4);
/* Nobody has answered; names what was tried. Without the lock. */
int karst_fail_unanswered(struct karst *karst, unsigned timeout_ms);
uint64_t karst_deadline_ns(const struct karst *karst, int timeout_ms); /* UINT64_MAX: without end */
/* With the lock: waits for news until the deadline; false when that has passed. */
bool karst_wait(struct karst *karst, uint64_t deadline_ns);
/* With the lock: the descriptor is readable when there is something. */
void karst_show_event(struct karst *karst);
/* Without the lock: runs the callbacks of what is done; how many. */
int karst_run_done(struct karst *karst);

#endif
