/* Plans as YAML. */
#include <math.h>
#include <stdlib.h>

#include "schedule/plan.h"

#define FORMAT "sparoa-plan"
#define VERSION 1

static void put_text(sp_text *t, const char *key, const char *value)
{
    sp_text_add(t, "%s: ", key);
    sp_text_quote(t, value);
    sp_text_add(t, "\n");
}

static void put(sp_text *t, const char *before, double value)
{
    sp_text_add(t, "%s", before);
    sp_text_number(t, value);
}

static void put_node(sp_text *t, const sp_plan *p, const sp_plan_node *n)
{
    sp_text_add(t, "  - {name: ");
    sp_text_quote(t, n->name);
    sp_text_add(t, ", op: ");
    sp_text_quote(t, n->op);
    sp_text_add(t, ", device: ");
    sp_text_quote(t, p->devices[n->device]);
    sp_text_add(t, ", reason: %s, us: [", sp_reason_name((sp_reason)n->reason));
    for (uint32_t d = 0; d < p->device_count; d++) {
        if (d) sp_text_add(t, ", ");
        if (n->time_ns[d] < 0)
            sp_text_add(t, "null");
        else
            sp_text_number(t, n->time_ns[d] * 1e-3);
    }
    put(t, "], start_us: ", n->start_ns * 1e-3);
    put(t, ", finish_us: ", n->finish_ns * 1e-3);
    put(t, ", transfer_us: ", n->transfer_ns * 1e-3);
    if (n->share > 0) {
        sp_text_add(t, ", split: {device2: ");
        sp_text_quote(t, p->devices[n->second]);
        sp_text_add(t, ", axis: %s", sp_split_axis_name((sp_split_axis)n->axis));
        put(t, ", share: ", n->share);
        sp_text_add(t, "}");
    }
    sp_text_add(t, "}\n");
}

void sp_plan_write(const sp_plan *p, sp_text *t)
{
    sp_text_add(t, "format: %s\nversion: %d\n", FORMAT, VERSION);
    put_text(t, "model", p->model);
    put_text(t, "platform", p->platform);
    sp_text_add(t, "regime: %s\n", p->regime);
    put_text(t, "policy", p->policy);
    sp_text_add(t, "objective: %s\nseed: %llu\noptimal: %s\n", p->objective,
                (unsigned long long)p->seed, p->optimal ? "true" : "false");
    sp_text_add(t, "predicted:\n");
    put(t, "  latency_us: ", p->price.makespan_ns * 1e-3);
    put(t, "\n  lower_bound_us: ", p->lower_bound_ns * 1e-3);
    put(t, "\n  energy_mj: ", p->price.energy_j * 1e3);
    put(t, "\n  transfer_us: ", p->price.transfer_ns * 1e-3);
    put(t, "\n  exposed_us: ", p->price.exposed_ns * 1e-3);
    sp_text_add(t, "\n  copies: %u\n  segments: %u\ndevices:\n", p->price.copies,
                p->price.segments);
    for (uint32_t d = 0; d < p->device_count; d++) {
        sp_text_add(t, "  - {name: ");
        sp_text_quote(t, p->devices[d]);
        put(t, ", busy_us: ", p->price.busy_ns[d] * 1e-3);
        put(t, ", flops: ", p->price.flops[d]);
        sp_text_add(t, ", nodes: %u", p->price.nodes[d]);
        if (p->clock[d] < 1) put(t, ", clock: ", p->clock[d]);
        sp_text_add(t, "}\n");
    }
    sp_text_add(t, "nodes:%s\n", p->node_count ? "" : " []");
    for (uint32_t i = 0; i < p->node_count; i++) put_node(t, p, &p->nodes[i]);
}

/* ---- reading ---- */

static const char *copy_text(sp_yaml_reader *r, const sp_yaml_node *map, const char *key,
                             sp_plan *p)
{
    const char *text = sp_arena_strdup(&p->arena, sp_yaml_string(r, map, key, true));
    if (!text && r->status == SPAROA_OK) r->status = sp_no_memory(&p->alloc, 64, r->err);
    return text ? text : "";
}

static void one_of(sp_yaml_reader *r, const sp_yaml_node *root, const char *key,
                   const char *const *words)
{
    const sp_yaml_node *n = sp_yaml_child(r, root, key, SP_YAML_TEXT, true);
    for (; n && *words; words++)
        if (strcmp(n->text, *words) == 0) return;
    if (n) sp_yaml_fault(r, n, SPAROA_MALFORMED, "'%.40s' is not known", n->text);
}

static uint32_t whole(sp_yaml_reader *r, const sp_yaml_node *map, const char *key)
{
    double x = sp_yaml_number(r, map, key, 0, 4e9);
    if (x != floor(x))
        sp_yaml_fault(r, sp_yaml_get(r, map, key, true), SPAROA_MALFORMED,
                      "expected a whole number");
    return (uint32_t)x;
}

static void read_head(sp_yaml_reader *r, const sp_yaml_node *root, sp_plan *p)
{
    static const char *const regimes[] = {"eager", "graph", NULL};
    static const char *const objectives[] = {"latency", "energy", "product", NULL};
    sp_yaml_header(r, root, FORMAT, VERSION);
    sp_yaml_only(r, root,
                 "format|version|model|platform|regime|policy|objective|seed|optimal|predicted|"
                 "devices|nodes");
    p->model = copy_text(r, root, "model", p);
    p->platform = copy_text(r, root, "platform", p);
    p->policy = copy_text(r, root, "policy", p);
    one_of(r, root, "regime", regimes);
    one_of(r, root, "objective", objectives);
    p->regime = copy_text(r, root, "regime", p);
    p->objective = copy_text(r, root, "objective", p);
    const sp_yaml_node *seed = sp_yaml_child(r, root, "seed", SP_YAML_TEXT, true);
    if (seed && (!seed->text[0] || strlen(seed->text) > 20 ||
                 strspn(seed->text, "0123456789") != strlen(seed->text)))
        sp_yaml_fault(r, seed, SPAROA_MALFORMED, "expected a whole number");
    else if (seed)
        p->seed = strtoull(seed->text, NULL, 10);
    p->optimal = sp_yaml_flag_or(r, root, "optimal", false);
    const sp_yaml_node *m = sp_yaml_child(r, root, "predicted", SP_YAML_MAP, true);
    if (m)
        sp_yaml_only(r, m,
                     "latency_us|lower_bound_us|energy_mj|transfer_us|exposed_us|copies|segments");
    p->price.makespan_ns = 1e3 * sp_yaml_number(r, m, "latency_us", 0, 1e15);
    p->lower_bound_ns = 1e3 * sp_yaml_number(r, m, "lower_bound_us", 0, 1e15);
    p->price.energy_j = 1e-3 * sp_yaml_number(r, m, "energy_mj", 0, 1e15);
    p->price.transfer_ns = 1e3 * sp_yaml_number(r, m, "transfer_us", 0, 1e15);
    p->price.exposed_ns = 1e3 * sp_yaml_number(r, m, "exposed_us", 0, 1e15);
    p->price.copies = whole(r, m, "copies");
    p->price.segments = whole(r, m, "segments");
}

static void read_device(sp_yaml_reader *r, const sp_yaml_node *n, sp_plan *p, uint32_t d)
{
    sp_yaml_only(r, n, "name|busy_us|flops|nodes|clock");
    const char *name = sp_yaml_string(r, n, "name", true);
    if (!*name || strlen(name) >= sizeof p->devices[d])
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected a name of 1..31 characters");
    else
        snprintf(p->devices[d], sizeof p->devices[d], "%s", name);
    for (uint32_t k = 0; k < d; k++)
        if (strcmp(p->devices[k], p->devices[d]) == 0)
            sp_yaml_fault(r, n, SPAROA_MALFORMED, "a second device of that name");
    p->price.busy_ns[d] = 1e3 * sp_yaml_number(r, n, "busy_us", 0, 1e15);
    p->price.flops[d] = sp_yaml_number(r, n, "flops", 0, 1e18);
    p->price.nodes[d] = whole(r, n, "nodes");
    p->clock[d] = sp_yaml_number_or(r, n, "clock", 1e-4, 1, 1);
}

static uint8_t find_device(sp_yaml_reader *r, const sp_yaml_node *name, const sp_plan *p)
{
    uint8_t d = 0;
    while (d < p->device_count && strcmp(p->devices[d], name->text)) d++;
    if (d == p->device_count)
        sp_yaml_fault(r, name, SPAROA_MALFORMED, "there is no device '%.60s'", name->text);
    return d;
}

static void read_split(sp_yaml_reader *r, const sp_yaml_node *split, const sp_plan *p,
                       sp_plan_node *to)
{
    sp_yaml_only(r, split, "device2|axis|share");
    const sp_yaml_node *device = sp_yaml_child(r, split, "device2", SP_YAML_TEXT, true);
    const sp_yaml_node *axis = sp_yaml_child(r, split, "axis", SP_YAML_TEXT, true);
    to->share = sp_yaml_number(r, split, "share", 0.001, 0.999);
    if (r->status != SPAROA_OK) return;
    to->second = find_device(r, device, p);
    if (to->second == to->device)
        sp_yaml_fault(r, device, SPAROA_MALFORMED, "expected a device other than the node's");
    for (to->axis = SP_SPLIT_CHANNELS; to->axis < SP_SPLIT_COUNT; to->axis++)
        if (strcmp(sp_split_axis_name((sp_split_axis)to->axis), axis->text) == 0) return;
    sp_yaml_fault(r, axis, SPAROA_MALFORMED, "'%.40s' is not channels, rows or batch", axis->text);
}

static void read_node(sp_yaml_reader *r, const sp_yaml_node *n, sp_plan *p, sp_plan_node *to)
{
    sp_yaml_only(r, n, "name|op|device|reason|us|start_us|finish_us|transfer_us|split");
    to->name = copy_text(r, n, "name", p);
    to->op = copy_text(r, n, "op", p);
    const sp_yaml_node *device = sp_yaml_child(r, n, "device", SP_YAML_TEXT, true);
    const sp_yaml_node *reason = sp_yaml_child(r, n, "reason", SP_YAML_TEXT, true);
    if (r->status != SPAROA_OK) return;
    to->device = find_device(r, device, p);
    while (to->reason < SP_REASON_COUNT &&
           strcmp(sp_reason_name((sp_reason)to->reason), reason->text))
        to->reason++;
    if (to->reason == SP_REASON_COUNT)
        sp_yaml_fault(r, reason, SPAROA_MALFORMED, "'%.60s' is no reason", reason->text);
    const sp_yaml_node *us = sp_yaml_child(r, n, "us", SP_YAML_LIST, true);
    if (us && us->count != p->device_count)
        sp_yaml_fault(r, us, SPAROA_MALFORMED, "expected one number for each device");
    uint32_t d = 0;
    for (const sp_yaml_node *v = us ? us->first : NULL; v && r->status == SPAROA_OK; v = v->next) {
        bool none = v->kind == SP_YAML_TEXT && strcmp(v->text, "null") == 0;
        to->time_ns[d++] = none ? -1 : 1e3 * sp_yaml_value(r, v, 0, 1e15);
    }
    to->start_ns = 1e3 * sp_yaml_number(r, n, "start_us", 0, 1e15);
    to->finish_ns = 1e3 * sp_yaml_number(r, n, "finish_us", 0, 1e15);
    to->transfer_ns = 1e3 * sp_yaml_number(r, n, "transfer_us", 0, 1e15);
    const sp_yaml_node *split = sp_yaml_child(r, n, "split", SP_YAML_MAP, false);
    if (split) read_split(r, split, p, to);
    if (r->status == SPAROA_OK && !sp_plan_label(p, to))
        r->status = sp_no_memory(&p->alloc, 96, r->err);
}

static void read_plan(sp_yaml_reader *r, const sp_yaml_node *root, sp_plan *p)
{
    read_head(r, root, p);
    const sp_yaml_node *devices = sp_yaml_child(r, root, "devices", SP_YAML_LIST, true);
    const sp_yaml_node *nodes = sp_yaml_child(r, root, "nodes", SP_YAML_LIST, true);
    if (devices && (!devices->count || devices->count > SP_ENV_DEVICES))
        sp_yaml_fault(r, devices, SPAROA_MALFORMED, "expected 1..%d devices", SP_ENV_DEVICES);
    if (r->status != SPAROA_OK) return;
    for (const sp_yaml_node *n = devices->first; n && r->status == SPAROA_OK; n = n->next)
        read_device(r, n, p, p->device_count++);
    p->nodes = sp_arena_alloc(&p->arena, (nodes->count + 1) * sizeof *p->nodes);
    if (!p->nodes) r->status = sp_no_memory(&p->alloc, nodes->count * sizeof *p->nodes, r->err);
    for (const sp_yaml_node *n = nodes->first; n && r->status == SPAROA_OK; n = n->next)
        read_node(r, n, p, &p->nodes[p->node_count++]);
}

static sparoa_status finish(sp_yaml *yaml, const char *what, const sparoa_allocator *alloc,
                            sp_plan **plan, sparoa_error *err)
{
    sp_yaml_reader r = {.what = what, .err = err};
    sp_plan *p = sp_calloc(alloc, 1, sizeof *p);
    if (p) {
        p->alloc = *alloc;
        sp_arena_init(&p->arena, alloc);
        read_plan(&r, sp_yaml_root(yaml), p);
    } else {
        r.status = sp_no_memory(alloc, sizeof *p, err);
    }
    if (r.status == SPAROA_OK)
        *plan = p;
    else
        sp_plan_destroy(p);
    sp_yaml_destroy(yaml);
    return r.status;
}

sparoa_status sp_plan_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                            size_t size, sp_plan **plan, sparoa_error *err)
{
    sp_yaml *yaml;
    sparoa_status status = sp_yaml_parse(alloc, what, data, size, &yaml, err);
    return status == SPAROA_OK ? finish(yaml, what, alloc, plan, err) : status;
}

sparoa_status sp_plan_load(const sparoa_allocator *alloc, const char *path, sp_plan **plan,
                           sparoa_error *err)
{
    sp_yaml *yaml;
    const char *slash = strrchr(path, '/');
    sparoa_status status = sp_yaml_load(alloc, path, &yaml, err);
    return status == SPAROA_OK ? finish(yaml, slash ? slash + 1 : path, alloc, plan, err) : status;
}
