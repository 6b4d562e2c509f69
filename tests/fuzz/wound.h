/* wound.h - a small directory as it was, so that each run of a fuzzer begins with it, and a wound
 * in one of its files:
 *
 *   which file, flags, place in it (two bytes), then what is written there; nothing: cut there
 *
 * Most of a file is zeros written beforehand: with WOUND_DENSE among the flags the place counts
 * only the others, and those next to them: a wound more often hits what means something.
 *
 * Thread: one. Errors: none: what fails is an assertion. */
#ifndef KARST_TESTS_FUZZ_WOUND_H
#define KARST_TESTS_FUZZ_WOUND_H

#include "base/bytes.h"
#include "env/env.h"

enum { WOUND_DENSE = 0x80 };
enum { WOUND_FILES_MAX = 24, WOUND_NAME_BYTES = 160, WOUND_FILE_BYTES = 16384 };

struct wound_file {
    char name[WOUND_NAME_BYTES];
    bool is_directory;
    uint8_t data[WOUND_FILE_BYTES];
    size_t len;
};

struct wound_directory {
    struct wound_file files[WOUND_FILES_MAX]; /* a directory before what is in it */
    unsigned count;
};

void wound_capture(struct env_disk *disk, struct wound_directory *into);
/* Into an empty disk. */
void wound_restore(struct env_disk *disk, const struct wound_directory *from);

struct wound {
    const char *name; /* made when it is not there */
    size_t place;     /* taken modulo the file's length */
    bool dense;
    struct bytes with;
};
/* seal may make checks right again; NULL: nobody does. */
void wound_apply(struct env_disk *disk, const struct wound *wound,
                 void (*seal)(uint8_t *data, size_t len, const char *name));

#endif
