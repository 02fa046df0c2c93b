/*
 * sparoa - the command of libsparoa. Each command is in its own file cmd_<name>.c.
 */
#include "cli/cli.h"

#include <string.h>

static void help(FILE *file)
{
    fprintf(file, "sparoa %s: runs ONNX models\n\nusage: sparoa COMMAND [options]\n\n",
            sparoa_version());
    for (const sp_command *c = sp_commands; c->name; c++)
        fprintf(file, "  %-11s%s\n", c->name, c->summary);
    fputs("\nsparoa COMMAND --help lists the options of a command. Exit codes: 0 pass, 1 fail, 2 "
          "usage.\n",
          file);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return SP_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help")) {
        help(stdout);
        return SP_EXIT_PASS;
    }
    if (!strcmp(word, "--version")) {
        printf("sparoa %s\n", sparoa_version());
        return SP_EXIT_PASS;
    }
    const char *names[32];
    size_t count = 0;
    for (const sp_command *c = sp_commands; c->name && count < 31; c++) {
        names[count++] = c->name;
        if (strcmp(c->name, word)) continue;
        sp_cli cli = {.command = c->name};
        int code = c->run(&cli, argc - 2, argv + 2);
        return fflush(stdout) ? SP_EXIT_FAIL : code;
    }
    names[count] = NULL;
    const char *near = sp_args_nearest(word, names);
    fprintf(stderr, "sparoa: unknown command %s%s%s; sparoa --help lists them\n", word,
            near ? ", the nearest is " : "", near ? near : "");
    return SP_EXIT_USAGE;
}
