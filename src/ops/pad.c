#include "ops/move.h"

typedef enum pad_mode { PAD_CONSTANT, PAD_EDGE, PAD_REFLECT, PAD_WRAP } pad_mode;

/* Elements added (negative: taken away) before and after each axis. */
typedef struct padding {
    pad_mode mode;
    int64_t before[SPAROA_MAX_RANK], after[SPAROA_MAX_RANK];
} padding;

/* ---- copying ---- */

typedef struct pad_args {
    const char *in;
    char *out;
    const void *value;  /* what lies outside; NULL: zero */
    size_t size, block; /* bytes of an element, and of the unpadded axes behind `row` */
    int32_t row;        /* last padded axis */
    int64_t dims[SPAROA_MAX_RANK],
        strides[SPAROA_MAX_RANK];        /* of the output, and of the input in bytes */
    const int64_t *map[SPAROA_MAX_RANK]; /* output coordinate -> input coordinate, -1: outside */
    int64_t plain_from, plain_to;        /* coordinates of the row axis that are a straight copy */
} pad_args;

static void pad_rows(void *arg, int64_t begin, int64_t end)
{
    const pad_args *a = arg;
    int64_t n = a->dims[a->row], block = (int64_t)a->block, per_block = block / (int64_t)a->size;
    const int64_t *map = a->map[a->row];
    char *dst = a->out + begin * n * block;
    for (int64_t row = begin; row < end; row++, dst += n * block) {
        const char *src = a->in;
        int64_t rest = row;
        bool outside = false;
        for (int32_t i = a->row - 1; i >= 0; i--) {
            int64_t c = a->map[i][rest % a->dims[i]];
            rest /= a->dims[i];
            if (c < 0) {
                outside = true;
                break;
            }
            src += c * a->strides[i];
        }
        if (outside) {
            sp_fill(dst, a->size, n * per_block, a->value);
            continue;
        }
        for (int64_t j = 0; j < n; j++) {
            if (j == a->plain_from && a->plain_to > j) {
                memcpy(dst + j * block, src + map[j] * block, (size_t)((a->plain_to - j) * block));
                j = a->plain_to - 1;
            } else if (map[j] < 0) {
                sp_fill(dst + j * block, a->size, per_block, a->value);
            } else {
                sp_copy_block(dst + j * block, src + map[j] * block, a->block);
            }
        }
    }
}

/* Input coordinate for output coordinate o of an axis of d elements; the input is cut first where a
 * padding is negative. -1: outside. */
static int64_t map_coordinate(pad_mode mode, int64_t o, int64_t d, int64_t before, int64_t after)
{
    int64_t low = before < 0 ? -before : 0, n = d - low - (after < 0 ? -after : 0);
    int64_t i = o - (before > 0 ? before : 0);
    if (i >= 0 && i < n) return low + i;
    if (mode == PAD_CONSTANT || n <= 0) return -1;
    if (mode == PAD_EDGE) return low + (i < 0 ? 0 : n - 1);
    if (mode == PAD_REFLECT && n == 1) return low;
    int64_t period = mode == PAD_WRAP ? n : 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return low + (i < n ? i : period - i);
}

static size_t pad_map_bytes(const sparoa_tensor *out)
{
    size_t n = 0;
    if (sp_count(out) == 0) return 0;
    for (int32_t i = 0; i < out->rank; i++) n += (size_t)out->dims[i];
    return n * sizeof(int64_t);
}

/* `maps` has pad_map_bytes. */
static void pad_copy(const sparoa_tensor *in, sparoa_tensor *out, const padding *p,
                     const void *value, int64_t *maps, const sparoa_exec *exec)
{
    pad_args a = {.in = in->data,
                  .out = out->data,
                  .value = value,
                  .size = sparoa_dtype_size(in->dtype),
                  .row = -1};
    if (sp_count(out) == 0) return;
    for (int32_t i = 0; i < in->rank; i++)
        if (p->before[i] || p->after[i]) a.row = i;
    if (a.row < 0) {
        sp_move_bytes(out->data, in->data, sparoa_tensor_bytes(in), exec);
        return;
    }
    sp_strides(in, a.strides);
    for (int32_t i = 0; i <= a.row; i++) {
        a.dims[i] = out->dims[i];
        a.strides[i] *= (int64_t)a.size;
        a.map[i] = maps;
        for (int64_t o = 0; o < out->dims[i]; o++)
            *maps++ = map_coordinate(p->mode, o, in->dims[i], p->before[i], p->after[i]);
    }
    int64_t before = p->before[a.row], after = p->after[a.row];
    a.plain_from = before > 0 ? before : 0;
    a.plain_to = out->dims[a.row] - (after > 0 ? after : 0);
    a.block = (size_t)sp_inner(in, a.row) * a.size;
    int64_t row_bytes = out->dims[a.row] * (int64_t)a.block;
    sp_parallel_for(exec, sp_dims_product(out, 0, a.row), 65536 / row_bytes + 1, pad_rows, &a);
}

/* ---- Pad ---- */

static sparoa_status pad_mode_of(const sparoa_node *node, pad_mode *mode, sparoa_error *err)
{
    static const char *const names[] = {"constant", "edge", "reflect", "wrap"};
    const char *name = sparoa_attr_string(node, "mode", "constant");
    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *mode = (pad_mode)i;
        return SPAROA_OK;
    }
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                       "mode='%.40s', expected constant, edge, reflect or wrap", name);
}

/* pads as attribute (paddings in version 1) or input 1. *n -1: not known. */
static sparoa_status read_pads(const sparoa_node *node, int64_t raw[2 * SPAROA_MAX_RANK],
                               int32_t *n, sparoa_error *err)
{
    size_t count;
    const int64_t *attr = sparoa_attr_ints(node, "pads", &count);
    if (!attr) attr = sparoa_attr_ints(node, "paddings", &count);
    if (!attr) {
        if (!sparoa_in(node, 1)) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "has no pads");
        return sp_read_ints(node, 1, raw, 2 * SPAROA_MAX_RANK, n, err);
    }
    if (count > 2 * SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "pads has %zu entries", count);
    memcpy(raw, attr, count * sizeof raw[0]);
    *n = (int32_t)count;
    return SPAROA_OK;
}

static sparoa_status read_padding(const sparoa_node *node, int32_t rank, padding *p, bool *known,
                                  sparoa_error *err)
{
    int64_t raw[2 * SPAROA_MAX_RANK], raw_axes[SPAROA_MAX_RANK];
    int32_t n, n_axes;
    *p = (padding){.mode = PAD_CONSTANT};
    SP_TRY(pad_mode_of(node, &p->mode, err));
    SP_TRY(read_pads(node, raw, &n, err));
    SP_TRY(sp_read_ints(node, 3, raw_axes, SPAROA_MAX_RANK, &n_axes, err));
    bool all = !sparoa_in(node, 3);
    *known = n >= 0 && n_axes >= 0;
    if (!*known) return SPAROA_OK;
    if (all) n_axes = rank;
    if (n != 2 * n_axes)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "pads has %d values, expected %d", n,
                           2 * n_axes);
    uint32_t seen = 0;
    for (int32_t i = 0; i < n_axes; i++) {
        int32_t axis = i;
        if (!all) SP_TRY(sp_axis(node, raw_axes[i], rank, false, &axis, err));
        if (seen >> axis & 1u)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis %d is given twice", axis);
        seen |= 1u << axis;
        p->before[axis] = raw[i];
        p->after[axis] = raw[i + n_axes];
    }
    return SPAROA_OK;
}

static sparoa_status pad_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    const sparoa_tensor *in = node->in[0], *value = sparoa_in(node, 2);
    sparoa_tensor *out = node->out[0];
    padding p;
    bool known;
    if (value) {
        SP_TRY(sp_check_same_type(node, 0, 2, err));
        if (sp_known(value) && sp_count(value) > 1)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "constant_value has %lld elements, expected one",
                               (long long)sp_count(value));
    }
    sp_set_shape(out, in->dtype, in->rank, NULL);
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(read_padding(node, in->rank, &p, &known, err));
    for (int32_t i = 0; known && i < in->rank; i++) {
        int64_t d = in->dims[i], n;
        if (d < 0) continue;
        int64_t cut = (p.before[i] < 0 ? p.before[i] : 0), cut2 = (p.after[i] < 0 ? p.after[i] : 0);
        if (__builtin_add_overflow(cut, cut2, &cut) || __builtin_add_overflow(cut, d, &cut) ||
            cut < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "padding %lld and %lld takes more than axis %d has",
                               (long long)p.before[i], (long long)p.after[i], i);
        if (__builtin_add_overflow(d, p.before[i], &n) || __builtin_add_overflow(n, p.after[i], &n))
            n = INT64_MAX;
        if (cut == 0 && n > 0 && p.mode != PAD_CONSTANT)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "axis %d has no elements to pad with", i);
        out->dims[i] = n;
    }
    return sp_check_shape(node, out, err);
}

static size_t pad_workspace(const sparoa_node *node, int32_t threads)
{
    (void)threads;
    return pad_map_bytes(node->out[0]);
}

static sparoa_status pad_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0], *constant = sparoa_in(node, 2);
    padding p;
    bool known;
    SP_TRY(read_padding(node, in->rank, &p, &known, exec->err));
    uint64_t bits = 0;
    sparoa_tensor value = {.data = &bits, .dtype = in->dtype, .rank = 0};
    if (constant && sp_count(constant) == 1)
        memcpy(&bits, constant->data, sparoa_dtype_size(in->dtype));
    else if (!constant)
        sp_set_f64(&value, 0, sparoa_attr_float(node, "value", 0));
    pad_copy(in, node->out[0], &p, &bits, exec->workspace, exec);
    return SPAROA_OK;
}

/* ONNX Pad, versions 1 to 25: pads as attribute or (11) input, axes (18), wrap (19). */
SP_OP(Pad) = {
    SP_OP_HEAD("Pad", 1, 0),
    .min_in = 1,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = pad_infer,
    .workspace = pad_workspace,
    .run = pad_run,
};

/* ---- CenterCropPad ---- */

static sparoa_status crop_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    int64_t size[SPAROA_MAX_RANK];
    int32_t axes[SPAROA_MAX_RANK], n, n_axes;
    bool given;
    sp_copy_fact(out, in);
    if (in->rank < 0) return SPAROA_OK;
    SP_TRY(sp_read_ints(node, 1, size, SPAROA_MAX_RANK, &n, err));
    SP_TRY(sp_read_axes(node, -1, in->rank, axes, &n_axes, &given, err));
    if (!given) n_axes = in->rank;
    if (n >= 0 && n != n_axes)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "shape has %d values, expected %d", n,
                           n_axes);
    for (int32_t i = 0; i < n_axes; i++) {
        if (n >= 0 && size[i] < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "shape[%d]=%lld is negative", i,
                               (long long)size[i]);
        out->dims[given ? axes[i] : i] = n < 0 ? -1 : size[i];
    }
    return sp_check_shape(node, out, err);
}

static sparoa_status crop_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    padding p = {.mode = PAD_CONSTANT};
    for (int32_t i = 0; i < in->rank; i++) {
        int64_t more = out->dims[i] - in->dims[i];
        p.before[i] = more / 2; /* towards zero in both directions */
        p.after[i] = more - p.before[i];
    }
    pad_copy(in, out, &p, NULL, exec->workspace, exec);
    return SPAROA_OK;
}

/* ONNX CenterCropPad, version 18. */
SP_OP(CenterCropPad) = {
    SP_OP_HEAD("CenterCropPad", 18, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_MOVE,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = crop_infer,
    .workspace = pad_workspace,
    .run = crop_run,
};
