/* internal.h - the two halves of the codec, and what they share. */
#ifndef KARST_RPC_INTERNAL_H
#define KARST_RPC_INTERNAL_H

#include "proto/rpc.pb-c.h"
#include "rpc/rpc.h"
#include "wire/wire.h"

enum codec_verdict rpc_decode(struct shard *shard, struct session *session, struct frame *frame,
                              struct request **ret_request);
void rpc_encode(struct shard *shard, struct session *session, struct request *request);
/* An error frame; sentence NULL: the table's. */
void rpc_send_error(struct shard *shard, struct session *session, uint16_t method,
                    uint32_t correlation, err_t err, const char *sentence);

#endif
