/* Operators that move elements without looking at them: all but Pad become strided copies. */
#include "backends/cuda/cuda.h"

/* The copies of one node: src and dst are offsets in elements. */
typedef struct step {
    sp_cu_move move;
    int64_t src, dst;
} step;

typedef struct move_prepared {
    step one; /* where the node is one copy */
} move_prepared;

static sparoa_status run_one(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                             const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const step *s = &((move_prepared *)prepared)->one;
    (void)k, (void)workspace, (void)err;
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_cu_move_run(&s->move, (const char *)node->in[0]->data + s->src * s->move.size,
                   (char *)node->out[0]->data + s->dst * s->move.size, stream);
    return SPAROA_OK;
}

static sp_cu_move start(const sparoa_tensor *t)
{
    return (sp_cu_move){.size = (int32_t)sparoa_dtype_size(t->dtype)};
}

/* Sets the strides of a contiguous destination. */
static void dense(sp_cu_move *m)
{
    int64_t stride = 1;
    for (int32_t i = m->rank - 1; i >= 0; i--) {
        m->dst[i] = stride;
        stride *= m->dims[i];
    }
}

static const char *sized(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    const sparoa_tensor *x = sparoa_in(node, 0);
    return x && sparoa_dtype_size(x->dtype) > 0 ? NULL : "an element type without a size";
}

/* ---- views ---- */

static const char *view_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)op;
    if (node->n_out > 1 && node->out[1]) return "more than one output";
    return sized(dev, node, 0);
}

static sparoa_status view_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                              const sparoa_node *node, void *workspace, sparoa_error *err)
{
    (void)k, (void)prepared, (void)workspace, (void)err;
    sp_cuda_copy(node->out[0]->data, node->in[0]->data, sparoa_tensor_bytes(node->out[0]), stream);
    return SPAROA_OK;
}

/* ONNX Identity, Dropout (without a mask), Reshape, Flatten, Squeeze and Unsqueeze, all versions.
 */
SP_CUDA_KERNEL(View) = {
    .ops = SP_CUDA_NAMES("Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"),
    .variant = "copy",
    .half = sp_cuda_any_half,
    .refuses = view_refuses,
    .run = view_run};

/* ---- Transpose ---- */

static sparoa_status transpose_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                       size_t *workspace, sparoa_error *err)
{
    step *s = &((move_prepared *)prepared)->one;
    const sparoa_tensor *x = node->in[0];
    int64_t strides[SPAROA_MAX_RANK];
    size_t n;
    const int64_t *perm = sparoa_attr_ints(node, "perm", &n);
    (void)k, (void)workspace;
    if (perm && n != (size_t)x->rank)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "perm has %zu values", n);
    sp_strides(x, strides);
    s->move = start(x);
    for (int32_t i = 0; i < x->rank; i++) {
        int64_t from = perm ? perm[i] : x->rank - 1 - i;
        if (from < 0) from += x->rank;
        if (from < 0 || from >= x->rank)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "perm[%d] is out of range", i);
        sp_cuda_move_axis(&s->move, x->dims[from], strides[from], 0);
    }
    dense(&s->move);
    return SPAROA_OK;
}

/* ONNX Transpose, versions 1 to 13. */
SP_CUDA_KERNEL(Transpose) = {.ops = SP_CUDA_NAMES("Transpose"),
                             .variant = "move",
                             .half = sp_cuda_any_half,
                             .prepared_bytes = sizeof(move_prepared),
                             .refuses = sized,
                             .prepare = transpose_prepare,
                             .run = run_one};

/* ---- Expand and Tile ---- */

static sparoa_status expand_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                    size_t *workspace, sparoa_error *err)
{
    step *s = &((move_prepared *)prepared)->one;
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    int64_t strides[SPAROA_MAX_RANK];
    (void)workspace, (void)err;
    s->move = start(x);
    if (k->op == 0) {
        sp_broadcast_strides(x, y, strides);
        for (int32_t i = 0; i < y->rank; i++)
            sp_cuda_move_axis(&s->move, y->dims[i], strides[i], 0);
    } else {
        sp_strides(x, strides);
        for (int32_t i = 0; i < x->rank; i++) {
            int64_t times = x->dims[i] > 0 ? y->dims[i] / x->dims[i] : 0;
            sp_cuda_move_axis(&s->move, times, 0, 0);
            sp_cuda_move_axis(&s->move, x->dims[i], strides[i], 0);
        }
    }
    dense(&s->move);
    return SPAROA_OK;
}

/* ONNX Expand, versions 8 and 13, and Tile, versions 6 and 13: the output's shape says it all. */
SP_CUDA_KERNEL(Expand) = {.ops = SP_CUDA_NAMES("Expand", "Tile"),
                          .variant = "move",
                          .half = sp_cuda_any_half,
                          .prepared_bytes = sizeof(move_prepared),
                          .refuses = sized,
                          .prepare = expand_prepare,
                          .run = run_one};

/* ---- Slice ---- */

static const char *slice_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)op;
    for (int32_t i = 1; i < node->n_in; i++)
        if (!sp_cuda_known(node, i)) return "bounds that are not constant";
    return sized(dev, node, 0);
}

static sparoa_status slice_ints(const sparoa_node *node, const char *name, int32_t input,
                                int64_t *values, int32_t *n, sparoa_error *err)
{
    size_t count;
    const int64_t *attr = sparoa_attr_ints(node, name, &count);
    if (!attr) {
        SP_TRY(sp_read_ints(node, input, values, SPAROA_MAX_RANK, n, err));
        if (*n < 0) return sparoa_fail(err, SPAROA_INVALID_STATE, node, "%s is not known", name);
        return SPAROA_OK;
    }
    if (count > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s has %zu entries", name, count);
    memcpy(values, attr, count * sizeof *values);
    *n = (int32_t)count;
    return SPAROA_OK;
}

static int64_t first_of(int64_t d, int64_t start_at, int64_t step_by)
{
    if (start_at < 0) start_at += d;
    if (start_at < 0) start_at = 0;
    int64_t last = step_by > 0 ? d : d - 1;
    return start_at > last ? last : start_at;
}

static sparoa_status slice_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                   size_t *workspace, sparoa_error *err)
{
    step *s = &((move_prepared *)prepared)->one;
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    int64_t starts[SPAROA_MAX_RANK], axes[SPAROA_MAX_RANK], steps[SPAROA_MAX_RANK];
    int64_t strides[SPAROA_MAX_RANK];
    int32_t n, n_axes, n_steps;
    (void)k, (void)workspace;
    SP_TRY(slice_ints(node, "starts", 1, starts, &n, err));
    SP_TRY(slice_ints(node, "axes", 3, axes, &n_axes, err));
    SP_TRY(slice_ints(node, "steps", 4, steps, &n_steps, err));
    s->move = start(x);
    if (sp_count(y) == 0) return SPAROA_OK;
    sp_strides(x, strides);
    for (int32_t i = 0; i < n; i++) {
        int32_t axis;
        SP_TRY(sp_axis(node, i < n_axes ? axes[i] : i, x->rank, false, &axis, err));
        int64_t by = i < n_steps ? steps[i] : 1;
        s->src += first_of(x->dims[axis], starts[i], by) * strides[axis];
        strides[axis] = y->dims[axis] > 1 ? strides[axis] * by : 0;
    }
    for (int32_t i = 0; i < x->rank; i++) sp_cuda_move_axis(&s->move, y->dims[i], strides[i], 0);
    dense(&s->move);
    return SPAROA_OK;
}

/* ONNX Slice, versions 1 to 13, with constant bounds. */
SP_CUDA_KERNEL(Slice) = {.ops = SP_CUDA_NAMES("Slice"),
                         .variant = "move",
                         .half = sp_cuda_any_half,
                         .prepared_bytes = sizeof(move_prepared),
                         .refuses = slice_refuses,
                         .prepare = slice_prepare,
                         .run = run_one};

/* ---- SpaceToDepth and DepthToSpace ---- */

static sparoa_status depth_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                   size_t *workspace, sparoa_error *err)
{
    step *s = &((move_prepared *)prepared)->one;
    bool to_space = k->op == 1, nhwc = sparoa_attr_int(node, "sp.nhwc", 0) == 1;
    const sparoa_tensor *wide = to_space ? node->out[0] : node->in[0];
    const sparoa_tensor *deep = to_space ? node->in[0] : node->out[0];
    int32_t xc = nhwc ? 3 : 1, xh = nhwc ? 1 : 2, xw = nhwc ? 2 : 3;
    int64_t b = sparoa_attr_int(node, "blocksize", 1), ws[SPAROA_MAX_RANK], ds[SPAROA_MAX_RANK];
    bool crd = strcmp(sparoa_attr_string(node, "mode", "DCR"), "CRD") == 0;
    (void)workspace, (void)err;
    sp_strides(wide, ws);
    sp_strides(deep, ds);
    int64_t c = wide->dims[xc], dc = ds[xc];
    /* n, c, h, place in the block's height, w, place in its width */
    const int64_t dims[6] = {wide->dims[0], c, deep->dims[xh], b, deep->dims[xw], b};
    const int64_t in_wide[6] = {ws[0], ws[xc], ws[xh] * b, ws[xh], ws[xw] * b, ws[xw]};
    const int64_t in_deep[6] = {ds[0],  crd ? dc * b * b : dc, ds[xh], crd ? dc * b : dc * b * c,
                                ds[xw], crd ? dc : dc * c};
    const int64_t *to = to_space ? in_wide : in_deep, *from = to_space ? in_deep : in_wide;
    int order[6] = {0, 1, 2, 3, 4, 5};
    for (int i = 1; i < 6; i++) /* by the destination's stride, largest first */
        for (int j = i; j > 0 && to[order[j]] > to[order[j - 1]]; j--) {
            int t = order[j];
            order[j] = order[j - 1];
            order[j - 1] = t;
        }
    s->move = start(node->in[0]);
    for (int i = 0; i < 6; i++)
        sp_cuda_move_axis(&s->move, dims[order[i]], from[order[i]], to[order[i]]);
    return SPAROA_OK;
}

/* ONNX SpaceToDepth and DepthToSpace, all versions and modes. */
SP_CUDA_KERNEL(Depth) = {.ops = SP_CUDA_NAMES("SpaceToDepth", "DepthToSpace"),
                         .variant = "move",
                         .half = sp_cuda_any_half,
                         .prepared_bytes = sizeof(move_prepared),
                         .refuses = sized,
                         .prepare = depth_prepare,
                         .run = run_one};

/* ---- Concat and Split ---- */

/* The piece of `whole` along `axis` that begins at element `from` and has the shape of `part`. */
static void piece(step *s, const sparoa_tensor *whole, const sparoa_tensor *part, int32_t axis,
                  int64_t from, bool to_whole)
{
    int64_t outer = sp_dims_product(part, 0, axis);
    int64_t inner = sp_dims_product(whole, axis + 1, whole->rank);
    int64_t run = part->dims[axis] * inner, stride = whole->dims[axis] * inner;
    s->move = start(part);
    sp_cuda_move_axis(&s->move, outer, to_whole ? run : stride, to_whole ? stride : run);
    sp_cuda_move_axis(&s->move, run, 1, 1);
    s->src = to_whole ? 0 : from * inner;
    s->dst = to_whole ? from * inner : 0;
}

static sparoa_status concat_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                const sparoa_node *node, void *workspace, sparoa_error *err)
{
    bool split = k->op == 1;
    const sparoa_tensor *whole = split ? node->in[0] : node->out[0];
    int32_t axis, n = split ? node->n_out : node->n_in;
    int64_t from = 0;
    (void)prepared, (void)workspace;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", split ? 0 : 1), whole->rank, false, &axis,
                   err));
    for (int32_t i = 0; i < n; i++) {
        const sparoa_tensor *part = split ? node->out[i] : node->in[i];
        step s = {0};
        piece(&s, whole, part, axis, from, !split);
        from += part->dims[axis];
        if (sp_count(part) == 0) continue;
        const char *src = split ? whole->data : part->data;
        char *dst = split ? part->data : whole->data;
        sp_cu_move_run(&s.move, src + s.src * s.move.size, dst + s.dst * s.move.size, stream);
    }
    return SPAROA_OK;
}

static const char *concat_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    int32_t n = op ? node->n_out : node->n_in;
    for (int32_t i = 0; i < n; i++)
        if (op ? !node->out[i] : !node->in[i]) return "a part is left out";
    return sized(dev, node, 0);
}

/* ONNX Concat, versions 1 to 13, and Split, versions 1 to 18 (the outputs' shapes say the sizes).
 */
SP_CUDA_KERNEL(Concat) = {.ops = SP_CUDA_NAMES("Concat", "Split"),
                          .variant = "move",
                          .half = sp_cuda_any_half,
                          .refuses = concat_refuses,
                          .run = concat_run};

/* ---- Pad ---- */

typedef struct pad_state {
    void *value; /* of attribute "value", where it is not zero */
} pad_state;

static const char *pad_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)op;
    const sparoa_tensor *value = sparoa_in(node, 2);
    if (!sp_cuda_known(node, 1) || !sp_cuda_known(node, 3)) return "pads that are not constant";
    if (value && value->rank > 0 && value->dims[0] != 1) return "a value that is not one element";
    if (sparoa_attr_float(node, "value", 0) != 0 && !sp_cuda_is_f32(node, 0)) return "only float32";
    return sized(dev, node, 0);
}

static sparoa_status pad_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err)
{
    pad_state *s = k->state;
    float value = sparoa_attr_float(node, "value", 0);
    if (value == 0) return SPAROA_OK;
    return sp_cuda_upload(k->dev, k, &value, sizeof value, &s->value, err);
}

static void pad_destroy(sparoa_kernel *k)
{
    sp_cuda_free(k->dev, ((pad_state *)k->state)->value, sizeof(float));
}

static sparoa_status pad_amounts(const sparoa_node *node, int64_t *raw, int32_t *n, int64_t *axes,
                                 int32_t *n_axes, sparoa_error *err)
{
    size_t count;
    const int64_t *attr = sparoa_attr_ints(node, "pads", &count);
    if (!attr) attr = sparoa_attr_ints(node, "paddings", &count);
    if (attr && count <= 2 * SPAROA_MAX_RANK) {
        memcpy(raw, attr, count * sizeof *raw);
        *n = (int32_t)count;
    } else
        SP_TRY(sp_read_ints(node, 1, raw, 2 * SPAROA_MAX_RANK, n, err));
    SP_TRY(sp_read_ints(node, 3, axes, SPAROA_MAX_RANK, n_axes, err));
    if (*n < 0 || *n_axes < 0)
        return sparoa_fail(err, SPAROA_INVALID_STATE, node, "pads are not known");
    return SPAROA_OK;
}

static sparoa_status pad_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                 size_t *workspace, sparoa_error *err)
{
    static const char *const modes[] = {"constant", "edge", "reflect", "wrap"};
    sp_cu_pad *p = prepared;
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    const char *mode = sparoa_attr_string(node, "mode", "constant");
    int64_t raw[2 * SPAROA_MAX_RANK], axes[SPAROA_MAX_RANK], strides[SPAROA_MAX_RANK];
    int32_t n, n_axes;
    (void)k, (void)workspace;
    *p = (sp_cu_pad){
        .size = (int32_t)sparoa_dtype_size(x->dtype), .rank = x->rank, .count = sp_count(y)};
    while (p->mode < 4 && strcmp(mode, modes[p->mode]) != 0) p->mode++;
    SP_TRY(pad_amounts(node, raw, &n, axes, &n_axes, err));
    bool all = !sparoa_in(node, 3);
    if (all) n_axes = x->rank;
    if (p->mode > 3 || n != 2 * n_axes)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "the mode or number of pads is wrong");
    sp_strides(x, strides);
    for (int32_t i = 0; i < x->rank; i++) {
        p->out[i] = y->dims[i];
        p->n[i] = x->dims[i];
        p->strides[i] = strides[i];
    }
    for (int32_t i = 0; i < n_axes; i++) {
        int32_t axis = i;
        if (!all) SP_TRY(sp_axis(node, axes[i], x->rank, false, &axis, err));
        int64_t before = raw[i], after = raw[i + n_axes];
        p->before[axis] = before > 0 ? before : 0;
        p->low[axis] = before < 0 ? -before : 0;
        p->n[axis] -= p->low[axis] + (after < 0 ? -after : 0);
    }
    return SPAROA_OK;
}

static sparoa_status pad_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                             const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const pad_state *s = k->state;
    const sparoa_tensor *value = sparoa_in(node, 2);
    (void)workspace, (void)err;
    sp_cu_pad_run(prepared, node->in[0]->data, value ? value->data : s->value, node->out[0]->data,
                  stream);
    return SPAROA_OK;
}

/* ONNX Pad, versions 1 to 25, with constant pads. */
SP_CUDA_KERNEL(Pad) = {.ops = SP_CUDA_NAMES("Pad"),
                       .variant = "pad",
                       .half = sp_cuda_any_half,
                       .state_bytes = sizeof(pad_state),
                       .prepared_bytes = sizeof(sp_cu_pad),
                       .refuses = pad_refuses,
                       .create = pad_create,
                       .destroy = pad_destroy,
                       .prepare = pad_prepare,
                       .run = pad_run};
