/* Averages of 8-bit images, domain com.microsoft. */
#include "ops/conv_shape.h"
#include "ops/eltwise.h"
#include "ops/quant.h"

/* Inputs X, x_scale, x_zero_point, y_scale, y_zero_point; zero points optional. */
static sparoa_status check_inputs(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_q_check_scale(node, 1, -1, err));
    SP_TRY(sp_q_check_scale(node, 3, -1, err));
    SP_TRY(sp_q_check_zero(node, 2, 1u << node->in[0]->dtype, -1, err));
    SP_TRY(sp_q_check_zero(node, 4, 1u << node->in[0]->dtype, -1, err));
    if (node->in[0]->rank >= 0 && node->in[0]->rank < 3)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input has rank %d, expected at least 3", node->in[0]->rank);
    return SPAROA_OK;
}

static bool channels_last(const sparoa_node *node)
{
    return sparoa_attr_int(node, "channels_last", 0) != 0;
}

typedef struct pool_job {
    const sparoa_node *node;
    sp_window w;
    int64_t channels, in_count, out_count; /* pixels of a plane */
    bool last, count_padding, is_signed;
    float scale; /* x's over y's */
    int32_t x_zero, y_zero, lo, hi;
} pool_job;

/* Sum of (x - zero) over the window at output pixel `o`, and in *area what to divide it by. */
static int64_t window_sum(const pool_job *job, const uint8_t *x, int64_t pixel_step, int64_t o,
                          int64_t *area)
{
    const sp_window *w = &job->w;
    int64_t begin[SP_MAX_SPATIAL], taps = 1, sum = 0, inside = 0;
    for (int32_t d = w->spatial - 1; d >= 0; d--) {
        begin[d] = o % w->out[d] * w->stride[d] - w->pad_begin[d];
        o /= w->out[d];
        taps *= w->kernel[d];
    }
    *area = 0;
    for (int64_t t = 0; t < taps; t++) {
        int64_t rest = t, offset = 0, scale = 1;
        bool in_image = true, in_padding = true;
        for (int32_t d = w->spatial - 1; d >= 0; d--) {
            const int64_t i = begin[d] + rest % w->kernel[d] * w->dilation[d];
            in_image = in_image && i >= 0 && i < w->in[d];
            in_padding = in_padding && i < w->in[d] + w->pad_end[d];
            offset += i * scale;
            scale *= w->in[d];
            rest /= w->kernel[d];
        }
        *area += in_padding; /* a window that rounding up added may reach beyond the padding */
        if (!in_image) continue;
        const uint8_t q = x[offset * pixel_step];
        sum += (job->is_signed ? (int8_t)q : q) - job->x_zero;
        inside++;
    }
    if (!job->count_padding) *area = inside;
    return sum;
}

/* Planes begin..end-1, counted over batch and channels. */
static void pool_planes(void *arg, int64_t begin, int64_t end)
{
    const pool_job *job = arg;
    const int64_t c = job->channels, step = job->last ? c : 1;
    for (int64_t p = begin; p < end; p++) {
        const int64_t from = job->last ? p / c * c * job->in_count + p % c : p * job->in_count;
        const int64_t to = job->last ? p / c * c * job->out_count + p % c : p * job->out_count;
        const uint8_t *x = (const uint8_t *)job->node->in[0]->data + from;
        uint8_t *y = (uint8_t *)job->node->out[0]->data + to;
        for (int64_t o = 0; o < job->out_count; o++) {
            int64_t area;
            const int64_t sum = window_sum(job, x, step, o, &area);
            const float mean = area > 0 ? (float)sum / (float)area : 0;
            y[o * step] = (uint8_t)sp_quantize(mean * job->scale, job->y_zero, job->lo, job->hi);
        }
    }
}

static sparoa_status pool_run(const sparoa_node *node, const sparoa_exec *exec, pool_job *job)
{
    const sparoa_tensor *x = node->in[0];
    if (sp_count(node->out[0]) <= 0) return SPAROA_OK;
    job->node = node;
    job->last = channels_last(node);
    job->channels = x->dims[job->last ? x->rank - 1 : 1];
    job->is_signed = x->dtype == SPAROA_INT8;
    job->scale = sp_q_scale(node, 1, 0) / sp_q_scale(node, 3, 0);
    job->x_zero = sp_q_zero(node, 2, 0);
    job->y_zero = sp_q_zero(node, 4, 0);
    sp_q_range(x->dtype, &job->lo, &job->hi);
    job->in_count = job->out_count = 1;
    for (int32_t d = 0; d < job->w.spatial; d++) {
        job->in_count *= job->w.in[d];
        job->out_count *= job->w.out[d];
    }
    sp_parallel_for(exec, x->dims[0] * job->channels, 16, pool_planes, job);
    return SPAROA_OK;
}

static sparoa_status window_of(const sparoa_node *node, sp_window *w, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    return sp_window_shape(node, x->rank - 2, x->dims + (channels_last(node) ? 1 : 2), NULL,
                           sparoa_attr_int(node, "ceil_mode", 0) != 0, w, err);
}

static sparoa_status average_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(check_inputs(node, err));
    SP_TRY(sp_infer_same(node, err));
    if (node->in[0]->rank < 0) return SPAROA_OK;
    sp_window w;
    SP_TRY(window_of(node, &w, err));
    for (int32_t d = 0; d < w.spatial; d++)
        node->out[0]->dims[d + (channels_last(node) ? 1 : 2)] = w.out[d];
    return SPAROA_OK;
}

static sparoa_status average_run(const sparoa_node *node, const sparoa_exec *exec)
{
    pool_job job = {.count_padding = sparoa_attr_int(node, "count_include_pad", 0) != 0};
    SP_TRY(window_of(node, &job.w, exec->err));
    return pool_run(node, exec, &job);
}

static sparoa_status global_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(check_inputs(node, err));
    SP_TRY(sp_infer_same(node, err));
    for (int32_t d = 0; d < node->in[0]->rank - 2; d++)
        node->out[0]->dims[d + (channels_last(node) ? 1 : 2)] = 1;
    return SPAROA_OK;
}

static sparoa_status global_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    pool_job job = {.w = {.spatial = x->rank - 2}};
    for (int32_t d = 0; d < job.w.spatial; d++) {
        job.w.in[d] = job.w.kernel[d] = x->dims[d + (channels_last(node) ? 1 : 2)];
        job.w.out[d] = job.w.stride[d] = job.w.dilation[d] = 1;
    }
    return pool_run(node, exec, &job);
}

static void average_cost(const sparoa_node *node, sparoa_cost *cost)
{
    size_t n;
    const int64_t *kernel = sparoa_attr_ints(node, "kernel_shape", &n);
    for (size_t i = 0; i < n; i++) cost->flops *= (double)kernel[i];
}

static void global_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const int64_t n = sp_count(node->in[0]);
    if (n > 0) cost->flops = (double)n;
}

#define ROW(op, infer_, cost_, run_)                                                               \
    SP_MS_HEAD(op), .min_in = 4, .max_in = 5, .min_out = 1, .max_out = 1,                          \
                    .op_class = SPAROA_CLASS_POOL, .tolerance = SPAROA_TOL_ROUNDING,               \
                    .infer = infer_, .cost = cost_, .run = run_

/* com.microsoft QLinearAveragePool, version 1. */
SP_OP(QLinearAveragePool) = {ROW("QLinearAveragePool", average_infer, average_cost, average_run)};

/* com.microsoft QLinearGlobalAveragePool, version 1. */
SP_OP(QLinearGlobalAveragePool) = {
    ROW("QLinearGlobalAveragePool", global_infer, global_cost, global_run)};
