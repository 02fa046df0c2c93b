/* float16 and bfloat16 for every operator that computes: inputs are widened to float32, the node
 * runs on those, and float32 outputs are narrowed back. The copies live in the node's workspace. */
#include "ops/half.h"
#include "ops/op.h"

#define ALIGN 64
#define MAX_WIDENED 64 /* inputs plus outputs of one node */

static size_t align_up(size_t n)
{
    return (n + ALIGN - 1) / ALIGN * ALIGN;
}

static bool needs_widening(const sparoa_op *op, const sparoa_node *node)
{
    if (op->flags & (SPAROA_OP_HALF | SPAROA_OP_VIEW | SPAROA_OP_SHAPE_ONLY) ||
        op->op_class == SPAROA_CLASS_MOVE)
        return false;
    if (node->n_in + node->n_out > MAX_WIDENED) return false;
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && sp_is_half(node->in[i]->dtype)) return true;
    for (int32_t i = 0; i < node->n_out; i++)
        if (node->out[i] && sp_is_half(node->out[i]->dtype)) return true;
    return false;
}

/* A node whose half tensors are float32 ones in `base` (NULL: sizes only). Returns the bytes they
 * take. */
typedef struct widened {
    sparoa_tensor tensors[MAX_WIDENED];
    sparoa_tensor *in[MAX_WIDENED], *out[MAX_WIDENED];
    sparoa_node node;
} widened;

static size_t widen_tensor(sparoa_tensor *source, sparoa_tensor *copy, sparoa_tensor **slot,
                           char *base, size_t used)
{
    *slot = source;
    if (!source || !sp_is_half(source->dtype)) return used;
    *copy = *source;
    copy->dtype = SPAROA_FLOAT32;
    copy->data = base ? base + used : NULL;
    *slot = copy;
    return used + align_up(sparoa_tensor_bytes(copy));
}

static size_t widen(const sparoa_node *node, char *base, widened *w)
{
    size_t used = 0;
    for (int32_t i = 0; i < node->n_in; i++)
        used = widen_tensor(node->in[i], &w->tensors[i], &w->in[i], base, used);
    for (int32_t i = 0; i < node->n_out; i++)
        used = widen_tensor(node->out[i], &w->tensors[node->n_in + i], &w->out[i], base, used);
    w->node = *node;
    w->node.in = w->in;
    w->node.out = w->out;
    return used;
}

typedef struct convert_job {
    const void *from;
    void *to;
    bool narrow, bfloat;
} convert_job;

static void convert_piece(void *arg, int64_t begin, int64_t end)
{
    const convert_job *job = arg;
    const uint16_t *half = job->from;
    const float *wide = job->from;
    if (job->narrow && job->bfloat)
        for (int64_t i = begin; i < end; i++) ((uint16_t *)job->to)[i] = sp_bf16_of_f32(wide[i]);
    else if (job->narrow)
        for (int64_t i = begin; i < end; i++) ((uint16_t *)job->to)[i] = sp_f16_of_f32(wide[i]);
    else if (job->bfloat)
        for (int64_t i = begin; i < end; i++) ((float *)job->to)[i] = sp_f32_of_bf16(half[i]);
    else
        for (int64_t i = begin; i < end; i++) ((float *)job->to)[i] = sp_f32_of_f16(half[i]);
}

/* One of the two is float32, the other a half type. */
static void convert(const sparoa_exec *exec, sparoa_tensor *dst, const sparoa_tensor *src)
{
    convert_job job = {src->data, dst->data, sp_is_half(dst->dtype),
                       src->dtype == SPAROA_BFLOAT16 || dst->dtype == SPAROA_BFLOAT16};
    sp_parallel_for(exec, sp_count(src), 16384, convert_piece, &job);
}

size_t sp_op_workspace(const sparoa_op *op, const sparoa_node *node, int32_t threads)
{
    if (!needs_widening(op, node)) return op->workspace ? op->workspace(node, threads) : 0;
    widened w;
    size_t bytes = widen(node, NULL, &w);
    return bytes + (op->workspace ? op->workspace(&w.node, threads) : 0);
}

sparoa_status sp_op_run(const sparoa_op *op, const sparoa_node *node, const sparoa_exec *exec)
{
    if (!needs_widening(op, node)) return op->run(node, exec);
    widened w;
    sparoa_exec inner = *exec;
    inner.workspace = (char *)exec->workspace + widen(node, exec->workspace, &w);
    for (int32_t i = 0; i < node->n_in; i++)
        if (w.in[i] != node->in[i]) convert(exec, w.in[i], node->in[i]);
    SP_TRY(op->run(&w.node, &inner));
    for (int32_t i = 0; i < node->n_out; i++) {
        if (w.out[i] == node->out[i]) continue;
        memcpy(node->out[i]->dims, w.out[i]->dims, sizeof w.out[i]->dims); /* SPAROA_OP_TRIMS */
        convert(exec, node->out[i], w.out[i]);
    }
    return SPAROA_OK;
}
