/* conv.h - what the parts of the convolution kernel share: create (conv.c) chooses, the others run.
 */
#ifndef SP_BACKENDS_CPU_CONV_H
#define SP_BACKENDS_CPU_CONV_H

#include "backends/cpu/spmm_run.h"
#include "ops/conv_shape.h"

typedef enum conv_kind {
    CONV_POINTWISE, /* 1x1, stride 1, no padding: a plain product */
    CONV_INDIRECT,  /* any other: a product whose rows of A are pointers into the image */
    CONV_SPARSE,    /* 1x1 with pruned weights */
    CONV_WINOGRAD,  /* 3x3, stride 1: 36 products of transformed 4x4 tiles */
    CONV_DEPTHWISE, /* one input and one output channel in each group */
    CONV_GROUPED    /* a few of either in each group, several groups in a vector */
} conv_kind;

typedef struct conv_state {
    conv_kind kind;
    sp_epilogue epilogue;
    bool has_bias;
    size_t groups, c_in, c_out; /* channels of one group */
    size_t kd, kh, kw;          /* kh: kernel rows of all kd planes */
    bool turned;                /* images of width 1: the height takes the width's place */
    bool deep;                  /* 3-D */
    bool columns; /* 3-D, 1x1 in a plane: depth takes the height's place, a plane the width's */
    /* A tap is a kernel row (kw * c_in floats in one piece) where the window has no holes, else a
     * pixel. */
    bool row_taps;
    sp_cpu_packed *packed;
    float *zero; /* what lies outside the image: one tap's worth */
    size_t zero_floats;
    float *bias; /* CONV_WINOGRAD: [c_out], zeros where there is none */
} conv_state;

/* A convolution of images [batch, h, w, c]; 1-D ones have h = 1. 3-D ones whose planes are
 * independent count them as images; else h and oh are the lines of all planes. */
typedef struct conv_plan {
    size_t batch, h, w, c, oh, ow; /* c: channels of all groups */
    bool deep;                     /* planes see each other */
    size_t d, plane_h, plane_oh;   /* planes of an image, and lines of one */
    ptrdiff_t stride_d, dilation_d, pad_front;
    ptrdiff_t stride_h, stride_w, dilation_h, dilation_w, pad_top, pad_left;
    size_t taps, k;     /* of the product */
    size_t chunk;       /* CONV_DEPTHWISE: channels that all rows pass by before the next ones */
    bool lines;         /* CONV_INDIRECT: by lines with their padding (conv_lines.c) */
    bool planes;        /* lines: the image comes channel by channel */
    size_t block;       /* output pixels whose pointers are built at a time */
    size_t patches;     /* pixels of a block whose window crosses the left or right edge, at most */
    size_t piece_bytes; /* workspace of one piece */
    sp_gemm_split split;
} conv_plan;

/* Stride 1, no padding. */
static inline bool sp_conv_is_plain(const conv_state *s, const conv_plan *p)
{
    return s->groups == 1 && s->kh * s->kw == 1 && p->stride_h == 1 && p->stride_w == 1 &&
           p->oh == p->h && p->ow == p->w && p->pad_top == 0 && p->pad_left == 0 &&
           p->pad_front == 0;
}

/* Whether the node is one of these, its weights aside; all but the packed weights of it; weights as
 * a product takes them. */
bool sp_conv_can(const sparoa_node *node);
void sp_conv_read(const sparoa_node *node, conv_state *s);
sp_gemm_f32_source sp_conv_source(const conv_state *s, const float *w, const float *bias);
/* For the shapes of the node; running it. */
sparoa_status sp_conv_make_plan(const conv_state *s, const sp_cpu_host *host,
                                const sparoa_node *node, conv_plan *p, size_t *workspace,
                                sparoa_error *err);
void sp_conv_compute(const conv_state *s, const conv_plan *p, const sp_cpu_host *host,
                     const sparoa_node *node, const sparoa_exec *exec);

/* Reads the window and sizes from the node's attributes and shapes. */
sparoa_status sp_conv_geometry(const conv_state *s, const sparoa_node *node, conv_plan *p,
                               sparoa_error *err);

/* Winograd: whether it pays, its weights, and running it. Memory of a piece: V, M. */
bool sp_conv_winograd_pays(const conv_state *s, const sparoa_node *node);
sp_cpu_packed *sp_conv_winograd_pack(const conv_state *s, const sp_cpu_host *host, const float *w);
sparoa_status sp_conv_winograd_plan(const conv_state *s, const sp_cpu_host *host,
                                    const sparoa_node *node, conv_plan *p, sparoa_error *err);
void sp_conv_winograd_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                          const sparoa_node *node, const sparoa_exec *exec);

/* Memory of a piece: pointers [taps][block], then patches of taps * k floats. */
void sp_conv_indirect_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                          const sparoa_node *node, const sparoa_exec *exec);
/* Memory of a piece: pointers [block] where the window is not the plain one, then the kernel's. */
sparoa_status sp_conv_sparse_plan(const conv_state *s, const sp_cpu_host *host,
                                  const sparoa_node *node, conv_plan *p, sparoa_error *err);
void sp_conv_sparse_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                        const sparoa_node *node, const sparoa_exec *exec);
/* A channel or a few, or groups: input lines, of a group at a time, are copied with their padding,
 * and then the windows of a row of outputs are one matrix per kernel row. Where a window is a pixel
 * the image is read where it is. Memory of a piece: a ring of lines. x: the image. */
bool sp_conv_lines_pay(const conv_state *s, const conv_plan *p);
sparoa_status sp_conv_lines_plan(const conv_state *s, const sp_cpu_host *host,
                                 const sparoa_node *node, conv_plan *p, sparoa_error *err);
void sp_conv_lines_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                       const sparoa_node *node, const float *x, const sparoa_exec *exec);

/* Whether the windows of neighbouring pixels share input in one piece, as a signal's do. */
static inline bool sp_conv_overlaps(const conv_state *s, const conv_plan *p)
{
    return s->row_taps && (size_t)p->stride_w * p->c < p->k;
}

/* Input line under kernel row ky of output row `row` of the batch, NULL where there is none. */
static inline const float *sp_conv_line(const conv_state *s, const conv_plan *p, const float *x,
                                        size_t row, size_t ky)
{
    size_t n = row / p->oh, oy = row % p->oh, z = 0;
    if (p->deep) {
        const size_t down = s->kh / s->kd;
        z = (size_t)((ptrdiff_t)(oy / p->plane_oh) * p->stride_d - p->pad_front +
                     (ptrdiff_t)(ky / down) * p->dilation_d);
        oy %= p->plane_oh, ky %= down;
    }
    size_t y = (size_t)((ptrdiff_t)oy * p->stride_h - p->pad_top + (ptrdiff_t)ky * p->dilation_h);
    if (z >= p->d || y >= p->plane_h) return NULL;
    return x + ((n * p->d + z) * p->plane_h + y) * p->w * p->c;
}

/* Groups of few channels (conv_groups.c). */
bool sp_conv_groups_fit(const sp_cpu_host *host, const conv_state *s);
void sp_conv_groups_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                        const sparoa_node *node, const sparoa_exec *exec);

/* Depthwise: whether the windows of neighbouring rows lie one input row apart. */
static inline bool sp_conv_takes_two(const conv_plan *p)
{
    return p->stride_h == 1 && p->dilation_h == 1 && !p->deep;
}
size_t sp_conv_depthwise_chunk(const conv_state *s, const conv_plan *p);
void sp_conv_depthwise_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                           const sparoa_node *node, const sparoa_exec *exec);
/* The same, with the mean of each channel of each image, [batch][c]. Workspace: c floats for each
 * of so many parts of each image, whose sums are added in order. */
size_t sp_conv_mean_parts(const conv_state *s, const conv_plan *p, int32_t threads);
void sp_conv_mean_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                      const sparoa_node *node, float *means, const sparoa_exec *exec);

/* ---- joined with others ---- */

/* What a joined kernel keeps of a node: its attributes, without inputs and outputs. */
static inline sparoa_node sp_without_tensors(const sparoa_node *node)
{
    sparoa_node n = *node;
    n.in = n.out = NULL;
    n.constant = NULL;
    return n;
}

/* A convolution in a joined kernel that has no more to keep: made by sp_conv_member_keep, which
 * takes its place as the kernel's state. */
typedef struct conv_member {
    const conv_state *conv;
    sparoa_node node; /* without tensors */
} conv_member;
sparoa_status sp_conv_member_keep(const sp_cpu_host *host, const conv_state *conv,
                                  const sparoa_node *node, void **state, sparoa_error *err);
void sp_conv_member_destroy(void *state, const sp_cpu_host *host);
/* Its node with the tensors of a run. */
sparoa_node sp_conv_member_node(const conv_member *member, sparoa_tensor *const *in,
                                sparoa_tensor *const *out);
/* Frees a conv_plan that sp_cpu_keep_plan kept. */
void sp_conv_plan_destroy(void *state, const sp_cpu_host *host, void *prepared);

/* Mul by a factor for each image and channel, then this pointwise convolution, in one go
 * (conv_gate.c). *state NULL: it can't. What is made runs with sp_conv_gate_row on a node with the
 * inputs of both. */
extern const sp_cpu_kernel_row sp_conv_gate_row, sp_conv_mean_row, sp_conv_planes_row;
sparoa_status sp_conv_gate_join(const sp_cpu_host *host, const conv_state *conv,
                                const sparoa_node *mul, const sparoa_node *node, void **state,
                                sparoa_error *err);
/* The same for a depthwise convolution and the GlobalAveragePool of what it makes, which others
 * read too (conv_mean.c): outputs are those of both. */
sparoa_status sp_conv_mean_join(const sp_cpu_host *host, const conv_state *conv,
                                const sparoa_node *node, const sparoa_node *pool, void **state,
                                sparoa_error *err);
/* The same for a Transpose that puts the channel last and a convolution by lines, which then weaves
 * the lines it copies out of the channels (conv_planes.c). */
sparoa_status sp_conv_planes_join(const sp_cpu_host *host, const conv_state *conv,
                                  const sparoa_node *turn, const sparoa_node *node, void **state,
                                  sparoa_error *err);

/* Two or three convolutions that follow each other in one go (conv_join.c). states: of their
 * kernels, which must stay. *state NULL: they are run one by one, as that is faster or as they
 * can't. What is made runs with sp_conv_join_row on a node as nodes_join makes it. */
extern const sp_cpu_kernel_row sp_cpu_kernel_Conv, sp_cpu_kernel_Mul,
    sp_cpu_kernel_GlobalAveragePool, sp_conv_join_row;
sparoa_status sp_conv_join(const sp_cpu_host *host, void *const *states,
                           const sparoa_node *const *nodes, int32_t count, void **state,
                           sparoa_error *err);

#endif
