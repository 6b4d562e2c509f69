/* rpc.h - Karst's own protocol: frames of wire.h to the shard's typed requests and back.
 *
 * A connection says hello first, and nothing else is heard before. Requests pipeline; replies come
 * in the order of completion.
 *
 *   malformed, or before the hello   error reply, then the connection closes
 *   unknown method or version        error reply; it stays
 *   a request that may not be        error reply; it stays
 *
 * Thread: the shard's. Total: any bytes in, an answer or a close out. */
#ifndef KARST_RPC_RPC_H
#define KARST_RPC_RPC_H

#include "shard/session.h"

extern const struct shard_codec rpc_codec;

#endif
