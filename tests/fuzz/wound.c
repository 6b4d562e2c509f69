#include "fuzz/wound.h"

#include <stdio.h>

#include "base/assert.h"

struct capture {
    struct wound_directory *into;
    const char *directory;
};

static void capture_entry(void *context, const char *entry, bool is_directory)
{
    struct capture *capture = context;
    struct wound_directory *into = capture->into;
    ASSERT(into->count < WOUND_FILES_MAX);
    struct wound_file *file = &into->files[into->count++];
    *file = (struct wound_file){.is_directory = is_directory};
    bool top = capture->directory[0] == '\0';
    int len = snprintf(file->name, sizeof(file->name), "%s%s%s", capture->directory, top ? "" : "/",
                       entry);
    ASSERT(len > 0);
    ASSERT((size_t)len < sizeof(file->name));
}

static void read_whole(struct env_disk *disk, const char *name, unsigned flags, uint8_t *data,
                       size_t *ret_len, env_file *ret_file)
{
    err_t err = disk->open(disk->self, name, flags, ret_file);
    ASSERT(err == ERR_OK);
    err = disk->read(disk->self, *ret_file, 0, data, WOUND_FILE_BYTES, ret_len);
    ASSERT(err == ERR_OK);
    ASSERT(*ret_len < WOUND_FILE_BYTES);
}

void wound_capture(struct env_disk *disk, struct wound_directory *into)
{
    struct capture capture = {into, ""};
    into->count = 0;
    err_t err = disk->list(disk->self, "", capture_entry, &capture);
    ASSERT(err == ERR_OK);
    for (unsigned i = 0; i < into->count; i++) {
        struct wound_file *file = &into->files[i];
        env_file handle;
        if (file->is_directory) {
            capture.directory = file->name;
            err = disk->list(disk->self, file->name, capture_entry, &capture);
            ASSERT(err == ERR_OK);
            continue;
        }
        read_whole(disk, file->name, 0, file->data, &file->len, &handle);
        disk->close(disk->self, handle);
    }
}

static void write_whole(struct env_disk *disk, env_file handle, const uint8_t *data, size_t len)
{
    union {
        const uint8_t *from;
        void *part;
    } bytes = {.from = data};
    err_t err = disk->set_size(disk->self, handle, 0);
    ASSERT(err == ERR_OK);
    if (len > 0)
        err = disk->write(disk->self, handle, 0, &(struct iovec){bytes.part, len}, 1);
    ASSERT(err == ERR_OK);
}

void wound_restore(struct env_disk *disk, const struct wound_directory *from)
{
    for (unsigned i = 0; i < from->count; i++) {
        const struct wound_file *file = &from->files[i];
        env_file handle;
        err_t err = file->is_directory
                        ? disk->make_directory(disk->self, file->name)
                        : disk->open(disk->self, file->name, ENV_OPEN_CREATE, &handle);
        ASSERT(err == ERR_OK);
        if (file->is_directory)
            continue;
        write_whole(disk, handle, file->data, file->len);
        disk->close(disk->self, handle);
    }
}

/* Place among the bytes that are not in a long run of zeros. */
static size_t dense_place(const uint8_t *data, size_t len, size_t place)
{
    enum { RUN = 8 };
    static uint16_t places[WOUND_FILE_BYTES];
    size_t count = 0, zeros = 0;
    for (size_t i = 0; i < len; i++) {
        zeros = data[i] == 0 ? zeros + 1 : 0;
        if (zeros < RUN)
            places[count++] = (uint16_t)i;
    }
    return count == 0 ? 0 : places[place % count];
}

void wound_apply(struct env_disk *disk, const struct wound *wound,
                 void (*seal)(uint8_t *data, size_t len, const char *name))
{
    static uint8_t data[WOUND_FILE_BYTES];
    env_file handle;
    size_t len;
    read_whole(disk, wound->name, ENV_OPEN_CREATE, data, &len, &handle);
    size_t place = len == 0 ? 0 : wound->place % len;
    if (wound->dense)
        place = dense_place(data, len, wound->place);
    if (wound->with.len == 0)
        len = place;
    for (size_t i = 0; i < wound->with.len && place + i < sizeof(data); i++) {
        data[place + i] = wound->with.data[i];
        len = place + i + 1 > len ? place + i + 1 : len;
    }
    if (seal != NULL)
        seal(data, len, wound->name);
    write_whole(disk, handle, data, len);
    disk->close(disk->self, handle);
}
