/* karst cluster status. */
#include <stdio.h>

#include "karst/cli.h"

static const char *cluster_role(const struct karst_cluster *cluster,
                                const struct karst_broker *broker)
{
    if (broker->node_id == cluster->controller)
        return "controller";
    return broker->voter ? "voter" : "observer";
}

static int cluster_print(const struct karst_cluster *cluster)
{
    static const char *const headings[] = {"NODE", "ADDRESS", "STATE", "ROLE", "RACK"};
    struct cli_table table;
    if (cluster->controller < 0)
        printf("cluster %s, no controller at present\n", cluster->id);
    else
        printf("cluster %s, controller %d (epoch %d)\n", cluster->id, cluster->controller,
               cluster->controller_epoch);
    printf("%u topics, %u partitions, %u under-replicated, %u without a leader\n", cluster->topics,
           cluster->partitions, cluster->under_replicated, cluster->offline);
    if (!cli_table_init(&table, headings, ARRAY_LEN(headings), 1))
        return CLI_FAILED;
    for (size_t i = 0; i < cluster->broker_count; i++) {
        const struct karst_broker *broker = &cluster->brokers[i];
        char node[16], address[300];
        snprintf(node, sizeof(node), "%d", broker->node_id);
        cli_address(broker->host, broker->port, address, sizeof(address));
        const char *const cells[] = {node, address, broker->state, cluster_role(cluster, broker),
                                     broker->rack == NULL ? "" : broker->rack};
        if (!cli_table_row(&table, cells))
            return CLI_FAILED;
    }
    return cli_table_print(&table);
}

static json_t *cluster_json(const struct karst_cluster *cluster)
{
    json_t *brokers = json_array();
    for (size_t i = 0; i < cluster->broker_count; i++) {
        const struct karst_broker *broker = &cluster->brokers[i];
        json_array_append_new(brokers, json_pack("{s:i, s:s, s:i, s:s, s:b, s:s?}", "node_id",
                                                 broker->node_id, "host", broker->host, "port",
                                                 (int)broker->port, "state", broker->state, "voter",
                                                 broker->voter, "rack", broker->rack));
    }
    return json_pack(
        "{s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:o}", "cluster_id", cluster->id, "controller",
        cluster->controller, "controller_epoch", cluster->controller_epoch, "metadata_offset",
        (json_int_t)cluster->metadata_offset, "topics", (json_int_t)cluster->topics, "partitions",
        (json_int_t)cluster->partitions, "under_replicated", (json_int_t)cluster->under_replicated,
        "offline", (json_int_t)cluster->offline, "brokers", brokers);
}

static int cluster_status_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    struct karst_cluster *cluster;
    int code = cli_begin(&cli, command, argc, argv, 0, 0);
    if (code != CLI_GO_ON)
        return code;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    if (karst_cluster_describe(cli.karst, cli.timeout_ms, &cluster) != KARST_OK) {
        code = cli_fail(&cli, "cluster");
    } else {
        code = cli.json ? cli_print_json(cluster_json(cluster)) : cluster_print(cluster);
        karst_cluster_free(cluster);
    }
    cli_close(&cli);
    return code;
}

const struct cli_command cluster_status_command = {
    .group = "cluster",
    .name = "status",
    .arguments = "",
    .summary = "Shows brokers, controller, voters and observers, and partitions in trouble.",
    .example = "karst cluster status --json",
    .run = cluster_status_run,
};
