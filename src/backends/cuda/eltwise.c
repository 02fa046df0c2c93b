/* Element-wise operators, casts and selections. */
#include "backends/cuda/cuda.h"

/* ---- one operand, float32 ---- */

typedef struct unary_state {
    sp_cu_unary_op op;
    float a, b;
} unary_state;

#define X(name) #name,
static const char *const unary_names[] = {SP_CU_UNARY(X) NULL};
#undef X

static const char *unary_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    if (op == SP_CU_GeluTanh) return "there is no such operator";
    bool floats = sp_cuda_all_f32(node) || sp_cuda_all_half(dev, node, op);
    return floats && node->n_in == 1 ? NULL : "only float32 and float16";
}

static sparoa_status unary_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    static const struct {
        sp_cu_unary_op op;
        float a, b;
    } defaults[] = {{SP_CU_LeakyRelu, 0.01f, 0},
                    {SP_CU_HardSigmoid, 0.2f, 0.5f},
                    {SP_CU_Swish, 1, 0},
                    {SP_CU_Elu, 1, 0},
                    {SP_CU_Celu, 1, 0},
                    {SP_CU_ThresholdedRelu, 1, 0},
                    {SP_CU_QuickGelu, 1.702f, 0},
                    {SP_CU_Selu, 1.67326319217681884765625f, 1.05070102214813232421875f}};
    unary_state *s = k->state;
    s->op = (sp_cu_unary_op)k->op;
    (void)err;
    for (size_t i = 0; i < sizeof defaults / sizeof defaults[0]; i++) {
        if (defaults[i].op != s->op) continue;
        s->a = sparoa_attr_float(node, "alpha", defaults[i].a);
        s->b = sparoa_attr_float(node, s->op == SP_CU_Selu ? "gamma" : "beta", defaults[i].b);
        if (s->op == SP_CU_Selu && node->version < 6) {
            s->a = sparoa_attr_float(node, "alpha", 1.6732f);
            s->b = sparoa_attr_float(node, "gamma", 1.0507f);
        }
    }
    if (s->op == SP_CU_Gelu && strcmp(sparoa_attr_string(node, "approximate", "none"), "tanh") == 0)
        s->op = SP_CU_GeluTanh;
    return SPAROA_OK;
}

static sparoa_status unary_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const unary_state *s = k->state;
    (void)prepared, (void)workspace, (void)err;
    sp_cu_unary(s->op, sp_cuda_is_half(node), s->a, s->b, node->in[0]->data, node->out[0]->data,
                sp_count(node->out[0]), stream);
    return SPAROA_OK;
}

/* ONNX Relu, Sigmoid, Exp and the other operators of one float32 tensor, all versions. */
SP_CUDA_KERNEL(Unary) = {.ops = unary_names,
                         .variant = "unary",
                         .half = sp_cuda_all_half,
                         .state_bytes = sizeof(unary_state),
                         .refuses = unary_refuses,
                         .create = unary_create,
                         .run = unary_run};

/* com.microsoft Gelu and QuickGelu. */
static const char *ms_unary_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    return unary_refuses(dev, node, op ? SP_CU_QuickGelu : SP_CU_Gelu);
}

static sparoa_status ms_unary_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    k->op = k->op ? SP_CU_QuickGelu : SP_CU_Gelu;
    return unary_create(k, node, err);
}

SP_CUDA_KERNEL(UnaryMs) = {.ops = SP_CUDA_NAMES("Gelu", "QuickGelu"),
                           .domain = "com.microsoft",
                           .variant = "unary",
                           .half = sp_cuda_all_half,
                           .state_bytes = sizeof(unary_state),
                           .refuses = ms_unary_refuses,
                           .create = ms_unary_create,
                           .run = unary_run};

/* ---- Abs and Neg of integers ---- */

static const char *negate_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    (void)dev, (void)op;
    if (x && (x->dtype == SPAROA_INT32 || x->dtype == SPAROA_INT64)) return NULL;
    return "only float32, int32 and int64";
}

static sparoa_status negate_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)prepared, (void)workspace, (void)err;
    sp_cu_negate((sp_cu_type)sp_cuda_type(node->in[0]->dtype), k->op == 0, node->in[0]->data,
                 node->out[0]->data, sp_count(node->out[0]), stream);
    return SPAROA_OK;
}

/* ONNX Abs and Neg of int32 and int64. */
SP_CUDA_KERNEL(Negate) = {.ops = SP_CUDA_NAMES("Abs", "Neg"),
                          .variant = "negate",
                          .refuses = negate_refuses,
                          .run = negate_run};

/* ---- Not, IsNaN, IsInf ---- */

static const char *test_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *x = sparoa_in(node, 0);
    (void)dev;
    sparoa_dtype want = op == 0 ? SPAROA_BOOL : SPAROA_FLOAT32;
    return x && x->dtype == want ? NULL : "only float32";
}

static sparoa_status test_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    int signs = (sparoa_attr_int(node, "detect_positive", 1) ? 1 : 0) |
                (sparoa_attr_int(node, "detect_negative", 1) ? 2 : 0);
    (void)prepared, (void)workspace, (void)err;
    sp_cu_test(k->op, signs, node->in[0]->data, node->out[0]->data, sp_count(node->out[0]), stream);
    return SPAROA_OK;
}

/* ONNX Not, IsNaN and IsInf, all versions. */
SP_CUDA_KERNEL(Test) = {.ops = SP_CUDA_NAMES("Not", "IsNaN", "IsInf"),
                        .variant = "test",
                        .refuses = test_refuses,
                        .run = test_run};

/* ---- two and more operands ---- */

static const char *const binary_names[] = {"Add",      "Sub",         "Mul",     "Div",
                                           "Min",      "Max",         "Pow",     "PRelu",
                                           "BiasGelu", "Equal",       "Greater", "GreaterOrEqual",
                                           "Less",     "LessOrEqual", "And",     "Or",
                                           "Xor",      "Sum",         "Mean",    NULL};
enum { BIN_SUM = SP_CU_BINARY_COUNT, BIN_MEAN };
_Static_assert(sizeof binary_names / sizeof binary_names[0] == BIN_MEAN + 2, "one name for each");

typedef struct binary_prepared {
    sp_cu_binary_op op;
    sp_cu_type type;
    sp_cu_space first,
        *more; /* of inputs 0 and 1; of the output and each input, where they are more */
    int32_t n_more;
} binary_prepared;

/* Before opset 7 a second operand was placed by attributes; that is left to the host. */
static bool old_broadcast(const sparoa_node *node)
{
    return sparoa_attr_int(node, "broadcast", 0) != 0 || sparoa_attr_find(node, "axis");
}

/* Means are scaled in float32. */
static bool binary_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev;
    for (int32_t i = 0; i < node->n_in; i++)
        if (!node->in[i] || node->in[i]->dtype != SPAROA_FLOAT16) return false;
    return op != BIN_MEAN;
}

static const char *binary_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev;
    if (node->n_in < 1 || !node->in[0]) return "no inputs";
    sparoa_dtype t = node->in[0]->dtype;
    for (int32_t i = 0; i < node->n_in; i++)
        if (!node->in[i] || node->in[i]->dtype != t) return "inputs of different types";
    if (old_broadcast(node)) return "broadcasting by attributes";
    bool several = op == SP_CU_BIN_Min || op == SP_CU_BIN_Max || op >= BIN_SUM;
    if (!several && node->n_in != 2) return "not two inputs";
    if (op == SP_CU_BIN_PRelu && node->version < 7) return "slopes before opset 7";
    if (op >= SP_CU_BIN_And && op <= SP_CU_BIN_Xor) return t == SPAROA_BOOL ? NULL : "only bool";
    if (op == SP_CU_BIN_Equal && t == SPAROA_BOOL) return NULL;
    bool ints = op <= SP_CU_BIN_Max || (op >= SP_CU_BIN_Equal && op < SP_CU_BIN_And);
    if (t == SPAROA_FLOAT32 || t == SPAROA_FLOAT16 ||
        (ints && (t == SPAROA_INT32 || t == SPAROA_INT64)))
        return NULL;
    return "only float32 and, where it makes sense, int32 and int64";
}

static sparoa_status binary_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    binary_prepared *p = prepared;
    (void)workspace;
    p->op = k->op >= BIN_SUM ? SP_CU_BIN_Add : (sp_cu_binary_op)k->op;
    p->type = (sp_cu_type)sp_cuda_type(node->in[0]->dtype);
    if (node->n_in < 2) return SPAROA_OK;
    sp_cuda_space(&p->first, node->out[0], 2, (const sparoa_tensor *const *)node->in);
    if (node->n_in == 2) return SPAROA_OK;
    p->n_more = node->n_in;
    p->more = sp_cuda_host_alloc(k->dev, (size_t)p->n_more * sizeof *p->more);
    if (!p->more) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to prepare");
    for (int32_t i = 0; i < p->n_more; i++) {
        const sparoa_tensor *in[] = {node->out[0], node->in[i]};
        sp_cuda_space(&p->more[i], node->out[0], 2, in);
    }
    return SPAROA_OK;
}

static void binary_unprepare(sparoa_kernel *k, void *prepared)
{
    binary_prepared *p = prepared;
    sp_cuda_host_free(k->dev, p->more, (size_t)p->n_more * sizeof *p->more);
}

static sparoa_status binary_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const binary_prepared *p = prepared;
    sparoa_tensor *y = node->out[0];
    (void)workspace, (void)err;
    if (node->n_in < 2) {
        sp_cuda_copy(y->data, node->in[0]->data, sparoa_tensor_bytes(y), stream);
        return SPAROA_OK;
    }
    /* the output may be the memory of a later input: then it starts from that */
    int32_t same = -1;
    for (int32_t i = 2; i < p->n_more; i++)
        if (node->in[i]->data == y->data) same = i;
    if (same < 0)
        sp_cu_binary(p->op, p->type, &p->first, node->in[0]->data, node->in[1]->data, y->data,
                     stream);
    for (int32_t i = same < 0 ? 2 : 0; i < p->n_more; i++)
        if (i != same)
            sp_cu_binary(p->op, p->type, &p->more[i], y->data, node->in[i]->data, y->data, stream);
    if (k->op == BIN_MEAN) sp_cu_scale(1.0f / (float)node->n_in, y->data, sp_count(y), stream);
    return SPAROA_OK;
}

/* ONNX Add, Sub, Mul, Div, Pow, PRelu, comparisons, And, Or, Xor, and Min, Max, Sum, Mean of any
 * number. */
SP_CUDA_KERNEL(Binary) = {.ops = binary_names,
                          .variant = "binary",
                          .half = binary_half,
                          .prepared_bytes = sizeof(binary_prepared),
                          .refuses = binary_refuses,
                          .prepare = binary_prepare,
                          .unprepare = binary_unprepare,
                          .run = binary_run};

/* com.microsoft BiasGelu. */
static const char *bias_gelu_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)op;
    return binary_refuses(dev, node, SP_CU_BIN_BiasGelu);
}

static sparoa_status bias_gelu_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    (void)node, (void)err;
    k->op = SP_CU_BIN_BiasGelu;
    return SPAROA_OK;
}

SP_CUDA_KERNEL(BiasGelu) = {.ops = SP_CUDA_NAMES("BiasGelu"),
                            .domain = "com.microsoft",
                            .variant = "binary",
                            .prepared_bytes = sizeof(binary_prepared),
                            .refuses = bias_gelu_refuses,
                            .create = bias_gelu_create,
                            .prepare = binary_prepare,
                            .unprepare = binary_unprepare,
                            .run = binary_run};

/* ---- Where ---- */

static const char *where_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    return node->n_in == 3 && node->in[0]->dtype == SPAROA_BOOL ? NULL : "needs a bool condition";
}

static sparoa_status where_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                   size_t *workspace, sparoa_error *err)
{
    (void)k, (void)workspace, (void)err;
    sp_cuda_space(prepared, node->out[0], 3, (const sparoa_tensor *const *)node->in);
    return SPAROA_OK;
}

static sparoa_status where_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                               const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)k, (void)workspace, (void)err;
    sp_cu_where((int)sparoa_dtype_size(node->out[0]->dtype), prepared, node->in[0]->data,
                node->in[1]->data, node->in[2]->data, node->out[0]->data, stream);
    return SPAROA_OK;
}

/* ONNX Where, versions 9 and 16. */
SP_CUDA_KERNEL(Where) = {.ops = SP_CUDA_NAMES("Where"),
                         .variant = "where",
                         .half = sp_cuda_any_half,
                         .prepared_bytes = sizeof(sp_cu_space),
                         .refuses = where_refuses,
                         .prepare = where_prepare,
                         .run = where_run};

/* ---- Cast ---- */

static const char *cast_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    const sparoa_tensor *x = sparoa_in(node, 0), *y = sparoa_out(node, 0);
    if (!x || !y || sp_cuda_type(x->dtype) < 0 || sp_cuda_type(y->dtype) < 0)
        return "an element type that has no kernel";
    return NULL;
}

static sparoa_status cast_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    (void)k, (void)prepared, (void)workspace, (void)err;
    if (x->dtype == y->dtype)
        sp_cuda_copy(y->data, x->data, sparoa_tensor_bytes(y), stream);
    else
        sp_cu_cast((sp_cu_type)sp_cuda_type(x->dtype), (sp_cu_type)sp_cuda_type(y->dtype), x->data,
                   y->data, sp_count(y), stream);
    return SPAROA_OK;
}

/* ONNX Cast, versions 6 to 24, and CastLike. */
SP_CUDA_KERNEL(Cast) = {.ops = SP_CUDA_NAMES("Cast", "CastLike"),
                        .variant = "cast",
                        .half = sp_cuda_any_half,
                        .refuses = cast_refuses,
                        .run = cast_run};

/* ---- Clip ---- */

typedef struct clip_state {
    float *limits; /* of attributes: device memory, low and high */
} clip_state;

static const char *clip_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    const sparoa_tensor *x = sparoa_in(node, 0);
    if (!x) return "no input";
    if (x->dtype == SPAROA_FLOAT32) return NULL;
    if (node->version >= 11 && (x->dtype == SPAROA_INT32 || x->dtype == SPAROA_INT64)) return NULL;
    return "only float32, int32 and int64";
}

static sparoa_status clip_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    clip_state *s = k->state;
    if (node->version >= 11) return SPAROA_OK;
    float limits[2] = {sparoa_attr_float(node, "min", -INFINITY),
                       sparoa_attr_float(node, "max", INFINITY)};
    return sp_cuda_upload(k->dev, k, limits, sizeof limits, (void **)&s->limits, err);
}

static void clip_destroy(sparoa_kernel *k)
{
    clip_state *s = k->state;
    sp_cuda_free(k->dev, s->limits, 2 * sizeof(float));
}

static sparoa_status clip_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const clip_state *s = k->state;
    const sparoa_tensor *x = node->in[0], *low = sparoa_in(node, 1), *high = sparoa_in(node, 2);
    (void)prepared, (void)workspace, (void)err;
    sp_cu_clip((sp_cu_type)sp_cuda_type(x->dtype), x->data,
               s->limits ? s->limits : (low ? low->data : NULL),
               s->limits ? s->limits + 1 : (high ? high->data : NULL), node->out[0]->data,
               sp_count(x), stream);
    return SPAROA_OK;
}

/* ONNX Clip, versions 6 to 13: limits as attributes or (11) inputs. */
SP_CUDA_KERNEL(Clip) = {.ops = SP_CUDA_NAMES("Clip"),
                        .variant = "clip",
                        .state_bytes = sizeof(clip_state),
                        .refuses = clip_refuses,
                        .create = clip_create,
                        .destroy = clip_destroy,
                        .run = clip_run};
