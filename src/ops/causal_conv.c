/* CausalConvWithState: a depthwise convolution over time that carries its last inputs from call to
 * call. */
#include "ops/check.h"

enum { IN_BIAS = 2, IN_STATE = 3 };

typedef struct causal {
    int64_t batch, channels, length, taps; /* -1: not known yet */
    bool silu;
    const float *x, *w, *bias, *past;
    float *y, *present;
} causal;

static sparoa_status parse(const sparoa_node *node, causal *c, sparoa_error *err)
{
    const uint32_t types = SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64);
    for (int32_t i = 0; i < node->n_in; i++) {
        if (i >= 2 && !node->in[i]) continue;
        SP_TRY(sp_check_type(node, i, types, err));
        SP_TRY(sp_check_same_type(node, 0, i, err));
    }
    for (int32_t i = 0; i < 2; i++) SP_TRY(sp_check_rank(node, i, 3, 3, err));
    const char *act = sparoa_attr_string(node, "activation", "none");
    *c = (causal){.silu = strcmp(act, "silu") == 0 || strcmp(act, "swish") == 0};
    if (!c->silu && strcmp(act, "none") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "activation '%.40s' is not none, silu or swish", act);
    c->batch = sp_dim(node->in[0], 0);
    c->channels = sp_dim(node->in[0], 1);
    c->length = sp_dim(node->in[0], 2);
    c->taps = sp_dim(node->in[1], 2);
    if (c->taps == 0) return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "the kernel is empty");
    SP_TRY(sp_unify(node, &c->channels, sp_dim(node->in[1], 0), "number of channels", err));
    SP_TRY(sp_check_dims(node, 1, 3, (int64_t[]){c->channels, 1, c->taps}, err));
    SP_TRY(sp_check_dims(node, IN_BIAS, 1, (int64_t[]){c->channels}, err));
    return sp_check_dims(node, IN_STATE, 3,
                         (int64_t[]){c->batch, c->channels, c->taps < 0 ? -1 : c->taps - 1}, err);
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    causal c;
    SP_TRY(parse(node, &c, err));
    sparoa_dtype type = node->in[0]->dtype;
    sp_set_shape(node->out[0], type, 3, (int64_t[]){c.batch, c.channels, c.length});
    if (sparoa_out(node, 1))
        sp_set_shape(node->out[1], type, 3,
                     (int64_t[]){c.batch, c.channels, c.taps < 0 ? -1 : c.taps - 1});
    return SPAROA_OK;
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    causal c;
    if (parse(node, &c, NULL) != SPAROA_OK) return;
    cost->flops = (double)sp_count(node->in[0]) * (2.0 * (double)c.taps + (c.silu ? 4.0 : 0.0));
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    const causal *c = arg;
    int64_t before = c->taps - 1;
    for (int64_t row = begin; row < end; row++) {
        const float *x = c->x + row * c->length, *w = c->w + row % c->channels * c->taps;
        const float *past = c->past ? c->past + row * before : NULL;
        float *y = c->y + row * c->length, bias = c->bias ? c->bias[row % c->channels] : 0;
        for (int64_t t = 0; t < c->length; t++) {
            float sum = bias;
            for (int64_t k = 0; k < c->taps; k++) {
                int64_t from = t + k - before;
                float v = from >= 0 ? x[from] : past ? past[from + before] : 0;
                sum += w[k] * v;
            }
            y[t] = c->silu ? sum / (1 + expf(-sum)) : sum;
        }
        for (int64_t i = 0; c->present && i < before; i++) {
            int64_t from = c->length + i - before;
            c->present[row * before + i] = from >= 0 ? x[from] : past ? past[from + before] : 0;
        }
    }
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    causal c;
    SP_TRY(parse(node, &c, exec->err));
    c.x = node->in[0]->data;
    c.w = node->in[1]->data;
    c.bias = sparoa_in(node, IN_BIAS) ? node->in[IN_BIAS]->data : NULL;
    c.past = sparoa_in(node, IN_STATE) ? node->in[IN_STATE]->data : NULL;
    c.y = node->out[0]->data;
    c.present = sparoa_out(node, 1) ? node->out[1]->data : NULL;
    int64_t work = c.length < 65536 ? c.length * (c.taps < 64 ? c.taps : 64) + 1 : 65536;
    sp_parallel_for(exec, c.batch * c.channels, 1 + 65536 / work, piece, &c);
    return SPAROA_OK;
}

/* ONNX CausalConvWithState, version 27. */
SP_OP(CausalConvWithState) = {
    SP_OP_HEAD("CausalConvWithState", 27, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 2,
    .op_class = SPAROA_CLASS_CONV,
    .tolerance = SPAROA_TOL_SUM,
    .infer = infer,
    .cost = cost_of,
    .run = run,
};
