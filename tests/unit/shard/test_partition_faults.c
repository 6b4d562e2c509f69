/* One broker of three, on whose disk one call fails: each call of its life, once. What was
 * acknowledged is there at the end, on whoever leads; the broker itself answers, and goes on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/logger.h"
#include "unit/shard/partition_lab.h"

enum { VALUES = 40, VALUE_BYTES = 300 };

static struct {
    struct lab *lab;
    struct lab_call *calls[VALUES];
    int count;
} life;

static void produce(node_id_t to, int16_t acks, int count)
{
    struct lab_node *node = &life.lab->nodes[to];
    for (int i = 0; i < count && node->up; i++) {
        char value[VALUE_BYTES];
        memset(value, 'x', sizeof(value));
        int chars = snprintf(value, sizeof(value), "v%d.", life.count);
        value[chars] = 'x';
        value[sizeof(value) - 1] = '\0';
        life.calls[life.count++] = lab_produce(life.lab, to, acks, 1, value);
    }
    lab_pump(life.lab);
}

static bool first_is_sound(void)
{
    const struct lab_node *node = &life.lab->nodes[1];
    struct partition_view view;
    return node->up && partition_look(node->table, &life.lab->id, &view) && !view.failed;
}

/* As the controller: who has failed neither leads nor counts. */
static void control(void)
{
    lab_tick(life.lab, 1500);
    const struct image_partition *p = lab_partition_now(life.lab);
    if (image_partition_in_isr(p, 1) && !first_is_sound())
        lab_elect(life.lab, p->leader == 1 ? 2 : p->leader, 23);
    lab_tick(life.lab, 1500);
}

static void first_leads(void)
{
    if (image_partition_in_isr(lab_partition_now(life.lab), 1) && first_is_sound())
        lab_elect(life.lab, 1, 123);
    lab_pump(life.lab);
}

static void first_goes(bool in_order)
{
    in_order ? lab_stop(life.lab, 1) : lab_kill(life.lab, 1, true);
    lab_elect(life.lab, 2, 23);
    produce(2, -1, 2);
    lab_start(life.lab, 1);
    control();
}

/* Readers of the first broker get what is right, or an error. */
static void read_first(void)
{
    struct lab_call *fetch = lab_fetch(life.lab, 1, 0, 0);
    struct lab_call *time = lab_list_offsets(life.lab, 1, 1000);
    lab_pump(life.lab);
    if (lab_err(fetch) == ERR_OK && fetch->fetch.records != NULL)
        ck_assert_int_eq(strncmp(lab_values(fetch), "v", 1), 0);
    if (lab_err(time) == ERR_OK)
        ck_assert_int_le(time->list.offset, 0); /* -1: there is none */
}

static void check_acknowledged(void)
{
    const char *values = lab_log_values(life.lab, lab_partition_now(life.lab)->leader);
    int acknowledged = 0;
    for (int i = 0; i < life.count; i++) {
        char value[16];
        const struct lab_call *call = life.calls[i];
        if (!call->answered || call->part.err != ERR_OK || call->produce.acks != -1)
            continue;
        (void)snprintf(value, sizeof(value), "v%d.", i);
        const char *found = strstr(values, value);
        ck_assert_msg(found != NULL, "%s was acknowledged, and is not there", value);
        values = found; /* in order */
        acknowledged++;
    }
    ck_assert_int_ge(acknowledged, 8);
}

static void live(void)
{
    struct lab *lab = life.lab;
    lab_create(lab);
    control();
    produce(1, -1, 4);
    read_first();
    control();
    first_goes(true);
    first_leads();
    produce(1, -1, 5);
    read_first();
    control();
    /* What it has alone is cut when it hears of the next leader (R9). */
    lab_mute(lab, 1, true);
    produce(1, 1, 2);
    lab_elect(lab, 2, 23);
    produce(2, -1, 2);
    lab_mute(lab, 1, false);
    control();
    first_leads();
    produce(1, -1, 1);
    control();
    first_goes(false);
    check_acknowledged();
    lab_tick(lab, 12000); /* checkpoints */
    lab_delete(lab);
    lab_tick(lab, 2000);
}

static bool run(uint64_t nth, err_t err)
{
    struct partition_options options = lab_options();
    options.segment_bytes = 1200;
    options.preallocate_bytes = 512;
    memset(&life, 0, sizeof(life));
    life.lab = lab_new_with(7, &options);
    life.lab->nodes[1].faulty.sound = false;
    faults_arm(FAULTS_DISK, nth, err);
    live();
    bool met = faults_disarm();
    lab_free(life.lab);
    return met;
}

static void run_all(err_t err)
{
    uint64_t nth = 1;
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    while (run(nth, err))
        nth++;
    ck_assert_uint_gt(nth, 100); /* else the life is short */
}

START_TEST(a_failed_call_of_the_disk_loses_nothing_that_was_acknowledged)
{
    run_all(ERR_IO);
}
END_TEST

START_TEST(a_disk_that_is_full_for_a_moment_loses_nothing_that_was_acknowledged) /* R16 */
{
    run_all(ERR_NOT_ENOUGH_SPACE);
}
END_TEST

/* ---- snapshots of producers ---- */

static void tell_again(struct lab *lab)
{
    struct lab_call *call = lab_produce_as(lab, 1, 7, 0, "a");
    lab_pump(lab);
    ck_assert_int_eq(lab_err(call), ERR_OK);
    ck_assert_int_eq(call->produce.base_offset, 0); /* where the first one is (R28) */
}

static void stop_and_start(struct lab *lab, bool stop_fails, uint64_t nth, bool *ret_met)
{
    faults_arm(stop_fails ? FAULTS_DISK : FAULTS_NONE, nth, ERR_IO);
    lab_stop(lab, 1);
    if (!stop_fails)
        faults_arm(FAULTS_DISK, nth, ERR_IO);
    else
        *ret_met = faults_disarm();
    lab_start(lab, 1);
    lab_tick(lab, 500);
    if (!stop_fails)
        *ret_met = faults_disarm();
    if (!lab_look(lab, 1).leading) {
        lab_kill(lab, 1, true);
        lab_start(lab, 1);
        lab_tick(lab, 500);
    }
    tell_again(lab);
}

START_TEST(a_producer_is_known_after_a_stop_or_a_start_that_met_a_failed_call)
{
    struct lab *lab = lab_new(9);
    char value[900];
    memset(value, 'v', sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    logger_set(LOGGER_ERROR, NULL, NULL, true);
    lab_create(lab);
    lab_pump(lab);
    lab_kill(lab, 2, false);
    lab_kill(lab, 3, false);
    lab_elect(lab, 1, 1);
    tell_again(lab);                /* the first time */
    for (int i = 0; i < 400; i++) { /* more than a start likes to read */
        struct lab_call *call = lab_produce(lab, 1, 1, 4, value);
        lab_pump(lab);
        ck_assert_int_eq(lab_err(call), ERR_OK);
    }
    lab->nodes[1].faulty.sound = false;
    for (int stop_fails = 1; stop_fails >= 0; stop_fails--) {
        bool met = true;
        uint64_t nth = 1;
        for (; met; nth++)
            stop_and_start(lab, stop_fails == 1, nth, &met);
        ck_assert_uint_gt(nth, 7);
    }
    lab_free(lab);
}
END_TEST

CHECK_MAIN("shard/partition_faults", a_failed_call_of_the_disk_loses_nothing_that_was_acknowledged,
           a_disk_that_is_full_for_a_moment_loses_nothing_that_was_acknowledged,
           a_producer_is_known_after_a_stop_or_a_start_that_met_a_failed_call)
