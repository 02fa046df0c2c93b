/* Context, random numbers, matrix products and the linear layer. */
#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "nn/nn.h"

void sp_nn_init(sp_nn *nn, const sp_kernels *kernels, const sparoa_allocator *alloc)
{
    *nn = (sp_nn){.kernels = kernels, .alloc = *alloc};
}

void sp_nn_release(sp_nn *nn)
{
    sp_free(&nn->alloc, nn->packed, nn->packed_floats * sizeof(float));
    sp_free(&nn->alloc, nn->turned, nn->turned_floats * sizeof(float));
    *nn = (sp_nn){.kernels = nn->kernels, .alloc = nn->alloc};
}

double sp_nn_uniform(sp_nn_rng *rng)
{
    return sp_rng_uniform(rng->key, rng->next++);
}

double sp_nn_normal(sp_nn_rng *rng)
{
    return sp_rng_normal(rng->key, rng->next++);
}

uint64_t sp_nn_below(sp_nn_rng *rng, uint64_t bound)
{
    uint64_t i = (uint64_t)(sp_nn_uniform(rng) * (double)bound);
    return i < bound ? i : bound - 1;
}

void sp_nn_fill(float *p, size_t n, double bound, sp_nn_rng *rng)
{
    for (size_t i = 0; i < n; i++) p[i] = (float)((2 * sp_nn_uniform(rng) - 1) * bound);
}

/* Makes *p hold `need` floats; what was there is lost. */
static bool reserve(sp_nn *nn, float **p, size_t *have, size_t need)
{
    if (need <= *have) return !nn->failed;
    float *fresh =
        need <= SIZE_MAX / sizeof(float) / 2 ? sp_alloc(&nn->alloc, need * sizeof(float)) : NULL;
    if (!fresh) {
        nn->failed = true;
        return false;
    }
    sp_free(&nn->alloc, *p, *have * sizeof(float));
    *p = fresh;
    *have = need;
    return !nn->failed;
}

/* out[c][r] = in[r][c], in blocks so that both sides stay in the cache. */
static void turn(const float *in, size_t rows, size_t columns, size_t stride, float *out)
{
    for (size_t r0 = 0; r0 < rows; r0 += 16)
        for (size_t c0 = 0; c0 < columns; c0 += 16)
            for (size_t c = c0; c < columns && c < c0 + 16; c++)
                for (size_t r = r0; r < rows && r < r0 + 16; r++)
                    out[c * rows + r] = in[r * stride + c];
}

bool sp_nn_prepare(sp_nn *nn, const sp_nn_product *p, sp_gemm_f32 *g)
{
    const sp_kernels *k = nn->kernels;
    if (!reserve(nn, &nn->packed, &nn->packed_floats, k->gemm_f32_packed_floats(p->n, p->k)))
        return false;
    sp_gemm_f32_source source = {.n = p->n,
                                 .k = p->k,
                                 .taps = 1,
                                 .b = p->b,
                                 .k_stride = p->b_turned ? 1 : p->ldb,
                                 .n_stride = p->b_turned ? p->ldb : 1,
                                 .bias = p->bias,
                                 .scale = p->scale == 0 ? 1 : p->scale};
    k->gemm_f32_pack(&source, 0, k->gemm_f32_panels(p->n), nn->packed);
    *g = (sp_gemm_f32){.m = p->m,
                       .n = p->n,
                       .k = p->k,
                       .taps = 1,
                       .a = p->a,
                       .lda = p->lda,
                       .b = nn->packed,
                       .c = p->c,
                       .ldc = p->ldc,
                       .residual = p->c,
                       .ldr = p->ldc,
                       .epilogue = {.act = SP_ACT_NONE, .residual = p->add ? 1 : 0}};
    return true;
}

void sp_nn_multiply(sp_nn *nn, const sp_nn_product *p)
{
    sp_gemm_f32 g;
    if (p->m == 0 || p->n == 0 || !sp_nn_prepare(nn, p, &g)) return;
    if (p->a_turned) {
        if (!reserve(nn, &nn->turned, &nn->turned_floats, p->m * p->k + 1)) return;
        turn(p->a, p->k, p->m, p->lda, nn->turned);
        g.a = nn->turned;
        g.lda = p->k;
    }
    nn->kernels->gemm_f32(&g, 0, p->m, 0, nn->kernels->gemm_f32_panels(p->n));
}

sp_nn_linear sp_nn_linear_make(size_t *count, size_t in, size_t out)
{
    sp_nn_linear l = {.in = in, .out = out, .w = *count, .b = *count + in * out};
    *count = l.b + out;
    return l;
}

/* Uniform within 1/sqrt(in), weights and bias alike: the usual default of linear layers. */
void sp_nn_linear_init(const sp_nn_linear *l, float *params, sp_nn_rng *rng)
{
    sp_nn_fill(params + l->w, l->in * l->out + l->out, 1 / sqrt((double)l->in), rng);
}

void sp_nn_linear_forward(sp_nn *nn, const sp_nn_linear *l, const float *params, size_t rows,
                          const float *x, float *y)
{
    sp_nn_multiply(nn, &(sp_nn_product){.m = rows,
                                        .n = l->out,
                                        .k = l->in,
                                        .a = x,
                                        .lda = l->in,
                                        .b = params + l->w,
                                        .ldb = l->out,
                                        .bias = params + l->b,
                                        .c = y,
                                        .ldc = l->out});
}

void sp_nn_linear_backward(sp_nn *nn, const sp_nn_linear *l, const float *params, size_t rows,
                           const float *x, const float *dy, float *dx, float *grads)
{
    if (grads) {
        sp_nn_multiply(nn, &(sp_nn_product){.m = l->in,
                                            .n = l->out,
                                            .k = rows,
                                            .a = x,
                                            .lda = l->in,
                                            .a_turned = true,
                                            .b = dy,
                                            .ldb = l->out,
                                            .add = true,
                                            .c = grads + l->w,
                                            .ldc = l->out});
        float *db = grads + l->b;
        for (size_t r = 0; r < rows; r++)
            for (size_t j = 0; j < l->out; j++) db[j] += dy[r * l->out + j];
    }
    if (dx)
        sp_nn_multiply(nn, &(sp_nn_product){.m = rows,
                                            .n = l->in,
                                            .k = l->out,
                                            .a = dy,
                                            .lda = l->out,
                                            .b = params + l->w,
                                            .ldb = l->out,
                                            .b_turned = true,
                                            .c = dx,
                                            .ldc = l->in});
}
