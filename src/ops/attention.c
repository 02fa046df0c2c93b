/* Attention and FlexAttention: attributes, shapes, views. The computation is in attention_run.c. */
#include "ops/attention.h"

enum { IN_MASK = 3, IN_PAST_K, IN_PAST_V, IN_VALID };

static sparoa_status product(const sparoa_node *node, int64_t a, int64_t b, int64_t *out,
                             sparoa_error *err)
{
    *out = -1;
    if (a < 0 || b < 0) return SPAROA_OK;
    if (__builtin_mul_overflow(a, b, out))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node,
                           "a dimension of %lld times %lld is too large", (long long)a,
                           (long long)b);
    return SPAROA_OK;
}

/* Splits a packed last dimension among heads. */
static sparoa_status head_size(const sparoa_node *node, int64_t width, int64_t heads, int64_t *size,
                               sparoa_error *err)
{
    *size = -1;
    if (width < 0) return SPAROA_OK;
    if (width % heads)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%lld heads do not divide the width %lld", (long long)heads,
                           (long long)width);
    *size = width / heads;
    return SPAROA_OK;
}

/* sp.qkv (pattern_qkv.c): inputs 0 to 2 are one tensor, whose last dimension holds the queries of
 * all heads, then the keys, then the values. */
static int64_t parts_of(const sparoa_node *node)
{
    return sparoa_attr_int(node, "sp.qkv", 0) == 1 ? 3 : 1;
}

static sparoa_status sizes_packed(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    const sparoa_tensor *q = node->in[0], *k = node->in[1], *v = node->in[2];
    a->q_heads = sparoa_attr_int(node, "q_num_heads", 0);
    a->kv_heads = sparoa_attr_int(node, "kv_num_heads", 0);
    if (a->q_heads < 1 || a->kv_heads < 1)
        return sparoa_fail(
            err, SPAROA_INVALID_GRAPH, node,
            "q_num_heads=%lld and kv_num_heads=%lld must be positive for inputs of rank 3",
            (long long)a->q_heads, (long long)a->kv_heads);
    int64_t k_head, parts = parts_of(node);
    SP_TRY(head_size(node, sp_dim(q, 2), a->q_heads * parts, &a->head, err));
    SP_TRY(head_size(node, sp_dim(k, 2), a->kv_heads * parts, &k_head, err));
    SP_TRY(head_size(node, sp_dim(v, 2), a->kv_heads * parts, &a->v_head, err));
    SP_TRY(sp_unify(node, &a->head, k_head, "head size", err));
    a->q_len = sp_dim(q, 1);
    a->kv_len = sp_dim(k, 1);
    return sp_unify(node, &a->kv_len, sp_dim(v, 1), "key length", err);
}

static sparoa_status sizes_plain(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    const sparoa_tensor *q = node->in[0], *k = node->in[1], *v = node->in[2];
    a->q_heads = sp_dim(q, 1);
    a->kv_heads = sp_dim(k, 1);
    a->q_len = sp_dim(q, 2);
    a->kv_len = sp_dim(k, 2);
    a->head = sp_dim(q, 3);
    a->v_head = sp_dim(v, 3);
    SP_TRY(sp_unify(node, &a->kv_heads, sp_dim(v, 1), "number of key heads", err));
    SP_TRY(sp_unify(node, &a->kv_len, sp_dim(v, 2), "key length", err));
    return sp_unify(node, &a->head, sp_dim(k, 3), "head size", err);
}

static sparoa_status check_type(const sparoa_node *node, int32_t input, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, input, SP_TYPES_FLOAT, err));
    if ((node->in[input]->dtype == SPAROA_FLOAT64) != (node->in[0]->dtype == SPAROA_FLOAT64))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "float64 cannot be mixed with narrower types");
    return SPAROA_OK;
}

static sparoa_status check_heads(const sparoa_node *node, const sp_attn *a, sparoa_error *err)
{
    if (a->q_heads >= 0 && a->kv_heads >= 0 && (a->kv_heads == 0 || a->q_heads % a->kv_heads))
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%lld query heads are no multiple of %lld key heads",
                           (long long)a->q_heads, (long long)a->kv_heads);
    return SPAROA_OK;
}

/* Q, K and V: types, ranks and sizes. */
static sparoa_status parse_qkv(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    int32_t rank = -1;
    for (int32_t i = 0; i < 3; i++) {
        SP_TRY(check_type(node, i, err));
        SP_TRY(sp_check_rank(node, i, 3, 4, err));
        int32_t r = node->in[i]->rank;
        if (r >= 0 && rank >= 0 && r != rank)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "input %d has rank %d, input 0 has rank %d", i, r, rank);
        if (r >= 0) rank = r;
    }
    *a = (sp_attn){.batch = -1,
                   .q_heads = -1,
                   .kv_heads = -1,
                   .q_len = -1,
                   .kv_len = -1,
                   .past = -1,
                   .total = -1,
                   .head = -1,
                   .v_head = -1,
                   .left = -1,
                   .right = -1,
                   .mode = 0,
                   .scale = NAN};
    if (sparoa_attr_find(node, "scale")) a->scale = sparoa_attr_float(node, "scale", 1);
    if (rank < 0) return SPAROA_OK;
    a->packed = rank == 3;
    for (int32_t i = 0; i < 3; i++)
        SP_TRY(sp_unify(node, &a->batch, sp_dim(node->in[i], 0), "batch size", err));
    SP_TRY(a->packed ? sizes_packed(node, a, err) : sizes_plain(node, a, err));
    return check_heads(node, a, err);
}

/* past_key and past_value come together, in the order of rank 4. */
static sparoa_status parse_past(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    const sparoa_tensor *pk = sparoa_in(node, IN_PAST_K), *pv = sparoa_in(node, IN_PAST_V);
    if (!pk != !pv)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "past_key and past_value must be given together");
    a->past = 0;
    if (pk) {
        for (int32_t i = IN_PAST_K; i <= IN_PAST_V; i++) {
            SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT, err));
            SP_TRY(sp_check_same_type(node, i == IN_PAST_K ? 1 : 2, i, err));
            SP_TRY(sp_check_rank(node, i, 4, 4, err));
        }
        a->past = sp_dim(pk, 2);
        SP_TRY(sp_unify(node, &a->past, sp_dim(pv, 2), "past length", err));
        SP_TRY(sp_check_dims(node, IN_PAST_K, 4, (int64_t[]){a->batch, a->kv_heads, -1, a->head},
                             err));
        SP_TRY(sp_check_dims(node, IN_PAST_V, 4, (int64_t[]){a->batch, a->kv_heads, -1, a->v_head},
                             err));
    }
    if (a->past >= 0 && a->kv_len >= 0 && __builtin_add_overflow(a->past, a->kv_len, &a->total))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "%lld past and %lld new keys are too many",
                           (long long)a->past, (long long)a->kv_len);
    return SPAROA_OK;
}

static sparoa_status parse_mask(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    const sparoa_tensor *m = sparoa_in(node, IN_MASK);
    a->mask = m;
    a->pads_mask = node->version >= 24;
    if (!m || m->rank < 0) return SPAROA_OK;
    SP_TRY(sp_check_type(node, IN_MASK, SP_TYPES_ALL, err));
    SP_TRY(sp_check_rank(node, IN_MASK, 0, 4, err));
    const int64_t full[4] = {a->batch, a->q_heads, a->q_len, a->total};
    for (int32_t d = 0; d < m->rank; d++) {
        int64_t want = full[d + 4 - m->rank], have = m->dims[d];
        bool last = d == m->rank - 1, shorter = last && have < want;
        /* sp.windows: so many images with masks of their own follow each other again and again */
        bool windows = m->rank == 4 && d == 0 && have == sparoa_attr_int(node, "sp.windows", 0);
        if (windows && (want < 0 || (have > 0 && want % have == 0))) continue;
        if (have < 0 || want < 0 || have == want || (have == 1 && !last) || shorter) continue;
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "dimension %d of the mask is %lld, expected %lld", d, (long long)have,
                           (long long)want);
    }
    return SPAROA_OK;
}

sparoa_status sp_attn_parse(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    SP_TRY(parse_qkv(node, a, err));
    SP_TRY(sp_check_same_type(node, 0, 1, err));
    SP_TRY(parse_past(node, a, err));
    SP_TRY(parse_mask(node, a, err));
    a->softcap = sparoa_attr_float(node, "softcap", 0);
    a->causal = sparoa_attr_int(node, "is_causal", 0) != 0;
    a->left = sparoa_attr_int(node, "left_window_size", -1);
    a->right = sparoa_attr_int(node, "right_window_size", -1);
    a->mode = sparoa_attr_int(node, "qk_matmul_output_mode", 0);
    a->qk = sparoa_out(node, 3);
    a->valid = sparoa_in(node, IN_VALID);
    if (a->left < -1 || a->right < -1 || a->mode < 0 || a->mode > 3)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "left_window_size=%lld, right_window_size=%lld or "
                           "qk_matmul_output_mode=%lld is out of range",
                           (long long)a->left, (long long)a->right, (long long)a->mode);
    if (!a->valid) return SPAROA_OK;
    SP_TRY(sp_check_type(node, IN_VALID, 1u << SPAROA_INT64, err));
    if (sparoa_in(node, IN_PAST_K))
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "nonpad_kv_seqlen does not go with past_key");
    return sp_check_dims(node, IN_VALID, 1, (int64_t[]){a->batch}, err);
}

static sparoa_status flex_parse(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    for (int32_t i = 0; i < 3; i++) SP_TRY(sp_check_rank(node, i, 4, 4, err));
    SP_TRY(parse_qkv(node, a, err));
    a->past = 0;
    a->total = a->kv_len;
    return SPAROA_OK;
}

/* The two products of a FlexAttention whose subgraphs were put between them (onnx/flex.c). */
static sparoa_status part_parse(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    bool values = node->op[sizeof "Flex" - 1] == 'V';
    const sparoa_tensor *first = node->in[0], *second = node->in[1];
    *a = (sp_attn){.head = -1, .v_head = -1, .left = -1, .right = -1, .scale = NAN};
    for (int32_t i = 0; i < 2; i++) {
        SP_TRY(check_type(node, i, err));
        SP_TRY(sp_check_rank(node, i, 4, 4, err));
    }
    if (sparoa_attr_find(node, "scale")) a->scale = sparoa_attr_float(node, "scale", 1);
    a->batch = sp_dim(first, 0);
    a->q_heads = sp_dim(first, 1);
    a->q_len = sp_dim(first, 2);
    a->kv_heads = sp_dim(second, 1);
    a->total = a->kv_len = sp_dim(second, 2);
    SP_TRY(sp_unify(node, &a->batch, sp_dim(second, 0), "batch size", err));
    if (values) {
        SP_TRY(sp_unify(node, &a->total, sp_dim(first, 3), "key length", err));
        a->v_head = sp_dim(second, 3);
    } else {
        a->head = sp_dim(first, 3);
        SP_TRY(sp_unify(node, &a->head, sp_dim(second, 3), "head size", err));
    }
    SP_TRY(check_heads(node, a, err));
    a->scores_only = !values;
    a->probs = values ? first : NULL;
    a->qk = values ? NULL : node->out[0];
    return SPAROA_OK;
}

/* By the node's operator. */
static sparoa_status parse(const sparoa_node *node, sp_attn *a, sparoa_error *err)
{
    if (strcmp(node->op, "Attention") == 0) return sp_attn_parse(node, a, err);
    if (strcmp(node->op, "FlexAttention") == 0) return flex_parse(node, a, err);
    return part_parse(node, a, err);
}

static void attention_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_attn a;
    if (parse(node, &a, NULL) == SPAROA_OK) cost->flops = sp_attn_flops(&a);
}

static size_t attention_workspace(const sparoa_node *node, int32_t threads)
{
    sp_attn a;
    if (parse(node, &a, NULL) != SPAROA_OK) return 0;
    return sp_attn_bytes(&a, node->in[0]->dtype, threads);
}

static sparoa_status attention_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    sp_attn a;
    SP_TRY(sp_attn_parse(node, &a, err));
    sparoa_dtype tk = node->in[0]->dtype, tv = node->in[2]->dtype;
    if (node->in[0]->rank < 0 && node->in[1]->rank < 0 && node->in[2]->rank < 0) {
        node->out[0]->dtype = tk;
    } else if (a.packed) {
        int64_t width;
        SP_TRY(product(node, a.q_heads, a.v_head, &width, err));
        sp_set_shape(node->out[0], tk, 3, (int64_t[]){a.batch, a.q_len, width});
    } else {
        sp_set_shape(node->out[0], tk, 4, (int64_t[]){a.batch, a.q_heads, a.q_len, a.v_head});
    }
    if (sparoa_out(node, 1))
        sp_set_shape(node->out[1], tk, 4, (int64_t[]){a.batch, a.kv_heads, a.total, a.head});
    if (sparoa_out(node, 2))
        sp_set_shape(node->out[2], tv, 4, (int64_t[]){a.batch, a.kv_heads, a.total, a.v_head});
    if (sparoa_out(node, 3))
        sp_set_shape(node->out[3], tk, 4, (int64_t[]){a.batch, a.q_heads, a.q_len, a.total});
    return SPAROA_OK;
}

sp_attn_view sp_attn_view_of(const sparoa_tensor *t, bool packed, int64_t heads, int64_t length,
                             int64_t size)
{
    if (!t) return (sp_attn_view){0};
    if (packed) return (sp_attn_view){t->data, length * heads * size, size, heads * size};
    return (sp_attn_view){t->data, heads * length * size, length * size, size};
}

void sp_attn_set_views(const sparoa_node *node, sp_attn *a)
{
    a->q = sp_attn_view_of(node->in[0], a->packed, a->q_heads, a->q_len, a->head);
    a->k = sp_attn_view_of(node->in[1], a->packed, a->kv_heads, a->kv_len, a->head);
    a->v = sp_attn_view_of(node->in[2], a->packed, a->kv_heads, a->kv_len, a->v_head);
    if (a->packed && parts_of(node) == 3) {
        sp_attn_view *const views[] = {&a->q, &a->k, &a->v};
        size_t width = (size_t)(a->q_heads * a->head) * sparoa_dtype_size(node->in[0]->dtype);
        for (size_t i = 0; i < 3; i++) {
            views[i]->data = (const char *)views[i]->data + i * width;
            views[i]->batch *= 3;
            views[i]->row *= 3;
        }
    }
    a->y = sp_attn_view_of(node->out[0], a->packed, a->q_heads, a->q_len, a->v_head);
}

/* present = past rows, then the new ones, for each head. */
static void write_present(const sp_attn *a, const sp_attn_view *past, const sp_attn_view *now,
                          int64_t size, sparoa_tensor *out)
{
    if (!out) return;
    size_t one = sparoa_dtype_size(out->dtype), row = (size_t)size * one;
    char *to = out->data;
    for (int64_t b = 0; b < a->batch; b++) {
        for (int64_t h = 0; h < a->kv_heads; h++) {
            if (a->past > 0) {
                int64_t at = b * past->batch + h * past->head;
                memcpy(to, (const char *)past->data + (size_t)at * one, (size_t)a->past * row);
            }
            to += (size_t)a->past * row;
            for (int64_t s = 0; s < a->kv_len; s++, to += row) {
                int64_t at = b * now->batch + h * now->head + s * now->row;
                memcpy(to, (const char *)now->data + (size_t)at * one, row);
            }
        }
    }
}

static sparoa_status attention_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_attn a;
    SP_TRY(sp_attn_parse(node, &a, exec->err));
    for (int64_t b = 0; a.valid && b < a.batch; b++) {
        int64_t n = ((const int64_t *)a.valid->data)[b];
        if (n < 0 || n > a.total)
            return sparoa_fail(exec->err, SPAROA_INDEX_OUT_OF_RANGE, node,
                               "nonpad_kv_seqlen[%lld]=%lld is out of range for %lld keys",
                               (long long)b, (long long)n, (long long)a.total);
    }
    sp_attn_set_views(node, &a);
    a.past_k = sp_attn_view_of(sparoa_in(node, IN_PAST_K), false, a.kv_heads, a.past, a.head);
    a.past_v = sp_attn_view_of(sparoa_in(node, IN_PAST_V), false, a.kv_heads, a.past, a.v_head);
    sp_attn_run(&a, node->in[0]->dtype, exec);
    write_present(&a, &a.past_k, &a.k, a.head, sparoa_out(node, 1));
    write_present(&a, &a.past_v, &a.v, a.v_head, sparoa_out(node, 2));
    return SPAROA_OK;
}

static sparoa_status flex_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 3, 1, err));
    sp_attn a;
    SP_TRY(flex_parse(node, &a, err));
    sp_set_shape(node->out[0], node->in[0]->dtype, 4,
                 (int64_t[]){a.batch, a.q_heads, a.q_len, a.v_head});
    return SPAROA_OK;
}

static sparoa_status flex_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_attn a;
    SP_TRY(flex_parse(node, &a, exec->err));
    sp_attn_set_views(node, &a);
    sp_attn_run(&a, node->in[0]->dtype, exec);
    return SPAROA_OK;
}

/* ONNX Attention, versions 23, 24 and 25. */
SP_OP(Attention) = {
    SP_OP_HEAD("Attention", 23, 0),
    .min_in = 3,
    .max_in = 7,
    .min_out = 1,
    .max_out = 4,
    .op_class = SPAROA_CLASS_ATTENTION,
    .tolerance = SPAROA_TOL_SUM,
    .infer = attention_infer,
    .cost = attention_cost,
    .workspace = attention_workspace,
    .run = attention_run,
};

/* Scores are float32 for narrower inputs, values have the type of V. */
static sparoa_status part_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    sp_attn a;
    SP_TRY(part_parse(node, &a, err));
    sparoa_dtype type = node->in[1]->dtype;
    if (a.scores_only && type != SPAROA_UNDEFINED && type != SPAROA_FLOAT64) type = SPAROA_FLOAT32;
    sp_set_shape(node->out[0], type, 4,
                 (int64_t[]){a.batch, a.q_heads, a.q_len, a.scores_only ? a.total : a.v_head});
    return SPAROA_OK;
}

static sparoa_status part_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_attn a;
    SP_TRY(part_parse(node, &a, exec->err));
    if (a.scores_only) {
        a.q = sp_attn_view_of(node->in[0], false, a.q_heads, a.q_len, a.head);
        a.k = sp_attn_view_of(node->in[1], false, a.kv_heads, a.kv_len, a.head);
    } else {
        a.v = sp_attn_view_of(node->in[1], false, a.kv_heads, a.kv_len, a.v_head);
        a.y = sp_attn_view_of(node->out[0], false, a.q_heads, a.q_len, a.v_head);
    }
    sp_attn_run(&a, node->in[0]->dtype, exec);
    return SPAROA_OK;
}

/* ONNX FlexAttention of ai.onnx.preview, version 1, without modifying subgraphs: with them the
 * loader makes it FlexScores, the subgraphs, Softmax and FlexValues. */
SP_OP(FlexAttention) = {
    .struct_size = sizeof(sparoa_op),
    .name = "FlexAttention",
    .domain = "ai.onnx.preview",
    .since = 1,
    .min_in = 3,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_ATTENTION,
    .tolerance = SPAROA_TOL_SUM,
    .infer = flex_infer,
    .cost = attention_cost,
    .workspace = attention_workspace,
    .run = flex_run,
};

#define FLEX_PART(op_name)                                                                         \
    {                                                                                              \
        .struct_size = sizeof(sparoa_op), .name = (op_name), .domain = "sparoa", .since = 1,       \
        .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_ATTENTION,  \
        .tolerance = SPAROA_TOL_SUM, .infer = part_infer, .cost = attention_cost,                  \
        .workspace = attention_workspace, .run = part_run                                          \
    }
SP_OP(FlexScores) = FLEX_PART("FlexScores");
SP_OP(FlexValues) = FLEX_PART("FlexValues");
