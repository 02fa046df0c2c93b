/* Operators that work on whole rows of float32: Softmax and LogSoftmax, over other dimensions too;
 * LayerNormalization and RMSNormalization. */
#include "backends/cpu/gemm_run.h"
#include "ops/op.h"

#define COLUMNS 64 /* neighbouring ones of a task where the last dimension is kept */

typedef struct row_task {
    const sp_kernels *kernels;
    bool log, centred;
    size_t n, inner, blocks; /* elements of a row; how far apart they are; blocks of inner */
    const float *x, *scale, *bias;
    float *y, *mean, *inverse;
    float epsilon;
} row_task;

static int64_t grain_of(int64_t n)
{
    return n < 4096 ? 4096 / n : 1;
}

/* ---- softmax ---- */

/* Before version 13 all dimensions from axis on are one row; later only the one at axis is. */
static bool softmax_axis(const sparoa_node *node, int32_t rank, int32_t *axis)
{
    int64_t a = sparoa_attr_int(node, "axis", node->version < 13 ? 1 : -1);
    *axis = (int32_t)(a < 0 ? a + rank : a);
    return rank >= 1 && a >= -rank && a <= rank && (node->version < 13 || a < rank);
}

static const char *softmax_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    int32_t axis;
    if (node->n_in != 1 || !node->in[0] || !sp_cpu_all_float32(node)) return NULL;
    return softmax_axis(node, node->in[0]->rank, &axis) ? host->kernels->name : NULL;
}

static void softmax_piece(void *arg, int64_t begin, int64_t end)
{
    const row_task *t = arg;
    size_t at = (size_t)begin * t->n;
    (t->log ? t->kernels->log_softmax_f32 : t->kernels->softmax_f32)((size_t)(end - begin), t->n,
                                                                     t->x + at, t->y + at);
}

static void column_piece(void *arg, int64_t begin, int64_t end)
{
    const row_task *t = arg;
    for (size_t i = (size_t)begin; i < (size_t)end; i++) {
        const size_t c = i % t->blocks * COLUMNS, at = i / t->blocks * t->n * t->inner + c;
        const size_t width = t->inner - c < COLUMNS ? t->inner - c : COLUMNS;
        t->kernels->softmax_columns_f32(t->log, t->n, width, t->inner, t->x + at, t->y + at);
    }
}

static sparoa_status softmax_run(void *state, void *prepared, const sp_cpu_host *host,
                                 const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    const int64_t count = sp_count(x);
    int32_t axis;
    if (!softmax_axis(node, x->rank, &axis))
        return sparoa_fail(exec->err, SPAROA_INVALID_GRAPH, node,
                           "axis is out of range for rank %d", x->rank);
    if (count == 0) return SPAROA_OK;
    const int32_t after = node->version < 13 ? x->rank : axis + 1;
    int64_t n = sp_dims_product(x, axis, after), inner = sp_dims_product(x, after, x->rank);
    row_task t = {.kernels = host->kernels,
                  .log = strcmp(node->op, "LogSoftmax") == 0,
                  .n = (size_t)n,
                  .inner = (size_t)inner,
                  .blocks = ((size_t)inner + COLUMNS - 1) / COLUMNS,
                  .x = x->data,
                  .y = node->out[0]->data};
    if (inner == 1)
        sp_parallel_for(exec, count / n, grain_of(n), softmax_piece, &t);
    else
        sp_parallel_for(exec, count / n / inner * (int64_t)t.blocks,
                        grain_of(n * (inner < COLUMNS ? inner : COLUMNS)), column_piece, &t);
    return SPAROA_OK;
}

/* ONNX Softmax and LogSoftmax, all versions. */
SP_CPU_KERNEL(Softmax) = {
    .op = "Softmax", .domain = "", .supports = softmax_supports, .run = softmax_run};
SP_CPU_KERNEL(LogSoftmax) = {
    .op = "LogSoftmax", .domain = "", .supports = softmax_supports, .run = softmax_run};

/* ---- layer normalisation ---- */

/* Scale and bias have the dimensions from axis on, all of them known. */
static bool layer_axis(const sparoa_node *node, int32_t *axis)
{
    const sparoa_tensor *x = node->in[0];
    int64_t a = sparoa_attr_int(node, "axis", -1);
    if (x->rank < 1 || a < -x->rank || a >= x->rank) return false;
    *axis = (int32_t)(a < 0 ? a + x->rank : a);
    for (int32_t i = 1; i < node->n_in; i++) {
        const sparoa_tensor *t = node->in[i];
        if (!t) continue;
        if (t->rank != x->rank - *axis) return false;
        for (int32_t d = 0; d < t->rank; d++)
            if (t->dims[d] < 1 || t->dims[d] != x->dims[*axis + d]) return false;
    }
    return true;
}

static const char *layer_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    int32_t axis;
    if (node->n_in < 2 || node->n_in > 3 || !node->in[0] || !node->in[1]) return NULL;
    if (!sp_cpu_all_float32(node) || sparoa_attr_int(node, "stash_type", 1) != SPAROA_FLOAT32)
        return NULL;
    return layer_axis(node, &axis) ? host->kernels->name : NULL;
}

static void layer_piece(void *arg, int64_t begin, int64_t end)
{
    const row_task *t = arg;
    size_t at = (size_t)begin * t->n;
    t->kernels->layernorm_f32((size_t)(end - begin), t->n, t->centred, t->epsilon, t->x + at,
                              t->scale, t->bias, t->y + at, t->mean ? t->mean + begin : NULL,
                              t->inverse ? t->inverse + begin : NULL);
}

static sparoa_status layer_run(void *state, void *prepared, const sp_cpu_host *host,
                               const sparoa_node *node, const sparoa_exec *exec)
{
    const bool centred = strcmp(node->op, "LayerNormalization") == 0;
    const sparoa_tensor *x = node->in[0], *bias = sparoa_in(node, 2);
    const sparoa_tensor *mean = centred ? sparoa_out(node, 1) : NULL;
    const sparoa_tensor *inverse = sparoa_out(node, centred ? 2 : 1);
    int32_t axis;
    if (!layer_axis(node, &axis))
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "scale and bias don't fit the input");
    if (sp_count(x) == 0) return SPAROA_OK;
    int64_t n = sp_dims_product(x, axis, x->rank);
    row_task t = {.kernels = host->kernels,
                  .centred = centred,
                  .n = (size_t)n,
                  .x = x->data,
                  .scale = node->in[1]->data,
                  .bias = bias ? bias->data : NULL,
                  .y = node->out[0]->data,
                  .mean = mean ? mean->data : NULL,
                  .inverse = inverse ? inverse->data : NULL,
                  .epsilon = sparoa_attr_float(node, "epsilon", 1e-5f)};
    sp_parallel_for(exec, sp_count(x) / n, grain_of(n), layer_piece, &t);
    return SPAROA_OK;
}

#define LAYER_ROW(name, domain_)                                                                   \
    {                                                                                              \
        .op = name, .domain = domain_, .supports = layer_supports, .run = layer_run                \
    }
/* LayerNormalization, RMSNormalization and onnxruntime's older names of them, all versions. */
SP_CPU_KERNEL(LayerNormalization) = LAYER_ROW("LayerNormalization", "");
SP_CPU_KERNEL(LayerNormalization_ms) = LAYER_ROW("LayerNormalization", "com.microsoft");
SP_CPU_KERNEL(RMSNormalization) = LAYER_ROW("RMSNormalization", "");
SP_CPU_KERNEL(SimplifiedLayerNormalization) = LAYER_ROW("SimplifiedLayerNormalization", "");
SP_CPU_KERNEL(SimplifiedLayerNormalization_ms) = LAYER_ROW("SimplifiedLayerNormalization",
                                                           "com.microsoft");
