#include "backends/cpu/gemm_run.h"

#include <math.h>

/* Multiply-adds below which other threads would come too late. */
#define MIN_WORK 200000.0

sp_gemm_split sp_gemm_split_of(const sp_kernels *kernels, size_t m, size_t n, size_t k_total,
                               int32_t threads)
{
    sp_gemm_split best = {m, kernels->gemm_f32_panels(n), 1, 1};
    const double mr = kernels->gemm_rows, nr = kernels->gemm_columns, k = (double)k_total;
    double pieces = (double)m * (double)n * k / MIN_WORK, best_cost = INFINITY;
    if (pieces < threads) threads = pieces < 1 ? 1 : (int32_t)pieces;
    for (int32_t p = 1; p <= threads; p++) {
        int32_t r = threads / p;
        if ((size_t)p > best.panels) break;
        if ((size_t)r > m) r = m ? (int32_t)m : 1;
        /* What the largest piece computes, in whole tiles, and what it reads: weights may come from
         * memory. */
        double rows = ceil(ceil((double)m / r) / mr) * mr;
        double columns = ceil((double)best.panels / p) * nr;
        double cost = rows * columns * k + 8 * k * (columns + rows);
        if (cost < best_cost) best_cost = cost, best.rows_parts = r, best.panel_parts = p;
    }
    return best;
}

/* Multiply-adds of a piece that are worth handing over by themselves. */
#define FINE_WORK 5e6
#define MAX_FINE 4 /* pieces per thread */

int32_t sp_fine_pieces(double multiply_adds, int32_t threads)
{
    double each = multiply_adds / (FINE_WORK * threads);
    if (threads <= 1 || each < 2) return threads;
    return threads * (each < MAX_FINE ? (int32_t)each : MAX_FINE);
}

sp_gemm_split sp_gemm_split_fine(const sp_kernels *kernels, size_t m, size_t n, size_t k_total,
                                 int32_t threads)
{
    double work = (double)m * (double)n * (double)k_total;
    return sp_gemm_split_of(kernels, m, n, k_total, sp_fine_pieces(work, threads));
}

sp_gemm_piece sp_gemm_piece_of(const sp_gemm_split *s, int32_t i)
{
    size_t r = (size_t)(i / s->panel_parts), p = (size_t)(i % s->panel_parts);
    size_t rows = (size_t)s->rows_parts, panels = (size_t)s->panel_parts;
    return (sp_gemm_piece){s->m * r / rows, s->m * (r + 1) / rows, s->panels * p / panels,
                           s->panels * (p + 1) / panels};
}

typedef struct gemm_task {
    const sp_kernels *kernels;
    const sp_gemm_f32 *g;
    sp_gemm_split split;
} gemm_task;

static void gemm_piece(void *arg, int32_t i)
{
    const gemm_task *t = arg;
    sp_gemm_piece p = sp_gemm_piece_of(&t->split, i);
    t->kernels->gemm_f32(t->g, p.m0, p.m1, p.p0, p.p1);
}

void sp_gemm_parallel(const sp_kernels *kernels, const sp_gemm_f32 *g, const sparoa_exec *exec)
{
    gemm_task t = {kernels, g,
                   sp_gemm_split_fine(kernels, g->m, g->n, g->k * g->taps, exec->threads)};
    sp_run_pieces(exec, sp_gemm_split_count(&t.split), gemm_piece, &t);
}

typedef struct pack_task {
    const sp_kernels *kernels;
    const sp_gemm_f32_source *source;
    float *packed;
    size_t panels;
    int32_t count;
} pack_task;

static void pack_piece(void *arg, int32_t i)
{
    const pack_task *t = arg;
    size_t n = (size_t)t->count, k = (size_t)i;
    t->kernels->gemm_f32_pack(t->source, t->panels * k / n, t->panels * (k + 1) / n, t->packed);
}

void sp_gemm_pack_parallel(const sp_kernels *kernels, const sp_gemm_f32_source *source,
                           float *packed, const sparoa_exec *exec)
{
    pack_task t = {kernels, source, packed, kernels->gemm_f32_panels(source->n), exec->threads};
    double bytes = (double)source->n * (double)source->k * (double)source->taps * 4;
    if ((size_t)t.count > t.panels) t.count = (int32_t)t.panels;
    if (t.count <= 1 || bytes < 32768) {
        kernels->gemm_f32_pack(source, 0, t.panels, packed);
        return;
    }
    exec->parallel(exec, t.count, pack_piece, &t);
}

size_t sp_gemm_group_floats(const sp_kernels *kernels, size_t n, size_t k_total)
{
    return (kernels->gemm_f32_packed_floats(n, k_total) + 15) / 16 * 16;
}

typedef struct build_task {
    const sp_cpu_host *host;
    const sp_gemm_f32_source *source;
    size_t groups, group_floats, packed_floats;
    float *packed;
    int32_t pieces;
} build_task;

/* An even share of the panels of every group. */
static void build_piece(void *arg, int32_t i)
{
    const build_task *t = arg;
    const sp_kernels *kernels = t->host->kernels;
    sp_gemm_f32_source source = *t->source;
    size_t panels = kernels->gemm_f32_panels(source.n), n = (size_t)t->pieces, k = (size_t)i;
    for (size_t g = 0; g < t->groups; g++) {
        kernels->gemm_f32_pack(&source, panels * k / n, panels * (k + 1) / n,
                               t->packed + g * t->packed_floats);
        source.b += t->group_floats;
        if (source.bias) source.bias += source.n;
    }
}

static void build_packed(void *arg, void *data)
{
    build_task *t = arg;
    t->packed = data;
    sp_cpu_pack_tasks(t->host, t->pieces, build_piece, t);
}

sp_cpu_packed *sp_gemm_pack_shared(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                                   size_t groups, size_t group_floats)
{
    const sp_kernels *kernels = host->kernels;
    build_task t = {.host = host,
                    .source = source,
                    .groups = groups,
                    .group_floats = group_floats,
                    .packed_floats =
                        sp_gemm_group_floats(kernels, source->n, source->k * source->taps)};
    size_t bytes;
    if (__builtin_mul_overflow(t.packed_floats, groups * sizeof(float), &bytes)) return NULL;
    t.pieces = sp_cpu_pack_pieces(host, bytes / 4, kernels->gemm_f32_panels(source->n));
    sp_pack_key key = sp_pack_key_of(kernels->gemm_name);
    const size_t sizes[] = {
        source->n,        source->k,        source->taps,         source->tap_stride,
        source->k_stride, source->n_stride, source->bias != NULL, groups};
    if (host->cache) { /* else the key is not looked at */
        sp_pack_key_add(&key, sizes, sizeof sizes);
        sp_pack_key_add(&key, &source->scale, sizeof source->scale);
        sp_cpu_pack_key_add(host, &key, source->b, groups * group_floats * sizeof(float));
        if (source->bias) sp_pack_key_add(&key, source->bias, groups * source->n * sizeof(float));
    }
    return sp_cpu_pack_shared(host->cache, &host->allocator, key, bytes, build_packed, &t);
}

sp_gemm_epilogue sp_gemm_epilogue_of(const sp_epilogue *e)
{
    return (sp_gemm_epilogue){(int)e->act, e->a, e->b, e->residual};
}

bool sp_cpu_is_constant(const sparoa_node *node, int32_t i)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return t && node->constant && node->constant[i] && t->data && sparoa_tensor_count(t) >= 0;
}

bool sp_cpu_constant_or_absent(const sparoa_node *node, int32_t i)
{
    return !sparoa_in(node, i) || sp_cpu_is_constant(node, i);
}

bool sp_cpu_all_float32(const sparoa_node *node)
{
    for (int32_t i = 0; i < node->n_in; i++)
        if (node->in[i] && node->in[i]->dtype != SPAROA_FLOAT32) return false;
    return true;
}
