#include "sim/sim_image.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

enum { JOURNAL_ENTRIES_MAX = 4096, ALL_SECTORS = 0xff };

static void *image_alloc(size_t bytes)
{
    void *memory = calloc(1, bytes);
    ASSERT(memory != NULL);
    return memory;
}

static char *image_strdup(const char *text)
{
    char *copy = strdup(text);
    ASSERT(copy != NULL);
    return copy;
}

/* ---- inodes ---- */

void sim_inode_ref(struct sim_inode *inode)
{
    inode->refs++;
}

static void names_clear(struct sim_names *names);

void sim_inode_unref(struct sim_inode *inode)
{
    if (inode == NULL || --inode->refs > 0)
        return;
    ASSERT(inode->handles == 0);
    for (size_t i = 0; i < inode->page_count; i++) {
        free(inode->pages[i].cache);
        free(inode->pages[i].disk);
    }
    free(inode->pages);
    names_clear(&inode->cache_names);
    names_clear(&inode->disk_names);
    list_remove(&inode->link);
    free(inode);
}

static struct sim_inode *inode_new(struct sim_image *image, bool is_directory)
{
    struct sim_inode *inode = image_alloc(sizeof(*inode));
    inode->refs = 1;
    inode->is_directory = is_directory;
    inode->counted = true;
    list_push_back(&image->inodes, &inode->link);
    return inode;
}

void sim_image_release_blocks(struct sim_image *image, struct sim_inode *inode)
{
    if (inode->links > 0 || inode->handles > 0 || !inode->counted)
        return;
    image->used_blocks -= inode->blocks;
    inode->counted = false;
}

/* ---- tables of names ---- */

static size_t names_place(const struct sim_names *names, const char *name, bool *ret_found)
{
    size_t low = 0, high = names->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = strcmp(names->v[middle].name, name);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct sim_inode *names_find(const struct sim_names *names, const char *name)
{
    bool found;
    size_t at = names_place(names, name, &found);
    return found ? names->v[at].inode : NULL;
}

static void names_remove(struct sim_names *names, const char *name)
{
    bool found;
    size_t at = names_place(names, name, &found);
    if (!found)
        return;
    free(names->v[at].name);
    sim_inode_unref(names->v[at].inode);
    names->count--;
    memmove(&names->v[at], &names->v[at + 1], (names->count - at) * sizeof(names->v[0]));
}

static void names_put(struct sim_names *names, const char *name, struct sim_inode *inode)
{
    sim_inode_ref(inode);
    names_remove(names, name);
    if (names->count == names->capacity) {
        names->capacity = names->capacity == 0 ? 4 : names->capacity * 2;
        names->v = realloc(names->v, names->capacity * sizeof(names->v[0]));
        ASSERT(names->v != NULL);
    }
    bool found;
    size_t at = names_place(names, name, &found);
    memmove(&names->v[at + 1], &names->v[at], (names->count - at) * sizeof(names->v[0]));
    names->v[at] = (struct sim_name){.name = image_strdup(name), .inode = inode};
    names->count++;
}

static void names_clear(struct sim_names *names)
{
    while (names->count > 0) {
        struct sim_name *last = &names->v[--names->count];
        free(last->name);
        sim_inode_unref(last->inode);
    }
    free(names->v);
    *names = (struct sim_names){0};
}

/* ---- the journal ---- */

static void entry_free(struct sim_image *image, struct sim_entry *entry)
{
    list_remove(&entry->link);
    image->journal_length--;
    sim_inode_unref(entry->directory);
    sim_inode_unref(entry->to_directory);
    sim_inode_unref(entry->inode);
    free(entry->name);
    free(entry->to_name);
    free(entry);
}

static struct sim_inode *ref_or_null(struct sim_inode *inode)
{
    if (inode != NULL)
        sim_inode_ref(inode);
    return inode;
}

static void journal_add(struct sim_image *image, struct sim_entry what)
{
    struct sim_entry *entry = image_alloc(sizeof(*entry));
    *entry = what;
    ref_or_null(entry->directory);
    ref_or_null(entry->to_directory);
    ref_or_null(entry->inode);
    entry->name = what.name == NULL ? NULL : image_strdup(what.name);
    entry->to_name = what.to_name == NULL ? NULL : image_strdup(what.to_name);
    entry->sequence = ++image->sequence;
    list_push_back(&image->journal, &entry->link);
    /* Bound: a real kernel commits every few seconds too. */
    if (++image->journal_length > JOURNAL_ENTRIES_MAX)
        sim_image_commit_prefix(image, JOURNAL_ENTRIES_MAX / 2);
}

static void disk_set_size(struct sim_inode *inode, uint64_t size)
{
    for (size_t i = (size_t)(size / PAGE_BYTES); i < inode->page_count && size < inode->disk_size;
         i++) {
        uint8_t *bytes = inode->pages[i].disk;
        if (bytes == NULL)
            continue;
        size_t keep = (uint64_t)i * PAGE_BYTES < size ? (size_t)(size % PAGE_BYTES) : 0;
        memset(bytes + keep, 0, PAGE_BYTES - keep);
    }
    inode->disk_size = size;
}

static void entry_commit(struct sim_image *image, struct sim_entry *entry)
{
    switch (entry->kind) {
    case SIM_LINK:
        names_put(&entry->directory->disk_names, entry->name, entry->inode);
        break;
    case SIM_UNLINK:
        names_remove(&entry->directory->disk_names, entry->name);
        break;
    case SIM_RENAME:
        names_remove(&entry->directory->disk_names, entry->name);
        names_put(&entry->to_directory->disk_names, entry->to_name, entry->inode);
        break;
    case SIM_SIZE:
        disk_set_size(entry->inode, entry->size);
        break;
    }
    entry_free(image, entry);
}

void sim_image_commit_prefix(struct sim_image *image, size_t count)
{
    struct list_node *node;
    while (count-- > 0 && (node = list_pop_front(&image->journal)) != NULL)
        entry_commit(image, list_entry(node, struct sim_entry, link));
}

void sim_image_commit_sizes(struct sim_image *image, struct sim_inode *inode, uint64_t sequence)
{
    list_for_each_safe (node, after, &image->journal) {
        struct sim_entry *entry = list_entry(node, struct sim_entry, link);
        if (entry->sequence > sequence)
            break;
        if (entry->kind == SIM_SIZE && entry->inode == inode)
            entry_commit(image, entry);
    }
}

/* A rename between two directories ties them: what is before it in either goes with it. */
void sim_image_commit_names(struct sim_image *image, struct sim_inode *directory)
{
    list_for_each (node, &image->journal) {
        struct sim_entry *entry = list_entry(node, struct sim_entry, link);
        if (entry->kind == SIM_RENAME && entry->directory != entry->to_directory &&
            (entry->directory == directory || entry->to_directory == directory)) {
            while (list_entry(image->journal.next, struct sim_entry, link) != entry)
                sim_image_commit_prefix(image, 1);
            sim_image_commit_prefix(image, 1);
            sim_image_commit_names(image, directory);
            return;
        }
    }
    list_for_each_safe (node, after, &image->journal) {
        struct sim_entry *entry = list_entry(node, struct sim_entry, link);
        if (entry->kind != SIM_SIZE && entry->directory == directory)
            entry_commit(image, entry);
    }
}

/* ---- names in the cache ---- */

struct sim_inode *sim_image_parent(struct sim_image *image, const char *name, const char **ret_last)
{
    struct sim_inode *directory = image->root;
    for (const char *slash; (slash = strchr(name, '/')) != NULL; name = slash + 1) {
        char *part = strndup(name, (size_t)(slash - name));
        ASSERT(part != NULL);
        directory = names_find(&directory->cache_names, part);
        free(part);
        if (directory == NULL || !directory->is_directory)
            return NULL;
    }
    *ret_last = name;
    return directory;
}

struct sim_inode *sim_image_find(struct sim_image *image, const char *name)
{
    if (name[0] == '\0')
        return image->root;
    const char *last;
    struct sim_inode *directory = sim_image_parent(image, name, &last);
    return directory == NULL ? NULL : names_find(&directory->cache_names, last);
}

struct sim_inode *sim_image_create(struct sim_image *image, struct sim_inode *directory,
                                   const char *last, bool is_directory)
{
    struct sim_inode *inode = inode_new(image, is_directory);
    inode->links = 1;
    names_put(&directory->cache_names, last, inode);
    journal_add(image, (struct sim_entry){.kind = SIM_LINK,
                                          .directory = directory,
                                          .name = (char *)(uintptr_t)last,
                                          .inode = inode});
    sim_inode_unref(inode);
    return inode;
}

static void cache_remove(struct sim_image *image, struct sim_inode *directory, const char *last)
{
    struct sim_inode *inode = names_find(&directory->cache_names, last);
    if (inode == NULL)
        return;
    inode->links--;
    sim_image_release_blocks(image, inode);
    names_remove(&directory->cache_names, last);
}

void sim_image_unlink(struct sim_image *image, struct sim_inode *directory, const char *last)
{
    cache_remove(image, directory, last);
    journal_add(image, (struct sim_entry){.kind = SIM_UNLINK,
                                          .directory = directory,
                                          .name = (char *)(uintptr_t)last});
}

void sim_image_rename(struct sim_image *image, struct sim_inode *from, const char *from_last,
                      struct sim_inode *to, const char *to_last)
{
    struct sim_inode *inode = names_find(&from->cache_names, from_last);
    cache_remove(image, to, to_last);
    names_put(&to->cache_names, to_last, inode);
    names_remove(&from->cache_names, from_last);
    journal_add(image, (struct sim_entry){.kind = SIM_RENAME,
                                          .directory = from,
                                          .name = (char *)(uintptr_t)from_last,
                                          .to_directory = to,
                                          .to_name = (char *)(uintptr_t)to_last,
                                          .inode = inode});
}

void sim_image_lose(struct sim_image *image, struct sim_inode *directory, const char *last)
{
    sim_image_commit_prefix(image, image->journal_length);
    cache_remove(image, directory, last);
    names_remove(&directory->disk_names, last);
}

/* ---- bytes ---- */

static void pages_grow(struct sim_inode *inode, uint64_t size)
{
    size_t need = (size_t)((size + PAGE_BYTES - 1) / PAGE_BYTES);
    if (need <= inode->page_count)
        return;
    size_t room = need + need / 2;
    inode->pages = realloc(inode->pages, room * sizeof(inode->pages[0]));
    ASSERT(inode->pages != NULL);
    memset(inode->pages + inode->page_count, 0,
           (room - inode->page_count) * sizeof(inode->pages[0]));
    inode->page_count = room;
}

bool sim_image_reserve(struct sim_image *image, struct sim_inode *inode, uint64_t from,
                       uint64_t bytes)
{
    if (bytes == 0)
        return true;
    pages_grow(inode, from + bytes);
    size_t first = (size_t)(from / PAGE_BYTES), end = (size_t)((from + bytes - 1) / PAGE_BYTES) + 1;
    uint64_t more = 0;
    for (size_t i = first; i < end; i++)
        more += !inode->pages[i].has_blocks;
    if (image->capacity_bytes != 0 && more > 0 &&
        (image->used_blocks + more) * PAGE_BYTES > image->capacity_bytes)
        return false;
    for (size_t i = first; i < end; i++)
        inode->pages[i].has_blocks = true;
    inode->blocks += more;
    image->used_blocks += more;
    return true;
}

static uint8_t *page_cache(struct sim_page *page)
{
    if (page->cache == NULL) {
        page->cache = image_alloc(PAGE_BYTES);
        if (page->disk != NULL)
            memcpy(page->cache, page->disk, PAGE_BYTES);
    }
    return page->cache;
}

/* Sectors that from .. to of a page touch, as bits. */
static uint8_t sector_bits(size_t from, size_t to)
{
    uint8_t bits = 0;
    for (size_t sector = from / SECTOR_BYTES; sector * SECTOR_BYTES < to; sector++)
        bits = (uint8_t)(bits | 1u << sector);
    return bits;
}

/* data NULL: zeros. */
static void cache_fill(struct sim_inode *inode, uint64_t at, const uint8_t *data, uint64_t bytes)
{
    while (bytes > 0) {
        struct sim_page *page = &inode->pages[at / PAGE_BYTES];
        size_t in_page = (size_t)(at % PAGE_BYTES);
        size_t part = PAGE_BYTES - in_page < bytes ? PAGE_BYTES - in_page : (size_t)bytes;
        /* A page that nobody has ever written is zeros already; one that a sync in flight has taken
         * gets the bytes of that sync on the disk later, so the zeros must stand in the cache. */
        bool known = page->cache != NULL || page->disk != NULL || inode->syncs_in_flight > 0;
        if (data != NULL) {
            memcpy(page_cache(page) + in_page, data, part);
            data += part;
        } else if (known) {
            memset(page_cache(page) + in_page, 0, part);
        }
        if (page->cache != NULL)
            page->dirty = (uint8_t)(page->dirty | sector_bits(in_page, in_page + part));
        at += part;
        bytes -= part;
    }
}

void sim_image_set_size(struct sim_image *image, struct sim_inode *inode, uint64_t size)
{
    if (size == inode->cache_size)
        return;
    pages_grow(inode, size);
    if (size < inode->cache_size) {
        cache_fill(inode, size, NULL, (uint64_t)inode->page_count * PAGE_BYTES - size);
        for (size_t i = (size_t)((size + PAGE_BYTES - 1) / PAGE_BYTES); i < inode->page_count;
             i++) {
            if (inode->pages[i].has_blocks) {
                inode->pages[i].has_blocks = false;
                inode->blocks--;
                image->used_blocks--;
            }
        }
    }
    inode->cache_size = size;
    journal_add(image, (struct sim_entry){.kind = SIM_SIZE, .inode = inode, .size = size});
}

void sim_image_write(struct sim_image *image, struct sim_inode *inode, uint64_t at,
                     const void *data, size_t bytes)
{
    if (bytes == 0)
        return;
    cache_fill(inode, at, data, bytes);
    if (at + bytes > inode->cache_size)
        sim_image_set_size(image, inode, at + bytes);
}

void sim_image_read(const struct sim_inode *inode, uint64_t at, void *into, size_t bytes)
{
    uint8_t *to = into;
    while (bytes > 0) {
        size_t index = (size_t)(at / PAGE_BYTES), in_page = (size_t)(at % PAGE_BYTES);
        size_t part = PAGE_BYTES - in_page < bytes ? PAGE_BYTES - in_page : bytes;
        const struct sim_page *page = index < inode->page_count ? &inode->pages[index] : NULL;
        const uint8_t *from = page == NULL ? NULL : page->cache != NULL ? page->cache : page->disk;
        if (from != NULL)
            memcpy(to, from + in_page, part);
        else
            memset(to, 0, part);
        to += part;
        at += part;
        bytes -= part;
    }
}

void sim_image_zero(struct sim_inode *inode, uint64_t from)
{
    if (from < inode->cache_size)
        cache_fill(inode, from, NULL, inode->cache_size - from);
}

void sim_image_drop_cache(struct sim_inode *inode)
{
    if (inode->syncs_in_flight > 0)
        return; /* pages under writeback stay */
    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];
        if (page->dirty == 0) {
            free(page->cache);
            page->cache = NULL;
        }
    }
}

/* ---- what reaches the disk ---- */

void sim_page_to_disk(struct sim_inode *inode, size_t index, const uint8_t *bytes, uint8_t sectors)
{
    struct sim_page *page = &inode->pages[index];
    if (page->disk == NULL)
        page->disk = image_alloc(PAGE_BYTES);
    for (size_t sector = 0; sector < PAGE_SECTORS; sector++) {
        if (sectors & 1u << sector)
            memcpy(page->disk + sector * SECTOR_BYTES, bytes + sector * SECTOR_BYTES, SECTOR_BYTES);
    }
}

/* A cut that is committed after the bytes written since would take them along: so before them. */
static void commit_cuts(struct sim_image *image, const struct sim_inode *inode)
{
    uint64_t size = inode->disk_size;
    size_t entries = 0, through = 0;
    list_for_each (node, &image->journal) {
        struct sim_entry *entry = list_entry(node, struct sim_entry, link);
        entries++;
        if (entry->kind != SIM_SIZE || entry->inode != inode)
            continue;
        if (entry->size < size)
            through = entries;
        size = entry->size;
    }
    sim_image_commit_prefix(image, through);
}

void sim_image_writeback(struct sim_image *image, struct sim_inode *inode, struct rng *rng)
{
    if (rng_chance(rng, 300000))
        sim_image_commit_prefix(image, (size_t)rng_below(rng, image->journal_length + 1));
    if (inode->syncs_in_flight > 0)
        return; /* what the sync has taken must not reach the disk after this */
    commit_cuts(image, inode);
    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];
        uint8_t sectors = page->dirty == 0 ? 0 : (uint8_t)(page->dirty & rng_next(rng));
        if (sectors == 0)
            continue;
        sim_page_to_disk(inode, i, page->cache, sectors);
        page->dirty = (uint8_t)(page->dirty & ~sectors);
    }
}

/* One file's sectors that were not synced; the cache is gone afterwards. */
static void inode_power_cut(struct sim_inode *inode, struct rng *rng,
                            struct sim_disk_counters *counters)
{
    bool some_kept = false, some_lost = false;
    /* Some files lose all, some keep all: the mean alone would hardly ever show those. */
    uint64_t mood = rng_below(rng, 4);
    uint64_t size = inode->disk_size;
    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];
        if (page->dirty != 0) {
            uint8_t drawn = mood == 0 ? 0 : mood == 1 ? ALL_SECTORS : (uint8_t)rng_next(rng);
            uint8_t kept = (uint8_t)(page->dirty & drawn), lost = (uint8_t)(page->dirty & ~drawn);
            some_kept = some_kept || kept != 0;
            some_lost = some_lost || lost != 0;
            counters->lost_bytes += (uint64_t)__builtin_popcount(lost) * SECTOR_BYTES;
            if (kept != 0)
                sim_page_to_disk(inode, i, page->cache, kept);
        }
        free(page->cache);
        page->cache = NULL;
        page->dirty = 0;
        page->has_blocks = page->has_blocks && (uint64_t)i * PAGE_BYTES < size;
        if (page->disk != NULL && (uint64_t)(i + 1) * PAGE_BYTES > size) {
            size_t keep = (uint64_t)i * PAGE_BYTES < size ? (size_t)(size % PAGE_BYTES) : 0;
            memset(page->disk + keep, 0, PAGE_BYTES - keep);
        }
    }
    counters->torn_files += some_kept && some_lost;
}

/* The cache shows the names that the disk has; blocks are counted anew. */
static void names_reload(struct sim_image *image, struct sim_inode *directory)
{
    for (size_t i = 0; i < directory->disk_names.count; i++) {
        struct sim_name *name = &directory->disk_names.v[i];
        names_put(&directory->cache_names, name->name, name->inode);
        name->inode->links++;
        if (name->inode->is_directory) {
            names_reload(image, name->inode);
            continue;
        }
        struct sim_inode *inode = name->inode;
        inode->cache_size = inode->disk_size;
        inode->counted = true;
        inode->blocks = 0;
        for (size_t p = 0; p < inode->page_count; p++)
            inode->blocks += inode->pages[p].has_blocks;
        image->used_blocks += inode->blocks;
    }
}

/* A directory's changes survive up to one of them, a file's sizes too, each by itself; a rename
 * from one directory to another survives in both or in none. */
static void journal_cut_any_order(struct sim_image *image, struct rng *rng,
                                  struct sim_disk_counters *counters)
{
    list_for_each (node, &image->inodes)
        list_entry(node, struct sim_inode, link)->kept =
            (size_t)rng_below(rng, image->journal_length + 1);
    size_t nth = 0;
    list_for_each_safe (node, after, &image->journal) {
        struct sim_entry *entry = list_entry(node, struct sim_entry, link);
        struct sim_inode *what = entry->kind == SIM_SIZE ? entry->inode : entry->directory;
        struct sim_inode *other = entry->kind == SIM_RENAME ? entry->to_directory : what;
        if (nth < what->kept && nth < other->kept) {
            entry_commit(image, entry);
        } else {
            what->kept = other->kept = 0; /* nor what follows */
            counters->lost_names++;
            entry_free(image, entry);
        }
        nth++;
    }
}

void sim_image_power_cut(struct sim_image *image, struct rng *rng,
                         struct sim_disk_counters *counters)
{
    if (image->any_order)
        journal_cut_any_order(image, rng, counters);
    size_t kept = (size_t)rng_below(rng, image->journal_length + 1);
    counters->lost_names += image->journal_length - kept;
    sim_image_commit_prefix(image, kept);
    for (struct list_node *node; (node = list_pop_front(&image->journal)) != NULL;)
        entry_free(image, list_entry(node, struct sim_entry, link));
    list_for_each (node, &image->inodes) {
        struct sim_inode *inode = list_entry(node, struct sim_inode, link);
        ASSERT(inode->handles == 0);
        inode->links = 0;
        sim_inode_ref(inode); /* so that clearing names below frees none under our feet */
        if (!inode->is_directory)
            inode_power_cut(inode, rng, counters);
    }
    list_for_each (node, &image->inodes)
        names_clear(&list_entry(node, struct sim_inode, link)->cache_names);
    image->used_blocks = 0;
    names_reload(image, image->root);
    /* Directories that nothing reaches any more may hold the last references to files. */
    list_for_each (node, &image->inodes) {
        struct sim_inode *inode = list_entry(node, struct sim_inode, link);
        if (inode != image->root && inode->links == 0)
            names_clear(&inode->disk_names);
    }
    list_for_each_safe (node, after, &image->inodes)
        sim_inode_unref(list_entry(node, struct sim_inode, link));
}

void sim_image_init(struct sim_image *image)
{
    *image = (struct sim_image){0};
    list_init(&image->inodes);
    list_init(&image->journal);
    image->root = inode_new(image, true);
}

void sim_image_fini(struct sim_image *image)
{
    sim_image_commit_prefix(image, image->journal_length);
    names_clear(&image->root->cache_names);
    names_clear(&image->root->disk_names);
    sim_inode_unref(image->root);
    image->root = NULL;
}
