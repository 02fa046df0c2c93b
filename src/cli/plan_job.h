/* plan_job.h - a model profiled for a platform: what plan and simulate begin with. */
#ifndef SP_CLI_PLAN_JOB_H
#define SP_CLI_PLAN_JOB_H

#include "cli/job.h"
#include "sparoa_schedule.h"

typedef struct sp_plan_job {
    sp_cli *cli;
    sp_feed feed;
    sp_job job;
    const char *platform_path, *regime, *objective, *mode, *profile_path;
    int64_t zero_runs, seed, updates;
    double latency_limit;
    bool split, choose_clocks;
    sp_strings pins, forbids, loads, clocks; /* NODE=DEVICE; DEVICE=SHARE */
    sparoa_platform *platform;
    const char *predictor_path, *measure;
    sparoa_predictor *predictor; /* NULL: the shipped weights */
    sparoa_profile *profile;
    sparoa_plan_options options; /* filled by sp_plan_job_open */
} sp_plan_job;

enum { SP_PLAN_JOB_ROWS = SP_FEED_ROWS + 20 };

/* Sets the defaults and fills option rows: the feed's, then those of placing, ended. */
void sp_plan_job_args(sp_plan_job *p, sp_arg rows[SP_PLAN_JOB_ROWS]);

/* Opens platform and model, runs the model for its sparsity, makes the profile. Returns an exit
 * code after printing the fault, or -1 to go on. */
int sp_plan_job_open(sp_plan_job *p);
void sp_plan_job_close(sp_plan_job *p);

#endif
