/* fuzz.h - what a fuzz target is: libFuzzer's signature. It returns 0, and aborts when a promise of
 * the code under test is broken. */
#ifndef KARST_TESTS_FUZZ_H
#define KARST_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
