#include "karst/cli.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPTION_BOOTSTRAP = 1, OPTION_JSON, OPTION_TIMEOUT, OPTION_SETTING, OPTION_HELP };

static const struct option common_options[] = {
    {"bootstrap", required_argument, NULL, OPTION_BOOTSTRAP},
    {"json", no_argument, NULL, OPTION_JSON},
    {"timeout-ms", required_argument, NULL, OPTION_TIMEOUT},
    {"client-config", required_argument, NULL, OPTION_SETTING},
    {"help", no_argument, NULL, OPTION_HELP},
};

static const char common_text[] =
    "  --bootstrap HOST:PORT[,...]  brokers to begin with (else KARST_BOOTSTRAP)\n"
    "  --json                       results as JSON\n"
    "  --timeout-ms N               how long to wait for the cluster (15000)\n"
    "  --client-config NAME=VALUE   a setting of libkarst, as in karst.h; may be repeated\n"
    "  --help                       this text\n";

static volatile sig_atomic_t stop_asked;

static void cli_on_signal(int number)
{
    (void)number; /* both mean the same */
    stop_asked = 1;
}

void cli_catch_signals(void)
{
    /* Without SA_RESTART: a read of standard input ends, too. A second signal ends the program:
     * what is still to be waited for may take minutes. */
    struct sigaction action = {.sa_handler = cli_on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_stopped(void)
{
    return stop_asked != 0;
}

void cli_tell_wait(struct cli *cli)
{
    if (!cli_stopped() || cli->told_wait)
        return;
    cli->told_wait = true;
    fprintf(stderr,
            "karst: waiting for %lld records to be acknowledged; a second signal gives them up\n",
            (long long)karst_outstanding(cli->karst));
}

int cli_interrupted(void)
{
    fprintf(stderr, "karst: stopped by a signal before all was done\n");
    return CLI_FAILED;
}

void cli_init(struct cli *cli, const struct cli_command *command)
{
    *cli = (struct cli){
        .command = command,
        .bootstrap = getenv("KARST_BOOTSTRAP"),
        .timeout_ms = 15000,
    };
}

static void cli_name(const struct cli_command *command, char *into, size_t size)
{
    snprintf(into, size, "karst %s%s%s", command->group == NULL ? "" : command->group,
             command->group == NULL ? "" : " ", command->name);
}

static void cli_help(const struct cli *cli)
{
    const struct cli_command *command = cli->command;
    char name[64];
    cli_name(command, name, sizeof(name));
    printf("usage: %s%s%s\n\n%s\n\n", name, *command->arguments == '\0' ? "" : " ",
           command->arguments, command->summary);
    if (command->options != NULL)
        printf("%s", command->options);
    printf("%s\nexample: %s\n", common_text, command->example);
}

int cli_usage(const struct cli *cli, const char *format, ...)
{
    char name[64];
    va_list arguments;
    cli_name(cli->command, name, sizeof(name));
    fprintf(stderr, "%s: ", name);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fprintf(stderr, "\nusage: %s%s%s (more by --help)\n", name,
            *cli->command->arguments == '\0' ? "" : " ", cli->command->arguments);
    return CLI_USAGE;
}

static int cli_take_common(struct cli *cli, int option, int *ret_exit)
{
    int64_t number;
    switch (option) {
    case OPTION_BOOTSTRAP:
        cli->bootstrap = optarg;
        return 0;
    case OPTION_JSON:
        cli->json = true;
        return 0;
    case OPTION_TIMEOUT:
        if (!cli_number(optarg, 1, INT32_MAX, &number)) {
            *ret_exit = cli_usage(cli, "--timeout-ms %s is not a number of milliseconds", optarg);
            return -2;
        }
        cli->timeout_ms = (int)number;
        cli->timeout_given = true;
        return 0;
    case OPTION_SETTING:
        if (strchr(optarg, '=') == NULL || cli->setting_count == CLI_CONFIGS_MAX) {
            *ret_exit = cli_usage(cli, "--client-config %s is not NAME=VALUE", optarg);
            return -2;
        }
        cli->settings[cli->setting_count++] = optarg;
        return 0;
    case OPTION_HELP:
        cli_help(cli);
        *ret_exit = cli_output_end();
        return -2;
    default:
        return option;
    }
}

int cli_getopt(struct cli *cli, int argc, char **argv, const struct option *longs, int *ret_exit)
{
    struct option all[CLI_OWN_MAX + ARRAY_LEN(common_options) + 1] = {0};
    size_t count = 0;
    for (; longs != NULL && longs[count].name != NULL; count++) {
        ASSERT(count < CLI_OWN_MAX);
        all[count] = longs[count];
    }
    memcpy(&all[count], common_options, sizeof(common_options));
    opterr = 0;
    for (;;) {
        int option = getopt_long(argc, argv, ":h", all, NULL);
        if (option == -1)
            return -1;
        if (option == 'h')
            option = OPTION_HELP;
        if (option == ':' || option == '?') {
            *ret_exit = cli_usage(cli, option == ':' ? "%s needs a value" : "unknown option %s",
                                  argv[optind - 1]);
            return -2;
        }
        option = cli_take_common(cli, option, ret_exit);
        if (option != 0)
            return option;
    }
}

bool cli_arguments(const struct cli *cli, int argc, int least, int most)
{
    int count = argc - optind;
    if (count >= least && count <= most)
        return true;
    (void)cli_usage(cli, count < least ? "an argument is missing" : "too many arguments");
    return false;
}

int cli_begin(struct cli *cli, const struct cli_command *command, int argc, char **argv, int least,
              int most)
{
    int code = CLI_DONE;
    cli_init(cli, command);
    if (cli_getopt(cli, argc, argv, NULL, &code) == -2)
        return code;
    return cli_arguments(cli, argc, least, most) ? CLI_GO_ON : CLI_USAGE;
}

bool cli_number(const char *text, int64_t least, int64_t most, int64_t *ret_number)
{
    char *end;
    errno = 0;
    long long number = strtoll(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || number < least || number > most)
        return false;
    *ret_number = number;
    return true;
}

void cli_set(struct cli *cli, const char *setting)
{
    /* Before those of the command line, which are to win. */
    ASSERT(cli->setting_count < CLI_CONFIGS_MAX);
    memmove(&cli->settings[1], &cli->settings[0], cli->setting_count * sizeof(cli->settings[0]));
    cli->settings[0] = setting;
    cli->setting_count++;
}

int cli_connect(struct cli *cli)
{
    char why[512];
    if (cli->bootstrap == NULL || cli->bootstrap[0] == '\0')
        return cli_usage(cli, "no broker is named: give --bootstrap HOST:PORT or set "
                              "KARST_BOOTSTRAP");
    struct karst_config *config = karst_config_new();
    if (config == NULL) {
        fprintf(stderr, "karst: %s\n", karst_err_sentence(KARST_ERR_NO_MEMORY));
        return CLI_FAILED;
    }
    int err = karst_config_set(config, "bootstrap.servers", cli->bootstrap, why, sizeof(why));
    for (size_t i = 0; err == KARST_OK && i < cli->setting_count; i++) {
        char name[64];
        const char *equals = strchr(cli->settings[i], '=');
        snprintf(name, sizeof(name), "%.*s", (int)(equals - cli->settings[i]), cli->settings[i]);
        err = karst_config_set(config, name, equals + 1, why, sizeof(why));
    }
    if (err != KARST_OK) {
        karst_config_free(config);
        return cli_usage(cli, "%s", why);
    }
    err = karst_new(config, &cli->karst, why, sizeof(why));
    karst_config_free(config);
    if (err == KARST_OK)
        return CLI_DONE;
    fprintf(stderr, "karst: %s\n", why);
    return err == KARST_ERR_INVALID ? CLI_USAGE : CLI_FAILED;
}

void cli_close(struct cli *cli)
{
    karst_close(cli->karst, 0);
    cli->karst = NULL;
}

int cli_fail(const struct cli *cli, const char *what)
{
    fprintf(stderr, "karst: %s: %s\n", what, karst_error(cli->karst));
    return CLI_FAILED;
}
