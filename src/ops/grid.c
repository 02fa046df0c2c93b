/* AffineGrid and GridSample: sampling positions from an affine map, and sampling at given
 * positions. */
#include "ops/check.h"

#define MAX_SPATIAL 3

/* ---- AffineGrid ---- */

typedef struct affine {
    int32_t spatial; /* 2 or 3; 0: not known yet */
    int64_t batch, dims[MAX_SPATIAL];
    bool align;
} affine;

static sparoa_status affine_parse(const sparoa_node *node, affine *a, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_type(node, 1, 1u << SPAROA_INT64, err));
    SP_TRY(sp_check_rank(node, 0, 3, 3, err));
    SP_TRY(sp_check_rank(node, 1, 1, 1, err));
    const sparoa_tensor *theta = node->in[0], *size = node->in[1];
    *a = (affine){.batch = sp_dim(theta, 0),
                  .align = sparoa_attr_int(node, "align_corners", 0) != 0};
    int64_t rows = sp_dim(theta, 1), n = sp_dim(size, 0);
    SP_TRY(sp_unify(node, &rows, n < 0 ? -1 : n - 2, "number of spatial dimensions", err));
    if (rows >= 0 && rows != 2 && rows != 3)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%lld spatial dimensions are given, expected 2 or 3", (long long)rows);
    a->spatial = rows < 0 ? 0 : (int32_t)rows;
    SP_TRY(sp_check_dims(node, 0, 3, (int64_t[]){-1, rows, rows < 0 ? -1 : rows + 1}, err));
    int64_t sizes[5];
    int32_t count;
    SP_TRY(sp_read_ints(node, 1, sizes, 5, &count, err));
    for (int32_t i = 0; i < MAX_SPATIAL; i++) a->dims[i] = -1;
    if (count < 0) return SPAROA_OK;
    for (int32_t i = 0; i < count; i++)
        if (sizes[i] < 0 || sizes[i] > INT32_MAX)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "size[%d]=%lld is not possible", i,
                               (long long)sizes[i]);
    for (int32_t i = 0; i < a->spatial; i++) a->dims[i] = sizes[i + 2];
    return sp_unify(node, &a->batch, sizes[0], "batch size", err);
}

static sparoa_status affine_infer(const sparoa_node *node, sparoa_error *err)
{
    affine a;
    SP_TRY(affine_parse(node, &a, err));
    node->out[0]->dtype = node->in[0]->dtype;
    if (!a.spatial) return SPAROA_OK;
    int64_t dims[MAX_SPATIAL + 2] = {a.batch};
    for (int32_t i = 0; i < a.spatial; i++) dims[i + 1] = a.dims[i];
    dims[a.spatial + 1] = a.spatial;
    sp_set_shape(node->out[0], node->in[0]->dtype, a.spatial + 2, dims);
    return sp_check_shape(node, node->out[0], err);
}

static void affine_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = 8.0 * (double)sp_count(node->out[0]);
}

/* The i-th of n positions between -1 and 1: centres of cells, or the ends included. */
static double position(bool align, int64_t i, int64_t n)
{
    if (!align) return (2.0 * (double)i + 1.0) / (double)n - 1.0;
    return n > 1 ? 2.0 * (double)i / (double)(n - 1) - 1.0 : 0.0;
}

typedef struct affine_job {
    const sparoa_node *node;
    affine a;
    int64_t points;
} affine_job;

static void affine_piece(void *arg, int64_t begin, int64_t end)
{
    const affine_job *job = arg;
    const affine *a = &job->a;
    int32_t r = a->spatial;
    for (int64_t p = begin; p < end; p++) {
        int64_t rest = p % job->points, n = p / job->points;
        double at[MAX_SPATIAL + 1]; /* x, y, z, 1 */
        for (int32_t d = r - 1; d >= 0; d--) {
            at[r - 1 - d] = position(a->align, rest % a->dims[d], a->dims[d]);
            rest /= a->dims[d];
        }
        at[r] = 1;
        for (int32_t i = 0; i < r; i++) {
            double sum = 0;
            for (int32_t j = 0; j <= r; j++)
                sum += at[j] * sp_get_f64(job->node->in[0], (n * r + i) * (r + 1) + j);
            sp_set_f64(job->node->out[0], p * r + i, sum);
        }
    }
}

static sparoa_status affine_run(const sparoa_node *node, const sparoa_exec *exec)
{
    affine_job job = {.node = node, .points = 1};
    SP_TRY(affine_parse(node, &job.a, exec->err));
    for (int32_t i = 0; i < job.a.spatial; i++) {
        if (node->out[0]->dims[i + 1] != job.a.dims[i])
            return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                               "the output is not prepared for this size");
        job.points *= job.a.dims[i];
    }
    if (sp_count(node->out[0]) > 0)
        sp_parallel_for(exec, job.a.batch * job.points, 2048, affine_piece, &job);
    return SPAROA_OK;
}

/* ---- GridSample ---- */

typedef enum sample_mode { SAMPLE_NEAREST, SAMPLE_LINEAR, SAMPLE_CUBIC } sample_mode;
typedef enum sample_pad { PAD_ZEROS, PAD_BORDER, PAD_REFLECTION } sample_pad;

typedef struct sampler {
    const sparoa_tensor *x, *grid;
    sparoa_tensor *y;
    int32_t spatial;
    sample_mode mode;
    sample_pad pad;
    bool align;
    int64_t channels, in_points, out_points; /* elements of one channel */
} sampler;

static sparoa_status sampler_parse(const sparoa_node *node, sampler *s, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    SP_TRY(sp_check_type(node, 1, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_rank(node, 0, 3, 2 + MAX_SPATIAL, err));
    const char *mode = sparoa_attr_string(node, "mode", "linear");
    const char *pad = sparoa_attr_string(node, "padding_mode", "zeros");
    *s = (sampler){.x = node->in[0], .grid = node->in[1], .y = node->out[0]};
    s->align = sparoa_attr_int(node, "align_corners", 0) != 0;
    if (strcmp(mode, "nearest") == 0)
        s->mode = SAMPLE_NEAREST;
    else if (strcmp(mode, "linear") == 0 || strcmp(mode, "bilinear") == 0)
        s->mode = SAMPLE_LINEAR;
    else if (strcmp(mode, "cubic") == 0 || strcmp(mode, "bicubic") == 0)
        s->mode = SAMPLE_CUBIC;
    else
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "mode '%.40s' is not one of ONNX",
                           mode);
    if (strcmp(pad, "zeros") == 0)
        s->pad = PAD_ZEROS;
    else if (strcmp(pad, "border") == 0)
        s->pad = PAD_BORDER;
    else if (strcmp(pad, "reflection") == 0)
        s->pad = PAD_REFLECTION;
    else
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "padding_mode '%.40s' is not one of ONNX", pad);
    if (s->x->rank < 0 || s->grid->rank < 0) return SPAROA_OK;
    s->spatial = s->x->rank - 2;
    SP_TRY(sp_check_rank(node, 1, s->x->rank, s->x->rank, err));
    int64_t batch = s->x->dims[0], last = s->grid->dims[s->grid->rank - 1];
    if (last >= 0 && last != s->spatial)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension of grid is %lld, expected %d", (long long)last,
                           s->spatial);
    return sp_unify(node, &batch, s->grid->dims[0], "batch size", err);
}

static sparoa_status sampler_infer(const sparoa_node *node, sparoa_error *err)
{
    sampler s;
    SP_TRY(sampler_parse(node, &s, err));
    s.y->dtype = s.x->dtype;
    if (!s.spatial) return SPAROA_OK;
    sp_set_shape(s.y, s.x->dtype, s.spatial + 2, NULL);
    s.y->dims[0] = s.x->dims[0] >= 0 ? s.x->dims[0] : s.grid->dims[0];
    s.y->dims[1] = s.x->dims[1];
    for (int32_t i = 0; i < s.spatial; i++) s.y->dims[i + 2] = s.grid->dims[i + 1];
    return sp_check_shape(node, s.y, err);
}

static void sampler_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sampler s;
    if (sampler_parse(node, &s, NULL) != SPAROA_OK) return;
    double taps = pow(s.mode == SAMPLE_CUBIC ? 4 : s.mode == SAMPLE_LINEAR ? 2 : 1, s.spatial);
    cost->flops = 2.0 * taps * (double)sp_count(node->out[0]);
}

/* Folds v back between low and high by reflection at both. */
static double reflect(double v, double low, double high)
{
    double range = high - low;
    if (!(range > 0) || !isfinite(v)) return low;
    double away = v < low ? low - v : v > high ? v - high : 0;
    if (away == 0) return v;
    double turns = floor(away / range), rest = away - turns * range;
    bool even = fmod(turns, 2.0) == 0;
    return (v < low) == even ? low + rest : high - rest;
}

/* An element's number along an axis after padding; -1: it counts as zero. */
static int64_t padded(const sampler *s, double i, int64_t length)
{
    if (s->pad == PAD_ZEROS) return i >= 0 && i <= (double)(length - 1) ? (int64_t)i : -1;
    if (s->pad == PAD_REFLECTION) {
        double low = s->align ? 0 : -0.5;
        i = trunc(reflect(i, low, (double)(length - 1) - low));
    }
    if (!(i > 0)) return 0;
    return i >= (double)(length - 1) ? length - 1 : (int64_t)i;
}

typedef struct taps {
    int32_t count;
    int64_t index[4];
    double weight[4];
} taps;

static void cubic_weights(double t, double w[4])
{
    const double a = -0.75;
    for (int32_t i = 0; i < 4; i++) {
        double d = fabs(t - (double)(i - 1));
        w[i] = d <= 1.0 ? ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
                        : ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a;
    }
}

/* The elements along one axis that a grid value reads. The position is formed in float32 unless the
 * grid is float64, so that ties of nearest fall as they do elsewhere. */
static void find_taps(const sampler *s, double g, int64_t length, taps *t)
{
    double at, low = s->align ? 0 : -0.5, high = (double)(length - 1) - low;
    if (s->grid->dtype == SPAROA_FLOAT64)
        at = s->align ? (g + 1) / 2 * (double)(length - 1) : ((g + 1) * (double)length - 1) / 2;
    else
        at = s->align ? ((float)g + 1) / 2 * (float)(length - 1)
                      : (((float)g + 1) * (float)length - 1) / 2;
    if (!(fabs(at) < 0x1p52)) at = at > 0 ? 0x1p52 : -0x1p52; /* NaN too: outside */
    if (s->mode == SAMPLE_NEAREST) at = nearbyint(at);
    /* cubic pads each element it reads instead, as PyTorch does */
    if (s->mode != SAMPLE_CUBIC && (at < low || at > high)) {
        if (s->pad == PAD_BORDER)
            at = at > 0 ? (double)(length - 1) : 0;
        else if (s->pad == PAD_REFLECTION)
            at = reflect(at, low, high);
    }
    double base = floor(at), fraction = at - base;
    t->count = s->mode == SAMPLE_CUBIC ? 4 : s->mode == SAMPLE_LINEAR ? 2 : 1;
    if (s->mode == SAMPLE_CUBIC)
        cubic_weights(fraction, t->weight);
    else
        t->weight[0] = 1 - fraction, t->weight[1] = fraction;
    if (s->mode == SAMPLE_NEAREST) t->weight[0] = 1, base = trunc(at);
    if (s->mode == SAMPLE_CUBIC) base -= 1;
    for (int32_t i = 0; i < t->count; i++) {
        t->index[i] = padded(s, base + (double)i, length);
        if (t->index[i] < 0) t->weight[i] = 0, t->index[i] = 0;
    }
}

/* All elements that one output point reads: the product of the axes' taps, those of weight 0 left
 * out. */
static int32_t find_points(const sampler *s, int64_t point, int64_t offset[64], double weight[64])
{
    int32_t n = 1;
    offset[0] = 0;
    weight[0] = 1;
    for (int32_t d = 0; d < s->spatial; d++) {
        int64_t length = s->x->dims[d + 2], new_offset[64];
        double new_weight[64];
        taps t;
        int32_t m = 0;
        find_taps(s, sp_get_f64(s->grid, point * s->spatial + s->spatial - 1 - d), length, &t);
        for (int32_t i = 0; i < n; i++)
            for (int32_t k = 0; k < t.count; k++) {
                if (t.weight[k] == 0) continue;
                new_offset[m] = offset[i] * length + t.index[k];
                new_weight[m++] = weight[i] * t.weight[k];
            }
        memcpy(offset, new_offset, (size_t)m * sizeof *offset);
        memcpy(weight, new_weight, (size_t)m * sizeof *weight);
        n = m;
    }
    return n;
}

static void sampler_piece(void *arg, int64_t begin, int64_t end)
{
    const sampler *s = arg;
    int64_t offset[64];
    double weight[64];
    for (int64_t p = begin; p < end; p++) {
        int32_t n = find_points(s, p, offset, weight);
        int64_t batch = p / s->out_points, at = p % s->out_points;
        for (int64_t c = 0; c < s->channels; c++) {
            int64_t from = (batch * s->channels + c) * s->in_points;
            int64_t to = (batch * s->channels + c) * s->out_points + at;
            double sum = 0;
            if (s->x->dtype == SPAROA_FLOAT32) {
                const float *x = (const float *)s->x->data + from;
                for (int32_t i = 0; i < n; i++) sum += weight[i] * (double)x[offset[i]];
                ((float *)s->y->data)[to] = (float)sum;
            } else {
                for (int32_t i = 0; i < n; i++)
                    sum += weight[i] * sp_get_f64(s->x, from + offset[i]);
                sp_set_f64(s->y, to, sum);
            }
        }
    }
}

static sparoa_status sampler_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sampler s;
    SP_TRY(sampler_parse(node, &s, exec->err));
    if (sp_count(s.y) == 0) return SPAROA_OK;
    s.channels = s.x->dims[1];
    s.in_points = sp_dims_product(s.x, 2, s.x->rank);
    s.out_points = sp_dims_product(s.y, 2, s.y->rank);
    if (s.in_points == 0)
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "an empty image cannot be sampled");
    sp_parallel_for(exec, s.x->dims[0] * s.out_points, 1 + 4096 / (s.channels + 1), sampler_piece,
                    &s);
    return SPAROA_OK;
}

/* ONNX AffineGrid, version 20. */
SP_OP(AffineGrid) = {
    SP_OP_HEAD("AffineGrid", 20, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = affine_infer,
    .cost = affine_cost,
    .run = affine_run,
};

/* ONNX GridSample, versions 16, 20 and 22. */
SP_OP(GridSample) = {
    SP_OP_HEAD("GridSample", 16, 0),
    .min_in = 2,
    .max_in = 2,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_POOL,
    .tolerance = SPAROA_TOL_SUM,
    .infer = sampler_infer,
    .cost = sampler_cost,
    .run = sampler_run,
};
