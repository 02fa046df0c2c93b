/* Attention. */
#include "backends/cuda/cuda.h"

enum { IN_MASK = 3, IN_PAST_K, IN_PAST_V, IN_VALID };

static const char *attention_refuses(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *mask = sparoa_in(node, IN_MASK);
    bool half = sp_cuda_is_half(node);
    if (node->n_in < 3) return "fewer than three inputs";
    for (int32_t i = 0; i < 3; i++) {
        const sparoa_tensor *t = node->in[i];
        if (!t || t->dtype != (half ? SPAROA_FLOAT16 : SPAROA_FLOAT32) ||
            t->rank != node->in[0]->rank)
            return "only float32 and float16, all of one rank";
    }
    int32_t rank = node->in[0]->rank;
    if (rank != 3 && rank != 4) return "a rank that is not known";
    if (sparoa_in(node, IN_PAST_K) || sparoa_in(node, IN_PAST_V) || sparoa_in(node, IN_VALID))
        return "past keys and values";
    if (node->n_out > 1 && (sparoa_out(node, 1) || sparoa_out(node, 2) || sparoa_out(node, 3)))
        return "outputs besides the first";
    if (sparoa_attr_float(node, "softcap", 0) != 0) return "soft-capped scores";
    if (mask && mask->dtype != SPAROA_BOOL && mask->dtype != node->in[0]->dtype)
        return "a mask of another type";
    if (mask && (mask->rank < 2 || mask->rank > 4)) return "a mask of unknown or other rank";
    if (mask && sparoa_attr_int(node, "is_causal", 0)) return "a mask besides the causal one";
    if (sparoa_attr_int(node, "is_causal", 0) && node->version > 23) return "causal from opset 24";
    (void)dev, (void)op;
    return NULL;
}

/* Strides of batch, head and row: heads lie before rows at rank 4, beside each other at rank 3. */
static void strides_of(const sparoa_tensor *t, int64_t heads, int64_t head, int64_t out[3])
{
    bool packed = t->rank == 3;
    int64_t rows = t->dims[packed ? 1 : 2];
    out[0] = rows * heads * head;
    out[1] = packed ? head : rows * head;
    out[2] = packed ? heads * head : head;
}

static sparoa_status plan_mask(sp_cu_attention *a, const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *m = sparoa_in(node, IN_MASK);
    const int64_t full[4] = {a->batch, a->heads, a->q_len, a->kv_len};
    int64_t stride = 1;
    a->mask_images = 1;
    if (!m) return SPAROA_OK;
    a->mask_kind = m->dtype == SPAROA_BOOL ? 1 : 2;
    for (int32_t i = 3; i >= 0; i--) {
        int32_t at = i - (4 - m->rank);
        int64_t d = at < 0 ? 1 : m->dims[at];
        if (i == 0 && d != 1) a->mask_images = d;
        bool images = i == 0 && d > 0 && full[0] % d == 0; /* sp.windows: they repeat */
        if (d != 1 && d != full[i] && !images)
            return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node,
                               "a mask of %lld in place of %lld has no CUDA kernel", (long long)d,
                               (long long)full[i]);
        a->mask[i] = d == 1 ? 0 : stride;
        stride *= d;
    }
    return SPAROA_OK;
}

static sparoa_status attention_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                       size_t *workspace, sparoa_error *err)
{
    sp_cu_attention *a = prepared;
    const sparoa_tensor *q = node->in[0], *key = node->in[1], *v = node->in[2];
    bool packed = q->rank == 3;
    (void)workspace;
    a->half = sp_cuda_is_half(node);
    a->tf32 = sp_cuda_math_of(k->dev, node) == SP_CUDA_MATH_TF32;
    a->batch = q->dims[0];
    a->heads = packed ? sparoa_attr_int(node, "q_num_heads", 1) : q->dims[1];
    a->kv_heads = packed ? sparoa_attr_int(node, "kv_num_heads", 1) : key->dims[1];
    if (a->heads < 1 || a->kv_heads < 1 || a->heads % a->kv_heads)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "heads that do not fit");
    a->q_len = q->dims[packed ? 1 : 2];
    a->kv_len = key->dims[packed ? 1 : 2];
    int64_t parts = packed && sparoa_attr_int(node, "sp.qkv", 0) == 1 ? 3 : 1;
    int64_t head = packed ? q->dims[2] / (a->heads * parts) : q->dims[3];
    int64_t v_head = packed ? v->dims[2] / (a->kv_heads * parts) : v->dims[3];
    if (head < 1 || head > 256 || v_head < 1 || v_head > 256 || a->batch * a->heads > 65535)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node,
                           "heads of %lld and %lld elements, %lld of them, have no CUDA kernel",
                           (long long)head, (long long)v_head, (long long)(a->batch * a->heads));
    a->head = (int32_t)head;
    a->v_head = (int32_t)v_head;
    a->scale = sparoa_attr_float(node, "scale", 1 / sqrtf((float)head));
    a->causal = sparoa_attr_int(node, "is_causal", 0) != 0;
    strides_of(q, a->heads, head, a->q);
    strides_of(key, a->kv_heads, head, a->k);
    strides_of(v, a->kv_heads, v_head, a->v);
    strides_of(node->out[0], a->heads, v_head, a->y);
    if (parts == 3) {
        for (int i = 0; i < 3; i += 2) {
            a->q[i] *= 3;
            a->k[i] *= 3;
            a->v[i] *= 3;
        }
        a->part = a->heads * head;
    }
    return plan_mask(a, node, err);
}

static sparoa_status attention_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                   const sparoa_node *node, void *workspace, sparoa_error *err)
{
    const sparoa_tensor *mask = sparoa_in(node, IN_MASK);
    const struct cudaDeviceProp *prop = &k->dev->prop;
    (void)workspace, (void)err;
    const sp_cu_attention *a = prepared;
    size_t part = (size_t)a->part * sparoa_dtype_size(node->in[0]->dtype);
    sp_cu_attention_run(a, prop->major * 10 + prop->minor, node->in[0]->data,
                        (const char *)node->in[1]->data + part,
                        (const char *)node->in[2]->data + 2 * part, mask ? mask->data : NULL,
                        node->out[0]->data, stream);
    return SPAROA_OK;
}

static bool attention_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    const sparoa_tensor *mask = sparoa_in(node, IN_MASK);
    (void)dev, (void)op;
    return !mask || mask->dtype == SPAROA_BOOL || mask->dtype == SPAROA_FLOAT16;
}

/* ONNX Attention, versions 23 and 24, without past keys. */
SP_CUDA_KERNEL(Attention) = {.ops = SP_CUDA_NAMES("Attention"),
                             .variant = "attention",
                             .half = attention_half,
                             .prepared_bytes = sizeof(sp_cu_attention),
                             .refuses = attention_refuses,
                             .prepare = attention_prepare,
                             .run = attention_run};
