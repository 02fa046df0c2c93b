/* Finding the row for a node, and what rows share. */
#include "backends/cuda/cuda.h"

static bool same_domain(const sp_cuda_row *row, const char *domain)
{
    const char *own = row->domain ? row->domain : "";
    if (strcmp(domain, "ai.onnx") == 0) domain = "";
    return strcmp(own, domain) == 0;
}

static const char *refuses(sparoa_dev *dev, const sp_cuda_row *row, const sparoa_node *node, int op,
                           bool *widens)
{
    *widens = sp_cuda_has_half(node) && (!row->half || !row->half(dev, node, op));
    if (*widens) return sp_cuda_widened_refuses(dev, row, node, op);
    return row->refuses ? row->refuses(dev, node, op) : NULL;
}

const sp_cuda_row *sp_cuda_row_find(sparoa_dev *dev, const sparoa_node *node, int *op, bool *widens,
                                    const char **why)
{
    const sparoa_host *host = dev->engine;
    *why = "there is no kernel for it";
    /* an operator of the application runs its own code, on the host */
    for (size_t i = 0; i < host->operator_count; i++)
        if (strcmp(host->operators[i]->name, node->op) == 0 &&
            strcmp(host->operators[i]->domain, node->domain) == 0) {
            *why = "the application brings its own";
            return NULL;
        }
    for (const sp_cuda_row *const *row = sp_cuda_kernel_table; *row; row++) {
        if (!same_domain(*row, node->domain)) continue;
        for (int i = 0; (*row)->ops[i]; i++) {
            if (strcmp((*row)->ops[i], node->op) != 0) continue;
            const char *reason = refuses(dev, *row, node, i, widens);
            *op = i;
            if (!reason) return *row;
            *why = reason;
        }
    }
    return NULL;
}

int sp_cuda_type(sparoa_dtype dtype)
{
    switch (dtype) {
    case SPAROA_FLOAT32: return SP_CU_F32;
    case SPAROA_INT32: return SP_CU_I32;
    case SPAROA_INT64: return SP_CU_I64;
    case SPAROA_UINT8: return SP_CU_U8;
    case SPAROA_INT8: return SP_CU_I8;
    case SPAROA_FLOAT16: return SP_CU_F16;
    case SPAROA_FLOAT64: return SP_CU_F64;
    case SPAROA_BOOL: return SP_CU_BOOL;
    default: return -1;
    }
}

bool sp_cuda_is_f32(const sparoa_node *node, int32_t input)
{
    const sparoa_tensor *t = sparoa_in(node, input);
    return t && t->dtype == SPAROA_FLOAT32;
}

bool sp_cuda_all_f32(const sparoa_node *node)
{
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype != SPAROA_FLOAT32) return false;
    for (int32_t i = 0; i < node->n_out; i++)
        if (node->out[i] && node->out[i]->dtype != SPAROA_FLOAT32) return false;
    return true;
}

bool sp_cuda_is_half(const sparoa_node *node)
{
    const sparoa_tensor *t = sparoa_in(node, 0);
    return t && t->dtype == SPAROA_FLOAT16;
}

bool sp_cuda_all_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)op;
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype != SPAROA_FLOAT16) return false;
    for (int32_t i = 0; i < node->n_out; i++)
        if (node->out[i] && node->out[i]->dtype != SPAROA_FLOAT16) return false;
    return true;
}

bool sp_cuda_any_half(sparoa_dev *dev, const sparoa_node *node, int op)
{
    (void)dev, (void)node, (void)op;
    return true;
}

sp_cuda_math sp_cuda_math_of(const sparoa_dev *dev, const sparoa_node *node)
{
    if (sp_cuda_is_half(node)) return SP_CUDA_MATH_F16;
    bool tf32 = dev->tf32 || sparoa_attr_int(node, "sp.tf32", 0) == 1;
    return tf32 ? SP_CUDA_MATH_TF32 : SP_CUDA_MATH_F32;
}

bool sp_cuda_known(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return !t || (node->constant && node->constant[i]) || t->data;
}

void sp_cuda_space(sp_cu_space *s, const sparoa_tensor *out, int n, const sparoa_tensor *const in[])
{
    int64_t strides[3][SPAROA_MAX_RANK];
    *s = (sp_cu_space){.count = sp_count(out)};
    for (int k = 0; k < n; k++) sp_broadcast_strides(in[k], out, strides[k]);
    for (int32_t d = 0; d < out->rank; d++) {
        if (out->dims[d] == 1) continue;
        int32_t last = s->rank - 1;
        bool joins = last >= 0;
        for (int k = 0; k < n && joins; k++)
            joins = s->strides[k][last] == out->dims[d] * strides[k][d];
        int32_t at = joins ? last : s->rank++;
        s->dims[at] = joins ? s->dims[at] * out->dims[d] : out->dims[d];
        for (int k = 0; k < n; k++) s->strides[k][at] = strides[k][d];
    }
}

void sp_cuda_move_axis(sp_cu_move *m, int64_t dim, int64_t src, int64_t dst)
{
    m->dims[m->rank] = dim;
    m->src[m->rank] = src;
    m->dst[m->rank++] = dst;
}

void sp_cuda_copy(void *dst, const void *src, size_t bytes, cudaStream_t stream)
{
    if (bytes && dst != src) cudaMemcpyAsync(dst, src, bytes, cudaMemcpyDeviceToDevice, stream);
}
