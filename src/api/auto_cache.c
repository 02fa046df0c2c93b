/* Sessions whose device is "auto": the file that keeps what was measured (docs/auto.md). */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "api/auto.h"
#include "base/yaml.h"

#define FORMAT "sparoa-auto"
#define VERSION 2 /* 1: divided plans were no candidates */

/* ---- what a choice holds for ---- */

static void add_bytes(uint64_t *hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++) *hash = (*hash ^ bytes[i]) * UINT64_C(0x100000001b3);
}

static void add_value(uint64_t *hash, const sp_value *v)
{
    add_bytes(hash, &v->fact.dtype, sizeof v->fact.dtype);
    add_bytes(hash, &v->fact.rank, sizeof v->fact.rank);
    if (v->fact.rank > 0)
        add_bytes(hash, v->fact.dims, (size_t)v->fact.rank * sizeof v->fact.dims[0]);
}

/* FNV-1a over operators, how they are connected, types and shapes. Weights are not looked at: a
 * model trained further keeps its plans. */
static uint64_t hash_model(const sp_graph *g)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < g->value_count; i++) add_value(&hash, &g->values[i]);
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        add_bytes(&hash, n->name, strlen(n->name) + 1);
        add_bytes(&hash, n->op_type, strlen(n->op_type) + 1);
        add_bytes(&hash, n->in, (size_t)n->n_in * sizeof *n->in);
        add_bytes(&hash, n->out, (size_t)n->n_out * sizeof *n->out);
    }
    return hash;
}

typedef struct cache_key {
    char library[32], model[32], machine[768], threads[16], options[320];
} cache_key;

static void make_key(const sparoa_session *s, cache_key *key)
{
    const sparoa_runtime *rt = s->model->runtime;
    const sparoa_session_options *o = &s->choose->options;
    snprintf(key->library, sizeof key->library, "%s", sparoa_version());
    snprintf(key->model, sizeof key->model, "%016llx",
             (unsigned long long)hash_model(s->model->graph));
    size_t used = 0;
    for (int32_t d = 0; d < rt->device_count && used < sizeof key->machine; d++) {
        sparoa_device_desc desc = {0};
        sparoa_device(rt, (size_t)d, &desc);
        used += (size_t)snprintf(key->machine + used, sizeof key->machine - used, "%s%s: %s (%s)",
                                 d ? "; " : "", desc.name, desc.description, desc.isa);
    }
    snprintf(key->threads, sizeof key->threads, "%d", (int)sparoa_runtime_threads(rt));
    snprintf(key->options, sizeof key->options, "precision %d, without '%s'%s%s%.15s%s%.15s",
             (int)o->precision, o->disable_passes ? o->disable_passes : "",
             o->profile ? ", profiled" : "", rt->knobs.sparse ? ", sparse " : "",
             rt->knobs.sparse ? rt->knobs.sparse : "", rt->knobs.join ? ", join " : "",
             rt->knobs.join ? rt->knobs.join : "");
}

/* ---- writing ---- */

static void put_line(sp_text *t, const char *key, const char *value)
{
    sp_text_add(t, "%s: ", key);
    sp_text_quote(t, value);
    sp_text_add(t, "\n");
}

static void put_candidate(sp_text *t, const sparoa_candidate *c)
{
    sp_text_add(t, "      - {name: ");
    sp_text_quote(t, c->name);
    sp_text_add(t, ", median_us: ");
    sp_text_digits(t, c->median_ns * 1e-3, 5);
    sp_text_add(t, ", ratio: ");
    sp_text_digits(t, c->ratio, 4);
    sp_text_add(t, ", spread: ");
    sp_text_digits(t, c->spread, 3);
    sp_text_add(t, ", predicted_us: ");
    sp_text_digits(t, c->predicted_ns * 1e-3, 5);
    sp_text_add(t, ", rounds: %d, nodes: %d, verdict: ", (int)c->rounds, (int)c->nodes);
    sp_text_quote(t, c->verdict);
    sp_text_add(t, "}\n");
}

/* A plan file, as a text of several lines inside this one. */
static void put_plan(sp_text *t, const sp_plan *plan)
{
    sp_text inner;
    sp_text_init(&inner, &t->alloc);
    sp_plan_write(plan, &inner);
    t->failed |= inner.failed;
    sp_text_add(t, "    plan: |\n");
    for (const char *line = inner.data; line && *line;) {
        const char *end = strchr(line, '\n');
        int length = end ? (int)(end - line) : (int)strlen(line);
        sp_text_add(t, "      %.*s\n", length, line);
        line += length + (end != NULL);
    }
    sp_text_free(&inner);
}

static void put_choice(sp_text *t, const sparoa_session *s, const sp_choice *c)
{
    sp_text_add(t, "  - inputs: [");
    for (uint32_t i = 0; i < s->graph->input_count; i++) {
        sp_text_add(t, "%s{type: %s, dims: [", i ? ", " : "",
                    sparoa_dtype_name(c->inputs[i].dtype));
        for (int32_t k = 0; k < c->inputs[i].rank; k++)
            sp_text_add(t, "%s%lld", k ? ", " : "", (long long)c->inputs[i].dims[k]);
        sp_text_add(t, "]}");
    }
    sp_text_add(t, "]\n    chosen: ");
    sp_text_quote(t, c->info.chosen);
    sp_text_add(t, "\n    reason: ");
    sp_text_quote(t, c->info.reason);
    sp_text_add(t, "\n    place: %s\n",
                c->place == SP_AUTO_HOST ? "host"
                : c->plan                ? "plan"
                                         : "device");
    sp_text_add(t, "    candidates:\n");
    for (int32_t i = 0; i < c->info.candidate_count; i++) put_candidate(t, &c->info.candidates[i]);
    if (c->place != SP_AUTO_HOST && c->plan) put_plan(t, c->plan->p);
}

static bool lasting(const sp_choice *c)
{
    return c->info.source == SPAROA_CHOICE_MEASURED || c->info.source == SPAROA_CHOICE_CACHED;
}

/* Readers see the old file or the new one. */
static sparoa_status replace(const sp_text *text, const char *path, sparoa_error *err)
{
    sp_text name;
    sp_text_init(&name, &text->alloc);
    sp_text_add(&name, "%s.%ld", path, (long)getpid());
    sparoa_status status = name.failed ? sp_no_memory(&text->alloc, strlen(path), err)
                                       : sp_text_save(text, name.data, err);
    if (status == SPAROA_OK && rename(name.data, path) != 0)
        status = sparoa_fail(err, SPAROA_IO, NULL, "%s: cannot write: %s", path, strerror(errno));
    if (status != SPAROA_OK && name.data) remove(name.data);
    sp_text_free(&name);
    return status;
}

void sp_auto_cache_save(sparoa_session *s)
{
    sp_auto *automatic = s->choose;
    sp_text t;
    cache_key key;
    sparoa_error fault = {0};
    bool any = false;
    for (const sp_choice *c = automatic->choices; c; c = c->next) any |= lasting(c);
    if (!automatic->cache || s->lost || !any) return;
    make_key(s, &key);
    sp_text_init(&t, &s->model->runtime->alloc);
    sp_text_add(&t, "format: %s\nversion: %d\n", FORMAT, VERSION);
    put_line(&t, "library", key.library);
    put_line(&t, "model", key.model);
    put_line(&t, "machine", key.machine);
    put_line(&t, "threads", key.threads);
    put_line(&t, "options", key.options);
    sp_text_add(&t, "choices:\n");
    for (const sp_choice *c = automatic->choices; c; c = c->next)
        if (lasting(c)) put_choice(&t, s, c);
    if (replace(&t, automatic->cache, &fault) != SPAROA_OK)
        sp_log_line(&s->model->runtime->log, SPAROA_LOG_WARN, "auto: nothing is kept: %s",
                    fault.message);
    sp_text_free(&t);
}

/* ---- reading ---- */

static bool fits(sp_auto *automatic, sp_yaml_reader *r, const sp_yaml_node *root, const char *field,
                 const char *here, sparoa_cache_state otherwise)
{
    const char *there = sp_yaml_string(r, root, field, true);
    if (r->status != SPAROA_OK || automatic->cache_state != SPAROA_CACHE_USED) return false;
    if (strcmp(here, there) == 0) return true;
    automatic->cache_state = otherwise;
    snprintf(automatic->cache_reason, sizeof automatic->cache_reason,
             "measured for %s '%.70s', here it is '%.70s'", field, there, here);
    return false;
}

static sparoa_dtype dtype_of(const char *name)
{
    for (int i = SPAROA_FLOAT32; i <= SPAROA_BFLOAT16; i++)
        if (sparoa_dtype_size((sparoa_dtype)i) && !strcmp(sparoa_dtype_name((sparoa_dtype)i), name))
            return (sparoa_dtype)i;
    return SPAROA_UNDEFINED;
}

/* False, with a fault noted: not the shapes of inputs of this model. */
static bool read_inputs(sp_yaml_reader *r, const sparoa_session *s, const sp_yaml_node *map,
                        sparoa_tensor *inputs)
{
    const sp_yaml_node *list = sp_yaml_child(r, map, "inputs", SP_YAML_LIST, true);
    uint32_t i = 0;
    if (list && list->count != s->graph->input_count)
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "the model has %u inputs", s->graph->input_count);
    for (const sp_yaml_node *n = list ? list->first : NULL; n && r->status == SPAROA_OK;
         n = n->next) {
        sparoa_tensor *t = &inputs[i++];
        const sp_yaml_node *dims = sp_yaml_child(r, n, "dims", SP_YAML_LIST, true);
        t->dtype = dtype_of(sp_yaml_string(r, n, "type", true));
        if (!dims || dims->count > SPAROA_MAX_RANK) {
            sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected at most %d dims", SPAROA_MAX_RANK);
            break;
        }
        for (const sp_yaml_node *d = dims->first; d; d = d->next)
            t->dims[t->rank++] = (int64_t)sp_yaml_value(r, d, 0, 1e15);
    }
    sparoa_error fault;
    if (r->status == SPAROA_OK &&
        sp_session_check_inputs(s, inputs, s->graph->input_count, false, &fault) != SPAROA_OK)
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "%s", fault.message);
    return r->status == SPAROA_OK;
}

static void read_candidates(sp_yaml_reader *r, const sp_yaml_node *map, sparoa_choice *info)
{
    const sp_yaml_node *list = sp_yaml_child(r, map, "candidates", SP_YAML_LIST, true);
    for (const sp_yaml_node *n = list ? list->first : NULL; n; n = n->next) {
        if (info->candidate_count == SPAROA_CANDIDATES) {
            sp_yaml_fault(r, n, SPAROA_MALFORMED, "more than %d candidates", SPAROA_CANDIDATES);
            return;
        }
        sparoa_candidate *c = &info->candidates[info->candidate_count++];
        snprintf(c->name, sizeof c->name, "%s", sp_yaml_string(r, n, "name", true));
        snprintf(c->verdict, sizeof c->verdict, "%s", sp_yaml_string(r, n, "verdict", true));
        c->median_ns = 1e3 * sp_yaml_number(r, n, "median_us", 0, 1e15);
        c->ratio = sp_yaml_number(r, n, "ratio", 0, 1e15);
        c->spread = sp_yaml_number(r, n, "spread", 0, 1e15);
        c->predicted_ns = 1e3 * sp_yaml_number(r, n, "predicted_us", 0, 1e15);
        c->rounds = (int32_t)sp_yaml_number(r, n, "rounds", 0, 1e6);
        c->nodes = (int32_t)sp_yaml_number(r, n, "nodes", 0, 1e9);
    }
}

/* The plan of the file among those of `devices`. */
static sparoa_status take_plan(sparoa_session *s, const char *text, sp_choice *c, sparoa_error *err)
{
    size_t place;
    sp_plan *inner;
    sparoa_runtime *rt = s->model->runtime;
    SP_TRY(sp_plan_parse(&rt->alloc, "plan", text, strlen(text), &inner, err));
    SP_TRY(sp_schedule_wrap_plan(rt, inner, 0, &c->plan, err));
    SP_TRY(sparoa_session_add_plan(s->choose->devices, c->plan, &place, err));
    c->place = (int32_t)place;
    return SPAROA_OK;
}

static void read_choice(sp_yaml_reader *r, sparoa_session *s, const sp_yaml_node *map,
                        sparoa_tensor *inputs)
{
    memset(inputs, 0, s->graph->input_count * sizeof *inputs);
    sp_yaml_only(r, map, "inputs|chosen|reason|place|candidates|plan");
    sparoa_choice info = {.source = SPAROA_CHOICE_CACHED};
    snprintf(info.chosen, sizeof info.chosen, "%s", sp_yaml_string(r, map, "chosen", true));
    snprintf(info.reason, sizeof info.reason, "%s", sp_yaml_string(r, map, "reason", true));
    read_candidates(r, map, &info);
    const char *place = sp_yaml_string(r, map, "place", true);
    bool host = strcmp(place, "host") == 0, plan = strcmp(place, "plan") == 0;
    if (r->status == SPAROA_OK && !host && !plan && strcmp(place, "device"))
        sp_yaml_fault(r, map, SPAROA_MALFORMED, "place '%.20s' is not known", place);
    const char *text = sp_yaml_string(r, map, "plan", plan);
    if (!read_inputs(r, s, map, inputs)) return;
    sp_choice *c = sp_auto_choice(s, inputs);
    sparoa_error fault = {0};
    sparoa_status status = SPAROA_OK;
    if (!c || c->info.source != SPAROA_CHOICE_NONE) return;
    if (!host) status = sp_auto_devices(s, &fault);
    if (status == SPAROA_OK && !host) c->place = 0;
    if (status == SPAROA_OK && plan) status = take_plan(s, text, c, &fault);
    if (status == SPAROA_OK) {
        c->info = info;
        return;
    }
    c->place = SP_AUTO_HOST; /* the device has no room, or is ill: measure again */
    sp_log_line(&s->model->runtime->log, SPAROA_LOG_WARN, "auto: '%s' of the cache is not used: %s",
                info.chosen, fault.message);
}

static void read_all(sp_yaml_reader *r, sparoa_session *s, const sp_yaml_node *root)
{
    cache_key key;
    sp_auto *automatic = s->choose;
    make_key(s, &key);
    sp_yaml_header(r, root, FORMAT, VERSION);
    sp_yaml_only(r, root, "format|version|library|model|machine|threads|options|choices");
    bool good = fits(automatic, r, root, "library", key.library, SPAROA_CACHE_OTHER_LIBRARY) &&
                fits(automatic, r, root, "model", key.model, SPAROA_CACHE_OTHER_MODEL) &&
                fits(automatic, r, root, "machine", key.machine, SPAROA_CACHE_OTHER_MACHINE) &&
                fits(automatic, r, root, "threads", key.threads, SPAROA_CACHE_OTHER_THREADS) &&
                fits(automatic, r, root, "options", key.options, SPAROA_CACHE_OTHER_OPTIONS);
    if (!good) return;
    const sparoa_allocator *a = &s->model->runtime->alloc;
    uint32_t count = s->graph->input_count;
    sparoa_tensor *inputs = sp_calloc(a, count, sizeof *inputs);
    const sp_yaml_node *list = sp_yaml_child(r, root, "choices", SP_YAML_LIST, true);
    for (const sp_yaml_node *n = inputs && list ? list->first : NULL; n && r->status == SPAROA_OK;
         n = n->next)
        read_choice(r, s, n, inputs);
    sp_free(a, inputs, count * sizeof *inputs);
}

/* Nothing of a file that has a fault counts. */
static void forget(sparoa_session *s)
{
    for (sp_choice *c = s->choose->choices, *next; c; c = next) {
        next = c->next;
        sp_choice_destroy(s, c);
    }
    s->choose->choices = NULL;
    s->choose->choice_count = 0;
}

void sp_auto_cache_load(sparoa_session *s)
{
    sp_auto *automatic = s->choose;
    sparoa_error fault = {0};
    sp_yaml *yaml = NULL;
    automatic->cache_state = SPAROA_CACHE_USED;
    sp_yaml_reader r = {.what = automatic->cache, .err = &fault};
    r.status = sp_yaml_load(&s->model->runtime->alloc, automatic->cache, &yaml, &fault);
    if (r.status == SPAROA_OK) read_all(&r, s, sp_yaml_root(yaml));
    sp_yaml_destroy(yaml);
    if (r.status != SPAROA_OK) {
        bool absent = r.status == SPAROA_NOT_FOUND, old = r.status == SPAROA_UNSUPPORTED_VERSION;
        automatic->cache_state = absent ? SPAROA_CACHE_ABSENT
                                 : old  ? SPAROA_CACHE_OTHER_LIBRARY
                                        : SPAROA_CACHE_DAMAGED;
        snprintf(automatic->cache_reason, sizeof automatic->cache_reason, "%.190s", fault.message);
        forget(s);
    }
    sp_auto_release(s);
    bool quiet = automatic->cache_state == SPAROA_CACHE_USED ||
                 automatic->cache_state == SPAROA_CACHE_ABSENT;
    sp_log_line(&s->model->runtime->log, quiet ? SPAROA_LOG_INFO : SPAROA_LOG_WARN, "auto: %s: %s",
                automatic->cache, automatic->cache_reason[0] ? automatic->cache_reason : "used");
}
