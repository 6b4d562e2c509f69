#include <stdarg.h>
#include <stdio.h>

#include "base/logger.h"
#include "controller/internal.h"

/* Far above what is legal, and under what fits in an entry. */
enum { RECORD_BYTES_MAX = METADATA_ENTRY_BYTES_MAX / 4 };

void decision_begin(struct controller *c, struct record_list *records, int64_t entry_offset,
                    uint64_t now_ns)
{
    ASSERT(c->active);
    c->records = records;
    c->entry_offset = entry_offset;
    c->now_ns = now_ns;
    c->at_once = false;
}

err_t decision_add(struct controller *c, const ProtobufCMessage *record)
{
    if (protobuf_c_message_get_packed_size(record) > RECORD_BYTES_MAX)
        return ERR_INVALID_REQUEST; /* a name or a list of somebody's request is absurd */
    struct record_list *list = c->records;
    const size_t len = list->len, count = list->count;
    record_list_add(list, record);
    /* R3: from the very bytes that will be proposed, by the code that will apply them. */
    struct bytes packed = {list->data + len, list->len - len};
    Karst__MetadataRecord decoded;
    size_t at = 0;
    err_t err = record_next(packed, &at, &decoded) ? image_edit_apply(c->edit, &decoded)
                                                   : ERR_INVALID_REQUEST;
    if (err != ERR_OK) {
        list->len = len;
        list->count = count;
    }
    return err;
}

void decision_begin_transaction(struct controller *c)
{
    c->before_transaction = *c->records;
    Karst__BeginTransactionRecord begin = KARST__BEGIN_TRANSACTION_RECORD__INIT;
    err_t err = decision_add(c, &begin.base);
    ASSERT(err == ERR_OK); /* none is open: they do not outlive a decision, nor activation */
}

err_t decision_end_transaction(struct controller *c, err_t so_far)
{
    Karst__EndTransactionRecord end = KARST__END_TRANSACTION_RECORD__INIT;
    err_t err = so_far == ERR_OK ? decision_add(c, &end.base) : so_far;
    if (err == ERR_OK)
        return ERR_OK;
    Karst__AbortTransactionRecord abort = KARST__ABORT_TRANSACTION_RECORD__INIT;
    err_t aborted = decision_add(c, &abort.base);
    ASSERT(aborted == ERR_OK);
    c->records->len = c->before_transaction.len;
    c->records->count = c->before_transaction.count;
    return err;
}

void decision_complain(const char *what, err_t err)
{
    log_error("controller: %s could not be applied and is not proposed: %s", what, err_name(err));
}

/* ---- replies ---- */

void *reply_new(struct controller *c, const ProtobufCMessageDescriptor *descriptor)
{
    ProtobufCMessage *message = arena_calloc(c->arena, 1, descriptor->sizeof_message);
    if (message != NULL)
        protobuf_c_message_init(descriptor, message);
    return message;
}

char *reply_text(struct controller *c, const char *format, ...)
{
    char text[512]; /* longer ones are cut */
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return arena_strdup(c->arena, text);
}

void **reply_rows(struct controller *c, const ProtobufCMessageDescriptor *descriptor, size_t count)
{
    const size_t room = count == 0 ? 1 : count; /* none is no failure */
    void **rows = arena_calloc(c->arena, room, sizeof(*rows));
    char *messages = arena_calloc(c->arena, room, descriptor->sizeof_message);
    if (rows == NULL || messages == NULL)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        rows[i] = messages + i * descriptor->sizeof_message;
        protobuf_c_message_init(descriptor, rows[i]);
    }
    return rows;
}

ProtobufCBinaryData reply_uuid(struct controller *c, const struct uuid *id)
{
    struct uuid *copy = arena_alloc(c->arena, sizeof(*copy));
    if (copy == NULL)
        return (ProtobufCBinaryData){0, NULL};
    *copy = *id;
    return (ProtobufCBinaryData){sizeof(copy->b), copy->b};
}

ProtobufCMessage *reply_error(struct controller *c, const ProtobufCMessageDescriptor *descriptor,
                              err_t err, const char *sentence)
{
    ProtobufCMessage *reply = reply_new(c, descriptor);
    if (reply == NULL)
        return NULL;
    const ProtobufCFieldDescriptor *error =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, "error");
    const ProtobufCFieldDescriptor *message =
        protobuf_c_message_descriptor_get_field_by_name(descriptor, "message");
    ASSERT(error != NULL);
    ASSERT(message != NULL);
    int32_t code = err;
    const char *text = sentence == NULL ? err_sentence(err) : sentence;
    memcpy((char *)reply + error->offset, &code, sizeof(code));
    memcpy((char *)reply + message->offset, &text, sizeof(text));
    return reply;
}

bool request_uuid(const ProtobufCBinaryData *bytes, struct uuid *ret_id)
{
    if (bytes->len != sizeof(ret_id->b))
        return false;
    memcpy(ret_id->b, bytes->data, sizeof(ret_id->b));
    return true;
}

ProtobufCBinaryData record_uuid(const struct uuid *id)
{
    return (ProtobufCBinaryData){sizeof(id->b), (uint8_t *)(uintptr_t)id->b};
}
