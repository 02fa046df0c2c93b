/*
 * Matrix products in register tiles of MR rows by up to NV + 1 vectors. A's elements are broadcast
 * from where they are, through one pointer per row and tap, so that plain matrices and convolutions
 * (rows of pixels, one tap per kernel element) are the same loop; B comes packed in panels and is
 * read once, in order, per tile.
 */
#include "kernels/cpu/gemm.h"

#include "kernels/cpu/protos.h"
#include "kernels/cpu/vmath.h"
#include "ops/epilogue.h"

#define STEP 16       /* k between fetches of what comes next */
#define DEPTH 512     /* k of one pass over the rows */
#define MAX_AHEAD 16  /* lines fetched in one step */
#define LEAST_WAVE 64 /* k of windows that are taken for a signal's */
#define CHAIN_ROWS 2  /* tiles of so few rows have several sums for each result */
#define CHAINS_MAX 4

typedef struct tile {
    const sp_gemm_f32 *g;
    const float *panel; /* bias row, then B */
    size_t m, column, columns;
    size_t k0, k1;      /* of the sums: all, or with one tap a part whose sums so far C holds */
    const float *ahead; /* what is read next, fetched while this computes */
    size_t ahead_lines; /* of 64 bytes, for each STEP of k */
    float lo, hi;       /* bounds of the activation, if that is all it is */
    bool bounded, hardswish;
    bool direct; /* the epilogue works on the sums where they are */
    bool whole;  /* all columns of the panel exist */
    bool doubles;
} tile;

/* Tiles that need more than bounds: through memory. Inlined it would cost the tiles registers. */
static __attribute__((noinline)) void finish(const tile *t, size_t rows, size_t width,
                                             float *buffer)
{
    const sp_gemm_f32 *g = t->g;
    const sp_finish_f32 f = {.epilogue = &g->epilogue,
                             .rows = rows,
                             .width = width,
                             .columns = t->columns,
                             .residual =
                                 g->residual ? g->residual + t->m * g->ldr + t->column : NULL,
                             .stride = g->ldr,
                             .out = g->c + t->m * g->ldc + t->column,
                             .out_stride = g->ldc};
    SP_KERNEL(sp_finish_f32)(&f, buffer);
}

SP_INLINE size_t columns_in(const tile *t, const int j)
{
    size_t left = t->columns > (size_t)j * VL ? t->columns - (size_t)j * VL : 0;
    return left < VL ? left : VL;
}

SP_INLINE void add_residual(const tile *t, vf acc[][NV + 1], const int mr, const int nv)
{
    const size_t ldr = t->g->ldr;
    const float *r = t->g->residual + t->m * ldr + t->column;
    SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++)
    {
        const float *p = r + (size_t)i * ldr + j * VL;
        acc[i][j] += t->whole || j + 1 < nv ? vf_load(p) : vf_load_n(p, columns_in(t, j));
    }
}

/* Sums of a part of k, from C and to C. */
SP_INLINE void load_sums(const tile *t, vf acc[][NV + 1], const int mr, const int nv)
{
    const float *c = t->g->c + t->m * t->g->ldc + t->column;
    SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++)
    {
        const float *p = c + (size_t)i * t->g->ldc + j * VL;
        acc[i][j] = t->whole ? vf_load(p) : vf_load_n(p, columns_in(t, j));
    }
}

SP_INLINE void store_sums(const tile *t, vf acc[][NV + 1], const int mr, const int nv)
{
    const size_t ldc = t->g->ldc, last = columns_in(t, nv - 1);
    float *c = t->g->c + t->m * ldc + t->column;
    if (t->whole) {
        SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++)
            vf_store(c + (size_t)i * ldc + j * VL, acc[i][j]);
        return;
    }
    SP_UNROLL for (int i = 0; i < mr; i++)
    {
        SP_UNROLL for (int j = 0; j + 1 < nv; j++)
            vf_store(c + (size_t)i * ldc + j * VL, acc[i][j]);
        vf_store_n(c + (size_t)i * ldc + (nv - 1) * VL, acc[i][nv - 1], last);
    }
}

/* What is done with the sums of a tile. */
SP_INLINE void sums_end(const tile *t, vf acc[][NV + 1], const int mr, const int nv)
{
    const sp_gemm_f32 *g = t->g;
    if (t->k1 < g->k) {
        store_sums(t, acc, mr, nv);
        return;
    }
    /* the bias comes last: a sum that starts with a large one loses the small products */
    SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++) acc[i][j] +=
        vf_load(t->panel + j * VL);
    if (!t->direct) {
        float buffer[MR_MAX * NR_MAX] __attribute__((aligned(64)));
        SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++)
            vf_store(buffer + (i * nv + j) * VL, acc[i][j]);
        finish(t, (size_t)mr, (size_t)nv * VL, buffer);
        return;
    }
    if (g->epilogue.residual == 1) add_residual(t, acc, mr, nv);
    if (t->bounded) {
        vf lo = vf_splat(t->lo), hi = vf_splat(t->hi);
        SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++) acc[i][j] =
            vf_min(hi, vf_max(lo, acc[i][j]));
    }
    if (t->hardswish)
        SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++) acc[i][j] =
            vf_hardswish(acc[i][j]);
    if (g->epilogue.residual == 2) add_residual(t, acc, mr, nv);
    store_sums(t, acc, mr, nv);
}

/* The rows of A that belong to one tap. */
SP_INLINE void tap_rows(const tile *t, size_t tap, const float **a, const int mr)
{
    const sp_gemm_f32 *g = t->g;
    if (g->rows) {
        const float *const *rows = g->rows + tap * g->row_stride + t->m;
        SP_UNROLL for (int i = 0; i < mr; i++) a[i] = rows[i];
    } else {
        const float *base = g->bases ? g->bases[tap] : g->a;
        SP_UNROLL for (int i = 0; i < mr; i++) a[i] = base + (t->m + (size_t)i) * g->lda;
    }
}

/* Column k of the rows of A times row k of B. */
SP_INLINE void add_products(const float *const *a, size_t k, const float *b, vf acc[][NV + 1],
                            const int mr, const int nv)
{
    vf bv[NV + 1];
    SP_UNROLL for (int j = 0; j < nv; j++)
    {
        bv[j] = vf_load(b + j * VL);
        if (mr == CHAIN_ROWS) bv[j] = vf_once(bv[j]);
    }
    SP_UNROLL for (int i = 0; i < mr; i++)
    {
        vf av = vf_splat(a[i][k]);
        SP_UNROLL for (int j = 0; j < nv; j++) acc[i][j] = vf_fma(av, bv[j], acc[i][j]);
    }
}

/* mr and nv are constants where this is inlined: all loops but those over taps and k disappear. */
SP_INLINE void tile_run(const tile *t, const int mr, const int nv)
{
    const sp_gemm_f32 *g = t->g;
    const float *b = t->panel, *ahead = t->ahead;
    const size_t lines = t->ahead_lines;
    vf acc[MR_MAX][NV + 1];
    if (t->k0 == 0) {
        SP_UNROLL for (int i = 0; i < mr; i++) SP_UNROLL for (int j = 0; j < nv; j++) acc[i][j] =
            vf_zero();
    } else {
        load_sums(t, acc, mr, nv);
    }
    b += (1 + t->k0) * (size_t)nv * VL;
    for (size_t tap = 0; tap < g->taps; tap++) {
        const float *a[MR_MAX];
        tap_rows(t, tap, a, mr);
        for (size_t k = t->k0; k < t->k1;) {
            const size_t end = t->k1 - k > STEP ? k + STEP : t->k1;
            for (size_t l = 0; l < lines; l++, ahead += 16) __builtin_prefetch(ahead, 0, 2);
            for (; k < end; k++, b += nv * VL) add_products(a, k, b, acc, mr, nv);
        }
    }
    sums_end(t, acc, mr, nv);
}

/* Few rows, whose k is never cut: several k at a time, with sums of their own, so that B comes as
 * fast as caches give it and no multiply-add waits for the one before. */
SP_INLINE void chains_run(const tile *t, const int mr, const int nv, const int chains)
{
    const sp_gemm_f32 *g = t->g;
    const float *b = t->panel + nv * VL;
    vf acc[CHAINS_MAX][CHAIN_ROWS][NV + 1];
    SP_UNROLL for (int s = 0; s < chains; s++) SP_UNROLL for (int i = 0; i < mr; i++)
        SP_UNROLL for (int j = 0; j < nv; j++) acc[s][i][j] = vf_zero();
    for (size_t tap = 0; tap < g->taps; tap++) {
        const float *a[CHAIN_ROWS];
        tap_rows(t, tap, a, mr);
        size_t k = 0;
        for (; k + (size_t)chains <= g->k; k += (size_t)chains) {
            SP_UNROLL for (int s = 0; s < chains; s++, b += nv * VL)
                add_products(a, k + (size_t)s, b, acc[s], mr, nv);
        }
        for (; k < g->k; k++, b += nv * VL) add_products(a, k, b, acc[0], mr, nv);
    }
    SP_UNROLL for (int s = 1; s < chains; s++) SP_UNROLL for (int i = 0; i < mr; i++)
        SP_UNROLL for (int j = 0; j < nv; j++) acc[0][i][j] += acc[s][i][j];
    sums_end(t, acc[0], mr, nv);
}

static const float *row_of(const sp_gemm_f32 *g, size_t m)
{
    if (g->rows) return g->rows[m];
    return (g->bases ? g->bases[0] : g->a) + m * g->lda;
}

/* Windows of a signal against waves: sums that cancel to nearly 0, of which audio models take
 * logarithms. Where each product is rounded they are made in double precision. */
static bool sums_are_double(const sp_gemm_f32 *g)
{
#ifdef SP_ISA_generic
    return g->windows && g->taps == 1 && g->k >= LEAST_WAVE;
#else
    return false;
#endif
}

static void tile_double(const tile *t, size_t rows, size_t width)
{
    float buffer[MR_MAX * NR_MAX] __attribute__((aligned(64)));
    for (size_t i = 0; i < rows; i++) {
        const float *a = row_of(t->g, t->m + i), *b = t->panel;
        double sums[NR_MAX];
        for (size_t j = 0; j < width; j++) sums[j] = b[j];
        for (size_t k = 0; k < t->g->k; k++) {
            b += width;
            for (size_t j = 0; j < width; j++) sums[j] += (double)a[k] * (double)b[j];
        }
        for (size_t j = 0; j < width; j++) buffer[i * width + j] = (float)sums[j];
    }
    finish(t, rows, width, buffer);
}

typedef void tile_fn(const tile *t);

#define TILE(mr, nv)                                                                               \
    static void tile_##mr##x##nv(const tile *t)                                                    \
    {                                                                                              \
        tile_run(t, mr, nv);                                                                       \
    }
#define CHAINS(mr, nv, chains)                                                                     \
    static void tile_##mr##x##nv(const tile *t)                                                    \
    {                                                                                              \
        chains_run(t, mr, nv, chains);                                                             \
    }
/* Macros without semicolons. */
/* clang-format off */
CHAINS(1, 1, 4)
CHAINS(1, 2, 4)
CHAINS(1, 3, 4)
#if MR_OF_3 > CHAIN_ROWS
    CHAINS(2, 1, 4) CHAINS(2, 2, 2) CHAINS(2, 3, 2)
#else
    TILE(2, 1) TILE(2, 2) TILE(2, 3)
#endif
TILE(3, 1) TILE(3, 2) TILE(4, 1) TILE(4, 2)
#if MR_OF_3 >= 4
    TILE(3, 3) TILE(4, 3)
#endif
#if MR_MAX >= 6
        TILE(5, 1) TILE(6, 1)
#endif
#if MR_OF_2 >= 6
            TILE(5, 2) TILE(6, 2)
#endif
#if MR_MAX >= 12
                TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) TILE(11, 1) TILE(12, 1) TILE(7, 2)
                    TILE(8, 2) TILE(9, 2) TILE(10, 2) TILE(11, 2) TILE(12, 2) TILE(5, 3) TILE(6, 3)
                        TILE(7, 3) TILE(8, 3)
#endif

                            static tile_fn *const tiles[NV + 2][MR_MAX + 1] = {
#if MR_MAX >= 12
                                [1] = {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1,
                                       tile_6x1, tile_7x1, tile_8x1, tile_9x1, tile_10x1, tile_11x1,
                                       tile_12x1},
                                [2] = {NULL, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2,
                                       tile_6x2, tile_7x2, tile_8x2, tile_9x2, tile_10x2, tile_11x2,
                                       tile_12x2},
                                [3] = {NULL, tile_1x3, tile_2x3, tile_3x3, tile_4x3, tile_5x3,
                                       tile_6x3, tile_7x3, tile_8x3},
#elif MR_OF_2 >= 6
        [1] = {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1},
        [2] = {NULL, tile_1x2, tile_2x2, tile_3x2, tile_4x2, tile_5x2, tile_6x2},
        [3] = {NULL, tile_1x3, tile_2x3, tile_3x3, tile_4x3},
#else
        [1] = {NULL, tile_1x1, tile_2x1, tile_3x1, tile_4x1, tile_5x1, tile_6x1},
        [2] = {NULL, tile_1x2, tile_2x2, tile_3x2, tile_4x2},
        [3] = {NULL, tile_1x3, tile_2x3},
#endif
};
/* clang-format on */

static const size_t tile_rows[NV + 2] = {0, MR_OF_1, MR_OF_2, MR_OF_3};

/* k that one pass takes: a panel's part then stays near while all rows pass by. Sums wait in C
 * between passes; convolutions, whose rows overlap, and single rows are not cut. */
static size_t block_depth(const sp_gemm_f32 *g, size_t rows)
{
    const bool safe = g->residual == NULL || g->residual != g->c;
    if (g->taps != 1 || rows < MR_MAX || g->k <= DEPTH + DEPTH / 2 || !safe) return g->k;
    size_t parts = (g->k + DEPTH - 1) / DEPTH;
    return ((g->k + parts - 1) / parts + STEP - 1) / STEP * STEP;
}

/* Rows of A that one pass over the panels keeps in the second-level cache. */
static size_t block_rows(const sp_gemm_f32 *g, size_t depth)
{
    size_t rows = (192u << 10) / (depth * g->taps + 1);
    rows -= rows % MR_MAX;
    if (rows > 40 * MR_MAX) return 40 * MR_MAX; /* C passes by in one stream, not once per panel */
    return rows < 4 * MR_MAX ? 4 * MR_MAX : rows;
}

static void panel_run(tile *t, size_t m0, size_t m1, size_t vectors, size_t ahead_floats)
{
    /* Even tiles: 49 rows are 4 tiles of 10 and one of 9, not 4 of 12 and one of 1. */
    size_t rows = m1 - m0, count = (rows + tile_rows[vectors] - 1) / tile_rows[vectors];
    size_t size = rows / count, larger = rows % count;
    size_t steps = (t->k1 - t->k0 + STEP - 1) / STEP * t->g->taps, total = steps * count;
    t->ahead_lines = total ? (ahead_floats / 16 + total - 1) / total : 0;
    if (t->ahead_lines > MAX_AHEAD) t->ahead_lines = MAX_AHEAD;
    const float *end = ahead_floats ? t->ahead + ahead_floats : t->ahead;
    t->m = m0;
    for (size_t i = 0; i < count; i++) {
        size_t mr = size + (i < larger);
        if (t->doubles)
            tile_double(t, mr, vectors * VL);
        else
            tiles[vectors][mr](t);
        t->m += mr;
        if (t->ahead_lines) t->ahead += steps * t->ahead_lines * 16;
        if (t->ahead >= end) t->ahead_lines = 0;
    }
}

/* Few columns in one piece of memory: an activation that costs is better taken of all rows in whole
 * vectors than of a vector per row. */
static bool activates_later(const sp_gemm_f32 *g)
{
    const int act = g->epilogue.act;
    return g->n < VL && g->ldc == g->n && !g->epilogue.residual && act != SP_ACT_NONE &&
           act != SP_ACT_RELU && act != SP_ACT_CLIP && act != SP_ACT_HARDSWISH;
}

void SP_KERNEL(sp_gemm_f32)(const sp_gemm_f32 *g, size_t m0, size_t m1, size_t p0, size_t p1)
{
    const sp_gemm_epilogue *e = &g->epilogue;
    if (m0 < m1 && SP_KERNEL(sp_gemm_skip_pays)(g)) {
        SP_KERNEL(sp_gemm_skip_f32)(g, p0, p1);
        return;
    }
    const bool few = SP_KERNEL(sp_gemm_few_pays)(g);
    if (few || activates_later(g)) {
        sp_gemm_f32 plain = *g;
        float *c = g->c + m0 * g->n;
        plain.epilogue = (sp_gemm_epilogue){0};
        if (few)
            SP_KERNEL(sp_gemm_few_f32)(&plain, m0, m1);
        else
            SP_KERNEL(sp_gemm_f32)(&plain, m0, m1, p0, p1);
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, (m1 - m0) * g->n, c, c);
        return;
    }
    size_t panels = gemm_panels(g->n), k_total = g->k * g->taps;
    size_t depth = block_depth(g, m1 - m0), block = block_rows(g, depth);
    tile t = {.g = g, .lo = -INFINITY, .hi = INFINITY, .doubles = sums_are_double(g)};
    if (t.doubles) depth = g->k;
    if (e->act == SP_ACT_RELU) t.lo = 0;
    if (e->act == SP_ACT_CLIP) t.lo = e->a, t.hi = e->b;
    t.bounded = e->act == SP_ACT_RELU || e->act == SP_ACT_CLIP;
    t.hardswish = e->act == SP_ACT_HARDSWISH;
    t.direct = t.bounded || t.hardswish || e->act == SP_ACT_NONE;
    for (size_t m = m0; m < m1; m += block) {
        size_t end = m1 - m < block + block / 2 ? m1 : m + block;
        for (size_t k = 0;; k += depth) {
            t.k0 = k, t.k1 = g->k - k < depth ? g->k : k + depth;
            for (size_t p = p0; p < p1; p++) {
                size_t vectors = gemm_panel_vectors(g->n, p, panels);
                t.column = p * NR;
                t.columns = g->n - t.column < vectors * VL ? g->n - t.column : vectors * VL;
                t.panel = g->b + t.column * (k_total + 1);
                t.whole = t.columns == vectors * VL;
                /* the same part of the next panel, else the next part of the first */
                size_t next = p + 1 < p1 ? p + 1 : p0, from = p + 1 < p1 ? k : t.k1;
                size_t width = gemm_panel_vectors(g->n, next, panels) * VL;
                size_t length = g->taps > 1 ? k_total : g->k - from < depth ? g->k - from : depth;
                const float *b = g->b;
                if (p + 1 == p1 && from == g->k) { /* this was all of it */
                    from = 0, b = g->next;
                    length = b && end == m1 ? k_total : 0;
                }
                t.ahead = b ? b + next * NR * (k_total + 1) + (from + (from > 0)) * width : NULL;
                panel_run(&t, m, end, vectors, length * width);
            }
            if (t.k1 == g->k) break;
        }
        if (end == m1) break;
    }
}
