/* Thresholds by exhaustive sweep: small steps find the crossover, bisection its place. */
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

/* The place between `low`, where it is not, and `high`, where it is. */
static float halve(const sweep *s, double low, double high)
{
    for (int h = 0; h < HALVINGS; h++) {
        double mid = (low + high) / 2;
        if (crossed(s, mid))
            high = mid;
        else
            low = mid;
    }
    return (float)high;
}

/* The crossing next to `from`; at a bound (0: crossed all the way down, 1: nowhere above) interior
 * is false. */
static float find(const sweep *s, double from, bool *interior)
{
    bool down = crossed(s, from);
    double at = from;
    *interior = true;
    while (down ? at > 0 : at < 1) {
        double next = down ? fmax(at - 1.0 / GRID, 0) : fmin(at + 1.0 / GRID, 1);
        if (crossed(s, next) != down) return down ? halve(s, next, at) : halve(s, at, next);
        at = next;
    }
    *interior = false;
    return down ? 0 : 1;
}

void sp_predict_sweep(const sp_predict_machine *machine, const sp_predict_op *op,
                      sp_predict_label *label)
{
    sweep s = {machine, op, true};
    if (machine->platform->devices[1].unsupported >> op->work.kind & 1) {
        *label = (sp_predict_label){{0, 1}, {false, false}};
        return;
    }
    label->thresholds[0] = find(&s, 0, &label->interior[0]);
    s.sparsity = false;
    label->thresholds[1] =
        find(&s, sp_predict_normalised(sp_predict_work(op)), &label->interior[1]);
}
