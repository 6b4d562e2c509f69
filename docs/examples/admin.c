/* Makes a topic, shows who leads its partitions, and deletes it.
 *
 *   admin HOST:PORT[,...] TOPIC */
#include <karst.h>
#include <stdio.h>

static int show(struct karst *karst, const char *name)
{
    struct karst_topics *topics;
    const char *const names[] = {name};
    int err = karst_topics_describe(karst, names, 1, 10000, &topics);
    if (err != KARST_OK)
        return err;
    for (size_t i = 0; i < topics->count; i++) {
        const struct karst_topic *topic = &topics->topics[i];
        if (topic->err != KARST_OK) {
            printf("%s: %s\n", topic->name, topic->reason);
            continue;
        }
        for (size_t j = 0; j < topic->partition_count; j++)
            printf("%s-%d is led by broker %d\n", topic->name, topic->partitions[j].index,
                   topic->partitions[j].leader);
    }
    karst_topics_free(topics);
    return KARST_OK;
}

int main(int argc, char **argv)
{
    char why[256] = "out of memory";
    struct karst *karst;
    if (argc != 3) {
        fprintf(stderr, "usage: admin HOST:PORT[,...] TOPIC\n");
        return 2;
    }
    struct karst_config *config = karst_config_new();
    if (config == NULL ||
        karst_config_set(config, "bootstrap.servers", argv[1], why, sizeof(why)) ||
        karst_new(config, &karst, why, sizeof(why))) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    karst_config_free(config);

    struct karst_setting settings[] = {{"min.insync.replicas", "1"}};
    struct karst_topic_spec spec = {
        .name = argv[2],
        .partitions = 3,
        .replication_factor = 1,
        .configs = settings,
        .config_count = 1,
    };
    int err = karst_topic_create(karst, &spec, 10000);
    if (err == KARST_OK)
        err = show(karst, argv[2]);
    if (err == KARST_OK)
        err = karst_topic_delete(karst, argv[2], 10000);
    if (err != KARST_OK)
        fprintf(stderr, "%s\n", karst_error(karst));
    karst_close(karst, 0);
    return err != KARST_OK;
}
