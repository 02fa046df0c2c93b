/* Choosing how to multiply by timing the ways: cuBLASLt's proposals with and without the epilogue,
 * and our own kernels on tensor cores. */
#include "backends/cuda/sparse.h"

#define CLEARLY 0.97f

typedef struct trial {
    sparoa_dev *dev;
    sp_cuda_product *product;
    void *memory[5]; /* a, b, bias, y and residual, workspace */
    size_t bytes[5];
    bool failed;
    float best_ms;
    sp_cuda_choice best;
} trial;

static void step(void *arg, cudaStream_t stream)
{
    trial *t = arg;
    sp_cuda_product *p = t->product;
    sp_cuda_product_kind kind = p->kind;
    sp_cuda_product_run(t->dev, p, t->memory[0], t->memory[1], p->has_bias ? t->memory[2] : NULL,
                        p->epilogue.residual ? t->memory[3] : NULL, t->memory[3], t->memory[4],
                        stream, NULL, NULL);
    if (p->kind != kind) t->failed = true;
}

/* margin: part of the best time so far that it must stay below. */
static void attempt(trial *t, sp_cuda_choice choice, float margin)
{
    t->failed = false;
    if (!sp_cuda_product_choose(t->dev, t->product, &choice)) return;
    if (t->product->workspace > t->bytes[4]) return;
    float ms = sp_cuda_time(t->dev, 10, step, t);
    if (t->failed || ms < 0 || (t->best_ms >= 0 && ms >= margin * t->best_ms)) return;
    t->best_ms = ms;
    t->best = choice;
}

/* Elements from the first to the last of an operand. */
static int64_t extent(int64_t rows, int64_t row, int64_t cols, int64_t col, int64_t batch,
                      int64_t step_batch)
{
    return (rows - 1) * row + (cols - 1) * col + (batch - 1) * step_batch + 1;
}

static size_t most_workspace(const trial *t)
{
    const sp_cuda_product *p = t->product;
    size_t most = 0;
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < p->lt[f].count; i++)
            if (p->lt[f].needs[i] > most) most = p->lt[f].needs[i];
    for (int i = 0; p->spmm_y && i < SP_CUDA_SPMM_ALGOS; i++)
        if (p->spmm_needs[i] != SIZE_MAX && p->spmm_needs[i] > most) most = p->spmm_needs[i];
    for (int i = 0; p->window.n && i < SP_CU_TENSOR_TILES; i++) {
        int splits = sp_cu_tensor_splits(&p->window, p->math == SP_CUDA_MATH_F16, i,
                                         t->dev->prop.multiProcessorCount);
        size_t need = sp_cu_tensor_workspace(&p->window, splits);
        if (need > most) most = need;
    }
    return most;
}

static bool prepare_memory(trial *t)
{
    const sp_cuda_product *p = t->product;
    const sp_cu_gemm *g = &p->shape;
    int64_t outer_a = 0, outer_b = 0, calls = 1;
    for (int32_t d = 0; d < p->outer_rank; d++) {
        outer_a += (p->outer[d] - 1) * p->outer_a[d];
        outer_b += (p->outer[d] - 1) * p->outer_b[d];
        calls *= p->outer[d];
    }
    const int64_t counts[4] = {extent(g->m, g->a_m, g->k, g->a_k, g->batch, g->a_batch) + outer_a,
                               extent(g->k, g->b_k, g->n, g->b_n, g->batch, g->b_batch) + outer_b,
                               g->n, g->batch * g->m * g->n * calls};
    for (int i = 0; i < 4; i++) t->bytes[i] = (size_t)counts[i] * sp_cuda_math_bytes(p->math);
    t->bytes[4] = most_workspace(t);
    for (int i = 0; i < 5; i++) {
        if (sp_cuda_alloc(t->dev, t->bytes[i], &t->memory[i]) != SPAROA_OK) return false;
        /* 0.0115 in float32, 1.06 in float16 */
        if (i < 4 && cudaMemset(t->memory[i], 0x3c, t->bytes[i]) != cudaSuccess) return false;
    }
    return cudaDeviceSynchronize() == cudaSuccess;
}

/* After the dense ways: a sparse one must win clearly, so that what the zeros gain is no noise. */
static void try_sparse(trial *t)
{
    const float dense_ms = t->best_ms;
    const int ways = t->dev->sparse_ways;
    if (ways > 1) t->best_ms = -1; /* whatever it takes */
    for (int i = 0; ways != 3 && i < SP_CU_SPMM_TILES; i++)
        attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_SPMM, 0, i, 1},
                t->best_ms < dense_ms ? 1 : CLEARLY);
    for (int i = 0; ways != 2 && i < SP_CUDA_SPMM_ALGOS; i++)
        attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_CUSPARSE, i, 0, 1},
                t->best_ms < dense_ms ? 1 : CLEARLY);
    if (t->best_ms < 0) t->best_ms = dense_ms;
}

static void try_all(trial *t)
{
    const sp_cuda_product *p = t->product;
    for (int f = 0; f < 2; f++)
        for (int i = 0; i < p->lt[f].count; i++)
            attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_LT, i * 2 + f, 0, 1}, 1);
    for (int i = 0; p->window.n && i < SP_CU_TENSOR_TILES; i++) {
        int splits = sp_cu_tensor_splits(&p->window, p->math == SP_CUDA_MATH_F16, i,
                                         t->dev->prop.multiProcessorCount);
        attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_TENSOR, 0, i, 1}, 1);
        if (splits > 1) attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_TENSOR, 0, i, splits}, 1);
        if (splits > 3) attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_TENSOR, 0, i, splits / 2}, 1);
    }
    for (int i = 0; p->window.n && i < SP_CU_THIN_WAYS; i++)
        attempt(t, (sp_cuda_choice){SP_CUDA_PRODUCT_THIN, 0, i, 1}, 1);
    if (t->best_ms >= 0 && p->sparse) try_sparse(t);
}

void sp_cuda_product_tune(sparoa_dev *dev, sp_cuda_product *p)
{
    const sp_cu_gemm *g = &p->shape;
    char key[200];
    int n = snprintf(key, sizeof key, "gemm %d %lld %lld %lld %lld %lld %lld %lld %lld %lld",
                     p->math, (long long)g->m, (long long)g->n, (long long)g->k,
                     (long long)g->batch, (long long)g->a_m, (long long)g->a_k, (long long)g->b_k,
                     (long long)g->b_n, (long long)g->b_batch);
    snprintf(key + n, sizeof key - (size_t)n, " %d %d %d %lld", p->epilogue.act,
             p->epilogue.residual, p->has_bias, p->sparse ? (long long)p->sparse->csr.count : 0LL);
    trial t = {.dev = dev, .product = p, .best_ms = -1};
    const sp_cuda_choice thin = {SP_CUDA_PRODUCT_THIN, 0, dev->way, 1};
    const sp_cuda_choice given = {p->kind, p->algo * 2 + p->fused, p->parts.tile, p->parts.splits};
    if (dev->way >= 0 && sp_cuda_product_choose(dev, p, &thin)) return;
    if (sp_cuda_tuned_find(dev, key, &t.best) && sp_cuda_product_choose(dev, p, &t.best)) return;
    t.best = given; /* what was kept may not fit, and has left its mark on p */
    if (prepare_memory(&t)) try_all(&t);
    if (!sp_cuda_product_choose(dev, p, &t.best)) sp_cuda_product_choose(dev, p, &given);
    if (t.best_ms >= 0) sp_cuda_tuned_keep(dev, key, &t.best);
    cudaDeviceSynchronize();
    for (int i = 0; i < 5; i++) sp_cuda_free(dev, t.memory[i], t.bytes[i]);
    cudaGetLastError();
}
