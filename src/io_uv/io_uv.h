/* io_uv.h - the quorum's loop: libuv around the same actor that src/io gives its shards: clock,
 * timers, the metadata directory with a flusher of its own, mail, workers. It has no net.
 *
 * Thread: main's, between io_node_new and io_node_start; the node owns the loop from then. */
#ifndef KARST_IO_UV_IO_UV_H
#define KARST_IO_UV_IO_UV_H

#include "base/err.h"
#include "io/io.h"

/* Gives the quorum's actor of the node (its configuration names a metadata directory) its loop. */
err_t io_uv_add_quorum(struct io_node *node);

#endif
