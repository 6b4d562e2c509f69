/* record.h - metadata records as values: packing them into the entry that raft replicates.
 *
 * A list may be cut into entries between any two records: what must not be seen in part is
 * bracketed by BeginTransaction and EndTransaction by who decided it (R23). */
#ifndef KARST_METADATA_RECORD_H
#define KARST_METADATA_RECORD_H

#include "base/bytes.h"
#include "base/err.h"
#include "proto/metadata.pb-c.h"

enum {
    METADATA_ENTRY_BYTES_MAX = 512 << 10, /* R23: larger decisions are cut, or go in transactions */
};

/* A growing list of records in packed form (type, version, payload), in the order of decision. */
struct record_list {
    uint8_t *data; /* a MetadataEntry when packed: its repeated field, record by record */
    size_t len, capacity;
    size_t count;
};

void record_list_init(struct record_list *list);
void record_list_fini(struct record_list *list);
/* payload is one of the ...Record messages of metadata.proto; its type follows from its descriptor.
 * Aborts without memory (a few hundred bytes). */
void record_list_add(struct record_list *list, const ProtobufCMessage *payload);
/* One that is packed already, as it came. */
void record_list_add_packed(struct record_list *list, const Karst__MetadataRecord *record);
/* Appends all records of other. */
void record_list_append(struct record_list *list, const struct record_list *other);
/* The longest run of whole records from at that is an entry within METADATA_ENTRY_BYTES_MAX; empty
 * at the end. The next run starts at at + its length. A view of the list. */
struct bytes record_list_entry(const struct record_list *list, size_t at);
/* Walks an entry (or the packed form of a list) without copying; *at is 0 at first. ret_record's
 * payload points into entry. false: the end, or malformed bytes (then *at is not entry.len). Total.
 */
bool record_next(struct bytes entry, size_t *at, Karst__MetadataRecord *ret_record);
/* Type of a record message by descriptor; 0 when it is none. */
uint32_t record_type_of(const ProtobufCMessageDescriptor *descriptor);
/* Descriptor by type; NULL when unknown. */
const ProtobufCMessageDescriptor *record_descriptor(uint32_t type);
/* Highest version of a type that this build knows; 0: unknown type. */
uint32_t record_version_max(uint32_t type);

#endif
