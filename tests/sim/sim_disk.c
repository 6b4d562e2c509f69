#include "sim/sim_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "sim/sim_image.h"

enum { SLOT_BITS = 20, SLOTS_MAX = 1 << SLOT_BITS, LIFE_MASK = 0x7ff };

struct captured {
    size_t index;
    uint8_t sectors;
    uint8_t *bytes; /* a page */
};

/* One sync in flight: the file's dirty sectors and size as they were when it began. */
struct sim_sync {
    struct env_done op; /* what the scheduler runs */
    struct list_node link;
    struct sim_disk *disk;
    struct env_done *user;
    struct sim_inode *inode;
    uint64_t sequence; /* of the journal */
    struct captured *pages;
    size_t page_count;
    bool fails, on_disk;
};

struct sim_disk {
    struct sim_disk_options options;
    struct sim_disk_counters counters;
    struct sim_image image;
    struct rng rng;
    struct list_node syncs; /* in order of their start */
    struct sim_inode **handles;
    size_t handle_count;
    int32_t life;
    uint32_t slow_factor;
    uint64_t writes_to_failure, syncs_to_failure; /* 0: none */
    err_t write_failure;
    uint64_t freeze_at;
    bool frozen, offline;
};

/* ---- helpers ---- */

static struct sim_disk *disk_of(void *self)
{
    struct sim_disk_view *view = self;
    return view->disk;
}

/* Every change begins here. False: the disk is frozen; *ret_torn: this is the one that freezes it.
 */
static bool disk_change(struct sim_disk *disk, struct sim_inode *inode, bool *ret_torn)
{
    *ret_torn = false;
    if (disk->frozen)
        return false;
    disk->counters.operations++;
    if (disk->freeze_at != 0 && disk->counters.operations >= disk->freeze_at) {
        disk->frozen = true;
        *ret_torn = true;
        return false;
    }
    if (inode != NULL && rng_chance(&disk->rng, disk->options.writeback_per_million))
        sim_image_writeback(&disk->image, inode, &disk->rng);
    return true;
}

static bool disk_counts_down(uint64_t *left)
{
    return *left > 0 && --*left == 0;
}

static size_t disk_slot(const struct sim_disk *disk, env_file file)
{
    size_t slot = (size_t)(file.id & (SLOTS_MAX - 1));
    ASSERT(file.id >= 0);
    ASSERT(file.id >> SLOT_BITS == (disk->life & LIFE_MASK)); /* ids end with the node's life */
    ASSERT(slot < disk->handle_count);
    ASSERT(disk->handles[slot] != NULL);
    return slot;
}

static struct sim_inode *disk_inode(const struct sim_disk *disk, env_file file)
{
    return disk->handles[disk_slot(disk, file)];
}

static env_file disk_handle(struct sim_disk *disk, struct sim_inode *inode)
{
    size_t slot = 0;
    while (slot < disk->handle_count && disk->handles[slot] != NULL)
        slot++;
    if (slot == disk->handle_count) {
        size_t more = disk->handle_count == 0 ? 64 : disk->handle_count * 2;
        ASSERT(more <= SLOTS_MAX);
        disk->handles = realloc(disk->handles, more * sizeof(disk->handles[0]));
        ASSERT(disk->handles != NULL);
        memset(disk->handles + disk->handle_count, 0,
               (more - disk->handle_count) * sizeof(disk->handles[0]));
        disk->handle_count = more;
    }
    sim_inode_ref(inode);
    inode->handles++;
    disk->handles[slot] = inode;
    return (env_file){.id = (disk->life & LIFE_MASK) << SLOT_BITS | (int32_t)slot};
}

static void disk_release(struct sim_disk *disk, size_t slot)
{
    struct sim_inode *inode = disk->handles[slot];
    if (inode == NULL)
        return;
    disk->handles[slot] = NULL;
    inode->handles--;
    sim_image_release_blocks(&disk->image, inode);
    sim_inode_unref(inode);
}

/* ---- syncs ---- */

static struct sim_sync *sync_take(struct sim_disk *disk, struct sim_inode *inode, bool fails)
{
    struct sim_sync *sync = calloc(1, sizeof(*sync));
    ASSERT(sync != NULL);
    sync->disk = disk;
    sync->inode = inode;
    sync->sequence = disk->image.sequence;
    sim_inode_ref(inode);
    inode->syncs_in_flight++;
    for (size_t i = 0; i < inode->page_count; i++)
        sync->page_count += inode->pages[i].dirty != 0;
    if (sync->page_count > 0) {
        sync->pages = calloc(sync->page_count, sizeof(sync->pages[0]));
        ASSERT(sync->pages != NULL);
    }
    struct captured *to = sync->pages;
    for (size_t i = 0; i < inode->page_count; i++) {
        struct sim_page *page = &inode->pages[i];
        if (page->dirty == 0)
            continue;
        *to = (struct captured){.index = i, .sectors = page->dirty, .bytes = malloc(PAGE_BYTES)};
        ASSERT(to->bytes != NULL);
        memcpy(to->bytes, page->cache, PAGE_BYTES);
        page->dirty = 0;
        to++;
    }
    sync->fails = fails;
    list_push_back(&disk->syncs, &sync->link);
    return sync;
}

static bool sync_fails(struct sim_disk *disk)
{
    disk->counters.syncs++;
    bool fails = disk_counts_down(&disk->syncs_to_failure) || disk->offline;
    disk->offline = disk->offline || fails;
    disk->counters.failed_syncs += fails;
    return fails;
}

/* A failed one may have brought some sectors to the disk, and calls all of its pages clean. */
static void sync_to_disk(struct sim_sync *sync)
{
    struct sim_disk *disk = sync->disk;
    if (!sync->fails) /* first: a cut before the writes takes what was there, not what came after */
        sim_image_commit_sizes(&disk->image, sync->inode, sync->sequence);
    for (size_t i = 0; i < sync->page_count; i++) {
        struct captured *page = &sync->pages[i];
        uint8_t sectors = page->sectors;
        if (sync->fails)
            sectors = (uint8_t)(sectors & rng_next(&disk->rng) & rng_next(&disk->rng));
        if (sectors != 0)
            sim_page_to_disk(sync->inode, page->index, page->bytes, sectors);
    }
    sync->on_disk = true;
}

static void sync_free(struct sim_sync *sync)
{
    struct sim_inode *inode = sync->inode;
    for (size_t i = 0; i < sync->page_count; i++)
        free(sync->pages[i].bytes);
    free(sync->pages);
    list_remove(&sync->link);
    inode->syncs_in_flight--;
    sim_inode_unref(inode);
    free(sync);
}

/* What an earlier sync of the file took is durable too when a later one completes. */
static void sync_end(struct sim_sync *sync)
{
    list_for_each (node, &sync->disk->syncs) {
        struct sim_sync *earlier = list_entry(node, struct sim_sync, link);
        if (earlier->inode == sync->inode && !earlier->on_disk)
            sync_to_disk(earlier);
        if (earlier == sync)
            break;
    }
    /* Memory only: pages that equal the disk's need no copy. */
    if (!sync->fails && sync->inode->syncs_in_flight == 1) {
        for (size_t i = 0; i < sync->page_count; i++) {
            struct sim_page *page = &sync->inode->pages[sync->pages[i].index];
            if (page->dirty == 0 && page->cache != NULL && page->disk != NULL &&
                memcmp(page->cache, page->disk, PAGE_BYTES) == 0) {
                free(page->cache);
                page->cache = NULL;
            }
        }
    }
}

static void sync_scheduled(struct env_done *op, err_t err)
{
    struct sim_sync *sync = container_of(op, struct sim_sync, op);
    struct env_done *user = sync->user;
    sync_end(sync);
    sync_free(sync);
    user->done(user, err);
}

static err_t disk_sync(void *self, env_file file, struct env_done *user)
{
    struct sim_disk_view *view = self;
    struct sim_disk *disk = view->disk;
    struct sim_inode *inode = disk_inode(disk, file);
    bool torn;
    if (!disk_change(disk, inode, &torn))
        return ERR_IO;
    struct sim_sync *sync = sync_take(disk, inode, sync_fails(disk));
    sync->user = user;
    sync->op.done = sync_scheduled;
    uint64_t delay = rng_between(&disk->rng, disk->options.sync_ns_min, disk->options.sync_ns_max);
    view->schedule(view->schedule_context, delay * disk->slow_factor, &sync->op,
                   sync->fails ? ERR_IO : ERR_OK);
    return ERR_OK;
}

static err_t disk_sync_now(void *self, env_file file)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = disk_inode(disk, file);
    bool torn;
    if (!disk_change(disk, inode, &torn))
        return ERR_IO;
    bool fails = sync_fails(disk);
    struct sim_sync *sync = sync_take(disk, inode, fails);
    sync_end(sync);
    sync_free(sync);
    return fails ? ERR_IO : ERR_OK;
}

static err_t disk_sync_names(void *self, const char *name)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *directory = sim_image_find(&disk->image, name);
    bool torn;
    if (directory == NULL || !directory->is_directory)
        return ERR_NOT_FOUND;
    if (!disk_change(disk, NULL, &torn))
        return ERR_IO;
    if (sync_fails(disk))
        return ERR_IO;
    sim_image_commit_names(&disk->image, directory);
    return ERR_OK;
}

static err_t disk_sync_all(void *self)
{
    struct sim_disk *disk = disk_of(self);
    bool torn;
    if (disk->options.no_sync_all)
        return ERR_UNSUPPORTED_VERSION;
    if (!disk_change(disk, NULL, &torn))
        return ERR_IO;
    bool fails = sync_fails(disk);
    list_for_each (node, &disk->syncs) { /* what they took is older than what is taken now */
        struct sim_sync *earlier = list_entry(node, struct sim_sync, link);
        if (!earlier->on_disk)
            sync_to_disk(earlier);
    }
    if (!fails)
        sim_image_commit_prefix(&disk->image, disk->image.journal_length);
    list_for_each_safe (node, after, &disk->image.inodes) {
        struct sim_inode *inode = list_entry(node, struct sim_inode, link);
        if (inode->is_directory)
            continue;
        struct sim_sync *sync = sync_take(disk, inode, fails);
        sync_end(sync);
        sync_free(sync);
    }
    return fails ? ERR_IO : ERR_OK;
}

/* ---- files ---- */

static err_t disk_open(void *self, const char *name, unsigned flags, env_file *ret_file)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = sim_image_find(&disk->image, name);
    if (inode != NULL && (flags & ENV_OPEN_EXCLUSIVE))
        return ERR_EXISTS;
    if (inode != NULL && inode->is_directory)
        return ERR_INVALID;
    if (inode == NULL) {
        const char *last;
        struct sim_inode *directory = sim_image_parent(&disk->image, name, &last);
        bool torn;
        if (directory == NULL || !(flags & ENV_OPEN_CREATE))
            return ERR_NOT_FOUND;
        if (!disk_change(disk, NULL, &torn))
            return ERR_IO;
        inode = sim_image_create(&disk->image, directory, last, false);
    }
    *ret_file = disk_handle(disk, inode);
    return ERR_OK;
}

static void disk_close(void *self, env_file file)
{
    struct sim_disk *disk = disk_of(self);
    disk_release(disk, disk_slot(disk, file));
}

static bool disk_is_offline(void *self)
{
    return disk_of(self)->offline;
}

/* bytes of the parts, in order. */
static void disk_write_parts(struct sim_disk *disk, struct sim_inode *inode, uint64_t at,
                             const struct iovec *parts, uint64_t bytes)
{
    for (int i = 0; bytes > 0; i++) {
        size_t part = parts[i].iov_len < bytes ? parts[i].iov_len : (size_t)bytes;
        sim_image_write(&disk->image, inode, at, parts[i].iov_base, part);
        at += part;
        bytes -= part;
    }
}

static err_t disk_write(void *self, env_file file, uint64_t at, const struct iovec *parts,
                        int count)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = disk_inode(disk, file);
    uint64_t total = 0;
    bool torn;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    bool goes_on = disk_change(disk, inode, &torn);
    err_t err = ERR_OK;
    if (!goes_on)
        err = ERR_IO;
    else if (disk_counts_down(&disk->writes_to_failure))
        err = disk->write_failure;
    if (err != ERR_OK && !torn && !goes_on)
        return err;
    if (err != ERR_OK)
        total = rng_below(&disk->rng, total + 1);
    while (!sim_image_reserve(&disk->image, inode, at, total)) {
        err = ERR_NOT_ENOUGH_SPACE; /* as much as goes in */
        total = total > PAGE_BYTES ? total - PAGE_BYTES : 0;
    }
    disk_write_parts(disk, inode, at, parts, total);
    return err;
}

static err_t disk_read(void *self, env_file file, uint64_t at, void *into, size_t bytes,
                       size_t *ret_bytes)
{
    const struct sim_inode *inode = disk_inode(disk_of(self), file);
    uint64_t left = at < inode->cache_size ? inode->cache_size - at : 0;
    *ret_bytes = bytes < left ? bytes : (size_t)left;
    sim_image_read(inode, at, into, *ret_bytes);
    return ERR_OK;
}

static err_t disk_size(void *self, env_file file, uint64_t *ret_bytes)
{
    *ret_bytes = disk_inode(disk_of(self), file)->cache_size;
    return ERR_OK;
}

static err_t disk_allocate(void *self, env_file file, uint64_t from, uint64_t bytes)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = disk_inode(disk, file);
    bool torn;
    if (!disk_change(disk, inode, &torn))
        return ERR_IO;
    if (!sim_image_reserve(&disk->image, inode, from, bytes))
        return ERR_NOT_ENOUGH_SPACE;
    if (from + bytes > inode->cache_size)
        sim_image_set_size(&disk->image, inode, from + bytes);
    return ERR_OK;
}

static err_t disk_zero_from(void *self, env_file file, uint64_t from)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = disk_inode(disk, file);
    bool torn;
    if (!disk_change(disk, inode, &torn))
        return ERR_IO;
    sim_image_zero(inode, from);
    return ERR_OK;
}

static err_t disk_set_size(void *self, env_file file, uint64_t bytes)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *inode = disk_inode(disk, file);
    bool torn;
    if (!disk_change(disk, inode, &torn))
        return ERR_IO;
    sim_image_set_size(&disk->image, inode, bytes);
    return ERR_OK;
}

static err_t disk_drop_cache(void *self, env_file file)
{
    sim_image_drop_cache(disk_inode(disk_of(self), file));
    return ERR_OK;
}

/* ---- names ---- */

static err_t disk_make_directory(void *self, const char *name)
{
    struct sim_disk *disk = disk_of(self);
    const char *last;
    struct sim_inode *directory = sim_image_parent(&disk->image, name, &last);
    bool torn;
    if (directory == NULL)
        return ERR_NOT_FOUND;
    if (sim_image_find(&disk->image, name) != NULL)
        return ERR_EXISTS;
    if (!disk_change(disk, NULL, &torn))
        return ERR_IO;
    (void)sim_image_create(&disk->image, directory, last, true);
    return ERR_OK;
}

static err_t disk_rename(void *self, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(self);
    const char *from_last, *to_last;
    struct sim_inode *from_directory = sim_image_parent(&disk->image, from, &from_last);
    struct sim_inode *to_directory = sim_image_parent(&disk->image, to, &to_last);
    struct sim_inode *target = sim_image_find(&disk->image, to);
    bool torn;
    if (from_directory == NULL || to_directory == NULL ||
        sim_image_find(&disk->image, from) == NULL)
        return ERR_NOT_FOUND;
    if (target != NULL && target->is_directory && target->cache_names.count > 0)
        return ERR_EXISTS;
    if (!disk_change(disk, NULL, &torn))
        return ERR_IO;
    if (target != sim_image_find(&disk->image, from))
        sim_image_rename(&disk->image, from_directory, from_last, to_directory, to_last);
    return ERR_OK;
}

static err_t disk_unlink(void *self, const char *name)
{
    struct sim_disk *disk = disk_of(self);
    const char *last;
    struct sim_inode *directory = sim_image_parent(&disk->image, name, &last);
    struct sim_inode *inode = sim_image_find(&disk->image, name);
    bool torn;
    if (directory == NULL || inode == NULL || inode == disk->image.root)
        return ERR_NOT_FOUND;
    if (inode->is_directory && inode->cache_names.count > 0)
        return ERR_EXISTS;
    if (!disk_change(disk, NULL, &torn))
        return ERR_IO;
    sim_image_unlink(&disk->image, directory, last);
    return ERR_OK;
}

static err_t disk_list(void *self, const char *name,
                       void (*each)(void *context, const char *entry, bool is_directory),
                       void *context)
{
    struct sim_disk *disk = disk_of(self);
    struct sim_inode *directory = sim_image_find(&disk->image, name);
    if (directory == NULL || !directory->is_directory)
        return ERR_NOT_FOUND;
    /* In no special order: begins anywhere. */
    size_t count = directory->cache_names.count;
    size_t first = count == 0 ? 0 : (size_t)rng_below(&disk->rng, count);
    for (size_t i = 0; i < count; i++) {
        const struct sim_name *entry = &directory->cache_names.v[(first + i) % count];
        each(context, entry->name, entry->inode->is_directory);
    }
    return ERR_OK;
}

static err_t disk_free_bytes(void *self, uint64_t *ret_bytes)
{
    const struct sim_disk *disk = disk_of(self);
    uint64_t used = disk->image.used_blocks * PAGE_BYTES, capacity = disk->image.capacity_bytes;
    if (capacity == 0)
        *ret_bytes = UINT64_C(1) << 40;
    else
        *ret_bytes = used < capacity ? capacity - used : 0;
    return ERR_OK;
}

void sim_disk_view_init(struct sim_disk_view *view, struct sim_disk *disk,
                        sim_disk_schedule_fn *schedule, void *schedule_context)
{
    *view = (struct sim_disk_view){
        .disk = disk,
        .schedule = schedule,
        .schedule_context = schedule_context,
        .env =
            {
                .open = disk_open,
                .write = disk_write,
                .read = disk_read,
                .size = disk_size,
                .allocate = disk_allocate,
                .zero_from = disk_zero_from,
                .set_size = disk_set_size,
                .sync = disk_sync,
                .sync_now = disk_sync_now,
                .sync_names = disk_sync_names,
                .sync_all = disk_sync_all,
                .make_directory = disk_make_directory,
                .rename = disk_rename,
                .unlink = disk_unlink,
                .list = disk_list,
                .free_bytes = disk_free_bytes,
                .drop_cache = disk_drop_cache,
                .close = disk_close,
                .is_offline = disk_is_offline,
                .self = view,
            },
    };
}

/* ---- life and death ---- */

struct sim_disk *sim_disk_new(const struct sim_disk_options *options)
{
    struct sim_disk *disk = calloc(1, sizeof(*disk));
    ASSERT(disk != NULL);
    disk->options = *options;
    disk->slow_factor = 1;
    list_init(&disk->syncs);
    rng_seed(&disk->rng, options->seed);
    sim_image_init(&disk->image);
    disk->image.capacity_bytes = options->capacity_bytes;
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    sim_disk_kill(disk);
    sim_image_fini(&disk->image);
    free(disk->handles);
    free(disk);
}

const struct sim_disk_counters *sim_disk_counters(const struct sim_disk *disk)
{
    return &disk->counters;
}

/* How far syncs in flight came is drawn; the kernel finishes those of a killed process. */
static void disk_end_life(struct sim_disk *disk, bool power_cut)
{
    for (struct list_node *node; (node = list_pop_front(&disk->syncs)) != NULL;) {
        struct sim_sync *sync = list_entry(node, struct sim_sync, link);
        struct env_done *user = sync->user;
        if (!sync->on_disk && power_cut) {
            for (size_t i = 0; i < sync->page_count; i++)
                sync->pages[i].sectors = (uint8_t)(sync->pages[i].sectors & rng_next(&disk->rng));
            sync->sequence = 0; /* no sizes: the journal's prefix decides */
        }
        if (!sync->on_disk)
            sync_to_disk(sync);
        sync_free(sync);
        user->done(user, ERR_CANCELED);
    }
    for (size_t slot = 0; slot < disk->handle_count; slot++)
        disk_release(disk, slot);
    disk->life++;
    disk->frozen = disk->offline = false;
    disk->freeze_at = disk->writes_to_failure = disk->syncs_to_failure = 0;
}

void sim_disk_kill(struct sim_disk *disk)
{
    disk_end_life(disk, false);
}

void sim_disk_power_cut(struct sim_disk *disk)
{
    disk_end_life(disk, true);
    disk->counters.power_cuts++;
    sim_image_power_cut(&disk->image, &disk->rng, &disk->counters);
}

void sim_disk_wipe(struct sim_disk *disk)
{
    disk_end_life(disk, false);
    uint64_t capacity = disk->image.capacity_bytes;
    bool any_order = disk->image.any_order;
    sim_image_fini(&disk->image);
    sim_image_init(&disk->image);
    disk->image.capacity_bytes = capacity;
    disk->image.any_order = any_order;
}

/* ---- faults ---- */

void sim_disk_slow(struct sim_disk *disk, uint32_t factor)
{
    disk->slow_factor = factor;
}

void sim_disk_any_order(struct sim_disk *disk, bool any_order)
{
    disk->image.any_order = any_order;
}

void sim_disk_set_capacity(struct sim_disk *disk, uint64_t capacity_bytes)
{
    disk->image.capacity_bytes = capacity_bytes;
}

uint64_t sim_disk_used(const struct sim_disk *disk)
{
    return disk->image.used_blocks * PAGE_BYTES;
}

void sim_disk_fail_write(struct sim_disk *disk, uint64_t nth, err_t err)
{
    disk->writes_to_failure = nth;
    disk->write_failure = err;
}

void sim_disk_fail_sync(struct sim_disk *disk, uint64_t nth)
{
    disk->syncs_to_failure = nth;
}

bool sim_disk_offline(const struct sim_disk *disk)
{
    return disk->offline;
}

void sim_disk_freeze_at(struct sim_disk *disk, uint64_t operation)
{
    disk->freeze_at = operation;
}

bool sim_disk_frozen(const struct sim_disk *disk)
{
    return disk->frozen;
}

err_t sim_disk_rot(struct sim_disk *disk, const char *name, uint64_t at, uint8_t bits)
{
    struct sim_inode *inode = sim_image_find(&disk->image, name);
    if (inode == NULL || inode->is_directory || at >= inode->cache_size)
        return ERR_NOT_FOUND;
    struct sim_page *page = &inode->pages[at / PAGE_BYTES];
    uint8_t byte;
    sim_image_read(inode, at, &byte, 1);
    byte ^= bits;
    if (page->cache != NULL)
        page->cache[at % PAGE_BYTES] = byte;
    if (page->disk == NULL) {
        page->disk = calloc(1, PAGE_BYTES);
        ASSERT(page->disk != NULL);
    }
    page->disk[at % PAGE_BYTES] = byte;
    return ERR_OK;
}

err_t sim_disk_lose(struct sim_disk *disk, const char *name)
{
    const char *last;
    struct sim_inode *directory = sim_image_parent(&disk->image, name, &last);
    if (directory == NULL || sim_image_find(&disk->image, name) == NULL)
        return ERR_NOT_FOUND;
    sim_image_lose(&disk->image, directory, last);
    return ERR_OK;
}
