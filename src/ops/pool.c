/* AveragePool, MaxPool, LpPool and their global forms: the same window, folded in different ways.
 */
#include "ops/epilogue.h"
#include "ops/image.h"

typedef enum pool_kind { POOL_MAX, POOL_AVERAGE, POOL_LP } pool_kind;

typedef struct pool_args {
    const sparoa_tensor *in;
    sparoa_tensor *out, *indices; /* indices: or NULL */
    sp_image x, y;
    sp_window w;
    pool_kind kind;
    double p;          /* LpPool */
    bool count_pads;   /* AveragePool */
    bool column_major; /* MaxPool's indices */
} pool_args;

/* The taps of one output that fall inside the image. */
typedef struct taps {
    int64_t at[SP_IMAGE_DIMS], first[SP_IMAGE_DIMS], end[SP_IMAGE_DIMS];
    double divisor; /* AveragePool: taps counted; those in explicit padding too with count_pads */
} taps;

static taps taps_of(const pool_args *a, int64_t od, int64_t oh, int64_t ow)
{
    const int64_t o[SP_IMAGE_DIMS] = {od, oh, ow};
    const sp_window *w = &a->w;
    taps t = {.divisor = 1};
    for (int i = 0; i < SP_IMAGE_DIMS; i++) {
        int64_t first, end;
        t.at[i] = o[i] * w->stride[i] - w->pad_begin[i];
        sp_taps_inside(t.at[i], w->kernel[i], w->dilation[i], w->in[i], &t.first[i], &t.end[i]);
        /* Rounding the size up can let a window reach past the padding: taps there never count. */
        sp_taps_inside(t.at[i] + w->pad_begin[i], w->kernel[i], w->dilation[i],
                       w->in[i] + w->pad_begin[i] + w->pad_end[i], &first, &end);
        t.divisor *= (double)(a->count_pads ? end - first : t.end[i] - t.first[i]);
    }
    return t;
}

static double lp_term(double p, double x)
{
    return p == 1 ? fabs(x) : p == 2 ? x * x : pow(fabs(x), p);
}

static double lp_root(double p, double sum)
{
    return p == 1 ? sum : p == 2 ? sqrt(sum) : pow(sum, 1 / p);
}

static int64_t index_of(const pool_args *a, int64_t plane, int64_t d, int64_t h, int64_t w)
{
    const int64_t *n = a->w.in;
    int64_t at = a->column_major ? d + n[0] * (h + n[1] * w) : (d * n[1] + h) * n[2] + w;
    return plane * n[0] * n[1] * n[2] + at;
}

#define FOR_TAPS(t, d, h, v)                                                                       \
    for (int64_t d = (t)->first[0]; d < (t)->end[0]; d++)                                          \
        for (int64_t h = (t)->first[1]; h < (t)->end[1]; h++)                                      \
            for (int64_t v = (t)->first[2]; v < (t)->end[2]; v++)

/* Element under tap (d, h, v). */
#define UNDER(a, t, x, d, h, v)                                                                    \
    (x)[((t)->at[0] + (d) * (a)->w.dilation[0]) * (a)->x.stride[0] +                               \
        ((t)->at[1] + (h) * (a)->w.dilation[1]) * (a)->x.stride[1] +                               \
        ((t)->at[2] + (v) * (a)->w.dilation[2]) * (a)->x.stride[2]]

#define FOR_OUTPUTS(a, od, oh, ow)                                                                 \
    for (int64_t od = 0; od < (a)->w.out[0]; od++)                                                 \
        for (int64_t oh = 0; oh < (a)->w.out[1]; oh++)                                             \
            for (int64_t ow = 0; ow < (a)->w.out[2]; ow++)

#define PLANE(T, tensor, image, i)                                                                 \
    ((T *)(tensor)->data + (i) / (image).c * (image).n_stride + (i) % (image).c * (image).c_stride)

#define AT(image, od, oh, ow)                                                                      \
    ((od) * (image).stride[0] + (oh) * (image).stride[1] + (ow) * (image).stride[2])

/* Tasks are planes: one channel of one image. */
#define MAX_TYPE(T, LOWEST)                                                                        \
    static void max_##T(void *arg, int64_t begin, int64_t end)                                     \
    {                                                                                              \
        const pool_args *a = arg;                                                                  \
        for (int64_t i = begin; i < end; i++) {                                                    \
            const T *x = PLANE(const T, a->in, a->x, i);                                           \
            T *y = PLANE(T, a->out, a->y, i);                                                      \
            int64_t *index = a->indices ? PLANE(int64_t, a->indices, a->y, i) : NULL;              \
            FOR_OUTPUTS(a, od, oh, ow)                                                             \
            {                                                                                      \
                taps t = taps_of(a, od, oh, ow);                                                   \
                T best = LOWEST;                                                                   \
                int64_t at[SP_IMAGE_DIMS] = {t.first[0], t.first[1], t.first[2]};                  \
                FOR_TAPS(&t, d, h, v)                                                              \
                {                                                                                  \
                    T value = UNDER(a, &t, x, d, h, v);                                            \
                    if (!(value > best || value != value)) continue;                               \
                    best = value;                                                                  \
                    at[0] = d;                                                                     \
                    at[1] = h;                                                                     \
                    at[2] = v;                                                                     \
                    if (value != value) goto done;                                                 \
                }                                                                                  \
            done:                                                                                  \
                y[AT(a->y, od, oh, ow)] = best;                                                    \
                for (int k = 0; k < SP_IMAGE_DIMS; k++)                                            \
                    at[k] = t.at[k] + at[k] * a->w.dilation[k];                                    \
                if (index) index[AT(a->y, od, oh, ow)] = index_of(a, i, at[0], at[1], at[2]);      \
            }                                                                                      \
        }                                                                                          \
    }
MAX_TYPE(float, -INFINITY)
MAX_TYPE(double, -INFINITY)
MAX_TYPE(int8_t, INT8_MIN)
MAX_TYPE(uint8_t, 0)

#define SUM_TYPE(T)                                                                                \
    static void sum_##T(void *arg, int64_t begin, int64_t end)                                     \
    {                                                                                              \
        const pool_args *a = arg;                                                                  \
        for (int64_t i = begin; i < end; i++) {                                                    \
            const T *x = PLANE(const T, a->in, a->x, i);                                           \
            T *y = PLANE(T, a->out, a->y, i);                                                      \
            FOR_OUTPUTS(a, od, oh, ow)                                                             \
            {                                                                                      \
                taps t = taps_of(a, od, oh, ow);                                                   \
                double sum = 0;                                                                    \
                if (a->kind == POOL_AVERAGE)                                                       \
                    FOR_TAPS(&t, d, h, v) sum += UNDER(a, &t, x, d, h, v);                         \
                else                                                                               \
                    FOR_TAPS(&t, d, h, v) sum += lp_term(a->p, UNDER(a, &t, x, d, h, v));          \
                if (a->kind == POOL_LP)                                                            \
                    sum = lp_root(a->p, sum);                                                      \
                else                                                                               \
                    sum = t.divisor > 0 ? sum / t.divisor : 0;                                     \
                y[AT(a->y, od, oh, ow)] = (T)sum;                                                  \
            }                                                                                      \
        }                                                                                          \
    }
SUM_TYPE(float)
SUM_TYPE(double)

static sparoa_status run_planes(pool_args *a, const sparoa_exec *exec)
{
    void (*piece)(void *, int64_t, int64_t) =
        a->in->dtype == SPAROA_FLOAT64 ? sum_double : sum_float;
    if (a->kind == POOL_MAX)
        piece = a->in->dtype == SPAROA_FLOAT64 ? max_double
                : a->in->dtype == SPAROA_INT8  ? max_int8_t
                : a->in->dtype == SPAROA_UINT8 ? max_uint8_t
                                               : max_float;
    if (sp_count(a->out) == 0) return SPAROA_OK;
    const sp_window *w = &a->w;
    int64_t work = w->out[0] * w->out[1] * w->out[2] * 8;
    sp_parallel_for(exec, a->x.n * a->x.c, 1 + 16384 / (work + 1), piece, a);
    return SPAROA_OK;
}

/* ---- windows ---- */

static sparoa_status window_of(const sparoa_node *node, sp_window *w, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    SP_TRY(sp_image_check_rank(node, x->rank, err));
    return sp_window_shape(node, x->rank - 2, x->dims + (sp_is_nhwc(node) ? 1 : 2), NULL,
                           sparoa_attr_int(node, "ceil_mode", 0) != 0, w, err);
}

static sparoa_status infer_window(const sparoa_node *node, uint32_t types, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    sparoa_tensor *out = node->out[0];
    sp_window w;
    SP_TRY(sp_check_type(node, 0, types, err));
    SP_TRY(sp_infer_same(node, err));
    if (x->rank < 0) return SPAROA_OK;
    SP_TRY(window_of(node, &w, err));
    for (int32_t i = 0; i < w.spatial; i++) out->dims[i + (sp_is_nhwc(node) ? 1 : 2)] = w.out[i];
    return SPAROA_OK;
}

static sparoa_status sums_infer(const sparoa_node *node, sparoa_error *err)
{
    int64_t p = sparoa_attr_int(node, "p", 2);
    if (p < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "p=%lld, expected at least 1",
                           (long long)p);
    return infer_window(node, SP_TYPES_FLOAT, err);
}

static sparoa_status max_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(infer_window(node, SP_TYPES_FLOAT | 1u << SPAROA_INT8 | 1u << SPAROA_UINT8, err));
    if (!sparoa_out(node, 1)) return SPAROA_OK;
    if (sp_is_nhwc(node))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_OP, node,
                           "indices are not available with the channel last");
    sp_copy_fact(node->out[1], node->out[0]);
    node->out[1]->dtype = SPAROA_INT64;
    return SPAROA_OK;
}

static sparoa_status run_window(const sparoa_node *node, const sparoa_exec *exec, pool_kind kind)
{
    pool_args a = {
        .in = node->in[0],
        .out = node->out[0],
        .indices = sparoa_out(node, 1),
        .kind = kind,
        .p = (double)sparoa_attr_int(node, "p", 2),
        .count_pads = sparoa_attr_int(node, "count_include_pad", 0) != 0,
        .column_major = sparoa_attr_int(node, "storage_order", 0) != 0,
    };
    SP_TRY(window_of(node, &a.w, exec->err));
    sp_window_to_3d(&a.w);
    a.x = sp_image_of(a.in, sp_is_nhwc(node));
    a.y = sp_image_of(a.out, sp_is_nhwc(node));
    return run_planes(&a, exec);
}

static void window_cost(const sparoa_node *node, sparoa_cost *cost)
{
    sp_window w;
    if (node->in[0]->rank < 0 || window_of(node, &w, NULL) != SPAROA_OK) return;
    cost->flops = (double)sp_count(node->out[0]);
    for (int32_t i = 0; i < w.spatial; i++) cost->flops *= (double)w.kernel[i];
}

/* ---- global ---- */

static sparoa_status global_infer(const sparoa_node *node, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    sparoa_tensor *out = node->out[0];
    int64_t p = sparoa_attr_int(node, "p", 2);
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    if (p < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "p=%lld, expected at least 1",
                           (long long)p);
    if (x->rank >= 0 && x->rank < 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input 0 has rank %d, expected at least 2", x->rank);
    SP_TRY(sp_infer_same(node, err));
    bool nhwc = sp_is_nhwc(node);
    for (int32_t i = 2; i < x->rank; i++) out->dims[nhwc ? i - 1 : i] = 1;
    return SPAROA_OK;
}

/* One window that covers everything: all spatial dimensions as one. */
static sparoa_status run_global(const sparoa_node *node, const sparoa_exec *exec, pool_kind kind)
{
    const sparoa_tensor *x = node->in[0];
    bool nhwc = sp_is_nhwc(node) && x->rank > 2;
    pool_args a = {
        .in = x, .out = node->out[0], .kind = kind, .p = (double)sparoa_attr_int(node, "p", 2)};
    int64_t size = nhwc ? sp_dims_product(x, 1, x->rank - 1) : sp_dims_product(x, 2, x->rank);
    int64_t c = x->dims[nhwc ? x->rank - 1 : 1];
    for (int i = 0; i < SP_IMAGE_DIMS; i++)
        a.w.in[i] = a.w.out[i] = a.w.kernel[i] = a.w.stride[i] = a.w.dilation[i] = 1;
    a.w.in[2] = a.w.kernel[2] = size;
    a.x = (sp_image){.n = x->dims[0], .c = c, .size = {1, 1, size}, .n_stride = c * size};
    a.x.c_stride = nhwc ? 1 : size;
    a.x.stride[2] = nhwc ? c : 1;
    a.y = (sp_image){.n = x->dims[0], .c = c, .size = {1, 1, 1}, .n_stride = c, .c_stride = 1};
    return run_planes(&a, exec);
}

static void global_cost(const sparoa_node *node, sparoa_cost *cost)
{
    cost->flops = (double)sp_count(node->in[0]);
}

#define POOL_RUN(name, runner, kind)                                                               \
    static sparoa_status name(const sparoa_node *node, const sparoa_exec *exec)                    \
    {                                                                                              \
        return runner(node, exec, kind);                                                           \
    }
POOL_RUN(max_run, run_window, POOL_MAX)
POOL_RUN(average_run, run_window, POOL_AVERAGE)
POOL_RUN(lp_run, run_window, POOL_LP)
POOL_RUN(global_max_run, run_global, POOL_MAX)
POOL_RUN(global_average_run, run_global, POOL_AVERAGE)
POOL_RUN(global_lp_run, run_global, POOL_LP)

#define POOL_ROW(name_, since_, max_out_, tolerance_, infer_, cost_, run_)                         \
    {                                                                                              \
        SP_OP_HEAD(name_, since_, 0), .min_in = 1, .max_in = 1, .min_out = 1, .max_out = max_out_, \
                                      .op_class = SPAROA_CLASS_POOL, .tolerance = tolerance_,      \
                                      .flags = SPAROA_OP_BY_IMAGE, .infer = infer_, .cost = cost_, \
                                      .run = run_                                                  \
    }

/* ONNX AveragePool, versions 1, 7, 10, 11, 19 and 22. */
SP_OP(AveragePool) = POOL_ROW("AveragePool", 1, 1, SPAROA_TOL_SUM, sums_infer, window_cost,
                              average_run);
/* ONNX MaxPool, versions 1, 8, 10, 11, 12 and 22. */
SP_OP(MaxPool) = POOL_ROW("MaxPool", 1, 2, SPAROA_TOL_EXACT, max_infer, window_cost, max_run);
/* ONNX LpPool, versions 2, 11, 18 and 22. */
SP_OP(LpPool) = POOL_ROW("LpPool", 2, 1, SPAROA_TOL_SUM, sums_infer, window_cost, lp_run);
/* ONNX GlobalAveragePool, versions 1 and 22. */
SP_OP(GlobalAveragePool) = POOL_ROW("GlobalAveragePool", 1, 1, SPAROA_TOL_SUM, global_infer,
                                    global_cost, global_average_run);
/* ONNX GlobalMaxPool, versions 1 and 22. */
SP_OP(GlobalMaxPool) = POOL_ROW("GlobalMaxPool", 1, 1, SPAROA_TOL_EXACT, global_infer, global_cost,
                                global_max_run);
/* ONNX GlobalLpPool, versions 2 and 22. */
SP_OP(GlobalLpPool) = POOL_ROW("GlobalLpPool", 2, 1, SPAROA_TOL_SUM, global_infer, global_cost,
                               global_lp_run);
