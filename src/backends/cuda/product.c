/* Matrix products: cuBLASLt with bias, ReLU and residual in one call where it can, our own kernel
 * on tensor cores, or the plain kernel. cuBLASLt counts columns first, so it is asked for the
 * transposed product: y^T = b^T a^T. */
#include "backends/cuda/sparse.h"
#include "ops/epilogue.h"

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

static bool make_layout(const sp_cuda_libs *l, void **layout, int type, const operand *o,
                        int64_t batch, int64_t stride)
{
    if (l->lt_layout_create(layout, type, o->rows, o->cols, o->ld) != 0) return false;
    if (batch == 1) return true;
    int32_t count = (int32_t)batch;
    return l->lt_layout_set(*layout, LT_LAYOUT_BATCH_COUNT, &count, sizeof count) == 0 &&
           l->lt_layout_set(*layout, LT_LAYOUT_BATCH_STRIDE, &stride, sizeof stride) == 0;
}

/* What cuBLASLt's epilogue can express. Its GELU is the tanh form, at most 5e-4 from the exact one:
 * within what TF32 and float16 leave of a value. */
static bool can_fuse(const sp_cuda_product *p)
{
    const sp_cu_epilogue *e = &p->epilogue;
    bool gelu =
        e->act == SP_ACT_GELU_TANH || (e->act == SP_ACT_GELU && p->math != SP_CUDA_MATH_F32);
    if (gelu) return e->residual == 0;
    return (e->act == SP_ACT_NONE || e->act == SP_ACT_RELU) &&
           (e->residual < 2 || e->act == SP_ACT_NONE);
}

static uint32_t lt_epilogue(const sp_cuda_product *p)
{
    uint32_t all = p->has_bias ? LT_EPILOGUE_BIAS : 0;
    if (p->epilogue.act == SP_ACT_RELU)
        all |= LT_EPILOGUE_RELU;
    else if (p->epilogue.act != SP_ACT_NONE)
        all |= LT_EPILOGUE_GELU;
    return all ? all : LT_EPILOGUE_DEFAULT;
}

/* What cuBLASLt proposes, best first. */
static bool propose(sparoa_dev *dev, sp_cuda_lt *t)
{
    const sp_cuda_libs *l = &dev->libs;
    void *pref = NULL;
    size_t limit = WORKSPACE_LIMIT;
    uint32_t alignment = ALIGNMENT;
    lt_heuristic found[SP_CUDA_LT_ALGOS];
    int n = 0;
    if (l->lt_pref_create(&pref) != 0) return false;
    bool ok = l->lt_pref_set(pref, LT_PREF_MAX_WORKSPACE, &limit, sizeof limit) == 0;
    for (int a = LT_PREF_ALIGN_A; a <= LT_PREF_ALIGN_D; a++)
        ok = ok && l->lt_pref_set(pref, a, &alignment, sizeof alignment) == 0;
    ok = ok && l->lt_heuristic(dev->lt, t->desc, t->layout_b, t->layout_a, t->layout_y, t->layout_y,
                               pref, dev->autotune ? SP_CUDA_LT_ALGOS : 1, found, &n) == 0;
    l->lt_pref_destroy(pref);
    for (int i = 0; ok && i < n; i++) {
        if (found[i].state != 0) continue;
        t->algos[t->count] = found[i].algo;
        t->needs[t->count++] = found[i].workspace ? found[i].workspace + WORKSPACE_ALIGNMENT : 0;
    }
    return t->count > 0;
}

static bool plan_lt(sparoa_dev *dev, sp_cuda_product *p, bool fuse)
{
    const sp_cuda_libs *l = &dev->libs;
    const sp_cu_gemm *g = &p->shape;
    sp_cuda_lt *t = &p->lt[fuse];
    operand a, b, y = {LT_OP_N, (uint64_t)g->n, (uint64_t)g->m, g->n};
    if (!describe(g->n, g->k, g->b_n, g->b_k, &b) || !describe(g->k, g->m, g->a_k, g->a_m, &a))
        return false;
    int compute = p->math == SP_CUDA_MATH_TF32 ? LT_COMPUTE_32F_FAST_TF32 : LT_COMPUTE_32F;
    int type = p->math == SP_CUDA_MATH_F16 ? LT_R_16F : LT_R_32F;
    if (l->lt_desc_create(&t->desc, compute, LT_R_32F) != 0) return false;
    uint32_t epilogue = fuse ? lt_epilogue(p) : LT_EPILOGUE_DEFAULT;
    return l->lt_desc_set(t->desc, LT_DESC_TRANSA, &b.op, sizeof b.op) == 0 &&
           l->lt_desc_set(t->desc, LT_DESC_TRANSB, &a.op, sizeof a.op) == 0 &&
           l->lt_desc_set(t->desc, LT_DESC_EPILOGUE, &epilogue, sizeof epilogue) == 0 &&
           make_layout(l, &t->layout_b, type, &b, g->batch, g->b_batch) &&
           make_layout(l, &t->layout_a, type, &a, g->batch, g->a_batch) &&
           make_layout(l, &t->layout_y, type, &y, g->batch, g->y_batch) && propose(dev, t);
}

static void lt_done(sparoa_dev *dev, sp_cuda_lt *t)
{
    const sp_cuda_libs *l = &dev->libs;
    if (t->desc) l->lt_desc_destroy(t->desc);
    if (t->layout_a) l->lt_layout_destroy(t->layout_a);
    if (t->layout_b) l->lt_layout_destroy(t->layout_b);
    if (t->layout_y) l->lt_layout_destroy(t->layout_y);
    *t = (sp_cuda_lt){0};
}

/* ---- tensor cores ---- */

bool sp_cuda_parts_make(sparoa_dev *dev, sp_cuda_parts *p, const sp_cu_window *w)
{
    if (p->splits < 2) return true;
    p->bytes = (size_t)sp_cu_tensor_tile_count(w, p->tile) * sizeof *p->arrivals;
    void *memory = NULL;
    if (sp_cuda_alloc(dev, p->bytes, &memory) != SPAROA_OK) return false;
    p->arrivals = memory;
    return cudaMemset(memory, 0, p->bytes) == cudaSuccess;
}

void sp_cuda_parts_done(sparoa_dev *dev, sp_cuda_parts *p)
{
    sp_cuda_free(dev, p->arrivals, p->bytes);
    *p = (sp_cuda_parts){0};
}

/* Rows are the pixels of one column, the inner dimension its channels; both operands run along it.
 */
static bool as_window(const sparoa_dev *dev, sp_cuda_product *p)
{
    const sp_cu_gemm *g = &p->shape;
    if (!sp_cuda_has_cores(dev, p->math) || p->outer_rank || g->batch != 1 || g->alpha != 1 ||
        g->a_k != 1 || g->a_m != g->k || g->b_k != 1 || g->b_n != g->k || g->m > INT32_MAX / 2 ||
        g->n > INT32_MAX / 2 || g->k > INT32_MAX / 2)
        return false;
    p->window = (sp_cu_window){.n = 1,
                               .c_in = (int32_t)g->k,
                               .c_out = (int32_t)g->n,
                               .group = 1,
                               .in = {1, (int32_t)g->m, 1},
                               .out = {1, (int32_t)g->m, 1},
                               .kernel = {1, 1, 1},
                               .stride = {1, 1, 1},
                               .dilation = {1, 1, 1},
                               .x_n = g->m * g->k,
                               .x_c = 1,
                               .x_s = {g->m * g->k, g->k, g->k},
                               .y_n = g->m * g->n,
                               .y_c = 1,
                               .y_s = {g->m * g->n, g->n, g->n}};
    return sp_cu_tensor_can(&p->window, p->math == SP_CUDA_MATH_F16);
}

/* Sparse products take dense rows of float32. */
static bool sparse_fits(const sp_cuda_product *p)
{
    const sp_cu_gemm *g = &p->shape;
    return p->sparse && p->math != SP_CUDA_MATH_F16 && !p->outer_rank && g->batch == 1 &&
           g->alpha == 1 && g->a_k == 1 && g->a_m == g->k && p->sparse->csr.k == g->k &&
           p->sparse->csr.n == g->n;
}

bool sp_cuda_product_choose(sparoa_dev *dev, sp_cuda_product *p, const sp_cuda_choice *c)
{
    sp_cuda_parts_done(dev, &p->parts);
    p->kind = SP_CUDA_PRODUCT_PLAIN;
    p->workspace = 0;
    p->fused = false;
    if (c->kind == SP_CUDA_PRODUCT_LT) {
        if (c->index < 0 || c->index / 2 >= p->lt[c->index & 1].count) return false;
        p->fused = c->index & 1;
        p->algo = c->index / 2;
        p->workspace = p->lt[p->fused].needs[p->algo];
    } else if (c->kind == SP_CUDA_PRODUCT_TENSOR) {
        if (!p->window.n || c->tile < 0 || c->tile >= SP_CU_TENSOR_TILES || c->splits < 1 ||
            c->splits > 64 ||
            !sp_cu_tensor_fits(&p->window, c->tile, dev->prop.sharedMemPerBlockOptin))
            return false;
        p->parts = (sp_cuda_parts){.tile = c->tile, .splits = c->splits};
        p->workspace = sp_cu_tensor_workspace(&p->window, c->splits);
        if (!sp_cuda_parts_make(dev, &p->parts, &p->window)) return false;
    } else if (c->kind == SP_CUDA_PRODUCT_SPMM) {
        if (!p->sparse || c->tile < 0 || c->tile >= SP_CU_SPMM_TILES ||
            !sp_cu_spmm_fits(c->tile, dev->prop.sharedMemPerBlockOptin))
            return false;
        p->way = c->tile;
    } else if (c->kind == SP_CUDA_PRODUCT_THIN) {
        if (!p->window.n || !sp_cu_thin_can(&p->shape, &p->epilogue, p->math == SP_CUDA_MATH_F16,
                                            c->tile, dev->prop.sharedMemPerBlockOptin))
            return false;
        p->way = c->tile;
    } else if (c->kind == SP_CUDA_PRODUCT_CUSPARSE) {
        if (!p->spmm_y || c->index < 0 || c->index >= SP_CUDA_SPMM_ALGOS ||
            p->spmm_needs[c->index] == SIZE_MAX)
            return false;
        p->algo = c->index;
        p->workspace = p->spmm_needs[c->index];
    } else if (c->kind != SP_CUDA_PRODUCT_PLAIN) {
        return false; /* choices come from a file, too */
    }
    p->kind = (sp_cuda_product_kind)c->kind;
    return true;
}

void sp_cuda_product_done(sparoa_dev *dev, sp_cuda_product *p)
{
    lt_done(dev, &p->lt[0]);
    lt_done(dev, &p->lt[1]);
    sp_cuda_spmm_done(dev, p);
    sp_cuda_parts_done(dev, &p->parts);
}

void sp_cuda_product_plan(sparoa_dev *dev, sp_cuda_product *p, const sp_cu_epilogue *epilogue,
                          bool has_bias)
{
    const sp_cu_gemm *g = &p->shape;
    p->epilogue = *epilogue;
    p->has_bias = has_bias;
    p->workspace = 0;
    p->outer_y = g->batch * g->m * g->n;
    p->kind = SP_CUDA_PRODUCT_PLAIN;
    if (g->m < 1 || g->n < 1 || g->k < 1 || g->batch < 1 || g->batch > INT32_MAX) return;
    if (!as_window(dev, p)) p->window = (sp_cu_window){0};
    if (!sparse_fits(p)) p->sparse = NULL;
    if (p->sparse && !sp_cuda_spmm_plan(dev, p)) sp_cuda_spmm_done(dev, p);
    for (int fuse = 0; fuse < 2; fuse++)
        if (dev->lt && (!fuse || can_fuse(p)) && !plan_lt(dev, p, fuse)) lt_done(dev, &p->lt[fuse]);
    sp_cuda_choice first = {.kind = SP_CUDA_PRODUCT_PLAIN};
    if (p->lt[1].count || p->lt[0].count) {
        first.kind = SP_CUDA_PRODUCT_LT;
        first.index = p->lt[1].count ? 1 : 0;
    } else if (p->window.n) {
        first = (sp_cuda_choice){SP_CUDA_PRODUCT_TENSOR, 0, 2, 1};
    }
    sp_cuda_product_choose(dev, p, &first);
    if (dev->autotune) sp_cuda_product_tune(dev, p);
}

const char *sp_cuda_product_variant(const sp_cuda_product *p)
{
    static const char *const names[][6] = {
        {"gemm_f32", "gemm_cublaslt", "gemm_f32", "gemm_sparse", "gemm_cusparse", "gemm_f32"},
        {"gemm_f32", "gemm_cublaslt_tf32", "gemm_tensor_tf32", "gemm_sparse", "gemm_cusparse",
         "gemm_thin_tf32"},
        {"gemm_f16", "gemm_cublaslt_f16", "gemm_tensor_f16", "gemm_f16", "gemm_f16",
         "gemm_thin_f16"}};
    return names[p->math][p->kind];
}

/* ---- running ---- */

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
    p->kind = SP_CUDA_PRODUCT_PLAIN;
    if (!h->log) return;
    snprintf(line, sizeof line,
             "cublasLtMatmul failed with status %d (m %lld, n %lld, k %lld, batch %lld; bias %p, "
             "residual %p, workspace %p of %zu), plain product instead",
             code, (long long)g->m, (long long)g->n, (long long)g->k, (long long)g->batch, bias,
             residual, memory, p->workspace);
    h->log(h->log_user, SPAROA_LOG_WARN, line);
}

/* false: cuBLASLt refused, and nothing was enqueued. */
static bool call_lt(sparoa_dev *dev, sp_cuda_product *p, const void *a, const void *b,
                    const void *bias, const void *residual, void *y, void *workspace,
                    cudaStream_t stream)
{
    const sp_cuda_libs *l = &dev->libs;
    sp_cuda_lt *t = &p->lt[p->fused];
    float alpha = p->shape.alpha, beta = p->fused && residual ? 1.0f : 0.0f;
    const void *c = beta != 0 ? residual : y;
    size_t off =
        (WORKSPACE_ALIGNMENT - (uintptr_t)workspace % WORKSPACE_ALIGNMENT) % WORKSPACE_ALIGNMENT;
    size_t bytes = p->workspace ? p->workspace - WORKSPACE_ALIGNMENT : 0;
    void *memory = bytes ? (char *)workspace + off : NULL;
    if (p->fused && p->has_bias &&
        l->lt_desc_set(t->desc, LT_DESC_BIAS_POINTER, &bias, sizeof bias) != 0)
        return false;
    int code = l->lt_matmul(dev->lt, t->desc, &alpha, b, t->layout_b, a, t->layout_a, &beta, c,
                            t->layout_y, y, t->layout_y, &t->algos[p->algo], memory, bytes, stream);
    if (code != 0) refused(dev, p, code, bias, residual, memory);
    return code == 0;
}

/* What cuBLASLt refuses for this call's addresses, the plain kernel does. */
static void run_one(sparoa_dev *dev, sp_cuda_product *p, const void *a, const void *b,
                    const void *bias, const void *residual, void *y, void *workspace,
                    cudaStream_t stream)
{
    int half = p->math == SP_CUDA_MATH_F16;
    bool fits = aligned(a, b, y, residual) && aligned(bias, NULL, NULL, NULL);
    if (p->kind == SP_CUDA_PRODUCT_TENSOR && fits) {
        sp_cu_tensor(&p->window, &p->epilogue, half, p->parts.tile, p->parts.splits, workspace,
                     p->parts.arrivals, a, b, bias, residual, y, stream);
        return;
    }
    if (p->kind == SP_CUDA_PRODUCT_THIN && fits) {
        sp_cu_thin(&p->shape, &p->epilogue, half, p->way, a, b, bias, residual, y, stream);
        return;
    }
    if (p->kind == SP_CUDA_PRODUCT_SPMM && fits) {
        sp_cu_spmm(&p->sparse->csr, p->way, &p->epilogue, p->shape.m, a, bias, residual, y, stream);
        return;
    }
    bool done = p->kind == SP_CUDA_PRODUCT_CUSPARSE && fits &&
                sp_cuda_spmm_run(dev, p, a, y, workspace, stream);
    if (p->kind == SP_CUDA_PRODUCT_CUSPARSE && fits && !done) p->kind = SP_CUDA_PRODUCT_PLAIN;
    bool lt = p->kind == SP_CUDA_PRODUCT_LT && fits &&
              call_lt(dev, p, a, b, bias, residual, y, workspace, stream);
    if (!lt && !done) sp_cu_gemm_run(&p->shape, half, a, b, y, stream);
    if (!lt || !p->fused)
        sp_cu_epilogue_run(&p->epilogue, half, y, bias, residual, p->outer_y, stream);
}

sparoa_status sp_cuda_product_run(sparoa_dev *dev, sp_cuda_product *p, const void *a, const void *b,
                                  const void *bias, const void *residual, void *y, void *workspace,
                                  cudaStream_t stream, const sparoa_node *node, sparoa_error *err)
{
    int64_t calls = 1, size = (int64_t)sp_cuda_math_bytes(p->math);
    for (int32_t d = 0; d < p->outer_rank; d++) calls *= p->outer[d];
    for (int64_t i = 0; i < calls; i++) {
        int64_t rest = i, at_a = 0, at_b = 0, at_y = i * p->outer_y;
        for (int32_t d = p->outer_rank - 1; d >= 0; d--) {
            at_a += rest % p->outer[d] * p->outer_a[d];
            at_b += rest % p->outer[d] * p->outer_b[d];
            rest /= p->outer[d];
        }
        run_one(dev, p, (const char *)a + at_a * size, (const char *)b + at_b * size, bias,
                residual ? (const char *)residual + at_y * size : NULL, (char *)y + at_y * size,
                workspace, stream);
    }
    (void)node, (void)err;
    return SPAROA_OK;
}
