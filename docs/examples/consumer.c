/* Writes all records of a topic, and those that come for the next ten seconds.
 *
 *   consumer HOST:PORT[,...] TOPIC */
#include <karst.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    char why[256] = "out of memory";
    struct karst *karst;
    if (argc != 3) {
        fprintf(stderr, "usage: consumer HOST:PORT[,...] TOPIC\n");
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

    int count = karst_subscribe(karst, argv[2], KARST_OFFSET_EARLIEST) == KARST_OK ? 1 : -1;
    while (count > 0) { /* 0: nothing has come for ten seconds */
        struct karst_record records[100];
        count = karst_consume(karst, records, 100, 10000);
        for (int i = 0; i < count; i++) /* they are valid until the next karst_consume */
            printf("%d:%lld %.*s\n", records[i].partition, (long long)records[i].offset,
                   (int)records[i].value_bytes, (const char *)records[i].value);
        fflush(stdout);
    }
    if (count < 0)
        fprintf(stderr, "%s\n", karst_error(karst));
    karst_close(karst, 0);
    return count < 0;
}
