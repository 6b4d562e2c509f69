/* manifest.h - private to src/log: the rows of the manifests, read as one set of replicas.
 *
 *   row of 32 bytes:  0 kind (1 added, 2 removed)  4 topic id  20 partition  24 zero  28 CRC32C
 *   the first row:    0 magic  4 version  8 zeros                            28 CRC32C */
#ifndef KARST_LOG_MANIFEST_H
#define KARST_LOG_MANIFEST_H

#include "base/table.h"
#include "log/log_dir.h"

struct manifest_set {
    struct table table; /* of entries, by their keys */
};

struct manifest_entry {
    struct partition_id id;
    uint8_t key[20];
};

void manifest_set_init(struct manifest_set *set);
void manifest_set_fini(struct manifest_set *set);
bool manifest_set_has(const struct manifest_set *set, const struct partition_id *id);
err_t manifest_set_add(struct manifest_set *set, const struct partition_id *id);

/* What one file held. */
struct manifest_file {
    uint64_t good_bytes; /* whole rows, the first one counted; 0: no file, or none worth keeping */
    bool foldable;       /* it holds removed rows or a torn end */
};
/* Applies the file's rows to the set. A missing one has no rows. */
err_t manifest_load(struct env_disk *disk, const char *name, struct manifest_set *set,
                    struct manifest_file *ret);
/* Writes the set as manifest-0. */
err_t manifest_fold(struct env_disk *disk, const struct manifest_set *set);

#endif
