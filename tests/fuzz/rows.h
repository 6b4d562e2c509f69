/* rows.h - a mutator that knows what most targets are given: rows with a head, each a protobuf
 * message that may be followed by raw bytes. It changes, doubles, moves and drops rows and fields
 * and makes the lengths around them right again, which bytes changed at random rarely are.
 *
 * A target says what its rows are by defining fuzz_shape and being built with rows.c. */
#ifndef KARST_TESTS_FUZZ_ROWS_H
#define KARST_TESTS_FUZZ_ROWS_H

#include <stdbool.h>

struct rows_shape {
    unsigned before;       /* bytes before the first row */
    unsigned head;         /* bytes of each row before its message */
    unsigned length_at;    /* where the message's length stands in them, big-endian */
    unsigned length_bytes; /* 2 or 4; 0: there is one row, to the end */
    bool framed;           /* the first word of the head is the length of all after it */
};

extern const struct rows_shape fuzz_shape;

#endif
