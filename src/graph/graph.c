#include "graph/names.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- blobs ---- */

static sp_blob *blob_new(const sparoa_allocator *alloc)
{
    sp_blob *b = sp_calloc(alloc, 1, sizeof *b);
    if (!b) return NULL;
    atomic_init(&b->refs, 1);
    b->alloc = *alloc;
    return b;
}

sp_blob *sp_blob_create(const sparoa_allocator *alloc, size_t bytes)
{
    sp_blob *b = blob_new(alloc);
    if (!b) return NULL;
    b->bytes = bytes;
    b->data = sp_alloc(alloc, bytes);
    if (b->data) return b;
    sp_free(alloc, b, sizeof *b);
    return NULL;
}

sp_blob *sp_blob_map(const sparoa_allocator *alloc, void *mapping, size_t bytes)
{
    sp_blob *b = blob_new(alloc);
    if (!b) return NULL;
    b->data = mapping;
    b->bytes = bytes;
    b->mapped = true;
    return b;
}

sp_blob *sp_blob_slice(const sparoa_allocator *alloc, sp_blob *owner, size_t offset, size_t bytes)
{
    sp_blob *b = blob_new(alloc);
    if (!b) return NULL;
    b->owner = sp_blob_ref(owner);
    b->data = (char *)owner->data + offset;
    b->bytes = bytes;
    return b;
}

sp_blob *sp_blob_ref(sp_blob *blob)
{
    atomic_fetch_add(&blob->refs, 1);
    return blob;
}

void sp_blob_unref(sp_blob *blob)
{
    if (!blob || atomic_fetch_sub(&blob->refs, 1) != 1) return;
    sparoa_allocator alloc = blob->alloc;
    if (blob->owner)
        sp_blob_unref(blob->owner);
    else if (blob->mapped)
        munmap(blob->data, blob->bytes);
    else
        sp_free(&alloc, blob->data, blob->bytes);
    sp_free(&alloc, blob, sizeof *blob);
}

void sp_blob_idle(const sp_blob *blob)
{
    const sp_blob *root = blob;
    while (root->owner) root = root->owner;
    if (!root->mapped) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)blob->data + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)blob->data + blob->bytes) / page * page;
    if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED);
}

/* A blob of at least that size that nothing else uses: the spare one where it is large enough. */
static sp_blob *blob_from(sp_blob **spare, const sparoa_allocator *alloc, size_t bytes)
{
    sp_blob *b = spare ? *spare : NULL;
    if (spare) *spare = NULL;
    if (b && b->bytes >= bytes) return b;
    sp_blob_unref(b);
    return sp_blob_create(alloc, bytes);
}

sparoa_status sp_graph_align(sp_graph *graph, sp_id value, sp_blob **spare, sparoa_error *err)
{
    if (value == SP_NO_ID) return SPAROA_OK;
    sp_value *v = &graph->values[value];
    size_t element = sparoa_dtype_size(v->fact.dtype);
    if (v->kind != SP_VALUE_CONST || !element || (uintptr_t)v->fact.data % element == 0)
        return SPAROA_OK;
    size_t bytes = sparoa_tensor_bytes(&v->fact);
    sp_blob *copy = blob_from(spare, &graph->arena.alloc, bytes);
    if (!copy) return sp_no_memory(&graph->arena.alloc, bytes, err);
    if (bytes) memcpy(copy->data, v->fact.data, bytes);
    sp_blob_idle(v->blob);
    sp_blob_unref(v->blob);
    v->blob = copy;
    v->fact.data = copy->data;
    return SPAROA_OK;
}

/* ---- graphs ---- */

sp_graph *sp_graph_create(const sparoa_allocator *alloc, const char *name)
{
    sp_graph *g = sp_calloc(alloc, 1, sizeof *g);
    if (!g) return NULL;
    sp_arena_init(&g->arena, alloc);
    g->name = sp_arena_strdup(&g->arena, name);
    if (g->name) return g;
    sp_graph_destroy(g);
    return NULL;
}

void sp_graph_destroy(sp_graph *graph)
{
    if (!graph) return;
    sparoa_allocator alloc = graph->arena.alloc;
    for (size_t i = 0; i < graph->value_count; i++) sp_blob_unref(graph->values[i].blob);
    for (size_t i = 0; i < graph->node_count; i++)
        for (int32_t k = 0; k < graph->nodes[i].n_subgraphs; k++)
            sp_graph_destroy(graph->nodes[i].subgraphs[k]);
    if (graph->names) sp_names_free(graph->names);
    sp_free(&alloc, graph->names, sizeof *graph->names);
    sp_free(&alloc, graph->values, graph->value_capacity * sizeof *graph->values);
    sp_free(&alloc, graph->nodes, graph->node_capacity * sizeof *graph->nodes);
    sp_arena_destroy(&graph->arena);
    sp_free(&alloc, graph, sizeof *graph);
}

sp_id sp_graph_add_value(sp_graph *graph, const char *name, sp_value_kind kind)
{
    char *copy = sp_arena_strdup(&graph->arena, name);
    if (!copy || !sp_grow(&graph->arena.alloc, &graph->values, &graph->value_capacity,
                          graph->value_count + 1, sizeof *graph->values))
        return SP_NO_ID;
    sp_value *v = &graph->values[graph->value_count];
    *v = (sp_value){.name = copy, .producer = SP_NO_ID, .kind = kind, .fact = {.rank = -1}};
    return (sp_id)graph->value_count++;
}

sp_id sp_graph_add_const(sp_graph *graph, const char *name, const sparoa_tensor *fact,
                         sp_blob *blob)
{
    sp_id id = sp_graph_add_value(graph, name, SP_VALUE_CONST);
    if (id == SP_NO_ID) {
        sp_blob_unref(blob);
        return SP_NO_ID;
    }
    sp_value *v = &graph->values[id];
    v->fact = *fact;
    v->fact.data = blob->data;
    v->blob = blob;
    return id;
}

sp_id sp_graph_add_node(sp_graph *graph, const char *name, const sparoa_op *op, int32_t version,
                        const sp_id *in, int32_t n_in, const sp_id *out, int32_t n_out,
                        const sparoa_attr *attrs, int32_t n_attrs)
{
    if (!sp_grow(&graph->arena.alloc, &graph->nodes, &graph->node_capacity, graph->node_count + 1,
                 sizeof *graph->nodes))
        return SP_NO_ID;
    sp_gnode n = {.op = op,
                  .version = version,
                  .n_in = n_in,
                  .n_explicit = n_in,
                  .n_out = n_out,
                  .n_attrs = n_attrs};
    n.op_type = op->name;
    n.domain = op->domain;
    n.name = name && *name ? sp_arena_strdup(&graph->arena, name)
                           : sp_arena_printf(&graph->arena, "%s_%zu", op->name, graph->node_count);
    n.in = sp_arena_copy(&graph->arena, in, (size_t)n_in * sizeof *in);
    n.out = sp_arena_copy(&graph->arena, out, (size_t)n_out * sizeof *out);
    n.attrs = sp_arena_copy(&graph->arena, attrs, (size_t)n_attrs * sizeof *attrs);
    if (!n.name || !n.in || !n.out || !n.attrs) return SP_NO_ID;
    sp_id id = (sp_id)graph->node_count++;
    graph->nodes[id] = n;
    for (int32_t i = 0; i < n_out; i++)
        if (out[i] != SP_NO_ID) graph->values[out[i]].producer = id;
    return id;
}

/* Values are never renamed or taken away, so that names are only added. */
static bool index_names(sp_graph *graph)
{
    const sparoa_allocator *alloc = &graph->arena.alloc;
    if (!graph->names) {
        graph->names = sp_calloc(alloc, 1, sizeof *graph->names);
        if (!graph->names) return false;
        sp_names_init(graph->names, alloc);
    }
    for (; graph->named < graph->value_count; graph->named++)
        if (!sp_names_add(graph->names, graph->values[graph->named].name, (sp_id)graph->named))
            return false;
    return true;
}

const char *sp_graph_unique_name(sp_graph *graph, const char *base)
{
    if (!index_names(graph)) return NULL;
    if (!sp_names_find(graph->names, base, NULL)) return base;
    char *name = sp_arena_printf(&graph->arena, "%s_v%zu", base, graph->value_count);
    while (name && sp_names_find(graph->names, name, NULL))
        name = sp_arena_printf(&graph->arena, "%s_", name);
    return name;
}

/* ---- attributes ---- */

static sparoa_attr *attr_slot(sp_graph *graph, sp_id node, const char *name)
{
    sp_gnode *n = &graph->nodes[node];
    for (int32_t i = 0; i < n->n_attrs; i++)
        if (strcmp(n->attrs[i].name, name) == 0) return &n->attrs[i];
    sparoa_attr *grown = sp_arena_alloc(&graph->arena, ((size_t)n->n_attrs + 1) * sizeof *grown);
    char *copy = sp_arena_strdup(&graph->arena, name);
    if (!grown || !copy) return NULL;
    if (n->n_attrs) memcpy(grown, n->attrs, (size_t)n->n_attrs * sizeof *grown);
    n->attrs = grown;
    grown[n->n_attrs] = (sparoa_attr){.name = copy};
    return &grown[n->n_attrs++];
}

bool sp_node_set_int(sp_graph *graph, sp_id node, const char *name, int64_t value)
{
    sparoa_attr *a = attr_slot(graph, node, name);
    if (!a) return false;
    a->type = SPAROA_ATTR_INT;
    a->count = 1;
    a->v.i = value;
    return true;
}

bool sp_node_set_float(sp_graph *graph, sp_id node, const char *name, float value)
{
    sparoa_attr *a = attr_slot(graph, node, name);
    if (!a) return false;
    a->type = SPAROA_ATTR_FLOAT;
    a->count = 1;
    a->v.f = value;
    return true;
}

bool sp_node_set_ints(sp_graph *graph, sp_id node, const char *name, const int64_t *values,
                      size_t count)
{
    int64_t *copy = sp_arena_copy(&graph->arena, values, count * sizeof *values);
    sparoa_attr *a = copy ? attr_slot(graph, node, name) : NULL;
    if (!a) return false;
    a->type = SPAROA_ATTR_INTS;
    a->count = count;
    a->v.ints = copy;
    return true;
}

bool sp_node_set_string(sp_graph *graph, sp_id node, const char *name, const char *value)
{
    char *copy = sp_arena_strdup(&graph->arena, value);
    sparoa_attr *a = copy ? attr_slot(graph, node, name) : NULL;
    if (!a) return false;
    a->type = SPAROA_ATTR_STRING;
    a->count = strlen(value);
    a->v.s = copy;
    return true;
}

bool sp_node_append_input(sp_graph *graph, sp_id node, sp_id value)
{
    sp_gnode *n = &graph->nodes[node];
    sp_id *grown = sp_arena_alloc(&graph->arena, ((size_t)n->n_in + 1) * sizeof *grown);
    if (!grown) return false;
    if (n->n_in) memcpy(grown, n->in, (size_t)n->n_in * sizeof *grown);
    grown[n->n_in++] = value;
    n->in = grown;
    if (n->n_subgraphs == 0) n->n_explicit = n->n_in;
    return true;
}

/* ---- uses ---- */

bool sp_uses_build(sp_uses *uses, const sp_graph *graph, const sparoa_allocator *alloc)
{
    *uses = (sp_uses){.values = graph->value_count, .alloc = *alloc};
    uses->count = sp_calloc(alloc, graph->value_count, sizeof *uses->count);
    uses->single = sp_calloc(alloc, graph->value_count, sizeof *uses->single);
    if (!uses->count || !uses->single) {
        sp_uses_free(uses);
        return false;
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const sp_gnode *n = &graph->nodes[i];
        for (int32_t k = 0; k < n->n_in && !n->dead; k++) {
            if (n->in[k] == SP_NO_ID) continue;
            uses->count[n->in[k]]++;
            uses->single[n->in[k]] = (sp_id)i;
        }
    }
    for (uint32_t i = 0; i < graph->output_count; i++) {
        uses->count[graph->outputs[i]]++;
        uses->single[graph->outputs[i]] = SP_NO_ID;
    }
    for (size_t i = 0; i < graph->value_count; i++)
        if (uses->count[i] != 1) uses->single[i] = SP_NO_ID;
    return true;
}

void sp_uses_free(sp_uses *uses)
{
    sp_free(&uses->alloc, uses->count, uses->values * sizeof *uses->count);
    sp_free(&uses->alloc, uses->single, uses->values * sizeof *uses->single);
    uses->count = NULL;
    uses->single = NULL;
}

bool sp_use_lists_build(sp_use_lists *lists, const sp_graph *graph, const sparoa_allocator *alloc)
{
    size_t count = 0;
    for (size_t i = 0; i < graph->node_count; i++) count += (size_t)graph->nodes[i].n_in;
    *lists = (sp_use_lists){.values = graph->value_count, .count = count, .alloc = *alloc};
    lists->first = sp_alloc(alloc, lists->values * sizeof *lists->first);
    lists->uses = sp_alloc(alloc, count * sizeof *lists->uses);
    if (!lists->first || !lists->uses) {
        sp_use_lists_free(lists);
        return false;
    }
    memset(lists->first, 0xff, lists->values * sizeof *lists->first);
    for (size_t i = graph->node_count; i-- > 0;)
        for (int32_t k = graph->nodes[i].n_in; k-- > 0;) {
            sp_id *input = &graph->nodes[i].in[k];
            count--;
            if (*input == SP_NO_ID) continue;
            lists->uses[count] = (struct sp_use){input, lists->first[*input]};
            lists->first[*input] = (uint32_t)count;
        }
    return true;
}

void sp_use_lists_free(sp_use_lists *lists)
{
    sp_free(&lists->alloc, lists->first, lists->values * sizeof *lists->first);
    sp_free(&lists->alloc, lists->uses, lists->count * sizeof *lists->uses);
    lists->first = NULL;
    lists->uses = NULL;
}

void sp_graph_replace_uses(sp_graph *graph, sp_use_lists *lists, sp_id from, sp_id to)
{
    if (from == to) return;
    uint32_t *end = &lists->first[from];
    for (; *end != UINT32_MAX; end = &lists->uses[*end].next) *lists->uses[*end].input = to;
    *end = lists->first[to];
    lists->first[to] = lists->first[from];
    lists->first[from] = UINT32_MAX;
    for (uint32_t i = 0; i < graph->output_count; i++)
        if (graph->outputs[i] == from) graph->outputs[i] = to;
}

void sp_graph_node_view(const sp_graph *graph, const sp_gnode *node, sparoa_tensor **in,
                        sparoa_tensor **out, bool *constant, sparoa_node *view)
{
    for (int32_t i = 0; i < node->n_in; i++) {
        sp_value *v = node->in[i] == SP_NO_ID ? NULL : &graph->values[node->in[i]];
        in[i] = v ? &v->fact : NULL;
        if (constant) constant[i] = v && v->kind == SP_VALUE_CONST;
    }
    for (int32_t i = 0; i < node->n_out; i++)
        out[i] = node->out[i] == SP_NO_ID ? NULL : &graph->values[node->out[i]].fact;
    *view = (sparoa_node){.name = node->name,
                          .op = node->op_type,
                          .domain = node->domain,
                          .version = node->version,
                          .n_in = node->n_in,
                          .n_out = node->n_out,
                          .n_attrs = node->n_attrs,
                          .in = in,
                          .out = out,
                          .attrs = node->attrs,
                          .constant = constant};
}
