/*
 * testrun.h - runs one test, and many of them in processes that each keep one runtime.
 */
#ifndef SP_CLI_TESTRUN_H
#define SP_CLI_TESTRUN_H

#include "cli/cli.h"
#include "cli/compare.h"
#include "cli/testset.h"

typedef enum sp_outcome { SP_PASS, SP_FAIL, SP_SKIP } sp_outcome;

typedef struct sp_test_result {
    sp_outcome outcome;
    bool done;
    int32_t sets;        /* data sets that passed */
    double max_error;    /* over all outputs and sets */
    double scaled_error; /* the same relative to the output's largest magnitude */
    int64_t ns;          /* load to destroy */
    bool spoilt;         /* the runtime is not to be used again: the test failed, or a device did */
    char reason[1200];   /* one line unless passed */
} sp_test_result;

typedef struct sp_test_options {
    sp_tolerance tolerance;
    const sp_cli *cli;          /* for --plugin and --device */
    const char *disable_passes; /* or NULL */
    bool reference;             /* plain kernels */
    bool verbose;               /* the library's warnings are printed */
    int64_t repeat;             /* runs of each data set */
    int64_t jobs;               /* processes at once; 0: in this process, one after the other */
    int32_t threads;            /* of each runtime */
    double timeout;             /* seconds for one test */
} sp_test_options;

/* The runtime that tests of one process share, with its devices open. Starts as zeros. */
typedef struct sp_test_host {
    sparoa_runtime *runtime; /* NULL: none yet, or the last one was spoilt */
    const char *test;        /* the one that runs, for the log */
} sp_test_host;

/* Runs one test in this process; opens the host's runtime where there is none. */
sp_test_result sp_test_execute(sp_test_host *host, const sp_test *test,
                               const sp_test_options *options);
/* Closes the runtime. */
void sp_test_host_close(sp_test_host *host);

/* Called for each selected test in the order of the set, as soon as it and all before it are done.
 */
typedef void (*sp_test_report_fn)(void *user, const sp_test *test, const sp_test_result *result);

/* Runs the selected tests; results[i] belongs to set->items[i]. False, with a message printed, if
 * processes cannot be started or one ends badly after its last test. */
bool sp_tests_run(const sp_cli *cli, const sp_testset *set, const sp_test_options *options,
                  sp_test_result *results, sp_test_report_fn report, void *user);

#endif
