/* Conv by Winograd's F(4x4, 3x3): a quarter of the multiplications, for 2.25 times the weights. */
#include "backends/cpu/conv.h"
#include "ops/op.h"

#define TILE 4
#define POINTS 36

static bool all_ones(const sparoa_node *node, const char *name)
{
    size_t n;
    const int64_t *v = sparoa_attr_ints(node, name, &n);
    for (size_t i = 0; i < n; i++)
        if (v[i] != 1) return false;
    return true;
}

/* Small maps waste their tiles and then wait for the larger weights; few channels leave the
 * transforms in charge. */
bool sp_conv_winograd_pays(const conv_state *s, const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0];
    if (s->kind != CONV_INDIRECT || s->groups != 1 || s->kh != 3 || s->kw != 3) return false;
    if (s->c_in < 48 || s->c_out < 48 || s->c_in * s->c_out > 512 * 256) return false;
    if (!all_ones(node, "strides") || !all_ones(node, "dilations")) return false;
    return x->rank == 4 && x->dims[1] >= 10 && x->dims[2] >= 10;
}

typedef struct weights_task {
    const sp_kernels *kernels;
    sp_winograd_weights_f32 w;
    size_t panels;
    int32_t pieces;
    const sp_cpu_host *host;
} weights_task;

static void transform_piece(void *arg, int32_t i)
{
    const weights_task *t = arg;
    size_t n = (size_t)t->pieces, k = (size_t)i;
    t->kernels->winograd_weights_f32(&t->w, t->panels * k / n, t->panels * (k + 1) / n);
}

static void build_weights(void *arg, void *data)
{
    weights_task *t = arg;
    t->w.packed = data;
    sp_cpu_pack_tasks(t->host, t->pieces, transform_piece, t);
}

sp_cpu_packed *sp_conv_winograd_pack(const conv_state *s, const sp_cpu_host *host, const float *w)
{
    const sp_kernels *kernels = host->kernels;
    weights_task t = {.kernels = kernels,
                      .host = host,
                      .w = {.n = s->c_out,
                            .k = s->c_in,
                            .group = sp_gemm_group_floats(kernels, s->c_out, s->c_in),
                            .w = w},
                      .panels = kernels->gemm_f32_panels(s->c_out)};
    t.pieces = sp_cpu_pack_pieces(host, POINTS * s->c_in * s->c_out, t.panels);
    sp_pack_key key = sp_pack_key_of(kernels->winograd_name);
    sp_pack_key_int(&key, (int64_t)s->c_in);
    sp_pack_key_int(&key, (int64_t)s->c_out);
    if (host->cache) sp_cpu_pack_key_add(host, &key, w, s->c_in * s->c_out * 9 * sizeof(float));
    return sp_cpu_pack_shared(host->cache, &host->allocator, key,
                              POINTS * t.w.group * sizeof(float), build_weights, &t);
}

static size_t tiles_of(size_t size)
{
    return (size + TILE - 1) / TILE;
}

sparoa_status sp_conv_winograd_plan(const conv_state *s, const sp_cpu_host *host,
                                    const sparoa_node *node, conv_plan *p, sparoa_error *err)
{
    size_t tiles = p->batch * tiles_of(p->oh) * tiles_of(p->ow), floats = s->c_in + s->c_out;
    /* pieces of other panels would transform the same input once more */
    p->split = sp_gemm_split_fine(host->kernels, tiles, s->c_out, s->c_in * POINTS, host->threads);
    if (p->split.panel_parts > 1)
        p->split =
            sp_gemm_split_of(host->kernels, tiles, s->c_out, s->c_in * POINTS, host->threads);
    size_t rows = (tiles + (size_t)p->split.rows_parts - 1) / (size_t)p->split.rows_parts;
    /* V and M of a block stay in the second-level cache, but every block reads all weights. */
    size_t most = (300u << 10) / (POINTS * floats), least = 2 * (size_t)host->kernels->gemm_rows;
    if (most < least) most = least;
    size_t blocks = (rows + most - 1) / most;
    p->block = blocks ? (rows + blocks - 1) / blocks : 1;
    if (__builtin_mul_overflow(p->block * POINTS * sizeof(float), floats, &p->piece_bytes))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    p->piece_bytes = (p->piece_bytes + 63) / 64 * 64;
    return SPAROA_OK;
}

typedef struct winograd_task {
    const conv_state *s;
    const conv_plan *p;
    const sp_kernels *kernels;
    const float *x, *residual;
    float *y;
    char *workspace;
} winograd_task;

typedef struct tile_at {
    size_t n, y, x; /* image, first output pixel */
} tile_at;

static tile_at locate(const conv_plan *p, size_t tile)
{
    size_t across = tiles_of(p->ow), down = tiles_of(p->oh);
    return (tile_at){tile / (across * down), tile / across % down * TILE, tile % across * TILE};
}

static void tile_in(const winograd_task *t, size_t tile, float *v, size_t v_stride)
{
    const conv_plan *p = t->p;
    tile_at at = locate(p, tile);
    const float *in[POINTS], *image = t->x + at.n * p->h * p->w * p->c;
    for (int i = 0; i < POINTS; i++) {
        size_t y = at.y + (size_t)(i / 6) - (size_t)p->pad_top,
               x = at.x + (size_t)(i % 6) - (size_t)p->pad_left;
        in[i] = y < p->h && x < p->w ? image + (y * p->w + x) * p->c : t->s->zero;
    }
    t->kernels->winograd_in_f32(&(sp_winograd_in_f32){p->c, in, v, v_stride});
}

static void tile_out(const winograd_task *t, size_t tile, const float *m, size_t m_stride,
                     size_t c0, size_t c1)
{
    const conv_plan *p = t->p;
    tile_at at = locate(p, tile);
    size_t rows = p->oh - at.y, columns = p->ow - at.x, k = t->s->c_out;
    size_t first = ((at.n * p->oh + at.y) * p->ow + at.x) * k;
    sp_winograd_out_f32 w = {.c0 = c0,
                             .c1 = c1,
                             .m = m,
                             .m_stride = m_stride,
                             .bias = t->s->bias,
                             .out = t->y + first,
                             .residual = t->residual ? t->residual + first : NULL,
                             .line = p->ow * k,
                             .pixel = k,
                             .rows = rows < TILE ? (int)rows : TILE,
                             .columns = columns < TILE ? (int)columns : TILE};
    w.epilogue = sp_gemm_epilogue_of(&t->s->epilogue);
    t->kernels->winograd_out_f32(&w);
}

static void winograd_piece(void *arg, int32_t index)
{
    const winograd_task *t = arg;
    const conv_plan *p = t->p;
    const size_t c = t->s->c_in, k = t->s->c_out, columns = (size_t)t->kernels->gemm_columns;
    sp_gemm_piece piece = sp_gemm_piece_of(&p->split, index);
    size_t c0 = piece.p0 * columns, c1 = piece.p1 == p->split.panels ? k : piece.p1 * columns;
    size_t packed = sp_gemm_group_floats(t->kernels, k, c);
    float *v = (float *)(t->workspace + p->piece_bytes * (size_t)index),
          *m = v + POINTS * p->block * c;
    for (size_t tile = piece.m0; tile < piece.m1; tile += p->block) {
        size_t count = piece.m1 - tile < p->block ? piece.m1 - tile : p->block;
        for (size_t i = 0; i < count; i++) tile_in(t, tile + i, v + i * c, p->block * c);
        for (size_t i = 0; i < POINTS; i++) {
            sp_gemm_f32 g = {.m = count,
                             .n = k,
                             .k = c,
                             .taps = 1,
                             .a = v + i * p->block * c,
                             .lda = c,
                             .b = (float *)t->s->packed->data + i * packed,
                             .next = (float *)t->s->packed->data + (i + 1) % POINTS * packed,
                             .c = m + i * p->block * k,
                             .ldc = k};
            t->kernels->gemm_f32(&g, 0, count, piece.p0, piece.p1);
        }
        for (size_t i = 0; i < count; i++) tile_out(t, tile + i, m + i * k, p->block * k, c0, c1);
    }
}

void sp_conv_winograd_run(const conv_state *s, const conv_plan *p, const sp_kernels *kernels,
                          const sparoa_node *node, const sparoa_exec *exec)
{
    winograd_task t = {s, p, kernels, node->in[0]->data, NULL, node->out[0]->data, exec->workspace};
    if (s->epilogue.residual) t.residual = node->in[s->epilogue.residual_input]->data;
    sp_run_pieces(exec, sp_gemm_split_count(&p->split), winograd_piece, &t);
}
