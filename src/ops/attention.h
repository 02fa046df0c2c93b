/* attention.h - sizes, strides and options of one attention node, shared by Attention and
 * FlexAttention. */
#ifndef SP_OPS_ATTENTION_H
#define SP_OPS_ATTENTION_H

#include "ops/check.h"

/* Where row s of head h of batch b begins: base + b * batch + h * head + s * row elements. */
typedef struct sp_attn_view {
    const void *data;
    int64_t batch, head, row;
} sp_attn_view;

typedef struct sp_attn {
    bool packed; /* rank 3: heads lie side by side in the last dimension */
    int64_t batch, q_heads, kv_heads, q_len, kv_len, past, total, head,
        v_head;  /* -1: not known yet */
    float scale; /* NAN: 1 / sqrt(head) */
    float softcap;
    bool causal;
    int64_t left, right;               /* window; -1: unbounded */
    int64_t mode;                      /* of qk_matmul_output */
    bool pads_mask;                    /* a mask shorter than the keys excludes the rest */
    sparoa_tensor *qk;                 /* output 3, or NULL */
    const sparoa_tensor *probs;        /* given weights of the values: no scores; or NULL */
    bool scores_only;                  /* ends with qk: no softmax, no values */
    const sparoa_tensor *mask, *valid; /* inputs, or NULL */
    sp_attn_view q, k, v, past_k, past_v, y;
} sp_attn;

/* Sizes and options of an Attention node; sp_attn_set_views adds where its tensors lie, once their
 * data is set. */
sparoa_status sp_attn_parse(const sparoa_node *node, sp_attn *a, sparoa_error *err);
void sp_attn_set_views(const sparoa_node *node, sp_attn *a);

/* Attention over `rows` = batch * q_heads * q_len rows; workspace as sp_attn_bytes says. */
void sp_attn_run(const sp_attn *a, sparoa_dtype type, const sparoa_exec *exec);
size_t sp_attn_bytes(const sp_attn *a, sparoa_dtype type, int32_t threads);
double sp_attn_flops(const sp_attn *a);
sp_attn_view sp_attn_view_of(const sparoa_tensor *t, bool packed, int64_t heads, int64_t length,
                             int64_t size);

#endif
