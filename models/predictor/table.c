#include <math.h>
#include <stdlib.h>

#include "corpus.h"

/* Within 10% of the label: of the share of zeros, or of the FLOPs. Near a share of 0 a difference
 * of 0.01 will do. */
static bool close_enough(int which, float predicted, float label)
{
    if (which == 0)
        return fabs((double)predicted - (double)label) <= fmax(0.1 * (double)label, 0.01);
    double ratio = sp_predict_flops((double)predicted) / sp_predict_flops((double)label);
    return ratio >= 0.9 && ratio <= 1.1;
}

score score_of(const examples *e, const float *predicted)
{
    score s = {0};
    double best = 0, taken = 0, inside[2] = {0}, n = (double)e->rows;
    for (size_t i = 0; i < e->rows; i++) {
        for (int k = 0; k < 2; k++) {
            bool ok = close_enough(k, predicted[2 * i + (size_t)k], e->labels[2 * i + (size_t)k]);
            s.within[k] += ok;
            s.near[k] += fabs((double)predicted[2 * i + (size_t)k] -
                              (double)e->labels[2 * i + (size_t)k]) <= 0.1;
            if (!e->interior[2 * i + (size_t)k])
                s.bound[k]++;
            else
                inside[k]++, s.within_interior[k] += ok;
        }
        const double *t = &e->times[2 * i];
        float threshold = predicted[2 * i + 1];
        bool gpu = threshold < 1 && e->work[i] >= sp_predict_flops((double)threshold);
        if (isinf(t[1])) gpu = false; /* it isn't asked where it can't be */
        s.decided += t[gpu] <= t[!gpu] * (1 + 1e-9);
        best += fmin(t[0], t[1]);
        taken += t[gpu];
    }
    for (int k = 0; k < 2; k++) {
        s.bound[k] /= n;
        s.within[k] /= n;
        s.near[k] /= n;
        s.within_interior[k] /= inside[k] > 0 ? inside[k] : 1;
    }
    s.decided /= n;
    s.regret = taken / best - 1;
    return s;
}

void print_head(FILE *f)
{
    fputs("| predictor | sparsity within 10%, all | interior | intensity within 10%, all | "
          "interior | "
          "right device | regret | file, KB | ms per 100 |\n"
          "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n",
          f);
}

void print_score(FILE *f, const char *name, const score *s, size_t bytes, double ms)
{
    fprintf(f, "| %s | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.1f%% | %.2f%% | ",
            name, 100 * s->within[0], 100 * s->within_interior[0], 100 * s->near[0],
            100 * s->within[1], 100 * s->within_interior[1], 100 * s->near[1], 100 * s->decided,
            100 * s->regret);
    if (bytes)
        fprintf(f, "%.0f | %.3f |\n", (double)bytes / 1e3, ms);
    else
        fputs("- | - |\n", f);
    fflush(f);
}

static int by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void constant_predictions(const examples *train, const examples *test, float *predicted)
{
    float median[SP_KIND_COUNT][2] = {{0}}, *v = malloc((train->rows + 1) * sizeof *v);
    for (int kind = 0; v && kind < SP_KIND_COUNT; kind++)
        for (size_t k = 0; k < 2; k++) {
            size_t n = 0;
            for (size_t i = 0; i < train->rows; i++)
                if (train->kinds[i] == kind) v[n++] = train->labels[2 * i + k];
            qsort(v, n, sizeof *v, by_value);
            median[kind][k] = n ? v[n / 2] : 0.5f;
        }
    for (size_t i = 0; i < test->rows; i++)
        for (size_t k = 0; k < 2; k++) predicted[2 * i + k] = median[test->kinds[i]][k];
    free(v);
}
