/* RNN, GRU and LSTM: attributes, types and shapes. */
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
