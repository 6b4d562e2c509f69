/* Sends five orders, and says where each of them went.
 *
 *   producer HOST:PORT[,...] TOPIC */
#include <karst.h>
#include <stdio.h>
#include <string.h>

static void on_delivery(void *context, const struct karst_delivery *delivery)
{
    int *failed = context;
    if (delivery->err == KARST_OK) {
        printf("%s is record %lld of %s-%d\n", (const char *)delivery->opaque,
               (long long)delivery->offset, delivery->topic, delivery->partition);
        return;
    }
    printf("%s is lost: %s\n", (const char *)delivery->opaque, karst_err_sentence(delivery->err));
    *failed = 1;
}

int main(int argc, char **argv)
{
    static char orders[][8] = {"one", "two", "three", "four", "five"};
    char why[256] = "out of memory";
    int failed = 0;
    struct karst *karst;
    if (argc != 3) {
        fprintf(stderr, "usage: producer HOST:PORT[,...] TOPIC\n");
        return 2;
    }
    struct karst_config *config = karst_config_new();
    if (config == NULL ||
        karst_config_set(config, "bootstrap.servers", argv[1], why, sizeof(why)) ||
        karst_config_set(config, "linger.ms", "1", why, sizeof(why)) ||
        karst_new(config, &karst, why, sizeof(why))) {
        fprintf(stderr, "%s\n", why);
        return 1;
    }
    karst_config_free(config); /* copied */
    karst_on_delivery(karst, on_delivery, &failed);

    for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]) && !failed; i++) {
        struct karst_message message = {
            .topic = argv[2],
            .partition = KARST_PARTITION_ANY,
            .key = orders[i],
            .key_bytes = strlen(orders[i]),
            .value = "an order",
            .value_bytes = strlen("an order"),
            .opaque = orders[i],
        };
        int err;
        while ((err = karst_produce(karst, &message)) == KARST_ERR_FULL)
            karst_poll(karst, 100); /* deliveries make room */
        if (err != KARST_OK) {
            fprintf(stderr, "%s\n", karst_error(karst));
            failed = 1;
        }
    }
    if (karst_flush(karst, 30000) != KARST_OK) {
        fprintf(stderr, "%s\n", karst_error(karst));
        failed = 1;
    }
    karst_close(karst, 0);
    return failed;
}
