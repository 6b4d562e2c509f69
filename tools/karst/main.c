/* karst - the command line of Karst. */
#include <stdio.h>
#include <string.h>

#include "base/standard_files.h"
#include "karst/cli.h"

static const struct cli_command *const commands[] = {
    &topic_create_command,        &topic_list_command,      &topic_describe_command,
    &topic_delete_command,        &produce_command,         &consume_command,
    &cluster_status_command,      &quorum_describe_command, &quorum_add_voter_command,
    &quorum_remove_voter_command, &bench_produce_command,   &bench_consume_command,
};

static void main_help(FILE *to, const char *group)
{
    fprintf(to, "usage: karst COMMAND [OPTION...]\n       karst --version | --help\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const struct cli_command *command = commands[i];
        if (group != NULL && (command->group == NULL || strcmp(command->group, group) != 0))
            continue;
        char name[64];
        snprintf(name, sizeof(name), "%s%s%s", command->group == NULL ? "" : command->group,
                 command->group == NULL ? "" : " ", command->name);
        fprintf(to, "  %-20s %s\n", name, command->summary);
    }
    fprintf(to, "\nBrokers are named by --bootstrap HOST:PORT[,...] or in KARST_BOOTSTRAP.\n"
                "\"karst COMMAND --help\" tells more of one.\n");
}

static bool main_is_group(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (commands[i]->group != NULL && strcmp(commands[i]->group, name) == 0)
            return true;
    }
    return false;
}

static bool main_is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

int main(int argc, char **argv)
{
    if (!standard_files_open())
        return CLI_FAILED; /* and nowhere to say why */
    if (argc < 2) {
        main_help(stderr, NULL);
        return CLI_USAGE;
    }
    if (main_is_help(argv[1])) {
        main_help(stdout, NULL);
        return cli_output_end();
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("karst " KARST_VERSION);
        return cli_output_end();
    }
    bool grouped = main_is_group(argv[1]);
    const char *group = grouped ? argv[1] : NULL;
    const char *name = grouped ? (argc > 2 ? argv[2] : NULL) : argv[1];
    if (grouped && name != NULL && main_is_help(name)) {
        main_help(stdout, group);
        return cli_output_end();
    }
    int skip = grouped ? 2 : 1;
    for (size_t i = 0; name != NULL && i < ARRAY_LEN(commands); i++) {
        const struct cli_command *command = commands[i];
        bool same_group = (command->group == NULL) == (group == NULL) &&
                          (group == NULL || strcmp(command->group, group) == 0);
        if (same_group && strcmp(command->name, name) == 0)
            return command->run(command, argc - skip, argv + skip);
    }
    if (name == NULL)
        fprintf(stderr, "karst: \"%s\" needs one of these:\n", group);
    else
        fprintf(stderr, "karst: there is no command \"%s%s%s\"\n", grouped ? group : "",
                grouped ? " " : "", name);
    main_help(stderr, group);
    return CLI_USAGE;
}
