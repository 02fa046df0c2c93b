/* Runs Resize: nearest as one gather of blocks, the rest as one pass for each axis that changes:
 * first those that shrink, rows before elements, then the last axis first. */
#include "ops/resize_run.h"

typedef struct pass {
    const void *in;
    void *out;
    int64_t outer, in_length, out_length, inner;
    const int64_t *start;
    const void *weights; /* in the type of the data */
    int64_t taps;
    double extrapolation;
    bool inside; /* no start is -1 */
} pass;

/* Units: rows of `inner` elements, or whole lines where inner is 1. */
#define DEFINE_PASS(REAL, suffix)                                                                  \
    static void line_##suffix(const pass *p, const REAL *in, REAL *out)                            \
    {                                                                                              \
        const REAL *w = p->weights;                                                                \
        if (p->taps == 2 && p->inside) {                                                           \
            for (int64_t o = 0; o < p->out_length; o++) {                                          \
                const REAL *x = in + p->start[o];                                                  \
                out[o] = w[2 * o] * x[0] + w[2 * o + 1] * x[1];                                    \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t o = 0; o < p->out_length; o++, w += p->taps) {                                \
            const REAL *x = in + p->start[o];                                                      \
            REAL sum = p->start[o] < 0 ? (REAL)p->extrapolation : 0;                               \
            for (int64_t t = 0; p->start[o] >= 0 && t < p->taps; t++) sum += w[t] * x[t];          \
            out[o] = sum;                                                                          \
        }                                                                                          \
    }                                                                                              \
    static void row_##suffix(const pass *p, int64_t unit)                                          \
    {                                                                                              \
        int64_t o = unit % p->out_length, at = p->start[o], n = p->inner;                          \
        const REAL *w = (const REAL *)p->weights + o * p->taps;                                    \
        const REAL *x =                                                                            \
            (const REAL *)p->in + (unit / p->out_length * p->in_length + (at < 0 ? 0 : at)) * n;   \
        REAL *y = (REAL *)p->out + unit * n, w0 = w[0], w1 = p->taps > 1 ? w[1] : 0;               \
        if (at < 0) {                                                                              \
            for (int64_t i = 0; i < n; i++) y[i] = (REAL)p->extrapolation;                         \
            return;                                                                                \
        }                                                                                          \
        if (p->taps == 1)                                                                          \
            for (int64_t i = 0; i < n; i++) y[i] = w0 * x[i];                                      \
        else                                                                                       \
            for (int64_t i = 0; i < n; i++) y[i] = w0 * x[i] + w1 * x[n + i];                      \
        for (int64_t t = 2; t < p->taps; t++) {                                                    \
            const REAL *xt = x + t * n;                                                            \
            const REAL wt = w[t];                                                                  \
            for (int64_t i = 0; i < n; i++) y[i] += wt * xt[i];                                    \
        }                                                                                          \
    }                                                                                              \
    static void piece_##suffix(void *arg, int64_t begin, int64_t end)                              \
    {                                                                                              \
        const pass *p = arg;                                                                       \
        for (int64_t u = begin; u < end; u++) {                                                    \
            if (p->inner == 1)                                                                     \
                line_##suffix(p, (const REAL *)p->in + u * p->in_length,                           \
                              (REAL *)p->out + u * p->out_length);                                 \
            else                                                                                   \
                row_##suffix(p, u);                                                                \
        }                                                                                          \
    }

DEFINE_PASS(float, f32)
DEFINE_PASS(double, f64)

static bool uses_double(sparoa_dtype t)
{
    return t == SPAROA_FLOAT64 || sparoa_dtype_size(t) > 4 || t == SPAROA_INT32 ||
           t == SPAROA_UINT32;
}

static bool is_real(sparoa_dtype t)
{
    return t == SPAROA_FLOAT32 || t == SPAROA_FLOAT64;
}

static size_t round_up(size_t n)
{
    return (n + 63) / 64 * 64;
}

/* Bytes of starts, weights, and of the tensor after each pass; where the data is not float, also of
 * the widened input and output. */
static size_t table_bytes(const sp_resize *r, const sp_resize_axis *x)
{
    size_t starts = round_up((size_t)x->out * sizeof(int64_t));
    if (r->mode == SP_RESIZE_NEAREST) return starts;
    return starts + round_up((size_t)x->out * (size_t)sp_resize_taps(r, x) * sizeof(double));
}

/* The axes that change, in the order of their passes. */
static int32_t order_of(const sp_resize *r, int32_t order[SPAROA_MAX_RANK])
{
    int32_t n = 0;
    bool last_is_wide = r->rank > 0 && !r->axis[r->rank - 1].active;
    for (int32_t shrinks = 1; shrinks >= 0; shrinks--)
        for (int32_t k = 0; k < r->rank; k++) {
            int32_t i = shrinks ? k : r->rank - 1 - k;
            const sp_resize_axis *x = &r->axis[i];
            bool early = x->out < x->in && (i < r->rank - 1 || last_is_wide);
            if (x->active && early == (shrinks == 1)) order[n++] = i;
        }
    return n;
}

size_t sp_resize_workspace(const sparoa_node *node, int32_t threads)
{
    sp_resize r;
    if (sp_resize_parse(node, &r, NULL) != SPAROA_OK || sp_count(node->out[0]) == 0) return 0;
    sparoa_dtype t = node->in[0]->dtype;
    size_t element = uses_double(t) ? 8 : 4, bytes = 0, elements = (size_t)sp_count(node->in[0]);
    bool filtered = r.mode != SP_RESIZE_NEAREST;
    if (filtered && !is_real(t)) bytes += round_up(elements * element);
    for (int32_t i = 0; i < r.rank; i++)
        if (r.axis[i].in < 1 || r.axis[i].out < 0) return 0;
    for (int32_t i = 0; !filtered && i < r.rank; i++) bytes += table_bytes(&r, &r.axis[i]);
    int32_t order[SPAROA_MAX_RANK], passes = filtered ? order_of(&r, order) : 0;
    for (int32_t k = 0; k < passes; k++) {
        const sp_resize_axis *x = &r.axis[order[k]];
        elements = elements / (size_t)x->in * (size_t)x->out;
        bytes += table_bytes(&r, x) + round_up(elements * element);
    }
    return bytes;
}

typedef struct gather {
    const char *in;
    sparoa_tensor *out;
    size_t block;                          /* bytes that stay together */
    int32_t axes;                          /* that are walked */
    const int64_t *start[SPAROA_MAX_RANK]; /* bytes from the axis's origin; -1: extrapolation */
    int64_t out_dims[SPAROA_MAX_RANK];
    sparoa_dtype dtype;
    double extrapolation;
    bool inside;  /* no start is -1 */
    bool doubles; /* each element of the last walked axis comes twice */
} gather;

static void fill_block(const gather *g, size_t at)
{
    size_t one = sparoa_dtype_size(g->dtype);
    for (size_t i = 0; i < g->block / one; i++)
        sp_set_f64(g->out, (int64_t)(at / one + i), g->extrapolation);
}

/* One row along the last walked axis. */
static void gather_row(const gather *g, const char *in, bool outside, size_t at)
{
    int32_t last = g->axes - 1;
    int64_t n = g->out_dims[last];
    const int64_t *start = g->start[last];
    char *out = (char *)g->out->data + at;
#define X(ctype, size)                                                                             \
    if (g->block == size && g->doubles) {                                                          \
        for (int64_t o = 0; o < n / 2; o++)                                                        \
            ((ctype *)out)[2 * o] = ((ctype *)out)[2 * o + 1] = ((const ctype *)in)[o];            \
        return;                                                                                    \
    }                                                                                              \
    if (g->block == size && g->inside) {                                                           \
        for (int64_t o = 0; o < n; o++) ((ctype *)out)[o] = *(const ctype *)(in + start[o]);       \
        return;                                                                                    \
    }                                                                                              \
    if (g->block == size && !outside && g->extrapolation == 0) {                                   \
        for (int64_t o = 0; o < n; o++)                                                            \
            ((ctype *)out)[o] = start[o] < 0 ? (ctype)0 : *(const ctype *)(in + start[o]);         \
        return;                                                                                    \
    }
    SP_FOR_SIZES(X)
#undef X
    for (int64_t o = 0; o < n; o++) {
        if (outside || start[o] < 0)
            fill_block(g, at + (size_t)o * g->block);
        else
            memcpy(out + (size_t)o * g->block, in + start[o], g->block);
    }
}

static void gather_piece(void *arg, int64_t begin, int64_t end)
{
    const gather *g = arg;
    const size_t bytes = (size_t)g->out_dims[g->axes - 1] * g->block;
    int64_t before = -1; /* where the row before came from */
    for (int64_t row = begin; row < end; row++) {
        int64_t rest = row, offset = 0;
        bool outside = false;
        for (int32_t d = g->axes - 2; d >= 0; d--) {
            int64_t from = g->start[d][rest % g->out_dims[d]];
            rest /= g->out_dims[d];
            if (from < 0)
                outside = true;
            else
                offset += from;
        }
        char *out = (char *)g->out->data + (size_t)row * bytes;
        if (!outside && offset == before)
            memcpy(out, out - bytes, bytes);
        else
            gather_row(g, g->in + offset, outside, (size_t)row * bytes);
        before = outside ? -1 : offset;
    }
}

static void run_nearest(const sparoa_node *node, const sp_resize *r, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    gather g = {
        .in = in->data, .out = node->out[0], .dtype = in->dtype, .extrapolation = r->extrapolation};
    g.axes = r->rank;
    g.block = sparoa_dtype_size(in->dtype);
    while (g.axes > 1 && !r->axis[g.axes - 1].active) g.block *= (size_t)r->axis[--g.axes].in;
    char *at = exec->workspace;
    int64_t stride = (int64_t)g.block, rows = 1;
    g.inside = g.doubles = true;
    for (int32_t d = g.axes - 1; d >= 0; d--) {
        const sp_resize_axis *x = &r->axis[d];
        int64_t *start = (int64_t *)at;
        at += table_bytes(r, x);
        for (int64_t o = 0; !x->active && o < x->out; o++) start[o] = o;
        if (x->active) sp_resize_table(r, x, start, NULL);
        for (int64_t o = 0; o < x->out; o++) {
            g.inside = g.inside && start[o] >= 0;
            g.doubles = g.doubles && (d < g.axes - 1 || (start[o] == o / 2 && x->out % 2 == 0));
            if (start[o] > 0) start[o] *= stride;
        }
        g.start[d] = start;
        g.out_dims[d] = x->out;
        stride *= x->in;
        if (d < g.axes - 1) rows *= x->out;
    }
    g.doubles = g.doubles && g.inside;
    sp_parallel_for(exec, rows, 1 + 32768 / (g.out_dims[g.axes - 1] * (int64_t)g.block + 1),
                    gather_piece, &g);
}

/* The table's weights become floats in place. */
static void narrow(double *weights, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        float w = (float)weights[i];
        memcpy((char *)weights + (size_t)i * sizeof w, &w, sizeof w);
    }
}

static void convert_in(const sparoa_tensor *t, void *out, bool wide)
{
    int64_t n = sp_count(t);
    for (int64_t i = 0; wide && i < n; i++) ((double *)out)[i] = sp_get_f64(t, i);
    for (int64_t i = 0; !wide && i < n; i++) ((float *)out)[i] = (float)sp_get_f64(t, i);
}

static void convert_out(sparoa_tensor *t, const void *in, bool wide)
{
    int64_t n = sp_count(t);
    for (int64_t i = 0; i < n; i++)
        sp_set_f64(t, i,
                   nearbyint(wide ? ((const double *)in)[i] : (double)((const float *)in)[i]));
}

static void run_pass(const sp_resize *r, const sp_resize_axis *x, pass *p, char **at, bool wide,
                     const sparoa_exec *exec)
{
    int64_t *start = (int64_t *)*at;
    double *weights = (double *)(*at + round_up((size_t)x->out * sizeof(int64_t)));
    p->taps = sp_resize_taps(r, x);
    *at += table_bytes(r, x);
    sp_resize_table(r, x, start, weights);
    if (!wide) narrow(weights, x->out * p->taps);
    p->start = start;
    p->weights = weights;
    p->extrapolation = r->extrapolation;
    p->inside = true;
    for (int64_t o = 0; o < x->out; o++) p->inside = p->inside && start[o] >= 0;
    int64_t units = p->inner == 1 ? p->outer : p->outer * x->out;
    int64_t work = (p->inner == 1 ? x->out : p->inner) * p->taps + 1;
    sp_parallel_for(exec, units, 1 + 32768 / work, wide ? piece_f64 : piece_f32, p);
}

static void run_passes(const sparoa_node *node, const sp_resize *r, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    bool wide = uses_double(in->dtype), direct = is_real(in->dtype);
    size_t element = wide ? 8 : 4;
    char *at = exec->workspace;
    const void *now = in->data;
    int64_t elements = sp_count(in);
    if (!direct) {
        convert_in(in, at, wide);
        now = at;
        at += round_up((size_t)elements * element);
    }
    int32_t order[SPAROA_MAX_RANK], passes = order_of(r, order);
    int64_t dims[SPAROA_MAX_RANK];
    for (int32_t i = 0; i < r->rank; i++) dims[i] = r->axis[i].in;
    for (int32_t k = 0; k < passes; k++) {
        const sp_resize_axis *x = &r->axis[order[k]];
        pass p = {.in = now, .in_length = x->in, .out_length = x->out, .outer = 1, .inner = 1};
        for (int32_t i = 0; i < r->rank; i++) {
            if (i < order[k]) p.outer *= dims[i];
            if (i > order[k]) p.inner *= dims[i];
        }
        dims[order[k]] = x->out;
        elements = elements / x->in * x->out;
        p.out = k == passes - 1 && direct ? node->out[0]->data : (void *)at;
        if (p.out == at) at += round_up((size_t)elements * element);
        run_pass(r, x, &p, &at, wide, exec);
        now = p.out;
    }
    if (!direct) convert_out(node->out[0], now, wide);
}

sparoa_status sp_resize_run(const sparoa_node *node, const sparoa_exec *exec)
{
    sp_resize r;
    SP_TRY(sp_resize_parse(node, &r, exec->err));
    bool any = false;
    for (int32_t i = 0; i < r.rank; i++) {
        any = any || r.axis[i].active;
        if (r.axis[i].out != node->out[0]->dims[i] || r.axis[i].out < 0)
            return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                               "the output is not prepared for this size");
    }
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    if (!any)
        sp_copy_data(node->out[0], node->in[0]);
    else if (r.mode == SP_RESIZE_NEAREST)
        run_nearest(node, &r, exec);
    else
        run_passes(node, &r, exec);
    return SPAROA_OK;
}
