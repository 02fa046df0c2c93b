/* Element-wise operators on float32: activations and other functions of one input, and arithmetic
 * of two. */
#include <float.h>

#include "backends/cpu/gemm_run.h"
#include "ops/op.h"

#define GRAIN 32768 /* elements worth another thread */

/* ---- one input ---- */

typedef struct unary_state {
    sp_act act; /* SP_ACT_NONE: unary */
    sp_unary unary;
    float a, b;
} unary_state;

static const struct unary_row {
    const char *op;
    sp_act act;
    sp_unary unary;
    float a, b; /* defaults of alpha and beta */
} unary_rows[] = {
    {"Relu", SP_ACT_RELU, 0, 0, 0},
    {"Sigmoid", SP_ACT_SIGMOID, 0, 0, 0},
    {"Tanh", SP_ACT_TANH, 0, 0, 0},
    {"Clip", SP_ACT_CLIP, 0, 0, 0},
    {"LeakyRelu", SP_ACT_LEAKYRELU, 0, 0.01f, 0},
    {"HardSigmoid", SP_ACT_HARDSIGMOID, 0, 0.2f, 0.5f},
    {"HardSwish", SP_ACT_HARDSWISH, 0, 0, 0},
    {"Gelu", SP_ACT_GELU, 0, 0, 0},
    {"Exp", SP_ACT_NONE, SP_UNARY_EXP, 0, 0},
    {"Erf", SP_ACT_NONE, SP_UNARY_ERF, 0, 0},
    {"Sqrt", SP_ACT_NONE, SP_UNARY_SQRT, 0, 0},
    {"Neg", SP_ACT_NONE, SP_UNARY_NEG, 0, 0},
    {"Abs", SP_ACT_NONE, SP_UNARY_ABS, 0, 0},
    {"Reciprocal", SP_ACT_NONE, SP_UNARY_RECIPROCAL, 0, 0},
    {"Log", SP_ACT_NONE, SP_UNARY_LOG, 0, 0},
    {"Sin", SP_ACT_NONE, SP_UNARY_SIN, 0, 0},
    {"Cos", SP_ACT_NONE, SP_UNARY_COS, 0, 0},
    {"Floor", SP_ACT_NONE, SP_UNARY_FLOOR, 0, 0},
    {"Ceil", SP_ACT_NONE, SP_UNARY_CEIL, 0, 0},
    {"Round", SP_ACT_NONE, SP_UNARY_ROUND, 0, 0},
    {"Elu", SP_ACT_NONE, SP_UNARY_ELU, 1, 0},
    {"Selu", SP_ACT_NONE, SP_UNARY_ELU, 1.67326319217681884765625f, 0},
    {"Celu", SP_ACT_NONE, SP_UNARY_CELU, 1, 0},
    {"Softplus", SP_ACT_NONE, SP_UNARY_SOFTPLUS, 0, 0},
    {"Swish", SP_ACT_NONE, SP_UNARY_SWISH, 1, 0},
    {"QuickGelu", SP_ACT_NONE, SP_UNARY_SWISH, 1.702f, 0},
    {"Mish", SP_ACT_NONE, SP_UNARY_MISH, 0, 0},
};

/* A limit of Clip: an attribute before version 11, then a constant input. False: not known yet. */
static bool clip_limit(const sparoa_node *node, int32_t input, const char *name, float *value)
{
    if (node->version < 11) {
        *value = sparoa_attr_float(node, name, *value);
        return true;
    }
    const sparoa_tensor *t = sparoa_in(node, input);
    if (!t) return true;
    if (!sp_cpu_is_constant(node, input) || sp_count(t) != 1) return false;
    *value = *(const float *)t->data;
    return true;
}

static bool read_unary(const sparoa_node *node, unary_state *s)
{
    for (size_t i = 0; i < sizeof unary_rows / sizeof *unary_rows; i++) {
        const struct unary_row *row = &unary_rows[i];
        if (strcmp(row->op, node->op) != 0) continue;
        *s = (unary_state){row->act, row->unary, 0, 0};
        s->a = sparoa_attr_float(node, "alpha", row->a);
        s->b = sparoa_attr_float(node, "beta", row->b);
        if (row->act == SP_ACT_GELU &&
            strcmp(sparoa_attr_string(node, "approximate", "none"), "tanh") == 0)
            s->act = SP_ACT_GELU_TANH;
        if (row->act == SP_ACT_NONE && row->unary == SP_UNARY_ELU) s->b = 1;
        if (strcmp(row->op, "Selu") == 0) {
            if (node->version < 6) return false; /* other defaults */
            s->b = sparoa_attr_float(node, "gamma", 1.05070102214813232421875f);
            s->a *= s->b;
        }
        if (row->act == SP_ACT_NONE && row->unary == SP_UNARY_CELU) return s->a > 0;
        if (row->act != SP_ACT_CLIP) return true;
        s->a = -FLT_MAX, s->b = FLT_MAX; /* not given: infinities are still cut */
        return clip_limit(node, 1, "min", &s->a) && clip_limit(node, 2, "max", &s->b);
    }
    return false;
}

static const char *unary_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    unary_state s;
    if (node->n_in < 1 || !node->in[0] || !sp_cpu_all_float32(node)) return NULL;
    return read_unary(node, &s) ? host->kernels->name : NULL;
}

static sparoa_status unary_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                  sparoa_error *err)
{
    unary_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    read_unary(node, s);
    *state = s;
    return SPAROA_OK;
}

static void unary_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(unary_state));
}

typedef struct unary_task {
    const unary_state *s;
    const sp_kernels *kernels;
    const float *x;
    float *y;
} unary_task;

static void unary_piece(void *arg, int64_t begin, int64_t end)
{
    const unary_task *t = arg;
    size_t n = (size_t)(end - begin);
    if (t->s->act != SP_ACT_NONE)
        t->kernels->act_f32((int)t->s->act, t->s->a, t->s->b, n, t->x + begin, t->y + begin);
    else
        t->kernels->unary_f32(t->s->unary, t->s->a, t->s->b, n, t->x + begin, t->y + begin);
}

static sparoa_status unary_run(void *state, void *prepared, const sp_cpu_host *host,
                               const sparoa_node *node, const sparoa_exec *exec)
{
    unary_task t = {state, host->kernels, node->in[0]->data, node->out[0]->data};
    sp_parallel_for(exec, sp_count(node->out[0]), GRAIN, unary_piece, &t);
    return SPAROA_OK;
}

#define UNARY_ROW(name, domain_)                                                                   \
    {                                                                                              \
        .op = name, .domain = domain_, .supports = unary_supports, .create = unary_create,         \
        .run = unary_run, .destroy = unary_destroy                                                 \
    }
/* The ONNX operators of these names, all versions. */
SP_CPU_KERNEL(Relu) = UNARY_ROW("Relu", "");
SP_CPU_KERNEL(Sigmoid) = UNARY_ROW("Sigmoid", "");
SP_CPU_KERNEL(Tanh) = UNARY_ROW("Tanh", "");
SP_CPU_KERNEL(Clip) = UNARY_ROW("Clip", "");
SP_CPU_KERNEL(LeakyRelu) = UNARY_ROW("LeakyRelu", "");
SP_CPU_KERNEL(HardSigmoid) = UNARY_ROW("HardSigmoid", "");
SP_CPU_KERNEL(HardSwish) = UNARY_ROW("HardSwish", "");
SP_CPU_KERNEL(Gelu) = UNARY_ROW("Gelu", "");
SP_CPU_KERNEL(Gelu_ms) = UNARY_ROW("Gelu", "com.microsoft");
SP_CPU_KERNEL(Exp) = UNARY_ROW("Exp", "");
SP_CPU_KERNEL(Erf) = UNARY_ROW("Erf", "");
SP_CPU_KERNEL(Sqrt) = UNARY_ROW("Sqrt", "");
SP_CPU_KERNEL(Neg) = UNARY_ROW("Neg", "");
SP_CPU_KERNEL(Abs) = UNARY_ROW("Abs", "");
SP_CPU_KERNEL(Reciprocal) = UNARY_ROW("Reciprocal", "");
SP_CPU_KERNEL(Elu) = UNARY_ROW("Elu", "");
SP_CPU_KERNEL(Softplus) = UNARY_ROW("Softplus", "");
SP_CPU_KERNEL(Log) = UNARY_ROW("Log", "");
SP_CPU_KERNEL(Sin) = UNARY_ROW("Sin", "");
SP_CPU_KERNEL(Cos) = UNARY_ROW("Cos", "");
SP_CPU_KERNEL(Floor) = UNARY_ROW("Floor", "");
SP_CPU_KERNEL(Ceil) = UNARY_ROW("Ceil", "");
SP_CPU_KERNEL(Round) = UNARY_ROW("Round", "");
SP_CPU_KERNEL(Selu) = UNARY_ROW("Selu", "");
SP_CPU_KERNEL(Celu) = UNARY_ROW("Celu", "");
SP_CPU_KERNEL(Swish) = UNARY_ROW("Swish", "");
SP_CPU_KERNEL(QuickGelu) = UNARY_ROW("QuickGelu", "com.microsoft");
SP_CPU_KERNEL(Mish) = UNARY_ROW("Mish", "");

/* ---- two inputs ---- */

static const char *const binary_names[SP_BINARY_COUNT] = {"Add", "Sub", "Mul", "Div"};

static sp_binary binary_of(const sparoa_node *node)
{
    for (int i = 0; i < SP_BINARY_COUNT; i++)
        if (strcmp(binary_names[i], node->op) == 0) return (sp_binary)i;
    return SP_BINARY_COUNT;
}

static const char *binary_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    bool two = node->n_in == 2 && node->in[0] && node->in[1];
    /* Before version 7 an attribute told how to broadcast. */
    return two && node->version >= 7 && sp_cpu_all_float32(node) ? host->kernels->name : NULL;
}

/* Broadcasting as a few nested loops: the last dimension is walked by the inner loop. */
typedef struct binary_task {
    const sp_kernels *kernels;
    sp_binary op;
    int32_t rank;
    int64_t dims[SPAROA_MAX_RANK + 1], a[SPAROA_MAX_RANK + 1], b[SPAROA_MAX_RANK + 1];
    const float *pa, *pb;
    float *y;
} binary_task;

/* Leaves out dimensions of 1 and joins neighbours that both inputs walk through without a jump. */
static void collapse(const sparoa_node *node, binary_task *t)
{
    const sparoa_tensor *out = node->out[0];
    int64_t sa[SPAROA_MAX_RANK], sb[SPAROA_MAX_RANK];
    sp_broadcast_strides(node->in[0], out, sa);
    sp_broadcast_strides(node->in[1], out, sb);
    t->rank = 0;
    for (int32_t i = 0; i < out->rank; i++) {
        int64_t d = out->dims[i];
        int32_t last = t->rank - 1;
        if (d == 1) continue;
        if (last >= 0 && t->a[last] == sa[i] * d && t->b[last] == sb[i] * d) {
            t->dims[last] *= d;
        } else {
            last = t->rank++;
            t->dims[last] = d;
        }
        t->a[last] = sa[i], t->b[last] = sb[i];
    }
    if (t->rank > 0) return;
    t->dims[0] = t->a[0] = t->b[0] = 1;
    t->rank = 1;
}

/* Where a row of the inner dimension begins in both inputs. */
static void offsets(const binary_task *t, int64_t row, int64_t *a, int64_t *b)
{
    *a = *b = 0;
    for (int32_t i = t->rank - 2; i >= 0; i--) {
        int64_t at = row % t->dims[i];
        row /= t->dims[i];
        *a += at * t->a[i];
        *b += at * t->b[i];
    }
}

static void binary_rows(void *arg, int64_t begin, int64_t end)
{
    const binary_task *t = arg;
    const int32_t inner = t->rank - 1;
    const size_t n = (size_t)t->dims[inner];
    for (int64_t row = begin; row < end; row++) {
        int64_t a, b;
        offsets(t, row, &a, &b);
        t->kernels->binary_f32(t->op, n, t->pa + a, t->a[inner] != 0, t->pb + b, t->b[inner] != 0,
                               t->y + (size_t)row * n);
    }
}

#define REPEAT_FLOATS 1024 /* what short rows that come again are copied to, several times over */
#define SHORT_ROW 128

/* One input repeats a short row while the other walks on: with it several times over, a call does
 * many rows. The rows' dimension is the last but one. */
static bool repeats(const binary_task *t, bool *first)
{
    const int32_t inner = t->rank - 1;
    const int64_t n = t->dims[inner];
    if (inner < 1 || n > SHORT_ROW || t->a[inner] != 1 || t->b[inner] != 1) return false;
    *first = t->a[inner - 1] == 0 && t->b[inner - 1] == n;
    return *first || (t->b[inner - 1] == 0 && t->a[inner - 1] == n);
}

static void binary_short_rows(void *arg, int64_t begin, int64_t end)
{
    const binary_task *t = arg;
    const int32_t inner = t->rank - 1;
    const int64_t n = t->dims[inner], turn = t->dims[inner - 1];
    float block[REPEAT_FLOATS];
    bool first = false;
    repeats(t, &first);
    for (int64_t row = begin; row < end;) {
        int64_t rows = turn - row % turn < end - row ? turn - row % turn : end - row;
        int64_t at_a, at_b, most = REPEAT_FLOATS / n < rows ? REPEAT_FLOATS / n : rows;
        offsets(t, row, &at_a, &at_b);
        for (int64_t i = 0; i < most; i++)
            memcpy(block + i * n, first ? t->pa + at_a : t->pb + at_b, (size_t)n * sizeof *block);
        for (int64_t i = 0; i < rows; i += most) {
            size_t count = (size_t)((rows - i < most ? rows - i : most) * n);
            const float *a = first ? block : t->pa + at_a + i * n;
            const float *b = first ? t->pb + at_b + i * n : block;
            t->kernels->binary_f32(t->op, count, a, 1, b, 1, t->y + (row + i) * n);
        }
        row += rows;
    }
}

static void binary_flat(void *arg, int64_t begin, int64_t end)
{
    const binary_task *t = arg;
    t->kernels->binary_f32(t->op, (size_t)(end - begin), t->pa + (t->a[0] ? begin : 0),
                           t->a[0] != 0, t->pb + (t->b[0] ? begin : 0), t->b[0] != 0, t->y + begin);
}

static sparoa_status binary_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    binary_task t = {.kernels = host->kernels,
                     .op = binary_of(node),
                     .pa = node->in[0]->data,
                     .pb = node->in[1]->data,
                     .y = node->out[0]->data};
    int64_t total = sp_count(node->out[0]);
    if (total == 0) return SPAROA_OK;
    collapse(node, &t);
    int64_t n = t.dims[t.rank - 1];
    bool first = false;
    if (t.rank == 1)
        sp_parallel_for(exec, total, GRAIN, binary_flat, &t);
    else
        sp_parallel_for(exec, total / n, n < GRAIN ? GRAIN / n : 1,
                        repeats(&t, &first) ? binary_short_rows : binary_rows, &t);
    return SPAROA_OK;
}

#define BINARY_ROW(name)                                                                           \
    {                                                                                              \
        .op = name, .domain = "", .supports = binary_supports, .run = binary_run                   \
    }
/* The ONNX operators of these names, versions 7 and newer. */
SP_CPU_KERNEL(Add) = BINARY_ROW("Add");
SP_CPU_KERNEL(Sub) = BINARY_ROW("Sub");
SP_CPU_KERNEL(Mul) = BINARY_ROW("Mul");
SP_CPU_KERNEL(Div) = BINARY_ROW("Div");
