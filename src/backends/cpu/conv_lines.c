/* Conv of images of few channels, such as the first layer of most networks, and of groups. */
#include "backends/cpu/conv.h"
#include "ops/op.h"

#define MAX_CHANNELS 16
#define MAX_LINES 64                   /* of a ring */
#define MOST_BYTES ((size_t)256 << 10) /* of a group's ring, which stays in the nearer caches */
#define LEAST_WIDTH 8
#define MANY_PIXELS 48                 /* of a group's product, for whole register tiles */
#define NEAR_FLOATS ((size_t)96 << 10) /* of image lines, in the second-level cache */
#define FEW_BLOCKS 4                   /* with fewer, too many lines are copied twice */
#define LEAST_WORK 200000.0            /* multiply-adds that are worth a thread */

typedef struct lines_task {
    const conv_state *s;
    const conv_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    char *workspace;
} lines_task;

/* Output rows of one product. */
static size_t rows_together(const conv_state *s, const conv_plan *p)
{
    size_t rows = s->groups > 1 && p->ow ? (MANY_PIXELS + p->ow - 1) / p->ow : 1;
    return rows < p->oh ? rows : p->oh;
}

/* Input lines between the first and the last that those read, both included. */
static size_t ring_lines(const conv_state *s, const conv_plan *p)
{
    return (rows_together(s, p) - 1) * (size_t)p->stride_h + (s->kh - 1) * (size_t)p->dilation_h +
           1;
}

/* Floats of a line with its padding: as far as windows reach. */
static size_t line_floats(const conv_state *s, const conv_plan *p)
{
    return ((p->ow - 1) * (size_t)p->stride_w + s->kw) * s->c_in;
}

/* Nothing needs to be copied. */
static bool reads_image(const conv_state *s, const conv_plan *p)
{
    return s->groups > 1 && s->kh * s->kw == 1 && p->pad_left == 0 &&
           (p->ow - 1) * (size_t)p->stride_w < p->w;
}

bool sp_conv_lines_pay(const conv_state *s, const conv_plan *p)
{
    if (s->kind != CONV_INDIRECT || p->ow == 0 || p->oh == 0 || p->deep) return false;
    if (ring_lines(s, p) > MAX_LINES) return false;
    if (s->groups == 1)
        return s->row_taps && s->c_in <= MAX_CHANNELS && s->kh * s->kw > 1 && p->ow >= LEAST_WIDTH;
    if (s->kw > 1 && p->dilation_w != 1) return false;
    return line_floats(s, p) <= MOST_BYTES / sizeof(float) / (ring_lines(s, p) + 1);
}

/* Pieces take some groups each, and where there are more pieces than groups, some rows. */
static sp_gemm_split split_groups(const conv_state *s, const conv_plan *p, int32_t threads)
{
    sp_gemm_split split = {p->batch * p->oh, s->groups, 1, 1};
    double work = (double)(split.m * p->ow) * (double)(s->groups * s->c_out * p->taps * p->k);
    int32_t pieces = work < LEAST_WORK * threads ? 1 : sp_fine_pieces(work, threads);
    split.panel_parts = (size_t)pieces < s->groups ? pieces : (int32_t)s->groups;
    split.rows_parts = pieces / split.panel_parts;
    if ((size_t)split.rows_parts > split.m) split.rows_parts = split.m ? (int32_t)split.m : 1;
    return split;
}

sparoa_status sp_conv_lines_plan(const conv_state *s, const sp_cpu_host *host,
                                 const sparoa_node *node, conv_plan *p, sparoa_error *err)
{
    p->taps = s->kh;
    p->k = s->kw * s->c_in;
    if (s->groups > 1)
        p->split = split_groups(s, p, host->threads);
    else
        p->split = sp_gemm_split_fine(host->kernels, p->batch * p->oh, s->c_out,
                                      p->ow * p->taps * p->k, host->threads);
    p->block = rows_together(s, p) * p->ow;
    size_t floats, table = s->groups > 1 ? s->kh * p->block * sizeof(float *) : 0;
    if (__builtin_mul_overflow(line_floats(s, p), ring_lines(s, p) + 1, &floats) ||
        __builtin_mul_overflow(floats, sizeof(float), &floats))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    p->piece_bytes = (table + 63) / 64 * 64 + (floats + 63) / 64 * 64;
    return SPAROA_OK;
}

/* So few that a call of memcpy would take longer. */
static void copy_few(float *to, const float *from, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16) memcpy(to + i, from + i, 16 * sizeof *to);
    for (; i + 4 <= n; i += 4) memcpy(to + i, from + i, 4 * sizeof *to);
    for (; i < n; i++) to[i] = from[i];
}

/* Line y of image n from channel `first` of it on, with zeros where it has no pixels. */
static void copy_line(const lines_task *t, size_t n, size_t y, size_t first, float *line)
{
    const conv_plan *p = t->p;
    const size_t c = t->s->c_in, plane = p->h * p->w;
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
    else if (count && p->c == c)
        memcpy(to, t->x + (n * plane + at) * c, count * c * sizeof *line);
    else
        for (size_t i = 0; i < count; i++)
            copy_few(to + i * c, t->x + (n * plane + at + i) * p->c + first, c);
    memset(to + count * c, 0, (size_t)(pixels - end) * c * sizeof *line);
}

/* Lines of a piece that were copied: the last few of a group, and one of zeros. */
typedef struct line_ring {
    float *zero, *lines;
    size_t count, floats;
    size_t held[MAX_LINES]; /* the line of the batch that each place holds, + 1 */
} line_ring;

/* The lines under an output row, from channel `first` on. */
static void find_lines(const lines_task *t, size_t row, size_t first, line_ring *ring,
                       const float **bases)
{
    const conv_plan *p = t->p;
    const bool direct = reads_image(t->s, p);
    for (size_t ky = 0; ky < t->s->kh; ky++) {
        ptrdiff_t y =
            (ptrdiff_t)(row % p->oh) * p->stride_h - p->pad_top + (ptrdiff_t)ky * p->dilation_h;
        bases[ky] = ring->zero;
        if ((size_t)y >= p->h) continue;
        size_t n = row / p->oh, line = n * p->h + (size_t)y, place = (size_t)y % ring->count;
        if (direct) {
            bases[ky] = t->x + line * p->w * p->c + first;
            continue;
        }
        float *to = ring->lines + place * ring->floats;
        if (ring->held[place] != line + 1) copy_line(t, n, (size_t)y, first, to);
        ring->held[place] = line + 1;
        bases[ky] = to;
    }
}

/* The product of some output rows, which lie at `bases` or, pixel by pixel, at `rows`. */
static sp_gemm_f32 product_of(const lines_task *t, size_t row, size_t m, size_t group)
{
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    const size_t outputs = s->groups * s->c_out, at = row * p->ow * outputs + group * s->c_out;
    const size_t packed = sp_gemm_group_floats(t->kernels, s->c_out, p->taps * p->k);
    sp_gemm_f32 g = {.m = m,
                     .n = s->c_out,
                     .k = p->k,
                     .taps = p->taps,
                     .lda = (size_t)p->stride_w * s->c_in,
                     .windows = sp_conv_overlaps(s, p),
                     .b = (float *)s->packed->data + group * packed,
                     .c = t->y + at,
                     .ldc = outputs,
                     .ldr = outputs,
                     .residual = t->residual ? t->residual + at : NULL};
    g.epilogue = sp_gemm_epilogue_of(&s->epilogue);
    return g;
}

/* Output rows of a group; the lines that they read overlap from product to product. */
static void lines_group(const lines_task *t, size_t row, size_t end, size_t group,
                        const float **rows, line_ring *ring)
{
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    const float *bases[MAX_LINES];
    const size_t together = p->block / p->ow;
    memset(ring->held, 0, sizeof ring->held);
    for (size_t next; row < end; row = next) {
        next = (row / p->oh + 1) * p->oh; /* image by image */
        if (next > row + together) next = row + together;
        if (next > end) next = end;
        const size_t m = (next - row) * p->ow;
        for (size_t i = row, at = 0; i < next; i++, at += p->ow) {
            find_lines(t, i, group * s->c_in, ring, bases);
            for (size_t ky = 0; ky < s->kh; ky++) {
                size_t step = (size_t)p->stride_w * s->c_in;
                if (reads_image(s, p)) step = (size_t)p->stride_w * p->c;
                if (bases[ky] == ring->zero) step = 0;
                for (size_t x = 0; x < p->ow; x++) rows[ky * m + at + x] = bases[ky] + x * step;
            }
        }
        sp_gemm_f32 g = product_of(t, row, m, group);
        g.rows = rows;
        g.row_stride = m;
        t->kernels->gemm_f32(&g, 0, m, 0, t->kernels->gemm_f32_panels(s->c_out));
    }
}

static void lines_groups(const lines_task *t, const sp_gemm_piece *piece, const float **rows,
                         line_ring *ring)
{
    /* Lines are copied for a group, and serve the next rows of it; so many rows at a time that the
     * image's lines stay near for the next group. Without copies all groups of a few rows come
     * first, as pixels are read from one end to the other. */
    const conv_plan *p = t->p;
    const size_t together = p->block / p->ow;
    const size_t lines = NEAR_FLOATS / (p->w * p->c + 1) / (size_t)p->stride_h;
    size_t step = reads_image(t->s, p) ? together : lines / together * together;
    if (step < FEW_BLOCKS * together && !reads_image(t->s, p)) step = FEW_BLOCKS * together;
    for (size_t row = piece->m0; row < piece->m1; row += step) {
        size_t end = piece->m1 - row < step ? piece->m1 : row + step;
        for (size_t g = piece->p0; g < piece->p1; g++) lines_group(t, row, end, g, rows, ring);
    }
}

static void lines_piece(void *arg, int32_t index)
{
    const lines_task *t = arg;
    const conv_plan *p = t->p;
    const conv_state *s = t->s;
    const sp_gemm_piece piece = sp_gemm_piece_of(&p->split, index);
    const size_t table = s->groups > 1 ? s->kh * p->block * sizeof(float *) : 0;
    char *memory = t->workspace + p->piece_bytes * (size_t)index;
    line_ring ring = {.zero = (float *)(memory + (table + 63) / 64 * 64),
                      .count = ring_lines(s, p),
                      .floats = line_floats(s, p),
                      .held = {0}};
    ring.lines = ring.zero + ring.floats;
    memset(ring.zero, 0, ring.floats * sizeof *ring.zero);
    if (s->groups > 1) {
        lines_groups(t, &piece, (const float **)memory, &ring);
        return;
    }
    const float *bases[MAX_LINES];
    for (size_t row = piece.m0; row < piece.m1; row++) {
        find_lines(t, row, 0, &ring, bases);
        sp_gemm_f32 g = product_of(t, row, p->ow, 0);
        g.bases = bases;
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
