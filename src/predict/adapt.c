/* The most probable figures of a machine by Gauss-Newton steps on the logs of measured times. */
#include "predict/adapt.h"

#include <math.h>
#include <string.h>

#include "sparoa_backend.h"

enum {
    SPEED,
    BANDWIDTH,
    OVERHEAD,
    COMMON,
    FACTORS = COMMON + 2 * SP_KIND_COUNT, /* then speed and overhead by kind */
    STEPS = 12
};
#define NOISE 0.1        /* deviation of the log of a measured time */
#define PRIOR_COMMON 0.5 /* of a factor's log */
#define PRIOR_KIND 0.25

typedef struct fit {
    const sp_predict_setup *described;
    const sp_predict_measurement *measured;
    size_t count;
    uint32_t device;
    sp_platform trial;
    double x[FACTORS], step[FACTORS]; /* logs */
    double normal[FACTORS][FACTORS], right[FACTORS];
} fit;

static void set_device(const fit *f, const double *x, sp_platform_device *to)
{
    const sp_platform_device *from = &f->described->platform.devices[f->device];
    to->bandwidth = from->bandwidth * exp(x[BANDWIDTH]);
    to->peak_flops = from->peak_flops * exp(x[SPEED]);
    for (int k = 0; k < SP_KIND_COUNT; k++) {
        const double *own = x + COMMON + 2 * k;
        const sp_platform_kind *a = &from->kinds[k];
        sp_platform_kind *b = &to->kinds[k];
        for (uint32_t i = 0; i < a->efficiency.count; i++)
            b->efficiency.y[i] = a->efficiency.y[i] * exp(own[0]);
        for (int r = 0; r < SP_REGIME_COUNT; r++)
            b->overhead_ns[r] = a->overhead_ns[r] * exp(x[OVERHEAD] + own[1]);
    }
}

static double log_time(const fit *f, const sp_predict_measurement *m)
{
    const sp_predict_setup *d = f->described;
    return log(fmax(sp_platform_cost(&f->trial, f->device, d->regime, &m->work, &d->state).ns, 1));
}

static double prior(int j)
{
    return j < COMMON ? PRIOR_COMMON : PRIOR_KIND;
}

/* Does a factor matter for a measurement? */
static bool matters(int j, const sp_predict_measurement *m)
{
    return j < COMMON || (j - COMMON) / 2 == m->work.kind;
}

static void add_measurement(fit *f, const sp_predict_measurement *m)
{
    const double small = 1e-3;
    double slope[FACTORS] = {0}, at;
    sp_platform_device *trial = &f->trial.devices[f->device];
    set_device(f, f->x, trial);
    at = log_time(f, m);
    for (int j = 0; j < FACTORS; j++) {
        if (!matters(j, m)) continue;
        double keep = f->x[j];
        f->x[j] += small;
        set_device(f, f->x, trial);
        slope[j] = (log_time(f, m) - at) / small;
        f->x[j] = keep;
    }
    double left = log(fmax(m->ns, 1)) - at, weight = 1 / (NOISE * NOISE);
    if (fabs(left) > 3 * NOISE) weight *= 3 * NOISE / fabs(left); /* outliers pull less (Huber) */
    for (int i = 0; i < FACTORS; i++)
        for (int j = 0; j < FACTORS && slope[i] != 0; j++)
            f->normal[i][j] += weight * slope[i] * slope[j];
    for (int i = 0; i < FACTORS; i++) f->right[i] += weight * slope[i] * left;
}

/* Solves normal * step = right by Cholesky; the priors make the matrix positive definite. */
static void solve(fit *f)
{
    double(*a)[FACTORS] = f->normal;
    for (int i = 0; i < FACTORS; i++)
        for (int j = 0; j <= i; j++) {
            double sum = a[i][j];
            for (int k = 0; k < j; k++) sum -= a[i][k] * a[j][k];
            a[i][j] = i == j ? sqrt(fmax(sum, 1e-12)) : sum / a[j][j];
        }
    for (int i = 0; i < FACTORS; i++) {
        f->step[i] = f->right[i];
        for (int k = 0; k < i; k++) f->step[i] -= a[i][k] * f->step[k];
        f->step[i] /= a[i][i];
    }
    for (int i = FACTORS - 1; i >= 0; i--) {
        for (int k = i + 1; k < FACTORS; k++) f->step[i] -= a[k][i] * f->step[k];
        f->step[i] /= a[i][i];
    }
}

static void fit_device(fit *f)
{
    memset(f->x, 0, sizeof f->x);
    for (int s = 0; s < STEPS; s++) {
        memset(f->normal, 0, sizeof f->normal);
        for (int j = 0; j < FACTORS; j++) {
            double weight = 1 / (prior(j) * prior(j));
            f->normal[j][j] = weight;
            f->right[j] = -weight * f->x[j];
        }
        for (size_t i = 0; i < f->count; i++)
            if (f->measured[i].device == f->device) add_measurement(f, &f->measured[i]);
        solve(f);
        for (int j = 0; j < FACTORS; j++) f->x[j] += fmin(fmax(f->step[j], -0.5), 0.5);
    }
    set_device(f, f->x, &f->trial.devices[f->device]);
}

sparoa_status sp_predict_fit(const sparoa_allocator *alloc, const sp_predict_setup *described,
                             const sp_predict_measurement *measured, size_t count,
                             sp_platform *fitted, sparoa_error *err)
{
    fit *f = sp_alloc(alloc, sizeof *f);
    if (!f) return sp_no_memory(alloc, sizeof *f, err);
    f->described = described;
    f->measured = measured;
    f->count = count;
    f->trial = described->platform;
    for (f->device = 0; f->device < 2; f->device++) fit_device(f);
    *fitted = f->trial;
    sp_free(alloc, f, sizeof *f);
    return SPAROA_OK;
}
