/* The constants of a program while its kernels are made. A kernel that packs its weights needs them
 * no longer, so that a model's weights and the packed ones are never all in memory together. */
#include <string.h>

#include "engine/program.h"
#include "ops/op.h"

sparoa_status sp_constants_count(sp_program *program, sparoa_error *err)
{
    const sparoa_allocator *a = &program->engine->alloc;
    const sp_graph *g = program->graph;
    sp_constant_uses *u = &program->uses;
    u->left = sp_calloc(a, g->value_count, sizeof *u->left);
    u->kept = sp_calloc(a, g->value_count, sizeof *u->kept);
    if (!u->left || !u->kept) return sp_no_memory(a, g->value_count * sizeof *u->left, err);
    for (uint32_t k = 0; k < g->output_count; k++) u->kept[g->outputs[k]] = true;
    for (size_t i = 0; i < g->node_count; i++)
        for (int32_t k = 0; k < g->nodes[i].n_in; k++)
            if (g->nodes[i].in[k] != SP_NO_ID) u->left[g->nodes[i].in[k]]++;
    return SPAROA_OK;
}

void sp_constants_end(sp_program *program)
{
    const sparoa_allocator *a = &program->engine->alloc;
    sp_constant_uses *u = &program->uses;
    sp_free(a, u->left, program->graph->value_count * sizeof *u->left);
    sp_free(a, u->kept, program->graph->value_count * sizeof *u->kept);
    sp_blob_unref(u->spare);
    *u = (sp_constant_uses){0};
}

/* Share of zeros over all floating-point constants of a node; -1 without any. */
static double weight_zeros(const sp_graph *g, const sp_gnode *n)
{
    double zeros = 0, total = 0;
    for (int32_t k = 0; k < n->n_in; k++) {
        const sp_value *v = n->in[k] == SP_NO_ID ? NULL : &g->values[n->in[k]];
        if (!v || v->kind != SP_VALUE_CONST || !sp_is_float(v->fact.dtype)) continue;
        int64_t count = sparoa_tensor_count(&v->fact);
        double share = sp_zero_share(&v->fact);
        zeros += share > 0 ? share * (double)count : 0;
        total += (double)count;
    }
    return total > 0 ? zeros / total : -1;
}

/* Kernels of other devices and operators of the application may remember where constants are. */
static bool may_move(const sp_program *p, const sp_gnode *n)
{
    return p->engine->device_count == 1 &&
           sp_op_find(n->op->domain, n->op->name, n->version, NULL, 0) == n->op;
}

sparoa_status sp_constants_ready(sp_program *program, size_t node, sparoa_error *err)
{
    const sp_gnode *n = &program->graph->nodes[node];
    sp_blob **spare = may_move(program, n) ? &program->uses.spare : NULL;
    for (int32_t k = 0; k < n->n_in; k++)
        SP_TRY(sp_graph_align(program->graph, n->in[k], spare, err));
    program->slots[node].stats.weight_zeros =
        program->engine->profile ? weight_zeros(program->graph, n) : -1;
    return SPAROA_OK;
}

static bool is_copy(const sp_blob *b)
{
    return b && !b->owner && !b->mapped && atomic_load(&b->refs) == 1;
}

/* A copy made in a larger blob that stays gets memory of its own size, where there is any. */
static void fit(sp_program *program, sp_value *v)
{
    size_t bytes = sparoa_tensor_bytes(&v->fact);
    if (v->kind != SP_VALUE_CONST || !is_copy(v->blob) || v->blob->bytes <= bytes + bytes / 16)
        return;
    sp_blob *own = sp_blob_create(&program->engine->alloc, bytes);
    if (!own) return;
    memcpy(own->data, v->fact.data, bytes);
    sp_blob_unref(v->blob);
    v->blob = own;
    v->fact.data = own->data;
}

/* Lets go of a constant; the largest copy is kept for the next one. */
static void drop(sp_constant_uses *u, sp_value *v)
{
    sp_blob *b = v->blob;
    v->blob = NULL;
    v->fact.data = NULL;
    if (!is_copy(b) || (u->spare && u->spare->bytes >= b->bytes)) {
        sp_blob_idle(b);
        sp_blob_unref(b);
        return;
    }
    sp_blob_unref(u->spare);
    u->spare = b;
}

void sp_constants_release(sp_program *program, size_t node)
{
    const sp_gnode *n = &program->graph->nodes[node];
    const sp_engine *e = program->engine;
    const sparoa_kernel *kernel = program->slots[node].kernels[0];
    sp_constant_uses *u = &program->uses;
    for (int32_t k = 0; k < n->n_in; k++) {
        sp_id id = n->in[k];
        if (id == SP_NO_ID) continue;
        sp_value *v = &program->graph->values[id];
        /* with more devices other kernels may still be asked for */
        if (!kernel || e->device_count > 1 || e->devices[0].table->node_keeps_input(kernel, k))
            u->kept[id] = true;
        if (u->kept[id]) fit(program, v);
        if (--u->left[id] == 0 && !u->kept[id] && v->kind == SP_VALUE_CONST) drop(u, v);
    }
}
