/* conv_transpose.h - what the parts of the ConvTranspose kernel share: conv_transpose.c chooses and
 * packs, conv_transpose_run.c computes.
 */
#ifndef SP_BACKENDS_CPU_CONV_TRANSPOSE_H
#define SP_BACKENDS_CPU_CONV_TRANSPOSE_H

#include "backends/cpu/gemm_run.h"

#define SP_DECONV_MAX_KERNEL 64 /* kernel rows of all planes, and columns */

/* One spatial dimension. */
typedef struct axis {
    ptrdiff_t kernel, stride, dilation;
} axis;

/* A phase, or a position that is in one; padding before the first pixel, which may depend on the
 * size of the image. */
typedef struct place {
    ptrdiff_t z, y, x;
} place;

typedef struct deconv_state {
    sp_epilogue epilogue;
    bool has_bias;
    size_t groups, c_in, c_out; /* channels of one group */
    axis z, y, x;
    bool apart;             /* windows neither overlap nor leave gaps, and there is no padding */
    bool together;          /* groups of few channels: sp_gconv_f32 */
    bool scattered;         /* few channels: a product makes all that an input line adds to */
    bool whole;             /* scattered, few pixels: one product for all lines */
    sp_cpu_packed **packed; /* [phase z][phase y][phase x][group]; apart: [kernel row of all
                               planes]; together: no group; scattered: one */
    size_t packed_count;
    float *zero; /* a pixel outside the image */
    float *bias; /* scattered: [c_out] */
} deconv_state;

/* Kernel element k contributes to outputs of this phase. */
static inline bool in_phase(const axis *a, ptrdiff_t phase, ptrdiff_t k)
{
    return (phase - k * a->dilation) % a->stride == 0;
}

/* Kernel rows of all planes. */
static inline ptrdiff_t kernel_rows(const deconv_state *s)
{
    return s->z.kernel * s->y.kernel;
}

static inline bool row_in_phase(const deconv_state *s, const place *at, ptrdiff_t row)
{
    return in_phase(&s->z, at->z, row / s->y.kernel) && in_phase(&s->y, at->y, row % s->y.kernel);
}

static inline size_t phase_count(const deconv_state *s)
{
    return (size_t)(s->z.stride * s->y.stride * s->x.stride);
}

static inline size_t phase_index(const deconv_state *s, const place *at)
{
    const ptrdiff_t y = at->z % s->z.stride * s->y.stride + at->y % s->y.stride;
    return (size_t)(y * s->x.stride + at->x % s->x.stride);
}

/* Kernel elements of a phase: first, first + step ..., count of them, which read pixels `dilation`
 * apart, the later elements the earlier pixels. */
typedef struct phase_taps {
    ptrdiff_t first, step, count, dilation;
} phase_taps;

static inline phase_taps taps_of(const axis *a, ptrdiff_t phase)
{
    ptrdiff_t k = 0, step = 1;
    while (k < a->kernel && !in_phase(a, phase, k)) k++;
    while (step * a->dilation % a->stride != 0) step++;
    ptrdiff_t count = k < a->kernel ? (a->kernel - 1 - k) / step + 1 : 0;
    return (phase_taps){k, step, count, step * a->dilation / a->stride};
}

/* Rows of the output in pieces; arg of sp_deconv_piece. */
typedef struct deconv_task {
    const deconv_state *s;
    place pads;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    size_t rows, d, h, w, od, oh, ow; /* rows: of all images and planes of the output */
    const float *products;            /* whole: of all lines, at the beginning of the workspace */
    char *workspace;                  /* of the pieces */
    size_t piece_bytes;
    int32_t pieces;
} deconv_task;

/* What all pieces share of the workspace, made first; what each takes of it. */
size_t sp_deconv_shared_bytes(const deconv_state *s, const sparoa_node *node);
void sp_deconv_share(deconv_task *t, const sparoa_exec *exec);
size_t sp_deconv_piece_bytes(const deconv_state *s, const sparoa_node *node, const place *pads);
void sp_deconv_piece(void *arg, int32_t index);

#endif
