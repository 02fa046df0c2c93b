/* hand_plan.h - plans that tests write by hand for the nodes of a session. */
#ifndef TESTS_ENGINE_HAND_PLAN_H
#define TESTS_ENGINE_HAND_PLAN_H

#include "api/schedule_objects.h"
#include "tests/support/support.h"

/* A plan over two devices that puts every node on the host. */
static inline sparoa_plan *hp_make(sparoa_runtime *rt, const sparoa_session *session,
                                   const char *accelerator)
{
    sp_plan *p = sp_calloc(&rt->alloc, 1, sizeof *p);
    assert_non_null(p);
    p->alloc = rt->alloc;
    sp_arena_init(&p->arena, &rt->alloc);
    p->model = p->platform = p->policy = "hand";
    p->regime = "graph";
    p->objective = "latency";
    p->device_count = 2;
    strcpy(p->devices[0], "cpu");
    strcpy(p->devices[1], accelerator);
    p->clock[0] = p->clock[1] = 1;
    p->node_count = (uint32_t)sparoa_session_node_count(session);
    p->nodes = sp_arena_alloc(&p->arena, (p->node_count + 1) * sizeof *p->nodes);
    assert_non_null(p->nodes);
    for (uint32_t i = 0; i < p->node_count; i++) {
        sparoa_node_info info;
        assert_int_equal(sparoa_session_node(session, i, &info), SPAROA_OK);
        p->nodes[i].name = sp_arena_strdup(&p->arena, info.name);
        p->nodes[i].op = sp_arena_strdup(&p->arena, info.op);
        assert_true(p->nodes[i].name && p->nodes[i].op);
    }
    sparoa_plan *plan = sp_calloc(&rt->alloc, 1, sizeof *plan);
    assert_non_null(plan);
    *plan = (sparoa_plan){.runtime = rt, .p = p};
    sp_runtime_ref(rt);
    return plan;
}

#endif
