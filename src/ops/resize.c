/* Resize and Upsample: attributes, inputs and shapes. Tables are made in resize_table.c, data moves
 * in resize_run.c. */
#include "ops/resize.h"

#include "ops/resize_run.h"

static const char *const coord_names[SP_COORD_COUNT] = {
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
    "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize",
};
static const char *const nearest_names[SP_NEAREST_COUNT - 1] = {
    "round_prefer_floor",
    "round_prefer_ceil",
    "floor",
    "ceil",
};

static sparoa_status choose(const sparoa_node *node, const char *name, const char *fallback,
                            const char *const *choices, int32_t count, int32_t *out,
                            sparoa_error *err)
{
    const char *value = sparoa_attr_string(node, name, fallback);
    for (*out = 0; *out < count; ++*out)
        if (strcmp(value, choices[*out]) == 0) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "%s '%.40s' is not one of ONNX", name,
                       value);
}

static bool is_old(const sparoa_node *node)
{
    return node->version < 11 || strcmp(node->op, "Upsample") == 0;
}

static sparoa_status parse_modes(const sparoa_node *node, sp_resize *r, sparoa_error *err)
{
    static const char *const modes[] = {"nearest", "linear", "cubic", "bilinear", "trilinear"};
    int32_t mode, coord = SP_COORD_ASYMMETRIC, near = SP_NEAREST_BY_DIRECTION;
    SP_TRY(choose(node, "mode", "nearest", modes, is_old(node) ? 5 : 3, &mode, err));
    r->mode = mode == 0 ? SP_RESIZE_NEAREST : mode == 2 ? SP_RESIZE_CUBIC : SP_RESIZE_LINEAR;
    if (!is_old(node)) {
        SP_TRY(choose(node, "coordinate_transformation_mode", "half_pixel", coord_names,
                      SP_COORD_COUNT, &coord, err));
        SP_TRY(choose(node, "nearest_mode", "round_prefer_floor", nearest_names,
                      SP_NEAREST_COUNT - 1, &near, err));
    }
    r->coord = (sp_resize_coord)coord;
    r->nearest = (sp_resize_nearest)near;
    r->antialias = sparoa_attr_int(node, "antialias", 0) != 0;
    r->exclude_outside = sparoa_attr_int(node, "exclude_outside", 0) != 0;
    r->cubic_a = sparoa_attr_float(node, "cubic_coeff_a", -0.75f);
    r->extrapolation = sparoa_attr_float(node, "extrapolation_value", 0);
    if (r->antialias && r->mode == SP_RESIZE_NEAREST)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "antialias=1 does not go with mode 'nearest'");
    return SPAROA_OK;
}

/* Up to `max` floats of an input, or of attribute "scales". *count: 0 where absent or empty, -1 not
 * known yet. */
static sparoa_status read_floats(const sparoa_node *node, int32_t input, int32_t max,
                                 double *values, int32_t *count, sparoa_error *err)
{
    const sparoa_tensor *t = input < 0 ? NULL : sparoa_in(node, input);
    size_t n = 0;
    const float *attr = input < 0 ? sparoa_attr_floats(node, "scales", &n) : NULL;
    *count = 0;
    if (t) {
        /* scales are float32 in ONNX; only roi comes in other types */
        uint32_t types = max > SPAROA_MAX_RANK ? SP_TYPES_FLOAT : 1u << SPAROA_FLOAT32;
        SP_TRY(sp_check_type(node, input, types, err));
        SP_TRY(sp_check_rank(node, input, 0, 1, err));
        *count = -1;
        if (!sp_known(t)) return SPAROA_OK;
        n = (size_t)sp_count(t);
        if (n > 0 && !t->data) return SPAROA_OK;
    }
    if (n > (size_t)max)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%zu scales or bounds are given, at most %d are possible", n, max);
    for (size_t i = 0; i < n; i++) values[i] = t ? sp_get_f64(t, (int64_t)i) : (double)attr[i];
    *count = (int32_t)n;
    return SPAROA_OK;
}

typedef struct request {
    int32_t axes[SPAROA_MAX_RANK], n_axes; /* which axes of ONNX's order the values belong to */
    double scales[SPAROA_MAX_RANK], roi[2 * SPAROA_MAX_RANK];
    int64_t sizes[SPAROA_MAX_RANK];
    int32_t n_scales, n_sizes, n_roi; /* 0: absent; -1: not known yet */
} request;

static sparoa_status read_axes(const sparoa_node *node, int32_t rank, request *q, sparoa_error *err)
{
    bool given, seen[SPAROA_MAX_RANK] = {false};
    SP_TRY(sp_read_axes(node, -1, rank, q->axes, &q->n_axes, &given, err));
    for (int32_t i = 0; i < q->n_axes; i++) {
        if (seen[q->axes[i]])
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "axis %d is given twice",
                               q->axes[i]);
        seen[q->axes[i]] = true;
    }
    if (q->n_axes) return SPAROA_OK;
    for (q->n_axes = 0; q->n_axes < rank; q->n_axes++) q->axes[q->n_axes] = q->n_axes;
    return SPAROA_OK;
}

static sparoa_status read_request(const sparoa_node *node, int32_t rank, const sp_resize *r,
                                  request *q, sparoa_error *err)
{
    SP_TRY(read_axes(node, rank, q, err));
    q->n_sizes = q->n_roi = 0;
    if (is_old(node)) {
        int32_t from = sparoa_in(node, 1) ? 1 : -1;
        SP_TRY(read_floats(node, from, SPAROA_MAX_RANK, q->scales, &q->n_scales, err));
    } else {
        SP_TRY(read_floats(node, 2, SPAROA_MAX_RANK, q->scales, &q->n_scales, err));
        SP_TRY(sp_read_ints(node, 3, q->sizes, SPAROA_MAX_RANK, &q->n_sizes, err));
        if (r->coord == SP_COORD_TF_CROP_AND_RESIZE)
            SP_TRY(read_floats(node, 1, 2 * SPAROA_MAX_RANK, q->roi, &q->n_roi, err));
    }
    int32_t n = q->n_axes;
    if (q->n_scales == 0 && q->n_sizes == 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "neither scales nor sizes are given");
    if (q->n_scales > 0 && q->n_sizes > 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "both scales and sizes are given");
    if ((q->n_scales > 0 && q->n_scales != n) || (q->n_sizes > 0 && q->n_sizes != n) ||
        (q->n_roi > 0 && q->n_roi != 2 * n))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "scales, sizes or roi do not match the %d axes", n);
    if (r->coord == SP_COORD_TF_CROP_AND_RESIZE && q->n_roi == 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "tf_crop_and_resize needs roi");
    return SPAROA_OK;
}

static sparoa_status axis_by_scale(const sparoa_node *node, sp_resize_axis *x, double scale,
                                   sparoa_error *err)
{
    if (!(scale > 0) || !(scale <= (double)SP_RESIZE_MAX))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "scale %g must be positive and finite",
                           scale);
    x->scale = scale;
    x->out = -1;
    if (x->in < 0) return SPAROA_OK;
    x->width = (double)x->in * scale;
    if (!(x->width < (double)SP_RESIZE_MAX))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "an axis of %lld times %g is too long",
                           (long long)x->in, scale);
    x->out = (int64_t)floorf((float)x->in * (float)scale); /* as ONNX's shape inference rounds */
    return SPAROA_OK;
}

/* keep_aspect_ratio_policy: all axes get the smallest or the largest of the scales. */
static sparoa_status common_scale(const sparoa_node *node, const sp_resize_axis *axes[],
                                  const request *q, int32_t n, double *scale, sparoa_error *err)
{
    static const char *const policies[] = {"stretch", "not_larger", "not_smaller"};
    int32_t policy;
    SP_TRY(choose(node, "keep_aspect_ratio_policy", "stretch", policies, 3, &policy, err));
    *scale = 0;
    if (policy == 0) return SPAROA_OK;
    for (int32_t i = 0; i < n; i++) {
        if (axes[i]->in < 1) {
            *scale = axes[i]->in < 0 ? -1 : 0;
            return SPAROA_OK;
        }
        double s = (double)q->sizes[i] / (double)axes[i]->in;
        if (i == 0 || (policy == 1 ? s < *scale : s > *scale)) *scale = s;
    }
    return SPAROA_OK;
}

static sparoa_status axis_by_size(const sparoa_node *node, sp_resize_axis *x, int64_t size,
                                  double common, sparoa_error *err)
{
    x->out = -1;
    if (size < 0 || size > SP_RESIZE_MAX)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "size %lld is not possible",
                           (long long)size);
    if (common < 0 || (x->in < 0 && common > 0)) return SPAROA_OK;
    x->out = size;
    if (x->in < 1) return SPAROA_OK;
    x->scale = (double)size / (double)x->in;
    x->width = (double)size;
    if (common == 0) return SPAROA_OK;
    x->scale = common;
    x->width = (double)x->in * common;
    if (!(x->width < (double)SP_RESIZE_MAX))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "an axis of %lld times %g is too long",
                           (long long)x->in, common);
    x->out = (int64_t)floor(x->width + 0.5);
    return SPAROA_OK;
}

sparoa_status sp_resize_parse(const sparoa_node *node, sp_resize *r, sparoa_error *err)
{
    const sparoa_tensor *in = node->in[0];
    *r = (sp_resize){.rank = in->rank};
    SP_TRY(parse_modes(node, r, err));
    if (in->rank < 0) return SPAROA_OK;
    request q;
    SP_TRY(read_request(node, in->rank, r, &q, err));
    bool nhwc = sparoa_attr_int(node, "sp.nhwc", 0) != 0 && in->rank > 2;
    const sp_resize_axis *chosen[SPAROA_MAX_RANK];
    sp_resize_axis *axis[SPAROA_MAX_RANK]; /* by ONNX's order */
    for (int32_t d = 0; d < in->rank; d++) {
        int32_t stored = !nhwc || d == 0 ? d : d == 1 ? in->rank - 1 : d - 1;
        int64_t n = in->dims[stored];
        axis[d] = &r->axis[stored];
        if (n > SP_RESIZE_MAX)
            return sparoa_fail(err, SPAROA_TOO_LARGE, node, "an axis of %lld is too long",
                               (long long)n);
        *axis[d] =
            (sp_resize_axis){.in = n, .out = n, .scale = 1, .width = (double)n, .from = 0, .to = 1};
    }
    for (int32_t i = 0; i < q.n_axes; i++) chosen[i] = axis[q.axes[i]];
    double common = 0;
    if (q.n_sizes > 0) SP_TRY(common_scale(node, chosen, &q, q.n_axes, &common, err));
    for (int32_t i = 0; i < q.n_axes; i++) {
        sp_resize_axis *x = axis[q.axes[i]];
        if (q.n_scales > 0)
            SP_TRY(axis_by_scale(node, x, q.scales[i], err));
        else if (q.n_sizes > 0)
            SP_TRY(axis_by_size(node, x, q.sizes[i], common, err));
        else
            x->out = -1;
        if (q.n_roi > 0) {
            x->from = q.roi[i];
            x->to = q.roi[q.n_axes + i];
        }
        if (x->in == 0 && x->out > 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "an empty axis cannot grow to %lld", (long long)x->out);
        x->active = x->in != x->out || x->scale != 1 || x->from != 0 || x->to != 1 ||
                    q.n_roi < 0; /* a region not known yet may change any axis */
    }
    return SPAROA_OK;
}

static sparoa_status resize_infer(const sparoa_node *node, sparoa_error *err)
{
    sp_resize r;
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    SP_TRY(sp_resize_parse(node, &r, err));
    if (r.mode != SP_RESIZE_NEAREST && node->in[0]->dtype == SPAROA_BOOL)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "bool can only be resized by mode 'nearest'");
    node->out[0]->dtype = node->in[0]->dtype;
    node->out[0]->rank = r.rank;
    for (int32_t i = 0; i < r.rank; i++) node->out[0]->dims[i] = r.axis[i].out;
    return sp_check_shape(node, node->out[0], err);
}

static void resize_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_resize r;
    if (sp_resize_parse(node, &r, NULL) != SPAROA_OK) return;
    cost->flops = 0;
    double n = (double)sp_count(node->out[0]);
    for (int32_t i = 0; r.mode != SP_RESIZE_NEAREST && i < r.rank; i++)
        if (r.axis[i].active && r.axis[i].in > 0)
            cost->flops += 2.0 * n * (double)sp_resize_taps(&r, &r.axis[i]);
}

#define RESIZE_ROW(name_, since_, until_, max_in_)                                                 \
    {                                                                                              \
        SP_OP_HEAD(name_, since_, until_),                                                         \
            .min_in = 1, .max_in = (max_in_), .min_out = 1, .max_out = 1,                          \
            .op_class = SPAROA_CLASS_POOL, .tolerance = SPAROA_TOL_ROUNDING,                       \
            .infer = resize_infer, .cost = resize_cost, .workspace = sp_resize_workspace,          \
            .run = sp_resize_run                                                                   \
    }

/* ONNX Resize, versions 10, 11, 13, 18 and 19. */
SP_OP(Resize) = RESIZE_ROW("Resize", 10, 0, 4);
/* ONNX Upsample, versions 7 and 9; version 10 removed it, yet models carry it. */
SP_OP(Upsample) = RESIZE_ROW("Upsample", 7, 0, 2);
