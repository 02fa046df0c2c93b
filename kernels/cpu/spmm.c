/*
 * Products with a pruned B. A tile of rows of A is turned first, so that its rows lie in the lanes
 * of vectors; a nonzero of a column of B is then one broadcast and one multiply-add per vector of
 * rows. The columns' sums are turned back and finished where they are stored, in vectors of
 * columns. The depth is cut into blocks whose part of a tile stays in the nearest cache.
 *
 * Sums are made in the order of gemm.c's tiles of more than two rows: as far as A is finite, both
 * give the same bits. A single row is summed in another order, from where it lies.
 */
#include "kernels/cpu/spmm.h"
#include "kernels/cpu/protos.h"
#include "kernels/cpu/transpose.h"
#include "kernels/cpu/vmath.h"
#include "ops/epilogue.h"

#define SPAN 16  /* rows; a tile has 1..MAX_SPANS of them */
#define GROUP 16 /* columns that are packed together */
#define SIDE 2   /* columns of a group that are summed side by side */
#define DEPTH 128
#define FEWEST 8  /* nonzeros of a column in a block: below, starting columns costs too much */
#define CHUNK 768 /* columns whose sums wait for the next block, at most */
#define MAX_K 65535
#define PAGE 4096 /* addresses that differ by it are told apart late */
#define MAX_SPANS (SPMM_ROWS / SPAN)
#define TILE SPMM_ROWS

/* A packed block: this, then, each from a multiple of 64 bytes on, bias[n], the starts of all pairs
 * of columns in entries (blocks * groups * GROUP / SIDE, and the end), which column of its group
 * stands at each place (blocks * groups * GROUP), values and k of the entries. Columns of a group
 * are in the order of their nonzeros in the block, so that pairs are of about the same length;
 * entries of a pair alternate, and the shorter column is filled up with zeros. */
typedef struct header {
    sp_spmm_f32_size size;
    char fill[(64 - sizeof(sp_spmm_f32_size) % 64) % 64];
} header;

typedef struct packed {
    const sp_spmm_f32_size *size;
    const float *bias;
    const uint32_t *start;
    const uint8_t *place;
    const float *value;
    const uint16_t *k; /* from the block's first on */
} packed;

static size_t up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

/* Fills in where the arrays are, and returns the bytes. base may be NULL. */
static size_t layout(const sp_spmm_f32_size *s, const char *base, packed *p)
{
    const size_t columns = up(s->n, GROUP) * s->blocks;
    size_t at = sizeof(header);
    p->size = s;
    p->bias = (const float *)(base + at);
    at += up(s->n, GROUP) * sizeof(float);
    p->start = (const uint32_t *)(base + at);
    at += up(columns / SIDE + 1, 16) * sizeof(uint32_t);
    p->place = (const uint8_t *)(base + at);
    at += up(columns, 64);
    p->value = (const float *)(base + at);
    at += up(s->entries, 16) * sizeof(float);
    p->k = (const uint16_t *)(base + at);
    return at + up(s->entries, 32) * sizeof(uint16_t);
}

/* ---- packing ---- */

/* Nonzeros of n floats `stride` apart. */
static uint32_t count_column(const float *b, size_t stride, size_t n, float scale)
{
    uint32_t count = 0;
    size_t i = 0;
    if (stride == 1) {
        vi sum = {0};
        for (; i + VL <= n; i += VL) sum -= vf_load(b + i) * vf_splat(scale) != vf_zero();
        for (int l = 0; l < VL; l++) count += (uint32_t)sum[l];
    }
    for (; i < n; i++) count += b[i * stride] * scale != 0;
    return count;
}

/* Nonzeros of a group's columns in one block. */
static void count_group(const sp_gemm_f32_source *s, size_t n0, size_t k0, size_t k1,
                        uint32_t counts[GROUP])
{
    const size_t columns = s->n - n0 < GROUP ? s->n - n0 : GROUP;
    const float *b = s->b + k0 * s->k_stride + n0 * s->n_stride;
    memset(counts, 0, GROUP * sizeof *counts);
    if (s->n_stride != 1 || columns < GROUP) {
        for (size_t j = 0; j < columns; j++)
            counts[j] = count_column(b + j * s->n_stride, s->k_stride, k1 - k0, s->scale);
        return;
    }
    vi sums[GROUP / VL] = {{0}};
    for (size_t k = k0; k < k1; k++, b += s->k_stride)
        SP_UNROLL for (size_t v = 0; v < GROUP / VL; v++) sums[v] -=
            vf_load(b + v * VL) * vf_splat(s->scale) != vf_zero();
    for (size_t j = 0; j < GROUP; j++) counts[j] = (uint32_t)sums[j / VL][j % VL];
}

/* Columns of a group by their counts, stable. */
static void sort_group(const uint32_t counts[GROUP], uint8_t place[GROUP])
{
    for (size_t i = 0; i < GROUP; i++) {
        size_t j = i;
        for (; j > 0 && counts[place[j - 1]] > counts[i]; j--) place[j] = place[j - 1];
        place[j] = (uint8_t)i;
    }
}

static size_t block_end(const sp_spmm_f32_size *s, size_t b)
{
    return (b + 1) * s->depth < s->k ? (b + 1) * s->depth : s->k;
}

static void cut_depth(sp_spmm_f32_size *s, bool row)
{
    size_t blocks = row ? 1 : (s->k + DEPTH - 1) / DEPTH;
    while (blocks > 1 && s->nonzeros < FEWEST * s->n * blocks) blocks--;
    if (s->k / (blocks + !blocks) >= MAX_K) blocks = s->k / MAX_K + 1;
    s->blocks = blocks ? blocks : 1;
    s->depth = (s->k + s->blocks - 1) / s->blocks;
    if (s->depth) s->blocks = (s->k + s->depth - 1) / s->depth; /* none lies beyond the last k */
}

void SP_KERNEL(sp_spmm_f32_measure)(const sp_gemm_f32_source *s, bool row, sp_spmm_f32_size *size)
{
    uint32_t counts[GROUP];
    uint8_t place[GROUP];
    packed p;
    *size = (sp_spmm_f32_size){.n = s->n, .k = s->k};
    for (size_t n = 0; n < s->n; n += GROUP) {
        count_group(s, n, 0, s->k, counts);
        for (size_t j = 0; j < GROUP; j++) size->nonzeros += counts[j];
    }
    cut_depth(size, row);
    for (size_t b = 0; b < size->blocks; b++)
        for (size_t n = 0; n < s->n; n += GROUP) {
            count_group(s, n, b * size->depth, block_end(size, b), counts);
            sort_group(counts, place);
            for (size_t j = SIDE - 1; j < GROUP; j += SIDE)
                size->entries += SIDE * counts[place[j]];
        }
    size->bytes = layout(size, NULL, &p);
}

static uint32_t pack_group(const sp_gemm_f32_source *s, const sp_spmm_f32_size *size, size_t b,
                           size_t n0, packed *p, uint32_t at)
{
    uint32_t counts[GROUP], cursor[GROUP], end[GROUP];
    uint32_t *start = (uint32_t *)p->start;
    uint8_t *place = (uint8_t *)p->place;
    float *value = (float *)p->value;
    uint16_t *index = (uint16_t *)p->k;
    const size_t k0 = b * size->depth, columns = s->n - n0 < GROUP ? s->n - n0 : GROUP;
    count_group(s, n0, k0, block_end(size, b), counts);
    sort_group(counts, place);
    for (size_t i = 0; i < GROUP; i++) {
        if (i % SIDE == 0) *start++ = at;
        cursor[place[i]] = at + (uint32_t)(i % SIDE);
        if (i % SIDE < SIDE - 1) continue;
        at += SIDE * counts[place[i]];
        for (size_t j = 0; j < SIDE; j++) end[place[i - j]] = at;
    }
    for (size_t k = k0; k < block_end(size, b); k++) {
        const float *row = s->b + k * s->k_stride + n0 * s->n_stride;
        for (size_t j = 0; j < columns; j++) {
            const float v = row[j * s->n_stride] * s->scale;
            if (v == 0) continue;
            value[cursor[j]] = v;
            index[cursor[j]] = (uint16_t)(k - k0);
            cursor[j] += SIDE;
        }
    }
    for (size_t j = 0; j < GROUP; j++)
        for (uint32_t i = cursor[j]; i < end[j]; i += SIDE) value[i] = 0, index[i] = 0;
    p->start = start;
    p->place += GROUP;
    return at;
}

void SP_KERNEL(sp_spmm_f32_pack)(const sp_gemm_f32_source *s, const sp_spmm_f32_size *size,
                                 void *data)
{
    packed p;
    uint32_t at = 0;
    *(header *)data = (header){.size = *size};
    layout(size, data, &p);
    for (size_t n = 0; n < up(s->n, GROUP); n++)
        ((float *)p.bias)[n] = s->bias && n < s->n ? s->bias[n] : 0;
    for (size_t b = 0; b < size->blocks; b++)
        for (size_t n = 0; n < s->n; n += GROUP) at = pack_group(s, size, b, n, &p, at);
    *(uint32_t *)p.start = at;
}

/* ---- computing ---- */

size_t SP_KERNEL(sp_spmm_f32_scratch_floats)(const sp_spmm_f32_size *s)
{
    const size_t columns = s->blocks == 1 ? GROUP : s->n < CHUNK ? up(s->n, GROUP) : CHUNK;
    return (s->depth + columns) * TILE + PAGE / sizeof(float);
}

typedef struct job {
    const sp_spmm_f32 *g;
    packed b; /* start and place: of the block */
    size_t m, rows, width, k0, k1;
    float *turned; /* [k1 - k0][width] */
    float *sums;   /* [columns][width] */
    float lo, hi;  /* bounds of the activation; of a product without one, infinite */
    bool bounded, direct, first, last;
} job;

static const float *row_of(const sp_spmm_f32 *g, size_t m)
{
    return g->rows ? g->rows[m] : g->a + m * g->lda;
}

static void turn(const job *t)
{
    for (size_t i = 0; i < t->width; i += VL) {
        const float *rows[VL];
        for (size_t l = 0; l < VL; l++) /* what lies in lanes beyond the last is not stored */
            rows[l] = row_of(t->g, t->m + (i + l < t->rows ? i + l : t->rows - 1));
        float *to = t->turned + i;
        size_t k = t->k0;
        vf r[VL];
        for (; k + VL <= t->k1; k += VL, to += VL * t->width) {
            SP_UNROLL for (size_t l = 0; l < VL; l++) r[l] = vf_load(rows[l] + k);
            vf_transpose(r);
            SP_UNROLL for (size_t l = 0; l < VL; l++) vf_store(to + l * t->width, r[l]);
        }
        if (k == t->k1) continue;
        SP_UNROLL for (size_t l = 0; l < VL; l++) r[l] = vf_load_n(rows[l] + k, t->k1 - k);
        vf_transpose(r);
        SP_UNROLL for (size_t l = 0; l < VL; l++) if (l < t->k1 - k)
            vf_store(to + l * t->width, r[l]);
    }
}

/* Sums of the columns that stand side by side at place[0], place[1] ... */
SP_INLINE void sum_columns(const job *t, const uint32_t *start, const uint8_t *place, float *sums,
                           const int nv)
{
    const float *const turned = t->turned, *const value = t->b.value;
    const uint16_t *const index = t->b.k;
    const size_t end = start[1], width = (size_t)nv * VL;
    vf acc[SIDE][TILE / VL];
    SP_UNROLL for (int s = 0; s < SIDE; s++) SP_UNROLL for (int j = 0; j < nv; j++) acc[s][j] =
        t->first ? vf_zero() : vf_load(sums + place[s] * width + j * VL);
    for (size_t i = start[0]; i < end; i += SIDE) {
        SP_UNROLL for (int s = 0; s < SIDE; s++)
        {
            const float *a = turned + (size_t)index[i + (size_t)s] * width;
            const vf w = vf_splat(value[i + (size_t)s]);
            SP_UNROLL for (int j = 0; j < nv; j++) acc[s][j] =
                vf_fma(w, vf_load(a + j * VL), acc[s][j]);
        }
    }
    SP_UNROLL for (int s = 0; s < SIDE; s++) SP_UNROLL for (int j = 0; j < nv; j++)
        vf_store(sums + place[s] * width + j * VL, acc[s][j]);
}

/* All that an epilogue may want, of `columns` results. */
static void finish_any(const job *t, size_t m, size_t n, size_t columns, vf v)
{
    const sp_spmm_f32 *g = t->g;
    const sp_gemm_epilogue *e = &g->epilogue;
    float buffer[VL] __attribute__((aligned(64)));
    const vf residual = e->residual ? vf_load_n(g->residual + m * g->ldr + n, columns) : vf_zero();
    v += vf_load(t->b.bias + n);
    if (e->residual == 1) v += residual;
    if (t->bounded) {
        v = vf_min(vf_splat(t->hi), vf_max(vf_splat(t->lo), v));
    } else {
        vf_store(buffer, v);
        SP_KERNEL(sp_act_f32)(e->act, e->a, e->b, VL, buffer, buffer);
        v = vf_load(buffer);
    }
    if (e->residual == 2) v += residual;
    vf_store_n(g->c + m * g->ldc + n, v, columns);
}

#define EACH_ROW SP_UNROLL for (size_t l = 0; l < VL; l++)

/* VL rows of VL columns, from m and n on, with a residual and the common activations. */
SP_INLINE void finish_square(const job *t, size_t m, size_t n, vf *r, const bool whole,
                             size_t columns)
{
    const sp_spmm_f32 *g = t->g;
    const int residual = g->epilogue.residual;
    const float *add = residual ? g->residual + m * g->ldr + n : NULL;
    float *c = g->c + m * g->ldc + n;
    const vf bias = vf_load(t->b.bias + n);
    EACH_ROW r[l] += bias;
    if (residual == 1)
        EACH_ROW r[l] += whole ? vf_load(add + l * g->ldr) : vf_load_n(add + l * g->ldr, columns);
    if (t->bounded) {
        const vf lo = vf_splat(t->lo), hi = vf_splat(t->hi);
        EACH_ROW r[l] = vf_min(hi, vf_max(lo, r[l]));
    } else {
        EACH_ROW r[l] = vf_hardswish(r[l]);
    }
    if (residual == 2)
        EACH_ROW r[l] += whole ? vf_load(add + l * g->ldr) : vf_load_n(add + l * g->ldr, columns);
    EACH_ROW
    {
        if (whole)
            vf_store(c + l * g->ldc, r[l]);
        else
            vf_store_n(c + l * g->ldc, r[l], columns);
    }
}

/* Sums of VL columns and all rows of the tile, turned back and stored. */
static void finish(const job *t, size_t n, size_t columns, const float *sums)
{
    for (size_t i = 0; i < t->rows; i += VL) {
        vf r[VL];
        EACH_ROW r[l] = vf_load(sums + l * t->width + i);
        vf_transpose(r);
        if (t->rows - i < VL || !t->direct) {
            EACH_ROW if (i + l < t->rows) finish_any(t, t->m + i + l, n, columns, r[l]);
        } else if (columns == VL) {
            finish_square(t, t->m + i, n, r, true, VL);
        } else {
            finish_square(t, t->m + i, n, r, false, columns);
        }
    }
}

SP_INLINE void tile_run(const job *t, size_t n0, size_t n1, const int nv)
{
    float *sums = t->sums;
    for (size_t n = n0; n < n1; n += GROUP) {
        for (size_t j = 0; j < GROUP; j += SIDE)
            sum_columns(t, t->b.start + (n + j) / SIDE, t->b.place + n + j, sums, nv);
        for (size_t j = 0; t->last && j < GROUP && n + j < n1; j += VL)
            finish(t, n + j, n1 - n - j < VL ? n1 - n - j : VL, sums + j * t->width);
        if (t->b.size->blocks > 1) sums += GROUP * t->width;
    }
}

#define RUN(spans)                                                                                 \
    static void run_##spans(const job *t, size_t n0, size_t n1)                                    \
    {                                                                                              \
        tile_run(t, n0, n1, (spans)*SPAN / VL);                                                    \
    }
/* Macros without semicolons. */
/* clang-format off */
RUN(1)
#if MAX_SPANS >= 2
RUN(2)
#endif
#if MAX_SPANS >= 4
RUN(3)
RUN(4)
#endif
static void (*const runs[])(const job *, size_t, size_t) = {
    run_1,
#if MAX_SPANS >= 2
    run_2,
#endif
#if MAX_SPANS >= 4
    run_3, run_4,
#endif
};
/* clang-format on */

/* One row of A, not turned: two sums for each column. */
static void row_run(const job *t, size_t n0, size_t n1)
{
    const float *const a = row_of(t->g, t->m) + t->k0, *const value = t->b.value;
    const uint16_t *const index = t->b.k;
    float *sums = t->sums;
    for (size_t n = n0; n < n1; n += GROUP) {
        for (size_t j = 0; j < GROUP; j += SIDE) {
            const uint32_t *start = t->b.start + (n + j) / SIDE;
            float acc[2][SIDE] = {{0}};
            size_t i = start[0];
            for (; i + 2 * SIDE <= start[1]; i += 2 * SIDE)
                SP_UNROLL for (size_t s = 0; s < 2 * SIDE; s++) acc[s / SIDE][s % SIDE] +=
                    value[i + s] * a[index[i + s]];
            for (size_t s = 0; i < start[1] && s < SIDE; s++)
                acc[0][s] += value[i + s] * a[index[i + s]];
            for (size_t s = 0; s < SIDE; s++) {
                float *sum = sums + t->b.place[n + j + s];
                *sum = (t->first ? 0 : *sum) + (acc[0][s] + acc[1][s]);
            }
        }
        for (size_t j = 0; t->last && j < GROUP && n + j < n1; j += VL)
            finish_any(t, t->m, n + j, n1 - n - j < VL ? n1 - n - j : VL, vf_load(sums + j));
        if (t->b.size->blocks > 1) sums += GROUP;
    }
}

static void run_rows(job *t, const packed *b, size_t n0, size_t n1)
{
    const sp_spmm_f32_size *size = b->size;
    const size_t columns = up(size->n, GROUP);
    for (size_t n = n0; n < n1; n += CHUNK)
        for (size_t i = 0; i < size->blocks; i++) {
            const size_t end = n + CHUNK < n1 ? n + CHUNK : n1;
            t->k0 = i * size->depth, t->k1 = block_end(size, i);
            t->first = i == 0, t->last = i + 1 == size->blocks;
            t->b.start = b->start + i * columns / SIDE;
            t->b.place = b->place + i * columns;
            if (t->width == 1) {
                row_run(t, n, end);
            } else {
                turn(t);
                runs[t->width / SPAN - 1](t, n, end);
            }
        }
}

/* Scratch that does not begin where A does within a page: loads of one would wait for stores to the
 * other (by half with 16 channels). */
static float *apart(const sp_spmm_f32 *g, size_t m0)
{
    const uintptr_t from = (uintptr_t)row_of(g, m0) + PAGE / 8 * 5;
    return g->scratch + (from - (uintptr_t)g->scratch) % PAGE / 64 * 16;
}

void SP_KERNEL(sp_spmm_f32)(const sp_spmm_f32 *g, size_t m0, size_t m1, size_t n0, size_t n1)
{
    const sp_gemm_epilogue *e = &g->epilogue;
    packed b;
    if (m0 == m1) return;
    layout(&((const header *)g->b)->size, g->b, &b);
    job t = {.g = g, .b = b, .m = m0, .lo = -INFINITY, .hi = INFINITY};
    t.turned = apart(g, m0);
    if (e->act == SP_ACT_RELU) t.lo = 0;
    if (e->act == SP_ACT_CLIP) t.lo = e->a, t.hi = e->b;
    t.bounded = e->act == SP_ACT_RELU || e->act == SP_ACT_CLIP || e->act == SP_ACT_NONE;
    t.direct = t.bounded || e->act == SP_ACT_HARDSWISH;
    /* Even tiles: 13 spans are 4, 3, 3 and 3. */
    size_t spans = (m1 - m0 + SPAN - 1) / SPAN, tiles = (spans + MAX_SPANS - 1) / MAX_SPANS;
    for (size_t i = 0; i < tiles; i++) {
        t.width = (spans / tiles + (i < spans % tiles)) * SPAN;
        t.rows = m1 - t.m < t.width ? m1 - t.m : t.width;
        if (m1 - m0 == 1) t.width = 1;
        t.sums = t.turned + b.size->depth * t.width;
        run_rows(&t, &b, n0, n1);
        t.m += t.rows;
    }
}
