/* LinearAttention: a matrix-valued state per head that every token updates and reads. */
#include "ops/check.h"

enum { IN_STATE = 3, IN_DECAY, IN_BETA };

typedef struct linear_attn {
    int64_t batch, steps, q_heads, kv_heads, d_k, d_v; /* -1: not known yet */
    bool gating, delta;
    bool decay_per_key, beta_per_head;
    float scale;
    const float *q, *k, *v, *decay, *beta;
    float *y, *state, *update; /* [B][Hkv][d_k][d_v] and [B][Hkv][d_v] */
} linear_attn;

static sparoa_status per_head(const sparoa_node *node, int32_t input, int64_t heads, int64_t *size,
                              sparoa_error *err)
{
    int64_t width = sp_dim(node->in[input], 2);
    if (width >= 0 && width % heads)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%lld heads do not divide the width %lld of input %d", (long long)heads,
                           (long long)width, input);
    return sp_unify(node, size, width < 0 ? -1 : width / heads, "head size", err);
}

static sparoa_status parse_rule(const sparoa_node *node, linear_attn *a, sparoa_error *err)
{
    const char *rule = sparoa_attr_string(node, "update_rule", "gated_delta");
    a->gating = strcmp(rule, "gated") == 0 || strcmp(rule, "gated_delta") == 0;
    a->delta = strcmp(rule, "delta") == 0 || strcmp(rule, "gated_delta") == 0;
    if (!a->gating && !a->delta && strcmp(rule, "linear") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "update_rule '%.40s' is not linear, gated, delta or gated_delta", rule);
    if (a->gating != (sparoa_in(node, IN_DECAY) != NULL) ||
        a->delta != (sparoa_in(node, IN_BETA) != NULL))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "update_rule '%s' %s decay and %s beta",
                           rule, a->gating ? "takes" : "takes no", a->delta ? "takes" : "takes no");
    return SPAROA_OK;
}

static sparoa_status parse_gates(const sparoa_node *node, linear_attn *a, sparoa_error *err)
{
    int64_t width = sp_dim(sparoa_in(node, IN_DECAY), 2);
    SP_TRY(sp_check_dims(node, IN_DECAY, 3, (int64_t[]){a->batch, a->steps, -1}, err));
    SP_TRY(sp_check_dims(node, IN_BETA, 3, (int64_t[]){a->batch, a->steps, -1}, err));
    a->decay_per_key = width != a->kv_heads;
    if (a->decay_per_key && width >= 0 && a->d_k >= 0 && width != a->kv_heads * a->d_k)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension of decay is %lld, expected %lld or %lld",
                           (long long)width, (long long)a->kv_heads,
                           (long long)(a->kv_heads * a->d_k));
    width = sp_dim(sparoa_in(node, IN_BETA), 2);
    a->beta_per_head = width != 1;
    if (a->beta_per_head && width >= 0 && width != a->kv_heads)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension of beta is %lld, expected %lld or 1",
                           (long long)width, (long long)a->kv_heads);
    return sp_check_dims(node, IN_STATE, 4, (int64_t[]){a->batch, a->kv_heads, a->d_k, a->d_v},
                         err);
}

static sparoa_status parse(const sparoa_node *node, linear_attn *a, sparoa_error *err)
{
    const uint32_t types = SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64);
    *a = (linear_attn){.batch = -1, .steps = -1, .d_k = -1, .d_v = -1};
    for (int32_t i = 0; i < node->n_in; i++)
        if (i < 3 || node->in[i]) SP_TRY(sp_check_type(node, i, types, err));
    for (int32_t i = 0; i < 3; i++) {
        SP_TRY(sp_check_rank(node, i, 3, 3, err));
        SP_TRY(sp_unify(node, &a->batch, sp_dim(node->in[i], 0), "batch size", err));
        SP_TRY(sp_unify(node, &a->steps, sp_dim(node->in[i], 1), "sequence length", err));
    }
    SP_TRY(parse_rule(node, a, err));
    a->q_heads = sparoa_attr_int(node, "q_num_heads", 0);
    a->kv_heads = sparoa_attr_int(node, "kv_num_heads", 0);
    if (a->q_heads < 1 || a->kv_heads < 1 || a->q_heads > INT32_MAX || a->q_heads % a->kv_heads)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "q_num_heads=%lld must be a positive multiple of kv_num_heads=%lld",
                           (long long)a->q_heads, (long long)a->kv_heads);
    SP_TRY(per_head(node, 0, a->q_heads, &a->d_k, err));
    SP_TRY(per_head(node, 1, a->kv_heads, &a->d_k, err));
    SP_TRY(per_head(node, 2, a->kv_heads, &a->d_v, err));
    a->scale = sparoa_attr_float(node, "scale", 0);
    return parse_gates(node, a, err);
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    linear_attn a;
    SP_TRY(parse(node, &a, err));
    int64_t width = -1;
    if (a.d_v >= 0 && __builtin_mul_overflow(a.d_v, a.q_heads, &width))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the output is too wide");
    sp_set_shape(node->out[0], node->in[0]->dtype, 3, (int64_t[]){a.batch, a.steps, width});
    sparoa_dtype state = sparoa_in(node, IN_STATE) ? node->in[IN_STATE]->dtype : node->in[0]->dtype;
    if (sparoa_out(node, 1))
        sp_set_shape(node->out[1], state, 4, (int64_t[]){a.batch, a.kv_heads, a.d_k, a.d_v});
    return SPAROA_OK;
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    linear_attn a;
    if (parse(node, &a, NULL) != SPAROA_OK) return;
    double cells = (double)a.batch * (double)a.steps * (double)a.d_k * (double)a.d_v;
    double per_kv = 2.0 + (a.gating ? 1.0 : 0.0) + (a.delta ? 2.0 : 0.0);
    cost->flops = cells * ((double)a.kv_heads * per_kv + 2.0 * (double)a.q_heads);
}

static size_t workspace(const sparoa_node *node, int32_t threads)
{
    linear_attn a;
    if (parse(node, &a, NULL) != SPAROA_OK) return 0;
    int64_t n = a.batch, rows = sparoa_out(node, 1) ? 1 : 1 + a.d_k;
    if (__builtin_mul_overflow(n, a.kv_heads, &n) || __builtin_mul_overflow(n, a.d_v, &n) ||
        __builtin_mul_overflow(n, rows, &n) || n > INT64_MAX / (int64_t)sizeof(float))
        return SIZE_MAX / 2;
    return (size_t)n * sizeof(float);
}

/* S = exp(g) S row by row of the key dimension. */
static void decay_state(const linear_attn *a, int64_t at, int64_t head, float *state)
{
    const float *g = a->decay + at * a->kv_heads * (a->decay_per_key ? a->d_k : 1);
    for (int64_t i = 0; i < a->d_k; i++) {
        float f = expf(a->decay_per_key ? g[head * a->d_k + i] : g[head]);
        for (int64_t j = 0; j < a->d_v; j++) state[i * a->d_v + j] *= f;
    }
}

/* u = beta (v - S^T k), or v. */
static void make_update(const linear_attn *a, int64_t at, int64_t head, const float *state,
                        float *u)
{
    const float *k = a->k + (at * a->kv_heads + head) * a->d_k,
                *v = a->v + (at * a->kv_heads + head) * a->d_v;
    for (int64_t j = 0; j < a->d_v; j++) u[j] = a->delta ? 0 : v[j];
    if (!a->delta) return;
    for (int64_t i = 0; i < a->d_k; i++)
        for (int64_t j = 0; j < a->d_v; j++) u[j] += state[i * a->d_v + j] * k[i];
    float beta = a->beta_per_head ? a->beta[at * a->kv_heads + head] : a->beta[at];
    for (int64_t j = 0; j < a->d_v; j++) u[j] = beta * (v[j] - u[j]);
}

static void read_state(const linear_attn *a, int64_t at, int64_t head, const float *state)
{
    int64_t group = a->q_heads / a->kv_heads;
    for (int64_t h = head * group; h < (head + 1) * group; h++) {
        const float *q = a->q + (at * a->q_heads + h) * a->d_k;
        float *y = a->y + (at * a->q_heads + h) * a->d_v;
        for (int64_t j = 0; j < a->d_v; j++) y[j] = 0;
        for (int64_t i = 0; i < a->d_k; i++)
            for (int64_t j = 0; j < a->d_v; j++) y[j] += q[i] * state[i * a->d_v + j];
        for (int64_t j = 0; j < a->d_v; j++) y[j] *= a->scale;
    }
}

static void piece(void *arg, int64_t begin, int64_t end)
{
    const linear_attn *a = arg;
    for (int64_t unit = begin; unit < end; unit++) {
        int64_t b = unit / a->kv_heads, head = unit % a->kv_heads;
        float *state = a->state + unit * a->d_k * a->d_v, *u = a->update + unit * a->d_v;
        for (int64_t t = 0; t < a->steps; t++) {
            int64_t at = b * a->steps + t;
            const float *k = a->k + (at * a->kv_heads + head) * a->d_k;
            if (a->gating) decay_state(a, at, head, state);
            make_update(a, at, head, state, u);
            for (int64_t i = 0; i < a->d_k; i++)
                for (int64_t j = 0; j < a->d_v; j++) state[i * a->d_v + j] += k[i] * u[j];
            read_state(a, at, head, state);
        }
    }
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    linear_attn a;
    SP_TRY(parse(node, &a, exec->err));
    const sparoa_tensor *past = sparoa_in(node, IN_STATE);
    int64_t units = a.batch * a.kv_heads;
    size_t state_bytes = (size_t)(units * a.d_k * a.d_v) * sizeof(float);
    if (a.scale == 0) a.scale = 1.0f / sqrtf((float)a.d_k);
    a.q = node->in[0]->data;
    a.k = node->in[1]->data;
    a.v = node->in[2]->data;
    a.decay = a.gating ? node->in[IN_DECAY]->data : NULL;
    a.beta = a.delta ? node->in[IN_BETA]->data : NULL;
    a.y = node->out[0]->data;
    a.update = exec->workspace;
    a.state = sparoa_out(node, 1) ? node->out[1]->data : a.update + units * a.d_v;
    if (state_bytes == 0) { /* nothing is stored, so nothing is read */
        memset(a.y, 0, sparoa_tensor_bytes(node->out[0]));
        return SPAROA_OK;
    }
    if (past)
        memcpy(a.state, past->data, state_bytes);
    else
        memset(a.state, 0, state_bytes);
    sp_parallel_for(exec, units, 1, piece, &a);
    return SPAROA_OK;
}

/* ONNX LinearAttention, version 27. */
SP_OP(LinearAttention) = {
    SP_OP_HEAD("LinearAttention", 27, 0),
    .min_in = 3,
    .max_in = 6,
    .min_out = 1,
    .max_out = 2,
    .op_class = SPAROA_CLASS_ATTENTION,
    .tolerance = SPAROA_TOL_SUM,
    .infer = infer,
    .cost = cost_of,
    .workspace = workspace,
    .run = run,
};
