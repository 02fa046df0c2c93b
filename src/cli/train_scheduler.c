/* sparoa train scheduler: a policy for re-planning, for one model on one described machine. */
#include "cli/plan_job.h"

#include <string.h>

typedef struct train_scheduler {
    sp_plan_job job;
    const char *output;
    sparoa_replanner *replanner;
} train_scheduler;

enum { TRIED = 200 }; /* states, to tell how long re-planning takes */

static int fail(const train_scheduler *c, const sparoa_error *err)
{
    return sp_cli_error(c->job.cli, c->job.job.path, err);
}

/* Milliseconds of one re-planning in the mean, over loads of 0 to 90 %. */
static int time_replanning(const train_scheduler *c, double *ms)
{
    static uint8_t devices[1 << 16];
    size_t count = sparoa_profile_node_count(c->job.profile);
    if (count > sizeof devices) return SP_EXIT_FAIL;
    int64_t start = sp_cli_now_ns();
    for (int i = 0; i < TRIED; i++) {
        sparoa_replan_state state = {.struct_size = sizeof state};
        state.load[0] = 0.1 * (i % 10);
        state.load[1] = 0.1 * (i / 10 % 10);
        if (sparoa_replan(c->replanner, &state, devices, count, NULL)) return SP_EXIT_FAIL;
    }
    *ms = (double)(sp_cli_now_ns() - start) * 1e-6 / TRIED;
    return -1;
}

static int run(train_scheduler *c)
{
    sparoa_error err;
    double above = 0, ms = 0;
    sp_cli *cli = c->job.cli;
    if (!c->output) return sp_cli_fail(cli, SP_EXIT_USAGE, "--output FILE is needed");
    int code = sp_plan_job_open(&c->job);
    if (code >= 0) return code;
    if (sparoa_replanner_create(c->job.profile, c->job.platform, c->job.options.objective, NULL,
                                &c->replanner, &err))
        return fail(c, &err);
    int64_t start = sp_cli_now_ns();
    if (sparoa_replanner_train(c->replanner, c->job.options.seed, c->job.options.updates, &above,
                               &err))
        return fail(c, &err);
    double seconds = (double)(sp_cli_now_ns() - start) * 1e-9;
    if (sparoa_replanner_save(c->replanner, c->output, &err))
        return sp_cli_error(cli, c->output, &err);
    code = time_replanning(c, &ms);
    if (code >= 0) return code;
    if (sp_cli_text(cli))
        printf(
            "trained in %.1f s; by itself %+.2f %% to the best of the simple policies, refined, on "
            "states held out\nre-planning %zu nodes takes %.3f ms\nwritten to %s\n",
            seconds, 100 * above, sparoa_profile_node_count(c->job.profile), ms, c->output);
    return SP_EXIT_PASS;
}

int sp_cmd_train_scheduler(sp_cli *cli, int argc, char **argv)
{
    train_scheduler c = {.job = {.cli = cli}};
    sp_arg rows[SP_PLAN_JOB_ROWS];
    sp_plan_job_args(&c.job, rows);
    const sp_arg table[] = {
        {SP_ARG_STRING, 'o', "output", &c.output, "FILE", "write the policy (needed)", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&c);
    sparoa_replanner_destroy(c.replanner);
    sp_plan_job_close(&c.job);
    return code;
}
