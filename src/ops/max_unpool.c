#include "ops/move.h"

static sparoa_status unpool_list(const sparoa_node *node, const char *name, int32_t want,
                                 const int64_t **v, int64_t low, sparoa_error *err)
{
    size_t n;
    *v = sparoa_attr_ints(node, name, &n);
    if (!*v) return SPAROA_OK;
    if (n != (size_t)want)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu entries, expected %d", name,
                           n, want);
    for (size_t i = 0; i < n; i++)
        if ((*v)[i] < low || (*v)[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s[%zu]=%lld is out of range",
                               name, i, (long long)(*v)[i]);
    return SPAROA_OK;
}

/* The shape that the attributes give, to which the indices refer. */
static sparoa_status pooled_from(const sparoa_node *node, sparoa_tensor *shape, sparoa_error *err)
{
    const sparoa_tensor *in = node->in[0];
    int32_t n = in->rank - 2;
    const int64_t *kernel, *strides, *pads;
    if (n < 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected 3 or more", in->rank);
    SP_TRY(unpool_list(node, "kernel_shape", n, &kernel, 1, err));
    SP_TRY(unpool_list(node, "strides", n, &strides, 1, err));
    SP_TRY(unpool_list(node, "pads", 2 * n, &pads, 0, err));
    if (!kernel) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "has no kernel_shape");
    sp_copy_fact(shape, in);
    for (int32_t i = 0; i < n; i++) {
        int64_t d = in->dims[i + 2], *o = &shape->dims[i + 2];
        if (d < 0) continue;
        if (__builtin_mul_overflow(d - 1, strides ? strides[i] : 1, o)) *o = (int64_t)1 << 61;
        if (*o > (int64_t)1 << 61) *o = (int64_t)1 << 61;
        *o += kernel[i] - (pads ? pads[i] + pads[n + i] : 0);
        if (*o < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of the output would be %lld", i + 2, (long long)*o);
    }
    return sp_check_shape(node, shape, err);
}

static sparoa_status unpool_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 1, 1u << SPAROA_INT64, err));
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sparoa_tensor *out = node->out[0], shape = {0};
    int64_t asked[SPAROA_MAX_RANK];
    int32_t n;
    sp_set_shape(out, in->dtype, in->rank, NULL);
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(pooled_from(node, &shape, err));
    if (sp_known(in) && sp_known(indices) && !sp_same_shape(in, indices))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the indices must have the shape of input 0");
    SP_TRY(sp_read_ints(node, 2, asked, SPAROA_MAX_RANK, &n, err));
    if (n < 0) return SPAROA_OK;
    if (sparoa_in(node, 2)) {
        if (n != in->rank)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "output_shape has %d values, expected %d", n, in->rank);
        for (int32_t i = 0; i < n; i++)
            if (asked[i] < 0 || asked[i] < shape.dims[i])
                return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                                   "output_shape[%d]=%lld, expected %lld or more", i,
                                   (long long)asked[i], (long long)shape.dims[i]);
        memcpy(shape.dims, asked, (size_t)n * sizeof asked[0]);
    }
    sp_copy_fact(out, &shape);
    out->dtype = in->dtype;
    return sp_check_shape(node, out, err);
}

static sparoa_status unpool_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *indices = node->in[1];
    sparoa_tensor *out = node->out[0], shape = {0};
    SP_TRY(pooled_from(node, &shape, exec->err));
    size_t size = sparoa_dtype_size(in->dtype);
    int64_t total = sp_count(&shape), n = sp_count(in), strides[SPAROA_MAX_RANK];
    sp_strides(out, strides);
    sp_fill(out->data, size, sp_count(out), NULL);
    for (int64_t i = 0; i < n; i++) {
        int64_t at = ((const int64_t *)indices->data)[i], to = 0;
        if (at < 0 || at >= total)
            return sparoa_fail(
                exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                "index %lld (element %lld of the indices) is out of range for %lld elements",
                (long long)at, (long long)i, (long long)total);
        for (int32_t a = shape.rank - 1; a >= 0; a--) {
            to += at % shape.dims[a] * strides[a];
            at /= shape.dims[a];
        }
        sp_copy_block((char *)out->data + to * (int64_t)size,
                      (const char *)in->data + i * (int64_t)size, size);
    }
    return SPAROA_OK;
}

/* ONNX MaxUnpool, versions 9 to 22. Indices refer to the shape that the attributes give;
 * output_shape may be larger, and what it adds at the end of each axis is zero. */
SP_OP(MaxUnpool) = {
    SP_OP_HEAD("MaxUnpool", 9, 0),
    .min_in = 2,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = unpool_infer,
    .run = unpool_run,
};
