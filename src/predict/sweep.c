/* Thresholds by exhaustive sweep: a fine grid finds the crossover, bisection its place. */
#include <math.h>

#include "predict/features.h"

enum { GRID = 120, HALVINGS = 24 };

typedef struct sweep {
    const sp_predict_machine *machine;
    const sp_predict_op *op;
    bool sparsity;
} sweep;

/* Is the device that the sweep ends with at least as fast at x (0..1)? */
static bool crossed(const sweep *s, double x)
{
    double scale = s->sparsity ? 1 : sp_predict_flops(x) / sp_predict_work(s->op);
    double zeros = s->sparsity ? x : -1;
    double host = sp_predict_time(s->machine, 0, s->op, scale, zeros),
           other = sp_predict_time(s->machine, 1, s->op, scale, zeros);
    return s->sparsity ? host <= other : other <= host;
}

/* The first place in 0..1 from which it is; 0: at once, 1: nowhere. */
static float find(const sweep *s, bool *interior)
{
    *interior = false;
    if (crossed(s, 0)) return 0;
    double low = 0, high = 1;
    int i = 1;
    while (i <= GRID && !crossed(s, (double)i / GRID)) i++;
    if (i > GRID) return 1;
    low = (double)(i - 1) / GRID;
    high = (double)i / GRID;
    for (int h = 0; h < HALVINGS; h++) {
        double mid = (low + high) / 2;
        if (crossed(s, mid))
            high = mid;
        else
            low = mid;
    }
    *interior = true;
    return (float)high;
}

void sp_predict_sweep(const sp_predict_machine *machine, const sp_predict_op *op,
                      sp_predict_label *label)
{
    sweep s = {machine, op, true};
    if (machine->platform->devices[1].unsupported >> op->work.kind & 1) {
        *label = (sp_predict_label){{0, 1}, {false, false}};
        return;
    }
    label->thresholds[0] = find(&s, &label->interior[0]);
    s.sparsity = false;
    label->thresholds[1] = find(&s, &label->interior[1]);
}
