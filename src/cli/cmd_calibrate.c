/* sparoa calibrate: this machine as a platform file, and how well such a file predicts models. */
#include "cli/job.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "sparoa_schedule.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHECK_RUNS = 25, CHECK_LEAST = 5 };
#define CHECK_NS 1000000000 /* for the runs of one model */

/* Predicted against measured on one model. */
typedef struct check {
    const char *model;
    size_t nodes;          /* that ran on the device */
    sp_stats error;        /* share by which a node's prediction is off; sorted */
    double within_quarter; /* share of nodes that are off by at most a quarter */
    double weighted;       /* mean error by measured time */
    double predicted_ms, measured_ms;
} check;

typedef struct calibrate_command {
    sp_cli *cli;
    sp_strings models;
    const char *output, *name, *platform_path, *nodes_path;
    double seconds;
    int64_t start_ns;
    sparoa_runtime *runtime;
    sparoa_platform *platform;
    check *checks;
    size_t check_count;
    sp_samples all; /* errors of all nodes */
    FILE *nodes;    /* table of all nodes, or NULL */
} calibrate_command;

static void progress(void *user, const char *what, double done)
{
    const calibrate_command *c = user;
    sp_cli_progress(c->cli, c->start_ns, "%s: %.0f %%", what, 100 * done);
}

static int calibrate(calibrate_command *c)
{
    sparoa_error err;
    sparoa_calibrate_options o = {.struct_size = sizeof o,
                                  .name = c->name,
                                  .seconds = c->seconds,
                                  .progress = progress,
                                  .progress_user = c};
    c->start_ns = sp_cli_now_ns();
    if (sparoa_calibrate(c->runtime, &o, &c->platform, &err))
        return sp_cli_error(c->cli, "measuring", &err);
    sp_cli_progress(c->cli, c->start_ns, NULL);
    if (sp_cli_text(c->cli))
        printf("measured %s in %.0f s\n", sparoa_platform_name(c->platform),
               (double)(sp_cli_now_ns() - c->start_ns) * 1e-9);
    if (c->output && sparoa_platform_save(c->platform, c->output, &err))
        return sp_cli_error(c->cli, c->output, &err);
    return -1;
}

/* ---- the check ---- */

static const char *device_name(const calibrate_command *c)
{
    return c->cli->device ? c->cli->device : "cpu";
}

static int device_index(const calibrate_command *c)
{
    const char *name;
    for (int d = 0; (name = sparoa_platform_device(c->platform, (size_t)d)); d++)
        if (strcmp(name, device_name(c)) == 0) return d;
    return -1;
}

/* Runs that are timed; with a profile each is one more sample of the nodes' times. */
static int time_model(calibrate_command *c, sp_job *job, sparoa_profile *profile, double *median)
{
    sp_samples wall = {0};
    sparoa_error err;
    int64_t start = 0;
    int code = -1;
    for (int i = -2; i < CHECK_RUNS && code < 0; i++) {
        if (i == 0) start = sp_cli_now_ns();
        if (i >= CHECK_LEAST && sp_cli_now_ns() - start > CHECK_NS) break;
        int64_t before = sp_cli_now_ns();
        code = sp_job_run(c->cli, job);
        if (i < 0 || code >= 0) continue;
        sp_samples_add(&wall, (double)(sp_cli_now_ns() - before));
        if (profile && sparoa_profile_sample(profile, job->session, device_name(c), NULL, &err))
            code = sp_cli_error(c->cli, job->path, &err);
    }
    *median = sp_stats_of(&wall).p50;
    sp_samples_free(&wall);
    return code;
}

static int open_session(calibrate_command *c, sp_job *job, const sp_feed *feed, int32_t profile)
{
    sparoa_session_options o = {.struct_size = sizeof o, .profile = profile};
    sp_cli_device(c->cli, &o);
    int code = sp_job_load(c->cli, feed, job);
    if (code < 0) code = sp_job_session(c->cli, &o, job);
    return code < 0 ? sp_job_inputs(c->cli, feed, job) : code;
}

static void compare(calibrate_command *c, const sparoa_profile *profile, int device, check *k)
{
    sp_samples errors = {0};
    double time = 0, off = 0;
    size_t close = 0, slot = 0;
    while (sparoa_profile_device(profile, slot) &&
           strcmp(sparoa_profile_device(profile, slot), device_name(c)))
        slot++;
    for (size_t i = 0; i < sparoa_profile_node_count(profile); i++) {
        sparoa_profile_node_info n;
        sparoa_profile_node(profile, i, &n);
        double measured = n.measured_ns[slot];
        double predicted = sparoa_platform_predict(c->platform, profile, i, (size_t)device);
        k->predicted_ms += predicted * 1e-6;
        if (!(measured > 0)) continue; /* an alias, or folded: nothing runs */
        double error = fabs(predicted / measured - 1);
        sp_samples_add(&errors, error);
        sp_samples_add(&c->all, error);
        close += error <= 0.25;
        time += measured;
        off += fabs(predicted - measured);
        if (c->nodes)
            fprintf(c->nodes, "%s,\"%s\",%s,%s,%.6g,%.6g,%.3f,%.3f,%.3f\n", k->model, n.name, n.op,
                    n.kind, n.flops, n.bytes, measured * 1e-3, n.spread_ns[slot] * 1e-3,
                    predicted * 1e-3);
    }
    k->nodes = errors.count;
    k->error = sp_stats_of(&errors);
    k->within_quarter = errors.count ? (double)close / (double)errors.count : 0;
    k->weighted = time > 0 ? off / time : 0;
    sp_samples_free(&errors);
}

static int check_model(calibrate_command *c, const char *path, int device)
{
    sp_feed feed = {0};
    sp_arg rows[SP_FEED_ROWS];
    sp_job job = {0};
    sparoa_profile *profile = NULL;
    sparoa_error err;
    double ignored, wall = 0;
    check k = {.model = path};
    sp_feed_args(&feed, rows);
    sp_strings_add(&feed.models, path);
    int code = open_session(c, &job, &feed, 1);
    if (code < 0 && sparoa_profile_create(job.model, job.inputs.items, job.inputs.count,
                                          SPAROA_REGIME_GRAPH, &profile, &err))
        code = sp_cli_error(c->cli, path, &err);
    if (code < 0) code = time_model(c, &job, profile, &ignored);
    if (code < 0) compare(c, profile, device, &k);
    sp_job_close(&job);
    job = (sp_job){0};
    if (code < 0) code = open_session(c, &job, &feed, 0); /* the profile's cost left out */
    if (code < 0) code = time_model(c, &job, NULL, &wall);
    k.measured_ms = wall * 1e-6;
    if (code < 0) c->checks[c->check_count++] = k;
    sparoa_profile_destroy(profile);
    sp_job_close(&job);
    sp_feed_free(&feed);
    return code;
}

static void print_checks(calibrate_command *c)
{
    sp_table t;
    sp_samples ends = {0};
    sp_table_init(&t, "<model|nodes|median error %|p90 %|within 25 %|by time %|predicted ms|"
                      "measured ms|end to end %");
    for (size_t i = 0; i < c->check_count; i++) {
        const check *k = &c->checks[i];
        double end = k->measured_ms > 0 ? k->predicted_ms / k->measured_ms - 1 : 0;
        sp_samples_add(&ends, fabs(end));
        sp_table_add(&t, "%s", k->model);
        sp_table_add(&t, "%zu", k->nodes);
        sp_table_add(&t, "%.1f", 100 * k->error.p50);
        sp_table_add(&t, "%.1f", 100 * k->error.p90);
        sp_table_add(&t, "%.0f", 100 * k->within_quarter);
        sp_table_add(&t, "%.1f", 100 * k->weighted);
        sp_table_add(&t, "%.3f", k->predicted_ms);
        sp_table_add(&t, "%.3f", k->measured_ms);
        sp_table_add(&t, "%+.1f", 100 * end);
    }
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    sp_stats nodes = sp_stats_of(&c->all), e = sp_stats_of(&ends);
    printf("\n%s on %s: median error %.1f %% per operator (%zu), %.1f %% end to end (%zu models)\n",
           sparoa_platform_name(c->platform), device_name(c), 100 * nodes.p50, nodes.count,
           100 * e.p50, e.count);
    sp_samples_free(&ends);
}

static bool print_json(const calibrate_command *c)
{
    FILE *file = sp_cli_json_open(c->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "command", "calibrate");
    sp_json_string(&j, "version", sparoa_version());
    sp_json_string(&j, "platform", sparoa_platform_name(c->platform));
    sp_json_string(&j, "device", device_name(c));
    sp_json_array(&j, "checks");
    for (size_t i = 0; i < c->check_count; i++) {
        const check *k = &c->checks[i];
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "model", k->model);
        sp_json_int(&j, "nodes", (int64_t)k->nodes);
        sp_json_number(&j, "median_error", k->error.p50);
        sp_json_number(&j, "p90_error", k->error.p90);
        sp_json_number(&j, "error_by_time", k->weighted);
        sp_json_number(&j, "predicted_ms", k->predicted_ms);
        sp_json_number(&j, "measured_ms", k->measured_ms);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(c->cli, file);
}

static int run(calibrate_command *c)
{
    sparoa_error err;
    if (sp_job_runtime(c->cli, 0, &c->runtime, &err)) return sp_cli_error(c->cli, "runtime", &err);
    int code = -1;
    if (!c->platform_path)
        code = calibrate(c);
    else if (sparoa_platform_load(c->runtime, c->platform_path, &c->platform, &err))
        code = sp_cli_error(c->cli, c->platform_path, &err);
    int device = code < 0 ? device_index(c) : -1;
    if (code < 0 && device < 0)
        code = sp_cli_fail(c->cli, SP_EXIT_FAIL, "%s has no device '%s'",
                           sparoa_platform_name(c->platform), device_name(c));
    c->checks = calloc(c->models.count + 1, sizeof *c->checks);
    if (code < 0 && !c->checks) code = sp_cli_fail(c->cli, SP_EXIT_FAIL, "no memory");
    if (code < 0 && c->nodes_path && !(c->nodes = fopen(c->nodes_path, "w")))
        code = sp_cli_fail(c->cli, SP_EXIT_FAIL, "cannot write %s", c->nodes_path);
    if (c->nodes)
        fputs("model,node,op,kind,flops,bytes,measured_us,spread_us,predicted_us\n", c->nodes);
    int failed = 0;
    for (size_t i = 0; code < 0 && i < c->models.count; i++)
        failed += check_model(c, c->models.items[i], device) >= 0;
    if (code < 0 && c->check_count && sp_cli_text(c->cli)) print_checks(c);
    if (code < 0 && c->cli->json_path && !print_json(c)) code = SP_EXIT_FAIL;
    if (c->nodes && fclose(c->nodes)) code = sp_cli_fail(c->cli, SP_EXIT_FAIL, "writing failed");
    return code >= 0 ? code : failed ? SP_EXIT_FAIL : SP_EXIT_PASS;
}

int sp_cmd_calibrate(sp_cli *cli, int argc, char **argv)
{
    calibrate_command c = {.cli = cli};
    const sp_arg table[] = {
        {SP_ARG_STRING, 'o', "output", &c.output, "FILE", "write the platform file", 0, 0, NULL},
        {SP_ARG_STRING, 0, "name", &c.name, "NAME", "of the platform (default: this_machine)", 0, 0,
         NULL},
        {SP_ARG_NUMBER, 0, "seconds", &c.seconds, "S",
         "spent on the operators of each device (default: 50)", 0, 0, NULL},
        {SP_ARG_STRING, 'p', "platform", &c.platform_path, "FILE",
         "measure nothing: check this platform file", 0, 0, NULL},
        {SP_ARG_LIST, 0, "check", &c.models, "MODEL",
         "compare predicted and measured times of a model; may be repeated", 0, 0, NULL},
        {SP_ARG_STRING, 0, "nodes", &c.nodes_path, "FILE",
         "write predicted and measured times of all nodes as CSV", 0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, table, NULL, argc, argv);
    if (code < 0) code = run(&c);
    sparoa_platform_destroy(c.platform);
    sparoa_runtime_destroy(c.runtime);
    sp_samples_free(&c.all);
    sp_strings_free(&c.models);
    free(c.checks);
    return code;
}
