/* ConvInteger and QLinearConv: convolutions of 8-bit images, accumulated in 32 bits (which wrap).
 */
#include "ops/conv_shape.h"
#include "ops/epilogue.h"
#include "ops/quant.h"

/* Where the inputs are; -1: there is none. */
typedef struct places {
    int32_t w, x_scale, x_zero, w_scale, w_zero, y_scale, y_zero, bias;
} places;
static const places integer_places = {1, -1, 2, -1, 3, -1, -1, -1};
static const places qlinear_places = {3, 1, 2, 4, 5, 6, 7, 8};

/* acc[o] += w * (x[o * stride] - zero) for n positions. */
#define ROW(T)                                                                                     \
    static void row_##T(const void *in, int64_t stride, int32_t zero, int32_t w, int64_t n,        \
                        uint32_t *acc)                                                             \
    {                                                                                              \
        const T *x = in;                                                                           \
        if (stride == 1)                                                                           \
            for (int64_t o = 0; o < n; o++) acc[o] += (uint32_t)(w * (x[o] - zero));               \
        else                                                                                       \
            for (int64_t o = 0; o < n; o++) acc[o] += (uint32_t)(w * (x[o * stride] - zero));      \
    }
ROW(int8_t)
ROW(uint8_t)
#undef ROW

typedef struct conv_job {
    const sparoa_node *node;
    const places *at;
    sp_conv conv;
    int64_t in_plane, out_plane,
        taps;      /* elements of one channel of x and y, of one channel of a filter */
    uint32_t *acc; /* one plane for each of the output's */
    void (*row)(const void *, int64_t, int32_t, int32_t, int64_t, uint32_t *);
    int32_t lo, hi;
} conv_job;

static int64_t product(const int64_t *dims, int32_t n)
{
    int64_t p = 1;
    for (int32_t i = 0; i < n; i++) p *= dims[i];
    return p;
}

/* One weight, at position tap[] of the kernel, over one plane of the image. */
static void add_tap(const conv_job *job, const char *x, const int64_t *tap, int32_t zero, int32_t w,
                    uint32_t *acc)
{
    const sp_window *win = &job->conv.w;
    const int32_t last = win->spatial - 1;
    /* output columns whose input column lies inside the image: ow * stride + shift in 0..in-1 */
    const int64_t stride = win->stride[last],
                  shift = tap[last] * win->dilation[last] - win->pad_begin[last];
    const int64_t room = win->in[last] - 1 - shift;
    if (room < 0) return;
    const int64_t begin = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    const int64_t end = room / stride + 1 < win->out[last] ? room / stride + 1 : win->out[last];
    if (begin >= end) return;
    const int64_t rows = product(win->out, last);
    for (int64_t r = 0; r < rows; r++) {
        int64_t rest = r, offset = 0, scale = win->in[last];
        bool inside = true;
        for (int32_t d = last - 1; d >= 0 && inside; d--) {
            const int64_t i =
                rest % win->out[d] * win->stride[d] + tap[d] * win->dilation[d] - win->pad_begin[d];
            inside = i >= 0 && i < win->in[d];
            offset += i * scale;
            scale *= win->in[d];
            rest /= win->out[d];
        }
        if (inside)
            job->row(x + offset + begin * stride + shift, stride, zero, w, end - begin,
                     acc + r * win->out[last] + begin);
    }
}

static void store(const conv_job *job, int64_t plane, int64_t m, const uint32_t *acc)
{
    const sparoa_node *node = job->node;
    const places *at = job->at;
    const sparoa_tensor *bias = at->bias < 0 ? NULL : sparoa_in(node, at->bias);
    const uint32_t b = bias ? ((const uint32_t *)bias->data)[m] : 0;
    const float scale = sp_q_scale(node, at->x_scale, 0) * sp_q_scale(node, at->w_scale, m) /
                        sp_q_scale(node, at->y_scale, 0);
    const int32_t zero = sp_q_zero(node, at->y_zero, 0);
    uint8_t *y = (uint8_t *)node->out[0]->data + plane * job->out_plane;
    for (int64_t i = 0; i < job->out_plane; i++)
        y[i] = (uint8_t)sp_quantize((float)(int32_t)(acc[i] + b) * scale, zero, job->lo, job->hi);
}

/* Planes begin..end-1 of the output, counted over batch and channels. */
static void conv_planes(void *arg, int64_t begin, int64_t end)
{
    const conv_job *job = arg;
    const sp_conv *c = &job->conv;
    const sparoa_tensor *x = job->node->in[0], *weight = job->node->in[job->at->w];
    const int64_t per_group = c->c_in / c->group, out_per_group = c->c_out / c->group;
    const int32_t x_zero = sp_q_zero(job->node, job->at->x_zero, 0);
    for (int64_t plane = begin; plane < end; plane++) {
        const int64_t m = plane % c->c_out,
                      first = plane / c->c_out * c->c_in + m / out_per_group * per_group;
        const int32_t w_zero = sp_q_zero(job->node, job->at->w_zero, m);
        uint32_t *acc = job->acc + plane * job->out_plane;
        memset(acc, 0, (size_t)job->out_plane * sizeof *acc);
        for (int64_t i = 0; i < per_group * job->taps; i++) {
            int64_t tap[SP_MAX_SPATIAL], rest = i % job->taps;
            for (int32_t d = c->w.spatial - 1; d >= 0; d--) {
                tap[d] = rest % c->w.kernel[d];
                rest /= c->w.kernel[d];
            }
            const int32_t w = (int32_t)sp_get_i64(weight, m * per_group * job->taps + i) - w_zero;
            const char *image = (const char *)x->data + (first + i / job->taps) * job->in_plane;
            if (w != 0) add_tap(job, image, tap, x_zero, w, acc);
        }
        if (job->node->out[0]->dtype != SPAROA_INT32) store(job, plane, m, acc);
    }
}

/* A last dimension with a kernel of 1 and no padding or stride is only more columns for the one
 * before it, if that has no stride either: longer rows for the inner loop. */
static void merge_last(sp_window *w)
{
    while (w->spatial > 1) {
        const int32_t d = w->spatial - 1, e = d - 1;
        const int64_t n = w->in[d];
        if (w->kernel[d] != 1 || w->stride[d] != 1 || w->stride[e] != 1 || w->out[d] != n ||
            w->pad_begin[d] != 0)
            return;
        if (w->kernel[e] != 1 || w->pad_begin[e] != 0 || w->out[e] != w->in[e]) return;
        w->in[e] *= n;
        w->out[e] *= n;
        w->spatial--;
    }
}

static sparoa_status conv_run(const sparoa_node *node, const sparoa_exec *exec, const places *at,
                              void *acc)
{
    conv_job job = {.node = node, .at = at, .acc = acc};
    if (sp_count(node->out[0]) <= 0) return SPAROA_OK;
    SP_TRY(sp_conv_shape(node, node->in[0], node->in[at->w], false, &job.conv, exec->err));
    merge_last(&job.conv.w);
    const sp_window *w = &job.conv.w;
    job.in_plane = product(w->in, w->spatial);
    job.out_plane = product(w->out, w->spatial);
    job.taps = product(w->kernel, w->spatial);
    job.row = node->in[0]->dtype == SPAROA_INT8 ? row_int8_t : row_uint8_t;
    sp_q_range(node->out[0]->dtype, &job.lo, &job.hi);
    const double work =
        (double)job.out_plane * (double)job.taps * (double)(job.conv.c_in / job.conv.group) + 1;
    const int64_t grain = work >= 65536 ? 1 : (int64_t)(65536 / work);
    sp_parallel_for(exec, job.conv.batch * job.conv.c_out, grain, conv_planes, &job);
    return SPAROA_OK;
}

static int64_t filters(const sparoa_node *node, const places *at)
{
    const sparoa_tensor *w = node->in[at->w];
    return w->rank > 0 ? w->dims[0] : -1;
}

static sparoa_status integer_infer(const sparoa_node *node, sparoa_error *err)
{
    const places *at = &integer_places;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_check_type(node, at->w, SP_TYPES_Q8, err));
    SP_TRY(sp_q_check_zero(node, at->x_zero, 1u << node->in[0]->dtype, -1, err));
    SP_TRY(sp_q_check_zero(node, at->w_zero, 1u << node->in[at->w]->dtype, filters(node, at), err));
    node->out[0]->dtype = SPAROA_INT32;
    return sp_conv_infer(node, node->in[0], node->in[at->w], false, node->out[0], err);
}

static sparoa_status integer_run(const sparoa_node *node, const sparoa_exec *exec)
{
    return conv_run(node, exec, &integer_places, node->out[0]->data);
}

static sparoa_status qlinear_infer(const sparoa_node *node, sparoa_error *err)
{
    const places *at = &qlinear_places;
    SP_TRY(sp_check_type(node, 0, SP_TYPES_Q8, err));
    SP_TRY(sp_check_type(node, at->w, SP_TYPES_Q8, err));
    SP_TRY(sp_check_type(node, at->y_zero, SP_TYPES_Q8, err));
    const int64_t m = filters(node, at);
    SP_TRY(sp_q_check_scale(node, at->x_scale, -1, err));
    SP_TRY(sp_q_check_zero(node, at->x_zero, 1u << node->in[0]->dtype, -1, err));
    SP_TRY(sp_q_check_scale(node, at->w_scale, m, err));
    SP_TRY(sp_q_check_zero(node, at->w_zero, 1u << node->in[at->w]->dtype, m, err));
    SP_TRY(sp_q_check_scale(node, at->y_scale, -1, err));
    SP_TRY(sp_q_check_zero(node, at->y_zero, SP_TYPES_Q8, -1, err));
    const sparoa_tensor *bias = sparoa_in(node, at->bias);
    if (bias) {
        SP_TRY(sp_check_type(node, at->bias, 1u << SPAROA_INT32, err));
        if (sp_known(bias) && m >= 0 && sp_count(bias) != m)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "bias has %lld values, expected %lld", (long long)sp_count(bias),
                               (long long)m);
    }
    node->out[0]->dtype = node->in[at->y_zero]->dtype;
    return sp_conv_infer(node, node->in[0], node->in[at->w], sp_is_nhwc(node), node->out[0], err);
}

static size_t align_up(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* Accumulators; with the channel last also the image and the result with the channel second. */
static size_t qlinear_workspace(const sparoa_node *node, int32_t threads)
{
    (void)threads;
    size_t y = align_up(sparoa_tensor_bytes(node->out[0]));
    if (!sp_is_nhwc(node)) return y * sizeof(uint32_t);
    return y * sizeof(uint32_t) + y + align_up(sparoa_tensor_bytes(node->in[0]));
}

/* to[n][c][i] = from[n][i][c] for n images of `rows` x `columns` bytes. */
static void transpose(int64_t n, int64_t rows, int64_t columns, const uint8_t *from, uint8_t *to)
{
    for (int64_t k = 0; k < n; k++, from += rows * columns, to += rows * columns)
        for (int64_t i = 0; i < rows; i++)
            for (int64_t c = 0; c < columns; c++) to[c * rows + i] = from[i * columns + c];
}

static void channel_second(const sparoa_tensor *t, sparoa_tensor *to)
{
    *to = *t;
    to->dims[1] = t->dims[t->rank - 1];
    for (int32_t d = 2; d < t->rank; d++) to->dims[d] = t->dims[d - 1];
}

static sparoa_status qlinear_run(const sparoa_node *node, const sparoa_exec *exec)
{
    if (!sp_is_nhwc(node)) return conv_run(node, exec, &qlinear_places, exec->workspace);
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    if (sp_count(y) <= 0) return SPAROA_OK;
    sparoa_tensor first, result, *in[9], *out[1] = {&result};
    sparoa_node inner = *node;
    memcpy(in, node->in, (size_t)node->n_in * sizeof *in);
    channel_second(x, &first);
    channel_second(y, &result);
    size_t y_bytes = align_up(sparoa_tensor_bytes(y));
    result.data = (char *)exec->workspace + y_bytes * sizeof(uint32_t);
    first.data = (char *)result.data + y_bytes;
    in[0] = &first;
    inner.in = in;
    inner.out = out;
    transpose(x->dims[0], sp_dims_product(x, 1, x->rank - 1), x->dims[x->rank - 1], x->data,
              first.data);
    SP_TRY(conv_run(&inner, exec, &qlinear_places, exec->workspace));
    transpose(y->dims[0], y->dims[y->rank - 1], sp_dims_product(y, 1, y->rank - 1), result.data,
              y->data);
    return SPAROA_OK;
}

static void conv_cost(const sparoa_node *node, sparoa_cost *cost)
{
    const sparoa_tensor *w = node->in[node->n_in >= 8 ? qlinear_places.w : integer_places.w];
    for (int32_t i = 1; i < w->rank; i++) cost->flops *= (double)w->dims[i];
    cost->flops *= 2;
}

/* ONNX ConvInteger, version 10. */
SP_OP(ConvInteger) = {
    SP_OP_HEAD("ConvInteger", 10, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .tolerance = SPAROA_TOL_EXACT,
    .infer = integer_infer,
    .cost = conv_cost,
    .run = integer_run,
};

/* ONNX QLinearConv, version 10. */
SP_OP(QLinearConv) = {
    SP_OP_HEAD("QLinearConv", 10, 0),
    .min_in = 8,
    .max_in = 9,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_CONV,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = qlinear_infer,
    .cost = conv_cost,
    .workspace = qlinear_workspace,
    .run = qlinear_run,
};
