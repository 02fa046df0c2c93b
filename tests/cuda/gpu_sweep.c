/* What zeros in the weights gain: layers of real models, pruned more and more. */
#include "gpu_check.h"

typedef struct layer {
    const char *name;
    int64_t pixels, in, out; /* of one image */
} layer;

typedef struct side {
    gpu_test *t;
    gpu_placed p;
    sparoa_capture *runs;
    sparoa_event *start, *end;
} side;

enum { RUNS = 20, ROUNDS = 15 };

static bool start(side *s, gpu_test *t, gpu_node *g)
{
    sparoa_error err;
    const sparoa_backend *b = t->b;
    *s = (side){.t = t};
    if (!gpu_place(t, g, &s->p, 0)) return false;
    b->event_create(t->dev, &s->start);
    b->event_create(t->dev, &s->end);
    b->node_run(s->p.kernel, s->p.prepared, t->queue, &s->p.node, s->p.workspace, &err);
    b->queue_sync(t->queue);
    if (b->capture_begin(t->queue) != SPAROA_OK) return false;
    for (int i = 0; i < RUNS; i++)
        b->node_run(s->p.kernel, s->p.prepared, t->queue, &s->p.node, s->p.workspace, &err);
    return b->capture_end(t->queue, &s->runs) == SPAROA_OK;
}

static double measure(side *s)
{
    const sparoa_backend *b = s->t->b;
    b->event_record(s->start, s->t->queue);
    b->capture_launch(s->runs, s->t->queue);
    b->event_record(s->end, s->t->queue);
    b->queue_sync(s->t->queue);
    return b->event_elapsed_ns(s->start, s->end) / RUNS / 1e3;
}

static void stop(side *s)
{
    const sparoa_backend *b = s->t->b;
    b->capture_destroy(s->runs);
    b->event_destroy(s->start);
    b->event_destroy(s->end);
    gpu_unplace(s->t, &s->p);
}

static int by_value(const void *a, const void *b)
{
    double u = *(const double *)a, v = *(const double *)b;
    return (u > v) - (u < v);
}

static double median(double *v)
{
    qsort(v, ROUNDS, sizeof *v, by_value);
    return v[ROUNDS / 2];
}

static void one(gpu_test tests[GPU_SIDES], const layer *l, int64_t batch, int zeros, FILE *out)
{
    gpu_node g = {.seed = 7};
    sparoa_error err;
    side sides[GPU_SIDES];
    double us[GPU_SIDES][ROUNDS], ratio[ROUNDS];
    bool ok = true;
    gpu_start(&g, "Conv", 13, 1);
    gpu_input(&g, SPAROA_FLOAT32, 4, DIMS(batch, l->pixels, 1, l->in));
    sparoa_tensor *w = gpu_weight(&g, 4, DIMS(l->out, l->in, 1, 1));
    for (int64_t i = 0; i < l->out * l->in; i++)
        if (gpu_range(&g, 0, 99) < zeros) ((float *)w->data)[i] = 0;
    gpu_weight(&g, 1, &l->out);
    gpu_int(&g, "sp.nhwc", 1);
    gpu_string(&g, "sp.act", "relu");
    const sparoa_op *op = sp_op_find("", "Conv", 13, NULL, 0);
    if (!op || op->infer(&g.node, &err) != SPAROA_OK) return;
    for (int k = 0; k < GPU_SIDES; k++) ok = start(&sides[k], &tests[k], &g) && ok;
    for (int i = -2; ok && i < ROUNDS; i++) {
        double v[GPU_SIDES];
        for (int k = 0; k < GPU_SIDES; k++) v[k] = measure(&sides[k]);
        for (int k = 0; i >= 0 && k < GPU_SIDES; k++) us[k][i] = v[k];
        if (i >= 0) ratio[i] = v[1] / v[0];
    }
    if (ok) {
        qsort(ratio, ROUNDS, sizeof *ratio, by_value);
        fprintf(out,
                "{\"layer\": \"%s\", \"batch\": %lld, \"zeros\": %d, \"kernel\": \"%s\", \"us\": "
                "%.2f, \"dense_us\": %.2f, \"own_us\": %.2f, \"cusparse_us\": %.2f, \"speedup\": "
                "%.3f, \"quartiles\": [%.3f, %.3f]}\n",
                l->name, (long long)batch, zeros, tests[0].b->node_variant(sides[0].p.kernel),
                median(us[0]), median(us[1]), median(us[2]), median(us[3]), ratio[ROUNDS / 2],
                ratio[ROUNDS / 4], ratio[ROUNDS * 3 / 4]);
        fflush(out);
    }
    for (int k = 0; k < GPU_SIDES; k++) stop(&sides[k]);
    gpu_free(&g);
}

void gpu_sweep(gpu_test tests[GPU_SIDES], FILE *out)
{
    static const layer layers[] = {{"resnet50 256-64 56x56", 3136, 256, 64},
                                   {"resnet50 1024-256 14x14", 196, 1024, 256},
                                   {"mobilenet_v2 96-24 56x56", 3136, 96, 24},
                                   {"mobilenet_v2 960-320 7x7", 49, 960, 320},
                                   {"vit 768-3072", 197, 768, 3072}};
    static const int zeros[] = {0, 60, 70, 80, 90, 95, 99};
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++)
        for (int64_t batch = 1; batch <= 8; batch *= 8)
            for (size_t z = 0; z < sizeof zeros / sizeof zeros[0]; z++)
                one(tests, &layers[i], batch, zeros[z], out);
}
