#include "ops/move.h"

#define MAX_SPATIAL (SPAROA_MAX_RANK - 2)

typedef struct fold {
    int32_t rank; /* spatial axes; -1: shapes not known yet */
    int64_t image[MAX_SPATIAL], block[MAX_SPATIAL];
    int64_t stride[MAX_SPATIAL], dilation[MAX_SPATIAL], pad[MAX_SPATIAL];
    int64_t steps[MAX_SPATIAL]; /* places of the block along each axis */
    int64_t per_block, places;  /* products of block and of steps */
} fold;

/* Entry i of an optional attribute, which must have `want` entries. */
static sparoa_status check_list(const sparoa_node *node, const char *name, int32_t want,
                                int64_t low, sparoa_error *err)
{
    size_t n;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    if (!v) return SPAROA_OK;
    if (n != (size_t)want)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu entries, expected %d", name,
                           n, want);
    for (size_t i = 0; i < n; i++)
        if (v[i] < low || v[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s[%zu]=%lld is out of range",
                               name, i, (long long)v[i]);
    return SPAROA_OK;
}

static int64_t entry(const sparoa_node *node, const char *name, int32_t i, int64_t fallback)
{
    size_t n;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    return v ? v[i] : fallback;
}

static sparoa_status read_fold(const sparoa_node *node, fold *f, sparoa_error *err)
{
    int32_t n_block;
    SP_TRY(sp_read_ints(node, 1, f->image, MAX_SPATIAL, &f->rank, err));
    SP_TRY(sp_read_ints(node, 2, f->block, MAX_SPATIAL, &n_block, err));
    if (f->rank < 0 || n_block < 0) {
        f->rank = -1;
        return SPAROA_OK;
    }
    if (f->rank != n_block || f->rank < 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "image_shape has %d values, block_shape %d", f->rank, n_block);
    SP_TRY(check_list(node, "strides", f->rank, 1, err));
    SP_TRY(check_list(node, "dilations", f->rank, 1, err));
    SP_TRY(check_list(node, "pads", 2 * f->rank, 0, err));
    f->per_block = f->places = 1;
    for (int32_t i = 0; i < f->rank; i++) {
        if (f->image[i] < 0 || f->image[i] > INT32_MAX || f->block[i] < 1 ||
            f->block[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "image_shape[%d]=%lld or block_shape[%d]=%lld is out "
                               "of range",
                               i, (long long)f->image[i], i, (long long)f->block[i]);
        f->stride[i] = entry(node, "strides", i, 1);
        f->dilation[i] = entry(node, "dilations", i, 1);
        f->pad[i] = entry(node, "pads", i, 0);
        int64_t span = f->image[i] + f->pad[i] + entry(node, "pads", i + f->rank, 0);
        int64_t room = span - f->dilation[i] * (f->block[i] - 1) - 1;
        f->steps[i] = room < 0 ? 0 : room / f->stride[i] + 1;
        if (__builtin_mul_overflow(f->per_block, f->block[i], &f->per_block) ||
            __builtin_mul_overflow(f->places, f->steps[i], &f->places))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the blocks are too many to count");
    }
    return SPAROA_OK;
}

static sparoa_status col2im_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_NUMBER, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    fold f;
    SP_TRY(read_fold(node, &f, err));
    if (in->rank >= 0 && in->rank != 3)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 has rank %d, expected 3",
                           in->rank);
    sp_set_shape(out, in->dtype, f.rank < 0 ? -1 : f.rank + 2, NULL);
    if (f.rank < 0) return SPAROA_OK;
    for (int32_t i = 0; i < f.rank; i++) out->dims[i + 2] = f.image[i];
    if (in->rank < 0) return sp_check_shape(node, out, err);
    out->dims[0] = in->dims[0];
    if (in->dims[1] >= 0 && in->dims[1] % f.per_block != 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "dimension 1 is %lld, not a multiple of the block's %lld",
                           (long long)in->dims[1], (long long)f.per_block);
    if (in->dims[2] >= 0 && in->dims[2] != f.places)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "dimension 2 is %lld, but the image has %lld blocks",
                           (long long)in->dims[2], (long long)f.places);
    out->dims[1] = in->dims[1] < 0 ? -1 : in->dims[1] / f.per_block;
    return sp_check_shape(node, out, err);
}

typedef struct fold_args {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    fold f;
    int64_t pixels, strides[MAX_SPATIAL];
} fold_args;

/* Adds `n` values that lie `step` elements apart in the image. */
static void add_run(const fold_args *a, int64_t to, int64_t step, int64_t from, int64_t n)
{
    switch (a->in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: {                                                                                     \
        ctype *y = (ctype *)a->out->data + to;                                                     \
        const ctype *x = (const ctype *)a->in->data + from;                                        \
        for (int64_t i = 0; i < n; i++) y[i * step] = (ctype)(y[i * step] + x[i]);                 \
        break;                                                                                     \
    }
        SP_FOR_FLOATS(X)
#undef X
#define X(ctype, dt)                                                                               \
    case dt: {                                                                                     \
        ctype *y = (ctype *)a->out->data + to;                                                     \
        const ctype *x = (const ctype *)a->in->data + from;                                        \
        for (int64_t i = 0; i < n; i++)                                                            \
            y[i * step] = (ctype)((uint64_t)y[i * step] + (uint64_t)x[i]);                         \
        break;                                                                                     \
    }
        SP_FOR_INTS(X)
#undef X
    default: break;
    }
}

/* One element of the block, in image `plane`: adds its values for all places of the block. */
static void fold_element(const fold_args *a, int64_t plane, int64_t element)
{
    const fold *f = &a->f;
    int32_t last = f->rank - 1;
    int64_t shift[MAX_SPATIAL], rest = element, rows = f->places / f->steps[last];
    for (int32_t i = last; i >= 0; i--) {
        shift[i] = rest % f->block[i] * f->dilation[i] - f->pad[i];
        rest /= f->block[i];
    }
    int64_t s = f->stride[last], begin = shift[last] >= 0 ? 0 : (-shift[last] + s - 1) / s;
    int64_t room = f->image[last] - 1 - shift[last], end = room < 0 ? 0 : room / s + 1;
    if (end > f->steps[last]) end = f->steps[last];
    if (begin >= end) return;
    for (int64_t row = 0; row < rows; row++) {
        int64_t to = plane * a->pixels + begin * s + shift[last];
        bool inside = true;
        rest = row;
        for (int32_t i = last - 1; i >= 0 && inside; i--) {
            int64_t c = rest % f->steps[i] * f->stride[i] + shift[i];
            rest /= f->steps[i];
            inside = c >= 0 && c < f->image[i];
            to += c * a->strides[i];
        }
        int64_t from = (plane * f->per_block + element) * f->places + row * f->steps[last] + begin;
        if (inside) add_run(a, to, s, from, end - begin);
    }
}

static void fold_planes(void *arg, int64_t begin, int64_t end)
{
    const fold_args *a = arg;
    int64_t size = (int64_t)sparoa_dtype_size(a->out->dtype);
    memset((char *)a->out->data + begin * a->pixels * size, 0,
           (size_t)((end - begin) * a->pixels * size));
    for (int64_t plane = begin; plane < end && a->f.places > 0; plane++)
        for (int64_t e = 0; e < a->f.per_block; e++) fold_element(a, plane, e);
}

static sparoa_status col2im_run(const sparoa_node *node, const sparoa_exec *exec)
{
    fold_args a = {.in = node->in[0], .out = node->out[0]};
    SP_TRY(read_fold(node, &a.f, exec->err));
    if (sp_count(a.out) == 0) return SPAROA_OK;
    a.pixels = sp_dims_product(a.out, 2, a.out->rank);
    int64_t s = 1;
    for (int32_t i = a.f.rank - 1; i >= 0; i--) {
        a.strides[i] = s;
        s *= a.f.image[i];
    }
    sp_parallel_for(exec, a.out->dims[0] * a.out->dims[1], 16384 / (a.f.places + 1) + 1,
                    fold_planes, &a);
    return SPAROA_OK;
}

/* ONNX Col2Im, version 18. */
SP_OP(Col2Im) = {
    SP_OP_HEAD("Col2Im", 18, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_SUM,
    .infer = col2im_infer,
    .run = col2im_run,
};
