/* batch_layout.h - where the fields of a batch's header lie; private to this folder. */
#ifndef KARST_RECORD_BATCH_LAYOUT_H
#define KARST_RECORD_BATCH_LAYOUT_H

enum {
    BATCH_AT_LENGTH = 8,
    BATCH_AT_LEADER_EPOCH = 12,
    BATCH_AT_MAGIC = 16,
    BATCH_AT_CRC = 17,
    BATCH_AT_ATTRIBUTES = 21, /* what the CRC covers begins here */
    BATCH_AT_LAST_DELTA = 23,
    BATCH_AT_BASE_TIMESTAMP = 27,
    BATCH_AT_MAX_TIMESTAMP = 35,
    BATCH_AT_PRODUCER_ID = 43,
    BATCH_AT_PRODUCER_EPOCH = 51,
    BATCH_AT_BASE_SEQUENCE = 53,
    BATCH_AT_RECORD_COUNT = 57,

    BATCH_MAGIC = 2,
};

#endif
