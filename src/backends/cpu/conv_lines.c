/* Conv of images of few channels, such as the first layer of most networks. */
#include "backends/cpu/conv.h"
#include "ops/op.h"

#define MAX_CHANNELS 16
#define MAX_LINES 64 /* of a ring */

typedef struct lines_task {
    const conv_state *s;
    const conv_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    char *workspace;
} lines_task;

/* Input lines between the first and the last that an output row reads, both included. */
static size_t ring_lines(const conv_state *s, const conv_plan *p)
{
    return (s->kh - 1) * (size_t)p->dilation_h + 1;
}

/* Floats of a line with its padding: as far as windows reach. */
static size_t line_floats(const conv_state *s, const conv_plan *p)
{
    return ((p->ow - 1) * (size_t)p->stride_w + s->kw) * p->c;
}

bool sp_conv_lines_pay(const conv_state *s, const conv_plan *p)
{
    return s->kind == CONV_INDIRECT && s->row_taps && s->groups == 1 && s->c_in <= MAX_CHANNELS &&
           s->kh * s->kw > 1 && p->ow >= 8 && ring_lines(s, p) <= MAX_LINES;
}

sparoa_status sp_conv_lines_plan(const conv_state *s, const sp_cpu_host *host,
                                 const sparoa_node *node, conv_plan *p, sparoa_error *err)
{
    p->split = sp_gemm_split_fine(host->kernels, p->batch * p->oh, s->c_out, p->ow * p->taps * p->k,
                                  host->threads);
    size_t floats;
    if (__builtin_mul_overflow(line_floats(s, p), ring_lines(s, p) + 1, &floats) ||
        __builtin_mul_overflow(floats, sizeof(float), &p->piece_bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    p->piece_bytes = (p->piece_bytes + 63) / 64 * 64;
    return SPAROA_OK;
}

/* Line y of image n, with zeros where it has no pixels. */
static void copy_line(const lines_task *t, size_t n, size_t y, float *line)
{
    const conv_plan *p = t->p;
    const size_t c = p->c, plane = p->h * p->w;
    const ptrdiff_t pixels = (ptrdiff_t)(line_floats(t->s, p) / c);
    ptrdiff_t begin = p->pad_left, end = begin + (ptrdiff_t)p->w, skip = 0;
    if (begin < 0) skip = -begin, begin = 0;
    if (begin > pixels) begin = pixels;
    if (end > pixels) end = pixels;
    if (end < begin) end = begin;
    const size_t count = (size_t)(end - begin), at = y * p->w + (size_t)skip;
    float *to = line + (size_t)begin * c;
    memset(line, 0, (size_t)begin * c * sizeof *line);
    if (count && p->planes && c > 1)
        t->kernels->weave_f32(count, c, t->x + n * c * plane + at, plane, to);
    else if (count)
        memcpy(to, t->x + (n * plane + at) * c, count * c * sizeof *line);
    memset(to + count * c, 0, (size_t)(pixels - end) * c * sizeof *line);
}

static void lines_piece(void *arg, int32_t index)
{
    const lines_task *t = arg;
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    sp_gemm_piece piece = sp_gemm_piece_of(&p->split, index);
    const size_t ring = ring_lines(s, p), floats = line_floats(s, p);
    float *zero = (float *)(t->workspace + p->piece_bytes * (size_t)index), *lines = zero + floats;
    size_t held[MAX_LINES]; /* the line of the batch that each place of the ring holds, + 1 */
    const float *bases[MAX_LINES];
    memset(held, 0, sizeof held);
    memset(zero, 0, floats * sizeof *zero);
    for (size_t row = piece.m0; row < piece.m1; row++) {
        size_t n = row / p->oh, at = row * p->ow * s->c_out;
        for (size_t ky = 0; ky < s->kh; ky++) {
            ptrdiff_t y =
                (ptrdiff_t)(row % p->oh) * p->stride_h - p->pad_top + (ptrdiff_t)ky * p->dilation_h;
            bases[ky] = zero;
            if ((size_t)y >= p->h) continue;
            size_t line = n * p->h + (size_t)y, place = (size_t)y % ring;
            if (held[place] != line + 1) copy_line(t, n, (size_t)y, lines + place * floats);
            held[place] = line + 1;
            bases[ky] = lines + place * floats;
        }
        sp_gemm_f32 g = {.m = p->ow,
                         .n = s->c_out,
                         .k = p->k,
                         .taps = p->taps,
                         .bases = bases,
                         .lda = (size_t)p->stride_w * p->c,
                         .windows = sp_conv_overlaps(s, p),
                         .b = s->packed->data,
                         .c = t->y + at,
                         .ldc = s->c_out,
                         .ldr = s->c_out,
                         .residual = t->residual ? t->residual + at : NULL};
        g.epilogue = sp_gemm_epilogue_of(&s->epilogue);
        t->kernels->gemm_f32(&g, 0, p->ow, piece.p0, piece.p1);
    }
}

void sp_conv_lines_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                       const sparoa_node *node, const float *x, const sparoa_exec *exec)
{
    lines_task t = {s, p, kernels, x, NULL, node->out[0]->data, exec->workspace};
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    sp_run_pieces(exec, sp_gemm_split_count(&p->split), lines_piece, &t);
}
