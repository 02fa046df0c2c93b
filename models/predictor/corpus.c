#include "corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Models whose names begin like this are never trained on: the evaluation models in all their
 * forms, other files of the same architectures, and one of each further family. */
static const char *const held[] = {"resnet18",      "mobilenet_v2",    "mobilenet_v3_small",
                                   "vit_b_16",      "swin_t",          "mobilenetv2_035_flowers",
                                   "yunet_n_320",   "mobilenetv2_qdq", "super_resolution_10",
                                   "bert_toy_op10", "silero_vad_v6",   "ppocr_rec_en_number_v2",
                                   "xfeat_320x224", "crepe_tiny",      "deeplab_portrait_513"};

static void *grow(void *p, size_t bytes)
{
    void *q = realloc(p, bytes);
    if (!q) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return q;
}

static int kind_named(const char *name)
{
    for (int k = 0; k < SP_KIND_COUNT; k++)
        if (strcmp(sp_kind_name(k), name) == 0) return k;
    return -1;
}

static void add_op(corpus *c, const char *name, const sp_predict_op *op)
{
    if (c->op_count % 1024 == 0) c->ops = grow(c->ops, (c->op_count + 1024) * sizeof *c->ops);
    if (!c->model_count || strcmp(c->models[c->model_count - 1].name, name) != 0) {
        c->models = grow(c->models, (c->model_count + 1) * sizeof *c->models);
        model *m = &c->models[c->model_count++];
        *m = (model){.first = c->op_count};
        snprintf(m->name, sizeof m->name, "%s", name);
        for (size_t i = 0; i < sizeof held / sizeof *held; i++)
            if (strncmp(name, held[i], strlen(held[i])) == 0) m->held = true;
    }
    c->ops[c->op_count++] = *op;
    c->models[c->model_count - 1].count++;
}

bool corpus_read(corpus *c, const char *path)
{
    char line[512], name[64], kind[32];
    FILE *f = fopen(path, "r");
    *c = (corpus){0};
    if (!f) return fprintf(stderr, "%s: cannot be read\n", path), false;
    for (int number = 1; fgets(line, sizeof line, f); number++) {
        sp_predict_op o = {0};
        sparoa_cost *w = &o.work.cost;
        int n = sscanf(line, "%63s %31s %lf %lf %lf %lf %lf %lf %lf %lf %lf %lf %lf %lf", name,
                       kind, &w->flops, &w->bytes_in, &w->bytes_w, &w->bytes_out,
                       &o.work.weight_zeros, &o.work.input_zeros, &o.batch, &o.channels, &o.pixels,
                       &o.kernel, &o.stride, &o.groups);
        o.work.kind = n == 14 ? kind_named(kind) : -1;
        if (o.work.kind < 0) {
            fclose(f);
            return fprintf(stderr, "%s:%d: not a line of a corpus\n", path, number), false;
        }
        add_op(c, name, &o);
    }
    fclose(f);
    return c->model_count > 0;
}

void corpus_free(corpus *c)
{
    free(c->ops);
    free(c->models);
}

static double factor(sp_nn_rng *rng, double spread)
{
    return exp(spread * sp_nn_normal(rng));
}

static void perturb_curve(sp_curve *c, double f, double most)
{
    for (uint32_t i = 0; i < c->count; i++) c->y[i] = fmin(c->y[i] * f, most);
}

/* What a sparse kernel gains above 1, times f. */
static void perturb_gain(sp_curve *c, double f)
{
    for (uint32_t i = 0; i < c->count; i++) c->y[i] = 1 + (c->y[i] - 1) * f;
}

static void perturb(sp_platform *p, sp_nn_rng *rng, double spread)
{
    for (uint32_t d = 0; d < p->device_count; d++) {
        sp_platform_device *v = &p->devices[d];
        double efficiency = factor(rng, spread / 2), overhead = factor(rng, spread),
               gain = factor(rng, spread);
        v->peak_flops *= factor(rng, spread);
        v->bandwidth *= factor(rng, spread);
        for (int k = 0; k < SP_KIND_COUNT; k++) {
            perturb_curve(&v->kinds[k].efficiency, efficiency * factor(rng, spread / 4), 1);
            perturb_gain(&v->kinds[k].sparse_weights, gain);
            perturb_gain(&v->kinds[k].sparse_inputs, gain);
            double o = overhead * factor(rng, spread / 4);
            for (int r = 0; r < SP_REGIME_COUNT; r++) v->kinds[k].overhead_ns[r] *= o;
        }
    }
}

void machine_make(machine *m, const sp_platform *platform, sp_nn_rng *rng, double spread,
                  bool random_state)
{
    m->platform = *platform;
    m->state = sp_platform_nominal(platform);
    if (platform->mode_count) {
        uint64_t mode = sp_nn_below(rng, platform->mode_count);
        m->state = platform->modes[mode].state;
    }
    m->regime = (sp_regime)sp_nn_below(rng, SP_REGIME_COUNT);
    if (spread > 0) perturb(&m->platform, rng, spread);
    if (random_state)
        for (uint32_t d = 0; d < 2; d++)
            if (sp_nn_below(rng, 2)) m->state.device[d].load = 0.8 * sp_nn_uniform(rng);
}

void examples_add(examples *e, const machine *m, const sp_predict_op *ops, size_t count)
{
    if (e->sequences == e->sequence_room) {
        e->sequence_room = 2 * e->sequence_room + 64;
        e->lengths = grow(e->lengths, e->sequence_room * sizeof *e->lengths);
    }
    while (e->rows + count > e->row_room) {
        e->row_room = 2 * e->row_room + 1024;
        e->features = grow(e->features, e->row_room * SP_PREDICT_FEATURES * sizeof *e->features);
        e->labels = grow(e->labels, e->row_room * 2 * sizeof *e->labels);
        e->times = grow(e->times, e->row_room * 2 * sizeof *e->times);
        e->work = grow(e->work, e->row_room * sizeof *e->work);
        e->kinds = grow(e->kinds, e->row_room * sizeof *e->kinds);
        e->interior = grow(e->interior, e->row_room * 2 * sizeof *e->interior);
    }
    sp_predict_machine pm = {&m->platform, &m->state, m->regime};
    e->lengths[e->sequences++] = (uint32_t)count;
    for (size_t i = 0; i < count; i++, e->rows++) {
        sp_predict_label l;
        size_t r = e->rows;
        sp_predict_features(&pm, &ops[i], e->features + r * SP_PREDICT_FEATURES);
        sp_predict_sweep(&pm, &ops[i], &l);
        memcpy(e->labels + 2 * r, l.thresholds, sizeof l.thresholds);
        memcpy(e->interior + 2 * r, l.interior, sizeof l.interior);
        for (uint32_t d = 0; d < 2; d++)
            e->times[2 * r + d] = sp_predict_time(&pm, d, &ops[i], 1, -1);
        if (m->platform.devices[1].unsupported >> ops[i].work.kind & 1)
            e->times[2 * r + 1] = INFINITY;
        e->work[r] = sp_predict_work(&ops[i]);
        e->kinds[r] = ops[i].work.kind;
    }
}

void examples_free(examples *e)
{
    free(e->lengths), free(e->features), free(e->labels), free(e->times);
    free(e->work), free(e->kinds), free(e->interior);
}

static void prune(sp_predict_op *op, double zeros)
{
    if (op->work.cost.bytes_w > 0 && op->work.cost.flops > 0) op->work.weight_zeros = zeros;
}

void random_model(const corpus *c, sp_nn_rng *rng, sp_predict_op *ops, size_t count)
{
    double level = sp_nn_below(rng, 2) ? sp_nn_uniform(rng) : 0;
    for (size_t i = 0; i < count;) {
        const model *m = &c->models[sp_nn_below(rng, c->model_count)];
        if (m->held) continue;
        size_t first = sp_nn_below(rng, m->count), run = 1 + sp_nn_below(rng, 12);
        double area = exp(1.5 * sp_nn_normal(rng)), width = exp(0.5 * sp_nn_normal(rng));
        for (size_t k = first; k < m->count && run > 0 && i < count; k++, run--) {
            sp_predict_op o = c->ops[m->first + k];
            bool product = o.work.cost.bytes_w > 0 && o.work.kind != SP_KIND_DEPTHWISE;
            o.work.cost.flops *= area * width * (product ? width : 1);
            o.work.cost.bytes_in *= area * width;
            o.work.cost.bytes_out *= area * width;
            o.work.cost.bytes_w *= width * (product ? width : 1);
            o.channels *= width;
            o.pixels *= area;
            if (sp_nn_below(rng, 2)) o.work.input_zeros = sp_nn_uniform(rng);
            if (level > 0) prune(&o, fmin(level * exp(0.1 * sp_nn_normal(rng)), 0.99));
            ops[i++] = o;
        }
    }
}

void pruned_model(const corpus *c, const model *m, sp_nn_rng *rng, sp_predict_op *ops)
{
    double level = 0.5 + 0.48 * sp_nn_uniform(rng);
    memcpy(ops, c->ops + m->first, m->count * sizeof *ops);
    for (size_t i = 0; i < m->count; i++)
        prune(&ops[i], fmin(level * exp(0.05 * sp_nn_normal(rng)), 0.99));
}
