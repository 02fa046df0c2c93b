/*
 * cli.h - what the commands of `sparoa` share: the context of one call, exit codes, opening a
 * model.
 */
#ifndef SP_CLI_H
#define SP_CLI_H

#include "cli/args.h"
#include "cli/json.h"
#include "sparoa.h"

enum { SP_EXIT_PASS = 0, SP_EXIT_FAIL = 1, SP_EXIT_USAGE = 2 };

/* The global options and what follows from them. */
typedef struct sp_cli {
    const char *command; /* "run" */
    int64_t threads;     /* --threads, 0: the library's default */
    const char *plugin;  /* --plugin: a device to load, or NULL */
    const char *plugin_options;
    const char *device;     /* --device, or NULL: the CPU */
    const char *auto_cache; /* --auto-cache, or NULL */
    const char *fallback;   /* --fallback, or NULL */
    const char *plan;       /* --plan of the commands that have it, or NULL */
    const char *precision;  /* --precision, or NULL: float32 */
    bool quiet;             /* -q: results only */
    bool help;              /* --help */
    const char *json_path;  /* NULL: no JSON; "": to standard output; else a file */
} sp_cli;

typedef struct sp_command {
    const char *name;
    const char *arguments; /* of the usage line */
    const char *summary;
    int (*run)(sp_cli *cli, int argc, char **argv);
} sp_command;

int sp_cmd_test(sp_cli *cli, int argc, char **argv);
int sp_cmd_run(sp_cli *cli, int argc, char **argv);
int sp_cmd_profile(sp_cli *cli, int argc, char **argv);
int sp_cmd_bench(sp_cli *cli, int argc, char **argv);
int sp_cmd_check(sp_cli *cli, int argc, char **argv);
int sp_cmd_diff(sp_cli *cli, int argc, char **argv);
int sp_cmd_doctor(sp_cli *cli, int argc, char **argv);
int sp_cmd_plan(sp_cli *cli, int argc, char **argv);
int sp_cmd_simulate(sp_cli *cli, int argc, char **argv);
int sp_cmd_report(sp_cli *cli, int argc, char **argv);
int sp_cmd_calibrate(sp_cli *cli, int argc, char **argv);
int sp_cmd_train_predictor(sp_cli *cli, int argc, char **argv);
int sp_cmd_train_scheduler(sp_cli *cli, int argc, char **argv);
int sp_cmd_operators(sp_cli *cli, int argc, char **argv);

extern const sp_command sp_commands[]; /* ended by a row whose name is NULL */

/* Parses a command's options (`more` is a second table, or NULL) and the global ones. Returns -1 to
 * go on, or an exit code (help, fault). */
int sp_cli_parse(sp_cli *cli, const sp_arg *table, const sp_arg *more, int argc, char **argv);

/* Loads --plugin into a runtime. */
sparoa_status sp_cli_plugin(const sp_cli *cli, sparoa_runtime *runtime, sparoa_error *err);

/* Puts --device, --fallback and --precision into a session's options. */
void sp_cli_device(const sp_cli *cli, sparoa_session_options *options);

/* Prints "sparoa run: message" to stderr and returns `code`. */
int sp_cli_fail(const sp_cli *cli, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Prints an error of the library and returns SP_EXIT_FAIL. */
int sp_cli_error(const sp_cli *cli, const char *what, const sparoa_error *err);

/* A line on stderr that replaces the last one, if stderr is a terminal and -q is not given and a
 * second has passed since `start_ns`; NULL clears it. */
void sp_cli_progress(const sp_cli *cli, int64_t start_ns, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Opens where JSON goes (NULL after printing an error) and closes it, false if writing failed. */
FILE *sp_cli_json_open(const sp_cli *cli);
bool sp_cli_json_close(const sp_cli *cli, FILE *file);

/* True if text goes to standard output: that is, unless JSON goes there. */
bool sp_cli_text(const sp_cli *cli);

int64_t sp_cli_now_ns(void); /* monotonic */

#endif
