/* Cases of operators that compute, move or reduce elements: each function makes one random node of
 * its family. */
#include "gpu_node.h"

static void unary(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {
        "Relu",  "LeakyRelu", "Sigmoid",  "Tanh",  "HardSigmoid", "HardSwish", "Gelu",
        "Erf",   "Exp",       "Log",      "Sqrt",  "Reciprocal",  "Abs",       "Neg",
        "Sign",  "Floor",     "Ceil",     "Round", "Sin",         "Cos",       "Tan",
        "Asin",  "Acos",      "Atan",     "Sinh",  "Cosh",        "Asinh",     "Acosh",
        "Atanh", "Softplus",  "Softsign", "Elu",   "Selu",        "Celu",      "ThresholdedRelu",
        "Mish",  "Swish"};
    int64_t dims[4];
    const char *name = names[g->seed % COUNT(names)];
    gpu_start(g, name, strcmp(name, "Swish") == 0 ? 24 : 22, 1);
    if (strcmp(name, "Log") == 0 || strcmp(name, "Sqrt") == 0 || strcmp(name, "Reciprocal") == 0)
        g->lo = 0.1;
    if (strcmp(name, "Acosh") == 0) g->lo = 1.1;
    if (name[0] == 'A' &&
        (strcmp(name, "Asin") == 0 || strcmp(name, "Acos") == 0 || strcmp(name, "Atanh") == 0)) {
        g->lo = -0.9;
        g->hi = 0.9;
    }
    if (strcmp(name, "Tan") == 0) g->lo = -1.2, g->hi = 1.2;
    if (strcmp(name, "Gelu") == 0 && gpu_range(g, 0, 1)) gpu_string(g, "approximate", "tanh");
    gpu_dims(g, 4, 24, dims);
    gpu_input(g, SPAROA_FLOAT32, 4, dims);
    gpu_compare(t, g);
}

/* Dims for operand i: some become 1, leading ones may go. */
static int broadcasted(gpu_node *g, int rank, const int64_t *dims, int64_t *out)
{
    int drop = (int)gpu_range(g, 0, rank), mode = (int)gpu_range(g, 0, 2);
    if (mode == 0) drop = 0;
    for (int i = drop; i < rank; i++) out[i - drop] = mode == 2 && gpu_range(g, 0, 1) ? 1 : dims[i];
    return rank - drop;
}

static void binary(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"Add",
                                        "Sub",
                                        "Mul",
                                        "Div",
                                        "Min",
                                        "Max",
                                        "Pow",
                                        "PRelu",
                                        "Equal",
                                        "Greater",
                                        "GreaterOrEqual",
                                        "Less",
                                        "LessOrEqual"};
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_FLOAT32, SPAROA_INT32,
                                         SPAROA_INT64};
    const char *name = PICK(g, names);
    int64_t dims[5], other[5];
    int rank = (int)gpu_range(g, 0, 5);
    gpu_start(g, name, 16, 1);
    sparoa_dtype type = PICK(g, types);
    if (strcmp(name, "Pow") == 0 || strcmp(name, "PRelu") == 0) type = SPAROA_FLOAT32;
    if (strcmp(name, "Pow") == 0 || (strcmp(name, "Div") == 0)) g->lo = 0.3;
    if (type != SPAROA_FLOAT32) g->lo = strcmp(name, "Div") == 0 ? 1 : -50, g->hi = 50;
    gpu_dims(g, rank, 17, dims);
    gpu_input(g, type, rank, dims);
    int n = broadcasted(g, rank, dims, other);
    gpu_input(g, type, n, other);
    gpu_compare(t, g);
}

static void variadic(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"Sum", "Mean", "Min", "Max"};
    int64_t dims[4], other[4];
    int rank = (int)gpu_range(g, 1, 4), inputs = (int)gpu_range(g, 1, 5);
    gpu_start(g, PICK(g, names), 13, 1);
    gpu_dims(g, rank, 13, dims);
    for (int i = 0; i < inputs; i++) {
        int n = i ? broadcasted(g, rank, dims, other) : rank;
        gpu_input(g, SPAROA_FLOAT32, n, i ? other : dims);
    }
    gpu_compare(t, g);
}

static void logical(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"And", "Or", "Xor", "Equal", "Not", "IsNaN", "IsInf"};
    int64_t dims[3], other[3];
    int which = (int)gpu_range(g, 0, 6);
    gpu_start(g, names[which], 20, 1);
    gpu_dims(g, 3, 30, dims);
    sparoa_tensor *x = gpu_input(g, which > 4 ? SPAROA_FLOAT32 : SPAROA_BOOL, 3, dims);
    if (which > 4) {
        ((float *)x->data)[0] = NAN;
        ((float *)x->data)[sp_count(x) - 1] = -INFINITY;
    }
    if (which < 4) {
        int n = broadcasted(g, 3, dims, other);
        gpu_input(g, SPAROA_BOOL, n, other);
    }
    gpu_compare(t, g);
}

static void where(gpu_test *t, gpu_node *g)
{
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_INT64, SPAROA_UINT8};
    int64_t dims[3], other[3];
    gpu_start(g, "Where", 16, 1);
    g->lo = 0;
    g->hi = 100;
    gpu_dims(g, 3, 20, dims);
    int n = broadcasted(g, 3, dims, other);
    gpu_input(g, SPAROA_BOOL, n, other);
    sparoa_dtype type = PICK(g, types);
    gpu_input(g, type, 3, dims);
    n = broadcasted(g, 3, dims, other);
    gpu_input(g, type, n, other);
    gpu_compare(t, g);
}

static void cast(gpu_test *t, gpu_node *g)
{
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_INT32, SPAROA_INT64,
                                         SPAROA_UINT8,   SPAROA_INT8,  SPAROA_FLOAT16,
                                         SPAROA_FLOAT64, SPAROA_BOOL};
    int64_t dims[2];
    gpu_start(g, "Cast", 13, 1);
    g->lo = 0;
    g->hi = 100;
    gpu_dims(g, 2, 61, dims);
    gpu_input(g, PICK(g, types), 2, dims);
    gpu_int(g, "to", PICK(g, types));
    gpu_compare(t, g);
}

static void clip(gpu_test *t, gpu_node *g)
{
    int64_t dims[2];
    bool old = gpu_range(g, 0, 1);
    gpu_start(g, "Clip", old ? 6 : 13, 1);
    gpu_dims(g, 2, 127, dims);
    gpu_input(g, SPAROA_FLOAT32, 2, dims);
    if (old) {
        gpu_float(g, "min", -0.5f);
        if (gpu_range(g, 0, 1)) gpu_float(g, "max", 0.75f);
    } else {
        *(float *)gpu_weight(g, 0, NULL)->data = -0.5f;
        if (gpu_range(g, 0, 1)) *(float *)gpu_input(g, SPAROA_FLOAT32, 0, NULL)->data = 1.0f;
    }
    gpu_compare(t, g);
}

/* ---- moving ---- */

static const sparoa_dtype any_type[] = {SPAROA_FLOAT32, SPAROA_FLOAT32, SPAROA_UINT8, SPAROA_INT64,
                                        SPAROA_FLOAT16};

static void transpose(gpu_test *t, gpu_node *g)
{
    int64_t dims[5], perm[5];
    int rank = (int)gpu_range(g, 1, 5);
    gpu_start(g, "Transpose", 13, 1);
    gpu_dims(g, rank, rank > 3 ? 17 : 70, dims);
    for (int i = 0; i < rank; i++) perm[i] = i;
    for (int i = rank - 1; i > 0; i--) {
        int j = (int)gpu_range(g, 0, i);
        int64_t v = perm[i];
        perm[i] = perm[j];
        perm[j] = v;
    }
    gpu_input(g, PICK(g, any_type), rank, dims);
    gpu_ints(g, "perm", rank, perm);
    gpu_compare(t, g);
}

static void concat(gpu_test *t, gpu_node *g)
{
    int64_t dims[4];
    int rank = (int)gpu_range(g, 1, 4), n = (int)gpu_range(g, 1, 5);
    gpu_start(g, "Concat", 13, 1);
    gpu_dims(g, rank, 14, dims);
    int axis = (int)gpu_range(g, 0, rank - 1);
    sparoa_dtype type = PICK(g, any_type);
    for (int i = 0; i < n; i++) {
        dims[axis] = gpu_range(g, 1, 9);
        gpu_input(g, type, rank, dims);
    }
    gpu_int(g, "axis", gpu_range(g, 0, 1) ? axis : axis - rank);
    gpu_compare(t, g);
}

static void split(gpu_test *t, gpu_node *g)
{
    int64_t dims[3], sizes[4], sum = 0;
    int n = (int)gpu_range(g, 1, 4), axis = (int)gpu_range(g, 0, 2);
    gpu_start(g, "Split", 13, n);
    gpu_dims(g, 3, 14, dims);
    for (int i = 0; i < n; i++) sum += sizes[i] = gpu_range(g, 1, 7);
    dims[axis] = sum;
    gpu_input(g, PICK(g, any_type), 3, dims);
    gpu_const_ints(g, n, sizes);
    gpu_int(g, "axis", axis);
    gpu_compare(t, g);
}

static void slice(gpu_test *t, gpu_node *g)
{
    int64_t dims[4], starts[4], ends[4], axes[4] = {0, 1, 2, 3}, steps[4];
    gpu_start(g, "Slice", 13, 1);
    gpu_dims(g, 4, 13, dims);
    for (int i = 0; i < 4; i++) {
        bool back = gpu_range(g, 0, 3) == 0;
        steps[i] = (back ? -1 : 1) * gpu_range(g, 1, 3);
        starts[i] = back ? 100 : gpu_range(g, -dims[i], dims[i] / 2);
        ends[i] = back ? -100 : gpu_range(g, dims[i] / 2, dims[i] + 3);
    }
    gpu_input(g, PICK(g, any_type), 4, dims);
    int n = (int)gpu_range(g, 1, 4);
    gpu_const_ints(g, n, starts);
    gpu_const_ints(g, n, ends);
    gpu_const_ints(g, n, axes);
    gpu_const_ints(g, n, steps);
    gpu_compare(t, g);
}

static void expand(gpu_test *t, gpu_node *g)
{
    int64_t dims[4], other[4], repeats[4];
    bool tile = gpu_range(g, 0, 1);
    gpu_start(g, tile ? "Tile" : "Expand", 13, 1);
    gpu_dims(g, 4, 9, dims);
    int n = tile ? 4 : broadcasted(g, 4, dims, other);
    gpu_input(g, PICK(g, any_type), n, tile ? dims : other);
    for (int i = 0; i < 4; i++) repeats[i] = gpu_range(g, 1, 3);
    gpu_const_ints(g, 4, tile ? repeats : dims);
    gpu_compare(t, g);
}

static void depth(gpu_test *t, gpu_node *g)
{
    int64_t b = gpu_range(g, 1, 4);
    bool to_space = gpu_range(g, 0, 1), nhwc = gpu_range(g, 0, 1);
    gpu_start(g, to_space ? "DepthToSpace" : "SpaceToDepth", 13, 1);
    int64_t c = gpu_range(g, 1, 5), h = gpu_range(g, 1, 9), w = gpu_range(g, 1, 9);
    if (to_space)
        c *= b * b;
    else
        h *= b, w *= b;
    int64_t n = gpu_range(g, 1, 3);
    gpu_input(g, SPAROA_FLOAT32, 4, nhwc ? DIMS(n, h, w, c) : DIMS(n, c, h, w));
    gpu_int(g, "blocksize", b);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    if (to_space && gpu_range(g, 0, 1)) gpu_string(g, "mode", "CRD");
    gpu_compare(t, g);
}

static void view(gpu_test *t, gpu_node *g)
{
    int64_t dims[3];
    gpu_start(g, gpu_range(g, 0, 1) ? "Identity" : "Flatten", 13, 1);
    gpu_dims(g, 3, 20, dims);
    gpu_input(g, PICK(g, any_type), 3, dims);
    gpu_compare(t, g);
}

static void pad(gpu_test *t, gpu_node *g)
{
    static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
    int64_t dims[4], pads[8];
    const char *mode = PICK(g, modes);
    gpu_start(g, "Pad", 19, 1);
    gpu_dims(g, 4, 9, dims);
    for (int i = 0; i < 8; i++) {
        int64_t d = dims[i % 4];
        pads[i] = gpu_range(g, d > 4 ? -1 : 0, strcmp(mode, "reflect") == 0 ? (d > 3 ? 2 : 0) : 4);
    }
    gpu_input(g, SPAROA_FLOAT32, 4, dims);
    gpu_const_ints(g, 8, pads);
    if (gpu_range(g, 0, 1)) gpu_weight(g, 0, NULL);
    gpu_string(g, "mode", mode);
    gpu_compare(t, g);
}

static void indices(gpu_node *g, int rank, const int64_t *dims, int64_t extent, bool wide)
{
    double lo = g->lo, hi = g->hi;
    g->lo = (double)-extent;
    g->hi = (double)extent - 0.001;
    gpu_input(g, wide ? SPAROA_INT64 : SPAROA_INT32, rank, dims);
    g->lo = lo;
    g->hi = hi;
}

static void gather(gpu_test *t, gpu_node *g)
{
    int64_t dims[4], index[2];
    int rank = (int)gpu_range(g, 1, 4), axis = (int)gpu_range(g, 0, rank - 1);
    gpu_start(g, "Gather", 13, 1);
    gpu_dims(g, rank, 16, dims);
    gpu_dims(g, 2, 7, index);
    gpu_input(g, PICK(g, any_type), rank, dims);
    indices(g, (int)gpu_range(g, 0, 2), index, dims[axis], gpu_range(g, 0, 1));
    gpu_int(g, "axis", axis);
    gpu_compare(t, g);
}

static void gather_elements(gpu_test *t, gpu_node *g)
{
    int64_t dims[3], index[3];
    int axis = (int)gpu_range(g, 0, 2);
    gpu_start(g, "GatherElements", 13, 1);
    gpu_dims(g, 3, 12, dims);
    for (int i = 0; i < 3; i++)
        index[i] = i == axis ? gpu_range(g, 1, 15) : gpu_range(g, 1, dims[i]);
    gpu_input(g, PICK(g, any_type), 3, dims);
    indices(g, 3, index, dims[axis], gpu_range(g, 0, 1));
    gpu_int(g, "axis", axis);
    gpu_compare(t, g);
}

static void gather_nd(gpu_test *t, gpu_node *g)
{
    int64_t dims[4], least = 100;
    int batch = (int)gpu_range(g, 0, 1), deep = (int)gpu_range(g, 1, 3 - batch);
    gpu_start(g, "GatherND", 13, 1);
    gpu_dims(g, 4, 9, dims);
    for (int i = batch; i < batch + deep; i++) least = dims[i] < least ? dims[i] : least;
    gpu_input(g, PICK(g, any_type), 4, dims);
    indices(g, 3, DIMS(batch ? dims[0] : 2, gpu_range(g, 1, 9), deep), least, true);
    gpu_int(g, "batch_dims", batch);
    gpu_compare(t, g);
}

static void scatter_nd(gpu_test *t, gpu_node *g)
{
    int64_t rows = gpu_range(g, 3, 20), inner = gpu_range(g, 1, 17), n = gpu_range(g, 1, rows);
    int64_t index[20];
    gpu_start(g, "ScatterND", 13, 1);
    gpu_input(g, SPAROA_FLOAT32, 2, DIMS(rows, inner));
    for (int64_t i = 0; i < n; i++) index[i] = i; /* distinct: the order is not defined */
    sparoa_tensor *t_index = gpu_input(g, SPAROA_INT64, 2, DIMS(n, 1));
    memcpy(t_index->data, index, (size_t)n * sizeof *index);
    gpu_input(g, SPAROA_FLOAT32, 2, DIMS(n, inner));
    gpu_compare(t, g);
}

/* ---- reductions and normalisation ---- */

static void reduce(gpu_test *t, gpu_node *g)
{
    static const char *const names[] = {"ReduceSum", "ReduceMean",   "ReduceSumSquare", "ReduceL1",
                                        "ReduceL2",  "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
                                        "ReduceMin", "ReduceProd"};
    int64_t dims[4], axes[4];
    int rank = (int)gpu_range(g, 1, 4), n = 0;
    const char *name = PICK(g, names);
    gpu_start(g, name, 18, 1);
    if (strcmp(name, "ReduceLogSum") == 0) g->lo = 0.1;
    if (strcmp(name, "ReduceProd") == 0) g->lo = 0.9, g->hi = 1.1;
    gpu_dims(g, rank, rank < 3 ? 300 : 23, dims);
    gpu_input(g, SPAROA_FLOAT32, rank, dims);
    for (int i = 0; i < rank; i++)
        if (gpu_range(g, 0, 1)) axes[n++] = i;
    if (strcmp(name, "ReduceSum") && strcmp(name, "ReduceMean")) g->node.version = 18;
    if (n) gpu_const_ints(g, n, axes);
    gpu_int(g, "keepdims", gpu_range(g, 0, 1));
    gpu_compare(t, g);
}

static void argmax(gpu_test *t, gpu_node *g)
{
    int64_t dims[3];
    gpu_start(g, gpu_range(g, 0, 1) ? "ArgMax" : "ArgMin", 13, 1);
    gpu_dims(g, 3, 40, dims);
    sparoa_tensor *x = gpu_input(g, SPAROA_FLOAT32, 3, dims);
    for (int64_t i = 0; i < sp_count(x); i++)
        ((float *)x->data)[i] = floorf(((float *)x->data)[i] * 3); /* ties */
    gpu_int(g, "axis", gpu_range(g, 0, 2));
    gpu_int(g, "select_last_index", gpu_range(g, 0, 1));
    gpu_compare(t, g);
}

static void softmax(gpu_test *t, gpu_node *g)
{
    int64_t dims[4];
    int rank = (int)gpu_range(g, 1, 4);
    gpu_start(g, gpu_range(g, 0, 1) ? "Softmax" : "LogSoftmax", gpu_range(g, 0, 3) ? 13 : 11, 1);
    g->lo = -20;
    g->hi = 20;
    gpu_dims(g, rank, rank < 3 ? 700 : 20, dims);
    gpu_input(g, SPAROA_FLOAT32, rank, dims);
    gpu_int(g, "axis", gpu_range(g, 0, rank - 1));
    gpu_compare(t, g);
}

static void layer_norm(gpu_test *t, gpu_node *g)
{
    int64_t dims[3];
    int which = (int)gpu_range(g, 0, 2);
    gpu_start(g, which == 1 ? "RMSNormalization" : "LayerNormalization", which == 1 ? 23 : 17,
              which == 2 ? 3 : 1);
    gpu_dims(g, 3, 400, dims);
    dims[0] = gpu_range(g, 1, 5);
    gpu_input(g, SPAROA_FLOAT32, 3, dims);
    int axis = (int)gpu_range(g, 1, 2);
    gpu_weight(g, 3 - axis, dims + axis);
    if (which != 1 && gpu_range(g, 0, 1)) gpu_weight(g, 3 - axis, dims + axis);
    gpu_int(g, "axis", axis);
    gpu_compare(t, g);
}

static void skip_norm(gpu_test *t, gpu_node *g)
{
    int64_t dims[3];
    gpu_start(g, "SkipLayerNormalization", 1, 1);
    g->node.domain = "com.microsoft";
    gpu_dims(g, 3, 100, dims);
    gpu_input(g, SPAROA_FLOAT32, 3, dims);
    gpu_input(g, SPAROA_FLOAT32, 3, dims);
    gpu_weight(g, 1, dims + 2);
    gpu_weight(g, 1, dims + 2);
    if (gpu_range(g, 0, 1)) gpu_weight(g, 1, dims + 2);
    gpu_compare(t, g);
}

static void channel_norm(gpu_test *t, gpu_node *g)
{
    int64_t dims[4];
    int which = (int)gpu_range(g, 0, 2);
    bool nhwc = which != 2 && gpu_range(g, 0, 1);
    gpu_start(g,
              which == 0   ? "BatchNormalization"
              : which == 1 ? "InstanceNormalization"
                           : "GroupNormalization",
              which == 2 ? 21 : 15, 1);
    gpu_dims(g, 4, 20, dims);
    if (which == 2) dims[1] = 12;
    gpu_input(g, SPAROA_FLOAT32, 4, dims);
    int64_t c = dims[nhwc ? 3 : 1];
    g->lo = 0.2;
    for (int i = 0; i < (which == 0 ? 4 : 2); i++) gpu_weight(g, 1, &c);
    if (nhwc) gpu_int(g, "sp.nhwc", 1);
    if (which == 2) gpu_int(g, "num_groups", 4);
    gpu_compare(t, g);
}

const gpu_family gpu_families_elements[] = {
    {"unary", unary, 148},
    {"binary", binary, 200},
    {"variadic", variadic, 40},
    {"logical", logical, 40},
    {"where", where, 30},
    {"cast", cast, 100},
    {"clip", clip, 20},
    {"transpose", transpose, 80},
    {"concat", concat, 40},
    {"split", split, 30},
    {"slice", slice, 60},
    {"expand", expand, 40},
    {"depth", depth, 30},
    {"view", view, 10},
    {"pad", pad, 60},
    {"gather", gather, 50},
    {"gather_elements", gather_elements, 30},
    {"gather_nd", gather_nd, 30},
    {"scatter_nd", scatter_nd, 20},
    {"reduce", reduce, 150},
    {"argmax", argmax, 30},
    {"softmax", softmax, 50},
    {"layer_norm", layer_norm, 40},
    {"skip_norm", skip_norm, 20},
    {"channel_norm", channel_norm, 50},
    {NULL, NULL, 0},
};
