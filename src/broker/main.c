#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/standard_files.h"
#include "broker/world.h"

static const char usage[] =
    "karstd: the Karst broker\n"
    "\n"
    "usage: karstd CONFIG               run the broker that CONFIG describes\n"
    "       karstd format ...           make its directories, once (karstd format --help)\n"
    "       karstd verify CONFIG        read all logs after a failed sync (karstd verify --help)\n"
    "       karstd recover ...          go on without a lost majority (karstd recover --help)\n"
    "       karstd new-id               print a fresh cluster id\n"
    "       karstd options [--markdown] what CONFIG may say\n"
    "       karstd --version | --help\n"
    "\n"
    "example: karstd /etc/karst/karst.conf\n";

static int options_command(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "--markdown") == 0) {
        options_print_markdown(stdout);
        return 0;
    }
    size_t count;
    const struct option_row *table = options_table(&count);
    for (size_t i = 0; i < count; i++)
        printf("%-52s %s\n%-52s %s\n", table[i].name,
               table[i].fallback == NULL ? "(required)" : table[i].fallback, "", table[i].sentence);
    return 0;
}

/* Large batches come in frames of a MiB and more. malloc would map each anew, and the kernel give
 * it zeroed page by page: a sixth of the CPU that a produced GB costs. */
static void keep_memory_of_frames(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, 4 << 20);
    (void)mallopt(M_TRIM_THRESHOLD, 8 << 20);
}

int main(int argc, char **argv)
{
    if (!standard_files_open())
        return 1; /* and nowhere to say why */
    if (argc < 2) {
        fputs(usage, stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        fputs(usage, stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("karstd " KARST_VERSION);
        return 0;
    }
    if (strcmp(argv[1], "format") == 0)
        return format_main(argc - 1, argv + 1);
    if (strcmp(argv[1], "verify") == 0)
        return verify_main(argc - 1, argv + 1);
    if (strcmp(argv[1], "recover") == 0)
        return recover_main(argc - 1, argv + 1);
    if (strcmp(argv[1], "options") == 0)
        return options_command(argc - 1, argv + 1);
    if (strcmp(argv[1], "new-id") == 0) {
        char text[UUID_TEXT_SIZE];
        struct uuid id = world_random_uuid();
        puts(uuid_text(&id, text));
        return 0;
    }
    if (argv[1][0] == '-' || argc > 2) {
        fprintf(stderr, "karstd: %s; karstd --help tells more\n",
                argc > 2 ? "too many arguments" : "unknown option");
        return 2;
    }
    keep_memory_of_frames();
    return broker_main(argv[1]);
}
