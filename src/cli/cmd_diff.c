/* sparoa diff: the optimised run against the plain reference run, value by value. */
#include "cli/compare.h"
#include "cli/job.h"
#include "cli/npy.h"
#include "cli/table.h"
#include "cli/tensor_text.h"
#include "cli/testset.h"
#include "cli/value.h"
#include "cli/valuemap.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct finding {
    char *node, *value;
    char shape[96];
    bool output;                 /* of the model */
    char class[16], devices[72]; /* with --against */
    double allowed;
    sp_difference d;
} finding;

typedef struct diff_command {
    sp_cli *cli;
    sp_feed feed;
    sp_job job; /* the optimised one; the reference session shares its model and inputs */
    const char *dump, *disable_passes, *compare;
    double rtol, atol;
    const char *against; /* another device, node by node; or NULL */
    bool all, quant;
    sp_tolerance tolerance;
    sp_value_map reference;
    pthread_mutex_t lock; /* the observer may be called from any thread of a run */
    finding *findings;    /* values common to both, as executed by the optimised session */
    size_t count, room, wrong;
    bool failed;
} diff_command;

static void keep(void *user, const char *node, const char *value, const sparoa_tensor *tensor,
                 const char *layout)
{
    diff_command *d = user;
    pthread_mutex_lock(&d->lock);
    sp_value_map_put(&d->reference, node, value, tensor, layout);
    pthread_mutex_unlock(&d->lock);
}

static void dump(diff_command *d, const char *value, const sparoa_tensor *tensor, const char *side)
{
    char name[128];
    sp_cli_file_name(name, sizeof name, value);
    char *path = sp_text("%s/%s.%s.npy", d->dump, name, side);
    if (!path || sp_npy_save(path, tensor, NULL)) d->failed = true;
    free(path);
}

static finding *new_finding(diff_command *d, const char *node, const char *value,
                            const sparoa_tensor *got)
{
    if (d->count == d->room) {
        size_t room = d->room ? 2 * d->room : 128;
        finding *findings = realloc(d->findings, room * sizeof *findings);
        if (!findings) {
            d->failed = true;
            return NULL;
        }
        d->findings = findings;
        d->room = room;
    }
    finding *f = &d->findings[d->count++];
    *f = (finding){.node = strdup(node ? node : ""), .value = strdup(value)};
    sp_shape_text(f->shape, sizeof f->shape, got, NULL);
    if (!f->node || !f->value) d->failed = true;
    return f;
}

static void compare(diff_command *d, const char *node, const char *value, const sparoa_tensor *got,
                    const sparoa_tensor *want, bool output)
{
    finding *f = new_finding(d, node, value, got);
    if (!f) return;
    f->output = output;
    f->d = sp_compare(got, want, &d->tolerance);
    if (f->d.same) return;
    d->wrong++;
    if (!d->dump) return;
    dump(d, value, got, "optimised");
    dump(d, value, want, "reference");
}

static void observe(void *user, const char *node, const char *value, const sparoa_tensor *tensor,
                    const char *layout)
{
    diff_command *d = user;
    sparoa_tensor plain;
    pthread_mutex_lock(&d->lock);
    const sp_kept *want = sp_value_map_get(&d->reference, value);
    if (want) {
        if (sp_tensor_copy(tensor, layout, &plain)) {
            compare(d, node, value, &plain, &want->tensor, false);
            free(plain.data);
        } else {
            d->failed = true;
        }
    }
    pthread_mutex_unlock(&d->lock);
}

/* Outputs may come from no node that observers see: compare them in any case. */
static void compare_outputs(diff_command *d, const sparoa_tensor *want)
{
    for (size_t i = 0; i < d->job.output_count; i++) {
        sparoa_value_info info;
        if (sparoa_model_output(d->job.model, i, &info)) continue;
        bool seen = false;
        for (size_t k = 0; k < d->count && !seen; k++)
            if (d->findings[k].value && !strcmp(d->findings[k].value, info.name))
                seen = d->findings[k].output = true;
        if (!seen) compare(d, "(output)", info.name, &d->job.outputs[i], &want[i], true);
    }
}

static int run_both(diff_command *d)
{
    sparoa_session_options plain = {.struct_size = sizeof plain,
                                    .disable_passes = "all",
                                    .reference = 1,
                                    .observer = keep,
                                    .observer_user = d};
    sparoa_session_options fast = {.struct_size = sizeof fast,
                                   .disable_passes = d->disable_passes,
                                   .observer = observe,
                                   .observer_user = d};
    sparoa_error err = {0};
    sparoa_session *reference = NULL;
    int64_t start = sp_cli_now_ns();
    int code = sp_job_session(d->cli, &fast, &d->job);
    if (code < 0) code = sp_job_inputs(d->cli, &d->feed, &d->job);
    if (code >= 0) return code;
    sparoa_tensor *want = calloc(d->job.output_count + 1, sizeof *want);
    if (!want) return sp_cli_fail(d->cli, SP_EXIT_FAIL, "no memory");
    sp_cli_progress(d->cli, start - 2000000000, "reference run");
    if (sparoa_session_create(d->job.model, &plain, &reference, &err) ||
        sparoa_session_run(reference, d->job.inputs.items, d->job.inputs.count, want,
                           d->job.output_count, &err))
        code = sp_job_fault(d->cli, &d->job, "reference", &err);
    sp_cli_progress(d->cli, start - 2000000000, NULL);
    if (code < 0) code = sp_job_run(d->cli, &d->job);
    if (code < 0) compare_outputs(d, want);
    sparoa_session_destroy(reference);
    free(want);
    if (code < 0 && (d->failed || d->reference.failed))
        return sp_cli_fail(d->cli, SP_EXIT_FAIL,
                           "no memory for the values, or writing to --dump failed");
    return code;
}

/* ---- device against device ---- */

static void take(void *user, const sparoa_node_comparison *r)
{
    diff_command *d = user;
    finding *f = new_finding(d, r->node, r->value, &r->got);
    char index[128];
    if (!f) return;
    snprintf(f->class, sizeof f->class, "%s", r->tolerance);
    snprintf(f->devices, sizeof f->devices, "%.31s, %.31s", r->device, r->other_device);
    f->allowed = r->scaled_allowed;
    f->d = (sp_difference){.same = r->wrong == 0,
                           .max_error = r->max_error,
                           .scaled_error = r->scaled_error,
                           .worst = r->worst,
                           .wrong = r->wrong};
    if (f->d.same) return;
    d->wrong++;
    if (r->worst >= 0)
        snprintf(f->d.reason, sizeof f->d.reason,
                 "%lld of %lld elements differ, worst at [%s]: %.9g on %.31s, %.9g on %.31s",
                 (long long)r->wrong, (long long)sparoa_tensor_count(&r->got),
                 sp_index_text(index, sizeof index, &r->got, r->worst),
                 sp_value_get(&r->got, r->worst), r->device, sp_value_get(&r->other, r->worst),
                 r->other_device);
    else
        snprintf(f->d.reason, sizeof f->d.reason, "types or shapes differ");
    if (!d->dump) return;
    dump(d, r->value, &r->got, "device");
    dump(d, r->value, &r->other, "against");
}

static int run_against(diff_command *d)
{
    sparoa_session_options options = {.struct_size = sizeof options,
                                      .disable_passes = d->disable_passes};
    sparoa_error err = {0};
    if (d->cli->plan)
        return sp_cli_fail(d->cli, SP_EXIT_USAGE, "--against compares devices, not plans");
    int code = sp_job_session(d->cli, &options, &d->job);
    if (code < 0) code = sp_job_inputs(d->cli, &d->feed, &d->job);
    if (code >= 0) return code;
    if (sparoa_session_compare(d->job.session, d->against, d->job.inputs.items, d->job.inputs.count,
                               take, d, &err))
        return sp_job_fault(d->cli, &d->job, "comparison", &err);
    if (!d->failed) return -1;
    return sp_cli_fail(d->cli, SP_EXIT_FAIL, "no memory for the values, or --dump failed");
}

static double badness(const finding *f)
{
    double excess = f->d.same ? 0 : 1e30;
    return excess + f->d.scaled_error;
}

static int by_badness(const void *a, const void *b)
{
    double x = badness(*(const finding *const *)a), y = badness(*(const finding *const *)b);
    return (x < y) - (x > y);
}

static void print_text(const diff_command *d)
{
    const finding **order = malloc((d->count + 1) * sizeof *order);
    if (!order) return;
    for (size_t i = 0; i < d->count; i++) order[i] = &d->findings[i];
    if (!d->all) qsort(order, d->count, sizeof *order, by_badness);
    size_t shown = d->all || d->count < 10 ? d->count : 10;
    if (!d->all && d->wrong > shown) shown = d->wrong < 40 ? d->wrong : 40;
    sp_table t;
    sp_table_init(&t, d->against
                          ? "<node|<value|<type|<devices|<class|max error|scaled|allowed|<verdict"
                          : "<node|<value|<type|max error|scaled|<verdict");
    for (size_t i = 0; i < shown; i++) {
        sp_table_add(&t, "%s", order[i]->node);
        sp_table_add(&t, "%s%s", order[i]->value, order[i]->output ? " (output)" : "");
        sp_table_add(&t, "%s", order[i]->shape);
        if (d->against) sp_table_add(&t, "%s", order[i]->devices);
        if (d->against) sp_table_add(&t, "%s", order[i]->class);
        sp_table_add(&t, "%.3g", order[i]->d.max_error);
        sp_table_add(&t, "%.3g", order[i]->d.scaled_error);
        if (d->against) sp_table_add(&t, "%.2g", order[i]->allowed);
        sp_table_add(&t, "%s", order[i]->d.same ? "same" : "DIFFERS");
    }
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    free(order);
    printf("\n%zu values compared", d->count);
    if (!d->against) printf(" (%zu in the reference run)", d->reference.count);
    printf(", %zu differ\n", d->wrong);
    for (size_t i = 0; i < d->count; i++)
        if (!d->findings[i].d.same) {
            printf("first: node %s, value %s: %s\n", d->findings[i].node, d->findings[i].value,
                   d->findings[i].d.reason);
            break;
        }
}

static bool print_json(const diff_command *d)
{
    FILE *file = sp_cli_json_open(d->cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, d->cli, &d->job);
    sp_json_int(&j, "compared", (int64_t)d->count);
    sp_json_int(&j, "reference_values", (int64_t)d->reference.count);
    sp_json_int(&j, "differing", (int64_t)d->wrong);
    const char *first = NULL;
    for (size_t i = 0; i < d->count && !first; i++)
        if (!d->findings[i].d.same) first = d->findings[i].value;
    sp_json_string(&j, "first", first);
    sp_json_array(&j, "values");
    for (size_t i = 0; i < d->count; i++) {
        const finding *f = &d->findings[i];
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "node", f->node);
        sp_json_string(&j, "value", f->value);
        sp_json_string(&j, "type", f->shape);
        sp_json_bool(&j, "output", f->output);
        sp_json_bool(&j, "same", f->d.same);
        sp_json_number(&j, "max_error", f->d.max_error);
        sp_json_number(&j, "scaled_error", f->d.scaled_error);
        if (d->against) sp_json_string(&j, "devices", f->devices);
        if (d->against) sp_json_string(&j, "class", f->class);
        if (d->against) sp_json_number(&j, "scaled_allowed", f->allowed);
        sp_json_string(&j, "reason", f->d.same ? NULL : f->d.reason);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    return sp_cli_json_close(d->cli, file);
}

static int run(diff_command *d)
{
    d->tolerance =
        sp_tolerance_default(strcmp(d->compare, "onnx") ? SP_COMPARE_SCALED : SP_COMPARE_ONNX);
    if (d->rtol >= 0) d->tolerance.rtol = d->rtol;
    if (d->atol >= 0) d->tolerance.atol = d->atol;
    d->tolerance.quant = d->quant;
    if (d->dump && mkdir(d->dump, 0777) && errno != EEXIST)
        return sp_cli_fail(d->cli, SP_EXIT_FAIL, "cannot make %s: %s", d->dump, strerror(errno));
    int code = sp_job_load(d->cli, &d->feed, &d->job);
    if (code < 0) code = d->against ? run_against(d) : run_both(d);
    if (code >= 0) return code;
    if (sp_cli_text(d->cli)) print_text(d);
    if (d->cli->json_path && !print_json(d)) return SP_EXIT_FAIL;
    return d->wrong ? SP_EXIT_FAIL : SP_EXIT_PASS;
}

int sp_cmd_diff(sp_cli *cli, int argc, char **argv)
{
    diff_command d = {.cli = cli, .compare = "scaled", .rtol = -1, .atol = -1};
    sp_arg rows[SP_FEED_ROWS];
    sp_feed_args(&d.feed, rows);
    const sp_arg table[] = {
        {SP_ARG_CHOICE, 0, "compare", &d.compare, NULL,
         "relative to the value's largest, or per element", 0, 0, "scaled|onnx"},
        {SP_ARG_NUMBER, 0, "rtol", &d.rtol, "X",
         "relative tolerance (default: scaled 1e-4, onnx 1e-3)", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "atol", &d.atol, "X", "absolute tolerance (default: 1e-7)", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "quant", &d.quant, NULL,
         "quantised models: one step allowed, same arg-max", 0, 0, NULL},
        {SP_ARG_STRING, 0, "against", &d.against, "NAME",
         "compare --device with this device (or reference), node by node", 0, 0, NULL},
        {SP_ARG_STRING, 0, "disable-passes", &d.disable_passes, "LIST",
         "passes the optimised side leaves out", 0, 0, NULL},
        {SP_ARG_FLAG, 'a', "all", &d.all, NULL, "print every value, in the order of execution", 0,
         0, NULL},
        {SP_ARG_STRING, 0, "dump", &d.dump, "DIR", "write differing values of both sides as .npy",
         0, 0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    pthread_mutex_init(&d.lock, NULL);
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&d);
    for (size_t i = 0; i < d.count; i++) {
        free(d.findings[i].node);
        free(d.findings[i].value);
    }
    free(d.findings);
    sp_value_map_free(&d.reference);
    sp_job_close(&d.job);
    sp_feed_free(&d.feed);
    pthread_mutex_destroy(&d.lock);
    return code;
}
