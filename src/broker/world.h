/* world.h - what the broker's process prepares before its actors run: directories, locks,
 * listeners, ids.
 *
 * Thread: main. Errors come with a sentence that names the cause and what to do. */
#ifndef KARST_BROKER_WORLD_H
#define KARST_BROKER_WORLD_H

#include "broker/address.h"
#include "broker/options.h"
#include "io/io.h"

enum { WORLD_DIRECTORIES_MAX = DIRECTORIES_MAX, WORLD_WHY_BYTES = 512 };

struct world {
    struct options options;
    const char *config_file;
    char *directory_text; /* what directories point into */
    const char *directories[WORLD_DIRECTORIES_MAX];
    size_t directory_count;
    const char *metadata_directory;       /* one of the above, or another */
    int locks[WORLD_DIRECTORIES_MAX + 1]; /* flock'd descriptors */
    size_t lock_count;
    struct listener_address listeners[ADDRESS_LISTENERS_MAX], advertised[ADDRESS_LISTENERS_MAX];
    size_t listener_count;
    struct quorum_address servers[ADDRESS_SERVERS_MAX];
    size_t server_count;
    char why[WORLD_WHY_BYTES];
};

/* Reads the configuration and checks what it says together; opens nothing. */
err_t world_init(struct world *world, const char *config_file);
void world_fini(struct world *world);
/* Takes the lock of every directory. make: makes missing ones (karstd format). */
err_t world_lock(struct world *world, bool make);
/* What io_node_new needs; the metadata directory gets the quorum's disk. */
void world_io_config(struct world *world, struct io_config *ret_config,
                     struct io_listener *listeners);
/* Two random words; the process ends when the kernel has none. */
struct uuid world_random_uuid(void);
struct uuid world_boot_id(void);

/* karstd format ...: exit code. */
int format_main(int argc, char **argv);
/* karstd verify CONFIG: exit code. */
int verify_main(int argc, char **argv);
/* karstd recover ...: exit code. */
int recover_main(int argc, char **argv);
/* karstd CONFIG: runs the broker until it is told to end; exit code. */
int broker_main(const char *config_file);

#endif
