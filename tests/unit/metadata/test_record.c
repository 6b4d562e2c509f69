#include "lib/metadata_lab.h"

#include <stdlib.h>

#include "lib/check_main.h"

START_TEST(a_list_is_the_packed_entry_of_its_records)
{
    struct record_list list = {0};
    lab_feature(&list, 1);
    lab_topic(&list, 7, "orders");
    Karst__MetadataEntry *entry = karst__metadata_entry__unpack(NULL, list.len, list.data);
    ck_assert_ptr_nonnull(entry);
    ck_assert_uint_eq(entry->n_records, 2);
    ck_assert_uint_eq(entry->records[1]->type, KARST__RECORD_TYPE__RECORD_TOPIC);
    ck_assert_uint_eq(entry->records[1]->version, 1);
    Karst__TopicRecord *topic = karst__topic_record__unpack(NULL, entry->records[1]->payload.len,
                                                            entry->records[1]->payload.data);
    ck_assert_str_eq(topic->name, "orders");
    karst__topic_record__free_unpacked(topic, NULL);
    karst__metadata_entry__free_unpacked(entry, NULL);
    record_list_fini(&list);
}
END_TEST

START_TEST(a_walk_gives_each_record_and_ends)
{
    struct record_list list = {0};
    for (uint64_t i = 0; i < 300; i++)
        lab_topic(&list, i, "orders");
    Karst__MetadataRecord record;
    size_t at = 0, records = 0;
    struct bytes entry = {list.data, list.len};
    while (record_next(entry, &at, &record)) {
        ck_assert_uint_eq(record.type, KARST__RECORD_TYPE__RECORD_TOPIC);
        records++;
    }
    ck_assert_uint_eq(records, 300);
    ck_assert_uint_eq(at, list.len);
    record_list_fini(&list);
}
END_TEST

START_TEST(a_walk_over_a_cut_entry_says_so)
{
    struct record_list list = {0};
    lab_feature(&list, 1);
    size_t first = list.len;
    lab_topic(&list, 7, "orders");
    for (size_t len = 0; len < list.len; len++) {
        uint8_t *copy = malloc(len + 1);
        memcpy(copy, list.data, len);
        Karst__MetadataRecord record;
        size_t at = 0;
        while (record_next((struct bytes){copy, len}, &at, &record)) {
        }
        ck_assert_uint_eq(at, len < first ? 0 : first);
        free(copy);
    }
    record_list_fini(&list);
}
END_TEST

START_TEST(a_long_list_is_cut_at_whole_records)
{
    struct record_list list = {0};
    for (int32_t i = 0; i < 30000; i++)
        lab_partition(&list, 7, i, 1, 3);
    ck_assert_uint_gt(list.len, 2 * METADATA_ENTRY_BYTES_MAX);
    size_t at = 0, records = 0, entries = 0;
    for (struct bytes entry; (entry = record_list_entry(&list, at)).len > 0; at += entry.len) {
        ck_assert_uint_le(entry.len, METADATA_ENTRY_BYTES_MAX);
        Karst__MetadataRecord record;
        size_t next = 0;
        while (record_next(entry, &next, &record))
            records++;
        ck_assert_uint_eq(next, entry.len);
        entries++;
    }
    ck_assert_uint_eq(at, list.len);
    ck_assert_uint_eq(records, list.count);
    ck_assert_uint_eq(entries, list.len / METADATA_ENTRY_BYTES_MAX + 1);
    record_list_fini(&list);
}
END_TEST

START_TEST(every_type_of_the_enum_has_a_message_and_a_version)
{
    const ProtobufCEnumDescriptor *types = &karst__record_type__descriptor;
    for (unsigned i = 0; i < types->n_values; i++) {
        uint32_t type = (uint32_t)types->values[i].value;
        ck_assert_ptr_nonnull(record_descriptor(type));
        ck_assert_uint_eq(record_type_of(record_descriptor(type)), type);
        ck_assert_uint_ge(record_version_max(type), 1);
    }
    ck_assert_ptr_null(record_descriptor(0));
    ck_assert_ptr_null(record_descriptor(types->n_values + 1));
    ck_assert_uint_eq(record_version_max(9999), 0);
    ck_assert_uint_eq(record_type_of(&karst__voter__descriptor), 0);
}
END_TEST

CHECK_MAIN("metadata/record", a_list_is_the_packed_entry_of_its_records,
           a_walk_gives_each_record_and_ends, a_walk_over_a_cut_entry_says_so,
           a_long_list_is_cut_at_whole_records, every_type_of_the_enum_has_a_message_and_a_version)
