/*
 * Conv on float32 images with the channel last, 1-D to 3-D, constant weights: what the kernel can
 * do, choosing how, and packing. conv_run.c computes.
 */
#include "backends/cpu/conv.h"
#include "ops/op.h"

#define MAX_KERNEL 4096
#define MAX_DEPTHWISE 64
#define MANY_ROWS 1024 /* pixels, where they are not known: stands for any large number */

static bool is_depthwise(const sparoa_node *node)
{
    const sparoa_tensor *w = node->in[1];
    int64_t group = sparoa_attr_int(node, "group", 1);
    return group > 1 && w->dims[1] == 1 && w->dims[0] == group;
}

/* A column of pixels with nothing beside it is stored as a row is, and a row's window is one piece.
 */
static bool is_column(const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0], *w = node->in[1];
    size_t n;
    if (w->rank != 4 || w->dims[3] != 1 || x->rank != 4 || x->dims[2] != 1) return false;
    const int64_t *pads = sparoa_attr_ints(node, "pads", &n);
    return n == 0 || (n == 4 && pads[1] == 0 && pads[3] == 0);
}

static bool is_one(const int64_t *v, size_t n, size_t i)
{
    return !v || i >= n || v[i] == 1;
}

/* Only pixels at the same place of each plane see each other. */
static bool is_columns(const sparoa_node *node)
{
    const sparoa_tensor *w = node->in[1];
    size_t n, m;
    if (w->rank != 5 || w->dims[2] == 1 || w->dims[3] != 1 || w->dims[4] != 1) return false;
    const int64_t *strides = sparoa_attr_ints(node, "strides", &n);
    if (!is_one(strides, n, 1) || !is_one(strides, n, 2)) return false;
    const int64_t *pads = sparoa_attr_ints(node, "pads", &m);
    return !pads || (m == 6 && pads[1] == 0 && pads[2] == 0 && pads[4] == 0 && pads[5] == 0);
}

/* All but packing, which the strides of the window don't concern. */
void sp_conv_read(const sparoa_node *node, conv_state *s)
{
    const sparoa_tensor *w = node->in[1];
    *s = (conv_state){.epilogue = sp_epilogue_of(node)};
    s->has_bias = s->epilogue.residual_input != 2 && sparoa_in(node, 2);
    s->groups = (size_t)sparoa_attr_int(node, "group", 1);
    s->c_in = (size_t)w->dims[1];
    s->c_out = (size_t)w->dims[0] / s->groups;
    s->deep = w->rank == 5;
    s->columns = is_columns(node);
    s->kd = s->deep && !s->columns ? (size_t)w->dims[2] : 1;
    s->kh = w->rank >= 4 ? s->kd * (size_t)w->dims[s->columns ? 2 : w->rank - 2] : 1;
    s->kw = (size_t)w->dims[w->rank - 1];
    s->kind = is_depthwise(node) ? CONV_DEPTHWISE : CONV_INDIRECT;
    s->turned = is_column(node);
    if (s->turned) s->kw = s->kh, s->kh = 1;
    s->zero_floats = s->kind == CONV_DEPTHWISE ? s->groups : s->kw * s->c_in * s->groups;
    size_t n;
    const int64_t *dilations = sparoa_attr_ints(node, "dilations", &n);
    bool dense = s->kw == 1 || !dilations || n == 0 || dilations[s->turned ? 0 : n - 1] == 1;
    s->row_taps = s->groups == 1 && dense;
}

sp_gemm_f32_source sp_conv_source(const conv_state *s, const float *w, const float *bias)
{
    size_t taps = s->kh * s->kw;
    return (sp_gemm_f32_source){.n = s->c_out,
                                .k = s->c_in,
                                .taps = taps,
                                .b = w,
                                .tap_stride = 1,
                                .k_stride = taps,
                                .n_stride = s->c_in * taps,
                                .bias = bias,
                                .scale = 1};
}

/* Whether the sparse kernel takes it, for one image and for the whole batch. What is not known yet
 * may be one pixel or many. */
static bool is_sparse(const sp_cpu_host *host, const sparoa_node *node, const conv_state *s,
                      sp_spmm_f32_size *size)
{
    sp_gemm_f32_source source = sp_conv_source(s, node->in[1]->data, NULL);
    sparoa_tensor x = *node->in[0];
    size_t pixels = 1, batch = 1;
    sparoa_error err;
    sp_conv c;
    if (s->kind != CONV_INDIRECT || s->groups != 1 || s->kh * s->kw != 1 || s->deep) return false;
    bool known = x.rank == node->in[1]->rank, one = false;
    if (known && x.dims[0] > 0) batch = (size_t)x.dims[0], one = true;
    x.dims[0] = 1;
    for (int32_t i = 1; known && i < x.rank; i++) known &= x.dims[i] > 0;
    known = known && sp_conv_shape(node, &x, node->in[1], true, &c, &err) == SPAROA_OK;
    for (int32_t i = 0; known && i < c.w.spatial; i++)
        if (c.w.out[i] > 0) pixels *= (size_t)c.w.out[i];
    if (!known || !one) batch = MANY_ROWS;
    return sp_spmm_choose(host, &source, pixels, pixels * batch, size) == SP_SPMM_YES;
}

bool sp_conv_can(const sparoa_node *node)
{
    if (!sp_is_nhwc(node) || node->n_in < 2 || !node->in[0] || !sp_cpu_all_float32(node))
        return false;
    const sparoa_tensor *x = node->in[0], *w = node->in[1];
    if (!w || w->rank < 3 || w->rank > 5 || (x->rank >= 0 && x->rank != w->rank)) return false;
    for (int32_t i = 0; i < w->rank; i++)
        if (w->dims[i] < 1) return false; /* not known, or nothing to multiply */
    int64_t group = sparoa_attr_int(node, "group", 1);
    if (group < 1 || group > INT32_MAX || w->dims[0] % group != 0) return false;
    conv_state s;
    int64_t most = is_depthwise(node) ? MAX_DEPTHWISE : MAX_KERNEL;
    for (int32_t i = 2; i < w->rank; i++)
        if (w->dims[i] > most) return false;
    sp_conv_read(node, &s);
    return s.kh <= (size_t)most;
}

static const char *conv_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    if (!sp_cpu_is_constant(node, 1) || !sp_conv_can(node)) return NULL;
    conv_state s;
    sp_conv_read(node, &s);
    if (s.has_bias && !sp_cpu_is_constant(node, 2)) return NULL;
    if (s.kind == CONV_DEPTHWISE) return host->kernels->dwconv_name;
    if (sp_conv_groups_fit(host, &s)) return host->kernels->gconv_name;
    sp_spmm_f32_size size;
    if (is_sparse(host, node, &s, &size)) return host->kernels->spmm_name;
    return sp_conv_winograd_pays(&s, node) ? host->kernels->winograd_name
                                           : host->kernels->conv_name;
}

typedef struct dw_build {
    const sp_kernels *kernels;
    size_t channels, taps;
    const float *w, *bias;
} dw_build;

static void build_depthwise(void *arg, void *data)
{
    const dw_build *b = arg;
    b->kernels->dwconv_f32_pack(b->channels, b->taps, b->w, b->bias, data);
}

static sp_cpu_packed *pack_depthwise(const sp_cpu_host *host, const conv_state *s, const float *w,
                                     const float *bias)
{
    dw_build b = {host->kernels, s->groups, s->kh * s->kw, w, bias};
    sp_pack_key key = sp_pack_key_of(host->kernels->dwconv_name);
    sp_pack_key_int(&key, (int64_t)b.channels);
    sp_pack_key_int(&key, bias != NULL);
    if (host->cache) {
        sp_pack_key_add(&key, w, b.channels * b.taps * sizeof(float));
        if (bias) sp_pack_key_add(&key, bias, b.channels * sizeof(float));
    }
    size_t floats = host->kernels->dwconv_f32_packed_floats(b.channels, b.taps);
    return sp_cpu_pack_shared(host->cache, &host->allocator, key, floats * sizeof(float),
                              build_depthwise, &b);
}

static sp_cpu_packed *pack_product(const sp_cpu_host *host, const conv_state *s, const float *w,
                                   const float *bias)
{
    sp_gemm_f32_source source = sp_conv_source(s, w, bias);
    return sp_gemm_pack_shared(host, &source, s->groups, source.n * source.k * source.taps);
}

static void conv_destroy(void *state, const sp_cpu_host *host)
{
    conv_state *s = state;
    if (!s) return;
    sp_cpu_pack_release(s->packed);
    sp_cpu_free(host, s->bias, s->c_out * sizeof(float));
    sp_cpu_free(host, s->zero, s->zero_floats * sizeof(float));
    sp_cpu_free(host, s, sizeof *s);
}

static sparoa_status conv_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                 sparoa_error *err)
{
    conv_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    sp_conv_read(node, s);
    const float *w = node->in[1]->data, *bias = NULL;
    if (s->has_bias) {
        if (sp_count(node->in[2]) != node->in[1]->dims[0]) {
            conv_destroy(s, host);
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "the bias has %lld elements, expected %lld",
                               (long long)sp_count(node->in[2]), (long long)node->in[1]->dims[0]);
        }
        bias = node->in[2]->data;
    }
    bool depthwise = s->kind == CONV_DEPTHWISE;
    sp_spmm_f32_size size;
    if (is_sparse(host, node, s, &size)) {
        sp_gemm_f32_source source = sp_conv_source(s, w, bias);
        s->kind = CONV_SPARSE;
        s->packed = sp_spmm_pack_shared(host, &source, &size);
    } else if (sp_conv_winograd_pays(s, node)) {
        s->kind = CONV_WINOGRAD;
        s->packed = sp_conv_winograd_pack(s, host, w);
        s->bias = sp_cpu_alloc(host, s->c_out * sizeof(float));
        if (s->bias && bias) memcpy(s->bias, bias, s->c_out * sizeof(float));
    } else if (sp_conv_groups_fit(host, s)) {
        s->kind = CONV_GROUPED;
        s->packed = sp_gconv_pack_shared(
            host, &(sp_gconv_f32_source){s->groups, s->c_in, s->c_out, s->kh * s->kw, w, bias});
    } else {
        s->packed = depthwise ? pack_depthwise(host, s, w, bias) : pack_product(host, s, w, bias);
    }
    s->zero = sp_cpu_alloc(host, s->zero_floats * sizeof(float));
    if (!s->packed || !s->zero || (s->kind == CONV_WINOGRAD && !s->bias)) {
        conv_destroy(s, host);
        return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to pack the weights");
    }
    *state = s;
    return SPAROA_OK;
}

static size_t conv_bytes(const void *state)
{
    const conv_state *s = state;
    return s->packed->bytes + s->zero_floats * sizeof(float);
}

static bool conv_keeps_input(const void *state, int32_t input)
{
    const conv_state *s = state;
    return input != 1 && !(input == 2 && s->has_bias);
}

/* The depth of a 3-D window. */
static void planes_of(const conv_state *s, const sp_window *w, conv_plan *p)
{
    const size_t d = (size_t)w->in[0], od = (size_t)w->out[0];
    if (s->kd == 1 && w->stride[0] == 1 && w->pad_begin[0] == 0 && d == od) {
        p->batch *= d;
        return;
    }
    p->deep = true;
    p->d = d;
    p->h *= d, p->oh *= od;
    p->stride_d = (ptrdiff_t)w->stride[0], p->dilation_d = (ptrdiff_t)w->dilation[0];
    p->pad_front = (ptrdiff_t)w->pad_begin[0];
}

sparoa_status sp_conv_geometry(const conv_state *s, const sparoa_node *node, conv_plan *p,
                               sparoa_error *err)
{
    sp_conv c;
    SP_TRY(sp_conv_shape(node, node->in[0], node->in[1], true, &c, err));
    int32_t x = s->turned ? 0 : c.w.spatial - 1, y = s->columns ? 0 : x - 1;
    *p = (conv_plan){.batch = (size_t)c.batch,
                     .c = (size_t)c.c_in,
                     .h = 1,
                     .oh = 1,
                     .w = (size_t)c.w.in[x],
                     .ow = (size_t)c.w.out[x],
                     .stride_h = 1,
                     .dilation_h = 1,
                     .stride_w = (ptrdiff_t)c.w.stride[x],
                     .dilation_w = (ptrdiff_t)c.w.dilation[x],
                     .pad_left = (ptrdiff_t)c.w.pad_begin[x]};
    if (y >= 0) {
        p->h = (size_t)c.w.in[y], p->oh = (size_t)c.w.out[y];
        p->stride_h = (ptrdiff_t)c.w.stride[y], p->dilation_h = (ptrdiff_t)c.w.dilation[y];
        p->pad_top = (ptrdiff_t)c.w.pad_begin[y];
    }
    if (s->columns) p->w *= (size_t)c.w.in[1], p->ow *= (size_t)c.w.out[1];
    p->d = 1, p->plane_h = p->h, p->plane_oh = p->oh;
    if (s->deep && !s->columns) planes_of(s, &c.w, p);
    p->taps = s->row_taps ? s->kh : s->kh * s->kw;
    p->k = s->row_taps ? s->kw * s->c_in : s->c_in;
    return SPAROA_OK;
}

/* Output columns whose windows cross the left or right edge, at most all. */
static size_t edge_columns(const conv_state *s, const conv_plan *p)
{
    ptrdiff_t last = (ptrdiff_t)p->w - (ptrdiff_t)s->kw + p->pad_left, ow = (ptrdiff_t)p->ow;
    ptrdiff_t left = p->pad_left > 0 ? (p->pad_left - 1) / p->stride_w + 1 : 0;
    ptrdiff_t inside = last < 0 ? 0 : last / p->stride_w + 1; /* columns up to the right edge */
    ptrdiff_t count = (left < ow ? left : ow) + (inside < ow ? ow - inside : 0);
    return (size_t)(count < ow ? count : ow);
}

static sparoa_status plan_indirect(const conv_state *s, const sp_cpu_host *host,
                                   const sparoa_node *node, conv_plan *p, sparoa_error *err)
{
    size_t m = p->batch * p->oh * p->ow, tile = (size_t)host->kernels->gemm_rows,
           k = p->taps * p->k + 1;
    p->split = sp_gemm_split_fine(host->kernels, m, s->c_out, p->taps * p->k, host->threads);
    size_t rows = (m + (size_t)p->split.rows_parts - 1) / (size_t)p->split.rows_parts;
    /* What a block reads of the image should stay in the second-level cache while all panels pass
     * by; images overlap from tap to tap, so this is on the safe side. */
    p->block = (256u << 10) / k / tile * tile;
    if (p->block < 8 * tile) p->block = 8 * tile;
    if (p->block > 40 * tile) p->block = 40 * tile;
    if (p->block > rows) p->block = rows;
    if (s->row_taps && p->ow) {
        p->patches = (p->block / p->ow + 2) * edge_columns(s, p);
        if (p->patches > p->block) p->patches = p->block;
    }
    size_t patch, table;
    if (__builtin_mul_overflow(p->patches * p->taps, p->k * sizeof(float), &patch) ||
        __builtin_mul_overflow(p->block, p->taps * sizeof(float *), &table))
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    p->piece_bytes = (table + 63) / 64 * 64 + (patch + 63) / 64 * 64;
    return SPAROA_OK;
}

static bool is_pointwise(const conv_state *s, const conv_plan *p)
{
    return s->kind == CONV_INDIRECT && sp_conv_is_plain(s, p);
}

sparoa_status sp_conv_make_plan(const conv_state *s, const sp_cpu_host *host,
                                const sparoa_node *node, conv_plan *p, size_t *workspace,
                                sparoa_error *err)
{
    SP_TRY(sp_conv_geometry(s, node, p, err));
    p->lines = sp_conv_lines_pay(s, p);
    if (p->lines)
        SP_TRY(sp_conv_lines_plan(s, host, node, p, err));
    else if (s->kind == CONV_INDIRECT && !is_pointwise(s, p))
        SP_TRY(plan_indirect(s, host, node, p, err));
    if (s->kind == CONV_DEPTHWISE) p->chunk = sp_conv_depthwise_chunk(s, p);
    if (s->kind == CONV_SPARSE) SP_TRY(sp_conv_sparse_plan(s, host, node, p, err));
    if (s->kind == CONV_WINOGRAD) SP_TRY(sp_conv_winograd_plan(s, host, node, p, err));
    *workspace = p->piece_bytes ? p->piece_bytes * (size_t)sp_gemm_split_count(&p->split) : 0;
    return SPAROA_OK;
}

static sparoa_status conv_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    conv_plan plan;
    SP_TRY(sp_conv_make_plan(state, host, node, &plan, workspace, err));
    return sp_cpu_keep_plan(host, node, &plan, sizeof plan, prepared, err);
}

void sp_conv_plan_destroy(void *state, const sp_cpu_host *host, void *prepared)
{
    sp_cpu_free(host, prepared, sizeof(conv_plan));
}

sparoa_status sp_conv_member_keep(const sp_cpu_host *host, const conv_state *conv,
                                  const sparoa_node *node, void **state, sparoa_error *err)
{
    conv_member *made = sp_cpu_alloc(host, sizeof *made);
    if (!made) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory to join nodes");
    *made = (conv_member){.conv = conv, .node = sp_without_tensors(node)};
    *state = made;
    return SPAROA_OK;
}

void sp_conv_member_destroy(void *state, const sp_cpu_host *host)
{
    sp_cpu_free(host, state, sizeof(conv_member));
}

sparoa_node sp_conv_member_node(const conv_member *member, sparoa_tensor *const *in,
                                sparoa_tensor *const *out)
{
    sparoa_node node = member->node;
    node.in = in;
    node.out = out;
    return node;
}

void sp_conv_compute(const conv_state *s, const conv_plan *p, const sp_cpu_host *host,
                     const sparoa_node *node, const sparoa_exec *exec)
{
    if (s->kind == CONV_DEPTHWISE) {
        sp_conv_depthwise_run(s, p, host->kernels, node, exec);
    } else if (s->kind == CONV_GROUPED) {
        sp_conv_groups_run(s, p, host->kernels, node, exec);
    } else if (s->kind == CONV_WINOGRAD) {
        sp_conv_winograd_run(s, p, host->kernels, node, exec);
    } else if (s->kind == CONV_SPARSE) {
        sp_conv_sparse_run(s, p, host->kernels, node, exec);
    } else if (is_pointwise(s, p)) {
        sp_gemm_f32 g = {.m = p->batch * p->oh * p->ow,
                         .n = s->c_out,
                         .k = s->c_in,
                         .taps = 1,
                         .a = node->in[0]->data,
                         .lda = s->c_in,
                         .b = s->packed->data,
                         .c = node->out[0]->data,
                         .ldc = s->c_out,
                         .ldr = s->c_out};
        g.epilogue = sp_gemm_epilogue_of(&s->epilogue);
        if (s->epilogue.residual) g.residual = node->in[s->epilogue.residual_input]->data;
        sp_gemm_parallel(host->kernels, &g, exec);
    } else if (p->lines) {
        sp_conv_lines_run(s, p, host->kernels, node, node->in[0]->data, exec);
    } else {
        sp_conv_indirect_run(s, p, host->kernels, node, exec);
    }
}

static sparoa_status conv_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    if (sp_count(node->out[0]) > 0) sp_conv_compute(state, prepared, host, node, exec);
    return SPAROA_OK;
}

/* ONNX Conv, all versions, with the epilogue and layout of epilogue.h. */
SP_CPU_KERNEL(Conv) = {
    .op = "Conv",
    .domain = "",
    .supports = conv_supports,
    .create = conv_create,
    .bytes = conv_bytes,
    .keeps_input = conv_keeps_input,
    .prepare = conv_prepare,
    .run = conv_run,
    .prepared_destroy = sp_conv_plan_destroy,
    .destroy = conv_destroy,
};
