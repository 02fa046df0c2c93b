/*
 * job.h - a model opened with inputs, ready to run: what run, profile, bench and diff begin with.
 */
#ifndef SP_CLI_JOB_H
#define SP_CLI_JOB_H

#include "cli/cli.h"
#include "cli/feed.h"
#include "sparoa_schedule.h"

typedef struct sp_job {
    sparoa_runtime *runtime;
    sparoa_model *model;
    sparoa_session *session;
    sparoa_plan *plan; /* of --plan, or NULL */
    const char *path;  /* of the model, or "(built-in digits)" */
    sp_inputs inputs;
    sparoa_tensor *outputs;
    size_t output_count;
    int64_t load_ns;    /* runtime and model */
    int64_t create_ns;  /* session */
    int64_t prepare_ns; /* memory plan for the inputs' shapes */
} sp_job;

/* Opens in steps, each of which prints its fault and returns an exit code, or -1 to go on. */
int sp_job_load(const sp_cli *cli, const sp_feed *feed, sp_job *job);
/* Loads --plan. */
int sp_job_plan(const sp_cli *cli, sp_job *job);
int sp_job_session(const sp_cli *cli, const sparoa_session_options *options, sp_job *job);
int sp_job_inputs(const sp_cli *cli, const sp_feed *feed, sp_job *job);

/* Prints an error of preparing or running, with a hint where guessed dimensions may be the cause.
 */
int sp_job_fault(const sp_cli *cli, const sp_job *job, const char *what, const sparoa_error *err);

/* Runs once; outputs are the session's memory. */
int sp_job_run(const sp_cli *cli, sp_job *job);
void sp_job_close(sp_job *job);

/* Starts recording, and writes what was recorded to a file; nothing where path is NULL. An exit
 * code, or -1. */
int sp_job_trace(const sp_cli *cli, const sp_job *job, const char *path);
int sp_job_trace_save(const sp_cli *cli, const sp_job *job, const char *path);

/* Type and shape of an input or output as the model declares it. */
sparoa_tensor sp_info_tensor(const sparoa_value_info *info);

/* The session info of JSON and text that several commands show: model path, threads, times. */
void sp_job_json(sp_json *json, const sp_cli *cli, const sp_job *job);

/* The model with which a feed's words begin, or NULL for the built-in one. */
const char *sp_feed_model(const sp_feed *feed);

/* A runtime with the context's threads, or `threads` if above 0. */
sparoa_status sp_job_runtime(const sp_cli *cli, int32_t threads, sparoa_runtime **runtime,
                             sparoa_error *err);

/* Loads a model from a file, or the built-in one where path is NULL. */
sparoa_status sp_job_model(sparoa_runtime *runtime, const char *path, sparoa_model **model,
                           sparoa_error *err);

#endif
