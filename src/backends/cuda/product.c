/* Matrix products: cuBLASLt with bias, ReLU and residual in one call where it can, else the plain
 * kernel. cuBLASLt counts columns first, so it is asked for the transposed product: y^T = b^T a^T.
 */
#include "backends/cuda/cuda.h"

#define WORKSPACE_LIMIT ((size_t)32 << 20)
#define ALIGNMENT 16u
#define WORKSPACE_ALIGNMENT ((size_t)256)

/* One operand as cuBLASLt sees it. */
typedef struct operand {
    int op;
    uint64_t rows, cols;
    int64_t ld;
} operand;

/* A matrix of rows x cols (counted columns first) whose elements lie row_stride and col_stride
 * apart. */
static bool describe(int64_t rows, int64_t cols, int64_t row_stride, int64_t col_stride, operand *o)
{
    if (row_stride == 1 && col_stride >= rows) {
        *o = (operand){LT_OP_N, (uint64_t)rows, (uint64_t)cols, col_stride};
        return true;
    }
    if (col_stride == 1 && row_stride >= cols) {
        *o = (operand){LT_OP_T, (uint64_t)cols, (uint64_t)rows, row_stride};
        return true;
    }
    return false;
}

static bool make_layout(const sp_cuda_libs *l, void **layout, const operand *o, int64_t batch,
                        int64_t stride)
{
    if (l->lt_layout_create(layout, LT_R_32F, o->rows, o->cols, o->ld) != 0) return false;
    if (batch == 1) return true;
    int32_t count = (int32_t)batch;
    return l->lt_layout_set(*layout, LT_LAYOUT_BATCH_COUNT, &count, sizeof count) == 0 &&
           l->lt_layout_set(*layout, LT_LAYOUT_BATCH_STRIDE, &stride, sizeof stride) == 0;
}

/* What cuBLASLt's epilogue can express. */
static bool can_fuse(const sp_cu_epilogue *e)
{
    return (e->act == 0 || e->act == 1) && (e->residual < 2 || e->act == 0);
}

static bool choose(sparoa_dev *dev, sp_cuda_product *p)
{
    const sp_cuda_libs *l = &dev->libs;
    void *pref = NULL;
    size_t limit = WORKSPACE_LIMIT;
    uint32_t alignment = ALIGNMENT;
    lt_heuristic best = {0};
    int found = 0;
    if (l->lt_pref_create(&pref) != 0) return false;
    bool ok = l->lt_pref_set(pref, LT_PREF_MAX_WORKSPACE, &limit, sizeof limit) == 0;
    for (int a = LT_PREF_ALIGN_A; a <= LT_PREF_ALIGN_D; a++)
        ok = ok && l->lt_pref_set(pref, a, &alignment, sizeof alignment) == 0;
    ok = ok && l->lt_heuristic(dev->lt, p->desc, p->layout_b, p->layout_a, p->layout_y, p->layout_y,
                               pref, 1, &best, &found) == 0;
    l->lt_pref_destroy(pref);
    if (!ok || found < 1 || best.state != 0) return false;
    p->algo = best.algo;
    p->workspace = best.workspace ? best.workspace + WORKSPACE_ALIGNMENT : 0;
    return true;
}

static bool plan_lt(sparoa_dev *dev, sp_cuda_product *p, bool fuse)
{
    const sp_cuda_libs *l = &dev->libs;
    const sp_cu_gemm *g = &p->shape;
    operand a, b, y = {LT_OP_N, (uint64_t)g->n, (uint64_t)g->m, g->n};
    if (!describe(g->n, g->k, g->b_n, g->b_k, &b) || !describe(g->k, g->m, g->a_k, g->a_m, &a))
        return false;
    int compute = dev->tf32 ? LT_COMPUTE_32F_FAST_TF32 : LT_COMPUTE_32F;
    if (l->lt_desc_create(&p->desc, compute, LT_R_32F) != 0) return false;
    uint32_t epilogue = LT_EPILOGUE_DEFAULT;
    if (fuse)
        epilogue =
            (p->epilogue.act == 1 ? LT_EPILOGUE_RELU : 0) | (p->has_bias ? LT_EPILOGUE_BIAS : 0);
    if (epilogue == 0) epilogue = LT_EPILOGUE_DEFAULT;
    bool ok = l->lt_desc_set(p->desc, LT_DESC_TRANSA, &b.op, sizeof b.op) == 0 &&
              l->lt_desc_set(p->desc, LT_DESC_TRANSB, &a.op, sizeof a.op) == 0 &&
              l->lt_desc_set(p->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue) == 0 &&
              make_layout(l, &p->layout_b, &b, g->batch, g->b_batch) &&
              make_layout(l, &p->layout_a, &a, g->batch, g->a_batch) &&
              make_layout(l, &p->layout_y, &y, g->batch, g->y_batch);
    p->fused = fuse;
    return ok && choose(dev, p);
}

void sp_cuda_product_done(sparoa_dev *dev, sp_cuda_product *p)
{
    const sp_cuda_libs *l = &dev->libs;
    if (p->desc) l->lt_desc_destroy(p->desc);
    if (p->layout_a) l->lt_layout_destroy(p->layout_a);
    if (p->layout_b) l->lt_layout_destroy(p->layout_b);
    if (p->layout_y) l->lt_layout_destroy(p->layout_y);
    p->desc = p->layout_a = p->layout_b = p->layout_y = NULL;
}

void sp_cuda_product_plan(sparoa_dev *dev, sp_cuda_product *p, const sp_cu_epilogue *epilogue,
                          bool has_bias)
{
    const sp_cu_gemm *g = &p->shape;
    p->epilogue = *epilogue;
    p->has_bias = has_bias;
    p->workspace = 0;
    p->outer_y = g->batch * g->m * g->n;
    if (!dev->lt || g->m < 1 || g->n < 1 || g->k < 1 || g->batch < 1 || g->batch > INT32_MAX)
        return;
    if (can_fuse(epilogue)) p->use_lt = plan_lt(dev, p, true);
    if (p->use_lt) return;
    sp_cuda_product_done(dev, p);
    p->use_lt = plan_lt(dev, p, false);
    if (!p->use_lt) sp_cuda_product_done(dev, p);
}

static bool aligned(const void *a, const void *b, const void *c, const void *d)
{
    return (((uintptr_t)a | (uintptr_t)b | (uintptr_t)c | (uintptr_t)d) % ALIGNMENT) == 0;
}

/* Says so once; from then on the plain kernel does this product. */
static void refused(sparoa_dev *dev, sp_cuda_product *p, int code, const void *bias,
                    const void *residual, const void *memory)
{
    const sparoa_host *h = dev->engine;
    const sp_cu_gemm *g = &p->shape;
    char line[256];
    p->use_lt = false;
    if (!h->log) return;
    snprintf(line, sizeof line,
             "cublasLtMatmul failed with status %d (m %lld, n %lld, k %lld, batch %lld; bias %p, "
             "residual %p, workspace %p of %zu), plain product instead",
             code, (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->batch, bias,
             residual, memory, p->workspace);
    h->log(h->log_user, SPAROA_LOG_WARN, line);
}

/* false: cuBLASLt refused, and nothing was enqueued. */
static bool call_lt(sparoa_dev *dev, sp_cuda_product *p, const float *a, const float *b,
                    const float *bias, const float *residual, float *y, void *workspace,
                    cudaStream_t stream)
{
    const sp_cuda_libs *l = &dev->libs;
    float alpha = p->shape.alpha, beta = p->fused && residual ? 1.0f : 0.0f;
    const float *c = beta != 0 ? residual : y;
    size_t off =
        (WORKSPACE_ALIGNMENT - (uintptr_t)workspace % WORKSPACE_ALIGNMENT) % WORKSPACE_ALIGNMENT;
    size_t bytes = p->workspace ? p->workspace - WORKSPACE_ALIGNMENT : 0;
    void *memory = bytes ? (char *)workspace + off : NULL;
    if (p->fused && p->has_bias &&
        l->lt_desc_set(p->desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias) != 0)
        return false;
    int code = l->lt_matmul(dev->lt, p->desc, &alpha, b, p->layout_b, a, p->layout_a, &beta, c,
                            p->layout_y, y, p->layout_y, &p->algo, memory, bytes, stream);
    if (code != 0) refused(dev, p, code, bias, residual, memory);
    return code == 0;
}

/* What cuBLASLt refuses for this call's addresses, the plain kernel does. */
static void run_one(sparoa_dev *dev, sp_cuda_product *p, const float *a, const float *b,
                    const float *bias, const float *residual, float *y, void *workspace,
                    cudaStream_t stream)
{
    bool lt = p->use_lt && aligned(a, b, y, residual) && aligned(bias, NULL, NULL, NULL) &&
              call_lt(dev, p, a, b, bias, residual, y, workspace, stream);
    if (!lt) sp_cu_gemm_run(&p->shape, a, b, y, stream);
    if (!lt || !p->fused) sp_cu_epilogue_run(&p->epilogue, y, bias, residual, p->outer_y, stream);
}

sparoa_status sp_cuda_product_run(sparoa_dev *dev, sp_cuda_product *p, const float *a,
                                  const float *b, const float *bias, const float *residual,
                                  float *y, void *workspace, cudaStream_t stream,
                                  const sparoa_node *node, sparoa_error *err)
{
    int64_t calls = 1;
    for (int32_t d = 0; d < p->outer_rank; d++) calls *= p->outer[d];
    for (int64_t i = 0; i < calls; i++) {
        int64_t rest = i, at_a = 0, at_b = 0, at_y = i * p->outer_y;
        for (int32_t d = p->outer_rank - 1; d >= 0; d--) {
            at_a += rest % p->outer[d] * p->outer_a[d];
            at_b += rest % p->outer[d] * p->outer_b[d];
            rest /= p->outer[d];
        }
        run_one(dev, p, a + at_a, b + at_b, bias, residual ? residual + at_y : NULL, y + at_y,
                workspace, stream);
    }
    (void)node, (void)err;
    return SPAROA_OK;
}
