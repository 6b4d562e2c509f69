/* standard_files.h - descriptors 0, 1 and 2 that the caller left closed.
 *
 * The next file or socket would get such a number, and a result or a log line would be written into
 * it: into a segment, or to a broker.
 * Thread: first thing in main. */
#ifndef KARST_BASE_STANDARD_FILES_H
#define KARST_BASE_STANDARD_FILES_H

#include <stdbool.h>

#include "base/assert.h"

/* Gives the closed ones to files that refuse what they are for, so that their use still fails.
 * False: it can not be done. */
bool standard_files_open(void) NODISCARD;

#endif
