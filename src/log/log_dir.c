#include "log/log_dir.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/canary.h"
#include "base/crc32c.h"
#include "base/logger.h"
#include "log/log_internal.h"
#include "log/manifest.h"

enum {
    META_BYTES_MAX = 512,
    META_VERSION = 1,
    CLEAN_MAGIC = 0x4b434c4e, /* KCLN */
    CLEAN_VERSION = 1,
    CLEAN_BYTES = CHECKED_BYTES + 16,
    WRITERS_MAX = 4096,
};
#define META_FILE "meta.properties"
#define CLEAN_FILE ".kafka_cleanshutdown"

/* ---- meta.properties ---- */

static size_t meta_text(const struct log_dir_meta *meta, char into[META_BYTES_MAX])
{
    char cluster[UUID_TEXT_SIZE], directory[UUID_TEXT_SIZE];
    int chars =
        snprintf(into, META_BYTES_MAX,
                 "# A log directory of Karst, written by karstd format. The last line checks "
                 "the others.\nversion=%d\ncluster.id=%s\nnode.id=%d\ndirectory.id=%s\n",
                 META_VERSION, uuid_text(&meta->cluster_id, cluster), meta->node_id,
                 uuid_text(&meta->directory_id, directory));
    ASSERT(chars > 0 && chars < META_BYTES_MAX - 32);
    size_t len = (size_t)chars;
    chars = snprintf(into + len, META_BYTES_MAX - len, "crc32c=%08x\n", crc32c(0, into, len));
    ASSERT(chars > 0);
    return len + (size_t)chars;
}

/* The text after key= up to the end of its line. */
static bool meta_value(const char *text, const char *key, char *into, size_t size)
{
    const char *at = strstr(text, key);
    if (at == NULL)
        return false;
    at += strlen(key);
    size_t len = strcspn(at, "\n");
    if (len >= size)
        return false;
    memcpy(into, at, len);
    into[len] = '\0';
    return true;
}

static bool meta_parse(const char *text, struct log_dir_meta *ret)
{
    char value[64], *end;
    if (!meta_value(text, "\ncluster.id=", value, sizeof(value)) ||
        !uuid_parse(value, &ret->cluster_id))
        return false;
    if (!meta_value(text, "\ndirectory.id=", value, sizeof(value)) ||
        !uuid_parse(value, &ret->directory_id))
        return false;
    if (!meta_value(text, "\nnode.id=", value, sizeof(value)))
        return false;
    long node = strtol(value, &end, 10);
    if (*end != '\0' || node < -1 || node > INT32_MAX)
        return false;
    ret->node_id = (node_id_t)node;
    return true;
}

err_t log_dir_read_meta(struct env_disk *disk, struct log_dir_meta *ret_meta)
{
    struct log_dir_meta meta = {0};
    char again[META_BYTES_MAX];
    uint8_t *data;
    size_t len;
    err_t err = small_file_load(disk, META_FILE, META_BYTES_MAX, &data, &len);
    if (err != ERR_OK)
        return err;
    data[len] = '\0'; /* small_file_load leaves room for it */
    /* Written again from what was read, it is the same text: that checks every byte of it. */
    if (!meta_parse((const char *)data, &meta) || meta_text(&meta, again) != len ||
        memcmp(data, again, len) != 0)
        err = ERR_CORRUPT;
    free(data);
    if (err == ERR_OK)
        *ret_meta = meta;
    return err;
}

err_t log_dir_format(struct env_disk *disk, const struct log_dir_meta *meta)
{
    struct log_dir_meta old;
    char text[META_BYTES_MAX];
    err_t err = log_dir_read_meta(disk, &old);
    if (err == ERR_NOT_FOUND) {
        size_t len = meta_text(meta, text);
        return small_file_replace(disk, "", META_FILE, (const uint8_t *)text, len);
    }
    if (err == ERR_CORRUPT)
        return ERR_EXISTS;
    if (err != ERR_OK)
        return err;
    bool same = uuid_equal(&old.cluster_id, &meta->cluster_id) &&
                uuid_equal(&old.directory_id, &meta->directory_id) && old.node_id == meta->node_id;
    return same ? ERR_OK : ERR_EXISTS;
}

/* ---- the clean marker (R17) ---- */

err_t log_dir_mark_clean(struct env_disk *disk, const struct uuid *incarnation)
{
    uint8_t data[CLEAN_BYTES];
    memcpy(data + CHECKED_HEAD_BYTES, incarnation->b, sizeof(incarnation->b));
    checked_seal(data, sizeof(data), CLEAN_MAGIC, CLEAN_VERSION);
    return small_file_replace(disk, "", CLEAN_FILE, data, sizeof(data));
}

static err_t clean_read(struct env_disk *disk, struct uuid *ret_incarnation)
{
    uint8_t *data;
    size_t len;
    struct reader body;
    *ret_incarnation = (struct uuid){0};
    err_t err = small_file_load(disk, CLEAN_FILE, CLEAN_BYTES, &data, &len);
    if (err != ERR_OK)
        return err == ERR_NOT_FOUND || err == ERR_CORRUPT ? ERR_OK : err;
    if (len == CLEAN_BYTES && checked_open(data, len, CLEAN_MAGIC, CLEAN_VERSION, &body) == ERR_OK)
        memcpy(ret_incarnation->b, data + CHECKED_HEAD_BYTES, sizeof(ret_incarnation->b));
    free(data);
    return ERR_OK;
}

/* It is gone before anything is appended; else a crash in this life would look like a clean stop.
 */
static err_t clean_remove(struct env_disk *disk)
{
    err_t err = CANARY("log_keeps_clean_marker") ? ERR_OK : disk->unlink(disk->self, CLEAN_FILE);
    if (err == ERR_NOT_FOUND)
        return ERR_OK;
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

/* A crash leaves many logs with a few unsynced bytes each: one sync of all costs what a few of
 * their files would. Where the disk can't, each log syncs its own as it opens. */
static err_t sync_after_crash(struct env_disk *disk, struct log_dir_state *state)
{
    if (!uuid_is_zero(&state->clean_incarnation))
        return ERR_OK;
    err_t err = disk->sync_all(disk->self);
    state->synced = err == ERR_OK;
    return err == ERR_UNSUPPORTED_VERSION ? ERR_OK : err;
}

/* ---- the directory's entries ---- */

struct listing {
    struct log_dir_state *state;
    size_t capacity;
    bool writers[WRITERS_MAX]; /* manifest-N is there */
    bool no_memory;
};

static struct log_dir_replica *state_add(struct listing *listing)
{
    struct log_dir_state *state = listing->state;
    if (state->replica_count == listing->capacity) {
        size_t capacity = listing->capacity == 0 ? 16 : listing->capacity * 2;
        struct log_dir_replica *replicas =
            realloc(state->replicas, capacity * sizeof(state->replicas[0]));
        if (replicas == NULL) {
            listing->no_memory = true;
            return NULL;
        }
        state->replicas = replicas;
        listing->capacity = capacity;
    }
    struct log_dir_replica *replica = &state->replicas[state->replica_count++];
    memset(replica, 0, sizeof(*replica));
    return replica;
}

/* Digits only, below limit. */
static bool number_parse(const char *text, long limit, long *ret)
{
    char *end;
    if (*text < '0' || *text > '9')
        return false;
    long number = strtol(text, &end, 10);
    if (*end != '\0' || number < 0 || number >= limit)
        return false;
    *ret = number;
    return true;
}

static void listing_entry(void *context, const char *entry, bool is_directory)
{
    struct listing *listing = context;
    long number;
    if (!is_directory) {
        if (strncmp(entry, "manifest-", 9) == 0 && number_parse(entry + 9, WRITERS_MAX, &number))
            listing->writers[number] = true;
        return;
    }
    const char *dash = strrchr(entry, '-');
    struct log_dir_replica *replica;
    if (strcmp(entry, METADATA_LOG_FOLDER) == 0)
        return; /* the quorum's: no partition, and never a stray */
    if (dash == NULL || !number_parse(dash + 1, TOPIC_PARTITIONS_MAX, &number) ||
        strlen(entry) >= sizeof(replica->folder))
        return;
    replica = state_add(listing);
    if (replica == NULL)
        return;
    replica->id.index = (int32_t)number;
    memcpy(replica->folder, entry, strlen(entry) + 1);
}

static err_t manifests_read(struct env_disk *disk, const struct listing *listing,
                            struct manifest_set *set, bool *ret_fold)
{
    bool clean = !uuid_is_zero(&listing->state->clean_incarnation);
    *ret_fold = false;
    for (unsigned writer = 0; writer < WRITERS_MAX; writer++) {
        char name[32];
        struct manifest_file file;
        if (!listing->writers[writer])
            continue;
        (void)snprintf(name, sizeof(name), "manifest-%u", writer); /* fits */
        err_t err = clean ? ERR_OK : small_file_uncache(disk, name, listing->state->synced);
        if (err == ERR_OK)
            err = manifest_load(disk, name, set, &file);
        if (err != ERR_OK) {
            log_error("%s: %s", name, err_sentence(err));
            return err;
        }
        *ret_fold = *ret_fold || writer > 0 || file.foldable;
    }
    return ERR_OK;
}

/* Done again after a crash, it gives the same: the rows of the others change nothing in the fold.
 */
static err_t manifests_fold(struct env_disk *disk, const struct listing *listing,
                            const struct manifest_set *set)
{
    err_t err = manifest_fold(disk, set);
    for (unsigned writer = 1; writer < WRITERS_MAX && err == ERR_OK; writer++) {
        char name[32];
        if (!listing->writers[writer])
            continue;
        (void)snprintf(name, sizeof(name), "manifest-%u", writer); /* fits */
        err = disk->unlink(disk->self, name);
    }
    return err == ERR_OK ? disk->sync_names(disk->self, "") : err;
}

/* Folders learn their topics; those that tell none are left out. */
static err_t folders_identify(struct env_disk *disk, struct log_dir_state *state)
{
    size_t kept = 0;
    for (size_t i = 0; i < state->replica_count; i++) {
        struct log_dir_replica *replica = &state->replicas[i];
        err_t err = partition_metadata_load(disk, replica->folder, &replica->id.topic);
        if (err == ERR_OK) {
            state->replicas[kept++] = *replica;
            continue;
        }
        if (err != ERR_NOT_FOUND && err != ERR_CORRUPT && err != ERR_UNSUPPORTED_VERSION)
            return err;
        log_warn("folder %s tells no topic id: %s", replica->folder, err_sentence(err));
    }
    state->replica_count = kept;
    return ERR_OK;
}

/* Marks the folders that the manifest names, and adds what it names without a folder. */
static err_t manifest_join(struct listing *listing, const struct manifest_set *set)
{
    struct log_dir_state *state = listing->state;
    struct manifest_set found;
    err_t err = ERR_OK;
    size_t folders = state->replica_count;
    manifest_set_init(&found);
    for (size_t i = 0; i < folders && err == ERR_OK; i++) {
        struct log_dir_replica *replica = &state->replicas[i];
        replica->in_manifest = manifest_set_has(set, &replica->id);
        if (replica->in_manifest)
            err = manifest_set_add(&found, &replica->id);
    }
    uint32_t at = 0;
    for (struct manifest_entry *entry;
         err == ERR_OK && (entry = table_next(&set->table, &at)) != NULL;) {
        if (manifest_set_has(&found, &entry->id))
            continue;
        struct log_dir_replica *replica = state_add(listing);
        if (replica == NULL)
            err = ERR_NO_MEMORY;
        else
            *replica = (struct log_dir_replica){.id = entry->id, .in_manifest = true};
    }
    manifest_set_fini(&found);
    return err;
}

err_t log_dir_open(struct env_disk *disk, struct log_dir_state *ret_state)
{
    struct log_dir_state state = {0};
    struct manifest_set set;
    bool fold = false;
    struct listing *listing = calloc(1, sizeof(*listing));
    if (listing == NULL)
        return ERR_NO_MEMORY;
    listing->state = &state;
    manifest_set_init(&set);
    err_t err = log_dir_read_meta(disk, &state.meta);
    if (err == ERR_OK)
        err = clean_read(disk, &state.clean_incarnation);
    if (err == ERR_OK)
        err = sync_after_crash(disk, &state);
    if (err == ERR_OK)
        err = disk->list(disk->self, "", listing_entry, listing);
    if (err == ERR_OK && listing->no_memory)
        err = ERR_NO_MEMORY;
    if (err == ERR_OK)
        err = manifests_read(disk, listing, &set, &fold);
    if (err == ERR_OK)
        err = folders_identify(disk, &state);
    if (err == ERR_OK)
        err = manifest_join(listing, &set);
    if (err == ERR_OK && fold) {
        err = manifests_fold(disk, listing, &set);
        if (err == ERR_NOT_ENOUGH_SPACE)
            err = ERR_OK; /* R16: a full disk keeps nobody from starting; the next start does it */
    }
    if (err == ERR_OK)
        err = clean_remove(disk);
    manifest_set_fini(&set);
    free(listing);
    if (err != ERR_OK) {
        log_dir_state_fini(&state);
        return err;
    }
    *ret_state = state;
    return ERR_OK;
}

void log_dir_state_fini(struct log_dir_state *state)
{
    free(state->replicas);
    *state = (struct log_dir_state){0};
}
