/*
 * A pointwise convolution of an image whose channels are scaled first, by factors of their own for
 * each image (squeeze and excite): Mul and Conv in one go, the scaled image is never written. Where
 * an image has more pixels than there are output channels, the weights are scaled in its place;
 * else the rows that a product is about to read.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

#define ROW_BYTES ((size_t)128 << 10) /* of scaled rows: they stay in the second-level cache */

typedef struct gate_state {
    const conv_state *conv;
    sparoa_node node; /* the convolution's, without inputs and outputs */
    int32_t x, scale; /* inputs of Mul */
} gate_state;

typedef struct gate_plan {
    conv_plan conv;
    sp_gemm_split split;
    bool weights;        /* are scaled, not rows */
    size_t pixels, step; /* of an image; from image to image in the factors */
    size_t block;        /* rows scaled at a time */
    size_t piece_floats;
} gate_plan;

/* Input k of Mul is the image of this shape, the other one has a factor for each channel. */
static bool is_scaled(const sparoa_node *mul, int32_t k, const sparoa_tensor *image)
{
    const sparoa_tensor *x = mul->in[k], *s = mul->in[1 - k];
    const int32_t last = image->rank - 1;
    if (!sp_same_shape(x, image) || s->rank != image->rank) return false;
    for (int32_t d = 1; d < last; d++)
        if (s->dims[d] != 1) return false;
    return s->dims[last] == image->dims[last] && (s->dims[0] == 1 || s->dims[0] == x->dims[0]);
}

static bool plan_gate(const gate_state *s, const sp_cpu_host *host, const sparoa_node *node,
                      const sparoa_tensor *scale, gate_plan *p)
{
    const sp_kernels *kernels = host->kernels;
    const conv_state *conv = s->conv;
    sparoa_error err;
    *p = (gate_plan){0};
    if (sp_conv_geometry(conv, node, &p->conv, &err) != SPAROA_OK) return false;
    if (!sp_conv_is_plain(conv, &p->conv)) return false;
    const size_t m = p->conv.batch * p->conv.h * p->conv.w;
    p->pixels = p->conv.h * p->conv.w;
    p->step = scale->dims[0] == 1 ? 0 : conv->c_in;
    p->split = sp_gemm_split_fine(kernels, m, conv->c_out, conv->c_in, host->threads);
    size_t columns = kernels->gemm_f32_panels(conv->c_out) * (size_t)kernels->gemm_columns;
    size_t rows = m / (size_t)p->split.rows_parts; /* of a piece, and of an image in it */
    p->weights = columns < (rows < p->pixels ? rows : p->pixels);
    p->piece_floats = (kernels->gemm_f32_packed_floats(conv->c_out, conv->c_in) + 15) / 16 * 16;
    if (p->weights) return true;
    const size_t tile = (size_t)kernels->gemm_rows;
    p->block = ROW_BYTES / sizeof(float) / (conv->c_in + 1) / tile * tile;
    if (p->block < tile) p->block = tile;
    p->piece_floats = (p->block * conv->c_in + 15) / 16 * 16;
    return true;
}

static void gate_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(gate_state));
}

sparoa_status sp_conv_gate_join(const sp_cpu_host *host, const conv_state *conv,
                                const sparoa_node *mul, const sparoa_node *node, void **state,
                                sparoa_error *err)
{
    gate_state s = {.conv = conv, .node = sp_without_tensors(node)};
    gate_plan plan;
    *state = NULL;
    if (conv->kind != CONV_INDIRECT || conv->groups != 1 || conv->kh * conv->kw != 1)
        return SPAROA_OK;
    if (mul->n_in != 2 || mul->out[0] != node->in[0]) return SPAROA_OK;
    s.x = is_scaled(mul, 0, node->in[0]) ? 0 : 1;
    s.scale = 1 - s.x;
    if (!is_scaled(mul, s.x, node->in[0])) return SPAROA_OK;
    if (!plan_gate(&s, host, node, mul->in[s.scale], &plan)) return SPAROA_OK;
    gate_state *made = sp_cpu_alloc(host, sizeof *made);
    if (!made) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to join nodes");
    *made = s;
    *state = made;
    return SPAROA_OK;
}

static sparoa_status gate_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    const gate_state *s = state;
    sparoa_node conv = s->node;
    gate_plan plan;
    conv.in = node->in + 2;
    conv.out = node->out;
    if (!plan_gate(s, host, &conv, node->in[s->scale], &plan))
        return sparoa_fail(err, SPAROA_INTERNAL, node, "joined nodes changed their shapes");
    if (__builtin_mul_overflow(plan.piece_floats * sizeof(float),
                               (size_t)sp_gemm_split_count(&plan.split), workspace))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static void gate_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    (void)state;
    sp_cpu_free(host, prepared, sizeof(gate_plan));
}

typedef struct gate_task {
    const gate_state *s;
    const gate_plan *p;
    const sp_kernels *kernels;
    const float *x, *scale, *residual;
    float *y, *workspace;
} gate_task;

/* Rows m0..m1-1 of one image. */
static void gate_rows(const gate_task *t, const sp_gemm_piece *piece, size_t m0, size_t m1,
                      float *room)
{
    const conv_state *s = t->s->conv;
    const float *scale = t->scale + m0 / t->p->pixels * t->p->step;
    const size_t k = s->c_in, n = s->c_out;
    sp_gemm_f32 g = {.n = n,
                     .k = k,
                     .taps = 1,
                     .lda = k,
                     .b = s->packed->data,
                     .ldc = n,
                     .ldr = n,
                     .epilogue = sp_gemm_epilogue_of(&s->epilogue)};
    if (t->p->weights) {
        t->kernels->gemm_f32_scale(n, k, s->packed->data, scale, piece->p0, piece->p1, room);
        g.b = room;
    }
    for (size_t m = m0, rows; m < m1; m += rows) {
        rows = m1 - m;
        g.a = t->x + m * k;
        if (!t->p->weights) {
            if (rows > t->p->block) rows = t->p->block;
            for (size_t i = 0; i < rows; i++)
                t->kernels->binary_f32(SP_BINARY_MUL, k, g.a + i * k, 1, scale, 1, room + i * k);
            g.a = room;
        }
        g.m = rows;
        g.c = t->y + m * n;
        g.residual = t->residual ? t->residual + m * n : NULL;
        t->kernels->gemm_f32(&g, 0, rows, piece->p0, piece->p1);
    }
}

static void gate_piece(void *arg, int32_t index)
{
    const gate_task *t = arg;
    const sp_gemm_piece piece = sp_gemm_piece_of(&t->p->split, index);
    float *room = t->workspace + t->p->piece_floats * (size_t)index;
    for (size_t m = piece.m0; m < piece.m1;) {
        size_t end = (m / t->p->pixels + 1) * t->p->pixels;
        if (end > piece.m1) end = piece.m1;
        gate_rows(t, &piece, m, end, room);
        m = end;
    }
}

static sparoa_status gate_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    const gate_state *s = state;
    const gate_plan *p = prepared;
    const sp_epilogue *e = &s->conv->epilogue;
    gate_task t = {.s = s,
                   .p = p,
                   .kernels = host->kernels,
                   .x = node->in[s->x]->data,
                   .scale = node->in[s->scale]->data,
                   .y = node->out[0]->data,
                   .workspace = exec->workspace};
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    if (e->residual) t.residual = node->in[2 + e->residual_input]->data;
    sp_run_pieces(exec, sp_gemm_split_count(&p->split), gate_piece, &t);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_gate_row = {
    .op = "Conv",
    .domain = "",
    .prepare = gate_prepare,
    .run = gate_run,
    .prepared_destroy = gate_prepared_destroy,
    .destroy = gate_destroy,
};
