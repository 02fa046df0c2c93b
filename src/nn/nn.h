/*
 * nn.h - the small neural networks of the threshold predictor and of the SAC policy: forward and
 * backward in float32 on the inner loops of the CPU backend.
 *
 * A layer is a few sizes and offsets into one flat array of parameters, so that an optimiser, a
 * target network and a file are each one loop over that array. The gradient of parameter i is at
 * the same place of a second array. A network is made by making its layers one after the other
 * with the same `count`, which ends as the length of the array:
 *
 *   size_t count = 0;
 *   sp_nn_linear a = sp_nn_linear_make(&count, 6, 64), b = sp_nn_linear_make(&count, 64, 2);
 *   float *params = ...count floats...;
 *   sp_nn_linear_init(&a, params, &rng); ...
 *
 * Matrices are row-major with one example (or one element of a sequence) per row. Backward calls
 * get what forward got and made, add to `grads`, and overwrite dx, which may be NULL where nobody
 * wants it. Results depend on the inputs and the instruction set alone.
 */
#ifndef SP_NN_NN_H
#define SP_NN_NN_H

#include "base/mem.h"
#include "kernels/cpu/kernels.h"
#include "ops/epilogue.h"

/* Where networks are computed: inner loops and scratch memory. One thread at a time. When memory
 * runs out, `failed` is set, results are unspecified from there on, and the caller finds out at the
 * end. */
typedef struct sp_nn {
    const sp_kernels *kernels;
    sparoa_allocator alloc;
    float *packed, *turned;
    size_t packed_floats, turned_floats;
    bool failed;
} sp_nn;

void sp_nn_init(sp_nn *nn, const sp_kernels *kernels, const sparoa_allocator *alloc);
void sp_nn_release(sp_nn *nn);

/* A source of random numbers that counts. */
typedef struct sp_nn_rng {
    uint64_t key, next;
} sp_nn_rng;
double sp_nn_uniform(sp_nn_rng *rng);                              /* [0, 1) */
double sp_nn_normal(sp_nn_rng *rng);                               /* mean 0, variance 1 */
uint64_t sp_nn_below(sp_nn_rng *rng, uint64_t bound);              /* 0..bound-1, bound > 0 */
void sp_nn_fill(float *p, size_t n, double bound, sp_nn_rng *rng); /* uniform in [-bound, bound) */

/* C[m,n] = A B + bias, or C += A B. A is [m,k], or stored as [k,m] with a_turned; B is [k,n], or
 * stored as [n,k] with b_turned. lda, ldb, ldc: floats from row to row as stored. */
typedef struct sp_nn_product {
    size_t m, n, k;
    const float *a, *b, *bias; /* bias: [n] or NULL */
    size_t lda, ldb, ldc;
    bool a_turned, b_turned, add;
    float scale; /* of B; 0 means 1 */
    float *c;
} sp_nn_product;
void sp_nn_multiply(sp_nn *nn, const sp_nn_product *p);
/* For many products with one B: packs it and fills in g, of which the caller changes a, c and
 * residual from one kernels->gemm_f32 to the next. Valid until the next call that gets nn. False:
 * no memory. */
bool sp_nn_prepare(sp_nn *nn, const sp_nn_product *p, sp_gemm_f32 *g);

/* ---- linear: y = x W + b, W stored [in][out] ---- */
typedef struct sp_nn_linear {
    size_t in, out, w, b;
} sp_nn_linear;
sp_nn_linear sp_nn_linear_make(size_t *count, size_t in, size_t out);
void sp_nn_linear_init(const sp_nn_linear *l, float *params, sp_nn_rng *rng);
void sp_nn_linear_forward(sp_nn *nn, const sp_nn_linear *l, const float *params, size_t rows,
                          const float *x, float *y);
/* grads NULL: only dx. */
void sp_nn_linear_backward(sp_nn *nn, const sp_nn_linear *l, const float *params, size_t rows,
                           const float *x, const float *dy, float *dx, float *grads);

/* ---- activations: none, relu, tanh, sigmoid, silu, gelu ---- */
void sp_nn_act_forward(sp_nn *nn, sp_act act, size_t n, const float *x, float *y);
/* dx may be dy. */
void sp_nn_act_backward(sp_act act, size_t n, const float *x, const float *y, const float *dy,
                        float *dx);

/* ---- layer normalisation over the last axis ---- */
typedef struct sp_nn_norm {
    size_t width, scale, bias;
} sp_nn_norm;
sp_nn_norm sp_nn_norm_make(size_t *count, size_t width);
void sp_nn_norm_init(const sp_nn_norm *l, float *params);
/* stats: [2 * rows], mean and inverse deviation, for backward. */
void sp_nn_norm_forward(sp_nn *nn, const sp_nn_norm *l, const float *params, size_t rows,
                        const float *x, float *y, float *stats);
void sp_nn_norm_backward(const sp_nn_norm *l, const float *params, size_t rows, const float *x,
                         const float *stats, const float *dy, float *dx, float *grads);

/* ---- multi-head self-attention over one sequence of n elements ---- */
typedef struct sp_nn_attention {
    size_t width, heads;
    sp_nn_linear qkv, out; /* qkv: [width][3 * width], queries first */
} sp_nn_attention;
sp_nn_attention sp_nn_attention_make(size_t *count, size_t width, size_t heads);
void sp_nn_attention_init(const sp_nn_attention *l, float *params, sp_nn_rng *rng);
/* Floats that forward keeps for backward, which needs as many again for its own use. */
size_t sp_nn_attention_cache(const sp_nn_attention *l, size_t n);
void sp_nn_attention_forward(sp_nn *nn, const sp_nn_attention *l, const float *params, size_t n,
                             const float *x, float *y, float *cache);
void sp_nn_attention_backward(sp_nn *nn, const sp_nn_attention *l, const float *params, size_t n,
                              const float *x, const float *dy, float *dx, float *grads,
                              const float *cache, float *work);

/* ---- bidirectional LSTM over one sequence; output [n][2 * hidden], forward direction first ----
 */
typedef struct sp_nn_lstm {
    size_t in, hidden;
    sp_nn_linear x[2]; /* [in][4 * hidden], gates in the order i, f, g, o */
    size_t h[2];       /* [hidden][4 * hidden] */
} sp_nn_lstm;
sp_nn_lstm sp_nn_lstm_make(size_t *count, size_t in, size_t hidden);
void sp_nn_lstm_init(const sp_nn_lstm *l, float *params, sp_nn_rng *rng);
size_t sp_nn_lstm_cache(const sp_nn_lstm *l, size_t n); /* as sp_nn_attention_cache */
void sp_nn_lstm_forward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n,
                        const float *x, float *y, float *cache);
void sp_nn_lstm_backward(sp_nn *nn, const sp_nn_lstm *l, const float *params, size_t n,
                         const float *x, const float *dy, float *dx, float *grads,
                         const float *cache, float *work);

/* ---- Transformer encoder layer, normalised first: a = x + attention(norm(x)), y = a + ff(norm(a))
 * ---- */
typedef struct sp_nn_encoder {
    sp_nn_norm norm1, norm2;
    sp_nn_attention attention;
    sp_nn_linear up, down; /* width -> feed -> width, ReLU between */
} sp_nn_encoder;
sp_nn_encoder sp_nn_encoder_make(size_t *count, size_t width, size_t heads, size_t feed);
void sp_nn_encoder_init(const sp_nn_encoder *l, float *params, sp_nn_rng *rng);
size_t sp_nn_encoder_cache(const sp_nn_encoder *l, size_t n); /* as sp_nn_attention_cache */
void sp_nn_encoder_forward(sp_nn *nn, const sp_nn_encoder *l, const float *params, size_t n,
                           const float *x, float *y, float *cache);
void sp_nn_encoder_backward(sp_nn *nn, const sp_nn_encoder *l, const float *params, size_t n,
                            const float *x, const float *dy, float *dx, float *grads,
                            const float *cache, float *work);

/* ---- multi-layer perceptron: linear layers with one activation between them ---- */
enum { SP_NN_MLP_LAYERS = 4 };
typedef struct sp_nn_mlp {
    size_t layers;
    sp_nn_linear linear[SP_NN_MLP_LAYERS];
    sp_act act;
} sp_nn_mlp;
/* widths: layers + 1 of them. */
sp_nn_mlp sp_nn_mlp_make(size_t *count, sp_act act, size_t layers, const size_t *widths);
void sp_nn_mlp_init(const sp_nn_mlp *l, float *params, sp_nn_rng *rng);
size_t sp_nn_mlp_cache(const sp_nn_mlp *l, size_t rows); /* as sp_nn_attention_cache */
void sp_nn_mlp_forward(sp_nn *nn, const sp_nn_mlp *l, const float *params, size_t rows,
                       const float *x, float *y, float *cache);
/* grads NULL: only dx. */
void sp_nn_mlp_backward(sp_nn *nn, const sp_nn_mlp *l, const float *params, size_t rows,
                        const float *x, const float *dy, float *dx, float *grads,
                        const float *cache, float *work);

/* ---- training ---- */

/* Mean over all n elements of (y - target)^2; dy, if not NULL, gets its gradient. */
double sp_nn_mse(size_t n, const float *y, const float *target, float *dy);

/* Adam (Kingma and Ba 2015). m and v: count floats each, zero at first. */
typedef struct sp_nn_adam {
    size_t count;
    float *m, *v;
    double rate, beta1, beta2, epsilon;
    uint64_t step;
} sp_nn_adam;
/* rate as given, beta 0.9 and 0.999, epsilon 1e-8. False: no memory. */
bool sp_nn_adam_init(sp_nn_adam *adam, const sparoa_allocator *alloc, size_t count, double rate);
void sp_nn_adam_release(sp_nn_adam *adam, const sparoa_allocator *alloc);
void sp_nn_adam_step(sp_nn_adam *adam, float *params, const float *grads);

/* Scales grads so that their Euclidean norm is at most `most`; returns the norm before. */
double sp_nn_clip(size_t count, float *grads, double most);

#endif
