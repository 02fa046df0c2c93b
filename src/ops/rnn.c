/* RNN, GRU and LSTM: attributes, shapes, cost, packing of weights. The computation is in rnn_run.c.
 */
#include "ops/rnn.h"

#include <strings.h>

static const char *const fn_names[SP_RNN_FN_COUNT] = {
    "Relu",       "Tanh",        "Sigmoid", "Affine",   "LeakyRelu", "ThresholdedRelu",
    "ScaledTanh", "HardSigmoid", "Elu",     "Softsign", "Softplus",
};
/* Defaults of alpha and beta, and whether the function takes them from the lists. */
static const struct {
    float a, b;
    bool takes_a, takes_b;
} fn_defaults[SP_RNN_FN_COUNT] = {
    [SP_RNN_AFFINE] = {1, 0, true, true},
    [SP_RNN_LEAKYRELU] = {0.01f, 0, true, false},
    [SP_RNN_THRESHOLDEDRELU] = {1, 0, true, false},
    [SP_RNN_SCALEDTANH] = {1, 1, true, true},
    [SP_RNN_HARDSIGMOID] = {0.2f, 0.5f, true, true},
    [SP_RNN_ELU] = {1, 0, true, false},
};

static int32_t gates_of(const sparoa_node *node)
{
    return strcmp(node->op, "LSTM") == 0 ? 4 : strcmp(node->op, "GRU") == 0 ? 3 : 1;
}

static int32_t acts_of(int32_t gates)
{
    return gates == 4 ? 3 : gates == 3 ? 2 : 1;
}

static sparoa_status parse_fn(const sparoa_node *node, const char *name, sp_rnn_fn *fn,
                              sparoa_error *err)
{
    for (int32_t i = 0; i < SP_RNN_FN_COUNT; i++) {
        if (strcasecmp(name, fn_names[i]) != 0) continue;
        *fn = (sp_rnn_fn)i;
        return SPAROA_OK;
    }
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "activation '%.40s' is not one of ONNX",
                       name);
}

/* alpha and beta are consumed in the order of the functions that take them. */
static sparoa_status parse_activations(const sparoa_node *node, sp_rnn *p, sparoa_error *err)
{
    int32_t n = acts_of(p->gates), count = n * p->dirs;
    const sparoa_attr *names = sparoa_attr_find(node, "activations");
    if (names && (names->type != SPAROA_ATTR_STRINGS || names->count != (size_t)count))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "activations must be %d strings",
                           count);
    size_t n_alpha, n_beta, i_alpha = 0, i_beta = 0;
    const float *alpha = sparoa_attr_floats(node, "activation_alpha", &n_alpha);
    const float *beta = sparoa_attr_floats(node, "activation_beta", &n_beta);
    for (int32_t i = 0; i < count; i++) {
        sp_rnn_act *act = &p->act[i / n][i % n];
        act->fn = i % n == 0 && n > 1 ? SP_RNN_SIGMOID : SP_RNN_TANH;
        if (names) SP_TRY(parse_fn(node, names->v.strings[i], &act->fn, err));
        act->a = fn_defaults[act->fn].a;
        act->b = fn_defaults[act->fn].b;
        if (fn_defaults[act->fn].takes_a && i_alpha < n_alpha) act->a = alpha[i_alpha++];
        if (fn_defaults[act->fn].takes_b && i_beta < n_beta) act->b = beta[i_beta++];
    }
    return SPAROA_OK;
}

static sparoa_status parse_attributes(const sparoa_node *node, sp_rnn *p, sparoa_error *err)
{
    const char *direction = sparoa_attr_string(node, "direction", "forward");
    p->gates = gates_of(node);
    p->reverse = strcmp(direction, "reverse") == 0;
    p->dirs = strcmp(direction, "bidirectional") == 0 ? 2 : 1;
    if (p->dirs == 1 && !p->reverse && strcmp(direction, "forward") != 0)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "direction '%.40s' is not forward, reverse or bidirectional", direction);
    p->batch_first = sparoa_attr_int(node, "layout", 0) != 0;
    p->linear_before_reset = sparoa_attr_int(node, "linear_before_reset", 0) != 0;
    p->input_forget = sparoa_attr_int(node, "input_forget", 0) != 0;
    p->clip = sparoa_attr_float(node, "clip", 0);
    if (!(p->clip > 0)) p->clip = INFINITY;
    return parse_activations(node, p, err);
}

sparoa_status sp_rnn_parse(const sparoa_node *node, sp_rnn *p, sparoa_error *err)
{
    SP_TRY(parse_attributes(node, p, err));
    for (int32_t i = 0; i < 3; i++) {
        SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT, err));
        SP_TRY(sp_check_rank(node, i, 3, 3, err));
        SP_TRY(sp_check_same_type(node, 0, i, err));
    }
    for (int32_t i = 3; i < node->n_in; i++)
        if (i != 4 && node->in[i]) SP_TRY(sp_check_same_type(node, 0, i, err));
    if (sparoa_in(node, 4)) SP_TRY(sp_check_type(node, 4, 1u << SPAROA_INT32, err));
    const sparoa_tensor *x = node->in[0], *w = node->in[1], *r = node->in[2];
    p->steps = sp_dim(x, p->batch_first ? 1 : 0);
    p->batch = sp_dim(x, p->batch_first ? 0 : 1);
    p->input = sp_dim(x, 2);
    p->hidden = sp_dim(r, 2);
    const sparoa_attr *hidden = sparoa_attr_find(node, "hidden_size");
    if (hidden && hidden->type == SPAROA_ATTR_INT) {
        if (hidden->v.i <= 0)
            return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "hidden_size=%lld must be positive",
                               (long long)hidden->v.i);
        SP_TRY(sp_unify(node, &p->hidden, hidden->v.i, "hidden_size", err));
    }
    SP_TRY(sp_unify(node, &p->input, sp_dim(w, 2), "input_size", err));
    if (p->hidden > INT32_MAX / 8)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "hidden_size=%lld is too large",
                           (long long)p->hidden);
    int64_t h = p->hidden, d = p->dirs, gh = h < 0 ? -1 : p->gates * h;
    SP_TRY(sp_check_dims(node, 1, 3, (int64_t[]){d, gh, p->input}, err));
    SP_TRY(sp_check_dims(node, 2, 3, (int64_t[]){d, gh, h}, err));
    SP_TRY(sp_check_dims(node, 3, 2, (int64_t[]){d, gh < 0 ? -1 : 2 * gh}, err));
    SP_TRY(sp_check_dims(node, 4, 1, (int64_t[]){p->batch}, err));
    int64_t state[3] = {p->batch_first ? p->batch : d, p->batch_first ? d : p->batch, h};
    SP_TRY(sp_check_dims(node, 5, 3, state, err));
    if (p->gates != 4) return SPAROA_OK;
    SP_TRY(sp_check_dims(node, 6, 3, state, err));
    return sp_check_dims(node, 7, 2, (int64_t[]){d, h < 0 ? -1 : 3 * h}, err);
}

static sparoa_status rnn_infer(const sparoa_node *node, sparoa_error *err)
{
    sp_rnn p = {0};
    SP_TRY(sp_rnn_parse(node, &p, err));
    sparoa_dtype type = node->in[0]->dtype;
    int64_t y0[4] = {p.steps, p.dirs, p.batch, p.hidden},
            y1[4] = {p.batch, p.steps, p.dirs, p.hidden};
    int64_t s0[3] = {p.dirs, p.batch, p.hidden}, s1[3] = {p.batch, p.dirs, p.hidden};
    if (sparoa_out(node, 0)) sp_set_shape(node->out[0], type, 4, p.batch_first ? y1 : y0);
    for (int32_t i = 1; i < node->n_out; i++)
        if (node->out[i]) sp_set_shape(node->out[i], type, 3, p.batch_first ? s1 : s0);
    return SPAROA_OK;
}

static void rnn_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_rnn p = {0};
    if (sp_rnn_parse(node, &p, NULL) != SPAROA_OK) return;
    double rows = (double)p.steps * (double)p.batch * p.dirs;
    cost->flops = rows * p.gates * (double)p.hidden * (2.0 * (double)(p.input + p.hidden) + 10.0);
}

static int64_t product(int64_t n, const int64_t *v)
{
    int64_t all = 1;
    for (int64_t i = 0; i < n; i++)
        if (v[i] < 0 || __builtin_mul_overflow(all, v[i], &all)) return -1;
    return all;
}

int64_t sp_rnn_packed_count(const sp_rnn *p)
{
    if (p->hidden < 0 || p->input < 0 || p->input > INT64_MAX / 2) return -1;
    int64_t columns = (p->hidden + SP_RNN_LANES - 1) / SP_RNN_LANES * SP_RNN_LANES;
    return product(4, (int64_t[]){p->dirs, p->gates, columns, p->input + p->hidden});
}

int64_t sp_rnn_work_count(const sp_rnn *p)
{
    int64_t projected = product(4, (int64_t[]){p->steps, p->batch, p->gates, p->hidden});
    int64_t state = product(3, (int64_t[]){p->batch, p->hidden, p->gates + 4});
    int64_t all;
    return projected < 0 || state < 0 || __builtin_add_overflow(projected, state, &all) ? -1 : all;
}

bool sp_rnn_packs_once(const sparoa_node *node)
{
    bool all = true;
    if (!node->constant) return false;
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && !node->constant[i]) all = false;
    return node->constant[1] && node->constant[2] && !all;
}

static size_t rnn_workspace(const sparoa_node *node, int32_t threads)
{
    sp_rnn p = {0};
    if (sp_rnn_parse(node, &p, NULL) != SPAROA_OK) return 0;
    int64_t work = sp_rnn_work_count(&p),
            packed = sp_rnn_packs_once(node) ? 0 : sp_rnn_packed_count(&p);
    size_t bytes;
    if (work < 0 || packed < 0 || __builtin_add_overflow(work, packed, &work) ||
        __builtin_mul_overflow((size_t)work, sparoa_dtype_size(node->in[0]->dtype), &bytes))
        return SIZE_MAX / 2;
    return bytes;
}

void sp_rnn_pack(const sp_rnn *p, const sparoa_node *node, sparoa_dtype dtype, void *data)
{
    sparoa_tensor all = {.data = data, .dtype = dtype};
    int64_t at = 0, h = p->hidden, panels = (h + SP_RNN_LANES - 1) / SP_RNN_LANES;
    for (int64_t dg = 0; dg < (int64_t)p->dirs * p->gates; dg++) {
        for (int32_t m = 1; m <= 2; m++) {
            int64_t k = m == 1 ? p->input : h;
            for (int64_t panel = 0; panel < panels; panel++)
                for (int64_t i = 0; i < k; i++)
                    for (int64_t lane = 0; lane < SP_RNN_LANES; lane++) {
                        int64_t row = panel * SP_RNN_LANES + lane;
                        double v = row < h ? sp_get_f64(node->in[m], (dg * h + row) * k + i) : 0;
                        if (dtype == SPAROA_FLOAT32)
                            ((float *)all.data)[at++] = (float)v;
                        else
                            ((double *)all.data)[at++] = v;
                    }
        }
    }
}

static sparoa_status rnn_create(const sparoa_node *node, const sparoa_allocator *alloc,
                                void **state, sparoa_error *err)
{
    *state = NULL;
    sp_rnn p = {0};
    if (!sp_rnn_packs_once(node)) return SPAROA_OK;
    SP_TRY(sp_rnn_parse(node, &p, err));
    p.input = sp_dim(node->in[1], 2);
    p.hidden = sp_dim(node->in[2], 2);
    sparoa_dtype dtype = node->in[1]->dtype == SPAROA_FLOAT64 ? SPAROA_FLOAT64 : SPAROA_FLOAT32;
    int64_t count = sp_rnn_packed_count(&p);
    size_t bytes, head = 64;
    if (count < 0 || __builtin_mul_overflow((size_t)count, sparoa_dtype_size(dtype), &bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the weights are too large");
    sp_rnn_packed *packed = alloc->alloc(alloc->user, head + bytes, 64);
    if (!packed)
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node,
                           "no memory for %zu bytes of packed weights", bytes);
    *packed = (sp_rnn_packed){head + bytes, dtype, (char *)packed + head};
    sp_rnn_pack(&p, node, dtype, packed->data);
    *state = packed;
    return SPAROA_OK;
}

static void rnn_destroy(void *state, const sparoa_allocator *alloc)
{
    sp_rnn_packed *packed = state;
    if (packed) alloc->free(alloc->user, packed, packed->bytes);
}

/* clang-format off */
#define RNN_ROW(name_, max_in_, max_out_)                                                        \
    {                                                                                            \
        SP_OP_HEAD(name_, 1, 0), .min_in = 3, .max_in = (max_in_), .min_out = 0, .max_out = (max_out_), \
        .op_class = SPAROA_CLASS_RNN, .tolerance = SPAROA_TOL_SUM, .infer = rnn_infer,           \
        .cost = rnn_cost, .workspace = rnn_workspace, .run = sp_rnn_run, .create = rnn_create,   \
        .destroy = rnn_destroy                                                                   \
    }

/* ONNX RNN, versions 1, 7, 14 and 22. */
SP_OP(RNN) = RNN_ROW("RNN", 6, 2);
/* ONNX GRU, versions 1, 3, 7, 14 and 22. */
SP_OP(GRU) = RNN_ROW("GRU", 6, 2);
/* ONNX LSTM, versions 1, 7, 14 and 22. */
SP_OP(LSTM) = RNN_ROW("LSTM", 8, 3);
