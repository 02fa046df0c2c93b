/* Platform files: reading with checks, writing. */
#include "platform/platform.h"

#include <math.h>

#include "ops/op.h"

#define FORMAT "sparoa-platform"
#define VERSION 1
#define MEMORY_BY_CLOCK 0.2 /* where a file does not say: about that of an AGX Orin's devices */

static const char *const device_kinds[] = {"cpu", "gpu", "integrated_gpu", "npu"};

const char *sp_kind_name(int kind)
{
    if (kind == SP_KIND_DEPTHWISE) return "depthwise";
    if (kind == SP_KIND_VIEW) return "view";
    return sp_class_name((sparoa_op_class)kind);
}

/* A list of [x, y] pairs with ascending x, or one number for a flat curve. */
static void read_curve(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, double max_x,
                       double max_y, sp_curve *curve)
{
    const sp_yaml_node *n = sp_yaml_get(r, map, key, false);
    if (!n) return;
    *curve = (sp_curve){0};
    if (n->kind == SP_YAML_TEXT) {
        curve->count = 1;
        curve->y[0] = sp_yaml_value(r, n, 0, max_y);
        return;
    }
    if (n->kind != SP_YAML_LIST || n->count > SP_CURVE_POINTS) {
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected a number or up to %d pairs [x, y]",
                      SP_CURVE_POINTS);
        return;
    }
    for (const sp_yaml_node *p = n->first; p && r->status == SPAROA_OK; p = p->next) {
        if (p->kind != SP_YAML_LIST || p->count != 2) {
            sp_yaml_fault(r, p, SPAROA_MALFORMED, "expected a pair [x, y]");
            return;
        }
        uint32_t i = curve->count++;
        curve->x[i] = sp_yaml_value(r, p->first, 0, max_x);
        curve->y[i] = sp_yaml_value(r, p->first->next, 0, max_y);
        if (i && !(curve->x[i] > curve->x[i - 1]))
            sp_yaml_fault(r, p, SPAROA_MALFORMED, "x must grow from point to point");
    }
}

static void read_kind(sp_yaml_reader *r, const sp_yaml_node *n, sp_platform_kind *k)
{
    sp_yaml_only(r, n, "efficiency|bandwidth|eager_us|graph_us|sparse_weights|sparse_inputs");
    read_curve(r, n, "efficiency", 1e18, 8, &k->efficiency);
    k->bandwidth = sp_yaml_number_or(r, n, "bandwidth", 0, 100, k->bandwidth);
    double *o = k->overhead_ns;
    o[0] = 1e3 * sp_yaml_number_or(r, n, "eager_us", 0, 1e6, o[0] * 1e-3);
    o[1] = 1e3 * sp_yaml_number_or(r, n, "graph_us", 0, 1e6, o[1] * 1e-3);
    read_curve(r, n, "sparse_weights", 1, 1000, &k->sparse_weights);
    read_curve(r, n, "sparse_inputs", 1, 1000, &k->sparse_inputs);
}

static int find_kind(sp_yaml_reader *r, const sp_yaml_node *at, const char *name)
{
    for (int k = 0; k < SP_KIND_COUNT; k++)
        if (strcmp(sp_kind_name(k), name) == 0) return k;
    sp_yaml_fault(r, at, SPAROA_MALFORMED, "'%.60s' is no kind of operator", name);
    return -1;
}

/* "default" first; the others start from it. */
static void read_kinds(sp_yaml_reader *r, const sp_yaml_node *device, sp_platform_device *d)
{
    const sp_yaml_node *map = sp_yaml_child(r, device, "kinds", SP_YAML_MAP, true);
    sp_platform_kind base = {.efficiency = {.count = 1, .y = {1}}, .bandwidth = 1};
    const sp_yaml_node *first = sp_yaml_child(r, map, "default", SP_YAML_MAP, true);
    if (first) read_kind(r, first, &base);
    for (int k = 0; k < SP_KIND_COUNT; k++) d->kinds[k] = base;
    for (const sp_yaml_node *n = map ? map->first : NULL; n && r->status == SPAROA_OK;
         n = n->next) {
        int kind = strcmp(n->key, "default") == 0 ? -1 : find_kind(r, n, n->key);
        if (kind < 0) continue;
        read_kind(r, n, &d->kinds[kind]);
        d->kinds[kind].given = true;
    }
}

static void read_name(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, char *to,
                      size_t size, bool need)
{
    const char *text = sp_yaml_string(r, map, key, need);
    if (strlen(text) >= size || (need && r->status == SPAROA_OK && !*text))
        sp_yaml_fault(r, sp_yaml_get(r, map, key, false), SPAROA_MALFORMED,
                      "expected 1..%zu characters", size - 1);
    else
        snprintf(to, size, "%s", text);
}

static void read_steps(sp_yaml_reader *r, const sp_yaml_node *device, sp_platform_device *d)
{
    const sp_yaml_node *list = sp_yaml_child(r, device, "clock_steps", SP_YAML_LIST, false);
    if (list && list->count > SP_CURVE_POINTS) {
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "at most %d clocks", SP_CURVE_POINTS);
        return;
    }
    for (const sp_yaml_node *v = list ? list->first : NULL; v && r->status == SPAROA_OK;
         v = v->next) {
        uint32_t i = d->clock_step_count++;
        d->clock_steps[i] = sp_yaml_value(r, v, 0.05, 1);
        if (i && !(d->clock_steps[i] > d->clock_steps[i - 1]))
            sp_yaml_fault(r, v, SPAROA_MALFORMED, "clocks must grow");
    }
}

static void read_device(sp_yaml_reader *r, const sp_yaml_node *n, sp_platform_device *d)
{
    sp_yaml_only(r, n,
                 "name|kind|lanes|peak_gflops|bandwidth_gbs|memory_gb|active_watts|clock_power|"
                 "idle_clock_watts|memory_by_clock|clock_steps|entry_eager_us|entry_graph_us|"
                 "unsupported|kinds|samples");
    read_name(r, n, "name", d->name, sizeof d->name, true);
    const sp_yaml_node *kind = sp_yaml_child(r, n, "kind", SP_YAML_TEXT, true);
    int found = -1;
    for (int k = 0; kind && k < 4; k++)
        if (strcmp(device_kinds[k], kind->text) == 0) found = k;
    if (kind && found < 0)
        sp_yaml_fault(r, kind, SPAROA_MALFORMED, "expected cpu, gpu, integrated_gpu or npu");
    d->kind = (sparoa_device_kind)(found < 0 ? 0 : found);
    d->lanes = (int32_t)sp_yaml_number_or(r, n, "lanes", 1, 4, 1);
    d->peak_flops = 1e9 * sp_yaml_number(r, n, "peak_gflops", 1e-3, 1e9);
    d->bandwidth = 1e9 * sp_yaml_number(r, n, "bandwidth_gbs", 1e-3, 1e7);
    d->memory_bytes = 1e9 * sp_yaml_number_or(r, n, "memory_gb", 0, 1e6, 0);
    d->active_watts = sp_yaml_number_or(r, n, "active_watts", 0, 1e5, 0);
    d->clock_power = sp_yaml_number_or(r, n, "clock_power", 0, 4, 1);
    d->idle_clock_watts = sp_yaml_number_or(r, n, "idle_clock_watts", 0, 1e5, 0);
    d->memory_by_clock = sp_yaml_number_or(r, n, "memory_by_clock", 0, 1, MEMORY_BY_CLOCK);
    read_steps(r, n, d);
    d->entry_ns[0] = 1e3 * sp_yaml_number_or(r, n, "entry_eager_us", 0, 1e6, 0);
    d->entry_ns[1] = 1e3 * sp_yaml_number_or(r, n, "entry_graph_us", 0, 1e6, 0);
    const sp_yaml_node *list = sp_yaml_child(r, n, "unsupported", SP_YAML_LIST, false);
    for (const sp_yaml_node *u = list ? list->first : NULL; u; u = u->next) {
        int k = u->kind == SP_YAML_TEXT ? find_kind(r, u, u->text) : -1;
        if (k >= 0) d->unsupported |= 1u << k;
        if (u->kind != SP_YAML_TEXT)
            sp_yaml_fault(r, u, SPAROA_MALFORMED, "expected a kind of operator");
    }
    read_kinds(r, n, d);
}

/* Samples of a device: [operator, kind, FLOPs, bytes in, bytes of weights, bytes out, factor]. In
 * the order of kinds, so that each kind has a part of its own. */
static void read_samples(sp_yaml_reader *r, const sp_yaml_node *device, sp_platform *p,
                         sp_platform_device *d)
{
    const sp_yaml_node *list = sp_yaml_child(r, device, "samples", SP_YAML_LIST, false);
    int last = -1;
    if (list && list->count > SP_PLATFORM_SAMPLES - p->sample_count) {
        sp_yaml_fault(r, list, SPAROA_TOO_LARGE, "at most %d samples in all", SP_PLATFORM_SAMPLES);
        return;
    }
    for (const sp_yaml_node *n = list ? list->first : NULL; n && r->status == SPAROA_OK;
         n = n->next) {
        const sp_yaml_node *v = n->kind == SP_YAML_LIST ? n->first : NULL;
        if (!v || n->count != 7 || v->kind != SP_YAML_TEXT || v->next->kind != SP_YAML_TEXT) {
            sp_yaml_fault(r, n, SPAROA_MALFORMED,
                          "expected [operator, kind, flops, bytes in, of weights, out, factor]");
            return;
        }
        sp_platform_sample *s = &p->samples[p->sample_count];
        int kind = find_kind(r, v->next, v->next->text);
        if (!*v->text || strlen(v->text) >= sizeof s->op)
            sp_yaml_fault(r, v, SPAROA_MALFORMED, "expected 1..%zu characters", sizeof s->op - 1);
        if (kind < last && r->status == SPAROA_OK)
            sp_yaml_fault(r, v->next, SPAROA_MALFORMED, "samples must be in the order of kinds");
        if (r->status != SPAROA_OK) return;
        snprintf(s->op, sizeof s->op, "%s", v->text);
        s->key = sp_op_key(s->op);
        v = v->next->next;
        for (int i = 0; i < 4; i++, v = v->next)
            s->at[i] = (float)log1p(sp_yaml_value(r, v, 0, 1e18));
        s->factor = (float)sp_yaml_value(r, v, 1e-4, 1e4);
        sp_platform_kind *k = &d->kinds[kind];
        if (kind != last) k->first_sample = p->sample_count;
        k->sample_count++;
        p->sample_count++;
        last = kind;
    }
}

static uint32_t device_named(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                             const sp_platform *p)
{
    const sp_yaml_node *n = sp_yaml_child(r, map, key, SP_YAML_TEXT, true);
    for (uint32_t d = 0; n && d < p->device_count; d++)
        if (strcmp(p->devices[d].name, n->text) == 0) return d;
    sp_yaml_fault(r, n, SPAROA_MALFORMED, "there is no device of that name");
    return 0;
}

static void read_link(sp_yaml_reader *r, const sp_yaml_node *n, const sp_platform *p,
                      sp_platform_link *l)
{
    sp_yaml_only(r, n, "from|to|eager_us|graph_us|bandwidth_gbs|mapped_us|mapped_gbs");
    l->from = device_named(r, n, "from", p);
    l->to = device_named(r, n, "to", p);
    if (l->from == l->to) sp_yaml_fault(r, n, SPAROA_MALFORMED, "a link from a device to itself");
    l->fixed_ns[0] = 1e3 * sp_yaml_number(r, n, "eager_us", 0, 1e6);
    l->fixed_ns[1] = 1e3 * sp_yaml_number(r, n, "graph_us", 0, 1e6);
    l->bandwidth = 1e9 * sp_yaml_number(r, n, "bandwidth_gbs", 1e-3, 1e7);
    l->mapped_ns = 1e3 * sp_yaml_number_or(r, n, "mapped_us", 0, 1e6, 0);
    l->mapped_bandwidth = 1e9 * sp_yaml_number_or(r, n, "mapped_gbs", 0, 1e7, 0);
}

static void read_mode(sp_yaml_reader *r, const sp_yaml_node *n, const sp_platform *p,
                      sp_platform_mode *m)
{
    sp_yaml_only(r, n, "name|idle_watts|memory_clock|clocks|units");
    read_name(r, n, "name", m->name, sizeof m->name, true);
    m->state = sp_platform_nominal(p);
    m->state.memory_clock = sp_yaml_number_or(r, n, "memory_clock", 0.01, 1, 1);
    for (int what = 0; what < 2; what++) {
        const char *key = what ? "units" : "clocks";
        const sp_yaml_node *list = sp_yaml_child(r, n, key, SP_YAML_LIST, !what), *v;
        if (!list) continue;
        if (list->count != p->device_count) {
            sp_yaml_fault(r, list, SPAROA_MALFORMED, "expected one number for each device");
            return;
        }
        uint32_t d = 0;
        for (v = list->first; v; v = v->next, d++) {
            double x = sp_yaml_value(r, v, 0.01, 1);
            *(what ? &m->state.device[d].units : &m->state.device[d].clock) = x;
        }
    }
    /* The file says what the mode takes; the state holds what full clocks would. */
    double low = p->idle_watts - sp_platform_idle_watts(p, &m->state);
    if (sp_yaml_get(r, n, "idle_watts", false))
        m->state.idle_watts = sp_yaml_number(r, n, "idle_watts", 0, 1e5) + low;
}

static void read_machine(sp_yaml_reader *r, const sp_yaml_node *root, sp_platform *p)
{
    const sp_yaml_node *m = sp_yaml_child(r, root, "memory", SP_YAML_MAP, false);
    if (m) sp_yaml_only(r, m, "shared_gbs|knee|contention|pj_per_byte");
    p->memory_bandwidth = 1e9 * sp_yaml_number_or(r, m, "shared_gbs", 0, 1e7, 0);
    p->contention_knee = sp_yaml_number_or(r, m, "knee", 0, 1, 1);
    p->contention = sp_yaml_number_or(r, m, "contention", 0, 10, 0);
    p->joules_per_byte = 1e-12 * sp_yaml_number_or(r, m, "pj_per_byte", 0, 1e6, 0);
    const sp_yaml_node *n = sp_yaml_child(r, root, "noise", SP_YAML_MAP, false);
    if (n) sp_yaml_only(r, n, "sigma|spike_probability|spike_factor");
    p->noise_sigma = sp_yaml_number_or(r, n, "sigma", 0, 2, 0);
    p->spike_probability = sp_yaml_number_or(r, n, "spike_probability", 0, 1, 0);
    p->spike_factor = sp_yaml_number_or(r, n, "spike_factor", 1, 1e4, 1);
    const sp_yaml_node *t = sp_yaml_child(r, root, "thermal", SP_YAML_MAP, false);
    if (t) sp_yaml_only(r, t, "ambient_c|c_per_watt|seconds|limit_c|throttled_clock");
    p->ambient_c = sp_yaml_number_or(r, t, "ambient_c", -60, 100, 25);
    p->c_per_watt = sp_yaml_number_or(r, t, "c_per_watt", 0, 100, 0);
    p->thermal_s = sp_yaml_number_or(r, t, "seconds", 1e-3, 1e5, 100);
    p->limit_c = sp_yaml_number_or(r, t, "limit_c", 0, 200, 0);
    p->throttled_clock = sp_yaml_number_or(r, t, "throttled_clock", 0.05, 1, 1);
}

/* The entries of a list, at most `room` of them. */
static const sp_yaml_node *read_list(sp_yaml_reader *r, const sp_yaml_node *root, const char *key,
                                     uint32_t room, bool need, uint32_t *count)
{
    const sp_yaml_node *list = sp_yaml_child(r, root, key, SP_YAML_LIST, need);
    *count = 0;
    if (!list) return NULL;
    if (list->count > room || (need && !list->count)) {
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "%u entries, expected %d..%u", list->count, need,
                      room);
        return NULL;
    }
    *count = list->count;
    return list->first;
}

static void check_links(sp_yaml_reader *r, const sp_yaml_node *root, const sp_platform *p)
{
    bool have[SP_PLATFORM_DEVICES][SP_PLATFORM_DEVICES] = {{false}};
    for (uint32_t i = 0; i < p->link_count; i++) have[p->links[i].from][p->links[i].to] = true;
    for (uint32_t a = 0; a < p->device_count; a++)
        for (uint32_t b = 0; b < p->device_count; b++)
            if (a != b && !have[a][b])
                sp_yaml_fault(r, root, SPAROA_MALFORMED, "no link from %s to %s",
                              p->devices[a].name, p->devices[b].name);
}

static void read_platform(sp_yaml_reader *r, const sp_yaml_node *root, sp_platform *p)
{
    sp_yaml_header(r, root, FORMAT, VERSION);
    sp_yaml_only(r, root,
                 "format|version|name|description|idle_watts|dispatch_watts|shared_link|memory|"
                 "noise|thermal|devices|links|modes");
    read_name(r, root, "name", p->name, sizeof p->name, true);
    read_name(r, root, "description", p->description, sizeof p->description, false);
    p->idle_watts = sp_yaml_number_or(r, root, "idle_watts", 0, 1e5, 0);
    p->dispatch_watts = sp_yaml_number_or(r, root, "dispatch_watts", 0, 1e5, 0);
    p->shared_link = sp_yaml_flag_or(r, root, "shared_link", false);
    read_machine(r, root, p);
    uint32_t i = 0;
    const sp_yaml_node *n =
        read_list(r, root, "devices", SP_PLATFORM_DEVICES, true, &p->device_count);
    for (; n; n = n->next, i++) {
        read_device(r, n, &p->devices[i]);
        if (r->status == SPAROA_OK) read_samples(r, n, p, &p->devices[i]);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(p->devices[k].name, p->devices[i].name) == 0)
                sp_yaml_fault(r, n, SPAROA_MALFORMED, "a second device of that name");
    }
    if (p->device_count && p->devices[0].kind != SPAROA_DEVICE_CPU)
        sp_yaml_fault(r, root, SPAROA_MALFORMED, "the first device must be the cpu");
    n = read_list(r, root, "links", SP_PLATFORM_LINKS, false, &p->link_count);
    for (i = 0; n; n = n->next, i++) read_link(r, n, p, &p->links[i]);
    if (r->status == SPAROA_OK) check_links(r, root, p);
    n = read_list(r, root, "modes", SP_PLATFORM_MODES, false, &p->mode_count);
    for (i = 0; n; n = n->next, i++) read_mode(r, n, p, &p->modes[i]);
}

static sparoa_status finish(sp_yaml *yaml, const char *what, sp_platform *platform,
                            const sparoa_allocator *alloc, sparoa_error *err)
{
    sp_yaml_reader r = {.what = what, .err = err};
    sp_platform *p = sp_calloc(alloc, 1, sizeof *p);
    if (p) {
        read_platform(&r, sp_yaml_root(yaml), p);
        if (r.status == SPAROA_OK) *platform = *p;
    } else {
        r.status = sp_no_memory(alloc, sizeof *p, err);
    }
    sp_free(alloc, p, sizeof *p);
    sp_yaml_destroy(yaml);
    return r.status;
}

sparoa_status sp_platform_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                                size_t size, sp_platform *platform, sparoa_error *err)
{
    sp_yaml *yaml;
    sparoa_status status = sp_yaml_parse(alloc, what, data, size, &yaml, err);
    return status == SPAROA_OK ? finish(yaml, what, platform, alloc, err) : status;
}

sparoa_status sp_platform_load(const sparoa_allocator *alloc, const char *path,
                               sp_platform *platform, sparoa_error *err)
{
    sp_yaml *yaml;
    const char *slash = strrchr(path, '/');
    sparoa_status status = sp_yaml_load(alloc, path, &yaml, err);
    if (status != SPAROA_OK) return status;
    return finish(yaml, slash ? slash + 1 : path, platform, alloc, err);
}

/* ---- writing ---- */

static void put(sp_text *t, const char *indent, const char *key, double value)
{
    sp_text_add(t, "%s%s: ", indent, key);
    sp_text_number(t, value);
    sp_text_add(t, "\n");
}

static void put_text(sp_text *t, const char *indent, const char *key, const char *value)
{
    sp_text_add(t, "%s%s: ", indent, key);
    sp_text_quote(t, value);
    sp_text_add(t, "\n");
}

static void put_curve(sp_text *t, const char *key, const sp_curve *c)
{
    if (!c->count) return;
    sp_text_add(t, ", %s: [", key);
    for (uint32_t i = 0; i < c->count; i++) {
        sp_text_add(t, "%s[", i ? ", " : "");
        sp_text_number(t, c->x[i]);
        sp_text_add(t, ", ");
        sp_text_number(t, c->y[i]);
        sp_text_add(t, "]");
    }
    sp_text_add(t, "]");
}

static void put_kind(sp_text *t, const char *name, const sp_platform_kind *k)
{
    sp_text_add(t, "      %s: {bandwidth: ", name);
    sp_text_number(t, k->bandwidth);
    sp_text_add(t, ", eager_us: ");
    sp_text_number(t, k->overhead_ns[0] * 1e-3);
    sp_text_add(t, ", graph_us: ");
    sp_text_number(t, k->overhead_ns[1] * 1e-3);
    put_curve(t, "efficiency", &k->efficiency);
    put_curve(t, "sparse_weights", &k->sparse_weights);
    put_curve(t, "sparse_inputs", &k->sparse_inputs);
    sp_text_add(t, "}\n");
}

static void put_device(sp_text *t, const sp_platform_device *d)
{
    put_text(t, "  - ", "name", d->name);
    sp_text_add(t, "    kind: %s\n    lanes: %d\n", device_kinds[d->kind], d->lanes);
    put(t, "    ", "peak_gflops", d->peak_flops * 1e-9);
    put(t, "    ", "bandwidth_gbs", d->bandwidth * 1e-9);
    put(t, "    ", "memory_gb", d->memory_bytes * 1e-9);
    put(t, "    ", "active_watts", d->active_watts);
    put(t, "    ", "clock_power", d->clock_power);
    put(t, "    ", "idle_clock_watts", d->idle_clock_watts);
    put(t, "    ", "memory_by_clock", d->memory_by_clock);
    sp_text_add(t, "    clock_steps: [");
    for (uint32_t i = 0; i < d->clock_step_count; i++) {
        if (i) sp_text_add(t, ", ");
        sp_text_number(t, d->clock_steps[i]);
    }
    sp_text_add(t, "]\n");
    put(t, "    ", "entry_eager_us", d->entry_ns[0] * 1e-3);
    put(t, "    ", "entry_graph_us", d->entry_ns[1] * 1e-3);
    sp_text_add(t, "    unsupported: [");
    const char *comma = "";
    for (int k = 0; k < SP_KIND_COUNT; k++)
        if (d->unsupported >> k & 1) {
            sp_text_add(t, "%s%s", comma, sp_kind_name(k));
            comma = ", ";
        }
    sp_text_add(t, "]\n    kinds:\n");
    /* A kind that the file did not give is the default's copy; one of them stands for it. */
    const sp_platform_kind *base = NULL;
    for (int k = 0; k < SP_KIND_COUNT && !base; k++)
        if (!d->kinds[k].given) base = &d->kinds[k];
    put_kind(t, "default", base ? base : &d->kinds[SPAROA_CLASS_OTHER]);
    for (int k = 0; k < SP_KIND_COUNT; k++)
        if (d->kinds[k].given) put_kind(t, sp_kind_name(k), &d->kinds[k]);
}

static void put_samples(sp_text *t, const sp_platform *p, const sp_platform_device *d)
{
    const char *title = "    samples:\n";
    for (int kind = 0; kind < SP_KIND_COUNT; kind++) {
        const sp_platform_kind *k = &d->kinds[kind];
        for (uint32_t i = 0; i < k->sample_count; i++) {
            const sp_platform_sample *s = &p->samples[k->first_sample + i];
            sp_text_add(t, "%s      - [", title);
            sp_text_quote(t, s->op);
            sp_text_add(t, ", %s", sp_kind_name(kind));
            for (int f = 0; f < 4; f++) {
                sp_text_add(t, ", ");
                sp_text_digits(t, expm1(s->at[f]), 5);
            }
            sp_text_add(t, ", ");
            sp_text_digits(t, s->factor, 4);
            sp_text_add(t, "]\n");
            title = "";
        }
    }
}

static void put_mode(sp_text *t, const sp_platform *p, const sp_platform_mode *m)
{
    put_text(t, "  - ", "name", m->name);
    put(t, "    ", "idle_watts", sp_platform_idle_watts(p, &m->state));
    put(t, "    ", "memory_clock", m->state.memory_clock);
    for (int what = 0; what < 2; what++) {
        sp_text_add(t, "    %s: [", what ? "units" : "clocks");
        for (uint32_t d = 0; d < p->device_count; d++) {
            sp_text_add(t, "%s", d ? ", " : "");
            sp_text_number(t, what ? m->state.device[d].units : m->state.device[d].clock);
        }
        sp_text_add(t, "]\n");
    }
}

void sp_platform_write(const sp_platform *p, sp_text *t)
{
    sp_text_add(t, "format: %s\nversion: %d\n", FORMAT, VERSION);
    put_text(t, "", "name", p->name);
    put_text(t, "", "description", p->description);
    put(t, "", "idle_watts", p->idle_watts);
    put(t, "", "dispatch_watts", p->dispatch_watts);
    sp_text_add(t, "shared_link: %s\nmemory:\n", p->shared_link ? "true" : "false");
    put(t, "  ", "shared_gbs", p->memory_bandwidth * 1e-9);
    put(t, "  ", "knee", p->contention_knee);
    put(t, "  ", "contention", p->contention);
    put(t, "  ", "pj_per_byte", p->joules_per_byte * 1e12);
    sp_text_add(t, "noise:\n");
    put(t, "  ", "sigma", p->noise_sigma);
    put(t, "  ", "spike_probability", p->spike_probability);
    put(t, "  ", "spike_factor", p->spike_factor);
    sp_text_add(t, "thermal:\n");
    put(t, "  ", "ambient_c", p->ambient_c);
    put(t, "  ", "c_per_watt", p->c_per_watt);
    put(t, "  ", "seconds", p->thermal_s);
    put(t, "  ", "limit_c", p->limit_c);
    put(t, "  ", "throttled_clock", p->throttled_clock);
    sp_text_add(t, "devices:\n");
    for (uint32_t d = 0; d < p->device_count; d++) {
        put_device(t, &p->devices[d]);
        put_samples(t, p, &p->devices[d]);
    }
    sp_text_add(t, p->link_count ? "links:\n" : "links: []\n");
    for (uint32_t i = 0; i < p->link_count; i++) {
        const sp_platform_link *l = &p->links[i];
        put_text(t, "  - ", "from", p->devices[l->from].name);
        put_text(t, "    ", "to", p->devices[l->to].name);
        put(t, "    ", "eager_us", l->fixed_ns[0] * 1e-3);
        put(t, "    ", "graph_us", l->fixed_ns[1] * 1e-3);
        put(t, "    ", "bandwidth_gbs", l->bandwidth * 1e-9);
        put(t, "    ", "mapped_us", l->mapped_ns * 1e-3);
        put(t, "    ", "mapped_gbs", l->mapped_bandwidth * 1e-9);
    }
    sp_text_add(t, p->mode_count ? "modes:\n" : "modes: []\n");
    for (uint32_t i = 0; i < p->mode_count; i++) put_mode(t, p, &p->modes[i]);
}
