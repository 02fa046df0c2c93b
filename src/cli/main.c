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
        fprintf(file, "  %-17s%s\n", c->name, c->summary);
    fputs("\nsparoa COMMAND --help lists the options of a command. Exit codes: 0 pass, 1 fail, 2 "
          "usage.\n",
          file);
}

/* How many arguments a command's name is: "train scheduler" is two; 0: these are others. */
static int name_words(const sp_command *c, int argc, char **argv)
{
    size_t first = strcspn(c->name, " ");
    if (strncmp(c->name, argv[1], first) || argv[1][first]) return 0;
    if (!c->name[first]) return 1;
    return argc > 2 && strcmp(c->name + first + 1, argv[2]) == 0 ? 2 : 0;
}

static const sp_command *find(int argc, char **argv, int *words)
{
    const sp_command *found = NULL;
    *words = 0;
    for (const sp_command *c = sp_commands; c->name; c++) {
        int n = name_words(c, argc, argv);
        if (n <= *words) continue;
        *words = n;
        found = c;
    }
    return found;
}

/* Names the commands whose first word this is; false: there are none. */
static bool list_family(const char *word)
{
    const char *before = "sparoa: expected ";
    size_t n = strlen(word);
    for (const sp_command *c = sp_commands; c->name; c++) {
        if (strncmp(c->name, word, n) || c->name[n] != ' ') continue;
        fprintf(stderr, "%ssparoa %s", before, c->name);
        before = " or ";
    }
    if (*before == 's') return false;
    fputc('\n', stderr);
    return true;
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
    int words;
    const sp_command *found = find(argc, argv, &words);
    if (found) {
        sp_cli cli = {.command = found->name};
        int code = found->run(&cli, argc - 1 - words, argv + 1 + words);
        return fflush(stdout) ? SP_EXIT_FAIL : code;
    }
    if (list_family(word)) return SP_EXIT_USAGE;
    for (const sp_command *c = sp_commands; c->name && count < 31; c++) names[count++] = c->name;
    names[count] = NULL;
    const char *near = sp_args_nearest(word, names);
    fprintf(stderr, "sparoa: unknown command %s%s%s; sparoa --help lists them\n", word,
            near ? ", the nearest is " : "", near ? near : "");
    return SP_EXIT_USAGE;
}
