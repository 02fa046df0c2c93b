/* Profiles as YAML and JSON. The fields of a node are one table, which the schema hash covers. */
#include <math.h>

#include "base/file.h"
#include "ops/op.h"
#include "profile/profile_parts.h"

uint64_t sp_profile_schema_hash(void)
{
    static const char fields[] = "op kind"
#define X(field, member, least) " " #field
        SP_NODE_FIELDS(X)
#undef X
        ;
    uint64_t h = 0xcbf29ce484222325u + SP_PROFILE_VERSION; /* FNV-1a */
    for (const char *c = fields; *c; c++) h = (h ^ (unsigned char)*c) * 0x100000001b3u;
    return h;
}

/* JSON is YAML whose keys and words are in quotes; `q` is the quote or nothing. */
static void put_number(sp_text *t, const char *q, const char *key, double value)
{
    sp_text_add(t, ", %s%s%s: ", q, key, q);
    sp_text_number(t, value);
}

static void put_times(sp_text *t, const char *q, const char *key, const double *ns, uint32_t count)
{
    sp_text_add(t, ", %s%s%s: [", q, key, q);
    for (uint32_t d = 0; d < count; d++) {
        sp_text_add(t, "%s", d ? ", " : "");
        sp_text_number(t, ns[d] * 1e-3);
    }
    sp_text_add(t, "]");
}

static void put_node(sp_text *t, const sp_profile *p, const sp_profile_node *n, const char *q)
{
    sp_text_add(t, "{%sname%s: ", q, q);
    sp_text_quote(t, n->name);
    sp_text_add(t, ", %sop%s: ", q, q);
    sp_text_quote(t, n->op);
    sp_text_add(t, ", %sclass%s: %s%s%s, %skind%s: %s%s%s", q, q, q, sp_class_name(n->op_class), q,
                q, q, q, sp_kind_name(n->kind), q);
    if (n->variant) sp_text_add(t, ", %svariant%s: %s%s%s", q, q, q, n->variant, q);
#define X(field, member, least) put_number(t, q, #field, n->member);
    SP_NODE_FIELDS(X)
#undef X
    sp_text_add(t, ", %sreads%s: [", q, q);
    for (uint32_t k = 0; k < n->n_in; k++)
        sp_text_add(t, "%s%u", k ? ", " : "", p->reads[n->first_in + k]);
    sp_text_add(t, "], %swrites%s: %u", q, q, n->n_out);
    if (p->device_count) {
        put_times(t, q, "measured_us", n->measured_ns, p->device_count);
        put_times(t, q, "spread_us", n->spread_ns, p->device_count);
    }
    sp_text_add(t, "}");
}

void sp_profile_put_value(sp_text *t, const sp_profile_value *v, const char *q)
{
    sp_text_add(t, "{%sname%s: ", q, q);
    sp_text_quote(t, v->name);
    put_number(t, q, "bytes", v->bytes);
    if (v->producer == SP_PROFILE_INPUT) sp_text_add(t, ", %sinput%s: true", q, q);
    if (v->output) sp_text_add(t, ", %soutput%s: true", q, q);
    sp_text_add(t, "}");
}

static void put_devices(sp_text *t, const sp_profile *p)
{
    for (uint32_t d = 0; d < p->device_count; d++) {
        sp_text_add(t, "%s", d ? ", " : "");
        sp_text_quote(t, p->devices[d]);
    }
}

void sp_profile_write(const sp_profile *p, sp_text *t)
{
    sp_text_add(t, "format: %s\nversion: %d\nschema: \"%016llx\"\nmodel: ", SP_PROFILE_FORMAT,
                SP_PROFILE_VERSION, (unsigned long long)sp_profile_schema_hash());
    sp_text_quote(t, p->model);
    sp_text_add(t, "\nregime: %s\ndevices: [", sp_regime_name(p->regime));
    put_devices(t, p);
    sp_text_add(t, "]\nvalues:%s\n", p->value_count ? "" : " []");
    for (uint32_t i = 0; i < p->value_count; i++) {
        sp_text_add(t, "  - ");
        sp_profile_put_value(t, &p->values[i], "");
        sp_text_add(t, "\n");
    }
    sp_text_add(t, "nodes:%s\n", p->node_count ? "" : " []");
    for (uint32_t i = 0; i < p->node_count; i++) {
        sp_text_add(t, "  - ");
        put_node(t, p, &p->nodes[i], "");
        sp_text_add(t, "\n");
    }
}

void sp_profile_write_json(const sp_profile *p, sp_text *t)
{
    sp_text_add(t, "{\"format\": \"%s\", \"version\": %d, \"schema\": \"%016llx\",\n\"model\": ",
                SP_PROFILE_FORMAT, SP_PROFILE_VERSION,
                (unsigned long long)sp_profile_schema_hash());
    sp_text_quote(t, p->model);
    sp_text_add(t, ", \"regime\": \"%s\", \"devices\": [", sp_regime_name(p->regime));
    put_devices(t, p);
    sp_text_add(t, "],\n\"values\": [");
    for (uint32_t i = 0; i < p->value_count; i++) {
        sp_text_add(t, i ? ",\n" : "\n");
        sp_profile_put_value(t, &p->values[i], "\"");
    }
    sp_text_add(t, "],\n\"nodes\": [");
    for (uint32_t i = 0; i < p->node_count; i++) {
        sp_text_add(t, i ? ",\n" : "\n");
        put_node(t, p, &p->nodes[i], "\"");
    }
    sp_text_add(t, "]}\n");
}

/* ---- reading ---- */

static int kind_named(sp_yaml_reader *r, const sp_yaml_node *map, const char *key, int count)
{
    const sp_yaml_node *n = sp_yaml_child(r, map, key, SP_YAML_TEXT, true);
    for (int k = 0; n && k < count; k++)
        if (strcmp(sp_kind_name(k), n->text) == 0) return k;
    sp_yaml_fault(r, n, SPAROA_MALFORMED, "no such %s of operator", key);
    return SPAROA_CLASS_OTHER;
}

static void read_value(sp_yaml_reader *r, const sp_yaml_node *n, sp_profile *p, uint32_t index)
{
    sp_profile_value *v = &p->values[index];
    sp_yaml_only(r, n, "name|bytes|input|output");
    v->name = sp_arena_strdup(&p->arena, sp_yaml_string(r, n, "name", true));
    v->bytes = sp_yaml_number(r, n, "bytes", 0, 1e15);
    v->output = sp_yaml_flag_or(r, n, "output", false);
    v->producer = SP_PROFILE_INPUT;
    bool input = sp_yaml_flag_or(r, n, "input", false);
    if (input && index != p->value_count)
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "inputs must come first");
    if (input) p->value_count = index + 1; /* values that are written so far */
    if (!v->name) r->status = sp_no_memory(&p->alloc, 64, r->err);
}

static void read_edges(sp_yaml_reader *r, const sp_yaml_node *n, sp_profile *p, uint32_t index,
                       uint32_t values)
{
    sp_profile_node *to = &p->nodes[index];
    const sp_yaml_node *reads = sp_yaml_child(r, n, "reads", SP_YAML_LIST, true);
    to->first_in = p->read_count;
    for (const sp_yaml_node *v = reads ? reads->first : NULL; v && r->status == SPAROA_OK;
         v = v->next) {
        double x = sp_yaml_value(r, v, 0, 4e9);
        if (x != floor(x) || x >= p->value_count)
            sp_yaml_fault(r, v, SPAROA_MALFORMED, "value %g is not written before this node", x);
        else
            p->reads[p->read_count++] = (uint32_t)x;
    }
    to->n_in = p->read_count - to->first_in;
    double writes = sp_yaml_number(r, n, "writes", 0, 4e9);
    if (r->status != SPAROA_OK) return;
    if (writes != floor(writes) || writes > values - p->value_count) {
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "it writes %g values, %u are left", writes,
                      values - p->value_count);
        return;
    }
    to->first_out = p->value_count;
    to->n_out = (uint32_t)writes;
    for (uint32_t k = 0; k < to->n_out; k++) p->values[p->value_count++].producer = index;
}

/* One number of microseconds for each device. */
static void read_times(sp_yaml_reader *r, const sp_yaml_node *n, const char *key, uint32_t devices,
                       double *ns)
{
    const sp_yaml_node *list = sp_yaml_child(r, n, key, SP_YAML_LIST, false);
    if (list && list->count != devices)
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "expected one number for each device");
    for (const sp_yaml_node *v = list ? list->first : NULL; v && r->status == SPAROA_OK;
         v = v->next)
        *ns++ = 1e3 * sp_yaml_value(r, v, 0, 1e12);
}

static void read_node(sp_yaml_reader *r, const sp_yaml_node *n, sp_profile *p, uint32_t index,
                      uint32_t values)
{
    sp_profile_node *to = &p->nodes[index];
    to->name = sp_arena_strdup(&p->arena, sp_yaml_string(r, n, "name", true));
    to->op = sp_arena_strdup(&p->arena, sp_yaml_string(r, n, "op", true));
    if (!to->name || !to->op) r->status = sp_no_memory(&p->alloc, 64, r->err);
    const sp_yaml_node *variant = sp_yaml_child(r, n, "variant", SP_YAML_TEXT, false);
    if (variant && !(to->variant = sp_profile_variant(variant->text)))
        sp_yaml_fault(r, variant, SPAROA_MALFORMED, "expected rows or mixed, or rows0 to mixed12");
    to->op_class = (sparoa_op_class)kind_named(r, n, "class", SPAROA_CLASS_COUNT);
    to->kind = kind_named(r, n, "kind", SP_KIND_COUNT);
#define X(field, member, least) to->member = sp_yaml_number(r, n, #field, least, 1e18);
    SP_NODE_FIELDS(X)
#undef X
    if (to->weight_zeros > 1 || to->input_zeros > 1 || to->output_zeros > 1)
        sp_yaml_fault(r, n, SPAROA_MALFORMED, "a share of zeros is above 1");
    read_times(r, n, "measured_us", p->device_count, to->measured_ns);
    read_times(r, n, "spread_us", p->device_count, to->spread_ns);
    read_edges(r, n, p, index, values);
}

static uint32_t count_reads(const sp_yaml_node *nodes)
{
    uint32_t count = 0;
    for (const sp_yaml_node *n = nodes->first; n; n = n->next)
        for (const sp_yaml_node *f = n->first; f; f = f->next)
            if (f->kind == SP_YAML_LIST) count += f->count;
    return count;
}

static void read_head(sp_yaml_reader *r, const sp_yaml_node *root, sp_profile *p)
{
    sp_yaml_header(r, root, SP_PROFILE_FORMAT, SP_PROFILE_VERSION);
    sp_yaml_only(r, root, "format|version|schema|model|regime|devices|values|nodes");
    char hash[20];
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)sp_profile_schema_hash());
    const char *schema = sp_yaml_string(r, root, "schema", true);
    if (r->status == SPAROA_OK && strcmp(schema, hash))
        sp_yaml_fault(r, sp_yaml_get(r, root, "schema", true), SPAROA_UNSUPPORTED_VERSION,
                      "schema '%.40s', this library has '%s'", schema, hash);
    const char *regime = sp_yaml_string(r, root, "regime", true);
    p->regime = strcmp(regime, "eager") == 0 ? SP_REGIME_EAGER : SP_REGIME_GRAPH;
    if (r->status == SPAROA_OK && strcmp(regime, sp_regime_name(p->regime)))
        sp_yaml_fault(r, sp_yaml_get(r, root, "regime", true), SPAROA_MALFORMED,
                      "expected eager or graph");
    const sp_yaml_node *list = sp_yaml_child(r, root, "devices", SP_YAML_LIST, false);
    if (list && list->count > SP_PLATFORM_DEVICES)
        sp_yaml_fault(r, list, SPAROA_MALFORMED, "at most %d devices", SP_PLATFORM_DEVICES);
    for (const sp_yaml_node *n = list ? list->first : NULL; n && r->status == SPAROA_OK;
         n = n->next)
        if (n->kind == SP_YAML_TEXT)
            snprintf(p->devices[p->device_count++], sizeof p->devices[0], "%s", n->text);
        else
            sp_yaml_fault(r, n, SPAROA_MALFORMED, "expected a name");
}

static void read_profile(sp_yaml_reader *r, const sp_yaml_node *root, sp_profile *p)
{
    read_head(r, root, p);
    const sp_yaml_node *values = sp_yaml_child(r, root, "values", SP_YAML_LIST, true);
    const sp_yaml_node *nodes = sp_yaml_child(r, root, "nodes", SP_YAML_LIST, true);
    if (r->status != SPAROA_OK) return;
    p->model = sp_arena_strdup(&p->arena, sp_yaml_string(r, root, "model", true));
    p->nodes = sp_arena_alloc(&p->arena, (nodes->count + 1) * sizeof *p->nodes);
    p->values = sp_arena_alloc(&p->arena, (values->count + 1) * sizeof *p->values);
    p->reads = sp_arena_alloc(&p->arena, (count_reads(nodes) + 1) * sizeof *p->reads);
    if (!p->model || !p->nodes || !p->values || !p->reads) {
        r->status = sp_no_memory(&p->alloc, nodes->count * sizeof *p->nodes, r->err);
        return;
    }
    uint32_t i = 0;
    for (const sp_yaml_node *v = values->first; v && r->status == SPAROA_OK; v = v->next)
        read_value(r, v, p, i++);
    for (const sp_yaml_node *n = nodes->first; n && r->status == SPAROA_OK; n = n->next)
        read_node(r, n, p, p->node_count++, values->count);
    if (r->status == SPAROA_OK && p->value_count != values->count)
        sp_yaml_fault(r, values, SPAROA_MALFORMED, "%u values belong to no node",
                      values->count - p->value_count);
}

static sparoa_status finish(sp_yaml *yaml, const char *what, const sparoa_allocator *alloc,
                            sp_profile **profile, sparoa_error *err)
{
    sp_yaml_reader r = {.what = what, .err = err};
    sp_profile *p = sp_calloc(alloc, 1, sizeof *p);
    if (p) {
        p->alloc = *alloc;
        sp_arena_init(&p->arena, alloc);
        read_profile(&r, sp_yaml_root(yaml), p);
    } else {
        r.status = sp_no_memory(alloc, sizeof *p, err);
    }
    if (r.status == SPAROA_OK)
        *profile = p;
    else
        sp_profile_destroy(p);
    sp_yaml_destroy(yaml);
    return r.status;
}

static sparoa_status parse_csv(const sparoa_allocator *alloc, const char *what, const void *data,
                               size_t size, sp_profile **profile, sparoa_error *err)
{
    sp_text text;
    sp_yaml *yaml = NULL;
    sp_text_init(&text, alloc);
    sparoa_status status = sp_profile_csv_to_json(what, data, size, &text, err);
    if (status == SPAROA_OK) status = sp_yaml_parse(alloc, what, text.data, text.size, &yaml, err);
    sp_text_free(&text);
    return status == SPAROA_OK ? finish(yaml, what, alloc, profile, err) : status;
}

sparoa_status sp_profile_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                               size_t size, sp_profile **profile, sparoa_error *err)
{
    sp_yaml *yaml;
    if (sp_profile_is_csv(data, size)) return parse_csv(alloc, what, data, size, profile, err);
    sparoa_status status = sp_yaml_parse(alloc, what, data, size, &yaml, err);
    return status == SPAROA_OK ? finish(yaml, what, alloc, profile, err) : status;
}

sparoa_status sp_profile_load(const sparoa_allocator *alloc, const char *path, sp_profile **profile,
                              sparoa_error *err)
{
    char *data;
    size_t size;
    sparoa_status status = sp_file_read(alloc, path, SP_YAML_BYTES, &data, &size, err);
    if (status != SPAROA_OK) return status;
    status = sp_profile_parse(alloc, sp_file_name(path), data, size, profile, err);
    sp_free(alloc, data, size + 1);
    return status;
}
