/* protos.h - what the files of this folder define, for the ISA being compiled; kernels.h says what
 * each does. */
#ifndef SP_KERNELS_CPU_PROTOS_H
#define SP_KERNELS_CPU_PROTOS_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/kernels.h"

size_t SP_KERNEL(sp_gemm_f32_panels)(size_t n);
size_t SP_KERNEL(sp_gemm_f32_packed_floats)(size_t n, size_t k_total);
void SP_KERNEL(sp_gemm_f32_pack)(const sp_gemm_f32_source *s, size_t p0, size_t p1, float *packed);
void SP_KERNEL(sp_gemm_f32_scale)(size_t n, size_t k, const float *packed, const float *scale,
                                  size_t p0, size_t p1, float *to);
void SP_KERNEL(sp_gemm_f32)(const sp_gemm_f32 *g, size_t m0, size_t m1, size_t p0, size_t p1);
/* One row that is mostly zeros: whether skipping them pays, and panels p0..p1-1. */
bool SP_KERNEL(sp_gemm_skip_pays)(const sp_gemm_f32 *g);
void SP_KERNEL(sp_gemm_skip_f32)(const sp_gemm_f32 *g, size_t p0, size_t p1);
/* Products of few columns: whether they pay, and rows m0..m1-1 without the epilogue. */
bool SP_KERNEL(sp_gemm_few_pays)(const sp_gemm_f32 *g);
void SP_KERNEL(sp_gemm_few_f32)(const sp_gemm_f32 *g, size_t m0, size_t m1);
void SP_KERNEL(sp_spmm_f32_measure)(const sp_gemm_f32_source *s, bool row, sp_spmm_f32_size *size);
void SP_KERNEL(sp_spmm_f32_pack)(const sp_gemm_f32_source *s, const sp_spmm_f32_size *size,
                                 void *packed);
size_t SP_KERNEL(sp_spmm_f32_scratch_floats)(const sp_spmm_f32_size *size);
void SP_KERNEL(sp_spmm_f32)(const sp_spmm_f32 *g, size_t m0, size_t m1, size_t n0, size_t n1);
size_t SP_KERNEL(sp_dwconv_f32_packed_floats)(size_t channels, size_t taps);
void SP_KERNEL(sp_dwconv_f32_pack)(size_t channels, size_t taps, const float *w, const float *bias,
                                   float *packed);
void SP_KERNEL(sp_dwconv_f32)(const sp_dwconv_f32 *d);
bool SP_KERNEL(sp_gconv_f32_takes)(size_t c_in, size_t c_out);
size_t SP_KERNEL(sp_gconv_f32_packed_floats)(size_t groups, size_t c_in, size_t c_out, size_t taps);
void SP_KERNEL(sp_gconv_f32_pack)(const sp_gconv_f32_source *source, float *packed);
void SP_KERNEL(sp_gconv_f32)(const sp_gconv_f32 *d);
void SP_KERNEL(sp_winograd_weights_f32)(const sp_winograd_weights_f32 *w, size_t p0, size_t p1);
void SP_KERNEL(sp_winograd_in_f32)(const sp_winograd_in_f32 *w);
void SP_KERNEL(sp_winograd_out_f32)(const sp_winograd_out_f32 *w);
size_t SP_KERNEL(sp_gemm_q8_packed_bytes)(size_t n, size_t k, bool dot);
void SP_KERNEL(sp_gemm_q8_pack)(size_t n, size_t k, bool dot, const int8_t *b, size_t n_stride,
                                int8_t *packed);
void SP_KERNEL(sp_gemm_q8)(const sp_gemm_q8 *g, size_t m0, size_t m1);
size_t SP_KERNEL(sp_dwconv_q8_packed_bytes)(size_t channels, size_t kh, size_t kw);
void SP_KERNEL(sp_dwconv_q8_pack)(const sp_dwconv_q8_weights *w, int8_t *packed);
void SP_KERNEL(sp_dwconv_q8_row)(const sp_dwconv_q8_row *d);
void SP_KERNEL(sp_add_q8)(size_t n, const uint8_t *a, const sp_q8_input *qa, const uint8_t *b,
                          const sp_q8_input *qb, const sp_q8_sum *y, uint8_t *out);
void SP_KERNEL(sp_sum_q8)(size_t pixels, size_t channels, size_t stride, const uint8_t *x,
                          uint8_t flip, int32_t *sums);
void SP_KERNEL(sp_max_q8)(size_t channels, size_t taps, const uint8_t *const *in, uint8_t flip,
                          uint8_t *out);
void SP_KERNEL(sp_dwconv_q8)(const sp_dwconv_q8 *d, const uint8_t *const *in, uint8_t *out);
/* An epilogue on sums in memory, [rows][width] in whole vectors, `columns` of which are stored. */
typedef struct sp_finish_f32 {
    const sp_gemm_epilogue *epilogue;
    size_t rows, width, columns;
    const float *residual; /* row i at residual + i * stride, or NULL */
    size_t stride;
    float *out;
    size_t out_stride;
} sp_finish_f32;
void SP_KERNEL(sp_finish_f32)(const sp_finish_f32 *f, float *sums);
void SP_KERNEL(sp_act_f32)(int act, float a, float b, size_t n, const float *x, float *y);
void SP_KERNEL(sp_weave_f32)(size_t n, size_t channels, const float *in, size_t stride, float *out);
void SP_KERNEL(sp_unary_f32)(sp_unary op, float a, float b, size_t n, const float *x, float *y);
void SP_KERNEL(sp_cast)(sp_cast kind, size_t n, const void *x, void *y);
void SP_KERNEL(sp_quantize_f32)(size_t n, const sp_quantize_f32 *q, const float *x, uint8_t *y);
void SP_KERNEL(sp_range_f32)(size_t n, const float *x, float *least, float *most);
void SP_KERNEL(sp_binary_f32)(sp_binary op, size_t n, const float *a, int a_stride, const float *b,
                              int b_stride, float *y);
void SP_KERNEL(sp_softmax_masked_f32)(size_t rows, size_t n, float *x, size_t ldx,
                                      const float *mask, size_t ldm);
void SP_KERNEL(sp_softmax_f32)(size_t rows, size_t n, const float *x, float *y);
void SP_KERNEL(sp_log_softmax_f32)(size_t rows, size_t n, const float *x, float *y);
void SP_KERNEL(sp_softmax_columns_f32)(bool log, size_t n, size_t columns, size_t stride,
                                       const float *x, float *y);
void SP_KERNEL(sp_layernorm_f32)(size_t rows, size_t n, bool centred, float epsilon, const float *x,
                                 const float *scale, const float *bias, float *y, float *mean,
                                 float *inv_std);
void SP_KERNEL(sp_fold_rows_f32)(sp_fold fold, size_t rows, size_t n, const float *x, size_t stride,
                                 double *acc);
void SP_KERNEL(sp_fold_columns_f32)(sp_fold fold, size_t n, size_t columns, const float *x,
                                    size_t stride, double *acc);
void SP_KERNEL(sp_arg_rows_f32)(bool min, bool last, size_t rows, size_t n, const float *x,
                                int64_t *index);
void SP_KERNEL(sp_arg_columns_f32)(bool min, bool last, size_t n, size_t columns, const float *x,
                                   size_t stride, int64_t *index);
void SP_KERNEL(sp_moments_f32)(size_t n, const float *x, float shift, double *sum, double *square);
void SP_KERNEL(sp_affine_f32)(size_t n, const sp_affine_f32 *a, const float *x, float *y);
void SP_KERNEL(sp_moments_columns_f32)(size_t rows, size_t columns, const float *x,
                                       const float *shift, double *sum, double *square);
void SP_KERNEL(sp_affine_columns_f32)(size_t rows, size_t columns, const sp_affine_f32 *a,
                                      const float *x, float *y);
void SP_KERNEL(sp_pool_f32)(const sp_pool_f32 *p);
void SP_KERNEL(sp_pool_line_f32)(const sp_pool_line_f32 *p);
double SP_KERNEL(sp_peak_fma_f32)(size_t rounds, float *sink);
float SP_KERNEL(sp_peak_read_f32)(size_t n, const float *x);

#endif
