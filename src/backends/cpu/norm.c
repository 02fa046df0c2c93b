/* Normalisations of float32 images by statistics of planes: BatchNormalization (given statistics),
 * InstanceNormalization, GroupNormalization and MeanVarianceNormalization; LpNormalization of rows.
 */
#include "backends/cpu/gemm_run.h"
#include "ops/epilogue.h"
#include "ops/op.h"

#define GRAIN 65536 /* elements worth another thread */
#define PARTS 16    /* of an image with the channel last that are summed by themselves, */
#define PART 16384  /* of at least so many elements, whatever the number of threads */

/* How a mean and a variance become a factor. */
typedef enum norm_kind { NORM_EPSILON, NORM_DEVIATION } norm_kind;

/* Channel second: [n, groups, channels, s]. pooled: the images of a batch have statistics together.
 * Channel last: [n, s, channels], no groups. */
typedef struct norm_task {
    const sp_kernels *kernels;
    norm_kind kind;
    int64_t n, groups, channels, s, parts, part;
    bool pooled, by_channel; /* scale and bias are by channel, or by group */
    double epsilon;
    const float *x, *scale, *bias, *mean, *variance; /* those that are given, or NULL */
    float *y;
    double *sums;  /* channel last: [n][parts][2][channels] */
    float *params; /* channel last: [n][4][channels], see sp_affine_f32 */
} norm_task;

typedef struct affine {
    float mean, rest, scale, shift;
} affine;

static affine affine_of(const norm_task *t, double mean, double variance, float scale, float shift)
{
    double factor =
        t->kind == NORM_DEVIATION ? 1 / (sqrt(variance) + 1e-9) : 1 / sqrt(variance + t->epsilon);
    affine a = {.mean = (float)mean, .scale = (float)(scale * factor), .shift = shift};
    a.rest = isfinite(a.mean) ? (float)(mean - a.mean) : 0;
    return a;
}

/* From sums about a shift. Rounding may take a variance of 0 below it. */
static double variance_of(double sum, double square, double n)
{
    const double v = square / n - sum / n * (sum / n);
    return v < 0 ? 0 : v;
}

/* ---- channel second ---- */

static void plane(const norm_task *t, int64_t image, int64_t channel, const affine *a)
{
    const int64_t at = (image * t->groups * t->channels + channel) * t->s;
    const sp_affine_f32 by = {&a->mean, &a->rest, &a->scale, &a->shift};
    t->kernels->affine_f32((size_t)t->s, &by, t->x + at, t->y + at);
}

static void group_pieces(void *arg, int64_t begin, int64_t end)
{
    const norm_task *t = arg;
    const int64_t images = t->pooled ? t->n : 1, width = t->channels * t->s;
    for (int64_t i = begin; i < end; i++) {
        const int64_t first = i / t->groups, group = i % t->groups;
        const float *x = t->x + i * width, shift = x[0];
        double sum = 0, square = 0, n = (double)images * (double)width;
        for (int64_t k = 0; k < images; k++)
            t->kernels->moments_f32((size_t)width, x + k * t->groups * width, shift, &sum, &square);
        for (int64_t c = 0; c < t->channels; c++) {
            const int64_t channel = group * t->channels + c, p = t->by_channel ? channel : group;
            const affine a = affine_of(t, shift + sum / n, variance_of(sum, square, n),
                                       t->scale ? t->scale[p] : 1, t->bias ? t->bias[p] : 0);
            for (int64_t k = 0; k < images; k++) plane(t, first + k, channel, &a);
        }
    }
}

static void given_pieces(void *arg, int64_t begin, int64_t end)
{
    const norm_task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t c = i % t->groups;
        const affine a = affine_of(t, t->mean[c], t->variance[c], t->scale[c], t->bias[c]);
        plane(t, i / t->groups, c, &a);
    }
}

static sparoa_status run_first(norm_task *t, const sparoa_exec *exec)
{
    const int64_t groups = (t->pooled ? 1 : t->n) * t->groups;
    const int64_t width = t->channels * t->s * (t->pooled ? t->n : 1);
    sp_parallel_for(exec, groups, 1 + GRAIN / width, t->mean ? given_pieces : group_pieces, t);
    return SPAROA_OK;
}

/* ---- channel last ---- */

static void sum_pieces(void *arg, int64_t begin, int64_t end)
{
    const norm_task *t = arg;
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / t->parts, at = i % t->parts * t->part;
        const int64_t rows = t->s - at < t->part ? t->s - at : t->part;
        const float *x = t->x + image * t->s * t->channels;
        double *sum = t->sums + i * 2 * t->channels;
        memset(sum, 0, (size_t)t->channels * 2 * sizeof *sum);
        t->kernels->moments_columns_f32((size_t)rows, (size_t)t->channels, x + at * t->channels, x,
                                        sum, sum + t->channels);
    }
}

/* The four numbers of each channel. */
static void set_params(const norm_task *t, int64_t image)
{
    const int64_t channels = t->channels;
    float *p = t->params + image * 4 * channels;
    const double n = (double)t->s, *sums = t->sums + image * t->parts * 2 * channels;
    for (int64_t c = 0; c < channels; c++) {
        double mean, variance, sum = 0, square = 0;
        for (int64_t k = 0; !t->mean && k < t->parts; k++) {
            sum += sums[2 * k * channels + c];
            square += sums[(2 * k + 1) * channels + c];
        }
        mean = t->mean ? t->mean[c] : t->x[image * t->s * channels + c] + sum / n;
        variance = t->mean ? t->variance[c] : variance_of(sum, square, n);
        const affine a = affine_of(t, mean, variance, t->scale[c], t->bias[c]);
        p[c] = a.mean, p[channels + c] = a.rest;
        p[2 * channels + c] = a.scale, p[3 * channels + c] = a.shift;
    }
}

static void row_pieces(void *arg, int64_t begin, int64_t end)
{
    const norm_task *t = arg;
    const int64_t channels = t->channels;
    while (begin < end) {
        const int64_t image = begin / t->s,
                      stop = (image + 1) * t->s < end ? (image + 1) * t->s : end;
        const float *p = t->params + image * 4 * channels;
        const sp_affine_f32 a = {p, p + channels, p + 2 * channels, p + 3 * channels};
        t->kernels->affine_columns_f32((size_t)(stop - begin), (size_t)channels, &a,
                                       t->x + begin * channels, t->y + begin * channels);
        begin = stop;
    }
}

static sparoa_status run_last(norm_task *t, const sparoa_exec *exec)
{
    const int64_t grain = 1 + GRAIN / t->channels;
    if (!t->mean) sp_parallel_for(exec, t->n * t->parts, 1 + grain / t->part, sum_pieces, t);
    for (int64_t i = 0; i < t->n; i++) set_params(t, i);
    sp_parallel_for(exec, t->n * t->s, grain, row_pieces, t);
    return SPAROA_OK;
}

/* ---- nodes ---- */

static bool is_batch_norm(const sparoa_node *node)
{
    return strcmp(node->op, "BatchNormalization") == 0;
}

/* The parts that sizes tell, an empty input left out. Statistics that are given are the same for
 * all images, and planes of a single element are rows of channels. */
static norm_task sizes_of(const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    const int64_t channels = x->dims[1], plane = sp_dims_product(x, 2, x->rank);
    const bool last = sp_is_nhwc(node) && x->rank > 2, given = is_batch_norm(node);
    norm_task t = {.n = x->dims[0], .groups = 1, .channels = 1, .s = 1, .by_channel = true};
    if (!last && !(given && plane == 1)) {
        t.groups = channels;
        t.s = plane;
        return t;
    }
    t.channels = last ? x->dims[x->rank - 1] : channels;
    t.s = last ? sp_dims_product(x, 1, x->rank - 1) : 1;
    if (given) t.s *= t.n, t.n = 1;
    t.part = t.s / PARTS + 1;
    if (t.part * t.channels < PART) t.part = PART / t.channels + 1;
    t.parts = (t.s + t.part - 1) / t.part;
    return t;
}

static size_t params_bytes(const norm_task *t)
{
    return (size_t)(t->n * 4 * t->channels) * sizeof(float);
}

static sparoa_status norm_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    *workspace = 0;
    if (sp_count(node->in[0]) <= 0) return SPAROA_OK;
    const norm_task t = sizes_of(node);
    if (t.parts == 0) return SPAROA_OK;
    *workspace = (size_t)(t.n * t.parts * 2 * t.channels) * sizeof(double) + params_bytes(&t);
    return SPAROA_OK;
}

static const char *norm_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    if (!node->in[0] || node->in[0]->rank < 2 || !sp_cpu_all_float32(node)) return NULL;
    for (int32_t i = 1; i < node->n_out; i++)
        if (node->out[i]) return NULL;
    if (!is_batch_norm(node)) return host->kernels->name;
    const bool spatial = node->version >= 9 || sparoa_attr_int(node, "spatial", 1) != 0;
    const bool training = node->version >= 14 && sparoa_attr_int(node, "training_mode", 0) != 0;
    return spatial && !training ? host->kernels->name : NULL;
}

static sparoa_status norm_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    if (sp_count(node->in[0]) == 0) return SPAROA_OK;
    norm_task t = sizes_of(node);
    t.kernels = host->kernels;
    t.epsilon = sparoa_attr_float(node, "epsilon", 1e-5f);
    t.x = node->in[0]->data;
    t.y = node->out[0]->data;
    t.scale = node->in[1]->data;
    t.bias = node->in[2]->data;
    if (is_batch_norm(node)) t.mean = node->in[3]->data, t.variance = node->in[4]->data;
    if (t.parts == 0) return run_first(&t, exec);
    t.params = exec->workspace;
    t.sums = (double *)((char *)exec->workspace + params_bytes(&t));
    return run_last(&t, exec);
}

/* ONNX BatchNormalization, all versions, without training; InstanceNormalization, all versions. */
SP_CPU_KERNEL(BatchNormalization) = {.op = "BatchNormalization",
                                     .domain = "",
                                     .supports = norm_supports,
                                     .prepare = norm_prepare,
                                     .run = norm_run};
SP_CPU_KERNEL(InstanceNormalization) = {.op = "InstanceNormalization",
                                        .domain = "",
                                        .supports = norm_supports,
                                        .prepare = norm_prepare,
                                        .run = norm_run};

static sparoa_status group_run(void *state, void *prepared, const sp_cpu_host *host,
                               const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    if (sp_count(x) == 0) return SPAROA_OK;
    const int64_t groups = sparoa_attr_int(node, "num_groups", 1);
    norm_task t = {.kernels = host->kernels,
                   .n = x->dims[0],
                   .groups = groups,
                   .channels = x->dims[1] / groups,
                   .s = sp_dims_product(x, 2, x->rank),
                   .by_channel = node->version >= 21,
                   .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f),
                   .x = x->data,
                   .y = node->out[0]->data,
                   .scale = node->in[1]->data,
                   .bias = node->in[2]->data};
    return run_first(&t, exec);
}

/* ONNX GroupNormalization, versions 18 and 21. */
SP_CPU_KERNEL(GroupNormalization) = {
    .op = "GroupNormalization", .domain = "", .supports = norm_supports, .run = group_run};

/* All axes but the channel's are reduced, the batch's or not. */
static bool mvn_pooled(const sparoa_node *node, bool *pooled)
{
    int32_t axes[SPAROA_MAX_RANK], count, rank = node->in[0]->rank;
    bool given;
    if (sp_read_axes(node, -1, rank, axes, &count, &given, NULL) != SPAROA_OK) return false;
    uint32_t mask = given ? 0 : 13u, all = (1u << rank) - 1;
    for (int32_t i = 0; i < count; i++) mask |= 1u << axes[i];
    *pooled = mask & 1u;
    return (mask | 1u) == (all & ~2u);
}

static const char *mvn_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    bool pooled;
    return norm_supports(host, node) && mvn_pooled(node, &pooled) ? host->kernels->name : NULL;
}

static sparoa_status mvn_run(void *state, void *prepared, const sp_cpu_host *host,
                             const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    if (sp_count(x) == 0) return SPAROA_OK;
    norm_task t = {.kernels = host->kernels,
                   .kind = NORM_DEVIATION,
                   .n = x->dims[0],
                   .groups = x->dims[1],
                   .channels = 1,
                   .s = sp_dims_product(x, 2, x->rank),
                   .x = x->data,
                   .y = node->out[0]->data};
    mvn_pooled(node, &t.pooled);
    return run_first(&t, exec);
}

/* ONNX MeanVarianceNormalization, versions 9 and 13, by channel. */
SP_CPU_KERNEL(MeanVarianceNormalization) = {
    .op = "MeanVarianceNormalization", .domain = "", .supports = mvn_supports, .run = mvn_run};

/* ---- LpNormalization ---- */

typedef struct lp_task {
    const sp_kernels *kernels;
    sp_fold fold;
    int64_t n;
    const float *x;
    float *y;
} lp_task;

static void lp_pieces(void *arg, int64_t begin, int64_t end)
{
    const lp_task *t = arg;
    const float zero = 0;
    for (int64_t i = begin; i < end; i++) {
        const float *x = t->x + i * t->n;
        float *y = t->y + i * t->n;
        double norm = 0;
        t->kernels->fold_rows_f32(t->fold, 1, (size_t)t->n, x, 0, &norm);
        if (t->fold == SP_FOLD_SQUARE) norm = sqrt(norm);
        if (norm > 0 && norm < 1e-30) { /* its reciprocal may be no float */
            for (int64_t k = 0; k < t->n; k++) y[k] = (float)(x[k] / norm);
            continue;
        }
        const float scale = norm == 0 ? 0 : (float)(1 / norm);
        const sp_affine_f32 by = {&zero, &zero, &scale, &zero};
        t->kernels->affine_f32((size_t)t->n, &by, x, y);
    }
}

static const char *lp_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    if (!x || x->rank < 1 || !sp_cpu_all_float32(node)) return NULL;
    const int64_t axis = sparoa_attr_int(node, "axis", -1);
    return axis == -1 || axis == x->rank - 1 ? host->kernels->name : NULL;
}

static sparoa_status lp_run(void *state, void *prepared, const sp_cpu_host *host,
                            const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    const int64_t count = sp_count(x), n = x->dims[x->rank - 1];
    lp_task t = {.kernels = host->kernels,
                 .fold = sparoa_attr_int(node, "p", 2) == 1 ? SP_FOLD_ABS : SP_FOLD_SQUARE,
                 .n = n,
                 .x = x->data,
                 .y = node->out[0]->data};
    if (count > 0) sp_parallel_for(exec, count / n, 1 + GRAIN / n, lp_pieces, &t);
    return SPAROA_OK;
}

/* ONNX LpNormalization, versions 1 and 22, along the last axis. */
SP_CPU_KERNEL(LpNormalization) = {
    .op = "LpNormalization", .domain = "", .supports = lp_supports, .run = lp_run};
