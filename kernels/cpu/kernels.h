/*
 * kernels.h - the inner loops of the CPU, as one table of functions per instruction set. Plain
 * pointers, no graph types. Nothing here allocates; sizes are in elements; float pointers need the
 * alignment of a float only, packed blocks that of 64 bytes. Which table this machine can use:
 * sp_cpu_kernels (backends/cpu/kernel.h).
 */
#ifndef SP_KERNELS_CPU_KERNELS_H
#define SP_KERNELS_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What happens to a product before it is stored. The numbers of act are those of enum sp_act
 * (ops/epilogue.h). */
typedef struct sp_gemm_epilogue {
    int act;
    float a, b;
    int residual; /* 0: none; 1: added before the activation; 2: after it */
} sp_gemm_epilogue;

/* C[m,n] = sum over taps t of A_t[m,k] B_t[k,n], plus bias, then the epilogue. Row i of A_t is at
 * rows[t * row_stride + i], or, with rows NULL, at bases[t] + i * lda, or, with both NULL and one
 * tap, at a + i * lda. */
typedef struct sp_gemm_f32 {
    size_t m, n, k, taps;
    const float *const *rows;
    size_t row_stride;
    const float *const *bases;
    const float *a;
    size_t lda;
    bool windows;      /* the rows of A overlap, as those of a signal do */
    const float *b;    /* packed by gemm_f32_pack, bias included */
    const float *next; /* the b that the caller goes on with, of the same size, or NULL */
    float *c;
    size_t ldc;
    const float *residual; /* [m, ldr] or NULL */
    size_t ldr;
    sp_gemm_epilogue epilogue;
} sp_gemm_f32;

/* Where gemm_f32_pack takes B from: element (t, k, n) at b[t * tap_stride + k * k_stride + n *
 * n_stride]. */
typedef struct sp_gemm_f32_source {
    size_t n, k, taps;
    const float *b;
    size_t tap_stride, k_stride, n_stride;
    const float *bias; /* [n] or NULL */
    float scale;       /* of B; bias is taken as it is */
} sp_gemm_f32_source;

/* What packing a pruned B takes: made by spmm_f32_measure. */
typedef struct sp_spmm_f32_size {
    size_t n, k, nonzeros;
    size_t entries;       /* nonzeros and the zeros that make columns equally long */
    size_t blocks, depth; /* k is cut into blocks of so many */
    size_t bytes;
} sp_spmm_f32_size;

/* What parts of dense and sparse products take, in one unit of time; spmm_run.c adds them up. */
typedef struct sp_spmm_costs {
    double entry, vector;        /* an entry in a tile, and for each vector of rows */
    double column, finish, turn; /* a column in a block and tile; a vector of results, of A */
    double dense, dense_finish;  /* a vector of multiply-adds, of results */
    double row_entry, row_column, row_dense; /* one row: entry, column, vector of weights */
    double margin;                           /* dense must be so many times slower */
} sp_spmm_costs;

/* C[m,n] = A[m,k] B[k,n] plus bias, then the epilogue, where most of B is zero. What stands in A
 * under a zero is not looked at, an infinity or NaN included. Row i of A is at rows[i], or, with
 * rows NULL, at a + i * lda. */
typedef struct sp_spmm_f32 {
    const void *b; /* packed by spmm_f32_pack, bias included */
    const float *const *rows;
    const float *a;
    size_t lda;
    float *c;
    size_t ldc;
    const float *residual; /* [m, ldr] or NULL */
    size_t ldr;
    sp_gemm_epilogue epilogue;
    float *scratch; /* spmm_f32_scratch_floats, of this call alone */
} sp_spmm_f32;

/* One row of outputs of a depthwise convolution, [width, channels], or two whose windows lie one
 * input row apart. Input row r (0..kh-1, kh with two) is at in[r], with in_stride[r] floats from
 * pixel to pixel: 0 makes one zero pixel serve as a row of padding. */
typedef struct sp_dwconv_f32 {
    int kh, kw, stride_w, dilation_w, pad_left;
    size_t channels, in_width, out_width;
    const float *const *in;
    const size_t *in_stride;
    const float *w; /* packed by dwconv_f32_pack: [block of VL channels][bias, kh * kw][VL] */
    float *out;
    size_t out_stride;     /* floats from pixel to pixel of out and residual */
    const float *residual; /* as out, or NULL */
    sp_gemm_epilogue epilogue;
    float *sums;     /* [channels]: what is stored is added to it; or NULL */
    bool two;        /* rows of outputs */
    size_t next_row; /* two: floats from the first to the second in out and residual */
} sp_dwconv_f32;

/* Weights of groups of few channels: [groups * c_out, c_in, taps]. */
typedef struct sp_gconv_f32_source {
    size_t groups, c_in, c_out, taps; /* channels of one group */
    const float *w, *bias;            /* bias: [groups * c_out] or NULL */
} sp_gconv_f32_source;

/* One row of outputs, [width, groups * c_out], of a convolution of groups of few channels; kh and
 * in as in sp_dwconv_f32. */
typedef struct sp_gconv_f32 {
    int kh, kw, stride_w, dilation_w, pad_left;
    size_t groups, c_in, c_out, in_width, out_width;
    const float *const *in;
    const size_t *in_stride;
    const float *w; /* packed by gconv_f32_pack */
    float *out;
    size_t out_stride;     /* floats from pixel to pixel of out and residual */
    const float *residual; /* as out, or NULL */
    sp_gemm_epilogue epilogue;
} sp_gconv_f32;

/* Winograd's F(4x4, 3x3), one tile: 6x6 input pixels to 36 rows of V, and 36 rows of M to 4x4
 * output pixels. Row i is at v + i * v_stride (m + i * m_stride). */
typedef struct sp_winograd_in_f32 {
    size_t channels;
    const float *const *in; /* 36 pixels, row by row */
    float *v;
    size_t v_stride;
} sp_winograd_in_f32;

/* Weights of n output channels, [n][k][3 x 3], to 36 matrices of k rows packed as gemm_f32_pack
 * does it, without bias, `group` floats after each other. */
typedef struct sp_winograd_weights_f32 {
    size_t n, k, group;
    const float *w;
    float *packed;
} sp_winograd_weights_f32;

typedef struct sp_winograd_out_f32 {
    size_t c0, c1; /* channels to compute */
    const float *m;
    size_t m_stride;
    const float *bias; /* or NULL */
    float *out;
    const float *residual;
    size_t line, pixel; /* floats between lines and pixels of out and residual */
    int rows, columns;  /* of the tile that are inside the image, 1..4 */
    sp_gemm_epilogue epilogue;
} sp_winograd_out_f32;

/* From 32-bit sums to 8 bits: q = clamp(round((sum + offset) * factor) + zero, lo, hi), by column.
 */
typedef struct sp_q8_output {
    const int32_t *offset;
    const float *factor;
    int32_t zero, lo, hi;
} sp_q8_output;

/* C[m,n] = A[m,k] B[k,n] on 8-bit integers: A unsigned after an exclusive or with flip (0 or
 * 0x80808080), B signed and packed by gemm_q8_pack. dot: packed for the dot-product instruction,
 * and rows of A may be read up to the next multiple of 4 bytes. */
typedef struct sp_gemm_q8 {
    size_t n, k;
    const uint8_t *a;
    size_t lda;
    const int8_t *b;
    uint8_t *c;
    size_t ldc;
    uint32_t flip;
    bool dot;
    sp_q8_output out;
} sp_gemm_q8;

/* Depthwise: one output pixel from taps input pixels. */
typedef struct sp_dwconv_q8 {
    size_t channels, taps;
    const int32_t *w; /* [taps, channels] */
    uint8_t flip;     /* 0 or 0x80 */
    sp_q8_output out;
} sp_dwconv_q8;

/* Depthwise by rows, where the machine has the dot product: weights [channels, kh, kw], with the
 * offset and factor of sp_q8_output by channel. */
typedef struct sp_dwconv_q8_weights {
    size_t channels, kh, kw;
    const int8_t *w;
    const int32_t *offset;
    const float *factor;
} sp_dwconv_q8_weights;

/* One row of out_w output pixels. Scratch: 256 bytes by column of the image that the row looks at,
 * ((out_w - 1) * stride + (kw - 1) * dilation + 1 of them), and by four kernel rows. */
typedef struct sp_dwconv_q8_row {
    size_t channels, kh, kw, stride, dilation, in_w, out_w;
    ptrdiff_t pad_left;
    const uint8_t *const *rows; /* first pixel of the image's row under each kernel row, or NULL */
    uint8_t pad, flip;          /* a pixel outside, before the flip; 0 or 0x80 */
    const int8_t *packed;
    uint8_t *scratch, *out;
    int32_t zero, lo, hi;
} sp_dwconv_q8_row;

/* Values of 8-bit tensors: (x - zero) * scale, signed ones where flip is 0x80. */
typedef struct sp_q8_input {
    float scale;
    int32_t zero;
    uint8_t flip;
} sp_q8_input;

typedef struct sp_q8_sum {
    float scale;
    int32_t zero, lo, hi;
} sp_q8_sum;

typedef enum sp_unary {
    SP_UNARY_EXP,
    SP_UNARY_LOG,
    SP_UNARY_SIN,
    SP_UNARY_COS,
    SP_UNARY_ERF,
    SP_UNARY_SQRT,
    SP_UNARY_NEG,
    SP_UNARY_ABS,
    SP_UNARY_FLOOR,
    SP_UNARY_CEIL,
    SP_UNARY_ROUND, /* ties to even */
    SP_UNARY_RECIPROCAL,
    SP_UNARY_ELU,  /* below 0 a (exp(x) - 1), else b x */
    SP_UNARY_CELU, /* below 0 a (exp(x / a) - 1), else x */
    SP_UNARY_SOFTPLUS,
    SP_UNARY_SWISH, /* x / (1 + exp(-a x)) */
    SP_UNARY_MISH
} sp_unary;

typedef enum sp_binary {
    SP_BINARY_ADD,
    SP_BINARY_SUB,
    SP_BINARY_MUL,
    SP_BINARY_DIV,
    SP_BINARY_COUNT
} sp_binary;

/* From one type to another, as the operator Cast says; bytes of bools are 0 or 1. */
typedef enum sp_cast {
    SP_CAST_F32_OF_F16,
    SP_CAST_F32_OF_BF16,
    SP_CAST_F16_OF_F32,
    SP_CAST_BF16_OF_F32,
    SP_CAST_I32_OF_F32,
    SP_CAST_I64_OF_F32,
    SP_CAST_U8_OF_F32,
    SP_CAST_I8_OF_F32,
    SP_CAST_BOOL_OF_F32
} sp_cast;

/* An integer lo..hi of 8 bits is x / scale, rounded (ties to even), plus zero; of a NaN it is lo.
 */
typedef struct sp_quantize_f32 {
    float scale;
    int32_t zero, lo, hi;
} sp_quantize_f32;

/* y = (x - mean - rest) * scale + shift: a mean in double is the sum of two floats. */
typedef struct sp_affine_f32 {
    const float *mean, *rest, *scale, *shift;
} sp_affine_f32;

/* How floats join what they are folded into. A NaN wins in both extremes. */
typedef enum sp_fold {
    SP_FOLD_SUM,
    SP_FOLD_SQUARE,
    SP_FOLD_ABS,
    SP_FOLD_PROD,
    SP_FOLD_MAX,
    SP_FOLD_MIN
} sp_fold;

/* out[c] = max, or sum times scale, over `count` pixels: in[i][c], or, with in NULL, base[i *
 * stride + c]. */
typedef struct sp_pool_f32 {
    size_t channels, count;
    const float *const *in;
    const float *base;
    size_t stride;
    bool max;
    float scale;
    float *out;
} sp_pool_f32;

/* A line of outputs of a pool from `rows` lines of the image, at least one: pixel x is the largest,
 * or the sum times scale[x], of their pixels x * stride - pad + k * dilation, k < taps, that exist.
 */
typedef struct sp_pool_line_f32 {
    size_t channels, in_width, out_width, rows;
    ptrdiff_t taps, stride, dilation, pad;
    bool max;
    const float *const *in;
    const float *scale; /* by output pixel, of sums only */
    float *out;
} sp_pool_line_f32;

typedef struct sp_kernels {
    const char *isa;
    int32_t vector; /* floats in a vector */

    /* Matrix product. A panel is a group of columns; a call computes rows m0..m1-1 of panels
     * p0..p1-1. */
    /* names of variants: "gemm_f32_12x32__avx512", ... "f32__avx512" */
    const char *gemm_name, *conv_name, *dwconv_name, *gconv_name, *winograd_name, *attention_name,
        *q8_name, *spmm_name, *name;
    int32_t gemm_rows;    /* rows of a register tile */
    int32_t gemm_columns; /* columns of a panel; the last may have another width */
    size_t (*gemm_f32_panels)(size_t n);
    size_t (*gemm_f32_packed_floats)(size_t n, size_t k_total); /* k_total: k * taps */
    void (*gemm_f32_pack)(const sp_gemm_f32_source *source, size_t p0, size_t p1, float *packed);
    /* Panels p0..p1-1 of a packed B of one tap, row k of it times scale[k], to the same places. */
    void (*gemm_f32_scale)(size_t n, size_t k, const float *packed, const float *scale, size_t p0,
                           size_t p1, float *to);
    void (*gemm_f32)(const sp_gemm_f32 *g, size_t m0, size_t m1, size_t p0, size_t p1);

    /* Pruned B: one tap, k_stride and n_stride of the source as there. row: for products of one row
     * of A. Entries and nonzeros must stay below 2^32. A call computes columns n0..n1-1 of rows
     * m0..m1-1; n0 is a multiple of 16. */
    void (*spmm_f32_measure)(const sp_gemm_f32_source *source, bool row, sp_spmm_f32_size *size);
    void (*spmm_f32_pack)(const sp_gemm_f32_source *source, const sp_spmm_f32_size *size,
                          void *packed);
    int32_t spmm_rows; /* of a tile */
    sp_spmm_costs spmm_costs;
    size_t (*spmm_f32_scratch_floats)(const sp_spmm_f32_size *size);
    void (*spmm_f32)(const sp_spmm_f32 *g, size_t m0, size_t m1, size_t n0, size_t n1);

    size_t (*dwconv_f32_packed_floats)(size_t channels, size_t taps);
    /* w: [channels, taps] */
    void (*dwconv_f32_pack)(size_t channels, size_t taps, const float *w, const float *bias,
                            float *packed);
    void (*dwconv_f32)(const sp_dwconv_f32 *d);

    /* Whether groups of so many channels have a kernel: several of them fit a vector. */
    bool (*gconv_f32_takes)(size_t c_in, size_t c_out);
    size_t (*gconv_f32_packed_floats)(size_t groups, size_t c_in, size_t c_out, size_t taps);
    void (*gconv_f32_pack)(const sp_gconv_f32_source *source, float *packed);
    void (*gconv_f32)(const sp_gconv_f32 *d);

    void (*winograd_weights_f32)(const sp_winograd_weights_f32 *w, size_t p0, size_t p1);
    void (*winograd_in_f32)(const sp_winograd_in_f32 *w);
    void (*winograd_out_f32)(const sp_winograd_out_f32 *w);

    /* 8-bit integers. dot: B packed for the dot-product instruction, which the caller has checked
     * that the machine has. b: element (k, n) at b[n * n_stride + k]. Rows m0..m1-1. */
    size_t (*gemm_q8_packed_bytes)(size_t n, size_t k, bool dot);
    void (*gemm_q8_pack)(size_t n, size_t k, bool dot, const int8_t *b, size_t n_stride,
                         int8_t *packed);
    void (*gemm_q8)(const sp_gemm_q8 *g, size_t m0, size_t m1);
    size_t (*dwconv_q8_packed_bytes)(size_t channels, size_t kh, size_t kw);
    void (*dwconv_q8_pack)(const sp_dwconv_q8_weights *w, int8_t *packed);
    void (*dwconv_q8_row)(const sp_dwconv_q8_row *d);
    /* out = a + b */
    void (*add_q8)(size_t n, const uint8_t *a, const sp_q8_input *qa, const uint8_t *b,
                   const sp_q8_input *qb, const sp_q8_sum *y, uint8_t *out);
    /* Sums over pixels `stride` bytes apart, by channel, of bytes after the flip. */
    void (*sum_q8)(size_t pixels, size_t channels, size_t stride, const uint8_t *x, uint8_t flip,
                   int32_t *sums);
    /* The largest of `taps` pixels, by channel. */
    void (*max_q8)(size_t channels, size_t taps, const uint8_t *const *in, uint8_t flip,
                   uint8_t *out);
    void (*dwconv_q8)(const sp_dwconv_q8 *d, const uint8_t *const *in, uint8_t *out);

    /* Element by element; y may be x. Activations are named by enum sp_act. */
    void (*act_f32)(int act, float a, float b, size_t n, const float *x, float *y);
    void (*unary_f32)(sp_unary op, float a, float b, size_t n, const float *x, float *y);
    void (*cast)(sp_cast kind, size_t n, const void *x, void *y);
    void (*quantize_f32)(size_t n, const sp_quantize_f32 *q, const float *x, uint8_t *y);
    /* The smallest and largest of n floats and 0, NaNs left out. */
    void (*range_f32)(size_t n, const float *x, float *least, float *most);
    /* A stride of 0 repeats one element, 1 walks. y may be a or b where they walk. */
    void (*binary_f32)(sp_binary op, size_t n, const float *a, int a_stride, const float *b,
                       int b_stride, float *y);
    /* Pixels of `channels` planes that lie `stride` floats apart: out[i * channels + c] = in[c *
     * stride + i], i < n. */
    void (*weave_f32)(size_t n, size_t channels, const float *in, size_t stride, float *out);

    /* In place: row i (x + i * ldx) becomes softmax(row + mask + i * ldm), or zeros where all of it
     * is -infinity; mask NULL: none. Writes up to the next multiple of a vector behind n. */
    void (*softmax_masked_f32)(size_t rows, size_t n, float *x, size_t ldx, const float *mask,
                               size_t ldm);
    /* Rows of n floats, one after the other; y may be x. */
    void (*softmax_f32)(size_t rows, size_t n, const float *x, float *y);
    void (*log_softmax_f32)(size_t rows, size_t n, const float *x, float *y);
    /* Columns of n floats that lie `stride` apart; its logarithm, if wanted. y may be x. */
    void (*softmax_columns_f32)(bool log, size_t n, size_t columns, size_t stride, const float *x,
                                float *y);
    /* centred: the mean is taken off. scale and bias: [n]; bias may be NULL. mean, inv_std: [rows]
     * or NULL. */
    void (*layernorm_f32)(size_t rows, size_t n, bool centred, float epsilon, const float *x,
                          const float *scale, const float *bias, float *y, float *mean,
                          float *inv_std);

    /* acc[i] and n floats become acc[i], in double: x[i * stride + k] of rows i, k < n, or
     * x[k * stride + i] of columns i. */
    void (*fold_rows_f32)(sp_fold fold, size_t rows, size_t n, const float *x, size_t stride,
                          double *acc);
    void (*fold_columns_f32)(sp_fold fold, size_t n, size_t columns, const float *x, size_t stride,
                             double *acc);

    /* Where the largest or smallest of row or column i is, the first or last of equal ones; a NaN
     * is both. n > 0. */
    void (*arg_rows_f32)(bool min, bool last, size_t rows, size_t n, const float *x,
                         int64_t *index);
    void (*arg_columns_f32)(bool min, bool last, size_t n, size_t columns, const float *x,
                            size_t stride, int64_t *index);
    /* Adds to *sum what n floats are above `shift`, and to *square the squares of that. */
    void (*moments_f32)(size_t n, const float *x, float shift, double *sum, double *square);
    void (*affine_f32)(size_t n, const sp_affine_f32 *a, const float *x, float *y);
    /* The same of each column of a matrix, with a shift, sum, mean and so on of its own. */
    void (*moments_columns_f32)(size_t rows, size_t columns, const float *x, const float *shift,
                                double *sum, double *square);
    void (*affine_columns_f32)(size_t rows, size_t columns, const sp_affine_f32 *a, const float *x,
                               float *y);

    void (*pool_f32)(const sp_pool_f32 *p);
    void (*pool_line_f32)(const sp_pool_line_f32 *p);

    /* Measuring. peak_fma: `rounds` of register-only multiply-adds, returns the operations done;
     * *sink in and out is 0..1. peak_read: reads n floats. */
    double (*peak_fma_f32)(size_t rounds, float *sink);
    float (*peak_read_f32)(size_t n, const float *x);
} sp_kernels;

#if defined(__x86_64__)
extern const sp_kernels sp_kernels__avx512, sp_kernels__avx2;
#elif defined(__aarch64__)
extern const sp_kernels sp_kernels__neon;
#endif
extern const sp_kernels sp_kernels__generic;

/* The inner loops for an instruction set by name ("avx512", "avx2", "neon", "generic"), NULL where
 * this machine lacks it or the name is unknown. isa NULL or "": the best this machine has, never
 * NULL. */
const sp_kernels *sp_cpu_kernels(const char *isa);

/* Writes the names of those that this machine has, with commas, and returns text. */
const char *sp_cpu_isas(char *text, size_t size);

#endif
