#include "client/handle.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/logger.h"

static_assert((int)KARST_ERR_OFFSET_OUT_OF_RANGE == ERR_OFFSET_OUT_OF_RANGE, "karst.h, err.h");
static_assert((int)KARST_ERR_UNKNOWN_TOPIC_OR_PARTITION == ERR_UNKNOWN_TOPIC_OR_PARTITION,
              "karst.h, err.h");
static_assert((int)KARST_ERR_TIMED_OUT == ERR_REQUEST_TIMED_OUT, "karst.h, err.h");
static_assert((int)KARST_ERR_MESSAGE_TOO_LARGE == ERR_MESSAGE_TOO_LARGE, "karst.h, err.h");
static_assert((int)KARST_ERR_TOPIC_ALREADY_EXISTS == ERR_TOPIC_ALREADY_EXISTS, "karst.h, err.h");
static_assert((int)KARST_ERR_FULL == ERR_FULL, "karst.h, err.h");
static_assert((int)KARST_ERR_NO_MEMORY == ERR_NO_MEMORY, "karst.h, err.h");
static_assert((int)KARST_ERR_CANCELED == ERR_CANCELED, "karst.h, err.h");
static_assert((int)KARST_ERR_INVALID == ERR_INVALID, "karst.h, err.h");

enum { HANDLE_FRAME_BYTES_MAX = 128 << 20, HANDLE_CONNECTIONS_MAX = 256, HANDLE_MAIL_SLOTS = 16 };

const char *karst_err_name(int err)
{
    return err_name(err);
}

const char *karst_err_sentence(int err)
{
    return err_sentence(err);
}

/* ---- configuration ---- */

struct karst_config *karst_config_new(void)
{
    struct karst_config *config = malloc(sizeof(*config));
    if (config != NULL)
        client_config_init(&config->client);
    return config;
}

void karst_config_free(struct karst_config *config)
{
    free(config);
}

int karst_config_set(struct karst_config *config, const char *name, const char *value, char *why,
                     size_t why_size)
{
    char unread[1];
    if (why == NULL || why_size == 0)
        return client_config_set(&config->client, name, value, unread, sizeof(unread));
    return client_config_set(&config->client, name, value, why, why_size);
}

/* ---- between the threads ---- */

static void karst_lock(void *context)
{
    struct karst *karst = context;
    pthread_mutex_lock(&karst->lock);
}

static void karst_unlock(void *context)
{
    struct karst *karst = context;
    pthread_mutex_unlock(&karst->lock);
}

static void karst_wake(void *context)
{
    struct karst *karst = context;
    /* Full: mail is waiting, and its turn will do for this one, too. */
    (void)io_node_post(karst->node, 0, &karst->wake_message);
}

static void karst_ready(void *context)
{
    struct karst *karst = context;
    if (karst->waiting > 0)
        pthread_cond_broadcast(&karst->news);
    karst_show_event(karst);
}

void karst_show_event(struct karst *karst)
{
    if (!karst->event_used)
        return;
    uint64_t count = 1;
    bool some = client_has_news(karst->client) || karst->slice != NULL;
    if (some && !karst->event_set)
        karst->event_set = write(karst->event_fd, &count, sizeof(count)) == sizeof(count);
    else if (!some && karst->event_set)
        karst->event_set = read(karst->event_fd, &count, sizeof(count)) != sizeof(count);
}

uint64_t karst_deadline_ns(const struct karst *karst, int timeout_ms)
{
    return timeout_ms < 0 ? UINT64_MAX : env_now(karst->env) + ENV_MS((unsigned)timeout_ms);
}

bool karst_wait(struct karst *karst, uint64_t deadline_ns)
{
    enum { WAIT_MS_MAX = 1000, NS_PER_S = 1000000000 };
    uint64_t now = env_now(karst->env);
    if (now >= deadline_ns)
        return false;
    uint64_t wait_ns = deadline_ns - now;
    if (wait_ns > ENV_MS(WAIT_MS_MAX))
        wait_ns = ENV_MS(WAIT_MS_MAX);
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until); /* env's clock is another, and counts suspended time */
    uint64_t at_ns = (uint64_t)until.tv_nsec + wait_ns;
    until.tv_sec += (time_t)(at_ns / NS_PER_S);
    until.tv_nsec = (long)(at_ns % NS_PER_S);
    karst->waiting++;
    pthread_cond_timedwait(&karst->news, &karst->lock, &until);
    karst->waiting--;
    return true;
}

int karst_fail(struct karst *karst, err_t err, const char *format, ...)
{
    va_list arguments;
    if (format == NULL) {
        snprintf(karst->error, sizeof(karst->error), "%s", err_sentence(err));
        return err;
    }
    va_start(arguments, format);
    vsnprintf(karst->error, sizeof(karst->error), format, arguments);
    va_end(arguments);
    return err;
}

int karst_fail_unanswered(struct karst *karst, unsigned timeout_ms)
{
    char last[CLIENT_SENTENCE_SIZE];
    karst_lock(karst);
    bool some = client_last_failure(karst->client, last, sizeof(last));
    karst_unlock(karst);
    if (!some)
        return karst_fail(karst, ERR_REQUEST_TIMED_OUT, "no broker answered in %u ms", timeout_ms);
    return karst_fail(karst, ERR_REQUEST_TIMED_OUT, "no broker answered in %u ms (last: %s)",
                      timeout_ms, last);
}

const char *karst_error(const struct karst *karst)
{
    return karst->error;
}

/* ---- beginning and end ---- */

static err_t karst_start(struct karst *karst, const struct client_config *config, char *why,
                         size_t why_size)
{
    struct io_config io;
    io_config_init(&io);
    io.frame_bytes_max = HANDLE_FRAME_BYTES_MAX;
    io.connections_max = HANDLE_CONNECTIONS_MAX;
    io.mailbox_slots = HANDLE_MAIL_SLOTS;
    io.worker_threads = 1; /* names of hosts */
    /* What we send and hold is bounded by buffer.memory and fetch.buffer.memory: a connection that
     * stopped reading because of it would keep the replies away that make room. */
    io.budget_bytes = UINT64_C(1) << 40;
    io.output_bytes_max = UINT32_MAX;
    err_t err = io_node_new(&io, &karst->node, why, why_size);
    if (err != ERR_OK)
        return err;
    karst->env = io_node_env(karst->node, 0);
    struct client_hooks hooks = {karst_lock, karst_unlock, karst_wake, karst_ready, karst};
    err = client_new(config, karst->env, &hooks, &karst->client);
    if (err == ERR_OK)
        err = io_node_start(karst->node);
    return err;
}

static void karst_free(struct karst *karst)
{
    client_free(karst->client);
    io_node_free(karst->node);
    if (karst->event_fd >= 0)
        close(karst->event_fd);
    pthread_cond_destroy(&karst->news);
    pthread_mutex_destroy(&karst->lock);
    free(karst);
}

int karst_new(const struct karst_config *config, struct karst **ret_karst, char *why,
              size_t why_size)
{
    char unread[CLIENT_SENTENCE_SIZE];
    if (why == NULL || why_size == 0) {
        why = unread;
        why_size = sizeof(unread);
    }
    logger_set(LOGGER_OFF, NULL, NULL, false); /* a library tells its caller, not standard error */
    struct client_config checked = config->client;
    err_t err = client_config_check(&checked, why, why_size);
    if (err != ERR_OK)
        return err;
    snprintf(why, why_size, "%s", err_sentence(ERR_NO_MEMORY));
    struct karst *karst = calloc(1, sizeof(*karst));
    if (karst == NULL)
        return ERR_NO_MEMORY;
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&karst->news, &attributes);
    pthread_condattr_destroy(&attributes);
    pthread_mutex_init(&karst->lock, NULL);
    list_init(&karst->shown);
    karst->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    err = karst->event_fd < 0 ? ERR_IO : karst_start(karst, &checked, why, why_size);
    if (err != ERR_OK) {
        karst_free(karst);
        return err;
    }
    *ret_karst = karst;
    return ERR_OK;
}

void karst_close(struct karst *karst, int timeout_ms)
{
    if (karst == NULL)
        return;
    (void)karst_flush(karst, timeout_ms); /* what is left is told below */
    io_node_end(karst->node, 0, "closed");
    (void)io_node_join(karst->node);
    client_abandon(karst->client, ERR_CANCELED);
    (void)karst_run_done(karst);
    struct list_node *node;
    while ((node = list_pop_front(&karst->shown)) != NULL)
        client_slice_free(karst->client, list_entry(node, struct client_slice, link));
    if (karst->slice != NULL)
        client_slice_free(karst->client, karst->slice);
    karst_free(karst);
}

/* ---- polling ---- */

int karst_poll_fd(struct karst *karst)
{
    karst_lock(karst);
    karst->event_used = true;
    karst_show_event(karst);
    karst_unlock(karst);
    return karst->event_fd;
}

int karst_run_done(struct karst *karst)
{
    karst_lock(karst);
    struct client_done *first = client_take_done(karst->client);
    karst_unlock(karst);
    if (first == NULL)
        return 0;
    int64_t count = 0;
    for (const struct client_done *done = first; done != NULL; done = done->next) {
        count += done->count;
        struct karst_delivery delivery = {
            .topic = done->topic,
            .partition = done->partition,
            .err = done->err,
        };
        for (uint32_t i = 0; i < done->count && karst->on_delivery != NULL; i++) {
            delivery.offset = done->base_offset < 0 ? -1 : done->base_offset + i;
            delivery.opaque = done->opaques == NULL ? NULL : done->opaques[i];
            karst->on_delivery(karst->on_delivery_context, &delivery);
        }
    }
    karst_lock(karst);
    client_done_free(karst->client, first);
    karst_show_event(karst);
    karst_unlock(karst);
    return count < INT32_MAX ? (int)count : INT32_MAX;
}

int karst_poll(struct karst *karst, int timeout_ms)
{
    uint64_t deadline_ns = karst_deadline_ns(karst, timeout_ms);
    for (;;) {
        int count = karst_run_done(karst);
        if (count > 0)
            return count;
        karst_lock(karst);
        bool again = client_has_done(karst->client) || karst_wait(karst, deadline_ns);
        karst_unlock(karst);
        if (!again)
            return 0;
    }
}

/* ---- producing ---- */

void karst_on_delivery(struct karst *karst, karst_delivery_cb callback, void *context)
{
    karst->on_delivery = callback;
    karst->on_delivery_context = context;
}

int karst_produce(struct karst *karst, const struct karst_message *message)
{
    karst_lock(karst); /* also for the sentence: any thread may come here */
    err_t err = client_produce(karst->client, message);
    if (err == ERR_MESSAGE_TOO_LARGE)
        (void)karst_fail(karst, err, "topic %s: the record is larger than max.request.size",
                         message->topic);
    else if (err != ERR_OK && err != ERR_FULL) /* which is every-day's */
        (void)karst_fail(karst, err, "topic %s: %s", message->topic, err_sentence(err));
    karst_unlock(karst);
    return err;
}

int64_t karst_outstanding(const struct karst *karst)
{
    struct karst *open = (struct karst *)(uintptr_t)karst; /* the lock is not part of the value */
    karst_lock(open);
    int64_t count = client_outstanding(karst->client);
    karst_unlock(open);
    return count;
}

int karst_flush(struct karst *karst, int timeout_ms)
{
    uint64_t deadline_ns = karst_deadline_ns(karst, timeout_ms);
    karst_lock(karst);
    client_flush(karst->client);
    karst_unlock(karst);
    for (;;) {
        (void)karst_run_done(karst);
        karst_lock(karst);
        int64_t left = client_outstanding(karst->client);
        bool again = left > 0 && (client_has_done(karst->client) || karst_wait(karst, deadline_ns));
        karst_unlock(karst);
        if (left == 0)
            return ERR_OK;
        if (!again)
            return karst_fail(karst, ERR_REQUEST_TIMED_OUT,
                              "%lld records are not acknowledged after %d ms", (long long)left,
                              timeout_ms);
    }
}

int karst_partition_count(struct karst *karst, const char *topic, int timeout_ms)
{
    uint64_t deadline_ns = karst_deadline_ns(karst, timeout_ms);
    int32_t count;
    karst_lock(karst);
    client_ask_again(karst->client, topic);
    do {
        count = client_partition_count(karst->client, topic);
    } while (count == 0 && karst_wait(karst, deadline_ns));
    karst_unlock(karst);
    if (count == 0)
        return -karst_fail_unanswered(karst, (unsigned)timeout_ms);
    if (count < 0)
        (void)karst_fail(karst, -count, "topic %s: %s", topic, err_sentence(-count));
    return count;
}
