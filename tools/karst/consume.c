/* karst consume: the records of a topic to standard output. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "karst/cli.h"

enum {
    CONSUME_BEGINNING = CLI_OWN,
    CONSUME_OFFSET,
    CONSUME_PARTITION,
    CONSUME_MAX,
    CONSUME_EXIT,
    CONSUME_SEPARATOR,
    CONSUME_VERIFIABLE,

    CONSUME_RECORDS = 1024,
    CONSUME_LOOK_MS = 100,
};

static const struct option consume_options[] = {
    {"from-beginning", no_argument, NULL, CONSUME_BEGINNING},
    {"offset", required_argument, NULL, CONSUME_OFFSET},
    {"partition", required_argument, NULL, CONSUME_PARTITION},
    {"max-messages", required_argument, NULL, CONSUME_MAX},
    {"exit-at-end", no_argument, NULL, CONSUME_EXIT},
    {"key-separator", required_argument, NULL, CONSUME_SEPARATOR},
    {"verifiable", no_argument, NULL, CONSUME_VERIFIABLE},
    {0},
};

struct consume {
    struct cli cli;
    const char *topic;
    int64_t offset;
    int64_t partition; /* -1: all */
    int64_t max;       /* -1: no limit */
    bool exit_at_end;
    const char *separator; /* NULL: keys are not shown */
    bool verifiable;
    bool show_progress; /* not between the records, on the same terminal */
    int32_t partition_count;
    int64_t *ends; /* exit_at_end: of each partition, when we began */
    struct cli_progress progress;
};

/* ---- a record ---- */

/* The number at the start of a value, as karst produce --generate writes it; -1: none. */
static int64_t consume_sequence(const struct karst_record *record)
{
    const char *value = record->value;
    int64_t sequence = 0;
    size_t digits = 0;
    for (; digits < record->value_bytes && digits < 18; digits++) {
        if (value[digits] < '0' || value[digits] > '9')
            break;
        sequence = sequence * 10 + (value[digits] - '0');
    }
    return digits == 0 ? -1 : sequence;
}

static json_t *consume_text(const void *text, size_t bytes)
{
    if (text == NULL)
        return json_null();
    json_t *value = json_stringn(text, bytes);
    if (value != NULL)
        return value;
    /* Not UTF-8: each byte as a letter, so that nothing is lost. */
    char *utf8 = malloc(2 * bytes + 1);
    size_t used = 0;
    for (size_t i = 0; utf8 != NULL && i < bytes; i++) {
        uint8_t byte = ((const uint8_t *)text)[i];
        if (byte >= 0x80) {
            utf8[used++] = (char)(0xc0 | byte >> 6);
            byte = 0x80 | (byte & 0x3f);
        }
        utf8[used++] = (char)byte;
    }
    value = utf8 == NULL ? NULL : json_stringn(utf8, used);
    free(utf8);
    return value;
}

static void consume_show_json(const struct karst_record *record)
{
    json_t *object =
        json_pack("{s:i, s:I, s:I, s:o, s:o}", "partition", record->partition, "offset",
                  (json_int_t)record->offset, "timestamp", (json_int_t)record->timestamp_ms, "key",
                  consume_text(record->key, record->key_bytes), "value",
                  consume_text(record->value, record->value_bytes));
    if (object != NULL)
        json_dumpf(object, stdout, JSON_COMPACT);
    json_decref(object);
    putchar('\n');
}

static void consume_show(const struct consume *consume, const struct karst_record *record)
{
    if (consume->verifiable) {
        printf("{\"partition\":%d,\"offset\":%" PRId64 ",\"sequence\":%" PRId64 ",\"ns\":%" PRIu64
               "}\n",
               record->partition, record->offset, consume_sequence(record), cli_now_ns());
        return;
    }
    if (consume->cli.json) {
        consume_show_json(record);
        return;
    }
    if (consume->separator != NULL) {
        if (record->key_bytes > 0)
            fwrite(record->key, 1, record->key_bytes, stdout);
        fputs(consume->separator, stdout);
    }
    if (record->value_bytes > 0)
        fwrite(record->value, 1, record->value_bytes, stdout);
    putchar('\n');
}

/* ---- all of them ---- */

static int consume_assign(struct consume *consume)
{
    struct karst *karst = consume->cli.karst;
    consume->partition_count =
        karst_partition_count(karst, consume->topic, consume->cli.timeout_ms);
    if (consume->partition_count <= 0) {
        fprintf(stderr, "karst: %s\n", karst_error(karst));
        return CLI_FAILED;
    }
    if (consume->partition >= consume->partition_count) {
        fprintf(stderr, "karst: topic %s has partitions 0 to %d, not %" PRId64 "\n", consume->topic,
                consume->partition_count - 1, consume->partition);
        return CLI_FAILED;
    }
    consume->ends = calloc((size_t)consume->partition_count, sizeof(int64_t));
    if (consume->ends == NULL) {
        fprintf(stderr, "karst: %s\n", karst_err_sentence(KARST_ERR_NO_MEMORY));
        return CLI_FAILED;
    }
    for (int32_t i = 0; i < consume->partition_count; i++) {
        int64_t first;
        if (consume->partition >= 0 && consume->partition != i)
            continue;
        if (consume->exit_at_end &&
            karst_offsets(karst, consume->topic, i, &first, &consume->ends[i],
                          consume->cli.timeout_ms) != KARST_OK)
            return cli_fail(&consume->cli, consume->topic);
        if (consume->partition >= 0 &&
            karst_assign(karst, consume->topic, i, consume->offset) != KARST_OK)
            return cli_fail(&consume->cli, consume->topic);
    }
    if (consume->partition < 0 &&
        karst_subscribe(karst, consume->topic, consume->offset) != KARST_OK)
        return cli_fail(&consume->cli, consume->topic);
    return CLI_DONE;
}

static bool consume_at_end(const struct consume *consume)
{
    for (int32_t i = 0; i < consume->partition_count; i++) {
        if (consume->partition >= 0 && consume->partition != i)
            continue;
        if (karst_position(consume->cli.karst, consume->topic, i) < consume->ends[i])
            return false;
    }
    return true;
}

static int consume_records(struct consume *consume)
{
    static struct karst_record records[CONSUME_RECORDS];
    uint64_t left = consume->max < 0 ? UINT64_MAX : (uint64_t)consume->max;
    while (left > 0 && !cli_stopped() && !(consume->exit_at_end && consume_at_end(consume))) {
        int max = left < CONSUME_RECORDS ? (int)left : CONSUME_RECORDS;
        int count = karst_consume(consume->cli.karst, records, max, CONSUME_LOOK_MS);
        if (count < 0) {
            fprintf(stderr, "karst: %s\n", karst_error(consume->cli.karst));
            return CLI_FAILED;
        }
        for (int i = 0; i < count; i++) {
            consume_show(consume, &records[i]);
            consume->progress.bytes += records[i].key_bytes + records[i].value_bytes;
        }
        consume->progress.records += (uint64_t)count;
        left -= (uint64_t)count;
        /* Bulk is written in large pieces; who follows sees each record when it comes. */
        if ((count < CONSUME_RECORDS && fflush(stdout) != 0) || ferror(stdout))
            return cli_output_end();
        if (consume->show_progress)
            cli_progress_show(&consume->progress);
    }
    /* A signal is the way to end one that only follows; of what has an end it is an interruption.
     */
    bool endless = consume->max < 0 && !consume->exit_at_end;
    bool done = left == 0 || (consume->exit_at_end && consume_at_end(consume));
    return endless || done ? CLI_DONE : cli_interrupted();
}

static int consume_option(struct consume *consume, int option)
{
    struct cli *cli = &consume->cli;
    switch (option) {
    case CONSUME_BEGINNING:
        if (consume->offset >= 0)
            return cli_usage(cli, "--from-beginning and --offset exclude each other");
        consume->offset = KARST_OFFSET_EARLIEST;
        return CLI_DONE;
    case CONSUME_OFFSET:
        if (consume->offset == KARST_OFFSET_EARLIEST)
            return cli_usage(cli, "--from-beginning and --offset exclude each other");
        if (!cli_number(optarg, 0, INT64_MAX, &consume->offset))
            return cli_usage(cli, "--offset %s is not a number from 0", optarg);
        return CLI_DONE;
    case CONSUME_PARTITION:
        if (!cli_number(optarg, 0, INT32_MAX, &consume->partition))
            return cli_usage(cli, "--partition %s is not a number from 0", optarg);
        return CLI_DONE;
    case CONSUME_MAX:
        if (!cli_number(optarg, 0, INT64_MAX, &consume->max))
            return cli_usage(cli, "--max-messages %s is not a number from 0", optarg);
        return CLI_DONE;
    case CONSUME_EXIT:
        consume->exit_at_end = true;
        return CLI_DONE;
    case CONSUME_SEPARATOR:
        consume->separator = optarg;
        return CLI_DONE;
    default:
        consume->verifiable = true;
        return CLI_DONE;
    }
}

static int consume_run(const struct cli_command *command, int argc, char **argv)
{
    struct consume consume = {.partition = -1, .offset = KARST_OFFSET_LATEST, .max = -1};
    int option, code = CLI_DONE;
    cli_init(&consume.cli, command);
    cli_set(&consume.cli, "auto.offset.reset=none");
    while ((option = cli_getopt(&consume.cli, argc, argv, consume_options, &code)) >= 0) {
        code = consume_option(&consume, option);
        if (code != CLI_DONE)
            return code;
    }
    if (option == -2)
        return code;
    if (!cli_arguments(&consume.cli, argc, 1, 1))
        return CLI_USAGE;
    consume.topic = argv[optind];
    consume.show_progress = isatty(STDOUT_FILENO) != 1;
    if (consume.verifiable && (consume.cli.json || consume.separator != NULL))
        return cli_usage(&consume.cli, "--verifiable has a form of its own: neither --json nor "
                                       "--key-separator goes with it");
    code = cli_connect(&consume.cli);
    if (code != CLI_DONE)
        return code;
    code = consume_assign(&consume);
    if (code == CLI_DONE) {
        cli_catch_signals();
        cli_progress_start(&consume.progress);
        code = consume_records(&consume);
        cli_progress_end(&consume.progress);
    }
    free(consume.ends);
    cli_close(&consume.cli);
    return code;
}

const struct cli_command consume_command = {
    .name = "consume",
    .arguments = "TOPIC [OPTION...]",
    .summary = "Writes the values of records, one a line, as they come.",
    .options = "  --from-beginning             from the first record (else only new ones)\n"
               "  --offset N                   from this offset\n"
               "  --partition N                only this one\n"
               "  --max-messages N             then end\n"
               "  --exit-at-end                end where the topic ended when we began\n"
               "  --key-separator TEXT         the key and TEXT before each value\n"
               "  --verifiable                 a JSON line with offset and number instead\n",
    .example = "karst consume orders --from-beginning --exit-at-end",
    .run = consume_run,
};
