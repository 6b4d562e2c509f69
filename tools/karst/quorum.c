/* karst quorum describe, add-voter, remove-voter. */
#include <stdio.h>

#include "karst/cli.h"

/* ---- describe ---- */

static int64_t quorum_lag(const struct karst_quorum *quorum,
                          const struct karst_quorum_server *server)
{
    return server->metadata_end < 0 || server->metadata_end > quorum->log_end
               ? -1
               : quorum->log_end - server->metadata_end;
}

static void quorum_number(char *into, size_t size, int64_t number)
{
    if (number < 0)
        snprintf(into, size, "-");
    else
        snprintf(into, size, "%lld", (long long)number);
}

static int quorum_print(const struct karst_quorum *quorum)
{
    static const char *const headings[] = {"NODE", "ADDRESS", "ROLE", "END", "LAG", "DIRECTORY"};
    struct cli_table table;
    if (quorum->leader < 0)
        printf("no leader at present, high watermark %lld, log end %lld\n",
               (long long)quorum->high_watermark, (long long)quorum->log_end);
    else
        printf("leader %d (epoch %d), high watermark %lld, log end %lld\n", quorum->leader,
               quorum->leader_epoch, (long long)quorum->high_watermark, (long long)quorum->log_end);
    if (!quorum->of_leader)
        printf("as far as one broker knows: the leader did not answer\n");
    if (!cli_table_init(&table, headings, ARRAY_LEN(headings), 1 | 1 << 3 | 1 << 4))
        return CLI_FAILED;
    for (size_t i = 0; i < quorum->server_count; i++) {
        const struct karst_quorum_server *server = &quorum->servers[i];
        bool leads = server->node_id == quorum->leader;
        char node[16], address[300], end[24], lag[24];
        snprintf(node, sizeof(node), "%d", server->node_id);
        cli_address(server->host, server->port, address, sizeof(address));
        quorum_number(end, sizeof(end), server->metadata_end);
        quorum_number(lag, sizeof(lag), quorum_lag(quorum, server));
        const char *const cells[] = {node, address, leads ? "leader" : server->role,
                                     end,  lag,     server->directory};
        if (!cli_table_row(&table, cells))
            return CLI_FAILED;
    }
    return cli_table_print(&table);
}

static json_t *quorum_json(const struct karst_quorum *quorum)
{
    json_t *servers = json_array();
    for (size_t i = 0; i < quorum->server_count; i++) {
        const struct karst_quorum_server *server = &quorum->servers[i];
        json_array_append_new(servers, json_pack("{s:i, s:s, s:i, s:s, s:I, s:I, s:s}", "node_id",
                                                 server->node_id, "host", server->host, "port",
                                                 (int)server->port, "role", server->role,
                                                 "metadata_end", (json_int_t)server->metadata_end,
                                                 "lag", (json_int_t)quorum_lag(quorum, server),
                                                 "directory_id", server->directory));
    }
    return json_pack("{s:i, s:i, s:I, s:I, s:b, s:o}", "leader", quorum->leader, "leader_epoch",
                     quorum->leader_epoch, "high_watermark", (json_int_t)quorum->high_watermark,
                     "log_end", (json_int_t)quorum->log_end, "of_leader", quorum->of_leader,
                     "servers", servers);
}

static int quorum_describe_run(const struct cli_command *command, int argc, char **argv)
{
    struct cli cli;
    struct karst_quorum *quorum;
    int code = cli_begin(&cli, command, argc, argv, 0, 0);
    if (code != CLI_GO_ON)
        return code;
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    if (karst_quorum_describe(cli.karst, cli.timeout_ms, &quorum) != KARST_OK) {
        code = cli_fail(&cli, "quorum");
    } else {
        code = cli.json ? cli_print_json(quorum_json(quorum)) : quorum_print(quorum);
        karst_quorum_free(quorum);
    }
    cli_close(&cli);
    return code;
}

const struct cli_command quorum_describe_command = {
    .group = "quorum",
    .name = "describe",
    .arguments = "",
    .summary = "Shows the voters of the metadata quorum, and how far each is.",
    .example = "karst quorum describe",
    .run = quorum_describe_run,
};

/* ---- changes ---- */

typedef int (*quorum_change)(struct karst *karst, int32_t node_id, int timeout_ms);

static int quorum_change_run(const struct cli_command *command, int argc, char **argv,
                             quorum_change change, const char *done)
{
    struct cli cli;
    int64_t node;
    int code = cli_begin(&cli, command, argc, argv, 1, 1);
    if (code != CLI_GO_ON)
        return code;
    if (!cli_number(argv[optind], 0, INT32_MAX - 1, &node))
        return cli_usage(&cli, "\"%s\" is no node id", argv[optind]);
    code = cli_connect(&cli);
    if (code != CLI_DONE)
        return code;
    if (change(cli.karst, (int32_t)node, cli.timeout_ms) != KARST_OK)
        code = cli_fail(&cli, argv[optind]);
    else if (cli.json)
        code = cli_print_json(json_pack("{s:I}", done, (json_int_t)node));
    else
        printf("%s voter %lld\n", done, (long long)node);
    cli_close(&cli);
    if (code == CLI_DONE)
        code = cli_output_end();
    return code;
}

static int quorum_add_voter_run(const struct cli_command *command, int argc, char **argv)
{
    return quorum_change_run(command, argc, argv, karst_quorum_add_voter, "added");
}

static int quorum_remove_voter_run(const struct cli_command *command, int argc, char **argv)
{
    return quorum_change_run(command, argc, argv, karst_quorum_remove_voter, "removed");
}

const struct cli_command quorum_add_voter_command = {
    .group = "quorum",
    .name = "add-voter",
    .arguments = "NODE",
    .summary = "Makes an active broker a voter of the metadata quorum.",
    .example = "karst quorum add-voter 4",
    .run = quorum_add_voter_run,
};

const struct cli_command quorum_remove_voter_command = {
    .group = "quorum",
    .name = "remove-voter",
    .arguments = "NODE",
    .summary = "Makes a voter an observer, or strikes out one that is gone for good.",
    .example = "karst quorum remove-voter 1",
    .run = quorum_remove_voter_run,
};
