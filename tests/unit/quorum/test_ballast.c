#include "quorum/ballast.h"

#include <string.h>

#include "base/logger.h"
#include "lib/check_main.h"
#include "quorum/store.h"
#include "sim/sim_disk.h"

enum { RESERVE = 64 << 10 };

static struct sim_disk *sim;
static struct sim_disk_view view;
static struct env_disk *disk = &view.env;
static struct ballast ballast;

static void never_schedule(void *context, uint64_t delay_ns, struct env_done *op, err_t err)
{
    (void)context;
    (void)delay_ns;
    (void)op;
    (void)err;
    ck_abort_msg("no sync is asynchronous here");
}

static void setup(void)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    sim = sim_disk_new(&(struct sim_disk_options){.seed = check_main_seed()});
    sim_disk_view_init(&view, sim, never_schedule, NULL);
    sim_disk_set_capacity(sim, 1 << 20);
    ck_assert_int_eq(disk->make_directory(disk->self, STORE_DIRECTORY), ERR_OK);
    ballast_init(&ballast, disk, RESERVE);
    ck_assert(ballast_low(&ballast));
    ballast_restore(&ballast);
    ck_assert(!ballast_low(&ballast));
}

static void teardown(void)
{
    ballast_fini(&ballast);
    sim_disk_free(sim);
}

static err_t write_file(struct env_disk *on, const char *name, size_t bytes)
{
    static uint8_t data[1 << 20];
    env_file file;
    struct iovec part = {data, bytes};
    err_t err = on->open(on->self, name, ENV_OPEN_CREATE, &file);
    if (err != ERR_OK)
        return err;
    err = on->write(on->self, file, 0, &part, 1);
    on->close(on->self, file);
    return err;
}

/* Another user of the disk takes all that is left. */
static void fill(void)
{
    uint64_t free_bytes;
    struct env_disk *other = &ballast.inner;
    ck_assert_int_eq(other->free_bytes(other->self, &free_bytes), ERR_OK);
    ck_assert_int_eq(write_file(other, "others", (size_t)free_bytes), ERR_OK);
    ck_assert_int_eq(write_file(other, "more", 4096), ERR_NOT_ENOUGH_SPACE);
}

START_TEST(a_full_disk_still_takes_what_the_reserve_holds)
{
    setup();
    fill();
    ck_assert(!ballast_low(&ballast)); /* others do not get it */
    ck_assert_int_eq(write_file(disk, STORE_DIRECTORY "/log", RESERVE / 2), ERR_OK);
    ck_assert(ballast_low(&ballast));
    ck_assert_int_eq(write_file(disk, STORE_DIRECTORY "/more", RESERVE), ERR_NOT_ENOUGH_SPACE);
    teardown();
}
END_TEST

START_TEST(the_log_sees_the_reserve_as_room)
{
    uint64_t free_bytes;
    setup();
    fill();
    ck_assert_int_eq(disk->free_bytes(disk->self, &free_bytes), ERR_OK);
    ck_assert_uint_ge(free_bytes, RESERVE);
    teardown();
}
END_TEST

START_TEST(the_reserve_comes_back_when_twice_as_much_is_free)
{
    setup();
    fill();
    ck_assert_int_eq(write_file(disk, STORE_DIRECTORY "/log", 4096), ERR_OK);
    ballast_restore(&ballast);
    ck_assert(ballast_low(&ballast));
    ck_assert_int_eq(disk->unlink(disk->self, "others"), ERR_OK);
    ballast_restore(&ballast);
    ck_assert(!ballast_low(&ballast));
    teardown();
}
END_TEST

START_TEST(an_earlier_lifes_reserve_counts)
{
    setup();
    fill();
    ballast_fini(&ballast);
    sim_disk_kill(sim);
    ballast_init(&ballast, disk, RESERVE);
    ck_assert(!ballast_low(&ballast));
    ck_assert_int_eq(write_file(disk, STORE_DIRECTORY "/log", RESERVE), ERR_OK);
    teardown();
}
END_TEST

CHECK_MAIN("quorum/ballast", a_full_disk_still_takes_what_the_reserve_holds,
           the_log_sees_the_reserve_as_room, the_reserve_comes_back_when_twice_as_much_is_free,
           an_earlier_lifes_reserve_counts)
