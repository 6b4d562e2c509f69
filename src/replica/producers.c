#include "replica/internal.h"

#include <stdlib.h>

void producers_init(struct producers *p, uint32_t count_max, bool complete)
{
    ASSERT(count_max > 0);
    table_init(&p->by_id, 0);
    list_init(&p->by_use);
    p->count_max = count_max;
    p->complete = complete;
}

static void producer_remove(struct producers *p, struct producer *producer)
{
    (void)table_remove(&p->by_id, (uint64_t)producer->id); /* the same as producer */
    list_remove(&producer->use);
    free(producer);
}

void producers_clear(struct producers *p, bool complete)
{
    while (!list_empty(&p->by_use))
        producer_remove(p, list_entry(p->by_use.next, struct producer, use));
    p->complete = complete;
}

void producers_fini(struct producers *p)
{
    producers_clear(p, false);
    table_fini(&p->by_id);
}

/* Sequences go on at 0 after INT32_MAX, as Kafka's. */
static int32_t sequence_add(int32_t sequence, int32_t count)
{
    return (int32_t)(((uint32_t)sequence + (uint32_t)count) & INT32_MAX);
}

static int32_t batch_last_sequence(const struct batch_info *info)
{
    return sequence_add(info->base_sequence, info->record_count - 1);
}

/* a comes before b, on the half circle. */
static bool sequence_before(int32_t a, int32_t b)
{
    uint32_t ahead = ((uint32_t)b - (uint32_t)a) & INT32_MAX;
    return ahead != 0 && ahead < (UINT32_C(1) << 30);
}

static enum sequence_verdict refused(struct sequence_check *ret_check, err_t err)
{
    ret_check->err = err;
    return SEQUENCE_REFUSED;
}

static enum sequence_verdict check_known(const struct producer *producer,
                                         const struct batch_info *info,
                                         struct sequence_check *ret_check)
{
    if (info->producer_epoch < producer->epoch)
        return refused(ret_check, ERR_INVALID_PRODUCER_EPOCH);
    if (info->producer_epoch > producer->epoch)
        return info->base_sequence == 0 ? SEQUENCE_NEW
                                        : refused(ret_check, ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    int32_t last = batch_last_sequence(info);
    for (unsigned i = 0; i < producer->count; i++) {
        const struct producer_batch *batch = &producer->window[i];
        if (batch->first == info->base_sequence && batch->last == last) {
            ret_check->base = batch->base;
            ret_check->end = batch->end;
            return SEQUENCE_DUPLICATE;
        }
    }
    if (info->base_sequence == sequence_add(producer->window[producer->count - 1].last, 1))
        return SEQUENCE_NEW;
    if (sequence_before(last, producer->window[0].first)) {
        ret_check->end = producer->window[0].base;
        return SEQUENCE_OLD_DUPLICATE;
    }
    return refused(ret_check, ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
}

enum sequence_verdict producers_check(const struct producers *p, const struct batch_info *batches,
                                      uint32_t at, struct sequence_check *ret_check)
{
    const struct batch_info *info = &batches[at];
    if (info->producer_id < 0)
        return SEQUENCE_NEW;
    if (info->base_sequence < 0 || info->producer_epoch < 0)
        return refused(ret_check, ERR_INVALID_RECORD);
    const struct producer *producer = table_get(&p->by_id, (uint64_t)info->producer_id);
    if (producer != NULL) {
        enum sequence_verdict verdict = check_known(producer, info, ret_check);
        if (verdict == SEQUENCE_DUPLICATE || verdict == SEQUENCE_OLD_DUPLICATE)
            return verdict;
    }
    for (uint32_t i = at; i-- > 0;) {
        if (batches[i].producer_id != info->producer_id)
            continue;
        bool follows = batches[i].producer_epoch == info->producer_epoch &&
                       sequence_add(batch_last_sequence(&batches[i]), 1) == info->base_sequence;
        return follows ? SEQUENCE_NEW : refused(ret_check, ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    if (producer != NULL)
        return check_known(producer, info, ret_check);
    /* Where nobody was forgotten, one that is not known has written nothing. Kafka takes any
     * sequence here, and lets the second batch in when the first was refused for a passing reason.
     */
    if (p->complete && info->base_sequence != 0)
        return refused(ret_check, ERR_OUT_OF_ORDER_SEQUENCE_NUMBER);
    return SEQUENCE_NEW;
}

struct producer *producers_add(struct producers *p, producer_id_t id)
{
    if (table_count(&p->by_id) >= p->count_max) {
        producer_remove(p, list_entry(p->by_use.next, struct producer, use));
        p->complete = false;
    }
    struct producer *producer = calloc(1, sizeof *producer);
    ASSERT(producer != NULL); /* a few hundred bytes: without them nothing goes on */
    producer->id = id;
    list_init(&producer->use);
    err_t err = table_put(&p->by_id, (uint64_t)id, producer);
    ASSERT(err == ERR_OK);
    list_push_back(&p->by_use, &producer->use);
    return producer;
}

void producers_note(struct producers *p, const struct batch_info *info)
{
    if (info->producer_id < 0 || info->base_sequence < 0)
        return;
    struct producer *producer = table_get(&p->by_id, (uint64_t)info->producer_id);
    if (producer == NULL) {
        producer = producers_add(p, info->producer_id);
        producer->epoch = info->producer_epoch;
    }
    if (info->producer_epoch > producer->epoch) {
        producer->epoch = info->producer_epoch;
        producer->count = 0;
    }
    if (producer->count == PRODUCER_WINDOW) {
        memmove(&producer->window[0], &producer->window[1],
                (PRODUCER_WINDOW - 1) * sizeof producer->window[0]);
        producer->count--;
    }
    producer->window[producer->count++] = (struct producer_batch){
        .first = info->base_sequence,
        .last = batch_last_sequence(info),
        .base = info->base_offset,
        .end = info->last_offset + 1,
    };
    producer->noted++;
    list_remove(&producer->use);
    list_push_back(&p->by_use, &producer->use);
}

bool producers_cut(struct producers *p, offset_t end)
{
    bool known = true;
    list_for_each_safe (node, after, &p->by_use) {
        struct producer *producer = list_entry(node, struct producer, use);
        while (producer->count > 0 && producer->window[producer->count - 1].end > end) {
            producer->count--;
            producer->noted--;
        }
        if (producer->count > 0)
            continue;
        /* What stood before the window is not known: the log says it. */
        if (producer->noted > 0)
            known = false;
        producer_remove(p, producer);
    }
    return known;
}
