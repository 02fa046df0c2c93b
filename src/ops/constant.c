#include "ops/move.h"

/* The attribute of a Constant as a tensor view; false: none that is supported. */
static bool constant_value(const sparoa_node *node, sparoa_tensor *t)
{
    const sparoa_tensor *value = sparoa_attr_tensor(node, "value");
    if (value) {
        *t = *value;
        return true;
    }
    static const struct {
        const char *name;
        sparoa_attr_type type;
        sparoa_dtype dtype;
    } forms[] = {
        {"value_float", SPAROA_ATTR_FLOAT, SPAROA_FLOAT32},
        {"value_floats", SPAROA_ATTR_FLOATS, SPAROA_FLOAT32},
        {"value_int", SPAROA_ATTR_INT, SPAROA_INT64},
        {"value_ints", SPAROA_ATTR_INTS, SPAROA_INT64},
    };
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const sparoa_attr *a = sparoa_attr_find(node, forms[i].name);
        if (!a || a->type != forms[i].type) continue;
        bool one = a->type == SPAROA_ATTR_FLOAT || a->type == SPAROA_ATTR_INT;
        *t = (sparoa_tensor){
            .dtype = forms[i].dtype, .rank = one ? 0 : 1, .dims = {one ? 0 : (int64_t)a->count}};
        const void *data = a->type == SPAROA_ATTR_FLOAT  ? (const void *)&a->v.f
                           : a->type == SPAROA_ATTR_INT  ? (const void *)&a->v.i
                           : a->type == SPAROA_ATTR_INTS ? (const void *)a->v.ints
                                                         : (const void *)a->v.floats;
        t->data = (void *)(uintptr_t)data;
        return true;
    }
    return false;
}

static sparoa_status constant_infer(const sparoa_node *node, sparoa_error *err)
{
    sparoa_tensor t;
    SP_TRY(sp_check_present(node, 0, 1, err));
    if (!constant_value(node, &t))
        return sparoa_fail(
            err, SPAROA_UNSUPPORTED_TYPE, node,
            "has no attribute value, value_float(s) or value_int(s); strings and sparse values are "
            "not supported");
    sp_copy_fact(node->out[0], &t);
    return SPAROA_OK;
}

static sparoa_status constant_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sparoa_tensor t;
    if (constant_value(node, &t) && sparoa_tensor_bytes(&t)) sp_copy_data(node->out[0], &t);
    return SPAROA_OK;
}

/* ONNX Constant, versions 1 to 25: dense numbers. */
SP_OP(Constant) = {
    SP_OP_HEAD("Constant", 1, 0),
    .min_in = 0,
    .max_in = 0,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = constant_infer,
    .run = constant_run,
};

static sparoa_status constant_of_shape_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    sparoa_tensor *out = node->out[0];
    const sparoa_tensor *value = sparoa_attr_tensor(node, "value"), *shape = node->in[0];
    if (value && sp_count(value) != 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "value has %lld elements, expected one",
                           (long long)sp_count(value));
    int64_t dims[SPAROA_MAX_RANK];
    int32_t rank;
    SP_TRY(sp_read_ints(node, 0, dims, SPAROA_MAX_RANK, &rank, err));
    out->dtype = value ? value->dtype : SPAROA_FLOAT32;
    if (rank < 0) {
        bool sized = shape->rank == 1 && shape->dims[0] >= 0 && shape->dims[0] <= SPAROA_MAX_RANK;
        sp_set_shape(out, out->dtype, sized ? (int32_t)shape->dims[0] : -1, NULL);
        return SPAROA_OK;
    }
    for (int32_t i = 0; i < rank; i++)
        if (dims[i] < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the shape's dimension %d is %lld",
                               i, (long long)dims[i]);
    sp_set_shape(out, out->dtype, rank, dims);
    return sp_check_shape(node, out, err);
}

typedef struct fill_args {
    char *dst;
    size_t size;
    const void *value;
} fill_args;

static void fill_piece(void *arg, int64_t begin, int64_t end)
{
    const fill_args *a = arg;
    sp_fill(a->dst + begin * (int64_t)a->size, a->size, end - begin, a->value);
}

static sparoa_status constant_of_shape_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *value = sparoa_attr_tensor(node, "value");
    fill_args a = {node->out[0]->data, sparoa_dtype_size(node->out[0]->dtype),
                   value ? value->data : NULL};
    sp_parallel_for(exec, sp_count(node->out[0]), 65536, fill_piece, &a);
    return SPAROA_OK;
}

/* ONNX ConstantOfShape, versions 9 to 25. */
SP_OP(ConstantOfShape) = {
    SP_OP_HEAD("ConstantOfShape", 9, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = constant_of_shape_infer,
    .run = constant_of_shape_run,
};

static sparoa_status eye_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    sp_copy_fact(node->out[0], in);
    int64_t dtype = sparoa_attr_int(node, "dtype", in->dtype);
    if (dtype < 0 || dtype > SPAROA_BFLOAT16 || !(SP_TYPES_ALL >> dtype & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node, "dtype=%lld is not supported",
                           (long long)dtype);
    if (in->rank >= 0 && in->rank != 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 has rank %d, expected 2",
                           in->rank);
    node->out[0]->dtype = (sparoa_dtype)dtype;
    return SPAROA_OK;
}

static sparoa_status eye_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sparoa_tensor *out = node->out[0];
    int64_t k = sparoa_attr_int(node, "k", 0), rows = out->dims[0], cols = out->dims[1];
    sp_fill(out->data, sparoa_dtype_size(out->dtype), rows * cols, NULL);
    if (k >= cols || k <= -rows) return SPAROA_OK;
    for (int64_t r = k < 0 ? -k : 0; r < rows && r + k < cols; r++)
        sp_set_i64(out, r * cols + r + k, 1);
    return SPAROA_OK;
}

/* ONNX EyeLike, versions 9 and 22. */
SP_OP(EyeLike) = {
    SP_OP_HEAD("EyeLike", 9, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_SHAPE_ONLY,
    .infer = eye_infer,
    .run = eye_run,
};

/* Elements of start, start+delta, ... before limit. Integers exactly, floats in double; -1 with an
 * error set. */
static int64_t range_count(const sparoa_node *node, sparoa_error *err)
{
    if (sp_is_int(node->in[0]->dtype)) {
        int64_t a = sp_get_i64(node->in[0], 0), b = sp_get_i64(node->in[1], 0),
                d = sp_get_i64(node->in[2], 0);
        if (d == 0) {
            sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "delta is 0");
            return -1;
        }
        if (d > 0 ? a >= b : a <= b) return 0;
        uint64_t span = d > 0 ? (uint64_t)b - (uint64_t)a : (uint64_t)a - (uint64_t)b;
        uint64_t step = d > 0 ? (uint64_t)d : 0 - (uint64_t)d, n = (span - 1) / step + 1;
        return n > INT64_MAX ? INT64_MAX : (int64_t)n;
    }
    double a = sp_get_f64(node->in[0], 0), b = sp_get_f64(node->in[1], 0),
           d = sp_get_f64(node->in[2], 0);
    double n = ceil((b - a) / d);
    if (!(d != 0) || !isfinite(n) || n > 0x1p58) {
        sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                    "start=%g limit=%g delta=%g do not give a finite range", a, b, d);
        return -1;
    }
    return n > 0 ? (int64_t)n : 0;
}

static sparoa_status range_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    bool known = true;
    for (int32_t i = 0; i < 3; i++) {
        SP_TRY(sp_check_same_type(node, 0, i, err));
        const sparoa_tensor *t = node->in[i];
        if (sp_known(t) && sp_count(t) != 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "input %d has %lld elements, expected one", i,
                               (long long)sp_count(t));
        known = known && sp_known(t) && t->data;
    }
    int64_t n = -1;
    if (known && (n = range_count(node, err)) < 0) return SPAROA_INVALID_GRAPH;
    sp_set_shape(node->out[0], node->in[0]->dtype, 1, &n);
    return sp_check_shape(node, node->out[0], err);
}

static sparoa_status range_run(const sparoa_node *node, const sparoa_exec *exec)
{
    (void)exec;
    sparoa_tensor *out = node->out[0];
    int64_t n = sp_count(out);
    if (sp_is_int(out->dtype)) {
        uint64_t a = (uint64_t)sp_get_i64(node->in[0], 0), d = (uint64_t)sp_get_i64(node->in[2], 0);
        for (int64_t i = 0; i < n; i++) sp_set_i64(out, i, (int64_t)(a + (uint64_t)i * d));
        return SPAROA_OK;
    }
    double a = sp_get_f64(node->in[0], 0), d = sp_get_f64(node->in[2], 0);
    for (int64_t i = 0; i < n; i++) sp_set_f64(out, i, a + (double)i * d);
    return SPAROA_OK;
}

/* ONNX Range, versions 11 and 27. */
SP_OP(Range) = {
    SP_OP_HEAD("Range", 11, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_SHAPE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .flags = SPAROA_OP_HALF,
    .infer = range_infer,
    .run = range_run,
};
