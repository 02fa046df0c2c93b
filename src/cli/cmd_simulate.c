/* sparoa simulate: all policies side by side on a described machine. */
#include "cli/plan_job.h"
#include "cli/table.h"

#include <math.h>
#include <string.h>

#define POLICIES 32

typedef struct row {
    const char *policy;
    sparoa_plan_info info;
    sparoa_simulation_result sim;
} row;

typedef struct simulate_command {
    sp_plan_job job;
    int64_t runs, seed;
    double burst, burst_share, period_ms;
    bool ideal, thermal;
    const char *trace, *trace_policy;
    sparoa_simulation_options options;
    row rows[POLICIES];
    sparoa_plan *plans[POLICIES];
    size_t count;
} simulate_command;

static int run_policy(simulate_command *c, const char *policy)
{
    sp_plan_job *p = &c->job;
    row *r = &c->rows[c->count];
    sparoa_error err;
    p->options.policy = r->policy = policy;
    if (sparoa_plan_create(p->profile, p->platform, &p->options, &c->plans[c->count], &err))
        return sp_cli_error(p->cli, policy, &err);
    sparoa_plan_get_info(c->plans[c->count], &r->info);
    c->options.trace = c->trace && strcmp(c->trace_policy, policy) == 0 ? c->trace : NULL;
    if (sparoa_simulate(c->plans[c->count], p->profile, p->platform, &c->options, &r->sim, &err)) {
        c->count++;
        return sp_cli_error(p->cli, policy, &err);
    }
    c->count++;
    return -1;
}

/* Share of the work, in FLOPs, that is not on the host. */
static double moved_share(const sparoa_plan_info *info)
{
    double all = 0, moved = 0;
    for (size_t d = 0; d < info->device_count; d++) {
        all += info->flops[d];
        if (d) moved += info->flops[d];
    }
    return all > 0 ? 100 * moved / all : 0;
}

/* Share of the busy time. */
static double busy_share(const row *r)
{
    double all = 0, moved = 0;
    for (size_t d = 0; d < r->info.device_count; d++) {
        all += r->sim.busy_ns[d];
        if (d) moved += r->sim.busy_ns[d];
    }
    return all > 0 ? 100 * moved / all : 0;
}

static double single_device(const simulate_command *c)
{
    double best = INFINITY;
    for (size_t i = 0; i < c->count; i++)
        if (!strcmp(c->rows[i].policy, "cpu") || !strcmp(c->rows[i].policy, "gpu"))
            best = fmin(best, c->rows[i].sim.mean_ns);
    return best;
}

static void print_text(const simulate_command *c)
{
    sp_table t;
    double single = single_device(c);
    sp_table_init(&t, "<policy|predicted ms|simulated ms|p99 ms|x best single|off-host FLOP %|"
                      "off-host busy %|copies ms|energy mJ|segments|plan ms|<proved");
    for (size_t i = 0; i < c->count; i++) {
        const row *r = &c->rows[i];
        sp_table_add(&t, "%s", r->policy);
        sp_table_add(&t, "%.3f", r->info.latency_ns * 1e-6);
        sp_table_add(&t, "%.3f", r->sim.mean_ns * 1e-6);
        sp_table_add(&t, "%.3f", r->sim.p99_ns * 1e-6);
        sp_table_add(&t, "%.3f", single / r->sim.mean_ns);
        sp_table_add(&t, "%.1f", moved_share(&r->info));
        sp_table_add(&t, "%.1f", busy_share(r));
        sp_table_add(&t, "%.3f", r->sim.transfer_ns * 1e-6);
        sp_table_add(&t, "%.2f", r->sim.energy_j * 1e3);
        sp_table_add(&t, "%zu", r->info.segments);
        sp_table_add(&t, "%.2f", r->info.plan_ns * 1e-6);
        sp_table_add(&t, "%s", r->info.optimal ? "optimal" : "");
    }
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    const sparoa_plan_info *info = &c->rows[0].info;
    printf("\nsimulated on %s, %s regime, %zu nodes, %lld runs, seed %lld; lower bound %.3f ms\n",
           info->platform, info->regime, info->node_count, (long long)c->runs, (long long)c->seed,
           info->lower_bound_ns * 1e-6);
}

static bool print_json(const simulate_command *c)
{
    FILE *file = sp_cli_json_open(c->job.cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, c->job.cli, &c->job.job);
    sp_json_string(&j, "label", "simulated");
    sp_json_string(&j, "platform", c->rows[0].info.platform);
    sp_json_string(&j, "regime", c->rows[0].info.regime);
    sp_json_int(&j, "nodes", (int64_t)c->rows[0].info.node_count);
    sp_json_int(&j, "runs", c->runs);
    sp_json_int(&j, "seed", c->seed);
    sp_json_number(&j, "lower_bound_us", c->rows[0].info.lower_bound_ns * 1e-3);
    sp_json_array(&j, "policies");
    for (size_t i = 0; i < c->count; i++) {
        const row *r = &c->rows[i];
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "policy", r->policy);
        sp_json_number(&j, "predicted_us", r->info.latency_ns * 1e-3);
        sp_json_number(&j, "mean_us", r->sim.mean_ns * 1e-3);
        sp_json_number(&j, "p50_us", r->sim.p50_ns * 1e-3);
        sp_json_number(&j, "p99_us", r->sim.p99_ns * 1e-3);
        sp_json_number(&j, "off_host_flops", moved_share(&r->info) / 100);
        sp_json_number(&j, "off_host_busy", busy_share(r) / 100);
        sp_json_number(&j, "transfer_us", r->sim.transfer_ns * 1e-3);
        sp_json_number(&j, "slowed_us", r->sim.slowed_ns * 1e-3);
        sp_json_number(&j, "energy_mj", r->sim.energy_j * 1e3);
        sp_json_number(&j, "plan_us", r->info.plan_ns * 1e-3);
        sp_json_bool(&j, "optimal", r->info.optimal);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(c->job.cli, file);
}

static int run(simulate_command *c)
{
    int code = sp_plan_job_open(&c->job);
    if (code >= 0) return code;
    c->options = (sparoa_simulation_options){.struct_size = sizeof c->options,
                                             .mode = c->job.mode,
                                             .seed = (uint64_t)c->seed,
                                             .runs = (uint32_t)c->runs,
                                             .ideal = c->ideal,
                                             .thermal = c->thermal};
    memcpy(c->options.load, c->job.options.load, sizeof c->options.load);
    if (c->burst > 0) {
        c->options.period_ns = c->period_ms * 1e6;
        c->options.burst_probability[0] = c->options.burst_probability[1] = c->burst;
        c->options.burst_share[0] = c->options.burst_share[1] = c->burst_share;
    }
    const char *policy;
    for (size_t i = 0; code < 0 && i < POLICIES && (policy = sparoa_policy_name(i, NULL)); i++)
        code = run_policy(c, policy);
    if (code < 0 && sp_cli_text(c->job.cli)) print_text(c);
    if (code < 0 && c->job.cli->json_path && !print_json(c)) code = SP_EXIT_FAIL;
    return code < 0 ? SP_EXIT_PASS : code;
}

int sp_cmd_simulate(sp_cli *cli, int argc, char **argv)
{
    static const char *const default_trace = "portfolio";
    simulate_command c = {.job = {.cli = cli},
                          .runs = 100,
                          .burst_share = 0.5,
                          .period_ms = 5,
                          .trace_policy = default_trace};
    sp_arg rows[SP_PLAN_JOB_ROWS];
    sp_plan_job_args(&c.job, rows);
    const sp_arg table[] = {
        {SP_ARG_INT, 'n', "runs", &c.runs, "N", "simulated inferences (default: 100)", 1, 1000000,
         NULL},
        {SP_ARG_INT, 0, "sim-seed", &c.seed, "N", "seed of noise and other work (default: 0)", 0,
         INT64_MAX, NULL},
        {SP_ARG_FLAG, 0, "ideal", &c.ideal, NULL, "without noise and contention", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "thermal", &c.thermal, NULL, "the machine heats up and throttles", 0, 0,
         NULL},
        {SP_ARG_NUMBER, 0, "burst", &c.burst, "X",
         "probability that other work occupies a device in a period (default: 0)", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "burst-share", &c.burst_share, "X", "how much of it (default: 0.5)", 0,
         0, NULL},
        {SP_ARG_NUMBER, 0, "period", &c.period_ms, "MS", "the period (default: 5)", 0, 0, NULL},
        {SP_ARG_STRING, 0, "trace", &c.trace, "FILE",
         "write the first run of a policy as Chrome trace events", 0, 0, NULL},
        {SP_ARG_STRING, 0, "trace-policy", &c.trace_policy, "NAME", "which (default: portfolio)", 0,
         0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&c);
    for (size_t i = 0; i < c.count; i++) sparoa_plan_destroy(c.plans[i]);
    sp_plan_job_close(&c.job);
    return code;
}
