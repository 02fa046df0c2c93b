/* sparoa run: runs a model once and shows what comes out. */
#include "cli/job.h"
#include "cli/npy.h"
#include "cli/tensor_text.h"
#include "cli/testset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct run_command {
    sp_feed feed;
    sp_job job;
    const char *folder, *labels_path, *trace_path;
    int64_t top, first;
    bool reference;
    sp_files labels;
    int64_t run_ns;
} run_command;

static bool read_labels(run_command *r)
{
    if (!r->labels_path) return true;
    FILE *file = fopen(r->labels_path, "r");
    if (!file) return false;
    char *line = NULL;
    size_t room = 0;
    bool good = true;
    while (good && getline(&line, &room, file) >= 0) {
        line[strcspn(line, "\r\n")] = 0;
        char **items = realloc(r->labels.items, (r->labels.count + 1) * sizeof *items);
        if (items) r->labels.items = items;
        good = items && (items[r->labels.count] = strdup(line));
        if (good) r->labels.count++;
    }
    free(line);
    fclose(file);
    return good;
}

static const char *label(const run_command *r, int64_t index)
{
    if ((size_t)index < r->labels.count) return r->labels.items[index];
    return "";
}

/* Largest values of one row not yet taken; NaN is never among them. */
static int64_t next_best(const sparoa_tensor *row, int64_t offset, int64_t n, const int64_t *taken,
                         int64_t count)
{
    int64_t best = -1;
    double value = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = sp_value_get(row, offset + i);
        bool is_taken = v != v;
        for (int64_t k = 0; k < count && !is_taken; k++) is_taken = taken[k] == i;
        if (is_taken || (best >= 0 && v <= value)) continue;
        best = i;
        value = v;
    }
    return best;
}

/* The best classes of each row of the first output. */
static void top_classes(const run_command *r, sp_json *j)
{
    const sparoa_tensor *out = &r->job.outputs[0];
    int64_t taken[100], count = sparoa_tensor_count(out);
    int64_t n = out->rank ? out->dims[out->rank - 1] : 1;
    if (j) sp_json_array(j, "top");
    for (int64_t offset = 0, row = 0; n > 0 && offset < count && row < 64; offset += n, row++) {
        if (j)
            sp_json_array(j, NULL);
        else if (count > n)
            printf("row %lld\n", (long long)row);
        for (int64_t k = 0; k < r->top && k < n; k++) {
            taken[k] = next_best(out, offset, n, taken, k);
            if (taken[k] < 0) break;
            double value = sp_value_get(out, offset + taken[k]);
            if (j) {
                sp_json_flat_object(j, NULL);
                sp_json_int(j, "class", taken[k]);
                sp_json_string(j, "label", r->labels.count ? label(r, taken[k]) : NULL);
                sp_json_number(j, "value", value);
                sp_json_end_object(j);
            } else {
                printf("  %5lld  %-12.6g %s\n", (long long)taken[k], value, label(r, taken[k]));
            }
        }
        if (j) sp_json_end_array(j);
    }
    if (j) sp_json_end_array(j);
}

static void print_text(const run_command *r, const sp_cli *cli)
{
    const sp_job *job = &r->job;
    char shape[160];
    sparoa_value_info info;
    for (size_t i = 0; i < job->inputs.count && !cli->quiet; i++)
        printf("input  %s %s  %s\n", job->inputs.names[i],
               sp_shape_text(shape, sizeof shape, &job->inputs.items[i], NULL),
               job->inputs.source[i]);
    for (size_t i = 0; i < job->output_count && (r->top == 0 || i > 0); i++) {
        sparoa_model_output(job->model, i, &info);
        printf("output %s %s\n    ", info.name,
               sp_shape_text(shape, sizeof shape, &job->outputs[i], NULL));
        sp_values_text(&job->outputs[i], r->first);
    }
    if (r->top && job->output_count) top_classes(r, NULL);
    if (!cli->quiet)
        printf("time   %.3f ms on %d threads (load %.1f ms, create %.1f ms)\n",
               (double)r->run_ns * 1e-6, (int)sparoa_runtime_threads(job->runtime),
               (double)job->load_ns * 1e-6, (double)job->create_ns * 1e-6);
}

static bool print_json(const run_command *r, const sp_cli *cli)
{
    FILE *file = sp_cli_json_open(cli);
    if (!file) return false;
    sp_json j = sp_json_to(file);
    sparoa_value_info info;
    sp_json_object(&j, NULL);
    sp_job_json(&j, cli, &r->job);
    sp_json_number(&j, "run_ms", (double)r->run_ns * 1e-6);
    sp_json_array(&j, "inputs");
    for (size_t i = 0; i < r->job.inputs.count; i++) {
        sp_tensor_json_begin(&j, r->job.inputs.names[i], &r->job.inputs.items[i]);
        sp_json_string(&j, "source", r->job.inputs.source[i]);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_array(&j, "outputs");
    for (size_t i = 0; i < r->job.output_count; i++) {
        sparoa_model_output(r->job.model, i, &info);
        sp_tensor_json_begin(&j, info.name, &r->job.outputs[i]);
        sp_values_json(&j, &r->job.outputs[i], r->first);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    if (r->top && r->job.output_count) top_classes(r, &j);
    sp_json_end_object(&j);
    return sp_cli_json_close(cli, file);
}

/* Writes output i to FOLDER/NAME.npy, the name made safe for a file. */
static int save_outputs(const run_command *r, const sp_cli *cli)
{
    if (mkdir(r->folder, 0777) && errno != EEXIST)
        return sp_cli_fail(cli, SP_EXIT_FAIL, "cannot make %s: %s", r->folder, strerror(errno));
    for (size_t i = 0; i < r->job.output_count; i++) {
        sparoa_error err = {0};
        sparoa_value_info info = {.name = "output"};
        sparoa_model_output(r->job.model, i, &info);
        char name[128];
        sp_cli_file_name(name, sizeof name, info.name);
        char *path = sp_text("%s/%s.npy", r->folder, name);
        if (!path) return sp_cli_fail(cli, SP_EXIT_FAIL, "no memory");
        sparoa_status status = sp_npy_save(path, &r->job.outputs[i], &err);
        free(path);
        if (status) return sp_cli_error(cli, "output", &err);
    }
    return -1;
}

static int run(run_command *r, const sp_cli *cli)
{
    sparoa_session_options options = {.struct_size = sizeof options, .reference = r->reference};
    if (!read_labels(r)) return sp_cli_fail(cli, SP_EXIT_USAGE, "cannot read %s", r->labels_path);
    if (r->labels_path && !r->top) r->top = 5;
    if (!sp_feed_model(&r->feed) && !r->top) r->top = 3; /* the built-in model tells digits */
    int code = sp_job_load(cli, &r->feed, &r->job);
    if (code < 0) code = sp_job_session(cli, &options, &r->job);
    if (code < 0) code = sp_job_inputs(cli, &r->feed, &r->job);
    if (code >= 0) return code;
    code = sp_job_trace(cli, &r->job, r->trace_path);
    int64_t start = sp_cli_now_ns();
    if (code < 0) code = sp_job_run(cli, &r->job);
    r->run_ns = sp_cli_now_ns() - start;
    if (code < 0) code = sp_job_trace_save(cli, &r->job, r->trace_path);
    if (code >= 0) return code;
    if (sp_cli_text(cli)) print_text(r, cli);
    if (cli->json_path && !print_json(r, cli)) return SP_EXIT_FAIL;
    if (r->folder) code = save_outputs(r, cli);
    return code < 0 ? SP_EXIT_PASS : code;
}

int sp_cmd_run(sp_cli *cli, int argc, char **argv)
{
    run_command r = {.first = 8};
    sp_arg rows[SP_FEED_ROWS];
    sp_feed_args(&r.feed, rows);
    const sp_arg table[] = {
        {SP_ARG_STRING, 'o', "output", &r.folder, "DIR", "write each output to DIR/NAME.npy", 0, 0,
         NULL},
        {SP_ARG_STRING, 'l', "labels", &r.labels_path, "FILE", "names of the classes, one a line",
         0, 0, NULL},
        {SP_ARG_INT, 'k', "top", &r.top, "K", "print the K best classes of the first output", 1,
         100, NULL},
        {SP_ARG_INT, 0, "first", &r.first, "N", "values shown of each output (default: 8)", 0,
         1000000, NULL},
        {SP_ARG_STRING, 0, "plan", &cli->plan, "FILE", "run as this plan says (sparoa plan -o)", 0,
         0, NULL},
        {SP_ARG_FLAG, 0, "reference", &r.reference, NULL, "use the plain kernels", 0, 0, NULL},
        {SP_ARG_STRING, 0, "trace", &r.trace_path, "FILE", "write a trace for ui.perfetto.dev", 0,
         0, NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&r, cli);
    sp_job_close(&r.job);
    sp_files_free(&r.labels);
    sp_feed_free(&r.feed);
    return code;
}
