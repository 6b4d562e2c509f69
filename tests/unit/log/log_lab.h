/* log_lab.h - a log on a simulated disk, a pump for its completions, and a model of what it must
 * hold. */
#ifndef KARST_TESTS_LOG_LAB_H
#define KARST_TESTS_LOG_LAB_H

#include "lib/check_main.h"
#include "lib/faults.h"
#include "log/log.h"
#include "sim/sim_disk.h"

enum { LAB_BATCHES_MAX = 4096, LAB_SCHEDULED_MAX = 64, LAB_BATCH_BYTES_MAX = 4096 };

struct lab_batch {
    offset_t base, last;
    leader_epoch_t epoch;
    int64_t timestamp; /* of its first record; the others follow by one ms */
    uint8_t *bytes;
    size_t len;
};

struct lab_done {
    struct env_done *op;
    err_t err;
};

struct log_lab {
    struct sim_disk *disk;
    struct sim_disk_view view;
    struct faults_disk faulty; /* what the log has: the view, with calls that fail */
    struct env env;
    struct env_timer *timer; /* the one that is started */
    struct log_options options;
    struct uuid topic;
    bool sync_all; /* after a crash, as log_dir_open does; else the log syncs its own */
    struct lab_done scheduled[LAB_SCHEDULED_MAX];
    size_t scheduled_count;

    struct log *log; /* NULL: closed */
    struct log_recovery recovery;
    offset_t told_end; /* by the upcall */
    err_t told_err;
    unsigned told_count;
    size_t visited;

    struct lab_batch batches[LAB_BATCHES_MAX]; /* the model: all that was appended and not cut */
    size_t batch_count;
    uint64_t serial; /* no two batches are alike */
    int64_t now_ms;
    leader_epoch_t epoch;
    offset_t gap; /* before each batch, where the log is compacted */
};

/* Small segments, rows and steps, so that a few batches meet every edge. */
void lab_init(struct log_lab *lab, uint64_t seed);
void lab_fini(struct log_lab *lab);

err_t lab_try_open(struct log_lab *lab, bool clean);
void lab_open(struct log_lab *lab, bool clean);
void lab_kill(struct log_lab *lab);      /* kill -9: closes as in a crash; the cache stays */
void lab_power_cut(struct log_lab *lab); /* and loses what was not synced */

/* One batch of so many records of about value_bytes, at the log's end, into the model too. */
err_t lab_try_append(struct log_lab *lab, int records, size_t value_bytes);
void lab_append(struct log_lab *lab, int records, size_t value_bytes);
/* The model forgets what is at or above offset. */
void lab_model_cut(struct log_lab *lab, offset_t offset);
void lab_model_drop(struct log_lab *lab, offset_t start);

void lab_pump(struct log_lab *lab);     /* completes all that is scheduled, in order */
void lab_pump_one(struct log_lab *lab); /* the oldest */
void lab_flush(struct log_lab *lab);    /* asks, pumps, checks that all is flushed */

/* The log holds the model's batches from start to end, byte for byte, and no others; reads, times
 * and epochs agree. */
void lab_check(struct log_lab *lab);
/* A frame of batches from offset, or NULL. */
struct frame *lab_read(struct log_lab *lab, offset_t offset, offset_t limit, size_t bytes_max);

#endif
