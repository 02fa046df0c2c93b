/*
 * A 1x1 convolution that expands, a depthwise one and perhaps a 1x1 one that projects, as in
 * inverted residuals, in one go. Output rows are made in bands; of what is handed over only the
 * rows that a band reads are there, in the second-level cache: the expanded ones in a ring, whose
 * rows the next band goes on using, and the depthwise ones of the band. The inner loops are those
 * of the single convolutions, and sums are made in the same order.
 */
#include "backends/cpu/conv.h"

#define MAX_KERNEL 8                     /* rows of the depthwise one */
#define MANY_PIXELS 84                   /* of a band, for whole register tiles */
#define MOST_BAND 4                      /* rows */
#define GOOD_BYTES ((size_t)320 << 10)   /* of ring and band: bands are made smaller for it */
#define MOST_BYTES ((size_t)768 << 10)   /* with more it is left alone */
#define LEAST_HIDDEN ((size_t)500 << 10) /* of a thread; less stays in its cache anyway */
#define MUCH_HIDDEN ((size_t)4 << 20)
#define MOST_WEIGHTS ((size_t)640 << 10) /* bands read them anew */
#define FEW_WEIGHTS ((size_t)256 << 10)
/* Cores with so large a second-level cache have a third one that is far, and gain more. */
#define LARGE_L2 ((size_t)2 << 20)
#define LARGE_HIDDEN ((size_t)1280 << 10) /* of a thread: that cache has no room for the rest */
#define CHEAP_REPEAT 170000.0             /* multiply-adds that are less than a wait for threads */
#define LEAST_WORK 200000.0               /* multiply-adds that are worth a thread */

/* One of the nodes: its kernel's state, and where its inputs begin in the joined node's. */
typedef struct member {
    const conv_state *state;
    sparoa_node node; /* without inputs and outputs */
    int32_t first;
} member;

typedef struct join_state {
    member members[SPAROA_JOIN_MAX];
    int32_t count;
    bool projects;
} join_state;

typedef struct join_plan {
    conv_plan d;        /* the depthwise one */
    size_t c_in, c_out; /* of the first and the last */
    size_t band;        /* output rows of a step */
    size_t ring;        /* expanded rows that are kept */
    size_t ring_floats;
    size_t piece_bytes; /* ring and band of a piece */
    int32_t pieces;
} join_plan;

/* What runs joined nodes knows of them. */
typedef struct join_task {
    const join_state *s;
    const join_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    char *workspace;
} join_task;

enum { EXPAND, DEPTHWISE, PROJECT };

static const conv_state *depthwise_of(const join_state *s)
{
    return s->members[DEPTHWISE].state;
}

/* Node k with its inputs, and as output what the next one reads. */
static sparoa_node member_node(const join_state *s, const sparoa_node *joined, int32_t k)
{
    sparoa_node n = s->members[k].node;
    n.in = joined->in + s->members[k].first;
    n.out = k + 1 < s->count ? joined->in + s->members[k + 1].first : joined->out;
    return n;
}

/* ---- choosing ---- */

static bool is_pointwise(const conv_state *s)
{
    return s->kind == CONV_INDIRECT && s->groups == 1 && s->kh * s->kw == 1;
}

static bool can_join(const join_state *s)
{
    const conv_state *expand = s->members[EXPAND].state, *dw = depthwise_of(s);
    return is_pointwise(expand) && !expand->epilogue.residual && dw->kind == CONV_DEPTHWISE &&
           !dw->epilogue.residual && !dw->turned && dw->kh <= MAX_KERNEL &&
           (!s->projects || is_pointwise(s->members[PROJECT].state));
}

/* Rows that two pieces beside each other both expand. */
static size_t shared_rows(const join_state *s, const conv_plan *d)
{
    ptrdiff_t both = (ptrdiff_t)(depthwise_of(s)->kh - 1) * d->dilation_h + 1 - d->stride_h;
    return both > 0 ? (size_t)both : 0;
}

/* Whether no more than one row in `share` is expanded twice. */
static bool repeats_few(const join_state *s, const conv_plan *d, size_t pieces, size_t share)
{
    return (pieces - 1) * shared_rows(s, d) * share <= d->batch * d->h;
}

/* Pieces for all threads, several each where that is cheap. */
static int32_t piece_count(const join_state *s, const join_plan *p, int32_t threads)
{
    const conv_plan *d = &p->d;
    const conv_state *dw = depthwise_of(s);
    double work = (double)(d->batch * d->h * d->w) * (double)d->c;
    work *= (double)(p->c_in + dw->kh * dw->kw + p->c_out * s->projects);
    size_t rows = d->batch * d->oh, count = (size_t)sp_fine_pieces(work, threads);
    while (count > (size_t)threads && !repeats_few(s, d, count, 32)) count -= (size_t)threads;
    if (work < LEAST_WORK * (double)count) count = 1 + (size_t)(work / LEAST_WORK);
    return (int32_t)(count < rows ? count : rows);
}

static void plan_band(const join_state *s, size_t rows, join_plan *p)
{
    const conv_plan *d = &p->d;
    p->band = rows;
    p->ring =
        (rows - 1) * (size_t)d->stride_h + (depthwise_of(s)->kh - 1) * (size_t)d->dilation_h + 1;
    if (p->ring > d->h) p->ring = d->h;
    p->ring_floats = p->ring * d->w * d->c;
    size_t floats = p->ring_floats + (s->projects ? rows * d->ow * d->c : 0);
    p->piece_bytes = (floats * sizeof(float) + 63) / 64 * 64;
}

static bool plan_join(const join_state *s, int32_t threads, const sparoa_node *nodes, join_plan *p)
{
    conv_plan parts[SPAROA_JOIN_MAX], *d = &p->d;
    sparoa_error err;
    for (int32_t k = 0; k < s->count; k++) {
        const conv_state *state = s->members[k].state;
        if (sp_conv_geometry(state, &nodes[k], &parts[k], &err) != SPAROA_OK) return false;
        if (k != DEPTHWISE && !sp_conv_is_plain(state, &parts[k])) return false;
    }
    *p = (join_plan){.d = parts[DEPTHWISE], .c_in = parts[EXPAND].c};
    p->c_out = s->projects ? s->members[PROJECT].state->c_out : d->c;
    if (d->batch * d->h * d->w == 0 || d->oh < 2 || d->ow == 0) return false;
    size_t rows = 2 + MANY_PIXELS / d->ow;
    if (rows > MOST_BAND) rows = MOST_BAND;
    if (rows > d->oh) rows = d->oh;
    plan_band(s, rows, p);
    while (rows > 1 && p->piece_bytes > GOOD_BYTES) plan_band(s, --rows, p);
    d->chunk = sp_conv_depthwise_chunk(depthwise_of(s), d);
    p->pieces = piece_count(s, p, threads);
    return true;
}

/* What is handed over would leave the caches and is more than what goes in and comes out. */
static bool saves_memory(const join_state *s, const join_plan *p, size_t hidden, size_t weights)
{
    const conv_plan *d = &p->d;
    const size_t out = s->projects ? p->c_out : 0;
    bool expands = d->c >= 2 * p->c_in && (d->c >= 2 * out || hidden >= MUCH_HIDDEN);
    return (expands || d->stride_h > 1) && weights <= MOST_WEIGHTS && weights <= hidden / 2 &&
           repeats_few(s, d, (size_t)p->pieces, s->projects ? 16 : 32);
}

/* Sizes are those that gained on the machines of docs/performance.md. Where what is handed over
 * stays in the caches anyway, threads would wait for each other longer than they compute twice. */
static bool pays(const join_state *s, const join_plan *p, const sp_cpu_host *host)
{
    const conv_plan *d = &p->d;
    const size_t weights = (p->c_in + p->c_out * s->projects) * d->c * sizeof(float),
                 hidden = d->h * d->w * d->c * sizeof(float), pieces = (size_t)p->pieces;
    const size_t threads = (size_t)host->threads, used = pieces < threads ? pieces : threads;
    const size_t share = hidden * d->batch / used;
    const double row = (double)(d->w * d->c) * (double)p->c_in,
                 repeated = (double)((pieces - 1) * shared_rows(s, d)) * row / (double)used;
    const bool cheap = repeated <= CHEAP_REPEAT * (s->count - 1) && repeats_few(s, d, pieces, 4);
    if (p->piece_bytes > MOST_BYTES) return false;
    /* without the last one half as much is saved */
    const bool leaves = share >= LEAST_HIDDEN * (s->projects ? 1 : 2);
    if (leaves && saves_memory(s, p, hidden, weights)) return true;
    if (host->l2_bytes < LARGE_L2) return !leaves && used > 1 && cheap && weights <= FEW_WEIGHTS;
    if (weights > 2 * FEW_WEIGHTS) return false;
    return used > 1 ? cheap || repeats_few(s, d, pieces, 16)
                    : share >= LARGE_HIDDEN && weights <= hidden / 2;
}

static void join_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(join_state));
}

sparoa_status sp_conv_join(const sp_cpu_host *host, void *const *states,
                           const sparoa_node *const *nodes, int32_t count, void **state,
                           sparoa_error *err)
{
    join_state s = {.count = count, .projects = count > PROJECT};
    sparoa_node views[SPAROA_JOIN_MAX];
    join_plan plan;
    int32_t first = 0;
    *state = NULL;
    for (int32_t k = 0; k < count; k++) {
        views[k] = *nodes[k];
        s.members[k] =
            (member){.state = states[k], .node = sp_without_tensors(nodes[k]), .first = first};
        first += nodes[k]->n_in;
    }
    if (!can_join(&s) || !plan_join(&s, host->threads, views, &plan)) return SPAROA_OK;
    if (host->join == SP_WHEN_FASTER && !pays(&s, &plan, host)) return SPAROA_OK;
    *state = sp_cpu_alloc(host, sizeof s);
    if (!*state) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, nodes[0], "no memory to join nodes");
    memcpy(*state, &s, sizeof s);
    return SPAROA_OK;
}

static sparoa_status join_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    const join_state *s = state;
    sparoa_node views[SPAROA_JOIN_MAX];
    join_plan plan;
    for (int32_t k = 0; k < s->count; k++) views[k] = member_node(s, node, k);
    if (!plan_join(s, host->threads, views, &plan))
        return sparoa_fail(err, SPAROA_INTERNAL, node, "joined nodes changed their shapes");
    if (__builtin_mul_overflow(plan.piece_bytes, (size_t)plan.pieces, workspace))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

static void join_prepared_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    (void)state;
    sp_cpu_free(host, prepared, sizeof(join_plan));
}

/* ---- running ---- */

/* Where a piece is: an image, its memory, and how far it has expanded. */
typedef struct cursor {
    const float *x;    /* of the image */
    float *ring, *out; /* out: of the band, [row][pixel][channel] */
    ptrdiff_t have;    /* first row that is not expanded yet */
} cursor;

/* Rows from..last-1 to their places in the ring, in as few products as there are pieces of memory.
 */
static void expand_rows(const join_task *t, const cursor *at, size_t from, size_t last)
{
    const join_plan *p = t->p;
    const conv_state *e = t->s->members[EXPAND].state;
    const size_t w = p->d.w, c = p->d.c;
    while (from < last) {
        size_t place = from % p->ring, rows = last - from;
        if (rows > p->ring - place) rows = p->ring - place;
        sp_gemm_f32 g = {.m = rows * w,
                         .n = c,
                         .k = p->c_in,
                         .taps = 1,
                         .a = at->x + from * w * p->c_in,
                         .lda = p->c_in,
                         .b = e->packed->data,
                         .c = at->ring + place * w * c,
                         .ldc = c,
                         .epilogue = sp_gemm_epilogue_of(&e->epilogue)};
        t->kernels->gemm_f32(&g, 0, g.m, 0, t->kernels->gemm_f32_panels(c));
        from += rows;
    }
}

/* n channels from c0 on of an image's row y, or rows y and y + 1, which go to `out`. */
static void depthwise_rows(const join_task *t, const cursor *at, size_t y, bool two, float *out,
                           size_t c0, size_t n)
{
    const join_plan *p = t->p;
    const conv_plan *d = &p->d;
    const conv_state *s = depthwise_of(t->s);
    const float *in[MAX_KERNEL + 1];
    size_t strides[MAX_KERNEL + 1];
    for (size_t ky = 0; ky < s->kh + two; ky++) {
        ptrdiff_t row = (ptrdiff_t)y * d->stride_h - d->pad_top + (ptrdiff_t)ky * d->dilation_h;
        bool inside = (size_t)row < d->h;
        strides[ky] = inside ? d->c : 0;
        in[ky] = inside ? at->ring + (size_t)row % p->ring * d->w * d->c + c0 : s->zero;
    }
    sp_dwconv_f32 conv = {.kh = (int)s->kh,
                          .kw = (int)s->kw,
                          .stride_w = (int)d->stride_w,
                          .dilation_w = (int)d->dilation_w,
                          .pad_left = (int)d->pad_left,
                          .channels = n,
                          .in_width = d->w,
                          .out_width = d->ow,
                          .in = in,
                          .in_stride = strides,
                          .w = (const float *)s->packed->data + c0 * (s->kh * s->kw + 1),
                          .out = out + c0,
                          .out_stride = d->c,
                          .two = two,
                          .next_row = d->ow * d->c,
                          .epilogue = sp_gemm_epilogue_of(&s->epilogue)};
    t->kernels->dwconv_f32(&conv);
}

/* An image's output rows y..y+rows-1 up to the depthwise convolution. */
static void make_band(const join_task *t, cursor *at, size_t y, size_t rows)
{
    const conv_plan *d = &t->p->d;
    const ptrdiff_t first = (ptrdiff_t)y * d->stride_h - d->pad_top;
    ptrdiff_t from = at->have > first ? at->have : first;
    ptrdiff_t last = first + (ptrdiff_t)(rows - 1) * d->stride_h +
                     (ptrdiff_t)(depthwise_of(t->s)->kh - 1) * d->dilation_h + 1;
    if (last > (ptrdiff_t)d->h) last = (ptrdiff_t)d->h;
    if (from < last) {
        expand_rows(t, at, (size_t)from, (size_t)last);
        at->have = last;
    }
    for (size_t c = 0; c < d->c; c += d->chunk)
        for (size_t i = 0, count; i < rows; i += count) {
            count = sp_conv_takes_two(d) && i + 1 < rows ? 2 : 1;
            depthwise_rows(t, at, y + i, count == 2, at->out + i * d->ow * d->c, c,
                           d->c - c < d->chunk ? d->c - c : d->chunk);
        }
}

/* Output rows of the batch from `row` on. */
static void project_band(const join_task *t, const cursor *at, size_t row, size_t rows)
{
    const join_plan *p = t->p;
    const conv_state *s = t->s->members[PROJECT].state;
    const size_t to = row * p->d.ow * p->c_out;
    sp_gemm_f32 g = {.m = rows * p->d.ow,
                     .n = p->c_out,
                     .k = p->d.c,
                     .taps = 1,
                     .a = at->out,
                     .lda = p->d.c,
                     .b = s->packed->data,
                     .c = t->y + to,
                     .ldc = p->c_out,
                     .residual = t->residual ? t->residual + to : NULL,
                     .ldr = p->c_out,
                     .epilogue = sp_gemm_epilogue_of(&s->epilogue)};
    t->kernels->gemm_f32(&g, 0, g.m, 0, t->kernels->gemm_f32_panels(g.n));
}

static void join_piece(void *arg, int32_t index)
{
    const join_task *t = arg;
    const join_plan *p = t->p;
    const conv_plan *d = &p->d;
    size_t rows = d->batch * d->oh, count = (size_t)p->pieces, i = (size_t)index;
    size_t row = rows * i / count, end = rows * (i + 1) / count;
    cursor at = {.ring = (float *)(t->workspace + p->piece_bytes * i)};
    while (row < end) { /* image by image */
        size_t image = row / d->oh, last = (image + 1) * d->oh < end ? (image + 1) * d->oh : end;
        at.x = t->x + image * d->h * d->w * p->c_in;
        at.have = 0;
        const size_t length = last - row, bands = (length + p->band - 1) / p->band;
        for (size_t k = 0; k < bands; k++) { /* even ones */
            const size_t from = row + length * k / bands, to = row + length * (k + 1) / bands;
            at.out = t->s->projects ? at.ring + p->ring_floats : t->y + from * d->ow * d->c;
            make_band(t, &at, from % d->oh, to - from);
            if (t->s->projects) project_band(t, &at, from, to - from);
        }
        row = last;
    }
}

static sparoa_status join_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    const join_state *s = state;
    const join_plan *p = prepared;
    join_task t = {.s = s,
                   .p = p,
                   .kernels = host->kernels,
                   .x = node->in[0]->data,
                   .y = node->out[0]->data,
                   .workspace = exec->workspace};
    const member *last = &s->members[PROJECT];
    if (s->projects && last->state->epilogue.residual)
        t.residual = node->in[last->first + last->state->epilogue.residual_input]->data;
    sp_run_pieces(exec, p->pieces, join_piece, &t);
    return SPAROA_OK;
}

const sp_cpu_kernel_row sp_conv_join_row = {
    .op = "Conv",
    .domain = "",
    .prepare = join_prepare,
    .run = join_run,
    .prepared_destroy = join_prepared_destroy,
    .destroy = join_destroy,
};
