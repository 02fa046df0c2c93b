#include "predict/score.h"

#include <math.h>
#include <stdlib.h>

static bool close_enough(int which, float predicted, float label)
{
    if (which == 0)
        return fabs((double)predicted - (double)label) <= fmax(0.1 * (double)label, 0.01);
    double ratio = sp_predict_flops((double)predicted) / sp_predict_flops((double)label);
    return ratio >= 0.9 && ratio <= 1.1;
}

/* Which device the thresholds choose; device 1 isn't asked where it can't. */
static int chosen(const sp_predict_examples *e, size_t row, float threshold)
{
    bool heavy = threshold < 1 && e->work[row] >= sp_predict_flops((double)threshold);
    return heavy && isfinite(e->times[2 * row + 1]);
}

sp_predict_score sp_predict_score_of(const sp_predict_examples *e, const float *predicted)
{
    sp_predict_score s = {.operators = e->rows};
    double best = 0, taken = 0, inside[2] = {0}, n = e->rows ? (double)e->rows : 1;
    for (size_t i = 0; i < e->rows; i++) {
        for (size_t k = 0; k < 2; k++) {
            float y = predicted[2 * i + k], label = e->labels[2 * i + k];
            bool ok = close_enough((int)k, y, label), inner = e->interior[2 * i + k];
            s.within[k] += ok;
            s.range[k] += fabs((double)y - (double)label) <= 0.1;
            s.bound[k] += !inner;
            s.interior[k] += inner && ok;
            inside[k] += inner;
        }
        const double *t = &e->times[2 * i];
        int device = chosen(e, i, predicted[2 * i + 1]);
        s.right += t[device] <= t[!device] * (1 + 1e-9);
        best += fmin(t[0], t[1]);
        taken += t[device];
    }
    for (int k = 0; k < 2; k++) {
        s.bound[k] /= n;
        s.range[k] /= n;
        s.within[k] /= n;
        s.interior[k] /= inside[k] > 0 ? inside[k] : 1;
    }
    s.right /= n;
    s.regret = best > 0 ? taken / best - 1 : 0;
    return s;
}

void sp_predict_guesses(const sp_predict_examples *e, float *predicted)
{
    for (size_t i = 0; i < e->rows; i++) {
        const float *f = e->features + i * SP_PREDICT_FEATURES;
        predicted[2 * i] = fminf(fmaxf(f[SP_PREDICT_GUESS_SPARSITY], 0), 1);
        predicted[2 * i + 1] = fminf(fmaxf(f[SP_PREDICT_GUESS_INTENSITY], 0), 1);
    }
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

bool sp_predict_constants(const sp_predict_examples *train, const sp_predict_examples *test,
                          float *predicted)
{
    float median[SP_KIND_COUNT][2] = {{0}};
    size_t bytes = (train->rows + 1) * sizeof(float);
    float *v = sp_alloc(&train->alloc, bytes);
    if (!v) return false;
    for (int kind = 0; kind < SP_KIND_COUNT; kind++)
        for (size_t k = 0; k < 2; k++) {
            size_t n = 0;
            for (size_t i = 0; i < train->rows; i++)
                if (train->kinds[i] == kind) v[n++] = train->labels[2 * i + k];
            qsort(v, n, sizeof *v, by_value);
            median[kind][k] = n ? v[n / 2] : 0.5f;
        }
    for (size_t i = 0; i < test->rows; i++)
        for (size_t k = 0; k < 2; k++) predicted[2 * i + k] = median[test->kinds[i]][k];
    sp_free(&train->alloc, v, bytes);
    return true;
}
