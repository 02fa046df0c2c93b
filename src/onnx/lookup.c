/* What operators mean: versions, functions of the model, rows of the library. */
#include <string.h>

#include "onnx/internal.h"

#define MAX_LISTED 256 /* different unsupported operators that are counted one by one */

static const char *canonical(const char *domain)
{
    return !domain || strcmp(domain, "ai.onnx") == 0 ? "" : domain;
}

static int64_t import_of(SpOnnx__OperatorSetIdProto *const *imports, size_t count,
                         const char *domain)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(canonical(imports[i]->domain), domain) == 0) return imports[i]->version;
    return 0;
}

static const onnx_function *find_function(const sp_onnx *x, const onnx_node *node)
{
    for (size_t i = 0; i < x->model->n_functions; i++) {
        const onnx_function *f = x->model->functions[i];
        if (strcmp(sp_str(f->name), sp_str(node->op_type)) == 0 &&
            strcmp(canonical(f->domain), canonical(node->domain)) == 0 &&
            strcmp(sp_str(f->overload), sp_str(node->overload)) == 0)
            return f;
    }
    return NULL;
}

sp_target sp_onnx_lookup(const sp_onnx *x, const onnx_function *within, const onnx_node *node)
{
    sp_target t = {.function = find_function(x, node)};
    const char *domain = canonical(node->domain);
    int64_t version = within ? import_of(within->opset_import, within->n_opset_import, domain) : 0;
    if (version == 0) version = import_of(x->model->opset_import, x->model->n_opset_import, domain);
    if (version == 0) version = 1; /* a domain that the file doesn't list */
    t.version = version < 0 || version > INT32_MAX ? 0 : (int32_t)version;
    if (!t.function && t.version > 0)
        t.op = sp_op_find(domain, sp_str(node->op_type), t.version, x->extra_ops, x->extra_count);
    return t;
}

bool sp_onnx_is_constant(const sp_onnx *x, const onnx_function *within, const onnx_node *node)
{
    return *canonical(node->domain) == '\0' && strcmp(sp_str(node->op_type), "Constant") == 0 &&
           !find_function(x, node);
}

sparoa_status sp_onnx_check_versions(sp_onnx *x)
{
    const onnx_model *m = x->model;
    if (m->ir_version < 3)
        return sparoa_fail(x->err, SPAROA_UNSUPPORTED_VERSION, NULL,
                           "the model has IR version %lld, expected 3 or newer; export it again "
                           "with a current exporter",
                           (long long)m->ir_version);
    for (size_t i = 0; i < m->n_opset_import; i++) {
        int64_t v = m->opset_import[i]->version;
        if (v < 1 || v > INT32_MAX)
            return sparoa_fail(
                x->err, SPAROA_UNSUPPORTED_VERSION, NULL,
                "opset version %lld of domain '%.80s' is not supported, expected 1 or more",
                (long long)v, sp_str(m->opset_import[i]->domain));
    }
    if (m->n_opset_import == 0)
        return sparoa_fail(
            x->err, SPAROA_UNSUPPORTED_VERSION, NULL,
            "the model lists no operator set; expected opset_import with at least ai.onnx");
    size_t most = m->n_opset_import;
    for (size_t i = 0; i < m->n_functions; i++) {
        if (m->functions[i]->n_attribute_proto > most) most = m->functions[i]->n_attribute_proto;
        if (m->functions[i]->n_opset_import > most) most = m->functions[i]->n_opset_import;
    }
    if (most > SP_ONNX_MAX_ENTRIES)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "the model or a function lists %zu operator sets or attributes, at most "
                           "%d are supported",
                           most, SP_ONNX_MAX_ENTRIES);
    if (m->n_functions > SP_ONNX_MAX_FUNCTIONS)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "the model has %zu functions, at most %d are supported", m->n_functions,
                           SP_ONNX_MAX_FUNCTIONS);
    return SPAROA_OK;
}

/* ---- unsupported operators ---- */

typedef struct missing {
    const onnx_node *node; /* the first */
    int32_t version;
    size_t count;
} missing;

typedef struct survey {
    sp_onnx *x;
    missing list[MAX_LISTED];
    size_t count, others;
    uint8_t *visited; /* by function */
    int depth;
} survey;

static void add_missing(survey *s, const onnx_node *node, int32_t version)
{
    for (size_t i = 0; i < s->count; i++) {
        missing *m = &s->list[i];
        if (m->version == version && strcmp(sp_str(m->node->op_type), sp_str(node->op_type)) == 0 &&
            strcmp(canonical(m->node->domain), canonical(node->domain)) == 0) {
            m->count++;
            return;
        }
    }
    if (s->count < MAX_LISTED)
        s->list[s->count++] = (missing){node, version, 1};
    else
        s->others++;
}

static sparoa_status survey_nodes(survey *s, const onnx_function *within, onnx_node *const *nodes,
                                  size_t count);

static sparoa_status survey_node(survey *s, const onnx_function *within, const onnx_node *node)
{
    sp_onnx *x = s->x;
    sparoa_status status = SPAROA_OK;
    if (!node->op_type || !*node->op_type)
        return sparoa_fail(x->err, SPAROA_INVALID_GRAPH, NULL, "node '%.80s' names no operator",
                           sp_str(node->name));
    if (node->n_attribute > SP_ONNX_MAX_ENTRIES)
        return sparoa_fail(x->err, SPAROA_TOO_LARGE, NULL,
                           "node '%.80s' has %zu attributes, at most %d are supported",
                           sp_str(node->name), node->n_attribute, SP_ONNX_MAX_ENTRIES);
    for (size_t i = 0; i < node->n_attribute && status == SPAROA_OK; i++) {
        const onnx_graph *g = node->attribute[i]->g;
        if (g) status = survey_nodes(s, within, g->node, g->n_node);
    }
    if (status != SPAROA_OK || sp_onnx_is_constant(x, within, node)) return status;
    sp_target t = sp_onnx_lookup(x, within, node);
    if (!t.function && !t.op) add_missing(s, node, t.version);
    if (!t.function) return SPAROA_OK;
    size_t index = 0;
    while (x->model->functions[index] != t.function) index++;
    if (s->visited[index]) return SPAROA_OK;
    s->visited[index] = 1;
    return survey_nodes(s, t.function, t.function->node, t.function->n_node);
}

static sparoa_status survey_nodes(survey *s, const onnx_function *within, onnx_node *const *nodes,
                                  size_t count)
{
    if (++s->depth > SP_ONNX_MAX_NESTING)
        return sparoa_fail(
            s->x->err, SPAROA_TOO_LARGE, NULL,
            "subgraphs and functions are nested deeper than %d, or a function calls itself",
            SP_ONNX_MAX_NESTING);
    sparoa_status status = SPAROA_OK;
    for (size_t i = 0; i < count && status == SPAROA_OK; i++)
        status = survey_node(s, within, nodes[i]);
    s->depth--;
    return status;
}

static sparoa_status report(const survey *s)
{
    char text[330];
    size_t used = 0, shown = 0, total = s->count + (s->others ? 1 : 0);
    text[0] = '\0';
    for (; shown < s->count; shown++) {
        const missing *m = &s->list[shown];
        const char *domain = canonical(m->node->domain);
        char more[40] = "", item[260];
        if (m->count > 1) snprintf(more, sizeof more, " and %zu more", m->count - 1);
        int n =
            snprintf(item, sizeof item, "%s%.60s (%.40s %d) at node '%.60s'%s", shown ? "; " : "",
                     m->node->op_type, *domain ? domain : "ai.onnx", m->version,
                     sp_str(m->node->name)[0] ? m->node->name
                                              : sp_str(m->node->n_output ? m->node->output[0] : ""),
                     more);
        if (n < 0 || used + (size_t)n + 24 > sizeof text) break;
        memcpy(text + used, item, (size_t)n + 1);
        used += (size_t)n;
    }
    if (shown < s->count)
        snprintf(text + used, sizeof text - used, "; and %zu others", s->count - shown + s->others);
    sparoa_status status =
        sparoa_fail(s->x->err, SPAROA_UNSUPPORTED_OP, NULL, "%zu%s operator%s not supported: %s",
                    s->count, s->others ? " or more" : "", total == 1 ? " is" : "s are", text);
    if (s->x->err)
        snprintf(s->x->err->node, sizeof s->x->err->node, "%s", sp_str(s->list[0].node->name));
    return status;
}

sparoa_status sp_onnx_check_ops(sp_onnx *x)
{
    survey *s = sp_arena_alloc(&x->scratch, sizeof *s);
    if (!s) return sp_onnx_oom(x, sizeof *s);
    s->x = x;
    s->visited = sp_arena_alloc(&x->scratch, x->model->n_functions + 1);
    if (!s->visited) return sp_onnx_oom(x, x->model->n_functions);
    const onnx_graph *g = x->model->graph;
    sparoa_status status = survey_nodes(s, NULL, g->node, g->n_node);
    if (status == SPAROA_OK && s->count) status = report(s);
    return status;
}
