/* Runs a fuzz target over the files of a corpus, whole, cut short, and with seeded changes. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "base/canary.h"
#include "base/rng.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    REPLAY_BYTES_MAX = 1 << 16,
    REPLAY_CHANGES = 2000,      /* of each file, */
    REPLAY_CHANGES_ALL = 60000, /* unless there are many */
};

/* In memory of exactly its size, so that a sanitizer sees a read past it. */
static void replay_run(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    ASSERT(copy != NULL);
    memcpy(copy, data, size);
    (void)LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static void replay_file(const uint8_t *data, size_t size, size_t changes, struct rng *rng)
{
    static uint8_t changed[REPLAY_BYTES_MAX];
    for (size_t len = 0; len <= size; len++)
        replay_run(data, len);
    for (size_t i = 0; i < changes; i++) {
        memcpy(changed, data, size);
        for (uint64_t hits = rng_between(rng, 1, 8); hits > 0 && size > 0; hits--)
            changed[rng_below(rng, size)] = (uint8_t)rng_next(rng);
        replay_run(changed, size);
    }
}

static size_t replay_count(DIR *corpus)
{
    size_t files = 0;
    for (struct dirent *entry; (entry = readdir(corpus)) != NULL;)
        files += entry->d_name[0] != '.';
    rewinddir(corpus);
    return files;
}

int main(int argc, char **argv)
{
    static uint8_t data[REPLAY_BYTES_MAX];
    uint64_t seed = 0;
#ifdef KARST_CANARIES
    if (getenv("KARST_CANARY") != NULL)
        canary_arm(getenv("KARST_CANARY")); /* and then it must fail */
#endif
    const char *given = getenv("KARST_SEED");
    if (given != NULL)
        seed = strtoull(given, NULL, 0);
    else
        ASSERT(getrandom(&seed, sizeof(seed), 0) == sizeof(seed));
    fprintf(stderr, "KARST_SEED=%" PRIu64 "\n", seed);
    struct rng rng;
    rng_seed(&rng, seed);

    DIR *corpus = argc == 2 ? opendir(argv[1]) : NULL;
    if (corpus == NULL) {
        fprintf(stderr, "usage: replay CORPUS_DIRECTORY\n");
        return 2;
    }
    size_t files = replay_count(corpus);
    size_t changes = files == 0 ? 0 : REPLAY_CHANGES_ALL / files;
    if (changes > REPLAY_CHANGES)
        changes = REPLAY_CHANGES;
    if (getenv("KARST_CHANGES") != NULL)
        changes = strtoull(getenv("KARST_CHANGES"), NULL, 0); /* of each file */
    for (struct dirent *entry; (entry = readdir(corpus)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        char path[4096];
        snprintf(path, sizeof(path), "%s/%s", argv[1], entry->d_name);
        FILE *file = fopen(path, "rb");
        ASSERT(file != NULL);
        replay_file(data, fread(data, 1, sizeof(data), file), changes, &rng);
        fclose(file);
    }
    closedir(corpus);
    printf("%zu files\n", files);
    return files > 0 ? 0 : 1; /* an empty corpus tests nothing */
}
