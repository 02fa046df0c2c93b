#include "predict/examples.h"

#include <math.h>
#include <string.h>

static double factor(sp_nn_rng *rng, double spread)
{
    return exp(spread * sp_nn_normal(rng));
}

/* Efficiencies times f and, along the sizes, times a power of them; the sizes themselves times s.
 */
static void perturb_curve(sp_curve *c, double f, double power, double s)
{
    for (uint32_t i = 0; i < c->count; i++) {
        c->y[i] = fmin(c->y[i] * f * pow(c->x[i] / 1e8, power), 1);
        c->x[i] *= s;
    }
}

/* What a sparse kernel gains above 1, times f. */
static void perturb_gain(sp_curve *c, double f)
{
    for (uint32_t i = 0; i < c->count; i++) c->y[i] = 1 + (c->y[i] - 1) * f;
}

static void perturb_device(sp_platform_device *v, sp_nn_rng *rng, double spread)
{
    double efficiency = factor(rng, spread / 2), overhead = factor(rng, spread),
           gain = factor(rng, spread), power = spread / 8 * sp_nn_normal(rng),
           size = factor(rng, spread);
    v->peak_flops *= factor(rng, spread);
    v->bandwidth *= factor(rng, spread);
    for (int k = 0; k < SP_KIND_COUNT; k++) {
        sp_platform_kind *kind = &v->kinds[k];
        perturb_curve(&kind->efficiency, efficiency * factor(rng, spread / 2), power, size);
        perturb_gain(&kind->sparse_weights, gain);
        perturb_gain(&kind->sparse_inputs, gain);
        kind->bandwidth *= factor(rng, spread / 4);
        double o = overhead * factor(rng, spread / 4);
        for (int r = 0; r < SP_REGIME_COUNT; r++) kind->overhead_ns[r] *= o;
    }
}

void sp_predict_setup_make(sp_predict_setup *setup, const sp_platform *platform, sp_nn_rng *rng,
                           double spread, bool loads)
{
    setup->platform = *platform;
    setup->state = sp_platform_nominal(platform);
    if (platform->mode_count)
        setup->state = platform->modes[sp_nn_below(rng, platform->mode_count)].state;
    setup->regime = (sp_regime)sp_nn_below(rng, SP_REGIME_COUNT);
    for (uint32_t d = 0; spread > 0 && d < 2; d++)
        perturb_device(&setup->platform.devices[d], rng, spread);
    for (uint32_t d = 0; loads && d < 2; d++)
        if (sp_nn_below(rng, 2)) setup->state.device[d].load = 0.8 * sp_nn_uniform(rng);
}

static sp_predict_machine machine_of(const sp_predict_setup *s)
{
    return (sp_predict_machine){&s->platform, &s->state, s->regime};
}

/* The arrays by row: where each is, and the bytes of a row. */
#define ROW_ARRAYS(e)                                                                              \
    {                                                                                              \
        {&(e)->features, SP_PREDICT_FEATURES * sizeof *(e)->features},                             \
            {&(e)->labels, 2 * sizeof *(e)->labels}, {&(e)->times, 2 * sizeof *(e)->times},        \
            {&(e)->work, sizeof *(e)->work}, {&(e)->kinds, sizeof *(e)->kinds},                    \
        {                                                                                          \
            &(e)->interior, 2 * sizeof *(e)->interior                                              \
        }                                                                                          \
    }
typedef struct row_array {
    void *array;
    size_t bytes;
} row_array;

/* Room for `count` rows more. */
static bool make_room(sp_predict_examples *e, size_t count)
{
    row_array arrays[SP_PREDICT_ROW_ARRAYS] = ROW_ARRAYS(e);
    if (!sp_grow(&e->alloc, &e->lengths, &e->sequence_room, e->sequences + 1, sizeof *e->lengths))
        return false;
    for (size_t i = 0; i < SP_PREDICT_ROW_ARRAYS; i++)
        if (!sp_grow(&e->alloc, arrays[i].array, &e->row_room[i], e->rows + count, arrays[i].bytes))
            return false;
    return true;
}

bool sp_predict_examples_add(sp_predict_examples *e, const sp_predict_setup *described,
                             const sp_predict_setup *truth, const sp_predict_op *ops, size_t count)
{
    sp_predict_machine shown = machine_of(described), real = machine_of(truth);
    sp_predict_rates *rates = sp_alloc(&e->alloc, sizeof *rates);
    if (!rates || !make_room(e, count)) {
        sp_free(&e->alloc, rates, sizeof *rates);
        return false;
    }
    sp_predict_rates_make(&shown, rates);
    for (size_t i = 0; i < count; i++, e->rows++) {
        sp_predict_label label;
        size_t row = e->rows;
        bool never = truth->platform.devices[1].unsupported >> ops[i].work.kind & 1;
        sp_predict_features(rates, &ops[i], e->features + row * SP_PREDICT_FEATURES);
        sp_predict_sweep(&real, &ops[i], &label);
        memcpy(e->labels + 2 * row, label.thresholds, sizeof label.thresholds);
        memcpy(e->interior + 2 * row, label.interior, sizeof label.interior);
        e->times[2 * row] = sp_predict_time(&real, 0, &ops[i], 1, -1);
        e->times[2 * row + 1] = never ? INFINITY : sp_predict_time(&real, 1, &ops[i], 1, -1);
        e->work[row] = sp_predict_work(&ops[i]);
        e->kinds[row] = ops[i].work.kind;
    }
    e->lengths[e->sequences++] = (uint32_t)count;
    sp_free(&e->alloc, rates, sizeof *rates);
    return true;
}

void sp_predict_examples_free(sp_predict_examples *e)
{
    row_array arrays[SP_PREDICT_ROW_ARRAYS] = ROW_ARRAYS(e);
    sp_free(&e->alloc, e->lengths, e->sequence_room * sizeof *e->lengths);
    for (size_t i = 0; i < SP_PREDICT_ROW_ARRAYS; i++) {
        void *array;
        memcpy(&array, arrays[i].array, sizeof array);
        sp_free(&e->alloc, array, e->row_room[i] * arrays[i].bytes);
    }
    *e = (sp_predict_examples){.alloc = e->alloc};
}

uint64_t sp_predict_examples_hash(const sp_predict_examples *e)
{
    uint64_t h = 0xcbf29ce484222325u;
    const unsigned char *p = (const unsigned char *)e->labels;
    for (size_t i = 0; i < e->rows * 2 * sizeof *e->labels; i++) h = (h ^ p[i]) * 0x100000001b3u;
    return h ? h : 1;
}
