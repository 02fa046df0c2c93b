/*
 * launch.h - the device code as the host sees it: one launcher per kernel family, plain C. A
 * launcher enqueues on `stream`, allocates nothing and waits for nothing; what goes wrong shows in
 * cudaGetLastError. Counts may be zero: then nothing is launched.
 */
#ifndef SP_CUDA_LAUNCH_H
#define SP_CUDA_LAUNCH_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#define SP_CU_RANK 8
#define SP_CU_MOVE_RANK 16

#ifdef __cplusplus
extern "C" {
#endif

/* ---- element-wise (eltwise.cu) ---- */

/* X(operator's name). The first are for float32 only. */
#define SP_CU_UNARY(X)                                                                             \
    X(Relu)                                                                                        \
    X(LeakyRelu)                                                                                   \
    X(Sigmoid)                                                                                     \
    X(Tanh)                                                                                        \
    X(HardSigmoid)                                                                                 \
    X(HardSwish)                                                                                   \
    X(Swish)                                                                                       \
    X(Gelu)                                                                                        \
    X(GeluTanh)                                                                                    \
    X(Erf)                                                                                         \
    X(Exp)                                                                                         \
    X(Log)                                                                                         \
    X(Sqrt)                                                                                        \
    X(Reciprocal)                                                                                  \
    X(Abs)                                                                                         \
    X(Neg)                                                                                         \
    X(Sign)                                                                                        \
    X(Floor)                                                                                       \
    X(Ceil)                                                                                        \
    X(Round)                                                                                       \
    X(Sin)                                                                                         \
    X(Cos)                                                                                         \
    X(Tan)                                                                                         \
    X(Asin)                                                                                        \
    X(Acos)                                                                                        \
    X(Atan)                                                                                        \
    X(Sinh)                                                                                        \
    X(Cosh)                                                                                        \
    X(Asinh)                                                                                       \
    X(Acosh)                                                                                       \
    X(Atanh)                                                                                       \
    X(Softplus)                                                                                    \
    X(Softsign)                                                                                    \
    X(Elu)                                                                                         \
    X(Selu)                                                                                        \
    X(Celu)                                                                                        \
    X(ThresholdedRelu)                                                                             \
    X(Mish)                                                                                        \
    X(QuickGelu)

#define SP_CU_BINARY(X)                                                                            \
    X(Add)                                                                                         \
    X(Sub)                                                                                         \
    X(Mul)                                                                                         \
    X(Div)                                                                                         \
    X(Min)                                                                                         \
    X(Max)                                                                                         \
    X(Pow)                                                                                         \
    X(PRelu)                                                                                       \
    X(BiasGelu)                                                                                    \
    X(Equal)                                                                                       \
    X(Greater)                                                                                     \
    X(GreaterOrEqual)                                                                              \
    X(Less)                                                                                        \
    X(LessOrEqual)                                                                                 \
    X(And)                                                                                         \
    X(Or)                                                                                          \
    X(Xor)

#define X(name) SP_CU_##name,
typedef enum sp_cu_unary_op { SP_CU_UNARY(X) SP_CU_UNARY_COUNT } sp_cu_unary_op;
#undef X
#define X(name) SP_CU_BIN_##name,
typedef enum sp_cu_binary_op { SP_CU_BINARY(X) SP_CU_BINARY_COUNT } sp_cu_binary_op;
#undef X

/* An iteration space with the element strides of up to three operands; the result is dense. */
typedef struct sp_cu_space {
    int32_t rank;
    int64_t count;
    int64_t dims[SP_CU_RANK];
    int64_t strides[3][SP_CU_RANK];
} sp_cu_space;

typedef enum sp_cu_type {
    SP_CU_F32,
    SP_CU_I32,
    SP_CU_I64,
    SP_CU_U8,
    SP_CU_I8,
    SP_CU_F16,
    SP_CU_F64,
    SP_CU_BOOL,
    SP_CU_TYPE_COUNT
} sp_cu_type;

/* half, here and below: tensors of floats are float16, else float32. */
void sp_cu_unary(sp_cu_unary_op op, int half, float a, float b, const void *x, void *y, int64_t n,
                 cudaStream_t stream);
/* Abs and Neg of integers; Not, IsNaN, IsInf have their own. */
void sp_cu_negate(sp_cu_type type, int absolute, const void *x, void *y, int64_t n,
                  cudaStream_t stream);
/* test 0: bool Not; 1: float32 is NaN; 2: float32 is infinite, with +1 positive and +2 negative
 * ones counted in `signs`. */
void sp_cu_test(int test, int signs, const void *x, uint8_t *y, int64_t n, cudaStream_t stream);
void sp_cu_binary(sp_cu_binary_op op, sp_cu_type type, const sp_cu_space *space, const void *a,
                  const void *b, void *y, cudaStream_t stream);
void sp_cu_where(int size, const sp_cu_space *space, const uint8_t *cond, const void *a,
                 const void *b, void *y, cudaStream_t stream);
void sp_cu_cast(sp_cu_type from, sp_cu_type to, const void *x, void *y, int64_t n,
                cudaStream_t stream);
/* low and high: device memory, or NULL for no limit. */
void sp_cu_clip(sp_cu_type type, const void *x, const void *low, const void *high, void *y,
                int64_t n, cudaStream_t stream);
/* Several functions one after the other (chain.cu). Operand 0 goes through the steps; a step's
 * function is a sp_cu_unary_op (operand < 0; SP_CU_UNARY_COUNT: clip to a..b) or a sp_cu_binary_op.
 */
#define SP_CU_CHAIN_STEPS 12
#define SP_CU_CHAIN_OPERANDS 6
typedef struct sp_cu_chain {
    int32_t steps, operands, rank;
    int64_t count;
    int64_t dims[SP_CU_RANK];
    int64_t strides[SP_CU_CHAIN_OPERANDS][SP_CU_RANK];
    int8_t op[SP_CU_CHAIN_STEPS], operand[SP_CU_CHAIN_STEPS], left[SP_CU_CHAIN_STEPS];
    float a[SP_CU_CHAIN_STEPS], b[SP_CU_CHAIN_STEPS];
} sp_cu_chain;
void sp_cu_chain_run(const sp_cu_chain *c, int half, const void *const in[], void *y,
                     cudaStream_t stream);
void sp_cu_scale(float factor, float *y, int64_t n, cudaStream_t stream);

/* What comes after a product: y = act(y + bias + residual) or act(y + bias) + residual, in place.
 * y has `rows` x `inner` blocks per channel: element i belongs to channel i / inner % channels. */
typedef struct sp_cu_epilogue {
    int act; /* sp_act */
    float a, b;
    int residual; /* 0 none, 1 before the activation, 2 after */
    int64_t channels, inner;
} sp_cu_epilogue;
void sp_cu_epilogue_run(const sp_cu_epilogue *e, int half, void *y, const void *bias,
                        const void *residual, int64_t n, cudaStream_t stream);

/* ---- moving (move.cu) ---- */

typedef struct sp_cu_move {
    int32_t size, rank; /* bytes of an element */
    int64_t dims[SP_CU_MOVE_RANK], src[SP_CU_MOVE_RANK], dst[SP_CU_MOVE_RANK]; /* element strides */
} sp_cu_move;
void sp_cu_move_run(const sp_cu_move *move, const void *src, void *dst, cudaStream_t stream);

/* Bytes copied from `from`, or, where that is NULL, filled with a value of 1, 2 or 4 bytes. */
typedef struct sp_cu_bulk {
    void *to;
    const void *from;
    size_t bytes;
    unsigned value, size;
} sp_cu_bulk;
/* The kernel that does it, with a sp_cu_bulk as its only argument, for a node of a graph. */
void *sp_cu_bulk_kernel(const sp_cu_bulk *bulk, dim3 *grid, dim3 *block);

typedef struct sp_cu_pad {
    int32_t size, rank, mode; /* mode: 0 constant, 1 edge, 2 reflect, 3 wrap */
    int64_t count;
    int64_t out[SP_CU_RANK], low[SP_CU_RANK], n[SP_CU_RANK], before[SP_CU_RANK],
        strides[SP_CU_RANK];
} sp_cu_pad;
/* value: device memory, or NULL for zero. */
void sp_cu_pad_run(const sp_cu_pad *pad, const void *x, const void *value, void *y,
                   cudaStream_t stream);

/* ---- indexing (gather.cu); a bad index gives zero and sets *fault ---- */

/* y[o][j][i] = x[o][index[j]][i]; sizes in blocks of `size` bytes. */
void sp_cu_gather(int size, int wide, const void *x, const void *index, void *y, int64_t outer,
                  int64_t extent, int64_t n_index, int64_t inner, int *fault, cudaStream_t stream);
typedef struct sp_cu_gather_elements {
    int32_t size, wide, rank, axis;
    int64_t count, extent;
    int64_t dims[SP_CU_RANK], strides[SP_CU_RANK]; /* of the indices; of x */
} sp_cu_gather_elements;
void sp_cu_gather_elements_run(const sp_cu_gather_elements *g, const void *x, const void *index,
                               void *y, int *fault, cudaStream_t stream);
typedef struct sp_cu_gather_nd {
    int32_t size, depth;                               /* depth: length of one index tuple */
    int64_t tuples, inner, batch_tuples, batch_stride; /* tuples of one batch, elements of x */
    int64_t dims[SP_CU_RANK], strides[SP_CU_RANK];
} sp_cu_gather_nd;
void sp_cu_gather_nd_run(const sp_cu_gather_nd *g, const void *x, const int64_t *index, void *y,
                         int *fault, cudaStream_t stream);
/* y, already a copy of x, gets the updates at the index tuples. */
void sp_cu_scatter_nd_run(const sp_cu_gather_nd *g, const void *updates, const int64_t *index,
                          void *y, int *fault, cudaStream_t stream);

/* ---- reductions (reduce.cu) ---- */

typedef enum sp_cu_reduce_kind {
    SP_CU_SUM,
    SP_CU_MEAN,
    SP_CU_SUM_SQUARE,
    SP_CU_L1,
    SP_CU_L2,
    SP_CU_LOG_SUM,
    SP_CU_LOG_SUM_EXP,
    SP_CU_MAX,
    SP_CU_MIN,
    SP_CU_PROD
} sp_cu_reduce_kind;
/* Kept and reduced dimensions with their strides in x; the result is dense in the kept ones. */
typedef struct sp_cu_reduce {
    sp_cu_reduce_kind kind;
    int32_t n_kept, n_reduced;
    int64_t outputs, total;
    int64_t kept[SP_CU_RANK], kept_stride[SP_CU_RANK];
    int64_t reduced[SP_CU_RANK], reduced_stride[SP_CU_RANK];
} sp_cu_reduce;
void sp_cu_reduce_run(const sp_cu_reduce *r, int half, const void *x, void *y, cudaStream_t stream);
void sp_cu_argmax(int least, int last, const float *x, int64_t *y, int64_t outer, int64_t extent,
                  int64_t inner, cudaStream_t stream);
void sp_cu_softmax(int logarithm, const float *x, float *y, int64_t outer, int64_t extent,
                   int64_t inner, cudaStream_t stream);

/* ---- normalisation (norm.cu) ---- */

/* Rows of `width` elements; skip (same shape), bias, scale and shift [width] or NULL; sum, mean and
 * inverse: further outputs or NULL. */
typedef struct sp_cu_row_norm {
    int64_t rows, width;
    int centred;
    float epsilon;
    int half; /* x, scale, shift and y are float16; then skip, bias, sum are NULL */
    const void *x, *skip, *scale, *shift;
    const float *bias;
    void *y;
    float *sum, *mean, *inverse;
} sp_cu_row_norm;
/* 0: not done, as float16 comes with a width or an alignment that has no kernel. */
int sp_cu_row_norm_run(const sp_cu_row_norm *r, cudaStream_t stream);
/* y = (x - mean[c]) / sqrt(var[c] + epsilon) * scale[c] + shift[c]; channel of element i as in
 * sp_cu_epilogue. */
void sp_cu_batch_norm(const float *x, const float *scale, const float *shift, const float *mean,
                      const float *var, float epsilon, float *y, int64_t n, int64_t channels,
                      int64_t inner, cudaStream_t stream);
/* Statistics of each group of channels of each image. nhwc: channels vary fastest. */
void sp_cu_group_norm(const float *x, const float *scale, const float *shift, float epsilon,
                      float *y, int64_t images, int64_t channels, int64_t groups, int64_t pixels,
                      int nhwc, cudaStream_t stream);

/* ---- windows (pool.cu, conv.cu) ---- */

/* Images [n][d][h][w] of channels with element strides; at most three spatial dimensions. */
typedef struct sp_cu_window {
    int32_t n, c_in, c_out, group;
    int32_t in[3], out[3], kernel[3], stride[3], dilation[3], begin[3], end[3];
    int64_t x_n, x_c, x_s[3], y_n, y_c, y_s[3];
} sp_cu_window;
/* kind 0: maximum; 1: average; 2: average that counts padding. type: F32, F16, or, of maxima, U8
 * and I8. */
void sp_cu_pool(int kind, sp_cu_type type, const sp_cu_window *w, const void *x, void *y,
                cudaStream_t stream);
/* Weights [kernel...][c_out], one input channel for each output channel (c_out a multiple of it).
 * way: 0, or one of the shapes of tiles, which sp_cu_depthwise_can is asked for. */
#define SP_CU_DEPTHWISE_WAYS 5
int sp_cu_depthwise_can(const sp_cu_window *w, const sp_cu_epilogue *e, int half, int way);
/* What to take where nothing is measured. */
int sp_cu_depthwise_way(const sp_cu_window *w, const sp_cu_epilogue *e, int half);
void sp_cu_depthwise(const sp_cu_window *w, const sp_cu_epilogue *e, int half, int way,
                     const void *x, const void *weight, const void *bias, const void *residual,
                     void *y, cudaStream_t stream);
/* Weights [c_out][kernel...][c_in / group]. large: tiles of 128 x 128 instead of 64 x 64. splits:
 * parts that the inner dimension is cut into, for more blocks than there are tiles; above 1 they
 * need sp_cu_conv_workspace bytes. */
int sp_cu_conv_splits(const sp_cu_window *w, int large, int processors);
size_t sp_cu_conv_workspace(const sp_cu_window *w, int splits);
void sp_cu_conv(const sp_cu_window *w, const sp_cu_epilogue *e, int large, int splits,
                void *workspace, const float *x, const float *weight, const float *bias,
                const float *residual, float *y, cudaStream_t stream);
/* The same on tensor cores (sm_80 and newer), images with the channel last, one group, at most two
 * spatial dimensions; half: all tensors are float16, else float32 rounded to TF32. tile: one of the
 * shapes of tiles. splits as above: above 1 it needs sp_cu_tensor_workspace bytes, and arrivals,
 * one zeroed counter for each tile, which are zero again afterwards. */
#define SP_CU_TENSOR_TILES 5
int sp_cu_tensor_can(const sp_cu_window *w, int half);
/* Whether a device with so much shared memory for a block can launch that tile. */
int sp_cu_tensor_fits(const sp_cu_window *w, int tile, size_t shared_limit);
int sp_cu_tensor_tile_count(const sp_cu_window *w, int tile);
int sp_cu_tensor_splits(const sp_cu_window *w, int half, int tile, int processors);
size_t sp_cu_tensor_workspace(const sp_cu_window *w, int splits);
void sp_cu_tensor(const sp_cu_window *w, const sp_cu_epilogue *e, int half, int tile, int splits,
                  void *workspace, unsigned *arrivals, const void *x, const void *weight,
                  const void *bias, const void *residual, void *y, cudaStream_t stream);
/* The same in float16 where taps times input channels are few: the first of a network (few.cu). */
int sp_cu_few_can(const sp_cu_window *w, const sp_cu_epilogue *e);
void sp_cu_few(const sp_cu_window *w, const sp_cu_epilogue *e, const void *x, const void *weight,
               const void *bias, void *y, cudaStream_t stream);
/* 3x3 with stride 1, channels fastest, float32 (winograd.cu): weights [c_out][9][c_in] become
 * [36][c_out][c_in], the image [36][tile][c_in]; what comes back are products [36][tile][c_out]. */
#define SP_CU_WINOGRAD_POINTS 36
int sp_cu_winograd_can(const sp_cu_window *w);
int64_t sp_cu_winograd_tiles(const sp_cu_window *w);
void sp_cu_winograd_weight(const float *weight, float *u, int64_t c_out, int64_t c_in,
                           cudaStream_t stream);
void sp_cu_winograd_input(const sp_cu_window *w, const float *x, float *to, cudaStream_t stream);
void sp_cu_winograd_output(const sp_cu_window *w, const sp_cu_epilogue *e, const float *m,
                           const float *bias, const float *residual, float *y, cudaStream_t stream);
/* Weights [group][kernel...][c_in / group][c_out / group]. */
void sp_cu_conv_transpose(const sp_cu_window *w, const sp_cu_epilogue *e, const float *x,
                          const float *weight, const float *bias, const float *residual, float *y,
                          cudaStream_t stream);

/* One axis as a table: output o is the sum of weight[o * taps + t] * input[start[o] + t]. */
typedef struct sp_cu_resize {
    int32_t rank, n_active;
    int64_t count;
    int64_t out[SP_CU_RANK], strides[SP_CU_RANK]; /* output dims; input strides */
    int32_t active[3], taps[3];
    const int32_t *start[3]; /* device memory; -1: outside */
    const float *weight[3];  /* device memory; NULL: one tap of weight 1 */
    float extrapolation;
} sp_cu_resize;
void sp_cu_resize_run(const sp_cu_resize *r, const float *x, float *y, cudaStream_t stream);

/* ---- attention (attention.cu) ---- */

/* Softmax(scale q k^T + mask) v for each head, without storing the scores. Rows of q, k, v and y
 * are contiguous; strides in elements. Query heads share key heads where there are fewer of them.
 */
typedef struct sp_cu_attention {
    int32_t half, tf32; /* all tensors are float16; products may round their operands to TF32 */
    int32_t mask_kind; /* 0 none; 1 bool: where false, a key does not count; 2 added, of x's type */
    int32_t causal;    /* query i sees keys 0..i */
    int64_t batch, heads, kv_heads, q_len, kv_len;
    int32_t head, v_head; /* elements of a row of q and k, of v and y: 1..256 */
    float scale;
    int64_t q[3], k[3], v[3], y[3]; /* strides of batch, head, row */
    int64_t mask[4];                /* of image, head, row, key */
    int64_t part; /* elements from q to k and from k to v, where they are parts of one tensor */
    int64_t mask_images; /* image b uses mask b % mask_images; at least 1 */
} sp_cu_attention;
void sp_cu_attention_run(const sp_cu_attention *a, int processor, const void *q, const void *k,
                         const void *v, const void *mask, void *y, cudaStream_t stream);

/* ---- 8-bit integers (quant.cu, conv_q8.cu); scales and zero points lie in device memory ---- */

/* x as [outer][axis][inner]; scales: 1, or one for each index of the axis or, where block is above
 * 0, for each block of the axis at each index of the rest. size, is_signed: of the integers. */
typedef struct sp_cu_quant {
    int32_t size, is_signed;
    int64_t count, axis, inner, block, scales;
} sp_cu_quant;
/* x: float32, or int32 (integers). zero: NULL for 0. */
void sp_cu_quantize(const sp_cu_quant *q, int integers, const void *x, const float *scale,
                    const void *zero, void *y, cudaStream_t stream);
void sp_cu_dequantize(const sp_cu_quant *q, const void *x, const float *scale, const void *zero,
                      float *y, cudaStream_t stream);
/* ONNX DynamicQuantizeLinear; outputs may be NULL. */
size_t sp_cu_dynamic_workspace(void);
void sp_cu_dynamic_quantize(const float *x, int64_t n, uint8_t *y, float *scale, uint8_t *zero,
                            void *workspace, cudaStream_t stream);

/* Types and parameters of an operator on 8-bit tensors; w: the second operand. */
typedef struct sp_cu_q8 {
    int32_t x_signed, w_signed, y_signed;
    int32_t w_scales, w_zeros;            /* 1, or one for each output channel */
    int32_t raw;                          /* the result is int32, as summed up */
    const void *x_zero, *w_zero, *y_zero; /* NULL: 0 */
    const float *x_scale, *w_scale, *y_scale;
    const int32_t *bias;   /* or NULL */
    const int32_t *w_sums; /* of each channel's weights as signed bytes, where those have no zero
                              point; NULL: to be found */
} sp_cu_q8;
/* Weights: value k of output channel n at n * f_n + k * f_k, k counting taps, then channels. */
int sp_cu_conv_q8_direct(const sp_cu_window *w); /* wants f_n 1: the channel varies fastest */
void sp_cu_conv_q8(const sp_cu_window *w, const sp_cu_q8 *q, int64_t f_n, int64_t f_k,
                   const void *x, const void *weight, void *y, cudaStream_t stream);
void sp_cu_pair_q8(int multiply, const sp_cu_space *s, const sp_cu_q8 *q, const void *a,
                   const void *b, void *y, cudaStream_t stream);
/* kind 0: sigmoid; 1: leaky ReLU. */
void sp_cu_table_q8(int kind, float alpha, const sp_cu_q8 *q, const void *x, void *y, int64_t n,
                    cudaStream_t stream);
void sp_cu_softmax_q8(const sp_cu_q8 *q, int64_t outer, int64_t count, int64_t inner, const void *x,
                      void *y, cudaStream_t stream);
/* padding: it counts. */
void sp_cu_average_q8(const sp_cu_window *w, const sp_cu_q8 *q, int padding, const void *x, void *y,
                      cudaStream_t stream);

/* ---- recurrent networks (rnn.cu) ---- */

#define SP_CU_RNN_FNS 11 /* activations, in the order of sp_rnn_fn (src/ops/rnn.h) */
typedef struct sp_cu_rnn {
    int32_t gates; /* 1: RNN, 3: GRU, 4: LSTM */
    int32_t dirs, reverse, batch_first, linear_before_reset, input_forget;
    float clip; /* INFINITY: none */
    int32_t steps, batch, hidden;
    int32_t act[2][3]; /* by direction */
    float a[2][3], b[2][3];
    const float *projected;           /* x W of all steps: [dir][row of x][gates * hidden] */
    const float *r, *bias, *peephole; /* as the operator has them; the last two may be NULL */
    const int32_t *lengths;           /* or NULL */
    const float *h0, *c0;             /* or NULL */
    float *y, *y_h, *y_c;             /* or NULL */
    float *state;                     /* sp_cu_rnn_state bytes of workspace */
    int *fault;                       /* set where a length is out of range */
} sp_cu_rnn;
size_t sp_cu_rnn_state(const sp_cu_rnn *r);
void sp_cu_rnn_run(const sp_cu_rnn *r, cudaStream_t stream);

/* ---- products (gemm.cu) ---- */

/* y[b][m][n] = alpha * sum_k a[b][m][k] * b[b][k][n], any strides. */
typedef struct sp_cu_gemm {
    int64_t m, n, k, batch;
    int64_t a_m, a_k, a_batch, b_k, b_n, b_batch, y_batch;
    float alpha;
} sp_cu_gemm;
/* y = epilogue(x w^T), x [m][k], y [m][n], w [n][k] sparse (spmm.cu). The inner dimension is cut
 * into pieces; entries (column within the piece, value) of each piece by row, each row's filled up
 * to fours; starts[piece * n + row]: where they begin, in fours. tile: one of the shapes of tiles.
 */
#define SP_CU_SPMM_TILES 4
#define SP_CU_SPMM_PIECE 128
typedef struct sp_cu_csr {
    int64_t n, k, count; /* count: non-zeros */
    const int *starts;   /* pieces * n + 1 */
    const void *entries;
} sp_cu_csr;
int sp_cu_spmm_fits(int tile, size_t shared_limit);
void sp_cu_spmm(const sp_cu_csr *w, int tile, const sp_cu_epilogue *e, int64_t m, const float *x,
                const float *bias, const float *residual, float *y, cudaStream_t stream);
/* Few channels and many rows, on tensor cores (thin.cu): y = epilogue(x w^T), x [m][k], y [m][n], w
 * [n][k]; the activation must be a cheap one. half: as for sp_cu_tensor. way: one of the shapes.
 * All addresses are multiples of 16. */
#define SP_CU_THIN_WAYS 6
int sp_cu_thin_can(const sp_cu_gemm *g, const sp_cu_epilogue *e, int half, int way,
                   size_t shared_limit);
void sp_cu_thin(const sp_cu_gemm *g, const sp_cu_epilogue *e, int half, int way, const void *x,
                const void *weight, const void *bias, const void *residual, void *y,
                cudaStream_t stream);
void sp_cu_gemm_run(const sp_cu_gemm *g, int half, const void *a, const void *b, void *y,
                    cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
