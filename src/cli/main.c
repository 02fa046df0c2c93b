/*
 * sparoa - the command of libsparoa. Each command is in its own file cmd_<name>.c.
 */
#include "cli/cli.h"

#include <string.h>

const sp_command sp_commands[] = {
    {"run", "[MODEL] [options]", "Runs a model once on files, pictures or random inputs and shows what comes out.",
     sp_cmd_run},
    {"test", "DIR... [options]", "Runs folders in ONNX's test layout and says what passed, failed and was skipped.",
     sp_cmd_test},
    {"profile", "[MODEL] [options]", "Shows the time, work and sparsity of every operator.", sp_cmd_profile},
    {"bench", "[MODEL] [options]", "Measures latency or throughput, memory and loading time.", sp_cmd_bench},
    {"check", "[MODEL] [options]", "Says whether a model loads, what it needs and what it consists of.",
     sp_cmd_check},
    {"diff", "[MODEL] [options]",
     "Compares the optimised run with the plain reference run value by value.", sp_cmd_diff},
    {"doctor", "[options]", "Shows the machine as the library sees it, and what is wrong with it.",
     sp_cmd_doctor},
    {"operators", "[options]", "Lists the operators of the library.", sp_cmd_operators},
    {NULL, NULL, NULL, NULL},
};

static void help(FILE *file)
{
    fprintf(file, "sparoa %s: runs ONNX models\n\nusage: sparoa COMMAND [options]\n\n", sparoa_version());
    for (const sp_command *c = sp_commands; c->name; c++)
        fprintf(file, "  %-11s%s\n", c->name, c->summary);
    fputs("\nsparoa COMMAND --help lists the options of a command. Exit codes: 0 pass, 1 fail, 2 usage.\n",
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
    const char *names[sizeof sp_commands / sizeof *sp_commands];
    size_t count = 0;
    for (const sp_command *c = sp_commands; c->name; c++) {
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
