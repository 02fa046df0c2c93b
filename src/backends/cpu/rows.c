/* Operators that work on whole rows of float32: Softmax and LayerNormalization over the last
 * dimensions. */
#include "backends/cpu/gemm_run.h"
#include "ops/op.h"

typedef struct row_task {
    const sp_kernels *kernels;
    size_t n;
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
    if (a < -rank || a > rank || rank < 1) return false;
    *axis = (int32_t)(a < 0 ? a + rank : a);
    return node->version < 13 || *axis == rank - 1;
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
    t->kernels->softmax_f32((size_t)(end - begin), t->n, t->x + at, t->y + at);
}

static sparoa_status softmax_run(void *state, void *prepared, const sp_cpu_host *host,
                                 const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis;
    if (!softmax_axis(node, x->rank, &axis))
        return sparoa_fail(exec->err, SPAROA_INVALID_GRAPH, node,
                           "axis is out of range for rank %d", x->rank);
    if (sp_count(x) == 0) return SPAROA_OK;
    int64_t n = sp_dims_product(x, axis, x->rank);
    row_task t = {.kernels = host->kernels, .n = (size_t)n, .x = x->data, .y = node->out[0]->data};
    sp_parallel_for(exec, sp_count(x) / n, grain_of(n), softmax_piece, &t);
    return SPAROA_OK;
}

/* ONNX Softmax, all versions, over the last dimension (before version 13: the last dimensions). */
SP_CPU_KERNEL(Softmax) = {
    .op = "Softmax", .domain = "", .supports = softmax_supports, .run = softmax_run};

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
    t->kernels->layernorm_f32((size_t)(end - begin), t->n, t->epsilon, t->x + at, t->scale, t->bias,
                              t->y + at, t->mean ? t->mean + begin : NULL,
                              t->inverse ? t->inverse + begin : NULL);
}

static sparoa_status layer_run(void *state, void *prepared, const sp_cpu_host *host,
                               const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0], *bias = sparoa_in(node, 2);
    const sparoa_tensor *mean = sparoa_out(node, 1), *inverse = sparoa_out(node, 2);
    int32_t axis;
    if (!layer_axis(node, &axis))
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "scale and bias don't fit the input");
    if (sp_count(x) == 0) return SPAROA_OK;
    int64_t n = sp_dims_product(x, axis, x->rank);
    row_task t = {.kernels = host->kernels,
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

/* ONNX LayerNormalization, version 17. */
SP_CPU_KERNEL(LayerNormalization) = {
    .op = "LayerNormalization", .domain = "", .supports = layer_supports, .run = layer_run};
