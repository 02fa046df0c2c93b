#include "cli/compare.h"

#include "cli/value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

sp_tolerance sp_tolerance_default(sp_compare_mode mode)
{
    return (sp_tolerance){
        .mode = mode, .rtol = mode == SP_COMPARE_ONNX ? 1e-3 : 1e-4, .atol = 1e-7};
}

const char *sp_index_text(char *text, size_t size, const sparoa_tensor *tensor, int64_t index)
{
    int64_t at[SPAROA_MAX_RANK] = {0};
    for (int i = tensor->rank - 1; i >= 0; i--) {
        int64_t dim = tensor->dims[i] > 0 ? tensor->dims[i] : 1;
        at[i] = index % dim;
        index /= dim;
    }
    size_t used = 0;
    if (size) text[0] = 0;
    for (int i = 0; i < tensor->rank && used < size; i++)
        used +=
            (size_t)snprintf(text + used, size - used, "%s%lld", i ? "," : "", (long long)at[i]);
    return text;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Every value must be a multiple of the step away from the smallest. */
static double step_of_sorted(const double *v, int64_t count)
{
    double step = 0, size = fmax(fabs(v[0]), fabs(v[count - 1]));
    for (int64_t i = 1; i < count; i++) {
        double gap = v[i] - v[i - 1];
        if (gap > 1e-6 * size && (step == 0 || gap < step)) step = gap;
    }
    double range = v[count - 1] - v[0];
    if (step == 0 || range / step > 255.5) return 0;
    for (int64_t i = 1; i < count; i++) {
        double steps = (v[i] - v[0]) / step;
        if (fabs(steps - nearbyint(steps)) > 0.02) return 0;
    }
    return step;
}

double sp_grid_step(const sparoa_tensor *tensor)
{
    int64_t count = sparoa_tensor_count(tensor), finite = 0;
    if (count < 2) return 0;
    double *sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted) return 0;
    for (int64_t i = 0; i < count; i++) {
        double v = sp_value_get(tensor, i);
        if (isfinite(v)) sorted[finite++] = v;
    }
    double step = 0;
    if (finite > 1) {
        qsort(sorted, (size_t)finite, sizeof *sorted, by_value);
        step = step_of_sorted(sorted, finite);
    }
    free(sorted);
    return step;
}

static bool same_facts(const sparoa_tensor *got, const sparoa_tensor *want, sp_difference *d)
{
    char a[128], b[128];
    bool same = got->dtype == want->dtype && got->rank == want->rank;
    for (int i = 0; same && i < want->rank; i++) same = got->dims[i] == want->dims[i];
    if (!same)
        snprintf(d->reason, sizeof d->reason, "is %s, expected %s",
                 sp_shape_text(a, sizeof a, got, NULL), sp_shape_text(b, sizeof b, want, NULL));
    return same;
}

static double largest(const sparoa_tensor *tensor, int64_t count)
{
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        double v = fabs(sp_value_get(tensor, i));
        if (isfinite(v) && v > size) size = v;
    }
    return size;
}

/* First row of the last axis in which no element is the largest of both tensors, or -1. */
static int64_t argmax_differs(const sparoa_tensor *got, const sparoa_tensor *want, int64_t count)
{
    int64_t n = want->rank > 0 ? want->dims[want->rank - 1] : 1;
    if (n < 2) return -1;
    for (int64_t row = 0; row < count; row += n) {
        double top_got = -INFINITY, top_want = -INFINITY;
        for (int64_t i = row; i < row + n; i++) {
            top_got = fmax(top_got, sp_value_get(got, i));
            top_want = fmax(top_want, sp_value_get(want, i));
        }
        bool agree = false;
        for (int64_t i = row; i < row + n && !agree; i++)
            agree = sp_value_get(got, i) == top_got && sp_value_get(want, i) == top_want;
        if (!agree) return row;
    }
    return -1;
}

static uint64_t bits_of(const sparoa_tensor *tensor, int64_t index, size_t size)
{
    uint64_t bits = 0;
    memcpy(&bits, (const char *)tensor->data + (size_t)index * size, size);
    return bits;
}

/* Allowed distance of one element from `want`, given the tensor's largest magnitude. */
static double allowed(const sp_tolerance *t, sparoa_dtype dtype, double want, double size,
                      double step)
{
    if (!sp_value_is_float(dtype)) return t->quant ? fmax(t->quant_steps, 1) : 0;
    double bound = t->atol + t->rtol * (t->mode == SP_COMPARE_SCALED ? size : fabs(want));
    /* Sums that cancel are no better than the rounding of their largest terms. */
    if (dtype != SPAROA_FLOAT64) bound += ldexp(size, -22);
    if (dtype == SPAROA_FLOAT16) bound = fmax(bound, ldexp(fabs(want), -10));
    if (dtype == SPAROA_BFLOAT16) bound = fmax(bound, ldexp(fabs(want), -7));
    return fmax(bound, step);
}

sp_difference sp_compare(const sparoa_tensor *got, const sparoa_tensor *want, const sp_tolerance *t)
{
    sp_difference d = {.worst = -1};
    if (!same_facts(got, want, &d)) return d;
    int64_t count = sparoa_tensor_count(want);
    size_t element = sparoa_dtype_size(want->dtype);
    if (count < 0 || element == 0) {
        snprintf(d.reason, sizeof d.reason, "has a type or shape that cannot be compared");
        return d;
    }
    bool real = sp_value_is_float(want->dtype);
    double size = largest(want, count), step = 0, worst = -1;
    if (t->quant && real) step = t->quant_step > 0 ? t->quant_step : sp_grid_step(want);
    step *= fmax(t->quant_steps, 1) * 1.001; /* the step itself is rounded */
    for (int64_t i = 0; i < count; i++) {
        double a = sp_value_get(got, i), b = sp_value_get(want, i), excess = 0;
        if (isfinite(a) && isfinite(b)) {
            double error = fabs(a - b), bound = allowed(t, want->dtype, b, size, step);
            if (error > d.max_error) d.max_error = error;
            /* 64-bit integers may differ where their doubles do not. */
            if (error > bound)
                excess = error - bound;
            else if (!real && bound == 0 && bits_of(got, i, element) != bits_of(want, i, element))
                excess = 1;
        } else if (!(isnan(a) && isnan(b)) && a != b) {
            excess = INFINITY;
        }
        if (excess > 0) d.wrong++;
        if (excess > 0 && excess > worst) {
            worst = excess;
            d.worst = i;
        }
    }
    d.scaled_error = size > 0 ? d.max_error / size : d.max_error;
    char index[128];
    if (d.wrong) {
        snprintf(d.reason, sizeof d.reason,
                 "%lld of %lld elements differ, worst at [%s]: %.9g, expected %.9g (max error "
                 "%.3g, scaled %.3g)",
                 (long long)d.wrong, (long long)count,
                 sp_index_text(index, sizeof index, want, d.worst), sp_value_get(got, d.worst),
                 sp_value_get(want, d.worst), d.max_error, d.scaled_error);
        return d;
    }
    int64_t row = t->quant ? argmax_differs(got, want, count) : -1;
    if (row >= 0) {
        d.wrong = 1;
        d.worst = row;
        snprintf(d.reason, sizeof d.reason,
                 "the arg-max of the row that starts at [%s] differs (max error %.3g)",
                 sp_index_text(index, sizeof index, want, row), d.max_error);
        return d;
    }
    d.same = true;
    return d;
}
