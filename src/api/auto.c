/* Sessions whose device is "auto": runs, choices, and the calls that look at them. */
#include "api/auto.h"

#include <math.h>

#include "base/clock.h"

#define DEFAULT_SECONDS 2.0

static bool same_shapes(const sp_choice *c, const sparoa_tensor *inputs, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (c->inputs[i].dtype != inputs[i].dtype || c->inputs[i].rank != inputs[i].rank ||
            memcmp(c->inputs[i].dims, inputs[i].dims,
                   (size_t)inputs[i].rank * sizeof inputs[i].dims[0]) != 0)
            return false;
    return true;
}

void sp_choice_destroy(const sparoa_session *s, sp_choice *c)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    if (!c) return;
    sparoa_plan_destroy(c->plan);
    sp_free(a, c->inputs, s->graph->input_count * sizeof *c->inputs);
    sp_free(a, c, sizeof *c);
}

sp_choice *sp_auto_choice(sparoa_session *s, const sparoa_tensor *inputs)
{
    sp_auto *automatic = s->choose;
    const sparoa_allocator *a = &s->model->runtime->alloc;
    uint32_t count = s->graph->input_count;
    for (sp_choice *c = automatic->choices; c; c = c->next)
        if (same_shapes(c, inputs, count)) return c;
    if (automatic->choice_count == SP_AUTO_CHOICES) return NULL;
    sp_choice *c = sp_calloc(a, 1, sizeof *c);
    if (c) c->inputs = sp_calloc(a, count, sizeof *c->inputs);
    if (!c || !c->inputs) {
        sp_choice_destroy(s, c);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        c->inputs[i] = inputs[i];
        c->inputs[i].data = NULL;
        c->bytes += (double)sparoa_tensor_bytes(&inputs[i]);
    }
    c->place = SP_AUTO_HOST;
    snprintf(c->info.chosen, sizeof c->info.chosen, "cpu");
    snprintf(c->info.reason, sizeof c->info.reason, "nothing was measured for these shapes");
    c->next = automatic->choices;
    automatic->choices = c;
    automatic->choice_count++;
    return c;
}

/* The decided choice whose inputs are nearest in size, or NULL. */
static const sp_choice *nearest(const sp_auto *automatic, double bytes)
{
    const sp_choice *best = NULL;
    double least = INFINITY;
    for (const sp_choice *c = automatic->choices; c; c = c->next) {
        double distance = fabs(log((c->bytes + 1) / (bytes + 1)));
        if (c->info.source == SPAROA_CHOICE_NONE || !(distance < least)) continue;
        least = distance;
        best = c;
    }
    return best;
}

static const sp_choice *deciding(const sp_auto *automatic, const sp_choice *own, double bytes)
{
    if (own && own->info.source != SPAROA_CHOICE_NONE) return own;
    const sp_choice *other = nearest(automatic, bytes);
    return other ? other : own;
}

static double bytes_of(const sparoa_tensor *inputs, size_t count)
{
    double bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += (double)sparoa_tensor_bytes(&inputs[i]);
    return bytes;
}

/* ---- the session over all devices ---- */

sparoa_status sp_auto_devices(sparoa_session *s, sparoa_error *err)
{
    sp_auto *automatic = s->choose;
    const sparoa_runtime *rt = s->model->runtime;
    if (automatic->devices) return SPAROA_OK;
    if (rt->device_count < 2)
        return sparoa_fail(err, SPAROA_DEVICE_UNAVAILABLE, NULL,
                           "the runtime has no device but the cpu");
    sparoa_session_options o = automatic->options;
    o.device = rt->names[1];
    o.fallback = SPAROA_FALLBACK_ALLOW; /* of nodes that it cannot run */
    SP_TRY(sparoa_session_create(s->model, &o, &automatic->devices, err));
    automatic->devices->fallback = SPAROA_FALLBACK_FORBID; /* a failed run comes back to us */
    automatic->in_use = 0;
    return SPAROA_OK;
}

void sp_auto_release(sparoa_session *s)
{
    sp_auto *automatic = s->choose;
    if (automatic->keep) return; /* its thread may be about to use it */
    for (sp_choice *c = automatic->choices; c; c = c->next)
        if (c->place != SP_AUTO_HOST && !s->lost) return;
    automatic->on_devices = false;
    sparoa_session_destroy(automatic->devices);
    automatic->devices = NULL;
}

sparoa_status sp_auto_use(sp_auto *automatic, int32_t place, sparoa_error *err)
{
    if (automatic->in_use == place) return SPAROA_OK;
    SP_TRY(sparoa_session_use_plan(automatic->devices, (size_t)place, err));
    automatic->in_use = place;
    return SPAROA_OK;
}

/* ---- runs ---- */

/* No choice goes to the devices any more. */
static void give_up(sparoa_session *s, const sp_choice *failed, sparoa_status status,
                    const sparoa_error *fault)
{
    s->lost = status == SPAROA_DEVICE_LOST;
    for (sp_choice *c = s->choose->choices; c; c = c->next) {
        if (c->place == SP_AUTO_HOST || (c != failed && !s->lost)) continue;
        c->place = SP_AUTO_HOST;
        c->info.source = SPAROA_CHOICE_FAILED;
        snprintf(c->info.chosen, sizeof c->info.chosen, "cpu");
        snprintf(c->info.reason, sizeof c->info.reason, "%.150s", fault->message);
    }
    sp_log_line(&s->model->runtime->log, SPAROA_LOG_WARN,
                "auto: a device failed (%s): the cpu goes on", fault->message);
}

static bool device_failed(sparoa_status status)
{
    return status == SPAROA_DEVICE_LOST || status == SPAROA_DEVICE_UNAVAILABLE ||
           status == SPAROA_OUT_OF_MEMORY;
}

static bool may_measure(const sparoa_session *s, const sp_choice *c, const sp_stop *stop)
{
    const sp_auto *automatic = s->choose;
    return c && c->info.source == SPAROA_CHOICE_NONE && c->runs == 1 && automatic->budget_ns > 0 &&
           !s->lost && !stop && !s->engine.observer && s->model->runtime->device_count > 1;
}

sparoa_status sp_auto_run(sparoa_session *s, const sparoa_tensor *inputs, size_t input_count,
                          sparoa_tensor *outputs, size_t output_count, const sp_stop *stop,
                          sparoa_error *err)
{
    sp_auto *automatic = s->choose;
    bool idle_stop = !stop || (!stop->cancel && !stop->deadline_ns && !stop->check);
    SP_TRY(sp_session_check_inputs(s, inputs, input_count, true, err));
    SP_TRY(sp_session_check_outputs(s, outputs, output_count, NULL, err));
    sp_choice *own = sp_auto_choice(s, inputs);
    if (may_measure(s, own, idle_stop ? NULL : stop)) {
        int64_t start = sp_now_ns();
        sparoa_error fault = {0};
        /* no failure of the run: that comes next, and says itself what it lacks */
        if (sp_auto_tune(s, own, inputs, automatic->budget_ns, &fault) != SPAROA_OK)
            sp_log_line(&s->model->runtime->log, SPAROA_LOG_WARN, "auto: not measured: %s",
                        fault.message);
        automatic->budget_ns -= (double)(sp_now_ns() - start);
    }
    const sp_choice *c = deciding(automatic, own, bytes_of(inputs, input_count));
    automatic->current = c;
    automatic->by_nearest = c != own;
    automatic->on_devices = false;
    if (own) own->runs++;
    if (s->lost && c && c->info.source == SPAROA_CHOICE_FAILED) atomic_fetch_add(&s->fallbacks, 1);
    if (!c || c->place == SP_AUTO_HOST || s->lost)
        return sp_session_run_here(s, inputs, input_count, outputs, output_count, err);
    sparoa_error fault = {0};
    sparoa_status status = sp_auto_use(automatic, c->place, &fault);
    if (status == SPAROA_OK)
        status = sp_session_run(automatic->devices, inputs, input_count, outputs, output_count,
                                stop, &fault);
    if (device_failed(status) && s->fallback != SPAROA_FALLBACK_FORBID) {
        give_up(s, c, status, &fault);
        atomic_fetch_add(&s->fallbacks, 1);
        return sp_session_run_here(s, inputs, input_count, outputs, output_count, err);
    }
    if (status != SPAROA_OK) {
        if (err) *err = fault;
        return status;
    }
    automatic->on_devices = true;
    s->runs++;
    s->last_run_ns = automatic->devices->last_run_ns;
    return SPAROA_OK;
}

sparoa_status sp_auto_prepare(sparoa_session *s, const sparoa_tensor *inputs, size_t input_count,
                              sparoa_error *err)
{
    sp_auto *automatic = s->choose;
    SP_TRY(sp_session_check_inputs(s, inputs, input_count, false, err));
    const sp_choice *c =
        deciding(automatic, sp_auto_choice(s, inputs), bytes_of(inputs, input_count));
    automatic->on_devices = false;
    if (!c || c->place == SP_AUTO_HOST || s->lost)
        return sp_session_prepare_here(s, inputs, input_count, err);
    SP_TRY(sp_auto_use(automatic, c->place, err));
    SP_TRY(sparoa_session_prepare(automatic->devices, inputs, input_count, err));
    automatic->on_devices = true;
    return SPAROA_OK;
}

/* ---- beginning and end ---- */

static sparoa_status check_options(const sparoa_session_options *o, sparoa_error *err)
{
    if (o->plan || o->pin_count || o->reference)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "device \"auto\" decides where nodes run: leave out plan, pins and "
                           "reference");
    if (o->disable_passes && strlen(o->disable_passes) >= sizeof((sp_auto *)0)->passes)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "disable_passes is too long");
    if (!(o->auto_seconds <= 1e6))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "auto_seconds is %g, at most 1e6",
                           o->auto_seconds);
    return SPAROA_OK;
}

sparoa_status sp_auto_open(sparoa_session *s, const sparoa_session_options *o, sparoa_error *err)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    SP_TRY(check_options(o, err));
    sp_auto *automatic = sp_calloc(a, 1, sizeof *automatic);
    if (!automatic) return sp_no_memory(a, sizeof *automatic, err);
    s->choose = automatic;
    automatic->options = *o;
    automatic->options.device = automatic->options.auto_cache = NULL;
    automatic->options.dump_dir = NULL;
    automatic->options.disable_passes = NULL;
    if (o->disable_passes) {
        snprintf(automatic->passes, sizeof automatic->passes, "%s", o->disable_passes);
        automatic->options.disable_passes = automatic->passes;
    }
    double seconds = o->auto_seconds == 0 ? DEFAULT_SECONDS : o->auto_seconds;
    automatic->budget_ns = seconds > 0 ? seconds * 1e9 : 0;
    size_t outputs = s->graph->output_count;
    automatic->outputs = sp_calloc(a, outputs, sizeof *automatic->outputs);
    if (!automatic->outputs) return sp_no_memory(a, outputs * sizeof *automatic->outputs, err);
    if (!o->auto_cache) return SPAROA_OK;
    size_t length = strlen(o->auto_cache) + 1;
    automatic->cache = sp_alloc(a, length);
    if (!automatic->cache) return sp_no_memory(a, length, err);
    memcpy(automatic->cache, o->auto_cache, length);
    sp_auto_cache_load(s);
    return SPAROA_OK;
}

void sp_auto_close(sparoa_session *s)
{
    sp_auto *automatic = s->choose;
    const sparoa_allocator *a = &s->model->runtime->alloc;
    if (!automatic) return;
    sparoa_session_destroy(automatic->devices);
    for (sp_choice *c = automatic->choices, *next; c; c = next) {
        next = c->next;
        sp_choice_destroy(s, c);
    }
    sp_auto_basis_destroy(s, automatic->basis);
    sp_free(a, automatic->outputs, s->graph->output_count * sizeof *automatic->outputs);
    if (automatic->cache) sp_free(a, automatic->cache, strlen(automatic->cache) + 1);
    sp_free(a, automatic, sizeof *automatic);
    s->choose = NULL;
}

/* ---- sparoa_schedule.h ---- */

static sparoa_status not_auto(sparoa_error *err)
{
    return sparoa_fail(err, SPAROA_INVALID_STATE, NULL, "the session's device is not \"auto\"");
}

sparoa_status sparoa_session_tune(sparoa_session *session, const sparoa_tensor *inputs,
                                  size_t input_count, double seconds, sparoa_error *err)
{
    if (!session || !(seconds >= 0 && seconds <= 1e6))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "session is NULL, or seconds is not within 0..1e6");
    if (!session->choose) return not_auto(err);
    if (session->engine.observer)
        return sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                           "a session with an observer does not "
                           "measure");
    pthread_mutex_lock(&session->mutex);
    sparoa_status status = sp_session_check_inputs(session, inputs, input_count, true, err);
    sp_choice *c = status == SPAROA_OK ? sp_auto_choice(session, inputs) : NULL;
    if (status == SPAROA_OK && !c)
        status = sparoa_fail(err, SPAROA_INVALID_STATE, NULL,
                             "choices are kept for %d input shapes at most", SP_AUTO_CHOICES);
    if (status == SPAROA_OK)
        status =
            sp_auto_tune(session, c, inputs, (seconds > 0 ? seconds : DEFAULT_SECONDS) * 1e9, err);
    if (status == SPAROA_OK) {
        session->choose->current = c;
        session->choose->by_nearest = false;
    }
    pthread_mutex_unlock(&session->mutex);
    return status;
}

sparoa_status sparoa_session_choice(sparoa_session *session, const sparoa_tensor *inputs,
                                    size_t input_count, sparoa_choice *choice, sparoa_error *err)
{
    if (!session || !choice)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL, "session or choice is NULL");
    if (!session->choose) return not_auto(err);
    sp_auto *automatic = session->choose;
    sparoa_status status = SPAROA_OK;
    pthread_mutex_lock(&session->mutex);
    const sp_choice *c = automatic->current;
    bool other = automatic->by_nearest;
    if (inputs) {
        status = sp_session_check_inputs(session, inputs, input_count, false, err);
        c = NULL;
        for (sp_choice *i = automatic->choices; status == SPAROA_OK && i && !c; i = i->next)
            if (same_shapes(i, inputs, input_count)) c = i;
        if (status == SPAROA_OK) {
            const sp_choice *own = c;
            c = deciding(automatic, own, bytes_of(inputs, input_count));
            other = c != own;
        }
    }
    if (status == SPAROA_OK) {
        *choice = c ? c->info : (sparoa_choice){.chosen = "cpu", .reason = "nothing was measured"};
        if (c && other && c->info.source != SPAROA_CHOICE_NONE)
            choice->source = SPAROA_CHOICE_NEAREST;
        choice->cache = automatic->cache_state;
        memcpy(choice->cache_reason, automatic->cache_reason, sizeof choice->cache_reason);
    }
    pthread_mutex_unlock(&session->mutex);
    return status;
}
