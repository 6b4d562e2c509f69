/* karst produce: lines, or numbered records, into a topic. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "karst/cli.h"

enum {
    PRODUCE_PARTITION = CLI_OWN,
    PRODUCE_SEPARATOR,
    PRODUCE_ACKS,
    PRODUCE_VERIFIABLE,
    PRODUCE_GENERATE,
    PRODUCE_RATE,
    PRODUCE_SIZE,

    PRODUCE_READ_BYTES = 1 << 20,
    PRODUCE_LOOK_MS = 100,
    PRODUCE_STALL_S = 5, /* without an acknowledgement: the person is told */
    PRODUCE_SIZE_MAX = 64 << 20,
    NS_PER_S = 1000000000,
};

static const struct option produce_options[] = {
    {"partition", required_argument, NULL, PRODUCE_PARTITION},
    {"key-separator", required_argument, NULL, PRODUCE_SEPARATOR},
    {"acks", required_argument, NULL, PRODUCE_ACKS},
    {"verifiable", no_argument, NULL, PRODUCE_VERIFIABLE},
    {"generate", required_argument, NULL, PRODUCE_GENERATE},
    {"rate", required_argument, NULL, PRODUCE_RATE},
    {"size", required_argument, NULL, PRODUCE_SIZE},
    {0},
};

struct produce {
    struct cli cli;
    const char *topic, *path; /* path NULL: standard input */
    int32_t partition;
    const char *separator; /* NULL: no keys */
    char acks[32], delivery[48];
    bool verifiable;
    int64_t generate; /* -1: lines are read; 0: without end */
    int64_t rate;     /* records a second; 0: as fast as it goes */
    int64_t size;     /* bytes of a generated record */
    int fd;

    uint64_t sent; /* records, and the next one's number */
    uint64_t failed;
    uint64_t told;          /* of them */
    int failed_err;         /* of the first one */
    uint64_t news, news_ns; /* the last look at which another one was acknowledged, or failed */
    bool stalled;           /* told */
    bool whole;             /* the input was read to its end */
    struct cli_progress progress;
};

/* ---- what became of them ---- */

static void produce_on_delivery(void *context, const struct karst_delivery *delivery)
{
    struct produce *produce = context;
    uint64_t sequence = (uint64_t)(uintptr_t)delivery->opaque;
    if (delivery->err == KARST_OK)
        produce->progress.records++;
    else if (produce->failed++ == 0)
        produce->failed_err = delivery->err;
    if (!produce->verifiable) {
        if (delivery->err == KARST_OK)
            produce->progress.bytes += (uint64_t)(uintptr_t)delivery->opaque;
        return;
    }
    if (delivery->err == KARST_OK)
        printf("{\"partition\":%d,\"offset\":%" PRId64 ",\"sequence\":%" PRIu64 ",\"ns\":%" PRIu64
               "}\n",
               delivery->partition, delivery->offset, sequence, cli_now_ns());
    else
        printf("{\"partition\":%d,\"sequence\":%" PRIu64 ",\"error\":\"%s\",\"ns\":%" PRIu64 "}\n",
               delivery->partition, sequence, karst_err_name(delivery->err), cli_now_ns());
}

/* Who waits for a cluster that does not acknowledge is told, once for each time. */
static void produce_look_for_stall(struct produce *produce)
{
    uint64_t now = cli_now_ns(), news = produce->progress.records + produce->failed;
    if (news != produce->news || karst_outstanding(produce->cli.karst) == 0) {
        produce->news = news;
        produce->news_ns = now;
        produce->stalled = false;
    }
    if (produce->stalled || now < produce->news_ns + (uint64_t)PRODUCE_STALL_S * NS_PER_S)
        return;
    produce->stalled = true;
    fprintf(
        stderr,
        "karst: nothing was acknowledged for %d s; trying on (karst cluster status, karst topic "
        "describe %s tell more)\n",
        PRODUCE_STALL_S, produce->topic);
}

static void produce_poll(struct produce *produce, int timeout_ms)
{
    if (karst_poll(produce->cli.karst, timeout_ms) > 0 && produce->verifiable)
        fflush(stdout); /* who checks wants to know at once */
    produce_look_for_stall(produce);
    cli_progress_show(&produce->progress);
}

/* Waits while the buffer is full, unless asked to stop. CLI_DONE, or told. */
static int produce_one(struct produce *produce, const void *key, size_t key_bytes,
                       const void *value, size_t value_bytes)
{
    struct karst_message message = {
        .topic = produce->topic,
        .partition = produce->partition,
        .key = key,
        .key_bytes = key_bytes,
        .value = value,
        .value_bytes = value_bytes,
        /* Who checks needs to know which one was acknowledged, everybody else how much. */
        .opaque =
            (void *)(uintptr_t)(produce->verifiable ? produce->sent : key_bytes + value_bytes),
    };
    int err;
    while ((err = karst_produce(produce->cli.karst, &message)) == KARST_ERR_FULL) {
        if (cli_stopped())
            return cli_interrupted();
        produce_poll(produce, PRODUCE_LOOK_MS);
    }
    if (err != KARST_OK) {
        fprintf(stderr, "karst: record %" PRIu64 ": %s\n", produce->sent + 1,
                karst_error(produce->cli.karst));
        produce->told++;
        produce_on_delivery(produce, &(struct karst_delivery){.topic = produce->topic,
                                                              .partition = produce->partition,
                                                              .err = err,
                                                              .offset = -1,
                                                              .opaque = message.opaque});
        produce->sent++;
        return CLI_FAILED;
    }
    produce->sent++;
    if (produce->verifiable) /* told as they go, since their acknowledgement names the number */
        produce->progress.bytes += key_bytes + value_bytes;
    if (produce->sent % 1024 == 0)
        produce_poll(produce, 0);
    return CLI_DONE;
}

/* ---- lines ---- */

static int produce_line(struct produce *produce, const char *line, size_t len)
{
    if (produce->separator == NULL)
        return produce_one(produce, NULL, 0, line, len);
    size_t separator_len = strlen(produce->separator);
    const char *at = memmem(line, len, produce->separator, separator_len);
    if (at == NULL) {
        fprintf(stderr, "karst: line %" PRIu64 " has no separator \"%s\"\n", produce->sent + 1,
                produce->separator);
        return CLI_FAILED;
    }
    const char *value = at + separator_len;
    return produce_one(produce, line, (size_t)(at - line), value, len - (size_t)(value - line));
}

/* Until there is something to read; callbacks run meanwhile. False: asked to stop. */
static bool produce_wait_input(struct produce *produce)
{
    struct pollfd fds[2] = {
        {.fd = produce->fd, .events = POLLIN},
        {.fd = karst_poll_fd(produce->cli.karst), .events = POLLIN},
    };
    while (!cli_stopped()) {
        produce_poll(produce, 0);
        int ready = poll(fds, 2, PRODUCE_LOOK_MS);
        if (ready > 0 && fds[0].revents != 0)
            return true;
    }
    return false;
}

static int produce_lines(struct produce *produce)
{
    size_t room = PRODUCE_READ_BYTES, used = 0;
    char *buf = malloc(room);
    int code = buf == NULL ? CLI_FAILED : CLI_DONE;
    while (code == CLI_DONE && produce_wait_input(produce)) {
        ssize_t got = read(produce->fd, buf + used, room - used);
        if (got < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (got < 0) {
            fprintf(stderr, "karst: %s: %s\n",
                    produce->path == NULL ? "standard input" : produce->path, strerror(errno));
            code = CLI_FAILED;
            break;
        }
        if (got == 0) { /* the last line may lack its end */
            produce->whole = true;
            if (used > 0)
                code = produce_line(produce, buf, used);
            break;
        }
        used += (size_t)got;
        char *line = buf, *end = buf + used, *newline;
        while (code == CLI_DONE && (newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
            code = produce_line(produce, line, (size_t)(newline - line));
            line = newline + 1;
        }
        used = (size_t)(end - line);
        memmove(buf, line, used);
        if (used == room) {
            char *larger = room >= PRODUCE_SIZE_MAX ? NULL : realloc(buf, room * 2);
            if (larger == NULL) {
                fprintf(stderr, "karst: line %" PRIu64 " is too long\n", produce->sent + 1);
                code = CLI_FAILED;
                break;
            }
            buf = larger;
            room *= 2;
        }
    }
    free(buf);
    return code;
}

/* ---- numbers ---- */

/* Waits until the next record is due. */
static void produce_pace(struct produce *produce)
{
    if (produce->rate == 0)
        return;
    uint64_t due_ns = produce->progress.start_ns +
                      (uint64_t)((double)produce->sent / (double)produce->rate * NS_PER_S);
    for (;;) {
        uint64_t now = cli_now_ns();
        if (now >= due_ns || cli_stopped())
            return;
        uint64_t wait_ms = (due_ns - now + 999999) / 1000000;
        produce_poll(produce, wait_ms < PRODUCE_LOOK_MS ? (int)wait_ms : PRODUCE_LOOK_MS);
    }
}

static int produce_numbers(struct produce *produce)
{
    size_t size = (size_t)produce->size < 24 ? 24 : (size_t)produce->size;
    char *value = malloc(size + 1);
    int code = value == NULL ? CLI_FAILED : CLI_DONE;
    while (code == CLI_DONE && !cli_stopped() &&
           (produce->generate == 0 || produce->sent < (uint64_t)produce->generate)) {
        produce_pace(produce);
        if (cli_stopped())
            break;
        size_t len = (size_t)snprintf(value, size + 1, "%" PRIu64 " ", produce->sent);
        size_t all = len < (size_t)produce->size ? (size_t)produce->size : len - 1;
        if (all > len)
            memset(value + len, '.', all - len);
        code = produce_one(produce, NULL, 0, value, all);
    }
    produce->whole = produce->generate == 0 || produce->sent == (uint64_t)produce->generate;
    free(value);
    return code;
}

/* ---- the command ---- */

static int produce_option(struct produce *produce, int option)
{
    struct cli *cli = &produce->cli;
    int64_t number;
    switch (option) {
    case PRODUCE_PARTITION:
        if (!cli_number(optarg, 0, INT32_MAX, &number))
            return cli_usage(cli, "--partition %s is not a number from 0", optarg);
        produce->partition = (int32_t)number;
        return CLI_DONE;
    case PRODUCE_SEPARATOR:
        if (*optarg == '\0')
            return cli_usage(cli, "--key-separator is empty");
        produce->separator = optarg;
        return CLI_DONE;
    case PRODUCE_ACKS:
        snprintf(produce->acks, sizeof(produce->acks), "acks=%s", optarg);
        cli_set(cli, produce->acks);
        return CLI_DONE;
    case PRODUCE_VERIFIABLE:
        produce->verifiable = true;
        return CLI_DONE;
    case PRODUCE_GENERATE:
        if (!cli_number(optarg, 0, INT64_MAX, &produce->generate))
            return cli_usage(cli, "--generate %s is not a number from 0", optarg);
        return CLI_DONE;
    case PRODUCE_RATE:
        if (!cli_number(optarg, 1, INT32_MAX, &produce->rate))
            return cli_usage(cli, "--rate %s is not a number from 1 to 2147483647", optarg);
        return CLI_DONE;
    default:
        if (!cli_number(optarg, 1, PRODUCE_SIZE_MAX, &produce->size))
            return cli_usage(cli, "--size %s is not a number of bytes from 1 to %d", optarg,
                             PRODUCE_SIZE_MAX);
        return CLI_DONE;
    }
}

static int produce_report(struct produce *produce)
{
    double seconds = cli_seconds(&produce->progress);
    char bytes[32], rate[32];
    if (produce->failed > produce->told)
        fprintf(stderr, "karst: %" PRIu64 " of %" PRIu64 " records were not acknowledged: %s\n",
                produce->failed, produce->sent, karst_err_sentence(produce->failed_err));
    if (produce->verifiable)
        return CLI_DONE;
    if (produce->cli.json)
        return cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:f}", "topic", produce->topic,
                                        "records", (json_int_t)produce->progress.records, "failed",
                                        (json_int_t)produce->failed, "bytes",
                                        (json_int_t)produce->progress.bytes, "seconds", seconds));
    printf("%" PRIu64 " record%s (%s) acknowledged in %.2f s, %s/s\n", produce->progress.records,
           produce->progress.records == 1 ? "" : "s",
           cli_bytes_text((double)produce->progress.bytes, bytes, sizeof(bytes)), seconds,
           cli_bytes_text((double)produce->progress.bytes / seconds, rate, sizeof(rate)));
    return CLI_DONE;
}

static int produce_all(struct produce *produce)
{
    struct karst *karst = produce->cli.karst;
    karst_on_delivery(karst, produce_on_delivery, produce);
    int count = karst_partition_count(karst, produce->topic, produce->cli.timeout_ms);
    if (count <= 0) {
        fprintf(stderr, "karst: %s\n", karst_error(karst));
        return CLI_FAILED;
    }
    if (produce->partition >= count) {
        fprintf(stderr, "karst: topic %s has partitions 0 to %d, not %d\n", produce->topic,
                count - 1, produce->partition);
        return CLI_FAILED;
    }
    cli_catch_signals();
    cli_progress_start(&produce->progress);
    produce->news_ns = produce->progress.start_ns;
    int code = produce->generate < 0 ? produce_lines(produce) : produce_numbers(produce);
    while (karst_flush(karst, PRODUCE_LOOK_MS) != KARST_OK) { /* ends: delivery.timeout.ms */
        produce_poll(produce, 0);
        cli_tell_wait(&produce->cli);
    }
    cli_progress_end(&produce->progress);
    if (code == CLI_DONE && !produce->whole)
        code = cli_interrupted();
    int reported = produce_report(produce);
    if (cli_output_end() != CLI_DONE || produce->failed > 0)
        code = CLI_FAILED;
    return code == CLI_DONE ? reported : code;
}

static int produce_run(const struct cli_command *command, int argc, char **argv)
{
    struct produce produce = {.partition = KARST_PARTITION_ANY, .generate = -1};
    int option, code = CLI_DONE;
    cli_init(&produce.cli, command);
    while ((option = cli_getopt(&produce.cli, argc, argv, produce_options, &code)) >= 0) {
        code = produce_option(&produce, option);
        if (code != CLI_DONE)
            return code;
    }
    if (option == -2)
        return code;
    if (!cli_arguments(&produce.cli, argc, 1, 2))
        return CLI_USAGE;
    produce.topic = argv[optind];
    produce.path = optind + 1 < argc ? argv[optind + 1] : NULL;
    if (produce.path != NULL && produce.generate >= 0)
        return cli_usage(&produce.cli, "--generate makes its records itself: give no file");
    if (produce.generate < 0 && (produce.rate != 0 || produce.size != 0))
        return cli_usage(&produce.cli, "--rate and --size are for records that --generate makes");
    if (produce.generate >= 0 && produce.separator != NULL)
        return cli_usage(&produce.cli, "--key-separator is for lines, not for --generate");
    produce.fd = produce.path == NULL ? STDIN_FILENO : open(produce.path, O_RDONLY | O_CLOEXEC);
    if (produce.fd < 0) {
        fprintf(stderr, "karst: %s: %s\n", produce.path, strerror(errno));
        return CLI_FAILED;
    }
    if (produce.cli.timeout_given) { /* who says how long, means the records, too */
        snprintf(produce.delivery, sizeof(produce.delivery), "delivery.timeout.ms=%d",
                 produce.cli.timeout_ms);
        cli_set(&produce.cli, produce.delivery);
    }
    code = cli_connect(&produce.cli);
    if (code == CLI_DONE) {
        code = produce_all(&produce);
        cli_close(&produce.cli);
    }
    if (produce.path != NULL)
        close(produce.fd);
    return code;
}

const struct cli_command produce_command = {
    .name = "produce",
    .arguments = "TOPIC [FILE] [OPTION...]",
    .summary = "Sends lines of a file or of standard input, each as a record.",
    .options =
        "  --partition N                into this one (else by key, or spread)\n"
        "  --key-separator TEXT         what stands before it is the key\n"
        "  --acks all|1|0               (all)\n"
        "  --verifiable                 a JSON line for each acknowledged record\n"
        "  --generate N                 N numbered records instead of lines (0: without end)\n"
        "  --rate N                     of generated records, in a second (as fast as it goes)\n"
        "  --size BYTES                 of a generated record (its number's digits)\n",
    .example = "karst produce orders orders.txt --key-separator ';'",
    .run = produce_run,
};
