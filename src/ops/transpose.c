#include "ops/epilogue.h"
#include "ops/move.h"

/* ---- Transpose ---- */

static sparoa_status permutation(const sparoa_node *node, int32_t rank,
                                 int32_t perm[SPAROA_MAX_RANK], sparoa_error *err)
{
    size_t n;
    const int64_t *attr = sparoa_attr_ints(node, "perm", &n);
    uint32_t seen = 0;
    if (attr && n != (size_t)rank)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "perm has %zu entries, expected rank %d", n, rank);
    for (int32_t i = 0; i < rank; i++) {
        int64_t p = attr ? attr[i] : rank - 1 - i;
        if (p < 0 || p >= rank || seen >> p & 1u)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                               "perm[%d]=%lld: not a permutation of 0..%d", i, (long long)p,
                               rank - 1);
        seen |= 1u << p;
        perm[i] = (int32_t)p;
    }
    return SPAROA_OK;
}

static sparoa_status transpose_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    size_t n;
    const int64_t *attr = sparoa_attr_ints(node, "perm", &n);
    if (in->rank < 0) {
        sp_set_shape(node->out[0], in->dtype, attr && n <= SPAROA_MAX_RANK ? (int32_t)n : -1, NULL);
        return SPAROA_OK;
    }
    int32_t perm[SPAROA_MAX_RANK];
    SP_TRY(permutation(node, in->rank, perm, err));
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < in->rank; i++) dims[i] = in->dims[perm[i]];
    sp_set_shape(node->out[0], in->dtype, in->rank, dims);
    return SPAROA_OK;
}

static sparoa_status transpose_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    int32_t perm[SPAROA_MAX_RANK];
    int64_t strides[SPAROA_MAX_RANK];
    sp_move m = {.size = sparoa_dtype_size(in->dtype), .src = in->data, .dst = node->out[0]->data};
    SP_TRY(permutation(node, in->rank, perm, exec->err));
    sp_strides(in, strides);
    for (int32_t i = 0; i < in->rank; i++) sp_move_axis(&m, in->dims[perm[i]], strides[perm[i]], 0);
    sp_move_dense(&m);
    sp_move_run(&m, exec);
    return SPAROA_OK;
}

/* ONNX Transpose, versions 1 to 25. */
SP_OP(Transpose) = {
    SP_OP_HEAD("Transpose", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .flags = SPAROA_OP_BY_IMAGE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = transpose_infer,
    .run = transpose_run,
};

/* ---- SpaceToDepth and DepthToSpace ---- */

/* Axes of channel, height and width: the channel comes last with sp.nhwc. */
typedef struct image_axes {
    int32_t c, h, w;
} image_axes;

static image_axes axes_of(const sparoa_node *node)
{
    return sparoa_attr_int(node, "sp.nhwc", 0) == 1 ? (image_axes){3, 1, 2} : (image_axes){1, 2, 3};
}

/* CRD: the block's place varies fastest in the channel; DCR: the channel does. */
static bool is_crd(const sparoa_node *node)
{
    return strcmp(sparoa_attr_string(node, "mode", "DCR"), "CRD") == 0;
}

static sparoa_status depth_infer(const sparoa_node *node, bool to_space, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    image_axes x = axes_of(node);
    int64_t b = sparoa_attr_int(node, "blocksize", 0);
    const char *mode = sparoa_attr_string(node, "mode", "DCR");
    if (b < 1 || b > 32768) /* so that its square fits an int */
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "blocksize=%lld is out of range",
                           (long long)b);
    if (strcmp(mode, "DCR") != 0 && strcmp(mode, "CRD") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "mode='%.40s', expected DCR or CRD",
                           mode);
    sp_set_shape(out, in->dtype, 4, NULL);
    if (in->rank < 0) return SPAROA_OK;
    if (in->rank != 4)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 has rank %d, expected 4",
                           in->rank);
    sp_copy_fact(out, in);
    const int32_t axis[3] = {x.c, x.h, x.w};
    for (int32_t i = 0; i < 3; i++) {
        int64_t d = in->dims[axis[i]], f = i == 0 ? b * b : b, *o = &out->dims[axis[i]];
        if (d < 0) continue;
        bool shrinks = (i == 0) == to_space;
        if (shrinks && d % f != 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d is %lld, not a multiple of %lld", axis[i],
                               (long long)d, (long long)f);
        if (shrinks)
            *o = d / f;
        else if (__builtin_mul_overflow(d, f, o))
            *o = INT64_MAX;
    }
    return sp_check_shape(node, out, err);
}

static sparoa_status space_to_depth_infer(const sparoa_node *node, sparoa_error *err)
{
    return depth_infer(node, false, err);
}

static sparoa_status depth_to_space_infer(const sparoa_node *node, sparoa_error *err)
{
    return depth_infer(node, true, err);
}

/* Both are one permutation of (n, c, h, bh, w, bw): `wide` has the large image, `deep` the many
 * channels. Axes are visited in the order of the destination. */
static void depth_move(const sparoa_node *node, bool to_space, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *out = node->out[0];
    const sparoa_tensor *wide = to_space ? out : in, *deep = to_space ? in : out;
    image_axes x = axes_of(node);
    int64_t b = sparoa_attr_int(node, "blocksize", 1), ws[SPAROA_MAX_RANK], ds[SPAROA_MAX_RANK];
    bool crd = is_crd(node);
    sp_strides(wide, ws);
    sp_strides(deep, ds);
    enum { N, C, H, BH, W, BW };
    int64_t c = wide->dims[x.c];
    const int64_t dims[6] = {wide->dims[0], c, deep->dims[x.h], b, deep->dims[x.w], b};
    const int64_t ws6[6] = {ws[0], ws[x.c], ws[x.h] * b, ws[x.h], ws[x.w] * b, ws[x.w]};
    const int64_t dc = ds[x.c];
    const int64_t ds6[6] = {ds[0],   crd ? dc * b * b : dc, ds[x.h], crd ? dc * b : dc * b * c,
                            ds[x.w], crd ? dc : dc * c};
    const int64_t *to = to_space ? ws6 : ds6, *from = to_space ? ds6 : ws6;
    int32_t order[6] = {N, C, H, BH, W, BW};
    for (int32_t i = 1; i < 6;
         i++) /* by destination stride, largest first; axes of size 1 don't matter */
        for (int32_t j = i; j > 0 && to[order[j]] > to[order[j - 1]]; j--) {
            int32_t t = order[j];
            order[j] = order[j - 1];
            order[j - 1] = t;
        }
    sp_move m = {.size = sparoa_dtype_size(in->dtype), .src = in->data, .dst = out->data};
    for (int32_t i = 0; i < 6; i++) sp_move_axis(&m, dims[order[i]], from[order[i]], to[order[i]]);
    sp_move_run(&m, exec);
}

static sparoa_status space_to_depth_run(const sparoa_node *node, const sparoa_exec *exec)
{
    depth_move(node, false, exec);
    return SPAROA_OK;
}

static sparoa_status depth_to_space_run(const sparoa_node *node, const sparoa_exec *exec)
{
    depth_move(node, true, exec);
    return SPAROA_OK;
}

/* ONNX SpaceToDepth, versions 1 to 28: mode since 28, DCR before. */
SP_OP(SpaceToDepth) = {
    SP_OP_HEAD("SpaceToDepth", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = space_to_depth_infer,
    .run = space_to_depth_run,
};

/* ONNX DepthToSpace, versions 1 to 28: mode since 11, DCR before. */
SP_OP(DepthToSpace) = {
    SP_OP_HEAD("DepthToSpace", 1, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = depth_to_space_infer,
    .run = depth_to_space_run,
};
