/* RoiAlign and MaxRoiPool: regions of feature maps pooled to one size. */
#include "ops/check.h"

#define MAX_SAMPLES 65536 /* points along one axis of one cell */

typedef struct roi {
    const sparoa_tensor *x, *rois, *batches;
    sparoa_tensor *y;
    int64_t count, images, channels, height, width, out_h, out_w; /* -1: not known yet */
    double scale, offset;
    int64_t ratio;
    bool max;
} roi;

static sparoa_status check_common(const sparoa_node *node, roi *r, int64_t columns,
                                  sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    SP_TRY(sp_check_rank(node, 0, 4, 4, err));
    SP_TRY(sp_check_dims(node, 1, 2, (int64_t[]){-1, columns}, err));
    *r = (roi){.x = node->in[0], .rois = node->in[1], .y = node->out[0]};
    r->count = sp_dim(r->rois, 0);
    r->images = sp_dim(r->x, 0);
    r->channels = sp_dim(r->x, 1);
    r->height = sp_dim(r->x, 2);
    r->width = sp_dim(r->x, 3);
    r->scale = sparoa_attr_float(node, "spatial_scale", 1);
    return SPAROA_OK;
}

static sparoa_status check_size(const sparoa_node *node, const roi *r, sparoa_error *err)
{
    if (r->out_h >= 1 && r->out_w >= 1 && r->out_h <= INT32_MAX && r->out_w <= INT32_MAX)
        return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "an output of %lld by %lld is not possible",
                       (long long)r->out_h, (long long)r->out_w);
}

static sparoa_status align_parse(const sparoa_node *node, roi *r, sparoa_error *err)
{
    SP_TRY(check_common(node, r, 4, err));
    const char *fallback = node->version >= 16 ? "half_pixel" : "output_half_pixel";
    const char *coord = sparoa_attr_string(node, "coordinate_transformation_mode", fallback);
    r->offset = strcmp(coord, "half_pixel") == 0 ? 0.5 : 0.0;
    r->max = sp_attr_is(node, "mode", "avg", "max");
    if ((r->offset == 0.0 && strcmp(coord, "output_half_pixel") != 0) ||
        (!r->max && !sp_attr_is(node, "mode", "avg", "avg")))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "mode or coordinate_transformation_mode '%.40s' is not one of ONNX",
                           coord);
    r->out_h = sparoa_attr_int(node, "output_height", 1);
    r->out_w = sparoa_attr_int(node, "output_width", 1);
    r->ratio = sparoa_attr_int(node, "sampling_ratio", 0);
    if (r->ratio < 0 || r->ratio > MAX_SAMPLES)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "sampling_ratio=%lld is out of range",
                           (long long)r->ratio);
    SP_TRY(check_size(node, r, err));
    SP_TRY(sp_check_type(node, 2, 1u << SPAROA_INT64 | 1u << SPAROA_INT32, err));
    r->batches = node->in[2];
    SP_TRY(sp_check_dims(node, 2, 1, (int64_t[]){r->count}, err));
    return sp_unify(node, &r->count, sp_dim(r->batches, 0), "number of regions", err);
}

static sparoa_status pool_parse(const sparoa_node *node, roi *r, sparoa_error *err)
{
    size_t n;
    const int64_t *shape = sparoa_attr_ints(node, "pooled_shape", &n);
    SP_TRY(check_common(node, r, 5, err));
    if (n != 2)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "pooled_shape has %zu values, expected 2", n);
    r->out_h = shape[0];
    r->out_w = shape[1];
    return check_size(node, r, err);
}

static sparoa_status set_output(const roi *r, const sparoa_node *node, sparoa_error *err)
{
    sp_set_shape(r->y, r->x->dtype, 4, (int64_t[]){r->count, r->channels, r->out_h, r->out_w});
    return sp_check_shape(node, r->y, err);
}

static sparoa_status align_infer(const sparoa_node *node, sparoa_error *err)
{
    roi r;
    SP_TRY(align_parse(node, &r, err));
    return set_output(&r, node, err);
}

static sparoa_status pool_infer(const sparoa_node *node, sparoa_error *err)
{
    roi r;
    SP_TRY(pool_parse(node, &r, err));
    return set_output(&r, node, err);
}

static void align_cost(const sparoa_node *node, sparoa_cost *cost)
{
    double ratio = (double)sparoa_attr_int(node, "sampling_ratio", 0);
    if (ratio < 1) ratio = 2; /* depends on the regions */
    cost->flops = 8.0 * ratio * ratio * (double)sp_count(node->out[0]);
}

static void pool_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 4.0 * (double)sp_count(node->out[0]);
}

typedef struct span {
    double start, cell; /* of the region along one axis, and the size of one cell */
    int64_t samples;    /* points along one cell */
} span;

/* Fails (returns false) for a region that is not finite or too large to be sampled. */
static bool make_span(const roi *r, double from, double to, int64_t cells, span *s)
{
    s->start = from * r->scale - r->offset;
    double size = to * r->scale - r->offset - s->start;
    if (r->offset == 0.0 && !(size > 1.0)) size = 1.0;
    if (!isfinite(s->start) || !isfinite(size)) return false;
    s->cell = size / (double)cells;
    double points = r->ratio > 0 ? (double)r->ratio : ceil(s->cell);
    if (points > MAX_SAMPLES) return false;
    s->samples = points > 0 ? (int64_t)points : 0;
    return true;
}

/* Neighbours and weights of a coordinate along an axis; false where it lies outside. */
static bool neighbours(double at, int64_t length, int64_t index[2], double weight[2])
{
    if (!(at >= -1.0 && at <= (double)length)) return false;
    if (at < 0) at = 0;
    index[0] = (int64_t)at;
    index[1] = index[0] + 1;
    if (index[0] >= length - 1) {
        index[0] = index[1] = length - 1;
        at = (double)index[0];
    }
    weight[1] = at - (double)index[0];
    weight[0] = 1.0 - weight[1];
    return true;
}

static void align_cell(const roi *r, int64_t n, int64_t cell, const span *h, const span *w)
{
    int64_t image = sp_get_i64(r->batches, n), plane = r->height * r->width,
            cells = r->out_h * r->out_w;
    int64_t ph = cell / r->out_w, pw = cell % r->out_w, iy[2], ix[2],
            count = h->samples * w->samples;
    double wy[2], wx[2];
    for (int64_t c = 0; c < r->channels; c++) {
        double sum = 0, top = -INFINITY;
        int64_t base = (image * r->channels + c) * plane;
        for (int64_t i = 0; i < h->samples; i++) {
            double y =
                h->start + (double)ph * h->cell + ((double)i + 0.5) * h->cell / (double)h->samples;
            bool in_y = neighbours(y, r->height, iy, wy);
            for (int64_t j = 0; j < w->samples; j++) {
                double x = w->start + (double)pw * w->cell +
                           ((double)j + 0.5) * w->cell / (double)w->samples;
                bool inside = in_y && neighbours(x, r->width, ix, wx);
                for (int32_t k = 0; k < 4; k++) {
                    int64_t at = inside ? base + iy[k / 2] * r->width + ix[k % 2] : 0;
                    double v = inside ? wy[k / 2] * wx[k % 2] * sp_get_f64(r->x, at) : 0;
                    sum += v;
                    if (v > top) top = v;
                }
            }
        }
        double v = count == 0 ? 0 : r->max ? top : sum / (double)count;
        sp_set_f64(r->y, (n * r->channels + c) * cells + cell, v);
    }
}

static void align_piece(void *arg, int64_t begin, int64_t end)
{
    const roi *r = arg;
    int64_t cells = r->out_h * r->out_w;
    for (int64_t u = begin; u < end; u++) {
        int64_t n = u / cells;
        span h = {0}, w = {0};
        bool ok = make_span(r, sp_get_f64(r->rois, 4 * n + 1), sp_get_f64(r->rois, 4 * n + 3),
                            r->out_h, &h);
        ok = make_span(r, sp_get_f64(r->rois, 4 * n), sp_get_f64(r->rois, 4 * n + 2), r->out_w,
                       &w) &&
             ok;
        if (ok) align_cell(r, n, u % cells, &h, &w);
    }
}

static sparoa_status align_run(const sparoa_node *node, const sparoa_exec *exec)
{
    roi r;
    SP_TRY(align_parse(node, &r, exec->err));
    if (sp_count(r.y) == 0) return SPAROA_OK;
    for (int64_t n = 0; n < r.count; n++) {
        int64_t image = sp_get_i64(r.batches, n);
        span s;
        if (image < 0 || image >= r.images || sp_count(r.x) == 0)
            return sparoa_fail(exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "batch_indices[%lld]=%lld is out of range for %lld images",
                               (long long)n, (long long)image, (long long)r.images);
        if (!make_span(&r, sp_get_f64(r.rois, 4 * n + 1), sp_get_f64(r.rois, 4 * n + 3), r.out_h,
                       &s) ||
            !make_span(&r, sp_get_f64(r.rois, 4 * n), sp_get_f64(r.rois, 4 * n + 2), r.out_w, &s))
            return sparoa_fail(exec->err, SPAROA_INVALID_ARGUMENT, node,
                               "region %lld is not finite or too large", (long long)n);
    }
    sp_parallel_for(exec, r.count * r.out_h * r.out_w, 1 + 1024 / r.channels, align_piece, &r);
    return SPAROA_OK;
}

/* The elements of a region that cell i of `cells` covers, cut to 0..length-1. */
static void cover(double from, double to, int64_t i, int64_t cells, int64_t length, int64_t *first,
                  int64_t *end)
{
    double size = to - from + 1.0 > 1.0 ? to - from + 1.0 : 1.0, cell = size / (double)cells;
    double low = floor((double)i * cell) + from, high = ceil((double)(i + 1) * cell) + from;
    *first = !(low > 0) ? 0 : low > (double)length ? length : (int64_t)low;
    *end = !(high > 0) ? 0 : high > (double)length ? length : (int64_t)high;
}

static void pool_piece(void *arg, int64_t begin, int64_t end)
{
    const roi *r = arg;
    int64_t cells = r->out_h * r->out_w;
    for (int64_t u = begin; u < end; u++) { /* region and channel */
        int64_t n = u / r->channels, image = (int64_t)sp_get_f64(r->rois, 5 * n);
        int64_t base = (image * r->channels + u % r->channels) * r->height * r->width;
        double box[4];
        for (int32_t k = 0; k < 4; k++)
            box[k] = round(sp_get_f64(r->rois, 5 * n + 1 + k) * r->scale);
        for (int64_t cell = 0; cell < cells; cell++) {
            int64_t y0, y1, x0, x1;
            cover(box[1], box[3], cell / r->out_w, r->out_h, r->height, &y0, &y1);
            cover(box[0], box[2], cell % r->out_w, r->out_w, r->width, &x0, &x1);
            double top = y1 > y0 && x1 > x0 ? -INFINITY : 0;
            for (int64_t y = y0; y < y1; y++)
                for (int64_t x = x0; x < x1; x++) {
                    double v = sp_get_f64(r->x, base + y * r->width + x);
                    if (!(v <= top)) top = v;
                }
            sp_set_f64(r->y, u * cells + cell, top);
        }
    }
}

static sparoa_status pool_run(const sparoa_node *node, const sparoa_exec *exec)
{
    roi r;
    SP_TRY(pool_parse(node, &r, exec->err));
    if (sp_count(r.y) == 0) return SPAROA_OK;
    for (int64_t n = 0; n < r.count; n++) {
        double image = sp_get_f64(r.rois, 5 * n);
        if (!(image >= 0 && image < (double)r.images))
            return sparoa_fail(exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "region %lld names image %g of %lld", (long long)n, image,
                               (long long)r.images);
    }
    sp_parallel_for(exec, r.count * r.channels, 1, pool_piece, &r);
    return SPAROA_OK;
}

/* ONNX RoiAlign, versions 10, 16 and 22. */
SP_OP(RoiAlign) = {
    SP_OP_HEAD("RoiAlign", 10, 0),
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_POOL,
    .tolerance = SPAROA_TOL_SUM,
    .infer = align_infer,
    .cost = align_cost,
    .run = align_run,
};

/* ONNX MaxRoiPool, versions 1 and 22. */
SP_OP(MaxRoiPool) = {
    SP_OP_HEAD("MaxRoiPool", 1, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_POOL,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = pool_infer,
    .cost = pool_cost,
    .run = pool_run,
};
