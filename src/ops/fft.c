#include "ops/fft.h"

#include <math.h>
#include <string.h>

#define MAX_PRIME 31 /* largest factor that mixed radix takes */

static int64_t next_factor(int64_t n)
{
    if (n % 4 == 0) return 4;
    for (int64_t p = 2; p <= MAX_PRIME; p++)
        if (n % p == 0) return p;
    return 0;
}

/* The inner length for Bluestein, or 0 where mixed radix will do. */
static int64_t inner_length(int64_t n)
{
    int64_t rest = n, p;
    while (rest > 1 && (p = next_factor(rest)) != 0) rest /= p;
    if (rest == 1) return 0;
    int64_t m = 1;
    while (m < 2 * n - 1) m *= 2;
    return m;
}

int64_t sp_fft_table_count(int64_t n)
{
    int64_t m = inner_length(n);
    return m ? 2 * (m + n + m) : 2 * n;
}

int64_t sp_fft_scratch_count(int64_t n)
{
    int64_t m = inner_length(n);
    return m ? 4 * m : 2 * n;
}

static void fill_twiddle(double *w, int64_t n)
{
    for (int64_t k = 0; k < n; k++) {
        double angle = -2.0 * M_PI * (double)k / (double)n;
        w[2 * k] = cos(angle);
        w[2 * k + 1] = sin(angle);
    }
}

typedef struct cpx {
    double re, im;
} cpx;

static inline cpx add(cpx a, cpx b)
{
    return (cpx){a.re + b.re, a.im + b.im};
}

static inline cpx sub(cpx a, cpx b)
{
    return (cpx){a.re - b.re, a.im - b.im};
}

static inline cpx mul(cpx a, cpx b)
{
    return (cpx){a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re};
}

/* One pass of Stockham's algorithm: `s` interleaved transforms, each of length `p` times `m`. */
static void pass2(const cpx *w, const cpx *x, cpx *y, int64_t m, int64_t s)
{
    for (int64_t q = 0; q < m; q++) {
        cpx t = w[q * s];
        const cpx *a = x + s * q, *b = a + s * m;
        cpx *out = y + s * 2 * q;
        for (int64_t j = 0; j < s; j++) {
            out[j] = add(a[j], b[j]);
            out[j + s] = mul(sub(a[j], b[j]), t);
        }
    }
}

static void pass4(const cpx *w, const cpx *x, cpx *y, int64_t m, int64_t s)
{
    for (int64_t q = 0; q < m; q++) {
        cpx t1 = w[q * s], t2 = w[2 * q * s], t3 = w[3 * q * s];
        const cpx *a = x + s * q;
        cpx *out = y + s * 4 * q;
        for (int64_t j = 0; j < s; j++) {
            cpx a0 = a[j], a1 = a[j + s * m], a2 = a[j + 2 * s * m], a3 = a[j + 3 * s * m];
            cpx even = add(a0, a2), odd = add(a1, a3), d = sub(a0, a2), e = sub(a1, a3);
            cpx minus_ie = {e.im, -e.re};
            out[j] = add(even, odd);
            out[j + s] = mul(add(d, minus_ie), t1);
            out[j + 2 * s] = mul(sub(even, odd), t2);
            out[j + 3 * s] = mul(sub(d, minus_ie), t3);
        }
    }
}

static void pass_any(const cpx *w, const cpx *x, cpx *y, int64_t p, int64_t m, int64_t s)
{
    int64_t n = p * m * s;
    for (int64_t q = 0; q < m; q++) {
        for (int64_t j = 0; j < s; j++) {
            for (int64_t k = 0; k < p; k++) {
                cpx sum = x[j + s * q];
                for (int64_t r = 1; r < p; r++)
                    sum = add(sum, mul(x[j + s * (q + m * r)], w[r * k % p * (n / p)]));
                y[j + s * (p * q + k)] = mul(sum, w[q * k * s]);
            }
        }
    }
}

/* Forward transform of n values by mixed radix; the result is in `data`. */
static void mixed_radix(const double *twiddle, int64_t n, double *data, double *scratch)
{
    const cpx *w = (const cpx *)twiddle;
    cpx *x = (cpx *)data, *y = (cpx *)scratch;
    int64_t s = 1;
    for (int64_t rest = n; rest > 1;) {
        int64_t p = next_factor(rest), m = rest / p;
        if (p == 4)
            pass4(w, x, y, m, s);
        else if (p == 2)
            pass2(w, x, y, m, s);
        else
            pass_any(w, x, y, p, m, s);
        cpx *t = x;
        x = y;
        y = t;
        rest = m;
        s *= p;
    }
    if (x != (cpx *)data) memcpy(data, x, (size_t)n * sizeof *x);
}

void sp_fft_init(sp_fft *plan, int64_t n, double *tables, double *scratch)
{
    int64_t m = inner_length(n), inner = m ? m : n;
    fill_twiddle(tables, inner);
    *plan = (sp_fft){.n = n, .m = m, .twiddle = tables};
    if (!m) return;
    double *chirp = tables + 2 * m, *kernel = chirp + 2 * n;
    memset(kernel, 0, (size_t)m * 2 * sizeof *kernel);
    for (int64_t k = 0; k < n; k++) {
        /* k^2 mod 2n keeps the angle exact for long transforms */
        double angle = -M_PI *
                       (double)(int64_t)((unsigned __int128)k * (uint64_t)k % (uint64_t)(2 * n)) /
                       (double)n;
        chirp[2 * k] = cos(angle);
        chirp[2 * k + 1] = sin(angle);
        for (int64_t at = k; at >= 0; at = at == k && k > 0 ? m - k : -1) {
            kernel[2 * at] = chirp[2 * k] / (double)m;
            kernel[2 * at + 1] = -chirp[2 * k + 1] / (double)m;
        }
    }
    mixed_radix(tables, m, kernel, scratch);
    plan->chirp = chirp;
    plan->kernel = kernel;
}

static void swap_parts(double *data, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        double t = data[2 * i];
        data[2 * i] = data[2 * i + 1];
        data[2 * i + 1] = t;
    }
}

static void bluestein(const sp_fft *plan, double *data, double *scratch)
{
    cpx *x = (cpx *)data, *a = (cpx *)scratch;
    const cpx *chirp = (const cpx *)plan->chirp, *kernel = (const cpx *)plan->kernel;
    double *inner = scratch + 2 * plan->m;
    for (int64_t k = 0; k < plan->n; k++) a[k] = mul(x[k], chirp[k]);
    memset(a + plan->n, 0, (size_t)(plan->m - plan->n) * sizeof *a);
    mixed_radix(plan->twiddle, plan->m, scratch, inner);
    for (int64_t k = 0; k < plan->m; k++) a[k] = mul(a[k], kernel[k]);
    swap_parts(scratch, plan->m); /* the inverse transform */
    mixed_radix(plan->twiddle, plan->m, scratch, inner);
    swap_parts(scratch, plan->m);
    for (int64_t k = 0; k < plan->n; k++) x[k] = mul(a[k], chirp[k]);
}

void sp_fft_run(const sp_fft *plan, double *data, double *scratch, bool inverse)
{
    /* swapping real and imaginary parts before and after turns a transform into its inverse */
    if (inverse) swap_parts(data, plan->n);
    if (plan->m)
        bluestein(plan, data, scratch);
    else
        mixed_radix(plan->twiddle, plan->n, data, scratch);
    if (inverse) swap_parts(data, plan->n);
}
