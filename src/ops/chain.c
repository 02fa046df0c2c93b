#include "ops/chain.h"

#include "ops/broadcast.h"
#include "ops/eltwise.h"
#include "ops/gelu.h"

#define PIECE 256

static sparoa_status chain_infer(const sparoa_node *node, sparoa_error *err)
{
    sp_chain chain;
    sparoa_tensor *out = node->out[0];
    if (!sp_chain_read(node, &chain))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "steps are missing or wrong");
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_FLOAT32 | 1u << SPAROA_FLOAT16, err));
    for (int32_t i = 1; i < node->n_in; i++) SP_TRY(sp_check_same_type(node, 0, i, err));
    sparoa_tensor sum = *node->in[0];
    for (int32_t i = 1; i < node->n_in; i++) {
        sparoa_tensor next = {.rank = -1};
        SP_TRY(sp_broadcast(node, &sum, node->in[i], &next, err));
        sum = next;
    }
    sp_copy_fact(out, &sum);
    out->dtype = node->in[0]->dtype;
    return SPAROA_OK;
}

static void chain_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_chain chain;
    if (sp_chain_read(node, &chain)) cost->flops *= 4 * chain.count;
}

typedef struct job {
    const sparoa_node *node;
    sp_chain chain;
    int64_t strides[SP_CHAIN_INPUTS][SPAROA_MAX_RANK];
    bool dense[SP_CHAIN_INPUTS]; /* of the output's shape */
} job;

/* Elements begin.. of an input as they meet the output's; v: room for them. */
static const float *fetch(const job *j, int32_t input, int64_t begin, int64_t n, float *v)
{
    const sparoa_tensor *t = j->node->in[input], *out = j->node->out[0];
    const float *data = t->data;
    if (j->dense[input]) return data + begin;
    for (int64_t i = 0; i < n; i++) {
        int64_t rest = begin + i, at = 0;
        for (int32_t d = out->rank - 1; d >= 0; d--) {
            at += rest % out->dims[d] * j->strides[input][d];
            rest /= out->dims[d];
        }
        v[i] = data[at];
    }
    return v;
}

#define EACH(expr)                                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
        const float x = v[i];                                                                      \
        v[i] = (expr);                                                                             \
    }                                                                                              \
    break

static void apply(const sp_chain_step *s, float *v, int64_t n)
{
    const float a = s->a, b = s->b;
    switch (s->fn) {
    case SP_CHAIN_Relu: EACH(x < 0 ? 0 : x);
    case SP_CHAIN_LeakyRelu: EACH(x < 0 ? a * x : x);
    case SP_CHAIN_Sigmoid: EACH(1 / (1 + expf(-x)));
    case SP_CHAIN_Tanh: EACH(tanhf(x));
    case SP_CHAIN_HardSigmoid: EACH(a * x + b > 1 ? 1 : a * x + b < 0 ? 0 : a * x + b);
    case SP_CHAIN_HardSwish: EACH(x * (x / 6 + 0.5f > 1 ? 1 : x / 6 + 0.5f < 0 ? 0 : x / 6 + 0.5f));
    case SP_CHAIN_Swish: EACH(x / (1 + expf(-a * x)));
    case SP_CHAIN_Gelu: EACH(a == 0 ? sp_gelu_f(x) : sp_gelu_tanh_f(x));
    case SP_CHAIN_Erf: EACH(erff(x));
    case SP_CHAIN_Exp: EACH(expf(x));
    case SP_CHAIN_Log: EACH(logf(x));
    case SP_CHAIN_Sqrt: EACH(sqrtf(x));
    case SP_CHAIN_Reciprocal: EACH(1 / x);
    case SP_CHAIN_Abs: EACH(fabsf(x));
    case SP_CHAIN_Neg: EACH(-x);
    case SP_CHAIN_Floor: EACH(floorf(x));
    case SP_CHAIN_Ceil: EACH(ceilf(x));
    case SP_CHAIN_Softplus: EACH((x > 0 ? x : 0) + log1pf(expf(-fabsf(x))));
    case SP_CHAIN_Elu: EACH(x < 0 ? a * expm1f(x) : x);
    case SP_CHAIN_Clip: EACH(x < a ? a : x > b ? b : x);
    default: break;
    }
}

#undef EACH
#define EACH(expr)                                                                                 \
    for (int64_t i = 0; i < n; i++) {                                                              \
        const float x = first ? w[i] : v[i], y = first ? v[i] : w[i];                              \
        v[i] = (expr);                                                                             \
    }                                                                                              \
    break

static void combine(const sp_chain_step *s, float *v, const float *w, int64_t n)
{
    const bool first = s->first;
    switch (s->fn) {
    case SP_CHAIN_Add: EACH(x + y);
    case SP_CHAIN_Sub: EACH(x - y);
    case SP_CHAIN_Mul: EACH(x * y);
    case SP_CHAIN_Div: EACH(x / y);
    case SP_CHAIN_Min: EACH(x < y || x != x ? x : y); /* NaN wins */
    case SP_CHAIN_Max: EACH(x > y || x != x ? x : y);
    case SP_CHAIN_Pow: EACH(powf(x, y));
    default: break;
    }
}
#undef EACH

static void chain_range(void *arg, int64_t begin, int64_t end)
{
    const job *j = arg;
    float v[PIECE], w[PIECE];
    for (int64_t at = begin; at < end; at += PIECE) {
        int64_t n = end - at < PIECE ? end - at : PIECE;
        memmove(v, fetch(j, 0, at, n, v), (size_t)n * sizeof *v);
        for (int32_t k = 0; k < j->chain.count; k++) {
            const sp_chain_step *s = &j->chain.steps[k];
            if (s->input < 0)
                apply(s, v, n);
            else
                combine(s, v, fetch(j, s->input, at, n, w), n);
        }
        memcpy((float *)j->node->out[0]->data + at, v, (size_t)n * sizeof *v);
    }
}

static sparoa_status chain_run(const sparoa_node *node, const sparoa_exec *exec)
{
    job j = {.node = node};
    if (!sp_chain_read(node, &j.chain))
        return sparoa_fail(exec->err, SPAROA_INVALID_GRAPH, node, "steps are missing or wrong");
    for (int32_t i = 0; i < node->n_in; i++) {
        sp_broadcast_strides(node->in[i], node->out[0], j.strides[i]);
        j.dense[i] = sp_same_shape(node->in[i], node->out[0]);
    }
    sp_parallel_for(exec, sp_count(node->out[0]), SP_GRAIN_EXP, chain_range, &j);
    return SPAROA_OK;
}

/* sparoa Chain, version 1: what pass "chain" makes. Attributes sp.steps (function, other operand or
 * -1, whether that is the left one, for each step) and sp.args (two parameters for each step). */
SP_OP(Chain) = {
    .struct_size = sizeof(sparoa_op),
    .name = "Chain",
    .domain = SP_CHAIN_DOMAIN,
    .since = 1,
    .min_in = 1,
    .max_in = SP_CHAIN_INPUTS,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ELTWISE,
    .tolerance = SPAROA_TOL_SUM,
    .flags = SPAROA_OP_BROADCASTS | SPAROA_OP_INPLACE,
    .infer = chain_infer,
    .cost = chain_cost,
    .run = chain_run,
};
