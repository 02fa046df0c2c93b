/* DFT and STFT: lines of a tensor through the transform of fft.h, in double precision. */
#include "ops/check.h"
#include "ops/fft.h"

#define LENGTH_INPUT 1

typedef struct dft {
    int32_t axis;   /* -1: not known yet */
    int64_t length; /* of the transform; -1: not known yet */
    bool inverse, onesided;
} dft;

static sparoa_status check_length(const sparoa_node *node, int64_t n, sparoa_error *err)
{
    if (n >= 1 && n <= SP_FFT_MAX) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                       "a transform of length %lld is not possible", (long long)n);
}

static sparoa_status dft_axis(const sparoa_node *node, dft *d, sparoa_error *err)
{
    const sparoa_tensor *x = node->in[0];
    int64_t axis = node->version >= 20 ? -2 : sparoa_attr_int(node, "axis", 1);
    bool known = true;
    if (node->version >= 20 && sparoa_in(node, 2))
        SP_TRY(sp_read_scalar(node, 2, &known, &axis, err));
    d->axis = -1;
    if (!known || x->rank < 0) return SPAROA_OK;
    SP_TRY(sp_axis(node, axis, x->rank, false, &d->axis, err));
    if (d->axis == x->rank - 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                           "axis=%lld is the axis of complex parts", (long long)axis);
    return SPAROA_OK;
}

static sparoa_status dft_parse(const sparoa_node *node, dft *d, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_rank(node, 0, 2, SPAROA_MAX_RANK, err));
    const sparoa_tensor *x = node->in[0];
    d->inverse = sparoa_attr_int(node, "inverse", 0) != 0;
    d->onesided = sparoa_attr_int(node, "onesided", 0) != 0;
    SP_TRY(dft_axis(node, d, err));
    int64_t parts = x->rank < 0 ? -1 : x->dims[x->rank - 1];
    if (parts >= 0 && parts != 1 && parts != 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension is %lld, expected 1 or 2", (long long)parts);
    if (d->onesided && !d->inverse && parts == 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "onesided=1 takes real input, the last dimension is 2");
    int64_t signal = d->axis < 0 ? -1 : x->dims[d->axis];
    d->length = -1;
    if (sparoa_in(node, LENGTH_INPUT)) {
        bool known;
        SP_TRY(sp_read_scalar(node, LENGTH_INPUT, &known, &d->length, err));
        if (!known)
            d->length = -1;
        else
            return check_length(node, d->length, err);
    } else if (signal >= 0) {
        if (signal > SP_FFT_MAX) return check_length(node, signal, err);
        d->length = d->inverse && d->onesided ? 2 * (signal - 1) : signal;
        return check_length(node, d->length, err);
    }
    return SPAROA_OK;
}

static sparoa_status dft_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    dft d;
    SP_TRY(dft_parse(node, &d, err));
    sparoa_tensor *out = node->out[0];
    const sparoa_tensor *x = node->in[0];
    sp_copy_fact(out, x);
    if (x->rank < 0) return SPAROA_OK;
    out->dims[x->rank - 1] = d.inverse && d.onesided ? 1 : 2;
    if (d.axis < 0) {
        for (int32_t i = 0; i < x->rank - 1; i++) out->dims[i] = -1;
    } else {
        bool half = d.onesided && !d.inverse;
        out->dims[d.axis] = d.length < 0 ? -1 : half ? d.length / 2 + 1 : d.length;
    }
    return SPAROA_OK;
}

static size_t fft_bytes(int64_t n, int64_t slots)
{
    if (n < 1 || n > SP_FFT_MAX) return 0;
    return (size_t)(sp_fft_table_count(n) + slots * (sp_fft_scratch_count(n) + 2 * n)) *
           sizeof(double);
}

/* For a half spectrum of `bins` the length is one of two. */
static size_t dft_bytes(int64_t bins, bool half, int64_t slots)
{
    size_t a = fft_bytes(half ? 2 * bins - 2 : bins, slots),
           b = half ? fft_bytes(2 * bins - 1, slots) : 0;
    return a > b ? a : b;
}

static double fft_flops(int64_t n)
{
    return n > 1 ? 5.0 * (double)n * log2((double)n) : 1.0;
}

static void dft_cost(const sparoa_node *node, sparoa_cost *cost)
{
    dft d;
    if (dft_parse(node, &d, NULL) != SPAROA_OK || d.length < 1 || d.axis < 0) return;
    const sparoa_tensor *out = node->out[0];
    double lines = (double)sp_count(out) / (double)(out->dims[out->rank - 1] * out->dims[d.axis]);
    cost->flops = lines * fft_flops(d.length);
}

static size_t dft_workspace(const sparoa_node *node, int32_t threads)
{
    dft d;
    if (dft_parse(node, &d, NULL) != SPAROA_OK) return 0;
    const sparoa_tensor *out = node->out[0];
    size_t most = 0;
    for (int32_t i = 0; i < out->rank - 1; i++) { /* any axis, where it is not known yet */
        if (d.axis >= 0 && i != d.axis) continue;
        size_t bytes = dft_bytes(out->dims[i], d.onesided && !d.inverse, threads);
        if (bytes > most) most = bytes;
    }
    return most;
}

typedef struct lines {
    const sparoa_tensor *in;
    sparoa_tensor *out;
    sp_fft plan;
    double *buffers;
    int64_t slots, count; /* lines are dealt to slots, each with its own buffer */
    int64_t inner;        /* elements (complex counts as one) between neighbours of a line */
    int64_t in_length, out_length;
    int32_t in_parts, out_parts;
    bool inverse, hermitian;
    /* STFT */
    const sparoa_tensor *window;
    int64_t frames, step;
} lines;

/* Completes a half spectrum to the one of a real signal. */
static void complete_hermitian(double *z, int64_t n)
{
    z[1] = 0;
    if (n % 2 == 0) z[n + 1] = 0;
    for (int64_t k = n / 2 + 1; k < n; k++) {
        z[2 * k] = z[2 * (n - k)];
        z[2 * k + 1] = -z[2 * (n - k) + 1];
    }
}

static void dft_line(const lines *l, int64_t line, double *z, double *scratch)
{
    int64_t n = l->plan.n, outer = line / l->inner, inner = line % l->inner;
    int64_t from = outer * l->in_length * l->inner + inner,
            to = outer * l->out_length * l->inner + inner;
    int64_t used = l->hermitian ? n / 2 + 1 : n;
    for (int64_t i = 0; i < n; i++) {
        bool there = i < l->in_length && i < used;
        int64_t at = (from + i * l->inner) * l->in_parts;
        z[2 * i] = there ? sp_get_f64(l->in, at) : 0;
        z[2 * i + 1] = there && l->in_parts == 2 ? sp_get_f64(l->in, at + 1) : 0;
    }
    if (l->hermitian) complete_hermitian(z, n);
    sp_fft_run(&l->plan, z, scratch, l->inverse);
    double scale = l->inverse ? 1.0 / (double)n : 1.0;
    for (int64_t i = 0; i < l->out_length; i++) {
        int64_t at = (to + i * l->inner) * l->out_parts;
        sp_set_f64(l->out, at, z[2 * i] * scale);
        if (l->out_parts == 2) sp_set_f64(l->out, at + 1, z[2 * i + 1] * scale);
    }
}

static void stft_line(const lines *l, int64_t line, double *z, double *scratch)
{
    int64_t n = l->plan.n, batch = line / l->frames, frame = line % l->frames;
    int64_t from = batch * l->in_length + frame * l->step, to = line * l->out_length * 2;
    for (int64_t i = 0; i < n; i++) {
        double w = l->window ? sp_get_f64(l->window, i) : 1.0;
        z[2 * i] = w * sp_get_f64(l->in, (from + i) * l->in_parts);
        z[2 * i + 1] = l->in_parts == 2 ? w * sp_get_f64(l->in, (from + i) * 2 + 1) : 0;
    }
    sp_fft_run(&l->plan, z, scratch, false);
    for (int64_t i = 0; i < 2 * l->out_length; i++) sp_set_f64(l->out, to + i, z[i]);
}

static void slot_piece(void *arg, int64_t begin, int64_t end)
{
    const lines *l = arg;
    int64_t size = sp_fft_scratch_count(l->plan.n) + 2 * l->plan.n;
    for (int64_t slot = begin; slot < end; slot++) {
        double *z = l->buffers + slot * size, *scratch = z + 2 * l->plan.n;
        int64_t last = sp_slot_first(l->count, l->slots, slot + 1);
        for (int64_t i = sp_slot_first(l->count, l->slots, slot); i < last; i++) {
            if (l->step)
                stft_line(l, i, z, scratch);
            else
                dft_line(l, i, z, scratch);
        }
    }
}

static void run_lines(lines *l, int64_t n, const sparoa_exec *exec)
{
    if (l->count < 1) return;
    double *tables = exec->workspace;
    l->buffers = tables + sp_fft_table_count(n);
    sp_fft_init(&l->plan, n, tables, l->buffers);
    l->slots = sp_slots(exec, l->count);
    sp_parallel_for(exec, l->slots, 1, slot_piece, l);
}

static sparoa_status dft_run(const sparoa_node *node, const sparoa_exec *exec)
{
    dft d;
    SP_TRY(dft_parse(node, &d, exec->err));
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    int64_t bins = d.onesided && !d.inverse ? d.length / 2 + 1 : d.length;
    if (d.axis < 0 || y->dims[d.axis] != bins)
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "the output is not prepared for length %lld", (long long)d.length);
    lines l = {
        .in = x, .out = node->out[0], .inverse = d.inverse, .hermitian = d.inverse && d.onesided};
    l.inner = sp_dims_product(x, d.axis + 1, x->rank - 1);
    l.count = sp_dims_product(x, 0, d.axis) * l.inner;
    l.in_length = x->dims[d.axis];
    l.out_length = bins;
    l.in_parts = (int32_t)x->dims[x->rank - 1];
    l.out_parts = (int32_t)y->dims[y->rank - 1];
    run_lines(&l, d.length, exec);
    return SPAROA_OK;
}

typedef struct stft {
    int64_t batch, signal, step, length, frames; /* -1: not known yet */
    int64_t parts;
    bool onesided;
} stft;

static sparoa_status stft_parse(const sparoa_node *node, stft *s, sparoa_error *err)
{
    *s = (stft){.step = -1, .length = -1, .frames = -1};
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    SP_TRY(sp_check_rank(node, 0, 2, 3, err));
    const sparoa_tensor *x = node->in[0], *window = sparoa_in(node, 2);
    s->onesided = sparoa_attr_int(node, "onesided", 1) != 0;
    s->batch = sp_dim(x, 0);
    s->signal = sp_dim(x, 1);
    s->parts = x->rank == 2 ? 1 : sp_dim(x, 2);
    if (s->parts >= 0 && s->parts != 1 && s->parts != 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "the last dimension is %lld, expected 1 or 2", (long long)s->parts);
    if (s->parts == 2 && s->onesided)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "onesided=1 takes a real signal");
    bool known, fixed = true;
    SP_TRY(sp_read_scalar(node, 1, &known, &s->step, err));
    if (!known)
        s->step = -1;
    else if (s->step < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "frame_step=%lld must be positive",
                           (long long)s->step);
    if (sparoa_in(node, 3)) {
        SP_TRY(sp_read_scalar(node, 3, &fixed, &s->length, err));
        if (!fixed)
            s->length = -1;
        else
            SP_TRY(check_length(node, s->length, err));
    }
    if (window) {
        SP_TRY(sp_check_rank(node, 2, 1, 1, err));
        SP_TRY(sp_check_same_type(node, 0, 2, err));
        SP_TRY(sp_unify(node, &s->length, sp_dim(window, 0), "frame length", err));
    } else if (!sparoa_in(node, 3)) {
        s->length = s->signal;
    }
    if (s->length >= 0) SP_TRY(check_length(node, s->length, err));
    if (s->length < 0 || s->signal < 0) return SPAROA_OK;
    if (s->length > s->signal)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "frame length %lld exceeds the signal's %lld", (long long)s->length,
                           (long long)s->signal);
    if (s->step > 0) s->frames = (s->signal - s->length) / s->step + 1;
    return SPAROA_OK;
}

static sparoa_status stft_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 2, 1, err));
    stft s;
    SP_TRY(stft_parse(node, &s, err));
    int64_t bins = s.length < 0 ? -1 : s.onesided ? s.length / 2 + 1 : s.length;
    sp_set_shape(node->out[0], node->in[0]->dtype, 4, (int64_t[]){s.batch, s.frames, bins, 2});
    return SPAROA_OK;
}

static void stft_cost(const sparoa_node *node, sparoa_cost *cost)
{
    stft s;
    if (stft_parse(node, &s, NULL) != SPAROA_OK || s.length < 1) return;
    cost->flops =
        (double)s.batch * (double)s.frames * (fft_flops(s.length) + 2.0 * (double)s.length);
}

static size_t stft_workspace(const sparoa_node *node, int32_t threads)
{
    return dft_bytes(node->out[0]->dims[2], sparoa_attr_int(node, "onesided", 1) != 0, threads);
}

static sparoa_status stft_run(const sparoa_node *node, const sparoa_exec *exec)
{
    stft s;
    SP_TRY(stft_parse(node, &s, exec->err));
    const sparoa_tensor *y = node->out[0];
    int64_t bins = s.onesided ? s.length / 2 + 1 : s.length;
    if (s.frames < 0 || y->dims[1] != s.frames || y->dims[2] != bins)
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "the output is not prepared for frames of %lld", (long long)s.length);
    lines l = {.in = node->in[0], .out = node->out[0], .window = sparoa_in(node, 2)};
    l.count = s.batch * s.frames;
    l.frames = s.frames;
    l.step = s.step;
    l.in_length = s.signal;
    l.in_parts = (int32_t)s.parts;
    l.out_length = bins;
    run_lines(&l, s.length, exec);
    return SPAROA_OK;
}

/* ONNX DFT, versions 17 (attribute axis) and 20 (input axis). */
SP_OP(DFT) = {
    SP_OP_HEAD("DFT", 17, 0),
    .min_in = 1,
    .max_in = 3,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_SUM,
    .infer = dft_infer,
    .cost = dft_cost,
    .workspace = dft_workspace,
    .run = dft_run,
};

/* ONNX STFT, version 17. */
SP_OP(STFT) = {
    SP_OP_HEAD("STFT", 17, 0),
    .min_in = 2,
    .max_in = 4,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_SUM,
    .infer = stft_infer,
    .cost = stft_cost,
    .workspace = stft_workspace,
    .run = stft_run,
};
