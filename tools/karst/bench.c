/* karst bench produce, karst bench consume: what the cluster, this client and this machine can do.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/histogram.h"
#include "karst/cli.h"

enum {
    BENCH_RECORDS = CLI_OWN,
    BENCH_SIZE,
    BENCH_ACKS,
    BENCH_RATE,
    BENCH_LINGER,
    BENCH_BATCH,
    BENCH_PARTITION,

    BENCH_LOOK_MS = 100,
    BENCH_CONSUME_RECORDS = 4096,
    BENCH_SIZE_MAX = 16 << 20,
    NS_PER_S = 1000000000,
};

static const struct option bench_produce_options[] = {
    {"records", required_argument, NULL, BENCH_RECORDS},
    {"size", required_argument, NULL, BENCH_SIZE},
    {"acks", required_argument, NULL, BENCH_ACKS},
    {"rate", required_argument, NULL, BENCH_RATE},
    {"linger-ms", required_argument, NULL, BENCH_LINGER},
    {"batch-size", required_argument, NULL, BENCH_BATCH},
    {"partition", required_argument, NULL, BENCH_PARTITION},
    {0},
};

static const struct option bench_consume_options[] = {
    {"records", required_argument, NULL, BENCH_RECORDS},
    {0},
};

struct bench {
    struct cli cli;
    const char *topic;
    int64_t records, size, rate, partition;
    char acks[32], linger[32], batch[32];
    uint64_t sent, failed;
    int failed_err;
    struct histogram latency_us;
    struct cli_progress progress;
    double cpu_start;
};

static double bench_cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void bench_start(struct bench *bench)
{
    histogram_init(&bench->latency_us);
    bench->cpu_start = bench_cpu_seconds();
    cli_catch_signals();
    cli_progress_start(&bench->progress);
}

static void bench_on_delivery(void *context, const struct karst_delivery *delivery)
{
    struct bench *bench = context;
    if (delivery->err != KARST_OK) {
        if (bench->failed++ == 0)
            bench->failed_err = delivery->err;
        return;
    }
    bench->progress.records++;
    bench->progress.bytes += (uint64_t)bench->size;
    uint64_t sent_ns = (uint64_t)(uintptr_t)delivery->opaque;
    if (sent_ns != 0)
        histogram_add(&bench->latency_us, (cli_now_ns() - sent_ns) / 1000);
}

static void bench_poll(struct bench *bench, int timeout_ms)
{
    (void)karst_poll(bench->cli.karst, timeout_ms);
    cli_progress_show(&bench->progress);
}

/* Until the next record is due; by sleeping in karst_poll, which costs up to a millisecond. */
static void bench_pace(struct bench *bench)
{
    if (bench->rate == 0)
        return;
    uint64_t due_ns =
        bench->progress.start_ns + (uint64_t)((double)bench->sent / (double)bench->rate * NS_PER_S);
    for (;;) {
        uint64_t now = cli_now_ns();
        if (now >= due_ns || cli_stopped())
            return;
        uint64_t wait_ms = (due_ns - now + 999999) / 1000000;
        bench_poll(bench, wait_ms < BENCH_LOOK_MS ? (int)wait_ms : BENCH_LOOK_MS);
    }
}

/* At full speed one record in 64 is timed: the clock would cost as much as the record. */
static void *bench_stamp(const struct bench *bench)
{
    return bench->rate != 0 || bench->sent % 64 == 0 ? (void *)(uintptr_t)cli_now_ns() : NULL;
}

static int bench_send(struct bench *bench, const char *value)
{
    struct karst_message message = {
        .topic = bench->topic,
        .partition = (int32_t)bench->partition,
        .value = value,
        .value_bytes = (size_t)bench->size,
        .timestamp_ms = 1, /* the clock is not what is measured */
    };
    while (bench->sent < (uint64_t)bench->records && !cli_stopped()) {
        bench_pace(bench);
        message.opaque = bench_stamp(bench);
        int err;
        while ((err = karst_produce(bench->cli.karst, &message)) == KARST_ERR_FULL &&
               !cli_stopped())
            bench_poll(bench, BENCH_LOOK_MS);
        if (err == KARST_ERR_FULL)
            break;
        if (err != KARST_OK)
            return cli_fail(&bench->cli, bench->topic);
        bench->sent++;
        if (bench->sent % 4096 == 0)
            bench_poll(bench, 0);
    }
    while (karst_flush(bench->cli.karst, BENCH_LOOK_MS) != KARST_OK) {
        bench_poll(bench, 0);
        cli_tell_wait(&bench->cli);
    }
    return CLI_DONE;
}

static int bench_report(struct bench *bench, const char *what)
{
    double seconds = cli_seconds(&bench->progress);
    double cpu = bench_cpu_seconds() - bench->cpu_start;
    double gb = (double)bench->progress.bytes / 1e9;
    double mb_s = gb * 1000 / seconds, records_s = (double)bench->progress.records / seconds;
    const struct histogram *latency = &bench->latency_us;
    static const double quantiles[] = {0.5, 0.95, 0.99, 0.999};
    double ms[ARRAY_LEN(quantiles)];
    for (size_t i = 0; i < ARRAY_LEN(quantiles); i++)
        ms[i] = (double)histogram_quantile(latency, quantiles[i]) / 1000;
    double most_ms = latency->total == 0 ? 0 : (double)latency->max / 1000;
    if (bench->failed > 0)
        fprintf(stderr, "karst: %" PRIu64 " records were not acknowledged: %s\n", bench->failed,
                karst_err_sentence(bench->failed_err));
    if (bench->cli.json) {
        json_t *object = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f}", "bench", what, "topic",
            bench->topic, "records", (json_int_t)bench->progress.records, "bytes",
            (json_int_t)bench->progress.bytes, "failed", (json_int_t)bench->failed, "seconds",
            seconds, "mb_per_second", mb_s, "records_per_second", records_s, "client_cpu_seconds",
            cpu, "client_cpu_seconds_per_gb", gb > 0 ? cpu / gb : 0);
        if (latency->total > 0)
            json_object_set_new(object, "latency_ms",
                                json_pack("{s:f, s:f, s:f, s:f, s:f}", "p50", ms[0], "p95", ms[1],
                                          "p99", ms[2], "p999", ms[3], "max", most_ms));
        return cli_print_json(object);
    }
    printf("%s %s: %" PRIu64
           " records in %.2f s, %.1f MB/s, %.0f records/s, client %.2f CPU s/GB\n",
           what, bench->topic, bench->progress.records, seconds, mb_s, records_s,
           gb > 0 ? cpu / gb : 0);
    if (latency->total > 0)
        printf("latency ms: p50 %.2f  p95 %.2f  p99 %.2f  p99.9 %.2f  max %.2f\n", ms[0], ms[1],
               ms[2], ms[3], most_ms);
    return cli_output_end();
}

static int bench_option(struct bench *bench, int option)
{
    struct cli *cli = &bench->cli;
    switch (option) {
    case BENCH_RECORDS:
        if (!cli_number(optarg, 1, INT64_MAX, &bench->records))
            return cli_usage(cli, "--records %s is not a number from 1", optarg);
        return CLI_DONE;
    case BENCH_SIZE:
        if (!cli_number(optarg, 0, BENCH_SIZE_MAX, &bench->size))
            return cli_usage(cli, "--size %s is not a number of bytes from 0 to %d", optarg,
                             BENCH_SIZE_MAX);
        return CLI_DONE;
    case BENCH_RATE:
        if (!cli_number(optarg, 1, INT32_MAX, &bench->rate))
            return cli_usage(cli, "--rate %s is not a number from 1", optarg);
        return CLI_DONE;
    case BENCH_PARTITION:
        if (!cli_number(optarg, 0, INT32_MAX, &bench->partition))
            return cli_usage(cli, "--partition %s is not a number from 0", optarg);
        return CLI_DONE;
    case BENCH_ACKS:
        snprintf(bench->acks, sizeof(bench->acks), "acks=%s", optarg);
        cli_set(cli, bench->acks);
        return CLI_DONE;
    case BENCH_LINGER:
        snprintf(bench->linger, sizeof(bench->linger), "linger.ms=%s", optarg);
        cli_set(cli, bench->linger);
        return CLI_DONE;
    default:
        snprintf(bench->batch, sizeof(bench->batch), "batch.size=%s", optarg);
        cli_set(cli, bench->batch);
        return CLI_DONE;
    }
}

/* Options and connection; CLI_DONE when the work may begin, else *ret_end: the command ends so. */
static bool bench_prepare(struct bench *bench, const struct cli_command *command, int argc,
                          char **argv, const struct option *options, int *ret_end)
{
    int option;
    cli_init(&bench->cli, command);
    while ((option = cli_getopt(&bench->cli, argc, argv, options, ret_end)) >= 0) {
        *ret_end = bench_option(bench, option);
        if (*ret_end != CLI_DONE)
            return false;
    }
    if (option == -2)
        return false;
    *ret_end = CLI_USAGE;
    if (!cli_arguments(&bench->cli, argc, 1, 1))
        return false;
    bench->topic = argv[optind];
    *ret_end = cli_connect(&bench->cli);
    if (*ret_end != CLI_DONE)
        return false;
    if (karst_partition_count(bench->cli.karst, bench->topic, bench->cli.timeout_ms) > 0)
        return true;
    fprintf(stderr, "karst: %s\n", karst_error(bench->cli.karst));
    *ret_end = CLI_FAILED;
    cli_close(&bench->cli);
    return false;
}

static int bench_produce_run(const struct cli_command *command, int argc, char **argv)
{
    struct bench bench = {.records = 1000000, .size = 1024, .partition = KARST_PARTITION_ANY};
    int code = CLI_DONE;
    if (!bench_prepare(&bench, command, argc, argv, bench_produce_options, &code))
        return code;
    char *value = malloc((size_t)bench.size + 1);
    if (value != NULL)
        memset(value, 'x', (size_t)bench.size);
    karst_on_delivery(bench.cli.karst, bench_on_delivery, &bench);
    bench_start(&bench);
    if (value == NULL)
        fprintf(stderr, "karst: %s\n", karst_err_sentence(KARST_ERR_NO_MEMORY));
    code = value == NULL ? CLI_FAILED : bench_send(&bench, value);
    cli_progress_end(&bench.progress);
    if (code == CLI_DONE)
        code = bench_report(&bench, "produce");
    if (code == CLI_DONE && bench.sent < (uint64_t)bench.records)
        code = cli_interrupted();
    free(value);
    cli_close(&bench.cli);
    return bench.failed > 0 ? CLI_FAILED : code;
}

static int bench_read(struct bench *bench)
{
    static struct karst_record records[BENCH_CONSUME_RECORDS];
    while (bench->progress.records < (uint64_t)bench->records && !cli_stopped()) {
        int count = karst_consume(bench->cli.karst, records, BENCH_CONSUME_RECORDS, BENCH_LOOK_MS);
        if (count < 0)
            return cli_fail(&bench->cli, bench->topic);
        for (int i = 0; i < count; i++)
            bench->progress.bytes += records[i].value_bytes + records[i].key_bytes;
        bench->progress.records += (uint64_t)count;
        cli_progress_show(&bench->progress);
    }
    return CLI_DONE;
}

/* How many records the topic has now. */
static int bench_count(struct bench *bench)
{
    struct karst *karst = bench->cli.karst;
    int32_t partitions = karst_partition_count(karst, bench->topic, bench->cli.timeout_ms);
    bench->records = 0;
    for (int32_t i = 0; i < partitions; i++) {
        int64_t first, end;
        if (karst_offsets(karst, bench->topic, i, &first, &end, bench->cli.timeout_ms) != KARST_OK)
            return cli_fail(&bench->cli, bench->topic);
        bench->records += end - first;
    }
    return CLI_DONE;
}

static int bench_consume_run(const struct cli_command *command, int argc, char **argv)
{
    struct bench bench = {.records = -1};
    int code = CLI_DONE;
    if (!bench_prepare(&bench, command, argc, argv, bench_consume_options, &code))
        return code;
    if (bench.records < 0)
        code = bench_count(&bench);
    bench_start(&bench);
    if (code == CLI_DONE &&
        karst_subscribe(bench.cli.karst, bench.topic, KARST_OFFSET_EARLIEST) != KARST_OK)
        code = cli_fail(&bench.cli, bench.topic);
    if (code == CLI_DONE)
        code = bench_read(&bench);
    cli_progress_end(&bench.progress);
    if (code == CLI_DONE)
        code = bench_report(&bench, "consume");
    if (code == CLI_DONE && bench.progress.records < (uint64_t)bench.records)
        code = cli_interrupted();
    cli_close(&bench.cli);
    return code;
}

const struct cli_command bench_produce_command = {
    .group = "bench",
    .name = "produce",
    .arguments = "TOPIC [OPTION...]",
    .summary = "Measures throughput and latency of producing.",
    .options = "  --records N                  (1000000)\n"
               "  --size BYTES                 of a record's value (1024)\n"
               "  --acks all|1|0               (all)\n"
               "  --rate N                     records a second (as fast as it goes)\n"
               "  --linger-ms N                (5)\n"
               "  --batch-size BYTES           (1000000)\n"
               "  --partition N                (spread over all)\n",
    .example = "karst bench produce orders --records 1000000 --size 1024",
    .run = bench_produce_run,
};

const struct cli_command bench_consume_command = {
    .group = "bench",
    .name = "consume",
    .arguments = "TOPIC [OPTION...]",
    .summary = "Measures throughput of reading a topic from its beginning.",
    .options = "  --records N                  (all that are there)\n",
    .example = "karst bench consume orders",
    .run = bench_consume_run,
};
