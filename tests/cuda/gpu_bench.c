/* Measurements: host time to enqueue a node, replaying a capture, and operators at the shapes of
 * real models. Each result is one JSON object a line. */
#include "gpu_check.h"

typedef struct bench_case {
    const char *name, *op;
    int64_t x[4], w[4], stride;
} bench_case;

/* Device time of one run: the median of several launches of twenty runs captured together;
 * negative: it failed. */
static double device_ns(gpu_test *t, gpu_placed *p, sparoa_event *start, sparoa_event *end)
{
    const sparoa_backend *b = t->b;
    sparoa_error err;
    sparoa_capture *runs = NULL;
    double all[9];
    b->node_run(p->kernel, p->prepared, t->queue, &p->node, p->workspace, &err);
    b->queue_sync(t->queue);
    b->capture_begin(t->queue);
    for (int i = 0; i < 20; i++)
        b->node_run(p->kernel, p->prepared, t->queue, &p->node, p->workspace, &err);
    if (b->capture_end(t->queue, &runs) != SPAROA_OK) return -1;
    for (int k = -3; k < 9; k++) { /* the first three warm up */
        b->event_record(start, t->queue);
        b->capture_launch(runs, t->queue);
        b->event_record(end, t->queue);
        b->queue_sync(t->queue);
        if (k >= 0) all[k] = b->event_elapsed_ns(start, end) / 20;
    }
    b->capture_destroy(runs);
    for (int i = 1; i < 9; i++)
        for (int j = i; j > 0 && all[j] < all[j - 1]; j--) {
            double v = all[j];
            all[j] = all[j - 1];
            all[j - 1] = v;
        }
    return all[4];
}

static void make(gpu_node *g, const bench_case *c)
{
    bool conv = strcmp(c->op, "Conv") == 0;
    gpu_start(g, c->op, 13, 1);
    gpu_input(g, SPAROA_FLOAT32, c->x[3] ? 4 : c->x[2] ? 3 : 2, c->x);
    if (c->w[0]) gpu_weight(g, conv ? 4 : 2, c->w);
    if (!conv) return;
    int64_t p = c->w[2] / 2;
    gpu_weight(g, 1, c->w);
    gpu_ints(g, "strides", 2, (const int64_t[]){c->stride, c->stride});
    gpu_ints(g, "pads", 4, (const int64_t[]){p, p, p, p});
    gpu_int(g, "group", c->w[1] == 1 ? c->w[0] : 1);
    gpu_int(g, "sp.nhwc", 1);
    gpu_string(g, "sp.act", "relu");
}

static void one(gpu_test *t, const bench_case *c, const char *options, FILE *out)
{
    gpu_node g = {.seed = 1};
    gpu_placed p;
    sparoa_error err = {0};
    sparoa_event *start = NULL, *end = NULL;
    make(&g, c);
    const sparoa_op *op = sp_op_find("", c->op, 13, NULL, 0);
    sparoa_cost cost = {0};
    if (op && op->infer(&g.node, &err) == SPAROA_OK) {
        sp_op_cost(op, &g.node, &cost);
        t->b->event_create(t->dev, &start);
        t->b->event_create(t->dev, &end);
        if (gpu_place(t, &g, &p, 0)) {
            double ns = device_ns(t, &p, start, end);
            fprintf(out,
                    "{\"case\": \"%s\", \"options\": \"%s\", \"kernel\": \"%s\", \"us\": %.2f, "
                    "\"gflops\": %.0f, "
                    "\"gbytes\": %.0f}\n",
                    c->name, options, t->b->node_variant(p.kernel), ns / 1e3, cost.flops / ns,
                    (cost.bytes_in + cost.bytes_w + cost.bytes_out) / ns);
        }
        gpu_unplace(t, &p);
        t->b->event_destroy(start);
        t->b->event_destroy(end);
    }
    gpu_free(&g);
}

/* Host time to enqueue small nodes, and to replay them from a capture. */
static void overhead(gpu_test *t, const bench_case *c, const char *options, FILE *out)
{
    enum { NODES = 100, TIMES = 50 };
    const sparoa_backend *b = t->b;
    gpu_node g = {.seed = 1};
    gpu_placed p;
    sparoa_error err = {0};
    sparoa_capture *cap = NULL;
    make(&g, c);
    const sparoa_op *op = sp_op_find("", c->op, 13, NULL, 0);
    if (!op || op->infer(&g.node, &err) != SPAROA_OK || !gpu_place(t, &g, &p, 0)) return;
    double enqueue = INFINITY, total = INFINITY, launch = INFINITY, replay = INFINITY;
    for (int k = 0; k < TIMES; k++) {
        double from = gpu_now_ns();
        for (int i = 0; i < NODES; i++)
            b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace, &err);
        double queued = gpu_now_ns();
        b->queue_sync(t->queue);
        double done = gpu_now_ns();
        enqueue = fmin(enqueue, (queued - from) / NODES);
        total = fmin(total, (done - from) / NODES);
    }
    b->capture_begin(t->queue);
    for (int i = 0; i < NODES; i++)
        b->node_run(p.kernel, p.prepared, t->queue, &p.node, p.workspace, &err);
    if (b->capture_end(t->queue, &cap) == SPAROA_OK)
        for (int k = 0; k < TIMES; k++) {
            double from = gpu_now_ns();
            b->capture_launch(cap, t->queue);
            double queued = gpu_now_ns();
            b->queue_sync(t->queue);
            launch = fmin(launch, queued - from);
            replay = fmin(replay, (gpu_now_ns() - from) / NODES);
        }
    fprintf(out,
            "{\"case\": \"overhead %s\", \"options\": \"%s\", \"kernel\": \"%s\", "
            "\"enqueue_us_per_node\": %.3f, "
            "\"total_us_per_node\": %.3f, \"graph_launch_us_per_100\": %.2f, "
            "\"graph_us_per_node\": %.3f}\n",
            c->name, options, b->node_variant(p.kernel), enqueue / 1e3, total / 1e3, launch / 1e3,
            replay / 1e3);
    b->capture_destroy(cap);
    gpu_unplace(t, &p);
    gpu_free(&g);
}

void gpu_bench(gpu_test *t, const char *options, FILE *out)
{
    static const bench_case cases[] = {
        {"resnet50 conv1 7x7/2", "Conv", {1, 224, 224, 3}, {64, 3, 7, 7}, 2},
        {"resnet50 3x3 64 56x56", "Conv", {1, 56, 56, 64}, {64, 64, 3, 3}, 1},
        {"resnet50 3x3 128 28x28", "Conv", {1, 28, 28, 128}, {128, 128, 3, 3}, 1},
        {"resnet50 3x3 512 7x7", "Conv", {1, 7, 7, 512}, {512, 512, 3, 3}, 1},
        {"resnet50 1x1 256-64 56x56", "Conv", {1, 56, 56, 256}, {64, 256, 1, 1}, 1},
        {"resnet50 1x1 1024-256 14x14", "Conv", {1, 14, 14, 1024}, {256, 1024, 1, 1}, 1},
        {"batch 8 3x3 64 56x56", "Conv", {8, 56, 56, 64}, {64, 64, 3, 3}, 1},
        {"batch 8 3x3 256 14x14", "Conv", {8, 14, 14, 256}, {256, 256, 3, 3}, 1},
        {"mobilenet depthwise 3x3 96 112x112", "Conv", {1, 112, 112, 96}, {96, 1, 3, 3}, 2},
        {"mobilenet depthwise 3x3 384 14x14", "Conv", {1, 14, 14, 384}, {384, 1, 3, 3}, 1},
        {"vit matmul 197x768x768", "MatMul", {197, 768}, {768, 768}, 0},
        {"vit matmul 197x768x3072", "MatMul", {197, 768}, {768, 3072}, 0},
        {"matmul 4096", "MatMul", {4096, 4096}, {4096, 4096}, 0},
        {"softmax 12x197x197", "Softmax", {12, 197, 197}, {0}, 0},
        {"relu 64 MiB", "Relu", {4096, 4096}, {0}, 0},
        {"transpose 4096x4096", "Transpose", {4096, 4096}, {0}, 0},
    };
    static const bench_case small[] = {
        {"relu 1024", "Relu", {1, 1024}, {0}, 0},
        {"conv 1x1 16x16", "Conv", {1, 8, 8, 16}, {16, 16, 1, 1}, 1},
        {"conv 3x3 16x16", "Conv", {1, 8, 8, 16}, {16, 16, 3, 3}, 1},
        {"conv depthwise 16", "Conv", {1, 8, 8, 16}, {16, 1, 3, 3}, 1},
    };
    t->family = "bench";
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) one(t, &cases[i], options, out);
    for (size_t i = 0; i < sizeof small / sizeof small[0]; i++)
        overhead(t, &small[i], options, out);
    fflush(out);
}
