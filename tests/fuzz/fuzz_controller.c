/* The controller: a row of requests, each (method, length, packed message), to a small cluster.
 * Whatever is asked gets a reply, and what was decided can be applied by everybody: both images
 * stay the same. */
#include "fuzz/fuzz.h"

#include "base/assert.h"
#include "base/logger.h"
#include "controller/controller.h"
#include "fuzz/rows.h"

#include <stdlib.h>

const struct rows_shape fuzz_shape = {.head = 3, .length_at = 1, .length_bytes = 2};

enum { FUZZ_PARTITIONS_MAX = 20 };

struct fuzz_cluster {
    struct controller *controller;
    struct rng rng;
    struct image *committed;
    struct arena arena;
    uint64_t now_ns;
};

static int64_t fuzz_offset(const struct fuzz_cluster *cluster)
{
    return image_offset(cluster->committed) + 1;
}

/* What a client may ask for is what there is. */
static void fuzz_topic(void *context, const struct image_topic *topic)
{
    (void)context;
    ASSERT(topic->partition_count > 0);
    ASSERT(topic->partition_count <= FUZZ_PARTITIONS_MAX);
}

static void fuzz_commit(struct fuzz_cluster *cluster, struct record_list *records)
{
    struct bytes entry;
    for (size_t at = 0; (entry = record_list_entry(records, at)).len > 0; at += entry.len) {
        struct image_edit *edit = image_edit_begin(cluster->committed);
        err_t err = image_edit_apply_entry(edit, entry, fuzz_offset(cluster));
        ASSERT(err == ERR_OK);
        image_unref(cluster->committed);
        cluster->committed = image_edit_finish(edit, NULL);
        controller_committed(cluster->controller, cluster->committed);
    }
    record_list_fini(records);
    if (controller_active(cluster->controller))
        ASSERT(image_digest(cluster->committed) ==
               image_digest(controller_view(cluster->controller)));
}

static void fuzz_begin(struct fuzz_cluster *cluster)
{
    const struct controller_config config = {
        .session_timeout_ns = 2000000000,
        .default_partitions = 2,
        .default_replication_factor = 1,
        .topic_partitions_max = FUZZ_PARTITIONS_MAX,
        .preferred_leader_wait_ns = 5000000000,
    };
    *cluster = (struct fuzz_cluster){.now_ns = 1, .committed = image_new_empty()};
    rng_seed(&cluster->rng, 1);
    arena_init(&cluster->arena, 1 << 20);
    cluster->controller = controller_new(&config, &cluster->rng);
    char host[] = "a";
    Karst__Voter voter = KARST__VOTER__INIT;
    const Karst__Voter *voters = &voter;
    voter.host = host;
    voter.port = 1;
    struct uuid id = {.b = "0123456789abcdef"}; /* as in the corpus */
    struct record_list records = {0};
    controller_bootstrap_records(&id, &id, &voters, 1, &records);
    fuzz_commit(cluster, &records);
    controller_activate(cluster->controller, cluster->committed, fuzz_offset(cluster),
                        cluster->now_ns, &records);
    fuzz_commit(cluster, &records);
}

static void fuzz_request(struct fuzz_cluster *cluster, uint8_t method, struct bytes packed)
{
    static const ProtobufCMessageDescriptor *const requests[] = {
        &karst__register_broker_request__descriptor,
        &karst__heartbeat_request__descriptor,
        &karst__alter_partition_request__descriptor,
        &karst__allocate_producer_ids_request__descriptor,
        &karst__create_topics_request__descriptor,
        &karst__delete_topics_request__descriptor,
        &karst__elect_leaders_request__descriptor,
        &karst__probe_request__descriptor,
    };
    ProtobufCMessage *message = protobuf_c_message_unpack(requests[method % ARRAY_LEN(requests)],
                                                          NULL, packed.len, packed.data);
    if (message == NULL)
        return;
    struct controller_request request = {.message = message, .from = 1, .from_epoch = -1};
    struct controller_decision decision = {0};
    arena_reset(&cluster->arena);
    controller_handle(cluster->controller, &request, fuzz_offset(cluster), cluster->now_ns,
                      &cluster->arena, &decision);
    ASSERT(decision.reply != NULL);
    ASSERT(protobuf_c_message_get_packed_size(decision.reply) < 16 << 20);
    protobuf_c_message_free_unpacked(message, NULL);
    fuzz_commit(cluster, &decision.records);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    logger_set(LOGGER_OFF, NULL, NULL, false);
    struct fuzz_cluster cluster;
    fuzz_begin(&cluster);
    struct reader reader;
    reader_init(&reader, data, size);
    while (reader_left(&reader) > 0 && !reader.failed) {
        uint8_t method = reader_u8(&reader);
        struct bytes packed = reader_bytes(&reader, reader_u16(&reader));
        if (reader.failed)
            break;
        fuzz_request(&cluster, method, packed);
        cluster.now_ns += 300000000;
        struct record_list records = {0};
        controller_tick(cluster.controller, fuzz_offset(&cluster), cluster.now_ns, &records);
        fuzz_commit(&cluster, &records);
    }
    image_each_topic(cluster.committed, fuzz_topic, NULL);
    controller_free(cluster.controller);
    image_unref(cluster.committed);
    arena_fini(&cluster.arena);
    return 0;
}
