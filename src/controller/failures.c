#include <stdlib.h>

#include "base/logger.h"
#include "controller/internal.h"

/* What a broker says of its disks with each heartbeat: directories that failed a sync are marked in
 * the metadata (R14), logs that failed are remembered for this life of it (R19). The last member of
 * an ISR stays by name and leads no more; its process' next life recovers the log, or says that it
 * is lost. */

void failures_forget(struct broker_soft *soft)
{
    free(soft->failed);
    soft->failed = NULL;
    soft->failed_count = 0;
}

static int failures_compare(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct partition_id));
}

bool failures_has(const struct broker_soft *soft, const struct partition_id *id)
{
    return soft->failed_count > 0 &&
           bsearch(id, soft->failed, soft->failed_count, sizeof(*id), failures_compare) != NULL;
}

/* ---- directories ---- */

static bool directory_in(const ProtobufCBinaryData *rows, size_t count, const struct uuid *id)
{
    for (size_t i = 0; i < count; i++)
        if (rows[i].len == sizeof(id->b) && memcmp(rows[i].data, id->b, sizeof(id->b)) == 0)
            return true;
    return false;
}

static bool failures_marked(const struct image_broker *broker, const struct uuid *id)
{
    for (uint32_t i = 0; i < broker->failed_count; i++)
        if (uuid_equal(&broker->failed[i], id))
            return true;
    return false;
}

const struct uuid *failures_marked_online(const struct image_broker *old,
                                          const Karst__RegisterBrokerRequest *request)
{
    for (uint32_t i = 0; old != NULL && i < old->failed_count; i++) {
        const struct uuid *id = &old->failed[i];
        if (directory_in(request->online_directories, request->n_online_directories, id) &&
            !directory_in(request->verified_directories, request->n_verified_directories, id))
            return id;
    }
    return NULL;
}

size_t failures_carry(const struct image_broker *old, const Karst__RegisterBrokerRequest *request,
                      ProtobufCBinaryData *ret_marked)
{
    size_t count = 0;
    for (uint32_t i = 0; old != NULL && i < old->failed_count; i++)
        if (!directory_in(request->verified_directories, request->n_verified_directories,
                          &old->failed[i]))
            ret_marked[count++] = record_uuid(&old->failed[i]);
    return count;
}

/* True: some of them are new, and marked now. */
static bool failures_take_directories(struct controller *c, const Karst__HeartbeatRequest *request)
{
    const struct image_broker *broker = image_broker(view(c), request->node_id);
    ProtobufCBinaryData marked[DIRECTORIES_MAX];
    Karst__BrokerChangeRecord change = KARST__BROKER_CHANGE_RECORD__INIT;
    change.failed_directories = marked;
    for (size_t i = 0; i < request->n_failed_directories && i < DIRECTORIES_MAX; i++) {
        struct uuid id;
        if (request_uuid(&request->failed_directories[i], &id) && !uuid_is_zero(&id) &&
            !failures_marked(broker, &id))
            marked[change.n_failed_directories++] = request->failed_directories[i];
    }
    if (change.n_failed_directories == 0)
        return false;
    change.node_id = request->node_id;
    change.broker_epoch = broker->epoch;
    change.state = (Karst__BrokerState)broker->state;
    err_t err = decision_add(c, &change.base);
    if (err != ERR_OK)
        decision_complain("a directory's failure", err);
    else
        log_warn("controller: broker %d lost %zu log directories: a sync failed there",
                 request->node_id, change.n_failed_directories);
    return err == ERR_OK;
}

/* ---- logs ---- */

/* Malformed rows are left out. NULL: none. */
static struct partition_id *failures_read(const Karst__HeartbeatRequest *request, size_t *ret_count)
{
    size_t count = 0;
    *ret_count = 0;
    if (request->n_failed == 0)
        return NULL;
    struct partition_id *rows = calloc(request->n_failed, sizeof(*rows));
    if (rows == NULL)
        return NULL; /* said again with the next heartbeat */
    for (size_t i = 0; i < request->n_failed; i++) {
        rows[count].index = request->failed[i]->index;
        count += request_uuid(&request->failed[i]->topic_id, &rows[count].topic);
    }
    qsort(rows, count, sizeof(*rows), failures_compare);
    *ret_count = count;
    return rows;
}

/* True: it differs from what was known. */
static bool failures_take_logs(struct broker_soft *soft, const Karst__HeartbeatRequest *request)
{
    size_t count;
    struct partition_id *rows = failures_read(request, &count);
    bool same = count == soft->failed_count &&
                (count == 0 || memcmp(rows, soft->failed, count * sizeof(*rows)) == 0);
    if (same) {
        free(rows);
        return false;
    }
    failures_forget(soft);
    soft->failed = rows;
    soft->failed_count = count;
    return true;
}

void failures_take(struct controller *c, const Karst__HeartbeatRequest *request)
{
    struct broker_soft *soft = brokers_soft(c, request->node_id);
    bool directories = failures_take_directories(c, request);
    bool logs = failures_take_logs(soft, request);
    if (!directories && !logs)
        return;
    size_t changed = repair_broker(c, request->node_id);
    log_warn("controller: %zu logs of broker %d have failed; %zu partitions changed",
             soft->failed_count, request->node_id, changed);
}
