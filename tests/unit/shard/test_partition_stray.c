#include <string.h>

#include "unit/shard/partition_lab.h"

enum { RETENTION_MS = 300000 };

/* Folders of node 1 whose names end so. */
struct counting {
    const char *suffix;
    unsigned count;
};

static void count_entry(void *context, const char *entry, bool is_directory)
{
    struct counting *counting = context;
    size_t len = strlen(entry), suffix = strlen(counting->suffix);
    counting->count +=
        is_directory && len >= suffix && strcmp(entry + len - suffix, counting->suffix) == 0;
}

static unsigned folders(struct lab *lab, const char *suffix)
{
    struct env_disk *disk = &lab->nodes[1].view.env;
    struct counting counting = {.suffix = suffix};
    ck_assert_int_eq(disk->list(disk->self, "", count_entry, &counting), ERR_OK);
    return counting.count;
}

/* Node 1 was away while the topic was deleted. */
static struct lab *setup(void)
{
    struct partition_options options = lab_options();
    options.stray_retention_ms = RETENTION_MS;
    options.stray_percent_max = 50;
    struct lab *lab = lab_new_with(check_main_seed(), &options);
    lab_create(lab);
    lab_pump(lab);
    lab_produce(lab, 1, -1, 1, "a");
    lab_pump(lab);
    lab_kill(lab, 1, true);
    lab_delete(lab);
    lab_pump(lab);
    return lab;
}

START_TEST(a_folder_of_no_partition_is_kept_for_so_long_and_then_deleted)
{
    struct lab *lab = setup();
    lab_start(lab, 1);
    lab_tick(lab, 100);
    ck_assert_uint_eq(folders(lab, "orders-0"), 0);
    ck_assert_uint_eq(folders(lab, "-stray"), 1);
    for (int i = 0; i < 4; i++)
        lab_tick(lab, RETENTION_MS / 5);
    ck_assert_uint_eq(folders(lab, "-stray"), 1);
    lab_kill(lab, 1, true);
    lab_start(lab, 1); /* its age is in its name */
    for (int i = 0; i < 3; i++)
        lab_tick(lab, RETENTION_MS / 5);
    ck_assert_uint_eq(folders(lab, "-stray"), 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_directory_that_is_mostly_stray_is_not_touched)
{
    struct lab *lab = setup();
    struct partition_found found[10];
    memset(found, 0, sizeof(found));
    for (int32_t i = 0; i < 10; i++)
        found[i].id = (struct partition_id){lab->id.topic, i};
    lab->found_all = found;
    lab->found_all_count = 10;
    lab->nodes[1].may_exit = true;
    lab_start(lab, 1);
    lab_tick(lab, 100);
    ck_assert(lab->nodes[1].exited);
    ck_assert_uint_eq(folders(lab, "orders-0"), 1);
    ck_assert_uint_eq(folders(lab, "-stray"), 0);
    lab_free(lab);
}
END_TEST

START_TEST(a_person_may_say_that_all_of_it_is_stray)
{
    struct lab *lab = setup();
    struct partition_found found[10];
    memset(found, 0, sizeof(found));
    for (int32_t i = 0; i < 10; i++)
        found[i].id = (struct partition_id){lab->id.topic, i};
    lab->found_all = found;
    lab->found_all_count = 10;
    lab->options.stray_percent_max = 100;
    lab_start(lab, 1);
    lab_tick(lab, 100);
    ck_assert_uint_eq(folders(lab, "-stray"), 1);
    lab_free(lab);
}
END_TEST

CHECK_MAIN("shard/partition_stray", a_folder_of_no_partition_is_kept_for_so_long_and_then_deleted,
           a_directory_that_is_mostly_stray_is_not_touched,
           a_person_may_say_that_all_of_it_is_stray)
