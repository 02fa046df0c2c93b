#include <stdio.h>
#include <string.h>

#include "graph/infer.h"
#include "graph/passes.h"
#include "ops/op.h"

const sp_pass sp_pass_table[] = {
    {"simplify", sp_pass_simplify,
     "drops nodes that do nothing, shares equal ones, folds padding into Conv", false},
    {"quantize", sp_pass_quantize,
     "makes one 8-bit operator of dequantise, float operator, quantise", false},
    {"fold", sp_pass_fold, "works out nodes whose inputs are constant", false},
    {"pattern", sp_pass_pattern,
     "recognises activations, normalisations and pools that are spelled out, merges moves of data",
     false},
    {"attention", sp_pass_attention, "recognises attention that is spelled out", false},
    {"qkv", sp_pass_qkv,
     "lets attention read queries, keys and values out of the product that makes them", false},
    {"scale", sp_pass_scale, "folds batch normalisation and scaling into weights", false},
    {"fuse", sp_pass_fuse, "makes bias, residual and activation part of Conv, Gemm and MatMul",
     false},
    {"layout", sp_pass_layout, "stores images with the channel last", false},
    {"window", sp_pass_window,
     "makes one Gather of several moves that put rows into another order: windows, rolled images",
     false},
    {"half", sp_pass_half, "lets operators work on float16 (session option precision)", true},
    {"tf32", sp_pass_tf32, "lets products round their operands to TF32 (session option precision)",
     true},
    {"chain", sp_pass_chain, "makes one operator of element-wise ones that follow each other",
     true},
    {"clean", sp_pass_clean, "simplifies what the passes before left", false},
    {"dce", sp_pass_dce, "drops nodes whose outputs nobody uses", false},
    {NULL, NULL, NULL, false},
};

const char *sparoa_pass_name(size_t index)
{
    return index < sizeof sp_pass_table / sizeof *sp_pass_table - 1 ? sp_pass_table[index].name
                                                                    : NULL;
}

/* Whether the list names the pass; sign: with a + in front. */
static bool in_list(const char *list, const char *name, bool sign)
{
    size_t n = strlen(name);
    for (const char *at = list; at && *at;) {
        size_t length = strcspn(at, ",");
        bool plus = *at == '+';
        if (plus == sign && length == n + plus && strncmp(at + plus, name, n) == 0) return true;
        if (!sign && length == 3 && strncmp(at, "all", 3) == 0) return true;
        at += length + (at[length] == ',');
    }
    return false;
}

static sparoa_status check_names(const char *list, sparoa_error *err)
{
    for (const char *at = list; at && *at;) {
        size_t length = strcspn(at, ",");
        bool known = length == 0 || (length == 3 && strncmp(at, "all", 3) == 0);
        size_t plus = *at == '+';
        for (const sp_pass *p = sp_pass_table; p->name; p++)
            if (strlen(p->name) + plus == length && strncmp(p->name, at + plus, length - plus) == 0)
                known = true;
        if (!known)
            return sparoa_fail(
                err, SPAROA_INVALID_ARGUMENT, NULL,
                "disable_passes names '%.*s', which is no pass; sparoa_pass_name lists them",
                (int)(length > 80 ? 80 : length), at);
        at += length + (at[length] == ',');
    }
    return SPAROA_OK;
}

static sparoa_status dump(const sp_graph *graph, const sp_pass_options *o, int step,
                          const char *pass, sparoa_error *err)
{
    char path[1024];
    if (!o->dump_dir) return SPAROA_OK;
    snprintf(path, sizeof path, "%s/%s%02d-%s.txt", o->dump_dir, o->dump_name ? o->dump_name : "",
             step, pass);
    return sp_graph_dump(graph, path, err);
}

/* Branches and loop bodies first; fold looks into them by itself. */
static sparoa_status run_pass(const sp_pass *pass, sp_graph *graph, sparoa_error *err)
{
    for (size_t i = 0; i < graph->node_count && pass->run != sp_pass_fold; i++)
        for (int32_t k = 0; k < graph->nodes[i].n_subgraphs; k++)
            SP_TRY(run_pass(pass, graph->nodes[i].subgraphs[k], err));
    SP_TRY(pass->run(graph, err));
    return sp_graph_compact(graph, err);
}

sparoa_status sp_passes_run(sp_graph *graph, const sp_pass_options *options, sparoa_error *err)
{
    SP_TRY(check_names(options->disabled, err));
    SP_TRY(sp_graph_infer(graph, err));
    SP_TRY(dump(graph, options, 0, "loaded", err));
    int step = 1;
    for (const sp_pass *p = sp_pass_table; p->name; p++, step++) {
        bool enabled = in_list(options->enabled, p->name, false);
        if (!enabled && in_list(options->disabled, p->name, false)) continue;
        if (!enabled && p->default_off && !in_list(options->disabled, p->name, true)) continue;
        size_t before = graph->node_count;
        SP_TRY(run_pass(p, graph, err));
        SP_TRY(sp_graph_verify(graph, err));
        SP_TRY(sp_graph_infer(graph, err));
        sp_log_line(options->log, SPAROA_LOG_DEBUG, "pass %s: %zu -> %zu nodes", p->name, before,
                    graph->node_count);
        SP_TRY(dump(graph, options, step, p->name, err));
    }
    return SPAROA_OK;
}

/* ---- dump ---- */

static void print_fact(FILE *f, const sp_value *v)
{
    fprintf(f, "%s:%s", v->name, sparoa_dtype_name(v->fact.dtype));
    if (v->fact.rank < 0) fputs("[...]", f);
    for (int32_t i = 0; i < v->fact.rank; i++)
        fprintf(f, "%s%lld%s", i ? "," : "[", (long long)v->fact.dims[i],
                i + 1 == v->fact.rank ? "]" : "");
    if (v->nhwc) fputs(" nhwc", f);
    if (v->kind == SP_VALUE_CONST) fputs(" const", f);
}

static void print_attr(FILE *f, const sparoa_attr *a)
{
    fprintf(f, " %s=", a->name);
    switch (a->type) {
    case SPAROA_ATTR_INT: fprintf(f, "%lld", (long long)a->v.i); break;
    case SPAROA_ATTR_FLOAT: fprintf(f, "%g", (double)a->v.f); break;
    case SPAROA_ATTR_STRING: fprintf(f, "\"%s\"", a->v.s); break;
    case SPAROA_ATTR_INTS:
        for (size_t i = 0; i < a->count; i++)
            fprintf(f, "%s%lld", i ? "," : "", (long long)a->v.ints[i]);
        break;
    case SPAROA_ATTR_FLOATS:
        for (size_t i = 0; i < a->count && i < 16; i++)
            fprintf(f, "%s%g", i ? "," : "", (double)a->v.floats[i]);
        break;
    default: fprintf(f, "<%zu>", a->count);
    }
}

static void print_graph(FILE *f, const sp_graph *g, int indent)
{
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        fprintf(f, "%*s%s '%s'(", indent, "", n->op_type, n->name);
        for (int32_t k = 0; k < n->n_in; k++) {
            fputs(k ? ", " : "", f);
            if (n->in[k] != SP_NO_ID) print_fact(f, &g->values[n->in[k]]);
        }
        fputs(") ->", f);
        for (int32_t k = 0; k < n->n_out; k++) {
            fputs(" ", f);
            if (n->out[k] != SP_NO_ID) print_fact(f, &g->values[n->out[k]]);
        }
        fputs(" |", f);
        for (int32_t k = 0; k < n->n_attrs; k++) print_attr(f, &n->attrs[k]);
        fputs("\n", f);
        for (int32_t k = 0; k < n->n_subgraphs; k++) print_graph(f, n->subgraphs[k], indent + 4);
    }
}

sparoa_status sp_graph_dump(const sp_graph *graph, const char *path, sparoa_error *err)
{
    FILE *f = fopen(path, "w");
    if (!f)
        return sparoa_fail(err, SPAROA_IO, NULL,
                           "'%.200s' cannot be written; does its folder exist?", path);
    print_graph(f, graph, 0);
    bool ok = !ferror(f);
    return fclose(f) == 0 && ok
               ? SPAROA_OK
               : sparoa_fail(err, SPAROA_IO, NULL, "writing '%.200s' failed", path);
}
