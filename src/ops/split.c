#include "ops/move.h"

/* The sizes asked for: attribute split (before 13) or input 1, or none. */
typedef struct sizes {
    const int64_t *attr;
    const sparoa_tensor *input;
    int64_t parts; /* even split into this many where no sizes are given */
} sizes;

static sizes sizes_of(const sparoa_node *node)
{
    size_t n;
    sizes s = {.attr = sparoa_attr_ints(node, "split", &n), .input = sparoa_in(node, 1)};
    s.parts = sparoa_attr_int(node, "num_outputs", node->n_out);
    return s;
}

/* Size of output i along an axis of `extent`; -1: not known. */
static int64_t part_size(const sizes *s, int32_t i, int64_t extent)
{
    if (s->attr) return s->attr[i];
    if (s->input) return s->input->data ? sp_get_i64(s->input, i) : -1;
    if (extent < 0) return -1;
    int64_t each = extent / s->parts + (extent % s->parts != 0), before;
    if (__builtin_mul_overflow(each, i, &before) || before >= extent) return 0;
    return extent - before < each ? extent - before : each;
}

static sparoa_status check_sizes(const sparoa_node *node, const sizes *s, int64_t extent,
                                 sparoa_error *err)
{
    int64_t sum = 0;
    size_t n_attr;
    sparoa_attr_ints(node, "split", &n_attr);
    int64_t n = s->parts;
    if (s->attr)
        n = (int64_t)n_attr;
    else if (s->input) /* how many is told by it alone */
        n = sp_known(s->input) ? sp_count(s->input) : node->n_out;
    if (n != node->n_out || n < 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%lld parts are asked for, but there are %d outputs", (long long)n,
                           node->n_out);
    if (s->input && (!sp_known(s->input) || !s->input->data)) return SPAROA_OK;
    if (!s->input && !s->attr) {
        bool even = extent < 0 || extent % n == 0 || sparoa_attr_find(node, "num_outputs");
        return even ? SPAROA_OK
                    : sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                                  "%lld elements can't be split into %lld equal parts",
                                  (long long)extent, (long long)n);
    }
    for (int32_t i = 0; i < node->n_out; i++) {
        int64_t size = part_size(s, i, extent);
        if (size < 0 || __builtin_add_overflow(sum, size, &sum))
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "part %d has size %lld", i,
                               (long long)size);
    }
    if (extent >= 0 && sum != extent)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the parts have %lld elements, the axis %lld", (long long)sum,
                           (long long)extent);
    return SPAROA_OK;
}

static sparoa_status split_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 0, err));
    const sparoa_tensor *in = node->in[0];
    sizes s = sizes_of(node);
    int32_t axis = 0;
    if (s.input) {
        SP_TRY(sp_check_indices(node, 1, err));
        if (s.input->rank > 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 1 has rank %d, expected 1",
                               s.input->rank);
    }
    if (in->rank >= 0)
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
    int64_t extent = in->rank < 0 ? -1 : in->dims[axis];
    SP_TRY(check_sizes(node, &s, extent, err));
    for (int32_t i = 0; i < node->n_out; i++) {
        if (!node->out[i]) continue;
        sp_copy_fact(node->out[i], in);
        if (in->rank >= 0) node->out[i]->dims[axis] = part_size(&s, i, extent);
    }
    return SPAROA_OK;
}

static sparoa_status split_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    sizes s = sizes_of(node);
    int32_t axis;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, exec->err));
    size_t size = sparoa_dtype_size(in->dtype);
    int64_t extent = in->dims[axis], outer = sp_outer(in, axis), inner = sp_inner(in, axis);
    const char *src = in->data;
    for (int32_t i = 0; i < node->n_out; i++) {
        int64_t run = part_size(&s, i, extent) * inner;
        if (node->out[i]) {
            sp_move m = {.size = size, .src = src, .dst = node->out[i]->data};
            sp_move_axis(&m, outer, extent * inner, run);
            sp_move_axis(&m, run, 1, 1);
            sp_move_run(&m, exec);
        }
        src += run * (int64_t)size;
    }
    return SPAROA_OK;
}

/* ONNX Split, versions 2 to 18: sizes as attribute or (13) input, num_outputs (18). */
SP_OP(Split) = {
    SP_OP_HEAD("Split", 2, 0),
    .min_in = 1,
    .max_in = 2,
    .min_out = 1,
    .max_out = -1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = split_infer,
    .run = split_run,
};
