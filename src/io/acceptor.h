/* acceptor.h - the listeners of a node: one socket each, accepted by shard 0's loop, which gives
 * each connection to the shard that has the fewest.
 *
 * Rather than SO_REUSEPORT, which spreads by a hash: of a few connections with much to say, all may
 * meet on one shard.
 * Thread: shard 0's; new and free with the loops stopped. */
#ifndef KARST_IO_ACCEPTOR_H
#define KARST_IO_ACCEPTOR_H

#include "io/io.h"
#include "io/net.h"

struct io_acceptor;

/* Binds and listens. nets: of all shards, they must outlive it. */
err_t io_acceptor_new(const struct io_config *config, struct io_net *const *nets,
                      struct io_acceptor **ret_acceptor, char *why, size_t why_size);
void io_acceptor_free(struct io_acceptor *acceptor); /* accepts NULL */
uint16_t io_acceptor_port(const struct io_acceptor *acceptor, unsigned listener);

#endif
