#include "cli/cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t sp_cli_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static const sp_command *find_command(const char *name)
{
    for (const sp_command *c = sp_commands; c->name; c++)
        if (strcmp(c->name, name) == 0) return c;
    return sp_commands;
}

int sp_cli_parse(sp_cli *cli, const sp_arg *table, const sp_arg *more, int argc, char **argv)
{
    const sp_arg common[] = {
        {SP_ARG_INT, 't', "threads", &cli->threads, "N",
         "threads of one run (default: one per core)", 1, 1024, NULL},
        {SP_ARG_STRING, 0, "plugin", &cli->plugin, "FILE",
         "device plug-in to load (a path with a slash)", 0, 0, NULL},
        {SP_ARG_STRING, 0, "plugin-options", &cli->plugin_options, "LIST",
         "key=value,... for its devices", 0, 0, NULL},
        {SP_ARG_STRING, 0, "device", &cli->device, "NAME",
         "where nodes run (default: cpu); auto: where they were measured to be fastest", 0, 0,
         NULL},
        {SP_ARG_STRING, 0, "auto-cache", &cli->auto_cache, "FILE",
         "with --device auto: keeps what was measured", 0, 0, NULL},
        {SP_ARG_CHOICE, 0, "fallback", &cli->fallback, "warn|allow|forbid",
         "what the device can't run: the CPU does it, or an error", 0, 0, "warn|allow|forbid"},
        {SP_ARG_CHOICE, 0, "precision", &cli->precision, "float32|tf32|float16",
         "how exactly a device computes (default: float32)", 0, 0, "float32|tf32|float16"},
        {SP_ARG_OPTIONAL, 0, "json", &cli->json_path, "FILE", "print JSON, or write it to FILE", 0,
         0, NULL},
        {SP_ARG_FLAG, 'q', "quiet", &cli->quiet, NULL, "print results only", 0, 0, NULL},
        {SP_ARG_FLAG, 'h', "help", &cli->help, NULL, "print this help", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    for (int i = 0; i < argc && strcmp(argv[i], "--"); i++) {
        if (strcmp(argv[i], "--help") && strcmp(argv[i], "-h")) continue;
        const sp_command *command = find_command(cli->command);
        printf("usage: sparoa %s %s\n%s\n\n", command->name, command->arguments, command->summary);
        sp_args_help(stdout, table);
        if (more) sp_args_help(stdout, more);
        sp_args_help(stdout, common);
        return SP_EXIT_PASS;
    }
    char error[256];
    const sp_arg *const tables[] = {table, more ? more : common, more ? common : NULL, NULL};
    if (sp_args_parse(tables, argc, argv, error, sizeof error)) return -1;
    return sp_cli_fail(cli, SP_EXIT_USAGE, "%s", error);
}

sparoa_status sp_cli_plugin(const sp_cli *cli, sparoa_runtime *runtime, sparoa_error *err)
{
    if (!cli->plugin) return SPAROA_OK;
    return sparoa_runtime_load_plugin(runtime, cli->plugin, cli->plugin_options, err);
}

void sp_cli_device(const sp_cli *cli, sparoa_session_options *options)
{
    options->device = cli->device;
    options->auto_cache = cli->auto_cache;
    if (cli->fallback && strcmp(cli->fallback, "allow") == 0)
        options->fallback = SPAROA_FALLBACK_ALLOW;
    if (cli->fallback && strcmp(cli->fallback, "forbid") == 0)
        options->fallback = SPAROA_FALLBACK_FORBID;
    if (cli->precision && strcmp(cli->precision, "tf32") == 0)
        options->precision = SPAROA_PRECISION_TF32;
    if (cli->precision && strcmp(cli->precision, "float16") == 0)
        options->precision = SPAROA_PRECISION_FLOAT16;
}

int sp_cli_fail(const sp_cli *cli, int code, const char *format, ...)
{
    va_list list;
    fflush(stdout);
    fprintf(stderr, "sparoa %s: ", cli->command);
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    return code;
}

int sp_cli_error(const sp_cli *cli, const char *what, const sparoa_error *err)
{
    const char *text = err->message[0] ? err->message : sparoa_status_text(err->status);
    return sp_cli_fail(cli, SP_EXIT_FAIL, "%s: %s [%s]", what, text,
                       sparoa_status_name(err->status));
}

void sp_cli_progress(const sp_cli *cli, int64_t start_ns, const char *format, ...)
{
    if (cli->quiet || sp_cli_now_ns() - start_ns < 1000000000 || !isatty(2)) return;
    fputs("\r\033[K", stderr);
    if (format) {
        va_list list;
        va_start(list, format);
        vfprintf(stderr, format, list);
        va_end(list);
    }
    fflush(stderr);
}

FILE *sp_cli_json_open(const sp_cli *cli)
{
    if (!cli->json_path[0]) return stdout;
    FILE *file = fopen(cli->json_path, "w");
    if (!file)
        sp_cli_fail(cli, SP_EXIT_FAIL, "cannot write %s: %s", cli->json_path, strerror(errno));
    return file;
}

bool sp_cli_json_close(const sp_cli *cli, FILE *file)
{
    bool good = !ferror(file);
    good = (file == stdout ? fflush(file) : fclose(file)) == 0 && good;
    if (!good) sp_cli_fail(cli, SP_EXIT_FAIL, "writing JSON failed: %s", strerror(errno));
    return good;
}

bool sp_cli_text(const sp_cli *cli)
{
    return !cli->json_path || cli->json_path[0];
}
