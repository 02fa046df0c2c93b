/*
 * bench_sparse [ISA] [ZEROS...] - the sparse CPU kernel against the dense one on layers of real
 * networks with 0 to 99 % of their weights zero, one thread, as lines of a table: times of both, in
 * turn, and which of them the library takes. Dense and sparse are the node kernels that sessions
 * run. Exit code 1 if the library's choice is more than 2 % slower than dense anywhere.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backends/cpu/spmm_run.h"
#include "base/clock.h"

#define ROUNDS 15
#define ROUND_NS 300000 /* of one kernel, at least */

typedef struct layer {
    const char *name;
    int64_t size, stride; /* of a square image, and the convolution; size 0: MatMul of m rows */
    int64_t m, n, k;
} layer;

static const layer layers[] = {
    {"MobileNetV2 expand 112x112", 112, 1, 0, 96, 16},
    {"MobileNetV2 expand 56x56", 56, 1, 0, 144, 24},
    {"MobileNetV2 project 56x56", 56, 1, 0, 24, 144},
    {"MobileNetV2 expand 28x28", 28, 1, 0, 192, 32},
    {"MobileNetV2 project 28x28", 28, 1, 0, 32, 192},
    {"MobileNetV2 expand 14x14", 14, 1, 0, 384, 64},
    {"MobileNetV2 project 14x14", 14, 1, 0, 96, 576},
    {"MobileNetV2 expand 7x7", 7, 1, 0, 960, 160},
    {"MobileNetV2 project 7x7", 7, 1, 0, 320, 960},
    {"MobileNetV2 last 7x7", 7, 1, 0, 1280, 320},
    {"MobileNetV3 expand 14x14", 14, 1, 0, 240, 40},
    {"MobileNetV3 project 7x7", 7, 1, 0, 96, 576},
    {"MobileNetV3 squeeze", 1, 1, 0, 144, 576},
    {"MobileNetV3 excite", 1, 1, 0, 576, 144},
    {"ResNet-18 downsample 28x28", 56, 2, 0, 128, 64},
    {"ResNet-18 downsample 14x14", 28, 2, 0, 256, 128},
    {"ResNet-18 downsample 7x7", 14, 2, 0, 512, 256},
    {"ResNet-50 reduce 14x14", 14, 1, 0, 256, 1024},
    {"ResNet-50 expand 14x14", 14, 1, 0, 1024, 256},
    {"ViT-B/16 projection", 0, 0, 197, 768, 768},
    {"ViT-B/16 mlp 1", 0, 0, 197, 3072, 768},
    {"ViT-B/16 mlp 2", 0, 0, 197, 768, 3072},
    {"Swin-T stage 1 mlp", 0, 0, 3136, 384, 96},
    {"Swin-T stage 3 qkv", 0, 0, 196, 1152, 384},
    {"Swin-T stage 4 mlp", 0, 0, 49, 3072, 768},
    {"MobileNetV2 classifier", 0, 0, 1, 1000, 1280},
    {"ResNet-18 classifier", 0, 0, 1, 1000, 512},
    {"VGG-16 classifier", 0, 0, 1, 4096, 4096},
    {"classifier, batch 2", 0, 0, 2, 1000, 1280},
    {"classifier, batch 8", 0, 0, 8, 1000, 1280},
    {"classifier, batch 16", 0, 0, 16, 1000, 1280},
};

static void *host_alloc(void *user, size_t size, size_t align)
{
    (void)user;
    return aligned_alloc(align < 64 ? 64 : align, (size + 63) / 64 * 64);
}

static void host_free(void *user, void *ptr, size_t size)
{
    (void)user, (void)size;
    free(ptr);
}

static void alone(const sparoa_exec *exec, int32_t count, void (*task)(void *, int32_t), void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

static float *floats(int64_t n, int64_t zeros)
{
    float *p = host_alloc(NULL, (size_t)n * sizeof *p, 64);
    if (!p) exit(2);
    for (int64_t i = 0; i < n; i++)
        p[i] = rand() % 10000 < zeros ? 0 : (float)(rand() % 1000 + 1) * 1e-3f;
    return p;
}

typedef struct job {
    sp_cpu_host host;
    const sparoa_node *node;
    const sp_cpu_kernel_row *row;
    const char *variant;
    void *state, *prepared;
    sparoa_exec exec;
    int64_t ns[ROUNDS];
} job;

static void check(sparoa_status status, const sparoa_error *err)
{
    if (status == SPAROA_OK) return;
    fprintf(stderr, "bench_sparse: %s\n", err->message);
    exit(2);
}

static job job_of(const sp_kernels *kernels, const sparoa_node *node, sp_when sparse)
{
    sparoa_error err = {0};
    size_t workspace = 0;
    job j = {.host = {.allocator = {NULL, host_alloc, host_free},
                      .threads = 1,
                      .kernels = kernels,
                      .sparse = sparse},
             .node = node,
             .exec = {.threads = 1, .parallel = alone}};
    j.row = sp_cpu_kernel_find(&j.host, node, &j.variant);
    check(j.row->create(node, &j.host, &j.state, &err), &err);
    check(j.row->prepare(j.state, &j.host, node, &j.prepared, &workspace, &err), &err);
    j.exec.workspace = host_alloc(NULL, workspace + 64, 64);
    return j;
}

static int64_t time_of(job *j, int64_t runs)
{
    sparoa_error err = {0};
    j->exec.err = &err;
    int64_t start = sp_now_ns();
    for (int64_t i = 0; i < runs; i++)
        check(j->row->run(j->state, j->prepared, &j->host, j->node, &j->exec), &err);
    return (sp_now_ns() - start) / runs;
}

static void job_end(job *j)
{
    if (j->row->prepared_destroy) j->row->prepared_destroy(j->state, &j->host, j->prepared);
    j->row->destroy(j->state, &j->host);
    free(j->exec.workspace);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static double median(int64_t *ns)
{
    qsort(ns, ROUNDS, sizeof *ns, by_value);
    return (double)ns[ROUNDS / 2];
}

/* The medians of the rounds, in turn, in nanoseconds. */
static void time_both(job *one, job *other, double ns[2])
{
    int64_t runs = 1 + ROUND_NS / (1 + time_of(one, 2));
    int64_t other_runs = 1 + ROUND_NS / (1 + time_of(other, 2));
    for (int r = 0; r < ROUNDS; r++) {
        one->ns[r] = time_of(one, runs);
        other->ns[r] = time_of(other, other_runs);
    }
    ns[0] = median(one->ns), ns[1] = median(other->ns);
}

static void line(const layer *l, const char *what, int64_t m, int64_t zeros, const double ns[2],
                 const char *taken)
{
    printf("%s%s\t%lld\t%lld\t%lld\t%.2f\t%.2f\t%.2f\t%.3f\t%s\n", l->name, what, (long long)m,
           (long long)l->n, (long long)l->k, (double)zeros * 1e-2, ns[0] * 1e-3, ns[1] * 1e-3,
           ns[0] / ns[1], taken);
    fflush(stdout);
}

/* One line of a layer whose weights or, of one row, input has zeros; returns how many times faster
 * than dense the library is. */
static double compare(const sp_kernels *kernels, const layer *l, int64_t zeros, bool input)
{
    const bool conv = l->size > 0;
    const int64_t out = conv ? (l->size - 1) / l->stride + 1 : 0, m = conv ? out * out : l->m;
    const int64_t strides[2] = {l->stride, l->stride};
    sparoa_tensor x =
        conv ? sparoa_tensor_view(SPAROA_FLOAT32, NULL, 4, (int64_t[]){1, l->size, l->size, l->k})
             : sparoa_tensor_view(SPAROA_FLOAT32, NULL, 2, (int64_t[]){m, l->k});
    sparoa_tensor w =
        conv ? sparoa_tensor_view(SPAROA_FLOAT32, NULL, 4, (int64_t[]){l->n, l->k, 1, 1})
             : sparoa_tensor_view(SPAROA_FLOAT32, NULL, 2, (int64_t[]){l->k, l->n});
    sparoa_tensor y =
        conv ? sparoa_tensor_view(SPAROA_FLOAT32, NULL, 4, (int64_t[]){1, out, out, l->n})
             : sparoa_tensor_view(SPAROA_FLOAT32, NULL, 2, (int64_t[]){m, l->n});
    x.data = floats(sparoa_tensor_count(&x), input ? zeros : 0);
    w.data = floats(sparoa_tensor_count(&w), input ? 0 : zeros);
    y.data = floats(sparoa_tensor_count(&y), 0);
    sparoa_tensor *in[] = {&x, &w}, *outs[] = {&y};
    const bool constant[] = {false, true};
    const sparoa_attr attrs[] = {
        {.name = "sp.nhwc", .type = SPAROA_ATTR_INT, .count = 1, .v.i = 1},
        {.name = "strides", .type = SPAROA_ATTR_INTS, .count = 2, .v.ints = strides},
        {.name = "sp.act", .type = SPAROA_ATTR_STRING, .count = 4, .v.s = "relu"}};
    const sparoa_node node = {.name = l->name,
                              .op = conv ? "Conv" : "MatMul",
                              .domain = "",
                              .version = 13,
                              .in = in,
                              .n_in = 2,
                              .out = outs,
                              .n_out = 1,
                              .attrs = conv ? attrs : attrs + 2,
                              .n_attrs = conv ? 3 : 1,
                              .constant = constant};
    job dense = job_of(kernels, &node, SP_WHEN_NEVER);
    double ns[2], gain;
    if (input) {
        sparoa_tensor y2 = y, full = x, *in2[] = {&full, &w}, *outs2[] = {&y2};
        sparoa_node other = node;
        full.data = floats(sparoa_tensor_count(&x), 0);
        other.in = in2, other.out = outs2;
        job without = dense; /* the same weights at the same place */
        without.node = &other;
        time_both(&without, &dense, ns);
        line(l, ", zeros in the input", m, zeros, ns, "input");
        free(full.data);
        gain = ns[0] / ns[1];
    } else {
        job sparse = job_of(kernels, &node, SP_WHEN_ALWAYS);
        const char *taken;
        const sp_cpu_host host = {.threads = 1, .kernels = kernels};
        sp_cpu_kernel_find(&host, &node, &taken);
        const bool takes = strcmp(taken, sparse.variant) == 0;
        time_both(&dense, &sparse, ns);
        line(l, "", m, zeros, ns, takes ? "sparse" : "dense");
        gain = takes ? ns[0] / ns[1] : 1;
        job_end(&sparse);
    }
    job_end(&dense);
    free(x.data), free(w.data), free(y.data);
    return gain;
}

int main(int argc, char **argv)
{
    static const int64_t all[] = {0, 30, 50, 60, 70, 80, 85, 90, 95, 99};
    const sp_kernels *kernels = sp_cpu_kernels(argc > 1 ? argv[1] : "");
    double least = 1;
    if (!kernels) {
        fprintf(stderr, "bench_sparse: this machine has no instruction set '%s'\n", argv[1]);
        return 2;
    }
    printf("# %s, one thread; zeros in per cent, times in microseconds, medians of %d rounds\n",
           kernels->isa, ROUNDS);
    printf("layer\tm\tn\tk\tzeros\tdense_us\tsparse_us\tdense/sparse\ttaken\n");
    const int count = argc > 2 ? argc - 2 : (int)(sizeof all / sizeof *all);
    const size_t layer_count = sizeof layers / sizeof *layers;
    for (size_t i = 0; i < 2 * layer_count; i++) {
        const layer *l = &layers[i % layer_count];
        const bool input = i >= layer_count, one_row = l->size == 1 || l->m == 1;
        for (int z = 0; z < count && (!input || one_row); z++) {
            srand(1);
            double gain = compare(kernels, l, 100 * (argc > 2 ? atoi(argv[z + 2]) : all[z]), input);
            if (gain < least) least = gain;
        }
    }
    printf("# least gain of what the library does: %.3f\n", least);
    return least < 0.98;
}
