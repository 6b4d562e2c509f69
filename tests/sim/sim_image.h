/* sim_image.h - private to sim_disk: files and names, each twice: as the page cache shows them, and
 * as the disk would after a power cut now; between them dirty sectors and the journal. */
#ifndef KARST_TESTS_SIM_IMAGE_H
#define KARST_TESTS_SIM_IMAGE_H

#include "base/list.h"
#include "base/rng.h"
#include "sim/sim_disk.h"

enum { SECTOR_BYTES = 512, PAGE_BYTES = 4096, PAGE_SECTORS = 8 };

struct sim_page {
    uint8_t *cache;  /* NULL: the cache has nothing that the disk has not */
    uint8_t *disk;   /* NULL: zeros */
    uint8_t dirty;   /* sectors of cache, bit by bit, that no sync has taken */
    bool has_blocks; /* counts against the capacity */
};

struct sim_inode;

struct sim_name {
    char *name;
    struct sim_inode *inode; /* one reference */
};
struct sim_names { /* sorted */
    struct sim_name *v;
    size_t count, capacity;
};

/* A file or a directory; freed with its last reference. */
struct sim_inode {
    struct list_node link; /* image.inodes, in order of creation */
    unsigned refs;
    bool is_directory;
    struct sim_names cache_names, disk_names; /* of a directory */

    unsigned links;           /* in cache_names of directories */
    unsigned handles;         /* open ids */
    unsigned syncs_in_flight; /* their captured sectors are neither dirty nor on the disk */
    uint64_t cache_size, disk_size;
    struct sim_page *pages;
    size_t page_count;
    uint64_t blocks; /* pages that have blocks */
    bool counted;    /* blocks are in image.used_blocks */
    size_t kept;     /* at a power cut: of the journal, where any order is possible */
};

enum sim_entry_kind { SIM_LINK, SIM_UNLINK, SIM_RENAME, SIM_SIZE };

/* A change of names or sizes that is not on the disk yet. */
struct sim_entry {
    struct list_node link;
    uint64_t sequence;
    enum sim_entry_kind kind;
    struct sim_inode *directory, *to_directory, *inode; /* one reference each, or NULL */
    char *name, *to_name;
    uint64_t size;
};

struct sim_image {
    struct sim_inode *root;
    struct list_node inodes;
    struct list_node journal;
    size_t journal_length;
    uint64_t sequence; /* of the last entry */
    uint64_t used_blocks;
    uint64_t capacity_bytes; /* 0: without bound */
    bool any_order;          /* the journal keeps the order of each directory and file only */
};

void sim_image_init(struct sim_image *image);
void sim_image_fini(struct sim_image *image);

/* ---- names; name is a path below the root ---- */

struct sim_inode *sim_image_find(struct sim_image *image, const char *name); /* NULL: none */
/* The directory that holds name, and where its last part begins; NULL: no such directory. */
struct sim_inode *sim_image_parent(struct sim_image *image, const char *name,
                                   const char **ret_last);
struct sim_inode *sim_image_create(struct sim_image *image, struct sim_inode *directory,
                                   const char *last, bool is_directory);
void sim_image_unlink(struct sim_image *image, struct sim_inode *directory, const char *last);
void sim_image_rename(struct sim_image *image, struct sim_inode *from, const char *from_last,
                      struct sim_inode *to, const char *to_last);
/* Drops name from the cache and the disk at once. */
void sim_image_lose(struct sim_image *image, struct sim_inode *directory, const char *last);

void sim_inode_ref(struct sim_inode *inode);
void sim_inode_unref(struct sim_inode *inode);
/* After links or handles fell: nobody can reach the bytes any more, so their blocks are free. */
void sim_image_release_blocks(struct sim_image *image, struct sim_inode *inode);

/* ---- bytes, in the cache ---- */

/* False: the capacity does not allow it; nothing changed. */
bool sim_image_reserve(struct sim_image *image, struct sim_inode *inode, uint64_t from,
                       uint64_t bytes);
void sim_image_write(struct sim_image *image, struct sim_inode *inode, uint64_t at,
                     const void *data, size_t bytes); /* reserved; extends */
void sim_image_read(const struct sim_inode *inode, uint64_t at, void *into, size_t bytes);
void sim_image_zero(struct sim_inode *inode, uint64_t from); /* to the end of the file */
void sim_image_set_size(struct sim_image *image, struct sim_inode *inode, uint64_t size);
void sim_image_drop_cache(struct sim_inode *inode);

/* ---- what reaches the disk ---- */

void sim_page_to_disk(struct sim_inode *inode, size_t index, const uint8_t *bytes, uint8_t sectors);
/* The inode's sizes up to that sequence. */
void sim_image_commit_sizes(struct sim_image *image, struct sim_inode *inode, uint64_t sequence);
void sim_image_commit_names(struct sim_image *image, struct sim_inode *directory);
void sim_image_commit_prefix(struct sim_image *image, size_t count);
/* A random part of one random file's dirty sectors, and perhaps of the journal. */
void sim_image_writeback(struct sim_image *image, struct sim_inode *inode, struct rng *rng);
/* Drawn from rng: what survives; the cache is what the disk has then. No syncs in flight. */
void sim_image_power_cut(struct sim_image *image, struct rng *rng,
                         struct sim_disk_counters *counters);

#endif
