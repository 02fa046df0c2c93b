#include "ops/eltwise.h"
#include "ops/quant.h"

/* The tensor as [outer, count, inner], normalised along count. */
typedef struct softmax_job {
    const sparoa_node *node;
    int64_t count, inner;
    float exps[256]; /* exp(-d * scale) for a distance d to the largest value */
    float y_scale;
    int32_t y_zero, lo, hi;
    int flip; /* 128 for int8: turns order of bytes into order of values */
} softmax_job;

static void softmax_lines(void *arg, int64_t begin, int64_t end)
{
    const softmax_job *job = arg;
    for (int64_t line = begin; line < end; line++) {
        const int64_t offset = line / job->inner * job->count * job->inner + line % job->inner;
        const uint8_t *x = (const uint8_t *)job->node->in[0]->data + offset;
        uint8_t *y = (uint8_t *)job->node->out[0]->data + offset;
        int largest = 0;
        double sum = 0;
        for (int64_t i = 0; i < job->count; i++) {
            const int v = x[i * job->inner] ^ job->flip;
            largest = v > largest ? v : largest;
        }
        for (int64_t i = 0; i < job->count; i++)
            sum += job->exps[largest - (x[i * job->inner] ^ job->flip)];
        const float factor = (float)(1 / sum) / job->y_scale;
        for (int64_t i = 0; i < job->count; i++) {
            const float e = job->exps[largest - (x[i * job->inner] ^ job->flip)];
            y[i * job->inner] = (uint8_t)sp_quantize(e * factor, job->y_zero, job->lo, job->hi);
        }
    }
}

static sparoa_status softmax_infer(const sparoa_node *node, sparoa_error *err)
{
    int32_t axis;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_q_check_scale(node, 1, -1, err));
    SP_TRY(sp_q_check_scale(node, 3, -1, err));
    SP_TRY(sp_q_check_zero(node, 2, 1u << node->in[0]->dtype, -1, err));
    SP_TRY(sp_q_check_zero(node, 4, 1u << node->in[0]->dtype, -1, err));
    if (node->in[0]->rank >= 0)
        SP_TRY(
            sp_axis(node, sparoa_attr_int(node, "axis", -1), node->in[0]->rank, false, &axis, err));
    return sp_infer_same(node, err);
}

static sparoa_status softmax_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    int32_t axis;
    if (sp_count(x) <= 0) return SPAROA_OK;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", -1), x->rank, false, &axis, exec->err));
    /* before opset 13 softmax flattened everything from the axis on */
    const bool flatten = sparoa_attr_int(node, "opset", 13) < 13;
    softmax_job job = {.node = node,
                       .count = flatten ? sp_dims_product(x, axis, x->rank) : x->dims[axis],
                       .inner = flatten ? 1 : sp_dims_product(x, axis + 1, x->rank),
                       .y_scale = sp_q_scale(node, 3, 0),
                       .y_zero = sp_q_zero(node, 4, 0),
                       .flip = x->dtype == SPAROA_INT8 ? 128 : 0};
    const float x_scale = sp_q_scale(node, 1, 0);
    sp_q_range(x->dtype, &job.lo, &job.hi);
    for (int i = 0; i < 256; i++) job.exps[i] = expf(-(float)i * x_scale);
    const int64_t grain = SP_GRAIN / job.count;
    sp_parallel_for(exec, sp_count(x) / job.count, grain > 0 ? grain : 1, softmax_lines, &job);
    return SPAROA_OK;
}

/* com.microsoft QLinearSoftmax, version 1. */
SP_OP(QLinearSoftmax) = {
    SP_MS_HEAD("QLinearSoftmax"),
    .min_in = 4,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = softmax_infer,
    .cost = sp_cost_div,
    .run = softmax_run,
};
