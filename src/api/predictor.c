/* sparoa_schedule.h: threshold predictors. */
#include <math.h>

#include "api/predictor_school.h"
#include "base/file.h"
#include "predict/adapt.h"
#include "predict/shipped.h"
#include "schedule/env_predict.h"

#define MAX_FILE ((size_t)16 << 20)

static sparoa_status no_argument(sparoa_error *err, const char *what)
{
    return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%s is NULL", what);
}

static sparoa_status wrap(sparoa_runtime *rt, sp_predictor *inner, sparoa_predictor **predictor,
                          sparoa_error *err)
{
    sparoa_predictor *p = sp_calloc(&rt->alloc, 1, sizeof *p);
    if (!p) {
        sp_predictor_destroy(inner);
        return sp_no_memory(&rt->alloc, sizeof *p, err);
    }
    *p = (sparoa_predictor){rt, inner};
    sp_runtime_ref(rt);
    *predictor = p;
    return SPAROA_OK;
}

static sparoa_status load_file(sparoa_runtime *rt, const char *path, sp_predictor **p,
                               sparoa_error *err)
{
    char *data;
    size_t size;
    SP_TRY(sp_file_read(&rt->alloc, path, MAX_FILE, &data, &size, err));
    sparoa_status status =
        sp_predictor_load(&rt->alloc, sp_cpu_kernels(NULL), (const unsigned char *)data, size,
                          sp_predict_schema(), p, err);
    sp_free(&rt->alloc, data, size + 1);
    return status;
}

sparoa_status sparoa_predictor_load(sparoa_runtime *runtime, const char *path,
                                    sparoa_predictor **predictor, sparoa_error *err)
{
    if (!runtime || !predictor) return no_argument(err, "runtime or predictor");
    sp_predictor *p;
    if (path)
        SP_TRY(load_file(runtime, path, &p, err));
    else
        SP_TRY(sp_predictor_shipped(&runtime->alloc, &p, err));
    return wrap(runtime, p, predictor, err);
}

sparoa_status sparoa_predictor_save(const sparoa_predictor *predictor, const char *path,
                                    sparoa_error *err)
{
    if (!predictor || !path) return no_argument(err, "predictor or path");
    const sparoa_allocator *a = &predictor->runtime->alloc;
    size_t bytes = sp_predictor_file_bytes(predictor->p);
    unsigned char *file = sp_alloc(a, bytes);
    if (!file) return sp_no_memory(a, bytes, err);
    sp_predictor_save(predictor->p, file);
    sparoa_status status = sp_file_write(path, file, bytes, err);
    sp_free(a, file, bytes);
    return status;
}

void sparoa_predictor_destroy(sparoa_predictor *predictor)
{
    if (!predictor) return;
    sparoa_runtime *rt = predictor->runtime;
    sp_predictor_destroy(predictor->p);
    sp_free(&rt->alloc, predictor, sizeof *predictor);
    sp_runtime_unref(rt);
}

void sparoa_predictor_get_info(const sparoa_predictor *predictor, sparoa_predictor_info *info)
{
    if (!predictor || !info) return;
    const sp_predict_shape *shape = sp_predictor_shape(predictor->p);
    *info = (sparoa_predictor_info){.network = sp_predict_net_name(shape->net),
                                    .parameters = sp_predictor_params(predictor->p),
                                    .bytes = sp_predictor_file_bytes(predictor->p),
                                    .data = shape->data};
}

sparoa_status sparoa_predictor_run(sparoa_predictor *predictor, const sparoa_profile *profile,
                                   const sparoa_platform *platform,
                                   const sparoa_plan_options *options, sparoa_threshold *thresholds,
                                   sparoa_error *err)
{
    sparoa_plan_options o;
    sp_platform_state state;
    if (!predictor || !profile || !platform || !thresholds)
        return no_argument(err, "predictor, profile, platform or thresholds");
    if (!sp_read_options(&o, sizeof o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    SP_TRY(sp_schedule_state(&platform->p, o.mode, o.load, &state, err));
    const sparoa_allocator *a = &predictor->runtime->alloc;
    sp_predict_machine machine = {&platform->p, &state, profile->p->regime};
    size_t bytes = profile->p->node_count * sizeof(sp_threshold);
    sp_threshold *t = sp_alloc(a, bytes);
    if (!t) return sp_no_memory(a, bytes, err);
    sparoa_status status = sp_predict_thresholds(a, profile->p, &machine, predictor->p, t, err);
    for (uint32_t i = 0; i < profile->p->node_count && !status; i++)
        thresholds[i] = (sparoa_threshold){
            t[i].sparsity, t[i].flops < SP_THRESHOLD_NEVER ? t[i].flops : INFINITY, t[i].outside};
    sp_free(a, t, bytes);
    return status;
}

/* ---- training ---- */

const char *sparoa_predictor_network(size_t index)
{
    return index < SP_PREDICT_NET_COUNT ? sp_predict_net_name((sp_predict_net)index) : NULL;
}

static sparoa_status find_net(const char *name, sp_predict_net *net, sparoa_error *err)
{
    *net = SP_PREDICT_TRANSFORMER_LSTM;
    for (int n = 0; name && n < SP_PREDICT_NET_COUNT; n++)
        if (strcmp(name, sp_predict_net_name((sp_predict_net)n)) == 0) {
            *net = (sp_predict_net)n;
            return SPAROA_OK;
        }
    return name ? sparoa_fail(err, SPAROA_NOT_FOUND, NULL, "there is no network '%.60s'", name)
                : SPAROA_OK;
}

sparoa_status sp_school_open(sp_school *s, sparoa_runtime *runtime,
                             const sparoa_training_options *options, sparoa_error *err)
{
    *s = (sp_school){.runtime = runtime, .corpus.alloc = runtime->alloc};
    s->study.train.alloc = s->study.test.alloc = s->study.shifted.alloc = runtime->alloc;
    if (!options || !sp_read_options(&s->o, sizeof s->o, options))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "set options.struct_size = sizeof(options)");
    if (!s->o.corpus || !s->o.platforms || !s->o.platform_count)
        return no_argument(err, "options.corpus or options.platforms");
    for (size_t i = 0; i < s->o.platform_count; i++)
        if (!s->o.platforms[i]) return no_argument(err, "a platform of the options");
    if (s->o.platform_count > SP_STUDY_PLATFORMS)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "%zu platforms, at most %d",
                           s->o.platform_count, SP_STUDY_PLATFORMS);
    SP_TRY(find_net(s->o.network, &s->net, err));
    return sp_predict_corpus_load(&runtime->alloc, s->o.corpus, &s->corpus, err);
}

void sp_school_close(sp_school *s)
{
    sp_study_free(&s->study);
    sp_predict_corpus_free(&s->corpus);
}

sparoa_status sp_school_study(sp_school *s, sparoa_error *err)
{
    const sp_platform *platforms[SP_STUDY_PLATFORMS];
    sp_study_options o = {.hold = s->o.hold_out, .inventions = s->o.inventions, .seed = s->o.seed};
    for (size_t i = 0; i < s->o.platform_count; i++) platforms[i] = &s->o.platforms[i]->p;
    return sp_study_make(&s->runtime->alloc, &s->corpus, platforms, s->o.platform_count, &o,
                         &s->study, err);
}

static bool progress(void *user, uint32_t epoch, double loss)
{
    const sp_school *s = user;
    return !s->o.progress || s->o.progress(s->o.user, epoch, sqrt(loss)) == 0;
}

sparoa_status sp_school_train(sp_school *s, sp_predict_net net, bool blind, sp_predictor **made,
                              sparoa_error *err)
{
    return sp_study_train(&s->study, sp_cpu_kernels(NULL), net, blind, s->o.epochs, progress, s,
                          made, err);
}

sparoa_status sparoa_predictor_train(sparoa_runtime *runtime,
                                     const sparoa_training_options *options,
                                     sparoa_predictor **predictor, sparoa_error *err)
{
    sp_school s;
    sp_predictor *p;
    if (!runtime || !predictor) return no_argument(err, "runtime or predictor");
    sparoa_status status = sp_school_open(&s, runtime, options, err);
    if (!status) status = sp_school_study(&s, err);
    if (!status) status = sp_school_train(&s, s.net, false, &p, err);
    if (!status) status = wrap(runtime, p, predictor, err);
    sp_school_close(&s);
    return status;
}

/* ---- fine-tuning ---- */

typedef struct times {
    sparoa_allocator alloc;
    sp_predict_measurement *list;
    size_t count, room;
} times;

/* The measured times of a profile on the platform's first two devices. */
static sparoa_status gather(times *t, const sp_profile *p, const sp_platform *platform,
                            sparoa_error *err)
{
    for (uint32_t from = 0; from < p->device_count; from++)
        for (uint32_t d = 0; d < 2; d++)
            for (uint32_t i = 0; i < p->node_count; i++) {
                double ns = p->nodes[i].measured_ns[from];
                if (strcmp(p->devices[from], platform->devices[d].name) || !(ns > 0)) continue;
                if (!sp_grow(&t->alloc, &t->list, &t->room, t->count + 1, sizeof *t->list))
                    return sp_no_memory(&t->alloc, sizeof *t->list, err);
                t->list[t->count++] =
                    (sp_predict_measurement){sp_predict_op_of(&p->nodes[i]).work, d, ns};
            }
    return SPAROA_OK;
}

static sparoa_status tune(sp_school *s, sp_predictor *p, const times *t, const char *mode,
                          sp_regime regime, sparoa_error *err)
{
    static const double idle[SPAROA_MAX_DEVICES];
    const sparoa_allocator *a = &s->runtime->alloc;
    sp_predict_setup *described = sp_alloc(a, sizeof *described);
    sp_platform *fitted = sp_alloc(a, sizeof *fitted);
    const sp_predict_tuning tuning = {s->o.epochs, s->o.inventions,
                                      s->o.seed ? s->o.seed : SP_STUDY_SEED};
    sparoa_status status = SPAROA_OK;
    if (described && fitted) {
        described->platform = s->o.platforms[0]->p;
        described->regime = regime;
        status = sp_schedule_state(&described->platform, mode, idle, &described->state, err);
    } else {
        status = sp_no_memory(a, sizeof *described, err);
    }
    if (!status) status = sp_predict_fit(a, described, t->list, t->count, fitted, err);
    if (!status)
        status = sp_predict_tune(p, &s->corpus, &described->platform, fitted, &tuning, err);
    sp_free(a, described, sizeof *described);
    sp_free(a, fitted, sizeof *fitted);
    return status;
}

sparoa_status sparoa_predictor_tune(sparoa_predictor *predictor,
                                    const sparoa_profile *const *profiles, size_t profile_count,
                                    const char *mode, const sparoa_training_options *options,
                                    size_t *used, sparoa_error *err)
{
    sp_school s;
    if (!predictor || !profiles || !profile_count || !profiles[0])
        return no_argument(err, "predictor or profiles");
    times t = {.alloc = predictor->runtime->alloc};
    sparoa_status status = sp_school_open(&s, predictor->runtime, options, err);
    if (!status && (s.o.platform_count != 1 || s.o.platforms[0]->p.device_count < 2))
        status = sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                             "fine-tuning takes one platform, with two devices");
    if (!status) status = sp_predict_corpus_hold(&s.corpus, s.o.hold_out, err);
    sp_regime regime = profiles[0]->p->regime;
    for (size_t i = 0; i < profile_count && !status; i++) {
        if (!profiles[i] || profiles[i]->p->regime != regime)
            status = sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                                 "profile %zu is missing or of another regime", i);
        else
            status = gather(&t, profiles[i]->p, &s.o.platforms[0]->p, err);
    }
    if (!status && !t.count)
        status = sparoa_fail(
            err, SPAROA_INVALID_ARGUMENT, NULL, "the profiles hold no times of %.32s or %.32s",
            s.o.platforms[0]->p.devices[0].name, s.o.platforms[0]->p.devices[1].name);
    if (!status) status = tune(&s, predictor->p, &t, mode, regime, err);
    if (!status && used) *used = t.count;
    sp_free(&t.alloc, t.list, t.room * sizeof *t.list);
    sp_school_close(&s);
    return status;
}
