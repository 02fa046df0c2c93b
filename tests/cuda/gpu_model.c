/*
 * gpu_model PLUGIN MODEL --batch N --precision P [--options LIST] [--passes LIST] [--nodes]
 * [--turns] [--seconds S]
 *
 * Device time of a whole model: all nodes that the device runs, captured together and replayed, and
 * the host's time to launch that. One JSON object on standard output. With --nodes also the device
 * time of each node, the longest first, and the nodes that the device does not run. Nodes on the
 * host and copies to and from it do not count. With --turns a line on standard input asks for the
 * next measurement, until there is none: to measure in turns with something else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/objects.h"
#include "base/clock.h"
#include "ops/op.h"

typedef struct arguments {
    const char *plugin, *model, *precision, *options, *passes;
    long batch;
    double seconds;
    bool nodes, turns;
} arguments;

typedef struct timing {
    double device_us, launch_us;
} timing;

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool on_device(const sp_frame *f, size_t i)
{
    return f->nodes[i].device == 1 && !f->nodes[i].skip;
}

static bool enqueue(sp_frame *f, const sp_device *d, size_t i)
{
    sp_frame_node *n = &f->nodes[i];
    sparoa_error err = {0};
    if (d->table->node_run(sp_node_kernel(f, i), n->prepared, d->queue, &n->view, n->workspace,
                           &err) == SPAROA_OK)
        return true;
    fprintf(stderr, "%s: %s\n", n->view.name, err.message);
    return false;
}

/* Some nodes of a frame, captured. */
typedef struct recording {
    const sp_device *d;
    sparoa_capture *capture;
    sparoa_event *start, *stop;
    int times; /* that the nodes are in it */
} recording;

static void drop(recording *r)
{
    const sparoa_backend *t = r->d->table;
    if (r->capture) t->capture_destroy(r->capture);
    if (r->start) t->event_destroy(r->start);
    if (r->stop) t->event_destroy(r->stop);
}

/* Nodes first..end-1; false: it can't be done. */
static bool record(recording *r, sp_frame *f, const sp_device *d, size_t first, size_t end,
                   int times)
{
    const sparoa_backend *t = d->table;
    *r = (recording){.d = d, .times = times};
    for (size_t i = first; i < end; i++)
        if (on_device(f, i) && !enqueue(f, d, i)) return false;
    if (t->queue_sync(d->queue) != SPAROA_OK || t->capture_begin(d->queue) != SPAROA_OK)
        return false;
    for (int k = 0; k < times; k++)
        for (size_t i = first; i < end; i++)
            if (on_device(f, i)) enqueue(f, d, i);
    return t->capture_end(d->queue, &r->capture) == SPAROA_OK &&
           t->event_create(d->dev, &r->start) == SPAROA_OK &&
           t->event_create(d->dev, &r->stop) == SPAROA_OK;
}

/* Medians of the launches that fit in the time, at least ten. */
static timing replay(recording *r, double seconds)
{
    enum { MOST = 4000 };
    static double device[MOST], launch[MOST];
    const sp_device *d = r->d;
    const sparoa_backend *t = d->table;
    int n = 0;
    for (int i = 0; i < 5; i++) t->capture_launch(r->capture, d->queue);
    t->queue_sync(d->queue);
    int64_t begin = sp_now_ns();
    while (n < MOST && (n < 10 || (double)(sp_now_ns() - begin) < seconds * 1e9)) {
        t->event_record(r->start, d->queue);
        int64_t before = sp_now_ns();
        t->capture_launch(r->capture, d->queue);
        launch[n] = (double)(sp_now_ns() - before) / 1e3;
        t->event_record(r->stop, d->queue);
        if (t->queue_sync(d->queue) != SPAROA_OK) return (timing){-1, -1};
        device[n++] = t->event_elapsed_ns(r->start, r->stop) / 1e3 / r->times;
    }
    qsort(device, (size_t)n, sizeof *device, by_value);
    qsort(launch, (size_t)n, sizeof *launch, by_value);
    return (timing){device[n / 2], launch[n / 2]};
}

static timing measure(sp_frame *f, const sp_device *d, size_t first, size_t end, int times,
                      double seconds)
{
    recording r;
    timing result = {-1, -1};
    if (record(&r, f, d, first, end, times)) result = replay(&r, seconds);
    drop(&r);
    return result;
}

typedef struct line {
    double us;
    size_t node;
} line;

static int by_time(const void *a, const void *b)
{
    return by_value(&((const line *)b)->us, &((const line *)a)->us);
}

static void print_shape(const sparoa_tensor *t)
{
    for (int32_t i = 0; t && i < t->rank; i++)
        printf("%s%lld", i ? "x" : "", (long long)t->dims[i]);
}

static void list_nodes(sp_frame *f, const sp_device *d)
{
    size_t count = f->program->graph->node_count, n = 0;
    line *lines = calloc(count, sizeof *lines);
    for (size_t i = 0; lines && i < count; i++) {
        const sparoa_node *v = &f->nodes[i].view;
        if (on_device(f, i))
            lines[n++] = (line){measure(f, d, i, i + 1, 10, 0).device_us, i};
        else if (!f->nodes[i].skip)
            printf("on the host: %s '%s'\n", v->op, v->name);
    }
    if (lines) qsort(lines, n, sizeof *lines, by_time);
    double sum = 0;
    for (size_t k = 0; k < n; k++) sum += lines[k].us;
    printf("sum of %zu nodes: %.1f us\n", n, sum);
    for (size_t k = 0; k < n; k++) {
        const sparoa_node *v = &f->nodes[lines[k].node].view;
        printf("%8.2f us  %-18s %-20s ", lines[k].us, v->op,
               d->table->node_variant(sp_node_kernel(f, lines[k].node)));
        for (int32_t i = 0; i < v->n_in && i < 2; i++) {
            print_shape(v->in[i]);
            printf(i ? "" : " * ");
        }
        printf(" -> ");
        print_shape(v->out[0]);
        printf(" %s\n", sparoa_attr_string(v, "sp.act", ""));
    }
    free(lines);
}

static sparoa_tensor *make_inputs(const sparoa_model *model, long batch, size_t *count)
{
    *count = sparoa_model_input_count(model);
    sparoa_tensor *inputs = calloc(*count, sizeof *inputs);
    for (size_t i = 0; inputs && i < *count; i++) {
        sparoa_value_info info;
        if (sparoa_model_input(model, i, &info) != SPAROA_OK) continue;
        inputs[i].dtype = info.dtype;
        inputs[i].rank = info.rank;
        for (int32_t k = 0; k < info.rank; k++)
            inputs[i].dims[k] = info.dims[k] < 0 || k == 0 ? batch : info.dims[k];
        size_t bytes = sparoa_tensor_bytes(&inputs[i]);
        inputs[i].data = calloc(1, bytes);
        if (!inputs[i].data || info.dtype != SPAROA_FLOAT32) continue;
        for (size_t k = 0; k < bytes / 4; k++)
            ((float *)inputs[i].data)[k] = (float)((k * 2654435761u >> 8) % 2000) / 1000 - 1;
    }
    return inputs;
}

static int run(const arguments *a)
{
    sparoa_error err = {0};
    sparoa_runtime *runtime;
    sparoa_model *model;
    sparoa_session *s;
    sparoa_runtime_options ro = {.struct_size = sizeof ro};
    sparoa_session_options so = {
        .struct_size = sizeof so, .device = "cuda0", .disable_passes = a->passes};
    if (!strcmp(a->precision, "tf32")) so.precision = SPAROA_PRECISION_TF32;
    if (!strcmp(a->precision, "float16")) so.precision = SPAROA_PRECISION_FLOAT16;
    size_t n_in;
    if (sparoa_runtime_create(&ro, &runtime, &err) ||
        sparoa_runtime_load_plugin(runtime, a->plugin, a->options, &err) ||
        sparoa_model_load(runtime, a->model, NULL, &model, &err) ||
        sparoa_session_create(model, &so, &s, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    sparoa_tensor *inputs = make_inputs(model, a->batch, &n_in);
    sparoa_tensor outputs[64] = {{0}};
    size_t n_out = sparoa_model_output_count(model);
    int64_t before = sp_now_ns();
    if (sparoa_session_prepare(s, inputs, n_in, &err) ||
        sparoa_session_run(s, inputs, n_in, outputs, n_out, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    double first_ms = (double)(sp_now_ns() - before) / 1e6;
    size_t count = s->graph->node_count, device = 0, host = 0;
    for (size_t i = 0; i < count; i++) {
        if (s->frame->nodes[i].skip) continue;
        if (on_device(s->frame, i))
            device++;
        else
            host++;
    }
    recording r;
    timing t = {-1, -1};
    char asked[64];
    bool ok = record(&r, s->frame, &s->devices[1], 0, count, 1);
    while (ok && (!a->turns || fgets(asked, sizeof asked, stdin))) {
        t = replay(&r, a->seconds);
        printf("{\"model\": \"%s\", \"precision\": \"%s\", \"batch\": %ld, \"device_us\": %.1f, "
               "\"launch_us\": %.2f, \"nodes\": %zu, \"host_nodes\": %zu, \"prepare_ms\": %.0f}\n",
               a->model, a->precision, a->batch, t.device_us, t.launch_us, device, host, first_ms);
        fflush(stdout);
        if (!a->turns || t.device_us < 0) break;
    }
    drop(&r);
    if (a->nodes) list_nodes(s->frame, &s->devices[1]);
    for (size_t i = 0; i < n_in; i++) free(inputs[i].data);
    free(inputs);
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(runtime);
    return t.device_us < 0;
}

int main(int argc, char **argv)
{
    arguments a = {.batch = 1, .precision = "float32", .seconds = 0.3};
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--nodes"))
            a.nodes = true;
        else if (!strcmp(argv[i], "--turns"))
            a.turns = true;
        else if (!strcmp(argv[i], "--batch") && i + 1 < argc)
            a.batch = atol(argv[++i]);
        else if (!strcmp(argv[i], "--precision") && i + 1 < argc)
            a.precision = argv[++i];
        else if (!strcmp(argv[i], "--options") && i + 1 < argc)
            a.options = argv[++i];
        else if (!strcmp(argv[i], "--passes") && i + 1 < argc)
            a.passes = argv[++i];
        else if (!strcmp(argv[i], "--seconds") && i + 1 < argc)
            a.seconds = atof(argv[++i]);
        else if (!a.plugin)
            a.plugin = argv[i];
        else
            a.model = argv[i];
    }
    if (!a.model || a.batch < 1) {
        fprintf(stderr, "usage: gpu_model PLUGIN MODEL [--batch N] [--precision P] [--nodes]\n");
        return 2;
    }
    return run(&a);
}
