#include "backends/cpu/spmm_run.h"

#include <math.h>

#define GROUP 16 /* columns that the kernel wants together, and rows of a span */
#define FEWEST_ZEROS 0.6
#define SAMPLES 128
#define MIN_WORK 100000.0 /* as in gemm_run.c, of entries, which take twice as long */

static size_t up(size_t n)
{
    return (n + GROUP - 1) / GROUP;
}

/* ---- choosing ---- */

/* Time of a sparse product of m rows by a share of its columns, in the unit of spmm_costs. */
static double sparse_time(const sp_kernels *kernels, const sp_spmm_f32_size *s, size_t m,
                          double share)
{
    const sp_spmm_costs *c = &kernels->spmm_costs;
    const double entries = (double)s->entries * share, columns = (double)s->n * share;
    const size_t tile = (size_t)kernels->spmm_rows / GROUP;
    if (m == 1) return entries * c->row_entry + columns * c->row_column;
    const double spans = (double)up(m), tiles = ceil(spans / (double)tile);
    const double vectors = spans * GROUP / kernels->vector;
    return entries * (vectors * c->vector + tiles * c->entry) +
           columns * (vectors * c->finish + tiles * (double)s->blocks * c->column) +
           (double)s->k * vectors * c->turn;
}

static double dense_time(const sp_kernels *kernels, const sp_spmm_f32_size *s, size_t m)
{
    const sp_spmm_costs *c = &kernels->spmm_costs;
    const double n = (double)((s->n + (size_t)kernels->vector - 1) / (size_t)kernels->vector);
    if (m == 1) return n * (double)s->k * c->row_dense;
    const double rows = m < 4 ? 3.5 : (double)m; /* few sums wait for each other, and for weights */
    return n * rows * ((double)s->k * c->dense + c->dense_finish);
}

static bool mostly_zeros(const sp_gemm_f32_source *s)
{
    const size_t count = s->n * s->k;
    size_t zeros = 0, at = 0;
    for (size_t i = 0; i < SAMPLES; i++) {
        at = (at + 0x9e3779b97f4a7c15u) % count;
        zeros += s->b[at / s->n * s->k_stride + at % s->n * s->n_stride] == 0;
    }
    return 2 * zeros >= SAMPLES;
}

bool sp_spmm_pays(const sp_cpu_host *host, const sp_spmm_f32_size *size, size_t m)
{
    const sp_kernels *kernels = host->kernels;
    if (host->sparse != SP_WHEN_FASTER) return host->sparse == SP_WHEN_ALWAYS;
    return dense_time(kernels, size, m) >=
           sparse_time(kernels, size, m, 1) * kernels->spmm_costs.margin;
}

sp_spmm_choice sp_spmm_choose(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                              size_t least, size_t most, sp_spmm_f32_size *size)
{
    const bool always = host->sparse == SP_WHEN_ALWAYS;
    size_t count;
    if (host->sparse == SP_WHEN_NEVER || source->taps != 1) return SP_SPMM_NO;
    if (__builtin_mul_overflow(source->n, source->k, &count) || count == 0) return SP_SPMM_NO;
    if (count > UINT32_MAX / 2) return SP_SPMM_NO; /* entries are counted in 32 bits */
    if (!always && (source->n < GROUP || !mostly_zeros(source))) return SP_SPMM_NO;
    host->kernels->spmm_f32_measure(source, most == 1, size);
    const double zeros = (double)(count - size->nonzeros);
    if (!always && zeros < FEWEST_ZEROS * (double)count) return SP_SPMM_NO;
    if (!sp_spmm_pays(host, size, most)) return SP_SPMM_NO;
    for (size_t m = least; m < most; m *= 2)
        if (!sp_spmm_pays(host, size, m)) return SP_SPMM_MANY;
    return SP_SPMM_YES;
}

/* ---- packing ---- */

typedef struct build_task {
    const sp_kernels *kernels;
    const sp_gemm_f32_source *source;
    const sp_spmm_f32_size *size;
} build_task;

static void build(void *arg, void *data)
{
    const build_task *t = arg;
    t->kernels->spmm_f32_pack(t->source, t->size, data);
}

sp_cpu_packed *sp_spmm_pack_shared(const sp_cpu_host *host, const sp_gemm_f32_source *source,
                                   const sp_spmm_f32_size *size)
{
    build_task t = {host->kernels, source, size};
    sp_pack_key key = sp_pack_key_of(host->kernels->spmm_name);
    const size_t sizes[] = {
        source->n,    source->k,  source->k_stride, source->n_stride, source->bias != NULL,
        size->blocks, size->depth};
    if (host->cache) { /* else the key is not looked at */
        sp_pack_key_add(&key, sizes, sizeof sizes);
        sp_pack_key_add(&key, &source->scale, sizeof source->scale);
        sp_pack_key_add(&key, source->b, source->n * source->k * sizeof(float));
        if (source->bias) sp_pack_key_add(&key, source->bias, source->n * sizeof(float));
    }
    return sp_cpu_pack_shared(host->cache, &host->allocator, key, size->bytes, build, &t);
}

/* ---- running ---- */

sp_gemm_split sp_spmm_split(const sp_kernels *kernels, const sp_spmm_f32_size *size, size_t m,
                            int32_t threads)
{
    sp_gemm_split best = {m, up(size->n), 1, 1};
    const double work = (double)m * (double)size->entries;
    double best_time = INFINITY;
    threads = sp_fine_pieces(work, threads);
    if (work / MIN_WORK < threads) threads = work < MIN_WORK ? 1 : (int32_t)(work / MIN_WORK);
    for (int32_t p = 1; p <= threads && (size_t)p <= best.panels; p++) {
        int32_t r = threads / p;
        if ((size_t)r > up(m)) r = m ? (int32_t)up(m) : 1;
        const size_t rows = (m + (size_t)r - 1) / (size_t)r;
        const size_t panels = (best.panels + (size_t)p - 1) / (size_t)p;
        double time = sparse_time(kernels, size, rows, (double)panels / (double)best.panels);
        if (time < best_time) best_time = time, best.rows_parts = r, best.panel_parts = p;
    }
    return best;
}

size_t sp_spmm_piece_bytes(const sp_kernels *kernels, const sp_spmm_f32_size *size)
{
    return (kernels->spmm_f32_scratch_floats(size) * sizeof(float) + 63) / 64 * 64;
}

void sp_spmm_piece(const sp_kernels *kernels, const sp_spmm_f32 *g, const sp_gemm_piece *piece,
                   size_t m0, size_t m1, void *memory)
{
    const sp_spmm_f32_size *size = g->b;
    const size_t n1 = piece->p1 * GROUP;
    sp_spmm_f32 mine = *g;
    mine.scratch = memory;
    kernels->spmm_f32(&mine, m0, m1, piece->p0 * GROUP, n1 < size->n ? n1 : size->n);
}

typedef struct spmm_task {
    const sp_kernels *kernels;
    const sp_spmm_f32 *g;
    const sp_gemm_split *split;
    char *workspace;
    size_t piece_bytes;
} spmm_task;

static void run_piece(void *arg, int32_t i)
{
    const spmm_task *t = arg;
    const sp_gemm_piece p = sp_gemm_piece_of(t->split, i);
    sp_spmm_piece(t->kernels, t->g, &p, p.m0, p.m1, t->workspace + t->piece_bytes * (size_t)i);
}

void sp_spmm_parallel(const sp_kernels *kernels, const sp_spmm_f32 *g, const sp_gemm_split *split,
                      const sparoa_exec *exec)
{
    spmm_task t = {kernels, g, split, exec->workspace, sp_spmm_piece_bytes(kernels, g->b)};
    sp_run_pieces(exec, sp_gemm_split_count(split), run_piece, &t);
}
