/* sparoa profile: time, work and sparsity of every operator. */
#include "cli/choice.h"
#include "cli/inputs_dir.h"
#include "cli/job.h"
#include "cli/stats.h"
#include "cli/table.h"
#include "cli/tensor_text.h"
#include "sparoa_schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

typedef struct profile_command {
    sp_cli *cli;
    sp_feed feed;
    sp_job job;
    int64_t runs, warmup, limit;
    const char *sort, *trace_path, *csv_path, *regime, *inputs_path, *svg_path;
    sp_strings saves;        /* files for the profile */
    double sparsity, flops;  /* thresholds of the picture */
    sp_inputs_dir sets;      /* of calibration inputs; none: the feed's */
    sparoa_profile *profile; /* where it is saved or drawn */
    bool no_peak;
    sparoa_device_peak peak; /* zeros: not measured */
    sp_stats wall;           /* of a run, in ns */
    size_t count;
    sparoa_node_info *nodes;
    double parts_ns; /* sum of the nodes' mean times */
} profile_command;

static double mean_ns(const sparoa_node_info *n)
{
    return n->runs > 0 ? (double)n->total_ns / (double)n->runs : 0;
}

static double gflops(const sparoa_node_info *n)
{
    double ns = mean_ns(n);
    return ns > 0 ? n->flops / ns : 0;
}

/* Inputs of the next run, and what the run before it told of the nodes. */
static int next_run(profile_command *p, int64_t i)
{
    if (i == p->warmup) sparoa_session_profile_reset(p->job.session);
    if (!p->sets.count) return -1;
    return sp_inputs_dir_use(p->cli, &p->sets, (size_t)i % p->sets.count, &p->feed, &p->job);
}

static int sample(profile_command *p)
{
    sparoa_error err;
    const char *device = p->cli->device ? p->cli->device : "cpu";
    if (!p->profile ||
        sparoa_profile_sample(p->profile, p->job.session, device, NULL, &err) == SPAROA_OK)
        return -1;
    return sp_cli_error(p->cli, p->job.path, &err);
}

static int measure(profile_command *p)
{
    int64_t start = sp_cli_now_ns();
    sp_samples samples = {0};
    if ((size_t)p->runs < p->sets.count) p->runs = (int64_t)p->sets.count; /* each once */
    for (int64_t i = 0; i < p->warmup + p->runs; i++) {
        int code = next_run(p, i);
        int64_t before = sp_cli_now_ns();
        if (code < 0) code = sp_job_run(p->cli, &p->job);
        int64_t after = sp_cli_now_ns();
        if (code < 0 && i >= p->warmup) code = sample(p);
        if (code >= 0) {
            sp_samples_free(&samples);
            return code;
        }
        if (i >= p->warmup) sp_samples_add(&samples, (double)(after - before));
        sp_cli_progress(p->cli, start, "run %lld of %lld", (long long)(i + 1),
                        (long long)(p->warmup + p->runs));
    }
    sp_cli_progress(p->cli, start, NULL);
    p->wall = sp_stats_of(&samples);
    sp_samples_free(&samples);
    p->count = sparoa_session_node_count(p->job.session);
    p->nodes = calloc(p->count + 1, sizeof *p->nodes);
    if (!p->nodes) return sp_cli_fail(p->cli, SP_EXIT_FAIL, "no memory");
    for (size_t i = 0; i < p->count; i++) {
        sparoa_session_node(p->job.session, i, &p->nodes[i]);
        p->parts_ns += mean_ns(&p->nodes[i]);
    }
    return -1;
}

static double share(const profile_command *p, double ns)
{
    return p->parts_ns > 0 ? 100 * ns / p->parts_ns : 0;
}

static double of_peak(const profile_command *p, double rate)
{
    return p->peak.gflops_all > 0 ? 100 * rate / p->peak.gflops_all : 0;
}

static void add_zeros(sp_table *t, double zeros)
{
    if (zeros < 0)
        sp_table_add(t, "-");
    else
        sp_table_add(t, "%.1f", 100 * zeros);
}

static void fill_table(const profile_command *p, const sparoa_node_info *const *order, size_t count,
                       sp_table *t)
{
    sp_table_init(t,
                  "<node|<op|<class|<kernel|<output|mean us|min us|share %|MFLOP|KB|FLOP/B|GFLOP/s|"
                  "% peak|w zero %|in zero %|out zero %");
    for (size_t i = 0; i < count; i++) {
        const sparoa_node_info *n = order[i];
        char shape[128];
        sp_table_add(t, "%s", n->name && n->name[0] ? n->name : n->output ? n->output : "");
        sp_table_add(t, "%s%s%s", n->domain ? n->domain : "", n->domain && n->domain[0] ? "::" : "",
                     n->op);
        sp_table_add(t, "%s", n->op_class ? n->op_class : "");
        sp_table_add(t, "%s", n->kernel ? n->kernel : "");
        sp_table_add(t, "%s", sp_shape_text(shape, sizeof shape, &n->output_shape, NULL));
        sp_table_add(t, "%.1f", mean_ns(n) * 1e-3);
        sp_table_add(t, "%.1f", (double)n->min_ns * 1e-3);
        sp_table_add(t, "%.1f", share(p, mean_ns(n)));
        sp_table_add(t, "%.3f", n->flops * 1e-6);
        sp_table_add(t, "%.1f", n->bytes / 1024);
        sp_table_add(t, "%.2f", n->bytes > 0 ? n->flops / n->bytes : 0);
        sp_table_add(t, "%.2f", gflops(n));
        if (p->peak.gflops_all > 0)
            sp_table_add(t, "%.1f", of_peak(p, gflops(n)));
        else
            sp_table_add(t, "-");
        add_zeros(t, n->weight_zeros);
        add_zeros(t, n->input_zeros);
        add_zeros(t, n->output_zeros);
    }
}

/* One row of the totals by class. */
typedef struct class_total {
    const char *name;
    int64_t nodes;
    double ns, flops, bytes;
} class_total;

static int by_class_time(const void *a, const void *b)
{
    double x = ((const class_total *)a)->ns, y = ((const class_total *)b)->ns;
    return (x < y) - (x > y);
}

static size_t class_totals(const profile_command *p, class_total *totals, size_t room)
{
    size_t count = 0;
    for (size_t i = 0; i < p->count; i++) {
        const char *name = p->nodes[i].op_class ? p->nodes[i].op_class : "";
        size_t k = 0;
        while (k < count && strcmp(totals[k].name, name)) k++;
        if (k == room) continue;
        if (k == count) totals[count++] = (class_total){.name = name};
        totals[k].nodes++;
        totals[k].ns += mean_ns(&p->nodes[i]);
        totals[k].flops += p->nodes[i].flops;
        totals[k].bytes += p->nodes[i].bytes;
    }
    qsort(totals, count, sizeof *totals, by_class_time);
    return count;
}

static int by_time(const void *a, const void *b)
{
    double x = mean_ns(*(const sparoa_node_info *const *)a),
           y = mean_ns(*(const sparoa_node_info *const *)b);
    return (x < y) - (x > y);
}

static int by_flops(const void *a, const void *b)
{
    double x = (*(const sparoa_node_info *const *)a)->flops,
           y = (*(const sparoa_node_info *const *)b)->flops;
    return (x < y) - (x > y);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(const sparoa_node_info *const *)a)->name,
                  (*(const sparoa_node_info *const *)b)->name);
}

static const sparoa_node_info **sorted(const profile_command *p)
{
    const sparoa_node_info **order = malloc((p->count + 1) * sizeof *order);
    if (!order) return NULL;
    for (size_t i = 0; i < p->count; i++) order[i] = &p->nodes[i];
    if (!strcmp(p->sort, "time")) qsort(order, p->count, sizeof *order, by_time);
    if (!strcmp(p->sort, "flops")) qsort(order, p->count, sizeof *order, by_flops);
    if (!strcmp(p->sort, "name")) qsort(order, p->count, sizeof *order, by_name);
    return order;
}

static void print_summary(const profile_command *p)
{
    class_total totals[64];
    size_t count = class_totals(p, totals, 64);
    sp_table t;
    sp_table_init(&t, "<class|nodes|mean us|share %|MFLOP|KB|GFLOP/s|% peak");
    for (size_t i = 0; i < count; i++) {
        double rate = totals[i].ns > 0 ? totals[i].flops / totals[i].ns : 0;
        sp_table_add(&t, "%s", totals[i].name);
        sp_table_add(&t, "%lld", (long long)totals[i].nodes);
        sp_table_add(&t, "%.1f", totals[i].ns * 1e-3);
        sp_table_add(&t, "%.1f", share(p, totals[i].ns));
        sp_table_add(&t, "%.3f", totals[i].flops * 1e-6);
        sp_table_add(&t, "%.1f", totals[i].bytes / 1024);
        sp_table_add(&t, "%.2f", rate);
        if (p->peak.gflops_all > 0)
            sp_table_add(&t, "%.1f", of_peak(p, rate));
        else
            sp_table_add(&t, "-");
    }
    putchar('\n');
    sp_table_print(&t, stdout);
    sp_table_free(&t);
    double wall = p->wall.mean;
    printf("\n%lld runs on %d threads: mean %.3f ms, p50 %.3f, min %.3f, max %.3f\n",
           (long long)p->runs, (int)sparoa_runtime_threads(p->job.runtime), wall * 1e-6,
           p->wall.p50 * 1e-6, p->wall.min * 1e-6, p->wall.max * 1e-6);
    printf("operators add up to %.3f ms of %.3f ms wall time: %.1f %%; %.3f ms are between them\n",
           p->parts_ns * 1e-6, wall * 1e-6, 100 * p->parts_ns / wall, (wall - p->parts_ns) * 1e-6);
    if (p->peak.gflops_all > 0)
        printf("measured peak: %.1f GFLOP/s on all threads, %.1f on one, %.1f GB/s\n",
               p->peak.gflops_all, p->peak.gflops_one, p->peak.bandwidth);
}

static int print_text(const profile_command *p)
{
    const sparoa_node_info **order = sorted(p);
    if (!order) return sp_cli_fail(p->cli, SP_EXIT_FAIL, "no memory");
    size_t shown = p->limit > 0 && (size_t)p->limit < p->count ? (size_t)p->limit : p->count;
    sp_table t;
    int code = -1;
    if (p->csv_path) {
        FILE *file = p->csv_path[0] ? fopen(p->csv_path, "w") : stdout;
        fill_table(p, order, p->count, &t);
        if (file) sp_table_csv(&t, file);
        if (!file || (file != stdout && fclose(file)))
            code = sp_cli_fail(p->cli, SP_EXIT_FAIL, "cannot write %s: %s", p->csv_path,
                               strerror(errno));
        sp_table_free(&t);
    }
    if (sp_cli_text(p->cli) && !(p->csv_path && !p->csv_path[0])) {
        fill_table(p, order, shown, &t);
        sp_table_print(&t, stdout);
        sp_table_free(&t);
        if (shown < p->count) printf("... %zu more nodes\n", p->count - shown);
        print_summary(p);
    }
    free(order);
    return code;
}

static void node_json(sp_json *j, const profile_command *p, const sparoa_node_info *n)
{
    sp_json_flat_object(j, NULL);
    sp_json_string(j, "name", n->name);
    sp_json_string(j, "op", n->op);
    sp_json_string(j, "domain", n->domain);
    sp_json_string(j, "class", n->op_class);
    sp_json_string(j, "kernel", n->kernel);
    sp_json_string(j, "device", n->device);
    sp_json_string(j, "output", n->output);
    sp_json_string(j, "dtype", sparoa_dtype_name(n->output_shape.dtype));
    sp_shape_json(j, "shape", &n->output_shape, NULL);
    sp_json_number(j, "mean_us", mean_ns(n) * 1e-3);
    sp_json_number(j, "min_us", (double)n->min_ns * 1e-3);
    sp_json_number(j, "share", share(p, mean_ns(n)) / 100);
    sp_json_number(j, "flops", n->flops);
    sp_json_number(j, "bytes", n->bytes);
    sp_json_number(j, "weight_bytes", n->weight_bytes);
    sp_json_number(j, "gflops", gflops(n));
    if (p->peak.gflops_all > 0)
        sp_json_number(j, "of_peak", of_peak(p, gflops(n)) / 100);
    else
        sp_json_null(j, "of_peak");
    if (n->weight_zeros >= 0)
        sp_json_number(j, "weight_zeros", n->weight_zeros);
    else
        sp_json_null(j, "weight_zeros");
    if (n->input_zeros >= 0)
        sp_json_number(j, "input_zeros", n->input_zeros);
    else
        sp_json_null(j, "input_zeros");
    if (n->output_zeros >= 0)
        sp_json_number(j, "output_zeros", n->output_zeros);
    else
        sp_json_null(j, "output_zeros");
    sp_json_end_object(j);
}

static bool print_json(const profile_command *p)
{
    FILE *file = sp_cli_json_open(p->cli);
    const sparoa_node_info **order = file ? sorted(p) : NULL;
    if (!order) return false;
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_job_json(&j, p->cli, &p->job);
    sp_choice_json(&j, p->cli, &p->job);
    sp_json_number(&j, "wall_mean_us", p->wall.mean * 1e-3);
    sp_json_number(&j, "wall_min_us", p->wall.min * 1e-3);
    sp_json_number(&j, "operators_us", p->parts_ns * 1e-3);
    sp_json_int(&j, "runs", p->runs);
    sp_json_flat_object(&j, "peak");
    sp_json_number(&j, "gflops_one", p->peak.gflops_one);
    sp_json_number(&j, "gflops_all", p->peak.gflops_all);
    sp_json_number(&j, "bandwidth", p->peak.bandwidth);
    sp_json_end_object(&j);
    class_total totals[64];
    size_t count = class_totals(p, totals, 64);
    sp_json_array(&j, "classes");
    for (size_t i = 0; i < count; i++) {
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "class", totals[i].name);
        sp_json_int(&j, "nodes", totals[i].nodes);
        sp_json_number(&j, "mean_us", totals[i].ns * 1e-3);
        sp_json_number(&j, "share", share(p, totals[i].ns) / 100);
        sp_json_number(&j, "flops", totals[i].flops);
        sp_json_number(&j, "bytes", totals[i].bytes);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_array(&j, "nodes");
    for (size_t i = 0; i < p->count; i++) node_json(&j, p, order[i]);
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    free(order);
    return sp_cli_json_close(p->cli, file);
}

static void trace_name(sp_json *j, const char *what, const char *name)
{
    sp_json_flat_object(j, NULL);
    sp_json_string(j, "name", what);
    sp_json_string(j, "ph", "M");
    sp_json_int(j, "pid", 1);
    sp_json_int(j, "tid", 1);
    sp_json_object(j, "args");
    sp_json_string(j, "name", name);
    sp_json_end_object(j);
    sp_json_end_object(j);
}

/* The last run in the format of Chrome's about:tracing and Perfetto. */
static int write_trace(const profile_command *p)
{
    FILE *file = fopen(p->trace_path, "w");
    if (!file)
        return sp_cli_fail(p->cli, SP_EXIT_FAIL, "cannot write %s: %s", p->trace_path,
                           strerror(errno));
    sp_json j = sp_json_to(file);
    sp_json_object(&j, NULL);
    sp_json_string(&j, "displayTimeUnit", "ms");
    sp_json_array(&j, "traceEvents");
    trace_name(&j, "process_name", p->job.path);
    trace_name(&j, "thread_name", p->count ? p->nodes[0].device : "cpu");
    for (size_t i = 0; i < p->count; i++) {
        const sparoa_node_info *n = &p->nodes[i];
        char shape[128];
        sp_json_flat_object(&j, NULL);
        sp_json_string(&j, "name", n->name && n->name[0] ? n->name : n->op);
        sp_json_string(&j, "cat", n->op_class);
        sp_json_string(&j, "ph", "X");
        sp_json_number(&j, "ts", (double)n->last_start_ns * 1e-3);
        sp_json_number(&j, "dur", (double)n->last_ns * 1e-3);
        sp_json_int(&j, "pid", 1);
        sp_json_int(&j, "tid", 1);
        sp_json_object(&j, "args");
        sp_json_string(&j, "op", n->op);
        sp_json_string(&j, "kernel", n->kernel);
        sp_json_string(&j, "output", sp_shape_text(shape, sizeof shape, &n->output_shape, NULL));
        sp_json_number(&j, "mflop", n->flops * 1e-6);
        sp_json_number(&j, "kb", n->bytes / 1024);
        sp_json_end_object(&j);
        sp_json_end_object(&j);
    }
    sp_json_end_array(&j);
    sp_json_end_object(&j);
    bool good = !ferror(file);
    if (fclose(file) || !good)
        return sp_cli_fail(p->cli, SP_EXIT_FAIL, "writing %s failed", p->trace_path);
    return -1;
}

static sparoa_regime regime_of(const profile_command *p)
{
    return strcmp(p->regime, "eager") ? SPAROA_REGIME_GRAPH : SPAROA_REGIME_EAGER;
}

/* The first set of inputs gives the shapes. */
static int open_inputs(profile_command *p)
{
    sparoa_error err;
    sp_feed first = p->feed;
    int code = p->inputs_path ? sp_inputs_dir_open(p->cli, p->inputs_path, &p->sets) : -1;
    if (code >= 0) return code;
    if (p->sets.count) first.inputs = p->sets.sets[0];
    code = sp_job_inputs(p->cli, &first, &p->job);
    if (code >= 0 || !(p->saves.count || p->svg_path)) return code;
    if (sparoa_profile_create(p->job.model, p->job.inputs.items, p->job.inputs.count, regime_of(p),
                              &p->profile, &err))
        return sp_cli_error(p->cli, p->job.path, &err);
    return -1;
}

static int save(const profile_command *p)
{
    sparoa_error err;
    for (size_t i = 0; i < p->saves.count; i++)
        if (sparoa_profile_save(p->profile, p->saves.items[i], &err))
            return sp_cli_error(p->cli, p->saves.items[i], &err);
    if (p->svg_path && sparoa_profile_svg(p->profile, p->sparsity, p->flops, p->svg_path, &err))
        return sp_cli_error(p->cli, p->svg_path, &err);
    return -1;
}

static int run(profile_command *p)
{
    sparoa_session_options options = {.struct_size = sizeof options,
                                      .profile = 1,
                                      .disable_passes = sparoa_profile_passes(regime_of(p))};
    int code = sp_job_load(p->cli, &p->feed, &p->job);
    if (code < 0) code = sp_job_session(p->cli, &options, &p->job);
    if (code < 0) code = open_inputs(p);
    if (code < 0) code = sp_job_tune(p->cli, &p->job);
    if (code < 0 && !p->no_peak) sparoa_device_measure(p->job.runtime, 0, 150, &p->peak, NULL);
    if (code < 0) code = measure(p);
    if (code < 0) code = print_text(p);
    if (code < 0 && p->cli->json_path && !print_json(p)) code = SP_EXIT_FAIL;
    if (code < 0 && p->trace_path) code = write_trace(p);
    if (code < 0 && p->profile) code = save(p);
    return code < 0 ? SP_EXIT_PASS : code;
}

int sp_cmd_profile(sp_cli *cli, int argc, char **argv)
{
    profile_command p = {.cli = cli, .runs = 20, .warmup = 3, .sort = "order", .regime = "graph"};
    sp_arg rows[SP_FEED_ROWS];
    sp_feed_args(&p.feed, rows);
    const sp_arg table[] = {
        {SP_ARG_INT, 'n', "runs", &p.runs, "N", "measured runs (default: 20)", 1, 1000000, NULL},
        {SP_ARG_INT, 0, "warmup", &p.warmup, "N", "runs before them (default: 3)", 0, 1000000,
         NULL},
        {SP_ARG_CHOICE, 's', "sort", &p.sort, NULL, "order of the rows (default: as executed)", 0,
         0, "order|time|flops|name"},
        {SP_ARG_INT, 0, "limit", &p.limit, "N", "rows to show (default: all)", 1, INT64_MAX, NULL},
        {SP_ARG_STRING, 0, "trace", &p.trace_path, "FILE",
         "write the last run as Chrome trace events", 0, 0, NULL},
        {SP_ARG_OPTIONAL, 0, "csv", &p.csv_path, "FILE",
         "print the table as CSV, or write it to FILE", 0, 0, NULL},
        {SP_ARG_FLAG, 0, "no-peak", &p.no_peak, NULL, "do not measure the machine's peak first", 0,
         0, NULL},
        {SP_ARG_STRING, 0, "inputs", &p.inputs_path, "FOLDER",
         "calibration inputs, each run once or more: .npy, .pb, pictures, or a folder for each set",
         0, 0, NULL},
        {SP_ARG_CHOICE, 0, "regime", &p.regime, NULL,
         "operators as in the model, or fused (default: graph)", 0, 0, "eager|graph"},
        {SP_ARG_LIST, 0, "save", &p.saves, "FILE",
         "write the profile: .yaml, .json or .csv; may be repeated", 0, 0, NULL},
        {SP_ARG_STRING, 0, "svg", &p.svg_path, "FILE", "draw the quadrants", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "sparsity", &p.sparsity, "X",
         "share of zeros that divides them (default: 0.4)", 0, 0, NULL},
        {SP_ARG_NUMBER, 0, "heavy", &p.flops, "X", "FLOPs that divide them (default: 1e8)", 0, 0,
         NULL},
        {SP_ARG_END, 0, NULL, NULL, NULL, NULL, 0, 0, NULL},
    };
    int code = sp_cli_parse(cli, rows, table, argc, argv);
    if (code < 0) code = run(&p);
    free(p.nodes);
    sparoa_profile_destroy(p.profile);
    sp_inputs_dir_close(&p.sets);
    sp_strings_free(&p.saves);
    sp_job_close(&p.job);
    sp_feed_free(&p.feed);
    return code;
}
