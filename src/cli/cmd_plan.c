/* sparoa plan: where every operator should run on a described machine, and why. */
#include "cli/choice.h"
#include "cli/plan_job.h"
#include "cli/table.h"

#include <stdlib.h>
#include <string.h>

typedef struct plan_command {
    sp_plan_job job;
    const char *policy, *why, *output, *recost, *diff, *trained;
    int64_t limit;
    sparoa_plan *plan;
} plan_command;

/* As a running engine would decide for a machine with these loads and clocks. */
static int replan(plan_command *c)
{
    sp_plan_job *p = &c->job;
    sparoa_error err;
    sparoa_replanner *r = NULL;
    sparoa_replan_state state = {.struct_size = sizeof state};
    size_t count = sparoa_profile_node_count(p->profile);
    uint8_t *devices = malloc(count + 1);
    memcpy(state.load, p->options.load, sizeof state.load);
    memcpy(state.clock, p->options.clock, sizeof state.clock);
    int code = -1;
    if (!devices) code = sp_cli_fail(p->cli, SP_EXIT_FAIL, "no memory");
    if (code < 0 && sparoa_replanner_create(p->profile, p->platform, p->options.objective,
                                            c->trained, &r, &err))
        code = sp_cli_error(p->cli, c->trained, &err);
    if (code < 0 && sparoa_replan(r, &state, devices, count, NULL))
        code = sp_cli_fail(p->cli, SP_EXIT_USAGE, "a load or clock is out of range");
    if (code < 0 && sparoa_replanner_plan(r, &c->plan, &err))
        code = sp_cli_error(p->cli, c->trained, &err);
    sparoa_replanner_destroy(r);
    free(devices);
    return code;
}

static int make_plan(plan_command *c)
{
    sp_plan_job *p = &c->job;
    sparoa_error err;
    p->options.policy = c->policy;
    if (c->trained && (c->recost || p->mode || p->pins.count || p->forbids.count))
        return sp_cli_fail(p->cli, SP_EXIT_USAGE,
                           "--trained goes with --load and --clock, not with --recost, --mode, "
                           "--pin or --forbid");
    if (c->recost && (p->pins.count || p->forbids.count || p->choose_clocks))
        return sp_cli_fail(p->cli, SP_EXIT_USAGE,
                           "--recost keeps devices and clocks: it does not go with --pin, "
                           "--forbid or --choose-clocks");
    if (c->trained) return replan(c);
    if (!c->recost) {
        if (sparoa_plan_create(p->profile, p->platform, &p->options, &c->plan, &err))
            return sp_cli_error(p->cli, p->job.path, &err);
        return -1;
    }
    sparoa_plan *old;
    if (sparoa_plan_load(p->job.runtime, c->recost, &old, &err))
        return sp_cli_error(p->cli, c->recost, &err);
    sparoa_status status =
        sparoa_plan_recost(old, p->profile, p->platform, &p->options, &c->plan, &err);
    sparoa_plan_destroy(old);
    return status == SPAROA_OK ? -1 : sp_cli_error(p->cli, c->recost, &err);
}

static void print_nodes(const plan_command *c, const sparoa_plan_info *info)
{
    sp_table t;
    char titles[320] = "<node|<op|<device|<reason";
    for (size_t d = 0; d < info->device_count; d++) {
        size_t n = strlen(titles);
        snprintf(titles + n, sizeof titles - n, "|%s us", info->device[d]);
    }
    size_t used = strlen(titles);
    snprintf(titles + used, sizeof titles - used, "|copies us|start us|end us");
    sp_table_init(&t, titles);
    size_t shown =
        c->limit && (size_t)c->limit < info->node_count ? (size_t)c->limit : info->node_count;
    for (size_t i = 0; i < shown; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(c->plan, i, &n);
        sp_table_add(&t, "%s", n.name);
        sp_table_add(&t, "%s", n.op);
        if (n.split_device)
            sp_table_add(&t, "%s + %.4g %s", n.device, n.split_share, n.split_device);
        else
            sp_table_add(&t, "%s", n.device);
        sp_table_add(&t, "%s", n.reason);
        for (size_t d = 0; d < info->device_count; d++)
            if (n.time_ns[d] < 0)
                sp_table_add(&t, "-");
            else
                sp_table_add(&t, "%.1f", n.time_ns[d] * 1e-3);
        sp_table_add(&t, "%.1f", n.transfer_ns * 1e-3);
        sp_table_add(&t, "%.1f", n.start_ns * 1e-3);
        sp_table_add(&t, "%.1f", n.finish_ns * 1e-3);
    }
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    if (shown < info->node_count) printf("... %zu more nodes\n", info->node_count - shown);
}

static void print_summary(const sparoa_plan_info *info)
{
    printf("\npredicted for %s, %s regime, policy %s: %.3f ms%s (bound %.3f), %.2f mJ\n",
           info->platform, info->regime, info->policy, info->latency_ns * 1e-6,
           info->optimal ? ", proved optimal" : "", info->lower_bound_ns * 1e-6,
           info->energy_j * 1e3);
    for (size_t d = 0; d < info->device_count; d++) {
        printf("%s: %zu nodes, busy %.3f ms", info->device[d], info->nodes[d],
               info->busy_ns[d] * 1e-6);
        if (info->clock[d] < 1) printf(", clock %.3g of the highest", info->clock[d]);
        putchar('\n');
    }
    printf("%zu copies of %.3f ms, %.3f ms waited for; %zu segments; decided in %.2f ms\n",
           info->copies, info->transfer_ns * 1e-6, info->exposed_ns * 1e-6, info->segments,
           info->plan_ns * 1e-6);
}

static int explain(const plan_command *c, const sparoa_plan_info *info)
{
    for (size_t i = 0; i < info->node_count; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(c->plan, i, &n);
        if (strcmp(n.name, c->why)) continue;
        printf("%s (%s) runs on %s: %s\n  %s\n", n.name, n.op, n.device, n.reason, n.reason_text);
        for (size_t d = 0; d < info->device_count; d++)
            if (n.time_ns[d] < 0)
                printf("  on %s: it may not run there\n", info->device[d]);
            else
                printf("  on %s: %.1f us\n", info->device[d], n.time_ns[d] * 1e-3);
        printf("  copies made for it: %.1f us; runs from %.1f to %.1f us\n", n.transfer_ns * 1e-3,
               n.start_ns * 1e-3, n.finish_ns * 1e-3);
        printf("  predicted for %s, %s regime\n", info->platform, info->regime);
        return -1;
    }
    return sp_cli_fail(c->job.cli, SP_EXIT_FAIL, "the plan has no node '%s'", c->why);
}

static void print_difference(void *user, const char *node, const char *a, const char *b)
{
    (void)user;
    printf("%s: %s -> %s\n", node, b ? b : "(not there)", a ? a : "(not there)");
}

static int compare(const plan_command *c)
{
    sparoa_plan *other;
    sparoa_error err;
    if (sparoa_plan_load(c->job.job.runtime, c->diff, &other, &err))
        return sp_cli_error(c->job.cli, c->diff, &err);
    size_t count = sparoa_plan_diff(c->plan, other, print_difference, NULL);
    sparoa_plan_info info;
    sparoa_plan_get_info(other, &info);
    printf("%zu nodes differ from %s (predicted %.3f ms)\n", count, c->diff,
           info.latency_ns * 1e-6);
    sparoa_plan_destroy(other);
    return -1;
}

static bool print_json(const plan_command *c, const sparoa_plan_info *info)
{
    FILE *file = sp_cli_json_open(c->job.cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, c->job.cli, &c->job.job);
    sp_json_string(&j, "platform", info->platform);
    sp_json_string(&j, "regime", info->regime);
    sp_json_string(&j, "policy", info->policy);
    sp_json_string(&j, "objective", info->objective);
    sp_json_bool(&j, "optimal", info->optimal);
    sp_json_number(&j, "latency_us", info->latency_ns * 1e-3);
    sp_json_number(&j, "lower_bound_us", info->lower_bound_ns * 1e-3);
    sp_json_number(&j, "energy_mj", info->energy_j * 1e3);
    sp_json_number(&j, "transfer_us", info->transfer_ns * 1e-3);
    sp_json_number(&j, "exposed_us", info->exposed_ns * 1e-3);
    sp_json_number(&j, "plan_us", info->plan_ns * 1e-3);
    sp_json_flat_array(&j, "clocks");
    for (size_t d = 0; d < info->device_count; d++) sp_json_number(&j, NULL, info->clock[d]);
    sp_json_end_array(&j);
    sp_json_array(&j, "nodes");
    for (size_t i = 0; i < info->node_count; i++) {
        sparoa_plan_node_info n;
        sparoa_plan_node(c->plan, i, &n);
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "name", n.name);
        sp_json_string(&j, "op", n.op);
        sp_json_string(&j, "device", n.device);
        sp_json_string(&j, "reason", n.reason);
        sp_json_flat_array(&j, "us");
        for (size_t d = 0; d < info->device_count; d++)
            if (n.time_ns[d] < 0)
                sp_json_null(&j, NULL);
            else
                sp_json_number(&j, NULL, n.time_ns[d] * 1e-3);
        sp_json_end_array(&j);
        sp_json_number(&j, "transfer_us", n.transfer_ns * 1e-3);
        sp_json_number(&j, "start_us", n.start_ns * 1e-3);
        sp_json_number(&j, "finish_us", n.finish_ns * 1e-3);
        if (n.split_device) {
            sp_json_string(&j, "split_device", n.split_device);
            sp_json_string(&j, "split_axis", n.split_axis);
            sp_json_number(&j, "split_share", n.split_share);
        }
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(c->job.cli, file);
}

/* What a session with device "auto" does on this machine: measured, where the rest is predicted. */
static int choose_here(plan_command *c)
{
    sp_job *job = &c->job.job;
    sp_cli *cli = c->job.cli;
    const sparoa_session_options options = {.struct_size = sizeof options};
    if (c->output || c->why || c->recost || c->trained || c->diff || c->job.split)
        return sp_cli_fail(cli, SP_EXIT_USAGE,
                           "--output, --why, --recost, --trained, --diff and --split need "
                           "--platform: device auto measures (--auto-cache keeps what it chose)");
    int code = sp_job_load(cli, &c->job.feed, job);
    if (code < 0) code = sp_job_session(cli, &options, job);
    if (code < 0) code = sp_job_inputs(cli, &c->job.feed, job);
    if (code < 0) code = sp_job_tune(cli, job);
    if (code >= 0) return code;
    if (sp_cli_text(cli)) sp_choice_print(cli, job);
    if (!cli->json_path) return SP_EXIT_PASS;
    FILE *file = sp_cli_json_open(cli);
    if (!file) return SP_EXIT_FAIL;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, cli, job);
    sp_choice_json(&j, cli, job);
    sp_json_end_object(&j);
    return sp_cli_json_close(cli, file) ? SP_EXIT_PASS : SP_EXIT_FAIL;
}

static int run(plan_command *c)
{
    sparoa_error err;
    sparoa_plan_info info;
    int code = sp_plan_job_open(&c->job);
    if (code < 0) code = make_plan(c);
    if (code >= 0) return code;
    sparoa_plan_get_info(c->plan, &info);
    if (c->output && sparoa_plan_save(c->plan, c->output, &err))
        return sp_cli_error(c->job.cli, c->output, &err);
    if (sp_cli_text(c->job.cli)) {
        if (c->why) code = explain(c, &info);
        if (!c->why && !c->diff && !c->job.cli->quiet) print_nodes(c, &info);
        if (!c->why) print_summary(&info);
        if (code < 0 && c->diff) code = compare(c);
    }
    if (code < 0 && c->job.cli->json_path && !print_json(c, &info)) code = SP_EXIT_FAIL;
    return code < 0 ? SP_EXIT_PASS : code;
}

int sp_cmd_plan(sp_cli *cli, int argc, char **argv)
{
    plan_command c = {.job = {.cli = cli}, .policy = "portfolio"};
    sp_arg rows[SP_PLAN_JOB_ROWS];
    sp_plan_job_args(&c.job, rows);
    const sp_arg table[] = {
        {SP_ARG_STRING, 0, "policy", &c.policy, "NAME",
         "cpu, gpu, fixed, threshold, greedy, dp, heft, optimal, portfolio (default), sac, coexec",
         0, 0, NULL},
        {SP_ARG_STRING, 'o', "output", &c.output, "FILE", "write the plan as YAML", 0, 0, NULL},
        {SP_ARG_STRING, 0, "why", &c.why, "NODE", "explain one node's place", 0, 0, NULL},
        {SP_ARG_STRING, 0, "recost", &c.recost, "FILE", "price this plan instead of making one", 0,
         0, NULL},
        {SP_ARG_STRING, 0, "trained", &c.trained, "FILE",
         "decide as in use, with a policy of sparoa train scheduler", 0, 0, NULL},
        {SP_ARG_STRING, 0, "diff", &c.diff, "FILE", "list nodes that this plan runs elsewhere", 0,
         0, NULL},
        {SP_ARG_INT, 0, "limit", &c.limit, "N", "rows to show (default: all)", 1, INT64_MAX, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    bool here = !c.job.platform_path && cli->device && strcmp(cli->device, "auto") == 0;
    if (code < 0) code = here ? choose_here(&c) : run(&c);
    sparoa_plan_destroy(c.plan);
    sp_plan_job_close(&c.job);
    return code;
}
