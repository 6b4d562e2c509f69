/* karst topic create, list, describe, delete. */
#include <stdio.h>
#include <string.h>

#include "karst/cli.h"

enum { LIST_TEXT_SIZE = 256 };

/* ---- create ---- */

enum { CREATE_PARTITIONS = CLI_OWN, CREATE_REPLICATION, CREATE_CONFIG };

static const struct option create_options[] = {
    {"partitions", required_argument, NULL, CREATE_PARTITIONS},
    {"replication-factor", required_argument, NULL, CREATE_REPLICATION},
    {"config", required_argument, NULL, CREATE_CONFIG},
    {0},
};

struct topic_create {
    struct karst_topic_spec spec;
    struct karst_setting configs[CLI_CONFIGS_MAX];
};

/* NAME=VALUE, in place. */
static bool topic_split_config(struct topic_create *create, char *text)
{
    char *equals = strchr(text, '=');
    if (equals == NULL || equals == text || create->spec.config_count == CLI_CONFIGS_MAX)
        return false;
    *equals = '\0';
    create->configs[create->spec.config_count++] = (struct karst_setting){text, equals + 1};
    return true;
}

/* One option; CLI_DONE, or CLI_USAGE when it was told to be wrong. */
static int topic_create_option(struct cli *cli, struct topic_create *create, int option)
{
    int64_t number;
    switch (option) {
    case CREATE_PARTITIONS:
        if (!cli_number(optarg, 1, INT32_MAX, &number))
            return cli_usage(cli, "--partitions %s is not a number from 1 to 2147483647", optarg);
        create->spec.partitions = (int32_t)number;
        return CLI_DONE;
    case CREATE_REPLICATION:
        if (!cli_number(optarg, 1, INT16_MAX, &number))
            return cli_usage(cli, "--replication-factor %s is not a number from 1 to 32767",
                             optarg);
        create->spec.replication_factor = (int32_t)number;
        return CLI_DONE;
    default:
        if (!topic_split_config(create, optarg))
            return cli_usage(cli, "--config %s is not NAME=VALUE", optarg);
        return CLI_DONE;
    }
}

static int topic_create_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    struct topic_create create = {.spec = {.partitions = -1, .replication_factor = -1}};
    int option, code = CLI_DONE;
    cli_init(&cli, command);
    while ((option = cli_getopt(&cli, argc, argv, create_options, &code)) >= 0) {
        code = topic_create_option(&cli, &create, option);
        if (code != CLI_DONE)
            return code;
    }
    if (option == -2)
        return code;
    if (!cli_arguments(&cli, argc, 1, 1))
        return CLI_USAGE;
    create.spec.name = argv[optind];
    create.spec.configs = create.configs;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    if (karst_topic_create(cli.karst, &create.spec, cli.timeout_ms) != KARST_OK)
        code = cli_fail(&cli, create.spec.name);
    else if (cli.json)
        code = cli_print_json(json_pack("{s:s}", "created", create.spec.name));
    else
        printf("created topic %s\n", create.spec.name);
    cli_close(&cli);
    if (code == CLI_DONE)
        code = cli_output_end();
    return code;
}

const struct cli_command topic_create_command = {
    .group = "topic",
    .name = "create",
    .arguments = "NAME [--partitions N] [--replication-factor R] [--config K=V]...",
    .summary = "Makes a topic.",
    .options = "  --partitions N               (the brokers' num.partitions)\n"
               "  --replication-factor R       (the brokers' default.replication.factor)\n"
               "  --config NAME=VALUE          a setting of the topic; may be repeated\n",
    .example = "karst topic create orders --partitions 6 --replication-factor 3 "
               "--config min.insync.replicas=2",
    .run = topic_create_run,
};

/* ---- delete ---- */

static int topic_delete_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    int code = cli_begin(&cli, command, argc, argv, 1, 1);
    if (code != CLI_GO_ON)
        return code;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    const char *name = argv[optind];
    if (karst_topic_delete(cli.karst, name, cli.timeout_ms) != KARST_OK)
        code = cli_fail(&cli, name);
    else if (cli.json)
        code = cli_print_json(json_pack("{s:s}", "deleted", name));
    else
        printf("deleted topic %s\n", name);
    cli_close(&cli);
    if (code == CLI_DONE)
        code = cli_output_end();
    return code;
}

const struct cli_command topic_delete_command = {
    .group = "topic",
    .name = "delete",
    .arguments = "NAME",
    .summary = "Deletes a topic and all its records.",
    .example = "karst topic delete orders",
    .run = topic_delete_run,
};

/* ---- list, describe ---- */

static const char *topic_list_text(const int32_t *ids, size_t count, char *into, size_t size)
{
    size_t used = 0;
    into[0] = '\0';
    for (size_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(into + used, size - used, i == 0 ? "%d" : ",%d", ids[i]);
    return into;
}

static json_t *topic_ids_json(const int32_t *ids, size_t count)
{
    json_t *array = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static size_t topic_replicas(const struct karst_topic *topic)
{
    return topic->partition_count == 0 ? 0 : topic->partitions[0].replica_count;
}

static json_t *topic_json(const struct karst_topic *topic)
{
    json_t *partitions = json_array(), *configs = json_object();
    for (size_t i = 0; i < topic->partition_count; i++) {
        const struct karst_partition *p = &topic->partitions[i];
        json_array_append_new(partitions,
                              json_pack("{s:i, s:i, s:i, s:o, s:o}", "partition", p->index,
                                        "leader", p->leader, "leader_epoch", p->leader_epoch,
                                        "replicas", topic_ids_json(p->replicas, p->replica_count),
                                        "isr", topic_ids_json(p->isr, p->isr_count)));
    }
    for (size_t i = 0; i < topic->config_count; i++)
        json_object_set_new(configs, topic->configs[i].name, json_string(topic->configs[i].value));
    return json_pack("{s:s, s:s, s:i, s:o, s:o}", "topic", topic->name, "id", topic->id,
                     "replication_factor", (int)topic_replicas(topic), "configs", configs,
                     "partitions", partitions);
}

static int topic_list_print(const struct karst_topics *topics)
{
    static const char *const headings[] = {"TOPIC", "PARTITIONS", "REPLICATION", "ID"};
    struct cli_table table;
    if (!cli_table_init(&table, headings, ARRAY_LEN(headings), 6))
        return CLI_FAILED;
    for (size_t i = 0; i < topics->count; i++) {
        const struct karst_topic *topic = &topics->topics[i];
        char partitions[24], replicas[24];
        snprintf(partitions, sizeof(partitions), "%zu", topic->partition_count);
        snprintf(replicas, sizeof(replicas), "%zu", topic_replicas(topic));
        const char *const cells[] = {topic->name, partitions, replicas, topic->id};
        if (!cli_table_row(&table, cells))
            return CLI_FAILED;
    }
    return cli_table_print(&table);
}

static int topic_list_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    struct karst_topics *topics;
    int code = cli_begin(&cli, command, argc, argv, 0, 0);
    if (code != CLI_GO_ON)
        return code;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    if (karst_topics_describe(cli.karst, NULL, 0, cli.timeout_ms, &topics) != KARST_OK) {
        code = cli_fail(&cli, "topics");
        cli_close(&cli);
        return code;
    }
    if (cli.json) {
        json_t *array = json_array();
        for (size_t i = 0; i < topics->count; i++) {
            const struct karst_topic *topic = &topics->topics[i];
            json_array_append_new(array,
                                  json_pack("{s:s, s:s, s:i, s:i}", "topic", topic->name, "id",
                                            topic->id, "partitions", (int)topic->partition_count,
                                            "replication_factor", (int)topic_replicas(topic)));
        }
        code = cli_print_json(array);
    } else {
        code = topic_list_print(topics);
    }
    karst_topics_free(topics);
    cli_close(&cli);
    return code;
}

const struct cli_command topic_list_command = {
    .group = "topic",
    .name = "list",
    .arguments = "",
    .summary = "Lists the topics.",
    .example = "karst topic list",
    .run = topic_list_run,
};

static bool topic_describe_rows(struct cli_table *table, const struct karst_topic *topic)
{
    for (size_t i = 0; i < topic->partition_count; i++) {
        const struct karst_partition *p = &topic->partitions[i];
        char index[16], leader[16], epoch[16];
        char replicas[LIST_TEXT_SIZE], isr[LIST_TEXT_SIZE];
        snprintf(index, sizeof(index), "%d", p->index);
        snprintf(leader, sizeof(leader), "%d", p->leader);
        snprintf(epoch, sizeof(epoch), "%d", p->leader_epoch);
        const char *const cells[] = {
            topic->name,
            index,
            p->leader < 0 ? "none" : leader,
            epoch,
            topic_list_text(p->replicas, p->replica_count, replicas, sizeof(replicas)),
            topic_list_text(p->isr, p->isr_count, isr, sizeof(isr)),
        };
        if (!cli_table_row(table, cells))
            return false;
    }
    return true;
}

static int topic_describe_print(const struct karst_topics *topics)
{
    static const char *const headings[] = {"TOPIC", "PARTITION", "LEADER",
                                           "EPOCH", "REPLICAS",  "ISR"};
    struct cli_table table;
    if (!cli_table_init(&table, headings, ARRAY_LEN(headings), 0xe))
        return CLI_FAILED;
    for (size_t i = 0; i < topics->count; i++) {
        if (!topic_describe_rows(&table, &topics->topics[i]))
            return CLI_FAILED;
    }
    int code = cli_table_print(&table);
    for (size_t i = 0; i < topics->count; i++) {
        const struct karst_topic *topic = &topics->topics[i];
        for (size_t j = 0; j < topic->config_count; j++)
            printf("%s: %s=%s\n", topic->name, topic->configs[j].name, topic->configs[j].value);
    }
    return code;
}

static int topic_describe_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    struct karst_topics *topics;
    int code = cli_begin(&cli, command, argc, argv, 0, INT16_MAX);
    if (code != CLI_GO_ON)
        return code;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    size_t count = (size_t)(argc - optind);
    const char *const *names = count == 0 ? NULL : (const char *const *)(argv + optind);
    if (karst_topics_describe(cli.karst, names, count, cli.timeout_ms, &topics) != KARST_OK) {
        code = cli_fail(&cli, "topics");
        cli_close(&cli);
        return code;
    }
    json_t *array = json_array();
    int missing = CLI_DONE;
    for (size_t i = 0; i < topics->count; i++) {
        const struct karst_topic *topic = &topics->topics[i];
        if (topic->err == KARST_OK) {
            json_array_append_new(array, topic_json(topic));
            continue;
        }
        fprintf(stderr, "karst: topic %s: %s\n", topic->name, topic->reason);
        missing = CLI_FAILED;
    }
    if (cli.json)
        code = cli_print_json(json_incref(array));
    else if (json_array_size(array) > 0 || missing == CLI_DONE)
        code = topic_describe_print(topics);
    json_decref(array);
    karst_topics_free(topics);
    cli_close(&cli);
    return code == CLI_DONE ? missing : code;
}

const struct cli_command topic_describe_command = {
    .group = "topic",
    .name = "describe",
    .arguments = "[NAME...]",
    .summary =
        "Shows partitions, leaders, replicas and settings of topics (all, when none is named).",
    .example = "karst topic describe orders",
    .run = topic_describe_run,
};
