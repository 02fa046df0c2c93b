/* Sessions whose device is "auto": what is known of the nodes, and plans that follow from it. */
#include <math.h>

#include "api/auto.h"
#include "api/calibrate.h"

#define NEVER_NS 1e12 /* of a node on a device that cannot run it, for who looks at times alone */

static bool supports(const sparoa_session *devices, size_t node, uint32_t device, sp_arena *scratch)
{
    const sp_graph *g = devices->graph;
    const sp_gnode *n = &g->nodes[node];
    const sp_device *d = &devices->devices[device];
    size_t ports = (size_t)(n->n_in + n->n_out) + 1;
    sparoa_tensor **in = sp_arena_alloc(scratch, ports * sizeof *in);
    bool *constant = sp_arena_alloc(scratch, ports);
    sparoa_node view;
    char why[160];
    if (!in || !constant || n->op->op_class == SPAROA_CLASS_CONTROL) return false;
    sp_graph_node_view(g, n, in, in + n->n_in, constant, &view);
    return d->table->node_supports(d->dev, &view, why, sizeof why);
}

static sparoa_status fill(sparoa_session *s, const sparoa_tensor *inputs, sp_auto_basis *b,
                          sparoa_error *err)
{
    const sparoa_session *devices = s->choose->devices;
    const sparoa_allocator *a = &s->model->runtime->alloc;
    SP_TRY(sp_profile_of_graph(a, devices->graph, inputs, devices->graph->input_count,
                               &b->profile.p, err));
    SP_TRY(sp_calibrate_links(s->model->runtime, &b->platform.p, err));
    sp_profile *p = b->profile.p;
    b->allowed = sp_calloc(a, p->node_count + 1, 1);
    if (!b->allowed) return sp_no_memory(a, p->node_count + 1, err);
    p->device_count = b->platform.p.device_count;
    sp_arena scratch;
    sp_arena_init(&scratch, a);
    for (uint32_t d = 0; d < p->device_count; d++) {
        memcpy(p->devices[d], b->platform.p.devices[d].name, sizeof p->devices[d]);
        for (uint32_t i = 0; i < p->node_count; i++)
            if (d == 0 || supports(devices, i, d, &scratch)) b->allowed[i] |= (uint8_t)(1 << d);
    }
    sp_arena_destroy(&scratch);
    return SPAROA_OK;
}

sparoa_status sp_auto_basis_create(sparoa_session *s, const sparoa_tensor *inputs,
                                   sp_auto_basis **basis, sparoa_error *err)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    sp_auto_basis *b = sp_calloc(a, 1, sizeof *b);
    if (!b) return sp_no_memory(a, sizeof *b, err);
    b->profile.runtime = b->platform.runtime = s->model->runtime;
    sparoa_status status = fill(s, inputs, b, err);
    if (status != SPAROA_OK)
        sp_auto_basis_destroy(s, b);
    else
        *basis = b;
    return status;
}

void sp_auto_basis_destroy(const sparoa_session *s, sp_auto_basis *basis)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    if (!basis) return;
    if (basis->allowed) sp_free(a, basis->allowed, basis->profile.p->node_count + 1);
    sp_profile_destroy(basis->profile.p);
    sp_free(a, basis, sizeof *basis);
}

void sp_auto_basis_measured(const sparoa_session *devices, sp_auto_basis *b, uint32_t device)
{
    const sp_platform_kind *kind = &b->platform.p.devices[device].kinds[0];
    double alone = kind->overhead_ns[SP_REGIME_EAGER], among = kind->overhead_ns[SP_REGIME_GRAPH];
    for (uint32_t i = 0; i < b->profile.p->node_count; i++) {
        sparoa_node_info n;
        double *ns = &b->profile.p->nodes[i].measured_ns[device];
        if (sparoa_session_node(devices, i, &n) != SPAROA_OK) continue;
        bool here = strcmp(n.device, b->platform.p.devices[device].name) == 0;
        if (!here) b->allowed[i] &= (uint8_t) ~(1u << device);
        if (!here || !n.runs) { /* a view, or known beforehand, takes no time */
            *ns = here ? 1 : NEVER_NS;
            continue;
        }
        /* each node was waited for, which it is not in a plan */
        double took = (double)n.min_ns;
        *ns = device ? fmax(fmin(took, among), took - fmax(0, alone - among)) : took;
        *ns = fmax(*ns, 1);
    }
}

sparoa_status sp_auto_basis_env(const sparoa_session *s, const sp_auto_basis *b, sp_env **env,
                                sparoa_error *err)
{
    const sp_platform_state state = sp_platform_nominal(&b->platform.p);
    SP_TRY(sp_env_build(&s->model->runtime->alloc, b->profile.p, &b->platform.p, SP_REGIME_GRAPH,
                        &state, env, err));
    for (uint32_t i = 0; i < (*env)->node_count; i++) {
        sp_env_node *n = &(*env)->nodes[i];
        n->allowed = b->allowed[i];
        if (sp_divide_obstacle(s->choose->devices->graph, i, (sp_split_axis)n->split_axis))
            n->split_axis = SP_SPLIT_NONE;
    }
    sp_env_refresh(*env);
    return SPAROA_OK;
}

sparoa_status sp_auto_basis_plan(const sparoa_session *s, const sp_env *env, const uint8_t *device,
                                 const char *policy, sparoa_plan **plan, sparoa_error *err)
{
    const sp_plan_origin origin = {.model = s->graph->name ? s->graph->name : "",
                                   .platform = "this_machine",
                                   .regime = sp_regime_name(SP_REGIME_GRAPH),
                                   .policy = policy,
                                   .objective = SP_OBJECTIVE_LATENCY};
    sp_plan *inner;
    SP_TRY(sp_plan_create(env, device, &origin, &inner, err));
    return sp_schedule_wrap_plan(s->model->runtime, inner, 0, plan, err);
}

sparoa_status sp_auto_basis_single(const sparoa_session *s, const sp_auto_basis *b,
                                   const sp_env *env, uint32_t device, sparoa_plan **plan,
                                   sparoa_error *err)
{
    const sparoa_allocator *a = &s->model->runtime->alloc;
    uint8_t *at = sp_calloc(a, env->node_count + 1, 1);
    if (!at) return sp_no_memory(a, env->node_count + 1, err);
    for (uint32_t i = 0; i < env->node_count; i++)
        at[i] = b->allowed[i] >> device & 1 ? (uint8_t)device : 0;
    sparoa_status status = sp_auto_basis_plan(
        s, env, at, device ? b->platform.p.devices[device].name : "cpu", plan, err);
    sp_free(a, at, env->node_count + 1);
    return status;
}
